//! What the spool does when the disk fails, fills, or gives back other octets than were written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::path::Path;

use common::{Bench, config, directory, reopen, silent};
use penstock_core::flow::GateState;
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{Call, Fault, FaultyDevice};
use penstock_spool::{Answer, DraftRefused, Fact, OpenError, OutcomeState, Request, SpoolConfig};

const LOG: &str = "shard-00/log";

fn ids(bench: &mut Bench) -> Vec<QueueId> {
    bench.messages().iter().map(|row| row.queue_id).collect()
}

#[test]
fn a_failed_sync_is_not_tried_again_and_ends_everything() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    let safe = bench.commit(100).unwrap();
    bench.step();
    let lost = bench.commit(100).unwrap();
    device.fail_all(Call::Sync, Some(Fault::Io));
    bench.step();
    assert!(bench.poisoned && bench.ledger.0[&safe].is_acked && !bench.ledger.0[&lost].is_acked);
    let syncs = device.count(Call::Sync);
    device.fail_all(Call::Sync, None);
    let mut gate = bench.start(safe);
    assert_eq!(gate.state(&silent()), GateState::Failed, "no attempt begins");
    bench.settle(safe);
    assert!(matches!(bench.spool().draft(0), Err(DraftRefused::Poisoned)));
    for request in [Request::Hops, Request::Sync, Request::Checkpoint] {
        assert!(matches!(bench.ask(request), Some(Answer::Failed { .. })));
    }
    bench.clock.advance(60_000);
    bench.step();
    assert!(bench.spool().statistics().failed);
    let ledger = bench.close();
    assert_eq!(device.count(Call::Sync), syncs);
    let (mut bench, _dir) = reopen(&device.after_kill(), dir.path(), &ledger, "after the failure");
    assert!(ids(&mut bench).contains(&safe));
}

#[test]
fn a_commit_that_was_on_its_way_when_the_log_failed_is_answered_once() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    let draft = bench.draft(b"late").unwrap();
    bench.commit(100).unwrap();
    device.fail_all(Call::Write, Some(Fault::Io));
    bench.step();
    assert!(bench.poisoned);
    let ticket = bench.spool().commit(draft, common::accepted(bench.hop, 4), bytes::Bytes::new(), Vec::new());
    let events = bench.events.take();
    assert!(
        matches!(events[..], [penstock_spool::SpoolEvent::CommitFailed { ticket: told, .. }] if told == ticket)
    );
}

#[test]
fn a_disk_that_is_full_of_mail_drains_itself() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench =
        Bench::open_with(&device, SpoolConfig { segment_bytes: 64 << 10, ..config(dir.path()) }).unwrap();
    bench.step();
    let late_content = vec![7; 30_000];
    let mut late = bench.draft(&late_content);
    device.set_capacity(1 << 20);
    let mut taken = Vec::new();
    while let Some(id) = bench.commit(20_000) {
        bench.step();
        if bench.ledger.0[&id].is_refused {
            break;
        }
        assert!(bench.ledger.0[&id].is_acked);
        taken.push(id);
    }
    assert!(taken.len() > 20 && !bench.poisoned);
    // Nothing more fits, and yet every outcome is recorded, also when mail is still being handed in.
    device.set_capacity(0);
    assert!(matches!(bench.spool().draft(0), Err(DraftRefused::DiskFull)));
    for (nth, &id) in taken.iter().enumerate() {
        bench.deliver(id);
        if nth == taken.len() / 2
            && let Some(draft) = late.take()
        {
            // A little room, enough to tempt the log away from its reserve.
            device.set_capacity(device.used() + 6_000);
            let late = bench.hand_in(draft, &late_content);
            bench.step();
            assert!(bench.ledger.0[&late].is_refused);
        }
    }
    assert!(late.is_none());
    assert!(matches!(bench.sync(Request::Sync), Some(Answer::Done { .. })));
    let crash = device.after_kill();
    crash.set_capacity(0);
    let (mut after, _dir) = reopen(&crash, dir.path(), &bench.ledger, "full");
    assert!(ids(&mut after).is_empty());
    // With the index up to date, room is found again.
    assert!(matches!(bench.sync(Request::Checkpoint), Some(Answer::Done { .. })));
    device.set_capacity(1 << 20);
    bench.clock.advance(1_000);
    bench.step();
    assert!(device.free() > 500_000);
    let id = bench.commit(20_000).unwrap();
    bench.step();
    assert!(bench.ledger.0[&id].is_acked);
}

