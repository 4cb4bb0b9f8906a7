//! A caller without any policy: it answers every command, and keeps every content that is whole.

use bytes::Bytes;
use penstock_core::smtp::command::Command;
use penstock_net::{
    CloseReason, Conn, ContentStatus, Grant, Net, NetAction, NetEvent, ServerLimits, StandardReplies,
};

use crate::harness::{Draft, await_durable_granting, begin, granting, kind, last_reply, reply, take};

#[derive(Default)]
pub(crate) struct Caller {
    /// Contents that were kept, in order.
    pub(crate) kept: Vec<Vec<u8>>,
    /// How the connections ended.
    pub(crate) ended: Vec<CloseReason>,
    pub(crate) limits: ServerLimits,
    /// What its answers grant, in turn, over and over.
    grants: Vec<Grant>,
    answered: u32,
}

impl Caller {
    /// Make one that grants what it would say itself.
    pub(crate) fn granting(grants: Vec<Grant>) -> Self {
        let (mail, data) = (Bytes::from_static(b"250 ok\r\n"), Bytes::from_static(b"354 go\r\n"));
        let standard =
            StandardReplies { mail, data, limit_bytes: 1 << 30, takes_size: true, takes_body: true };
        Self { limits: ServerLimits { standard, ..ServerLimits::default() }, grants, ..Self::default() }
    }

    /// Answer an event of an incoming connection.
    pub(crate) fn answer(&mut self, net: &Net, event: NetEvent) {
        match event {
            NetEvent::Opened { conn, .. } => net.apply(vec![begin(conn, self.limits.clone())]),
            NetEvent::Commands { conn, turn, items, answered, .. } => {
                let actions = items.into_iter().skip(answered as usize).map(|item| match item {
                    Ok(Command::Data) => take(conn, turn, Draft::default(), 1 << 30),
                    Ok(Command::Quit) => last_reply(conn, turn, "221 bye\r\n", 1),
                    Ok(Command::Unknown { .. }) | Err(_) => reply(conn, turn, "500 what?\r\n", 1),
                    Ok(_) => granting(conn, turn, "250 ok\r\n", self.next_grant()),
                });
                net.apply(actions.collect());
            }
            NetEvent::Content { conn, turn, sink, status, .. } => {
                if status == ContentStatus::Complete {
                    self.kept.push(sink.into_any().downcast::<Draft>().unwrap().octets);
                    self.commit(net, conn, turn);
                } else {
                    net.apply(vec![reply(conn, turn, "550 no\r\n", 1)]);
                }
            }
            NetEvent::Closed { reason, .. } => self.ended.push(reason),
            other => panic!("{}", kind(&other)),
        }
    }

    /// Say that content is durable, before or after it is waited for.
    fn commit(&mut self, net: &Net, conn: Conn, turn: u32) {
        self.answered += 1;
        let awaiting = await_durable_granting(conn, turn, self.next_grant());
        if self.answered.is_multiple_of(2) {
            net.complete(&[(conn, turn, true)]);
            net.apply(vec![awaiting]);
        } else {
            net.apply(vec![awaiting]);
            net.complete(&[(conn, turn, true)]);
        }
    }

    fn next_grant(&mut self) -> Grant {
        let Some(grant) = self.grants.first().copied() else { return Grant::None };
        self.grants.rotate_left(1);
        grant
    }
}

/// What a peer hears that sends all this to a [`Caller`], and what is kept, told as simply as possible.
pub(crate) fn expected(input: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut heard, mut kept) = (b"220 me\r\n".to_vec(), Vec::new());
    let mut rest = input;
    while let Some(end) = position(rest, b"\r\n") {
        let line = &rest[..end];
        rest = &rest[end + 2..];
        match line {
            b"NOOP" | b"RSET" | b"MAIL FROM:<>" | b"RCPT TO:<a@b.example>" | b"EHLO a.example" => {
                heard.extend(b"250 ok\r\n");
            }
            b"QUIT" => {
                heard.extend(b"221 bye\r\n");
                break;
            }
            b"DATA" => {
                heard.extend(b"354 go\r\n");
                let with_crlf = [b"\r\n", rest].concat();
                let Some(end) = position(&with_crlf, b"\r\n.\r\n") else { break };
                let content = &with_crlf[2..end + 2];
                let text = String::from_utf8_lossy(content).replace("\r\n", "");
                if text.contains(['\r', '\n']) {
                    heard.extend(b"550 no\r\n");
                } else {
                    heard.extend(b"250 kept\r\n");
                    kept.push(content.to_vec());
                }
                rest = &rest[end + 3..];
            }
            _ => heard.extend(b"500 what?\r\n"),
        }
    }
    (heard, kept)
}

fn position(octets: &[u8], wanted: &[u8]) -> Option<usize> {
    octets.windows(wanted.len()).position(|window| window == wanted)
}

/// Whatever ends a connection at once, whosever turn it is.
pub(crate) fn abort(conn: Conn) -> NetAction {
    NetAction::Abort { conn }
}

pub(crate) fn octets(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
