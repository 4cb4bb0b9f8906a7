//! The index on disk: who may open it, what is refused, what a failed transaction leaves.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::model::Model;
use super::{DATABASE, Log, MAP_BYTES, dump, message, open, way};
use crate::index::values::encode_numbers;
use crate::index::{Index, IndexError, keys};
use crate::redo::Watermark;
use crate::rows::Request;
use penstock_core::queue_id::QueueId;

#[test]
fn a_new_index_is_empty_and_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    Model::default().check(&index);
    assert_eq!((index.epoch(), index.last_queue_id()), (0, None));
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("index"), 0o700);
    assert_eq!((mode("index/data.mdb"), mode("index/lock.mdb")), (0o600, 0o600));
}

#[test]
fn an_epoch_begins_once() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    assert_eq!((index.begin_epoch().unwrap(), index.begin_epoch().unwrap()), (1, 2));
    drop(index);
    let index = open(dir.path());
    assert_eq!(index.epoch(), 2);
    assert_eq!(index.begin_epoch().unwrap(), 3);
    assert_eq!(index.watermark(), Watermark::default());
}

#[test]
fn the_index_of_another_database_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let octets = fs::read(dir.path().join("index/data.mdb")).unwrap();
    let refused = Index::open(&dir.path().join("index"), MAP_BYTES, [7; 16]);
    assert!(matches!(refused, Err(IndexError::OtherDatabase)));
    assert_eq!(fs::read(dir.path().join("index/data.mdb")).unwrap(), octets);
    drop(open(dir.path()));
}

#[test]
fn an_index_of_a_newer_format_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let mut txn = index.env.write_txn().unwrap();
    let mut value = Vec::new();
    encode_numbers(&[2], &mut value);
    index.tables.meta.put(&mut txn, b"format", &value).unwrap();
    txn.commit().unwrap();
    drop(index);
    let octets = fs::read(dir.path().join("index/data.mdb")).unwrap();
    let refused = Index::open(&dir.path().join("index"), MAP_BYTES, DATABASE);
    assert!(matches!(refused, Err(IndexError::NewerFormat { found: 2, known: 1 })));
    assert_eq!(fs::read(dir.path().join("index/data.mdb")).unwrap(), octets);
}

#[test]
fn files_that_others_could_change_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let other = tempfile::tempdir().unwrap();
    symlink(dir.path().join("index"), other.path().join("index")).unwrap();
    let refused = Index::open(&other.path().join("index"), MAP_BYTES, DATABASE);
    assert!(matches!(refused, Err(IndexError::Foreign(_))));
    fs::rename(dir.path().join("index/data.mdb"), dir.path().join("elsewhere")).unwrap();
    symlink(dir.path().join("elsewhere"), dir.path().join("index/data.mdb")).unwrap();
    let refused = Index::open(&dir.path().join("index"), MAP_BYTES, DATABASE);
    assert!(matches!(refused, Err(IndexError::Foreign(_))));
}

#[test]
fn a_path_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no/such/parent");
    let Err(error) = Index::open(&path, MAP_BYTES, DATABASE) else { panic!("opened") };
    assert!(error.to_string().contains("no/such/parent"), "{error}");
}

#[test]
fn a_full_map_leaves_the_old_state_and_a_larger_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let (mut log, mut model) = (Log::default(), Model::default());
    let index = Index::open(&path, 512 * 1024, DATABASE).unwrap();
    let few: Vec<_> = (1..10).map(|id| log.accepted(id, 1, message(id, 1, vec![way(0, [0], id)]))).collect();
    index.apply(&few, log.end()).unwrap();
    model.apply(&few, log.end());
    let many: Vec<_> =
        (10..3_000).map(|id| log.accepted(id, 2, message(id, 1, vec![way(1, [0], id)]))).collect();
    assert!(matches!(index.apply(&many, log.end()), Err(IndexError::Full)));
    model.check(&index);
    drop(index);
    let index = Index::open(&path, 64 * 1024 * 1024, DATABASE).unwrap();
    model.check(&index);
    index.apply(&many, log.end()).unwrap();
    assert_eq!(index.messages_count().unwrap(), 2_999);
    assert_eq!(index.watermark(), log.end());
}

#[test]
fn a_damaged_row_is_named_by_table_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let (index, mut log) = (open(dir.path()), Log::default());
    let redo = [log.accepted(0x1234, 1, message(1, 1, vec![way(0, [0], 5)]))];
    index.apply(&redo, log.end()).unwrap();
    let mut txn = index.env.write_txn().unwrap();
    index.tables.message.put(&mut txn, &keys::message(QueueId(0x1234)), &[1, 2]).unwrap();
    txn.commit().unwrap();
    let error = index.answer(&Request::Message { queue_id: QueueId(0x1234) }).unwrap_err();
    assert!(error.to_string().contains("table message at 0000000000001234"), "{error}");
    // It is left as it is, and holds nothing up.
    let settled = [log.delivered(0x1234, 0, 1, &[0])];
    let before = dump(&index);
    index.apply(&settled, log.end()).unwrap();
    assert_eq!((dump(&index), index.watermark(), index.unreadable()), (before, log.end(), 1));
}

#[test]
fn keys_are_at_most_as_long_as_lmdb_allows() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let mut txn = index.env.write_txn().unwrap();
    index.tables.hop.put(&mut txn, &[0; 511], &[1]).unwrap();
    assert!(index.tables.hop.put(&mut txn, &[0; 512], &[1]).is_err());
    assert_eq!(index.env.max_key_size(), 511);
}

#[test]
fn no_reader_is_stale_after_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    for _ in 0..200 {
        index.answer(&Request::Hops).unwrap();
    }
    assert_eq!(index.clear_stale_readers().unwrap(), 0);
}
