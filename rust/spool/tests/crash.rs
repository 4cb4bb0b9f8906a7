//! The table of crash states in `ARCHITECTURE.md`, row by row, after a kill and after power losses of many kinds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{Bench, Ledger, directory, reopen, silent};
use penstock_core::flow::GateState;
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{Call, Fate, Fault, FaultyDevice};
use penstock_spool::{Draft, Request, SpoolConfig};
use tempfile::TempDir;

/// Power losses that are tried of each state.
const SEEDS: u64 = 40;

/// What was found after a crash.
struct Found {
    messages: Vec<QueueId>,
    in_doubt: Vec<QueueId>,
    may_repeat: bool,
}

struct Crash {
    device: FaultyDevice,
    ledger: Ledger,
    dir: TempDir,
}

impl Crash {
    fn of((bench, dir): (Bench, TempDir)) -> Self {
        let device = bench.device.clone();
        Self { device, ledger: bench.kill(), dir }
    }

    fn found(&self, device: &FaultyDevice, what: &str) -> Found {
        let (mut bench, _dir) = reopen(device, self.dir.path(), &self.ledger, what);
        Found {
            messages: bench.messages().iter().map(|row| row.queue_id).collect(),
            in_doubt: bench.recovery.in_doubt.iter().map(|doubt| doubt.queue_id).collect(),
            may_repeat: bench.recovery.may_repeat,
        }
    }

    fn after_kill(&self) -> Found {
        let found = self.found(&self.device.after_kill(), "kill");
        assert!(!found.may_repeat, "a kill loses nothing that was written");
        found
    }

    /// What is there after each of many power losses.
    fn after_power_losses(&self) -> Vec<Found> {
        let after = |seed| {
            let found = self.found(&self.device.after_power_loss(seed), &format!("power loss, seed {seed}"));
            assert!(found.may_repeat, "seed {seed}: said at the start");
            found
        };
        (0..SEEDS).map(after).collect()
    }
}

fn bench() -> (Bench, TempDir) {
    let dir = directory();
    // So large that no other segment is begun while a test looks at one sync.
    let config = SpoolConfig { segment_bytes: 1 << 20, ..common::config(dir.path()) };
    let bench = Bench::open_with(&FaultyDevice::new(1), config).unwrap();
    (bench, dir)
}

/// A message that is acknowledged.
fn accepted() -> (Bench, TempDir, QueueId) {
    let (mut bench, dir) = bench();
    let id = bench.commit(5_000).unwrap();
    bench.step();
    assert!(bench.ledger.0[&id].is_acked);
    (bench, dir, id)
}

#[test]
fn receiving_what_is_not_handed_in_is_gone() {
    let (bench, dir) = bench();
    let _draft = bench.draft(&[7; 5_000]).unwrap();
    bench.spool().step();
    let crash = Crash::of((bench, dir));
    assert!(crash.after_kill().messages.is_empty());
    assert!(crash.after_power_losses().iter().all(|found| found.messages.is_empty()));
}

/// A spool where content above 100,000 octets goes to blobs, and a draft of 256 KiB of which all is written.
fn spilling() -> (Bench, TempDir, Draft, Vec<u8>) {
    let dir = directory();
    let config = SpoolConfig { blob_bytes: 100_000, ..common::config(dir.path()) };
    let bench = Bench::open_with(&FaultyDevice::new(1), config).unwrap();
    let content = vec![7; 4 * 65_536];
    let draft = bench.draft(&content).unwrap();
    bench.spool().step();
    (bench, dir, draft, content)
}

/// After each crash nothing is found, and nothing is left in the end of what was written.
fn is_gone(crash: &Crash) {
    let kill = (crash.device.after_kill(), "kill".into());
    let losses = (0..SEEDS).map(|seed| (crash.device.after_power_loss(seed), format!("seed {seed}")));
    for (device, what) in std::iter::once(kill).chain(losses) {
        let (mut bench, dir) = reopen(&device, crash.dir.path(), &crash.ledger, &what);
        assert!(bench.messages().is_empty(), "{what}");
        let left = bench.device.names(&dir.path().join("shard-00/blobs"));
        assert!(left.is_empty(), "{what}: {left:?}");
    }
}

