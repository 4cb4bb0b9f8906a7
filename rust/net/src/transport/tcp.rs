//! Sockets of the system, through epoll (edge-triggered).

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Readiness, Stream, Transport, Unpark};
use crate::{Conn, DialStage};

/// Changes taken from the system at a time.
const EVENTS_MAX: usize = 1024;

/// Connections that the system keeps for us until we accept them.
const BACKLOG: i32 = 1024;

/// Do not raise SIGPIPE when the peer is gone (Linux).
const MSG_NOSIGNAL: i32 = 0x4000;

/// The name of a connection fits a token, and no connection has this one.
const WAKE: Token = Token(usize::MAX);

pub(crate) struct Tcp {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    /// A descriptor to spare, so that a peer can be told that there is none.
    spare: Option<File>,
}

impl Tcp {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        Ok(Self { poll, events: Events::with_capacity(EVENTS_MAX), waker, spare: spare() })
    }

    pub(crate) fn unpark(&self) -> TcpUnpark {
        TcpUnpark(Arc::clone(&self.waker))
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Bind a listener of which nobody else has a share.
pub(crate) fn bind(address: SocketAddr) -> io::Result<(mio::net::TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // On Linux this allows to bind while old connections linger, not to share a port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    let bound = listener.local_addr()?;
    Ok((mio::net::TcpListener::from_std(listener), bound))
}

pub(crate) struct TcpUnpark(Arc<Waker>);

impl Unpark for TcpUnpark {
    fn unpark(&self) {
        // It can only fail when the thread and its epoll are gone.
        let _ = self.0.wake();
    }
}

pub(crate) struct TcpStream(mio::net::TcpStream);

impl Stream for TcpStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [one] => self.0.write(one),
            many => SockRef::from(&self.0).send_vectored_with_flags(many, MSG_NOSIGNAL),
        }
    }

    fn shutdown_write(&mut self) {
        // A peer that is gone needs no FIN.
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }

    fn connected(&mut self) -> io::Result<()> {
        match self.0.take_error()? {
            Some(error) => Err(error),
            None => self.0.peer_addr().map(drop),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Transport for Tcp {
    type Stream = TcpStream;
    type Listener = mio::net::TcpListener;
    type Unpark = TcpUnpark;

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        ready.extend(self.events.iter().filter(|event| event.token() != WAKE).map(|event| Readiness {
            token: event.token().0 as Conn,
            readable: event.is_readable(),
            writable: event.is_writable(),
            hang_up: event.is_read_closed(),
            failed: event.is_error() || event.is_write_closed(),
        }));
        Ok(())
    }

    fn register(&mut self, stream: &mut TcpStream, token: Conn) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream.0, Token(token as usize), interest)
    }

    fn listen(&mut self, listener: &mut Self::Listener, token: Conn) -> io::Result<()> {
        self.poll.registry().register(listener, Token(token as usize), Interest::READABLE)
    }

    fn accept(&mut self, listener: &mut Self::Listener) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = listener.accept()?;
        stream.set_nodelay(true)?;
        Ok((TcpStream(stream), peer))
    }

    fn shed(&mut self, listener: &mut Self::Listener, farewell: &[u8]) {
        self.spare = None;
        if let Ok((mut stream, _)) = listener.accept() {
            // Whoever does not get it finds the connection closed.
            let _ = stream.write(farewell);
        }
        self.spare = spare();
    }

    fn connect(
        &mut self,
        address: SocketAddr,
        source: Option<IpAddr>,
    ) -> Result<TcpStream, (DialStage, io::Error)> {
        let open = || {
            let socket =
                Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
            socket.set_tcp_nodelay(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|error| (DialStage::Socket, error))?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into()).map_err(|error| (DialStage::Bind, error))?;
        }
        match socket.connect(&address.into()) {
            Err(error) if !is_under_way(&error) => Err((DialStage::Connect, error)),
            _ => Ok(TcpStream(mio::net::TcpStream::from_std(socket.into()))),
        }
    }
}

/// EINPROGRESS has no kind of its own in stable Rust.
fn is_under_way(error: &io::Error) -> bool {
    const EINPROGRESS: i32 = 115;
    error.raw_os_error() == Some(EINPROGRESS)
}
