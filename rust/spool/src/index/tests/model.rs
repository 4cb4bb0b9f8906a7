//! What the index has to say, from maps that are searched from end to end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_core::queue_id::QueueId;
use sha2::{Digest, Sha256};

use super::{Index, dump};
use crate::edit::{Change, LastEdit, Suspension};
use crate::facts::{Accepted, Disposition, EntryRecord, Fact, HopId, HopName, Lsn, Outcome, RoutedTo};
use crate::index::keys;
use crate::index::values::{EntryValue, VERSION};
use crate::redo::{InDoubt, Location, Redo, SegmentUse, Stored, Watermark};
use crate::rows::{
    Answer, EntryRecipient, EntryRow, HopRow, MessageEntry, MessageRecipient, MessageRow, Request,
};

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) priority: u8,
    pub(super) due_ms: u64,
    pub(super) expires_ms: u64,
    pub(super) attempts: u32,
    pub(super) settled: u32,
    pub(super) peer: Option<String>,
    pub(super) recipients: BTreeSet<u32>,
    pub(super) version: Lsn,
    pub(super) suspended: Option<Suspension>,
    pub(super) edit: Option<LastEdit>,
}

#[derive(Clone)]
pub(super) struct Message {
    pub(super) accepted: Arc<Accepted>,
    pub(super) location: Location,
    pub(super) entries: BTreeMap<HopId, Entry>,
    pub(super) last: BTreeMap<u32, Outcome>,
}

#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) messages: BTreeMap<QueueId, Message>,
    /// State, last error, next retry, failures.
    hops: BTreeMap<HopId, (u8, String, u64, u32)>,
    names: BTreeMap<HopId, Arc<HopName>>,
    pub(super) watermark: Watermark,
    pub(super) greatest: Option<QueueId>,
    /// The last record that moved a message.
    moved: Lsn,
}

impl Model {
    pub(super) fn apply(&mut self, redo: &[Redo], to: Watermark) {
        for record in redo {
            self.take(record);
        }
        self.watermark = to;
    }

    pub(super) fn take(&mut self, record: &Redo) {
        match record {
            Redo::Accepted { lsn, queue_id, accepted, location, hops } => {
                self.names.extend(hops.iter().map(|name| (name.id(), Arc::clone(name))));
                self.greatest = self.greatest.max(Some(*queue_id));
                if let Some(known) = self.messages.get_mut(queue_id) {
                    known.location = *location;
                    return;
                }
                let mut message = Message {
                    accepted: Arc::clone(accepted),
                    location: *location,
                    entries: BTreeMap::new(),
                    last: BTreeMap::new(),
                };
                for record in &accepted.entries {
                    let entry = Entry {
                        priority: record.priority,
                        due_ms: record.due_ms,
                        expires_ms: record.expires_ms,
                        attempts: 0,
                        settled: 0,
                        peer: None,
                        recipients: record.recipients.iter().copied().collect(),
                        version: *lsn,
                        suspended: record.suspended,
                        edit: None,
                    };
                    if !entry.recipients.is_empty() {
                        message.join(record.hop, entry);
                    }
                }
                self.messages.insert(*queue_id, message);
            }
            Redo::Moved { lsn, queue_id, accepted, location, hops, attempts, .. } => {
                self.names.extend(hops.iter().map(|name| (name.id(), Arc::clone(name))));
                self.greatest = self.greatest.max(Some(*queue_id));
                self.moved = *lsn;
                let message = self.messages.entry(*queue_id).or_insert_with(|| Message {
                    accepted: Arc::clone(accepted),
                    location: *location,
                    entries: BTreeMap::new(),
                    last: BTreeMap::new(),
                });
                message.location = *location;
                let before = std::mem::take(&mut message.entries);
                let entry = |(record, &settled): (&EntryRecord, &u32)| {
                    let known = before.get(&record.hop);
                    let entry = Entry {
                        priority: record.priority,
                        due_ms: record.due_ms,
                        expires_ms: record.expires_ms,
                        attempts: known.map_or(settled, |known| known.attempts.max(settled)),
                        settled,
                        peer: None,
                        recipients: record.recipients.iter().copied().collect(),
                        version: known.map_or(*lsn, |known| known.version),
                        suspended: record.suspended,
                        edit: known.and_then(|known| known.edit.clone()),
                    };
                    (record.hop, entry)
                };
                message.entries = accepted.entries.iter().zip(attempts).map(entry).collect();
            }
            Redo::Started { lsn, queue_id, hop, attempt, peer } => {
                // A record that moves a message says again what is in doubt.
                let is_news = self.moved != *lsn;
                let entry = self.entry(*queue_id, *hop);
                if let Some(entry) =
                    entry.filter(|entry| *attempt > entry.settled && *attempt >= entry.attempts)
                {
                    if is_news && *attempt > entry.attempts {
                        entry.version = *lsn;
                    }
                    entry.attempts = *attempt;
                    entry.peer = Some(peer.clone());
                }
            }
            Redo::Fact { lsn, fact, hops } => {
                self.names.extend(hops.iter().map(|name| (name.id(), Arc::clone(name))));
                self.fact(*lsn, fact);
            }
        }
        self.messages.retain(|_, message| {
            message.entries.retain(|_, entry| !entry.recipients.is_empty());
            !message.entries.is_empty()
        });
    }

