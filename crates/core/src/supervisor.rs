//! The main daemon's side of one resource: its role, the life of its worker, the handshakes of primaries, the complaints,
//! and with them the decision to take over ([`Supervisor::on_complaint`]).

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use subtle::ConstantTimeEq;

use crate::complaints::Complaints;
use crate::config::{Address, Resource};
use crate::daemon::{Action, ConnId, WorkerId};
use crate::event::{Event, GiveUp, RoleReason, StaysSecondary, WorkerNext};
use crate::hooks::{KILL_GRACE, TERM_GRACE};
use crate::time::{Duration, Instant};
use crate::types::{Role, State};
use crate::wire::session::{Answer, Refusal};
use crate::worker::{Assignment, Farewell, LAST_STOP_PAUSE, LAST_STOP_TRIES, LinkId, Order, Report};

/// A worker that died is followed by a new one after this pause, so that one that dies at once does not burn the machine.
pub const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Handshakes of one resource that may be half done: its remotes are few, and each needs one.
pub const MAX_HALF_OPEN: usize = 8;
/// The exit code of a worker that asks to be started again (sysexits: EX_TEMPFAIL).
const TEMPORARY_FAILURE: i32 = 75;

/// How a worker process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerExit {
    /// It said farewell.
    Farewell(Farewell),
    /// It ended with this code, without a farewell.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It could not be started.
    NotStarted(String),
}

/// One resource, as the main daemon sees it.
#[derive(Debug)]
pub struct Supervisor {
    settings: Resource,
    role: Role,
    previous: Role,
    /// The role that the script has been told of, by the worker that was started last.
    told: Role,
    /// The role that it knew before.
    told_before: Role,
    worker: Process,
    report: Option<Report>,
    complaints: Complaints,
    /// The connection from a primary that the worker serves.
    served: Option<(LinkId, Address)>,
    /// The primary whose connection was lost last.
    lost: Option<Address>,
    half_open: Vec<HalfOpen>,
    hold_off_until: Option<Instant>,
    /// Until then this is a new primary, which has had no time to call the others.
    fresh_until: Option<Instant>,
    /// The worker of a primary died, and nobody has found since that what it ran is stopped.
    unattended: bool,
    /// The worker that ends now was started only to stop that.
    cleaning: bool,
    leaving: bool,
}

#[derive(Debug)]
enum Process {
    None,
    Running(WorkerId),
    /// It was told to end; KILL follows at `kill_at`.
    Ending {
        id: WorkerId,
        kill_at: Option<Instant>,
    },
    Pausing(Instant),
}

/// A handshake whose first step has been made.
#[derive(Debug)]
struct HalfOpen {
    conn: ConnId,
    remote: Address,
    until: Instant,
    stage: Handshake,
}

#[derive(Debug)]
enum Handshake {
    /// The caller has this token and will come with it.
    Token([u8; 16]),
    /// The role is changing; the caller is answered when that is done.
    Waits { priority: i32, token: [u8; 16] },
}

/// What a [`Supervisor`] needs from the daemon while it decides: a place for actions and numbers that are used once.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) next_id: &'a mut u64,
    pub(crate) out: &'a mut Vec<Action>,
}

impl Context<'_> {
    fn new_id(&mut self) -> u64 {
        *self.next_id += 1;
        *self.next_id
    }

    fn refuse(&mut self, conn: ConnId, refusal: Refusal) {
        self.out.push(Action::Reply { conn, message: Answer::from(refusal).encode(), keep: false });
    }
}

impl Supervisor {
    /// A resource in the role init.
    pub(crate) fn new(settings: Resource) -> Self {
        Self {
            settings,
            role: Role::Init,
            previous: Role::Init,
            told: Role::Init,
            told_before: Role::Init,
            worker: Process::None,
            report: None,
            complaints: Complaints::default(),
            served: None,
            lost: None,
            half_open: Vec::new(),
            hold_off_until: None,
            fresh_until: None,
            unattended: false,
            cleaning: false,
            leaving: false,
        }
    }

    /// The configuration in force.
    pub const fn settings(&self) -> &Resource {
        &self.settings
    }

