//! Queries say what a plain filter over a list of all rows says.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use penstock_core::queue_id::QueueId;
use proptest::prelude::*;
use proptest::sample::Index as Pick;

use super::model::Model;
use super::{Index, Log, hop, message, open, outcome, way};
use crate::facts::{Disposition, EntryRecord, HopId, HopKind, OutcomeState, RecipientRecord};
use crate::index::query::{
    Budget, Cursor, DEPTH_MAX, Execution, Filter, Key, Kind, LISTED_MAX, NODES_MAX, Operator, Property,
    Query, QueryRow, RECIPIENTS_TOLD, Sort, Standing, TEXT_BYTES_MAX, Table, Tree, Value, WILDCARDS_MAX,
    Want,
};
use crate::redo::Redo;
use crate::rows::{Answer, HopRow, Request};

const NOW_MS: u64 = 30;
/// More steps or pages than any query here needs.
const STEPS_MAX: usize = 1_000;

/// A row as a plain list has it: a value less is none, several are several.
type Row = BTreeMap<Property, Vec<Value>>;
type Rows = BTreeMap<Key, Row>;

fn text(text: &str) -> Vec<Value> {
    vec![Value::Text(text.into())]
}

fn filled(given: &str) -> Vec<Value> {
    if given.is_empty() { vec![] } else { text(given) }
}

fn number(number: impl Into<u64>) -> Vec<Value> {
    vec![Value::Number(number.into())]
}

fn behind_at(address: &str) -> &str {
    &address[address.rfind('@').map_or(address.len(), |at| at + 1)..]
}

/// What the world around the index does.
#[derive(Clone, Default, Debug)]
struct World {
    active: BTreeSet<(u64, HopId)>,
    connecting: BTreeSet<HopId>,
}

impl World {
    fn standing(&self) -> Standing {
        let active = self.active.iter().map(|&(id, hop)| (QueueId(id), hop));
        Standing::new(NOW_MS, active, self.connecting.iter().copied())
    }
}

fn hop_rows(model: &Model) -> Vec<HopRow> {
    let Answer::Hops { rows, .. } = model.answer(&Request::Hops) else { panic!("another answer") };
    rows
}

fn of_hop(row: &HopRow) -> Row {
    let (kind, name) = match row.kind {
        HopKind::SmartHost => ("smart_host", &row.connector),
        HopKind::Domain => ("domain", &row.destination),
        HopKind::Maildir => ("maildir", &row.destination),
        HopKind::Unreachable => ("unreachable", &"Unreachable".to_owned()),
        HopKind::Poison => ("poison", &"Poison".to_owned()),
    };
    Row::from([
        (Property::Hop, vec![Value::Hop(row.hop)]),
        (Property::Queue, text(name)),
        (Property::SendConnector, filled(&row.connector)),
        (Property::Destination, filled(&row.destination)),
        (Property::DeliveryType, text(kind)),
    ])
}

fn queues(model: &Model, world: &World) -> Rows {
    let rows = hop_rows(model).into_iter().map(|row| {
        let mut values = of_hop(&row);
        let status = match row.state {
            _ if row.kind == HopKind::Poison => "suspended",
            1 => "retry",
            2 => "suspended",
            _ if world.active.iter().any(|(_, hop)| *hop == row.hop) => "active",
            _ if world.connecting.contains(&row.hop) => "connecting",
            _ => "ready",
        };
        let some = |there: bool, value: u64| if there { number(value) } else { vec![] };
        values.extend([
            (Property::Status, text(status)),
            (Property::SizeBytes, number(row.bytes)),
            (Property::LastError, filled(&row.last_error)),
            (Property::DueMs, row.earliest_due_ms.map_or(vec![], number)),
            (Property::Count, number(row.count)),
            (Property::OldestMs, some(row.count > 0, row.oldest_ms)),
            (Property::NextRetryMs, some(row.next_retry_ms > 0, row.next_retry_ms)),
            (Property::Failures, number(row.failures)),
        ]);
        (Key { queue_id: 0, hop: row.hop.0 }, values)
    });
    rows.collect()
}

