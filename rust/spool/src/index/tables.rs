//! The tables as LMDB has them: octets under octets, with errors that name the table.
//!
//! LMDB has no checksums and believes its file. So every row carries one, over its key and its value, and no value leaves
//! this module unless it fits: a row that was flipped on the disk, or is found where it does not belong, is an error that
//! names it.

use std::ops::Bound;

use heed::types::Bytes;
use heed::{Database, PutFlags, RoTxn, RwTxn};

use super::codec::Malformed;
use super::error::IndexError;

/// One table.
#[derive(Copy, Clone)]
pub(super) struct Table {
    pub(super) name: &'static str,
    db: Database<'static, Bytes, Bytes>,
}

/// A key and its value, as they lie in the map; good until the transaction writes or ends.
pub(super) type Row<'t> = (&'t [u8], &'t [u8]);

/// Octets of a row's checksum, behind its value.
pub(super) const SUM: usize = 4;

/// The checksum of a row.
pub(super) fn sum(key: &[u8], value: &[u8]) -> [u8; SUM] {
    crc32c::crc32c_append(crc32c::crc32c(key), value).to_le_bytes()
}

/// The value of a row as it is stored, if its checksum fits.
pub(super) fn checked<'t>(key: &[u8], stored: &'t [u8]) -> Option<&'t [u8]> {
    let (value, found) = stored.split_last_chunk()?;
    (sum(key, value) == *found).then_some(value)
}

const READ: &str = "read a row";
const WRITE: &str = "write a row";

impl Table {
    pub(super) fn new(name: &'static str, db: Database<'static, Bytes, Bytes>) -> Self {
        Self { name, db }
    }

    pub(super) fn get<'t>(&self, txn: &'t RoTxn<'_>, key: &[u8]) -> Result<Option<&'t [u8]>, IndexError> {
        let stored = self.db.get(txn, key).map_err(IndexError::lmdb(READ))?;
        stored.map(|stored| self.checked(key, stored)).transpose()
    }

    /// A row's value, without its checksum.
    fn checked<'t>(&self, key: &[u8], stored: &'t [u8]) -> Result<&'t [u8], IndexError> {
        checked(key, stored).ok_or_else(|| IndexError::damaged(self.name, key, "its checksum does not fit"))
    }

    fn row<'t>(&self, row: Result<Row<'t>, heed::Error>) -> Result<Row<'t>, IndexError> {
        let (key, stored) = row.map_err(IndexError::lmdb(READ))?;
        Ok((key, self.checked(key, stored)?))
    }

    /// Write a row with its checksum.
    fn write(
        &self,
        txn: &mut RwTxn<'_>,
        flags: PutFlags,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), IndexError> {
        let mut stored = Vec::with_capacity(value.len() + SUM);
        stored.extend_from_slice(value);
        stored.extend_from_slice(&sum(key, value));
        self.db.put_with_flags(txn, flags, key, &stored).map_err(IndexError::lmdb(WRITE))
    }

    /// Get a row that another row says is there.
    pub(super) fn expect<'t>(&self, txn: &'t RoTxn<'_>, key: &[u8]) -> Result<&'t [u8], IndexError> {
        self.get(txn, key)?.ok_or_else(|| IndexError::damaged(self.name, key, "it is missing"))
    }

    /// Get all rows, in order.
    pub(super) fn all<'t>(
        &self,
        txn: &'t RoTxn<'_>,
    ) -> Result<impl Iterator<Item = Result<Row<'t>, IndexError>> + use<'t>, IndexError> {
        let rows = self.db.iter(txn).map_err(IndexError::lmdb(READ))?;
        let table = *self;
        Ok(rows.map(move |row| table.row(row)))
    }

    /// Get the rows from `key` on, in order.
    pub(super) fn from<'t>(
        &self,
        txn: &'t RoTxn<'_>,
        key: &[u8],
    ) -> Result<impl Iterator<Item = Result<Row<'t>, IndexError>> + use<'t>, IndexError> {
        let range = (Bound::Included(key), Bound::Unbounded);
        let rows = self.db.range(txn, &range).map_err(IndexError::lmdb(READ))?;
        let table = *self;
        Ok(rows.map(move |row| table.row(row)))
    }

    /// Get the rows whose keys begin with `prefix`, in order.
    pub(super) fn prefix<'t>(
        &self,
        txn: &'t RoTxn<'_>,
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<Row<'t>, IndexError>> + use<'t>, IndexError> {
        let rows = self.db.prefix_iter(txn, prefix).map_err(IndexError::lmdb(READ))?;
        let table = *self;
        Ok(rows.map(move |row| table.row(row)))
    }

    /// Write a row with the checksum of another value.
    #[cfg(test)]
    pub(super) fn put_with_sum_of(&self, txn: &mut RwTxn<'_>, key: &[u8], value: &[u8], other: &[u8]) {
        let stored = [value, &sum(key, other)].concat();
        self.db.put(txn, key, &stored).expect("a row");
    }

    /// Count the rows; without looking at them.
    pub(super) fn rows(&self, txn: &RoTxn<'_>) -> Result<u64, IndexError> {
        self.db.len(txn).map_err(IndexError::lmdb(READ))
    }

    pub(super) fn put(&self, txn: &mut RwTxn<'_>, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        self.write(txn, PutFlags::empty(), key, value)
    }

    pub(super) fn delete(&self, txn: &mut RwTxn<'_>, key: &[u8]) -> Result<(), IndexError> {
        self.db.delete(txn, key).map(drop).map_err(IndexError::lmdb(WRITE))
    }

    /// Begin to write many rows in the order of their keys.
    pub(super) fn ascending(&self, txn: &RoTxn<'_>) -> Result<Ascending, IndexError> {
        let last = self.db.last(txn).map_err(IndexError::lmdb(READ))?;
        Ok(Ascending { table: *self, end: last.map(|(key, _)| key.to_vec()) })
    }

    /// Say which row it is whose key or value is malformed.
    pub(super) fn sound<T>(&self, key: &[u8], read: Result<T, Malformed>) -> Result<T, IndexError> {
        read.map_err(|Malformed(what)| IndexError::damaged(self.name, key, what))
    }
}

