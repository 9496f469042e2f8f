//! The primary: when to start, when to stop again, when to give the role up.
//!
//! At every heartbeat it asks `status` and tells the secondaries its state. It starts only when no connected remote runs the
//! resource; it gives up when starting does not help, when a better primary is there, and when nobody hears it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::config::{Address, Resource};
use crate::event::{Event, GiveUp};
use crate::hooks::{Finished, Hook, KILL_GRACE, TERM_GRACE};
use crate::lease::rules::{Rule, is_off};
use crate::members::Members;
use crate::time::{Duration, Instant};
use crate::types::State;
use crate::wire::session::Refusal;
use crate::worker::{Action, Base, LinkEvent, LinkId, RemoteReport, answer_of};

#[derive(Debug)]
pub(crate) struct Primary {
    since: Instant,
    next_heartbeat: Instant,
    remotes: Vec<Remote>,
    /// When a remote answered or somebody polled, last.
    last_contact: Instant,
    /// The last `status` found that the resource does not run; it is to be started as soon as that is allowed.
    wants_start: bool,
    /// What the script said last, of a `start` or a `status`, means that the resource runs.
    believed_running: bool,
    /// `start` has ended and the `status` that follows it at once has not: that one counts no attempt.
    just_started: bool,
    /// With the lease: when what runs without it was told to stop, last.
    stopped_without: Option<Instant>,
    /// What the start waits for, as told to the administrator.
    told_wait: Option<String>,
    outranked: Option<GiveUp>,
    /// The lease says how long to go on when nobody hears this node. Without one, among originals, silence does.
    has_lease: bool,
}

#[derive(Debug)]
struct Remote {
    address: Address,
    link: Link,
    /// The result of the first attempt to connect need not be waited for, or is known.
    tried: bool,
    /// Its failure is the reason for this role.
    replaced: bool,
    /// Since when it says that it is busy: alive, and perhaps not yet done with stopping.
    busy_since: Option<Instant>,
    /// Why there is no connection, as told to the administrator.
    told: Option<String>,
}

/// Whether the resource is started now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum MayStart {
    /// It runs, or what runs at the moment will tell whether it does.
    NotAsked,
    /// Not before this is over.
    Waits(String),
    /// It was tried as often as it may.
    TooManyAttempts(u32),
    Yes,
}

#[derive(Debug)]
enum Link {
    Down,
    Connecting(LinkId),
    Up(Session),
}

#[derive(Debug)]
struct Session {
    id: LinkId,
    seq: u64,
    /// Since when a heartbeat has been waiting for its answer.
    waits_since: Option<Instant>,
    answers: u32,
    state: State,
}

impl Session {
    /// A secondary answers "unknown" until its first `status` has ended. It gets one more heartbeat for that;
    /// one whose script never gives an answer must not keep the service down.
    fn is_settled(&self) -> bool {
        self.answers >= 2 || (self.answers == 1 && self.state != State::Unknown)
    }
}

impl Remote {
    const fn new(address: Address) -> Self {
        Self { address, link: Link::Down, tried: false, replaced: false, busy_since: None, told: None }
    }

    fn is(&self, link: LinkId) -> bool {
        match &self.link {
            Link::Down => false,
            Link::Connecting(id) => *id == link,
            Link::Up(session) => session.id == link,
        }
    }

    const fn session(&self) -> Option<&Session> {
        match &self.link {
            Link::Up(session) => Some(session),
            Link::Down | Link::Connecting(_) => None,
        }
    }

    /// A node that is changing its role says so, and needs at most the time of a `stop`. One that is busy for longer has another trouble.
    fn is_busy(&self, now: Instant, base: &Base) -> bool {
        let patience = base.resource.stop_timeout + TERM_GRACE + KILL_GRACE + base.resource.timeout;
        self.busy_since.is_some_and(|since| now.since(since) < patience)
    }
}

impl Primary {
    /// `replaces` is the remote whose failure made this node primary: it is not waited for.
    /// With a lease, the other nodes are the business of [`Members`].
    pub(crate) fn new(now: Instant, base: &Base, replaces: Option<&Address>, has_lease: bool) -> Self {
        let originals = base.resource.remotes.iter().filter(|_| !has_lease);
        let mut remotes: Vec<Remote> = originals.cloned().map(Remote::new).collect();
        for remote in &mut remotes {
            remote.replaced = replaces == Some(&remote.address);
            remote.tried = remote.replaced;
        }
        Self {
            since: now,
            next_heartbeat: now,
            remotes,
            last_contact: now,
            wants_start: false,
            believed_running: false,
            just_started: false,
            stopped_without: None,
            told_wait: None,
            outranked: None,
            has_lease,
        }
    }

