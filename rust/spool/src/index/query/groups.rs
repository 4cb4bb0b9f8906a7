//! Sums by the values of a property, in bounded memory.

use std::collections::HashMap;

use crate::index::error::IndexError;

use super::cursor::SORTED_BYTES;
use super::property::Property;
use super::subject::Subject;
use super::value::{Datum, Value, fold};

/// Groups that are kept apart. With a text of [`SORTED_BYTES`] each they take some 16 MB.
pub const GROUPS_MAX: usize = 65_536;

/// Rows and their octets.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Sum {
    /// Rows.
    pub count: u64,
    /// Octets of their messages.
    pub bytes: u64,
}

impl Sum {
    pub(super) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// Rows that have the same value.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Group {
    /// The value.
    pub value: Value,
    /// What they come to.
    pub sum: Sum,
}

/// A sum, and the last row that was added to it.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
struct Slot {
    sum: Sum,
    row: u64,
}

impl Slot {
    /// Add a row, if it was not added already: it may have the same value several times.
    fn add(&mut self, row: u64, sum: Sum) {
        if self.row != row {
            self.row = row;
            self.sum.add(sum);
        }
    }
}

/// What has been summed up so far.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub(super) struct Groups {
    /// Of texts, which are looked up without making a value of them.
    texts: HashMap<Box<str>, Slot>,
    /// Of all else.
    values: HashMap<Value, Slot>,
    /// Of values that came when there were as many groups as are kept.
    beyond: Slot,
    total: Sum,
    rows: u64,
}

impl Groups {
    /// Add a row.
    pub(super) fn row(
        &mut self,
        subject: &mut impl Subject,
        by: Property,
        sum: Sum,
    ) -> Result<(), IndexError> {
        self.rows += 1;
        if by.is_many() {
            subject.any(by, |text| {
                self.text(text, sum);
                false
            })?;
            self.total.add(sum);
            return Ok(());
        }
        match subject.datum(by)? {
            Datum::Text(text) => self.text(&text, sum),
            datum => self.value(datum.owned(), sum),
        }
        self.total.add(sum);
        Ok(())
    }

    fn text(&mut self, text: &str, sum: Sum) {
        let text = fold(text);
        let text = text.get(..text.floor_char_boundary(SORTED_BYTES)).unwrap_or_default();
        let (row, is_full) = (self.rows, self.is_full());
        match self.texts.get_mut(text) {
            Some(slot) => slot.add(row, sum),
            None if is_full => self.beyond.add(row, sum),
            None => self.texts.entry(text.into()).or_default().add(row, sum),
        }
    }

    fn value(&mut self, value: Value, sum: Sum) {
        let (row, is_full) = (self.rows, self.is_full());
        match self.values.get_mut(&value) {
            Some(slot) => slot.add(row, sum),
            None if is_full => self.beyond.add(row, sum),
            None => self.values.entry(value).or_default().add(row, sum),
        }
    }

    fn is_full(&self) -> bool {
        self.texts.len() + self.values.len() >= GROUPS_MAX
    }

    /// All rows, each once.
    pub(super) fn total(&self) -> (u64, u64) {
        (self.total.count, self.total.bytes)
    }

    /// The largest, most rows first, then by value; what all others come to; whether none of those can be larger.
    pub(super) fn top(&self, count: usize) -> (Vec<Group>, Sum, bool) {
        let texts = self.texts.iter().map(|(text, slot)| (Value::Text((**text).into()), slot.sum));
        let values = self.values.iter().map(|(value, slot)| (value.clone(), slot.sum));
        let mut groups: Vec<Group> = texts.chain(values).map(|(value, sum)| Group { value, sum }).collect();
        let before = |a: &Group, b: &Group| b.sum.count.cmp(&a.sum.count).then_with(|| a.value.cmp(&b.value));
        groups.sort_unstable_by(before);
        let mut others = self.beyond.sum;
        for group in groups.drain(count.min(groups.len())..) {
            others.add(group.sum);
        }
        (groups, others, self.beyond.sum.count == 0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    /// A row with this text.
    struct Row(String);

    impl Subject for Row {
        fn datum(&mut self, _property: Property) -> Result<Datum<'_>, IndexError> {
            Ok(Datum::text(&self.0))
        }

        fn any(&mut self, _property: Property, test: impl FnMut(&str) -> bool) -> Result<bool, IndexError> {
            Ok(self.0.split(' ').any(test))
        }
    }

    fn group(rows: impl IntoIterator<Item = String>, by: Property) -> Groups {
        let mut groups = Groups::default();
        for text in rows {
            groups.row(&mut Row(text), by, Sum { count: 1, bytes: 10 }).expect("no index is asked");
        }
        groups
    }

    #[test]
    fn groups_beyond_the_bound_are_summed_together_and_that_is_said() {
        let rows = (0..GROUPS_MAX).chain([0, 0]).map(|nth| nth.to_string());
        let groups = group(rows.clone(), Property::Sender);
        let (top, others, is_exact) = groups.top(1);
        assert_eq!((top[0].value.clone(), top[0].sum.count), (Value::Text("0".into()), 3));
        assert_eq!((others.count, is_exact), (GROUPS_MAX as u64 - 1, true));

        let groups = group(rows.chain(["more".into(), "MORE".into(), "0".into()]), Property::Sender);
        let (top, others, is_exact) = groups.top(2);
        assert_eq!((top[0].sum.count, others.count, is_exact), (4, GROUPS_MAX as u64 - 2 + 2, false));
        assert_eq!(groups.total(), (GROUPS_MAX as u64 + 5, 10 * (GROUPS_MAX as u64 + 5)));
    }

    #[test]
    fn a_row_counts_once_for_each_value_that_it_has() {
        let groups = group(["a b A".into(), "b".into()], Property::Recipient);
        let (top, others, _) = groups.top(5);
        let sums: Vec<_> = top.into_iter().map(|group| (group.value, group.sum.count)).collect();
        assert_eq!(sums, [(Value::Text("b".into()), 2), (Value::Text("a".into()), 1)]);
        assert_eq!((others, groups.total()), (Sum::default(), (2, 20)));
    }
}
