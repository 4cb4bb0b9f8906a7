//! What operators have said of delivery queues, as it stands in `queues.toml` in the spool's directory.
//!
//! It is not in the log, because it is about queues that may have nothing in them, must survive the index, and may be
//! looked at, or put right by hand while nobody has the spool open. One file says all, and is replaced as a whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::device::{self, Device, Opening};
use crate::edit::Author;
use crate::errors::OpenError;
use crate::facts::{HopId, HopKind, HopName};
use crate::meta;

/// The format that this program writes, and the latest that it reads.
const FORMAT: u64 = 1;
/// Octets of the file at most.
const BYTES_MAX: usize = 4 << 20;
/// The kinds of hops, by the names that they have in the file.
const KINDS: [(&str, HopKind); 4] = [
    ("smart_host", HopKind::SmartHost),
    ("domain", HopKind::Domain),
    ("maildir", HopKind::Maildir),
    ("unreachable", HopKind::Unreachable),
];

/// A delivery queue that an operator has suspended.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct SuspendedQueue {
    /// Its next hop.
    pub name: Arc<HopName>,
    /// Who has suspended it, why and when.
    pub author: Author,
}

/// The queues that are suspended.
#[derive(Clone, Debug)]
pub(crate) struct Queues {
    path: PathBuf,
    suspended: BTreeMap<HopId, SuspendedQueue>,
}

impl Queues {
    /// Read what was said last; a spool without the file has no queue suspended. **Blocking.**
    pub(crate) fn open(device: &dyn Device, root: &Path) -> Result<Self, OpenError> {
        let path = root.join("queues.toml");
        let mut queues = Self { path, suspended: BTreeMap::new() };
        let file = match device.open(&queues.path, Opening::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(queues),
            Err(error) => return Err(OpenError::io(&queues.path)(error)),
        };
        let octets = meta::read_all(&*file, BYTES_MAX as u64 + 1).map_err(OpenError::io(&queues.path))?;
        let wrong = |Wrong { line, what }| OpenError::Queues { path: queues.path.clone(), line, what };
        if octets.len() > BYTES_MAX {
            return Err(wrong(Wrong { line: 1, what: format!("it has more than {BYTES_MAX} octets") }));
        }
        let text = std::str::from_utf8(&octets).map_err(|error| {
            let before = octets.get(..error.valid_up_to()).unwrap_or_default();
            wrong(Wrong { line: lines(before), what: "it is not UTF-8".into() })
        })?;
        queues.suspended = parse(text).map_err(wrong)?;
        Ok(queues)
    }

    /// The hops of those that are suspended.
    pub(crate) fn hops(&self) -> impl Iterator<Item = HopId> {
        self.suspended.keys().copied()
    }

    /// All that are suspended, in the order of their hops' ids.
    pub(crate) fn suspended(&self) -> Vec<SuspendedQueue> {
        self.suspended.values().cloned().collect()
    }

    /// Suspend a queue, or resume it if there is no author; what is said is durable on return. On an error what is
    /// known here is as before, and what the next open finds is either. **Blocking.**
    pub(crate) fn set(
        &mut self,
        device: &dyn Device,
        name: Arc<HopName>,
        author: Option<Author>,
    ) -> io::Result<()> {
        let mut suspended = self.suspended.clone();
        match author {
            Some(author) => suspended.insert(name.id(), SuspendedQueue { name, author }),
            None => suspended.remove(&name.id()),
        };
        let text = render(suspended.values());
        if text.len() > BYTES_MAX {
            return Err(io::Error::other("queues.toml would become too long"));
        }
        meta::replace(device, &self.path, text.as_bytes())?;
        device::sync_dir(device, self.path.parent().unwrap_or(Path::new(".")))?;
        self.suspended = suspended;
        Ok(())
    }
}

/// What is wrong with the file.
#[derive(Debug)]
struct Wrong {
    line: usize,
    what: String,
}

/// The line in which the octet after these is, from 1.
fn lines(before: &[u8]) -> usize {
    before.split(|&octet| octet == b'\n').count()
}

type Row<'t, 'i> = &'t DeTable<'i>;

fn parse(text: &str) -> Result<BTreeMap<HopId, SuspendedQueue>, Wrong> {
    let wrong =
        |at: usize, what: String| Wrong { line: lines(text.as_bytes().get(..at).unwrap_or_default()), what };
    let document = DeTable::parse(text)
        .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().into()))?;
    let table = document.get_ref();
    let format = table.get("format").ok_or_else(|| wrong(0, "it tells no format".into()))?;
    let number = number(format.get_ref());
    let number = number.ok_or_else(|| wrong(format.span().start, "format must be a number".into()))?;
    if number > FORMAT {
        let what = format!("it has format {number}; this program knows formats up to {FORMAT}");
        return Err(wrong(format.span().start, what));
    }
    let mut suspended = BTreeMap::new();
    for (key, value) in table {
        let at = key.span().start;
        match key.get_ref().as_ref() {
            "format" => {}
            "suspended" => {
                let rows = value.get_ref().as_array();
                let rows = rows.ok_or_else(|| wrong(at, "suspended must be a list of tables".into()))?;
                for row in rows {
                    let start = row.span().start;
                    let read =
                        row.get_ref().as_table().ok_or("suspended must be a list of tables".to_owned());
                    let queue = read.and_then(read_queue).map_err(|what| wrong(start, what))?;
                    if suspended.insert(queue.name.id(), queue).is_some() {
                        return Err(wrong(start, "this queue is named twice".into()));
                    }
                }
            }
            other => return Err(wrong(at, format!("no key is called {other:?}"))),
        }
    }
    Ok(suspended)
}

