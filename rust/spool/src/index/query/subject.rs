//! Rows, of which only that is read and decoded which is asked for.

use std::collections::HashMap;

use heed::RoTxn;
use penstock_core::queue_id::QueueId;

use crate::facts::{HopId, HopKind, OutcomeState};
use crate::index::answer::View;
use crate::index::error::IndexError;
use crate::index::keys;
use crate::index::tables::{Row, Table, Tables};
use crate::index::unreadable::Unreadable;
use crate::index::values::{
    self, BLOCK, EntryValue, Head, HopValue, LastOutcome, MessageValue, RecipientValue,
};

use super::cursor::Key;
use super::property::{DELIVERY_TYPES, Property, REASONS, STATUSES};
use super::question::Standing;
use super::value::Datum;

/// The name of the queue of what goes nowhere.
const UNREACHABLE: &str = "Unreachable";
/// The name of the queue of what was set aside.
const POISON: &str = "Poison";
/// The state of a hop that is tried again later, by the caller's numbering; as [`Fact::Hop`](crate::Fact::Hop) has it.
const HOP_RETRY: u8 = 1;
/// The state of a hop that an operator has stopped.
const HOP_SUSPENDED: u8 = 2;
/// Rows that a follower steps over before it looks a key up: a look-up costs about as much as so many steps.
const STEPS_MAX: usize = 4;

/// What a filter, a sort or a grouping looks at.
pub(super) trait Subject {
    /// A property of which there is at most one.
    fn datum(&mut self, property: Property) -> Result<Datum<'_>, IndexError>;

    /// Whether one of the values of a property of which there may be several passes the test.
    fn any(&mut self, property: Property, test: impl FnMut(&str) -> bool) -> Result<bool, IndexError>;
}

/// Place of a word in its list; the lists are complete.
fn word(words: &[&str], word: &str) -> Datum<'static> {
    Datum::number(words.iter().position(|one| *one == word).map(|place| place as u64))
}

/// Reads a table along with a scan of another, in the order of its keys.
struct Follower<'t> {
    table: Table,
    txn: &'t RoTxn<'t>,
    rows: Option<Box<dyn Iterator<Item = Result<Row<'t>, IndexError>> + 't>>,
    present: Option<Row<'t>>,
}

impl<'t> Follower<'t> {
    fn new(table: Table, txn: &'t RoTxn<'t>) -> Self {
        Self { table, txn, rows: None, present: None }
    }

    /// Get a row that another row says is there.
    fn expect(&mut self, key: &[u8]) -> Result<&'t [u8], IndexError> {
        if let Some(rows) = &mut self.rows {
            for _ in 0..STEPS_MAX {
                match self.present {
                    Some((at, value)) if at == key => return Ok(value),
                    Some((at, _)) if at > key => break,
                    // One that cannot be read may be another's: the look-up tells.
                    _ => self.present = rows.next().and_then(Result::ok),
                }
                if self.present.is_none() {
                    break;
                }
            }
        }
        if let Some((at, value)) = self.present
            && at == key
        {
            return Ok(value);
        }
        (self.rows, self.present) = (None, None);
        let mut rows = self.table.from(self.txn, key)?;
        self.present = rows.next().transpose()?;
        self.rows = Some(Box::new(rows));
        match self.present {
            Some((at, value)) if at == key => Ok(value),
            _ => Err(IndexError::damaged(self.table.name, key, "it is missing")),
        }
    }
}

/// What rows are made from: a snapshot.
pub(super) struct Snapshot<'t> {
    pub(super) tables: &'t Tables,
    pub(super) unreadable: &'t Unreadable,
    pub(super) txn: &'t RoTxn<'t>,
    standing: &'t Standing,
    hops: HashMap<HopId, HopValue<'t>>,
    entry: Follower<'t>,
    message: Follower<'t>,
    recipient: Follower<'t>,
    /// Blocks of recipients that were read; a part of the cost.
    pub(super) blocks: u64,
}

impl<'t> Snapshot<'t> {
    pub(super) fn new(
        tables: &'t Tables,
        unreadable: &'t Unreadable,
        txn: &'t RoTxn<'t>,
        standing: &'t Standing,
    ) -> Self {
        Self {
            tables,
            unreadable,
            txn,
            standing,
            hops: HashMap::new(),
            entry: Follower::new(tables.entry, txn),
            message: Follower::new(tables.message, txn),
            recipient: Follower::new(tables.recipient, txn),
            blocks: 0,
        }
    }

