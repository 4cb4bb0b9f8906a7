//! Any sequence of records, in any batches, with the index closed and opened in between: it says what the model says.

use proptest::prelude::*;

use super::model::{Entry, Model};
use super::{Log, message, open, outcome};
use crate::edit::{Change, EditKind, Suspension};
use crate::facts::{Disposition, EntryRecord, OutcomeState, RoutedTo};
use crate::index::tests::hop;
use crate::redo::{Redo, Watermark};

pub(super) const HOPS: u8 = 4;
const IDS: u64 = 9;

/// Which attempt, seen from the entry as it is.
#[derive(Copy, Clone, Debug)]
pub(super) enum Attempt {
    None,
    Next,
    Present,
    Settled,
    Skipping,
}

/// What happens next; made into a record when it is known what there is.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Accept {
        id: u64,
        segment: u64,
        recipients: usize,
        ways: Vec<(u8, u8, u64, u64)>,
    },
    Start {
        id: u64,
        hop: u8,
        attempt: Attempt,
    },
    Settle {
        id: u64,
        hop: u8,
        attempt: Attempt,
        due_ms: Option<u64>,
        states: Vec<u8>,
        only_ours: bool,
    },
    Route {
        id: u64,
        from: u8,
        to: Vec<(u8, u64)>,
        salt: u32,
    },
    Hop {
        hop: u8,
        state: u8,
    },
    /// The number is the next one, or one that the entry has had.
    Edit {
        id: u64,
        hop: u8,
        what: u8,
        value: u64,
        is_again: bool,
    },
}

pub(super) fn attempt() -> impl Strategy<Value = Attempt> {
    prop_oneof![
        2 => Just(Attempt::None),
        5 => Just(Attempt::Next),
        5 => Just(Attempt::Present),
        1 => Just(Attempt::Settled),
        1 => Just(Attempt::Skipping),
    ]
}

pub(super) fn accept() -> impl Strategy<Value = Op> {
    let recipients = prop_oneof![4 => 0..4_usize, 1 => 60..70_usize, 1 => 128..131_usize];
    let ways = prop::collection::vec((0..HOPS, 0..3_u8, 0..60_u64, 1_000..1_060_u64), 0..4);
    (0..IDS, 1..4_u64, recipients, ways).prop_map(|(id, segment, recipients, ways)| Op::Accept {
        id,
        segment,
        recipients,
        ways,
    })
}

pub(super) fn edit() -> impl Strategy<Value = Op> {
    (0..IDS, 0..HOPS, 1..8_u8, 0..60_u64, prop::bool::weighted(0.1))
        .prop_map(|(id, hop, what, value, is_again)| Op::Edit { id, hop, what, value, is_again })
}

fn op() -> impl Strategy<Value = Op> {
    let states = prop::collection::vec(0..8_u8, 0..5);
    let settle = (0..IDS, 0..HOPS, attempt(), prop::option::of(0..60_u64), states, prop::bool::weighted(0.8));
    let route = (0..IDS, 0..HOPS, prop::collection::vec((0..HOPS, 0..60_u64), 0..3), any::<u32>());
    prop_oneof![
        4 => accept(),
        4 => (0..IDS, 0..HOPS, attempt()).prop_map(|(id, hop, attempt)| Op::Start { id, hop, attempt }),
        6 => settle.prop_map(|(id, hop, attempt, due_ms, states, only_ours)| {
            Op::Settle { id, hop, attempt, due_ms, states, only_ours }
        }),
        2 => route.prop_map(|(id, from, to, salt)| Op::Route { id, from, to, salt }),
        1 => (0..HOPS, 0..3_u8).prop_map(|(hop, state)| Op::Hop { hop, state }),
        5 => edit(),
    ]
}

/// Makes records of what happens, against the state in which it happens.
#[derive(Default)]
pub(super) struct Story {
    pub(super) log: Log,
    pub(super) model: Model,
    /// Whether attempts are made of entries only that there are.
    pub(super) is_likely: bool,
    pub(super) accepted: Vec<u64>,
}

impl Story {
    /// Make the record, or none if it could not happen: a message that is finished does not come again.
    pub(super) fn tell(&mut self, op: &Op) -> Option<Redo> {
        if let (true, Op::Start { id, hop, .. } | Op::Settle { id, hop, .. } | Op::Edit { id, hop, .. }) =
            (self.is_likely, op)
        {
            self.entry(*id, *hop)?;
        }
        let redo = self.record(op)?;
        self.model.take(&redo);
        Some(redo)
    }

    fn entry(&self, id: u64, number: u8) -> Option<&Entry> {
        self.model.messages.get(&super::QueueId(id))?.entries.get(&hop(number))
    }

    fn attempt(&self, id: u64, number: u8, attempt: Attempt) -> u32 {
        let entry = self.entry(id, number);
        let (attempts, settled) = entry.map_or((0, 0), |entry| (entry.attempts, entry.settled));
        match attempt {
            Attempt::None => 0,
            Attempt::Next => attempts + 1,
            Attempt::Present => attempts,
            Attempt::Settled => settled,
            Attempt::Skipping => attempts + 3,
        }
    }

