//! SMTP as octets (RFC 5321): framing, grammar, content, replies.

pub mod limits;
