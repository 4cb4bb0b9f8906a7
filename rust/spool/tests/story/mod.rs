//! A spool on a disk in memory that is told a story, and a book of what it was told and what it has promised.
//!
//! Everything that is handed in is a *deed*; the log keeps deeds in order, so that after any crash a spool must hold the
//! state after the first `n` of them, for an `n` that is not below what it has promised. That says all at once: no
//! message that was acknowledged is lost, none that was settled for good is back, no part of a record is there without
//! the rest, what is in doubt is named, an edit that was told is made, every content is what was handed in, and there
//! is a blob for every message that needs one, and no other.
//!
//! What operators say of queues is not in the log: these *words* are kept in their own order, under the same promise.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod audit;
pub(crate) mod crash;
pub(crate) mod model;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use penstock_core::flow::{ContentSink, Gate, GateState, Offer};
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{FaultyDevice, ManualClock};
use penstock_spool::{
    Accepted, Answer, Author, Draft, Edit, Edited, EntryRecord, Fact, HopId, HopKind, HopName, Lsn,
    OpenError, OutcomeState, RecipientRecord, Recovery, Report, Request, Spool, SpoolConfig, SpoolEvent,
    SpoolSink, Target,
};

use self::model::{Accept, Count, Deed, Model, Seen, doubts, settled};
use crate::common::{self, NOW_MS, TRACE, silent};

/// How far the deeds are safe.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Default)]
pub(crate) struct Reach {
    /// Deeds that survive power loss, as the spool has said.
    pub(crate) durable: usize,
    /// Deeds that survive the process, as the spool has said.
    pub(crate) written: usize,
    /// Deeds that were handed in.
    pub(crate) handed: usize,
    /// Words that survive power loss, as the spool has said.
    pub(crate) told: usize,
    /// Words that were said.
    pub(crate) said: usize,
    /// Which run it is, from 1; 0 while the spool is being opened.
    pub(crate) run: u64,
}

/// What an operator has said of a delivery queue: who suspends it, or nobody if it is resumed.
pub(crate) type Word = (HopId, Option<Author>);

#[derive(Default)]
struct Book {
    deeds: Vec<Deed>,
    /// The numbers of the deeds that this run has handed in.
    lsns: Vec<(Lsn, usize)>,
    reach: Reach,
    /// Gates that were not open yet, by the number of deeds up to theirs.
    gates: Vec<(usize, Box<dyn Gate>)>,
    committed: Vec<Lsn>,
    answers: BTreeMap<u64, Answer>,
    words: Vec<Word>,
    /// The number of words up to the one that a request is about.
    asked: BTreeMap<u64, usize>,
    /// The number of deeds up to the first edit of a request.
    edits: BTreeMap<u64, usize>,
}

impl Book {
    fn up_to(&self, lsn: Lsn) -> usize {
        self.lsns.iter().take_while(|(own, _)| *own <= lsn).last().map_or(0, |&(_, count)| count)
    }

    fn is_durable(&mut self, lsn: Lsn) {
        self.reach.durable = self.reach.durable.max(self.up_to(lsn));
        self.reach.written = self.reach.written.max(self.reach.durable);
    }

    fn take(&mut self, event: SpoolEvent) {
        match event {
            SpoolEvent::Committed { lsn, .. } => {
                assert!(!self.committed.contains(&lsn), "{lsn} is acknowledged once");
                self.committed.push(lsn);
                self.is_durable(lsn);
            }
            SpoolEvent::Checkpoint { watermark } => self.is_durable(watermark),
            SpoolEvent::Answer { request, answer } => {
                match &answer {
                    Answer::Done { lsn } => {
                        self.is_durable(*lsn);
                        let told = self.asked.remove(&request).unwrap_or(0);
                        self.reach.told = self.reach.told.max(told);
                    }
                    Answer::Edited { results } => {
                        let first = self.edits.remove(&request).expect("it was asked for");
                        for (count, result) in (first..).zip(results) {
                            let Edited::Done { lsn } = result else {
                                panic!("every edit of this story can be made: {result:?}")
                            };
                            self.lsns.push((*lsn, count));
                            self.is_durable(*lsn);
                        }
                    }
                    _ => {}
                }
                self.answers.insert(request, answer);
            }
            SpoolEvent::CommitFailed { .. } | SpoolEvent::Poisoned { .. } | SpoolEvent::Damaged { .. } => {
                panic!("nothing fails in this story: {event:?}")
            }
        }
    }
}

