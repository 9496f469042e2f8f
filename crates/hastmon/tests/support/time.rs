//! One clock for all tests, and one way to wait: until something is so, never for a while and in hope.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long a test waits for what must come. Generous: a busy machine may be slow, only a broken daemon never gets there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a waiting test looks.
const POLL: Duration = Duration::from_millis(20);

/// Nanoseconds since boot, on the clock that `/proc/uptime` shows as well.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// Nanoseconds as seconds, for people and for tables.
#[expect(clippy::cast_precision_loss, reason = "nobody reads nanoseconds of a test's age")]
pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Sleeps. Only for the loops here and for tests that let a span pass on purpose.
#[expect(clippy::disallowed_methods, reason = "a test has no event loop to block")]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// Waits until `found` gives something; panics with `what` after `PATIENCE`.
#[track_caller]
pub(crate) fn wait_some<T>(what: &str, found: impl FnMut() -> Option<T>) -> T {
    wait_some_within(PATIENCE, what, found)
}

/// As `wait_some`, with a span of its own.
#[track_caller]
pub(crate) fn wait_some_within<T>(span: Duration, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = now_ns();
    loop {
        // Asked once more after the end: a test that slept too long must not fail for that.
        let late = u128::from(now_ns() - start) > span.as_nanos();
        if let Some(found) = found() {
            return found;
        }
        assert!(!late, "waited {span:?} in vain until {what}");
        pause(POLL);
    }
}

/// Waits until `so`; panics with `what` after `PATIENCE`.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    wait_some(what, || so().then_some(()));
}

/// Looks for `span` long that something stays so; panics with `what` when it does not.
#[track_caller]
pub(crate) fn stays(span: Duration, what: &str, mut so: impl FnMut() -> bool) {
    let start = now_ns();
    while u128::from(now_ns() - start) < span.as_nanos() {
        assert!(so(), "after {:.1} s it is no longer so that {what}", seconds(now_ns() - start));
        pause(POLL);
    }
}
