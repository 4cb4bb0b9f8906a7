//! Content in blobs: what goes there, what is left of it after a crash, and that nothing else is left.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::{Bench, config, directory, reopen, silent};
use penstock_core::flow::{ContentSink, GateState, Offer, SourcePoll};
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{Call, Fault, FaultyDevice};
use penstock_spool::{Device, Draft, Look, Opening, OutcomeState, Request, SpoolConfig, SpoolEvent};

const LIMIT: usize = 100_000;
/// A part of a content that is offered at once.
const PART: usize = 10_000;
/// Octets before the first chunk of a blob.
const HEADER: u64 = 48;

fn small(path: &Path) -> SpoolConfig {
    SpoolConfig { blob_bytes: LIMIT as u64, ..config(path) }
}

fn blobs(path: &Path) -> PathBuf {
    path.join("shard-00/blobs")
}

fn content(octets: usize, salt: usize) -> Vec<u8> {
    (0..octets).map(|at| ((at * 31 + at / 251 + salt * 7) % 253) as u8).collect()
}

/// A spool with a message in the log and one in a blob, both acknowledged.
fn two() -> (Bench, tempfile::TempDir, [QueueId; 2]) {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, small(dir.path())).unwrap();
    let ids = [LIMIT, 3 * LIMIT].map(|octets| bench.commit(octets).unwrap());
    bench.step();
    assert!(bench.ledger.0.values().all(|entry| entry.is_acked));
    (bench, dir, ids)
}

#[test]
fn what_is_above_the_limit_goes_to_a_blob_and_nothing_else() {
    for limit in [0, 1, 65_536, LIMIT] {
        let (device, dir) = (FaultyDevice::new(1), directory());
        let config = SpoolConfig { blob_bytes: limit as u64, ..config(dir.path()) };
        let mut bench = Bench::open_with(&device, config).unwrap();
        for octets in [limit.saturating_sub(1), limit] {
            bench.commit(octets).unwrap();
        }
        let large = [limit + 1, limit + 65_536, limit + 200_000].map(|octets| bench.commit(octets).unwrap());
        bench.step();
        assert!(bench.ledger.0.values().all(|entry| entry.is_acked), "{limit}");
        assert_eq!(device.names(&blobs(dir.path())), large.map(|id| id.to_string()), "{limit}");
        let statistics = bench.spool().statistics();
        assert_eq!((statistics.blobs_written, statistics.drafts_spilled), (3, 0));
        assert_eq!(statistics.blob_bytes, statistics.blobs_written_bytes);
        let written: u64 = large.iter().map(|id| size(&device, &blobs(dir.path()), *id) - HEADER).sum();
        assert_eq!(statistics.blob_bytes, written);
        assert!(statistics.log_bytes < 2 * limit as u64 + (64 << 10), "the log has the records alone");
        for _ in 0..2 {
            for (id, entry) in &bench.ledger.0 {
                assert!(bench.content(*id).unwrap() == entry.content, "{limit}");
            }
            bench.sync(Request::Checkpoint);
        }
        let (again, _dir) = reopen(&device.after_kill(), dir.path(), &bench.ledger, "killed");
        assert_eq!(again.spool().statistics().blob_bytes, written);
        let ledger = bench.close();
        reopen(&device.after_power_loss(1), dir.path(), &ledger, "closed");
    }
}

/// All that a draft shows when it is looked at, and how many looks found a file.
fn shown(draft: &Draft, step: usize) -> (Vec<u8>, usize) {
    let (mut found, mut in_files) = (Vec::new(), 0);
    loop {
        let octets = match draft.look(found.len() as u64, step) {
            Look::Octets(octets) => octets,
            Look::File(part) => {
                in_files += 1;
                part.read().unwrap()
            }
            Look::Later | Look::Lost => panic!("nobody writes, and nothing is lost"),
        };
        if octets.is_empty() {
            return (found, in_files);
        }
        assert!(octets.len() <= step);
        found.extend_from_slice(&octets);
    }
}

