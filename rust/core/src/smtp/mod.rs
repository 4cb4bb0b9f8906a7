//! SMTP as octets (RFC 5321): framing, grammar, content, replies.

pub mod command;
pub mod content;
mod cursor;
pub mod framing;
pub mod limits;
pub mod path;
pub mod reply;
