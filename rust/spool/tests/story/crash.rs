//! Every moment of a story at which it can be cut off, and everything that can be left of it then.
//!
//! A moment is taken before each call that changes the disk, and before and after each thing that the spool tells. Of
//! what no sync has covered by then any part may be left: what is few is tried in all combinations, what is many as
//! every beginning and with every one missing; and each write is torn in every way. LMDB does its own I/O, so the index
//! is copied at each moment. Where it has changed since the moment before, a commit came between; what that leaves when
//! it is cut off is made of the two copies, in the order in which LMDB writes: pages that the state before does not
//! use, then the page that says which state counts. The copy before the last commit is tried for as long as no segment
//! and no blob was given up: the log alone must then make up for it, which it can only if it was durable first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use penstock_spool::testing::{Fate, FaultyDevice, Moment, Unsynced};
use penstock_spool::{Author, HopId, SpoolConfig};

use super::model::{Deed, Model, Seen};
use super::{BLOBS, Reach, SharedBook, Story, Word, names};
use crate::common::{NOW_MS, directory};

const PAGE: usize = 4096;

type Image = Option<Arc<Vec<u8>>>;

/// A moment at which a story can be cut off.
#[derive(Clone)]
pub(crate) struct Point {
    moment: Moment,
    index: Image,
    reach: Reach,
}

/// Takes the moments of a story.
pub(crate) struct Recorder {
    device: Mutex<FaultyDevice>,
    index: PathBuf,
    points: Mutex<Vec<Point>>,
}

impl Recorder {
    pub(crate) fn new(device: &FaultyDevice, root: &Path) -> Arc<Self> {
        let index = root.join("shard-00/index/data.mdb");
        Arc::new(Self { device: Mutex::new(device.clone()), index, points: Mutex::default() })
    }

    /// Watch a disk and a book from now on.
    pub(crate) fn watch(self: &Arc<Self>, device: &FaultyDevice, book: &SharedBook) {
        *self.device.lock() = device.clone();
        let recorder = Arc::clone(self);
        let observer: super::Observer = Arc::new(move |reach| recorder.take(reach));
        Story::observe(device, book, &observer);
    }

    /// Take a moment.
    pub(crate) fn take(&self, reach: Reach) {
        let moment = self.device.lock().moment();
        let found = std::fs::read(&self.index).ok();
        let mut points = self.points.lock();
        let last = points.last().and_then(|point| point.index.clone());
        let index = match (found, last) {
            (Some(found), Some(last)) if found == *last => Some(last),
            (found, _) => found.map(Arc::new),
        };
        points.push(Point { moment, index, reach });
    }

    pub(crate) fn points(&self) -> Vec<Point> {
        self.points.lock().clone()
    }
}

/// How much is tried.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Effort {
    /// Of so many power losses one is tried; of kills all are.
    pub(crate) part: usize,
    /// Of so many changes all combinations are tried.
    pub(crate) combinations: u32,
    /// Ways in which a write is torn.
    pub(crate) tears: &'static [Fate],
    /// Whether a torn commit of the index is tried page by page.
    pub(crate) pages: bool,
    /// Of so many crashes one is followed by every crash of its recovery; 0 for none.
    pub(crate) nested: usize,
    /// Of so many crashes one is followed by new mail and another power loss.
    pub(crate) go_on: usize,
}

pub(crate) const FULL: Effort = Effort {
    part: 1,
    combinations: 6,
    tears: &[Fate::Short, Fate::Front, Fate::Back, Fate::Zeroed, Fate::Spoilt],
    pages: true,
    nested: 10,
    go_on: 1,
};

/// What is left after a crash.
struct Left {
    what: String,
    device: FaultyDevice,
    index: Image,
    /// The state after so many deeds at least, and at most.
    least: usize,
    most: usize,
    /// What is missing from so many deeds has to be announced.
    written: usize,
    /// What another power loss must leave of it.
    durable: usize,
    is_kill: bool,
    /// What was said of queues is what it was after so many words at least, and at most.
    words: (usize, usize),
    /// By this it is chosen for more.
    number: usize,
}

