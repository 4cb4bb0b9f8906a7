//! Content on its way out: read from the log, and from a blob if it goes on there; checked chunk by chunk, handed on as it
//! lies there.
//!
//! Whoever polls a source never waits for the disk. What is in the page cache is read by the poll itself, which costs
//! less than a change of threads; what is not is read by the reader's thread, two chunks at a time, which then wakes
//! the poller. A chunk whose checksum does not fit ends the source: no octet of it is given to anyone. Before the source
//! says so, its owner is told, and a report is left beside the log, so that nobody tries it again and again. A blob is
//! opened when the first chunk of it is wanted, by the thread, and closed behind the last: it takes no descriptor for
//! longer. One that is missing is damage as well.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::Mutex;
use penstock_core::flow::{ContentFlags, ContentSource, Form, SourcePoll, WakeHandle};
use penstock_core::queue_id::QueueId;

use crate::blobs::Blobs;
use crate::device::{self, Device, DeviceFile};
use crate::events::{SpoolEvent, SpoolSink};
use crate::format::{blob, chunk};
use crate::jobs::Jobs;
use crate::meta::{self, Layout};
use crate::redo::{InBlob, Stored};
use crate::segments::Segment;

/// Octets read at a time: two chunks.
const READ_BYTES: u64 = 2 * (chunk::HEADER + chunk::MAX) as u64;

/// A content that is stored.
pub struct StoredContent {
    /// Its octets, from the first. It fails if the message is gone, or damaged.
    pub source: Box<dyn ContentSource>,
    /// How it is encoded.
    pub form: Form,
    /// What is unusual about it.
    pub flags: ContentFlags,
}

impl StoredContent {
    /// The content of a message that is not there.
    pub(crate) fn missing() -> Self {
        Self { source: Box::new(Missing), form: Form::Wire, flags: ContentFlags::default() }
    }
}

struct Missing;

impl ContentSource for Missing {
    fn poll(&mut self, _waker: &WakeHandle) -> SourcePoll {
        SourcePoll::Failed
    }
}

/// Work for the reader's thread.
pub(crate) enum Job {
    /// Read on in a content.
    Content(Arc<Reading>),
    /// Read a content's header section and answer a request.
    Header { request: u64, content: Option<Arc<Reading>>, form: Form, limit: usize },
}

/// What reads content.
pub(crate) struct Reader {
    device: Arc<dyn Device>,
    blobs: Arc<Blobs>,
    sink: Arc<dyn SpoolSink>,
    /// Where reports go.
    layout: Layout,
    is_inline: bool,
    /// Contents that were found damaged.
    damaged: AtomicU64,
    pub(crate) jobs: Jobs<Job>,
}

impl Reader {
    pub(crate) fn new(
        device: Arc<dyn Device>,
        blobs: Arc<Blobs>,
        sink: Arc<dyn SpoolSink>,
        root: &Path,
        is_inline: bool,
    ) -> Self {
        let (jobs, damaged) = (Jobs::new(usize::MAX), AtomicU64::new(0));
        Self { device, blobs, sink, layout: Layout::new(root), is_inline, damaged, jobs }
    }

    /// How many contents were found damaged.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.load(Relaxed)
    }

    /// Read the next chunks; damage is told and reported. **Blocking.**
    fn read(&self, reading: &Reading, from: At) -> io::Result<Chunks> {
        let result = reading.read(&*self.device, from);
        if let Err(error) = &result
            && is_damage(error, from)
        {
            self.note_damage(reading, from);
        }
        result
    }

    fn note_damage(&self, reading: &Reading, at: At) {
        self.damaged.fetch_add(1, Relaxed);
        // The report is for those who look into it; without it the message is none the less known to be damaged.
        let _ = match at {
            At::Log(offset) => {
                reading.segment.keep();
                meta::report(&*self.device, &self.layout, reading.segment.number(), offset)
            }
            At::Blob(..) | At::End => meta::report_blob(&*self.device, &self.layout, reading.queue_id),
        };
        self.sink.push(vec![SpoolEvent::Damaged { queue_id: reading.queue_id }]);
    }

    /// A content; without its segment it fails.
    pub(crate) fn content(
        self: &Arc<Self>,
        queue_id: QueueId,
        stored: &Stored,
        segment: Arc<Segment>,
    ) -> StoredContent {
        let reading = self.reading(queue_id, stored, segment);
        StoredContent {
            source: Box::new(StoredSource { reader: Arc::clone(self), reading }),
            form: stored.form,
            flags: stored.flags,
        }
    }

    /// Begin to read a content.
    pub(crate) fn reading(&self, queue_id: QueueId, stored: &Stored, segment: Arc<Segment>) -> Arc<Reading> {
        Arc::new(Reading::new(queue_id, stored, segment, &self.blobs))
    }

    /// Have the thread end; contents that wait for it fail.
    pub(crate) fn stop(&self) {
        self.jobs.stop();
        while let Some(job) = self.jobs.try_next() {
            if let Job::Content(reading) = job {
                reading.fill(Err(io::ErrorKind::BrokenPipe.into()));
            }
        }
    }

    /// Read on in a content, and wake whoever waits for it. **Blocking.**
    pub(crate) fn read_on(&self, reading: &Reading) {
        let from = reading.state.lock().next;
        reading.fill(self.read(reading, from));
    }

    /// The next chunks of a content that nobody else reads; `None` behind the last. **Blocking.**
    pub(crate) fn next(&self, reading: &Reading) -> io::Result<Option<VecDeque<Bytes>>> {
        let from = reading.state.lock().next;
        if from == At::End {
            return Ok(None);
        }
        let (chunks, next) = self.read(reading, from)?;
        reading.state.lock().next = next;
        Ok(Some(chunks))
    }

    /// The beginning of a content, `limit` octets or more if there are that many. **Blocking.**
    pub(crate) fn beginning(&self, reading: &Reading, limit: usize) -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        while octets.len() < limit
            && let Some(chunks) = self.next(reading)?
        {
            for chunk in &chunks {
                octets.extend_from_slice(chunk);
            }
        }
        Ok(octets)
    }
}

