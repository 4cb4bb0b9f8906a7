//! The seam below a reactor: sockets and readiness, of the system or in memory.

pub(crate) mod memory;
pub(crate) mod tcp;

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::{Conn, DialStage};

/// What has changed on a socket since the last time (edge-triggered).
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, as the system reports them")]
pub(crate) struct Readiness {
    pub(crate) token: Conn,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has ended its side; what it sent before may still be unread.
    pub(crate) hang_up: bool,
    /// The connection is broken.
    pub(crate) failed: bool,
}

/// A connected socket, or one that is being connected.
pub(crate) trait Stream: Send + 'static {
    /// Read what is there; 0 is the end.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Send as much as the system takes.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Tell the peer that nothing more will come.
    fn shutdown_write(&mut self);
    /// Tell how connecting went.
    fn connected(&mut self) -> io::Result<()>;
    /// Our end.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Ends the sleep of [`Transport::wait`] from another thread.
pub(crate) trait Unpark: Send + Sync + 'static {
    fn unpark(&self);
}

/// What a thread has one of.
pub(crate) trait Transport: Send + 'static {
    type Stream: Stream;
    type Listener: Send + 'static;
    type Unpark: Unpark;

    /// Sleep until something changes or the time is over. Changes are appended.
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()>;
    /// Report changes of this stream from now on, once and for all.
    fn register(&mut self, stream: &mut Self::Stream, token: Conn) -> io::Result<()>;
    /// Report when there is something to accept.
    fn listen(&mut self, listener: &mut Self::Listener, token: Conn) -> io::Result<()>;
    /// Take the next connection.
    fn accept(&mut self, listener: &mut Self::Listener) -> io::Result<(Self::Stream, SocketAddr)>;
    /// After an `accept` that failed for want of descriptors: tell the next peer why nobody answers.
    fn shed(&mut self, listener: &mut Self::Listener, farewell: &[u8]);
    /// Begin to connect.
    fn connect(
        &mut self,
        address: SocketAddr,
        source: Option<IpAddr>,
    ) -> Result<Self::Stream, (DialStage, io::Error)>;
}