/// Opens what crashes have left, and checks it.
pub(crate) struct Judge {
    root: PathBuf,
    config: fn(&Path) -> SpoolConfig,
    /// What is to be seen after so many deeds.
    expected: Vec<Seen>,
    /// The queues that are suspended after so many words.
    suspended: Vec<BTreeMap<HopId, Author>>,
    effort: Effort,
    tried: AtomicUsize,
    nested: AtomicUsize,
}

impl Judge {
    /// One for a story whose spool was opened with this configuration.
    pub(crate) fn new(
        root: &Path,
        config: fn(&Path) -> SpoolConfig,
        deeds: &[Deed],
        words: &[Word],
        effort: Effort,
    ) -> Self {
        let (names, mut model) = (names(), Model::default());
        let mut expected = vec![model.seen(&names)];
        for deed in deeds {
            model.take(deed);
            expected.push(model.seen(&names));
        }
        let mut suspended = vec![BTreeMap::new()];
        for (hop, author) in words {
            let mut now = suspended.last().cloned().unwrap_or_default();
            match author {
                Some(author) => now.insert(*hop, author.clone()),
                None => now.remove(hop),
            };
            suspended.push(now);
        }
        let (tried, nested) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { root: root.into(), config, expected, suspended, effort, tried, nested }
    }

    /// Crashes that were tried, and how many of them in a recovery.
    pub(crate) fn tried(&self) -> (usize, usize) {
        (self.tried.load(Relaxed), self.nested.load(Relaxed))
    }

