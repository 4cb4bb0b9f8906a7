//! Bodies of records: what is written is read, what is unknown is passed over or refused, nothing panics.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use penstock_core::flow::{Changes, ContentFlags, Form};
use penstock_core::queue_id::QueueId;
use proptest::prelude::*;

use super::decode::{Part, body};
use super::encode;
use super::fields::{CRITICAL, FieldWriter};
use super::record::{HEADER, RecordHeader};
use crate::edit::{Author, Change, EditRecord, Suspension};
use crate::facts::{
    Accepted, Disposition, EntryRecord, EnvelopeParams, Fact, HopId, HopKind, HopName, MoreParams, Outcome,
    OutcomeState, RecipientRecord, RoutedTo,
};
use crate::redo::InBlob;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), ".{1,30}"]
}

fn indices() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), 0..5)
}

fn name() -> impl Strategy<Value = Arc<HopName>> {
    (text(), 1u8..=4, text()).prop_map(|(connector, kind, destination)| {
        Arc::new(HopName { connector, kind: HopKind::from_number(kind).unwrap(), destination })
    })
}

fn recipient() -> impl Strategy<Value = RecipientRecord> {
    (text(), prop::option::of(text()), any::<u8>()).prop_map(|(address, orcpt, notify)| RecipientRecord {
        address,
        orcpt,
        notify,
    })
}

fn entry() -> impl Strategy<Value = (EntryRecord, Arc<HopName>)> {
    (name(), indices(), any::<u8>(), any::<[u64; 2]>(), 0u8..=2).prop_map(
        |(name, recipients, priority, [due_ms, expires_ms], suspended)| {
            let (hop, suspended) = (name.id(), Suspension::from_number(suspended));
            (EntryRecord { hop, recipients, priority, due_ms, expires_ms, suspended }, name)
        },
    )
}

fn more_params() -> impl Strategy<Value = Option<Box<MoreParams>>> {
    let texts = (prop::option::of(text()), prop::option::of(text()));
    let numbers = (any::<Option<u64>>(), prop::option::of(-9i8..=9), any::<u8>());
    (any::<[bool; 3]>(), texts, numbers).prop_map(
        |(
            [smtp_utf8, binary, require_tls],
            (deliver_by, auth_sender),
            (release_ms, mt_priority, changes),
        )| {
            let more = MoreParams {
                smtp_utf8,
                binary,
                require_tls,
                deliver_by,
                release_ms,
                mt_priority,
                auth_sender,
                changes: Changes(changes),
            };
            more.given()
        },
    )
}

fn message() -> impl Strategy<Value = Part> {
    let params = (any::<Option<u8>>(), prop::option::of(text()), any::<bool>(), more_params())
        .prop_map(|(ret, envid, eight_bit, more)| EnvelopeParams { ret, envid, eight_bit, more });
    let texts: [_; 7] = std::array::from_fn(|_| text());
    let recipients = prop::collection::vec(recipient(), 0..4);
    let entries = prop::collection::vec(entry(), 0..3);
    let numbers = any::<[u64; 3]>();
    let blob = prop::option::of(any::<(u64, u32)>().prop_map(|(bytes, sum)| InBlob { bytes, sum }));
    (numbers, texts, params, any::<bool>(), any::<u8>(), recipients, entries, blob).prop_map(
        |([id, received_ms, size], texts, params, is_wire, flags, recipients, entries, blob)| {
            let [sender, connector, peer, helo, session, message_id, subject] = texts;
            let (entries, hops) = entries.into_iter().unzip();
            let accepted = Accepted {
                received_ms,
                sender,
                params,
                connector,
                peer,
                helo,
                session,
                form: if is_wire { Form::Wire } else { Form::Plain },
                flags: ContentFlags(flags),
                size,
                message_id,
                subject,
                recipients,
                entries,
            };
            Part::Accepted { queue_id: QueueId(id), accepted: Box::new(accepted), hops, blob }
        },
    )
}

