//! From a record's body to the values that it says. Never panics, whatever the octets.

use std::sync::Arc;

use penstock_core::flow::{Changes, ContentFlags, Form};
use penstock_core::queue_id::QueueId;

use crate::edit::{Author, Change, EditKind, EditRecord, Suspension};
use crate::facts::{
    Accepted, Disposition, EntryRecord, EnvelopeParams, Fact, HopId, HopKind, HopName, Lsn, MoreParams,
    Outcome, OutcomeState, RecipientRecord, RoutedTo,
};
use crate::redo::InBlob;

use super::Malformed;
use super::fields::{CRITICAL, Field, FieldReader};
use super::tags::{self, accepted as a, hop as h, outcome as o};

/// One thing that a record says.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) enum Part {
    Accepted {
        queue_id: QueueId,
        accepted: Box<Accepted>,
        hops: Vec<Arc<HopName>>,
        /// What follows what the record has of the content.
        blob: Option<InBlob>,
    },
    Fact {
        fact: Fact,
        hops: Vec<Arc<HopName>>,
    },
    Started {
        queue_id: QueueId,
        hop: HopId,
        attempt: u32,
        peer: String,
    },
    Moved {
        queue_id: QueueId,
        accepted: Box<Accepted>,
        hops: Vec<Arc<HopName>>,
        blob: Option<InBlob>,
        as_of: Lsn,
        attempts: Vec<u32>,
    },
}

/// The number of a tag, critical or not.
const fn n(tag: u16) -> u16 {
    tag & !CRITICAL
}

/// Read a record's body.
pub(crate) fn body(octets: &[u8]) -> Result<Vec<Part>, Malformed> {
    const ACCEPTED: u16 = n(tags::part::ACCEPTED);
    const ROUTED: u16 = n(tags::part::ROUTED);
    const HOP: u16 = n(tags::part::HOP);
    const STARTED: u16 = n(tags::part::STARTED);
    const SETTLED: u16 = n(tags::part::SETTLED);
    const EDITED: u16 = n(tags::part::EDITED);
    let mut parts = Vec::new();
    let mut has_content = false;
    let mut reader = FieldReader::new(octets);
    while let Some(field) = reader.next()? {
        match field.tag() {
            ACCEPTED if has_content => return Err(Malformed("a record has two messages")),
            ACCEPTED => {
                has_content = true;
                parts.push(accepted(field.nested())?);
            }
            ROUTED => parts.push(routed(field.nested())?),
            HOP => parts.push(hop_state(field.nested())?),
            STARTED => parts.push(started(field.nested())?),
            SETTLED => parts.push(settled(field.nested())?),
            EDITED => parts.push(edited(field.nested())?),
            _ => field.skip()?,
        }
    }
    Ok(parts)
}

const MISSING: Malformed = Malformed("a field is missing");

