//! A disk in memory, and what is left of it when the power goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

/// The unit in which a disk writes: it writes each wholly or not at all...
const SECTOR: usize = 512;
/// ... or else it spoils one of these.
const PAGE: usize = 4096;
/// What a spoilt page is full of.
const SPOILT: u8 = 0xa5;

/// What goes wrong in a call.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Fault {
    /// `EIO`, without any effect.
    Io,
    /// `ENOSPC`; of what was to be written, half is.
    Full,
    /// `EMFILE`, without any effect.
    NoDescriptor,
    /// `EINTR`, without any effect.
    Interrupted,
    /// Half of what was to be read or written is; other calls are as usual.
    Short,
    /// The machine stops: of what was to be written half is, this and all later calls fail.
    Halt,
    /// The call panics.
    Panic,
}

impl Fault {
    /// What the caller gets.
    ///
    /// # Panics
    ///
    /// If it is [`Fault::Panic`].
    pub(super) fn error(self) -> io::Error {
        assert_ne!(self, Self::Panic, "a fault that was asked for");
        let errno = match self {
            Self::Full => Errno::NOSPC,
            Self::NoDescriptor => Errno::MFILE,
            Self::Interrupted => Errno::INTR,
            Self::Io | Self::Short | Self::Halt | Self::Panic => Errno::IO,
        };
        errno.into()
    }
}

/// Numbers that look random, from a seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// What becomes of a change that no sync has covered when the power goes.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Fate {
    /// It has reached the disk.
    Kept,
    /// It has not.
    Lost,
    /// A write of which all but the last sector has.
    Short,
    /// A write of which only the first half of the sectors has.
    Front,
    /// A write of which only the second half of the sectors has.
    Back,
    /// A write that has lengthened the file, by zeros instead of what was written.
    Zeroed,
    /// A write whose pages all hold something that nobody has written.
    Spoilt,
}

/// A change that no sync has covered.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Unsynced {
    /// Its number, in the order in which things happened.
    pub number: u64,
    /// Whether it is a write, which can be torn; names and lengths change wholly or not at all.
    pub is_write: bool,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, octets: Arc<[u8]> },
    Size(usize),
}

/// Octets are shared between copies of a disk until they are written to.
#[derive(Clone, Default)]
struct Inode {
    octets: Arc<Vec<u8>>,
    /// As of the last sync.
    durable: Arc<Vec<u8>>,
    /// What was changed since, in order, with the number of each change.
    dirty: Vec<(u64, Change)>,
}

#[derive(Clone)]
enum NameChange {
    Add(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    fn is_in(&self, dir: &Path) -> bool {
        let path = match self {
            Self::Add(path, _) | Self::Remove(path) | Self::Rename(_, path) => path,
        };
        path.parent() == Some(dir)
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Add(path, inode) => drop(names.insert(path, inode)),
            Self::Remove(path) => drop(names.remove(&path)),
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
        }
    }
}

#[derive(Clone)]
pub(super) struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that no sync has made durable, in order, with the number of each.
    changes: Vec<(u64, NameChange)>,
    /// The number of the last change.
    last_change: u64,
    dirs: BTreeSet<PathBuf>,
    pub(super) capacity: u64,
    pub(super) boots: u64,
    pub(super) chance: Chance,
}

