//! What is counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::{NetEvent, TlsVersion};

macro_rules! counted {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts since the wire engine was started.
        #[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
        pub struct NetStatistics {
            $($(#[$doc])* pub $name: u64,)*
            /// Incoming connections now.
            pub server_connections: u64,
            /// Outgoing connections now, those that are being made included.
            pub client_connections: u64,
        }

        /// The counts of one pass.
        #[derive(Default)]
        pub(crate) struct Tally {
            $(pub(crate) $name: u64,)*
        }

        /// The counts of all threads.
        #[derive(Default)]
        pub(crate) struct Counters {
            $($name: AtomicU64,)*
            /// Exact: it is what the cap is measured by.
            pub(crate) server_connections: AtomicUsize,
            pub(crate) client_connections: AtomicUsize,
        }

        impl Counters {
            /// Add the counts of a pass and begin anew.
            pub(crate) fn add(&self, tally: &mut Tally) {
                $(if tally.$name > 0 {
                    self.$name.fetch_add(std::mem::take(&mut tally.$name), Ordering::Relaxed);
                })*
            }

            pub(crate) fn snapshot(&self) -> NetStatistics {
                NetStatistics {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    server_connections: self.server_connections.load(Ordering::Relaxed) as u64,
                    client_connections: self.client_connections.load(Ordering::Relaxed) as u64,
                }
            }
        }
    };
}

counted! {
    /// Incoming connections that were reported as `Opened`.
    opened,
    /// Connections turned away without asking: too many, or the caller too far behind.
    refused,
    /// Proxies that did not say whom they speak for.
    proxy_refused,
    /// Events of commands.
    commands,
    /// Events of responses to challenges.
    auth_lines,
    /// Events of content.
    content,
    /// Incoming connections that have ended.
    closed,
    /// Handshakes finished with TLS 1.2.
    tls_1_2,
    /// Handshakes finished with TLS 1.3.
    tls_1_3,
    /// Those among them that resumed a session.
    tls_resumed,
    /// Handshakes that failed.
    tls_failed,
    /// Handshakes that took too long.
    tls_timed_out,
    /// Handshakes not begun because too many were under way.
    tls_refused,
    /// Handshakes not begun because octets came behind STARTTLS.
    tls_early,
    /// Connections that ended because what came after the handshake was not TLS.
    tls_broken,
    /// Connections dialled.
    dialled,
    /// Dialled connections that came up.
    connected,
    /// Dialled connections that did not come up.
    dial_failed,
    /// Events of replies.
    replies,
    /// Dialled connections that were up and have ended.
    client_closed,
    /// Actions and completions whose connection had ended or whose turn had passed.
    stale_actions,
    /// Actions that their connection could not follow: faults of the caller.
    misplaced_actions,
    /// Connections closed because a deadline had passed.
    deadlines,
    /// Faults of ours that were contained; most cost one connection each.
    panics,
    /// Octets read.
    octets_in,
    /// Octets sent.
    octets_out,
    /// Passes of the reactors.
    passes,
}

impl Tally {
    /// Count an event by its kind.
    pub(crate) fn count(&mut self, event: &NetEvent) {
        *match event {
            NetEvent::Opened { .. } => &mut self.opened,
            NetEvent::ProxyRefused { .. } => &mut self.proxy_refused,
            NetEvent::Commands { .. } => &mut self.commands,
            NetEvent::TlsUp { facts, .. } => {
                self.tls_resumed += u64::from(facts.is_resumed);
                match facts.version {
                    TlsVersion::Tls12 => &mut self.tls_1_2,
                    TlsVersion::Tls13 => &mut self.tls_1_3,
                }
            }
            NetEvent::AuthLine { .. } => &mut self.auth_lines,
            NetEvent::Content { .. } => &mut self.content,
            NetEvent::Closed { .. } => &mut self.closed,
            NetEvent::Connected { .. } => &mut self.connected,
            NetEvent::DialFailed { .. } => &mut self.dial_failed,
            NetEvent::Replies { .. } => &mut self.replies,
            NetEvent::ClientClosed { .. } => &mut self.client_closed,
        } += 1;
    }
}

impl NetStatistics {
    /// Events handed to the sink, by kind.
    pub const fn events(&self) -> [(&'static str, u64); 11] {
        [
            ("opened", self.opened),
            ("proxy_refused", self.proxy_refused),
            ("tls_up", self.tls_1_2 + self.tls_1_3),
            ("commands", self.commands),
            ("auth_line", self.auth_lines),
            ("content", self.content),
            ("closed", self.closed),
            ("connected", self.connected),
            ("dial_failed", self.dial_failed),
            ("replies", self.replies),
            ("client_closed", self.client_closed),
        ]
    }
}
