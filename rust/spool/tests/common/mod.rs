//! A spool on a disk in memory, driven by hand, and a ledger of what it was told and what it has promised.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::missing_panics_doc, reason = "these are tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use penstock_core::flow::{
    ContentFlags, ContentSink, ContentSource, Form, GateState, Offer, SourcePoll, Wake, WakeHandle,
};
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{EventLog, Fault, FaultyDevice, ManualClock};
use penstock_spool::{
    Accepted, Answer, Disposition, Draft, EntryRecord, EnvelopeParams, Fact, HopId, HopKind, MessageRow,
    OpenError, Outcome, OutcomeState, RecipientRecord, Recovery, Request, Spool, SpoolConfig, SpoolEvent,
};
use tempfile::TempDir;

pub(crate) const NOW_MS: u64 = 1_763_951_400_000;
pub(crate) const TRACE: &[u8] = b"Received: from client.example\r\n";

struct Silent;

impl Wake for Silent {
    fn wake(&self, _token: u64) {}
}

pub(crate) fn silent() -> WakeHandle {
    WakeHandle { wake: Arc::new(Silent), token: 0 }
}

/// A directory for an index, in memory if there is such a place.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// Run a scenario once for each of its calls, which fails, and check what a kill and power losses leave of it.
pub(crate) fn sweep(calls: u64, fault: Fault, seeds: u64, scenario: impl Fn(&FaultyDevice, &Path) -> Ledger) {
    for call in 0..calls {
        let (device, dir) = (FaultyDevice::new(1), directory());
        device.fail(call, fault);
        let ledger = scenario(&device, dir.path());
        let what = format!("{fault:?} in call {call}");
        reopen(&device.after_kill(), dir.path(), &ledger, &format!("{what}, kill"));
        for seed in 0..seeds {
            let seed = call * 31 + seed;
            let what = format!("{what}, power loss, seed {seed}");
            reopen(&device.after_power_loss(seed), dir.path(), &ledger, &what);
        }
    }
}

/// Open what a crash left of one spool in another directory, and check that it holds what was promised.
pub(crate) fn reopen(device: &FaultyDevice, from: &Path, ledger: &Ledger, what: &str) -> (Bench, TempDir) {
    let dir = directory();
    copy_index(from, dir.path());
    let device = device.moved(from, dir.path());
    let mut bench = Bench::open(&device, dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
    ledger.check(&mut bench, what);
    (bench, dir)
}

/// Copy the index below one spool's directory to below another's.
pub(crate) fn copy_index(from: &Path, to: &Path) {
    let (from, to) = (from.join("shard-00/index"), to.join("shard-00/index"));
    let Ok(files) = std::fs::read_dir(from) else { return };
    std::fs::create_dir_all(&to).expect("a directory");
    for file in files {
        let file = file.expect("an entry");
        if file.file_name() != "lock.mdb" {
            std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
        }
    }
}

/// What is known of a message.
#[derive(Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct Entry {
    pub(crate) content: Vec<u8>,
    /// The spool has said that it is committed.
    pub(crate) is_acked: bool,
    /// The spool has said that it is not stored, and will not be.
    pub(crate) is_refused: bool,
    /// The end of it was handed in.
    pub(crate) is_settled: bool,
    /// The spool has said that this is durable.
    pub(crate) is_settled_surely: bool,
    /// The message whose failure this one reports, in the same record.
    pub(crate) cause: Option<QueueId>,
}

/// What was handed in, and what was promised.
#[derive(Clone, Default)]
pub(crate) struct Ledger(pub(crate) BTreeMap<QueueId, Entry>);

/// A spool that is driven by hand.
pub(crate) struct Bench {
    pub(crate) device: FaultyDevice,
    pub(crate) path: PathBuf,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) events: Arc<EventLog>,
    pub(crate) ledger: Ledger,
    pub(crate) recovery: Recovery,
    pub(crate) hop: HopId,
    spool: Option<Spool>,
    tickets: BTreeMap<u64, QueueId>,
    syncs: BTreeMap<u64, Vec<QueueId>>,
    answers: BTreeMap<u64, Answer>,
    attempts: BTreeMap<QueueId, u32>,
    pub(crate) poisoned: bool,
    /// Messages whose content was told to be damaged, each time.
    pub(crate) damaged: Vec<QueueId>,
}

