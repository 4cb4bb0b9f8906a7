//! Outgoing connections.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use penstock_core::flow::{ContentFlags, Form, GateState, SourcePoll};
use penstock_net::{ClientLimits, CloseReason, ContentState, DialStage, FlightPart, NetAction, NetEvent};

use crate::harness::*;

fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 9], 25))
}

#[test]
fn a_message_is_sent_and_the_connection_used_again() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.dialled(ClientLimits::default());
    let envelope = part("MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n", 3);
    bench.act(flight(conn, turn, vec![envelope]));
    assert_eq!(peer.recv(), b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n");
    peer.send(b"250 a\r\n250 b\r\n");
    bench.nothing_happens();
    peer.send(b"354 go\r\n");
    let heard = replies(bench.event());
    assert_eq!((heard.first, heard.codes), (1, vec![250, 250, 354]));
    let source = Source::whole(&[b"Subject: x\r\n\r\n", b"..\r\n"]);
    bench.act(send_content(conn, heard.turn, &source, &Door::open(), vec![]));
    assert_eq!(peer.recv(), b"Subject: x\r\n\r\n..\r\n.\r\n");
    assert!(source.is_released());
    peer.send(b"250 taken\r\n");
    let heard = replies(bench.event());
    assert_eq!((heard.first, heard.codes), (4, vec![250]));
    bench.act(NetAction::Park { conn, turn: heard.turn, idle_ms: 60_000 });
    bench.pass_ms(59_000);
    bench.act(flight(conn, heard.turn, vec![part("RSET\r\n", 1)]));
    assert_eq!(peer.recv(), b"RSET\r\n");
    peer.send(b"250 ok\r\n");
    let heard = replies(bench.event());
    bench.act(NetAction::Close { conn, turn: heard.turn, quit: true });
    assert_eq!(peer.recv(), b"QUIT\r\n");
    peer.send(b"221 bye\r\n");
    bench.nothing_happens();
    peer.shutdown_write();
    assert_eq!(client_closed(&bench.event()), (CloseReason::Local, ContentState::Terminated, 6));
    let counted = bench.net.statistics();
    assert_eq!((counted.dialled, counted.connected, counted.client_closed), (1, 1, 1));
    assert_eq!((counted.stale_actions, counted.client_connections), (0, 0));
}

#[test]
fn a_354_with_all_recipients_refused_is_answered_with_a_content_of_nothing() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.dialled(ClientLimits::default());
    bench.act(flight(conn, turn, vec![part("MAIL FROM:<>\r\nRCPT TO:<x@b.example>\r\nDATA\r\n", 3)]));
    peer.recv();
    peer.send(b"250 a\r\n550 b\r\n354 go\r\n");
    let heard = replies(bench.event());
    assert_eq!(heard.codes, [250, 550, 354]);
    bench.act(flight(conn, heard.turn, vec![part(".\r\n", 1)]));
    assert_eq!(peer.recv(), b".\r\n");
    peer.send(b"503 nobody\r\n");
    assert_eq!(replies(bench.event()).codes, [503]);
}

#[test]
fn a_421_that_crosses_a_reused_mail_is_heard_before_anything_is_sent() {
    for peer_leaves in [true, false] {
        let mut bench = Bench::new();
        let (peer, conn, turn) = bench.dialled(ClientLimits::default());
        bench.act(NetAction::Park { conn, turn, idle_ms: 60_000 });
        peer.send(b"421 4.4.2 idle\r\n");
        if peer_leaves {
            peer.shutdown_write();
        }
        bench.act(flight(conn, turn, vec![part("MAIL FROM:<>\r\n", 1)]));
        let mut events = bench.events();
        assert_eq!(peer.recv(), b"");
        assert_eq!(client_closed(&events.remove(1)), (CloseReason::Peer, ContentState::None, 2));
        let heard = replies(events.remove(0));
        assert_eq!((heard.first, heard.codes), (1, vec![421]));
    }
    // In the other order it answers MAIL.
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.dialled(ClientLimits::default());
    bench.act(flight(conn, turn, vec![part("MAIL FROM:<>\r\n", 1), part("DATA\r\n", 1)]));
    peer.send(b"421 4.4.2 idle\r\n");
    let mut events = bench.events();
    assert_eq!(client_closed(&events.remove(1)), (CloseReason::Peer, ContentState::None, 2));
    assert_eq!(replies(events.remove(0)).codes, [421]);
}

