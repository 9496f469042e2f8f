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
    told: Told,
}

/// What the worker was told last, since it has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    /// Nothing. Though it may find out by asking that a primary runs the resource, it goes on asking until it is told.
    #[default]
    Nothing,
    /// That a primary runs the resource.
    Runs,
    /// At this time, that none does.
    Silence(Instant),
}

impl Watch {
    /// A primary says that it runs the resource; whether the worker must be told. `reported`: the state that it has reported last; one that
    /// has not begun hears nothing.
    pub(super) fn on_runs(&mut self, now: Instant, reported: Option<State>) -> bool {
        self.heard = Some(now);
        let tells_now = if reported.is_some() { Told::Runs } else { Told::Nothing };
        core::mem::replace(&mut self.told, tells_now) != Told::Runs || reported != Some(State::Run)
    }

    /// The worker has been told that the lease was given back: it takes the primary for silent.
    pub(super) const fn on_released(&mut self, now: Instant) {
        self.told = Told::Silence(now);
    }

    /// When the silence is to be told, to a worker that takes the primary for heard: when the first complaint is due.
    pub(super) fn deadline(&self, settings: &Resource) -> Option<Instant> {
        let heard = self.heard?;
        Some(match self.told {
            Told::Nothing | Told::Runs => heard + complaint_after(settings, 1),
            Told::Silence(at) => at + settings.heartbeat_interval,
        })
    }

    /// Since when there is silence, if the worker is to be told of it now.
    pub(super) fn tell_silence(&mut self, now: Instant, settings: &Resource) -> Option<Instant> {
        self.deadline(settings).filter(|due| now >= *due)?;
        self.told = Told::Silence(now);
        self.heard
    }
}
