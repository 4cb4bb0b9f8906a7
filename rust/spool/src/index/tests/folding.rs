//! What is left out while the index fails makes no difference to it.

use proptest::prelude::*;

use super::properties::{Attempt, HOPS, Op, Story, accept, attempt};
use super::{Log, dump, message, open, outcome, way};
use crate::facts::{Disposition, OutcomeState};
use crate::fold::fold;
use crate::redo::Redo;

fn op() -> impl Strategy<Value = Op> {
    let at = || (0..5_u64, 0..HOPS, attempt());
    let states = prop::collection::vec(prop_oneof![6 => Just(3_u8), 1 => 0..8_u8], 0..4);
    let settle = (at(), prop::option::weighted(0.9, 0..60_u64), states).prop_map(
        |((id, hop, attempt), due_ms, states)| Op::Settle {
            id,
            hop,
            attempt,
            due_ms,
            states,
            only_ours: true,
        },
    );
    let next = (0..5_u64, 0..HOPS, 0..60_u64).prop_map(|(id, hop, due_ms)| Op::Settle {
        id,
        hop,
        attempt: Attempt::Next,
        due_ms: Some(due_ms),
        states: vec![6],
        only_ours: true,
    });
    let route = (0..5_u64, 0..HOPS, prop::collection::vec((0..HOPS, 0..60_u64), 0..3), any::<u32>());
    prop_oneof![
        2 => accept(),
        4 => at().prop_map(|(id, hop, attempt)| Op::Start { id, hop, attempt }),
        6 => settle,
        4 => next,
        1 => route.prop_map(|(id, from, to, salt)| Op::Route { id, from, to, salt }),
        2 => (0..HOPS, 0..3_u8).prop_map(|(hop, state)| Op::Hop { hop, state }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_left_comes_to_the_same(
        first in prop::collection::vec(op(), 0..12),
        second in prop::collection::vec(op(), 0..40),
        third in prop::collection::vec(op(), 0..10),
    ) {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (index, folded) = (open(dir.path()), open(other.path()));
        let mut story = Story { is_likely: true, ..Story::default() };
        let redo: Vec<Redo> = first.iter().filter_map(|op| story.tell(op)).collect();
        index.apply(&redo, story.log.end()).unwrap();
        folded.apply(&redo, story.log.end()).unwrap();
        let mut redo: Vec<Redo> = second.iter().filter_map(|op| story.tell(op)).collect();
        let mut left = redo.clone();
        fold(&mut left);
        // More comes before the index has any of it.
        let more: Vec<Redo> = third.iter().filter_map(|op| story.tell(op)).collect();
        redo.extend(more.iter().cloned());
        left.extend(more);
        fold(&mut left);
        index.apply(&redo, story.log.end()).unwrap();
        folded.apply(&left, story.log.end()).unwrap();
        prop_assert_eq!(dump(&index), dump(&folded));
    }
}

#[test]
fn attempts_in_vain_and_states_of_hops_do_not_add_up() {
    let mut log = Log::default();
    let mut redo = vec![log.accepted(1, 1, message(1, 2, vec![way(0, [0, 1], 5)]))];
    let deferred = || (0..2).map(|index| outcome(index, OutcomeState::Deferred)).collect::<Vec<_>>();
    for attempt in 1..=1_000 {
        if attempt % 3 != 0 {
            redo.push(log.started(1, 0, attempt));
        }
        redo.push(log.settled(1, 0, attempt, Disposition::Due { due_ms: 50 }, deferred()));
        redo.push(log.settled(1, 0, 0, Disposition::Due { due_ms: 60 }, Vec::new()));
        redo.push(log.settled(1, 0, 0, Disposition::Due { due_ms: 70 }, Vec::new()));
        redo.push(log.hop_state(0, (attempt % 3) as u8));
        if attempt % 100 == 0 {
            fold(&mut redo);
        }
    }
    fold(&mut redo);
    println!("{} of what a thousand attempts said", redo.len());
    assert!(redo.len() < 10);
}
