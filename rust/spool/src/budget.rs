//! The memory that drafts share.
//!
//! Whoever finds no room waits, and is given room in the order of waiting: an amount is set aside for it before it is
//! woken, so that nobody who comes later can take it. So that half-finished drafts can always finish, one of those that
//! wait, the oldest, may go beyond the limit until what it holds is given back; what is held in all is thus bounded by
//! the limit and one message, also while the disk stands still. A draft that is slow, but has room, holds nobody up.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use penstock_core::flow::WakeHandle;

struct Waiter {
    draft: u64,
    bytes: u64,
    waker: WakeHandle,
}

#[derive(Default)]
struct State {
    used: u64,
    /// In the order of waiting.
    waiting: VecDeque<Waiter>,
    /// What was set aside for drafts that have been woken.
    aside: HashMap<u64, u64>,
    /// The draft that may go beyond the limit.
    privileged: Option<u64>,
    /// Whether it has done so.
    is_beyond: bool,
    /// Of drafts that have split off pieces, how many there are, the share itself among them.
    pieces: HashMap<u64, usize>,
}

impl State {
    /// Set room aside for those who wait, as far as it goes; returns whom to wake.
    fn share_out(&mut self, limit: u64) -> Vec<WakeHandle> {
        let mut woken = Vec::new();
        if self.is_beyond && self.used <= limit {
            self.privileged = None;
            self.is_beyond = false;
        }
        while let Some(first) = self.waiting.front() {
            if self.used + first.bytes > limit {
                break;
            }
            let Some(Waiter { draft, bytes, waker }) = self.waiting.pop_front() else { break };
            self.used += bytes;
            self.aside.insert(draft, bytes);
            woken.push(waker);
        }
        if self.privileged.is_none()
            && let Some(oldest) = self.waiting.iter().map(|waiter| waiter.draft).min()
        {
            self.privileged = Some(oldest);
            woken.extend(self.forget(oldest));
        }
        woken
    }

    /// Take octets back from a draft; `is_end` says that the last of its share, or a piece, is gone with them.
    fn take_back(&mut self, draft: u64, bytes: u64, is_end: bool) {
        self.used -= bytes;
        let is_last = match self.pieces.get_mut(&draft) {
            Some(count) if is_end => {
                *count -= 1;
                *count == 0
            }
            Some(_) => false,
            None => is_end,
        };
        if is_last {
            self.pieces.remove(&draft);
            if self.privileged == Some(draft) {
                self.privileged = None;
                self.is_beyond = false;
            }
        }
    }

    /// Take a draft out of those who wait.
    fn forget(&mut self, draft: u64) -> Option<WakeHandle> {
        let at = self.waiting.iter().position(|waiter| waiter.draft == draft)?;
        self.waiting.remove(at).map(|waiter| waiter.waker)
    }
}

/// Octets that drafts may hold.
pub(crate) struct Budget {
    limit: u64,
    state: Mutex<State>,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// Begin a draft with some octets; `None` if there is no room, or others wait for it.
    pub(crate) fn open(self: &Arc<Self>, draft: u64, bytes: u64) -> Option<Share> {
        let mut state = self.state.lock();
        let has_room = state.used == 0 || state.used + bytes <= self.limit;
        if !has_room || !state.waiting.is_empty() {
            return None;
        }
        state.used += bytes;
        Some(Share { budget: Arc::clone(self), draft, bytes })
    }

    /// Octets that drafts hold.
    pub(crate) fn used(&self) -> u64 {
        self.state.lock().used
    }

    /// Octets that drafts may hold.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }
}

/// A draft's part of the budget, given back when dropped.
pub(crate) struct Share {
    budget: Arc<Budget>,
    draft: u64,
    bytes: u64,
}

impl Share {
    /// Octets that the draft may hold.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ask for more; if there is none, the waker fires when there is.
    pub(crate) fn grow(&mut self, bytes: u64, waker: &WakeHandle) -> bool {
        let mut state = self.budget.state.lock();
        let aside = state.aside.remove(&self.draft).unwrap_or(0);
        self.bytes += aside;
        let Some(more) = bytes.checked_sub(aside).filter(|&more| more > 0) else { return true };
        let is_privileged = state.privileged == Some(self.draft);
        let has_room = state.waiting.is_empty() && state.used + more <= self.budget.limit;
        if !is_privileged && !has_room {
            if state.privileged.is_some() {
                state.forget(self.draft);
                state.waiting.push_back(Waiter { draft: self.draft, bytes: more, waker: waker.clone() });
                return false;
            }
            state.privileged = Some(self.draft);
        }
        state.used += more;
        state.is_beyond |= state.privileged == Some(self.draft) && state.used > self.budget.limit;
        self.bytes += more;
        true
    }

