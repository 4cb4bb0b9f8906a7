//! Reading the log from where the index ends.
//!
//! Records are found by their headers, which carry the segment's nonce and the number of the record before. The next
//! record is the one that continues the chain. Where that one is not whole, or is missing, either the log ends there, or
//! something is damaged:
//!
//! * If a later record continues the chain, a write was given up half-way, and the log goes on.
//! * If a later record was written when the missing one was durable, the missing one was acknowledged: that is damage.
//!   It is reported, and the readable rest is kept, a message whose content alone is damaged too. So is a segment whose own header cannot be read although it has
//!   more than that: nobody knows what was in it.
//! * Otherwise nothing from there on was acknowledged, and the log ends.
//!
//! Nothing is changed here, and an error of the disk is an error: it is never taken for the end of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use penstock_core::queue_id::QueueId;

use crate::device::{self, Device, DeviceFile, Opening};
use crate::errors::OpenError;
use crate::facts::Lsn;
use crate::format::decode::{self, Part};
use crate::format::record::{self, RecordHeader};
use crate::format::segment::{FIRST, HEADER, SegmentHeader};
use crate::format::{ALIGN, Malformed, PAGE, align_up, chunk};
use crate::redo::{Location, Redo, Watermark};
use crate::segments::Segment;

/// Octets read at a time.
const WINDOW: u64 = 256 << 10;

/// A record that was found whole.
pub(crate) struct Found {
    /// Index of its segment among those scanned.
    pub(crate) segment: usize,
    pub(crate) offset: u64,
    pub(crate) header: RecordHeader,
    pub(crate) redo: Vec<Redo>,
}

/// Acknowledged octets that cannot be read.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Damage {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// What the log says behind the index.
#[derive(Default)]
pub(crate) struct Scan {
    /// In the order of the log, each once.
    pub(crate) records: Vec<Found>,
    pub(crate) damage: Vec<Damage>,
    /// The last record of the chain.
    pub(crate) last: Lsn,
    /// The greatest number of any record that was seen, whether it counts or not.
    pub(crate) greatest: Lsn,
    /// Where the log ends: index of the segment and offset.
    pub(crate) end: Option<(usize, u64)>,
    /// Why the watermark that the scan began at cannot be one of this log as it is now.
    pub(crate) contradiction: Option<&'static str>,
}

/// Numbers that records had at first, as far as they were seen: what has one of these is a copy. They ascend nearly
/// without gaps, so that runs of them take no room.
#[derive(Clone, Default, Debug)]
pub(crate) struct Origins {
    /// From each number up to and with the other.
    runs: BTreeMap<Lsn, Lsn>,
}

impl Origins {
    pub(crate) fn contains(&self, origin: Lsn) -> bool {
        self.runs.range(..=origin).next_back().is_some_and(|(_, &end)| end >= origin)
    }

    /// Put a number in; false if it was in already.
    pub(crate) fn insert(&mut self, origin: Lsn) -> bool {
        if self.contains(origin) {
            return false;
        }
        let end = origin.checked_add(1).and_then(|next| self.runs.remove(&next)).unwrap_or(origin);
        let before = self.runs.range_mut(..origin).next_back();
        match before.filter(|(_, last)| last.checked_add(1) == Some(origin)) {
            Some((_, last)) => *last = end,
            None => drop(self.runs.insert(origin, end)),
        }
        true
    }
}

/// How often a page is asked for that the disk does not give back.
const READS_MAX: usize = 3;

/// A segment while it is scanned.
pub(crate) struct Scanned {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn DeviceFile>,
    pub(crate) header: Option<SegmentHeader>,
    /// It has had a header and records, and the header is not there any more.
    pub(crate) is_unreadable: bool,
    size: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Pages that the disk does not give back. They count as zeros, in which no record is whole.
    bad_pages: BTreeSet<u64>,
}

impl Scanned {
    pub(crate) fn open(
        device: &dyn Device,
        segment: Arc<Segment>,
        database: u128,
    ) -> Result<Self, OpenError> {
        let file = segment.file(device).map_err(OpenError::io(segment.path()))?;
        Self::of(segment, file, database)
    }

