//! The index's file, page by page, before LMDB maps it.
//!
//! LMDB has no checksums and follows whatever number it finds: a flipped bit in a page can send it outside of its map, and
//! a file that was cut makes the map end in a SIGBUS, which takes the process with it. So the file is first read here, as
//! octets, with nothing believed: which of the two meta pages is the newer, that everything it leads to is inside the
//! file, is what it says it is, is led to once, and is in the order of its keys. Every row's checksum is compared as well.
//! What is found wrong is an answer, never a panic and never a signal.
//!
//! An index can be larger than what can be read while a queue waits for its first delivery, so a walk may have a time
//! limit; small tables, which an open needs whole, come first. A walk that was cut off says so.
//!
//! This is the layout of LMDB 0.9 (data version 1, 64-bit, little-endian), as its `mdb.c` has it. If heed is updated, the
//! tests here tell whether it is still that.

use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::tables;

const MAGIC: u32 = 0xBEEF_C0DE;
const DATA_VERSION: u32 = 1;
const HEADER: usize = 16;
const NODE: usize = 8;
/// Octets of the description of a tree.
const TREE: usize = 48;
/// A tree without pages.
const NO_PAGE: u64 = u64::MAX;
const FIRST_PAGE: u64 = 2;
const DEPTH_MAX: u16 = 32;
/// Pages that are looked at however little time there is.
const PAGES_MIN: u64 = 1_000;
const KEY_MAX: usize = 511;
/// The only flag of the file as a whole: keys of the list of free pages are numbers.
const INTEGER_KEY: u16 = 0x08;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
const META: u16 = 0x08;
/// In memory only, and harmless in the file.
const DIRTY: u16 = 0x10;

const BIG_DATA: u16 = 0x01;
const SUB_DATA: u16 = 0x02;

/// What a walk came to.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) enum Verdict {
    /// There is no file, or nothing in it.
    Empty,
    /// Nothing is wrong with what was looked at.
    Sound {
        /// Pages that were looked at.
        pages: u64,
        /// Rows whose checksum was compared.
        rows: u64,
        /// Whether that was all.
        is_complete: bool,
    },
    /// LMDB must not see it.
    Damaged {
        /// Where, and what is wrong.
        what: String,
    },
}

/// Why a walk ends.
enum Stop {
    Io(io::Error),
    Late,
    Damaged(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn damaged<T>(page: u64, what: &str) -> Result<T, Stop> {
    Err(Stop::Damaged(format!("page {page}: {what}")))
}

/// Who is told of rows: table, key, value.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&str, &[u8], &[u8]) -> Result<(), String>;

/// Read the file of an index; the first thousand pages, and what can be read within a time, if one is given. Nothing is changed, but for a file that is shorter than it
/// says because its last pages are free: it gets its length, so that no page of the map is without a file under it.
///
/// `row` is told of every row whose checksum fits; what it objects to is damage. **Blocking.**
pub(crate) fn verify(path: &Path, limit: Option<Duration>, row: Visit<'_>) -> io::Result<Verdict> {
    let file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Verdict::Empty),
        Err(error) => return Err(error),
    };
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok(Verdict::Empty);
    }
    let ends = limit.map(|limit| Instant::now() + limit);
    let mut walk = match Walk::begin(&file, size, ends, row) {
        Ok(walk) => walk,
        Err(Stop::Io(error)) => return Err(error),
        Err(Stop::Late) => return Ok(Verdict::Sound { pages: 0, rows: 0, is_complete: false }),
        Err(Stop::Damaged(what)) => return Ok(Verdict::Damaged { what }),
    };
    let result = walk.run();
    let (pages, rows) = (walk.pages, walk.rows);
    match result {
        Ok(()) => {
            let length = (walk.last + 1) * walk.page_bytes;
            if size < length {
                file.set_len(length)?;
                file.sync_all()?;
            }
            Ok(Verdict::Sound { pages, rows, is_complete: true })
        }
        Err(Stop::Late) => Ok(Verdict::Sound { pages, rows, is_complete: false }),
        Err(Stop::Io(error)) => Err(error),
        Err(Stop::Damaged(what)) => Ok(Verdict::Damaged { what }),
    }
}

