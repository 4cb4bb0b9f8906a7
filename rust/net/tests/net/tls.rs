//! TLS: handshakes, what must not survive them, and how they and their connections end.

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use penstock_core::smtp::command::Command;
use penstock_net::{
    BeginChunks, Certificate, ClientCertificates, CloseReason, Conn, ContentStatus, MemoryPeer, NetAction,
    NetEvent, ServerLimits, ServerTls, TlsFacts, TlsSettings, TlsVersion,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::harness::*;

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/certificates/", $name)).as_slice()
    };
}

fn mail() -> Certificate {
    Certificate::read(file!("mail.chain.pem"), file!("mail.key")).unwrap()
}

fn other() -> Certificate {
    Certificate::read(file!("other.chain.pem"), file!("other.key")).unwrap()
}

fn settings() -> TlsSettings {
    TlsSettings {
        certificates: vec![mail(), other()],
        minimum: TlsVersion::Tls12,
        client_certificates: ClientCertificates::None,
    }
}

fn server_tls() -> Arc<ServerTls> {
    Arc::new(ServerTls::new(settings()))
}

fn start_tls(conn: Conn, turn: u32, tls: &Arc<ServerTls>) -> NetAction {
    NetAction::StartTls { conn, turn, tls: Arc::clone(tls), reply: Bytes::from_static(b"220 go\r\n") }
}

fn client_config(version: TlsVersion, shows: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(file!("root.pem")).unwrap()).unwrap();
    let versions: &[&rustls::SupportedProtocolVersion] = match version {
        TlsVersion::Tls12 => &[&rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(if shows {
        let chain = CertificateDer::pem_slice_iter(file!("client.chain.pem")).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(file!("client.key")).unwrap();
        builder.with_client_auth_cert(chain, key).unwrap()
    } else {
        builder.with_no_client_auth()
    })
}

/// The client's end of TLS over a connection in memory.
struct TlsPeer {
    peer: MemoryPeer,
    tls: ClientConnection,
    /// How many octets are sent at a time; the engine is stepped after each.
    piece: usize,
    /// What the server has said, open.
    heard: Vec<u8>,
    /// Whether it has said that nothing more will come.
    is_end: bool,
}

impl TlsPeer {
    fn new(peer: MemoryPeer, config: &Arc<ClientConfig>, name: &'static str) -> Self {
        let name = ServerName::try_from(name).unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        Self { peer, tls, piece: usize::MAX, heard: Vec::new(), is_end: false }
    }

    /// What the client wants to send now, sealed.
    fn sealed(&mut self, octets: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(octets).unwrap();
        let mut sealed = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut sealed).unwrap();
        }
        sealed
    }

    /// Pass octets both ways until nothing moves.
    fn exchange(&mut self, bench: &mut Bench) {
        loop {
            let sealed = self.sealed(b"");
            let is_quiet = sealed.is_empty();
            for piece in sealed.chunks(self.piece.min(sealed.len()).max(1)) {
                self.peer.send(piece);
                bench.step();
            }
            bench.step();
            let came = self.peer.recv();
            if is_quiet && came.is_empty() {
                return;
            }
            let mut rest = came.as_slice();
            while !rest.is_empty() {
                if self.tls.read_tls(&mut rest).unwrap() == 0 {
                    break;
                }
                self.tls.process_new_packets().unwrap();
                self.is_end |= self.tls.reader().read_to_end(&mut self.heard).is_ok();
            }
        }
    }

    fn send(&mut self, octets: &[u8]) {
        let sealed = self.sealed(octets);
        self.peer.send(&sealed);
    }

    /// What the server has said, open; and whether it has said that nothing more will come.
    fn recv(&mut self, bench: &mut Bench) -> (String, bool) {
        self.exchange(bench);
        (String::from_utf8(std::mem::take(&mut self.heard)).unwrap(), self.is_end)
    }
}

