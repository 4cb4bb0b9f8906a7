//! Delivery into a Maildir: written off the reactors, synced before it counts as delivered.
//!
//! The file name is made of the queue id and the hop, so a delivery that is repeated after a crash
//! replaces its first copy instead of adding a second one. Line endings stay CRLF: content is the
//! sender's, octet for octet.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use penstock_core::flow::{ContentSource, Form, SourcePoll, Wake, WakeHandle};
use penstock_core::queue_id::QueueId;
use penstock_core::smtp::content::Unstuffer;

use crate::event::Event;
use crate::mailbox::Mailbox;

/// Deliveries that share one sync of their directories.
const BATCH: usize = 64;

pub(crate) struct Job {
    pub(crate) request: u64,
    pub(crate) queue_id: QueueId,
    pub(crate) hop: u128,
    pub(crate) directory: PathBuf,
    pub(crate) prepend: Bytes,
    pub(crate) source: Box<dyn ContentSource>,
    pub(crate) form: Form,
}

#[derive(Default)]
struct Inbox {
    jobs: Vec<Job>,
    closing: bool,
}

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    more: Condvar,
}

/// The writer of Maildirs; `inline` leaves the work to [`Maildirs::step`].
pub(crate) struct Maildirs {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Maildirs {
    pub(crate) fn start(mailbox: Arc<Mailbox>, inline: bool) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = if inline {
            None
        } else {
            let (theirs, box_) = (Arc::clone(&shared), Arc::clone(&mailbox));
            Some(std::thread::Builder::new().name("maildir".into()).spawn(move || run(&theirs, &box_))?)
        };
        Ok(Self { shared, mailbox, writer: Mutex::new(writer) })
    }

    /// Queues a delivery; its end is an [`Event::Dropped`].
    pub(crate) fn deliver(&self, job: Job) {
        self.shared.inbox.lock().jobs.push(job);
        self.shared.more.notify_one();
    }

    /// Inline mode: does what waits. The sources must be complete without another thread.
    pub(crate) fn step(&self) {
        let jobs = std::mem::take(&mut self.shared.inbox.lock().jobs);
        if !jobs.is_empty() {
            self.mailbox.push(deliver_all(jobs));
        }
    }

    /// Finishes what waits and ends the thread.
    pub(crate) fn close(&self) {
        self.shared.inbox.lock().closing = true;
        self.shared.more.notify_one();
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }
}