fn word(octets: &[u8], at: usize) -> u32 {
    let word = octets.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_le_bytes)
}

fn half(octets: &[u8], at: usize) -> u16 {
    let half = octets.get(at..at + 2).and_then(|half| half.try_into().ok());
    half.map_or(0, u16::from_le_bytes)
}

fn long(octets: &[u8], at: usize) -> u64 {
    let long = octets.get(at..at + 8).and_then(|long| long.try_into().ok());
    long.map_or(0, u64::from_le_bytes)
}

/// A tree as the file describes it.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
struct Tree {
    flags: u16,
    depth: u16,
    branches: u64,
    leaves: u64,
    overflows: u64,
    entries: u64,
    root: u64,
}

impl Tree {
    fn read(octets: &[u8]) -> Self {
        Self {
            flags: half(octets, 4),
            depth: half(octets, 6),
            branches: long(octets, 8),
            leaves: long(octets, 16),
            overflows: long(octets, 24),
            entries: long(octets, 32),
            root: long(octets, 40),
        }
    }
}

/// What the rows of a tree are.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Kind<'a> {
    /// Tables by name.
    Tables,
    /// Free pages by transaction.
    Free,
    /// Ours.
    Rows(&'a str),
}

fn compare(kind: Kind<'_>, one: &[u8], other: &[u8]) -> Ordering {
    match kind {
        Kind::Free => long(one, 0).cmp(&long(other, 0)),
        Kind::Tables | Kind::Rows(_) => one.cmp(other),
    }
}

/// A set of pages.
struct Pages(Vec<u64>);

impl Pages {
    /// Put a page in; false if it was in already, or cannot be.
    fn insert(&mut self, page: u64) -> bool {
        let Some(word) = self.0.get_mut((page / 64) as usize) else { return false };
        let bit = 1 << (page % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn contains(&self, page: u64) -> bool {
        self.0.get((page / 64) as usize).is_some_and(|word| word & 1 << (page % 64) != 0)
    }
}

struct Walk<'a> {
    file: &'a File,
    page_bytes: u64,
    /// The last page that the file says it has.
    last: u64,
    /// Whether the file does not reach so far.
    is_short: bool,
    size: u64,
    free: Tree,
    main: Tree,
    /// Pages that something leads to.
    reached: Pages,
    /// Tables that were found.
    tables: Vec<(Vec<u8>, Tree)>,
    counted: Tree,
    ends: Option<Instant>,
    row: Visit<'a>,
    pages: u64,
    rows: u64,
    free_pages: u64,
}

impl<'a> Walk<'a> {
    /// Read the meta pages as LMDB does: both must be there, the one of the later transaction counts.
    fn begin(file: &'a File, size: u64, ends: Option<Instant>, row: Visit<'a>) -> Result<Self, Stop> {
        let mut newest: Option<(u64, Vec<u8>)> = None;
        let mut page_bytes = 0;
        for number in 0..FIRST_PAGE {
            let mut octets = vec![0; HEADER + 24 + 2 * TREE + 16];
            if file.read_exact_at(&mut octets, number * page_bytes).is_err() {
                return damaged(number, "the file ends in its first two pages");
            }
            let meta = octets.split_off(HEADER);
            let own_bytes = u64::from(word(&meta, 24));
            if half(&octets, 10) & !DIRTY != META || long(&octets, 0) != number {
                return damaged(number, "it is not a meta page");
            }
            if word(&meta, 0) != MAGIC || word(&meta, 4) != DATA_VERSION {
                return damaged(number, "it is not of LMDB, or of another version of it");
            }
            if !own_bytes.is_power_of_two() || !(512..=32_768).contains(&own_bytes) {
                return damaged(number, "the size of the pages is impossible");
            }
            if number > 0 && own_bytes != page_bytes {
                return damaged(number, "the meta pages tell different sizes of the pages");
            }
            page_bytes = own_bytes;
            let transaction = long(&meta, 24 + 2 * TREE + 8);
            if newest.as_ref().is_none_or(|(newest, _)| transaction > *newest) {
                newest = Some((transaction, meta));
            }
        }
        let (_, meta) = newest.unwrap_or_default();
        let free = Tree::read(meta.get(24..).unwrap_or_default());
        let main = Tree::read(meta.get(24 + TREE..).unwrap_or_default());
        let last = long(&meta, 24 + 2 * TREE);
        if free.flags != INTEGER_KEY || main.flags != 0 || long(&meta, 8) != 0 {
            return damaged(0, "the file has flags that we never set");
        }
        if last < FIRST_PAGE - 1 || last >= u64::MAX / page_bytes - 1 {
            return damaged(0, "the number of the last page is impossible");
        }
        let is_short = size < (last + 1) * page_bytes;
        let words = (last.min(size / page_bytes) / 64 + 1) as usize;
        Ok(Self {
            file,
            page_bytes,
            last,
            is_short,
            size,
            free,
            main,
            reached: Pages(vec![0; words]),
            tables: Vec::new(),
            counted: Tree::default(),
            // What is missing of a file must be known before it is mapped, however long that takes.
            ends: ends.filter(|_| !is_short),
            row,
            pages: 0,
            rows: 0,
            free_pages: 0,
        })
    }