    fn entry(&mut self, queue_id: QueueId, hop: HopId) -> Option<&mut Entry> {
        self.messages.get_mut(&queue_id)?.entries.get_mut(&hop)
    }

    fn fact(&mut self, lsn: Lsn, fact: &Fact) {
        match fact {
            Fact::Hop { hop, state, last_error, next_retry_ms, failures } => {
                self.hops.insert(*hop, (*state, last_error.clone(), *next_retry_ms, *failures));
            }
            Fact::Routed { queue_id, from, to } => {
                let Some(message) = self.messages.get_mut(queue_id) else { return };
                for target in to {
                    message.route(lsn, *from, target);
                }
            }
            Fact::Edited(record) => {
                let Some(message) = self.messages.get_mut(&record.queue_id) else { return };
                let Some(entry) = message.entries.get_mut(&record.hop) else { return };
                if entry.edit.as_ref().is_some_and(|last| last.number >= record.number) {
                    return;
                }
                let (number, author) = (record.number, record.author.clone());
                entry.edit = Some(LastEdit { number, kind: record.change.kind(), author });
                entry.version = lsn;
                match &record.change {
                    Change::Suspended(suspension) => entry.suspended = Some(*suspension),
                    Change::Resumed => entry.suspended = None,
                    Change::Expiry(expires_ms) => entry.expires_ms = *expires_ms,
                    Change::Priority(priority) => entry.priority = *priority,
                    Change::Due(due_ms) => entry.due_ms = *due_ms,
                    Change::Redirected(to) => message.route(lsn, record.hop, to),
                    Change::Removed(outcomes) => {
                        for outcome in outcomes {
                            if entry.recipients.remove(&outcome.recipient) {
                                message.last.insert(outcome.recipient, outcome.clone());
                            }
                        }
                    }
                }
            }
            Fact::Settled { queue_id, hop, attempt, disposition, outcomes, .. } => {
                let Some(message) = self.messages.get_mut(queue_id) else { return };
                let received_ms = message.accepted.received_ms;
                let Some(entry) = message.entries.get_mut(hop) else { return };
                let begun = entry.peer.is_some() && *attempt == entry.attempts;
                let ours: Vec<_> =
                    outcomes.iter().filter(|outcome| entry.recipients.contains(&outcome.recipient)).collect();
                if (*attempt != 0 && *attempt <= entry.settled)
                    || (ours.is_empty() && !outcomes.is_empty() && !begun)
                {
                    return;
                }
                entry.version = lsn;
                for outcome in ours {
                    message.last.insert(outcome.recipient, outcome.clone());
                    if outcome.state.is_final() {
                        entry.recipients.remove(&outcome.recipient);
                    }
                }
                entry.settled = entry.settled.max(*attempt);
                entry.attempts = entry.attempts.max(*attempt);
                if entry.attempts <= entry.settled {
                    entry.peer = None;
                }
                entry.due_ms = match disposition {
                    Disposition::Due { due_ms } => *due_ms,
                    Disposition::Finished => entry.due_ms.min(received_ms),
                };
            }
        }
    }

    fn all_entries(&self) -> impl Iterator<Item = (QueueId, HopId, &Message, &Entry)> {
        self.messages.iter().flat_map(|(&id, message)| {
            message.entries.iter().map(move |(&hop, entry)| (id, hop, message, entry))
        })
    }

