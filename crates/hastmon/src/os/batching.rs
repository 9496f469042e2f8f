//! Lets messages come together in a process that is woken for each of many: it would spend more time on waking than on what they say. Decides
//! nothing about them, only that they are taken a little later, all at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::os::clock;

/// A process may go to sleep and be woken so often without a thought: what a few resources need, which shall have their answers at once.
const FREE_PER_S: u64 = 50;
/// The same, at once: a failover of a few resources.
const FREE_AT_ONCE: u64 = 100;
/// Beyond that it waits for this part of the shortest heartbeat, which is late for nobody ...
const PART_OF_HEARTBEAT: u32 = 200;
/// ... and not longer than this: an operator's command waits as well.
const LONGEST: Duration = Duration::from_millis(5);
/// A shorter wait gathers nothing: with fast heartbeats each message is taken when it comes.
const SHORTEST: Duration = Duration::from_millis(1);

/// Nanoseconds in a second.
const NS_PER_S: u64 = 1_000_000_000;

/// Before each sleep of a process.
#[derive(Debug, Default)]
pub struct Batching {
    /// How long it lets messages gather, in ns; 0: not at all.
    wait_ns: AtomicU64,
    /// Until when, by the clock in ns, what is free has been used up.
    used_until_ns: AtomicU64,
}

impl Batching {
    /// The shortest heartbeat of all that this process serves has changed.
    pub fn set_heartbeat(&self, shortest: Option<Duration>) {
        let wait = shortest.map_or(Duration::ZERO, |heartbeat| (heartbeat / PART_OF_HEARTBEAT).min(LONGEST));
        let wait = if wait < SHORTEST { Duration::ZERO } else { wait };
        self.wait_ns.store(u64::try_from(wait.as_nanos()).unwrap_or(0), Ordering::Relaxed);
    }

    /// The process has nothing to do and is about to sleep until something comes.
    #[expect(
        clippy::disallowed_methods,
        reason = "it would sleep now in any case, and does so a little longer, within a bound"
    )]
    pub fn before_sleep(&self) {
        let wait = self.wait(clock::now().as_nanos());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
    }

    /// How long to let messages gather.
    fn wait(&self, now_ns: u64) -> Duration {
        let wait = Duration::from_nanos(self.wait_ns.load(Ordering::Relaxed));
        if wait.is_zero() {
            return wait;
        }
        let used_until = self.used_until_ns.load(Ordering::Relaxed).max(now_ns).saturating_add(NS_PER_S / FREE_PER_S);
        if used_until > now_ns.saturating_add(FREE_AT_ONCE * NS_PER_S / FREE_PER_S) {
            return wait;
        }
        self.used_until_ns.store(used_until, Ordering::Relaxed);
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_NS: u64 = 1_000 * NS_PER_S;

    fn batching(heartbeat: Duration) -> Batching {
        let batching = Batching::default();
        batching.set_heartbeat(Some(heartbeat));
        batching
    }

    #[test]
    fn what_comes_now_and_then_is_taken_at_once() {
        let batching = batching(Duration::from_secs(1));
        for sleep in 0..1_000 {
            assert_eq!(batching.wait(START_NS + sleep * NS_PER_S / FREE_PER_S), Duration::ZERO);
        }
    }

    #[test]
    fn in_a_flood_there_is_a_wait_after_a_hundred_and_none_when_it_is_over() {
        let batching = batching(Duration::from_secs(1));
        for _ in 0..FREE_AT_ONCE {
            assert_eq!(batching.wait(START_NS), Duration::ZERO);
        }
        assert_eq!(batching.wait(START_NS), LONGEST);
        let later = START_NS + 10 * NS_PER_S;
        assert_eq!(batching.wait(later), Duration::ZERO);
        // It is a hundred again, and not what ten seconds would come to.
        let free = (1..1_000).take_while(|_| batching.wait(later).is_zero()).count();
        assert_eq!(u64::try_from(free), Ok(FREE_AT_ONCE - 1));
    }

    #[test]
    fn the_wait_is_small_beside_the_shortest_heartbeat() {
        let wait = |batching: &Batching| (0..1_000).map(|_| batching.wait(START_NS)).max().unwrap();
        for (heartbeat_ms, wait_ms) in [(25, 0), (100, 0), (200, 1), (600, 3), (1_000, 5), (10_000, 5)] {
            let batching = batching(Duration::from_millis(heartbeat_ms));
            assert_eq!(wait(&batching), Duration::from_millis(wait_ms), "{heartbeat_ms}");
        }
        let batching = batching(Duration::from_secs(1));
        batching.set_heartbeat(None);
        assert_eq!(wait(&batching), Duration::ZERO);
    }
}
