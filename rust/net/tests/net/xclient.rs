//! A connection whose far end speaks for another from now on.

use std::sync::Arc;

use bytes::Bytes;
use penstock_core::smtp::command::{Charset, Command, Grammar};
use penstock_net::{
    CloseReason, Conn, Grant, MemoryPeer, NetAction, NetEvent, ServerLimits, StandardReplies,
};

use crate::harness::*;

const XCLIENT: &[u8] = b"XCLIENT ADDR=203.0.113.7\r\n";

fn restart(conn: Conn, turn: u32, limits: ServerLimits) -> NetAction {
    NetAction::Restart { conn, turn, limits: Arc::new(limits), banner: Bytes::from_static(b"220 again\r\n") }
}

fn granted(mail: &'static [u8]) -> ServerLimits {
    let standard = StandardReplies { mail: Bytes::from_static(mail), ..StandardReplies::default() };
    ServerLimits { standard, ..ServerLimits::default() }
}

/// A session that has sent XCLIENT.
fn asked(bench: &mut Bench, limits: ServerLimits) -> (MemoryPeer, Conn, u32) {
    let (peer, conn) = bench.session(limits);
    let asked = bench.commands(&peer, XCLIENT);
    assert!(matches!(&asked.items[..], [Ok(Command::Xclient { attributes })] if attributes.len() == 1));
    assert!(!asked.early);
    (peer, conn, asked.turn)
}

#[test]
fn a_grant_does_not_survive_a_change_of_who_speaks() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(granted(b"250 the old\r\n"));
    let hello = bench.commands(&peer, b"EHLO proxy.example\r\n");
    bench.act(granting(conn, hello.turn, "250 hello\r\n", Grant::Mail));
    assert_eq!(peer.recv(), b"250 hello\r\n");
    let asked = bench.commands(&peer, XCLIENT);
    bench.act(restart(conn, asked.turn, granted(b"250 the new\r\n")));
    assert_eq!(peer.recv(), b"220 again\r\n");
    let mail = bench.commands(&peer, b"MAIL FROM:<a@b.example>\r\n");
    assert!(matches!(&mail.items[..], [Ok(Command::Mail { .. })]) && mail.answered == 0);
    // What is granted from now on is answered as the new limits say.
    bench.act(granting(conn, mail.turn, "503 no\r\n", Grant::Mail));
    peer.recv();
    peer.send(b"MAIL FROM:<a@b.example>\r\n");
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"250 the new\r\n");
}

#[test]
fn what_comes_behind_xclient_before_its_answer_ends_the_connection() {
    for at_once in [true, false] {
        let mut bench = Bench::new();
        let (peer, conn) = bench.session(ServerLimits::default());
        peer.send(XCLIENT);
        if at_once {
            peer.send(b"MAIL FROM:<a@b.example>\r\n");
        }
        let asked = commands(bench.event());
        assert_eq!((asked.items.len(), asked.early), (1, at_once));
        if !at_once {
            peer.send(b"MAIL FROM:<a@b.example>\r\n");
        }
        bench.act(restart(conn, asked.turn, ServerLimits::default()));
        peer.shutdown_write();
        bench.pass_ms(5_000);
        assert_eq!(closed(&bench.event()), (CloseReason::Protocol, None));
        assert_eq!(peer.recv(), b"", "nothing is said");
    }
}

#[test]
fn the_new_limits_hold_from_the_banner_on() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = asked(&mut bench, ServerLimits::default());
    let grammar = Grammar { charset: Charset::Utf8, ..Grammar::STRICT };
    let limits = ServerLimits { grammar, idle_ms: 10_000, ..ServerLimits::default() };
    bench.act(restart(conn, turn, limits));
    assert_eq!(peer.recv(), b"220 again\r\n");
    let mail = bench.commands(&peer, "MAIL FROM:<\u{e4}@b.example>\r\n".as_bytes());
    assert!(matches!(&mail.items[..], [Ok(Command::Mail { .. })]));
    bench.reply(conn, mail.turn, "250 ok\r\n", 1);
    peer.recv();
    bench.pass_ms(10_300);
    assert_eq!(peer.recv(), b"421 4.4.2 Connection timed out\r\n");
}

#[test]
fn only_xclient_can_be_answered_so() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, b"XFORWARD ADDR=203.0.113.7\r\n");
    bench.act(restart(conn, asked.turn, ServerLimits::default()));
    assert!(matches!(bench.event(), NetEvent::Closed { reason: CloseReason::Error, .. }));
    assert_eq!(bench.net.statistics().misplaced_actions, 1);
    assert!(peer.is_closed());
}
