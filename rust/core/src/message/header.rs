//! The header section, read in passing (RFC 5322 2.1, 2.2, 3.6.7).
//!
//! The scanner is shown the content as it comes and keeps the few fields that logs and loop detection need. It judges
//! nothing: a header section that is damaged, endless or missing gives the facts that could be found. Lines end with
//! CRLF only, as everywhere. Whether dots are still stuffed makes no difference, since no field begins with one.

use memchr::memchr;

use crate::text::printable;

/// How much of a field's body is kept, in octets, folding included but for its CRLFs.
const BODY_MAX: usize = 998;
/// Where the colon after a field's name must stand at the latest; the names that matter are much shorter.
const NAME_MAX: usize = 64;
/// How much of a line is looked at.
const LINE_HEAD_MAX: usize = NAME_MAX + 1 + BODY_MAX;

/// What the header section says.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct HeaderFacts {
    /// How many Received fields there are: the number of servers passed so far.
    pub received: u32,
    /// The first Message-ID, unfolded, at most 998 octets; empty if there is none.
    pub message_id: String,
    /// The first Subject, unfolded, at most 998 octets, encoded words left as they are; empty if there is none.
    pub subject: String,
    /// The first From, unfolded, at most 998 octets; empty if there is none.
    pub from: String,
    /// Whether there is a Message-ID, if only an empty one.
    pub has_message_id: bool,
    /// Whether there is a Date.
    pub has_date: bool,
    /// Octets of the header section, as far as it was seen, without the empty line that ends it.
    pub size: u32,
    /// Whether that empty line was seen.
    pub complete: bool,
}

/// A field whose body is kept.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Kept {
    MessageId,
    Subject,
    From,
}

/// Collects [`HeaderFacts`] from content that comes in pieces.
#[derive(Clone, Debug)]
pub struct HeaderScanner {
    /// How many more octets may be looked at.
    budget: usize,
    size: usize,
    complete: bool,
    received: u32,
    message_id: Option<Vec<u8>>,
    subject: Option<Vec<u8>>,
    from: Option<Vec<u8>>,
    has_date: bool,
    /// The field that a folded line would continue.
    current: Option<Kept>,
    /// The head of a line whose end has not come.
    partial: Vec<u8>,
    /// Octets of that line, also those that were not kept.
    partial_octets: usize,
    /// Whether the last of them is a CR.
    partial_ends_with_cr: bool,
}

impl HeaderScanner {
    /// Make a scanner that looks at the first `max_bytes` octets at most.
    pub const fn new(max_bytes: usize) -> Self {
        Self {
            budget: max_bytes,
            size: 0,
            complete: false,
            received: 0,
            message_id: None,
            subject: None,
            from: None,
            has_date: false,
            current: None,
            partial: Vec::new(),
            partial_octets: 0,
            partial_ends_with_cr: false,
        }
    }

    /// Look at the next octets of the content; return whether more are wanted.
    pub fn push(&mut self, input: &[u8]) -> bool {
        let mut rest = input.get(..self.budget).unwrap_or(input);
        self.budget -= rest.len();
        while !self.complete && !rest.is_empty() {
            rest = self.take_line(rest);
        }
        !self.complete && self.budget > 0
    }

    /// Return what was found. A line without its end counts as far as it came.
    pub fn finish(mut self) -> HeaderFacts {
        if self.partial_octets > 0 {
            let partial = std::mem::take(&mut self.partial);
            self.size += self.partial_octets;
            self.read_line(&partial);
        }
        let text = |body: Option<Vec<u8>>| {
            let mut body = body.unwrap_or_default();
            body.truncate(body.trim_ascii_end().len());
            printable(body)
        };
        HeaderFacts {
            received: self.received,
            has_message_id: self.message_id.is_some(),
            has_date: self.has_date,
            message_id: text(self.message_id),
            subject: text(self.subject),
            from: text(self.from),
            size: u32::try_from(self.size).unwrap_or(u32::MAX),
            complete: self.complete,
        }
    }