#[test]
fn a_full_disk_has_room_for_any_number_of_attempts_in_vain() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench =
        Bench::open_with(&device, SpoolConfig { segment_bytes: 64 << 10, ..config(dir.path()) }).unwrap();
    bench.step();
    let taken: Vec<QueueId> = (0..20).map(|_| bench.commit(20_000).unwrap()).collect();
    bench.step();
    device.set_capacity(0);
    bench.clock.advance(1_000);
    // Some 2 MB of what was tried and put off, which the index has by and by; the file system has no octet left.
    for round in 0..400 {
        for &id in &taken {
            let mut gate = bench.start(id);
            bench.step();
            assert_eq!(gate.state(&silent()), GateState::Open, "round {round}: an attempt may begin");
            bench.defer(id, OutcomeState::Deferred);
        }
        bench.clock.advance(1_000);
        bench.step();
        assert!(!bench.poisoned);
    }
    let crash = device.after_kill();
    crash.set_capacity(0);
    let ledger = bench.ledger.clone();
    let (mut after, _dir) = reopen(&crash, dir.path(), &ledger, "in the midst of it");
    assert_eq!(ids(&mut after).len(), taken.len());
    for &id in &taken {
        bench.deliver(id);
    }
    assert!(matches!(bench.sync(Request::Checkpoint), Some(Answer::Done { .. })));
    assert!(ids(&mut bench).is_empty());
}

#[test]
fn outcomes_for_which_there_is_no_room_at_all_are_recorded_when_there_is() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    device.fail_all(Call::Allocate, Some(Fault::Full));
    let id = bench.commit(100).unwrap();
    bench.step();
    device.set_capacity(0);
    let mut gate = bench.start(id);
    bench.step();
    assert_eq!(gate.state(&silent()), GateState::Closed, "nothing is sent that is not recorded");
    assert!(!bench.poisoned);
    assert!(bench.ask(Request::Sync).is_none(), "nothing is durable that is not written");
    device.set_capacity(1 << 20);
    bench.step();
    assert_eq!(gate.state(&silent()), GateState::Open);
    bench.settle(id);
    assert!(matches!(bench.sync(Request::Checkpoint), Some(Answer::Done { .. })));
}

#[test]
fn a_segment_that_cannot_be_had_for_want_of_descriptors_is_had_later() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench =
        Bench::open_with(&device, SpoolConfig { segment_bytes: 16 << 10, ..config(dir.path()) }).unwrap();
    bench.step();
    let first = bench.commit(11_000).unwrap();
    bench.step();
    assert!(bench.ledger.0[&first].is_acked);
    let mut gate = bench.start(first);
    for call in [Call::SyncDir, Call::Open] {
        // The file itself can be opened, its directory cannot; then nothing can.
        device.fail_all(call, Some(Fault::NoDescriptor));
        let draft = bench.draft(&[7; 11_000]);
        let refused = draft.map(|draft| bench.hand_in(draft, &[7; 11_000]));
        bench.step();
        assert!(refused.is_none_or(|id| bench.ledger.0[&id].is_refused) && !bench.poisoned);
        assert_eq!(gate.state(&silent()), GateState::Closed, "nothing is sent that is not recorded");
        device.fail_all(call, None);
    }
    bench.step();
    assert_eq!(gate.state(&silent()), GateState::Open);
    bench.settle(first);
    assert!(matches!(bench.sync(Request::Checkpoint), Some(Answer::Done { .. })));
    let next = bench.commit(11_000).unwrap();
    bench.step();
    assert!(bench.ledger.0[&next].is_acked && !bench.poisoned);
    let names = device.names(&dir.path().join(LOG));
    let segments = names.iter().filter(|name| name.contains(".seg")).count();
    assert!(segments <= 2, "what was begun in vain is gone: {names:?}");
    let ledger = bench.close();
    let (mut bench, _dir) = reopen(&device.after_kill(), dir.path(), &ledger, "later");
    assert_eq!(ids(&mut bench), [next]);
}

