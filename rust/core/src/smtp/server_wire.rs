//! What the octets of a client mean to a server, in the present turn (RFC 5321 4.1, RFC 2920).
//!
//! Between two replies the same octets can be commands or content, so they are read only as far as the replies that
//! have been sent allow. A client may send several commands ahead, up to one whose reply decides how it goes on: a
//! *synchronising* command. What comes behind that one before its reply is *early*. It is reported, and where it would
//! change the meaning of what follows (content behind a refused DATA would be read as commands) the connection cannot
//! go on.
//!
//! BDAT ends a batch too, but what comes behind it is not early: it is the chunk, as long as the command says, and then
//! the next command. Only if that size cannot be read can the connection not go on.

use super::changes::{LineFeeds, Rewriting};
use super::chunk::ChunkReader;
use super::command::{Command, Grammar, Malformed, Verb, parse_command_in};
use super::content::{ContentReader, ContentStep};
use super::framing::LineBuffer;
use super::limits::COMMAND_LINE_GROWN_MAX;
use super::sasl::{Response, parse_response};
use crate::flow::{Changes, ContentFlags, Form};
use crate::message::header::{HeaderFacts, HeaderScanner};

/// Commands that are reported together.
pub const BATCH_COMMANDS_MAX: usize = 64;

/// Octets of commands after which no further one is added to a batch.
pub const BATCH_OCTETS_MAX: usize = 16 * 1024;

/// Commands that were read together.
#[derive(Debug)]
pub struct Batch {
    /// At least one, in order; a synchronising one is the last.
    pub items: Vec<Result<Command, Malformed>>,
    /// Whether octets came before the banner, or behind a synchronising command before its reply.
    pub early: bool,
}

/// What has to be known of the reply that is owed.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Owed {
    /// Nothing, or replies that the client need not wait for.
    Free,
    /// A reply that the client must wait for.
    Awaited,
    /// As before, and what follows a refusal may be content.
    BeforeContent,
    /// A reply that the client need not wait for; what follows is content in any case.
    BeforeChunk,
}

/// Reads the commands of a client.
#[derive(Debug)]
pub struct ServerWire {
    lines: LineBuffer,
    owed: Owed,
    early: bool,
    grammar: Grammar,
    is_challenged: bool,
}

impl Default for ServerWire {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerWire {
    /// Make a wire whose banner has not been sent.
    pub const fn new() -> Self {
        Self {
            lines: LineBuffer::new(COMMAND_LINE_GROWN_MAX),
            owed: Owed::Awaited,
            early: false,
            grammar: Grammar::STRICT,
            is_challenged: false,
        }
    }

    /// Set how commands are read, from the next one on.
    pub fn set_grammar(&mut self, grammar: Grammar) {
        self.grammar = grammar;
    }

    /// Add octets that have arrived.
    pub fn push(&mut self, input: &[u8]) {
        self.early |= self.is_awaited() && !input.is_empty();
        self.lines.push(input);
    }

    /// Take the complete commands, up to the first synchronising one. All earlier ones have been answered.
    pub fn next_batch(&mut self) -> Option<Batch> {
        let mut items = Vec::new();
        let mut octets = 0;
        while items.len() < BATCH_COMMANDS_MAX && octets < BATCH_OCTETS_MAX {
            let item = match self.lines.next_line() {
                None => break,
                Some(Ok(line)) => {
                    octets += line.len() + 2;
                    parse_command_in(self.grammar, line)
                }
                Some(Err(malformed)) => Err(malformed),
            };
            self.owed = owed_after(&item);
            if is_auth(&item) {
                self.lines.wipe_taken();
            }
            items.push(item);
            if self.owed != Owed::Free {
                self.early |= self.is_awaited() && !self.lines.is_empty();
                break;
            }
        }
        if items.is_empty() {
            return None;
        }
        Some(Batch { items, early: std::mem::take(&mut self.early) })
    }