fn accepted(mut reader: FieldReader<'_>) -> Result<Part, Malformed> {
    const QUEUE_ID: u16 = n(a::QUEUE_ID);
    const EXTENT: u16 = n(a::EXTENT);
    const FORM: u16 = n(a::FORM);
    const FLAGS: u16 = n(a::FLAGS);
    const SENDER: u16 = n(a::SENDER);
    const RECIPIENT: u16 = n(a::RECIPIENT);
    const ENTRY: u16 = n(a::ENTRY);
    const AS_OF: u16 = n(a::AS_OF);
    const BLOB: u16 = n(a::BLOB);
    const BINARY: u16 = n(a::BINARY);
    const REQUIRE_TLS: u16 = n(a::REQUIRE_TLS);
    let (mut queue_id, mut extent, mut in_blob, mut hops) = (None, None, None, Vec::new());
    let (mut as_of, mut attempts) = (None, Vec::new());
    let mut message = Accepted {
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
        recipients: Vec::new(),
        entries: Vec::new(),
    };
    let mut more = MoreParams::default();
    while let Some(field) = reader.next()? {
        match field.tag() {
            QUEUE_ID => queue_id = Some(QueueId(field.number()?)),
            EXTENT => match (extent, field.number()?) {
                (None, number @ (a::INLINE | a::IN_BLOB)) => extent = Some(number),
                _ => return Err(Malformed("the content is kept in an unknown way")),
            },
            BLOB => in_blob = Some(blob(field.nested())?),
            FORM => {
                message.form = match field.number()? {
                    a::FORM_WIRE => Form::Wire,
                    a::FORM_PLAIN => Form::Plain,
                    _ => return Err(Malformed("the content has an unknown form")),
                }
            }
            FLAGS => message.flags = ContentFlags(field.small()?),
            a::SIZE => message.size = field.number()?,
            a::RECEIVED => message.received_ms = field.number()?,
            SENDER => message.sender = field.text()?,
            a::RET => message.params.ret = Some(field.small()?),
            a::ENVID => message.params.envid = Some(field.text()?),
            a::EIGHT_BIT => message.params.eight_bit = field.number()? != 0,
            a::SMTP_UTF8 => more.smtp_utf8 = field.number()? != 0,
            BINARY => more.binary = field.number()? != 0,
            REQUIRE_TLS => more.require_tls = field.number()? != 0,
            a::DELIVER_BY => more.deliver_by = Some(field.text()?),
            a::RELEASE => more.release_ms = Some(field.number()?),
            a::MT_PRIORITY => more.mt_priority = Some(MoreParams::priority_of(field.small()?)),
            a::AUTH_SENDER => more.auth_sender = Some(field.text()?),
            a::CHANGES => more.changes = Changes(field.small()?),
            a::CONNECTOR => message.connector = field.text()?,
            a::PEER => message.peer = field.text()?,
            a::HELO => message.helo = field.text()?,
            a::SESSION => message.session = field.text()?,
            a::MESSAGE_ID => message.message_id = field.text()?,
            a::SUBJECT => message.subject = field.text()?,
            RECIPIENT => message.recipients.push(recipient(field.nested())?),
            ENTRY => {
                let (entry, name, begun) = entry(field.nested())?;
                message.entries.push(entry);
                hops.push(name);
                attempts.push(begun);
            }
            AS_OF => as_of = Some(field.number()?),
            _ => field.skip()?,
        }
    }
    if in_blob.is_some() != (extent.ok_or(MISSING)? == a::IN_BLOB) {
        return Err(MISSING);
    }
    message.params.more = more.given();
    let (queue_id, accepted) = (queue_id.ok_or(MISSING)?, Box::new(message));
    Ok(match as_of {
        None => Part::Accepted { queue_id, accepted, hops, blob: in_blob },
        Some(as_of) => Part::Moved { queue_id, accepted, hops, blob: in_blob, as_of, attempts },
    })
}

fn blob(mut reader: FieldReader<'_>) -> Result<InBlob, Malformed> {
    const BYTES: u16 = n(tags::blob::BYTES);
    const SUM: u16 = n(tags::blob::SUM);
    let (mut bytes, mut sum) = (None, None);
    while let Some(field) = reader.next()? {
        match field.tag() {
            BYTES => bytes = Some(field.number()?),
            SUM => sum = Some(field.small()?),
            _ => field.skip()?,
        }
    }
    Ok(InBlob { bytes: bytes.ok_or(MISSING)?, sum: sum.ok_or(MISSING)? })
}

fn recipient(mut reader: FieldReader<'_>) -> Result<RecipientRecord, Malformed> {
    const ADDRESS: u16 = n(tags::recipient::ADDRESS);
    let mut recipient = RecipientRecord { address: String::new(), orcpt: None, notify: 0 };
    while let Some(field) = reader.next()? {
        match field.tag() {
            ADDRESS => recipient.address = field.text()?,
            tags::recipient::ORCPT => recipient.orcpt = Some(field.text()?),
            tags::recipient::NOTIFY => recipient.notify = field.small()?,
            _ => field.skip()?,
        }
    }
    Ok(recipient)
}

/// An entry, the name of its hop, and the last attempt whose end was known.
fn entry(mut reader: FieldReader<'_>) -> Result<(EntryRecord, Arc<HopName>, u32), Malformed> {
    const HOP: u16 = n(tags::entry::HOP);
    const RECIPIENTS: u16 = n(tags::entry::RECIPIENTS);
    const SUSPENDED: u16 = n(tags::entry::SUSPENDED);
    let (mut named, mut attempts) = (None, 0);
    let mut entry = EntryRecord {
        hop: HopId(0),
        recipients: Vec::new(),
        priority: 0,
        due_ms: 0,
        expires_ms: 0,
        suspended: None,
    };
    while let Some(field) = reader.next()? {
        match field.tag() {
            HOP => named = Some(hop(field.nested())?),
            RECIPIENTS => entry.recipients = field.list()?,
            tags::entry::PRIORITY => entry.priority = field.small()?,
            tags::entry::DUE => entry.due_ms = field.number()?,
            tags::entry::EXPIRES => entry.expires_ms = field.number()?,
            tags::entry::ATTEMPTS => attempts = field.small()?,
            SUSPENDED => entry.suspended = Some(suspension(&field)?),
            _ => field.skip()?,
        }
    }
    let (id, name) = named.ok_or(MISSING)?;
    entry.hop = id;
    Ok((entry, name, attempts))
}