fn messages(model: &Model, world: &World) -> Rows {
    let hops: BTreeMap<HopId, HopRow> = hop_rows(model).into_iter().map(|row| (row.hop, row)).collect();
    let mut rows = Rows::new();
    for (id, message) in &model.messages {
        let accepted = &message.accepted;
        for (hop, entry) in &message.entries {
            let (name, in_doubt) = (&hops[hop], entry.peer.is_some());
            let (status, reason) = if world.active.contains(&(id.0, *hop)) {
                ("active", "active")
            } else if entry.suspended.is_some() {
                ("suspended", "message_suspended")
            } else if name.kind == HopKind::Unreachable {
                ("retry", "unreachable")
            } else if name.kind == HopKind::Poison {
                ("suspended", "poison")
            } else if name.state == 1 {
                ("retry", "queue_retry")
            } else if name.state == 2 {
                ("suspended", "queue_suspended")
            } else if entry.due_ms > NOW_MS {
                ("retry", if in_doubt { "in_doubt" } else { "message_retry" })
            } else {
                ("ready", "ready")
            };
            let last = entry.recipients.iter().find_map(|index| message.last.get(index));
            let error = match last {
                Some(last) if !last.state.is_final() => {
                    text(&format!("{} {} {}", last.code, last.enhanced, last.text))
                }
                _ if reason == "queue_retry" => filled(&name.last_error),
                _ => vec![],
            };
            let addresses: Vec<&str> = entry
                .recipients
                .iter()
                .map(|index| accepted.recipients[*index as usize].address.as_str())
                .collect();
            let priority = ["high", "normal", "low"][usize::from(entry.priority)];
            let mut values = of_hop(name);
            values.extend([
                (Property::QueueId, number(id.0)),
                (Property::Status, text(status)),
                (Property::Reason, text(reason)),
                (Property::SizeBytes, number(accepted.size)),
                (Property::LastError, error),
                (Property::DueMs, number(entry.due_ms)),
                (Property::Sender, text(&accepted.sender)),
                (Property::SenderDomain, text(behind_at(&accepted.sender))),
                (Property::Subject, filled(&accepted.subject)),
                (Property::MessageId, filled(&accepted.message_id)),
                (Property::ReceivedMs, number(accepted.received_ms)),
                (Property::LatencyMs, number(NOW_MS.saturating_sub(accepted.received_ms))),
                (Property::ExpiresMs, number(entry.expires_ms)),
                (Property::Attempts, number(entry.attempts)),
                (Property::Priority, text(priority)),
                (Property::InDoubt, vec![Value::Flag(in_doubt)]),
                (Property::SourceIp, filled(&accepted.peer)),
                (Property::Helo, filled(&accepted.helo)),
                (Property::Session, filled(&accepted.session)),
                (Property::ReceiveConnector, filled(&accepted.connector)),
                (Property::Envid, accepted.params.envid.as_deref().map_or(vec![], text)),
                (Property::LastCode, last.map_or(vec![], |last| number(last.code))),
                (Property::LastEnhanced, last.map_or(vec![], |last| text(&last.enhanced))),
                (Property::Recipient, addresses.iter().flat_map(|one| text(one)).collect()),
                (Property::RecipientDomain, addresses.iter().flat_map(|one| text(behind_at(one))).collect()),
                (Property::RecipientCount, number(addresses.len() as u64)),
            ]);
            rows.insert(Key { queue_id: id.0, hop: hop.0 }, values);
        }
    }
    rows
}

fn table_rows(table: Table, model: &Model, world: &World) -> Rows {
    match table {
        Table::Messages => messages(model, world),
        Table::Queues => queues(model, world),
    }
}

fn lower(value: &Value) -> Value {
    match value {
        Value::Text(text) => Value::Text(text.chars().flat_map(char::to_lowercase).collect()),
        other => other.clone(),
    }
}

fn fits(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|at| fits(rest, &text[at..])),
        Some((one, rest)) => text.split_first().is_some_and(|(other, left)| one == other && fits(rest, left)),
    }
}

