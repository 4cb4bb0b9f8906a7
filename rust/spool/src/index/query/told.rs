//! Rows as they are told, and what they are sorted by.

use crate::index::error::IndexError;

use super::cursor::{Key, SORTED_BYTES};
use super::property::{Kind, Property, Table};
use super::subject::{MessageSubject, QueueSubject, Subject};
use super::value::{Datum, Value};

/// Recipients that a row tells; how many there are is a property of its own.
pub const RECIPIENTS_TOLD: usize = 100;

/// A row.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct QueryRow {
    /// Its place.
    pub key: Key,
    /// What was asked for, in that order. A word is a text.
    pub values: Vec<Value>,
}

/// The value by which a row is sorted.
pub(super) fn sort_value(subject: &mut impl Subject, property: Property) -> Result<Value, IndexError> {
    if !property.is_many() {
        return Ok(subject.datum(property)?.folded(SORTED_BYTES));
    }
    let mut least: Option<Value> = None;
    subject.any(property, |text| {
        let value = Datum::text(text).folded(SORTED_BYTES);
        if least.as_ref().is_none_or(|least| value < *least) {
            least = Some(value);
        }
        false
    })?;
    Ok(least.unwrap_or(Value::Null))
}

pub(super) fn message_row(
    subject: &mut MessageSubject<'_, '_>,
    select: &[Property],
) -> Result<QueryRow, IndexError> {
    let mut values = Vec::with_capacity(select.len());
    for &property in select {
        values.push(if property.is_many() {
            let mut texts = Vec::new();
            subject.first_recipients(
                RECIPIENTS_TOLD,
                |text| texts.push(Value::Text(text.into())),
                property,
            )?;
            Value::Many(texts)
        } else {
            outward(Table::Messages, property, subject.datum(property)?.owned())
        });
    }
    Ok(QueryRow { key: subject.key, values })
}

pub(super) fn queue_row(
    key: Key,
    subject: &mut QueueSubject<'_, '_>,
    select: &[Property],
) -> Result<QueryRow, IndexError> {
    let mut values = Vec::with_capacity(select.len());
    for &property in select {
        values.push(outward(Table::Queues, property, subject.datum(property)?.owned()));
    }
    Ok(QueryRow { key, values })
}

/// The value as it is told: a word as itself.
pub(super) fn outward(table: Table, property: Property, value: Value) -> Value {
    match (property.kind(table), value) {
        (Some(Kind::Word(words)), Value::Number(place)) => {
            words.get(place as usize).map_or(Value::Null, |word| Value::Text((*word).into()))
        }
        (_, value) => value,
    }
}

/// Octets that a row takes, about.
pub(super) fn weight(row: &QueryRow) -> usize {
    row.values.iter().map(Value::weight).sum()
}
