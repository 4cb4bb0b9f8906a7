//! Incoming connections: deadlines, rates, budgets, back-pressure, panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use penstock_core::smtp::command::Command;
use penstock_net::{
    CloseReason, ContentStatus, EventSink, Grant, MemoryPeer, Net, NetAction, NetConfig, NetEvent, Proxies,
    ServerLimits,
};

use crate::harness::*;

fn limits(change: impl FnOnce(&mut ServerLimits)) -> ServerLimits {
    let mut limits = ServerLimits::default();
    change(&mut limits);
    limits
}

/// Whether the peer was told 421 and finds the connection closed.
fn is_told(peer: &MemoryPeer) -> bool {
    let is_told = peer.recv().starts_with(b"421 ") && peer.is_closed();
    peer.shutdown_write();
    is_told
}

#[test]
fn only_complete_lines_keep_a_connection_alive() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(limits(|limits| limits.idle_ms = 60_000));
    bench.pass_ms(50_000);
    let asked = bench.commands(&peer, b"NOOP\r\n");
    bench.reply(conn, asked.turn, "250 ok\r\n", 1);
    peer.recv();
    for _ in 0..6 {
        bench.pass_ms(9_900);
        peer.send(b"x");
        bench.nothing_happens();
    }
    assert!(!peer.is_closed());
    bench.pass_ms(1_000);
    assert!(is_told(&peer));
    assert_eq!(closed(&bench.event()), (CloseReason::Idle, None));
    assert_eq!(bench.net.statistics().deadlines, 1);
}

#[test]
fn a_command_line_has_its_own_deadline() {
    let mut bench = Bench::new();
    let (peer, _) = bench.session(limits(|limits| limits.command_ms = 20_000));
    bench.pass_ms(50_000);
    peer.send(b"NO");
    bench.nothing_happens();
    bench.pass_ms(19_000);
    assert!(!peer.is_closed());
    bench.pass_ms(2_000);
    assert!(is_told(&peer));
    assert_eq!(closed(&bench.event()), (CloseReason::Idle, None));
}

#[test]
fn octets_of_content_that_end_no_line_do_not_count() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(limits(|limits| limits.idle_ms = 60_000));
    bench.taking(&peer, conn, Draft::default(), 1000);
    for _ in 0..3 {
        bench.pass_ms(50_000);
        peer.send(b"a line\r\n");
        bench.nothing_happens();
    }
    for _ in 0..2 {
        bench.pass_ms(29_000);
        peer.send(b"x");
        bench.nothing_happens();
    }
    bench.pass_ms(3_000);
    assert!(is_told(&peer));
    assert_eq!(closed(&bench.event()), (CloseReason::Idle, Some(4711)));
}

#[test]
fn the_whole_may_last_so_long_but_ends_in_nets_turn_only() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(limits(|limits| limits.total_ms = 100_000));
    bench.pass_ms(90_000);
    let asked = bench.commands(&peer, b"NOOP\r\n");
    bench.pass_ms(30_000);
    assert!(!peer.is_closed());
    bench.reply(conn, asked.turn, "250 ok\r\n", 1);
    assert!(peer.recv().starts_with(b"250 ok\r\n421 "));
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Total, None));
}

#[test]
fn slow_content_is_cut_off_but_not_for_our_own_slowness() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(limits(|limits| limits.min_rate_bytes_s = 10));
    bench.taking(&peer, conn, Draft::default(), 100_000);
    peer.send(&b"123456789\r\n".repeat(28));
    bench.pass_ms(30_250);
    assert!(!peer.is_closed());
    bench.recorder.waits_ms.store(3_000, Ordering::Relaxed);
    bench.pass_ms(100_000);
    peer.send(b"x\r\n");
    bench.pass_ms(100_000);
    bench.recorder.waits_ms.store(0, Ordering::Relaxed);
    bench.pass_ms(29_000);
    assert!(!peer.is_closed());
    bench.pass_ms(2_000);
    assert!(is_told(&peer));
    assert_eq!(closed(&bench.event()), (CloseReason::MinRate, Some(4711)));
}

