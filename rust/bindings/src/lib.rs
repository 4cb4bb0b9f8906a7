//! `penstock._core`: converts, calls, converts back. No decision is taken here.

#![forbid(unsafe_code)]

use pyo3::prelude::*;

/// The Rust half of Penstock.
#[pymodule]
mod _core {
    use std::str::FromStr;

    use penstock_core::queue_id::QueueId;
    use penstock_core::smtp::content::plain_flags;
    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;
    use pyo3::types::PyBytes;

    /// Flags of content in plain form.
    #[pyfunction]
    fn content_flags(content: &Bound<'_, PyBytes>) -> u8 {
        plain_flags(content.as_bytes()).0
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
