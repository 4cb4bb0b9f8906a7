//! Damage of the index: found in its file before LMDB maps it, and passed over row by row after that.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use penstock_core::queue_id::QueueId;

use super::{Log, hop, message, name, open, way};
use crate::facts::{Fact, HopKind, HopName, RoutedTo};
use crate::index::batch::NEVER_MS;
use crate::index::query::{
    self, Budget, Execution, Operator, Property, Query, Sort, Standing, Tree, Value, Want,
};
use crate::index::tables::Table;
use crate::index::{Index, Verdict, keys};
use crate::redo::Redo;
use crate::rows::{Answer, Request};

const MESSAGES: u64 = 40;

/// An index with messages for two hops, over a few transactions.
fn filled(dir: &Path) -> (Index, Log) {
    let (index, mut log) = (open(dir), Log::default());
    for first in (1..=MESSAGES).step_by(10) {
        let mut redo = Vec::new();
        for id in first..first + 10 {
            let others: Vec<u32> = (1..70).collect();
            let entries = vec![way(0, [0], id), way(1, others, id)];
            redo.push(log.accepted(id, 1 + id / 8, message(id, 70, entries)));
        }
        redo.push(log.started(first, 1, 1));
        index.apply(&redo, log.end()).unwrap();
    }
    (index, log)
}

fn ids(answer: Answer) -> Vec<u64> {
    match answer {
        Answer::Messages { rows, next: None, .. } => rows.iter().map(|row| row.queue_id.0).collect(),
        Answer::Entries { rows, .. } => rows.iter().map(|row| row.queue_id.0).collect(),
        other => panic!("{other:?}"),
    }
}

/// Write a row's value once more, with a checksum of something else.
fn spoil(index: &Index, table: Table, key: &[u8]) {
    let mut txn = index.env.write_txn().unwrap();
    let value = table.get(&txn, key).unwrap().unwrap().to_vec();
    table.put_with_sum_of(&mut txn, key, &value, b"something else");
    txn.commit().unwrap();
}

/// The messages that a query tells of whose next hop is the first.
fn queried(index: &Index, want: Want, rows: u64) -> Vec<u64> {
    let tree = Tree::Compare(Property::Hop, Operator::Eq, Value::Hop(hop(0)));
    let query = Query::new(query::Table::Messages, &tree, Standing::default(), want).unwrap();
    let mut execution = Execution::new(query);
    for _ in 0..1_000 {
        if execution.is_complete() {
            return execution.rows().iter().map(|row| row.key.queue_id).collect();
        }
        index.query(&mut execution, Budget { rows, time_ms: 1_000 }, &|| 0).unwrap();
    }
    panic!("the query does not end")
}

#[test]
fn a_row_that_cannot_be_read_holds_up_neither_a_page_nor_a_checkpoint() {
    let victim = QueueId(7);
    let keys_of = |index: &Index| {
        let tables = index.tables;
        let first = |table: Table, wanted: &dyn Fn(&[u8]) -> bool| {
            let txn = index.read().unwrap();
            let found = table.all(&txn).unwrap().map(Result::unwrap).find(|(key, _)| wanted(key));
            found.unwrap().0.to_vec()
        };
        let id = victim.0.to_be_bytes();
        let place = |key: &[u8]| key.windows(8).any(|part| part == id);
        [
            (tables.message, keys::message(victim).to_vec()),
            (tables.recipient, keys::recipient(victim, 1).to_vec()),
            (tables.entry, keys::entry(victim, hop(0)).to_vec()),
            (tables.ready, first(tables.ready, &|key| place(key) && key.starts_with(&keys::hop(hop(0))))),
            (tables.arrival, keys::arrival(hop(0), victim).to_vec()),
            (tables.timer, first(tables.timer, &place)),
            (tables.hop, keys::hop(hop(1)).to_vec()),
            (tables.segment, keys::segment(1).to_vec()),
        ]
    };
    for nth in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let (index, mut log) = filled(dir.path());
        let (table, key) = keys_of(&index)[nth].clone();
        spoil(&index, table, &key);
        let what = table.name;
        // An open would find it.
        let verdict = Index::verify(&dir.path().join("index"), None).unwrap();
        assert!(matches!(&verdict, Verdict::Damaged { what: text } if text.contains(what)), "{verdict:?}");
        let all = |hop, index: &Index| {
            let messages = Request::Messages { after: None, limit: 100, hop };
            ids(index.answer(&messages).unwrap())
        };
        let others: Vec<u64> = (1..=MESSAGES).filter(|&id| id != victim.0).collect();
        for hop in [None, Some(hop(0))] {
            let found = all(hop, &index);
            assert!(others.iter().all(|id| found.contains(id)) || what == "hop", "{what}");
        }
        let refill = Request::Refill { hop: hop(0), limit: 100, now_ms: u64::MAX / 2 };
        let found = ids(index.answer(&refill).unwrap());
        assert!(others.iter().all(|id| found.contains(id)), "{what}");
        let expired = ids(index.answer(&Request::Expired { now_ms: u64::MAX / 2, limit: 100 }).unwrap());
        assert!(others.iter().all(|id| expired.contains(id)), "{what}");
        let Answer::Hops { rows, .. } = index.answer(&Request::Hops).unwrap() else { panic!("hops") };
        assert_eq!(rows.len(), if what == "hop" { 1 } else { 2 }, "{what}");
        // A query goes over all the others, however small its steps.
        for (sort, budget) in [(false, 1), (false, 1_000), (true, 7)] {
            let sort = sort.then_some(Sort { property: Property::Sender, is_descending: false });
            let want = Want::Rows {
                select: vec![Property::QueueId, Property::Recipient],
                sort: sort.into_iter().collect(),
                after: None,
                limit: 100,
            };
            let found = queried(&index, want, budget);
            assert!(others.iter().all(|id| found.contains(id)) || what == "hop", "{what}: {found:?}");
        }
        // All are delivered. What could not be read is not taken for gone.
        let redo: Vec<Redo> = (1..=MESSAGES).map(|id| log.delivered(id, 0, 1, &[0])).collect();
        index.apply(&redo, log.end()).unwrap();
        assert_eq!(index.watermark(), log.end(), "{what}");
        let left = ids(index.answer(&refill).unwrap());
        assert!(left.iter().all(|&id| id == victim.0), "{what}: {left:?}");
        assert!(index.segments().is_err() == (what == "segment"), "{what}: nothing is given up on its word");
        assert!(index.unreadable() >= 1, "{what}");
        if what == "message" || what == "entry" {
            assert_eq!(index.messages_count().unwrap(), MESSAGES, "{what}");
        }
    }
}

