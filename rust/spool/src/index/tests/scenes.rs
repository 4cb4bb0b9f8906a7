//! What single records do, and what they cost.

use penstock_core::queue_id::QueueId;

use super::model::Model;
use super::{Log, dump, hop, message, open, outcome, way};
use crate::facts::{Disposition, Fact, OutcomeState};
use crate::index::IndexError;
use crate::index::answer::{PAGE_RECIPIENTS_MAX, PAGE_ROWS_MAX};
use crate::index::values::TEXT_MAX;
use crate::redo::Redo;
use crate::rows::{Answer, EntryRow, HopRow, MessageRow, Request};

fn refill(index: &super::Index, number: u8, limit: u32, now_ms: u64) -> (Vec<EntryRow>, bool, Option<u64>) {
    match index.answer(&Request::Refill { hop: hop(number), limit, now_ms }).unwrap() {
        Answer::Entries { rows, complete, next_due_ms, .. } => (rows, complete, next_due_ms),
        other => panic!("{other:?}"),
    }
}

fn hops(index: &super::Index) -> Vec<HopRow> {
    let Answer::Hops { rows, .. } = index.answer(&Request::Hops).unwrap() else { panic!("another answer") };
    rows
}

fn show(index: &super::Index, id: u64) -> Option<Box<MessageRow>> {
    let answer = index.answer(&Request::Message { queue_id: QueueId(id) }).unwrap();
    let Answer::Message { row, .. } = answer else { panic!("another answer") };
    row
}

#[test]
fn what_comes_and_goes_between_two_checkpoints_touches_no_table() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let stays: Vec<_> =
        (1..200).map(|id| log.accepted(id, 1, message(id, 1, vec![way(0, [0], id)]))).collect();
    index.apply(&stays, log.end()).unwrap();
    let before = dump(&index);
    let mut redo = Vec::new();
    for id in 1_000..6_000 {
        redo.push(log.accepted(id, 2, message(id, 2, vec![way(0, [0], 1), way(1, [1], 1)])));
        redo.push(log.started(id, 0, 1));
        redo.push(log.delivered(id, 0, 1, &[0]));
        redo.push(log.routed(id, 1, &[(2, vec![1], 1)]));
        redo.push(log.delivered(id, 2, 1, &[1]));
    }
    let pages_before = index.size_bytes() / 4096;
    index.apply(&redo, log.end()).unwrap();
    assert_eq!(dump(&index), before);
    assert_eq!(index.last_queue_id(), Some(QueueId(5_999)));
    assert_eq!(index.watermark(), log.end());
    // The two rows of `meta`: its page, the root of the names, and LMDB's list of free pages.
    assert!(index.size_bytes() / 4096 - pages_before <= 4);
}

#[test]
fn a_refill_is_by_priority_then_by_due_time_then_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let mut redo = Vec::new();
    for (id, priority, due_ms) in [(1, 2, 10), (2, 1, 30), (3, 1, 20), (4, 1, 20), (5, 0, 90), (6, 0, 40)] {
        let mut entry = way(0, [0], due_ms);
        entry.priority = priority;
        redo.push(log.accepted(id, 1, message(id, 1, vec![entry])));
    }
    index.apply(&redo, log.end()).unwrap();
    let ids = |(rows, complete, next): (Vec<EntryRow>, bool, Option<u64>)| {
        (rows.iter().map(|row| row.queue_id.0).collect::<Vec<_>>(), complete, next)
    };
    assert_eq!(ids(refill(&index, 0, 10, 100)), (vec![6, 5, 3, 4, 2, 1], true, None));
    assert_eq!(ids(refill(&index, 0, 10, 30)), (vec![3, 4, 2, 1], true, Some(40)));
    assert_eq!(ids(refill(&index, 0, 2, 30)), (vec![3, 4], false, Some(10)));
    assert_eq!(ids(refill(&index, 0, 0, 100)), (vec![], false, Some(10)));
    assert_eq!(ids(refill(&index, 0, 4, 9)), (vec![], true, Some(10)));
    assert_eq!(ids(refill(&index, 1, 4, 9)), (vec![], true, None));
}

