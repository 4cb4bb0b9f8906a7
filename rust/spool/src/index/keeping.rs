//! Finished messages that are kept for resubmission: listing them, and letting go of the oldest.
//!
//! They are beside the queue: `finished` has what `message` had, `kept` their order; their recipients stay where they
//! were, and so do what they keep alive of their segments, and their blobs.

use heed::{RoTxn, RwTxn};
use penstock_core::queue_id::QueueId;

use crate::redo::{LeftBlob, Location};
use crate::rows::{KeptRow, MessageRecipient};

use super::error::IndexError;
use super::keys;
use super::meta;
use super::tables::Tables;
use super::unreadable::Unreadable;
use super::values::{self, BLOCK, FinishedValue, Head, RecipientValue};

/// Rows of a page at most, whatever was asked for.
const PAGE_ROWS_MAX: usize = 1_000;

/// No key of `kept` is before this one.
const FIRST: Place = (0, QueueId(0));

/// How much is kept.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) messages: u64,
    /// Octets of the log that they keep alive.
    pub(crate) bytes: u64,
    /// Octets that they have in blobs.
    pub(crate) blob_bytes: u64,
}

impl Kept {
    pub(super) fn add(&mut self, location: Location) {
        self.messages += 1;
        self.bytes += location.record_bytes;
        self.blob_bytes += in_blob(location);
    }

    pub(super) fn remove(&mut self, location: Location) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(location.record_bytes);
        self.blob_bytes = self.blob_bytes.saturating_sub(in_blob(location));
    }

    /// Octets of the disk.
    fn total(&self) -> u64 {
        self.bytes.saturating_add(self.blob_bytes)
    }
}

fn in_blob(location: Location) -> u64 {
    location.blob.map_or(0, |blob| blob.bytes)
}

/// What was let go of.
#[derive(Eq, PartialEq, Debug, Default)]
pub(crate) struct LetGo {
    pub(crate) messages: usize,
    /// Blobs that nobody needs any more.
    pub(crate) left: Vec<LeftBlob>,
}

/// Read a finished message's row; tells until when it is kept.
pub(super) fn finished<'t>(
    tables: &Tables,
    txn: &'t RoTxn<'_>,
    queue_id: QueueId,
) -> Result<Option<FinishedValue<'t>>, IndexError> {
    let key = keys::message(queue_id);
    let Some(value) = tables.finished.get(txn, &key)? else { return Ok(None) };
    tables.finished.sound(&key, FinishedValue::decode(value)).map(Some)
}

/// Where a kept message stands: the end of its time, and its name.
type Place = (u64, QueueId);

/// A page of kept messages, those that go first first, from behind `after` on; and where the next one begins.
///
/// A message of which a row cannot be read is passed over.
pub(super) fn page(
    tables: &Tables,
    unreadable: &Unreadable,
    txn: &RoTxn<'_>,
    after: Option<Place>,
    limit: u32,
) -> Result<(Vec<KeptRow>, Option<Place>), IndexError> {
    let first = after.map_or(FIRST, behind);
    let (mut rows, most): (Vec<KeptRow>, _) = (Vec::new(), PAGE_ROWS_MAX.min(limit as usize));
    for row in tables.kept.from(txn, &keys::kept(first.0, first.1))? {
        let place = row.and_then(|(key, _)| tables.kept.sound(key, keys::read_kept(key)));
        let Some((until_ms, queue_id)) = unreadable.skip(place)? else { continue };
        if rows.len() >= most {
            return Ok((rows.clone(), rows.last().map(|row| (row.until_ms, row.queue_id)).or(after)));
        }
        rows.extend(unreadable.skip(kept_row(tables, txn, until_ms, queue_id))?);
    }
    Ok((rows, None))
}

fn kept_row(
    tables: &Tables,
    txn: &RoTxn<'_>,
    until_ms: u64,
    queue_id: QueueId,
) -> Result<KeptRow, IndexError> {
    let missing = || IndexError::damaged(tables.finished.name, &keys::message(queue_id), "it is missing");
    let FinishedValue { message, .. } = finished(tables, txn, queue_id)?.ok_or_else(missing)?;
    let mut recipients = Vec::new();
    for number in 0..message.head.recipients.div_ceil(BLOCK) {
        let key = keys::recipient(queue_id, number);
        let block = tables.recipient.expect(txn, &key)?;
        let block = tables.recipient.sound(&key, values::decode_block(block))?;
        recipients.extend((number * BLOCK..).zip(&block).map(|(index, one)| recipient(index, one)));
    }
    Ok(KeptRow {
        queue_id,
        until_ms,
        sender: message.sender.into(),
        received_ms: message.head.received_ms,
        size: message.head.size,
        message_id: message.message_id.into(),
        subject: message.subject.into(),
        params: message.params(),
        form: message.head.stored.form,
        flags: message.head.stored.flags,
        recipients,
    })
}

