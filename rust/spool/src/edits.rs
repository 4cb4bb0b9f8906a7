//! Edits on their way: from who asks for them to the log.
//!
//! An edit is made right after a checkpoint, when the index has everything that was said before. From the moment it is
//! asked for, its message is watched: should anything be said of it that the index does not have yet, the edit waits
//! for the next checkpoint and is looked at again. So what the log says of an edit comes right behind the state that it
//! was made of, and nobody has to work out what the index would say with what is not in it. It is told when the record
//! is durable.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use parking_lot::Mutex;
use penstock_core::queue_id::QueueId;

use crate::core::Core;
use crate::draft::Sealed;
use crate::edit::{Author, Change, Edit, EditRecord, Editable, Edited, Target};
use crate::events::SpoolEvent;
use crate::facts::{Accepted, Fact, HopName, Lsn, Outcome, OutcomeState, RoutedTo};
use crate::inbox::{Commit, Named, Saying, Unsaid};
use crate::rows::Answer;

/// How often an edit is looked at again because its message is busy.
const ROUNDS_MAX: u8 = 8;
/// What the outcome of a recipient says that was removed; the code is the one that Exchange gives.
const REMOVED: (&str, &str) = ("4.3.2", "message removed by an administrator");

/// A report that is stored if the edit is made.
pub(crate) struct SealedReport {
    pub(crate) content: Sealed,
    pub(crate) accepted: Arc<Accepted>,
    pub(crate) hops: Vec<Arc<HopName>>,
    pub(crate) prepend: bytes::Bytes,
}

/// How far an edit has come.
enum State {
    /// To be made.
    Open { rounds: u8, report: Option<Box<SealedReport>> },
    /// Handed to the log, which may yet refuse it for want of room.
    Said { lsn: Lsn, is_refused: Arc<AtomicBool> },
    /// Over.
    Over(Edited),
}

/// One entry's edit.
pub(crate) struct Item {
    target: Target,
    state: State,
}

impl Item {
    pub(crate) fn new(target: Target, report: Option<Box<SealedReport>>) -> Self {
        Self { target, state: State::Open { rounds: 0, report } }
    }

    /// One that is over before it has begun, because there is no room for it now.
    pub(crate) fn busy(target: Target) -> Self {
        Self { target, state: State::Over(Edited::Busy) }
    }

    pub(crate) fn queue_id(&self) -> QueueId {
        self.target.queue_id
    }
}

/// Edits that were asked for together.
pub(crate) struct Asked {
    pub(crate) number: u64,
    pub(crate) edit: Edit,
    pub(crate) author: Author,
    pub(crate) items: Vec<Item>,
    /// What is next done for them needs this to be durable.
    pub(crate) lsn: Lsn,
}

impl Asked {
    /// Whether there are some to be made.
    pub(crate) fn is_open(&self) -> bool {
        self.items.iter().any(|item| matches!(item.state, State::Open { .. }))
    }

    /// Make those that can be made, of an index that has all up to `seen`.
    pub(crate) fn make(&mut self, core: &Core, seen: Lsn) {
        let (edit, author) = (self.edit, &self.author);
        for item in &mut self.items {
            let State::Open { rounds, report } = &mut item.state else { continue };
            let (target, rounds, report) = (item.target, *rounds, report.take());
            item.state = if core.inbox.has_news(target.queue_id, seen) {
                again(rounds, report)
            } else {
                make(core, edit, author, target, seen, rounds, report)
            };
            match item.state {
                State::Open { .. } => self.lsn = self.lsn.max(core.inbox.last_lsn()),
                State::Said { lsn, .. } => {
                    core.inbox.unwatch(target.queue_id);
                    self.lsn = self.lsn.max(lsn);
                }
                State::Over(_) => core.inbox.unwatch(target.queue_id),
            }
        }
    }

    /// Give up those that are to be made.
    pub(crate) fn give_up(&mut self, core: &Core) {
        for item in &mut self.items {
            if matches!(item.state, State::Open { .. }) {
                core.inbox.unwatch(item.target.queue_id);
                item.state = State::Over(Edited::Busy);
            }
        }
    }

    /// Tell what became of them: everything that was said is durable, or was refused.
    pub(crate) fn tell(self) -> SpoolEvent {
        let result = |item: Item| match item.state {
            State::Over(edited) => edited,
            State::Said { lsn, is_refused } if !is_refused.load(Relaxed) => Edited::Done { lsn },
            State::Said { .. } | State::Open { .. } => Edited::Busy,
        };
        let results = self.items.into_iter().map(result).collect();
        SpoolEvent::Answer { request: self.number, answer: Answer::Edited { results } }
    }
}

/// Make an edit, if the entry is as it was seen and there is something to do.
fn make(
    core: &Core,
    edit: Edit,
    author: &Author,
    target: Target,
    seen: Lsn,
    rounds: u8,
    report: Option<Box<SealedReport>>,
) -> State {
    let (number, version, change) = match decide(core, edit, target) {
        Ok(decided) => decided,
        Err(over) => return State::Over(over),
    };
    let (Target { queue_id, hop, .. }, author) = (target, author.clone());
    let fact = Fact::Edited(Box::new(EditRecord { queue_id, hop, number, version, author, change }));
    let fact = Named { hops: core.hops.of_fact(&fact), fact };
    say(core, queue_id, seen, fact, report, rounds)
}