fn is_like(pattern: &Value, value: &Value) -> bool {
    let (Value::Text(pattern), Value::Text(text)) = (lower(pattern), lower(value)) else { return false };
    fits(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
}

fn holds(tree: &Tree, row: &Row) -> bool {
    let any = |property: &Property, test: &dyn Fn(&Value) -> bool| row[property].iter().any(test);
    match tree {
        Tree::And(trees) => trees.iter().all(|tree| holds(tree, row)),
        Tree::Or(trees) => trees.iter().any(|tree| holds(tree, row)),
        Tree::Not(tree) => !holds(tree, row),
        Tree::IsNull(property) => row[property].is_empty(),
        Tree::Among(property, values) => {
            any(property, &|ours| values.iter().any(|value| lower(ours) == lower(value)))
        }
        Tree::Compare(property, operator, value) => {
            let is =
                |wanted: &[Ordering]| any(property, &|ours| wanted.contains(&lower(ours).cmp(&lower(value))));
            match operator {
                Operator::Eq => is(&[Ordering::Equal]),
                Operator::Ne => !is(&[Ordering::Equal]),
                Operator::Lt => is(&[Ordering::Less]),
                Operator::Le => is(&[Ordering::Less, Ordering::Equal]),
                Operator::Gt => is(&[Ordering::Greater]),
                Operator::Ge => is(&[Ordering::Greater, Ordering::Equal]),
                Operator::Like => any(property, &|ours| is_like(value, ours)),
            }
        }
    }
}

/// By what a row is sorted: words by their place in their list.
fn sort_value(table: Table, row: &Row, property: Property) -> Value {
    let place = |value: &Value| match (property.kind(table), value) {
        (Some(Kind::Word(words)), Value::Text(text)) => {
            Value::Number(words.iter().position(|word| word == text).unwrap() as u64)
        }
        _ => lower(value),
    };
    row[&property].iter().map(place).min().unwrap_or(Value::Null)
}

fn compare(table: Table, sorts: &[Sort], a: (&Key, &Row), b: (&Key, &Row)) -> Ordering {
    for sort in sorts {
        let ordering = sort_value(table, a.1, sort.property).cmp(&sort_value(table, b.1, sort.property));
        let ordering = if sort.is_descending { ordering.reverse() } else { ordering };
        if ordering.is_ne() {
            return ordering;
        }
    }
    a.0.cmp(b.0)
}

/// How a row is told: several values as far as they are told.
fn told(row: &Row, select: &[Property]) -> Vec<Value> {
    let tell = |property: &Property| {
        let values = &row[property];
        if property.is_many() {
            return Value::Many(values.iter().take(RECIPIENTS_TOLD).cloned().collect());
        }
        values.first().cloned().unwrap_or(Value::Null)
    };
    select.iter().map(tell).collect()
}

fn properties(table: Table) -> Vec<Property> {
    Property::ALL.iter().copied().filter(|property| property.kind(table).is_some()).collect()
}

// What there is.

#[derive(Clone, Debug)]
struct Mail {
    sender: usize,
    subject: usize,
    recipients: Vec<(u8, usize)>,
    ways: Vec<(u8, u8, u64)>,
    size: u64,
    is_bare: bool,
    attempt: Option<(u8, u64, u8)>,
}

const DOMAINS: [&str; 4] = ["a.example", "B.example", "ümläut.example", "b.EXAMPLE"];
const SENDERS: [&str; 4] = ["", "Shop@a.example", "shop@A.example", "zoë@ümläut.example"];
const SUBJECTS: [&str; 4] = ["", "Invoice 7", "INVOICE 12", "Grüße *"];

fn mail() -> impl Strategy<Value = Mail> {
    let recipients = prop_oneof![
        6 => prop::collection::vec((0..3_u8, 0..4_usize), 1..5),
        1 => prop::collection::vec((0..3_u8, 0..4_usize), 60..140),
    ];
    let ways = prop::collection::vec((0..4_u8, 0..3_u8, 0..60_u64), 1..4);
    let attempt = prop::option::weighted(0.5, (0..8_u8, 0..60_u64, 0..4_u8));
    (0..4_usize, 0..4_usize, recipients, ways, 0..6_u64, any::<bool>(), attempt).prop_map(
        |(sender, subject, recipients, ways, size, is_bare, attempt)| Mail {
            sender,
            subject,
            recipients,
            ways,
            size,
            is_bare,
            attempt,
        },
    )
}

/// The records of a message, and of an attempt for its first entry.
fn records(log: &mut Log, id: u64, mail: &Mail) -> Vec<Redo> {
    let entries = (0..).zip(&mail.ways).map(|(nth, &(number, priority, due_ms))| {
        let ours = (0..mail.recipients.len() as u32).filter(|index| *index as usize % mail.ways.len() == nth);
        let recipients = ours.collect();
        EntryRecord {
            hop: hop(number),
            recipients,
            priority,
            due_ms,
            expires_ms: 100 + due_ms,
            suspended: None,
        }
    });
    let mut accepted = message(id, 0, entries.collect());
    accepted.recipients = mail
        .recipients
        .iter()
        .map(|(local, domain)| RecipientRecord {
            address: format!("r{local}@{}", DOMAINS[*domain]),
            orcpt: None,
            notify: 0,
        })
        .collect();
    accepted.sender = SENDERS[mail.sender].into();
    accepted.subject = SUBJECTS[mail.subject].into();
    accepted.size = 10 * mail.size;
    if mail.is_bare {
        accepted.connector = String::new();
        accepted.peer = String::new();
        accepted.helo = String::new();
        accepted.message_id = String::new();
    }
    let ours = accepted.entries[0].recipients.clone();
    let mut redo = vec![log.accepted(id, 1, accepted)];
    if let Some((state, due_ms, keep)) = mail.attempt {
        let first = mail.ways[0].0;
        redo.push(log.started(id, first, 1));
        if let Some(state) = OutcomeState::from_number(state) {
            let told = ours.iter().filter(|index| *index % 4 >= u32::from(keep));
            let outcomes = told.map(|&index| outcome(index, state)).collect();
            redo.push(log.settled(id, first, 1, Disposition::Due { due_ms }, outcomes));
        }
    }
    redo
}

// What is asked.

#[derive(Clone, Debug)]
enum Shape {
    And(Vec<Shape>),
    Or(Vec<Shape>),
    Not(Box<Shape>),
    Leaf { property: Pick, operator: u8, values: Vec<Pick>, salt: u8 },
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = (any::<Pick>(), 0..10_u8, prop::collection::vec(any::<Pick>(), 1..4), any::<u8>())
        .prop_map(|(property, operator, values, salt)| Shape::Leaf { property, operator, values, salt });
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 0..4).prop_map(Shape::And),
            2 => prop::collection::vec(inner.clone(), 0..4).prop_map(Shape::Or),
            1 => inner.prop_map(|inner| Shape::Not(Box::new(inner))),
        ]
    })
}

