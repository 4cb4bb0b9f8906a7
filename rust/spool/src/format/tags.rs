//! The numbers of fields, as `FORMAT.md` lists them. A number is never given a second meaning.

use super::fields::CRITICAL;

/// What a record says: the fields of its body.
pub(super) mod part {
    use super::CRITICAL;

    pub(crate) const ACCEPTED: u16 = 1 | CRITICAL;
    pub(crate) const ROUTED: u16 = 2 | CRITICAL;
    pub(crate) const HOP: u16 = 3 | CRITICAL;
    pub(crate) const STARTED: u16 = 4 | CRITICAL;
    pub(crate) const SETTLED: u16 = 5 | CRITICAL;
    pub(crate) const EDITED: u16 = 6 | CRITICAL;
}

pub(super) mod accepted {
    use super::CRITICAL;

    pub(crate) const QUEUE_ID: u16 = 1 | CRITICAL;
    /// Where the content is: [`INLINE`] or [`IN_BLOB`].
    pub(crate) const EXTENT: u16 = 2 | CRITICAL;
    pub(crate) const FORM: u16 = 3 | CRITICAL;
    pub(crate) const FLAGS: u16 = 4 | CRITICAL;
    pub(crate) const SIZE: u16 = 5;
    pub(crate) const RECEIVED: u16 = 6;
    pub(crate) const SENDER: u16 = 7 | CRITICAL;
    pub(crate) const RET: u16 = 8;
    pub(crate) const ENVID: u16 = 9;
    pub(crate) const EIGHT_BIT: u16 = 10;
    pub(crate) const CONNECTOR: u16 = 11;
    pub(crate) const PEER: u16 = 12;
    pub(crate) const HELO: u16 = 13;
    pub(crate) const SESSION: u16 = 14;
    pub(crate) const MESSAGE_ID: u16 = 15;
    pub(crate) const SUBJECT: u16 = 16;
    pub(crate) const RECIPIENT: u16 = 0x11 | CRITICAL;
    pub(crate) const ENTRY: u16 = 0x12 | CRITICAL;
    /// Up to where the log had been read when this was written in place of an earlier one of the same message.
    pub(crate) const AS_OF: u16 = 0x14 | CRITICAL;

    pub(crate) const BLOB: u16 = 0x13 | CRITICAL;
    pub(crate) const SMTP_UTF8: u16 = 0x15;
    /// Critical, because whoever does not know it could send the content as lines.
    pub(crate) const BINARY: u16 = 0x16 | CRITICAL;
    /// Critical, because whoever does not know it could send the message in the clear.
    pub(crate) const REQUIRE_TLS: u16 = 0x17 | CRITICAL;
    pub(crate) const DELIVER_BY: u16 = 0x18;
    pub(crate) const RELEASE: u16 = 0x19;
    pub(crate) const MT_PRIORITY: u16 = 0x1a;
    pub(crate) const AUTH_SENDER: u16 = 0x1b;
    pub(crate) const CHANGES: u16 = 0x1c;

    /// The content is in the same record, behind the body.
    pub(crate) const INLINE: u64 = 1;
    /// What was prepended is in the same record; the rest is in a blob.
    pub(crate) const IN_BLOB: u64 = 2;
    pub(crate) const FORM_WIRE: u64 = 1;
    pub(crate) const FORM_PLAIN: u64 = 2;
}

pub(super) mod recipient {
    use super::CRITICAL;

    pub(crate) const ADDRESS: u16 = 1 | CRITICAL;
    pub(crate) const ORCPT: u16 = 2;
    pub(crate) const NOTIFY: u16 = 3;
}

pub(super) mod blob {
    use super::CRITICAL;

    pub(crate) const BYTES: u16 = 1 | CRITICAL;
    pub(crate) const SUM: u16 = 2 | CRITICAL;
}

/// A next hop with its name; the same in every part that has one.
pub(super) mod hop {
    use super::CRITICAL;

