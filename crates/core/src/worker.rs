//! One worker: the role of one resource on this node, with the queue of its hooks.
//!
//! This page is the vocabulary between the worker's decisions and its process: [`Input`]s with the time go in, [`Action`]s come
//! out. What the roles decide stands in `primary.rs`, `secondary.rs` and `watchdog.rs`; this file keeps what they share: state,
//! hooks, the report, and how a worker ends.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::config::{Address, Resource};
use crate::event::{Event, GiveUp};
use crate::hooks::{Call, Exit, Finished, Hook, HookAction, HookQueue, Limits, Outcome, Reason};
use crate::primary::Primary;
use crate::rate_limit::RateLimit;
use crate::secondary::Secondary;
use crate::time::{Duration, Instant};
use crate::types::{Role, State};
use crate::watchdog::Watchdog;

/// A worker that ends calls `stop` at most this often when it fails: after that somebody must look.
pub(crate) const LAST_STOP_TRIES: u32 = 3;
/// Between these calls it waits so long: what is short for a moment (processes, memory) may be there again.
pub(crate) const LAST_STOP_PAUSE: Duration = Duration::from_secs(1);

/// Names one attempt to connect, and the connection that comes of it; never used twice within a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId(pub u64);

/// What the main daemon tells a worker first: all that it needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The resource, as configured for this node.
    pub resource: Resource,
    /// The role to play.
    pub role: Role,
    /// The role before, when the script has not been told of the change yet.
    pub changed_from: Option<Role>,
    /// The remote that is expected to be dead, because its failure is why this node takes over.
    pub replaces: Option<Address>,
}

/// What the main daemon tells a worker later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// End: stop what runs here, close the connections, go.
    End {
        /// Why, for the environment of `stop`.
        reason: String,
        /// Somebody waits for the end: hooks that only tell the script of something get a heartbeat, not their whole time.
        hurry: bool,
    },
    /// End, and nobody follows who would find what runs here: the same, in a hurry, and a secondary stops what it is not sure of.
    Leave {
        /// Why, for the environment of `stop`.
        reason: String,
    },
    /// A watchdog has polled this node for the resource.
    Polled,
    /// A complaint has been heard: tell the script.
    Complaint,
    /// New settings; `exec` is as before.
    Reconfigure(Box<Resource>),
}

/// What happens to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A deadline has passed.
    Timer,
    /// The main daemon has spoken.
    Order(Order),
    /// The main daemon is gone.
    DaemonGone,
    /// The process of a hook has ended.
    HookExited {
        /// Which call.
        id: u64,
        /// How.
        exit: Exit,
    },
    /// Primary: news from a connection to a secondary.
    Link(LinkId, LinkEvent),
    /// Secondary: a primary has connected.
    PrimaryConnected {
        /// The connection.
        link: LinkId,
        /// The primary's address.
        from: String,
    },
    /// Secondary: the primary asks for the state here.
    Heartbeat {
        /// On this connection.
        link: LinkId,
        /// The number of the question.
        seq: u64,
    },
    /// Secondary: the connection from the primary is gone.
    PrimaryLost {
        /// Which.
        link: LinkId,
        /// Why.
        why: String,
    },
    /// Watchdog: a poll was answered, or why not.
    Polled {
        /// Which poll.
        link: LinkId,
        /// What the remote is and how its resource does.
        answer: Result<(Role, State), String>,
    },
}

/// News from a primary's connection to a secondary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Both handshakes are done.
    Up,
    /// The remote does not want us.
    Refused {
        /// In its words.
        message: String,
        /// Its priority, when it is a primary with a better one.
        priority: Option<i32>,
    },
    /// The remote answered a heartbeat: with the state there, or with an error number.
    Answer {
        /// The number of the heartbeat.
        seq: u64,
        /// The state, or an error number.
        state: Result<State, i16>,
    },
    /// It could not be made, or is gone.
    Failed(String),
    /// The remote takes connections, but did not answer the handshake in time.
    Silent(String),
}