/// Make a tree of a shape; what it compares with is mostly what there is.
fn tree(shape: &Shape, table: Table, rows: &Rows) -> Tree {
    let all = |shapes: &[Shape]| shapes.iter().map(|shape| tree(shape, table, rows)).collect();
    match shape {
        Shape::And(shapes) => Tree::And(all(shapes)),
        Shape::Or(shapes) => Tree::Or(all(shapes)),
        Shape::Not(shape) => Tree::Not(Box::new(tree(shape, table, rows))),
        Shape::Leaf { property, operator, values, salt } => {
            let property = *property.get(&properties(table));
            let kind = property.kind(table).unwrap();
            let mut there: Vec<Value> = rows.values().flat_map(|row| row[&property].clone()).collect();
            there.push(match kind {
                Kind::Number => Value::Number(u64::from(*salt)),
                Kind::Text => Value::Text(format!("{salt}")),
                Kind::Flag => Value::Flag(salt % 2 == 0),
                Kind::Hop => Value::Hop(HopId((*salt).into())),
                Kind::Word(words) => Value::Text(words[usize::from(*salt) % words.len()].to_uppercase()),
            });
            let mut values: Vec<Value> = values.iter().map(|pick| pick.get(&there).clone()).collect();
            let value = values[0].clone();
            let ordered = matches!(kind, Kind::Number | Kind::Text);
            let compare = |operator, value| Tree::Compare(property, operator, value);
            match (operator, &value) {
                (0, _) => Tree::IsNull(property),
                (1 | 2, _) => Tree::Among(property, std::mem::take(&mut values)),
                (3, _) => compare(Operator::Ne, value),
                (4, _) if ordered => compare(Operator::Lt, value),
                (5, _) if ordered => compare(Operator::Le, value),
                (6, _) if ordered => compare(Operator::Gt, value),
                (7, _) if ordered => compare(Operator::Ge, value),
                (8, Value::Text(text)) if kind == Kind::Text => {
                    let cut =
                        text.char_indices().nth(usize::from(*salt) % 6).map_or(text.len(), |(at, _)| at);
                    let (head, tail) = text.split_at(cut);
                    let tail: String = tail.chars().skip(2).collect();
                    compare(Operator::Like, Value::Text(format!("{}*{tail}", head.to_uppercase())))
                }
                _ => compare(Operator::Eq, value),
            }
        }
    }
}

fn sorts(picks: &[(Pick, bool)], table: Table) -> Vec<Sort> {
    let sort = |(pick, is_descending): &(Pick, bool)| Sort {
        property: *pick.get(&properties(table)),
        is_descending: *is_descending,
    };
    picks.iter().map(sort).collect()
}

fn step(index: &Index, execution: &mut Execution, rows: u64) {
    index.query(execution, Budget { rows, time_ms: 1_000 }, &|| 0).unwrap();
}

fn run(index: &Index, query: Query, rows: u64) -> Execution {
    let mut execution = Execution::new(query);
    for _ in 0..STEPS_MAX {
        if execution.is_complete() {
            return execution;
        }
        step(index, &mut execution, rows);
    }
    panic!("the query does not end")
}

struct Asked {
    table: Table,
    tree: Tree,
    sorts: Vec<Sort>,
    limit: u32,
    world: World,
}

impl Asked {
    fn page(&self, after: Option<Cursor>) -> Query {
        let want =
            Want::Rows { select: properties(self.table), sort: self.sorts.clone(), after, limit: self.limit };
        Query::new(self.table, &self.tree, self.world.standing(), want).unwrap()
    }

    fn query(&self, want: Want) -> Query {
        Query::new(self.table, &self.tree, self.world.standing(), want).unwrap()
    }

