//! Reverse-paths and forward-paths (RFC 5321 4.1.2, 4.1.3).
//!
//! RFC 5321 4.1.2 deviation: an underscore is taken for a letter in a domain, because hosts are named so and send mail
//! under their own name.
//!
//! Whatever is beyond US-ASCII is part of a local-part or a label (RFC 6531 3.3); a line in which it may not be is refused
//! before its paths are read.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::command::MalformedKind;
use super::cursor::Cursor;
use super::limits::{DOMAIN_MAX, LABEL_MAX, LOCAL_PART_MAX, PATH_MAX};

/// Where mail comes from or goes to.
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
pub struct Path {
    /// The mailbox as given, quotes included, without brackets and source route; empty for the null reverse-path.
    pub address: String,
    /// The domain or address literal in lower case; empty for the null reverse-path and a bare `<Postmaster>`.
    pub domain: String,
}

impl Path {
    fn without_domain(address: &str) -> Self {
        Self { address: address.to_owned(), domain: String::new() }
    }
}

/// Read `Reverse-path = Path / "<>"`.
pub(super) fn reverse_path(cursor: &mut Cursor<'_>) -> Result<Path, MalformedKind> {
    if cursor.eat_word("<>") {
        return Ok(Path::without_domain(""));
    }
    path(cursor)
}

/// Read `Forward-path = Path / "<Postmaster>"` (RFC 5321 4.1.1.3).
pub(super) fn forward_path(cursor: &mut Cursor<'_>) -> Result<Path, MalformedKind> {
    let start = cursor.at();
    if cursor.eat_word("<Postmaster>") {
        return Ok(Path::without_domain(cursor.since(start).trim_matches(['<', '>'])));
    }
    path(cursor)
}

fn path(cursor: &mut Cursor<'_>) -> Result<Path, MalformedKind> {
    let start = cursor.at();
    expect(cursor, b'<')?;
    source_route(cursor)?;
    let path = mailbox(cursor)?;
    expect(cursor, b'>')?;
    within(cursor.at() - start, PATH_MAX)?;
    Ok(path)
}

/// Read a mailbox that stands for a path: without angle brackets, and so without what only they keep together.
///
/// It ends at a space or with the line, as the grammar of a mailbox without quotes says; whoever goes on reads parameters.
pub(super) fn bare_path(cursor: &mut Cursor<'_>) -> Result<Path, MalformedKind> {
    if cursor.peek() == Some(b'"') {
        return Err(MalformedKind::Path);
    }
    let start = cursor.at();
    let path = mailbox(cursor)?;
    within(cursor.at() - start, PATH_MAX - 2)?;
    Ok(path)
}

/// Pass over a source route, which must be accepted and should be ignored (RFC 5321 4.1.2, appendix C).
fn source_route(cursor: &mut Cursor<'_>) -> Result<(), MalformedKind> {
    if !cursor.eat(b'@') {
        return Ok(());
    }
    domain(cursor)?;
    while cursor.eat(b',') {
        expect(cursor, b'@')?;
        domain(cursor)?;
    }
    expect(cursor, b':')
}

fn mailbox(cursor: &mut Cursor<'_>) -> Result<Path, MalformedKind> {
    let start = cursor.at();
    if cursor.peek() == Some(b'"') {
        quoted_string(cursor)?;
    } else {
        dot_string(cursor)?;
    }
    within(cursor.at() - start, LOCAL_PART_MAX)?;
    expect(cursor, b'@')?;
    let domain_start = cursor.at();
    if cursor.peek() == Some(b'[') {
        address_literal(cursor)?;
    } else {
        domain(cursor)?;
    }
    let domain = cursor.since(domain_start);
    let domain = if domain.is_ascii() { domain.to_ascii_lowercase() } else { domain.to_lowercase() };
    Ok(Path { address: cursor.since(start).to_owned(), domain })
}

