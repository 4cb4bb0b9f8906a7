#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::pieces::pieces;
use crate::smtp::content::END_OF_DATA;
use crate::smtp::server_wire::{Intake, IntakeFault};

const BOTH: Changes = Changes(Changes::LINE_FEEDS.0 | Changes::BCC.0);

/// What has become of a content.
#[derive(PartialEq, Debug)]
struct Outcome {
    stored: Vec<u8>,
    fault: Option<IntakeFault>,
    flags: ContentFlags,
    size: u64,
    wire_size: u64,
    changes: Changes,
}

fn read<'a>(mut intake: Intake, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut stored = Vec::new();
    for piece in pieces {
        let step = intake.push(piece);
        if let Some(octets) = intake.rewritten() {
            stored.extend(octets);
        } else {
            stored.extend_from_slice(step.prefix);
            stored.extend_from_slice(&piece[..step.content]);
        }
        if step.end {
            assert!(stored.capacity() <= 4 * (stored.len() + 4096));
        }
    }
    let (flags, size, wire_size) = (intake.flags(), intake.size(), intake.wire_size());
    Outcome { stored, fault: intake.fault(), flags, size, wire_size, changes: intake.changes() }
}

fn data<'a>(asked: Changes, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    read(Intake::new(u64::MAX, 1 << 20).changing(asked), pieces)
}

/// As one chunk for each piece.
fn bdat(asked: Changes, input: &[u8], sizes: &[usize], is_binary: bool) -> Outcome {
    let mut intake = Intake::in_chunks(is_binary, u64::MAX, 1 << 20).changing(asked);
    let mut stored = Vec::new();
    for piece in pieces(input, sizes).into_iter().chain([&b""[..]]) {
        assert_eq!(intake.begin_chunk(piece.len() as u64, piece.is_empty()), piece.is_empty());
        let step = intake.push(piece);
        assert!(step.end);
        match intake.rewritten() {
            Some(octets) => stored.extend(octets),
            None => stored.extend_from_slice(&piece[..step.content]),
        }
    }
    let (flags, size, wire_size) = (intake.flags(), intake.size(), intake.wire_size());
    Outcome { stored, fault: intake.fault(), flags, size, wire_size, changes: intake.changes() }
}

fn plain_of(wire: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    Unstuffer::default().push(wire, &mut plain);
    plain
}

/// Every bare LF as CRLF, octet by octet.
fn with_lines(plain: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (at, &octet) in plain.iter().enumerate() {
        if octet == b'\n' && !plain[..at].ends_with(b"\r") {
            lines.push(b'\r');
        }
        lines.push(octet);
    }
    lines
}

/// A plain content without its Bcc fields, line by line.
fn without_bcc(plain: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let (mut in_body, mut drops) = (false, false);
    let mut rest = plain;
    while !rest.is_empty() {
        let line = rest.windows(2).position(|two| two == b"\r\n").map_or(rest.len(), |at| at + 2);
        let (line, behind) = rest.split_at(line);
        rest = behind;
        in_body |= line == b"\r\n";
        let name = line.split(|&octet| octet == b':').next().unwrap_or_default();
        let spaces = name.iter().rev().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
        let name = name[..name.len() - spaces].to_ascii_lowercase();
        let is_folded = matches!(line, [b' ' | b'\t', ..]);
        let is_named = LEFT_OUT.contains(&&*name) && line.contains(&b':');
        drops = !in_body && if is_folded { drops } else { is_named };
        if !drops {
            kept.extend_from_slice(line);
        }
    }
    kept
}

#[test]
fn a_bare_line_feed_becomes_crlf_and_dots_are_stuffed_anew() {
    for (wire, stored) in [
        // The dot that began no line begins one, and does not end the content.
        ("a\n.\nb\r\n", "a\r\n..\r\nb\r\n"),
        ("a\n.\r\nb\r\n", "a\r\n..\r\nb\r\n"),
        // This one was stuffed: what is left of its line is empty, and the LF another line.
        ("a\r\n.\nb\r\n", "a\r\n\r\nb\r\n"),
        ("a\r\n..\nb\r\n", "a\r\n..\r\nb\r\n"),
        ("a\n..b\r\n", "a\r\n...b\r\n"),
        ("a\n\n.\n\nb\r\n", "a\r\n\r\n..\r\n\r\nb\r\n"),
        (".\nb\r\n", "\r\nb\r\n"),
        ("\n.\n\r\n", "\r\n..\r\n\r\n"),
        ("a\nb\r\n", "a\r\nb\r\n"),
        ("a\r\n\n\r\n", "a\r\n\r\n\r\n"),
        ("", ""),
    ] {
        let octets = [wire.as_bytes(), END_OF_DATA].concat();
        for cut in 0..octets.len() {
            let (one, two) = octets.split_at(cut);
            let outcome = data(Changes::LINE_FEEDS, [one, two]);
            assert_eq!(outcome.stored.escape_ascii().to_string(), stored.escape_default().to_string());
            assert_eq!(outcome.fault, None, "{wire:?}");
            assert_eq!(outcome.size, plain_of(stored.as_bytes()).len() as u64);
            assert_eq!(outcome.wire_size, stored.len() as u64);
            assert_eq!(outcome.changes.is_empty(), wire.is_empty());
            assert!(!outcome.flags.contains(ContentFlags::BARE_LF));
        }
    }
}