    /// What a plain filter finds.
    fn plain(&self, rows: &Rows) -> Vec<QueryRow> {
        let mut found: Vec<_> = rows.iter().filter(|(_, row)| holds(&self.tree, row)).collect();
        found.sort_by(|a, b| compare(self.table, &self.sorts, *a, *b));
        let select = properties(self.table);
        found.into_iter().map(|(key, row)| QueryRow { key: *key, values: told(row, &select) }).collect()
    }
}

fn again(cursor: &Cursor) -> Cursor {
    Cursor::decode(&cursor.encode()).unwrap()
}

fn table() -> impl Strategy<Value = Table> {
    prop_oneof![3 => Just(Table::Messages), 1 => Just(Table::Queues)]
}

fn world(active: &[Pick], connecting: &[u8], model: &Model) -> World {
    let all: Vec<_> = model
        .messages
        .iter()
        .flat_map(|(id, message)| message.entries.keys().map(|hop| (id.0, *hop)))
        .collect();
    let active = active.iter().filter(|_| !all.is_empty()).map(|pick| *pick.get(&all)).collect();
    World { active, connecting: connecting.iter().map(|number| hop(*number)).collect() }
}

fn fill(index: &Index, mails: &[Mail], states: &[(u8, u8)]) -> (Model, Log) {
    let (mut model, mut log) = (Model::default(), Log::default());
    let mut redo: Vec<Redo> =
        (1..).zip(mails).flat_map(|(id, mail)| records(&mut log, 3 * id, mail)).collect();
    redo.extend(states.iter().map(|&(number, state)| log.hop_state(number, state)));
    index.apply(&redo, log.end()).unwrap();
    model.apply(&redo, log.end());
    model.checkpoint();
    (model, log)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn queries_find_what_a_plain_filter_finds(
        mails in prop::collection::vec(mail(), 0..14),
        states in prop::collection::vec((0..4_u8, 0..3_u8), 0..3),
        table in table(),
        shape in shape(),
        by in prop::collection::vec((any::<Pick>(), any::<bool>()), 0..3),
        (limit, budget, top) in (1..6_u32, 1..30_u64, 1..4_u32),
        group in any::<Pick>(),
        (active, connecting) in (prop::collection::vec(any::<Pick>(), 0..3), prop::collection::vec(0..4_u8, 0..2)),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let index = open(dir.path());
        let (model, _) = fill(&index, &mails, &states);
        let world = world(&active, &connecting, &model);
        let rows = table_rows(table, &model, &world);
        let asked = Asked { table, tree: tree(&shape, table, &rows), sorts: sorts(&by, table), limit, world };
        let plain = asked.plain(&rows);

        // Pages, each of bounded steps, put together.
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = run(&index, asked.page(after), budget);
            prop_assert!(page.rows().len() <= limit as usize);
            found.extend(page.rows().iter().cloned());
            prop_assert!(found.len() <= plain.len(), "rows are shown again");
            match page.next() {
                Some(next) => after = Some(again(&next)),
                None => break,
            }
        }
        prop_assert_eq!(&found, &plain, "{:?} {:?}", &asked.tree, &asked.sorts);

        // Pages that are given up after a step of theirs lead to the same rows.
        if asked.sorts.is_empty() {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let mut page = Execution::new(asked.page(after));
                step(&index, &mut page, budget);
                found.extend(page.rows().iter().cloned());
                prop_assert!(found.len() <= plain.len(), "rows are shown again");
                match page.next() {
                    Some(next) => after = Some(again(&next)),
                    None => break,
                }
            }
            prop_assert_eq!(&found, &plain);
        }

        let ours: Vec<&Row> = plain.iter().map(|row| &rows[&row.key]).collect();
        let size = |row: &Row| match row[&Property::SizeBytes][..] {
            [Value::Number(size)] => size,
            _ => panic!("a row has one size"),
        };
        let total = (ours.len() as u64, ours.iter().map(|row| size(row)).sum::<u64>());
        prop_assert_eq!(run(&index, asked.query(Want::Count), budget).total(), total);

        let by = *group.get(&properties(table));
        let execution = run(&index, asked.query(Want::Groups { by, top }), budget);
        let mut sums: BTreeMap<Value, (u64, u64)> = BTreeMap::new();
        for row in &ours {
            let mut values: BTreeSet<Value> = row[&by].iter().map(lower).collect();
            if values.is_empty() && !by.is_many() {
                values.insert(Value::Null);
            }
            for value in values {
                let sum = sums.entry(value).or_default();
                *sum = (sum.0 + 1, sum.1 + size(row));
            }
        }
        let groups = execution.groups().unwrap();
        prop_assert!(groups.is_exact);
        prop_assert_eq!(execution.total(), total);
        prop_assert_eq!(groups.groups.len(), sums.len().min(top as usize));
        let mut rest = sums.clone();
        let mut last = u64::MAX;
        for group in &groups.groups {
            prop_assert_eq!(rest.remove(&group.value), Some((group.sum.count, group.sum.bytes)));
            prop_assert!(group.sum.count <= last);
            last = group.sum.count;
        }
        prop_assert!(rest.values().all(|sum| sum.0 <= last));
        let others = rest.values().fold((0, 0), |all, sum| (all.0 + sum.0, all.1 + sum.1));
        prop_assert_eq!((groups.others.count, groups.others.bytes), others);
    }

    #[test]
    fn a_row_that_is_there_all_the_time_is_shown_once(
        mails in prop::collection::vec(mail(), 4..16),
        changes in prop::collection::vec(prop_oneof![
            mail().prop_map(|mail| (Some(mail), 0)),
            any::<u8>().prop_map(|salt| (None, salt)),
        ], 1..12),
        table in table(),
        shape in shape(),
        by in prop::collection::vec((any::<Pick>(), any::<bool>()), 0..2),
        (limit, budget) in (1..4_u32, 1..9_u64),
        is_within in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let index = open(dir.path());
        let (mut model, mut log) = fill(&index, &mails, &[]);
        let world = World::default();
        let first = table_rows(table, &model, &world);
        let asked = Asked { table, tree: tree(&shape, table, &first), sorts: sorts(&by, table), limit, world };
        let mut stable = first.clone();
        let mut changes = changes.into_iter();
        let mut change = |index: &Index, model: &mut Model, stable: &mut Rows| {
            let Some((mail, salt)) = changes.next() else { return };
            let ids: Vec<u64> = model.messages.keys().map(|id| id.0).collect();
            let redo = match mail {
                // Between those that there are, and behind them.
                Some(mail) => records(&mut log, (1..99).find(|id| id % 3 > 0 && !ids.contains(id)).unwrap(), &mail),
                None if ids.is_empty() => return,
                None => {
                    let id = ids[usize::from(salt) % ids.len()];
                    let entries = &model.messages[&QueueId(id)].entries;
                    let number = (0..4).find(|number| entries.contains_key(&hop(*number))).unwrap();
                    let ours: Vec<u32> = entries[&hop(number)].recipients.iter().copied().collect();
                    vec![log.delivered(id, number, 0, &ours)]
                }
            };
            index.apply(&redo, log.end()).unwrap();
            model.apply(&redo, log.end());
            model.checkpoint();
            let now = table_rows(table, model, &World::default());
            stable.retain(|key, row| now.get(key) == Some(row));
        };
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let mut page = Execution::new(asked.page(after));
            while !page.is_complete() {
                step(&index, &mut page, budget);
                // Also within a page: each step is on a snapshot of its own.
                if is_within {
                    change(&index, &mut model, &mut stable);
                }
            }
            found.extend(page.rows().iter().map(|row| row.key));
            prop_assert!(found.len() < STEPS_MAX, "rows are shown again");
            change(&index, &mut model, &mut stable);
            match page.next() {
                Some(next) => after = Some(again(&next)),
                None => break,
            }
        }
        for (key, row) in &stable {
            let times = found.iter().filter(|one| *one == key).count();
            prop_assert_eq!(times, usize::from(holds(&asked.tree, row)), "{:?} {:?}", key, &asked.tree);
        }
        if asked.sorts.is_empty() {
            prop_assert!(found.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn reading_a_cursor_never_panics(octets in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(cursor) = Cursor::decode(&octets) {
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        }
    }
}

// What single queries cost, and what is refused.

/// So many messages of one recipient, in turn for the first `hops` hops.
fn filled_index(path: &std::path::Path, count: u64, hops: u64) -> Index {
    let (index, mut log) = (open(path), Log::default());
    let redo: Vec<_> = (1..=count)
        .map(|id| log.accepted(id, 1, message(id, 1, vec![way((id % hops) as u8, [0], id)])))
        .collect();
    index.apply(&redo, log.end()).unwrap();
    index
}

fn compared(property: Property, operator: Operator, value: u64) -> Tree {
    Tree::Compare(property, operator, Value::Number(value))
}

fn is_hop(number: u8) -> Tree {
    Tree::Compare(Property::Hop, Operator::Eq, Value::Hop(hop(number)))
}

fn examined(index: &Index, tree: &Tree, want: Want) -> (u64, u64) {
    let query = Query::new(Table::Messages, tree, Standing::default(), want).unwrap();
    let execution = run(index, query, 1_000);
    (execution.total().0.max(execution.rows().len() as u64), execution.examined())
}

fn rows(limit: u32) -> Want {
    Want::Rows { select: vec![Property::QueueId], sort: vec![], after: None, limit }
}

#[test]
fn only_what_a_filter_may_mean_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let index = filled_index(dir.path(), 400, 4);
    let both = |tree| Tree::And(vec![compared(Property::Attempts, Operator::Eq, 0), tree]);
    // The messages of one hop, by its id or its name.
    assert_eq!(examined(&index, &both(is_hop(1)), Want::Count), (100, 100));
    let named = Tree::Compare(Property::Destination, Operator::Eq, Value::Text("HOP-1.example".into()));
    assert_eq!(examined(&index, &both(named), Want::Count), (100, 100));
    let nobody = Tree::Compare(Property::Queue, Operator::Like, Value::Text("nobody*".into()));
    assert_eq!(examined(&index, &both(nobody), Want::Count), (0, 0));
    let two = Tree::Or(vec![is_hop(1), is_hop(2)]);
    assert_eq!(examined(&index, &both(two), Want::Count), (200, 400));
    // A page ends when it is full.
    assert_eq!(examined(&index, &both(is_hop(1)), rows(10)), (10, 10));
    // A range of queue ids, and of those one hop's.
    let range = Tree::And(vec![
        compared(Property::QueueId, Operator::Ge, 101),
        compared(Property::QueueId, Operator::Lt, 201),
    ]);
    assert_eq!(examined(&index, &range, Want::Count), (100, 100));
    assert_eq!(examined(&index, &Tree::And(vec![range_of(101, 200), is_hop(1)]), rows(100)), (25, 25));
    assert_eq!(examined(&index, &Tree::And(vec![range_of(200, 101)]), rows(100)), (0, 0));
    assert_eq!(examined(&index, &compared(Property::QueueId, Operator::Eq, 7), rows(9)), (1, 1));
    // What the counters of four hops say.
    assert_eq!(examined(&index, &Tree::And(vec![]), Want::Count), (400, 4));
    assert_eq!(examined(&index, &is_hop(3), Want::Groups { by: Property::Queue, top: 9 }), (100, 4));
}

