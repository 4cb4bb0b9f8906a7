//! The values: a version in the first octet, then what the table says, without padding. `FORMAT.md` has every octet.

use penstock_core::flow::{Changes, ContentFlags, Form};

use crate::edit::{Author, EditKind, LastEdit, Suspension};
use crate::facts::{
    Accepted, EnvelopeParams, HopKind, HopName, Lsn, MoreParams, Outcome, OutcomeState, RecipientRecord,
};
use crate::redo::{InBlob, Location, Stored};

use super::codec::{Malformed, Reader, put_number, put_text};
use super::set::RecipientSet;

/// The version that this program writes, of every value.
pub(super) const VERSION: u8 = 1;
/// Value of a row that says all in its key.
pub(super) const PRESENT: [u8; 1] = [VERSION];

/// Octets of a reply's text that are kept per recipient, and of a hop's last error: one reply line of RFC 5321 4.5.3.1.5.
pub(super) const TEXT_MAX: usize = 512;
/// Octets of an enhanced status code that are kept: three numbers of at most three digits, and two dots.
pub(super) const ENHANCED_MAX: usize = 11;
/// Recipients in a row of `recipient`.
pub(super) const BLOCK: u32 = 64;

/// Of the form: a part of the content is in a blob.
const IN_BLOB: u8 = 0x80;
const EIGHT_BIT: u8 = 1;
const HAS_RET: u8 = 2;
const HAS_ENVID: u8 = 4;
const HAS_MORE: u8 = 8;
const SMTP_UTF8: u8 = 1;
const BINARY: u8 = 2;
const REQUIRE_TLS: u8 = 4;
const HAS_DELIVER_BY: u8 = 8;
const HAS_RELEASE: u8 = 16;
const HAS_PRIORITY: u8 = 32;
const HAS_AUTH_SENDER: u8 = 64;
const HAS_CHANGES: u8 = 128;
const HAS_ORCPT: u8 = 1;
const HAS_OUTCOME: u8 = 2;
const SUSPENSION: u8 = 3;
const HAS_EDIT: u8 = 4;

/// The beginning of `text`, at most `max` octets of it.
pub(super) fn bounded(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

fn flag(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}

/// What of a message is needed to count it and to find its content.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Head {
    pub(super) received_ms: u64,
    pub(super) size: u64,
    pub(super) stored: Stored,
    pub(super) recipients: u32,
}

/// A row of `message`. It changes only when the content moves.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(super) struct MessageValue<'a> {
    pub(super) head: Head,
    pub(super) eight_bit: bool,
    pub(super) ret: Option<u8>,
    pub(super) envid: Option<&'a str>,
    pub(super) more: Option<Box<MoreParams>>,
    pub(super) sender: &'a str,
    pub(super) connector: &'a str,
    pub(super) peer: &'a str,
    pub(super) helo: &'a str,
    pub(super) session: &'a str,
    pub(super) message_id: &'a str,
    pub(super) subject: &'a str,
}

impl<'a> MessageValue<'a> {
    pub(super) fn of(accepted: &'a Accepted, location: Location) -> Self {
        Self {
            head: Head {
                received_ms: accepted.received_ms,
                size: accepted.size,
                stored: Stored { location, form: accepted.form, flags: accepted.flags },
                recipients: accepted.recipients.len() as u32,
            },
            eight_bit: accepted.params.eight_bit,
            ret: accepted.params.ret,
            envid: accepted.params.envid.as_deref(),
            more: accepted.params.more.clone(),
            sender: &accepted.sender,
            connector: &accepted.connector,
            peer: &accepted.peer,
            helo: &accepted.helo,
            session: &accepted.session,
            message_id: &accepted.message_id,
            subject: &accepted.subject,
        }
    }