    /// Try everything that can be left at some of the points, on all processors.
    pub(crate) fn try_all(&self, points: &[Point]) {
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let at = next.fetch_add(1, Relaxed);
                if at >= points.len() {
                    break;
                }
                self.try_point(points, at);
            }
        };
        std::thread::scope(|scope| {
            let others = std::thread::available_parallelism().map_or(1, usize::from);
            for _ in 1..others {
                scope.spawn(work);
            }
            work();
        });
    }

    fn try_point(&self, points: &[Point], at: usize) {
        let point = &points[at];
        let before = at.checked_sub(1).map(|before| &points[before]);
        let is_same = |before: &&Point| {
            before.reach == point.reach
                && before.moment.unsynced() == point.moment.unsynced()
                && is_same_image(&before.index, &point.index)
                && is_same_disk(&before.moment, &point.moment)
        };
        if before.is_some_and(|before| is_same(&before)) {
            return;
        }
        // Points and crashes of a point are chosen for more in turn.
        let mut number = at * 7;
        for (kind, index) in self.images(points, at) {
            let what = format!("point {at}, index {kind}");
            self.try_moment(point, &index, &what, &mut number);
        }
    }

    fn try_moment(&self, point: &Point, index: &Image, what: &str, number: &mut usize) {
        let Point { moment, reach: Reach { durable, written, handed, told, said, .. }, .. } = point;
        let left = |number, what, device, is_kill| {
            let (index, most) = (index.clone(), *handed);
            let (written, durable) = (*written, *durable);
            let least = if is_kill { written } else { durable };
            let words = (*told, *said);
            Left { what, device, index, least, most, written, durable, is_kill, words, number }
        };
        *number += 1;
        self.try_left(&left(*number, format!("{what}, kill"), moment.after_kill(), true));
        let unsynced = moment.unsynced();
        for fates in self.fates(&unsynced) {
            *number += 1;
            if number.is_multiple_of(self.effort.part) {
                let device = moment.after_power_loss(&|number| fate(&unsynced, &fates, number));
                self.try_left(&left(*number, format!("{what}, power loss, {fates:?}"), device, false));
            }
        }
    }

    /// What may become of changes that no sync has covered.
    fn fates(&self, unsynced: &[Unsynced]) -> Vec<Vec<Fate>> {
        let count = unsynced.len();
        let mut all = Vec::new();
        if count as u32 <= self.effort.combinations {
            let fate = |bits: u32, at| if bits >> at & 1 == 1 { Fate::Kept } else { Fate::Lost };
            all.extend(
                (0..1u32 << count).map(|bits| (0..count).map(|at| fate(bits, at)).collect::<Vec<_>>()),
            );
        } else {
            let beginning =
                |end| (0..count).map(|at| if at < end { Fate::Kept } else { Fate::Lost }).collect();
            all.extend((0..=count).map(beginning));
            let missing =
                |one| (0..count).map(|at| if at == one { Fate::Lost } else { Fate::Kept }).collect();
            all.extend((0..count).map(missing));
        }
        for (at, _) in unsynced.iter().enumerate().filter(|(_, change)| change.is_write) {
            for &tear in self.effort.tears {
                for others in [Fate::Kept, Fate::Lost] {
                    let mut fates = vec![Fate::Kept; count];
                    fates.iter_mut().skip(at).for_each(|fate| *fate = others);
                    fates[at] = tear;
                    all.push(fates);
                    if at + 1 == count {
                        break;
                    }
                }
            }
        }
        all
    }

    /// States of the index that go with a point.
    fn images(&self, points: &[Point], at: usize) -> Vec<(String, Image)> {
        let now = &points[at].index;
        let mut images = vec![("now".into(), now.clone())];
        let Some(before) = at.checked_sub(1).map(|before| &points[before]) else { return images };
        if !is_same_image(&before.index, now) {
            images.push(("before".into(), before.index.clone()));
            images.extend(torn(&before.index, now, self.effort.pages));
        } else if let Some(older) = still_good(points, at) {
            images.push(("before the last commit".into(), older));
        }
        images
    }

    fn try_left(&self, left: &Left) {
        self.tried.fetch_add(1, Relaxed);
        let is_chosen = |every: usize| every > 0 && left.number.is_multiple_of(every);
        let nested = is_chosen(self.effort.nested);
        let (count, points) = self.look(left, nested, is_chosen(self.effort.go_on));
        // What a crash has left is now on the disk; what a kill has left may still be lost by a power loss.
        let least = if left.is_kill { left.durable } else { count };
        for (at, point) in points.iter().enumerate() {
            for (kind, index) in self.images(&points, at) {
                let what = format!("{}, then point {at} of recovery, index {kind}", left.what);
                self.try_nested(point, &index, (least, count), left.words, &what);
            }
        }
    }

    /// Try what a crash in a recovery leaves, which is to find the state after `least` deeds to `most`.
    fn try_nested(
        &self,
        point: &Point,
        index: &Image,
        (least, most): (usize, usize),
        words: (usize, usize),
        what: &str,
    ) {
        let unsynced = point.moment.unsynced();
        let mut all: Vec<Vec<Fate>> =
            vec![vec![Fate::Kept; unsynced.len()], vec![Fate::Lost; unsynced.len()]];
        for at in 0..unsynced.len() {
            for fate in [Fate::Lost, Fate::Spoilt].into_iter().take(1 + usize::from(unsynced[at].is_write)) {
                let mut fates = vec![Fate::Kept; unsynced.len()];
                fates[at] = fate;
                all.push(fates);
            }
        }
        let kill = std::iter::once((format!("{what}, kill"), point.moment.after_kill(), most));
        let losses = all.into_iter().map(|fates| {
            let device = point.moment.after_power_loss(&|number| fate(&unsynced, &fates, number));
            (format!("{what}, power loss, {fates:?}"), device, least)
        });
        for (what, device, least) in kill.chain(losses) {
            self.tried.fetch_add(1, Relaxed);
            self.nested.fetch_add(1, Relaxed);
            let (index, durable) = (index.clone(), least);
            let left = Left {
                what,
                device,
                index,
                least,
                most,
                written: 0,
                durable,
                is_kill: false,
                words,
                number: 0,
            };
            self.look(&left, false, false);
        }
    }

    /// Open what is left and check that it is as it should be, and is so once more after another power loss. Tells the
    /// state that was found, and if wanted, every moment of the recovery.
    fn look(&self, left: &Left, record: bool, go_on: bool) -> (usize, Vec<Point>) {
        let what = &left.what;
        let dir = directory();
        let path = dir.path();
        if let Some(image) = &left.index {
            std::fs::create_dir_all(path.join("shard-00/index")).expect("a directory");
            std::fs::write(path.join("shard-00/index/data.mdb"), &**image).expect("a copy");
        }
        let device = left.device.moved(&self.root, path);
        let (book, recorder) = (SharedBook::default(), Recorder::new(&device, path));
        if record {
            recorder.watch(&device, &book);
        }
        let open = |device: &FaultyDevice, what: &str| {
            Story::open(device.clone(), (self.config)(path), SharedBook::default(), NOW_MS)
                .unwrap_or_else(|error| panic!("{what}: {error}"))
        };
        let mut story = open(&device, what);
        if record {
            recorder.take(Reach::default());
        }
        let points = recorder.points().into_iter().map(|point| point.moved(path, &self.root)).collect();
        assert_eq!(story.recovery.damaged, 0, "{what}: damage");
        let seen = story.seen();
        let count = (left.least..=left.most).find(|&count| self.expected[count] == seen);
        let Some(count) = count else { panic!("{}", self.complaint(left, &seen)) };
        if left.is_kill {
            assert!(!story.recovery.may_repeat, "{what}: a kill loses nothing that was written");
        } else if count < left.written {
            assert!(
                story.recovery.may_repeat,
                "{what}: {count} of {} written deeds, unannounced",
                left.written
            );
        }
        let suspended = story.suspended_queues();
        let (told, said) = left.words;
        assert!(
            self.suspended[told..=said].contains(&suspended),
            "{what}: these queues are suspended: {suspended:?}, not those after {told} to {said} words"
        );
        let lost = |story: Story| story.kill().moment().after_power_loss(&|_| Fate::Lost);
        let device = lost(story);
        let mut story = open(&device, &format!("{what}, again"));
        assert!(story.seen() == seen, "{what}: opened again after a power loss it is another state");
        assert_eq!(story.suspended_queues(), suspended, "{what}: opened again, of queues");
        if go_on {
            let hop = *names().keys().next().expect("a hop");
            let new = story.accept(3_000, &[(hop, &[0])], Vec::new());
            story.step();
            assert_eq!(story.book.reach().durable, 1, "{what}: new mail is taken");
            assert!(!seen.contents.contains_key(&new), "{what}: a queue id comes twice");
            let device = lost(story);
            let mut story = open(&device, &format!("{what}, with new mail"));
            let mut with_new = story.seen();
            let content = with_new.contents.remove(&new);
            assert!(content.is_some_and(|content| content.is_some()), "{what}: new mail is lost");
            with_new.messages.retain(|row| row.queue_id != new);
            with_new.expiring.retain(|(queue_id, _)| *queue_id != new);
            with_new.counts.clone_from(&seen.counts);
            assert!(with_new == seen, "{what}: with new mail it is another state");
        }
        (count, points)
    }

    fn complaint(&self, left: &Left, seen: &Seen) -> String {
        let Left { what, least, most, .. } = left;
        let other = (0..self.expected.len()).find(|&count| self.expected[count] == *seen);
        let found = other.map_or("one that never was".into(), |count| format!("that after {count} deeds"));
        let closest = &self.expected[*least];
        let unread: Vec<_> = seen
            .contents
            .iter()
            .filter(|(_, content)| content.is_none())
            .map(|(id, _)| id.to_string())
            .collect();
        let ids = |seen: &Seen| seen.messages.iter().map(|row| row.queue_id.to_string()).collect::<Vec<_>>();
        format!(
            "{what}: the state is {found}, not that after {least} to {most}\n\
             messages {:?}, unreadable {unread:?}, in doubt {:?}, hops {:?}, counts {:?}\n\
             after {least}: {:?}, in doubt {:?}, hops {:?}, counts {:?}",
            ids(seen),
            seen.in_doubt,
            seen.hops,
            seen.counts,
            ids(closest),
            closest.in_doubt,
            closest.hops,
            closest.counts,
        )
    }
}