fn range_of(from: u64, to: u64) -> Tree {
    Tree::And(vec![
        compared(Property::QueueId, Operator::Ge, from),
        compared(Property::QueueId, Operator::Le, to),
        Tree::Among(Property::QueueId, (from..=to).map(Value::Number).collect()),
    ])
}

#[test]
fn a_step_ends_with_its_budget_and_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let index = filled_index(dir.path(), 1_000, 2);
    let tree = compared(Property::Attempts, Operator::Gt, 0);
    let query = Query::new(Table::Messages, &tree, Standing::default(), rows(10)).unwrap();
    let mut execution = Execution::new(query);
    assert_eq!(execution.watermarks(), None);
    step(&index, &mut execution, 300);
    assert_eq!((execution.examined(), execution.is_complete()), (300, false));
    assert!(execution.rows().is_empty() && execution.next().is_some());
    // A clock that runs fast ends a step after a few rows; no rows at all are not what a step may look at.
    let ticks = std::cell::Cell::new(0);
    let clock = || ticks.replace(ticks.get() + 10);
    index.query(&mut execution, Budget { rows: 1_000, time_ms: 20 }, &clock).unwrap();
    assert_eq!((execution.examined(), execution.is_complete()), (300 + 128, false));
    step(&index, &mut execution, 0);
    assert_eq!(execution.examined(), 429);
    let lsn = index.watermark().lsn;
    step(&index, &mut execution, u64::MAX);
    assert!(execution.is_complete() && execution.next().is_none());
    assert_eq!((execution.examined(), execution.watermarks()), (1_000, Some((lsn, lsn))));
    step(&index, &mut execution, u64::MAX);
    assert_eq!(execution.examined(), 1_000);
}

