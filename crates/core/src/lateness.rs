//! How late this process wakes up: a busy or frozen machine looks like a dead one to the others, and an administrator should know of it first.
//! Measures; what follows from it is decided elsewhere.

use crate::time::{Duration, Instant};

/// The worst of so many spans is kept, so that the last minute is known to within one of them.
const SPANS: usize = 6;
/// The length of one.
const SPAN: Duration = Duration::from_secs(10);
/// What is less than this part of a heartbeat is no news.
const NOTABLE_PARTS: u32 = 10;

/// The lateness of the last minute.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lateness {
    /// When a span began, and the worst of it.
    spans: [Option<(Instant, Duration)>; SPANS],
    next: usize,
}

impl Lateness {
    /// Something happens that was due at `deadline`, if anything was; how late it is.
    pub(crate) fn note(&mut self, now: Instant, deadline: Option<Instant>) -> Duration {
        let late = deadline.map_or(Duration::ZERO, |deadline| now.since(deadline));
        if late.is_zero() {
            return late;
        }
        let newest = (self.next + SPANS - 1) % SPANS;
        match self.spans.get_mut(newest) {
            Some(Some((began, worst))) if now.since(*began) < SPAN => *worst = late.max(*worst),
            _ => {
                self.spans.iter_mut().skip(self.next).take(1).for_each(|span| *span = Some((now, late)));
                self.next = (self.next + 1) % SPANS;
            }
        }
        late
    }

    /// The worst of the last minute, when it is more than a tenth of a heartbeat.
    pub(crate) fn worst(&self, now: Instant, heartbeat: Duration) -> Option<Duration> {
        let limit = SPAN * u32::try_from(SPANS).unwrap_or(u32::MAX);
        let recent = self.spans.iter().flatten().filter(|(began, _)| now.since(*began) < limit);
        recent.map(|(_, worst)| *worst).max().filter(|worst| *worst > heartbeat / NOTABLE_PARTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ms, s};

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    #[test]
    fn the_worst_of_the_last_minute_is_known_and_forgotten_after_it() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.worst(START, s(1)), None);
        assert_eq!(lateness.note(START + ms(300), Some(START)), ms(300));
        lateness.note(START + s(1), Some(START + ms(999)));
        assert_eq!(lateness.worst(START + s(59), s(1)), Some(ms(300)));
        assert_eq!(lateness.worst(START + s(61), s(1)), None);
    }

    #[test]
    fn a_tenth_of_a_heartbeat_is_no_news() {
        let mut lateness = Lateness::default();
        lateness.note(START + ms(100), Some(START));
        assert_eq!(lateness.worst(START + ms(100), s(1)), None);
        assert_eq!(lateness.worst(START + ms(100), ms(500)), Some(ms(100)));
    }

    #[test]
    fn what_is_in_time_or_due_at_no_time_is_not_late() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.note(START, Some(START + s(1))), Duration::ZERO);
        assert_eq!(lateness.note(START, None), Duration::ZERO);
        assert_eq!(lateness.worst(START, ms(1)), None);
    }

    #[test]
    fn more_spans_than_are_kept_drop_the_oldest_alone() {
        let mut lateness = Lateness::default();
        for span in 0..8 {
            let now = START + s(10) * span;
            lateness.note(now, Some(now - ms(500) - ms(10) * (8 - span)));
        }
        // The first two are more than a minute old.
        assert_eq!(lateness.worst(START + s(70), s(1)), Some(ms(560)));
    }
}
