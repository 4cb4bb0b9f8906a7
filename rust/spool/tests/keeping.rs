//! Messages that have arrived are kept for some time, so that they can be sent once more.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::path::Path;

use bytes::Bytes;
use common::{Bench, NOW_MS, accepted, config, copy_index, directory};
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{Call, Fault, FaultyDevice};
use penstock_spool::{Answer, CopyError, Device, KeptRow, Opening, OutcomeState, Request, SpoolConfig};

const SEGMENT_BYTES: u64 = 32 << 10;
const HOUR_MS: u64 = 3_600_000;

fn keeping(path: &Path) -> SpoolConfig {
    SpoolConfig { segment_bytes: SEGMENT_BYTES, kept_ms: HOUR_MS, clean_bytes_per_s: 1 << 30, ..config(path) }
}

fn kept(bench: &mut Bench) -> Vec<KeptRow> {
    let Some(Answer::Kept { rows, next, .. }) = bench.ask(Request::Kept { after: None, limit: 1_000 }) else {
        panic!("it is answered")
    };
    assert_eq!(next, None);
    rows
}

fn ids(rows: &[KeptRow]) -> Vec<QueueId> {
    rows.iter().map(|row| row.queue_id).collect()
}

/// Take and deliver messages.
fn pass(bench: &mut Bench, count: usize, octets: usize) -> Vec<QueueId> {
    let mut all = Vec::new();
    for _ in 0..count {
        let id = bench.commit(octets).unwrap();
        bench.step();
        bench.deliver(id);
        bench.step();
        all.push(id);
    }
    all
}

fn wait(bench: &mut Bench, ms: u64) {
    for _ in 0..ms / 100 {
        bench.clock.advance(100);
        bench.step();
    }
}

#[test]
fn what_has_arrived_is_kept_for_its_time_and_then_its_room_comes_back() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, keeping(dir.path())).unwrap();
    let all = pass(&mut bench, 40, 5_000);
    let waiting = bench.commit(100).unwrap();
    let failed = bench.commit(100).unwrap();
    bench.step();
    bench.defer(failed, OutcomeState::Failed);
    let rows = kept(&mut bench);
    assert_eq!(ids(&rows), all, "not what waits, and not what has failed");
    assert_eq!(rows[0].until_ms, NOW_MS + HOUR_MS);
    assert_eq!(rows[0].recipients[0].state, Some(OutcomeState::Delivered));
    assert_eq!(bench.messages().iter().map(|row| row.queue_id).collect::<Vec<_>>(), [waiting]);
    for id in &all {
        assert!(bench.content(*id).unwrap() == bench.ledger.0[id].content);
    }
    let statistics = bench.spool().statistics();
    assert!(statistics.kept_messages == 40 && statistics.kept_bytes > 40 * 5_000, "{statistics:?}");
    assert!(statistics.log_bytes > 40 * 5_000);
    wait(&mut bench, 2_000);
    bench.clock.advance(HOUR_MS - 10_000);
    bench.step();
    assert_eq!(kept(&mut bench).len(), 40);
    bench.clock.advance(20_000);
    bench.step();
    assert_eq!(ids(&kept(&mut bench)), []);
    assert_eq!(bench.content(all[0]), None);
    wait(&mut bench, 3_000);
    let statistics = bench.spool().statistics();
    assert!(statistics.log_bytes <= 3 * SEGMENT_BYTES && statistics.kept_bytes == 0, "{statistics:?}");
    assert!(bench.content(waiting).is_some());
}

#[test]
fn it_is_found_after_a_kill_and_after_power_loss() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, keeping(dir.path())).unwrap();
    let early = pass(&mut bench, 10, 3_000);
    bench.sync(Request::Checkpoint).unwrap();
    let late = pass(&mut bench, 10, 3_000);
    bench.sync(Request::Sync).unwrap();
    let ledger = bench.kill();
    for seed in 0..10 {
        let next = directory();
        copy_index(dir.path(), next.path());
        let crashed = if seed == 0 { device.after_kill() } else { device.after_power_loss(seed) };
        let crashed = crashed.moved(dir.path(), next.path());
        let bench = Bench::open_with(&crashed, keeping(next.path())).unwrap();
        drop(bench);
        // And once more, when only what the first recovery made durable is there.
        let mut bench = Bench::open_with(&crashed.after_power_loss(seed), keeping(next.path())).unwrap();
        let rows = kept(&mut bench);
        assert_eq!(ids(&rows), [&early[..], &late[..]].concat(), "seed {seed}");
        for row in &rows {
            let content = bench.content(row.queue_id).unwrap();
            assert!(content == ledger.0[&row.queue_id].content, "seed {seed}: {}", row.queue_id);
        }
    }
}

