//! The index: the queue's whole state in LMDB, askable in any order.
//!
//! It holds what the log says up to a *watermark* and nothing of what comes after. [`Index::apply`] moves it from one
//! watermark to a later one in a single, synced transaction; [`Index::answer`] reads one snapshot and closes it before
//! it returns. The index knows nothing of files other than its own, of clocks, or of what a record looks like on disk.
//!
//! # Tables
//!
//! | table | key → value | for |
//! |---|---|---|
//! | message | queue-id → envelope, place in the log, sizes, times | show, content; written once |
//! | recipient | queue-id, block of 64 → addresses, last outcomes | one outcome rewrites 64 recipients, not 10^5 |
//! | entry | queue-id, hop → priority, due, expiry, attempts, lane, recipients left | all that changes with an attempt |
//! | ready | hop, priority, due, queue-id | refilling a delivery queue |
//! | arrival | hop, queue-id → time received | the oldest of a delivery queue; its messages by age |
//! | timer | kind, at, queue-id, hop | what expires |
//! | started | queue-id, hop → attempt, peer | what is in doubt after a crash, without a scan |
//! | hop | hop → name, exact count and octets, state | queue list; the scheduler's start |
//! | segment | segment → live octets, live messages | what of the log is still needed |
//! | blob | queue-id → octets | which blobs must be there, and no others |
//! | kept | keep-until, queue-id | finished messages, those that go first first |
//! | finished | queue-id → as in message, and until when | what they were, for resubmission |
//! | meta | format, database, epoch, watermark, greatest queue id | recovery |
//!
//! *Why there is an `entry`.* Facts name an entry by message and hop; its place in `ready` and `timer` moves. Keeping
//! what it is in one row, and only its places elsewhere, makes each other table an order over entries that can be
//! dropped, added and rebuilt from `entry` alone.
//!
//! *Why `ready` has no lane in its key.* With the lane before the due time, the first 300 of 10^6 entries in 10^5 lanes
//! are a merge of 10^5 sequences, or an unfair choice of lanes by hash. By due time they are 300 neighbours, and the
//! queue is first in, first out. Taking at most a few of each lane is one more order over the same rows (hop, priority,
//! lane, due); every `entry` has its lane, so that order can be built when it is wanted.
//!
//! *Why the kind is first in `timer`.* One kind is then read in order without stepping over the others.
//!
//! *What "oldest" is.* Of a hop's entries the one with the smallest queue id, which is the time when the draft was
//! opened. It is one look-up, and exact; the time shown is that of its acceptance.
//!
//! # Invariants
//!
//! * A message is in the index exactly as long as it has an entry; an entry exactly as long as it has a recipient.
//! * A finished message that is kept has a row each in `kept` and `finished`, and none in `message` and `entry`.
//! * An entry has one row each in `entry`, `ready`, `arrival` and `timer`, and one in `started` exactly while the end of
//!   an attempt is not known (`attempts > settled`).
//! * A hop's counters are those of its entries, a segment's those of its messages, in every snapshot. A hop without
//!   entries and in state 0 has no row, nor has a segment without messages.
//! * A message, in the queue or kept, has a row in `blob` exactly if a part of its content is in one.
//!
//! If you add an order over entries, also look at `write::Writer::places` and at the tests' model of the tables.

mod answer;
mod batch;
mod codec;
mod error;
mod invariants;
mod keeping;
mod keys;
mod meta;
mod moving;
mod pages;
pub(crate) mod query;
mod rowcheck;
mod set;
mod tables;
#[cfg(test)]
mod tests;
mod unreadable;
mod values;
mod write;

use std::convert::Infallible;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use heed::types::Bytes;
use heed::{CommitOrAbort, Env, EnvFlags, EnvOpenOptions, RoTxn, WithoutTls};
use parking_lot::Mutex;
use penstock_core::queue_id::QueueId;

use crate::edit::Editable;
use crate::facts::{HopId, Lsn};
use crate::redo::{InDoubt, LeftBlob, Redo, SegmentUse, Stored, Watermark};
use crate::rows::{Answer, Request};

