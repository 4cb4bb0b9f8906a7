//! However octets are cut on their way, the result is the same.

use std::sync::atomic::Ordering;

use penstock_core::flow::{Form, SourcePoll};
use penstock_net::{ClientLimits, CloseReason, ContentState, Grant, NetAction, NetEvent};
use proptest::prelude::*;

use crate::caller::{Caller, expected, octets};
use crate::harness::*;

/// Cut octets into pieces of the given sizes, over and over.
fn pieces<'a>(octets: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = octets;
    let mut pieces = Vec::new();
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "NOOP\r\n",
        "EHLO a.example\r\n",
        "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n",
        "MAIL FROM:<>\r\n",
        "DATA\r\n",
        "\r\n.\r\n",
        "\r\n.\r\n",
        ".\r\n",
        "..\r\n",
        ".",
        "text\r\n",
        "text",
        "\r",
        "\n",
        "QUIT\r\n",
    ]);
    prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat().into_bytes())
}

fn grants() -> impl Strategy<Value = Vec<Grant>> {
    prop::collection::vec(prop::sample::select(vec![Grant::None, Grant::Mail, Grant::Data]), 0..5)
}

/// Have a peer that receives so many octets at a time send these pieces to a caller that grants what it may.
fn converse(pieces: &[&[u8]], window: usize, grants: Vec<Grant>) -> (Vec<u8>, Caller) {
    let mut bench = Bench::new();
    bench.recorder.drafts.store(u64::MAX, Ordering::Relaxed);
    let mut caller = Caller::granting(grants);
    let peer = bench.net.memory_connect(LISTENER, peer_address());
    peer.limit_window(window);
    let mut heard = Vec::new();
    let mut go_on = |bench: &mut Bench| {
        loop {
            let events = bench.events();
            let octets = peer.recv();
            if events.is_empty() && octets.is_empty() {
                return;
            }
            heard.extend(octets);
            for event in events {
                caller.answer(&bench.net, event);
            }
        }
    };
    go_on(&mut bench);
    for piece in pieces {
        peer.send(piece);
        go_on(&mut bench);
    }
    peer.shutdown_write();
    go_on(&mut bench);
    assert_eq!(bench.net.statistics().panics, 0);
    (heard, caller)
}