    pub(super) fn params(&self) -> EnvelopeParams {
        EnvelopeParams {
            ret: self.ret,
            envid: self.envid.map(Into::into),
            eight_bit: self.eight_bit,
            more: self.more.clone(),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        self.encode_fields(out);
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        let Stored { location, form, flags } = self.head.stored;
        for number in [
            self.head.received_ms,
            self.head.size,
            location.segment,
            location.offset,
            location.length,
            location.record_bytes,
        ] {
            put_number(out, number);
        }
        let form = match form {
            Form::Wire => 1,
            Form::Plain => 2,
        };
        out.push(form | flag(location.blob.is_some(), IN_BLOB));
        out.push(flags.0);
        put_number(out, self.head.recipients.into());
        if let Some(InBlob { bytes, sum }) = location.blob {
            put_number(out, bytes);
            put_number(out, sum.into());
        }
        out.push(
            flag(self.eight_bit, EIGHT_BIT)
                | flag(self.ret.is_some(), HAS_RET)
                | flag(self.envid.is_some(), HAS_ENVID)
                | flag(self.more.is_some(), HAS_MORE),
        );
        out.extend(self.ret);
        if let Some(envid) = self.envid {
            put_text(out, envid);
        }
        if let Some(more) = &self.more {
            put_more(out, more);
        }
        for text in
            [self.sender, self.connector, self.peer, self.helo, self.session, self.message_id, self.subject]
        {
            put_text(out, text);
        }
    }

    pub(super) fn decode(value: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(Reader::versioned(value, VERSION)?)
    }

    fn read(mut reader: Reader<'a>) -> Result<Self, Malformed> {
        let head = head(&mut reader)?;
        let present = reader.octet()?;
        if present & !(EIGHT_BIT | HAS_RET | HAS_ENVID | HAS_MORE) != 0 {
            return Err(Malformed("parameters are not known"));
        }
        let message = Self {
            head,
            eight_bit: present & EIGHT_BIT != 0,
            ret: (present & HAS_RET != 0).then(|| reader.octet()).transpose()?,
            envid: (present & HAS_ENVID != 0).then(|| reader.text()).transpose()?,
            more: (present & HAS_MORE != 0).then(|| read_more(&mut reader)).transpose()?,
            sender: reader.text()?,
            connector: reader.text()?,
            peer: reader.text()?,
            helo: reader.text()?,
            session: reader.text()?,
            message_id: reader.text()?,
            subject: reader.text()?,
        };
        reader.finish().map(|()| message)
    }
}

fn put_more(out: &mut Vec<u8>, more: &MoreParams) {
    out.push(
        flag(more.smtp_utf8, SMTP_UTF8)
            | flag(more.binary, BINARY)
            | flag(more.require_tls, REQUIRE_TLS)
            | flag(more.deliver_by.is_some(), HAS_DELIVER_BY)
            | flag(more.release_ms.is_some(), HAS_RELEASE)
            | flag(more.mt_priority.is_some(), HAS_PRIORITY)
            | flag(more.auth_sender.is_some(), HAS_AUTH_SENDER)
            | flag(!more.changes.is_empty(), HAS_CHANGES),
    );
    if let Some(by) = &more.deliver_by {
        put_text(out, by);
    }
    if let Some(release_ms) = more.release_ms {
        put_number(out, release_ms);
    }
    out.extend(more.mt_priority.map(MoreParams::priority_number));
    if let Some(sender) = &more.auth_sender {
        put_text(out, sender);
    }
    if !more.changes.is_empty() {
        out.push(more.changes.0);
    }
}

fn read_more(reader: &mut Reader<'_>) -> Result<Box<MoreParams>, Malformed> {
    let present = reader.octet()?;
    let has = |bit| present & bit != 0;
    let more = MoreParams {
        smtp_utf8: has(SMTP_UTF8),
        binary: has(BINARY),
        require_tls: has(REQUIRE_TLS),
        deliver_by: has(HAS_DELIVER_BY).then(|| reader.text().map(Into::into)).transpose()?,
        release_ms: has(HAS_RELEASE).then(|| reader.number()).transpose()?,
        mt_priority: has(HAS_PRIORITY).then(|| reader.octet().map(MoreParams::priority_of)).transpose()?,
        auth_sender: has(HAS_AUTH_SENDER).then(|| reader.text().map(Into::into)).transpose()?,
        changes: if has(HAS_CHANGES) { Changes(reader.octet()?) } else { Changes::default() },
    };
    more.given().ok_or(Malformed("there are no more parameters"))
}

/// A row of `finished`: a message that is kept although it is finished.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(super) struct FinishedValue<'a> {
    pub(super) until_ms: u64,
    pub(super) message: MessageValue<'a>,
}

impl<'a> FinishedValue<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_number(out, self.until_ms);
        self.message.encode_fields(out);
    }

    pub(super) fn decode(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(value, VERSION)?;
        let until_ms = reader.number()?;
        Ok(Self { until_ms, message: MessageValue::read(reader)? })
    }
}

impl Head {
    /// Read the beginning of a message's row.
    pub(super) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        head(&mut Reader::versioned(value, VERSION)?)
    }
}

fn head(reader: &mut Reader<'_>) -> Result<Head, Malformed> {
    let received_ms = reader.number()?;
    let size = reader.number()?;
    let mut location = Location {
        segment: reader.number()?,
        offset: reader.number()?,
        length: reader.number()?,
        record_bytes: reader.number()?,
        blob: None,
    };
    let form = reader.octet()?;
    let has_blob = form & IN_BLOB != 0;
    let form = match form & !IN_BLOB {
        1 => Form::Wire,
        2 => Form::Plain,
        _ => return Err(Malformed("the form of the content is not known")),
    };
    let flags = ContentFlags(reader.octet()?);
    let recipients = reader.number32()?;
    if has_blob {
        location.blob = Some(InBlob { bytes: reader.number()?, sum: reader.number32()? });
    }
    Ok(Head { received_ms, size, stored: Stored { location, form, flags }, recipients })
}

