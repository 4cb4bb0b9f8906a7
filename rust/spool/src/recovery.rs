//! Opening a spool: what the log says behind the index is brought into a state that can be trusted.
//!
//! What is found after the watermark may be in the page cache only, or have been written by a run whose sync failed. So
//! it is made durable anew ([`renew`]) before anything acts on it; then it goes into the index, and only then are old
//! segments given up. A crash anywhere in between leaves what was found, so that recovery can be repeated.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use penstock_core::queue_id::QueueId;

use crate::blobs::{self, Blobs};
use crate::clock::Clock;
use crate::config::SpoolConfig;
use crate::core::{Core, Parts};
use crate::device::Device;
use crate::errors::OpenError;
use crate::events::SpoolSink;
use crate::floor::Floor;
use crate::format::{PAGE, align_up};
use crate::index::Index;
use crate::index_slot::IndexSlot;
use crate::log_writer::LogWriter;
use crate::meta::{self, Layout};
use crate::queues::Queues;
use crate::redo::{InDoubt, Redo, Watermark};
use crate::renew::{self, Renewed};
use crate::scan::Scanner;
use crate::segments::Segments;

/// What was found when a spool was opened.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Recovery {
    /// Messages in the queue.
    pub messages: u64,
    /// Records that were found behind the index.
    pub records: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Attempts whose end is not known: their messages may have arrived.
    pub in_doubt: Vec<InDoubt>,
    /// Places where acknowledged records cannot be read, and messages whose segment or blob is missing, or whose blob is
    /// seen not to be what it was.
    pub damaged: u64,
    /// How often the spool was opened, this time included.
    pub epoch: u64,
    /// Whether the machine went down under the last run: deliveries whose record was not synced may be repeated
    /// without being in doubt.
    pub may_repeat: bool,
}

/// A spool that is open, apart from its threads.
pub(crate) struct Opened {
    pub(crate) core: Core,
    pub(crate) recovery: Recovery,
    pub(crate) layout: Layout,
    pub(crate) lock: Box<dyn std::any::Any + Send + Sync>,
}