/// A message that lies elsewhere now.
fn moved() -> impl Strategy<Value = Part> {
    (message(), any::<u64>(), any::<[u32; 3]>()).prop_map(|(part, as_of, attempts)| match part {
        Part::Accepted { queue_id, accepted, hops, blob } => {
            let attempts = attempts[..accepted.entries.len()].to_vec();
            Part::Moved { queue_id, accepted, hops, blob, as_of, attempts }
        }
        other => other,
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    (any::<u32>(), 1u8..=7, any::<u8>(), any::<u16>(), text(), text()).prop_map(
        |(recipient, state, stage, code, enhanced, text)| Outcome {
            recipient,
            state: OutcomeState::from_number(state).unwrap(),
            stage,
            code,
            enhanced,
            text,
        },
    )
}

fn fact() -> impl Strategy<Value = Part> {
    let routed =
        (any::<u64>(), any::<u128>(), prop::collection::vec(entry(), 0..3)).prop_map(|(id, from, to)| {
            let (to, hops) = to
                .into_iter()
                .map(|(EntryRecord { hop, recipients, due_ms, .. }, name)| {
                    (RoutedTo { hop, recipients, due_ms }, name)
                })
                .unzip();
            Part::Fact { fact: Fact::Routed { queue_id: QueueId(id), from: HopId(from), to }, hops }
        });
    let hop = (name(), any::<u8>(), text(), any::<u64>(), any::<u32>()).prop_map(
        |(name, state, last_error, next_retry_ms, failures)| {
            let fact = Fact::Hop { hop: name.id(), state, last_error, next_retry_ms, failures };
            Part::Fact { fact, hops: vec![name] }
        },
    );
    let outcomes = prop::collection::vec(outcome(), 0..4);
    let settled = (any::<u64>(), any::<u128>(), any::<u32>(), any::<Option<u64>>(), outcomes, text(), text())
        .prop_map(|(id, hop, attempt, due, outcomes, peer, session)| {
            let disposition = due.map_or(Disposition::Finished, |due_ms| Disposition::Due { due_ms });
            let (queue_id, hop) = (QueueId(id), HopId(hop));
            let fact = Fact::Settled { queue_id, hop, attempt, disposition, outcomes, peer, session };
            Part::Fact { fact, hops: Vec::new() }
        });
    prop_oneof![routed, hop, settled, edited()]
}

fn edited() -> impl Strategy<Value = Part> {
    let change = prop_oneof![
        (1u8..=2).prop_map(|number| (Change::Suspended(Suspension::from_number(number).unwrap()), vec![])),
        Just((Change::Resumed, vec![])),
        prop::collection::vec(outcome(), 0..4).prop_map(|outcomes| (Change::Removed(outcomes), vec![])),
        entry().prop_map(|(EntryRecord { hop, recipients, due_ms, .. }, name)| {
            (Change::Redirected(RoutedTo { hop, recipients, due_ms }), vec![name])
        }),
        any::<u64>().prop_map(|at_ms| (Change::Expiry(at_ms), vec![])),
        any::<u8>().prop_map(|priority| (Change::Priority(priority), vec![])),
        any::<u64>().prop_map(|at_ms| (Change::Due(at_ms), vec![])),
    ];
    (any::<[u64; 3]>(), any::<u128>(), any::<u32>(), text(), text(), change).prop_map(
        |([id, version, at_ms], hop, number, who, why, (change, hops))| {
            let (queue_id, hop, author) = (QueueId(id), HopId(hop), Author { who, why, at_ms });
            let record = EditRecord { queue_id, hop, number, version, author, change };
            Part::Fact { fact: Fact::Edited(Box::new(record)), hops }
        },
    )
}

fn start() -> impl Strategy<Value = Part> {
    (any::<u64>(), any::<u128>(), any::<u32>(), text()).prop_map(|(id, hop, attempt, peer)| Part::Started {
        queue_id: QueueId(id),
        hop: HopId(hop),
        attempt,
        peer,
    })
}

fn written(parts: &[Part]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            Part::Accepted { queue_id, accepted, hops, blob } => {
                encode::accepted(&mut out, *queue_id, accepted, hops, *blob);
            }
            Part::Fact { fact, hops } => encode::fact(&mut out, fact, hops),
            Part::Started { queue_id, hop, attempt, peer } => {
                encode::started(&mut out, *queue_id, *hop, *attempt, peer);
            }
            Part::Moved { queue_id, accepted, hops, blob, as_of, attempts } => {
                encode::moved(&mut out, *queue_id, accepted, hops, *blob, (*as_of, attempts));
            }
        }
    }
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        message in prop::option::of(prop_oneof![message(), moved()]),
        others in prop::collection::vec(prop_oneof![fact(), start()], 0..4),
    ) {
        let parts: Vec<Part> = message.into_iter().chain(others).collect();
        prop_assert_eq!(body(&written(&parts)).unwrap(), parts);
    }

    #[test]
    fn reading_what_is_damaged_never_panics(
        parts in prop::collection::vec(prop_oneof![message(), fact(), start()], 1..3),
        at: prop::sample::Index,
        octet: u8,
        cut: prop::sample::Index,
    ) {
        let mut octets = written(&parts);
        let place = at.index(octets.len());
        octets[place] = octet;
        let _ = body(&octets);
        let _ = body(&octets[..cut.index(octets.len())]);
    }

    #[test]
    fn reading_anything_never_panics(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = body(&octets);
    }
}

