//! Values of properties, and how they compare: texts without regard to case.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::facts::HopId;
use crate::index::codec::{Malformed, Reader, put_number, put_text};

/// A value, as a filter compares with it and a row is told.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Value {
    /// There is none. It is less than every other.
    Null,
    /// Of a flag.
    Flag(bool),
    /// Of a number.
    Number(u64),
    /// Of a hop.
    Hop(HopId),
    /// Of a text or a word.
    Text(String),
    /// The first few of a property of which there may be several.
    Many(Vec<Value>),
}

/// A value of a row, as it lies in the index. A word is its place in the list of words.
#[derive(Clone, Debug)]
pub(super) enum Datum<'a> {
    Null,
    Flag(bool),
    Number(u64),
    Hop(HopId),
    Text(Cow<'a, str>),
}

impl<'a> Datum<'a> {
    pub(super) fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// A text that is not there if it is empty.
    pub(super) fn filled(text: &'a str) -> Self {
        if text.is_empty() { Self::Null } else { Self::text(text) }
    }

    pub(super) fn number(number: Option<u64>) -> Self {
        number.map_or(Self::Null, Self::Number)
    }

    /// Compare with a value of the same type whose text is folded; `None` if there is nothing to compare.
    pub(super) fn compare(&self, value: &Value) -> Option<Ordering> {
        match (self, value) {
            (Self::Flag(ours), Value::Flag(theirs)) => Some(ours.cmp(theirs)),
            (Self::Number(ours), Value::Number(theirs)) => Some(ours.cmp(theirs)),
            (Self::Hop(ours), Value::Hop(theirs)) => Some(ours.cmp(theirs)),
            (Self::Text(ours), Value::Text(theirs)) => Some(compare_folded(ours, theirs)),
            _ => None,
        }
    }

    /// The value by which rows are sorted and grouped: folded, and bounded.
    pub(super) fn folded(self, max_bytes: usize) -> Value {
        match self {
            Self::Text(text) => Value::Text(bounded(fold(&text).into_owned(), max_bytes)),
            other => other.owned(),
        }
    }

    /// The value as it is.
    pub(super) fn owned(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Flag(flag) => Value::Flag(flag),
            Self::Number(number) => Value::Number(number),
            Self::Hop(hop) => Value::Hop(hop),
            Self::Text(text) => Value::Text(text.into_owned()),
        }
    }
}

impl Value {
    /// Octets that it takes, about.
    pub(super) fn weight(&self) -> usize {
        let inner = match self {
            Self::Text(text) => text.len(),
            Self::Many(values) => values.iter().map(Self::weight).sum(),
            _ => 0,
        };
        size_of::<Self>() + inner
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null | Self::Many(_) => out.push(0),
            Self::Flag(flag) => out.extend([1, u8::from(*flag)]),
            Self::Number(number) => {
                out.push(2);
                put_number(out, *number);
            }
            Self::Hop(hop) => {
                out.push(3);
                out.extend(hop.0.to_be_bytes());
            }
            Self::Text(text) => {
                out.push(4);
                put_text(out, text);
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match reader.octet()? {
            0 => Self::Null,
            1 => Self::Flag(reader.octet()? != 0),
            2 => Self::Number(reader.number()?),
            3 => Self::Hop(HopId(u128::from_be_bytes(reader.array()?))),
            4 => Self::Text(reader.text()?.into()),
            _ => return Err(Malformed("the type of a value is not known")),
        })
    }
}

/// The text without regard to case: each character in lower case.
pub(super) fn fold(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        Cow::Owned(text.chars().flat_map(char::to_lowercase).collect())
    } else if text.bytes().any(|octet| octet.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

fn bounded(mut text: String, max_bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(max_bytes));
    text
}

/// Compare a text with one that is folded.
fn compare_folded(text: &str, folded: &str) -> Ordering {
    if text.is_ascii() {
        return text.bytes().map(|octet| octet.to_ascii_lowercase()).cmp(folded.bytes());
    }
    text.chars().flat_map(char::to_lowercase).cmp(folded.chars())
}

/// A text in which `*` stands for any octets, or none.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(super) struct Pattern {
    /// What is between the asterisks, folded; at least one part.
    parts: Vec<String>,
}

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        Self { parts: fold(pattern).split('*').map(Into::into).collect() }
    }

    /// How many asterisks it has.
    pub(super) fn wildcards(&self) -> usize {
        self.parts.len() - 1
    }

    pub(super) fn fits(&self, text: &str) -> bool {
        let text = fold(text);
        let Some((first, rest)) = self.parts.split_first() else { return false };
        let Some((last, middle)) = rest.split_last() else { return text == first.as_str() };
        let Some(mut left) = text.strip_prefix(first.as_str()) else { return false };
        for part in middle {
            // The leftmost place leaves most room for what follows.
            let Some(at) = left.find(part.as_str()) else { return false };
            left = left.get(at + part.len()..).unwrap_or_default();
        }
        left.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// The plainest way: try every length for each asterisk.
    fn fits(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|at| fits(rest, text.get(at..).unwrap())),
            Some((one, rest)) => {
                text.split_first().is_some_and(|(other, left)| one == other && fits(rest, left))
            }
        }
    }

    proptest! {
        #[test]
        fn asterisks_stand_for_anything(pattern in "[abA*]{0,7}", text in "[abB]{0,9}") {
            let lower = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
            prop_assert_eq!(Pattern::new(&pattern).fits(&text), fits(&lower(&pattern), &lower(&text)));
        }

        #[test]
        fn texts_compare_as_their_folded_forms_do(a in "[aAbBéÉßẞİ]{0,5}", b in "[aAbBéÉßẞİ]{0,5}") {
            let folded = fold(&b).into_owned();
            prop_assert_eq!(Datum::text(&a).compare(&Value::Text(folded.clone())), Some(fold(&a).as_ref().cmp(folded.as_str())));
            prop_assert_eq!(fold(&folded).into_owned(), folded);
        }
    }
}
