//! Answers to requests: each from one snapshot, one page at a time.
//!
//! Nothing here walks a table from end to end: a page steps over the rows it returns and looks at a few more; a listing
//! of hops costs a handful of look-ups per hop, whatever the number of entries.

use std::collections::{HashMap, hash_map};

use heed::RoTxn;
use penstock_core::queue_id::QueueId;

use crate::facts::HopId;
use crate::rows::{
    Answer, EntryRecipient, EntryRow, HopRow, MessageEntry, MessageRecipient, MessageRow, Request,
};

use super::error::IndexError;
use super::keeping;
use super::keys::{self, Ready, TIMER_EXPIRY, Timer};
use super::meta;
use super::tables::{Row, Table, Tables};
use super::unreadable::Unreadable;
use super::values::{self, BLOCK, EntryValue, HopValue, MessageValue, RecipientValue};

/// Rows of a page at most, whatever was asked for.
pub(super) const PAGE_ROWS_MAX: usize = 10_000;
/// Recipients of a page after which it ends; the first row is given in any case.
pub(super) const PAGE_RECIPIENTS_MAX: u64 = 20_000;

/// Answer from the snapshot of `txn`.
///
/// A row that cannot be read is passed over; only the answer about one message says that it cannot be given.
pub(super) fn answer(
    tables: &Tables,
    unreadable: &Unreadable,
    txn: &RoTxn<'_>,
    request: &Request,
) -> Result<Answer, IndexError> {
    let watermark = meta::watermark(tables.meta, txn)?.lsn;
    let view = View { tables, unreadable, txn };
    match request {
        Request::Hops => Ok(Answer::Hops { watermark, rows: view.hops()? }),
        Request::Refill { hop, limit, now_ms } => {
            let page = view.refill(*hop, *limit, *now_ms)?;
            Ok(page.answer(watermark))
        }
        Request::Expired { now_ms, limit } => Ok(view.expired(*now_ms, *limit)?.answer(watermark)),
        Request::Entry { queue_id, hop } => {
            let mut page = Page::default();
            if self::is_there(tables, txn, *queue_id, *hop)? {
                page.rows.push(view.entry(*queue_id, *hop)?);
            }
            Ok(page.answer(watermark))
        }
        Request::Messages { after, limit, hop } => {
            let (rows, next) = view.messages(*after, *limit, *hop)?;
            Ok(Answer::Messages { watermark, next, rows })
        }
        Request::Message { queue_id } => {
            let row = view.message(*queue_id, &mut HashMap::new());
            let row = row.inspect_err(|error| unreadable.note(error))?.map(Box::new);
            Ok(Answer::Message { watermark, row })
        }
        Request::Kept { after, limit } => {
            let (rows, next) = keeping::page(tables, unreadable, txn, *after, *limit)?;
            Ok(Answer::Kept { watermark, next, rows })
        }
        Request::Sync | Request::Checkpoint => Ok(Answer::Done { lsn: watermark }),
        Request::Query { .. } => Ok(Answer::Failed { text: "a query has a thread of its own".into() }),
        Request::Header { .. } => {
            Ok(Answer::Failed { text: "the log has the content, not the index".into() })
        }
    }
}

fn is_there(tables: &Tables, txn: &RoTxn<'_>, queue_id: QueueId, hop: HopId) -> Result<bool, IndexError> {
    Ok(tables.entry.get(txn, &keys::entry(queue_id, hop))?.is_some())
}

/// How much a page may still take.
struct Room {
    rows: usize,
    recipients: u64,
}

impl Room {
    fn new(limit: u32) -> Self {
        Self { rows: PAGE_ROWS_MAX.min(limit as usize), recipients: PAGE_RECIPIENTS_MAX }
    }

    fn is_there(&self) -> bool {
        self.rows > 0 && self.recipients > 0
    }

    fn take(&mut self, recipients: usize) {
        self.rows = self.rows.saturating_sub(1);
        self.recipients = self.recipients.saturating_sub(recipients as u64);
    }
}

/// A page of entries.
#[derive(Default)]
struct Page {
    rows: Vec<EntryRow>,
    is_cut: bool,
    next_due_ms: Option<u64>,
}

