//! The header of a record.
//!
//! Records form a chain: each names the one before it. Where a write failed half-way and another record was written
//! after it, the chain passes over what is left of the first; where something in the chain is missing, that shows.

use super::{ALIGN, Malformed, align_up};

/// Octets of a record's header.
pub(crate) const HEADER: usize = 72;
const MAGIC: [u8; 4] = *b"PRec";
const VERSION: u16 = 1;
const CHECKED: usize = 64;

/// What stands before a record's body.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct RecordHeader {
    /// The segment's nonce: a record of an earlier use of the same file has another.
    pub(crate) nonce: u64,
    pub(crate) lsn: u64,
    /// The record before it in the log.
    pub(crate) previous: u64,
    /// The log sequence number that the record had at first; its own unless it was appended again.
    pub(crate) origin: u64,
    /// The last record that was durable when this one was written.
    pub(crate) durable: u64,
    pub(crate) body_length: u32,
    pub(crate) body_sum: u32,
    /// Octets of all chunks, their headers included.
    pub(crate) content_length: u32,
    /// Checksum of the headers of all chunks.
    pub(crate) content_sum: u32,
}

impl RecordHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut octets = [0; HEADER];
        let mut rest = &mut octets[..];
        let mut put = |part: &[u8]| {
            let (place, behind) = std::mem::take(&mut rest).split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = behind;
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&[0; 2]);
        for number in [self.nonce, self.lsn, self.previous, self.origin, self.durable] {
            put(&number.to_le_bytes());
        }
        for number in [self.body_length, self.body_sum, self.content_length, self.content_sum] {
            put(&number.to_le_bytes());
        }
        let (checked, sum) = octets.split_at_mut(CHECKED);
        let crc = crc32c::crc32c(checked).to_le_bytes();
        sum.iter_mut().zip(crc).for_each(|(to, from)| *to = from);
        octets
    }

    /// Read a header; `None` where there is none, or one of another use of the file.
    pub(crate) fn decode(octets: &[u8; HEADER], nonce: u64) -> Option<Result<Self, Malformed>> {
        let (checked, sum) = octets.split_at(CHECKED);
        if !octets.starts_with(&MAGIC) {
            return None;
        }
        let word = |at: usize| octets.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let long = |at: usize| octets.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        if long(8)? != nonce || !sum.starts_with(&crc32c::crc32c(checked).to_le_bytes()) {
            return None;
        }
        if octets.get(4..8)? != [VERSION.to_le_bytes(), [0; 2]].as_flattened() {
            return Some(Err(Malformed("the record has a later version")));
        }
        Some(Ok(Self {
            nonce,
            lsn: long(16)?,
            previous: long(24)?,
            origin: long(32)?,
            durable: long(40)?,
            body_length: word(48)?,
            body_sum: word(52)?,
            content_length: word(56)?,
            content_sum: word(60)?,
        }))
    }

    /// Octets of the record, padding aside.
    pub(crate) fn record_bytes(&self) -> u64 {
        HEADER as u64 + u64::from(self.body_length) + u64::from(self.content_length)
    }

    /// Octets from this record to where the next may begin.
    pub(crate) fn span(&self) -> u64 {
        align_up(self.record_bytes(), ALIGN)
    }
}

/// Where records may begin, by their first octets.
pub(crate) fn may_begin(octets: &[u8]) -> bool {
    octets.starts_with(&MAGIC)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn header() -> impl Strategy<Value = RecordHeader> {
        (any::<[u64; 5]>(), any::<[u32; 4]>()).prop_map(|(longs, words)| {
            let [nonce, lsn, previous, origin, durable] = longs;
            let [body_length, body_sum, content_length, content_sum] = words;
            RecordHeader {
                nonce,
                lsn,
                previous,
                origin,
                durable,
                body_length,
                body_sum,
                content_length,
                content_sum,
            }
        })
    }

    proptest! {
        #[test]
        fn a_header_comes_back_whole_or_not_at_all(header in header(), bit in 0..CHECKED * 8 + 32) {
            let octets = header.encode();
            prop_assert_eq!(RecordHeader::decode(&octets, header.nonce), Some(Ok(header)));
            prop_assert_eq!(RecordHeader::decode(&octets, header.nonce ^ 1), None);
            let mut flipped = octets;
            *flipped.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            prop_assert_eq!(RecordHeader::decode(&flipped, header.nonce), None);
        }
    }

    #[test]
    fn a_header_of_a_later_version_is_not_taken_for_the_end_of_the_log() {
        let mut octets = [0; HEADER];
        octets.iter_mut().zip(*b"PRec\x02").for_each(|(to, from)| *to = from);
        let sum = crc32c::crc32c(octets.get(..CHECKED).unwrap()).to_le_bytes();
        octets.get_mut(CHECKED..CHECKED + 4).unwrap().copy_from_slice(&sum);
        assert!(matches!(RecordHeader::decode(&octets, 0), Some(Err(_))));
    }
}
