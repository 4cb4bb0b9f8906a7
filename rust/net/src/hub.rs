//! What the threads of a wire engine share, and how they are reached.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::conn::{Names, thread_of};
use crate::inbox::{Inbox, Order};
use crate::statistics::Counters;
use crate::tls::Handshakes;
use crate::transport::Transport;
use crate::{ClientLimits, Conn, EventSink, NetAction, NetConfig};

/// What a thread is known by.
struct Desk<T: Transport> {
    names: Names,
    inbox: Arc<Inbox<T>>,
}

pub(crate) struct Hub<T: Transport> {
    pub(crate) config: NetConfig,
    pub(crate) sink: Arc<dyn EventSink>,
    pub(crate) counters: Counters,
    pub(crate) handshakes: Handshakes,
    desks: Vec<Desk<T>>,
}

impl<T: Transport> Hub<T> {
    /// Make a hub for as many threads as there are wake-ups.
    pub(crate) fn new(
        config: NetConfig,
        sink: Arc<dyn EventSink>,
        unparks: impl IntoIterator<Item = T::Unpark>,
    ) -> Self {
        let desk = |(thread, unpark)| Desk { names: Names::new(thread), inbox: Arc::new(Inbox::new(unpark)) };
        Self {
            config,
            sink,
            counters: Counters::default(),
            handshakes: Handshakes::default(),
            desks: unparks.into_iter().enumerate().map(desk).collect(),
        }
    }

    pub(crate) fn inbox(&self, thread: usize) -> Option<&Arc<Inbox<T>>> {
        self.desks.get(thread).map(|desk| &desk.inbox)
    }

    /// Have a thread do something. What is for a thread that does not exist is about a connection that does not.
    pub(crate) fn put(&self, thread: usize, order: Order<T>) {
        if let Some(inbox) = self.inbox(thread) {
            inbox.put([order]);
        }
    }

    pub(crate) fn put_all(&self, order: impl Fn() -> Order<T>) {
        for desk in &self.desks {
            desk.inbox.put([order()]);
        }
    }

    pub(crate) fn apply(&self, actions: Vec<NetAction>) {
        self.sort(actions, |action| thread_of(action.conn()), Order::Action);
    }

    pub(crate) fn complete(&self, done: &[(Conn, u32, bool)]) {
        let order = |&(conn, turn, ok): &(Conn, u32, bool)| Order::Done { conn, turn, ok };
        self.sort(done, |&&(conn, ..)| thread_of(conn), order);
    }

    /// Give each thread its share, in order and at once.
    fn sort<I: IntoIterator>(
        &self,
        items: I,
        thread: impl Fn(&I::Item) -> usize,
        order: impl Fn(I::Item) -> Order<T>,
    ) {
        if let [desk] = self.desks.as_slice() {
            desk.inbox.put(items.into_iter().map(order));
            return;
        }
        let mut shares: Vec<Vec<Order<T>>> = self.desks.iter().map(|_| Vec::new()).collect();
        for item in items {
            if let Some(share) = shares.get_mut(thread(&item)) {
                share.push(order(item));
            }
        }
        for (desk, share) in self.desks.iter().zip(shares) {
            if !share.is_empty() {
                desk.inbox.put(share);
            }
        }
    }

    /// Have the thread with the fewest connections make one; `None` if there are too many to be named.
    pub(crate) fn dial(
        &self,
        address: SocketAddr,
        source: Option<IpAddr>,
        limits: Arc<ClientLimits>,
    ) -> Option<Conn> {
        let conn = self.name()?;
        self.counters.client_connections.fetch_add(1, Ordering::Relaxed);
        self.put(thread_of(conn), Order::Dial { conn, address, source, limits });
        Some(conn)
    }

    /// Give the thread with the fewest connections one that has been accepted; get it back if there are too many.
    pub(crate) fn adopt(
        &self,
        stream: T::Stream,
        listener: u32,
        peer: SocketAddr,
        header_ms: Option<u64>,
    ) -> Result<(), T::Stream> {
        let count = &self.counters.server_connections;
        let max = self.config.connections_max;
        let is_admitted =
            count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < max).then_some(now + 1));
        if is_admitted.is_err() {
            return Err(stream);
        }
        let Some(conn) = self.name() else {
            count.fetch_sub(1, Ordering::Relaxed);
            return Err(stream);
        };
        self.put(thread_of(conn), Order::Adopt { conn, stream, listener, peer, header_ms });
        Ok(())
    }

    /// Take note that a connection has ended.
    pub(crate) fn release(&self, conn: Conn, is_server: bool) {
        let counters = &self.counters;
        let count = if is_server { &counters.server_connections } else { &counters.client_connections };
        count.fetch_sub(1, Ordering::Relaxed);
        if let Some(desk) = self.desks.get(thread_of(conn)) {
            desk.names.give_back(conn);
        }
    }

    fn name(&self) -> Option<Conn> {
        self.desks.iter().min_by_key(|desk| desk.names.in_use())?.names.take()
    }
}
