//! The index anew, from what the log says.
//!
//! All segments are read in order. What is damaged is reported and passed over; what can be read is applied to an index
//! beside the old one (`index.new`), batch by batch, so that memory does not grow with the log. The old index is put
//! aside under another name when the new one is on the disk, and never before. A crash leaves the old index, or none,
//! and the next open begins again.
//!
//! # What is read
//!
//! Records of the chain, up to the last of which a later one says that it was durable. What comes after that, a few
//! groups, is left to the recovery that follows: it makes durable what it finds, and reads it as it always does.
//!
//! Where the chain breaks, the log is read on until a record continues it (a write was given up half-way) or says that
//! what is missing was durable. Then it was lost, or went with a segment that was given up; either way the log goes on
//! with the next record that can be read. Content is checked, too; a message whose content is damaged is kept all the
//! same: who it was for can be told, and its delivery will say what is wrong with it.
//!
//! # What may come back
//!
//! That a message is finished is said by a record behind it, and that record may have been in a segment that was given up
//! meanwhile, since nothing in it was needed any more. Such a message comes back, and so does a recipient who has the
//! message already. So every message is counted as one that may repeat that was accepted before the last hole in the log:
//! before a segment number that is missing, or in or before a segment of which a record cannot be read. The others cannot
//! repeat.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Instant;

use penstock_core::queue_id::QueueId;

use crate::blobs::Blobs;
use crate::device::Device;
use crate::errors::OpenError;
use crate::facts::Lsn;
use crate::format::decode;
use crate::format::record::RecordHeader;
use crate::format::segment::FIRST;
use crate::format::{ALIGN, Malformed};
use crate::index::{Index, IndexError};
use crate::redo::{Redo, Watermark};
use crate::scan::{self, Damage, Origins, Scanned};
use crate::segments::Segment;

/// Records, and octets of their bodies, that go into the index at a time.
const BATCH_RECORDS: usize = 16 << 10;
const BATCH_BYTES: usize = 8 << 20;
/// Indexes that were put aside and are kept.
const KEPT_MAX: usize = 2;
/// What an index that was put aside is called, before its number.
const ASIDE: &str = "index.bad-";
const NEW: &str = "index.new";

/// What was made anew of an index that could not be used.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Salvaged {
    /// What was wrong with the index.
    pub reason: String,
    /// Messages that are in the new one.
    pub messages: u64,
    /// Of these, messages of which something may have been delivered already although nothing says so any more.
    pub may_repeat: u64,
    /// Records that were read.
    pub records: u64,
    /// Segments that were read.
    pub segments: u64,
    /// Numbers of segments between them that are not there: given up, or lost.
    pub missing_segments: u64,
    /// Places where acknowledged records, or their contents, cannot be read.
    pub damaged: u64,
    /// Messages whose blob is not there: it was lost, or they were finished and have come back.
    pub missing_blobs: u64,
    /// Where the old index is now; `None` if there was none.
    pub kept: Option<PathBuf>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What a salvage needs to know.
pub(crate) struct Order<'a> {
    pub(crate) device: &'a dyn Device,
    pub(crate) segments: &'a [Arc<Segment>],
    pub(crate) database: u128,
    pub(crate) blobs: &'a Blobs,
    /// The directory of the index.
    pub(crate) index: &'a Path,
    pub(crate) map_bytes: u64,
    /// No record behind this one was ever in a segment that is gone; what goes up to it was durable.
    pub(crate) floor: Lsn,
    /// Until when messages are kept that are found to be finished; `None` if they are not.
    pub(crate) keep_until_ms: Option<u64>,
    pub(crate) reason: &'a str,
    /// Told now and then how many octets of the log have been read.
    pub(crate) progress: &'a dyn Fn(u64),
}

/// What a salvage came to.
pub(crate) struct Outcome {
    pub(crate) salvaged: Salvaged,
    pub(crate) damage: Vec<Damage>,
    /// First numbers of the records that are in the new index.
    pub(crate) origins: Origins,
    /// Messages of the new index whose blob is there and not what their records say.
    pub(crate) damaged_blobs: Vec<QueueId>,
}

/// Make the index anew. **Durability**: on return the new index is on the disk, under its name. **Blocking**: reads the
/// whole log.
pub(crate) fn salvage(order: &Order<'_>) -> Result<Outcome, OpenError> {
    let began = Instant::now();
    let shard = order.index.parent().unwrap_or(order.index);
    let new = shard.join(NEW);
    remove(&new).map_err(OpenError::io(&new))?;
    let built = build(order, &new);
    let built = match built {
        Ok(built) => built,
        Err(error) => {
            // It is in nobody's way, and removed before the next try.
            let _ = remove(&new);
            return Err(error);
        }
    };
    let kept = replace(order.index, &new).map_err(OpenError::io(order.index))?;
    Ok(outcome(order, built, kept, began))
}

