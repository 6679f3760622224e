//! Deadlines in, expired entries out: exactly in (deadline, insertion) order.
//!
//! An indexed 4-ary heap, not a wheel: asyncio's users see the exact order of deadlines, and a heap
//! gives it without sorting ticks. Entries know their place, so a cancelled timer leaves at once
//! and a million cancelled timers leave no memory behind.
//! Plain Rust: it is told the time and never reads a clock, and it never runs an entry's destructor.
//!
//! As long as timers come in order of their deadlines and go from either end (one delay for all, or timers that
//! are cancelled soon) the array is simply kept sorted, and everything is O(1). The first timer that comes out of order, or leaves from
//! the middle, turns it into the heap, where both are O(log n), until it runs empty. A sorted array is a heap already: turning
//! costs one pass, at most once for each time that the queue was empty.

/// What the queue holds: something small that remembers its own place in the heap.
pub trait Timer: Copy {
    /// Called whenever the entry moves; [`ABSENT`] when it leaves.
    fn set_position(self, position: u32);
}

/// The position of an entry that is in no queue.
pub const ABSENT: u32 = u32::MAX;

const ARITY: usize = 4;
/// A heap below this capacity is never shrunk.
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
    /// Sorted from `head` on, or a heap with `head` zero. Empty means sorted.
    heap: Vec<Node<T>>,
    /// Where the timers begin; before it lie those that have left a sorted array.
    head: usize,
    sorted: bool,
    inserted: u64,
}

impl<T> Default for TimerQueue<T> {
    fn default() -> Self {
        Self { heap: Vec::new(), head: 0, sorted: true, inserted: 0 }
    }
}

impl<T: Timer> TimerQueue<T> {
    /// Adds a timer that is due at `when` seconds. NaN is due at once, before all others.
    #[inline]
    pub fn insert(&mut self, when: f64, timer: T) {
        let node = Node { when: sortable(when), order: self.inserted, timer };
        self.inserted += 1;
        let mut last = self.heap.len();
        assert!(last < ABSENT as usize, "more timers than a position can number");
        if self.sorted {
            // The order of insertion only grows, so equal deadlines are in order too.
            if self.heap.last().is_none_or(|before| before.when <= node.when) {
                timer.set_position(last as u32);
                self.heap.push(node);
                return;
            }
            self.make_heap();
            last = self.heap.len();
        }
        self.heap.push(node);
        self.sift_up(last, node);
    }

    /// Takes out the timer at `position`, which must be the one that the queue told it last.
    #[inline]
    pub fn remove(&mut self, position: u32) -> T {
        let mut hole = position as usize;
        let removed = self.heap[hole].timer;
        removed.set_position(ABSENT);
        if self.sorted {
            if hole + 1 == self.heap.len() {
                self.heap.pop();
                self.tidy();
                return removed;
            }
            if hole == self.head {
                self.head += 1;
                if self.head > KEEP && self.head > self.heap.len() / 2 {
                    self.compact();
                }
                return removed;
            }
            hole -= self.head;
            self.make_heap();
        }
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
        self.tidy();
        removed
    }

    /// Takes out the earliest timer if it is due at `now`; the exact boundary counts as due.
    #[inline]
    pub fn pop_due(&mut self, now: f64) -> Option<T> {
        match self.heap.get(self.head) {
            Some(first) if first.when <= sortable(now) => Some(self.remove(self.head as u32)),
            _ => None,
        }
    }

    /// The earliest deadline, in seconds (minus infinity for NaN).
    #[inline]
    pub fn next_deadline(&self) -> Option<f64> {
        self.heap.get(self.head).map(|node| unsortable(node.when))
    }

    /// How many timers are pending.
    #[inline]
    pub fn len(&self) -> usize {
        self.heap.len() - self.head
    }

    /// Whether nothing is pending.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.heap.len() == self.head
    }

    /// Turns the sorted array into a heap that begins at zero.
    #[cold]
    fn make_heap(&mut self) {
        self.sorted = false;
        self.compact();
    }

    /// Closes the gap that timers left at the front of a sorted array.
    #[cold]
    fn compact(&mut self) {
        self.heap.drain(..self.head);
        self.head = 0;
        for (index, node) in self.heap.iter().enumerate() {
            node.timer.set_position(index as u32);
        }
        self.tidy();
    }

    /// After a removal: begins anew when empty, and gives memory back.
    #[inline]
    fn tidy(&mut self) {
        if self.is_empty() {
            self.heap.clear();
            self.head = 0;
            self.sorted = true;
        }
        if self.heap.capacity() > KEEP && self.heap.len() < self.heap.capacity() / 4 {
            self.heap.shrink_to((self.heap.len() * 2).max(KEEP));
        }
    }

    /// The pending timers in no particular order, but the first is the earliest.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.heap[self.head..].iter().map(|node| node.timer)
    }

    /// The timer at `position`, if there is one.
    #[inline]
    pub fn get(&self, position: u32) -> Option<T> {
        self.heap.get(position as usize).map(|node| node.timer)
    }

    /// Takes out all timers, in order.
    pub fn take_all(&mut self) -> Vec<T> {
        let mut nodes = std::mem::take(&mut self.heap);
        if !self.sorted {
            nodes.sort_unstable_by_key(|node| (node.when, node.order));
        }
        let gone = std::mem::take(&mut self.head);
        self.sorted = true;
        nodes
            .into_iter()
            .skip(gone)
            .map(|node| {
                node.timer.set_position(ABSENT);
                node.timer
            })
            .collect()
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
    fn a_sorted_array_that_has_lost_its_front_becomes_a_heap() {
        let probes: Vec<_> = (0..40).map(probe).collect();
        let mut queue = TimerQueue::default();
        for p in &probes[..30] {
            queue.insert(p.id as f64, p);
        }
        for expected in 0..10 {
            assert_eq!(queue.pop_due(9.5).map(|p| p.id), Some(expected));
        }
        assert!(queue.sorted);
        // From the middle, then out of order.
        assert_eq!(queue.remove(probes[20].position.get()).id, 20);
        assert!(!queue.sorted);
        for p in &probes[30..] {
            queue.insert(p.id as f64 - 20.5, p);
        }
        let mut seen = Vec::new();
        while let Some(p) = queue.pop_due(100.0) {
            seen.push(p.id);
        }
        let mut expected: Vec<u64> = (10..30).filter(|&id| id != 20).chain(30..40).collect();
        expected.sort_by(|a, b| {
            let when = |id: u64| {
                if id >= 30 {
                    id as f64 - 20.5
                } else {
                    id as f64
                }
            };
            when(*a).total_cmp(&when(*b))
        });
        assert_eq!(seen, expected);
        assert!(queue.sorted && queue.is_empty());
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
        assert!(queue.heap.capacity() <= 4 * KEEP);
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
        assert!(queue.heap.capacity() <= KEEP);
    }
}
