//! What waits for an index that fails must not grow without end: records that later ones make void are left out.
//!
//! New mail is refused when the index is too far behind, but what is in the queue is delivered, or tried again, for as
//! long as that takes. So of the states of a hop only the last is kept, and of attempts that came to nothing only the
//! last of each entry. What is left is bounded by messages and hops, not by time.
//!
//! It relies on this: the outcomes of an attempt are of recipients that the entry has when the record is made.

use std::collections::HashMap;

use penstock_core::queue_id::QueueId;

use crate::facts::{Disposition, Fact, HopId, Outcome};
use crate::redo::Redo;

/// Leave out what makes no difference when all of it is applied at once.
pub(crate) fn fold(redo: &mut Vec<Redo>) {
    let mut void = Void(vec![false; redo.len()]);
    let mut states: HashMap<HopId, usize> = HashMap::new();
    let mut entries: HashMap<QueueId, HashMap<HopId, Attempts>> = HashMap::new();
    for (at, one) in redo.iter().enumerate() {
        match one {
            Redo::Fact { fact: Fact::Hop { hop, .. }, .. } => {
                void.extend(states.insert(*hop, at));
            }
            Redo::Fact {
                fact: Fact::Settled { queue_id, hop, attempt, disposition, outcomes, .. }, ..
            } => {
                let attempts = entries.entry(*queue_id).or_default().entry(*hop).or_default();
                attempts.settle(at, *attempt, *disposition, outcomes, &mut void);
            }
            Redo::Started { queue_id, hop, attempt, .. } => {
                let attempts = entries.entry(*queue_id).or_default().entry(*hop).or_default();
                attempts.begun.push((at, *attempt));
            }
            // Recipients come and go: what was before is not compared with what comes.
            Redo::Accepted { queue_id, .. }
            | Redo::Moved { queue_id, .. }
            | Redo::Fact { fact: Fact::Routed { queue_id, .. }, .. } => {
                entries.remove(queue_id);
            }
            Redo::Fact { fact: Fact::Edited(record), .. } => {
                entries.remove(&record.queue_id);
            }
        }
    }
    let mut at = 0;
    redo.retain(|_| {
        at += 1;
        !void.has(at - 1)
    });
    redo.shrink_to_fit();
}

/// Places of records that make no difference.
struct Void(Vec<bool>);

impl Void {
    fn extend(&mut self, places: impl IntoIterator<Item = usize>) {
        for at in places {
            if let Some(is_void) = self.0.get_mut(at) {
                *is_void = true;
            }
        }
    }

    fn has(&self, at: usize) -> bool {
        self.0.get(at).is_some_and(|is_void| *is_void)
    }
}

/// The end of an attempt after which all of its recipients are still there.
struct Vain {
    at: usize,
    attempt: u32,
    recipients: Vec<u32>,
}

/// Attempts of an entry.
#[derive(Default)]
struct Attempts {
    begun: Vec<(usize, u32)>,
    /// The last in vain, and the last that had no number: neither depends on the other.
    numbered: Option<Vain>,
    unnumbered: Option<Vain>,
}

impl Attempts {
    fn settle(
        &mut self,
        at: usize,
        attempt: u32,
        disposition: Disposition,
        outcomes: &[Outcome],
        void: &mut Void,
    ) {
        let mut recipients: Vec<u32> = outcomes.iter().map(|outcome| outcome.recipient).collect();
        recipients.sort_unstable();
        let is_due = matches!(disposition, Disposition::Due { .. });
        let place = if attempt == 0 { &mut self.unnumbered } else { &mut self.numbered };
        if let Some(last) = place.take_if(|last| is_due && last.is_outdone(attempt, &recipients)) {
            let is_begun = self.begun.iter().any(|&(begun, number)| begun > last.at && number == attempt);
            // One without outcomes counts whatever recipients there are; one with others', only if it was begun.
            if !last.recipients.is_empty() || recipients.is_empty() || is_begun {
                let begun =
                    self.begun.extract_if(.., |(begun, number)| *begun < last.at && *number <= last.attempt);
                void.extend(begun.map(|(begun, _)| begun));
                void.extend([last.at]);
            }
        }
        if is_due && outcomes.iter().all(|outcome| !outcome.state.is_final()) {
            *place = Some(Vain { at, attempt, recipients });
        } else {
            (self.numbered, self.unnumbered) = (None, None);
        }
    }
}

impl Vain {
    /// Whether a later end of an attempt says all that this one does.
    fn is_outdone(&self, attempt: u32, recipients: &[u32]) -> bool {
        (attempt == 0 || attempt > self.attempt)
            && self.recipients.iter().all(|index| recipients.binary_search(index).is_ok())
    }
}
