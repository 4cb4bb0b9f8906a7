//! The spool with its threads.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{accepted, config, directory, settled, silent};
use parking_lot::{Condvar, Mutex};
use penstock_core::flow::{ContentSink, GateState, Offer, SourcePoll, Wake, WakeHandle};
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{Call, EventLog, Fault, FaultyDevice};
use penstock_spool::{
    Answer, DraftRefused, FileDevice, HopId, HopKind, OutcomeState, Request, Spool, SpoolConfig, SpoolEvent,
    SystemClock,
};

struct Threaded {
    spool: Spool,
    events: Arc<EventLog>,
    hop: HopId,
}

impl Threaded {
    fn open(device: &FaultyDevice, path: &Path) -> Self {
        Self::open_with(device, SpoolConfig { inline: false, segment_bytes: 1 << 20, ..config(path) })
    }

    fn open_with(device: &FaultyDevice, config: SpoolConfig) -> Self {
        let events = Arc::new(EventLog::default());
        let device = Arc::new(device.clone());
        let (spool, _) =
            Spool::open(config, device, Arc::new(SystemClock), Arc::clone(&events) as _).unwrap();
        let hop = spool.register_hop("smart", HopKind::SmartHost, "mx.contoso.example");
        Self { spool, events, hop }
    }

    fn commit(&self, content: &[u8]) -> (u64, QueueId) {
        let mut draft = self.spool.draft(content.len() as u64).unwrap();
        assert_eq!(draft.offer(content, &silent()), Offer::Taken);
        let queue_id = draft.queue_id();
        let accepted = accepted(self.hop, content.len() as u64);
        (self.spool.commit(draft, accepted, Bytes::new(), Vec::new()), queue_id)
    }

    /// Wait until as many messages are committed, or refused.
    fn answered(&self, count: usize) -> Vec<SpoolEvent> {
        let mut all = Vec::new();
        let is_answer = |event: &SpoolEvent| {
            matches!(event, SpoolEvent::Committed { .. } | SpoolEvent::CommitFailed { .. })
        };
        while all.len() < count {
            all.extend(self.events.wait_for(is_answer).into_iter().filter(is_answer));
        }
        all
    }
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_gathers_during_a_sync_shares_the_next() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let bench = Threaded::open(&device, dir.path());
    device.set_sync_time(Duration::from_millis(100));
    let before = device.count(Call::Sync);
    bench.commit(b"first");
    eventually("a sync begins", || device.count(Call::Sync) > before);
    for _ in 0..50 {
        bench.commit(&[7; 4_096]);
    }
    let events = bench.answered(51);
    assert!(events.iter().all(|event| matches!(event, SpoolEvent::Committed { .. })));
    assert_eq!(device.count(Call::Sync) - before, 2);
    bench.spool.close();
}

#[test]
fn outcomes_are_written_while_a_sync_is_under_way_and_synced_without_being_asked_for() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let bench = Threaded::open(&device, dir.path());
    let (_, queue_id) = bench.commit(b"x");
    bench.answered(1);
    let syncs = device.count(Call::Sync);
    device.set_sync_time(Duration::from_millis(300));
    bench.commit(b"y");
    eventually("a sync begins", || device.count(Call::Sync) > syncs);
    let bell = Arc::new(Bell::default());
    let mut gate = bench.spool.started(queue_id, bench.hop, 1, "192.0.2.1");
    bell.wait_for(|waker| (gate.state(waker) == GateState::Open).then_some(()));
    assert_eq!(bench.spool.statistics().group_messages.sum, 1, "the gate opens before that sync ends");
    device.set_sync_time(Duration::ZERO);
    bench.answered(1);
    let syncs = device.count(Call::Sync);
    bench.spool.append(vec![settled(queue_id, bench.hop, 1, OutcomeState::Delivered)]);
    eventually("it is synced", || device.count(Call::Sync) > syncs);
    bench.spool.close();
}

#[derive(Default)]
struct Bell {
    is_rung: Mutex<bool>,
    ring: Condvar,
}

impl Wake for Bell {
    fn wake(&self, _token: u64) {
        *self.is_rung.lock() = true;
        self.ring.notify_all();
    }
}

impl Bell {
    /// Ask whenever woken, until there is something.
    fn wait_for<T>(self: &Arc<Self>, mut ask: impl FnMut(&WakeHandle) -> Option<T>) -> T {
        let waker = WakeHandle { wake: Arc::clone(self) as _, token: 0 };
        loop {
            if let Some(found) = ask(&waker) {
                return found;
            }
            let mut is_rung = self.is_rung.lock();
            while !*is_rung {
                let waited = self.ring.wait_for(&mut is_rung, Duration::from_secs(10));
                assert!(!waited.timed_out(), "nobody was woken");
            }
            *is_rung = false;
        }
    }
}