fn plain() -> Part {
    let name = Arc::new(HopName {
        connector: "internet".into(),
        kind: HopKind::Domain,
        destination: "contoso.example".into(),
    });
    Part::Fact {
        fact: Fact::Hop {
            hop: name.id(),
            state: 1,
            last_error: "refused".into(),
            next_retry_ms: 1_763_951_460_000,
            failures: 3,
        },
        hops: vec![name],
    }
}

#[test]
fn unknown_fields_are_passed_over_unless_they_are_critical() {
    let mut octets = written(&[plain()]);
    FieldWriter::new(&mut octets).text(0x777, "from later");
    assert_eq!(body(&octets).unwrap(), [plain()]);
    FieldWriter::new(&mut octets).text(0x777 | CRITICAL, "from later");
    assert!(body(&octets).is_err());
}

#[test]
fn a_record_without_what_it_needs_or_with_two_messages_is_refused() {
    for tag in 1..=5 {
        let mut octets = Vec::new();
        FieldWriter::new(&mut octets).nested(tag | CRITICAL, |_| ());
        assert!(body(&octets).is_err(), "{tag}");
    }
    let accepted = Accepted {
        received_ms: 0,
        sender: String::new(),
        params: EnvelopeParams::default(),
        connector: String::new(),
        peer: String::new(),
        helo: String::new(),
        session: String::new(),
        form: Form::Plain,
        flags: ContentFlags::default(),
        size: 0,
        message_id: String::new(),
        subject: String::new(),
        recipients: Vec::new(),
        entries: Vec::new(),
    };
    let mut octets = Vec::new();
    encode::accepted(&mut octets, QueueId(1), &accepted, &[], None);
    assert!(body(&octets).is_ok());
    encode::accepted(&mut octets, QueueId(2), &accepted, &[], None);
    assert!(body(&octets).is_err());
}

#[test]
fn a_place_of_the_content_that_is_not_told_in_full_is_refused() {
    let message = |extents: &[u64], blob: Option<&[u16]>| {
        let mut octets = Vec::new();
        FieldWriter::new(&mut octets).nested(1 | CRITICAL, |fields| {
            fields.given_number(1 | CRITICAL, 7);
            for &number in extents {
                fields.given_number(2 | CRITICAL, number);
            }
            if let Some(tags) = blob {
                fields.nested(0x13 | CRITICAL, |fields| {
                    for tag in tags {
                        fields.given_number(tag | CRITICAL, 9);
                    }
                });
            }
        });
        body(&octets).is_ok()
    };
    assert!(message(&[1], None) && message(&[2], Some(&[1, 2])));
    for (extents, blob) in [
        (&[][..], None),
        (&[1, 1], None),
        (&[3], None),
        (&[2], None),
        (&[1], Some(&[1, 2][..])),
        (&[2], Some(&[1])),
        (&[2], Some(&[2])),
        (&[2], Some(&[1, 2, 3])),
    ] {
        assert!(!message(extents, blob), "{extents:?} {blob:?}");
    }
}

/// The record that `FORMAT.md` shows.
fn example() -> Vec<u8> {
    let body = written(&[plain()]);
    let header = RecordHeader {
        nonce: 0x1122_3344_5566_7788,
        lsn: 7,
        previous: 6,
        origin: 7,
        durable: 5,
        body_length: body.len() as u32,
        body_sum: crc32c::crc32c(&body),
        content_length: 0,
        content_sum: 0,
    };
    let mut octets = header.encode().to_vec();
    octets.extend_from_slice(&body);
    octets
}

#[test]
fn the_example_in_the_description_of_the_format_is_what_is_written() {
    let description = include_str!("../../FORMAT.md");
    let block = description.split("```hex\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let digits = block.lines().filter_map(|line| line.split('|').next()).flat_map(str::split_whitespace);
    let octets: Vec<u8> = digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
    let expected = example();
    let shown: Vec<String> = expected.iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(octets, expected, "{}", shown.join(" "));
    let header: [u8; HEADER] = octets[..HEADER].try_into().unwrap();
    assert!(RecordHeader::decode(&header, 0x1122_3344_5566_7788).unwrap().is_ok());
}