proptest! {
    #[test]
    fn any_pieces_of_a_session_give_the_same_replies_one_a_command(
        input in input(),
        sizes in prop::collection::vec(1_usize..40, 1..6),
        window in 1_usize..60,
        grants in grants(),
    ) {
        let expected = expected(&input);
        let (heard, caller) = converse(&pieces(&input, &sizes), window, grants.clone());
        prop_assert_eq!((&heard, &caller.kept), (&expected.0, &expected.1));
        prop_assert_eq!(caller.ended.len(), 1);
        let (heard, caller) = converse(&[&input], 1 << 20, grants);
        prop_assert_eq!((heard, caller.kept), expected);
    }

    #[test]
    fn any_pieces_of_replies_give_the_same_events(
        sizes in prop::collection::vec(1_usize..30, 1..6),
        dot in prop::sample::select(vec!["250 taken\r\n", "250-taken\r\n250 2.0.0 as 1\r\n", "451 later\r\n"]),
        window in 1_usize..100,
    ) {
        let mut bench = Bench::new();
        let (peer, conn, turn) = bench.dialled(ClientLimits::default());
        peer.limit_window(window);
        let mut sent = Vec::new();
        let mut hear = |bench: &mut Bench, said: &str| {
            let mut heard = Vec::new();
            let mut last_turn = 0;
            for piece in std::iter::once(&b""[..]).chain(pieces(said.as_bytes(), &sizes)) {
                peer.send(piece);
                loop {
                    let events = bench.events();
                    let octets = peer.recv();
                    if events.is_empty() && octets.is_empty() {
                        break;
                    }
                    sent.extend(octets);
                    for event in events {
                        let replies = replies(event);
                        last_turn = replies.turn;
                        heard.push((replies.first, replies.codes));
                    }
                }
            }
            (last_turn, heard)
        };
        bench.act(flight(conn, turn, vec![part("MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n", 2), part("DATA\r\n", 1)]));
        let (turn, heard) = hear(&mut bench, "250-a\r\n250 b\r\n550 c\r\n354 go\r\n");
        prop_assert_eq!(heard, [(1, vec![250, 550, 354])]);
        let source = Source::whole(&[b"Subject: x\r\n\r\n", b"body\r\n"]);
        bench.act(send_content(conn, turn, &source, &Door::open(), vec![part("MAIL FROM:<>\r\nDATA\r\n", 2)]));
        let code: u16 = dot[..3].parse().unwrap();
        let (turn, heard) = hear(&mut bench, &format!("{dot}250 ok\r\n503 no\r\n"));
        prop_assert_eq!(heard, [(4, vec![code]), (5, vec![250, 503])]);
        bench.act(NetAction::Close { conn, turn, quit: false });
        prop_assert_eq!(client_closed(&bench.event()), (CloseReason::Local, ContentState::Terminated, 7));
        let expected = "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n\
            Subject: x\r\n\r\nbody\r\n.\r\nMAIL FROM:<>\r\nDATA\r\n";
        prop_assert_eq!(String::from_utf8(sent).unwrap(), expected);
    }

    #[test]
    fn content_that_is_sent_is_content_that_is_received(
        parts in prop::collection::vec(prop::sample::select(vec!["\r\n", "\r\n.", ".", "text", "\r", "\n", "ä"]), 0..30),
        sizes in prop::collection::vec(1_usize..20, 1..6),
        window in 1_usize..60,
    ) {
        let plain = parts.concat().into_bytes();
        let flags = penstock_core::smtp::chunk::plain_flags(&plain);
        let mut bench = Bench::new();
        let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
        peer.limit_window(window);
        let source = Source::default();
        let gate = Box::new(Door::open());
        let form = Form::Plain;
        bench.act(NetAction::Content { conn, turn, source: Box::new(source.clone()), form, flags, gate, then: vec![] });
        for piece in pieces(&plain, &sizes) {
            source.give(SourcePoll::Chunk(octets(piece)));
            bench.step();
        }
        source.give(SourcePoll::End);
        let mut sent = Vec::new();
        loop {
            bench.step();
            let octets = peer.recv();
            if octets.is_empty() {
                break;
            }
            sent.extend(octets);
        }
        let (heard, caller) = converse(&[b"DATA\r\n", &sent], 1 << 20, vec![]);
        prop_assert_eq!(heard, b"220 me\r\n354 go\r\n250 kept\r\n");
        let mut received = Vec::new();
        penstock_core::smtp::content::Unstuffer::default().push(&caller.kept[0], &mut received);
        let text = String::from_utf8(plain).unwrap();
        let mut expected = text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
        if !expected.is_empty() && !expected.ends_with("\r\n") {
            expected.push_str("\r\n");
        }
        prop_assert_eq!(String::from_utf8(received).unwrap(), expected);
    }
}

#[test]
fn a_peer_that_leaves_in_the_middle_ends_the_connection_once() {
    let octets = b"EHLO a.example\r\nDATA\r\nx\r\n.\r\nNOOP\r\n";
    for cut in 0..octets.len() {
        let (_, caller) = converse(&[&octets[..cut]], 1 << 20, vec![Grant::Data]);
        assert_eq!(caller.ended, [CloseReason::Peer], "{cut}");
        let mut bench = Bench::new();
        let mut caller = Caller::default();
        let peer = bench.net.memory_connect(LISTENER, peer_address());
        peer.send(&octets[..cut]);
        for _ in 0..cut {
            for event in bench.events() {
                caller.answer(&bench.net, event);
            }
        }
        peer.reset();
        for _ in 0..3 {
            for event in bench.events() {
                assert!(!matches!(event, NetEvent::Connected { .. }));
                caller.answer(&bench.net, event);
            }
        }
        assert_eq!(caller.ended, [CloseReason::Reset], "{cut}");
    }
}
