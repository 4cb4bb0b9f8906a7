//! What is done to a spool from outside. Each call blocks for as long as it takes, without the interpreter's
//! lock; how far it is can be read from another thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use penstock_engine::spool::tools::{self, Copied};
use penstock_engine::spool::{OpenError, SpoolConfig};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::{errors, records};

/// How far something is: octets of log.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct Progress(Arc<AtomicU64>);

#[pymethods]
impl Progress {
    #[new]
    fn new() -> Self {
        Self(Arc::default())
    }

    /// Octets so far.
    fn octets(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

fn run<T: Send>(
    py: Python<'_>,
    progress: &Progress,
    work: impl FnOnce(&dyn Fn(u64)) -> Result<T, OpenError> + Send,
) -> PyResult<T> {
    let octets = Arc::clone(&progress.0);
    py.detach(|| work(&|done| octets.store(done, Relaxed))).map_err(|error| errors::spool_error(py, error))
}

fn map_bytes() -> u64 {
    SpoolConfig::default().map_bytes
}

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "it is made for the call")]
pub(crate) fn spool_check<'py>(
    py: Python<'py>,
    path: PathBuf,
    progress: &Progress,
) -> PyResult<Bound<'py, PyDict>> {
    let checked = run(py, progress, |told| tools::check(&path, map_bytes(), told))?;
    let dict = PyDict::new(py);
    for (key, value) in [
        ("segments", checked.segments),
        ("records", checked.records),
        ("pages", checked.pages),
        ("rows", checked.rows),
        ("messages", checked.messages),
        ("problems_count", checked.problems_count),
    ] {
        dict.set_item(key, value)?;
    }
    dict.set_item("problems", checked.problems)?;
    dict.set_item("is_in_use", checked.is_in_use)?;
    Ok(dict)
}

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "it is made for the call")]
pub(crate) fn spool_salvage<'py>(
    py: Python<'py>,
    path: PathBuf,
    keep_until_ms: Option<u64>,
    dry_run: bool,
    progress: &Progress,
) -> PyResult<Bound<'py, PyDict>> {
    let salvaged =
        run(py, progress, |told| tools::salvage(&path, map_bytes(), keep_until_ms, dry_run, told))?;
    records::salvaged(py, &salvaged)
}

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "it is made for the call")]
pub(crate) fn spool_count(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let counted = run(py, &Progress::new(), |_| tools::count(&path, map_bytes()))?;
    let dict = PyDict::new(py);
    let told = |count| (!counted.is_in_use).then_some(count);
    for (key, value) in [
        ("segments", Some(counted.segments)),
        ("log_bytes", Some(counted.log_bytes)),
        ("live_bytes", told(counted.live_bytes)),
        ("messages", told(counted.messages)),
        ("index_bytes", Some(counted.index_bytes)),
        ("epoch", told(counted.epoch)),
        ("reports", Some(counted.reports)),
    ] {
        dict.set_item(key, value)?;
    }
    dict.set_item("is_restored", counted.is_restored)?;
    dict.set_item("is_in_use", counted.is_in_use)?;
    Ok(dict)
}

fn copied<'py>(py: Python<'py>, copied: &Copied) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("segments", copied.segments)?;
    dict.set_item("bytes", copied.bytes)?;
    Ok(dict)
}

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "it is made for the call")]
pub(crate) fn spool_backup<'py>(
    py: Python<'py>,
    path: PathBuf,
    directory: PathBuf,
    progress: &Progress,
) -> PyResult<Bound<'py, PyDict>> {
    copied(py, &run(py, progress, |told| tools::backup(&path, &directory, told))?)
}

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "it is made for the call")]
pub(crate) fn spool_restore<'py>(
    py: Python<'py>,
    directory: PathBuf,
    path: PathBuf,
    progress: &Progress,
) -> PyResult<Bound<'py, PyDict>> {
    copied(py, &run(py, progress, |told| tools::restore(&directory, &path, told))?)
}

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "it is made for the call")]
pub(crate) fn spool_release(py: Python<'_>, path: PathBuf) -> PyResult<bool> {
    run(py, &Progress::new(), |_| tools::release(&path))
}
