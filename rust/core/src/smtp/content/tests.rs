#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::pieces::pieces;

/// What reading has given in the end.
#[derive(PartialEq, Debug)]
struct Outcome {
    content: Vec<u8>,
    /// Octets read, if the end was found.
    end: Option<usize>,
    flags: ContentFlags,
    wire_size: u64,
    size: u64,
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = ContentReader::new();
    let mut content = Vec::new();
    let mut consumed = 0;
    let mut end = None;
    for piece in pieces {
        let step = reader.push(piece);
        content.extend_from_slice(step.prefix);
        content.extend_from_slice(&piece[..step.content]);
        consumed += step.consumed;
        assert!(step.end || step.consumed == piece.len(), "octets were left before the end");
        if step.end {
            end = Some(consumed);
            break;
        }
    }
    Outcome { content, end, flags: reader.flags(), wire_size: reader.wire_size(), size: reader.size() }
}

/// Read octet by octet, by the definitions; the end must be there.
fn model(input: &[u8]) -> Outcome {
    let is_line_start = |at: usize| at == 0 || input[..at].ends_with(b"\r\n");
    let end = (0..input.len()).find(|&at| is_line_start(at) && input[at..].starts_with(END_OF_DATA)).unwrap();
    let content = &input[..end];
    let mut flags = ContentFlags::default();
    let mut dots = 0;
    let mut line_octets = 0;
    for (at, &octet) in content.iter().enumerate() {
        let flag = match octet {
            b'\r' if content.get(at + 1) != Some(&b'\n') => ContentFlags::BARE_CR,
            b'\n' if !content[..at].ends_with(b"\r") => ContentFlags::BARE_LF,
            0 => ContentFlags::NUL,
            0x80.. => ContentFlags::EIGHT_BIT,
            b'.' if is_line_start(at) => ContentFlags::DOT_LINES,
            _ => ContentFlags::default(),
        };
        flags |= flag;
        let is_stuffed_dot = flag == ContentFlags::DOT_LINES;
        dots += u64::from(is_stuffed_dot);
        line_octets = if is_line_start(at) { 0 } else { line_octets } + usize::from(!is_stuffed_dot);
        if content[..=at].ends_with(b"\r\n") && line_octets > TEXT_LINE_MAX {
            flags |= ContentFlags::OVER_LONG;
        }
    }
    let wire_size = end as u64;
    let end_octets = end + END_OF_DATA.len();
    Outcome { content: content.to_vec(), end: Some(end_octets), flags, wire_size, size: wire_size - dots }
}

/// Every text of the given octets up to a length.
fn texts(alphabet: &[u8], length_max: usize) -> Vec<Vec<u8>> {
    let mut all = vec![vec![]];
    let mut from = 0;
    for _ in 0..length_max {
        let to = all.len();
        for index in from..to {
            for &octet in alphabet {
                let mut longer: Vec<u8> = all[index].clone();
                longer.push(octet);
                all.push(longer);
            }
        }
        from = to;
    }
    all
}

#[test]
fn only_a_dot_alone_between_two_crlfs_is_the_end() {
    let prefixes: [(&str, bool); 9] = [
        ("", true),
        ("\r\n", true),
        ("a\r\n", true),
        ("a\r\r\n", true),
        ("\n", false),
        ("\r", false),
        ("a", false),
        ("a\n", false),
        ("a\r", false),
    ];
    let suffixes: [(&str, bool); 9] = [
        ("\r\n", true),
        ("\r\nQUIT\r\n", true),
        ("", false),
        ("\r", false),
        ("\n", false),
        ("\r\r\n", false),
        (" \r\n", false),
        (".\r\n", false),
        ("\n\r\n", false),
    ];
    for (prefix, starts_line) in prefixes {
        for (suffix, ends) in suffixes {
            let input = format!("{prefix}.{suffix}");
            let outcome = read([input.as_bytes()]);
            if starts_line && ends {
                assert_eq!(outcome.end, Some(prefix.len() + 3), "{input:?}");
                assert_eq!(outcome.content, prefix.as_bytes(), "{input:?}");
            } else {
                assert_eq!(outcome.end, None, "{input:?}");
            }
        }
    }
}

