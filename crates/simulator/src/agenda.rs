//! What is still to happen, in the order of time. What happens at the same moment happens in the order in which it was put here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// True time: since the start of the simulation, on no host's clock.
pub(crate) type Time = Duration;

#[derive(Debug)]
pub(crate) struct Agenda<T> {
    queue: BinaryHeap<Reverse<Entry<T>>>,
    next: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Time,
    order: u64,
    what: T,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self { queue: BinaryHeap::new(), next: 0 }
    }

    pub(crate) fn add(&mut self, at: Time, what: T) {
        self.next += 1;
        self.queue.push(Reverse(Entry { at, order: self.next, what }));
    }

    /// Takes the next thing that happens, unless that is after `until`.
    pub(crate) fn next(&mut self, until: Time) -> Option<(Time, T)> {
        if self.queue.peek()?.0.at > until {
            return None;
        }
        self.queue.pop().map(|Reverse(entry)| (entry.at, entry.what))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
