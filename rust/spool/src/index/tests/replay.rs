//! Records that were appended again have new numbers: what they say must not happen twice.

use std::collections::{BTreeMap, BTreeSet};

use penstock_core::queue_id::QueueId;
use proptest::prelude::*;

use super::model::Model;
use super::properties::{Attempt, HOPS, Op, Story, accept, attempt, edit};
use super::{Log, hop, message, open, outcome, way};
use crate::edit::EditKind;
use crate::facts::{Disposition, OutcomeState};
use crate::index::Index;
use crate::index::values::EntryValue;
use crate::redo::{Location, Redo, Watermark};

/// The same record as it is appended again.
fn again(log: &mut Log, redo: &Redo) -> Redo {
    let mut copy = redo.clone();
    log.lsn += 1;
    match &mut copy {
        Redo::Accepted { lsn, .. }
        | Redo::Fact { lsn, .. }
        | Redo::Started { lsn, .. }
        | Redo::Moved { lsn, .. } => *lsn = log.lsn,
    }
    copy
}

fn unfinished(model: &Model) -> BTreeMap<QueueId, BTreeSet<u32>> {
    let left = |message: &super::model::Message| {
        message.entries.values().flat_map(|entry| entry.recipients.iter().copied()).collect()
    };
    model.messages.iter().map(|(&id, message)| (id, left(message))).collect()
}

fn unfinished_in(index: &Index) -> BTreeMap<QueueId, BTreeSet<u32>> {
    let request = crate::Request::Messages { after: None, limit: 1_000, hop: None };
    let crate::Answer::Messages { rows, .. } = index.answer(&request).unwrap() else {
        panic!("another answer")
    };
    let left = |row: &crate::MessageRow| {
        row.entries.iter().flat_map(|entry| entry.recipients.iter().copied()).collect()
    };
    rows.iter().map(|row| (row.queue_id, left(row))).collect()
}

/// What attempts say; with `routes`, messages are also sent from hop to hop and settled without an attempt.
fn op(routes: bool) -> impl Strategy<Value = Op> {
    let at = || (0..9_u64, 0..HOPS, attempt());
    let states = prop::collection::vec(0..8_u8, 1..5);
    let settle =
        (at(), prop::option::of(0..60_u64), states).prop_map(move |((id, hop, attempt), due_ms, states)| {
            let attempt = if routes { attempt } else { Attempt::Next };
            Op::Settle { id, hop, attempt, due_ms, states, only_ours: true }
        });
    let route = (0..9_u64, 0..HOPS, prop::collection::vec((0..HOPS, 0..60_u64), 0..3), any::<u32>());
    prop_oneof![
        4 => accept(),
        4 => at().prop_map(|(id, hop, attempt)| Op::Start { id, hop, attempt }),
        6 => settle,
        4 => edit().prop_filter("a redirection is a route", move |op| {
            routes || !matches!(op, Op::Edit { what, .. } if *what == EditKind::Redirect as u8)
        }),
        if routes { 3 } else { 0 } =>
            route.prop_map(|(id, from, to, salt)| Op::Route { id, from, to, salt }),
    ]
}

/// Apply some operations; then others, followed by a beginning of the same records once more.
fn replayed(dir: &std::path::Path, first: &[Op], second: &[Op], cut: usize) -> (Index, Story) {
    let (index, mut story) = (open(dir), Story { is_likely: true, ..Story::default() });
    let redo: Vec<Redo> = first.iter().filter_map(|op| story.tell(op)).collect();
    index.apply(&redo, story.log.end()).unwrap();
    let mut redo: Vec<Redo> = second.iter().filter_map(|op| story.tell(op)).collect();
    let copies: Vec<_> = redo.iter().take(cut).map(|record| again(&mut story.log, record)).collect();
    for copy in &copies {
        // Where the content is, its last copy says.
        if let Redo::Accepted { queue_id, location, .. } = copy
            && let Some(message) = story.model.messages.get_mut(queue_id)
        {
            message.location = *location;
        }
    }
    redo.extend(copies);
    story.model.watermark = story.log.end();
    index.apply(&redo, story.log.end()).unwrap();
    (index, story)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn records_that_come_again_whole_or_in_part_change_nothing(
        first in prop::collection::vec(op(false), 0..12),
        second in prop::collection::vec(op(false), 0..20),
        cut in 0..30_usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (index, story) = replayed(dir.path(), &first, &second, cut);
        story.model.check(&index);
    }

    #[test]
    fn whatever_comes_again_brings_no_recipient_back_and_finishes_none(
        first in prop::collection::vec(op(true), 0..12),
        second in prop::collection::vec(op(true), 0..20),
        cut in 0..30_usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (index, story) = replayed(dir.path(), &first, &second, cut);
        prop_assert_eq!(unfinished_in(&index), unfinished(&story.model));
    }
}

