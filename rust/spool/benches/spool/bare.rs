//! The least that a log can do: write a group, sync, write the next.

use std::fs::OpenOptions;
use std::io::{IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::fdatasync;
use rustix::io::pwritev;

const PAGE: usize = 4096;

/// Write groups of records and sync each; each begins on a page of its own, as in the spool. The file grows, or was
/// written before from end to end.
pub(crate) fn run(dir: &Path, groups: &[usize], record_bytes: usize, is_prepared: bool) -> Duration {
    let path = dir.join("bare");
    let file = OpenOptions::new().create_new(true).write(true).open(&path).expect("a file");
    let total: usize = groups.iter().map(|&count| (count * record_bytes).next_multiple_of(PAGE)).sum();
    if is_prepared {
        let zeros = vec![0; 1 << 20];
        let mut writer = &file;
        for _ in 0..total.div_ceil(zeros.len()) {
            writer.write_all(&zeros).expect("room");
        }
    }
    file.sync_all().expect("a disk");
    let record = vec![b'p'; record_bytes];
    let began = Instant::now();
    let mut at = 0;
    for &count in groups {
        write(&file, &vec![IoSlice::new(&record); count], at);
        fdatasync(&file).expect("a disk");
        at += (count * record_bytes).next_multiple_of(PAGE) as u64;
    }
    let took = began.elapsed();
    drop(file);
    std::fs::remove_file(path).expect("it was there");
    took
}

fn write(file: &std::fs::File, slices: &[IoSlice<'_>], at: u64) {
    let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
    let written = pwritev(file, slices, at).expect("room");
    if written < wanted {
        let rest: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).skip(written).collect();
        file.write_all_at(&rest, at + written as u64).expect("room");
    }
}
