//! Cleaning: what is left in a mostly dead segment is appended anew, so that the segment can be given up.
//!
//! A step looks at some of a segment's records, reads the contents that the index says are there, checks every chunk,
//! and hands each message to the writer as it is in the index ([`Move`]), as of the index's watermark. The writer drops
//! a move if the log has said anything of the message since; then it is tried again later. So a move says all that is
//! left of its message, wherever the log is read from, and needs no place in any order but its own. The index follows
//! with the next checkpoint, and the segment is given up as any other in which nothing is left.
//!
//! Segments in which less than half is alive are cleaned, those with the least first, once the log is larger than what
//! it has to hold warrants. So it never takes more than twice that, and a few segments. A segment in which something
//! cannot be read is left as it is, and reported.
//!
//! The segment is searched for what is alive in it, record by record: an order of messages by place would cost the
//! index a row for every message that waits, for the sake of the few that wait long.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use penstock_core::queue_id::QueueId;

use crate::core::Core;
use crate::device::{self, DeviceFile};
use crate::facts::Lsn;
use crate::format::decode::{self, Part};
use crate::format::segment::FIRST;
use crate::format::{chunk, record};
use crate::inbox::{Move, Saying};
use crate::index::{Index, Present};
use crate::meta::{self, Layout};
use crate::redo::Location;
use crate::scan::Scanned;

/// A segment is cleaned if so many times what is alive in it is less than its file.
const DEAD_FACTOR: u64 = 2;
/// Segments that the log may have beyond [`DEAD_FACTOR`] times what is alive before any is cleaned: four spares and the
/// reserves lie beside them.
const SEGMENTS_ALLOWED: u64 = 3;
/// Octets of content moved in one step, a single message apart: the writer must not be held up.
const MOVE_BYTES: u64 = 1 << 20;
/// Octets looked at in one step.
const LOOK_BYTES: u64 = 4 << 20;
/// How much faster it goes when the disk is nearly full.
const HURRY: u64 = 4;
/// How soon a step follows whose predecessor waits for the disk.
const SOON_MS: u64 = 5;
/// How often it is looked whether there is anything to clean.
const LOOK_MS: u64 = 1_000;
/// How long a segment is left alone after a pass that has left something in it: so long for each such pass...
const AGAIN_MS: u64 = 1_000;
/// ... of at most so many.
const PASSES_MAX: u32 = 60;

/// The segment that is being cleaned.
struct Victim {
    scanned: Scanned,
    offset: u64,
    /// The last record that moves something from it.
    last: Lsn,
    /// Messages that were found alive in it.
    found: u64,
    /// The first record that cannot be read.
    unreadable: Option<u64>,
}

/// What is known of a segment that was cleaned and is still there.
#[derive(Default)]
struct Tried {
    /// The index tells what came of it when it has this.
    last: Lsn,
    passes: u32,
    again_ms: u64,
}

/// What cleans the log.
#[derive(Default)]
pub(crate) struct Cleaner {
    victim: Option<Victim>,
    tried: BTreeMap<u64, Tried>,
    /// Moves up to here were handed in.
    handed: Lsn,
    /// When the octets of the last step are paid for.
    paid_ms: u64,
    look_ms: u64,
}

/// Why a step could not do its work.
enum Trouble {
    /// Octets are not what they were.
    Damaged { offset: u64 },
    /// It may go better another time.
    Later,
}

impl From<io::Error> for Trouble {
    fn from(_: io::Error) -> Self {
        Self::Later
    }
}

impl Cleaner {
    /// Do a step, if one is due; tells after how many milliseconds to come again. **Blocking** on disk.
    pub(crate) fn step(&mut self, core: &Core) -> u64 {
        let now_ms = core.now_ms();
        let rate = core.config.clean_bytes_per_s;
        if rate == 0 || core.is_poisoned() {
            return LOOK_MS;
        }
        if now_ms < self.paid_ms {
            return self.paid_ms - now_ms;
        }
        // The index must not fall behind for the sake of this.
        if core.lags(1) {
            return LOOK_MS;
        }
        // One step's moves at a time. When outcomes wait for room it takes longer than a sync.
        if core.durable() < self.handed {
            return if core.is_full() { LOOK_MS } else { SOON_MS };
        }
        if self.victim.is_none() {
            if now_ms < self.look_ms {
                return self.look_ms - now_ms;
            }
            self.victim = self.choose(core, now_ms);
            if self.victim.is_none() {
                self.look_ms = now_ms + LOOK_MS;
                core.counters.is_cleaning.store(false, Relaxed);
                return LOOK_MS;
            }
            core.counters.is_cleaning.store(true, Relaxed);
        }
        let spent = self.clean(core, now_ms);
        let rate = if is_nearly_full(core) { rate.saturating_mul(HURRY) } else { rate };
        let wait_ms = spent.saturating_mul(1_000) / rate;
        self.paid_ms = now_ms + wait_ms;
        wait_ms.max(1)
    }

