//! Incoming connections: turns, content, endings.

use bytes::Bytes;
use penstock_core::smtp::command::Command;
use penstock_net::{CloseReason, ContentStatus, NetAction, NetEvent, ServerLimits};

use crate::harness::*;

#[test]
fn a_message_is_taken_and_answered_when_it_is_durable() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let envelope = bench.commands(&peer, b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n");
    assert_eq!((envelope.items.len(), envelope.early), (3, false));
    let replies = reply(conn, envelope.turn, "250 a\r\n250 b\r\n", 2);
    bench.net.apply(vec![replies, take(conn, envelope.turn, Draft::default(), 100)]);
    bench.step();
    assert_eq!(peer.recv(), b"250 a\r\n250 b\r\n354 go\r\n");
    peer.send(b"Subject: x\r\n\r\n..\r\n.\r\nQUIT\r\n");
    let taken = content(bench.event());
    assert_eq!((taken.status, taken.size), (ContentStatus::Complete, 17));
    assert_eq!(taken.octets, b"Subject: x\r\n\r\n..\r\n");
    bench.act(await_durable(conn, taken.turn));
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"");
    bench.net.complete(&[(conn, taken.turn, true)]);
    let quit = commands(bench.event());
    assert_eq!(peer.recv(), b"250 kept\r\n");
    assert_eq!(quit.items, [Ok(Command::Quit)]);
    bench.act(last_reply(conn, quit.turn, "221 bye\r\n", 1));
    assert_eq!(peer.recv(), b"221 bye\r\n");
    assert!(peer.is_closed());
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Local, None));
    let counted = bench.net.statistics();
    assert_eq!((counted.opened, counted.closed, counted.server_connections), (1, 1, 0));
    assert_eq!((counted.stale_actions, counted.misplaced_actions), (0, 0));
}

#[test]
fn a_completion_may_come_before_it_is_waited_for() {
    for (is_durable, expected) in [(true, &b"250 kept\r\n"[..]), (false, b"451 lost\r\n")] {
        let mut bench = Bench::new();
        let (peer, conn) = bench.session(ServerLimits::default());
        bench.taking(&peer, conn, Draft::default(), 100);
        peer.send(b".\r\n");
        let taken = content(bench.event());
        bench.net.complete(&[(conn, taken.turn, is_durable)]);
        bench.nothing_happens();
        bench.act(await_durable(conn, taken.turn));
        assert_eq!(peer.recv(), expected);
    }
}

#[test]
fn data_refused_with_the_body_pipelined_closes_behind_the_refusal() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"DATA\r\nMAIL FROM:<x@y.example>\r\n.\r\n");
    assert!(asked.early);
    bench.act(reply(conn, asked.turn, "554 no\r\n", 1));
    assert_eq!(peer.recv(), b"554 no\r\n");
    assert!(peer.is_closed());
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Protocol, None));
    // The same, with the body still in the kernel when the refusal is sent.
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"DATA\r\n");
    assert!(!asked.early);
    peer.send(b"MAIL FROM:<x@y.example>\r\n.\r\n");
    bench.act(reply(conn, asked.turn, "554 no\r\n", 1));
    assert_eq!(peer.recv(), b"554 no\r\n");
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Protocol, None));
}

#[test]
fn the_end_of_content_is_found_cut_everywhere() {
    let octets = b"a\r\n.b\r\n..\r\n\r\n.\r\nNOOP\r\n";
    for first in 0..octets.len() {
        for second in first..octets.len() {
            let mut bench = Bench::new();
            let (peer, conn) = bench.session(ServerLimits::default());
            bench.taking(&peer, conn, Draft::default(), 100);
            let mut events = Vec::new();
            for piece in [&octets[..first], &octets[first..second], &octets[second..]] {
                peer.send(piece);
                events.extend(bench.events());
            }
            let taken = content(events.remove(0));
            assert_eq!(taken.octets, b"a\r\n.b\r\n..\r\n\r\n");
            bench.act(reply(conn, taken.turn, "250 ok\r\n", 1));
            assert_eq!(commands(bench.event()).items, [Ok(Command::Noop)]);
        }
    }
}