#[test]
fn drafts_are_refused_well_before_the_disk_is_full() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let config = SpoolConfig { free_min_bytes: 1 << 20, ..config(dir.path()) };
    let mut bench = Bench::open_with(&device, config).unwrap();
    bench.step();
    assert!(bench.draft(b"x").is_some());
    device.set_capacity(1 << 20);
    bench.clock.advance(1_000);
    bench.step();
    assert!(matches!(bench.spool().draft(0), Err(DraftRefused::DiskFull)));
    device.set_capacity(1 << 40);
    bench.clock.advance(1_000);
    bench.step();
    assert!(bench.draft(b"x").is_some());
}

#[test]
fn an_index_that_fails_loses_nothing_and_holds_back_new_mail() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let small = SpoolConfig { map_bytes: 256 << 10, checkpoint_records: 50, ..config(dir.path()) };
    let mut bench = Bench::open_with(&device, small).unwrap();
    let mut refused = None;
    for _ in 0..2_000 {
        bench.clock.advance(1_000);
        if bench.commit(500).is_none() {
            refused = bench.spool().draft(0).err();
            break;
        }
        bench.step();
    }
    assert_eq!(refused, Some(DraftRefused::Behind));
    assert!(bench.spool().statistics().checkpoints_failed > 0);
    assert!(matches!(bench.ask(Request::Checkpoint), Some(Answer::Failed { .. })));
    assert!(matches!(bench.ask(Request::Sync), Some(Answer::Done { .. })));
    let all: Vec<QueueId> = bench.ledger.0.keys().copied().collect();
    assert!(bench.content(all[all.len() - 1]).is_some(), "what only the log has is read");
    let ledger = bench.close();
    let (mut bench, _dir) = reopen(&device.after_kill(), dir.path(), &ledger, "with a larger map");
    assert_eq!(ids(&mut bench), all);
}

#[test]
fn an_index_whose_disk_fails_or_is_full_aborts_checkpoints_and_nothing_else() {
    for fault in [Fault::Io, Fault::Full] {
        let (device, dir) = (FaultyDevice::new(1), directory());
        let mut bench = Bench::open(&device, dir.path()).unwrap();
        let early = bench.commit(500).unwrap();
        bench.sync(Request::Checkpoint);
        device.fail_all(Call::Index, Some(fault));
        let late = bench.commit(500).unwrap();
        bench.step();
        bench.clock.advance(1_000);
        bench.step();
        assert_eq!(bench.spool().statistics().checkpoints_failed, 1);
        // Mail is taken, attempts begin and end, and all of it is durable.
        assert!(bench.ledger.0[&late].is_acked && !bench.poisoned);
        bench.deliver(early);
        assert!(matches!(bench.sync(Request::Sync), Some(Answer::Done { .. })));
        for _ in 0..50 {
            assert!(matches!(bench.ask(Request::Hops), Some(Answer::Failed { .. })));
        }
        let failed = bench.spool().statistics().checkpoints_failed;
        assert_eq!(failed, 1, "who asks does not make it try more often");
        for _ in 0..60 {
            bench.clock.advance(1_000);
            bench.step();
        }
        let failed = bench.spool().statistics().checkpoints_failed - failed;
        assert!((6..=12).contains(&failed), "it is tried less often, and again and again: {failed}");
        reopen(&device.after_kill(), dir.path(), &bench.ledger, "while it fails");
        device.fail_all(Call::Index, None);
        bench.clock.advance(8_000);
        bench.step();
        assert_eq!(ids(&mut bench), [late]);
        let statistics = bench.spool().statistics();
        assert_eq!((statistics.lag_records, statistics.held_parts), (0, 0));
    }
}

