//! The device over the disk in memory: counts calls, fails some.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::disk::{Disk, Fate, Fault, Unsynced};
use crate::device::{Device, DeviceFile, Lock, Opening};
use crate::format::PAGE;

/// What was called.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
#[allow(missing_docs, reason = "the names of the calls")]
pub enum Call {
    MakeDir,
    List,
    Open,
    Rename,
    Remove,
    SyncDir,
    Lock,
    FreeBytes,
    Read,
    Write,
    Sync,
    Allocate,
    SetSize,
    Index,
}

/// Is shown a disk at a moment.
type Watcher = Arc<dyn Fn(Moment) + Send + Sync>;

/// A disk at one moment. To have one costs little; it is a copy, and stays as it is.
#[derive(Clone)]
pub struct Moment(Disk);

impl Moment {
    /// What no sync has covered, in the order in which it happened.
    pub fn unsynced(&self) -> Vec<Unsynced> {
        self.0.unsynced()
    }

    /// What the next process finds if this one is killed now.
    #[must_use]
    pub fn after_kill(&self) -> FaultyDevice {
        FaultyDevice::of(self.0.clone())
    }

    /// What the next process finds if the power goes now, and each change that no sync has covered meets the fate that
    /// is said for its number.
    #[must_use]
    pub fn after_power_loss(&self, fate: &dyn Fn(u64) -> Fate) -> FaultyDevice {
        FaultyDevice::of(self.0.after(fate))
    }

    /// The same with a directory called otherwise.
    #[must_use]
    pub fn moved(&self, from: &Path, to: &Path) -> Self {
        let mut disk = self.0.clone();
        disk.move_dir(from, to);
        Self(disk)
    }

    /// All files: name, what tells it apart whatever its name is, its octets, and those of them that are durable.
    pub fn files(&self) -> impl Iterator<Item = (&Path, usize, &Arc<Vec<u8>>, &Arc<Vec<u8>>)> {
        self.0.files()
    }
}

struct Inner {
    disk: Disk,
    watcher: Option<Watcher>,
    calls: Vec<Call>,
    faults: BTreeMap<u64, Fault>,
    /// Calls of this kind fail until further notice.
    failing: BTreeMap<Call, Fault>,
    is_halted: bool,
    locks: BTreeSet<PathBuf>,
    /// Places that the medium does not give back: inode and page.
    unreadable: BTreeSet<(usize, u64)>,
    /// Whether reads find everything in the cache.
    is_cached: bool,
    /// How long a sync takes.
    sync_time: Duration,
}

impl Inner {
    /// Count a call; tells what goes wrong in it.
    fn begin(&mut self, call: Call) -> Option<Fault> {
        let number = self.calls.len() as u64;
        self.calls.push(call);
        if self.is_halted {
            return Some(Fault::Halt);
        }
        let fault = self.faults.remove(&number).or_else(|| self.failing.get(&call).copied());
        self.is_halted = fault == Some(Fault::Halt);
        fault
    }

    /// Count a call that has no half.
    fn whole(&mut self, call: Call) -> io::Result<()> {
        match self.begin(call) {
            None | Some(Fault::Short) => Ok(()),
            Some(fault) => Err(fault.error()),
        }
    }
}

/// A file system in memory, all of whose faults come from its user and a seed.
#[derive(Clone)]
pub struct FaultyDevice(Arc<Mutex<Inner>>);

impl FaultyDevice {
    /// An empty one; the seed is for the numbers that it gives as random.
    pub fn new(seed: u64) -> Self {
        Self::of(Disk::new(seed))
    }

    fn of(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            disk,
            watcher: None,
            calls: Vec::new(),
            faults: BTreeMap::new(),
            failing: BTreeMap::new(),
            is_halted: false,
            locks: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            is_cached: true,
            sync_time: Duration::ZERO,
        })))
    }

    /// Have a call fail, counted from the first ever, which has the number 0.
    pub fn fail(&self, call: u64, fault: Fault) {
        self.0.lock().faults.insert(call, fault);
    }

    /// Have all calls of a kind fail, or with `None` none any more.
    pub fn fail_all(&self, call: Call, fault: Option<Fault>) {
        let mut inner = self.0.lock();
        match fault {
            Some(fault) => drop(inner.failing.insert(call, fault)),
            None => drop(inner.failing.remove(&call)),
        }
    }

    /// All calls up to now.
    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().calls.clone()
    }

    /// How many calls of a kind there were.
    pub fn count(&self, call: Call) -> usize {
        self.0.lock().calls.iter().filter(|&&made| made == call).count()
    }

    /// Set how many octets all files together may have.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().disk.capacity = bytes;
    }

    /// Octets that all files together have.
    pub fn used(&self) -> u64 {
        self.0.lock().disk.used()
    }

    /// Octets that can still be written.
    pub fn free(&self) -> u64 {
        self.0.lock().disk.free()
    }

    /// Set whether reads find things in the cache.
    pub fn set_cached(&self, is_cached: bool) {
        self.0.lock().is_cached = is_cached;
    }

    /// Set how long a sync takes.
    pub fn set_sync_time(&self, time: Duration) {
        self.0.lock().sync_time = time;
    }

    /// Change a bit of a file.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn flip(&self, path: &Path, offset: u64, bit: u8) {
        self.0.lock().disk.flip(path, offset as usize, bit).expect("the file is there");
    }

    /// Have every read fail that touches this page of a file, as on a disk with a bad sector.
    ///
    /// # Panics
    ///
    /// There is no such file.
    pub fn make_unreadable(&self, path: &Path, page: u64) {
        let mut inner = self.0.lock();
        let inode = inner.disk.find(path).expect("the file is there");
        inner.unreadable.insert((inode, page));
    }

    /// The names of the files in a directory; none if it is not there.
    pub fn names(&self, dir: &Path) -> Vec<String> {
        self.0.lock().disk.list(dir).unwrap_or_default()
    }

    /// The disk as it is now.
    pub fn moment(&self) -> Moment {
        Moment(self.0.lock().disk.clone())
    }

    /// Show somebody the disk before every call that changes it.
    pub fn watch(&self, watcher: Arc<dyn Fn(Moment) + Send + Sync>) {
        self.0.lock().watcher = Some(watcher);
    }

    /// Show the disk to whoever watches it. What waits for the disk waits for the watcher, too.
    fn show(&self) {
        let watched = {
            let inner = self.0.lock();
            inner.watcher.clone().map(|watcher| (watcher, Moment(inner.disk.clone())))
        };
        if let Some((watcher, moment)) = watched {
            watcher(moment);
        }
    }

    /// What the next process finds after this one was killed.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        Self::of(self.0.lock().disk.clone())
    }

    /// The same with a directory called otherwise, so that a crash can be looked at more than once.
    #[must_use]
    pub fn moved(&self, from: &Path, to: &Path) -> Self {
        let mut disk = self.0.lock().disk.clone();
        disk.move_dir(from, to);
        Self::of(disk)
    }

    /// What the next process finds after the power was lost: all that was synced, and of the rest a part that the seed
    /// decides, torn at sectors.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> Self {
        Self::of(self.0.lock().disk.after_power_loss(seed))
    }
}

