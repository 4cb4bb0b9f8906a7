//! The engine: one object that the caller polls and applies actions to.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use penstock_core::flow::{ContentSink, Offer, WakeHandle};
use penstock_core::queue_id::QueueId;
use penstock_net::{
    BeginChunks, ClientLimits, Conn, EventSink, FlightPart, Grant, Net, NetAction, NetConfig, NetEvent,
    Proxies,
};
use penstock_spool::{
    Accepted, Author, Clock, Device, Disposition, Draft, DraftRefused, Drafts, Edit, Fact, HopKind, Look,
    OpenError, Outcome, OutcomeState, Recovery, Report, Request, Spool, SpoolConfig, SpoolEvent, SpoolSink,
    SuspendedQueue, Target,
};

use crate::counters::{Counters, Sample, spool_samples, tls_samples};
use crate::event::Event;
use crate::hops::{Hop, Hops};
use crate::journal::{Journal, Line, now_ms};
use crate::mailbox::Mailbox;
use crate::maildir::{Job, Maildirs};
use crate::tickets::{Receipt, Tickets};

/// What an engine is built from.
pub struct EngineConfig {
    /// The spool's own settings.
    pub spool: SpoolConfig,
    /// The wire engine's own settings.
    pub net: NetConfig,
    /// File for one line per message event; `None` writes none.
    pub journal: Option<PathBuf>,
}

