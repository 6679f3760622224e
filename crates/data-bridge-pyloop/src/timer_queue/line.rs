//! A sorted run of timers: O(1) at both ends, gaps where timers left from the middle.

use super::{Node, Timer, KEEP, MOST};

/// The order of a gap: no timer's.
const GAP: u64 = u64::MAX;

/// Timers in the order of their deadlines. `MARK` is the part of their positions that names this line.
pub(super) struct Line<T, const MARK: u32> {
    /// Sorted. The entry at `head` and the last one are never gaps.
    nodes: Vec<Node<T>>,
    /// Where the line begins; what lies before has left.
    head: usize,
    gaps: usize,
}

impl<T, const MARK: u32> Default for Line<T, MARK> {
    fn default() -> Self {
        Self { nodes: Vec::new(), head: 0, gaps: 0 }
    }
}

impl<T: Timer, const MARK: u32> Line<T, MARK> {
    /// The earliest timer and its position.
    #[inline]
    pub fn first(&self) -> Option<(&Node<T>, u32)> {
        self.nodes.get(self.head).map(|node| (node, self.head as u32 | MARK))
    }

    /// The latest timer.
    #[inline]
    pub fn last(&self) -> Option<&Node<T>> {
        self.nodes.last()
    }

    /// The timer at `position`, if there is one.
    #[inline]
    pub fn get(&self, position: u32) -> Option<&Node<T>> {
        self.nodes.get((position & !MARK) as usize).filter(|node| node.order != GAP)
    }

    /// The timers, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Node<T>> {
        self.nodes[self.head..].iter().filter(|node| node.order != GAP)
    }

    /// How many timers are pending.
    #[inline]
    pub fn len(&self) -> usize {
        self.nodes.len() - self.head - self.gaps
    }

    /// Whether none is pending.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many entries the line has memory for.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.nodes.capacity()
    }

    /// Adds a timer that is not due before the last. The order of insertion only grows, so equal deadlines are in order too.
    #[inline]
    pub fn push(&mut self, node: Node<T>) {
        assert!(self.nodes.len() < MOST, "more timers than a position can number");
        node.timer.set_position(self.nodes.len() as u32 | MARK);
        self.nodes.push(node);
    }

    /// Takes out the timer at `position`.
    #[inline]
    pub fn remove(&mut self, position: u32) -> T {
        let index = (position & !MARK) as usize;
        let removed = self.nodes[index].timer;
        if index + 1 == self.nodes.len() {
            self.nodes.pop();
            while self.nodes.len() > self.head && self.nodes.last().is_some_and(|n| n.order == GAP)
            {
                self.nodes.pop();
                self.gaps -= 1;
            }
        } else if index == self.head {
            self.head += 1;
            while self.nodes[self.head].order == GAP {
                self.head += 1;
                self.gaps -= 1;
            }
        } else {
            self.nodes[index].order = GAP;
            self.gaps += 1;
        }
        if self.nodes.len() == self.head {
            self.nodes.clear();
            self.head = 0;
        } else if self.head + self.gaps > KEEP && self.head + self.gaps > self.nodes.len() / 2 {
            self.close_gaps();
        }
        super::give_back(&mut self.nodes);
        removed
    }

    /// Takes out everything, in order.
    pub fn take_all(&mut self) -> Vec<Node<T>> {
        let mut nodes = std::mem::take(&mut self.nodes).split_off(self.head);
        nodes.retain(|node| node.order != GAP);
        (self.head, self.gaps) = (0, 0);
        nodes
    }

    /// Moves the line together. It has at least as many gaps as timers, so this costs each gap a constant.
    #[cold]
    fn close_gaps(&mut self) {
        let mut index = 0;
        for from in self.head..self.nodes.len() {
            let node = self.nodes[from];
            if node.order != GAP {
                node.timer.set_position(index as u32 | MARK);
                self.nodes[index] = node;
                index += 1;
            }
        }
        self.nodes.truncate(index);
        (self.head, self.gaps) = (0, 0);
    }
}
