//! Measures commits: `cargo run --release --example commits -- DIRECTORY [MESSAGES] [IN_FLIGHT] [OCTETS]`.
//!
//! Each message goes the whole way of the spool: draft, commit, start, its content read back, settled. Prints commits per
//! second, and CPU time of the process per message, in microseconds.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use penstock_core::flow::{ContentFlags, ContentSink, Form, Offer, SourcePoll, Wake, WakeHandle};
use penstock_core::queue_id::QueueId;
use penstock_spool::{
    Accepted, Disposition, EntryRecord, EnvelopeParams, Fact, FileDevice, HopId, HopKind, Outcome,
    OutcomeState, RecipientRecord, Spool, SpoolConfig, SpoolEvent, SpoolSink, SystemClock,
};

struct Sink(Mutex<Sender<Vec<QueueId>>>);

impl SpoolSink for Sink {
    fn push(&self, events: Vec<SpoolEvent>) {
        let committed = |event| match event {
            SpoolEvent::Committed { queue_id, .. } => Some(queue_id),
            SpoolEvent::CommitFailed { error, .. } => panic!("{error}"),
            _ => None,
        };
        let ids: Vec<QueueId> = events.into_iter().filter_map(committed).collect();
        if !ids.is_empty() {
            let sender = self.0.lock().expect("nobody panicked");
            sender.send(ids).expect("somebody listens");
        }
    }
}

struct Silent;

impl Wake for Silent {
    fn wake(&self, _token: u64) {}
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("a directory");
    let mut number =
        |default: usize| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let (messages, in_flight, octets) = (number(50_000), number(50), number(4_096));
    let (sender, receiver) = channel();
    let config = SpoolConfig { path: path.into(), ..SpoolConfig::default() };
    let device = Arc::new(FileDevice::new());
    let began = Instant::now();
    let (spool, recovery) =
        Spool::open(config, device, Arc::new(SystemClock), Arc::new(Sink(Mutex::new(sender))))
            .expect("a spool");
    println!("open {:?} {recovery:?}", began.elapsed());
    run(&spool, &receiver, messages / 10, in_flight, octets);
    let (cpu, began) = (cpu_micros(), Instant::now());
    run(&spool, &receiver, messages, in_flight, octets);
    let took = began.elapsed().as_secs_f64();
    let statistics = spool.statistics();
    let syncs: u64 = statistics.sync_micros.counts.iter().sum();
    println!(
        "{:.0} commits/s, {:.1} us CPU per message, mean sync {} us, {:.1} messages per group, {} checkpoints",
        messages as f64 / took,
        (cpu_micros() - cpu) as f64 / messages as f64,
        statistics.sync_micros.sum / syncs.max(1),
        statistics.group_messages.sum as f64
            / statistics.group_messages.counts.iter().sum::<u64>().max(1) as f64,
        statistics.checkpoints,
    );
    println!("{statistics:?}");
    spool.close();
}

/// Microseconds of CPU that this process has used.
fn cpu_micros() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = text.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|&at| fields.get(at)?.parse::<u64>().ok()).sum();
    ticks * 10_000
}

fn run(spool: &Spool, done: &Receiver<Vec<QueueId>>, messages: usize, in_flight: usize, octets: usize) {
    let hop = spool.register_hop("smart", HopKind::SmartHost, "[127.0.0.1]:2500");
    let waker = WakeHandle { wake: Arc::new(Silent), token: 0 };
    let content: Vec<u8> = b"Penstock\r\n".iter().copied().cycle().take(octets).collect();
    let (mut begun, mut ended) = (0, 0);
    while ended < messages {
        while begun < messages && begun - ended < in_flight {
            let Ok(mut draft) = spool.draft(octets as u64) else {
                std::thread::yield_now();
                break;
            };
            assert_eq!(draft.offer(&content, &waker), Offer::Taken);
            spool.commit(draft, accepted(hop, octets), Bytes::from_static(&[b'R'; 200]), Vec::new());
            begun += 1;
        }
        if begun == ended {
            continue;
        }
        let ids = done.recv().expect("the spool is open");
        let mut facts = Vec::with_capacity(ids.len());
        for &id in &ids {
            let mut gate = spool.started(id, hop, 1, "127.0.0.1");
            let _ = gate.state(&waker);
            let mut source = spool.content(id).source;
            let mut read = 0;
            loop {
                match source.poll(&waker) {
                    SourcePoll::Chunk(chunk) => read += chunk.len(),
                    SourcePoll::Pending => std::thread::yield_now(),
                    SourcePoll::End => break,
                    SourcePoll::Failed => panic!("the content is gone"),
                }
            }
            assert_eq!(read, octets + 200);
            facts.push(settled(id, hop));
        }
        spool.append(facts);
        ended += ids.len();
    }
}

fn accepted(hop: HopId, octets: usize) -> Accepted {
    Accepted {
        received_ms: 1_763_951_400_000,
        sender: "sender@contoso.example".into(),
        params: EnvelopeParams::default(),
        connector: "internet".into(),
        peer: "127.0.0.1".into(),
        helo: "client.example".into(),
        session: "0123456789abcdef".into(),
        form: Form::Wire,
        flags: ContentFlags::default(),
        size: octets as u64,
        message_id: "<0123456789abcdef@client.example>".into(),
        subject: "A message".into(),
        recipients: vec![RecipientRecord { address: "you@fabrikam.example".into(), orcpt: None, notify: 0 }],
        entries: vec![EntryRecord {
            hop,
            recipients: vec![0],
            priority: 1,
            due_ms: 1_763_951_400_000,
            expires_ms: 1_764_383_400_000,
            suspended: None,
        }],
    }
}

fn settled(queue_id: QueueId, hop: HopId) -> Fact {
    Fact::Settled {
        queue_id,
        hop,
        attempt: 1,
        disposition: Disposition::Finished,
        outcomes: vec![Outcome {
            recipient: 0,
            state: OutcomeState::Relayed,
            stage: 8,
            code: 250,
            enhanced: "2.0.0".into(),
            text: "Ok: queued as 4DFE2300".into(),
        }],
        peer: "127.0.0.1".into(),
        session: "fedcba9876543210".into(),
    }
}
