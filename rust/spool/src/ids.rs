//! Queue ids, none of which is ever given twice.

use penstock_core::queue_id::QueueId;

/// Ids in one millisecond.
const COUNTER_MAX: u16 = 0xfff;

/// Composes ids in ascending order, also when the clock steps back.
#[derive(Debug)]
pub(crate) struct IdSource {
    node: u16,
    ms: u64,
    /// The next in this millisecond.
    counter: u16,
}

impl IdSource {
    /// Begin above `last`, the greatest id that was ever given.
    pub(crate) fn new(node: u16, last: Option<QueueId>) -> Self {
        Self { node, ms: last.map_or(0, |last| last.unix_ms() + 1), counter: 0 }
    }

    pub(crate) fn next(&mut self, now_ms: u64) -> QueueId {
        if now_ms > self.ms {
            (self.ms, self.counter) = (now_ms, 0);
        } else if self.counter > COUNTER_MAX {
            (self.ms, self.counter) = (self.ms + 1, 0);
        }
        let id = QueueId::compose(self.ms, self.node, self.counter);
        self.counter += 1;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW_MS: u64 = 1_763_951_400_000;

    #[test]
    fn a_burst_borrows_from_the_future_and_a_restart_begins_behind_it() {
        let mut ids = IdSource::new(3, None);
        let given: Vec<QueueId> = (0..10_000).map(|_| ids.next(NOW_MS)).collect();
        assert!(given.is_sorted_by(|a, b| a < b));
        let last = given.last().copied();
        assert_eq!(last.map(QueueId::unix_ms), Some(NOW_MS + 2));
        let next = IdSource::new(3, last).next(NOW_MS - 86_400_000);
        assert!(Some(next) > last && next.node() == 3);
    }

    proptest! {
        #[test]
        fn ids_ascend_whatever_the_clock_does(steps in prop::collection::vec(-5_000i64..5_000, 1..200)) {
            let (mut ids, mut now, mut last) = (IdSource::new(1, None), NOW_MS, QueueId(0));
            for step in steps {
                now = now.saturating_add_signed(step);
                let id = ids.next(now);
                prop_assert!(id > last);
                last = id;
            }
        }
    }
}
