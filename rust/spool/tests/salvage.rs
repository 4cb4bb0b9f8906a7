//! What the spool does when its index is missing, damaged, or not its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{Bench, Ledger, config, directory};
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::FaultyDevice;
use penstock_spool::{Answer, OutcomeState, Recovery, Request, SpoolConfig};
use tempfile::TempDir;

const LOG: &str = "shard-00/log";
const INDEX: &str = "shard-00/index";
const DATA: &str = "shard-00/index/data.mdb";

/// A generator of the simplest kind, so that a seed says it all.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What a spool left that was closed in order.
struct Scene {
    device: FaultyDevice,
    dir: TempDir,
    ledger: Ledger,
    /// Messages that wait.
    waiting: Vec<QueueId>,
    /// Of these, one that was begun and not ended.
    doubtful: QueueId,
}

/// Messages that came, went, were put off, and wait, over several segments and checkpoints.
fn scene(messages: usize) -> Scene {
    scene_of(1, messages)
}

fn scene_of(seed: u64, messages: usize) -> Scene {
    let (device, dir) = (FaultyDevice::new(seed), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    let mut waiting = Vec::new();
    for nth in 0..messages {
        let id = bench.commit(1_000 + 37 * nth).unwrap();
        bench.step();
        match nth % 4 {
            0 => bench.deliver(id),
            1 => {
                let put_off = common::settled(id, bench.hop, 0, OutcomeState::Deferred);
                bench.spool().append(vec![put_off]);
                waiting.push(id);
            }
            _ => waiting.push(id),
        }
        if nth % 16 == 15 {
            bench.clock.advance(1_000);
            bench.sync(Request::Checkpoint);
        }
    }
    let doubtful = waiting[waiting.len() / 2];
    drop(bench.start(doubtful));
    bench.sync(Request::Checkpoint);
    Scene { device, dir, ledger: bench.close(), waiting, doubtful }
}

impl Scene {
    /// The same spool in another place, with an index that something is done to, opened.
    fn after(&self, harm: impl FnOnce(&Path)) -> (Bench, TempDir) {
        let dir = directory();
        common::copy_index(self.dir.path(), dir.path());
        harm(dir.path());
        let device = self.device.moved(self.dir.path(), dir.path());
        (Bench::open(&device, dir.path()).unwrap(), dir)
    }

    /// Check that all that waited is there, and nothing else.
    fn check(&self, bench: &mut Bench, what: &str) {
        self.ledger.check(bench, what);
        assert_eq!(ids(bench), self.waiting, "{what}");
        let doubts: Vec<QueueId> = bench.recovery.in_doubt.iter().map(|doubt| doubt.queue_id).collect();
        assert_eq!(doubts, [self.doubtful], "{what}");
    }
}

fn ids(bench: &mut Bench) -> Vec<QueueId> {
    bench.messages().iter().map(|row| row.queue_id).collect()
}

fn length(dir: &Path) -> u64 {
    fs::metadata(dir.join(DATA)).unwrap().len()
}

fn put_aside(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("shard-00")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.to_str().unwrap().contains("index.bad-"));
    names.sort();
    names
}

#[test]
fn an_index_that_is_missing_is_made_anew_from_the_log() {
    let scene = scene(60);
    let (mut bench, dir) = scene.after(|dir| fs::remove_dir_all(dir.join(INDEX)).unwrap());
    scene.check(&mut bench, "missing");
    let salvaged = bench.recovery.salvaged.clone().unwrap();
    assert_eq!((salvaged.reason.as_str(), salvaged.messages), ("it is missing", scene.waiting.len() as u64));
    assert_eq!((salvaged.may_repeat, salvaged.missing_segments, salvaged.kept), (0, 0, None));
    let reports = bench.device.names(&dir.path().join("shard-00/damaged"));
    assert_eq!(reports, ["index.txt"]);
    // It is an index like another: what it has is delivered, and it is opened again as it is.
    let device = bench.device.clone();
    for &id in &scene.waiting {
        bench.deliver_if_known(id);
    }
    bench.close();
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    assert_eq!((bench.recovery.salvaged.clone(), ids(&mut bench)), (None, Vec::new()));
}