#[test]
fn a_draft_can_be_looked_at_wherever_its_octets_are() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, small(dir.path())).unwrap();
    let whole = content(9 * LIMIT, 3);
    let mut draft = bench.spool().draft(0).unwrap();
    for (nth, part) in whole.chunks(PART).enumerate() {
        assert_eq!(draft.offer(part, &silent()), Offer::Taken);
        let so_far = &whole[..(nth + 1) * PART];
        if nth % 4 == 0 {
            assert!(shown(&draft, 7_000).0 == so_far, "before it is written");
            bench.spool().step();
            let (found, in_files) = shown(&draft, 1 << 20);
            assert!(found == so_far, "after");
            assert_eq!(in_files > 0, so_far.len() > LIMIT, "{nth}");
        }
    }
    let id = bench.hand_in(draft, &whole);
    bench.step();
    assert!(bench.content(id).unwrap() == bench.ledger.0[&id].content);
}

#[test]
fn a_draft_that_cannot_be_stored_has_nothing_to_show() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let bench = Bench::open_with(&device, small(dir.path())).unwrap();
    let mut draft = bench.spool().draft(0).unwrap();
    for part in content(3 * LIMIT, 1).chunks(PART) {
        device.set_capacity(device.used());
        assert_eq!(draft.offer(part, &silent()), Offer::Taken);
        bench.spool().step();
    }
    for offset in [0, 70_000, 299_999] {
        assert!(matches!(draft.look(offset, 10), Look::Lost), "{offset}");
    }
}

#[test]
fn the_limit_is_a_mebibyte_if_no_other_is_set() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let config = SpoolConfig { blob_bytes: SpoolConfig::default().blob_bytes, ..config(dir.path()) };
    let mut bench = Bench::open_with(&device, config).unwrap();
    let [_, above] = [1 << 20, (1 << 20) + 1].map(|octets| bench.commit(octets).unwrap());
    bench.step();
    assert!(bench.ledger.0.values().all(|entry| entry.is_acked));
    assert_eq!(device.names(&blobs(dir.path())), [above.to_string()]);
    assert!(bench.content(above).unwrap() == bench.ledger.0[&above].content);
}

fn size(device: &FaultyDevice, dir: &Path, id: QueueId) -> u64 {
    device.open(&dir.join(id.to_string()), Opening::Existing).unwrap().size().unwrap()
}

#[test]
fn a_blob_is_removed_after_the_checkpoint_with_its_messages_end_and_not_before() {
    for is_checkpointed in [true, false] {
        let (mut bench, dir, [_, id]) = two();
        let (device, dir) = (bench.device.clone(), blobs(dir.path()));
        if is_checkpointed {
            bench.sync(Request::Checkpoint);
        }
        let reading = bench.spool().content(id).source;
        bench.deliver(id);
        bench.sync(Request::Sync);
        assert_eq!(device.names(&dir), [id.to_string()], "a replay could bring the message back");
        bench.sync(Request::Checkpoint);
        assert!(device.names(&dir).is_empty());
        let statistics = bench.spool().statistics();
        assert_eq!((statistics.blobs_removed, statistics.blob_bytes), (1, 0));
        assert_eq!(common::read(reading), None, "nobody had it open");
        assert_eq!(bench.content(id), None);
    }
}

#[test]
fn a_blob_of_a_message_that_came_and_went_before_a_crash_is_swept() {
    let (mut bench, dir, [_, id]) = two();
    bench.deliver(id);
    bench.step();
    let device = bench.device.after_kill();
    let ledger = bench.kill();
    assert_eq!(device.names(&blobs(dir.path())), [id.to_string()]);
    let (bench, dir) = reopen(&device, dir.path(), &ledger, "replayed");
    assert!(bench.device.names(&blobs(dir.path())).is_empty());
    assert_eq!(bench.spool().statistics().blob_bytes, 0);
}

