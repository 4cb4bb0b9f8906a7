//! `penstock._core`: converts, calls, converts back. No decision is taken here.
//!
//! Values cross as tuples, `bytes`, `str` and `int`; the shapes are in `python/penstock/_core.pyi`.
//! Whatever may block or touch many bytes runs without the interpreter's lock.

#![forbid(unsafe_code)]

mod actions;
mod edits;
mod engine;
mod errors;
mod events;
mod memory;
mod queries;
mod records;
mod tls;
mod toml;
mod tools;

use pyo3::prelude::*;
use tikv_jemallocator::Jemalloc;

/// Content is allocated by one thread and freed by another, which the C library's allocator does at the price of a lock
/// and of memory that does not come back: with this one a relayed message costs an eighth less. It serves the extension
/// alone; the interpreter keeps its own.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// The Rust half of Penstock.
#[pymodule]
mod _core {
    use std::str::FromStr;

    use penstock_core::queue_id::QueueId;
    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;
    use rustix::process::DumpableBehavior;

    #[pymodule_export]
    use crate::engine::{Engine, content_flags};
    #[pymodule_export]
    use crate::memory::MemoryPeer;
    #[pymodule_export]
    use crate::queries::Execution;
    #[pymodule_export]
    use crate::tls::read_certificate;
    #[pymodule_export]
    use crate::toml::parse_toml;
    #[pymodule_export]
    use crate::tools::{
        Progress, spool_backup, spool_check, spool_count, spool_release, spool_restore, spool_salvage,
    };

    /// Has the system write no image of this process, in which there are secrets and mail.
    #[pyfunction]
    fn forbid_core_dumps() -> PyResult<()> {
        Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(std::io::Error::from)?)
    }

    /// Prints a queue id as operators see it.
    #[pyfunction]
    fn format_queue_id(queue_id: u64) -> String {
        QueueId(queue_id).to_string()
    }

    /// Reads a queue id as operators write it.
    #[pyfunction]
    fn parse_queue_id(text: &str) -> PyResult<u64> {
        QueueId::from_str(text).map(|id| id.0).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}