    /// Another node is primary, and better.
    pub(crate) fn outranked_by(&mut self, give_up: GiveUp) {
        self.outranked = Some(give_up);
    }

    pub(crate) fn next_deadline(&self, base: &Base) -> Instant {
        let touch = self.next_touch(base);
        if self.expects_contact(&base.resource) {
            touch.min(self.last_contact + silence_limit(&base.resource))
        } else {
            touch
        }
    }

    /// When [`stay_in_touch`](Self::stay_in_touch) wants to be called next.
    pub(crate) fn next_touch(&self, base: &Base) -> Instant {
        let answers = self.remotes.iter().filter_map(Remote::session).filter_map(|session| session.waits_since);
        let answer = answers.min().map(|since| since + base.resource.timeout);
        answer.map_or(self.next_heartbeat, |answer| answer.min(self.next_heartbeat))
    }

    /// While the resource is stopped at the end: a secondary that hears nothing might take over before that is done.
    pub(crate) fn stay_in_touch(&mut self, now: Instant, base: &mut Base) {
        self.drop_silent(now, base);
        if now >= self.next_heartbeat {
            self.next_heartbeat = next_beat(self.next_heartbeat, now, base.heartbeat());
            for remote in &mut self.remotes {
                if let Link::Up(session) = &mut remote.link {
                    session.send_heartbeat(now, base);
                }
            }
        }
    }

    /// No connection that is made from now on would be of use: on the contrary, a new primary would yield to it.
    pub(crate) fn stop_connecting(&mut self, base: &mut Base) {
        for remote in &mut self.remotes {
            if let Link::Connecting(link) = remote.link {
                remote.link = Link::Down;
                base.act(Action::Disconnect(link));
            }
        }
    }

    pub(crate) fn on_polled(&mut self, now: Instant) {
        self.last_contact = now;
    }

    /// Whether nobody has heard this node for too long. It is asked before any news are heard: after this process was frozen, they are
    /// old.
    pub(crate) fn look_at_the_clock(&mut self, now: Instant, base: &Base) -> Option<GiveUp> {
        if !self.expects_contact(&base.resource) {
            self.last_contact = now;
            return None;
        }
        let silence = now.since(self.last_contact);
        (silence >= silence_limit(&base.resource)).then_some(GiveUp::Isolated(silence))
    }

    /// What depends on the time alone; says when the role is to be given up.
    pub(crate) fn on_timer(&mut self, now: Instant, base: &mut Base, members: Option<&Members>) -> Option<GiveUp> {
        if self.is_beginning(now, base) {
            self.last_contact = now;
        }
        if base.is_paused() {
            self.outranked = None;
        }
        if let Some(give_up) = self.outranked.take().or_else(|| self.look_at_the_clock(now, base)) {
            return Some(give_up);
        }
        self.drop_silent(now, base);
        if now >= self.next_heartbeat {
            self.next_heartbeat = next_beat(self.next_heartbeat, now, base.heartbeat());
            self.beat(now, base);
        }
        self.stop_without_lease(now, base, members);
        self.start_if_allowed(now, base, members)
    }

    /// What runs here, started by whomever, though this node has not got the lease, may run elsewhere as well.
    fn stop_without_lease(&mut self, now: Instant, base: &mut Base, members: Option<&Members>) {
        let is_let = members.is_none_or(|members| members.lease_ends().is_some());
        let is_early = self.stopped_without.is_some_and(|last| now.since(last) < base.heartbeat());
        if is_let || is_early || is_off(Rule::KeepUntil) || !self.believed_running || base.is_calling(Hook::Stop) {
            return;
        }
        self.stopped_without = Some(now);
        self.wants_start = false;
        base.event(Event::RunsWithoutLease);
        base.stop_now(now, "it runs without the lease");
    }

    pub(crate) fn on_finished(&mut self, now: Instant, base: &mut Base, finished: &Finished) {
        match finished.hook {
            Hook::Start => {
                self.just_started = true;
                self.believed_running = finished.outcome.is_success();
                base.call(now, Hook::Status, "start has ended");
            }
            Hook::Stop => {
                let stopped = finished.outcome.is_success();
                self.believed_running = false;
                base.set_state(if stopped { State::Stopped } else { State::Failed });
                if !stopped {
                    base.event(Event::MayStillRun);
                }
                base.call(now, Hook::Status, "stop has ended");
            }
            Hook::Status if finished.outcome.is_unasked() && self.believed_running => self.leave_alone(base),
            Hook::Status => self.on_status(base, answer_of(&finished.outcome)),
            Hook::Connect | Hook::Disconnect | Hook::Complain | Hook::Role { .. } => {}
        }
    }

