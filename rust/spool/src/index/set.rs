//! Which recipients of a message an entry has: indices, as runs.
//!
//! A message with 10^5 recipients has most of them in few runs, and a set from a damaged row stays as small as the row:
//! it is never expanded without a bound.

use super::codec::{Malformed, Reader, put_number};

/// A set of recipient indices below `u32::MAX`.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub(super) struct RecipientSet {
    /// From, up to and without; ascending, none empty, none touching the next.
    runs: Vec<(u32, u32)>,
}

impl RecipientSet {
    /// The set of these indices, in any order; `u32::MAX` cannot be in a set and is left out.
    pub(super) fn from_indices(indices: impl IntoIterator<Item = u32>) -> Self {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for index in indices {
            if index != u32::MAX {
                push(&mut runs, (index, index + 1));
            }
        }
        if !runs.is_sorted_by(|a, b| a.1 < b.0) {
            runs.sort_unstable();
            let mut joined = Vec::with_capacity(runs.len());
            for run in runs {
                push(&mut joined, run);
            }
            runs = joined;
        }
        Self { runs }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        self.runs.iter().map(|&(from, to)| u64::from(to - from)).sum()
    }

    pub(super) fn contains(&self, index: u32) -> bool {
        let at = self.runs.partition_point(|&(_, to)| to <= index);
        self.runs.get(at).is_some_and(|&(from, _)| from <= index)
    }

    /// The largest index.
    pub(super) fn last(&self) -> Option<u32> {
        self.runs.last().map(|&(_, to)| to - 1)
    }

    /// All indices, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().flat_map(|&(from, to)| from..to)
    }

    /// What is in both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut runs = Vec::new();
        let (mut ours, mut theirs) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        while let (Some(&&a), Some(&&b)) = (ours.peek(), theirs.peek()) {
            let both = (a.0.max(b.0), a.1.min(b.1));
            if both.0 < both.1 {
                runs.push(both);
            }
            if a.1 < b.1 {
                ours.next()
            } else {
                theirs.next()
            };
        }
        Self { runs }
    }

    /// What is in this set and not in the other.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let mut runs = Vec::new();
        let mut theirs = other.runs.iter().peekable();
        for &(mut from, to) in &self.runs {
            while theirs.next_if(|run| run.1 <= from).is_some() {}
            while let Some(&&(start, end)) = theirs.peek() {
                if start >= to {
                    break;
                }
                if from < start {
                    runs.push((from, start));
                }
                from = end;
                if end > to {
                    break;
                }
                theirs.next();
            }
            if from < to {
                runs.push((from, to));
            }
        }
        Self { runs }
    }

    /// What is in either.
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut runs = Vec::with_capacity(self.runs.len() + other.runs.len());
        let (mut ours, mut theirs) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        loop {
            let is_ours = match (ours.peek(), theirs.peek()) {
                (Some(a), Some(b)) => a <= b,
                (a, _) => a.is_some(),
            };
            match if is_ours { ours.next() } else { theirs.next() } {
                Some(&run) => push(&mut runs, run),
                None => return Self { runs },
            }
        }
    }

    /// Write it as the number of runs, then per run its distance from the end of the one before and its length.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, self.runs.len() as u64);
        let mut end = 0;
        for &(from, to) in &self.runs {
            put_number(out, u64::from(from - end));
            put_number(out, u64::from(to - from));
            end = to;
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.number()?;
        let mut runs = Vec::new();
        let mut end: u32 = 0;
        for nth in 0..count {
            let (gap, length) = (reader.number32()?, reader.number32()?);
            if length == 0 || (gap == 0 && nth > 0) {
                return Err(Malformed("runs of recipients are empty or touch"));
            }
            let beyond = Malformed("a recipient's index is too large");
            let from = end.checked_add(gap).ok_or(beyond)?;
            end = from.checked_add(length).ok_or(beyond)?;
            runs.push((from, end));
        }
        Ok(Self { runs })
    }
}

/// Append a run to ascending runs; one that begins within the last or at its end makes it longer.
fn push(runs: &mut Vec<(u32, u32)>, run: (u32, u32)) {
    match runs.last_mut() {
        Some(last) if last.0 <= run.0 && run.0 <= last.1 => last.1 = last.1.max(run.1),
        _ => runs.push(run),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn indices() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(prop_oneof![0..40_u32, Just(u32::MAX - 1)], 0..40)
    }

    fn encoded(set: &RecipientSet) -> Vec<u8> {
        let mut out = Vec::new();
        set.encode(&mut out);
        out
    }

    fn decoded(octets: &[u8]) -> Result<RecipientSet, Malformed> {
        let mut reader = Reader::new(octets);
        let set = RecipientSet::decode(&mut reader)?;
        reader.finish().map(|()| set)
    }

    #[test]
    fn the_index_that_has_no_successor_is_in_no_set() {
        assert!(RecipientSet::from_indices([u32::MAX]).is_empty());
    }

    #[test]
    fn a_hundred_thousand_recipients_in_a_row_take_five_octets() {
        assert_eq!(encoded(&RecipientSet::from_indices(0..100_000)).len(), 5);
    }

    #[test]
    fn runs_that_overflow_are_empty_or_touch_are_refused() {
        let mut overflow = vec![1];
        put_number(&mut overflow, u64::from(u32::MAX));
        overflow.push(1);
        for octets in [&overflow[..], &[1, 0, 0], &[2, 0, 1, 0, 1]] {
            assert!(decoded(octets).is_err(), "{octets:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_set(a in indices(), b in indices()) {
            let (ours, theirs) = (RecipientSet::from_indices(a.clone()), RecipientSet::from_indices(b.clone()));
            let (a, b): (BTreeSet<u32>, BTreeSet<u32>) = (a.into_iter().collect(), b.into_iter().collect());
            let same = |set: &RecipientSet, model: BTreeSet<u32>| {
                prop_assert!(set.iter().eq(model.iter().copied()));
                prop_assert_eq!(set.len(), model.len() as u64);
                prop_assert_eq!(set.last(), model.last().copied());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert_eq!(&decoded(&encoded(set)).unwrap(), set);
                Ok(())
            };
            same(&ours, a.clone())?;
            same(&ours.union(&theirs), a.union(&b).copied().collect())?;
            same(&ours.intersection(&theirs), a.intersection(&b).copied().collect())?;
            same(&ours.difference(&theirs), a.difference(&b).copied().collect())?;
            for index in 0..41 {
                prop_assert_eq!(ours.contains(index), a.contains(&index));
            }
        }

        #[test]
        fn a_part_of_it_is_refused(a in indices()) {
            let octets = encoded(&RecipientSet::from_indices(a));
            for end in 0..octets.len() {
                prop_assert!(decoded(&octets[..end]).is_err());
            }
        }

        #[test]
        fn decoding_never_panics(octets in prop::collection::vec(any::<u8>(), 0..30)) {
            let _ = decoded(&octets);
        }
    }
}