fn tls_up(event: NetEvent) -> (u32, TlsFacts) {
    match event {
        NetEvent::TlsUp { turn, facts, .. } => (turn, *facts),
        other => panic!("{}", kind(&other)),
    }
}

/// A session that has asked for TLS and been told to go ahead.
fn asked(bench: &mut Bench, tls: &Arc<ServerTls>) -> (MemoryPeer, Conn) {
    let (peer, conn) = bench.session(ServerLimits::default());
    let starttls = bench.commands(&peer, b"STARTTLS\r\n");
    assert_eq!(starttls.items, [Ok(Command::StartTls)]);
    bench.act(start_tls(conn, starttls.turn, tls));
    assert_eq!(peer.recv(), b"220 go\r\n");
    (peer, conn)
}

/// A session in TLS that is read from.
fn secured(bench: &mut Bench, version: TlsVersion) -> (TlsPeer, Conn) {
    let (peer, conn) = asked(bench, &server_tls());
    let mut peer = TlsPeer::new(peer, &client_config(version, false), "mail.example");
    peer.exchange(bench);
    let (turn, facts) = tls_up(bench.event());
    assert_eq!((facts.version, facts.sni.as_deref()), (version, Some("mail.example")));
    bench.act(reply(conn, turn, "", 1));
    (peer, conn)
}

const VERSIONS: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

#[test]
fn a_message_goes_through_tls() {
    for version in VERSIONS {
        let mut bench = Bench::new();
        let (mut peer, conn) = secured(&mut bench, version);
        peer.send(b"EHLO a.example\r\n");
        let ehlo = commands(bench.event());
        assert!(!ehlo.early, "there is no banner to wait for");
        bench.reply(conn, ehlo.turn, "250 me\r\n", 1);
        assert_eq!(peer.recv(&mut bench), ("250 me\r\n".into(), false));
        peer.send(b"DATA\r\n");
        let data = commands(bench.event());
        bench.act(take(conn, data.turn, Draft::default(), 1 << 20));
        assert_eq!(peer.recv(&mut bench).0, "354 go\r\n");
        let body = b"0123456789abcde\r\n".repeat(20_000);
        for part in body.chunks(40_000) {
            peer.send(part);
            bench.step();
        }
        peer.send(b".\r\nQUIT\r\n");
        let taken = content(bench.event());
        assert_eq!((taken.status, taken.octets.len()), (ContentStatus::Complete, body.len()));
        bench.act(await_durable(conn, taken.turn));
        bench.net.complete(&[(conn, taken.turn, true)]);
        let quit = commands(bench.event());
        bench.act(last_reply(conn, quit.turn, "221 bye\r\n", 1));
        assert_eq!(peer.recv(&mut bench), ("250 kept\r\n221 bye\r\n".into(), true));
        peer.peer.shutdown_write();
        assert_eq!(closed(&bench.event()), (CloseReason::Local, None));
        let counted = bench.net.statistics();
        let by_version = [counted.tls_1_2, counted.tls_1_3];
        assert_eq!(by_version, if version == TlsVersion::Tls12 { [1, 0] } else { [0, 1] });
        assert_eq!((counted.tls_failed, counted.tls_broken, counted.panics), (0, 0, 0));
    }
}

#[test]
fn a_handshake_may_come_octet_by_octet_and_be_taken_so() {
    for version in VERSIONS {
        for (piece, window) in [(1, usize::MAX), (usize::MAX, 1), (1, 1), (7, 13)] {
            let mut bench = Bench::new();
            let (peer, conn) = asked(&mut bench, &server_tls());
            peer.limit_window(window);
            let mut peer = TlsPeer::new(peer, &client_config(version, false), "mail.example");
            peer.piece = piece;
            peer.exchange(&mut bench);
            let (turn, _) = tls_up(bench.event());
            bench.act(reply(conn, turn, "", 1));
            peer.send(b"NOOP\r\n");
            assert_eq!(commands(bench.event()).items, [Ok(Command::Noop)]);
        }
    }
}