#[test]
fn content_that_is_not_in_the_cache_is_read_by_the_thread() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let bench = Threaded::open(&device, dir.path());
    device.set_cached(false);
    let content: Vec<u8> = (0..500_000u32).map(|at| (at / 7) as u8).collect();
    let (_, queue_id) = bench.commit(&content);
    bench.answered(1);
    let bell = Arc::new(Bell::default());
    let mut source = bench.spool.content(queue_id).source;
    let (mut found, mut waited) = (Vec::new(), 0);
    loop {
        let polled = bell.wait_for(|waker| match source.poll(waker) {
            SourcePoll::Pending => {
                waited += 1;
                None
            }
            other => Some(other),
        });
        match polled {
            SourcePoll::Chunk(chunk) => found.extend_from_slice(&chunk),
            other => {
                assert_eq!(other, SourcePoll::End);
                break;
            }
        }
    }
    assert!(found == content && waited > 0);
    bench.spool.close();
}

#[test]
fn a_failed_sync_is_told_to_all_who_wait() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let bench = Threaded::open(&device, dir.path());
    let (_, safe) = bench.commit(b"x");
    bench.answered(1);
    device.fail_all(Call::Sync, Some(Fault::Io));
    let drafts: Vec<_> = (0..20).map(|_| bench.spool.draft(0).unwrap()).collect();
    for draft in drafts {
        bench.spool.commit(draft, accepted(bench.hop, 0), Bytes::new(), Vec::new());
    }
    let request = bench.spool.request(Request::Checkpoint);
    let mut all = Vec::new();
    while all.len() < 22 {
        all.extend(bench.events.wait_for(|_| true));
    }
    let count = |is: &dyn Fn(&SpoolEvent) -> bool| all.iter().filter(|event| is(event)).count();
    assert_eq!(count(&|event| matches!(event, SpoolEvent::CommitFailed { .. })), 20);
    assert_eq!(count(&|event| matches!(event, SpoolEvent::Poisoned { errno: 5, .. })), 1);
    let failed = |event: &SpoolEvent| matches!(event, SpoolEvent::Answer { request: told, answer: Answer::Failed { .. } } if *told == request);
    assert_eq!(count(&failed), 1);
    assert!(matches!(bench.spool.draft(0), Err(DraftRefused::Poisoned)));
    assert_eq!(bench.spool.started(safe, bench.hop, 1, "").state(&silent()), GateState::Failed);
    bench.spool.close();
}

#[test]
fn a_thread_that_dies_takes_the_spool_with_it() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let bench = Threaded::open(&device, dir.path());
    device.fail_all(Call::Sync, Some(Fault::Panic));
    let (ticket, _) = bench.commit(b"x");
    let events = bench.events.wait_for(|event| matches!(event, SpoolEvent::CommitFailed { .. }));
    assert!(events.iter().any(|event| matches!(event, SpoolEvent::Poisoned { .. })));
    assert!(
        events
            .iter()
            .any(|event| matches!(event, SpoolEvent::CommitFailed { ticket: told, .. } if *told == ticket))
    );
    bench.spool.close();
}

#[test]
fn questions_are_answered_with_all_that_came_before_them() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let bench = Threaded::open(&device, dir.path());
    for round in 1..20 {
        let (_, queue_id) = bench.commit(b"x");
        let request = bench.spool.request(Request::Message { queue_id });
        let is_answer = |event: &SpoolEvent| matches!(event, SpoolEvent::Answer { request: told, .. } if *told == request);
        let events = bench.events.wait_for(is_answer);
        let place = |is: &dyn Fn(&SpoolEvent) -> bool| events.iter().position(is).unwrap();
        let committed = place(&|event| matches!(event, SpoolEvent::Committed { .. }));
        let answered = place(&is_answer);
        assert!(committed < answered, "a page shows nothing that was not told before");
        let SpoolEvent::Answer { answer: Answer::Message { watermark, row: Some(_) }, .. } =
            &events[answered]
        else {
            panic!("it is there");
        };
        assert_eq!(*watermark, round);
    }
    bench.spool.close();
}

#[test]
fn many_threads_may_hand_in_at_once_and_all_of_it_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let events = Arc::new(EventLog::default());
    let config = SpoolConfig { segment_bytes: 1 << 20, checkpoint_ms: 20, ..config(dir.path()) };
    let config = SpoolConfig { inline: false, ..config };
    let open = || {
        let device = Arc::new(FileDevice::new());
        Spool::open(config.clone(), device, Arc::new(SystemClock), Arc::clone(&events) as _).unwrap()
    };
    let (spool, _) = open();
    let hop = spool.register_hop("smart", HopKind::SmartHost, "mx.contoso.example");
    let bench = Threaded { spool, events: Arc::clone(&events), hop };
    let kept = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (bench, kept) = (&bench, &kept);
            scope.spawn(move || {
                for round in 0..60 {
                    let content = vec![thread; 50 + 400 * round];
                    let (_, queue_id) = bench.commit(&content);
                    if round % 3 > 0 {
                        bench.spool.started(queue_id, hop, 1, "192.0.2.1");
                        bench.spool.append(vec![settled(queue_id, hop, 1, OutcomeState::Delivered)]);
                    } else {
                        kept.lock().push((queue_id, content));
                    }
                }
            });
        }
    });
    bench.answered(240);
    bench.spool.close();
    let (spool, recovery) = open();
    let kept = kept.into_inner();
    assert_eq!((recovery.messages, recovery.records, recovery.damaged), (kept.len() as u64, 0, 0));
    let bell = Arc::new(Bell::default());
    for (queue_id, content) in kept {
        let mut source = spool.content(queue_id).source;
        let chunk = bell.wait_for(|waker| match source.poll(waker) {
            SourcePoll::Chunk(chunk) => Some(chunk),
            SourcePoll::Pending => None,
            other => panic!("{other:?}"),
        });
        assert!(chunk == content);
    }
    spool.close();
}

