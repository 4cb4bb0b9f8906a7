//! Replies (RFC 5321 4.2), read as a client and written as a server.
//!
//! Reading is strict where two sides could disagree on where a reply ends, and forgiving elsewhere: a line ends with
//! CRLF only; lines that are too long or too many are cut, and their code still counts; codes of one reply may differ
//! while their first digit, which decides (RFC 5321 4.2.1), is the same.

use super::framing::LineCutter;
use super::limits::{REPLY_LINE_ACCEPTED_MAX, REPLY_LINE_MAX, REPLY_LINES_MAX, REPLY_MAX};

/// What a server has answered.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Reply {
    /// The code of the last line, 200 to 599.
    pub code: u16,
    /// The enhanced status code (RFC 3463) that the text begins with, if its class is that of the code.
    pub enhanced: Option<String>,
    /// The text of each line without the codes: printable, cut at 2,048 octets a line and 256 lines.
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
        if reply.lines.len() < REPLY_LINES_MAX {
            reply.lines.push(printable(text));
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

/// Decode a text from the network so that it can be logged and shown: one line, UTF-8, no control characters.
pub(crate) fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    if text.chars().any(char::is_control) { text.replace(char::is_control, "?") } else { text.into_owned() }
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
