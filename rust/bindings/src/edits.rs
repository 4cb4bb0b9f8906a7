//! Edits from tuples, and what became of them to tuples.

use penstock_core::queue_id::QueueId;
use penstock_engine::Engine;
use penstock_engine::spool::{Author, Edit, EditKind, Edited, LastEdit, Suspension, Target};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::records::hop_of;

/// An entry: queue id, hop, version that was seen.
pub(crate) type Entry = (u64, u32, Option<u64>);

const PRIORITY_MAX: u8 = 2;

const SUSPENSIONS: [(&str, Suspension); 2] =
    [("operator", Suspension::Operator), ("restored", Suspension::Restored)];

const KINDS: [(&str, EditKind); 7] = [
    ("suspend", EditKind::Suspend),
    ("resume", EditKind::Resume),
    ("remove", EditKind::Remove),
    ("redirect", EditKind::Redirect),
    ("expire", EditKind::Expire),
    ("prioritise", EditKind::Prioritise),
    ("due", EditKind::Due),
];

/// The name of a suspension.
pub(crate) fn suspension_name(suspension: Suspension) -> &'static str {
    SUSPENSIONS.iter().find(|(_, one)| *one == suspension).map_or("operator", |(name, _)| name)
}

/// Read an edit: its kind, then what it gives.
pub(crate) fn edit(engine: &Engine, tuple: &Bound<'_, PyTuple>) -> PyResult<Edit> {
    let kind = tuple.get_item(0)?.extract::<String>()?;
    let known = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, kind)| *kind);
    let kind = known.ok_or_else(|| PyValueError::new_err(format!("no edit is called {kind:?}")))?;
    Ok(match kind {
        EditKind::Suspend => {
            let (_, cause) = tuple.extract::<(Bound<'_, PyAny>, String)>()?;
            let known = SUSPENSIONS.iter().find(|(name, _)| *name == cause).map(|(_, one)| *one);
            let unknown = || PyValueError::new_err(format!("no suspension is called {cause:?}"));
            Edit::Suspend(known.ok_or_else(unknown)?)
        }
        EditKind::Resume => Edit::Resume,
        EditKind::Remove => Edit::Remove,
        EditKind::Redirect => {
            let (_, hop, due_ms) = tuple.extract::<(Bound<'_, PyAny>, u32, u64)>()?;
            Edit::Redirect { to: hop_of(engine, hop)?, due_ms }
        }
        EditKind::Expire => Edit::Expire { expires_ms: tuple.extract::<(Bound<'_, PyAny>, u64)>()?.1 },
        EditKind::Prioritise => {
            let (_, priority) = tuple.extract::<(Bound<'_, PyAny>, u8)>()?;
            if priority > PRIORITY_MAX {
                return Err(PyValueError::new_err(format!("no priority {priority}")));
            }
            Edit::Prioritise { priority }
        }
        EditKind::Due => Edit::Due { due_ms: tuple.extract::<(Bound<'_, PyAny>, u64)>()?.1 },
    })
}

/// Read whose an edit is: who, why, when.
pub(crate) fn author((who, why, at_ms): (String, String, u64)) -> Author {
    Author { who, why, at_ms }
}

/// Read which entry is meant.
pub(crate) fn target(engine: &Engine, (queue_id, hop, version): Entry) -> PyResult<Target> {
    Ok(Target { queue_id: QueueId(queue_id), hop: hop_of(engine, hop)?, version })
}

/// What became of an edit: its name, and the number of a record.
pub(crate) fn edited(py: Python<'_>, edited: Edited) -> PyResult<Bound<'_, PyAny>> {
    let (name, lsn) = match edited {
        Edited::Done { lsn } => ("done", lsn),
        Edited::Unchanged { version } => ("unchanged", version),
        Edited::Conflict { version } => ("conflict", version),
        Edited::Gone => ("gone", 0),
        Edited::Busy => ("busy", 0),
    };
    (name, lsn).into_bound_py_any(py)
}

/// The last edit of an entry.
pub(crate) fn last_edit(py: Python<'_>, edit: LastEdit) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    let kind = KINDS.iter().find(|(_, kind)| *kind == edit.kind).map_or("", |(name, _)| name);
    dict.set_item("kind", kind)?;
    dict.set_item("number", edit.number)?;
    dict.set_item("who", edit.author.who)?;
    dict.set_item("why", edit.author.why)?;
    dict.set_item("at_ms", edit.author.at_ms)?;
    Ok(dict)
}