/// What became of a recipient last.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct LastOutcome<'a> {
    pub(super) state: OutcomeState,
    pub(super) code: u16,
    pub(super) enhanced: &'a str,
    pub(super) text: &'a str,
}

impl<'a> LastOutcome<'a> {
    pub(super) fn of(outcome: &'a Outcome) -> Self {
        Self {
            state: outcome.state,
            code: outcome.code,
            enhanced: bounded(&outcome.enhanced, ENHANCED_MAX),
            text: bounded(&outcome.text, TEXT_MAX),
        }
    }
}

/// A recipient in a row of `recipient`.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct RecipientValue<'a> {
    pub(super) address: &'a str,
    pub(super) orcpt: Option<&'a str>,
    pub(super) notify: u8,
    pub(super) last: Option<LastOutcome<'a>>,
}

impl<'a> RecipientValue<'a> {
    pub(super) fn of(recipient: &'a RecipientRecord) -> Self {
        Self {
            address: &recipient.address,
            orcpt: recipient.orcpt.as_deref(),
            notify: recipient.notify,
            last: None,
        }
    }
}

/// Write a block of recipients.
pub(super) fn encode_block(block: &[RecipientValue<'_>], out: &mut Vec<u8>) {
    out.push(VERSION);
    put_number(out, block.len() as u64);
    for recipient in block {
        out.push(flag(recipient.orcpt.is_some(), HAS_ORCPT) | flag(recipient.last.is_some(), HAS_OUTCOME));
        out.push(recipient.notify);
        put_text(out, recipient.address);
        if let Some(orcpt) = recipient.orcpt {
            put_text(out, orcpt);
        }
        if let Some(last) = recipient.last {
            out.push(last.state as u8);
            put_number(out, last.code.into());
            put_text(out, last.enhanced);
            put_text(out, last.text);
        }
    }
}

pub(super) fn decode_block(value: &[u8]) -> Result<Vec<RecipientValue<'_>>, Malformed> {
    let mut reader = Reader::versioned(value, VERSION)?;
    let count = reader.number()?;
    if count == 0 || count > BLOCK.into() {
        return Err(Malformed("a block has no recipients or too many"));
    }
    let mut block = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let present = reader.octet()?;
        if present & !(HAS_ORCPT | HAS_OUTCOME) != 0 {
            return Err(Malformed("parts of a recipient are not known"));
        }
        block.push(RecipientValue {
            notify: reader.octet()?,
            address: reader.text()?,
            orcpt: (present & HAS_ORCPT != 0).then(|| reader.text()).transpose()?,
            last: (present & HAS_OUTCOME != 0).then(|| last_outcome(&mut reader)).transpose()?,
        });
    }
    reader.finish().map(|()| block)
}

fn last_outcome<'a>(reader: &mut Reader<'a>) -> Result<LastOutcome<'a>, Malformed> {
    Ok(LastOutcome {
        state: OutcomeState::from_number(reader.octet()?).ok_or(Malformed("an outcome is not known"))?,
        code: reader.number16()?,
        enhanced: reader.text()?,
        text: reader.text()?,
    })
}

/// A row of `entry`.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(super) struct EntryValue {
    pub(super) priority: u8,
    pub(super) due_ms: u64,
    pub(super) expires_ms: u64,
    /// The last attempt that was begun.
    pub(super) attempts: u32,
    /// The last attempt whose end is known. It is the last that was begun, or the entry is in doubt.
    pub(super) settled: u32,
    pub(super) lane: u64,
    /// Those that are left; never empty.
    pub(super) recipients: RecipientSet,
    /// The last record that changed it.
    pub(super) version: Lsn,
    pub(super) suspended: Option<Suspension>,
    /// The last edit; boxed, because most entries have none.
    pub(super) edit: Option<Box<LastEdit>>,
}

