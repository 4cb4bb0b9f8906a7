//! The rows of `meta`: what the index is, and how far it goes.

use heed::{RoTxn, RwTxn};
use penstock_core::queue_id::QueueId;

use crate::redo::Watermark;

use super::codec::{Malformed, Reader};
use super::error::IndexError;
use super::keeping::Kept;
use super::tables::Table;
use super::values::{self, VERSION};

/// The format that this program writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;

pub(super) const KEY_FORMAT: &[u8] = b"format";
const KEY_DATABASE: &[u8] = b"database";
const KEY_EPOCH: &[u8] = b"epoch";
const KEY_WATERMARK: &[u8] = b"watermark";
const KEY_QUEUE_ID: &[u8] = b"queue-id";
const KEY_KEPT: &[u8] = b"kept";

/// How far the index goes.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Reach {
    pub(super) watermark: Watermark,
    pub(super) epoch: u64,
    /// The greatest queue id ever seen.
    pub(super) greatest: Option<QueueId>,
}

/// Write the rows of an index without anything in it.
pub(super) fn create(meta: Table, txn: &mut RwTxn<'_>, database: [u8; 16]) -> Result<(), IndexError> {
    put_numbers(meta, txn, KEY_FORMAT, &[FORMAT.into()])?;
    let mut value = vec![VERSION];
    value.extend_from_slice(&database);
    meta.put(txn, KEY_DATABASE, &value)?;
    put_epoch(meta, txn, 0)?;
    put_watermark(meta, txn, Watermark::default())
}

/// Refuse an index of another database, or of a format that came later.
pub(super) fn check(meta: Table, txn: &RoTxn<'_>, database: [u8; 16]) -> Result<(), IndexError> {
    let [format] = numbers(meta, txn, KEY_FORMAT)?;
    if format != u64::from(FORMAT) {
        let found = u32::try_from(format).unwrap_or(u32::MAX);
        return Err(IndexError::NewerFormat { found, known: FORMAT });
    }
    let value = meta.expect(txn, KEY_DATABASE)?;
    let read = |value| -> Result<[u8; 16], Malformed> {
        let mut reader = Reader::versioned(value, VERSION)?;
        let id = reader.array()?;
        reader.finish().map(|()| id)
    };
    if meta.sound(KEY_DATABASE, read(value))? != database {
        return Err(IndexError::OtherDatabase);
    }
    Ok(())
}

pub(super) fn reach(meta: Table, txn: &RoTxn<'_>) -> Result<Reach, IndexError> {
    let [epoch] = numbers(meta, txn, KEY_EPOCH)?;
    let greatest = meta.get(txn, KEY_QUEUE_ID)?.map(values::decode_numbers).transpose();
    let greatest = meta.sound(KEY_QUEUE_ID, greatest)?.map(|[id]| QueueId(id));
    Ok(Reach { watermark: watermark(meta, txn)?, epoch, greatest })
}

pub(super) fn watermark(meta: Table, txn: &RoTxn<'_>) -> Result<Watermark, IndexError> {
    let [lsn, segment, offset] = numbers(meta, txn, KEY_WATERMARK)?;
    Ok(Watermark { lsn, segment, offset })
}

pub(super) fn put_watermark(meta: Table, txn: &mut RwTxn<'_>, to: Watermark) -> Result<(), IndexError> {
    put_numbers(meta, txn, KEY_WATERMARK, &[to.lsn, to.segment, to.offset])
}

pub(super) fn put_epoch(meta: Table, txn: &mut RwTxn<'_>, epoch: u64) -> Result<(), IndexError> {
    put_numbers(meta, txn, KEY_EPOCH, &[epoch])
}

pub(super) fn put_greatest(meta: Table, txn: &mut RwTxn<'_>, id: QueueId) -> Result<(), IndexError> {
    put_numbers(meta, txn, KEY_QUEUE_ID, &[id.0])
}

/// How much is kept of what is finished.
pub(super) fn kept(meta: Table, txn: &RoTxn<'_>) -> Result<Kept, IndexError> {
    let value = meta.get(txn, KEY_KEPT)?.map(values::decode_numbers).transpose();
    let [messages, bytes, blob_bytes] = meta.sound(KEY_KEPT, value)?.unwrap_or_default();
    Ok(Kept { messages, bytes, blob_bytes })
}

pub(super) fn put_kept(meta: Table, txn: &mut RwTxn<'_>, kept: Kept) -> Result<(), IndexError> {
    put_numbers(meta, txn, KEY_KEPT, &[kept.messages, kept.bytes, kept.blob_bytes])
}

fn put_numbers(meta: Table, txn: &mut RwTxn<'_>, key: &[u8], numbers: &[u64]) -> Result<(), IndexError> {
    let mut value = Vec::new();
    values::encode_numbers(numbers, &mut value);
    meta.put(txn, key, &value)
}

fn numbers<const N: usize>(meta: Table, txn: &RoTxn<'_>, key: &[u8]) -> Result<[u64; N], IndexError> {
    let value = meta.expect(txn, key)?;
    meta.sound(key, values::decode_numbers(value))
}
