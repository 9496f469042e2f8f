//! The hooks of one resource: which one runs, which wait, how long each may take and what its end means.
//!
//! One at a time and in order; only a `stop` goes ahead of others, because everything else can wait for it.
//! Starting processes and sending signals is the caller's: this file returns [`HookAction`]s.

use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Resource;
use crate::lease::rules::{Rule, is_off};
use crate::time::{Duration, Instant, as_ms};
use crate::types::Role;

/// After TERM a hook's processes get this long to clean up before KILL.
pub const TERM_GRACE: Duration = Duration::from_secs(2);
/// A process that KILL does not end within this time hangs in the kernel: the queue goes on without it.
pub const KILL_GRACE: Duration = Duration::from_secs(2);
/// A hook that runs longer than this is reported, as hastmon 0.3 did.
pub const REPORT_AFTER: Duration = Duration::from_secs(30);
/// Hooks that may wait: more means that hooks take longer than the events that cause them, and old news help nobody.
pub const MAX_WAITING: usize = 64;
/// Complaints that may wait: `status` and `stop` stand behind them in the queue, and a friend may send any number.
pub const MAX_WAITING_COMPLAINTS: usize = 8;
/// Processes that KILL did not end. With so many left over, calls fail at once until one goes: each holds memory.
pub const MAX_LEFT_OVER: usize = 4;
/// A `stop` is tried even then: it is what keeps the resource from running twice. But not for ever.
pub const MAX_LEFT_OVER_FOR_STOP: usize = 8;

/// An event that the exec script is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Start the resource.
    Start,
    /// Stop the resource.
    Stop,
    /// Does it run? 0: yes, 1: no, anything else: unknown.
    Status,
    /// A connection to a remote was made.
    Connect,
    /// A connection to a remote was lost.
    Disconnect,
    /// A watchdog complained (on the watchdog and on the secondary that heard it).
    Complain,
    /// The role on this node has changed.
    Role {
        /// The role before.
        old: Role,
        /// The role now.
        new: Role,
    },
}

impl Hook {
    /// The first argument of the script.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Status => "status",
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::Complain => "complain",
            Self::Role { .. } => "role",
        }
    }

    /// The whole command line after the script's path.
    pub fn arguments(self, resource: &str) -> Vec<String> {
        let mut arguments = alloc::vec![self.name().to_string(), resource.to_string()];
        if let Self::Role { old, new } = self {
            arguments.extend([old.to_string(), new.to_string()]);
        }
        arguments
    }

    /// Only tells the script of something: its end changes no state.
    const fn is_notice(self) -> bool {
        matches!(self, Self::Connect | Self::Disconnect | Self::Complain)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long each kind of hook may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    start: Duration,
    stop: Duration,
    status: Duration,
    other: Duration,
}

impl Limits {
    /// The limits that the configuration of `resource` sets.
    pub fn of(resource: &Resource) -> Self {
        Self {
            start: resource.start_timeout,
            stop: resource.stop_timeout,
            status: resource.status_timeout,
            other: resource.hook_timeout,
        }
    }

    const fn of_hook(&self, hook: Hook) -> Duration {
        match hook {
            Hook::Start => self.start,
            Hook::Stop => self.stop,
            Hook::Status => self.status,
            Hook::Connect | Hook::Disconnect | Hook::Complain | Hook::Role { .. } => self.other,
        }
    }
}

/// Why a hook is called, for its environment and the log.
pub type Reason = Cow<'static, str>;

/// One call of the script; `id` is never used twice within a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Names the call in signals and in its exit.
    pub id: u64,
    /// What is asked.
    pub hook: Hook,
    /// Why.
    pub reason: Reason,
}

/// How the process of a hook ended, as the operating system tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It could not be started: why.
    NotStarted(String),
}

/// What the end of a hook means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It ended by itself (or by a signal that was not ours).
    Ended(Exit),
    /// It was ended because it outlived its limit.
    #[serde(rename = "timed_out_after_ms", with = "as_ms")]
    TimedOut(Duration),
    /// It was ended because a `stop` could not wait for it.
    CutShort,
    /// It outlived its limit and KILL as well: it hangs in the kernel.
    Unkillable,
}

impl Outcome {
    /// It did what was asked.
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Ended(Exit::Code(0)))
    }

    /// It did what was asked, or is a `status` that says that the resource does not run.
    pub const fn is_expected(&self, hook: Hook) -> bool {
        self.is_success() || matches!((hook, self), (Hook::Status, Self::Ended(Exit::Code(1))))
    }

    /// The script was not even asked: that says nothing of the resource.
    pub const fn is_unasked(&self) -> bool {
        matches!(self, Self::Ended(Exit::NotStarted(_)))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(Exit::Code(code)) => write!(f, "exit code {code}"),
            Self::Ended(Exit::Signal(signal)) => write!(f, "ended by signal {signal}"),
            Self::Ended(Exit::NotStarted(why)) => write!(f, "could not be started: {why}"),
            Self::TimedOut(limit) => write!(f, "ended because it ran longer than its limit of {limit:?}"),
            Self::CutShort => f.write_str("cut short for a stop"),
            Self::Unkillable => f.write_str("hangs in the kernel: KILL did not end it"),
        }
    }
}

