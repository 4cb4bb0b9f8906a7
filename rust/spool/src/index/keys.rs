//! The keys: big-endian, so that their order is the order of what they say; the longest has 33 octets of LMDB's 511.

use penstock_core::queue_id::QueueId;

use crate::facts::HopId;

use super::codec::{Malformed, Reader};

/// Key of `message`; the beginning of the keys of `recipient`, `entry` and `started`.
pub(super) fn message(queue_id: QueueId) -> [u8; 8] {
    queue_id.0.to_be_bytes()
}

pub(super) fn read_message(key: &[u8]) -> Result<QueueId, Malformed> {
    read(key, |reader| reader.array().map(queue_id))
}

/// Key of `recipient`: the message, and which 64 of its recipients.
pub(super) fn recipient(queue_id: QueueId, block: u32) -> [u8; 12] {
    join(&[&queue_id.0.to_be_bytes(), &block.to_be_bytes()])
}

pub(super) fn read_recipient(key: &[u8]) -> Result<(QueueId, u32), Malformed> {
    read(key, |reader| Ok((queue_id(reader.array()?), u32::from_be_bytes(reader.array()?))))
}

/// Key of `entry` and `started`: a message's entries stand together.
pub(super) fn entry(queue_id: QueueId, hop: HopId) -> [u8; 24] {
    join(&[&queue_id.0.to_be_bytes(), &hop.0.to_be_bytes()])
}

pub(super) fn read_entry(key: &[u8]) -> Result<(QueueId, HopId), Malformed> {
    read(key, |reader| Ok((queue_id(reader.array()?), hop_id(reader.array()?))))
}

/// Key of `hop`; the beginning of the keys of `ready` and `arrival`.
pub(super) fn hop(hop: HopId) -> [u8; 16] {
    hop.0.to_be_bytes()
}

pub(super) fn read_hop(key: &[u8]) -> Result<HopId, Malformed> {
    read(key, |reader| reader.array().map(hop_id))
}

/// Key of `arrival`: a hop's entries by the age of their messages.
pub(super) fn arrival(hop: HopId, queue_id: QueueId) -> [u8; 24] {
    join(&[&hop.0.to_be_bytes(), &queue_id.0.to_be_bytes()])
}

pub(super) fn read_arrival(key: &[u8]) -> Result<(HopId, QueueId), Malformed> {
    read(key, |reader| Ok((hop_id(reader.array()?), queue_id(reader.array()?))))
}

/// A place in `ready`: a hop's entries in the order in which they are to be tried.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(super) struct Ready {
    pub(super) hop: HopId,
    pub(super) priority: u8,
    pub(super) due_ms: u64,
    pub(super) queue_id: QueueId,
}

impl Ready {
    pub(super) fn key(self) -> [u8; 33] {
        join(&[
            &self.hop.0.to_be_bytes(),
            &[self.priority],
            &self.due_ms.to_be_bytes(),
            &self.queue_id.0.to_be_bytes(),
        ])
    }

    pub(super) fn read(key: &[u8]) -> Result<Self, Malformed> {
        read(key, |reader| {
            Ok(Self {
                hop: hop_id(reader.array()?),
                priority: reader.octet()?,
                due_ms: u64::from_be_bytes(reader.array()?),
                queue_id: queue_id(reader.array()?),
            })
        })
    }
}

/// What a row of `timer` is there for. The numbers are written to disk.
pub(super) const TIMER_EXPIRY: u8 = 1;

/// A place in `timer`: what is to be done to entries, by kind and then by time.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(super) struct Timer {
    pub(super) kind: u8,
    pub(super) at_ms: u64,
    pub(super) queue_id: QueueId,
    pub(super) hop: HopId,
}

impl Timer {
    pub(super) fn key(self) -> [u8; 33] {
        join(&[
            &[self.kind],
            &self.at_ms.to_be_bytes(),
            &self.queue_id.0.to_be_bytes(),
            &self.hop.0.to_be_bytes(),
        ])
    }

    pub(super) fn read(key: &[u8]) -> Result<Self, Malformed> {
        read(key, |reader| {
            Ok(Self {
                kind: reader.octet()?,
                at_ms: u64::from_be_bytes(reader.array()?),
                queue_id: queue_id(reader.array()?),
                hop: hop_id(reader.array()?),
            })
        })
    }
}

