//! Content that BDAT brings (RFC 3030): chunks into one draft, refusals, and what is between chunks.

use bytes::Bytes;
use penstock_core::smtp::command::{Command, MalformedKind};
use penstock_net::{
    BeginChunks, CloseReason, Conn, ContentStatus, MemoryPeer, NetAction, NetEvent, ServerLimits,
};
use proptest::prelude::*;

use crate::harness::*;

const LIMIT_BYTES: u64 = 1 << 20;

fn begins(sink: Draft, is_binary: bool) -> BeginChunks {
    BeginChunks { draft: 4711, sink: Box::new(sink), limit_bytes: LIMIT_BYTES, is_binary }
}

fn first_chunk(conn: Conn, turn: u32, sink: Draft) -> NetAction {
    let reply = Bytes::from_static(b"250 chunk\r\n");
    NetAction::TakeChunk { conn, turn, begin: Some(begins(sink, false)), reply }
}

fn next_chunk(conn: Conn, turn: u32) -> NetAction {
    NetAction::TakeChunk { conn, turn, begin: None, reply: Bytes::from_static(b"250 chunk\r\n") }
}

fn discard(conn: Conn, turn: u32) -> NetAction {
    NetAction::Discard { conn, turn, reply: Bytes::from_static(b"503 no\r\n"), delay_ms: 0 }
}

fn bdat(size: u64, is_last: bool) -> Command {
    Command::Bdat { size, is_last }
}

/// A peer whose first chunk has come, with what came behind it.
fn chunked(bench: &mut Bench, octets: &[u8]) -> (MemoryPeer, Conn) {
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, octets);
    bench.act(first_chunk(conn, asked.turn, Draft::default()));
    assert_eq!(peer.recv(), b"250 chunk\r\n");
    (peer, conn)
}

#[test]
fn chunks_go_into_one_draft_and_the_last_asks() {
    let mut bench = Bench::new();
    // The chunk, and the next command behind it, come with the command: BDAT need not be waited for.
    let (peer, conn) = chunked(&mut bench, b"BDAT 5\r\n.\r\n.\rBDAT 3 LAST\r\n\n.\r\n.");
    let asked = commands(bench.event());
    assert_eq!((asked.items, asked.early), (vec![Ok(bdat(3, true))], false));
    bench.act(next_chunk(conn, asked.turn));
    // The size was one short: a CR at the end is bare, and the LF that was meant for it begins a command.
    assert_eq!(content(bench.event()).status, ContentStatus::BadLineEnding);
    drop(peer);
    let (peer, conn) = chunked(&mut bench, b"BDAT 5\r\n.\r\n.\rBDAT 4 LAST\r\n\n.\r\nQUIT\r\n");
    let asked = commands(bench.events().pop().unwrap());
    bench.act(next_chunk(conn, asked.turn));
    let taken = content(bench.event());
    assert_eq!((taken.status, taken.size, taken.draft), (ContentStatus::Complete, 9, 4711));
    assert_eq!(taken.octets, b".\r\n.\r\n.\r\n");
    bench.act(await_durable(conn, taken.turn));
    bench.net.complete(&[(conn, taken.turn, true)]);
    assert_eq!(commands(bench.event()).items, [Ok(Command::Quit)]);
    assert_eq!(peer.recv(), b"250 kept\r\n");
}

#[test]
fn a_last_chunk_may_be_empty_and_so_may_the_content() {
    for (before, expected) in [(&b"BDAT 3\r\na\r\n"[..], &b"a\r\n"[..]), (b"BDAT 0\r\n", b"")] {
        let mut bench = Bench::new();
        let (peer, conn) = chunked(&mut bench, before);
        let asked = bench.commands(&peer, b"BDAT 0 LAST\r\n");
        bench.act(next_chunk(conn, asked.turn));
        let taken = content(bench.event());
        assert_eq!((taken.status, &*taken.octets), (ContentStatus::Complete, expected));
    }
}

#[test]
fn the_chunk_of_a_refused_bdat_is_no_command() {
    for cut in 0..23 {
        let mut bench = Bench::new();
        let (peer, conn) = bench.session(ServerLimits::default());
        let asked = bench.commands(&peer, b"BDAT 14\r\n");
        let behind = b"MAIL FROM:<>\r\nNOOP\r\n";
        let (now, later) = behind.split_at(cut.min(behind.len()));
        peer.send(now);
        bench.act(discard(conn, asked.turn));
        peer.send(later);
        assert_eq!(commands(bench.events().pop().unwrap()).items, [Ok(Command::Noop)], "{cut}");
        assert_eq!(peer.recv(), b"503 no\r\n");
    }
}

