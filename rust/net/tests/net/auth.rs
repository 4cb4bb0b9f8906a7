//! Authentication exchanges: challenges and the lines that answer them.

use bytes::Bytes;
use penstock_core::smtp::command::{Command, MalformedKind};
use penstock_core::smtp::sasl::Response;
use penstock_core::smtp::secret::Secret;
use penstock_net::{CloseReason, Conn, NetAction, NetEvent, ServerLimits};

use crate::harness::*;

pub(crate) fn challenge(conn: Conn, turn: u32) -> NetAction {
    NetAction::Challenge { conn, turn, bytes: Bytes::from_static(b"334 VXNlcm5hbWU6\r\n") }
}

fn auth_line(event: NetEvent) -> (u32, Response, bool) {
    match event {
        NetEvent::AuthLine { turn, response, early, .. } => (turn, response, early),
        other => panic!("{}", kind(&other)),
    }
}

fn octets(octets: &[u8]) -> Response {
    Response::Octets(Secret::new(octets.to_vec()))
}

#[test]
fn an_exchange_goes_line_by_line_however_it_is_cut() {
    for size in 1..14 {
        let mut bench = Bench::new();
        let (peer, conn) = bench.session(ServerLimits::default());
        let asked = bench.commands(&peer, b"NOOP\r\nAUTH LOGIN\r\n");
        assert!(matches!(asked.items.last(), Some(Ok(Command::Auth { initial: None, .. }))));
        bench.net.apply(vec![reply(conn, asked.turn, "250 ok\r\n", 1), challenge(conn, asked.turn)]);
        bench.step();
        assert_eq!(peer.recv(), b"250 ok\r\n334 VXNlcm5hbWU6\r\n");
        for (line, secret) in [(&b"dGlt\r\n"[..], &b"tim"[..]), (b"c2VzYW1l\r\n", b"sesame")] {
            let mut events = Vec::new();
            for piece in line.chunks(size) {
                peer.send(piece);
                events.extend(bench.events());
            }
            let (turn, response, early) = auth_line(events.remove(0));
            assert_eq!((response, early, events.len()), (octets(secret), false, 0));
            if secret == b"tim" {
                bench.act(challenge(conn, turn));
                assert_eq!(peer.recv(), b"334 VXNlcm5hbWU6\r\n");
            } else {
                bench.act(reply(conn, turn, "235 yes\r\n", 1));
                assert_eq!(peer.recv(), b"235 yes\r\n");
            }
        }
        // What comes next is a command again, and nothing is early about it.
        let next = bench.commands(&peer, b"NOOP\r\n");
        assert_eq!((next.items, next.early), (vec![Ok(Command::Noop)], false));
        let counted = bench.net.statistics();
        assert_eq!((counted.auth_lines, counted.stale_actions, counted.misplaced_actions), (2, 0, 0));
    }
}

#[test]
fn a_response_may_be_given_up_or_be_no_base64() {
    for (line, expected) in [
        (&b"*\r\n"[..], Response::Cancel),
        (b"what?\r\n", Response::Malformed(MalformedKind::Base64)),
        (b"AA\0=\r\n", Response::Malformed(MalformedKind::Nul)),
        (b"AA\n=\r\n", Response::Malformed(MalformedKind::BareLf)),
        (b"\r\n", octets(b"")),
    ] {
        let mut bench = Bench::new();
        let (peer, conn) = bench.session(ServerLimits::default());
        let asked = bench.commands(&peer, b"AUTH PLAIN\r\n");
        bench.act(challenge(conn, asked.turn));
        peer.send(line);
        let (turn, response, _) = auth_line(bench.event());
        assert_eq!(response, expected);
        bench.act(reply(conn, turn, "501 no\r\n", 1));
        assert_eq!(bench.commands(&peer, b"NOOP\r\n").items, [Ok(Command::Noop)]);
    }
}

#[test]
fn what_comes_before_a_challenge_is_no_answer_to_it() {
    // Behind AUTH in one write, and in the kernel when the challenge is given.
    for is_together in [true, false] {
        let mut bench = Bench::new();
        let (peer, conn) = bench.session(ServerLimits::default());
        let first: &[u8] = if is_together { b"AUTH LOGIN\r\ndGlt\r\n" } else { b"AUTH LOGIN\r\n" };
        let asked = bench.commands(&peer, first);
        assert_eq!(asked.early, is_together);
        if !is_together {
            peer.send(b"dGlt\r\n");
        }
        bench.act(challenge(conn, asked.turn));
        peer.shutdown_write();
        assert_eq!(closed(&bench.event()), (CloseReason::Protocol, None));
    }
}

#[test]
fn commands_behind_a_response_are_early_and_read_as_commands() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"AUTH PLAIN\r\n");
    bench.act(challenge(conn, asked.turn));
    peer.send(b"AHgAeQ==\r\nNOOP\r\n");
    let (turn, response, early) = auth_line(bench.event());
    assert_eq!((response, early), (octets(b"\0x\0y"), true));
    bench.act(reply(conn, turn, "535 no\r\n", 1));
    assert_eq!(commands(bench.event()).items, [Ok(Command::Noop)]);
}

#[test]
fn a_challenge_to_anything_but_auth_is_a_fault_of_the_caller() {
    for asked in [&b"NOOP\r\n"[..], b"EHLO a.example\r\n", b"DATA\r\n"] {
        let mut bench = Bench::new();
        let (peer, conn) = bench.session(ServerLimits::default());
        let asked = bench.commands(&peer, asked);
        bench.act(challenge(conn, asked.turn));
        assert_eq!(closed(&bench.event()), (CloseReason::Error, None));
        assert_eq!(bench.net.statistics().misplaced_actions, 1);
    }
}

#[test]
fn a_peer_that_does_not_answer_a_challenge_is_told_to_leave() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits { idle_ms: 1000, ..ServerLimits::default() });
    let asked = bench.commands(&peer, b"AUTH PLAIN\r\n");
    bench.act(challenge(conn, asked.turn));
    peer.recv();
    bench.pass_ms(1500);
    assert!(peer.recv().starts_with(b"421 "));
}

#[test]
fn a_goodbye_reaches_a_peer_that_has_been_challenged() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"AUTH PLAIN\r\n");
    bench.act(challenge(conn, asked.turn));
    peer.recv();
    bench.act(last_reply(conn, asked.turn, "421 going\r\n", 0));
    assert_eq!(peer.recv(), b"421 going\r\n");
}
