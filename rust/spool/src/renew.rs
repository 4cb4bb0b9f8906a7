//! Making what a recovery has found durable beyond doubt.
//!
//! It is appended again to a fresh segment, and synced. Each copy names the number that its original had, so that a
//! recovery which is cut off leaves copies that are passed over. Only if the disk has no room for copies are the
//! originals written again where they are: the same octets, so that nothing is lost whichever of them reach the disk.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::cancel;
use crate::device::{self, Device};
use crate::facts::Lsn;
use crate::format::record::{self, RecordHeader};
use crate::format::segment::FIRST;
use crate::format::{ALIGN, align_up};
use crate::redo::{Redo, Watermark};
use crate::scan::{self, Found, Scan, Scanned};
use crate::segments::{Purpose, Segment, Segments, Taken};

/// Octets that are copied at a time, single records apart.
const COPY_BYTES: usize = 1 << 20;

/// The new end of the log.
pub(crate) struct Renewed {
    pub(crate) taken: Taken,
    pub(crate) position: u64,
    /// The last record of the chain.
    pub(crate) last: Lsn,
    /// The greatest number that was ever given.
    pub(crate) greatest: Lsn,
    /// All that was found, as the index is to have it.
    pub(crate) redo: Vec<Redo>,
}

impl Renewed {
    pub(crate) fn watermark(&self) -> Watermark {
        Watermark { lsn: self.last, segment: self.taken.segment.number(), offset: self.position }
    }
}

/// Make durable what was found; what came and went in it only if it is to be kept all the same. **Blocking.**
pub(crate) fn renew(
    segments: &Segments,
    device: &dyn Device,
    mut scan: Scan,
    scanned: &[Scanned],
    (from, keeps_finished): (Watermark, bool),
) -> io::Result<Renewed> {
    let mut copier = Copier::new(segments, device, &scan);
    let kept = if keeps_finished { vec![true; scan.records.len()] } else { cancel::kept(&scan.records) };
    let moved = copier.copy(&scan, &kept, scanned, from);
    let Copier { taken, written, position, last, greatest, .. } = copier;
    match moved {
        Ok(moved) => {
            for (found, moved) in scan.records.iter_mut().zip(moved) {
                if let Some(moved) = moved {
                    found.redo.iter_mut().for_each(|one| moved.apply(one));
                }
            }
            let redo = scan.records.into_iter().flat_map(|found| found.redo).collect();
            let taken = taken.ok_or(io::ErrorKind::StorageFull)?;
            Ok(Renewed { taken, position, last, greatest, redo })
        }
        Err(error) if device::is_full(&error) => {
            for segment in written {
                segments.discard(&segment);
            }
            in_place(segments, device, scan, scanned, from, greatest)
        }
        Err(error) => Err(error),
    }
}

/// Where a record is now.
struct Moved {
    header: RecordHeader,
    segment: u64,
    offset: u64,
}

impl Moved {
    fn apply(&self, redo: &mut Redo) {
        match redo {
            Redo::Accepted { lsn, location, .. } | Redo::Moved { lsn, location, .. } => {
                *lsn = self.header.lsn;
                location.segment = self.segment;
                location.offset = self.offset + record::HEADER as u64 + u64::from(self.header.body_length);
            }
            Redo::Fact { lsn, .. } | Redo::Started { lsn, .. } => *lsn = self.header.lsn,
        }
    }
}

struct Copier<'a> {
    segments: &'a Segments,
    device: &'a dyn Device,
    taken: Option<Taken>,
    written: Vec<Arc<Segment>>,
    position: u64,
    last: Lsn,
    greatest: Lsn,
    buffer: Vec<u8>,
}

impl<'a> Copier<'a> {
    fn new(segments: &'a Segments, device: &'a dyn Device, scan: &Scan) -> Self {
        let (last, greatest) = (scan.last, scan.greatest.max(scan.last));
        let (taken, written, buffer) = (None, Vec::new(), Vec::new());
        Self { segments, device, taken, written, position: FIRST, last, greatest, buffer }
    }

    /// Copy what must be kept, and sync it. Tells where each record is now, if it was copied.
    fn copy(
        &mut self,
        scan: &Scan,
        kept: &[bool],
        scanned: &[Scanned],
        from: Watermark,
    ) -> io::Result<Vec<Option<Moved>>> {
        self.take(0)?;
        let copied = scan.records.iter().zip(kept).map(|(found, kept)| match scanned.get(found.segment) {
            Some(segment) if *kept => self.append(found, segment, from.lsn).map(Some),
            _ => Ok(None),
        });
        let moved = copied.collect::<io::Result<Vec<_>>>()?;
        self.flush()?;
        for segment in &self.written {
            device::sync(&*segment.file(self.device)?)?;
        }
        Ok(moved)
    }

