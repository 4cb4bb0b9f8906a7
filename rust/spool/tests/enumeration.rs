//! Every crash that a story can meet, and every crash that the recovery from it can meet.
//!
//! The story takes mail in groups, in one chunk and in several, in one segment and across them; it begins attempts and
//! ends them in every way, reports failures, routes anew, tells the state of hops, brings the index up to date, gives
//! segments up and writes in them again, is killed, is closed, and goes on. `make crash` tries all that can be left of
//! it; without being asked for more, a test tries what fits into some seconds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
mod story;

use std::path::Path;
use std::time::Instant;

use common::{NOW_MS, directory};
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{Fate, FaultyDevice};
use penstock_spool::{Fact, HopId, OutcomeState, Request, RoutedTo};
use story::crash::{Effort, FULL, Judge, Point, Recorder};
use story::model::{Deed, settled};
use story::{SharedBook, Story, config};

use OutcomeState::{Deferred, Delivered, Expired, Failed, InDoubt};

/// A part of what can be tried, for every run of the tests.
const SOME: Effort =
    Effort { combinations: 2, tears: &[Fate::Short, Fate::Spoilt], pages: false, nested: 300, go_on: 8 };

/// A story, and all the moments of it.
struct Told {
    deeds: Vec<Deed>,
    points: Vec<Point>,
}

/// Tells the story in a directory.
struct Teller {
    story: Story,
    hops: [HopId; 3],
}

impl Teller {
    fn hop(&mut self, nth: usize, state: u8, failures: u32) {
        let last_error = if state == 0 { String::new() } else { format!("refused, {failures}") };
        let fact = Fact::Hop {
            hop: self.hops[nth],
            state,
            last_error,
            next_retry_ms: u64::from(failures),
            failures,
        };
        self.story.facts(vec![fact]);
    }

    /// Mail of many kinds, attempts of many ends, up to the first checkpoint.
    fn begin(&mut self) -> (QueueId, QueueId, QueueId) {
        let [a, b, c] = self.hops;
        let story = &mut self.story;
        let first = story.accept(100, &[(a, &[0])], Vec::new());
        let second = story.accept(5_000, &[(a, &[0, 1]), (b, &[2])], Vec::new());
        story.step();
        story.attempt(first, a, &[(0, Delivered)]);
        story.step();
        let long = story.accept(70_000, &[(a, &[0])], Vec::new());
        story.step();
        story.attempt(second, a, &[(0, Delivered), (1, Deferred)]);
        self.hop(1, 1, 1);
        self.story.wait(11);
        self.story.ask(Request::Checkpoint);
        let story = &mut self.story;
        story.facts(vec![Fact::Routed {
            queue_id: second,
            from: b,
            to: vec![RoutedTo { hop: c, recipients: vec![2], due_ms: NOW_MS + 5 }],
        }]);
        let attempt = story.start(second, a);
        story.step();
        let report = story.accept(700, &[(b, &[0])], vec![settled(second, a, attempt, &[(1, Failed)])]);
        story.step();
        (second, long, report)
    }

    /// Segments fill up, are given up and used again.
    fn reuse(&mut self, long: QueueId) -> Vec<QueueId> {
        let [a, b, _] = self.hops;
        let story = &mut self.story;
        // These are in different segments and share a sync.
        let mut waiting: Vec<QueueId> =
            (0..3).map(|nth| story.accept(17_000 + nth, &[(a, &[0])], Vec::new())).collect();
        story.step();
        story.attempt(long, a, &[(0, Delivered)]);
        story.step();
        story.ask(Request::Checkpoint);
        // While little is written a spare is made.
        story.wait(2_000);
        for id in waiting.drain(..2) {
            story.attempt(id, a, &[(0, Delivered)]);
        }
        story.ask(Request::Checkpoint);
        for octets in [9_000, 20_000, 12_000] {
            waiting.push(story.accept(octets, &[(b, &[0])], Vec::new()));
            story.step();
        }
        let id = waiting.remove(0);
        story.attempt(id, a, &[(0, Delivered)]);
        story.wait(1_000);
        waiting
    }
}

fn tell(device: &FaultyDevice, root: &Path) -> Told {
    let book = SharedBook::default();
    let recorder = Recorder::new(device, root);
    recorder.watch(device, &book);
    let open = |device: FaultyDevice| {
        let hops: Vec<HopId> = story::names().keys().copied().collect();
        let story = Story::open(device, config(root), book.clone(), NOW_MS).unwrap();
        Teller { story, hops: hops.try_into().unwrap() }
    };
    let mut teller = open(device.clone());
    let [a, b, c] = teller.hops;
    let (second, long, report) = teller.begin();
    let waiting = teller.reuse(long);
    // An attempt is under way when the process is killed.
    teller.story.start(waiting[0], b);
    teller.story.step();
    let device = teller.story.kill();
    recorder.watch(&device, &book);
    let mut teller = open(device);
    assert_eq!(teller.story.recovery.in_doubt.len(), 1);
    let story = &mut teller.story;
    story.facts(vec![settled(waiting[0], b, 1, &[(0, InDoubt)])]);
    story.attempt(waiting[0], b, &[(0, Delivered)]);
    let late = story.accept(2_000, &[(b, &[0]), (c, &[1])], Vec::new());
    story.step();
    // It expires without another attempt, and is reported in the same record.
    let expired = vec![settled(late, b, 0, &[(0, Expired)]), settled(late, c, 0, &[(1, Expired)])];
    story.accept(900, &[(a, &[0])], expired);
    story.step();
    // A checkpoint that is due comes when this is written and not synced.
    teller.story.clock.advance(1_000);
    teller.hop(1, 0, 0);
    teller.story.step();
    teller.story.attempt(report, b, &[(0, Delivered)]);
    teller.story.ask(Request::Sync);
    let device = teller.story.close();
    recorder.watch(&device, &book);
    let mut teller = open(device);
    let story = &mut teller.story;
    story.attempt(second, c, &[(2, Delivered)]);
    story.attempt(waiting[1], b, &[(0, Delivered)]);
    story.accept(25_000, &[(b, &[0])], Vec::new());
    story.ask(Request::Checkpoint);
    story.accept(40, &[(a, &[0])], Vec::new());
    story.step();
    story.wait(1_000);
    recorder.take(book.reach());
    drop(teller);
    Told { deeds: book.deeds(), points: recorder.points() }
}

fn enumerate(effort: Effort) {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let began = Instant::now();
    let Told { deeds, points } = tell(&device, dir.path());
    story::audit::check(&points);
    let judge = Judge::new(dir.path(), &deeds, effort);
    judge.try_all(&points);
    let (tried, nested) = judge.tried();
    println!(
        "{} deeds, {} points, {tried} crashes, {nested} of them in a recovery, in {:.1} s",
        deeds.len(),
        points.len(),
        began.elapsed().as_secs_f64()
    );
    assert!(tried > points.len(), "every point was tried");
}

#[test]
fn after_a_crash_at_any_point_the_spool_holds_what_it_promised() {
    enumerate(if std::env::var_os("PENSTOCK_CRASH_ALL").is_some() { FULL } else { SOME });
}
