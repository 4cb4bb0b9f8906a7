//! What an X.509 certificate says of itself (RFC 5280): names and dates, as they are logged, shown and warned of.
//!
//! Nothing is verified here, and nothing that is decided in earnest depends on it: signatures and the match of names
//! are left to the TLS library. A certificate comes from a peer before anything is known of it, so the reader takes
//! any octets, in linear time, and keeps a bounded amount of text.

use crate::text::printable;

/// Names of a certificate that are kept.
pub const NAMES_MAX: usize = 100;

/// Octets of a subject or an issuer that are kept.
pub const NAME_OCTETS_MAX: usize = 512;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const BMP_STRING: u8 = 0x1e;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// Attributes of names with the words of RFC 4514 3; others are left out.
const ATTRIBUTES: [(&[u8], &str); 7] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01], "E"),
];

/// What a certificate says.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct CertificateFacts {
    /// Whom it is for, as in `CN=mail.example, O=Example`.
    pub subject: String,
    /// Who made it.
    pub issuer: String,
    /// The DNS names that it is for.
    pub names: Vec<String>,
    /// From when it holds, in seconds since 1970.
    pub not_before_s: i64,
    /// Until when it holds.
    pub not_after_s: i64,
    /// Whether subject and issuer are the same: nobody else vouches for it.
    pub is_self_issued: bool,
}

impl CertificateFacts {
    /// Read a certificate in DER; `None` if it is none.
    pub fn read(der: &[u8]) -> Option<Self> {
        let mut certificate = inside(&mut &*der, SEQUENCE)?;
        let mut fields = inside(&mut certificate, SEQUENCE)?;
        if fields.first() == Some(&VERSION) {
            element(&mut fields)?;
        }
        // The serial number and the algorithm of the signature.
        element(&mut fields)?;
        inside(&mut fields, SEQUENCE)?;
        let issuer = inside(&mut fields, SEQUENCE)?;
        let mut validity = inside(&mut fields, SEQUENCE)?;
        let (not_before_s, not_after_s) = (time(&mut validity)?, time(&mut validity)?);
        let subject = inside(&mut fields, SEQUENCE)?;
        // The public key.
        inside(&mut fields, SEQUENCE)?;
        let mut names = Vec::new();
        while !fields.is_empty() {
            let (tag, mut content) = element(&mut fields)?;
            if tag == EXTENSIONS {
                names = alternative_names(inside(&mut content, SEQUENCE)?)?;
            }
        }
        Some(Self {
            subject: distinguished_name(subject)?,
            issuer: distinguished_name(issuer)?,
            names,
            not_before_s,
            not_after_s,
            is_self_issued: subject == issuer,
        })
    }
}

/// Take the next element: its tag, and what is in it.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (octets, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |value, &digit| value << 8 | usize::from(digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(octets)?;
    *input = rest;
    Some((tag, content))
}

/// Take the next element, which must have this tag.
fn inside<'a>(input: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    element(input).filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
}

/// Write a name with its most specific part first, as RFC 4514 has it.
fn distinguished_name(mut rdns: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    let mut octets = 0;
    while !rdns.is_empty() {
        let mut set = inside(&mut rdns, SET)?;
        while !set.is_empty() {
            let mut attribute = inside(&mut set, SEQUENCE)?;
            let kind = inside(&mut attribute, OBJECT_IDENTIFIER)?;
            let (tag, value) = element(&mut attribute)?;
            let Some((_, word)) = ATTRIBUTES.iter().find(|(oid, _)| *oid == kind) else { continue };
            let mut part = format!("{word}=");
            for char in text(tag, value).chars() {
                if matches!(char, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
                    part.push('\\');
                }
                part.push(char);
            }
            octets += part.len() + 2;
            if octets > NAME_OCTETS_MAX {
                break;
            }
            parts.push(part);
        }
    }
    parts.reverse();
    Some(parts.join(", "))
}

fn text(tag: u8, value: &[u8]) -> String {
    if tag != BMP_STRING {
        return printable(value.to_vec());
    }
    let units: Vec<u16> =
        value.chunks_exact(2).filter_map(|pair| pair.try_into().ok().map(u16::from_be_bytes)).collect();
    printable(String::from_utf16_lossy(&units).into_bytes())
}

fn alternative_names(mut extensions: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while !extensions.is_empty() {
        let mut extension = inside(&mut extensions, SEQUENCE)?;
        if inside(&mut extension, OBJECT_IDENTIFIER)? != SUBJECT_ALTERNATIVE_NAME {
            continue;
        }
        if extension.first() == Some(&BOOLEAN) {
            element(&mut extension)?;
        }
        let mut value = inside(&mut extension, OCTET_STRING)?;
        let mut general_names = inside(&mut value, SEQUENCE)?;
        while !general_names.is_empty() && names.len() < NAMES_MAX {
            let (tag, name) = element(&mut general_names)?;
            if tag == DNS_NAME && name.len() <= NAME_OCTETS_MAX {
                names.push(printable(name.to_vec()));
            }
        }
    }
    Some(names)
}

