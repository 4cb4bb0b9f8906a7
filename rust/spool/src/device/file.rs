//! The system's files.

use std::ffi::CStr;
use std::fs::DirBuilder;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{Device, DeviceFile, Lock, Opening};

const OWNER_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);
/// Longest text of a lock file that is looked at.
const LOCK_TEXT_MAX: usize = 32;
/// Octets written as zeros at a time where room cannot be taken otherwise.
const ZEROS: usize = 1 << 20;

/// Files as the system has them.
#[derive(Copy, Clone, Debug, Default)]
pub struct FileDevice;

impl FileDevice {
    /// The system's files.
    pub fn new() -> Self {
        Self
    }
}

fn open(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(fs::open(path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, OWNER_ONLY)?)
}

impl Device for FileDevice {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        // Whatever the umask took away is given back.
        let dir = open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(fs::fchmod(&dir, Mode::RWXU)?)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name().into_string()));
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn open(&self, path: &Path, how: Opening) -> io::Result<Arc<dyn DeviceFile>> {
        let fd = match how {
            Opening::Existing => open(path, OFlags::RDWR)?,
            Opening::New => {
                let fd = open(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
                fs::fchmod(&fd, OWNER_ONLY)?;
                fd
            }
        };
        Ok(Arc::new(SystemFile { fd, knows_cached: AtomicBool::new(true) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(fs::rename(from, to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(fs::unlink(path)?)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        Ok(fs::fsync(open(path, OFlags::RDONLY | OFlags::DIRECTORY)?)?)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let fd = open(path, OFlags::RDWR | OFlags::CREATE)?;
        match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = [0; LOCK_TEXT_MAX];
                let length = rustix::io::pread(&fd, &mut text, 0)?;
                let text = text.get(..length).unwrap_or_default();
                let pid = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
                return Ok(Lock::Foreign { pid: pid.unwrap_or(0) });
            }
            Err(error) => return Err(error.into()),
        }
        fs::fchmod(&fd, OWNER_ONLY)?;
        // Always as long, so that it needs no more room on a full disk.
        rustix::io::pwrite(&fd, format!("{:<10}\n", std::process::id()).as_bytes(), 0)?;
        Ok(Lock::Held(Box::new(fd)))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let space = fs::statvfs(path)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn random(&self) -> io::Result<u64> {
        let mut octets = [0; 8];
        // Up to 256 octets come whole.
        rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty())?;
        Ok(u64::from_ne_bytes(octets))
    }

    fn boot_id(&self) -> String {
        const PATH: &CStr = c"/proc/sys/kernel/random/boot_id";
        let path = PATH.to_str().unwrap_or_default();
        std::fs::read_to_string(path).map_or_else(|_| String::new(), |text| text.trim().to_owned())
    }
}

struct SystemFile {
    fd: OwnedFd,
    /// Whether the file system can tell what is in its cache.
    knows_cached: AtomicBool,
}

impl DeviceFile for SystemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(&self.fd, buffer, offset)?)
    }

    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        if !self.knows_cached.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut buffers = [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.fd, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(Some(read)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.knows_cached.store(false, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.fd, buffers, offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fs::fdatasync(&self.fd)?)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match fs::fallocate(&self.fd, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let zeros = vec![0; ZEROS];
                let mut at = self.size()?;
                while at < bytes {
                    let part = zeros.get(..(bytes - at).min(ZEROS as u64) as usize).unwrap_or(&zeros);
                    super::write_octets(self, part, at)?;
                    at += part.len() as u64;
                }
                Ok(())
            }
            result => Ok(result?),
        }
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        Ok(fs::ftruncate(&self.fd, bytes)?)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(u64::try_from(fs::fstat(&self.fd)?.st_size).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn files_and_directories_are_the_owners_alone_and_links_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let device = FileDevice::new();
        let inner = dir.path().join("a/b");
        device.make_dir(&inner).unwrap();
        let file = inner.join("file");
        device.open(&file, Opening::New).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&file)), (0o700, 0o600));
        symlink(&file, inner.join("link")).unwrap();
        assert!(device.open(&inner.join("link"), Opening::Existing).is_err());
        assert!(device.lock(&inner.join("link")).is_err());
        assert!(device.open(&file, Opening::New).is_err());
    }

    #[test]
    fn a_lock_is_refused_with_the_number_of_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let device = FileDevice::new();
        let path = dir.path().join("lock");
        let Lock::Held(held) = device.lock(&path).unwrap() else { panic!("nobody has it") };
        assert!(matches!(device.lock(&path).unwrap(), Lock::Foreign { pid } if pid == std::process::id()));
        drop(held);
        assert!(matches!(device.lock(&path).unwrap(), Lock::Held(_)));
    }

    #[test]
    fn what_was_written_is_read_in_the_cache_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let device = FileDevice::new();
        let file = device.open(&dir.path().join("file"), Opening::New).unwrap();
        file.allocate(100).unwrap();
        assert_eq!(file.size().unwrap(), 100);
        let slices = [IoSlice::new(b"abc"), IoSlice::new(b"def")];
        assert_eq!(file.write_at(&slices, 10).unwrap(), 6);
        sync_read(&*file);
        file.set_size(12).unwrap();
        let mut buffer = [9; 8];
        assert_eq!(super::super::read_full(&*file, &mut buffer, 8).unwrap(), 4);
        assert_eq!(buffer, *b"\0\0ab\x09\x09\x09\x09");
    }

    fn sync_read(file: &dyn DeviceFile) {
        super::super::sync(file).unwrap();
        let mut buffer = [0; 6];
        // A file system that knows no such reads says so; it never gives other octets.
        if let Some(read) = file.read_cached(&mut buffer, 10).unwrap() {
            assert_eq!(buffer.get(..read), b"abcdef".get(..read));
        }
    }
}
