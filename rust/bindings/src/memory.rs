//! The far end of a connection in memory, for tests.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A peer that lives in the same process; only an inline engine has such peers.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct MemoryPeer(pub(crate) penstock_engine::net::MemoryPeer);

#[pymethods]
impl MemoryPeer {
    /// Sends octets to the engine.
    fn send(&self, data: &[u8]) {
        self.0.send(data);
    }

    /// Takes all octets that the engine has sent since the last call.
    fn recv<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.recv())
    }

    /// Ends our sending side, as a FIN does.
    fn shutdown_write(&self) {
        self.0.shutdown_write();
    }

    /// Breaks the connection, as a RST does.
    fn reset(&self) {
        self.0.reset();
    }

    /// Whether the engine has closed the connection.
    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}
