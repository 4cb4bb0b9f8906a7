//! TLS: what a server shows and asks (`config`), what it learns of a peer, and the layer between a link and its socket
//! (`layer`).
//!
//! The library decides nothing here but cryptography: which certificate is shown follows from the name that the client
//! asked for, and whether a client's certificate is good enough is the caller's question, who is told its facts.

pub(crate) mod config;
pub(crate) mod layer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use config::{Certificate, ClientCertificates, ServerTls, TlsError, TlsPart, TlsSettings, TlsVersion};
use penstock_core::certificate::CertificateFacts;

/// Handshakes that one pass of a reactor takes a step of; the others wait for the next pass. Each step may be a
/// signature, so this bounds how long a pass lasts.
pub(crate) const HANDSHAKES_PER_PASS: usize = 8;

/// Handshakes under way at a time, in all threads; one more is turned away.
pub(crate) const HANDSHAKES_MAX: usize = 512;

/// What a finished handshake has come to.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// The version of the protocol.
    pub version: TlsVersion,
    /// The cipher suite, as IANA registers it.
    pub cipher: String,
    /// The name that the client asked for (RFC 6066 3).
    pub sni: Option<String>,
    /// The client's certificate, if it was asked for one and had one.
    pub client_certificate: Option<ClientCertificate>,
    /// Whether an earlier session was resumed.
    pub is_resumed: bool,
}

/// A client's certificate. The client has its key; who vouches for it has not been looked at.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// What it says.
    pub facts: CertificateFacts,
    /// The SHA-256 of its DER.
    pub fingerprint: [u8; 32],
}

/// How many handshakes are under way.
#[derive(Clone, Default)]
pub(crate) struct Handshakes(Arc<AtomicUsize>);

impl Handshakes {
    /// Take part, unless too many do.
    pub(crate) fn enter(&self) -> Option<Handshaking> {
        let one_more = |now: usize| (now < HANDSHAKES_MAX).then_some(now + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Handshaking(Arc::clone(&self.0)))
    }
}

/// One handshake under way, counted as long as it lasts.
pub(crate) struct Handshaking(Arc<AtomicUsize>);

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_take_part() {
        let handshakes = Handshakes::default();
        let mut under_way: Vec<_> = (0..HANDSHAKES_MAX).map(|_| handshakes.enter().expect("room")).collect();
        assert!(handshakes.enter().is_none());
        under_way.pop();
        assert!(handshakes.enter().is_some());
        drop(under_way);
        assert_eq!(handshakes.0.load(Ordering::Relaxed), 0);
    }
}
