//! The pure ring of Penstock: what octets mean, and the traits that join those who move them.
//!
//! Nothing here opens a file or a socket, reads a clock, or knows Python. Every parser is a push or pull machine over
//! bytes that its caller owns (sans-IO), accepts its input cut at any octet with the same result, bounds what it keeps,
//! and never panics. It says what a peer sent, never what the peer is to be told: that is decided in Python.
//!
//! - [`smtp`]: framing, commands, paths, content, replies (RFC 5321), with their limits.
//! - [`message`]: the header section of a content.
//! - [`flow`]: how content passes between the network and the spool without either knowing the other.
//! - [`queue_id`]: the name of a message.

#![forbid(unsafe_code)]

pub mod flow;
pub mod message;
pub mod queue_id;
pub mod smtp;
mod text;

#[cfg(test)]
mod pieces;
