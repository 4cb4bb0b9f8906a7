//! What the octets of a server mean to a client: which reply answers what, and which answers nothing (RFC 5321 4.2).
//!
//! The client says what it awaits when it sends: a part of its output and how many replies that part draws. A reply
//! counts only if something of its part has been sent, or a server could answer what it has not been asked. A 421 may
//! come at any time, says that the server is leaving (RFC 5321 3.8), and is the last that is listened to.
//!
//! Positions are octets since the connection began, as the sender counts them.

use std::collections::VecDeque;

use super::reply::{Reply, ReplyError, ReplyParser};

/// The service is shutting down (RFC 5321 3.8).
const LEAVING: u16 = 421;

/// A part of the output that draws replies.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Awaited {
    /// How many replies.
    pub replies: u32,
    /// A reply makes sense once so many octets have been sent: one octet of the part, or none for the banner.
    pub needs_sent: u64,
    /// The clock runs once so many octets have been sent: the part's end.
    pub ends_at: u64,
    /// How long each reply may take.
    pub deadline_ms: u64,
    /// Whether the reply is reported by itself, without waiting for those of the parts behind it.
    pub is_alone: bool,
}

/// What was heard.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Heard {
    /// Nothing that could be reported yet.
    Nothing,
    /// Replies, in order; `first` counts from the connection's first.
    Replies {
        /// The number of the first of them.
        first: u32,
        /// At least one, unless nothing was awaited.
        replies: Vec<Reply>,
        /// Whether nothing is awaited any more.
        is_complete: bool,
    },
    /// The server is leaving, or answers what it was not asked: after these replies the connection cannot go on.
    Farewell {
        /// The number of the first of them.
        first: u32,
        /// May be empty.
        replies: Vec<Reply>,
        /// Whether it was a 421.
        is_leaving: bool,
    },
    /// What came is no SMTP.
    Garbage(ReplyError),
}

/// Assigns the replies of a server to what was sent.
#[derive(Debug, Default)]
pub struct ClientWire {
    parser: ReplyParser,
    awaited: VecDeque<Awaited>,
    collected: Vec<Reply>,
    reported: u32,
    last_code: u16,
    since_ms: Option<u64>,
}

impl ClientWire {
    /// Make a wire that awaits nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Await the replies to a part of the output.
    pub fn expect(&mut self, part: Awaited) {
        if part.replies > 0 {
            self.awaited.push_back(part);
        }
    }

    /// Add octets that have arrived.
    pub fn push(&mut self, input: &[u8]) {
        self.parser.push(input);
    }

