//! Edits: what they change, when they are refused, and what of them survives.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::{Bench, NOW_MS, accepted, config, directory, settled, silent};
use penstock_core::flow::{ContentSink, Offer};
use penstock_core::queue_id::QueueId;
use penstock_spool::testing::{Call, EventLog, Fault, FaultyDevice};
use penstock_spool::{
    Answer, Author, Edit, EditKind, Edited, EntryRow, HopId, HopKind, Lsn, MessageEntry, OutcomeState,
    Recovery, Report, Request, Spool, SpoolConfig, SpoolEvent, Suspension, SystemClock, Target, WHY_MAX,
};
use tempfile::TempDir;

const SUSPEND: Edit = Edit::Suspend(Suspension::Operator);

fn author() -> Author {
    Author { who: "operator1".into(), why: "check with payroll".into(), at_ms: NOW_MS }
}

/// A spool with messages that are acknowledged.
fn bench(messages: usize) -> (Bench, TempDir, Vec<QueueId>) {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let config = SpoolConfig { segment_bytes: 1 << 20, ..config(dir.path()) };
    let mut bench = Bench::open_with(&device, config).unwrap();
    let ids = (0..messages).map(|_| bench.commit(500).unwrap()).collect();
    bench.step();
    (bench, dir, ids)
}

fn target(bench: &Bench, queue_id: QueueId, version: Option<Lsn>) -> Target {
    Target { queue_id, hop: bench.hop, version }
}

fn edit(bench: &mut Bench, edit: Edit, queue_id: QueueId, version: Option<Lsn>) -> Edited {
    let number = bench.spool().edit(edit, author(), vec![target(bench, queue_id, version)]);
    bench.step();
    one(bench.take_answer(number))
}

fn one(answer: Option<Answer>) -> Edited {
    match answer {
        Some(Answer::Edited { results }) if results.len() == 1 => results[0],
        other => panic!("no result but {other:?}"),
    }
}

fn rows(bench: &mut Bench, request: Request) -> Vec<EntryRow> {
    match bench.ask(request) {
        Some(Answer::Entries { rows, .. }) => rows,
        other => panic!("no page but {other:?}"),
    }
}

fn refill(bench: &mut Bench, hop: HopId) -> Vec<QueueId> {
    let page = rows(bench, Request::Refill { hop, limit: 100, now_ms: u64::MAX });
    page.iter().map(|row| row.queue_id).collect()
}

fn expired(bench: &mut Bench) -> Vec<QueueId> {
    rows(bench, Request::Expired { now_ms: u64::MAX, limit: 100 }).iter().map(|row| row.queue_id).collect()
}

fn entry(bench: &mut Bench, queue_id: QueueId) -> MessageEntry {
    match bench.ask(Request::Message { queue_id }) {
        Some(Answer::Message { row: Some(row), .. }) => row.entries.into_iter().next().unwrap(),
        other => panic!("no message but {other:?}"),
    }
}

/// Open what a crash left; the ledger, which knows nothing of edits, is not asked.
fn reopened(device: &FaultyDevice, from: &TempDir) -> (Bench, TempDir) {
    let dir = directory();
    common::copy_index(from.path(), dir.path());
    let device = device.moved(from.path(), dir.path());
    (Bench::open_with(&device, SpoolConfig { segment_bytes: 1 << 20, ..config(dir.path()) }).unwrap(), dir)
}

/// A report with one recipient at the same hop.
fn report(bench: &Bench) -> Report {
    let draft = bench.draft(b"Subject: removed\r\n\r\n").unwrap();
    Report { draft, accepted: accepted(bench.hop, 20), prepend: Bytes::new() }
}

#[test]
fn what_is_suspended_is_in_no_refill_until_it_is_resumed() {
    let (mut bench, _dir, ids) = bench(3);
    let hop = bench.hop;
    assert!(matches!(edit(&mut bench, SUSPEND, ids[1], None), Edited::Done { .. }));
    assert_eq!(refill(&mut bench, hop), [ids[0], ids[2]]);
    assert_eq!(expired(&mut bench).len(), 3, "the expiry clock runs on");
    let found = entry(&mut bench, ids[1]);
    let last = found.edit.unwrap();
    assert_eq!(
        (found.suspended, last.kind, last.author),
        (Some(Suspension::Operator), EditKind::Suspend, author())
    );
    let Some(Answer::Hops { rows, .. }) = bench.ask(Request::Hops) else { panic!("no hops") };
    assert_eq!((rows[0].count, rows[0].suspended), (3, 1));
    assert!(matches!(edit(&mut bench, Edit::Resume, ids[1], None), Edited::Done { .. }));
    assert_eq!(refill(&mut bench, hop), ids);
}

