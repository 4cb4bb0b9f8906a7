//! Values come back as they were written, and a part of one is refused.

use std::fmt::Debug;

use penstock_core::flow::{Changes, ContentFlags, Form};
use proptest::prelude::*;

use crate::edit::{Author, EditKind, LastEdit, Suspension};
use crate::facts::{HopKind, MoreParams, OutcomeState};
use crate::index::codec::Malformed;
use crate::index::set::RecipientSet;
use crate::index::values::{
    BLOCK, ENHANCED_MAX, EntryValue, Head, HopValue, LastOutcome, MessageValue, RecipientValue, TEXT_MAX,
    bounded, decode_block, decode_numbers, decode_started, encode_block, encode_numbers, encode_started,
};
use crate::redo::{InBlob, Location, Stored};

/// It is read as it was written, and neither a part of it, nor with more behind it, nor in another version.
fn round_trip<'o, T: PartialEq + Debug>(
    octets: &'o [u8],
    longer: &'o [u8],
    value: &T,
    decode: impl Fn(&'o [u8]) -> Result<T, Malformed>,
) -> Result<(), TestCaseError> {
    let whole = decode(octets);
    prop_assert_eq!(whole.as_ref(), Ok(value));
    for end in 0..octets.len() {
        prop_assert!(decode(&octets[..end]).is_err(), "{} of {}", end, octets.len());
    }
    prop_assert!(decode(longer).is_err());
    Ok(())
}

fn longer(octets: &[u8]) -> Vec<u8> {
    [octets, &[0]].concat()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,12}", Just(String::new()), Just("x".repeat(200))]
}

fn location() -> impl Strategy<Value = Location> {
    let blob = prop::option::of(any::<(u64, u32)>().prop_map(|(bytes, sum)| InBlob { bytes, sum }));
    (any::<[u64; 4]>(), blob).prop_map(|([segment, offset, length, record_bytes], blob)| Location {
        segment,
        offset,
        length,
        record_bytes,
        blob,
    })
}

fn state() -> impl Strategy<Value = OutcomeState> {
    (1..8_u8).prop_map(|number| OutcomeState::from_number(number).unwrap())
}

type OwnedOutcome = (OutcomeState, u16, String, String);

type OwnedRecipient = (String, Option<String>, u8, Option<OwnedOutcome>);

fn recipient() -> impl Strategy<Value = OwnedRecipient> {
    let last = prop::option::of((state(), any::<u16>(), text(), text()));
    (text(), prop::option::of(text()), any::<u8>(), last)
}