    /// Look at a segment, if nobody has it open by a file of its own, which is closed with this.
    pub(crate) fn open_alone(
        device: &dyn Device,
        segment: Arc<Segment>,
        database: u128,
    ) -> Result<Self, OpenError> {
        let file = match segment.opened() {
            Some(file) => file,
            None => device.open(segment.path(), Opening::Existing).map_err(OpenError::io(segment.path()))?,
        };
        Self::of(segment, file, database)
    }

    /// Offsets of the pages that the disk did not give back so far.
    pub(crate) fn bad_offsets(&self) -> impl Iterator<Item = u64> {
        self.bad_pages.iter().map(|page| page * PAGE)
    }

    fn of(segment: Arc<Segment>, file: Arc<dyn DeviceFile>, database: u128) -> Result<Self, OpenError> {
        let (number, path) = (segment.number(), segment.path().to_path_buf());
        let failed = |error| OpenError::io(&path)(error);
        let size = file.size().map_err(failed)?;
        let mut bad_pages = BTreeSet::new();
        let found = match read_header(&*file) {
            Err(error) if device::is_unreadable(&error) => {
                bad_pages.insert(0);
                None
            }
            found => found.map_err(failed)?,
        };
        // A file gets its name, or more than its first page, only when that page is on the disk.
        let is_unreadable = found.is_none() && size > PAGE;
        let later = |Malformed(what)| OpenError::Record { segment: number, offset: 0, what };
        let header = found.transpose().map_err(later)?;
        let header = header.filter(|header| header.number == number && header.database == database);
        let window = Vec::new();
        Ok(Self { segment, file, header, is_unreadable, size, window, window_at: 0, bad_pages })
    }

    /// Octets at an offset; `None` beyond the end.
    fn octets(&mut self, offset: u64, length: u64) -> io::Result<Option<&[u8]>> {
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Ok(None);
        }
        let has = |at: u64, window: &[u8]| at <= offset && offset + length <= at + window.len() as u64;
        if !has(self.window_at, &self.window) {
            self.window.resize(length.max(WINDOW).min(self.size - offset) as usize, 0);
            self.window_at = offset;
            let read = match device::read_full(&*self.file, &mut self.window, offset) {
                Err(error) if device::is_unreadable(&error) => {
                    let bad_pages = &mut self.bad_pages;
                    read_pages(&*self.file, &mut self.window, offset, &mut |page| {
                        bad_pages.insert(page);
                    })?
                }
                read => read?,
            };
            self.window.truncate(read);
        }
        let start = (offset - self.window_at) as usize;
        Ok(self.window.get(start..start + length as usize))
    }

    /// The first header of a record at or after an offset.
    pub(crate) fn next_header(
        &mut self,
        mut offset: u64,
    ) -> io::Result<Option<(u64, Result<RecordHeader, Malformed>)>> {
        let Some(SegmentHeader { nonce, .. }) = self.header else { return Ok(None) };
        while self.octets(offset, record::HEADER as u64)?.is_some() {
            let window = self.window.get((offset - self.window_at) as usize..).unwrap_or_default();
            let (units, _) = window.as_chunks::<{ ALIGN as usize }>();
            let Some(at) = units.iter().position(|unit| record::may_begin(unit)) else {
                offset += ALIGN * units.len() as u64;
                continue;
            };
            offset += ALIGN * at as u64;
            let octets = self.octets(offset, record::HEADER as u64)?.and_then(<[u8]>::first_chunk);
            if let Some(found) = octets.and_then(|octets| RecordHeader::decode(octets, nonce)) {
                return Ok(Some((offset, found)));
            }
            offset += ALIGN;
        }
        Ok(None)
    }

    /// The body of the record at an offset, if it is whole.
    pub(crate) fn body(&mut self, offset: u64, header: &RecordHeader) -> io::Result<Option<&[u8]>> {
        let body = self.octets(offset + record::HEADER as u64, header.body_length.into())?;
        Ok(body.filter(|body| crc32c::crc32c(body) == header.body_sum))
    }

    /// Whether all chunks of a record are there.
    pub(crate) fn has_chunks(
        &mut self,
        offset: u64,
        header: &RecordHeader,
        queue_id: QueueId,
    ) -> io::Result<bool> {
        let mut at = offset + record::HEADER as u64 + u64::from(header.body_length);
        let end = at + u64::from(header.content_length);
        let mut sum = 0;
        while at < end {
            let Some(octets) = self.octets(at, chunk::HEADER as u64)? else { return Ok(false) };
            let Some(&head) = octets.first_chunk() else { return Ok(false) };
            let Ok(length) = chunk::length(head) else { return Ok(false) };
            sum = crc32c::crc32c_append(sum, &head);
            at += chunk::HEADER as u64;
            let Some(octets) = self.octets(at, length as u64)? else { return Ok(false) };
            if !chunk::is_whole(queue_id, head, octets) {
                return Ok(false);
            }
            at += length as u64;
        }
        Ok(at == end && sum == header.content_sum)
    }
}

