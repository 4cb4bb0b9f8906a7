//! Finished messages that are kept are beside the queue, and leave nothing when they are let go of.

use penstock_core::queue_id::QueueId;
use proptest::prelude::*;

use super::properties::{HOPS, Op, Story, accept, attempt};
use super::{Log, OVERHEAD_BYTES, dump, message, open, outcome, way};
use crate::facts::{Disposition, OutcomeState};
use crate::index::{Index, Kept, LetGo};
use crate::redo::{LeftBlob, Location, Redo};
use crate::rows::{Answer, Request};

fn op() -> impl Strategy<Value = Op> {
    let at = || (0..9_u64, 0..HOPS, attempt());
    let states = prop::collection::vec(prop_oneof![3 => Just(1_u8), 1 => 0..8_u8], 0..4);
    let settle =
        (at(), prop::option::of(0..60_u64), states).prop_map(|((id, hop, attempt), due_ms, states)| {
            Op::Settle { id, hop, attempt, due_ms, states, only_ours: true }
        });
    prop_oneof![
        4 => accept(),
        2 => at().prop_map(|(id, hop, attempt)| Op::Start { id, hop, attempt }),
        6 => settle,
    ]
}

/// Rows but those of finished messages (in `recipient` and `blob` too), and but `segment`, whose counters those are part of.
fn queue(index: &Index) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let rows = dump(index);
    let finished: Vec<Vec<u8>> =
        rows.iter().filter(|row| row.0 == "finished").map(|row| row.1.clone()).collect();
    let is_kept = |key: &[u8]| finished.iter().any(|id| key.starts_with(id));
    rows.into_iter()
        .filter(|row| !["kept", "finished", "segment"].contains(&row.0))
        .filter(|row| !["recipient", "blob"].contains(&row.0) || !is_kept(&row.1))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_is_what_it_is_without_them_and_nothing_is_left_behind(
        batches in prop::collection::vec(prop::collection::vec(op(), 0..12), 1..6),
    ) {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (plain, keeping) = (open(dir.path()), open(other.path()));
        let mut story = Story { is_likely: true, ..Story::default() };
        let (mut left, mut left_later) = (Vec::new(), Vec::new());
        for (nth, batch) in (1..).zip(&batches) {
            let redo: Vec<Redo> = batch.iter().filter_map(|op| story.tell(op)).collect();
            left.extend(plain.apply(&redo, story.log.end()).unwrap());
            left_later.extend(keeping.apply_keeping(&redo, story.log.end(), Some(100 * nth)).unwrap());
            prop_assert_eq!(queue(&plain), queue(&keeping));
            prop_assert_eq!(plain.messages_count().unwrap(), keeping.messages_count().unwrap());
        }
        let kept = keeping.kept().unwrap();
        let bytes = |index: &Index| index.segments().unwrap().iter().map(|one| one.live_bytes).sum::<u64>();
        prop_assert_eq!(bytes(&keeping), bytes(&plain) + kept.bytes);
        let blobs = |index: &Index| index.blobs().unwrap().iter().map(|(_, bytes)| bytes).sum::<u64>();
        prop_assert_eq!(blobs(&keeping), blobs(&plain) + kept.blob_bytes);
        prop_assert_eq!(keeping.let_go(99, u64::MAX, 1_000).unwrap(), LetGo::default());
        let gone = keeping.let_go(1_000, u64::MAX, 1_000).unwrap();
        prop_assert_eq!(gone.messages as u64, kept.messages);
        prop_assert_eq!(gone.left.iter().map(|blob| blob.bytes).sum::<u64>(), kept.blob_bytes);
        // Every blob is left once, sooner or later.
        left_later.extend(gone.left);
        left.sort_by_key(|blob| blob.queue_id);
        left_later.sort_by_key(|blob| blob.queue_id);
        prop_assert_eq!(left, left_later);
        prop_assert_eq!(keeping.kept().unwrap(), Kept::default());
        prop_assert_eq!(dump(&plain), dump(&keeping));
    }
}

fn kept_ids(index: &Index, limit: u32) -> Vec<u64> {
    super::see_that_it_is_sound(index);
    let (mut after, mut ids) = (None, Vec::new());
    loop {
        let answer = index.answer(&Request::Kept { after, limit }).unwrap();
        let Answer::Kept { next, rows, .. } = answer else { panic!("another answer") };
        assert!(rows.len() <= limit as usize);
        ids.extend(rows.iter().map(|row| row.queue_id.0));
        after = next;
        if next.is_none() {
            return ids;
        }
    }
}

