//! How content flows between the network and the spool.
//!
//! The two do not know each other: each sees only these traits, and the engine joins them. All of them are called by a
//! reactor, so no implementation may block or touch the disk. Whoever cannot go on says so ([`Offer::Full`],
//! [`SourcePoll::Pending`], [`GateState::Closed`]) and keeps a clone of the [`WakeHandle`] to fire when that has
//! changed. A wake may come from any thread, more than once, and without cause; the reactor then simply asks again.

use std::any::Any;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};
use std::sync::Arc;

use bytes::Bytes;

/// Something that sleeps until woken: a reactor.
pub trait Wake: Send + Sync {
    /// Ask the sleeper to look again at what it calls `token`. Must not block.
    fn wake(&self, token: u64);
}

/// Whom to wake, and about what.
#[derive(Clone)]
pub struct WakeHandle {
    /// The sleeper.
    pub wake: Arc<dyn Wake>,
    /// The sleeper's own name for what is waiting.
    pub token: u64,
}

impl WakeHandle {
    /// Wake the sleeper.
    pub fn wake(&self) {
        self.wake.wake(self.token);
    }
}

impl fmt::Debug for WakeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeHandle").field("token", &self.token).finish_non_exhaustive()
    }
}

/// What became of an offered chunk.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Offer {
    /// The whole chunk was taken.
    Taken,
    /// Nothing was taken; the waker fires when there is room.
    Full,
}

/// Takes content as it arrives: a draft of the spool.
///
/// Dropping it forgets the content.
pub trait ContentSink: Send + Any {
    /// Take the chunk, all or nothing.
    fn offer(&mut self, chunk: &[u8], waker: &WakeHandle) -> Offer;

    /// Give the concrete sink back to whoever made it.
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
}

/// What a source has.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum SourcePoll {
    /// The next octets, at least one.
    Chunk(Bytes),
    /// Nothing yet; the waker fires when there is.
    Pending,
    /// All octets have been given.
    End,
    /// The content cannot be read; nothing more will come.
    Failed,
}

/// Gives content that is to be sent.
pub trait ContentSource: Send {
    /// Give the next chunk, in order.
    fn poll(&mut self, waker: &WakeHandle) -> SourcePoll;
}

/// Whether what is behind a gate may go.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum GateState {
    /// It may go. A gate never closes again.
    Open,
    /// Not yet; the waker fires on change.
    Closed,
    /// It never will.
    Failed,
}

/// Holds back the last octets of a content until the record that they are being sent is written.
pub trait Gate: Send {
    /// Tell how the gate stands.
    fn state(&mut self, waker: &WakeHandle) -> GateState;
}

/// How stored content is encoded.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Form {
    /// As DATA brought it: dot-stuffed, without the final ".CRLF".
    Wire,
    /// Not dot-stuffed.
    Plain,
}

/// What is unusual about a content: a set of facts found while it was read.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Default)]
pub struct ContentFlags(pub u8);

impl ContentFlags {
    /// A CR that no LF follows.
    pub const BARE_CR: Self = Self(1);
    /// An LF that no CR precedes.
    pub const BARE_LF: Self = Self(2);
    /// An octet of value zero.
    pub const NUL: Self = Self(4);
    /// A line that begins with a dot, so that the two forms differ.
    pub const DOT_LINES: Self = Self(8);
    /// An octet above 127.
    pub const EIGHT_BIT: Self = Self(16);
    /// A line longer than RFC 5321 4.5.3.1.6 allows.
    pub const OVER_LONG: Self = Self(32);
    /// The content is not empty and does not end with CRLF (never so in content that DATA brought).
    pub const NO_FINAL_CRLF: Self = Self(64);

    /// Every flag with its name, as logs and reports spell it.
    pub const NAMES: [(Self, &'static str); 7] = [
        (Self::BARE_CR, "bare_cr"),
        (Self::BARE_LF, "bare_lf"),
        (Self::NUL, "nul"),
        (Self::DOT_LINES, "dot_lines"),
        (Self::EIGHT_BIT, "eight_bit"),
        (Self::OVER_LONG, "over_long"),
        (Self::NO_FINAL_CRLF, "no_final_crlf"),
    ];

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any flag of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for ContentFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for ContentFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for ContentFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| name);
        f.debug_set().entries(names).finish()
    }
}

/// Changes of a content: such as are asked for, or such as were made.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Default, Debug)]
pub struct Changes(pub u8);

impl Changes {
    /// Fields that were missing are there: Date, Message-ID. Whoever prepends them says so.
    pub const FIXUPS: Self = Self(1);
    /// Bare LFs became CRLF.
    pub const LINE_FEEDS: Self = Self(2);
    /// Bcc was left out.
    pub const BCC: Self = Self(4);

    /// Every change with its name, as logs and reports spell it.
    pub const NAMES: [(Self, &'static str); 3] =
        [(Self::FIXUPS, "fixups"), (Self::LINE_FEEDS, "linefeed"), (Self::BCC, "bcc")];

    /// Whether all of `other` are among them.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Return their names with commas between them.
    pub fn names(self) -> String {
        let names = Self::NAMES.iter().filter(|(change, _)| self.contains(*change)).map(|(_, name)| *name);
        names.collect::<Vec<_>>().join(",")
    }
}

impl BitOr for Changes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Changes {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_once_each() {
        let all = ContentFlags::NAMES.iter().fold(ContentFlags::default(), |set, (flag, _)| set | *flag);
        assert_eq!(all, ContentFlags(0x7f));
        assert_eq!(format!("{:?}", ContentFlags::NUL | ContentFlags::BARE_CR), r#"{"bare_cr", "nul"}"#);
    }

    #[test]
    fn changes_are_named_in_order() {
        assert_eq!(Changes::default().names(), "");
        assert_eq!((Changes::BCC | Changes::FIXUPS).names(), "fixups,bcc");
        assert!(Changes(7).contains(Changes::LINE_FEEDS) && !Changes(5).contains(Changes::LINE_FEEDS));
    }

    #[test]
    fn contains_asks_for_all_and_intersects_for_any() {
        let set = ContentFlags::NUL | ContentFlags::DOT_LINES;
        assert!(set.contains(ContentFlags::NUL) && !set.contains(ContentFlags::NUL | ContentFlags::BARE_CR));
        assert!(
            set.intersects(ContentFlags::NUL | ContentFlags::BARE_CR)
                && !set.intersects(ContentFlags::BARE_CR)
        );
    }
}