#[test]
fn replies_larger_than_the_socket_takes_arrive_whole() {
    let mut bench = Bench::new();
    let (mut peer, conn) = secured(&mut bench, TlsVersion::Tls13);
    peer.peer.limit_window(1000);
    peer.send(b"NOOP\r\n");
    let noop = commands(bench.event());
    let long: &'static str = Box::leak("250-x\r\n".repeat(8_000).into_boxed_str());
    bench.reply(conn, noop.turn, long, 1);
    assert_eq!(peer.recv(&mut bench), (long.into(), false));
}

#[test]
fn octets_behind_starttls_end_the_connection_wherever_they_are() {
    let tail = b"EHLO a.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n";
    let whole = [b"STARTTLS\r\n".as_slice(), tail].concat();
    let tails = [16, 30, 53, tail.len()];
    for (commands_behind, length) in tails.into_iter().enumerate() {
        let octets = &whole[..10 + length];
        for split in 1..=octets.len() {
            let mut bench = Bench::new();
            let (peer, conn) = bench.session(ServerLimits::default());
            peer.send(&octets[..split]);
            let mut events = bench.events();
            peer.send(&octets[split..]);
            events.extend(bench.events());
            let starttls = commands(events.remove(0));
            assert!(events.is_empty() && starttls.items == [Ok(Command::StartTls)]);
            bench.act(start_tls(conn, starttls.turn, &server_tls()));
            let reason = closed_when_the_peer_leaves(&mut bench, &peer);
            assert_eq!(reason, CloseReason::Protocol, "{} commands, {split}", commands_behind + 1);
            assert_eq!(peer.recv(), b"", "not even the 220");
            assert_eq!(bench.net.statistics().tls_early, 1);
        }
    }
}

fn closed_when_the_peer_leaves(bench: &mut Bench, peer: &MemoryPeer) -> CloseReason {
    peer.shutdown_write();
    closed(&bench.event()).0
}

#[test]
fn plain_text_behind_the_220_is_no_handshake() {
    for octets in [&b"EHLO a.example\r\n"[..], b"x", b"\r\n", &[0x16; 10_000], &[0; 10]] {
        let mut bench = Bench::new();
        let (peer, _) = asked(&mut bench, &server_tls());
        peer.send(octets);
        bench.nothing_happens();
        assert_eq!(closed_when_the_peer_leaves(&mut bench, &peer), CloseReason::Tls);
        assert_eq!(bench.net.statistics().tls_failed, 1);
    }
}

#[test]
fn octets_that_come_while_the_220_waits_end_the_connection() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    peer.limit_window(0);
    let starttls = bench.commands(&peer, b"STARTTLS\r\n");
    bench.act(start_tls(conn, starttls.turn, &server_tls()));
    peer.send(b"NOOP\r\n");
    bench.nothing_happens();
    peer.limit_window(1000);
    assert_eq!(closed_when_the_peer_leaves(&mut bench, &peer), CloseReason::Protocol);
    assert_eq!(peer.recv(), b"");
}

#[test]
fn a_connection_may_begin_with_tls() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.connect();
    let NetAction::Begin { limits, .. } = begin(conn, ServerLimits::default()) else { unreachable!() };
    bench.act(NetAction::Begin {
        conn,
        turn: 1,
        limits,
        tls: Some(server_tls()),
        banner: Bytes::new(),
        delay_ms: 0,
    });
    assert_eq!(peer.recv(), b"", "nothing is said in plain text");
    let mut peer = TlsPeer::new(peer, &client_config(TlsVersion::Tls13, false), "x.mail.example");
    peer.exchange(&mut bench);
    let (turn, facts) = tls_up(bench.event());
    assert_eq!((facts.cipher.as_str(), facts.is_resumed), ("TLS_AES_256_GCM_SHA384", false));
    assert!(facts.client_certificate.is_none());
    peer.send(b"EHLO a.example\r\n");
    bench.nothing_happens();
    bench.reply(conn, turn, "220 me\r\n", 1);
    let ehlo = commands(bench.event());
    assert!(ehlo.early, "the banner was not awaited");
    assert_eq!(peer.recv(&mut bench).0, "220 me\r\n");
}