#[test]
fn a_bare_cr_is_refused_whatever_is_changed() {
    for wire in ["a\r.\rb\r\n", "a\r\n.\r\r\nb\r\n", "a\r\r\n.\r\nb\r\n", "a\n\r.\n\rb\r\n", "\r\0\n.\r\n"] {
        let octets = [wire.as_bytes(), END_OF_DATA].concat();
        for asked in [Changes::default(), Changes::LINE_FEEDS, BOTH] {
            let fault = data(asked, [&octets[..]]).fault;
            assert_eq!(fault, Some(IntakeFault::BadLineEnding), "{wire:?}");
        }
        let chunk = bdat(Changes::LINE_FEEDS, wire.as_bytes(), &[3], false);
        assert_eq!(chunk.fault, Some(IntakeFault::BadLineEnding), "{wire:?}");
    }
    let nul = data(Changes::LINE_FEEDS, [&b"a\n\0\r\n.\r\n"[..]]);
    assert_eq!(nul.fault, Some(IntakeFault::Nul));
}

#[test]
fn without_the_change_a_bare_line_feed_is_a_fault() {
    let octets = b"a\nb\r\n.\r\n";
    for asked in [Changes::default(), Changes::BCC] {
        assert_eq!(data(asked, [&octets[..]]).fault, Some(IntakeFault::BadLineEnding));
        assert_eq!(bdat(asked, b"a\nb\r\n", &[2], false).fault, Some(IntakeFault::BadLineEnding));
    }
}

#[test]
fn what_is_stored_counts_against_the_limit() {
    let read_up_to =
        |limit, octets: &[u8], asked| read(Intake::new(limit, 100).changing(asked), [octets]).fault;
    let (at_limit, past_it) = (&b"a\nb\nc\r\n.\r\n"[..], &b"a\nb\ncd\r\n.\r\n"[..]);
    assert_eq!(read_up_to(9, at_limit, Changes::LINE_FEEDS), None);
    assert_eq!(read_up_to(9, past_it, Changes::LINE_FEEDS), Some(IntakeFault::TooLarge));
    // What is left out has come all the same.
    let octets = &b"Bcc: abc\r\n\r\n.\r\n"[..];
    assert_eq!(read_up_to(12, octets, Changes::BCC), None);
    assert_eq!(read_up_to(11, octets, Changes::BCC), Some(IntakeFault::TooLarge));
    assert_eq!(data(Changes::BCC, [octets]).size, 2);
}

#[test]
fn chunks_have_their_line_feeds_changed_unless_they_are_no_lines() {
    for (plain, stored) in [
        ("a\n.\nb\r\n", "a\r\n.\r\nb\r\n"),
        ("a\r\n\n\r\n", "a\r\n\r\n\r\n"),
        ("\n", "\r\n"),
        ("a\nb", "a\r\nb"),
    ] {
        for size in 1..=plain.len() {
            let outcome = bdat(Changes::LINE_FEEDS, plain.as_bytes(), &[size], false);
            assert_eq!(outcome.stored.escape_ascii().to_string(), stored.escape_default().to_string());
            assert_eq!((outcome.fault, outcome.changes), (None, Changes::LINE_FEEDS));
            assert_eq!(outcome.size, stored.len() as u64);
            assert_eq!(outcome.flags, crate::smtp::chunk::plain_flags(stored.as_bytes()));
            let binary = bdat(BOTH, plain.as_bytes(), &[size], true);
            assert_eq!((binary.stored, binary.changes), (plain.as_bytes().to_vec(), Changes::default()));
        }
    }
}

