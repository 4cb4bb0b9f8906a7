//! What the log can say: the values behind its records.
//!
//! Nothing here knows how it is written; `FORMAT.md` and the codec do. An *entry* is one message on its way to one next
//! hop, named by queue id and [`HopId`].

use std::fmt;

use penstock_core::flow::{Changes, ContentFlags, Form};
use penstock_core::queue_id::QueueId;
use sha2::{Digest, Sha256};

use crate::edit::{EditRecord, Suspension};

/// Log sequence number: the order in which records were handed to the writer; the first is 1.
pub type Lsn = u64;

/// The name of a next hop: a hash of its connector, kind and destination.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct HopId(pub u128);

impl fmt::Debug for HopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HopId({:032x})", self.0)
    }
}

/// How a next hop is reached. The numbers are written to disk.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[repr(u8)]
pub enum HopKind {
    /// Through a connector's smart hosts.
    SmartHost = 1,
    /// At the mail exchangers of a domain.
    Domain = 2,
    /// Into a Maildir.
    Maildir = 3,
    /// Not at all, for the time being.
    Unreachable = 4,
    /// Not at all: what comes here was set aside, and waits for an operator without expiring. The destination says why.
    Poison = 5,
}

impl HopKind {
    /// Read the number that stands for a kind on disk.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::SmartHost),
            2 => Some(Self::Domain),
            3 => Some(Self::Maildir),
            4 => Some(Self::Unreachable),
            5 => Some(Self::Poison),
            _ => None,
        }
    }
}

/// The text behind a [`HopId`].
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
pub struct HopName {
    /// The send connector or accepted domain that leads there; empty for none.
    pub connector: String,
    /// How it is reached.
    pub kind: HopKind,
    /// Where it is.
    pub destination: String,
}

impl HopName {
    /// Hash the name: the first 128 bits of SHA-256 over its parts, each behind its length.
    pub fn id(&self) -> HopId {
        let mut hash = Sha256::new();
        hash.update([self.kind as u8]);
        for text in [&self.connector, &self.destination] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        HopId(hash.finalize().iter().take(16).fold(0, |id, &octet| id << 8 | u128::from(octet)))
    }
}

/// A message that was taken, as it is acknowledged.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Accepted {
    /// When, in Unix milliseconds.
    pub received_ms: u64,
    /// The reverse-path; empty for the null one.
    pub sender: String,
    /// What came with it.
    pub params: EnvelopeParams,
    /// The receive connector; empty if it came in another way.
    pub connector: String,
    /// The peer's address.
    pub peer: String,
    /// What the peer called itself.
    pub helo: String,
    /// The session's name in logs.
    pub session: String,
    /// How the content is encoded.
    pub form: Form,
    /// What is unusual about the content.
    pub flags: ContentFlags,
    /// Octets of the message (RFC 1870), everything that was prepended included.
    pub size: u64,
    /// The Message-ID field; empty if there is none.
    pub message_id: String,
    /// The Subject field; empty if there is none.
    pub subject: String,
    /// All recipients; elsewhere they are named by their index here.
    pub recipients: Vec<RecipientRecord>,
    /// One per next hop; together they have every recipient once.
    pub entries: Vec<EntryRecord>,
}

/// Parameters of MAIL.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct EnvelopeParams {
    /// RET of RFC 3461: 0 full, 1 hdrs.
    pub ret: Option<u8>,
    /// ENVID of RFC 3461.
    pub envid: Option<String>,
    /// Whether BODY=8BITMIME was given (RFC 6152).
    pub eight_bit: bool,
    /// What few messages have.
    pub more: Option<Box<MoreParams>>,
}

/// Parameters of MAIL that few messages have.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct MoreParams {
    /// Whether SMTPUTF8 was given (RFC 6531).
    pub smtp_utf8: bool,
    /// Whether BODY=BINARYMIME was given (RFC 3030 3).
    pub binary: bool,
    /// Whether REQUIRETLS was given (RFC 8689).
    pub require_tls: bool,
    /// BY of RFC 2852.
    pub deliver_by: Option<String>,
    /// When it may be delivered at the earliest, in Unix milliseconds (RFC 4865).
    pub release_ms: Option<u64>,
    /// MT-PRIORITY of RFC 6710, -9 to 9.
    pub mt_priority: Option<i8>,
    /// AUTH of RFC 4954 5, `<>` if it was not known who submitted the message.
    pub auth_sender: Option<String>,
    /// No parameter, but as rare: what of the content was changed on its way in.
    pub changes: Changes,
}