#[test]
fn an_index_that_was_cut_off_anywhere_is_never_mapped() {
    let scene = scene(60);
    let whole = length(scene.dir.path());
    let mut salvaged = 0;
    for keep in (0..whole).step_by(4_096) {
        let cut =
            |dir: &Path| File::options().write(true).open(dir.join(DATA)).unwrap().set_len(keep).unwrap();
        let (mut bench, dir) = scene.after(cut);
        scene.check(&mut bench, &format!("{keep} of {whole} octets"));
        // Only pages that are free may be missing, and then they are put back.
        salvaged += u64::from(bench.recovery.salvaged.is_some());
        assert_eq!(put_aside(dir.path()).len(), usize::from(bench.recovery.salvaged.is_some()));
        bench.close();
    }
    assert!(salvaged + 2 >= whole / 4_096, "{salvaged} of {whole}");
}

#[test]
fn a_bit_that_was_flipped_anywhere_in_the_index_loses_nothing() {
    let scene = scene(60);
    let whole = length(scene.dir.path());
    let mut random = Random(0x5EED);
    let mut salvaged = 0;
    for _ in 0..400 {
        let (offset, bit) = (random.below(whole), random.below(8));
        let flip = |dir: &Path| {
            let file = File::options().read(true).write(true).open(dir.join(DATA)).unwrap();
            let mut octet = [0];
            file.read_exact_at(&mut octet, offset).unwrap();
            octet[0] ^= 1 << bit;
            file.write_all_at(&octet, offset).unwrap();
        };
        let (mut bench, _dir) = scene.after(flip);
        scene.check(&mut bench, &format!("bit {bit} at {offset}"));
        salvaged += u64::from(bench.recovery.salvaged.is_some());
        bench.close();
    }
    // The rest was in pages that are free, and in the room between rows.
    assert!(salvaged > 20, "{salvaged} of 400");
}

#[test]
fn an_index_of_another_database_is_put_aside() {
    let (scene, other) = (scene(60), scene_of(2, 20));
    let (mut bench, dir) = scene.after(|dir| common::copy_index(other.dir.path(), dir));
    scene.check(&mut bench, "another's");
    let salvaged = bench.recovery.salvaged.clone().unwrap();
    assert!(salvaged.reason.contains("another database"), "{salvaged:?}");
    assert_eq!(salvaged.kept, put_aside(dir.path()).pop());
}

/// A spool that has given up segments since an early copy of its index was made: the scene, the copy, and the messages
/// that were delivered. Unless it was cleaned, there are holes in its log.
fn aged(clean_bytes_per_s: u64) -> (Scene, TempDir, BTreeSet<QueueId>) {
    let (device, dir, early) = (FaultyDevice::new(1), directory(), directory());
    let small = SpoolConfig { segment_bytes: 32 << 10, clean_bytes_per_s, ..config(dir.path()) };
    let mut bench = Bench::open_with(&device, small).unwrap();
    let (mut waiting, mut gone) = (Vec::new(), BTreeSet::new());
    let mut open: Vec<QueueId> = Vec::new();
    for nth in 0..120 {
        let id = bench.commit(2_000).unwrap();
        bench.step();
        if nth % 15 == 3 {
            waiting.push(id);
        } else {
            open.push(id);
        }
        // Everything is delivered long after it came, so that outcomes stand in other segments than their messages.
        if open.len() > 12 {
            let id = open.remove(0);
            bench.deliver(id);
            gone.insert(id);
        }
        if nth % 10 == 9 {
            bench.clock.advance(1_000);
            bench.sync(Request::Checkpoint);
        }
        if nth == 30 {
            common::copy_index(dir.path(), early.path());
        }
    }
    let doubtful = waiting[0];
    waiting.extend(open);
    drop(bench.start(doubtful));
    bench.sync(Request::Checkpoint);
    (Scene { device, dir, ledger: bench.close(), waiting, doubtful }, early, gone)
}