/// Whose content a record has.
pub(crate) fn queue_id(parts: &[Part]) -> QueueId {
    let id = parts.iter().find_map(|part| match part {
        Part::Accepted { queue_id, .. } | Part::Moved { queue_id, .. } => Some(*queue_id),
        Part::Fact { .. } | Part::Started { .. } => None,
    });
    id.unwrap_or(QueueId(0))
}

/// Read page by page, with zeros for pages that the disk does not give back, whose numbers are told; tells how many
/// octets there are.
pub(crate) fn read_pages(
    file: &dyn DeviceFile,
    buffer: &mut [u8],
    offset: u64,
    bad: &mut dyn FnMut(u64),
) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + done as u64;
        let end = (done + (PAGE - at % PAGE) as usize).min(buffer.len());
        let Some(part) = buffer.get_mut(done..end) else { break };
        match read_stubbornly(file, part, at) {
            Err(error) if device::is_unreadable(&error) => {
                part.fill(0);
                bad(at / PAGE);
            }
            Ok(read) if read < part.len() => return Ok(done + read),
            read => drop(read?),
        }
        done = end;
    }
    Ok(done)
}

/// Read what the disk may not give back at once: nothing is given up for an error that does not stay.
pub(crate) fn read_stubbornly(file: &dyn DeviceFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut result = device::read_full(file, buffer, offset);
    for _ in 1..READS_MAX {
        match &result {
            Err(error) if device::is_unreadable(error) => result = device::read_full(file, buffer, offset),
            _ => break,
        }
    }
    result
}

/// Read what a segment says of itself. **Blocking.**
fn read_header(file: &dyn DeviceFile) -> io::Result<Option<Result<SegmentHeader, Malformed>>> {
    let mut octets = [0; HEADER];
    let read = read_stubbornly(file, &mut octets, 0)?;
    Ok(if read < HEADER { None } else { SegmentHeader::decode(&octets) })
}

/// A header, and where it is.
#[derive(Copy, Clone)]
struct Seen {
    segment: usize,
    offset: u64,
    header: RecordHeader,
}

/// Scans segments.
pub(crate) struct Scanner {
    segments: Vec<Scanned>,
    scan: Scan,
    origins: Origins,
    /// Where the index ends.
    from: Watermark,
}