#[test]
fn a_checkpoint_that_fails_leaves_the_blob() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let config = SpoolConfig { map_bytes: 64 << 10, ..small(dir.path()) };
    let mut bench = Bench::open_with(&device, config).unwrap();
    let id = bench.commit(2 * LIMIT).unwrap();
    bench.step();
    for _ in 0..200 {
        bench.commit(500);
    }
    bench.deliver(id);
    bench.sync(Request::Checkpoint);
    assert!(bench.spool().statistics().checkpoints_failed > 0);
    assert_eq!(device.names(&blobs(dir.path())), [id.to_string()]);
}

#[test]
fn whoever_reads_a_blob_reads_it_to_its_end() {
    let (mut bench, dir, [_, id]) = two();
    let mut reading = bench.spool().content(id).source;
    let mut begun = Vec::new();
    while begun.len() <= 65_536 {
        let SourcePoll::Chunk(chunk) = reading.poll(&silent()) else { panic!("it is there") };
        begun.extend_from_slice(&chunk);
    }
    bench.deliver(id);
    bench.sync(Request::Checkpoint);
    assert!(bench.device.names(&blobs(dir.path())).is_empty());
    begun.extend(common::read(reading).unwrap());
    assert!(begun == bench.ledger.0[&id].content);
}

#[test]
fn what_a_crash_leaves_without_a_message_is_swept_and_its_name_is_not_given_again() {
    let (bench, dir, [_, id]) = two();
    let (device, dir_) = (bench.device.clone(), blobs(dir.path()));
    // As a clock that was ahead would have named them.
    let late = QueueId(id.0 + (1 << 40));
    let orphans = [QueueId(5), QueueId(late.0 - 1)].map(|id| id.to_string());
    let unfinished = format!("{late}.new");
    for name in orphans.iter().chain([&unfinished]) {
        device.open(&dir_.join(name), Opening::New).unwrap();
    }
    device.open(&dir_.join("README"), Opening::New).unwrap();
    let mut ledger = bench.kill();
    for round in 0..2 {
        let mut bench = Bench::open_with(&device, small(dir.path())).unwrap();
        assert!(!device.names(&dir_).contains(&unfinished), "at once");
        ledger.check(&mut bench, "swept");
        bench.step();
        assert_eq!(device.names(&dir_), [id.to_string(), "README".into()], "the rest in its time");
        assert_eq!(bench.spool().statistics().blobs_removed, if round == 0 { 2 } else { 0 });
        let next = bench.draft(b"x").unwrap().queue_id();
        assert!(round > 0 || next > late, "{next} is new");
        let more = bench.kill();
        ledger.0.extend(more.0);
    }
}

#[test]
fn a_draft_that_is_given_up_leaves_nothing() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let budget = 1 << 20;
    let config = SpoolConfig { draft_budget_bytes: budget, ..small(dir.path()) };
    let bench = Bench::open_with(&device, config).unwrap();
    for (octets, is_begun) in [(90_000, false), (120_000, true), (500_000, true)] {
        for is_stepped in [false, true] {
            let draft = bench.draft(&content(octets, 1)).unwrap();
            if is_stepped {
                bench.spool().step();
            }
            let name = format!("{}.new", draft.queue_id());
            let names = device.names(&blobs(dir.path()));
            assert_eq!(names, if is_begun && is_stepped { vec![name] } else { vec![] });
            drop(draft);
            bench.spool().step();
            assert!(device.names(&blobs(dir.path())).is_empty(), "{octets}");
        }
    }
    // Nor does it keep any memory.
    let drafts: Vec<_> = (0..15).map(|_| bench.spool().draft(1 << 20).unwrap()).collect();
    assert_eq!(drafts.len(), 15);
}