#[test]
fn those_that_have_arrived_anywhere_are_kept_in_the_order_in_which_they_go() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let mut redo = Vec::new();
    for id in 1..=5 {
        redo.push(log.accepted(id, 1, message(id, 2, vec![way(0, [0, 1], 5)])));
    }
    let part = vec![outcome(0, OutcomeState::Relayed), outcome(1, OutcomeState::Deferred)];
    redo.push(log.settled(2, 0, 1, Disposition::Due { due_ms: 9 }, part));
    redo.push(log.delivered(5, 0, 1, &[0, 1]));
    index.apply_keeping(&redo, log.end(), Some(100)).unwrap();
    assert_eq!(kept_ids(&index, 10), [5], "it came and went");
    let failed = |of: &[u32]| of.iter().map(|&at| outcome(at, OutcomeState::Failed)).collect::<Vec<_>>();
    let redo = [
        log.delivered(1, 0, 1, &[0, 1]),
        log.settled(2, 0, 2, Disposition::Finished, failed(&[1])),
        log.settled(3, 0, 1, Disposition::Finished, failed(&[0, 1])),
    ];
    index.apply_keeping(&redo, log.end(), Some(50)).unwrap();
    for limit in [1, 2, 10] {
        assert_eq!(kept_ids(&index, limit), [1, 2, 5], "one has arrived nowhere, one is in the queue");
    }
    assert_eq!(index.messages_count().unwrap(), 1);
    let bytes = |id: u64| 1_000 + id + OVERHEAD_BYTES;
    assert_eq!(
        index.kept().unwrap(),
        Kept { messages: 3, bytes: bytes(1) + bytes(2) + bytes(5), blob_bytes: 0 }
    );
    let Answer::Kept { rows, .. } = index.answer(&Request::Kept { after: None, limit: 2 }).unwrap() else {
        panic!("another answer")
    };
    let states: Vec<_> = rows[1].recipients.iter().map(|one| one.state).collect();
    assert_eq!(states, [Some(OutcomeState::Relayed), Some(OutcomeState::Failed)]);
    assert_eq!((rows[1].until_ms, rows[1].sender.as_str()), (50, "Sender-2@Example.org"));
    // Too much is kept: the oldest goes, though its time is not over.
    assert_eq!(index.let_go(0, bytes(2) + bytes(5), 10).unwrap().messages, 1);
    assert_eq!(kept_ids(&index, 10), [2, 5]);
    assert_eq!(index.let_go(50, u64::MAX, 10).unwrap().messages, 1);
    assert_eq!(kept_ids(&index, 10), [5]);
    assert_eq!(index.stored(QueueId(2)).unwrap(), None);
}

#[test]
fn one_that_is_moved_is_kept_where_it_is_then_and_for_as_long() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (index, mut log) = (open(dir.path()), Log::default());
    let redo = [log.accepted(1, 1, message(1, 1, vec![way(0, [0], 5)])), log.delivered(1, 0, 1, &[0])];
    index.apply_keeping(&redo, log.end(), Some(100)).unwrap();
    let (as_of, present) = index.present(&[QueueId(1)]).unwrap();
    let present = present.into_iter().next().unwrap().unwrap();
    assert!(present.accepted.entries.is_empty());
    log.lsn += 1;
    let location = Location { segment: 9, record_bytes: 700, ..present.stored.location };
    let moved = [Redo::Moved {
        lsn: log.lsn,
        queue_id: QueueId(1),
        accepted: std::sync::Arc::new(present.accepted),
        location,
        hops: present.hops,
        as_of,
        attempts: present.attempts,
    }];
    index.apply_keeping(&moved, log.end(), Some(900)).unwrap();
    assert_eq!(index.stored(QueueId(1)).unwrap().unwrap().location, location);
    assert_eq!(index.kept().unwrap(), Kept { messages: 1, bytes: 700, blob_bytes: 0 });
    assert_eq!(index.segments().unwrap().len(), 1);
    assert_eq!(index.let_go(100, u64::MAX, 10).unwrap().messages, 1);
    assert_eq!(index.segments().unwrap(), []);
    // Whoever has only that record knows that it was kept.
    let salvaged = open(other.path());
    salvaged.apply_keeping(&moved, log.end(), Some(900)).unwrap();
    assert_eq!((kept_ids(&salvaged, 10), salvaged.messages_count().unwrap()), (vec![1], 0));
}

#[test]
fn one_with_a_blob_has_it_until_it_is_let_go_of_and_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let queue_id = QueueId(3);
    let redo = [log.accepted(3, 1, message(3, 1, vec![way(0, [0], 5)])), log.delivered(3, 0, 1, &[0])];
    assert_eq!(index.apply_keeping(&redo, log.end(), Some(100)).unwrap(), []);
    let blob = index.stored(queue_id).unwrap().unwrap().location.blob.unwrap();
    assert_eq!(index.blobs().unwrap(), [(queue_id, blob.bytes)]);
    let kept = index.kept().unwrap();
    assert_eq!((kept.messages, kept.blob_bytes), (1, blob.bytes));
    let moved = |index: &Index, lsn, segment| {
        let (as_of, present) = index.present(&[queue_id]).unwrap();
        let present = present.into_iter().next().unwrap().unwrap();
        let location = Location { segment, ..present.stored.location };
        let accepted = std::sync::Arc::new(present.accepted);
        let (hops, attempts) = (present.hops, present.attempts);
        Redo::Moved { lsn, queue_id, accepted, location, hops, as_of, attempts }
    };
    log.lsn += 1;
    let first = moved(&index, log.lsn, 8);
    assert_eq!(index.apply_keeping(&[first], log.end(), Some(900)).unwrap(), []);
    assert_eq!(index.blobs().unwrap(), [(queue_id, blob.bytes)]);
    assert_eq!(index.kept().unwrap(), kept);
    log.lsn += 1;
    let second = moved(&index, log.lsn, 9);
    // What is in blobs counts too.
    assert_eq!(index.let_go(0, kept.bytes + blob.bytes, 10).unwrap(), LetGo::default());
    let left = vec![LeftBlob { queue_id, bytes: blob.bytes }];
    assert_eq!(index.let_go(0, kept.bytes + blob.bytes - 1, 10).unwrap(), LetGo { messages: 1, left });
    assert_eq!((index.blobs().unwrap(), index.segments().unwrap()), (vec![], vec![]));
    // It was on its way to another segment when it was let go of, and its blob is gone.
    assert_eq!(index.apply_keeping(&[second], log.end(), Some(900)).unwrap(), []);
    assert_eq!((index.blobs().unwrap(), index.segments().unwrap()), (vec![], vec![]));
    assert_eq!((index.stored(queue_id).unwrap(), index.kept().unwrap()), (None, Kept::default()));
}
