//! Whatever caller and peers do, in whatever order: nothing panics, and the events keep their promises.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use penstock_core::flow::GateState;
use penstock_net::{ClientLimits, Conn, Grant, MemoryPeer, NetAction, NetEvent, ServerLimits};
use proptest::prelude::*;

use crate::auth::challenge;
use crate::caller::abort;
use crate::harness::*;

#[derive(Clone, Debug)]
enum Step {
    Connect,
    Dial,
    Say(usize, &'static str),
    ShutWrite(usize),
    Reset(usize),
    Hear(usize),
    Narrow(usize, usize),
    /// An action of this kind, on this connection, so many turns before the present one.
    Act(usize, usize, u32),
    Complete(usize, bool),
    OpenGates,
    Pass(u64),
    Load(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let said = prop::sample::select(vec![
        "NOOP\r\n",
        "MAIL FROM:<>\r\n",
        "DATA\r\n",
        "AUTH LOGIN\r\n",
        "*\r\n",
        "x\r\n.\r\n",
        "QUIT\r\n",
        "220 hello\r\n",
        "250 ok\r\n",
        "354 go\r\n",
        "421 bye\r\n",
        "25",
    ]);
    let which = 0_usize..4;
    prop_oneof![
        2 => Just(Step::Connect),
        2 => Just(Step::Dial),
        8 => (which.clone(), said).prop_map(|(which, said)| Step::Say(which, said)),
        1 => which.clone().prop_map(Step::ShutWrite),
        1 => which.clone().prop_map(Step::Reset),
        2 => which.clone().prop_map(Step::Hear),
        1 => (which.clone(), 0_usize..20).prop_map(|(which, window)| Step::Narrow(which, window)),
        16 => (which.clone(), 0_usize..13, prop::sample::select(vec![0, 0, 0, 0, 1]))
            .prop_map(|(which, kind, back)| Step::Act(which, kind, back)),
        2 => (which, any::<bool>()).prop_map(|(which, ok)| Step::Complete(which, ok)),
        1 => Just(Step::OpenGates),
        2 => prop::sample::select(vec![1, 1_000, 61_000, 700_000]).prop_map(Step::Pass),
        1 => prop::sample::select(vec![0, 0, 2_500, 11_000]).prop_map(Step::Load),
    ]
}

/// What is known of a connection from its events alone.
#[derive(Default)]
struct Known {
    turn: u32,
    has_ended: bool,
}

struct World {
    bench: Bench,
    peers: Vec<MemoryPeer>,
    conns: Vec<Conn>,
    known: HashMap<Conn, Known>,
    doors: Vec<Door>,
}

impl World {
    fn watch(&mut self) {
        for event in self.bench.events() {
            let (conn, turn, is_end) = match &event {
                NetEvent::Opened { conn, turn, .. } | NetEvent::Connected { conn, turn, .. } => {
                    let before = self.known.insert(*conn, Known::default());
                    assert!(before.is_none(), "a name is given once");
                    self.conns.push(*conn);
                    (*conn, Some(*turn), false)
                }
                NetEvent::Commands { conn, turn, items, answered, .. } => {
                    assert!(items.len() > *answered as usize && *answered <= 1);
                    (*conn, Some(*turn), false)
                }
                NetEvent::AuthLine { conn, turn, .. }
                | NetEvent::Content { conn, turn, .. }
                | NetEvent::TlsUp { conn, turn, .. }
                | NetEvent::Replies { conn, turn, .. } => (*conn, Some(*turn), false),
                NetEvent::Closed { conn, .. }
                | NetEvent::ClientClosed { conn, .. }
                | NetEvent::DialFailed { conn, .. } => (*conn, None, true),
                NetEvent::ProxyRefused { .. } => panic!("there are no proxies here"),
            };
            let known = self.known.entry(conn).or_default();
            assert!(!known.has_ended, "nothing follows the end: {}", kind(&event));
            known.has_ended = is_end;
            if let Some(turn) = turn {
                assert!(turn == known.turn || turn == known.turn + 1, "turns follow each other");
                known.turn = turn;
            }
        }
        while let Some(peer) = self.bench.net.memory_accept() {
            self.peers.push(peer);
        }
    }

    fn action(&mut self, conn: Conn, kind: usize, turn: u32) -> NetAction {
        let door = if kind == 5 { Door::closed() } else { Door::open() };
        self.doors.push(door.clone());
        let grant = if turn.is_multiple_of(3) { Grant::Data } else { Grant::Mail };
        match kind {
            0 => begin(conn, ServerLimits { total_ms: 100_000, ..ServerLimits::default() }),
            1 => granting(conn, turn, "250 ok\r\n", grant),
            2 => last_reply(conn, turn, "221 bye\r\n", 1),
            3 => take(conn, turn, Draft::default(), 2),
            4 => await_durable_granting(conn, turn, grant),
            5 | 6 => {
                let then = if kind == 5 { vec![] } else { vec![part("RSET\r\n", 1)] };
                send_content(conn, turn, &Source::whole(&[b"x\r\n"]), &door, then)
            }
            7 | 8 => flight(conn, turn, vec![part("DATA\r\n", 1)]),
            9 => NetAction::Park { conn, turn, idle_ms: 10_000 },
            10 => NetAction::Close { conn, turn, quit: turn.is_multiple_of(2) },
            11 => challenge(conn, turn),
            _ => abort(conn),
        }
    }

    fn follow(&mut self, step: &Step) {
        match *step {
            Step::Connect => self.peers.push(self.bench.net.memory_connect(LISTENER, peer_address())),
            Step::Dial => {
                self.bench.net.dial(peer_address(), None, ClientLimits::default().into());
            }
            Step::Say(which, said) => self.peer(which, |peer| peer.send(said.as_bytes())),
            Step::ShutWrite(which) => self.peer(which, MemoryPeer::shutdown_write),
            Step::Reset(which) => self.peer(which, MemoryPeer::reset),
            Step::Hear(which) => self.peer(which, |peer| drop(peer.recv())),
            Step::Narrow(which, window) => self.peer(which, |peer| peer.limit_window(window)),
            Step::Act(which, kind, back) => {
                if let Some(&conn) = self.conns.iter().rev().nth(which) {
                    let turn = self.known[&conn].turn.saturating_sub(back);
                    let action = self.action(conn, kind, turn);
                    self.bench.net.apply(vec![action]);
                }
            }
            Step::Complete(which, ok) => {
                if let Some(&conn) = self.conns.iter().rev().nth(which) {
                    self.bench.net.complete(&[(conn, self.known[&conn].turn, ok)]);
                }
            }
            Step::OpenGates => self.doors.drain(..).for_each(|door| door.set(GateState::Open)),
            Step::Pass(ms) => self.bench.pass_ms(ms),
            Step::Load(ms) => self.bench.recorder.waits_ms.store(ms, Ordering::Relaxed),
        }
    }

    fn peer(&self, which: usize, act: impl FnOnce(&MemoryPeer)) {
        if let Some(peer) = self.peers.iter().rev().nth(which) {
            act(peer);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_panics_and_everything_ends_once(steps in prop::collection::vec(step(), 0..120)) {
        let bench = Bench::new();
        bench.recorder.drafts.store(20, Ordering::Relaxed);
        let mut world =
            World { bench, peers: vec![], conns: vec![], known: HashMap::new(), doors: vec![] };
        for step in &steps {
            world.follow(step);
            world.watch();
        }
        world.bench.net.stop();
        world.watch();
        prop_assert!(world.known.values().all(|known| known.has_ended));
        let counted = world.bench.net.statistics();
        prop_assert_eq!(counted.panics, 0);
        prop_assert_eq!((counted.server_connections, counted.client_connections), (0, 0));
        prop_assert_eq!(counted.opened, counted.closed);
        prop_assert_eq!(counted.connected, counted.client_closed);
        prop_assert_eq!(counted.dialled, counted.connected + counted.dial_failed);
        prop_assert!(world.peers.iter().all(MemoryPeer::is_closed));
    }
}
