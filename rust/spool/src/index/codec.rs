//! The alphabet of the values: octets, numbers, texts.
//!
//! Numbers are little-endian base 128 (seven bits an octet, the eighth says that more follow) in their shortest form;
//! texts are UTF-8 behind their length. Reading never panics and never allocates: what does not fit is [`Malformed`].

/// What a value has against it.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Malformed(pub(super) &'static str);

const TRUNCATED: Malformed = Malformed("it ends too early");

/// Append a number.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Append a text.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Reads a value from its beginning to its end.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(value: &'a [u8]) -> Self {
        Self { rest: value }
    }

    /// Begin to read a value whose first octet must be `version`.
    pub(super) fn versioned(value: &'a [u8], version: u8) -> Result<Self, Malformed> {
        let mut reader = Self::new(value);
        if reader.octet()? != version {
            return Err(Malformed("its version is not known"));
        }
        Ok(reader)
    }

    pub(super) fn octet(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(first)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let octet = self.octet()?;
            let bits = u64::from(octet & 0x7f);
            if bits << shift >> shift != bits || (octet == 0 && shift > 0) {
                return Err(Malformed("a number is not in its shortest form"));
            }
            number |= bits << shift;
            if octet & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed("a number is too long"))
    }

    pub(super) fn number32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed("a number is too large"))
    }

    pub(super) fn number16(&mut self) -> Result<u16, Malformed> {
        u16::try_from(self.number()?).map_err(|_| Malformed("a number is too large"))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| TRUNCATED)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(TRUNCATED)?;
        self.rest = rest;
        str::from_utf8(text).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("it goes on behind its end")) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn number(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, value);
        out
    }

    #[test]
    fn numbers_take_an_octet_for_seven_bits() {
        for (value, octets) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            assert_eq!(number(value), octets);
        }
    }

    #[test]
    fn numbers_that_are_long_winded_or_too_large_are_refused() {
        for octets in
            [&[0x80, 0][..], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
        {
            assert!(Reader::new(octets).number().is_err(), "{octets:?}");
        }
        assert!(Reader::new(&number(1 << 32)).number32().is_err());
        assert!(Reader::new(&number(1 << 16)).number16().is_err());
    }

    proptest! {
        #[test]
        fn what_is_put_is_read_and_nothing_less(value: u64, text in ".{0,40}") {
            let mut out = number(value);
            put_text(&mut out, &text);
            let read = |octets: &[u8]| -> Result<(u64, String), Malformed> {
                let mut reader = Reader::new(octets);
                let got = (reader.number()?, reader.text()?.to_owned());
                reader.finish().map(|()| got)
            };
            prop_assert_eq!(read(&out), Ok((value, text)));
            for end in 0..out.len() {
                prop_assert!(read(&out[..end]).is_err());
            }
            out.push(0);
            prop_assert!(read(&out).is_err());
        }

        #[test]
        fn reading_never_panics(octets in prop::collection::vec(any::<u8>(), 0..30)) {
            let mut reader = Reader::new(&octets);
            while reader.text().is_ok() && reader.number().is_ok() && !reader.rest.is_empty() {}
        }
    }
}
