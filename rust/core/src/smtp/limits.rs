//! The limits of SMTP, each in octets unless its name says otherwise.
//!
//! Where RFC 5321 gives a minimum that everyone must accept we accept that, or more where senders are known to need it.

/// A command line that everyone must accept, CRLF included (RFC 5321 4.5.3.1.4).
pub const COMMAND_LINE_MAX: usize = 512;

/// The longest command line that is accepted, CRLF included.
///
/// Extensions let MAIL and RCPT grow beyond [`COMMAND_LINE_MAX`] (DSN alone by over 500, RFC 3461 5.4); nobody has use
/// for a line longer than this one.
pub const COMMAND_LINE_GROWN_MAX: usize = 2048;

/// A line of an authentication exchange, AUTH itself included, with its CRLF (RFC 4954 3, 4.5).
pub const AUTH_LINE_MAX: usize = 12_288;

/// The name of a SASL mechanism (RFC 4422 3.1).
pub const MECHANISM_MAX: usize = 20;

/// A line of content, CRLF included, stuffing dot excluded (RFC 5321 4.5.3.1.6).
pub const TEXT_LINE_MAX: usize = 1000;

/// A local-part (RFC 5321 4.5.3.1.1).
pub const LOCAL_PART_MAX: usize = 64;

/// A domain (RFC 5321 4.5.3.1.2).
pub const DOMAIN_MAX: usize = 255;

/// A label of a domain (RFC 1035 2.3.4).
pub const LABEL_MAX: usize = 63;

/// A path with its angle brackets (RFC 5321 4.5.3.1.3).
pub const PATH_MAX: usize = 256;

/// A reply line that we send, CRLF included (RFC 5321 4.5.3.1.5).
pub const REPLY_LINE_MAX: usize = 512;

/// A reply line that we accept, CRLF included; real servers exceed [`REPLY_LINE_MAX`] with long explanations.
pub const REPLY_LINE_ACCEPTED_MAX: usize = 2048;

/// A whole reply that we accept.
pub const REPLY_MAX: usize = 64 * 1024;

/// Lines of a reply that we accept.
pub const REPLY_LINES_MAX: usize = 256;

/// Text of a reply that is kept, in octets: one envelope can draw thousands of replies before anybody takes them.
///
/// A greeting with all that IANA lists is half as long.
pub const REPLY_TEXT_MAX: usize = 4 * 1024;

/// Parameters of one MAIL or RCPT command; all that IANA lists together are fewer.
pub const PARAMETERS_MAX: usize = 32;