#[test]
fn a_fin_after_quit_leaves_all_replies_to_be_read() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    peer.limit_window(10);
    peer.send(b"NOOP\r\nRSET\r\nQUIT\r\nNOOP\r\n");
    peer.shutdown_write();
    let asked = commands(bench.event());
    assert_eq!(asked.items.len(), 3);
    bench.act(reply(conn, asked.turn, "250 one\r\n250 two\r\n", 2));
    bench.act(last_reply(conn, asked.turn, "221 bye\r\n", 1));
    let mut received = Vec::new();
    for is_closed in [false, false, true] {
        assert_eq!(peer.is_closed(), is_closed);
        received.extend(peer.recv());
        bench.step();
    }
    assert_eq!(received, b"250 one\r\n250 two\r\n221 bye\r\n");
    assert_eq!(closed(&bench.event()), (CloseReason::Local, None));
    assert!(peer.is_closed());
}

#[test]
fn a_fin_is_no_close_while_commands_are_buffered() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    peer.send(b"EHLO a.example\r\nMAIL FROM:<>\r\nRCPT TO");
    peer.shutdown_write();
    for expected in ["250 one\r\n", "250 two\r\n"] {
        let asked = commands(bench.event());
        assert_eq!(asked.items.len(), 1);
        bench.reply(conn, asked.turn, expected, 1);
        assert_eq!(peer.recv(), expected.as_bytes());
    }
    // What is left is no command and never will be.
    assert_eq!(closed(&bench.event()), (CloseReason::Peer, None));
}

#[test]
fn content_that_is_cut_off_is_reported_as_gone() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    bench.taking(&peer, conn, Draft::default(), 100);
    peer.send(b"half\r\n.");
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Peer, Some(4711)));
    let (peer, conn) = bench.session(ServerLimits::default());
    bench.taking(&peer, conn, Draft::default(), 100);
    peer.send(b"half\r\n");
    bench.nothing_happens();
    peer.reset();
    assert_eq!(closed(&bench.event()), (CloseReason::Reset, Some(4711)));
}

#[test]
fn a_rst_while_committing_leaves_the_completion_to_nobody() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    bench.taking(&peer, conn, Draft::default(), 100);
    peer.send(b".\r\n");
    let taken = content(bench.event());
    bench.act(await_durable(conn, taken.turn));
    peer.reset();
    assert_eq!(closed(&bench.event()), (CloseReason::Reset, None));
    bench.net.complete(&[(conn, taken.turn, true)]);
    bench.nothing_happens();
    assert_eq!(bench.net.statistics().stale_actions, 1);
}

#[test]
fn an_event_is_answered_before_the_end_is_told() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"NOOP\r\n");
    peer.reset();
    bench.nothing_happens();
    bench.reply(conn, asked.turn, "250 ok\r\n", 1);
    assert_eq!(closed(&bench.event()), (CloseReason::Reset, None));
}

#[test]
fn a_sync_that_stalls_past_ten_minutes_closes_without_a_word() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    bench.taking(&peer, conn, Draft::default(), 100);
    peer.send(b".\r\n");
    let taken = content(bench.event());
    bench.act(await_durable(conn, taken.turn));
    bench.pass_ms(599_000);
    bench.nothing_happens();
    assert!(!peer.is_closed());
    bench.pass_ms(2_000);
    assert_eq!(closed(&bench.event()), (CloseReason::Held, None));
    assert!(peer.is_closed());
    assert_eq!(peer.recv(), b"");
    bench.net.complete(&[(conn, taken.turn, false)]);
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"");
}

#[test]
fn a_caller_that_says_so_may_take_longer_and_hears_of_the_end_meanwhile() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.connect();
    for _ in 0..5 {
        bench.pass_ms(50_000);
        bench.reply(conn, 1, "", 0);
    }
    bench.act(begin(conn, ServerLimits::default()));
    assert_eq!(peer.recv(), b"220 me\r\n");
    let asked = bench.commands(&peer, b"NOOP\r\nNOOP\r\nNOOP\r\n");
    bench.pass_ms(50_000);
    bench.reply(conn, asked.turn, "250 one\r\n", 1);
    bench.pass_ms(50_000);
    bench.reply(conn, asked.turn, "", 0);
    bench.pass_ms(50_000);
    assert_eq!(peer.recv(), b"250 one\r\n");
    peer.reset();
    assert_eq!(closed(&bench.event()), (CloseReason::Reset, None));
    bench.reply(conn, asked.turn, "250 two\r\n250 three\r\n", 2);
    bench.nothing_happens();
    let counted = bench.net.statistics();
    assert_eq!((counted.stale_actions, counted.misplaced_actions), (1, 0));
}

