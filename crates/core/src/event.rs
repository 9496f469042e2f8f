//! What is worth telling an administrator. **One list**: the line of the log, the JSON of the history and of `notify`, and the metric come
//! from it alone.
//!
//! The name of a kind is that of its variant in small letters, and stays as it is: scripts and alerts go by it. In JSON an event is `kind` and
//! `detail`; lengths of time are numbers whose name ends in `_ms`.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use crate::hooks::{Exit, Hook, Outcome};
use crate::pause::Pause;
use crate::time::{Duration, as_ms};
use crate::types::{Role, State};

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

/// Something that happened, to one resource or to the daemon as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Event {
    /// The daemon has started.
    DaemonStarted {
        /// The version of the program.
        version: String,
        /// The name of the node.
        node: String,
    },
    /// The daemon ends. What still runs, when it was told twice to stop, its workers stop.
    DaemonStopped,
    /// An operator has asked for something that changes what runs.
    Commanded {
        /// What, in the words of the command line.
        command: String,
        /// Who.
        who: String,
    },
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
    /// A primary whose resource does not run may not start it yet, or a secondary waits for its turn to take over.
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
    /// A hook is over. (A `status` that says what the one before it said is not told.)
    HookEnded {
        /// Which.
        hook: Hook,
        /// What came of it.
        outcome: Outcome,
        /// How long it ran.
        #[serde(rename = "took_ms", with = "as_ms")]
        took: Duration,
        /// The last lines that it has printed.
        output: Vec<String>,
    },
    /// A hook runs for long.
    HookSlow {
        /// Which.
        hook: Hook,
        /// For how long by now.
        #[serde(rename = "running_for_ms", with = "as_ms")]
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
    /// The lease is lost: no majority has renewed it in time.
    LeaseLost {
        /// Its epoch; `None` when it was an earlier worker's.
        epoch: Option<u64>,
        /// How long after its end this was noticed.
        #[serde(rename = "late_ms", with = "as_ms")]
        late: Duration,
    },
    /// The lease is given back, because nothing runs under it any more.
    LeaseReleased {
        /// Its epoch.
        epoch: u64,
        /// The node that alone may have it next for a while.
        successor: Option<String>,
    },
    /// The vote of this node is given, and on disk.
    VoteGiven {
        /// To which node.
        to: String,
        /// For which epoch.
        epoch: u64,
    },
    /// The vote of this node was asked for, and is not given. Told once for each reason.
    VoteRefused {
        /// To which node.
        to: String,
        /// Why.
        why: String,
    },
    /// The vote of this node is bound no longer.
    VoteFreed {
        /// The node that had it.
        holder: String,
        /// For which epoch.
        epoch: u64,
        /// Why.
        why: VoteEnd,
    },
    /// A candidate has not got a majority.
    VotesRefused {
        /// Who refused, and why.
        why: String,
        /// When it asks again.
        #[serde(rename = "again_in_ms", with = "as_ms")]
        again_in: Duration,
    },
    /// Another node has connected to this one, by protocol 1.
    PeerConnected {
        /// Which.
        node: String,
        /// Where it is found.
        address: String,
        /// The role that it has.
        role: Role,
    },
    /// The connection from another node is gone.
    PeerGone {
        /// Which.
        node: String,
        /// Why, where that is known.
        why: Option<String>,
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
    /// The configuration with which the node has started has other voters than those in force before, and the step to them is not allowed yet.
    VotersUnproven {
        /// Why not.
        why: String,
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
        #[serde(rename = "wait_ms", with = "as_ms")]
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
        #[serde(rename = "by_ms", with = "as_ms")]
        by: Duration,
    },
    /// The main daemon is gone: the worker ends what it runs.
    DaemonGone,
    /// A worker process runs.
    WorkerStarted {
        /// Its process id.
        pid: u32,
    },
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
        #[serde(rename = "silent_for_ms", with = "as_ms")]
        silent_for: Duration,
    },
    /// A worker that was silent speaks again.
    WorkerBack,
    /// A worker is killed.
    WorkerKilled(WorkerFault),
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
    /// More happened at once than could be taken note of.
    EventsLost {
        /// How many events are in the log alone, if anywhere.
        count: u64,
    },
    /// The history cannot be written. Told once; the daemon goes on.
    HistoryFailed {
        /// Why, and what to do.
        why: String,
    },
    /// The history is written again.
    HistoryBack,
    /// The script of `notify` did not do what was asked.
    NotifyFailed {
        /// Which.
        path: String,
        /// How it ended.
        outcome: Outcome,
        /// What it said on standard error.
        output: Vec<String>,
    },
}