impl MoreParams {
    /// The parameters, or nothing if there are none.
    pub fn given(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// The priority as a number of no sign: 0 to 18.
    pub(crate) fn priority_number(priority: i8) -> u8 {
        priority.saturating_add(PRIORITY_BIAS).clamp(0, 2 * PRIORITY_BIAS).unsigned_abs()
    }

    /// The priority behind such a number.
    pub(crate) fn priority_of(number: u8) -> i8 {
        i8::try_from(number).unwrap_or(i8::MAX).min(2 * PRIORITY_BIAS) - PRIORITY_BIAS
    }
}

const PRIORITY_BIAS: i8 = 9;

/// A recipient of a message.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct RecipientRecord {
    /// The forward-path's mailbox.
    pub address: String,
    /// ORCPT of RFC 3461.
    pub orcpt: Option<String>,
    /// NOTIFY of RFC 3461: bits 1 never, 2 success, 4 failure, 8 delay; 0 if it was not given.
    pub notify: u8,
}

/// A message's way to one next hop, as it was routed when the message was taken.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct EntryRecord {
    /// The next hop; known to the spool by [`register_hop`](crate::Spool::register_hop).
    pub hop: HopId,
    /// Who goes there, by index.
    pub recipients: Vec<u32>,
    /// 0 high, 1 normal, 2 low.
    pub priority: u8,
    /// Not to be tried before, in Unix milliseconds.
    pub due_ms: u64,
    /// To be given up after, in Unix milliseconds.
    pub expires_ms: u64,
    /// What keeps it from being tried; `None` for what was just taken.
    pub suspended: Option<Suspension>,
}

/// What became of a recipient in one attempt. The numbers are written to disk.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[repr(u8)]
pub enum OutcomeState {
    /// It has arrived.
    Delivered = 1,
    /// It has arrived at a server that may not report further.
    Relayed = 2,
    /// It is to be tried again.
    Deferred = 3,
    /// It cannot be delivered.
    Failed = 4,
    /// It was not delivered in time.
    Expired = 5,
    /// It may have arrived; it is to be tried again.
    InDoubt = 6,
    /// An operator removed it.
    Removed = 7,
}

impl OutcomeState {
    /// Read the number that stands for a state on disk.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Delivered),
            2 => Some(Self::Relayed),
            3 => Some(Self::Deferred),
            4 => Some(Self::Failed),
            5 => Some(Self::Expired),
            6 => Some(Self::InDoubt),
            7 => Some(Self::Removed),
            _ => None,
        }
    }

    /// Whether nothing more is to be done for the recipient.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Deferred | Self::InDoubt)
    }
}

/// One recipient's part in an attempt.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Outcome {
    /// Whose, by index.
    pub recipient: u32,
    /// What became of it.
    pub state: OutcomeState,
    /// At which stage of the attempt, by the caller's numbering.
    pub stage: u8,
    /// The reply's code; 0 if there was none.
    pub code: u16,
    /// The reply's enhanced status code (RFC 3463).
    pub enhanced: String,
    /// The reply's text, or what happened instead.
    pub text: String,
}

/// What becomes of an entry after an attempt.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Disposition {
    /// None of its recipients is left.
    Finished,
    /// It is tried again.
    Due {
        /// Not before, in Unix milliseconds.
        due_ms: u64,
    },
}

/// Where a part of an entry goes now.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct RoutedTo {
    /// The next hop.
    pub hop: HopId,
    /// Who goes there, by index.
    pub recipients: Vec<u32>,
    /// Not to be tried before, in Unix milliseconds.
    pub due_ms: u64,
}

impl Fact {
    /// The message that it is about; none if it is about a hop.
    pub(crate) fn subject(&self) -> Option<QueueId> {
        match self {
            Self::Routed { queue_id, .. } | Self::Settled { queue_id, .. } => Some(*queue_id),
            Self::Edited(record) => Some(record.queue_id),
            Self::Hop { .. } => None,
        }
    }
}

/// Something that has happened to what was taken.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Fact {
    /// Recipients of an entry go elsewhere; those not named stay. If the message already has an entry for the other hop
    /// they join it.
    Routed {
        /// The message.
        queue_id: QueueId,
        /// Where they were going.
        from: HopId,
        /// Where they go now.
        to: Vec<RoutedTo>,
    },
    /// The state of a delivery queue.
    Hop {
        /// Its next hop.
        hop: HopId,
        /// 0 the usual one, 1 in retry, 2 suspended; only queries ask what it means.
        state: u8,
        /// Why it is so.
        last_error: String,
        /// When it is tried again, in Unix milliseconds; 0 if it needs no retry.
        next_retry_ms: u64,
        /// Tries that have failed since the last success.
        failures: u32,
    },
    /// The end of an attempt.
    Settled {
        /// The message.
        queue_id: QueueId,
        /// The entry's next hop.
        hop: HopId,
        /// Which attempt, from 1; 0 if none was made (its route was looked at, or it expired).
        attempt: u32,
        /// What becomes of the entry. Recipients whose last outcome is not final keep it alive in any case.
        disposition: Disposition,
        /// What became of each recipient that the attempt was for.
        outcomes: Vec<Outcome>,
        /// With whom.
        peer: String,
        /// In which session.
        session: String,
    },
    /// An operator has changed an entry.
    Edited(Box<EditRecord>),
}