use self::batch::Batch;
pub(crate) use self::error::IndexError;
pub(crate) use self::invariants::Place;
pub(crate) use self::keeping::{Kept, LetGo};
use self::meta::Reach;
pub(crate) use self::moving::Present;
pub(crate) use self::pages::Verdict;
use self::query::{Budget, Execution};
use self::tables::{Table, Tables};
use self::unreadable::Unreadable;
use self::values::{EntryValue, FinishedValue, Head};

/// Read transactions at the same time: the threads of a shard, with room to spare.
const READERS_MAX: u32 = 32;
/// A map is a multiple of the page size; this is one on every machine.
const MAP_UNIT: u64 = 64 * 1024;

/// The index of one shard. It is closed when dropped.
pub(crate) struct Index {
    env: Env<WithoutTls>,
    tables: Tables,
    /// How far the last committed transaction goes.
    reach: Mutex<Reach>,
    unreadable: Unreadable,
}

impl Index {
    /// Open the index at `path`, a directory; make it if it is not there.
    ///
    /// The caller holds the shard's lock, and does not fork while the index is open. `map_bytes` bounds the index's
    /// size; it costs address space, not memory or disk. `database` is the id of the database that the log is part of.
    /// An index of another database, or of a newer format, is left as it is. Blocks on disk.
    pub(crate) fn open(path: &Path, map_bytes: u64, database: [u8; 16]) -> Result<Self, IndexError> {
        prepare(path)?;
        Self::open_with(path, map_bytes, database, EnvFlags::empty())
    }

    /// Make an index at `path`, where there is none, to be filled at once. Nothing of it is durable before
    /// [`Index::sync`], and it is not used under its name before that.
    pub(crate) fn create_in_bulk(
        path: &Path,
        map_bytes: u64,
        database: [u8; 16],
    ) -> Result<Self, IndexError> {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(path)
            .map_err(|source| IndexError::Directory { path: path.into(), source })?;
        Self::open_with(path, map_bytes, database, EnvFlags::NO_SYNC)
    }

    fn open_with(
        path: &Path,
        map_bytes: u64,
        database: [u8; 16],
        flags: EnvFlags,
    ) -> Result<Self, IndexError> {
        let env = open_environment(path, map_bytes, flags)?;
        let tables = match open_tables(&env, database)? {
            Some(tables) => tables,
            None => create_tables(&env)?,
        };
        let mut txn = env.write_txn().map_err(IndexError::lmdb("begin to write"))?;
        // Tables without anything in them are new, or were left by a crash while the index was made.
        let is_new = tables.meta.rows(&txn)? == 0 && tables.message.rows(&txn)? == 0;
        if is_new {
            meta::create(tables.meta, &mut txn, database)?;
        }
        let reach = meta::reach(tables.meta, &txn)?;
        txn.commit().map_err(IndexError::lmdb("commit"))?;
        if is_new {
            settle_names(path)?;
        }
        Ok(Self { env, tables, reach: Mutex::new(reach), unreadable: Unreadable::default() })
    }