#[test]
fn a_421_in_the_middle_of_a_flight_is_the_last_that_is_heard() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.dialled(ClientLimits::default());
    bench.act(flight(conn, turn, vec![part("A\r\nB\r\nC\r\n", 3)]));
    peer.send(b"250 a\r\n421 bye\r\n250 c\r\n");
    let mut events = bench.events();
    assert_eq!(client_closed(&events.remove(1)), (CloseReason::Peer, ContentState::None, 3));
    let heard = replies(events.remove(0));
    assert_eq!(heard.codes, [250, 421]);
    // Whoever draws the conclusion from a 421 that was the last reply still has the turn.
    let (peer, conn, turn) = bench.dialled(ClientLimits::default());
    bench.act(flight(conn, turn, vec![part("A\r\n", 1)]));
    peer.send(b"421 bye\r\n");
    let heard = replies(bench.event());
    bench.act(NetAction::Close { conn, turn: heard.turn, quit: false });
    assert_eq!(client_closed(&bench.event()), (CloseReason::Local, ContentState::None, 2));
}

#[test]
fn a_parked_connection_whose_peer_speaks_or_leaves_is_closed() {
    type Spoil = fn(&penstock_net::MemoryPeer);
    let spoils: [(Spoil, CloseReason); 4] = [
        (|peer| peer.shutdown_write(), CloseReason::Peer),
        (|peer| peer.reset(), CloseReason::Reset),
        (|peer| peer.send(b"250 what?\r\n"), CloseReason::Protocol),
        (|peer| peer.send(b"42"), CloseReason::Protocol),
    ];
    for (spoil, reason) in spoils {
        let mut bench = Bench::new();
        let (peer, conn, turn) = bench.dialled(ClientLimits::default());
        bench.act(NetAction::Park { conn, turn, idle_ms: 60_000 });
        spoil(&peer);
        assert_eq!(client_closed(&bench.event()), (reason, ContentState::None, 1));
        bench.act(flight(conn, turn, vec![part("RSET\r\n", 1)]));
        assert_eq!(bench.net.statistics().stale_actions, 1);
    }
}

#[test]
fn a_parked_connection_is_left_when_its_time_is_over() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.dialled(ClientLimits::default());
    bench.act(NetAction::Park { conn, turn, idle_ms: 60_000 });
    bench.pass_ms(60_250);
    assert_eq!(peer.recv(), b"QUIT\r\n");
    peer.shutdown_write();
    assert_eq!(client_closed(&bench.event()), (CloseReason::Idle, ContentState::None, 1));
    assert_eq!(bench.net.statistics().deadlines, 0);
}

#[test]
fn the_dots_reply_split_and_then_the_end_leaves_the_message_in_doubt() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
    bench.act(send_content(conn, turn, &Source::whole(&[b"x\r\n"]), &Door::open(), vec![]));
    assert_eq!(peer.recv(), b"x\r\n.\r\n");
    peer.send(b"250 tak");
    bench.nothing_happens();
    peer.shutdown_write();
    assert_eq!(client_closed(&bench.event()), (CloseReason::Peer, ContentState::Terminated, 2));
    // Its other half ends the doubt.
    let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
    bench.act(send_content(conn, turn, &Source::whole(&[b"x\r\n"]), &Door::open(), vec![]));
    peer.send(b"250 tak");
    bench.nothing_happens();
    peer.send(b"en\r\n");
    peer.shutdown_write();
    assert_eq!(replies(bench.event()).codes, [250]);
}

#[test]
fn the_last_chunk_and_the_end_wait_for_the_gate() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
    let (source, door) = (Source::default(), Door::closed());
    bench.act(send_content(conn, turn, &source, &door, vec![]));
    source.give(SourcePoll::Chunk(Bytes::from_static(b"first\r\n")));
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"", "it may be the last one");
    source.give(SourcePoll::Chunk(Bytes::from_static(b"second\r\n")));
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"first\r\n");
    source.give(SourcePoll::End);
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"");
    door.set(GateState::Open);
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"second\r\n.\r\n");
}

