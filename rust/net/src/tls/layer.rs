//! TLS between a link and its socket.
//!
//! Octets from the socket go through the thread's cipher buffer into the library, and what they say into the thread's
//! read buffer, so that an idle connection owns neither. What is to be sent is sealed in records of up to 16 KiB, at
//! most [`AHEAD_OCTETS`] ahead of the socket.
//!
//! A fault is for ever: what was read and not handed out is forgotten, nothing is read any more, and what may still be
//! sent is the alert. After the peer's close_notify nothing is read either (RFC 8446 6.1).

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use penstock_core::certificate::CertificateFacts;
use rustls::{Connection, HandshakeKind, ServerConfig, ServerConnection};
use sha2::{Digest, Sha256};

use super::{ClientCertificate, TlsFacts, TlsVersion};
use crate::link::{Edge, Raw};
use crate::transport::Stream;

/// Octets that are sealed and not yet taken by the socket.
pub(crate) const AHEAD_OCTETS: usize = 64 * 1024;

/// Octets that may come from the socket without one of content in them; a record has less than 17 KiB.
const BARREN_OCTETS: usize = 64 * 1024;

/// What reading through TLS brought.
pub(crate) enum Opened {
    /// So many octets at the beginning of the caller's buffer.
    Data(usize),
    /// Nothing now.
    Blocked,
    /// The peer has ended its side; whether it said so (close_notify) makes no difference to what was read before.
    End,
    /// The socket is broken.
    Failed,
    /// The peer broke TLS.
    Broken,
}

/// How far a handshake has come.
pub(crate) enum Shaken {
    /// It is finished.
    Done,
    /// It goes on; there may be more to read.
    More,
    /// Nothing now.
    Blocked,
    /// The peer has left.
    End,
    /// The socket is broken.
    Failed,
    /// The peer broke TLS, or wants what we do not have.
    Broken,
}

pub(crate) struct TlsLayer {
    connection: Connection,
    /// From the socket and not looked at, since there was no room for what it says.
    unread: Vec<u8>,
    is_broken: bool,
    /// Its close_notify has come.
    peer_has_closed: bool,
    has_said_goodbye: bool,
    /// What the last read took from the socket.
    cost: usize,
}

impl TlsLayer {
    /// The server's end; nothing is sent before the client speaks.
    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut connection = Connection::from(ServerConnection::new(config)?);
        connection.set_buffer_limit(Some(AHEAD_OCTETS));
        Ok(Self {
            connection,
            unread: Vec::new(),
            is_broken: false,
            peer_has_closed: false,
            has_said_goodbye: false,
            cost: 0,
        })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether sealed octets wait for the socket.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Octets that the last read took from the socket.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Whether a read brings something without asking the socket.
    pub(crate) fn has_unread(&self) -> bool {
        let has_content = !self.is_handshaking() && !self.connection.wants_read();
        self.is_broken || self.peer_has_closed || has_content || !self.unread.is_empty()
    }

    /// Go on with the handshake by what one read of the socket brings.
    pub(crate) fn shake(&mut self, stream: &mut impl Stream, cipher: &mut [u8], socket: &mut Edge) -> Shaken {
        if self.is_broken {
            return Shaken::Broken;
        }
        match socket.read(stream, cipher) {
            Raw::Data(octets) => {
                self.cost = octets;
                let mut input = cipher.get(..octets).unwrap_or_default();
                while self.is_handshaking() && !input.is_empty() && self.feed(&mut input) {}
                // The client may have gone on without waiting for us.
                self.unread = input.to_vec();
                if self.is_broken {
                    Shaken::Broken
                } else if self.is_handshaking() {
                    Shaken::More
                } else {
                    Shaken::Done
                }
            }
            Raw::Blocked => Shaken::Blocked,
            Raw::End => Shaken::End,
            Raw::Failed => Shaken::Failed,
        }
    }