#[test]
fn what_was_handed_in_is_on_the_disk_when_the_spool_is_closed() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, small(dir.path())).unwrap();
    let id = bench.commit(3 * LIMIT).unwrap();
    let given_up = bench.draft(&content(2 * LIMIT, 1)).unwrap();
    drop(given_up);
    let ledger = bench.close();
    assert!(ledger.0[&id].is_acked);
    assert_eq!(device.names(&blobs(dir.path())), [id.to_string()]);
    for seed in 0..20 {
        reopen(&device.after_power_loss(seed), dir.path(), &ledger, &format!("seed {seed}"));
    }
}

#[test]
fn a_failure_and_its_report_in_a_blob_are_one() {
    let (mut bench, dir, [failed, _]) = two();
    let report = bench.commit_for(2 * LIMIT, Some(failed)).unwrap();
    bench.device.fail_all(Call::Sync, Some(Fault::Halt));
    bench.step();
    for seed in 0..20 {
        let device = bench.device.after_power_loss(seed);
        let (mut again, _dir) = reopen(&device, dir.path(), &bench.ledger, &format!("seed {seed}"));
        let found: Vec<_> = again.messages().iter().map(|row| row.queue_id).collect();
        assert!(found.contains(&failed) && !found.contains(&report), "the blob is not on the disk");
    }
    let (mut bench, dir, [failed, _]) = two();
    let report = bench.commit_for(2 * LIMIT, Some(failed)).unwrap();
    bench.step();
    for seed in 0..20 {
        let device = bench.device.after_power_loss(seed);
        let (mut again, _dir) = reopen(&device, dir.path(), &bench.ledger, &format!("seed {seed}"));
        let found: Vec<_> = again.messages().iter().map(|row| row.queue_id).collect();
        assert!(!found.contains(&failed) && found.contains(&report));
    }
}

#[test]
fn a_message_whose_blob_is_missing_or_cut_short_is_damaged_and_the_rest_is_there() {
    for is_checkpointed in [true, false] {
        for is_missing in [true, false] {
            let (mut bench, dir, [whole, id]) = two();
            if is_checkpointed {
                bench.sync(Request::Checkpoint);
            }
            let device = bench.device.clone();
            let path = blobs(dir.path()).join(id.to_string());
            let ledger = bench.kill();
            if is_missing {
                device.remove(&path).unwrap();
            } else {
                let file = device.open(&path, Opening::Existing).unwrap();
                file.set_size(file.size().unwrap() - 1).unwrap();
            }
            let mut bench = Bench::open(&device, dir.path()).unwrap();
            // Whether what the index has is as long as it was is left to whoever reads or checks it.
            let seen = u64::from(is_missing || !is_checkpointed);
            assert_eq!(bench.recovery.damaged, seen, "{is_checkpointed} {is_missing}");
            assert_eq!(bench.content(id), None);
            assert!(bench.content(whole).unwrap() == ledger.0[&whole].content);
            assert_eq!(bench.messages().len(), 2, "nothing that was acknowledged is forgotten");
            bench.deliver_if_known(id);
            bench.sync(Request::Checkpoint);
            assert!(device.names(&blobs(dir.path())).is_empty());
            bench.kill();
            assert_eq!(Bench::open(&device, dir.path()).unwrap().recovery.damaged, 0);
        }
    }
}

#[test]
fn no_octet_of_a_damaged_chunk_is_given_to_anyone() {
    let (bench, dir, [_, id]) = two();
    let (path, expected) = (blobs(dir.path()).join(id.to_string()), bench.ledger.0[&id].content.clone());
    let size = size(&bench.device, &blobs(dir.path()), id);
    let mut failed = 0;
    for offset in (0..size).step_by(997) {
        bench.device.flip(&path, offset, (offset % 8) as u8);
        let mut source = bench.spool().content(id).source;
        let mut octets = Vec::new();
        while let SourcePoll::Chunk(chunk) = source.poll(&silent()) {
            octets.extend_from_slice(&chunk);
        }
        assert!(expected.starts_with(&octets), "{offset}");
        failed += usize::from(octets.len() < expected.len());
        bench.device.flip(&path, offset, (offset % 8) as u8);
    }
    assert_eq!(failed, size.div_ceil(997) as usize, "all of it counts");
    assert!(bench.content(id).unwrap() == expected);
}

