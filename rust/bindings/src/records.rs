//! Envelopes and facts from tuples, answers of the index to tuples.

use penstock_core::flow::{Changes, ContentFlags, Form};
use penstock_core::queue_id::QueueId;
use penstock_engine::spool::{
    Accepted, Answer, Disposition, EntryRecord, EntryRow, EnvelopeParams, Fact, HopKind, HopRow, KeptRow,
    MessageRecipient, MessageRow, MoreParams, Outcome, OutcomeState, RecipientRecord, Request, RoutedTo,
    Salvaged,
};
use penstock_engine::{Engine, STAGES, Settlement};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::edits;
use crate::queries::{self, Execution};

type Notify = (String, u8, Option<String>);
type Entry = (u32, Vec<u32>, u8, u64, u64);
type Envelope =
    (u64, String, Params, (String, String, String, String), u64, u8, String, String, Vec<Notify>, Vec<Entry>);
/// Three or four of them: few messages have more parameters.
#[derive(FromPyObject)]
enum Params {
    Usual(Option<u8>, Option<String>, bool),
    More(Option<u8>, Option<String>, bool, More),
}
type More = (bool, bool, bool, Option<String>, Option<u64>, Option<i8>, Option<String>, u8);
type OutcomeTuple = (u32, String, String, String, u16, String, String);

fn unknown(what: &str, value: &str) -> PyErr {
    PyValueError::new_err(format!("no {what} is called {value:?}"))
}

pub(crate) fn hop_of(engine: &Engine, number: u32) -> PyResult<penstock_engine::spool::HopId> {
    engine.hop_id(number).ok_or_else(|| PyValueError::new_err(format!("no hop has the number {number}")))
}

pub(crate) fn form(text: &str) -> PyResult<Form> {
    match text {
        "wire" => Ok(Form::Wire),
        "plain" => Ok(Form::Plain),
        other => Err(unknown("form", other)),
    }
}

const HOP_KINDS: [(&str, HopKind); 5] = [
    ("smart_host", HopKind::SmartHost),
    ("domain", HopKind::Domain),
    ("maildir", HopKind::Maildir),
    ("unreachable", HopKind::Unreachable),
    ("poison", HopKind::Poison),
];

pub(crate) fn hop_kind(text: &str) -> PyResult<HopKind> {
    HOP_KINDS
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, kind)| *kind)
        .ok_or_else(|| unknown("hop kind", text))
}

fn hop_kind_name(kind: HopKind) -> &'static str {
    HOP_KINDS.iter().find(|(_, k)| *k == kind).map_or("domain", |(name, _)| name)
}

const STATES: [(&str, OutcomeState); 7] = [
    ("delivered", OutcomeState::Delivered),
    ("relayed", OutcomeState::Relayed),
    ("deferred", OutcomeState::Deferred),
    ("failed", OutcomeState::Failed),
    ("expired", OutcomeState::Expired),
    ("in_doubt", OutcomeState::InDoubt),
    ("removed", OutcomeState::Removed),
];

fn outcome_state(text: &str) -> PyResult<OutcomeState> {
    STATES.iter().find(|(name, _)| *name == text).map(|(_, s)| *s).ok_or_else(|| unknown("outcome", text))
}

fn outcome_state_name(state: OutcomeState) -> &'static str {
    STATES.iter().find(|(_, s)| *s == state).map_or("pending", |(name, _)| name)
}

const HOP_STATES: [&str; 3] = ["ready", "retry", "suspended"];

pub(crate) fn accepted(engine: &Engine, envelope: &Bound<'_, PyTuple>, form: Form) -> PyResult<Accepted> {
    let (
        received_ms,
        sender,
        params,
        (connector, peer, helo, session),
        size,
        flags,
        message_id,
        subject,
        recipients,
        entries,
    ) = envelope.extract::<Envelope>()?;
    Ok(Accepted {
        received_ms,
        sender,
        params: envelope_params(params),
        connector,
        peer,
        helo,
        session,
        form,
        flags: ContentFlags(flags),
        size,
        message_id,
        subject,
        recipients: recipients
            .into_iter()
            .map(|(address, notify, orcpt)| RecipientRecord { address, orcpt, notify })
            .collect(),
        entries: entries
            .into_iter()
            .map(|(hop, recipients, priority, due_ms, expires_ms)| {
                let (hop, suspended) = (hop_of(engine, hop)?, None);
                Ok(EntryRecord { hop, recipients, priority, due_ms, expires_ms, suspended })
            })
            .collect::<PyResult<_>>()?,
    })
}

