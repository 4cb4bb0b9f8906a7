//! A query on its way: how far it has come, and what it has found.
//!
//! It goes over the rows in the order of their keys, a bounded step at a time, each step on a snapshot of its own. What
//! it has found so far is in the execution, which whoever asked holds between the steps: nothing is kept here for a
//! query that nobody pursues, and one that is dropped is over. A row that cannot be read is passed over and counted.

use std::collections::BTreeSet;
use std::sync::Arc;

use penstock_core::queue_id::QueueId;

use crate::facts::{HopId, Lsn};
use crate::index::error::IndexError;
use crate::index::keys;
use crate::index::meta;
use crate::index::tables::{Row, Tables};
use crate::index::unreadable::Unreadable;

use super::budget::{Budget, Meter};
use super::cursor::{Cursor, Key, Place, Rank};
use super::groups::{Group, Groups, Sum};
use super::property::{Property, Table};
use super::question::{Query, Want};
use super::subject::{MessageSubject, QueueSubject, Snapshot, Subject};
use super::told::{QueryRow, message_row, outward, queue_row, sort_value, weight};
use super::value::Value;

/// Octets of rows after which a page ends; the first row is given in any case.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Where rows are looked for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Plan {
    Everywhere,
    /// Among the messages of one hop, which lie in the same order there.
    Hop(HopId),
    Nowhere,
}

/// A place that is looked at, and the value of its entry if that was read on the way.
type Looked<'t> = Result<(Key, Option<&'t [u8]>), IndexError>;

#[derive(Clone, Eq, PartialEq, Debug)]
enum Found {
    Rows {
        rows: Vec<QueryRow>,
        bytes: usize,
    },
    /// The first so many places by order; the rows are fetched when all have been looked at.
    Sorted {
        first: BTreeSet<Place>,
        is_more: bool,
        rows: Vec<QueryRow>,
    },
    Total(Sum),
    Groups(Groups),
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Progress {
    /// There is more to look at.
    Running,
    /// The page is full, and there is more to look at.
    Full,
    /// All has been looked at.
    Ended,
}

/// A query with what it has found so far.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Execution {
    query: Query,
    plan: Option<Plan>,
    /// The last place that was looked at.
    from: Option<Key>,
    progress: Progress,
    examined: u64,
    watermarks: Option<(Lsn, Lsn)>,
    found: Found,
}

impl Execution {
    /// Begin.
    pub fn new(query: Query) -> Self {
        let (mut from, found) = match &query.want {
            Want::Rows { sort, after, .. } if sort.is_empty() => {
                let place = after.as_ref().and_then(|after| after.place(query.table, sort));
                (place.map(|place| place.key), Found::Rows { rows: Vec::new(), bytes: 0 })
            }
            Want::Rows { .. } => {
                (None, Found::Sorted { first: BTreeSet::new(), is_more: false, rows: Vec::new() })
            }
            Want::Count => (None, Found::Total(Sum::default())),
            Want::Groups { .. } => (None, Found::Groups(Groups::default())),
        };
        let mut progress = Progress::Running;
        if from.is_some_and(|key| key.next().is_none()) {
            (from, progress) = (None, Progress::Ended);
        }
        Self { query, plan: None, from, progress, examined: 0, watermarks: None, found }
    }

    /// What was asked.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// Whether a step more would find nothing new: the page is full, or all has been looked at.
    pub fn is_complete(&self) -> bool {
        self.progress != Progress::Running
    }

    /// Rows that were looked at.
    pub fn examined(&self) -> u64 {
        self.examined
    }

    /// What the first and the last snapshot reflect; `None` before the first step.
    pub fn watermarks(&self) -> Option<(Lsn, Lsn)> {
        self.watermarks
    }

    /// The rows found. Those of a sorted page are known only when it is complete.
    pub fn rows(&self) -> &[QueryRow] {
        match &self.found {
            Found::Rows { rows, .. } | Found::Sorted { rows, .. } => rows,
            Found::Total(_) | Found::Groups(_) => &[],
        }
    }