fn hop(mut reader: FieldReader<'_>) -> Result<(HopId, Arc<HopName>), Malformed> {
    const ID: u16 = n(h::ID);
    const KIND: u16 = n(h::KIND);
    const CONNECTOR: u16 = n(h::CONNECTOR);
    const DESTINATION: u16 = n(h::DESTINATION);
    let (mut id, mut kind, mut connector, mut destination) = (None, None, String::new(), String::new());
    while let Some(field) = reader.next()? {
        match field.tag() {
            ID => id = Some(hop_id(&field)?),
            KIND => {
                let unknown = Malformed("a hop is reached in an unknown way");
                kind = Some(HopKind::from_number(field.small()?).ok_or(unknown)?);
            }
            CONNECTOR => connector = field.text()?,
            DESTINATION => destination = field.text()?,
            _ => field.skip()?,
        }
    }
    let name = HopName { connector, kind: kind.ok_or(MISSING)?, destination };
    Ok((id.ok_or(MISSING)?, Arc::new(name)))
}

fn hop_id(field: &Field<'_>) -> Result<HopId, Malformed> {
    let octets = field.octets().try_into().map_err(|_| Malformed("a hop's id is not 128 bits"))?;
    Ok(HopId(u128::from_le_bytes(octets)))
}

fn routed(mut reader: FieldReader<'_>) -> Result<Part, Malformed> {
    const QUEUE_ID: u16 = n(tags::routed::QUEUE_ID);
    const FROM: u16 = n(tags::routed::FROM);
    const TO: u16 = n(tags::routed::TO);
    let (mut queue_id, mut from, mut to, mut hops) = (None, None, Vec::new(), Vec::new());
    while let Some(field) = reader.next()? {
        match field.tag() {
            QUEUE_ID => queue_id = Some(QueueId(field.number()?)),
            FROM => from = Some(hop_id(&field)?),
            TO => {
                let (EntryRecord { hop, recipients, due_ms, .. }, name, _) = entry(field.nested())?;
                to.push(RoutedTo { hop, recipients, due_ms });
                hops.push(name);
            }
            _ => field.skip()?,
        }
    }
    let fact = Fact::Routed { queue_id: queue_id.ok_or(MISSING)?, from: from.ok_or(MISSING)?, to };
    Ok(Part::Fact { fact, hops })
}

fn hop_state(mut reader: FieldReader<'_>) -> Result<Part, Malformed> {
    const HOP: u16 = n(tags::hop_state::HOP);
    const STATE: u16 = n(tags::hop_state::STATE);
    let (mut named, mut state, mut last_error, mut next_retry_ms, mut failures) =
        (None, 0, String::new(), 0, 0);
    while let Some(field) = reader.next()? {
        match field.tag() {
            HOP => named = Some(hop(field.nested())?),
            STATE => state = field.small()?,
            tags::hop_state::LAST_ERROR => last_error = field.text()?,
            tags::hop_state::NEXT_RETRY => next_retry_ms = field.number()?,
            tags::hop_state::FAILURES => failures = field.small()?,
            _ => field.skip()?,
        }
    }
    let (hop, name) = named.ok_or(MISSING)?;
    Ok(Part::Fact { fact: Fact::Hop { hop, state, last_error, next_retry_ms, failures }, hops: vec![name] })
}

fn started(mut reader: FieldReader<'_>) -> Result<Part, Malformed> {
    const QUEUE_ID: u16 = n(tags::started::QUEUE_ID);
    const HOP: u16 = n(tags::started::HOP);
    const ATTEMPT: u16 = n(tags::started::ATTEMPT);
    let (mut queue_id, mut hop, mut attempt, mut peer) = (None, None, 0, String::new());
    while let Some(field) = reader.next()? {
        match field.tag() {
            QUEUE_ID => queue_id = Some(QueueId(field.number()?)),
            HOP => hop = Some(hop_id(&field)?),
            ATTEMPT => attempt = field.small()?,
            tags::started::PEER => peer = field.text()?,
            _ => field.skip()?,
        }
    }
    Ok(Part::Started { queue_id: queue_id.ok_or(MISSING)?, hop: hop.ok_or(MISSING)?, attempt, peer })
}