impl Scanner {
    /// Look at segments, in order of their numbers; what has one of these first numbers is passed over. **Blocking.**
    pub(crate) fn open(
        device: &dyn Device,
        segments: Vec<Arc<Segment>>,
        database: u128,
        origins: Origins,
    ) -> Result<Self, OpenError> {
        let segments = segments
            .into_iter()
            .map(|segment| Scanned::open(device, segment, database))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { segments, scan: Scan::default(), origins, from: Watermark::default() })
    }

    /// Read all that comes after the watermark. **Blocking.**
    pub(crate) fn run(mut self, from: Watermark) -> Result<(Scan, Vec<Scanned>), OpenError> {
        self.scan.last = from.lsn;
        self.scan.greatest = from.lsn;
        self.from = from;
        let start = self.segments.partition_point(|one| one.segment.number() < from.segment);
        let unreadable = self.segments.iter().skip(start).filter(|one| one.is_unreadable);
        self.scan.damage.extend(unreadable.map(|one| Damage { segment: one.segment.number(), offset: 0 }));
        let is_there = self.segments.get(start).is_some_and(|one| one.segment.number() == from.segment);
        if from.segment > 0 && !is_there && start < self.segments.len() {
            self.scan.contradiction =
                Some("the log goes on, but the segment in which the index ends is gone");
        }
        let mut at = (start, if is_there { align_up(from.offset.max(FIRST), ALIGN) } else { FIRST });
        while let Some(next) = self.step(at)? {
            at = next;
        }
        for one in &self.segments {
            let number = one.segment.number();
            let bad = one.bad_offsets().filter(|offset| !(*offset == 0 && one.is_unreadable));
            self.scan.damage.extend(bad.map(|offset| Damage { segment: number, offset }));
        }
        Ok((self.scan, self.segments))
    }

    /// Take the next record; tells where to go on.
    fn step(&mut self, at: (usize, u64)) -> Result<Option<(usize, u64)>, OpenError> {
        let Some(seen) = self.next_seen(at)? else { return Ok(None) };
        let after = (seen.segment, seen.offset + seen.header.span());
        if seen.header.previous == self.scan.last && self.take(seen, Content::Whole)? {
            return Ok(Some(after));
        }
        // What continues the chain is not whole, or there is a hole before it.
        let from =
            if seen.header.previous == self.scan.last { (seen.segment, seen.offset + ALIGN) } else { at };
        let later = self.all_seen(from)?;
        let last = self.scan.last;
        if let Some(on) = later.iter().find(|seen| seen.header.previous == last) {
            return Ok(Some((on.segment, on.offset)));
        }
        match later.first() {
            Some(first) if later.iter().any(|seen| seen.header.durable > last) => {
                let (segment, offset) = at;
                self.note_hole(at, *first)?;
                let between = self.segments.get(segment..first.segment).unwrap_or_default();
                // Of segments that cannot be read at all it is known already.
                if !between.iter().any(|one| one.is_unreadable) {
                    let number = self.segments.get(segment).map_or(0, |one| one.segment.number());
                    self.scan.damage.push(Damage { segment: number, offset });
                }
                // Who it was for can still be told; that its content cannot be read, its delivery will say.
                if seen.header.previous == last && self.take(seen, Content::Any)? {
                    return Ok(Some(after));
                }
                self.scan.last = first.header.previous;
                Ok(Some((first.segment, first.offset)))
            }
            _ => Ok(None),
        }
    }

    /// Tell whether a hole in the log is damage, or comes from reading on from where nobody ever stopped: segments behind
    /// the watermark are not given up, and the record that the watermark names is where it says.
    fn note_hole(&mut self, (segment, offset): (usize, u64), first: Seen) -> Result<(), OpenError> {
        let number = |at: usize| self.segments.get(at).map_or(0, |one| one.segment.number());
        let is_whole = number(first.segment) - number(segment) == (first.segment - segment) as u64;
        if self.from.lsn == 0 && self.scan.last == 0 && number(0) > 1 {
            self.scan.contradiction = Some("the log does not begin where the index does");
        } else if !is_whole {
            self.scan.contradiction = Some("segments behind the end of the index are gone");
        } else if self.scan.last == self.from.lsn && self.from.lsn > 0 && self.from.offset > FIRST {
            let mut at = FIRST;
            // Where it cannot be read, nothing speaks against the index.
            let is_bad = |one: &Scanned| one.is_unreadable || one.bad_offsets().any(|bad| bad < offset);
            while let Some(one) = self.segments.get_mut(segment).filter(|_| at < offset) {
                match one.next_header(at).map_err(OpenError::io(one.segment.path()))? {
                    Some((_, Ok(header))) if header.lsn == self.from.lsn => return Ok(()),
                    Some((found, _)) if found < offset => at = found + ALIGN,
                    _ => break,
                }
            }
            if self.segments.get(segment).is_some_and(is_bad) {
                return Ok(());
            }
            self.scan.contradiction = Some("the log does not have the record with which the index ends");
        }
        Ok(())
    }

    /// The next header of a record that is later than the last one.
    fn next_seen(&mut self, at: (usize, u64)) -> Result<Option<Seen>, OpenError> {
        let (mut segment, mut offset) = at;
        while let Some(scanned) = self.segments.get_mut(segment) {
            let found = scanned.next_header(offset).map_err(OpenError::io(scanned.segment.path()))?;
            match found {
                None => (segment, offset) = (segment + 1, FIRST),
                Some((at, Err(Malformed(what)))) => {
                    return Err(OpenError::Record { segment: scanned.segment.number(), offset: at, what });
                }
                Some((at, Ok(header))) => {
                    self.scan.greatest = self.scan.greatest.max(header.lsn);
                    if header.lsn <= self.from.lsn {
                        self.scan.contradiction =
                            Some("behind the end of the index the log has records from before it");
                    }
                    if header.lsn > self.scan.last {
                        return Ok(Some(Seen { segment, offset: at, header }));
                    }
                    offset = at + ALIGN;
                }
            }
        }
        Ok(None)
    }

    /// All headers of later records from here on.
    fn all_seen(&mut self, mut at: (usize, u64)) -> Result<Vec<Seen>, OpenError> {
        let mut all = Vec::new();
        while let Some(seen) = self.next_seen(at)? {
            all.push(seen);
            at = (seen.segment, seen.offset + ALIGN);
        }
        Ok(all)
    }

    /// Take a record into the result if it is whole.
    fn take(&mut self, seen: Seen, content: Content) -> Result<bool, OpenError> {
        let Seen { segment, offset, header } = seen;
        let Some(scanned) = self.segments.get_mut(segment) else { return Ok(false) };
        let path = scanned.segment.path().to_path_buf();
        let failed = |error| OpenError::io(&path)(error);
        let number = scanned.segment.number();
        let Some(body) = scanned.body(offset, &header).map_err(failed)? else { return Ok(false) };
        let unknown = |Malformed(what)| OpenError::Record { segment: number, offset, what };
        let parts = decode::body(body).map_err(unknown)?;
        let has_content = match content {
            Content::Whole => scanned.has_chunks(offset, &header, queue_id(&parts)),
            Content::Any => scanned.octets(offset, header.record_bytes()).map(|octets| octets.is_some()),
        };
        if !has_content.map_err(failed)? {
            return Ok(false);
        }
        self.scan.last = header.lsn;
        self.scan.end = Some((segment, offset + header.span()));
        if self.origins.insert(header.origin) {
            let redo = redo(parts, &header, number, offset);
            self.scan.records.push(Found { segment, offset, header, redo });
        }
        Ok(true)
    }
}

