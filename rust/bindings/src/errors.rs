//! One mapping per Rust error enum to the exceptions of `penstock.errors`, which carry fields.

use penstock_engine::EngineError;
use penstock_engine::net::TlsError;
use penstock_engine::spool::{DraftRefused, OpenError, QueryError};
use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// Makes the exception `penstock.errors.<name>` with these arguments.
fn ours<'py, A>(py: Python<'py>, name: &str, arguments: A) -> PyErr
where
    A: PyCallArgs<'py>,
{
    let made = || -> PyResult<PyErr> {
        let class = py.import("penstock.errors")?.getattr(name)?;
        Ok(PyErr::from_value(class.call1(arguments)?))
    };
    made().unwrap_or_else(|error| error)
}

/// Why the spool could not be opened, as the operator has to hear it.
pub(crate) fn open_error(py: Python<'_>, error: EngineError) -> PyErr {
    match error {
        EngineError::Spool(error) => spool_error(py, error),
        EngineError::Io { what, source } => os_error(&source, &what),
        other => ours(py, "SpoolError", (other.to_string(),)),
    }
}

/// The same of a spool alone.
pub(crate) fn spool_error(py: Python<'_>, error: OpenError) -> PyErr {
    match error {
        OpenError::Locked { pid } => ours(py, "SpoolLocked", (pid,)),
        OpenError::Format { found, supported } => ours(py, "SpoolFormat", (found, supported)),
        OpenError::Io { path, source } => {
            ours(py, "SpoolFailed", (path.display().to_string(), source.raw_os_error().unwrap_or(0)))
        }
        error @ OpenError::Queues { .. } => ours(py, "SpoolError", (error.to_string(),)),
        other => ours(py, "SpoolDamaged", (other.to_string(),)),
    }
}

/// An `OSError` with the system's number, so that callers can tell `EADDRINUSE` from the rest.
pub(crate) fn os_error(source: &std::io::Error, what: &str) -> PyErr {
    match source.raw_os_error() {
        Some(errno) => PyOSError::new_err((errno, source.to_string(), what.to_owned())),
        None => PyOSError::new_err(format!("{what}: {source}")),
    }
}

/// A draft that cannot be had now.
pub(crate) fn draft_refused(py: Python<'_>, error: DraftRefused) -> PyErr {
    let reason = match error {
        DraftRefused::Budget => "budget",
        DraftRefused::DiskFull => "disk_full",
        DraftRefused::Poisoned => "poisoned",
        DraftRefused::Behind => "behind",
    };
    ours(py, "DraftRefused", (reason,))
}

/// A certificate that cannot be used.
pub(crate) fn certificate_unusable(py: Python<'_>, number: usize, error: &TlsError) -> PyErr {
    ours(py, "CertificateUnusable", (number, error.part.as_str(), error.reason.as_str()))
}

/// A query that cannot be asked.
pub(crate) fn query_refused(py: Python<'_>, error: &QueryError) -> PyErr {
    ours(py, "QueryRefused", (error.at.as_str(), error.what.as_str()))
}
