//! From values to the fields of a record's body.

use std::sync::Arc;

use penstock_core::flow::Form;
use penstock_core::queue_id::QueueId;

use crate::edit::{Change, EditRecord};
use crate::facts::{
    Accepted, Disposition, EntryRecord, Fact, HopId, HopName, Lsn, MoreParams, Outcome, RecipientRecord,
    RoutedTo,
};
use crate::redo::InBlob;

use super::fields::FieldWriter;
use super::tags::{
    accepted as a, blob, edited, entry, hop as h, hop_state, outcome as o, part, recipient, routed, settled,
    started,
};

/// Write that a message was taken; `hops` are the names of its entries' hops, in their order.
pub(crate) fn accepted(
    out: &mut Vec<u8>,
    queue_id: QueueId,
    message: &Accepted,
    hops: &[Arc<HopName>],
    in_blob: Option<InBlob>,
) {
    write_message(out, queue_id, message, hops, in_blob, None);
}

/// Write a message as it was when the log had been read up to `as_of`; `attempts` are its entries', in their order.
pub(crate) fn moved(
    out: &mut Vec<u8>,
    queue_id: QueueId,
    message: &Accepted,
    hops: &[Arc<HopName>],
    in_blob: Option<InBlob>,
    (as_of, attempts): (Lsn, &[u32]),
) {
    write_message(out, queue_id, message, hops, in_blob, Some((as_of, attempts)));
}

fn write_message(
    out: &mut Vec<u8>,
    queue_id: QueueId,
    message: &Accepted,
    hops: &[Arc<HopName>],
    in_blob: Option<InBlob>,
    moved: Option<(Lsn, &[u32])>,
) {
    let (as_of, attempts) = moved.unwrap_or_default();
    FieldWriter::new(out).nested(part::ACCEPTED, |fields| {
        fields.given_number(a::QUEUE_ID, queue_id.0);
        fields.given_number(a::EXTENT, if in_blob.is_some() { a::IN_BLOB } else { a::INLINE });
        fields.given_number(
            a::FORM,
            match message.form {
                Form::Wire => a::FORM_WIRE,
                Form::Plain => a::FORM_PLAIN,
            },
        );
        fields.number(a::FLAGS, message.flags.0.into());
        fields.number(a::SIZE, message.size);
        fields.number(a::RECEIVED, message.received_ms);
        fields.text(a::SENDER, &message.sender);
        if let Some(ret) = message.params.ret {
            fields.given_number(a::RET, ret.into());
        }
        if let Some(envid) = &message.params.envid {
            fields.octets(a::ENVID, envid.as_bytes());
        }
        fields.number(a::EIGHT_BIT, message.params.eight_bit.into());
        if let Some(more) = &message.params.more {
            more_params(fields, more);
        }
        for (tag, text) in [
            (a::CONNECTOR, &message.connector),
            (a::PEER, &message.peer),
            (a::HELO, &message.helo),
            (a::SESSION, &message.session),
            (a::MESSAGE_ID, &message.message_id),
            (a::SUBJECT, &message.subject),
        ] {
            fields.text(tag, text);
        }
        for one in &message.recipients {
            fields.nested(a::RECIPIENT, |fields| write_recipient(fields, one));
        }
        for (nth, (one, name)) in message.entries.iter().zip(hops).enumerate() {
            fields.nested(a::ENTRY, |fields| {
                write_entry(fields, one, name);
                fields.number(entry::ATTEMPTS, attempts.get(nth).copied().unwrap_or(0).into());
            });
        }
        if moved.is_some() {
            fields.given_number(a::AS_OF, as_of);
        }
        if let Some(InBlob { bytes, sum }) = in_blob {
            fields.nested(a::BLOB, |fields| {
                fields.given_number(blob::BYTES, bytes);
                fields.given_number(blob::SUM, sum.into());
            });
        }
    });
}

/// Write a fact; `hops` are the names of the hops that it gives entries or a state to.
pub(crate) fn fact(out: &mut Vec<u8>, fact: &Fact, hops: &[Arc<HopName>]) {
    let mut body = FieldWriter::new(out);
    match fact {
        Fact::Routed { queue_id, from, to } => body.nested(part::ROUTED, |fields| {
            fields.given_number(routed::QUEUE_ID, queue_id.0);
            fields.octets(routed::FROM, &from.0.to_le_bytes());
            for (one, name) in to.iter().zip(hops) {
                fields.nested(routed::TO, |fields| write_routed_to(fields, one, name));
            }
        }),
        Fact::Hop { hop, state, last_error, next_retry_ms, failures } => body.nested(part::HOP, |fields| {
            if let Some(name) = hops.first() {
                fields.nested(hop_state::HOP, |fields| write_hop(fields, *hop, name));
            }
            fields.number(hop_state::STATE, (*state).into());
            fields.text(hop_state::LAST_ERROR, last_error);
            fields.number(hop_state::NEXT_RETRY, *next_retry_ms);
            fields.number(hop_state::FAILURES, (*failures).into());
        }),
        Fact::Settled { queue_id, hop, attempt, disposition, outcomes, peer, session } => {
            body.nested(part::SETTLED, |fields| {
                fields.given_number(settled::QUEUE_ID, queue_id.0);
                fields.octets(settled::HOP, &hop.0.to_le_bytes());
                fields.number(settled::ATTEMPT, (*attempt).into());
                if let Disposition::Due { due_ms } = disposition {
                    fields.given_number(settled::DUE, *due_ms);
                }
                for one in outcomes {
                    fields.nested(settled::OUTCOME, |fields| write_outcome(fields, one));
                }
                fields.text(settled::PEER, peer);
                fields.text(settled::SESSION, session);
            });
        }
        Fact::Edited(record) => body.nested(part::EDITED, |fields| write_edited(fields, record, hops)),
    }
}

