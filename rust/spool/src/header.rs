//! The header section of a stored content.

use bytes::Bytes;
use penstock_core::flow::Form;
use penstock_core::smtp::content::Unstuffer;

/// The header section at the beginning of a content, unstuffed, at most `limit` octets: all lines before the empty one.
pub(crate) fn section(octets: &[u8], form: Form, limit: usize) -> Bytes {
    let mut plain = match form {
        Form::Plain => octets.to_vec(),
        Form::Wire => {
            let mut plain = Vec::with_capacity(octets.len());
            Unstuffer::default().push(octets, &mut plain);
            plain
        }
    };
    let end = if plain.starts_with(b"\r\n") {
        0
    } else {
        plain.windows(4).position(|four| four == b"\r\n\r\n").map_or(plain.len(), |at| at + 2)
    };
    plain.truncate(end.min(limit));
    Bytes::from(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_before_the_empty_line() {
        for (octets, form, limit, expected) in [
            (&b"A: b\r\nC: d\r\n\r\nbody\r\n\r\n"[..], Form::Wire, 100, &b"A: b\r\nC: d\r\n"[..]),
            (b"..A: b\r\n..\r\n\r\n", Form::Wire, 100, b".A: b\r\n.\r\n"),
            (b"..A: b\r\n\r\n", Form::Plain, 100, b"..A: b\r\n"),
            (b"\r\nbody\r\n\r\n", Form::Wire, 100, b""),
            (b"A: b\r\n", Form::Wire, 100, b"A: b\r\n"),
            (b"A: b\r\nC: d\r\n\r\n", Form::Wire, 3, b"A: "),
            (b"", Form::Wire, 100, b""),
        ] {
            assert_eq!(section(octets, form, limit), expected, "{octets:?}");
        }
    }
}
