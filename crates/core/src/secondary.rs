//! The secondary: makes sure that the resource does not run here, and tells a primary that asks.
//! Whether it takes over is decided in the main daemon ([`crate::supervisor`]), which hears the complaints.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::config::Resource;
use crate::event::{Event, GiveUp};
use crate::hooks::{Finished, Hook};
use crate::primary::next_beat;
use crate::time::{Duration, Instant};
use crate::types::State;
use crate::worker::{Action, Base, LinkId, RemoteReport, answer_of};

#[derive(Debug)]
pub(crate) struct Secondary {
    next_heartbeat: Instant,
    served: Option<Served>,
    /// The primary that the main daemon hears, with the lease.
    primary: Option<String>,
    /// A `status` has ended: it is known what there is to know.
    checked: bool,
    /// The `status` under way checks the work of a `stop`, which claimed success or not.
    confirms: Option<bool>,
    /// What `status` said after the last `stop`, when that was not "stopped".
    left_by_stop: Option<State>,
    /// The last `status` that could be asked said "stopped".
    seen_stopped: bool,
}

#[derive(Debug)]
struct Served {
    link: LinkId,
    from: String,
    last_heard: Instant,
}

impl Secondary {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            next_heartbeat: now,
            served: None,
            primary: None,
            checked: false,
            confirms: None,
            left_by_stop: None,
            seen_stopped: false,
        }
    }

    pub(crate) fn next_deadline(&self, base: &Base) -> Instant {
        let silence = self.served.as_ref().map(|served| served.last_heard + silence_limit(base));
        silence.map_or(self.next_heartbeat, |silence| silence.min(self.next_heartbeat))
    }

    pub(crate) fn remotes(&self, resource: &Resource) -> Vec<RemoteReport> {
        let connected = |address: &str| self.served.as_ref().is_some_and(|served| served.from == address);
        resource.remotes.iter().map(|remote| RemoteReport::Connected(connected(&remote.to_string()))).collect()
    }

    pub(crate) fn on_timer(&mut self, now: Instant, base: &mut Base) -> Option<GiveUp> {
        let limit = silence_limit(base);
        if let Some(served) = self.served.take_if(|served| now.since(served.last_heard) >= limit) {
            Self::lost(now, base, served, format!("no heartbeat for {limit:?}"));
        }
        if now >= self.next_heartbeat {
            self.next_heartbeat = next_beat(self.next_heartbeat, now, base.heartbeat());
            if !base.is_calling(Hook::Status) && !base.is_calling(Hook::Stop) {
                base.call(now, Hook::Status, "heartbeat");
            }
        }
        None
    }

    pub(crate) fn on_finished(&mut self, now: Instant, base: &mut Base, finished: &Finished) {
        match finished.hook {
            // Whatever `stop` says of itself, `status` tells what came of it.
            Hook::Stop => {
                self.confirms = Some(finished.outcome.is_success());
                base.call(now, Hook::Status, "stop has ended");
            }
            // Nobody has started it since, and a `stop` could not be started either.
            Hook::Status if finished.outcome.is_unasked() && self.seen_stopped => base.set_state(State::Unknown),
            Hook::Status => {
                let found = answer_of(&finished.outcome);
                self.checked = true;
                self.seen_stopped = found == State::Stopped;
                match self.confirms.take() {
                    _ if found == State::Stopped => {
                        // What runs from now on somebody has started on purpose.
                        base.must_stop = false;
                        self.left_by_stop = None;
                        base.set_state(State::Stopped);
                    }
                    Some(stop_succeeded) => self.after_stop(base, stop_succeeded, found),
                    None => self.stop(now, base, found),
                }
            }
            Hook::Start | Hook::Connect | Hook::Disconnect | Hook::Complain | Hook::Role { .. } => {}
        }
    }

    fn stop(&mut self, now: Instant, base: &mut Base, found: State) {
        if base.is_paused() && !base.must_stop {
            if found == State::Run && base.state != State::Run {
                base.event(Event::RunsWhilePaused);
            }
            return base.set_state(found);
        }
        // What the last `stop` left as it was is stopped again at every heartbeat; its state stays the same meanwhile.
        if self.left_by_stop != Some(found) {
            base.set_state(found);
            base.set_state(State::Stopping);
        }
        base.call(now, Hook::Stop, "a secondary does not run the resource");
    }

    /// A script that knows no "stopped" is believed when its `stop` succeeds; one that says "runs" is believed, too.
    fn after_stop(&mut self, base: &mut Base, stop_succeeded: bool, found: State) {
        let may_run = !stop_succeeded || found == State::Run;
        if may_run && base.state != State::Failed {
            base.event(Event::MayStillRun);
        }
        base.set_state(if may_run { State::Failed } else { State::Unknown });
        self.left_by_stop = Some(found);
    }

    /// New settings. A connection from who is still a remote is kept, and its silence counts from now.
    pub(crate) fn reconfigure(&mut self, now: Instant, base: &mut Base) {
        self.next_heartbeat = self.next_heartbeat.min(now + base.heartbeat());
        let stays = |from: &str| base.resource.remotes.iter().any(|remote| remote.to_string() == from);
        if let Some(gone) = self.served.take_if(|served| !stays(&served.from)) {
            Self::lost(now, base, gone, "it is no longer a remote".to_string());
        }
        if let Some(served) = &mut self.served {
            served.last_heard = now;
        }
    }

    pub(crate) fn on_connected(&mut self, now: Instant, base: &mut Base, link: LinkId, from: String) {
        if let Some(old) = self.served.take() {
            Self::lost(now, base, old, "a newer connection takes its place".to_string());
        }
        base.event(Event::Connected { remote: from.clone() });
        self.served = Some(Served { link, from, last_heard: now });
        base.call(now, Hook::Connect, "a primary has connected");
    }

    /// A primary has connected to the main daemon of this node, or is gone.
    pub(crate) fn served_by(&mut self, now: Instant, base: &mut Base, primary: Option<String>) {
        let before = core::mem::replace(&mut self.primary, primary);
        if before == self.primary {
            return;
        }
        if before.is_some() {
            base.call(now, Hook::Disconnect, "connection from the primary lost");
        }
        if self.primary.is_some() {
            base.call(now, Hook::Connect, "a primary has connected");
        }
    }

    /// With the lease: whether a primary is connected to this node.
    pub(crate) const fn hears_primary(&self) -> bool {
        self.primary.is_some()
    }

    pub(crate) fn on_heartbeat(&mut self, now: Instant, base: &mut Base, link: LinkId, seq: u64) {
        if let Some(served) = self.served.as_mut().filter(|served| served.link == link) {
            served.last_heard = now;
            let state = match base.state {
                // A primary that waits for us must not start before that, however long `status` takes.
                _ if !self.checked => State::Stopping,
                // Nor start what is known to run here, though it was to be stopped.
                State::Failed if self.left_by_stop == Some(State::Run) => State::Run,
                state => state,
            };
            base.act(Action::AnswerHeartbeat { link, seq, state });
        }
    }

    pub(crate) fn on_lost(&mut self, now: Instant, base: &mut Base, link: LinkId, why: String) {
        if let Some(served) = self.served.take_if(|served| served.link == link) {
            Self::lost(now, base, served, why);
        }
    }

    pub(crate) fn close(&mut self, now: Instant, base: &mut Base, tell_script: bool) {
        if self.primary.take().is_some() && tell_script {
            base.call(now, Hook::Disconnect, "connection from the primary closed");
        }
        if let Some(served) = self.served.take() {
            base.act(Action::Disconnect(served.link));
            if tell_script {
                base.call(now, Hook::Disconnect, "connection from the primary closed");
            }
        }
    }

    fn lost(now: Instant, base: &mut Base, served: Served, why: String) {
        base.act(Action::Disconnect(served.link));
        base.act(Action::PrimaryGone(served.link));
        base.event(Event::Disconnected { remote: served.from, why });
        base.call(now, Hook::Disconnect, "connection from the primary lost");
    }
}

/// Two heartbeats without a word from the primary, and the connection counts as lost (as in hastmon 0.3).
fn silence_limit(base: &Base) -> Duration {
    base.heartbeat() * 2
}

#[cfg(test)]
mod tests;
