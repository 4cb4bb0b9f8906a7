//! The first page of a segment.

use super::{Malformed, PAGE};

/// Offset of a segment's first record.
pub(crate) const FIRST: u64 = PAGE;
const MAGIC: [u8; 8] = *b"PenSpool";
const VERSION: u32 = 1;
/// Octets of the header; the rest of the page is zero.
pub(crate) const HEADER: usize = 56;
const CHECKED: usize = 48;

/// What a segment says of itself.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u64,
    /// Random; in every record of the segment.
    pub(crate) nonce: u64,
    /// Whose log it is.
    pub(crate) database: u128,
}

impl SegmentHeader {
    /// The whole first page.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(PAGE as usize);
        page.extend_from_slice(&MAGIC);
        page.extend_from_slice(&VERSION.to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        page.extend_from_slice(&self.number.to_le_bytes());
        page.extend_from_slice(&self.nonce.to_le_bytes());
        page.extend_from_slice(&self.database.to_le_bytes());
        debug_assert_eq!(page.len(), CHECKED, "invariant: the checksum covers all fields");
        page.extend_from_slice(&crc32c::crc32c(&page).to_le_bytes());
        page.resize(PAGE as usize, 0);
        page
    }

    /// Read a header; `None` where there is none that is whole.
    pub(crate) fn decode(octets: &[u8; HEADER]) -> Option<Result<Self, Malformed>> {
        let (checked, sum) = octets.split_at(CHECKED);
        if !octets.starts_with(&MAGIC) || !sum.starts_with(&crc32c::crc32c(checked).to_le_bytes()) {
            return None;
        }
        let part = |at: usize, length: usize| octets.get(at..at + length).unwrap_or_default();
        let long = |at| part(at, 8).try_into().map(u64::from_le_bytes).unwrap_or_default();
        if part(8, 4) != VERSION.to_le_bytes() {
            return Some(Err(Malformed("the segment has a later version")));
        }
        let database = part(32, 16).try_into().map(u128::from_le_bytes).unwrap_or_default();
        Some(Ok(Self { number: long(16), nonce: long(24), database }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_comes_back_whole_or_not_at_all(number: u64, nonce: u64, database: u128, bit in 0..CHECKED * 8 + 32) {
            let header = SegmentHeader { number, nonce, database };
            let page = header.encode();
            prop_assert_eq!(page.len(), PAGE as usize);
            let mut octets: [u8; HEADER] = page.get(..HEADER).unwrap().try_into().unwrap();
            prop_assert_eq!(SegmentHeader::decode(&octets), Some(Ok(header)));
            *octets.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            prop_assert_eq!(SegmentHeader::decode(&octets), None);
        }
    }
}