    /// Take the line that answers a challenge, if there is one (RFC 4954 4), and whether octets came behind it before
    /// its reply. The challenge has been given.
    pub fn next_response(&mut self) -> Option<(Response, bool)> {
        let response = match self.lines.next_line()? {
            Ok(line) => parse_response(line),
            Err(malformed) => Response::Malformed(malformed.kind),
        };
        self.lines.wipe_taken();
        self.lines.expect_responses(false);
        self.is_challenged = false;
        self.owed = Owed::Awaited;
        self.early |= !self.lines.is_empty();
        Some((response, std::mem::take(&mut self.early)))
    }

    /// Take note that a challenge is being sent: what comes next is a response and no command.
    ///
    /// Returns whether it can be read as one: not if something came before the challenge.
    #[must_use]
    pub fn challenged(&mut self) -> bool {
        self.owed = Owed::Free;
        self.is_challenged = true;
        self.lines.expect_responses(true);
        self.lines.is_empty()
    }

    /// Whether the next line is a response.
    pub fn is_challenged(&self) -> bool {
        self.is_challenged
    }

    /// Take note that the banner, or the replies to the whole last batch, are being sent.
    ///
    /// Returns whether what follows can still be read: it cannot when a content that was not asked for may be in it.
    #[must_use]
    pub fn replied(&mut self) -> bool {
        match std::mem::replace(&mut self.owed, Owed::Free) {
            Owed::Free | Owed::Awaited => true,
            Owed::BeforeContent => self.lines.is_empty(),
            // The chunk of a BDAT comes without being asked for (RFC 3030 2), and nobody has said what is to be done
            // with it, or knows how long it is.
            Owed::BeforeChunk => false,
        }
    }

    /// Whether the last command was one whose reply the client must wait for.
    pub fn is_awaited(&self) -> bool {
        matches!(self.owed, Owed::Awaited | Owed::BeforeContent)
    }

    /// Whether the beginning of a command waits for its end.
    pub fn is_within_line(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Take note that content is asked for: [`ServerWire::rest`] is its beginning.
    pub fn begin_content(&mut self) {
        self.owed = Owed::Free;
        self.early = false;
    }

    /// Return what has not been read.
    pub fn rest(&self) -> &[u8] {
        self.lines.rest()
    }

    /// Drop the first `octets` of [`ServerWire::rest`], which were content.
    pub fn consume(&mut self, octets: usize) {
        self.lines.consume(octets);
    }
}

/// Whether a line may have had a secret in it.
fn is_auth(item: &Result<Command, Malformed>) -> bool {
    matches!(item, Ok(Command::Auth { .. }) | Err(Malformed { verb: Some(Verb::Auth), .. }))
}

fn owed_after(item: &Result<Command, Malformed>) -> Owed {
    let verb = match item {
        Ok(Command::Ehlo { .. }) => Some(Verb::Ehlo),
        Ok(Command::Lhlo { .. }) => Some(Verb::Lhlo),
        Ok(Command::Helo { .. }) => Some(Verb::Helo),
        Ok(Command::Data) => Some(Verb::Data),
        Ok(Command::Bdat { .. }) => Some(Verb::Bdat),
        Ok(Command::Auth { .. }) => Some(Verb::Auth),
        Ok(Command::StartTls) => Some(Verb::StartTls),
        Ok(Command::Xclient { .. }) => Some(Verb::Xclient),
        Ok(Command::Quit) => Some(Verb::Quit),
        Ok(_) => None,
        Err(malformed) => malformed.verb,
    };
    match verb {
        Some(Verb::Data) => Owed::BeforeContent,
        Some(Verb::Bdat) => Owed::BeforeChunk,
        Some(
            Verb::Ehlo | Verb::Lhlo | Verb::Helo | Verb::Auth | Verb::StartTls | Verb::Xclient | Verb::Quit,
        ) => Owed::Awaited,
        _ => Owed::Free,
    }
}

/// Why content that is being read will not be kept.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum IntakeFault {
    /// It has a bare CR or a bare LF.
    BadLineEnding,
    /// It has a NUL, which no line may have (RFC 2045 2.7, 2.8). There are servers that drop it, for which a dot behind
    /// it would be alone in its line.
    Nul,
    /// It is larger than allowed.
    TooLarge,
}

/// How content comes.
#[derive(Debug)]
enum Reader {
    Data(ContentReader),
    Chunks(ChunkReader),
}

/// Reads the content that follows a 354 reply, or comes in chunks, with its header section, against a limit.
#[derive(Debug)]
pub struct Intake {
    reader: Reader,
    /// Whether a bare CR or LF is an octet like others: content that is not lines (RFC 3030 3).
    is_binary: bool,
    scanner: HeaderScanner,
    wants_header: bool,
    limit_bytes: u64,
    /// What changes the content, for as long as it does.
    rewriting: Option<Box<Rewriting>>,
    /// What that has made of the octets of the last push.
    rewritten: Option<Vec<u8>>,
    /// Octets of header fields that were left out.
    left_out: u64,
}

impl Intake {
    /// Begin with the first octet of what DATA brings; the header section is looked at up to `header_bytes`.
    pub fn new(limit_bytes: u64, header_bytes: usize) -> Self {
        Self::with(Reader::Data(ContentReader::new()), false, limit_bytes, header_bytes)
    }