#[test]
fn blind_recipients_are_left_out_of_the_header_section() {
    for (wire, stored) in [
        ("Bcc: a@b\r\nTo: c@d\r\n\r\nBcc: text\r\n", "To: c@d\r\n\r\nBcc: text\r\n"),
        ("To: c@d\r\nBCC:\r\n\r\n", "To: c@d\r\n\r\n"),
        ("bcc \t: a@b,\r\n c@d\r\n\te@f\r\nTo: g@h\r\n i@j\r\n\r\n", "To: g@h\r\n i@j\r\n\r\n"),
        ("Resent-Bcc: a@b\r\nResent-To: c@d\r\n\r\n", "Resent-To: c@d\r\n\r\n"),
        (
            "Bcc-X: a\r\nXBcc: b\r\nBc: c\r\n Bcc: d\r\n\r\n",
            "Bcc-X: a\r\nXBcc: b\r\nBc: c\r\n Bcc: d\r\n\r\n",
        ),
        ("Bcc a@b\r\nbcc\r\nB\r\n\r\n", "Bcc a@b\r\nbcc\r\nB\r\n\r\n"),
        // A dot that was stuffed without need: the next server reads a Bcc.
        (".Bcc: a@b\r\n. folded\r\nTo: c\r\n\r\n", "To: c\r\n\r\n"),
        ("..Bcc: a@b\r\n\r\n", "..Bcc: a@b\r\n\r\n"),
        ("Bcc: never ends\r\n", ""),
        ("b\r\n", "b\r\n"),
        ("\r\nBcc: body\r\n", "\r\nBcc: body\r\n"),
    ] {
        let octets = [wire.as_bytes(), END_OF_DATA].concat();
        for cut in 0..octets.len() {
            let (one, two) = octets.split_at(cut);
            let outcome = data(Changes::BCC, [one, two]);
            assert_eq!(outcome.stored.escape_ascii().to_string(), stored.escape_default().to_string());
            let is_changed = wire != stored;
            assert_eq!(outcome.changes, if is_changed { Changes::BCC } else { Changes::default() });
            assert_eq!(outcome.wire_size, stored.len() as u64);
        }
    }
    let chunk = bdat(Changes::BCC, b".Bcc: a\r\nBcc: b\r\nBc", &[2], false);
    assert_eq!(chunk.stored, b".Bcc: a\r\nBc");
}

#[test]
fn little_is_held_back() {
    let mut filter = BccFilter::new(Form::Plain);
    let mut kept = Vec::new();
    for _ in 0..1000 {
        filter.push(b"Bcc", &mut kept);
        filter.push(&b" ".repeat(1000), &mut kept);
        assert!(filter.held.len() <= HELD_MAX + 1);
    }
    assert!(kept.is_empty(), "it is a field of that name, or nothing");
}

#[test]
fn no_white_space_before_the_colon_saves_a_blind_recipient() {
    for spaces in [0, 1, 59, 60, 61, 62, 63, 64, 65, 300] {
        let field =
            [b"Bcc".as_slice(), &b" ".repeat(spaces), b": a\r\n\tb\r\nTo: c\r\n\r\nBcc: d\r\n"].concat();
        let stored = data(Changes::BCC, [&field[..], END_OF_DATA]).stored;
        assert_eq!(stored, b"To: c\r\n\r\nBcc: d\r\n", "{spaces}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_one_content_of_lines(
        parts in prop::collection::vec(prop::sample::select(vec![
            "\r\n", "\r\n", "\n", "\n", "\r", ".", ".", "a", "\0", "Bcc:", "bcc", " ", "\r\n.\r\n", "\n.\n", "\n.\r\n",
            "\r\n.\n", ".\r\n", "é",
        ]), 0..24),
        sizes in prop::collection::vec(1_usize..9, 1..5),
        asked in prop::sample::select(vec![Changes::LINE_FEEDS, BOTH]),
    ) {
        let input = [parts.concat().as_bytes(), b"\r\n.\r\n"].concat();
        let mut reader = ContentReader::new();
        let step = reader.push(&input);
        prop_assert!(step.end);
        let outcome = data(asked, [&input[..step.consumed]]);
        prop_assert_eq!(&data(asked, pieces(&input[..step.consumed], &sizes)), &outcome);
        let bare_cr = reader.flags().contains(ContentFlags::BARE_CR);
        prop_assert_eq!(bare_cr, outcome.fault == Some(IntakeFault::BadLineEnding));
        if outcome.fault.is_none() {
            // Read again it is one content, of lines, and its end is nowhere but at the end.
            let again = [&outcome.stored[..], END_OF_DATA].concat();
            let mut strict = ContentReader::new();
            let read = strict.push(&again);
            prop_assert!(read.end && read.consumed == again.len());
            prop_assert!(!strict.flags().intersects(ContentFlags::BARE_CR | ContentFlags::BARE_LF));
            let mut expected = with_lines(&plain_of(&input[..step.content]));
            if asked == BOTH {
                expected = without_bcc(&expected);
            }
            prop_assert_eq!(plain_of(&outcome.stored).escape_ascii().to_string(), expected.escape_ascii().to_string());
        }
    }

    #[test]
    fn bcc_is_left_out_in_any_pieces(
        parts in prop::collection::vec(prop::sample::select(vec![
            "\r\n", "\r\n", "\r\n", "\r", "\n", " ", "\t", ":", ".", "Bcc", "BCC:", "bc", "resent-", "Resent-Bcc:", "x",
            "                                                  ",
        ]), 0..30),
        sizes in prop::collection::vec(1_usize..9, 1..5),
    ) {
        let input = parts.concat().into_bytes();
        let outcome = bdat(Changes::BCC, &input, &sizes, true);
        prop_assert_eq!(outcome.stored.escape_ascii().to_string(), without_bcc(&input).escape_ascii().to_string());
        prop_assert_eq!(outcome.size, outcome.stored.len() as u64);
        prop_assert_eq!(outcome.changes == Changes::BCC, outcome.stored.len() < input.len());
    }
}
