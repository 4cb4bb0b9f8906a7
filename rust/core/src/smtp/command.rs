//! The grammar of commands (RFC 5321 4.1.1), strict.
//!
//! What this module decides is whether a line is a command and what it says. Whether it is in order, offered, or
//! allowed is decided elsewhere. A line holds printable US-ASCII and spaces only, and where RFC 6531 is offered paths and
//! values of parameters may have UTF-8; there is no space after the colon of `MAIL FROM:` and `RCPT TO:`; a parameter
//! comes once. White space at the end of a line is forgiven (RFC 5321 4.1.1).
//!
//! Devices that cannot be changed are read with [`Grammar::is_lenient`], which allows exactly this and nothing else:
//!
//! - spaces behind the colon of `MAIL FROM:` and `RCPT TO:`;
//! - a path without its angle brackets: a mailbox without quotes and source route, which ends at the first space;
//! - any name behind EHLO and HELO, spaces and octets above 127 included, of which what could be misread becomes `-`.

use super::cursor::Cursor;
use super::limits::{DOMAIN_MAX, MECHANISM_MAX, PARAMETERS_MAX};
use super::path::{Path, bare_path, forward_path, reverse_path};
use super::sasl::parse_initial;
use super::secret::Secret;

/// How much of an unknown verb is kept, in octets.
const UNKNOWN_VERB_MAX: usize = 32;

/// A command that a client has sent.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Command {
    /// EHLO, with what the client calls itself.
    Ehlo {
        /// A name or address literal as given; see [`parse_command`] for what may be in it.
        domain: String,
    },
    /// LHLO (RFC 2033 4.1), with what the client calls itself.
    Lhlo {
        /// A name or address literal as given; see [`parse_command`] for what may be in it.
        domain: String,
    },
    /// HELO, with what the client calls itself.
    Helo {
        /// A name or address literal as given; see [`parse_command`] for what may be in it.
        domain: String,
    },
    /// MAIL FROM.
    Mail {
        /// The reverse-path.
        path: Path,
        /// In the order given, no key twice.
        params: Vec<Param>,
    },
    /// RCPT TO.
    Rcpt {
        /// The forward-path.
        path: Path,
        /// In the order given, no key twice.
        params: Vec<Param>,
    },
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP; its argument means nothing.
    Noop,
    /// VRFY.
    Vrfy {
        /// Whom it asks about; not empty.
        arg: String,
    },
    /// EXPN.
    Expn {
        /// The list it asks about; not empty.
        arg: String,
    },
    /// HELP.
    Help {
        /// The topic, or empty.
        arg: String,
    },
    /// QUIT.
    Quit,
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954).
    Auth {
        /// The name of the SASL mechanism, in upper case.
        mechanism: String,
        /// The initial response, decoded, if there was one; may be empty.
        initial: Option<Secret>,
    },
    /// BDAT (RFC 3030).
    Bdat {
        /// Octets of the chunk, which follows at once.
        size: u64,
        /// Whether the content ends with it.
        is_last: bool,
    },
    /// XCLIENT (Postfix): who the peer speaks for.
    Xclient {
        /// At least one, in the order given, no key twice, each with a value, as it stands (xtext).
        attributes: Vec<Param>,
    },
    /// XFORWARD (Postfix): where the next message has come from.
    Xforward {
        /// As of XCLIENT.
        attributes: Vec<Param>,
    },
    /// A line that begins with something else.
    Unknown {
        /// Its first word in upper case, cut at 32 octets.
        verb: String,
    },
}

/// A parameter of MAIL or RCPT, or an attribute of XCLIENT or XFORWARD.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Param {
    /// The esmtp-keyword in upper case.
    pub key: String,
    /// The esmtp-value as given, if there was one.
    pub value: Option<String>,
}

/// The first word of a command.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[allow(missing_docs, reason = "each is what it is called")]
pub enum Verb {
    Ehlo,
    Lhlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    Rset,
    Noop,
    Vrfy,
    Expn,
    Help,
    Quit,
    StartTls,
    Auth,
    Bdat,
    Xclient,
    Xforward,
}

impl Verb {
    /// Return the verb as it stands on the wire, in upper case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ehlo => "EHLO",
            Self::Lhlo => "LHLO",
            Self::Helo => "HELO",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Vrfy => "VRFY",
            Self::Expn => "EXPN",
            Self::Help => "HELP",
            Self::Quit => "QUIT",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Bdat => "BDAT",
            Self::Xclient => "XCLIENT",
            Self::Xforward => "XFORWARD",
        }
    }

    /// Whether its argument may have UTF-8 where RFC 6531 is offered.
    const fn takes_utf8(self) -> bool {
        matches!(self, Self::Mail | Self::Rcpt | Self::Vrfy | Self::Expn)
    }

    /// Return the verb that a line begins with, whatever the rest of the line is like.
    pub fn of_line(line: &[u8]) -> Option<Self> {
        let mut upper = [0; 8];
        let word = line.split(|&octet| octet == b' ').next()?;
        let upper = upper.get_mut(..word.len())?;
        upper.copy_from_slice(word);
        upper.make_ascii_uppercase();
        Some(match &*upper {
            b"EHLO" => Self::Ehlo,
            b"LHLO" => Self::Lhlo,
            b"HELO" => Self::Helo,
            b"MAIL" => Self::Mail,
            b"RCPT" => Self::Rcpt,
            b"DATA" => Self::Data,
            b"RSET" => Self::Rset,
            b"NOOP" => Self::Noop,
            b"VRFY" => Self::Vrfy,
            b"EXPN" => Self::Expn,
            b"HELP" => Self::Help,
            b"QUIT" => Self::Quit,
            b"STARTTLS" => Self::StartTls,
            b"AUTH" => Self::Auth,
            b"BDAT" => Self::Bdat,
            b"XCLIENT" => Self::Xclient,
            b"XFORWARD" => Self::Xforward,
            _ => return None,
        })
    }
}