    /// Inline mode: when there is something to do next.
    pub(crate) fn next_ms(&self, core: &Core) -> Option<u64> {
        let may_go_on = !core.is_poisoned() && !core.lags(1) && core.durable() >= self.handed;
        self.victim.as_ref().filter(|_| may_go_on).map(|_| self.paid_ms.max(core.now_ms() + 1))
    }

    /// The deadest segment that is worth cleaning.
    fn choose(&mut self, core: &Core, now_ms: u64) -> Option<Victim> {
        let live = core.index.segments().ok()?;
        let watermark = core.index.with(|index| Ok(index.watermark())).ok()?;
        let live: BTreeMap<u64, u64> = live.iter().map(|one| (one.segment, one.live_bytes)).collect();
        let needed: u64 = live.values().sum();
        let allowed = DEAD_FACTOR * needed + SEGMENTS_ALLOWED * core.segments.segment_bytes();
        if core.segments.bytes() <= allowed && !is_nearly_full(core) {
            return None;
        }
        let sizes = core.segments.sizes(watermark.segment);
        self.tried.retain(|number, _| sizes.binary_search_by_key(number, |(number, _)| *number).is_ok());
        let is_ripe = |number: &u64| {
            let tried = self.tried.get(number);
            tried.is_none_or(|tried| tried.last <= watermark.lsn && tried.again_ms <= now_ms)
        };
        // Those in which nothing is left need no cleaning.
        let candidates =
            sizes.iter().filter_map(|&(number, bytes)| Some((number, bytes, *live.get(&number)?)));
        let (number, ..) = candidates
            .filter(|(number, bytes, live)| DEAD_FACTOR * live < *bytes && is_ripe(number))
            .min_by(|a, b| (u128::from(a.2) * u128::from(b.1)).cmp(&(u128::from(b.2) * u128::from(a.1))))?;
        let segment = core.segments.get(number)?;
        let database = core.segments.database();
        match Scanned::open(&*core.device, segment, database) {
            Ok(scanned) if scanned.header.is_some() => {
                Some(Victim { scanned, offset: FIRST, last: 0, found: 0, unreadable: None })
            }
            Ok(_) => {
                report(core, number, 0);
                None
            }
            Err(_) => {
                self.put_off(number, now_ms);
                None
            }
        }
    }

    /// Clean on; tells how many octets were read and handed in.
    fn clean(&mut self, core: &Core, now_ms: u64) -> u64 {
        let Some(victim) = &mut self.victim else { return 0 };
        let number = victim.scanned.segment.number();
        let from = victim.offset;
        let mut moved = 0;
        let result = victim.look(core).and_then(|(found, is_end)| {
            moved = victim.hand_in(core, found)?;
            Ok(is_end)
        });
        let spent = (victim.offset - from) + moved;
        self.handed = self.handed.max(victim.last);
        match result {
            Ok(false) => {}
            Ok(true) => {
                let Victim { last, found, unreadable, .. } = *victim;
                self.put_off(number, now_ms);
                self.tried.entry(number).or_default().last = last;
                if found == 0 && is_needed(core, number) {
                    report(core, number, unreadable.unwrap_or(FIRST));
                }
            }
            Err(Trouble::Later) => self.put_off(number, now_ms),
            Err(Trouble::Damaged { offset }) => {
                self.victim = None;
                report(core, number, offset);
            }
        }
        spent
    }

    /// Leave a segment alone for some time.
    fn put_off(&mut self, number: u64, now_ms: u64) {
        self.victim = None;
        let tried = self.tried.entry(number).or_default();
        tried.passes = (tried.passes + 1).min(PASSES_MAX);
        tried.again_ms = now_ms + u64::from(tried.passes) * AGAIN_MS;
    }
}

