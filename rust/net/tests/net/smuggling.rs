//! No content that comes in as one message goes out as two, however loosely the server behind us reads.
//!
//! What looks like the end of a content to one server and not to another hides a second message in the first. Each
//! content here has a dot between two things that some server takes for the end of a line. What we accept of it is sent
//! on, and read by servers of several degrees of looseness: each must see one content, and its end at the end.
//!
//! By default the octets come whole and cut at some places; `PENSTOCK_SMUGGLING=full` cuts them at every place.

use std::collections::HashMap;

use bytes::Bytes;
use penstock_core::flow::{Changes, ContentFlags, Form, SourcePoll};
use penstock_core::smtp::command::Command;
use penstock_net::{BeginChunks, ClientLimits, ContentStatus, NetAction, NetEvent, ServerLimits};

use crate::harness::*;

/// What stands for the end of a line, here or there.
const ENDINGS: [&str; 9] = ["\r\n", "\n", "\r", "\r\r\n", "\n\r", "\r\0\n", "\r\n\0", "\n\n", "\r\n\r"];
const HIDDEN: &str = "MAIL FROM:<evil@a.example>\r\nRCPT TO:<victim@b.example>\r\nDATA\r\nhidden\r\n";

/// Every way in which a server may take a line to end.
const LOOSE: [&[&str]; 6] = [
    &["\r\n"],
    &["\r\n", "\n"],
    &["\r\n", "\r"],
    &["\r\n", "\n", "\r"],
    &["\r\n", "\r\r\n", "\r\0\n", "\n\r"],
    &["\r\n", "\n", "\r", "\n\r", "\r\r\n", "\r\0\n", "\r\n\0"],
];

/// A content that we took.
struct Taken {
    octets: Vec<u8>,
    flags: ContentFlags,
    form: Form,
}

/// Send octets in two pieces and return what was taken of them.
fn received(bench: &mut Bench, octets: &[u8], cut: usize, changes: Changes) -> Vec<Taken> {
    let (peer, conn) = bench.session(ServerLimits { changes, ..ServerLimits::default() });
    let (mut taken, mut form) = (Vec::new(), Form::Wire);
    for piece in [&octets[..cut], &octets[cut..]] {
        peer.send(piece);
        loop {
            let events = bench.events();
            if events.is_empty() {
                break;
            }
            for event in events {
                match event {
                    NetEvent::Commands { turn, items, .. } => {
                        let before = items.len() as u32 - 1;
                        if before > 0 {
                            let bytes = Bytes::from("250 ok\r\n".repeat(before as usize));
                            let NetAction::Reply { close, grant, .. } = reply(conn, turn, "", before) else {
                                panic!()
                            };
                            bench.net.apply(vec![NetAction::Reply {
                                conn,
                                turn,
                                bytes,
                                answers: before,
                                delay_ms: 0,
                                close,
                                grant,
                            }]);
                        }
                        bench.net.apply(vec![match items.last() {
                            Some(Ok(Command::Data)) => {
                                form = Form::Wire;
                                take(conn, turn, Draft::default(), 1 << 20)
                            }
                            Some(Ok(Command::Bdat { .. })) => {
                                form = Form::Plain;
                                let sink = Box::new(Draft::default());
                                let begin =
                                    BeginChunks { draft: 1, sink, limit_bytes: 1 << 20, is_binary: false };
                                NetAction::TakeChunk { conn, turn, begin: Some(begin), reply: Bytes::new() }
                            }
                            _ => reply(conn, turn, "250 ok\r\n", 1),
                        }]);
                    }
                    NetEvent::Content { turn, status, flags, sink, .. } => {
                        if status == ContentStatus::Complete {
                            let octets = sink.into_any().downcast::<Draft>().unwrap().octets;
                            taken.push(Taken { octets, flags, form });
                        }
                        // As Python does: behind bad line ends nothing that DATA brought can be trusted.
                        let is_over = status == ContentStatus::BadLineEnding && form == Form::Wire;
                        let answer = if is_over { last_reply } else { reply };
                        bench.net.apply(vec![answer(conn, turn, "250 ok\r\n", 1)]);
                    }
                    NetEvent::Closed { .. } => return taken,
                    other => panic!("{}", kind(&other)),
                }
            }
        }
    }
    bench.act(NetAction::Abort { conn });
    let _ = bench.events();
    taken
}

