//! Replies (RFC 5321 4.2), read as a client and written as a server.
//!
//! Reading is strict where two sides could disagree on where a reply ends, and forgiving elsewhere: a line ends with
//! CRLF only; lines that are too long or too many are cut, and their code still counts; codes of one reply may differ
//! while their first digit, which decides (RFC 5321 4.2.1), is the same.

use super::framing::LineCutter;
use super::limits::{REPLY_LINE_ACCEPTED_MAX, REPLY_LINE_MAX, REPLY_LINES_MAX, REPLY_MAX, REPLY_TEXT_MAX};
use crate::text::printable;

/// What a server has answered.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Reply {
    /// The code of the last line, 200 to 599.
    pub code: u16,
    /// The enhanced status code (RFC 3463) that the text begins with, if its class is that of the code.
    pub enhanced: Option<String>,
    /// The text of each line without the codes: printable, cut at 2,048 octets a line, 256 lines and 4 KiB.
    pub lines: Vec<String>,
}

/// Why what a server sends cannot be read as replies. Nothing after it can be trusted.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum ReplyError {
    /// A line does not begin with a reply code.
    #[error("not an SMTP reply")]
    NotAReply,
    /// The lines of one reply have codes of different classes.
    #[error("a reply with contradictory codes")]
    Contradictory,
    /// One reply exceeds its limit.
    #[error("a reply of more than {REPLY_MAX} octets")]
    TooLong,
}

impl ReplyError {
    /// Return the name in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAReply => "not_a_reply",
            Self::Contradictory => "contradictory",
            Self::TooLong => "too_long",
        }
    }
}

/// Reads replies from the octets of a server: push what has come, pull what is complete.
#[derive(Debug)]
pub struct ReplyParser {
    cutter: LineCutter,
    /// The reply whose last line has not come.
    partial: Option<Reply>,
    /// Octets of the complete lines of `partial`.
    partial_octets: usize,
    failed: Option<ReplyError>,
}

impl Default for ReplyParser {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyParser {
    /// Make a parser that expects the first octet of a reply.
    pub const fn new() -> Self {
        Self {
            cutter: LineCutter::new(REPLY_LINE_ACCEPTED_MAX),
            partial: None,
            partial_octets: 0,
            failed: None,
        }
    }

    /// Add octets that have arrived.
    pub fn push(&mut self, input: &[u8]) {
        self.cutter.push(input);
    }

    /// Whether everything that was pushed has been pulled.
    pub fn is_empty(&self) -> bool {
        self.partial.is_none() && self.cutter.unfinished_octets() == 0
    }

    /// Take the next complete reply; `None` when there is none yet.
    ///
    /// # Errors
    /// The server does not speak SMTP; the same error is returned ever after.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.pull().inspect_err(|error| self.failed = Some(*error))
    }

    fn pull(&mut self) -> Result<Option<Reply>, ReplyError> {
        while let Some(line) = self.cutter.next_line() {
            self.partial_octets += line.octets;
            if self.partial_octets > REPLY_MAX {
                return Err(ReplyError::TooLong);
            }
            let line = ReplyLine::parse(line.head)?;
            let mut reply = self.partial.take().unwrap_or_else(|| line.new_reply());
            line.add_to(&mut reply)?;
            if line.is_last {
                self.partial_octets = 0;
                return Ok(Some(reply));
            }
            self.partial = Some(reply);
        }
        if self.partial_octets + self.cutter.unfinished_octets() > REPLY_MAX {
            return Err(ReplyError::TooLong);
        }
        Ok(None)
    }
}

/// One line: `Reply-code ( "-" / SP ) [ text ]`, or a code alone, which clients must accept (RFC 5321 4.2).
struct ReplyLine<'a> {
    code: u16,
    is_last: bool,
    text: &'a [u8],
}