    pub(crate) const ID: u16 = 1 | CRITICAL;
    pub(crate) const KIND: u16 = 2 | CRITICAL;
    pub(crate) const CONNECTOR: u16 = 3 | CRITICAL;
    pub(crate) const DESTINATION: u16 = 4 | CRITICAL;
}

pub(super) mod entry {
    use super::CRITICAL;

    pub(crate) const HOP: u16 = 1 | CRITICAL;
    pub(crate) const RECIPIENTS: u16 = 2 | CRITICAL;
    pub(crate) const PRIORITY: u16 = 3;
    pub(crate) const DUE: u16 = 4;
    pub(crate) const EXPIRES: u16 = 5;
    /// The last attempt whose end was known.
    pub(crate) const ATTEMPTS: u16 = 6;
    /// What keeps it from being tried; not there if nothing does.
    pub(crate) const SUSPENDED: u16 = 7 | CRITICAL;
}

pub(super) mod routed {
    use super::CRITICAL;

    pub(crate) const QUEUE_ID: u16 = 1 | CRITICAL;
    pub(crate) const FROM: u16 = 2 | CRITICAL;
    pub(crate) const TO: u16 = 3 | CRITICAL;
}

pub(super) mod hop_state {
    use super::CRITICAL;

    pub(crate) const HOP: u16 = 1 | CRITICAL;
    pub(crate) const STATE: u16 = 2 | CRITICAL;
    pub(crate) const LAST_ERROR: u16 = 3;
    pub(crate) const NEXT_RETRY: u16 = 4;
    pub(crate) const FAILURES: u16 = 5;
}

pub(super) mod started {
    use super::CRITICAL;

    pub(crate) const QUEUE_ID: u16 = 1 | CRITICAL;
    pub(crate) const HOP: u16 = 2 | CRITICAL;
    pub(crate) const ATTEMPT: u16 = 3 | CRITICAL;
    pub(crate) const PEER: u16 = 4;
}

pub(super) mod settled {
    use super::CRITICAL;

    pub(crate) const QUEUE_ID: u16 = 1 | CRITICAL;
    pub(crate) const HOP: u16 = 2 | CRITICAL;
    pub(crate) const ATTEMPT: u16 = 3 | CRITICAL;
    /// When it is tried again; not there if the entry is finished.
    pub(crate) const DUE: u16 = 4 | CRITICAL;
    pub(crate) const OUTCOME: u16 = 5 | CRITICAL;
    pub(crate) const PEER: u16 = 6;
    pub(crate) const SESSION: u16 = 7;
}

pub(super) mod outcome {
    use super::CRITICAL;

    pub(crate) const RECIPIENT: u16 = 1 | CRITICAL;
    pub(crate) const STATE: u16 = 2 | CRITICAL;
    pub(crate) const STAGE: u16 = 3;
    pub(crate) const CODE: u16 = 4;
    pub(crate) const ENHANCED: u16 = 5;
    pub(crate) const TEXT: u16 = 6;
}

pub(super) mod edited {
    use super::CRITICAL;

    pub(crate) const QUEUE_ID: u16 = 1 | CRITICAL;
    pub(crate) const HOP: u16 = 2 | CRITICAL;
    pub(crate) const NUMBER: u16 = 3 | CRITICAL;
    /// What was done.
    pub(crate) const KIND: u16 = 4 | CRITICAL;
    /// The suspension, expiry time, priority or due time that is given.
    pub(crate) const VALUE: u16 = 5 | CRITICAL;
    /// Of a recipient that is removed.
    pub(crate) const OUTCOME: u16 = 6 | CRITICAL;
    /// Where recipients go.
    pub(crate) const TO: u16 = 7 | CRITICAL;
    pub(crate) const VERSION: u16 = 8;
    pub(crate) const AT: u16 = 9;
    pub(crate) const WHO: u16 = 10;
    pub(crate) const WHY: u16 = 11;
}
