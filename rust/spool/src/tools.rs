//! What is done to a spool from outside: it is checked, counted, made anew, copied and brought back.
//!
//! [`backup`], [`check`] and [`count`] also do so while the spool is in use; all others take the shard's lock, so that
//! nobody else has it open meanwhile.
//!
//! # Backup
//!
//! The log alone is copied, by whoever can read it, while the spool is in use: segment after segment in the order of
//! their numbers, until there are no more. A segment that is given up meanwhile held nothing that is needed. So every
//! message that was acknowledged before the copying began, and is not finished when it ends, is in the copy; of what comes
//! and goes meanwhile some is. The index is not copied: it is made anew from the log, as after its loss, and what that
//! may bring back is the same. Nothing that a backup brings back is tried before an operator says so.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::blobs::Blobs;
use crate::device::{Device, FileDevice};
use crate::errors::OpenError;
use crate::facts::Lsn;
use crate::floor;
use crate::format::segment::{HEADER, SegmentHeader};
use crate::index::{Index, IndexError, Verdict};
use crate::meta::{self, Layout};
use crate::redo::Redo;
use crate::salvage::{self, Order, Salvaged};
use crate::scan::{Damage, Origins, Scanner};
use crate::segments::{SUFFIX, Segment, Segments};

/// Things that are wrong and are told one by one.
const PROBLEMS_MAX: usize = 1_000;
const COPY_BYTES: usize = 1 << 20;

/// How often the log of a spool in use is read at most: what is wrong is wrong each time.
const READINGS_MAX: usize = 4;
/// Segments of a spool in use that are kept open while it is read.
const OPENED_MAX: usize = 512;

/// What a check has found.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Checked {
    /// Whether the spool was in use: then only its log was looked at.
    pub is_in_use: bool,
    /// Segments of the log.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Pages of the index.
    pub pages: u64,
    /// Rows of the index.
    pub rows: u64,
    /// Messages in the index.
    pub messages: u64,
    /// What is wrong; the first thousand.
    pub problems: Vec<String>,
    /// How many things are wrong.
    pub problems_count: u64,
}

impl Checked {
    fn wrong(&mut self, what: String) {
        self.problems_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }
}

/// What a spool takes and holds.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Counted {
    /// Whether the spool was in use: then only what files tell is known.
    pub is_in_use: bool,
    /// Segments of the log.
    pub segments: u64,
    /// Octets of them.
    pub log_bytes: u64,
    /// Octets of them that messages need.
    pub live_bytes: u64,
    /// Messages in the index.
    pub messages: u64,
    /// Octets of the index's file.
    pub index_bytes: u64,
    /// How often the spool was opened, as far as the index knows.
    pub epoch: u64,
    /// Reports of damage that are kept.
    pub reports: u64,
    /// Whether what it holds was brought back and waits for an operator's word.
    pub is_restored: bool,
}

/// What a backup holds.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Copied {
    /// Segments.
    pub segments: u64,
    /// Octets.
    pub bytes: u64,
}

/// The segments of the log, in order.
fn segments(layout: &Layout) -> Result<Vec<Arc<Segment>>, OpenError> {
    Segments::look(&FileDevice::new(), &layout.log).map_err(OpenError::io(&layout.log))
}

/// Check a spool: every record, every chunk of content, every page and row of the index, every blob, and whether they
/// agree. Of one that is in use only records and chunks are checked; what its owner reads of the rest he checks himself.
/// `progress` is told the octets of log that were read. Nothing of the spool is changed. **Blocking**: reads everything.
pub fn check(path: &Path, map_bytes: u64, progress: &dyn Fn(u64)) -> Result<Checked, OpenError> {
    let (device, layout): (Arc<dyn Device>, _) = (Arc::new(FileDevice::new()), Layout::new(path));
    match meta::hold(&*device, &layout) {
        Ok((_lock, database)) => check_alone(&device, &layout, database, map_bytes, progress),
        Err(OpenError::Locked { .. }) => check_in_use(&device, &layout, progress),
        Err(error) => Err(error),
    }
}