#[test]
fn a_turn_that_is_held_too_long_ends_with_a_421_but_not_over_a_durable_message() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"NOOP\r\n");
    bench.pass_ms(61_000);
    assert!(peer.recv().starts_with(b"421 4.3.2 "));
    peer.shutdown_write();
    bench.nothing_happens();
    bench.reply(conn, asked.turn, "250 too late\r\n", 1);
    assert_eq!(closed(&bench.event()), (CloseReason::Held, None));
    assert_eq!(peer.recv(), b"");

    let (peer, conn) = bench.session(ServerLimits::default());
    bench.taking(&peer, conn, Draft::default(), 100);
    peer.send(b".\r\n");
    let taken = content(bench.event());
    bench.net.complete(&[(conn, taken.turn, true)]);
    bench.pass_ms(61_000);
    assert_eq!(peer.recv(), b"");
    assert!(peer.is_closed());
    assert_eq!(bench.net.statistics().deadlines, 2);
}

#[test]
fn a_late_hook_is_stale_also_when_the_slot_is_used_again() {
    let mut bench = Bench::new();
    let (late, old) = bench.session(ServerLimits::default());
    let asked = bench.commands(&late, b"NOOP\r\n");
    bench.act(NetAction::Abort { conn: old });
    assert_eq!(closed(&bench.event()), (CloseReason::Local, None));
    let (peer, new) = bench.session(ServerLimits::default());
    assert_eq!(old >> 40, new >> 40, "the slot is used again");
    let again = bench.commands(&peer, b"NOOP\r\n");
    assert_eq!(again.turn, asked.turn);
    bench.reply(old, asked.turn, "250 for another\r\n", 1);
    let budget = std::sync::Arc::new(Budget::default());
    let draft = Draft { budget: Some(std::sync::Arc::clone(&budget)), ..Draft::default() };
    bench.act(take(old, asked.turn, draft, 100));
    assert_eq!(std::sync::Arc::strong_count(&budget), 1, "what a stale action carries is released");
    bench.reply(new, again.turn - 1, "250 for an earlier turn\r\n", 1);
    assert_eq!(bench.net.statistics().stale_actions, 3);
    assert_eq!(peer.recv(), b"");
    bench.reply(new, again.turn, "250 ok\r\n", 1);
    assert_eq!(peer.recv(), b"250 ok\r\n");
}

#[test]
fn an_action_that_does_not_fit_ends_the_connection() {
    for misplaced in [
        |conn, turn| take(conn, turn, Draft::default(), 100),
        |conn, turn| reply(conn, turn, "250 a\r\n250 b\r\n", 2),
        |conn, turn| await_durable(conn, turn),
        |conn, turn| NetAction::Park { conn, turn, idle_ms: 1 },
        |conn, turn| flight(conn, turn, vec![]),
    ] {
        let mut bench = Bench::new();
        let (peer, conn) = bench.session(ServerLimits::default());
        let asked = bench.commands(&peer, b"NOOP\r\n");
        bench.act(misplaced(conn, asked.turn));
        assert_eq!(closed(&bench.event()), (CloseReason::Error, None));
        assert_eq!(bench.net.statistics().misplaced_actions, 1);
    }
}

#[test]
fn what_is_known_is_sent_before_the_rest_is_waited_for() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nNOOP\r\n");
    bench.reply(conn, asked.turn, "250 a\r\n", 1);
    assert_eq!(peer.recv(), b"250 a\r\n");
    peer.send(b"RSET\r\n");
    bench.nothing_happens();
    bench.reply(conn, asked.turn, "450 b\r\n250 c\r\n", 2);
    assert_eq!(peer.recv(), b"450 b\r\n250 c\r\n");
    assert_eq!(commands(bench.event()).items, [Ok(Command::Rset)]);
}

