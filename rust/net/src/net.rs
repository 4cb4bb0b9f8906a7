//! The wire engine as its caller sees it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::client_conn::dial_failed;
use crate::hub::Hub;
use crate::inbox::Order;
use crate::reactor::Reactor;
use crate::transport::memory::{Memory, MemoryNetwork, MemoryPeer, NoUnpark};
use crate::transport::tcp::{self, Tcp};
use crate::{ClientLimits, Conn, DialStage, EventSink, NetAction, NetConfig, NetStatistics, Proxies};

/// Threads that the name of a connection can tell apart.
const THREADS_MAX: usize = 255;

/// The thread that accepts; it gives connections to all.
const ACCEPTOR: usize = 0;

/// How long a reactor may take to begin to listen, or to end it.
const ANSWER_MS: u64 = 10_000;

/// The name of the connection that could not be named.
const NO_CONN: Conn = Conn::MAX;

const EMFILE: i32 = 24;

/// Reactors, on threads of their own or stepped by hand.
///
/// All methods may be called from any thread. None waits for a peer, but for [`Net::stop`]; `listen` and
/// `stop_listening` wait for a reactor.
pub struct Net {
    engine: Engine,
}

enum Engine {
    Threads { hub: Arc<Hub<Tcp>>, threads: Arc<Mutex<Vec<JoinHandle<()>>>> },
    Inline { hub: Arc<Hub<Memory>>, reactor: Box<Mutex<Reactor<Memory>>>, network: Arc<MemoryNetwork> },
}

impl Net {
    /// Start the reactors, which tell `sink` what happens.
    ///
    /// # Errors
    /// A thread or a descriptor could not be had.
    pub fn start(config: NetConfig, sink: Arc<dyn EventSink>) -> io::Result<Self> {
        if config.inline { Ok(Self::inline(config, sink)) } else { Self::threads(config, sink) }
    }

    fn inline(config: NetConfig, sink: Arc<dyn EventSink>) -> Self {
        let network = Arc::new(MemoryNetwork::default());
        let hub = Arc::new(Hub::new(config, sink, [NoUnpark]));
        let inbox = Arc::clone(hub.inbox(ACCEPTOR).expect("invariant: the hub was made for one thread"));
        let transport = Memory(Arc::clone(&network));
        let reactor = Mutex::new(Reactor::new(Arc::clone(&hub), inbox, ACCEPTOR, transport, 0));
        Self { engine: Engine::Inline { hub, reactor: Box::new(reactor), network } }
    }

    fn threads(config: NetConfig, sink: Arc<dyn EventSink>) -> io::Result<Self> {
        let count = config.io_threads.clamp(1, THREADS_MAX);
        let transports: Vec<Tcp> = (0..count).map(|_| Tcp::new()).collect::<io::Result<_>>()?;
        let hub = Arc::new(Hub::new(config, sink, transports.iter().map(Tcp::unpark)));
        let threads = Arc::new(Mutex::new(Vec::new()));
        // From here on a failure stops the threads that there are.
        let net = Self { engine: Engine::Threads { hub: Arc::clone(&hub), threads: Arc::clone(&threads) } };
        for (thread, transport) in transports.into_iter().enumerate() {
            let inbox = Arc::clone(hub.inbox(thread).expect("invariant: the hub was made for these threads"));
            let reactor = Reactor::new(Arc::clone(&hub), inbox, thread, transport, 0);
            let named = std::thread::Builder::new().name(format!("net-{thread}"));
            threads.lock().push(named.spawn(move || reactor.run())?);
        }
        Ok(net)
    }

    /// Carry out what the caller has decided, in order for each connection.
    pub fn apply(&self, actions: Vec<NetAction>) {
        match &self.engine {
            Engine::Threads { hub, .. } => hub.apply(actions),
            Engine::Inline { hub, .. } => hub.apply(actions),
        }
    }

    /// Say for content which of the two replies of its `AwaitDurable` is true; this may come before that action. Each
    /// has its connection, the turn of its `Content` event, and whether it is durable.
    pub fn complete(&self, done: &[(Conn, u32, bool)]) {
        match &self.engine {
            Engine::Threads { hub, .. } => hub.complete(done),
            Engine::Inline { hub, .. } => hub.complete(done),
        }
    }