#[test]
fn the_largest_chunk_that_can_be_named_is_passed_over_until_the_clock_says_so() {
    let mut bench = Bench::new();
    let limits = ServerLimits { total_ms: 90_000, min_rate_bytes_s: 100, ..ServerLimits::default() };
    let (peer, conn) = bench.session(limits);
    let asked = bench.commands(&peer, b"BDAT 18446744073709551615\r\n");
    assert_eq!(asked.items, [Ok(bdat(u64::MAX, false))]);
    bench.act(discard(conn, asked.turn));
    assert_eq!(peer.recv(), b"503 no\r\n");
    for _ in 0..8 {
        peer.send(&b"QUIT\r\n".repeat(1000));
        bench.nothing_happens();
        bench.pass_ms(10_000);
    }
    bench.pass_ms(40_000);
    assert_eq!(peer.recv(), b"421 4.4.2 Connection timed out\r\n");
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Total, None));
}

#[test]
fn a_chunk_whose_size_has_no_room_ends_the_connection_behind_its_reply() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"BDAT 18446744073709551616\r\nMAIL FROM:<>\r\n");
    assert_eq!(asked.items.len(), 1);
    assert_eq!(asked.items[0].as_ref().unwrap_err().kind, MalformedKind::Argument);
    bench.reply(conn, asked.turn, "501 what?\r\n", 1);
    assert_eq!(peer.recv(), b"501 what?\r\n");
    assert!(peer.is_closed());
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Protocol, None));
}

#[test]
fn the_end_of_a_peer_in_a_chunk_or_between_two_loses_the_draft() {
    let mut bench = Bench::new();
    let (peer, _) = chunked(&mut bench, b"BDAT 3\r\nabc");
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Peer, Some(4711)));
    let (peer, conn) = chunked(&mut bench, b"BDAT 3\r\nabc");
    let asked = bench.commands(&peer, b"BDAT 3 LAST\r\nde");
    bench.act(next_chunk(conn, asked.turn));
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Peer, Some(4711)));
    let (peer, _) = chunked(&mut bench, b"BDAT 3\r\nabc");
    peer.reset();
    assert_eq!(closed(&bench.event()), (CloseReason::Reset, Some(4711)));
}

#[test]
fn a_content_that_was_forgotten_does_not_go_on() {
    for forget in [true, false] {
        let mut bench = Bench::new();
        let (peer, conn) = chunked(&mut bench, b"BDAT 3\r\nabc");
        let asked = bench.commands(&peer, b"RSET\r\n");
        if forget {
            bench.act(NetAction::Forget { conn, turn: asked.turn });
        }
        bench.reply(conn, asked.turn, "250 reset\r\n", 1);
        let asked = bench.commands(&peer, b"BDAT 2 LAST\r\nde");
        // Nobody knows what is meant by going on with nothing: a fault of the caller.
        bench.act(next_chunk(conn, asked.turn));
        if forget {
            assert_eq!(closed(&bench.event()), (CloseReason::Error, None));
        } else {
            assert_eq!(content(bench.event()).octets, b"abcde");
        }
    }
}

#[test]
fn a_new_content_replaces_the_one_that_was_begun() {
    let mut bench = Bench::new();
    let (peer, conn) = chunked(&mut bench, b"BDAT 3\r\nabc");
    let asked = bench.commands(&peer, b"BDAT 2 LAST\r\nde");
    bench.act(first_chunk(conn, asked.turn, Draft::default()));
    assert_eq!(content(bench.event()).octets, b"de");
}

#[test]
fn a_bare_line_end_is_told_with_the_last_chunk_unless_the_content_is_binary() {
    for (is_binary, status, kept) in
        [(false, ContentStatus::BadLineEnding, &b""[..]), (true, ContentStatus::Complete, b"\n.\n\0")]
    {
        let mut bench = Bench::new();
        let (peer, conn) = bench.session(ServerLimits::default());
        let asked = bench.commands(&peer, b"BDAT 3\r\n\n.\n");
        let begin = Some(begins(Draft::default(), is_binary));
        bench.act(NetAction::TakeChunk {
            conn,
            turn: asked.turn,
            begin,
            reply: Bytes::from_static(b"250 x\r\n"),
        });
        assert_eq!(peer.recv(), b"250 x\r\n");
        let asked = bench.commands(&peer, b"BDAT 1 LAST\r\n\0");
        bench.act(next_chunk(conn, asked.turn));
        let taken = content(bench.event());
        assert_eq!((taken.status, &*taken.octets), (status, kept));
    }
}

#[test]
fn an_action_for_a_chunk_needs_a_bdat() {
    for action in [first_chunk as fn(Conn, u32, Draft) -> NetAction, |conn, turn, _| discard(conn, turn)] {
        for octets in [&b"DATA\r\n"[..], b"NOOP\r\n", b"NOOP\r\nBDAT 1\r\n"] {
            let mut bench = Bench::new();
            let (peer, conn) = bench.session(ServerLimits::default());
            let asked = bench.commands(&peer, octets);
            bench.act(action(conn, asked.turn, Draft::default()));
            assert_eq!(closed(&bench.event()), (CloseReason::Error, None));
        }
    }
}

