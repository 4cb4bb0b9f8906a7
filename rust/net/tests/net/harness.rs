//! An inline wire engine with a clock, and the far ends of content.

use std::any::Any;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use penstock_core::flow::{
    ContentFlags, ContentSink, ContentSource, Form, Gate, GateState, Offer, SourcePoll, WakeHandle,
};
use penstock_core::smtp::command::{Command, Malformed};
use penstock_net::{
    ClientLimits, CloseReason, Conn, ContentState, ContentStatus, EventSink, FlightPart, Grant, MemoryPeer,
    Net, NetAction, NetConfig, NetEvent, Proxies, ServerLimits,
};

/// Keeps events until they are asked for.
#[derive(Default)]
pub(crate) struct Recorder {
    events: Mutex<VecDeque<NetEvent>>,
    arrived: Condvar,
    pub(crate) waits_ms: AtomicU64,
    /// How many drafts can be had for a DATA that was granted.
    pub(crate) drafts: AtomicU64,
    /// The size hints of those that were had.
    pub(crate) hints: Mutex<Vec<u64>>,
}

impl EventSink for Recorder {
    fn push(&self, events: &mut Vec<NetEvent>) {
        self.events.lock().extend(events.drain(..));
        self.arrived.notify_all();
    }

    fn open_draft(&self, size_hint: u64) -> Option<(u64, Box<dyn ContentSink>)> {
        let take_one = |left: u64| left.checked_sub(1);
        self.drafts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).ok()?;
        self.hints.lock().push(size_hint);
        Some((GRANTED_DRAFT, Box::new(Draft::default())))
    }

    fn oldest_waits_ms(&self) -> u64 {
        self.waits_ms.load(Ordering::Relaxed)
    }
}

impl Recorder {
    pub(crate) fn take(&self) -> Vec<NetEvent> {
        self.events.lock().drain(..).collect()
    }

    /// Wait for the next event of an engine with threads.
    pub(crate) fn next(&self) -> NetEvent {
        let until = Instant::now() + Duration::from_secs(20);
        let mut events = self.events.lock();
        loop {
            if let Some(event) = events.pop_front() {
                return event;
            }
            assert!(!self.arrived.wait_until(&mut events, until).timed_out(), "no event came");
        }
    }
}

/// An inline engine with one listener, number 7.
pub(crate) struct Bench {
    pub(crate) net: Net,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) now_ms: u64,
}

pub(crate) const LISTENER: u32 = 7;

/// The number of every draft that net opens by itself.
pub(crate) const GRANTED_DRAFT: u64 = 815;