#[test]
fn spilling_what_is_not_handed_in_is_gone_and_what_was_written_of_it_too() {
    let (bench, dir, draft, _) = spilling();
    let names = bench.device.names(&dir.path().join("shard-00/blobs"));
    assert_eq!(names, [format!("{}.new", draft.queue_id())]);
    is_gone(&Crash::of((bench, dir)));
}

#[test]
fn a_blob_that_was_written_and_whose_record_was_not_is_gone() {
    let (mut bench, dir, draft, content) = spilling();
    // From here on the record alone is written.
    bench.device.fail_all(Call::Write, Some(Fault::Halt));
    let id = bench.hand_in(draft, &content);
    bench.step();
    assert!(!bench.ledger.0[&id].is_acked);
    assert_eq!(bench.device.names(&dir.path().join("shard-00/blobs")), [id.to_string()]);
    let crash = Crash::of((bench, dir));
    let kill = crash.device.after_kill();
    assert!(crash.found(&kill, "kill").messages.is_empty());
    is_gone(&crash);
}

#[test]
fn accepted_with_a_blob_is_there() {
    let (mut bench, dir, draft, content) = spilling();
    let id = bench.hand_in(draft, &content);
    bench.step();
    assert!(bench.ledger.0[&id].is_acked);
    let crash = Crash::of((bench, dir));
    assert_eq!(crash.after_kill().messages, [id]);
    assert!(crash.after_power_losses().iter().all(|found| found.messages == [id]));
}

#[test]
fn written_is_whole_after_a_kill_and_whole_or_gone_after_power_loss() {
    let (mut bench, dir) = bench();
    let id = bench.commit(40_000).unwrap();
    bench.device.fail_all(Call::Sync, Some(Fault::Halt));
    bench.step();
    assert!(!bench.ledger.0[&id].is_acked);
    let crash = Crash::of((bench, dir));
    assert_eq!(crash.after_kill().messages, [id]);
    let kept = crash.after_power_losses().iter().filter(|found| found.messages == [id]).count();
    assert!((1..SEEDS as usize).contains(&kept), "both happen: {kept}");
}

#[test]
fn accepted_is_there() {
    let (bench, dir, id) = accepted();
    let crash = Crash::of((bench, dir));
    assert_eq!(crash.after_kill().messages, [id]);
    assert!(
        crash.after_power_losses().iter().all(|found| found.messages == [id] && found.in_doubt.is_empty())
    );
}

#[test]
fn checkpointed_is_there() {
    let (mut bench, dir, id) = accepted();
    bench.sync(Request::Checkpoint).unwrap();
    let crash = Crash::of((bench, dir));
    assert_eq!(crash.after_kill().messages, [id]);
    assert!(crash.after_power_losses().iter().all(|found| found.messages == [id]));
}

#[test]
fn sending_is_in_doubt_after_a_kill_and_after_power_loss_if_the_start_survived() {
    for is_checkpointed in [false, true] {
        let (mut bench, dir, id) = accepted();
        if is_checkpointed {
            bench.sync(Request::Checkpoint).unwrap();
        }
        let mut gate = bench.start(id);
        assert_eq!(gate.state(&silent()), GateState::Closed, "nothing is sent before that is written");
        bench.step();
        assert_eq!(gate.state(&silent()), GateState::Open);
        let crash = Crash::of((bench, dir));
        let found = crash.after_kill();
        assert_eq!((found.messages, found.in_doubt), (vec![id], vec![id]));
        let losses = crash.after_power_losses();
        assert!(losses.iter().all(|found| found.messages == [id]));
        let named = losses.iter().filter(|found| found.in_doubt == [id]).count();
        assert!((1..SEEDS as usize).contains(&named), "both happen: {named}");
    }
}

#[test]
fn settled_is_known_after_a_kill_and_may_be_forgotten_by_power_loss_until_it_is_synced() {
    let (mut bench, dir, id) = accepted();
    bench.deliver(id);
    bench.step();
    let crash = Crash::of((bench, dir));
    assert!(crash.after_kill().messages.is_empty());
    let back = crash.after_power_losses().iter().filter(|found| found.messages == [id]).count();
    assert!((1..SEEDS as usize).contains(&back), "both happen: {back}");
}

