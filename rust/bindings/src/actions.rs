//! Actions from tuples.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use penstock_core::queue_id::QueueId;
use penstock_engine::Action;
use penstock_engine::net::{FlightPart, Grant, NetAction, ServerLimits, ServerTls};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

fn field<'py, T>(tuple: &Bound<'py, PyTuple>, index: usize) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
    for<'a> <T as FromPyObject<'a, 'py>>::Error: Into<PyErr>,
{
    tuple.get_item(index)?.extract::<T>().map_err(Into::into)
}

/// Copies: replies are short, and a shared Python object would have to be given back under the lock.
fn octets(tuple: &Bound<'_, PyTuple>, index: usize) -> PyResult<Bytes> {
    Ok(Bytes::copy_from_slice(tuple.get_item(index)?.cast::<PyBytes>()?.as_bytes()))
}

/// A grant stands last, and only where there is one.
fn grant(tuple: &Bound<'_, PyTuple>, index: usize) -> PyResult<Grant> {
    if tuple.len() <= index {
        return Ok(Grant::None);
    }
    match &*tuple.get_item(index)?.cast::<PyString>()?.to_cow()? {
        "MAIL" => Ok(Grant::Mail),
        "DATA" => Ok(Grant::Data),
        other => Err(PyValueError::new_err(format!("no grant is called {other:?}"))),
    }
}

fn flight(tuple: &Bound<'_, PyTuple>, index: usize) -> PyResult<Vec<FlightPart>> {
    let list = tuple.get_item(index)?.cast_into::<PyList>()?;
    let mut parts = Vec::with_capacity(list.len());
    for item in list.iter() {
        let part = item.cast_into::<PyTuple>()?;
        parts.push(FlightPart {
            bytes: octets(&part, 0)?,
            replies: field(&part, 1)?,
            deadline_ms: field(&part, 2)?,
        });
    }
    Ok(parts)
}

/// What actions name by a number that it was registered under.
pub(crate) struct Registered<'a> {
    pub(crate) limits: &'a [Arc<ServerLimits>],
    pub(crate) tls: &'a [Arc<ServerTls>],
}

impl Registered<'_> {
    fn limits(&self, number: usize) -> PyResult<Arc<ServerLimits>> {
        let found = self.limits.get(number).cloned();
        found.ok_or_else(|| PyValueError::new_err(format!("no limits {number}")))
    }

    fn tls(&self, number: usize) -> PyResult<Arc<ServerTls>> {
        let found = self.tls.get(number).cloned();
        found.ok_or_else(|| PyValueError::new_err(format!("no server_tls {number}")))
    }
}

/// Reads a list of actions.
pub(crate) fn actions(list: &Bound<'_, PyList>, registered: &Registered<'_>) -> PyResult<Vec<Action>> {
    let mut actions = Vec::with_capacity(list.len());
    for item in list.iter() {
        let tuple = item.cast_into::<PyTuple>()?;
        let kind = tuple.get_item(0)?.cast_into::<PyString>()?;
        actions.push(action(&kind.to_cow()?, &tuple, registered)?);
    }
    Ok(actions)
}

fn action(kind: &str, t: &Bound<'_, PyTuple>, registered: &Registered<'_>) -> PyResult<Action> {
    let conn = || field::<u64>(t, 1);
    let turn = || field::<u32>(t, 2);
    Ok(match kind {
        "reply" => Action::Net(NetAction::Reply {
            conn: conn()?,
            turn: turn()?,
            bytes: octets(t, 3)?,
            answers: field(t, 4)?,
            delay_ms: field(t, 5)?,
            close: field(t, 6)?,
            grant: grant(t, 7)?,
        }),
        "flight" => Action::Net(NetAction::Flight { conn: conn()?, turn: turn()?, parts: flight(t, 3)? }),
        "take" => Action::Take {
            conn: conn()?,
            turn: turn()?,
            draft: field(t, 3)?,
            limit_bytes: field(t, 4)?,
            reply: octets(t, 5)?,
        },
        "take_chunk" => {
            let draft = field::<Option<u64>>(t, 3)?;
            let begin = draft.map(|draft| Ok::<_, PyErr>((draft, field(t, 4)?, field(t, 5)?))).transpose()?;
            Action::TakeChunk { conn: conn()?, turn: turn()?, begin, reply: octets(t, 6)? }
        }
        "discard" => Action::Net(NetAction::Discard {
            conn: conn()?,
            turn: turn()?,
            reply: octets(t, 3)?,
            delay_ms: field(t, 4)?,
        }),
        "forget" => Action::Net(NetAction::Forget { conn: conn()?, turn: turn()? }),
        "challenge" => {
            Action::Net(NetAction::Challenge { conn: conn()?, turn: turn()?, bytes: octets(t, 3)? })
        }
        "await_durable" => Action::AwaitDurable {
            conn: conn()?,
            turn: turn()?,
            ticket: field(t, 3)?,
            ok: octets(t, 4)?,
            failed: octets(t, 5)?,
            grant: grant(t, 6)?,
        },
        "content" => Action::Content {
            conn: conn()?,
            turn: turn()?,
            queue_id: QueueId(field(t, 3)?),
            hop: field(t, 4)?,
            attempt: field(t, 5)?,
            peer: field(t, 6)?,
            then: flight(t, 7)?,
        },
        // The number of what is shown in a handshake stands last, and only where the connection begins with one.
        "begin" => Action::Net(NetAction::Begin {
            conn: conn()?,
            turn: turn()?,
            limits: registered.limits(field(t, 3)?)?,
            tls: if t.len() > 6 { Some(registered.tls(field(t, 6)?)?) } else { None },
            banner: octets(t, 4)?,
            delay_ms: field(t, 5)?,
        }),
        "start_tls" => Action::Net(NetAction::StartTls {
            conn: conn()?,
            turn: turn()?,
            tls: registered.tls(field(t, 3)?)?,
            reply: octets(t, 4)?,
        }),
        "restart" => Action::Net(NetAction::Restart {
            conn: conn()?,
            turn: turn()?,
            limits: registered.limits(field(t, 3)?)?,
            banner: octets(t, 4)?,
        }),
        "park" => Action::Net(NetAction::Park { conn: conn()?, turn: turn()?, idle_ms: field(t, 3)? }),
        "close" => Action::Net(NetAction::Close { conn: conn()?, turn: turn()?, quit: field(t, 3)? }),
        "abort" => Action::Net(NetAction::Abort { conn: conn()? }),
        "drop" => Action::Drop {
            request: field(t, 1)?,
            queue_id: QueueId(field(t, 2)?),
            hop: field(t, 3)?,
            directory: PathBuf::from(field::<String>(t, 5)?),
            prepend: octets(t, 6)?,
        },
        other => return Err(PyValueError::new_err(format!("no action is called {other:?}"))),
    })
}