/// What a worker's process shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the script; tell of its end with [`Input::HookExited`].
    RunHook(Call),
    /// Send TERM to the process group of a call.
    TerminateHook(u64),
    /// Send KILL to the process group of a call.
    KillHook(u64),
    /// Connect to a secondary, with both steps of the handshake, all within the resource's `timeout`.
    Connect(LinkId, Address),
    /// Send a heartbeat over a connection that is up.
    SendHeartbeat {
        /// The connection.
        link: LinkId,
        /// The state here.
        state: State,
        /// The number of the heartbeat.
        seq: u64,
    },
    /// Secondary: answer a heartbeat.
    AnswerHeartbeat {
        /// The connection.
        link: LinkId,
        /// The number of the question.
        seq: u64,
        /// The state here.
        state: State,
    },
    /// Close a connection, or give up making it.
    Disconnect(LinkId),
    /// Watchdog: ask a remote for role and state, within the resource's `timeout`.
    Poll(LinkId, Address),
    /// Watchdog: complain to a remote. No answer is expected.
    Complain(Address),
    /// Secondary: the connection from the primary is gone; the main daemon shall know.
    PrimaryGone(LinkId),
    /// The report for `status` has changed.
    Report(Report),
    /// Tell the administrator.
    Event(Event),
    /// All is done: tell the main daemon and end the process.
    Exit(Farewell),
}

/// What a worker knows, for `status` here and for polls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The state of the resource here; for a watchdog, of the resource as a whole.
    pub state: State,
    /// Attempts to start it since it last ran.
    pub attempts: u32,
    /// The remotes, in the order of the configuration.
    pub remotes: Vec<RemoteReport>,
    /// Watchdog: its own complaints within the interval.
    pub complaints: u32,
}

/// What a worker knows of a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoteReport {
    /// Primary and secondary: whether there is a connection.
    Connected(bool),
    /// Watchdog: what the last poll said.
    Polled(Option<Role>, State),
}

/// The last word of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Farewell {
    /// It was told to end.
    AsOrdered,
    /// It gave up its role.
    GaveUp(GiveUp),
}

/// The role machine and what the roles share.
#[derive(Debug)]
pub struct Worker {
    base: Base,
    duty: Duty,
}

#[derive(Debug)]
enum Duty {
    /// Only tells the script of the change to init.
    Init,
    Primary(Primary),
    Secondary(Secondary),
    Watchdog(Watchdog),
}

impl Worker {
    /// A worker that takes up its role.
    pub fn new(now: Instant, assignment: Assignment) -> (Self, Vec<Action>) {
        let Assignment { resource, role, changed_from, replaces } = assignment;
        let hooks = HookQueue::new(Limits::of(&resource));
        let mut base = Base {
            resource,
            state: State::Unknown,
            attempts: 0,
            hooks,
            finished: VecDeque::new(),
            last_status: None,
            ending: None,
            next_link: 1,
            reported: None,
            report_due: now,
            floods: RateLimit::default(),
            out: Vec::new(),
        };
        if let Some(old) = changed_from {
            base.call(now, Hook::Role { old, new: role }, "the role has changed");
        }
        let duty = match role {
            Role::Init => Duty::Init,
            Role::Primary => Duty::Primary(Primary::new(now, &base, replaces.as_ref())),
            Role::Secondary => Duty::Secondary(Secondary::new(now)),
            Role::Watchdog => Duty::Watchdog(Watchdog::new(now, &base)),
        };
        let mut worker = Self { base, duty };
        if matches!(worker.duty, Duty::Init) {
            worker.end(now, Farewell::AsOrdered, "", EndMode::Orderly);
        }
        worker.tick(now);
        let actions = worker.finish_turn(now);
        (worker, actions)
    }