impl Drop for Maildirs {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(shared: &Shared, mailbox: &Mailbox) {
    loop {
        let jobs = {
            let mut inbox = shared.inbox.lock();
            while inbox.jobs.is_empty() {
                if inbox.closing {
                    return;
                }
                shared.more.wait(&mut inbox);
            }
            let count = inbox.jobs.len().min(BATCH);
            inbox.jobs.drain(..count).collect::<Vec<_>>()
        };
        mailbox.push(deliver_all(jobs));
    }
}

fn deliver_all(jobs: Vec<Job>) -> Vec<Event> {
    let mut directories = BTreeSet::new();
    let mut results = Vec::with_capacity(jobs.len());
    for job in jobs {
        let request = job.request;
        let directory = job.directory.clone();
        let result = deliver(job).map_err(|error| format!("{}: {error}", directory.display()));
        if result.is_ok() {
            directories.insert(directory.clone());
        }
        results.push((request, directory, result));
    }
    let unsynced: BTreeSet<PathBuf> = directories
        .into_iter()
        .filter(|directory| File::open(directory.join("new")).and_then(|new| new.sync_all()).is_err())
        .collect();
    results
        .into_iter()
        .map(|(request, directory, result)| {
            let result = match result {
                Ok(()) if unsynced.contains(&directory) => {
                    Err(format!("{}: the directory could not be synced", directory.display()))
                }
                other => other,
            };
            Event::Dropped { request, result }
        })
        .collect()
}

fn deliver(job: Job) -> std::io::Result<()> {
    create(&job.directory)?;
    let name = format!("{}.{:016x}.penstock", job.queue_id, (job.hop >> 64) as u64);
    let temporary = job.directory.join("tmp").join(&name);
    let to = job.directory.join("new").join(&name);
    // What is there is left of an attempt that was cut off; or a link that somebody has put in our way, which is removed
    // and not followed.
    remove(&temporary)?;
    let written = write(job, &temporary).and_then(|()| std::fs::rename(&temporary, to));
    if written.is_err() {
        // A full disk gets its room back. If it cannot be removed either, the error before says more.
        let _ = remove(&temporary);
    }
    written
}

fn write(job: Job, path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut out = BufWriter::with_capacity(64 << 10, file);
    out.write_all(&job.prepend)?;
    copy(job.source, job.form, &mut out)?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_data()
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn create(directory: &Path) -> std::io::Result<()> {
    let mut made = false;
    for part in ["tmp", "new", "cur"] {
        let path = directory.join(part);
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            made = true;
        }
    }
    if made {
        File::open(directory)?.sync_all()?;
        if let Some(parent) = directory.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

/// Wakes a thread that waits for content.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ring: Condvar,
}

impl Wake for Bell {
    fn wake(&self, _token: u64) {
        *self.rung.lock() = true;
        self.ring.notify_one();
    }
}

fn copy(mut source: Box<dyn ContentSource>, form: Form, out: &mut impl Write) -> std::io::Result<()> {
    let bell = Arc::new(Bell::default());
    let waker = WakeHandle { wake: Arc::clone(&bell) as Arc<dyn Wake>, token: 0 };
    let mut unstuffer = Unstuffer::default();
    let mut plain = Vec::new();
    loop {
        match source.poll(&waker) {
            SourcePoll::Chunk(chunk) => match form {
                Form::Plain => out.write_all(&chunk)?,
                Form::Wire => {
                    plain.clear();
                    unstuffer.push(&chunk, &mut plain);
                    out.write_all(&plain)?;
                }
            },
            SourcePoll::Pending => {
                let mut rung = bell.rung.lock();
                while !*rung {
                    bell.ring.wait(&mut rung);
                }
                *rung = false;
            }
            SourcePoll::End => return Ok(()),
            SourcePoll::Failed => return Err(std::io::Error::other("the stored content could not be read")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    struct Slices(Vec<Bytes>);

    impl ContentSource for Slices {
        fn poll(&mut self, _waker: &WakeHandle) -> SourcePoll {
            if self.0.is_empty() { SourcePoll::End } else { SourcePoll::Chunk(self.0.remove(0)) }
        }
    }

    fn job(directory: &Path, slices: &[&'static [u8]]) -> Job {
        Job {
            request: 5,
            queue_id: QueueId(77),
            hop: 1 << 100,
            directory: directory.into(),
            prepend: Bytes::from_static(b"Return-Path: <a@b>\r\n"),
            source: Box::new(Slices(slices.iter().map(|s| Bytes::from_static(s)).collect())),
            form: Form::Wire,
        }
    }

    #[test]
    fn a_repeated_delivery_replaces_its_first_copy() {
        let dir = tempfile::tempdir().expect("tempdir");
        let maildir = dir.path().join("m");
        for _ in 0..2 {
            let events = deliver_all(vec![job(&maildir, &[b"A: b\r\n\r\n.", b".dot\r\nx\r\n"])]);
            assert!(matches!(events.as_slice(), [Event::Dropped { request: 5, result: Ok(()) }]));
        }
        let files: Vec<_> = std::fs::read_dir(maildir.join("new")).expect("new").collect();
        assert_eq!(files.len(), 1);
        let path = files[0].as_ref().expect("entry").path();
        assert_eq!(std::fs::read(path).expect("read"), b"Return-Path: <a@b>\r\nA: b\r\n\r\n.dot\r\nx\r\n");
    }

    #[test]
    fn a_link_in_the_way_is_not_followed_and_nothing_half_written_stays() {
        let dir = tempfile::tempdir().expect("tempdir");
        let maildir = dir.path().join("m");
        let precious = dir.path().join("precious");
        std::fs::write(&precious, b"precious").expect("write");
        create(&maildir).expect("create");
        let left = maildir.join("tmp").join(format!("{}.{:016x}.penstock", QueueId(77), 1_u64 << 36));
        std::os::unix::fs::symlink(&precious, &left).expect("symlink");
        let events = deliver_all(vec![job(&maildir, &[b"x\r\n"])]);
        assert!(matches!(events.as_slice(), [Event::Dropped { result: Ok(()), .. }]));
        assert_eq!(std::fs::read(&precious).expect("read"), b"precious");
        std::fs::remove_dir_all(maildir.join("new")).expect("remove");
        std::fs::write(maildir.join("new"), b"").expect("write");
        let events = deliver_all(vec![job(&maildir, &[b"x\r\n"])]);
        assert!(matches!(events.as_slice(), [Event::Dropped { result: Err(_), .. }]));
        assert_eq!(std::fs::read_dir(maildir.join("tmp")).expect("tmp").count(), 0);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_reported_with_its_name() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("file");
        std::fs::write(&file, b"").expect("write");
        let events = deliver_all(vec![job(&file.join("m"), &[])]);
        assert!(
            matches!(events.as_slice(), [Event::Dropped { result: Err(text), .. }] if text.contains("file/m"))
        );
    }
}