    pub(super) fn answer(&self, request: &Request) -> Answer {
        let watermark = self.watermark.lsn;
        match request {
            Request::Hops => Answer::Hops { watermark, rows: self.hop_rows() },
            Request::Refill { hop, limit, now_ms } => {
                let ours = self.all_entries().filter(|(_, at, ..)| at == hop);
                let mut all: Vec<_> = ours.filter(|(.., entry)| entry.suspended.is_none()).collect();
                all.sort_by_key(|(id, _, _, entry)| (entry.priority, entry.due_ms, *id));
                self.page(all, *limit, *now_ms, |entry| entry.due_ms)
            }
            Request::Expired { now_ms, limit } => {
                let all = self.all_entries();
                let mut all: Vec<_> =
                    all.filter(|(.., entry)| entry.suspended != Some(Suspension::Restored)).collect();
                all.sort_by_key(|(id, hop, _, entry)| (entry.expires_ms, *id, *hop));
                self.page(all, *limit, *now_ms, |entry| entry.expires_ms)
            }
            Request::Messages { after, limit, hop } => {
                let mut rows: Vec<_> = self
                    .messages
                    .iter()
                    .filter(|(id, _)| Some(**id) > *after)
                    .filter(|(_, message)| hop.is_none_or(|hop| message.entries.contains_key(&hop)))
                    .map(|(id, message)| self.message_row(*id, message))
                    .collect();
                let more = rows.len() > *limit as usize;
                rows.truncate(*limit as usize);
                let next = more.then(|| rows.last().map(|row| row.queue_id).or(*after)).flatten();
                Answer::Messages { watermark, next, rows }
            }
            Request::Entry { queue_id, hop } => {
                let all = self.all_entries().filter(|(id, at, ..)| (id, at) == (queue_id, hop));
                let rows = all.map(|(id, hop, message, entry)| entry_row(id, hop, message, entry)).collect();
                Answer::Entries { watermark, complete: true, next_due_ms: None, rows }
            }
            Request::Message { queue_id } => {
                let row = self.messages.get(queue_id).map(|message| self.message_row(*queue_id, message));
                Answer::Message { watermark, row: row.map(Box::new) }
            }
            Request::Kept { .. } => Answer::Kept { watermark, next: None, rows: Vec::new() },
            _ => Answer::Done { lsn: watermark },
        }
    }

    fn page(
        &self,
        all: Vec<(QueueId, HopId, &Message, &Entry)>,
        limit: u32,
        now_ms: u64,
        at_ms: fn(&Entry) -> u64,
    ) -> Answer {
        let (mut rows, mut left) = (Vec::new(), Vec::new());
        for (id, hop, message, entry) in all {
            if at_ms(entry) <= now_ms && rows.len() < limit as usize {
                rows.push(entry_row(id, hop, message, entry));
            } else {
                left.push(at_ms(entry));
            }
        }
        let complete = !left.iter().any(|&at_ms| at_ms <= now_ms);
        let next_due_ms = left.into_iter().min();
        Answer::Entries { watermark: self.watermark.lsn, complete, next_due_ms, rows }
    }