/// Writes rows behind the end of a table so that its pages become full; LMDB otherwise leaves them half empty.
pub(super) struct Ascending {
    table: Table,
    /// No key of the table was greater than this one when the writing began.
    end: Option<Vec<u8>>,
}

impl Ascending {
    pub(super) fn put(&self, txn: &mut RwTxn<'_>, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        let behind = self.end.as_deref().is_none_or(|end| key > end);
        let flags = if behind { PutFlags::APPEND } else { PutFlags::empty() };
        self.table.write(txn, flags, key, value)
    }

    pub(super) fn delete(&self, txn: &mut RwTxn<'_>, key: &[u8]) -> Result<(), IndexError> {
        self.table.delete(txn, key)
    }
}

/// All tables.
#[derive(Copy, Clone)]
pub(super) struct Tables {
    pub(super) message: Table,
    pub(super) recipient: Table,
    pub(super) entry: Table,
    pub(super) ready: Table,
    pub(super) arrival: Table,
    pub(super) timer: Table,
    pub(super) started: Table,
    pub(super) hop: Table,
    pub(super) segment: Table,
    pub(super) blob: Table,
    pub(super) kept: Table,
    pub(super) finished: Table,
    pub(super) meta: Table,
}

/// The name of the last of them.
pub(super) const META: &str = "meta";
/// Their names, in the order of [`Tables::new`].
pub(super) const NAMES: [&str; 13] = [
    "message",
    "recipient",
    "entry",
    "ready",
    "arrival",
    "timer",
    "started",
    "hop",
    "segment",
    "blob",
    "kept",
    "finished",
    META,
];

impl Tables {
    pub(super) fn new(handles: [Database<'static, Bytes, Bytes>; NAMES.len()]) -> Self {
        let mut names = NAMES.into_iter();
        let handles = handles.map(|db| Table::new(names.next().unwrap_or_default(), db));
        let [
            message,
            recipient,
            entry,
            ready,
            arrival,
            timer,
            started,
            hop,
            segment,
            blob,
            kept,
            finished,
            meta,
        ] = handles;
        Self {
            message,
            recipient,
            entry,
            ready,
            arrival,
            timer,
            started,
            hop,
            segment,
            blob,
            kept,
            finished,
            meta,
        }
    }
}