#[test]
fn every_short_text_is_read_as_defined_wherever_it_is_cut() {
    for mut text in texts(b"\r\n.a", 6) {
        text.extend_from_slice(b"\r\n.\r\nx");
        let expected = model(&text);
        for first in 0..=text.len() {
            let (one, two) = text.split_at(first);
            assert_eq!(read([one, two]), expected, "{} cut at {first}", text.escape_ascii());
        }
        assert_eq!(read(text.chunks(1)), expected, "{} in octets", text.escape_ascii());
    }
}

#[test]
fn an_empty_message_is_a_dot_line_at_once() {
    let outcome = read([&b".\r\nQUIT\r\n"[..]]);
    assert_eq!((outcome.content, outcome.end, outcome.size), (vec![], Some(3), 0));
}

#[test]
fn bare_line_ends_are_flagged_and_reading_goes_on_to_the_true_end() {
    for (input, flags) in [
        ("a\n.\nMAIL FROM:<x@y>\r\n.\r\n", ContentFlags::BARE_LF),
        ("a\n.\r\nMAIL FROM:<x@y>\r\n.\r\n", ContentFlags::BARE_LF),
        ("a\r.\r\nMAIL FROM:<x@y>\r\n.\r\n", ContentFlags::BARE_CR),
        ("a\r\n.\rMAIL FROM:<x@y>\r\n.\r\n", ContentFlags::BARE_CR | ContentFlags::DOT_LINES),
        ("a\r\n.\nMAIL FROM:<x@y>\r\n.\r\n", ContentFlags::BARE_LF | ContentFlags::DOT_LINES),
        ("a\r\r\n.\r\n", ContentFlags::BARE_CR),
        ("a\n\r\n.\r\n", ContentFlags::BARE_LF),
        ("a\n\n\r\r\r\n.\r\n", ContentFlags::BARE_LF | ContentFlags::BARE_CR),
        ("a\r\n.\r\n", ContentFlags(0)),
    ] {
        let outcome = read([input.as_bytes()]);
        assert_eq!((outcome.end, outcome.flags), (Some(input.len()), flags), "{input:?}");
    }
}

#[test]
fn a_cr_at_a_cut_is_not_called_bare_before_its_time() {
    let mut reader = ContentReader::new();
    reader.push(b"a\r");
    assert_eq!(reader.flags(), ContentFlags(0));
    reader.push(b"\n");
    assert_eq!(reader.flags(), ContentFlags(0));
    reader.push(b"b\r");
    reader.push(b"\r");
    assert_eq!(reader.flags(), ContentFlags::BARE_CR);
}

#[test]
fn nothing_is_read_after_the_end() {
    let mut reader = ContentReader::new();
    assert!(reader.push(b".\r\n").end);
    let step = reader.push(b"MAIL");
    assert_eq!((step.content, step.consumed, step.end), (0, 0, true));
}

#[test]
fn octets_out_of_the_ordinary_are_flagged() {
    for (input, flags) in [
        (&b"a\0\r\n.\r\n"[..], ContentFlags::NUL),
        (b"\xc3\xa4\r\n.\r\n", ContentFlags::EIGHT_BIT),
        (b"..\r\n.\r\n", ContentFlags::DOT_LINES),
        (b"\x7f\t\x1b\r\n.\r\n", ContentFlags(0)),
        (b"a\r\n.\r\n\0\xff", ContentFlags(0)),
    ] {
        assert_eq!(read([input]).flags, flags, "{}", input.escape_ascii());
    }
}

#[test]
fn a_line_may_have_1000_octets_with_its_crlf_and_without_its_stuffed_dot() {
    for (start, octets, is_over_long) in [
        ("", 998, false),
        ("", 999, true),
        (".", 998, false),
        (".", 999, true),
        (".\r", 997, false),
        (".\r", 998, true),
    ] {
        let input = format!("a\r\n{start}{}\r\nb\r\n.\r\n", "x".repeat(octets));
        let flag = read([input.as_bytes()]).flags.contains(ContentFlags::OVER_LONG);
        assert_eq!(flag, is_over_long, "{start}, {octets}");
        for size in 1..8 {
            let flag = read(input.as_bytes().chunks(size)).flags.contains(ContentFlags::OVER_LONG);
            assert_eq!(flag, is_over_long, "{start}, {octets} in pieces of {size}");
        }
    }
}