#[test]
fn what_cannot_be_asked_is_refused_when_the_query_is_made() {
    let refused = |table, tree: &Tree| Filter::new(table, tree).unwrap_err().to_string();
    let messages = |tree| refused(Table::Messages, &tree);
    let text = |text: &str| Value::Text(text.into());
    let compare = |property, operator, value| Tree::Compare(property, operator, value);
    let eq = |property, value| compare(property, Operator::Eq, value);
    assert_eq!(messages(eq(Property::SizeBytes, text("big"))), "size_bytes is a number");
    assert_eq!(messages(eq(Property::Sender, Value::Number(1))), "sender is a text");
    assert_eq!(messages(eq(Property::InDoubt, Value::Null)), "in_doubt is yes or no");
    assert_eq!(messages(eq(Property::Hop, text("m365"))), "hop is a hop");
    assert_eq!(messages(eq(Property::Priority, text("urgent"))), "priority is one of high, normal, low");
    assert_eq!(messages(eq(Property::Count, Value::Number(1))), "messages have no count");
    assert_eq!(refused(Table::Queues, &eq(Property::Sender, text(""))), "queues have no sender");
    assert_eq!(messages(compare(Property::Status, Operator::Lt, text("ready"))), "status has no order");
    assert_eq!(
        messages(compare(Property::SizeBytes, Operator::Like, text("1*"))),
        "size_bytes is no text, and has no pattern"
    );
    let deep = Tree::And(vec![
        Tree::And(vec![]),
        Tree::Or(vec![Tree::Not(Box::new(Tree::Among(Property::Attempts, vec![Value::Null])))]),
    ]);
    assert_eq!(messages(deep), "and[1].or[0].not: attempts is a number");

    // At each limit, and one past it.
    let nested = |depth| (1..depth).fold(Tree::And(vec![]), |tree, _| Tree::Not(Box::new(tree)));
    assert!(Filter::new(Table::Messages, &nested(DEPTH_MAX)).is_ok());
    assert!(messages(nested(DEPTH_MAX + 1)).ends_with("deep"));
    let wide = |count| Tree::Or(vec![Tree::IsNull(Property::Helo); count]);
    assert!(Filter::new(Table::Messages, &wide(NODES_MAX - 1)).is_ok());
    assert!(messages(wide(NODES_MAX)).ends_with("nodes"));
    let listed = |count| Tree::Among(Property::Attempts, vec![Value::Number(1); count]);
    assert!(Filter::new(Table::Messages, &listed(LISTED_MAX)).is_ok());
    assert!(messages(listed(LISTED_MAX + 1)).ends_with("values"));
    let long = |count| eq(Property::Sender, text(&"x".repeat(count)));
    assert!(Filter::new(Table::Messages, &long(TEXT_BYTES_MAX)).is_ok());
    assert!(messages(long(TEXT_BYTES_MAX + 1)).ends_with("octets"));
    let wild = |count| compare(Property::Sender, Operator::Like, text(&"*".repeat(count)));
    assert!(Filter::new(Table::Messages, &wild(WILDCARDS_MAX)).is_ok());
    assert!(messages(wild(WILDCARDS_MAX + 1)).ends_with("asterisks"));

    let query = |want| Query::new(Table::Queues, &Tree::And(vec![]), Standing::default(), want);
    let at = |want| query(want).unwrap_err().at;
    let by = |property| Sort { property, is_descending: false };
    let page = |sort, after, limit| Want::Rows { select: vec![], sort, after, limit };
    assert_eq!(at(page(vec![by(Property::Sender)], None, 1)), "sort");
    assert_eq!(at(page(vec![by(Property::Queue); 5], None, 1)), "sort");
    assert_eq!(at(page(vec![], None, 0)), "limit");
    assert_eq!(at(page(vec![], None, 10_001)), "limit");
    assert!(query(page(vec![], None, 10_000)).is_ok());
    assert_eq!(at(Want::Groups { by: Property::Sender, top: 1 }), "by");
    assert_eq!(at(Want::Groups { by: Property::Queue, top: 0 }), "top");

    let dir = tempfile::tempdir().unwrap();
    let index = filled_index(dir.path(), 10, 3);
    let cursor = run(&index, query(page(vec![], None, 1)).unwrap(), 9).next().unwrap();
    assert!(query(page(vec![], Some(cursor.clone()), 1)).is_ok());
    assert_eq!(at(page(vec![by(Property::Queue)], Some(cursor.clone()), 1)), "cursor");
    let octets = cursor.encode();
    assert_eq!(Cursor::decode(&octets[1..]).unwrap_err().at, "cursor");
}

#[test]
fn a_row_tells_some_recipients_and_counts_all() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let recipients: Vec<u32> = (0..1_000).collect();
    let redo = [log.accepted(1, 1, message(1, 1_000, vec![way(0, recipients, 1)]))];
    index.apply(&redo, log.end()).unwrap();
    let last = Tree::Compare(Property::Recipient, Operator::Eq, Value::Text("RCPT-999@example.com".into()));
    let want = Want::Rows {
        select: vec![Property::Recipient, Property::RecipientCount],
        sort: vec![],
        after: None,
        limit: 5,
    };
    let query = Query::new(Table::Messages, &last, Standing::default(), want).unwrap();
    let execution = run(&index, query, 10);
    let [Value::Many(told), Value::Number(1_000)] = &execution.rows()[0].values[..] else {
        panic!("other values")
    };
    assert_eq!(told.len(), RECIPIENTS_TOLD);
    assert_eq!(told[99], Value::Text("rcpt-99@example.com".into()));
}