    /// The row of `message` or `queue` at a place where there is one; its entry, if it was read already.
    pub(super) fn message(&mut self, key: Key, entry: Option<&'t [u8]>) -> MessageSubject<'_, 't> {
        MessageSubject { snapshot: self, key, octets: entry, entry: None, head: None, message: None }
    }

    pub(super) fn queue<'s>(
        &'s mut self,
        key: Key,
        value: &'t [u8],
    ) -> Result<QueueSubject<'s, 't>, IndexError> {
        let value = self.decode_hop(key.hop(), value)?;
        Ok(QueueSubject { snapshot: self, hop: key.hop(), value })
    }

    fn hop(&mut self, hop: HopId) -> Result<&HopValue<'t>, IndexError> {
        // Two look-ups, because a borrow that is returned lasts on the other way too.
        if !self.hops.contains_key(&hop) {
            let value = self.tables.hop.expect(self.txn, &keys::hop(hop))?;
            let value = self.decode_hop(hop, value)?;
            self.hops.insert(hop, value);
        }
        self.hops
            .get(&hop)
            .ok_or_else(|| IndexError::damaged(self.tables.hop.name, &keys::hop(hop), "it is missing"))
    }

    fn decode_hop(&self, hop: HopId, value: &'t [u8]) -> Result<HopValue<'t>, IndexError> {
        let mut value = self.tables.hop.sound(&keys::hop(hop), HopValue::decode(value))?;
        if self.standing.suspended.contains(&hop) {
            value.state = HOP_SUSPENDED;
        }
        Ok(value)
    }
}

fn of_hop<'a>(property: Property, id: HopId, hop: &HopValue<'a>) -> Datum<'a> {
    match property {
        Property::Hop => Datum::Hop(id),
        Property::Queue => Datum::text(match hop.kind {
            HopKind::SmartHost => hop.connector,
            HopKind::Unreachable => UNREACHABLE,
            HopKind::Poison => POISON,
            HopKind::Domain | HopKind::Maildir => hop.destination,
        }),
        Property::SendConnector => Datum::filled(hop.connector),
        Property::Destination => Datum::filled(hop.destination),
        Property::DeliveryType => word(
            DELIVERY_TYPES,
            match hop.kind {
                HopKind::SmartHost => "smart_host",
                HopKind::Domain => "domain",
                HopKind::Maildir => "maildir",
                HopKind::Unreachable => "unreachable",
                HopKind::Poison => "poison",
            },
        ),
        _ => Datum::Null,
    }
}

/// What is behind the last at sign.
fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

fn reply(last: &LastOutcome<'_>) -> String {
    let code = if last.code == 0 { String::new() } else { last.code.to_string() };
    let parts = [code.as_str(), last.enhanced, last.text].into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" ")
}

/// A message's row.
pub(super) struct MessageSubject<'s, 't> {
    snapshot: &'s mut Snapshot<'t>,
    pub(super) key: Key,
    octets: Option<&'t [u8]>,
    entry: Option<EntryValue>,
    head: Option<Head>,
    message: Option<MessageValue<'t>>,
}