    /// Take a line, or the part of one that is there, and return what is behind it.
    fn take_line<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let mut searched = 0;
        while let Some(at) = input.get(searched..).and_then(|rest| memchr(b'\n', rest)) {
            let lf = searched + at;
            searched = lf + 1;
            let (through_lf, behind) = input.split_at(searched);
            let follows_cr = match lf.checked_sub(1) {
                Some(before) => input.get(before) == Some(&b'\r'),
                None => self.partial_ends_with_cr,
            };
            if follows_cr {
                self.end_line(through_lf);
                return behind;
            }
        }
        self.keep_partial(input);
        &[]
    }

    /// Read a line whose last octets, CRLF included, are `end`.
    fn end_line(&mut self, end: &[u8]) {
        let octets = self.partial_octets + end.len();
        if octets == b"\r\n".len() {
            self.complete = true;
        } else if self.partial_octets == 0 {
            self.size += octets;
            self.read_line(end.get(..octets - 2).unwrap_or_default());
        } else {
            self.size += octets;
            self.keep_partial(end);
            let mut line = std::mem::take(&mut self.partial);
            line.truncate(octets - 2);
            self.read_line(&line);
        }
        self.partial_octets = 0;
        self.partial_ends_with_cr = false;
    }

    fn keep_partial(&mut self, input: &[u8]) {
        let room = LINE_HEAD_MAX.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(input.get(..room).unwrap_or(input));
        self.partial_octets += input.len();
        self.partial_ends_with_cr = input.last() == Some(&b'\r');
    }

    /// Read a line without its CRLF.
    fn read_line(&mut self, line: &[u8]) {
        let line = line.get(..LINE_HEAD_MAX).unwrap_or(line);
        if let [b' ' | b'\t', ..] = line {
            if let Some(kept) = self.current {
                append_bounded(self.body(kept).get_or_insert_default(), line);
            }
            return;
        }
        self.current = None;
        // Most fields are none of ours, which the first letter tells.
        if !matches!(line, [b'R' | b'r' | b'M' | b'm' | b'S' | b's' | b'F' | b'f' | b'D' | b'd', ..]) {
            return;
        }
        let Some(colon) = memchr(b':', line.get(..=NAME_MAX).unwrap_or(line)) else { return };
        let (name, body) = line.split_at(colon);
        let name = name.trim_ascii_end();
        let kept = if name.eq_ignore_ascii_case(b"Received") {
            self.received = self.received.saturating_add(1);
            return;
        } else if name.eq_ignore_ascii_case(b"Date") {
            self.has_date = true;
            return;
        } else if name.eq_ignore_ascii_case(b"Message-ID") {
            Kept::MessageId
        } else if name.eq_ignore_ascii_case(b"Subject") {
            Kept::Subject
        } else if name.eq_ignore_ascii_case(b"From") {
            Kept::From
        } else {
            return;
        };
        let slot = self.body(kept);
        if slot.is_none() {
            append_bounded(slot.insert(Vec::new()), body.get(1..).unwrap_or_default().trim_ascii_start());
            self.current = Some(kept);
        }
    }

    fn body(&mut self, kept: Kept) -> &mut Option<Vec<u8>> {
        match kept {
            Kept::MessageId => &mut self.message_id,
            Kept::Subject => &mut self.subject,
            Kept::From => &mut self.from,
        }
    }
}

