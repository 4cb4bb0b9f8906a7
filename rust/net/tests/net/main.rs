//! The wire engine as its caller and its peers see it: in memory with a clock that is turned by hand, and on loopback.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::missing_panics_doc)]

mod auth;
mod caller;
mod chunks;
mod client;
mod grants;
mod harness;
mod properties;
mod proxy;
mod sequences;
mod server;
mod server_limits;
mod smuggling;
mod sockets;
mod tls;
mod xclient;
