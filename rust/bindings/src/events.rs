//! Events as tuples.

use std::net::SocketAddr;

use penstock_core::smtp::command::{Command, Malformed, Param};
use penstock_core::smtp::reply::Reply;
use penstock_core::smtp::sasl::Response;
use penstock_core::smtp::secret::Secret;
use penstock_engine::net::{CloseReason, ContentState, ContentStatus};
use penstock_engine::spool::CommitError;
use penstock_engine::{Engine, Event};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use pyo3::{intern, types::PyString};

use crate::records::answer;
use crate::tls;

pub(crate) fn event<'py>(py: Python<'py>, engine: &Engine, event: Event) -> PyResult<Bound<'py, PyAny>> {
    match event {
        Event::Committed { ticket, queue_id, lsn } => {
            (intern!(py, "committed"), ticket, queue_id.0, lsn).into_bound_py_any(py)
        }
        Event::CommitFailed { ticket, queue_id, error } => {
            let why = match error {
                CommitError::Full => intern!(py, "full"),
                CommitError::Poisoned => intern!(py, "poisoned"),
            };
            (intern!(py, "commit_failed"), ticket, queue_id.0, why).into_bound_py_any(py)
        }
        Event::Checkpoint { watermark } => (intern!(py, "checkpoint"), watermark).into_bound_py_any(py),
        Event::Answer { request, answer: payload } => {
            (intern!(py, "answer"), request, answer(py, engine, payload)?).into_bound_py_any(py)
        }
        Event::Dropped { request, result } => {
            let (ok, detail) = match result {
                Ok(()) => (true, String::new()),
                Err(text) => (false, text),
            };
            (intern!(py, "dropped"), request, ok, detail).into_bound_py_any(py)
        }
        Event::Damaged { queue_id } => (intern!(py, "damaged"), queue_id.0).into_bound_py_any(py),
        Event::Poisoned { errno, text } => (intern!(py, "poisoned"), errno, text).into_bound_py_any(py),
        Event::Closed { conn, reason, draft } => {
            (intern!(py, "closed"), conn, close_reason(py, reason), draft).into_bound_py_any(py)
        }
        Event::ClientClosed { conn, reason, replies_seen, content } => {
            let content = match content {
                ContentState::None => intern!(py, "none"),
                ContentState::Partial => intern!(py, "partial"),
                ContentState::Terminated => intern!(py, "terminated"),
            };
            (intern!(py, "client_closed"), conn, close_reason(py, reason), replies_seen, content)
                .into_bound_py_any(py)
        }
        Event::Connected { conn, turn, local } => {
            (intern!(py, "connected"), conn, turn, local.ip().to_string()).into_bound_py_any(py)
        }
        Event::DialFailed { conn, stage, errno, text } => {
            (intern!(py, "dial_failed"), conn, stage.as_str(), errno, text).into_bound_py_any(py)
        }
        Event::Replies { conn, turn, first, replies } => {
            let replies = replies.into_iter().map(|r| reply(py, r)).collect::<PyResult<Vec<_>>>()?;
            (intern!(py, "replies"), conn, turn, first, PyList::new(py, replies)?).into_bound_py_any(py)
        }
        Event::Opened { conn, turn, listener, peer, local, proxy } => {
            let ((ip, port), (local_ip, local_port)) = (told(peer), told(local));
            let proxy = proxy.map(|proxy| told(proxy).0);
            (intern!(py, "opened"), conn, turn, listener, ip, port, local_ip, local_port, proxy)
                .into_bound_py_any(py)
        }
        Event::ProxyRefused { listener, peer, refusal } => {
            let (ip, port) = told(peer);
            (intern!(py, "proxy_refused"), listener, ip, port, refusal.as_str()).into_bound_py_any(py)
        }
        Event::Commands { conn, turn, items, answered, early, eof } => {
            let items = items.into_iter().map(|i| item(py, i)).collect::<PyResult<Vec<_>>>()?;
            (intern!(py, "commands"), conn, turn, PyList::new(py, items)?, early, eof, answered)
                .into_bound_py_any(py)
        }
        Event::TlsUp { conn, turn, facts } => {
            let client = facts.client_certificate.as_ref().map(|one| tls::client(py, one)).transpose()?;
            let version = facts.version.as_str();
            (intern!(py, "tls_up"), conn, turn, version, facts.cipher, facts.sni, client, facts.is_resumed)
                .into_bound_py_any(py)
        }
        Event::AuthLine { conn, turn, response, early } => {
            let (what, octets) = match &response {
                Response::Octets(secret) => ("response", self::secret(py, secret)),
                Response::Cancel => ("cancel", PyBytes::new(py, b"")),
                Response::Malformed(kind) => (kind.as_str(), PyBytes::new(py, b"")),
            };
            (intern!(py, "auth_line"), conn, turn, what, octets, early).into_bound_py_any(py)
        }
        Event::Content { conn, turn, draft, status, flags, changes, size, facts } => (
            intern!(py, "content"),
            conn,
            turn,
            draft,
            content_status(py, status),
            flags.0,
            size,
            facts.received,
            facts.message_id,
            facts.subject,
            facts.from,
            (facts.size, facts.has_date, facts.has_message_id, changes.0),
        )
            .into_bound_py_any(py),
    }
}

