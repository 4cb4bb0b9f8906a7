//! What a checkpoint changes, worked out in memory before a table is written.
//!
//! Each message that the records speak of is looked up once, with all its entries; the records then change the copy.
//! What is accepted and finished between two checkpoints therefore ends as a copy without entries that was never in a
//! table, and costs the index nothing.
//!
//! # Replay
//!
//! A record that is already in the index is passed over by its number. One that was appended again has a new number,
//! and a batch may have it twice: as it was found, and appended anew by a recovery that was cut off. So every record is
//! also known by what it says:
//!
//! * `Accepted` of a message that is known, or that came and went in this batch, only tells where its content is now.
//! * `Started` and `Settled` count for an entry once per attempt, in ascending order; attempt 0 has no number, says how
//!   things are and may be said again.
//! * A `Settled` none of whose recipients the entry has, and whose attempt it has not begun, is about an earlier entry
//!   for the same hop.
//! * `Edited` counts for an entry once per number, ascending.
//! * Nothing is done to a message of which a row cannot be read.
//! * `Routed` moves only recipients that the entry still has, and a recipient that is done is in no entry.
//! * `Moved` says all that is left of a message, as of a number behind which the log told nothing of it until then. If
//!   this batch has taken something later, it comes again, and only tells where the content is. If it says that nothing
//!   was left, and the index has come as far without the message, that was let go of since, and does not come back.
//!
//! What a batch has finished leaves no trace, so a recovery gives all that it has found to one batch.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use heed::RoTxn;
use penstock_core::queue_id::QueueId;
use sha2::{Digest, Sha256};

use crate::edit::{Change, EditRecord, LastEdit, Suspension};
use crate::facts::{
    Accepted, Disposition, EntryRecord, Fact, HopId, HopKind, HopName, Lsn, Outcome, RoutedTo,
};
use crate::redo::{InBlob, Location, Redo};

use super::error::IndexError;
use super::keeping;
use super::keys;
use super::set::RecipientSet;
use super::tables::Tables;
use super::unreadable::Unreadable;
use super::values::{EntryValue, FinishedValue, Head};

/// When what was set aside expires: in the last millisecond that all calendars know, at the end of the year 9999.
pub(super) const NEVER_MS: u64 = 253_402_300_799_999;

/// Whose mail it is, for fairness: the first 64 bits of SHA-256 over the sender in lower case.
fn lane_of(sender: &str) -> u64 {
    let hash = Sha256::digest(sender.to_ascii_lowercase());
    hash.iter().take(8).fold(0, |lane, &octet| lane << 8 | u64::from(octet))
}

/// Where a message was when the batch began.
pub(super) enum Origin<'a> {
    /// Nowhere: it is finished, or was never seen.
    Absent,
    /// In the index.
    Stored(Head),
    /// Nowhere, and this batch has accepted it.
    Accepted(&'a Accepted),
    /// In the index, finished, and kept until then.
    Kept(Head, u64),
    /// In the index, which cannot tell all of it: it stays as it is.
    Unreadable,
}

/// A message as the records leave it.
pub(super) struct Message<'a> {
    pub(super) origin: Origin<'a>,
    /// Where its content is now; means nothing while it is absent.
    pub(super) location: Location,
    /// By hop.
    pub(super) entries: Vec<Slot<'a>>,
    /// What became of its recipients, in the order in which it happened.
    pub(super) outcomes: Vec<&'a Outcome>,
    /// The last record about it in this batch, those that only moved it aside.
    last: Lsn,
    /// The last record that moved it.
    moved: Option<Lsn>,
    /// A record has moved it after it was finished.
    pub(super) was_kept: bool,
}

/// An entry's place in `ready`, if it has one: what is suspended has none.
pub(super) type ReadyPlace = (u8, u64);

/// An entry as it was and as it is.
pub(super) struct Slot<'a> {
    pub(super) hop: HopId,
    pub(super) before: Option<Before>,
    pub(super) now: Option<EntryValue>,
    /// Whether the row of `entry` has to be written if there is still one.
    pub(super) changed: bool,
    /// Whether the present record has changed it.
    touched: bool,
    /// With whom an attempt was begun in this batch.
    pub(super) peer: Option<&'a str>,
}

/// What of an entry other tables have.
#[derive(Copy, Clone)]
pub(super) struct Before {
    pub(super) priority: u8,
    pub(super) due_ms: u64,
    pub(super) expires_ms: u64,
    pub(super) in_doubt: bool,
    pub(super) suspended: Option<Suspension>,
}