#[test]
fn who_speaks_before_the_banner_is_early() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.connect();
    peer.send(b"EHLO a.example\r\n");
    bench.act(NetAction::Begin {
        conn,
        turn: 1,
        limits: std::sync::Arc::default(),
        tls: None,
        banner: Bytes::from_static(b"220 me\r\n"),
        delay_ms: 2_000,
    });
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"");
    bench.pass_ms(2_250);
    assert_eq!(peer.recv(), b"220 me\r\n");
    assert!(commands(bench.event()).early);
}

#[test]
fn a_peer_can_be_turned_away_instead_of_greeted() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.connect();
    bench.act(last_reply(conn, 1, "554 no\r\n", 0));
    assert_eq!(peer.recv(), b"554 no\r\n");
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Refused, None));
}

#[test]
fn a_silent_peer_can_be_told_goodbye_in_the_turn_before() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"NOOP\r\n");
    bench.reply(conn, asked.turn, "250 ok\r\n", 1);
    bench.act(last_reply(conn, asked.turn, "421 bye\r\n", 0));
    assert_eq!(peer.recv(), b"250 ok\r\n421 bye\r\n");
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Local, None));
    // One that has spoken meanwhile has its answer coming.
    let (peer, conn) = bench.session(ServerLimits::default());
    let first = bench.commands(&peer, b"NOOP\r\n");
    bench.reply(conn, first.turn, "250 ok\r\n", 1);
    bench.commands(&peer, b"NOOP\r\n");
    bench.act(last_reply(conn, first.turn, "421 bye\r\n", 0));
    assert_eq!(peer.recv(), b"250 ok\r\n");
    assert_eq!(bench.net.statistics().stale_actions, 1);
}

#[test]
fn a_closed_connection_is_listened_to_for_a_while() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"QUIT\r\n");
    bench.act(last_reply(conn, asked.turn, "221 bye\r\n", 1));
    for _ in 0..3 {
        peer.send(&vec![b'x'; 60_000]);
        bench.nothing_happens();
    }
    bench.pass_ms(2_500);
    assert_eq!(closed(&bench.event()), (CloseReason::Local, None));
    // Too much of it is not listened to.
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"QUIT\r\n");
    bench.act(last_reply(conn, asked.turn, "221 bye\r\n", 1));
    peer.send(&vec![b'x'; 300_000]);
    assert_eq!(closed(&bench.event()), (CloseReason::Local, None));
}

#[test]
fn content_that_is_refused_is_read_to_its_end() {
    for (octets, limit_bytes, status) in [
        (&b"12345\r\n.\r\n"[..], 6, ContentStatus::TooLarge),
        (b"1\n.\n2\r\n.\r\n", 100, ContentStatus::BadLineEnding),
        (b"12345\r\n.\r\n", 7, ContentStatus::Complete),
    ] {
        let mut bench = Bench::new();
        let (peer, conn) = bench.session(ServerLimits::default());
        bench.taking(&peer, conn, Draft::default(), limit_bytes);
        peer.send(octets);
        peer.send(b"NOOP\r\n");
        let taken = content(bench.event());
        assert_eq!(taken.status, status);
        bench.reply(conn, taken.turn, "552 no\r\n", 1);
        assert_eq!(commands(bench.event()).items, [Ok(Command::Noop)]);
    }
}

#[test]
fn an_aborted_connection_ends_whosever_turn_it_is() {
    let mut bench = Bench::new();
    let (_peer, conn) = bench.connect();
    bench.act(NetAction::Abort { conn });
    assert_eq!(closed(&bench.event()), (CloseReason::Local, None));
    let (peer, conn) = bench.session(ServerLimits::default());
    bench.taking(&peer, conn, Draft::default(), 100);
    bench.act(NetAction::Abort { conn });
    assert_eq!(closed(&bench.event()), (CloseReason::Local, Some(4711)));
    assert!(matches!(bench.net.memory_connect(99, peer_address()), peer if peer.is_closed()));
    assert!(bench.events().iter().all(|event| !matches!(event, NetEvent::Opened { .. })));
}