    /// Begin with a content that comes in chunks; `is_binary` says that it need not be lines.
    pub fn in_chunks(is_binary: bool, limit_bytes: u64, header_bytes: usize) -> Self {
        Self::with(Reader::Chunks(ChunkReader::default()), is_binary, limit_bytes, header_bytes)
    }

    fn with(reader: Reader, is_binary: bool, limit_bytes: u64, header_bytes: usize) -> Self {
        Self {
            reader,
            is_binary,
            scanner: HeaderScanner::new(header_bytes),
            wants_header: true,
            limit_bytes,
            rewriting: None,
            rewritten: None,
            left_out: 0,
        }
    }

    /// Change the content so. What is not lines has no line feeds to be changed.
    #[must_use]
    pub fn changing(mut self, asked: Changes) -> Self {
        let form = match self.reader {
            Reader::Data(_) => Form::Wire,
            Reader::Chunks(_) => Form::Plain,
        };
        let line_feeds = if self.is_binary { Changes::LINE_FEEDS.0 } else { 0 };
        self.rewriting = Rewriting::of(Changes(asked.0 & !line_feeds), form);
        self
    }

    /// Take note of a BDAT; return whether its chunk is complete already, since it is empty.
    ///
    /// The last one has to be pushed all the same, with no octets: something may have been held back.
    pub fn begin_chunk(&mut self, size: u64, is_last: bool) -> bool {
        match &mut self.reader {
            Reader::Data(_) => false,
            Reader::Chunks(reader) => {
                reader.begin(size, is_last);
                reader.is_complete()
            }
        }
    }

    /// Read on; nothing is read after the end of the content or chunk. If the content is changed, what is to be stored is
    /// what [`Intake::rewritten`] gives next.
    pub fn push(&mut self, input: &[u8]) -> ContentStep {
        let (step, is_end) = match &mut self.reader {
            Reader::Data(reader) => {
                let step = reader.push(input);
                (step, step.end)
            }
            Reader::Chunks(reader) => {
                let step = reader.push(input);
                (step, step.end && reader.is_last())
            }
        };
        let content = input.get(..step.content).unwrap_or_default();
        if let Some(rewriting) = &mut self.rewriting {
            let stored = rewriting.push(step.prefix, content, is_end);
            self.wants_header = self.wants_header && self.scanner.push(&stored);
            self.left_out = rewriting.left_out();
            if rewriting.is_over() {
                self.rewriting = None;
            }
            self.rewritten = Some(stored);
        } else if self.wants_header {
            self.wants_header = self.scanner.push(step.prefix) && self.scanner.push(content);
        }
        step
    }

    /// Take what is to be stored instead of the octets of the last push; nothing if they are to be stored as they are.
    pub fn rewritten(&mut self) -> Option<Vec<u8>> {
        self.rewritten.take()
    }