    /// Say that nothing more will be asked for; what is held stays held.
    pub(crate) fn seal(&mut self) {
        self.end(false);
    }

    /// Give back octets that are not needed.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        let woken = {
            let mut state = self.budget.state.lock();
            state.take_back(self.draft, bytes, false);
            state.share_out(self.budget.limit)
        };
        self.bytes -= bytes;
        woken.iter().for_each(WakeHandle::wake);
    }

    /// Hand on a part that is given back by itself.
    pub(crate) fn split(&mut self, bytes: u64) -> Piece {
        *self.budget.state.lock().pieces.entry(self.draft).or_insert(1) += 1;
        self.bytes -= bytes;
        Piece { budget: Arc::clone(&self.budget), draft: self.draft, bytes }
    }

    /// Take back what is not asked for any more; with `is_end` the share as well.
    fn end(&mut self, is_end: bool) {
        let given_back = if is_end { self.bytes } else { 0 };
        let woken = {
            let mut state = self.budget.state.lock();
            let aside = state.aside.remove(&self.draft).unwrap_or(0);
            state.used -= aside;
            state.forget(self.draft);
            // What is sealed, and not yet written, holds its octets: another beyond the limit has to wait for that.
            state.take_back(self.draft, given_back, is_end);
            state.share_out(self.budget.limit)
        };
        self.bytes -= given_back;
        woken.iter().for_each(WakeHandle::wake);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.end(true);
    }
}

/// A part of a draft's share, given back when dropped.
pub(crate) struct Piece {
    budget: Arc<Budget>,
    draft: u64,
    bytes: u64,
}