#[test]
fn settled_and_synced_is_gone() {
    for request in [Request::Sync, Request::Checkpoint] {
        let (mut bench, dir, id) = accepted();
        bench.deliver(id);
        bench.sync(request).unwrap();
        let crash = Crash::of((bench, dir));
        assert!(crash.after_kill().messages.is_empty());
        assert!(crash.after_power_losses().iter().all(|found| found.messages.is_empty()));
    }
}

#[test]
fn a_settlement_that_nobody_waits_for_is_synced_within_ten_milliseconds() {
    let (mut bench, dir, id) = accepted();
    bench.deliver(id);
    bench.step();
    let syncs = bench.device.count(Call::Sync);
    assert_eq!(bench.spool().next_deadline_ms(), Some(common::NOW_MS + 10));
    bench.clock.advance(9);
    bench.step();
    assert_eq!(bench.device.count(Call::Sync), syncs);
    bench.clock.advance(1);
    bench.step();
    assert_eq!(bench.device.count(Call::Sync), syncs + 1);
    let crash = Crash::of((bench, dir));
    assert!(crash.after_power_losses().iter().all(|found| found.messages.is_empty()));
}

#[test]
fn a_failure_and_its_report_are_both_there_or_neither() {
    let (mut bench, dir, failed) = accepted();
    let report = bench.commit_for(3_000, Some(failed)).unwrap();
    bench.device.fail_all(Call::Sync, Some(Fault::Halt));
    bench.step();
    let crash = Crash::of((bench, dir));
    assert_eq!(crash.after_kill().messages, [report]);
    let losses = crash.after_power_losses();
    assert!(losses.iter().all(|found| found.messages == [report] || found.messages == [failed]));
    let reported = losses.iter().filter(|found| found.messages == [report]).count();
    assert!((1..SEEDS as usize).contains(&reported), "both happen: {reported}");
}

#[test]
fn a_failure_and_its_report_are_not_parted_by_a_write_that_loses_its_last_sector() {
    // Wherever the failure comes to lie in a sector: it begins in the last but one at some of these lengths.
    for octets in (2_500..3_100).step_by(32) {
        let (mut bench, dir, failed) = accepted();
        let report = bench.commit_for(octets, Some(failed)).unwrap();
        bench.device.fail_all(Call::Sync, Some(Fault::Halt));
        bench.step();
        let crash = Crash::of((bench, dir));
        let torn = crash.device.moment().after_power_loss(&|_| Fate::Short);
        let found = crash.found(&torn, &format!("report of {octets}"));
        assert!(found.messages == [report] || found.messages == [failed], "{octets}: {:?}", found.messages);
    }
}

#[test]
fn closed_in_order_nothing_may_repeat_and_nothing_is_replayed() {
    let (mut bench, dir, id) = accepted();
    bench.deliver(id);
    let kept = bench.commit(100).unwrap();
    let device = bench.device.clone();
    let ledger = bench.close();
    for seed in 0..SEEDS {
        let (mut bench, _dir) =
            reopen(&device.after_power_loss(seed), dir.path(), &ledger, &format!("seed {seed}"));
        assert_eq!(bench.recovery.records, 0);
        assert_eq!(bench.messages().iter().map(|row| row.queue_id).collect::<Vec<_>>(), [kept]);
    }
}

#[test]
fn a_message_in_a_segment_that_was_a_spare_is_there() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let small = SpoolConfig { segment_bytes: 16 << 10, ..common::config(dir.path()) };
    let mut bench = Bench::open_with(&device, small).unwrap();
    bench.commit(6_000).unwrap();
    bench.step();
    bench.clock.advance(2_000);
    bench.step();
    let is_spare = |name: &String| name.starts_with("spare-");
    let log = dir.path().join("shard-00/log");
    assert!(device.names(&log).iter().any(is_spare), "there is one to be used");
    let id = bench.commit(9_000).unwrap();
    bench.step();
    assert!(bench.ledger.0[&id].is_acked && !device.names(&log).iter().any(is_spare));
    let crash = Crash::of((bench, dir));
    for found in crash.after_power_losses() {
        assert!(found.messages.contains(&id));
    }
}