impl<'a> ReplyLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, ReplyError> {
        let (code, behind) = line.split_first_chunk::<3>().ok_or(ReplyError::NotAReply)?;
        if !matches!(code, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']) {
            return Err(ReplyError::NotAReply);
        }
        let (is_last, text) = match behind {
            [] => (true, behind),
            [b' ', text @ ..] => (true, text),
            [b'-', text @ ..] => (false, text),
            _ => return Err(ReplyError::NotAReply),
        };
        let code = code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        Ok(Self { code, is_last, text })
    }

    fn new_reply(&self) -> Reply {
        Reply { code: self.code, enhanced: None, lines: Vec::new() }
    }

    fn add_to(&self, reply: &mut Reply) -> Result<(), ReplyError> {
        if reply.code / 100 != self.code / 100 {
            return Err(ReplyError::Contradictory);
        }
        reply.code = self.code;
        let mut text = self.text;
        if let Some((enhanced, behind)) = split_enhanced(self.text, self.code) {
            // A second one that differs is left in the text, so that nothing the server said is hidden.
            if reply.enhanced.get_or_insert_with(|| enhanced.to_owned()) == enhanced {
                text = behind;
            }
        }
        // Whole lines only: half of an extension's would say something else.
        let kept: usize = reply.lines.iter().map(String::len).sum();
        let fits = reply.lines.is_empty() || kept + text.len() <= REPLY_TEXT_MAX;
        if fits && reply.lines.len() < REPLY_LINES_MAX {
            reply.lines.push(printable(text.to_vec()));
        }
        Ok(())
    }
}

/// Split an enhanced status code of the class of `code` off the beginning of a text (RFC 2034 4, RFC 3463 2).
fn split_enhanced(text: &[u8], code: u16) -> Option<(&str, &[u8])> {
    let end = text.iter().position(|&octet| octet == b' ').unwrap_or(text.len());
    let (word, behind) = text.split_at_checked(end)?;
    let word = str::from_utf8(word).ok()?;
    let mut parts = word.split('.');
    let class = parts.next()?;
    let is_number =
        |part: &str| matches!(part.len(), 1..=3) && part.bytes().all(|octet| octet.is_ascii_digit());
    let is_enhanced = class.len() == 1
        && class.parse() == Ok(code / 100)
        && parts.next().is_some_and(is_number)
        && parts.next().is_some_and(is_number)
        && parts.next().is_none();
    is_enhanced.then(|| (word, behind.strip_prefix(b" ").unwrap_or(behind)))
}

