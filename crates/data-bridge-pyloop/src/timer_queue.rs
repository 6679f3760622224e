//! Deadlines in, expired entries out: exactly in (deadline, insertion) order.
//!
//! Three parts. Timers that come in order of their deadlines (one delay for all, the usual case) are appended to a sorted *line*:
//! adding and taking from either end is O(1). A second line, the *near* one, does the same for timers due before all those:
//! short time-outs among many long ones. Timers that come in neither order go to an indexed 4-ary *heap*, O(log n).
//! Not a wheel: asyncio's users see the exact order of deadlines, and a wheel would have to sort its ticks.
//! Entries know their place, so a cancelled timer leaves at once and a million cancelled timers leave no memory behind.
//! Plain Rust: it is told the time and never reads a clock, and it never runs an entry's destructor.

mod line;

use line::Line;

/// What the queue holds: something small that remembers its own place.
pub trait Timer: Copy {
    /// Called whenever the entry moves; [`ABSENT`] when it leaves.
    fn set_position(self, position: u32);
}

/// The position of an entry that is in no queue.
pub const ABSENT: u32 = u32::MAX;

/// Marks positions in the line.
const IN_LINE: u32 = 1 << 31;
/// Marks positions in the near line; those with neither mark are in the heap.
const IN_NEAR: u32 = 1 << 30;
/// Most timers that one part can number.
const MOST: usize = 1 << 30;
const ARITY: usize = 4;
/// Less memory than this many entries take is never given back, and fewer gaps are not worth closing.
const KEEP: usize = 1024;

#[derive(Clone, Copy)]
struct Node<T> {
    when: i64,
    order: u64,
    timer: T,
}

impl<T> Node<T> {
    #[inline]
    fn before(&self, other: &Self) -> bool {
        (self.when, self.order) < (other.when, other.order)
    }
}

/// The pending timers of one loop.
pub struct TimerQueue<T> {
    line: Line<T, IN_LINE>,
    near: Line<T, IN_NEAR>,
    heap: Vec<Node<T>>,
    inserted: u64,
}

impl<T: Timer> Default for TimerQueue<T> {
    fn default() -> Self {
        Self { line: Line::default(), near: Line::default(), heap: Vec::new(), inserted: 0 }
    }
}

impl<T: Timer> TimerQueue<T> {
    /// Adds a timer that is due at `when` seconds. NaN is due at once, before all others.
    #[inline]
    pub fn insert(&mut self, when: f64, timer: T) {
        let node = Node { when: sortable(when), order: self.inserted, timer };
        self.inserted += 1;
        match self.line.last() {
            Some(last) if last.when > node.when => self.insert_before(node),
            _ => self.line.push(node),
        }
    }

    /// Adds a timer that is due before the line's last.
    ///
    /// The near line takes it if it is due before all that wait elsewhere, or, once there is one, after the near line's last and before
    /// the heap. Whatever the near line holds, the order is right; the rule keeps far timers from barring it to near ones.
    fn insert_before(&mut self, node: Node<T>) {
        let fits = match self.near.last() {
            Some(last) => last.when <= node.when,
            None => self.line.first().is_none_or(|(first, _)| node.before(first)),
        };
        if fits && self.heap.first().is_none_or(|first| node.before(first)) {
            self.near.push(node);
        } else {
            let hole = self.heap.len();
            assert!(hole < MOST, "more timers than a position can number");
            self.heap.push(node);
            self.sift_up(hole, node);
        }
    }

    /// Takes out the timer at `position`, which must be the one that the queue told it last.
    #[inline]
    pub fn remove(&mut self, position: u32) -> T {
        let removed = if position & IN_LINE != 0 {
            self.line.remove(position)
        } else if position & IN_NEAR != 0 {
            self.near.remove(position)
        } else {
            self.remove_from_heap(position as usize)
        };
        removed.set_position(ABSENT);
        removed
    }

    /// The timer at `position`, if there is one.
    #[inline]
    pub fn get(&self, position: u32) -> Option<T> {
        let node = if position & IN_LINE != 0 {
            self.line.get(position)
        } else if position & IN_NEAR != 0 {
            self.near.get(position)
        } else {
            self.heap.get(position as usize)
        };
        node.map(|node| node.timer)
    }

    /// Takes out the earliest timer if it is due at `now`; the exact boundary counts as due.
    #[inline]
    pub fn pop_due(&mut self, now: f64) -> Option<T> {
        let (first, position) = self.first()?;
        (first.when <= sortable(now)).then(|| self.remove(position))
    }