    /// Look at the file of the index at `path` without LMDB: whether it may be mapped, and whether its rows are whole.
    /// With a limit, as much as can be looked at in that time. **Blocking** on disk.
    ///
    /// An index of a newer format is an error, whatever else is the matter with it.
    pub(crate) fn verify(path: &Path, limit: Option<Duration>) -> Result<Verdict, IndexError> {
        if matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return Ok(Verdict::Empty);
        }
        prepare(path)?;
        let mut format = u64::from(meta::FORMAT);
        let verdict = pages::verify(&path.join("data.mdb"), limit, &mut |table, key, value| {
            if table == tables::META && key == meta::KEY_FORMAT {
                format = values::decode_numbers(value).map_or(format, |[found]| found);
            }
            rowcheck::check(table, key, value).map_err(|what| format!("a row of {table}: {what}"))
        });
        if format > meta::FORMAT.into() {
            let found = u32::try_from(format).unwrap_or(u32::MAX);
            return Err(IndexError::NewerFormat { found, known: meta::FORMAT });
        }
        verdict.map_err(|source| IndexError::Directory { path: path.join("data.mdb"), source })
    }

    /// Make durable what was written in bulk. **Blocking** on disk.
    pub(crate) fn sync(&self) -> Result<(), IndexError> {
        self.env.force_sync().map_err(IndexError::lmdb("sync"))
    }

    /// Close it, and wait until its file is closed.
    pub(crate) fn close(self) {
        self.env.prepare_for_closing().wait();
    }

    /// Never give a queue id up to this one again. Durable with the next sync.
    pub(crate) fn skip_queue_ids(&self, id: QueueId) -> Result<(), IndexError> {
        let mut txn = self.env.write_txn().map_err(IndexError::lmdb("begin to write"))?;
        let before = *self.reach.lock();
        if Some(id) > before.greatest {
            meta::put_greatest(self.tables.meta, &mut txn, id)?;
            txn.commit().map_err(IndexError::lmdb("commit"))?;
            self.reach.lock().greatest = Some(id);
        }
        Ok(())
    }

    /// Tell how far the index goes.
    pub(crate) fn watermark(&self) -> Watermark {
        self.reach.lock().watermark
    }

    /// Tell how often the shard was opened.
    pub(crate) fn epoch(&self) -> u64 {
        self.reach.lock().epoch
    }

    /// Tell the greatest queue id ever applied, of messages long gone too.
    pub(crate) fn last_queue_id(&self) -> Option<QueueId> {
        self.reach.lock().greatest
    }

    /// Begin a new epoch and return it. Durable on return; blocks on disk.
    pub(crate) fn begin_epoch(&self) -> Result<u64, IndexError> {
        let mut txn = self.env.write_txn().map_err(IndexError::lmdb("begin to write"))?;
        let epoch = self.reach.lock().epoch + 1;
        meta::put_epoch(self.tables.meta, &mut txn, epoch)?;
        txn.commit().map_err(IndexError::lmdb("commit"))?;
        self.reach.lock().epoch = epoch;
        Ok(epoch)
    }

    /// Apply records, in the order of the log, and move the watermark to `to`: all of it, or on an error nothing.
    ///
    /// Records up to the present watermark are passed over, and so are those that only repeat what is known (see
    /// [`batch`]); no record may be beyond `to`. A watermark does not go back: with an earlier `to` nothing is done. All
    /// that a recovery finds behind the watermark belongs in one call.
    /// Returns the blobs that no message needs any more.
    /// Durable on return; blocks on disk. After an error of [`IndexError::Lmdb`] the index must be opened anew.
    pub(crate) fn apply(&self, redo: &[Redo], to: Watermark) -> Result<Vec<LeftBlob>, IndexError> {
        self.apply_keeping(redo, to, None)
    }

    /// As [`Index::apply`]; messages that are finished by that, and have arrived anywhere, are kept until `until_ms`, and
    /// their blobs with them.
    pub(crate) fn apply_keeping(
        &self,
        redo: &[Redo],
        to: Watermark,
        until_ms: Option<u64>,
    ) -> Result<Vec<LeftBlob>, IndexError> {
        let known = self.reach.lock().watermark.lsn;
        self.apply_as(redo, to, (until_ms, known))
    }

    /// As [`Index::apply_keeping`], for an index that is made anew from the log: nothing that is not in it was let go of.
    pub(crate) fn apply_anew(
        &self,
        redo: &[Redo],
        to: Watermark,
        until_ms: Option<u64>,
    ) -> Result<Vec<LeftBlob>, IndexError> {
        self.apply_as(redo, to, (until_ms, 0))
    }

    fn apply_as(
        &self,
        redo: &[Redo],
        to: Watermark,
        (until_ms, known): (Option<u64>, Lsn),
    ) -> Result<Vec<LeftBlob>, IndexError> {
        let mut txn = self.env.write_txn().map_err(IndexError::lmdb("begin to write"))?;
        let before = *self.reach.lock();
        if to == before.watermark || to.lsn < before.watermark.lsn {
            return Ok(Vec::new());
        }
        let work = {
            let mut batch = Batch::new(&self.tables, &self.unreadable, &txn, before.greatest, known);
            for record in redo.iter().filter(|record| record.lsn() > before.watermark.lsn) {
                debug_assert!(record.lsn() <= to.lsn, "invariant: the watermark is behind the records");
                batch.take(record)?;
            }
            batch.finish()
        };
        let after = Reach { watermark: to, greatest: work.greatest, ..before };
        let left = write::write(&self.tables, &self.unreadable, &mut txn, work, until_ms)?;
        meta::put_watermark(self.tables.meta, &mut txn, to)?;
        if let Some(greatest) = after.greatest.filter(|_| after.greatest != before.greatest) {
            meta::put_greatest(self.tables.meta, &mut txn, greatest)?;
        }
        txn.commit().map_err(IndexError::lmdb("commit"))?;
        *self.reach.lock() = after;
        Ok(left)
    }

    /// Answer from the present state. A request for content is for the log; its answer here is that it failed.
    pub(crate) fn answer(&self, request: &Request) -> Result<Answer, IndexError> {
        answer::answer(&self.tables, &self.unreadable, &*self.read()?, request)
    }

    /// Go on with a query, within a budget, from the present state. `now_ms` is asked how long it takes.
    pub(crate) fn query(
        &self,
        execution: &mut Execution,
        budget: Budget,
        now_ms: &dyn Fn() -> u64,
    ) -> Result<(), IndexError> {
        execution.step(&self.tables, &self.unreadable, &*self.read()?, budget, now_ms)
    }

    /// Tell where the content of a message is, in the queue or kept; `None` if it is not in the index.
    pub(crate) fn stored(&self, queue_id: QueueId) -> Result<Option<Stored>, IndexError> {
        let (txn, table, key) = (self.read()?, self.tables.message, keys::message(queue_id));
        let Some(value) = table.get(&txn, &key)? else {
            let finished = keeping::finished(&self.tables, &txn, queue_id)?;
            return Ok(finished.map(|finished| finished.message.head.stored));
        };
        Ok(Some(table.sound(&key, Head::decode(value))?.stored))
    }

    /// Tell how much is kept of what is finished.
    pub(crate) fn kept(&self) -> Result<Kept, IndexError> {
        meta::kept(self.tables.meta, &*self.read()?)
    }

    /// Count those that are kept of what is finished and have their content before a segment.
    pub(crate) fn kept_before(&self, segment: u64) -> Result<u64, IndexError> {
        let (txn, table, mut count) = (self.read()?, self.tables.finished, 0);
        for row in table.all(&txn)? {
            let (key, value) = row?;
            let finished = table.sound(key, FinishedValue::decode(value))?;
            count += u64::from(finished.message.head.stored.location.segment < segment);
        }
        Ok(count)
    }

    /// Let go of kept messages whose time is over, and of the oldest beyond `bytes_max` octets, at most `limit`; tells how
    /// many, and the blobs that nobody needs any more. Durable on return; blocks on disk if there are any.
    pub(crate) fn let_go(&self, now_ms: u64, bytes_max: u64, limit: usize) -> Result<LetGo, IndexError> {
        if !keeping::is_due(&self.tables, &self.unreadable, &*self.read()?, now_ms, bytes_max)? {
            return Ok(LetGo::default());
        }
        let mut txn = self.env.write_txn().map_err(IndexError::lmdb("begin to write"))?;
        let gone = keeping::let_go(&self.tables, &self.unreadable, &mut txn, now_ms, bytes_max, limit)?;
        txn.commit().map_err(IndexError::lmdb("commit"))?;
        Ok(gone)
    }

    /// Tell all that is left of messages, from one snapshot, and the last record that is in it. Nothing is told of one of
    /// which a row cannot be read.
    pub(crate) fn present(&self, queue_ids: &[QueueId]) -> Result<(Lsn, Vec<Option<Present>>), IndexError> {
        moving::present(&self.tables, &self.unreadable, &*self.read()?, queue_ids)
    }

    /// Tell how an entry is that is to be edited; `None` if it is not in the index.
    pub(crate) fn editable(&self, queue_id: QueueId, hop: HopId) -> Result<Option<Editable>, IndexError> {
        let (txn, table, key) = (self.read()?, self.tables.entry, keys::entry(queue_id, hop));
        let Some(value) = table.get(&txn, &key)? else { return Ok(None) };
        let entry = table.sound(&key, EntryValue::decode(value))?;
        Ok(Some(Editable {
            version: entry.version,
            number: entry.edit.map_or(0, |edit| edit.number),
            priority: entry.priority,
            due_ms: entry.due_ms,
            expires_ms: entry.expires_ms,
            suspended: entry.suspended,
            recipients: entry.recipients.iter().collect(),
        }))
    }

    /// List the attempts whose end is not known, by message. Before the first attempt after open, these are the ones
    /// that the last run left.
    pub(crate) fn in_doubt(&self) -> Result<Vec<InDoubt>, IndexError> {
        let (txn, table) = (self.read()?, self.tables.started);
        let rows = table.all(&txn)?.map(|row| {
            let (key, value) = row?;
            let (queue_id, hop) = table.sound(key, keys::read_entry(key))?;
            let (attempt, peer) = table.sound(key, values::decode_started(value))?;
            Ok(InDoubt { queue_id, hop, attempt, peer: peer.into() })
        });
        rows.collect()
    }

    /// List the segments that are still needed, in order: all of them, or it is an error.
    pub(crate) fn segments(&self) -> Result<Vec<SegmentUse>, IndexError> {
        let (txn, table) = (self.read()?, self.tables.segment);
        let rows = table.all(&txn)?.map(|row| {
            let (key, value) = row?;
            let segment = table.sound(key, keys::read_segment(key))?;
            let [live_bytes, live_messages] = table.sound(key, values::decode_numbers(value))?;
            Ok(SegmentUse { segment, live_bytes, live_messages })
        });
        rows.collect::<Result<_, _>>().inspect_err(|error| self.unreadable.note(error))
    }

    /// Check that the tables agree with each other; tells what is wrong, and where each message's content should be.
    pub(crate) fn check(
        &self,
        wrong: &mut dyn FnMut(String),
        place: &mut dyn FnMut(Place),
    ) -> Result<(), IndexError> {
        invariants::check(&self.tables, &*self.read()?, wrong, place)
    }

    /// Count the rows that could not be read, and were passed over, since the index was opened.
    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable.count()
    }

    /// List the messages that have a blob, in the queue or kept, in order, and the octets that each has there.
    pub(crate) fn blobs(&self) -> Result<Vec<(QueueId, u64)>, IndexError> {
        let (txn, table) = (self.read()?, self.tables.blob);
        let rows = table.all(&txn)?.map(|row| {
            let (key, value) = row?;
            let queue_id = table.sound(key, keys::read_message(key))?;
            let [bytes] = table.sound(key, values::decode_numbers(value))?;
            Ok((queue_id, bytes))
        });
        rows.collect()
    }

    /// Count the messages, without looking at them.
    pub(crate) fn messages_count(&self) -> Result<u64, IndexError> {
        self.tables.message.rows(&*self.read()?)
    }

    /// Tell how many octets of its file the index uses, pages that are free to be reused among them.
    pub(crate) fn size_bytes(&self) -> u64 {
        let page_bytes = u64::from(self.env.unnamed_database_stat().page_size);
        (self.env.info().last_page_number as u64 + 1) * page_bytes
    }

    /// Free the places of readers that died, whose snapshots would keep pages from being reused; return how many.
    pub(crate) fn clear_stale_readers(&self) -> Result<usize, IndexError> {
        self.env.clear_stale_readers().map_err(IndexError::lmdb("clear stale readers"))
    }

    fn read(&self) -> Result<RoTxn<'_, WithoutTls>, IndexError> {
        begin(&self.env)
    }
}