impl Piece {
    /// Octets that it stands for.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let woken = {
            let mut state = self.budget.state.lock();
            state.take_back(self.draft, self.bytes, true);
            state.share_out(self.budget.limit)
        };
        woken.iter().for_each(WakeHandle::wake);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use penstock_core::flow::Wake;

    #[derive(Default)]
    struct Woken(Mutex<Vec<u64>>);

    impl Wake for Woken {
        fn wake(&self, token: u64) {
            self.0.lock().push(token);
        }
    }

    struct Bench {
        budget: Arc<Budget>,
        woken: Arc<Woken>,
    }

    impl Bench {
        fn new(limit: u64) -> Self {
            Self { budget: Arc::new(Budget::new(limit)), woken: Arc::default() }
        }

        fn grow(&self, share: &mut Share, bytes: u64) -> bool {
            let waker = WakeHandle { wake: Arc::clone(&self.woken) as Arc<dyn Wake>, token: share.draft };
            share.grow(bytes, &waker)
        }

        fn woken(&self) -> Vec<u64> {
            std::mem::take(&mut self.woken.0.lock())
        }
    }

    #[test]
    fn one_draft_may_always_finish_and_the_others_wait_in_order() {
        let bench = Bench::new(100);
        let mut shares: Vec<Share> = (1..=4).map(|draft| bench.budget.open(draft, 25).unwrap()).collect();
        assert!(bench.budget.open(5, 1).is_none());
        let [one, two, three, four] = shares.get_disjoint_mut([0, 1, 2, 3]).unwrap();
        assert!(bench.grow(two, 10), "the first to wait is privileged");
        assert!(!bench.grow(four, 10) && !bench.grow(one, 30) && !bench.grow(three, 10));
        assert!(bench.grow(two, 10));
        assert_eq!(bench.budget.used(), 120);
        shares.remove(1);
        // 75 are held: four gets its ten; the oldest of the rest is privileged in turn; three goes on waiting.
        assert_eq!(bench.woken(), [4, 1]);
        let [one, three, four] = shares.get_disjoint_mut([0, 1, 2]).unwrap();
        assert!(bench.grow(four, 10) && bench.grow(one, 30) && !bench.grow(three, 10));
        shares.remove(0);
        assert_eq!(bench.woken(), [3]);
        shares.clear();
        assert_eq!(bench.budget.used(), 0);
    }

    #[test]
    fn what_was_set_aside_is_given_back_by_a_draft_that_ends() {
        let bench = Bench::new(100);
        let (first, mut second) = (bench.budget.open(1, 60).unwrap(), bench.budget.open(2, 40).unwrap());
        let mut third = None;
        assert!(bench.grow(&mut second, 1));
        assert!(bench.budget.open(3, 1).is_none());
        drop(first);
        third.replace(bench.budget.open(3, 10).unwrap());
        assert!(bench.grow(third.as_mut().unwrap(), 40));
        drop(second);
        drop(third);
        assert_eq!(bench.budget.used(), 0);
        assert!(bench.budget.open(9, 1_000).is_some(), "the only draft is always let in");
    }

    #[test]
    fn sealed_drafts_that_nobody_writes_do_not_let_the_others_beyond_the_limit() {
        let bench = Bench::new(10);
        let mut drafts: Vec<Share> = (1..=5).map(|draft| bench.budget.open(draft, 2).unwrap()).collect();
        let mut sealed = Vec::new();
        let mut waiting = Vec::new();
        for mut draft in drafts.drain(..) {
            if bench.grow(&mut draft, 50) {
                draft.seal();
                sealed.push(draft);
            } else {
                waiting.push(draft);
            }
        }
        assert_eq!((sealed.len(), bench.budget.used()), (1, 60), "the limit and one message");
        for (nth, mut draft) in waiting.into_iter().enumerate() {
            sealed.clear();
            assert_eq!(bench.woken(), [nth as u64 + 2], "the next, once what was sealed is written");
            assert!(bench.grow(&mut draft, 50));
            draft.seal();
            sealed.push(draft);
        }
        sealed.clear();
        assert_eq!(bench.budget.used(), 0);
    }

    #[test]
    fn a_sealed_draft_gives_back_what_was_set_aside_for_it() {
        let bench = Bench::new(10);
        let mut shares: Vec<Share> = (1..=3).map(|draft| bench.budget.open(draft, 3).unwrap()).collect();
        let [one, two, three] = shares.get_disjoint_mut([0, 1, 2]).unwrap();
        assert!(bench.grow(one, 2) && !bench.grow(two, 2) && !bench.grow(three, 2));
        shares.remove(0);
        assert_eq!(bench.woken(), [2, 3]);
        let [two, three] = shares.get_disjoint_mut([0, 1]).unwrap();
        two.seal();
        assert_eq!(bench.budget.used(), 8, "three keeps what is set aside for it");
        assert!(bench.grow(three, 2));
    }

    #[test]
    fn a_draft_that_spills_makes_room_piece_by_piece_and_another_may_go_beyond_the_limit() {
        let bench = Bench::new(100);
        let mut one = bench.budget.open(1, 60).unwrap();
        let mut two = bench.budget.open(2, 40).unwrap();
        assert!(bench.grow(&mut one, 40), "privileged");
        assert!(!bench.grow(&mut two, 20));
        let pieces = [one.split(60), one.split(30)];
        let [first, second] = pieces;
        assert_eq!((one.bytes(), first.bytes(), bench.budget.used()), (10, 60, 140));
        drop(second);
        assert_eq!(bench.woken(), [] as [u64; 0], "140 - 30 are still too many");
        drop(first);
        assert_eq!((bench.woken(), bench.budget.used()), (vec![2], 70), "and 20 are set aside");
        assert!(bench.grow(&mut two, 20) && bench.grow(&mut two, 70), "the privilege is to be had again");
        assert!(!bench.grow(&mut one, 1), "by one");
        drop(two);
        assert_eq!(bench.woken(), [1]);
        drop(one);
        assert_eq!(bench.budget.used(), 0);
        assert!(bench.budget.state.lock().pieces.is_empty());
    }

    #[test]
    fn a_share_that_ends_before_its_pieces_leaves_the_privilege_to_them() {
        let bench = Bench::new(10);
        let (mut one, mut two) = (bench.budget.open(1, 4).unwrap(), bench.budget.open(2, 4).unwrap());
        assert!(bench.grow(&mut one, 40) && !bench.grow(&mut two, 40));
        let piece = one.split(40);
        drop(one);
        assert_eq!(bench.woken(), [] as [u64; 0]);
        drop(piece);
        assert_eq!(bench.woken(), [2]);
    }
}