impl<'t> MessageSubject<'_, 't> {
    fn queue_id(&self) -> QueueId {
        QueueId(self.key.queue_id)
    }

    /// Whether the entry is there.
    pub(super) fn exists(&mut self) -> Result<bool, IndexError> {
        let key = keys::entry(self.queue_id(), self.key.hop());
        self.octets = self.snapshot.tables.entry.get(self.snapshot.txn, &key)?;
        Ok(self.octets.is_some())
    }

    fn entry(&mut self) -> Result<&EntryValue, IndexError> {
        if self.entry.is_none() {
            let key = keys::entry(self.queue_id(), self.key.hop());
            let octets = match self.octets {
                Some(octets) => octets,
                None => self.snapshot.entry.expect(&key)?,
            };
            self.entry = Some(self.snapshot.tables.entry.sound(&key, EntryValue::decode(octets))?);
        }
        Ok(self.entry.as_ref().expect("invariant: it was decoded above"))
    }

    fn head(&mut self) -> Result<Head, IndexError> {
        if let Some(head) = self.head {
            return Ok(head);
        }
        let key = keys::message(self.queue_id());
        let octets = self.snapshot.message.expect(&key)?;
        let head = self.snapshot.tables.message.sound(&key, Head::decode(octets))?;
        self.head = Some(head);
        Ok(head)
    }

    fn message(&mut self) -> Result<&MessageValue<'t>, IndexError> {
        if self.message.is_none() {
            let key = keys::message(self.queue_id());
            let octets = self.snapshot.message.expect(&key)?;
            self.message = Some(self.snapshot.tables.message.sound(&key, MessageValue::decode(octets))?);
        }
        Ok(self.message.as_ref().expect("invariant: it was decoded above"))
    }

    /// Its octets, for sums.
    pub(super) fn size(&mut self) -> Result<u64, IndexError> {
        self.head().map(|head| head.size)
    }

    /// Call `visit` with those of its recipients that are left, until it says that this is enough.
    fn each_recipient(
        &mut self,
        mut visit: impl FnMut(&RecipientValue<'t>) -> bool,
    ) -> Result<(), IndexError> {
        self.entry()?;
        let Some(entry) = &self.entry else { return Ok(()) };
        let table = self.snapshot.tables.recipient;
        let (mut number, mut block) = (u32::MAX, Vec::new());
        for index in entry.recipients.iter() {
            if index / BLOCK != number {
                number = index / BLOCK;
                let key = keys::recipient(QueueId(self.key.queue_id), number);
                block = table.sound(&key, values::decode_block(self.snapshot.recipient.expect(&key)?))?;
                self.snapshot.blocks += 1;
            }
            let Some(recipient) = block.get((index % BLOCK) as usize) else {
                let key = keys::entry(QueueId(self.key.queue_id), self.key.hop());
                let what = "it has recipients that its message has not";
                return Err(IndexError::damaged(self.snapshot.tables.entry.name, &key, what));
            };
            if visit(recipient) {
                break;
            }
        }
        Ok(())
    }

    /// The first few recipients.
    pub(super) fn first_recipients(
        &mut self,
        count: usize,
        mut visit: impl FnMut(&'t str),
        part: Property,
    ) -> Result<(), IndexError> {
        let mut left = count;
        self.each_recipient(|recipient| {
            visit(if part == Property::RecipientDomain {
                domain(recipient.address)
            } else {
                recipient.address
            });
            left -= 1;
            left == 0
        })
    }

    fn last_outcome(&mut self) -> Result<Option<LastOutcome<'t>>, IndexError> {
        let mut last = None;
        self.each_recipient(|recipient| {
            last = recipient.last;
            last.is_some()
        })?;
        Ok(last)
    }

    fn standing(&mut self) -> Result<(&'static str, &'static str), IndexError> {
        let (key, standing) = (self.key, self.snapshot.standing);
        if standing.active.contains(&key) {
            return Ok(("active", "active"));
        }
        let entry = self.entry()?;
        if entry.suspended.is_some() {
            return Ok(("suspended", "message_suspended"));
        }
        let (is_due, in_doubt) = (entry.due_ms <= standing.now_ms, entry.in_doubt());
        let hop = self.snapshot.hop(key.hop())?;
        match (hop.kind, hop.state) {
            (HopKind::Unreachable, _) => return Ok(("retry", "unreachable")),
            (HopKind::Poison, _) => return Ok(("suspended", "poison")),
            (_, HOP_RETRY) => return Ok(("retry", "queue_retry")),
            (_, HOP_SUSPENDED) => return Ok(("suspended", "queue_suspended")),
            _ => {}
        }
        Ok(match (is_due, in_doubt) {
            (false, true) => ("retry", "in_doubt"),
            (false, false) => ("retry", "message_retry"),
            (true, _) => ("ready", "ready"),
        })
    }

    fn last_error(&mut self) -> Result<Datum<'t>, IndexError> {
        let waits =
            |last: &LastOutcome<'_>| matches!(last.state, OutcomeState::Deferred | OutcomeState::InDoubt);
        if let Some(last) = self.last_outcome()?.filter(waits) {
            return Ok(Datum::Text(reply(&last).into()));
        }
        let is_queues = self.standing()?.1 == "queue_retry";
        let hop = self.snapshot.hop(self.key.hop())?;
        Ok(if is_queues { Datum::filled(hop.last_error) } else { Datum::Null })
    }
}