#[test]
fn the_oldest_go_first_when_it_is_too_much() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let small = SpoolConfig { kept_max_bytes: 60_000, ..keeping(dir.path()) };
    let mut bench = Bench::open_with(&device, small).unwrap();
    let mut all = Vec::new();
    for _ in 0..6 {
        all.extend(pass(&mut bench, 10, 2_000));
        wait(&mut bench, 3_000);
        let statistics = bench.spool().statistics();
        assert!(statistics.kept_bytes <= 60_000, "{statistics:?}");
    }
    let rows = kept(&mut bench);
    assert!(rows.len() > 20);
    assert_eq!(ids(&rows), all[all.len() - rows.len()..]);
    let statistics = bench.spool().statistics();
    assert!(statistics.log_bytes <= 2 * statistics.live_bytes + 3 * SEGMENT_BYTES, "{statistics:?}");
    // Without retention nothing of it stays.
    bench.close();
    let none = SpoolConfig { kept_ms: 0, ..keeping(dir.path()) };
    let mut bench = Bench::open_with(&device, none).unwrap();
    wait(&mut bench, 2_500);
    assert_eq!(ids(&kept(&mut bench)), []);
}

#[test]
fn segments_with_little_that_is_kept_are_cleaned() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, keeping(dir.path())).unwrap();
    let mut all = Vec::new();
    for _ in 0..60 {
        all.extend(pass(&mut bench, 1, 2_000));
        // What fails is not kept.
        for _ in 0..10 {
            let id = bench.commit(2_000).unwrap();
            bench.step();
            bench.defer(id, OutcomeState::Failed);
            bench.step();
        }
    }
    wait(&mut bench, 10_000);
    let statistics = bench.spool().statistics();
    assert!(statistics.cleaned_messages > 30, "{statistics:?}");
    assert!(statistics.log_bytes <= 2 * statistics.live_bytes + 3 * SEGMENT_BYTES, "{statistics:?}");
    let rows = kept(&mut bench);
    assert_eq!(ids(&rows), all);
    for id in all {
        assert!(bench.content(id).unwrap() == bench.ledger.0[&id].content);
    }
}

#[test]
fn it_gives_way_before_new_mail_is_refused_for_long() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, keeping(dir.path())).unwrap();
    bench.step();
    device.set_capacity(1 << 20);
    let mut taken = 0;
    for _ in 0..400 {
        if let Some(id) = bench.commit(4_000) {
            bench.step();
            if bench.ledger.0[&id].is_acked {
                taken += 1;
                bench.deliver(id);
            }
        }
        bench.clock.advance(300);
        bench.step();
    }
    assert!(taken > 300, "of 400 messages, four times what the disk holds, {taken} were taken");
    assert!(!bench.poisoned);
}

#[test]
fn a_kept_message_can_be_sent_once_more_under_another_name() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, keeping(dir.path())).unwrap();
    let id = pass(&mut bench, 1, 150_000)[0];
    bench.sync(Request::Checkpoint).unwrap();
    let draft = bench.spool().copy(id).unwrap();
    let again = draft.queue_id();
    assert!(again > id);
    bench.spool().commit(draft, accepted(bench.hop, 150_000), Bytes::new(), Vec::new());
    bench.spool().step();
    assert!(bench.content(again).unwrap() == bench.ledger.0[&id].content);
    assert!(matches!(bench.spool().copy(QueueId(5)), Err(CopyError::Missing)));
    let log = dir.path().join("shard-00/log");
    for name in device.names(&log) {
        let path = log.join(name);
        let file = Device::open(&device, &path, Opening::Existing).unwrap();
        if file.size().unwrap() > 100_000 {
            device.flip(&path, 50_000, 1);
        }
    }
    assert!(matches!(bench.spool().copy(id), Err(CopyError::Unreadable(_))));
}