    /// The earliest deadline, in seconds (minus infinity for NaN).
    #[inline]
    pub fn next_deadline(&self) -> Option<f64> {
        self.first().map(|(node, _)| unsortable(node.when))
    }

    /// How many timers are pending.
    #[inline]
    pub fn len(&self) -> usize {
        self.line.len() + self.near.len() + self.heap.len()
    }

    /// Whether nothing is pending.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.line.is_empty() && self.near.is_empty() && self.heap.is_empty()
    }

    /// The pending timers: the earliest first, the others in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        let earliest = self.first().map(|(node, _)| node);
        let others = self.line.iter().chain(self.near.iter()).chain(&self.heap);
        let others =
            others.filter(move |&node| earliest.is_none_or(|first| !std::ptr::eq(node, first)));
        earliest.into_iter().chain(others).map(|node| node.timer)
    }

    /// Takes out all timers, in order.
    pub fn take_all(&mut self) -> Vec<T> {
        let mut nodes = self.line.take_all();
        nodes.append(&mut self.near.take_all());
        nodes.append(&mut std::mem::take(&mut self.heap));
        nodes.sort_unstable_by_key(|node| (node.when, node.order));
        let left = |node: Node<T>| {
            node.timer.set_position(ABSENT);
            node.timer
        };
        nodes.into_iter().map(left).collect()
    }

    /// The earliest timer and its position.
    #[inline]
    fn first(&self) -> Option<(&Node<T>, u32)> {
        let heap = self.heap.first().map(|node| (node, 0));
        earlier(earlier(self.line.first(), self.near.first()), heap)
    }

    #[inline]
    fn remove_from_heap(&mut self, hole: usize) -> T {
        let removed = self.heap[hole].timer;
        // The index above has shown that the heap is not empty.
        if let Some(last) = self.heap.pop() {
            if hole < self.heap.len() {
                if hole > 0 && last.before(&self.heap[(hole - 1) / ARITY]) {
                    self.sift_up(hole, last);
                } else {
                    self.sift_down(hole, last);
                }
            }
        }
        give_back(&mut self.heap);
        removed
    }

    #[inline]
    fn place(&mut self, index: usize, node: Node<T>) {
        self.heap[index] = node;
        node.timer.set_position(index as u32);
    }

    #[inline]
    fn sift_up(&mut self, mut hole: usize, node: Node<T>) {
        while hole > 0 {
            let parent = (hole - 1) / ARITY;
            let above = self.heap[parent];
            if !node.before(&above) {
                break;
            }
            self.place(hole, above);
            hole = parent;
        }
        self.place(hole, node);
    }

    #[inline]
    fn sift_down(&mut self, mut hole: usize, node: Node<T>) {
        let len = self.heap.len();
        loop {
            let first = hole * ARITY + 1;
            if first >= len {
                break;
            }
            let mut least = first;
            for child in first + 1..(first + ARITY).min(len) {
                if self.heap[child].before(&self.heap[least]) {
                    least = child;
                }
            }
            let below = self.heap[least];
            if !below.before(&node) {
                break;
            }
            self.place(hole, below);
            hole = least;
        }
        self.place(hole, node);
    }
}