impl Before {
    pub(super) fn of(entry: &EntryValue) -> Self {
        Self {
            priority: entry.priority,
            due_ms: entry.due_ms,
            expires_ms: entry.expires_ms,
            in_doubt: entry.in_doubt(),
            suspended: entry.suspended,
        }
    }

    /// Its place in `ready`, which what is suspended has not.
    pub(super) fn ready(&self) -> Option<ReadyPlace> {
        self.suspended.is_none().then_some((self.priority, self.due_ms))
    }

    /// When it expires; what came back from a backup does not as long as it is suspended.
    pub(super) fn expires_ms(&self) -> Option<u64> {
        (self.suspended != Some(Suspension::Restored)).then_some(self.expires_ms)
    }
}

/// A hop's state as it was told last.
pub(super) struct HopState<'a> {
    pub(super) state: u8,
    pub(super) last_error: &'a str,
    pub(super) next_retry_ms: u64,
    pub(super) failures: u32,
}

/// What a batch comes to.
#[derive(Default)]
pub(super) struct Work<'a> {
    pub(super) messages: HashMap<QueueId, Message<'a>>,
    pub(super) states: HashMap<HopId, HopState<'a>>,
    /// Names of hops that may not be in the index yet.
    pub(super) names: HashMap<HopId, &'a HopName>,
    /// The greatest queue id seen, by the index or the batch.
    pub(super) greatest: Option<QueueId>,
}

/// The records of one checkpoint, against the state before it.
pub(super) struct Batch<'t, 'a> {
    tables: &'t Tables,
    unreadable: &'t Unreadable,
    txn: &'t RoTxn<'t>,
    /// The greatest queue id that the index has seen: what is above it need not be looked up.
    seen: Option<QueueId>,
    /// The last record of which the index tells what was left of it.
    known: Lsn,
    work: Work<'a>,
}

impl<'t, 'a> Batch<'t, 'a> {
    pub(super) fn new(
        tables: &'t Tables,
        unreadable: &'t Unreadable,
        txn: &'t RoTxn<'t>,
        seen: Option<QueueId>,
        known: Lsn,
    ) -> Self {
        Self { tables, unreadable, txn, seen, known, work: Work { greatest: seen, ..Work::default() } }
    }

    /// Take the next record.
    pub(super) fn take(&mut self, redo: &'a Redo) -> Result<(), IndexError> {
        match redo {
            Redo::Accepted { lsn, queue_id, accepted, location, hops } => {
                self.name(accepted.entries.iter().map(|entry| entry.hop), hops);
                self.work.greatest = self.work.greatest.max(Some(*queue_id));
                let message = self.message(*queue_id)?;
                message.accept(accepted, *location);
                message.stamp(*lsn);
            }
            Redo::Started { lsn, queue_id, hop, attempt, peer } => {
                let message = self.message(*queue_id)?;
                // A record that moves a message says again what is in doubt.
                let is_news = message.moved != Some(*lsn);
                if let Some(slot) = message.slot(*hop) {
                    slot.start(*attempt, peer, is_news);
                }
                message.stamp(*lsn);
            }
            Redo::Fact { lsn, fact, hops } => self.take_fact(*lsn, fact, hops)?,
            Redo::Moved { lsn, queue_id, accepted, location, hops, as_of, attempts } => {
                self.name(accepted.entries.iter().map(|entry| entry.hop), hops);
                self.work.greatest = self.work.greatest.max(Some(*queue_id));
                let known = self.known;
                let message = self.message(*queue_id)?;
                let was_let_go = matches!(message.origin, Origin::Absent) && *as_of <= known;
                if !(was_let_go && accepted.entries.is_empty()) {
                    message.replace(accepted, attempts, *as_of, *location);
                    message.moved = Some(*lsn);
                    message.stamp(*lsn);
                }
                return Ok(());
            }
        }
        if let Some(queue_id) = redo.subject()
            && let Some(message) = self.work.messages.get_mut(&queue_id)
        {
            message.last = redo.lsn();
        }
        Ok(())
    }