#[test]
fn chunks_that_are_whole_and_in_another_order_are_not_the_message() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, small(dir.path())).unwrap();
    let id = bench.commit(4 * 65_536).unwrap();
    bench.step();
    assert!(bench.content(id).is_some());
    let file = device.open(&blobs(dir.path()).join(id.to_string()), Opening::Existing).unwrap();
    let chunk = 65_544;
    let mut two = vec![0; 2 * chunk];
    file.read_at(&mut two, HEADER).unwrap();
    two.rotate_left(chunk);
    file.write_at(&[std::io::IoSlice::new(&two)], HEADER).unwrap();
    assert_eq!(bench.content(id), None);
    let device = device.after_kill();
    bench.kill();
    assert_eq!(Bench::open(&device, dir.path()).unwrap().recovery.damaged, 1);
}

#[test]
fn a_disk_that_fills_while_a_draft_spills_refuses_that_message_alone() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, small(dir.path())).unwrap();
    bench.step();
    let large = content(800_000, 1);
    // At once, or while it is written, or while it is finished.
    for (room, is_stepped) in [(0, true), (300_000, true), (300_000, false), (800_100, false)] {
        let mut draft = bench.draft(&large[..LIMIT]).unwrap();
        device.set_capacity(device.used() + room);
        for part in large[LIMIT..].chunks(PART) {
            assert_eq!(draft.offer(part, &silent()), Offer::Taken, "what will be refused is drained");
            if is_stepped {
                bench.spool().step();
            }
        }
        let id = bench.hand_in(draft, &large);
        bench.step();
        assert!(bench.ledger.0[&id].is_refused && !bench.poisoned, "{room} {is_stepped}");
        assert!(device.names(&blobs(dir.path())).is_empty());
        device.set_capacity(1 << 40);
        bench.clock.advance(1_000);
        bench.step();
        let id = bench.commit(3 * LIMIT).unwrap();
        bench.step();
        assert!(bench.ledger.0[&id].is_acked, "{room}");
        bench.deliver(id);
        bench.sync(Request::Checkpoint);
        assert!(device.names(&blobs(dir.path())).is_empty());
    }
}

#[test]
fn a_record_that_finds_no_room_takes_its_blob_with_it() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let config = SpoolConfig { segment_bytes: 16 << 10, ..small(dir.path()) };
    let mut bench = Bench::open_with(&device, config).unwrap();
    device.fail_all(Call::Allocate, Some(Fault::Full));
    bench.commit(11_500).unwrap();
    bench.step();
    let draft = bench.draft(&content(3 * LIMIT, 1)).unwrap();
    bench.spool().step();
    // The blob is written; its name is in a file that is there, and a new segment has no room.
    device.set_capacity(device.used());
    let mut accepted = common::accepted(bench.hop, 3 * LIMIT as u64);
    accepted.subject = "x".repeat(9_000);
    let ticket = bench.spool().commit(draft, accepted, Bytes::new(), Vec::new());
    bench.spool().step();
    let refused = bench
        .events
        .take()
        .into_iter()
        .any(|event| matches!(event, SpoolEvent::CommitFailed { ticket: told, .. } if told == ticket));
    assert!(refused);
    bench.spool().step();
    assert!(device.names(&blobs(dir.path())).is_empty());
}

