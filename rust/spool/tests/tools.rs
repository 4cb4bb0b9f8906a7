//! What is done to a spool from outside, on files as the system has them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use common::{accepted, config, directory, settled, silent};
use penstock_core::flow::ContentSink;
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::EventLog;
use penstock_spool::{
    Answer, FileDevice, HopKind, OpenError, OutcomeState, Recovery, Request, Spool, SpoolConfig, SpoolEvent,
    SystemClock, tools,
};

const MAP_BYTES: u64 = 64 << 20;

struct Running {
    spool: Spool,
    events: Arc<EventLog>,
    recovery: Recovery,
}

impl Running {
    fn open(path: &Path) -> Self {
        let events = Arc::new(EventLog::default());
        let config = SpoolConfig { inline: false, segment_bytes: 64 << 10, ..config(path) };
        let (spool, recovery) =
            Spool::open(config, Arc::new(FileDevice::new()), Arc::new(SystemClock), Arc::clone(&events) as _)
                .unwrap();
        Self { spool, events, recovery }
    }

    /// Commit a message and wait for it.
    fn commit(&self, octets: usize) -> QueueId {
        let mut draft = self.spool.draft(octets as u64).unwrap();
        draft.offer(&vec![b'x'; octets], &silent());
        let id = draft.queue_id();
        let hop = self.spool.register_hop("smart", HopKind::SmartHost, "mx.contoso.example");
        let ticket = self.spool.commit(draft, accepted(hop, octets as u64), Bytes::new(), Vec::new());
        self.events
            .wait_for(|event| matches!(event, SpoolEvent::Committed { ticket: told, .. } if *told == ticket));
        id
    }

    fn deliver(&self, id: QueueId) {
        let hop = self.spool.register_hop("smart", HopKind::SmartHost, "mx.contoso.example");
        self.spool.append(vec![settled(id, hop, 1, OutcomeState::Delivered)]);
    }

    fn ask(&self, request: Request) -> Answer {
        let number = self.spool.request(request);
        let is_ours =
            |event: &SpoolEvent| matches!(event, SpoolEvent::Answer { request, .. } if *request == number);
        let events = self.events.wait_for(is_ours);
        let answer = events.into_iter().find(is_ours);
        let Some(SpoolEvent::Answer { answer, .. }) = answer else { panic!("it was waited for") };
        answer
    }

    fn ids(&self) -> BTreeSet<QueueId> {
        match self.ask(Request::Messages { after: None, limit: 10_000, hop: None }) {
            Answer::Messages { rows, next: None, .. } => rows.iter().map(|row| row.queue_id).collect(),
            other => panic!("{other:?}"),
        }
    }
}

/// A spool with messages, closed in order.
fn filled(path: &Path) -> BTreeSet<QueueId> {
    let running = Running::open(path);
    let ids: Vec<QueueId> = (0..60).map(|nth| running.commit(500 + 100 * nth)).collect();
    ids.iter().step_by(3).for_each(|&id| running.deliver(id));
    running.ask(Request::Checkpoint);
    let left = running.ids();
    assert_eq!(left.len(), 40);
    running.spool.close();
    left
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut octet = [0];
    file.read_exact_at(&mut octet, offset).unwrap();
    file.write_all_at(&[octet[0] ^ 8], offset).unwrap();
}

fn check(path: &Path) -> tools::Checked {
    tools::check(path, MAP_BYTES, &|_| {}).unwrap()
}

#[test]
fn a_sound_spool_is_found_sound_and_left_as_it_is() {
    let dir = directory();
    filled(dir.path());
    let listing = |path: &str| {
        let mut names: Vec<_> =
            fs::read_dir(dir.path().join(path)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (listing("shard-00"), listing("shard-00/log"));
    let checked = check(dir.path());
    assert_eq!((checked.problems.as_slice(), checked.messages), (&[][..], 40), "{checked:?}");
    assert!(checked.records >= 60 && checked.rows > 200 && checked.pages > 10, "{checked:?}");
    assert_eq!((listing("shard-00"), listing("shard-00/log")), before);
    let counted = tools::count(dir.path(), MAP_BYTES).unwrap();
    assert_eq!((counted.messages, counted.segments, counted.is_restored), (40, checked.segments, false));
    assert!(counted.live_bytes > 100_000 && counted.live_bytes <= counted.log_bytes, "{counted:?}");
}

#[test]
fn each_kind_of_damage_is_found_by_a_check() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("cannot be read at", |path| {
            flip(&path.join("shard-00/log/00000002.seg"), 4_096 + 700);
        }),
        ("index", |path| {
            let data = path.join("shard-00/index/data.mdb");
            let half = fs::metadata(&data).unwrap().len() / 2;
            File::options().write(true).open(data).unwrap().set_len(half).unwrap();
        }),
        ("the index is missing", |path| fs::remove_dir_all(path.join("shard-00/index")).unwrap()),
        ("is missing", |path| fs::remove_file(path.join("shard-00/log/00000002.seg")).unwrap()),
    ];
    for (what, harm) in harms {
        let dir = directory();
        filled(dir.path());
        harm(dir.path());
        let checked = check(dir.path());
        assert!(checked.problems_count > 0, "{what}");
        assert!(
            checked.problems.iter().any(|problem| problem.contains(what)),
            "{what}: {:?}",
            checked.problems
        );
    }
}

