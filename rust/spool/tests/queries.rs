//! Queries as a spool answers them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Bench, directory};
use parking_lot::{Condvar, Mutex};
use penstock_spool::testing::{Call, Fault, FaultyDevice};
use penstock_spool::{
    Answer, Budget, Execution, Operator, Property, Query, Request, Sort, Spool, SpoolConfig, SpoolEvent,
    SpoolSink, Standing, SystemClock, Table, Tree, Value, Want,
};

fn execution(want: Want) -> Box<Execution> {
    // Something that counters alone do not know.
    let tree = Tree::Compare(Property::SizeBytes, Operator::Gt, Value::Number(0));
    Box::new(Execution::new(Query::new(Table::Messages, &tree, Standing::default(), want).unwrap()))
}

fn ask(bench: &mut Bench, execution: Box<Execution>, rows: u64) -> Box<Execution> {
    let request = Request::Query { execution, budget: Budget { rows, time_ms: 100 } };
    match bench.ask(request) {
        Some(Answer::Query { execution }) => execution,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_query_sees_all_that_was_appended_before_it_was_asked() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    for size in 1..=5 {
        bench.commit(100 * size).unwrap();
    }
    let found = ask(&mut bench, execution(Want::Count), 100);
    assert_eq!((found.is_complete(), found.total().0), (true, 5));
    let sort = vec![Sort { property: Property::SizeBytes, is_descending: true }];
    let want = Want::Rows { select: vec![Property::SizeBytes], sort, after: None, limit: 2 };
    let found = ask(&mut bench, execution(want), 100);
    let sizes: Vec<_> = found.rows().iter().flat_map(|row| row.values.clone()).collect();
    let size = |octets: usize| Value::Number((octets + common::TRACE.len()) as u64);
    assert_eq!(sizes, [size(500), size(400)]);
}

#[test]
fn a_query_that_goes_on_makes_no_checkpoint_and_tells_both_watermarks() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    for _ in 0..10 {
        bench.commit(100).unwrap();
    }
    let begun = ask(&mut bench, execution(Want::Count), 4);
    let (first, last) = begun.watermarks().unwrap();
    assert_eq!((begun.is_complete(), begun.total().0, first), (false, 4, last));
    bench.commit(100).unwrap();
    let later = ask(&mut bench, begun.clone(), 4);
    assert_eq!((later.total().0, later.watermarks()), (8, Some((first, first))), "nothing new in the index");
    bench.sync(Request::Checkpoint);
    let ended = ask(&mut bench, later, 4);
    let (kept, newer) = ended.watermarks().unwrap();
    assert_eq!((ended.is_complete(), ended.total().0), (true, 11));
    assert!(kept == first && newer > first);
}

#[test]
fn too_many_queries_at_once_are_sent_back_as_they_are() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    for _ in 0..3 {
        bench.commit(100).unwrap();
    }
    let begun = ask(&mut bench, execution(Want::Count), 1);
    bench.events.take();
    let budget = Budget { rows: 1, time_ms: 100 };
    let waiting = (0..64).map(|_| bench.spool().request(Request::Query { execution: begun.clone(), budget }));
    let waiting: Vec<u64> = waiting.collect();
    let refused = bench.spool().request(Request::Query { execution: begun.clone(), budget });
    let busy = SpoolEvent::Answer { request: refused, answer: Answer::Busy { execution: begun } };
    assert_eq!(bench.events.take(), [busy]);
    bench.spool().step();
    let answered = bench.events.take().into_iter().filter_map(|event| match event {
        SpoolEvent::Answer { request, answer: Answer::Query { .. } } => Some(request),
        _ => None,
    });
    assert_eq!(answered.collect::<Vec<_>>(), waiting);
}

#[test]
fn a_shard_whose_log_has_failed_answers_no_query() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = Bench::open(&device, dir.path()).unwrap();
    for _ in 0..3 {
        bench.commit(100).unwrap();
    }
    let begun = ask(&mut bench, execution(Want::Count), 1);
    device.fail_all(Call::Sync, Some(Fault::Io));
    bench.commit(100).unwrap();
    bench.step();
    let request = Request::Query { execution: begun, budget: Budget { rows: 1, time_ms: 100 } };
    assert!(matches!(bench.ask(request), Some(Answer::Failed { .. })));
}

/// Who answers what.
#[derive(Default)]
struct Answerers {
    seen: Mutex<Vec<(u64, String)>>,
    more: Condvar,
}

impl SpoolSink for Answerers {
    fn push(&self, events: Vec<SpoolEvent>) {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let answers = events.iter().filter_map(|event| match event {
            SpoolEvent::Answer { request, .. } => Some((*request, name.clone())),
            _ => None,
        });
        self.seen.lock().extend(answers);
        self.more.notify_all();
    }
}

#[test]
fn queries_are_answered_by_a_thread_that_nothing_else_waits_for() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let answerers = Arc::new(Answerers::default());
    let config = SpoolConfig { inline: false, ..common::config(dir.path()) };
    let (spool, _) =
        Spool::open(config, Arc::new(device), Arc::new(SystemClock), Arc::clone(&answerers) as _).unwrap();
    let budget = Budget { rows: 1, time_ms: 100 };
    let query = spool.request(Request::Query { execution: execution(Want::Count), budget });
    let hops = spool.request(Request::Hops);
    let mut seen = answerers.seen.lock();
    while seen.len() < 2 {
        assert!(!answerers.more.wait_for(&mut seen, Duration::from_secs(10)).timed_out(), "{seen:?}");
    }
    seen.sort();
    assert_eq!(*seen, [(query, "spool-query".to_owned()), (hops, "spool-index".to_owned())]);
    drop(seen);
    spool.close();
}