/// Check a salvage of an aged spool: all that waits is there, and what came back besides was counted.
fn check_aged(scene: &Scene, gone: &BTreeSet<QueueId>, bench: &mut Bench) {
    let found: BTreeSet<QueueId> = ids(bench).into_iter().collect();
    assert!(scene.waiting.iter().all(|id| found.contains(id)), "nothing that waits is missing");
    let salvaged = bench.recovery.salvaged.clone().unwrap();
    // What the replay behind it brought was not counted by the salvage: here one group, of one message, at most.
    assert!((salvaged.messages..=salvaged.messages + 1).contains(&(found.len() as u64)), "{salvaged:?}");
    let again = found.iter().filter(|id| !scene.waiting.contains(id)).count() as u64;
    assert!(found.iter().all(|id| scene.waiting.contains(id) || gone.contains(id)));
    assert!(again <= salvaged.may_repeat, "{again} came back, and {salvaged:?}");
    for id in &found {
        assert!(bench.content(*id).unwrap() == scene.ledger.0[id].content);
    }
}

#[test]
fn an_index_of_yesterday_is_found_out_and_made_anew() {
    let (scene, early, gone) = aged(0);
    let (mut bench, _dir) = scene.after(|dir| common::copy_index(early.path(), dir));
    check_aged(&scene, &gone, &mut bench);
}

#[test]
fn a_log_that_was_cleaned_gives_the_index_with_all_that_was_moved() {
    let (scene, early, gone) = aged(1 << 20);
    let first = scene.device.names(&scene.dir.path().join("shard-00/log"));
    assert!(!first.contains(&"00000001.seg".into()), "{first:?}");
    for is_stale in [true, false] {
        let (mut bench, _dir) = scene.after(|dir| {
            fs::remove_dir_all(dir.join(INDEX)).unwrap();
            if is_stale {
                common::copy_index(early.path(), dir);
            }
        });
        check_aged(&scene, &gone, &mut bench);
        assert_eq!(bench.recovery.damaged, 0);
    }
}

#[test]
fn what_salvage_brings_back_of_a_log_with_holes_is_counted() {
    let (scene, _, gone) = aged(0);
    let (mut bench, _dir) = scene.after(|dir| fs::remove_dir_all(dir.join(INDEX)).unwrap());
    check_aged(&scene, &gone, &mut bench);
    assert!(bench.recovery.salvaged.clone().unwrap().missing_segments > 0);
}

#[test]
fn damage_in_the_log_is_reported_by_a_salvage_and_the_rest_is_kept() {
    for (place, offset) in [("header", 4_096), ("body", 4_196), ("content", 5_200), ("segment", 20)] {
        let scene = scene(60);
        let device = scene.device.moved(scene.dir.path(), scene.dir.path());
        device.flip(&scene.dir.path().join(LOG).join("00000001.seg"), offset, 3);
        fs::remove_dir_all(scene.dir.path().join(INDEX)).unwrap();
        let mut bench = Bench::open(&device, scene.dir.path()).unwrap();
        let salvaged = bench.recovery.salvaged.clone().unwrap();
        assert_eq!((salvaged.damaged, bench.recovery.damaged), (1, 1), "{place}");
        let found: BTreeSet<QueueId> = ids(&mut bench).into_iter().collect();
        if place == "segment" {
            assert!(!found.is_empty() && found.len() < scene.waiting.len());
        } else {
            // What was hit is the record of the first message, which is finished.
            let all: BTreeSet<QueueId> = scene.waiting.iter().copied().collect();
            assert_eq!(found, all, "{place}");
            // What was hit might have said that something is finished; content says nothing.
            assert_eq!(salvaged.may_repeat > 0, place != "content", "{place}");
        }
    }
}