/// What is wrong with a line.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum MalformedKind {
    /// Not a command at all, or not the form of this one; also a control character.
    Syntax,
    /// An argument is missing, or one too many, or not of its kind.
    Argument,
    /// The path of MAIL or RCPT is not one.
    Path,
    /// The path, its local-part, domain or a label is longer than its limit.
    PathTooLong,
    /// A parameter is not of the form KEY or KEY=value, comes twice, or is one too many.
    Parameter,
    /// The line is longer than its limit; it was read to its end and dropped.
    LineTooLong,
    /// A CR that no LF follows.
    BareCr,
    /// An LF that no CR precedes.
    BareLf,
    /// An octet of value zero.
    Nul,
    /// An octet above 127.
    NotAscii,
    /// A response of an authentication exchange that is not base64.
    Base64,
}

impl MalformedKind {
    /// Return the name in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Argument => "argument",
            Self::Path => "path",
            Self::PathTooLong => "path_too_long",
            Self::Parameter => "parameter",
            Self::LineTooLong => "line_too_long",
            Self::BareCr => "bare_cr",
            Self::BareLf => "bare_lf",
            Self::Nul => "nul",
            Self::NotAscii => "not_ascii",
            Self::Base64 => "base64",
        }
    }

    /// Tell what is wrong with an octet that may not stand in a line.
    pub(super) const fn of_octet(octet: u8) -> Self {
        match octet {
            0 => Self::Nul,
            b'\r' => Self::BareCr,
            b'\n' => Self::BareLf,
            0x80.. => Self::NotAscii,
            _ => Self::Syntax,
        }
    }
}

/// A line that is not a command: a peer's mistake, to be answered, not an error of ours.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Malformed {
    /// What is wrong.
    pub kind: MalformedKind,
    /// Where in the line reading stopped, in octets.
    pub offset: u32,
    /// What the line began with, if that is known.
    pub verb: Option<Verb>,
}

/// Which characters a line may have.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum Charset {
    /// US-ASCII.
    #[default]
    Ascii,
    /// In MAIL, RCPT, VRFY and EXPN also UTF-8, but for its control characters (RFC 6531 3.3, 3.7.4).
    Utf8,
}

/// How lines are read.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Grammar {
    /// Which characters they may have.
    pub charset: Charset,
    /// Whether what the module's first paragraph lists is allowed.
    pub is_lenient: bool,
}

impl Grammar {
    /// US-ASCII, and no mistakes.
    pub const STRICT: Self = Self { charset: Charset::Ascii, is_lenient: false };
}

impl From<Charset> for Grammar {
    fn from(charset: Charset) -> Self {
        Self { charset, ..Self::STRICT }
    }
}

/// Read a line, without its CRLF, as a command in US-ASCII; [`parse_command_in`] has the rest.
///
/// # Errors
/// The line is no well-formed command.
pub fn parse_command(line: &[u8]) -> Result<Command, Malformed> {
    parse_command_in(Grammar::STRICT, line)
}