/// What a salvage would find: an index is made, and thrown away. **Blocking**: reads the whole log.
pub(crate) fn survey(order: &Order<'_>) -> Result<Outcome, OpenError> {
    let began = Instant::now();
    let dir = order.index.parent().unwrap_or(order.index).join(NEW);
    remove(&dir).map_err(OpenError::io(&dir))?;
    let built = build(order, &dir);
    remove(&dir).map_err(OpenError::io(&dir))?;
    Ok(outcome(order, built?, None, began))
}

fn outcome(order: &Order<'_>, built: Built, kept: Option<PathBuf>, began: Instant) -> Outcome {
    let Built { reading, messages, may_repeat, damaged_blobs, missing_blobs } = built;
    let salvaged = Salvaged {
        reason: order.reason.into(),
        messages,
        may_repeat,
        records: reading.records,
        segments: order.segments.len() as u64,
        missing_segments: reading.missing,
        damaged: (reading.damage.len() + damaged_blobs.len()) as u64,
        missing_blobs,
        kept,
        took_ms: began.elapsed().as_millis() as u64,
    };
    Outcome { salvaged, damage: reading.damage, origins: reading.origins, damaged_blobs }
}

/// Read the whole log, and make nothing of it; tells how many records there are, and what is damaged. **Blocking.**
pub(crate) fn read(order: &Order<'_>) -> Result<(u64, Vec<Damage>), OpenError> {
    let (send, batches) = mpsc::sync_channel::<Batch>(1);
    let reading = std::thread::scope(|scope| {
        scope.spawn(move || batches.into_iter().for_each(drop));
        Reader::new(order, send).run()
    })?;
    Ok((reading.records, reading.damage))
}

fn index_failed(error: &IndexError) -> OpenError {
    OpenError::Index { text: format!("it cannot be made anew: {error}") }
}

/// An index that was made.
struct Built {
    reading: Reading,
    messages: u64,
    may_repeat: u64,
    damaged_blobs: Vec<QueueId>,
    missing_blobs: u64,
}

/// Fill an index in `path`.
fn build(order: &Order<'_>, path: &Path) -> Result<Built, OpenError> {
    let index = Index::create_in_bulk(path, order.map_bytes, order.database.to_le_bytes())
        .map_err(|error| index_failed(&error))?;
    let (send, batches) = mpsc::sync_channel(1);
    let (reading, applied) = std::thread::scope(|scope| {
        let (index, keep_until_ms) = (&index, order.keep_until_ms);
        let applying = scope.spawn(move || apply(index, batches, keep_until_ms));
        let reading = Reader::new(order, send).run();
        (reading, applying.join())
    });
    let applied = applied.unwrap_or_else(|_| Err(OpenError::Index { text: "its thread has died".into() }));
    // What stopped the index is why the reading ended.
    applied?;
    let reading = reading?;
    let failed = |error| index_failed(&error);
    if let Some(greatest) = reading.greatest_id {
        index.skip_queue_ids(greatest).map_err(failed)?;
    }
    let messages = index.messages_count().map_err(failed)?;
    let before_hole = index.segments().map_err(failed)?;
    let before_hole = before_hole.iter().filter(|one| one.segment < reading.hole);
    let may_repeat: u64 = before_hole.map(|one| one.live_messages).sum();
    // What is finished is not tried.
    let may_repeat = may_repeat.saturating_sub(index.kept_before(reading.hole).map_err(failed)?);
    let (mut damaged_blobs, mut missing_blobs) = (Vec::new(), 0);
    for (queue_id, _) in index.blobs().map_err(failed)? {
        let stored = index.stored(queue_id).map_err(failed)?;
        let Some(expected) = stored.and_then(|stored| stored.location.blob) else { continue };
        match order.blobs.is_there(queue_id, expected) {
            Ok(true) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing_blobs += 1,
            Ok(false) | Err(_) => damaged_blobs.push(queue_id),
        }
    }
    index.sync().map_err(failed)?;
    index.close();
    Ok(Built { reading, messages, may_repeat, damaged_blobs, missing_blobs })
}

fn apply(index: &Index, batches: Receiver<Batch>, keep_until_ms: Option<u64>) -> Result<(), OpenError> {
    for batch in batches {
        let applied = index.apply_anew(&batch.redo, batch.to, keep_until_ms);
        applied.map_err(|error| index_failed(&error))?;
    }
    Ok(())
}

