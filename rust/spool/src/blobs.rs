//! The files of contents that are too large for the log: one *blob* each, named by the message's queue id.
//!
//! A blob is written as `<queue-id>.new` and has its name, and both are on the disk, before the record that speaks of it
//! is handed to the writer ([`crate::spill`]). It is removed only after the checkpoint that made the end of its message
//! durable: until then a replay could bring the message back. A message that is kept keeps it until the index has let go
//! of the message, durably. What a crash leaves without a message is found at open.
//! Whoever reads a blob has its file open, and goes on reading it after it is removed: the system keeps what is open.
//!
//! A blob cannot be read for anything but its message: its header and each of its chunks have the message's id.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use penstock_core::queue_id::QueueId;

use crate::device::{self, Device, DeviceFile, Opening};
use crate::format::blob::{BlobHeader, HEADER};
use crate::format::chunk;
use crate::redo::{InBlob, LeftBlob};

/// Of blobs that are not finished yet.
const UNFINISHED: &str = ".new";

/// All blobs of a shard.
pub(crate) struct Blobs {
    device: Arc<dyn Device>,
    dir: PathBuf,
    database: u128,
    /// Those that nobody needs, still to be removed.
    dead: Mutex<Vec<LeftBlob>>,
    /// Octets of blobs, as far as messages have them or will.
    pub(crate) bytes: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) removed: AtomicU64,
}

/// What there is in the directory when it is opened.
pub(crate) struct Survey {
    /// Blobs that have their name, in order.
    pub(crate) found: Vec<QueueId>,
    /// The greatest id of any, finished or not: it has been given to a draft.
    pub(crate) greatest: Option<QueueId>,
}

impl Blobs {
    pub(crate) fn new(device: Arc<dyn Device>, dir: PathBuf, database: u128) -> Self {
        let zero = || AtomicU64::new(0);
        let (bytes, written, written_bytes, removed) = (zero(), zero(), zero(), zero());
        Self { device, dir, database, dead: Mutex::default(), bytes, written, written_bytes, removed }
    }

    fn path(&self, queue_id: QueueId) -> PathBuf {
        self.dir.join(queue_id.to_string())
    }

    fn unfinished(&self, queue_id: QueueId) -> PathBuf {
        self.dir.join(format!("{queue_id}{UNFINISHED}"))
    }

    /// See what is there; what was not finished is removed. **Blocking.**
    pub(crate) fn survey(&self) -> io::Result<Survey> {
        self.look(true)
    }

    /// See which blobs have their name, in order, and change nothing. **Blocking.**
    pub(crate) fn found(&self) -> io::Result<Vec<QueueId>> {
        self.look(false).map(|survey| survey.found)
    }

    fn look(&self, removes: bool) -> io::Result<Survey> {
        let mut survey = Survey { found: Vec::new(), greatest: None };
        for name in self.device.list(&self.dir)? {
            let stem = name.strip_suffix(UNFINISHED);
            let Ok(queue_id) = stem.unwrap_or(&name).parse::<QueueId>() else { continue };
            survey.greatest = survey.greatest.max(Some(queue_id));
            if stem.is_some() {
                if removes {
                    self.device.remove(&self.dir.join(&name))?;
                }
            } else if queue_id.to_string() == name {
                survey.found.push(queue_id);
            }
        }
        survey.found.sort_unstable();
        Ok(survey)
    }

    /// Begin a blob. **Blocking.**
    pub(crate) fn begin(&self, queue_id: QueueId) -> io::Result<Arc<dyn DeviceFile>> {
        let file = self.device.open(&self.unfinished(queue_id), Opening::New)?;
        let begun = device::write_octets(&*file, &self.header(queue_id).encode(), 0);
        begun.inspect_err(|_| self.discard(queue_id)).map(|()| file)
    }

    /// Give a blob its name, and see both on the disk. **Durability**: on return it survives power loss. **Blocking.**
    ///
    /// The name comes first, so that the sync of the file has it in the same transaction of a file system's journal, and
    /// that of the directory finds little to do. A crash in between leaves a blob without a message.
    pub(crate) fn finish(&self, queue_id: QueueId, file: &dyn DeviceFile) -> io::Result<()> {
        self.device.rename(&self.unfinished(queue_id), &self.path(queue_id))?;
        device::sync(file)?;
        device::sync_dir(&*self.device, &self.dir)
    }

