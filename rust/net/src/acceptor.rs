//! Listeners of a thread, and how many connections are taken from them.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;

use crate::conn::own_token;
use crate::transport::{Stream, Transport};
use crate::{Conn, Proxies};

/// Connections accepted in a pass.
const ACCEPTS_MAX: usize = 64;

/// How long nothing is accepted after the system had no descriptor or no memory for it.
const PAUSE_MS: u64 = 1_000;

const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;

struct Listening<L> {
    listener: u32,
    socket: L,
    proxies: Proxies,
    is_ready: bool,
}

pub(crate) struct Acceptor<T: Transport> {
    thread: usize,
    listening: Vec<Listening<T::Listener>>,
    /// Which listener is asked first; it changes, so that none starves.
    first: usize,
    paused_until_ms: u64,
}

impl<T: Transport> Acceptor<T> {
    pub(crate) fn new(thread: usize) -> Self {
        Self { thread, listening: Vec::new(), first: 0, paused_until_ms: 0 }
    }

    /// Accept from a listener from now on, instead of what had its number before.
    pub(crate) fn listen(
        &mut self,
        transport: &mut T,
        listener: u32,
        mut socket: T::Listener,
        proxies: Proxies,
    ) -> io::Result<()> {
        self.unlisten(listener);
        transport.listen(&mut socket, own_token(listener, self.thread))?;
        self.listening.push(Listening { listener, socket, proxies, is_ready: false });
        Ok(())
    }

    pub(crate) fn unlisten(&mut self, listener: u32) {
        self.listening.retain(|listening| listening.listener != listener);
    }

    pub(crate) fn clear(&mut self) {
        self.listening.clear();
    }

    /// Take note that there is something to accept; false if the token is not a listener's.
    pub(crate) fn note(&mut self, token: Conn) -> bool {
        let thread = self.thread;
        let known =
            self.listening.iter_mut().find(|listening| own_token(listening.listener, thread) == token);
        known.map(|listening| listening.is_ready = true).is_some()
    }