/// Is told whenever something may have been promised since.
type Observer = Arc<dyn Fn(Reach) + Send + Sync>;

/// The book, shared by whoever hands in and whoever is told.
#[derive(Clone, Default)]
pub(crate) struct SharedBook {
    book: Arc<Mutex<Book>>,
    observer: Arc<Mutex<Option<Observer>>>,
}

impl SharedBook {
    /// How far things are safe at this moment.
    pub(crate) fn reach(&self) -> Reach {
        let mut book = self.book.lock();
        let mut written = book.reach.written;
        book.gates.retain_mut(|(count, gate)| {
            let is_open = gate.state(&silent()) == GateState::Open;
            written = if is_open { written.max(*count) } else { written };
            !is_open
        });
        book.reach.written = written;
        book.reach
    }

    pub(crate) fn deeds(&self) -> Vec<Deed> {
        self.book.lock().deeds.clone()
    }

    pub(crate) fn words(&self) -> Vec<Word> {
        self.book.lock().words.clone()
    }
}

impl SpoolSink for SharedBook {
    fn push(&self, events: Vec<SpoolEvent>) {
        let observer = self.observer.lock().clone();
        for event in events {
            if let Some(observer) = &observer {
                observer(self.reach());
            }
            self.book.lock().take(event);
        }
        if let Some(observer) = &observer {
            observer(self.reach());
        }
    }
}

/// Where blobs are.
pub(crate) const BLOBS: &str = "shard-00/blobs";

fn offer(draft: &mut Draft, content: &[u8]) {
    for part in content.chunks(10_000) {
        assert_eq!(draft.offer(part, &silent()), Offer::Taken);
    }
}

pub(crate) fn config(path: &Path) -> SpoolConfig {
    SpoolConfig { segment_bytes: 32 << 10, ..common::config(path) }
}

/// All hops of the stories.
pub(crate) fn names() -> BTreeMap<HopId, HopName> {
    let name = |connector: &str, kind, destination: &str| HopName {
        connector: connector.into(),
        kind,
        destination: destination.into(),
    };
    let names = [
        name("smart", HopKind::SmartHost, "mx.contoso.example"),
        name("internet", HopKind::Domain, "fabrikam.example"),
        name("local", HopKind::Maildir, "/var/mail"),
    ];
    names.into_iter().map(|name| (name.id(), name)).collect()
}

/// A spool that is driven by hand.
pub(crate) struct Story {
    pub(crate) device: FaultyDevice,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) book: SharedBook,
    pub(crate) model: Model,
    pub(crate) recovery: Recovery,
    config: SpoolConfig,
    spool: Option<Spool>,
}

impl Story {
    /// Begin one, or go on with what a book has.
    pub(crate) fn open(
        device: FaultyDevice,
        config: SpoolConfig,
        book: SharedBook,
        now_ms: u64,
    ) -> Result<Self, OpenError> {
        let clock = Arc::new(ManualClock::new(now_ms));
        let sink = Arc::new(book.clone());
        {
            let mut book = book.book.lock();
            book.lsns.clear();
            book.gates.clear();
            book.committed.clear();
            book.reach.run = 0;
        }
        let (spool, recovery) =
            Spool::open(config.clone(), Arc::new(device.clone()), Arc::clone(&clock) as _, sink)?;
        for name in names().into_values() {
            spool.register_hop(&name.connector, name.kind, &name.destination);
        }
        // What an open has found is durable, as soon as the index has it.
        if let Some(observer) = book.observer.lock().clone() {
            observer(book.reach());
        }
        let mut model = Model::default();
        {
            let mut book = book.book.lock();
            let (handed, said) = (book.deeds.len(), book.words.len());
            book.reach =
                Reach { durable: handed, written: handed, handed, told: said, said, run: recovery.epoch };
            book.deeds.iter().for_each(|deed| model.take(deed));
        }
        Ok(Self { device, clock, book, model, recovery, config, spool: Some(spool) })
    }