impl Subject for MessageSubject<'_, '_> {
    fn datum(&mut self, property: Property) -> Result<Datum<'_>, IndexError> {
        let key = self.key;
        Ok(match property {
            Property::QueueId => Datum::Number(key.queue_id),
            Property::Hop => Datum::Hop(key.hop()),
            Property::Queue | Property::SendConnector | Property::DeliveryType | Property::Destination => {
                of_hop(property, key.hop(), self.snapshot.hop(key.hop())?)
            }
            Property::Status => word(STATUSES, self.standing()?.0),
            Property::Reason => word(REASONS, self.standing()?.1),
            Property::SizeBytes => Datum::Number(self.head()?.size),
            Property::ReceivedMs => Datum::Number(self.head()?.received_ms),
            Property::LatencyMs => {
                Datum::Number(self.snapshot.standing.now_ms.saturating_sub(self.head()?.received_ms))
            }
            Property::DueMs => Datum::Number(self.entry()?.due_ms),
            Property::ExpiresMs => Datum::Number(self.entry()?.expires_ms),
            Property::Attempts => Datum::Number(self.entry()?.attempts.into()),
            Property::Priority => Datum::Number(self.entry()?.priority.into()),
            Property::InDoubt => Datum::Flag(self.entry()?.in_doubt()),
            Property::RecipientCount => Datum::Number(self.entry()?.recipients.len()),
            Property::Sender => Datum::text(self.message()?.sender),
            Property::SenderDomain => Datum::text(domain(self.message()?.sender)),
            Property::Subject => Datum::filled(self.message()?.subject),
            Property::MessageId => Datum::filled(self.message()?.message_id),
            Property::SourceIp => Datum::filled(self.message()?.peer),
            Property::Helo => Datum::filled(self.message()?.helo),
            Property::Session => Datum::filled(self.message()?.session),
            Property::ReceiveConnector => Datum::filled(self.message()?.connector),
            Property::Envid => self.message()?.envid.map_or(Datum::Null, Datum::text),
            Property::LastError => self.last_error()?,
            Property::LastCode => {
                Datum::number(self.last_outcome()?.map(|last| last.code.into()).filter(|code| *code != 0))
            }
            Property::LastEnhanced => Datum::filled(self.last_outcome()?.map_or("", |last| last.enhanced)),
            Property::Recipient
            | Property::RecipientDomain
            | Property::Count
            | Property::OldestMs
            | Property::NextRetryMs
            | Property::Failures => Datum::Null,
        })
    }

    fn any(&mut self, property: Property, mut test: impl FnMut(&str) -> bool) -> Result<bool, IndexError> {
        let mut is_found = false;
        self.each_recipient(|recipient| {
            let part = if property == Property::RecipientDomain {
                domain(recipient.address)
            } else {
                recipient.address
            };
            is_found = test(part);
            is_found
        })?;
        Ok(is_found)
    }
}

/// A queue's row.
pub(super) struct QueueSubject<'s, 't> {
    snapshot: &'s mut Snapshot<'t>,
    hop: HopId,
    value: HopValue<'t>,
}

impl QueueSubject<'_, '_> {
    pub(super) fn count(&self) -> u64 {
        self.value.count
    }

    pub(super) fn bytes(&self) -> u64 {
        self.value.bytes
    }

    fn status(&self) -> &'static str {
        let standing = self.snapshot.standing;
        match self.value.state {
            _ if self.value.kind == HopKind::Poison => "suspended",
            HOP_SUSPENDED => "suspended",
            HOP_RETRY => "retry",
            _ if standing.busy.contains(&self.hop) => "active",
            _ if standing.connecting.contains(&self.hop) => "connecting",
            _ => "ready",
        }
    }
}

impl Subject for QueueSubject<'_, '_> {
    fn datum(&mut self, property: Property) -> Result<Datum<'_>, IndexError> {
        let Snapshot { tables, unreadable, txn, .. } = *self.snapshot;
        let view = View { tables, unreadable, txn };
        let value = &self.value;
        Ok(match property {
            Property::Status => word(STATUSES, self.status()),
            Property::Count => Datum::Number(value.count),
            Property::SizeBytes => Datum::Number(value.bytes),
            Property::LastError => Datum::filled(value.last_error),
            Property::NextRetryMs => Datum::number(Some(value.next_retry_ms).filter(|at_ms| *at_ms != 0)),
            Property::Failures => Datum::Number(value.failures.into()),
            Property::OldestMs if value.count > 0 => Datum::Number(view.oldest_ms(self.hop)?),
            Property::DueMs => Datum::number(view.earliest_due_ms(self.hop)?),
            _ => of_hop(property, self.hop, value),
        })
    }

    fn any(&mut self, _property: Property, _test: impl FnMut(&str) -> bool) -> Result<bool, IndexError> {
        Ok(false)
    }
}