    /// Something happened: what shall be done?
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Action> {
        self.look_at_the_clock(now);
        match input {
            Input::Timer => {}
            Input::Order(order) => self.obey(now, order),
            Input::DaemonGone => {
                if self.base.ending.as_ref().is_none_or(|ending| ending.mode != EndMode::Orphaned) {
                    self.base.event(Event::DaemonGone);
                    self.end(now, Farewell::AsOrdered, "the main daemon is gone", EndMode::Orphaned);
                }
            }
            Input::HookExited { id, exit } => self.base.hook_exited(now, id, exit),
            Input::Link(link, event) => {
                if let Duty::Primary(primary) = &mut self.duty {
                    primary.on_link(now, &mut self.base, link, event);
                }
            }
            Input::PrimaryConnected { link, from } => match &mut self.duty {
                Duty::Secondary(secondary) if self.base.ending.is_none() => {
                    secondary.on_connected(now, &mut self.base, link, from);
                }
                _ => self.base.act(Action::Disconnect(link)),
            },
            Input::Heartbeat { link, seq } => {
                if let Duty::Secondary(secondary) = &mut self.duty {
                    secondary.on_heartbeat(now, &mut self.base, link, seq);
                }
            }
            Input::PrimaryLost { link, why } => {
                if let Duty::Secondary(secondary) = &mut self.duty {
                    secondary.on_lost(now, &mut self.base, link, why);
                }
            }
            Input::Polled { link, answer } => {
                if let Duty::Watchdog(watchdog) = &mut self.duty {
                    watchdog.on_answer(now, &mut self.base, link, answer);
                }
            }
        }
        self.tick(now);
        self.finish_turn(now)
    }

