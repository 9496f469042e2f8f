//! The watchdog: hears a primary or polls everybody, at every heartbeat, and complains to the secondaries when no primary runs the resource.

use alloc::string::String;
use alloc::vec::Vec;

use crate::complaints::Complaints;
use crate::config::{Address, Resource};
use crate::event::{Event, GiveUp};
use crate::hooks::Hook;
use crate::members::Members;
use crate::primary::next_beat;
use crate::time::Instant;
use crate::timing::complaint_after;
use crate::types::{Role, State};
use crate::worker::{Action, Base, LinkId, RemoteReport};

/// A node that waits for its turn says so at every heartbeat; after so many without a word another wait begins.
const TURN_AWAITED_BEATS: u32 = 3;

#[derive(Debug)]
pub(crate) struct Watchdog {
    next_heartbeat: Instant,
    remotes: Vec<Polled>,
    /// A round of polls is under way that no judgement has ended yet.
    round_open: bool,
    complaints: Complaints,
    basis: Basis,
    /// Since when, and when last, a node has said that it waits for its turn to start the resource.
    turn_awaited: Option<(Instant, Instant)>,
}

/// What a watchdog goes by.
#[derive(Debug)]
enum Basis {
    /// Among originals: the answers to its polls.
    Polls,
    /// With the lease: a primary that runs the resource says so to the main daemon, which tells when it does not any more.
    Hears,
    /// With the lease: none does.
    Silent(Silence),
}

/// The time since a primary that runs the resource was heard of, and what was said of it.
#[derive(Debug)]
struct Silence {
    since: Instant,
    /// Heartbeats of it that were complained of.
    complained: u32,
}

impl Silence {
    const fn new(since: Instant) -> Self {
        Self { since, complained: 0 }
    }

    /// When the next complaint is due: at each heartbeat that has passed in silence.
    fn complaint_due(&self, resource: &Resource) -> Instant {
        self.since + complaint_after(resource, self.complained + 1)
    }
}

#[derive(Debug)]
struct Polled {
    address: Address,
    poll: Option<LinkId>,
    /// That poll was sent in an earlier round.
    overdue: bool,
    /// What it answered last; `None` when it did not.
    known: Option<(Role, State)>,
    /// It has answered since the last judgement.
    fresh: bool,
    told: Option<String>,
}

impl Polled {
    const fn new(address: Address) -> Self {
        Self { address, poll: None, overdue: false, known: None, fresh: false, told: None }
    }

    fn ask(&mut self, base: &mut Base) {
        let poll = base.new_link();
        (self.poll, self.overdue) = (Some(poll), false);
        base.act(Action::Poll(poll, self.address.clone()));
    }

    fn runs(&self) -> bool {
        self.fresh && self.known == Some((Role::Primary, State::Run))
    }
}

impl Watchdog {
    /// With a lease the other nodes are the business of [`Members`].
    pub(crate) fn new(now: Instant, base: &Base, has_lease: bool) -> Self {
        let originals = base.resource.remotes.iter().filter(|_| !has_lease);
        Self {
            next_heartbeat: now,
            remotes: originals.cloned().map(Polled::new).collect(),
            round_open: false,
            complaints: Complaints::default(),
            turn_awaited: None,
            basis: if has_lease { Basis::Silent(Silence::new(now)) } else { Basis::Polls },
        }
    }

    pub(crate) fn next_deadline(&self, base: &Base) -> Option<Instant> {
        match &self.basis {
            Basis::Polls => Some(self.next_heartbeat),
            Basis::Hears => None,
            Basis::Silent(silence) => Some(silence.complaint_due(&base.resource)),
        }
    }

    /// With the lease: a primary says by itself that it runs the resource, and will be heard until [`on_silence`](Self::on_silence).
    pub(crate) fn on_primary_beats(&mut self, base: &mut Base) {
        if !matches!(self.basis, Basis::Polls) {
            self.basis = Basis::Hears;
            base.set_state(State::Run);
        }
    }

    /// With the lease: no primary has said for a while that it runs the resource.
    pub(crate) fn on_silence(&mut self, since: Instant) {
        if self.hears_primary() {
            self.basis = Basis::Silent(Silence::new(since));
        }
    }

    /// Whether a primary that runs the resource says so at every heartbeat.
    pub(crate) const fn hears_primary(&self) -> bool {
        matches!(self.basis, Basis::Hears)
    }

    /// With the lease: a primary says that it runs the resource, because it was asked.
    pub(crate) fn on_primary_runs(&mut self, now: Instant, base: &mut Base) {
        if let Basis::Silent(silence) = &mut self.basis {
            *silence = Silence::new(now);
            base.set_state(State::Run);
        }
    }

    /// With the lease: a node waits for its turn to start the resource. So somebody minds it, and there is nothing to complain of; but not for
    /// longer than a complaint counts.
    pub(crate) fn on_turn_awaited(&mut self, now: Instant, base: &Base) {
        let Basis::Silent(silence) = &mut self.basis else { return };
        let goes_on = |(_, last): &(Instant, Instant)| now.since(*last) < base.heartbeat() * TURN_AWAITED_BEATS;
        let since = self.turn_awaited.filter(goes_on).map_or(now, |(since, _)| since);
        self.turn_awaited = Some((since, now));
        if now.since(since) < base.resource.complaint_interval {
            *silence = Silence::new(now);
        }
    }

