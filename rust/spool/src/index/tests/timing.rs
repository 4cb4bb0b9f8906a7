//! What checkpoints and refills cost. Run by hand: `cargo test --release -p penstock-spool timing -- --ignored --nocapture`.

use std::time::Instant;

use super::{Index, Log, hop, message, open, way};
use crate::facts::{Disposition, OutcomeState};
use crate::index::tests::outcome;
use crate::redo::Redo;
use crate::rows::{Answer, Request};

const BATCH: u64 = 10_000;
const ENTRIES: u64 = 1_000_000;
const SENDERS: u64 = 100_000;

fn accept(log: &mut Log, id: u64, hops: u64) -> Redo {
    let mut accepted = message(id, 1, vec![way((id % hops) as u8, [0], id)]);
    accepted.sender = format!("sender-{}@example.org", id % SENDERS);
    log.accepted(id, id / 15_000, accepted)
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = run();
    println!("{what}: {:.2} ms", begun.elapsed().as_secs_f64() * 1e3);
    result
}

fn apply(index: &Index, log: &Log, what: &str, redo: &[Redo]) {
    timed(what, || index.apply(redo, log.end()).unwrap());
}

#[test]
#[ignore = "a measurement, not a test"]
fn timing_of_checkpoints_and_refills() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    for batch in 0..ENTRIES / BATCH {
        let redo: Vec<_> = (0..BATCH).map(|nth| accept(&mut log, batch * BATCH + nth, 4)).collect();
        let begun = Instant::now();
        index.apply(&redo, log.end()).unwrap();
        if batch % 33 == 0 {
            println!(
                "apply 10,000 accepted after {}: {:.1} ms",
                batch * BATCH,
                begun.elapsed().as_secs_f64() * 1e3
            );
        }
    }
    println!("file with 10^6 entries: {} MiB", index.size_bytes() >> 20);
    let request = Request::Refill { hop: hop(1), limit: 300, now_ms: u64::MAX };
    for _ in 0..3 {
        let answer = timed("refill of 300", || index.answer(&request).unwrap());
        assert!(matches!(answer, Answer::Entries { rows, complete: false, .. } if rows.len() == 300));
    }
    timed("hops", || index.answer(&Request::Hops).unwrap());
    let request = Request::Expired { now_ms: u64::MAX, limit: 300 };
    timed("expired, 300", || index.answer(&request).unwrap());
    let mut redo = Vec::new();
    for id in 0..BATCH {
        redo.push(log.started(id, (id % 4) as u8, 1));
        let deferred = vec![outcome(0, OutcomeState::Deferred)];
        redo.push(log.settled(
            id,
            (id % 4) as u8,
            1,
            Disposition::Due { due_ms: 2 * ENTRIES + id },
            deferred,
        ));
    }
    apply(&index, &log, "apply 10,000 deferred", &redo);
    let redo: Vec<_> = (0..BATCH).map(|id| log.delivered(id, (id % 4) as u8, 2, &[0])).collect();
    apply(&index, &log, "apply 10,000 delivered", &redo);
    for round in 2..5 {
        let mut redo = Vec::new();
        for id in round * ENTRIES..round * ENTRIES + BATCH {
            redo.push(accept(&mut log, id, 4));
            redo.push(log.started(id, (id % 4) as u8, 1));
            redo.push(log.delivered(id, (id % 4) as u8, 1, &[0]));
        }
        apply(&index, &log, "apply 10,000 that came and went", &redo);
        log.lsn += 1;
        apply(&index, &log, "apply nothing, with its sync", &[]);
    }
    drop(index);
    let index = timed("open", || open(dir.path()));
    timed("first refill of 300 after open", || {
        index.answer(&Request::Refill { hop: hop(2), limit: 300, now_ms: u64::MAX }).unwrap()
    });
    let first = timed("stored", || index.stored(penstock_core::queue_id::QueueId(77_777)).unwrap());
    assert!(first.is_some());
}
