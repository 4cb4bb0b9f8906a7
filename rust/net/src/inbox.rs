//! The way to a reactor's thread: one list under one lock, and one wake-up for all that is put into it while the
//! thread sleeps.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use parking_lot::Mutex;
use penstock_core::flow::Wake;

use crate::transport::{Transport, Unpark};
use crate::{ClientLimits, Conn, NetAction, Proxies};

/// What a reactor is to do.
pub(crate) enum Order<T: Transport> {
    /// What the caller has decided.
    Action(NetAction),
    /// The spool has spoken.
    Done { conn: Conn, turn: u32, ok: bool },
    /// A sink, source or gate may be ready.
    Wake { conn: Conn },
    /// Make a connection.
    Dial { conn: Conn, address: SocketAddr, source: Option<IpAddr>, limits: Arc<ClientLimits> },
    /// Take over a connection that has been accepted; a proxy's if its header may take some time.
    Adopt { conn: Conn, stream: T::Stream, listener: u32, peer: SocketAddr, header_ms: Option<u64> },
    /// Accept from a listener, and say whether that can be done.
    Listen { listener: u32, socket: T::Listener, proxies: Proxies, answer: SyncSender<io::Result<()>> },
    /// Stop accepting, and say when that is done.
    Unlisten { listener: u32, answer: SyncSender<io::Result<()>> },
    /// End.
    Stop,
}

struct State<T: Transport> {
    orders: Vec<Order<T>>,
    is_parked: bool,
}

pub(crate) struct Inbox<T: Transport> {
    state: Mutex<State<T>>,
    unpark: T::Unpark,
}

impl<T: Transport> Inbox<T> {
    pub(crate) fn new(unpark: T::Unpark) -> Self {
        Self { state: Mutex::new(State { orders: Vec::new(), is_parked: false }), unpark }
    }

    pub(crate) fn put(&self, orders: impl IntoIterator<Item = Order<T>>) {
        let mut state = self.state.lock();
        state.orders.extend(orders);
        let was_parked = std::mem::take(&mut state.is_parked);
        drop(state);
        if was_parked {
            self.unpark.unpark();
        }
    }

    /// Announce that the thread goes to sleep; false if it may not, because something is here.
    pub(crate) fn park(&self) -> bool {
        let mut state = self.state.lock();
        state.is_parked = state.orders.is_empty();
        state.is_parked
    }

    /// Exchange what is here for an empty list.
    pub(crate) fn take(&self, orders: &mut Vec<Order<T>>) {
        let mut state = self.state.lock();
        state.is_parked = false;
        std::mem::swap(&mut state.orders, orders);
    }
}

impl<T: Transport> Wake for Inbox<T> {
    fn wake(&self, token: u64) {
        self.put([Order::Wake { conn: token }]);
    }
}