fn block() -> impl Strategy<Value = Vec<OwnedRecipient>> {
    let sizes = prop_oneof![15 => 1..4_usize, 1 => Just(BLOCK as usize)];
    sizes.prop_flat_map(|size| prop::collection::vec(recipient(), size))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_message_comes_back(
        (received_ms, size, recipients, location) in (any::<u64>(), any::<u64>(), any::<u32>(), location()),
        (plain, flags, eight_bit, ret) in any::<(bool, u8, bool, Option<u8>)>(),
        envid in prop::option::of(text()),
        texts in prop::collection::vec(text(), 7),
        (marks, release_ms, mt_priority, changes) in any::<([bool; 3], Option<u64>, Option<bool>, u8)>(),
        more_texts in (prop::option::of(text()), prop::option::of(text())),
    ) {
        let [smtp_utf8, binary, require_tls] = marks;
        let (deliver_by, auth_sender) = more_texts;
        let mt_priority = mt_priority.map(|is_low| if is_low { -9 } else { 9 });
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
        let form = if plain { Form::Plain } else { Form::Wire };
        let stored = Stored { location, form, flags: ContentFlags(flags) };
        let value = MessageValue {
            head: Head { received_ms, size, stored, recipients },
            eight_bit,
            ret,
            envid: envid.as_deref(),
            more: more.given(),
            sender: &texts[0],
            connector: &texts[1],
            peer: &texts[2],
            helo: &texts[3],
            session: &texts[4],
            message_id: &texts[5],
            subject: &texts[6],
        };
        let mut octets = Vec::new();
        value.encode(&mut octets);
        round_trip(&octets, &longer(&octets), &value, MessageValue::decode)?;
        prop_assert_eq!(Head::decode(&octets), Ok(value.head));
    }

    #[test]
    fn a_block_of_recipients_comes_back(block in block()) {
        let block: Vec<_> = block.iter().map(|(address, orcpt, notify, last)| RecipientValue {
            address,
            orcpt: orcpt.as_deref(),
            notify: *notify,
            last: last.as_ref().map(|(state, code, enhanced, text)| {
                LastOutcome { state: *state, code: *code, enhanced, text }
            }),
        }).collect();
        let mut octets = Vec::new();
        encode_block(&block, &mut octets);
        round_trip(&octets, &longer(&octets), &block, decode_block)?;
    }

    #[test]
    fn an_entry_comes_back(
        (priority, due_ms, expires_ms, attempts, settled, lane) in any::<(u8, u64, u64, u32, u32, u64)>(),
        recipients in prop::collection::vec(0..1_000_u32, 1..30),
        (version, suspended) in (any::<u64>(), 0..3_u8),
        edit in prop::option::of((any::<u32>(), 1..8_u8, any::<u64>(), text(), text())),
    ) {
        let recipients = RecipientSet::from_indices(recipients);
        let suspended = Suspension::from_number(suspended);
        let edit = edit.map(|(number, kind, at_ms, who, why)| {
            let (kind, author) = (EditKind::from_number(kind).unwrap(), Author { who, why, at_ms });
            Box::new(LastEdit { number, kind, author })
        });
        let value = EntryValue {
            priority, due_ms, expires_ms, attempts, settled, lane, recipients, version, suspended, edit,
        };
        let mut octets = Vec::new();
        value.encode(&mut octets);
        round_trip(&octets, &longer(&octets), &value, EntryValue::decode)?;
    }

    #[test]
    fn a_hop_comes_back(
        kind in 1..5_u8,
        (count, bytes, state, next_retry_ms, failures, suspended) in any::<(u64, u64, u8, u64, u32, u64)>(),
        texts in prop::collection::vec(text(), 3),
    ) {
        let kind = HopKind::from_number(kind).unwrap();
        let (connector, destination, last_error) = (&*texts[0], &*texts[1], &*texts[2]);
        let value = HopValue {
            kind, connector, destination, count, bytes, state, last_error, next_retry_ms, failures, suspended,
        };
        let mut octets = Vec::new();
        value.encode(&mut octets);
        round_trip(&octets, &longer(&octets), &value, HopValue::decode)?;
    }

    #[test]
    fn numbers_and_attempts_come_back(numbers: [u64; 3], attempt: u32, peer in text()) {
        let mut octets = Vec::new();
        encode_numbers(&numbers, &mut octets);
        round_trip(&octets, &longer(&octets), &numbers, decode_numbers)?;
        octets.clear();
        encode_started(attempt, &peer, &mut octets);
        round_trip(&octets, &longer(&octets), &(attempt, &*peer), decode_started)?;
    }

    #[test]
    fn decoding_never_panics(mut octets in prop::collection::vec(any::<u8>(), 1..60)) {
        octets[0] = 1;
        let _ = (MessageValue::decode(&octets).is_ok(), decode_block(&octets).is_ok());
        let _ = (EntryValue::decode(&octets).is_ok(), HopValue::decode(&octets).is_ok());
        let _ = (decode_numbers::<2>(&octets).is_ok(), decode_started(&octets).is_ok());
    }

    #[test]
    fn texts_are_cut_between_characters(text in ".{0,30}", max in 0..40_usize) {
        let cut = bounded(&text, max);
        prop_assert!(cut.len() <= max && text.starts_with(cut));
        prop_assert!(cut == text || cut.len() + 4 > max);
    }
}

#[test]
fn values_of_another_version_or_with_unknown_parts_are_refused() {
    let entry = EntryValue {
        priority: 1,
        due_ms: 0,
        expires_ms: 0,
        attempts: 0,
        settled: 0,
        lane: 0,
        recipients: RecipientSet::default(),
        version: 0,
        suspended: None,
        edit: None,
    };
    let mut octets = Vec::new();
    entry.encode(&mut octets);
    assert_eq!(EntryValue::decode(&octets), Err(Malformed("an entry has no recipients")));
    octets[0] = 2;
    assert_eq!(EntryValue::decode(&octets), Err(Malformed("its version is not known")));
    for block in [&[1, 0][..], &[1, 65], &[1, 1, 4, 0, 0], &[1, 1, 2, 0, 0, 9, 0, 0, 0]] {
        assert!(decode_block(block).is_err(), "{block:?}");
    }
    for hop in [[1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [1, 6, 0, 0, 0, 0, 0, 0, 0, 0]] {
        assert!(HopValue::decode(&hop).is_err(), "{hop:?}");
    }
}

#[test]
fn long_replies_are_kept_in_part() {
    assert_eq!(bounded(&"x".repeat(TEXT_MAX + 1), TEXT_MAX).len(), TEXT_MAX);
    assert_eq!(bounded("5.7.1234567890", ENHANCED_MAX), "5.7.1234567");
}
