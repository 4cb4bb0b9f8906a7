//! What stands in a spool's directory besides log and index: what it is, who has it, how the last run ended.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use penstock_core::queue_id::QueueId;

use crate::device::{self, Device, DeviceFile, Lock, Opening};
use crate::errors::OpenError;
use crate::salvage::Salvaged;

/// The format that this program writes, and the latest that it reads.
pub(crate) const FORMAT: u32 = 1;
/// Name of the file that says that what the spool holds was brought back from a backup.
pub(crate) const RESTORED: &str = "restored";
/// Name of the report that the index was made anew.
const SALVAGE_REPORT: &str = "index.txt";
/// Octets of `meta.toml` that are looked at.
const META_MAX: u64 = 64 << 10;

/// Where everything is.
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    pub(crate) shard: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) blobs: PathBuf,
    pub(crate) index: PathBuf,
    pub(crate) damaged: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        let shard = root.join("shard-00");
        Self {
            root: root.into(),
            log: shard.join("log"),
            blobs: shard.join("blobs"),
            index: shard.join("index"),
            damaged: shard.join("damaged"),
            shard,
        }
    }

    pub(crate) fn meta(&self) -> PathBuf {
        self.root.join("meta.toml")
    }

    fn running(&self) -> PathBuf {
        self.shard.join("running")
    }

    fn doubt(&self) -> PathBuf {
        self.shard.join("doubt")
    }
}

/// Lock a spool, making it if it is not there; tells its database id. Nothing is touched if it is in use or of a later
/// format. **Blocking.**
pub(crate) fn claim(
    device: &dyn Device,
    layout: &Layout,
) -> Result<(Box<dyn std::any::Any + Send + Sync>, u128), OpenError> {
    let known = read(device, &layout.meta())?;
    for dir in [&layout.root, &layout.shard, &layout.log, &layout.blobs, &layout.damaged] {
        device.make_dir(dir).map_err(OpenError::io(dir))?;
    }
    let lock = layout.shard.join("lock");
    let held = match device.lock(&lock).map_err(OpenError::io(&lock))? {
        Lock::Held(held) => held,
        Lock::Foreign { pid } => return Err(OpenError::Locked { pid }),
    };
    // Another process may have made the spool before we had the lock.
    let known = match known {
        Some(known) => Some(known),
        None => read(device, &layout.meta())?,
    };
    let database = match known {
        Some(database) => database,
        None => create(device, layout)?,
    };
    settle_names(device, layout)?;
    Ok((held, database))
}

/// Make sure that power loss leaves the names. Whoever made the spool may have been killed before it did so.
fn settle_names(device: &dyn Device, layout: &Layout) -> Result<(), OpenError> {
    for dir in [&layout.shard, &layout.root] {
        device::sync_dir(device, dir).map_err(OpenError::io(dir))?;
    }
    // The directory's own name, should it be new; a root without a parent has none.
    if let Some(parent) = layout.root.parent() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        device::sync_dir(device, parent).map_err(OpenError::io(parent))?;
    }
    Ok(())
}

/// Lock a spool that is there, and change nothing; tells its database id. **Blocking.**
pub(crate) fn hold(
    device: &dyn Device,
    layout: &Layout,
) -> Result<(Box<dyn std::any::Any + Send + Sync>, u128), OpenError> {
    let database = database(device, layout)?;
    let lock = layout.shard.join("lock");
    match device.lock(&lock).map_err(OpenError::io(&lock))? {
        Lock::Held(held) => Ok((held, database)),
        Lock::Foreign { pid } => Err(OpenError::Locked { pid }),
    }
}

/// The database id of a spool that is there. **Blocking.**
pub(crate) fn database(device: &dyn Device, layout: &Layout) -> Result<u128, OpenError> {
    let missing = || OpenError::Meta { path: layout.meta(), what: "there is no spool".into() };
    read(device, &layout.meta())?.ok_or_else(missing)
}

/// Whether what the spool holds was brought back from a backup, and waits for an operator's word.
pub(crate) fn is_restored(device: &dyn Device, layout: &Layout) -> bool {
    device.open(&layout.shard.join(RESTORED), Opening::Existing).is_ok()
}

