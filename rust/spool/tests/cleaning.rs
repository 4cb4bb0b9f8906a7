//! Segments in which little is left are emptied, and nothing is lost or doubled by it, whatever happens meanwhile.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{Bench, Ledger, NOW_MS, config, directory, reopen};
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{Call, Fault, FaultyDevice};
use penstock_spool::{Disposition, DraftRefused, Fact, OutcomeState, Request, SpoolConfig};

const LOG: &str = "shard-00/log";
const SEGMENT_BYTES: u64 = 32 << 10;

fn small(path: &Path) -> SpoolConfig {
    SpoolConfig { segment_bytes: SEGMENT_BYTES, clean_bytes_per_s: 1 << 30, ..config(path) }
}

fn bench(path: &Path) -> Bench {
    Bench::open_with(&FaultyDevice::new(1), small(path)).unwrap()
}

/// Let time pass, for cleaning and for checkpoints.
fn wait(bench: &mut Bench, ms: u64) {
    for _ in 0..ms / 20 {
        bench.clock.advance(20);
        bench.step();
    }
}

/// Take messages and deliver all but every `nth`; tells those.
fn leave_every(bench: &mut Bench, nth: usize, count: usize, octets: usize) -> Vec<QueueId> {
    let mut left = Vec::new();
    for at in 0..count {
        let id = bench.commit(octets).unwrap();
        bench.step();
        if at % nth == 0 {
            left.push(id);
        } else {
            bench.deliver(id);
        }
        if at % 50 == 0 {
            bench.clock.advance(1_000);
        }
    }
    left
}

fn check(bench: &mut Bench, left: &[QueueId]) {
    let found: Vec<QueueId> = bench.messages().iter().map(|row| row.queue_id).collect();
    assert_eq!(found, left);
    for id in left {
        assert!(bench.content(*id).unwrap() == bench.ledger.0[id].content, "{id}");
    }
}

/// Octets of all that is in the directory of the log, and what is alive in it.
fn log_bytes(bench: &Bench) -> (u64, u64) {
    let statistics = bench.spool().statistics();
    let beside =
        bench.device.names(&bench.path.join(LOG)).iter().filter(|name| !name.contains(".seg")).count();
    (statistics.log_bytes + beside as u64 * SEGMENT_BYTES, statistics.live_bytes)
}

#[test]
fn one_stuck_message_a_segment_does_not_keep_the_segments() {
    let dir = directory();
    let mut bench = bench(dir.path());
    let left = leave_every(&mut bench, 10, 3_000, 2_000);
    wait(&mut bench, 10_000);
    let (log, live) = log_bytes(&bench);
    assert!(live > 300 * 2_000, "all that is stuck is there");
    assert!(log <= 2 * live + 8 * SEGMENT_BYTES, "{log} for {live}");
    let statistics = bench.spool().statistics();
    assert!(statistics.cleaned_messages > 200 && statistics.cleaned_bytes > 200 * 2_000, "{statistics:?}");
    assert!(!statistics.is_cleaning, "it has an end");
    let rate = statistics.records;
    wait(&mut bench, 10_000);
    assert_eq!(bench.spool().statistics().records, rate, "and does not begin again");
    check(&mut bench, &left);
    // What lives on is delivered, and then nothing is left.
    let ledger = bench.ledger.clone();
    let (mut after, _dir) = reopen(&bench.device.after_kill(), dir.path(), &ledger, "cleaned");
    after.resume(ledger);
    check(&mut after, &left);
    for id in left {
        bench.deliver(id);
    }
    wait(&mut bench, 2_000);
    assert_eq!(bench.spool().statistics().live_bytes, 0);
    assert!(log_bytes(&bench).0 <= 8 * SEGMENT_BYTES);
}

#[test]
fn messages_that_fill_no_page_are_packed() {
    let dir = directory();
    let mut bench = bench(dir.path());
    let left = leave_every(&mut bench, 1, 600, 300);
    wait(&mut bench, 5_000);
    let (log, live) = log_bytes(&bench);
    assert!(log <= 2 * live + 8 * SEGMENT_BYTES, "{log} for {live}");
    assert!(600 * 4_096 > 2 * live + 8 * SEGMENT_BYTES, "before, it was more");
    check(&mut bench, &left);
    let records = bench.spool().statistics().records;
    wait(&mut bench, 5_000);
    assert_eq!(bench.spool().statistics().records, records, "once is enough");
}