fn settled(mut reader: FieldReader<'_>) -> Result<Part, Malformed> {
    const QUEUE_ID: u16 = n(tags::settled::QUEUE_ID);
    const HOP: u16 = n(tags::settled::HOP);
    const ATTEMPT: u16 = n(tags::settled::ATTEMPT);
    const DUE: u16 = n(tags::settled::DUE);
    const OUTCOME: u16 = n(tags::settled::OUTCOME);
    let (mut queue_id, mut named, mut attempt, mut outcomes) = (None, None, 0, Vec::new());
    let (mut disposition, mut peer, mut session) = (Disposition::Finished, String::new(), String::new());
    while let Some(field) = reader.next()? {
        match field.tag() {
            QUEUE_ID => queue_id = Some(QueueId(field.number()?)),
            HOP => named = Some(hop_id(&field)?),
            ATTEMPT => attempt = field.small()?,
            DUE => disposition = Disposition::Due { due_ms: field.number()? },
            OUTCOME => outcomes.push(outcome(field.nested())?),
            tags::settled::PEER => peer = field.text()?,
            tags::settled::SESSION => session = field.text()?,
            _ => field.skip()?,
        }
    }
    let (queue_id, hop) = (queue_id.ok_or(MISSING)?, named.ok_or(MISSING)?);
    let fact = Fact::Settled { queue_id, hop, attempt, disposition, outcomes, peer, session };
    Ok(Part::Fact { fact, hops: Vec::new() })
}

fn suspension(field: &Field<'_>) -> Result<Suspension, Malformed> {
    Suspension::from_number(field.small()?).ok_or(Malformed("an entry is suspended in an unknown way"))
}

fn edited(mut reader: FieldReader<'_>) -> Result<Part, Malformed> {
    const QUEUE_ID: u16 = n(tags::edited::QUEUE_ID);
    const HOP: u16 = n(tags::edited::HOP);
    const NUMBER: u16 = n(tags::edited::NUMBER);
    const KIND: u16 = n(tags::edited::KIND);
    const VALUE: u16 = n(tags::edited::VALUE);
    const OUTCOME: u16 = n(tags::edited::OUTCOME);
    const TO: u16 = n(tags::edited::TO);
    let (mut queue_id, mut named, mut number, mut kind, mut version) = (None, None, None, None, 0);
    let (mut value, mut to, mut outcomes, mut author) = (None, None, Vec::new(), Author::default());
    while let Some(field) = reader.next()? {
        match field.tag() {
            QUEUE_ID => queue_id = Some(QueueId(field.number()?)),
            HOP => named = Some(hop_id(&field)?),
            NUMBER => number = Some(field.small()?),
            KIND => {
                let unknown = Malformed("an edit is of an unknown kind");
                kind = Some(EditKind::from_number(field.small()?).ok_or(unknown)?);
            }
            VALUE => value = Some(field),
            OUTCOME => outcomes.push(outcome(field.nested())?),
            TO => to = Some(entry(field.nested())?),
            tags::edited::VERSION => version = field.number()?,
            tags::edited::AT => author.at_ms = field.number()?,
            tags::edited::WHO => author.who = field.text()?,
            tags::edited::WHY => author.why = field.text()?,
            _ => field.skip()?,
        }
    }
    let value = value.ok_or(MISSING);
    let mut hops = Vec::new();
    let change = match kind.ok_or(MISSING)? {
        EditKind::Suspend => Change::Suspended(suspension(&value?)?),
        EditKind::Resume => Change::Resumed,
        EditKind::Remove => Change::Removed(outcomes),
        EditKind::Redirect => {
            let (EntryRecord { hop, recipients, due_ms, .. }, name, _) = to.ok_or(MISSING)?;
            hops.push(name);
            Change::Redirected(RoutedTo { hop, recipients, due_ms })
        }
        EditKind::Expire => Change::Expiry(value?.number()?),
        EditKind::Prioritise => Change::Priority(value?.small()?),
        EditKind::Due => Change::Due(value?.number()?),
    };
    let (queue_id, hop) = (queue_id.ok_or(MISSING)?, named.ok_or(MISSING)?);
    let record = EditRecord { queue_id, hop, number: number.ok_or(MISSING)?, version, author, change };
    Ok(Part::Fact { fact: Fact::Edited(Box::new(record)), hops })
}

fn outcome(mut reader: FieldReader<'_>) -> Result<Outcome, Malformed> {
    const RECIPIENT: u16 = n(o::RECIPIENT);
    const STATE: u16 = n(o::STATE);
    let mut state = None;
    let mut outcome = Outcome {
        recipient: 0,
        state: OutcomeState::Deferred,
        stage: 0,
        code: 0,
        enhanced: String::new(),
        text: String::new(),
    };
    while let Some(field) = reader.next()? {
        match field.tag() {
            RECIPIENT => outcome.recipient = field.small()?,
            STATE => {
                let unknown = Malformed("a recipient has an unknown outcome");
                state = Some(OutcomeState::from_number(field.small()?).ok_or(unknown)?);
            }
            o::STAGE => outcome.stage = field.small()?,
            o::CODE => outcome.code = field.small()?,
            o::ENHANCED => outcome.enhanced = field.text()?,
            o::TEXT => outcome.text = field.text()?,
            _ => field.skip()?,
        }
    }
    outcome.state = state.ok_or(MISSING)?;
    Ok(outcome)
}