    /// Read into `buffer`, by way of `cipher`.
    pub(crate) fn read(
        &mut self,
        stream: &mut impl Stream,
        cipher: &mut [u8],
        buffer: &mut [u8],
        socket: &mut Edge,
    ) -> Opened {
        self.cost = 0;
        let mut taken = self.take(buffer);
        if taken == 0 && !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            taken = self.open(&unread, buffer);
        }
        while taken == 0 && !self.is_broken {
            if self.peer_has_closed {
                return Opened::End;
            }
            if self.cost >= BARREN_OCTETS {
                self.is_broken = true;
                break;
            }
            match socket.read(stream, cipher) {
                Raw::Data(octets) => {
                    self.cost += octets;
                    taken = self.open(cipher.get(..octets).unwrap_or_default(), buffer);
                }
                Raw::Blocked => return Opened::Blocked,
                Raw::End => return Opened::End,
                Raw::Failed => return Opened::Failed,
            }
        }
        if self.is_broken { Opened::Broken } else { Opened::Data(taken) }
    }

    /// Look at octets from the socket; return how many octets of content are in `buffer`.
    fn open(&mut self, mut input: &[u8], buffer: &mut [u8]) -> usize {
        let mut taken = 0;
        // After a close_notify what comes is of no interest.
        while !input.is_empty() && !self.peer_has_closed {
            if !self.feed(&mut input) {
                return 0;
            }
            taken += self.take(buffer.get_mut(taken..).unwrap_or_default());
            if taken == buffer.len() {
                self.unread = input.to_vec();
                break;
            }
        }
        taken
    }

    /// Give the library some of what has come; false if that breaks the rules.
    fn feed(&mut self, input: &mut &[u8]) -> bool {
        let state =
            self.connection.read_tls(input).ok().and_then(|_| self.connection.process_new_packets().ok());
        match state {
            Some(state) => self.peer_has_closed |= state.peer_has_closed(),
            None => self.is_broken = true,
        }
        !self.is_broken
    }

    /// Take content that is open.
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let mut taken = 0;
        while let Some(room) = buffer.get_mut(taken..).filter(|room| !room.is_empty()) {
            match self.connection.reader().read(room) {
                Ok(octets) if octets > 0 => taken += octets,
                _ => break,
            }
        }
        taken
    }

    /// Seal what may go; return how many octets were taken.
    pub(crate) fn seal(&mut self, slices: &[IoSlice<'_>]) -> usize {
        // It takes less than all only if the limit is reached; it cannot fail otherwise.
        self.connection.writer().write_vectored(slices).unwrap_or_default()
    }

    /// Send what is sealed; return how many octets the socket has taken, and whether it takes more.
    pub(crate) fn send(&mut self, stream: &mut impl Stream) -> io::Result<(usize, bool)> {
        let mut sent = 0;
        while self.connection.wants_write() {
            let mut socket = Socket { stream, is_full: false };
            match self.connection.write_tls(&mut socket) {
                Ok(0) => return Ok((sent, false)),
                Ok(octets) => {
                    sent += octets;
                    if socket.is_full {
                        return Ok((sent, false));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok((sent, false)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((sent, true))
    }

    /// Say that nothing more will come, once; return whether that has to be sent.
    pub(crate) fn say_goodbye(&mut self) -> bool {
        if !std::mem::replace(&mut self.has_said_goodbye, true) && !self.is_broken && !self.is_handshaking() {
            self.connection.send_close_notify();
        }
        self.connection.wants_write()
    }

    /// What the handshake has come to.
    pub(crate) fn facts(&self) -> TlsFacts {
        let cipher = self.connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        let client = self.connection.peer_certificates().and_then(<[_]>::first);
        let sni = match &self.connection {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        };
        TlsFacts {
            version: TlsVersion::negotiated(self.connection.protocol_version()),
            cipher: cipher.unwrap_or_default().replacen("TLS13_", "TLS_", 1),
            sni,
            client_certificate: client.and_then(|der| {
                let facts = CertificateFacts::read(der)?;
                Some(ClientCertificate { facts, fingerprint: Sha256::digest(der).into() })
            }),
            is_resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// A socket as the library writes to it.
struct Socket<'a, S> {
    stream: &'a mut S,
    /// It took less than it was offered: it will say when there is room again.
    is_full: bool,
}

impl<S: Stream> Write for Socket<'_, S> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(octets)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let taken = self.stream.write(slices)?;
        self.is_full = taken < offered;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