    /// Tell why the content will be refused, as far as is known. Line endings come first: it is they that make the
    /// rest untrustworthy.
    pub fn fault(&self) -> Option<IntakeFault> {
        let line_feeds = self.line_feeds();
        let bare = if line_feeds.is_some() {
            ContentFlags::BARE_CR
        } else {
            ContentFlags::BARE_CR | ContentFlags::BARE_LF
        };
        let has_end = line_feeds.is_some_and(LineFeeds::has_end);
        if !self.is_binary && (self.read_flags().intersects(bare) || has_end) {
            Some(IntakeFault::BadLineEnding)
        } else if !self.is_binary && self.read_flags().contains(ContentFlags::NUL) {
            Some(IntakeFault::Nul)
        } else if self.size().max(self.read_size()) > self.limit_bytes {
            Some(IntakeFault::TooLarge)
        } else {
            None
        }
    }

    /// Return what is unusual about the content so far, as it is to be stored.
    pub fn flags(&self) -> ContentFlags {
        match self.line_feeds() {
            None => self.read_flags(),
            // What it had only as it came is told by whatever refuses it.
            Some(line_feeds) => {
                line_feeds.flags() | ContentFlags(self.read_flags().0 & ContentFlags::BARE_CR.0)
            }
        }
    }

    /// Return the size of the message so far (RFC 1870), as it is to be stored.
    pub fn size(&self) -> u64 {
        let size = self.line_feeds().map_or_else(|| self.read_size(), LineFeeds::size);
        size.saturating_sub(self.left_out)
    }

    /// Return how many octets of content are to be stored, dots still stuffed if they came so.
    pub fn wire_size(&self) -> u64 {
        let size = match (self.line_feeds(), &self.reader) {
            (Some(line_feeds), _) => line_feeds.wire_size(),
            (None, Reader::Data(reader)) => reader.wire_size(),
            (None, Reader::Chunks(reader)) => reader.size(),
        };
        size.saturating_sub(self.left_out)
    }

    /// Return what was changed so far.
    pub fn changes(&self) -> Changes {
        let mut changes = Changes::default();
        if self.line_feeds().is_some() && self.read_flags().contains(ContentFlags::BARE_LF) {
            changes |= Changes::LINE_FEEDS;
        }
        if self.left_out > 0 {
            changes |= Changes::BCC;
        }
        changes
    }

    fn line_feeds(&self) -> Option<&LineFeeds> {
        self.rewriting.as_ref().and_then(|rewriting| rewriting.line_feeds())
    }

    /// What is unusual about the content as it came.
    fn read_flags(&self) -> ContentFlags {
        match &self.reader {
            Reader::Data(reader) => reader.flags(),
            Reader::Chunks(reader) => reader.flags(),
        }
    }

    /// The size of the message as it came.
    fn read_size(&self) -> u64 {
        match &self.reader {
            Reader::Data(reader) => reader.size(),
            Reader::Chunks(reader) => reader.size(),
        }
    }