/// Read a line, without its CRLF, as a command.
///
/// The argument of EHLO and HELO is one word of at most 255 octets without any of `()<>"\,;`.
/// RFC 5321 4.1.1.1 deviation: it need not be a domain or address literal, because devices are called what they are
/// called; what is refused would be misread in a Received field.
///
/// # Errors
/// The line is no well-formed command; a well-formed one with another verb is [`Command::Unknown`].
pub fn parse_command_in(grammar: impl Into<Grammar>, line: &[u8]) -> Result<Command, Malformed> {
    let Grammar { charset, is_lenient } = grammar.into();
    let mut line = line;
    while let [head @ .., b' ' | b'\t'] = line {
        line = head;
    }
    let verb = Verb::of_line(line);
    let fault = |kind, offset: usize| Malformed { kind, offset: offset as u32, verb };
    if let Some(Verb::Ehlo | Verb::Helo) = verb
        && is_lenient
    {
        let domain = lenient_name(line).map_err(|(kind, offset)| fault(kind, offset))?;
        let is_ehlo = verb == Some(Verb::Ehlo);
        return Ok(if is_ehlo { Command::Ehlo { domain } } else { Command::Helo { domain } });
    }
    let unprintable = line.iter().enumerate().find(|(_, octet)| !matches!(octet, b' '..=b'~'));
    let is_ours = |octet: u8| charset == Charset::Utf8 && octet >= 0x80 && verb.is_some_and(Verb::takes_utf8);
    if let Some((offset, &octet)) = unprintable
        && !is_ours(octet)
    {
        return Err(fault(MalformedKind::of_octet(octet), offset));
    }
    let text = str::from_utf8(line).map_err(|error| fault(MalformedKind::NotAscii, error.valid_up_to()))?;
    if unprintable.is_some()
        && let Some((offset, _)) = text.char_indices().find(|&(_, character)| is_unsafe(character))
    {
        return Err(fault(MalformedKind::of_octet(line.get(offset).copied().unwrap_or_default()), offset));
    }
    let mut cursor = Cursor::new(text);
    let word = cursor.eat_while(|octet| octet != b' ');
    if word.is_empty() {
        return Err(fault(MalformedKind::Syntax, 0));
    }
    let Some(verb) = verb else {
        let verb = word.chars().take(UNKNOWN_VERB_MAX).collect::<String>().to_ascii_uppercase();
        return Ok(Command::Unknown { verb });
    };
    arguments(verb, is_lenient, &mut cursor).map_err(|kind| fault(kind, cursor.at()))
}

