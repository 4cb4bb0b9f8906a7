//! Content in plain form, as BDAT carries it (RFC 3030 2): how long a chunk still is, and what is unusual about it.
//!
//! A chunk ends where its octets have been counted, whatever they are, so nothing in it can end it early, and no dot is
//! stuffed. A line may go on in the next chunk, and so may a CRLF: what a content is like is known only at its end.

use memchr::{memchr, memchr_iter};

use super::content::ContentStep;
use super::limits::TEXT_LINE_MAX;
use crate::flow::ContentFlags;

/// Finds what is unusual about content in plain form, in whatever pieces it comes.
#[derive(Clone, Debug, Default)]
pub struct PlainReader {
    /// What has been seen, but for what only the end can tell.
    flags: ContentFlags,
    size: u64,
    lines: u64,
    crs: u64,
    /// Octets of the line whose CRLF has not come.
    line_octets: usize,
    /// Whether the last octet was a CR whose LF may come.
    is_after_cr: bool,
}

impl PlainReader {
    /// Read on.
    pub fn push(&mut self, input: &[u8]) {
        self.size += input.len() as u64;
        self.crs += memchr_iter(b'\r', input).count() as u64;
        if !self.flags.contains(ContentFlags::NUL) && memchr(0, input).is_some() {
            self.flags |= ContentFlags::NUL;
        }
        if !self.flags.contains(ContentFlags::EIGHT_BIT) && !input.is_ascii() {
            self.flags |= ContentFlags::EIGHT_BIT;
        }
        let mut line_start = 0;
        self.begin_line(input);
        for lf in memchr_iter(b'\n', input) {
            let ends_line =
                lf.checked_sub(1).map_or(self.is_after_cr, |before| input.get(before) == Some(&b'\r'));
            if !ends_line {
                self.flags |= ContentFlags::BARE_LF;
                continue;
            }
            self.note_length(self.line_octets + (lf + 1 - line_start));
            self.lines += 1;
            self.line_octets = 0;
            line_start = lf + 1;
            self.begin_line(input.get(line_start..).unwrap_or_default());
        }
        if let Some(last) = input.last() {
            self.line_octets += input.len() - line_start;
            self.is_after_cr = *last == b'\r';
        }
    }

    /// Take note that nothing more comes.
    pub fn end(&mut self) {
        self.is_after_cr = false;
        if self.line_octets > 0 {
            self.flags |= ContentFlags::NO_FINAL_CRLF;
            self.note_length(self.line_octets + 2);
        }
    }

    /// Return what is unusual about the content so far.
    pub fn flags(&self) -> ContentFlags {
        // Every CR but the last was followed by something; those that end no line are bare.
        let paired = self.lines + u64::from(self.is_after_cr);
        if self.crs > paired { self.flags | ContentFlags::BARE_CR } else { self.flags }
    }

    /// Return how many octets have come, which is the size of the message (RFC 1870).
    pub fn size(&self) -> u64 {
        self.size
    }

    fn begin_line(&mut self, line: &[u8]) {
        if self.line_octets == 0 && line.first() == Some(&b'.') {
            self.flags |= ContentFlags::DOT_LINES;
        }
    }

    /// Judge a line by its octets, CRLF included.
    fn note_length(&mut self, octets: usize) {
        if octets > TEXT_LINE_MAX {
            self.flags |= ContentFlags::OVER_LONG;
        }
    }
}

/// Reads the chunks of one content, each of a size that was announced.
#[derive(Clone, Debug, Default)]
pub struct ChunkReader {
    reader: PlainReader,
    /// Octets of the present chunk that have not come.
    left: u64,
    is_last: bool,
}

impl ChunkReader {
    /// Take note of a BDAT. The chunk before it has come whole.
    pub fn begin(&mut self, size: u64, is_last: bool) {
        debug_assert_eq!(self.left, 0, "a chunk begins before the end of the one before");
        self.left = size;
        self.is_last = is_last;
        self.note_end();
    }

    /// Read on, to the end of the chunk at most.
    pub fn push(&mut self, input: &[u8]) -> ContentStep {
        let octets = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
        self.reader.push(input.get(..octets).unwrap_or_default());
        self.left -= octets as u64;
        self.note_end();
        ContentStep { prefix: b"", content: octets, consumed: octets, end: self.left == 0 }
    }

    /// Whether the present chunk is the last one.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// Whether the present chunk has come whole.
    pub fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// Return what is unusual about the content so far.
    pub fn flags(&self) -> ContentFlags {
        self.reader.flags()
    }

