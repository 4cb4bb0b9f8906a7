//! Messages as they have to be written when they are moved to another place in the log.

use std::sync::Arc;

use heed::RoTxn;
use penstock_core::queue_id::QueueId;

use crate::facts::{Accepted, EntryRecord, HopId, HopName, Lsn, RecipientRecord};
use crate::redo::Stored;

use super::error::IndexError;
use super::keeping;
use super::keys;
use super::meta;
use super::tables::Tables;
use super::unreadable::Unreadable;
use super::values::{self, BLOCK, EntryValue, HopValue, MessageValue};

/// A message as the index has it.
#[derive(Debug)]
pub(crate) struct Present {
    pub(crate) stored: Stored,
    /// With the entries that are left, of each the recipients that are left.
    pub(crate) accepted: Accepted,
    /// The names of the hops of its entries, in their order.
    pub(crate) hops: Vec<Arc<HopName>>,
    /// Of each entry the last attempt whose end is known.
    pub(crate) attempts: Vec<u32>,
    /// Attempts whose end is not known: the hop, which, with whom.
    pub(crate) begun: Vec<(HopId, u32, String)>,
}

/// Read messages from one snapshot; tells the last record that is in it. What is not there any more, or
/// cannot be read, is `None`.
pub(super) fn present(
    tables: &Tables,
    unreadable: &Unreadable,
    txn: &RoTxn<'_>,
    queue_ids: &[QueueId],
) -> Result<(Lsn, Vec<Option<Present>>), IndexError> {
    let as_of = meta::watermark(tables.meta, txn)?.lsn;
    let all = queue_ids
        .iter()
        .map(|&queue_id| Ok::<_, IndexError>(unreadable.skip(message(tables, txn, queue_id))?.flatten()));
    Ok((as_of, all.collect::<Result<_, _>>()?))
}

fn message(tables: &Tables, txn: &RoTxn<'_>, queue_id: QueueId) -> Result<Option<Present>, IndexError> {
    let key = keys::message(queue_id);
    let value = match tables.message.get(txn, &key)? {
        Some(value) => tables.message.sound(&key, MessageValue::decode(value))?,
        // One that is kept has no entries.
        None => match keeping::finished(tables, txn, queue_id)? {
            Some(finished) => finished.message,
            None => return Ok(None),
        },
    };
    let mut present = Present {
        stored: value.head.stored,
        accepted: accepted(&value),
        hops: Vec::new(),
        attempts: Vec::new(),
        begun: Vec::new(),
    };
    present.accepted.recipients = recipients(tables, txn, queue_id, value.head.recipients)?;
    for row in tables.entry.prefix(txn, &key)? {
        let (key, value) = row?;
        let (_, hop) = tables.entry.sound(key, keys::read_entry(key))?;
        let entry = tables.entry.sound(key, EntryValue::decode(value))?;
        if entry.in_doubt() {
            let started = tables.started.expect(txn, key)?;
            let (attempt, peer) = tables.started.sound(key, values::decode_started(started))?;
            present.begun.push((hop, attempt, peer.into()));
        }
        present.hops.push(name(tables, txn, hop)?);
        present.attempts.push(entry.settled);
        present.accepted.entries.push(EntryRecord {
            hop,
            recipients: entry.recipients.iter().collect(),
            priority: entry.priority,
            due_ms: entry.due_ms,
            expires_ms: entry.expires_ms,
            suspended: entry.suspended,
        });
    }
    Ok(Some(present))
}

/// The message without its recipients and entries.
fn accepted(value: &MessageValue<'_>) -> Accepted {
    Accepted {
        received_ms: value.head.received_ms,
        sender: value.sender.into(),
        params: value.params(),
        connector: value.connector.into(),
        peer: value.peer.into(),
        helo: value.helo.into(),
        session: value.session.into(),
        form: value.head.stored.form,
        flags: value.head.stored.flags,
        size: value.head.size,
        message_id: value.message_id.into(),
        subject: value.subject.into(),
        recipients: Vec::new(),
        entries: Vec::new(),
    }
}

fn recipients(
    tables: &Tables,
    txn: &RoTxn<'_>,
    queue_id: QueueId,
    count: u32,
) -> Result<Vec<RecipientRecord>, IndexError> {
    let mut all = Vec::with_capacity(count as usize);
    for number in 0..count.div_ceil(BLOCK) {
        let key = keys::recipient(queue_id, number);
        let block = tables.recipient.expect(txn, &key)?;
        let block = tables.recipient.sound(&key, values::decode_block(block))?;
        all.extend(block.iter().map(|one| RecipientRecord {
            address: one.address.into(),
            orcpt: one.orcpt.map(Into::into),
            notify: one.notify,
        }));
    }
    if all.len() as u64 == u64::from(count) {
        Ok(all)
    } else {
        let key = keys::message(queue_id);
        Err(IndexError::damaged(tables.message.name, &key, "it has another number of recipients"))
    }
}

fn name(tables: &Tables, txn: &RoTxn<'_>, hop: HopId) -> Result<Arc<HopName>, IndexError> {
    let key = keys::hop(hop);
    let value = tables.hop.sound(&key, HopValue::decode(tables.hop.expect(txn, &key)?))?;
    let (connector, destination) = (value.connector.into(), value.destination.into());
    Ok(Arc::new(HopName { connector, kind: value.kind, destination }))
}
