//! What must hold for every parser of octets from the network, whatever the octets are.
//!
//! Each function takes one input, whose first octet says into pieces of what size the rest is cut, and panics when a
//! promise is broken: the pieces never matter, what is kept is bounded, and text that comes out is printable.

use penstock_core::flow::{Changes, ContentFlags};
use penstock_core::message::header::{HeaderFacts, HeaderScanner};
use penstock_core::proxy::{HEADER_MAX, ProxyFault, ProxyHeader, ProxyReader};
use penstock_core::smtp::chunk::plain_flags;
use penstock_core::smtp::command::{
    Charset, Command, Grammar, Malformed, Verb, parse_command, parse_command_in,
};
use penstock_core::smtp::content::{ContentReader, END_OF_DATA, Stuffer, Unstuffer};
use penstock_core::smtp::framing::LineBuffer;
use penstock_core::smtp::limits::{
    AUTH_LINE_MAX, COMMAND_LINE_MAX, MECHANISM_MAX, PATH_MAX, REPLY_LINE_ACCEPTED_MAX, REPLY_LINES_MAX,
    REPLY_TEXT_MAX,
};
use penstock_core::smtp::reply::{Reply, ReplyError, ReplyParser, encode_reply};
use penstock_core::smtp::sasl::{Response, parse_response};
use penstock_core::smtp::server_wire::{Intake, ServerWire};

fn split(data: &[u8]) -> (usize, &[u8]) {
    match data {
        [] => (1, data),
        [size, input @ ..] => (usize::from(*size).max(1), input),
    }
}

fn is_printable(text: &str) -> bool {
    !text.contains(char::is_control)
}

/// Lines and what they say.
pub fn commands(data: &[u8]) {
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Result<Command, Malformed>> {
        let mut buffer = LineBuffer::new(COMMAND_LINE_MAX);
        let mut items = Vec::new();
        for piece in pieces {
            buffer.push(piece);
            while let Some(line) = buffer.next_line() {
                items.push(line.and_then(parse_command));
            }
            assert!(buffer.rest().len() < AUTH_LINE_MAX);
        }
        items
    }
    let (size, input) = split(data);
    responses(input);
    for line in input.split(|&octet| octet == b'\n') {
        let lenient = parse_command_in(Grammar { charset: Charset::Ascii, is_lenient: true }, line);
        match (parse_command(line), lenient) {
            (Ok(strict), lenient) => assert_eq!(Ok(strict), lenient),
            (_, Ok(Command::Ehlo { domain } | Command::Helo { domain })) => {
                assert!(!domain.is_empty() && is_printable(&domain) && !domain.contains(' '));
            }
            (_, Ok(Command::Mail { path, .. } | Command::Rcpt { path, .. })) => {
                assert!(path.address.len() <= PATH_MAX - 2 && !path.address.contains(' '));
            }
            _ => {}
        }
    }
    let items = read(input.chunks(size));
    assert_eq!(items, read(std::iter::once(input)));
    for item in items {
        match item {
            Ok(Command::Mail { path, params } | Command::Rcpt { path, params }) => {
                assert!(path.address.len() <= PATH_MAX - 2);
                assert!(path.address.is_ascii() && is_printable(&path.address));
                assert!(path.address.to_ascii_lowercase().ends_with(&path.domain));
                assert_eq!(path.domain.is_empty(), !path.address.contains('@'));
                assert!(params.iter().all(|param| !param.key.is_empty() && is_printable(&param.key)));
            }
            Ok(Command::Ehlo { domain } | Command::Lhlo { domain } | Command::Helo { domain }) => {
                assert!(!domain.is_empty() && is_printable(&domain) && !domain.contains(' '));
            }
            Ok(Command::Auth { mechanism, initial }) => {
                assert!(!mechanism.is_empty() && mechanism.len() <= MECHANISM_MAX);
                assert!(initial.is_none_or(|secret| secret.expose().len() < AUTH_LINE_MAX));
            }
            Ok(Command::Unknown { verb }) => assert!(is_printable(&verb)),
            Ok(_) => {}
            Err(malformed) => assert!((malformed.offset as usize) < AUTH_LINE_MAX),
        }
    }
}

/// A response of an authentication exchange.
pub fn responses(data: &[u8]) {
    if let Response::Octets(secret) = parse_response(data) {
        assert_eq!(data.len() % 4, 0);
        let padding = data.iter().filter(|&&octet| octet == b'=').count();
        assert_eq!(secret.expose().len(), data.len() / 4 * 3 - padding);
    }
}

