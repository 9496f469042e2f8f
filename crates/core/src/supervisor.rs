//! The main daemon's side of one resource: its role, the life of its worker, the handshakes of primaries, the complaints,
//! and with them the decision to take over (`Supervisor::on_complaint`).

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
/// Handshakes of one remote for one resource that may be half done: it needs one, and may have left some behind. Counted for each remote by
/// itself, so that none can keep another out.
pub const MAX_HALF_OPEN: usize = 8;
/// A worker reports at every heartbeat. After so many without a word it is doubted,
pub const SILENT_HEARTBEATS: u32 = 3;
/// but not before this time: short heartbeats do not make machines faster.
pub const MIN_SILENCE: Duration = Duration::from_secs(2);
/// A primary's worker is told of polls at most so often within a heartbeat: it counts silence in heartbeats, and whoever polls all the time
/// shall not keep it busy.
pub const POLLS_TOLD_PER_HEARTBEAT: u32 = 4;
/// Two nodes that have yielded to each other choose among so many heartbeats when to stand again.
const YIELD_BEATS: u32 = 8;
/// At the end of the daemon, workers that are started to stop what a killed worker has left: after so many, somebody must look.
pub const MAX_LAST_WORKERS: u32 = 3;
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
    leaving: bool,
    /// The script of the worker that was started last.
    exec: String,
    /// That worker died, or could not stop what it had in hand, and that may still run: the script that can stop it.
    left_running: Option<String>,
    /// Workers that were started for that since the resource is to leave.
    last_workers: u32,
    /// When the worker was heard of last, and whether its silence has been told.
    heard: Instant,
    told_stuck: bool,
    /// Why no worker could be started, as told.
    told_not_started: Option<String>,
    /// When the worker was told of a poll last.
    told_poll: Option<Instant>,
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
    pub(crate) fn new(now: Instant, settings: Resource) -> Self {
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
            leaving: false,
            exec: String::new(),
            left_running: None,
            last_workers: 0,
            heard: now,
            told_stuck: false,
            told_not_started: None,
            told_poll: None,
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
        if role == Role::Secondary {
            // They were about another primary, or about this node.
            self.complaints.clear();
        }
        match reason {
            RoleReason::Takeover { .. } => {}
            RoleReason::Operator(_) => (self.lost, self.hold_off_until) = (None, None),
            _ => self.lost = None,
        }
        self.drop_tokens(cx);
        match self.worker {
            // Nobody follows who would find what a secondary could not stop.
            Process::Running(id) if matches!(role, Role::Init | Role::Watchdog) && self.previous == Role::Secondary => {
                self.end_last_worker(cx, id, &reason.to_string());
            }
            Process::Running(_) => {
                let hurry = matches!(reason, RoleReason::Takeover { .. });
                self.end_worker(cx, &reason.to_string(), hurry);
            }
            Process::Ending { .. } => {}
            Process::None | Process::Pausing(_) => self.start_worker(cx),
        }
    }

    /// The daemon stops, or the resource has left the configuration.
    pub(crate) const fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Ends what runs and starts nothing more: the daemon stops, or the resource has left the configuration.
    pub(crate) fn leave(&mut self, cx: &mut Context<'_>, reason: &str) {
        self.leaving = true;
        self.last_workers = 0;
        self.refuse_all(cx);
        match self.worker {
            Process::Running(id) | Process::Ending { id, .. } => self.end_last_worker(cx, id, reason),
            Process::Pausing(_) => self.start_worker(cx),
            Process::None => {}
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
        // It was silent by the settings before.
        self.heard = cx.now;
        if let Process::Running(id) = self.worker {
            if restart {
                // With the new script its successor would not find what the old one has started.
                self.end_last_worker(cx, id, "the configuration has a new exec");
            } else {
                cx.out.push(Action::Order { id, order: Order::Reconfigure(Box::new(self.settings_for_worker())) });
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
    pub(crate) fn on_polled(&mut self, cx: &mut Context<'_>) {
        let pause = self.settings.heartbeat_interval / POLLS_TOLD_PER_HEARTBEAT;
        if self.told_poll.is_some_and(|at| cx.now.since(at) < pause) {
            return;
        }
        if let (Role::Primary, Process::Running(id)) = (self.role, &self.worker) {
            self.told_poll = Some(cx.now);
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
            let reason = RoleReason::Yields { to: remote.to_string(), theirs: priority, ours };
            self.set_role(cx, self.previous, reason);
            if priority == ours {
                self.step_aside(cx.now, token);
            }
        }
        let waits = !self.is_settled();
        // A caller that waits must hear something before its own patience (its `timeout`) ends: silence would look like death.
        let timeout = self.settings.timeout;
        let until = cx.now + if waits { timeout * 3 / 4 } else { timeout };
        if !waits && self.role != Role::Secondary {
            cx.refuse(conn, Refusal::ActsAs(self.role));
        } else if self.half_open.iter().filter(|half| half.remote == remote).count() >= MAX_HALF_OPEN {
            cx.refuse(conn, Refusal::Busy);
        } else if waits {
            self.half_open.push(HalfOpen { conn, remote, until, stage: Handshake::Waits { priority, token } });
        } else {
            self.half_open.push(HalfOpen { conn, remote, until, stage: Handshake::Token(token) });
            cx.out.push(Action::Reply { conn, message: Answer::Token(token).encode(), keep: true });
        }
    }

    /// Two secondaries of one priority that take over at the same complaint yield to each other, and would do so again at every following
    /// takeover. Each holds off for another while, so that one of them is first. (`random`: its bytes are the token's, not used as such here.)
    fn step_aside(&mut self, now: Instant, random: [u8; 16]) {
        let [dice, ..] = random;
        let beats = self.settings.complaint_count.saturating_add(1).saturating_add(u32::from(dice) % YIELD_BEATS);
        self.hold_off_until = Some(now + self.settings.heartbeat_interval * beats);
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
    pub(crate) fn on_report(&mut self, cx: &mut Context<'_>, id: WorkerId, report: Report) {
        if self.worker() == Some(id) {
            self.report = Some(report);
            self.heard = cx.now;
            self.told_not_started = None;
            if core::mem::take(&mut self.told_stuck) {
                self.event(cx, Event::WorkerBack);
            }
        }
    }

    /// How long a worker has been silent that should speak at every heartbeat; `None` while that is no reason to doubt it.
    pub(crate) fn stuck_for(&self, now: Instant) -> Option<Duration> {
        let silent_for = now.since(self.heard);
        (self.expects_reports() && silent_for >= self.silence_limit()).then_some(silent_for)
    }

    const fn expects_reports(&self) -> bool {
        matches!(self.worker, Process::Running(_)) && !matches!(self.role, Role::Init)
    }

    fn silence_limit(&self) -> Duration {
        (self.settings.heartbeat_interval * SILENT_HEARTBEATS).max(MIN_SILENCE)
    }

    /// News from the worker: the connection from the primary is gone.
    pub(crate) fn on_primary_gone(&mut self, now: Instant, link: LinkId) {
        if let Some((_, remote)) = self.served.take_if(|(served, _)| *served == link) {
            // Not when this node has ended the connection itself, with the worker of a role that is over: that primary may still run.
            if matches!(self.worker, Process::Running(_)) {
                self.lost = Some(remote);
            }
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
        self.note_what_is_left(&exit);
        self.report = None;
        let ended_as_told = matches!(self.worker, Process::Ending { .. });
        self.worker = Process::None;
        if ended_as_told && self.left_running.is_some() {
            if matches!(exit, WorkerExit::Farewell(_)) {
                // It has said itself that the resource may still run.
                self.worker = Process::Pausing(cx.now + self.settings.heartbeat_interval.max(RESTART_PAUSE));
            } else {
                self.restart_worker(cx, "died before its resource was stopped".to_string());
            }
            return;
        }
        if self.leaving {
            self.start_worker(cx);
            return;
        }
        if ended_as_told {
            if self.role == Role::Secondary {
                // What was heard while the role changed speaks of the change.
                self.complaints.clear();
            }
            self.start_worker(cx);
            self.answer_waiting(cx);
            return;
        }
        match exit {
            WorkerExit::Farewell(Farewell::AsOrdered) if self.role == Role::Init => {}
            WorkerExit::Farewell(Farewell::GaveUp(why)) => self.on_gave_up(cx, why),
            WorkerExit::NotStarted(why) => {
                // It is tried every second.
                if self.told_not_started.as_ref() != Some(&why) {
                    self.told_not_started = Some(why.clone());
                    self.event(cx, Event::WorkerNotStarted { why });
                }
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
        let stuck = (self.expects_reports() && !self.told_stuck).then(|| self.heard + self.silence_limit());
        self.half_open.iter().map(|half| half.until).chain(worker).chain(stuck).min()
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
        if !self.told_stuck
            && let Some(silent_for) = self.stuck_for(cx.now)
        {
            self.told_stuck = true;
            self.event(cx, Event::WorkerStuck { silent_for });
        }
        let now = cx.now;
        for half in self.half_open.extract_if(.., |half| now >= half.until) {
            match half.stage {
                Handshake::Token(_) => cx.out.push(Action::Close(half.conn)),
                Handshake::Waits { .. } => cx.refuse(half.conn, Refusal::Busy),
            }
        }
    }

    /// A worker needs to know whether there are friends, not who they are: its assignment has to fit into one packet.
    fn settings_for_worker(&self) -> Resource {
        let mut settings = self.settings.clone();
        settings.friends.truncate(1);
        settings.nodes.clear();
        settings
    }

    /// No change of role is under way.
    const fn is_settled(&self) -> bool {
        !matches!(self.worker, Process::Ending { .. })
    }

    /// A worker that dies may have left running what it had in hand. One that says farewell has stopped it, or says that it could not: in
    /// a role in which no other worker would find that, it is tried again.
    fn note_what_is_left(&mut self, exit: &WorkerExit) {
        let reports = |state| self.report.as_ref().is_some_and(|report| report.state == state);
        let (is_stopped, stop_failed) = (reports(State::Stopped), reports(State::Failed));
        let nobody_follows = matches!(self.role, Role::Init | Role::Watchdog) && !self.leaving;
        let had_it_in_hand = match self.told {
            Role::Primary => true,
            Role::Secondary => !is_stopped,
            Role::Init | Role::Watchdog => false,
        };
        match exit {
            WorkerExit::Farewell(_) => {
                let is_left = had_it_in_hand && stop_failed && nobody_follows;
                self.left_running = is_left.then(|| self.exec.clone());
            }
            WorkerExit::NotStarted(_) => self.told = self.told_before,
            WorkerExit::Code(_) | WorkerExit::Signal(_) if had_it_in_hand => {
                self.left_running = Some(self.exec.clone())
            }
            WorkerExit::Code(_) | WorkerExit::Signal(_) => {}
        }
    }

    fn start_worker(&mut self, cx: &mut Context<'_>) {
        let is_found = matches!(self.role, Role::Primary | Role::Secondary) && !self.leaving;
        if let Some(exec) = self.left_running.clone().filter(|exec| !is_found || *exec != self.settings.exec) {
            self.start_last_worker(cx, exec);
            return;
        }
        if self.leaving {
            self.worker = Process::None;
            return;
        }
        if self.role == Role::Init && self.told == Role::Init {
            self.worker = Process::None;
            return;
        }
        let changed_from = (self.told != self.role).then_some(self.told);
        self.told_before = core::mem::replace(&mut self.told, self.role);
        let replaces = self.lost.clone().filter(|_| self.role == Role::Primary);
        self.run_worker(cx, self.role, changed_from, replaces);
    }

    fn run_worker(&mut self, cx: &mut Context<'_>, role: Role, changed_from: Option<Role>, replaces: Option<Address>) {
        let id = WorkerId(cx.new_id());
        self.worker = Process::Running(id);
        self.heard = cx.now;
        self.told_stuck = false;
        self.told_poll = None;
        self.exec.clone_from(&self.settings.exec);
        let assignment = Assignment { resource: self.settings_for_worker(), role, changed_from, replaces };
        cx.out.push(Action::StartWorker { id, assignment: Box::new(assignment) });
    }

    /// What a worker has left running would not be found by the worker that comes next, if any does. A secondary that is told to leave
    /// stops it, and does nothing else.
    fn start_last_worker(&mut self, cx: &mut Context<'_>, exec: String) {
        if self.leaving && self.last_workers >= MAX_LAST_WORKERS {
            self.event(cx, Event::MayStillRun);
            self.worker = Process::None;
            return;
        }
        self.last_workers += 1;
        self.exec.clone_from(&exec);
        self.told_before = self.told;
        let id = WorkerId(cx.new_id());
        let resource = Resource { exec, ..self.settings_for_worker() };
        let assignment = Assignment { resource, role: Role::Secondary, changed_from: None, replaces: None };
        cx.out.push(Action::StartWorker { id, assignment: Box::new(assignment) });
        self.end_last_worker(cx, id, "an earlier worker has left it running");
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

    /// Ends a worker that nobody follows who would stop what it leaves running.
    fn end_last_worker(&mut self, cx: &mut Context<'_>, id: WorkerId, reason: &str) {
        let kill_at = match self.worker {
            Process::Ending { kill_at, .. } => kill_at,
            _ => Some(cx.now + end_budget(&self.settings)),
        };
        self.worker = Process::Ending { id, kill_at };
        cx.out.push(Action::Order { id, order: Order::Leave { reason: reason.to_string() } });
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
