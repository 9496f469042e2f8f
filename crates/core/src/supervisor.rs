//! The main daemon's side of one resource: its role, the life of its worker, the handshakes of primaries, the complaints,
//! and with them the decision to take over (`Supervisor::on_complaint`).

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use subtle::ConstantTimeEq;

use crate::complaints::Complaints;
use crate::config::{Address, Resource};
use crate::daemon::{Action, ConnId, WorkerId};
use crate::event::{Event, GiveUp, RoleReason, StaysSecondary, WorkerFault, WorkerNext};
use crate::hooks::{KILL_GRACE, TERM_GRACE};
use crate::lease::Voters;
use crate::lease::record::{NotFound, Record};
use crate::lease::rules::{Rule, is_off};
use crate::lease::voter::Voter;
use crate::lease::{Ask, FOR_EVER, Grant, Refusal as NoVote, Release, Verdict};
use crate::members::REST_BEATS;
use crate::orphan;
use crate::pace::Pace;
use crate::pause::{Flag, Pause, PauseRecord, Paused, TOO_LONG};
use crate::peers::{Asker, Here, News, Peers};
use crate::switchover::Switchover;
use crate::time::{Duration, Instant};
use crate::timing::complaints_needed;
use crate::types::{Role, State};
use crate::wire::peer::{Hello, Said};
use crate::wire::reply::SwitchoverReply;
use crate::wire::session::{Answer, Refusal};
use crate::worker::{Assignment, Farewell, LAST_STOP_PAUSE, LAST_STOP_TRIES, LeasePart, LinkId, Order, Report};

mod turn;
mod watch;
use turn::Turn;
use watch::Watch;

/// A primary's worker is not replaced for a shorter silence than this: on a busy machine every process is late at times.
pub const MIN_REPLACE: Duration = Duration::from_millis(500);
/// A worker that died is followed by a new one after this pause, so that one that dies at once does not burn the machine.
pub const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// With the lease, the pause is this part of a heartbeat at most: what runs must be stopped before the lease of the worker that died is over.
pub const RESTARTS_PER_HEARTBEAT: u32 = 4;
/// Handshakes of one remote for one resource that may be half done: it needs one, and may have left some behind. Counted for each remote by
/// itself, so that none can keep another out.
pub const MAX_HALF_OPEN: usize = 8;
/// A worker speaks at every heartbeat or second one, as long as it is awake. After so many without a word it is doubted,
pub const SILENT_HEARTBEATS: u32 = 3;
/// but not before this time: short heartbeats do not make machines faster.
pub const MIN_SILENCE: Duration = Duration::from_secs(2);
/// A worker may wait so long for its process before its silence is told: a node that begins a thousand on two busy processors takes about as long.
const LONGEST_START: Duration = Duration::from_secs(60);
/// A primary's worker is told of polls at most so often within a heartbeat: it counts silence in heartbeats, and whoever polls all the time
/// shall not keep it busy.
pub const POLLS_TOLD_PER_HEARTBEAT: u32 = 4;
/// Two nodes that have yielded to each other choose among so many heartbeats when to stand again.
const YIELD_BEATS: u32 = 8;
/// At the end of the daemon, workers that are started to stop what a killed worker has left: after so many, somebody must look.
pub const MAX_LAST_WORKERS: u32 = 3;
/// The report that a worker stops at the end of its lease may take this part of a heartbeat to be heard.
const END_GRACE_PARTS: u32 = 16;
/// The exit code of a worker that asks to be started again (sysexits: EX_TEMPFAIL).
const TEMPORARY_FAILURE: i32 = 75;

/// Spreads the numbers of workers over all bits: 2^64 divided by the golden ratio.
const SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the complaints come to that a node has heard: what it does, and what it says of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Only a secondary takes over.
    NotSecondary,
    /// So many more within the interval.
    Needs(u32),
    /// There are enough, but something else keeps it.
    Stays(StaysSecondary),
    /// It takes over when it has its turn.
    WaitsForTurn,
    /// It takes over: with the lease, it stands for it.
    Stands,
}

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
    /// When a primary's worker is replaced unless it reports before, by the settings that were in force when it reported last: those are the ones
    /// of its lease.
    replace_at: Instant,
    /// The worker that runs was started to be primary.
    acts_as_primary: bool,
    /// The worker that runs is being killed: it takes a while to be gone.
    is_killed: bool,
    /// The worker that runs has a process. Until then it waits for others of this node to begin.
    is_started: bool,
    told_stuck: bool,
    /// Why no worker could be started, as told.
    told_not_started: Option<String>,
    /// When the worker was told of a poll last.
    told_poll: Option<Instant>,
    /// When the worker was started.
    began: Instant,
    /// Originals are among the nodes: there is no lease.
    legacy: bool,
    /// The nodes that have connected by protocol 1, and the vote of this node.
    peers: Peers,
    /// The connection of the primary that this node hears, with the lease.
    primary: Option<ConnId>,
    /// What the next worker gets: a lease that was won for it, or the word of an operator.
    grant: Option<Grant>,
    force: bool,
    /// Until when the lease runs of which the primary's worker has told, unless it was given back.
    lease_until: Option<Instant>,
    switchover: Option<Switchover>,
    /// A node has asked for the resource, over this connection, and the worker here is told to hand it over; until when nobody else may ask.
    wanted_by: Option<(ConnId, Instant)>,
    /// A watchdog has said that the lease was given back, and the primary is still connected: what it says itself may be on its way.
    told_of_release: Option<Instant>,
    /// What is on disk of the pause, or on its way there.
    recorded: Option<(u64, PauseRecord)>,
    /// The pause, or its end, has been on its way to the disk for the last time; why it is not there.
    record_failed: Option<String>,
    /// The record that is on disk.
    record_done: u64,
    /// When it is told that the pause lasts long.
    too_long_at: Option<Instant>,
    /// A `stop` has failed, or a primary has died that was to stop or that had no kept votes, since it was last known that the resource does not
    /// run.
    must_stop: bool,
    /// Its turn to be started.
    turn: Turn,
    /// Watchdog with the lease: what its worker is told of the primary.
    watch: Watch,
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

/// What all supervisors of a node have in common.
#[derive(Debug, Default)]
pub(crate) struct Common {
    /// Differs from start to start of the daemon.
    seed: u64,
    next_id: u64,
    pace: Pace,
}

impl Common {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

/// What a [`Supervisor`] needs from the daemon while it decides: a place for actions, and what it shares with the others.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) common: &'a mut Common,
    pub(crate) out: &'a mut Vec<Action>,
}

