//! What is worth telling an administrator. One list, so that the log and whatever else tells of events agree.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::hooks::{Exit, Finished, Hook, Outcome};
use crate::pause::Pause;
use crate::time::Duration;
use crate::types::{Role, State};

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For those who look for a fault.
    Debug,
    /// The ordinary course of things.
    Info,
    /// Something failed that may mend itself.
    Warning,
    /// Somebody should look.
    Error,
}

/// Something that happened, for one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The role on this node has changed.
    RoleChanged {
        /// The role before.
        old: Role,
        /// The role now.
        new: Role,
        /// Why.
        reason: RoleReason,
    },
    /// The state of the resource on this node has changed.
    StateChanged {
        /// The state before.
        old: State,
        /// The state now.
        new: State,
    },
    /// `start` is about to run.
    Starting {
        /// Which attempt this is.
        attempt: u32,
        /// How many there may be.
        of: u32,
    },
    /// A primary whose resource does not run may not start it yet.
    StartWaits {
        /// What for.
        why: String,
    },
    /// A running resource is stopped on the primary, because a remote runs it too.
    RemoteRunsToo {
        /// The remote.
        remote: String,
        /// What it reports.
        state: State,
    },
    /// The resource may still run here: `stop` did not do its work.
    MayStillRun,
    /// The script cannot be started any more, so a resource that ran is neither checked nor stopped nor given up.
    LeftAlone,
    /// The resource was found running on a primary that does not hold the lease.
    RunsWithoutLease,
    /// The primary gives up its role.
    GivingUp(GiveUp),
    /// A hook did not do what was asked.
    HookFailed(Finished),
    /// A hook runs for long.
    HookSlow {
        /// Which.
        hook: Hook,
        /// For how long by now.
        running_for: Duration,
    },
    /// Too many hooks wait: this one will not run.
    HookDropped(Hook),
    /// A connection between a primary and a secondary was made.
    Connected {
        /// The other side.
        remote: String,
    },
    /// A connection between a primary and a secondary was lost.
    Disconnected {
        /// The other side.
        remote: String,
        /// Why.
        why: String,
    },
    /// A remote cannot be reached or does not want us; told when the reason changes.
    Unreachable {
        /// The other side.
        remote: String,
        /// Why.
        why: String,
    },
    /// The watchdog sees no primary that runs the resource, and complains.
    Complaining {
        /// How many complaints there were within the interval, this one included.
        count: u32,
    },
    /// A complaint was heard from a watchdog.
    ComplaintHeard {
        /// Who complains.
        from: String,
        /// How many there were within the interval, this one included.
        count: u32,
        /// More than this many count.
        threshold: u32,
        /// Why this secondary does not take over, when there are enough of them.
        stays: Option<StaysSecondary>,
    },
    /// Somebody has connected who is in no configuration, and was not listened to.
    StrangerRefused {
        /// From where.
        address: String,
    },
    /// A caller asked for something that it may not have, or that makes no sense.
    CallerRefused {
        /// Who.
        caller: String,
        /// What, and why not.
        why: String,
    },
    /// The lease is won.
    LeaseWon {
        /// Its epoch.
        epoch: u64,
        /// How many votes there are.
        votes: usize,
        /// How many vote.
        of: usize,
    },
    /// A candidate has not got a majority.
    VotesRefused {
        /// Who refused, and why.
        why: String,
        /// When it asks again.
        again_in: Duration,
    },
    /// A node was expected to have other voters.
    VotersDiffer {
        /// Which node.
        node: String,
        /// Who votes there.
        there: String,
        /// Who votes here.
        here: String,
    },
    /// The votes of the node cannot be recorded, so it gives none.
    NotRecorded {
        /// Why, and what to do.
        why: String,
    },
    /// What the node has promised before cannot be read, so it gives no votes.
    RecordUnreadable {
        /// Why, and what to do.
        why: String,
    },
    /// What the node has promised before is not known.
    RecordLost {
        /// Why.
        why: String,
        /// For how long it gives no vote.
        wait: Duration,
    },
    /// The fence script is called for a node.
    Fencing {
        /// Which.
        node: String,
    },
    /// It says that the node is off.
    Fenced {
        /// Which.
        node: String,
    },
    /// It does not.
    FenceFailed {
        /// Which node.
        node: String,
        /// How the script ended.
        exit: Exit,
    },
    /// The host is rebooted, because the resource could not be stopped.
    Rebooting,
    /// An operator has made this node primary without a majority.
    Forced,
    /// The resource is paused: who did it, where and when.
    Paused(Pause),
    /// An operator has ended the pause.
    Resumed {
        /// Where.
        node: String,
    },
    /// The time of the pause is over.
    PauseEnded,
    /// It has been paused for so long that this may have been forgotten.
    PausedTooLong(Pause),
    /// A resource that is paused was found running on a secondary.
    RunsWhilePaused,
    /// A worker ends, and what it runs goes on.
    LeftRunning {
        /// How many votes are kept for this node.
        kept: usize,
        /// How many vote.
        of: usize,
    },
    /// A worker ends, and stops what it runs though it is paused.
    NotLeftRunning {
        /// How many votes are kept for this node.
        kept: usize,
        /// How many vote.
        of: usize,
        /// The script is starting or stopping it.
        is_busy: bool,
    },
    /// The pause cannot be recorded.
    PauseNotRecorded {
        /// Why, and what to do.
        why: String,
    },
    /// An event that stands for others of its kind, which were too many to be told one by one.
    Repeated {
        /// The last of them.
        last: Box<Event>,
        /// How many there were besides.
        others: u64,
    },
    /// A name of the configuration has no address: who has it is not known here, and cannot be reached.
    NameUnknown {
        /// Why.
        why: String,
        /// The resources that use it.
        resources: Vec<String>,
        /// It had addresses before, which go on being used.
        was_known: bool,
    },
    /// A name that had no address has one (again).
    NameKnown {
        /// The name.
        name: String,
        /// What it stands for.
        addresses: Vec<IpAddr>,
    },
    /// This process was not woken for so long that what it knows is out of date.
    WokeLate {
        /// How late.
        by: Duration,
    },
    /// The main daemon is gone: the worker ends what it runs.
    DaemonGone,
    /// A worker ended although nobody asked it to.
    WorkerDied {
        /// How.
        how: String,
        /// What follows.
        then: WorkerNext,
    },
    /// A worker process could not be started.
    WorkerNotStarted {
        /// Why.
        why: String,
    },
    /// A worker has said nothing for long: what is known of its resource is old.
    WorkerStuck {
        /// For how long.
        silent_for: Duration,
    },
    /// A worker that was silent speaks again.
    WorkerBack,
    /// A new configuration is in force.
    Reloaded {
        /// What it changes, resource by resource.
        changes: String,
    },
    /// The configuration was not changed.
    ReloadFailed {
        /// Why not.
        why: String,
    },
    /// The configuration of the resource changed.
    Reconfigured {
        /// Its resource runs a new script: it is stopped with the old one and started with the new one.
        restart: bool,
    },
}

