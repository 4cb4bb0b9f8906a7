//! The files of the log: which there are, where the next one comes from, who still needs them.
//!
//! A segment is `00000001.seg`, numbered in the order of use. Numbers are never used again. The writer takes a segment
//! when the one before is full: a *spare* (`spare-1`, wholly written before, so that a sync need not change metadata),
//! or else a new file that grows. Some more are kept for hard times, the *reserves*: their room is taken (`fallocate`),
//! and they are used only when nothing else can be had. Attempts and their outcomes need room for ever, whatever comes
//! of them, and so two reserves take turns: when one is full, nothing is needed of the other any more. A third is for
//! mail that is only moved, or else that would keep one of the two from being used again.
//!
//! A segment in which nothing is needed any more becomes a spare or is removed, but never while somebody has it:
//! whoever reads content holds its [`Segment`], and got it under the same lock under which it is given up.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::device::{self, Device, DeviceFile, Opening};
use crate::facts::Lsn;
use crate::format::segment::{FIRST, SegmentHeader};
use crate::format::{PAGE, align_up};

/// Spares that are kept; what is given up beyond them is removed.
const SPARES_MAX: usize = 4;
/// Reserves that are kept: two that take turns, and one for what is moved.
const RESERVES: usize = 3;
/// Octets of a reserve, as a part of a segment's.
const RESERVE_PART: u64 = 2;
/// Files of segments that are kept open though nobody reads them.
const IDLE_FILES_MAX: usize = 64;
/// How the name of a segment ends.
pub(crate) const SUFFIX: &str = ".seg";
const SPARE: &str = "spare-";
const RESERVE: &str = "reserve-";
/// Of files that are not finished yet.
const UNFINISHED: &str = ".new";
/// Octets written as zeros at a time, and between two syncs of them: a big one would hold up the log's own.
const ZEROS: usize = 1 << 20;
const ZEROS_SYNC: u64 = 8 << 20;

/// A segment of the log.
pub(crate) struct Segment {
    number: u64,
    path: PathBuf,
    file: Mutex<Option<Arc<dyn DeviceFile>>>,
    /// Octets of the file, as far as is known.
    bytes: AtomicU64,
    /// No record in it has a greater number.
    last_lsn: AtomicU64,
    /// Something in it is damaged, and may be looked into.
    is_kept: AtomicBool,
}