/// Read the log of a spool that is in use. What is just being written, or used again, may look damaged for once; what
/// looks so each time is.
fn check_in_use(
    device: &Arc<dyn Device>,
    layout: &Layout,
    progress: &dyn Fn(u64),
) -> Result<Checked, OpenError> {
    let database = meta::database(&**device, layout)?;
    let mut checked = Checked { is_in_use: true, ..Checked::default() };
    let mut wrong: Option<Vec<Damage>> = None;
    for reading in 1..=READINGS_MAX {
        let mut all = segments(layout)?;
        // What is open stays to be read, also if it is given up meanwhile.
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let mut opened = 0..OPENED_MAX;
        all.retain(|one| opened.next().is_none() || !one.file(&**device).is_err_and(|error| is_gone(&error)));
        let floor = floor::look(&**device, &layout.shard).map_err(OpenError::io(&layout.shard))?;
        match read_log(device, layout, &all, (database, floor), progress) {
            Ok((records, damage)) => {
                (checked.segments, checked.records) = (all.len() as u64, records);
                let is_still = |one: &Damage| wrong.as_ref().is_none_or(|wrong| wrong.contains(one));
                wrong = Some(damage.into_iter().filter(is_still).collect());
            }
            Err(OpenError::Io { source, .. }) if is_gone(&source) && reading < READINGS_MAX => {}
            Err(error) => return Err(error),
        }
        if wrong.as_ref().is_some_and(Vec::is_empty) {
            break;
        }
    }
    for one in wrong.into_iter().flatten() {
        checked.wrong(format!("segment {} cannot be read at {}", one.segment, one.offset));
    }
    Ok(checked)
}

/// Read the whole log; tells how many records there are, and what is damaged.
fn read_log(
    device: &Arc<dyn Device>,
    layout: &Layout,
    segments: &[Arc<Segment>],
    (database, floor): (u128, Lsn),
    progress: &dyn Fn(u64),
) -> Result<(u64, Vec<Damage>), OpenError> {
    let blobs = Blobs::new(Arc::clone(device), layout.blobs.clone(), database);
    salvage::read(&Order {
        device: &**device,
        segments,
        database,
        blobs: &blobs,
        index: &layout.index,
        map_bytes: 0,
        floor,
        keep_until_ms: None,
        reason: "",
        progress,
    })
}

fn check_alone(
    device: &Arc<dyn Device>,
    layout: &Layout,
    database: u128,
    map_bytes: u64,
    progress: &dyn Fn(u64),
) -> Result<Checked, OpenError> {
    let all = segments(layout)?;
    let blobs = Blobs::new(Arc::clone(device), layout.blobs.clone(), database);
    let floor = floor::look(&**device, &layout.shard).map_err(OpenError::io(&layout.shard))?;
    let mut checked = Checked { segments: all.len() as u64, ..Checked::default() };
    let (records, damage) = read_log(device, layout, &all, (database, floor), progress)?;
    checked.records = records;
    for one in damage {
        checked.wrong(format!("segment {} cannot be read at {}", one.segment, one.offset));
    }
    let failed = |error: &dyn std::fmt::Display| OpenError::Index { text: error.to_string() };
    match Index::verify(&layout.index, None).map_err(|error| failed(&error))? {
        Verdict::Empty if all.is_empty() && floor == 0 => {}
        Verdict::Empty => checked.wrong("the index is missing".into()),
        Verdict::Damaged { what } => checked.wrong(format!("index: {what}")),
        Verdict::Sound { pages, rows, .. } => {
            (checked.pages, checked.rows) = (pages, rows);
            let index = match Index::open(&layout.index, map_bytes, database.to_le_bytes()) {
                Err(error) if error.is_damage() => {
                    checked.wrong(format!("index: {error}"));
                    return Ok(checked);
                }
                opened => opened.map_err(|error| failed(&error))?,
            };
            check_index(&index, &all, &mut checked).map_err(|error| failed(&error))?;
            let watermark = index.watermark();
            if watermark.lsn < floor {
                checked.wrong(format!(
                    "index: it is stale: it goes up to record {}, and the log is whole only behind record {floor}",
                    watermark.lsn
                ));
            }
            let behind = all.into_iter().filter(|one| one.number() >= watermark.segment).collect();
            let (scan, _) = Scanner::open(&**device, behind, database, Origins::default())?.run(watermark)?;
            if let Some(what) = scan.contradiction {
                checked.wrong(format!("index: {what}"));
            }
            let redo: Vec<Redo> = scan.records.into_iter().flat_map(|found| found.redo).collect();
            check_blobs(&index, &blobs, &redo, &mut checked).map_err(|error| failed(&error))?;
            index.close();
        }
    }
    Ok(checked)
}

