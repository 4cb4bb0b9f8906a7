//! The spool: a log that makes messages durable, and an index that can be asked about them.
//!
//! The *log* is a row of segment files in which every accepted message lies with its content, and everything that
//! happened to it since; one sync makes a group of messages durable, and that is all that an acknowledgement waits for.
//! The *index* is the queue's whole state in LMDB, brought up to a position in the log, its watermark, by checkpoints.
//! At open, what the log says behind the watermark is replayed.
//!
//! ```text
//!  commit, append, started                              content                request
//!        │                                                 │                     │
//!      inbox ──► log_writer ──► sync ──► Committed       reader                  │
//!                    │            │                        │                     │
//!                 pending ────────┴──► checkpointer ──► index ──► Checkpoint, Answer
//!                                                         └─────► queries, Answer
//! ```
//!
//! The map: `format` is the log's octets, pure; `device` the seam to the disk; `inbox`, `layout`, `log_writer` and
//! `core` the way into the log; `segments`, `space` and `cleaner` its files; `brake` what keeps repeats after a power
//! loss few; `pending`, `checkpointer` and `index` the way into
//! the index; `draft`, `budget` and `spill` content on its way in, `blobs` the files of what is large, `reader` content
//! on its way out; `queries` what is asked at length; `scan`, `cancel`,
//! `renew`, `recovery` and `meta` the start, `salvage` the start without an index. `threads` drives it all, or in inline
//! mode the caller does. `FORMAT.md` has every octet on disk.
//!
//! # Invariants
//!
//! * Nothing is told to be committed before a sync that began after it was written has succeeded.
//! * A sync that failed is not tried again; nothing is told to be committed after it.
//! * The index has nothing that is not durable in the log.
//! * No page of the log that a sync has covered is written again until its segment has a new nonce.
//! * A segment is given up only after a checkpoint that leaves nothing in it, and while nobody has it; before that it is
//!   noted up to where an index must go from then on.
//! * No record names a blob that is not on the disk, and none is removed before its message has left the index, durably: when it is
//!   finished, or let go of.
//!
//! Not here: SMTP, sockets, policy, and what the numbers of stages mean.

#![deny(unsafe_code)]

mod bell;
mod blobs;
mod brake;
mod budget;
mod cancel;
mod checkpointer;
mod cleaner;
mod clock;
mod config;
mod core;
mod device;
mod draft;
mod edit;
mod edits;
mod errors;
mod events;
mod facts;
mod floor;
mod fold;
mod format;
mod gate;
mod header;
mod hops;
mod ids;
mod inbox;
mod index;
mod index_slot;
mod jobs;
mod layout;
mod log_writer;
mod meta;
mod pending;
mod queries;
mod queues;
mod reader;
mod recovery;
mod redo;
mod renew;
mod requests;
mod rows;
mod salvage;
mod scan;
mod segments;
mod space;
mod spill;
mod spool;
mod statistics;
pub mod testing;
mod threads;
pub mod tools;

pub use clock::{Clock, SystemClock};
pub use config::SpoolConfig;
pub use device::{Device, DeviceFile, FileDevice, Lock, Opening};
pub use draft::{Draft, Drafts, FilePart, Look};
pub use edit::{
    Author, Change, Edit, EditKind, EditRecord, Edited, LastEdit, Report, Suspension, Target, WHO_MAX,
    WHY_MAX,
};
pub use errors::{CommitError, CopyError, DraftRefused, OpenError};
pub use events::{SpoolEvent, SpoolSink};
pub use facts::{
    Accepted, Disposition, EntryRecord, EnvelopeParams, Fact, HopId, HopKind, HopName, Lsn, MoreParams,
    Outcome, OutcomeState, RecipientRecord, RoutedTo,
};
pub use index::query::{
    Budget, Cursor, DEPTH_MAX, Execution, Filter, GROUPS_MAX, Group, Key, Kind, LISTED_MAX, NODES_MAX,
    Operator, Property, Query, QueryError, QueryRow, RECIPIENTS_TOLD, SORTED_BYTES, SORTS_MAX, Sort,
    Standing, Sum, TEXT_BYTES_MAX, TOP_MAX, Table, TopGroups, Tree, Value, WILDCARDS_MAX, Want,
};
pub use queues::SuspendedQueue;
pub use reader::StoredContent;
pub use recovery::Recovery;
pub use redo::InDoubt;
pub use rows::{
    Answer, EntryRecipient, EntryRow, HopRow, KeptRow, MessageEntry, MessageRecipient, MessageRow, Request,
};
pub use salvage::Salvaged;
pub use spool::Spool;
pub use statistics::{BUCKETS, GROUP_MESSAGES, Histogram, SYNC_MICROS, Statistics};