    fn hop_rows(&self) -> Vec<HopRow> {
        let used: BTreeSet<HopId> = self.all_entries().map(|(_, hop, ..)| hop).collect();
        let told = self.hops.iter().filter(|(_, told)| told.0 != 0).map(|(&hop, _)| hop);
        used.iter()
            .copied()
            .chain(told)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|hop| {
                let entries: Vec<_> = self.all_entries().filter(|(_, at, ..)| *at == hop).collect();
                // What was told of a hop is forgotten with its row.
                let told = self.hops.get(&hop).cloned().unwrap_or_default();
                let name = &self.names[&hop];
                HopRow {
                    hop,
                    connector: name.connector.clone(),
                    kind: name.kind,
                    destination: name.destination.clone(),
                    count: entries.len() as u64,
                    bytes: entries.iter().map(|(_, _, message, _)| message.accepted.size).sum(),
                    oldest_ms: entries
                        .iter()
                        .min_by_key(|(id, ..)| *id)
                        .map_or(0, |(_, _, message, _)| message.accepted.received_ms),
                    earliest_due_ms: entries
                        .iter()
                        .filter(|(.., entry)| entry.suspended.is_none())
                        .map(|(.., entry)| entry.due_ms)
                        .min(),
                    state: told.0,
                    last_error: told.1,
                    next_retry_ms: told.2,
                    failures: told.3,
                    suspended: entries.iter().filter(|(.., entry)| entry.suspended.is_some()).count() as u64,
                }
            })
            .collect()
    }

    /// Forget what was told of hops that have no row. A checkpoint does so, and only a checkpoint.
    pub(super) fn checkpoint(&mut self) {
        let used: BTreeSet<HopId> = self.all_entries().map(|(_, hop, ..)| hop).collect();
        self.hops.retain(|hop, told| told.0 != 0 || used.contains(hop));
    }

    fn message_row(&self, queue_id: QueueId, message: &Message) -> MessageRow {
        let accepted = &message.accepted;
        let recipients = (0..).zip(&accepted.recipients).map(|(index, recipient)| {
            let last = message.last.get(&index);
            MessageRecipient {
                index,
                address: recipient.address.clone(),
                state: last.map(|last| last.state),
                code: last.map_or(0, |last| last.code),
                enhanced: last.map_or(String::new(), |last| last.enhanced.clone()),
                text: last.map_or(String::new(), |last| last.text.clone()),
            }
        });
        let entries = message.entries.iter().map(|(&hop, entry)| MessageEntry {
            hop,
            connector: self.names[&hop].connector.clone(),
            kind: self.names[&hop].kind,
            destination: self.names[&hop].destination.clone(),
            due_ms: entry.due_ms,
            attempts: entry.attempts,
            expires_ms: entry.expires_ms,
            priority: entry.priority,
            recipients: entry.recipients.iter().copied().collect(),
            in_doubt: entry.peer.is_some(),
            version: entry.version,
            suspended: entry.suspended,
            edit: entry.edit.clone(),
        });
        MessageRow {
            queue_id,
            sender: accepted.sender.clone(),
            received_ms: accepted.received_ms,
            size: accepted.size,
            message_id: accepted.message_id.clone(),
            subject: accepted.subject.clone(),
            connector: accepted.connector.clone(),
            peer: accepted.peer.clone(),
            helo: accepted.helo.clone(),
            params: accepted.params.clone(),
            recipients: recipients.collect(),
            entries: entries.collect(),
        }
    }

    fn segments(&self) -> Vec<SegmentUse> {
        let mut segments: BTreeMap<u64, SegmentUse> = BTreeMap::new();
        for message in self.messages.values() {
            let segment = message.location.segment;
            let used =
                segments.entry(segment).or_insert(SegmentUse { segment, live_bytes: 0, live_messages: 0 });
            used.live_bytes += message.location.record_bytes;
            used.live_messages += 1;
        }
        segments.into_values().collect()
    }

    fn blobs(&self) -> Vec<(QueueId, u64)> {
        let blob = |(&id, message): (&QueueId, &Message)| Some((id, message.location.blob?.bytes));
        self.messages.iter().filter_map(blob).collect()
    }

    fn in_doubt(&self) -> Vec<InDoubt> {
        let all = self.all_entries().filter_map(|(queue_id, hop, _, entry)| {
            let peer = entry.peer.clone()?;
            Some(InDoubt { queue_id, hop, attempt: entry.attempts, peer })
        });
        all.collect()
    }

    /// The index must say the same about everything, and its tables must agree among themselves.
    pub(super) fn check(&self, index: &Index) {
        super::see_that_it_is_sound(index);
        assert_eq!(index.watermark(), self.watermark);
        assert_eq!(index.last_queue_id(), self.greatest);
        assert_eq!(index.messages_count().unwrap(), self.messages.len() as u64);
        assert_eq!(index.segments().unwrap(), self.segments());
        assert_eq!(index.blobs().unwrap(), self.blobs());
        assert_eq!(index.in_doubt().unwrap(), self.in_doubt());
        for request in self.requests() {
            assert_eq!(index.answer(&request).unwrap(), self.answer(&request), "{request:?}");
        }
        for id in 0..=self.greatest.map_or(0, |id| id.0) {
            let stored = self.messages.get(&QueueId(id)).map(|message| Stored {
                location: message.location,
                form: message.accepted.form,
                flags: message.accepted.flags,
            });
            assert_eq!(index.stored(QueueId(id)).unwrap(), stored);
        }
        check_tables(index);
    }

    fn requests(&self) -> Vec<Request> {
        let mut requests = vec![Request::Hops, Request::Checkpoint];
        let times = [0, 20, 60, 1_030, u64::MAX];
        for limit in [0, 1, 2, 100] {
            requests.extend(times.map(|now_ms| Request::Expired { now_ms, limit }));
            let afters = [None, Some(QueueId(2)), Some(QueueId(u64::MAX))];
            requests.extend(afters.map(|after| Request::Messages { after, limit, hop: None }));
            for &hop in self.names.keys() {
                requests.extend(times.map(|now_ms| Request::Refill { hop, limit, now_ms }));
                requests.extend(afters.map(|after| Request::Messages { after, limit, hop: Some(hop) }));
            }
        }
        for queue_id in (0..12).map(QueueId) {
            requests.push(Request::Message { queue_id });
            requests.extend(self.names.keys().map(|&hop| Request::Entry { queue_id, hop }));
        }
        requests
    }
}

