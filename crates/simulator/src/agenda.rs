//! What is still to happen, in the order of time. What happens at the same moment happens in the order in which it was put here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// True time: since the start of the simulation, on no host's clock.
pub(crate) type Time = Duration;

#[derive(Debug)]
pub(crate) struct Agenda<T> {
    /// When, in which order at that moment, and the place of what happens: it is large, and a heap moves its entries often.
    queue: BinaryHeap<Reverse<(Time, u64, usize)>>,
    places: Vec<Option<T>>,
    free: Vec<usize>,
    next: u64,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self { queue: BinaryHeap::new(), places: Vec::new(), free: Vec::new(), next: 0 }
    }

    pub(crate) fn add(&mut self, at: Time, what: T) {
        self.next += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(what);
        self.queue.push(Reverse((at, self.next, place)));
    }

    /// Takes the next thing that happens, unless that is after `until`.
    pub(crate) fn next(&mut self, until: Time) -> Option<(Time, T)> {
        if self.queue.peek()?.0.0 > until {
            return None;
        }
        let Reverse((at, _, place)) = self.queue.pop()?;
        self.free.push(place);
        Some((at, self.places[place].take()?))
    }
}