    /// Tell what has become of everything that the records speak of.
    pub(super) fn finish(self) -> Work<'a> {
        self.work
    }

    fn take_fact(&mut self, lsn: Lsn, fact: &'a Fact, hops: &'a [Arc<HopName>]) -> Result<(), IndexError> {
        match fact {
            Fact::Routed { queue_id, from, to } => {
                self.name(to.iter().map(|to| to.hop), hops);
                let message = self.message(*queue_id)?;
                message.route(*from, to, hops);
                message.stamp(lsn);
            }
            Fact::Hop { hop, state, last_error, next_retry_ms, failures } => {
                self.name([*hop], hops);
                let (next_retry_ms, failures) = (*next_retry_ms, *failures);
                self.work
                    .states
                    .insert(*hop, HopState { state: *state, last_error, next_retry_ms, failures });
            }
            Fact::Settled { queue_id, hop, attempt, disposition, outcomes, .. } => {
                let message = self.message(*queue_id)?;
                message.settle(*hop, *attempt, *disposition, outcomes);
                message.stamp(lsn);
            }
            Fact::Edited(record) => {
                if let Change::Redirected(to) = &record.change {
                    self.name([to.hop], hops);
                }
                let message = self.message(record.queue_id)?;
                message.edit(record, hops);
                message.stamp(lsn);
            }
        }
        Ok(())
    }

    fn name(&mut self, hops: impl IntoIterator<Item = HopId>, names: &'a [Arc<HopName>]) {
        for (hop, name) in hops.into_iter().zip(names) {
            self.work.names.entry(hop).or_insert(name);
        }
    }

    fn message(&mut self, queue_id: QueueId) -> Result<&mut Message<'a>, IndexError> {
        Ok(match self.work.messages.entry(queue_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) if Some(queue_id) > self.seen => vacant.insert(Message::absent()),
            Entry::Vacant(vacant) => {
                let loaded = self.unreadable.skip(Message::load(self.tables, self.txn, queue_id))?;
                let unreadable = || Message { origin: Origin::Unreadable, ..Message::absent() };
                vacant.insert(loaded.unwrap_or_else(unreadable))
            }
        })
    }
}

impl<'a> Message<'a> {
    fn absent() -> Self {
        let location = Location { segment: 0, offset: 0, length: 0, record_bytes: 0, blob: None };
        Self {
            origin: Origin::Absent,
            location,
            entries: Vec::new(),
            outcomes: Vec::new(),
            last: 0,
            moved: None,
            was_kept: false,
        }
    }

    fn load(tables: &Tables, txn: &RoTxn<'_>, queue_id: QueueId) -> Result<Self, IndexError> {
        let key = keys::message(queue_id);
        let Some(value) = tables.message.get(txn, &key)? else {
            return Ok(match keeping::finished(tables, txn, queue_id)? {
                None => Self::absent(),
                Some(FinishedValue { until_ms, message }) => {
                    let location = message.head.stored.location;
                    Self { origin: Origin::Kept(message.head, until_ms), location, ..Self::absent() }
                }
            });
        };
        let head = tables.message.sound(&key, Head::decode(value))?;
        let mut entries = Vec::new();
        for row in tables.entry.prefix(txn, &key)? {
            let (key, value) = row?;
            let (_, hop) = tables.entry.sound(key, keys::read_entry(key))?;
            let entry = tables.entry.sound(key, EntryValue::decode(value))?;
            let before = Some(Before::of(&entry));
            let now = Some(entry);
            entries.push(Slot { hop, before, now, changed: false, touched: false, peer: None });
        }
        let location = head.stored.location;
        Ok(Self {
            origin: Origin::Stored(head),
            location,
            entries,
            outcomes: Vec::new(),
            last: 0,
            moved: None,
            was_kept: false,
        })
    }

    /// Whether anything is left to do for it.
    pub(super) fn is_alive(&self) -> bool {
        self.entries.iter().any(|slot| slot.now.is_some())
    }

    /// The blob that it had when the batch began.
    pub(super) fn blob_before(&self) -> Option<InBlob> {
        match &self.origin {
            Origin::Absent | Origin::Accepted(_) | Origin::Unreadable => None,
            Origin::Stored(head) | Origin::Kept(head, _) => head.stored.location.blob,
        }
    }

    /// The octets of a blob that it had, before the batch or in it, and needs no more; `stays` tells whether it is in the
    /// index from now on, in the queue or kept.
    pub(super) fn left_blob(&self, stays: bool) -> Option<u64> {
        if matches!(self.origin, Origin::Absent | Origin::Unreadable) {
            return None;
        }
        let had = self.location.blob.or(self.blob_before())?;
        let has = stays && self.location.blob.is_some();
        (!has).then_some(had.bytes)
    }

    /// When it was taken.
    pub(super) fn received_ms(&self) -> u64 {
        match &self.origin {
            Origin::Absent | Origin::Unreadable => 0,
            Origin::Stored(head) | Origin::Kept(head, _) => head.received_ms,
            Origin::Accepted(accepted) => accepted.received_ms,
        }
    }

    /// Its octets.
    pub(super) fn size(&self) -> u64 {
        match &self.origin {
            Origin::Absent | Origin::Unreadable => 0,
            Origin::Stored(head) | Origin::Kept(head, _) => head.size,
            Origin::Accepted(accepted) => accepted.size,
        }
    }

