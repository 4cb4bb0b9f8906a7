//! Content on its way out: read from the log, checked chunk by chunk, handed on as it lies there.
//!
//! Whoever polls a source never waits for the disk. What is in the page cache is read by the poll itself, which costs
//! less than a change of threads; what is not is read by the reader's thread, two chunks at a time, which then wakes
//! the poller. A chunk whose checksum does not fit ends the source: no octet of it is given to anyone.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use penstock_core::flow::{ContentFlags, ContentSource, Form, SourcePoll, WakeHandle};
use penstock_core::queue_id::QueueId;

use crate::device::{self, Device};
use crate::format::chunk;
use crate::redo::Stored;
use crate::segments::Segment;

/// Octets read at a time: two chunks.
const READ_BYTES: u64 = 2 * (chunk::HEADER + chunk::MAX) as u64;

/// A content in the log.
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

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    is_stopping: bool,
}

/// What reads content.
pub(crate) struct Reader {
    device: Arc<dyn Device>,
    is_inline: bool,
    jobs: Mutex<Jobs>,
    more: Condvar,
}

impl Reader {
    pub(crate) fn new(device: Arc<dyn Device>, is_inline: bool) -> Self {
        Self { device, is_inline, jobs: Mutex::default(), more: Condvar::new() }
    }

    /// A content; without its segment it fails.
    pub(crate) fn content(
        self: &Arc<Self>,
        queue_id: QueueId,
        stored: &Stored,
        segment: Arc<Segment>,
    ) -> StoredContent {
        let reading = Reading::new(queue_id, stored, segment);
        StoredContent {
            source: Box::new(LogSource { reader: Arc::clone(self), reading: Arc::new(reading) }),
            form: stored.form,
            flags: stored.flags,
        }
    }

    /// Leave work for the thread; false if it has ended.
    pub(crate) fn push(&self, job: Job) -> bool {
        let mut jobs = self.jobs.lock();
        if jobs.is_stopping {
            return false;
        }
        jobs.waiting.push_back(job);
        self.more.notify_one();
        true
    }

    /// The next work, if there is any.
    pub(crate) fn try_next(&self) -> Option<Job> {
        self.jobs.lock().waiting.pop_front()
    }

    /// Wait for work; `None` when the thread is to end.
    pub(crate) fn wait_next(&self) -> Option<Job> {
        let mut jobs = self.jobs.lock();
        loop {
            if jobs.is_stopping {
                return None;
            }
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            self.more.wait(&mut jobs);
        }
    }

    /// Have the thread end; contents that wait for it fail.
    pub(crate) fn stop(&self) {
        let waiting = {
            let mut jobs = self.jobs.lock();
            jobs.is_stopping = true;
            std::mem::take(&mut jobs.waiting)
        };
        self.more.notify_all();
        for job in waiting {
            if let Job::Content(reading) = job {
                reading.fill(Err(io::ErrorKind::BrokenPipe.into()));
            }
        }
    }

    /// Read on in a content, and wake whoever waits for it. **Blocking.**
    pub(crate) fn read_on(&self, reading: &Reading) {
        let from = reading.state.lock().next;
        reading.fill(reading.read(&*self.device, from));
    }

    /// The next chunks of a content that nobody else reads; `None` behind the last. **Blocking.**
    pub(crate) fn next(&self, reading: &Reading) -> io::Result<Option<VecDeque<Bytes>>> {
        let from = reading.state.lock().next;
        if from >= reading.end {
            return Ok(None);
        }
        let (chunks, next) = reading.read(&*self.device, from)?;
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

struct ReadState {
    /// Chunks that were read and not given.
    ready: VecDeque<Bytes>,
    /// Where to read on.
    next: u64,
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
    end: u64,
    state: Mutex<ReadState>,
}

/// Chunks, and where the next one begins.
type Chunks = (VecDeque<Bytes>, u64);

impl Reading {
    pub(crate) fn new(queue_id: QueueId, stored: &Stored, segment: Arc<Segment>) -> Self {
        let location = stored.location;
        let state = ReadState {
            ready: VecDeque::new(),
            next: location.offset,
            is_busy: false,
            has_failed: false,
            waker: None,
        };
        Self {
            queue_id,
            segment,
            end: location.offset.saturating_add(location.length),
            state: Mutex::new(state),
        }
    }

    /// Octets that are read at once from here.
    fn extent(&self, from: u64) -> usize {
        self.end.saturating_sub(from).min(READ_BYTES) as usize
    }

    /// Read the next chunks. **Blocking.**
    fn read(&self, device: &dyn Device, from: u64) -> io::Result<Chunks> {
        let file = self.segment.file(device)?;
        let mut octets = vec![0; self.extent(from)];
        let read = device::read_full(&*file, &mut octets, from)?;
        octets.truncate(read);
        self.check(octets, from)
    }

    /// Read the next chunks if that needs no waiting.
    fn read_cached(&self, from: u64) -> io::Result<Option<Chunks>> {
        let Some(file) = self.segment.opened() else { return Ok(None) };
        let mut octets = vec![0; self.extent(from)];
        match file.read_cached(&mut octets, from)? {
            Some(read) if read == octets.len() => self.check(octets, from).map(Some),
            _ => Ok(None),
        }
    }

    /// Take octets apart into chunks that are whole; the last may be cut off, the first may not.
    fn check(&self, octets: Vec<u8>, from: u64) -> io::Result<Chunks> {
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        let octets = Bytes::from(octets);
        let mut chunks = VecDeque::with_capacity(2);
        let mut at = 0;
        while let Some((header, rest)) = octets.get(at..).and_then(|rest| rest.split_first_chunk()) {
            let length = chunk::length(*header).map_err(|_| damaged())?;
            let Some(chunk) = rest.get(..length) else { break };
            if !chunk::is_whole(self.queue_id, *header, chunk) {
                return Err(damaged());
            }
            let start = at + chunk::HEADER;
            chunks.push_back(octets.slice(start..start + length));
            at = start + length;
        }
        if chunks.is_empty() { Err(damaged()) } else { Ok((chunks, from + at as u64)) }
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
struct LogSource {
    reader: Arc<Reader>,
    reading: Arc<Reading>,
}

impl LogSource {
    /// Have the thread read on; false if it has ended.
    fn send_for_more(&self) -> bool {
        self.reader.push(Job::Content(Arc::clone(&self.reading)))
    }
}

impl ContentSource for LogSource {
    fn poll(&mut self, waker: &WakeHandle) -> SourcePoll {
        let mut state = self.reading.state.lock();
        if let Some(chunk) = state.ready.pop_front() {
            return SourcePoll::Chunk(chunk);
        }
        if state.has_failed {
            return SourcePoll::Failed;
        }
        if state.next >= self.reading.end {
            return SourcePoll::End;
        }
        if state.is_busy {
            state.waker = Some(waker.clone());
            return SourcePoll::Pending;
        }
        let from = state.next;
        let found = if self.reader.is_inline {
            self.reading.read(&*self.reader.device, from).map(Some)
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