#[test]
fn a_gate_that_never_opens_or_content_that_cannot_be_read_ends_the_connection() {
    for (poll, gate, state) in [
        (SourcePoll::Failed, GateState::Open, ContentState::Partial),
        (SourcePoll::End, GateState::Failed, ContentState::Partial),
    ] {
        let mut bench = Bench::new();
        let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
        let (source, door) = (Source::default(), Door::closed());
        bench.act(send_content(conn, turn, &source, &door, vec![part("RSET\r\n", 1)]));
        for chunk in [&b"first\r\n"[..], b"second\r\n"] {
            source.give(SourcePoll::Chunk(Bytes::from_static(chunk)));
        }
        bench.nothing_happens();
        door.set(gate);
        source.give(poll);
        assert_eq!(client_closed(&bench.event()), (CloseReason::Error, state, 2));
        assert_eq!(peer.recv(), b"first\r\n");
        assert!(source.is_released() && peer.is_closed());
    }
}

#[test]
fn the_next_envelope_goes_with_the_dot_whose_reply_is_told_alone() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
    let then = vec![part("MAIL FROM:<>\r\n", 1), part("DATA\r\n", 1)];
    bench.act(send_content(conn, turn, &Source::whole(&[b"x\r\n"]), &Door::open(), then));
    assert_eq!(peer.recv(), b"x\r\n.\r\nMAIL FROM:<>\r\nDATA\r\n");
    peer.send(b"250 taken\r\n250 a\r\n");
    let heard = replies(bench.event());
    assert_eq!((heard.first, heard.codes, heard.turn), (2, vec![250], turn));
    bench.nothing_happens();
    peer.send(b"354 go\r\n");
    let heard = replies(bench.event());
    assert_eq!((heard.first, heard.codes), (3, vec![250, 354]));
    bench.act(send_content(conn, heard.turn, &Source::whole(&[]), &Door::open(), vec![]));
    assert_eq!(peer.recv(), b".\r\n", "content of nothing");
}

#[test]
fn a_reply_in_the_middle_of_content_stops_it() {
    for (said, codes, reason) in [
        (&b"552 too big\r\n"[..], vec![552], CloseReason::Protocol),
        (b"421 bye\r\n", vec![421], CloseReason::Peer),
        (b"250 taken\r\n", vec![], CloseReason::Protocol),
    ] {
        let mut bench = Bench::new();
        let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
        let source = Source::default();
        bench.act(send_content(conn, turn, &source, &Door::open(), vec![]));
        for chunk in [&b"first\r\n"[..], b"second\r\n"] {
            source.give(SourcePoll::Chunk(Bytes::from_static(chunk)));
        }
        bench.nothing_happens();
        let (half, rest) = said.split_at(5);
        peer.send(half);
        bench.nothing_happens();
        assert!(source.is_released());
        peer.send(rest);
        let mut events = bench.events();
        let end = events.pop().unwrap();
        assert_eq!(client_closed(&end), (reason, ContentState::Partial, 2 + codes.len() as u32));
        assert_eq!(events.into_iter().flat_map(|event| replies(event).codes).collect::<Vec<_>>(), codes);
        assert_eq!(peer.recv(), b"first\r\n");
    }
}

#[test]
fn a_broken_connection_tells_how_much_of_the_content_the_peer_can_have() {
    for (window, state) in [
        (0, ContentState::None),
        (1, ContentState::Partial),
        (8, ContentState::Partial),
        (9, ContentState::Terminated),
        (11, ContentState::Terminated),
    ] {
        let mut bench = Bench::new();
        let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
        peer.limit_window(window);
        let source = Source::whole(&[b"1234\r\n", b"\r\n"]);
        bench.act(send_content(conn, turn, &source, &Door::open(), vec![]));
        peer.reset();
        assert_eq!(client_closed(&bench.event()), (CloseReason::Reset, state, 2));
    }
}

