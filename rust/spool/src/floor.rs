//! The floor: how far an index must go at least, to be of use with what is left of the log.
//!
//! Before segments are given up it is noted up to which record they go. An index with an earlier watermark would miss
//! what they said (a copy of yesterday's, put back), and must not be used.
//!
//! The note has two pages, written in turn where they are: one of them is always whole, and no new room is needed, so
//! that a full disk can be emptied.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::device::{self, Device, DeviceFile, Opening};
use crate::facts::Lsn;
use crate::format::PAGE;

const NAME: &str = "floor";
const MAGIC: &[u8; 8] = b"PenFloor";
const VERSION: u32 = 1;
/// Octets of a page that mean something, the checksum aside.
const NOTE: usize = 32;
const PAGES: u64 = 2;

/// What one page says.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
struct Note {
    /// How often it was noted; the greater of two counts.
    turn: u64,
    lsn: Lsn,
}

impl Note {
    fn encode(self) -> Vec<u8> {
        let mut page = Vec::with_capacity(PAGE as usize);
        page.extend_from_slice(MAGIC);
        page.extend_from_slice(&VERSION.to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        page.extend_from_slice(&self.turn.to_le_bytes());
        page.extend_from_slice(&self.lsn.to_le_bytes());
        debug_assert_eq!(page.len(), NOTE, "invariant: the fields have their size");
        let sum = crc32c::crc32c(&page);
        page.extend_from_slice(&sum.to_le_bytes());
        page.resize(PAGE as usize, 0);
        page
    }

    /// Read a page; `None` if it is not whole.
    fn decode(page: &[u8]) -> Option<Self> {
        let (note, rest) = page.split_at_checked(NOTE)?;
        if u32::from_le_bytes(*rest.first_chunk()?) != crc32c::crc32c(note) {
            return None;
        }
        let head = note.strip_prefix(MAGIC)?.strip_prefix(&VERSION.to_le_bytes())?;
        let (_, numbers) = head.split_at_checked(4)?;
        let (turn, lsn) = numbers.split_first_chunk::<8>()?;
        Some(Self { turn: u64::from_le_bytes(*turn), lsn: u64::from_le_bytes(*lsn.first_chunk()?) })
    }
}

#[derive(Default)]
struct State {
    file: Option<Arc<dyn DeviceFile>>,
    note: Note,
    /// A sync has failed: what is on the disk is not known any more, and another sync would not tell.
    has_failed: bool,
}

/// Keeper of the floor.
pub(crate) struct Floor {
    device: Arc<dyn Device>,
    path: PathBuf,
    state: Mutex<State>,
    lsn: AtomicU64,
}

/// Read the note at `path`, and change nothing; `None` if there is no file. A note of which no page is whole counts as
/// none. **Blocking.**
fn read(device: &dyn Device, path: &Path) -> io::Result<Option<(Arc<dyn DeviceFile>, Note)>> {
    let file = match device.open(path, Opening::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut pages = vec![0; (PAGES * PAGE) as usize];
    let read = device::read_full(&*file, &mut pages, 0)?;
    pages.truncate(read);
    let notes = pages.chunks(PAGE as usize).filter_map(Note::decode);
    Ok(Some((file, notes.max_by_key(|note| note.turn).unwrap_or_default())))
}

/// Read the floor of the shard in `dir`, and change nothing. **Blocking.**
pub(crate) fn look(device: &dyn Device, dir: &Path) -> io::Result<Lsn> {
    Ok(read(device, &dir.join(NAME))?.map_or(0, |(_, note)| note.lsn))
}

impl Floor {
    /// Read the floor of the shard in `dir`; make its file if it is not there and there is room. A note of which no page
    /// is whole counts as none. **Blocking.**
    pub(crate) fn open(device: Arc<dyn Device>, dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        let mut state = State::default();
        if let Some((file, note)) = read(&*device, &path)? {
            state = State { file: Some(file), note, ..state };
        }
        let lsn = AtomicU64::new(state.note.lsn);
        let floor = Self { device, path, state: Mutex::new(state), lsn };
        let made = floor.make(&mut floor.state.lock());
        match made {
            // It is made before the first segment is given up.
            Err(error) if !device::is_full(&error) => Err(error),
            _ => Ok(floor),
        }
    }

    /// The least watermark that an index must have.
    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn.load(Relaxed)
    }

    /// Note that everything up to this record may be gone from the log; on return that survives power loss. **Blocking.**
    pub(crate) fn raise(&self, lsn: Lsn) -> io::Result<()> {
        let mut state = self.state.lock();
        if lsn <= state.note.lsn {
            return Ok(());
        }
        if state.has_failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.make(&mut state)?;
        let note = Note { turn: state.note.turn + 1, lsn };
        if let Some(file) = &state.file {
            device::write_octets(&**file, &note.encode(), note.turn % PAGES * PAGE)?;
            let synced = device::sync(&**file);
            state.has_failed = synced.is_err();
            synced?;
        }
        state.note = note;
        self.lsn.store(lsn, Relaxed);
        Ok(())
    }

    /// Make the file, with room for both pages, if there is none.
    fn make(&self, state: &mut State) -> io::Result<()> {
        if state.file.is_some() {
            return Ok(());
        }
        let unfinished = self.path.with_extension("new");
        match self.device.remove(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.device.open(&unfinished, Opening::New)?;
        let page = state.note.encode();
        for at in 0..PAGES {
            device::write_octets(&*file, &page, at * PAGE)?;
        }
        device::sync(&*file)?;
        self.device.rename(&unfinished, &self.path)?;
        device::sync_dir(&*self.device, self.path.parent().unwrap_or(&self.path))?;
        state.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{Call, Fault, FaultyDevice};

    fn open(device: &FaultyDevice) -> io::Result<Floor> {
        device.make_dir(Path::new("/shard")).unwrap();
        Floor::open(Arc::new(device.clone()), Path::new("/shard"))
    }

    #[test]
    fn it_is_what_was_noted_last_and_never_falls() {
        let device = FaultyDevice::new(1);
        let floor = open(&device).unwrap();
        assert_eq!(floor.lsn(), 0);
        for (raised, expected) in [(7, 7), (5, 7), (9, 9), (12, 12)] {
            floor.raise(raised).unwrap();
            assert_eq!((floor.lsn(), open(&device.after_power_loss(3)).unwrap().lsn()), (expected, expected));
        }
    }

    #[test]
    fn a_crash_at_any_point_leaves_the_note_before_or_the_new_one() {
        let story = |device: &FaultyDevice| -> io::Result<Lsn> {
            let floor = open(device)?;
            for lsn in [5, 8, 20] {
                floor.raise(lsn)?;
            }
            Ok(floor.lsn())
        };
        let whole = FaultyDevice::new(1);
        assert_eq!(story(&whole).unwrap(), 20);
        for call in 1..whole.calls().len() as u64 {
            for seed in 0..20 {
                let device = FaultyDevice::new(1);
                device.fail(call, Fault::Halt);
                assert!(story(&device).is_err());
                let noted = match open(&device.after_power_loss(seed)) {
                    Ok(floor) => floor.lsn(),
                    Err(error) => panic!("call {call}, seed {seed}: {error}"),
                };
                assert!([0, 5, 8, 20].contains(&noted), "{noted}");
                let syncs = device.calls().iter().filter(|&&made| made == Call::Sync).count();
                // The first sync is that of the new file; each later one that succeeded has made its note last.
                let lasting = [0, 0, 5, 8, 20].get(syncs.saturating_sub(1)).copied().unwrap_or(20);
                assert!(noted >= lasting, "call {call}, seed {seed}: {noted} of {lasting}");
            }
        }
    }

    #[test]
    fn a_full_disk_can_be_noted_on() {
        let device = FaultyDevice::new(1);
        let floor = open(&device).unwrap();
        device.set_capacity(0);
        floor.raise(5).unwrap();
        floor.raise(6).unwrap();
        assert_eq!(open(&device.after_kill()).unwrap().lsn(), 6);
    }

    #[test]
    fn a_page_that_is_damaged_leaves_the_other() {
        let device = FaultyDevice::new(1);
        open(&device).unwrap().raise(5).unwrap();
        device.flip(Path::new("/shard/floor"), 20, 3);
        assert_eq!(open(&device.after_kill()).unwrap().lsn(), 5);
        device.flip(Path::new("/shard/floor"), PAGE + 24, 3);
        assert_eq!(open(&device.after_kill()).unwrap().lsn(), 0);
    }
}
