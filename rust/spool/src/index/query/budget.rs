//! What a step may cost.

/// Rows between two looks at the clock.
const CLOCK_ROWS: u64 = 64;

/// How much a step may cost.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Budget {
    /// Rows that it may look at.
    pub rows: u64,
    /// How long it may take, milliseconds.
    pub time_ms: u64,
}

impl Budget {
    /// The largest: a snapshot is not held longer, since it keeps pages of the index from being used again.
    pub const MAX: Self = Self { rows: 1_000_000, time_ms: 1_000 };
}

/// What is left of a budget.
pub(super) struct Meter<'c> {
    rows: u64,
    looked: u64,
    until_ms: u64,
    now_ms: &'c dyn Fn() -> u64,
}

impl<'c> Meter<'c> {
    pub(super) fn new(budget: Budget, now_ms: &'c dyn Fn() -> u64) -> Self {
        let time_ms = budget.time_ms.min(Budget::MAX.time_ms);
        // At least one row, so that every step gets on.
        let rows = budget.rows.clamp(1, Budget::MAX.rows);
        Self { rows, looked: 0, until_ms: now_ms() + time_ms, now_ms }
    }

    pub(super) fn spend(&mut self, rows: u64) {
        self.rows = self.rows.saturating_sub(rows);
        self.looked += 1;
    }

    pub(super) fn is_spent(&self) -> bool {
        let looks = self.looked > 0 && self.looked.is_multiple_of(CLOCK_ROWS);
        self.rows == 0 || looks && (self.now_ms)() >= self.until_ms
    }
}
