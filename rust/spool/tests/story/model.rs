//! What a spool must hold, as dictionaries: the state after any number of the things that were handed in.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_core::queue_id::QueueId;
use penstock_spool::{
    Accepted, Author, Disposition, Edit, EditKind, EntryRecord, Fact, HopId, HopName, InDoubt, LastEdit,
    MessageEntry, MessageRecipient, MessageRow, Outcome, OutcomeState, RoutedTo, Suspension,
};

/// One record, as it was handed in.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Accept(Accept),
    Start {
        queue_id: QueueId,
        hop: HopId,
        attempt: u32,
        peer: String,
    },
    Facts(Vec<Fact>),
    /// What an operator wants of an entry, and a report that is stored with it.
    Edit {
        queue_id: QueueId,
        hop: HopId,
        edit: Edit,
        author: Author,
        report: Option<Accept>,
    },
}

/// A message as it was handed in.
#[derive(Clone, Debug)]
pub(crate) struct Accept {
    pub(crate) queue_id: QueueId,
    pub(crate) accepted: Arc<Accepted>,
    pub(crate) content: Arc<Vec<u8>>,
    /// Whether its content goes on in a blob.
    pub(crate) is_in_blob: bool,
    pub(crate) cause: Vec<Fact>,
}

#[derive(Clone)]
struct Entry {
    priority: u8,
    due_ms: u64,
    expires_ms: u64,
    attempts: u32,
    settled: u32,
    /// With whom, if the end of the last attempt is not known.
    peer: Option<String>,
    recipients: BTreeSet<u32>,
    suspended: Option<Suspension>,
    edit: Option<LastEdit>,
}

#[derive(Clone)]
struct Message {
    accepted: Arc<Accepted>,
    content: Arc<Vec<u8>>,
    is_in_blob: bool,
    entries: BTreeMap<HopId, Entry>,
    last: BTreeMap<u32, Outcome>,
}

/// What was told of a hop: state, last error, next retry, failures.
type Told = (u8, String, u64, u32);

/// What can be seen of a spool from outside.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) messages: Vec<MessageRow>,
    pub(crate) contents: BTreeMap<QueueId, Option<Arc<Vec<u8>>>>,
    pub(crate) in_doubt: BTreeSet<(QueueId, HopId, u32, String)>,
    /// Hops that are not in their usual state.
    pub(crate) hops: BTreeMap<HopId, Told>,
    /// What a hop has.
    pub(crate) counts: BTreeMap<HopId, Count>,
    /// Entries that will expire.
    pub(crate) expiring: BTreeSet<(QueueId, HopId)>,
    /// What lies in the directory of blobs.
    pub(crate) blobs: BTreeSet<String>,
}

/// What a hop has.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Count {
    pub(crate) entries: u64,
    pub(crate) octets: u64,
    pub(crate) suspended: u64,
    /// When the first is due that is not suspended.
    pub(crate) due_ms: Option<u64>,
}

/// The state after some deeds.
#[derive(Clone, Default)]
pub(crate) struct Model {
    messages: BTreeMap<QueueId, Message>,
    hops: BTreeMap<HopId, Told>,
}

impl Model {
    /// Take the next deed. Only those are meant that make sense at the time: attempts ascend, what is settled was begun.
    pub(crate) fn take(&mut self, deed: &Deed) {
        match deed {
            Deed::Accept(accept) => self.accept(accept),
            Deed::Start { queue_id, hop, attempt, peer } => {
                let entry = self.messages.get_mut(queue_id).and_then(|message| message.entries.get_mut(hop));
                if let Some(entry) = entry {
                    entry.attempts = *attempt;
                    entry.peer = Some(peer.clone());
                }
            }
            Deed::Facts(facts) => facts.iter().for_each(|fact| self.fact(fact)),
            Deed::Edit { queue_id, hop, edit, author, report } => {
                self.edit(*queue_id, *hop, *edit, author);
                if let Some(report) = report {
                    self.accept(report);
                }
            }
        }
        self.messages.retain(|_, message| {
            message.entries.retain(|_, entry| !entry.recipients.is_empty());
            !message.entries.is_empty()
        });
    }

