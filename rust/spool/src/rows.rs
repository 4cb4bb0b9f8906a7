//! Questions to the index, and its answers.
//!
//! Every answer tells its *watermark*: all records up to that log sequence number are in it, none after it is.

use bytes::Bytes;
use penstock_core::flow::{ContentFlags, Form};
use penstock_core::queue_id::QueueId;

use crate::edit::{Edited, LastEdit, Suspension};
use crate::facts::{EnvelopeParams, HopId, HopKind, Lsn, OutcomeState};
use crate::index::query::{Budget, Execution};

/// A question. It is answered from a state that has everything that was appended before it was asked.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Request {
    /// All next hops that have entries or a state of their own.
    Hops,
    /// The first entries of a delivery queue that are due: by priority, then due time, at most `limit`.
    Refill {
        /// The delivery queue.
        hop: HopId,
        /// Entries at most.
        limit: u32,
        /// What is due later is left out, in Unix milliseconds.
        now_ms: u64,
    },
    /// Entries of any queue that have expired, the oldest first.
    Expired {
        /// The present, in Unix milliseconds.
        now_ms: u64,
        /// Entries at most.
        limit: u32,
    },
    /// A page of messages by queue id, oldest first.
    Messages {
        /// Where to go on: behind this one.
        after: Option<QueueId>,
        /// Messages at most.
        limit: u32,
        /// Only those with an entry for this next hop.
        hop: Option<HopId>,
    },
    /// One entry.
    Entry {
        /// Its message.
        queue_id: QueueId,
        /// Its next hop.
        hop: HopId,
    },
    /// One message.
    Message {
        /// Which.
        queue_id: QueueId,
    },
    /// A page of finished messages that are kept, those first that are let go of first.
    Kept {
        /// Where to go on: behind this one, by the end of its time and its name.
        after: Option<(u64, QueueId)>,
        /// Messages at most.
        limit: u32,
    },
    /// The beginning of a message's content up to the end of its header section, unstuffed.
    Header {
        /// Which.
        queue_id: QueueId,
        /// Octets at most.
        limit: u32,
    },
    /// Go on with a query, by one step. The first step is from a state that has everything that was appended before it
    /// was asked, a later one from the present state.
    Query {
        /// The query, and what it has found.
        execution: Box<Execution>,
        /// How much the step may cost.
        budget: Budget,
    },
    /// Nothing but that everything appended before is durable.
    Sync,
    /// Nothing but that everything appended before is in the index.
    Checkpoint,
}

/// An answer to a [`Request`].
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Answer {
    /// To [`Request::Hops`].
    Hops {
        /// What it reflects.
        watermark: Lsn,
        /// In the order of their ids.
        rows: Vec<HopRow>,
    },
    /// To [`Request::Refill`], [`Request::Expired`] and [`Request::Entry`].
    Entries {
        /// What it reflects.
        watermark: Lsn,
        /// Whether there are no more of them.
        complete: bool,
        /// The earliest due time behind these, in Unix milliseconds, if there is one.
        next_due_ms: Option<u64>,
        /// The entries.
        rows: Vec<EntryRow>,
    },
    /// To [`Request::Messages`].
    Messages {
        /// What it reflects.
        watermark: Lsn,
        /// Where the next page begins, if there may be one.
        next: Option<QueueId>,
        /// The messages.
        rows: Vec<MessageRow>,
    },
    /// To [`Request::Message`].
    Message {
        /// What it reflects.
        watermark: Lsn,
        /// The message, if it is in the queue.
        row: Option<Box<MessageRow>>,
    },
    /// To [`Request::Query`].
    Query {
        /// The query, and what it has found.
        execution: Box<Execution>,
    },
    /// To [`Request::Query`]: too many wait; to be asked again later. Nothing is lost of what was found.
    Busy {
        /// The query as it was.
        execution: Box<Execution>,
    },
    /// To [`Request::Kept`].
    Kept {
        /// What it reflects.
        watermark: Lsn,
        /// Where the next page begins, if there may be one.
        next: Option<(u64, QueueId)>,
        /// The messages.
        rows: Vec<KeptRow>,
    },
    /// To [`Request::Header`].
    Header {
        /// The octets; `None` if the message is gone or cannot be read.
        bytes: Option<Bytes>,
    },
    /// To [`Spool::edit`](crate::Spool::edit).
    Edited {
        /// What became of each, in order.
        results: Vec<Edited>,
    },
    /// To [`Request::Sync`] and [`Request::Checkpoint`].
    Done {
        /// Up to where it is done.
        lsn: Lsn,
    },
    /// The question could not be answered.
    Failed {
        /// Why.
        text: String,
    },
}

