//! The queue id: 64 bits that name a message on every node, for ever.
//!
//! From the most significant bit: 42 bits of milliseconds since 2020-01-01 UTC, 10 bits of node and shard, 12 bits of a
//! counter. Ids therefore sort by time of arrival. That none repeats, also when the clock steps back, is the care of
//! whoever composes them.

use std::fmt;
use std::str::FromStr;

/// 2020-01-01T00:00:00Z in Unix milliseconds.
const EPOCH_MS: u64 = 1_577_836_800_000;
const MS_BITS: u32 = 42;
const NODE_BITS: u32 = 10;
const COUNTER_BITS: u32 = 12;

/// Length of the text form in characters; 13 × 5 bits hold 64 with one to spare.
const TEXT_LEN: usize = 13;
/// Crockford's base-32 alphabet in lower case: no i, l, o, u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The name of a message.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct QueueId(pub u64);

impl QueueId {
    /// Compose an id from its parts.
    ///
    /// Arguments beyond their width are a bug of the caller; they are cut to it, and a time before 2020 counts as 2020.
    pub const fn compose(unix_ms: u64, node: u16, counter: u16) -> Self {
        let ms = unix_ms.saturating_sub(EPOCH_MS) & ((1 << MS_BITS) - 1);
        let node = node as u64 & ((1 << NODE_BITS) - 1);
        let counter = counter as u64 & ((1 << COUNTER_BITS) - 1);
        Self(ms << (NODE_BITS + COUNTER_BITS) | node << COUNTER_BITS | counter)
    }

    /// Return when the id was composed, in Unix milliseconds.
    pub const fn unix_ms(self) -> u64 {
        EPOCH_MS + (self.0 >> (NODE_BITS + COUNTER_BITS))
    }

    /// Return the 10 bits of node and shard.
    pub const fn node(self) -> u16 {
        (self.0 >> COUNTER_BITS & ((1 << NODE_BITS) - 1)) as u16
    }

    /// Return the 12 bits of the counter.
    pub const fn counter(self) -> u16 {
        (self.0 & ((1 << COUNTER_BITS) - 1)) as u16
    }
}

impl fmt::Display for QueueId {
    /// Write 13 lower-case Crockford base-32 characters, most significant first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(TEXT_LEN);
        for place in (0..TEXT_LEN).rev() {
            let digit = (self.0 >> (5 * place)) as usize & 31;
            text.push(char::from(*ALPHABET.get(digit).unwrap_or(&b'0')));
        }
        f.pad(&text)
    }
}

/// The text is not a queue id: not 13 characters of the alphabet, or more than 64 bits.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("not a queue id")]
pub struct NotAQueueId;

impl FromStr for QueueId {
    type Err = NotAQueueId;

    /// Read the text form; case is forgiven, and so are i and l for 1 and o for 0.
    fn from_str(text: &str) -> Result<Self, NotAQueueId> {
        if text.len() != TEXT_LEN {
            return Err(NotAQueueId);
        }
        let mut value: u64 = 0;
        for octet in text.bytes() {
            let canonical = match octet.to_ascii_lowercase() {
                b'i' | b'l' => b'1',
                b'o' => b'0',
                other => other,
            };
            let digit = ALPHABET.iter().position(|&c| c == canonical).ok_or(NotAQueueId)?;
            if value >> (64 - 5) != 0 {
                return Err(NotAQueueId);
            }
            value = value << 5 | digit as u64;
        }
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_parts_come_back() {
        let id = QueueId::compose(EPOCH_MS + 123_456_789, 0x3ff, 0xfff);
        assert_eq!((id.unix_ms(), id.node(), id.counter()), (EPOCH_MS + 123_456_789, 0x3ff, 0xfff));
        assert_eq!(QueueId::compose(0, 0, 0), QueueId(0));
    }

    #[test]
    fn text_is_padded_and_ordered_like_the_number() {
        assert_eq!(QueueId(0).to_string(), "0000000000000");
        assert_eq!(QueueId(33).to_string(), "0000000000011");
        assert_eq!(QueueId(u64::MAX).to_string(), "fzzzzzzzzzzzz");
    }

    #[test]
    fn misread_letters_are_forgiven() {
        assert_eq!("OoIlL00000000".parse(), "0011100000000".parse::<QueueId>());
        assert_eq!("FZZZZZZZZZZZZ".parse(), Ok(QueueId(u64::MAX)));
    }

    #[test]
    fn other_text_is_refused() {
        for text in
            ["", "0", "00000000000000", "000000000000u", "gzzzzzzzzzzzz", "000000000000-", "é00000000000"]
        {
            assert_eq!(text.parse::<QueueId>(), Err(NotAQueueId), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(value: u64) {
            prop_assert_eq!(QueueId(value).to_string().parse::<QueueId>().unwrap(), QueueId(value));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,20}") {
            let _ = text.parse::<QueueId>();
        }
    }
}
