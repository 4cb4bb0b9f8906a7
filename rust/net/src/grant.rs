//! Answers that the caller gives ahead of the commands.
//!
//! Most clients wait for the reply to MAIL, and again for the reply to DATA, and both replies are nearly always the same
//! ones. A caller that would give them whatever the command says in detail grants them with its last reply: net answers
//! by itself, and what it has answered is reported with the event that comes next. A grant is for the next command only.
//! It covers what is listed here and nothing else; whatever else comes is asked as if there were no grant.

use bytes::Bytes;
use penstock_core::smtp::command::{Command, Malformed, Param};

/// Digits of a SIZE (RFC 1870 4).
const SIZE_DIGITS_MAX: usize = 20;

/// Which answer is given ahead.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum Grant {
    /// None.
    #[default]
    None,
    /// MAIL with a valid path in US-ASCII, and no parameters but a SIZE within the limit and a BODY of 7BIT or 8BITMIME,
    /// each only where it is offered.
    Mail,
    /// DATA, if a draft can be had for its content.
    Data,
}

/// The answers that can be granted; fixed for a connection.
#[derive(Clone, Debug, Default)]
pub struct StandardReplies {
    /// The reply to MAIL.
    pub mail: Bytes,
    /// The 354.
    pub data: Bytes,
    /// The largest message (RFC 1870).
    pub limit_bytes: u64,
    /// Whether SIZE is offered, and may be said.
    pub takes_size: bool,
    /// Whether BODY is.
    pub takes_body: bool,
}

impl StandardReplies {
    /// Whether a MAIL with these parameters may be answered.
    pub(crate) fn covers(&self, params: &[Param]) -> bool {
        params.iter().all(|param| match (param.key.as_str(), &param.value) {
            ("SIZE", Some(_)) if self.takes_size => {
                declared(param).is_some_and(|size| size <= self.limit_bytes)
            }
            ("BODY", Some(body)) if self.takes_body => {
                body.eq_ignore_ascii_case("7BIT") || body.eq_ignore_ascii_case("8BITMIME")
            }
            _ => false,
        })
    }
}

/// The SIZE of the last MAIL among commands; zero if it has none, nothing if there is no MAIL.
pub(crate) fn size_hint(items: &[Result<Command, Malformed>]) -> Option<u64> {
    items.iter().rev().find_map(|item| match item {
        Ok(Command::Mail { params, .. }) => Some(params.iter().find_map(declared).unwrap_or(0)),
        _ => None,
    })
}

/// The number of a SIZE parameter.
fn declared(param: &Param) -> Option<u64> {
    let digits = param.value.as_ref().filter(|_| param.key == "SIZE")?;
    // Not what `parse` takes besides: a sign, and any number of zeros.
    let is_size = digits.len() <= SIZE_DIGITS_MAX && digits.bytes().all(|octet| octet.is_ascii_digit());
    if is_size { digits.parse().ok() } else { None }
}
