//! What no moment of a story may show of the log's files, whatever a crash would leave.
//!
//! No page of a segment that a sync has covered is written again until the segment has another nonce, and no nonce is
//! ever used again: so a torn page never holds what was acknowledged, and what an earlier use of a file has left is
//! never taken for a record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::crash::Point;

const PAGE: usize = 4096;

/// What is known of a file.
#[derive(Default)]
struct File {
    octets: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// How often it was a segment.
    uses: usize,
    /// Pages that were written under this nonce.
    written: BTreeSet<usize>,
    synced: BTreeSet<usize>,
}

/// Check the moments of a story, in order; tells how many segments were in a file that was one before.
pub(crate) fn check(points: &[Point]) -> usize {
    let mut files: BTreeMap<usize, File> = BTreeMap::new();
    let mut nonces = BTreeSet::new();
    for (at, point) in points.iter().enumerate() {
        for (path, number, octets, durable) in point.moment().files() {
            if !is_segment(path) {
                continue;
            }
            let file = files.entry(number).or_default();
            if !Arc::ptr_eq(&file.octets, octets) {
                file.look(octets, &mut nonces, &format!("point {at}, {}", path.display()));
                file.octets = Arc::clone(octets);
            }
            if !Arc::ptr_eq(&file.durable, durable) {
                file.synced = file.written.clone();
                file.durable = Arc::clone(durable);
            }
        }
    }
    let reused: usize = files.values().map(|file| file.uses.saturating_sub(1)).sum();
    println!("{} segments, {reused} of them in a file that was one before", nonces.len());
    reused
}

/// Whether a file is a segment, or will be one.
fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    path.extension().is_some_and(|end| end == "seg")
        || name.starts_with("spare-")
        || name.starts_with("reserve-")
}

impl File {
    fn look(&mut self, octets: &[u8], nonces: &mut BTreeSet<u64>, what: &str) {
        let changed: Vec<usize> = (0..octets.len().div_ceil(PAGE))
            .filter(|at| !is_same(page(&self.octets, *at), page(octets, *at)))
            .collect();
        if changed.contains(&0) {
            let nonce =
                octets.get(24..32).and_then(|nonce| nonce.try_into().ok()).map_or(0, u64::from_le_bytes);
            if nonce != 0 {
                assert!(nonces.insert(nonce), "{what}: the nonce {nonce:x} is used again");
                let uses = self.uses + 1;
                *self = Self { uses, durable: Arc::clone(&self.durable), ..Self::default() };
            }
        }
        for at in changed.into_iter().filter(|&at| at > 0) {
            let is_cut = page(octets, at).iter().all(|&octet| octet == 0);
            assert!(is_cut || !self.synced.contains(&at), "{what}: page {at} is written again");
            self.written.insert(at);
        }
    }
}

/// Whether two pages hold the same; what is behind the end of a file is zeros.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let (short, long) = if one.len() < other.len() { (one, other) } else { (other, one) };
    let (beginning, rest) = long.split_at(short.len());
    beginning == short && rest.iter().all(|&octet| octet == 0)
}

fn page(octets: &[u8], at: usize) -> &[u8] {
    octets.get(at * PAGE..octets.len().min((at + 1) * PAGE)).unwrap_or_default()
}