fn begin(env: &Env<WithoutTls>) -> Result<RoTxn<'_, WithoutTls>, IndexError> {
    env.read_txn().map_err(IndexError::lmdb("begin to read"))
}

/// Make the directory, or see to it that nobody else can change what is in it: LMDB trusts its file.
fn prepare(path: &Path) -> Result<(), IndexError> {
    let failed = |source| IndexError::Directory { path: path.into(), source };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let us = rustix::process::geteuid().as_raw();
    for (path, is_directory) in
        [(path.into(), true), (path.join("data.mdb"), false), (path.join("lock.mdb"), false)]
    {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.uid() == us && found.is_dir() == is_directory && !found.is_symlink() => {}
            Ok(_) => return Err(IndexError::Foreign(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_directory => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Sync the names of the index's files: LMDB syncs only what is in them.
fn settle_names(path: &Path) -> Result<(), IndexError> {
    for path in
        [Some(path), path.parent().filter(|parent| !parent.as_os_str().is_empty())].into_iter().flatten()
    {
        let synced = File::open(path).and_then(|directory| directory.sync_all());
        synced.map_err(|source| IndexError::Directory { path: path.into(), source })?;
    }
    Ok(())
}

#[allow(unsafe_code)]
fn open_environment(path: &Path, map_bytes: u64, flags: EnvFlags) -> Result<Env<WithoutTls>, IndexError> {
    let map_units = (map_bytes / MAP_UNIT).max(1);
    let map_bytes = usize::try_from(map_units * MAP_UNIT).unwrap_or(usize::MAX / 2 + 1);
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_bytes).max_dbs(tables::NAMES.len() as u32).max_readers(READERS_MAX);
    // SAFETY: the map is sound as long as nobody changes or shortens the file behind LMDB's back. Only the owner of the
    // shard's lock opens the index, so no other process of ours has it open; `prepare` has seen that the directory and
    // the files are ours and no links, and they are made with modes 0700 and 0600, so nobody else can open them. Within
    // this process heed refuses to open the same path twice. No flag is set that gives up LMDB's own lock, and the map is
    // read-only (no WRITEMAP); syncs are left out only while an index is made that is not used before it is synced. The process does not fork while the engine is open, so no child shares
    // the map or the lock table.
    unsafe { options.flags(flags).open(path) }.map_err(IndexError::lmdb("open its environment"))
}

/// Open the tables of an index that was made before; `None` if there is nothing yet.
fn open_tables(env: &Env<WithoutTls>, database: [u8; 16]) -> Result<Option<Tables>, IndexError> {
    if env.unnamed_database_stat().entries == 0 {
        return Ok(None);
    }
    let opened = env.open_databases_and_commit(begin(env)?, |opener, txn| -> Result<_, heed::Error> {
        let mut handles = [None; tables::NAMES.len()];
        for (handle, name) in handles.iter_mut().zip(tables::NAMES) {
            *handle = opener.open_database::<Bytes, Bytes>(txn, Some(name))?;
        }
        Ok(CommitOrAbort::<_, Infallible>::Commit(handles))
    });
    let handles = match opened.map_err(IndexError::lmdb("open its tables"))? {
        CommitOrAbort::Commit(handles) => handles,
        CommitOrAbort::Abort(never) => match never {},
    };
    // A newer format may have other tables, so that what `meta` says comes before their absence.
    if let Some(&Some(handle)) = handles.last() {
        let (meta, txn) = (Table::new(tables::META, handle), begin(env)?);
        if meta.rows(&txn)? > 0 {
            meta::check(meta, &txn, database)?;
        }
    }
    let missing = handles.iter().zip(tables::NAMES).find(|(handle, _)| handle.is_none());
    let found: Vec<_> = handles.into_iter().flatten().collect();
    let found = found.try_into().ok().map(Tables::new);
    let missing = missing.map_or("", |(_, name)| name);
    found.map(Some).ok_or_else(|| IndexError::damaged(missing, &[], "the table is missing"))
}

fn create_tables(env: &Env<WithoutTls>) -> Result<Tables, IndexError> {
    let failed = IndexError::lmdb("create its tables");
    let txn = env.write_txn().map_err(IndexError::lmdb("begin to write"))?;
    let created = env.create_databases_and_commit(txn, |opener, txn| -> Result<_, heed::Error> {
        let mut create = |nth: usize| {
            let name = tables::NAMES.get(nth).copied();
            opener.create_database::<Bytes, Bytes>(txn, name)
        };
        let mut handles = [create(0)?; tables::NAMES.len()];
        for (nth, handle) in handles.iter_mut().enumerate().skip(1) {
            *handle = create(nth)?;
        }
        Ok(CommitOrAbort::<_, Infallible>::Commit(handles))
    });
    Ok(match created.map_err(failed)? {
        CommitOrAbort::Commit(handles) => Tables::new(handles),
        CommitOrAbort::Abort(never) => match never {},
    })
}
