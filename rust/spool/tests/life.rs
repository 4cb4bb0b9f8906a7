//! What the spool does when nothing fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use common::{Bench, NOW_MS, TRACE, config, directory, reopen, silent};
use parking_lot::Mutex;
use penstock_core::flow::GateState;
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{Call, Fault, FaultyDevice};
use penstock_spool::{Answer, DraftRefused, OutcomeState, Request, SpoolConfig};

const LOG: &str = "shard-00/log";

#[test]
fn content_comes_back_as_it_came_from_the_log_and_from_the_index() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    let sizes = [0, 1, 65_535, 65_536, 65_537, 200_000, 1_000_000];
    let all: Vec<QueueId> = sizes.into_iter().map(|octets| bench.commit(octets).unwrap()).collect();
    bench.step();
    for _ in 0..2 {
        for id in &all {
            assert!(bench.content(*id).unwrap() == bench.ledger.0[id].content);
        }
        bench.sync(Request::Checkpoint);
    }
    assert_eq!(bench.content(QueueId(1)), None);
    let ledger = bench.close();
    reopen(&device.after_kill(), dir.path(), &ledger, "closed");
}

#[test]
fn segments_in_which_nothing_is_left_are_reused_and_the_log_stays_small() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    let keep = bench.commit(5_000).unwrap();
    let mut most = 0;
    for _ in 0..60 {
        let ids: Vec<QueueId> = (0..3).map(|_| bench.commit(20_000).unwrap()).collect();
        bench.step();
        for id in ids {
            bench.deliver(id);
        }
        bench.clock.advance(1_000);
        bench.step();
        most = most.max(device.names(&dir.path().join(LOG)).len());
    }
    assert!(most <= 8, "{most} files");
    assert!(bench.content(keep).is_some());
    let statistics = bench.spool().statistics();
    assert!(statistics.log_bytes < 1 << 20 && statistics.checkpoints > 30, "{statistics:?}");
    let ledger = bench.kill();
    reopen(&device.after_kill(), dir.path(), &ledger, "reused");
}

#[test]
fn a_segment_is_kept_while_its_content_is_read() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    // Slow enough for spares to be made, so that files are used again.
    let pass = |bench: &mut Bench| {
        let id = bench.commit(100_000).unwrap();
        bench.step();
        let reading = bench.spool().content(id).source;
        bench.deliver(id);
        for _ in 0..3 {
            bench.clock.advance(1_000);
            bench.step();
        }
        (id, reading)
    };
    for _ in 0..4 {
        pass(&mut bench);
    }
    let opened = device.count(Call::Allocate) + device.count(Call::Remove);
    let (id, reading) = pass(&mut bench);
    for _ in 0..8 {
        pass(&mut bench);
    }
    assert_eq!(device.count(Call::Allocate) + device.count(Call::Remove), opened, "files are used again");
    assert!(common::read(reading).unwrap() == bench.ledger.0[&id].content);
}

#[test]
fn queue_ids_ascend_across_restarts_whatever_the_clock_says() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut last = QueueId(0);
    for (round, set_back_ms) in [0, 3_600_000, 7_200_000, 0].into_iter().enumerate() {
        let mut bench = Bench::open(&device, dir.path()).unwrap();
        bench.clock.set(NOW_MS - set_back_ms);
        for _ in 0..5_000 {
            let id = bench.draft(b"").unwrap().queue_id();
            assert!(id > last, "round {round}");
            last = id;
        }
        let id = bench.commit(10).unwrap();
        last = id;
        bench.step();
        bench.deliver(id);
        bench.step();
        if round % 2 == 0 {
            bench.kill()
        } else {
            bench.close()
        };
    }
}