/// Say that an edit is made, unless more has been said of its message than the index has.
fn say(
    core: &Core,
    queue_id: QueueId,
    seen: Lsn,
    fact: Named,
    report: Option<Box<SealedReport>>,
    rounds: u8,
) -> State {
    let is_refused = Arc::new(AtomicBool::new(false));
    let saying = match report {
        None => Saying::Facts(vec![fact]),
        Some(report) => {
            let SealedReport { content, accepted, hops, prepend } = *report;
            let refused = Some(Arc::clone(&is_refused));
            Saying::Commit(Box::new(Commit {
                content,
                accepted,
                hops,
                prepend,
                cause: vec![fact],
                refused,
                ticket: None,
            }))
        }
    };
    match core.inbox.push_unless(queue_id, seen, saying) {
        Ok(lsn) => State::Said { lsn, is_refused },
        Err(Unsaid::MoreWasSaid(saying)) => again(rounds, report_of(saying)),
        Err(Unsaid::Shut) => State::Over(Edited::Busy),
    }
}

/// Have an edit looked at once more, unless that was done often enough.
fn again(rounds: u8, report: Option<Box<SealedReport>>) -> State {
    if rounds < ROUNDS_MAX { State::Open { rounds: rounds + 1, report } } else { State::Over(Edited::Busy) }
}

fn report_of(saying: Saying) -> Option<Box<SealedReport>> {
    match saying {
        Saying::Commit(commit) => {
            let Commit { content, accepted, hops, prepend, .. } = *commit;
            Some(Box::new(SealedReport { content, accepted, hops, prepend }))
        }
        Saying::Facts(_) | Saying::Started { .. } | Saying::Move(_) => None,
    }
}

/// Look at an entry: what the edit comes to, as its number, the version and the change; or why nothing is to be done.
fn decide(core: &Core, edit: Edit, target: Target) -> Result<(u32, Lsn, Change), Edited> {
    // What cannot be read now may be read the next time.
    let found = core.index.with(|index| index.editable(target.queue_id, target.hop));
    let entry = found.map_err(|_| Edited::Busy)?.ok_or(Edited::Gone)?;
    let Editable { number, version, .. } = entry;
    // An edit that is made again, because nobody knows whether it was, has nothing to do.
    let change = change(edit, target, entry).ok_or(Edited::Unchanged { version })?;
    if target.version.is_some_and(|seen| seen != version) {
        return Err(Edited::Conflict { version });
    }
    Ok((number + 1, version, change))
}

/// What an edit changes in an entry, if it changes anything.
fn change(edit: Edit, target: Target, entry: Editable) -> Option<Change> {
    match edit {
        Edit::Suspend(suspension) => entry.suspended.is_none().then_some(Change::Suspended(suspension)),
        Edit::Resume => entry.suspended.is_some().then_some(Change::Resumed),
        Edit::Expire { expires_ms } => (entry.expires_ms != expires_ms).then_some(Change::Expiry(expires_ms)),
        Edit::Prioritise { priority } => (entry.priority != priority).then_some(Change::Priority(priority)),
        Edit::Due { due_ms } => (entry.due_ms != due_ms).then_some(Change::Due(due_ms)),
        Edit::Remove => Some(Change::Removed(entry.recipients.into_iter().map(removed).collect())),
        Edit::Redirect { to, due_ms } => (to != target.hop).then_some(Change::Redirected(RoutedTo {
            hop: to,
            recipients: entry.recipients,
            due_ms,
        })),
    }
}

fn removed(recipient: u32) -> Outcome {
    let (enhanced, text) = REMOVED;
    Outcome {
        recipient,
        state: OutcomeState::Removed,
        stage: 0,
        code: 0,
        enhanced: enhanced.into(),
        text: text.into(),
    }
}

/// What an operator has said of a delivery queue, on its way to `queues.toml`.
pub(crate) struct Word {
    pub(crate) number: u64,
    pub(crate) name: Arc<HopName>,
    /// Who suspends it; none if it is resumed.
    pub(crate) author: Option<Author>,
}

impl Word {
    /// Keep it. **Blocking** on disk.
    pub(crate) fn keep(self, core: &Core) -> SpoolEvent {
        let kept = core.queues.lock().set(&*core.device, self.name, self.author);
        let answer = match kept {
            Ok(()) => Answer::Done { lsn: core.durable() },
            Err(error) => Answer::Failed { text: error.to_string() },
        };
        SpoolEvent::Answer { request: self.number, answer }
    }
}

/// Edits that wait for the checkpointer, and how many have not been told yet.
#[derive(Default)]
pub(crate) struct Edits {
    asked: Mutex<Vec<Asked>>,
    words: Mutex<Vec<Word>>,
    waiting: AtomicUsize,
}

impl Edits {
    pub(crate) fn push(&self, asked: Asked) {
        self.waiting.fetch_add(1, Relaxed);
        self.asked.lock().push(asked);
    }

    pub(crate) fn push_word(&self, word: Word) {
        self.waiting.fetch_add(1, Relaxed);
        self.words.lock().push(word);
    }

    /// Take what was said of queues; it counts as waiting until [`Edits::told`].
    pub(crate) fn take_words(&self) -> Vec<Word> {
        std::mem::take(&mut self.words.lock())
    }

    /// Take what was asked for; it counts as waiting until [`Edits::told`].
    pub(crate) fn take(&self, into: &mut Vec<Asked>) {
        into.append(&mut self.asked.lock());
    }

    pub(crate) fn told(&self, count: usize) {
        self.waiting.fetch_sub(count, Relaxed);
    }

    /// Whether some have not been told.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }
}
