//! Anything that can happen to a spool, in any order, against a model of dictionaries and a list.
//!
//! Cases are made from a seed that is printed; `PENSTOCK_SEED` repeats them, `PENSTOCK_CASES` says how many there are.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
mod story;

use std::path::Path;

use common::{NOW_MS, directory};
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{Fate, FaultyDevice};
use penstock_spool::{Edit, Fact, HopId, OutcomeState, Request, RoutedTo, SpoolConfig, Suspension};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use story::model::settled;
use story::{SharedBook, Story};

/// Something that happens. Numbers choose among what is there, so that any of them makes sense at any time.
#[derive(Clone, Debug)]
enum Act {
    /// Mail of so many octets, of one of several shapes.
    Accept(usize, u8),
    /// A report in one record with the failure of a whole entry.
    Report(usize),
    /// An attempt begins.
    Start(usize),
    /// It ends, each recipient in its own way.
    Settle(usize, Vec<OutcomeState>),
    /// Recipients of an entry go to another hop.
    Route(usize, u8),
    Hop(u8, u8),
    /// An operator changes something of an entry.
    Edit(usize, u8),
    Step,
    /// Time goes by.
    Wait(u16),
    Sync,
    Checkpoint,
    Kill,
    /// What no sync has covered meets these fates, over and over.
    PowerLoss(Vec<Fate>),
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    let octets = prop_oneof![8 => 0..6_000usize, 2 => 6_000..30_000usize, 1 => 60_000..80_000usize];
    let fates = [
        Fate::Kept,
        Fate::Kept,
        Fate::Lost,
        Fate::Short,
        Fate::Front,
        Fate::Back,
        Fate::Zeroed,
        Fate::Spoilt,
    ];
    let states = vec(prop::sample::select(&STATES[..]), 3);
    prop_oneof![
        6 => (octets, 0..4u8).prop_map(|(octets, shape)| Act::Accept(octets, shape)),
        1 => any::<usize>().prop_map(Act::Report),
        4 => any::<usize>().prop_map(Act::Start),
        6 => (any::<usize>(), states).prop_map(|(nth, states)| Act::Settle(nth, states)),
        1 => (any::<usize>(), 0..3u8).prop_map(|(nth, hop)| Act::Route(nth, hop)),
        1 => (0..3u8, 0..3u8).prop_map(|(hop, state)| Act::Hop(hop, state)),
        2 => (any::<usize>(), 0..7u8).prop_map(|(nth, kind)| Act::Edit(nth, kind)),
        6 => Just(Act::Step),
        2 => (0..3_000u16).prop_map(Act::Wait),
        1 => Just(Act::Sync),
        2 => Just(Act::Checkpoint),
        1 => Just(Act::Kill),
        2 => vec(prop::sample::select(fates.to_vec()), 1..8).prop_map(Act::PowerLoss),
        1 => Just(Act::Close),
    ]
}

const STATES: [OutcomeState; 6] = [
    OutcomeState::Delivered,
    OutcomeState::Delivered,
    OutcomeState::Relayed,
    OutcomeState::Deferred,
    OutcomeState::Failed,
    OutcomeState::InDoubt,
];

/// Cleaning begins early, and what is large goes to blobs.
fn config(path: &Path) -> SpoolConfig {
    SpoolConfig { segment_bytes: 16 << 10, blob_bytes: 50_000, ..story::config(path) }
}

struct Machine {
    story: Story,
    root: std::path::PathBuf,
    hops: Vec<HopId>,
}

impl Machine {
    fn entry(&self, nth: usize) -> Option<(QueueId, HopId, u32, Vec<u32>, bool)> {
        let all = self.story.model.entries();
        (!all.is_empty()).then(|| all[nth % all.len()].clone())
    }

    /// Tell how the present attempt of an entry ended, or of one that was not announced.
    fn settlement(&self, nth: usize, states: &[OutcomeState]) -> Option<Fact> {
        let (id, hop, next, left, is_begun) = self.entry(nth)?;
        let outcomes: Vec<_> = left.iter().copied().zip(states.iter().copied().cycle()).collect();
        Some(settled(id, hop, if is_begun { next - 1 } else { next }, &outcomes))
    }

    /// Change something that is not so yet.
    fn edit(&mut self, nth: usize, kind: u8, hops: [HopId; 3]) {
        let Some((id, hop, ..)) = self.entry(nth) else { return };
        let (number, is_suspended) = self.story.model.edited(id, hop);
        let suspend = |how| if is_suspended { Edit::Resume } else { Edit::Suspend(how) };
        let unheard = NOW_MS + 1_000 + u64::from(number);
        let edit = match kind {
            0 => suspend(Suspension::Operator),
            1 => suspend(Suspension::Restored),
            2 => Edit::Expire { expires_ms: unheard },
            3 => Edit::Due { due_ms: unheard },
            4 => Edit::Remove,
            _ => {
                let others: Vec<HopId> = hops.into_iter().filter(|to| *to != hop).collect();
                Edit::Redirect { to: others[usize::from(kind) % others.len()], due_ms: unheard }
            }
        };
        self.story.edit(edit, &[(id, hop)]);
    }