fn recipient(index: u32, one: &RecipientValue<'_>) -> MessageRecipient {
    let last = one.last.as_ref();
    MessageRecipient {
        index,
        address: one.address.into(),
        state: last.map(|last| last.state),
        code: last.map_or(0, |last| last.code),
        enhanced: last.map_or_else(String::new, |last| last.enhanced.into()),
        text: last.map_or_else(String::new, |last| last.text.into()),
    }
}

/// The first place from `from` on that can be read.
fn first(
    tables: &Tables,
    unreadable: &Unreadable,
    txn: &RoTxn<'_>,
    from: Place,
) -> Result<Option<Place>, IndexError> {
    for row in tables.kept.from(txn, &keys::kept(from.0, from.1))? {
        let place = row.and_then(|(key, _)| tables.kept.sound(key, keys::read_kept(key)));
        let place = unreadable.skip(place)?;
        if place.is_some() {
            return Ok(place);
        }
    }
    Ok(None)
}

/// The place behind another.
fn behind((until_ms, QueueId(id)): Place) -> Place {
    match id.checked_add(1) {
        Some(id) => (until_ms, QueueId(id)),
        None => (until_ms.saturating_add(1), QueueId(0)),
    }
}

/// Whether something is to be let go of: its time is over, or there is more than may be.
pub(super) fn is_due(
    tables: &Tables,
    unreadable: &Unreadable,
    txn: &RoTxn<'_>,
    now_ms: u64,
    bytes_max: u64,
) -> Result<bool, IndexError> {
    let Some((until_ms, _)) = first(tables, unreadable, txn, FIRST)? else { return Ok(false) };
    Ok(until_ms <= now_ms || meta::kept(tables.meta, txn)?.total() > bytes_max)
}

/// Let go of what is due, the oldest first, at most so many. What cannot be read stays as it is.
pub(super) fn let_go(
    tables: &Tables,
    unreadable: &Unreadable,
    txn: &mut RwTxn<'_>,
    now_ms: u64,
    bytes_max: u64,
    limit: usize,
) -> Result<LetGo, IndexError> {
    let mut kept = meta::kept(tables.meta, txn)?;
    let (mut gone, mut from) = (LetGo::default(), FIRST);
    while gone.messages < limit {
        let Some((until_ms, queue_id)) = first(tables, unreadable, txn, from)? else { break };
        from = behind((until_ms, queue_id));
        if until_ms > now_ms && kept.total() <= bytes_max {
            break;
        }
        let missing = || IndexError::damaged(tables.finished.name, &keys::message(queue_id), "it is missing");
        let finished = finished(tables, txn, queue_id).and_then(|finished| finished.ok_or_else(missing));
        let Some(finished) = unreadable.skip(finished)? else { continue };
        let head = finished.message.head;
        tables.kept.delete(txn, &keys::kept(until_ms, queue_id))?;
        forget(tables, unreadable, txn, queue_id, &head)?;
        kept.remove(head.stored.location);
        gone.messages += 1;
        gone.left.extend(head.stored.location.blob.map(|blob| LeftBlob { queue_id, bytes: blob.bytes }));
    }
    meta::put_kept(tables.meta, txn, kept)?;
    Ok(gone)
}

/// Remove a finished message from all tables but `kept`.
fn forget(
    tables: &Tables,
    unreadable: &Unreadable,
    txn: &mut RwTxn<'_>,
    queue_id: QueueId,
    head: &Head,
) -> Result<(), IndexError> {
    tables.finished.delete(txn, &keys::message(queue_id))?;
    for number in 0..head.recipients.div_ceil(BLOCK) {
        tables.recipient.delete(txn, &keys::recipient(queue_id, number))?;
    }
    if head.stored.location.blob.is_some() {
        tables.blob.delete(txn, &keys::message(queue_id))?;
    }
    // As it is, it keeps the segment.
    unreadable.skip(leave_segment(tables, txn, head.stored.location)).map(drop)
}

/// Count that a message keeps nothing alive of its segment any more.
fn leave_segment(tables: &Tables, txn: &mut RwTxn<'_>, location: Location) -> Result<(), IndexError> {
    let (table, key) = (tables.segment, keys::segment(location.segment));
    let [bytes, count] = table.sound(&key, values::decode_numbers(table.expect(txn, &key)?))?;
    let too_small = || IndexError::damaged(table.name, &key, "its counters are too small");
    let bytes = bytes.checked_sub(location.record_bytes).ok_or_else(too_small)?;
    let count = count.checked_sub(1).ok_or_else(too_small)?;
    if count == 0 {
        return table.delete(txn, &key);
    }
    let mut value = Vec::new();
    values::encode_numbers(&[bytes, count], &mut value);
    table.put(txn, &key, &value)
}