/// Write a reply; no line at all gives one line with the code alone.
///
/// What may not stand in a line (RFC 5321 4.2: printable US-ASCII) becomes "?", and a line is cut at
/// [`REPLY_LINE_MAX`], so that no text can end a reply early or begin another.
pub fn encode_reply(code: u16, enhanced: Option<&str>, lines: &[&str]) -> Vec<u8> {
    debug_assert!((200..600).contains(&code), "{code} is no reply code");
    let lines = if lines.is_empty() { &[""] } else { lines };
    let mut out = Vec::with_capacity(lines.iter().map(|line| line.len() + 16).sum());
    for (index, line) in lines.iter().enumerate() {
        let separator = if index + 1 < lines.len() { '-' } else { ' ' };
        let mut head = format!("{code}{separator}");
        if let Some(enhanced) = enhanced {
            head.push_str(enhanced);
            head.push(' ');
        }
        let text = head.bytes().chain(line.bytes()).take(REPLY_LINE_MAX - 2);
        out.extend(text.map(|octet| if matches!(octet, b' '..=b'~') { octet } else { b'?' }));
        while out.ends_with(b" ") {
            out.pop();
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::pieces::pieces;
    use proptest::prelude::*;

    fn replies<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Reply>, Option<ReplyError>) {
        let mut parser = ReplyParser::new();
        let mut replies = Vec::new();
        for piece in pieces {
            parser.push(piece);
            loop {
                match parser.next_reply() {
                    Ok(Some(reply)) => replies.push(reply),
                    Ok(None) => break,
                    Err(error) => return (replies, Some(error)),
                }
            }
        }
        (replies, None)
    }

    fn reply(code: u16, enhanced: Option<&str>, lines: &[&str]) -> Reply {
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        Reply { code, enhanced: enhanced.map(str::to_owned), lines }
    }

    #[test]
    fn replies_are_read() {
        for (input, expected) in [
            ("250 ok\r\n", reply(250, None, &["ok"])),
            ("250\r\n", reply(250, None, &[""])),
            ("354 \r\n", reply(354, None, &[""])),
            ("250 2.1.0 ok\r\n", reply(250, Some("2.1.0"), &["ok"])),
            ("550 5.7.1\r\n", reply(550, Some("5.7.1"), &[""])),
            ("550 5.7.606 no\r\n", reply(550, Some("5.7.606"), &["no"])),
            ("550 4.7.1 no\r\n", reply(550, None, &["4.7.1 no"])),
            ("550 5.7.1234 no\r\n", reply(550, None, &["5.7.1234 no"])),
            ("550 5.7 no\r\n", reply(550, None, &["5.7 no"])),
            ("550 5.7.1.2 no\r\n", reply(550, None, &["5.7.1.2 no"])),
            ("550 5..1 no\r\n", reply(550, None, &["5..1 no"])),
            ("250-me\r\n250-SIZE 10\r\n250 DSN\r\n", reply(250, None, &["me", "SIZE 10", "DSN"])),
            ("250-a\r\n250\r\n", reply(250, None, &["a", ""])),
            ("550-5.1.1 a\r\n550 5.1.1 b\r\n", reply(550, Some("5.1.1"), &["a", "b"])),
            ("550-5.1.1 a\r\n550 5.1.2 b\r\n", reply(550, Some("5.1.1"), &["a", "5.1.2 b"])),
            ("550-a\r\n550 5.1.1 b\r\n", reply(550, Some("5.1.1"), &["a", "b"])),
            ("550-a\r\n554 b\r\n", reply(554, None, &["a", "b"])),
            ("250 a\nb\rc\td\r\n", reply(250, None, &["a?b?c d"])),
            ("250 ä\r\n", reply(250, None, &["ä"])),
        ] {
            assert_eq!(replies([input.as_bytes()]), (vec![expected], None), "{input:?}");
        }
        assert_eq!(replies([&b"250 \xff\r\n"[..]]).0, [reply(250, None, &["\u{fffd}"])]);
    }

    #[test]
    fn other_lines_are_no_replies() {
        for input in
            ["\r\n", "25\r\n", "150 x\r\n", "600 x\r\n", "250x\r\n", "25a x\r\n", " 250 x\r\n", "250\tx\r\n"]
        {
            assert_eq!(replies([input.as_bytes()]), (vec![], Some(ReplyError::NotAReply)), "{input:?}");
        }
        assert_eq!(replies([&b"250-a\r\n250 b\r\nnonsense\r\n"[..]]).1, Some(ReplyError::NotAReply));
        assert_eq!(replies([&b"250-a\r\n550 b\r\n"[..]]).1, Some(ReplyError::Contradictory));
    }

    #[test]
    fn an_error_stays() {
        let mut parser = ReplyParser::new();
        parser.push(b"nonsense\r\n250 ok\r\n");
        assert_eq!(parser.next_reply(), Err(ReplyError::NotAReply));
        assert_eq!(parser.next_reply(), Err(ReplyError::NotAReply));
    }

    #[test]
    fn a_bare_lf_does_not_end_a_reply() {
        assert_eq!(replies([&b"550 no such user: x\n250 ok\r\n"[..]]).0[0].code, 550);
    }

    #[test]
    fn what_was_not_pulled_shows() {
        let mut parser = ReplyParser::new();
        assert!(parser.is_empty());
        for (piece, is_empty) in [(&b"220-a\r\n"[..], false), (b"220 b\r\n", true), (b"2", false)] {
            parser.push(piece);
            parser.next_reply().unwrap();
            assert_eq!(parser.is_empty(), is_empty);
        }
    }

    #[test]
    fn long_lines_are_cut_and_count() {
        let input = format!("550 {}\r\n", "x".repeat(3000));
        for pieces in [vec![input.as_bytes()], input.as_bytes().chunks(9).collect()] {
            let (replies, error) = replies(pieces);
            assert_eq!((replies[0].code, replies[0].lines[0].len(), error), (550, 2042, None));
        }
    }

    #[test]
    fn lines_beyond_the_256th_are_dropped_but_the_last_one_decides() {
        let input = format!("{}554 z\r\n", "550-y\r\n".repeat(300));
        let (replies, error) = replies([input.as_bytes()]);
        assert_eq!((replies[0].code, replies[0].lines.len(), error), (554, 256, None));
    }

    #[test]
    fn whole_lines_are_kept_up_to_4_kib_of_text() {
        let line = |octets: usize| format!("550-{}\r\n", "x".repeat(octets));
        let kept = |input: String| {
            let (replies, error) = replies([input.as_bytes()]);
            assert_eq!((replies[0].code, error), (554, None));
            replies[0].lines.iter().map(String::len).collect::<Vec<_>>()
        };
        let two = line(1500).repeat(2);
        let rest = REPLY_TEXT_MAX - 3000;
        assert_eq!(kept(format!("{two}{}554 z\r\n", line(rest - 1))), [1500, 1500, rest - 1, 1]);
        assert_eq!(kept(format!("{two}{}554 \r\n", line(rest))), [1500, 1500, rest, 0]);
        assert_eq!(kept(format!("{two}{}554 z\r\n", line(rest + 1))), [1500, 1500, 1]);
        assert_eq!(kept(format!("{}554 z\r\n", line(2000).repeat(30))), [2000, 2000, 1]);
    }

    #[test]
    fn a_reply_may_have_64_kib() {
        let at_limit = format!("{}550 z\r\n", "550-12345678901\r\n".repeat(3855)).into_bytes();
        assert_eq!(at_limit.len(), REPLY_MAX + 6);
        assert_eq!(replies([&at_limit[..]]).1, Some(ReplyError::TooLong));
        assert_eq!(replies([&at_limit[17..]]).1, None);
        let endless = vec![b'2'; REPLY_MAX + 1];
        assert_eq!(replies([&endless[..]]).1, Some(ReplyError::TooLong));
        assert_eq!(replies(endless.chunks(999)).1, Some(ReplyError::TooLong));
        assert_eq!(replies([&endless[1..]]).1, None);
        let unfinished = &at_limit[..at_limit.len() - 1];
        assert_eq!(replies(unfinished.chunks(999)).1, Some(ReplyError::TooLong));
        assert_eq!(replies([&b"250 2.0.0 ok\r\n".repeat(5000)[..]]).1, None);
    }

    #[test]
    fn replies_are_written() {
        for (written, expected) in [
            (encode_reply(250, Some("2.0.0"), &["ok"]), "250 2.0.0 ok\r\n"),
            (encode_reply(250, None, &["me", "SIZE 10"]), "250-me\r\n250 SIZE 10\r\n"),
            (encode_reply(250, None, &[]), "250\r\n"),
            (encode_reply(354, None, &[""]), "354\r\n"),
            (encode_reply(550, Some("5.1.1"), &["a", ""]), "550-5.1.1 a\r\n550 5.1.1\r\n"),
            (encode_reply(550, None, &["a\r\n250 b"]), "550 a??250 b\r\n"),
            (encode_reply(550, None, &["ä"]), "550 ??\r\n"),
        ] {
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        }
    }

    #[test]
    fn a_written_line_has_512_octets_at_most() {
        assert_eq!(encode_reply(250, None, &[&"x".repeat(506)]).len(), REPLY_LINE_MAX);
        assert_eq!(encode_reply(250, None, &[&"x".repeat(507)]).len(), REPLY_LINE_MAX);
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same_replies(
            parts in prop::collection::vec(
                prop::sample::select(vec!["\r\n", "\r", "\n", "250 ", "250-", "251-", "550 ", "2.1.0 ", "ä", "x"]), 0..40),
            sizes in prop::collection::vec(1_usize..20, 1..6),
        ) {
            let input = parts.concat().into_bytes();
            prop_assert_eq!(replies(pieces(&input, &sizes)), replies([&input[..]]));
        }

        #[test]
        fn what_is_written_is_read(
            code in 200_u16..600,
            lines in prop::collection::vec("[!-~]([ -~]{0,60}[!-~])?", 1..5),
        ) {
            let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
            let class = code / 100;
            let enhanced = format!("{class}.1.10");
            let written = encode_reply(code, Some(&enhanced), &texts);
            let expected = reply(code, Some(&enhanced), &texts);
            prop_assert_eq!(replies([&written[..]]), (vec![expected], None));
        }
    }
}