    /// Take the state that an open has found after a crash: the one after some number of deeds from `least` on. What was
    /// handed in later is forgotten.
    pub(crate) fn find(&mut self, least: usize, what: &str) -> usize {
        let (seen, names, deeds) = (self.seen(), names(), self.book.deeds());
        let mut model = Model::default();
        let mut found = None;
        for count in 0..=deeds.len() {
            if count > 0 {
                model.take(&deeds[count - 1]);
            }
            if count >= least && model.seen(&names) == seen {
                found = Some((count, model.clone()));
                break;
            }
        }
        let Some((count, model)) = found else {
            panic!("{what}: not the state after {least} to {} deeds, but {seen:#?}", deeds.len())
        };
        self.model = model;
        let mut book = self.book.book.lock();
        book.deeds.truncate(count);
        book.reach = Reach { durable: count, written: count, handed: count, ..book.reach };
        count
    }

    /// Have somebody told before and after every event, and before every call that changes the disk.
    pub(crate) fn observe(device: &FaultyDevice, book: &SharedBook, observer: &Observer) {
        *book.observer.lock() = Some(Arc::clone(observer));
        let (book, observer) = (book.clone(), Arc::clone(observer));
        device.watch(Arc::new(move |_| observer(book.reach())));
    }

    pub(crate) fn spool(&self) -> &Spool {
        self.spool.as_ref().expect("it is open")
    }

    /// Enter a deed that is going to be handed in as the next record.
    fn enter(&mut self, deed: Deed) {
        let lsn = self.spool().append(Vec::new()) + 1;
        let count = self.note(deed);
        self.book.book.lock().lsns.push((lsn, count));
    }

    /// Note a deed whose record comes in its turn; tells how many there are.
    fn note(&mut self, deed: Deed) -> usize {
        self.model.take(&deed);
        let mut book = self.book.book.lock();
        book.deeds.push(deed);
        book.reach.handed = book.deeds.len();
        book.reach.handed
    }

    /// A draft, what is to be offered to it, and what it is to become, with these recipients by hop.
    fn compose(&self, octets: usize, entries: &[(HopId, &[u32])]) -> (Draft, Vec<u8>, Accepted) {
        let draft = self.spool().draft(octets as u64).expect("there is room");
        let salt = self.book.book.lock().deeds.len();
        let content: Vec<u8> = (0..octets).map(|at| ((at * 31 + at / 251 + salt * 7) % 253) as u8).collect();
        let mut accepted = common::accepted(entries[0].0, (octets + TRACE.len()) as u64);
        let recipients = entries.iter().map(|(_, recipients)| recipients.len()).sum();
        let recipient =
            |at| RecipientRecord { address: format!("r{at}@fabrikam.example"), orcpt: None, notify: 4 };
        accepted.recipients = (0..recipients).map(recipient).collect();
        let entry = |(hop, recipients): &(HopId, &[u32])| EntryRecord {
            hop: *hop,
            recipients: recipients.to_vec(),
            priority: 1,
            due_ms: NOW_MS,
            expires_ms: NOW_MS + 1,
            suspended: None,
        };
        accepted.entries = entries.iter().map(entry).collect();
        (draft, content, accepted)
    }

    fn described(&self, draft: &Draft, content: &[u8], accepted: &Accepted, cause: Vec<Fact>) -> Accept {
        Accept {
            queue_id: draft.queue_id(),
            accepted: Arc::new(accepted.clone()),
            content: Arc::new([TRACE, content].concat()),
            is_in_blob: content.len() as u64 > self.config.blob_bytes,
            cause,
        }
    }

    /// Hand in a message for some recipients by hop, and facts in the same record.
    pub(crate) fn accept(&mut self, octets: usize, entries: &[(HopId, &[u32])], cause: Vec<Fact>) -> QueueId {
        let (mut draft, content, accepted) = self.compose(octets, entries);
        offer(&mut draft, &content);
        self.commit(draft, &content, accepted, cause)
    }