#[test]
fn recipients_that_joined_during_the_last_attempt_are_tried_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let redo = [
        log.accepted(1, 1, message(1, 2, vec![way(0, [0], 500), way(1, [1], 700)])),
        log.started(1, 0, 1),
        log.routed(1, 1, &[(0, vec![1], 800)]),
        log.delivered(1, 0, 1, &[0]),
    ];
    index.apply(&redo, log.end()).unwrap();
    let entries = show(&index, 1).unwrap().entries;
    assert_eq!(entries.len(), 1);
    assert_eq!((&entries[0].recipients[..], entries[0].due_ms, entries[0].expires_ms), (&[1][..], 11, 1_700));
    assert_eq!(refill(&index, 0, 5, 11).0.len(), 1);
}

#[test]
fn the_last_outcome_is_kept_also_of_recipients_that_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let mut wordy = outcome(69, OutcomeState::Deferred);
    (wordy.text, wordy.enhanced) = ("ä".repeat(TEXT_MAX), "4.1234567890".into());
    let redo = [
        log.accepted(1, 1, message(1, 70, vec![way(0, (0..70).collect::<Vec<_>>(), 5)])),
        log.settled(1, 0, 1, Disposition::Due { due_ms: 90 }, vec![outcome(3, OutcomeState::Failed), wordy]),
    ];
    index.apply(&redo[..1], super::Watermark { lsn: 1, segment: 1, offset: 1 }).unwrap();
    index.apply(&redo, log.end()).unwrap();
    let row = show(&index, 1).unwrap();
    assert_eq!(row.recipients[3].state, Some(OutcomeState::Failed));
    assert_eq!(row.recipients[4].state, None);
    let last = &row.recipients[69];
    assert_eq!((last.text.len(), last.enhanced.as_str()), (TEXT_MAX, "4.123456789"));
    assert_eq!(row.entries[0].recipients.len(), 69);
    assert_eq!((row.entries[0].attempts, row.entries[0].due_ms), (1, 90));
}

#[test]
fn a_hop_is_listed_while_it_has_entries_or_a_state() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let apply = |redo: Redo, log: &Log| {
        index.apply(&[redo], log.end()).unwrap();
        hops(&index).iter().map(|row| (row.count, row.bytes, row.state)).collect::<Vec<_>>()
    };
    assert_eq!(apply(log.hop_state(0, 0), &log), []);
    assert_eq!(apply(log.accepted(1, 1, message(1, 1, vec![way(0, [0], 5)])), &log), [(1, 1_001, 0)]);
    assert_eq!(apply(log.hop_state(0, 2), &log), [(1, 1_001, 2)]);
    assert_eq!(apply(log.delivered(1, 0, 1, &[0]), &log), [(0, 0, 2)]);
    assert_eq!(hops(&index)[0].earliest_due_ms, None);
    assert_eq!(apply(log.hop_state(0, 0), &log), []);
}

#[test]
fn a_hop_that_nobody_has_named_is_an_error_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let mut redo = log.hop_state(0, 1);
    if let Redo::Fact { hops, .. } = &mut redo {
        hops.clear();
    }
    assert!(matches!(index.apply(&[redo], log.end()), Err(IndexError::Unnamed(id)) if id == hop(0)));
    assert_eq!(index.watermark().lsn, 0);
}

#[test]
fn recipients_that_a_message_does_not_have_are_in_no_entry() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let redo = [
        log.accepted(1, 1, message(1, 1, vec![way(0, [0, 1, u32::MAX], 5), way(1, [7], 5)])),
        log.accepted(2, 1, message(2, 1, vec![])),
        log.accepted(3, 1, message(3, 0, vec![way(0, [0], 5)])),
    ];
    index.apply(&redo, log.end()).unwrap();
    assert_eq!(show(&index, 1).unwrap().entries[0].recipients, [0]);
    assert_eq!(index.messages_count().unwrap(), 1);
}

#[test]
fn facts_about_what_is_gone_are_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log, mut model) = (open(dir.path()), Log::default(), Model::default());
    let redo = [
        log.started(9, 0, 1),
        log.delivered(9, 0, 1, &[0]),
        log.routed(9, 0, &[(1, vec![0], 5)]),
        log.accepted(1, 1, message(1, 1, vec![way(0, [0], 5)])),
        log.started(1, 3, 1),
        log.routed(1, 3, &[(1, vec![0], 5)]),
    ];
    index.apply(&redo, log.end()).unwrap();
    model.apply(&redo, log.end());
    model.check(&index);
    assert_eq!(index.in_doubt().unwrap(), []);
}

