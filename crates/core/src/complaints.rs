//! Counts complaints, and forgets those that are too old to count.

use alloc::collections::VecDeque;

use crate::config::MAX_COMPLAINT_COUNT;
use crate::time::{Duration, Instant};

/// Complaints that are remembered: more than any `complaint_count` may ask for, and still little memory when a peer floods.
pub const MAX_REMEMBERED: usize = MAX_COMPLAINT_COUNT as usize + 1;

/// The times of the latest complaints.
#[derive(Clone, Debug, Default)]
pub struct Complaints {
    times: VecDeque<Instant>,
}

impl Complaints {
    /// Remembers a complaint.
    pub fn add(&mut self, now: Instant) {
        if self.times.len() == MAX_REMEMBERED {
            self.times.pop_front();
        }
        self.times.push_back(now);
    }

    /// How many there were within `interval` before `now`.
    pub fn within(&self, now: Instant, interval: Duration) -> u32 {
        let recent = self.times.iter().rev().take_while(|time| now.since(**time) <= interval).count();
        u32::try_from(recent).unwrap_or(u32::MAX)
    }

    /// Forgets those before `time`.
    pub fn forget_before(&mut self, time: Instant) {
        self.times.retain(|heard| *heard >= time);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.times.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn only_complaints_within_the_interval_count() {
        let mut complaints = Complaints::default();
        for second in [0, 50, 60, 61] {
            complaints.add(at(second));
        }
        assert_eq!(complaints.within(at(61), Duration::from_secs(60)), 3);
        assert_eq!(complaints.within(at(200), Duration::from_secs(60)), 0);
        complaints.clear();
        assert_eq!(complaints.within(at(61), Duration::from_secs(60)), 0);
    }

    #[test]
    fn what_was_heard_before_a_time_is_forgotten() {
        let mut complaints = Complaints::default();
        for time in [1, 2, 3] {
            complaints.add(at(time));
        }
        complaints.forget_before(at(2));
        assert_eq!(complaints.within(at(3), Duration::from_secs(60)), 2);
    }

    #[test]
    fn a_flood_of_complaints_takes_bounded_memory() {
        let mut complaints = Complaints::default();
        for _ in 0..10 * MAX_REMEMBERED {
            complaints.add(at(1));
        }
        assert_eq!(complaints.within(at(1), Duration::from_secs(60)), u32::try_from(MAX_REMEMBERED).unwrap());
    }
}