pub(crate) fn peer_address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000))
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(NetConfig::default())
    }

    pub(crate) fn with(config: NetConfig) -> Self {
        Self::behind(Proxies::default(), config)
    }

    /// One on whose listener some peers are proxies.
    pub(crate) fn behind(proxies: Proxies, config: NetConfig) -> Self {
        let recorder = Arc::new(Recorder::default());
        let config = NetConfig { inline: true, ..config };
        let net = Net::start(config, Arc::clone(&recorder) as Arc<dyn EventSink>).unwrap();
        net.listen(LISTENER, SocketAddr::from(([127, 0, 0, 1], 25)), proxies).unwrap();
        let mut bench = Self { net, recorder, now_ms: 1_700_000_000_000 };
        bench.step();
        bench
    }

    pub(crate) fn step(&mut self) {
        self.net.step(self.now_ms);
    }

    /// Let time pass, stopping wherever the engine has something to do.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            let next_ms = self.net.next_deadline_ms().unwrap_or(u64::MAX);
            self.now_ms = next_ms.clamp(self.now_ms + 1, until_ms);
            self.step();
        }
    }

    /// Step, and take what has happened.
    pub(crate) fn events(&mut self) -> Vec<NetEvent> {
        self.step();
        self.recorder.take()
    }

    /// Step, and take the only thing that has happened.
    pub(crate) fn event(&mut self) -> NetEvent {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{:?}", events.iter().map(kind).collect::<Vec<_>>());
        events.remove(0)
    }

    pub(crate) fn nothing_happens(&mut self) {
        let events = self.events();
        assert!(events.is_empty(), "{:?}", events.iter().map(kind).collect::<Vec<_>>());
    }

    pub(crate) fn act(&mut self, action: NetAction) {
        self.net.apply(vec![action]);
        self.step();
    }

    /// Connect a peer that is not greeted yet.
    pub(crate) fn connect(&mut self) -> (MemoryPeer, Conn) {
        let peer = self.net.memory_connect(LISTENER, peer_address());
        let NetEvent::Opened { conn, turn: 1, listener: LISTENER, peer: address, .. } = self.event() else {
            panic!("not opened")
        };
        assert_eq!(address, peer_address());
        (peer, conn)
    }

    /// Connect a peer and greet it.
    pub(crate) fn session(&mut self, limits: ServerLimits) -> (MemoryPeer, Conn) {
        let (peer, conn) = self.connect();
        self.act(begin(conn, limits));
        assert_eq!(peer.recv(), b"220 me\r\n");
        (peer, conn)
    }

    /// Have the peer send commands and take their event.
    pub(crate) fn commands(&mut self, peer: &MemoryPeer, octets: &[u8]) -> Commands {
        peer.send(octets);
        commands(self.event())
    }

    pub(crate) fn reply(&mut self, conn: Conn, turn: u32, bytes: &'static str, answers: u32) {
        self.act(reply(conn, turn, bytes, answers));
    }

    /// Have a peer send content up to the point where it can begin.
    pub(crate) fn taking(&mut self, peer: &MemoryPeer, conn: Conn, sink: Draft, limit_bytes: u64) {
        let asked = self.commands(peer, b"DATA\r\n");
        assert_eq!(asked.items, [Ok(Command::Data)]);
        self.act(take(conn, asked.turn, sink, limit_bytes));
        assert_eq!(peer.recv(), b"354 go\r\n");
    }

    /// Dial, up to the turn after the banner.
    pub(crate) fn dialled(&mut self, limits: ClientLimits) -> (MemoryPeer, Conn, u32) {
        let conn = self.net.dial(SocketAddr::from(([192, 0, 2, 9], 25)), None, Arc::new(limits));
        assert!(matches!(self.event(), NetEvent::Connected { turn: 1, .. }));
        let peer = self.net.memory_accept().unwrap();
        peer.send(b"220 you\r\n");
        let heard = replies(self.event());
        assert_eq!((heard.first, heard.codes), (0, vec![220]));
        (peer, conn, heard.turn)
    }

    /// Dial, up to the turn after a 354.
    pub(crate) fn asked_for_content(&mut self, limits: ClientLimits) -> (MemoryPeer, Conn, u32) {
        let (peer, conn, turn) = self.dialled(limits);
        self.act(flight(conn, turn, vec![part("DATA\r\n", 1)]));
        assert_eq!(peer.recv(), b"DATA\r\n");
        peer.send(b"354 go\r\n");
        let heard = replies(self.event());
        assert_eq!(heard.codes, [354]);
        (peer, conn, heard.turn)
    }
}

pub(crate) fn kind(event: &NetEvent) -> String {
    match event {
        NetEvent::Opened { .. } => "opened".into(),
        NetEvent::ProxyRefused { refusal, .. } => format!("proxy refused {}", refusal.as_str()),
        NetEvent::Commands { items, .. } => format!("commands {items:?}"),
        NetEvent::TlsUp { .. } => "tls up".into(),
        NetEvent::AuthLine { response, early, .. } => format!("auth line {response:?} {early}"),
        NetEvent::Content { status, .. } => format!("content {status:?}"),
        NetEvent::Closed { reason, draft, .. } => format!("closed {reason:?} {draft:?}"),
        NetEvent::Connected { .. } => "connected".into(),
        NetEvent::DialFailed { stage, errno, .. } => format!("dial failed {stage:?} {errno}"),
        NetEvent::Replies { replies, .. } => format!("replies {replies:?}"),
        NetEvent::ClientClosed { reason, content, .. } => format!("client closed {reason:?} {content:?}"),
    }
}

