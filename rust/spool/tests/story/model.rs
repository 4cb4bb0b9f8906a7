//! What a spool must hold, as dictionaries: the state after any number of the things that were handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_core::queue_id::QueueId;
use penstock_spool::{
    Accepted, Disposition, EntryRecord, Fact, HopId, HopName, InDoubt, MessageEntry, MessageRecipient,
    MessageRow, Outcome, OutcomeState,
};

/// One record, as it was handed in.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Accept { queue_id: QueueId, accepted: Arc<Accepted>, content: Arc<Vec<u8>>, cause: Vec<Fact> },
    Start { queue_id: QueueId, hop: HopId, attempt: u32, peer: String },
    Facts(Vec<Fact>),
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
}

#[derive(Clone)]
struct Message {
    accepted: Arc<Accepted>,
    content: Arc<Vec<u8>>,
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
    /// Entries and octets by hop.
    pub(crate) counts: BTreeMap<HopId, (u64, u64)>,
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
            Deed::Accept { queue_id, accepted, content, cause } => {
                let entry = |record: &EntryRecord| Entry {
                    priority: record.priority,
                    due_ms: record.due_ms,
                    expires_ms: record.expires_ms,
                    attempts: 0,
                    settled: 0,
                    peer: None,
                    recipients: record.recipients.iter().copied().collect(),
                };
                let entries = accepted.entries.iter().map(|record| (record.hop, entry(record))).collect();
                let (accepted, content) = (Arc::clone(accepted), Arc::clone(content));
                let message = Message { accepted, content, entries, last: BTreeMap::new() };
                self.messages.insert(*queue_id, message);
                for fact in cause {
                    self.fact(fact);
                }
            }
            Deed::Start { queue_id, hop, attempt, peer } => {
                let entry = self.messages.get_mut(queue_id).and_then(|message| message.entries.get_mut(hop));
                if let Some(entry) = entry {
                    entry.attempts = *attempt;
                    entry.peer = Some(peer.clone());
                }
            }
            Deed::Facts(facts) => facts.iter().for_each(|fact| self.fact(fact)),
        }
        self.messages.retain(|_, message| {
            message.entries.retain(|_, entry| !entry.recipients.is_empty());
            !message.entries.is_empty()
        });
    }

    fn fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Hop { hop, state, last_error, next_retry_ms, failures } => {
                self.hops.insert(*hop, (*state, last_error.clone(), *next_retry_ms, *failures));
            }
            Fact::Routed { queue_id, from, to } => {
                let Some(message) = self.messages.get_mut(queue_id) else { return };
                for target in to {
                    let Some(source) = message.entries.get_mut(from) else { return };
                    let going: BTreeSet<u32> =
                        target.recipients.iter().copied().filter(|at| source.recipients.remove(at)).collect();
                    if going.is_empty() {
                        continue;
                    }
                    let (due_ms, peer) = (target.due_ms, None);
                    let moved =
                        Entry { due_ms, attempts: 0, settled: 0, peer, recipients: going, ..source.clone() };
                    message
                        .entries
                        .entry(target.hop)
                        .and_modify(|present| {
                            present.due_ms = present.due_ms.min(moved.due_ms);
                            present.expires_ms = present.expires_ms.max(moved.expires_ms);
                            present.recipients.extend(&moved.recipients);
                        })
                        .or_insert(moved);
                }
            }
            Fact::Edited(_) => unreachable!("the story edits nothing"),
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

    /// What a spool in this state shows.
    pub(crate) fn seen(&self, names: &BTreeMap<HopId, HopName>) -> Seen {
        let mut seen = Seen::default();
        for (&id, message) in &self.messages {
            seen.messages.push(row(id, message, names));
            seen.contents.insert(id, Some(Arc::clone(&message.content)));
            for (&hop, entry) in &message.entries {
                let (entries, octets) = seen.counts.entry(hop).or_default();
                (*entries, *octets) = (*entries + 1, *octets + message.accepted.size);
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
            suspended: None,
            edit: None,
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