#[test]
fn a_page_that_the_disk_does_not_give_back_is_reported_and_the_rest_is_kept() {
    for (file, page) in [("00000001.seg", 0), ("00000001.seg", 1), ("00000002.seg", 2)] {
        for has_index in [false, true] {
            let scene = scene(60);
            let device = scene.device.moved(scene.dir.path(), scene.dir.path());
            device.make_unreadable(&scene.dir.path().join(LOG).join(file), page);
            if !has_index {
                fs::remove_dir_all(scene.dir.path().join(INDEX)).unwrap();
            }
            let mut bench = Bench::open(&device, scene.dir.path()).unwrap();
            let found = ids(&mut bench);
            if has_index {
                assert_eq!(found, scene.waiting, "{file}, page {page}: the index has them all");
                continue;
            }
            let salvaged = bench.recovery.salvaged.clone().unwrap();
            assert!(salvaged.damaged > 0, "{file}, page {page}: {salvaged:?}");
            assert!(!found.is_empty() && found.iter().all(|id| scene.ledger.0.contains_key(id)));
            let lost = scene.waiting.iter().filter(|id| !found.contains(id)).count();
            assert!(page == 0 || lost <= 4, "{file}, page {page}: {lost} lost");
            let reports = device.names(&scene.dir.path().join("shard-00/damaged"));
            assert!(!reports.is_empty());
        }
    }
}

/// What a spool left that was killed with messages that the index does not have: the disk, the messages, and the last
/// segment of the log.
fn killed(messages: usize, octets: usize) -> (FaultyDevice, TempDir, Vec<QueueId>, PathBuf) {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    bench.step();
    let all = (0..messages)
        .map(|_| {
            let id = bench.commit(octets).unwrap();
            bench.step();
            id
        })
        .collect();
    bench.kill();
    let device = device.after_kill();
    let segments = device.names(&dir.path().join(LOG));
    let last = segments.iter().filter(|name| name.contains(".seg")).max().unwrap();
    let last = dir.path().join(LOG).join(last);
    (device, dir, all, last)
}

#[test]
fn a_page_behind_the_index_that_the_disk_does_not_give_back_is_damage_and_no_end() {
    let (device, dir, all, last) = killed(12, 3_000);
    device.make_unreadable(&last, 3);
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    assert!(bench.recovery.damaged > 0);
    let found = ids(&mut bench);
    assert!(found.len() >= all.len() - 3, "{} of {}", found.len(), all.len());
}

#[test]
fn an_index_that_ends_the_process_three_times_is_made_anew() {
    let scene = scene(20);
    let doubt = |openings: u32| {
        let device = scene.device.moved(scene.dir.path(), scene.dir.path());
        let path = scene.dir.path().join("shard-00/doubt");
        let file = penstock_spool::Device::open(&device, &path, penstock_spool::Opening::New).unwrap();
        let text = format!("{openings} {openings}\n");
        file.write_at(&[std::io::IoSlice::new(text.as_bytes())], 0).unwrap();
        device
    };
    for openings in [1, 2, 3] {
        let dir = directory();
        common::copy_index(scene.dir.path(), dir.path());
        let device = doubt(openings).moved(scene.dir.path(), dir.path());
        let mut bench = Bench::open(&device, dir.path()).unwrap();
        scene.check(&mut bench, "after deaths");
        assert_eq!(bench.recovery.salvaged.is_some(), openings == 3);
        bench.close();
        assert!(!device.names(&dir.path().join("shard-00")).contains(&"doubt".into()));
    }
}

#[test]
fn runs_that_do_not_end_in_order_are_counted_and_do_no_harm() {
    let scene = scene(20);
    let dir = directory();
    common::copy_index(scene.dir.path(), dir.path());
    let mut device = scene.device.moved(scene.dir.path(), dir.path());
    for _ in 0..6 {
        let mut bench = Bench::open(&device, dir.path()).unwrap();
        assert_eq!((bench.recovery.salvaged.clone(), ids(&mut bench)), (None, scene.waiting.clone()));
        bench.kill();
        device = device.after_kill();
    }
}

