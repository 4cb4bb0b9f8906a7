//! Whether the tables agree with each other: what `FORMAT.md` says holds in every snapshot.

use std::collections::HashMap;

use heed::RoTxn;
use penstock_core::queue_id::QueueId;

use crate::facts::HopId;

use super::batch::Before;
use super::error::IndexError;
use super::keeping::Kept;
use super::keys::{self, Ready, TIMER_EXPIRY, Timer};
use super::meta;
use super::tables::{Table, Tables};
use super::values::{self, BLOCK, EntryValue, FinishedValue, Head, HopValue};

/// Where a message's content is said to be, and where it ends there.
pub(crate) struct Place {
    pub(crate) queue_id: QueueId,
    pub(crate) segment: u64,
    pub(crate) end: u64,
}

/// Check all tables; tells each thing that is wrong, and where each message's content should be.
pub(super) fn check(
    tables: &Tables,
    txn: &RoTxn<'_>,
    wrong: &mut dyn FnMut(String),
    place: &mut dyn FnMut(Place),
) -> Result<(), IndexError> {
    let mut check = Check {
        tables,
        txn,
        wrong,
        hops: HashMap::new(),
        segments: HashMap::new(),
        entries: 0,
        ready: 0,
        timers: 0,
        begun: 0,
        blobs: 0,
        finished: 0,
        kept: Kept::default(),
    };
    for row in tables.message.all(txn)? {
        let (key, value) = row?;
        let queue_id = tables.message.sound(key, keys::read_message(key))?;
        let head = tables.message.sound(key, Head::decode(value))?;
        check.message(queue_id, &head)?;
        let location = head.stored.location;
        let end = location.offset.saturating_add(location.length);
        place(Place { queue_id, segment: location.segment, end });
    }
    for row in tables.finished.all(txn)? {
        let (key, value) = row?;
        let queue_id = tables.finished.sound(key, keys::read_message(key))?;
        let FinishedValue { until_ms, message } = tables.finished.sound(key, FinishedValue::decode(value))?;
        check.kept(queue_id, until_ms, &message.head)?;
        let location = message.head.stored.location;
        let end = location.offset.saturating_add(location.length);
        place(Place { queue_id, segment: location.segment, end });
    }
    check.totals()
}

struct Check<'c> {
    tables: &'c Tables,
    txn: &'c RoTxn<'c>,
    wrong: &'c mut dyn FnMut(String),
    /// Entries, their octets and those that are suspended of each hop, messages and octets of each segment, as they are.
    hops: HashMap<HopId, (u64, u64, u64)>,
    segments: HashMap<u64, (u64, u64)>,
    entries: u64,
    /// Of these, those that have a row in `ready`, and in `timer`.
    ready: u64,
    timers: u64,
    begun: u64,
    blobs: u64,
    finished: u64,
    kept: Kept,
}