/// A spool with two messages that have blobs, and their names.
fn with_blobs(path: &Path) -> Vec<String> {
    let running = Running::open(path);
    let ids = [2 << 20, 3 << 20].map(|octets| running.commit(octets).to_string());
    running.commit(500);
    running.ask(Request::Checkpoint);
    running.spool.close();
    ids.into()
}

#[test]
fn a_check_reads_every_blob_and_knows_those_that_nobody_has() {
    type Harm = fn(&Path, &str);
    let harms: [(&str, Harm, u64, u64); 3] = [
        ("is not what it was", |blobs, name| flip(&blobs.join(name), 1 << 20), 0, 0),
        ("cannot be read", |blobs, name| fs::remove_file(blobs.join(name)).unwrap(), 0, 1),
        ("no message has it", |blobs, _| fs::write(blobs.join("0000000000007"), b"x").unwrap(), 0, 0),
    ];
    for (what, harm, damaged, missing) in harms {
        let dir = directory();
        let names = with_blobs(dir.path());
        assert_eq!(check(dir.path()).problems, Vec::<String>::new());
        harm(&dir.path().join("shard-00/blobs"), &names[0]);
        let problems = check(dir.path()).problems;
        assert!(problems.len() == 1 && problems[0].contains(what), "{what}: {problems:?}");
        let salvaged = tools::salvage(dir.path(), MAP_BYTES, None, true, &|_| {}).unwrap();
        assert_eq!((salvaged.damaged, salvaged.missing_blobs), (damaged, missing), "{what}");
    }
}

#[test]
fn a_backup_has_the_blobs_and_a_salvage_leaves_those_that_nobody_has() {
    let (dir, copies) = (directory(), directory());
    let mut names = with_blobs(dir.path());
    fs::write(dir.path().join("shard-00/blobs/0000000000007"), b"x").unwrap();
    fs::write(dir.path().join("shard-00/blobs/0000000000008.new"), b"x").unwrap();
    let (copy, restored) = (copies.path().join("copy"), copies.path().join("restored"));
    tools::backup(dir.path(), &copy, &|_| {}).unwrap();
    tools::restore(&copy, &restored, &|_| {}).unwrap();
    names.push("0000000000007".into());
    names.sort();
    let found = || {
        let entries = fs::read_dir(restored.join("shard-00/blobs")).unwrap();
        let mut found: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        found
    };
    assert_eq!(found(), names);
    let running = Running::open(&restored);
    assert!(running.recovery.salvaged.is_some() && running.recovery.damaged == 0, "{:?}", running.recovery);
    assert_eq!(running.ids().len(), 3);
    running.spool.close();
    assert_eq!(found(), names, "the log may not have said all");
}

#[test]
fn a_salvage_that_is_asked_for_gives_the_same_index() {
    let dir = directory();
    let left = filled(dir.path());
    let tried = tools::salvage(dir.path(), MAP_BYTES, None, true, &|_| {}).unwrap();
    assert!(!dir.path().join("shard-00/index.new").exists());
    let done = tools::salvage(dir.path(), MAP_BYTES, None, false, &|_| {}).unwrap();
    assert_eq!((tried.messages, tried.may_repeat), (done.messages, done.may_repeat));
    assert!(done.kept.as_ref().unwrap().exists());
    assert_eq!(check(dir.path()).problems, Vec::<String>::new());
    let running = Running::open(dir.path());
    assert_eq!((running.ids(), running.recovery.salvaged.clone()), (left, None));
    // Nobody changes what another has open.
    assert!(matches!(
        tools::salvage(dir.path(), MAP_BYTES, None, false, &|_| {}),
        Err(OpenError::Locked { .. })
    ));
    running.spool.close();
    let nothing = directory();
    assert!(matches!(tools::check(nothing.path(), MAP_BYTES, &|_| {}), Err(OpenError::Meta { .. })));
    assert!(fs::read_dir(nothing.path()).unwrap().next().is_none(), "nothing is made where nothing is");
}

