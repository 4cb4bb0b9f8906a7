//! What may be changed of a content on its way in, where its connector says so: bare LFs, and Bcc.
//!
//! # Theory of operation
//!
//! Everything else in this crate leaves content as it came. These two changes are made between the reader, which alone
//! decides where the content ends, and whoever stores it:
//!
//! ```text
//! octets -> reader (CRLF "." CRLF, or the size of a chunk) -> line feeds -> Bcc -> sink
//! ```
//!
//! **Line feeds.** A bare LF is stored as CRLF. What was no line before may be one then, and a dot that began no line may
//! begin one: `LF . LF` inside a content would become the end of it. So content of the wire form is brought to its plain
//! form first, by the strict rule (only behind CRLF is a dot a stuffed one), then made lines of, and then stuffed anew;
//! nothing is replaced in stuffed octets. `CRLF . LF` shows why: its dot is a stuffed one, which goes, and the LF behind
//! it is an empty line. What comes out is read once more by the strict reader; if that found an end in it, the content
//! would be refused, and so a mistake here costs a message and cannot split one.
//!
//! A bare CR is never made anything of: the content is refused, as it is without this.
//!
//! **Bcc.** The fields `Bcc` and `Resent-Bcc` are left out of the header section (RFC 5322 3.6.3), with their folded
//! lines. What may be the beginning of such a field is held back until it is known, at most [`HELD_MAX`] octets; behind
//! the empty line that ends the header section nothing is looked at any more.

use memchr::memchr;

use super::chunk::PlainReader;
use super::content::{ContentReader, Stuffer, Unstuffer};
use crate::flow::{Changes, ContentFlags, Form};

/// The fields that are left out, in lower case.
const LEFT_OUT: [&[u8]; 2] = [b"bcc", b"resent-bcc"];
/// Octets of a name with white space behind it that are waited for a colon; with more there need be none.
const HELD_MAX: usize = 64;

/// Changes a content that comes in pieces.
#[derive(Debug)]
pub(super) struct Rewriting {
    line_feeds: Option<LineFeeds>,
    bcc: Option<BccFilter>,
}

impl Rewriting {
    /// Make what does the changes that are asked for; nothing if nothing is to be done.
    pub(super) fn of(asked: Changes, form: Form) -> Option<Box<Self>> {
        let line_feeds = asked.contains(Changes::LINE_FEEDS).then(|| LineFeeds::new(form));
        let bcc = asked.contains(Changes::BCC).then(|| BccFilter::new(form));
        (line_feeds.is_some() || bcc.is_some()).then(|| Box::new(Self { line_feeds, bcc }))
    }

    /// Return what is to be stored of the next octets of the content; `is_end` says that none follow.
    pub(super) fn push(&mut self, prefix: &[u8], content: &[u8], is_end: bool) -> Vec<u8> {
        let Some(line_feeds) = &mut self.line_feeds else {
            return self.without_bcc([prefix, content], is_end);
        };
        let mut lines = Vec::with_capacity(prefix.len() + content.len());
        line_feeds.push(prefix, &mut lines);
        line_feeds.push(content, &mut lines);
        line_feeds.note(&lines, is_end);
        if self.bcc.as_ref().is_none_or(BccFilter::is_over) {
            return lines;
        }
        self.without_bcc([&lines, b""], is_end)
    }

    /// Leave out what is to be left out, and give all that was held back if nothing more comes.
    fn without_bcc(&mut self, parts: [&[u8]; 2], is_end: bool) -> Vec<u8> {
        let mut kept = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            match &mut self.bcc {
                None => kept.extend_from_slice(part),
                Some(bcc) => bcc.push(part, &mut kept),
            }
        }
        if let Some(bcc) = self.bcc.as_mut().filter(|_| is_end) {
            bcc.finish(&mut kept);
        }
        kept
    }

    /// Whether what follows is stored as it comes.
    pub(super) fn is_over(&self) -> bool {
        self.line_feeds.is_none() && self.bcc.as_ref().is_none_or(BccFilter::is_over)
    }

    /// Return of how many octets the header fields were that were left out.
    pub(super) fn left_out(&self) -> u64 {
        self.bcc.as_ref().map_or(0, |bcc| bcc.removed)
    }

    /// What the content is like with its line feeds changed, if they are.
    pub(super) fn line_feeds(&self) -> Option<&LineFeeds> {
        self.line_feeds.as_ref()
    }
}

