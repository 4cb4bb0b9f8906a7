//! Every call to the disk fails once, in every way; then the spool is opened again and must hold what it promised.
//!
//! The scenario takes messages of many sizes, delivers some, reports failures, brings the index up to date, fills,
//! empties and reuses segments, writes, gives up and removes blobs. LMDB does its own I/O: its commits lie between the
//! calls that fail, so that every state of the index is paired with every state of the log that can be found beside it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::path::Path;

use common::{Bench, Ledger, directory, reopen};
use penstock_spool::testing::{Call, Fault, FaultyDevice};
use penstock_spool::{Answer, Fact, Request, SpoolConfig};

/// Run the scenario as far as it goes; a spool that cannot be opened has promised nothing.
fn scenario(device: &FaultyDevice, path: &Path) -> Ledger {
    // Of these sizes the two largest go to blobs.
    let config = SpoolConfig { blob_bytes: 65_000, ..common::config(path) };
    let Ok(mut bench) = Bench::open_with(device, config) else { return Ledger::default() };
    let mut waiting = Vec::new();
    for (nth, octets) in [100, 5_000, 70_000, 1, 20_000, 140_000, 64, 9_000].into_iter().enumerate() {
        waiting.extend(bench.commit(octets));
        if nth % 3 != 0 {
            bench.step();
        }
        if nth % 2 == 1 && waiting.len() > 1 {
            let id = waiting.remove(0);
            bench.deliver(id);
        }
        if nth == 3 {
            // Given up when a part of it is in a blob.
            let given_up = bench.draft(&vec![7; 67_000]);
            bench.step();
            drop(given_up);
        }
        if nth == 4 {
            let failed = waiting.remove(0);
            waiting.extend(bench.commit_for(700, Some(failed)));
            bench.step();
        }
        if nth == 5 {
            bench.sync(Request::Checkpoint);
        }
    }
    bench.clock.advance(11);
    bench.step();
    for id in std::mem::take(&mut waiting) {
        bench.deliver(id);
    }
    bench.sync(Request::Sync);
    waiting.extend(bench.commit(30_000));
    bench.sync(Request::Checkpoint);
    bench.step();
    // By now dead segments have become spares, and are written in again.
    for octets in [60_000, 60_000, 65_001, 60_000] {
        waiting.extend(bench.commit(octets));
        bench.step();
    }
    // These two are in different segments and share a sync.
    for octets in [64_000, 64_000] {
        waiting.extend(bench.commit(octets));
    }
    bench.step();
    bench.clock.advance(1_000);
    bench.step();
    if let Some(&id) = waiting.first() {
        bench.start(id);
        bench.step();
    }
    bench.kill()
}

/// How many calls the scenario makes, and how many messages it has.
fn calls() -> (u64, usize) {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let ledger = scenario(&device, dir.path());
    assert!(ledger.0.values().all(|entry| entry.is_acked), "without faults all is taken");
    reopen(&device.after_kill(), dir.path(), &ledger, "no fault");
    (device.calls().len() as u64, ledger.0.len())
}

fn sweep(fault: Fault, seeds: u64) {
    let (calls, _) = calls();
    println!("{calls} calls, each {fault:?}");
    common::sweep(calls, fault, seeds, scenario);
}

#[test]
fn a_machine_that_stops_in_any_call_has_kept_its_promises() {
    sweep(Fault::Halt, 4);
}

#[test]
fn an_error_of_the_disk_in_any_call_breaks_no_promise() {
    sweep(Fault::Io, 2);
}

#[test]
fn a_full_disk_in_any_call_breaks_no_promise() {
    sweep(Fault::Full, 1);
}

#[test]
fn interruptions_and_short_transfers_change_nothing() {
    let (calls, messages) = calls();
    for fault in [Fault::Interrupted, Fault::Short] {
        for call in 0..calls {
            let (device, dir) = (FaultyDevice::new(1), directory());
            device.fail(call, fault);
            let ledger = scenario(&device, dir.path());
            // What is not read or written may be refused when it is interrupted, but not what is part of the log.
            let kind = device.calls()[call as usize];
            if matches!(kind, Call::Read | Call::Write | Call::Sync | Call::SyncDir) {
                let all = ledger.0.len() == messages && ledger.0.values().all(|entry| entry.is_acked);
                assert!(all, "{fault:?} in call {call}, {kind:?}");
            }
            reopen(&device.after_kill(), dir.path(), &ledger, &format!("{fault:?} in call {call}"));
        }
    }
}

#[test]
fn a_recovery_that_is_cut_off_does_not_bring_back_what_was_so_before() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let bench = Bench::open(&device, dir.path()).unwrap();
    for (state, failures) in [(1, 1), (1, 2), (0, 0), (2, 3)] {
        let last_error = "x".repeat(400);
        let fact = Fact::Hop { hop: bench.hop, state, last_error, next_retry_ms: 0, failures };
        bench.spool().append(vec![fact]);
        bench.spool().step();
    }
    bench.kill();
    let opened = |device: &FaultyDevice, call: Option<u64>| {
        let second = directory();
        common::copy_index(dir.path(), second.path());
        let device = device.moved(dir.path(), second.path());
        if let Some(call) = call {
            device.fail(call, Fault::Halt);
        }
        let bench = Bench::open(&device, second.path());
        (device, bench, second)
    };
    let (crashed, needed) = (device.after_kill(), opened(&device.after_kill(), None).0.calls().len());
    for call in 0..needed as u64 {
        let (device, bench, second) = opened(&crashed, Some(call));
        drop(bench);
        let again = device.after_kill();
        let mut bench = Bench::open(&again, second.path()).unwrap();
        let Some(Answer::Hops { rows, .. }) = bench.ask(Request::Hops) else { panic!("call {call}") };
        assert_eq!((rows.len(), rows[0].state, rows[0].failures), (1, 2, 3), "call {call}");
    }
}

#[test]
fn a_recovery_that_is_cut_off_can_be_repeated() {
    // Stop it where much is in the log and not in the index.
    let (calls, _) = calls();
    let stopped = (calls / 2..calls).find_map(|call| {
        let (device, dir) = (FaultyDevice::new(1), directory());
        device.fail(call, Fault::Halt);
        let ledger = scenario(&device, dir.path());
        let crashed = device.after_kill();
        let (mut bench, _dir) = reopen(&crashed, dir.path(), &ledger, "once");
        let expected: Vec<_> = bench.messages().iter().map(|row| row.queue_id).collect();
        let is_much = !expected.is_empty() && bench.recovery.records > 3;
        is_much.then_some((bench, dir, ledger, crashed, expected))
    });
    let (bench, dir, ledger, crashed, expected) = stopped.expect("there is something to recover");
    let needed = bench.device.calls().len() as u64;
    for call in 0..needed {
        for fault in [Fault::Halt, Fault::Io, Fault::Full] {
            let second = directory();
            common::copy_index(dir.path(), second.path());
            let device = crashed.moved(dir.path(), second.path());
            device.fail(call, fault);
            let opened = Bench::open(&device, second.path());
            drop(opened.map(Bench::kill));
            for seed in 0..3 {
                let (again, what) = match seed {
                    0 => (device.after_kill(), format!("{fault:?} in call {call}, kill")),
                    seed => (
                        device.after_power_loss(seed + call),
                        format!("{fault:?} in call {call}, seed {seed}"),
                    ),
                };
                let (mut bench, _dir) = reopen(&again, second.path(), &ledger, &what);
                let found: Vec<_> = bench.messages().iter().map(|row| row.queue_id).collect();
                if seed == 0 {
                    assert_eq!(found, expected, "{what}");
                }
            }
        }
    }
}