#[test]
fn a_message_that_was_finished_in_the_batch_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let accepted = log.accepted(1, 1, message(1, 1, vec![way(0, [0], 5)]));
    let mut redo = vec![accepted, log.started(1, 0, 1), log.delivered(1, 0, 1, &[0])];
    redo.extend([again(&mut log, &redo[0]), again(&mut log, &redo[1])]);
    index.apply(&redo, log.end()).unwrap();
    assert_eq!(index.messages_count().unwrap(), 0);
    assert_eq!(index.in_doubt().unwrap(), []);
    assert_eq!(index.segments().unwrap(), []);
}

#[test]
fn a_message_that_is_appended_again_is_where_its_last_copy_is() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log, mut model) = (open(dir.path()), Log::default(), Model::default());
    let moved = |redo: &Redo, to: u64| {
        let mut redo = redo.clone();
        if let Redo::Accepted { location: Location { segment, .. }, .. } = &mut redo {
            *segment = to;
        }
        redo
    };
    let accepted = log.accepted(1, 1, message(1, 1, vec![way(0, [0], 5)]));
    let redo = [accepted.clone(), again(&mut log, &moved(&accepted, 2))];
    index.apply(&redo, log.end()).unwrap();
    model.apply(&redo, log.end());
    model.check(&index);
    let redo =
        [log.settled(1, 0, 1, Disposition::Due { due_ms: 50 }, vec![outcome(0, OutcomeState::Deferred)])];
    index.apply(&redo, log.end()).unwrap();
    model.apply(&redo, log.end());
    let redo = [again(&mut log, &moved(&accepted, 3))];
    index.apply(&redo, log.end()).unwrap();
    model.apply(&redo, log.end());
    model.check(&index);
    let segments: Vec<u64> = index.segments().unwrap().iter().map(|used| used.segment).collect();
    assert_eq!(segments, [3]);
}

#[test]
fn an_end_of_an_earlier_entry_for_the_same_hop_is_not_taken_for_an_end_of_the_present_one() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log, mut model) = (open(dir.path()), Log::default(), Model::default());
    let accepted = message(1, 2, vec![way(0, [0], 5), way(1, [1], 5)]);
    let mut redo = vec![log.accepted(1, 1, accepted), log.delivered(1, 1, 1, &[1])];
    redo.push(log.routed(1, 0, &[(1, vec![0], 9)]));
    let copies = [again(&mut log, &redo[0]), again(&mut log, &redo[1])];
    redo.extend(copies);
    index.apply(&redo, log.end()).unwrap();
    model.apply(&redo, log.end());
    model.check(&index);
    let entry = &model.messages[&QueueId(1)].entries[&hop(1)];
    assert_eq!((entry.attempts, entry.due_ms), (0, 9));
}

#[test]
fn the_end_of_an_attempt_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log, mut model) = (open(dir.path()), Log::default(), Model::default());
    let deferred = |log: &mut Log, attempt, due_ms| {
        log.settled(1, 0, attempt, Disposition::Due { due_ms }, vec![outcome(0, OutcomeState::Deferred)])
    };
    let mut redo = vec![log.accepted(1, 1, message(1, 1, vec![way(0, [0], 5)]))];
    redo.extend([deferred(&mut log, 1, 50), deferred(&mut log, 2, 60)]);
    for attempt in [1, 2] {
        redo.extend([deferred(&mut log, attempt, 70), log.delivered(1, 0, attempt, &[0])]);
    }
    index.apply(&redo, log.end()).unwrap();
    model.apply(&redo, log.end());
    model.check(&index);
    let entry = &model.messages[&QueueId(1)].entries[&hop(0)];
    assert_eq!((entry.settled, entry.due_ms), (2, 60));
}

#[test]
fn a_watermark_does_not_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let redo = [log.accepted(1, 1, message(1, 1, vec![way(0, [0], 5)]))];
    index.apply(&redo, Watermark { lsn: 7, segment: 2, offset: 0 }).unwrap();
    index.apply(&redo, Watermark { lsn: 6, segment: 9, offset: 0 }).unwrap();
    assert_eq!(index.watermark(), Watermark { lsn: 7, segment: 2, offset: 0 });
    index.apply(&[], Watermark { lsn: 7, segment: 3, offset: 0 }).unwrap();
    assert_eq!(index.watermark().segment, 3);
}

/// The message as the index has it, as a record that moves it to another segment would say it; and that it is in doubt.
fn moved(index: &Index, log: &mut Log, id: u64, segment: u64) -> Vec<Redo> {
    let (as_of, present) = index.present(&[QueueId(id)]).unwrap();
    let present = present.into_iter().next().unwrap().unwrap();
    log.lsn += 1;
    let (lsn, queue_id, location) = (log.lsn, QueueId(id), present.stored.location);
    let started = present.begun.into_iter();
    let started = started.map(|(hop, attempt, peer)| Redo::Started { lsn, queue_id, hop, attempt, peer });
    let message = Redo::Moved {
        lsn,
        queue_id,
        accepted: std::sync::Arc::new(present.accepted),
        location: Location { segment, ..location },
        hops: present.hops,
        as_of,
        attempts: present.attempts,
    };
    std::iter::once(message).chain(started).collect()
}