impl Segment {
    fn new(number: u64, path: PathBuf, file: Option<Arc<dyn DeviceFile>>, bytes: u64) -> Self {
        let (file, bytes, last_lsn) = (Mutex::new(file), AtomicU64::new(bytes), AtomicU64::new(0));
        Self { number, path, file, bytes, last_lsn, is_kept: AtomicBool::new(false) }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Octets of the file, as far as is known.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// The open file; opens it if need be. **Blocking.**
    pub(crate) fn file(&self, device: &dyn Device) -> io::Result<Arc<dyn DeviceFile>> {
        let mut file = self.file.lock();
        if let Some(file) = &*file {
            return Ok(Arc::clone(file));
        }
        let opened = device.open(&self.path, Opening::Existing)?;
        *file = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// The file, if it is open and nobody is just opening it.
    pub(crate) fn opened(&self) -> Option<Arc<dyn DeviceFile>> {
        self.file.try_lock()?.clone()
    }

    /// Have it kept whatever the index says: something in it is damaged.
    pub(crate) fn keep(&self) {
        self.is_kept.store(true, Relaxed);
    }

    /// Note that the file reaches at least so far, and up to which record.
    pub(crate) fn reaches(&self, bytes: u64, lsn: Lsn) {
        self.bytes.fetch_max(bytes, Relaxed);
        self.last_lsn.fetch_max(lsn, Relaxed);
    }
}

/// A segment to write in.
pub(crate) struct Taken {
    pub(crate) segment: Arc<Segment>,
    /// What distinguishes its records from older ones in the same file.
    pub(crate) nonce: u64,
    /// Where it ends.
    pub(crate) capacity: u64,
    /// Whether its file grows with what is written.
    pub(crate) is_growing: bool,
    /// Whether it is a reserve.
    pub(crate) is_reserve: bool,
}

/// What a segment is wanted for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Purpose {
    /// New mail as well.
    Mail,
    /// Outcomes only, which may take a reserve.
    Outcomes,
    /// Outcomes for which a file that grows had no room.
    LastRoom,
    /// Messages that are only moved: never a reserve.
    Cleaning,
}

#[derive(Default)]
struct Table {
    known: BTreeMap<u64, Arc<Segment>>,
    /// Their numbers.
    spares: Vec<u64>,
    reserves: Vec<u64>,
    next_number: u64,
    /// The next number of a spare or reserve.
    next_spare: u64,
    /// Segments that nobody needs any more, still to be made spares or removed.
    dead: Vec<Arc<Segment>>,
}

/// All segments.
pub(crate) struct Segments {
    device: Arc<dyn Device>,
    dir: PathBuf,
    database: u128,
    segment_bytes: u64,
    table: Mutex<Table>,
}

impl Segments {
    /// See what is in the directory; what was not finished is removed. Headers are not looked at. **Blocking.**
    pub(crate) fn open(
        device: Arc<dyn Device>,
        dir: PathBuf,
        database: u128,
        segment_bytes: u64,
    ) -> io::Result<Self> {
        let segment_bytes = align_up(segment_bytes.max(4 * PAGE), PAGE);
        let mut table = Table { next_number: 1, next_spare: 1, ..Table::default() };
        for name in device.list(&dir)? {
            let path = dir.join(&name);
            if let Some(number) = name.strip_suffix(SUFFIX).and_then(|number| number.parse().ok()) {
                let bytes = device.open(&path, Opening::Existing)?.size()?;
                let segment = Segment::new(number, path, None, bytes);
                table.known.insert(number, Arc::new(segment));
                table.next_number = table.next_number.max(number + 1);
            } else if let Some(number) = name.strip_prefix(SPARE).and_then(|number| number.parse().ok()) {
                table.next_spare = table.next_spare.max(number + 1);
                if table.spares.len() < SPARES_MAX && size(&*device, &path)? == segment_bytes {
                    table.spares.push(number);
                } else {
                    device.remove(&path)?;
                }
            } else if let Some(number) = name.strip_prefix(RESERVE).and_then(|number| number.parse().ok()) {
                table.next_spare = table.next_spare.max(number + 1);
                if table.reserves.len() < RESERVES && size(&*device, &path)? == reserve_bytes(segment_bytes) {
                    table.reserves.push(number);
                } else {
                    device.remove(&path)?;
                }
            } else if name.ends_with(UNFINISHED) {
                device.remove(&path)?;
            }
        }
        Ok(Self { device, dir, database, segment_bytes, table: Mutex::new(table) })
    }

    /// See which segments are in the directory, and change nothing; for those who only read. **Blocking.**
    pub(crate) fn look(device: &dyn Device, dir: &Path) -> io::Result<Vec<Arc<Segment>>> {
        let mut found = BTreeMap::new();
        for name in device.list(dir)? {
            let Some(number) = name.strip_suffix(SUFFIX).and_then(|number| number.parse().ok()) else {
                continue;
            };
            let path = dir.join(&name);
            let bytes = match size(device, &path) {
                // It was given up meanwhile, by whoever has the spool open.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                bytes => bytes?,
            };
            found.insert(number, Arc::new(Segment::new(number, path, None, bytes)));
        }
        Ok(found.into_values().collect())
    }

    /// Keep a segment for those who want to look into what is damaged in it.
    pub(crate) fn exempt(&self, number: u64) {
        if let Some(segment) = self.table.lock().known.get(&number) {
            segment.keep();
        }
    }