    fn act(&mut self, act: &Act) {
        let hops = [self.hops[0], self.hops[1], self.hops[2]];
        match act {
            Act::Accept(octets, shape) => {
                let [a, b, c] = hops;
                let entries: &[(HopId, &[u32])] = match shape {
                    0 => &[(a, &[0])],
                    1 => &[(b, &[0])],
                    2 => &[(a, &[0, 2]), (b, &[1])],
                    _ => &[(a, &[0]), (b, &[1]), (c, &[2, 3])],
                };
                self.story.accept(*octets, entries, Vec::new());
            }
            Act::Report(nth) => {
                if let Some(fact) = self.settlement(*nth, &[OutcomeState::Failed]) {
                    self.story.accept(300, &[(hops[2], &[0])], vec![fact]);
                }
            }
            Act::Start(nth) => {
                if let Some((id, hop, ..)) = self.entry(*nth).filter(|entry| !entry.4) {
                    self.story.start(id, hop);
                }
            }
            Act::Settle(nth, states) => {
                let fact = self.settlement(*nth, states);
                self.story.facts(fact.into_iter().collect());
            }
            Act::Route(nth, to) => {
                let to = hops[usize::from(*to)];
                if let Some((queue_id, from, _, left, is_begun)) = self.entry(*nth)
                    && from != to
                    && !is_begun
                {
                    let to = vec![RoutedTo { hop: to, recipients: left, due_ms: NOW_MS + 7 }];
                    self.story.facts(vec![Fact::Routed { queue_id, from, to }]);
                }
            }
            Act::Hop(hop, state) => {
                let last_error = if *state == 0 { String::new() } else { format!("state {state}") };
                let (hop, next_retry_ms) = (hops[usize::from(*hop)], u64::from(*state));
                let failures = u32::from(*state);
                self.story.facts(vec![Fact::Hop { hop, state: *state, last_error, next_retry_ms, failures }]);
            }
            Act::Edit(nth, kind) => self.edit(*nth, *kind, hops),
            Act::Step => self.story.step(),
            Act::Wait(ms) => self.story.wait(u64::from(*ms)),
            Act::Sync => drop(self.story.ask(Request::Sync)),
            Act::Checkpoint => drop(self.story.ask(Request::Checkpoint)),
            Act::Kill | Act::PowerLoss(_) | Act::Close => unreachable!("these end the machine"),
        }
    }

    /// End the present run, and begin the next on what it leaves.
    fn next_run(self, act: &Act, what: &str) -> Self {
        let book = self.story.book.clone();
        let before = book.reach();
        let (device, least) = match act {
            Act::Close => (self.story.close(), before.handed),
            Act::PowerLoss(fates) => {
                let moment = self.story.kill().moment();
                let device = moment.after_power_loss(&|number| fates[number as usize % fates.len()]);
                (device, before.durable)
            }
            _ => (self.story.kill(), before.written),
        };
        let mut story = Story::open(device, config(&self.root), book, NOW_MS).unwrap();
        assert_eq!(story.recovery.damaged, 0, "{what}");
        let count = story.find(least, what);
        let is_announced = story.recovery.may_repeat;
        match act {
            Act::PowerLoss(_) => assert!(is_announced || count >= before.written, "{what}: unannounced"),
            _ => assert!(!is_announced, "{what}: a kill loses nothing that was written"),
        }
        Self { story, ..self }
    }
}

/// Run acts, then crash in every way.
fn run(acts: &[Act]) {
    let dir = directory();
    let open = Story::open(FaultyDevice::new(1), config(dir.path()), SharedBook::default(), NOW_MS);
    let hops = story::names().into_keys().collect();
    let mut machine = Machine { story: open.unwrap(), root: dir.path().into(), hops };
    let last = [Act::PowerLoss(vec![Fate::Lost]), Act::Kill, Act::Close];
    for (at, act) in acts.iter().chain(&last).enumerate() {
        match act {
            Act::Kill | Act::PowerLoss(_) | Act::Close => {
                machine = machine.next_run(act, &format!("act {at}, {act:?}"));
            }
            _ => machine.act(act),
        }
    }
}

#[test]
fn whatever_happens_the_spool_and_the_model_agree() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("PENSTOCK_SEED").unwrap_or_else(rand_seed);
    let cases = number("PENSTOCK_CASES").unwrap_or(60) as u32;
    println!("seed {seed}, {cases} cases");
    let mut octets = [0; 32];
    octets[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &octets);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let tested = TestRunner::new_with_rng(config, rng).run(&vec(act(), 1..60), |acts| {
        run(&acts);
        Ok(())
    });
    if let Err(error) = tested {
        panic!("seed {seed}: {error}");
    }
}

/// A seed that is another one each time.
fn rand_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.subsec_nanos().into()
}