impl Point {
    pub(crate) fn moment(&self) -> &Moment {
        &self.moment
    }

    /// The same with the spool's directory called otherwise.
    fn moved(self, from: &Path, to: &Path) -> Self {
        Self { moment: self.moment.moved(from, to), ..self }
    }
}

fn fate(unsynced: &[Unsynced], fates: &[Fate], number: u64) -> Fate {
    let at = unsynced.iter().position(|change| change.number == number);
    at.and_then(|at| fates.get(at)).copied().unwrap_or(Fate::Lost)
}

fn is_same_image(one: &Image, other: &Image) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// Whether no call came between two moments that changed what is durable.
fn is_same_disk(one: &Moment, other: &Moment) -> bool {
    let files = |moment: &Moment| -> Vec<_> {
        moment
            .files()
            .map(|(path, number, octets, durable)| {
                (path.to_path_buf(), number, Arc::as_ptr(octets), Arc::as_ptr(durable))
            })
            .collect()
    };
    files(one) == files(other)
}

/// Whether between two moments something went that an older index may need: a segment, a part of one or a blob, or the
/// right to be older, when it is noted that segments go.
fn has_let_go(before: &Point, after: &Point) -> bool {
    let is_needed = |path: &Path| {
        let is_blob = path.parent().is_some_and(|dir| dir.ends_with(BLOBS)) && path.extension().is_none();
        is_blob || path.extension().is_some_and(|end| end == "seg")
    };
    let is_floor = |path: &Path| path.file_name().is_some_and(|name| name == "floor");
    let later: BTreeMap<&Path, _> =
        after.moment.files().map(|(path, _, octets, durable)| (path, (octets, durable))).collect();
    before.moment.files().any(|(path, _, octets, durable)| match later.get(path) {
        Some((now_octets, now_durable)) => {
            is_needed(path) && now_durable.len() < durable.len() || is_floor(path) && *now_octets != octets
        }
        None => is_needed(path),
    })
}