#[test]
fn an_attempt_is_in_doubt_until_its_end_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let redo = [log.accepted(1, 1, message(1, 1, vec![way(0, [0], 5)])), log.started(1, 0, 1)];
    index.apply(&redo, log.end()).unwrap();
    drop(index);
    let index = open(dir.path());
    let in_doubt = index.in_doubt().unwrap();
    assert_eq!((in_doubt[0].attempt, in_doubt[0].peer.as_str()), (1, "mx-1.example"));
    assert!(refill(&index, 0, 1, 5).0[0].in_doubt);
    // Looking at its route, which is no attempt, ends no attempt.
    index.apply(&[log.settled(1, 0, 0, Disposition::Due { due_ms: 6 }, vec![])], log.end()).unwrap();
    assert_eq!(index.in_doubt().unwrap().len(), 1);
    index.apply(&[log.settled(1, 0, 2, Disposition::Due { due_ms: 7 }, vec![])], log.end()).unwrap();
    assert_eq!(index.in_doubt().unwrap(), []);
    let row = &refill(&index, 0, 1, 7).0[0];
    assert_eq!((row.attempts, row.in_doubt), (2, false));
}

#[test]
fn pages_are_bounded_whatever_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let rows_max = PAGE_ROWS_MAX as u64;
    let small = (0..rows_max + 5).map(|id| log.accepted(id, 1, message(id, 1, vec![way(0, [0], 5)])));
    let mut redo: Vec<_> = small.collect();
    let all: Vec<u32> = (0..PAGE_RECIPIENTS_MAX as u32).collect();
    for id in 20_000..20_003 {
        redo.push(log.accepted(id, 1, message(id, all.len(), vec![way(1, all.clone(), id)])));
    }
    index.apply(&redo, log.end()).unwrap();
    let (rows, complete, next) = refill(&index, 0, u32::MAX, 5);
    assert_eq!((rows.len() as u64, complete, next), (rows_max, false, Some(5)));
    let (rows, complete, next) = refill(&index, 1, 300, u64::MAX);
    assert_eq!((rows.len(), complete, next), (1, false, Some(20_001)));
    assert_eq!(rows[0].recipients.len(), all.len());
    let request = Request::Messages { after: None, limit: u32::MAX, hop: Some(hop(1)) };
    let Answer::Messages { rows, next, .. } = index.answer(&request).unwrap() else {
        panic!("another answer")
    };
    assert_eq!((rows.len(), next), (1, Some(QueueId(20_000))));
}

#[test]
fn a_message_with_many_recipients_costs_what_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let all: Vec<u32> = (0..100_000).collect();
    index.apply(&[log.accepted(1, 1, message(1, all.len(), vec![way(0, all, 5)]))], log.end()).unwrap();
    let before = dump(&index);
    index.apply(&[log.delivered(1, 0, 1, &[777])], log.end()).unwrap();
    let after = dump(&index);
    let changed: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
    assert_eq!(changed, ["recipient", "entry"]);
}

#[test]
fn the_content_is_not_in_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let answer = index.answer(&Request::Header { queue_id: QueueId(1), limit: 10 }).unwrap();
    assert!(matches!(answer, Answer::Failed { .. }));
}

#[test]
fn entries_of_one_message_for_one_hop_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log, mut model) = (open(dir.path()), Log::default(), Model::default());
    let redo = [log.accepted(1, 1, message(1, 3, vec![way(0, [0], 9), way(0, [2], 5), way(1, [1], 1)]))];
    index.apply(&redo, log.end()).unwrap();
    model.apply(&redo, log.end());
    model.check(&index);
    assert_eq!(show(&index, 1).unwrap().entries.len(), 2);
    assert!(matches!(&redo[0], Redo::Accepted { .. }));
    let to_itself = [log.routed(1, 0, &[(0, vec![0], 3)])];
    assert!(matches!(&to_itself[0], Redo::Fact { fact: Fact::Routed { .. }, .. }));
    index.apply(&to_itself, log.end()).unwrap();
    model.apply(&to_itself, log.end());
    model.check(&index);
}
