//! Tests of the index as a whole. `model` says in the plainest way what it has to answer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod codecs;
mod damage;
mod files;
mod folding;
mod keeping;
mod model;
mod properties;
mod queries;
mod query_timing;
mod replay;
mod scenes;
mod timing;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use penstock_core::flow::{ContentFlags, Form};
use penstock_core::queue_id::QueueId;

use super::tables::Table;
use super::{Index, rowcheck};
use crate::edit::{Author, Change, EditRecord};
use crate::facts::{
    Accepted, Disposition, EntryRecord, EnvelopeParams, Fact, HopId, HopKind, HopName, Lsn, MoreParams,
    Outcome, OutcomeState, RecipientRecord, RoutedTo,
};
use crate::redo::{InBlob, Location, Redo, Watermark};

pub(super) const DATABASE: [u8; 16] = *b"penstock's tests";
pub(super) const MAP_BYTES: u64 = 1 << 30;
/// Octets that every message keeps alive of its segment, beyond its size.
pub(super) const OVERHEAD_BYTES: u64 = 100;

pub(super) fn open(path: &Path) -> Index {
    Index::open(&path.join("index"), MAP_BYTES, DATABASE).unwrap()
}

const NAMES: u8 = 8;

static HOPS: LazyLock<Vec<(HopId, Arc<HopName>)>> = LazyLock::new(|| {
    let name = |number| HopName {
        connector: format!("connector {number}"),
        kind: HopKind::from_number(1 + number % 4).unwrap(),
        destination: format!("hop-{number}.example"),
    };
    (0..NAMES).map(name).map(|name| (name.id(), Arc::new(name))).collect()
});

pub(super) fn name(number: u8) -> Arc<HopName> {
    Arc::clone(&HOPS[usize::from(number)].1)
}

pub(super) fn hop(number: u8) -> HopId {
    HOPS[usize::from(number)].0
}

pub(super) fn mailbox(index: usize) -> RecipientRecord {
    RecipientRecord {
        address: format!("rcpt-{index}@example.com"),
        orcpt: (index % 3 == 1).then(|| format!("rfc822;was-{index}@example.com")),
        notify: (index % 15) as u8,
    }
}

pub(super) fn way(number: u8, recipients: impl Into<Vec<u32>>, due_ms: u64) -> EntryRecord {
    let recipients = recipients.into();
    EntryRecord {
        hop: hop(number),
        recipients,
        priority: 1,
        due_ms,
        expires_ms: due_ms + 1_000,
        suspended: None,
    }
}

/// A message with `recipients` recipients.
pub(super) fn message(id: u64, recipients: usize, entries: Vec<EntryRecord>) -> Accepted {
    Accepted {
        received_ms: 10 + id,
        sender: format!("Sender-{}@Example.org", id % 3),
        params: EnvelopeParams {
            ret: (id.is_multiple_of(2)).then_some((id % 4 / 2) as u8),
            envid: (id.is_multiple_of(3)).then(|| format!("envelope {id}")),
            eight_bit: id.is_multiple_of(5),
            more: id.is_multiple_of(7).then(|| {
                Box::new(MoreParams {
                    smtp_utf8: true,
                    mt_priority: Some(-3),
                    auth_sender: Some("<>".into()),
                    ..MoreParams::default()
                })
            }),
        },
        connector: "inbound".into(),
        peer: "192.0.2.7".into(),
        helo: "client.example".into(),
        session: format!("session {id}"),
        form: if id.is_multiple_of(2) { Form::Wire } else { Form::Plain },
        flags: ContentFlags(id as u8 & 0x7f),
        size: 1_000 + id,
        message_id: format!("<{id}@example.org>"),
        subject: "Grüße".into(),
        recipients: (0..recipients).map(mailbox).collect(),
        entries,
    }
}

/// Makes records with the numbers that a log would give them.
#[derive(Default)]
pub(super) struct Log {
    pub(super) lsn: Lsn,
}

impl Log {
    fn next(&mut self) -> Lsn {
        self.lsn += 1;
        self.lsn
    }

    pub(super) fn accepted(&mut self, id: u64, segment: u64, accepted: Accepted) -> Redo {
        let named = |entry: &EntryRecord| HOPS.iter().find(|(id, _)| *id == entry.hop).unwrap().1.clone();
        let hops = accepted.entries.iter().map(named).collect();
        let record_bytes = accepted.size + OVERHEAD_BYTES;
        let blob = id.is_multiple_of(3).then_some(InBlob { bytes: 2 * accepted.size, sum: id as u32 });
        let location = Location { segment, offset: 4096 * id, length: accepted.size, record_bytes, blob };
        Redo::Accepted {
            lsn: self.next(),
            queue_id: QueueId(id),
            accepted: Arc::new(accepted),
            location,
            hops,
        }
    }

