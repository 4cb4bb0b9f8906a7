//! Puts what a batch comes to into the tables, table by table and each in the order of its keys.
//!
//! The counters of hops and segments change in the same transaction as what they count.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use heed::{RoTxn, RwTxn};
use penstock_core::queue_id::QueueId;

use crate::facts::{HopId, HopName, Outcome, OutcomeState};
use crate::redo::{LeftBlob, Location};

use super::batch::{Before, HopState, Message, Origin, Slot, Work};
use super::error::IndexError;
use super::keeping::Kept;
use super::keys::{self, Ready, TIMER_EXPIRY, Timer};
use super::meta;
use super::tables::{Table, Tables};
use super::unreadable::Unreadable;
use super::values::{
    self, BLOCK, FinishedValue, HopValue, LastOutcome, MessageValue, PRESENT, RecipientValue, TEXT_MAX,
    bounded,
};

/// How a pair of counters changes: of a hop its entries and their octets, of a segment its messages and theirs.
#[derive(Copy, Clone, Default, Eq, PartialEq)]
struct Change {
    count: i64,
    bytes: i64,
    /// Of the entries, those that are suspended.
    suspended: i64,
}

impl Change {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes.cast_signed();
    }

    fn remove(&mut self, bytes: u64) {
        self.count -= 1;
        self.bytes -= bytes.cast_signed();
    }

    /// Change these counters; `None` if one would have counted something that was not there.
    fn apply(self, count: u64, bytes: u64) -> Option<(u64, u64)> {
        Some((count.checked_add_signed(self.count)?, bytes.checked_add_signed(self.bytes)?))
    }
}

/// Write all of `work`; messages that are finished by it, and have arrived anywhere, are kept until `keep_until_ms`. Tells
/// whose blobs nobody needs any more.
pub(super) fn write(
    tables: &Tables,
    unreadable: &Unreadable,
    txn: &mut RwTxn<'_>,
    work: Work<'_>,
    keep_until_ms: Option<u64>,
) -> Result<Vec<LeftBlob>, IndexError> {
    let Work { messages, states, names, greatest: _ } = work;
    let (mut written, mut left) = (Vec::with_capacity(messages.len()), Vec::new());
    for (queue_id, message) in messages {
        let fate = fate(tables, unreadable, txn, queue_id, &message, keep_until_ms)?;
        let unneeded = message.left_blob(fate != Fate::Gone);
        left.extend(unneeded.map(|bytes| LeftBlob { queue_id, bytes }));
        let leaves_nothing = fate == Fate::Gone && !matches!(message.origin, Origin::Stored(_));
        if !(matches!(message.origin, Origin::Absent | Origin::Unreadable) || leaves_nothing) {
            written.push((queue_id, message, fate));
        }
    }
    written.sort_unstable_by_key(|&(queue_id, ..)| queue_id);
    let mut writer = Writer { tables, unreadable, txn, buffer: Vec::new() };
    writer.messages(&written)?;
    writer.finished(&written)?;
    writer.recipients(&written)?;
    writer.entries(&written)?;
    writer.started(&written)?;
    writer.places(&written)?;
    writer.hops(&written, &states, &names)?;
    writer.segments(&written)?;
    writer.blobs(&written)?;
    Ok(left)
}

/// What becomes of a message.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Fate {
    /// Something is left to do for it.
    Alive,
    /// Nothing is, and it is kept until then.
    Kept(u64),
    /// It leaves no trace.
    Gone,
}

fn fate(
    tables: &Tables,
    unreadable: &Unreadable,
    txn: &RoTxn<'_>,
    queue_id: QueueId,
    message: &Message<'_>,
    keep_until_ms: Option<u64>,
) -> Result<Fate, IndexError> {
    if message.is_alive() {
        return Ok(Fate::Alive);
    }
    if let Origin::Kept(_, until_ms) = message.origin {
        return Ok(Fate::Kept(until_ms));
    }
    let Some(until_ms) = keep_until_ms else { return Ok(Fate::Gone) };
    let is_wanted = message.was_kept
        || message.outcomes.iter().any(|outcome| has_arrived(outcome.state))
        || unreadable.skip(had_arrived(tables, txn, queue_id, message))?.unwrap_or(true);
    Ok(if is_wanted { Fate::Kept(until_ms) } else { Fate::Gone })
}