#[test]
fn what_came_back_from_a_backup_does_not_expire_before_it_is_resumed() {
    let (mut bench, _dir, ids) = bench(2);
    edit(&mut bench, Edit::Suspend(Suspension::Restored), ids[0], None);
    assert_eq!(expired(&mut bench), [ids[1]]);
    edit(&mut bench, Edit::Resume, ids[0], None);
    assert_eq!(expired(&mut bench), ids);
}

#[test]
fn an_edit_of_what_has_moved_on_is_refused_and_tells_the_version_that_it_has() {
    let (mut bench, _dir, ids) = bench(1);
    let seen = entry(&mut bench, ids[0]).version;
    bench.spool().append(vec![settled(ids[0], bench.hop, 1, OutcomeState::Deferred)]);
    let result = edit(&mut bench, SUSPEND, ids[0], Some(seen));
    let version = entry(&mut bench, ids[0]).version;
    assert_eq!(result, Edited::Conflict { version });
    assert!(version > seen);
    assert_eq!(entry(&mut bench, ids[0]).suspended, None);
    let Edited::Done { lsn } = edit(&mut bench, SUSPEND, ids[0], Some(version)) else { panic!("refused") };
    assert_eq!(entry(&mut bench, ids[0]).version, lsn, "the record of the edit is the new version");
}

#[test]
fn an_edit_that_is_made_again_has_nothing_to_do() {
    let (mut bench, _dir, ids) = bench(1);
    let to = bench.spool().register_hop("other", HopKind::SmartHost, "mx.fabrikam.example");
    let seen = Some(entry(&mut bench, ids[0]).version);
    for wish in [
        SUSPEND,
        Edit::Expire { expires_ms: NOW_MS + 77 },
        Edit::Prioritise { priority: 0 },
        Edit::Due { due_ms: NOW_MS + 5 },
    ] {
        let version = entry(&mut bench, ids[0]).version;
        let Edited::Done { lsn } = edit(&mut bench, wish, ids[0], Some(version)) else { panic!("{wish:?}") };
        assert_eq!(edit(&mut bench, wish, ids[0], seen), Edited::Unchanged { version: lsn }, "{wish:?}");
    }
    let found = entry(&mut bench, ids[0]);
    assert_eq!((found.expires_ms, found.priority, found.due_ms), (NOW_MS + 77, 0, NOW_MS + 5));
    assert_eq!(found.edit.unwrap().number, 4);
    let redirect = Edit::Redirect { to, due_ms: NOW_MS };
    assert!(matches!(edit(&mut bench, redirect, ids[0], None), Edited::Done { .. }));
    assert_eq!(edit(&mut bench, redirect, ids[0], None), Edited::Gone);
}

#[test]
fn several_edits_of_one_entry_are_made_one_after_the_other() {
    let (mut bench, _dir, ids) = bench(1);
    let [suspend, resume] = [SUSPEND, Edit::Resume]
        .map(|wish| bench.spool().edit(wish, author(), vec![target(&bench, ids[0], None)]));
    let twice = vec![target(&bench, ids[0], None); 2];
    let priority = bench.spool().edit(Edit::Prioritise { priority: 2 }, author(), twice);
    bench.step();
    let Edited::Done { lsn: first } = one(bench.take_answer(suspend)) else { panic!("not suspended") };
    let Edited::Done { lsn: second } = one(bench.take_answer(resume)) else { panic!("not resumed") };
    assert!(first < second);
    let Some(Answer::Edited { results }) = bench.take_answer(priority) else { panic!("no answer") };
    assert!(matches!(results[..], [Edited::Done { .. }, Edited::Unchanged { .. }]), "{results:?}");
    let found = entry(&mut bench, ids[0]);
    assert_eq!((found.suspended, found.priority, found.edit.unwrap().number), (None, 2, 3));
}

#[test]
fn what_is_removed_is_gone_and_only_that() {
    let (mut bench, _dir, ids) = bench(2);
    assert!(matches!(edit(&mut bench, Edit::Remove, ids[0], None), Edited::Done { .. }));
    assert_eq!(bench.messages().iter().map(|row| row.queue_id).collect::<Vec<_>>(), [ids[1]]);
    assert_eq!(edit(&mut bench, Edit::Remove, ids[0], None), Edited::Gone);
    assert_eq!(edit(&mut bench, SUSPEND, QueueId(1), None), Edited::Gone);
}

