//! Every crash that a story can meet, and every crash that the recovery from it can meet.
//!
//! The first story takes mail in groups, in one chunk and in several, in one segment and across them; it begins attempts
//! and ends them in every way, reports failures, routes anew, tells the state of hops, brings the index up to date, gives
//! segments up and writes in them again, is killed, is closed, and goes on. The others are of segments that are cleaned,
//! of content in blobs, and of edits. `make crash` tries all that can be left of them; without being asked for more, a
//! test tries what fits into some seconds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
mod story;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use common::{NOW_MS, directory};
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{Fate, FaultyDevice};
use penstock_spool::{Edit, Fact, HopId, OutcomeState, Request, RoutedTo, SpoolConfig, Suspension};
use story::crash::{Effort, FULL, Judge, Point, Recorder};
use story::model::{Deed, settled};
use story::{SharedBook, Story, Word, config};

use OutcomeState::{Deferred, Delivered, Expired, Failed, InDoubt};

/// A part of what can be tried, for every run of the tests.
const SOME: Effort = Effort {
    part: 6,
    combinations: 2,
    tears: &[Fate::Short, Fate::Spoilt],
    pages: false,
    nested: 600,
    go_on: 8,
};

/// A story, and all the moments of it.
struct Told {
    deeds: Vec<Deed>,
    words: Vec<Word>,
    points: Vec<Point>,
}

/// A story that is being told, and who takes its moments.
struct Telling {
    book: SharedBook,
    recorder: Arc<Recorder>,
    root: PathBuf,
    config: fn(&Path) -> SpoolConfig,
}

impl Telling {
    fn new(device: &FaultyDevice, root: &Path, config: fn(&Path) -> SpoolConfig) -> Self {
        let (book, recorder) = (SharedBook::default(), Recorder::new(device, root));
        Self { book, recorder, root: root.into(), config }
    }

    /// Begin it, or go on after what has ended it.
    fn open(&self, device: FaultyDevice) -> Teller {
        self.recorder.watch(&device, &self.book);
        let hops: Vec<HopId> = story::names().keys().copied().collect();
        let story = Story::open(device, (self.config)(&self.root), self.book.clone(), NOW_MS).unwrap();
        Teller { story, hops: hops.try_into().unwrap() }
    }

