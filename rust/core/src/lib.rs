//! The pure ring of Penstock: what octets mean, and the traits that join those who move them.
//!
//! Nothing here opens a file or a socket, reads a clock, or knows Python. Every parser is a push or pull machine over
//! bytes that its caller owns (sans-IO), accepts its input cut at any octet with the same result, bounds what it keeps,
//! and never panics. It says what a peer sent, never what the peer is to be told: that is decided in Python.
//!
//! - [`smtp`]: framing, commands, paths, content, replies (RFC 5321), with their limits.
//! - [`message`]: the header section of a content.
//! - [`flow`]: how content passes between the network and the spool without either knowing the other.
//! - [`proxy`]: who is behind a proxy (the PROXY protocol).
//! - [`certificate`]: what an X.509 certificate says of itself.
//! - [`queue_id`]: the name of a message.
//!
//! A connection's octets go through one buffer, from which whoever has the turn pulls what it is due:
//!
//! ```
//! use penstock_core::smtp::command::{Command, parse_command};
//! use penstock_core::smtp::content::ContentReader;
//! use penstock_core::smtp::framing::LineBuffer;
//! use penstock_core::smtp::limits::COMMAND_LINE_GROWN_MAX;
//!
//! let mut buffer = LineBuffer::new(COMMAND_LINE_GROWN_MAX);
//! buffer.push(b"DATA\r\nSubject: hello\r\n\r\n..\r\n.\r\nQUIT\r\n");
//! assert_eq!(buffer.next_line().map(|line| line.and_then(parse_command)), Some(Ok(Command::Data)));
//!
//! // The reply was 354, so what follows is content; after any other it would be commands.
//! let mut reader = ContentReader::new();
//! let step = reader.push(buffer.rest());
//! assert_eq!(&buffer.rest()[..step.content], b"Subject: hello\r\n\r\n..\r\n");
//! assert!(step.end);
//! buffer.consume(step.consumed);
//! assert_eq!(buffer.next_line().map(|line| line.and_then(parse_command)), Some(Ok(Command::Quit)));
//! ```

#![forbid(unsafe_code)]

pub mod certificate;
pub mod flow;
pub mod message;
pub mod proxy;
pub mod queue_id;
pub mod smtp;
mod text;

#[cfg(test)]
mod pieces;
