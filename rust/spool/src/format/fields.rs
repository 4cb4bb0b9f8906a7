//! Tag-length-value fields, of which bodies of records are made.
//!
//! A field is its tag (16 bits), the length of its value (32 bits), both little-endian, and the value. A tag's highest
//! bit says *critical*: whoever does not know the field must not go on. Other unknown fields are passed over. Numbers
//! are little-endian in as many octets as they need, texts are UTF-8; empty texts and zeros are left out.

use super::Malformed;

/// The bit that makes a field critical.
pub(crate) const CRITICAL: u16 = 0x8000;

/// Writes fields behind each other.
pub(crate) struct FieldWriter<'a>(&'a mut Vec<u8>);

impl<'a> FieldWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }

    pub(crate) fn octets(&mut self, tag: u16, value: &[u8]) {
        self.0.extend_from_slice(&tag.to_le_bytes());
        self.0.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.0.extend_from_slice(value);
    }

    /// A text that need not be there if it is empty.
    pub(crate) fn text(&mut self, tag: u16, value: &str) {
        if !value.is_empty() {
            self.octets(tag, value.as_bytes());
        }
    }

    /// A number that need not be there if it is zero.
    pub(crate) fn number(&mut self, tag: u16, value: u64) {
        if value != 0 {
            self.given_number(tag, value);
        }
    }

    /// A number that is there even if it is zero.
    pub(crate) fn given_number(&mut self, tag: u16, value: u64) {
        let octets = value.to_le_bytes();
        let length = (8 - value.leading_zeros() as usize / 8).max(1);
        self.octets(tag, octets.get(..length).unwrap_or(&octets));
    }

    /// A list of small numbers, 32 bits each.
    pub(crate) fn list(&mut self, tag: u16, values: &[u32]) {
        self.0.extend_from_slice(&tag.to_le_bytes());
        self.0.extend_from_slice(&(values.len() as u32 * 4).to_le_bytes());
        self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// A field whose value is fields.
    pub(crate) fn nested(&mut self, tag: u16, write: impl FnOnce(&mut FieldWriter<'_>)) {
        self.0.extend_from_slice(&tag.to_le_bytes());
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        write(&mut FieldWriter(self.0));
        let length = (self.0.len() - at - 4) as u32;
        if let Some(place) = self.0.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }
}

/// Reads fields one after the other.
pub(crate) struct FieldReader<'a> {
    rest: &'a [u8],
}

/// A field as it was read.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Field<'a> {
    tag: u16,
    value: &'a [u8],
}

impl<'a> FieldReader<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// The next field; `None` behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let cut = Malformed("a field is cut short");
        let (&tag, rest) = self.rest.split_first_chunk().ok_or(cut)?;
        let (&length, rest) = rest.split_first_chunk().ok_or(cut)?;
        let (tag, length) = (u16::from_le_bytes(tag), u32::from_le_bytes(length));
        let (value, rest) = rest.split_at_checked(length as usize).ok_or(cut)?;
        self.rest = rest;
        Ok(Some(Field { tag, value }))
    }
}

impl<'a> Field<'a> {
    /// Which field it is, critical or not.
    pub(crate) fn tag(&self) -> u16 {
        self.tag & !CRITICAL
    }

    pub(crate) fn octets(&self) -> &'a [u8] {
        self.value
    }

    pub(crate) fn text(&self) -> Result<String, Malformed> {
        std::str::from_utf8(self.value).map(Into::into).map_err(|_| Malformed("a text is not UTF-8"))
    }

    pub(crate) fn number(&self) -> Result<u64, Malformed> {
        let mut octets = [0; 8];
        octets
            .get_mut(..self.value.len())
            .ok_or(Malformed("a number is too long"))?
            .copy_from_slice(self.value);
        Ok(u64::from_le_bytes(octets))
    }

    /// A number of fewer bits.
    pub(crate) fn small<T: TryFrom<u64>>(&self) -> Result<T, Malformed> {
        self.number()?.try_into().map_err(|_| Malformed("a number is too large"))
    }

    pub(crate) fn list(&self) -> Result<Vec<u32>, Malformed> {
        let (values, rest) = self.value.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(Malformed("a list is cut short"));
        }
        Ok(values.iter().map(|&octets| u32::from_le_bytes(octets)).collect())
    }

    pub(crate) fn nested(&self) -> FieldReader<'a> {
        FieldReader::new(self.value)
    }

    /// Pass over a field that is not known, if that is allowed.
    pub(crate) fn skip(&self) -> Result<(), Malformed> {
        if self.tag & CRITICAL == 0 { Ok(()) } else { Err(Malformed("a critical field is not known")) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_come_back(number: u64, text in ".{1,20}", list in prop::collection::vec(any::<u32>(), 0..9)) {
            let mut out = Vec::new();
            let mut writer = FieldWriter::new(&mut out);
            writer.given_number(1, number);
            writer.nested(2 | CRITICAL, |inner| {
                inner.text(3, &text);
                inner.list(4, &list);
            });
            let mut reader = FieldReader::new(&out);
            let first = reader.next().unwrap().unwrap();
            prop_assert_eq!((first.tag(), first.number().unwrap()), (1, number));
            let second = reader.next().unwrap().unwrap();
            prop_assert_eq!(second.tag(), 2);
            prop_assert!(second.skip().is_err() && first.skip().is_ok());
            let mut inner = second.nested();
            prop_assert_eq!(inner.next().unwrap().unwrap().text().unwrap(), text);
            prop_assert_eq!(inner.next().unwrap().unwrap().list().unwrap(), list);
            prop_assert!(inner.next().unwrap().is_none() && reader.next().unwrap().is_none());
            for cut in 1..out.len() {
                let mut reader = FieldReader::new(out.get(..cut).unwrap());
                while let Ok(Some(_)) = reader.next() {}
            }
        }
    }

    #[test]
    fn what_is_empty_takes_no_room() {
        let mut out = Vec::new();
        let mut writer = FieldWriter::new(&mut out);
        writer.text(1, "");
        writer.number(2, 0);
        assert!(out.is_empty());
    }
}