#[test]
fn the_header_section_of_a_message_can_be_asked_for() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let bench = Bench::open(&device, dir.path()).unwrap();
    let draft = bench.draft(b"Subject: one\r\n\r\nbody\r\n").unwrap();
    let queue_id = draft.queue_id();
    let accepted = common::accepted(bench.hop, 50);
    bench.spool().commit(draft, accepted, bytes::Bytes::from_static(TRACE), Vec::new());
    bench.spool().step();
    for (queue_id, limit, expected) in [
        (queue_id, 1_000, Some([TRACE, b"Subject: one\r\n"].concat())),
        (queue_id, 8, Some(b"Received".to_vec())),
        (QueueId(5), 1_000, None),
    ] {
        let number = bench.spool().request(Request::Header { queue_id, limit });
        bench.events.take();
        bench.spool().step();
        let events = bench.events.take();
        let answer = Answer::Header { bytes: expected.map(Into::into) };
        assert_eq!(events, [penstock_spool::SpoolEvent::Answer { request: number, answer }]);
    }
}

#[test]
fn an_answer_has_all_that_was_handed_in_before_it_was_asked_for() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    let id = bench.commit(10).unwrap();
    let Some(Answer::Message { watermark, row: Some(row) }) = bench.ask(Request::Message { queue_id: id })
    else {
        panic!("it is there");
    };
    assert_eq!((watermark, row.queue_id, row.size), (1, id, 10 + TRACE.len() as u64));
    bench.spool().append(vec![common::settled(id, bench.hop, 0, OutcomeState::Deferred)]);
    assert!(matches!(
        bench.ask(Request::Message { queue_id: id }),
        Some(Answer::Message { watermark: 2, row: Some(row) }) if row.recipients[0].state == Some(OutcomeState::Deferred)
    ));
    assert!(matches!(bench.ask(Request::Sync), Some(Answer::Done { lsn: 2 })));
}

#[test]
fn the_index_is_never_ahead_of_what_is_durable() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench =
        Bench::open_with(&device, SpoolConfig { checkpoint_ms: 1, ..config(dir.path()) }).unwrap();
    let id = bench.commit(10).unwrap();
    bench.step();
    bench.start(id);
    bench.clock.advance(2);
    bench.spool().step();
    let told = |bench: &Bench| {
        let watermark = |event| match event {
            penstock_spool::SpoolEvent::Checkpoint { watermark } => Some(watermark),
            _ => None,
        };
        bench.events.take().into_iter().filter_map(watermark).collect::<Vec<_>>()
    };
    assert_eq!(told(&bench), [1], "the start is written and not synced");
    bench.clock.advance(10);
    bench.spool().step();
    assert_eq!(told(&bench), [2]);
}

#[test]
fn a_lone_commit_costs_one_write_and_one_sync() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench =
        Bench::open_with(&device, SpoolConfig { segment_bytes: 1 << 20, ..config(dir.path()) }).unwrap();
    bench.step();
    for octets in [10, 5_000, 200_000] {
        let before = (device.count(Call::Write), device.count(Call::Sync));
        bench.commit(octets);
        bench.step();
        assert_eq!((device.count(Call::Write), device.count(Call::Sync)), (before.0 + 1, before.1 + 1));
    }
}

#[test]
fn what_waits_together_is_written_and_synced_together() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench =
        Bench::open_with(&device, SpoolConfig { segment_bytes: 1 << 20, ..config(dir.path()) }).unwrap();
    bench.step();
    let before = (device.count(Call::Write), device.count(Call::Sync));
    for _ in 0..50 {
        bench.commit(4_000);
    }
    bench.step();
    assert_eq!((device.count(Call::Write), device.count(Call::Sync)), (before.0 + 1, before.1 + 1));
    assert!(bench.ledger.0.values().all(|entry| entry.is_acked));
    let statistics = bench.spool().statistics();
    assert_eq!((statistics.group_messages.sum, statistics.records), (50, 50));
}

#[test]
fn what_came_and_went_is_not_appended_again() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    let gone: Vec<QueueId> = (0..5).map(|_| bench.commit(9_000).unwrap()).collect();
    let kept = bench.commit(9_000).unwrap();
    bench.step();
    for id in gone {
        bench.deliver(id);
    }
    bench.step();
    let ledger = bench.kill();
    let (mut bench, _dir) = reopen(&device.after_kill(), dir.path(), &ledger, "once");
    assert_eq!(bench.recovery.records, 16);
    assert_eq!((bench.recovery.messages, bench.messages()[0].queue_id), (1, kept));
    assert!(bench.spool().statistics().log_bytes < 40_000, "a page, the one message, and room to a page");
}

