//! Which records a recovery need not append again: those about messages that came and went in what it found.

use std::collections::{HashMap, HashSet};

use penstock_core::queue_id::QueueId;

use crate::facts::{Accepted, Fact, HopId, Outcome, OutcomeState};
use crate::redo::Redo;
use crate::scan::Found;

/// For each record, whether it must be kept. A record is what it says, in the order of the log.
///
/// A message is gone if it was accepted here, went where it was first routed, and the last outcome of each of its
/// recipients is final; what is less plain is left to the index. A record that says
/// something else as well stays whole; if it is the one that accepts a message, everything about that message stays, or
/// the message would come back.
pub(crate) fn kept(records: &[Found]) -> Vec<bool> {
    let mut gone = gone(records);
    loop {
        let keeps =
            |record: &Found| record.redo.iter().any(|one| one.subject().is_none_or(|id| !gone.contains(&id)));
        let kept: Vec<bool> = records.iter().map(keeps).collect();
        let accepted_again: Vec<QueueId> = records
            .iter()
            .zip(&kept)
            .filter(|(_, kept)| **kept)
            .flat_map(|(record, _)| &record.redo)
            .filter_map(|one| match one {
                Redo::Accepted { queue_id, .. } if gone.contains(queue_id) => Some(*queue_id),
                _ => None,
            })
            .collect();
        if accepted_again.is_empty() {
            return kept;
        }
        gone.retain(|id| !accepted_again.contains(id));
    }
}

/// What is known of a message that was accepted here.
#[derive(Default)]
struct Fate {
    /// The hop and the last outcome of each recipient.
    recipients: Vec<(Option<HopId>, Option<OutcomeState>)>,
    /// The last attempt told of, by hop.
    attempts: HashMap<HopId, u32>,
    /// It was routed anew or edited, or told of in another order than things happen: only the index can say what that comes to.
    is_unclear: bool,
}

impl Fate {
    fn new(accepted: &Accepted) -> Self {
        let mut fate = Self { recipients: vec![(None, None); accepted.recipients.len()], ..Self::default() };
        for entry in &accepted.entries {
            for &index in &entry.recipients {
                match fate.recipients.get_mut(index as usize) {
                    Some((hop @ None, _)) => *hop = Some(entry.hop),
                    _ => fate.is_unclear = true,
                }
            }
        }
        fate
    }

    fn settle(&mut self, hop: HopId, attempt: u32, outcomes: &[Outcome]) {
        let last = self.attempts.entry(hop).or_default();
        if attempt != 0 {
            self.is_unclear |= attempt <= *last;
            *last = attempt;
        }
        for outcome in outcomes {
            match self.recipients.get_mut(outcome.recipient as usize) {
                Some((Some(own), state)) if *own == hop => *state = Some(outcome.state),
                _ => self.is_unclear = true,
            }
        }
    }

    fn is_gone(&self) -> bool {
        !self.is_unclear && self.recipients.iter().all(|(_, state)| state.is_some_and(OutcomeState::is_final))
    }
}