    /// Whether nothing is awaited.
    pub fn is_idle(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Whether octets have arrived that no reported reply accounts for.
    pub fn has_surplus(&self) -> bool {
        !self.parser.is_empty()
    }

    /// The code of the last reply that was read; 0 before the first.
    pub fn last_code(&self) -> u16 {
        self.last_code
    }

    /// How many replies were read.
    pub fn seen(&self) -> u32 {
        self.reported + self.collected.len() as u32
    }

    /// Take note of how much has been sent.
    pub fn sent(&mut self, octets: u64, now_ms: u64) {
        if self.since_ms.is_none() && self.awaited.front().is_some_and(|part| part.ends_at <= octets) {
            self.since_ms = Some(now_ms);
        }
    }

    /// When the next reply must have come, if its clock runs. RFC 5321 4.5.3.2; reply i of several that were asked
    /// for together has its time from when it was asked for or reply i-1 came, whichever was later.
    pub fn deadline_ms(&self) -> Option<u64> {
        Some(self.since_ms?.saturating_add(self.awaited.front()?.deadline_ms))
    }

    /// Wait that long for the reply that is awaited first.
    pub fn set_deadline(&mut self, deadline_ms: u64) {
        if let Some(part) = self.awaited.front_mut() {
            part.deadline_ms = deadline_ms;
        }
    }

    /// Read on: what has arrived, with so many octets sent.
    pub fn listen(&mut self, sent: u64, now_ms: u64) -> Heard {
        while let Some(part) = self.awaited.front_mut() {
            let reply = match self.parser.next_reply() {
                Ok(Some(reply)) => reply,
                Ok(None) => return Heard::Nothing,
                Err(error) => return Heard::Garbage(error),
            };
            let is_asked_for = part.needs_sent <= sent;
            let is_leaving = reply.code == LEAVING;
            self.last_code = reply.code;
            part.replies -= 1;
            let (is_last_of_part, is_alone) = (part.replies == 0, part.is_alone);
            // A refusal that comes before its time is still one; an approval of the unsent means nothing.
            if is_asked_for || reply.code >= 400 {
                self.collected.push(reply);
            }
            if is_last_of_part {
                self.awaited.pop_front();
            }
            if !is_asked_for || (is_leaving && !self.awaited.is_empty()) {
                let (first, replies) = self.take_replies();
                return Heard::Farewell { first, replies, is_leaving };
            }
            self.since_ms = self.awaited.front().filter(|next| next.ends_at <= sent).map(|_| now_ms);
            if is_alone && !self.awaited.is_empty() {
                let (first, replies) = self.take_replies();
                return Heard::Replies { first, replies, is_complete: false };
            }
        }
        let (first, replies) = self.take_replies();
        Heard::Replies { first, replies, is_complete: true }
    }

    /// Read what came although nothing was awaited.
    pub fn listen_idle(&mut self) -> Heard {
        match self.parser.next_reply() {
            Err(error) => Heard::Garbage(error),
            Ok(reply) => {
                let is_leaving = reply.as_ref().is_some_and(|reply| reply.code == LEAVING);
                self.collected.extend(reply.filter(|_| is_leaving));
                let (first, replies) = self.take_replies();
                Heard::Farewell { first, replies, is_leaving }
            }
        }
    }

    /// Take the replies that were read and not reported, with the number of the first.
    pub fn take_replies(&mut self) -> (u32, Vec<Reply>) {
        let first = self.reported;
        let replies = std::mem::take(&mut self.collected);
        self.reported += replies.len() as u32;
        (first, replies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(replies: u32, begins_at: u64, ends_at: u64) -> Awaited {
        Awaited { replies, needs_sent: begins_at + 1, ends_at, deadline_ms: 100, is_alone: false }
    }

    fn codes(heard: &Heard) -> (u32, Vec<u16>) {
        match heard {
            Heard::Replies { first, replies, .. } | Heard::Farewell { first, replies, .. } => {
                (*first, replies.iter().map(|reply| reply.code).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flight_is_reported_when_its_last_reply_has_come() {
        let mut wire = ClientWire::new();
        wire.expect(part(2, 0, 10));
        wire.expect(part(1, 10, 16));
        wire.sent(16, 0);
        wire.push(b"250 a\r\n250-b\r\n");
        assert_eq!(wire.listen(16, 1), Heard::Nothing);
        assert_eq!(wire.seen(), 1);
        wire.push(b"250 b\r\n354 go\r\n");
        let heard = wire.listen(16, 2);
        assert_eq!(codes(&heard), (0, vec![250, 250, 354]));
        assert!(matches!(heard, Heard::Replies { is_complete: true, .. }));
        assert_eq!((wire.last_code(), wire.seen(), wire.is_idle()), (354, 3, true));
    }

    #[test]
    fn the_reply_to_content_is_reported_alone_and_at_once() {
        let mut wire = ClientWire::new();
        wire.expect(Awaited { is_alone: true, ..part(1, 0, 3) });
        wire.expect(part(2, 3, 20));
        wire.push(b"250 queued\r\n250 sender\r\n");
        let heard = wire.listen(20, 0);
        assert_eq!(codes(&heard), (0, vec![250]));
        assert!(matches!(heard, Heard::Replies { is_complete: false, .. }));
        assert_eq!(wire.listen(20, 0), Heard::Nothing);
        wire.push(b"250 recipient\r\n");
        assert_eq!(codes(&wire.listen(20, 0)), (1, vec![250, 250]));
    }

    #[test]
    fn clocks_run_from_sending_or_from_the_reply_before() {
        let mut wire = ClientWire::new();
        wire.expect(part(1, 0, 10));
        wire.expect(part(1, 10, 20));
        assert_eq!(wire.deadline_ms(), None);
        wire.sent(9, 1000);
        assert_eq!(wire.deadline_ms(), None);
        wire.sent(15, 2000);
        wire.sent(16, 3000);
        assert_eq!(wire.deadline_ms(), Some(2100));
        wire.push(b"250 ok\r\n");
        assert_eq!(wire.listen(16, 4000), Heard::Nothing);
        assert_eq!(wire.deadline_ms(), None);
        wire.sent(20, 5000);
        assert_eq!(wire.deadline_ms(), Some(5100));
    }

    #[test]
    fn a_421_ends_the_listening_wherever_it_comes() {
        let mut wire = ClientWire::new();
        wire.expect(part(3, 0, 10));
        wire.push(b"250 ok\r\n421 bye\r\n250 never\r\n");
        let heard = wire.listen(10, 0);
        assert_eq!(codes(&heard), (0, vec![250, 421]));
        assert!(matches!(heard, Heard::Farewell { is_leaving: true, .. }));
        let mut wire = ClientWire::new();
        wire.push(b"421 bye\r\n");
        assert!(wire.has_surplus());
        assert_eq!(codes(&wire.listen_idle()), (0, vec![421]));
    }

    #[test]
    fn a_reply_to_what_was_not_sent_ends_the_listening() {
        for (input, kept) in [(&b"250 ok\r\n"[..], vec![]), (b"552 too big\r\n", vec![552])] {
            let mut wire = ClientWire::new();
            wire.expect(part(1, 1000, 1003));
            wire.push(input);
            let heard = wire.listen(1000, 0);
            assert_eq!(codes(&heard), (0, kept));
            assert!(matches!(heard, Heard::Farewell { is_leaving: false, .. }));
        }
        let mut wire = ClientWire::new();
        wire.push(b"250 what?\r\n");
        assert!(
            matches!(wire.listen_idle(), Heard::Farewell { is_leaving: false, replies, .. } if replies.is_empty())
        );
    }

    #[test]
    fn what_is_no_reply_is_garbage() {
        let mut wire = ClientWire::new();
        wire.expect(part(1, 0, 0));
        wire.push(b"HTTP/1.1 400 Bad Request\r\n");
        assert_eq!(wire.listen(1, 0), Heard::Garbage(ReplyError::NotAReply));
    }
}