#[test]
fn the_certificate_is_chosen_by_name_and_replaced_in_place() {
    let mut bench = Bench::new();
    let tls = server_tls();
    let shown = |bench: &mut Bench, name: &'static str| {
        let (peer, _) = asked(bench, &tls);
        let mut config = (*client_config(TlsVersion::Tls13, false)).clone();
        config.dangerous().set_certificate_verifier(Arc::new(Anyone));
        let mut peer = TlsPeer::new(peer, &Arc::new(config), name);
        peer.exchange(bench);
        tls_up(bench.event());
        peer.tls.peer_certificates().unwrap()[0].as_ref().to_vec()
    };
    let der = |pem: &[u8]| CertificateDer::from_pem_slice(pem).unwrap().as_ref().to_vec();
    let (first, second) = (der(file!("mail.chain.pem")), der(file!("other.chain.pem")));
    assert_eq!(shown(&mut bench, "mail.example"), first);
    assert_eq!(shown(&mut bench, "OTHER.example"), second);
    assert_eq!(shown(&mut bench, "unknown.example"), first, "the first is for whom no other fits");
    assert_eq!(shown(&mut bench, "192.0.2.1"), first, "an address is no name");
    let renewed = Certificate::read(file!("renewed.chain.pem"), file!("renewed.key")).unwrap();
    tls.replace(TlsSettings { certificates: vec![renewed], ..settings() });
    assert_eq!(shown(&mut bench, "other.example"), der(file!("renewed.chain.pem")));
}

#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn a_version_below_the_minimum_is_refused_with_an_alert() {
    let mut bench = Bench::new();
    let tls = Arc::new(ServerTls::new(TlsSettings { minimum: TlsVersion::Tls13, ..settings() }));
    let (peer, _) = asked(&mut bench, &tls);
    let mut peer = TlsPeer::new(peer, &client_config(TlsVersion::Tls12, false), "mail.example");
    let hello = peer.sealed(b"");
    peer.peer.send(&hello);
    bench.nothing_happens();
    let alert = peer.peer.recv();
    assert_eq!(alert[..1], [0x15], "an alert record");
    assert_eq!(closed_when_the_peer_leaves(&mut bench, &peer.peer), CloseReason::Tls);
}

#[test]
fn clients_are_asked_for_certificates_and_may_have_none() {
    let tls = TlsSettings { client_certificates: ClientCertificates::Ask, ..settings() };
    let tls = Arc::new(ServerTls::new(tls));
    for version in VERSIONS {
        for shows in [true, false] {
            let mut bench = Bench::new();
            let (peer, _) = asked(&mut bench, &tls);
            let config = client_config(version, shows);
            let mut peer = TlsPeer::new(peer, &config, "mail.example");
            peer.exchange(&mut bench);
            let client = tls_up(bench.event()).1.client_certificate;
            assert_eq!(client.is_some(), shows);
            if let Some(client) = client {
                assert_eq!(client.facts.subject, "CN=client.example");
                assert_ne!(client.fingerprint, [0; 32]);
            }
            // Nobody shows a certificate when a session is resumed, so none is.
            let (peer, _) = asked(&mut bench, &tls);
            let mut peer = TlsPeer::new(peer, &config, "mail.example");
            peer.exchange(&mut bench);
            assert!(!tls_up(bench.event()).1.is_resumed);
        }
    }
}