#[test]
fn memory_does_not_grow_with_the_time_that_an_index_fails() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let often = SpoolConfig { checkpoint_records: 200, ..config(dir.path()) };
    let mut bench = Bench::open_with(&device, often).unwrap();
    let all: Vec<QueueId> = (0..20).map(|_| bench.commit(500).unwrap()).collect();
    bench.sync(Request::Checkpoint);
    device.fail_all(Call::Index, Some(Fault::Full));
    let mut most = 0;
    for _ in 0..400 {
        for &id in &all {
            bench.start(id);
            bench.defer(id, OutcomeState::Deferred);
        }
        let (hop, last_error) = (bench.hop, "refused".to_owned());
        let state = Fact::Hop { hop, state: 2, last_error, next_retry_ms: 7, failures: 3 };
        bench.spool().append(vec![state]);
        bench.clock.advance(1_000);
        bench.step();
        most = most.max(bench.spool().statistics().held_parts);
    }
    let statistics = bench.spool().statistics();
    assert_eq!(statistics.lag_records, 400 * 41);
    assert!(most < 2_000, "of {} there are {most}", statistics.lag_records);
    assert!(matches!(bench.spool().draft(0), Err(DraftRefused::Behind)), "new mail waits");
    device.fail_all(Call::Index, None);
    bench.clock.advance(8_000);
    bench.step();
    let rows = bench.messages();
    assert_eq!(rows.iter().map(|row| row.queue_id).collect::<Vec<_>>(), all);
    assert!(rows.iter().all(|row| row.entries[0].attempts == 400 && !row.entries[0].in_doubt));
}

/// A spool with messages that are acknowledged and in the log only.
fn three(segment_bytes: u64) -> (Bench, tempfile::TempDir, Vec<QueueId>) {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, SpoolConfig { segment_bytes, ..config(dir.path()) }).unwrap();
    let mut all = Vec::new();
    for _ in 0..3 {
        all.extend(bench.commit(9_000));
        bench.step();
    }
    (bench, dir, all)
}

#[test]
fn a_record_that_was_durable_and_cannot_be_read_is_reported_and_the_rest_is_kept() {
    for (place, offset) in [("header", 4_096), ("body", 4_096 + 100), ("content", 4_096 + 3_000)] {
        let (bench, dir, all) = three(1 << 20);
        let device = bench.device.clone();
        bench.kill();
        device.flip(&dir.path().join(LOG).join("00000001.seg"), offset, 3);
        let mut bench = Bench::open(&device, dir.path()).unwrap();
        assert_eq!(bench.recovery.damaged, 1, "{place}");
        // A message of which only the content is damaged is still there, and says so when it is read.
        let kept = if place == "content" { &all[..] } else { &all[1..] };
        assert_eq!(ids(&mut bench), kept, "{place}");
        assert_eq!(bench.content(all[0]), None, "{place}");
        for &id in &all {
            bench.deliver_if_known(id);
        }
        bench.sync(Request::Checkpoint);
        bench.close();
        let reports = device.names(&dir.path().join("shard-00/damaged"));
        assert_eq!(reports[0], "00000001-4096.txt", "{place}");
        // Where it was copied to it was found damaged once more when it was read.
        assert_eq!(reports.len(), if place == "content" { 2 } else { 1 }, "{place}: {reports:?}");
        // The damaged segment is kept for whoever wants to look into it, also by those who come later.
        Bench::open(&device, dir.path()).unwrap().close();
        assert!(device.names(&dir.path().join(LOG)).contains(&"00000001.seg".into()), "{place}");
    }
}

