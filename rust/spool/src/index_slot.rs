//! The index, which has to be opened anew when LMDB has failed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use penstock_core::queue_id::QueueId;
use rustix::fs::{self, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::device::Device;
use crate::index::query::{Budget, Execution};
use crate::index::{Index, IndexError, LetGo};
use crate::redo::{LeftBlob, Redo, SegmentUse, Stored, Watermark};
use crate::rows::{Answer, Request};

/// Why the index does not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("the index is closed since it failed")]
    Closed,
}

impl SlotError {
    /// Whether the index is no good, and has to be made anew.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Index(error) if error.is_damage())
    }
}

/// The place of the index.
pub(crate) struct IndexSlot {
    device: Arc<dyn Device>,
    path: PathBuf,
    map_bytes: u64,
    database: [u8; 16],
    index: RwLock<Option<Index>>,
}

impl IndexSlot {
    pub(crate) fn open(
        device: Arc<dyn Device>,
        path: PathBuf,
        map_bytes: u64,
        database: [u8; 16],
    ) -> Result<Self, IndexError> {
        let index = Index::open(&path, map_bytes, database)?;
        Ok(Self { device, path, map_bytes, database, index: RwLock::new(Some(index)) })
    }

    /// Ask the index.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&Index) -> Result<T, IndexError>) -> Result<T, SlotError> {
        ask(self.index.read().as_ref().ok_or(SlotError::Closed)?).map_err(Into::into)
    }

    /// Apply records; all of them, or on an error none. What is finished by that is kept until `keep_until_ms`. Tells the
    /// blobs that no message needs any more. Should the index have failed, it is opened anew the next time.
    pub(crate) fn apply(
        &self,
        redo: &[Redo],
        to: Watermark,
        keep_until_ms: Option<u64>,
    ) -> Result<Vec<LeftBlob>, SlotError> {
        self.change(|index| match keep_until_ms {
            None => index.apply(redo, to),
            Some(_) => index.apply_keeping(redo, to, keep_until_ms),
        })
    }

    /// Let go of finished messages. See [`Index::let_go`].
    pub(crate) fn let_go(&self, now_ms: u64, bytes_max: u64, limit: usize) -> Result<LetGo, SlotError> {
        self.change(|index| index.let_go(now_ms, bytes_max, limit))
    }

    /// Change the index, in one transaction.
    fn change<T>(&self, change: impl FnOnce(&Index) -> Result<T, IndexError>) -> Result<T, SlotError> {
        if self.index.read().is_none() {
            let opened = Index::open(&self.path, self.map_bytes, self.database)?;
            *self.index.write() = Some(opened);
        }
        let result = match self.device.before_index() {
            Ok(()) => self.with(change),
            Err(error) => Err(IndexError::lmdb("commit")(heed::Error::Io(error)).into()),
        };
        if matches!(result, Err(SlotError::Index(IndexError::Lmdb { .. }))) {
            *self.index.write() = None;
        }
        result
    }

    pub(crate) fn stored(&self, queue_id: QueueId) -> Result<Option<Stored>, SlotError> {
        self.with(|index| index.stored(queue_id))
    }

    pub(crate) fn answer(&self, request: &Request) -> Result<Answer, SlotError> {
        self.with(|index| index.answer(request))
    }

    pub(crate) fn query(
        &self,
        execution: &mut Execution,
        budget: Budget,
        now_ms: &dyn Fn() -> u64,
    ) -> Result<(), SlotError> {
        self.with(|index| index.query(execution, budget, now_ms))
    }

    pub(crate) fn segments(&self) -> Result<Vec<SegmentUse>, SlotError> {
        self.with(Index::segments)
    }

    /// Take room on the disk, so that the index can grow by so many octets when the disk is full. LMDB writes behind
    /// the end of its file and finds the room there; the file's length stays. **Blocking.**
    pub(crate) fn take_room(&self, bytes: u64) -> io::Result<()> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::open(self.path.join("data.mdb"), flags, Mode::empty())?;
        let length = u64::try_from(fs::fstat(&file)?.st_size).unwrap_or(0);
        match fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, length + bytes) {
            // Such a file system has no room to promise.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Close it for good; on return its file is closed.
    pub(crate) fn close(&self) {
        if let Some(index) = self.index.write().take() {
            index.close();
        }
    }
}