#[test]
fn size_leaves_out_stuffed_dots_and_the_end() {
    let outcome = read([&b"..a\r\n.b\r\nc.\r\n...\r\n.\r\n"[..]]);
    assert_eq!((outcome.wire_size, outcome.size), (18, 15));
}

fn stuff<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stuffer = Stuffer::default();
    let mut out = Vec::new();
    for piece in pieces {
        stuffer.push(piece, &mut out);
    }
    stuffer.finish(&mut out);
    out
}

fn unstuff<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut unstuffer = Unstuffer::default();
    let mut out = Vec::new();
    for piece in pieces {
        unstuffer.push(piece, &mut out);
    }
    out
}

/// Make CRLF of every line end and give the last line one.
fn with_crlfs(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, &octet) in text.iter().enumerate() {
        match octet {
            b'\n' if text[..at].ends_with(b"\r") => {}
            b'\r' | b'\n' => out.extend_from_slice(b"\r\n"),
            _ => out.push(octet),
        }
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[test]
fn dots_are_stuffed_and_line_ends_made_whole() {
    for (plain, wire) in [
        ("", ""),
        (".", "..\r\n"),
        (".\r\n", "..\r\n"),
        ("a.\r\n..\r\n.b", "a.\r\n...\r\n..b\r\n"),
        ("a\n.\r.\n", "a\r\n..\r\n..\r\n"),
        ("a\r\r\n", "a\r\n\r\n"),
        ("\r", "\r\n"),
    ] {
        assert_eq!(
            stuff([plain.as_bytes()]).escape_ascii().to_string(),
            wire.as_bytes().escape_ascii().to_string()
        );
    }
}

#[test]
fn every_short_text_survives_the_wire_wherever_it_is_cut() {
    for text in texts(b"\r\n.a", 6) {
        let mut wire = stuff([&text[..]]);
        assert_eq!(stuff(text.chunks(1)), wire, "{}", text.escape_ascii());
        assert_eq!(unstuff([&wire[..]]), with_crlfs(&text), "{}", text.escape_ascii());
        assert_eq!(unstuff(wire.chunks(1)), with_crlfs(&text), "{}", text.escape_ascii());
        let octets = wire.len();
        wire.extend_from_slice(END_OF_DATA);
        let outcome = read([&wire[..]]);
        assert_eq!(outcome.end, Some(wire.len()), "{}", text.escape_ascii());
        assert_eq!(outcome.content.len(), octets);
        assert!(!outcome.flags.intersects(ContentFlags::BARE_CR | ContentFlags::BARE_LF));
    }
}

/// Texts that are mostly what the states look at, with long stretches of what they skip.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::sample::select(vec!["\r\n", "\r", "\n", ".", "..", "\r\n.", "a", "\0"]).prop_map(str::as_bytes)
            .prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (900_usize..1100).prop_map(|octets| vec![b'x'; octets]),
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_content_is_read_as_defined_in_any_pieces(
        mut input in content(),
        sizes in prop::collection::vec(1_usize..200, 1..6),
    ) {
        input.extend_from_slice(b"\r\n.\r\n.");
        let expected = model(&input);
        prop_assert_eq!(&read([&input[..]]), &expected);
        prop_assert_eq!(&read(pieces(&input, &sizes)), &expected);
    }

    #[test]
    fn any_content_survives_the_wire_in_any_pieces(
        input in content(),
        sizes in prop::collection::vec(1_usize..200, 1..6),
    ) {
        let wire = stuff(pieces(&input, &sizes));
        prop_assert_eq!(&wire, &stuff([&input[..]]));
        prop_assert_eq!(unstuff(pieces(&wire, &sizes)), with_crlfs(&input));
    }

    #[test]
    fn received_content_is_stuffed_again_as_it_came(input in content()) {
        let plain = with_crlfs(&input);
        let mut wire = stuff([&plain[..]]);
        prop_assert_eq!(unstuff([&wire[..]]), plain);
        wire.extend_from_slice(END_OF_DATA);
        let outcome = read([&wire[..]]);
        prop_assert_eq!(stuff([&unstuff([&outcome.content[..]])[..]]), outcome.content);
    }
}
