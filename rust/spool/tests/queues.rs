//! What operators say of delivery queues is kept, as a whole or not at all.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::path::Path;

use common::{Bench, NOW_MS, directory};
use penstock_spool::testing::{Call, Fault, FaultyDevice};
use penstock_spool::{Answer, Author, Device, OpenError, Opening, SuspendedQueue};

fn author(why: &str) -> Author {
    Author { who: "operator1".into(), why: why.into(), at_ms: NOW_MS }
}

fn say(bench: &mut Bench, why: Option<&str>) -> Option<Answer> {
    let number = bench.spool().suspend_queue(bench.hop, why.map(author));
    bench.step();
    bench.take_answer(number)
}

fn reasons(queues: &[SuspendedQueue]) -> Vec<&str> {
    queues.iter().map(|queue| queue.author.why.as_str()).collect()
}

fn open(device: &FaultyDevice, path: &Path) -> Result<Bench, OpenError> {
    Bench::open(device, path)
}

#[test]
fn a_queue_that_was_told_to_be_suspended_is_so_whatever_happens() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = open(&device, dir.path()).unwrap();
    assert!(bench.spool().suspended_queues().is_empty());
    for why in ["line is down", "line is still down"] {
        assert!(matches!(say(&mut bench, Some(why)), Some(Answer::Done { .. })));
        assert_eq!(reasons(&bench.spool().suspended_queues()), [why]);
    }
    drop(bench);
    for seed in 0..20 {
        let to = directory();
        common::copy_index(dir.path(), to.path());
        let device = device.after_power_loss(seed).moved(dir.path(), to.path());
        let mut bench = open(&device, to.path()).unwrap();
        let found = bench.spool().suspended_queues();
        assert_eq!((found.len(), &found[0].author), (1, &author("line is still down")));
        assert_eq!(found[0].name.id(), bench.hop);
        assert!(matches!(say(&mut bench, None), Some(Answer::Done { .. })));
        assert!(bench.spool().suspended_queues().is_empty());
        bench.close();
        assert!(open(&device, to.path()).unwrap().spool().suspended_queues().is_empty());
    }
}

#[test]
fn a_word_that_is_cut_off_leaves_the_old_or_the_new_and_never_a_spool_that_does_not_open() {
    let mut found = [0, 0];
    for nth in 0..40 {
        let (device, dir) = (FaultyDevice::new(1), directory());
        let mut bench = open(&device, dir.path()).unwrap();
        say(&mut bench, Some("old"));
        device.fail(device.calls().len() as u64 + nth, Fault::Halt);
        let is_told = matches!(say(&mut bench, Some("new")), Some(Answer::Done { .. }));
        drop(bench);
        for seed in 0..4 {
            let to = directory();
            common::copy_index(dir.path(), to.path());
            let device = device.after_power_loss(seed).moved(dir.path(), to.path());
            let bench = open(&device, to.path()).unwrap();
            let queues = bench.spool().suspended_queues();
            let is_new = reasons(&queues) == ["new"];
            assert!(is_new || !is_told && reasons(&queues) == ["old"], "call {nth}, seed {seed}");
            found[usize::from(is_new)] += 1;
        }
    }
    assert!(found[0] > 0 && found[1] > 0, "{found:?}");
}

#[test]
fn what_cannot_be_kept_is_not_so() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    let mut bench = open(&device, dir.path()).unwrap();
    device.fail_all(Call::Rename, Some(Fault::Io));
    assert!(matches!(say(&mut bench, Some("x")), Some(Answer::Failed { .. })));
    assert!(bench.spool().suspended_queues().is_empty());
    device.fail_all(Call::Rename, None);
    assert!(matches!(say(&mut bench, Some("y")), Some(Answer::Done { .. })));
}

#[test]
fn a_file_that_is_not_understood_keeps_the_spool_shut_and_is_named_with_its_line() {
    let (device, dir) = (FaultyDevice::new(1), directory());
    open(&device, dir.path()).unwrap().close();
    let path = dir.path().join("queues.toml");
    for (text, message) in [
        ("format = 1\n\n\nsuspended = maybe\n", "line 4"),
        ("format = 2\n", "line 1: it has format 2; this program knows formats up to 1"),
    ] {
        let file = device.open(&path, Opening::New).unwrap();
        file.write_at(&[std::io::IoSlice::new(text.as_bytes())], 0).unwrap();
        let before = device.count(Call::Write);
        let Err(error) = open(&device, dir.path()).map(drop) else { panic!("it was opened") };
        let said = error.to_string();
        assert!(said.contains("queues.toml") && said.contains(message), "{said}");
        assert_eq!(device.count(Call::Write), before, "nothing is touched");
        device.remove(&path).unwrap();
    }
    open(&device, dir.path()).unwrap();
}
