//! Octets that nobody may see: what a client proves itself with (RFC 4954).
//!
//! They are overwritten when they are dropped and never printed. Copies that others make (the kernel, Python) are
//! beyond our reach, so this narrows the time for which a password lies about in memory and does not end it.

use std::fmt;

use zeroize::Zeroizing;

/// What a SASL response says, decoded.
#[derive(Clone, Eq, PartialEq, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Take octets over.
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// Return the octets, to be handed on.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new(b"open sesame".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert_eq!(secret.expose(), b"open sesame");
    }
}
