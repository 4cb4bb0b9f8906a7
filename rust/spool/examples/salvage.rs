//! How fast the index is made anew from the log: `cargo run --release --example salvage -- DIRECTORY MESSAGES`.
//!
//! Fills a spool with messages of 1 KB that wait, closes it, takes its index away and opens it again. What is measured
//! reads the log from the page cache as a rule; with more mail than memory it does not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::cast_precision_loss)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use penstock_core::flow::{ContentFlags, ContentSink, Form, Wake, WakeHandle};
use penstock_spool::testing::EventLog;
use penstock_spool::{
    Accepted, EntryRecord, EnvelopeParams, FileDevice, HopId, HopKind, RecipientRecord, Request, Spool,
    SpoolConfig, SpoolEvent, SystemClock,
};

const HOPS: usize = 100;

struct Silent;

impl Wake for Silent {
    fn wake(&self, _token: u64) {}
}

fn open(path: &Path, events: &Arc<EventLog>) -> (Spool, penstock_spool::Recovery) {
    let config = SpoolConfig { path: path.into(), free_min_bytes: 0, ..SpoolConfig::default() };
    Spool::open(config, Arc::new(FileDevice::new()), Arc::new(SystemClock), Arc::clone(events) as _).unwrap()
}

fn accepted(hop: HopId, nth: u64) -> Accepted {
    Accepted {
        received_ms: 1_763_951_400_000 + nth,
        sender: format!("sender-{}@contoso.example", nth % 1_000),
        params: EnvelopeParams::default(),
        connector: "internet".into(),
        peer: "192.0.2.7".into(),
        helo: "client.example".into(),
        session: format!("{nth:016X}"),
        form: Form::Wire,
        flags: ContentFlags::default(),
        size: 1_024,
        message_id: format!("<{nth}@client.example>"),
        subject: "A message of the usual kind".into(),
        recipients: vec![RecipientRecord {
            address: format!("recipient-{nth}@fabrikam.example"),
            orcpt: None,
            notify: 0,
        }],
        entries: vec![EntryRecord {
            hop,
            recipients: vec![0],
            priority: 1,
            due_ms: 1_763_951_400_000 + nth,
            expires_ms: 1_764_124_200_000 + nth,
            suspended: None,
        }],
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = std::path::PathBuf::from(arguments.next().unwrap());
    let count: u64 = arguments.next().map_or(200_000, |count| count.parse().unwrap());
    let events = Arc::new(EventLog::default());
    let (spool, _) = open(&path, &events);
    let hops: Vec<HopId> = (0..HOPS)
        .map(|nth| spool.register_hop("smart", HopKind::Domain, &format!("{nth}.example")))
        .collect();
    let waker = WakeHandle { wake: Arc::new(Silent), token: 0 };
    let content = vec![b'x'; 1_024];
    for nth in 0..count {
        let mut draft = loop {
            match spool.draft(1_024) {
                Ok(draft) => break draft,
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        };
        draft.offer(&content, &waker);
        let accepted = accepted(hops[nth as usize * 7 % HOPS], nth);
        spool.commit(draft, accepted, Bytes::new(), Vec::new());
        if nth % 1_000 == 0 {
            events.take();
        }
    }
    let asked = spool.request(Request::Checkpoint);
    while !events
        .take()
        .iter()
        .any(|event| matches!(event, SpoolEvent::Answer { request, .. } if *request == asked))
    {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    spool.close();
    let index = path.join("shard-00/index");
    let old = std::fs::metadata(index.join("data.mdb")).unwrap().len();
    std::fs::remove_dir_all(&index).unwrap();
    let began = Instant::now();
    let (spool, recovery) = open(&path, &events);
    let took = began.elapsed();
    let salvaged = recovery.salvaged.unwrap();
    println!(
        "{} messages in {:.2} s ({:.2} s of it salvage): {:.0} a second; index {} octets a message, {} before",
        salvaged.messages,
        took.as_secs_f64(),
        salvaged.took_ms as f64 / 1_000.0,
        salvaged.messages as f64 * 1_000.0 / salvaged.took_ms as f64,
        std::fs::metadata(index.join("data.mdb")).unwrap().len() / count,
        old / count,
    );
    spool.close();
}