    fn run(&mut self) -> Result<(), Stop> {
        self.tree(self.main, Kind::Tables)?;
        let mut tables = std::mem::take(&mut self.tables);
        // The last of them are small, and needed whole to begin.
        let place = |name: &[u8]| tables::NAMES.iter().rposition(|known| known.as_bytes() == name);
        tables.sort_by_key(|(name, _)| std::cmp::Reverse(place(name)));
        for (name, tree) in &tables {
            // These come last, behind what tells the format.
            let Some(name) = place(name).and_then(|at| tables::NAMES.get(at)) else {
                return Err(Stop::Damaged("a table has an unknown name".into()));
            };
            if tree.flags != 0 {
                return Err(Stop::Damaged(format!("table {name} has flags that we never set")));
            }
            self.tree(*tree, Kind::Rows(name)).map_err(|stop| match stop {
                Stop::Damaged(what) => Stop::Damaged(format!("table {name}, {what}")),
                stop => stop,
            })?;
        }
        self.tree(self.free, Kind::Free)?;
        // Every page is in use or free. That a file may be shorter than it says is only so when what is missing is free.
        if self.is_short && self.pages + self.free_pages + FIRST_PAGE != self.last + 1 {
            return Err(Stop::Damaged("the file is shorter than it says".into()));
        }
        Ok(())
    }

    fn tree(&mut self, tree: Tree, kind: Kind<'_>) -> Result<(), Stop> {
        self.counted = Tree { flags: tree.flags, depth: tree.depth, root: tree.root, ..Tree::default() };
        if tree.root != NO_PAGE {
            if tree.depth == 0 || tree.depth > DEPTH_MAX {
                return damaged(tree.root, "its tree has an impossible depth");
            }
            self.page(tree.root, tree.depth, kind, None, None)?;
        } else if tree.depth != 0 {
            return Err(Stop::Damaged("a tree without pages has a depth".into()));
        }
        if self.counted != tree {
            return Err(Stop::Damaged("a tree does not have the pages and rows that it says".into()));
        }
        Ok(())
    }

