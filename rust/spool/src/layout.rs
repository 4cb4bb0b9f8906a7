//! Records laid out for one vectored write: what is short is gathered in one buffer, content stays where it is.

use std::io::IoSlice;
use std::ops::Range;

use penstock_core::queue_id::QueueId;

use crate::format::chunk::{self, ChunkSum};
use crate::format::encode;
use crate::format::record::{self, RecordHeader};
use crate::format::{ALIGN, align_up};
use crate::inbox::{Commit, Item, Saying};

const PADDING: [u8; ALIGN as usize] = [0; ALIGN as usize];

/// A record that has been laid out.
pub(crate) struct Placed {
    pub(crate) item: Item,
    /// Where in its segment it begins.
    pub(crate) offset: u64,
    pub(crate) header: RecordHeader,
    /// Header, body and what was prepended to the content, in the buffer.
    buffer: Range<usize>,
}

impl Placed {
    /// Where its last octet is behind, padding aside.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.header.record_bytes()
    }

    /// Where the next record may begin.
    pub(crate) fn next(&self) -> u64 {
        self.offset + self.header.span()
    }

    /// Where its content begins.
    pub(crate) fn content_offset(&self) -> u64 {
        self.offset + record::HEADER as u64 + u64::from(self.header.body_length)
    }
}

/// Everything but content of the records of a group.
#[derive(Default)]
pub(crate) struct Buffer {
    octets: Vec<u8>,
}

/// What stands in every record of a group.
#[derive(Copy, Clone)]
pub(crate) struct Stamp {
    pub(crate) nonce: u64,
    pub(crate) previous: u64,
    pub(crate) durable: u64,
}

impl Buffer {
    pub(crate) fn clear(&mut self) {
        self.octets.clear();
    }

    /// Append a record's header and body; tells the header and where they are. A record that finds no room at `offset`
    /// is taken back with [`Buffer::take_back`].
    pub(crate) fn lay_out(&mut self, item: &Item, stamp: Stamp) -> (RecordHeader, Range<usize>) {
        let start = self.octets.len();
        self.octets.resize(start + record::HEADER, 0);
        match &item.saying {
            Saying::Commit(commit) => {
                let Commit { content, accepted, hops, .. } = &**commit;
                encode::accepted(&mut self.octets, content.queue_id, accepted, hops, content.blob);
                for one in &commit.cause {
                    encode::fact(&mut self.octets, &one.fact, &one.hops);
                }
            }
            Saying::Move(one) => {
                let moved = (one.as_of, &one.attempts[..]);
                encode::moved(&mut self.octets, one.queue_id, &one.accepted, &one.hops, one.blob, moved);
                for (hop, attempt, peer) in &one.begun {
                    encode::started(&mut self.octets, one.queue_id, *hop, *attempt, peer);
                }
            }
            Saying::Facts(facts) => {
                for one in facts {
                    encode::fact(&mut self.octets, &one.fact, &one.hops);
                }
            }
            Saying::Started { queue_id, hop, attempt, peer, .. } => {
                encode::started(&mut self.octets, *queue_id, *hop, *attempt, peer);
            }
        }
        let body = self.octets.get(start + record::HEADER..).unwrap_or_default();
        let (body_length, body_sum) = (body.len() as u32, crc32c::crc32c(body));
        let (content_length, content_sum) = match &item.saying {
            Saying::Commit(commit) => self.content(commit),
            Saying::Move(one) => chunks_sum(&one.chunks, 0, 0),
            Saying::Facts(_) | Saying::Started { .. } => (0, 0),
        };
        let header = RecordHeader {
            nonce: stamp.nonce,
            lsn: item.lsn,
            previous: stamp.previous,
            origin: item.lsn,
            durable: stamp.durable,
            body_length,
            body_sum,
            content_length,
            content_sum,
        };
        if let Some(place) = self.octets.get_mut(start..start + record::HEADER) {
            place.copy_from_slice(&header.encode());
        }
        (header, start..self.octets.len())
    }

    pub(crate) fn take_back(&mut self, range: &Range<usize>) {
        self.octets.truncate(range.start);
    }

    /// Append what was prepended as chunks of its own; tells octets and checksum of all chunks.
    fn content(&mut self, commit: &Commit) -> (u32, u32) {
        let (mut length, mut sum) = (0_usize, 0);
        for part in commit.prepend.chunks(chunk::MAX) {
            let header = chunk_header(commit.content.queue_id, part);
            self.octets.extend_from_slice(&header);
            self.octets.extend_from_slice(part);
            length += header.len() + part.len();
            sum = crc32c::crc32c_append(sum, &header);
        }
        chunks_sum(&commit.content.chunks, length, sum)
    }

    /// The group as it will lie in the segment.
    pub(crate) fn slices<'a>(&'a self, group: &'a [Placed]) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::with_capacity(3 * group.len());
        for placed in group {
            slices.push(IoSlice::new(self.octets.get(placed.buffer.clone()).unwrap_or_default()));
            let chunks: &[Vec<u8>] = match &placed.item.saying {
                Saying::Commit(commit) => &commit.content.chunks,
                Saying::Move(one) => &one.chunks,
                Saying::Facts(_) | Saying::Started { .. } => &[],
            };
            slices.extend(chunks.iter().map(|chunk| IoSlice::new(chunk)));
            let padding = (placed.next() - placed.end()) as usize;
            if padding > 0 {
                slices.push(IoSlice::new(PADDING.get(..padding).unwrap_or_default()));
            }
        }
        slices
    }

    /// Put a record into its place.
    pub(crate) fn place(item: Item, offset: u64, header: RecordHeader, buffer: Range<usize>) -> Placed {
        debug_assert_eq!(offset, align_up(offset, ALIGN), "invariant: records are aligned");
        Placed { item, offset, header, buffer }
    }
}

/// Octets and checksum of these chunks behind others.
fn chunks_sum(chunks: &[Vec<u8>], mut length: usize, mut sum: u32) -> (u32, u32) {
    for chunk in chunks {
        length += chunk.len();
        sum = crc32c::crc32c_append(sum, chunk.get(..chunk::HEADER).unwrap_or_default());
    }
    (length as u32, sum)
}

fn chunk_header(queue_id: QueueId, octets: &[u8]) -> [u8; chunk::HEADER] {
    let mut sum = ChunkSum::new(queue_id);
    sum.push(octets);
    sum.header(octets.len())
}