/// Makes CRLF of every bare LF, and looks at what comes out.
#[derive(Debug)]
pub(super) enum LineFeeds {
    /// Of the wire form: unstuffed, made lines of, stuffed again.
    Wire { unstuffer: Unstuffer, stuffer: Stuffer, reader: ContentReader, has_end: bool },
    /// Of the plain form.
    Plain { follows_cr: bool, reader: PlainReader },
}

impl LineFeeds {
    fn new(form: Form) -> Self {
        match form {
            Form::Wire => Self::Wire {
                unstuffer: Unstuffer::default(),
                stuffer: Stuffer::default(),
                reader: ContentReader::new(),
                has_end: false,
            },
            Form::Plain => Self::Plain { follows_cr: false, reader: PlainReader::default() },
        }
    }

    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Wire { unstuffer, stuffer, .. } => {
                let mut plain = Vec::new();
                unstuffer.push(input, &mut plain);
                stuffer.push(&plain, out);
            }
            Self::Plain { follows_cr, .. } => {
                let mut rest = input;
                while let Some(lf) = memchr(b'\n', rest) {
                    let (line, behind) = rest.split_at(lf);
                    out.extend_from_slice(line);
                    let is_bare = line.last().map_or(!*follows_cr, |last| *last != b'\r');
                    out.extend_from_slice(if is_bare { b"\r\n" } else { b"\n" });
                    *follows_cr = false;
                    rest = behind.get(1..).unwrap_or_default();
                }
                out.extend_from_slice(rest);
                if let Some(last) = rest.last() {
                    *follows_cr = *last == b'\r';
                }
            }
        }
    }

    /// Look at what has come out.
    fn note(&mut self, lines: &[u8], is_end: bool) {
        match self {
            Self::Wire { reader, has_end, .. } => *has_end |= reader.push(lines).end,
            Self::Plain { reader, .. } => {
                reader.push(lines);
                if is_end {
                    reader.end();
                }
            }
        }
    }

    /// Whether the end of a content can be read in what came out.
    pub(super) fn has_end(&self) -> bool {
        matches!(self, Self::Wire { has_end: true, .. })
    }

    pub(super) fn flags(&self) -> ContentFlags {
        match self {
            Self::Wire { reader, .. } => reader.flags(),
            Self::Plain { reader, .. } => reader.flags(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Wire { reader, .. } => reader.size(),
            Self::Plain { reader, .. } => reader.size(),
        }
    }

    pub(super) fn wire_size(&self) -> u64 {
        match self {
            Self::Wire { reader, .. } => reader.wire_size(),
            Self::Plain { reader, .. } => reader.size(),
        }
    }
}

/// Where the filter is.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Place {
    /// In the beginning of a line; it is not known yet of which kind.
    Beginning,
    /// In a line that stays.
    Kept,
    /// In a line that goes.
    Dropped,
    /// Behind the header section.
    Body,
}

/// What a line is, as far as its beginning tells.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Kind {
    Unknown,
    /// It goes on with the field before.
    Folded,
    /// Such as is left out.
    LeftOut,
    Other,
    /// The end of the header section.
    Empty,
}