    fn end(self, teller: Teller) -> Told {
        self.recorder.take(self.book.reach());
        drop(teller);
        Told { deeds: self.book.deeds(), words: self.book.words(), points: self.recorder.points() }
    }
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

fn tell(telling: Telling, device: FaultyDevice) -> Told {
    let mut teller = telling.open(device);
    let [a, b, c] = teller.hops;
    let (second, long, report) = teller.begin();
    let waiting = teller.reuse(long);
    // An attempt is under way when the process is killed.
    teller.story.start(waiting[0], b);
    teller.story.step();
    let mut teller = telling.open(teller.story.kill());
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
    let mut teller = telling.open(teller.story.close());
    let story = &mut teller.story;
    story.attempt(second, c, &[(2, Delivered)]);
    story.attempt(waiting[1], b, &[(0, Delivered)]);
    story.accept(25_000, &[(b, &[0])], Vec::new());
    story.ask(Request::Checkpoint);
    story.accept(40, &[(a, &[0])], Vec::new());
    story.step();
    story.wait(1_000);
    telling.end(teller)
}

/// Segments that one message fills, and in which cleaning begins as soon as it may.
fn tiny(path: &Path) -> SpoolConfig {
    SpoolConfig { segment_bytes: 16 << 10, clean_bytes_per_s: 1 << 30, blob_bytes: 20_000, ..config(path) }
}

/// In each of many segments little is left, which is moved; the segments are given up, and others are written in their
/// files. What is moved is in every state that a message can be in, and more is said of it meanwhile.
fn tell_cleaning(telling: Telling, device: FaultyDevice) -> Told {
    let mut teller = telling.open(device);
    let [a, b, c] = teller.hops;
    let story = &mut teller.story;
    let mut left = Vec::new();
    for nth in 0..11 {
        // The first goes on in a blob, which stays where it is.
        let octets = if nth == 0 { 21_000 } else { 900 + 100 * nth };
        left.push(story.accept(octets, &[(a, &[0]), (b, &[1, 2])], Vec::new()));
        let gone = story.accept(5_500, &[(c, &[0])], Vec::new());
        story.step();
        story.facts(vec![settled(gone, c, 1, &[(0, Delivered)])]);
        story.step();
        if nth % 3 == 0 && nth < 7 {
            // A spare is made, and what comes next is written in it. Only a file that is full can be used again.
            story.wait(2_000);
        }
    }
    story.attempt(left[1], a, &[(0, Deferred)]);
    story.start(left[2], b);
    story.edit(Edit::Suspend(Suspension::Operator), &[(left[3], b)]);
    story.facts(vec![settled(left[4], a, 1, &[(0, Delivered)])]);
    // So little is alive after this that there is much to clean.
    let ends = [(a, &[(0, Delivered)][..]), (b, &[(1, Delivered), (2, Failed)])];
    let ends = |&id: &QueueId| ends.map(|(hop, outcomes)| settled(id, hop, 1, outcomes));
    story.facts(left.split_off(7).iter().flat_map(ends).collect());
    story.ask(Request::Checkpoint);
    let moved = |story: &Story| story.spool().statistics().cleaned_messages;
    let before = moved(story);
    // The index does not have this yet when it is asked what is to be moved, so that nothing may come of that.
    let others = left.iter().filter(|&&id| id != left[2]);
    story.facts(others.map(|&id| settled(id, b, 1, &[(1, Deferred)])).collect());
    story.wait(1_000);
    // Another look at the segments; what is moved then becomes durable with time.
    story.wait(1_000);
    story.wait(11);
    // What is said right after a move, before the index has it.
    story.facts(vec![settled(left[2], b, 1, &[(1, Delivered), (2, Deferred)])]);
    story.facts(vec![settled(left[0], a, 1, &[(0, Delivered)]), settled(left[0], b, 2, &[(1, Delivered)])]);
    for _ in 0..4 {
        story.wait(11);
    }
    assert!(before > 0 && moved(story) > before, "segments are cleaned before this and now");
    story.edit(Edit::Resume, &[(left[3], b)]);
    // With this nothing is left in the segments that were cleaned.
    story.ask(Request::Checkpoint);
    // One that was moved is finished, and its new place is the only one.
    story.attempt(left[5], a, &[(0, Delivered)]);
    story.attempt(left[5], b, &[(1, Delivered), (2, Failed)]);
    // Others are written in their files.
    for octets in [7_000, 6_000] {
        story.accept(octets, &[(c, &[0])], Vec::new());
        story.step();
    }
    let before = moved(&teller.story);
    let mut teller = telling.open(teller.story.kill());
    let story = &mut teller.story;
    story.attempt(left[2], a, &[(0, Delivered)]);
    story.attempt(left[0], b, &[(2, Delivered)]);
    story.ask(Request::Checkpoint);
    for _ in 0..3 {
        story.wait(600);
    }
    println!("{before} messages moved, then {}", moved(story));
    telling.end(teller)
}

/// Contents above this go to blobs.
fn large(path: &Path) -> SpoolConfig {
    SpoolConfig { blob_bytes: 4_000, ..config(path) }
}

/// Content in blobs, of one chunk and of several, begun and given up, finished before and after a checkpoint, reported,
/// and killed between.
fn tell_blobs(telling: Telling, device: FaultyDevice) -> Told {
    let mut teller = telling.open(device);
    let [a, b, c] = teller.hops;
    let story = &mut teller.story;
    let first = story.accept(5_000, &[(a, &[0])], Vec::new());
    // Records that share a sync with one of a blob, and a failure whose report is in one.
    let small = story.accept(300, &[(b, &[0])], Vec::new());
    let second = story.accept(4_001, &[(a, &[0]), (b, &[1])], Vec::new());
    let third = story.accept_slowly(150_000, &[(c, &[0])], |story| {
        story.attempt(small, b, &[(0, Delivered)]);
        story.ask(Request::Checkpoint);
    });
    story.give_up(90_000);
    let report = story.accept(6_000, &[(c, &[0])], vec![settled(second, a, 0, &[(0, Failed)])]);
    // It goes before the index has seen it.
    let brief = story.accept(4_500, &[(c, &[0])], Vec::new());
    story.attempt(brief, c, &[(0, Delivered)]);
    story.attempt(first, a, &[(0, Delivered)]);
    story.ask(Request::Sync);
    // Their blobs are removed after this.
    story.ask(Request::Checkpoint);
    story.attempt(third, c, &[(0, Deferred)]);
    let killed = story.accept(7_000, &[(a, &[0])], Vec::new());
    story.attempt(killed, a, &[(0, Delivered)]);
    story.step();
    let mut teller = telling.open(teller.story.kill());
    let story = &mut teller.story;
    // The sweep of what the kill has left.
    story.step();
    story.attempt(third, c, &[(0, Delivered)]);
    let last = story.accept(5_500, &[(b, &[0])], Vec::new());
    story.ask(Request::Checkpoint);
    story.attempt(report, c, &[(0, Delivered)]);
    story.attempt(last, b, &[(0, Deferred)]);
    let mut teller = telling.open(teller.story.close());
    let story = &mut teller.story;
    story.attempt(second, b, &[(1, Delivered)]);
    story.accept(4_100, &[(a, &[0])], Vec::new());
    story.wait(1_000);
    telling.end(teller)
}

/// Every kind of edit, alone and of several entries, between attempts and outcomes, with and without a report, and what
/// operators say of queues.
fn tell_edits(telling: Telling, device: FaultyDevice) -> Told {
    let mut teller = telling.open(device);
    let [a, b, c] = teller.hops;
    let story = &mut teller.story;
    let suspend = Edit::Suspend(Suspension::Operator);
    let first = story.accept(500, &[(a, &[0, 1]), (b, &[2])], Vec::new());
    let second = story.accept(600, &[(a, &[0])], Vec::new());
    story.step();
    story.edit(suspend, &[(first, a), (second, a)]);
    story.suspend_queue(b, true);
    let third = story.accept(700, &[(b, &[0]), (c, &[1])], Vec::new());
    // Asked for while the index has not seen the message yet, and an outcome waits for its sync.
    story.facts(vec![settled(first, b, 1, &[(2, Deferred)])]);
    story.edit(Edit::Prioritise { priority: 0 }, &[(first, b), (third, c)]);
    story.edit(Edit::Expire { expires_ms: NOW_MS + 77 }, &[(third, b)]);
    story.edit(Edit::Due { due_ms: NOW_MS + 5 }, &[(first, b)]);
    // Whoever joins what is suspended waits as well.
    story.edit(Edit::Redirect { to: a, due_ms: NOW_MS + 9 }, &[(first, b)]);
    // An attempt is under way, and its outcome comes after the edit.
    story.start(third, c);
    story.step();
    story.edit(Edit::Suspend(Suspension::Restored), &[(third, c)]);
    story.facts(vec![settled(third, c, 1, &[(1, Deferred)])]);
    story.suspend_queue(c, true);
    story.suspend_queue(b, false);
    story.ask(Request::Checkpoint);
    story.edit(Edit::Resume, &[(second, a), (third, c)]);
    let told = story.remove(second, a, 400, c);
    let mut teller = telling.open(teller.story.kill());
    let story = &mut teller.story;
    story.edit(Edit::Remove, &[(third, b)]);
    story.edit(Edit::Redirect { to: b, due_ms: NOW_MS + 3 }, &[(third, c)]);
    story.edit(Edit::Resume, &[(first, a)]);
    story.attempt(first, a, &[(0, Delivered), (1, Delivered), (2, Failed)]);
    let mut teller = telling.open(teller.story.close());
    let story = &mut teller.story;
    story.suspend_queue(c, false);
    story.edit(suspend, &[(told, c)]);
    story.attempt(third, b, &[(1, Delivered)]);
    story.step();
    story.wait(1_000);
    telling.end(teller)
}

fn enumerate(tell: fn(Telling, FaultyDevice) -> Told, config: fn(&Path) -> SpoolConfig, is_reusing: bool) {
    let effort = if std::env::var_os("PENSTOCK_CRASH_ALL").is_some() { FULL } else { SOME };
    let (device, dir) = (FaultyDevice::new(1), directory());
    let began = Instant::now();
    let Told { deeds, words, points } = tell(Telling::new(&device, dir.path(), config), device);
    let reused = story::audit::check(&points);
    assert!(reused > 0 || !is_reusing, "a file is used again");
    let judge = Judge::new(dir.path(), config, &deeds, &words, effort);
    judge.try_all(&points);
    let (tried, nested) = judge.tried();
    println!(
        "{} deeds, {} words, {} points, {tried} crashes, {nested} of them in a recovery, in {:.1} s",
        deeds.len(),
        words.len(),
        points.len(),
        began.elapsed().as_secs_f64()
    );
    assert!(tried > points.len(), "every point was tried");
}

#[test]
fn after_a_crash_at_any_point_the_spool_holds_what_it_promised() {
    enumerate(tell, config, true);
}

#[test]
fn after_a_crash_at_any_point_of_cleaning_what_is_alive_is_there_once() {
    enumerate(tell_cleaning, tiny, true);
}

#[test]
fn after_a_crash_at_any_point_there_is_every_blob_that_is_needed_and_no_other() {
    enumerate(tell_blobs, large, false);
}

#[test]
fn after_a_crash_at_any_point_an_edit_that_was_told_is_made() {
    enumerate(tell_edits, config, false);
}