pub(crate) fn config(path: &Path) -> SpoolConfig {
    SpoolConfig {
        path: path.into(),
        inline: true,
        segment_bytes: 128 << 10,
        map_bytes: 64 << 20,
        free_min_bytes: 0,
        ..SpoolConfig::default()
    }
}

impl Bench {
    pub(crate) fn open(device: &FaultyDevice, path: &Path) -> Result<Self, OpenError> {
        Self::open_with(device, config(path))
    }

    pub(crate) fn open_with(device: &FaultyDevice, config: SpoolConfig) -> Result<Self, OpenError> {
        let (clock, events) = (Arc::new(ManualClock::new(NOW_MS)), Arc::new(EventLog::default()));
        let path = config.path.clone();
        let (spool, recovery) =
            Spool::open(config, Arc::new(device.clone()), Arc::clone(&clock) as _, Arc::clone(&events) as _)?;
        let hop = spool.register_hop("smart", HopKind::SmartHost, "mx.contoso.example");
        Ok(Self {
            device: device.clone(),
            path,
            clock,
            events,
            ledger: Ledger::default(),
            recovery,
            hop,
            spool: Some(spool),
            tickets: BTreeMap::new(),
            syncs: BTreeMap::new(),
            answers: BTreeMap::new(),
            attempts: BTreeMap::new(),
            poisoned: false,
            damaged: Vec::new(),
        })
    }

    pub(crate) fn spool(&self) -> &Spool {
        self.spool.as_ref().expect("it is open")
    }

    /// A draft with this content.
    pub(crate) fn draft(&self, content: &[u8]) -> Option<Draft> {
        let mut draft = self.spool().draft(content.len() as u64).ok()?;
        for part in content.chunks(10_000) {
            assert_eq!(draft.offer(part, &silent()), Offer::Taken);
        }
        Some(draft)
    }

    /// Hand in a message of some octets; none if no draft is to be had.
    pub(crate) fn commit(&mut self, octets: usize) -> Option<QueueId> {
        self.commit_for(octets, None)
    }

    /// Hand in a message, and in the same record the failure of another that it reports.
    pub(crate) fn commit_for(&mut self, octets: usize, cause: Option<QueueId>) -> Option<QueueId> {
        let salt = self.ledger.0.len();
        let content: Vec<u8> = (0..octets).map(|at| ((at * 31 + at / 251 + salt * 7) % 253) as u8).collect();
        let draft = self.draft(&content)?;
        Some(self.hand_in_for(draft, &content, cause))
    }

    /// Hand in a draft that has this content.
    pub(crate) fn hand_in(&mut self, draft: Draft, content: &[u8]) -> QueueId {
        self.hand_in_for(draft, content, None)
    }

    fn hand_in_for(&mut self, draft: Draft, content: &[u8], cause: Option<QueueId>) -> QueueId {
        let queue_id = draft.queue_id();
        let facts = cause.map(|id| self.settlement(id, OutcomeState::Failed)).into_iter().collect();
        let accepted = accepted(self.hop, (content.len() + TRACE.len()) as u64);
        let ticket = self.spool().commit(draft, accepted, Bytes::from_static(TRACE), facts);
        self.tickets.insert(ticket, queue_id);
        let entry = Entry { content: [TRACE, content].concat(), cause, ..Entry::default() };
        self.ledger.0.insert(queue_id, entry);
        queue_id
    }

    fn settlement(&self, queue_id: QueueId, state: OutcomeState) -> Fact {
        let attempt = self.attempts.get(&queue_id).copied().unwrap_or(0);
        settled(queue_id, self.hop, attempt, state)
    }

    /// Begin an attempt; tells the gate.
    pub(crate) fn start(&mut self, queue_id: QueueId) -> Box<dyn penstock_core::flow::Gate> {
        let attempt = self.attempts.entry(queue_id).or_default();
        *attempt += 1;
        let attempt = *attempt;
        self.spool().started(queue_id, self.hop, attempt, "192.0.2.1")
    }