    /// When [`handle`](Self::handle) wants to be called with [`Input::Timer`] at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let duty = match (&self.base.ending, &self.duty) {
            (Some(ending), duty) => {
                let touch = match duty {
                    Duty::Primary(primary) if ending.stop.is_some() => Some(primary.next_touch(&self.base)),
                    _ => None,
                };
                [touch, ending.stop_again_at, ending.goodbye_until].into_iter().flatten().min()
            }
            (None, Duty::Init) => None,
            (None, Duty::Primary(primary)) => Some(primary.next_deadline(&self.base)),
            (None, Duty::Secondary(secondary)) => Some(secondary.next_deadline(&self.base)),
            (None, Duty::Watchdog(watchdog)) => Some(watchdog.next_deadline()),
        };
        [duty, self.base.hooks.next_deadline(), self.base.floods.next_deadline()].into_iter().flatten().min()
    }

    /// The settings in force.
    pub const fn resource(&self) -> &Resource {
        &self.base.resource
    }

    fn obey(&mut self, now: Instant, order: Order) {
        match (order, &mut self.duty) {
            (Order::End { reason, hurry }, _) => {
                let mode = if hurry { EndMode::Hurried } else { EndMode::Orderly };
                self.end(now, Farewell::AsOrdered, reason, mode);
            }
            (Order::Leave { reason }, _) => self.end(now, Farewell::AsOrdered, reason, EndMode::Leaving),
            (Order::Polled, Duty::Primary(primary)) => primary.on_polled(now),
            (Order::Complaint, Duty::Secondary(_)) => {
                self.base.call(now, Hook::Complain, "a watchdog has complained");
            }
            (Order::Reconfigure(resource), duty) => {
                self.base.hooks.set_limits(Limits::of(&resource));
                let old = core::mem::replace(&mut self.base.resource, *resource);
                // By a shorter heartbeat it may be due already.
                self.base.report_due = now;
                match duty {
                    Duty::Primary(primary) => primary.reconfigure(now, &mut self.base, &old),
                    Duty::Secondary(secondary) => secondary.reconfigure(now, &mut self.base),
                    Duty::Watchdog(watchdog) => watchdog.reconfigure(now, &mut self.base, &old),
                    Duty::Init => {}
                }
            }
            (Order::Polled | Order::Complaint, _) => {}
        }
    }

    /// Everything that depends on the time or on a hook that is over.
    fn tick(&mut self, now: Instant) {
        self.base.hooks_on_timer(now);
        while let Some(finished) = self.base.finished.pop_front() {
            if self.base.ending.is_some() {
                self.base.on_finished_while_ending(now, &finished);
            } else {
                match &mut self.duty {
                    Duty::Primary(primary) => primary.on_finished(now, &mut self.base, &finished),
                    Duty::Secondary(secondary) => secondary.on_finished(now, &mut self.base, &finished),
                    Duty::Watchdog(_) | Duty::Init => {}
                }
            }
        }
        if self.base.ending.is_none() {
            let verdict = match &mut self.duty {
                Duty::Primary(primary) => primary.on_timer(now, &mut self.base),
                Duty::Secondary(secondary) => secondary.on_timer(now, &mut self.base),
                Duty::Watchdog(watchdog) => watchdog.on_timer(now, &mut self.base),
                Duty::Init => None,
            };
            if let Some(give_up) = verdict {
                self.give_up(now, give_up);
            }
        }
        if let (Some(Ending { stop: Some(_), .. }), Duty::Primary(primary)) = (&self.base.ending, &mut self.duty) {
            primary.stay_in_touch(now, &mut self.base);
        }
        self.continue_ending(now);
    }

    /// News that have waited while this process was frozen must not hide how long that was.
    fn look_at_the_clock(&mut self, now: Instant) {
        if self.base.ending.is_some() {
            return;
        }
        let verdict = match &mut self.duty {
            Duty::Primary(primary) => primary.look_at_the_clock(now, &self.base),
            Duty::Watchdog(watchdog) => watchdog.on_timer(now, &mut self.base),
            Duty::Secondary(_) | Duty::Init => None,
        };
        if let Some(give_up) = verdict {
            self.give_up(now, give_up);
        }
    }

    fn give_up(&mut self, now: Instant, why: GiveUp) {
        self.base.event(Event::GivingUp(why.clone()));
        let reason = why.to_string();
        self.end(now, Farewell::GaveUp(why), reason, EndMode::Orderly);
    }

    /// Begins to end. A second call may only make it more urgent.
    fn end(&mut self, now: Instant, farewell: Farewell, reason: impl Into<Reason>, mode: EndMode) {
        let reason = reason.into();
        let begins = self.base.ending.is_none();
        let fresh =
            Ending { farewell, mode, reason: reason.clone(), stop: None, stop_again_at: None, goodbye_until: None };
        let ending = self.base.ending.get_or_insert(fresh);
        let is_more_urgent = mode > ending.mode;
        ending.mode = ending.mode.max(mode);
        let must_stop = match &self.duty {
            Duty::Primary(_) => begins,
            // What a secondary has to stop its successor would find, too, if there is one.
            Duty::Secondary(_) => {
                (begins || is_more_urgent) && mode >= EndMode::Leaving && self.base.state != State::Stopped
            }
            Duty::Watchdog(_) | Duty::Init => false,
        };
        if must_stop && ending.stop.is_none() {
            ending.stop = Some(1);
            ending.goodbye_until = None;
            self.base.hooks.hold_notices();
            self.base.stop_now(now, reason);
        }
        if let Duty::Primary(primary) = &mut self.duty {
            primary.stop_connecting(&mut self.base);
        }
    }

    /// What is left to do at the end, as soon as the resource is stopped.
    fn continue_ending(&mut self, now: Instant) {
        let Some(ending) = &mut self.base.ending else { return };
        if ending.stop.is_some() {
            if ending.stop_again_at.take_if(|at| now >= *at).is_some() {
                let reason = ending.reason.clone();
                self.base.stop_now(now, reason);
            }
            return;
        }
        let patience = match ending.mode {
            EndMode::Orderly => None,
            EndMode::Hurried | EndMode::Leaving => Some(self.base.resource.heartbeat_interval),
            EndMode::Orphaned => Some(Duration::ZERO),
        };
        if ending.goodbye_until.is_none() {
            let tell_script = ending.mode != EndMode::Orphaned;
            // Each hook has its own limit, and few are left: without hurry that is limit enough.
            ending.goodbye_until = Some(now + patience.unwrap_or(Duration::MAX));
            match &mut self.duty {
                Duty::Primary(primary) => primary.close_all(now, &mut self.base, tell_script),
                Duty::Secondary(secondary) => secondary.close(now, &mut self.base, tell_script),
                Duty::Watchdog(_) | Duty::Init => {}
            }
        }
        let Some(ending) = &mut self.base.ending else { return };
        // It may have become urgent meanwhile.
        ending.goodbye_until =
            ending.goodbye_until.map(|until| patience.map_or(until, |patience| until.min(now + patience)));
        let out_of_patience = ending.goodbye_until.is_some_and(|until| now >= until);
        if self.base.hooks.is_idle() || out_of_patience {
            let farewell = ending.farewell.clone();
            self.base.kill_running();
            self.base.act(Action::Exit(farewell));
        }
    }

    fn finish_turn(&mut self, now: Instant) -> Vec<Action> {
        let split = |action| match action {
            Action::Event(event) => Ok((None, event)),
            other => Err(other),
        };
        let out = core::mem::take(&mut self.base.out);
        let mut actions = self.base.floods.hold_back(now, out, split, |_, event| Action::Event(event));
        let report = self.report(now);
        if self.base.reported.as_ref() != Some(&report) || now >= self.base.report_due {
            self.base.report_due = now + self.base.heartbeat();
            self.base.reported = Some(report.clone());
            // Before everything else: whoever acts on what follows may ask for the report.
            actions.insert(0, Action::Report(report));
        }
        actions
    }

    fn report(&self, now: Instant) -> Report {
        let resource = &self.base.resource;
        let (remotes, complaints) = match &self.duty {
            Duty::Init => (Vec::new(), 0),
            Duty::Primary(primary) => (primary.remotes(), 0),
            Duty::Secondary(secondary) => (secondary.remotes(resource), 0),
            Duty::Watchdog(watchdog) => (watchdog.remotes(), watchdog.complaints(now, resource)),
        };
        Report { state: self.base.state, attempts: self.base.attempts, remotes, complaints }
    }
}