    /// Note that no record in the segments before `end` has a greater number.
    pub(crate) fn bound(&self, end: u64, lsn: Lsn) {
        for segment in self.table.lock().known.range(..end).map(|(_, segment)| segment) {
            segment.last_lsn.fetch_max(lsn, Relaxed);
        }
    }

    /// Never use a number up to this one again.
    pub(crate) fn skip_to(&self, number: u64) {
        let mut table = self.table.lock();
        table.next_number = table.next_number.max(number + 1);
    }

    /// All segments, by number.
    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.table.lock().known.values().cloned().collect()
    }

    /// A segment to read from; it stays what it is while this is held.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<Segment>> {
        self.table.lock().known.get(&number).cloned()
    }

    /// Octets of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.table.lock().known.values().map(|segment| segment.bytes.load(Relaxed)).sum()
    }

    /// Numbers and octets of the segments before `end` that may be cleaned.
    pub(crate) fn sizes(&self, end: u64) -> Vec<(u64, u64)> {
        let table = self.table.lock();
        let may_be = table.known.range(..end).filter(|(_, segment)| !segment.is_kept.load(Relaxed));
        may_be.map(|(&number, segment)| (number, segment.bytes.load(Relaxed))).collect()
    }

    /// Segments that are in use, and how many of them are kept because something in them is damaged.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let table = self.table.lock();
        let kept = table.known.values().filter(|segment| segment.is_kept.load(Relaxed)).count();
        (table.known.len() as u64, kept as u64)
    }

    /// The id of the database that the log is part of.
    pub(crate) fn database(&self) -> u128 {
        self.database
    }

    /// Octets of an ordinary segment.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Whether there is a spare to go on with.
    pub(crate) fn has_spare(&self) -> bool {
        !self.table.lock().spares.is_empty()
    }

    /// Octets of a reserve.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        reserve_bytes(self.segment_bytes)
    }

    /// Whether there are as many reserves as there should be.
    pub(crate) fn has_reserves(&self) -> bool {
        self.table.lock().reserves.len() >= RESERVES
    }

    /// Whether outcomes have two reserves besides the one that is written in.
    pub(crate) fn can_take_turns(&self) -> bool {
        self.table.lock().reserves.len() + 1 >= RESERVES
    }

    /// A segment that holds at least a record of this many octets. On return it is there after power loss, too.
    /// **Blocking.**
    pub(crate) fn take(&self, purpose: Purpose, record_bytes: u64) -> io::Result<Taken> {
        let capacity = align_up(FIRST + record_bytes, PAGE).max(self.segment_bytes);
        let is_ordinary = capacity == self.segment_bytes;
        let spare = if is_ordinary { self.table.lock().spares.pop() } else { None };
        if let Some(spare) = spare {
            let from = self.dir.join(format!("{SPARE}{spare}"));
            let file = self.device.open(&from, Opening::Existing);
            let file = file.inspect_err(|_| self.table.lock().spares.push(spare))?;
            let (segment, nonce) = self.adopt(&from, file)?;
            return Ok(Taken { segment, nonce, capacity, is_growing: false, is_reserve: false });
        }
        if purpose != Purpose::LastRoom {
            match self.create() {
                Err(error) if purpose == Purpose::Outcomes && device::is_full(&error) => {}
                result => {
                    let (segment, nonce) = result?;
                    return Ok(Taken { segment, nonce, capacity, is_growing: true, is_reserve: false });
                }
            }
        }
        let capacity = self.reserve_bytes();
        let is_fit = align_up(FIRST + record_bytes, PAGE) <= capacity;
        let reserve = if is_fit { self.table.lock().reserves.pop() } else { None };
        let reserve = reserve.ok_or(io::ErrorKind::StorageFull)?;
        let from = self.dir.join(format!("{RESERVE}{reserve}"));
        let file = self.device.open(&from, Opening::Existing);
        let file = file.inspect_err(|_| self.table.lock().reserves.push(reserve))?;
        let (segment, nonce) = self.adopt(&from, file)?;
        Ok(Taken { segment, nonce, capacity, is_growing: false, is_reserve: true })
    }

    /// The next number of a spare or reserve.
    fn next_spare(&self) -> u64 {
        let mut table = self.table.lock();
        table.next_spare += 1;
        table.next_spare - 1
    }

    fn next_number(&self) -> u64 {
        let mut table = self.table.lock();
        table.next_number += 1;
        table.next_number - 1
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:08}{SUFFIX}"))
    }

    /// Make a segment of a file that was kept for it.
    fn adopt(&self, from: &Path, file: Arc<dyn DeviceFile>) -> io::Result<(Arc<Segment>, u64)> {
        let number = self.next_number();
        let nonce = self.begin(&*file, number)?;
        let path = self.path(number);
        self.device.rename(from, &path)?;
        if let Err(error) = device::sync_dir(&*self.device, &self.dir) {
            // It holds nothing, and is taken for nothing if it cannot be removed.
            let _ = self.device.remove(&path);
            return Err(error);
        }
        Ok((self.add(number, path, file, self.segment_bytes), nonce))
    }

    fn create(&self) -> io::Result<(Arc<Segment>, u64)> {
        let number = self.next_number();
        let path = self.path(number);
        let file = self.device.open(&path, Opening::New)?;
        let begun = self
            .begin(&*file, number)
            .and_then(|nonce| device::sync_dir(&*self.device, &self.dir).map(|()| nonce));
        match begun {
            Ok(nonce) => Ok((self.add(number, path, file, FIRST), nonce)),
            Err(error) => {
                // It holds nothing, and is taken for nothing if it cannot be removed.
                let _ = self.device.remove(&path);
                Err(error)
            }
        }
    }

    /// Write a segment's first page, and see it on the disk; tells its nonce.
    fn begin(&self, file: &dyn DeviceFile, number: u64) -> io::Result<u64> {
        let nonce = self.device.random()?;
        let header = SegmentHeader { number, nonce, database: self.database };
        device::write_octets(file, &header.encode(), 0)?;
        device::sync(file)?;
        Ok(nonce)
    }

    fn add(&self, number: u64, path: PathBuf, file: Arc<dyn DeviceFile>, bytes: u64) -> Arc<Segment> {
        let segment = Arc::new(Segment::new(number, path, Some(file), bytes));
        self.table.lock().known.insert(number, Arc::clone(&segment));
        segment
    }

    /// Give up all segments before `end` that are not among `live` and that nobody holds.
    pub(crate) fn give_up(&self, end: u64, live: &[u64]) {
        let mut table = self.table.lock();
        let is_dead = |number: &u64, segment: &mut Arc<Segment>| {
            let is_kept = segment.is_kept.load(Relaxed);
            live.binary_search(number).is_err() && !is_kept && Arc::strong_count(segment) == 1
        };
        let dead: Vec<_> = table.known.extract_if(..end, is_dead).map(|(_, segment)| segment).collect();
        table.dead.extend(dead);
    }

    /// Remove a segment in which nothing was acknowledged, for its room. **Blocking.**
    pub(crate) fn discard(&self, segment: &Segment) {
        self.table.lock().known.remove(&segment.number);
        // If it stays, the next open finds that nobody needs it.
        let _ = self.device.remove(&segment.path);
    }

    /// The last record of what was given up and is still a segment on disk; `None` if there is no such segment.
    pub(crate) fn last_dead(&self) -> Option<Lsn> {
        self.table.lock().dead.iter().map(|segment| segment.last_lsn.load(Relaxed)).max()
    }

    /// Make what was given up, and has no record behind `floor`, reserves or spares, or remove it. **Blocking.**
    pub(crate) fn bury(&self, floor: Lsn) -> io::Result<()> {
        loop {
            let (segment, is_reserve, is_spare) = {
                let mut table = self.table.lock();
                let is_ripe = |segment: &Arc<Segment>| segment.last_lsn.load(Relaxed) <= floor;
                let Some(at) = table.dead.iter().position(is_ripe) else { return Ok(()) };
                let segment = table.dead.swap_remove(at);
                let bytes = segment.bytes.load(Relaxed);
                let is_reserve = bytes == self.reserve_bytes() && table.reserves.len() < RESERVES;
                let is_spare = bytes == self.segment_bytes && table.spares.len() < SPARES_MAX;
                (segment, is_reserve, is_spare)
            };
            if !is_reserve && !is_spare {
                self.device.remove(&segment.path)?;
                continue;
            }
            let number = self.next_spare();
            let kind = if is_reserve { RESERVE } else { SPARE };
            self.device.rename(&segment.path, &self.dir.join(format!("{kind}{number}")))?;
            let mut table = self.table.lock();
            let Table { reserves, spares, .. } = &mut *table;
            if is_reserve { reserves } else { spares }.push(number);
        }
    }

    /// Give up a reserve for its room, if it is not the last but one; tells whether there is more room now. **Blocking.**
    pub(crate) fn leave_reserve(&self) -> bool {
        let mut table = self.table.lock();
        if table.reserves.len() < RESERVES {
            return false;
        }
        let Some(number) = table.reserves.pop() else { return false };
        self.device.remove(&self.dir.join(format!("{RESERVE}{number}"))).is_ok()
    }

    /// Take room for another reserve. **Blocking.**
    pub(crate) fn make_reserve(&self) -> io::Result<()> {
        let number = self.next_spare();
        let path = self.dir.join(format!("{RESERVE}{number}{UNFINISHED}"));
        let made = self.device.open(&path, Opening::New).and_then(|file| {
            file.allocate(self.reserve_bytes())?;
            self.device.rename(&path, &self.dir.join(format!("{RESERVE}{number}")))
        });
        match made {
            Ok(()) => self.table.lock().reserves.push(number),
            Err(_) => drop(self.device.remove(&path)),
        }
        made
    }

    /// Write a spare full of zeros; stops when asked to. **Blocking**, for long.
    pub(crate) fn make_spare(&self, stop: &dyn Fn() -> bool) -> io::Result<()> {
        let number = self.next_spare();
        let path = self.dir.join(format!("{SPARE}{number}{UNFINISHED}"));
        let made = self.device.open(&path, Opening::New).and_then(|file| {
            let zeros = vec![0; ZEROS.min(self.segment_bytes as usize)];
            let mut at = 0;
            while at < self.segment_bytes {
                if stop() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let length = (self.segment_bytes - at).min(zeros.len() as u64);
                device::write_octets(&*file, zeros.get(..length as usize).unwrap_or(&zeros), at)?;
                at += length;
                if at % ZEROS_SYNC == 0 || at == self.segment_bytes {
                    device::sync(&*file)?;
                }
            }
            self.device.rename(&path, &self.dir.join(format!("{SPARE}{number}")))
        });
        match made {
            Ok(()) => self.table.lock().spares.push(number),
            Err(_) => drop(self.device.remove(&path)),
        }
        made
    }

    /// Cut a segment that is not written in any more to what it holds.
    pub(crate) fn cut(&self, segment: &Segment, end: u64) -> io::Result<()> {
        segment.file(&*self.device)?.set_size(end)?;
        segment.bytes.store(end, Relaxed);
        Ok(())
    }

    /// Close files that nobody reads, but for some.
    pub(crate) fn close_idle(&self) {
        let table = self.table.lock();
        let idle = table.known.values().rev().filter(|segment| Arc::strong_count(segment) == 1);
        for segment in idle.skip(IDLE_FILES_MAX) {
            *segment.file.lock() = None;
        }
    }
}

/// Octets of a reserve: whole pages, and at least one behind the first.
fn reserve_bytes(segment_bytes: u64) -> u64 {
    align_up(segment_bytes / RESERVE_PART, PAGE)
}

fn size(device: &dyn Device, path: &Path) -> io::Result<u64> {
    device.open(path, Opening::Existing)?.size()
}