    /// Begin and end an attempt.
    pub(crate) fn deliver(&mut self, queue_id: QueueId) {
        let mut gate = self.start(queue_id);
        self.step();
        if gate.state(&silent()) == GateState::Open {
            self.settle(queue_id);
        }
    }

    /// Deliver a message that this spool need not have taken itself.
    pub(crate) fn deliver_if_known(&mut self, queue_id: QueueId) {
        self.ledger.0.entry(queue_id).or_default();
        self.deliver(queue_id);
    }

    /// Go on with what is known of an earlier life.
    pub(crate) fn resume(&mut self, ledger: Ledger) {
        self.ledger = ledger;
        for row in self.messages() {
            self.attempts.insert(row.queue_id, row.entries[0].attempts);
            // What was forgotten was not promised.
            self.note(row.queue_id).is_settled = false;
        }
    }

    /// Hand in that an attempt has come to nothing.
    pub(crate) fn defer(&mut self, queue_id: QueueId, state: OutcomeState) {
        let fact = self.settlement(queue_id, state);
        self.spool().append(vec![fact]);
    }

    /// Hand in that a message has arrived.
    pub(crate) fn settle(&mut self, queue_id: QueueId) {
        let fact = self.settlement(queue_id, OutcomeState::Delivered);
        self.spool().append(vec![fact]);
        self.note(queue_id).is_settled = true;
    }

    fn note(&mut self, queue_id: QueueId) -> &mut Entry {
        self.ledger.0.get_mut(&queue_id).expect("it was handed in")
    }

    /// Have the spool do what it can, and take note of what it says.
    pub(crate) fn step(&mut self) {
        self.spool().step();
        self.take_note();
    }

    pub(crate) fn take_note(&mut self) {
        for event in self.events.take() {
            match event {
                SpoolEvent::Committed { ticket, queue_id, .. } => {
                    assert_eq!(self.tickets.remove(&ticket), Some(queue_id), "told once");
                    let cause = self.note(queue_id).cause;
                    self.note(queue_id).is_acked = true;
                    if let Some(cause) = cause {
                        let cause = self.note(cause);
                        (cause.is_settled, cause.is_settled_surely) = (true, true);
                    }
                }
                SpoolEvent::CommitFailed { ticket, queue_id, error } => {
                    assert_eq!(self.tickets.remove(&ticket), Some(queue_id), "told once");
                    let is_refused = error == penstock_spool::CommitError::Full;
                    self.note(queue_id).is_refused = is_refused;
                    let cause = self.note(queue_id).cause.filter(|_| !is_refused);
                    if let Some(cause) = cause {
                        self.note(cause).is_settled = true;
                    }
                }
                SpoolEvent::Answer { request, answer } => {
                    if let Some(ids) = self.syncs.remove(&request)
                        && matches!(answer, Answer::Done { .. })
                    {
                        for id in ids {
                            self.note(id).is_settled_surely = true;
                        }
                    }
                    self.answers.insert(request, answer);
                }
                SpoolEvent::Checkpoint { .. } => {}
                SpoolEvent::Damaged { queue_id } => self.damaged.push(queue_id),
                SpoolEvent::Poisoned { .. } => {
                    assert!(!self.poisoned, "told once");
                    self.poisoned = true;
                }
            }
        }
    }

    /// Have all that was handed in made durable; takes note if it was.
    pub(crate) fn sync(&mut self, request: Request) -> Option<Answer> {
        let settled: Vec<QueueId> =
            self.ledger.0.iter().filter(|(_, entry)| entry.is_settled).map(|(id, _)| *id).collect();
        let number = self.spool().request(request);
        self.syncs.insert(number, settled);
        self.step();
        self.answers.remove(&number)
    }

    /// Ask a question.
    pub(crate) fn ask(&mut self, request: Request) -> Option<Answer> {
        let number = self.spool().request(request);
        self.step();
        self.answers.remove(&number)
    }

    /// The answer to a question that was asked of the spool itself, if it has come.
    pub(crate) fn take_answer(&mut self, number: u64) -> Option<Answer> {
        self.answers.remove(&number)
    }