/// Content, its end, and its dots.
pub fn content(data: &[u8]) {
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, usize, bool, ContentReader) {
        let mut reader = ContentReader::new();
        let (mut content, mut consumed) = (Vec::new(), 0);
        for piece in pieces {
            let step = reader.push(piece);
            content.extend_from_slice(step.prefix);
            content.extend_from_slice(&piece[..step.content]);
            consumed += step.consumed;
            if step.end {
                return (content, consumed, true, reader);
            }
        }
        (content, consumed, false, reader)
    }
    let (size, input) = split(data);
    changes(size, input);
    let (content, consumed, ended, reader) = read(input.chunks(size));
    let (whole_content, whole_consumed, whole_ended, whole_reader) = read(std::iter::once(input));
    assert_eq!((&content, consumed, ended), (&whole_content, whole_consumed, whole_ended));
    assert_eq!((reader.flags(), reader.size()), (whole_reader.flags(), whole_reader.size()));
    assert_eq!(reader.wire_size(), content.len() as u64);
    assert!(input.starts_with(&content));
    if ended {
        assert_eq!(&input[content.len()..consumed], END_OF_DATA);
        assert!(content.is_empty() || content.ends_with(b"\r\n"));
    }

    let mut plain = Vec::new();
    let mut unstuffer = Unstuffer::default();
    content.chunks(size).for_each(|piece| unstuffer.push(piece, &mut plain));
    assert_eq!(plain.len() as u64, reader.size());
    let mut wire = Vec::new();
    let mut stuffer = Stuffer::default();
    plain.chunks(size).for_each(|piece| stuffer.push(piece, &mut wire));
    stuffer.finish(&mut wire);
    let octets = wire.len();
    wire.extend_from_slice(END_OF_DATA);
    let (again, consumed, ended, again_reader) = read(std::iter::once(&wire[..]));
    assert!(ended && consumed == wire.len() && again.len() == octets);
    let bare = ContentFlags::BARE_CR | ContentFlags::BARE_LF;
    assert!(!again_reader.flags().intersects(bare));
    // A sender may leave a dot unstuffed that no line end follows; the way back stuffs it.
    let has_lone_dots = input.windows(4).any(|octets| octets.starts_with(b"\r\n.") && octets[3] != b'.')
        || (input.starts_with(b".") && !input.starts_with(b".."));
    if whole_ended && !reader.flags().intersects(bare) && !has_lone_dots {
        assert_eq!(again, content);
    }
}

/// Content whose bare LFs and Bcc are changed: it is one content, whose only end is at its end.
fn changes(size: usize, input: &[u8]) {
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Intake) {
        let asked = Changes::LINE_FEEDS | Changes::BCC;
        let mut intake = Intake::new(u64::MAX, 1000).changing(asked);
        let mut stored = Vec::new();
        for piece in pieces {
            let step = intake.push(piece);
            stored.extend(intake.rewritten().expect("every push has something to say"));
            if step.end {
                break;
            }
        }
        (stored, intake)
    }
    let input = [input, b"\r\n.\r\n"].concat();
    let (stored, intake) = read(input.chunks(size));
    let (whole, at_once) = read(std::iter::once(&input[..]));
    assert_eq!((&stored, intake.fault(), intake.changes()), (&whole, at_once.fault(), at_once.changes()));
    if intake.fault().is_none() {
        let wire = [&stored[..], END_OF_DATA].concat();
        let mut reader = ContentReader::new();
        let step = reader.push(&wire);
        assert!(step.end && step.consumed == wire.len());
        assert!(!reader.flags().intersects(ContentFlags::BARE_CR | ContentFlags::BARE_LF));
        assert_eq!(intake.wire_size(), stored.len() as u64);
    }
}