    fn on_status(&mut self, base: &mut Base, answer: State) {
        let just_started = core::mem::take(&mut self.just_started);
        self.believed_running = answer == State::Run;
        if answer == State::Run {
            base.attempts = 0;
            base.set_state(State::Run);
        } else if !just_started {
            // A stop that failed and a status that knows nothing: it may still run.
            if base.state != State::Failed || answer == State::Stopped {
                base.set_state(answer);
            }
        }
        self.wants_start = answer != State::Run && !just_started;
    }

    /// Whatever keeps the script from being started (the machine is out of processes, the file is gone) is no news of the resource. To
    /// count attempts would end in giving up without being able to stop: another node would start what still runs here.
    fn leave_alone(&mut self, base: &mut Base) {
        self.just_started = false;
        self.wants_start = false;
        if base.state != State::Unknown {
            base.event(Event::LeftAlone);
            base.set_state(State::Unknown);
        }
    }

    pub(crate) fn on_link(&mut self, now: Instant, base: &mut Base, link: LinkId, event: LinkEvent) {
        let Some(remote) = self.remotes.iter_mut().find(|remote| remote.is(link)) else { return };
        match event {
            LinkEvent::Up => {
                self.last_contact = now;
                let mut session = Session { id: link, seq: 0, waits_since: None, answers: 0, state: State::Unknown };
                session.send_heartbeat(now, base);
                remote.link = Link::Up(session);
                remote.tried = true;
                remote.busy_since = None;
                remote.replaced = false;
                remote.told = None;
                let name = remote.address.to_string();
                base.event(Event::Connected { remote: name });
                base.call(now, Hook::Connect, "connected to a secondary");
            }
            LinkEvent::Answer { seq, state } => {
                if remote.on_answer(now, base, seq, state) {
                    self.last_contact = now;
                }
                self.stop_if_remote_runs(now, base);
            }
            LinkEvent::Refused { message, priority } => {
                let ours = base.resource.priority;
                if let Some(theirs) = priority.filter(|theirs| *theirs < ours) {
                    self.outranked = Some(GiveUp::Outranked { remote: remote.address.to_string(), theirs, ours });
                }
                let busy_since = remote.busy_since.unwrap_or(now);
                remote.lose(now, base, format!("refused: {message}"));
                remote.busy_since = (message == Refusal::Busy.to_string()).then_some(busy_since);
            }
            LinkEvent::Failed(why) => remote.lose(now, base, why),
            // An original answers only when its `stop` is done. The one that this node replaces is silent because it hangs.
            LinkEvent::Silent(why) => {
                let busy_since = remote.busy_since.unwrap_or(now);
                remote.lose(now, base, why);
                remote.busy_since = (!remote.replaced).then_some(busy_since);
            }
            // Of protocol 1, which is not spoken with originals.
            LinkEvent::Welcome(_) | LinkEvent::Heard(_) => {}
        }
    }

    /// New settings: connections to remotes that stay are kept. What was no silence by the settings before is none by the new ones.
    pub(crate) fn reconfigure(&mut self, now: Instant, base: &mut Base, before: &Resource) {
        if !self.expects_contact(before) || silence_limit(&base.resource) < silence_limit(before) {
            self.last_contact = now;
        }
        let mut old = core::mem::take(&mut self.remotes);
        for address in base.resource.remotes.iter().filter(|_| !self.has_lease).cloned().collect::<Vec<_>>() {
            let kept = old.iter().position(|remote| remote.address == address).map(|at| old.swap_remove(at));
            self.remotes.push(kept.unwrap_or_else(|| Remote::new(address)));
        }
        for mut remote in old {
            remote.close(now, base, true);
        }
        // What is under way would go by the old limit.
        if base.resource.timeout != before.timeout {
            let attempts = self.remotes.iter_mut().filter(|remote| matches!(remote.link, Link::Connecting(_)));
            attempts.for_each(|remote| remote.close(now, base, false));
        }
        self.next_heartbeat = self.next_heartbeat.min(now + base.heartbeat());
    }

