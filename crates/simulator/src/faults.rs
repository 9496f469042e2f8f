//! What can go wrong, and what an operator may do; and random plans made of it.

use std::time::Duration;

use hastmon_core::config::Config;
use hastmon_core::types::Role;

use super::agenda::Time;
use super::host::HostId;
use super::rng::Rng;
use super::scripts::{Behaviour, Mood};

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
    Operator(HostId, Role),
    /// An operator wants the resource on another node, or on the best.
    Switchover(HostId, Option<HostId>),
    /// An operator answers for a primary without a majority.
    Force(HostId),
    /// The configuration of this node has other voters from now on.
    Voters(HostId, u32, Box<Config>),
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
            Self::DiskSlow(_, slow) => (!slow.is_zero()).then_some("slow disks"),
            Self::Operator(..) => Some("operators' commands"),
            Self::Switchover(..) => Some("switchovers"),
            Self::Force(_) => Some("forced primaries"),
            Self::Voters(..) => Some("changes of voters"),
            Self::Retime(_) => Some("changes of times"),
            Self::Reload(_) => Some("reloads"),
            Self::Boot(_)
            | Self::StartDaemon(_)
            | Self::Thaw(_)
            | Self::Resume(_)
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

/// What a random plan may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Slow hooks, a resource that dies, an operator at work.
    Calm,
    /// And crashes, of processes and hosts; the network is whole, nothing stands still, and what must stop does.
    Crashes,
    /// Everything.
    All,
}

/// The nodes that may run the resource, and those that watch.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) runners: Vec<HostId>,
    pub(crate) watchdogs: Vec<HostId>,
}

impl Places {
    fn others(&self, host: HostId) -> Vec<HostId> {
        self.runners.iter().chain(&self.watchdogs).copied().filter(|other| *other != host).collect()
    }
}

/// How slow a way is, and how late a timer: up to more than all limits of a heartbeat.
const DELAYS: (Duration, Duration) = ms(10, 3_000);

/// A plan: faults with their times, all of them over at `until` but for what [`World::recover`](super::world::World::recover) mends.
pub(crate) fn plan(rng: &mut Rng, kind: Kind, places: &Places, until: Time) -> Vec<(Time, Fault)> {
    let mut plan = Vec::new();
    let mut now = Duration::from_secs(10);
    while now < until {
        let fault = match kind {
            Kind::Calm => rng.below(4),
            Kind::Crashes => rng.below(8),
            Kind::All => rng.below(15),
        };
        let host = rng.pick(&places.runners);
        let any = if rng.percent(20) { rng.pick(&places.watchdogs) } else { host };
        let lasts = rng.between((Duration::from_millis(50), Duration::from_secs(12)));
        match fault {
            0 => plan.push((now, Fault::ResourceDies(host))),
            1 => plan.push((now, Fault::Operator(host, rng.pick(&[Role::Primary, Role::Secondary, Role::Init])))),
            2 => {
                plan.push((now, Fault::SetMood(host, Box::new(mood(rng, kind)))));
                plan.push((now + lasts, Fault::SetMood(host, Box::new(Mood::good()))));
            }
            3 => plan.push((now, Fault::Reload(host))),
            4 => plan.extend([(now, Fault::PowerLoss(any)), (now + lasts, Fault::Boot(any))]),
            5 => plan.extend([(now, Fault::KillDaemon(any)), (now + lasts, Fault::StartDaemon(any))]),
            6 => plan.push((now, Fault::KillWorker(any))),
            7 => plan.extend([(now, Fault::StopDaemon(any)), (now + lasts, Fault::StartDaemon(any))]),
            8 => {
                let whom = rng.pick(&[Whom::Daemon, Whom::Workers, Whom::All]);
                plan.extend([(now, Fault::Freeze(any, whom)), (now + lasts, Fault::Thaw(any))]);
            }
            9 => plan.extend([(now, Fault::Pause(any)), (now + lasts, Fault::Resume(any))]),
            10 => plan.extend([(now, Fault::NoProcesses(any, true)), (now + lasts, Fault::NoProcesses(any, false))]),
            11 => plan.extend(slow(rng, places, any, now, lasts)),
            12 => plan
                .extend([(now, Fault::Lag(any, rng.between(DELAYS))), (now + lasts, Fault::Lag(any, Duration::ZERO))]),
            _ => plan.extend(cuts(rng, places, any, now, lasts)),
        }
        now += rng.between((Duration::from_millis(1), Duration::from_secs(15)));
    }
    plan
}

/// One host is cut off from another one or from all, in one direction or both.
fn cuts(rng: &mut Rng, places: &Places, host: HostId, now: Time, lasts: Duration) -> Vec<(Time, Fault)> {
    let all = places.others(host);
    let others = if rng.percent(50) { vec![rng.pick(&all)] } else { all };
    let (out, back) = rng.pick(&[(true, true), (true, true), (true, false), (false, true)]);
    let mut plan = Vec::new();
    for other in others {
        for (wanted, from, to) in [(out, host, other), (back, other, host)] {
            if wanted {
                plan.extend([(now, Fault::Cut(from, to)), (now + lasts, Fault::Heal(from, to))]);
            }
        }
    }
    plan
}

/// What one host says to another one, or to all, arrives late.
fn slow(rng: &mut Rng, places: &Places, host: HostId, now: Time, lasts: Duration) -> Vec<(Time, Fault)> {
    let all = places.others(host);
    let others = if rng.percent(50) { vec![rng.pick(&all)] } else { all };
    let extra = rng.between(DELAYS);
    let spans =
        |other| [(now, Fault::Slow(host, other, extra)), (now + lasts, Fault::Slow(host, other, Duration::ZERO))];
    others.into_iter().flat_map(spans).collect()
}

const fn ms(least: u64, most: u64) -> (Duration, Duration) {
    (Duration::from_millis(least), Duration::from_millis(most))
}

/// Not longer than protocol 0 bears: a secondary takes over more than three heartbeats after the primary fell silent, and the place of a worker
/// that was killed is empty for one. It waits longer for a primary that can say that it is stopping.
const fn stop_takes(kind: Kind) -> (Duration, Duration) {
    match kind {
        Kind::Calm => ms(100, 4_800),
        Kind::Crashes => ms(100, 1_700),
        Kind::All => ms(500, 9_000),
    }
}

fn mood(rng: &mut Rng, kind: Kind) -> Mood {
    let mut mood = Mood::good();
    match rng.below(6) {
        0 => mood.start_takes = ms(500, 9_000),
        1 => mood.stop_takes = stop_takes(kind),
        2 => mood.status_takes = ms(200, 3_000),
        3 => mood.notices_take = ms(200, 5_000),
        4 => mood.start = rng.pick(&[Behaviour::Fails(1), Behaviour::Hangs, Behaviour::IgnoresTerm]),
        _ if kind == Kind::All => {
            mood.stop = rng.pick(&[Behaviour::Works, Behaviour::Fails(1), Behaviour::Hangs, Behaviour::Unkillable]);
            mood.status = rng.pick(&[Behaviour::Works, Behaviour::Fails(3), Behaviour::Hangs, Behaviour::Unkillable]);
        }
        _ => mood.notices = rng.pick(&[Behaviour::Fails(1), Behaviour::Hangs, Behaviour::IgnoresTerm]),
    }
    mood
}