#[test]
fn plain_content_is_stuffed_unless_it_is_clean() {
    for (form, flags, sent) in [
        (Form::Plain, ContentFlags::DOT_LINES, &b"a\r\n..b\r\n.\r\n"[..]),
        (Form::Plain, ContentFlags::default(), b"a\r\n.b\r\n.\r\n"),
        (Form::Wire, ContentFlags::DOT_LINES, b"a\r\n.b\r\n.\r\n"),
    ] {
        let mut bench = Bench::new();
        let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
        bench.act(NetAction::Content {
            conn,
            turn,
            source: Box::new(Source::whole(&[b"a\r", b"\n", b".b\r\n"])),
            form,
            flags,
            gate: Box::new(Door::open()),
            then: vec![],
        });
        assert_eq!(peer.recv(), sent);
    }
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
    bench.act(NetAction::Content {
        conn,
        turn,
        source: Box::new(Source::whole(&[b".a", b"\nb\r"])),
        form: Form::Plain,
        flags: ContentFlags::BARE_LF | ContentFlags::NO_FINAL_CRLF,
        gate: Box::new(Door::open()),
        then: vec![],
    });
    assert_eq!(peer.recv(), b"..a\r\nb\r\n.\r\n");
}

#[test]
fn large_content_goes_as_the_peer_takes_it() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
    peer.limit_window(10_000);
    let line = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n";
    let source = Source::default();
    for _ in 0..10 {
        source.give(SourcePoll::Chunk(Bytes::from(line.repeat(1024))));
    }
    source.give(SourcePoll::End);
    bench.act(send_content(conn, turn, &source, &Door::open(), vec![]));
    let mut received = Vec::new();
    while received.len() < 10 * 64 * 1024 + 3 {
        let octets = peer.recv();
        assert!(!octets.is_empty() && octets.len() <= 10_000);
        received.extend(octets);
        bench.pass_ms(60_000);
    }
    assert_eq!(received, [&line.repeat(10 * 1024)[..], b".\r\n"].concat());
    peer.send(b"250 taken\r\n");
    assert_eq!(replies(bench.event()).codes, [250]);
}

#[test]
fn what_does_not_come_up_is_reported_with_its_cause() {
    let mut bench = Bench::new();
    let conn = bench.net.dial(address(), None, Arc::default());
    let peer = bench.net.memory_accept();
    assert!(peer.is_none(), "nothing happens before a step");
    bench.net.apply(vec![NetAction::Abort { conn }]);
    let NetEvent::DialFailed { stage: DialStage::Connect, errno: 125, conn: failed, .. } = bench.event()
    else {
        panic!("not aborted")
    };
    assert_eq!(failed, conn);
    assert_eq!(bench.net.statistics().client_connections, 0);
}

#[test]
fn a_banner_has_the_deadline_that_answers_connected() {
    for (answer_ms, closes_after_ms) in [(None, 300_000), (Some(10_000), 10_000)] {
        let mut bench = Bench::new();
        let conn = bench.net.dial(address(), None, Arc::default());
        assert!(matches!(bench.event(), NetEvent::Connected { .. }));
        if let Some(deadline_ms) = answer_ms {
            let part = FlightPart { bytes: Bytes::new(), replies: 1, deadline_ms };
            bench.act(flight(conn, 1, vec![part]));
        }
        bench.pass_ms(closes_after_ms - 1_000);
        bench.nothing_happens();
        bench.pass_ms(1_500);
        assert_eq!(client_closed(&bench.event()), (CloseReason::Idle, ContentState::None, 0));
        assert_eq!(bench.net.statistics().deadlines, 1);
    }
    // A banner that was faster than the answer makes it moot.
    let mut bench = Bench::new();
    let (_peer, conn, turn) = bench.dialled(ClientLimits::default());
    let part = FlightPart { bytes: Bytes::new(), replies: 1, deadline_ms: 1 };
    bench.act(flight(conn, 1, vec![part]));
    bench.pass_ms(10_000);
    bench.nothing_happens();
    bench.act(NetAction::Close { conn, turn, quit: false });
    assert_eq!(bench.net.statistics().stale_actions, 0);
}

#[test]
fn each_reply_has_its_time_from_the_one_before() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.dialled(ClientLimits::default());
    bench.act(flight(conn, turn, vec![part("A\r\nB\r\n", 2), part("C\r\n", 1)]));
    bench.pass_ms(90_000);
    peer.send(b"250 a\r\n");
    bench.nothing_happens();
    bench.pass_ms(90_000);
    peer.send(b"250 b\r\n");
    bench.nothing_happens();
    bench.pass_ms(99_000);
    bench.nothing_happens();
    bench.pass_ms(2_000);
    let mut events = bench.events();
    assert_eq!(client_closed(&events.remove(1)), (CloseReason::Idle, ContentState::None, 3));
    let heard = replies(events.remove(0));
    assert_eq!((heard.first, heard.codes), (1, vec![250, 250]), "what was heard is reported");
}