/// Three recipients on two ways: one is done, one was deferred twice, one is in doubt for the first time.
fn three_fates(index: &Index, log: &mut Log, model: &mut Model) {
    let accepted = message(1, 3, vec![way(0, [0, 1], 5), way(1, [2], 6)]);
    let mut redo = vec![log.accepted(1, 1, accepted), log.started(1, 0, 1)];
    let deferred = |at| vec![outcome(at, OutcomeState::Deferred)];
    let first = [vec![outcome(0, OutcomeState::Delivered)], deferred(1)].concat();
    redo.push(log.settled(1, 0, 1, Disposition::Due { due_ms: 50 }, first));
    redo.push(log.started(1, 0, 2));
    redo.push(log.settled(1, 0, 2, Disposition::Due { due_ms: 70 }, deferred(1)));
    redo.push(log.started(1, 1, 1));
    index.apply(&redo, log.end()).unwrap();
    model.apply(&redo, log.end());
}

#[test]
fn a_message_that_is_moved_is_what_it_was_in_another_place() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log, mut model) = (open(dir.path()), Log::default(), Model::default());
    three_fates(&index, &mut log, &mut model);
    let before: Vec<_> = super::dump(&index).into_iter().filter(|row| row.0 != "segment").collect();
    let redo = moved(&index, &mut log, 1, 7);
    assert_eq!(redo.len(), 2, "the message, and that it is in doubt");
    index.apply(&redo, log.end()).unwrap();
    model.apply(&redo, log.end());
    model.check(&index);
    let after: Vec<_> = super::dump(&index).into_iter().filter(|row| row.0 != "segment").collect();
    let changed: Vec<&str> =
        before.iter().zip(&after).filter(|(before, after)| before != after).map(|(row, _)| row.0).collect();
    assert_eq!((before.len(), changed), (after.len(), vec!["message"]));
    assert_eq!(index.segments().unwrap()[0].segment, 7);
    // The attempt that was under way ends as if nothing had happened.
    let redo = [log.delivered(1, 1, 1, &[2]), log.delivered(1, 0, 3, &[1])];
    index.apply(&redo, log.end()).unwrap();
    assert_eq!(index.messages_count().unwrap(), 0);
}

#[test]
fn a_record_that_moves_a_message_is_enough_to_know_what_is_left_of_it() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (index, mut log, mut model) = (open(dir.path()), Log::default(), Model::default());
    three_fates(&index, &mut log, &mut model);
    let redo = moved(&index, &mut log, 1, 7);
    index.apply(&redo, log.end()).unwrap();
    let salvaged = open(other.path());
    salvaged.apply(&redo, log.end()).unwrap();
    assert_eq!(unfinished_in(&salvaged), unfinished_in(&index));
    assert_eq!(salvaged.in_doubt().unwrap(), index.in_doubt().unwrap());
    let rows = |index: &Index, table| {
        let rows = super::dump(index).into_iter().filter(|row| row.0 == table);
        rows.map(|mut row| {
            // Of an entry that is known by its move alone, that is the last record that said something: its version.
            let at = row.2.len().saturating_sub(2);
            if table == "entry" {
                row.2[at] = 0;
            }
            row
        })
        .collect::<Vec<_>>()
    };
    for table in ["message", "ready", "arrival", "timer", "started", "hop", "segment"] {
        assert_eq!(rows(&salvaged, table), rows(&index, table), "{table}");
    }
    // To an index that knows nothing else, that record is the last that changed them.
    let entries = |index: &Index| {
        let decoded = |(_, key, value): &(_, Vec<u8>, Vec<u8>)| {
            (key.clone(), EntryValue { version: 0, ..EntryValue::decode(value).unwrap() })
        };
        rows(index, "entry").iter().map(decoded).collect::<Vec<_>>()
    };
    assert_eq!(entries(&salvaged), entries(&index));
}

#[test]
fn a_record_that_moves_a_message_outdoes_what_an_older_one_said() {
    // The record with the outcomes of recipient 0 is gone with its segment, the one that accepted it is not.
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (index, mut log, mut model) = (open(dir.path()), Log::default(), Model::default());
    three_fates(&index, &mut log, &mut model);
    let mut earlier = Log::default();
    let accepted = message(1, 3, vec![way(0, [0, 1], 5), way(1, [2], 6)]);
    let mut redo = vec![earlier.accepted(1, 1, accepted)];
    redo.extend(moved(&index, &mut log, 1, 7));
    let salvaged = open(other.path());
    salvaged.apply(&redo, log.end()).unwrap();
    assert_eq!(unfinished_in(&salvaged), unfinished_in(&index));
    assert_eq!(salvaged.in_doubt().unwrap(), index.in_doubt().unwrap());
}

#[test]
fn a_move_that_comes_again_after_an_outcome_brings_nobody_back() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log, mut model) = (open(dir.path()), Log::default(), Model::default());
    three_fates(&index, &mut log, &mut model);
    let mut redo = moved(&index, &mut log, 1, 7);
    redo.push(log.delivered(1, 0, 3, &[1]));
    let copy = again(&mut log, &redo[0]);
    redo.push(copy);
    index.apply(&redo, log.end()).unwrap();
    let left = unfinished_in(&index);
    assert_eq!(left[&QueueId(1)], BTreeSet::from([2]));
}