#[test]
fn who_is_redirected_waits_at_the_other_hop_as_suspended_as_before() {
    let (mut bench, _dir, ids) = bench(1);
    let (from, to) =
        (bench.hop, bench.spool().register_hop("other", HopKind::SmartHost, "mx.fabrikam.example"));
    edit(&mut bench, SUSPEND, ids[0], None);
    edit(&mut bench, Edit::Redirect { to, due_ms: NOW_MS + 9 }, ids[0], None);
    let found = entry(&mut bench, ids[0]);
    assert_eq!((found.hop, found.due_ms, found.suspended), (to, NOW_MS + 9, Some(Suspension::Operator)));
    assert!(refill(&mut bench, from).is_empty() && refill(&mut bench, to).is_empty());
    let number =
        bench.spool().edit(Edit::Resume, author(), vec![Target { queue_id: ids[0], hop: to, version: None }]);
    bench.step();
    assert!(matches!(one(bench.take_answer(number)), Edited::Done { .. }));
    assert_eq!(refill(&mut bench, to), ids);
}

#[test]
fn texts_are_kept_as_long_as_they_may_be() {
    let (mut bench, _dir, ids) = bench(1);
    let author = Author { who: "ü".repeat(100), why: "ß".repeat(WHY_MAX), at_ms: NOW_MS };
    bench.spool().edit(SUSPEND, author, vec![target(&bench, ids[0], None)]);
    bench.step();
    let kept = entry(&mut bench, ids[0]).edit.unwrap().author;
    assert_eq!((kept.who, kept.why), ("ü".repeat(64), "ß".repeat(WHY_MAX / 2)));
}

#[test]
fn an_edit_that_was_told_survives_whatever_happens() {
    let (mut bench, dir, ids) = bench(2);
    let hop = bench.hop;
    assert!(matches!(edit(&mut bench, SUSPEND, ids[0], None), Edited::Done { .. }));
    for device in (0..20).map(|seed| bench.device.after_power_loss(seed)).chain([bench.device.after_kill()]) {
        let (mut bench, _dir) = reopened(&device, &dir);
        assert_eq!(refill(&mut bench, hop), [ids[1]]);
        let last = entry(&mut bench, ids[0]).edit.unwrap();
        assert_eq!((last.number, last.author), (1, author()));
        assert!(matches!(edit(&mut bench, Edit::Resume, ids[0], None), Edited::Done { .. }));
        assert_eq!(refill(&mut bench, hop), ids);
    }
}

#[test]
fn an_edit_is_not_told_before_it_is_durable_and_never_half_made() {
    let (mut bench, dir, ids) = bench(1);
    let hop = bench.hop;
    bench.device.fail_all(Call::Sync, Some(Fault::Halt));
    let number = bench.spool().edit(SUSPEND, author(), vec![target(&bench, ids[0], None)]);
    bench.step();
    assert!(matches!(bench.take_answer(number), Some(Answer::Failed { .. })));
    let mut found = Vec::new();
    for seed in 0..40 {
        let (mut bench, _dir) = reopened(&bench.device.after_power_loss(seed), &dir);
        let is_suspended = entry(&mut bench, ids[0]).suspended.is_some();
        assert_eq!(refill(&mut bench, hop).is_empty(), is_suspended);
        found.push(is_suspended);
    }
    assert!(found.contains(&true) && found.contains(&false), "both happen");
    let (mut bench, _dir) = reopened(&bench.device.after_kill(), &dir);
    assert!(entry(&mut bench, ids[0]).suspended.is_some());
}

#[test]
fn a_removal_and_its_report_are_one() {
    let (mut bench, dir, ids) = bench(1);
    let report = report(&bench);
    let told = report.draft.queue_id();
    let number = bench.spool().remove(author(), target(&bench, ids[0], None), report);
    // The sync of it halts: what is durable then is chance, but it is both or neither.
    bench.device.fail_all(Call::Sync, Some(Fault::Halt));
    bench.step();
    assert!(matches!(bench.take_answer(number), Some(Answer::Failed { .. })));
    let mut seen = BTreeMap::new();
    for seed in 0..40 {
        let (mut bench, _dir) = reopened(&bench.device.after_power_loss(seed), &dir);
        let found: Vec<QueueId> = bench.messages().iter().map(|row| row.queue_id).collect();
        assert!(found == [ids[0]] || found == [told], "seed {seed}: {found:?}");
        *seen.entry(found[0]).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2, "both happen");
}

