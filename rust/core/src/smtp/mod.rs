//! SMTP as octets (RFC 5321): framing, grammar, content, replies.

pub mod changes;
pub mod chunk;
pub mod client_wire;
pub mod command;
pub mod content;
mod cursor;
pub mod framing;
pub mod limits;
pub mod path;
pub mod reply;
pub mod sasl;
pub mod secret;
pub mod server_wire;