    /// Where a page goes on; `None` behind the last. Of a page that is not complete, behind what has been looked at; for
    /// a sorted one, where it began itself.
    pub fn next(&self) -> Option<Cursor> {
        let Want::Rows { sort, after, .. } = &self.query.want else { return None };
        let cursor = |place| Cursor::new(self.query.table, sort, place);
        match (&self.found, self.progress) {
            (Found::Rows { .. }, Progress::Ended) => None,
            (Found::Rows { .. }, _) => self.from.map(|key| cursor(Place { ranks: Vec::new(), key })),
            (Found::Sorted { first, is_more, .. }, Progress::Ended) => {
                first.last().filter(|_| *is_more).map(|place| cursor(place.clone()))
            }
            _ => after.clone(),
        }
    }

    /// How many rows there are, and their octets, as far as they have been looked at; for a count or a grouping.
    pub fn total(&self) -> (u64, u64) {
        match &self.found {
            Found::Total(sum) => (sum.count, sum.bytes),
            Found::Groups(groups) => groups.total(),
            Found::Rows { .. } | Found::Sorted { .. } => (0, 0),
        }
    }

    /// The groups with most rows, and what all others come to.
    pub fn groups(&self) -> Option<TopGroups> {
        let (Found::Groups(groups), Want::Groups { by, top }) = (&self.found, &self.query.want) else {
            return None;
        };
        let (mut groups, others, is_exact) = groups.top(*top as usize);
        for group in &mut groups {
            group.value = outward(self.query.table, *by, std::mem::replace(&mut group.value, Value::Null));
        }
        Some(TopGroups { groups, others, is_exact })
    }

    /// Say which delivery queues operators have suspended.
    pub(crate) fn note_suspended(&mut self, hops: impl IntoIterator<Item = HopId>) {
        Arc::make_mut(&mut self.query.standing).suspended = hops.into_iter().collect();
    }

    /// Go on, within a budget.
    pub(in crate::index) fn step(
        &mut self,
        tables: &Tables,
        unreadable: &Unreadable,
        txn: &heed::RoTxn<'_>,
        budget: Budget,
        now_ms: &dyn Fn() -> u64,
    ) -> Result<(), IndexError> {
        let watermark = meta::watermark(tables.meta, txn)?.lsn;
        self.watermarks = Some((self.watermarks.map_or(watermark, |(first, _)| first), watermark));
        if self.is_complete() {
            return Ok(());
        }
        let mut meter = Meter::new(budget, now_ms);
        let standing = Arc::clone(&self.query.standing);
        let mut snapshot = Snapshot::new(tables, unreadable, txn, &standing);
        self.progress = match self.query.table {
            Table::Messages if self.is_told_by_hops() => self.sum_hops(&mut snapshot)?,
            Table::Messages => self.scan_messages(&mut snapshot, &mut meter)?,
            Table::Queues => self.scan_queues(&mut snapshot, &mut meter)?,
        };
        if self.progress == Progress::Ended {
            self.fetch(&mut snapshot, &mut Meter::new(Budget::MAX, now_ms))?;
        }
        Ok(())
    }

    /// Whether the counters of hops have the answer.
    fn is_told_by_hops(&self) -> bool {
        self.query.filter.is_of_hop()
            && match &self.query.want {
                Want::Count => true,
                Want::Groups { by, .. } => by.is_of_hop(),
                Want::Rows { .. } => false,
            }
    }

    fn sum_hops(&mut self, snapshot: &mut Snapshot<'_>) -> Result<Progress, IndexError> {
        let Self { query, found, examined, .. } = self;
        let (tables, unreadable, txn) = (snapshot.tables, snapshot.unreadable, snapshot.txn);
        for row in tables.hop.all(txn)? {
            *examined += 1;
            unreadable.skip(row.and_then(|row| sum_hop(query, found, snapshot, row)))?;
        }
        Ok(Progress::Ended)
    }