/// Read `meta.toml`; `None` if it is not there.
fn read(device: &dyn Device, path: &Path) -> Result<Option<u128>, OpenError> {
    let file = match device.open(path, Opening::Existing) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io(path)(error)),
    };
    let octets = read_all(&*file, META_MAX).map_err(OpenError::io(path))?;
    let wrong = |what: &str| OpenError::Meta { path: path.into(), what: what.into() };
    let text = std::str::from_utf8(&octets).map_err(|_| wrong("it is not text"))?;
    let table: toml::Table = text.parse().map_err(|_| wrong("it is not TOML"))?;
    let number = |key: &str| table.get(key).and_then(toml::Value::as_integer);
    let format = number("format").and_then(|format| u32::try_from(format).ok());
    let format = format.ok_or_else(|| wrong("it tells no format"))?;
    if format != FORMAT {
        return Err(OpenError::Format { found: format, supported: FORMAT });
    }
    if number("features") != Some(0) {
        return Err(wrong("the spool uses features that this program does not know"));
    }
    if number("shards") != Some(1) {
        return Err(wrong("the spool has another number of shards than one"));
    }
    let database = table.get("database").and_then(toml::Value::as_str);
    let database = database.and_then(|hex| u128::from_str_radix(hex, 16).ok());
    database.map(Some).ok_or_else(|| wrong("it tells no database id"))
}

/// Read a file up to so many octets. **Blocking.**
pub(crate) fn read_all(file: &dyn DeviceFile, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; file.size()?.min(bytes_max) as usize];
    let read = device::read_full(file, &mut octets, 0)?;
    octets.truncate(read);
    Ok(octets)
}

/// Write `meta.toml` for a spool that is new.
fn create(device: &dyn Device, layout: &Layout) -> Result<u128, OpenError> {
    let found = device.list(&layout.log).map_err(OpenError::io(&layout.log))?;
    if !found.is_empty() {
        let what = "it is missing, but there is a log".into();
        return Err(OpenError::Meta { path: layout.meta(), what });
    }
    let failed = |error| OpenError::io(&layout.meta())(error);
    let random = || device.random().map(u128::from);
    let database = random().map_err(failed)? << 64 | random().map_err(failed)?;
    let text = format!(
        "# What this spool is; written once. See FORMAT.md.\n\
         format = {FORMAT}\nfeatures = 0\nshards = 1\ndatabase = \"{database:032x}\"\n"
    );
    replace(device, &layout.meta(), text.as_bytes()).map_err(failed)?;
    Ok(database)
}

/// Give a file new content, so that it has the old or the new one whatever happens; its directory is not synced.
pub(crate) fn replace(device: &dyn Device, path: &Path, octets: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    if let Err(error) = device.remove(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let file: Arc<dyn DeviceFile> = device.open(&temporary, Opening::New)?;
    device::write_octets(&*file, octets, 0)?;
    device::sync(&*file)?;
    device.rename(&temporary, path)
}

/// How the runs before ended: what says how much the index is to be trusted.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub(crate) struct Doubt {
    /// Runs in a row that did not end in order.
    pub(crate) runs: u32,
    /// Of these the last in a row that ended while the index was being opened.
    pub(crate) openings: u32,
}

/// Read how the runs before ended. What cannot be read says nothing.
pub(crate) fn doubt(device: &dyn Device, layout: &Layout) -> Doubt {
    let octets = device.open(&layout.doubt(), Opening::Existing).and_then(|file| read_all(&*file, META_MAX));
    let text = octets.ok().and_then(|octets| String::from_utf8(octets).ok()).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
    Doubt { runs: numbers.next().unwrap_or(0), openings: numbers.next().unwrap_or(0) }
}

/// Note how things stand, for the case that this run does not end in order. It has to outlive the process and not the
/// machine, so nothing is synced; and a full disk must not keep the queue from being delivered, so failing is no error.
pub(crate) fn note_doubt(device: &dyn Device, layout: &Layout, doubt: Doubt) {
    let path = layout.doubt();
    let temporary = path.with_extension("new");
    let _ = device.remove(&temporary);
    let text = format!("{} {}\n", doubt.runs, doubt.openings);
    let written = device
        .open(&temporary, Opening::New)
        .and_then(|file| device::write_octets(&*file, text.as_bytes(), 0))
        .and_then(|()| device.rename(&temporary, &path));
    if written.is_err() {
        let _ = device.remove(&temporary);
    }
}