#[test]
fn an_error_of_the_disk_in_a_blob_ends_everything_and_is_told_once() {
    for call in [Call::Write, Call::Sync, Call::SyncDir] {
        let (mut bench, dir, [whole, id]) = two();
        let lost = bench.commit(2 * LIMIT).unwrap();
        // What waits for the log at that moment is refused as well, and nobody looks for it any more.
        bench.commit(100).unwrap();
        let mut gate = bench.start(whole);
        bench.device.fail_all(call, Some(Fault::Io));
        bench.step();
        assert!(bench.poisoned && !bench.ledger.0[&lost].is_acked);
        assert_eq!(gate.state(&silent()), GateState::Failed);
        bench.device.fail_all(call, None);
        let device = bench.device.clone();
        let ledger = bench.close();
        let (mut bench, _dir) = reopen(&device.after_kill(), dir.path(), &ledger, &format!("{call:?}"));
        let found: Vec<_> = bench.messages().iter().map(|row| row.queue_id).collect();
        assert_eq!(found, [whole, id]);
        bench.step();
        assert_eq!(bench.device.names(&blobs(&bench.path)), [id.to_string()], "{call:?}");
    }
}

#[test]
fn a_log_that_fails_refuses_what_waits_for_its_blob() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, small(dir.path())).unwrap();
    bench.commit(100).unwrap();
    bench.step();
    let draft = bench.draft(&content(3 * LIMIT, 1)).unwrap();
    bench.spool().step();
    bench.start(*bench.ledger.0.keys().next().unwrap());
    device.fail_all(Call::Write, Some(Fault::Io));
    bench.step();
    assert!(bench.poisoned);
    let ticket = bench.spool().commit(draft, common::accepted(bench.hop, 1), Bytes::new(), Vec::new());
    let events = bench.events.take();
    assert!(matches!(events[..], [SpoolEvent::CommitFailed { ticket: told, .. }] if told == ticket));
    bench.spool().step();
    assert!(bench.events.take().is_empty(), "told once");
}

/// A draft that is being filled.
struct Filling {
    draft: Option<Draft>,
    content: Vec<u8>,
    at: usize,
}

#[test]
fn many_drafts_under_a_short_budget_all_finish() {
    for (count, octets, budget) in [(20, 300_000, 1 << 20), (6, 1_500_000, 2 << 20), (40, 90_000, 600_000)] {
        let (device, dir) = (FaultyDevice::new(1), directory());
        let config = SpoolConfig { draft_budget_bytes: budget, segment_bytes: 1 << 20, ..config(dir.path()) };
        let mut bench = Bench::open_with(&device, config).unwrap();
        let mut all: Vec<Filling> = Vec::new();
        let mut begun = 0;
        let mut turns = 0;
        while begun < count || !all.is_empty() {
            turns += 1;
            assert!(turns < 100_000, "it goes on: {begun} begun, {} open", all.len());
            if begun < count
                && let Ok(draft) = bench.spool().draft(if begun % 2 == 0 { octets as u64 } else { 0 })
            {
                all.push(Filling { draft: Some(draft), content: content(octets, begun), at: 0 });
                begun += 1;
            }
            // One after the other, a part each; some peers are ten times as slow, and one stands still for long.
            for (nth, one) in all.iter_mut().enumerate() {
                let is_slow = nth % 3 == 0 && turns % 10 > 0 || nth == 1 && turns < 200;
                let Some(draft) = one.draft.as_mut().filter(|_| !is_slow) else { continue };
                let part = &one.content[one.at..one.content.len().min(one.at + PART)];
                if draft.offer(part, &silent()) == Offer::Taken {
                    one.at += part.len();
                }
                if one.at == one.content.len() {
                    bench.hand_in(one.draft.take().unwrap(), &one.content);
                }
            }
            all.retain(|one| one.draft.is_some());
            if turns % 4 == 0 {
                bench.step();
            }
        }
        bench.step();
        assert_eq!(bench.ledger.0.values().filter(|entry| entry.is_acked).count(), count);
        let statistics = bench.spool().statistics();
        assert!(statistics.drafts_spilled > 0, "{statistics:?}");
        for (id, entry) in &bench.ledger.0 {
            assert!(bench.content(*id).unwrap() == entry.content, "{id}");
        }
        for id in bench.ledger.0.keys().copied().collect::<Vec<_>>() {
            bench.deliver(id);
        }
        bench.sync(Request::Checkpoint);
        assert!(device.names(&blobs(dir.path())).is_empty());
    }
}