#[test]
fn it_can_be_turned_off_and_has_a_rate() {
    let moved = |rate: u64, ms: u64| {
        let dir = directory();
        let limited = SpoolConfig { clean_bytes_per_s: rate, ..small(dir.path()) };
        let mut bench = Bench::open_with(&FaultyDevice::new(1), limited).unwrap();
        leave_every(&mut bench, 12, 600, 2_000);
        let before = bench.spool().statistics().cleaned_bytes;
        wait(&mut bench, ms);
        bench.spool().statistics().cleaned_bytes - before
    };
    assert_eq!(moved(0, 20_000), 0);
    let slow = moved(8 << 10, 10_000);
    assert!(slow <= 80 << 10, "what is read counts too: {slow}");
    assert!(moved(1 << 30, 10_000) > slow);
}

#[test]
fn a_message_that_is_in_flight_is_moved_and_read_on_where_it_was() {
    let dir = directory();
    let mut bench = bench(dir.path());
    let flying = bench.commit(9_000).unwrap();
    bench.step();
    let mut gate = bench.start(flying);
    bench.step();
    assert_eq!(gate.state(&common::silent()), penstock_core::flow::GateState::Open);
    let reading = bench.spool().content(flying).source;
    let mut left = vec![flying];
    left.extend(leave_every(&mut bench, 10, 400, 2_000));
    wait(&mut bench, 5_000);
    assert!(bench.device.names(&dir.path().join(LOG)).contains(&"00000001.seg".into()), "held by its reader");
    assert!(common::read(reading).unwrap() == bench.ledger.0[&flying].content);
    let done = bench.commit(100).unwrap();
    bench.step();
    bench.deliver(done);
    wait(&mut bench, 2_000);
    assert!(!bench.device.names(&dir.path().join(LOG)).contains(&"00000001.seg".into()), "nobody holds it");
    check(&mut bench, &left);
    // Its attempt is in doubt still if the process dies now, and ends as it would have if not.
    let ledger = bench.ledger.clone();
    let (after, _dir) = reopen(&bench.device.after_kill(), dir.path(), &ledger, "in flight");
    let doubts: Vec<_> = after.recovery.in_doubt.iter().map(|one| (one.queue_id, one.attempt)).collect();
    assert_eq!((doubts, after.recovery.in_doubt[0].peer.as_str()), (vec![(flying, 1)], "192.0.2.1"));
    bench.settle(flying);
    wait(&mut bench, 2_000);
    left.retain(|id| *id != flying);
    check(&mut bench, &left);
}

#[test]
fn a_message_of_which_the_log_says_more_than_the_index_is_not_moved_yet() {
    let dir = directory();
    // No checkpoint but those that are asked for.
    let rare = SpoolConfig { checkpoint_ms: 1 << 40, ..small(dir.path()) };
    let mut bench = Bench::open_with(&FaultyDevice::new(1), rare).unwrap();
    let left = leave_every(&mut bench, 20, 400, 2_000);
    bench.sync(Request::Checkpoint).unwrap();
    bench.clock.advance(11);
    bench.step();
    let before = bench.spool().statistics().cleaned_messages;
    // All that could be moved is deferred, and the index does not know.
    for &id in &left {
        bench.start(id);
        bench.step();
        let due = Fact::Settled {
            queue_id: id,
            hop: bench.hop,
            attempt: 1,
            disposition: Disposition::Due { due_ms: NOW_MS + 77 },
            outcomes: Vec::new(),
            peer: String::new(),
            session: String::new(),
        };
        bench.spool().append(vec![due]);
        bench.step();
    }
    let moved_early = bench.spool().statistics().cleaned_messages - before;
    wait(&mut bench, 30_000);
    let moved_late = bench.spool().statistics().cleaned_messages - before - moved_early;
    assert_eq!(moved_late, 0, "the index is behind");
    for _ in 0..60 {
        bench.sync(Request::Checkpoint).unwrap();
        wait(&mut bench, 1_000);
    }
    assert!(bench.spool().statistics().cleaned_messages - before > 10);
    check(&mut bench, &left);
    for row in bench.messages() {
        assert_eq!((row.entries[0].attempts, row.entries[0].due_ms), (1, NOW_MS + 77));
        assert!(!row.entries[0].in_doubt);
    }
}

