//! What the main daemon of a watchdog hears of the primary, so that its worker need not be woken at every heartbeat: it is told when a primary
//! that runs the resource is heard, and when it is not heard any more. Both are said again until the worker's report shows that they have
//! arrived.

use crate::config::Resource;
use crate::time::Instant;
use crate::timing::complaint_after;
use crate::types::State;

#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When a primary said last that it runs the resource.
    heard: Option<Instant>,
    /// The worker was told so after it had begun: one that finds it out by asking goes on asking until it is told.
    told_runs: bool,
    /// When the worker was last told that none does.
    told_silence: Option<Instant>,
}

impl Watch {
    /// A primary says that it runs the resource; whether the worker must be told. `reported`: the state that it has reported last; one that
    /// has not begun hears nothing.
    pub(super) fn on_runs(&mut self, now: Instant, reported: Option<State>) -> bool {
        self.heard = Some(now);
        let takes_it_for_silent = self.told_silence.take().is_some();
        let was_told = core::mem::replace(&mut self.told_runs, reported.is_some());
        takes_it_for_silent || !was_told || reported != Some(State::Run)
    }

    /// The worker has been told that the lease was given back: it takes the primary for silent.
    pub(super) const fn on_released(&mut self, now: Instant) {
        self.told_silence = Some(now);
    }

    /// When the silence is to be told, to a worker that takes the primary for heard: when the first complaint is due.
    pub(super) fn deadline(&self, settings: &Resource) -> Option<Instant> {
        let heard = self.heard?;
        Some(match self.told_silence {
            None => heard + complaint_after(settings, 1),
            Some(told) => told + settings.heartbeat_interval,
        })
    }

    /// Since when there is silence, if the worker is to be told of it now.
    pub(super) fn tell_silence(&mut self, now: Instant, settings: &Resource) -> Option<Instant> {
        let is_due = self.deadline(settings).is_some_and(|due| now >= due);
        if !is_due {
            return None;
        }
        self.told_silence = Some(now);
        self.heard
    }
}
