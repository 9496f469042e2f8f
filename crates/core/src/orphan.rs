//! What becomes of a call of the script that a worker which was killed has left running.

use core::time::Duration;

use crate::hooks::{Hook, KILL_GRACE, TERM_GRACE};

/// What to do with it at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Wait for its end.
    LetEnd,
    /// Ask it to end, and wait.
    Terminate,
    /// KILL it, and wait until it is gone.
    Kill,
    /// KILL it, and wait no longer.
    KillAndGoOn,
}

/// What to do with an orphan, `found_for` after it was found; `hook` is the event it was called for, by name.
pub fn treatment(hook: &str, in_haste: bool, stop_timeout: Duration, found_for: Duration) -> Treatment {
    let is_stop = hook == Hook::Stop.name();
    let patience = match hook {
        // Cut short, it would have to begin again, and twice its time may be more than is left of the lease.
        _ if is_stop => stop_timeout,
        // What runs must be stopped before the lease is over: there is no time to be gentle.
        _ if in_haste => Duration::ZERO,
        _ => TERM_GRACE,
    };
    // The others do no harm beside a `stop`, for which there is no time to lose with the lease.
    let is_in_the_way = is_stop || hook == Hook::Start.name() || !in_haste;
    match found_for {
        _ if found_for < patience && is_stop => Treatment::LetEnd,
        _ if found_for < patience => Treatment::Terminate,
        _ if found_for < patience + KILL_GRACE && is_in_the_way => Treatment::Kill,
        _ => Treatment::KillAndGoOn,
    }
}

/// The longest that a worker waits for orphans before it begins.
pub fn longest_wait(stop_timeout: Duration) -> Duration {
    stop_timeout.max(TERM_GRACE) + KILL_GRACE
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Duration = Duration::from_secs(5);

    fn steps(hook: &str, in_haste: bool) -> [Treatment; 6] {
        let milliseconds = [0, 1_999, 2_000, 4_999, 5_000, 7_000];
        milliseconds.map(|after| treatment(hook, in_haste, STOP, Duration::from_millis(after)))
    }

    #[test]
    fn each_orphan_has_its_end_in_time() {
        use Treatment::{Kill, KillAndGoOn, LetEnd, Terminate};
        for in_haste in [false, true] {
            assert_eq!(steps("stop", in_haste), [LetEnd, LetEnd, LetEnd, LetEnd, Kill, KillAndGoOn]);
        }
        assert_eq!(steps("start", true), [Kill, Kill, KillAndGoOn, KillAndGoOn, KillAndGoOn, KillAndGoOn]);
        assert_eq!(steps("status", true), [KillAndGoOn; 6]);
        for hook in ["start", "status", "role"] {
            assert_eq!(
                steps(hook, false),
                [Terminate, Terminate, Kill, KillAndGoOn, KillAndGoOn, KillAndGoOn],
                "{hook}"
            );
        }
    }

    #[test]
    fn nobody_waits_longer_than_is_said() {
        for hook in ["start", "stop", "status"] {
            for in_haste in [false, true] {
                for stop in [Duration::from_millis(10), STOP] {
                    assert_eq!(treatment(hook, in_haste, stop, longest_wait(stop)), Treatment::KillAndGoOn);
                }
            }
        }
    }
}