fn envelope_params(params: Params) -> EnvelopeParams {
    match params {
        Params::Usual(ret, envid, eight_bit) => EnvelopeParams { ret, envid, eight_bit, more: None },
        Params::More(ret, envid, eight_bit, more) => {
            let (smtp_utf8, binary, require_tls, deliver_by, release_ms, mt_priority, auth_sender, changes) =
                more;
            let more = MoreParams {
                smtp_utf8,
                binary,
                require_tls,
                deliver_by,
                release_ms,
                mt_priority,
                auth_sender,
                changes: Changes(changes),
            };
            EnvelopeParams { ret, envid, eight_bit, more: more.given() }
        }
    }
}

fn params_tuple(py: Python<'_>, params: EnvelopeParams) -> PyResult<Bound<'_, PyAny>> {
    let EnvelopeParams { ret, envid, eight_bit, more } = params;
    match more {
        None => (ret, envid, eight_bit).into_bound_py_any(py),
        Some(more) => {
            let more = (
                more.smtp_utf8,
                more.binary,
                more.require_tls,
                more.deliver_by,
                more.release_ms,
                more.mt_priority,
                more.auth_sender,
                more.changes.0,
            );
            (ret, envid, eight_bit, more).into_bound_py_any(py)
        }
    }
}

pub(crate) fn facts(engine: &Engine, list: &Bound<'_, PyList>) -> PyResult<Vec<Settlement>> {
    list.iter().map(|item| fact(engine, &item.cast_into::<PyTuple>()?)).collect()
}

fn fact(engine: &Engine, t: &Bound<'_, PyTuple>) -> PyResult<Settlement> {
    let kind = t.get_item(0)?.cast_into::<PyString>()?;
    match &*kind.to_cow()? {
        "settled" => settled(engine, t),
        "hop" => {
            let (_, hop, state, last_error, next_retry_ms, failures) =
                t.extract::<(String, u32, String, String, u64, u32)>()?;
            let state = HOP_STATES
                .iter()
                .position(|name| *name == state)
                .ok_or_else(|| unknown("hop state", &state))? as u8;
            let fact = Fact::Hop { hop: hop_of(engine, hop)?, state, last_error, next_retry_ms, failures };
            Ok(Settlement { fact, hop, addresses: Vec::new() })
        }
        "routed" => {
            let (_, queue_id, from, to) = t.extract::<(String, u64, u32, Vec<(u32, Vec<u32>, u64)>)>()?;
            let to = to
                .into_iter()
                .map(|(hop, recipients, due_ms)| {
                    Ok(RoutedTo { hop: hop_of(engine, hop)?, recipients, due_ms })
                })
                .collect::<PyResult<_>>()?;
            let fact = Fact::Routed { queue_id: QueueId(queue_id), from: hop_of(engine, from)?, to };
            Ok(Settlement { fact, hop: from, addresses: Vec::new() })
        }
        other => Err(unknown("fact", other)),
    }
}

fn settled(engine: &Engine, t: &Bound<'_, PyTuple>) -> PyResult<Settlement> {
    let (_, queue_id, hop, attempt, due_ms, outcomes, peer, session) =
        t.extract::<(Bound<'_, PyAny>, u64, u32, u32, Option<u64>, Vec<OutcomeTuple>, String, String)>()?;
    let mut addresses = Vec::with_capacity(outcomes.len());
    let outcomes = outcomes
        .into_iter()
        .map(|(recipient, address, state, stage, code, enhanced, text)| {
            addresses.push(address);
            let stage =
                STAGES.iter().position(|name| *name == stage).ok_or_else(|| unknown("stage", &stage))? as u8;
            Ok(Outcome { recipient, state: outcome_state(&state)?, stage, code, enhanced, text })
        })
        .collect::<PyResult<_>>()?;
    let fact = Fact::Settled {
        queue_id: QueueId(queue_id),
        hop: hop_of(engine, hop)?,
        attempt,
        disposition: due_ms.map_or(Disposition::Finished, |due_ms| Disposition::Due { due_ms }),
        outcomes,
        peer,
        session,
    };
    Ok(Settlement { fact, hop, addresses })
}

pub(crate) fn request(engine: &Engine, kind: &str, arguments: &Bound<'_, PyTuple>) -> PyResult<Request> {
    Ok(match kind {
        "hops" => Request::Hops,
        "refill" => {
            let (hop, limit, now_ms) = arguments.extract::<(u32, u32, u64)>()?;
            Request::Refill { hop: hop_of(engine, hop)?, limit, now_ms }
        }
        "expired" => {
            let (now_ms, limit) = arguments.extract::<(u64, u32)>()?;
            Request::Expired { now_ms, limit }
        }
        "messages" => {
            let (after, limit, hop) = arguments.extract::<(Option<u64>, u32, Option<u32>)>()?;
            let hop = hop.map(|hop| hop_of(engine, hop)).transpose()?;
            Request::Messages { after: after.map(QueueId), limit, hop }
        }
        "entry" => {
            let (queue_id, hop) = arguments.extract::<(u64, u32)>()?;
            Request::Entry { queue_id: QueueId(queue_id), hop: hop_of(engine, hop)? }
        }
        "message" => Request::Message { queue_id: QueueId(arguments.extract::<(u64,)>()?.0) },
        "header" => {
            let (queue_id, limit) = arguments.extract::<(u64, u32)>()?;
            Request::Header { queue_id: QueueId(queue_id), limit }
        }
        "kept" => {
            let (after, limit) = arguments.extract::<(Option<(u64, u64)>, u32)>()?;
            Request::Kept { after: after.map(|(until_ms, id)| (until_ms, QueueId(id))), limit }
        }
        "sync" => Request::Sync,
        "checkpoint" => Request::Checkpoint,
        other => {
            return queries::request(engine, other, arguments)?.ok_or_else(|| unknown("question", other));
        }
    })
}

pub(crate) fn answer<'py>(py: Python<'py>, engine: &Engine, answer: Answer) -> PyResult<Bound<'py, PyAny>> {
    match answer {
        Answer::Hops { watermark, rows } => {
            let rows = rows.into_iter().map(|row| hop_row(py, engine, row)).collect::<PyResult<Vec<_>>>()?;
            (watermark, PyList::new(py, rows)?).into_bound_py_any(py)
        }
        Answer::Entries { watermark, complete, next_due_ms, rows } => {
            let rows =
                rows.into_iter().map(|row| entry_row(py, engine, row)).collect::<PyResult<Vec<_>>>()?;
            (watermark, complete, next_due_ms, PyList::new(py, rows)?).into_bound_py_any(py)
        }
        Answer::Messages { watermark, next, rows } => {
            let rows =
                rows.into_iter().map(|row| message_row(py, engine, row)).collect::<PyResult<Vec<_>>>()?;
            (watermark, next.map(|id| id.0), PyList::new(py, rows)?).into_bound_py_any(py)
        }
        Answer::Message { watermark, row } => {
            let row = row.map(|row| message_row(py, engine, *row)).transpose()?;
            (watermark, row).into_bound_py_any(py)
        }
        Answer::Kept { watermark, next, rows } => {
            let rows = rows.into_iter().map(|row| kept_row(py, row)).collect::<PyResult<Vec<_>>>()?;
            let next = next.map(|(until_ms, id)| (until_ms, id.0));
            (watermark, next, PyList::new(py, rows)?).into_bound_py_any(py)
        }
        Answer::Header { bytes } => bytes.map(|b| PyBytes::new(py, &b)).into_bound_py_any(py),
        Answer::Edited { results } => {
            let results =
                results.into_iter().map(|one| edits::edited(py, one)).collect::<PyResult<Vec<_>>>()?;
            PyList::new(py, results)?.into_bound_py_any(py)
        }
        Answer::Done { lsn } => lsn.into_bound_py_any(py),
        Answer::Query { execution } => Execution::new(execution, false).into_bound_py_any(py),
        Answer::Busy { execution } => Execution::new(execution, true).into_bound_py_any(py),
        Answer::Failed { .. } => Ok(py.None().into_bound(py)),
    }
}