/// Why an engine could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The spool could not be opened.
    #[error(transparent)]
    Spool(#[from] OpenError),
    /// A file, thread or descriptor could not be had.
    #[error("{what}: {source}")]
    Io {
        /// What was being made.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// What the caller decided for a connection, or asks to be done.
#[allow(missing_docs, reason = "fields have the names and meanings of those of NetAction")]
pub enum Action {
    /// An action of the wire engine that needs nothing of the spool.
    Net(NetAction),
    /// Take the content that follows into this draft.
    Take { conn: Conn, turn: u32, draft: u64, limit_bytes: u64, reply: Bytes },
    /// Take the chunk that follows into this draft, with its limit and whether it is binary; or, if there is none, into
    /// the one that has the chunks before.
    TakeChunk { conn: Conn, turn: u32, begin: Option<(u64, u64, bool)>, reply: Bytes },
    /// Let the commit of this ticket answer.
    AwaitDurable { conn: Conn, turn: u32, ticket: u64, ok: Bytes, failed: Bytes, grant: Grant },
    /// Send a stored message; its Started record is written before its last octets leave.
    Content {
        conn: Conn,
        turn: u32,
        queue_id: QueueId,
        hop: u32,
        attempt: u32,
        peer: String,
        then: Vec<FlightPart>,
    },
    /// Write a stored message into a Maildir.
    Drop { request: u64, queue_id: QueueId, hop: u32, directory: PathBuf, prepend: Bytes },
}

/// A fact for the log, with what only the journal needs.
pub struct Settlement {
    /// The fact.
    pub fact: Fact,
    /// The hop's number, for its names.
    pub hop: u32,
    /// Recipient addresses, in the order of the fact's outcomes.
    pub addresses: Vec<String>,
}

/// Names of the stages of an attempt, by their number in the log.
pub const STAGES: [&str; 12] =
    ["connect", "banner", "ehlo", "tls", "auth", "mail", "rcpt", "data", "dot", "file", "route", "queue"];

struct Shared {
    mailbox: Arc<Mailbox>,
    drafts: Mutex<HashMap<u64, Draft>>,
    tickets: Tickets,
    journal: Journal,
    counters: Counters,
    net: OnceLock<Weak<Net>>,
    opener: OnceLock<Drafts>,
}

impl EventSink for Shared {
    fn push(&self, events: &mut Vec<NetEvent>) {
        self.mailbox.push(events.drain(..).map(|event| {
            Event::from_net(event, |draft, sink| {
                if let Ok(owned) = sink.into_any().downcast::<Draft>() {
                    self.drafts.lock().insert(draft, *owned);
                }
            })
        }));
    }

    fn open_draft(&self, size_hint: u64) -> Option<(u64, Box<dyn ContentSink>)> {
        let draft = self.opener.get()?.open(size_hint)?;
        Some((draft.queue_id().0, Box::new(draft)))
    }

    fn oldest_waits_ms(&self) -> u64 {
        self.mailbox.waits_ms()
    }
}

impl SpoolSink for Shared {
    fn push(&self, events: Vec<SpoolEvent>) {
        let done: Vec<(u64, bool)> = events
            .iter()
            .filter_map(|event| match event {
                SpoolEvent::Committed { ticket, .. } => Some((*ticket, true)),
                SpoolEvent::CommitFailed { ticket, .. } => Some((*ticket, false)),
                _ => None,
            })
            .collect();
        if !done.is_empty() {
            self.finish(&done);
        }
        self.mailbox.push(events.into_iter().map(|event| match event {
            SpoolEvent::Committed { ticket, queue_id, lsn } => Event::Committed { ticket, queue_id, lsn },
            SpoolEvent::CommitFailed { ticket, queue_id, error } => {
                Event::CommitFailed { ticket, queue_id, error }
            }
            SpoolEvent::Checkpoint { watermark } => Event::Checkpoint { watermark },
            SpoolEvent::Answer { request, answer } => Event::Answer { request, answer },
            SpoolEvent::Damaged { queue_id } => Event::Damaged { queue_id },
            SpoolEvent::Poisoned { errno, text } => Event::Poisoned { errno, text },
        }));
    }
}

impl Shared {
    /// Sends the prepared replies, then writes the journal: nobody waits for a log line.
    fn finish(&self, done: &[(u64, bool)]) {
        let finished = self.tickets.finish(done);
        let spoken: Vec<(Conn, u32, bool)> = finished
            .iter()
            .zip(done)
            .filter_map(|(finished, &(_, ok))| finished.waiter.map(|(conn, turn)| (conn, turn, ok)))
            .collect();
        if !spoken.is_empty() {
            self.complete(&spoken);
        }
        let mut lines = String::new();
        for (finished, &(_, ok)) in finished.into_iter().zip(done) {
            if let Some(receipt) = finished.receipt.filter(|_| ok) {
                self.counters.accepted(&receipt.connector, receipt.size);
                lines.push_str(&receipt.line);
            }
        }
        if !lines.is_empty() {
            self.journal.write(&lines);
        }
    }

    fn complete(&self, spoken: &[(Conn, u32, bool)]) {
        if let Some(net) = self.net.get().and_then(Weak::upgrade) {
            net.complete(spoken);
        }
    }
}

/// Spool, wire engine, Maildirs and journal as one.
///
/// All methods may be called from one thread at a time; none calls back.
pub struct Engine {
    shared: Arc<Shared>,
    spool: Option<Spool>,
    net: Option<Arc<Net>>,
    maildirs: Maildirs,
    hops: Hops,
    recovery: Recovery,
    inline: bool,
}

impl Engine {
    /// Opens the spool (recovering it) and starts the threads.
    ///
    /// **Blocking**: reads the log after the last checkpoint and syncs it anew.
    pub fn open(
        config: EngineConfig,
        device: Arc<dyn Device>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EngineError> {
        let io = |what: &str| {
            let what = what.to_owned();
            move |source| EngineError::Io { what, source }
        };
        let inline = config.spool.inline;
        let mailbox = Arc::new(Mailbox::new().map_err(io("eventfd"))?);
        let journal_name = config.journal.as_ref().map_or_else(String::new, |p| p.display().to_string());
        let journal = Journal::open(config.journal).map_err(io(&journal_name))?;
        let shared = Arc::new(Shared {
            mailbox: Arc::clone(&mailbox),
            drafts: Mutex::new(HashMap::new()),
            tickets: Tickets::default(),
            journal,
            counters: Counters::default(),
            net: OnceLock::new(),
            opener: OnceLock::new(),
        });
        let (spool, recovery) =
            Spool::open(config.spool, device, clock, Arc::clone(&shared) as Arc<dyn SpoolSink>)?;
        let net = Net::start(config.net, Arc::clone(&shared) as Arc<dyn EventSink>)
            .map(Arc::new)
            .map_err(io("network threads"))?;
        // A fresh OnceLock cannot be full.
        let _ = shared.opener.set(spool.drafts());
        let _ = shared.net.set(Arc::downgrade(&net));
        let maildirs = Maildirs::start(mailbox, inline).map_err(io("maildir thread"))?;
        let engine = Self {
            shared,
            spool: Some(spool),
            net: Some(net),
            maildirs,
            hops: Hops::default(),
            recovery,
            inline,
        };
        engine.journal_recovery();
        Ok(engine)
    }

    fn journal_recovery(&self) {
        let now = now_ms();
        let mut lines = Line::new("LOAD", now)
            .number("messages", self.recovery.messages)
            .number("in_doubt", self.recovery.in_doubt.len() as u64)
            .number("took_ms", self.recovery.took_ms)
            .number("damaged", self.recovery.damaged)
            .end();
        if let Some(salvaged) = &self.recovery.salvaged {
            let line = Line::new("SALVAGE", now)
                .text("cause", &salvaged.reason)
                .number("messages", salvaged.messages)
                .number("may_repeat", salvaged.may_repeat)
                .number("damaged", salvaged.damaged)
                .number("took_ms", salvaged.took_ms);
            lines.push_str(&line.end());
        }
        for doubt in &self.recovery.in_doubt {
            let line = Line::new("INDOUBT", now)
                .text("queue_id", &doubt.queue_id.to_string())
                .number("attempt", u64::from(doubt.attempt))
                .text("peer", &doubt.peer)
                .text("cause", "the process ended before the outcome was recorded");
            lines.push_str(&line.end());
        }
        self.shared.journal.write(&lines);
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().expect("invariant: the spool is open until close takes the engine")
    }

    fn net(&self) -> &Net {
        self.net.as_ref().expect("invariant: the wire engine runs until close takes the engine")
    }

    /// What was found when the spool was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The eventfd that is readable while [`Engine::poll`] has something.
    pub fn fileno(&self) -> RawFd {
        self.shared.mailbox.fileno()
    }

    /// Makes the eventfd readable once, for a caller that wants to be woken by another of its tasks.
    pub fn ring(&self) {
        self.shared.mailbox.ring();
    }

    /// Up to `limit` events; never blocks.
    ///
    /// With events a turn begins that ends with the next [`Engine::apply`]: what is handed to the log meanwhile is
    /// passed on there, all at once, so that it makes one group and wakes each thread once.
    pub fn poll(&self, limit: usize) -> Vec<Event> {
        let events = self.shared.mailbox.take(limit);
        if !events.is_empty() {
            self.spool().hold();
        }
        let told: Vec<u64> = events
            .iter()
            .filter_map(|event| match event {
                Event::Committed { ticket, .. } | Event::CommitFailed { ticket, .. } => Some(*ticket),
                _ => None,
            })
            .collect();
        if !told.is_empty() {
            self.shared.tickets.forget(&told);
        }
        events
    }

    /// Carries out what the caller decided, and ends its turn; never blocks on disk or peer.
    pub fn apply(&self, actions: Vec<Action>) {
        let mut for_net = Vec::with_capacity(actions.len());
        let mut spoken = Vec::new();
        for action in actions {
            match action {
                Action::Net(action) => for_net.push(action),
                Action::Take { conn, turn, draft, limit_bytes, reply } => {
                    // A draft that is gone (its message was refused meanwhile) leaves only the connection to end.
                    for_net.push(match self.shared.drafts.lock().remove(&draft) {
                        Some(owned) => {
                            let sink: Box<dyn ContentSink> = Box::new(owned);
                            NetAction::Take { conn, turn, draft, sink, limit_bytes, reply }
                        }
                        None => NetAction::Abort { conn },
                    });
                }
                Action::TakeChunk { conn, turn, begin: None, reply } => {
                    for_net.push(NetAction::TakeChunk { conn, turn, begin: None, reply });
                }
                Action::TakeChunk { conn, turn, begin: Some((draft, limit_bytes, is_binary)), reply } => {
                    for_net.push(match self.shared.drafts.lock().remove(&draft) {
                        Some(owned) => {
                            let sink: Box<dyn ContentSink> = Box::new(owned);
                            let begin = Some(BeginChunks { draft, sink, limit_bytes, is_binary });
                            NetAction::TakeChunk { conn, turn, begin, reply }
                        }
                        None => NetAction::Abort { conn },
                    });
                }
                Action::AwaitDurable { conn, turn, ticket, ok, failed, grant } => {
                    for_net.push(NetAction::AwaitDurable { conn, turn, ok, failed, grant });
                    if let Some(stored) = self.shared.tickets.wait(ticket, conn, turn) {
                        spoken.push((conn, turn, stored));
                    }
                }
                Action::Content { conn, turn, queue_id, hop, attempt, peer, then } => {
                    for_net.push(self.content_action(conn, turn, queue_id, hop, attempt, &peer, then));
                }
                Action::Drop { request, queue_id, hop, directory, prepend } => {
                    self.drop_into_maildir(request, queue_id, hop, directory, prepend);
                }
            }
        }
        self.spool().let_go();
        if !for_net.is_empty() {
            self.net().apply(for_net);
        }
        if !spoken.is_empty() {
            self.net().complete(&spoken);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one action")]
    fn content_action(
        &self,
        conn: Conn,
        turn: u32,
        queue_id: QueueId,
        hop: u32,
        attempt: u32,
        peer: &str,
        then: Vec<FlightPart>,
    ) -> NetAction {
        let Some(hop) = self.hops.id(hop) else { return NetAction::Abort { conn } };
        let stored = self.spool().content(queue_id);
        let gate = self.spool().started(queue_id, hop, attempt, peer);
        NetAction::Content {
            conn,
            turn,
            source: stored.source,
            form: stored.form,
            flags: stored.flags,
            gate,
            then,
        }
    }

    fn drop_into_maildir(
        &self,
        request: u64,
        queue_id: QueueId,
        hop: u32,
        directory: PathBuf,
        prepend: Bytes,
    ) {
        let Some(hop) = self.hops.id(hop) else { return };
        let stored = self.spool().content(queue_id);
        self.maildirs.deliver(Job {
            request,
            queue_id,
            hop: hop.0,
            directory,
            prepend,
            source: stored.source,
            form: stored.form,
        });
    }

    /// Opens a draft; its number is its queue id.
    pub fn draft(&self, size_hint: u64) -> Result<u64, DraftRefused> {
        let draft = self.spool().draft(size_hint)?;
        let queue_id = draft.queue_id().0;
        self.shared.drafts.lock().insert(queue_id, draft);
        Ok(queue_id)
    }

    /// Adds content to a draft that no connection is filling; `None` if there is no such draft.
    pub fn write_draft(&self, draft: u64, chunk: &[u8]) -> Option<Offer> {
        let waker = WakeHandle { wake: Arc::new(Silent), token: 0 };
        Some(self.shared.drafts.lock().get_mut(&draft)?.offer(chunk, &waker))
    }

    /// What reads drafts, from any thread.
    pub fn draft_reader(&self) -> DraftReader {
        DraftReader { shared: Arc::downgrade(&self.shared) }
    }

    /// Forgets a draft.
    pub fn drop_draft(&self, draft: u64) {
        let dropped = self.shared.drafts.lock().remove(&draft);
        drop(dropped);
    }

    /// Hands a draft to the writer; `None` if there is no such draft.
    ///
    /// **Durability**: none on return; [`Event::Committed`] with this ticket says that the message, and
    /// every fact in `cause`, survive power loss.
    ///
    /// `notes` are what else the journal's line says: names of fields and texts.
    pub fn commit(
        &self,
        draft: u64,
        accepted: Accepted,
        prepend: Bytes,
        cause: Vec<Settlement>,
        notes: &[(String, String)],
    ) -> Option<u64> {
        let draft = self.shared.drafts.lock().remove(&draft)?;
        let receipt = Receipt {
            line: if self.shared.journal.is_on() {
                receive_line(draft.queue_id(), &accepted, notes)
            } else {
                String::new()
            },
            connector: accepted.connector.clone(),
            size: accepted.size,
        };
        let facts = self.journal_facts(cause);
        let ticket = self.spool().commit(draft, accepted, prepend, facts);
        if let Some((true, receipt)) = self.shared.tickets.expect(ticket, receipt) {
            self.shared.counters.accepted(&receipt.connector, receipt.size);
            self.shared.journal.write(&receipt.line);
        }
        Some(ticket)
    }

    /// Appends facts to the log, in order.
    ///
    /// **Durability**: written at once (they survive the process), synced soon after.
    pub fn append(&self, settlements: Vec<Settlement>) -> u64 {
        let facts = self.journal_facts(settlements);
        self.spool().append(facts)
    }

    fn journal_facts(&self, settlements: Vec<Settlement>) -> Vec<Fact> {
        let mut lines = String::new();
        let now = now_ms();
        let facts = settlements
            .into_iter()
            .map(|settlement| {
                if let Fact::Settled { queue_id, attempt, disposition, outcomes, peer, session, .. } =
                    &settlement.fact
                    && let Some(hop) = self.hops.get(settlement.hop)
                {
                    for (outcome, address) in outcomes.iter().zip(&settlement.addresses) {
                        self.shared.counters.outcome(&hop.connector, outcome.state);
                        if self.shared.journal.is_on() {
                            let line =
                                outcome_line(now, *queue_id, &hop, *attempt, outcome, disposition, address)
                                    .text("peer", peer)
                                    .text("session", session);
                            lines.push_str(&line.end());
                        }
                    }
                }
                settlement.fact
            })
            .collect();
        if !lines.is_empty() {
            self.shared.journal.write(&lines);
        }
        facts
    }

    /// Asks the index; the answer is an [`Event::Answer`] with this number.
    pub fn request(&self, request: Request) -> u64 {
        self.spool().request(request)
    }

    /// Edits entries; the answer is an [`Event::Answer`] with this number.
    pub fn edit(&self, edit: Edit, author: Author, targets: Vec<Target>) -> u64 {
        self.spool().edit(edit, author, targets)
    }

    /// Removes an entry's recipients and stores the report of that, whose content is in a draft, as one; the answer is
    /// as for [`Engine::edit`]. `None` if there is no such draft.
    pub fn remove(&self, author: Author, target: Target, draft: u64, accepted: Accepted) -> Option<u64> {
        let draft = self.shared.drafts.lock().remove(&draft)?;
        let report = Report { draft, accepted, prepend: Bytes::new() };
        Some(self.spool().remove(author, target, report))
    }

    /// The delivery queues that operators have suspended, each with its hop's number.
    pub fn suspended_queues(&self) -> Vec<(u32, SuspendedQueue)> {
        let numbered = |queue: SuspendedQueue| {
            (self.hop(&queue.name.connector, queue.name.kind, &queue.name.destination), queue)
        };
        self.spool().suspended_queues().into_iter().map(numbered).collect()
    }

    /// Keeps that an operator has suspended a delivery queue, or without an author has resumed it; the answer is an
    /// [`Event::Answer`] with this number. `None` if there is no such hop.
    pub fn suspend_queue(&self, hop: u32, author: Option<Author>) -> Option<u64> {
        Some(self.spool().suspend_queue(self.hops.id(hop)?, author))
    }

    /// The number of a next hop.
    pub fn hop(&self, connector: &str, kind: HopKind, destination: &str) -> u32 {
        self.hops.register(self.spool(), connector, kind, destination)
    }

    /// The spool's name for the hop behind a number.
    pub fn hop_id(&self, number: u32) -> Option<penstock_spool::HopId> {
        self.hops.id(number)
    }

    /// The number of a hop, if it has one.
    pub fn known_hop(&self, id: penstock_spool::HopId) -> Option<u32> {
        self.hops.number(id)
    }

    /// Listens on an address; gives the address bound (port 0 asks for any).
    pub fn listen(
        &self,
        listener: u32,
        address: SocketAddr,
        proxies: Proxies,
    ) -> std::io::Result<SocketAddr> {
        self.net().listen(listener, address, proxies)
    }

    /// Stops accepting on a listener.
    pub fn stop_listening(&self, listener: u32) {
        self.net().stop_listening(listener);
    }

    /// Asks for a connection; its fate is an event.
    pub fn dial(&self, address: SocketAddr, source: Option<IpAddr>, limits: Arc<ClientLimits>) -> Conn {
        self.net().dial(address, source, limits)
    }

    /// Adds a line of the caller's to the journal.
    pub fn log(&self, line: &str) {
        self.shared.journal.write(line);
    }

    /// Everything that is counted, for the metrics endpoint.
    pub fn metrics(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        self.shared.counters.samples(&mut samples);
        spool_samples(&self.spool().statistics(), &mut samples);
        tls_samples(&self.net().statistics(), &mut samples);
        samples
    }

    /// The wire engine, for what only tests need.
    pub fn wire(&self) -> &Net {
        self.net()
    }

    /// Inline mode: runs both halves until nothing moves.
    pub fn step(&self, now_ms: u64) {
        debug_assert!(self.inline, "only an inline engine is stepped");
        // Each half can give the other work; four rounds carry a commit from the socket to its reply.
        for _ in 0..4 {
            self.net().step(now_ms);
            self.spool().step();
            self.maildirs.step();
        }
        self.net().step(now_ms);
    }

    /// Inline mode: when the next deadline is.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        match (self.net().next_deadline_ms(), self.spool().next_deadline_ms()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Ends everything: connections, then Maildirs, then a last sync and checkpoint, then the lock.
    ///
    /// **Durability**: on return every fact appended before survives power loss. **Blocking**: on disk.
    pub fn close(&mut self) {
        if let Some(net) = self.net.take() {
            net.stop();
        }
        self.maildirs.close();
        self.shared.drafts.lock().clear();
        if let Some(spool) = self.spool.take() {
            spool.close();
        }
        self.shared.journal.close();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

/// Between two looks at octets that are being written to a file.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Reads what drafts hold that no connection is filling, for as long as the engine is open.
pub struct DraftReader {
    shared: Weak<Shared>,
}

impl DraftReader {
    /// Reads up to `length` octets of a draft from an offset on, perhaps fewer, and none behind the last; `None` if there
    /// is no such draft. **Blocking**: on a disk if the content is large, but holding up nobody else.
    pub fn read(&self, draft: u64, offset: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some(shared) = self.shared.upgrade() else { return Ok(None) };
            let look = shared.drafts.lock().get(&draft).map(|draft| draft.look(offset, length));
            drop(shared);
            match look {
                None => return Ok(None),
                Some(Look::Octets(octets)) => return Ok(Some(octets)),
                Some(Look::File(part)) => return part.read().map(Some),
                Some(Look::Later) => thread::sleep(LOOK_AGAIN),
                Some(Look::Lost) => return Err(io::Error::other("the content could not be stored")),
            }
        }
    }
}

/// Wakes nobody: the caller of [`Engine::write_draft`] comes back by itself.
struct Silent;

impl penstock_core::flow::Wake for Silent {
    fn wake(&self, _token: u64) {}
}

fn receive_line(queue_id: QueueId, accepted: &Accepted, notes: &[(String, String)]) -> String {
    let line = Line::new("RECEIVE", now_ms())
        .text("queue_id", &queue_id.to_string())
        .text("connector", &accepted.connector)
        .text("peer", &accepted.peer)
        .text("session", &accepted.session)
        .text("sender", &accepted.sender)
        .number("recipients", accepted.recipients.len() as u64)
        .number("size", accepted.size)
        .text("message_id", &accepted.message_id);
    let line = notes.iter().fold(line, |line, (name, value)| line.text(name, value));
    match &accepted.params.more {
        Some(more) if !more.changes.is_empty() => line.text("changed", &more.changes.names()).end(),
        _ => line.end(),
    }
}

fn event_name(state: OutcomeState, kind: HopKind) -> &'static str {
    match state {
        OutcomeState::Delivered | OutcomeState::Relayed if kind == HopKind::Maildir => "DELIVER",
        OutcomeState::Delivered | OutcomeState::Relayed => "SEND",
        OutcomeState::Deferred => "DEFER",
        OutcomeState::InDoubt => "INDOUBT",
        _ => "FAIL",
    }
}

fn outcome_line(
    now: u64,
    queue_id: QueueId,
    hop: &Hop,
    attempt: u32,
    outcome: &Outcome,
    disposition: &Disposition,
    address: &str,
) -> Line {
    let line = Line::new(event_name(outcome.state, hop.kind), now)
        .text("queue_id", &queue_id.to_string())
        .text("connector", &hop.connector)
        .text("destination", &hop.destination)
        .text("recipient", address)
        .number("attempt", u64::from(attempt))
        .text("stage", STAGES.get(usize::from(outcome.stage)).copied().unwrap_or(""))
        .number("code", u64::from(outcome.code))
        .text("enhanced", &outcome.enhanced)
        .text("reply", &outcome.text);
    match disposition {
        Disposition::Due { due_ms } => line.number("due_ms", *due_ms),
        Disposition::Finished => line,
    }
}