#[test]
fn a_session_may_be_resumed_until_the_certificate_is_replaced() {
    for version in VERSIONS {
        let mut bench = Bench::new();
        let tls = server_tls();
        let config = client_config(version, false);
        let shake = |bench: &mut Bench| {
            let (peer, _) = asked(bench, &tls);
            let mut peer = TlsPeer::new(peer, &config, "mail.example");
            peer.exchange(bench);
            tls_up(bench.event()).1.is_resumed
        };
        assert_eq!([shake(&mut bench), shake(&mut bench)], [false, true]);
        tls.replace(settings());
        assert!(!shake(&mut bench));
        assert_eq!(bench.net.statistics().tls_resumed, 1);
    }
}

#[test]
fn a_handshake_has_its_deadline() {
    let mut bench = Bench::new();
    let limits = ServerLimits { handshake_ms: 5_000, ..ServerLimits::default() };
    let (peer, conn) = bench.session(limits);
    let starttls = bench.commands(&peer, b"STARTTLS\r\n");
    bench.act(start_tls(conn, starttls.turn, &server_tls()));
    assert_eq!(peer.recv(), b"220 go\r\n");
    let mut peer = TlsPeer::new(peer, &client_config(TlsVersion::Tls13, false), "mail.example");
    let hello = peer.sealed(b"");
    for octet in hello.iter().take(9) {
        peer.peer.send(&[*octet]);
        bench.pass_ms(500);
        assert!(!peer.peer.is_closed());
    }
    bench.pass_ms(1_000);
    assert!(peer.peer.is_closed());
    assert_eq!(closed_when_the_peer_leaves(&mut bench, &peer.peer), CloseReason::Tls);
    assert_eq!(bench.net.statistics().tls_timed_out, 1);
}

#[test]
fn one_handshake_too_many_is_turned_away() {
    let mut bench = Bench::new();
    let tls = server_tls();
    let mut waiting: Vec<_> = (0..512).map(|_| asked(&mut bench, &tls)).collect();
    let (peer, conn) = bench.session(ServerLimits::default());
    let starttls = bench.commands(&peer, b"STARTTLS\r\n");
    bench.act(start_tls(conn, starttls.turn, &tls));
    assert!(peer.recv().starts_with(b"421 4.3.2"));
    assert_eq!(closed_when_the_peer_leaves(&mut bench, &peer), CloseReason::Tls);
    let (first, _) = waiting.remove(0);
    first.reset();
    bench.events();
    asked(&mut bench, &tls);
    assert_eq!(bench.net.statistics().tls_refused, 1);
}

#[test]
fn many_handshakes_at_once_are_all_finished() {
    let mut bench = Bench::new();
    let tls = server_tls();
    let config = client_config(TlsVersion::Tls13, false);
    let mut peers: Vec<_> =
        (0..40).map(|_| TlsPeer::new(asked(&mut bench, &tls).0, &config, "mail.example")).collect();
    for peer in &mut peers {
        let hello = peer.sealed(b"");
        peer.peer.send(&hello);
    }
    for peer in &mut peers {
        peer.exchange(&mut bench);
    }
    assert_eq!(bench.events().len(), 40);
}

/// How a connection is torn down.
#[derive(Copy, Clone, Debug)]
enum Tear {
    Fin,
    Reset,
    CloseNotify,
}

/// What a connection is in the middle of.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Within {
    Commands,
    Data,
    /// The chunk of a BDAT.
    Chunk {
        is_last: bool,
    },
    /// Commands between two chunks.
    Chunks,
}

fn take_chunk(conn: Conn, turn: u32) -> NetAction {
    let sink = Box::new(Draft::default());
    let begin = Some(BeginChunks { draft: 4711, sink, limit_bytes: 1 << 20, is_binary: false });
    NetAction::TakeChunk { conn, turn, begin, reply: Bytes::from_static(b"250 ok\r\n") }
}

