//! What operators change of what waits: how it is asked for, and what the log says of it.
//!
//! An edit is about one entry. It names the *version* of the entry that its author has seen, which is the number of the
//! last record that changed the entry, and is refused when the entry has moved on. What the log says of an edit is
//! complete: which recipients are removed or go elsewhere, and for the how-manyth time the entry is edited, so that a
//! replay comes to the same end whatever it has seen before.

use bytes::Bytes;
use penstock_core::queue_id::QueueId;

use crate::draft::Draft;
use crate::facts::{Accepted, HopId, Lsn, Outcome, RoutedTo};

/// Octets of the name of who made an edit that are kept.
pub const WHO_MAX: usize = 128;
/// Octets of the reason for an edit that are kept.
pub const WHY_MAX: usize = 512;

/// What keeps an entry from being tried. The numbers are written to disk.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[repr(u8)]
pub enum Suspension {
    /// An operator has suspended it.
    Operator = 1,
    /// It came back from a backup. It does not expire as long as it is suspended: when it was to expire may have been
    /// long ago, and nobody has looked at it yet.
    Restored = 2,
}

impl Suspension {
    /// Read the number that stands for it on disk.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Operator),
            2 => Some(Self::Restored),
            _ => None,
        }
    }
}

/// What an operator wants of an entry.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Edit {
    /// No attempt begins until it is resumed.
    Suspend(Suspension),
    /// It may be tried again when it is due.
    Resume,
    /// Its recipients get no copy.
    Remove,
    /// Its recipients go to another hop, known by [`register_hop`](crate::Spool::register_hop). The numbers of attempts
    /// begin anew there.
    Redirect {
        /// The hop.
        to: HopId,
        /// Not to be tried there before, in Unix milliseconds.
        due_ms: u64,
    },
    /// It is given up at another time, in Unix milliseconds.
    Expire {
        /// When.
        expires_ms: u64,
    },
    /// 0 high, 1 normal, 2 low.
    Prioritise {
        /// The priority.
        priority: u8,
    },
    /// It is due at another time, in Unix milliseconds.
    Due {
        /// When.
        due_ms: u64,
    },
}

/// Who makes an edit, why, and when. Texts are kept up to [`WHO_MAX`] and [`WHY_MAX`] octets, whole characters.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Author {
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

impl Author {
    /// The same with texts as long as they are kept.
    pub(crate) fn bounded(mut self) -> Self {
        self.who.truncate(self.who.floor_char_boundary(WHO_MAX));
        self.why.truncate(self.why.floor_char_boundary(WHY_MAX));
        self
    }
}

/// An entry that is to be edited.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Target {
    /// The message.
    pub queue_id: QueueId,
    /// The entry's next hop.
    pub hop: HopId,
    /// Which version of the entry the author has seen; `None` if it is to be edited whatever has become of it.
    pub version: Option<Lsn>,
}

/// A message that is to be stored if an edit is made, in the same record: the report of a removal.
pub struct Report {
    /// Its content.
    pub draft: Draft,
    /// What it is.
    pub accepted: Accepted,
    /// What is put before its content.
    pub prepend: Bytes,
}

/// What became of an edit.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Edited {
    /// It is made, and durable; what it caused is so too.
    Done {
        /// The record that says so: the entry's new version.
        lsn: Lsn,
    },
    /// The entry is so already; nothing was written.
    Unchanged {
        /// Its version.
        version: Lsn,
    },
    /// The entry has moved on; nothing was changed.
    Conflict {
        /// Its version now.
        version: Lsn,
    },
    /// There is no such entry, or not any more.
    Gone,
    /// It could not be made now, and nothing was changed: the entry was busy all the time, or the disk was full.
    Busy,
}

/// What an edit has done to an entry, as the log has it.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Change {
    /// It is suspended.
    Suspended(Suspension),
    /// It is suspended no more.
    Resumed,
    /// These recipients are removed; their outcomes say so.
    Removed(Vec<Outcome>),
    /// These recipients go elsewhere.
    Redirected(RoutedTo),
    /// It has another expiry time, in Unix milliseconds.
    Expiry(u64),
    /// It has another priority.
    Priority(u8),
    /// It has another due time, in Unix milliseconds.
    Due(u64),
}

/// The kind of a change. The numbers are written to disk.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[repr(u8)]
pub enum EditKind {
    /// [`Change::Suspended`].
    Suspend = 1,
    /// [`Change::Resumed`].
    Resume = 2,
    /// [`Change::Removed`].
    Remove = 3,
    /// [`Change::Redirected`].
    Redirect = 4,
    /// [`Change::Expiry`].
    Expire = 5,
    /// [`Change::Priority`].
    Prioritise = 6,
    /// [`Change::Due`].
    Due = 7,
}

impl EditKind {
    /// Read the number that stands for a kind on disk.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Suspend),
            2 => Some(Self::Resume),
            3 => Some(Self::Remove),
            4 => Some(Self::Redirect),
            5 => Some(Self::Expire),
            6 => Some(Self::Prioritise),
            7 => Some(Self::Due),
            _ => None,
        }
    }
}

impl Change {
    /// Its kind.
    pub const fn kind(&self) -> EditKind {
        match self {
            Self::Suspended(_) => EditKind::Suspend,
            Self::Resumed => EditKind::Resume,
            Self::Removed(_) => EditKind::Remove,
            Self::Redirected(_) => EditKind::Redirect,
            Self::Expiry(_) => EditKind::Expire,
            Self::Priority(_) => EditKind::Prioritise,
            Self::Due(_) => EditKind::Due,
        }
    }
}

/// An edit as the log has it.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct EditRecord {
    /// The message.
    pub queue_id: QueueId,
    /// The entry's next hop.
    pub hop: HopId,
    /// The how-manyth edit of the entry it is, from 1.
    pub number: u32,
    /// The version of the entry that it was made of.
    pub version: Lsn,
    /// Whose it is.
    pub author: Author,
    /// What it has done.
    pub change: Change,
}

/// The last edit of an entry.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct LastEdit {
    /// The how-manyth it was.
    pub number: u32,
    /// What it did.
    pub kind: EditKind,
    /// Whose it was.
    pub author: Author,
}

/// What of an entry an edit depends on.
pub(crate) struct Editable {
    /// The last record that changed it.
    pub(crate) version: Lsn,
    /// How often it was edited.
    pub(crate) number: u32,
    pub(crate) priority: u8,
    pub(crate) due_ms: u64,
    pub(crate) expires_ms: u64,
    pub(crate) suspended: Option<Suspension>,
    pub(crate) recipients: Vec<u32>,
}