    fn record(&mut self, op: &Op) -> Option<Redo> {
        match op {
            Op::Accept { id, segment, recipients, ways } => {
                if self.accepted.contains(id) && !self.model.messages.contains_key(&super::QueueId(*id)) {
                    return None;
                }
                self.accepted.push(*id);
                let entries = (0..).zip(ways).map(|(nth, &(number, priority, due_ms, expires_ms))| {
                    let ours = (0..*recipients as u32).filter(|index| *index as usize % ways.len() == nth);
                    let (hop, recipients) = (hop(number), ours.collect());
                    // As the record of a message that was moved may say.
                    let suspended =
                        Suspension::from_number(if due_ms % 8 == 0 { 1 + priority % 2 } else { 0 });
                    EntryRecord { hop, recipients, priority, due_ms, expires_ms, suspended }
                });
                let entries = entries.collect();
                Some(self.log.accepted(*id, *segment, message(*id, *recipients, entries)))
            }
            Op::Start { id, hop, attempt } => {
                let attempt = self.attempt(*id, *hop, *attempt);
                (attempt > 0).then(|| self.log.started(*id, *hop, attempt))
            }
            Op::Settle { id, hop: number, attempt, due_ms, states, only_ours } => {
                let ours: Vec<u32> = match self.entry(*id, *number) {
                    Some(entry) if *only_ours => entry.recipients.iter().copied().collect(),
                    _ => (0..140).collect(),
                };
                let step = ours.len() / states.len().max(1) + 1;
                let outcomes = states.iter().enumerate().filter_map(|(nth, &state)| {
                    let state = OutcomeState::from_number(state).unwrap_or(OutcomeState::Delivered);
                    ours.get(nth * step).map(|&index| outcome(index, state))
                });
                // An attempt mostly is for all of its recipients.
                let outcomes = match states.as_slice() {
                    [state, ..] if state % 2 == 0 && *only_ours => {
                        let state = OutcomeState::from_number(*state).unwrap_or(OutcomeState::Delivered);
                        ours.iter().map(|&index| outcome(index, state)).collect()
                    }
                    _ => outcomes.collect(),
                };
                let disposition = due_ms.map_or(Disposition::Finished, |due_ms| Disposition::Due { due_ms });
                let attempt = self.attempt(*id, *number, *attempt);
                Some(self.log.settled(*id, *number, attempt, disposition, outcomes))
            }
            Op::Route { id, from, to, salt } => {
                let parts = to.len() as u32 + salt % 2;
                let to: Vec<_> = (0..)
                    .zip(to)
                    .map(|(nth, &(number, due_ms))| {
                        (number, (0..140).filter(|index| index % parts == nth).collect(), due_ms)
                    })
                    .collect();
                Some(self.log.routed(*id, *from, &to))
            }
            Op::Hop { hop, state } => Some(self.log.hop_state(*hop, *state)),
            Op::Edit { id, hop: number, what, value, is_again } => {
                let entry = self.entry(*id, *number);
                let had = entry.and_then(|entry| entry.edit.as_ref()).map_or(0, |edit| edit.number);
                let ours: Vec<u32> =
                    entry.map_or(vec![0, 1], |entry| entry.recipients.iter().copied().collect());
                let some = ours.into_iter().filter(|index| value % 3 == 0 || index % 2 == 0);
                let change = match EditKind::from_number(*what)? {
                    EditKind::Suspend => Change::Suspended(Suspension::from_number(1 + *value as u8 % 2)?),
                    EditKind::Resume => Change::Resumed,
                    EditKind::Remove => {
                        Change::Removed(some.map(|index| outcome(index, OutcomeState::Removed)).collect())
                    }
                    EditKind::Redirect => Change::Redirected(RoutedTo {
                        hop: hop(*value as u8 % HOPS),
                        recipients: some.collect(),
                        due_ms: *value,
                    }),
                    EditKind::Expire => Change::Expiry(1_000 + value),
                    EditKind::Prioritise => Change::Priority(*value as u8 % 3),
                    EditKind::Due => Change::Due(*value),
                };
                Some(self.log.edited(*id, *number, had + u32::from(!is_again), *value, change))
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_index_says_what_the_model_says(
        batches in prop::collection::vec((prop::collection::vec(op(), 0..14), any::<u8>()), 1..9),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut index, mut story) = (open(dir.path()), Story::default());
        let mut before: Vec<Redo> = Vec::new();
        for (nth, (ops, choice)) in (1..).zip(batches) {
            let redo: Vec<Redo> = ops.iter().filter_map(|op| story.tell(op)).collect();
            let to = Watermark { lsn: story.log.lsn, segment: nth, offset: 4096 };
            story.model.watermark = to;
            story.model.checkpoint();
            // A replay begins where a watermark was, not where it is.
            let replayed = if choice & 1 == 0 { before.iter().chain(&redo).cloned().collect() } else { redo.clone() };
            index.apply(&replayed, to).unwrap();
            story.model.check(&index);
            if choice & 2 == 0 {
                index.apply(&before, Watermark { lsn: to.lsn.saturating_sub(1), ..to }).unwrap();
                index.apply(&replayed, to).unwrap();
                prop_assert_eq!(index.watermark(), to);
            }
            if choice & 4 == 0 {
                drop(index);
                index = open(dir.path());
            }
            if choice & 6 != 6 {
                story.model.check(&index);
            }
            before = redo;
        }
    }
}
