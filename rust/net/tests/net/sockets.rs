//! The same engine on threads of its own, with sockets of the system on loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use penstock_core::flow::SourcePoll;
use penstock_net::{
    ClientLimits, CloseReason, Conn, ContentState, DialStage, EventSink, Net, NetAction, NetConfig, NetEvent,
    Proxies,
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::caller::{Caller, abort};
use crate::harness::*;

fn start(config: NetConfig) -> (Net, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let net = Net::start(config, Arc::clone(&recorder) as Arc<dyn EventSink>).unwrap();
    (net, recorder)
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn read_all(mut stream: &TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn read_some(mut stream: &TcpStream, octets: usize) -> Vec<u8> {
    let mut buffer = vec![0; octets];
    stream.read_exact(&mut buffer).unwrap();
    buffer
}

/// Answer events until so many connections have ended.
fn serve(net: &Net, recorder: &Recorder, connections: usize) -> Caller {
    let mut caller = Caller::default();
    while caller.ended.len() < connections {
        caller.answer(net, recorder.next());
    }
    caller
}

#[test]
fn sessions_are_held_on_every_thread() {
    let (net, recorder) = start(NetConfig { io_threads: 3, ..NetConfig::default() });
    let address = net.listen(LISTENER, any_port(), Proxies::default()).unwrap();
    let peers: Vec<_> = (0..30)
        .map(|number| {
            std::thread::spawn(move || {
                let mut stream = connect(address);
                assert_eq!(read_some(&stream, 8), b"220 me\r\n");
                write!(stream, "MAIL FROM:<>\r\nDATA\r\n").unwrap();
                assert_eq!(read_some(&stream, 16), b"250 ok\r\n354 go\r\n");
                write!(stream, "{}\r\n.\r\nQUIT\r\n", "x".repeat(number * 1000)).unwrap();
                assert_eq!(read_all(&stream), "250 kept\r\n221 bye\r\n");
            })
        })
        .collect();
    let mut caller = serve(&net, &recorder, 30);
    for peer in peers {
        peer.join().unwrap();
    }
    caller.kept.sort_by_key(Vec::len);
    let sizes: Vec<usize> = caller.kept.iter().map(Vec::len).collect();
    assert_eq!(sizes, (0..30).map(|number| number * 1000 + 2).collect::<Vec<_>>());
    net.stop();
    let counted = net.statistics();
    assert_eq!((counted.opened, counted.closed, counted.server_connections), (30, 30, 0));
    assert_eq!((counted.stale_actions, counted.panics), (0, 0));
}

#[test]
fn a_port_in_use_is_refused_not_shared() {
    let theirs = TcpListener::bind(any_port()).unwrap();
    let (net, recorder) = start(NetConfig::default());
    let refused = net.listen(1, theirs.local_addr().unwrap(), Proxies::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AddrInUse);
    let ours = net.listen(2, any_port(), Proxies::default()).unwrap();
    assert_eq!(net.listen(3, ours, Proxies::default()).unwrap_err().kind(), ErrorKind::AddrInUse);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    assert_eq!(socket.bind(&ours.into()).unwrap_err().kind(), ErrorKind::AddrInUse);
    // When it is given up it can be had at once, though connections linger.
    let _peer = connect(ours);
    assert!(matches!(recorder.next(), NetEvent::Opened { listener: 2, .. }));
    net.stop_listening(2);
    net.listen(4, ours, Proxies::default()).unwrap();
    let _peer = connect(ours);
    assert!(matches!(recorder.next(), NetEvent::Opened { listener: 4, .. }));
}

#[test]
fn addresses_are_told_for_both_families() {
    let (net, recorder) = start(NetConfig::default());
    for (number, ip) in [(1, IpAddr::from(Ipv4Addr::LOCALHOST)), (2, IpAddr::from(Ipv6Addr::LOCALHOST))] {
        let address = match net.listen(number, SocketAddr::new(ip, 0), Proxies::default()) {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => continue,
            bound => bound.unwrap(),
        };
        let stream = connect(address);
        let NetEvent::Opened { listener, peer, local, .. } = recorder.next() else { panic!("not opened") };
        assert_eq!((listener, peer, local), (number, stream.local_addr().unwrap(), address));
    }
}

#[test]
fn the_last_reply_survives_what_the_peer_still_sends() {
    let (net, recorder) = start(NetConfig::default());
    let address = net.listen(LISTENER, any_port(), Proxies::default()).unwrap();
    let mut stream = connect(address);
    stream.write_all(b"QUIT\r\n").unwrap();
    stream.write_all(&vec![b'x'; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(serve(&net, &recorder, 1).ended, [CloseReason::Local]);
    // By now the connection is closed, and all that could overtake the reply has.
    assert_eq!(read_all(&stream), "220 me\r\n221 bye\r\n");
}

#[test]
fn a_stop_tells_who_is_connected_and_still_answers_a_commit() {
    let (net, recorder) = start(NetConfig { io_threads: 2, ..NetConfig::default() });
    let address = net.listen(LISTENER, any_port(), Proxies::default()).unwrap();
    let idle = connect(address);
    let NetEvent::Opened { conn, .. } = recorder.next() else { panic!("not opened") };
    net.apply(vec![begin(conn, penstock_net::ServerLimits::default())]);
    let mut committing = connect(address);
    let NetEvent::Opened { conn, .. } = recorder.next() else { panic!("not opened") };
    net.apply(vec![begin(conn, penstock_net::ServerLimits::default())]);
    committing.write_all(b"DATA\r\n").unwrap();
    net.apply(vec![take(conn, commands(recorder.next()).turn, Draft::default(), 100)]);
    committing.write_all(b"x\r\n.\r\n").unwrap();
    let taken = content(recorder.next());
    net.apply(vec![await_durable(conn, taken.turn)]);
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| net.stop());
        let told = read_all(&idle);
        assert!(told.starts_with("220 me\r\n421 4.3.2 "), "{told}");
        drop(idle);
        // The spool is stopped after us, so it can still speak.
        net.complete(&[(conn, taken.turn, true)]);
        let told = read_all(&committing);
        assert!(told.starts_with("220 me\r\n354 go\r\n250 kept\r\n421 "), "{told}");
        drop(committing);
        stop.join().unwrap();
    });
    assert_eq!(recorder.take().len(), 2);
    assert!(TcpStream::connect(address).is_err());
}

/// Dial a peer that is ours, up to the turn after its 354.
fn dial_for_content(net: &Net, recorder: &Recorder, peer: &TcpListener) -> (TcpStream, Conn, u32) {
    let conn = net.dial(peer.local_addr().unwrap(), None, Arc::new(ClientLimits::default()));
    let (mut stream, _) = peer.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(matches!(recorder.next(), NetEvent::Connected { conn: connected, .. } if connected == conn));
    stream.write_all(b"220 you\r\n").unwrap();
    let heard = replies(recorder.next());
    net.apply(vec![flight(conn, heard.turn, vec![part("DATA\r\n", 1)])]);
    assert_eq!(read_some(&stream, 6), b"DATA\r\n");
    stream.write_all(b"354 go\r\n").unwrap();
    let heard = replies(recorder.next());
    assert_eq!(heard.codes, [354]);
    (stream, conn, heard.turn)
}

/// A listener whose connections have a small window.
fn narrow_listener() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(&any_port().into()).unwrap();
    socket.listen(1).unwrap();
    socket.into()
}

#[test]
fn large_content_reaches_a_slow_reader_whole() {
    let (net, recorder) = start(NetConfig::default());
    let peer = narrow_listener();
    let (mut stream, conn, turn) = dial_for_content(&net, &recorder, &peer);
    let line: Vec<u8> = (b'0'..=b'z').chain(*b"\r\n").collect();
    let chunk = line.repeat(1000);
    let source = Source::default();
    for _ in 0..60 {
        source.give(SourcePoll::Chunk(Bytes::from(chunk.clone())));
    }
    source.give(SourcePoll::End);
    net.apply(vec![send_content(conn, turn, &source, &Door::open(), vec![])]);
    let expected = [chunk.repeat(60), b".\r\n".to_vec()].concat();
    let mut received = Vec::new();
    while received.len() < expected.len() {
        let mut piece = vec![0; 50_000];
        let octets = stream.read(&mut piece).unwrap();
        assert!(octets > 0);
        received.extend_from_slice(&piece[..octets]);
    }
    assert!(received == expected);
    stream.write_all(b"250 taken\r\n").unwrap();
    let heard = replies(recorder.next());
    assert_eq!(heard.codes, [250]);
    net.apply(vec![NetAction::Close { conn, turn: heard.turn, quit: true }]);
    assert_eq!(read_all(&stream), "QUIT\r\n");
    drop(stream);
    assert_eq!(client_closed(&recorder.next()), (CloseReason::Local, ContentState::Terminated, 3));
}

#[test]
fn a_rst_in_the_middle_of_content_leaves_it_partial() {
    let (net, recorder) = start(NetConfig::default());
    let peer = TcpListener::bind(any_port()).unwrap();
    let (stream, conn, turn) = dial_for_content(&net, &recorder, &peer);
    let source = Source::default();
    net.apply(vec![send_content(conn, turn, &source, &Door::open(), vec![])]);
    for chunk in [&b"first\r\n"[..], b"second\r\n"] {
        source.give(SourcePoll::Chunk(Bytes::from_static(chunk)));
    }
    assert_eq!(read_some(&stream, 7), b"first\r\n");
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(client_closed(&recorder.next()), (CloseReason::Reset, ContentState::Partial, 2));
    net.stop();
    assert!(source.is_released());
}

#[test]
fn an_end_behind_the_terminator_leaves_the_message_in_doubt() {
    let (net, recorder) = start(NetConfig::default());
    let peer = TcpListener::bind(any_port()).unwrap();
    let (stream, conn, turn) = dial_for_content(&net, &recorder, &peer);
    net.apply(vec![send_content(conn, turn, &Source::whole(&[b"x\r\n"]), &Door::open(), vec![])]);
    assert_eq!(read_some(&stream, 6), b"x\r\n.\r\n");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client_closed(&recorder.next()), (CloseReason::Peer, ContentState::Terminated, 2));
}