fn hop_row<'py>(py: Python<'py>, engine: &Engine, row: HopRow) -> PyResult<Bound<'py, PyAny>> {
    let number = engine.hop(&row.connector, row.kind, &row.destination);
    let fields = [
        number.into_bound_py_any(py)?,
        row.connector.into_bound_py_any(py)?,
        hop_kind_name(row.kind).into_bound_py_any(py)?,
        row.destination.into_bound_py_any(py)?,
        row.count.into_bound_py_any(py)?,
        row.bytes.into_bound_py_any(py)?,
        row.oldest_ms.into_bound_py_any(py)?,
        row.earliest_due_ms.into_bound_py_any(py)?,
        HOP_STATES.get(usize::from(row.state)).copied().unwrap_or("ready").into_bound_py_any(py)?,
        row.last_error.into_bound_py_any(py)?,
        row.next_retry_ms.into_bound_py_any(py)?,
        row.failures.into_bound_py_any(py)?,
        row.suspended.into_bound_py_any(py)?,
    ];
    Ok(PyTuple::new(py, fields)?.into_any())
}

fn form_name(form: Form) -> &'static str {
    match form {
        Form::Wire => "wire",
        Form::Plain => "plain",
    }
}

fn entry_row<'py>(py: Python<'py>, engine: &Engine, row: EntryRow) -> PyResult<Bound<'py, PyAny>> {
    let recipients = row
        .recipients
        .into_iter()
        .map(|r| (r.index, r.address, r.notify, r.orcpt).into_bound_py_any(py))
        .collect::<PyResult<Vec<_>>>()?;
    let params = params_tuple(py, row.params)?;
    let fields = [
        row.queue_id.0.into_bound_py_any(py)?,
        engine.known_hop(row.hop).into_bound_py_any(py)?,
        row.priority.into_bound_py_any(py)?,
        row.lane.into_bound_py_any(py)?,
        row.due_ms.into_bound_py_any(py)?,
        row.attempts.into_bound_py_any(py)?,
        row.expires_ms.into_bound_py_any(py)?,
        row.received_ms.into_bound_py_any(py)?,
        row.sender.into_bound_py_any(py)?,
        PyList::new(py, recipients)?.into_any(),
        row.size.into_bound_py_any(py)?,
        row.flags.0.into_bound_py_any(py)?,
        form_name(row.form).into_bound_py_any(py)?,
        row.message_id.into_bound_py_any(py)?,
        params,
        row.in_doubt.into_bound_py_any(py)?,
        row.version.into_bound_py_any(py)?,
        row.suspended.map(edits::suspension_name).into_bound_py_any(py)?,
    ];
    Ok(PyTuple::new(py, fields)?.into_any())
}