#[test]
fn a_removal_that_is_refused_stores_no_report_and_gives_its_room_back() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let small = SpoolConfig { draft_budget_bytes: 10_000, ..config(dir.path()) };
    let mut bench = Bench::open_with(&device, small).unwrap();
    let ids = [bench.commit(500).unwrap()];
    bench.step();
    let mut report = report(&bench);
    assert_eq!(report.draft.offer(&[7; 8_000], &silent()), Offer::Taken);
    let number = bench.spool().remove(author(), target(&bench, ids[0], Some(99)), report);
    bench.step();
    assert!(matches!(one(bench.take_answer(number)), Edited::Conflict { .. }));
    assert_eq!(bench.messages().iter().map(|row| row.queue_id).collect::<Vec<_>>(), ids);
    assert_eq!(bench.spool().draft(8_000).unwrap().offer(&[7; 8_000], &silent()), Offer::Taken);
}

#[test]
fn a_removal_whose_report_finds_no_room_is_not_made() {
    let (mut bench, _dir, ids) = bench(1);
    let mut large = report(&bench);
    for _ in 0..250 {
        assert_eq!(large.draft.offer(&[7; 10_000], &silent()), Offer::Taken);
    }
    bench.device.set_capacity(bench.device.used());
    let number = bench.spool().remove(author(), target(&bench, ids[0], None), large);
    bench.step();
    assert_eq!(one(bench.take_answer(number)), Edited::Busy);
    let rows = bench.messages();
    assert_eq!(rows.iter().map(|row| row.queue_id).collect::<Vec<_>>(), ids);
}

#[test]
fn when_the_log_fails_nobody_is_told_that_an_edit_is_made() {
    let (mut bench, _dir, ids) = bench(1);
    bench.device.fail_all(Call::Sync, Some(Fault::Io));
    let number = bench.spool().edit(SUSPEND, author(), vec![target(&bench, ids[0], None)]);
    bench.step();
    assert!(bench.poisoned);
    assert!(matches!(bench.take_answer(number), Some(Answer::Failed { .. })));
    let number = bench.spool().edit(SUSPEND, author(), vec![target(&bench, ids[0], None)]);
    bench.step();
    assert!(matches!(bench.take_answer(number), Some(Answer::Failed { .. })));
}

/// Outcomes and edits race; what the log says in the end is what was told.
#[test]
fn edits_and_outcomes_that_race_never_contradict_each_other() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let events = Arc::new(EventLog::default());
    let config = SpoolConfig { inline: false, segment_bytes: 1 << 20, ..config(dir.path()) };
    let open = |config| -> (Spool, Recovery) {
        Spool::open(config, Arc::new(device.clone()), Arc::new(SystemClock), Arc::clone(&events) as _)
            .unwrap()
    };
    let (spool, _) = open(config.clone());
    let hop = spool.register_hop("smart", HopKind::SmartHost, "mx.contoso.example");
    let mut settled_at = BTreeMap::new();
    let mut asked = BTreeMap::new();
    let mut suspended = 0;
    for round in 0..200_u32 {
        let mut draft = spool.draft(20).unwrap();
        assert_eq!(draft.offer(b"Subject: race\r\n\r\n", &silent()), Offer::Taken);
        let queue_id = draft.queue_id();
        spool.commit(draft, accepted(hop, 20), Bytes::new(), Vec::new());
        let target = Target { queue_id, hop, version: None };
        let wish = if round % 2 == 0 { Edit::Remove } else { SUSPEND };
        asked.insert(spool.edit(wish, author(), vec![target]), queue_id);
        for _ in 0..round % 7 {
            std::thread::yield_now();
        }
        suspended += u64::from(round % 3 == 0 && wish == SUSPEND);
        if round % 3 != 0 {
            settled_at
                .insert(queue_id, spool.append(vec![settled(queue_id, hop, 1, OutcomeState::Delivered)]));
        }
    }
    let mut told = BTreeMap::new();
    while told.len() < asked.len() {
        for event in events.wait_for(|event| matches!(event, SpoolEvent::Answer { .. })) {
            if let SpoolEvent::Answer { request, answer } = event {
                told.insert(asked[&request], one(Some(answer)));
            }
        }
    }
    let mut outcomes = [0, 0];
    for (queue_id, edited) in &told {
        match (edited, settled_at.get(queue_id)) {
            (Edited::Done { lsn }, Some(settled)) => {
                assert!(lsn < settled, "{queue_id} was edited after its end");
                outcomes[0] += 1;
            }
            (Edited::Gone, Some(_)) => outcomes[1] += 1,
            (Edited::Done { .. }, None) => {}
            other => panic!("{queue_id}: {other:?}"),
        }
    }
    assert!(outcomes[0] + outcomes[1] > 0, "{outcomes:?}");
    spool.close();
    let (spool, recovery) = open(config);
    assert_eq!(recovery.messages, suspended, "those that were suspended and never settled");
    spool.close();
}