#[test]
fn a_peer_that_takes_nothing_is_left_and_one_that_does_not_answer_the_dot_later() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
    peer.limit_window(1);
    bench.act(send_content(conn, turn, &Source::whole(&[b"x\r\n"]), &Door::open(), vec![]));
    bench.pass_ms(179_000);
    bench.nothing_happens();
    bench.pass_ms(2_000);
    assert_eq!(client_closed(&bench.event()), (CloseReason::Idle, ContentState::Partial, 2));
    let (_peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
    bench.act(send_content(conn, turn, &Source::whole(&[b"x\r\n"]), &Door::open(), vec![]));
    bench.pass_ms(599_000);
    bench.nothing_happens();
    bench.pass_ms(2_000);
    assert_eq!(client_closed(&bench.event()), (CloseReason::Idle, ContentState::Terminated, 2));
}

#[test]
fn nobody_waits_for_ever_for_caller_source_or_gate() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.dialled(ClientLimits::default());
    bench.pass_ms(61_000);
    assert!(peer.is_closed());
    bench.nothing_happens();
    bench.act(flight(conn, turn, vec![part("RSET\r\n", 1)]));
    assert_eq!(client_closed(&bench.event()), (CloseReason::Held, ContentState::None, 1));
    for source in [Source::default(), Source::whole(&[b"x\r\n"])] {
        let (_peer, conn, turn) = bench.asked_for_content(ClientLimits::default());
        bench.act(send_content(conn, turn, &source, &Door::closed(), vec![]));
        bench.pass_ms(59_000);
        bench.nothing_happens();
        bench.pass_ms(2_000);
        assert_eq!(client_closed(&bench.event()), (CloseReason::Held, ContentState::None, 2));
        assert!(source.is_released());
    }
}

#[test]
fn a_peer_that_speaks_no_smtp_is_left() {
    let mut bench = Bench::new();
    bench.net.dial(address(), None, Arc::default());
    bench.event();
    bench.net.memory_accept().unwrap().send(b"HTTP/1.1 400 Bad Request\r\n");
    assert_eq!(client_closed(&bench.event()), (CloseReason::Protocol, ContentState::None, 0));
}

#[test]
fn an_action_that_does_not_fit_ends_the_connection() {
    let mut bench = Bench::new();
    let source = Source::whole(&[b"x\r\n"]);
    for misplaced in [
        |conn, turn, source: &Source| send_content(conn, turn, source, &Door::open(), vec![]),
        |conn, turn, _: &Source| reply(conn, turn, "250 ok\r\n", 1),
    ] {
        let (peer, conn, turn) = bench.dialled(ClientLimits::default());
        bench.act(misplaced(conn, turn, &source));
        assert_eq!(client_closed(&bench.event()), (CloseReason::Error, ContentState::None, 1));
        assert_eq!(peer.recv(), b"");
    }
    assert!(source.is_released());
    assert_eq!(bench.net.statistics().misplaced_actions, 2);
}

#[test]
fn a_flight_that_draws_no_replies_gives_the_turn_back() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = bench.dialled(ClientLimits::default());
    bench.act(flight(conn, turn, vec![part("X\r\n", 0)]));
    let heard = replies(bench.event());
    assert_eq!((heard.turn, heard.first, heard.codes), (turn + 1, 1, vec![]));
    assert_eq!(peer.recv(), b"X\r\n");
}

#[test]
fn at_a_stop_a_waiting_connection_says_quit() {
    let mut bench = Bench::new();
    let (parked, conn, turn) = bench.dialled(ClientLimits::default());
    bench.act(NetAction::Park { conn, turn, idle_ms: 60_000 });
    let (sending, conn, turn) = bench.asked_for_content(ClientLimits::default());
    bench.act(send_content(conn, turn, &Source::default(), &Door::open(), vec![]));
    bench.net.stop();
    assert_eq!(parked.recv(), b"QUIT\r\n");
    assert!(parked.is_closed() && sending.is_closed());
    assert_eq!(bench.recorder.take().len(), 2);
    let late = bench.net.dial(address(), None, Arc::default());
    assert!(matches!(bench.event(), NetEvent::DialFailed { conn, .. } if conn == late));
}