    fn slot(&mut self, hop: HopId) -> Option<&mut Slot<'a>> {
        let at = self.entries.binary_search_by_key(&hop, |slot| slot.hop).ok()?;
        self.entries.get_mut(at)
    }

    /// Note the number of a record with the entries that it has changed.
    fn stamp(&mut self, lsn: Lsn) {
        for slot in &mut self.entries {
            if std::mem::take(&mut slot.touched) {
                slot.changed = true;
                if let Some(entry) = &mut slot.now {
                    entry.version = lsn;
                }
            }
        }
    }

    fn accept(&mut self, accepted: &'a Accepted, location: Location) {
        self.location = location;
        if !matches!(self.origin, Origin::Absent) {
            return;
        }
        self.origin = Origin::Accepted(accepted);
        for (hop, entry) in entries_of(accepted, &[]) {
            self.join(hop, entry);
        }
    }

    /// Take over what a record says that moved the message.
    fn replace(&mut self, accepted: &'a Accepted, attempts: &[u32], as_of: Lsn, location: Location) {
        self.location = location;
        if self.last > as_of {
            return;
        }
        if matches!(self.origin, Origin::Absent) {
            self.origin = Origin::Accepted(accepted);
        }
        self.was_kept = accepted.entries.is_empty();
        let entries = entries_of(accepted, attempts);
        for slot in &mut self.entries {
            if entries.binary_search_by_key(&slot.hop, |(hop, _)| *hop).is_err() {
                slot.keep(RecipientSet::default());
            }
        }
        for (hop, mut entry) in entries {
            match self.slot(hop) {
                // What is in doubt is told next, by the same record.
                Some(slot) => {
                    if let Some(now) = &slot.now {
                        // Moving changes nothing but the place.
                        entry.attempts = entry.attempts.max(now.attempts);
                        entry.version = now.version;
                        entry.edit.clone_from(&now.edit);
                    }
                    slot.changed |= slot.now.as_ref() != Some(&entry);
                    slot.now = Some(entry).filter(|entry| !entry.recipients.is_empty());
                    slot.peer = None;
                }
                None => self.join(hop, entry),
            }
        }
    }

    /// Let recipients into the message's entry for a hop, which may have to be made.
    fn join(&mut self, hop: HopId, entry: EntryValue) {
        if entry.recipients.is_empty() {
            return;
        }
        match self.entries.binary_search_by_key(&hop, |slot| slot.hop) {
            Ok(at) => self.entries.get_mut(at).into_iter().for_each(|slot| slot.join(&entry)),
            Err(at) => {
                let (before, now) = (None, Some(entry));
                self.entries.insert(at, Slot { hop, before, now, changed: true, touched: true, peer: None });
            }
        }
    }

    fn route(&mut self, from: HopId, to: &[RoutedTo], hops: &[Arc<HopName>]) {
        for (nth, target) in to.iter().enumerate() {
            let Some(slot) = self.slot(from) else { return };
            let Some(source) = &mut slot.now else { return };
            let named = RecipientSet::from_indices(target.recipients.iter().copied());
            let going = source.recipients.intersection(&named);
            if going.is_empty() {
                continue;
            }
            slot.touched = true;
            if target.hop == from {
                source.due_ms = source.due_ms.min(target.due_ms);
                continue;
            }
            let staying = source.recipients.difference(&going);
            let is_set_aside = hops.get(nth).is_some_and(|name| name.kind == HopKind::Poison);
            let entry = EntryValue {
                due_ms: target.due_ms,
                expires_ms: if is_set_aside { NEVER_MS } else { source.expires_ms },
                attempts: 0,
                settled: 0,
                recipients: going,
                ..source.clone()
            };
            slot.keep(staying);
            self.join(target.hop, entry);
        }
    }

    fn settle(&mut self, hop: HopId, attempt: u32, disposition: Disposition, outcomes: &'a [Outcome]) {
        let received_ms = self.received_ms();
        let Some(slot) = self.slot(hop) else { return };
        let Some(entry) = &mut slot.now else { return };
        if attempt != 0 && attempt <= entry.settled {
            return;
        }
        let ours = |outcome: &&Outcome| entry.recipients.contains(outcome.recipient);
        let begun = entry.in_doubt() && attempt == entry.attempts;
        if !outcomes.is_empty() && !begun && !outcomes.iter().any(|outcome| ours(&outcome)) {
            return;
        }
        let known: Vec<&Outcome> = outcomes.iter().filter(ours).collect();
        let done = known.iter().filter(|outcome| outcome.state.is_final()).map(|outcome| outcome.recipient);
        let staying = entry.recipients.difference(&RecipientSet::from_indices(done));
        entry.attempts = entry.attempts.max(attempt);
        entry.settled = entry.settled.max(attempt);
        entry.due_ms = match disposition {
            Disposition::Due { due_ms } => due_ms,
            // Recipients that joined while the attempt went on wait since their message was taken.
            Disposition::Finished => entry.due_ms.min(received_ms),
        };
        slot.touched = true;
        slot.keep(staying);
        self.outcomes.extend(known);
    }

    fn edit(&mut self, record: &'a EditRecord, hops: &[Arc<HopName>]) {
        let EditRecord { hop, number, author, change, .. } = record;
        let Some(slot) = self.slot(*hop) else { return };
        let Some(entry) = &mut slot.now else { return };
        if entry.edit.as_ref().is_some_and(|last| *number <= last.number) {
            return;
        }
        slot.touched = true;
        entry.edit =
            Some(Box::new(LastEdit { number: *number, kind: change.kind(), author: author.clone() }));
        match change {
            Change::Suspended(suspension) => entry.suspended = Some(*suspension),
            Change::Resumed => entry.suspended = None,
            Change::Expiry(expires_ms) => entry.expires_ms = *expires_ms,
            Change::Priority(priority) => entry.priority = *priority,
            Change::Due(due_ms) => entry.due_ms = *due_ms,
            Change::Removed(outcomes) => {
                let due_ms = entry.due_ms;
                self.settle(*hop, 0, Disposition::Due { due_ms }, outcomes);
            }
            Change::Redirected(to) => self.route(*hop, std::slice::from_ref(to), hops),
        }
    }
}

