//! The seam between the log and the disk.
//!
//! Everything that the spool does with files goes through these two traits, the index apart: LMDB does its own I/O.
//! Whoever implements them may stop short, be interrupted and fail as the system does; the spool copes above them.

mod file;

use std::any::Any;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use file::FileDevice;
use rustix::io::Errno;

/// How a file is opened.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Opening {
    /// It must be there.
    Existing,
    /// It must not be there yet.
    New,
}

/// Who holds a lock.
pub enum Lock {
    /// We do, until this is dropped.
    Held(Box<dyn Any + Send + Sync>),
    /// Another process; 0 if it has not said which.
    Foreign {
        /// Its number.
        pid: u32,
    },
}

/// A file system.
pub trait Device: Send + Sync {
    /// Make a directory for the owner alone (0700), with its parents; one that is there already is made so too.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Tell the names in a directory.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Open a file for reading and writing, for the owner alone (0600). A symbolic link is refused.
    fn open(&self, path: &Path, how: Opening) -> io::Result<Arc<dyn DeviceFile>>;

    /// Give a file another name, in place of whatever had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Remove a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Make the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Lock a file, making it if need be, without waiting; our process's number is left in it.
    fn lock(&self, path: &Path) -> io::Result<Lock>;

    /// Tell how many octets can still be written to the file system.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Called before the index is changed, which does its own I/O: an error stands for one of its own.
    fn before_index(&self) -> io::Result<()> {
        Ok(())
    }

    /// Give a number that nobody can foretell.
    fn random(&self) -> io::Result<u64>;

    /// Tell what distinguishes this run of the machine from the one before; empty if that is not known.
    fn boot_id(&self) -> String;
}

/// A file that is open.
pub trait DeviceFile: Send + Sync {
    /// Read at an offset; fewer octets than asked for may come, none at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Read at an offset what needs no waiting for the disk; `None` if nothing can be had that way.
    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>>;

    /// Write at an offset; fewer octets than given may be written.
    fn write_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Make durable what was written, and the length. **Blocking.**
    fn sync(&self) -> io::Result<()>;

    /// Take room for so many octets; what was not written reads as zeros.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Cut the file, or lengthen it by zeros.
    fn set_size(&self, bytes: u64) -> io::Result<()>;

    /// Tell how long the file is.
    fn size(&self) -> io::Result<u64>;
}

/// Read the whole range, or up to the file's end. **Blocking.**
pub(crate) fn read_full(file: &dyn DeviceFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Buffers in one system call.
const BUFFERS_MAX: usize = 1024;

/// Write all buffers; tells how many octets were written before an error, and the error. **Blocking.**
pub(crate) fn write_full(
    file: &dyn DeviceFile,
    mut buffers: &mut [IoSlice<'_>],
    offset: u64,
) -> (u64, io::Result<()>) {
    let mut written = 0;
    IoSlice::advance_slices(&mut buffers, 0);
    while !buffers.is_empty() {
        let now = buffers.get(..BUFFERS_MAX.min(buffers.len())).unwrap_or_default();
        match file.write_at(now, offset + written) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                written += count as u64;
                IoSlice::advance_slices(&mut buffers, count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Write all octets. **Blocking.**
pub(crate) fn write_octets(file: &dyn DeviceFile, octets: &[u8], offset: u64) -> io::Result<()> {
    write_full(file, &mut [IoSlice::new(octets)], offset).1
}

/// Make durable what was written. Only an interruption is tried again: then nothing was reported, and nothing lost.
pub(crate) fn sync(file: &dyn DeviceFile) -> io::Result<()> {
    loop {
        match file.sync() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Make the names in a directory durable; an interruption is tried again.
pub(crate) fn sync_dir(device: &dyn Device, path: &Path) -> io::Result<()> {
    loop {
        match device.sync_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Whether an error says that the disk is full, or what the owner may have of it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether an error says that the disk does not give back what is there.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::IO))
}

/// Whether an error says that something is wanting which may be had again: room, descriptors, the kernel's memory.
/// Nothing is wrong with the disk then.
pub(crate) fn is_scarce(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    is_full(error) || matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}