/// A session of BDAT and other commands: chunks are as long as they say, and nothing in them is a command.
pub fn bdat(data: &[u8]) {
    #[derive(Debug, Eq, PartialEq)]
    struct Session {
        items: Vec<Result<Command, Malformed>>,
        contents: Vec<(Vec<u8>, ContentFlags)>,
        is_over: bool,
    }
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Session {
        let mut wire = ServerWire::new();
        assert!(wire.replied());
        let mut session = Session { items: Vec::new(), contents: Vec::new(), is_over: false };
        let mut intake: Option<(Intake, Vec<u8>)> = None;
        let mut in_chunk: Option<bool> = None;
        for piece in pieces {
            wire.push(piece);
            while !session.is_over {
                if let (Some(is_last), Some((reader, content))) = (in_chunk, &mut intake) {
                    let step = reader.push(wire.rest());
                    content.extend_from_slice(&wire.rest()[..step.content]);
                    wire.consume(step.consumed);
                    if !step.end {
                        break;
                    }
                    in_chunk = None;
                    if is_last && let Some((reader, content)) = intake.take() {
                        assert_eq!(reader.size(), content.len() as u64);
                        assert_eq!(reader.flags(), plain_flags(&content));
                        session.contents.push((content, reader.flags()));
                    }
                    continue;
                }
                let Some(batch) = wire.next_batch() else { break };
                let last = batch.items.last().cloned();
                session.items.extend(batch.items);
                match last {
                    Some(Ok(Command::Bdat { size, is_last })) => {
                        let (reader, _) = intake
                            .get_or_insert_with(|| (Intake::in_chunks(false, u64::MAX, 1000), Vec::new()));
                        assert_eq!(reader.begin_chunk(size, is_last), size == 0);
                        in_chunk = Some(is_last);
                        wire.begin_content();
                    }
                    // The end of what can be read: a size that is none, or DATA, which is not for here.
                    Some(Err(Malformed { verb: Some(Verb::Bdat | Verb::Data), .. }) | Ok(Command::Data)) => {
                        session.is_over = true;
                    }
                    _ => assert!(wire.replied()),
                }
            }
        }
        session
    }
    let (size, input) = split(data);
    let session = read(input.chunks(size));
    assert_eq!(session, read(std::iter::once(input)));
    for (content, flags) in session.contents {
        // What goes on as DATA ends once, at its end.
        let mut wire = Vec::new();
        let mut stuffer = Stuffer::default();
        content.chunks(size).for_each(|piece| stuffer.push(piece, &mut wire));
        stuffer.finish(&mut wire);
        if flags == ContentFlags::default() {
            assert_eq!(wire, content);
        }
        wire.extend_from_slice(END_OF_DATA);
        let step = ContentReader::new().push(&wire);
        assert!(step.end && step.consumed == wire.len());
    }
}

/// Replies, read and written again.
pub fn replies(data: &[u8]) {
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Reply>, Option<ReplyError>) {
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
    let (size, input) = split(data);
    let result = read(input.chunks(size));
    assert_eq!(result, read(std::iter::once(input)));
    for reply in result.0 {
        assert!((200..600).contains(&reply.code));
        assert!((1..=REPLY_LINES_MAX).contains(&reply.lines.len()));
        // A replacement character has three octets where there was one.
        assert!(
            reply.lines.iter().all(|line| is_printable(line) && line.len() <= 3 * REPLY_LINE_ACCEPTED_MAX)
        );
        let lines: Vec<&str> = reply.lines.iter().map(String::as_str).collect();
        let written = encode_reply(reply.code, reply.enhanced.as_deref(), &lines);
        let (again, error) = read(std::iter::once(&written[..]));
        assert_eq!(error, None);
        let again: Vec<_> = again.into_iter().map(|reply| (reply.code, reply.lines.len())).collect();
        let [(code, count)] = again[..] else { panic!("one reply was read as {}", again.len()) };
        assert_eq!(code, reply.code);
        // Each line has the enhanced code now, and so not all of them may be kept.
        let is_short = written.len() <= REPLY_TEXT_MAX;
        assert!(if is_short { count == lines.len() } else { (1..=lines.len()).contains(&count) });
    }
}

/// Headers of the PROXY protocol: what follows one is not touched, and a part of one is none.
pub fn proxy(data: &[u8]) {
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Option<(ProxyHeader, usize)>, ProxyFault> {
        let mut reader = ProxyReader::default();
        let mut consumed = 0;
        for piece in pieces {
            if let Some((header, octets)) = reader.push(piece)? {
                return Ok(Some((header, consumed + octets)));
            }
            consumed += piece.len();
        }
        Ok(None)
    }
    let (size, input) = split(data);
    let result = read(input.chunks(size));
    assert_eq!(result, read(std::iter::once(input)));
    match result {
        Ok(Some((_, octets))) => {
            assert!(octets <= input.len().min(HEADER_MAX));
            assert_eq!(read(std::iter::once(&input[..octets])), result);
            assert_eq!(read(std::iter::once(&input[..octets - 1])), Ok(None));
        }
        Ok(None) => assert!(input.len() < HEADER_MAX),
        Err(_) => {}
    }
}

/// Header sections.
pub fn headers(data: &[u8]) {
    const BYTES_MAX: usize = 4096;
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> HeaderFacts {
        let mut scanner = HeaderScanner::new(BYTES_MAX);
        for piece in pieces {
            scanner.push(piece);
        }
        scanner.finish()
    }
    let (size, input) = split(data);
    let facts = read(input.chunks(size));
    assert_eq!(facts, read(std::iter::once(input)));
    assert!(facts.size as usize <= input.len().min(BYTES_MAX));
    for text in [&facts.from, &facts.subject, &facts.message_id] {
        assert!(is_printable(text) && text.len() <= 3 * 998);
    }
}