/// Write that the last octets of an entry's content are about to be sent.
pub(crate) fn started(out: &mut Vec<u8>, queue_id: QueueId, hop: HopId, attempt: u32, peer: &str) {
    FieldWriter::new(out).nested(part::STARTED, |fields| {
        fields.given_number(started::QUEUE_ID, queue_id.0);
        fields.octets(started::HOP, &hop.0.to_le_bytes());
        fields.number(started::ATTEMPT, attempt.into());
        fields.text(started::PEER, peer);
    });
}

fn more_params(fields: &mut FieldWriter<'_>, more: &MoreParams) {
    fields.number(a::SMTP_UTF8, more.smtp_utf8.into());
    fields.number(a::BINARY, more.binary.into());
    fields.number(a::REQUIRE_TLS, more.require_tls.into());
    if let Some(by) = &more.deliver_by {
        fields.octets(a::DELIVER_BY, by.as_bytes());
    }
    if let Some(release_ms) = more.release_ms {
        fields.given_number(a::RELEASE, release_ms);
    }
    if let Some(priority) = more.mt_priority {
        fields.given_number(a::MT_PRIORITY, MoreParams::priority_number(priority).into());
    }
    if let Some(sender) = &more.auth_sender {
        fields.octets(a::AUTH_SENDER, sender.as_bytes());
    }
    fields.number(a::CHANGES, more.changes.0.into());
}

fn write_recipient(fields: &mut FieldWriter<'_>, one: &RecipientRecord) {
    fields.text(recipient::ADDRESS, &one.address);
    if let Some(orcpt) = &one.orcpt {
        fields.octets(recipient::ORCPT, orcpt.as_bytes());
    }
    fields.number(recipient::NOTIFY, one.notify.into());
}

fn write_entry(fields: &mut FieldWriter<'_>, one: &EntryRecord, name: &HopName) {
    fields.nested(entry::HOP, |fields| write_hop(fields, one.hop, name));
    fields.list(entry::RECIPIENTS, &one.recipients);
    fields.number(entry::PRIORITY, one.priority.into());
    fields.number(entry::DUE, one.due_ms);
    fields.number(entry::EXPIRES, one.expires_ms);
    if let Some(suspension) = one.suspended {
        fields.given_number(entry::SUSPENDED, suspension as u64);
    }
}

fn write_routed_to(fields: &mut FieldWriter<'_>, one: &RoutedTo, name: &HopName) {
    fields.nested(entry::HOP, |fields| write_hop(fields, one.hop, name));
    fields.list(entry::RECIPIENTS, &one.recipients);
    fields.number(entry::DUE, one.due_ms);
}

fn write_edited(fields: &mut FieldWriter<'_>, record: &EditRecord, hops: &[Arc<HopName>]) {
    let EditRecord { queue_id, hop, number, version, author, change } = record;
    fields.given_number(edited::QUEUE_ID, queue_id.0);
    fields.octets(edited::HOP, &hop.0.to_le_bytes());
    fields.given_number(edited::NUMBER, (*number).into());
    fields.given_number(edited::KIND, change.kind() as u64);
    match change {
        Change::Suspended(suspension) => fields.given_number(edited::VALUE, *suspension as u64),
        Change::Resumed => {}
        Change::Removed(outcomes) => {
            for one in outcomes {
                fields.nested(edited::OUTCOME, |fields| write_outcome(fields, one));
            }
        }
        Change::Redirected(to) => {
            if let Some(name) = hops.first() {
                fields.nested(edited::TO, |fields| write_routed_to(fields, to, name));
            }
        }
        Change::Expiry(at_ms) | Change::Due(at_ms) => fields.given_number(edited::VALUE, *at_ms),
        Change::Priority(priority) => fields.given_number(edited::VALUE, (*priority).into()),
    }
    fields.number(edited::VERSION, *version);
    fields.number(edited::AT, author.at_ms);
    fields.text(edited::WHO, &author.who);
    fields.text(edited::WHY, &author.why);
}

fn write_hop(fields: &mut FieldWriter<'_>, id: HopId, name: &HopName) {
    fields.octets(h::ID, &id.0.to_le_bytes());
    fields.given_number(h::KIND, name.kind as u64);
    fields.text(h::CONNECTOR, &name.connector);
    fields.text(h::DESTINATION, &name.destination);
}

fn write_outcome(fields: &mut FieldWriter<'_>, one: &Outcome) {
    fields.number(o::RECIPIENT, one.recipient.into());
    fields.given_number(o::STATE, one.state as u64);
    fields.number(o::STAGE, one.stage.into());
    fields.number(o::CODE, one.code.into());
    fields.text(o::ENHANCED, &one.enhanced);
    fields.text(o::TEXT, &one.text);
}