/// What a record's content must be for the record to count.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Content {
    /// Whole.
    Whole,
    /// In the file, whatever it is.
    Any,
}

/// What a record says, for the index.
pub(crate) fn redo(parts: Vec<Part>, header: &RecordHeader, segment: u64, offset: u64) -> Vec<Redo> {
    let lsn = header.lsn;
    let location = Location {
        segment,
        offset: offset + record::HEADER as u64 + u64::from(header.body_length),
        length: header.content_length.into(),
        record_bytes: header.record_bytes(),
        blob: None,
    };
    let redo = |part| match part {
        Part::Accepted { queue_id, accepted, hops, blob } => {
            let location = Location { blob, ..location };
            Redo::Accepted { lsn, queue_id, accepted: Arc::new(*accepted), location, hops }
        }
        Part::Fact { fact, hops } => Redo::Fact { lsn, fact, hops },
        Part::Started { queue_id, hop, attempt, peer } => Redo::Started { lsn, queue_id, hop, attempt, peer },
        Part::Moved { queue_id, accepted, hops, blob, as_of, attempts } => {
            let location = Location { blob, ..location };
            let accepted = Arc::new(*accepted);
            Redo::Moved { lsn, queue_id, accepted, location, hops, as_of, attempts }
        }
    };
    parts.into_iter().map(redo).collect()
}