    /// Return what the header section says.
    pub fn finish(self) -> HeaderFacts {
        self.scanner.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::pieces::pieces;
    use crate::smtp::command::MalformedKind;
    use crate::smtp::secret::Secret;
    use proptest::prelude::*;

    fn greeted() -> ServerWire {
        let mut wire = ServerWire::new();
        assert!(wire.replied());
        wire
    }

    #[test]
    fn a_batch_ends_at_a_synchronising_command_and_tells_what_came_behind() {
        for (input, commands, early) in [
            (&b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n"[..], 3, false),
            (b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nx", 3, true),
            (b"EHLO a.example\r\nMAIL FROM:<>\r\n", 1, true),
            (b"NOOP\r\nRSET\r\nVRFY x\r\nNO", 3, false),
            (b"QUIT\r\n\r\n", 1, true),
            (b"LHLO a.example\r\nMAIL FROM:<>\r\n", 1, true),
            (b"STARTTLS\r\nEHLO a\r\n", 1, true),
            (b"DATA now\r\nRSET\r\n", 1, true),
            (b"RCPT TO:<a@b.example>\r\nBDAT 3\r\nabcRSET\r\n", 2, false),
            (b"BDAT 3 LAST\r\n", 1, false),
        ] {
            let mut wire = greeted();
            wire.push(input);
            let batch = wire.next_batch().unwrap();
            assert_eq!((batch.items.len(), batch.early), (commands, early), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn octets_before_the_banner_are_early() {
        let mut wire = ServerWire::new();
        wire.push(b"EHLO a.example\r\n");
        assert!(wire.replied());
        assert!(wire.next_batch().unwrap().early);
        assert!(wire.replied());
        wire.push(b"NOOP\r\n");
        assert!(!wire.next_batch().unwrap().early);
    }

    #[test]
    fn what_follows_a_refused_data_early_cannot_be_read() {
        for (before, behind, can_go_on) in [
            ("DATA\r\n", "x", false),
            ("DATA\r\n", "", true),
            ("RSET\r\n", "x", true),
            ("BDAT 3\r\n", "", false),
        ] {
            let mut wire = greeted();
            wire.push(before.as_bytes());
            assert_eq!(wire.next_batch().unwrap().items.len(), 1);
            wire.push(behind.as_bytes());
            assert_eq!(wire.replied(), can_go_on, "{before:?} {behind:?}");
        }
    }

    #[test]
    fn after_a_challenge_one_line_is_a_response() {
        let mut wire = greeted();
        wire.push(b"AUTH LOGIN\r\n");
        let batch = wire.next_batch().unwrap();
        assert!(matches!(&batch.items[..], [Ok(Command::Auth { initial: None, .. })]));
        assert!(wire.challenged() && wire.is_challenged());
        wire.push(b"dGlt");
        assert_eq!(wire.next_response(), None);
        wire.push(b"\r\n");
        assert_eq!(wire.next_response(), Some((Response::Octets(Secret::new(b"tim".to_vec())), false)));
        assert!(!wire.is_challenged() && wire.is_awaited());
        wire.push(b"*\r\n");
        assert!(!wire.challenged(), "what came before the challenge is no answer to it");
    }

    #[test]
    fn what_comes_behind_a_response_before_its_reply_is_early() {
        let mut wire = greeted();
        wire.push(b"AUTH PLAIN\r\n");
        assert!(wire.next_batch().is_some() && wire.challenged());
        wire.push(b"*\r\nMAIL FROM:<>\r\n");
        assert_eq!(wire.next_response(), Some((Response::Cancel, true)));
        assert!(wire.replied());
        assert!(!wire.next_batch().unwrap().early, "it was told with the response");
    }

    #[test]
    fn a_response_is_at_most_12288_octets_long() {
        for (octets, is_read) in [(12_286, true), (12_287, false), (100_000, false)] {
            let mut wire = greeted();
            wire.push(b"AUTH X\r\n");
            assert!(wire.next_batch().is_some() && wire.challenged());
            let line = [&vec![b'A'; octets][..], b"\r\n"].concat();
            let mut found = None;
            for piece in line.chunks(1000) {
                wire.push(piece);
                found = wire.next_response();
            }
            let kind = if is_read { MalformedKind::Base64 } else { MalformedKind::LineTooLong };
            assert_eq!(found, Some((Response::Malformed(kind), false)), "12286 digits are no whole groups");
            wire.push(&line.repeat(1)[octets..]);
            assert!(wire.replied());
        }
    }

    #[test]
    fn secrets_are_overwritten_when_they_have_been_handed_over() {
        for line in ["AUTH PLAIN AHgAeQ==\r\n", "AUTH PLAIN AHgAeQ=\r\n", "AUTH PLAIN  AHgAeQ==\r\n"] {
            let mut wire = greeted();
            wire.push(format!("{line}NOOP\r\n").as_bytes());
            assert!(wire.next_batch().is_some());
            assert_eq!(wire.lines.memory(), [&vec![0; line.len()][..], b"NOOP\r\n"].concat());
        }
        let mut wire = greeted();
        assert!(wire.challenged());
        wire.push(b"AHgAeQ==\r\nNOOP\r\n");
        assert!(wire.next_response().is_some());
        assert_eq!(wire.lines.memory(), [&[0; 10][..], b"NOOP\r\n"].concat());
    }

    #[test]
    fn what_waits_is_not_printed() {
        let mut wire = greeted();
        wire.push(b"AUTH PLAIN AHgAeQ==");
        let (text, secret) = (format!("{wire:?}"), format!("{:?}", b"AHgAeQ=="));
        assert!(!text.contains(secret.trim_matches(['[', ']'])) && !text.contains("AHgAeQ"));
    }

    #[test]
    fn a_batch_has_at_most_64_commands_or_16_kib() {
        let mut wire = greeted();
        wire.push(&b"NOOP\r\n".repeat(65));
        assert_eq!(wire.next_batch().unwrap().items.len(), 64);
        assert_eq!(wire.next_batch().unwrap().items.len(), 1);
        let mut wire = greeted();
        wire.push(&[b"NOOP ".as_slice(), &[b'x'; 1017], b"\r\n"].concat().repeat(20));
        assert_eq!(wire.next_batch().unwrap().items.len(), 16);
    }

    #[test]
    fn faults_of_content_are_told_by_rank() {
        let mut intake = Intake::new(4, 1000);
        assert!(!intake.push(b"..x\r\n").end);
        assert_eq!((intake.size(), intake.wire_size(), intake.fault()), (4, 5, None));
        assert!(!intake.push(b"y").end);
        assert_eq!(intake.fault(), Some(IntakeFault::TooLarge));
        assert!(!intake.push(b"\0").end);
        assert_eq!(intake.fault(), Some(IntakeFault::Nul));
        assert!(!intake.push(b"\n").end);
        assert_eq!(intake.fault(), Some(IntakeFault::BadLineEnding));
        let step = intake.push(b"\r\n.\r\nQUIT\r\n");
        assert!(step.end && step.consumed == 5);
    }

    #[test]
    fn content_in_chunks_may_be_binary_if_that_was_said() {
        for (is_binary, fault) in [(false, Some(IntakeFault::BadLineEnding)), (true, None)] {
            let mut intake = Intake::in_chunks(is_binary, 100, 1000);
            assert!(!intake.begin_chunk(4, false));
            assert!(intake.push(b"a\nb\r").end);
            assert!(!intake.begin_chunk(2, true));
            let step = intake.push(b"\n.\r\n.\r\n");
            assert_eq!((step.consumed, step.end), (2, true));
            assert_eq!((intake.size(), intake.wire_size(), intake.fault()), (6, 6, fault));
        }
    }

    #[test]
    fn chunks_may_have_as_many_octets_as_the_limit_together() {
        for (second, fault) in [(2, None), (3, Some(IntakeFault::TooLarge))] {
            let mut intake = Intake::in_chunks(false, 5, 1000);
            assert!(!intake.begin_chunk(3, false));
            assert!(intake.push(b"abc").end);
            assert!(!intake.begin_chunk(second, false));
            assert!(intake.push(&b"def"[..second as usize]).end);
            assert!(intake.begin_chunk(0, true));
            assert_eq!(intake.fault(), fault);
        }
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same_commands(
            parts in prop::collection::vec(prop::sample::select(vec![
                "\r\n", "NOOP\r\n", "DATA\r\n", "EHLO a\r\n", "MAIL FROM:<>\r\n", "x\n", "BDAT 3\r\n", "\r", "AUTH X AA==\r\n",
            ]), 0..40),
            sizes in prop::collection::vec(1_usize..30, 1..6),
        ) {
            let input = parts.concat().into_bytes();
            let read = |pieces: Vec<&[u8]>| {
                let mut wire = greeted();
                let mut items = Vec::new();
                for piece in pieces {
                    wire.push(piece);
                    while let Some(batch) = wire.next_batch() {
                        items.extend(batch.items);
                        let _ = wire.replied();
                    }
                }
                items
            };
            prop_assert_eq!(read(pieces(&input, &sizes)), read(vec![&input]));
        }
    }
}