pub(crate) struct Commands {
    pub(crate) turn: u32,
    pub(crate) items: Vec<Result<Command, Malformed>>,
    pub(crate) answered: u32,
    pub(crate) early: bool,
}

pub(crate) fn commands(event: NetEvent) -> Commands {
    match event {
        NetEvent::Commands { turn, items, answered, early, .. } => Commands { turn, items, answered, early },
        other => panic!("{}", kind(&other)),
    }
}

pub(crate) struct Content {
    pub(crate) turn: u32,
    pub(crate) draft: u64,
    pub(crate) status: ContentStatus,
    pub(crate) size: u64,
    pub(crate) octets: Vec<u8>,
}

pub(crate) fn content(event: NetEvent) -> Content {
    match event {
        NetEvent::Content { turn, draft, status, size, sink, .. } => {
            let octets = sink.into_any().downcast::<Draft>().unwrap().octets;
            Content { turn, draft, status, size, octets }
        }
        other => panic!("{}", kind(&other)),
    }
}

pub(crate) fn closed(event: &NetEvent) -> (CloseReason, Option<u64>) {
    match event {
        NetEvent::Closed { reason, draft, .. } => (*reason, *draft),
        other => panic!("{}", kind(other)),
    }
}

pub(crate) struct Replies {
    pub(crate) turn: u32,
    pub(crate) first: u32,
    pub(crate) codes: Vec<u16>,
}

pub(crate) fn replies(event: NetEvent) -> Replies {
    match event {
        NetEvent::Replies { turn, first, replies, .. } => {
            Replies { turn, first, codes: replies.iter().map(|reply| reply.code).collect() }
        }
        other => panic!("{}", kind(&other)),
    }
}

pub(crate) fn client_closed(event: &NetEvent) -> (CloseReason, ContentState, u32) {
    match event {
        NetEvent::ClientClosed { reason, content, replies_seen, .. } => (*reason, *content, *replies_seen),
        other => panic!("{}", kind(other)),
    }
}

pub(crate) fn begin(conn: Conn, limits: ServerLimits) -> NetAction {
    NetAction::Begin {
        conn,
        turn: 1,
        limits: Arc::new(limits),
        tls: None,
        banner: Bytes::from_static(b"220 me\r\n"),
        delay_ms: 0,
    }
}

pub(crate) fn reply(conn: Conn, turn: u32, bytes: &'static str, answers: u32) -> NetAction {
    let bytes = Bytes::from_static(bytes.as_bytes());
    NetAction::Reply { conn, turn, bytes, answers, delay_ms: 0, close: false, grant: Grant::None }
}

/// A reply to one command that grants the next.
pub(crate) fn granting(conn: Conn, turn: u32, bytes: &'static str, grant: Grant) -> NetAction {
    let bytes = Bytes::from_static(bytes.as_bytes());
    NetAction::Reply { conn, turn, bytes, answers: 1, delay_ms: 0, close: false, grant }
}

pub(crate) fn last_reply(conn: Conn, turn: u32, bytes: &'static str, answers: u32) -> NetAction {
    let bytes = Bytes::from_static(bytes.as_bytes());
    NetAction::Reply { conn, turn, bytes, answers, delay_ms: 0, close: true, grant: Grant::None }
}

pub(crate) fn take(conn: Conn, turn: u32, sink: Draft, limit_bytes: u64) -> NetAction {
    let reply = Bytes::from_static(b"354 go\r\n");
    NetAction::Take { conn, turn, draft: 4711, sink: Box::new(sink), limit_bytes, reply }
}

pub(crate) fn await_durable(conn: Conn, turn: u32) -> NetAction {
    await_durable_granting(conn, turn, Grant::None)
}