#[test]
fn a_kept_message_has_its_blob_until_it_is_let_go_of() {
    const LARGE: usize = 400_000;
    let (device, dir) = (FaultyDevice::new(1), directory());
    let with_blobs = |path: &Path| SpoolConfig { blob_bytes: 100_000, ..keeping(path) };
    let blobs = dir.path().join("shard-00/blobs");
    let mut bench = Bench::open_with(&device, with_blobs(dir.path())).unwrap();
    let early = pass(&mut bench, 1, LARGE)[0];
    bench.sync(Request::Checkpoint).unwrap();
    // What has arrived nowhere is not kept, and its blob neither.
    let failed = bench.commit(LARGE).unwrap();
    bench.step();
    bench.defer(failed, OutcomeState::Failed);
    bench.sync(Request::Checkpoint).unwrap();
    let late = pass(&mut bench, 1, LARGE)[0];
    bench.sync(Request::Sync).unwrap();
    let names = |device: &FaultyDevice, ids: &[QueueId]| {
        assert_eq!(device.names(&blobs), ids.iter().map(QueueId::to_string).collect::<Vec<_>>());
    };
    names(&device, &[early, late]);
    let ledger = bench.kill();
    for seed in 0..6 {
        let next = directory();
        copy_index(dir.path(), next.path());
        let crashed = if seed == 0 { device.after_kill() } else { device.after_power_loss(seed) };
        let crashed = crashed.moved(dir.path(), next.path());
        let mut bench = Bench::open_with(&crashed, with_blobs(next.path())).unwrap();
        bench.step();
        assert_eq!((ids(&kept(&mut bench)), bench.recovery.damaged), (vec![early, late], 0), "seed {seed}");
        for id in [early, late] {
            assert!(bench.content(id).unwrap() == ledger.0[&id].content, "seed {seed}: {id}");
        }
        assert_eq!(crashed.names(&next.path().join("shard-00/blobs")).len(), 2, "seed {seed}");
    }
    let mut bench = Bench::open_with(&device, with_blobs(dir.path())).unwrap();
    bench.ledger = ledger.clone();
    let draft = bench.spool().copy(early).unwrap();
    let again = bench.hand_in(draft, &ledger.0[&early].content);
    bench.step();
    names(&device, &[early, late, again]);
    assert!(bench.content(again).unwrap() == bench.ledger.0[&again].content);
    wait(&mut bench, 1_500);
    bench.sync(Request::Checkpoint).unwrap();
    let statistics = bench.spool().statistics();
    assert!(
        statistics.kept_blob_bytes > 2 * LARGE as u64 && statistics.kept_bytes < 50_000,
        "{statistics:?}"
    );
    assert!(statistics.blob_bytes > statistics.kept_blob_bytes + LARGE as u64, "{statistics:?}");
    // Their time is over; while files cannot be removed they stay, and the next start sweeps them.
    device.fail_all(Call::Remove, Some(Fault::Io));
    bench.clock.advance(2 * HOUR_MS);
    wait(&mut bench, 3_000);
    assert_eq!(ids(&kept(&mut bench)), []);
    names(&device, &[early, late, again]);
    let ledger = bench.kill();
    device.fail_all(Call::Remove, None);
    let mut bench = Bench::open_with(&device, with_blobs(dir.path())).unwrap();
    bench.resume(ledger);
    bench.step();
    names(&device, &[again]);
    assert_eq!((ids(&kept(&mut bench)), bench.recovery.damaged), (vec![], 0));
    // And where they can, they go with their messages.
    bench.deliver(again);
    wait(&mut bench, 1_500);
    bench.sync(Request::Checkpoint).unwrap();
    names(&device, &[again]);
    assert!(bench.content(again).unwrap() == bench.ledger.0[&again].content);
    bench.clock.advance(2 * HOUR_MS);
    wait(&mut bench, 3_000);
    names(&device, &[]);
    let statistics = bench.spool().statistics();
    assert_eq!((statistics.kept_blob_bytes, statistics.blob_bytes), (0, 0), "{statistics:?}");
    bench.close();
    let mut bench = Bench::open_with(&device, with_blobs(dir.path())).unwrap();
    assert_eq!((ids(&kept(&mut bench)), bench.recovery.damaged), (vec![], 0));
}

#[test]
fn an_index_that_is_made_anew_has_what_is_kept() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, keeping(dir.path())).unwrap();
    let all = pass(&mut bench, 40, 5_000);
    let waiting = bench.commit(100).unwrap();
    bench.step();
    // Most of what is kept is moved to where it alone is, and the records of its life are given up.
    wait(&mut bench, 5_000);
    assert_eq!(ids(&kept(&mut bench)), all);
    let ledger = bench.close();
    std::fs::remove_dir_all(dir.path().join("shard-00/index")).unwrap();
    let mut bench = Bench::open_with(&device, keeping(dir.path())).unwrap();
    bench.resume(ledger);
    let salvaged = bench.recovery.salvaged.clone().unwrap();
    assert_eq!((salvaged.messages, salvaged.damaged), (1, 0));
    let rows = kept(&mut bench);
    let mut found = ids(&rows);
    found.sort_unstable();
    assert_eq!(found, all);
    for id in &all {
        assert!(bench.content(*id).unwrap() == bench.ledger.0[id].content);
    }
    assert_eq!(bench.messages().iter().map(|row| row.queue_id).collect::<Vec<_>>(), [waiting]);
    assert_eq!(bench.spool().statistics().kept_messages, 40);
    bench.clock.advance(2 * HOUR_MS);
    bench.step();
    assert_eq!(ids(&kept(&mut bench)), []);
}