    pub(crate) fn close_all(&mut self, now: Instant, base: &mut Base, tell_script: bool) {
        for remote in &mut self.remotes {
            remote.close(now, base, tell_script);
        }
    }

    pub(crate) fn remotes(&self) -> Vec<RemoteReport> {
        self.remotes.iter().map(|remote| RemoteReport::Connected(remote.session().is_some())).collect()
    }

    /// Silence begins when everybody had a chance to answer.
    fn is_beginning(&self, now: Instant, base: &Base) -> bool {
        now.since(self.since) < base.resource.timeout && self.remotes.iter().any(|remote| !remote.tried)
    }

    fn drop_silent(&mut self, now: Instant, base: &mut Base) {
        let timeout = base.resource.timeout;
        for remote in &mut self.remotes {
            let waits_since = remote.session().and_then(|session| session.waits_since);
            if waits_since.is_some_and(|since| now.since(since) >= timeout) {
                let link = remote.session().map(|session| session.id);
                remote.lose(now, base, format!("no answer for {timeout:?}"));
                link.into_iter().for_each(|link| base.act(Action::Disconnect(link)));
            }
        }
    }

    fn beat(&mut self, now: Instant, base: &mut Base) {
        for remote in &mut self.remotes {
            match &mut remote.link {
                Link::Up(session) => session.send_heartbeat(now, base),
                Link::Connecting(_) => {}
                Link::Down => {
                    let link = base.new_link();
                    remote.link = Link::Connecting(link);
                    base.act(Action::Connect(link, remote.address.clone()));
                }
            }
        }
        if !is_busy(base) {
            base.call(now, Hook::Status, "heartbeat");
        }
        self.stop_if_remote_runs(now, base);
    }

    fn stop_if_remote_runs(&mut self, now: Instant, base: &mut Base) {
        if !matches!(base.state, State::Run | State::Starting | State::Failed) || base.is_calling(Hook::Stop) {
            return;
        }
        // One that is stopping may have found no more than a script that gives no answer: no reason to stop what runs well here.
        if let Some((remote, state)) = self.remote_that_is(&[State::Run, State::Starting]) {
            base.event(Event::RemoteRunsToo { remote: remote.clone(), state });
            self.wants_start = false;
            self.just_started = false;
            base.stop_now(now, format!("{remote} reports {state}"));
        }
    }

    fn start_if_allowed(&mut self, now: Instant, base: &mut Base, members: Option<&Members>) -> Option<GiveUp> {
        let verdict = self.may_start(now, base, members);
        let wait = match &verdict {
            MayStart::NotAsked => return None,
            MayStart::Waits(why) => Some(why.clone()),
            MayStart::Yes | MayStart::TooManyAttempts(_) => None,
        };
        if wait != self.told_wait {
            if let Some(why) = wait.clone() {
                base.event(Event::StartWaits { why });
            }
            self.told_wait = wait;
        }
        match verdict {
            MayStart::NotAsked | MayStart::Waits(_) => return None,
            MayStart::TooManyAttempts(attempts) => {
                self.wants_start = false;
                return Some(GiveUp::StartsFailed(attempts));
            }
            MayStart::Yes => self.wants_start = false,
        }
        let limit = base.resource.attempts;
        base.attempts += 1;
        let attempt = base.attempts;
        base.event(Event::Starting { attempt, of: limit });
        base.set_state(State::Starting);
        base.call(now, Hook::Start, format!("attempt {attempt} of {limit}"));
        None
    }

    /// The decision to start.
    fn may_start(&self, now: Instant, base: &Base, members: Option<&Members>) -> MayStart {
        if !self.wants_start || is_busy(base) {
            return MayStart::NotAsked;
        }
        let wait = match members {
            _ if base.is_paused() => Some(base.flag.pause().to_string()),
            None => self.why_not_start(now, base),
            Some(members) if !members.claim().holds(now) && !is_off(Rule::StartInside) => {
                Some(members.why_no_lease(None))
            }
            Some(members) => members.that_runs().map(|(remote, state)| format!("{remote} reports {state}")),
        };
        match wait {
            Some(why) => MayStart::Waits(why),
            None if base.attempts >= base.resource.attempts => MayStart::TooManyAttempts(base.attempts),
            None => MayStart::Yes,
        }
    }

    /// What the start waited for when that was decided last.
    pub(crate) fn waits_for(&self) -> Option<&str> {
        self.told_wait.as_deref().filter(|_| self.wants_start)
    }