/// Why a vote is bound no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoteEnd {
    /// It was given back.
    Released,
    /// Its holder is off for certain.
    Fenced,
    /// Its time is over.
    Expired,
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
    /// Nodes that connect and go.
    Peers,
    /// Candidates that ask for votes.
    Votes,
    /// Calls of the script for such events that find no room.
    Hooks,
    /// A machine that is late again and again.
    Lateness,
}

/// What follows the unexpected end of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerNext {
    /// A new one for the same role, after a pause.
    Restart,
    /// The resource goes back to this role.
    Role(Role),
}

/// Why a worker is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerFault {
    /// It was told to end, and its time for that is over.
    DoesNotEnd,
    /// It is a primary's, and says nothing for about as long as a lease lasts: another one must see to the resource in time.
    Silent,
}

/// Why a secondary that has heard enough complaints stays what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StaysSecondary {
    /// It has a connection from a primary.
    Connected,
    /// Its own starts have failed lately: the time that is left to wait.
    #[serde(rename = "holds_off_ms", with = "as_ms")]
    HoldsOff(Duration),
    /// It has not yet finished what its role before asked of it.
    Changing,
    /// The resource is paused.
    Paused,
}

/// Why a primary gives up its role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GiveUp {
    /// The resource does not run after this many attempts to start it.
    StartsFailed(u32),
    /// No remote was connected and nobody polled for this long.
    #[serde(rename = "isolated_for_ms", with = "as_ms")]
    Isolated(Duration),
    /// No majority has renewed the lease.
    LeaseLost {
        /// How long after its end this was noticed.
        #[serde(rename = "late_ms", with = "as_ms")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// It is to be primary when its turn comes.
    WaitsForTurn,
    /// The worker ended in a way that is not to be repeated.
    WorkerFailed,
}