    /// With the lease: one has given the lease back.
    pub(crate) fn on_released(&mut self, now: Instant, base: &mut Base, members: &Members) {
        self.on_silence(now);
        self.complain(now, base, members, true);
    }

    /// With the lease: complains of silence that has lasted for another heartbeat.
    fn mind_silence(&mut self, now: Instant, base: &mut Base, members: &Members) {
        let heartbeat = base.heartbeat();
        let Basis::Silent(silence) = &mut self.basis else { return };
        let due = silence.complaint_due(&base.resource);
        if now < due {
            return;
        }
        let late = now.since(due);
        if late > heartbeat / 2 {
            // The silence may be mine: begin anew instead of complaining.
            *silence = Silence::new(now);
            base.event(Event::WokeLate { by: late });
            return;
        }
        silence.complained += 1;
        self.complain(now, base, members, false);
    }

    /// With the lease: tells the secondaries that no primary runs the resource.
    fn complain(&mut self, now: Instant, base: &mut Base, members: &Members, released: bool) {
        base.set_state(State::Unknown);
        self.complaints.add(now);
        let count = self.complaints.within(now, base.resource.complaint_interval);
        base.event(Event::Complaining { count });
        members.complain(base, released);
        base.call(now, Hook::Complain, "no primary runs the resource");
    }

    /// At a heartbeat, who has not answered by now counts as silent: the settings promise a takeover in heartbeats, not in time-outs.
    pub(crate) fn on_timer(&mut self, now: Instant, base: &mut Base, members: Option<&Members>) -> Option<GiveUp> {
        if let Some(members) = members {
            self.mind_silence(now, base, members);
            return None;
        }
        if now < self.next_heartbeat {
            return None;
        }
        let late = now.since(self.next_heartbeat);
        if late > base.heartbeat() / 2 {
            // The silence may be mine: begin anew instead of complaining.
            base.event(Event::WokeLate { by: late });
        } else if self.round_open {
            self.judge(now, base);
        }
        self.next_heartbeat = next_beat(self.next_heartbeat, now, base.heartbeat());
        self.round_open = true;
        for remote in &mut self.remotes {
            remote.fresh = false;
            remote.overdue = remote.poll.is_some();
            if !remote.overdue {
                remote.ask(base);
            }
        }
        None
    }

    pub(crate) fn on_answer(
        &mut self,
        now: Instant,
        base: &mut Base,
        link: LinkId,
        answer: Result<(Role, State), String>,
    ) {
        let Some(remote) = self.remotes.iter_mut().find(|remote| remote.poll == Some(link)) else { return };
        remote.poll = None;
        match answer {
            Ok(known) => {
                remote.known = Some(known);
                remote.fresh = true;
                remote.told = None;
            }
            Err(why) => {
                remote.known = None;
                if remote.told.as_ref() != Some(&why) {
                    remote.told = Some(why.clone());
                    let remote = alloc::string::ToString::to_string(&remote.address);
                    base.event(Event::Unreachable { remote, why });
                }
                // This silence has been counted in the round in which it was asked.
                if remote.overdue {
                    remote.ask(base);
                }
            }
        }
        if self.round_open && self.remotes.iter().all(|remote| remote.poll.is_none()) {
            self.judge(now, base);
        }
    }

    /// Ends a round: is there a primary that runs the resource? If not, complain.
    fn judge(&mut self, now: Instant, base: &mut Base) {
        self.round_open = false;
        let runs = self.remotes.iter().any(Polled::runs);
        base.set_state(if runs { State::Run } else { State::Unknown });
        if runs {
            return;
        }
        self.complaints.add(now);
        let count = self.complaints.within(now, base.resource.complaint_interval);
        base.event(Event::Complaining { count });
        base.call(now, Hook::Complain, "no primary runs the resource");
        for remote in self.remotes.iter().filter(|remote| matches!(remote.known, Some((Role::Secondary, _)))) {
            base.act(Action::Complain(remote.address.clone()));
        }
    }

    /// New settings: what is known of remotes that stay is kept.
    pub(crate) fn reconfigure(&mut self, now: Instant, base: &mut Base, before: &Resource) {
        self.next_heartbeat = self.next_heartbeat.min(now + base.heartbeat());
        let mut old = core::mem::take(&mut self.remotes);
        let has_polls = matches!(self.basis, Basis::Polls);
        for address in base.resource.remotes.iter().filter(|_| has_polls).cloned().collect::<Vec<_>>() {
            let kept = old.iter().position(|remote| remote.address == address).map(|at| old.swap_remove(at));
            self.remotes.push(kept.unwrap_or_else(|| Polled::new(address)));
        }
        // A poll under way would go by the old limit. The silence is ours then, and the round begins anew.
        if base.resource.timeout != before.timeout {
            self.round_open = false;
            let polls = self.remotes.iter_mut().filter_map(|remote| remote.poll.take());
            polls.for_each(|poll| base.act(Action::Disconnect(poll)));
        }
    }

    pub(crate) fn remotes(&self) -> Vec<RemoteReport> {
        let report = |remote: &Polled| match remote.known {
            Some((role, state)) => RemoteReport::Polled(Some(role), state),
            None => RemoteReport::Polled(None, State::Unknown),
        };
        self.remotes.iter().map(report).collect()
    }

    pub(crate) fn complaints(&self, now: Instant, resource: &Resource) -> u32 {
        self.complaints.within(now, resource.complaint_interval)
    }
}

#[cfg(test)]
mod tests;