/// How far a content was read.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum At {
    /// Up to an offset in the segment.
    Log(u64),
    /// Up to an offset in the blob; the headers of the chunks before it have this checksum.
    Blob(u64, u32),
    End,
}

/// Whether an error says that the octets are not what was written: their checksum does not fit, the file ends before
/// them, the disk cannot give them, or their blob is not there.
fn is_damage(error: &io::Error, at: At) -> bool {
    let is_gone = error.kind() == io::ErrorKind::NotFound && matches!(at, At::Blob(..));
    is_gone || error.kind() == io::ErrorKind::InvalidData || device::is_unreadable(error)
}

struct ReadState {
    /// Chunks that were read and not given.
    ready: VecDeque<Bytes>,
    /// Where to read on.
    next: At,
    /// Whether the thread is at it.
    is_busy: bool,
    has_failed: bool,
    waker: Option<WakeHandle>,
}

/// A content that is being read.
pub(crate) struct Reading {
    queue_id: QueueId,
    /// Held so that it stays what it is.
    segment: Arc<Segment>,
    /// Where in the segment it ends.
    end: u64,
    /// Where it goes on.
    blob: Option<BlobPart>,
    state: Mutex<ReadState>,
}

/// The part of a content that is in a blob.
struct BlobPart {
    blobs: Arc<Blobs>,
    expected: InBlob,
    /// Open while it is read.
    file: Mutex<Option<Arc<dyn DeviceFile>>>,
}

impl BlobPart {
    /// Where in the file it ends.
    fn end(&self) -> u64 {
        self.expected.bytes.saturating_add(blob::HEADER as u64)
    }

    /// The open file; opens it if need be. **Blocking.**
    fn file(&self, queue_id: QueueId) -> io::Result<Arc<dyn DeviceFile>> {
        let mut file = self.file.lock();
        if let Some(file) = &*file {
            return Ok(Arc::clone(file));
        }
        let opened = self.blobs.open(queue_id)?;
        *file = Some(Arc::clone(&opened));
        Ok(opened)
    }
}

/// Chunks, and where the next one begins.
type Chunks = (VecDeque<Bytes>, At);

