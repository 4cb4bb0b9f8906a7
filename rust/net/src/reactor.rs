//! The loop that steps the connections of one thread.
//!
//! # Theory of operation
//!
//! A pass: accept, follow orders, note what has become ready, call whose deadline has passed, step whoever any of these
//! concerns, then give all events to the sink at once. Only a step does I/O; the rest puts connections into the *ring*,
//! each once. Whoever has more to do than a pass allows stays in the ring, and then the thread does not sleep.
//!
//! A panic costs the connection that was stepped. What it leaves half changed is ended before anybody looks at it.
//!
//! If you change what can wake a connection, check that all of `run`'s ways to wait are covered: readiness (an edge, so
//! it is noted until used up), an order, the wheel, or the end of back-pressure.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_core::flow::Wake;

use crate::acceptor::Acceptor;
use crate::client_conn::{Client, dial_failed};
use crate::conn::slot_of;
use crate::context::{Context, Next};
use crate::entry::{Entry, Side, guarded};
use crate::hub::Hub;
use crate::inbox::{Inbox, Order};
use crate::server_conn::{Met, Server};
use crate::tls::HANDSHAKES_PER_PASS;
use crate::transport::{Readiness, Stream, Transport};
use crate::wheel::Wheel;
use crate::{ClientLimits, CloseReason, Conn, DialStage};

/// How long the caller may leave an event before nothing more is accepted or read.
const BEHIND_MS: u64 = 2_000;

/// How long it may before peers are turned away.
const LOST_MS: u64 = 10_000;

/// How soon we look again whether the caller has caught up.
const RECHECK_MS: u64 = 100;

/// How long connections may take to end when the engine is stopped.
const STOP_MS: u64 = 5_000;

const ECANCELED: i32 = 125;

/// How far behind the caller is.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Load {
    Fine,
    /// Nothing is accepted or read from clients.
    Behind,
    /// As before, and who connects is told so.
    Lost,
}

pub(crate) struct Reactor<T: Transport> {
    hub: Arc<Hub<T>>,
    inbox: Arc<Inbox<T>>,
    transport: T,
    acceptor: Acceptor<T>,
    /// Indexed by the slot of a connection's name.
    entries: Vec<Option<Box<Entry<T::Stream>>>>,
    /// How many entries there are.
    open: usize,
    /// Who is to be stepped.
    ring: VecDeque<Conn>,
    /// Who would read if it might.
    paused: Vec<Conn>,
    wheel: Wheel,
    cx: Context,
    load: Load,
    /// When everything must have ended, once the engine is being stopped.
    stop_by_ms: Option<u64>,
    ready: Vec<Readiness>,
    // Kept for their memory.
    orders: Vec<Order<T>>,
    due: Vec<(Conn, u64)>,
}

impl<T: Transport> Reactor<T> {
    pub(crate) fn new(
        hub: Arc<Hub<T>>,
        inbox: Arc<Inbox<T>>,
        thread: usize,
        transport: T,
        now_ms: u64,
    ) -> Self {
        let wake = Arc::clone(&inbox) as Arc<dyn Wake>;
        Self {
            cx: Context::new(&hub.config, hub.handshakes.clone(), Arc::clone(&hub.sink), wake),
            hub,
            inbox,
            transport,
            acceptor: Acceptor::new(thread),
            entries: Vec::new(),
            open: 0,
            ring: VecDeque::new(),
            paused: Vec::new(),
            wheel: Wheel::new(now_ms),
            load: Load::Fine,
            stop_by_ms: None,
            ready: Vec::new(),
            orders: Vec::new(),
            due: Vec::new(),
        }
    }

    /// Run until stopped.
    pub(crate) fn run(mut self) {
        let began = Instant::now();
        let mut now_ms = 0;
        while !self.is_finished(now_ms) {
            let until_ms = self.next_ms().unwrap_or(u64::MAX);
            let timeout = if until_ms <= now_ms || !self.inbox.park() {
                Some(Duration::ZERO)
            } else {
                (until_ms < u64::MAX).then(|| Duration::from_millis(until_ms - now_ms))
            };
            self.wait(timeout);
            now_ms = began.elapsed().as_millis() as u64;
            self.pass(now_ms);
        }
        self.abort_all();
    }

