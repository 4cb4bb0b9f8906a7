//! Lines of an authentication exchange (RFC 4954 4): base64, an equals sign for nothing, an asterisk to give up.
//!
//! What the octets mean is the mechanism's business and is decided elsewhere.

use super::command::MalformedKind;
use super::secret::Secret;

/// What a client sends after a challenge.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Response {
    /// The next step of the exchange; may be empty.
    Octets(Secret),
    /// It gives up.
    Cancel,
    /// A line that is neither: not base64, too long, or with an octet that may not stand in a line.
    Malformed(MalformedKind),
}

/// Read a line, without its CRLF, as a response to a challenge.
pub fn parse_response(line: &[u8]) -> Response {
    if line == b"*" {
        return Response::Cancel;
    }
    decode(line).map_or(Response::Malformed(MalformedKind::Base64), Response::Octets)
}

/// Read an initial response: a single equals sign stands for one of no octets (RFC 4954 4).
pub(super) fn parse_initial(text: &[u8]) -> Result<Secret, MalformedKind> {
    if text == b"=" {
        return Ok(Secret::default());
    }
    if text.is_empty() {
        return Err(MalformedKind::Base64);
    }
    decode(text).ok_or(MalformedKind::Base64)
}

/// Decode base64 strictly (RFC 4648 3.3, 3.5): whole groups, padded, no other octet, no bits left over.
///
/// Two spellings of the same octets would be two spellings of the same secret.
fn decode(text: &[u8]) -> Option<Secret> {
    let padding = text.iter().rev().take_while(|&&octet| octet == b'=').count();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    // Room for all from the start, so that no half of it is left behind where the vector was before.
    let mut octets = zeroize::Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3));
    let (digits, _) = text.split_at(text.len() - padding);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for &digit in group {
            bits = bits << 6 | u32::from(value(digit)?);
        }
        // A group of n digits has n - 1 octets; what is left over must be zero.
        let spare = (4 - group.len() as u32) * 6;
        let [_, octets_of_group @ ..] = (bits << spare).to_be_bytes();
        let (whole, rest) = octets_of_group.split_at(group.len() - 1);
        if rest.iter().any(|&octet| octet != 0) {
            return None;
        }
        octets.extend_from_slice(whole);
    }
    Some(Secret::new(std::mem::take(&mut octets)))
}

const fn value(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    fn encode(octets: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for group in octets.chunks(3) {
            let mut bits = [0; 4];
            bits.iter_mut().skip(1).zip(group).for_each(|(bit, octet)| *bit = *octet);
            let bits = u32::from_be_bytes(bits);
            for place in 0..4 {
                let digit = (bits >> (18 - 6 * place)) & 63;
                let is_there = place <= group.len();
                text.push(if is_there { DIGITS.get(digit as usize).copied().unwrap_or(0) } else { b'=' });
            }
        }
        text
    }

    fn octets(line: &[u8]) -> Response {
        Response::Octets(Secret::new(line.to_vec()))
    }

    #[test]
    fn responses_are_base64_or_an_asterisk() {
        let bad = Response::Malformed(MalformedKind::Base64);
        for (line, response) in [
            (&b"AHRpbQB0YW5zdGFhZnRhbnN0YWFm"[..], octets(b"\0tim\0tanstaaftanstaaf")),
            (b"", octets(b"")),
            (b"AA==", octets(b"\0")),
            (b"AAA=", octets(b"\0\0")),
            (b"/+8=", octets(b"\xff\xef")),
            (b"*", Response::Cancel),
            (b"**", bad.clone()),
            (b"=", bad.clone()),
            (b"====", bad.clone()),
            (b"A===", bad.clone()),
            (b"AAA", bad.clone()),
            (b"AB==", bad.clone()),
            (b"AAB=", bad.clone()),
            (b"AA==AAAA", bad.clone()),
            (b"AA A", bad.clone()),
            (b"AA-_", bad.clone()),
            (b"AAAA ", bad.clone()),
            (b"AA\xff=", bad),
        ] {
            assert_eq!(parse_response(line), response, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn an_equals_sign_is_an_initial_response_of_nothing() {
        assert_eq!(parse_initial(b"="), Ok(Secret::default()));
        assert_eq!(parse_initial(b"AA=="), Ok(Secret::new(vec![0])));
        for text in [&b""[..], b"*", b"==", b"AA"] {
            assert_eq!(parse_initial(text), Err(MalformedKind::Base64), "{}", text.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_comes_back(input in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(parse_response(&encode(&input)), octets(&input));
        }

        #[test]
        fn what_is_decoded_has_one_spelling(line in prop::collection::vec(
            prop::sample::select(b"AQgw4+/=".to_vec()), 0..12)) {
            if let Response::Octets(secret) = parse_response(&line) {
                prop_assert_eq!(encode(secret.expose()), line);
            }
        }
    }
}