/// Key of `kept`: finished messages by the end of their time.
pub(super) fn kept(until_ms: u64, queue_id: QueueId) -> [u8; 16] {
    join(&[&until_ms.to_be_bytes(), &queue_id.0.to_be_bytes()])
}

pub(super) fn read_kept(key: &[u8]) -> Result<(u64, QueueId), Malformed> {
    read(key, |reader| Ok((u64::from_be_bytes(reader.array()?), queue_id(reader.array()?))))
}

/// Key of `segment`.
pub(super) fn segment(segment: u64) -> [u8; 8] {
    segment.to_be_bytes()
}

pub(super) fn read_segment(key: &[u8]) -> Result<u64, Malformed> {
    read(key, |reader| reader.array().map(u64::from_be_bytes))
}

fn queue_id(octets: [u8; 8]) -> QueueId {
    QueueId(u64::from_be_bytes(octets))
}

fn hop_id(octets: [u8; 16]) -> HopId {
    HopId(u128::from_be_bytes(octets))
}

fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    let mut rest = &mut key[..];
    for part in parts {
        let (place, behind) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = behind;
    }
    debug_assert!(rest.is_empty(), "invariant: the parts fill the key");
    key
}

fn read<'a, T>(
    key: &'a [u8],
    parts: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut reader = Reader::new(key);
    let parts = parts(&mut reader)?;
    reader.finish().map(|()| parts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn round_trip<T: PartialEq + std::fmt::Debug>(
        key: &[u8],
        value: &T,
        read: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<(), TestCaseError> {
        prop_assert!(key.len() <= 511);
        let whole = read(key);
        prop_assert_eq!(whole.as_ref(), Ok(value));
        for end in 0..key.len() {
            prop_assert!(read(&key[..end]).is_err());
        }
        prop_assert!(read(&[key, &[0]].concat()).is_err());
        Ok(())
    }

    proptest! {
        #[test]
        fn keys_come_back_whole_or_not_at_all(id: u64, hash: u128, at_ms: u64, priority: u8) {
            let (queue_id, hop_id) = (QueueId(id), HopId(hash));
            round_trip(&message(queue_id), &queue_id, read_message)?;
            round_trip(&entry(queue_id, hop_id), &(queue_id, hop_id), read_entry)?;
            round_trip(&hop(hop_id), &hop_id, read_hop)?;
            round_trip(&arrival(hop_id, queue_id), &(hop_id, queue_id), read_arrival)?;
            round_trip(&segment(id), &id, read_segment)?;
            round_trip(&kept(at_ms, queue_id), &(at_ms, queue_id), read_kept)?;
            let ready = Ready { hop: hop_id, priority, due_ms: at_ms, queue_id };
            round_trip(&ready.key(), &ready, Ready::read)?;
            let timer = Timer { kind: TIMER_EXPIRY, at_ms, queue_id, hop: hop_id };
            round_trip(&timer.key(), &timer, Timer::read)?;
        }

        #[test]
        fn keys_are_in_the_order_of_what_they_say(
            (a, b) in (any::<(u128, u8, u64, u64)>(), any::<(u128, u8, u64, u64)>()),
            same in 0..4_u8,
        ) {
            let ready = |(hop, priority, due_ms, id): (u128, u8, u64, u64)| Ready {
                hop: HopId(hop), priority, due_ms, queue_id: QueueId(id),
            };
            let timer = |(hop, kind, at_ms, id): (u128, u8, u64, u64)| Timer {
                kind, at_ms, queue_id: QueueId(id), hop: HopId(hop),
            };
            let b = (
                if same > 0 { a.0 } else { b.0 },
                if same > 1 { a.1 } else { b.1 },
                if same > 2 { a.2 } else { b.2 },
                b.3,
            );
            prop_assert_eq!(ready(a).key().cmp(&ready(b).key()), ready(a).cmp(&ready(b)));
            prop_assert_eq!(timer(a).key().cmp(&timer(b).key()), timer(a).cmp(&timer(b)));
            let pair = |(hop, _, _, id): (u128, u8, u64, u64)| (HopId(hop), QueueId(id));
            let (a, b) = (pair(a), pair(b));
            prop_assert_eq!(arrival(a.0, a.1).cmp(&arrival(b.0, b.1)), a.cmp(&b));
            prop_assert_eq!(entry(a.1, a.0).cmp(&entry(b.1, b.0)), (a.1, a.0).cmp(&(b.1, b.0)));
        }
    }
}