fn has_arrived(state: OutcomeState) -> bool {
    matches!(state, OutcomeState::Delivered | OutcomeState::Relayed)
}

/// Whether the index knows of a recipient of a message whom it has reached. If it cannot tell, the message may have
/// arrived.
fn had_arrived(
    tables: &Tables,
    txn: &RoTxn<'_>,
    queue_id: QueueId,
    message: &Message<'_>,
) -> Result<bool, IndexError> {
    let Origin::Stored(head) = &message.origin else { return Ok(false) };
    for number in 0..head.recipients.div_ceil(BLOCK) {
        let key = keys::recipient(queue_id, number);
        let block = tables.recipient.expect(txn, &key)?;
        let block = tables.recipient.sound(&key, values::decode_block(block))?;
        if block.iter().any(|one| one.last.is_some_and(|last| has_arrived(last.state))) {
            return Ok(true);
        }
    }
    Ok(false)
}

const TOO_SMALL: &str = "its counters are too small";

type Messages<'a> = [(QueueId, Message<'a>, Fate)];

struct Writer<'w, 'e> {
    tables: &'w Tables,
    unreadable: &'w Unreadable,
    txn: &'w mut RwTxn<'e>,
    /// Where every value is encoded.
    buffer: Vec<u8>,
}

impl Writer<'_, '_> {
    fn messages(&mut self, messages: &Messages<'_>) -> Result<(), IndexError> {
        let table = self.tables.message;
        let rows = table.ascending(self.txn)?;
        for (queue_id, message, fate) in messages {
            let key = keys::message(*queue_id);
            self.buffer.clear();
            match (&message.origin, fate) {
                (Origin::Accepted(accepted), Fate::Alive) => {
                    MessageValue::of(accepted, message.location).encode(&mut self.buffer);
                    rows.put(self.txn, &key, &self.buffer)?;
                }
                (Origin::Stored(head), Fate::Alive) if message.location != head.stored.location => {
                    let value = table.expect(self.txn, &key);
                    let value = value.and_then(|value| table.sound(&key, MessageValue::decode(value)));
                    let Some(mut value) = self.unreadable.skip(value)? else { continue };
                    value.head.stored.location = message.location;
                    value.encode(&mut self.buffer);
                    rows.put(self.txn, &key, &self.buffer)?;
                }
                (Origin::Stored(_), Fate::Gone) => rows.delete(self.txn, &key)?,
                // The rest stays where it is, is in `finished`, or will be.
                _ => {}
            }
        }
        Ok(())
    }

    fn blobs(&mut self, messages: &Messages<'_>) -> Result<(), IndexError> {
        let rows = self.tables.blob.ascending(self.txn)?;
        for (queue_id, message, fate) in messages {
            let key = keys::message(*queue_id);
            let before = message.blob_before();
            match message.location.blob.filter(|_| *fate != Fate::Gone) {
                now if now == before => {}
                Some(now) => {
                    self.buffer.clear();
                    values::encode_numbers(&[now.bytes], &mut self.buffer);
                    rows.put(self.txn, &key, &self.buffer)?;
                }
                None => rows.delete(self.txn, &key)?,
            }
        }
        Ok(())
    }

