//! Deadlines in, expired entries out: exactly in (deadline, insertion) order.
//!
//! Two parts. Timers that come in order of their deadlines (one delay for all, the usual case) are appended to a sorted *line*:
//! adding and taking from either end is O(1), and one that leaves from the middle leaves a gap, closed when gaps are the
//! majority. Timers that come out of order go to an indexed 4-ary *heap*, O(log n). Not a wheel: asyncio's users see the exact
//! order of deadlines, and a wheel would have to sort its ticks.
//! Entries know their place, so a cancelled timer leaves at once and a million cancelled timers leave no memory behind.
//! Plain Rust: it is told the time and never reads a clock, and it never runs an entry's destructor.

/// What the queue holds: something small that remembers its own place.
pub trait Timer: Copy {
    /// Called whenever the entry moves; [`ABSENT`] when it leaves.
    fn set_position(self, position: u32);
}

/// The position of an entry that is in no queue.
pub const ABSENT: u32 = u32::MAX;

/// Marks positions in the line; the others are in the heap.
const IN_LINE: u32 = 1 << 31;
const ARITY: usize = 4;
/// Less memory than this many entries take is never given back, and fewer gaps are not worth closing.
const KEEP: usize = 1024;
/// The order of a gap: no timer's.
const GAP: u64 = u64::MAX;

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
    /// Sorted. The entry at `head` and the last one are never gaps.
    line: Vec<Node<T>>,
    /// Where the line begins; what lies before has left.
    head: usize,
    gaps: usize,
    heap: Vec<Node<T>>,
    inserted: u64,
}

impl<T> Default for TimerQueue<T> {
    fn default() -> Self {
        Self { line: Vec::new(), head: 0, gaps: 0, heap: Vec::new(), inserted: 0 }
    }
}

impl<T: Timer> TimerQueue<T> {
    /// Adds a timer that is due at `when` seconds. NaN is due at once, before all others.
    #[inline]
    pub fn insert(&mut self, when: f64, timer: T) {
        let node = Node { when: sortable(when), order: self.inserted, timer };
        self.inserted += 1;
        let part = if self.line.last().is_none_or(|last| last.when <= node.when) {
            // The order of insertion only grows, so equal deadlines are in order too.
            timer.set_position(self.line.len() as u32 | IN_LINE);
            self.line.push(node);
            &self.line
        } else {
            let hole = self.heap.len();
            self.heap.push(node);
            self.sift_up(hole, node);
            &self.heap
        };
        assert!(part.len() < IN_LINE as usize, "more timers than a position can number");
    }

    /// Takes out the timer at `position`, which must be the one that the queue told it last.
    #[inline]
    pub fn remove(&mut self, position: u32) -> T {
        let removed = if position & IN_LINE != 0 {
            self.remove_from_line((position & !IN_LINE) as usize)
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
            self.line.get((position & !IN_LINE) as usize)
        } else {
            self.heap.get(position as usize)
        };
        node.filter(|node| node.order != GAP).map(|node| node.timer)
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
        self.line.len() - self.head - self.gaps + self.heap.len()
    }

    /// Whether nothing is pending.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.line.is_empty() && self.heap.is_empty()
    }

    /// The pending timers: the earliest first, the others in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        let mut parts = [&self.line[self.head..], &self.heap[..]];
        if self.first().is_some_and(|(_, position)| position & IN_LINE == 0) {
            parts.reverse();
        }
        let nodes = parts.into_iter().flatten();
        nodes.filter(|node| node.order != GAP).map(|node| node.timer)
    }

    /// Takes out all timers, in order.
    pub fn take_all(&mut self) -> Vec<T> {
        let mut nodes = std::mem::take(&mut self.line).split_off(self.head);
        nodes.retain(|node| node.order != GAP);
        nodes.append(&mut std::mem::take(&mut self.heap));
        (self.head, self.gaps) = (0, 0);
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
        match (self.line.get(self.head), self.heap.first()) {
            (Some(line), Some(heap)) if heap.before(line) => Some((heap, 0)),
            (Some(line), _) => Some((line, self.head as u32 | IN_LINE)),
            (None, heap) => heap.map(|heap| (heap, 0)),
        }
    }

    #[inline]
    fn remove_from_line(&mut self, index: usize) -> T {
        let removed = self.line[index].timer;
        if index + 1 == self.line.len() {
            self.line.pop();
            while self.line.len() > self.head && self.line.last().is_some_and(|n| n.order == GAP) {
                self.line.pop();
                self.gaps -= 1;
            }
        } else if index == self.head {
            self.head += 1;
            while self.line[self.head].order == GAP {
                self.head += 1;
                self.gaps -= 1;
            }
        } else {
            self.line[index].order = GAP;
            self.gaps += 1;
        }
        if self.line.len() == self.head {
            self.line.clear();
            self.head = 0;
        } else if self.head + self.gaps > KEEP && self.head + self.gaps > self.line.len() / 2 {
            self.close_gaps();
        }
        give_back(&mut self.line);
        removed
    }

    /// Moves the line together. It has at least as many gaps as timers, so this costs each gap a constant.
    #[cold]
    fn close_gaps(&mut self) {
        let mut index = 0;
        for from in self.head..self.line.len() {
            let node = self.line[from];
            if node.order != GAP {
                node.timer.set_position(index as u32 | IN_LINE);
                self.line[index] = node;
                index += 1;
            }
        }
        self.line.truncate(index);
        (self.head, self.gaps) = (0, 0);
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
    fn the_line_and_the_heap_are_merged_in_order() {
        let probes: Vec<_> = (0..40).map(probe).collect();
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
        let when = |id: u64| if id >= 30 { id as f64 - 20.5 } else { id as f64 };
        for p in &probes[30..] {
            queue.insert(when(p.id), p);
        }
        assert_eq!((queue.heap.len(), queue.len()), (10, 29));
        let mut seen = Vec::new();
        while let Some(p) = queue.pop_due(100.0) {
            seen.push(p.id);
        }
        let mut expected: Vec<u64> = (10..30).filter(|&id| id != 20).chain(30..40).collect();
        expected.sort_by(|a, b| when(*a).total_cmp(&when(*b)));
        assert_eq!(seen, expected);
        assert!(queue.is_empty());
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
        assert!(queue.line.len() <= 2 * 1_000 + KEEP);
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
    }
}
