//! Connections that come through proxies: the header, and what must not come instead of it.

use std::net::{IpAddr, SocketAddr};

use penstock_core::smtp::command::Command;
use penstock_net::{CloseReason, MemoryPeer, NetConfig, NetEvent, Proxies, ServerLimits};

use crate::harness::*;

const HEADER_MS: u64 = 5_000;
const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 40001 25\r\n";

/// A bench on which the usual peer is a proxy.
fn bench() -> Bench {
    let peer = peer_address().ip();
    Bench::behind(Proxies::new(vec![(peer, peer)], HEADER_MS), NetConfig::default())
}

fn binary(version_and_command: u8, kind: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[version_and_command, kind][..], &length, block].concat()
}

fn binary_v6() -> Vec<u8> {
    let octets = |text: &str| match text.parse().unwrap() {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(_) => unreachable!("all are of version 6"),
    };
    let block = [&octets("2001:db8::7")[..], &octets("2001:db8::1"), &[0x9c, 0x41, 0, 25]].concat();
    binary(0x21, 0x21, &block)
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Connect a proxy, of which nobody is told.
fn connect(bench: &mut Bench) -> MemoryPeer {
    let peer = bench.net.memory_connect(LISTENER, peer_address());
    bench.nothing_happens();
    peer
}

fn opened(event: &NetEvent) -> (u64, u32, SocketAddr, SocketAddr, Option<SocketAddr>) {
    let &NetEvent::Opened { conn, turn, peer, local, proxy, .. } = event else {
        panic!("{}", kind(event));
    };
    (conn, turn, peer, local, proxy)
}

#[test]
fn a_header_cut_anywhere_tells_whom_the_connection_is_from() {
    let ours = at("127.0.0.1:25");
    for (header, peer, local) in [
        (LINE.to_vec(), at("203.0.113.7:40001"), at("198.51.100.1:25")),
        (binary_v6(), at("[2001:db8::7]:40001"), at("[2001:db8::1]:25")),
        (b"PROXY UNKNOWN\r\n".to_vec(), peer_address(), ours),
        (binary(0x20, 0, b""), peer_address(), ours),
        (binary(0x21, 0, b"tlvs"), peer_address(), ours),
    ] {
        let octets = [&header[..], b"EHLO me\r\n"].concat();
        for cut in 0..=octets.len() {
            let mut bench = bench();
            let proxy = connect(&mut bench);
            proxy.send(&octets[..cut]);
            let mut events = bench.events();
            assert_eq!(events.len(), usize::from(cut >= header.len()), "{cut}");
            proxy.send(&octets[cut..]);
            events.extend(bench.events());
            assert_eq!(events.len(), 1, "{cut}");
            let (conn, turn, told_peer, told_local, told_proxy) = opened(&events.remove(0));
            assert_eq!((turn, told_peer, told_local, told_proxy), (1, peer, local, Some(peer_address())));
            assert_eq!(proxy.recv(), b"");
            bench.act(begin(conn, ServerLimits::default()));
            assert_eq!(proxy.recv(), b"220 me\r\n");
            // As from anybody else who does not wait for the banner.
            let asked = commands(bench.event());
            assert_eq!(asked.items, [Ok(Command::Ehlo { domain: "me".into() })]);
            assert!(asked.early);
        }
    }
}

#[test]
fn a_session_behind_a_header_is_like_any_other() {
    let mut bench = bench();
    let proxy = connect(&mut bench);
    proxy.send(LINE);
    let (conn, ..) = opened(&bench.event());
    bench.act(begin(conn, ServerLimits::default()));
    assert_eq!(proxy.recv(), b"220 me\r\n");
    let asked = bench.commands(&proxy, b"NOOP\r\n");
    assert!(!asked.early);
    // A second header is a command, and a wrong one.
    bench.reply(conn, asked.turn, "250 ok\r\n", 1);
    let asked = bench.commands(&proxy, LINE);
    assert_eq!(asked.items, [Ok(Command::Unknown { verb: "PROXY".into() })]);
    bench.reply(conn, asked.turn, "500 no\r\n", 1);
    proxy.shutdown_write();
    assert!(matches!(bench.event(), NetEvent::Closed { reason: CloseReason::Peer, .. }));
}

#[test]
fn whoever_is_no_proxy_sends_a_wrong_command() {
    let proxies = Proxies::new(vec![(at("10.0.0.5:0").ip(), at("10.0.0.5:0").ip())], HEADER_MS);
    let mut bench = Bench::behind(proxies, NetConfig::default());
    let (peer, conn) = bench.session(ServerLimits::default());
    let asked = bench.commands(&peer, LINE);
    assert_eq!(asked.items, [Ok(Command::Unknown { verb: "PROXY".into() })]);
    bench.reply(conn, asked.turn, "500 no\r\n", 1);
    assert_eq!(peer.recv(), b"500 no\r\n");
}

#[test]
fn a_proxy_that_sends_something_else_is_closed_without_a_word() {
    for (octets, refusal) in [
        (b"EHLO me\r\n".to_vec(), "absent"),
        (b"\x16\x03\x01\x02\x00".to_vec(), "absent"),
        (b"PROXY TCP4 203.0.113.7\r\n".to_vec(), "malformed"),
        (binary(0x22, 0x11, &[0; 12]), "malformed"),
        (vec![b'P'; 1], "ended"),
        ([b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(), "too_long"),
        (binary(0x21, 0x11, &[0; 5000]), "too_long"),
    ] {
        let mut bench = bench();
        let proxy = connect(&mut bench);
        proxy.send(&octets);
        proxy.shutdown_write();
        let NetEvent::ProxyRefused { listener: LISTENER, peer, refusal: told } = bench.event() else {
            panic!("not refused");
        };
        assert_eq!((peer, told.as_str()), (peer_address(), refusal));
        assert!(proxy.is_closed() && proxy.recv().is_empty());
        bench.nothing_happens();
        let statistics = bench.net.statistics();
        assert_eq!((statistics.proxy_refused, statistics.opened, statistics.server_connections), (1, 0, 0));
    }
}

#[test]
fn a_header_has_five_seconds() {
    for (pauses, octets) in [(1, &LINE[..LINE.len() - 1]), (1, b""), (40, LINE)] {
        let mut bench = bench();
        let proxy = connect(&mut bench);
        for octet in octets.chunks(1).take(if pauses > 1 { pauses } else { octets.len() }) {
            proxy.send(octet);
            if pauses > 1 {
                bench.pass_ms(HEADER_MS / 40 - 1);
            }
            bench.step();
        }
        let left_ms = if pauses > 1 { 40 } else { HEADER_MS };
        bench.pass_ms(left_ms - 1);
        bench.nothing_happens();
        bench.pass_ms(300);
        let event = bench.event();
        assert_eq!(kind(&event), "proxy refused timed_out");
        assert!(proxy.is_closed() && proxy.recv().is_empty());
    }
}

#[test]
fn who_only_looks_whether_we_are_there_is_not_told() {
    for resets in [false, true] {
        let mut bench = bench();
        let proxy = connect(&mut bench);
        if resets {
            proxy.reset();
        } else {
            proxy.shutdown_write();
        }
        bench.nothing_happens();
        assert!(proxy.is_closed());
        assert_eq!(bench.net.statistics().server_connections, 0);
    }
}

#[test]
fn a_header_that_nobody_may_read_is_not_late() {
    let mut bench = bench();
    let proxy = connect(&mut bench);
    proxy.send(LINE);
    let waits = &std::sync::Arc::clone(&bench.recorder).waits_ms;
    waits.store(3_000, std::sync::atomic::Ordering::Relaxed);
    bench.pass_ms(20_000);
    bench.nothing_happens();
    waits.store(0, std::sync::atomic::Ordering::Relaxed);
    bench.pass_ms(200);
    let (_, _, peer, ..) = opened(&bench.event());
    assert_eq!(peer, at("203.0.113.7:40001"));
}

#[test]
fn the_end_of_the_engine_is_the_end_of_a_proxy_that_has_said_nothing() {
    let mut bench = bench();
    let proxy = connect(&mut bench);
    bench.net.stop();
    assert!(proxy.is_closed() && proxy.recv().is_empty());
    assert!(bench.recorder.take().is_empty());
}
