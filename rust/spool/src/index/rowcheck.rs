//! Whether a row says something, by itself: its key and its value can be read to the last octet.

use super::codec::Malformed;
use super::keys::{self, Ready, Timer};
use super::tables;
use super::values::{self, EntryValue, FinishedValue, HopValue, MessageValue, PRESENT};

fn present(value: &[u8]) -> Result<(), Malformed> {
    if value == PRESENT { Ok(()) } else { Err(Malformed("it says more than that it is there")) }
}

/// Check a row of a table; tells what is wrong with it.
pub(super) fn check(table: &str, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    read(table, key, value).map_err(|Malformed(what)| what)
}

fn read(table: &str, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
    match table {
        "message" => keys::read_message(key).and(MessageValue::decode(value).map(drop)),
        "finished" => keys::read_message(key).and(FinishedValue::decode(value).map(drop)),
        "kept" => keys::read_kept(key).and(present(value)),
        "recipient" => keys::read_recipient(key).and(values::decode_block(value).map(drop)),
        "entry" => keys::read_entry(key).and(EntryValue::decode(value).map(drop)),
        "ready" => Ready::read(key).and(present(value)),
        "arrival" => keys::read_arrival(key).and(values::decode_numbers::<1>(value).map(drop)),
        "timer" => Timer::read(key).and(present(value)),
        "started" => keys::read_entry(key).and(values::decode_started(value).map(drop)),
        "hop" => keys::read_hop(key).and(HopValue::decode(value).map(drop)),
        "segment" => keys::read_segment(key).and(values::decode_numbers::<2>(value).map(drop)),
        "blob" => keys::read_message(key).and(values::decode_numbers::<1>(value).map(drop)),
        // Read one by one, and completely, when the index is opened.
        tables::META => Ok(()),
        _ => Err(Malformed("the table is not known")),
    }
}