    /// Write those that are finished and kept.
    fn finished(&mut self, messages: &Messages<'_>) -> Result<(), IndexError> {
        let Tables { message: present, kept, finished, meta, .. } = *self.tables;
        let mut total: Option<Kept> = None;
        for (queue_id, message, fate) in messages {
            let Fate::Kept(until_ms) = *fate else { continue };
            let (key, until) = (keys::message(*queue_id), keys::kept(until_ms, *queue_id));
            let total = match &mut total {
                Some(total) => total,
                none => none.insert(meta::kept(meta, self.txn)?),
            };
            self.buffer.clear();
            match &message.origin {
                Origin::Accepted(accepted) => {
                    let message = MessageValue::of(accepted, message.location);
                    FinishedValue { until_ms, message }.encode(&mut self.buffer);
                }
                Origin::Stored(_) => {
                    let value = present.expect(self.txn, &key);
                    let value = value.and_then(|value| present.sound(&key, MessageValue::decode(value)));
                    let Some(mut value) = self.unreadable.skip(value)? else { continue };
                    value.head.stored.location = message.location;
                    FinishedValue { until_ms, message: value }.encode(&mut self.buffer);
                    present.delete(self.txn, &key)?;
                }
                Origin::Kept(head, _) => {
                    let value = finished.expect(self.txn, &key);
                    let value = value.and_then(|value| finished.sound(&key, FinishedValue::decode(value)));
                    let Some(mut value) = self.unreadable.skip(value)? else { continue };
                    value.message.head.stored.location = message.location;
                    value.encode(&mut self.buffer);
                    total.remove(head.stored.location);
                }
                Origin::Absent | Origin::Unreadable => continue,
            }
            total.add(message.location);
            finished.put(self.txn, &key, &self.buffer)?;
            kept.put(self.txn, &until, &PRESENT)?;
        }
        total.map_or(Ok(()), |total| meta::put_kept(meta, self.txn, total))
    }

    fn recipients(&mut self, messages: &Messages<'_>) -> Result<(), IndexError> {
        let table = self.tables.recipient;
        let rows = table.ascending(self.txn)?;
        for (queue_id, message, fate) in messages {
            match &message.origin {
                Origin::Accepted(accepted) => {
                    let last: BTreeMap<u32, &Outcome> = last_outcomes(message);
                    for (number, records) in (0..).zip(accepted.recipients.chunks(BLOCK as usize)) {
                        let mut block: Vec<_> = records.iter().map(RecipientValue::of).collect();
                        note(&mut block, number, &last);
                        self.buffer.clear();
                        values::encode_block(&block, &mut self.buffer);
                        rows.put(self.txn, &keys::recipient(*queue_id, number), &self.buffer)?;
                    }
                }
                Origin::Stored(_) if *fate != Fate::Gone => {
                    let last = last_outcomes(message);
                    let numbers: BTreeSet<u32> = last.keys().map(|index| index / BLOCK).collect();
                    for number in numbers {
                        let key = keys::recipient(*queue_id, number);
                        let block = table.expect(self.txn, &key);
                        let block = block.and_then(|block| table.sound(&key, values::decode_block(block)));
                        let Some(mut block) = self.unreadable.skip(block)? else { continue };
                        note(&mut block, number, &last);
                        self.buffer.clear();
                        values::encode_block(&block, &mut self.buffer);
                        rows.put(self.txn, &key, &self.buffer)?;
                    }
                }
                Origin::Stored(head) => {
                    for number in 0..head.recipients.div_ceil(BLOCK) {
                        rows.delete(self.txn, &keys::recipient(*queue_id, number))?;
                    }
                }
                Origin::Absent | Origin::Kept(..) | Origin::Unreadable => {}
            }
        }
        Ok(())
    }

