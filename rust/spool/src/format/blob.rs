//! The beginning of a blob: a file with the content of one message, whose chunks follow.

use penstock_core::queue_id::QueueId;

use super::Malformed;

const MAGIC: [u8; 8] = *b"PenSBlob";
const VERSION: u32 = 1;
/// Octets before the first chunk.
pub(crate) const HEADER: usize = 48;
const CHECKED: usize = 40;

/// What a blob says of itself.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct BlobHeader {
    /// Whose blob it is.
    pub(crate) database: u128,
    pub(crate) queue_id: QueueId,
}

impl BlobHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut octets = Vec::with_capacity(HEADER);
        octets.extend_from_slice(&MAGIC);
        octets.extend_from_slice(&VERSION.to_le_bytes());
        octets.extend_from_slice(&[0; 4]);
        octets.extend_from_slice(&self.database.to_le_bytes());
        octets.extend_from_slice(&self.queue_id.0.to_le_bytes());
        debug_assert_eq!(octets.len(), CHECKED, "invariant: the checksum covers all fields");
        octets.extend_from_slice(&crc32c::crc32c(&octets).to_le_bytes());
        octets.resize(HEADER, 0);
        octets.first_chunk().copied().unwrap_or([0; HEADER])
    }

    /// Read a header.
    pub(crate) fn decode(octets: &[u8; HEADER]) -> Result<Self, Malformed> {
        let (checked, sum) = octets.split_at(CHECKED);
        if !octets.starts_with(&MAGIC) || !sum.starts_with(&crc32c::crc32c(checked).to_le_bytes()) {
            return Err(Malformed("the blob has no header that is whole"));
        }
        let part = |at: usize, length: usize| octets.get(at..at + length).unwrap_or_default();
        if part(8, 4) != VERSION.to_le_bytes() {
            return Err(Malformed("the blob has a later version"));
        }
        let database = part(16, 16).try_into().map(u128::from_le_bytes).unwrap_or_default();
        let queue_id = QueueId(part(32, 8).try_into().map(u64::from_le_bytes).unwrap_or_default());
        Ok(Self { database, queue_id })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::chunk::ChunkSum;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_comes_back_whole_or_not_at_all(database: u128, id: u64, bit in 0..CHECKED * 8 + 32) {
            let header = BlobHeader { database, queue_id: QueueId(id) };
            let mut octets = header.encode();
            prop_assert_eq!(BlobHeader::decode(&octets), Ok(header));
            *octets.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            prop_assert!(BlobHeader::decode(&octets).is_err());
        }
    }

    #[test]
    fn the_example_in_the_description_of_the_format_is_what_is_written() {
        let description = include_str!("../../FORMAT.md");
        let block = description.split("```hex\n").nth(2).and_then(|rest| rest.split("```").next()).unwrap();
        let digits = block.lines().filter_map(|line| line.split('|').next()).flat_map(str::split_whitespace);
        let octets: Vec<u8> = digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
        let queue_id = QueueId(0x0123_4567_89ab_cdef);
        let header = BlobHeader { database: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff, queue_id };
        let mut sum = ChunkSum::new(queue_id);
        sum.push(b"Hi\r\n");
        let chunk = sum.header(4);
        assert_eq!(octets, [&header.encode()[..], &chunk, b"Hi\r\n"].concat());
        assert!(description.contains(&format!("the blob `{queue_id}`")));
        assert!(description.contains(&format!("CRC 0x{:08x}", crc32c::crc32c(&chunk))));
    }

    #[test]
    fn a_blob_of_a_later_version_is_told_from_a_damaged_one() {
        let mut octets = BlobHeader { database: 1, queue_id: QueueId(2) }.encode();
        *octets.get_mut(8).unwrap() = 2;
        let sum = crc32c::crc32c(octets.get(..CHECKED).unwrap()).to_le_bytes();
        octets.get_mut(CHECKED..CHECKED + 4).unwrap().copy_from_slice(&sum);
        assert_eq!(BlobHeader::decode(&octets), Err(Malformed("the blob has a later version")));
    }
}