/// Check the blobs of all messages, in the index and behind it (`redo`), and that there are no others.
fn check_blobs(index: &Index, blobs: &Blobs, redo: &[Redo], checked: &mut Checked) -> Result<(), IndexError> {
    let found = match blobs.found() {
        Ok(found) => found,
        Err(error) => {
            checked.wrong(format!("blobs: {error}"));
            return Ok(());
        }
    };
    let mut needed = BTreeMap::new();
    for (queue_id, _) in index.blobs()? {
        let stored = index.stored(queue_id)?;
        needed.insert(queue_id, stored.and_then(|stored| stored.location.blob));
    }
    let mut behind = BTreeMap::new();
    for one in redo {
        if let Redo::Accepted { queue_id, location, .. } | Redo::Moved { queue_id, location, .. } = one
            && location.blob.is_some()
        {
            behind.insert(*queue_id, location.blob);
        }
    }
    for (queue_id, expected) in needed.iter().chain(&behind) {
        let Some(expected) = *expected else { continue };
        match blobs.is_whole(*queue_id, expected) {
            Ok(true) => {}
            Ok(false) => checked.wrong(format!("message {queue_id}: its blob is not what it was")),
            // What is behind the index may be finished there, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !needed.contains_key(queue_id) => {}
            Err(error) => checked.wrong(format!("message {queue_id}: its blob cannot be read: {error}")),
        }
    }
    for queue_id in found.iter().filter(|id| !needed.contains_key(id) && !behind.contains_key(id)) {
        checked.wrong(format!("blob {queue_id}: no message has it"));
    }
    Ok(())
}

fn check_index(index: &Index, all: &[Arc<Segment>], checked: &mut Checked) -> Result<(), IndexError> {
    let sizes: BTreeMap<u64, u64> = all
        .iter()
        .map(|one| (one.number(), fs::metadata(one.path()).map_or(0, |found| found.len())))
        .collect();
    let (mut wrong, mut lost, mut messages) = (Vec::new(), Vec::new(), 0);
    index.check(&mut |what| wrong.push(what), &mut |place| {
        messages += 1;
        match sizes.get(&place.segment) {
            None => {
                lost.push(format!("message {}: its segment {} is missing", place.queue_id, place.segment));
            }
            Some(&size) if place.end > size => {
                lost.push(format!(
                    "message {}: its segment {} ends before it",
                    place.queue_id, place.segment
                ));
            }
            Some(_) => {}
        }
    })?;
    checked.messages = messages;
    wrong.into_iter().chain(lost).for_each(|what| checked.wrong(what));
    Ok(())
}

/// Make the index of a spool anew that nobody has open; with `dry_run` only tell what that would come to.
/// **Durability**: on return the new index is on the disk. **Blocking**: reads the whole log.
pub fn salvage(
    path: &Path,
    map_bytes: u64,
    keep_until_ms: Option<u64>,
    dry_run: bool,
    progress: &dyn Fn(u64),
) -> Result<Salvaged, OpenError> {
    let (device, layout): (Arc<dyn Device>, _) = (Arc::new(FileDevice::new()), Layout::new(path));
    let (_lock, database) = meta::hold(&*device, &layout)?;
    let segments = segments(&layout)?;
    let blobs = Blobs::new(Arc::clone(&device), layout.blobs.clone(), database);
    let order = Order {
        device: &*device,
        segments: &segments,
        database,
        blobs: &blobs,
        index: &layout.index,
        map_bytes,
        floor: floor::look(&*device, &layout.shard).map_err(OpenError::io(&layout.shard))?,
        keep_until_ms,
        reason: "an operator has asked for it",
        progress,
    };
    if dry_run {
        return Ok(salvage::survey(&order)?.salvaged);
    }
    let outcome = salvage::salvage(&order)?;
    for damage in &outcome.damage {
        meta::report(&*device, &layout, damage.segment, damage.offset)?;
    }
    for queue_id in &outcome.damaged_blobs {
        meta::report_blob(&*device, &layout, *queue_id)?;
    }
    meta::report_salvage(&*device, &layout, &outcome.salvaged)?;
    Ok(outcome.salvaged)
}