    /// Do all that can be done without waiting, for one whose clock does not run by itself.
    pub(crate) fn settle(&mut self, now_ms: u64) {
        self.wait(Some(Duration::ZERO));
        loop {
            self.pass(now_ms);
            self.wait(Some(Duration::ZERO));
            if self.ready.is_empty() && self.next_ms().is_none_or(|at_ms| at_ms > now_ms) && self.inbox.park()
            {
                return;
            }
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) {
        let waited = self.transport.wait(timeout, &mut self.ready);
        waited.expect("invariant: waiting fails only for a descriptor that is not epoll's");
    }

    /// As [`Reactor::settle`], at the time of the last pass.
    pub(crate) fn settle_now(&mut self) {
        self.settle(self.cx.now_ms);
    }

    /// When there is something to do without anybody saying so. Zero: now.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        if !self.ring.is_empty() {
            return Some(0);
        }
        let accept_ms = self.acceptor.next_ms().filter(|_| self.load != Load::Behind);
        let recheck_ms = (self.load != Load::Fine).then_some(self.cx.now_ms + RECHECK_MS);
        [self.wheel.next_ms(), accept_ms, recheck_ms, self.stop_by_ms].into_iter().flatten().min()
    }

    pub(crate) fn pass(&mut self, now_ms: u64) {
        self.cx.now_ms = now_ms;
        self.cx.tally.passes += 1;
        self.cx.handshakes_left = HANDSHAKES_PER_PASS;
        self.weigh_load();
        self.note_readiness();
        self.accept();
        self.follow_orders();
        self.call_due();
        for _ in 0..self.ring.len() {
            self.step_next();
        }
        self.report();
    }

    /// Whether the engine was stopped and nothing is left, or must be.
    fn is_finished(&self, now_ms: u64) -> bool {
        self.stop_by_ms.is_some_and(|by_ms| self.open == 0 || now_ms >= by_ms)
    }

    /// End what is left, without a word.
    pub(crate) fn abort_all(&mut self) {
        self.acceptor.clear();
        for entry in std::mem::take(&mut self.entries).into_iter().flatten() {
            let (conn, is_server) = (entry.conn, entry.is_server());
            let mut entry = entry;
            guarded(&mut self.cx, |cx| entry.abort(cx));
            guarded(&mut self.cx, |_| drop(entry));
            self.hub.release(conn, is_server);
        }
        self.open = 0;
        self.report();
    }

    fn weigh_load(&mut self) {
        self.load = match self.hub.sink.oldest_waits_ms() {
            LOST_MS.. => Load::Lost,
            BEHIND_MS.. => Load::Behind,
            _ => Load::Fine,
        };
        self.cx.may_read = self.load == Load::Fine;
        if self.cx.may_read {
            for conn in std::mem::take(&mut self.paused) {
                if let Some(entry) = find(&mut self.entries, conn) {
                    entry.is_paused = false;
                    queue(&mut self.ring, entry);
                }
            }
        }
    }

    fn note_readiness(&mut self) {
        for readiness in self.ready.drain(..) {
            if let Some(entry) = find(&mut self.entries, readiness.token) {
                entry.note(readiness);
                queue(&mut self.ring, entry);
            } else {
                self.acceptor.note(readiness.token);
            }
        }
    }

    fn accept(&mut self) {
        if self.load == Load::Behind {
            return;
        }
        let (hub, is_lost) = (&self.hub, self.load == Load::Lost);
        let farewell = &hub.config.overload_reply;
        self.cx.tally.refused += self.acceptor.accept(
            &mut self.transport,
            self.cx.now_ms,
            farewell,
            |stream, listener, peer, header_ms| {
                if is_lost { Err(stream) } else { hub.adopt(stream, listener, peer, header_ms) }
            },
        );
    }

    fn follow_orders(&mut self) {
        let mut orders = std::mem::take(&mut self.orders);
        self.inbox.take(&mut orders);
        for order in orders.drain(..) {
            match order {
                Order::Action(action) => {
                    let conn = action.conn();
                    self.touch(conn, |entry, cx| entry.act(action, cx));
                }
                Order::Done { conn, turn, ok } => self.touch(conn, |entry, cx| entry.complete(turn, ok, cx)),
                Order::Wake { conn } => {
                    if let Some(entry) = find(&mut self.entries, conn) {
                        queue(&mut self.ring, entry);
                    }
                }
                Order::Dial { conn, address, source, limits } => self.dial(conn, address, source, limits),
                Order::Adopt { conn, stream, listener, peer, header_ms } => {
                    self.adopt(conn, stream, listener, peer, header_ms);
                }
                Order::Listen { listener, socket, proxies, answer } => {
                    let listened = self.acceptor.listen(&mut self.transport, listener, socket, proxies);
                    // Whoever asked may have lost patience.
                    let _ = answer.try_send(listened);
                }
                Order::Unlisten { listener, answer } => {
                    self.acceptor.unlisten(listener);
                    let _ = answer.try_send(Ok(()));
                }
                Order::Stop => self.begin_to_stop(),
            }
        }
        self.orders = orders;
    }

    /// Have a connection take note of something. If it is gone, or will not have it, that is counted.
    fn touch(&mut self, conn: Conn, step: impl FnOnce(&mut Entry<T::Stream>, &mut Context) -> bool) {
        let mut entry = find(&mut self.entries, conn);
        let taken = guarded(&mut self.cx, |cx| {
            if let Some(entry) = &mut entry {
                step(entry, cx)
            } else {
                // Releases what an action carries, which may panic as well.
                drop(step);
                false
            }
        });
        if taken == Some(false) {
            self.cx.tally.stale_actions += 1;
        }
        if let Some(entry) = entry {
            if taken.is_none() {
                guarded(&mut self.cx, |_| entry.finish(CloseReason::Panic));
            }
            queue(&mut self.ring, entry);
        }
    }

    fn dial(&mut self, conn: Conn, address: SocketAddr, source: Option<IpAddr>, limits: Arc<ClientLimits>) {
        self.cx.tally.dialled += 1;
        let made = if self.cx.is_stopping {
            Err((DialStage::Socket, io::Error::from_raw_os_error(ECANCELED)))
        } else {
            self.transport.connect(address, source).and_then(|mut stream| {
                let registered = self.transport.register(&mut stream, conn);
                registered.map(|()| stream).map_err(|error| (DialStage::Socket, error))
            })
        };
        match made {
            Ok(stream) => {
                let client = Client::dial(conn, stream, limits, &self.cx);
                self.insert(conn, Side::Client(client));
            }
            Err((stage, error)) => {
                self.cx.events.push(dial_failed(conn, stage, &error));
                self.hub.release(conn, false);
            }
        }
    }

    fn adopt(
        &mut self,
        conn: Conn,
        mut stream: T::Stream,
        listener: u32,
        peer: SocketAddr,
        header_ms: Option<u64>,
    ) {
        let registered = if self.cx.is_stopping {
            Err(io::Error::from_raw_os_error(ECANCELED))
        } else {
            self.transport.register(&mut stream, conn).and_then(|()| stream.local_addr())
        };
        if let Ok(local) = registered {
            let met = Met { listener, peer, local };
            let server = Server::open(conn, stream, met, header_ms, &mut self.cx);
            self.insert(conn, Side::Server(server));
        } else {
            self.cx.tally.refused += 1;
            self.hub.release(conn, true);
        }
    }

    fn insert(&mut self, conn: Conn, side: Side<T::Stream>) {
        let slot = slot_of(conn);
        if self.entries.len() <= slot {
            self.entries.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.entries.get_mut(slot) {
            let entry = place.insert(Box::new(Entry::new(conn, side)));
            queue(&mut self.ring, entry);
            self.open += 1;
        }
    }

    fn begin_to_stop(&mut self) {
        self.cx.is_stopping = true;
        self.stop_by_ms.get_or_insert(self.cx.now_ms + STOP_MS);
        self.acceptor.clear();
        for entry in self.entries.iter_mut().flatten() {
            queue(&mut self.ring, entry);
        }
    }

    fn call_due(&mut self) {
        let due = &mut self.due;
        self.wheel.advance(self.cx.now_ms, |conn, tick| due.push((conn, tick)));
        for (conn, tick) in self.due.drain(..) {
            // Whoever was enrolled again for an earlier time has nothing to do with this call.
            if let Some(entry) = find(&mut self.entries, conn).filter(|entry| entry.tick == Some(tick)) {
                entry.tick = None;
                queue(&mut self.ring, entry);
            }
        }
    }

    fn step_next(&mut self) {
        let Some(entry) = self.ring.pop_front().and_then(|conn| find(&mut self.entries, conn)) else {
            return;
        };
        entry.is_queued = false;
        let next = guarded(&mut self.cx, |cx| entry.run(cx)).unwrap_or_else(|| {
            guarded(&mut self.cx, |_| entry.finish(CloseReason::Panic));
            Next::Again
        });
        match next {
            Next::Wait => {}
            Next::Again => return queue(&mut self.ring, entry),
            Next::Paused => {
                if !std::mem::replace(&mut entry.is_paused, true) {
                    self.paused.push(entry.conn);
                }
            }
            Next::Gone => {
                let (conn, is_server) = (entry.conn, entry.is_server());
                let gone = self.entries.get_mut(slot_of(conn)).and_then(Option::take);
                guarded(&mut self.cx, |_| drop(gone));
                self.open -= 1;
                self.hub.release(conn, is_server);
                return;
            }
        }
        let at_ms = entry.deadline_ms(&self.cx);
        let is_enrolled = entry.tick.is_some_and(|tick| Wheel::is_early_enough(tick, at_ms));
        if at_ms < u64::MAX && !is_enrolled {
            entry.tick = Some(self.wheel.enrol(entry.conn, at_ms));
        }
    }

    /// Tell the caller what has happened, and the counters.
    fn report(&mut self) {
        if !self.cx.events.is_empty() {
            let mut events = std::mem::take(&mut self.cx.events);
            for event in &events {
                self.cx.tally.count(event);
            }
            let sink = &self.hub.sink;
            guarded(&mut self.cx, |_| sink.push(&mut events));
            guarded(&mut self.cx, |_| events.clear());
            self.cx.events = events;
        }
        self.hub.counters.add(&mut self.cx.tally);
    }
}

/// Find a connection by its name: the slot may have been given to another.
fn find<S>(entries: &mut [Option<Box<Entry<S>>>], conn: Conn) -> Option<&mut Entry<S>> {
    entries.get_mut(slot_of(conn))?.as_deref_mut().filter(|entry| entry.conn == conn)
}

/// Put a connection into the ring if it is not there.
fn queue<S>(ring: &mut VecDeque<Conn>, entry: &mut Entry<S>) {
    if !std::mem::replace(&mut entry.is_queued, true) {
        ring.push_back(entry.conn);
    }
}