#[test]
fn a_refusal_is_heard_although_the_connection_breaks_behind_it() {
    let (net, recorder) = start(NetConfig::default());
    let peer = narrow_listener();
    for _ in 0..20 {
        let (mut stream, conn, turn) = dial_for_content(&net, &recorder, &peer);
        let source = Source::default();
        for _ in 0..100 {
            source.give(SourcePoll::Chunk(Bytes::from(vec![b'x'; 64 * 1024])));
        }
        net.apply(vec![send_content(conn, turn, &source, &Door::open(), vec![])]);
        read_some(&stream, 1000);
        stream.write_all(b"552 too big\r\n").unwrap();
        // With octets unread this is a RST.
        drop(stream);
        assert_eq!(replies(recorder.next()).codes, [552]);
        assert_eq!(client_closed(&recorder.next()), (CloseReason::Protocol, ContentState::Partial, 3));
    }
}

#[test]
fn dialling_fails_with_the_systems_words() {
    let (net, recorder) = start(NetConfig::default());
    let nobody = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let elsewhere = IpAddr::from([192, 0, 2, 1]);
    for (source, stage, errno) in [(None, DialStage::Connect, 111), (Some(elsewhere), DialStage::Bind, 99)] {
        let conn = net.dial(nobody, source, Arc::new(ClientLimits::default()));
        let event = recorder.next();
        let NetEvent::DialFailed { conn: failed, stage: at, errno: number, text } = event else {
            panic!("{}", kind(&event))
        };
        assert_eq!((failed, at, number), (conn, stage, errno), "{text}");
        assert!(!text.is_empty());
    }
    assert_eq!(net.statistics().client_connections, 0);
}

#[test]
fn an_engine_can_hold_both_ends_of_a_connection() {
    let (net, recorder) = start(NetConfig { io_threads: 2, ..NetConfig::default() });
    let address = net.listen(LISTENER, any_port(), Proxies::default()).unwrap();
    let source = IpAddr::from([127, 0, 0, 2]);
    let dialled = net.dial(address, Some(source), Arc::new(ClientLimits::default()));
    let mut caller = Caller::default();
    while caller.ended.is_empty() {
        match recorder.next() {
            NetEvent::Connected { conn, local, .. } => {
                assert_eq!((conn, local.ip()), (dialled, source));
            }
            NetEvent::Replies { conn, turn, replies, .. } => {
                assert_eq!((conn, replies[0].code), (dialled, 220));
                net.apply(vec![NetAction::Close { conn, turn, quit: true }]);
            }
            NetEvent::ClientClosed { reason, .. } => assert_eq!(reason, CloseReason::Local),
            event => caller.answer(&net, event),
        }
    }
    net.apply(vec![abort(dialled)]);
}