    fn entries(&mut self, messages: &Messages<'_>) -> Result<(), IndexError> {
        let rows = self.tables.entry.ascending(self.txn)?;
        for (queue_id, slot) in slots(messages) {
            let key = keys::entry(queue_id, slot.hop);
            match &slot.now {
                Some(entry) if slot.changed => {
                    self.buffer.clear();
                    entry.encode(&mut self.buffer);
                    rows.put(self.txn, &key, &self.buffer)?;
                }
                None if slot.before.is_some() => rows.delete(self.txn, &key)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn started(&mut self, messages: &Messages<'_>) -> Result<(), IndexError> {
        let rows = self.tables.started;
        for (queue_id, slot) in slots(messages) {
            let key = keys::entry(queue_id, slot.hop);
            match (slot.now.as_ref().filter(|entry| entry.in_doubt()), slot.peer) {
                (Some(entry), Some(peer)) => {
                    self.buffer.clear();
                    values::encode_started(entry.attempts, bounded(peer, TEXT_MAX), &mut self.buffer);
                    rows.put(self.txn, &key, &self.buffer)?;
                }
                (None, _) if slot.before.is_some_and(|before| before.in_doubt) => {
                    rows.delete(self.txn, &key)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Write where the entries stand in `ready`, `timer` and `arrival`.
    fn places(&mut self, messages: &Messages<'_>) -> Result<(), IndexError> {
        let (mut ready, mut timer, mut arrival) = (Vec::new(), Vec::new(), Vec::new());
        for (queue_id, message, _) in messages {
            for slot in &message.entries {
                let now = slot.now.as_ref().map(Before::of);
                let (queue_id, hop) = (*queue_id, slot.hop);
                moved(slot.before, now, &mut ready, |entry| {
                    let (priority, due_ms) = entry.ready()?;
                    Some(Ready { hop, priority, due_ms, queue_id }.key())
                });
                moved(slot.before, now, &mut timer, |entry| {
                    let (kind, at_ms) = (TIMER_EXPIRY, entry.expires_ms()?);
                    Some(Timer { kind, at_ms, queue_id, hop }.key())
                });
                if slot.before.is_some() != now.is_some() {
                    let key = keys::arrival(hop, queue_id);
                    arrival.push((key, now.map(|_| message.received_ms())));
                }
            }
        }
        self.place(self.tables.ready, ready)?;
        self.place(self.tables.timer, timer)?;
        arrival.sort_unstable();
        let rows = self.tables.arrival.ascending(self.txn)?;
        for (key, received_ms) in arrival {
            let Some(received_ms) = received_ms else {
                rows.delete(self.txn, &key)?;
                continue;
            };
            self.buffer.clear();
            values::encode_numbers(&[received_ms], &mut self.buffer);
            rows.put(self.txn, &key, &self.buffer)?;
        }
        Ok(())
    }

    fn place(&mut self, table: Table, mut places: Vec<Place>) -> Result<(), IndexError> {
        places.sort_unstable();
        let rows = table.ascending(self.txn)?;
        for (key, is_there) in places {
            if is_there {
                rows.put(self.txn, &key, &PRESENT)?;
            } else {
                rows.delete(self.txn, &key)?;
            }
        }
        Ok(())
    }

    fn hops(
        &mut self,
        messages: &Messages<'_>,
        states: &HashMap<HopId, HopState<'_>>,
        names: &HashMap<HopId, &HopName>,
    ) -> Result<(), IndexError> {
        let mut changes: BTreeMap<HopId, Change> =
            states.keys().map(|&hop| (hop, Change::default())).collect();
        for (_, message, _) in messages {
            for slot in &message.entries {
                match (slot.before, &slot.now) {
                    (None, Some(_)) => changes.entry(slot.hop).or_default().add(message.size()),
                    (Some(_), None) => changes.entry(slot.hop).or_default().remove(message.size()),
                    _ => {}
                }
                let was = slot.before.is_some_and(|before| before.suspended.is_some());
                let is = slot.now.as_ref().is_some_and(|now| now.suspended.is_some());
                if was != is {
                    changes.entry(slot.hop).or_default().suspended += if is { 1 } else { -1 };
                }
            }
        }
        for (hop, change) in changes {
            let state = states.get(&hop);
            if state.is_some() || change != Change::default() {
                self.hop(hop, change, state, names.get(&hop).copied())?;
            }
        }
        Ok(())
    }

    fn hop(
        &mut self,
        hop: HopId,
        change: Change,
        state: Option<&HopState<'_>>,
        name: Option<&HopName>,
    ) -> Result<(), IndexError> {
        let (table, key) = (self.tables.hop, keys::hop(hop));
        let present = table.get(self.txn, &key);
        let present = present
            .and_then(|value| value.map(|value| table.sound(&key, HopValue::decode(value))).transpose());
        let Some(present) = self.unreadable.skip(present)? else { return Ok(()) };
        let is_there = present.is_some();
        let mut row = match (present, name) {
            (Some(row), _) => row,
            (None, Some(name)) => HopValue::named(name),
            (None, None) if state.is_some_and(|told| told.state == 0) && change == Change::default() => {
                return Ok(());
            }
            (None, None) => return Err(IndexError::Unnamed(hop)),
        };
        let counters = change.apply(row.count, row.bytes).and_then(|(count, bytes)| {
            Some((count, bytes, row.suspended.checked_add_signed(change.suspended)?))
        });
        let counters = counters.ok_or_else(|| IndexError::damaged(table.name, &key, TOO_SMALL));
        (row.count, row.bytes, row.suspended) = self.unreadable.skip(counters)?.unwrap_or_default();
        if let Some(told) = state {
            row.state = told.state;
            row.last_error = bounded(told.last_error, TEXT_MAX);
            row.next_retry_ms = told.next_retry_ms;
            row.failures = told.failures;
        }
        if row.count != 0 || row.state != 0 {
            self.buffer.clear();
            row.encode(&mut self.buffer);
            return table.put(self.txn, &key, &self.buffer);
        }
        if is_there { table.delete(self.txn, &key) } else { Ok(()) }
    }

    fn segments(&mut self, messages: &Messages<'_>) -> Result<(), IndexError> {
        let mut changes: BTreeMap<u64, Change> = BTreeMap::new();
        let mut change = |location: Location, change: fn(&mut Change, u64)| {
            change(changes.entry(location.segment).or_default(), location.record_bytes);
        };
        for (_, message, fate) in messages {
            if let Origin::Stored(head) | Origin::Kept(head, _) = &message.origin {
                change(head.stored.location, Change::remove);
            }
            if *fate != Fate::Gone {
                change(message.location, Change::add);
            }
        }
        let table = self.tables.segment;
        for (segment, change) in changes {
            if change == Change::default() {
                continue;
            }
            let key = keys::segment(segment);
            let present = table.get(self.txn, &key);
            let counters = present.and_then(|value| {
                let present = value.map(values::decode_numbers).transpose();
                let [bytes, count] = table.sound(&key, present)?.unwrap_or_default();
                let counters = change.apply(count, bytes);
                counters.ok_or_else(|| IndexError::damaged(table.name, &key, TOO_SMALL))
            });
            // As it is, it keeps the segment.
            let Some((count, bytes)) = self.unreadable.skip(counters)? else { continue };
            if count == 0 {
                table.delete(self.txn, &key)?;
            } else {
                self.buffer.clear();
                values::encode_numbers(&[bytes, count], &mut self.buffer);
                table.put(self.txn, &key, &self.buffer)?;
            }
        }
        Ok(())
    }
}

/// A key of `ready` or `timer`, and whether it is there from now on.
type Place = ([u8; 33], bool);

fn moved(
    before: Option<Before>,
    now: Option<Before>,
    places: &mut Vec<Place>,
    key: impl Fn(Before) -> Option<[u8; 33]>,
) {
    let (before, now) = (before.and_then(&key), now.and_then(&key));
    if before != now {
        places.extend(before.map(|key| (key, false)));
        places.extend(now.map(|key| (key, true)));
    }
}

fn slots<'m, 'a>(messages: &'m Messages<'a>) -> impl Iterator<Item = (QueueId, &'m Slot<'a>)> {
    messages.iter().flat_map(|(queue_id, message, _)| message.entries.iter().map(|slot| (*queue_id, slot)))
}

/// What became of each recipient last.
fn last_outcomes<'a>(message: &Message<'a>) -> BTreeMap<u32, &'a Outcome> {
    message.outcomes.iter().map(|&outcome| (outcome.recipient, outcome)).collect()
}

/// Note the outcomes of a block's recipients.
fn note<'a>(block: &mut [RecipientValue<'a>], number: u32, last: &BTreeMap<u32, &'a Outcome>) {
    let first = number * BLOCK;
    for (index, outcome) in last.range(first..=first + (BLOCK - 1)) {
        if let Some(recipient) = block.get_mut((index - first) as usize) {
            recipient.last = Some(LastOutcome::of(outcome));
        }
    }
}