/// Take a time (RFC 5280 4.1.2.5: to the second, in UTC), in seconds since 1970.
fn time(input: &mut &[u8]) -> Option<i64> {
    let (tag, text) = element(input)?;
    let digits = text.strip_suffix(b"Z")?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = number(digits, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => number(digits, 4)?,
        _ => return None,
    };
    let (month, rest) = number(rest, 2)?;
    let (day, rest) = number(rest, 2)?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest, 2)?;
    let (second, rest) = number(rest, 2)?;
    let is_time =
        rest.is_empty() && (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    is_time.then(|| days_from_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Take a number of so many digits.
fn number(input: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (text, rest) = input.split_at_checked(digits)?;
    let is_number = text.iter().all(u8::is_ascii_digit);
    is_number.then(|| (text.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')), rest))
}

/// Count the days of the Gregorian calendar, in years that begin in March so that leap days come last.
fn days_from_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let days_in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era = year.div_euclid(400);
    let year = year.rem_euclid(400);
    era * 146_097 + year * 365 + year / 4 - year / 100 + days_in_year - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &[u8] = include_bytes!("../../../tests/certificates/sample.der");

    #[test]
    fn a_certificate_tells_names_and_dates() {
        let facts = CertificateFacts::read(SAMPLE).unwrap();
        assert_eq!(facts.subject, "CN=mail.example, O=Example\\, Inc., C=DE");
        assert_eq!(facts.issuer, "CN=Penstock test intermediate");
        assert_eq!(facts.names, ["mail.example", "*.mail.example"]);
        assert!(!facts.is_self_issued);
        assert_eq!((facts.not_before_s, facts.not_after_s), (1_577_836_800, 4_102_444_799));
    }

    #[test]
    fn times_are_counted_in_seconds() {
        for (tag, written, seconds) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "000229120000Z", Some(951_825_600)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "701301000000Z", None),
            (UTC_TIME, "70010100000Z", None),
            (UTC_TIME, "7001010000000Z", None),
            (UTC_TIME, "700101000000+0100", None),
            (UTC_TIME, "70010100000xZ", None),
            (OCTET_STRING, "700101000000Z", None),
        ] {
            let der = [&[tag, written.len() as u8], written.as_bytes()].concat();
            assert_eq!(time(&mut &*der), seconds, "{written}");
        }
    }

    #[test]
    fn names_are_shown_as_one_harmless_line() {
        let attribute = |oid: &[u8], tag: u8, value: &[u8]| {
            let oid = [&[OBJECT_IDENTIFIER, oid.len() as u8], oid].concat();
            let value = [&[tag, value.len() as u8], value].concat();
            let pair = [oid, value].concat();
            let pair = [&[SEQUENCE, pair.len() as u8], pair.as_slice()].concat();
            [&[SET, pair.len() as u8], pair.as_slice()].concat()
        };
        let cn: &[u8] = ATTRIBUTES[0].0;
        assert_eq!(distinguished_name(&attribute(cn, 0x0c, b"a\r\nb=c")).unwrap(), "CN=a??b\\=c");
        assert_eq!(distinguished_name(&attribute(cn, BMP_STRING, b"\0a\x20\xac")).unwrap(), "CN=a\u{20ac}");
        assert_eq!(distinguished_name(&attribute(&[0x55, 4, 99], 0x0c, b"x")).unwrap(), "");
        let exactly = attribute(cn, 0x0c, &[b'x'; 100]).repeat(4);
        assert_eq!(distinguished_name(&exactly).unwrap().len(), 4 * 105 - 2);
        let many = attribute(cn, 0x0c, &[b'x'; 100]).repeat(5);
        assert_eq!(distinguished_name(&many).unwrap().len(), 4 * 105 - 2);
    }

    #[test]
    fn a_certificate_cut_short_is_none() {
        for length in 0..SAMPLE.len() {
            assert_eq!(CertificateFacts::read(&SAMPLE[..length]), None);
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_survived(octets in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = CertificateFacts::read(&octets);
        }

        #[test]
        fn a_damaged_certificate_is_survived(
            changes in prop::collection::vec((0..SAMPLE.len(), any::<u8>()), 1..8),
        ) {
            let mut der = SAMPLE.to_vec();
            for (at, octet) in changes {
                der[at] = octet;
            }
            if let Some(facts) = CertificateFacts::read(&der) {
                prop_assert!(facts.subject.len() <= 2 * NAME_OCTETS_MAX && facts.names.len() <= NAMES_MAX);
            }
        }
    }
}
