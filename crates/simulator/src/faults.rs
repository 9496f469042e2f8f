//! What can go wrong, and what an operator may do.

use std::time::Duration;

use hastmon_core::config::Config;
use hastmon_core::types::Role;

use super::host::HostId;
use super::scripts::Mood;

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The host is off at once, and nobody is told.
    PowerLoss(HostId),
    /// It is on again, and its daemon starts.
    Boot(HostId),
    /// SIGKILL to the main daemon.
    KillDaemon(HostId),
    StartDaemon(HostId),
    /// SIGTERM to the main daemon.
    StopDaemon(HostId),
    /// SIGKILL to the worker that was started last.
    KillWorker(HostId),
    /// SIGSTOP; the kernel still answers.
    Freeze(HostId, Whom),
    /// SIGCONT to all that is frozen there.
    Thaw(HostId),
    /// The whole machine stands still, and its kernel with it.
    Pause(HostId),
    Resume(HostId),
    /// Nothing gets through from the first to the second.
    Cut(HostId, HostId),
    Heal(HostId, HostId),
    /// What goes from the first to the second takes up to so much longer; zero: no longer.
    Slow(HostId, HostId, Duration),
    /// A busy machine: its timers fire up to so late; zero: in time again.
    Lag(HostId, Duration),
    /// The resource ends by itself.
    ResourceDies(HostId),
    SetMood(HostId, Box<Mood>),
    /// No process can be started any more, or again.
    NoProcesses(HostId, bool),
    /// The disk neither takes nor gives anything, or does again.
    DiskFails(HostId, bool),
    /// What is added to the time that each access to the disk takes, at most.
    DiskSlow(HostId, Duration),
    /// What is on the disk makes no sense from now on, until something is written.
    DiskDamaged(HostId),
    Operator(HostId, Role),
    /// An operator wants the resource on another node, or on the best.
    Switchover(HostId, Option<HostId>),
    /// An operator answers for a primary without a majority.
    Force(HostId),
    /// An operator pauses the resource, perhaps for a time.
    PauseResource(HostId, Option<Duration>),
    /// And ends that.
    ResumeResource(HostId),
    /// The configuration of this node has other voters from now on.
    Voters(HostId, u32, Box<Config>),
    /// The same in a hurry. An administrator whose reload is refused takes the change back at once.
    TryVoters(HostId, u32, Box<Config>),
    /// As many other resources are on their way to run there as may be, so nobody gets a turn; or no longer.
    Crowd(HostId, bool),
    /// SIGHUP after the configuration got shorter times, or the first ones again.
    Retime(HostId),
    /// SIGHUP.
    Hangup(HostId),
    /// SIGHUP after the configuration got another exec and other times, or the old ones again.
    Reload(HostId),
}

impl Fault {
    /// What it is counted as; `None` for what only mends.
    pub(crate) fn name(&self) -> Option<&'static str> {
        match self {
            Self::PowerLoss(_) => Some("power losses"),
            Self::KillDaemon(_) => Some("daemons killed"),
            Self::StopDaemon(_) => Some("daemons stopped"),
            Self::KillWorker(_) => Some("workers killed"),
            Self::Freeze(..) => Some("freezes"),
            Self::Pause(_) => Some("pauses"),
            Self::Cut(..) => Some("one-way cuts"),
            Self::Slow(_, _, extra) => (!extra.is_zero()).then_some("slow ways"),
            Self::Lag(_, late) => (!late.is_zero()).then_some("late timers"),
            Self::ResourceDies(_) => Some("deaths of the resource"),
            Self::SetMood(_, mood) => (**mood != Mood::good()).then_some("slow or bad scripts"),
            Self::NoProcesses(_, none) => none.then_some("hosts out of processes"),
            Self::DiskFails(_, fails) => fails.then_some("failing disks"),
            Self::DiskDamaged(_) => Some("damaged disks"),
            Self::DiskSlow(_, slow) => (!slow.is_zero()).then_some("slow disks"),
            Self::Operator(..) => Some("operators' commands"),
            Self::Switchover(..) => Some("switchovers"),
            Self::Force(_) => Some("forced primaries"),
            Self::PauseResource(..) => Some("paused resources"),
            Self::Voters(..) | Self::TryVoters(..) => Some("changes of voters"),
            Self::Crowd(_, is_crowded) => is_crowded.then_some("crowds of other resources"),
            Self::Retime(_) => Some("changes of times"),
            Self::Reload(_) => Some("reloads"),
            Self::Boot(_)
            | Self::StartDaemon(_)
            | Self::Thaw(_)
            | Self::Resume(_)
            | Self::ResumeResource(_)
            | Self::Heal(..)
            | Self::Hangup(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Daemon,
    Workers,
    All,
}