    fn accept(&mut self, accept: &Accept) {
        let entry = |record: &EntryRecord| Entry {
            priority: record.priority,
            due_ms: record.due_ms,
            expires_ms: record.expires_ms,
            attempts: 0,
            settled: 0,
            peer: None,
            recipients: record.recipients.iter().copied().collect(),
            suspended: record.suspended,
            edit: None,
        };
        let Accept { queue_id, accepted, content, is_in_blob, cause } = accept;
        let entries = accepted.entries.iter().map(|record| (record.hop, entry(record))).collect();
        let (accepted, content) = (Arc::clone(accepted), Arc::clone(content));
        let message = Message { accepted, content, is_in_blob: *is_in_blob, entries, last: BTreeMap::new() };
        self.messages.insert(*queue_id, message);
        for fact in cause {
            self.fact(fact);
        }
    }

    fn edit(&mut self, queue_id: QueueId, hop: HopId, edit: Edit, author: &Author) {
        let Some(message) = self.messages.get_mut(&queue_id) else { return };
        let Some(entry) = message.entries.get_mut(&hop) else { return };
        let number = entry.edit.as_ref().map_or(0, |last| last.number) + 1;
        entry.edit = Some(LastEdit { number, kind: kind(edit), author: author.clone() });
        match edit {
            Edit::Suspend(suspension) => entry.suspended = Some(suspension),
            Edit::Resume => entry.suspended = None,
            Edit::Expire { expires_ms } => entry.expires_ms = expires_ms,
            Edit::Prioritise { priority } => entry.priority = priority,
            Edit::Due { due_ms } => entry.due_ms = due_ms,
            Edit::Remove => {
                for recipient in std::mem::take(&mut entry.recipients) {
                    message.last.insert(recipient, removed(recipient));
                }
            }
            Edit::Redirect { to, due_ms } => {
                let recipients = entry.recipients.iter().copied().collect();
                message.route(hop, &RoutedTo { hop: to, recipients, due_ms });
            }
        }
    }