    /// Count a blob that a message is about to have.
    pub(crate) fn note_written(&self, bytes: u64) {
        self.written.fetch_add(1, Relaxed);
        self.written_bytes.fetch_add(bytes, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Remove what there is of a blob that was not finished. **Blocking.**
    pub(crate) fn discard(&self, queue_id: QueueId) {
        // What stays is found by the next open.
        let _ = self.device.remove(&self.unfinished(queue_id));
        let _ = self.device.remove(&self.path(queue_id));
    }

    /// Have a blob removed that nobody needs.
    pub(crate) fn leave(&self, left: impl IntoIterator<Item = LeftBlob>) {
        self.dead.lock().extend(left);
    }

    /// Remove what nobody needs; stops when asked to. **Blocking**, for long.
    pub(crate) fn bury(&self, stop: &dyn Fn() -> bool) {
        while !stop() {
            let Some(LeftBlob { queue_id, bytes }) = self.dead.lock().pop() else { return };
            // What stays is found by the next open.
            if self.device.remove(&self.path(queue_id)).is_ok() {
                self.removed.fetch_add(1, Relaxed);
                self.bytes.fetch_sub(bytes, Relaxed);
            }
        }
    }

    fn header(&self, queue_id: QueueId) -> BlobHeader {
        BlobHeader { database: self.database, queue_id }
    }

    /// Open a message's blob; it is an error if the file is another's. **Blocking.**
    pub(crate) fn open(&self, queue_id: QueueId) -> io::Result<Arc<dyn DeviceFile>> {
        let file = self.device.open(&self.path(queue_id), Opening::Existing)?;
        let mut octets = [0; HEADER];
        let read = device::read_full(&*file, &mut octets, 0)?;
        let is_ours = read == HEADER && BlobHeader::decode(&octets) == Ok(self.header(queue_id));
        if is_ours { Ok(file) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Whether a message's blob is there, as long as it should be, with the chunks that it should have; the octets in
    /// them are checked when they are read. **Blocking.**
    pub(crate) fn is_there(&self, queue_id: QueueId, expected: InBlob) -> io::Result<bool> {
        self.is_as(queue_id, expected, false)
    }

    /// Whether a message's blob is there, and every octet of it is what was written. **Blocking**: reads all of it.
    pub(crate) fn is_whole(&self, queue_id: QueueId, expected: InBlob) -> io::Result<bool> {
        self.is_as(queue_id, expected, true)
    }

    fn is_as(&self, queue_id: QueueId, expected: InBlob, reads_octets: bool) -> io::Result<bool> {
        let file = self.open(queue_id)?;
        let end = HEADER as u64 + expected.bytes;
        let (mut at, mut sum, mut octets) = (HEADER as u64, 0, Vec::new());
        while at < end {
            let mut header = [0; chunk::HEADER];
            if device::read_full(&*file, &mut header, at)? < header.len() {
                return Ok(false);
            }
            let Ok(length) = chunk::length(header) else { return Ok(false) };
            sum = crc32c::crc32c_append(sum, &header);
            at += chunk::HEADER as u64;
            if reads_octets {
                octets.resize(length, 0);
                let read = device::read_full(&*file, &mut octets, at)?;
                if read < length || !chunk::is_whole(queue_id, header, &octets) {
                    return Ok(false);
                }
            }
            at += length as u64;
        }
        Ok(at == end && sum == expected.sum && file.size()? >= end)
    }
}

/// Compare the blobs that there are with those that messages have, both in order: tells which have no message, and how
/// many messages have none.
pub(crate) fn compare(found: &[QueueId], needed: &[(QueueId, u64)]) -> (Vec<LeftBlob>, u64) {
    let is_needed = |id: &QueueId| needed.binary_search_by_key(id, |&(needed, _)| needed).is_ok();
    let orphans = found.iter().filter(|id| !is_needed(id)).map(|&queue_id| LeftBlob { queue_id, bytes: 0 });
    let missing = needed.iter().filter(|(id, _)| found.binary_search(id).is_err()).count();
    (orphans.collect(), missing as u64)
}