/// Open a spool. **Blocking**: reads the log behind the index, and writes it anew.
pub(crate) fn open(
    config: SpoolConfig,
    device: Arc<dyn Device>,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn SpoolSink>,
) -> Result<Opened, OpenError> {
    let began = Instant::now();
    let layout = Layout::new(&config.path);
    let (lock, database) = meta::claim(&*device, &layout)?;
    let queues = Queues::open(&*device, &layout.root)?;
    let index = open_index(Arc::clone(&device), &layout.index, config.map_bytes, database)?;
    let watermark = index.with(|index| Ok(index.watermark())).map_err(index_failed)?;
    let segments = Segments::open(Arc::clone(&device), layout.log.clone(), database, config.segment_bytes)
        .map_err(OpenError::io(&layout.log))?;
    let floor = Floor::open(Arc::clone(&device), &layout.shard).map_err(OpenError::io(&layout.shard))?;
    let Watermark { lsn, segment, .. } = watermark;
    if lsn < floor.lsn() || segment != 0 && segments.get(segment).is_none() {
        return Err(OpenError::StaleIndex { watermark: lsn, segment, floor: floor.lsn() });
    }
    index.with(Index::begin_epoch).map_err(index_failed)?;
    let may_repeat = meta::begin_run(&*device, &layout)?;
    segments.skip_to(watermark.segment);
    for number in meta::reported(&*device, &layout).map_err(OpenError::io(&layout.damaged))? {
        segments.exempt(number);
    }
    let behind: Vec<_> =
        segments.all().into_iter().filter(|segment| segment.number() >= watermark.segment).collect();
    let (scan, scanned) = Scanner::open(&*device, behind, database)?.run(watermark)?;
    for damage in &scan.damage {
        meta::report(&*device, &layout, damage.segment, damage.offset)?;
        segments.exempt(damage.segment);
    }
    let end = scan.end.and_then(|(at, offset)| Some((scanned.get(at)?.segment.number(), offset)));
    let (records, damaged) = (scan.records.len() as u64, scan.damage.len() as u64);
    let blobs = Arc::new(Blobs::new(Arc::clone(&device), layout.blobs.clone(), database));
    let survey = blobs.survey().map_err(OpenError::io(&layout.blobs))?;
    let keep_until_ms = config.keep_until_ms(clock.now_ms());
    let tail = renew::renew(&segments, &*device, scan, &scanned, (watermark, keep_until_ms.is_some()))
        .map_err(OpenError::io(&layout.log))?;
    drop(scanned);
    segments.bound(watermark.segment, watermark.lsn);
    segments.bound(u64::MAX, tail.last);
    // Blobs that are left by that are among those without a message.
    index.apply(&tail.redo, tail.watermark(), keep_until_ms).map_err(index_failed)?;
    let needed = index.with(Index::blobs).map_err(index_failed)?;
    let (orphans, without_blob) = blobs::compare(&survey.found, &needed);
    blobs.leave(orphans);
    blobs.bytes.store(needed.iter().map(|(_, bytes)| bytes).sum(), Relaxed);
    let damaged_blobs = damaged_blobs(&blobs, &survey.found, &needed, &tail.redo);

    let live = index.segments().map_err(index_failed)?;
    let missing: u64 =
        live.iter().filter(|one| segments.get(one.segment).is_none()).map(|one| one.live_messages).sum();
    let numbers: Vec<u64> = live.iter().map(|one| one.segment).collect();
    segments.give_up(tail.taken.segment.number(), &numbers);
    if let (Some((number, offset)), 0) = (end, damaged)
        && number < tail.taken.segment.number()
    {
        cut(&segments, number, align_up(offset, PAGE));
    }
    let recovery = Recovery {
        messages: index.with(Index::messages_count).map_err(index_failed)?,
        in_doubt: index.with(Index::in_doubt).map_err(index_failed)?,
        records,
        took_ms: began.elapsed().as_millis() as u64,
        damaged: damaged + missing + without_blob + damaged_blobs,
        epoch: index.with(|index| Ok(index.epoch())).map_err(index_failed)?,
        may_repeat,
    };
    let last_id = index.with(|index| Ok(index.last_queue_id())).map_err(index_failed)?;
    let last_id = last_id.max(survey.greatest);
    let Renewed { taken, position, last, greatest, .. } = tail;
    let log = LogWriter::new(taken, align_up(position, PAGE), last, greatest);
    let parts = Parts {
        config,
        device,
        clock,
        sink,
        log,
        segments,
        floor,
        blobs,
        index,
        queues,
        last_lsn: greatest,
        durable_record: last,
        last_id,
    };
    let core = Core::new(parts);
    let live_bytes = live.iter().map(|one| one.live_bytes).sum();
    core.counters.live_bytes.store(live_bytes, Relaxed);
    let kept = core.index.with(Index::kept).map_err(index_failed)?;
    core.counters.kept_messages.store(kept.messages, Relaxed);
    core.counters.kept_bytes.store(kept.bytes, Relaxed);
    core.look_around();
    Ok(Opened { core, recovery, layout, lock })
}

/// How many of the messages found behind the index have a blob that is there, and not what their records say.
fn damaged_blobs(blobs: &Blobs, found: &[QueueId], needed: &[(QueueId, u64)], redo: &[Redo]) -> u64 {
    let is_damaged = |one: &&Redo| {
        let (Redo::Accepted { queue_id, location, .. } | Redo::Moved { queue_id, location, .. }) = one else {
            return false;
        };
        let Some(expected) = location.blob else { return false };
        let is_needed = needed.binary_search_by_key(queue_id, |&(needed, _)| needed).is_ok();
        let is_found = found.binary_search(queue_id).is_ok();
        is_needed && is_found && !blobs.is_there(*queue_id, expected).is_ok_and(|is_there| is_there)
    };
    redo.iter().filter(is_damaged).count() as u64
}

fn open_index(
    device: Arc<dyn Device>,
    path: &Path,
    map_bytes: u64,
    database: u128,
) -> Result<IndexSlot, OpenError> {
    // LMDB does its own I/O, so that its directory is made on the disk whatever the log's device is. It syncs its file,
    // but not the names that lead there, and nothing of the log may be given up while those can be lost.
    let shard = path.parent().unwrap_or(path);
    std::fs::create_dir_all(shard).map_err(OpenError::io(shard))?;
    let index =
        IndexSlot::open(device, path.into(), map_bytes, database.to_le_bytes()).map_err(index_failed)?;
    for dir in [path, shard] {
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(OpenError::io(dir))?;
    }
    Ok(index)
}

fn index_failed(error: impl std::fmt::Display) -> OpenError {
    OpenError::Index { text: error.to_string() }
}

/// Give back the room behind the last record of a segment that is not written in any more.
fn cut(segments: &Segments, number: u64, end: u64) {
    if let Some(segment) = segments.get(number) {
        // It is only room.
        let _ = segments.cut(&segment, end);
    }
}