impl Event {
    /// The stable name of its kind; one of [`KINDS`](Self::KINDS). What stands for others of its kind has the name of that.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Repeated { last, .. } => last.kind(),
            other => other.into(),
        }
    }

    /// How many events it stands for.
    pub const fn count(&self) -> u64 {
        match self {
            Self::Repeated { others, .. } => others.saturating_add(1),
            _ => 1,
        }
    }

    /// The names of all kinds.
    pub const KINDS: &[&str] = Self::VARIANTS;

    /// Whether peers can cause it as often as they like, and as part of which flood.
    pub const fn flood(&self) -> Option<Flood> {
        match self {
            Self::StrangerRefused { .. } => Some(Flood::Strangers),
            Self::CallerRefused { .. } => Some(Flood::Refusals),
            Self::ComplaintHeard { .. } => Some(Flood::Complaints),
            Self::Connected { .. } | Self::Disconnected { .. } => Some(Flood::Connections),
            Self::PeerConnected { .. } | Self::PeerGone { .. } => Some(Flood::Peers),
            Self::VoteRefused { .. } => Some(Flood::Votes),
            Self::HookDropped(_) | Self::HookEnded { hook: Hook::Connect | Hook::Disconnect | Hook::Complain, .. } => {
                Some(Flood::Hooks)
            }
            Self::WokeLate { .. } => Some(Flood::Lateness),
            _ => None,
        }
    }

    /// Whether somebody is to be told of it who does not look: what runs elsewhere now, or may not run, or may run twice.
    pub const fn is_for_notify(&self) -> bool {
        matches!(
            self,
            Self::RoleChanged { .. }
                | Self::LeaseLost { .. }
                | Self::MayStillRun
                | Self::LeftAlone
                | Self::PausedTooLong(_)
                | Self::Forced
                | Self::Rebooting
        )
    }

    /// How much it matters.
    pub const fn level(&self) -> Level {
        match self {
            Self::Repeated { last, .. } => last.level(),
            Self::MayStillRun
            | Self::LeftAlone
            | Self::ReloadFailed { .. }
            | Self::VotersDiffer { .. }
            | Self::VotersUnproven { .. }
            | Self::NotRecorded { .. }
            | Self::RecordUnreadable { .. }
            | Self::RecordLost { .. }
            | Self::FenceFailed { .. }
            | Self::HistoryFailed { .. }
            | Self::PauseNotRecorded { .. }
            | Self::WorkerKilled(_)
            | Self::Rebooting => Level::Error,
            Self::HookEnded { hook, outcome, .. } if outcome.is_expected(*hook) => Level::Debug,
            // Done on purpose.
            Self::HookEnded { outcome: Outcome::CutShort, .. } => Level::Info,
            Self::GivingUp(_)
            | Self::HookEnded { .. }
            | Self::LeaseLost { .. }
            | Self::EventsLost { .. }
            | Self::NotifyFailed { .. }
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
            Self::Commanded { .. }
            | Self::LeaseReleased { .. }
            | Self::VoteGiven { .. }
            | Self::VoteRefused { .. }
            | Self::VoteFreed { .. }
            | Self::PeerConnected { .. }
            | Self::PeerGone { .. }
            | Self::WorkerStarted { .. } => Level::Debug,
            Self::DaemonStarted { .. }
            | Self::DaemonStopped
            | Self::HistoryBack
            | Self::RoleChanged { .. }
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
            Self::DaemonStarted { version, node } => write!(f, "hastmon {version} started on node {node}"),
            Self::DaemonStopped => f.write_str("hastmon stopped"),
            Self::Commanded { command, who } => write!(f, "{who} asks: {command}"),
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
            // What it has printed stands in the log already.
            Self::HookEnded { hook, outcome, took, .. } => write!(f, "{hook}: {outcome} (after {took:.1?})"),
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
            Self::LeaseLost { late, .. } => write!(f, "the lease is lost: no majority has renewed it; it ended {late:.1?} ago"),
            Self::LeaseReleased { epoch, successor: None } => write!(f, "gives the lease back (epoch {epoch})"),
            Self::LeaseReleased { epoch, successor: Some(node) } => {
                write!(f, "gives the lease back for {node} to have it (epoch {epoch})")
            }
            Self::VoteGiven { to, epoch } => write!(f, "votes for {to} (epoch {epoch})"),
            Self::VoteRefused { to, why } => write!(f, "no vote for {to}: {why}"),
            Self::VoteFreed { holder, epoch, why } => {
                let why = match why {
                    VoteEnd::Released => "it was given back",
                    VoteEnd::Fenced => "that node is off",
                    VoteEnd::Expired => "it was not renewed in time",
                };
                write!(f, "the vote for {holder} is free (epoch {epoch}): {why}")
            }
            Self::PeerConnected { node, address, role } => write!(f, "{node} ({address}, {role}) has connected"),
            Self::PeerGone { node, why: None } => write!(f, "{node} has gone"),
            Self::PeerGone { node, why: Some(why) } => write!(f, "{node} has gone: {why}"),
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
            Self::VotersUnproven { why } => write!(
                f,
                "the nodes were changed while hastmon did not run here, and those of before count until the step is safe (see Changing the \
                 nodes in hastmon(8)): {why}"
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
            Self::FenceFailed { node, exit: Exit::NotStarted(why) } => {
                write!(f, "the fence script did not turn {node} off: {why}")
            }
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
            Self::WorkerStarted { pid } => write!(f, "worker started (pid {pid})"),
            Self::WorkerDied { how, then } => match then {
                WorkerNext::Restart => write!(f, "worker {how}; starting a new one"),
                WorkerNext::Role(role) => write!(f, "worker {how}; going back to the role {role}"),
            },
            Self::WorkerNotStarted { why } => write!(f, "cannot start a worker process, trying again: {why}"),
            Self::WorkerStuck { silent_for } => {
                write!(f, "the worker has said nothing for {silent_for:.0?}: what is known of the resource is old")
            }
            Self::WorkerBack => f.write_str("the worker speaks again"),
            Self::WorkerKilled(WorkerFault::DoesNotEnd) => {
                f.write_str("the worker does not end within its time: killing it")
            }
            Self::WorkerKilled(WorkerFault::Silent) => f.write_str(
                "the worker has said nothing for about as long as a lease lasts: killing it, another one takes its place; this machine may be \
                 overloaded",
            ),
            Self::Reloaded { changes } => write!(f, "the configuration is in force; resources: {changes}"),
            Self::ReloadFailed { why } => write!(f, "the configuration stays as it was: {why}"),
            Self::Reconfigured { restart: false } => f.write_str("configuration changed"),
            Self::Reconfigured { restart: true } => f.write_str("configuration changed: restarting with the new exec"),
            Self::EventsLost { count } => {
                write!(f, "{count} events are missing in the history: more happened at once than could be written")
            }
            Self::HistoryFailed { why } => {
                write!(f, "the history is not written, everything else goes on: {why}")
            }
            Self::HistoryBack => f.write_str("the history is written again"),
            Self::NotifyFailed { path, outcome, output } => {
                write!(f, "notify {path}: {outcome}")?;
                output.last().map_or(Ok(()), |said| write!(f, ": {said}"))
            }
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
            Self::WaitsForTurn => f.write_str("until its turn to be primary comes"),
            Self::WorkerFailed => f.write_str("the worker failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_has_one_name_in_the_metric_and_in_json() {
        for kind in Event::KINDS {
            let error = serde_json::from_value::<Event>(json!({ "kind": kind })).err().map(|error| error.to_string());
            assert!(!error.unwrap_or_default().contains("unknown variant"), "{kind}");
        }
        let forced = Event::Forced;
        assert_eq!((forced.kind(), serde_json::to_value(&forced).unwrap()), ("forced", json!({ "kind": "forced" })));
        let many = Event::Repeated { last: Box::new(forced), others: 6 };
        assert_eq!((many.kind(), many.count()), ("forced", 7));
    }

    #[test]
    fn an_event_is_the_same_after_its_way_through_json_and_tells_lengths_of_time_in_milliseconds() {
        let role = |reason| Event::RoleChanged { old: Role::Primary, new: Role::Secondary, reason };
        let ended = |hook, outcome| {
            let output = Vec::from(["no such device".to_string()]);
            Event::HookEnded { hook, outcome, took: Duration::from_micros(1_234_567), output }
        };
        let start_failed = json!({
            "kind": "hook_ended",
            "detail": { "hook": "start", "outcome": { "ended": { "code": 1 } }, "took_ms": 1234.567, "output": ["no such device"] },
        });
        let paused =
            crate::pause::Paused { by: "root".to_string(), since_unix_s: 1, left: Some(Duration::from_millis(90)) };
        let pause = Pause { version: 3, node: "a".to_string(), paused: Some(paused) };
        let told = json!({
            "kind": "paused",
            "detail": { "version": 3, "node": "a", "paused": { "by": "root", "since_unix_s": 1, "left_ms": 90.0 } },
        });
        let events = [
            (Event::Paused(pause), Some(told)),
            (Event::PausedTooLong(Pause::default()), None),
            (ended(Hook::Start, Outcome::Ended(Exit::Code(1))), Some(start_failed)),
            (
                ended(Hook::Role { old: Role::Init, new: Role::Primary }, Outcome::TimedOut(Duration::from_secs(5))),
                None,
            ),
            (ended(Hook::Stop, Outcome::Unkillable), None),
            (role(RoleReason::GaveUp(GiveUp::LeaseLost { late: Duration::from_millis(3) })), None),
            (role(RoleReason::GaveUp(GiveUp::Isolated(Duration::from_millis(3300)))), None),
            (role(RoleReason::Operator("hastmonctl (uid 0)".to_string())), None),
            (Event::WorkerDied { how: "was killed".to_string(), then: WorkerNext::Role(Role::Init) }, None),
            (
                Event::Repeated { last: Box::new(Event::HookDropped(Hook::Complain)), others: 3 },
                Some(json!({
                    "kind": "repeated", "detail": { "last": { "kind": "hook_dropped", "detail": "complain" }, "others": 3 },
                })),
            ),
        ];
        for (event, expected) in events {
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(serde_json::from_value::<Event>(json.clone()).unwrap(), event, "{json}");
            expected.into_iter().for_each(|expected| assert_eq!(json, expected));
        }
    }

    #[test]
    fn a_hook_that_did_its_work_is_told_to_those_alone_who_look_for_a_fault() {
        let level = |hook, code| {
            let outcome = Outcome::Ended(Exit::Code(code));
            Event::HookEnded { hook, outcome, took: Duration::ZERO, output: Vec::new() }.level()
        };
        assert_eq!([level(Hook::Start, 0), level(Hook::Status, 0), level(Hook::Status, 1)], [Level::Debug; 3]);
        assert_eq!([level(Hook::Start, 1), level(Hook::Stop, 1), level(Hook::Status, 2)], [Level::Warning; 3]);
    }
}
