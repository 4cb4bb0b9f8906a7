//! What queries cost. Run by hand: `cargo test --release -p penstock-spool query_timing -- --ignored --nocapture`;
//! `QUERY_ROWS` says how many messages, a million if it does not.

use std::time::Instant;

use super::{DATABASE, Index, Log, hop, message, way};
use crate::index::query::{
    Budget, Execution, Operator, Property, Query, Sort, Standing, Table, Tree, Value, Want,
};

const BATCH: u64 = 10_000;
const DOMAINS: u64 = 5_000;
/// What one step may cost; as the bindings have it.
const STEP: Budget = Budget { rows: 200_000, time_ms: 50 };

fn fill(index: &Index, count: u64) {
    let mut log = Log::default();
    for batch in 0..count / BATCH {
        let ids = (batch * BATCH..).take(BATCH as usize);
        let redo: Vec<_> = ids
            .map(|id| {
                let mut accepted = message(id, 1, vec![way((id % 4) as u8, [0], id)]);
                accepted.recipients[0].address = format!("user-{id}@domain-{}.example", id * 7_919 % DOMAINS);
                accepted.sender = format!("sender-{}@example.org", id % 100_000);
                log.accepted(id, id / 15_000, accepted)
            })
            .collect();
        index.apply(&redo, log.end()).unwrap();
    }
}

fn timed(index: &Index, rows: u64, what: &str, tree: &Tree, want: Want) -> Execution {
    let query = Query::new(Table::Messages, tree, Standing::default(), want).unwrap();
    let (begun, mut longest, mut steps) = (Instant::now(), 0.0_f64, 0);
    let mut execution = Execution::new(query);
    while !execution.is_complete() {
        let step = Instant::now();
        index.query(&mut execution, STEP, &|| begun.elapsed().as_millis() as u64).unwrap();
        longest = longest.max(step.elapsed().as_secs_f64() * 1e3);
        steps += 1;
    }
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{what}: {:.2} ms, {} rows looked at, {:.2} million rows/s, {steps} steps, the longest {longest:.1} ms",
        took * 1e3,
        execution.examined(),
        execution.examined() as f64 / took / 1e6,
    );
    assert!(execution.examined() <= rows);
    execution
}

#[test]
#[ignore = "a measurement, not a test"]
fn query_timing() {
    let count = std::env::var("QUERY_ROWS").map_or(1_000_000, |rows| rows.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index"), 64 << 30, DATABASE).unwrap();
    let begun = Instant::now();
    fill(&index, count);
    println!(
        "{count} messages, {} MiB of index, filled in {:.1} s",
        index.size_bytes() >> 20,
        begun.elapsed().as_secs_f64()
    );
    let all = Tree::And(vec![]);
    let text = |property, operator, text: &str| Tree::Compare(property, operator, Value::Text(text.into()));
    let page = |sort: Vec<Sort>| Want::Rows {
        select: Property::ALL.iter().copied().filter(|one| one.kind(Table::Messages).is_some()).collect(),
        sort,
        after: None,
        limit: 100,
    };
    for _ in 0..2 {
        let groups = |by| Want::Groups { by, top: 10 };
        let found =
            timed(&index, count, "group by recipient domain", &all, groups(Property::RecipientDomain));
        assert_eq!(found.total().0, count);
        timed(&index, count, "group by sender", &all, groups(Property::Sender));
        timed(&index, count, "group by queue", &all, groups(Property::Queue));
        timed(&index, count, "count all", &all, Want::Count);
        let late = Tree::Compare(Property::Attempts, Operator::Eq, Value::Number(0));
        timed(&index, count, "count by attempts", &late, Want::Count);
        let rare = text(Property::RecipientDomain, Operator::Eq, "domain-77.example");
        timed(&index, count, "count of one recipient domain", &rare, Want::Count);
        let like = text(Property::Sender, Operator::Like, "*-99999@*");
        timed(&index, count, "page of a rare sender", &like, page(vec![]));
        let ours = Tree::Compare(Property::Hop, Operator::Eq, Value::Hop(hop(1)));
        timed(&index, count, "first page of a queue", &ours, page(vec![]));
        timed(&index, count, "first page of all", &all, page(vec![]));
        let sort = vec![Sort { property: Property::SizeBytes, is_descending: true }];
        timed(&index, count, "first page by size", &all, page(sort));
    }
}