/// How a worker ends; the later, the more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EndMode {
    /// Connections are closed and the script is told of it.
    Orderly,
    /// The same, but a script that is slow to take note is not waited for.
    Hurried,
    /// The same, and nobody follows who would find what still runs.
    Leaving,
    /// The main daemon is gone: only the resource matters.
    Orphaned,
}

#[derive(Debug)]
struct Ending {
    farewell: Farewell,
    mode: EndMode,
    reason: Reason,
    /// The `stop` that is under way, counted from 1; `None` when there is nothing (more) to stop.
    stop: Option<u32>,
    /// When `stop` is tried again.
    stop_again_at: Option<Instant>,
    /// Set when connections are closed and the script has been asked to take note: how long it may take at most.
    goodbye_until: Option<Instant>,
}

/// What the roles share.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) resource: Resource,
    pub(crate) state: State,
    pub(crate) attempts: u32,
    hooks: HookQueue,
    /// Hooks that are over, and what they mean not yet decided.
    finished: VecDeque<Finished>,
    /// What the last `status` came to: the same trouble is told once, not at every heartbeat.
    last_status: Option<Outcome>,
    ending: Option<Ending>,
    next_link: u64,
    reported: Option<Report>,
    /// The next report is due even if it says nothing new: it is the worker's sign of life.
    report_due: Instant,
    floods: RateLimit,
    out: Vec<Action>,
}

