//! Random plans of faults for clusters that speak protocol 0.

use std::time::Duration;

use hastmon_core::types::Role;

use super::agenda::Time;
use super::faults::{Fault, Whom};
use super::host::HostId;
use super::rng::Rng;
use super::scripts::{Behaviour, Mood};

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