    pub(crate) fn messages(&mut self) -> Vec<MessageRow> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            match self.ask(Request::Messages { after, limit: 7, hop: None }) {
                Some(Answer::Messages { next, rows, .. }) => {
                    all.extend(rows);
                    after = next;
                }
                other => panic!("no page but {other:?}"),
            }
            if after.is_none() {
                return all;
            }
        }
    }

    /// A message's content as it is read; none if it cannot be.
    pub(crate) fn content(&self, queue_id: QueueId) -> Option<Vec<u8>> {
        read(self.spool().content(queue_id).source)
    }

    pub(crate) fn close(mut self) -> Ledger {
        if let Some(spool) = self.spool.take() {
            spool.close();
        }
        self.take_note();
        self.ledger
    }

    /// End it as a kill does.
    pub(crate) fn kill(mut self) -> Ledger {
        self.take_note();
        self.spool = None;
        self.ledger
    }
}

/// All octets of a source that never waits.
pub(crate) fn read(mut source: Box<dyn ContentSource>) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    loop {
        match source.poll(&silent()) {
            SourcePoll::Chunk(chunk) => octets.extend_from_slice(&chunk),
            SourcePoll::End => return Some(octets),
            SourcePoll::Failed => return None,
            SourcePoll::Pending => panic!("an inline source never waits"),
        }
    }
}

pub(crate) fn accepted(hop: HopId, size: u64) -> Accepted {
    Accepted {
        received_ms: NOW_MS,
        sender: "sender@contoso.example".into(),
        params: EnvelopeParams::default(),
        connector: "internet".into(),
        peer: "192.0.2.7".into(),
        helo: "client.example".into(),
        session: "s1".into(),
        form: Form::Wire,
        flags: ContentFlags::default(),
        size,
        message_id: "<1@client.example>".into(),
        subject: "A message".into(),
        recipients: vec![RecipientRecord { address: "you@fabrikam.example".into(), orcpt: None, notify: 0 }],
        entries: vec![EntryRecord {
            hop,
            recipients: vec![0],
            priority: 1,
            due_ms: NOW_MS,
            expires_ms: NOW_MS + 1,
            suspended: None,
        }],
    }
}

pub(crate) fn settled(queue_id: QueueId, hop: HopId, attempt: u32, state: OutcomeState) -> Fact {
    let disposition =
        if state.is_final() { Disposition::Finished } else { Disposition::Due { due_ms: NOW_MS + 900_000 } };
    Fact::Settled {
        queue_id,
        hop,
        attempt,
        disposition,
        outcomes: vec![Outcome {
            recipient: 0,
            state,
            stage: 8,
            code: 250,
            enhanced: "2.0.0".into(),
            text: "Ok".into(),
        }],
        peer: "192.0.2.1".into(),
        session: "c1".into(),
    }
}

impl Ledger {
    /// Check that a spool which was opened after a crash holds what was promised and nothing else.
    pub(crate) fn check(&self, bench: &mut Bench, what: &str) {
        assert_eq!(bench.recovery.damaged, 0, "{what}");
        let rows = bench.messages();
        let found: Vec<QueueId> = rows.iter().map(|row| row.queue_id).collect();
        for id in &found {
            let entry = self.0.get(id).unwrap_or_else(|| panic!("{what}: {id} was never handed in"));
            assert!(!entry.is_refused, "{what}: {id} was refused and is there");
            assert!(!entry.is_settled_surely, "{what}: {id} was settled and is back");
            let content = bench.content(*id).unwrap_or_else(|| panic!("{what}: {id} cannot be read"));
            assert!(content == entry.content, "{what}: {id} has other content");
        }
        for (id, entry) in &self.0 {
            let is_found = found.contains(id);
            assert!(
                is_found || !entry.is_acked || entry.is_settled,
                "{what}: {id} was acknowledged and is lost"
            );
            // A report and the failure that it reports are one.
            if let Some(cause) = entry.cause
                && self.0.get(&cause).is_some_and(|cause| cause.is_acked)
                && !entry.is_settled
            {
                assert_ne!(is_found, found.contains(&cause), "{what}: {id} and its cause are not one");
            }
        }
    }
}