impl Context<'_> {
    pub(crate) fn event(&mut self, settings: &Resource, event: Event) {
        self.out.push(Action::Event(Some(settings.name.clone()), event));
    }

    pub(crate) fn new_id(&mut self) -> u64 {
        self.common.next_id += 1;
        self.common.next_id
    }

    fn refuse(&mut self, conn: ConnId, refusal: Refusal) {
        self.out.push(Action::Reply { conn, message: Answer::from(refusal).encode(), keep: false });
    }
}

impl Supervisor {
    /// A resource in the role init.
    pub(crate) fn new(cx: &mut Context<'_>, settings: Resource, me: &str, legacy: bool) -> Self {
        let now = cx.now;
        cx.out.push(Action::FindRecord(settings.name.clone()));
        Self {
            began: now,
            legacy,
            peers: Peers::new(settings.own_name(me)),
            primary: None,
            grant: None,
            force: false,
            lease_until: None,
            switchover: None,
            wanted_by: None,
            recorded: None,
            record_failed: None,
            record_done: 0,
            too_long_at: None,
            must_stop: false,
            turn: Turn::default(),
            watch: Watch::default(),
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
            told_of_release: None,
            leaving: false,
            exec: String::new(),
            left_running: None,
            last_workers: 0,
            heard: now,
            replace_at: now,
            acts_as_primary: false,
            is_killed: false,
            is_started: false,
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

    /// What is under way with the worker, when it is not simply running; in words.
    pub(crate) fn worker_is(&self, now: Instant) -> Option<String> {
        match &self.worker {
            Process::None if self.role == Role::Init => None,
            Process::None => Some("no worker runs".to_string()),
            Process::Ending { .. } if self.leaving => Some("the resource is being removed".to_string()),
            Process::Ending { .. } => Some("what the role before has begun is being ended".to_string()),
            Process::Pausing(until) => {
                let why = self.told_not_started.as_ref().map_or(String::new(), |why| alloc::format!(" ({why})"));
                Some(alloc::format!("the worker is started in {:.1?}{why}", until.since(now)))
            }
            Process::Running(_) if self.role != Role::Init && self.report.is_none() => {
                Some("the worker has just been started and has not reported".to_string())
            }
            Process::Running(_) => {
                let silent_for = self.stuck_for(now)?;
                Some(alloc::format!("the worker has said nothing for {} s", silent_for.as_secs()))
            }
        }
    }

    /// Complaints that count: a watchdog's own, or those heard.
    pub fn complaints(&self, now: Instant) -> u32 {
        match (self.role, &self.report) {
            (Role::Watchdog, Some(report)) => report.complaints,
            _ => self.complaints.within(now, self.settings.complaint_interval),
        }
    }

    /// Nothing of it runs any more, and nothing shall.
    pub(crate) const fn is_gone(&self) -> bool {
        self.leaving && matches!(self.worker, Process::None)
    }

    /// Takes up what was known of a pause before the start: as long as it lasts, with the role of that time.
    pub(crate) fn take_up(&mut self, cx: &mut Context<'_>, found: Option<PauseRecord>) {
        let found = found.filter(|_| !self.legacy);
        let mut role = (self.settings.role_on_start, RoleReason::Start);
        if let Some(PauseRecord { pause, role: before, kept, .. }) = found {
            self.peers.set_pause(cx.now, &self.settings, Flag::new(cx.now, pause));
            if self.is_paused() {
                self.event(cx, Event::Paused(self.peers.pause().told(cx.now)));
                self.too_long_at = Some(cx.now + TOO_LONG);
                self.lease_until = (kept && before == Role::Primary).then_some(FOR_EVER);
                role = (before, RoleReason::Paused);
            }
        }
        self.give_role(cx, role.0, role.1);
    }

    /// Changes the role. The worker of the old role ends first.
    pub(crate) fn set_role(&mut self, cx: &mut Context<'_>, role: Role, reason: RoleReason) {
        if role == self.role || self.leaving {
            return;
        }
        self.event(cx, Event::RoleChanged { old: self.role, new: role, reason: reason.clone() });
        self.previous = core::mem::replace(&mut self.role, role);
        self.note_role(cx.now);
        self.record_pause(cx);
        if role == Role::Secondary {
            // They were about another primary, or about this node.
            self.complaints.clear();
        }
        if role != Role::Primary {
            (self.grant, self.force) = (None, false);
        }
        if role != Role::Secondary {
            self.primary = None;
        }
        let successor = match &reason {
            RoleReason::YieldsTo { node, .. } => Some(node.clone()),
            // The lease that was won is for the next worker.
            RoleReason::Takeover { .. } | RoleReason::LeaseReleased => Some(self.peers.me().to_string()),
            _ => None,
        };
        match reason {
            RoleReason::Takeover { .. } | RoleReason::LeaseReleased => {}
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
                let hurry = matches!(reason, RoleReason::Takeover { .. } | RoleReason::LeaseReleased);
                self.end_worker(cx, &reason.to_string(), hurry, successor);
            }
            Process::Ending { .. } => {}
            Process::None | Process::Pausing(_) => self.start_in_turn(cx),
        }
    }

    /// Starts a worker where there was none. For a primary the operator waits, or those who use the resource.
    fn start_in_turn(&mut self, cx: &mut Context<'_>) {
        let at = match self.role {
            Role::Secondary | Role::Watchdog => cx.common.pace.turn(cx.now),
            Role::Init | Role::Primary => cx.now,
        };
        if at > cx.now {
            self.worker = Process::Pausing(at);
        } else {
            self.start_worker(cx);
        }
    }

    /// The daemon stops, or the resource has left the configuration.
    pub(crate) const fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Ends what runs and starts nothing more: the daemon stops, or the resource has left the configuration.
    ///
    /// `comes_back`: a daemon will, so what is paused may go on.
    pub(crate) fn leave(&mut self, cx: &mut Context<'_>, reason: &str, comes_back: bool) {
        self.leaving = true;
        self.peers.set_leaving(true);
        self.turn = Turn::default();
        let goes_on = comes_back && self.is_paused();
        if goes_on && self.runs_for_ever() {
            self.left_running = None;
        }
        self.on_hand_over_refused(cx, reason.to_string());
        self.last_workers = 0;
        self.refuse_all(cx);
        match self.worker {
            Process::Running(id) | Process::Ending { id, .. } => self.end_last_worker_as(cx, id, reason, goes_on),
            Process::Pausing(_) => self.start_worker(cx),
            Process::None => {}
        }
    }

    /// New settings; only a new script restarts what runs.
    pub(crate) fn reconfigure(&mut self, cx: &mut Context<'_>, settings: Resource) {
        if core::mem::take(&mut self.leaving) {
            // It had left the configuration, and its worker has not ended yet.
            self.peers.set_leaving(false);
            let role = settings.role_on_start;
            self.settings = settings;
            self.give_role(cx, role, RoleReason::Start);
            return;
        }
        if settings == self.settings {
            return;
        }
        let highest = self.report.as_ref().and_then(|report| report.lease.as_ref()).map_or(0, |lease| lease.highest);
        self.peers.reconfigure(cx.now, &settings, highest);
        let restart = settings.exec != self.settings.exec && self.role != Role::Init;
        self.event(cx, Event::Reconfigured { restart });
        self.settings = settings;
        // It was silent by the settings before.
        self.heard = cx.now;
        if let Process::Running(id) = self.worker {
            if restart {
                // With the new script its successor would not find what the old one has started.
                self.end_last_worker_as(cx, id, "the configuration has a new exec", self.is_paused());
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
        let wish = self.wish(cx.now);
        let stays = match wish {
            Wish::Stays(why) => Some(why),
            Wish::NotSecondary | Wish::Needs(_) | Wish::WaitsForTurn | Wish::Stands => None,
        };
        self.event(cx, Event::ComplaintHeard { from, count, threshold, stays });
        if let Process::Running(id) = self.worker {
            cx.out.push(Action::Order { id, order: Order::Complaint });
        }
        if matches!(wish, Wish::WaitsForTurn | Wish::Stands) {
            self.take_over(cx, false);
        }
    }

    /// What the complaints that were heard come to.
    pub(crate) fn wish(&self, now: Instant) -> Wish {
        if self.role != Role::Secondary {
            return Wish::NotSecondary;
        }
        match (self.complaints_missing(now), self.why_stay_secondary(now)) {
            (0, Some(why)) => Wish::Stays(why),
            (0, None) if self.waits_for_turn() => Wish::WaitsForTurn,
            (0, None) => Wish::Stands,
            (more, _) => Wish::Needs(more),
        }
    }

    /// How many more it takes until there are enough.
    fn complaints_missing(&self, now: Instant) -> u32 {
        let count = self.complaints.within(now, self.settings.complaint_interval);
        complaints_needed(&self.settings).saturating_sub(count)
    }

    /// The worker has won the lease for this node.
    pub(crate) fn on_won(&mut self, cx: &mut Context<'_>, id: WorkerId, grant: Grant) {
        let is_current = matches!(self.worker, Process::Running(current) if current == id);
        if !is_current || self.role != Role::Secondary {
            return;
        }
        if self.why_stay_secondary(cx.now).is_some() {
            // It gives the lease back when it hears of a primary.
            let served = self.primary.and_then(|conn| self.peers.address(conn)).map(ToString::to_string);
            cx.out.push(Action::Order { id, order: Order::ServedBy(served.or(Some(String::new()))) });
            return;
        }
        self.grant = Some(grant);
        let reason = match self.complaints(cx.now) {
            complaints if complaints > self.settings.complaint_count => RoleReason::Takeover { complaints },
            _ => RoleReason::LeaseReleased,
        };
        self.set_role(cx, Role::Primary, reason);
    }

    /// What keeps a secondary from standing, however many complain.
    pub(crate) fn why_stay_secondary(&self, now: Instant) -> Option<StaysSecondary> {
        if self.is_paused() {
            return Some(StaysSecondary::Paused);
        }
        if self.served.is_some() || self.primary.is_some() {
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

    /// The worker has a process now; what is expected of it is expected from now on.
    pub(crate) fn on_worker_started(&mut self, now: Instant) {
        self.is_started = true;
        self.note_alive(now);
        if let Process::Ending { kill_at: Some(kill_at), .. } = &mut self.worker {
            *kill_at = now + end_budget(&self.settings);
        }
    }

    /// News from the worker: what `status` shall say.
    pub(crate) fn on_report(&mut self, cx: &mut Context<'_>, id: WorkerId, report: Report) {
        if self.worker() == Some(id) {
            if let (Role::Primary, Some(lease)) = (self.role, &report.lease) {
                self.lease_until = lease.runs_until.or(self.lease_until.filter(|until| *until != FOR_EVER));
            }
            if let Some(lease) = &report.lease {
                self.peers.mind_voters(cx, &self.settings, lease);
            }
            self.must_stop = report.state == State::Failed || (self.must_stop && report.state != State::Stopped);
            self.report = Some(report);
            self.record_pause(cx);
            self.give_back_kept(cx);
            self.told_not_started = None;
            self.on_word(cx);
        }
    }

    /// The worker is alive.
    fn on_word(&mut self, cx: &mut Context<'_>) {
        self.note_alive(cx.now);
        if core::mem::take(&mut self.told_stuck) {
            self.event(cx, Event::WorkerBack);
        }
    }

    /// How long a worker has been silent that should speak at every heartbeat; `None` while that is no reason to doubt it.
    pub fn stuck_for(&self, now: Instant) -> Option<Duration> {
        let silent_for = now.since(self.heard);
        (self.expects_reports() && silent_for >= self.silence_limit()).then_some(silent_for)
    }

    const fn expects_reports(&self) -> bool {
        matches!(self.worker, Process::Running(_)) && !matches!(self.role, Role::Init)
    }

    fn silence_limit(&self) -> Duration {
        if !self.is_started {
            return LONGEST_START;
        }
        // A watchdog's sleeps while a primary is heard.
        let beats = if self.role == Role::Watchdog { SILENT_HEARTBEATS + REST_BEATS } else { SILENT_HEARTBEATS };
        (self.settings.heartbeat_interval * beats).max(MIN_SILENCE)
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
        if matches!(self.worker, Process::Running(_)) && !matches!(exit, WorkerExit::NotStarted(_)) {
            self.turn.end();
        }
        self.report = None;
        let wanted = self.wanted_by.take().is_some();
        if matches!(exit, WorkerExit::Farewell(_)) && !self.is_paused() && self.runs_for_ever() {
            // It has stopped what the votes were kept for.
            self.lease_until = None;
        }
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
            WorkerExit::Farewell(Farewell::HandedOver(to)) => {
                if let Some(switchover) = &mut self.switchover {
                    switchover.on_released(cx.now, &to);
                }
                if wanted {
                    self.event(cx, Event::Commanded { command: alloc::format!("switchover {to}"), who: to.clone() });
                }
                self.set_role(cx, Role::Secondary, RoleReason::GaveUp(GiveUp::HandedOver { to }));
            }
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
        let primary = self.primary.and_then(|conn| self.peers.silent_at(&self.settings, conn));
        let peers = self.peers.next_deadline(&self.settings);
        let switchover = self.switchover.as_ref().map(Switchover::deadline);
        let silence = self.hearing_worker().and_then(|_| self.watch.deadline(&self.settings));
        let pause = [self.peers.pause().ends(), self.too_long_at, self.turn.deadline()];
        let others =
            [worker, stuck, self.replace_at(), primary, peers, switchover, silence].into_iter().chain(pause).flatten();
        self.half_open.iter().map(|half| half.until).chain(others).min()
    }

    /// A primary's worker that is frozen while the daemon is not: it would outlive its lease. Another one takes its place in time.
    fn replace_at(&self) -> Option<Instant> {
        let holds = !self.legacy
            && !self.is_killed
            && !is_off(Rule::ReplaceFrozen)
            && match self.worker {
                // One that has no process yet runs nothing, and another one in its place would wait again.
                Process::Running(_) => self.role == Role::Primary && self.is_started,
                // Of a primary that has stopped the resource nothing more is expected.
                Process::Ending { .. } => {
                    self.acts_as_primary && self.report.as_ref().is_some_and(|report| report.state != State::Stopped)
                }
                Process::None | Process::Pausing(_) => false,
            };
        // At the end of its lease a worker that is alive says at once that it stops: one that was alone with the lease nearly over, and stands
        // still since, does not.
        let grace = self.settings.heartbeat_interval / END_GRACE_PARTS;
        let end = self.lease_until.filter(|until| self.heard < *until && *until != FOR_EVER).map(|until| until + grace);
        holds.then(|| end.map_or(self.replace_at, |end| end.min(self.replace_at)))
    }

    fn note_alive(&mut self, now: Instant) {
        let lease = self.settings.lease;
        let limit = (lease - self.settings.heartbeat_interval / 2).max(MIN_REPLACE).min(lease.max(MIN_REPLACE));
        // One that has not said anything yet may be ending what its predecessor has left: the next one would have to do the same.
        let limit = if self.report.is_none() {
            limit.max(orphan::longest_wait(self.settings.stop_timeout) + MIN_REPLACE)
        } else {
            limit
        };
        (self.heard, self.replace_at) = (now, now + limit);
    }

    fn replace_silent_worker(&mut self, cx: &mut Context<'_>) {
        let Some(at) = self.replace_at().filter(|at| cx.now >= *at) else { return };
        let Some(id) = self.worker() else { return };
        let grace = (self.settings.heartbeat_interval / 2).max(MIN_REPLACE / 2);
        if cx.now.since(at) > grace {
            // The silence was this process's own: the worker, which woke with it, may be stopping what it must not run any more.
            self.note_alive(cx.now);
            self.replace_at = cx.now + grace;
            return;
        }
        self.kill_worker(cx, id, WorkerFault::Silent);
    }

    fn kill_worker(&mut self, cx: &mut Context<'_>, id: WorkerId, fault: WorkerFault) {
        self.is_killed = true;
        self.event(cx, Event::WorkerKilled(fault));
        cx.out.push(Action::KillWorker(id));
    }

    pub(crate) fn on_timer(&mut self, cx: &mut Context<'_>) {
        match &mut self.worker {
            Process::Pausing(until) if cx.now >= *until => self.start_worker(cx),
            Process::Ending { id, kill_at } if kill_at.is_some_and(|at| cx.now >= at) => {
                *kill_at = None;
                let id = *id;
                self.kill_worker(cx, id, WorkerFault::DoesNotEnd);
            }
            Process::None | Process::Running(_) | Process::Ending { .. } | Process::Pausing(_) => {}
        }
        if !self.told_stuck
            && let Some(silent_for) = self.stuck_for(cx.now)
        {
            self.told_stuck = true;
            self.event(cx, Event::WorkerStuck { silent_for });
        }
        self.replace_silent_worker(cx);
        self.mind_peers(cx);
        self.mind_pause(cx);
        self.mind_turn(cx.now);
        let now = cx.now;
        for half in self.half_open.extract_if(.., |half| now >= half.until) {
            match half.stage {
                Handshake::Token(_) => cx.out.push(Action::Close(half.conn)),
                Handshake::Waits { .. } => cx.refuse(half.conn, Refusal::Busy),
            }
        }
    }

    /// Among originals a worker needs to know whether there are friends, not who they are: its assignment has to fit into one packet.
    fn settings_for_worker(&self) -> Resource {
        let mut settings = self.settings.clone();
        if self.legacy {
            settings.friends.truncate(1);
        }
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
            // It is paused, and a daemon will find it.
            WorkerExit::Code(_) | WorkerExit::Signal(_) if self.leaving && self.is_paused() && self.runs_for_ever() => {
            }
            WorkerExit::Code(_) | WorkerExit::Signal(_) if had_it_in_hand => {
                self.left_running = Some(self.exec.clone());
                // No votes are kept for what a primary was to stop: a pause that has come since changes nothing about that.
                self.must_stop |= self.told == Role::Primary && self.role != Role::Primary;
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
        self.note_alive(cx.now);
        self.acts_as_primary = role == Role::Primary;
        self.is_started = false;
        self.is_killed = false;
        self.told_stuck = false;
        self.told_poll = None;
        self.watch = Watch::default();
        self.exec.clone_from(&self.settings.exec);
        self.began = cx.now;
        let lease = (!self.legacy).then(|| LeasePart {
            node: self.peers.me().to_string(),
            grant: self.grant.take().filter(|_| role == Role::Primary),
            keep_until: self.lease_until.filter(|_| role == Role::Primary || self.left_running.is_some()),
            force: core::mem::take(&mut self.force) && role == Role::Primary,
            seed: cx.common.seed ^ id.0.wrapping_mul(SEED_STEP),
            pause: self.peers.pause().told(cx.now),
            must_stop: self.must_stop,
        });
        let (resource, in_haste) = (self.settings_for_worker(), !self.legacy);
        let assignment = Assignment { resource, role, changed_from, replaces, lease, in_haste };
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
        self.acts_as_primary = false;
        self.is_killed = false;
        self.exec.clone_from(&exec);
        self.told_before = self.told;
        let id = WorkerId(cx.new_id());
        let resource = Resource { exec, ..self.settings_for_worker() };
        let assignment = Assignment {
            resource,
            role: Role::Secondary,
            changed_from: None,
            replaces: None,
            lease: None,
            in_haste: !self.legacy,
        };
        cx.out.push(Action::StartWorker { id, assignment: Box::new(assignment) });
        self.end_last_worker(cx, id, "an earlier worker has left it running");
    }

    fn restart_worker(&mut self, cx: &mut Context<'_>, how: String) {
        self.event(cx, Event::WorkerDied { how, then: WorkerNext::Restart });
        // A lease does not wait for a worker that had lived for a while.
        let lived = cx.now.since(self.began);
        let pause = match lived < RESTART_PAUSE {
            _ if self.legacy => RESTART_PAUSE,
            true => RESTART_PAUSE.min(self.settings.heartbeat_interval / RESTARTS_PER_HEARTBEAT),
            false => Duration::ZERO,
        };
        self.worker = Process::Pausing(cx.now + pause);
    }

    fn end_worker(&mut self, cx: &mut Context<'_>, reason: &str, hurry: bool, successor: Option<String>) {
        if let Process::Running(id) = self.worker {
            self.worker = Process::Ending { id, kill_at: Some(cx.now + end_budget(&self.settings)) };
            cx.out.push(Action::Order { id, order: Order::End { reason: reason.to_string(), hurry, successor } });
        }
    }

    /// Ends a worker that nobody follows who would stop what it leaves running.
    fn end_last_worker(&mut self, cx: &mut Context<'_>, id: WorkerId, reason: &str) {
        self.end_last_worker_as(cx, id, reason, false);
    }

    /// `goes_on`: what runs may go on, because it is paused.
    fn end_last_worker_as(&mut self, cx: &mut Context<'_>, id: WorkerId, reason: &str, goes_on: bool) {
        let kill_at = match self.worker {
            Process::Ending { kill_at, .. } => kill_at,
            _ => Some(cx.now + end_budget(&self.settings)),
        };
        self.worker = Process::Ending { id, kill_at };
        let reason = reason.to_string();
        let order = if goes_on { Order::LeaveRunning { reason } } else { Order::Leave { reason } };
        cx.out.push(Action::Order { id, order });
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
        cx.event(&self.settings, event);
    }
}

/// Protocol 1 and the lease.
impl Supervisor {
    /// What this node says of itself.
    fn here(&self) -> Here {
        let known = self.report().map(|report| report.state);
        // A primary that waits for this node must not start before it is known what runs here.
        let unknown = if self.role == Role::Secondary { State::Stopping } else { State::Unknown };
        Here { role: self.role, state: known.unwrap_or(unknown), waits_for_turn: self.waits_for_turn() }
    }

    /// The nodes that have connected, and the vote of this node.
    pub(crate) const fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Why the nodes of this resource cannot change now; `None`: they can.
    pub(crate) fn why_not_change_nodes(&self, new: &Voters) -> Option<String> {
        let lease = self.report.as_ref().and_then(|report| report.lease.as_ref());
        self.peers.why_not_change(new, lease.map_or(&[], |lease| &lease.in_force))
    }

    /// Whether this resource runs without the lease.
    pub(crate) const fn is_legacy(&self) -> bool {
        self.legacy
    }

    /// The epoch of the lease: of the one that is held here, or the highest that this node has voted for.
    pub fn epoch(&self) -> Option<u64> {
        let held = self.report().and_then(|report| report.lease.as_ref()?.epoch);
        let known = self.peers.voter().map(Voter::highest).filter(|epoch| *epoch > 0);
        held.or(known).filter(|_| !self.legacy)
    }

    /// The nodes whose votes count here, as soon as the record of the vote has been looked for. Those of the configuration may come into force later.
    pub fn voters_in_force(&self) -> Option<&Voters> {
        self.peers.voter().map(Voter::voters)
    }

    pub(crate) fn on_record_found(&mut self, cx: &mut Context<'_>, found: Result<Option<Record>, NotFound>) {
        // This node voted for itself, and the vote was not kept: its daemon and its worker may both have been killed while the resource ran.
        let may_run = |record: &Record| record.holder == self.peers.me() && !record.kept && !record.hold.is_zero();
        if self.role == Role::Secondary && matches!(&found, Ok(Some(record)) if may_run(record)) {
            self.must_stop = true;
            if let Process::Running(id) = self.worker {
                cx.out.push(Action::Order { id, order: Order::MustStop });
            }
        }
        self.peers.on_record_found(cx, &self.settings, found);
    }

    pub(crate) fn on_recorded(&mut self, cx: &mut Context<'_>, id: u64, result: Result<(), String>) {
        let here = self.here();
        self.peers.on_recorded(cx, &self.settings, id, result, here);
    }

    pub(crate) fn on_hello(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        address: Address,
        hello: Hello,
        version: &str,
    ) -> Result<(), String> {
        if self.leaving {
            return Err("the resource is being removed here".to_string());
        }
        self.peers.on_hello(cx, conn, &self.settings, address, hello, version)
    }

    pub(crate) fn close_peers(&mut self, cx: &mut Context<'_>) {
        self.peers.close_all(cx);
    }

    /// The node at the other end of a connection of this resource.
    pub(crate) fn node_of(&self, conn: ConnId) -> Option<&str> {
        self.peers.node(conn)
    }

    /// A node that has connected says something.
    pub(crate) fn on_said(&mut self, cx: &mut Context<'_>, conn: ConnId, said: Said) {
        if self.legacy
            && self.role == Role::Primary
            && let Said::Beat { seq, ask: Some(ask), .. } = &said
        {
            // Without the lease this node has voted for itself, so to speak.
            let refused = NoVote::Bound { holder: self.peers.me().to_string(), left: self.settings.lease };
            let verdict = Verdict { round: ask.round, highest: 0, refused: Some(refused), kept: false };
            let here = self.here();
            self.peers.refuse(cx, conn, &self.settings, *seq, verdict, here);
            return;
        }
        let here = self.here();
        // Before the answer, which says what is known here.
        if let Said::Beat { pause: Some(pause), .. } = &said {
            self.on_pause_heard(cx, pause.clone());
        }
        let news = self.peers.on_said(cx, conn, &self.settings, said, here);
        match news {
            News::Primary { conn, node, priority, state } => self.on_primary(cx, conn, &node, priority, state),
            News::Complaint { node, released: false } => self.on_complaint(cx, node),
            News::Complaint { released: true, .. } => {
                self.told_of_release = self.primary.map(|_| cx.now);
                self.on_released(cx, false);
            }
            News::Released { to_us } => {
                if self.role == Role::Watchdog
                    && let Process::Running(id) = self.worker
                {
                    self.watch.on_released(cx.now);
                    cx.out.push(Action::Order { id, order: Order::Released });
                }
                if to_us {
                    // Whatever its own starts came to: the operator of a switchover wants it here.
                    self.hold_off_until = None;
                }
                self.mind_primary(cx);
                if let Some(switchover) = self.switchover.as_mut().filter(|_| to_us) {
                    switchover.on_released_to_us(cx.now);
                }
                if to_us || self.switchover.is_some() {
                    self.on_released(cx, true);
                } else if self.role == Role::Primary {
                    self.on_released(cx, false);
                }
            }
            News::Wanted { node } => self.on_wanted(cx, conn, node),
            News::Nothing => {}
        }
        if self.legacy {
            self.on_polled(cx);
        }
        self.mind_switchover(cx);
    }

    /// The lease was given back: whoever wants it need not wait for its end. `is_asked`: this node is to have it, and does not wait for its turn.
    fn on_released(&mut self, cx: &mut Context<'_>, is_asked: bool) {
        let waits = self.role == Role::Primary && !self.holds_lease(cx.now);
        if waits || (self.role == Role::Secondary && self.why_stay_secondary(cx.now).is_none()) {
            if is_asked {
                self.take_over_now(cx);
            } else {
                self.take_over(cx, true);
            }
        }
    }

    /// A primary beats.
    fn on_primary(&mut self, cx: &mut Context<'_>, conn: ConnId, node: &str, priority: i32, state: State) {
        let Process::Running(id) = self.worker else { return };
        match self.role {
            // One that waits for votes, in vain perhaps, must not keep this node from asking for them.
            Role::Secondary if self.primary != Some(conn) && self.peers.has_heard(cx.now, &self.settings, conn) => {
                self.primary = Some(conn);
                self.complaints.clear();
                let from = self.peers.address(conn).map_or_else(|| node.to_string(), ToString::to_string);
                cx.out.push(Action::Order { id, order: Order::ServedBy(Some(from)) });
            }
            Role::Watchdog if state == State::Run => {
                let reported = self.report.as_ref().map(|report| report.state);
                if self.watch.on_runs(cx.now, reported) {
                    cx.out.push(Action::Order { id, order: Order::PrimaryRuns });
                }
            }
            Role::Primary if priority <= self.settings.priority && self.holds_lease(cx.now) && !self.is_paused() => {
                let ours = self.settings.priority;
                let reason = RoleReason::YieldsTo { node: node.to_string(), theirs: priority, ours };
                self.set_role(cx, self.previous, reason);
            }
            Role::Init | Role::Primary | Role::Secondary | Role::Watchdog => {}
        }
    }

    /// The worker of a watchdog that takes the primary for heard.
    fn hearing_worker(&self) -> Option<WorkerId> {
        let hears = self.report.as_ref().is_some_and(|report| report.state == State::Run);
        match self.worker {
            Process::Running(id) if self.role == Role::Watchdog && !self.legacy && hears => Some(id),
            _ => None,
        }
    }

    fn tell_silence(&mut self, cx: &mut Context<'_>) {
        if let Some(id) = self.hearing_worker()
            && let Some(since) = self.watch.tell_silence(cx.now, &self.settings)
        {
            cx.out.push(Action::Order { id, order: Order::PrimarySilent { since } });
        }
    }

    /// Whether the worker holds the lease, by votes or by the word of an operator.
    pub fn holds_lease(&self, now: Instant) -> bool {
        let lease = self.report.as_ref().and_then(|report| report.lease.as_ref());
        lease.is_some_and(|lease| lease.is_forced || lease.until.is_some_and(|until| now < until))
    }

    /// The worker asks for the vote of this node.
    pub(crate) fn on_asked(&mut self, cx: &mut Context<'_>, id: WorkerId, ask: &Ask) {
        if self.worker() == Some(id) {
            self.on_word(cx);
        }
        let here = self.here();
        self.peers.on_ask(cx, &self.settings, Asker::Worker(id), ask, here);
    }

    /// The worker has had another node turned off.
    pub(crate) fn on_fenced(&mut self, cx: &mut Context<'_>, node: &str, epoch: u64) {
        self.peers.on_fenced(cx, &self.settings, node, epoch);
    }

    /// The worker gives the vote of this node back.
    pub(crate) fn on_release_here(&mut self, cx: &mut Context<'_>, release: &Release) {
        if release.was_held || self.runs_for_ever() {
            self.lease_until = None;
            // It had won, and was told of another primary before it heard that its victory counts: the next worker must win anew.
            self.grant.take_if(|grant| grant.epoch <= release.epoch);
        }
        self.peers.on_release(cx, &self.settings, release);
    }

    /// A connection of protocol 1 is gone; says whether it was one of this resource.
    pub(crate) fn on_peer_gone(&mut self, cx: &mut Context<'_>, conn: ConnId, why: Option<String>) -> bool {
        let was_ours = self.peers.on_gone(cx, &self.settings, conn, why);
        self.mind_primary(cx);
        was_ours
    }

    fn mind_peers(&mut self, cx: &mut Context<'_>) {
        self.peers.mind_record(cx, &self.settings);
        self.peers.drop_silent(cx, &self.settings);
        self.peers.note_expired(cx, &self.settings);
        self.mind_primary(cx);
        self.tell_silence(cx);
        self.mind_switchover(cx);
    }

    /// Whether the primary that was connected still is.
    fn mind_primary(&mut self, cx: &mut Context<'_>) {
        let Some(conn) = self.primary else { return };
        if self.peers.has_heard(cx.now, &self.settings, conn) {
            return;
        }
        self.primary = None;
        self.forget_early_complaints(cx.now);
        if let Process::Running(id) = self.worker {
            cx.out.push(Action::Order { id, order: Order::ServedBy(None) });
        }
        let told = self.told_of_release.take();
        if told.is_some_and(|at| cx.now.since(at) < self.settings.heartbeat_interval) {
            self.on_released(cx, false);
        }
    }

    /// An operator answers for making this node primary without a majority.
    pub(crate) fn force(&mut self, cx: &mut Context<'_>, reason: RoleReason) {
        if self.leaving || self.legacy {
            return;
        }
        self.event(cx, Event::Forced);
        if self.role == Role::Primary {
            if let Process::Running(id) = self.worker {
                cx.out.push(Action::Order { id, order: Order::Force });
            }
            return;
        }
        self.force = true;
        self.set_role(cx, Role::Primary, reason);
        self.force = self.role == Role::Primary && !matches!(self.worker, Process::Running(_));
    }

    /// An operator wants the resource on another node, or on this one; answered when it is there, or why it is not.
    pub(crate) fn switch_over(&mut self, cx: &mut Context<'_>, conn: ConnId, to: Option<String>) {
        let is_here = to.as_deref() == Some(self.peers.me());
        match self.begin_switchover(cx.now, conn, is_here) {
            Ok((switchover, id)) => {
                self.switchover = Some(switchover);
                cx.out.push(Action::Order { id, order: Order::HandOver(to) });
            }
            Err(why) => {
                cx.out.push(Action::Reply { conn, message: SwitchoverReply::refused(why).encode(), keep: false })
            }
        }
    }

    fn begin_switchover(
        &mut self,
        now: Instant,
        conn: ConnId,
        is_here: bool,
    ) -> Result<(Switchover, WorkerId), String> {
        let switchover = Switchover::new(now, conn, &self.settings);
        if !is_here {
            return self.may_hand_over(now).map(|id| (switchover, id));
        }
        self.may_switch(now)?;
        match (self.role, &self.worker) {
            (Role::Primary, _) => Err("this node is primary already".to_string()),
            (Role::Secondary, Process::Running(id)) => {
                let holder = self.peers.bound(now).map(|bound| bound.holder.to_string());
                let from = self.peers.runs_on().map(ToString::to_string).or(holder).ok_or("no primary is connected")?;
                // Whatever its own starts came to: the operator wants it here.
                self.hold_off_until = None;
                Ok((switchover.coming_from(from), *id))
            }
            _ => Err(alloc::format!("this node is {}, and not ready to take it", self.role)),
        }
    }

    /// What keeps a resource where it is, whatever role this node has.
    fn may_switch(&self, now: Instant) -> Result<(), String> {
        if self.legacy {
            return Err("among hastmon 0.3 (--legacy-peers) there is no lease to hand over".to_string());
        }
        if self.is_paused() {
            return Err(self.pause_told(now).forbids(&self.settings.name));
        }
        if self.is_switching(now) {
            return Err("another switchover is under way".to_string());
        }
        Ok(())
    }

    /// Whether a switchover is under way, as far as this node knows.
    pub(crate) fn is_switching(&self, now: Instant) -> bool {
        self.switchover.is_some() || self.wanted_by.is_some_and(|(_, until)| now < until)
    }

    /// The worker that can hand over; or why there is none.
    fn may_hand_over(&self, now: Instant) -> Result<WorkerId, String> {
        self.may_switch(now)?;
        match (self.role, &self.worker) {
            (Role::Primary, Process::Running(id)) => Ok(*id),
            (Role::Primary, _) => Err("the worker is being started".to_string()),
            _ => {
                let holder = self.peers.bound(now).map(|bound| bound.holder.to_string());
                let holder =
                    holder.map_or_else(String::new, |node| alloc::format!(": ask {node}, which holds the lease"));
                Err(alloc::format!("this node is {} and not primary{holder}", self.role))
            }
        }
    }

    /// An operator wants the resource on another node, and has asked there.
    fn on_wanted(&mut self, cx: &mut Context<'_>, conn: ConnId, node: String) {
        match self.may_hand_over(cx.now) {
            Ok(id) => {
                self.wanted_by = Some((conn, Switchover::new(cx.now, conn, &self.settings).deadline()));
                cx.out.push(Action::Order { id, order: Order::HandOver(Some(node)) });
            }
            Err(why) => self.peers.refuse_fetch(conn, why),
        }
    }

    /// The worker cannot hand over.
    pub(crate) fn on_hand_over_refused(&mut self, cx: &mut Context<'_>, why: String) {
        if let Some((conn, until)) = self.wanted_by.take()
            && cx.now < until
        {
            self.peers.refuse_fetch(conn, why);
        } else if let Some(switchover) = self.switchover.take() {
            cx.out.push(switchover.refused(why));
        }
    }

    fn mind_switchover(&mut self, cx: &mut Context<'_>) {
        let Some(switchover) = &mut self.switchover else { return };
        if let Some(from) = switchover.from() {
            let here = self.report.as_ref().map(|report| report.state);
            let there = self.peers.state_on(from).map(|(_, state)| state);
            if let Some(reply) = switchover.look_here(cx.now, self.role, here, there, self.peers.runs_on()) {
                cx.out.push(reply);
                self.switchover = None;
            }
            return;
        }
        let there = switchover.to().and_then(|to| self.peers.state_on(to));
        let here = self.report.as_ref().map(|report| report.state);
        let elsewhere = self.peers.runs_on().filter(|node| switchover.to().is_some_and(|to| to != *node));
        if let Some(reply) = switchover.look(cx.now, self.role, here, there, elsewhere) {
            cx.out.push(reply);
            self.switchover = None;
        }
    }
}

/// Pauses.
impl Supervisor {
    /// Whether the resource is paused.
    pub const fn is_paused(&self) -> bool {
        self.peers.pause().is_paused()
    }

    /// Whether it is paused, with the time that is left.
    pub(crate) fn pause_told(&self, now: Instant) -> Pause {
        self.peers.pause().told(now)
    }

    /// A primary, this node or another one, and how many votes are kept for it.
    pub(crate) fn kept_for(&self) -> Option<(&str, u32)> {
        let report = self.report.as_ref().and_then(|report| report.lease.as_ref());
        let here = report.filter(|_| self.role == Role::Primary).map(|lease| (self.peers.me(), lease.kept));
        here.or_else(|| self.peers.kept_for())
    }

    /// A majority keeps its votes for what runs here.
    pub(crate) fn runs_for_ever(&self) -> bool {
        self.lease_until == Some(FOR_EVER)
    }

    /// An operator pauses the resource, or ends that.
    pub(crate) fn change_pause(&mut self, cx: &mut Context<'_>, paused: Option<Paused>) {
        let pause = self.peers.pause().pause().next(self.peers.me(), paused);
        self.adopt_pause(cx, pause, false);
    }

    /// Another node knows better.
    pub(crate) fn on_pause_heard(&mut self, cx: &mut Context<'_>, pause: Pause) {
        if !self.legacy && pause.is_newer_than(self.peers.pause().pause()) {
            self.adopt_pause(cx, pause, false);
        }
    }

    fn adopt_pause(&mut self, cx: &mut Context<'_>, pause: Pause, is_over: bool) {
        let was_paused = self.is_paused();
        let flag = Flag::new(cx.now, pause.clone());
        self.peers.set_pause(cx.now, &self.settings, flag);
        match (was_paused, &pause.paused) {
            (_, Some(_)) => self.event(cx, Event::Paused(pause.clone())),
            (true, None) if is_over => self.event(cx, Event::PauseEnded),
            (true, None) => self.event(cx, Event::Resumed { node: pause.node.clone() }),
            (false, None) => {}
        }
        self.too_long_at = self.is_paused().then(|| cx.now + TOO_LONG);
        if was_paused && !self.is_paused() {
            // What was heard meanwhile was heard of a node that may have been stopped on purpose.
            self.complaints.clear();
        }
        self.record_pause(cx);
        if let Some(id) = self.worker().filter(|_| !self.legacy) {
            cx.out.push(Action::Order { id, order: Order::Pause(pause) });
        }
    }

    /// What must be known after a restart is written when it has changed: the pause, and while it lasts the role, and whether what runs may go on.
    fn record_pause(&mut self, cx: &mut Context<'_>) {
        let pause = self.peers.pause().pause();
        if self.legacy || pause.version == 0 {
            return;
        }
        let resource = self.settings.name.clone();
        let kept = self.is_paused() && self.role == Role::Primary && self.runs_for_ever();
        // After a pause the role is of no interest.
        let role = match self.role {
            _ if !self.is_paused() => Role::Init,
            _ if self.is_to_be_primary() => Role::Primary,
            role => role,
        };
        let record = PauseRecord { resource, pause: pause.clone(), role, kept };
        if self.recorded.as_ref().is_some_and(|(_, recorded)| *recorded == record) {
            return;
        }
        let id = cx.new_id();
        self.recorded = Some((id, record.clone()));
        self.record_failed = None;
        let told = PauseRecord { pause: self.peers.pause().told(cx.now), ..record };
        cx.out.push(Action::RecordPause { id, record: told });
    }

    /// It is on disk, or why not.
    pub(crate) fn on_pause_recorded(&mut self, cx: &mut Context<'_>, id: u64, result: Result<(), String>) {
        if self.recorded.as_ref().is_none_or(|(newest, _)| *newest != id) {
            return;
        }
        match result {
            Ok(()) => self.record_done = id,
            Err(why) => {
                self.record_failed = Some(why.clone());
                self.event(cx, Event::PauseNotRecorded { why });
            }
        }
    }

    /// What depends on the time.
    fn mind_pause(&mut self, cx: &mut Context<'_>) {
        if self.peers.pause().ends().is_some_and(|ends| cx.now >= ends) {
            let pause = self.peers.pause().pause().next(self.peers.me(), None);
            self.adopt_pause(cx, pause, true);
        }
        if self.too_long_at.is_some_and(|at| cx.now >= at) {
            self.too_long_at = Some(cx.now + TOO_LONG);
            self.event(cx, Event::PausedTooLong(self.peers.pause().told(cx.now)));
        }
    }

    /// A secondary whose resource does not run has no use for the vote that this node keeps for itself since it was primary.
    fn give_back_kept(&mut self, cx: &mut Context<'_>) {
        let is_idle = self.report.as_ref().is_some_and(|report| {
            let wants = report.lease.as_ref().is_none_or(|lease| lease.epoch.is_some() || lease.waits.is_some());
            report.state == State::Stopped && !wants
        });
        let is_settled = self.role == Role::Secondary && matches!(self.worker, Process::Running(_));
        if self.is_paused() || !is_idle || !is_settled {
            return;
        }
        if let Some(epoch) = self.peers.kept_for_me(cx.now) {
            let node = self.peers.me().to_string();
            let release = Release { node, epoch, successor: None, reserve: Duration::ZERO, was_held: true };
            self.on_release_here(cx, &release);
        }
    }

    /// How a pause, or its end, stands: in words for the operator, and whether there is nothing left to wait for. `is_last`: nobody waits any
    /// longer.
    pub(crate) fn pause_answer(&self, now: Instant, is_last: bool) -> Option<Result<String, String>> {
        let (name, me) = (&self.settings.name, self.peers.me());
        let is_recorded = self.recorded.as_ref().is_some_and(|(id, _)| *id == self.record_done);
        if let Some(why) = &self.record_failed {
            return Some(Err(alloc::format!("{name}: cannot be recorded on {me}: {why}")));
        }
        let report = self.report.as_ref().and_then(|report| report.lease.as_ref());
        let knows = |node: &&String| {
            let by_worker = report.is_some_and(|lease| lease.know.contains(node));
            *node == me || by_worker || self.peers.know_of_pause().any(|known| known == *node)
        };
        let (know, missing): (Vec<&String>, Vec<&String>) = self.settings.nodes.iter().partition(knows);
        let list = |nodes: &[&String]| nodes.iter().map(|node| node.as_str()).collect::<Vec<_>>().join(" ");
        let unheard = match missing.len() {
            0 => String::new(),
            _ => alloc::format!("; not reached, and will hear of it when it is: {}", list(&missing)),
        };
        let (of, needed) = (self.settings.nodes.len(), self.settings.nodes.len() / 2 + 1);
        if !self.is_paused() {
            let is_complete = is_recorded && missing.is_empty();
            return (is_complete || is_last)
                .then(|| Ok(alloc::format!("{name} is no longer paused on {}{unheard}", list(&know))));
        }
        let holder = self.kept_for();
        let kept = holder.map_or(0, |(_, kept)| usize::try_from(kept).unwrap_or(usize::MAX));
        let is_complete = is_recorded && missing.is_empty() && holder.is_none_or(|_| kept >= of);
        if !is_complete && !is_last {
            return None;
        }
        let on = alloc::format!("{name} is {}; on {}{unheard}", self.pause_told(now), list(&know));
        Some(match holder {
            None => Ok(alloc::format!("{on}; no node holds its lease")),
            Some((holder, _)) if kept >= needed => Ok(alloc::format!(
                "{on}; hastmon on its primary {holder} may be stopped: {kept} of {of} votes are kept"
            )),
            Some((holder, _)) => Err(alloc::format!(
                "{on}; do NOT stop hastmon on its primary {holder}, which would stop {name}: only {kept} of {of} votes are kept, and {needed} are needed"
            )),
        })
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

#[cfg(test)]
mod lease_tests;

#[cfg(test)]
mod pause_tests;
