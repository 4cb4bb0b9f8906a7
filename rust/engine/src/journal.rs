//! One structured line per message event, written off the hot path.
//!
//! Lines are JSON objects, one per line, made here because formatting a line costs well under a
//! microsecond in Rust. The writer thread is the only one that touches the file. If the disk stalls so
//! long that [`BACKLOG_MAX`] octets wait, further lines are counted and dropped: the journal must never
//! hold back mail. A line that says how many were dropped follows.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

/// Octets that may wait for the writer.
const BACKLOG_MAX: usize = 8 << 20;

/// Octets of a usual line.
const LINE_OCTETS: usize = 320;

#[derive(Default)]
struct Backlog {
    text: Vec<u8>,
    dropped: u64,
    closing: bool,
}

#[derive(Default)]
struct Shared {
    backlog: Mutex<Backlog>,
    more: Condvar,
}

/// Where the lines go: a file, or nowhere.
pub(crate) struct Journal {
    shared: Option<Arc<Shared>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens the file for appending (0640) and starts its writer.
    pub(crate) fn open(path: Option<PathBuf>) -> std::io::Result<Self> {
        let Some(path) = path else {
            return Ok(Self { shared: None, writer: Mutex::new(None) });
        };
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let writer =
            std::thread::Builder::new().name("journal".into()).spawn(move || write_all(&theirs, file))?;
        Ok(Self { shared: Some(shared), writer: Mutex::new(Some(writer)) })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.shared.is_some()
    }

    /// Adds lines; each ends with a line feed.
    pub(crate) fn write(&self, lines: &str) {
        let Some(shared) = &self.shared else { return };
        let mut backlog = shared.backlog.lock();
        if backlog.text.len() + lines.len() > BACKLOG_MAX {
            backlog.dropped += 1;
            return;
        }
        let was_empty = backlog.text.is_empty();
        backlog.text.extend_from_slice(lines.as_bytes());
        drop(backlog);
        if was_empty {
            shared.more.notify_one();
        }
    }

    /// Writes what waits and ends the writer.
    pub(crate) fn close(&self) {
        if let Some(shared) = &self.shared {
            shared.backlog.lock().closing = true;
            shared.more.notify_one();
        }
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

/// How long lines are gathered behind those that were written.
const BURST_MS: u64 = 20;

fn write_all(shared: &Shared, mut file: File) {
    let mut text = Vec::new();
    loop {
        let (dropped, closing) = {
            let mut backlog = shared.backlog.lock();
            while backlog.text.is_empty() && !backlog.closing {
                shared.more.wait(&mut backlog);
            }
            std::mem::swap(&mut backlog.text, &mut text);
            (std::mem::take(&mut backlog.dropped), backlog.closing)
        };
        if dropped > 0 {
            let line = Line::new("JOURNAL", now_ms()).number("dropped", dropped).end();
            text.extend_from_slice(line.as_bytes());
        }
        // A full disk must not stop mail; what could not be written is gone from the journal only.
        let _ = file.write_all(&text);
        text.clear();
        if closing {
            return;
        }
        // Lines of a burst are written together; a reader sees them at most this much later.
        std::thread::sleep(Duration::from_millis(BURST_MS));
    }
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Builds one line.
pub(crate) struct Line(String);

impl Line {
    /// Starts a line with its event name and time.
    pub(crate) fn new(event: &str, at_ms: u64) -> Self {
        let at = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at_ms));
        let mut line = String::with_capacity(LINE_OCTETS);
        let _ = write!(line, "{{\"at\":\"{at}\",\"event\":\"{event}\"");
        Self(line)
    }

    /// Adds a text; control and non-ASCII characters are escaped, so that nothing a peer sends can
    /// forge a line or steer a terminal.
    pub(crate) fn text(mut self, key: &str, value: &str) -> Self {
        self.0.push_str(",\"");
        self.0.push_str(key);
        self.0.push_str("\":\"");
        escape(&mut self.0, value);
        self.0.push('"');
        self
    }

    /// Adds a number.
    pub(crate) fn number(mut self, key: &str, value: u64) -> Self {
        let _ = write!(self.0, ",\"{key}\":{value}");
        self
    }

    /// Ends the line.
    pub(crate) fn end(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }
}

fn escape(out: &mut String, value: &str) {
    // As good as always there is nothing to escape.
    if value.bytes().all(|octet| matches!(octet, b' '..=b'~') && octet != b'"' && octet != b'\\') {
        out.push_str(value);
        return;
    }
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            _ => {
                let mut units = [0u16; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_sends_stays_inside_its_field() {
        let line =
            Line::new("SEND", 0).text("reply", "a\"\\\r\n\u{1b}[31m\u{202e}é\u{1f600}").number("n", 7).end();
        assert_eq!(
            line,
            "{\"at\":\"1970-01-01T00:00:00.000Z\",\"event\":\"SEND\",\"reply\":\"a\\\"\\\\\\u000d\\u000a\\u001b[31m\\u202e\\u00e9\\ud83d\\ude00\",\"n\":7}\n"
        );
    }

    #[test]
    fn lines_written_before_close_are_in_the_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("journal");
        let journal = Journal::open(Some(path.clone())).expect("open");
        journal.write(&Line::new("A", 0).end());
        journal.write(&Line::new("B", 0).end());
        journal.close();
        assert_eq!(std::fs::read_to_string(path).expect("read").lines().count(), 2);
    }
}
