//! Room on the disk: how much there is, the reserves, spares, room for the index, and the end of segments and blobs that
//! nobody needs.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use crate::core::Core;

/// How often the file system is asked.
const LOOK_MS: u64 = 1_000;
/// How soon something that could not be made is tried again.
const RETRY_MS: u64 = 10_000;
/// A spare is made when this part of a segment is full: a spool that is hardly used needs none...
const SPARE_FROM: u64 = 16;
/// ... and it has taken so many checkpoints to fill it. When much is written, dead segments become spares by themselves;
/// if they do not, because nothing is delivered, a spare would only double what is written.
const SPARE_AFTER: u64 = 2;
/// The index has room to grow by such a part of a segment: a checkpoint, and an open that finds as much log as that,
/// must not fail on a full disk, or the queue could not drain.
const INDEX_ROOM: u64 = 2;

/// Keeper of the room on the disk.
#[derive(Default)]
pub(crate) struct Space {
    look_ms: u64,
    retry_ms: u64,
    /// Octets of the index when room was last taken for it.
    index_bytes: Option<u64>,
}

impl Space {
    /// Do what is due. What fails is tried again later: none of it is part of the log. **Blocking**, for long.
    pub(crate) fn step(&mut self, core: &Core, stop: &dyn Fn() -> bool) {
        let segments = &core.segments;
        while let Some(last) = segments.last_dead().filter(|_| !stop()) {
            // Nothing goes before it is noted that it may be gone.
            if core.floor.raise(last).is_err() {
                break;
            }
            // What cannot be removed stays a file that nobody needs, and the next open finds it.
            let _ = segments.bury(last);
        }
        core.blobs.bury(stop);
        let now_ms = core.now_ms();
        if now_ms < self.look_ms && !core.is_full() {
            return;
        }
        self.look_ms = now_ms + LOOK_MS;
        if let Ok(free) = core.device.free_bytes(&core.config.path) {
            core.note_free(free);
            self.provide(core, free, now_ms, stop);
        }
    }

    /// Make what is missing, if there is room for it. The reserves are for outcomes on a full disk; a spare makes
    /// syncs cheaper, and is what the log goes on with after a reserve.
    fn provide(&mut self, core: &Core, free: u64, now_ms: u64, stop: &dyn Fn() -> bool) {
        let segments = &core.segments;
        if core.is_poisoned() || now_ms < self.retry_ms || stop() {
            return;
        }
        let mut made = self.make_index_room(core, free);
        let mut left = free;
        while made.is_ok() && !segments.has_reserves() && left > segments.segment_bytes() {
            made = segments.make_reserve();
            left -= segments.reserve_bytes();
        }
        let is_used = core.log_position.load(Relaxed) > segments.segment_bytes() / SPARE_FROM;
        let is_slow = now_ms >= core.log_began_ms.load(Relaxed) + SPARE_AFTER * core.config.checkpoint_ms;
        let is_on_reserve = core.is_on_reserve.load(Relaxed);
        let has_room = free > core.config.free_min_bytes.saturating_add(2 * segments.segment_bytes());
        if made.is_ok() && (is_used && is_slow || is_on_reserve) && has_room && !segments.has_spare() {
            made = segments.make_spare(stop);
            core.note_free(free);
        }
        if made.is_err() {
            self.retry_ms = now_ms + RETRY_MS;
        }
    }
    /// Take room for the index when it has used up half of what it had.
    fn make_index_room(&mut self, core: &Core, free: u64) -> io::Result<()> {
        let room = core.segments.segment_bytes() / INDEX_ROOM;
        let bytes = core.counters.index_bytes.load(Relaxed);
        let has_room = self.index_bytes.is_some_and(|before| bytes < before + room / 2);
        if !has_room && free > room {
            core.index.take_room(room)?;
            self.index_bytes = Some(bytes);
        }
        Ok(())
    }
}