fn read_queue(row: Row<'_, '_>) -> Result<SuspendedQueue, String> {
    const KNOWN: [&str; 6] = ["connector", "kind", "destination", "who", "why", "at_ms"];
    if let Some((other, _)) = row.iter().find(|(key, _)| !KNOWN.contains(&key.get_ref().as_ref())) {
        return Err(format!("no key is called {:?}", other.get_ref()));
    }
    let value = |key: &str| row.get(key).map(Spanned::get_ref).ok_or_else(|| format!("{key} is missing"));
    let text =
        |key: &str| value(key)?.as_str().map(str::to_owned).ok_or_else(|| format!("{key} must be a text"));
    let kind = text("kind")?;
    let known = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, kind)| *kind);
    let name = HopName {
        connector: text("connector")?,
        kind: known.ok_or_else(|| format!("no kind is called {kind:?}"))?,
        destination: text("destination")?,
    };
    let at_ms = number(value("at_ms")?).ok_or("at_ms must be a number")?;
    let author = Author { who: text("who")?, why: text("why")?, at_ms };
    Ok(SuspendedQueue { name: Arc::new(name), author: author.bounded() })
}

fn number(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn render<'a>(queues: impl Iterator<Item = &'a SuspendedQueue>) -> String {
    let mut out = String::from(
        "# Delivery queues that operators have suspended. Written by Penstock; see FORMAT.md.\n",
    );
    let _ = writeln!(out, "format = {FORMAT}");
    for SuspendedQueue { name, author } in queues {
        let kind = KINDS.iter().find(|(_, kind)| *kind == name.kind).map_or("", |(name, _)| name);
        out.push_str("\n[[suspended]]\n");
        for (key, text) in [
            ("connector", &*name.connector),
            ("kind", kind),
            ("destination", &*name.destination),
            ("who", &*author.who),
            ("why", &*author.why),
        ] {
            let _ = write!(out, "{key} = \"");
            escape(&mut out, text);
            out.push_str("\"\n");
        }
        let _ = writeln!(out, "at_ms = {}", author.at_ms);
    }
    out
}

/// Append a text as it stands in a basic string of TOML.
fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            character if character.is_control() => {
                let _ = write!(out, "\\U{:08x}", u32::from(character));
            }
            character => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn queue() -> impl Strategy<Value = SuspendedQueue> {
        let texts =
            prop::collection::vec(prop_oneof![any::<String>(), Just("a\"b\\\n\u{7f}\u{85}".into())], 4);
        (texts, 1u8..=4, 0..=u64::MAX / 2).prop_map(|(mut texts, kind, at_ms)| {
            let mut next = || texts.pop().unwrap();
            let (connector, destination) = (next(), next());
            let name = HopName { connector, kind: HopKind::from_number(kind).unwrap(), destination };
            let author = Author { who: next(), why: next(), at_ms }.bounded();
            SuspendedQueue { name: Arc::new(name), author }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(queues in prop::collection::vec(queue(), 0..4)) {
            let expected: BTreeMap<_, _> =
                queues.into_iter().map(|queue| (queue.name.id(), queue)).collect();
            prop_assert_eq!(parse(&render(expected.values())).unwrap(), expected);
        }

        #[test]
        fn reading_never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }

    #[test]
    fn what_nobody_writes_is_refused_with_its_line() {
        let row =
            "connector = \"a\"\nkind = \"domain\"\ndestination = \"b\"\nwho = \"\"\nwhy = \"\"\nat_ms = 1\n";
        let whole = format!("format = 1\n[[suspended]]\n{row}");
        assert_eq!(parse(&whole).unwrap().len(), 1);
        for (text, line, what) in [
            (String::new(), 1, "it tells no format"),
            ("\nformat = 2\nwhatever = 1\n".into(), 2, "it has format 2; this program knows formats up to 1"),
            ("format = \"1\"\n".into(), 1, "format must be a number"),
            ("format = -1\n".into(), 1, "format must be a number"),
            ("format = 1\n\nqueue = 3\n".into(), 3, "no key is called \"queue\""),
            ("format = 1\nsuspended = 3\n".into(), 2, "suspended must be a list of tables"),
            ("format = 1\nsuspended = [3]\n".into(), 2, "suspended must be a list of tables"),
            (whole.replace("domain", "queue"), 2, "no kind is called \"queue\""),
            (whole.replace("at_ms = 1", "at_ms = \"\""), 2, "at_ms must be a number"),
            (whole.replace("who = \"\"\n", ""), 2, "who is missing"),
            (whole.replace("who = \"\"", "who = 1"), 2, "who must be a text"),
            (whole.replace("who =", "whom ="), 2, "no key is called \"whom\""),
            (format!("{whole}\n\n[[suspended]]\n{row}"), 11, "this queue is named twice"),
        ] {
            let found = parse(&text).unwrap_err();
            assert_eq!((found.line, found.what.as_str()), (line, what), "{text}");
        }
        assert_eq!(parse("format = 1\nwho = \n").unwrap_err().line, 2);
    }
}
