//! Opening a spool: what the log says behind the index is brought into a state that can be trusted.
//!
//! What is found after the watermark may be in the page cache only, or have been written by a run whose sync failed. So
//! it is made durable anew ([`renew`]) before anything acts on it; then it goes into the index, and only then are old
//! segments given up. A crash anywhere in between leaves what was found, so that recovery can be repeated.
//!
//! An index that is missing, of another database, damaged, stale (below the floor), or not one of this log as it is now,
//! is made anew from the log ([`salvage`]). That is found out in this order: the file is read page by page before LMDB
//! maps it; a process that died again and again while it was opened is evidence enough; the log must go on where the
//! index ends; and what an open reads of it must be readable.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use penstock_core::queue_id::QueueId;

use crate::blobs::{self, Blobs};
use crate::clock::Clock;
use crate::config::SpoolConfig;
use crate::core::{Core, Parts};
use crate::device::{Device, is_full};
use crate::errors::OpenError;
use crate::events::SpoolSink;
use crate::facts::Lsn;
use crate::floor::Floor;
use crate::format::{PAGE, align_up};
use crate::index::{Index, IndexError, Verdict};
use crate::index_slot::{IndexSlot, SlotError};
use crate::log_writer::LogWriter;
use crate::meta::{self, Doubt, Layout};
use crate::queues::Queues;
use crate::redo::{InDoubt, Redo};
use crate::renew::{self, Renewed};
use crate::salvage::{self, Order, Salvaged};
use crate::scan::{Origins, Scanner};
use crate::segments::{self, Segments};

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
    /// What was made anew of the index, if it could not be used.
    pub salvaged: Option<Salvaged>,
    /// Whether what the spool holds was brought back from a backup: nothing may be tried before an operator says so.
    pub is_restored: bool,
}

/// A spool that is open, apart from its threads.
pub(crate) struct Opened {
    pub(crate) core: Core,
    pub(crate) recovery: Recovery,
    pub(crate) layout: Layout,
    pub(crate) lock: Box<dyn std::any::Any + Send + Sync>,
}

/// How long the index's file is looked at before it is opened, if nothing speaks against it.
const LOOK: Duration = Duration::from_millis(50);
/// After so many runs in a row that did not end in order, all of it is looked at, however long that takes...
const RUNS_MAX: u32 = 3;
/// ... and after so many that ended while it was being opened, it is made anew.
const OPENINGS_MAX: u32 = 3;

/// Open a spool. **Blocking**: reads the log behind the index, and writes it anew. If the index cannot be used, reads the
/// whole log.
pub(crate) fn open(
    config: SpoolConfig,
    device: Arc<dyn Device>,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn SpoolSink>,
) -> Result<Opened, OpenError> {
    let layout = Layout::new(&config.path);
    let (lock, database) = meta::claim(&*device, &layout)?;
    let queues = Queues::open(&*device, &layout.root)?;
    let floor = Floor::open(Arc::clone(&device), &layout.shard).map_err(OpenError::io(&layout.shard))?;
    let before = meta::doubt(&*device, &layout);
    let runs = before.runs.saturating_add(1);
    meta::note_doubt(&*device, &layout, Doubt { runs, openings: before.openings.saturating_add(1) });
    let recovering = Recovering {
        config: &config,
        device: &device,
        layout: &layout,
        database,
        floor: floor.lsn(),
        keep_until_ms: config.keep_until_ms(clock.now_ms()),
    };
    let recovered = recovering.run(before);
    // Only the end of the process speaks against the index, not what it could tell.
    let openings = if recovered.is_ok() { 0 } else { before.openings };
    meta::note_doubt(&*device, &layout, Doubt { runs, openings });
    let Recovered { recovery, segments, index, blobs, tail, live_bytes, last_id } = recovered?;
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
    core.counters.live_bytes.store(live_bytes, Relaxed);
    let kept = core.index.with(Index::kept).map_err(index_failed)?;
    core.counters.kept_messages.store(kept.messages, Relaxed);
    core.counters.kept_bytes.store(kept.bytes, Relaxed);
    core.look_around();
    Ok(Opened { core, recovery, layout, lock })
}

/// What a recovery leaves.
struct Recovered {
    recovery: Recovery,
    segments: Segments,
    index: IndexSlot,
    blobs: Arc<Blobs>,
    tail: Renewed,
    live_bytes: u64,
    last_id: Option<QueueId>,
}

/// Why an index does not bring a recovery to its end.
enum Obstacle {
    /// Nothing can be done about it.
    Error(OpenError),
    /// The index has to be made anew.
    Index(String),
}

impl From<OpenError> for Obstacle {
    fn from(error: OpenError) -> Self {
        Self::Error(error)
    }
}

impl From<SlotError> for Obstacle {
    fn from(error: SlotError) -> Self {
        if error.is_damage() { Self::Index(error.to_string()) } else { Self::Error(index_failed(error)) }
    }
}

impl From<IndexError> for Obstacle {
    fn from(error: IndexError) -> Self {
        SlotError::from(error).into()
    }
}