#[test]
fn content_may_be_as_slow_as_the_limit_says_and_no_slower() {
    for (octets, stays) in [(600, true), (599, false)] {
        let mut bench = Bench::new();
        let (peer, conn) = bench.session(limits(|limits| {
            limits.min_rate_bytes_s = 10;
            limits.rate_window_ms = 60_000;
        }));
        bench.taking(&peer, conn, Draft::default(), 100_000);
        peer.send(&b"x".repeat(octets));
        bench.pass_ms(59_750);
        assert!(!peer.is_closed());
        bench.pass_ms(250);
        assert_eq!(peer.is_closed(), !stays, "{octets}");
        // Then the next time begins, and nothing of what came before counts.
        bench.pass_ms(if stays { 60_000 } else { 0 });
        assert!(is_told(&peer), "{octets}");
        assert_eq!(closed(&bench.event()), (CloseReason::MinRate, Some(4711)));
    }
}

/// How long a peer stays that sends an octet every ten seconds.
fn drip(bench: &mut Bench, peer: &MemoryPeer) -> u64 {
    let mut passed_ms = 0;
    while !peer.is_closed() {
        peer.send(b"N");
        bench.pass_ms(10_000);
        passed_ms += 10_000;
    }
    assert!(is_told(peer));
    passed_ms
}

#[test]
fn an_octet_now_and_then_is_no_sign_of_life() {
    let slow = |limits: &mut ServerLimits| {
        limits.min_rate_bytes_s = 64;
        limits.rate_window_ms = 60_000;
        limits.command_ms = 60_000;
    };
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(limits(slow));
    bench.taking(&peer, conn, Draft::default(), 100_000);
    assert_eq!(drip(&mut bench, &peer), 60_000);
    assert_eq!(closed(&bench.event()).0, CloseReason::MinRate);
    let (peer, _) = bench.session(limits(slow));
    // The line begins when its first octet is read.
    assert_eq!(drip(&mut bench, &peer), 70_000);
    assert_eq!(closed(&bench.event()).0, CloseReason::Idle);
}

#[test]
fn a_peer_that_takes_no_replies_is_left() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(limits(|limits| limits.idle_ms = 60_000));
    peer.limit_window(0);
    let asked = bench.commands(&peer, b"NOOP\r\n");
    bench.reply(conn, asked.turn, "250 ok\r\n", 1);
    bench.pass_ms(59_000);
    assert!(!peer.is_closed());
    bench.pass_ms(2_000);
    assert!(!peer.is_closed(), "what is left may still be taken");
    bench.pass_ms(11_000);
    assert!(peer.is_closed());
    assert_eq!(closed(&bench.event()), (CloseReason::Idle, None));
}

#[test]
fn replies_are_capped_and_no_more_is_read_while_many_wait() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    peer.limit_window(0);
    let long = || Bytes::from(vec![b'2'; 10_000]);
    let send = |bench: &mut Bench, turn| {
        bench.act(NetAction::Reply {
            conn,
            turn,
            bytes: long(),
            answers: 1,
            delay_ms: 0,
            close: false,
            grant: Grant::None,
        });
    };
    for _ in 0..2 {
        let asked = bench.commands(&peer, b"NOOP\r\n");
        send(&mut bench, asked.turn);
    }
    peer.send(b"NOOP\r\n");
    bench.nothing_happens();
    peer.limit_window(5_000);
    assert_eq!(peer.recv().len(), 0);
    bench.step();
    assert_eq!(peer.recv().len(), 5_000);
    let asked = commands(bench.event());
    peer.limit_window(0);
    let bytes = Bytes::from(vec![b'2'; 60_000]);
    bench.act(NetAction::Reply {
        conn,
        turn: asked.turn,
        bytes,
        answers: 1,
        delay_ms: 0,
        close: false,
        grant: Grant::None,
    });
    assert_eq!(closed(&bench.event()), (CloseReason::Protocol, None));
}

#[test]
fn a_tarpit_holds_back_a_reply_and_all_that_follows() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"NOOP\r\nRSET\r\n");
    let bytes = Bytes::from_static(b"550 slowly\r\n");
    bench.net.apply(vec![
        reply(conn, asked.turn, "250 at once\r\n", 0),
        NetAction::Reply {
            conn,
            turn: asked.turn,
            bytes,
            answers: 1,
            delay_ms: 5_000,
            close: false,
            grant: Grant::None,
        },
        reply(conn, asked.turn, "250 behind\r\n", 1),
    ]);
    peer.send(b"NOOP\r\n");
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"250 at once\r\n");
    bench.pass_ms(4_750);
    assert_eq!(peer.recv(), b"");
    bench.pass_ms(500);
    assert_eq!(peer.recv(), b"550 slowly\r\n250 behind\r\n");
    assert_eq!(commands(bench.event()).items, [Ok(Command::Noop)]);
}

