//! Content as it lies in a record: chunks of at most 64 KiB, each behind its length and checksum.
//!
//! The checksum covers the queue id, the octets and their number, so that a chunk is never taken for one of another
//! message, wherever a wrong address may point.

use penstock_core::queue_id::QueueId;

use super::Malformed;

/// Octets of a chunk's header: length and checksum, little-endian, 32 bits each.
pub(crate) const HEADER: usize = 8;
/// Octets of content in a chunk.
pub(crate) const MAX: usize = 64 << 10;

/// The checksum of a chunk whose octets come bit by bit.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ChunkSum(u32);

impl ChunkSum {
    pub(crate) fn new(queue_id: QueueId) -> Self {
        Self(crc32c::crc32c(&queue_id.0.to_le_bytes()))
    }

    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, octets);
    }

    /// The header of a chunk that has all octets that were pushed.
    pub(crate) fn header(self, length: usize) -> [u8; HEADER] {
        let length = (length as u32).to_le_bytes();
        let sum = crc32c::crc32c_append(self.0, &length).to_le_bytes();
        let mut header = [0; HEADER];
        let (first, second) = header.split_at_mut(4);
        first.copy_from_slice(&length);
        second.copy_from_slice(&sum);
        header
    }
}

/// Length of the content in the chunk that has this header.
pub(crate) fn length(header: [u8; HEADER]) -> Result<usize, Malformed> {
    let [a, b, c, d, ..] = header;
    match u32::from_le_bytes([a, b, c, d]) as usize {
        length @ 1..=MAX => Ok(length),
        _ => Err(Malformed("a chunk has an impossible length")),
    }
}

/// Whether the chunk is whole and the message's.
pub(crate) fn is_whole(queue_id: QueueId, header: [u8; HEADER], octets: &[u8]) -> bool {
    let mut sum = ChunkSum::new(queue_id);
    sum.push(octets);
    sum.header(octets.len()) == header
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_chunk_is_its_messages_and_no_others(id: u64, octets in prop::collection::vec(any::<u8>(), 1..200), cut: usize) {
            let mut sum = ChunkSum::new(QueueId(id));
            let (first, second) = octets.split_at(cut % octets.len());
            sum.push(first);
            sum.push(second);
            let header = sum.header(octets.len());
            prop_assert_eq!(length(header).unwrap(), octets.len());
            prop_assert!(is_whole(QueueId(id), header, &octets));
            prop_assert!(!is_whole(QueueId(id ^ 1), header, &octets));
            prop_assert!(!is_whole(QueueId(id), header, first));
            let mut flipped = octets.clone();
            *flipped.get_mut(cut % octets.len()).unwrap() ^= 16;
            prop_assert!(!is_whole(QueueId(id), header, &flipped));
        }
    }

    #[test]
    fn a_chunk_is_neither_empty_nor_beyond_its_limit() {
        for (octets, ok) in [(0, false), (1, true), (MAX, true), (MAX + 1, false)] {
            let header = ChunkSum::new(QueueId(1)).header(octets);
            assert_eq!(length(header).is_ok(), ok, "{octets}");
        }
    }
}
