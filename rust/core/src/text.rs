//! Text from the network, made fit to be logged and shown.

/// Decode octets as one line of UTF-8 without control characters.
///
/// What is not UTF-8 becomes U+FFFD, a tab a space, any other control character "?".
pub(crate) fn printable(octets: Vec<u8>) -> String {
    let text = String::from_utf8(octets)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    if text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return text;
    }
    let shown = |char: char| match char {
        '\t' => ' ',
        char if char.is_control() => '?',
        char => char,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shown_is_replaced() {
        for (octets, text) in [
            (&b""[..], ""),
            (b"plain ~", "plain ~"),
            (b"a\tb\r\nc\0d\x7f", "a b??c?d?"),
            ("ä\u{85}€".as_bytes(), "ä?€"),
            (b"a\xffb\xc3", "a\u{fffd}b\u{fffd}"),
        ] {
            assert_eq!(printable(octets.to_vec()), text);
        }
    }
}