/// Put the new index in the place of the old one; tells where that is now. **Durability**: on return the names are on the
/// disk; a crash before leaves the old index, or none.
fn replace(index: &Path, new: &Path) -> io::Result<Option<PathBuf>> {
    let shard = index.parent().unwrap_or(index);
    let sync = |dir: &Path| fs::File::open(dir).and_then(|dir| dir.sync_all());
    sync(new)?;
    let aside = aside(shard)?;
    let next = aside.last().map_or(1, |last| last + 1);
    let kept = shard.join(format!("{ASIDE}{next}"));
    let kept = match fs::rename(index, &kept) {
        Ok(()) => Some(kept),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    fs::rename(new, index)?;
    sync(shard)?;
    let keep = KEPT_MAX - usize::from(kept.is_some());
    for number in aside.iter().rev().skip(keep) {
        // It only takes room.
        let _ = remove(&shard.join(format!("{ASIDE}{number}")));
    }
    Ok(kept)
}

/// Numbers of the indexes that were put aside.
fn aside(shard: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(shard)? {
        let name = entry?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_prefix(ASIDE)?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Remove an index with its directory.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Records on their way to the index.
#[derive(Default)]
struct Batch {
    redo: Vec<Redo>,
    to: Watermark,
    records: usize,
    bytes: usize,
}

/// What was read of the log.
#[derive(Default)]
struct Reading {
    damage: Vec<Damage>,
    origins: Origins,
    records: u64,
    missing: u64,
    /// Messages in segments before this one may repeat.
    hole: u64,
    greatest_id: Option<QueueId>,
}

/// A record that was read, and of which no later one has said that it was durable.
struct Held {
    lsn: Lsn,
    /// The record before it.
    previous: Lsn,
    origin: Lsn,
    start: (u64, u64),
    end: (u64, u64),
    bytes: usize,
    redo: Vec<Redo>,
}

/// A header, and where it is.
#[derive(Copy, Clone)]
struct Seen {
    segment: usize,
    offset: u64,
    header: RecordHeader,
}

impl Seen {
    fn after(&self) -> (usize, u64) {
        (self.segment, self.offset + self.header.span())
    }
}

/// How the log goes on behind something that cannot be read.
enum On {
    /// A record continues the chain.
    Continued(Seen),
    /// What is missing was durable; this is the next that can be read.
    Lost(Seen),
    /// Nothing says that it was durable.
    Ends(Option<Seen>),
}

/// Reads the log from its beginning, one segment at a time.
struct Reader<'a> {
    order: &'a Order<'a>,
    to: SyncSender<Batch>,
    open: Option<(usize, Scanned)>,
    last: Option<Lsn>,
    durable: Lsn,
    held: std::collections::VecDeque<Held>,
    batch: Batch,
    /// Up to where all that was read is known to be durable.
    reached: Watermark,
    reading: Reading,
    read_bytes: u64,
    is_refused: bool,
}

impl<'a> Reader<'a> {
    fn new(order: &'a Order<'a>, to: SyncSender<Batch>) -> Self {
        let mut reading = Reading::default();
        for pair in order.segments.windows(2) {
            if let [one, next] = pair
                && next.number() > one.number() + 1
            {
                reading.missing += next.number() - one.number() - 1;
                reading.hole = next.number();
            }
        }
        Self {
            order,
            to,
            open: None,
            last: None,
            durable: order.floor,
            held: std::collections::VecDeque::new(),
            batch: Batch::default(),
            reached: Watermark::default(),
            reading,
            read_bytes: 0,
            is_refused: false,
        }
    }

    fn run(mut self) -> Result<Reading, OpenError> {
        let mut at = (0, FIRST);
        while let Some(next) = self.step(at)?.filter(|_| !self.is_refused) {
            at = next;
        }
        self.close();
        self.step_over_what_is_gone();
        self.send();
        Ok(self.reading)
    }

    /// Go on behind segments that are gone, if nothing that is known to be durable comes after them: they were given up,
    /// and the replay that follows must not take them for lost.
    fn step_over_what_is_gone(&mut self) {
        let last = self.order.segments.last();
        let is_gone = |number: u64| !self.order.segments.iter().any(|segment| segment.number() == number);
        match self.held.front() {
            Some(held) if (self.reached.segment..held.start.0).skip(1).any(is_gone) => {
                let (segment, offset) = held.start;
                self.batch.to = Watermark { lsn: held.previous, segment, offset };
            }
            None if self.reached.lsn < self.order.floor => {
                let (segment, offset) = last.map_or((0, 0), |last| (last.number(), last.bytes()));
                self.batch.to = Watermark { lsn: self.order.floor, segment, offset };
            }
            _ => {}
        }
    }

    fn number(&self, segment: usize) -> u64 {
        self.order.segments.get(segment).map_or(0, |segment| segment.number())
    }

    /// The segment at this place, open; `None` behind the last.
    fn scanned(&mut self, at: usize) -> Result<Option<&mut Scanned>, OpenError> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != at) {
            self.close();
            let Some(segment) = self.order.segments.get(at) else { return Ok(None) };
            let scanned = Scanned::open_alone(self.order.device, Arc::clone(segment), self.order.database)?;
            self.open = Some((at, scanned));
        }
        Ok(self.open.as_mut().map(|(_, scanned)| scanned))
    }

    /// Close the segment that is open; what the disk did not give back of it is damage, whatever lay there.
    fn close(&mut self) {
        let Some((at, scanned)) = self.open.take() else { return };
        // One whose first page is bad is told as such.
        for offset in scanned.bad_offsets().filter(|offset| *offset > 0) {
            self.damaged(at, offset, Lost::Record);
        }
    }

    /// Note damage; what a record says may be lost with it, but nothing is with content alone.
    fn damaged(&mut self, segment: usize, offset: u64, lost: Lost) {
        let damage = Damage { segment: self.number(segment), offset };
        if lost == Lost::Record {
            self.reading.hole = self.reading.hole.max(damage.segment + 1);
        }
        if !self.reading.damage.contains(&damage) {
            self.reading.damage.push(damage);
        }
    }

    /// The next header that is later than the last record.
    fn next_seen(&mut self, at: (usize, u64)) -> Result<Option<Seen>, OpenError> {
        let (mut segment, mut offset) = at;
        let last = self.last;
        while let Some(scanned) = self.scanned(segment)? {
            let (is_unreadable, number) = (scanned.is_unreadable, scanned.segment.number());
            match scanned.next_header(offset).map_err(OpenError::io(scanned.segment.path()))? {
                None => {
                    if is_unreadable {
                        self.damaged(segment, 0, Lost::Record);
                    }
                    (segment, offset) = (segment + 1, FIRST);
                }
                Some((at, Err(Malformed(what)))) => {
                    return Err(OpenError::Record { segment: number, offset: at, what });
                }
                Some((at, Ok(header))) if last.is_none_or(|last| header.lsn > last) => {
                    return Ok(Some(Seen { segment, offset: at, header }));
                }
                Some((at, Ok(_))) => offset = at + ALIGN,
            }
        }
        Ok(None)
    }

    /// Take the next record; tells where to go on.
    fn step(&mut self, at: (usize, u64)) -> Result<Option<(usize, u64)>, OpenError> {
        let Some(seen) = self.next_seen(at)? else { return Ok(None) };
        let last = match self.last {
            Some(last) => last,
            None => self.begin(seen),
        };
        if seen.header.previous == last {
            match self.take(seen)? {
                Whole::Yes => return Ok(Some(seen.after())),
                Whole::ButContent(parts) => return self.judge_content(seen, parts),
                Whole::No => {}
            }
        }
        let from = if seen.header.previous == last { (seen.segment, seen.offset + ALIGN) } else { at };
        let is_given_up = {
            let (segment, number) = (at.0, self.number(at.0));
            self.number(seen.segment) - number != (seen.segment - segment) as u64
        };
        match self.look_ahead(from, last)? {
            On::Continued(on) => Ok(Some((on.segment, on.offset))),
            On::Lost(on) => {
                // Where segments are missing it is not known to be damage; where one cannot be read at all it is known.
                let unreadable = (at.0..on.segment).map(|at| Damage { segment: self.number(at), offset: 0 });
                let is_known = unreadable.into_iter().any(|one| self.reading.damage.contains(&one));
                if !is_known && (!is_given_up || seen.header.previous == last) {
                    self.damaged(at.0, at.1, Lost::Record);
                }
                self.last = Some(on.header.previous);
                Ok(Some((on.segment, on.offset)))
            }
            On::Ends(Some(on)) if is_given_up && seen.header.previous != last => {
                self.last = Some(on.header.previous);
                Ok(Some((on.segment, on.offset)))
            }
            On::Ends(_) => Ok(None),
        }
    }

    /// Begin with the first record that there is. What came before it, nobody can tell, unless the log is there from its
    /// beginning.
    fn begin(&mut self, first: Seen) -> Lsn {
        let lsn = if self.number(0) == 1 { 0 } else { first.header.previous };
        self.last = Some(lsn);
        self.batch.to = Watermark { lsn, segment: self.number(first.segment), offset: FIRST };
        self.reached = self.batch.to;
        lsn
    }

    /// A record is whole but for its content: keep it if it was durable.
    fn judge_content(
        &mut self,
        seen: Seen,
        parts: Vec<decode::Part>,
    ) -> Result<Option<(usize, u64)>, OpenError> {
        let last = seen.header.previous;
        match self.look_ahead((seen.segment, seen.offset + ALIGN), last)? {
            On::Continued(on) => Ok(Some((on.segment, on.offset))),
            On::Lost(_) => {
                self.damaged(seen.segment, seen.offset, Lost::Content);
                self.keep(seen, parts);
                Ok(Some(seen.after()))
            }
            On::Ends(_) => Ok(None),
        }
    }

    /// Find out how the log goes on behind what cannot be read.
    fn look_ahead(&mut self, mut at: (usize, u64), last: Lsn) -> Result<On, OpenError> {
        let mut first = None;
        while let Some(seen) = self.next_seen(at)? {
            if seen.header.previous == last {
                return Ok(On::Continued(seen));
            }
            let first = *first.get_or_insert(seen);
            if seen.header.durable > last {
                return Ok(On::Lost(first));
            }
            at = (seen.segment, seen.offset + ALIGN);
        }
        Ok(On::Ends(first))
    }

    /// Take a record if it is whole.
    fn take(&mut self, seen: Seen) -> Result<Whole, OpenError> {
        let Seen { segment, offset, header } = seen;
        let Some(scanned) = self.scanned(segment)? else { return Ok(Whole::No) };
        let (path, number) = (scanned.segment.path().to_path_buf(), scanned.segment.number());
        let failed = |error| OpenError::io(&path)(error);
        let Some(body) = scanned.body(offset, &header).map_err(failed)? else { return Ok(Whole::No) };
        let unknown = |Malformed(what)| OpenError::Record { segment: number, offset, what };
        let parts = decode::body(body).map_err(unknown)?;
        if !scanned.has_chunks(offset, &header, scan::queue_id(&parts)).map_err(failed)? {
            return Ok(Whole::ButContent(parts));
        }
        if self.is_repeated(&header) {
            self.pass(&seen);
        } else {
            self.keep(seen, parts);
        }
        Ok(Whole::Yes)
    }

    /// Whether a record is a copy of one that was read whole.
    fn is_repeated(&self, header: &RecordHeader) -> bool {
        let origin = header.origin;
        let is_held = || self.held.iter().any(|held| held.origin == origin);
        origin != header.lsn && (self.reading.origins.contains(origin) || is_held())
    }

    /// Note that a record is part of the log.
    fn pass(&mut self, seen: &Seen) {
        self.last = Some(seen.header.lsn);
        self.durable = self.durable.max(seen.header.durable);
        self.read_bytes += seen.header.span();
        if self.reading.records.is_multiple_of(4_096) {
            (self.order.progress)(self.read_bytes);
        }
    }

    /// Keep what a record says until it is known to be durable.
    fn keep(&mut self, seen: Seen, parts: Vec<decode::Part>) {
        self.pass(&seen);
        self.reading.records += 1;
        let number = self.number(seen.segment);
        let redo = scan::redo(parts, &seen.header, number, seen.offset);
        for one in &redo {
            self.reading.greatest_id = self.reading.greatest_id.max(one.subject());
        }
        let end = (number, seen.offset + seen.header.span());
        let bytes = seen.header.body_length as usize;
        let RecordHeader { lsn, previous, origin, .. } = seen.header;
        let start = (number, seen.offset);
        self.held.push_back(Held { lsn, previous, origin, start, end, bytes, redo });
        while let Some(held) = self.held.pop_front_if(|held| held.lsn <= self.durable) {
            self.reading.origins.insert(held.origin);
            let batch = &mut self.batch;
            batch.records += 1;
            batch.bytes += held.bytes;
            batch.redo.extend(held.redo);
            batch.to = Watermark { lsn: held.lsn, segment: held.end.0, offset: held.end.1 };
            self.reached = batch.to;
            if batch.records >= BATCH_RECORDS || batch.bytes >= BATCH_BYTES {
                self.send();
            }
        }
    }

    fn send(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if batch.to.lsn > 0 {
            // It is refused only if the index failed, which the other end tells.
            self.is_refused |= self.to.send(batch).is_err();
        }
    }
}

/// What damage has taken.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Lost {
    Record,
    Content,
}

/// Whether a record is whole.
enum Whole {
    Yes,
    No,
    /// All but its content, which is damaged.
    ButContent(Vec<decode::Part>),
}