fn damaged() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl Reading {
    fn new(queue_id: QueueId, stored: &Stored, segment: Arc<Segment>, blobs: &Arc<Blobs>) -> Self {
        let location = stored.location;
        let blob = location.blob.map(|expected| {
            let (blobs, file) = (Arc::clone(blobs), Mutex::new(None));
            BlobPart { blobs, expected, file }
        });
        let next = At::Log(location.offset);
        let state =
            ReadState { ready: VecDeque::new(), next, is_busy: false, has_failed: false, waker: None };
        let end = location.offset.saturating_add(location.length);
        let reading = Self { queue_id, segment, end, blob, state: Mutex::new(state) };
        if location.length == 0 {
            reading.state.lock().next = reading.behind_log();
        }
        reading
    }

    /// Where to read on behind what the log has.
    fn behind_log(&self) -> At {
        let has_more = self.blob.as_ref().is_some_and(|blob| blob.expected.bytes > 0);
        if has_more { At::Blob(blob::HEADER as u64, 0) } else { At::End }
    }

    /// Offset and number of the octets that are read at once from here.
    fn extent(&self, from: At) -> (u64, usize) {
        let (offset, end) = match from {
            At::Log(offset) => (offset, self.end),
            At::Blob(offset, _) => (offset, self.blob.as_ref().map_or(0, BlobPart::end)),
            At::End => (0, 0),
        };
        (offset, end.saturating_sub(offset).min(READ_BYTES) as usize)
    }

    /// Read the next chunks. **Blocking.**
    fn read(&self, device: &dyn Device, from: At) -> io::Result<Chunks> {
        let file = match (from, &self.blob) {
            (At::Blob(..), Some(blob)) => blob.file(self.queue_id)?,
            _ => self.segment.file(device)?,
        };
        let (offset, length) = self.extent(from);
        let mut octets = vec![0; length];
        let read = device::read_full(&*file, &mut octets, offset)?;
        octets.truncate(read);
        self.check(octets, from)
    }

    /// Read the next chunks if that needs no waiting.
    fn read_cached(&self, from: At) -> io::Result<Option<Chunks>> {
        let file = match (from, &self.blob) {
            (At::Blob(..), Some(blob)) => blob.file.try_lock().and_then(|file| file.clone()),
            _ => self.segment.opened(),
        };
        let Some(file) = file else { return Ok(None) };
        let (offset, length) = self.extent(from);
        let mut octets = vec![0; length];
        match file.read_cached(&mut octets, offset)? {
            Some(read) if read == octets.len() => self.check(octets, from).map(Some),
            _ => Ok(None),
        }
    }

    /// Take octets apart into chunks that are whole; the last may be cut off, the first may not.
    fn check(&self, octets: Vec<u8>, from: At) -> io::Result<Chunks> {
        let octets = Bytes::from(octets);
        let mut chunks = VecDeque::with_capacity(2);
        let (mut at, mut sum) = (0, if let At::Blob(_, sum) = from { sum } else { 0 });
        while let Some((header, rest)) = octets.get(at..).and_then(|rest| rest.split_first_chunk()) {
            let length = chunk::length(*header).map_err(|_| damaged())?;
            let Some(chunk) = rest.get(..length) else { break };
            if !chunk::is_whole(self.queue_id, *header, chunk) {
                return Err(damaged());
            }
            sum = crc32c::crc32c_append(sum, header);
            let start = at + chunk::HEADER;
            chunks.push_back(octets.slice(start..start + length));
            at = start + length;
        }
        if chunks.is_empty() { Err(damaged()) } else { Ok((chunks, self.behind(from, at as u64, sum)?)) }
    }

    /// Where to read on behind some octets.
    fn behind(&self, from: At, octets: u64, sum: u32) -> io::Result<At> {
        match (from, &self.blob) {
            (At::Log(offset), _) if offset + octets < self.end => Ok(At::Log(offset + octets)),
            (At::Blob(offset, _), Some(blob)) if offset + octets < blob.end() => {
                Ok(At::Blob(offset + octets, sum))
            }
            (At::Log(_), _) => Ok(self.behind_log()),
            // Each chunk is the message's; this says that they are all, and in their order.
            (At::Blob(..), Some(blob)) if blob.expected.sum == sum => {
                *blob.file.lock() = None;
                Ok(At::End)
            }
            (At::Blob(..) | At::End, _) => Err(damaged()),
        }
    }

    /// Take in what was read, and wake whoever waits for it.
    fn fill(&self, result: io::Result<Chunks>) {
        let waker = {
            let mut state = self.state.lock();
            state.is_busy = false;
            match result {
                Ok((mut chunks, next)) => {
                    state.ready.append(&mut chunks);
                    state.next = next;
                }
                Err(_) => state.has_failed = true,
            }
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The poller's end of a content.
struct StoredSource {
    reader: Arc<Reader>,
    reading: Arc<Reading>,
}

impl StoredSource {
    /// Have the thread read on; false if it has ended.
    fn send_for_more(&self) -> bool {
        self.reader.jobs.push(Job::Content(Arc::clone(&self.reading))).is_ok()
    }
}

impl ContentSource for StoredSource {
    fn poll(&mut self, waker: &WakeHandle) -> SourcePoll {
        let mut state = self.reading.state.lock();
        if let Some(chunk) = state.ready.pop_front() {
            return SourcePoll::Chunk(chunk);
        }
        if state.has_failed {
            return SourcePoll::Failed;
        }
        if state.next == At::End {
            return SourcePoll::End;
        }
        if state.is_busy {
            state.waker = Some(waker.clone());
            return SourcePoll::Pending;
        }
        let from = state.next;
        let found = if self.reader.is_inline {
            self.reader.read(&self.reading, from).map(Some)
        } else {
            self.reading.read_cached(from)
        };
        match found {
            Ok(Some((mut chunks, next))) => {
                let first = chunks.pop_front();
                state.ready = chunks;
                state.next = next;
                first.map_or(SourcePoll::Failed, SourcePoll::Chunk)
            }
            // The thread reads it again, and what it cannot read is lost.
            Ok(None) | Err(_) if !self.reader.is_inline => {
                state.is_busy = true;
                state.waker = Some(waker.clone());
                drop(state);
                if self.send_for_more() {
                    return SourcePoll::Pending;
                }
                self.reading.state.lock().has_failed = true;
                SourcePoll::Failed
            }
            Ok(None) | Err(_) => {
                state.has_failed = true;
                SourcePoll::Failed
            }
        }
    }
}
