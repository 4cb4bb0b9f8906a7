//! The log's octets: pure functions between values and what is on disk. `FORMAT.md` says the same in prose.

pub(crate) mod blob;
pub(crate) mod chunk;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod fields;
pub(crate) mod record;
pub(crate) mod segment;
mod tags;
#[cfg(test)]
mod tests;

/// A torn write loses whole pages of this size, or parts of one; no page with acknowledged octets is written again.
pub(crate) const PAGE: u64 = 4096;
/// Records begin at multiples of this.
pub(crate) const ALIGN: u64 = 8;

/// The next multiple of `unit`, a power of two, at or after `offset`.
pub(crate) const fn align_up(offset: u64, unit: u64) -> u64 {
    (offset + unit - 1) & !(unit - 1)
}

/// Octets that are not what the format says.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Malformed(pub(crate) &'static str);