fn append_bounded(body: &mut Vec<u8>, more: &[u8]) {
    let room = BODY_MAX - body.len();
    body.extend_from_slice(more.get(..room).unwrap_or(more));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use crate::pieces::pieces;
    use proptest::prelude::*;

    const MESSAGE: &str = "Received: from a by b;\r\n\tTue, 1 Jan 2030 00:00:00 +0000\r\n\
        received : from c by a\r\n\
        date : Tue, 1 Jan 2030 00:00:00 +0000\r\n\
        From: A Person\r\n <a@b.example>\r\n\
        Subject: =?utf-8?q?x?=\r\n  and\r\n\tmore\r\n\
        To: b@c.example\r\n , d@c.example\r\n\
        SUBJECT: another\r\n twice\r\n\
        Message-Id:<1@b.example>\r\n\
        Received-SPF: none\r\n\
        X: From: no\r\n\
        \r\n\
        Received: body\r\n\
        From: body\r\n";

    fn scan<'a>(max_bytes: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> HeaderFacts {
        let mut scanner = HeaderScanner::new(max_bytes);
        for piece in pieces {
            scanner.push(piece);
        }
        scanner.finish()
    }

    #[test]
    fn fields_are_found_and_unfolded() {
        let expected = HeaderFacts {
            received: 2,
            message_id: "<1@b.example>".to_owned(),
            subject: "=?utf-8?q?x?=  and more".to_owned(),
            from: "A Person <a@b.example>".to_owned(),
            has_message_id: true,
            has_date: true,
            size: MESSAGE.find("\r\n\r\n").map_or(0, |at| at as u32 + 2),
            complete: true,
        };
        assert_eq!(scan(usize::MAX, [MESSAGE.as_bytes()]), expected);
        for first in 0..MESSAGE.len() {
            let (one, two) = MESSAGE.as_bytes().split_at(first);
            assert_eq!(scan(usize::MAX, [one, two]), expected, "cut at {first}");
        }
        assert_eq!(scan(usize::MAX, MESSAGE.as_bytes().chunks(1)), expected);
    }

    #[test]
    fn fields_that_are_missing_are_told_from_empty_ones() {
        for (input, has_message_id, has_date) in [
            ("\r\nDate: x\r\n", false, false),
            ("Message-ID:\r\nDated: x\r\n Date: x\r\n\r\n", true, false),
            ("X: y\r\nDATE:", false, true),
            ("Message-ID\r\nDate\r\n\r\n", false, false),
        ] {
            let facts = scan(usize::MAX, [input.as_bytes()]);
            assert_eq!((facts.has_message_id, facts.has_date), (has_message_id, has_date), "{input:?}");
        }
    }

    #[test]
    fn scanning_stops_at_the_empty_line_or_at_its_budget() {
        let mut scanner = HeaderScanner::new(1000);
        assert!(scanner.push(b"From: a\r\n"));
        assert!(!scanner.push(b"\r\nFrom: b\r\n"));
        let mut scanner = HeaderScanner::new(16);
        assert!(scanner.push(b"From: a\r\nSubj"));
        assert!(!scanner.push(b"ect: long\r\n\r\n"));
        let facts = scanner.finish();
        assert_eq!((facts.from.as_str(), facts.size, facts.complete), ("a", 16, false));
    }

    #[test]
    fn a_content_without_header_section_is_no_trouble() {
        for (input, size, complete) in
            [("", 0, false), ("\r\n", 0, true), ("\r", 1, false), ("text", 4, false), (" \r\n", 3, false)]
        {
            let facts = scan(usize::MAX, [input.as_bytes()]);
            assert_eq!((facts.size, facts.complete, facts.received), (size, complete, 0), "{input:?}");
        }
    }

    #[test]
    fn only_crlf_ends_a_line() {
        let facts = scan(usize::MAX, [&b"Subject: a\nFrom: b\n\nc\rd\r\n\r\n"[..]]);
        assert_eq!((facts.subject.as_str(), facts.from.as_str()), ("a?From: b??c?d", ""));
    }

    #[test]
    fn a_body_is_kept_up_to_998_octets() {
        for octets in [997, 998, 999, 5000] {
            let input =
                format!("Subject:{}\r\n x\r\nFrom: {}\r\n\r\n", "s".repeat(octets), "ä".repeat(octets));
            for pieces in [vec![input.as_bytes()], input.as_bytes().chunks(10).collect()] {
                let facts = scan(usize::MAX, pieces);
                assert_eq!(facts.subject.len(), octets.min(998));
                assert!(facts.from.starts_with("ää") && facts.from.chars().count() <= 499);
                assert!(facts.complete);
            }
        }
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same_facts(
            parts in prop::collection::vec(prop::sample::select(vec![
                "\r\n", "\r\n", "\r", "\n", " ", "\t", ":", "From:", "subject:", "Message-ID:", "Received:", "xyz", "é",
                "0123456789012345678901234567890123456789012345678901234567890123456789",
            ]), 0..60),
            sizes in prop::collection::vec(1_usize..40, 1..6),
            max_bytes in 0_usize..2000,
        ) {
            let input = parts.concat().into_bytes();
            prop_assert_eq!(scan(max_bytes, pieces(&input, &sizes)), scan(max_bytes, [&input[..]]));
        }
    }
}
