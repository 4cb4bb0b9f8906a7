//! Where a listing goes on.

use std::cmp::Reverse;

use crate::facts::HopId;
use crate::index::codec::{Malformed, Reader, put_number, put_text};

use super::filter::QueryError;
use super::property::{Property, Table};
use super::value::Value;

/// The version of cursors that this program writes and reads. They are not kept: one of another version is refused.
const VERSION: u8 = 1;
/// Properties by which rows are sorted at most.
pub const SORTS_MAX: usize = 4;
/// Octets of a text that count when rows are sorted or grouped.
pub const SORTED_BYTES: usize = 128;

/// The place of a row in its table; rows of queues have no queue id.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct Key {
    /// The message.
    pub queue_id: u64,
    /// The next hop.
    pub hop: u128,
}

impl Key {
    pub(super) fn hop(self) -> HopId {
        HopId(self.hop)
    }

    /// The next place; `None` behind the last.
    pub(super) fn next(self) -> Option<Self> {
        match self.hop.checked_add(1) {
            Some(hop) => Some(Self { hop, ..self }),
            None => self.queue_id.checked_add(1).map(|queue_id| Self { queue_id, hop: 0 }),
        }
    }
}

/// By what rows are sorted.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Sort {
    /// The property. Of several values (recipients) the least counts; of a text its first 128 octets.
    pub property: Property,
    /// Whether the greatest comes first.
    pub is_descending: bool,
}

/// A value and the direction in which it is sorted.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(super) enum Rank {
    Up(Value),
    Down(Reverse<Value>),
}

impl Rank {
    pub(super) fn new(value: Value, is_descending: bool) -> Self {
        if is_descending { Self::Down(Reverse(value)) } else { Self::Up(value) }
    }

    fn value(&self) -> &Value {
        match self {
            Self::Up(value) | Self::Down(Reverse(value)) => value,
        }
    }
}

/// The place of a row in a sorted listing. Without a sort it is the place in the table.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(super) struct Place {
    pub(super) ranks: Vec<Rank>,
    pub(super) key: Key,
}

/// Where a listing goes on: behind the row with these values and this key.
///
/// It stays good while rows come and go, because it names a place and not a count: a row that is there all the time,
/// with the same values, is neither missed nor shown twice.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Cursor {
    table: Table,
    sorts: Vec<Sort>,
    place: Place,
}

impl Cursor {
    pub(super) fn new(table: Table, sorts: &[Sort], place: Place) -> Self {
        Self { table, sorts: sorts.into(), place }
    }

    /// The place, if the cursor is one of such a listing.
    pub(super) fn place(&self, table: Table, sorts: &[Sort]) -> Option<&Place> {
        (self.table == table && self.sorts == sorts).then_some(&self.place)
    }

    /// Write it; opaque to everybody else.
    pub fn encode(&self) -> Vec<u8> {
        let table = match self.table {
            Table::Messages => 1,
            Table::Queues => 2,
        };
        let mut out = vec![VERSION, table];
        put_number(&mut out, self.sorts.len() as u64);
        for (sort, rank) in self.sorts.iter().zip(&self.place.ranks) {
            put_text(&mut out, sort.property.name());
            out.push(u8::from(sort.is_descending));
            rank.value().encode(&mut out);
        }
        out.extend(self.place.key.queue_id.to_be_bytes());
        out.extend(self.place.key.hop.to_be_bytes());
        out
    }

    /// Read it.
    pub fn decode(octets: &[u8]) -> Result<Self, QueryError> {
        decode(octets).map_err(|Malformed(why)| QueryError::new("cursor", format!("it is none: {why}")))
    }
}

fn decode(octets: &[u8]) -> Result<Cursor, Malformed> {
    let mut reader = Reader::versioned(octets, VERSION)?;
    let table = match reader.octet()? {
        1 => Table::Messages,
        2 => Table::Queues,
        _ => return Err(Malformed("the table is not known")),
    };
    let count = reader.number()?;
    if count > SORTS_MAX as u64 {
        return Err(Malformed("it is sorted by too much"));
    }
    let (mut sorts, mut ranks) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let property = Property::named(table, reader.text()?).ok_or(Malformed("a property is not known"))?;
        let is_descending = reader.octet()? != 0;
        sorts.push(Sort { property, is_descending });
        ranks.push(Rank::new(Value::decode(&mut reader)?, is_descending));
    }
    let queue_id = u64::from_be_bytes(reader.array()?);
    let key = Key { queue_id, hop: u128::from_be_bytes(reader.array()?) };
    reader.finish()?;
    Ok(Cursor { table, sorts, place: Place { ranks, key } })
}
