//! The pace at which workers begin that nobody waits for. A thousand at once would take the processor from those that run, which would then
//! look dead to the other nodes. Decides when the next one may begin; whether one is needed, its supervisor decides.

use crate::time::{Duration, Instant};

/// So many may begin when they like.
const FREE: u32 = 32;
/// Beyond that there is one in this time: a hundred in a second take about a third of a processor.
const STEP: Duration = Duration::from_millis(10);

/// Of all resources of a node.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the next one would begin, if none were free.
    next: Instant,
}

impl Pace {
    /// When a worker may begin that is wanted now.
    pub(crate) fn turn(&mut self, now: Instant) -> Instant {
        let at = self.next.max(now - STEP * FREE);
        self.next = at + STEP;
        at.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ms, s};

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

    #[test]
    fn a_few_begin_at_once_and_many_one_after_the_other() {
        let mut pace = Pace::default();
        for _ in 0..=FREE {
            assert_eq!(pace.turn(NOW), NOW);
        }
        assert_eq!((pace.turn(NOW), pace.turn(NOW)), (NOW + ms(10), NOW + ms(20)));
        // Whoever comes later waits behind those that wait already.
        assert_eq!(pace.turn(NOW + ms(5)), NOW + ms(30));
        // Long after that some are free again, as many as before.
        let later = NOW + s(100);
        assert!((0..=FREE).all(|_| pace.turn(later) == later));
        assert!(pace.turn(later) > later);
    }
}