#[test]
fn a_segment_whose_first_page_cannot_be_read_is_reported_and_kept() {
    for nth in 0..3 {
        // Each message has a segment of its own, and nothing is in the index.
        let (bench, dir, all) = three(16 << 10);
        let device = bench.device.clone();
        bench.kill();
        let name = format!("{:08}.seg", nth + 1);
        device.flip(&dir.path().join(LOG).join(&name), 30, 2);
        let mut bench = Bench::open(&device, dir.path()).unwrap();
        assert_eq!(bench.recovery.damaged, 1, "{name}");
        let rest: Vec<QueueId> = all.iter().filter(|&&id| id != all[nth]).copied().collect();
        assert_eq!(ids(&mut bench), rest, "{name}");
        bench.close();
        let report = format!("{:08}-0.txt", nth + 1);
        assert_eq!(device.names(&dir.path().join("shard-00/damaged")), [report]);
        let bench = Bench::open(&device, dir.path()).unwrap();
        assert_eq!(bench.recovery.damaged, 0, "told once");
        bench.close();
        assert!(device.names(&dir.path().join(LOG)).contains(&name), "{name}");
    }
}

#[test]
fn a_segment_of_a_later_version_is_not_taken_for_the_end_of_the_log() {
    let (bench, dir, _) = three(1 << 20);
    let device = bench.device.clone();
    bench.kill();
    let path = dir.path().join(LOG).join("00000001.seg");
    let file = penstock_spool::Device::open(&device, &path, penstock_spool::Opening::Existing).unwrap();
    let mut header = [0; 52];
    file.read_at(&mut header, 0).unwrap();
    header[8] = 2;
    let sum = crc32c::crc32c(&header[..48]).to_le_bytes();
    header[48..].copy_from_slice(&sum);
    file.write_at(&[std::io::IoSlice::new(&header)], 0).unwrap();
    let opened = Bench::open(&device, dir.path());
    assert!(matches!(opened, Err(OpenError::Record { segment: 1, offset: 0, .. })));
}

#[test]
fn the_log_ends_at_the_first_record_that_is_not_whole_if_nothing_says_that_it_was() {
    let (mut bench, dir, all) = three(1 << 20);
    // The last two share a sync, so that no record tells of it.
    let last: Vec<QueueId> = [bench.commit(100).unwrap(), bench.commit(100).unwrap()].into();
    bench.step();
    let device = bench.device.clone();
    bench.kill();
    let offset = 4_096 + 3 * 12_288 + 80;
    device.flip(&dir.path().join(LOG).join("00000001.seg"), offset, 0);
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    assert_eq!((ids(&mut bench), bench.recovery.damaged), (all, 0));
    // Their places and numbers are not taken for anything later.
    let next = bench.commit(100).unwrap();
    bench.step();
    assert!(bench.ledger.0[&next].is_acked && !last.contains(&next));
    bench.kill();
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    assert!(ids(&mut bench).contains(&next) && bench.recovery.damaged == 0);
}

#[test]
fn no_octet_of_a_damaged_content_is_given_to_anyone() {
    let (mut bench, dir, all) = three(1 << 20);
    bench.sync(Request::Checkpoint);
    let file = dir.path().join(LOG).join("00000001.seg");
    let expected = bench.ledger.0[&all[0]].content.clone();
    let mut failed = 0;
    for offset in (4_096..4_096 + 9_600).step_by(61) {
        bench.device.flip(&file, offset, (offset % 8) as u8);
        match bench.content(all[0]) {
            None => failed += 1,
            Some(content) => assert!(content == expected, "{offset}"),
        }
        bench.device.flip(&file, offset, (offset % 8) as u8);
    }
    assert!(failed > 140, "nearly all of the record is content: {failed}");
    assert!(bench.content(all[0]).unwrap() == expected);
}

