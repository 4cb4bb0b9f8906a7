//! The PROXY protocol, versions 1 and 2, as the authors of `HAProxy` have written it down: who a connection is from that a
//! proxy has made.
//!
//! A header comes once, before anything else. Version 1 is a line of at most [`LINE_MAX`] octets, version 2 is binary and
//! says how long it is; more than [`HEADER_MAX`] octets are refused, however they are announced. What follows the
//! addresses of a version 2 header (TLVs) is passed over; it has to be well formed, and where there is a checksum among
//! it, that has to be right. Both forms are strict: one space, no leading zeros, nothing that the protocol does not list.
//!
//! A proxy that speaks for itself (`LOCAL`, for its health checks), and one that does not know whom it speaks for
//! (`UNKNOWN`, `UNSPEC`, or addresses of another kind than TCP's), give no address: the connection's own hold.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

/// A header of version 1, CRLF included.
pub const LINE_MAX: usize = 107;

/// A header of version 2. The addresses take 52 octets at most; the rest is for what a proxy says of TLS and of itself.
pub const HEADER_MAX: usize = 4096;

const LINE_BEGIN: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and protocol, length.
const FIXED: usize = 16;
const PP2_TYPE_CRC32C: u8 = 0x03;
const TLV_HEAD: usize = 3;

/// What a header says.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ProxyHeader {
    /// The connection is from `client`, who has connected to `server`.
    Told {
        /// Where it comes from.
        client: SocketAddr,
        /// Where the client has connected to.
        server: SocketAddr,
    },
    /// The connection is the proxy's own, or nothing is known.
    Unknown,
}

/// Why there is no header.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ProxyFault {
    /// What came is something else.
    Absent,
    /// It breaks the rules.
    Malformed,
    /// It is longer than its limit.
    TooLong,
    /// Its checksum is wrong.
    Checksum,
}

impl ProxyFault {
    /// Return the name in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::Checksum => "checksum",
        }
    }
}

/// Reads a header that comes in pieces.
#[derive(Debug, Default)]
pub struct ProxyReader {
    /// What has come of it; never more than [`HEADER_MAX`] octets.
    bytes: Vec<u8>,
}

