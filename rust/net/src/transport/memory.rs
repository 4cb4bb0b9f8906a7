//! Connections in memory, for tests: the same reactor, stepped, without a socket.
//!
//! Readiness is reported as the system does it, by edges, so that a reactor that forgets one hangs here too.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Readiness, Stream, Transport, Unpark};
use crate::{Conn, DialStage};

/// Octets that a peer lets us send before it has received them.
const WINDOW: usize = 256 * 1024;

/// The first port that is given to those who ask for any.
const FIRST_PORT: u16 = 49152;

#[derive(Default)]
struct Listening {
    token: Option<Conn>,
    is_closed: bool,
    backlog: VecDeque<(MemoryStream, SocketAddr)>,
}

/// Where a listener is bound, and what has come for it.
type Bound = (SocketAddr, Arc<Mutex<Listening>>);

/// What all connections of a net have in common.
#[derive(Default)]
pub(crate) struct MemoryNetwork {
    ready: Mutex<Vec<Readiness>>,
    listening: Mutex<HashMap<u32, Bound>>,
    dialled: Mutex<VecDeque<MemoryPeer>>,
}

impl MemoryNetwork {
    /// Begin to listen; port 0 asks for any.
    pub(crate) fn bind(
        &self,
        listener: u32,
        address: SocketAddr,
    ) -> io::Result<(MemoryListener, SocketAddr)> {
        let mut listening = self.listening.lock();
        if listening.values().any(|(bound, _)| *bound == address) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let port = if address.port() == 0 { FIRST_PORT + listening.len() as u16 } else { address.port() };
        let bound = SocketAddr::new(address.ip(), port);
        let shared = Arc::new(Mutex::new(Listening::default()));
        listening.insert(listener, (bound, Arc::clone(&shared)));
        Ok((MemoryListener(shared), bound))
    }

    pub(crate) fn unbind(&self, listener: u32) {
        self.listening.lock().remove(&listener);
    }

    /// Connect to a listener; to one that is not there gives a connection that is closed.
    pub(crate) fn connect_to(self: &Arc<Self>, listener: u32, peer: SocketAddr) -> MemoryPeer {
        let (local, listening) = match self.listening.lock().get(&listener) {
            Some((local, listening)) => (*local, Some(Arc::clone(listening))),
            None => (SocketAddr::from(([0, 0, 0, 0], 0)), None),
        };
        let pipe = Pipe::new(self, local);
        let near = MemoryPeer { pipe: Arc::clone(&pipe), address: local };
        let Some(listening) = listening else {
            pipe.state.lock().is_dropped = true;
            return near;
        };
        let mut listening = listening.lock();
        if listening.is_closed {
            pipe.state.lock().is_dropped = true;
            return near;
        }
        listening.backlog.push_back((MemoryStream(pipe), peer));
        if let Some(token) = listening.token {
            self.report(Readiness { token, readable: true, writable: false, hang_up: false, failed: false });
        }
        near
    }

    /// The far end of the connection that was dialled first.
    pub(crate) fn accept(&self) -> Option<MemoryPeer> {
        self.dialled.lock().pop_front()
    }

    fn report(&self, readiness: Readiness) {
        self.ready.lock().push(readiness);
    }
}

struct Pipe {
    network: Arc<MemoryNetwork>,
    local: SocketAddr,
    state: Mutex<PipeState>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the two ends")]
struct PipeState {
    token: Option<Conn>,
    /// From the peer, not yet read.
    inbound: VecDeque<u8>,
    /// To the peer, not yet received.
    outbound: Vec<u8>,
    window: usize,
    /// A write found no room, so room is worth a report.
    is_blocked: bool,
    peer_has_ended: bool,
    is_reset: bool,
    we_have_ended: bool,
    is_dropped: bool,
}

impl Pipe {
    fn new(network: &Arc<MemoryNetwork>, local: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            network: Arc::clone(network),
            local,
            state: Mutex::new(PipeState {
                token: None,
                inbound: VecDeque::new(),
                outbound: Vec::new(),
                window: WINDOW,
                is_blocked: false,
                peer_has_ended: false,
                is_reset: false,
                we_have_ended: false,
                is_dropped: false,
            }),
        })
    }

    /// Change the state and report how it stands, as epoll reports all that is true when one thing becomes true.
    fn change(&self, change: impl FnOnce(&mut PipeState) -> bool) {
        let mut state = self.state.lock();
        if change(&mut state)
            && let Some(token) = state.token
        {
            self.network.report(state.readiness(token));
        }
    }
}

