//! What the spool costs: appending, committing, refilling a delivery queue, queries, replay, salvage.
//!
//! `make bench-spool`, or `cargo bench -p penstock-spool`. Everything lies below `PENSTOCK_BENCH_DIR`, by default
//! `/var/tmp`, which ought to be a disk. Each part of the spool has a function here; a new one is added to the group at
//! the end.

#![allow(missing_docs, reason = "criterion makes a function")]

mod bare;
mod support;

/// As in the extension: content and records are allocated by one thread and freed by another.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use penstock_spool::{
    Answer, Budget, Execution, Operator, OutcomeState, Property, Query, Request, SpoolConfig, Standing,
    Table, Tree, Value, Want,
};
use support::{Inline, directory, settled};

/// Outcomes that are written together, and synced later.
fn append(criterion: &mut Criterion) {
    const FACTS: usize = 100;
    let dir = directory();
    let spool = Inline::open(SpoolConfig { path: dir.path().into(), ..support::config() });
    let ids = spool.fill(FACTS, 1_024);
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(FACTS as u64));
    group.bench_function("100 outcomes", |bencher| {
        bencher.iter(|| {
            let fact = |id: &_| settled(*id, spool.hop, 0, OutcomeState::Deferred);
            spool.spool.append(ids.iter().map(fact).collect());
            spool.spool.step();
        });
    });
    group.finish();
}

/// The first page of a delivery queue.
fn ready_refill(criterion: &mut Criterion) {
    const WAITING: usize = 20_000;
    let dir = directory();
    let spool = Inline::open(SpoolConfig { path: dir.path().into(), ..support::config() });
    spool.fill(WAITING, 1_024);
    spool.ask(Request::Checkpoint);
    let mut group = criterion.benchmark_group("ready refill");
    group.throughput(Throughput::Elements(300));
    group.bench_function("300 of 20,000", |bencher| {
        bencher.iter(|| {
            let request = Request::Refill { hop: spool.hop, limit: 300, now_ms: support::NOW_MS };
            let Answer::Entries { rows, .. } = spool.ask(request) else { panic!("no entries") };
            assert_eq!(rows.len(), 300);
        });
    });
    group.finish();
}

/// Opening what a kill has left: everything is in the log, nothing in the index.
fn replay(criterion: &mut Criterion) {
    const WAITING: usize = 20_000;
    let left = directory();
    let never = SpoolConfig {
        checkpoint_ms: 1 << 40,
        checkpoint_bytes: 1 << 40,
        checkpoint_records: 1 << 40,
        ..support::config()
    };
    let spool = Inline::open(SpoolConfig { path: left.path().into(), ..never.clone() });
    spool.fill(WAITING, 1_024);
    drop(spool);
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(WAITING as u64)).sample_size(10);
    group.bench_function("20,000 messages of 1 KB", |bencher| {
        let copy = || {
            let dir = directory();
            support::copy(left.path(), dir.path());
            dir
        };
        let open = |dir: tempfile::TempDir| {
            let spool = Inline::open(SpoolConfig { path: dir.path().into(), ..never.clone() });
            assert_eq!(spool.messages, WAITING as u64);
            // The directory is removed outside the measurement.
            (dir, spool)
        };
        bencher.iter_batched(copy, open, BatchSize::PerIteration);
    });
    group.finish();
}

/// Questions for which every message that waits is looked at.
fn query(criterion: &mut Criterion) {
    const WAITING: usize = 50_000;
    let dir = directory();
    let spool = Inline::open(SpoolConfig { path: dir.path().into(), ..support::config() });
    spool.fill(WAITING, 100);
    spool.ask(Request::Checkpoint);
    let all = Tree::And(Vec::new());
    let large = Tree::Compare(Property::SizeBytes, Operator::Gt, Value::Number(0));
    let asked = [
        ("group by domain", &all, Want::Groups { by: Property::RecipientDomain, top: 100 }),
        ("count by size", &large, Want::Count),
    ];
    let mut group = criterion.benchmark_group("query");
    group.throughput(Throughput::Elements(WAITING as u64)).sample_size(10);
    for (what, tree, want) in asked {
        group.bench_function(format!("{what}, 50,000"), |bencher| {
            bencher.iter(|| {
                let query = Query::new(Table::Messages, tree, Standing::default(), want.clone());
                let execution = Box::new(Execution::new(query.expect("a query")));
                let budget = Budget { rows: u64::MAX, time_ms: u64::MAX };
                let Answer::Query { execution } = spool.ask(Request::Query { execution, budget }) else {
                    panic!("no answer")
                };
                assert!(execution.is_complete() && execution.total().0 == WAITING as u64);
            });
        });
    }
    group.finish();
}

/// The index anew from the log, which has mail that waits: reading, checking and applying, and the sync at the end.
/// `PENSTOCK_BENCH_MESSAGES` says how many messages.
fn salvage(criterion: &mut Criterion) {
    let messages = std::env::var("PENSTOCK_BENCH_MESSAGES").ok().and_then(|number| number.parse().ok());
    let messages = messages.unwrap_or(100_000);
    let dir = directory();
    let config = SpoolConfig { path: dir.path().into(), ..support::config() };
    let spool = Inline::open(config.clone());
    spool.fill(messages, 1_024);
    spool.ask(Request::Checkpoint);
    drop(spool);
    let mut group = criterion.benchmark_group("salvage");
    group.throughput(Throughput::Elements(messages as u64)).sample_size(10);
    group.bench_function(format!("{messages} messages of 1 KB"), |bencher| {
        let without_index = || support::remove_indexes(dir.path());
        let open = |()| {
            let spool = Inline::open(config.clone());
            assert_eq!(spool.messages, messages as u64);
            spool
        };
        bencher.iter_batched(without_index, open, BatchSize::PerIteration);
    });
    group.finish();
}

/// Commits of many writers, each of which waits for its own, beside a bare loop of `pwritev` and `fdatasync` with the
/// groups that came about. Both take turns, because disks change from minute to minute.
fn commit(_: &mut Criterion) {
    for writers in [50, 200] {
        let (mut engine, mut bare, mut prepared, mut messages) =
            (Duration::ZERO, Duration::ZERO, Duration::ZERO, 0);
        for _ in 0..5 {
            let dir = directory();
            let run = support::commit(dir.path(), writers, 4_096, writers * 100);
            engine += run.took;
            messages += run.groups.iter().sum::<usize>();
            bare += bare::run(dir.path(), &run.groups, run.record_bytes, false);
            prepared += bare::run(dir.path(), &run.groups, run.record_bytes, true);
        }
        let rate = |took: Duration| messages as f64 / took.as_secs_f64();
        println!(
            "commit, {writers} writers of 4 KB: {:.0} messages/s; a bare loop in a file that grows {:.0}/s, ratio \
             {:.2}; in one that was written before {:.0}/s, ratio {:.2} (bar: 0.80)",
            rate(engine),
            rate(bare),
            rate(engine) / rate(bare),
            rate(prepared),
            rate(engine) / rate(prepared),
        );
    }
}

criterion_group! {
    name = spool;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = commit, append, ready_refill, query, replay, salvage
}
criterion_main!(spool);