fn dot_string(cursor: &mut Cursor<'_>) -> Result<(), MalformedKind> {
    loop {
        if cursor.eat_while(is_atext).is_empty() {
            return Err(MalformedKind::Path);
        }
        if !cursor.eat(b'.') {
            return Ok(());
        }
    }
}

fn quoted_string(cursor: &mut Cursor<'_>) -> Result<(), MalformedKind> {
    expect(cursor, b'"')?;
    loop {
        match cursor.next() {
            Some(b'"') => return Ok(()),
            Some(b'\\') => drop(cursor.next()),
            Some(_) => {}
            None => return Err(MalformedKind::Path),
        }
    }
}

fn domain(cursor: &mut Cursor<'_>) -> Result<(), MalformedKind> {
    let start = cursor.at();
    loop {
        let label = cursor.eat_while(|octet| {
            octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_' || octet >= 0x80
        });
        if label.is_empty() || label.starts_with('-') || label.ends_with('-') {
            return Err(MalformedKind::Path);
        }
        // What limits a U-label is how long it is as an A-label (RFC 5890 2.3.2.1).
        if label.is_ascii() {
            within(label.len(), LABEL_MAX)?;
        }
        if !cursor.eat(b'.') {
            return within(cursor.at() - start, DOMAIN_MAX);
        }
    }
}

/// Read `"[" ( IPv4 / "IPv6:" IPv6 ) "]"`; no other kind of literal was ever registered (RFC 5321 4.1.3).
fn address_literal(cursor: &mut Cursor<'_>) -> Result<(), MalformedKind> {
    expect(cursor, b'[')?;
    let is_v6 = cursor.eat_word("IPv6:");
    let text = cursor.eat_while(|octet| octet.is_ascii_hexdigit() || octet == b'.' || octet == b':');
    let is_address = if is_v6 { text.parse::<Ipv6Addr>().is_ok() } else { text.parse::<Ipv4Addr>().is_ok() };
    if !is_address {
        return Err(MalformedKind::Path);
    }
    expect(cursor, b']')
}

fn expect(cursor: &mut Cursor<'_>, octet: u8) -> Result<(), MalformedKind> {
    if cursor.eat(octet) { Ok(()) } else { Err(MalformedKind::Path) }
}

fn within(octets: usize, max: usize) -> Result<(), MalformedKind> {
    if octets <= max { Ok(()) } else { Err(MalformedKind::PathTooLong) }
}