impl PipeState {
    fn readiness(&self, token: Conn) -> Readiness {
        Readiness {
            token,
            readable: !self.inbound.is_empty() || self.peer_has_ended || self.is_reset,
            writable: self.outbound.len() < self.window || self.is_reset,
            hang_up: self.peer_has_ended || self.is_reset,
            failed: self.is_reset,
        }
    }
}

/// The far end of a connection in memory.
pub struct MemoryPeer {
    pipe: Arc<Pipe>,
    address: SocketAddr,
}

impl MemoryPeer {
    /// Send octets.
    pub fn send(&self, octets: &[u8]) {
        self.pipe.change(|state| {
            state.inbound.extend(octets);
            !octets.is_empty()
        });
    }

    /// Take what has come since the last time.
    pub fn recv(&self) -> Vec<u8> {
        let mut received = Vec::new();
        self.pipe.change(|state| {
            received = std::mem::take(&mut state.outbound);
            std::mem::take(&mut state.is_blocked)
        });
        received
    }

    /// End the sending side, as a FIN does.
    pub fn shutdown_write(&self) {
        self.pipe.change(|state| {
            state.peer_has_ended = true;
            true
        });
    }

    /// Break the connection, as a RST does.
    pub fn reset(&self) {
        self.pipe.change(|state| {
            state.is_reset = true;
            true
        });
    }

    /// Whether nothing more will come.
    pub fn is_closed(&self) -> bool {
        let state = self.pipe.state.lock();
        state.we_have_ended || state.is_dropped || state.is_reset
    }

    /// Take at most so many octets between two calls of `recv`.
    pub fn limit_window(&self, octets: usize) {
        self.pipe.state.lock().window = octets;
    }

    /// The address that was dialled, or that of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

pub(crate) struct MemoryStream(Arc<Pipe>);

impl Stream for MemoryStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        if !state.inbound.is_empty() {
            return state.inbound.read(into);
        }
        if state.is_reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if state.peer_has_ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        if state.is_reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = state.window.saturating_sub(state.outbound.len());
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        state.is_blocked = room < offered;
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let octets = slices.iter().flat_map(|slice| slice.iter().copied()).take(room);
        state.outbound.extend(octets);
        Ok(room.min(offered))
    }

    fn shutdown_write(&mut self) {
        self.0.state.lock().we_have_ended = true;
    }

    fn connected(&mut self) -> io::Result<()> {
        if self.0.state.lock().is_reset { Err(ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local)
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.0.state.lock().is_dropped = true;
    }
}

pub(crate) struct MemoryListener(Arc<Mutex<Listening>>);

impl Drop for MemoryListener {
    fn drop(&mut self) {
        let mut listening = self.0.lock();
        listening.is_closed = true;
        listening.backlog.clear();
    }
}

pub(crate) struct NoUnpark;

impl Unpark for NoUnpark {
    fn unpark(&self) {}
}

pub(crate) struct Memory(pub(crate) Arc<MemoryNetwork>);

impl Transport for Memory {
    type Stream = MemoryStream;
    type Listener = MemoryListener;
    type Unpark = NoUnpark;

    fn wait(&mut self, _timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()> {
        ready.append(&mut self.0.ready.lock());
        Ok(())
    }

    fn register(&mut self, stream: &mut MemoryStream, token: Conn) -> io::Result<()> {
        stream.0.change(|state| {
            state.token = Some(token);
            true
        });
        Ok(())
    }

    fn listen(&mut self, listener: &mut MemoryListener, token: Conn) -> io::Result<()> {
        listener.0.lock().token = Some(token);
        self.0.report(Readiness { token, readable: true, writable: false, hang_up: false, failed: false });
        Ok(())
    }

    fn accept(&mut self, listener: &mut MemoryListener) -> io::Result<(MemoryStream, SocketAddr)> {
        listener.0.lock().backlog.pop_front().ok_or_else(|| ErrorKind::WouldBlock.into())
    }

    fn shed(&mut self, listener: &mut MemoryListener, _farewell: &[u8]) {
        listener.0.lock().backlog.pop_front();
    }

    fn connect(
        &mut self,
        address: SocketAddr,
        source: Option<IpAddr>,
    ) -> Result<MemoryStream, (DialStage, io::Error)> {
        let local = SocketAddr::new(source.unwrap_or_else(|| IpAddr::from([127, 0, 0, 1])), 0);
        let pipe = Pipe::new(&self.0, local);
        self.0.dialled.lock().push_back(MemoryPeer { pipe: Arc::clone(&pipe), address });
        Ok(MemoryStream(pipe))
    }
}