/// A hook that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What was asked.
    pub hook: Hook,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it ran.
    pub took: Duration,
}

/// What the queue wants done or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookAction {
    /// Start the script.
    Run(Call),
    /// Send TERM to the process group of this call.
    Terminate(u64),
    /// Send KILL to the process group of this call.
    Kill(u64),
    /// This hook is over.
    Finished(Finished),
    /// This hook has been running for [`REPORT_AFTER`].
    Slow(Hook),
    /// This hook will not run: too many wait.
    Dropped(Hook),
}

#[derive(Debug)]
struct Running {
    call: Call,
    since: Instant,
    limit: Duration,
    stage: Stage,
    reported_slow: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Within its limit.
    Free,
    /// TERM was sent; KILL follows at `until`. What this end will mean is `outcome`.
    Terminated { until: Instant, outcome: Outcome },
    /// KILL was sent; given up at `until`.
    Killed { until: Instant, outcome: Outcome },
}

/// The queue of one resource.
#[derive(Debug)]
pub struct HookQueue {
    limits: Limits,
    next_id: u64,
    running: Option<Running>,
    waiting: VecDeque<Call>,
    /// Hooks that only tell the script of something wait for all others.
    holds_notices: bool,
    left_over: Vec<u64>,
}

impl HookQueue {
    /// An empty queue.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            next_id: 1,
            running: None,
            waiting: VecDeque::new(),
            holds_notices: false,
            left_over: Vec::new(),
        }
    }

    /// New limits, for calls that start from now on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }

    /// The call that runs.
    pub fn running(&self) -> Option<u64> {
        self.running.as_ref().map(|running| running.call.id)
    }

    /// How many calls it keeps.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.left_over.len() + usize::from(self.running.is_some())
    }

    /// Whether a call of this kind runs or waits.
    pub fn has(&self, hook: Hook) -> bool {
        self.running.as_ref().is_some_and(|running| running.call.hook == hook)
            || self.waiting.iter().any(|call| call.hook == hook)
    }

    /// Asks for a call. It runs after those before it; a `stop` runs before all that wait, and instead of waiting `status`
    /// and `start` calls; it ends a running `status` at once.
    pub fn push(&mut self, now: Instant, hook: Hook, reason: impl Into<Reason>, out: &mut Vec<HookAction>) {
        // One more complaint tells the script nothing that those which wait do not.
        let complaints = self.waiting.iter().filter(|call| call.hook == Hook::Complain).count();
        if hook == Hook::Complain && complaints >= MAX_WAITING_COMPLAINTS {
            return;
        }
        if hook.is_notice() && self.waiting.len() >= MAX_WAITING {
            out.push(HookAction::Dropped(hook));
            return;
        }
        let call = Call { id: self.next_id, hook, reason: reason.into() };
        self.next_id += 1;
        if hook == Hook::Stop {
            self.waiting.retain(|call| !matches!(call.hook, Hook::Start | Hook::Stop | Hook::Status));
            self.waiting.push_front(call);
            if self.running.as_ref().is_some_and(|running| running.call.hook == Hook::Status) {
                self.leave_running_behind(out);
            }
        } else {
            self.waiting.push_back(call);
        }
        self.run_next(now, out);
    }

    /// Asks for a `stop` that must not wait: whatever else runs is ended first. Does not ask twice.
    pub fn push_urgent_stop(&mut self, now: Instant, reason: impl Into<Reason>, out: &mut Vec<HookAction>) {
        if let Some(running) = &mut self.running
            && !matches!(running.call.hook, Hook::Stop | Hook::Status)
            && running.stage == Stage::Free
        {
            running.stage = Stage::Terminated { until: now + TERM_GRACE, outcome: Outcome::CutShort };
            out.push(HookAction::Terminate(running.call.id));
        }
        if !self.has(Hook::Stop) {
            self.push(now, Hook::Stop, reason, out);
        }
    }

    /// A `stop` that waits can wait no longer: what runs before it gets KILL. Only a `start` is waited for even then, because it could
    /// undo what `stop` does; it is gone within moments, unless it hangs in the kernel.
    pub fn make_way_for_stop(&mut self, now: Instant, out: &mut Vec<HookAction>) {
        if self.has_made_way() || is_off(Rule::MakeWay) {
            return;
        }
        let Some(running) = &mut self.running else { return };
        if running.call.hook == Hook::Start {
            running.stage = Stage::Killed { until: now + KILL_GRACE, outcome: Outcome::CutShort };
            out.push(HookAction::Kill(running.call.id));
        } else {
            self.leave_running_behind(out);
            self.run_next(now, out);
        }
    }

    /// Whether [`make_way_for_stop`](Self::make_way_for_stop) has nothing (more) to do.
    pub fn has_made_way(&self) -> bool {
        let is_waiting = self.waiting.iter().any(|call| call.hook == Hook::Stop);
        !is_waiting
            || is_off(Rule::MakeWay)
            || !self.running.as_ref().is_some_and(|running| !matches!(running.stage, Stage::Killed { .. }))
    }

    /// From now on what only tells the script of something waits: a `stop` and the check of its work must not stand behind it.
    pub const fn hold_notices(&mut self) {
        self.holds_notices = true;
    }

    /// The end of [`hold_notices`](Self::hold_notices).
    pub fn release_notices(&mut self, now: Instant, out: &mut Vec<HookAction>) {
        self.holds_notices = false;
        self.run_next(now, out);
    }

    /// The process of a call has ended.
    pub fn on_exit(&mut self, now: Instant, id: u64, exit: Exit, out: &mut Vec<HookAction>) {
        self.left_over.retain(|left| *left != id);
        if let Some(running) = self.running.take_if(|running| running.call.id == id) {
            let outcome = match running.stage {
                Stage::Free => Outcome::Ended(exit),
                Stage::Terminated { outcome, .. } | Stage::Killed { outcome, .. } => outcome,
            };
            out.push(finished(&running.call, outcome, now.since(running.since)));
        }
        self.run_next(now, out);
    }

    /// When [`on_timer`](Self::on_timer) wants to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        Some(match &running.stage {
            Stage::Free => {
                let end = running.since + running.limit;
                let report = running.since + REPORT_AFTER;
                if running.reported_slow || report > end { end } else { report }
            }
            Stage::Terminated { until, .. } | Stage::Killed { until, .. } => *until,
        })
    }

    /// Acts on limits that have passed.
    pub fn on_timer(&mut self, now: Instant, out: &mut Vec<HookAction>) {
        let Some(running) = &mut self.running else { return };
        match &running.stage {
            Stage::Free if now >= running.since + running.limit => {
                let outcome = Outcome::TimedOut(running.limit);
                running.stage = Stage::Terminated { until: now + TERM_GRACE, outcome };
                out.push(HookAction::Terminate(running.call.id));
            }
            Stage::Free if now >= running.since + REPORT_AFTER && !running.reported_slow => {
                running.reported_slow = true;
                out.push(HookAction::Slow(running.call.hook));
            }
            Stage::Terminated { until, outcome } if now >= *until => {
                running.stage = Stage::Killed { until: now + KILL_GRACE, outcome: outcome.clone() };
                out.push(HookAction::Kill(running.call.id));
            }
            Stage::Killed { until, .. } if now >= *until => {
                out.push(finished(&running.call, Outcome::Unkillable, now.since(running.since)));
                self.left_over.push(running.call.id);
                self.running = None;
                self.run_next(now, out);
            }
            Stage::Free | Stage::Terminated { .. } | Stage::Killed { .. } => {}
        }
    }

    /// A `stop` need not wait for a `status`: nothing depends on its answer any more.
    fn leave_running_behind(&mut self, out: &mut Vec<HookAction>) {
        if let Some(running) = self.running.take() {
            out.push(HookAction::Kill(running.call.id));
            self.left_over.push(running.call.id);
        }
    }

    fn next_waiting(&mut self) -> Option<Call> {
        let may_run = |call: &Call| !(self.holds_notices && call.hook.is_notice());
        self.waiting.iter().position(may_run).and_then(|at| self.waiting.remove(at))
    }

    fn run_next(&mut self, now: Instant, out: &mut Vec<HookAction>) {
        while self.running.is_none()
            && let Some(call) = self.next_waiting()
        {
            let limit = if call.hook == Hook::Stop { MAX_LEFT_OVER_FOR_STOP } else { MAX_LEFT_OVER };
            let left_over = self.left_over.len();
            if left_over >= limit {
                let why = format!("{left_over} earlier calls hang in the kernel");
                out.push(finished(&call, Outcome::Ended(Exit::NotStarted(why)), Duration::ZERO));
                continue;
            }
            out.push(HookAction::Run(call.clone()));
            let limit = self.limits.of_hook(call.hook);
            self.running = Some(Running { call, since: now, limit, stage: Stage::Free, reported_slow: false });
        }
    }
}

fn finished(call: &Call, outcome: Outcome, took: Duration) -> HookAction {
    HookAction::Finished(Finished { hook: call.hook, outcome, took })
}

#[cfg(test)]
mod tests;