pub(crate) fn await_durable_granting(conn: Conn, turn: u32, grant: Grant) -> NetAction {
    let (ok, failed) = (Bytes::from_static(b"250 kept\r\n"), Bytes::from_static(b"451 lost\r\n"));
    NetAction::AwaitDurable { conn, turn, ok, failed, grant }
}

pub(crate) fn flight(conn: Conn, turn: u32, parts: Vec<FlightPart>) -> NetAction {
    NetAction::Flight { conn, turn, parts }
}

pub(crate) fn part(bytes: &'static str, replies: u32) -> FlightPart {
    FlightPart { bytes: Bytes::from_static(bytes.as_bytes()), replies, deadline_ms: 100_000 }
}

pub(crate) fn send_content(
    conn: Conn,
    turn: u32,
    source: &Source,
    door: &Door,
    then: Vec<FlightPart>,
) -> NetAction {
    NetAction::Content {
        conn,
        turn,
        source: Box::new(source.clone()),
        form: Form::Wire,
        flags: ContentFlags::default(),
        gate: Box::new(door.clone()),
        then,
    }
}

/// Room for content, shared by drafts.
#[derive(Default)]
pub(crate) struct Budget {
    room: Mutex<usize>,
    waiting: Mutex<Vec<WakeHandle>>,
}

impl Budget {
    pub(crate) fn grow(&self, octets: usize) {
        *self.room.lock() += octets;
        for waker in self.waiting.lock().drain(..) {
            waker.wake();
        }
    }
}

/// A draft in memory.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) octets: Vec<u8>,
    pub(crate) budget: Option<Arc<Budget>>,
    pub(crate) panics: bool,
}

impl ContentSink for Draft {
    fn offer(&mut self, chunk: &[u8], waker: &WakeHandle) -> Offer {
        assert!(!self.panics, "a sink that was told to panic");
        if let Some(budget) = &self.budget {
            let mut room = budget.room.lock();
            if *room < chunk.len() {
                budget.waiting.lock().push(waker.clone());
                return Offer::Full;
            }
            *room -= chunk.len();
        }
        self.octets.extend_from_slice(chunk);
        Offer::Taken
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

#[derive(Default)]
struct SourceState {
    polls: VecDeque<SourcePoll>,
    waker: Option<WakeHandle>,
}

/// Content that a test gives bit by bit.
#[derive(Clone, Default)]
pub(crate) struct Source(Arc<Mutex<SourceState>>);

impl Source {
    pub(crate) fn whole(chunks: &[&'static [u8]]) -> Self {
        let source = Self::default();
        for chunk in chunks {
            source.give(SourcePoll::Chunk(Bytes::from_static(chunk)));
        }
        source.give(SourcePoll::End);
        source
    }

    pub(crate) fn give(&self, poll: SourcePoll) {
        let mut state = self.0.lock();
        state.polls.push_back(poll);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Whether nobody else has it any more.
    pub(crate) fn is_released(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl ContentSource for Source {
    fn poll(&mut self, waker: &WakeHandle) -> SourcePoll {
        let mut state = self.0.lock();
        state.polls.pop_front().unwrap_or_else(|| {
            state.waker = Some(waker.clone());
            SourcePoll::Pending
        })
    }
}

struct DoorState {
    state: GateState,
    waker: Option<WakeHandle>,
}

/// A gate that a test opens.
#[derive(Clone)]
pub(crate) struct Door(Arc<Mutex<DoorState>>);

impl Door {
    pub(crate) fn open() -> Self {
        Self(Arc::new(Mutex::new(DoorState { state: GateState::Open, waker: None })))
    }

    pub(crate) fn closed() -> Self {
        let door = Self::open();
        door.0.lock().state = GateState::Closed;
        door
    }

    pub(crate) fn set(&self, to: GateState) {
        let mut state = self.0.lock();
        state.state = to;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Gate for Door {
    fn state(&mut self, waker: &WakeHandle) -> GateState {
        let mut state = self.0.lock();
        state.waker = Some(waker.clone());
        state.state
    }
}