fn gone(records: &[Found]) -> HashSet<QueueId> {
    let mut fates: HashMap<QueueId, Fate> = HashMap::new();
    for one in records.iter().flat_map(|record| &record.redo) {
        match one {
            Redo::Accepted { queue_id, accepted, .. } => {
                fates.entry(*queue_id).or_insert_with(|| Fate::new(accepted));
            }
            Redo::Fact { fact, .. } => match fact {
                Fact::Settled { queue_id, hop, attempt, outcomes, .. } => {
                    if let Some(fate) = fates.get_mut(queue_id) {
                        fate.settle(*hop, *attempt, outcomes);
                    }
                }
                Fact::Routed { queue_id, .. } => {
                    if let Some(fate) = fates.get_mut(queue_id) {
                        fate.is_unclear = true;
                    }
                }
                Fact::Edited(record) => {
                    if let Some(fate) = fates.get_mut(&record.queue_id) {
                        fate.is_unclear = true;
                    }
                }
                Fact::Hop { .. } => {}
            },
            Redo::Moved { queue_id, .. } => {
                if let Some(fate) = fates.get_mut(queue_id) {
                    fate.is_unclear = true;
                }
            }
            Redo::Started { .. } => {}
        }
    }
    fates.into_iter().filter(|(_, fate)| fate.is_gone()).map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::sync::Arc;

    use penstock_core::flow::{ContentFlags, Form};

    use super::*;
    use crate::edit::{Author, Change, EditRecord, Suspension};
    use crate::facts::{Disposition, EntryRecord, EnvelopeParams, RecipientRecord, RoutedTo};
    use crate::format::record::RecordHeader;
    use crate::redo::Location;

    const A: HopId = HopId(1);
    const B: HopId = HopId(2);

    /// A message with recipients 0 and 1 for hop A, and 2 for hop B.
    fn accepted(id: u64) -> Redo {
        let entry = |hop, recipients| EntryRecord {
            hop,
            recipients,
            priority: 1,
            due_ms: 0,
            expires_ms: 0,
            suspended: None,
        };
        let recipient = RecipientRecord { address: String::new(), orcpt: None, notify: 0 };
        let accepted = Accepted {
            received_ms: 0,
            sender: String::new(),
            params: EnvelopeParams::default(),
            connector: String::new(),
            peer: String::new(),
            helo: String::new(),
            session: String::new(),
            form: Form::Wire,
            flags: ContentFlags::default(),
            size: 0,
            message_id: String::new(),
            subject: String::new(),
            recipients: vec![recipient; 3],
            entries: vec![entry(A, vec![0, 1]), entry(B, vec![2])],
        };
        let location = Location { segment: 1, offset: 0, length: 0, record_bytes: 0, blob: None };
        Redo::Accepted {
            lsn: 1,
            queue_id: QueueId(id),
            accepted: Arc::new(accepted),
            location,
            hops: Vec::new(),
        }
    }

    fn settled(id: u64, hop: HopId, attempt: u32, outcomes: &[(u32, OutcomeState)]) -> Redo {
        let outcome = |&(recipient, state)| Outcome {
            recipient,
            state,
            stage: 0,
            code: 0,
            enhanced: String::new(),
            text: String::new(),
        };
        let fact = Fact::Settled {
            queue_id: QueueId(id),
            hop,
            attempt,
            disposition: Disposition::Finished,
            outcomes: outcomes.iter().map(outcome).collect(),
            peer: String::new(),
            session: String::new(),
        };
        Redo::Fact { lsn: 1, fact, hops: Vec::new() }
    }

    fn kept_of(records: Vec<Vec<Redo>>) -> Vec<bool> {
        let header = RecordHeader {
            nonce: 0,
            lsn: 1,
            previous: 0,
            origin: 1,
            durable: 0,
            body_length: 0,
            body_sum: 0,
            content_length: 0,
            content_sum: 0,
        };
        let found = |redo| Found { segment: 0, offset: 0, header, redo };
        kept(&records.into_iter().map(found).collect::<Vec<_>>())
    }

    use OutcomeState::{Deferred, Delivered, Failed, InDoubt};

    #[test]
    fn what_came_and_went_is_not_kept() {
        let records = vec![
            vec![accepted(1)],
            vec![settled(1, A, 1, &[(0, Delivered), (1, Deferred)])],
            vec![settled(1, B, 1, &[(2, Failed)])],
            vec![settled(1, A, 2, &[(1, Delivered)])],
        ];
        assert_eq!(kept_of(records), [false; 4]);
    }

    #[test]
    fn whatever_is_not_plainly_gone_is_kept() {
        let end = || vec![settled(1, A, 1, &[(0, Delivered), (1, Delivered)])];
        let last = |redo| vec![vec![accepted(1)], end(), vec![redo]];
        let routed = Fact::Routed {
            queue_id: QueueId(1),
            from: B,
            to: vec![RoutedTo { hop: A, recipients: vec![2], due_ms: 0 }],
        };
        let moved = Redo::Fact { lsn: 1, fact: routed, hops: Vec::new() };
        for (what, records) in [
            ("one is left", vec![vec![accepted(1)], end()]),
            ("one is deferred", last(settled(1, B, 1, &[(2, Deferred)]))),
            ("one is in doubt after all", last(settled(1, B, 1, &[(2, Delivered), (2, InDoubt)]))),
            ("an outcome for another hop", last(settled(1, A, 2, &[(2, Delivered)]))),
            ("an attempt that comes again", {
                let again = vec![settled(1, B, 1, &[(2, Deferred)])];
                vec![vec![accepted(1)], end(), again, vec![settled(1, B, 1, &[(2, Delivered)])]]
            }),
            ("it was routed anew", {
                let moved = vec![moved, settled(1, A, 2, &[(2, Delivered)])];
                vec![vec![accepted(1)], vec![settled(1, B, 1, &[(2, Delivered)])], end(), moved]
            }),
            ("it was edited", {
                let (author, change) = (Author::default(), Change::Suspended(Suspension::Operator));
                let (queue_id, number, version) = (QueueId(1), 1, 1);
                let record = EditRecord { queue_id, hop: B, number, version, author, change };
                let fact = Fact::Edited(Box::new(record));
                let edited = Redo::Fact { lsn: 1, fact, hops: Vec::new() };
                vec![vec![accepted(1)], vec![settled(1, B, 1, &[(2, Delivered)])], end(), vec![edited]]
            }),
            ("it was accepted before", vec![end(), vec![settled(1, B, 1, &[(2, Delivered)])]]),
        ] {
            let kept = kept_of(records);
            assert!(kept.iter().all(|&kept| kept), "{what}");
        }
    }

    #[test]
    fn a_message_whose_acceptance_stays_in_the_log_stays_whole() {
        let gone = |id| {
            [
                vec![settled(id, A, 1, &[(0, Delivered), (1, Delivered)])],
                vec![settled(id, B, 1, &[(2, Delivered)])],
            ]
        };
        // The report 1 came and went, but its record also says that 2, which is not gone, has failed in part.
        let mut records = vec![vec![accepted(2)], vec![accepted(1), settled(2, A, 1, &[(0, Failed)])]];
        records.extend(gone(1));
        records.push(vec![accepted(3)]);
        records.extend(gone(3));
        assert_eq!(kept_of(records), [true, true, true, true, false, false, false]);
    }
}