/// Count what a spool takes and holds; of one that is in use, what files tell. **Blocking.**
pub fn count(path: &Path, map_bytes: u64) -> Result<Counted, OpenError> {
    let (device, layout): (Arc<dyn Device>, _) = (Arc::new(FileDevice::new()), Layout::new(path));
    let held = match meta::hold(&*device, &layout) {
        Err(OpenError::Locked { .. }) => None,
        held => Some(held?),
    };
    let segments = segments(&layout)?;
    let reports = device.list(&layout.damaged).map_err(OpenError::io(&layout.damaged))?;
    let index = layout.index.join("data.mdb");
    let mut counted = Counted {
        is_in_use: held.is_none(),
        index_bytes: fs::metadata(index).map_or(0, |found| found.len()),
        segments: segments.len() as u64,
        log_bytes: segments.iter().map(|one| one.bytes()).sum(),
        reports: reports.len() as u64,
        is_restored: meta::is_restored(&*device, &layout),
        ..Counted::default()
    };
    let Some((_lock, database)) = held else { return Ok(counted) };
    let failed = |error: &dyn std::fmt::Display| OpenError::Index { text: error.to_string() };
    match Index::verify(&layout.index, Some(std::time::Duration::from_secs(1)))
        .map_err(|error| failed(&error))?
    {
        Verdict::Empty => {}
        Verdict::Damaged { what } => return Err(OpenError::Index { text: what }),
        Verdict::Sound { .. } => {
            let index = Index::open(&layout.index, map_bytes, database.to_le_bytes())
                .map_err(|error| failed(&error))?;
            let live = index.segments().map_err(|error| failed(&error))?;
            counted.live_bytes = live.iter().map(|one| one.live_bytes).sum();
            counted.messages = index.messages_count().map_err(|error| failed(&error))?;
            counted.index_bytes = index.size_bytes();
            counted.epoch = index.epoch();
            index.close();
        }
    }
    Ok(counted)
}

/// Copy a spool into a directory that is empty or not there, also while it is in use. **Durability**: on return the copy
/// is on the disk. **Blocking**: reads and writes the whole log.
pub fn backup(path: &Path, to: &Path, progress: &dyn Fn(u64)) -> Result<Copied, OpenError> {
    let (from, to) = (Layout::new(path), Layout::new(to));
    make_empty(&to)?;
    // Also after the log: now for messages that are finished meanwhile and whose end the copy may not have, then for those
    // that have come.
    copy_blobs(&from, &to)?;
    let mut copied: BTreeMap<u64, u64> = BTreeMap::new();
    // A segment is written in until the next one is begun: the last one is copied anew when there is a later one. What is
    // begun meanwhile is copied as well, for a message's content may have moved there.
    let mut sealed = 0;
    loop {
        let found = segment_names(&from.log)?;
        let last = found.last_key_value().map_or(0, |(&number, _)| number);
        if copied.contains_key(&last) || last == 0 {
            break;
        }
        for (&number, name) in found.range(sealed..) {
            let (source, target) = (from.log.join(name), to.log.join(name));
            remove(&target).map_err(OpenError::io(&target))?;
            let bytes = copy_segment(&source, &target, number).map_err(OpenError::io(&source))?;
            copied.insert(number, bytes.unwrap_or(0));
            progress(copied.values().sum());
        }
        sealed = last;
    }
    let copied = Copied {
        segments: copied.values().filter(|bytes| **bytes > 0).count() as u64,
        bytes: copied.values().sum(),
    };
    finish(&from, &to)?;
    Ok(copied)
}

/// The names of segments by their numbers.
fn segment_names(dir: &Path) -> Result<BTreeMap<u64, String>, OpenError> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(OpenError::io(dir))? {
        let name = entry.map_err(OpenError::io(dir))?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(number) = name.strip_suffix(SUFFIX).and_then(|number| number.parse().ok()) {
            found.insert(number, name.to_owned());
        }
    }
    Ok(found)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bring a backup back as a spool at a place where there is none. Nothing that it holds is tried before [`release`].
/// **Durability**: on return the spool is on the disk. **Blocking**: reads and writes the whole log.
pub fn restore(from: &Path, to: &Path, progress: &dyn Fn(u64)) -> Result<Copied, OpenError> {
    let (backup, layout) = (Layout::new(from), Layout::new(to));
    if !backup.meta().exists() {
        return Err(OpenError::Meta { path: backup.meta(), what: "there is no backup".into() });
    }
    make_empty(&layout)?;
    // Before there is anything to hold back.
    let marker = layout.shard.join(meta::RESTORED);
    write_new(
        &marker,
        b"What this spool holds was brought back from a backup. See `penstock spool release`.\n",
    )
    .map_err(OpenError::io(&marker))?;
    let mut copied = Copied::default();
    for entry in fs::read_dir(&backup.log).map_err(OpenError::io(&backup.log))? {
        let entry = entry.map_err(OpenError::io(&backup.log))?;
        let target = layout.log.join(entry.file_name());
        copied.bytes += copy(&entry.path(), &target).map_err(OpenError::io(&target))?;
        copied.segments += 1;
        progress(copied.bytes);
    }
    finish(&backup, &layout)?;
    Ok(copied)
}