struct HeldLock {
    device: FaultyDevice,
    path: PathBuf,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.device.0.lock().locks.remove(&self.path);
    }
}

impl Device for FaultyDevice {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.whole(Call::MakeDir)?;
        inner.disk.make_dir(path);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut inner = self.0.lock();
        inner.whole(Call::List)?;
        inner.disk.list(path)
    }

    fn open(&self, path: &Path, how: Opening) -> io::Result<Arc<dyn DeviceFile>> {
        if how == Opening::New {
            self.show();
        }
        let mut inner = self.0.lock();
        inner.whole(Call::Open)?;
        let inode = match how {
            Opening::Existing => inner.disk.find(path)?,
            Opening::New => inner.disk.create(path)?,
        };
        Ok(Arc::new(FaultyFile { device: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.show();
        let mut inner = self.0.lock();
        inner.whole(Call::Rename)?;
        inner.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.show();
        let mut inner = self.0.lock();
        inner.whole(Call::Remove)?;
        inner.disk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.show();
        let mut inner = self.0.lock();
        inner.whole(Call::SyncDir)?;
        inner.disk.sync_dir(path);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut inner = self.0.lock();
        inner.whole(Call::Lock)?;
        if !inner.locks.insert(path.into()) {
            return Ok(Lock::Foreign { pid: std::process::id() });
        }
        let held: Box<dyn Any + Send + Sync> = Box::new(HeldLock { device: self.clone(), path: path.into() });
        Ok(Lock::Held(held))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let mut inner = self.0.lock();
        inner.whole(Call::FreeBytes)?;
        Ok(inner.disk.free())
    }

    fn before_index(&self) -> io::Result<()> {
        self.0.lock().whole(Call::Index)
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.0.lock().disk.chance.next())
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.0.lock().disk.boots)
    }
}

struct FaultyFile {
    device: FaultyDevice,
    inode: usize,
}

impl DeviceFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.device.0.lock();
        let length = match inner.begin(Call::Read) {
            None => buffer.len(),
            Some(Fault::Short) => buffer.len().div_ceil(2),
            Some(fault) => return Err(fault.error()),
        };
        let pages = offset / PAGE..(offset + length as u64).div_ceil(PAGE);
        if pages.into_iter().any(|page| inner.unreadable.contains(&(self.inode, page))) {
            return Err(Fault::Io.error());
        }
        Ok(inner.disk.read(self.inode, buffer.get_mut(..length).unwrap_or_default(), offset as usize))
    }

    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        if !self.device.0.lock().is_cached {
            return Ok(None);
        }
        self.read_at(buffer, offset).map(Some)
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let octets = buffers.iter().map(|buffer| &**buffer).collect::<Vec<_>>().concat();
        let half = octets.get(..octets.len() / 2).unwrap_or_default();
        self.device.show();
        let mut inner = self.device.0.lock();
        match inner.begin(Call::Write) {
            None => inner.disk.write(self.inode, &octets, offset as usize),
            Some(Fault::Short) if half.is_empty() => inner.disk.write(self.inode, &octets, offset as usize),
            Some(Fault::Short | Fault::Full) if !half.is_empty() => {
                inner.disk.write(self.inode, half, offset as usize)
            }
            Some(fault @ Fault::Halt) => {
                let _ = inner.disk.write(self.inode, half, offset as usize);
                Err(fault.error())
            }
            Some(fault) => Err(fault.error()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.device.show();
        let sync_time = {
            let mut inner = self.device.0.lock();
            inner.whole(Call::Sync)?;
            inner.sync_time
        };
        // What is written meanwhile may become durable, or not; here it does.
        std::thread::sleep(sync_time);
        self.device.0.lock().disk.sync(self.inode)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.device.show();
        let mut inner = self.device.0.lock();
        inner.whole(Call::Allocate)?;
        let bytes = bytes.max(inner.disk.size(self.inode));
        inner.disk.set_size(self.inode, bytes as usize)
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.device.show();
        let mut inner = self.device.0.lock();
        inner.whole(Call::SetSize)?;
        inner.disk.set_size(self.inode, bytes as usize)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.device.0.lock().disk.size(self.inode))
    }
}