/// The index before its last commit, if nothing that it needs was given up since. What an open has found is durable by its
/// copies and its checkpoint together, so that commits of an open are left out.
fn still_good(points: &[Point], at: usize) -> Option<Image> {
    let now = &points[at].index;
    let mut last = at;
    while let Some(before) = last.checked_sub(1) {
        let run = points[before].reach.run;
        if run == 0 || run != points[at].reach.run {
            return None;
        }
        if has_let_go(&points[before], &points[last]) {
            return None;
        }
        if !is_same_image(&points[before].index, now) {
            return Some(points[before].index.clone());
        }
        last = before;
    }
    None
}

/// States between two copies of the index.
fn torn(before: &Image, now: &Image, by_page: bool) -> Vec<(String, Image)> {
    let (Some(before), Some(now)) = (before, now) else { return Vec::new() };
    let page = |image: &[u8], at: usize| image.get(at * PAGE..(at + 1) * PAGE).map(<[u8]>::to_vec);
    let changed = |at: &usize| page(before, *at) != page(now, *at);
    let pages: Vec<usize> = (2..now.len() / PAGE).filter(changed).collect();
    let with = |pages: &[usize], spoilt: bool, metas: &[usize]| {
        let mut image = before.to_vec();
        image.resize(now.len().max(image.len()), 0);
        for &at in pages.iter().chain(metas) {
            image[at * PAGE..(at + 1) * PAGE].copy_from_slice(&now[at * PAGE..(at + 1) * PAGE]);
            if spoilt {
                image[at * PAGE..(at + 1) * PAGE].fill(0xa5);
            }
        }
        Some(Arc::new(image))
    };
    let mut images = vec![("with spoilt pages".into(), with(&pages, true, &[]))];
    let steps = if by_page { 1 } else { pages.len().max(1) };
    for count in (0..=pages.len()).step_by(steps).skip(1) {
        images.push((format!("with {count} pages"), with(&pages[..count], false, &[])));
    }
    // Two commits may have come between; the older one is then on the disk first. Its number is behind the page's head.
    let mut metas: Vec<usize> = (0..2).filter(changed).collect();
    let transaction =
        |at: usize| u64::from_le_bytes(now[at * PAGE + 144..at * PAGE + 152].try_into().expect("eight"));
    metas.sort_by_key(|&at| transaction(at));
    if metas.len() == 2 {
        images.push(("with one of two commits".into(), with(&pages, false, &metas[..1])));
    }
    images
}