/// Send some of a sealed dialogue, tear TLS down, go on in plain text; return what was asked and kept.
fn torn(version: TlsVersion, within: Within, plain: &[u8], at: usize, tear: Tear) -> Vec<String> {
    let mut bench = Bench::new();
    let (mut peer, conn) = secured(&mut bench, version);
    let (command, chunk) = match within {
        Within::Commands => (String::new(), &b""[..]),
        Within::Data => ("DATA\r\n".into(), &b""[..]),
        Within::Chunk { is_last } => {
            (format!("BDAT {}{}\r\n", plain.len(), if is_last { " LAST" } else { "" }), &b""[..])
        }
        Within::Chunks => ("BDAT 5\r\n".into(), &b"whole"[..]),
    };
    if within != Within::Commands {
        peer.send(command.as_bytes());
        let asked = commands(bench.event());
        if within == Within::Data {
            bench.act(take(conn, asked.turn, Draft::default(), 1 << 20));
        } else {
            bench.act(take_chunk(conn, asked.turn));
        }
        peer.send(chunk);
        peer.exchange(&mut bench);
    }
    // The cut is in the sealed octets, close_notify sealed behind the last whole line before it.
    if let Tear::CloseNotify = tear {
        peer.send(&plain[..at.min(plain.len())]);
        peer.tls.send_close_notify();
        peer.send(b"");
    } else {
        let sealed: Vec<u8> = peer.sealed(plain);
        peer.peer.send(&sealed[..at.min(sealed.len() - 1)]);
    }
    let mut events = bench.events();
    if let Tear::Reset = tear {
        peer.peer.reset();
    }
    peer.peer.send(b"\r\n.\r\nNOOP\r\nMAIL FROM:<evil@example>\r\n");
    peer.peer.shutdown_write();
    // Whoever was asked answers; what follows is what counts.
    loop {
        let asked = events.iter().rev().find_map(|event| match event {
            NetEvent::Commands { turn, items, answered, .. } => {
                let is_chunk = matches!(items.last(), Some(Ok(Command::Bdat { .. })));
                Some((*turn, items.len() as u32 - answered, is_chunk))
            }
            _ => None,
        });
        let told = events.iter().any(|event| matches!(event, NetEvent::Closed { .. }));
        if told {
            return events.iter().map(kind).collect();
        }
        match asked {
            Some((turn, 1, true)) => bench.act(take_chunk(conn, turn)),
            Some((turn, count, _)) => bench.act(reply(conn, turn, "250 ok\r\n", count)),
            None => {}
        }
        let more = bench.events();
        if more.is_empty() {
            bench.pass_ms(20_000);
        }
        events.extend(more);
    }
}

#[test]
fn tls_torn_down_in_content_leaves_no_content() {
    let body = b"Subject: x\r\n\r\nhello\r\n.\r\n";
    let mut tears = 0;
    for version in VERSIONS {
        for (tear, count) in [(Tear::Fin, 60), (Tear::Reset, 60), (Tear::CloseNotify, body.len())] {
            for at in 0..count {
                let told = torn(version, Within::Data, body, at, tear);
                assert_eq!(told.len(), 1, "{tear:?} {at}: {told:?}");
                assert!(told[0].starts_with("closed") && told[0].ends_with("Some(4711)"), "{told:?}");
                tears += 1;
            }
        }
    }
    println!("tls torn down in content: {tears} times, 0 contents, 0 commands");
}

