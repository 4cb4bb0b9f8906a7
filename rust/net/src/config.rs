//! What the wire engine and its connections are allowed.

use std::net::IpAddr;

use bytes::Bytes;
use penstock_core::flow::Changes;
use penstock_core::smtp::command::Grammar;

use crate::StandardReplies;

/// What a wire engine is built from.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Reactor threads, 1 to 255.
    pub io_threads: usize,
    /// No threads at all: everything happens in [`Net::step`](crate::Net::step), in memory.
    pub inline: bool,
    /// Incoming connections at a time; one more is turned away.
    pub connections_max: usize,
    /// How long the caller may keep a turn.
    pub held_ms: u64,
    /// What a peer is told that cannot be served now (RFC 5321 4.2.2).
    pub overload_reply: Bytes,
    /// What a peer is told whose turn the caller has kept too long.
    pub held_reply: Bytes,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            io_threads: 1,
            inline: false,
            connections_max: 50_000,
            held_ms: 60_000,
            overload_reply: Bytes::from_static(b"421 4.3.2 Service not available, try again later\r\n"),
            held_reply: Bytes::from_static(b"421 4.3.2 Service not available, closing connection\r\n"),
        }
    }
}

/// What an incoming connection is allowed. Zero means no limit where it says so.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// How long we wait for a complete line while we read, or for the peer to take what we write
    /// (RFC 5321 4.5.3.2.7).
    pub idle_ms: u64,
    /// How long the connection may last; 0: for ever. It ends when it is net's turn, not in the middle of another's.
    pub total_ms: u64,
    /// How long one command line may take from its first octet to its last.
    pub command_ms: u64,
    /// Octets of content a second, on average over each `rate_window_ms`; 0: any.
    pub min_rate_bytes_s: u64,
    /// Over how long that average is taken; only time in which we read counts.
    pub rate_window_ms: u64,
    /// How long a TLS handshake may take, with the 220 before it.
    pub handshake_ms: u64,
    /// How much of a content is searched for its header section.
    pub header_bytes: usize,
    /// Octets of replies that may wait for the peer to take them; more end the connection.
    pub output_bytes: usize,
    /// How long content may find its sink full.
    pub starved_ms: u64,
    /// How long a commit may take before we leave without an answer.
    pub durable_ms: u64,
    /// What a peer is told that was too slow (RFC 5321 3.8).
    pub timeout_reply: Bytes,
    /// How commands are read.
    pub grammar: Grammar,
    /// What is changed of content on its way in.
    pub changes: Changes,
    /// What is answered where a [`Grant`](crate::Grant) was given.
    pub standard: StandardReplies,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            idle_ms: 300_000,
            total_ms: 0,
            command_ms: 300_000,
            min_rate_bytes_s: 0,
            rate_window_ms: 30_000,
            handshake_ms: 30_000,
            header_bytes: 1 << 20,
            output_bytes: 64 * 1024,
            starved_ms: 10_000,
            durable_ms: 600_000,
            timeout_reply: Bytes::from_static(b"421 4.4.2 Connection timed out\r\n"),
            grammar: Grammar::STRICT,
            changes: Changes::default(),
            standard: StandardReplies::default(),
        }
    }
}

/// The peers of a listener that are proxies: each begins with a header of the PROXY protocol, and nobody else does.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// From the first address to the last, in order and apart from each other.
    ranges: Vec<(IpAddr, IpAddr)>,
    header_ms: u64,
}

impl Proxies {
    /// Take ranges of addresses, both ends included, and how long a header may take to come.
    pub fn new(mut ranges: Vec<(IpAddr, IpAddr)>, header_ms: u64) -> Self {
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let is_within = next.0 <= kept.1;
            if is_within {
                kept.1 = kept.1.max(next.1);
            }
            is_within
        });
        Self { ranges, header_ms }
    }

    /// How long the header of a peer may take; nothing if the peer is no proxy.
    pub(crate) fn header_ms(&self, peer: IpAddr) -> Option<u64> {
        if self.ranges.is_empty() {
            return None;
        }
        let peer = peer.to_canonical();
        let behind = self.ranges.partition_point(|&(first, _)| first <= peer);
        let &(_, last) = self.ranges.get(behind.checked_sub(1)?)?;
        (peer <= last).then_some(self.header_ms)
    }
}

/// What an outgoing connection is allowed (RFC 5321 4.5.3.2).
#[derive(Clone, Debug)]
pub struct ClientLimits {
    /// How long connecting may take.
    pub connect_ms: u64,
    /// How long the banner may take.
    pub banner_ms: u64,
    /// How long the peer may take nothing of what we send.
    pub block_ms: u64,
    /// How long the reply to content may take, from the end of the content.
    pub dot_ms: u64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { connect_ms: 30_000, banner_ms: 300_000, block_ms: 180_000, dot_ms: 600_000 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn proxies_are_those_in_the_ranges_and_nobody_else() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let range = |first, last| (ip(first), ip(last));
        let proxies = Proxies::new(
            vec![
                range("2001:db8::", "2001:db8::ff"),
                range("10.0.0.5", "10.0.0.5"),
                range("10.0.1.0", "10.0.1.255"),
                range("10.0.1.9", "10.0.2.3"),
                range("10.0.1.10", "10.0.1.11"),
            ],
            5_000,
        );
        for (peer, is_proxy) in [
            ("10.0.0.4", false),
            ("10.0.0.5", true),
            ("::ffff:10.0.0.5", true),
            ("10.0.0.6", false),
            ("10.0.1.0", true),
            ("10.0.1.200", true),
            ("10.0.2.3", true),
            ("10.0.2.4", false),
            ("2001:db7::", false),
            ("2001:db8::", true),
            ("2001:db8::ff", true),
            ("2001:db8::100", false),
            ("::1", false),
        ] {
            assert_eq!(proxies.header_ms(ip(peer)).is_some(), is_proxy, "{peer}");
        }
        assert_eq!(Proxies::default().header_ms(ip("10.0.0.5")), None);
    }
}
