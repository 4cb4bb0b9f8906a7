//! What can go wrong, one type per operation.

use std::io;
use std::path::{Path, PathBuf};

/// Why a spool could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open; nothing was touched.
    #[error("the spool is in use by process {pid}")]
    Locked {
        /// Which process; 0 if it has not said so yet.
        pid: u32,
    },
    /// A later version has written it; nothing was touched.
    #[error("the spool has format {found}, this program knows {supported}")]
    Format {
        /// The spool's format.
        found: u32,
        /// The latest that this program knows.
        supported: u32,
    },
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// What could not be made, read or written.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// `meta.toml` is missing beside a log, or says what no version writes.
    #[error("{path}: {what}", path = path.display())]
    Meta {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// `queues.toml` says what no version writes, or was written by a later one; nothing was touched.
    #[error("{path}, line {line}: {what}", path = path.display())]
    Queues {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// A record is whole, but says what this program does not understand: a later version has written it.
    #[error("segment {segment} of the log, at {offset}: {what}")]
    Record {
        /// Number of the segment.
        segment: u64,
        /// Where in it the record begins.
        offset: u64,
        /// What is not understood.
        what: &'static str,
    },
    /// The index cannot be used.
    #[error("index: {text}")]
    Index {
        /// Why.
        text: String,
    },
}

impl OpenError {
    /// Tell what the system refused.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

/// Why a draft was not stored. Nothing of it will be found in the queue, or it was never acknowledged.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum CommitError {
    /// There was no room on the disk; nothing of it was kept.
    #[error("the disk is full")]
    Full,
    /// The log failed; the message may be found when the spool is opened again, but nobody was told that it is safe.
    #[error("the log has failed")]
    Poisoned,
}

/// Why no draft can be opened now.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum DraftRefused {
    /// Other drafts have the memory.
    #[error("too much content is being received")]
    Budget,
    /// The file system is nearly full.
    #[error("the disk is full")]
    DiskFull,
    /// The log has failed; nothing is accepted until the spool is opened anew.
    #[error("the log has failed")]
    Poisoned,
    /// The index is too far behind the log.
    #[error("the index is behind")]
    Behind,
}

/// Why a message's content could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It is neither in the queue nor kept.
    #[error("there is no such message")]
    Missing,
    /// No draft can be had.
    #[error(transparent)]
    Refused(DraftRefused),
    /// It cannot be read, or is not what it was.
    #[error("its content cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}