    fn fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Hop { hop, state, last_error, next_retry_ms, failures } => {
                self.hops.insert(*hop, (*state, last_error.clone(), *next_retry_ms, *failures));
            }
            Fact::Routed { queue_id, from, to } => {
                let Some(message) = self.messages.get_mut(queue_id) else { return };
                for target in to {
                    message.route(*from, target);
                }
            }
            Fact::Edited(_) => unreachable!("the spool itself makes these"),
            Fact::Settled { queue_id, hop, attempt, disposition, outcomes, .. } => {
                let Some(message) = self.messages.get_mut(queue_id) else { return };
                let received_ms = message.accepted.received_ms;
                let Some(entry) = message.entries.get_mut(hop) else { return };
                for outcome in outcomes {
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

    /// Entries that can be tried: message, hop, next attempt, recipients left, whether one is under way.
    pub(crate) fn entries(&self) -> Vec<(QueueId, HopId, u32, Vec<u32>, bool)> {
        let each = |(&id, message): (&QueueId, &Message)| {
            message
                .entries
                .iter()
                .map(|(&hop, entry)| {
                    let left = entry.recipients.iter().copied().collect();
                    (id, hop, entry.attempts + 1, left, entry.peer.is_some())
                })
                .collect::<Vec<_>>()
        };
        self.messages.iter().flat_map(each).collect()
    }

    /// How often an entry was edited, and whether it is suspended.
    pub(crate) fn edited(&self, queue_id: QueueId, hop: HopId) -> (u32, bool) {
        let entry = &self.messages[&queue_id].entries[&hop];
        (entry.edit.as_ref().map_or(0, |last| last.number), entry.suspended.is_some())
    }

    /// What a spool in this state shows.
    pub(crate) fn seen(&self, names: &BTreeMap<HopId, HopName>) -> Seen {
        let mut seen = Seen::default();
        for (&id, message) in &self.messages {
            seen.messages.push(row(id, message, names));
            seen.contents.insert(id, Some(Arc::clone(&message.content)));
            seen.blobs.extend(message.is_in_blob.then(|| id.to_string()));
            for (&hop, entry) in &message.entries {
                if entry.suspended != Some(Suspension::Restored) {
                    seen.expiring.insert((id, hop));
                }
                let count = seen.counts.entry(hop).or_default();
                count.entries += 1;
                count.octets += message.accepted.size;
                if entry.suspended.is_some() {
                    count.suspended += 1;
                } else {
                    count.due_ms = Some(count.due_ms.map_or(entry.due_ms, |due_ms| due_ms.min(entry.due_ms)));
                }
                if let Some(peer) = &entry.peer {
                    seen.in_doubt.insert((id, hop, entry.attempts, peer.clone()));
                }
            }
        }
        seen.hops = self
            .hops
            .iter()
            .filter(|(_, told)| told.0 != 0)
            .map(|(&hop, told)| (hop, told.clone()))
            .collect();
        seen
    }
}

impl Message {
    /// Have recipients of an entry go elsewhere.
    fn route(&mut self, from: HopId, to: &RoutedTo) {
        let Some(source) = self.entries.get_mut(&from) else { return };
        let going: BTreeSet<u32> =
            to.recipients.iter().copied().filter(|at| source.recipients.remove(at)).collect();
        if going.is_empty() {
            return;
        }
        let (due_ms, peer) = (to.due_ms, None);
        let moved = Entry { due_ms, attempts: 0, settled: 0, peer, recipients: going, ..source.clone() };
        match self.entries.entry(to.hop) {
            Slot::Vacant(vacant) => drop(vacant.insert(moved)),
            Slot::Occupied(present) => present.into_mut().join(&moved),
        }
    }
}

impl Entry {
    fn join(&mut self, other: &Self) {
        self.due_ms = self.due_ms.min(other.due_ms);
        self.expires_ms = self.expires_ms.max(other.expires_ms);
        self.recipients.extend(&other.recipients);
        self.suspended = self.suspended.or(other.suspended);
        let number = |entry: &Self| entry.edit.as_ref().map_or(0, |last| last.number);
        let number = number(self).max(number(other));
        let at_ms = |entry: &Self| entry.edit.as_ref().map(|last| last.author.at_ms);
        if at_ms(self) <= at_ms(other) {
            self.edit.clone_from(&other.edit);
        }
        self.edit.iter_mut().for_each(|last| last.number = number);
    }
}

fn kind(edit: Edit) -> EditKind {
    match edit {
        Edit::Suspend(_) => EditKind::Suspend,
        Edit::Resume => EditKind::Resume,
        Edit::Remove => EditKind::Remove,
        Edit::Redirect { .. } => EditKind::Redirect,
        Edit::Expire { .. } => EditKind::Expire,
        Edit::Prioritise { .. } => EditKind::Prioritise,
        Edit::Due { .. } => EditKind::Due,
    }
}

/// What the outcome of a recipient says that an operator has removed.
fn removed(recipient: u32) -> Outcome {
    Outcome {
        recipient,
        state: OutcomeState::Removed,
        stage: 0,
        code: 0,
        enhanced: "4.3.2".into(),
        text: "message removed by an administrator".into(),
    }
}

pub(crate) fn doubts(found: &[InDoubt]) -> BTreeSet<(QueueId, HopId, u32, String)> {
    found.iter().map(|one| (one.queue_id, one.hop, one.attempt, one.peer.clone())).collect()
}

fn row(queue_id: QueueId, message: &Message, names: &BTreeMap<HopId, HopName>) -> MessageRow {
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
    let entries = message.entries.iter().map(|(&hop, entry)| {
        let name = &names[&hop];
        MessageEntry {
            hop,
            connector: name.connector.clone(),
            kind: name.kind,
            destination: name.destination.clone(),
            due_ms: entry.due_ms,
            attempts: entry.attempts,
            expires_ms: entry.expires_ms,
            priority: entry.priority,
            recipients: entry.recipients.iter().copied().collect(),
            in_doubt: entry.peer.is_some(),
            version: 0,
            suspended: entry.suspended,
            edit: entry.edit.clone(),
        }
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

/// The end of an attempt with these outcomes.
pub(crate) fn settled(queue_id: QueueId, hop: HopId, attempt: u32, outcomes: &[(u32, OutcomeState)]) -> Fact {
    let is_finished = outcomes.iter().all(|(_, state)| state.is_final());
    let due = Disposition::Due { due_ms: crate::common::NOW_MS + 900_000 };
    let outcome = |&(recipient, state): &(u32, OutcomeState)| Outcome {
        recipient,
        state,
        stage: 8,
        code: if state == OutcomeState::Delivered { 250 } else { 450 },
        enhanced: "2.0.0".into(),
        text: format!("{state:?}"),
    };
    Fact::Settled {
        queue_id,
        hop,
        attempt,
        disposition: if is_finished { Disposition::Finished } else { due },
        outcomes: outcomes.iter().map(outcome).collect(),
        peer: "192.0.2.1".into(),
        session: "c1".into(),
    }
}