/// A recovery under way.
struct Recovering<'a> {
    config: &'a SpoolConfig,
    device: &'a Arc<dyn Device>,
    layout: &'a Layout,
    database: u128,
    /// The least watermark that an index must have.
    floor: Lsn,
    /// Until when messages are kept that were finished behind the index; `None` if they are not.
    keep_until_ms: Option<u64>,
}

impl Recovering<'_> {
    fn run(&self, doubt: Doubt) -> Result<Recovered, OpenError> {
        let began = Instant::now();
        let Self { layout, .. } = self;
        let names = self.device.list(&layout.log).map_err(OpenError::io(&layout.log))?;
        let has_log = names.iter().any(|name| name.ends_with(segments::SUFFIX));
        let mut index = self.open_index(doubt, has_log);
        let may_repeat = meta::begin_run(&**self.device, layout)?;
        let mut salvaged: Option<salvage::Outcome> = None;
        loop {
            let segments = Segments::open(
                Arc::clone(self.device),
                layout.log.clone(),
                self.database,
                self.config.segment_bytes,
            )
            .map_err(OpenError::io(&layout.log))?;
            let origins = salvaged.as_ref().map(|salvaged| salvaged.origins.clone());
            let recovered = index.and_then(|index| self.replay(segments, index, origins));
            let reason = match recovered {
                Ok(mut recovered) => {
                    let recovery = &mut recovered.recovery;
                    recovery.took_ms = began.elapsed().as_millis() as u64;
                    recovery.may_repeat = may_repeat;
                    recovery.is_restored = meta::is_restored(&**self.device, layout);
                    recovery.salvaged = salvaged.map(|salvaged| salvaged.salvaged);
                    recovery.damaged += recovery.salvaged.as_ref().map_or(0, |salvaged| salvaged.damaged);
                    return Ok(recovered);
                }
                Err(Obstacle::Error(error)) => return Err(error),
                Err(Obstacle::Index(reason)) if salvaged.is_some() => {
                    return Err(OpenError::Index {
                        text: format!("it was made anew, and is no good: {reason}"),
                    });
                }
                Err(Obstacle::Index(reason)) => reason,
            };
            salvaged = Some(self.salvage(&reason)?);
            index = self.slot();
        }
    }

    /// Open the index if it may be opened.
    fn open_index(&self, doubt: Doubt, has_log: bool) -> Result<IndexSlot, Obstacle> {
        let path = &self.layout.index;
        // LMDB does its own I/O, so that its directory is made on the disk whatever the log's device is. It syncs its
        // file, but not the names that lead there, and nothing of the log may be given up while those can be lost.
        let shard = path.parent().unwrap_or(path);
        std::fs::create_dir_all(shard).map_err(OpenError::io(shard))?;
        if doubt.openings >= OPENINGS_MAX && has_log {
            let reason = format!("the process died {} times in a row while it was opened", doubt.openings);
            return Err(Obstacle::Index(reason));
        }
        let limit = (doubt.runs < RUNS_MAX).then_some(LOOK);
        match Index::verify(path, limit)? {
            Verdict::Damaged { what } => return Err(Obstacle::Index(what)),
            Verdict::Empty if has_log => return Err(Obstacle::Index("it is missing".into())),
            Verdict::Empty | Verdict::Sound { .. } => {}
        }
        let index = self.slot()?;
        for dir in [path, shard] {
            std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(OpenError::io(dir))?;
        }
        Ok(index)
    }

    fn slot(&self) -> Result<IndexSlot, Obstacle> {
        let path = self.layout.index.clone();
        let device = Arc::clone(self.device);
        Ok(IndexSlot::open(device, path, self.config.map_bytes, self.database.to_le_bytes())?)
    }

    /// Make the index anew, and leave a report of it.
    fn salvage(&self, reason: &str) -> Result<salvage::Outcome, OpenError> {
        let Self { config, device, layout, database, floor, keep_until_ms } = self;
        let segments =
            Segments::open(Arc::clone(device), layout.log.clone(), *database, config.segment_bytes)
                .map_err(OpenError::io(&layout.log))?;
        let outcome = salvage::salvage(&Order {
            device: &***device,
            segments: &segments.all(),
            database: *database,
            blobs: &Blobs::new(Arc::clone(device), layout.blobs.clone(), *database),
            index: &layout.index,
            map_bytes: config.map_bytes,
            floor: *floor,
            keep_until_ms: *keep_until_ms,
            reason,
            progress: &|_| {},
        })?;
        for damage in &outcome.damage {
            meta::report(&***device, layout, damage.segment, damage.offset)?;
        }
        for queue_id in &outcome.damaged_blobs {
            meta::report_blob(&***device, layout, *queue_id)?;
        }
        meta::report_salvage(&***device, layout, &outcome.salvaged)?;
        Ok(outcome)
    }

    /// Bring an index up to date with what the log says behind it; `salvaged` are the records of one that was just made
    /// anew.
    fn replay(
        &self,
        segments: Segments,
        index: IndexSlot,
        salvaged: Option<Origins>,
    ) -> Result<Recovered, Obstacle> {
        match self.replayed(&segments, &index, salvaged) {
            Ok(Replayed { recovery, blobs, tail, live_bytes, last_id }) => {
                Ok(Recovered { recovery, segments, index, blobs, tail, live_bytes, last_id })
            }
            Err(obstacle) => {
                index.close();
                Err(obstacle)
            }
        }
    }

    fn replayed(
        &self,
        segments: &Segments,
        index: &IndexSlot,
        salvaged: Option<Origins>,
    ) -> Result<Replayed, Obstacle> {
        let (device, layout, is_salvaged) = (&**self.device, self.layout, salvaged.is_some());
        let watermark = index.with(|index| Ok(index.watermark()))?;
        // What is made anew has all that the log still says, whatever it does not say any more.
        if watermark.lsn < self.floor && !is_salvaged {
            return Err(Obstacle::Index(format!(
                "it is stale: it goes up to record {}, and the log is whole only behind record {}",
                watermark.lsn, self.floor
            )));
        }
        segments.skip_to(watermark.segment);
        for number in meta::reported(device, layout).map_err(OpenError::io(&layout.damaged))? {
            segments.exempt(number);
        }
        let behind: Vec<_> =
            segments.all().into_iter().filter(|segment| segment.number() >= watermark.segment).collect();
        let (scan, scanned) =
            Scanner::open(device, behind, self.database, salvaged.unwrap_or_default())?.run(watermark)?;
        if let Some(reason) = scan.contradiction {
            return Err(Obstacle::Index(reason.into()));
        }
        // What of it is read below is read before anything is done on its word.
        index.with(Index::segments)?;
        index.with(Index::in_doubt)?;
        index.with(Index::blobs)?;
        index.with(Index::kept)?;
        for damage in &scan.damage {
            let report = || meta::report(device, layout, damage.segment, damage.offset);
            match report() {
                // On a full disk the queue must drain all the same, and the report is worth a reserve.
                Err(OpenError::Io { source, .. }) if is_full(&source) && segments.leave_reserve() => {
                    report()?;
                }
                reported => reported?,
            }
            segments.exempt(damage.segment);
        }
        let end = scan.end.and_then(|(at, offset)| Some((scanned.get(at)?.segment.number(), offset)));
        let (records, damaged) = (scan.records.len() as u64, scan.damage.len() as u64);
        let blobs = Arc::new(Blobs::new(Arc::clone(self.device), layout.blobs.clone(), self.database));
        let survey = blobs.survey().map_err(OpenError::io(&layout.blobs))?;
        let keep_until_ms = self.keep_until_ms;
        let tail = renew::renew(segments, device, scan, &scanned, (watermark, keep_until_ms.is_some()))
            .map_err(OpenError::io(&layout.log))?;
        drop(scanned);
        segments.bound(watermark.segment, watermark.lsn);
        segments.bound(u64::MAX, tail.last);
        // Blobs that are left by that are among those without a message.
        index.apply(&tail.redo, tail.watermark(), keep_until_ms)?;
        // Counted for the whole of this run, so that the epoch goes up with each.
        let epoch = index.with(Index::begin_epoch)?;

        let needed = index.with(Index::blobs)?;
        let (orphans, without_blob) = blobs::compare(&survey.found, &needed);
        // What cannot be read in the log may have been the record of a message that has one of them.
        let may_be_needed =
            is_salvaged || meta::has_reports(device, layout).map_err(OpenError::io(&layout.damaged))?;
        if !may_be_needed {
            blobs.leave(orphans);
        }
        blobs.bytes.store(needed.iter().map(|(_, bytes)| bytes).sum(), Relaxed);
        let damaged_blobs = damaged_blobs(&blobs, &survey.found, &needed, &tail.redo);

        let live = index.with(Index::segments)?;
        let missing: u64 =
            live.iter().filter(|one| segments.get(one.segment).is_none()).map(|one| one.live_messages).sum();
        let numbers: Vec<u64> = live.iter().map(|one| one.segment).collect();
        segments.give_up(tail.taken.segment.number(), &numbers);
        if let (Some((number, offset)), 0) = (end, damaged)
            && number < tail.taken.segment.number()
        {
            cut(segments, number, align_up(offset, PAGE));
        }
        let recovery = Recovery {
            messages: index.with(Index::messages_count)?,
            records,
            in_doubt: index.with(Index::in_doubt)?,
            damaged: damaged + missing + without_blob + damaged_blobs,
            epoch,
            ..Recovery::default()
        };
        let last_id = index.with(|index| Ok(index.last_queue_id()))?.max(survey.greatest);
        let live_bytes = live.iter().map(|one| one.live_bytes).sum();
        Ok(Replayed { recovery, blobs, tail, live_bytes, last_id })
    }
}

/// What a replay leaves.
struct Replayed {
    recovery: Recovery,
    blobs: Arc<Blobs>,
    tail: Renewed,
    live_bytes: u64,
    last_id: Option<QueueId>,
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