    /// Note that something leads to these pages.
    fn reach(&mut self, page: u64, count: u64) -> Result<(), Stop> {
        let end = page.checked_add(count);
        if page < FIRST_PAGE || end.is_none_or(|end| end > self.last + 1 || end * self.page_bytes > self.size)
        {
            return damaged(page, "it is outside of the file");
        }
        for page in page..page + count {
            if !self.reached.insert(page) {
                return damaged(page, "two ways lead to it");
            }
        }
        self.pages += count;
        Ok(())
    }

    fn read(&self, page: u64, count: u64) -> Result<Vec<u8>, Stop> {
        let mut octets = vec![0; (count * self.page_bytes) as usize];
        self.file.read_exact_at(&mut octets, page * self.page_bytes)?;
        if long(&octets, 0) != page {
            return damaged(page, "it says that it is another page");
        }
        Ok(octets)
    }

    /// Look at a page and all that it leads to.
    fn page(
        &mut self,
        page: u64,
        level: u16,
        kind: Kind<'_>,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
    ) -> Result<(), Stop> {
        if self.pages > PAGES_MIN && self.ends.is_some_and(|ends| Instant::now() >= ends) {
            return Err(Stop::Late);
        }
        self.reach(page, 1)?;
        let octets = self.read(page, 1)?;
        let is_leaf = level == 1;
        if half(&octets, 10) & !DIRTY != if is_leaf { LEAF } else { BRANCH } {
            return damaged(page, "it is of another kind than its place");
        }
        let nodes = nodes(page, &octets)?;
        if !is_leaf {
            self.counted.branches += 1;
            let nodes: Vec<_> = nodes.into_iter().map(|node| Node::branch(&octets, node)).collect();
            let keys = nodes.iter().skip(1).map(|node| node.key);
            in_order(page, kind, keys, low, high)?;
            for (at, node) in nodes.iter().enumerate() {
                let low = if at == 0 { low } else { Some(node.key) };
                let high = nodes.get(at + 1).map(|next| next.key).or(high);
                self.page(node.number, level - 1, kind, low, high)?;
            }
            return Ok(());
        }
        self.counted.leaves += 1;
        self.counted.entries += nodes.len() as u64;
        let nodes: Vec<_> = nodes.into_iter().map(|node| Node::leaf(&octets, node)).collect();
        in_order(page, kind, nodes.iter().map(|node| node.key), low, high)?;
        for node in &nodes {
            self.leaf(page, kind, node)?;
        }
        Ok(())
    }

    fn leaf(&mut self, page: u64, kind: Kind<'_>, node: &Node<'_>) -> Result<(), Stop> {
        let wanted = if kind == Kind::Tables { SUB_DATA } else { node.flags & BIG_DATA };
        if node.flags != wanted {
            return damaged(page, "a row has flags that we never set");
        }
        let long_value;
        let value = if node.flags & BIG_DATA == 0 {
            node.value
        } else {
            let first = long(node.value, 0);
            let count = (node.number + HEADER as u64).div_ceil(self.page_bytes);
            self.reach(first, count)?;
            long_value = self.read(first, count)?;
            if half(&long_value, 10) & !DIRTY != OVERFLOW || u64::from(word(&long_value, 12)) != count {
                return damaged(first, "it does not begin a long value");
            }
            self.counted.overflows += count;
            long_value.get(HEADER..HEADER + node.number as usize).unwrap_or_default()
        };
        match kind {
            Kind::Tables if value.len() != TREE => damaged(page, "a table is described in another way"),
            Kind::Tables => {
                self.tables.push((node.key.to_vec(), Tree::read(value)));
                Ok(())
            }
            Kind::Free => self.free_list(page, value),
            Kind::Rows(table) => {
                let Some(value) = tables::checked(node.key, value) else {
                    return damaged(page, "the checksum of a row does not fit");
                };
                self.rows += 1;
                (self.row)(table, node.key, value).or_else(|what| damaged(page, &what))
            }
        }
    }