    /// The role.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What the worker reported last; nothing in the role init.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref().filter(|_| self.role != Role::Init)
    }

    /// The worker that runs, if any.
    pub const fn worker(&self) -> Option<WorkerId> {
        match self.worker {
            Process::Running(id) | Process::Ending { id, .. } => Some(id),
            Process::None | Process::Pausing(_) => None,
        }
    }

    /// Complaints that count: a watchdog's own, or those heard.
    pub(crate) fn complaints(&self, now: Instant) -> u32 {
        match (self.role, &self.report) {
            (Role::Watchdog, Some(report)) => report.complaints,
            _ => self.complaints.within(now, self.settings.complaint_interval),
        }
    }

    /// Nothing of it runs any more, and nothing shall.
    pub(crate) const fn is_gone(&self) -> bool {
        self.leaving && matches!(self.worker, Process::None)
    }

    /// Changes the role. The worker of the old role ends first.
    pub(crate) fn set_role(&mut self, cx: &mut Context<'_>, role: Role, reason: RoleReason) {
        if role == self.role || self.leaving {
            return;
        }
        self.event(cx, Event::RoleChanged { old: self.role, new: role, reason: reason.clone() });
        self.previous = core::mem::replace(&mut self.role, role);
        match reason {
            RoleReason::Takeover { .. } => {}
            RoleReason::Operator(_) => (self.lost, self.hold_off_until) = (None, None),
            _ => self.lost = None,
        }
        self.drop_tokens(cx);
        match self.worker {
            Process::Running(_) => {
                let hurry = matches!(reason, RoleReason::Takeover { .. });
                self.end_worker(cx, &reason.to_string(), hurry);
            }
            Process::Ending { .. } => {}
            Process::None | Process::Pausing(_) => self.start_worker(cx),
        }
    }

    /// Ends what runs and starts nothing more: the daemon stops, or the resource has left the configuration.
    pub(crate) fn leave(&mut self, cx: &mut Context<'_>, reason: &str) {
        self.leaving = true;
        self.refuse_all(cx);
        match self.worker {
            Process::Running(_) => self.end_worker(cx, reason, true),
            Process::Pausing(_) => self.stay_without_worker(cx),
            Process::None | Process::Ending { .. } => {}
        }
    }

    /// New settings; only a new script restarts what runs.
    pub(crate) fn reconfigure(&mut self, cx: &mut Context<'_>, settings: Resource) {
        if core::mem::take(&mut self.leaving) {
            // It had left the configuration, and its worker has not ended yet.
            let role = settings.role_on_start;
            self.settings = settings;
            self.set_role(cx, role, RoleReason::Start);
            return;
        }
        if settings == self.settings {
            return;
        }
        let restart = settings.exec != self.settings.exec && self.role != Role::Init;
        self.event(cx, Event::Reconfigured { restart });
        self.settings = settings;
        if let Process::Running(id) = self.worker {
            if restart {
                self.end_worker(cx, "the configuration has a new exec", false);
            } else {
                cx.out.push(Action::Order { id, order: Order::Reconfigure(Box::new(self.settings.clone())) });
            }
        }
    }

    /// A watchdog complains. **Here the decision to take over is made**: a secondary without a connection from a primary that has
    /// heard more than `complaint_count` complaints, none older than `complaint_interval`, becomes primary.
    pub(crate) fn on_complaint(&mut self, cx: &mut Context<'_>, from: String) {
        self.complaints.add(cx.now);
        if self.role != Role::Secondary {
            return;
        }
        let count = self.complaints.within(cx.now, self.settings.complaint_interval);
        let threshold = self.settings.complaint_count;
        let enough = count > threshold;
        let stays = if enough { self.why_stay_secondary(cx.now) } else { None };
        self.event(cx, Event::ComplaintHeard { from, count, threshold, stays });
        if let Process::Running(id) = self.worker {
            cx.out.push(Action::Order { id, order: Order::Complaint });
        }
        if enough && stays.is_none() {
            self.set_role(cx, Role::Primary, RoleReason::Takeover { complaints: count });
        }
    }

    fn why_stay_secondary(&self, now: Instant) -> Option<StaysSecondary> {
        if self.served.is_some() {
            return Some(StaysSecondary::Connected);
        }
        if matches!(self.worker, Process::Ending { .. }) || self.leaving {
            return Some(StaysSecondary::Changing);
        }
        let until = self.hold_off_until.filter(|until| now < *until)?;
        Some(StaysSecondary::HoldsOff(until.since(now)))
    }

    /// Somebody on the network asks for the state: the primary is not isolated.
    pub(crate) fn on_polled(&self, cx: &mut Context<'_>) {
        if let (Role::Primary, Process::Running(id)) = (self.role, &self.worker) {
            cx.out.push(Action::Order { id: *id, order: Order::Polled });
        }
    }

    /// A primary makes the first step of its handshake.
    pub(crate) fn on_handshake(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        remote: Address,
        priority: i32,
        token: [u8; 16],
    ) {
        // What runs here is still being stopped, and nobody will answer later.
        if self.leaving {
            cx.refuse(conn, Refusal::Busy);
            return;
        }
        if self.role == Role::Primary && self.is_settled() {
            let ours = self.settings.priority;
            if priority > ours {
                cx.refuse(conn, Refusal::HigherPriority(ours));
                return;
            }
            // Of two equals the one yields that is called. A new primary calls first: else chance decides whether an operator's word
            // counts, and two that take over at once yield to each other again and again.
            if priority == ours && self.fresh_until.is_some_and(|until| cx.now < until) {
                cx.refuse(conn, Refusal::Busy);
                return;
            }
            let reason = RoleReason::Yields { to: remote.to_string(), theirs: priority, ours };
            self.set_role(cx, self.previous, reason);
        }
        let waits = !self.is_settled();
        // A caller that waits must hear something before its own patience (its `timeout`) ends: silence would look like death.
        let timeout = self.settings.timeout;
        let until = cx.now + if waits { timeout * 3 / 4 } else { timeout };
        if !waits && self.role != Role::Secondary {
            cx.refuse(conn, Refusal::ActsAs(self.role));
        } else if self.half_open.len() >= MAX_HALF_OPEN {
            cx.refuse(conn, Refusal::Busy);
        } else if waits {
            self.half_open.push(HalfOpen { conn, remote, until, stage: Handshake::Waits { priority, token } });
        } else {
            self.half_open.push(HalfOpen { conn, remote, until, stage: Handshake::Token(token) });
            cx.out.push(Action::Reply { conn, message: Answer::Token(token).encode(), keep: true });
        }
    }

    /// A primary makes the second step of its handshake, on its second connection.
    pub(crate) fn on_token(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        remote: &Address,
        token: &[u8; 16],
        resuid: u64,
    ) {
        if self.role != Role::Secondary {
            cx.refuse(conn, Refusal::ActsAs(self.role));
            return;
        }
        let fits = |half: &HalfOpen| match &half.stage {
            Handshake::Token(given) => half.remote == *remote && bool::from(given.ct_eq(token)),
            Handshake::Waits { .. } => false,
        };
        let Some(at) = self.half_open.iter().position(fits) else {
            cx.refuse(conn, Refusal::WrongToken);
            return;
        };
        // The first connection stays until its time is over: its end, seen first, would hide this answer.
        let Process::Running(worker) = self.worker else {
            cx.refuse(conn, Refusal::Busy);
            return;
        };
        let half = self.half_open.swap_remove(at);
        let link = LinkId(cx.new_id());
        self.served = Some((link, remote.clone()));
        self.complaints.clear();
        cx.out.push(Action::HandOver { worker, link, from: remote.clone(), asks: half.conn, answers: conn, resuid });
    }

    /// News from the worker: what `status` shall say.
    pub(crate) fn on_report(&mut self, id: WorkerId, report: Report) {
        if self.worker() == Some(id) {
            self.unattended &= report.state != State::Stopped;
            self.report = Some(report);
        }
    }

    /// News from the worker: the connection from the primary is gone.
    pub(crate) fn on_primary_gone(&mut self, now: Instant, link: LinkId) {
        if let Some((_, remote)) = self.served.take_if(|(served, _)| *served == link) {
            self.lost = Some(remote);
            self.forget_early_complaints(now);
        }
    }

    /// Complaints about a primary that was connected say that it did not run the resource (yet), not that it is dead: a slow start must not
    /// count as one. Only those of the last heartbeat may already be about its death, which a silent connection shows late.
    fn forget_early_complaints(&mut self, now: Instant) {
        let heartbeat = self.settings.heartbeat_interval;
        self.complaints.forget_before(now - (heartbeat + heartbeat / 8));
    }

    /// The worker's process has ended, or could not be started.
    pub(crate) fn on_worker_exit(&mut self, cx: &mut Context<'_>, id: WorkerId, exit: WorkerExit) {
        if self.worker() != Some(id) {
            return;
        }
        // The worker hung up, not the primary: that one may well go on.
        if self.served.take().is_some() {
            self.forget_early_complaints(cx.now);
        }
        self.report = None;
        self.note_end(cx, &exit);
        let ended_as_told = matches!(self.worker, Process::Ending { .. });
        self.worker = Process::None;
        if self.leaving {
            self.stay_without_worker(cx);
            return;
        }
        if ended_as_told {
            self.start_worker(cx);
            self.answer_waiting(cx);
            return;
        }
        match exit {
            WorkerExit::Farewell(Farewell::AsOrdered) if self.role == Role::Init => {}
            WorkerExit::Farewell(Farewell::GaveUp(why)) => self.on_gave_up(cx, why),
            WorkerExit::NotStarted(why) => {
                self.event(cx, Event::WorkerNotStarted { why });
                self.worker = Process::Pausing(cx.now + RESTART_PAUSE);
            }
            WorkerExit::Signal(signal) => self.restart_worker(cx, alloc::format!("was killed by signal {signal}")),
            WorkerExit::Code(TEMPORARY_FAILURE) => {
                self.restart_worker(cx, "ended with a temporary failure".to_string())
            }
            WorkerExit::Farewell(Farewell::AsOrdered) | WorkerExit::Code(0) => {
                self.restart_worker(cx, "ended although nobody told it to".to_string());
            }
            WorkerExit::Code(code) => {
                let how = alloc::format!("ended with code {code}");
                // Failing must not make anybody primary.
                let back = if self.previous == Role::Primary { Role::Secondary } else { self.previous };
                if back == self.role {
                    self.restart_worker(cx, how);
                    return;
                }
                self.event(cx, Event::WorkerDied { how, then: WorkerNext::Role(back) });
                self.set_role(cx, back, RoleReason::WorkerFailed);
            }
        }
    }

    /// What a worker leaves behind.
    fn note_end(&mut self, cx: &mut Context<'_>, exit: &WorkerExit) {
        let in_order = matches!(exit, WorkerExit::Farewell(_));
        let not_started = matches!(exit, WorkerExit::NotStarted(_));
        if core::mem::take(&mut self.cleaning) {
            if !in_order {
                self.event(cx, Event::MayStillRun);
            }
        } else if not_started {
            self.told = self.told_before;
        } else if self.told == Role::Primary {
            self.unattended = !in_order;
        }
    }

    /// No worker shall run, but what one has left behind must be stopped.
    fn stay_without_worker(&mut self, cx: &mut Context<'_>) {
        self.worker = Process::None;
        if self.unattended {
            self.clean_up(cx);
        }
    }

    fn clean_up(&mut self, cx: &mut Context<'_>) {
        (self.unattended, self.cleaning) = (false, true);
        self.run_worker(cx, Role::Primary, None, None);
        self.end_worker(cx, "its worker died before the resource was stopped", false);
    }

    fn on_gave_up(&mut self, cx: &mut Context<'_>, why: GiveUp) {
        if matches!(why, GiveUp::StartsFailed(_)) {
            self.hold_off_until = Some(cx.now + self.settings.complaint_interval);
        }
        self.set_role(cx, Role::Secondary, RoleReason::GaveUp(why));
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let worker = match self.worker {
            Process::Pausing(until) => Some(until),
            Process::Ending { kill_at, .. } => kill_at,
            Process::None | Process::Running(_) => None,
        };
        self.half_open.iter().map(|half| half.until).chain(worker).min()
    }

    pub(crate) fn on_timer(&mut self, cx: &mut Context<'_>) {
        match &mut self.worker {
            Process::Pausing(until) if cx.now >= *until => self.start_worker(cx),
            Process::Ending { id, kill_at } if kill_at.is_some_and(|at| cx.now >= at) => {
                *kill_at = None;
                let id = *id;
                cx.out.push(Action::KillWorker(id));
            }
            Process::None | Process::Running(_) | Process::Ending { .. } | Process::Pausing(_) => {}
        }
        let now = cx.now;
        for half in self.half_open.extract_if(.., |half| now >= half.until) {
            match half.stage {
                Handshake::Token(_) => cx.out.push(Action::Close(half.conn)),
                Handshake::Waits { .. } => cx.refuse(half.conn, Refusal::Busy),
            }
        }
    }

    /// No change of role is under way.
    const fn is_settled(&self) -> bool {
        !matches!(self.worker, Process::Ending { .. })
    }

    fn start_worker(&mut self, cx: &mut Context<'_>) {
        if self.unattended && !matches!(self.role, Role::Primary | Role::Secondary) {
            self.clean_up(cx);
            return;
        }
        if self.role == Role::Init && self.told == Role::Init {
            self.worker = Process::None;
            return;
        }
        let changed_from = (self.told != self.role).then_some(self.told);
        self.fresh_until = changed_from.map(|_| cx.now + self.settings.timeout);
        if self.role == Role::Secondary && changed_from.is_some() {
            // Those that came while the last role was ending speak of its end.
            self.complaints.clear();
        }
        self.told_before = core::mem::replace(&mut self.told, self.role);
        let replaces = self.lost.clone().filter(|_| self.role == Role::Primary);
        self.run_worker(cx, self.role, changed_from, replaces);
    }

    fn run_worker(&mut self, cx: &mut Context<'_>, role: Role, changed_from: Option<Role>, replaces: Option<Address>) {
        let id = WorkerId(cx.new_id());
        self.worker = Process::Running(id);
        let assignment = Assignment { resource: self.settings.clone(), role, changed_from, replaces };
        cx.out.push(Action::StartWorker { id, assignment: Box::new(assignment) });
    }

    fn restart_worker(&mut self, cx: &mut Context<'_>, how: String) {
        self.event(cx, Event::WorkerDied { how, then: WorkerNext::Restart });
        self.worker = Process::Pausing(cx.now + RESTART_PAUSE);
    }

    fn end_worker(&mut self, cx: &mut Context<'_>, reason: &str, hurry: bool) {
        if let Process::Running(id) = self.worker {
            self.worker = Process::Ending { id, kill_at: Some(cx.now + end_budget(&self.settings)) };
            cx.out.push(Action::Order { id, order: Order::End { reason: reason.to_string(), hurry } });
        }
    }

    /// Tokens of a secondary are worth nothing in another role.
    fn drop_tokens(&mut self, cx: &mut Context<'_>) {
        for half in self.half_open.extract_if(.., |half| matches!(half.stage, Handshake::Token(_))) {
            cx.out.push(Action::Close(half.conn));
        }
    }

    fn refuse_all(&mut self, cx: &mut Context<'_>) {
        for half in self.half_open.drain(..) {
            cx.out.push(Action::Close(half.conn));
        }
    }

    /// The role has changed: callers that waited for that get their answer.
    fn answer_waiting(&mut self, cx: &mut Context<'_>) {
        for half in core::mem::take(&mut self.half_open) {
            match half.stage {
                Handshake::Waits { priority, token } => self.on_handshake(cx, half.conn, half.remote, priority, token),
                Handshake::Token(_) => self.half_open.push(half),
            }
        }
    }

    fn event(&self, cx: &mut Context<'_>, event: Event) {
        cx.out.push(Action::Event(Some(self.settings.name.clone()), event));
    }
}

/// How long a worker may take to end: `stop` and the check of its work as often as it tries, then what the script is told.
fn end_budget(settings: &Resource) -> Duration {
    let grace = TERM_GRACE + KILL_GRACE;
    let stop = settings.stop_timeout + settings.status_timeout + grace * 2 + LAST_STOP_PAUSE;
    stop * LAST_STOP_TRIES + (settings.hook_timeout + grace) * 2
}

#[cfg(test)]
mod tests;
