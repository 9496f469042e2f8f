//! Reads the clocks: the one that all decisions use, and the time of day, for signatures of protocol 0 and for the history.
//! Never sleeps, and never sets anything.

use std::time::{SystemTime, UNIX_EPOCH};

use hastmon_core::time::Instant;
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`: nobody can set it, and it counts the time that the machine slept. `CLOCK_MONOTONIC` does not on Linux.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;

/// FreeBSD has no clock that is sure to count through sleep. `CLOCK_MONOTONIC` is the one that its developers mean to (`CLOCK_BOOTTIME`
/// is its alias there, and `CLOCK_UPTIME` the one that is to stand still), so a kernel that learns it needs no change here.
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Nanoseconds in a second.
const NS_PER_S: u64 = 1_000_000_000;

/// The moment now, on a clock that no one can set and that is the same for all processes of this host.
pub fn now() -> Instant {
    let time = clock_gettime(CLOCK);
    // The clock starts at boot and never goes below zero.
    let s = u64::try_from(time.tv_sec).unwrap_or(0);
    let ns = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_nanos(s.saturating_mul(NS_PER_S).saturating_add(ns))
}

/// Seconds since 1970, as anyone may have set them: for the signatures of protocol 0 alone, no decision rests on it. 0 before 1970.
pub fn unix_time_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Milliseconds since 1970 at a moment of the past, as the clock of the host says now: for those who read what happened, no decision rests on it.
pub fn unix_time_ms(at: Instant) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.saturating_sub(now().since(at)).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_on_and_never_back() {
        let start = now();
        let mut last = start;
        while last == start {
            let next = now();
            assert!(next >= last);
            last = next;
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_clock_counts_from_boot_with_sleep_included() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime_s: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
        let ours_s = now().as_nanos() as f64 / 1e9;
        assert!((ours_s - uptime_s).abs() < 5.0, "{ours_s} against {uptime_s}");
    }

    #[test]
    fn the_time_of_day_is_that_of_this_century() {
        assert!(unix_time_s() > 1_700_000_000);
    }
}