impl Page {
    /// Note that there is an entry behind the page.
    fn leave(&mut self, at_ms: u64, now_ms: u64) {
        self.is_cut |= at_ms <= now_ms;
        self.next_due_ms = Some(self.next_due_ms.map_or(at_ms, |next| next.min(at_ms)));
    }

    fn answer(self, watermark: u64) -> Answer {
        Answer::Entries { watermark, complete: !self.is_cut, next_due_ms: self.next_due_ms, rows: self.rows }
    }
}

pub(super) struct View<'t> {
    pub(super) tables: &'t Tables,
    pub(super) unreadable: &'t Unreadable,
    pub(super) txn: &'t RoTxn<'t>,
}

impl<'t> View<'t> {
    fn hops(&self) -> Result<Vec<HopRow>, IndexError> {
        let mut rows = Vec::new();
        for row in self.tables.hop.all(self.txn)? {
            rows.extend(self.unreadable.skip(row.and_then(|row| self.hop(row)))?);
        }
        Ok(rows)
    }

    fn hop(&self, (key, value): Row<'t>) -> Result<HopRow, IndexError> {
        let table = self.tables.hop;
        let hop = table.sound(key, keys::read_hop(key))?;
        let value = table.sound(key, HopValue::decode(value))?;
        Ok(HopRow {
            hop,
            connector: value.connector.into(),
            kind: value.kind,
            destination: value.destination.into(),
            count: value.count,
            bytes: value.bytes,
            oldest_ms: self.oldest_ms(hop)?,
            earliest_due_ms: self.earliest_due_ms(hop)?,
            state: value.state,
            last_error: value.last_error.into(),
            next_retry_ms: value.next_retry_ms,
            failures: value.failures,
            suspended: value.suspended,
        })
    }