impl Base {
    pub(crate) fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.act(Action::Event(event));
    }

    pub(crate) fn new_link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        self.resource.heartbeat_interval
    }

    /// Whether a call of this kind runs or waits.
    pub(crate) fn is_calling(&self, hook: Hook) -> bool {
        self.hooks.has(hook)
    }

    pub(crate) fn set_state(&mut self, new: State) {
        if self.state != new {
            let old = core::mem::replace(&mut self.state, new);
            self.event(Event::StateChanged { old, new });
        }
    }

    pub(crate) fn call(&mut self, now: Instant, hook: Hook, reason: impl Into<Reason>) {
        let mut actions = Vec::new();
        self.hooks.push(now, hook, reason, &mut actions);
        self.carry_out(actions);
    }

    /// Stops the resource, whatever hook runs.
    pub(crate) fn stop_now(&mut self, now: Instant, reason: impl Into<Reason>) {
        self.set_state(State::Stopping);
        let mut actions = Vec::new();
        self.hooks.push_urgent_stop(now, reason, &mut actions);
        self.carry_out(actions);
    }

    /// Ends a hook that nobody waits for any more.
    fn kill_running(&mut self) {
        let running = self.hooks.running();
        self.out.extend(running.map(Action::KillHook));
    }

    fn hook_exited(&mut self, now: Instant, id: u64, exit: Exit) {
        let mut actions = Vec::new();
        self.hooks.on_exit(now, id, exit, &mut actions);
        self.carry_out(actions);
    }

    fn hooks_on_timer(&mut self, now: Instant) {
        let mut actions = Vec::new();
        self.hooks.on_timer(now, &mut actions);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<HookAction>) {
        for action in actions {
            match action {
                HookAction::Run(call) => self.act(Action::RunHook(call)),
                HookAction::Terminate(id) => self.act(Action::TerminateHook(id)),
                HookAction::Kill(id) => self.act(Action::KillHook(id)),
                HookAction::Slow(hook) => {
                    self.event(Event::HookSlow { hook, running_for: crate::hooks::REPORT_AFTER });
                }
                HookAction::Dropped(hook) => self.event(Event::HookDropped(hook)),
                HookAction::Finished(finished) => self.note_finished(finished),
            }
        }
    }

    fn note_finished(&mut self, finished: Finished) {
        let is_status = finished.hook == Hook::Status;
        let expected = finished.outcome.is_success() || (is_status && answer_of(&finished.outcome) == State::Stopped);
        let told_before = is_status && self.last_status.as_ref() == Some(&finished.outcome);
        if is_status {
            self.last_status = Some(finished.outcome.clone());
        }
        if !expected && !told_before {
            self.event(Event::HookFailed(finished.clone()));
        }
        self.finished.push_back(finished);
    }

    /// A `stop` that fails is checked with `status` and tried again, but not for ever: this worker has to end.
    fn on_finished_while_ending(&mut self, now: Instant, finished: &Finished) {
        let Some(Ending { stop: Some(tries), stop_again_at, .. }) = &mut self.ending else { return };
        let stopped = match finished.hook {
            Hook::Stop if !finished.outcome.is_success() => {
                self.call(now, Hook::Status, "stop has failed");
                return;
            }
            Hook::Stop => true,
            Hook::Status => answer_of(&finished.outcome) == State::Stopped,
            Hook::Start | Hook::Connect | Hook::Disconnect | Hook::Complain | Hook::Role { .. } => return,
        };
        if !stopped && *tries < LAST_STOP_TRIES {
            *tries += 1;
            *stop_again_at = Some(now + LAST_STOP_PAUSE);
            return;
        }
        if let Some(ending) = &mut self.ending {
            ending.stop = None;
        }
        let mut actions = Vec::new();
        self.hooks.release_notices(now, &mut actions);
        self.carry_out(actions);
        if stopped {
            self.set_state(State::Stopped);
        } else {
            self.set_state(State::Failed);
            self.event(Event::MayStillRun);
        }
    }
}

/// What `status` says: its exit code is its answer.
pub(crate) fn answer_of(outcome: &Outcome) -> State {
    match outcome {
        Outcome::Ended(Exit::Code(0)) => State::Run,
        Outcome::Ended(Exit::Code(1)) => State::Stopped,
        Outcome::Ended(_) | Outcome::TimedOut(_) | Outcome::CutShort | Outcome::Unkillable => State::Unknown,
    }
}

#[cfg(test)]
mod tests;