#[test]
fn a_segment_with_a_damaged_content_is_left_and_reported_and_others_are_cleaned() {
    let dir = directory();
    let mut bench = bench(dir.path());
    // The first message of the first segment, whose content begins within the second page.
    let broken = bench.commit(9_000).unwrap();
    bench.step();
    let path = dir.path().join(LOG).join("00000001.seg");
    bench.device.flip(&path, 4_096 + 5_000, 3);
    let mut left = leave_every(&mut bench, 10, 600, 2_000);
    wait(&mut bench, 5_000);
    let statistics = bench.spool().statistics();
    assert_eq!(statistics.damaged_segments, 1);
    assert!(statistics.cleaned_messages > 40, "{statistics:?}");
    let reports = || bench.device.names(&dir.path().join("shard-00/damaged"));
    assert_eq!(reports().len(), 1);
    assert_eq!(bench.content(broken), None, "no octet of it is given to anyone, moved or not");
    assert!(reports().iter().all(|report| report.starts_with("00000001-")), "{:?}", reports());
    assert!(bench.device.names(&dir.path().join(LOG)).contains(&"00000001.seg".into()));
    let found: BTreeSet<QueueId> = bench.messages().iter().map(|row| row.queue_id).collect();
    assert!(found.contains(&broken), "it is still known");
    left.retain(|id| bench.content(*id).is_some_and(|content| content == bench.ledger.0[id].content));
    assert_eq!(left.len(), 60);
}

#[test]
fn a_record_whose_body_is_damaged_is_reported_when_the_rest_of_its_segment_is_gone() {
    let dir = directory();
    let mut bench = bench(dir.path());
    bench.commit(9_000).unwrap();
    bench.step();
    bench.device.flip(&dir.path().join(LOG).join("00000001.seg"), 4_096 + 80, 3);
    leave_every(&mut bench, 10, 600, 2_000);
    wait(&mut bench, 8_000);
    assert_eq!(bench.device.names(&dir.path().join("shard-00/damaged")), ["00000001-4096.txt"]);
}

#[test]
fn a_full_disk_is_cleaned_until_there_is_room_for_mail() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open_with(&device, small(dir.path())).unwrap();
    bench.step();
    device.set_capacity(1 << 20);
    let mut taken = Vec::new();
    while let Some(id) = bench.commit(2_000) {
        bench.step();
        if bench.ledger.0[&id].is_refused {
            break;
        }
        taken.push(id);
    }
    assert!(taken.len() > 200 && !bench.poisoned);
    // In every segment one message cannot be delivered, and no other message goes.
    assert!(matches!(bench.spool().draft(0), Err(DraftRefused::DiskFull)));
    device.set_capacity(device.used());
    let mut left = Vec::new();
    for (nth, &id) in taken.iter().enumerate() {
        if nth % 5 == 0 {
            left.push(id);
        } else {
            bench.deliver(id);
        }
        if nth % 20 == 19 {
            wait(&mut bench, 3_000);
        }
    }
    wait(&mut bench, 5_000);
    check(&mut bench, &left);
    let (log, live) = log_bytes(&bench);
    assert!(log <= 2 * live + 8 * SEGMENT_BYTES, "{log} for {live}");
    let id = bench.commit(2_000).unwrap();
    bench.step();
    assert!(bench.ledger.0[&id].is_acked && !bench.poisoned);
}

/// A short life in which segments are cleaned, messages are in flight and deferred, and mail goes on.
fn scenario(device: &FaultyDevice, path: &Path) -> (Ledger, u64) {
    let tiny = SpoolConfig { segment_bytes: 16 << 10, ..small(path) };
    let Ok(mut bench) = Bench::open_with(device, tiny) else { return (Ledger::default(), 0) };
    let mut left = Vec::new();
    for nth in 0..24 {
        let Some(id) = bench.commit(3_000) else { continue };
        bench.step();
        if nth % 4 == 0 {
            left.push(id);
        } else {
            bench.deliver(id);
        }
    }
    if let Some(&id) = left.first() {
        bench.start(id);
    }
    bench.sync(Request::Checkpoint);
    for nth in 0..3 {
        bench.clock.advance(1_000);
        bench.step();
        wait(&mut bench, 60);
        if let Some(id) = bench.commit(500) {
            left.push(id);
        }
        if nth == 1 && left.len() > 2 {
            let id = left.remove(1);
            bench.deliver(id);
        }
        bench.step();
    }
    bench.sync(Request::Checkpoint);
    bench.step();
    let cleaned = bench.spool().statistics().cleaned_messages;
    (bench.kill(), cleaned)
}