#[test]
fn a_message_whose_segment_is_gone_is_reported() {
    let (mut bench, dir, all) = three(16 << 10);
    bench.sync(Request::Checkpoint);
    let device = bench.device.clone();
    bench.kill();
    penstock_spool::Device::remove(&device, &dir.path().join(LOG).join("00000001.seg")).unwrap();
    let bench = Bench::open(&device, dir.path()).unwrap();
    assert_eq!(bench.recovery.damaged, 1);
    assert_eq!(bench.content(all[0]), None);
    assert!(bench.content(all[1]).is_some());
}

/// Put a copy of an index in the place of a spool's.
fn put_back(copy: &Path, path: &Path) {
    std::fs::remove_dir_all(path.join("shard-00/index")).unwrap();
    common::copy_index(copy, path);
}

#[test]
fn an_index_of_yesterday_is_made_anew_once_the_log_behind_it_is_not_whole() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let small = || SpoolConfig { segment_bytes: 16 << 10, ..config(dir.path()) };
    let mut bench = Bench::open_with(&device, small()).unwrap();
    let first = bench.commit(100).unwrap();
    bench.sync(Request::Checkpoint);
    let copy = directory();
    common::copy_index(dir.path(), copy.path());
    let more = |bench: &mut Bench| {
        for _ in 0..6 {
            let id = bench.commit(6_000).unwrap();
            bench.step();
            bench.deliver(id);
            bench.step();
        }
    };
    more(&mut bench);
    assert_eq!(bench.spool().statistics().floor, 0, "nothing was given up");
    let ledger = bench.kill();
    // All that came since is still in the log.
    put_back(copy.path(), dir.path());
    let mut bench = Bench::open_with(&device, small()).unwrap();
    ledger.check(&mut bench, "an old index beside a whole log");
    assert_eq!(ids(&mut bench), [first]);
    more(&mut bench);
    bench.sync(Request::Checkpoint);
    bench.step();
    let floor = bench.spool().statistics().floor;
    assert!(floor > 1);
    bench.kill();
    for reason in ["stale", "missing"] {
        match reason {
            "stale" => put_back(copy.path(), dir.path()),
            _ => std::fs::remove_dir_all(dir.path().join("shard-00/index")).unwrap(),
        }
        let mut bench = Bench::open_with(&device, small()).unwrap();
        let salvaged = bench.recovery.salvaged.clone().unwrap();
        assert!(salvaged.reason.contains(reason), "{salvaged:?}");
        let found = ids(&mut bench);
        assert!(found.contains(&first) && found.len() as u64 - 1 <= salvaged.may_repeat, "{salvaged:?}");
        bench.kill();
        let mut bench = Bench::open_with(&device, small()).unwrap();
        assert_eq!((bench.recovery.salvaged.clone(), ids(&mut bench)), (None, found), "once is enough");
        assert!(bench.spool().statistics().floor >= floor);
        bench.kill();
    }
}

#[test]
fn an_index_that_ends_in_a_segment_that_is_gone_knows_whose_mail_is_lost() {
    let (mut bench, dir, all) = three(1 << 20);
    bench.sync(Request::Checkpoint);
    let device = bench.device.clone();
    bench.kill();
    penstock_spool::Device::remove(&device, &dir.path().join(LOG).join("00000001.seg")).unwrap();
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    assert_eq!((bench.recovery.salvaged.clone(), bench.recovery.damaged), (None, 3));
    assert_eq!(ids(&mut bench), all);
}