impl ProxyReader {
    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Read on; return the header when it is complete, and how many octets of `input` were its own.
    ///
    /// # Errors
    /// There is none. Nothing of what follows can be read.
    pub fn push(&mut self, input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyFault> {
        let before = self.bytes.len();
        let room = HEADER_MAX.saturating_sub(before).min(input.len());
        self.bytes.extend_from_slice(input.get(..room).unwrap_or_default());
        let read = match self.bytes.first() {
            None => None,
            Some(b'P') => read_line(&self.bytes)?,
            Some(_) => read_binary(&self.bytes)?,
        };
        Ok(read.map(|(header, octets)| (header, octets.saturating_sub(before))))
    }
}

/// A header, if it is complete, and its length.
type Read = Result<Option<(ProxyHeader, usize)>, ProxyFault>;

fn read_line(bytes: &[u8]) -> Read {
    if !is_begun(bytes, LINE_BEGIN) {
        return Err(ProxyFault::Absent);
    }
    let within = bytes.get(..LINE_MAX).unwrap_or(bytes);
    let Some(at) = within.iter().position(|octet| matches!(octet, b'\r' | b'\n')) else {
        return if within.len() == LINE_MAX { Err(ProxyFault::TooLong) } else { Ok(None) };
    };
    match within.get(at..) {
        Some([b'\r', b'\n', ..]) => {}
        Some([b'\r']) if at + 1 == LINE_MAX => return Err(ProxyFault::TooLong),
        Some([b'\r']) => return Ok(None),
        _ => return Err(ProxyFault::Malformed),
    }
    let line = within.get(LINE_BEGIN.len()..at).unwrap_or_default();
    let header = fields(line).ok_or(ProxyFault::Malformed)?;
    Ok(Some((header, at + 2)))
}

/// Whether octets are the beginning of something, or begin with it.
fn is_begun(bytes: &[u8], whole: &[u8]) -> bool {
    bytes.iter().zip(whole).all(|(octet, wanted)| octet == wanted)
}

/// What stands between `PROXY ` and the end of the line.
fn fields(line: &[u8]) -> Option<ProxyHeader> {
    const UNKNOWN: &[u8] = b"UNKNOWN";
    if let Some(rest) = line.strip_prefix(UNKNOWN) {
        // Whatever follows is not for us.
        return matches!(rest.first(), None | Some(b' ')).then_some(ProxyHeader::Unknown);
    }
    let mut words = str::from_utf8(line).ok()?.split(' ');
    let mut next = || words.next();
    let (family, client, server) = (next()?, next()?, next()?);
    let (client_port, server_port) = (port(next()?)?, port(next()?)?);
    if next().is_some() {
        return None;
    }
    let address = |text: &str| match family {
        "TCP4" => Ipv4Addr::from_str(text).ok().map(IpAddr::V4),
        "TCP6" => Ipv6Addr::from_str(text).ok().map(IpAddr::V6),
        _ => None,
    };
    Some(ProxyHeader::Told {
        client: SocketAddr::new(address(client)?, client_port),
        server: SocketAddr::new(address(server)?, server_port),
    })
}

/// A number of up to five digits, without what `parse` takes besides.
fn port(digits: &str) -> Option<u16> {
    let is_plain = digits.bytes().all(|octet| octet.is_ascii_digit());
    let is_shortest = digits == "0" || !digits.starts_with('0');
    if is_plain && is_shortest { digits.parse().ok() } else { None }
}

fn read_binary(bytes: &[u8]) -> Read {
    if !is_begun(bytes, SIGNATURE) {
        return Err(ProxyFault::Absent);
    }
    let Some(&[version_and_command, kind, high, low]) =
        bytes.get(SIGNATURE.len()..FIXED).and_then(|fixed| fixed.first_chunk())
    else {
        return Ok(None);
    };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyFault::Malformed),
    };
    let announced = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + announced > HEADER_MAX {
        return Err(ProxyFault::TooLong);
    }
    // Two addresses and two ports.
    let addresses = match kind {
        _ if is_local => 0,
        0x11 => 12,
        0x21 => 36,
        // No addresses, and such of datagrams and of sockets in the file system, of which we know nothing.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => 0,
        _ => return Err(ProxyFault::Malformed),
    };
    if announced < addresses {
        return Err(ProxyFault::Malformed);
    }
    let Some(whole) = bytes.get(..FIXED + announced) else { return Ok(None) };
    let header = if addresses == 0 {
        ProxyHeader::Unknown
    } else {
        let (block, tlvs) = whole
            .get(FIXED..)
            .and_then(|rest| rest.split_at_checked(addresses))
            .ok_or(ProxyFault::Malformed)?;
        check_tlvs(whole, tlvs)?;
        told(block).ok_or(ProxyFault::Malformed)?
    };
    Ok(Some((header, whole.len())))
}

/// Two addresses, then two ports.
fn told(block: &[u8]) -> Option<ProxyHeader> {
    let address = |octets: &[u8]| match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
    };
    let (addresses, ports) = block.split_at_checked(block.len().checked_sub(4)?)?;
    let (client, server) = addresses.split_at_checked(addresses.len() / 2)?;
    let &[client_high, client_low, server_high, server_low] = ports.first_chunk()?;
    Some(ProxyHeader::Told {
        client: SocketAddr::new(address(client)?, u16::from_be_bytes([client_high, client_low])),
        server: SocketAddr::new(address(server)?, u16::from_be_bytes([server_high, server_low])),
    })
}