#[test]
fn large_messages_of_many_connections_come_back_whole_through_blobs() {
    let dir = directory();
    let events = Arc::new(EventLog::default());
    let config = SpoolConfig {
        inline: false,
        segment_bytes: 1 << 20,
        draft_budget_bytes: 3 << 20,
        checkpoint_ms: 20,
        ..config(dir.path())
    };
    let open = || {
        let device = Arc::new(FileDevice::new());
        Spool::open(config.clone(), device, Arc::new(SystemClock), Arc::clone(&events) as _).unwrap()
    };
    let (spool, _) = open();
    let hop = spool.register_hop("smart", HopKind::SmartHost, "mx.contoso.example");
    let content = |nth: usize| -> Vec<u8> {
        (0..1_100_000 + 300_000 * nth).map(|at| (at / 3 + at % 7 + nth) as u8).collect()
    };
    // Each takes 1.1 MB and more, and all of them together have room for 3.
    let send = |nth: usize| {
        let bell = Arc::new(Bell::default());
        let mut draft = loop {
            match spool.draft(0) {
                Ok(draft) => break draft,
                Err(refused) => assert_eq!(refused, DraftRefused::Budget),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let content = content(nth);
        for part in content.chunks(30_000) {
            bell.wait_for(|waker| (draft.offer(part, waker) == Offer::Taken).then_some(()));
        }
        let id = draft.queue_id();
        spool.commit(draft, accepted(hop, content.len() as u64), Bytes::new(), Vec::new());
        (id, content)
    };
    let stored: Vec<(QueueId, Vec<u8>)> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..8).map(|nth| scope.spawn(move || send(nth))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    let is_answer = |event: &SpoolEvent| matches!(event, SpoolEvent::Committed { .. });
    let mut committed = 0;
    while committed < 8 {
        committed += events.wait_for(is_answer).iter().filter(|event| is_answer(event)).count();
    }
    let read_all = |spool: &Spool| {
        for (id, content) in &stored {
            let bell = Arc::new(Bell::default());
            let mut source = spool.content(*id).source;
            let mut octets = Vec::new();
            loop {
                let next = bell.wait_for(|waker| match source.poll(waker) {
                    SourcePoll::Pending => None,
                    next => Some(next),
                });
                match next {
                    SourcePoll::Chunk(chunk) => octets.extend_from_slice(&chunk),
                    SourcePoll::End => break,
                    other => panic!("{other:?}"),
                }
            }
            assert!(octets == *content, "{id}");
        }
    };
    read_all(&spool);
    spool.close();
    let (spool, recovery) = open();
    assert_eq!((recovery.messages, recovery.damaged), (8, 0));
    read_all(&spool);
    let hop = spool.register_hop("smart", HopKind::SmartHost, "mx.contoso.example");
    spool.append(stored.iter().map(|(id, _)| settled(*id, hop, 1, OutcomeState::Delivered)).collect());
    let blobs = dir.path().join("shard-00/blobs");
    eventually("the blobs are removed", || std::fs::read_dir(&blobs).unwrap().count() == 0);
    spool.close();
}

#[test]
fn a_thread_of_the_blobs_that_dies_takes_the_shard_with_it_and_leaves_nobody_waiting() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let config = SpoolConfig { inline: false, blob_bytes: 10_000, ..config(dir.path()) };
    let bench = Threaded::open_with(&device, config);
    let large = vec![7; 100_000];
    bench.commit(&large);
    assert!(matches!(bench.answered(1)[..], [SpoolEvent::Committed { .. }]));
    device.fail_all(Call::SyncDir, Some(Fault::Panic));
    let tickets: Vec<u64> = (0..3).map(|_| bench.commit(&large).0).collect();
    let mut told: Vec<u64> = bench
        .answered(3)
        .into_iter()
        .map(|event| match event {
            SpoolEvent::CommitFailed { ticket, .. } => ticket,
            other => panic!("{other:?}"),
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told, tickets);
    assert!(bench.spool.statistics().failed);
    bench.spool.close();
}
