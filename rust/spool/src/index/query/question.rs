//! A question: what is meant, what is wanted of it, and what the index does not know.

use std::collections::HashSet;
use std::sync::Arc;

use penstock_core::queue_id::QueueId;

use crate::facts::HopId;
use crate::index::answer::PAGE_ROWS_MAX;

use super::cursor::{Cursor, Key, SORTS_MAX, Sort};
use super::filter::{Filter, QueryError, Tree};
use super::property::{Property, Table};

/// Groups that are told at most.
pub const TOP_MAX: u32 = 10_000;

/// What the index does not know: the time, and what delivery is doing.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Standing {
    pub(super) now_ms: u64,
    pub(super) active: HashSet<Key>,
    pub(super) busy: HashSet<HopId>,
    pub(super) connecting: HashSet<HopId>,
    /// What operators have suspended: the spool knows that by itself.
    pub(super) suspended: HashSet<HopId>,
}

impl Standing {
    /// Say what time it is (Unix milliseconds), which attempts are under way, and to which hops connections are opened.
    pub fn new(
        now_ms: u64,
        active: impl IntoIterator<Item = (QueueId, HopId)>,
        connecting: impl IntoIterator<Item = HopId>,
    ) -> Self {
        let active: HashSet<Key> =
            active.into_iter().map(|(queue_id, hop)| Key { queue_id: queue_id.0, hop: hop.0 }).collect();
        let busy = active.iter().map(|key| key.hop()).collect();
        Self { now_ms, active, busy, connecting: connecting.into_iter().collect(), suspended: HashSet::new() }
    }
}

/// What is wanted of the rows that a filter means.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Want {
    /// A page of them.
    Rows {
        /// What is told of each.
        select: Vec<Property>,
        /// In which order; the order of the table, oldest first, behind all that is said here.
        sort: Vec<Sort>,
        /// Where to go on.
        after: Option<Cursor>,
        /// Rows at most. A page may be shorter although more follow.
        limit: u32,
    },
    /// How many they are, and their octets.
    Count,
    /// How many have which value of a property, and their octets; those with most first.
    Groups {
        /// The property. A row with several of it (recipients) counts once for each.
        by: Property,
        /// Groups at most; the rest is summed up.
        top: u32,
    },
}

/// A question about messages or queues.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Query {
    pub(super) table: Table,
    pub(super) filter: Filter,
    pub(super) standing: Arc<Standing>,
    pub(super) want: Want,
}

impl Query {
    /// Check a question.
    pub fn new(table: Table, tree: &Tree, standing: Standing, want: Want) -> Result<Self, QueryError> {
        let filter = Filter::new(table, tree)?;
        let has = |at: &str, property: Property| match property.kind(table) {
            Some(_) => Ok(()),
            None => Err(QueryError::new(at, format!("the rows have no {}", property.name()))),
        };
        match &want {
            Want::Count => {}
            Want::Groups { by, top } => {
                has("by", *by)?;
                if *top == 0 || *top > TOP_MAX {
                    return Err(QueryError::new("top", format!("it is between 1 and {TOP_MAX}")));
                }
            }
            Want::Rows { select, sort, after, limit } => {
                for &property in select {
                    has("select", property)?;
                }
                for sort in sort {
                    has("sort", sort.property)?;
                }
                if sort.len() > SORTS_MAX {
                    return Err(QueryError::new("sort", format!("it is by at most {SORTS_MAX} properties")));
                }
                if *limit == 0 || *limit as usize > PAGE_ROWS_MAX {
                    return Err(QueryError::new("limit", format!("it is between 1 and {PAGE_ROWS_MAX}")));
                }
                if after.as_ref().is_some_and(|after| after.place(table, sort).is_none()) {
                    return Err(QueryError::new("cursor", "it is one of another listing"));
                }
            }
        }
        Ok(Self { table, filter, standing: Arc::new(standing), want })
    }

    /// What it is about.
    pub fn table(&self) -> Table {
        self.table
    }

    /// What is wanted.
    pub fn want(&self) -> &Want {
        &self.want
    }
}