    /// Return the size of the message so far (RFC 1870).
    pub fn size(&self) -> u64 {
        self.reader.size()
    }

    fn note_end(&mut self) {
        if self.left == 0 && self.is_last {
            self.reader.end();
        }
    }
}

/// Find what is unusual about content in plain form, whole.
pub fn plain_flags(content: &[u8]) -> ContentFlags {
    let mut reader = PlainReader::default();
    reader.push(content);
    reader.end();
    reader.flags()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use crate::pieces::pieces;
    use proptest::prelude::*;

    /// The flags as they are defined, line by line.
    fn naive_flags(content: &[u8]) -> ContentFlags {
        let mut flags = ContentFlags(0);
        let mut set = |flag, is_set| {
            if is_set {
                flags |= flag;
            }
        };
        set(ContentFlags::NUL, content.contains(&0));
        set(ContentFlags::EIGHT_BIT, !content.is_ascii());
        set(ContentFlags::NO_FINAL_CRLF, !content.is_empty() && !content.ends_with(b"\r\n"));
        let mut rest = content;
        while !rest.is_empty() {
            let at = rest.windows(2).position(|pair| pair == b"\r\n");
            let (text, behind) = at.map_or((rest, &b""[..]), |at| (&rest[..at], &rest[at + 2..]));
            set(ContentFlags::DOT_LINES, rest[0] == b'.');
            set(ContentFlags::OVER_LONG, text.len() + 2 > TEXT_LINE_MAX);
            set(ContentFlags::BARE_CR, text.contains(&b'\r'));
            set(ContentFlags::BARE_LF, text.contains(&b'\n'));
            rest = behind;
        }
        flags
    }

    #[test]
    fn a_chunk_ends_where_its_octets_end() {
        let mut reader = ChunkReader::default();
        reader.begin(3, false);
        let step = reader.push(b"abQUIT\r\n");
        assert_eq!((step.consumed, step.content, step.end), (3, 3, true));
        reader.begin(0, true);
        assert!(reader.is_complete());
        assert_eq!(reader.flags(), ContentFlags::NO_FINAL_CRLF);
    }

    #[test]
    fn the_largest_size_is_a_size() {
        let mut reader = ChunkReader::default();
        reader.begin(u64::MAX, true);
        let step = reader.push(b".\r\n");
        assert_eq!((step.consumed, step.end), (3, false));
        assert_eq!((reader.left, reader.size()), (u64::MAX - 3, 3));
    }

    #[test]
    fn a_crlf_may_be_cut_by_the_end_of_a_chunk() {
        for (second, flags) in [
            (&b"\nb\r\n"[..], ContentFlags(0)),
            (b"b\r\n", ContentFlags::BARE_CR),
            (b"", ContentFlags::BARE_CR | ContentFlags::NO_FINAL_CRLF),
        ] {
            let mut reader = ChunkReader::default();
            reader.begin(2, false);
            assert!(reader.push(b"a\r").end);
            assert_eq!(reader.flags(), ContentFlags(0));
            reader.begin(second.len() as u64, true);
            let _ = reader.push(second);
            assert_eq!(reader.flags(), flags, "{}", second.escape_ascii());
        }
    }

    #[test]
    fn a_line_may_have_1000_octets() {
        for (octets, flags) in [(998, ContentFlags(0)), (999, ContentFlags::OVER_LONG)] {
            assert_eq!(plain_flags(&[&vec![b'x'; octets], &b"\r\n"[..]].concat()), flags);
            assert_eq!(plain_flags(&vec![b'x'; octets]), flags | ContentFlags::NO_FINAL_CRLF);
        }
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_flags_of_the_whole(
            parts in prop::collection::vec(prop_oneof![
                prop::sample::select(vec!["\r\n", "\r", "\n", ".", "x", "\0", "\u{e4}"]).prop_map(str::to_owned),
                (990_usize..1005).prop_map(|octets| "y".repeat(octets)),
            ], 0..24),
            sizes in prop::collection::vec(1_usize..600, 1..6),
        ) {
            let content = parts.concat().into_bytes();
            let mut reader = PlainReader::default();
            for piece in pieces(&content, &sizes) {
                reader.push(piece);
            }
            reader.end();
            prop_assert_eq!(reader.flags(), naive_flags(&content));
            prop_assert_eq!(reader.flags(), plain_flags(&content));
            prop_assert_eq!(reader.size(), content.len() as u64);
        }
    }
}
