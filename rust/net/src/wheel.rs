//! Deadlines of a thread's connections, to a quarter of a second.
//!
//! Lazy: a connection whose deadline moves away stays where it is enrolled and is looked at once too early; only a
//! nearer deadline enrols it again. So a busy connection, whose deadline changes with every command, costs nothing.

use crate::Conn;

/// The grain.
pub(crate) const TICK_MS: u64 = 250;

/// Ticks until the wheel comes round: over eight minutes, so that few deadlines are enrolled twice.
const TICKS: usize = 2048;

pub(crate) struct Wheel {
    slots: Vec<Vec<Conn>>,
    /// One bit a slot: whether anything is in it.
    occupied: [u64; TICKS / 64],
    /// The tick up to which all were called.
    tick: u64,
}

impl Wheel {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            slots: std::iter::repeat_with(Vec::new).take(TICKS).collect(),
            occupied: [0; TICKS / 64],
            tick: now_ms / TICK_MS,
        }
    }

    /// Have a connection called at that time, or somewhat later, or earlier if it is far away; return the tick.
    pub(crate) fn enrol(&mut self, conn: Conn, at_ms: u64) -> u64 {
        let tick = at_ms.div_ceil(TICK_MS).clamp(self.tick + 1, self.tick + TICKS as u64 - 1);
        let index = slot(tick);
        if let (Some(slot), Some(word)) = (self.slots.get_mut(index), self.occupied.get_mut(index / 64)) {
            slot.push(conn);
            *word |= 1 << (index % 64);
        }
        tick
    }

    /// Whether a connection that is enrolled at `tick` is called early enough for a deadline.
    pub(crate) fn is_early_enough(tick: u64, at_ms: u64) -> bool {
        tick <= at_ms.div_ceil(TICK_MS)
    }

    /// When somebody is to be called next.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        let from = slot(self.tick + 1);
        let words = self.occupied.len();
        // The word that holds the first tick comes twice: its upper bits first, its lower bits last.
        (0..=words).find_map(|step| {
            let word_index = (from / 64 + step) % words;
            let mut word = *self.occupied.get(word_index)?;
            if step == 0 {
                word &= u64::MAX << (from % 64);
            }
            let index = word_index * 64 + word.trailing_zeros() as usize;
            let ahead = (index + TICKS - from) % TICKS;
            (word != 0).then_some((self.tick + 1 + ahead as u64) * TICK_MS)
        })
    }

    /// Call whoever is due, with the tick at which it was enrolled.
    pub(crate) fn advance(&mut self, now_ms: u64, mut call: impl FnMut(Conn, u64)) {
        let now = now_ms / TICK_MS;
        if now <= self.tick {
            return;
        }
        let first = self.tick + 1;
        // After a jump every slot is looked at once.
        for tick in first..=now.min(self.tick + TICKS as u64) {
            let index = slot(tick);
            if let (Some(slot), Some(word)) = (self.slots.get_mut(index), self.occupied.get_mut(index / 64)) {
                *word &= !(1 << (index % 64));
                for conn in std::mem::take(slot) {
                    call(conn, tick);
                }
            }
        }
        self.tick = now;
    }
}

const fn slot(tick: u64) -> usize {
    (tick % TICKS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(wheel: &mut Wheel, now_ms: u64) -> Vec<Conn> {
        let mut conns = Vec::new();
        wheel.advance(now_ms, |conn, _| conns.push(conn));
        conns
    }

    #[test]
    fn nobody_is_called_before_time_and_everybody_within_a_tick() {
        let mut wheel = Wheel::new(1_000_000);
        wheel.enrol(1, 1_000_001);
        wheel.enrol(2, 1_000_250);
        wheel.enrol(3, 1_000_251);
        assert_eq!(wheel.next_ms(), Some(1_000_250));
        assert_eq!(called(&mut wheel, 1_000_249), []);
        assert_eq!(called(&mut wheel, 1_000_250), [1, 2]);
        assert_eq!(wheel.next_ms(), Some(1_000_500));
        assert_eq!(called(&mut wheel, 1_000_600), [3]);
        assert_eq!(wheel.next_ms(), None);
    }

    #[test]
    fn what_is_far_away_is_called_early_and_what_is_past_at_once() {
        let mut wheel = Wheel::new(0);
        let tick = wheel.enrol(1, u64::MAX);
        assert_eq!(tick, TICKS as u64 - 1);
        assert_eq!(wheel.next_ms(), Some(tick * TICK_MS));
        wheel.enrol(2, 0);
        assert_eq!(called(&mut wheel, TICK_MS), [2]);
        assert_eq!(called(&mut wheel, tick * TICK_MS), [1]);
    }

    #[test]
    fn a_jump_of_the_clock_calls_everybody_once() {
        let mut wheel = Wheel::new(0);
        for conn in 0..100 {
            wheel.enrol(conn, conn * 5000);
        }
        assert_eq!(called(&mut wheel, 1_700_000_000_000).len(), 100);
        wheel.enrol(7, 1_700_000_000_100);
        assert_eq!(wheel.next_ms(), Some(1_700_000_000_250));
    }

    #[test]
    fn the_next_time_is_found_in_every_place_of_the_wheel() {
        let mut wheel = Wheel::new(0);
        for tick in 1..3 * TICKS as u64 {
            let ahead = 1 + tick * 37 % (TICKS as u64 - 1);
            let at_ms = (wheel.tick + ahead) * TICK_MS;
            wheel.enrol(tick, at_ms);
            assert_eq!(wheel.next_ms(), Some(at_ms));
            assert_eq!(called(&mut wheel, at_ms), [tick]);
        }
    }
}
