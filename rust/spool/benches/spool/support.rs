//! Spools to measure, and what is put into them.

use std::path::Path;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use penstock_core::flow::{ContentFlags, ContentSink, Form, Offer, Wake, WakeHandle};
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{EventLog, ManualClock};
use penstock_spool::{
    Accepted, Answer, Disposition, Draft, EntryRecord, EnvelopeParams, Fact, FileDevice, HopId, HopKind,
    Outcome, OutcomeState, RecipientRecord, Request, Spool, SpoolConfig, SpoolEvent, SpoolSink, SystemClock,
};
use tempfile::TempDir;

pub(crate) const NOW_MS: u64 = 1_763_951_400_000;
/// Domains that recipients are in.
const DOMAINS: u64 = 1_000;
/// Octets that are put before a content.
const TRACE: &[u8] = &[b'R'; 200];

struct Silent;

impl Wake for Silent {
    fn wake(&self, _token: u64) {}
}

fn silent() -> WakeHandle {
    WakeHandle { wake: Arc::new(Silent), token: 0 }
}

pub(crate) fn directory() -> TempDir {
    let dir = std::env::var_os("PENSTOCK_BENCH_DIR").unwrap_or_else(|| "/var/tmp".into());
    tempfile::tempdir_in(dir).expect("a directory")
}

pub(crate) fn config() -> SpoolConfig {
    SpoolConfig { inline: true, free_min_bytes: 0, map_bytes: 4 << 30, ..SpoolConfig::default() }
}

/// Copy a spool's directory.
pub(crate) fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            std::fs::create_dir_all(&to).expect("a directory");
            copy(&path, &to);
        } else {
            std::fs::copy(path, to).expect("a copy");
        }
    }
}

/// Take the index of a closed spool away, and those that were put aside.
pub(crate) fn remove_indexes(spool: &Path) {
    for entry in std::fs::read_dir(spool.join("shard-00")).expect("a shard") {
        let path = entry.expect("an entry").path();
        let is_index = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("index"));
        if is_index {
            std::fs::remove_dir_all(path).expect("an index");
        }
    }
}

/// A spool that is driven by hand.
pub(crate) struct Inline {
    pub(crate) spool: Spool,
    pub(crate) hop: HopId,
    /// Messages that were there when it was opened.
    pub(crate) messages: u64,
    events: Arc<EventLog>,
}

impl Inline {
    pub(crate) fn open(config: SpoolConfig) -> Self {
        let (events, clock) = (Arc::new(EventLog::default()), Arc::new(ManualClock::new(NOW_MS)));
        let (spool, recovery) =
            Spool::open(config, Arc::new(FileDevice::new()), clock, Arc::clone(&events) as _)
                .expect("a spool");
        let hop = hop(&spool);
        Self { spool, hop, messages: recovery.messages, events }
    }

    /// Take so many messages.
    pub(crate) fn fill(&self, messages: usize, octets: usize) -> Vec<QueueId> {
        let content = vec![b'x'; octets];
        let ids = (0..messages)
            .map(|nth| {
                let id = hand_in(&self.spool, self.hop, &content);
                if nth % 500 == 499 {
                    self.spool.step();
                }
                id
            })
            .collect();
        self.spool.step();
        self.events.take();
        ids
    }

    pub(crate) fn ask(&self, request: Request) -> Answer {
        let number = self.spool.request(request);
        self.spool.step();
        let answers = self.events.take().into_iter().filter_map(|event| match event {
            SpoolEvent::Answer { request, answer } if request == number => Some(answer),
            _ => None,
        });
        answers.last().expect("an inline spool answers at once")
    }
}

fn hop(spool: &Spool) -> HopId {
    spool.register_hop("smart", HopKind::SmartHost, "mx.contoso.example")
}

/// Hand in a message.
fn hand_in(spool: &Spool, hop: HopId, content: &[u8]) -> QueueId {
    let (draft, accepted) = received(spool, hop, content);
    let id = draft.queue_id();
    spool.commit(draft, accepted, Bytes::from_static(TRACE), Vec::new());
    id
}