fn not_found() -> io::Error {
    Errno::NOENT.into()
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            last_change: 0,
            dirs: BTreeSet::new(),
            capacity: 1 << 40,
            boots: 0,
            chance: Chance(seed),
        }
    }

    pub(super) fn make_dir(&mut self, path: &Path) {
        self.dirs.extend(path.ancestors().map(Into::into));
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.dirs.contains(dir) {
            return Err(not_found());
        }
        let inside = self.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(not_found)
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<usize> {
        if self.names.contains_key(path) {
            return Err(Errno::EXIST.into());
        }
        if path.parent().is_none_or(|dir| !self.dirs.contains(dir)) {
            return Err(not_found());
        }
        self.inodes.push(Inode::default());
        let inode = self.inodes.len() - 1;
        self.change(NameChange::Add(path.into(), inode));
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.find(from)?;
        self.change(NameChange::Rename(from.into(), to.into()));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        self.change(NameChange::Remove(path.into()));
        Ok(())
    }

    fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        let number = self.next_change();
        self.changes.push((number, change));
    }

    fn next_change(&mut self) -> u64 {
        self.last_change += 1;
        self.last_change
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let (now, later) =
            std::mem::take(&mut self.changes).into_iter().partition(|(_, change)| change.is_in(dir));
        self.changes = later;
        let now: Vec<(u64, NameChange)> = now;
        for (_, change) in now {
            change.apply(&mut self.durable_names);
        }
    }

    fn inode(&mut self, inode: usize) -> io::Result<&mut Inode> {
        self.inodes.get_mut(inode).ok_or_else(not_found)
    }

    pub(super) fn read(&self, inode: usize, buffer: &mut [u8], offset: usize) -> usize {
        let octets = self.inodes.get(inode).and_then(|inode| inode.octets.get(offset..)).unwrap_or_default();
        let length = octets.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), octets.get(..length)) {
            to.copy_from_slice(from);
        }
        length
    }

    /// Write what there is room for; an error if that is nothing.
    pub(super) fn write(&mut self, inode: usize, octets: &[u8], offset: usize) -> io::Result<usize> {
        let (free, number) = (self.free(), self.next_change());
        let file = self.inode(inode)?;
        let end = file.octets.len().saturating_add(usize::try_from(free).unwrap_or(usize::MAX));
        let length = octets.len().min(end.saturating_sub(offset));
        if length == 0 && !octets.is_empty() {
            return Err(Fault::Full.error());
        }
        let octets = octets.get(..length).unwrap_or_default();
        put(Arc::make_mut(&mut file.octets), octets, offset);
        file.dirty.push((number, Change::Write { offset, octets: octets.into() }));
        Ok(length)
    }

    pub(super) fn sync(&mut self, inode: usize) -> io::Result<()> {
        let file = self.inode(inode)?;
        file.durable.clone_from(&file.octets);
        file.dirty.clear();
        Ok(())
    }

    pub(super) fn set_size(&mut self, inode: usize, bytes: usize) -> io::Result<()> {
        let (free, number) = (self.free(), self.next_change());
        let file = self.inode(inode)?;
        if bytes.saturating_sub(file.octets.len()) as u64 > free {
            return Err(Fault::Full.error());
        }
        set_length(Arc::make_mut(&mut file.octets), bytes);
        file.dirty.push((number, Change::Size(bytes)));
        Ok(())
    }

    pub(super) fn size(&self, inode: usize) -> u64 {
        self.inodes.get(inode).map_or(0, |inode| inode.octets.len() as u64)
    }

    pub(super) fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    pub(super) fn used(&self) -> u64 {
        self.names.values().map(|&inode| self.size(inode)).sum()
    }

    /// Change a bit in a file, on the disk as well.
    pub(super) fn flip(&mut self, path: &Path, offset: usize, bit: u8) -> io::Result<()> {
        let inode = self.find(path)?;
        let file = self.inode(inode)?;
        for octets in [&mut file.octets, &mut file.durable] {
            if let Some(octet) = Arc::make_mut(octets).get_mut(offset) {
                *octet ^= 1 << (bit & 7);
            }
        }
        Ok(())
    }

    /// Call a directory otherwise, with all that is in it.
    pub(super) fn move_dir(&mut self, from: &Path, to: &Path) {
        let moved = |path: &Path| path.strip_prefix(from).map_or_else(|_| path.into(), |rest| to.join(rest));
        for names in [&mut self.names, &mut self.durable_names] {
            *names = std::mem::take(names).into_iter().map(|(path, inode)| (moved(&path), inode)).collect();
        }
        let dirs: Vec<PathBuf> = self.dirs.iter().map(|dir| moved(dir)).collect();
        self.dirs.extend(dirs);
        for (_, change) in &mut self.changes {
            match change {
                NameChange::Add(path, _) | NameChange::Remove(path) => *path = moved(path),
                NameChange::Rename(from, to) => (*from, *to) = (moved(from), moved(to)),
            }
        }
    }

    /// What a power loss leaves: what was synced, and of the rest whatever the seed says.
    pub(super) fn after_power_loss(&self, seed: u64) -> Self {
        let mut chance = Chance(seed);
        let way = chance.below(5);
        let mut disk = self.clone();
        let survive = match way {
            0 => 0,
            1 => self.changes.len(),
            _ => chance.below(self.changes.len() + 1),
        };
        disk.names.clone_from(&self.durable_names);
        let changes = std::mem::take(&mut disk.changes);
        changes.into_iter().take(survive).for_each(|(_, change)| change.apply(&mut disk.names));
        disk.durable_names.clone_from(&disk.names);
        for file in &mut disk.inodes {
            file.lose(way, &mut chance);
        }
        disk.boots += 1;
        disk
    }

    /// What no sync has covered, in the order in which it happened. What nobody can find any more is left out.
    pub(super) fn unsynced(&self) -> Vec<Unsynced> {
        let reachable: BTreeSet<usize> =
            self.names.values().chain(self.durable_names.values()).copied().collect();
        let files = reachable.iter().filter_map(|&inode| self.inodes.get(inode));
        let changed = files.flat_map(|file| &file.dirty).map(|(number, change)| Unsynced {
            number: *number,
            is_write: matches!(change, Change::Write { .. }),
        });
        let renamed = self.changes.iter().map(|&(number, _)| Unsynced { number, is_write: false });
        let mut all: Vec<Unsynced> = changed.chain(renamed).collect();
        all.sort_by_key(|change| change.number);
        all
    }

    /// What a power loss leaves: what was synced, and of the rest what its fate says, by the number of the change.
    pub(super) fn after(&self, fate: &dyn Fn(u64) -> Fate) -> Self {
        let mut disk = self.clone();
        disk.names.clone_from(&self.durable_names);
        for (number, change) in std::mem::take(&mut disk.changes) {
            if fate(number) != Fate::Lost {
                change.apply(&mut disk.names);
            }
        }
        disk.durable_names.clone_from(&disk.names);
        for file in &mut disk.inodes {
            file.meet(fate);
        }
        disk.boots += 1;
        disk
    }

    /// All files: name, number, octets, and the octets that are durable.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, usize, &Arc<Vec<u8>>, &Arc<Vec<u8>>)> {
        self.names.iter().filter_map(|(path, &number)| {
            let inode = self.inodes.get(number)?;
            Some((path.as_path(), number, &inode.octets, &inode.durable))
        })
    }
}

