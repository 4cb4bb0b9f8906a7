//! Runs the corpora without a fuzzer, so that what was once found stays found.

use std::fs;
use std::path::Path;

fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(&folder).expect("a corpus") {
        let input = fs::read(entry.expect("an entry").path()).expect("a readable seed");
        // Each seed in every size of pieces, not only in its own.
        for size in 1..=u8::MAX {
            check(&[&[size], input.get(1..).unwrap_or_default()].concat());
        }
        seeds += 1;
    }
    assert!(seeds > 0, "no seeds in {}", folder.display());
}

#[test]
fn commands() {
    run("commands", penstock_fuzz::commands);
}

#[test]
fn content() {
    run("content", penstock_fuzz::content);
}

#[test]
fn replies() {
    run("replies", penstock_fuzz::replies);
}

#[test]
fn bdat() {
    run("bdat", penstock_fuzz::bdat);
}

#[test]
fn headers() {
    run("headers", penstock_fuzz::headers);
}

#[test]
fn proxy() {
    run("proxy", penstock_fuzz::proxy);
}