    fn plan(&self, snapshot: &mut Snapshot<'_>) -> Result<Plan, IndexError> {
        let filter = &self.query.filter;
        if !filter.asks_of_hop() {
            return Ok(Plan::Everywhere);
        }
        let mut plan = Plan::Nowhere;
        let (tables, unreadable, txn) = (snapshot.tables, snapshot.unreadable, snapshot.txn);
        for row in tables.hop.all(txn)? {
            let hop = row.and_then(|row| {
                let (hop, mut subject) = queue(snapshot, row)?;
                Ok((hop, subject.count() > 0 && filter.may_hold(&mut subject)?))
            });
            let Some((hop, true)) = unreadable.skip(hop)? else { continue };
            match plan {
                Plan::Nowhere => plan = Plan::Hop(hop),
                Plan::Everywhere | Plan::Hop(_) => return Ok(Plan::Everywhere),
            }
        }
        Ok(plan)
    }

    fn scan_messages(
        &mut self,
        snapshot: &mut Snapshot<'_>,
        meter: &mut Meter<'_>,
    ) -> Result<Progress, IndexError> {
        let plan = match self.plan {
            Some(plan) => plan,
            // Once and for all: rows of a hop that comes up later were not there from the beginning.
            None => *self.plan.insert(self.plan(snapshot)?),
        };
        let Some((low, high)) = self.query.filter.queue_ids() else { return Ok(Progress::Ended) };
        let first = self.from.map_or(Some(Key::default()), Key::next);
        let Some(first) = first.map(|first| first.max(Key { queue_id: low, hop: 0 })) else {
            return Ok(Progress::Ended);
        };
        let Tables { entry, arrival, .. } = *snapshot.tables;
        let rows: Box<dyn Iterator<Item = Looked<'_>>> = match plan {
            Plan::Nowhere => return Ok(Progress::Ended),
            Plan::Everywhere => {
                let rows = entry.from(snapshot.txn, &keys::entry(QueueId(first.queue_id), first.hop()))?;
                Box::new(rows.map(move |row| {
                    let (key, value) = row?;
                    let (queue_id, hop) = entry.sound(key, keys::read_entry(key))?;
                    Ok((Key { queue_id: queue_id.0, hop: hop.0 }, Some(value)))
                }))
            }
            Plan::Hop(ours) => {
                // The one row of the hop and the first message may be behind us.
                let first =
                    if first.hop > ours.0 { first.queue_id.checked_add(1) } else { Some(first.queue_id) };
                let Some(first) = first else { return Ok(Progress::Ended) };
                let rows = arrival.from(snapshot.txn, &keys::arrival(ours, QueueId(first)))?;
                let places = rows.map(move |row| {
                    let (key, _) = row?;
                    arrival.sound(key, keys::read_arrival(key))
                });
                let places =
                    places.take_while(move |place| !place.as_ref().is_ok_and(|(hop, _)| *hop != ours));
                Box::new(places.map(|place| {
                    place.map(|(hop, queue_id)| (Key { queue_id: queue_id.0, hop: hop.0 }, None))
                }))
            }
        };
        let Self { query, found, from, examined, .. } = self;
        let unreadable = snapshot.unreadable;
        for row in rows {
            // It costs nothing, since it is not a place where the next step could go on.
            let Some((key, entry)) = unreadable.skip(row)? else { continue };
            if key.queue_id > high {
                break;
            }
            if let Some(progress) = pause(query, found, meter) {
                return Ok(progress);
            }
            let mut subject = snapshot.message(key, entry);
            let holds = query.filter.holds(&mut subject);
            let taken =
                holds.and_then(|holds| if holds { take_message(query, found, &mut subject) } else { Ok(()) });
            unreadable.skip(taken)?;
            (*from, *examined) = (Some(key), *examined + 1);
            meter.spend(1 + std::mem::take(&mut snapshot.blocks) / 2);
        }
        Ok(Progress::Ended)
    }

    fn scan_queues(
        &mut self,
        snapshot: &mut Snapshot<'_>,
        meter: &mut Meter<'_>,
    ) -> Result<Progress, IndexError> {
        let Some(first) = self.from.map_or(Some(Key::default()), |key| Key { queue_id: 0, ..key }.next())
        else {
            return Ok(Progress::Ended);
        };
        if first.queue_id > 0 {
            return Ok(Progress::Ended);
        }
        let Self { query, found, from, examined, .. } = self;
        let (table, unreadable, txn) = (snapshot.tables.hop, snapshot.unreadable, snapshot.txn);
        for row in table.from(txn, &keys::hop(first.hop()))? {
            if let Some(progress) = pause(query, found, meter) {
                return Ok(progress);
            }
            let looked = row.and_then(|row| {
                let (hop, mut subject) = queue(snapshot, row)?;
                let key = Key { queue_id: 0, hop: hop.0 };
                if query.filter.holds(&mut subject)? {
                    take_queue(query, found, key, &mut subject)?;
                }
                Ok(key)
            });
            *examined += 1;
            // As above: only a row that says where it is counts.
            if let Some(key) = unreadable.skip(looked)? {
                *from = Some(key);
                meter.spend(1);
            }
        }
        Ok(Progress::Ended)
    }

    /// Fetch the rows of a sorted page, as they are now; what has gone or changed meanwhile is left out. It has a budget of
    /// its own: cut off, the page would be looked for anew from its beginning.
    fn fetch(&mut self, snapshot: &mut Snapshot<'_>, meter: &mut Meter<'_>) -> Result<(), IndexError> {
        let Self { query, found, .. } = self;
        let (Found::Sorted { first, is_more, rows }, Want::Rows { select, .. }) = (found, &query.want) else {
            return Ok(());
        };
        let (mut bytes, mut last) = (0, None);
        for place in first.iter() {
            if bytes >= PAGE_BYTES_MAX || meter.is_spent() {
                last = Some(place.clone());
                break;
            }
            let unreadable = snapshot.unreadable;
            let row = unreadable.skip(row_at(query, select, snapshot, place.key))?;
            if let Some(row) = row.flatten() {
                bytes += weight(&row);
                rows.push(row);
            }
            meter.spend(1 + std::mem::take(&mut snapshot.blocks) / 2);
        }
        if let Some(last) = last {
            first.split_off(&last);
            *is_more = true;
        }
        Ok(())
    }
}