/// Whether a character could break a line of a log or a report: control characters, and what ends lines elsewhere.
fn is_unsafe(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Read what follows the verb.
fn arguments(verb: Verb, is_lenient: bool, cursor: &mut Cursor<'_>) -> Result<Command, MalformedKind> {
    match verb {
        Verb::Xclient => return Ok(Command::Xclient { attributes: attributes(cursor)? }),
        Verb::Xforward => return Ok(Command::Xforward { attributes: attributes(cursor)? }),
        _ => {}
    }
    let has_argument = cursor.eat(b' ');
    Ok(match verb {
        Verb::Ehlo => Command::Ehlo { domain: client_name(cursor)? },
        Verb::Lhlo => Command::Lhlo { domain: client_name(cursor)? },
        Verb::Helo => Command::Helo { domain: client_name(cursor)? },
        Verb::Mail => {
            keyword(cursor, "FROM:")?;
            let path = if is_lenient { lenient_path(cursor, reverse_path)? } else { reverse_path(cursor)? };
            Command::Mail { path, params: params(cursor)? }
        }
        Verb::Rcpt => {
            keyword(cursor, "TO:")?;
            let path = if is_lenient { lenient_path(cursor, forward_path)? } else { forward_path(cursor)? };
            Command::Rcpt { path, params: params(cursor)? }
        }
        Verb::Vrfy | Verb::Expn if cursor.is_at_end() => return Err(MalformedKind::Argument),
        Verb::Vrfy => Command::Vrfy { arg: cursor.rest().to_owned() },
        Verb::Expn => Command::Expn { arg: cursor.rest().to_owned() },
        Verb::Help => Command::Help { arg: cursor.rest().to_owned() },
        Verb::Noop => Command::Noop,
        Verb::Auth => auth(cursor)?,
        Verb::Bdat => chunk(cursor)?,
        Verb::Xclient | Verb::Xforward => return Err(MalformedKind::Argument),
        Verb::Data | Verb::Rset | Verb::Quit | Verb::StartTls if has_argument => {
            return Err(MalformedKind::Argument);
        }
        Verb::Data => Command::Data,
        Verb::Rset => Command::Rset,
        Verb::Quit => Command::Quit,
        Verb::StartTls => Command::StartTls,
    })
}

/// Read `chunk-size [ SP end-marker ]` (RFC 3030 2).
///
/// A size that cannot be read or has no room in 64 bits is a fault after which nothing can be read: nobody knows how
/// long the chunk is.
fn chunk(cursor: &mut Cursor<'_>) -> Result<Command, MalformedKind> {
    let digits = cursor.eat_while(|octet| octet.is_ascii_digit());
    let size = digits.parse().map_err(|_| MalformedKind::Argument)?;
    let is_last = cursor.eat(b' ');
    if (is_last && !cursor.eat_word("LAST")) || !cursor.is_at_end() {
        return Err(MalformedKind::Argument);
    }
    Ok(Command::Bdat { size, is_last })
}

/// Read a path behind any number of spaces, with its angle brackets or without.
fn lenient_path(
    cursor: &mut Cursor<'_>,
    strict: fn(&mut Cursor<'_>) -> Result<Path, MalformedKind>,
) -> Result<Path, MalformedKind> {
    let _ = cursor.eat_while(|octet| octet == b' ');
    if cursor.peek() == Some(b'<') { strict(cursor) } else { bare_path(cursor) }
}

/// Whether an octet of a client's name would be misread in a Received field.
const fn is_misread(octet: u8) -> bool {
    matches!(octet, b' ' | b'(' | b')' | b'<' | b'>' | b'"' | b'\\' | b',' | b';')
}

/// Read the name in an EHLO or HELO, whatever it is, as one word; an octet that no word may have becomes `-`.
fn lenient_name(line: &[u8]) -> Result<String, (MalformedKind, usize)> {
    // The verb has four octets.
    let name = line.get(4..).unwrap_or_default().trim_ascii_start();
    let start = line.len() - name.len();
    let control = line.iter().position(u8::is_ascii_control);
    if let Some(offset) = control {
        return Err((MalformedKind::of_octet(line.get(offset).copied().unwrap_or_default()), offset));
    }
    if name.is_empty() || name.len() > DOMAIN_MAX {
        return Err((MalformedKind::Argument, start));
    }
    let word = |&octet: &u8| if is_misread(octet) || octet >= 0x80 { '-' } else { char::from(octet) };
    Ok(name.iter().map(word).collect())
}

fn client_name(cursor: &mut Cursor<'_>) -> Result<String, MalformedKind> {
    let name = cursor.eat_while(|octet| !is_misread(octet));
    if name.is_empty() || name.len() > DOMAIN_MAX || !cursor.is_at_end() {
        return Err(MalformedKind::Argument);
    }
    Ok(name.to_owned())
}

/// Read `mechanism [SP initial-response]` (RFC 4954 4).
fn auth(cursor: &mut Cursor<'_>) -> Result<Command, MalformedKind> {
    let is_of_name = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
    let mechanism = cursor.eat_while(is_of_name).to_ascii_uppercase();
    if mechanism.is_empty() || mechanism.len() > MECHANISM_MAX {
        return Err(MalformedKind::Argument);
    }
    if cursor.is_at_end() {
        return Ok(Command::Auth { mechanism, initial: None });
    }
    if !cursor.eat(b' ') || cursor.is_at_end() || cursor.rest().contains(' ') {
        return Err(MalformedKind::Argument);
    }
    let initial = parse_initial(cursor.rest().as_bytes())?;
    Ok(Command::Auth { mechanism, initial: Some(initial) })
}

fn keyword(cursor: &mut Cursor<'_>, word: &str) -> Result<(), MalformedKind> {
    if cursor.is_at_end() {
        return Err(MalformedKind::Argument);
    }
    if cursor.eat_word(word) { Ok(()) } else { Err(MalformedKind::Syntax) }
}

/// Read `*(SP esmtp-param)` to the end of the line (RFC 5321 4.1.2).
fn params(cursor: &mut Cursor<'_>) -> Result<Vec<Param>, MalformedKind> {
    let mut params: Vec<Param> = Vec::new();
    while !cursor.is_at_end() {
        // What follows the bracket directly is a fault of the path, not of a parameter.
        if !cursor.eat(b' ') {
            return Err(if params.is_empty() { MalformedKind::Path } else { MalformedKind::Parameter });
        }
        let key =
            cursor.eat_while(|octet| octet.is_ascii_alphanumeric() || octet == b'-').to_ascii_uppercase();
        if key.is_empty() || key.starts_with('-') || params.iter().any(|param| param.key == key) {
            return Err(MalformedKind::Parameter);
        }
        let value = if cursor.eat(b'=') {
            let value = cursor.eat_while(|octet| octet != b' ' && octet != b'=');
            if value.is_empty() {
                return Err(MalformedKind::Parameter);
            }
            Some(value.to_owned())
        } else {
            None
        };
        if params.len() == PARAMETERS_MAX {
            return Err(MalformedKind::Parameter);
        }
        params.push(Param { key, value });
    }
    Ok(params)
}

/// Read `1*(SP name "=" value)` to the end of the line (Postfix, `XCLIENT_README`).
fn attributes(cursor: &mut Cursor<'_>) -> Result<Vec<Param>, MalformedKind> {
    let attributes = params(cursor)?;
    if attributes.is_empty() {
        return Err(MalformedKind::Argument);
    }
    if attributes.iter().any(|attribute| attribute.value.is_none()) {
        return Err(MalformedKind::Parameter);
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const LENIENT: Grammar = Grammar { charset: Charset::Ascii, is_lenient: true };

    fn mail(address: &str, domain: &str, params: &[(&str, Option<&str>)]) -> Command {
        let path = Path { address: address.to_owned(), domain: domain.to_owned() };
        Command::Mail { path, params: self::params(params) }
    }

    fn params(params: &[(&str, Option<&str>)]) -> Vec<Param> {
        let param = |&(key, value): &(&str, Option<&str>)| Param {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        };
        params.iter().map(param).collect()
    }

    fn auth(mechanism: &str, initial: Option<&[u8]>) -> Command {
        let initial = initial.map(|octets| Secret::new(octets.to_vec()));
        Command::Auth { mechanism: mechanism.to_owned(), initial }
    }

    fn fault(line: &[u8]) -> (MalformedKind, u32, Option<Verb>) {
        let malformed = parse_command(line).expect_err("malformed");
        (malformed.kind, malformed.offset, malformed.verb)
    }

    #[test]
    fn commands_are_read_in_any_case() {
        let name = || "client.example".to_owned();
        let table: [(&[u8], Command); 26] = [
            (b"lhlo client.example", Command::Lhlo { domain: name() }),
            (b"EHLO client.example", Command::Ehlo { domain: name() }),
            (b"ehlo client.example", Command::Ehlo { domain: name() }),
            (b"HELO client.example", Command::Helo { domain: name() }),
            (b"EHLO [IPv6:::1]", Command::Ehlo { domain: "[IPv6:::1]".to_owned() }),
            (b"EHLO MY_PC", Command::Ehlo { domain: "MY_PC".to_owned() }),
            (b"DATA", Command::Data),
            (b"dAtA \t ", Command::Data),
            (b"RSET", Command::Rset),
            (b"NOOP whatever it is", Command::Noop),
            (b"VRFY <a b>", Command::Vrfy { arg: "<a b>".to_owned() }),
            (b"EXPN list", Command::Expn { arg: "list".to_owned() }),
            (b"HELP", Command::Help { arg: String::new() }),
            (b"QUIT", Command::Quit),
            (b"STARTTLS", Command::StartTls),
            (b"AUTH PLAIN AHgAeQ==", auth("PLAIN", Some(b"\0x\0y"))),
            (b"auth login", auth("LOGIN", None)),
            (b"AUTH PLAIN =", auth("PLAIN", Some(b""))),
            (b"AUTH SCRAM-SHA-256_PLUSS  ", auth("SCRAM-SHA-256_PLUSS", None)),
            (b"BDAT 10 LAST", Command::Bdat { size: 10, is_last: true }),
            (b"bdat 0 last", Command::Bdat { size: 0, is_last: true }),
            (b"BDAT 18446744073709551615", Command::Bdat { size: u64::MAX, is_last: false }),
            (b"BDAT 0000000000000000000000000000001 ", Command::Bdat { size: 1, is_last: false }),
            (
                b"XCLIENT ADDR=192.0.2.1 name=[UNAVAILABLE]",
                Command::Xclient {
                    attributes: params(&[("ADDR", Some("192.0.2.1")), ("NAME", Some("[UNAVAILABLE]"))]),
                },
            ),
            (
                b"xclient addr=IPV6:2001:db8::1",
                Command::Xclient { attributes: params(&[("ADDR", Some("IPV6:2001:db8::1"))]) },
            ),
            (
                b"XFORWARD HELO=a+20b SOURCE=LOCAL",
                Command::Xforward {
                    attributes: params(&[("HELO", Some("a+20b")), ("SOURCE", Some("LOCAL"))]),
                },
            ),
        ];
        for (line, command) in table {
            assert_eq!(parse_command(line), Ok(command), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn what_begins_with_another_word_is_unknown() {
        for (line, verb) in [
            (&b"GET / HTTP/1.1"[..], "GET"),
            (b"MAILFROM:<a@b>", "MAILFROM:<A@B>"),
            (b"x", "X"),
            (&[b'y'; 100], &"Y".repeat(32)),
        ] {
            assert_eq!(parse_command(line), Ok(Command::Unknown { verb: verb.to_owned() }));
        }
    }

    #[test]
    fn parameters_follow_the_path() {
        assert_eq!(parse_command(b"MAIL FROM:<a@b.example>"), Ok(mail("a@b.example", "b.example", &[])));
        assert_eq!(parse_command(b"mail from:<>"), Ok(mail("", "", &[])));
        assert_eq!(
            parse_command(b"MAIL FROM:<> SIZE=10 body=8BITMIME X-a AUTH=<> ENVID=a+3Db"),
            Ok(mail(
                "",
                "",
                &[
                    ("SIZE", Some("10")),
                    ("BODY", Some("8BITMIME")),
                    ("X-A", None),
                    ("AUTH", Some("<>")),
                    ("ENVID", Some("a+3Db")),
                ]
            ))
        );
        let rcpt = parse_command(b"RCPT TO:<A@B> NOTIFY=NEVER ORCPT=rfc822;a@b");
        let path = Path { address: "A@B".to_owned(), domain: "b".to_owned() };
        let params = params(&[("NOTIFY", Some("NEVER")), ("ORCPT", Some("rfc822;a@b"))]);
        assert_eq!(rcpt, Ok(Command::Rcpt { path, params }));
    }

    #[test]
    fn malformed_lines_say_what_and_where() {
        use MalformedKind::{Argument, BareCr, BareLf, NotAscii, Nul, Parameter, Syntax};
        let table: [(&[u8], MalformedKind, u32, Option<Verb>); 60] = [
            (b"LHLO", Argument, 4, Some(Verb::Lhlo)),
            (b"XCLIENT", Argument, 7, Some(Verb::Xclient)),
            (b"XCLIENT ADDR", Parameter, 12, Some(Verb::Xclient)),
            (b"XFORWARD ADDR=a ADDR=b", Parameter, 20, Some(Verb::Xforward)),
            (b"XFORWARD =b", Parameter, 9, Some(Verb::Xforward)),
            (b"AUTH", Argument, 4, Some(Verb::Auth)),
            (b"AUTH  PLAIN", Argument, 5, Some(Verb::Auth)),
            (b"AUTH PLAIN!", Argument, 10, Some(Verb::Auth)),
            (b"AUTH X23456789012345678901", Argument, 26, Some(Verb::Auth)),
            (b"AUTH PLAIN  AA==", Argument, 11, Some(Verb::Auth)),
            (b"AUTH PLAIN AA== AA==", Argument, 11, Some(Verb::Auth)),
            (b"AUTH PLAIN *", MalformedKind::Base64, 11, Some(Verb::Auth)),
            (b"AUTH PLAIN AB==", MalformedKind::Base64, 11, Some(Verb::Auth)),
            (b"AUTH PLAIN \xff===", NotAscii, 11, Some(Verb::Auth)),
            (b"", Syntax, 0, None),
            (b"   ", Syntax, 0, None),
            (b" NOOP", Syntax, 0, None),
            (b"EHLO\tx", Syntax, 4, None),
            (b"NOOP \x1b[0m", Syntax, 5, Some(Verb::Noop)),
            (b"NOOP \x7f", Syntax, 5, Some(Verb::Noop)),
            (b"EHLO", Argument, 4, Some(Verb::Ehlo)),
            (b"EHLO ", Argument, 4, Some(Verb::Ehlo)),
            (b"EHLO a b", Argument, 6, Some(Verb::Ehlo)),
            (b"HELO  a", Argument, 5, Some(Verb::Helo)),
            (b"EHLO a(b", Argument, 6, Some(Verb::Ehlo)),
            (b"DATA x", Argument, 5, Some(Verb::Data)),
            (b"RSET x", Argument, 5, Some(Verb::Rset)),
            (b"QUIT now", Argument, 5, Some(Verb::Quit)),
            (b"STARTTLS x", Argument, 9, Some(Verb::StartTls)),
            (b"BDAT", Argument, 4, Some(Verb::Bdat)),
            (b"BDAT LAST", Argument, 5, Some(Verb::Bdat)),
            (b"BDAT -1", Argument, 5, Some(Verb::Bdat)),
            (b"BDAT +1", Argument, 5, Some(Verb::Bdat)),
            (b"BDAT 0x10", Argument, 6, Some(Verb::Bdat)),
            (b"BDAT 1,5", Argument, 6, Some(Verb::Bdat)),
            (b"BDAT 18446744073709551616", Argument, 25, Some(Verb::Bdat)),
            (b"BDAT 99999999999999999999999999999", Argument, 34, Some(Verb::Bdat)),
            (b"BDAT 1  LAST", Argument, 7, Some(Verb::Bdat)),
            (b"BDAT 1LAST", Argument, 6, Some(Verb::Bdat)),
            (b"BDAT 1 FIRST", Argument, 7, Some(Verb::Bdat)),
            (b"BDAT 1 LASTS", Argument, 11, Some(Verb::Bdat)),
            (b"BDAT 1 LAST 2", Argument, 11, Some(Verb::Bdat)),
            (b"VRFY", Argument, 4, Some(Verb::Vrfy)),
            (b"EXPN ", Argument, 4, Some(Verb::Expn)),
            (b"MAIL", Argument, 4, Some(Verb::Mail)),
            (b"RCPT ", Argument, 4, Some(Verb::Rcpt)),
            (b"MAIL TO:<a@b>", Syntax, 5, Some(Verb::Mail)),
            (b"MAIL  FROM:<a@b>", Syntax, 5, Some(Verb::Mail)),
            (b"RCPT FROM:<a@b>", Syntax, 5, Some(Verb::Rcpt)),
            (b"NOOP \rx", BareCr, 5, Some(Verb::Noop)),
            (b"NOOP\r", BareCr, 4, None),
            (b"NOOP x\nQUIT", BareLf, 6, Some(Verb::Noop)),
            (b"MAIL FROM:<a\0@b>", Nul, 12, Some(Verb::Mail)),
            (b"MAIL FROM:<\xc3\xa4@b>", NotAscii, 11, Some(Verb::Mail)),
            (b"MAIL FROM:<a@b> SIZE=", Parameter, 21, Some(Verb::Mail)),
            (b"MAIL FROM:<a@b>  SIZE=1", Parameter, 16, Some(Verb::Mail)),
            (b"MAIL FROM:<a@b> SIZE=1=2", Parameter, 22, Some(Verb::Mail)),
            (b"MAIL FROM:<a@b> -X", Parameter, 18, Some(Verb::Mail)),
            (b"MAIL FROM:<a@b> X_Y=1", Parameter, 17, Some(Verb::Mail)),
            (b"MAIL FROM:<a@b> SIZE=1 size=2", Parameter, 27, Some(Verb::Mail)),
        ];
        for (line, kind, offset, verb) in table {
            assert_eq!(fault(line), (kind, offset, verb), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn utf8_is_read_where_it_is_offered() {
        let read = |line: &str| parse_command_in(Charset::Utf8, line.as_bytes());
        let Ok(Command::Mail { path, params }) = read("MAIL FROM:<J\u{f6}rg@B\u{dc}CHER.example> SMTPUTF8")
        else {
            panic!("not read")
        };
        assert_eq!((&*path.address, &*path.domain), ("J\u{f6}rg@B\u{dc}CHER.example", "b\u{fc}cher.example"));
        assert_eq!(params.len(), 1);
        assert!(matches!(
            read("RCPT TO:<\"\u{4e2d} \\\u{6587}\"@b> ORCPT=utf-8;\u{e4}@b"),
            Ok(Command::Rcpt { .. })
        ));
        assert!(matches!(read("VRFY \u{e4}"), Ok(Command::Vrfy { .. })));
        assert_eq!(read("NOOP \u{e4}").unwrap_err().kind, MalformedKind::NotAscii);
        assert_eq!(read("EHLO \u{e4}").unwrap_err().kind, MalformedKind::NotAscii);
        assert_eq!(read("\u{e4}").unwrap_err().kind, MalformedKind::NotAscii);
        assert_eq!(read("MAIL FROM:<a@b> K\u{e4}=1").unwrap_err().kind, MalformedKind::Parameter);
        for unsafe_character in ["\u{85}", "\u{9b}", "\u{2028}", "\u{2029}"] {
            let line = format!("RCPT TO:<a{unsafe_character}@b>");
            assert_eq!(read(&line).unwrap_err().kind, MalformedKind::NotAscii);
            assert_eq!(read(&line).unwrap_err().offset, 10);
        }
        assert_eq!(read("RCPT TO:<\u{e4}\u{1b}@b>").unwrap_err().kind, MalformedKind::Syntax);
        for line in [&b"MAIL FROM:<\xff@b>"[..], b"MAIL FROM:<\xc3@b>", b"MAIL FROM:<\xed\xa0\x80@b>"] {
            assert_eq!(parse_command_in(Charset::Utf8, line).unwrap_err().kind, MalformedKind::NotAscii);
        }
    }

    #[test]
    fn what_devices_say_is_read_where_that_is_allowed_and_nowhere_else() {
        let lenient = |line: &str| parse_command_in(LENIENT, line.as_bytes());
        for (line, address, count) in [
            ("MAIL FROM: <a@b>", "a@b", 0),
            ("MAIL FROM:a@b", "a@b", 0),
            ("MAIL FROM:   a@b  ", "a@b", 0),
            ("mail from: a.b+c@d-e.example SIZE=1 BODY=8BITMIME", "a.b+c@d-e.example", 2),
            ("MAIL FROM: <>", "", 0),
            ("RCPT TO: a@[192.0.2.1]", "a@[192.0.2.1]", 0),
            ("RCPT TO:a@b NOTIFY=NEVER", "a@b", 1),
        ] {
            let Ok(Command::Mail { path, params } | Command::Rcpt { path, params }) = lenient(line) else {
                panic!("{line}: {:?}", lenient(line))
            };
            assert_eq!((&*path.address, params.len()), (address, count), "{line}");
            assert!(parse_command(line.as_bytes()).is_err(), "{line}");
        }
        for (line, name) in [
            ("EHLO HP LaserJet (2nd floor)", "HP-LaserJet--2nd-floor-"),
            ("HELO  scanner", "scanner"),
            ("EHLO a\"b\\c<d>,e;f", "a-b-c-d--e-f"),
            ("ehlo B\u{fc}ro", "B--ro"),
        ] {
            let Ok(Command::Ehlo { domain } | Command::Helo { domain }) = lenient(line) else {
                panic!("{line}")
            };
            assert_eq!(domain, name);
            assert!(parse_command(line.as_bytes()).is_err(), "{line}");
        }
        assert_eq!(lenient("EHLO a.example"), parse_command(b"EHLO a.example"));
    }

    #[test]
    fn nothing_else_is_allowed_to_devices() {
        for (line, kind) in [
            ("MAIL FROM:", MalformedKind::Path),
            ("MAIL FROM: ", MalformedKind::Path),
            ("MAIL FROM :<a@b>", MalformedKind::Syntax),
            ("MAIL  FROM:<a@b>", MalformedKind::Syntax),
            ("MAIL FROM:<a@b", MalformedKind::Path),
            ("MAIL FROM:a@b>", MalformedKind::Path),
            ("MAIL FROM:a@b,c@d", MalformedKind::Path),
            ("MAIL FROM:a@b c@d", MalformedKind::Parameter),
            ("MAIL FROM:a@b  SIZE=1", MalformedKind::Parameter),
            ("MAIL FROM:a@bSIZE=1", MalformedKind::Path),
            ("MAIL FROM:a@b SIZE=1 SIZE=2", MalformedKind::Parameter),
            ("MAIL FROM:\"a b\"@c", MalformedKind::Path),
            ("MAIL FROM:\"a SIZE=1\"@c", MalformedKind::Path),
            ("MAIL FROM:@x:a@b", MalformedKind::Path),
            ("MAIL FROM:a", MalformedKind::Path),
            ("MAIL FROM:a(b)@c", MalformedKind::Path),
            ("MAIL FROM: <a@b>SIZE=1", MalformedKind::Path),
            ("MAIL FROM:\ta@b", MalformedKind::Syntax),
            ("RCPT TO:", MalformedKind::Path),
            ("RCPT TO: <>", MalformedKind::Path),
            ("RCPT TO:postmaster", MalformedKind::Path),
            ("RCPT TO:a@b\u{1}", MalformedKind::Syntax),
            ("EHLO", MalformedKind::Argument),
            ("HELO   ", MalformedKind::Argument),
            ("EHLO a\u{1b}[0m", MalformedKind::Syntax),
            ("EHLO a\tb", MalformedKind::Syntax),
            ("EHLO a\0", MalformedKind::Nul),
            ("DATA now", MalformedKind::Argument),
            ("NOOP \u{e4}", MalformedKind::NotAscii),
        ] {
            let read = parse_command_in(LENIENT, line.as_bytes());
            assert_eq!(read.unwrap_err().kind, kind, "{line}");
        }
        let name = |octets: usize| format!("EHLO {}", "n ".repeat(octets / 2) + &"n".repeat(octets % 2));
        assert!(parse_command_in(LENIENT, name(255).as_bytes()).is_ok());
        assert!(parse_command_in(LENIENT, name(257).as_bytes()).is_err());
        let path = |octets: usize| {
            format!("RCPT TO:{}@{}{}", "l".repeat(64), "d.".repeat(80), "d".repeat(octets - 225))
        };
        assert_eq!(path(254).len(), 254 + "RCPT TO:".len());
        assert!(parse_command_in(LENIENT, path(254).as_bytes()).is_ok());
        let read = parse_command_in(LENIENT, path(255).as_bytes());
        assert_eq!(read.unwrap_err().kind, MalformedKind::PathTooLong);
    }

    #[test]
    fn client_name_may_have_255_octets() {
        let line = |octets| format!("EHLO {}", "n".repeat(octets)).into_bytes();
        assert!(parse_command(&line(255)).is_ok());
        assert_eq!(fault(&line(256)).0, MalformedKind::Argument);
    }

    #[test]
    fn parameters_may_be_32() {
        let line = |count: usize| {
            let params: Vec<String> = (0..count).map(|index| format!("K{index}=v")).collect();
            format!("RCPT TO:<a@b> {}", params.join(" ")).into_bytes()
        };
        assert!(parse_command(&line(32)).is_ok());
        assert_eq!(fault(&line(33)).0, MalformedKind::Parameter);
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_panic(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_command(&line);
            let _ = parse_command_in(Charset::Utf8, &line);
            let _ = parse_command_in(LENIENT, &line);
        }

        #[test]
        fn what_is_read_strictly_is_read_alike_leniently(
            line in r#"(EHLO|HELO|MAIL FROM:|RCPT TO:)[ <>@a"\\.:,;()=0-]{0,16}( SIZE=1)?"#,
        ) {
            let lenient = parse_command_in(LENIENT, line.as_bytes());
            if let Ok(command) = parse_command(line.as_bytes()) {
                prop_assert_eq!(&lenient, &Ok(command));
            }
            if let Ok(Command::Ehlo { domain } | Command::Helo { domain }) = &lenient {
                prop_assert_eq!(parse_command(format!("EHLO {domain}").as_bytes()).is_ok(), true);
            }
            if let Ok(Command::Mail { path, params }) = lenient {
                // As strict clients would say it.
                let params: String = params.iter().map(|param| match &param.value {
                    Some(value) => format!(" {}={value}", param.key),
                    None => format!(" {}", param.key),
                }).collect();
                let strict = format!("MAIL FROM:<{}>{params}", path.address);
                prop_assert!(parse_command(strict.as_bytes()).is_ok(), "{}", strict);
            }
        }

        #[test]
        fn lines_near_utf8_are_read_without_panic(
            line in "(MAIL FROM:|RCPT TO:|VRFY )[<>@a\"\\\\.=; \u{80}-\u{9f}\u{e4}\u{4e2d}\u{1f4e7}]{0,24}",
            cut: prop::sample::Index,
        ) {
            let cut = cut.index(line.len() + 1);
            for line in [line.as_bytes(), line.as_bytes().get(..cut).unwrap()] {
                if let Err(malformed) = parse_command_in(Charset::Utf8, line) {
                    prop_assert!(malformed.offset as usize <= line.len());
                }
            }
        }

        #[test]
        fn near_commands_are_read_without_panic(
            line in r#"(EHLO|MAIL FROM:|RCPT TO:|VRFY)[ <>@a"\\\[\]:.,IPv6=0-]{0,24}"#,
            cut: prop::sample::Index,
        ) {
            let line = line.as_bytes();
            let cut = cut.index(line.len() + 1);
            for line in [line, line.get(..cut).unwrap()] {
                if let Err(malformed) = parse_command(line) {
                    prop_assert!(malformed.offset as usize <= line.len());
                }
            }
        }
    }
}