#[test]
fn what_is_set_aside_as_poison_does_not_expire() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = filled(dir.path());
    let poison =
        Arc::new(HopName { connector: String::new(), kind: HopKind::Poison, destination: "damaged".into() });
    let to = |hop, recipients| vec![RoutedTo { hop, recipients, due_ms: 5 }];
    let routed = |id, from, to| Fact::Routed { queue_id: QueueId(id), from, to };
    let aside = routed(3, hop(0), to(poison.id(), vec![0]));
    let elsewhere = routed(4, hop(0), to(hop(1), vec![0]));
    let redo = [
        Redo::Fact { lsn: log.lsn + 1, fact: aside, hops: vec![Arc::clone(&poison)] },
        Redo::Fact { lsn: log.lsn + 2, fact: elsewhere, hops: vec![name(1)] },
    ];
    log.lsn += 2;
    index.apply(&redo, log.end()).unwrap();
    let entry = |id, hop| {
        let Answer::Message { row: Some(row), .. } =
            index.answer(&Request::Message { queue_id: QueueId(id) }).unwrap()
        else {
            panic!("it is there")
        };
        row.entries.iter().find(|entry| entry.hop == hop).unwrap().clone()
    };
    let aside = entry(3, poison.id());
    assert_eq!((aside.kind, aside.destination.as_str()), (HopKind::Poison, "damaged"));
    assert_eq!((aside.expires_ms, aside.in_doubt), (NEVER_MS, false));
    assert!(entry(4, hop(1)).expires_ms < 10_000);
}

#[test]
fn a_file_that_lmdb_has_written_is_sound_to_the_last_page() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = filled(dir.path());
    let path = dir.path().join("index");
    drop(index);
    assert_eq!(Index::verify(&dir.path().join("nothing"), None).unwrap(), Verdict::Empty);
    // Long values, which have pages of their own, branches, and lists of free pages.
    let index = open(dir.path());
    for round in 0..30_u64 {
        let first = 1_000 + 200 * round;
        let redo: Vec<Redo> = (first..first + 200)
            .map(|id| {
                let mut wordy = message(id, 3, vec![way((id % 8) as u8, [0, 1, 2], id)]);
                wordy.subject = "x".repeat(id as usize % 9_000);
                log.accepted(id, 9, wordy)
            })
            .collect();
        index.apply(&redo, log.end()).unwrap();
        let gone: Vec<Redo> =
            (first..first + 150).map(|id| log.delivered(id, (id % 8) as u8, 1, &[0, 1, 2])).collect();
        index.apply(&gone, log.end()).unwrap();
        let Verdict::Sound { is_complete: true, rows, .. } = Index::verify(&path, None).unwrap() else {
            panic!("round {round}")
        };
        assert!(rows > 50 * 5 * (round + 1), "{rows}");
    }
    drop(index);
    let verdict = Index::verify(&path, Some(Duration::ZERO)).unwrap();
    assert!(matches!(verdict, Verdict::Sound { is_complete: false, .. }), "{verdict:?}");
}

#[test]
fn every_octet_that_matters_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = filled(dir.path());
    drop(index);
    let path = dir.path().join("index");
    let whole = fs::read(path.join("data.mdb")).unwrap();
    let file = File::options().read(true).write(true).open(path.join("data.mdb")).unwrap();
    let (mut found, mut harmless) = (0, 0);
    for at in (0..whole.len()).step_by(211) {
        let flipped = whole[at] ^ 1 << (at % 8);
        file.write_all_at(&[flipped], at as u64).unwrap();
        match Index::verify(&path, None).unwrap() {
            Verdict::Damaged { .. } => found += 1,
            // Then LMDB says the same as before.
            Verdict::Sound { is_complete: true, .. } => {
                harmless += 1;
                if harmless % 10 == 0 {
                    let index = open(dir.path());
                    let messages = Request::Messages { after: None, limit: 100, hop: None };
                    assert_eq!(ids(index.answer(&messages).unwrap()).len() as u64, MESSAGES, "at {at}");
                    drop(index);
                }
            }
            verdict => panic!("{verdict:?}"),
        }
        file.write_all_at(&whole[at..=at], at as u64).unwrap();
    }
    assert!(found > 100, "{found} of {}", whole.len() / 211);
}