    /// The first row at a key or behind it that can be read.
    fn first(&self, table: Table, key: &[u8]) -> Result<Option<Row<'t>>, IndexError> {
        for row in table.from(self.txn, key)? {
            let row = self.unreadable.skip(row)?;
            if row.is_some() {
                return Ok(row);
            }
        }
        Ok(None)
    }

    /// When the hop's first message by queue id was taken; 0 if it has none.
    pub(super) fn oldest_ms(&self, hop: HopId) -> Result<u64, IndexError> {
        let table = self.tables.arrival;
        let Some((key, value)) = self.first(table, &keys::hop(hop))? else { return Ok(0) };
        if table.sound(key, keys::read_arrival(key))?.0 != hop {
            return Ok(0);
        }
        let [received_ms] = table.sound(key, values::decode_numbers(value))?;
        Ok(received_ms)
    }

    pub(super) fn earliest_due_ms(&self, hop: HopId) -> Result<Option<u64>, IndexError> {
        let mut page = Page::default();
        self.each_priority(hop, |first| {
            page.leave(first.due_ms, 0);
            Ok(())
        })?;
        Ok(page.next_due_ms)
    }

    /// Call `visit` with the first place of each of a hop's priorities.
    fn each_priority(
        &self,
        hop: HopId,
        mut visit: impl FnMut(Ready) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let table = self.tables.ready;
        let mut from = Some(Ready { hop, priority: 0, due_ms: 0, queue_id: QueueId(0) });
        while let Some(place) = from {
            let Some((key, _)) = self.first(table, &place.key())? else { return Ok(()) };
            let first = table.sound(key, Ready::read(key))?;
            if first.hop != hop {
                return Ok(());
            }
            visit(first)?;
            from = first.priority.checked_add(1).map(|priority| Ready { priority, ..place });
        }
        Ok(())
    }

    fn refill(&self, hop: HopId, limit: u32, now_ms: u64) -> Result<Page, IndexError> {
        let (table, mut page, mut room) = (self.tables.ready, Page::default(), Room::new(limit));
        self.each_priority(hop, |first| {
            for row in table.from(self.txn, &first.key())? {
                let Some((key, _)) = self.unreadable.skip(row)? else { continue };
                let place = table.sound(key, Ready::read(key))?;
                if place.hop != hop || place.priority != first.priority {
                    break;
                }
                if place.due_ms > now_ms || !room.is_there() {
                    page.leave(place.due_ms, now_ms);
                    break;
                }
                let Some(row) = self.unreadable.skip(self.entry(place.queue_id, hop))? else { continue };
                room.take(row.recipients.len());
                page.rows.push(row);
            }
            Ok(())
        })?;
        Ok(page)
    }

    fn expired(&self, now_ms: u64, limit: u32) -> Result<Page, IndexError> {
        let (table, mut page, mut room) = (self.tables.timer, Page::default(), Room::new(limit));
        for row in table.prefix(self.txn, &[TIMER_EXPIRY])? {
            let Some((key, _)) = self.unreadable.skip(row)? else { continue };
            let place = table.sound(key, Timer::read(key))?;
            if place.at_ms > now_ms || !room.is_there() {
                page.leave(place.at_ms, now_ms);
                break;
            }
            let row = self.entry(place.queue_id, place.hop);
            let Some(row) = self.unreadable.skip(row)? else { continue };
            room.take(row.recipients.len());
            page.rows.push(row);
        }
        Ok(page)
    }

    fn entry(&self, queue_id: QueueId, hop: HopId) -> Result<EntryRow, IndexError> {
        let key = keys::message(queue_id);
        let message = self.tables.message.expect(self.txn, &key)?;
        let message = self.tables.message.sound(&key, MessageValue::decode(message))?;
        let key = keys::entry(queue_id, hop);
        let entry = self.tables.entry.expect(self.txn, &key)?;
        let entry = self.tables.entry.sound(&key, EntryValue::decode(entry))?;
        let recipients = self.entry_recipients(queue_id, &key, &message, &entry)?;
        Ok(EntryRow {
            queue_id,
            hop,
            priority: entry.priority,
            lane: entry.lane,
            due_ms: entry.due_ms,
            attempts: entry.attempts,
            expires_ms: entry.expires_ms,
            received_ms: message.head.received_ms,
            sender: message.sender.into(),
            recipients,
            size: message.head.size,
            flags: message.head.stored.flags,
            form: message.head.stored.form,
            message_id: message.message_id.into(),
            params: message.params(),
            in_doubt: entry.in_doubt(),
            version: entry.version,
            suspended: entry.suspended,
        })
    }

    fn entry_recipients(
        &self,
        queue_id: QueueId,
        key: &[u8],
        message: &MessageValue<'_>,
        entry: &EntryValue,
    ) -> Result<Vec<EntryRecipient>, IndexError> {
        let damaged =
            || IndexError::damaged(self.tables.entry.name, key, "it has recipients that its message has not");
        if entry.recipients.last() >= Some(message.head.recipients) {
            return Err(damaged());
        }
        let mut recipients = Vec::with_capacity(entry.recipients.len() as usize);
        let (mut number, mut block) = (u32::MAX, Vec::new());
        for index in entry.recipients.iter() {
            if index / BLOCK != number {
                number = index / BLOCK;
                block = self.block(queue_id, number)?;
            }
            let recipient = block.get((index % BLOCK) as usize).ok_or_else(damaged)?;
            recipients.push(EntryRecipient {
                index,
                address: recipient.address.into(),
                notify: recipient.notify,
                orcpt: recipient.orcpt.map(Into::into),
            });
        }
        Ok(recipients)
    }

    fn block(&self, queue_id: QueueId, number: u32) -> Result<Vec<RecipientValue<'t>>, IndexError> {
        let (table, key) = (self.tables.recipient, keys::recipient(queue_id, number));
        table.sound(&key, values::decode_block(table.expect(self.txn, &key)?))
    }

    fn messages(
        &self,
        after: Option<QueueId>,
        limit: u32,
        hop: Option<HopId>,
    ) -> Result<(Vec<MessageRow>, Option<QueueId>), IndexError> {
        let mut rows: Vec<MessageRow> = Vec::new();
        let Some(first) = after.map_or(Some(0), |after| after.0.checked_add(1)).map(QueueId) else {
            return Ok((rows, None));
        };
        let (mut room, mut names) = (Room::new(limit), HashMap::new());
        for queue_id in self.queue_ids(first, hop)? {
            let Some(queue_id) = self.unreadable.skip(queue_id)? else { continue };
            if !room.is_there() {
                let next = rows.last().map(|row| row.queue_id).or(after);
                return Ok((rows, next));
            }
            let row = self.message(queue_id, &mut names).and_then(|row| {
                row.ok_or_else(|| {
                    IndexError::damaged(self.tables.message.name, &keys::message(queue_id), "it is missing")
                })
            });
            let Some(row) = self.unreadable.skip(row)? else { continue };
            room.take(row.recipients.len());
            rows.push(row);
        }
        Ok((rows, None))
    }

    /// The ids of all messages from `first` on, or of those with an entry for `hop`.
    fn queue_ids(
        &self,
        first: QueueId,
        hop: Option<HopId>,
    ) -> Result<Box<dyn Iterator<Item = Result<QueueId, IndexError>> + 't>, IndexError> {
        let Tables { message, arrival, .. } = *self.tables;
        let Some(hop) = hop else {
            let rows = message.from(self.txn, &keys::message(first))?;
            return Ok(Box::new(rows.map(move |row| {
                let (key, _) = row?;
                message.sound(key, keys::read_message(key))
            })));
        };
        let rows = arrival.from(self.txn, &keys::arrival(hop, first))?;
        let places = rows.map(move |row| {
            let (key, _) = row?;
            arrival.sound(key, keys::read_arrival(key))
        });
        let ours = places.take_while(move |place| !place.as_ref().is_ok_and(|place| place.0 != hop));
        Ok(Box::new(ours.map(|place| place.map(|(_, queue_id)| queue_id))))
    }

    fn message(
        &self,
        queue_id: QueueId,
        names: &mut HashMap<HopId, HopValue<'t>>,
    ) -> Result<Option<MessageRow>, IndexError> {
        let (table, key) = (self.tables.message, keys::message(queue_id));
        let Some(value) = table.get(self.txn, &key)? else { return Ok(None) };
        let message = table.sound(&key, MessageValue::decode(value))?;
        let mut recipients = Vec::new();
        for number in 0..message.head.recipients.div_ceil(BLOCK) {
            for (index, recipient) in (number * BLOCK..).zip(self.block(queue_id, number)?) {
                recipients.push(MessageRecipient {
                    index,
                    address: recipient.address.into(),
                    state: recipient.last.map(|last| last.state),
                    code: recipient.last.map_or(0, |last| last.code),
                    enhanced: recipient.last.map_or("", |last| last.enhanced).into(),
                    text: recipient.last.map_or("", |last| last.text).into(),
                });
            }
        }
        Ok(Some(MessageRow {
            queue_id,
            sender: message.sender.into(),
            received_ms: message.head.received_ms,
            size: message.head.size,
            message_id: message.message_id.into(),
            subject: message.subject.into(),
            connector: message.connector.into(),
            peer: message.peer.into(),
            helo: message.helo.into(),
            params: message.params(),
            recipients,
            entries: self.message_entries(queue_id, message.head.recipients, names)?,
        }))
    }

    fn message_entries(
        &self,
        queue_id: QueueId,
        recipients: u32,
        names: &mut HashMap<HopId, HopValue<'t>>,
    ) -> Result<Vec<MessageEntry>, IndexError> {
        let table = self.tables.entry;
        let mut entries = Vec::new();
        for row in table.prefix(self.txn, &keys::message(queue_id))? {
            let (key, value) = row?;
            let (_, hop) = table.sound(key, keys::read_entry(key))?;
            let entry = table.sound(key, EntryValue::decode(value))?;
            if entry.recipients.last() >= Some(recipients) {
                return Err(IndexError::damaged(
                    table.name,
                    key,
                    "it has recipients that its message has not",
                ));
            }
            let name = match names.entry(hop) {
                hash_map::Entry::Occupied(known) => known.into_mut(),
                hash_map::Entry::Vacant(vacant) => {
                    let (table, key) = (self.tables.hop, keys::hop(hop));
                    vacant.insert(table.sound(&key, HopValue::decode(table.expect(self.txn, &key)?))?)
                }
            };
            entries.push(MessageEntry {
                hop,
                connector: name.connector.into(),
                kind: name.kind,
                destination: name.destination.into(),
                due_ms: entry.due_ms,
                attempts: entry.attempts,
                expires_ms: entry.expires_ms,
                priority: entry.priority,
                recipients: entry.recipients.iter().collect(),
                in_doubt: entry.in_doubt(),
                version: entry.version,
                suspended: entry.suspended,
                edit: entry.edit.map(|edit| *edit),
            });
        }
        Ok(entries)
    }
}