/// Whether the machine went down under the last run, so that what it wrote last may be lost; notes that a run begins.
pub(crate) fn begin_run(device: &dyn Device, layout: &Layout) -> Result<bool, OpenError> {
    let path = layout.running();
    let boot = device.boot_id();
    let before = match device.open(&path, Opening::Existing) {
        Ok(file) => Some(read_all(&*file, META_MAX).map_err(OpenError::io(&path))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(OpenError::io(&path)(error)),
    };
    let was_cut_off = before.as_ref().is_some_and(|before| before != boot.as_bytes());
    if before.is_none_or(|before| before != boot.as_bytes()) {
        let noted =
            replace(device, &path, boot.as_bytes()).and_then(|()| device::sync_dir(device, &layout.shard));
        match noted {
            // A full disk must not keep what is in the queue from being delivered.
            Err(error) if !device::is_full(&error) => return Err(OpenError::io(&path)(error)),
            _ => {}
        }
    }
    Ok(was_cut_off)
}

/// Note that a run has ended with everything on the disk.
pub(crate) fn end_run(device: &dyn Device, layout: &Layout) {
    // If it stays, the next start says that deliveries may be repeated, which is then not so.
    let _ = device.remove(&layout.running());
    let _ = device.remove(&layout.doubt());
}

/// Numbers of segments of which a report says that something in them is damaged.
pub(crate) fn reported(device: &dyn Device, layout: &Layout) -> io::Result<Vec<u64>> {
    let names = device.list(&layout.damaged)?;
    Ok(names.iter().filter_map(|name| name.split('-').next()?.parse().ok()).collect())
}

/// Whether there is any report of damage to the log or a blob.
pub(crate) fn has_reports(device: &dyn Device, layout: &Layout) -> io::Result<bool> {
    let names = device.list(&layout.damaged)?;
    Ok(names.iter().any(|name| name.strip_suffix(".txt").is_some() && name != SALVAGE_REPORT))
}

/// Report that the index was made anew. There is one such report at a time.
pub(crate) fn report_salvage(
    device: &dyn Device,
    layout: &Layout,
    salvaged: &Salvaged,
) -> Result<(), OpenError> {
    let path = layout.damaged.join(SALVAGE_REPORT);
    let kept = salvaged
        .kept
        .as_ref()
        .map_or_else(String::new, |kept| format!("The old index is at {}.\n", kept.display()));
    let text = format!(
        "The index was made anew from the log: {}.\n\
         {} messages are in it, of which {} may be delivered a second time: what says that they are finished may have\n\
         been in a part of the log that is not there any more.\n\
         {} segments were read, {} numbers between them are missing; {} places could not be read.\n{kept}",
        salvaged.reason,
        salvaged.messages,
        salvaged.may_repeat,
        salvaged.segments,
        salvaged.missing_segments,
        salvaged.damaged,
    );
    replace(device, &path, text.as_bytes()).map_err(OpenError::io(&path))
}

/// Report a blob that is missing, or is not what it was. No blobs are removed at open as long as a report is there.
pub(crate) fn report_blob(device: &dyn Device, layout: &Layout, queue_id: QueueId) -> Result<(), OpenError> {
    let path = layout.damaged.join(format!("blob-{queue_id}.txt"));
    let text =
        format!("The content of {queue_id} in the directory `blobs` is missing, or not what it was.\n");
    replace(device, &path, text.as_bytes()).map_err(OpenError::io(&path))
}

/// Report acknowledged octets that cannot be read. The segment is kept as long as the report is there.
pub(crate) fn report(
    device: &dyn Device,
    layout: &Layout,
    segment: u64,
    offset: u64,
) -> Result<(), OpenError> {
    let path = layout.damaged.join(format!("{segment:08}-{offset}.txt"));
    let text = format!(
        "Segment {segment:08} of the log cannot be read at {offset}, although it was on the disk.\n\
         What comes after it was kept. The segment is not removed as long as this report is here.\n"
    );
    replace(device, &path, text.as_bytes()).map_err(OpenError::io(&path))
}