    /// Accept connections on an address; port 0 asks for any. Return what was bound.
    ///
    /// `listener` is the number by which `Opened` names it; what had it before is closed. `proxies` are the peers that
    /// have to say first whom they speak for.
    ///
    /// # Errors
    /// The address is in use, not ours, or forbidden. A port is never shared with another process.
    pub fn listen(&self, listener: u32, address: SocketAddr, proxies: Proxies) -> io::Result<SocketAddr> {
        let (answer, answered) = sync_channel(1);
        match &self.engine {
            Engine::Threads { hub, threads } => {
                if threads.lock().is_empty() {
                    return Err(ErrorKind::NotConnected.into());
                }
                let (socket, bound) = tcp::bind(address)?;
                hub.put(ACCEPTOR, Order::Listen { listener, socket, proxies, answer });
                wait_for(&answered).map(|()| bound)
            }
            Engine::Inline { hub, network, .. } => {
                let (socket, bound) = network.bind(listener, address)?;
                hub.put(ACCEPTOR, Order::Listen { listener, socket, proxies, answer });
                Ok(bound)
            }
        }
    }

    /// Accept no more connections for a listener; those that there are go on. On return its port can be had again.
    pub fn stop_listening(&self, listener: u32) {
        let (answer, answered) = sync_channel(1);
        match &self.engine {
            Engine::Threads { hub, threads } => {
                // An engine that is stopped has no listeners.
                if !threads.lock().is_empty() {
                    hub.put(ACCEPTOR, Order::Unlisten { listener, answer });
                    // If the reactor is stuck there is nothing else to be done, and the order stands.
                    let _ = wait_for(&answered);
                }
            }
            Engine::Inline { hub, network, .. } => {
                network.unbind(listener);
                hub.put(ACCEPTOR, Order::Unlisten { listener, answer });
            }
        }
    }

    /// Make a connection, from the address `source` if that matters. `Connected` or `DialFailed` follows.
    pub fn dial(&self, address: SocketAddr, source: Option<IpAddr>, limits: Arc<ClientLimits>) -> Conn {
        let (dialled, sink) = match &self.engine {
            Engine::Threads { hub, .. } => (hub.dial(address, source, limits), &hub.sink),
            Engine::Inline { hub, .. } => (hub.dial(address, source, limits), &hub.sink),
        };
        dialled.unwrap_or_else(|| {
            let error = io::Error::from_raw_os_error(EMFILE);
            sink.push(&mut vec![dial_failed(NO_CONN, DialStage::Socket, &error)]);
            NO_CONN
        })
    }

    /// Return what has been counted so far, by whole passes of the reactors.
    pub fn statistics(&self) -> NetStatistics {
        match &self.engine {
            Engine::Threads { hub, .. } => hub.counters.snapshot(),
            Engine::Inline { hub, .. } => hub.counters.snapshot(),
        }
    }

    /// End everything in an orderly way: accept no more, tell who is connected, send what waits, close. A commit that
    /// is waited for still has its reply. Nothing is reported after the return.
    ///
    /// Blocking: up to five seconds, for commits and for peers that do not go.
    pub fn stop(&self) {
        match &self.engine {
            Engine::Threads { hub, threads } => {
                let threads = std::mem::take(&mut *threads.lock());
                if threads.is_empty() {
                    return;
                }
                hub.put_all(|| Order::Stop);
                for thread in threads {
                    // One that has panicked has nothing left to close.
                    let _ = thread.join();
                }
            }
            Engine::Inline { hub, reactor, .. } => {
                hub.put_all(|| Order::Stop);
                let mut reactor = reactor.lock();
                reactor.settle_now();
                reactor.abort_all();
            }
        }
    }

    /// Inline mode: do all that can be done at this time (milliseconds, never less than before).
    pub fn step(&self, now_ms: u64) {
        debug_assert!(matches!(self.engine, Engine::Inline { .. }), "threads step themselves");
        if let Engine::Inline { reactor, .. } = &self.engine {
            reactor.lock().settle(now_ms);
        }
    }

    /// Inline mode: when [`Net::step`] has something to do without anybody saying so. It may turn out to be nothing.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        match &self.engine {
            Engine::Threads { .. } => None,
            Engine::Inline { reactor, .. } => reactor.lock().next_ms(),
        }
    }

    /// Inline mode: connect to a listener. Where nobody listens the connection is closed.
    pub fn memory_connect(&self, listener: u32, peer: SocketAddr) -> MemoryPeer {
        match &self.engine {
            Engine::Threads { .. } => Arc::new(MemoryNetwork::default()).connect_to(listener, peer),
            Engine::Inline { network, .. } => network.connect_to(listener, peer),
        }
    }

    /// Inline mode: return the far end of the connection that was dialled first and not returned yet.
    pub fn memory_accept(&self) -> Option<MemoryPeer> {
        match &self.engine {
            Engine::Threads { .. } => None,
            Engine::Inline { network, .. } => network.accept(),
        }
    }
}

/// Wait until a reactor has followed an order.
fn wait_for(answered: &Receiver<io::Result<()>>) -> io::Result<()> {
    answered
        .recv_timeout(Duration::from_millis(ANSWER_MS))
        .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop();
    }
}