impl Message {
    fn join(&mut self, hop: HopId, entry: Entry) {
        let Some(present) = self.entries.get_mut(&hop) else {
            self.entries.insert(hop, entry);
            return;
        };
        present.due_ms = present.due_ms.min(entry.due_ms);
        present.expires_ms = present.expires_ms.max(entry.expires_ms);
        present.recipients.extend(entry.recipients);
        present.version = present.version.max(entry.version);
        present.suspended = present.suspended.or(entry.suspended);
        let number = [&present.edit, &entry.edit].into_iter().flatten().map(|edit| edit.number).max();
        if present.edit.as_ref().map(|edit| edit.author.at_ms)
            <= entry.edit.as_ref().map(|edit| edit.author.at_ms)
        {
            present.edit = entry.edit;
        }
        if let Some((edit, number)) = present.edit.as_mut().zip(number) {
            edit.number = number;
        }
    }

    fn route(&mut self, lsn: Lsn, from: HopId, target: &RoutedTo) {
        let Some(source) = self.entries.get_mut(&from) else { return };
        let going: BTreeSet<u32> =
            target.recipients.iter().copied().filter(|index| source.recipients.remove(index)).collect();
        if !going.is_empty() {
            source.version = lsn;
        }
        let mut entry = Entry { due_ms: target.due_ms, recipients: going, ..source.clone() };
        if target.hop != from {
            (entry.attempts, entry.settled, entry.peer) = (0, 0, None);
            if source.recipients.is_empty() {
                self.entries.remove(&from);
            }
        }
        if !entry.recipients.is_empty() {
            self.join(target.hop, entry);
        }
    }
}

fn entry_row(queue_id: QueueId, hop: HopId, message: &Message, entry: &Entry) -> EntryRow {
    let accepted = &message.accepted;
    let lane = Sha256::digest(accepted.sender.to_ascii_lowercase());
    let recipients = entry.recipients.iter().map(|&index| {
        let recipient = accepted.recipients[index as usize].clone();
        EntryRecipient { index, address: recipient.address, notify: recipient.notify, orcpt: recipient.orcpt }
    });
    EntryRow {
        queue_id,
        hop,
        priority: entry.priority,
        lane: u64::from_be_bytes(lane[..8].try_into().unwrap()),
        due_ms: entry.due_ms,
        attempts: entry.attempts,
        expires_ms: entry.expires_ms,
        received_ms: accepted.received_ms,
        sender: accepted.sender.clone(),
        recipients: recipients.collect(),
        size: accepted.size,
        flags: accepted.flags,
        form: accepted.form,
        message_id: accepted.message_id.clone(),
        params: accepted.params.clone(),
        in_doubt: entry.peer.is_some(),
        version: entry.version,
        suspended: entry.suspended,
    }
}

/// Each entry has its places, nothing else has, and no message has recipients but its own.
fn check_tables(index: &Index) {
    let rows = dump(index);
    let keys_of = |table: &str| -> Vec<Vec<u8>> {
        rows.iter().filter(|row| row.0 == table).map(|row| row.1.clone()).collect()
    };
    let (mut ready, mut arrival, mut timer, mut started) = (vec![], vec![], vec![], vec![]);
    for (_, key, value) in rows.iter().filter(|row| row.0 == "entry") {
        let (queue_id, hop) = keys::read_entry(key).unwrap();
        let entry = EntryValue::decode(value).unwrap();
        let (priority, due_ms) = (entry.priority, entry.due_ms);
        if entry.suspended.is_none() {
            ready.push(keys::Ready { hop, priority, due_ms, queue_id }.key().to_vec());
        }
        arrival.push(keys::arrival(hop, queue_id).to_vec());
        if entry.suspended != Some(Suspension::Restored) {
            timer.push(keys::Timer { kind: 1, at_ms: entry.expires_ms, queue_id, hop }.key().to_vec());
        }
        if entry.in_doubt() {
            started.push(key.clone());
        }
    }
    for (table, mut expected) in
        [("ready", ready), ("arrival", arrival), ("timer", timer), ("started", started)]
    {
        expected.sort();
        assert_eq!(keys_of(table), expected, "{table}");
    }
    let owners = |table: &str| -> BTreeSet<Vec<u8>> {
        keys_of(table).into_iter().map(|key| key[..8].to_vec()).collect()
    };
    assert_eq!(owners("recipient"), owners("message"));
    assert_eq!(owners("entry"), owners("message"));
    assert!(rows.iter().all(|row| row.1.len() <= 511 && row.2.first() == Some(&VERSION)));
}
