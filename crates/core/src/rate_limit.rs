//! Keeps callers from filling the log: a burst is told line by line, a flood as a count.

use crate::time::{Duration, Instant};

/// Lines in a row that are told.
pub const BURST: u32 = 20;
/// After a burst, one line for each such interval.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Decides which lines are told, and counts the others.
#[derive(Clone, Debug)]
pub struct RateLimit {
    left: u32,
    refilled: Option<Instant>,
    left_out: u64,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { left: BURST, refilled: None, left_out: 0 }
    }
}

impl RateLimit {
    /// Whether to tell a line now; if so, how many were left out before it.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        let since = *self.refilled.get_or_insert(now);
        let earned = u32::try_from(now.since(since).as_nanos() / INTERVAL.as_nanos()).unwrap_or(BURST);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(BURST);
            self.refilled = Some(now);
        }
        if self.left == 0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1;
        Some(core::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_as_a_count() {
        let mut limit = RateLimit::default();
        let start = Instant::from_nanos(0);
        let told = (0..1000).filter(|_| limit.admit(start).is_some()).count();
        assert_eq!(told, 20);
        assert_eq!(limit.admit(start + INTERVAL), Some(980));
        assert_eq!(limit.admit(start + INTERVAL), None);
        assert_eq!(limit.admit(start + INTERVAL * 100), Some(1));
    }
}