#[test]
fn no_segment_goes_before_it_is_noted_that_it_may() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench =
        Bench::open_with(&device, SpoolConfig { segment_bytes: 16 << 10, ..config(dir.path()) }).unwrap();
    let segments = || device.names(&dir.path().join(LOG)).iter().filter(|name| name.contains(".seg")).count();
    let all: Vec<QueueId> = (0..6).map(|_| bench.commit(6_000).unwrap()).collect();
    bench.step();
    let before = segments();
    for id in all {
        bench.deliver(id);
    }
    bench.clock.advance(20);
    bench.step();
    // From here on only the note is written. It fails, and is not tried again: the disk has lied once.
    let write = device.calls().len() as u64;
    bench.clock.advance(1_000);
    device.fail_all(Call::Sync, Some(Fault::Io));
    bench.step();
    device.fail_all(Call::Sync, None);
    assert!(device.calls().len() as u64 > write && !bench.poisoned);
    bench.clock.advance(5_000);
    bench.step();
    assert_eq!((segments(), bench.spool().statistics().floor), (before, 0));
    bench.kill();
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    bench.step();
    assert!(segments() < before && bench.spool().statistics().floor > 0);
}

#[test]
fn a_spool_in_use_or_of_a_later_format_is_not_touched() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let bench = Bench::open(&device, dir.path()).unwrap();
    let changes = |device: &FaultyDevice| {
        let is_change =
            |call: &&Call| matches!(call, Call::Write | Call::Rename | Call::Remove | Call::SetSize);
        device.calls().iter().filter(is_change).count()
    };
    let before = changes(&device);
    assert!(
        matches!(Bench::open(&device, dir.path()), Err(OpenError::Locked { pid }) if pid == std::process::id())
    );
    assert_eq!(changes(&device), before);
    bench.close();

    let meta = dir.path().join("meta.toml");
    rewrite(&device, &meta, "format = 2\nfeatures = 0\nshards = 1\n");
    let before = changes(&device);
    assert!(matches!(Bench::open(&device, dir.path()), Err(OpenError::Format { found: 2, supported: 1 })));
    for text in
        ["", "format = 1", "format = 1\nfeatures = 4\nshards = 1", "format = 1\nfeatures = 0\nshards = 2"]
    {
        rewrite(&device, &meta, text);
        assert!(matches!(Bench::open(&device, dir.path()), Err(OpenError::Meta { .. })), "{text}");
    }
    assert_eq!(changes(&device), before + 7, "only the test has written");
    penstock_spool::Device::remove(&device, &meta).unwrap();
    assert!(
        matches!(Bench::open(&device, dir.path()), Err(OpenError::Meta { .. })),
        "a log without its meta.toml"
    );
}

fn rewrite(device: &FaultyDevice, path: &Path, text: &str) {
    let file = penstock_spool::Device::open(device, path, penstock_spool::Opening::Existing).unwrap();
    file.set_size(0).unwrap();
    if !text.is_empty() {
        file.write_at(&[std::io::IoSlice::new(text.as_bytes())], 0).unwrap();
    }
}

#[test]
fn content_that_is_damaged_is_told_and_reported_and_other_content_is_given() {
    let (mut bench, dir, all) = three(1 << 20);
    bench.sync(Request::Checkpoint);
    // In the second message, behind its first chunk's header.
    bench.device.flip(&dir.path().join(LOG).join("00000001.seg"), 4_096 + 12_288 + 5_000, 3);
    for _ in 0..2 {
        assert_eq!(bench.content(all[1]), None);
        bench.step();
    }
    assert_eq!(bench.damaged, [all[1], all[1]], "once for each that reads");
    assert!(bench.content(all[0]).is_some() && bench.content(all[2]).is_some());
    assert_eq!(bench.device.names(&dir.path().join("shard-00/damaged")).len(), 1);
    assert_eq!(bench.spool().statistics().damaged, 2);
    // The segment is kept for whoever wants to look into it.
    for id in all {
        bench.deliver(id);
    }
    let filler = bench.commit((1 << 20) - 100_000).unwrap();
    bench.step();
    let _ = bench.commit(200_000).unwrap();
    bench.step();
    bench.deliver(filler);
    bench.sync(Request::Checkpoint);
    bench.clock.advance(1_000);
    bench.step();
    assert!(bench.device.names(&dir.path().join(LOG)).contains(&"00000001.seg".into()));
}