    /// Look at a list of free pages: their number, then the pages.
    fn free_list(&mut self, page: u64, value: &[u8]) -> Result<(), Stop> {
        let count = long(value, 0);
        if value.len() < 8 || !value.len().is_multiple_of(8) || count > value.len() as u64 / 8 - 1 {
            return damaged(page, "a list of free pages is impossible");
        }
        for nth in 1..=count as usize {
            let free = long(value, 8 * nth);
            if free < FIRST_PAGE || free > self.last || self.reached.contains(free) {
                return damaged(page, "a page that is in use is said to be free");
            }
            // Those behind the end of a short file have no place in the set, and are only counted.
            if !self.reached.insert(free) && free * self.page_bytes < self.size {
                return damaged(page, "a page is said to be free twice");
            }
            self.free_pages += 1;
        }
        Ok(())
    }
}

/// Where the nodes of a page are; together they fill its upper part.
fn nodes(page: u64, octets: &[u8]) -> Result<Vec<Range<usize>>, Stop> {
    let (lower, upper) = (usize::from(half(octets, 12)), usize::from(half(octets, 14)));
    if lower < HEADER + 2 || !lower.is_multiple_of(2) || lower > upper || upper > octets.len() {
        return damaged(page, "its bounds are impossible");
    }
    let is_leaf = half(octets, 10) & LEAF != 0;
    let mut nodes = Vec::with_capacity((lower - HEADER) / 2);
    let mut filled = 0;
    for at in (HEADER..lower).step_by(2) {
        let start = usize::from(half(octets, at));
        if start < upper || start + NODE > octets.len() {
            return damaged(page, "a row is outside of it");
        }
        let key = usize::from(half(octets, start + 6));
        let data = match half(octets, start + 4) {
            _ if !is_leaf => 0,
            flags if flags & BIG_DATA != 0 => 8,
            _ => word(octets, start) as usize,
        };
        let end = start + NODE + key + data;
        if key > KEY_MAX || end > octets.len() {
            return damaged(page, "a row goes on behind it");
        }
        filled += (end - start).next_multiple_of(2);
        nodes.push(start..end);
    }
    if filled != octets.len() - upper {
        return damaged(page, "its rows do not fill it");
    }
    Ok(nodes)
}

fn in_order<'k>(
    page: u64,
    kind: Kind<'_>,
    keys: impl Iterator<Item = &'k [u8]>,
    low: Option<&'k [u8]>,
    high: Option<&[u8]>,
) -> Result<(), Stop> {
    let mut before = None;
    for key in keys {
        let has_width = kind != Kind::Free || key.len() == 8;
        let is_behind = match (before, low) {
            (Some(before), _) => compare(kind, before, key) == Ordering::Less,
            (None, Some(low)) => compare(kind, low, key) != Ordering::Greater,
            (None, None) => true,
        };
        let is_before = high.is_none_or(|high| compare(kind, key, high) == Ordering::Less);
        if key.is_empty() || !has_width || !is_behind || !is_before {
            return damaged(page, "its keys are not in order");
        }
        before = Some(key);
    }
    Ok(())
}

/// A row of a page.
struct Node<'o> {
    flags: u16,
    key: &'o [u8],
    /// The page that a branch leads to; the octets of a value, wherever it is.
    number: u64,
    value: &'o [u8],
}

impl<'o> Node<'o> {
    fn branch(octets: &'o [u8], at: Range<usize>) -> Self {
        let node = octets.get(at).unwrap_or_default();
        let number = u64::from(word(node, 0)) | u64::from(half(node, 4)) << 32;
        Self { flags: 0, key: node.get(NODE..).unwrap_or_default(), number, value: &[] }
    }

    fn leaf(octets: &'o [u8], at: Range<usize>) -> Self {
        let node = octets.get(at).unwrap_or_default();
        let rest = node.get(NODE..).unwrap_or_default();
        let (key, value) = rest.split_at_checked(usize::from(half(node, 6))).unwrap_or_default();
        Self { flags: half(node, 4), key, number: word(node, 0).into(), value }
    }
}