/// Leaves the blind recipients out of a header section.
#[derive(Debug)]
struct BccFilter {
    /// Whether a dot at the beginning of a line is a stuffed one.
    is_wire: bool,
    place: Place,
    /// The beginning of a line, held back.
    held: Vec<u8>,
    /// Whether the last octet of the line was a CR.
    follows_cr: bool,
    /// Whether the field before was left out.
    drops_folds: bool,
    /// Octets that were left out.
    removed: u64,
}

impl BccFilter {
    fn new(form: Form) -> Self {
        Self {
            is_wire: form == Form::Wire,
            place: Place::Beginning,
            held: Vec::new(),
            follows_cr: false,
            drops_folds: false,
            removed: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.place == Place::Body
    }

    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        while let Some((&first, behind)) = rest.split_first() {
            match self.place {
                Place::Body => {
                    out.extend_from_slice(rest);
                    return;
                }
                Place::Beginning => {
                    self.held.push(first);
                    rest = behind;
                    self.judge(out);
                }
                Place::Kept | Place::Dropped => {
                    let (line, ends) = self.line_in(rest);
                    let (line, behind) = rest.split_at(line);
                    if self.place == Place::Kept {
                        out.extend_from_slice(line);
                    } else {
                        self.removed += line.len() as u64;
                    }
                    if ends {
                        self.place = Place::Beginning;
                    }
                    rest = behind;
                }
            }
        }
    }

    /// Give what is held back: nothing more comes.
    fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// Octets of the input that belong to the line, and whether it ends with them.
    fn line_in(&mut self, input: &[u8]) -> (usize, bool) {
        let mut searched = 0;
        while let Some(at) = input.get(searched..).and_then(|rest| memchr(b'\n', rest)) {
            let lf = searched + at;
            searched = lf + 1;
            let ends = lf.checked_sub(1).map_or(self.follows_cr, |before| input.get(before) == Some(&b'\r'));
            if ends {
                self.follows_cr = false;
                return (searched, true);
            }
        }
        self.follows_cr = input.last() == Some(&b'\r');
        (input.len(), false)
    }

    /// See whether it is known now what to do with the line.
    fn judge(&mut self, out: &mut Vec<u8>) {
        let kind = kind(&self.held, self.is_wire);
        let keeps = match kind {
            Kind::Unknown => return,
            Kind::Folded => !self.drops_folds,
            Kind::LeftOut => false,
            Kind::Other | Kind::Empty => true,
        };
        self.drops_folds = !keeps;
        self.follows_cr = self.held.last() == Some(&b'\r');
        if keeps {
            out.append(&mut self.held);
        } else {
            self.removed += self.held.len() as u64;
            self.held.clear();
        }
        self.place = match kind {
            Kind::Empty => Place::Body,
            _ if keeps => Place::Kept,
            _ => Place::Dropped,
        };
    }
}

/// Tell what a line is from its first octets.
fn kind(held: &[u8], is_wire: bool) -> Kind {
    let line = held.strip_prefix(b".").filter(|_| is_wire).unwrap_or(held);
    match line {
        [] | [b'\r'] => return Kind::Unknown,
        [b' ' | b'\t', ..] => return Kind::Folded,
        [b'\r', b'\n'] => return Kind::Empty,
        _ => {}
    }
    for name in LEFT_OUT {
        let common = line.iter().zip(name).take_while(|(octet, letter)| octet.eq_ignore_ascii_case(letter));
        let common = common.count();
        if common == line.len() {
            return Kind::Unknown;
        }
        if common == name.len() {
            // White space before the colon is obsolete, and read (RFC 5322 4.5).
            let behind = line.iter().skip(common).find(|octet| !matches!(octet, b' ' | b'\t'));
            return match behind {
                // A line of nothing but a name and so much white space can only be meant as one of those.
                None if held.len() > HELD_MAX => Kind::LeftOut,
                None => Kind::Unknown,
                Some(b':') => Kind::LeftOut,
                Some(_) => Kind::Other,
            };
        }
    }
    Kind::Other
}

#[cfg(test)]
mod tests;