/// The earlier of two timers with their positions.
#[inline(always)]
fn earlier<'a, T>(
    a: Option<(&'a Node<T>, u32)>,
    b: Option<(&'a Node<T>, u32)>,
) -> Option<(&'a Node<T>, u32)> {
    match (a, b) {
        (Some((node, _)), Some((other, _))) if other.before(node) => b,
        (None, _) => b,
        _ => a,
    }
}

/// Gives the memory of a past crowd back.
#[inline]
fn give_back<T>(nodes: &mut Vec<Node<T>>) {
    if nodes.capacity() > KEEP && nodes.len() < nodes.capacity() / 4 {
        nodes.shrink_to((nodes.len() * 2).max(KEEP));
    }
}

/// Maps seconds to integers of the same order, so that comparing needs no care for NaN or signed zero.
#[inline]
fn sortable(seconds: f64) -> i64 {
    if seconds.is_nan() {
        return i64::MIN;
    }
    // Adding zero makes -0.0 into 0.0: the two are the same deadline.
    let bits = (seconds + 0.0).to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

#[inline]
fn unsortable(key: i64) -> f64 {
    if key == i64::MIN {
        return f64::NEG_INFINITY;
    }
    f64::from_bits((key ^ (((key >> 63) as u64) >> 1) as i64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::BTreeMap;

    /// A timer for tests: an identity and the position that the queue told it.
    struct Probe {
        id: u64,
        position: Cell<u32>,
    }

    impl Timer for &Probe {
        fn set_position(self, position: u32) {
            self.position.set(position);
        }
    }

    fn probe(id: u64) -> Probe {
        Probe { id, position: Cell::new(ABSENT) }
    }

    #[test]
    fn order_is_by_deadline_then_by_insertion() {
        let probes: Vec<_> = (0..6).map(probe).collect();
        let mut queue = TimerQueue::default();
        for (when, p) in [2.0, 1.0, 2.0, 1.0, f64::NAN, -3.0].into_iter().zip(&probes) {
            queue.insert(when, p);
        }
        let mut seen = Vec::new();
        while let Some(p) = queue.pop_due(2.0) {
            assert_eq!(p.position.get(), ABSENT);
            seen.push(p.id);
        }
        assert_eq!(seen, [4, 5, 1, 3, 0, 2]);
    }

    #[test]
    fn the_lines_and_the_heap_are_merged_in_order() {
        let probes: Vec<_> = (0..50).map(probe).collect();
        let mut queue = TimerQueue::default();
        for p in &probes[..30] {
            queue.insert(p.id as f64, p);
        }
        for expected in 0..10 {
            assert_eq!(queue.pop_due(9.5).map(|p| p.id), Some(expected));
        }
        // From the middle, then out of order.
        assert_eq!(queue.remove(probes[20].position.get()).id, 20);
        assert!(queue.get(20 | IN_LINE).is_none());
        // In order before the line, then amidst both lines.
        let when = |id: u64| match id {
            0..30 => id as f64,
            30..40 => id as f64 - 20.5,
            _ => 9.75 + (id * 7 % 10) as f64,
        };
        for p in &probes[30..] {
            queue.insert(when(p.id), p);
        }
        assert_eq!((queue.near.len(), queue.heap.len(), queue.len()), (10, 10, 39));
        assert_eq!(queue.iter().count(), 39);
        assert_eq!(queue.iter().next().map(|p| p.id), Some(30));
        let mut seen = Vec::new();
        while let Some(p) = queue.pop_due(100.0) {
            seen.push(p.id);
        }
        let mut expected: Vec<u64> = (10..30).filter(|&id| id != 20).chain(30..50).collect();
        expected.sort_by(|a, b| when(*a).total_cmp(&when(*b)));
        assert_eq!(seen, expected);
        assert!(queue.is_empty());
    }

    #[test]
    fn near_timers_among_many_far_ones_do_not_go_through_the_heap() {
        let probes: Vec<_> = (0..5_000).map(probe).collect();
        let mut queue = TimerQueue::default();
        for p in &probes[..4_000] {
            queue.insert(3600.0 + (p.id % 1_000) as f64, p);
        }
        assert_eq!((queue.line.len(), queue.near.len(), queue.heap.len()), (1_003, 0, 2_997));
        for p in &probes[4_000..] {
            queue.insert(10.0 + p.id as f64 / 1e6, p);
        }
        assert_eq!((queue.near.len(), queue.heap.len()), (1_000, 2_997));
        // From the middle, from the end, then in order.
        assert_eq!(queue.remove(probes[4_500].position.get()).id, 4_500);
        assert!(queue.get(500 | IN_NEAR).is_none());
        assert_eq!(queue.remove(probes[4_999].position.get()).id, 4_999);
        let mut expected = (4_000..4_999).filter(|&id| id != 4_500);
        while let Some(p) = queue.pop_due(20.0) {
            assert_eq!(Some(p.id), expected.next());
        }
        assert_eq!(expected.next(), None);
        assert_eq!(queue.next_deadline(), Some(3600.0));
        // A far one first: it must not bar the next to the near line for good.
        queue.insert(3599.0, &probes[4_000]);
        queue.insert(10.0, &probes[4_001]);
        assert_eq!((queue.near.len(), queue.heap.len()), (1, 2_998));
        assert_eq!(queue.pop_due(4000.0).map(|p| p.id), Some(4_001));
        assert_eq!(queue.pop_due(4000.0).map(|p| p.id), Some(4_000));
        queue.insert(10.0, &probes[4_002]);
        assert_eq!((queue.near.len(), queue.heap.len()), (1, 2_997));
    }

    #[test]
    fn gaps_are_closed_and_positions_stay_true() {
        let probes: Vec<_> = (0..10_000).map(probe).collect();
        let mut queue = TimerQueue::default();
        for p in &probes {
            queue.insert(p.id as f64, p);
        }
        for p in probes.iter().filter(|p| p.id % 10 != 0) {
            assert_eq!(queue.remove(p.position.get()).id, p.id);
        }
        assert_eq!(queue.len(), 1_000);
        assert!(queue.line.capacity() <= 4 * 1_000 + KEEP);
        assert!(queue.iter().map(|p| p.id).eq((0..10_000).step_by(10)));
        assert!(queue.take_all().iter().map(|p| p.id).eq((0..10_000).step_by(10)));
        assert!(queue.is_empty() && probes.iter().all(|p| p.position.get() == ABSENT));
    }

    #[test]
    fn a_sorted_queue_that_never_empties_does_not_grow() {
        let probes: Vec<_> = (0..200_000).map(probe).collect();
        let mut queue = TimerQueue::default();
        for p in &probes {
            queue.insert(p.id as f64, p);
            if p.id >= 10 {
                assert_eq!(queue.pop_due(p.id as f64).map(|p| p.id), Some(p.id - 10));
            }
        }
        assert!(queue.line.capacity() <= 4 * KEEP);
    }

    #[test]
    fn infinite_deadlines_stay_and_can_be_removed() {
        let (a, b) = (probe(0), probe(1));
        let mut queue = TimerQueue::default();
        queue.insert(f64::INFINITY, &a);
        queue.insert(1e300, &b);
        assert!(queue.pop_due(1e200).is_none());
        assert_eq!(queue.next_deadline(), Some(1e300));
        assert_eq!(queue.remove(a.position.get()).id, 0);
        assert_eq!(queue.remove(b.position.get()).id, 1);
        assert!(queue.is_empty());
    }

    #[test]
    fn keys_keep_the_order_of_seconds_and_come_back() {
        let values =
            [f64::NEG_INFINITY, -1e300, -1.5, -1e-300, 0.0, 1e-300, 0.1, 1.5, 1e300, f64::INFINITY];
        for pair in values.windows(2) {
            assert!(sortable(pair[0]) < sortable(pair[1]));
        }
        for value in values {
            assert_eq!(unsortable(sortable(value)), value);
        }
        assert_eq!(sortable(-0.0), sortable(0.0));
        assert!(sortable(f64::NAN) < sortable(f64::NEG_INFINITY));
    }

    #[test]
    fn random_operations_agree_with_a_sorted_map() {
        let probes: Vec<_> = (0..20_000).map(probe).collect();
        let mut queue = TimerQueue::default();
        let mut model: BTreeMap<(i64, u64), u64> = BTreeMap::new();
        let mut keys: BTreeMap<u64, (i64, u64)> = BTreeMap::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut now = 0.0;
        for (order, p) in probes.iter().enumerate() {
            let when = now + (random() % 64) as f64 / 8.0;
            queue.insert(when, p);
            model.insert((sortable(when), order as u64), p.id);
            keys.insert(p.id, (sortable(when), order as u64));
            match random() % 4 {
                0 => {
                    // Cancel one that is still pending.
                    let pick = random() as usize % keys.len();
                    let (&id, &key) =
                        keys.iter().nth(pick % 50.min(keys.len())).expect("one was just put in");
                    assert_eq!(queue.remove(probes[id as usize].position.get()).id, id);
                    model.remove(&key);
                    keys.remove(&id);
                }
                1 => {
                    now += 0.25;
                    while let Some(p) = queue.pop_due(now) {
                        let (&key, &id) = model.iter().next().expect("the queue has one");
                        assert_eq!(p.id, id);
                        assert!(key.0 <= sortable(now));
                        model.remove(&key);
                        keys.remove(&id);
                    }
                    assert!(model.keys().next().is_none_or(|key| key.0 > sortable(now)));
                }
                _ => {}
            }
            assert_eq!(queue.len(), model.len());
        }
    }

    #[test]
    fn removed_timers_give_their_memory_back() {
        let probes: Vec<_> = (0..100_000).map(probe).collect();
        let mut queue = TimerQueue::default();
        for p in &probes {
            queue.insert(p.id as f64, p);
        }
        for p in &probes {
            queue.remove(p.position.get());
        }
        assert!(queue.line.capacity() <= KEEP && queue.heap.capacity() <= KEEP);
        assert!(queue.near.capacity() <= KEEP);
    }
}