    /// Whether silence means something: with nobody to talk to it does not.
    fn expects_contact(&self, resource: &Resource) -> bool {
        !self.has_lease && (!resource.remotes.is_empty() || !resource.friends.is_empty())
    }

    fn why_not_start(&self, now: Instant, base: &Base) -> Option<String> {
        if let Some((remote, state)) = self.remote_that_is(&[State::Run, State::Starting, State::Stopping]) {
            return Some(format!("{remote} reports {state}"));
        }
        if let Some(remote) = self.remotes.iter().find(|remote| remote.is_busy(now, base)) {
            return Some(format!("{} is alive and may be stopping it", remote.address));
        }
        let patience = base.resource.timeout * 2;
        let open = self.remotes.iter().find(|remote| match &remote.link {
            Link::Up(session) => !session.is_settled(),
            Link::Down | Link::Connecting(_) => !remote.tried,
        })?;
        // The caller bounds each attempt to connect by `timeout`, and silence on a connection is bounded as well.
        (now.since(self.since) < patience || open.session().is_some())
            .then(|| format!("waiting to hear from {} that it does not run there", open.address))
    }

    fn remote_that_is(&self, states: &[State]) -> Option<(String, State)> {
        self.remotes.iter().find_map(|remote| {
            let session = remote.session().filter(|session| states.contains(&session.state))?;
            Some((remote.address.to_string(), session.state))
        })
    }
}

impl Session {
    fn send_heartbeat(&mut self, now: Instant, base: &mut Base) {
        self.seq += 1;
        self.waits_since.get_or_insert(now);
        base.act(Action::SendHeartbeat { link: self.id, state: base.state, seq: self.seq });
    }
}

impl Remote {
    /// Takes an answer; says whether it is one.
    fn on_answer(&mut self, now: Instant, base: &mut Base, seq: u64, state: Result<State, i16>) -> bool {
        let Link::Up(session) = &mut self.link else { return false };
        match state {
            Ok(_) if seq > session.seq => {
                let id = session.id;
                let asked = session.seq;
                self.lose(now, base, format!("it answered heartbeat {seq}, but only {asked} were sent"));
                base.act(Action::Disconnect(id));
            }
            Ok(state) => {
                session.state = state;
                session.answers = session.answers.saturating_add(1);
                session.waits_since = None;
                return true;
            }
            Err(number) => {
                let id = session.id;
                self.lose(now, base, format!("it answered with error {number}"));
                base.act(Action::Disconnect(id));
            }
        }
        false
    }

    /// The connection, or the attempt to make it, has come to nothing.
    fn lose(&mut self, now: Instant, base: &mut Base, why: String) {
        let was_up = self.session().is_some();
        self.link = Link::Down;
        self.tried = true;
        self.busy_since = None;
        let remote = self.address.to_string();
        if was_up {
            base.event(Event::Disconnected { remote, why });
            base.call(now, Hook::Disconnect, "connection to a secondary lost");
        } else if self.told.as_ref() != Some(&why) {
            self.told = Some(why.clone());
            base.event(Event::Unreachable { remote, why });
        }
    }

    fn close(&mut self, now: Instant, base: &mut Base, tell_script: bool) {
        match core::mem::replace(&mut self.link, Link::Down) {
            Link::Down => {}
            Link::Connecting(id) => base.act(Action::Disconnect(id)),
            Link::Up(session) => {
                base.act(Action::Disconnect(session.id));
                if tell_script {
                    base.call(now, Hook::Disconnect, "connection to a secondary closed");
                }
            }
        }
    }
}

/// Answers come once in a heartbeat: with less than two heartbeats of silence, a late one would be taken for isolation.
const LEAST_SILENT_HEARTBEATS: u32 = 2;

/// How long a primary goes on when nobody hears it (hastmon 0.3: complaint_count × heartbeat_interval).
fn silence_limit(resource: &Resource) -> Duration {
    resource.heartbeat_interval * resource.complaint_count.max(LEAST_SILENT_HEARTBEATS)
}

/// Something is under way whose end will tell more.
fn is_busy(base: &Base) -> bool {
    [Hook::Start, Hook::Stop, Hook::Status].into_iter().any(|hook| base.is_calling(hook))
}

/// The heartbeat after the one that was due: on the same grid, and in the future, however late this one is.
pub(crate) fn next_beat(due: Instant, now: Instant, interval: Duration) -> Instant {
    let next = due + interval;
    if next > now { next } else { now + interval }
}

#[cfg(test)]
mod tests;