/// Walk over what follows the addresses; verify the checksum over the whole header, if there is one.
fn check_tlvs(whole: &[u8], tlvs: &[u8]) -> Result<(), ProxyFault> {
    let mut rest = tlvs;
    while !rest.is_empty() {
        let Some((&[kind, high, low], value)) = rest.split_first_chunk::<TLV_HEAD>() else {
            return Err(ProxyFault::Malformed);
        };
        let (value, behind) = value
            .split_at_checked(usize::from(u16::from_be_bytes([high, low])))
            .ok_or(ProxyFault::Malformed)?;
        if kind == PP2_TYPE_CRC32C {
            let told = <[u8; 4]>::try_from(value).map_err(|_| ProxyFault::Malformed)?;
            // Computed as if the checksum were zeros.
            let head = whole.len() - behind.len() - value.len();
            let sum = crc32c::crc32c(whole.get(..head).unwrap_or_default());
            let sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, &[0; 4]), behind);
            if sum != u32::from_be_bytes(told) {
                return Err(ProxyFault::Checksum);
            }
        }
        rest = behind;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::pieces::pieces;
    use proptest::prelude::*;

    fn read(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyFault> {
        ProxyReader::default().push(input)
    }

    fn told(client: &str, server: &str) -> ProxyHeader {
        ProxyHeader::Told { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    fn binary(version_and_command: u8, kind: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[version_and_command, kind], &length, block].concat()
    }

    const V4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0, 25];

    fn v6() -> Vec<u8> {
        let octets = |text: &str| Ipv6Addr::from_str(text).unwrap().octets();
        [&octets("2001:db8::7")[..], &octets("2001:db8::1"), &[0x9c, 0x40, 0, 25]].concat()
    }

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind], &u16::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
    }

    #[test]
    fn a_line_tells_both_ends() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n", told("192.0.2.7:40000", "198.51.100.1:25")),
            ("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", told("0.0.0.0:0", "255.255.255.255:65535")),
            ("PROXY TCP6 2001:db8::7 ::1 40000 25\r\n", told("[2001:db8::7]:40000", "[::1]:25")),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", told("[::ffff:192.0.2.7]:1", "[::1]:2")),
            ("PROXY UNKNOWN\r\n", ProxyHeader::Unknown),
            ("PROXY UNKNOWN 2001:db8::7 whatever \u{e4} it says\r\n", ProxyHeader::Unknown),
        ] {
            assert_eq!(read(line.as_bytes()), Ok(Some((expected, line.len()))), "{line:?}");
            let behind = [line.as_bytes(), b"EHLO me\r\n"].concat();
            assert_eq!(read(&behind), Ok(Some((expected, line.len()))), "{line:?}");
        }
    }

    #[test]
    fn a_line_that_is_not_exactly_one_is_refused() {
        for (line, fault) in [
            ("EHLO me\r\n", ProxyFault::Absent),
            ("PROXX", ProxyFault::Absent),
            ("proxy TCP4", ProxyFault::Absent),
            ("PROXYTCP4", ProxyFault::Absent),
            ("PROXY\r\n", ProxyFault::Absent),
            ("PROXY \r\n", ProxyFault::Malformed),
            ("PROXY TCP4\r\n", ProxyFault::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n", ProxyFault::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25 \r\n", ProxyFault::Malformed),
            ("PROXY TCP4  192.0.2.7 198.51.100.1 40000 25\r\n", ProxyFault::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\n", ProxyFault::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\rx", ProxyFault::Malformed),
            ("PROXY TCP4 192.0.2.07 198.51.100.1 40000 25\r\n", ProxyFault::Malformed),
            ("PROXY TCP4 192.0.2.256 198.51.100.1 40000 25\r\n", ProxyFault::Malformed),
            ("PROXY TCP4 2001:db8::7 198.51.100.1 40000 25\r\n", ProxyFault::Malformed),
            ("PROXY TCP6 192.0.2.7 198.51.100.1 40000 25\r\n", ProxyFault::Malformed),
            ("PROXY TCP6 fe80::1%eth0 ::1 40000 25\r\n", ProxyFault::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n", ProxyFault::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 +1 25\r\n", ProxyFault::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 01 25\r\n", ProxyFault::Malformed),
            ("PROXY TCP4 192.0.2.7 198.51.100.1  25\r\n", ProxyFault::Malformed),
            ("PROXY UDP4 192.0.2.7 198.51.100.1 40000 25\r\n", ProxyFault::Malformed),
            ("PROXY tcp4 192.0.2.7 198.51.100.1 40000 25\r\n", ProxyFault::Malformed),
            ("PROXY UNKNOWNS\r\n", ProxyFault::Malformed),
        ] {
            assert_eq!(read(line.as_bytes()), Err(fault), "{line:?}");
        }
    }

    #[test]
    fn a_line_may_have_107_octets() {
        let line = |octets: usize| {
            let begin = "PROXY UNKNOWN ";
            format!("{begin}{}\r\n", "x".repeat(octets - begin.len() - 2))
        };
        assert_eq!(read(line(107).as_bytes()), Ok(Some((ProxyHeader::Unknown, 107))));
        assert_eq!(read(line(108).as_bytes()), Err(ProxyFault::TooLong));
        assert_eq!(read(&line(108).as_bytes()[..107]), Err(ProxyFault::TooLong));
        assert_eq!(read(&line(108).as_bytes()[..106]), Ok(None));
        // The longest of two addresses that can be written.
        let address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let line = format!("PROXY TCP6 {address} {address} 65535 65535\r\n");
        assert!(matches!(read(line.as_bytes()), Ok(Some((ProxyHeader::Told { .. }, 104)))));
    }

    #[test]
    fn a_binary_header_tells_both_ends() {
        for (header, expected) in [
            (binary(0x21, 0x11, V4), told("192.0.2.7:40000", "198.51.100.1:25")),
            (binary(0x21, 0x21, &v6()), told("[2001:db8::7]:40000", "[2001:db8::1]:25")),
            (binary(0x21, 0x00, b""), ProxyHeader::Unknown),
            (binary(0x21, 0x00, b"anything"), ProxyHeader::Unknown),
            (binary(0x21, 0x12, V4), ProxyHeader::Unknown),
            (binary(0x21, 0x22, &v6()), ProxyHeader::Unknown),
            (binary(0x21, 0x31, &[0; 216]), ProxyHeader::Unknown),
            (binary(0x21, 0x32, &[0; 216]), ProxyHeader::Unknown),
            (binary(0x20, 0x00, b""), ProxyHeader::Unknown),
            (binary(0x20, 0x11, V4), ProxyHeader::Unknown),
            (binary(0x20, 0xff, b"\x03\xff"), ProxyHeader::Unknown),
        ] {
            assert_eq!(read(&header), Ok(Some((expected, header.len()))), "{}", header.escape_ascii());
            let behind = [&header[..], b"\x16\x03\x01"].concat();
            assert_eq!(read(&behind), Ok(Some((expected, header.len()))));
        }
    }

    #[test]
    fn a_binary_header_that_is_not_exactly_one_is_refused() {
        let short = |kind, octets: usize| binary(0x21, kind, &v6()[..octets]);
        for (header, fault) in [
            (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), ProxyFault::Absent),
            (b"\x16\x03\x01".to_vec(), ProxyFault::Absent),
            (binary(0x11, 0x11, V4), ProxyFault::Malformed),
            (binary(0x31, 0x11, V4), ProxyFault::Malformed),
            (binary(0x22, 0x11, V4), ProxyFault::Malformed),
            (binary(0x21, 0x10, V4), ProxyFault::Malformed),
            (binary(0x21, 0x13, V4), ProxyFault::Malformed),
            (binary(0x21, 0x41, V4), ProxyFault::Malformed),
            (short(0x11, 11), ProxyFault::Malformed),
            (short(0x21, 35), ProxyFault::Malformed),
            (binary(0x21, 0x11, &[V4, b"\x01\x00"].concat()), ProxyFault::Malformed),
            (binary(0x21, 0x11, &[V4, b"\x01\x00\x02h"].concat()), ProxyFault::Malformed),
            (binary(0x21, 0x11, &[V4, &tlv(PP2_TYPE_CRC32C, b"123")].concat()), ProxyFault::Malformed),
            (binary(0x21, 0x11, &[V4, &tlv(PP2_TYPE_CRC32C, b"1234")].concat()), ProxyFault::Checksum),
        ] {
            assert_eq!(read(&header), Err(fault), "{}", header.escape_ascii());
        }
    }

    #[test]
    fn what_follows_the_addresses_is_passed_over_and_its_checksum_verified() {
        let with = |sum: [u8; 4]| {
            let tlvs = [tlv(0x01, b"h2"), tlv(PP2_TYPE_CRC32C, &sum), tlv(0x04, b""), tlv(0xee, &[7; 9])];
            binary(0x21, 0x11, &[V4, &tlvs.concat()].concat())
        };
        let sum = crc32c::crc32c(&with([0; 4])).to_be_bytes();
        let header = with(sum);
        let expected = told("192.0.2.7:40000", "198.51.100.1:25");
        assert_eq!(read(&header), Ok(Some((expected, header.len()))));
        // Without its type it is no checksum any more.
        let kind_at = FIXED + V4.len() + TLV_HEAD + 2;
        for at in (0..header.len()).filter(|&at| at != kind_at) {
            let mut flipped = header.clone();
            flipped[at] ^= 0x10;
            assert!(read(&flipped) != Ok(Some((expected, header.len()))), "{at}");
        }
    }

    #[test]
    fn a_binary_header_may_have_4096_octets() {
        let header = |octets: usize| {
            let padding = tlv(0x04, &vec![0; octets - FIXED - V4.len() - TLV_HEAD]);
            binary(0x21, 0x11, &[V4, &padding].concat())
        };
        assert!(matches!(read(&header(4096)), Ok(Some((ProxyHeader::Told { .. }, 4096)))));
        assert_eq!(read(&header(4097)), Err(ProxyFault::TooLong));
        // As soon as it is announced.
        assert_eq!(read(&header(4097)[..FIXED]), Err(ProxyFault::TooLong));
    }

    fn anything() -> impl Strategy<Value = Vec<u8>> {
        let near_line = r"PROXY( TCP4| TCP6| UNKNOWN|)[ 0-9a-f:.]{0,60}(\r\n|\r|\n|)[ -~]{0,9}";
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            near_line.prop_map(String::into_bytes),
            (any::<u32>(), any::<u16>(), any::<u16>()).prop_map(|(client, from, to)| {
                let (client, server) = (Ipv4Addr::from(client), Ipv4Addr::LOCALHOST);
                format!("PROXY TCP4 {client} {server} {from} {to}\r\nEHLO me\r\n").into_bytes()
            }),
            (0x1f..0x23_u8, any::<u8>(), prop::collection::vec(any::<u8>(), 0..80), 0..4_usize).prop_map(
                |(command, kind, block, cut)| {
                    let kind = [0x11, 0x21, 0x00, kind][cut];
                    let mut header = binary(command, kind, &block);
                    header.extend_from_slice(b"\x16\x03");
                    header.truncate(header.len() - cut);
                    header
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(input in anything(), sizes in prop::collection::vec(1..20_usize, 1..5)) {
            let whole = read(&input);
            let mut reader = ProxyReader::default();
            let mut consumed = 0;
            let mut result = Ok(None);
            for piece in pieces(&input, &sizes) {
                result = reader.push(piece);
                match result {
                    Ok(None) => consumed += piece.len(),
                    Ok(Some((header, octets))) => {
                        prop_assert!(octets <= piece.len());
                        result = Ok(Some((header, consumed + octets)));
                        break;
                    }
                    Err(_) => break,
                }
            }
            prop_assert_eq!(result, whole);
            if let Ok(Some((_, octets))) = whole {
                prop_assert!(octets <= input.len() && octets <= HEADER_MAX);
                // Not an octet less makes a header, and it does not depend on what follows.
                prop_assert_eq!(read(&input[..octets - 1]), Ok(None));
                prop_assert_eq!(read(&input[..octets]), whole);
            }
        }
    }
}