    /// The same, while the spool does what it can with a part of the content. What else is handed in meanwhile comes
    /// before the message.
    pub(crate) fn accept_slowly(
        &mut self,
        octets: usize,
        entries: &[(HopId, &[u32])],
        meanwhile: impl FnOnce(&mut Self),
    ) -> QueueId {
        let (mut draft, content, accepted) = self.compose(octets, entries);
        let (front, back) = content.split_at(octets * 2 / 3);
        offer(&mut draft, front);
        self.step();
        meanwhile(self);
        offer(&mut draft, back);
        self.commit(draft, &content, accepted, Vec::new())
    }

    /// Begin a message and give it up.
    pub(crate) fn give_up(&mut self, octets: usize) {
        let (mut draft, content, _) = self.compose(octets, &[(HopId(0), &[])]);
        offer(&mut draft, &content);
        self.step();
        drop(draft);
        self.step();
    }

    fn commit(&mut self, draft: Draft, content: &[u8], accepted: Accepted, cause: Vec<Fact>) -> QueueId {
        let accept = self.described(&draft, content, &accepted, cause.clone());
        let (queue_id, is_in_blob) = (accept.queue_id, accept.is_in_blob);
        self.enter(Deed::Accept(accept));
        self.spool().commit(draft, accepted, Bytes::from_static(TRACE), cause);
        if is_in_blob {
            // Its record takes its place when the blob is on the disk; here nothing comes before it.
            self.step();
        }
        queue_id
    }

    fn author(&self) -> Author {
        let said = self.book.reach().handed as u64;
        Author { who: "operator1".into(), why: format!("reason {said}"), at_ms: NOW_MS + said }
    }

    /// Edit entries, and wait for the answer.
    pub(crate) fn edit(&mut self, edit: Edit, entries: &[(QueueId, HopId)]) {
        let author = self.author();
        let deed = |&(queue_id, hop)| {
            let author = author.clone();
            Deed::Edit { queue_id, hop, edit, author, report: None }
        };
        let target = |&(queue_id, hop)| Target { queue_id, hop, version: None };
        let number =
            |story: &Self| story.spool().edit(edit, author.clone(), entries.iter().map(target).collect());
        self.make(entries.iter().map(deed).collect(), number);
    }

    /// Remove an entry with a report of so many octets, and wait for the answer; tells the report.
    pub(crate) fn remove(&mut self, queue_id: QueueId, hop: HopId, octets: usize, to: HopId) -> QueueId {
        let author = self.author();
        let (mut draft, content, accepted) = self.compose(octets, &[(to, &[0])]);
        offer(&mut draft, &content);
        let report = self.described(&draft, &content, &accepted, Vec::new());
        let told = report.queue_id;
        let (edit, report) = (Edit::Remove, Some(report));
        let deed = Deed::Edit { queue_id, hop, edit, author: author.clone(), report };
        self.make(vec![deed], |story| {
            let target = Target { queue_id, hop, version: None };
            let report = Report { draft, accepted, prepend: Bytes::from_static(TRACE) };
            story.spool().remove(author, target, report)
        });
        told
    }

    /// Have edits made, one record each. The log may say other things first: only the answer tells their numbers.
    fn make(&mut self, deeds: Vec<Deed>, ask: impl FnOnce(&Self) -> u64) {
        let first = self.book.reach().handed + 1;
        for deed in deeds {
            self.note(deed);
        }
        let number = ask(self);
        self.book.book.lock().edits.insert(number, first);
        self.step();
        let answer = self.book.book.lock().answers.remove(&number);
        assert!(matches!(answer, Some(Answer::Edited { .. })), "an inline spool answers at once: {answer:?}");
    }

    /// Say that a delivery queue is suspended or resumed, and wait until it is told.
    pub(crate) fn suspend_queue(&mut self, hop: HopId, is_suspended: bool) {
        let author = is_suspended.then(|| self.author());
        let count = {
            let mut book = self.book.book.lock();
            book.words.push((hop, author.clone()));
            book.reach.said = book.words.len();
            book.reach.said
        };
        let number = self.spool().suspend_queue(hop, author);
        self.book.book.lock().asked.insert(number, count);
        self.step();
        let answer = self.book.book.lock().answers.remove(&number);
        assert!(matches!(answer, Some(Answer::Done { .. })), "an inline spool answers at once: {answer:?}");
    }