/// Let what was brought back be tried, from the next open on; tells whether it was held back. **Durability**: on return
/// that survives power loss. **Blocking.**
pub fn release(path: &Path) -> Result<bool, OpenError> {
    let (device, layout): (Arc<dyn Device>, _) = (Arc::new(FileDevice::new()), Layout::new(path));
    let (_lock, _) = meta::hold(&*device, &layout)?;
    let marker = layout.shard.join(meta::RESTORED);
    match device.remove(&marker) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        removed => removed.map_err(OpenError::io(&marker))?,
    }
    device.sync_dir(&layout.shard).map_err(OpenError::io(&layout.shard))?;
    Ok(true)
}

/// Make the directories of a spool where there is nothing.
fn make_empty(layout: &Layout) -> Result<(), OpenError> {
    if let Ok(mut entries) = fs::read_dir(&layout.root)
        && entries.next().is_some()
    {
        return Err(OpenError::Meta { path: layout.root.clone(), what: "the directory is not empty".into() });
    }
    for dir in [&layout.root, &layout.shard, &layout.log, &layout.damaged] {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(OpenError::io(dir))?;
    }
    Ok(())
}

/// Copy the blobs that are there and not in the copy yet. They are immutable once they have their name, and are there
/// before the record that names them.
fn copy_blobs(from: &Layout, to: &Layout) -> Result<(), OpenError> {
    let (blobs, target) = (&from.blobs, &to.blobs);
    let Ok(entries) = fs::read_dir(blobs) else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(target).map_err(OpenError::io(target))?;
    for entry in entries {
        let name = entry.map_err(OpenError::io(blobs))?.file_name();
        // What is not finished has a dot in its name.
        if name.to_str().is_none_or(|name| name.contains('.')) {
            continue;
        }
        let source = blobs.join(&name);
        match copy(&source, &target.join(&name)) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
                return Err(OpenError::io(&source)(error));
            }
            _ => {}
        }
    }
    sync_dir(target)
}

/// Copy what is beside the log, `meta.toml` last: without it there is no spool. Then see all names on the disk.
fn finish(from: &Layout, to: &Layout) -> Result<(), OpenError> {
    copy_blobs(from, to)?;
    let queues = from.root.join("queues.toml");
    if queues.exists() {
        copy(&queues, &to.root.join("queues.toml")).map_err(OpenError::io(&queues))?;
    }
    for dir in [&to.log, &to.damaged, &to.shard] {
        sync_dir(dir)?;
    }
    copy(&from.meta(), &to.meta()).map_err(OpenError::io(&from.meta()))?;
    sync_dir(&to.root)?;
    to.root.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)
}

fn sync_dir(path: &Path) -> Result<(), OpenError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(OpenError::io(path))
}

/// Copy a segment if it is that segment before and after; a file that is used again for another, or is gone, held nothing
/// that is needed.
fn copy_segment(from: &Path, to: &Path, number: u64) -> io::Result<Option<u64>> {
    let is_it = || -> io::Result<bool> {
        let mut header = [0; HEADER];
        let mut file = File::open(from)?;
        match file.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        // A header that cannot be read is copied as it is, and found out by whoever reads the copy.
        let found = SegmentHeader::decode(&header).and_then(Result::ok);
        Ok(found.is_none_or(|header| header.number == number))
    };
    let copied = is_it().and_then(|is_it| if is_it { copy(from, to).map(Some) } else { Ok(None) });
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match copied {
        Err(error) if gone(&error) => {}
        Ok(Some(bytes)) => match is_it() {
            Ok(true) => return Ok(Some(bytes)),
            Err(error) if !gone(&error) => return Err(error),
            _ => {}
        },
        other => return other,
    }
    remove(to).map(|()| None)
}

/// Copy a file, and see it on the disk; tells its octets.
fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    let mut source = File::open(from)?;
    let mut target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut bytes = 0;
    loop {
        let read = source.read(&mut buffer)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        target.write_all(part)?;
        bytes += part.len() as u64;
    }
    target.sync_all()?;
    Ok(bytes)
}

fn write_new(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(octets)?;
    file.sync_all()
}
