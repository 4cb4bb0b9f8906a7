//! The tables as LMDB has them: octets under octets, with errors that name the table.

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

const READ: &str = "read a row";
const WRITE: &str = "write a row";

impl Table {
    pub(super) fn new(name: &'static str, db: Database<'static, Bytes, Bytes>) -> Self {
        Self { name, db }
    }

    pub(super) fn get<'t>(&self, txn: &'t RoTxn<'_>, key: &[u8]) -> Result<Option<&'t [u8]>, IndexError> {
        self.db.get(txn, key).map_err(IndexError::lmdb(READ))
    }

    /// Get a row that another row says is there.
    pub(super) fn expect<'t>(&self, txn: &'t RoTxn<'_>, key: &[u8]) -> Result<&'t [u8], IndexError> {
        self.get(txn, key)?.ok_or_else(|| IndexError::damaged(self.name, key, "it is missing"))
    }

    /// Get the first row at `key` or behind it.
    pub(super) fn at_or_after<'t>(
        &self,
        txn: &'t RoTxn<'_>,
        key: &[u8],
    ) -> Result<Option<Row<'t>>, IndexError> {
        self.db.get_greater_than_or_equal_to(txn, key).map_err(IndexError::lmdb(READ))
    }

    /// Get all rows, in order.
    pub(super) fn all<'t>(
        &self,
        txn: &'t RoTxn<'_>,
    ) -> Result<impl Iterator<Item = Result<Row<'t>, IndexError>> + use<'t>, IndexError> {
        let rows = self.db.iter(txn).map_err(IndexError::lmdb(READ))?;
        Ok(rows.map(|row| row.map_err(IndexError::lmdb(READ))))
    }

    /// Get the rows from `key` on, in order.
    pub(super) fn from<'t>(
        &self,
        txn: &'t RoTxn<'_>,
        key: &[u8],
    ) -> Result<impl Iterator<Item = Result<Row<'t>, IndexError>> + use<'t>, IndexError> {
        let range = (Bound::Included(key), Bound::Unbounded);
        let rows = self.db.range(txn, &range).map_err(IndexError::lmdb(READ))?;
        Ok(rows.map(|row| row.map_err(IndexError::lmdb(READ))))
    }

    /// Get the rows whose keys begin with `prefix`, in order.
    pub(super) fn prefix<'t>(
        &self,
        txn: &'t RoTxn<'_>,
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<Row<'t>, IndexError>> + use<'t>, IndexError> {
        let rows = self.db.prefix_iter(txn, prefix).map_err(IndexError::lmdb(READ))?;
        Ok(rows.map(|row| row.map_err(IndexError::lmdb(READ))))
    }

    /// Count the rows; without looking at them.
    pub(super) fn rows(&self, txn: &RoTxn<'_>) -> Result<u64, IndexError> {
        self.db.len(txn).map_err(IndexError::lmdb(READ))
    }

    pub(super) fn put(&self, txn: &mut RwTxn<'_>, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        self.db.put(txn, key, value).map_err(IndexError::lmdb(WRITE))
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
        self.table.db.put_with_flags(txn, flags, key, value).map_err(IndexError::lmdb(WRITE))
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