#[test]
fn a_backup_under_load_brings_back_all_that_was_acknowledged_and_is_not_finished() {
    let (dir, elsewhere) = (directory(), directory());
    let running = Running::open(dir.path());
    let before: Vec<QueueId> = (0..40).map(|nth| running.commit(1_000 + 50 * nth)).collect();
    running.ask(Request::Checkpoint);
    let (target, is_done) = (elsewhere.path().join("copy"), AtomicBool::new(false));
    let mut during = BTreeSet::new();
    let mut gone = BTreeSet::new();
    std::thread::scope(|scope| {
        let backup = scope.spawn(|| {
            let copied =
                tools::backup(dir.path(), &target, &|_| std::thread::sleep(Duration::from_millis(5)));
            is_done.store(true, Relaxed);
            copied
        });
        // New mail, and most of the old delivered, so that segments are given up and used again meanwhile.
        let mut old = before[..30].iter();
        while !is_done.load(Relaxed) && during.len() < 400 {
            during.insert(running.commit(3_000));
            if let Some(&id) = old.next() {
                running.deliver(id);
                gone.insert(id);
            }
            if during.len() % 10 == 0 {
                running.ask(Request::Checkpoint);
            }
        }
        let copied = backup.join().unwrap().unwrap();
        assert!(copied.segments > 0 && copied.bytes > 0);
    });
    running.spool.close();
    let restored = elsewhere.path().join("restored");
    tools::restore(&target, &restored, &|_| {}).unwrap();
    let running = Running::open(&restored);
    assert!(running.recovery.is_restored && running.recovery.salvaged.is_some());
    let found = running.ids();
    let kept: BTreeSet<QueueId> = before.iter().copied().filter(|id| !gone.contains(id)).collect();
    assert!(found.is_superset(&kept), "what was acknowledged before and waits is there");
    let known: BTreeSet<QueueId> = before.iter().chain(&during).copied().collect();
    assert!(found.is_subset(&known));
    running.spool.close();
    assert_eq!(check(&restored).problems, Vec::<String>::new());
    assert!(tools::release(&restored).unwrap() && !tools::release(&restored).unwrap());
    let running = Running::open(&restored);
    assert!(!running.recovery.is_restored);
    running.spool.close();
}

#[test]
fn a_spool_in_use_is_checked_while_segments_come_and_go_and_real_damage_is_told() {
    let dir = directory();
    let running = Running::open(dir.path());
    let stays: Vec<QueueId> = (0..40).map(|_| running.commit(5_000)).collect();
    running.ask(Request::Checkpoint);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let checking = scope.spawn(|| {
            let checked: Vec<_> = (0..8).map(|_| tools::check(dir.path(), MAP_BYTES, &|_| {})).collect();
            is_done.store(true, Relaxed);
            checked
        });
        while !is_done.load(Relaxed) {
            let id = running.commit(3_000);
            running.deliver(id);
            running.ask(Request::Checkpoint);
        }
        for checked in checking.join().unwrap() {
            let checked = checked.unwrap();
            assert_eq!(checked.problems, [""; 0], "{checked:?}");
            assert!(checked.is_in_use && checked.records >= 40 && checked.rows == 0, "{checked:?}");
        }
    });
    let counted = tools::count(dir.path(), MAP_BYTES).unwrap();
    assert!(counted.is_in_use && counted.log_bytes > 200_000 && counted.index_bytes > 0, "{counted:?}");
    flip(&dir.path().join("shard-00/log/00000002.seg"), 4_096 + 700);
    let checked = check(dir.path());
    assert_eq!((checked.is_in_use, checked.problems_count), (true, 1), "{checked:?}");
    assert!(checked.problems[0].starts_with("segment 2 cannot be read at"), "{checked:?}");
    assert_eq!(running.ids(), stays.into_iter().collect(), "nobody was disturbed");
    running.spool.close();
}

#[test]
fn a_backup_of_a_spool_at_rest_brings_back_the_same_set() {
    let (dir, copies) = (directory(), directory());
    let left = filled(dir.path());
    let (copy, restored) = (copies.path().join("copy"), copies.path().join("restored"));
    tools::backup(dir.path(), &copy, &|_| {}).unwrap();
    // Neither goes where something is.
    assert!(matches!(tools::backup(dir.path(), &copy, &|_| {}), Err(OpenError::Meta { .. })));
    assert!(matches!(tools::restore(&copy, dir.path(), &|_| {}), Err(OpenError::Meta { .. })));
    assert!(matches!(tools::restore(copies.path(), &restored, &|_| {}), Err(OpenError::Meta { .. })));
    tools::restore(&copy, &restored, &|_| {}).unwrap();
    let running = Running::open(&restored);
    let found = running.ids();
    assert!(found.is_superset(&left));
    let again = found.len() - left.len();
    assert!(again as u64 <= running.recovery.salvaged.as_ref().unwrap().may_repeat);
    running.spool.close();
}
