//! The properties by which messages and queues are found, sorted and counted, with their types.
//!
//! What cannot be asked because it is not stored: of messages the spam confidence level, the directionality and the
//! original sender; of queues the rates, the velocity, and the times of the first and the last try. How many of a queue's
//! messages are deferred, or have which priority, is a grouping of messages.

/// What a query is about.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Table {
    /// Messages, one row per message and next hop: a message that waits for two is two rows, as in Exchange. Rows are in
    /// the order of their queue ids, and so of age.
    Messages,
    /// Delivery queues: next hops that have entries or a state of their own.
    Queues,
}

/// The type of a property.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Kind {
    /// A number: a size, a count, Unix milliseconds, a queue id.
    Number,
    /// A text; compared without regard to case.
    Text,
    /// Yes or no.
    Flag,
    /// The id of a next hop.
    Hop,
    /// One of these words. Sorted in this order.
    Word(&'static [&'static str]),
}

/// What has to be read to know a property; the less the better.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(super) enum Cost {
    /// The key, or the hop, of which there are few.
    Hop,
    Entry,
    Head,
    Message,
    Recipients,
}

/// Ways to a next hop, in the order of their numbers.
pub(super) const DELIVERY_TYPES: &[&str] = &["smart_host", "domain", "maildir", "unreachable", "poison"];
/// Priorities, in the order of their numbers.
pub(super) const PRIORITIES: &[&str] = &["high", "normal", "low"];
/// States of messages and queues; no message is connecting.
pub(super) const STATUSES: &[&str] = &["active", "connecting", "ready", "retry", "suspended"];
/// Why a message is where it is.
pub(super) const REASONS: &[&str] = &[
    "active",
    "in_doubt",
    "message_retry",
    "message_suspended",
    "poison",
    "queue_retry",
    "queue_suspended",
    "ready",
    "unreachable",
];

macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $tables:ident, $kind:expr, $cost:ident;)*) => {
        /// A property of messages or queues, or of both.
        #[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
        pub enum Property { $($(#[$doc])* $name,)* }

        impl Property {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Its type; `None` if the rows of a table do not have it.
            pub const fn kind(self, table: Table) -> Option<Kind> {
                let (of, kind) = match self { $(Self::$name => (Of::$tables, $kind),)* };
                match (of, table) {
                    (Of::Both, _) | (Of::Message, Table::Messages) | (Of::Queue, Table::Queues) => Some(kind),
                    _ => None,
                }
            }

            pub(super) const fn cost(self) -> Cost {
                match self { $(Self::$name => Cost::$cost,)* }
            }
        }
    };
}

enum Of {
    Both,
    Message,
    Queue,
}

properties! {
    /// The message's id.
    QueueId = "queue_id", Message, Kind::Number, Hop;
    /// The next hop.
    Hop = "hop", Both, Kind::Hop, Hop;
    /// The queue as operators know it: its connector if that has smart hosts, else its destination, or `Unreachable`.
    Queue = "queue", Both, Kind::Text, Hop;
    /// The send connector or accepted domain that leads to the next hop.
    SendConnector = "send_connector", Both, Kind::Text, Hop;
    /// How the next hop is reached.
    DeliveryType = "delivery_type", Both, Kind::Word(DELIVERY_TYPES), Hop;
    /// Where it is.
    Destination = "destination", Both, Kind::Text, Hop;
    /// What goes on with it.
    Status = "status", Both, Kind::Word(STATUSES), Entry;
    /// A message: octets. A queue: those of its messages.
    SizeBytes = "size_bytes", Both, Kind::Number, Head;
    /// A message: the last reply to one of its recipients. A queue: why it is in retry.
    LastError = "last_error", Both, Kind::Text, Recipients;
    /// When it is due; of a queue, when the first of its messages is. Unix milliseconds.
    DueMs = "due_ms", Both, Kind::Number, Entry;

    /// How many messages a queue has.
    Count = "count", Queue, Kind::Number, Hop;
    /// When the oldest of them was taken, Unix milliseconds.
    OldestMs = "oldest_ms", Queue, Kind::Number, Hop;
    /// When a queue in retry is tried again, Unix milliseconds.
    NextRetryMs = "next_retry_ms", Queue, Kind::Number, Hop;
    /// Tries of a queue that have failed since the last success.
    Failures = "failures", Queue, Kind::Number, Hop;

    /// Why a message is where it is.
    Reason = "reason", Message, Kind::Word(REASONS), Entry;
    /// The reverse-path; empty for the null one.
    Sender = "sender", Message, Kind::Text, Message;
    /// What is behind its last at sign.
    SenderDomain = "sender_domain", Message, Kind::Text, Message;
    /// The Subject field.
    Subject = "subject", Message, Kind::Text, Message;
    /// The Message-ID field.
    MessageId = "message_id", Message, Kind::Text, Message;
    /// When it was taken, Unix milliseconds.
    ReceivedMs = "received_ms", Message, Kind::Number, Head;
    /// How long ago that was, milliseconds.
    LatencyMs = "latency_ms", Message, Kind::Number, Head;
    /// When it is given up, Unix milliseconds.
    ExpiresMs = "expires_ms", Message, Kind::Number, Entry;
    /// Attempts begun.
    Attempts = "attempts", Message, Kind::Number, Entry;
    /// How urgent it is.
    Priority = "priority", Message, Kind::Word(PRIORITIES), Entry;
    /// Whether an attempt was begun whose end is not known.
    InDoubt = "in_doubt", Message, Kind::Flag, Entry;
    /// The address of the peer from which it came.
    SourceIp = "source_ip", Message, Kind::Text, Message;
    /// What that peer called itself.
    Helo = "helo", Message, Kind::Text, Message;
    /// The session in which it came.
    Session = "session", Message, Kind::Text, Message;
    /// The receive connector.
    ReceiveConnector = "receive_connector", Message, Kind::Text, Message;
    /// ENVID of RFC 3461.
    Envid = "envid", Message, Kind::Text, Message;
    /// The code of the last reply to one of its recipients.
    LastCode = "last_code", Message, Kind::Number, Recipients;
    /// The enhanced status code of that reply.
    LastEnhanced = "last_enhanced", Message, Kind::Text, Recipients;
    /// Those of its recipients that are left to do. A comparison holds if it does for one of them.
    Recipient = "recipient", Message, Kind::Text, Recipients;
    /// Their domains; as above.
    RecipientDomain = "recipient_domain", Message, Kind::Text, Recipients;
    /// How many they are.
    RecipientCount = "recipient_count", Message, Kind::Number, Entry;
}

impl Property {
    /// The property of this name that the rows of a table have.
    pub fn named(table: Table, name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.name() == name && one.kind(table).is_some())
    }

    /// Whether a row may have several of it.
    pub const fn is_many(self) -> bool {
        matches!(self, Self::Recipient | Self::RecipientDomain)
    }

    /// Whether all messages of a next hop have the same.
    pub(super) const fn is_of_hop(self) -> bool {
        matches!(self, Self::Hop | Self::Queue | Self::SendConnector | Self::DeliveryType | Self::Destination)
    }
}