/// Send a content on, and return what goes over the wire between the 354 and the reply.
fn sent(bench: &mut Bench, taken: &Taken) -> Vec<u8> {
    let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
    let source = Source::default();
    source.give(SourcePoll::Chunk(Bytes::from(taken.octets.clone())));
    source.give(SourcePoll::End);
    bench.act(NetAction::Content {
        conn,
        turn,
        source: Box::new(source),
        form: taken.form,
        flags: taken.flags,
        gate: Box::new(Door::open()),
        then: vec![],
    });
    let octets = peer.recv();
    bench.act(NetAction::Abort { conn });
    let _ = bench.events();
    octets
}

/// The dots that end the content for a server that takes these for ends of lines: such as stand alone in a line.
fn ends(content: &[u8], lines_end_with: &[&str]) -> Vec<usize> {
    let content = [b"\r\n", content].concat();
    let mut found = Vec::new();
    for before in lines_end_with {
        for after in lines_end_with {
            let end = format!("{before}.{after}");
            let at = content.windows(end.len()).enumerate().filter(|(_, octets)| *octets == end.as_bytes());
            found.extend(at.map(|(at, _)| at + before.len() - 2));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// What stands before and after the dot, and whether DATA brought it.
type Case = (&'static str, &'static str, bool);

/// Try every content in every way; return how many dialogues there were, and the numbers of messages that were taken.
fn battery(changes: Changes) -> (usize, HashMap<Case, Vec<usize>>) {
    let is_full = std::env::var_os("PENSTOCK_SMUGGLING").is_some_and(|mode| mode == "full");
    let mut bench = Bench::new();
    let (mut tried, mut accepted) = (0, HashMap::<Case, Vec<usize>>::new());
    for before in ENDINGS {
        for after in ENDINGS {
            let content = format!("Subject: x\r\n\r\nbody{before}.{after}{HIDDEN}");
            let data = format!("DATA\r\n{content}.\r\n");
            let bdat = format!("BDAT {} LAST\r\n{content}", content.len());
            for (octets, is_data) in [(data, true), (bdat, false)] {
                let octets = octets.as_bytes();
                for cut in (0..octets.len()).step_by(if is_full { 1 } else { 13 }) {
                    tried += 1;
                    let taken = received(&mut bench, octets, cut, changes);
                    accepted.entry((before, after, is_data)).or_default().push(taken.len());
                    for taken in taken {
                        let wire = sent(&mut bench, &taken);
                        for lines_end_with in LOOSE {
                            let ends = ends(&wire, lines_end_with);
                            assert_eq!(
                                ends,
                                [wire.len() - 3],
                                "{before:?}.{after:?} cut at {cut}: {:?}",
                                wire.escape_ascii()
                            );
                        }
                    }
                }
            }
        }
    }
    let messages: usize = accepted.values().flatten().sum();
    println!("{tried} dialogues, {messages} messages accepted");
    (tried, accepted)
}

/// Of the 81 contents these have neither a bare CR nor a NUL.
const WITHOUT_CR: [&str; 3] = ["\r\n", "\n", "\n\n"];

#[test]
fn what_comes_as_one_message_goes_as_one_message() {
    let (tried, accepted) = battery(Changes::default());
    assert!(tried > 2 * 81 * 8, "{tried}");
    // Where the dot is the end for everybody there are two messages; all others have a bare CR or LF, or a NUL.
    for (case, messages) in accepted {
        let wanted = match case {
            ("\r\n", after, true) if after.starts_with("\r\n") => 2,
            ("\r\n", "\r\n", false) => 1,
            _ => 0,
        };
        assert!(messages.iter().all(|&count| count == wanted), "{case:?}: {messages:?}");
    }
}

#[test]
fn nor_does_it_where_bare_line_feeds_become_lines() {
    let (tried, accepted) = battery(Changes::LINE_FEEDS | Changes::BCC);
    assert!(tried > 2 * 81 * 8, "{tried}");
    for (case, messages) in accepted {
        let wanted = match case {
            ("\r\n", after, true) if after.starts_with("\r\n") => 2,
            (before, after, _) if WITHOUT_CR.contains(&before) && WITHOUT_CR.contains(&after) => 1,
            _ => 0,
        };
        assert!(messages.iter().all(|&count| count == wanted), "{case:?}: {messages:?}");
    }
}

#[test]
fn the_loose_servers_are_loose() {
    assert_eq!(ends(b"a\r\n.\r\nb\r\n.\r\n", LOOSE[0]), [3, 9]);
    assert_eq!(ends(b"a\n.\nb\r\n.\r\n", LOOSE[0]), [7]);
    assert_eq!(ends(b"a\n.\nb\r\n.\r\n", LOOSE[1]), [2, 7]);
    assert_eq!(ends(b"a\r.\rb\r\n.\r\n", LOOSE[2]), [2, 7]);
    assert_eq!(ends(b"a\r\n..\r\n.\r\n", LOOSE[5]), [7]);
}