/// A delivery queue.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct HopRow {
    /// Its id.
    pub hop: HopId,
    /// The send connector or accepted domain that leads there.
    pub connector: String,
    /// How it is reached.
    pub kind: HopKind,
    /// Where it is.
    pub destination: String,
    /// Entries, exactly.
    pub count: u64,
    /// Octets of their messages.
    pub bytes: u64,
    /// When the oldest of them was taken, in Unix milliseconds; 0 without entries.
    pub oldest_ms: u64,
    /// When the first of them is due that is not suspended, in Unix milliseconds; `None` without such.
    pub earliest_due_ms: Option<u64>,
    /// As last told by [`Fact::Hop`](crate::Fact::Hop).
    pub state: u8,
    /// As last told.
    pub last_error: String,
    /// As last told.
    pub next_retry_ms: u64,
    /// As last told.
    pub failures: u32,
    /// Entries that are suspended, exactly.
    pub suspended: u64,
}

/// A recipient that an entry still has to serve.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct EntryRecipient {
    /// Its index in the message.
    pub index: u32,
    /// Its mailbox.
    pub address: String,
    /// Its NOTIFY bits.
    pub notify: u8,
    /// Its ORCPT.
    pub orcpt: Option<String>,
}

/// An entry, with all that an attempt needs.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct EntryRow {
    /// The message.
    pub queue_id: QueueId,
    /// The next hop.
    pub hop: HopId,
    /// 0 high, 1 normal, 2 low.
    pub priority: u8,
    /// Whose mail it is, for fairness: a hash of the sender.
    pub lane: u64,
    /// Not to be tried before, in Unix milliseconds.
    pub due_ms: u64,
    /// Attempts begun.
    pub attempts: u32,
    /// To be given up after, in Unix milliseconds.
    pub expires_ms: u64,
    /// When the message was taken, in Unix milliseconds.
    pub received_ms: u64,
    /// The reverse-path.
    pub sender: String,
    /// Those that are left.
    pub recipients: Vec<EntryRecipient>,
    /// Octets of the message.
    pub size: u64,
    /// What is unusual about its content.
    pub flags: ContentFlags,
    /// How its content is encoded.
    pub form: Form,
    /// Its Message-ID field.
    pub message_id: String,
    /// Its parameters.
    pub params: EnvelopeParams,
    /// Whether an attempt was begun whose end is not known.
    pub in_doubt: bool,
    /// The last record that changed it.
    pub version: Lsn,
    /// What keeps it from being tried.
    pub suspended: Option<Suspension>,
}

/// A message.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct MessageRow {
    /// Its name.
    pub queue_id: QueueId,
    /// The reverse-path.
    pub sender: String,
    /// When it was taken, in Unix milliseconds.
    pub received_ms: u64,
    /// Its octets.
    pub size: u64,
    /// Its Message-ID field.
    pub message_id: String,
    /// Its Subject field.
    pub subject: String,
    /// The receive connector.
    pub connector: String,
    /// The peer it came from.
    pub peer: String,
    /// What that called itself.
    pub helo: String,
    /// Its parameters.
    pub params: EnvelopeParams,
    /// All recipients.
    pub recipients: Vec<MessageRecipient>,
    /// What is left to do.
    pub entries: Vec<MessageEntry>,
}

/// A finished message whose content is kept, so that it can be sent once more.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct KeptRow {
    /// Its name.
    pub queue_id: QueueId,
    /// Until when it is kept at most, in Unix milliseconds.
    pub until_ms: u64,
    /// The reverse-path.
    pub sender: String,
    /// When it was taken, in Unix milliseconds.
    pub received_ms: u64,
    /// Its octets.
    pub size: u64,
    /// Its Message-ID field.
    pub message_id: String,
    /// Its Subject field.
    pub subject: String,
    /// Its parameters.
    pub params: EnvelopeParams,
    /// How its content is encoded.
    pub form: Form,
    /// What is unusual about its content.
    pub flags: ContentFlags,
    /// All recipients.
    pub recipients: Vec<MessageRecipient>,
}

/// A recipient with its last outcome.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct MessageRecipient {
    /// Its index in the message.
    pub index: u32,
    /// Its mailbox.
    pub address: String,
    /// What became of it last; `None` before the first attempt.
    pub state: Option<OutcomeState>,
    /// The last reply's code; 0 if there was none.
    pub code: u16,
    /// The last reply's enhanced status code.
    pub enhanced: String,
    /// The last reply's text.
    pub text: String,
}

/// An entry as part of its message.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct MessageEntry {
    /// The next hop.
    pub hop: HopId,
    /// The send connector or accepted domain that leads there.
    pub connector: String,
    /// How it is reached.
    pub kind: HopKind,
    /// Where it is.
    pub destination: String,
    /// Not to be tried before, in Unix milliseconds.
    pub due_ms: u64,
    /// Attempts begun.
    pub attempts: u32,
    /// To be given up after, in Unix milliseconds.
    pub expires_ms: u64,
    /// 0 high, 1 normal, 2 low.
    pub priority: u8,
    /// Those that are left, by index.
    pub recipients: Vec<u32>,
    /// Whether an attempt was begun whose end is not known.
    pub in_doubt: bool,
    /// The last record that changed it.
    pub version: Lsn,
    /// What keeps it from being tried.
    pub suspended: Option<Suspension>,
    /// What an operator did to it last.
    pub edit: Option<LastEdit>,
}
