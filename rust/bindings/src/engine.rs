//! The class `Engine`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use penstock_core::flow::{Changes, Offer};
use penstock_core::smtp::command::Charset;
use penstock_engine::net::{ClientLimits, NetConfig, Proxies, ServerLimits, ServerTls, StandardReplies};
use penstock_engine::spool::{Author, FileDevice, SpoolConfig, SuspendedQueue, SystemClock};
use penstock_engine::{Engine as Inner, EngineConfig};
use pyo3::exceptions::{PyLookupError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::actions::Registered;
use crate::memory::MemoryPeer;
use crate::{actions, edits, errors, events, records, tls};

/// Spool, sockets, Maildirs and journal.
#[pyclass(module = "penstock._core")]
pub(crate) struct Engine {
    inner: Option<Inner>,
    server_limits: Vec<Arc<ServerLimits>>,
    server_tls: Vec<Arc<ServerTls>>,
    client_limits: Vec<Arc<ClientLimits>>,
}

/// Reads what drafts hold, from any thread.
///
/// It is a class of its own since a thread that is in a method of [`Engine`] would keep others from changing it.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct DraftReader(penstock_engine::DraftReader);

#[pymethods]
impl DraftReader {
    fn read<'py>(
        &self,
        py: Python<'py>,
        draft: u64,
        offset: u64,
        length: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let read = py.detach(|| self.0.read(draft, offset, length))?;
        let octets = read.ok_or_else(|| PyLookupError::new_err(format!("no draft {draft}")))?;
        Ok(PyBytes::new(py, &octets))
    }
}

fn closed() -> PyErr {
    PyRuntimeError::new_err("the engine is closed")
}

fn address(host: &str, port: u16) -> PyResult<SocketAddr> {
    let ip: IpAddr =
        host.parse().map_err(|_| PyValueError::new_err(format!("{host:?} is not an IP address")))?;
    Ok(SocketAddr::new(ip, port))
}

fn spool_config(path: String, inline: bool, options: HashMap<String, u64>) -> PyResult<SpoolConfig> {
    let mut config = SpoolConfig { path: PathBuf::from(path), inline, ..SpoolConfig::default() };
    for (key, value) in options {
        match key.as_str() {
            "segment_bytes" => config.segment_bytes = value,
            "checkpoint_ms" => config.checkpoint_ms = value,
            "checkpoint_bytes" => config.checkpoint_bytes = value,
            "checkpoint_records" => config.checkpoint_records = value,
            "map_bytes" => config.map_bytes = value,
            "blob_bytes" => config.blob_bytes = value,
            "draft_budget_bytes" => config.draft_budget_bytes = value,
            "free_min_bytes" => config.free_min_bytes = value,
            "clean_bytes_per_s" => config.clean_bytes_per_s = value,
            "kept_ms" => config.kept_ms = value,
            "kept_max_bytes" => config.kept_max_bytes = value,
            "node" => config.node = value as u16,
            _ => return Err(PyValueError::new_err(format!("no option is called {key:?}"))),
        }
    }
    Ok(config)
}

