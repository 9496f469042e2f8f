//! Watches where the resource runs: when, where, and whether ever on two hosts at once.

use super::agenda::Time;
use super::host::HostId;

#[derive(Debug, Default)]
pub(crate) struct Exclusion {
    running: Vec<HostId>,
    since: Time,
    /// When the resource ran on more than one host: from, to (open while it lasts).
    pub(crate) overlaps: Vec<(Time, Option<Time>)>,
    /// Each start and stop: when, where, whether it runs then.
    pub(crate) changes: Vec<(Time, HostId, bool)>,
    /// The epoch of the last start.
    epoch: u64,
    /// Other promises that were broken: when, which.
    pub(crate) violations: Vec<(Time, String)>,
    /// A record was lost, or an operator forced a start: epochs may go back.
    pub(crate) epochs_excused: bool,
}

impl Exclusion {
    /// Notes where it runs now; says whether this is the beginning of an overlap.
    pub(crate) fn note(&mut self, now: Time, running: Vec<HostId>) -> bool {
        let started = running.iter().filter(|host| !self.running.contains(host)).map(|host| (now, *host, true));
        let stopped = self.running.iter().filter(|host| !running.contains(host)).map(|host| (now, *host, false));
        self.changes.extend(started.chain(stopped));
        let (two_before, two_now) = (self.running.len() > 1, running.len() > 1);
        if self.running != running {
            self.since = now;
        }
        self.running = running;
        match (two_before, two_now) {
            (false, true) => self.overlaps.push((now, None)),
            (true, false) => self.overlaps.iter_mut().for_each(|(_, to)| *to = to.or(Some(now))),
            _ => {}
        }
        two_now && !two_before
    }

    pub(crate) fn violate(&mut self, now: Time, what: impl Into<String>) {
        self.violations.push((now, what.into()));
    }

    /// A `start` begins under an epoch.
    pub(crate) fn start(&mut self, now: Time, epoch: u64, is_forced: bool) {
        self.epochs_excused |= is_forced;
        if epoch < self.epoch && !self.epochs_excused {
            self.violate(now, format!("a start under epoch {epoch} after one under epoch {}", self.epoch));
        }
        self.epoch = epoch;
    }

    pub(crate) fn running(&self) -> &[HostId] {
        &self.running
    }

    /// Since when it runs where it runs now, and nowhere else.
    pub(crate) const fn since(&self) -> Time {
        self.since
    }

    /// How long it ran on two hosts at once, at the longest.
    pub(crate) fn longest_overlap(&self, now: Time) -> Time {
        self.overlaps.iter().map(|(from, to)| to.unwrap_or(now) - *from).max().unwrap_or_default()
    }
}