    /// When there is something to be accepted, if there is.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.listening.iter().any(|listening| listening.is_ready).then_some(self.paused_until_ms)
    }

    /// Accept what a pass allows. `admit` is told how long the header of a proxy may take, if it is one; it gives back a
    /// connection that is to be turned away with `farewell`. Return how many were.
    pub(crate) fn accept(
        &mut self,
        transport: &mut T,
        now_ms: u64,
        farewell: &[u8],
        mut admit: impl FnMut(T::Stream, u32, SocketAddr, Option<u64>) -> Result<(), T::Stream>,
    ) -> u64 {
        let mut refused = 0;
        if now_ms < self.paused_until_ms || self.listening.is_empty() {
            return refused;
        }
        self.first = (self.first + 1) % self.listening.len();
        let mut left = ACCEPTS_MAX;
        let (before, from) = self.listening.split_at_mut(self.first);
        for listening in from.iter_mut().chain(before) {
            while listening.is_ready && left > 0 {
                left -= 1;
                match transport.accept(&mut listening.socket) {
                    Ok((stream, peer)) => {
                        let header_ms = listening.proxies.header_ms(peer.ip());
                        if let Err(mut stream) = admit(stream, listening.listener, peer, header_ms) {
                            // Whoever does not get it finds the connection closed.
                            let _ = stream.write(&[IoSlice::new(farewell)]);
                            refused += 1;
                        }
                    }
                    Err(error) => match error.raw_os_error() {
                        Some(EMFILE | ENFILE | ENOMEM | ENOBUFS) => {
                            transport.shed(&mut listening.socket, farewell);
                            self.paused_until_ms = now_ms + PAUSE_MS;
                            return refused + 1;
                        }
                        _ if error.kind() == ErrorKind::WouldBlock => listening.is_ready = false,
                        // That peer has gone already.
                        _ => {}
                    },
                }
            }
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::DialStage;
    use crate::transport::Readiness;
    use crate::transport::memory::NoUnpark;

    /// A system that answers `accept` as it is told.
    #[derive(Default)]
    struct Fake {
        answers: VecDeque<Result<(), i32>>,
        shed: usize,
    }

    struct Nothing;

    impl Stream for Nothing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }

        fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            Ok(slices.iter().map(|slice| slice.len()).sum())
        }

        fn shutdown_write(&mut self) {}

        fn connected(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(nowhere())
        }
    }

    fn nowhere() -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }

    impl Transport for Fake {
        type Stream = Nothing;
        type Listener = u32;
        type Unpark = NoUnpark;

        fn wait(&mut self, _: Option<Duration>, _: &mut Vec<Readiness>) -> io::Result<()> {
            Ok(())
        }

        fn register(&mut self, _: &mut Nothing, _: Conn) -> io::Result<()> {
            Ok(())
        }

        fn listen(&mut self, _: &mut u32, _: Conn) -> io::Result<()> {
            Ok(())
        }

        fn accept(&mut self, _: &mut u32) -> io::Result<(Nothing, SocketAddr)> {
            match self.answers.pop_front() {
                Some(Ok(())) => Ok((Nothing, nowhere())),
                Some(Err(errno)) => Err(io::Error::from_raw_os_error(errno)),
                None => Err(ErrorKind::WouldBlock.into()),
            }
        }

        fn shed(&mut self, _: &mut u32, _: &[u8]) {
            self.shed += 1;
        }

        fn connect(&mut self, _: SocketAddr, _: Option<IpAddr>) -> Result<Nothing, (DialStage, io::Error)> {
            Ok(Nothing)
        }
    }

    fn listening(fake: &mut Fake, listeners: &[u32]) -> Acceptor<Fake> {
        let mut acceptor = Acceptor::new(0);
        for &listener in listeners {
            acceptor.listen(fake, listener, listener, Proxies::default()).expect("the fake registers all");
            assert!(acceptor.note(own_token(listener, 0)));
        }
        acceptor
    }

    #[test]
    fn without_descriptors_one_peer_is_told_and_nobody_is_accepted_for_a_second() {
        const ECONNABORTED: i32 = 103;
        let mut fake = Fake { answers: [Ok(()), Err(ECONNABORTED), Err(EMFILE), Ok(())].into(), shed: 0 };
        let mut acceptor = listening(&mut fake, &[1]);
        let mut admitted = 0;
        for (now_ms, refused, expected) in [(5_000, 1, 1), (5_999, 0, 1), (6_000, 0, 2)] {
            let turned_away = acceptor.accept(&mut fake, now_ms, b"421\r\n", |_, listener, _, _| {
                assert_eq!(listener, 1);
                admitted += 1;
                Ok(())
            });
            assert_eq!((turned_away, admitted, fake.shed), (refused, expected, 1));
            assert_eq!(acceptor.next_ms(), (now_ms < 6_000).then_some(6_000));
        }
    }

    #[test]
    fn a_listener_with_many_peers_does_not_starve_the_others() {
        let mut fake = Fake { answers: vec![Ok(()); 1000].into(), shed: 0 };
        let mut acceptor = listening(&mut fake, &[1, 2]);
        let mut passes = Vec::new();
        for _ in 0..4 {
            let mut accepted = Vec::new();
            let refused = acceptor.accept(&mut fake, 0, b"", |stream, listener, _, _| {
                accepted.push(listener);
                if accepted.len() == 1 { Err(stream) } else { Ok(()) }
            });
            assert_eq!(refused, 1);
            assert_eq!(accepted.len(), ACCEPTS_MAX);
            passes.push(accepted.first().copied());
        }
        assert_eq!(passes, [Some(2), Some(1), Some(2), Some(1)]);
    }

    #[test]
    fn only_its_own_tokens_are_a_listeners() {
        let mut fake = Fake::default();
        let mut acceptor = listening(&mut fake, &[1]);
        assert!(!acceptor.note(own_token(2, 0)) && !acceptor.note(own_token(1, 1)) && !acceptor.note(0));
        acceptor.unlisten(1);
        assert!(!acceptor.note(own_token(1, 0)));
        assert_eq!(acceptor.next_ms(), None);
    }
}