#[test]
fn a_closing_reply_that_is_held_back_is_sent_at_its_time() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"FOO\r\nFOO\r\n");
    let bytes = Bytes::from_static(b"500 what?\r\n421 enough\r\n");
    bench.act(NetAction::Reply {
        conn,
        turn: asked.turn,
        bytes,
        answers: 2,
        delay_ms: 25_000,
        close: true,
        grant: Grant::None,
    });
    bench.nothing_happens();
    bench.pass_ms(24_750);
    assert_eq!(peer.recv(), b"");
    bench.pass_ms(500);
    assert_eq!(peer.recv(), b"500 what?\r\n421 enough\r\n");
    assert!(peer.is_closed());
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()).0, CloseReason::Local);
}

#[test]
fn a_peer_that_does_not_take_a_held_reply_is_given_up_from_its_release_on() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"FOO\r\n");
    peer.limit_window(0);
    let bytes = Bytes::from_static(b"421 enough\r\n");
    bench.act(NetAction::Reply {
        conn,
        turn: asked.turn,
        bytes,
        answers: 1,
        delay_ms: 25_000,
        close: true,
        grant: Grant::None,
    });
    bench.pass_ms(34_000);
    bench.nothing_happens();
    bench.pass_ms(1_500);
    assert_eq!(closed(&bench.event()).0, CloseReason::Local);
}

#[test]
fn content_waits_for_room_in_its_sink() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let budget = Arc::new(Budget::default());
    let draft = Draft { budget: Some(Arc::clone(&budget)), ..Draft::default() };
    bench.taking(&peer, conn, draft, 1000);
    peer.send(b"first\r\n");
    bench.nothing_happens();
    bench.pass_ms(9_000);
    peer.send(b"second\r\n.\r\nNOOP\r\n");
    bench.nothing_happens();
    budget.grow(7);
    bench.nothing_happens();
    budget.grow(8);
    let taken = content(bench.event());
    assert_eq!((taken.status, taken.octets), (ContentStatus::Complete, b"first\r\nsecond\r\n".to_vec()));
    bench.reply(conn, taken.turn, "250 ok\r\n", 1);
    assert_eq!(commands(bench.event()).items, [Ok(Command::Noop)]);
}

#[test]
fn content_that_finds_no_room_for_too_long_is_drained_and_reported() {
    let mut bench = Bench::new();
    let sessions: Vec<_> = (0..3).map(|_| bench.session(ServerLimits::default())).collect();
    let budget = Arc::new(Budget::default());
    budget.grow(10);
    for (peer, conn) in &sessions {
        let draft = Draft { budget: Some(Arc::clone(&budget)), ..Draft::default() };
        bench.taking(peer, *conn, draft, 1000);
        peer.send(b"half\r\n");
        bench.nothing_happens();
    }
    bench.pass_ms(10_500);
    // The first has room for what it has sent so far; nobody can finish, and nobody waits for ever.
    for (peer, _) in &sessions {
        peer.send(b"other half\r\n.\r\n");
    }
    let mut starved = bench.events();
    bench.pass_ms(10_500);
    starved.extend(bench.events());
    assert_eq!(starved.len(), 3);
    assert!(starved.into_iter().all(|event| content(event).status == ContentStatus::Starved));
}

#[test]
fn too_many_connections_are_turned_away() {
    let mut bench = Bench::with(NetConfig { connections_max: 2, ..NetConfig::default() });
    let (_first, conn) = bench.connect();
    let (_second, _) = bench.connect();
    let third = bench.net.memory_connect(LISTENER, peer_address());
    bench.nothing_happens();
    assert!(third.recv().starts_with(b"421 4.3.2 "));
    assert!(third.is_closed());
    assert_eq!(bench.net.statistics().refused, 1);
    bench.act(NetAction::Abort { conn });
    bench.events();
    bench.connect();
    assert_eq!(bench.net.statistics().server_connections, 2);
}

#[test]
fn no_more_than_sixty_four_are_accepted_in_a_pass_but_all_in_the_end() {
    let mut bench = Bench::new();
    let passes = bench.net.statistics().passes;
    let _peers: Vec<_> = (0..200).map(|_| bench.net.memory_connect(LISTENER, peer_address())).collect();
    assert_eq!(bench.events().len(), 200);
    assert!(bench.net.statistics().passes - passes >= 4);
}