#[test]
fn a_salvage_that_is_cut_off_begins_again() {
    let scene = scene(60);
    // Between the two names: the old index is aside, the new one has no name yet.
    let (mut bench, dir) = scene.after(|dir| {
        fs::rename(dir.join(INDEX), dir.join("shard-00/index.bad-1")).unwrap();
        fs::create_dir(dir.join("shard-00/index.new")).unwrap();
        fs::write(dir.join("shard-00/index.new/data.mdb"), b"half").unwrap();
    });
    scene.check(&mut bench, "cut off");
    assert!(bench.recovery.salvaged.is_some());
    assert!(!dir.path().join("shard-00/index.new").exists());
}

#[test]
fn old_indexes_are_kept_and_not_without_bound() {
    let scene = scene(20);
    let dir = directory();
    common::copy_index(scene.dir.path(), dir.path());
    let device = scene.device.moved(scene.dir.path(), dir.path());
    for round in 1..=4 {
        let file = File::options().write(true).open(dir.path().join(DATA)).unwrap();
        file.write_all_at(b"nonsense", 16).unwrap();
        let bench = Bench::open(&device, dir.path()).unwrap();
        assert!(bench.recovery.salvaged.is_some());
        bench.close();
        let aside = put_aside(dir.path());
        assert_eq!(aside.len(), round.min(2));
        assert!(aside.last().unwrap().to_str().unwrap().ends_with(&format!("-{round}")));
    }
}

#[test]
fn a_spool_without_an_index_and_without_mail_is_an_empty_spool() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    Bench::open(&device, dir.path()).unwrap().close();
    fs::remove_dir_all(dir.path().join(INDEX)).unwrap();
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    let Recovery { messages, damaged, .. } = bench.recovery;
    assert_eq!((messages, damaged), (0, 0));
    let id = bench.commit(100).unwrap();
    bench.step();
    assert!(bench.ledger.0[&id].is_acked);
    assert!(matches!(bench.sync(Request::Checkpoint), Some(Answer::Done { .. })));
}

#[test]
fn a_page_of_content_behind_the_index_that_the_disk_does_not_give_back_does_not_end_recovery() {
    let (device, dir, all, last) = killed(4, 20_000);
    device.make_unreadable(&last, 3);
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    assert!(bench.recovery.damaged > 0);
    assert_eq!(ids(&mut bench), all, "who it was for can be told");
}

#[test]
fn what_the_index_has_stays_when_the_segment_in_which_it_ends_has_lost_its_header() {
    for page in [0, 1] {
        let (device, dir) = (FaultyDevice::new(1), directory());
        let small = || SpoolConfig { segment_bytes: 64 << 10, ..config(dir.path()) };
        let mut bench = Bench::open_with(&device, small()).unwrap();
        let known: Vec<QueueId> = (0..2)
            .map(|_| {
                let id = bench.commit(15_000).unwrap();
                bench.step();
                id
            })
            .collect();
        bench.sync(Request::Checkpoint);
        for _ in 0..4 {
            bench.commit(15_000).unwrap();
            bench.step();
        }
        bench.kill();
        let device = device.after_kill();
        let segments = device.names(&dir.path().join(LOG));
        let mut segments: Vec<_> = segments.iter().filter(|name| name.contains(".seg")).collect();
        segments.sort();
        assert_eq!(segments.len(), 2);
        device.make_unreadable(&dir.path().join(LOG).join(segments[0]), page);
        let mut bench = Bench::open_with(&device, small()).unwrap();
        assert_eq!(bench.recovery.salvaged, None, "page {page}: the index is as good as before");
        let found = ids(&mut bench);
        assert!(known.iter().all(|id| found.contains(id)), "page {page}: {found:?}");
    }
}

#[test]
fn damage_behind_the_index_does_not_end_an_open_on_a_full_disk() {
    let (device, dir, all, last) = killed(12, 3_000);
    device.flip(&last, 3 * 4_096 + 20, 1);
    device.set_capacity(device.used());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    assert!(bench.recovery.damaged > 0);
    let found = ids(&mut bench);
    assert!(found.len() >= all.len() - 3, "{} of {}", found.len(), all.len());
}