/// Return a message that has come in, and only has to be stored.
fn received(spool: &Spool, hop: HopId, content: &[u8]) -> (Draft, Accepted) {
    let mut draft = spool.draft(content.len() as u64).expect("there is room");
    for part in content.chunks(64 << 10) {
        assert_eq!(draft.offer(part, &silent()), Offer::Taken);
    }
    let size = (content.len() + TRACE.len()) as u64;
    let accepted = accepted(hop, size, draft.queue_id());
    (draft, accepted)
}

/// Tells how many messages each sync has made durable.
struct Groups(Mutex<Sender<usize>>);

impl SpoolSink for Groups {
    fn push(&self, events: Vec<SpoolEvent>) {
        let committed = events.iter().filter(|event| matches!(event, SpoolEvent::Committed { .. })).count();
        if committed > 0 {
            self.0.lock().expect("nobody panicked").send(committed).expect("somebody listens");
        }
    }
}

/// What a run of commits came to.
pub(crate) struct Run {
    pub(crate) took: Duration,
    /// Messages of each group, in order.
    pub(crate) groups: Vec<usize>,
    /// Octets of a record.
    pub(crate) record_bytes: usize,
}

/// Have writers commit messages, each the next one when its last is durable. Messages come in on a thread of their own,
/// as they do in the engine, so that what is measured is to store them.
pub(crate) fn commit(dir: &Path, writers: usize, octets: usize, messages: usize) -> Run {
    let (sender, receiver) = channel();
    let config = SpoolConfig { path: dir.join("spool"), inline: false, ..config() };
    let sink = Arc::new(Groups(Mutex::new(sender)));
    let (spool, _) =
        Spool::open(config, Arc::new(FileDevice::new()), Arc::new(SystemClock), sink).expect("a spool");
    let (hop, content) = (hop(&spool), vec![b'x'; octets]);
    let before = spool.statistics().log_bytes;
    let (took, groups) = std::thread::scope(|scope| {
        let (ready, incoming) = sync_channel(2 * writers);
        let net = &spool;
        scope.spawn(move || {
            for _ in 0..messages {
                ready.send(received(net, hop, &content)).expect("somebody commits");
            }
        });
        let commit_all = |count: usize| {
            spool.hold();
            for (draft, accepted) in incoming.iter().take(count) {
                spool.commit(draft, accepted, Bytes::from_static(TRACE), Vec::new());
            }
            spool.let_go();
        };
        let began = Instant::now();
        commit_all(writers);
        let (mut handed_in, mut ended, mut groups) = (writers, 0, Vec::new());
        while ended < messages {
            let count = receiver.recv().expect("the spool is open");
            groups.push(count);
            ended += count;
            let more = count.min(messages - handed_in);
            commit_all(more);
            handed_in += more;
        }
        (began.elapsed(), groups)
    });
    let written = spool.statistics().log_bytes - before;
    spool.close();
    Run { took, groups, record_bytes: written as usize / messages }
}

fn accepted(hop: HopId, size: u64, id: QueueId) -> Accepted {
    Accepted {
        received_ms: NOW_MS,
        sender: "sender@contoso.example".into(),
        params: EnvelopeParams::default(),
        connector: "internet".into(),
        peer: "192.0.2.7".into(),
        helo: "client.example".into(),
        session: "0123456789abcdef".into(),
        form: Form::Wire,
        flags: ContentFlags::default(),
        size,
        message_id: "<0123456789abcdef@client.example>".into(),
        subject: "A message".into(),
        recipients: vec![RecipientRecord {
            address: format!("you@{}.example", id.0 % DOMAINS),
            orcpt: None,
            notify: 0,
        }],
        entries: vec![EntryRecord {
            hop,
            recipients: vec![0],
            priority: 1,
            due_ms: NOW_MS,
            expires_ms: NOW_MS + 172_800_000,
            suspended: None,
        }],
    }
}

/// The end of an attempt.
pub(crate) fn settled(queue_id: QueueId, hop: HopId, attempt: u32, state: OutcomeState) -> Fact {
    Fact::Settled {
        queue_id,
        hop,
        attempt,
        disposition: Disposition::Due { due_ms: NOW_MS + 900_000 },
        outcomes: vec![Outcome {
            recipient: 0,
            state,
            stage: 8,
            code: 451,
            enhanced: "4.2.0".into(),
            text: "Try again later".into(),
        }],
        peer: "192.0.2.1".into(),
        session: "fedcba9876543210".into(),
    }
}