impl Victim {
    /// Look for messages that are alive, as many as a step may move; tells whether the end was reached.
    fn look(&mut self, core: &Core) -> Result<(Vec<(QueueId, Location)>, bool), Trouble> {
        let (mut found, mut bytes, from) = (Vec::new(), 0, self.offset);
        while bytes < MOVE_BYTES && self.offset - from < LOOK_BYTES {
            let Some((at, header)) = self.scanned.next_header(self.offset)? else { return Ok((found, true)) };
            let header = header.map_err(|_| Trouble::Damaged { offset: at })?;
            // If its body cannot be read, the next header is searched for behind this one.
            let body = self.scanned.body(at, &header)?.map(decode::body).transpose();
            let Some(parts) = body.ok().flatten() else {
                self.offset = at + record::HEADER as u64;
                self.unreadable = self.unreadable.or(Some(at));
                continue;
            };
            self.offset = at + header.span();
            let queue_id = parts.iter().find_map(|part| match part {
                Part::Accepted { queue_id, .. } | Part::Moved { queue_id, .. } => Some(*queue_id),
                Part::Fact { .. } | Part::Started { .. } => None,
            });
            let Some(queue_id) = queue_id else { continue };
            let stored = core.index.stored(queue_id).map_err(|_| Trouble::Later)?;
            let content = at + record::HEADER as u64 + u64::from(header.body_length);
            let place = (self.scanned.segment.number(), content);
            if let Some(location) = stored.map(|stored| stored.location)
                && (location.segment, location.offset) == place
            {
                bytes += location.length;
                self.found += 1;
                found.push((queue_id, location));
            }
        }
        Ok((found, false))
    }

    /// Hand the messages to the writer; tells how many octets their contents have.
    fn hand_in(&mut self, core: &Core, found: Vec<(QueueId, Location)>) -> Result<u64, Trouble> {
        if found.is_empty() {
            return Ok(0);
        }
        let bytes: u64 = found.iter().map(|(_, location)| location.record_bytes).sum();
        if !has_room(core, bytes) {
            return Err(Trouble::Later);
        }
        let contents = found
            .iter()
            .map(|&(queue_id, location)| read(&*self.scanned.file, queue_id, location))
            .collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<QueueId> = found.iter().map(|(queue_id, _)| *queue_id).collect();
        let (as_of, present) =
            core.index.with(|index: &Index| index.present(&ids)).map_err(|_| Trouble::Later)?;
        for (((queue_id, location), chunks), present) in found.into_iter().zip(contents).zip(present) {
            // It may have finished since.
            let Some(present) = present.filter(|present| present.stored.location == location) else {
                continue;
            };
            let Present { accepted, hops, attempts, begun, .. } = present;
            let accepted = Arc::new(accepted);
            let blob = location.blob;
            let moved = Move { queue_id, accepted, hops, as_of, attempts, begun, blob, chunks };
            // Refused only when the log has failed; then nothing is cleaned any more.
            self.last = core.inbox.push(Saying::Move(Box::new(moved))).unwrap_or(self.last);
        }
        Ok(bytes)
    }
}

/// A content's chunks with their headers, every one of them checked.
fn read(file: &dyn DeviceFile, queue_id: QueueId, location: Location) -> Result<Vec<Vec<u8>>, Trouble> {
    let mut chunks = Vec::new();
    let (mut at, end) = (location.offset, location.offset.saturating_add(location.length));
    while at < end {
        let damaged = Trouble::Damaged { offset: at };
        let mut octets = vec![0; (end - at).min((chunk::HEADER + chunk::MAX) as u64) as usize];
        let read = device::read_full(file, &mut octets, at)?;
        octets.truncate(read);
        let Some((header, rest)) = octets.split_first_chunk() else { return Err(damaged) };
        let whole = chunk::length(*header).ok().and_then(|length| rest.get(..length));
        let Some(content) = whole.filter(|content| chunk::is_whole(queue_id, *header, content)) else {
            return Err(damaged);
        };
        let length = chunk::HEADER + content.len();
        octets.truncate(length);
        octets.shrink_to_fit();
        chunks.push(octets);
        at += length as u64;
    }
    Ok(chunks)
}

/// Whether the index says that something in a segment is alive.
fn is_needed(core: &Core, number: u64) -> bool {
    let live = core.index.segments().unwrap_or_default();
    live.iter().any(|one| one.segment == number)
}

/// Whether so much can be written without taking the last room from outcomes.
fn has_room(core: &Core, bytes: u64) -> bool {
    if core.segments.has_spare() {
        return true;
    }
    if core.is_on_reserve.load(Relaxed) {
        return core.segments.can_take_turns();
    }
    core.device.free_bytes(&core.config.path).unwrap_or(0) > 2 * bytes + FIRST
}

/// Whether there is so little room that cleaning is urgent.
fn is_nearly_full(core: &Core) -> bool {
    let free = core.counters.free_bytes.load(Relaxed);
    core.is_full() || free < core.config.free_min_bytes.saturating_mul(2)
}

/// Leave a segment as it is, and say where it cannot be read. **Blocking.**
fn report(core: &Core, segment: u64, offset: u64) {
    core.segments.exempt(segment);
    // If that cannot be noted, the next run finds it again.
    let _ = meta::report(&*core.device, &Layout::new(&core.config.path), segment, offset);
}