#[test]
fn a_caller_that_is_behind_stops_accepting_and_reading() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(limits(|limits| limits.idle_ms = 60_000));
    let (busy, other) = bench.session(ServerLimits::default());
    bench.taking(&busy, other, Draft::default(), 1000);
    bench.recorder.waits_ms.store(2_000, Ordering::Relaxed);
    peer.send(b"NOOP\r\n");
    busy.send(b"x\r\n.\r\n");
    let waiting = bench.net.memory_connect(LISTENER, peer_address());
    bench.nothing_happens();
    let passes = bench.net.statistics().passes;
    bench.pass_ms(100_000);
    assert!(bench.net.statistics().passes - passes < 5_000, "it does not spin");
    assert!(!waiting.is_closed() && !peer.is_closed());
    bench.recorder.waits_ms.store(10_000, Ordering::Relaxed);
    bench.step();
    assert!(waiting.recv().starts_with(b"421 ") && waiting.is_closed());
    bench.recorder.waits_ms.store(1_999, Ordering::Relaxed);
    let mut events = bench.events();
    assert_eq!(events.len(), 2);
    assert_eq!(content(events.remove(1)).octets, b"x\r\n");
    let asked = commands(events.remove(0));
    bench.reply(conn, asked.turn, "250 ok\r\n", 1);
    assert_eq!(peer.recv(), b"250 ok\r\n");
}

#[test]
fn a_panic_in_a_sink_costs_its_connection_only() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let (other, other_conn) = bench.session(ServerLimits::default());
    bench.taking(&peer, conn, Draft { panics: true, ..Draft::default() }, 1000);
    bench.taking(&other, other_conn, Draft::default(), 1000);
    peer.send(b"x\r\n");
    other.send(b"y\r\n.\r\n");
    let mut events = bench.events();
    assert_eq!(content(events.remove(0)).octets, b"y\r\n");
    assert_eq!(closed(&events.remove(0)), (CloseReason::Panic, Some(4711)));
    assert!(events.is_empty() && peer.is_closed() && !other.is_closed());
    assert_eq!(bench.net.statistics().panics, 1);
    assert_eq!(bench.net.statistics().server_connections, 1);
}

#[test]
fn a_panic_in_the_callers_sink_is_counted_and_the_next_event_reaches_it() {
    struct Fickle {
        panics: AtomicBool,
        taken: AtomicU64,
    }

    impl EventSink for Fickle {
        fn push(&self, events: &mut Vec<NetEvent>) {
            assert!(!self.panics.swap(false, Ordering::Relaxed), "an event sink that was told to panic");
            self.taken.fetch_add(events.len() as u64, Ordering::Relaxed);
        }
    }

    let sink = Arc::new(Fickle { panics: AtomicBool::new(true), taken: AtomicU64::new(0) });
    let config = NetConfig { inline: true, ..NetConfig::default() };
    let net = Net::start(config, Arc::clone(&sink) as Arc<dyn EventSink>).unwrap();
    net.listen(LISTENER, peer_address(), Proxies::default()).unwrap();
    for _ in 0..2 {
        net.memory_connect(LISTENER, peer_address());
        net.step(1_000);
    }
    assert_eq!((net.statistics().panics, sink.taken.load(Ordering::Relaxed)), (1, 1));
}

#[test]
fn at_a_stop_everybody_is_told_and_a_commit_that_is_done_is_answered() {
    let mut bench = Bench::new();
    let (idle, _) = bench.session(ServerLimits::default());
    let (receiving, conn) = bench.session(ServerLimits::default());
    bench.taking(&receiving, conn, Draft::default(), 1000);
    let (committing, conn) = bench.session(ServerLimits::default());
    bench.taking(&committing, conn, Draft::default(), 1000);
    committing.send(b".\r\n");
    let taken = content(bench.event());
    bench.act(await_durable(conn, taken.turn));
    bench.net.complete(&[(conn, taken.turn, true)]);
    bench.net.stop();
    assert!(is_told(&idle) && is_told(&receiving));
    assert!(committing.recv().starts_with(b"250 kept\r\n421 "));
    let ends = bench.recorder.take();
    assert!(ends.iter().all(|event| matches!(event, NetEvent::Closed { reason: CloseReason::Local, .. })));
    assert_eq!(ends.len(), 3);
    bench.net.stop();
}