/// Kinds of events that peers can cause as often as they like. Each is limited by itself, so that none hides another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flood {
    /// Strangers that connect.
    Strangers,
    /// Known callers with requests that are refused.
    Refusals,
    /// Complaints.
    Complaints,
    /// Primaries that connect and go.
    Connections,
    /// Calls of the script for such events that find no room.
    Hooks,
    /// A machine that is late again and again.
    Lateness,
}

/// What follows the unexpected end of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerNext {
    /// A new one for the same role, after a pause.
    Restart,
    /// The resource goes back to this role.
    Role(Role),
}

/// Why a secondary that has heard enough complaints stays what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaysSecondary {
    /// It has a connection from a primary.
    Connected,
    /// Its own starts have failed lately: the time that is left to wait.
    HoldsOff(Duration),
    /// It has not yet finished what its role before asked of it.
    Changing,
    /// The resource is paused.
    Paused,
}

/// Why a primary gives up its role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GiveUp {
    /// The resource does not run after this many attempts to start it.
    StartsFailed(u32),
    /// No remote was connected and nobody polled for this long.
    Isolated(Duration),
    /// No majority has renewed the lease.
    LeaseLost {
        /// How long after its end this was noticed.
        late: Duration,
    },
    /// The operator wants it on another node.
    HandedOver {
        /// Which.
        to: String,
    },
    /// A remote is primary, too, and has the better priority.
    Outranked {
        /// The remote.
        remote: String,
        /// Its priority.
        theirs: i32,
        /// Ours.
        ours: i32,
    },
}