#[test]
fn where_memory_is_short_a_draft_waits_for_its_own_chunks() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let config = SpoolConfig { draft_budget_bytes: 1 << 20, ..small(dir.path()) };
    let bench = Bench::open_with(&device, config).unwrap();
    let mut draft = bench.spool().draft(0).unwrap();
    let part = content(PART, 1);
    let fill = |draft: &mut Draft| {
        (0..1_000).take_while(|_| draft.offer(&part, &silent()) == Offer::Taken).count() * PART
    };
    let first = fill(&mut draft);
    assert!((512 << 10..1 << 20).contains(&first), "{first}");
    bench.spool().step();
    let second = fill(&mut draft);
    assert!((400 << 10..1 << 20).contains(&second), "{second}");
    drop(draft);
    bench.spool().step();
    assert!(device.names(&blobs(dir.path())).is_empty());
}

#[test]
fn a_hint_sends_a_draft_to_its_blob_from_the_start() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, config(dir.path())).unwrap();
    let begin = |hint: u64| {
        let mut draft = bench.spool().draft(hint).unwrap();
        for part in content(70_000, 1).chunks(PART) {
            assert_eq!(draft.offer(part, &silent()), Offer::Taken);
        }
        bench.spool().step();
        (draft, device.names(&blobs(dir.path())).len())
    };
    let (small, none) = begin(1 << 20);
    let (large, one) = begin((1 << 20) + 1);
    assert_eq!((none, one), (0, 1));
    // What was said need not be so.
    let ids = [small, large].map(|draft| bench.hand_in(draft, &content(70_000, 1)));
    bench.step();
    assert_eq!(device.names(&blobs(dir.path())), [ids[1].to_string()]);
    for id in ids {
        assert!(bench.content(id).unwrap() == bench.ledger.0[&id].content);
    }
}

#[test]
fn a_deferred_message_keeps_its_blob_and_its_header_can_be_asked_for() {
    let (mut bench, dir, _) = two();
    let mut text = b"Subject: one\r\n\r\n".to_vec();
    text.extend(content(2 * LIMIT, 1));
    let draft = bench.draft(&text).unwrap();
    let id = bench.hand_in(draft, &text);
    bench.step();
    bench.spool().append(vec![common::settled(id, bench.hop, 0, OutcomeState::Deferred)]);
    bench.sync(Request::Checkpoint);
    assert_eq!(bench.device.names(&blobs(dir.path())).len(), 2);
    let answer = bench.ask(Request::Header { queue_id: id, limit: 1_000 });
    let expected = [common::TRACE, b"Subject: one\r\n"].concat();
    assert_eq!(answer, Some(penstock_spool::Answer::Header { bytes: Some(expected.into()) }));
}

#[test]
fn an_index_made_anew_has_the_blobs_and_a_missing_one_is_told_when_it_is_read() {
    for is_missing in [false, true] {
        let (mut bench, dir, ids) = two();
        bench.sync(Request::Checkpoint);
        let large = ids[1];
        let device = bench.device.clone();
        let ledger = bench.kill();
        if is_missing {
            device.remove(&blobs(dir.path()).join(large.to_string())).unwrap();
        }
        std::fs::remove_dir_all(dir.path().join("shard-00/index")).unwrap();
        let mut bench = Bench::open_with(&device, small(dir.path())).unwrap();
        assert!(bench.recovery.salvaged.is_some());
        assert_eq!(bench.recovery.damaged, u64::from(is_missing));
        assert_eq!(bench.messages().len(), 2, "who it is for is known");
        assert!(bench.content(ids[0]).unwrap() == ledger.0[&ids[0]].content);
        let read = bench.content(large);
        assert_eq!(read.is_some_and(|read| read == ledger.0[&large].content), !is_missing);
        bench.step();
        assert_eq!(bench.damaged, if is_missing { vec![large] } else { Vec::new() });
        assert_eq!(bench.spool().statistics().damaged, u64::from(is_missing));
    }
}