    /// The delivery queues that it says are suspended.
    pub(crate) fn suspended_queues(&self) -> BTreeMap<HopId, Author> {
        self.spool().suspended_queues().into_iter().map(|queue| (queue.name.id(), queue.author)).collect()
    }

    /// Begin the next attempt of an entry; tells which it is.
    pub(crate) fn start(&mut self, queue_id: QueueId, hop: HopId) -> u32 {
        let entries = self.model.entries();
        let (.., attempt, _, _) = *entries
            .iter()
            .find(|entry| (entry.0, entry.1) == (queue_id, hop))
            .expect("there is such an entry");
        let peer = format!("192.0.2.{attempt}");
        self.enter(Deed::Start { queue_id, hop, attempt, peer: peer.clone() });
        let gate = self.spool().started(queue_id, hop, attempt, &peer);
        let mut book = self.book.book.lock();
        let count = book.deeds.len();
        book.gates.push((count, gate));
        attempt
    }

    pub(crate) fn facts(&mut self, facts: Vec<Fact>) {
        self.enter(Deed::Facts(facts.clone()));
        self.spool().append(facts);
    }

    /// Begin an attempt, and end it as is said for each recipient.
    pub(crate) fn attempt(&mut self, queue_id: QueueId, hop: HopId, outcomes: &[(u32, OutcomeState)]) {
        let attempt = self.start(queue_id, hop);
        self.step();
        self.facts(vec![settled(queue_id, hop, attempt, outcomes)]);
    }

    /// Have the spool do what it can: then everything that was handed in is written.
    pub(crate) fn step(&mut self) {
        self.spool().step();
        let mut book = self.book.book.lock();
        book.reach.written = book.reach.handed;
    }

    /// Let time go by, and have the spool do what is due then.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.clock.advance(ms);
        self.step();
    }

    pub(crate) fn ask(&mut self, request: Request) -> Answer {
        let number = self.spool().request(request);
        self.step();
        self.book.book.lock().answers.remove(&number).expect("an inline spool answers at once")
    }

    /// End it as a kill does, and tell what is on the disk then.
    pub(crate) fn kill(mut self) -> FaultyDevice {
        self.spool = None;
        self.device.after_kill()
    }

    /// End it in order.
    pub(crate) fn close(mut self) -> FaultyDevice {
        if let Some(spool) = self.spool.take() {
            spool.close();
        }
        let mut book = self.book.book.lock();
        let handed = book.reach.handed;
        book.reach = Reach { durable: handed, written: handed, ..book.reach };
        drop(book);
        self.device.after_kill()
    }

    /// All that can be seen of it.
    pub(crate) fn seen(&mut self) -> Seen {
        let Answer::Messages { mut rows, next: None, .. } =
            self.ask(Request::Messages { after: None, limit: 10_000, hop: None })
        else {
            panic!("no page")
        };
        // The number of the record that said something last depends on when the crash came.
        rows.iter_mut().flat_map(|row| &mut row.entries).for_each(|entry| entry.version = 0);
        let Answer::Hops { rows: hops, .. } = self.ask(Request::Hops) else { panic!("no hops") };
        let request = Request::Expired { now_ms: u64::MAX, limit: 10_000 };
        let Answer::Entries { rows: expiring, .. } = self.ask(request) else { panic!("no entries") };
        let content = |id| common::read(self.spool().content(id).source).map(Arc::new);
        Seen {
            contents: rows.iter().map(|row| (row.queue_id, content(row.queue_id))).collect(),
            messages: rows,
            in_doubt: doubts(&self.recovery.in_doubt),
            hops: hops
                .iter()
                .filter(|row| row.state != 0)
                .map(|row| (row.hop, (row.state, row.last_error.clone(), row.next_retry_ms, row.failures)))
                .collect(),
            counts: hops
                .iter()
                .filter(|row| row.count > 0)
                .map(|row| {
                    let count = Count {
                        entries: row.count,
                        octets: row.bytes,
                        suspended: row.suspended,
                        due_ms: row.earliest_due_ms,
                    };
                    (row.hop, count)
                })
                .collect(),
            expiring: expiring.iter().map(|row| (row.queue_id, row.hop)).collect(),
            blobs: self.device.names(&self.config.path.join(BLOBS)).into_iter().collect(),
        }
    }
}