impl EntryValue {
    /// Whether an attempt was begun whose end is not known; only then is there a row in `started`.
    pub(super) fn in_doubt(&self) -> bool {
        self.attempts > self.settled
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, self.priority]);
        put_number(out, self.due_ms);
        put_number(out, self.expires_ms);
        put_number(out, self.attempts.into());
        put_number(out, self.settled.into());
        out.extend_from_slice(&self.lane.to_be_bytes());
        self.recipients.encode(out);
        put_number(out, self.version);
        out.push(self.suspended.map_or(0, |one| one as u8) | flag(self.edit.is_some(), HAS_EDIT));
        if let Some(LastEdit { number, kind, author }) = self.edit.as_deref() {
            put_number(out, (*number).into());
            out.push(*kind as u8);
            put_number(out, author.at_ms);
            put_text(out, &author.who);
            put_text(out, &author.why);
        }
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(value, VERSION)?;
        let mut entry = Self {
            priority: reader.octet()?,
            due_ms: reader.number()?,
            expires_ms: reader.number()?,
            attempts: reader.number32()?,
            settled: reader.number32()?,
            lane: u64::from_be_bytes(reader.array()?),
            recipients: RecipientSet::decode(&mut reader)?,
            version: reader.number()?,
            suspended: None,
            edit: None,
        };
        let present = reader.octet()?;
        if present & !(SUSPENSION | HAS_EDIT) != 0 {
            return Err(Malformed("parts of an entry are not known"));
        }
        if present & SUSPENSION != 0 {
            let suspended = Suspension::from_number(present & SUSPENSION);
            entry.suspended = Some(suspended.ok_or(Malformed("a suspension is not known"))?);
        }
        if present & HAS_EDIT != 0 {
            entry.edit = Some(Box::new(last_edit(&mut reader)?));
        }
        if entry.recipients.is_empty() {
            return Err(Malformed("an entry has no recipients"));
        }
        reader.finish().map(|()| entry)
    }
}

fn last_edit(reader: &mut Reader<'_>) -> Result<LastEdit, Malformed> {
    let number = reader.number32()?;
    let kind = EditKind::from_number(reader.octet()?).ok_or(Malformed("the kind of an edit is not known"))?;
    let at_ms = reader.number()?;
    let (who, why) = (reader.text()?.into(), reader.text()?.into());
    Ok(LastEdit { number, kind, author: Author { who, why, at_ms } })
}

/// A row of `hop`.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(super) struct HopValue<'a> {
    pub(super) kind: HopKind,
    pub(super) connector: &'a str,
    pub(super) destination: &'a str,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) state: u8,
    pub(super) last_error: &'a str,
    pub(super) next_retry_ms: u64,
    pub(super) failures: u32,
    /// Entries that are suspended.
    pub(super) suspended: u64,
}

impl<'a> HopValue<'a> {
    /// A hop without entries in its usual state.
    pub(super) fn named(name: &'a HopName) -> Self {
        Self {
            kind: name.kind,
            connector: &name.connector,
            destination: &name.destination,
            count: 0,
            bytes: 0,
            state: 0,
            last_error: "",
            next_retry_ms: 0,
            failures: 0,
            suspended: 0,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, self.kind as u8, self.state]);
        put_text(out, self.connector);
        put_text(out, self.destination);
        put_number(out, self.count);
        put_number(out, self.bytes);
        put_text(out, self.last_error);
        put_number(out, self.next_retry_ms);
        put_number(out, self.failures.into());
        put_number(out, self.suspended);
    }

    pub(super) fn decode(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(value, VERSION)?;
        let hop = Self {
            kind: HopKind::from_number(reader.octet()?).ok_or(Malformed("the kind of a hop is not known"))?,
            state: reader.octet()?,
            connector: reader.text()?,
            destination: reader.text()?,
            count: reader.number()?,
            bytes: reader.number()?,
            last_error: reader.text()?,
            next_retry_ms: reader.number()?,
            failures: reader.number32()?,
            suspended: reader.number()?,
        };
        reader.finish().map(|()| hop)
    }
}

/// Write a row that is a few numbers: of `arrival` (when the message was taken), `blob` (its octets), `segment` (live
/// octets, live messages) and most of `meta`.
pub(super) fn encode_numbers(numbers: &[u64], out: &mut Vec<u8>) {
    out.push(VERSION);
    for &number in numbers {
        put_number(out, number);
    }
}

pub(super) fn decode_numbers<const N: usize>(value: &[u8]) -> Result<[u64; N], Malformed> {
    let mut reader = Reader::versioned(value, VERSION)?;
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = reader.number()?;
    }
    reader.finish().map(|()| numbers)
}

/// Write a row of `started`.
pub(super) fn encode_started(attempt: u32, peer: &str, out: &mut Vec<u8>) {
    out.push(VERSION);
    put_number(out, attempt.into());
    put_text(out, peer);
}

pub(super) fn decode_started(value: &[u8]) -> Result<(u32, &str), Malformed> {
    let mut reader = Reader::versioned(value, VERSION)?;
    let started = (reader.number32()?, reader.text()?);
    reader.finish().map(|()| started)
}