#[test]
fn a_chunk_that_stops_or_trickles_ends_by_the_clock() {
    let limits = || ServerLimits { idle_ms: 20_000, min_rate_bytes_s: 1000, ..ServerLimits::default() };
    let begin = |bench: &mut Bench| {
        let (peer, conn) = bench.session(limits());
        let asked = bench.commands(&peer, b"BDAT 1000000\r\n");
        bench.act(first_chunk(conn, asked.turn, Draft::default()));
        (peer, conn)
    };
    let mut bench = Bench::new();
    let (peer, _) = begin(&mut bench);
    bench.pass_ms(21_000);
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Idle, Some(4711)));
    // Octets without lines are progress too, if there are as many as in a line; but these are too few a second.
    let (peer, _) = begin(&mut bench);
    for _ in 0..7 {
        peer.send(&[b'x'; 1000]);
        bench.pass_ms(5_000);
    }
    peer.shutdown_write();
    assert_eq!(closed(&bench.events().pop().unwrap()), (CloseReason::MinRate, Some(4711)));
}

#[test]
fn a_chunk_waits_for_a_sink_that_is_full() {
    let mut bench = Bench::new();
    let budget = std::sync::Arc::new(Budget::default());
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"BDAT 3\r\nabcNOOP\r\n");
    let sink = Draft { budget: Some(std::sync::Arc::clone(&budget)), ..Draft::default() };
    bench.act(first_chunk(conn, asked.turn, sink));
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"");
    budget.grow(3);
    assert_eq!(commands(bench.event()).items, [Ok(Command::Noop)]);
    assert_eq!(peer.recv(), b"250 chunk\r\n");
}

/// Hold a dialogue of chunks, some of them refused, with a caller that knows nothing but the commands.
fn converse(input: &[u8], sizes: &[usize]) -> (Vec<u8>, Vec<Vec<u8>>, Vec<Command>) {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let (mut heard, mut kept, mut said) = (Vec::new(), Vec::new(), Vec::new());
    let (mut goes_on, mut at, mut nth) = (false, 0, 0);
    loop {
        if let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            let piece = &rest[..rest.len().min(sizes[nth % sizes.len()])];
            peer.send(piece);
            (at, nth) = (at + piece.len(), nth + 1);
        }
        loop {
            let events = bench.events();
            heard.extend(peer.recv());
            if events.is_empty() {
                break;
            }
            for event in events {
                match event {
                    NetEvent::Commands { turn, items, .. } => {
                        let last = items.last().unwrap().clone();
                        let before = items.len() as u32 - 1;
                        said.extend(items.into_iter().map(Result::unwrap));
                        let mut actions: Vec<_> =
                            (0..before).map(|_| reply(conn, turn, "250 ok\r\n", 1)).collect();
                        actions.push(match last.unwrap() {
                            Command::Bdat { size, .. } if size % 7 == 3 => {
                                goes_on = false;
                                discard(conn, turn)
                            }
                            Command::Bdat { is_last, .. } if std::mem::replace(&mut goes_on, !is_last) => {
                                next_chunk(conn, turn)
                            }
                            Command::Bdat { .. } => first_chunk(conn, turn, Draft::default()),
                            _ => reply(conn, turn, "250 ok\r\n", 1),
                        });
                        bench.net.apply(actions);
                    }
                    event @ NetEvent::Content { .. } => {
                        let taken = content(event);
                        kept.push(taken.octets);
                        bench.net.apply(vec![reply(conn, taken.turn, "250 kept\r\n", 1)]);
                    }
                    other => panic!("{}", kind(&other)),
                }
            }
        }
        if at == input.len() {
            return (heard, kept, said);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_pieces_of_chunks_give_the_same_session(
        steps in prop::collection::vec(
            (prop::sample::select(vec!["", "\r\n.\r\n", "BDAT 5 LAST\r\n", "x", "QUIT\r\n"]), any::<bool>(), any::<bool>()),
            1..12,
        ),
        sizes in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let mut input = Vec::new();
        let (mut expected, mut open) = (Vec::new(), None::<Vec<u8>>);
        for (chunk, is_last, has_noop) in &steps {
            if *has_noop {
                input.extend(b"NOOP\r\n");
            }
            input.extend(format!("BDAT {}{}\r\n{chunk}", chunk.len(), if *is_last { " LAST" } else { "" }).as_bytes());
            if chunk.len() % 7 == 3 {
                open = None;
                continue;
            }
            let mut content = open.take().unwrap_or_default();
            content.extend(chunk.as_bytes());
            if *is_last { expected.push(content) } else { open = Some(content) }
        }
        let whole = converse(&input, &[1 << 20]);
        prop_assert_eq!(&whole.1, &expected);
        prop_assert_eq!(converse(&input, &sizes), whole);
    }
}