/// Why a role changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleReason {
    /// `role_on_start` says so.
    Start,
    /// The resource is paused, and this was the role when the daemon ended.
    Paused,
    /// `hastmonctl role`, or who asked over the network.
    Operator(String),
    /// Complaints, and no connection from a primary.
    Takeover {
        /// How many complaints.
        complaints: u32,
    },
    /// The lease was given back, and no other node is primary.
    LeaseReleased,
    /// The primary gave up.
    GaveUp(GiveUp),
    /// Another primary with a priority at least as good has called.
    Yields {
        /// Who.
        to: String,
        /// Its priority.
        theirs: i32,
        /// Ours.
        ours: i32,
    },
    /// With the lease: another node that was told to be primary has a priority at least as good.
    YieldsTo {
        /// Which.
        node: String,
        /// Its priority.
        theirs: i32,
        /// Ours.
        ours: i32,
    },
    /// The worker ended in a way that is not to be repeated.
    WorkerFailed,
}

impl Event {
    /// Whether peers can cause it as often as they like, and as part of which flood.
    pub const fn flood(&self) -> Option<Flood> {
        match self {
            Self::StrangerRefused { .. } => Some(Flood::Strangers),
            Self::CallerRefused { .. } => Some(Flood::Refusals),
            Self::ComplaintHeard { .. } => Some(Flood::Complaints),
            Self::Connected { .. } | Self::Disconnected { .. } => Some(Flood::Connections),
            Self::HookDropped(_) => Some(Flood::Hooks),
            Self::WokeLate { .. } => Some(Flood::Lateness),
            _ => None,
        }
    }

