//! Who may begin to start next. A failover of all that ran on a node must not start everything at once: so many resources have their turn at a
//! time (`max_hooks`), and the others wait for theirs, the one with the highest `weight` before others, those of equal weight in the order of
//! the file.
//!
//! Decides whose turn is next. Whether a resource wants one, and when it is over, is decided by its supervisor; nobody is ever told to stop
//! or to give anything back because of it.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use core::cmp::Reverse;

/// Where one resource stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It wants no turn.
    #[default]
    Idle,
    /// It waits for its turn.
    Waits(Rank),
    /// It is on its way to run.
    Taken,
}

/// The order of those that wait; the least is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Turns that came to nothing. Who cannot get the lease, whatever its weight, must not keep those waiting that can.
    pub(crate) in_vain: u32,
    pub(crate) weight: Reverse<i32>,
}

/// All that have a turn or wait for one, by their places in the list of the resources: which are in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    taken: BTreeSet<usize>,
    waiting: BTreeSet<(Rank, usize)>,
    /// Those of the waiting that have not been told so.
    untold: BTreeSet<usize>,
}

impl Turns {
    /// The resource at this place stands elsewhere than before.
    pub(crate) fn note(&mut self, at: usize, old: Stage, new: Stage) {
        if old == new {
            return;
        }
        match old {
            Stage::Idle => {}
            Stage::Waits(rank) => _ = self.waiting.remove(&(rank, at)),
            Stage::Taken => _ = self.taken.remove(&at),
        }
        match new {
            Stage::Idle => {}
            Stage::Waits(rank) => _ = self.waiting.insert((rank, at)),
            Stage::Taken => _ = self.taken.insert(at),
        }
        match (old, new) {
            (Stage::Waits(_), Stage::Waits(_)) => {}
            (_, Stage::Waits(_)) => _ = self.untold.insert(at),
            _ => _ = self.untold.remove(&at),
        }
    }

    /// Whose turn it is, while fewer than this have theirs.
    pub(crate) fn next(&self, limit: u32) -> Option<usize> {
        let is_free = self.taken.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        self.waiting.first().filter(|_| is_free).map(|(_, at)| *at)
    }

    /// One that waits, and has not been told so.
    pub(crate) fn take_untold(&mut self) -> Option<usize> {
        self.untold.pop_first()
    }

    /// What those wait for that wait, in words.
    pub(crate) fn told(&self, limit: u32) -> String {
        match self.taken.len() {
            1 => format!("waiting for its turn: 1 resource is being started (max_hooks {limit})"),
            many => format!("waiting for its turn: {many} resources are being started (max_hooks {limit})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const fn waits(in_vain: u32, weight: i32) -> Stage {
        Stage::Waits(Rank { in_vain, weight: Reverse(weight) })
    }

    /// Those that wait so, each at its place of the file.
    fn of(stages: &[Stage]) -> Turns {
        let mut turns = Turns::default();
        stages.iter().enumerate().for_each(|(at, stage)| turns.note(at, Stage::Idle, *stage));
        turns
    }

    /// Gives turns as long as there are any; in which order they were given.
    fn give(turns: &mut Turns, stages: &mut [Stage], limit: u32) -> Vec<usize> {
        let mut given = Vec::new();
        while let Some(at) = turns.next(limit) {
            turns.note(at, stages[at], Stage::Taken);
            stages[at] = Stage::Taken;
            given.push(at);
        }
        given
    }

    #[test]
    fn the_highest_weight_is_first_then_the_order_of_the_file() {
        let mut stages = [waits(0, 0), waits(0, 5), waits(0, -5), waits(0, 5), waits(0, 0)];
        let mut turns = of(&stages);
        assert_eq!(give(&mut turns, &mut stages, 10), [1, 3, 0, 4, 2]);
    }

    #[test]
    fn no_more_than_the_limit_have_a_turn_and_one_that_ends_is_given_to_the_next() {
        let mut stages = [waits(0, 0); 5];
        let mut turns = of(&stages);
        assert_eq!(give(&mut turns, &mut stages, 2), [0, 1]);
        assert_eq!(give(&mut turns, &mut stages, 2), [0; 0]);
        turns.note(1, Stage::Taken, Stage::Idle);
        assert_eq!(give(&mut turns, &mut stages, 2), [2]);
        // Nobody loses a turn because there are to be fewer.
        assert_eq!(give(&mut turns, &mut stages, 1), [0; 0]);
        assert_eq!(give(&mut turns, &mut stages, 4), [3, 4]);
    }

    #[test]
    fn who_had_a_turn_in_vain_comes_after_those_that_had_none() {
        let mut stages = [waits(1, 9), waits(0, 0), waits(2, 99)];
        let mut turns = of(&stages);
        assert_eq!(give(&mut turns, &mut stages, 10), [1, 0, 2]);
    }

    #[test]
    fn one_that_does_not_want_its_turn_any_more_is_passed_over() {
        let mut stages = [waits(0, 1), waits(0, 0)];
        let mut turns = of(&stages);
        turns.note(0, stages[0], Stage::Idle);
        assert_eq!(give(&mut turns, &mut stages, 1), [1]);
    }

    #[test]
    fn who_waits_is_told_so_once() {
        let mut stages = [waits(0, 1), waits(0, 0), waits(0, 0)];
        let mut turns = of(&stages);
        give(&mut turns, &mut stages, 1);
        turns.note(1, stages[1], waits(0, 7));
        assert_eq!((turns.take_untold(), turns.take_untold(), turns.take_untold()), (Some(1), Some(2), None));
        assert_eq!(turns.told(1), "waiting for its turn: 1 resource is being started (max_hooks 1)");
    }
}