fn content_status(py: Python<'_>, status: ContentStatus) -> &Bound<'_, PyString> {
    match status {
        ContentStatus::Complete => intern!(py, "complete"),
        ContentStatus::TooLarge => intern!(py, "too_large"),
        ContentStatus::Nul => intern!(py, "nul"),
        ContentStatus::BadLineEnding => intern!(py, "bad_line_ending"),
        ContentStatus::Starved => intern!(py, "starved"),
    }
}

/// An address and a port; one of IPv4 as such, however the socket has it.
fn told(address: SocketAddr) -> (String, u16) {
    (address.ip().to_canonical().to_string(), address.port())
}

fn close_reason(py: Python<'_>, reason: CloseReason) -> &Bound<'_, PyString> {
    match reason {
        CloseReason::Peer => intern!(py, "peer"),
        CloseReason::Reset => intern!(py, "reset"),
        CloseReason::Idle => intern!(py, "idle"),
        CloseReason::Total => intern!(py, "total"),
        CloseReason::MinRate => intern!(py, "min_rate"),
        CloseReason::Local => intern!(py, "local"),
        CloseReason::Held => intern!(py, "held"),
        CloseReason::Error => intern!(py, "error"),
        CloseReason::Panic => intern!(py, "panic"),
        CloseReason::Refused => intern!(py, "refused"),
        CloseReason::Protocol => intern!(py, "protocol"),
        CloseReason::Tls => intern!(py, "tls"),
    }
}

fn reply(py: Python<'_>, reply: Reply) -> PyResult<Bound<'_, PyAny>> {
    (reply.code, reply.enhanced, PyTuple::new(py, reply.lines)?).into_bound_py_any(py)
}

fn params(py: Python<'_>, params: Vec<Param>) -> PyResult<Bound<'_, PyTuple>> {
    PyTuple::new(py, params.into_iter().map(|p| (p.key, p.value)))
}

/// The one copy of a secret that is made for Python; ours is overwritten when it is dropped.
fn secret<'py>(py: Python<'py>, secret: &Secret) -> Bound<'py, PyBytes> {
    PyBytes::new(py, secret.expose())
}

fn item(py: Python<'_>, item: Result<Command, Malformed>) -> PyResult<Bound<'_, PyAny>> {
    let command = match item {
        Ok(command) => command,
        Err(malformed) => {
            let verb = malformed.verb.map_or("", |verb| verb.as_str());
            return (intern!(py, "malformed"), malformed.kind.as_str(), malformed.offset, verb)
                .into_bound_py_any(py);
        }
    };
    match command {
        Command::Ehlo { domain } => (intern!(py, "EHLO"), domain).into_bound_py_any(py),
        Command::Lhlo { domain } => (intern!(py, "LHLO"), domain).into_bound_py_any(py),
        Command::Helo { domain } => (intern!(py, "HELO"), domain).into_bound_py_any(py),
        Command::Mail { path, params: p } => {
            (intern!(py, "MAIL"), path.address, path.domain, params(py, p)?).into_bound_py_any(py)
        }
        Command::Rcpt { path, params: p } => {
            (intern!(py, "RCPT"), path.address, path.domain, params(py, p)?).into_bound_py_any(py)
        }
        Command::Data => (intern!(py, "DATA"),).into_bound_py_any(py),
        Command::Rset => (intern!(py, "RSET"),).into_bound_py_any(py),
        Command::Noop => (intern!(py, "NOOP"),).into_bound_py_any(py),
        Command::Vrfy { arg } => (intern!(py, "VRFY"), arg).into_bound_py_any(py),
        Command::Expn { arg } => (intern!(py, "EXPN"), arg).into_bound_py_any(py),
        Command::Help { arg } => (intern!(py, "HELP"), arg).into_bound_py_any(py),
        Command::Quit => (intern!(py, "QUIT"),).into_bound_py_any(py),
        Command::StartTls => (intern!(py, "STARTTLS"),).into_bound_py_any(py),
        Command::Auth { mechanism, initial } => {
            let initial = initial.as_ref().map(|initial| secret(py, initial));
            (intern!(py, "AUTH"), mechanism, initial).into_bound_py_any(py)
        }
        Command::Bdat { size, is_last } => (intern!(py, "BDAT"), size, is_last).into_bound_py_any(py),
        Command::Xclient { attributes } => {
            (intern!(py, "XCLIENT"), params(py, attributes)?).into_bound_py_any(py)
        }
        Command::Xforward { attributes } => {
            (intern!(py, "XFORWARD"), params(py, attributes)?).into_bound_py_any(py)
        }
        Command::Unknown { verb } => (intern!(py, "unknown"), verb).into_bound_py_any(py),
    }
}