impl Engine {
    pub(crate) fn inner(&self) -> PyResult<&Inner> {
        self.inner.as_ref().ok_or_else(closed)
    }
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, spool, io_threads = 1, inline = false, connections_max = 50_000, options = HashMap::new(), journal = None))]
    fn new(
        py: Python<'_>,
        spool: String,
        io_threads: usize,
        inline: bool,
        connections_max: usize,
        options: HashMap<String, u64>,
        journal: Option<PathBuf>,
    ) -> PyResult<Self> {
        let config = EngineConfig {
            spool: spool_config(spool, inline, options)?,
            net: NetConfig { io_threads, inline, connections_max, ..NetConfig::default() },
            journal,
        };
        let inner = py
            .detach(|| Inner::open(config, Arc::new(FileDevice::new()), Arc::new(SystemClock)))
            .map_err(|error| errors::open_error(py, error))?;
        Ok(Self {
            inner: Some(inner),
            server_limits: Vec::new(),
            server_tls: Vec::new(),
            client_limits: Vec::new(),
        })
    }

    #[getter]
    fn recovery<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let recovery = self.inner()?.recovery();
        let dict = PyDict::new(py);
        dict.set_item("messages", recovery.messages)?;
        dict.set_item("records", recovery.records)?;
        dict.set_item("took_ms", recovery.took_ms)?;
        let doubts: Vec<(u64, u32, &str)> =
            recovery.in_doubt.iter().map(|d| (d.queue_id.0, d.attempt, d.peer.as_str())).collect();
        dict.set_item("in_doubt", doubts)?;
        dict.set_item("damaged", recovery.damaged)?;
        let salvaged =
            recovery.salvaged.as_ref().map(|salvaged| records::salvaged(py, salvaged)).transpose()?;
        dict.set_item("salvaged", salvaged)?;
        dict.set_item("is_restored", recovery.is_restored)?;
        Ok(dict)
    }

    fn fileno(&self) -> PyResult<i32> {
        Ok(self.inner()?.fileno())
    }

    fn ring(&self) -> PyResult<()> {
        self.inner()?.ring();
        Ok(())
    }

    fn poll<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let inner = self.inner()?;
        let list = PyList::empty(py);
        for event in inner.poll(limit) {
            list.append(events::event(py, inner, event)?)?;
        }
        Ok(list)
    }

    fn apply(&self, py: Python<'_>, actions: &Bound<'_, PyList>) -> PyResult<()> {
        let inner = self.inner()?;
        let registered = Registered { limits: &self.server_limits, tls: &self.server_tls };
        let actions = actions::actions(actions, &registered)?;
        py.detach(|| inner.apply(actions));
        Ok(())
    }

    #[pyo3(signature = (listener, host, port, *, proxies = Vec::new(), proxy_header_ms = 0))]
    fn listen(
        &self,
        listener: u32,
        host: &str,
        port: u16,
        proxies: Vec<(String, String)>,
        proxy_header_ms: u64,
    ) -> PyResult<(String, u16)> {
        let mut ranges = Vec::with_capacity(proxies.len());
        for (first, last) in proxies {
            ranges.push((address(&first, 0)?.ip(), address(&last, 0)?.ip()));
        }
        let bound = self
            .inner()?
            .listen(listener, address(host, port)?, Proxies::new(ranges, proxy_header_ms))
            .map_err(|error| errors::os_error(&error, &format!("{host}:{port}")))?;
        Ok((bound.ip().to_string(), bound.port()))
    }

    fn stop_listening(&self, listener: u32) -> PyResult<()> {
        self.inner()?.stop_listening(listener);
        Ok(())
    }

    #[pyo3(signature = (limits, standard = None))]
    fn server_limits(
        &mut self,
        limits: HashMap<String, u64>,
        standard: Option<(Vec<u8>, Vec<u8>, u64)>,
    ) -> PyResult<usize> {
        let mut made = ServerLimits::default();
        let (mut takes_size, mut takes_body) = (true, true);
        for (key, value) in limits {
            match key.as_str() {
                "idle_ms" => made.idle_ms = value,
                "total_ms" => made.total_ms = value,
                "min_rate_bytes_s" => made.min_rate_bytes_s = value,
                "handshake_ms" => made.handshake_ms = value,
                "output_bytes" => made.output_bytes = value as usize,
                "header_bytes" => made.header_bytes = value as usize,
                "rate_window_ms" => made.rate_window_ms = value,
                "command_ms" => made.command_ms = value,
                "takes_utf8" => {
                    made.grammar.charset = if value == 0 { Charset::Ascii } else { Charset::Utf8 };
                }
                "is_lenient" => made.grammar.is_lenient = value != 0,
                "changes" => made.changes = Changes(value as u8),
                "takes_codes" if value == 0 => {
                    made.timeout_reply = Bytes::from_static(b"421 Connection timed out\r\n");
                }
                "takes_codes" => {}
                "takes_size" => takes_size = value != 0,
                "takes_body" => takes_body = value != 0,
                _ => return Err(PyValueError::new_err(format!("no limit is called {key:?}"))),
            }
        }
        if let Some((mail, data, limit_bytes)) = standard {
            let (mail, data) = (mail.into(), data.into());
            made.standard = StandardReplies { mail, data, limit_bytes, takes_size, takes_body };
        }
        self.server_limits.push(Arc::new(made));
        Ok(self.server_limits.len() - 1)
    }

    #[pyo3(signature = (certificates, *, minimum, client_certificates, number = None))]
    fn server_tls(
        &mut self,
        certificates: Vec<(Vec<u8>, Vec<u8>)>,
        minimum: &str,
        client_certificates: &str,
        number: Option<usize>,
    ) -> PyResult<usize> {
        let settings = tls::settings(certificates, minimum, client_certificates)?;
        if let Some(number) = number {
            let known = self.server_tls.get(number);
            known.ok_or_else(|| PyValueError::new_err(format!("no server_tls {number}")))?.replace(settings);
            return Ok(number);
        }
        self.server_tls.push(Arc::new(ServerTls::new(settings)));
        Ok(self.server_tls.len() - 1)
    }

    fn client_limits(&mut self, limits: HashMap<String, u64>) -> PyResult<usize> {
        let mut made = ClientLimits::default();
        for (key, value) in limits {
            match key.as_str() {
                "connect_ms" => made.connect_ms = value,
                "banner_ms" => made.banner_ms = value,
                "block_ms" => made.block_ms = value,
                "dot_ms" => made.dot_ms = value,
                _ => return Err(PyValueError::new_err(format!("no limit is called {key:?}"))),
            }
        }
        self.client_limits.push(Arc::new(made));
        Ok(self.client_limits.len() - 1)
    }

    fn dial(&self, ip: &str, port: u16, source: Option<&str>, limits: usize) -> PyResult<u64> {
        let limits = self
            .client_limits
            .get(limits)
            .cloned()
            .ok_or_else(|| PyValueError::new_err(format!("no limits {limits}")))?;
        let source = source.map(|s| address(s, 0).map(|a| a.ip())).transpose()?;
        Ok(self.inner()?.dial(address(ip, port)?, source, limits))
    }

    fn hop(&self, connector: &str, kind: &str, destination: &str) -> PyResult<u32> {
        Ok(self.inner()?.hop(connector, records::hop_kind(kind)?, destination))
    }

    fn draft(&self, py: Python<'_>, size_hint: u64) -> PyResult<u64> {
        self.inner()?.draft(size_hint).map_err(|error| errors::draft_refused(py, error))
    }

    fn write_draft(&self, draft: u64, chunk: &[u8]) -> PyResult<bool> {
        match self.inner()?.write_draft(draft, chunk) {
            Some(Offer::Taken) => Ok(true),
            Some(Offer::Full) => Ok(false),
            None => Err(PyValueError::new_err(format!("no draft {draft}"))),
        }
    }

    fn draft_reader(&self) -> PyResult<DraftReader> {
        Ok(DraftReader(self.inner()?.draft_reader()))
    }

    fn drop_draft(&self, draft: u64) -> PyResult<()> {
        self.inner()?.drop_draft(draft);
        Ok(())
    }

    fn commit(
        &self,
        draft: u64,
        envelope: &Bound<'_, PyTuple>,
        prepend: &[u8],
        form: &str,
        cause: &Bound<'_, PyList>,
        notes: &Bound<'_, PyTuple>,
    ) -> PyResult<u64> {
        let inner = self.inner()?;
        let accepted = records::accepted(inner, envelope, records::form(form)?)?;
        let cause = records::facts(inner, cause)?;
        inner
            .commit(draft, accepted, Bytes::copy_from_slice(prepend), cause, &notes.extract::<Vec<_>>()?)
            .ok_or_else(|| PyValueError::new_err(format!("no draft {draft}")))
    }

    fn append(&self, facts: &Bound<'_, PyList>) -> PyResult<u64> {
        let inner = self.inner()?;
        Ok(inner.append(records::facts(inner, facts)?))
    }

    #[pyo3(signature = (kind, *arguments))]
    fn request(&self, kind: &str, arguments: &Bound<'_, PyTuple>) -> PyResult<u64> {
        let inner = self.inner()?;
        Ok(inner.request(records::request(inner, kind, arguments)?))
    }

    fn edit(
        &self,
        edit: &Bound<'_, PyTuple>,
        author: (String, String, u64),
        entries: Vec<edits::Entry>,
    ) -> PyResult<u64> {
        let inner = self.inner()?;
        let edit = edits::edit(inner, edit)?;
        let targets = entries.into_iter().map(|one| edits::target(inner, one)).collect::<PyResult<_>>()?;
        Ok(inner.edit(edit, edits::author(author), targets))
    }

    fn remove(
        &self,
        author: (String, String, u64),
        entry: edits::Entry,
        draft: u64,
        envelope: &Bound<'_, PyTuple>,
    ) -> PyResult<u64> {
        let inner = self.inner()?;
        let (target, form) = (edits::target(inner, entry)?, records::form("plain")?);
        let accepted = records::accepted(inner, envelope, form)?;
        inner
            .remove(edits::author(author), target, draft, accepted)
            .ok_or_else(|| PyValueError::new_err(format!("no draft {draft}")))
    }

    fn suspended_queues(&self) -> PyResult<Vec<(u32, String, String, u64)>> {
        let told = |(hop, queue): (u32, SuspendedQueue)| {
            let Author { who, why, at_ms } = queue.author;
            (hop, who, why, at_ms)
        };
        Ok(self.inner()?.suspended_queues().into_iter().map(told).collect())
    }

    #[pyo3(signature = (hop, author))]
    fn suspend_queue(&self, hop: u32, author: Option<(String, String, u64)>) -> PyResult<u64> {
        self.inner()?
            .suspend_queue(hop, author.map(edits::author))
            .ok_or_else(|| PyValueError::new_err(format!("no hop has the number {hop}")))
    }

    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for sample in self.inner()?.metrics() {
            list.append((sample.name, PyTuple::new(py, sample.labels)?, sample.value))?;
        }
        Ok(list)
    }

    fn log(&self, line: &str) -> PyResult<()> {
        self.inner()?.log(line);
        Ok(())
    }

    fn close(&mut self, py: Python<'_>) {
        if let Some(mut inner) = self.inner.take() {
            py.detach(|| inner.close());
        }
    }

    fn step(&self, py: Python<'_>, now_ms: u64) -> PyResult<()> {
        let inner = self.inner()?;
        py.detach(|| inner.step(now_ms));
        Ok(())
    }

    fn next_deadline_ms(&self) -> PyResult<Option<u64>> {
        Ok(self.inner()?.next_deadline_ms())
    }

    fn memory_connect(&self, listener: u32, peer_ip: &str) -> PyResult<MemoryPeer> {
        Ok(MemoryPeer(self.inner()?.wire().memory_connect(listener, address(peer_ip, 0)?)))
    }

    fn memory_accept(&self) -> PyResult<Option<MemoryPeer>> {
        Ok(self.inner()?.wire().memory_accept().map(MemoryPeer))
    }
}

/// Flags of content in plain form.
#[pyfunction]
pub(crate) fn content_flags(content: &Bound<'_, PyBytes>) -> u8 {
    penstock_core::smtp::chunk::plain_flags(content.as_bytes()).0
}