/// The row of `hop`, and whose it is.
fn queue<'s, 't>(
    snapshot: &'s mut Snapshot<'t>,
    (key, value): Row<'t>,
) -> Result<(HopId, QueueSubject<'s, 't>), IndexError> {
    let hop = snapshot.tables.hop.sound(key, keys::read_hop(key))?;
    Ok((hop, snapshot.queue(Key { queue_id: 0, hop: hop.0 }, value)?))
}

/// Add what the counters of a hop say.
fn sum_hop<'t>(
    query: &Query,
    found: &mut Found,
    snapshot: &mut Snapshot<'t>,
    row: Row<'t>,
) -> Result<(), IndexError> {
    let (_, mut subject) = queue(snapshot, row)?;
    let sum = Sum { count: subject.count(), bytes: subject.bytes() };
    if sum.count == 0 || !query.filter.holds(&mut subject)? {
        return Ok(());
    }
    match (found, &query.want) {
        (Found::Total(total), _) => total.add(sum),
        (Found::Groups(groups), Want::Groups { by, .. }) => groups.row(&mut subject, *by, sum)?,
        _ => {}
    }
    Ok(())
}

/// The row at a place, if it is still there and still meant.
fn row_at(
    query: &Query,
    select: &[Property],
    snapshot: &mut Snapshot<'_>,
    key: Key,
) -> Result<Option<QueryRow>, IndexError> {
    match query.table {
        Table::Messages => {
            let mut subject = snapshot.message(key, None);
            let is_meant = subject.exists()? && query.filter.holds(&mut subject)?;
            is_meant.then(|| message_row(&mut subject, select)).transpose()
        }
        Table::Queues => {
            let value = snapshot.tables.hop.get(snapshot.txn, &keys::hop(key.hop()))?;
            let Some(value) = value else { return Ok(None) };
            let mut subject = snapshot.queue(key, value)?;
            let is_meant = query.filter.holds(&mut subject)?;
            is_meant.then(|| queue_row(key, &mut subject, select)).transpose()
        }
    }
}

