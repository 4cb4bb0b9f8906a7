//! Names of connections.
//!
//! A name is a slot (24 bits), the slot's generation (32) and its thread (8). Slots are used again, names are not (until
//! a generation wraps), so a late action or a late readiness finds nobody. Names are given by whoever begins a
//! connection, on any thread, and returned by the reactor when the connection has ended.

use parking_lot::Mutex;

/// The name of a connection.
pub type Conn = u64;

/// Slots a thread can have.
const SLOTS_MAX: usize = 1 << 24;

pub(crate) const fn thread_of(conn: Conn) -> usize {
    (conn & 0xff) as usize
}

pub(crate) const fn slot_of(conn: Conn) -> usize {
    (conn >> 40) as usize
}

const fn generation_of(conn: Conn) -> u32 {
    (conn >> 8) as u32
}

const fn name(slot: usize, generation: u32, thread: usize) -> Conn {
    (slot as u64) << 40 | (generation as u64) << 8 | thread as u64
}

/// The token of something else than a connection, of which a thread can have 2^32.
pub(crate) const fn own_token(number: u32, thread: usize) -> Conn {
    name(SLOTS_MAX - 1, number, thread)
}

#[derive(Default)]
struct Free {
    slots: Vec<u32>,
    generations: Vec<u32>,
}

/// The names of one thread.
pub(crate) struct Names {
    thread: usize,
    free: Mutex<Free>,
}

impl Names {
    pub(crate) fn new(thread: usize) -> Self {
        Self { thread, free: Mutex::new(Free::default()) }
    }

    /// Give a name; `None` when all slots are in use.
    pub(crate) fn take(&self) -> Option<Conn> {
        let mut free = self.free.lock();
        if let Some(slot) = free.slots.pop() {
            let generation = free.generations.get(slot as usize).copied().unwrap_or_default();
            return Some(name(slot as usize, generation, self.thread));
        }
        let slot = free.generations.len();
        // The last slot is left out: its names are the reactor's own tokens.
        if slot + 1 >= SLOTS_MAX {
            return None;
        }
        free.generations.push(0);
        Some(name(slot, 0, self.thread))
    }

    /// Take a name back.
    pub(crate) fn give_back(&self, conn: Conn) {
        let mut free = self.free.lock();
        let slot = slot_of(conn);
        if let Some(generation) = free.generations.get_mut(slot) {
            debug_assert_eq!(*generation, generation_of(conn), "a name given back twice");
            *generation = generation.wrapping_add(1);
            free.slots.push(slot as u32);
        }
    }

    /// Names in use.
    pub(crate) fn in_use(&self) -> usize {
        let free = self.free.lock();
        free.generations.len() - free.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_under_another_name() {
        let names = Names::new(3);
        let (a, b) = (names.take().expect("a"), names.take().expect("b"));
        assert_eq!((slot_of(a), slot_of(b), thread_of(b)), (0, 1, 3));
        names.give_back(a);
        let c = names.take().expect("c");
        assert_eq!(slot_of(c), slot_of(a));
        assert_ne!(c, a);
        assert_eq!(names.in_use(), 2);
    }
}