    fn take(&mut self, record_bytes: u64) -> io::Result<()> {
        let taken = self.segments.take(Purpose::Outcomes, record_bytes)?;
        self.written.push(Arc::clone(&taken.segment));
        self.taken = Some(taken);
        self.position = FIRST;
        Ok(())
    }

    fn append(&mut self, found: &Found, from: &Scanned, durable: Lsn) -> io::Result<Moved> {
        let (rest, _) = read(from, found)?;
        let capacity = self.taken.as_ref().map_or(0, |taken| taken.capacity);
        if self.position + self.buffer.len() as u64 + found.header.span() > capacity {
            self.flush()?;
            self.take(found.header.record_bytes())?;
        }
        let taken = self.taken.as_ref().ok_or(io::ErrorKind::StorageFull)?;
        let (nonce, lsn) = (taken.nonce, self.greatest + 1);
        let header = RecordHeader { nonce, lsn, previous: self.last, durable, ..found.header };
        let (segment, offset) = (taken.segment.number(), self.position + self.buffer.len() as u64);
        self.buffer.extend_from_slice(&header.encode());
        self.buffer.extend_from_slice(&rest);
        self.buffer.resize(align_up(self.buffer.len() as u64, ALIGN) as usize, 0);
        (self.last, self.greatest) = (lsn, lsn);
        if self.buffer.len() >= COPY_BYTES {
            self.flush()?;
        }
        Ok(Moved { header, segment, offset })
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(taken) = &self.taken else { return Ok(()) };
        let file = taken.segment.file(self.device)?;
        device::write_octets(&*file, &self.buffer, self.position)?;
        self.position += self.buffer.len() as u64;
        taken.segment.reaches(self.position, self.last);
        self.buffer.clear();
        Ok(())
    }
}

/// What is behind a record's header, and how much of it is as it was: pages of its content that the disk does not give
/// back are zeros, which its delivery will tell.
fn read(from: &Scanned, found: &Found) -> io::Result<(Vec<u8>, usize)> {
    let offset = found.offset + record::HEADER as u64;
    let mut octets = vec![0; found.header.record_bytes() as usize - record::HEADER];
    let (body, content) = octets.split_at_mut(found.header.body_length as usize);
    let mut is_whole = true;
    let mut read = scan::read_stubbornly(&*from.file, body, offset)?;
    read += scan::read_pages(&*from.file, content, offset + body.len() as u64, &mut |_| is_whole = false)?;
    if read < octets.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let whole = if is_whole { octets.len() } else { found.header.body_length as usize };
    Ok((octets, whole))
}

/// Write what was found once more where it is, and sync it; the log goes on behind it.
fn in_place(
    segments: &Segments,
    device: &dyn Device,
    scan: Scan,
    scanned: &[Scanned],
    from: Watermark,
    greatest: Lsn,
) -> io::Result<Renewed> {
    let mut touched = BTreeSet::new();
    for found in &scan.records {
        let Some(segment) = scanned.get(found.segment) else { continue };
        let (rest, whole) = read(segment, found)?;
        // Nothing is written over content that another try may still give back.
        let octets = [&found.header.encode()[..], rest.get(..whole).unwrap_or_default()].concat();
        device::write_octets(&*segment.file, &octets, found.offset)?;
        touched.insert(found.segment);
    }
    for segment in touched.iter().filter_map(|&at| scanned.get(at)) {
        device::sync(&*segment.file)?;
    }
    let at_watermark = || {
        let at = scanned.iter().position(|one| one.segment.number() == from.segment)?;
        Some((at, from.offset))
    };
    let end = scan.end.or_else(at_watermark);
    let end = end.and_then(|(at, offset)| Some((scanned.get(at)?, offset)));
    let Some((scanned, position)) = end else { return Err(io::ErrorKind::StorageFull.into()) };
    let nonce = scanned.header.ok_or(io::ErrorKind::StorageFull)?.nonce;
    let size = device.open(scanned.segment.path(), device::Opening::Existing)?.size()?;
    let taken = Taken {
        segment: Arc::clone(&scanned.segment),
        nonce,
        capacity: size.max(segments.segment_bytes()),
        is_growing: size < segments.segment_bytes(),
        is_reserve: true,
    };
    let redo = scan.records.into_iter().flat_map(|found| found.redo).collect();
    Ok(Renewed { taken, position, last: scan.last, greatest, redo })
}