/// What a grouping comes to.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct TopGroups {
    /// Those with most rows, most first. Texts are in lower case and have at most 128 octets.
    pub groups: Vec<Group>,
    /// All others together.
    pub others: Sum,
    /// Whether these are the largest for sure. They are not when there were more groups than are kept apart.
    pub is_exact: bool,
}

/// Whether to stop before the next row, and how.
fn pause(query: &Query, found: &Found, meter: &Meter<'_>) -> Option<Progress> {
    if let (Found::Rows { rows, bytes }, Want::Rows { limit, .. }) = (found, &query.want)
        && (rows.len() >= *limit as usize || *bytes >= PAGE_BYTES_MAX)
    {
        return Some(Progress::Full);
    }
    meter.is_spent().then_some(Progress::Running)
}

fn take_message(
    query: &Query,
    found: &mut Found,
    subject: &mut MessageSubject<'_, '_>,
) -> Result<(), IndexError> {
    match (found, &query.want) {
        (Found::Rows { rows, bytes }, Want::Rows { select, .. }) => {
            let row = message_row(subject, select)?;
            *bytes += weight(&row);
            rows.push(row);
        }
        (Found::Total(total), _) => total.add(Sum { count: 1, bytes: subject.size()? }),
        (Found::Groups(groups), Want::Groups { by, .. }) => {
            let sum = Sum { count: 1, bytes: subject.size()? };
            groups.row(subject, *by, sum)?;
        }
        (found, _) => {
            let key = subject.key;
            take_place(query, found, key, subject)?;
        }
    }
    Ok(())
}

fn take_queue(
    query: &Query,
    found: &mut Found,
    key: Key,
    subject: &mut QueueSubject<'_, '_>,
) -> Result<(), IndexError> {
    let sum = Sum { count: 1, bytes: subject.bytes() };
    match (found, &query.want) {
        (Found::Rows { rows, bytes }, Want::Rows { select, .. }) => {
            let row = queue_row(key, subject, select)?;
            *bytes += weight(&row);
            rows.push(row);
        }
        (Found::Total(total), _) => total.add(sum),
        (Found::Groups(groups), Want::Groups { by, .. }) => groups.row(subject, *by, sum)?,
        (found, _) => take_place(query, found, key, subject)?,
    }
    Ok(())
}

/// Keep the place of a row if it is among the first of a sorted page.
fn take_place(
    query: &Query,
    found: &mut Found,
    key: Key,
    subject: &mut impl Subject,
) -> Result<(), IndexError> {
    let (Found::Sorted { first, is_more, .. }, Want::Rows { sort, after, limit, .. }) = (found, &query.want)
    else {
        return Ok(());
    };
    let mut ranks = Vec::with_capacity(sort.len());
    for sort in sort {
        ranks.push(Rank::new(sort_value(subject, sort.property)?, sort.is_descending));
    }
    let place = Place { ranks, key };
    let after = after.as_ref().and_then(|after| after.place(query.table, sort));
    if after.is_some_and(|after| place <= *after) {
        return Ok(());
    }
    if first.len() < *limit as usize {
        first.insert(place);
        return Ok(());
    }
    *is_more = true;
    if first.last().is_some_and(|last| place < *last) {
        first.pop_last();
        first.insert(place);
    }
    Ok(())
}