#[test]
fn tls_torn_down_in_chunks_leaves_no_content_and_no_command() {
    let body = b"Subject: x\r\n\r\nhello\r\n.\r\n";
    let mut tears = 0;
    for (within, plain) in [
        (Within::Chunk { is_last: true }, &body[..]),
        (Within::Chunk { is_last: false }, &body[..]),
        (Within::Chunks, b"BDAT 5 LAST\r\n"),
        // The command is in the record of its chunk.
        (Within::Commands, b"BDAT 20 LAST\r\n"),
        (Within::Chunks, b"BDAT 9 LAST\r\nand more\n"),
    ] {
        for version in VERSIONS {
            for (tear, count) in [
                (Tear::Fin, plain.len() + 17),
                (Tear::Reset, plain.len() + 17),
                (Tear::CloseNotify, plain.iter().position(|&octet| octet == b'\n').unwrap_or_default()),
                (Tear::CloseNotify, if matches!(within, Within::Chunk { .. }) { plain.len() } else { 0 }),
            ] {
                for at in 0..count {
                    let told = torn(version, within, plain, at, tear);
                    assert_eq!(told.len(), 1, "{within:?} {tear:?} {at}: {told:?}");
                    let draft = if within == Within::Commands { "None" } else { "Some(4711)" };
                    assert!(told[0].starts_with("closed") && told[0].ends_with(draft), "{told:?}");
                    tears += 1;
                }
            }
        }
    }
    println!("tls torn down in chunks: {tears} times, 0 contents, 0 commands");
}

/// Behind a BDAT that is whole comes its chunk, which is not: the BDAT is asked about, and nothing else.
#[test]
fn tls_torn_down_in_a_chunk_that_is_asked_about_leaves_nothing_else() {
    let line = b"BDAT 9 LAST\r\nand m";
    for version in VERSIONS {
        for at in b"BDAT 9 LAST\r\n".len()..line.len() {
            let told = torn(version, Within::Commands, line, at, Tear::CloseNotify);
            assert!(told.len() == 2 && told[0].starts_with("commands [Ok(Bdat"), "{at}: {told:?}");
            assert!(told[1].starts_with("closed") && told[1].ends_with("Some(4711)"), "{at}: {told:?}");
        }
    }
}

#[test]
fn tls_torn_down_in_commands_leaves_no_command() {
    let mut tears = 0;
    for line in [&b"AUTH PLAIN AGEAYg==\r\n"[..], b"MAIL FROM:<a@b.example>\r\n", b"BDAT 3 LAST\r\n"] {
        for version in VERSIONS {
            // Sealed, a line has at least 17 octets more.
            for (tear, count) in [
                (Tear::Fin, line.len() + 17),
                (Tear::Reset, line.len() + 17),
                (Tear::CloseNotify, line.len()),
            ] {
                for at in 0..count {
                    let told = torn(version, Within::Commands, line, at, tear);
                    assert!(told.len() == 1 && told[0].starts_with("closed"), "{tear:?} {at}: {told:?}");
                    tears += 1;
                }
            }
        }
    }
    println!("tls torn down in commands: {tears} times, 0 commands");
}

#[test]
fn plain_text_in_place_of_a_record_ends_the_connection_with_an_alert() {
    let mut bench = Bench::new();
    let (mut peer, _) = secured(&mut bench, TlsVersion::Tls13);
    let sealed = peer.sealed(b"NOOP\r\n");
    peer.peer.send(&[sealed.as_slice(), b"MAIL FROM:<evil@example>\r\n"].concat());
    bench.nothing_happens();
    assert!(!peer.peer.recv().is_empty(), "an alert");
    assert_eq!(closed_when_the_peer_leaves(&mut bench, &peer.peer), CloseReason::Tls);
    assert_eq!(bench.net.statistics().tls_broken, 1);
}

#[test]
fn a_second_starttls_is_a_fault_of_the_caller() {
    let mut bench = Bench::new();
    let (mut peer, conn) = secured(&mut bench, TlsVersion::Tls13);
    peer.send(b"STARTTLS\r\n");
    let again = commands(bench.event());
    bench.act(start_tls(conn, again.turn, &server_tls()));
    assert_eq!(closed(&bench.event()).0, CloseReason::Error);
    assert_eq!(bench.net.statistics().misplaced_actions, 1);
}

#[test]
fn start_tls_needs_a_starttls() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(ServerLimits::default());
    let noop = bench.commands(&peer, b"NOOP\r\n");
    bench.act(start_tls(conn, noop.turn, &server_tls()));
    assert_eq!(closed(&bench.event()).0, CloseReason::Error);
}