    /// How much it matters.
    pub const fn level(&self) -> Level {
        match self {
            Self::Repeated { last, .. } => last.level(),
            Self::MayStillRun
            | Self::LeftAlone
            | Self::ReloadFailed { .. }
            | Self::VotersDiffer { .. }
            | Self::NotRecorded { .. }
            | Self::RecordUnreadable { .. }
            | Self::RecordLost { .. }
            | Self::FenceFailed { .. }
            | Self::PauseNotRecorded { .. }
            | Self::Rebooting => Level::Error,
            // Done on purpose.
            Self::HookFailed(Finished { outcome: Outcome::CutShort, .. }) => Level::Info,
            Self::GivingUp(_)
            | Self::HookFailed(_)
            | Self::HookSlow { .. }
            | Self::HookDropped(_)
            | Self::RemoteRunsToo { .. }
            | Self::Disconnected { .. }
            | Self::Unreachable { .. }
            | Self::Complaining { .. }
            | Self::ComplaintHeard { .. }
            | Self::StrangerRefused { .. }
            | Self::CallerRefused { .. }
            | Self::NameUnknown { .. }
            | Self::WokeLate { .. }
            | Self::VotesRefused { .. }
            | Self::RunsWithoutLease
            | Self::Fencing { .. }
            | Self::Fenced { .. }
            | Self::Forced
            | Self::Paused(_)
            | Self::PausedTooLong(_)
            | Self::RunsWhilePaused
            | Self::NotLeftRunning { .. }
            | Self::DaemonGone
            | Self::WorkerDied { .. }
            | Self::WorkerStuck { .. }
            | Self::WorkerNotStarted { .. } => Level::Warning,
            Self::RoleChanged { reason: RoleReason::GaveUp(GiveUp::HandedOver { .. }), .. } => Level::Info,
            Self::RoleChanged {
                reason: RoleReason::GaveUp(_) | RoleReason::Yields { .. } | RoleReason::WorkerFailed,
                ..
            } => Level::Warning,
            Self::RoleChanged { .. }
            | Self::StateChanged { .. }
            | Self::Starting { .. }
            | Self::StartWaits { .. }
            | Self::Connected { .. }
            | Self::WorkerBack
            | Self::Resumed { .. }
            | Self::PauseEnded
            | Self::LeftRunning { .. }
            | Self::LeaseWon { .. }
            | Self::NameKnown { .. }
            | Self::Reloaded { .. }
            | Self::Reconfigured { .. } => Level::Info,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoleChanged { old, new, reason } => write!(f, "role changed from {old} to {new}: {reason}"),
            Self::StateChanged { old, new } => write!(f, "state changed from {old} to {new}"),
            Self::Starting { attempt, of } => write!(f, "starting the resource (attempt {attempt} of {of})"),
            Self::StartWaits { why } => write!(f, "not started yet: {why}"),
            Self::RemoteRunsToo { remote, state } => {
                write!(f, "{remote} reports {state}: stopping the resource here, so that it does not run twice")
            }
            Self::MayStillRun => f.write_str("stop did not work: the resource MAY STILL RUN on this node"),
            Self::LeftAlone => f.write_str(
                "the script cannot be asked: the resource ran when it last answered and is left as it is, neither started again nor \
                 given up, until it answers",
            ),
            Self::RunsWithoutLease => {
                f.write_str("the resource runs here, but this node does not hold the lease: stopping it, so that it does not run twice")
            }
            Self::GivingUp(why) => write!(f, "giving up the role primary: {why}"),
            Self::HookFailed(Finished { hook, outcome, took }) => write!(f, "{hook}: {outcome} (after {took:.1?})"),
            Self::HookSlow { hook, running_for } => write!(f, "{hook} has been running for {running_for:?}"),
            Self::HookDropped(hook) => write!(f, "{hook} is not called: too many calls of the script wait already"),
            Self::Connected { remote } => write!(f, "connected to {remote}"),
            Self::Disconnected { remote, why } => write!(f, "connection to {remote} lost: {why}"),
            Self::Unreachable { remote, why } => write!(f, "no connection to {remote}: {why}"),
            Self::Complaining { count } => {
                write!(f, "no primary runs the resource: complaining to the secondaries (complaint {count})")
            }
            Self::ComplaintHeard { from, count, threshold, stays } => {
                write!(f, "complaint {count} from {from}; a takeover needs more than {threshold}")?;
                stays.map_or(Ok(()), |why| write!(f, "; staying secondary: {why}"))
            }
            Self::StrangerRefused { address } => write!(f, "refused {address}: it is in no friends and no remote"),
            Self::CallerRefused { caller, why } => write!(f, "refused {caller}: {why}"),
            Self::Repeated { last, others } => write!(f, "{last} (and {others} more like this)"),
            Self::NameUnknown { why, resources, was_known } => {
                let resources = if resources.is_empty() { "all".to_string() } else { resources.join(", ") };
                let meanwhile = if *was_known { ", going on with what it was" } else { "" };
                write!(f, "{why} (needed for: {resources}; trying again{meanwhile})")
            }
            Self::NameKnown { name, addresses } => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "{name} is now known as {}", addresses.join(", "))
            }
            Self::LeaseWon { epoch, votes, of } => write!(f, "holds the lease: epoch {epoch}, {votes} of {of} votes"),
            Self::VotesRefused { why, again_in } if why.is_empty() => {
                write!(f, "no majority has voted for this node; asking again in {again_in:.1?}")
            }
            Self::VotesRefused { why, again_in } => {
                write!(f, "no majority votes for this node ({why}); asking again in {again_in:.1?}")
            }
            Self::VotersDiffer { node, there, here } => write!(
                f,
                "the configuration of {node} has other nodes for the resource: there {there}, here {here}; no votes between the two \
                 until both have the same (`on NODE` in the resource)"
            ),
            Self::NotRecorded { why } => write!(f, "this node gives no votes: {why}"),
            Self::RecordUnreadable { why } => {
                write!(f, "this node gives no votes until it can read what it has promised: {why}")
            }
            Self::RecordLost { why, wait } => {
                write!(f, "{why}; whatever it says was promised: this node gives no vote for {wait:.1?}")
            }
            Self::Fencing { node } => write!(f, "fencing {node}"),
            Self::Fenced { node } => write!(f, "{node} is off, says the fence script: its lease is over"),
            Self::FenceFailed { node, exit } => {
                write!(f, "the fence script did not turn {node} off: {}", Outcome::Ended(exit.clone()))
            }
            Self::Rebooting => f.write_str("rebooting this host, because the resource may still run here (on_stop_failure reboot)"),
            Self::Forced => f.write_str(
                "FORCED: an operator has made this node primary without a majority; if the resource runs elsewhere, it now runs twice",
            ),
            Self::Paused(pause) => write!(f, "{pause}: nothing is started, stopped or taken over until hastmonctl resume"),
            Self::Resumed { node } => write!(f, "resumed on {node}"),
            Self::PauseEnded => f.write_str("the time of the pause is over: resumed"),
            Self::PausedTooLong(pause) => {
                write!(f, "{pause}, which is long: nothing is taken over when a node fails; hastmonctl resume ends it")
            }
            Self::RunsWhilePaused => {
                f.write_str("the resource runs here though this node is secondary; it is paused, so it is not stopped")
            }
            Self::LeftRunning { kept, of } => write!(f, "left running: paused, votes kept by {kept} of {of}"),
            Self::NotLeftRunning { is_busy: true, .. } => {
                f.write_str("paused, and stopped all the same: the script was at work on it")
            }
            Self::NotLeftRunning { kept, of, .. } => write!(
                f,
                "paused, and stopped all the same: only {kept} of {of} votes are kept for this node, so another one could start it"
            ),
            Self::PauseNotRecorded { why } => {
                write!(f, "the pause is not on disk, and a restart of this daemon would not know of it: {why}")
            }
            Self::WokeLate { by } => write!(f, "woke up {by:.1?} late: this machine was frozen or overloaded"),
            Self::DaemonGone => f.write_str("the main daemon is gone: ending this worker"),
            Self::WorkerDied { how, then } => match then {
                WorkerNext::Restart => write!(f, "worker {how}; starting a new one"),
                WorkerNext::Role(role) => write!(f, "worker {how}; going back to the role {role}"),
            },
            Self::WorkerNotStarted { why } => write!(f, "cannot start a worker process, trying again: {why}"),
            Self::WorkerStuck { silent_for } => {
                write!(f, "the worker has said nothing for {silent_for:.0?}: what is known of the resource is old")
            }
            Self::WorkerBack => f.write_str("the worker speaks again"),
            Self::Reloaded { changes } => write!(f, "the configuration is in force; resources: {changes}"),
            Self::ReloadFailed { why } => write!(f, "the configuration stays as it was: {why}"),
            Self::Reconfigured { restart: false } => f.write_str("configuration changed"),
            Self::Reconfigured { restart: true } => f.write_str("configuration changed: restarting with the new exec"),
        }
    }
}