fn recipient_rows(py: Python<'_>, rows: Vec<MessageRecipient>) -> PyResult<Bound<'_, PyList>> {
    let recipients = PyList::empty(py);
    for recipient in rows {
        let r = PyDict::new(py);
        r.set_item("index", recipient.index)?;
        r.set_item("address", recipient.address)?;
        r.set_item("state", recipient.state.map_or("pending", outcome_state_name))?;
        r.set_item("code", recipient.code)?;
        r.set_item("enhanced", recipient.enhanced)?;
        r.set_item("text", recipient.text)?;
        recipients.append(r)?;
    }
    Ok(recipients)
}

fn kept_row(py: Python<'_>, row: KeptRow) -> PyResult<Bound<'_, PyAny>> {
    let dict = PyDict::new(py);
    dict.set_item("queue_id", row.queue_id.0)?;
    dict.set_item("until_ms", row.until_ms)?;
    dict.set_item("sender", row.sender)?;
    dict.set_item("received_ms", row.received_ms)?;
    dict.set_item("size", row.size)?;
    dict.set_item("message_id", row.message_id)?;
    dict.set_item("subject", row.subject)?;
    dict.set_item("recipients", recipient_rows(py, row.recipients)?)?;
    Ok(dict.into_any())
}

fn message_row<'py>(py: Python<'py>, engine: &Engine, row: MessageRow) -> PyResult<Bound<'py, PyAny>> {
    let dict = PyDict::new(py);
    dict.set_item("queue_id", row.queue_id.0)?;
    dict.set_item("sender", row.sender)?;
    dict.set_item("received_ms", row.received_ms)?;
    dict.set_item("size", row.size)?;
    dict.set_item("message_id", row.message_id)?;
    dict.set_item("subject", row.subject)?;
    dict.set_item("connector", row.connector)?;
    dict.set_item("peer", row.peer)?;
    dict.set_item("helo", row.helo)?;
    dict.set_item("params", params_tuple(py, row.params)?)?;
    dict.set_item("recipients", recipient_rows(py, row.recipients)?)?;
    let entries = PyList::empty(py);
    for entry in row.entries {
        let e = PyDict::new(py);
        e.set_item("hop", engine.known_hop(entry.hop))?;
        e.set_item("connector", entry.connector)?;
        e.set_item("kind", hop_kind_name(entry.kind))?;
        e.set_item("destination", entry.destination)?;
        e.set_item("due_ms", entry.due_ms)?;
        e.set_item("attempts", entry.attempts)?;
        e.set_item("expires_ms", entry.expires_ms)?;
        e.set_item("priority", entry.priority)?;
        e.set_item("recipients", entry.recipients)?;
        e.set_item("in_doubt", entry.in_doubt)?;
        e.set_item("version", entry.version)?;
        e.set_item("suspended", entry.suspended.map(edits::suspension_name))?;
        e.set_item("edit", entry.edit.map(|edit| edits::last_edit(py, edit)).transpose()?)?;
        entries.append(e)?;
    }
    dict.set_item("entries", entries)?;
    Ok(dict.into_any())
}

/// What was made anew of the index, as a dictionary.
pub(crate) fn salvaged<'py>(py: Python<'py>, salvaged: &Salvaged) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("reason", &salvaged.reason)?;
    dict.set_item("messages", salvaged.messages)?;
    dict.set_item("may_repeat", salvaged.may_repeat)?;
    dict.set_item("records", salvaged.records)?;
    dict.set_item("segments", salvaged.segments)?;
    dict.set_item("missing_segments", salvaged.missing_segments)?;
    dict.set_item("damaged", salvaged.damaged)?;
    dict.set_item("missing_blobs", salvaged.missing_blobs)?;
    dict.set_item("kept", salvaged.kept.as_ref().map(|kept| kept.display().to_string()))?;
    dict.set_item("took_ms", salvaged.took_ms)?;
    Ok(dict)
}