/// `atext` of RFC 5322 3.2.3.
fn is_atext(octet: u8) -> bool {
    matches!(octet, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'/' | b'=' | b'?'
        | b'^'..=b'`' | b'{'..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, String), MalformedKind> {
        let mut cursor = Cursor::new(text);
        let path = reverse_path(&mut cursor)?;
        if cursor.is_at_end() { Ok((path.address, path.domain)) } else { Err(MalformedKind::Path) }
    }

    #[test]
    fn well_formed_paths_are_read() {
        for (text, address, domain) in [
            ("<>", "", ""),
            ("<a@b>", "a@b", "b"),
            ("<First.Last+tag@Example.COM>", "First.Last+tag@Example.COM", "example.com"),
            ("<!#$%&'*+-/=?^_`{|}~@b.c>", "!#$%&'*+-/=?^_`{|}~@b.c", "b.c"),
            ("<root@my_host.1-2.3>", "root@my_host.1-2.3", "my_host.1-2.3"),
            (r#"<""@b>"#, r#"""@b"#, "b"),
            (r#"<"a b"@b>"#, r#""a b"@b"#, "b"),
            (r#"<"a\"@\\>"@b>"#, r#""a\"@\\>"@b"#, "b"),
            ("<a@[192.0.2.1]>", "a@[192.0.2.1]", "[192.0.2.1]"),
            ("<a@[IPv6:2001:DB8::1]>", "a@[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
            ("<a@[ipv6:::ffff:192.0.2.1]>", "a@[ipv6:::ffff:192.0.2.1]", "[ipv6:::ffff:192.0.2.1]"),
            ("<@x.example:a@b>", "a@b", "b"),
            ("<@x.example,@y:a@b>", "a@b", "b"),
        ] {
            assert_eq!(read(text), Ok((address.to_owned(), domain.to_owned())), "{text}");
        }
    }

    #[test]
    fn malformed_paths_are_refused() {
        for text in [
            "",
            "a@b",
            "<a@b",
            "a@b>",
            " <a@b>",
            "< a@b>",
            "<a@b >",
            "<<a@b>>",
            "<a>",
            "<a@>",
            "<@b>",
            "<a@@b>",
            "<a b@c>",
            "<.a@b>",
            "<a.@b>",
            "<a..b@c>",
            "<a@.b>",
            "<a@b.>",
            "<a@b..c>",
            "<a@-b>",
            "<a@b->",
            "<a@b/c>",
            r#"<"a@b>"#,
            r#"<"a"b@c>"#,
            r#"<a"b"@c>"#,
            r#"<"a\"#,
            r#"<"a\"@b>"#,
            "<a(c)@b>",
            "<a,b@c>",
            "<a:b@c>",
            "<@x:>",
            "<@x,y:a@b>",
            "<@x,:a@b>",
            "<@x a@b>",
            "<@:a@b>",
            "<a@[]>",
            "<a@[192.0.2]>",
            "<a@[192.0.2.256]>",
            "<a@[192.0.2.01]>",
            "<a@[2001:db8::1]>",
            "<a@[IPv6:]>",
            "<a@[IPv6:1::2::3]>",
            "<a@[IPv6:fe80::1%0]>",
            "<a@[192.0.2.1>",
            "<a@[192.0.2.1]x>",
            "<a@[x:y]>",
            "<Postmaster>",
            "<a@b>x",
            "<>x",
        ] {
            assert_eq!(read(text), Err(MalformedKind::Path), "{text}");
        }
    }

    #[test]
    fn postmaster_may_stand_alone_as_a_recipient_only() {
        let forward = |text| forward_path(&mut Cursor::new(text));
        let path =
            |address: &str, domain: &str| Path { address: address.to_owned(), domain: domain.to_owned() };
        assert_eq!(forward("<POSTmaster>"), Ok(path("POSTmaster", "")));
        assert_eq!(forward("<postmaster@A>"), Ok(path("postmaster@A", "a")));
        for text in ["<>", "<postmaster", "<abuse>"] {
            assert_eq!(forward(text), Err(MalformedKind::Path), "{text}");
        }
    }

    #[test]
    fn lengths_end_at_their_limits() {
        let local = |octets: usize| format!("<{}@b>", "l".repeat(octets));
        let label = |octets: usize| format!("<a@{}>", "d".repeat(octets));
        // A domain of 255 octets leaves no room in a path of 256, so that only a source route can show its limit.
        let route = |octets: usize| format!("<@{}{}:a@b>", "d.".repeat(120), "d".repeat(octets - 240));
        let path =
            |octets: usize| format!("<{}@{}{}>", "l".repeat(64), "d.".repeat(80), "d".repeat(octets - 227));
        assert_eq!(path(256).len(), 256);
        for (at_limit, past_it) in
            [(local(64), local(65)), (label(63), label(64)), (path(256), path(257)), (route(249), route(250))]
        {
            assert!(read(&at_limit).is_ok(), "{at_limit}");
            assert_eq!(read(&past_it), Err(MalformedKind::PathTooLong), "{past_it}");
        }
        let name = |octets: usize| format!("{}{}", "d.".repeat(120), "d".repeat(octets - 240));
        assert_eq!(domain(&mut Cursor::new(&name(255))), Ok(()));
        assert_eq!(domain(&mut Cursor::new(&name(256))), Err(MalformedKind::PathTooLong));
    }
}