    pub(super) fn started(&mut self, id: u64, number: u8, attempt: u32) -> Redo {
        let (queue_id, hop, peer) = (QueueId(id), hop(number), format!("mx-{attempt}.example"));
        Redo::Started { lsn: self.next(), queue_id, hop, attempt, peer }
    }

    pub(super) fn settled(
        &mut self,
        id: u64,
        number: u8,
        attempt: u32,
        disposition: Disposition,
        outcomes: Vec<Outcome>,
    ) -> Redo {
        let fact = Fact::Settled {
            queue_id: QueueId(id),
            hop: hop(number),
            attempt,
            disposition,
            outcomes,
            peer: "mx.example".into(),
            session: "out".into(),
        };
        Redo::Fact { lsn: self.next(), fact, hops: Vec::new() }
    }

    pub(super) fn edited(&mut self, id: u64, from: u8, number: u32, at_ms: u64, change: Change) -> Redo {
        let hops = match &change {
            Change::Redirected(to) => {
                HOPS.iter().filter(|(id, _)| *id == to.hop).map(|hop| hop.1.clone()).collect()
            }
            _ => Vec::new(),
        };
        let author = Author { who: "operator1".into(), why: format!("edit {number}"), at_ms };
        let (queue_id, hop, version) = (QueueId(id), hop(from), self.lsn);
        let record = EditRecord { queue_id, hop, number, version, author, change };
        Redo::Fact { lsn: self.next(), fact: Fact::Edited(Box::new(record)), hops }
    }

    /// The end of an attempt that delivers to all of `recipients`.
    pub(super) fn delivered(&mut self, id: u64, number: u8, attempt: u32, recipients: &[u32]) -> Redo {
        let outcomes = recipients.iter().map(|&index| outcome(index, OutcomeState::Delivered)).collect();
        self.settled(id, number, attempt, Disposition::Finished, outcomes)
    }

    pub(super) fn routed(&mut self, id: u64, from: u8, to: &[(u8, Vec<u32>, u64)]) -> Redo {
        let hops = to.iter().map(|(number, ..)| name(*number)).collect();
        let to = to.iter().map(|(number, recipients, due_ms)| RoutedTo {
            hop: hop(*number),
            recipients: recipients.clone(),
            due_ms: *due_ms,
        });
        let fact = Fact::Routed { queue_id: QueueId(id), from: hop(from), to: to.collect() };
        Redo::Fact { lsn: self.next(), fact, hops }
    }

    pub(super) fn hop_state(&mut self, number: u8, state: u8) -> Redo {
        let fact = Fact::Hop {
            hop: hop(number),
            state,
            last_error: format!("state {state}"),
            next_retry_ms: 7 * u64::from(state),
            failures: state.into(),
        };
        Redo::Fact { lsn: self.next(), fact, hops: vec![name(number)] }
    }

    /// Up to the last record.
    pub(super) fn end(&self) -> Watermark {
        Watermark { lsn: self.lsn, segment: 1, offset: 4096 * self.lsn }
    }
}

pub(super) fn outcome(recipient: u32, state: OutcomeState) -> Outcome {
    Outcome {
        recipient,
        state,
        stage: 5,
        code: 250 + (recipient % 200) as u16,
        enhanced: "2.0.0".into(),
        text: format!("{state:?} {recipient}"),
    }
}

/// See to it that every row says something, and that the tables agree with each other.
pub(super) fn see_that_it_is_sound(index: &Index) {
    for (table, key, value) in dump(index) {
        assert_eq!(rowcheck::check(table, &key, &value), Ok(()), "{table}");
    }
    let mut wrong = Vec::new();
    index.check(&mut |what| wrong.push(what), &mut |_| {}).unwrap();
    assert_eq!(wrong, Vec::<String>::new());
}

/// All rows of all tables but `meta`.
pub(super) fn dump(index: &Index) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let txn = index.read().unwrap();
    let rows = |table: Table| {
        let rows = table.all(&txn).unwrap().map(Result::unwrap);
        rows.map(move |(key, value)| (table.name, key.to_vec(), value.to_vec())).collect::<Vec<_>>()
    };
    let tables = &index.tables;
    [
        tables.message,
        tables.recipient,
        tables.entry,
        tables.ready,
        tables.arrival,
        tables.timer,
        tables.started,
        tables.hop,
        tables.segment,
        tables.blob,
        tables.kept,
        tables.finished,
    ]
    .into_iter()
    .flat_map(rows)
    .collect()
}