#[test]
fn drafts_share_a_budget() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let small = SpoolConfig { draft_budget_bytes: 100_000, ..config(dir.path()) };
    let mut bench = Bench::open_with(&device, small).unwrap();
    let drafts: Vec<_> = (0..2).map(|_| bench.draft(&vec![1; 40_000]).unwrap()).collect();
    assert!(matches!(bench.spool().draft(40_000), Err(DraftRefused::Budget)));
    drop(drafts);
    for _ in 0..10 {
        bench.commit(60_000).unwrap();
        bench.step();
    }
}

#[test]
fn the_index_has_room_to_grow_into_when_the_disk_is_full() {
    use std::os::unix::fs::MetadataExt;
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    // What the file has of the disk beyond its end; blocks are counted in units of 512 octets.
    let room = || {
        let file = std::fs::metadata(dir.path().join("shard-00/index/data.mdb")).unwrap();
        (512 * file.blocks()).saturating_sub(file.len())
    };
    for _ in 0..20 {
        bench.clock.advance(1_000);
        bench.step();
        assert!(room() >= 32 << 10, "{}", room());
        for _ in 0..10 {
            bench.commit(100).unwrap();
        }
        bench.sync(Request::Checkpoint);
    }
}

/// A spool that has delivered so many messages' worth of outcomes, none of them synced, and a message to be sent.
fn with_unsynced(outcomes: usize) -> (Bench, tempfile::TempDir, QueueId) {
    let dir = directory();
    let mut bench = Bench::open(&FaultyDevice::new(1), dir.path()).unwrap();
    let id = bench.commit(100).unwrap();
    bench.step();
    let fact = common::settled(id, bench.hop, 0, OutcomeState::Deferred);
    bench.spool().append(vec![fact; outcomes]);
    bench.step();
    (bench, dir, id)
}

#[test]
fn no_attempt_begins_while_more_than_a_thousand_outcomes_are_not_synced() {
    for (outcomes, state) in [(1_000, GateState::Open), (1_001, GateState::Closed)] {
        let (mut bench, _dir, id) = with_unsynced(outcomes);
        let mut gate = bench.start(id);
        bench.step();
        assert_eq!(gate.state(&silent()), state, "{outcomes} outcomes");
        // They are synced within ten milliseconds, and the start with them.
        bench.clock.advance(10);
        bench.step();
        assert_eq!(gate.state(&silent()), GateState::Open, "{outcomes} outcomes");
        let mut next = bench.start(id);
        bench.step();
        assert_eq!(next.state(&silent()), GateState::Open, "{outcomes} outcomes");
    }
}

#[test]
fn no_attempt_begins_while_an_outcome_is_not_synced_for_two_seconds() {
    for (ms, state) in [(1_999, GateState::Open), (2_000, GateState::Closed)] {
        let (mut bench, _dir, id) = with_unsynced(1);
        bench.clock.advance(ms);
        let gate = Arc::new(Mutex::new(bench.start(id)));
        let seen = Arc::new(Mutex::new(None));
        let (own, shown) = (Arc::clone(&gate), Arc::clone(&seen));
        let unsynced = bench.device.moment().unsynced().len();
        bench.device.watch(Arc::new(move |moment| {
            // The next change of the disk writes the start, the one after that is the sync that it waits for.
            if moment.unsynced().len() > unsynced {
                shown.lock().get_or_insert_with(|| own.lock().state(&silent()));
            }
        }));
        bench.step();
        assert_eq!(*seen.lock(), Some(state), "{ms} ms");
        assert_eq!(gate.lock().state(&silent()), GateState::Open, "{ms} ms");
    }
}

#[test]
fn an_attempt_that_was_held_back_fails_with_the_log() {
    let (mut bench, _dir, id) = with_unsynced(1_001);
    let mut gate = bench.start(id);
    bench.step();
    bench.device.fail_all(Call::Sync, Some(Fault::Io));
    bench.clock.advance(10);
    bench.step();
    assert!(bench.poisoned);
    assert_eq!(gate.state(&silent()), GateState::Failed);
}