fn sweep(fault: Fault, seeds: u64) {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let (ledger, cleaned) = scenario(&device, dir.path());
    assert!(cleaned >= 4, "{cleaned}");
    reopen(&device.after_kill(), dir.path(), &ledger, "no fault");
    let calls = device.calls().len() as u64;
    println!("{calls} calls, each {fault:?}; {cleaned} messages moved");
    common::sweep(calls, fault, seeds, |device, path| scenario(device, path).0);
}

#[test]
fn a_machine_that_stops_at_any_point_of_cleaning_has_kept_its_promises() {
    sweep(Fault::Halt, 3);
}

#[test]
fn an_error_of_the_disk_at_any_point_of_cleaning_breaks_no_promise() {
    sweep(Fault::Io, 1);
}

#[test]
fn a_full_disk_at_any_point_of_cleaning_breaks_no_promise() {
    sweep(Fault::Full, 1);
}

/// Numbers that look random (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn whatever_happens_in_whatever_order_nothing_is_lost_or_doubled() {
    let mut cleaned = 0;
    for seed in 1..=30 {
        let mut chance = Chance(seed * 0x9e37_79b9);
        let (device, mut dir) = (FaultyDevice::new(seed), directory());
        let tiny = |path: &Path| SpoolConfig { segment_bytes: 16 << 10, ..small(path) };
        let mut bench = Bench::open_with(&device, tiny(dir.path())).unwrap();
        let (mut waiting, mut flying): (Vec<QueueId>, Vec<QueueId>) = (Vec::new(), Vec::new());
        for life in 0..3 {
            for _ in 0..chance.below(150) {
                let some = |chance: &mut Chance, of: &[QueueId]| {
                    (!of.is_empty()).then(|| of[chance.below(of.len() as u64) as usize])
                };
                match chance.below(12) {
                    0..4 => waiting.extend(bench.commit(chance.below(6_000) as usize)),
                    4..6 => {
                        if let Some(id) = some(&mut chance, &waiting) {
                            waiting.retain(|other| *other != id);
                            bench.deliver(id);
                        }
                    }
                    6 => {
                        if let Some(id) = some(&mut chance, &waiting) {
                            waiting.retain(|other| *other != id);
                            flying.push(id);
                            bench.start(id);
                        }
                    }
                    7 => {
                        if let Some(id) = some(&mut chance, &flying) {
                            flying.retain(|other| *other != id);
                            if chance.below(2) == 0 {
                                bench.settle(id);
                            } else {
                                bench.defer(id, OutcomeState::Deferred);
                                waiting.push(id);
                            }
                        }
                    }
                    8 => drop(bench.sync(Request::Checkpoint)),
                    9 => bench.step(),
                    _ => wait(&mut bench, 20 * chance.below(60)),
                }
            }
            cleaned += bench.spool().statistics().cleaned_messages;
            let crashed = bench.device.clone();
            let ledger = bench.kill();
            let what = format!("seed {seed}, life {life}");
            let device = match chance.below(2) {
                0 => crashed.after_kill(),
                _ => crashed.after_power_loss(seed + life),
            };
            let next = directory();
            common::copy_index(dir.path(), next.path());
            let device = device.moved(dir.path(), next.path());
            dir = next;
            bench =
                Bench::open_with(&device, tiny(dir.path())).unwrap_or_else(|error| panic!("{what}: {error}"));
            ledger.check(&mut bench, &what);
            bench.resume(ledger);
            let rows = bench.messages();
            waiting = rows.iter().map(|row| row.queue_id).collect();
            flying.clear();
        }
    }
    assert!(cleaned > 300, "{cleaned}");
    println!("{cleaned} messages moved");
}

#[test]
fn cleaning_reads_nothing_while_there_is_nothing_to_clean() {
    let dir = directory();
    let mut bench = bench(dir.path());
    for _ in 0..100 {
        bench.commit(4_000).unwrap();
    }
    bench.step();
    bench.sync(Request::Checkpoint);
    let reads = bench.device.count(Call::Read);
    wait(&mut bench, 5_000);
    assert_eq!(bench.device.count(Call::Read), reads);
}