impl Check<'_> {
    fn message(&mut self, queue_id: QueueId, head: &Head) -> Result<(), IndexError> {
        let (table, key) = (self.tables.entry, keys::message(queue_id));
        let mut taken = super::set::RecipientSet::default();
        let mut count = 0;
        for row in table.prefix(self.txn, &key)? {
            let (key, value) = row?;
            let (_, hop) = table.sound(key, keys::read_entry(key))?;
            let entry = table.sound(key, EntryValue::decode(value))?;
            count += 1;
            if !taken.intersection(&entry.recipients).is_empty() {
                (self.wrong)(format!("message {queue_id}: a recipient is in two of its entries"));
            }
            taken = taken.union(&entry.recipients);
            self.entry(queue_id, hop, &entry)?;
            let counters = self.hops.entry(hop).or_default();
            let suspended = counters.2 + u64::from(entry.suspended.is_some());
            *counters = (counters.0 + 1, counters.1 + head.size, suspended);
        }
        if count == 0 {
            (self.wrong)(format!("message {queue_id}: it has no entry"));
        }
        if taken.last() >= Some(head.recipients) {
            (self.wrong)(format!("message {queue_id}: an entry has recipients that the message has not"));
        }
        self.entries += count;
        self.body(queue_id, head)
    }

    /// Check one that is finished and kept.
    fn kept(&mut self, queue_id: QueueId, until_ms: u64, head: &Head) -> Result<(), IndexError> {
        self.finished += 1;
        self.kept.add(head.stored.location);
        let key = keys::message(queue_id);
        if self.tables.message.get(self.txn, &key)?.is_some() {
            (self.wrong)(format!("message {queue_id}: it is in the queue, and finished"));
            return Ok(());
        }
        if self.tables.entry.prefix(self.txn, &key)?.next().is_some() {
            (self.wrong)(format!("message {queue_id}: it is finished, and has an entry"));
        }
        if self.tables.kept.get(self.txn, &keys::kept(until_ms, queue_id))?.is_none() {
            (self.wrong)(format!("message {queue_id}: its row in {} is missing", self.tables.kept.name));
        }
        self.body(queue_id, head)
    }

    /// Check what a message has whether it is finished or not.
    fn body(&mut self, queue_id: QueueId, head: &Head) -> Result<(), IndexError> {
        let key = keys::message(queue_id);
        let location = head.stored.location;
        let table = self.tables.blob;
        let told = table.get(self.txn, &key)?;
        let told = told.map(|value| table.sound(&key, values::decode_numbers::<1>(value))).transpose()?;
        if told != location.blob.map(|blob| [blob.bytes]) {
            (self.wrong)(format!("message {queue_id}: its row in {} is not what it should be", table.name));
        }
        self.blobs += u64::from(location.blob.is_some());
        let counters = self.segments.entry(location.segment).or_default();
        *counters = (counters.0 + 1, counters.1 + location.record_bytes);
        let table = self.tables.recipient;
        let mut recipients = 0;
        for number in 0..head.recipients.div_ceil(BLOCK) {
            let key = keys::recipient(queue_id, number);
            let Some(value) = table.get(self.txn, &key)? else {
                (self.wrong)(format!("message {queue_id}: block {number} of its recipients is missing"));
                return Ok(());
            };
            recipients += table.sound(&key, values::decode_block(value))?.len() as u64;
        }
        if recipients != u64::from(head.recipients) {
            (self.wrong)(format!(
                "message {queue_id}: it has {recipients} recipients, not {}",
                head.recipients
            ));
        }
        Ok(())
    }

    fn entry(&mut self, queue_id: QueueId, hop: HopId, entry: &EntryValue) -> Result<(), IndexError> {
        let now = Before::of(entry);
        let (is_ready, expires) = (now.ready().is_some(), now.expires_ms().is_some());
        self.ready += u64::from(is_ready);
        self.timers += u64::from(expires);
        let ready = Ready { hop, priority: entry.priority, due_ms: entry.due_ms, queue_id };
        let timer = Timer { kind: TIMER_EXPIRY, at_ms: entry.expires_ms, queue_id, hop };
        let own = keys::entry(queue_id, hop);
        self.begun += u64::from(entry.in_doubt());
        for (table, key, is_wanted) in [
            (self.tables.ready, &ready.key()[..], is_ready),
            (self.tables.timer, &timer.key()[..], expires),
            (self.tables.arrival, &keys::arrival(hop, queue_id)[..], true),
            (self.tables.started, &own[..], entry.in_doubt()),
        ] {
            if table.get(self.txn, key)?.is_some() != is_wanted {
                let word = if is_wanted { "is missing" } else { "is left over" };
                (self.wrong)(format!("message {queue_id}: its row in {} {word}", table.name));
            }
        }
        Ok(())
    }

    /// Compare what was counted with what the tables say.
    fn totals(&mut self) -> Result<(), IndexError> {
        let tables = self.tables;
        let expected: [(Table, u64); 7] = [
            (tables.entry, self.entries),
            (tables.ready, self.ready),
            (tables.timer, self.timers),
            (tables.arrival, self.entries),
            (tables.started, self.begun),
            (tables.blob, self.blobs),
            (tables.kept, self.finished),
        ];
        for (table, expected) in expected {
            let rows = table.rows(self.txn)?;
            if rows != expected {
                (self.wrong)(format!("table {}: it has {rows} rows, not {expected}", table.name));
            }
        }
        for row in tables.hop.all(self.txn)? {
            let (key, value) = row?;
            let hop = tables.hop.sound(key, keys::read_hop(key))?;
            let value = tables.hop.sound(key, HopValue::decode(value))?;
            let own = self.hops.remove(&hop).unwrap_or_default();
            if own != (value.count, value.bytes, value.suspended) {
                let name = value.destination;
                (self.wrong)(format!(
                    "queue {name}: it is said to have {} entries, and has {}",
                    value.count, own.0
                ));
            }
        }
        for row in tables.segment.all(self.txn)? {
            let (key, value) = row?;
            let segment = tables.segment.sound(key, keys::read_segment(key))?;
            let [bytes, count] = tables.segment.sound(key, values::decode_numbers(value))?;
            if self.segments.remove(&segment).unwrap_or_default() != (count, bytes) {
                (self.wrong)(format!("segment {segment}: what it holds was counted wrong"));
            }
        }
        if meta::kept(tables.meta, self.txn)? != self.kept {
            (self.wrong)("what is kept of finished messages was counted wrong".into());
        }
        let (hops, segments) = (self.hops.len(), self.segments.len());
        if hops + segments > 0 {
            (self.wrong)(format!("{hops} queues and {segments} segments have no row"));
        }
        Ok(())
    }
}