impl fmt::Display for StaysSecondary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("a primary is connected"),
            Self::HoldsOff(left) => {
                write!(f, "its starts failed, or it has yielded; holding off for another {left:.0?}")
            }
            Self::Changing => f.write_str("the change to this role is not finished"),
            Self::Paused => f.write_str("the resource is paused"),
        }
    }
}

impl fmt::Display for GiveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartsFailed(attempts) => {
                write!(f, "the resource does not run after {attempts} attempts to start it")
            }
            Self::LeaseLost { late } => {
                write!(f, "no majority has renewed the lease, which ended {late:.1?} ago")
            }
            Self::HandedOver { to } => write!(f, "handed over to {to}"),
            Self::Isolated(span) => write!(f, "no remote was connected and nobody polled for {span:.1?}"),
            Self::Outranked { remote, theirs, ours } => {
                write!(f, "{remote} is primary with priority {theirs}, better than {ours} here")
            }
        }
    }
}

impl fmt::Display for RoleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("role_on_start"),
            Self::Paused => f.write_str("it is paused, and had this role before"),
            Self::Operator(who) => write!(f, "asked by {who}"),
            Self::Takeover { complaints } => {
                write!(f, "taking over: no connection from a primary and {complaints} complaints")
            }
            Self::LeaseReleased => f.write_str("taking over: the lease was given back"),
            Self::GaveUp(GiveUp::HandedOver { to }) => write!(f, "handed over to {to}"),
            Self::GaveUp(why) => write!(f, "gave up: {why}"),
            Self::Yields { to, theirs, ours } => {
                write!(f, "yielding to the primary {to}, whose priority {theirs} is not worse than {ours} here")
            }
            Self::YieldsTo { node, theirs, ours } => {
                write!(
                    f,
                    "handing over to {node}, which was told to be primary: its priority {theirs} is not worse than {ours} here"
                )
            }
            Self::WorkerFailed => f.write_str("the worker failed"),
        }
    }
}