/// The entries of a message as its record has them, by hop; `attempts` are the last whose end was known.
fn entries_of(accepted: &Accepted, attempts: &[u32]) -> Vec<(HopId, EntryValue)> {
    let known = RecipientSet::from_indices(0..accepted.recipients.len() as u32);
    let lane = lane_of(&accepted.sender);
    let entry = |(nth, record): (usize, &EntryRecord)| {
        let recipients = RecipientSet::from_indices(record.recipients.iter().copied());
        let settled = attempts.get(nth).copied().unwrap_or(0);
        let entry = EntryValue {
            priority: record.priority,
            due_ms: record.due_ms,
            expires_ms: record.expires_ms,
            attempts: settled,
            settled,
            lane,
            recipients: recipients.intersection(&known),
            version: 0,
            suspended: record.suspended,
            edit: None,
        };
        (record.hop, entry)
    };
    let mut entries: Vec<_> = accepted.entries.iter().enumerate().map(entry).collect();
    entries.sort_by_key(|(hop, _)| *hop);
    entries
}

impl<'a> Slot<'a> {
    fn start(&mut self, attempt: u32, peer: &'a str, is_news: bool) {
        let Some(entry) = &mut self.now else { return };
        if attempt > entry.settled && attempt >= entry.attempts {
            // One that is told again tells nothing new.
            self.touched |= is_news && attempt > entry.attempts;
            self.changed = true;
            entry.attempts = attempt;
            self.peer = Some(peer);
        }
    }

    fn join(&mut self, entry: &EntryValue) {
        self.touched = true;
        match &mut self.now {
            Some(present) => {
                present.due_ms = present.due_ms.min(entry.due_ms);
                present.expires_ms = present.expires_ms.max(entry.expires_ms);
                // Nothing that is suspended goes out because something that is not has joined it.
                present.suspended = present.suspended.or(entry.suspended);
                join_edits(&mut present.edit, entry.edit.as_deref());
                present.recipients = present.recipients.union(&entry.recipients);
            }
            gone @ None => *gone = Some(entry.clone()),
        }
    }

    /// Keep these recipients; without any the entry is gone, and with it what was begun.
    fn keep(&mut self, recipients: RecipientSet) {
        if recipients.is_empty() {
            self.now = None;
            self.peer = None;
        } else if let Some(entry) = &mut self.now {
            entry.recipients = recipients;
        }
    }
}

/// Keep the later of an entry's last edit and that of one which joins it, and count on from both.
fn join_edits(own: &mut Option<Box<LastEdit>>, theirs: Option<&LastEdit>) {
    let Some(theirs) = theirs else { return };
    let number = own.as_ref().map_or(0, |own| own.number).max(theirs.number);
    let is_later = own.as_ref().is_none_or(|own| own.author.at_ms <= theirs.author.at_ms);
    if is_later {
        *own = Some(Box::new(theirs.clone()));
    }
    if let Some(own) = own {
        own.number = number;
    }
}