/// Write of the octets what their fate lets through.
fn tear(file: &mut Vec<u8>, offset: usize, octets: &[u8], fate: Fate) {
    if octets.is_empty() {
        return;
    }
    let end = offset + octets.len();
    // Where its sectors are halved, as far as it has more than one.
    let middle = ((offset + octets.len() / 2) / SECTOR * SECTOR).max(offset);
    let (front, back) = octets.split_at_checked(middle - offset).unwrap_or((octets, &[]));
    match fate {
        Fate::Kept => put(file, octets, offset),
        Fate::Lost => {}
        Fate::Short => {
            let whole = ((end - 1) / SECTOR * SECTOR).max(offset) - offset;
            put(file, octets.get(..whole).unwrap_or_default(), offset);
        }
        Fate::Front => put(file, front, offset),
        Fate::Back => put(file, back, middle),
        Fate::Zeroed => {
            lengthen(file, end);
        }
        Fate::Spoilt => {
            lengthen(file, end);
            let pages = offset / PAGE * PAGE..end.next_multiple_of(PAGE).min(file.len());
            file.get_mut(pages).unwrap_or_default().fill(SPOILT);
        }
    }
}

/// Cut or lengthen a file.
fn set_length(file: &mut Vec<u8>, bytes: usize) {
    file.truncate(bytes);
    lengthen(file, bytes);
}

/// Add zeros up to a length.
fn lengthen(file: &mut Vec<u8>, bytes: usize) {
    if let Some(more @ 1..) = bytes.checked_sub(file.len()) {
        // In a build that is not optimised this is many times faster than `resize`.
        file.extend_from_slice(&vec![0; more]);
    }
}

/// Write octets to a place, lengthening the file if need be.
fn put(file: &mut Vec<u8>, octets: &[u8], offset: usize) {
    lengthen(file, offset);
    if file.len() == offset {
        file.extend_from_slice(octets);
        return;
    }
    lengthen(file, offset + octets.len());
    if let Some(place) = file.get_mut(offset..offset + octets.len()) {
        place.copy_from_slice(octets);
    }
}

impl Inode {
    /// Have every change meet its fate.
    fn meet(&mut self, fate: &dyn Fn(u64) -> Fate) {
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.is_empty() {
            self.octets = Arc::clone(&self.durable);
            return;
        }
        let mut left = Vec::clone(&self.durable);
        for (number, change) in dirty {
            match (change, fate(number)) {
                (_, Fate::Lost) => {}
                (Change::Size(bytes), _) => set_length(&mut left, bytes),
                (Change::Write { offset, octets }, fate) => tear(&mut left, offset, &octets, fate),
            }
        }
        self.octets = Arc::new(left);
        self.durable = Arc::clone(&self.octets);
    }

    fn lose(&mut self, way: usize, chance: &mut Chance) {
        let mut left = Vec::clone(&self.durable);
        if way == 1 {
            left.clone_from(&self.octets);
        } else if way > 1 {
            if left.len() < self.octets.len() {
                let grown = chance.below(self.octets.len() - left.len() + 1);
                left.resize(left.len() + grown, 0);
            }
            // Either whole writes in their order, or any sectors, or pages that were being written are spoilt.
            let writes = if way == 2 { chance.below(self.dirty.len() + 1) } else { self.dirty.len() };
            let unit = if way == 4 { PAGE } else { SECTOR };
            for (from, to) in self.dirty.iter().take(writes).filter_map(|(_, change)| match change {
                Change::Write { offset, octets } => Some((*offset, offset + octets.len())),
                Change::Size(_) => None,
            }) {
                for at in (from / unit * unit..to).step_by(unit) {
                    let is_written = way == 2 || chance.below(2) == 0;
                    let (start, end) =
                        if way == 4 { (at, at + unit) } else { (at.max(from), (at + unit).min(to)) };
                    let end = end.min(left.len()).min(self.octets.len());
                    let (Some(place), Some(octets)) = (left.get_mut(start..end), self.octets.get(start..end))
                    else {
                        continue;
                    };
                    match (is_written, way) {
                        (true, _) => place.copy_from_slice(octets),
                        (false, 4) => place.fill(SPOILT),
                        (false, _) => {}
                    }
                }
            }
        }
        let left = Arc::new(left);
        *self = Self { octets: Arc::clone(&left), durable: left, dirty: Vec::new() };
    }
}
