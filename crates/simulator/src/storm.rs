//! Faults for clusters with the lease, chosen while they happen: they hit the node that runs the resource more often than chance would. All
//! times are in heartbeats of the cluster. Decides what goes wrong and when; never whether that was borne well.

use std::time::Duration;

use hastmon_core::types::Role;

use super::agenda::Time;
use super::cluster::Cluster;
use super::faults::{Fault, Whom};
use super::host::HostId;
use super::rng::Rng;
use super::scripts::{Behaviour, Mood};
use super::world::World;

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Weather {
    /// All that the lease forbids two primaries under.
    Rule,
    /// And what it cannot: a node that stands still for longer than the lease, a `stop` that fails, a host out of processes, daemon and worker
    /// killed at once, an operator's `--force`.
    Beyond,
}

/// How late a node may act so that its `stop` still ends within the budget: what a late timer takes, what a node that stands still takes, and
/// `stop` itself take it together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slack {
    pub(crate) late: Duration,
    pub(crate) still: Duration,
    pub(crate) stop: Duration,
}

impl Slack {
    pub(crate) fn new(rng: &mut Rng, budget: Duration) -> Self {
        // A hook that is killed first dies within 10 ms, and every process and timer takes its millisecond.
        // On the node with the fastest clock the budget is over a little sooner.
        let budget = (budget * 199 / 200).saturating_sub(Duration::from_millis(25));
        match rng.below(3) {
            0 => Self { late: Duration::ZERO, still: Duration::ZERO, stop: budget },
            1 => Self { late: budget / 2, still: Duration::ZERO, stop: budget / 2 },
            _ => Self { late: budget / 3, still: budget / 3, stop: budget / 3 },
        }
    }
}

#[derive(Debug)]
pub(crate) struct Storm {
    pub(crate) rng: Rng,
    pub(crate) weather: Weather,
    pub(crate) cluster: Cluster,
    pub(crate) runners: Vec<HostId>,
    pub(crate) slack: Slack,
    /// Administrators change lengths of time.
    pub(crate) retimes: bool,
    /// The number of changes of who votes.
    pub(crate) edition: u32,
    /// Who votes, by the configuration that was written last.
    pub(crate) voters: Vec<HostId>,
    /// Operators pause the resource and stop daemons meanwhile; chosen apart from everything else, so that storms without it stay as they are.
    pub(crate) pauses: Option<Rng>,
    /// Other resources are started on the same hosts, and this one waits for its turn; chosen apart as well.
    pub(crate) crowds: Option<Rng>,
}

impl Storm {
    /// Faults until `until`; each of them ends by itself, if not by then.
    pub(crate) fn blow(&mut self, world: &mut World, until: Time) {
        while world.now() < until {
            let gap = self.beats((1, 12_000));
            world.run_for(gap);
            for (after, fault) in self.next(world) {
                world.at(world.now() + after, fault);
            }
            for (after, fault) in self.maintenance(world).into_iter().chain(self.crowd()) {
                world.at(world.now() + after, fault);
            }
        }
    }

    /// Thousandths of a heartbeat.
    fn beats(&mut self, (least, most): (u32, u32)) -> Duration {
        self.rng.between((self.cluster.heartbeat * least / 1000, self.cluster.heartbeat * most / 1000))
    }

    fn next(&mut self, world: &mut World) -> Vec<(Time, Fault)> {
        let now = Duration::ZERO;
        let running: Vec<HostId> = world.kernel.exclusion.running().to_vec();
        let runner = if !running.is_empty() && self.rng.percent(60) {
            self.rng.pick(&running)
        } else {
            self.rng.pick(&self.runners)
        };
        let all: Vec<HostId> = self.voters.clone();
        let any = if self.rng.percent(50) { runner } else { self.rng.pick(&all) };
        let lasts = if self.rng.percent(20) { self.beats((1, 1_000)) } else { self.beats((50, 12_000)) };
        let kinds = if self.weather == Weather::Beyond { 33 } else { 28 };
        match self.rng.below(kinds) {
            0 => vec![(now, Fault::ResourceDies(runner))],
            1 => vec![(now, Fault::Operator(runner, self.rng.pick(&[Role::Primary, Role::Secondary, Role::Init])))],
            2 => {
                let role = self.rng.pick(&[Role::Primary, Role::Secondary]);
                vec![(now, Fault::Operator(self.rng.pick(&self.runners), role))]
            }
            3 => {
                let mood = Box::new(self.mood());
                vec![(now, Fault::SetMood(runner, mood)), (lasts, Fault::SetMood(runner, Box::new(self.usual())))]
            }
            4 => vec![(now, Fault::Reload(any))],
            5 => vec![(now, Fault::PowerLoss(any)), (lasts, Fault::Boot(any))],
            6 => vec![(now, Fault::KillDaemon(any)), (lasts, Fault::StartDaemon(any))],
            7 => vec![(now, Fault::KillDaemon(any)), (self.beats((1, 500)), Fault::StartDaemon(any))],
            8 => vec![(now, Fault::KillWorker(any))],
            9 => vec![(now, Fault::StopDaemon(any)), (lasts, Fault::StartDaemon(any))],
            // To replace a worker takes a little of the budget.
            10 if self.is_tight() => vec![(now, Fault::Freeze(any, Whom::Daemon)), (lasts, Fault::Thaw(any))],
            10 => {
                let whom = self.rng.pick(&[Whom::Daemon, Whom::Workers]);
                vec![(now, Fault::Freeze(any, whom)), (lasts, Fault::Thaw(any))]
            }
            11 => {
                let still = self.rng.between((Duration::ZERO, self.slack.still));
                match self.rng.percent(50) {
                    true => vec![(now, Fault::Freeze(any, Whom::All)), (still, Fault::Thaw(any))],
                    false => vec![(now, Fault::Pause(any)), (still, Fault::Resume(any))],
                }
            }
            12 => vec![(now, Fault::DiskFails(any, true)), (lasts, Fault::DiskFails(any, false))],
            13 => {
                let slow = self.beats((100, 3_000));
                vec![(now, Fault::DiskSlow(any, slow)), (lasts, Fault::DiskSlow(any, Duration::ZERO))]
            }
            14 => {
                let extra = self.beats((10, 3_000));
                let ways = self.ways(any, (true, self.rng.clone().percent(50)));
                let both = ways.into_iter().flat_map(|(from, to)| {
                    [(now, Fault::Slow(from, to, extra)), (lasts, Fault::Slow(from, to, Duration::ZERO))]
                });
                both.collect()
            }
            15 => {
                let late = self.rng.between((Duration::ZERO, self.slack.late));
                vec![(now, Fault::Lag(any, late)), (lasts, Fault::Lag(any, Duration::ZERO))]
            }
            16 => {
                let to = self.rng.pick(&self.runners);
                vec![(now, Fault::Switchover(runner, self.rng.percent(70).then_some(to)))]
            }
            17 => self.change_voters(world),
            18 => self.isolate(any, lasts),
            19 => self.cuts(any, lasts),
            20 => self.split(lasts),
            21 => self.amnesia(runner, lasts),
            22 => {
                let mood = Box::new(self.mood());
                let mut plan = vec![(now, Fault::SetMood(runner, mood))];
                plan.push((lasts + self.cluster.heartbeat * 4, Fault::SetMood(runner, Box::new(self.usual()))));
                plan.extend(self.isolate(runner, lasts));
                plan
            }
            23 => self.slow_then_alone(runner, lasts),
            24 | 25 if !self.retimes => Vec::new(),
            24 => vec![(now, Fault::Retime(any))],
            25 => {
                let mut plan: Vec<_> = self.voters.iter().map(|host| (now, Fault::Retime(*host))).collect();
                plan.iter_mut().for_each(|(when, _)| *when = self.rng.between((now, self.cluster.heartbeat)));
                plan.extend(self.isolate(runner, lasts));
                plan
            }
            26 => self.late_release(runner),
            27 if self.rng.percent(50) => self.forget_two(world),
            27 => self.hasty_steps(world, runner),
            other => self.beyond(other, any, runner, lasts),
        }
    }

    /// An operator pauses the resource, has some daemons stopped and started again or worse, and resumes it, perhaps before they are back.
    fn maintenance(&mut self, world: &World) -> Vec<(Time, Fault)> {
        let (runner, all) = (world.kernel.exclusion.running().first().copied(), self.voters.clone());
        let beat = self.cluster.heartbeat;
        let Some(rng) = &mut self.pauses else { return Vec::new() };
        if !rng.percent(40) {
            return Vec::new();
        }
        let beats = |rng: &mut Rng, most: u32| rng.between((beat / 100, beat * most));
        let runner = runner.unwrap_or(all[0]);
        let lasts = beats(rng, 20);
        let span = rng.percent(30).then(|| beats(rng, 20));
        let mut plan = vec![(Duration::ZERO, Fault::PauseResource(rng.pick(&all), span))];
        for _ in 0..rng.below(3) {
            let host = if rng.percent(70) { runner } else { rng.pick(&all) };
            let (down, up) = (beats(rng, 4), beats(rng, 25));
            match rng.below(5) {
                0 => plan.extend([(down, Fault::KillDaemon(host)), (down + up, Fault::StartDaemon(host))]),
                1 => plan.extend([(down, Fault::PowerLoss(host)), (down + up, Fault::Boot(host))]),
                2 => plan.push((down, Fault::KillWorker(host))),
                _ => plan.extend([(down, Fault::StopDaemon(host)), (down + up, Fault::StartDaemon(host))]),
            }
            if rng.percent(30) {
                let others = all.iter().copied().filter(|other| *other != host);
                let ways: Vec<_> = others.flat_map(|other| [(host, other), (other, host)]).collect();
                let after = beats(rng, 6);
                let alone = Self::cut_all(&ways, beats(rng, 12));
                plan.extend(alone.into_iter().map(|(when, fault)| (after + when, fault)));
            }
        }
        plan.push((lasts, Fault::ResumeResource(rng.pick(&all))));
        plan
    }

    /// Nobody gets a turn on some hosts for a while.
    fn crowd(&mut self) -> Vec<(Time, Fault)> {
        let (all, beat) = (self.voters.clone(), self.cluster.heartbeat);
        let Some(rng) = &mut self.crowds else { return Vec::new() };
        if !rng.percent(40) {
            return Vec::new();
        }
        let lasts = rng.between((beat / 100, beat * 30));
        let some: Vec<HostId> = all.into_iter().filter(|_| rng.percent(60)).collect();
        some.into_iter()
            .flat_map(|host| [(Time::ZERO, Fault::Crowd(host, true)), (lasts, Fault::Crowd(host, false))])
            .collect()
    }

    /// What the lease cannot help.
    fn beyond(&mut self, which: u64, any: HostId, runner: HostId, lasts: Duration) -> Vec<(Time, Fault)> {
        let now = Duration::ZERO;
        match which {
            28 => vec![(now, Fault::Freeze(any, Whom::All)), (lasts, Fault::Thaw(any))],
            29 => vec![(now, Fault::Pause(any)), (lasts, Fault::Resume(any))],
            30 => vec![(now, Fault::NoProcesses(any, true)), (lasts, Fault::NoProcesses(any, false))],
            31 => {
                let stop = self.rng.pick(&[Behaviour::Fails(1), Behaviour::Hangs, Behaviour::Unkillable]);
                let mood = Box::new(Mood { stop, ..self.usual() });
                vec![(now, Fault::SetMood(runner, mood)), (lasts, Fault::SetMood(runner, Box::new(self.usual())))]
            }
            _ if self.rng.percent(50) => {
                vec![(now, Fault::KillWorker(any)), (now, Fault::KillDaemon(any)), (lasts, Fault::StartDaemon(any))]
            }
            _ => vec![(now, Fault::Force(runner))],
        }
    }

    /// Where nothing else is late, `stop` takes all the time that there is.
    const fn is_tight(&self) -> bool {
        self.slack.late.is_zero() && self.slack.still.is_zero()
    }

    /// The script when nothing is wrong with it.
    pub(crate) fn usual(&self) -> Mood {
        let is_tight = self.is_tight();
        let least = if is_tight { self.slack.stop } else { Duration::from_millis(5) };
        Mood { stop_takes: (least, self.slack.stop), stops_last: is_tight, ..Mood::good() }
    }

    fn mood(&mut self) -> Mood {
        let mut mood = self.usual();
        let beat = self.cluster.heartbeat;
        match self.rng.below(6) {
            0 => mood.start_takes = (beat / 2, beat * 9),
            1 => (mood.stop_takes, mood.stops_last) = ((self.slack.stop, self.slack.stop), true),
            2 => mood.status_takes = (beat / 5, beat * 3),
            3 => mood.notices_take = (beat / 5, beat * 5),
            4 => mood.start = self.rng.pick(&[Behaviour::Fails(1), Behaviour::Hangs, Behaviour::IgnoresTerm]),
            5 if self.rng.percent(50) => {
                mood.status = self.rng.pick(&[
                    Behaviour::Fails(3),
                    Behaviour::Hangs,
                    Behaviour::IgnoresTerm,
                    Behaviour::Unkillable,
                ]);
            }
            _ => mood.notices = self.rng.pick(&[Behaviour::Fails(1), Behaviour::Hangs, Behaviour::IgnoresTerm]),
        }
        mood
    }

    /// The ways from and to a host: all of them, or those of one other host.
    fn ways(&mut self, host: HostId, (out, back): (bool, bool)) -> Vec<(HostId, HostId)> {
        let all: Vec<HostId> = self.voters.iter().copied().filter(|other| *other != host).collect();
        let others = if self.rng.percent(50) { vec![self.rng.pick(&all)] } else { all };
        others
            .into_iter()
            .flat_map(|other| [(out, host, other), (back, other, host)])
            .filter_map(|(wanted, from, to)| wanted.then_some((from, to)))
            .collect()
    }

    fn cuts(&mut self, host: HostId, lasts: Duration) -> Vec<(Time, Fault)> {
        let directions = self.rng.pick(&[(true, true), (true, true), (true, false), (false, true)]);
        let ways = self.ways(host, directions);
        Self::cut_all(&ways, lasts)
    }

    /// The host is alone, for long enough that somebody else may take over.
    fn isolate(&mut self, host: HostId, lasts: Duration) -> Vec<(Time, Fault)> {
        let others: Vec<HostId> = self.voters.iter().copied().filter(|other| *other != host).collect();
        let ways: Vec<_> = others.into_iter().flat_map(|other| [(host, other), (other, host)]).collect();
        Self::cut_all(&ways, lasts + self.cluster.heartbeat * 4)
    }

    /// The cluster falls into two parts.
    fn split(&mut self, lasts: Duration) -> Vec<(Time, Fault)> {
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for host in self.voters.clone() {
            if self.rng.percent(50) { here.push(host) } else { there.push(host) }
        }
        let ways = here.iter().flat_map(|a| there.iter().flat_map(move |b| [(*a, *b), (*b, *a)]));
        Self::cut_all(&ways.collect::<Vec<_>>(), lasts + self.cluster.heartbeat * 4)
    }

    /// Voters crash when they have just voted, with disks that are slow or fail; the new holder is alone, and another node wants the lease.
    fn amnesia(&mut self, runner: HostId, lasts: Duration) -> Vec<(Time, Fault)> {
        let others: Vec<HostId> = self.runners.iter().copied().filter(|host| *host != runner).collect();
        let heir = self.rng.pick(&others);
        let voters: Vec<HostId> = self.voters.iter().copied().filter(|host| *host != heir).collect();
        let (trouble, what_is_read) = (self.rng.below(4), self.rng.below(100));
        let mut plan = vec![(Duration::ZERO, Fault::Switchover(runner, Some(heir)))];
        let crash = self.beats((10, 2_500));
        let boot = crash + self.beats((1, 500));
        for host in &voters {
            match trouble {
                0 => {
                    let slow = self.cluster.heartbeat * 2;
                    plan.push((Duration::ZERO, Fault::DiskSlow(*host, slow)));
                }
                1 => plan.push((Duration::ZERO, Fault::DiskFails(*host, true))),
                _ => {}
            }
            if *host != runner || self.rng.percent(50) {
                plan.push((crash, Fault::PowerLoss(*host)));
                match what_is_read {
                    0..30 => plan.push((boot, Fault::DiskFails(*host, true))),
                    // What a damaged record has promised is known only where the times are the same for ever.
                    // And a vote that was kept is lost with its record.
                    30..50 if !self.retimes && self.pauses.is_none() => plan.push((boot, Fault::DiskDamaged(*host))),
                    _ => plan.push((boot, Fault::DiskFails(*host, false))),
                }
                plan.push((boot, Fault::Boot(*host)));
            }
            plan.push((boot + self.cluster.heartbeat, Fault::DiskFails(*host, false)));
            plan.push((boot + self.cluster.heartbeat, Fault::DiskSlow(*host, Duration::ZERO)));
        }
        let alone = self.isolate(heir, lasts);
        plan.extend(alone.into_iter().map(|(when, fault)| (crash + when, fault)));
        plan.push((boot + self.beats((10, 500)), Fault::Operator(runner, Role::Secondary)));
        plan.push((boot + self.beats((500, 900)), Fault::Operator(runner, Role::Primary)));
        plan
    }

    /// Answers to the primary come later and later, then none.
    fn slow_then_alone(&mut self, runner: HostId, lasts: Duration) -> Vec<(Time, Fault)> {
        let extra = self.beats((300, 900));
        let others: Vec<HostId> = self.voters.iter().copied().filter(|host| *host != runner).collect();
        let mut plan = Vec::new();
        let end = lasts + self.cluster.heartbeat * 8;
        for other in others {
            plan.push((Duration::ZERO, Fault::Slow(other, runner, extra)));
            plan.push((end, Fault::Slow(other, runner, Duration::ZERO)));
        }
        let alone = self.isolate(runner, lasts);
        let after = self.beats((2_000, 4_000));
        plan.extend(alone.into_iter().map(|(when, fault)| (after + when, fault)));
        plan
    }

    /// The node that runs the resource has no vote too many. It gives the lease back and takes it again, while what it says takes its time: what
    /// it said of the first lease arrives under the second one.
    fn late_release(&mut self, runner: HostId) -> Vec<(Time, Fault)> {
        let mut others: Vec<HostId> = self.voters.iter().copied().filter(|host| *host != runner).collect();
        // A watchdog that hears of a release tells the others at once.
        others.sort_by_key(|host| self.cluster.nodes[host.0].role != Role::Watchdog);
        let (near, far) = others.split_at(self.voters.len() / 2);
        // By then the others have forgotten that they voted for it.
        let again = self.beats((7_000, 8_000));
        let back = again + self.beats((300, 900));
        let end = again + self.cluster.heartbeat * 8;
        let ways: Vec<_> = far.iter().flat_map(|other| [(runner, *other), (*other, runner)]).collect();
        let mut plan = Self::cut_all(&ways, end);
        plan.push((Duration::ZERO, Fault::SetMood(runner, Box::new(Mood::good()))));
        plan.push((end, Fault::SetMood(runner, Box::new(self.usual()))));
        let extra = self.beats((2_000, 2_800));
        for other in near {
            plan.push((again, Fault::Slow(runner, *other, extra)));
            plan.push((back, Fault::Slow(runner, *other, Duration::ZERO)));
        }
        plan.push((again, Fault::Operator(runner, Role::Secondary)));
        plan.push((back, Fault::Operator(runner, Role::Primary)));
        plan
    }

    /// Two voters join in a hurry. The node that runs the resource hears of neither, and has no more than one of the old ones to vote for it, which
    /// hears of the first alone: these two are a majority of what the cluster was, and the others one of what it is.
    fn hasty_steps(&mut self, world: &World, runner: HostId) -> Vec<(Time, Fault)> {
        let spare: Vec<HostId> =
            self.cluster.spare.iter().map(|at| HostId(*at)).filter(|host| !self.voters.contains(host)).collect();
        let others: Vec<HostId> = self.voters.iter().copied().filter(|host| *host != runner).collect();
        let ([first, second], [one, two]) = (&spare[..], &others[..]) else { return Vec::new() };
        if !self.is_agreed(world) {
            return Vec::new();
        }
        let (first, second) = (*first, *second);
        let (near, far) = if self.rng.percent(50) { (*one, *two) } else { (*two, *one) };
        let beat = self.cluster.heartbeat;
        let begins = self.beats((7_000, 8_000));
        let end = begins + beat * 8;
        let ways = [far, first, second].into_iter().flat_map(|other| [(runner, other), (other, runner)]);
        let mut plan = Self::cut_all(&ways.collect::<Vec<_>>(), end);
        let [one_more, two_more] = [first, second].map(|joins| {
            self.voters.push(joins);
            self.edition += 1;
            (self.edition, self.voters.clone())
        });
        let cluster = self.cluster.clone();
        let config =
            |host: HostId, voters: &[HostId]| Box::new(cluster.config_with(host.0, |at| voters.contains(&HostId(at))));
        for (joins, (edition, voters)) in [(first, &one_more), (second, &two_more)] {
            plan.push((begins - beat, Fault::Voters(joins, *edition, config(joins, voters))));
            plan.push((begins - beat, Fault::Boot(joins)));
        }
        // Some leave in the file what was refused.
        let takes_back = self.rng.percent(50);
        let attempt = |host: HostId, (edition, voters): &(u32, Vec<HostId>)| {
            let config = config(host, voters);
            if takes_back { Fault::TryVoters(host, *edition, config) } else { Fault::Voters(host, *edition, config) }
        };
        plan.extend([near, far].map(|host| (begins, attempt(host, &one_more))));
        // The second step is refused until enough nodes are seen with the first.
        let next = begins + self.beats((1_050, 1_500));
        for again in 0..10 {
            plan.extend([far, first].map(|host| (next + beat * again / 5, attempt(host, &two_more))));
        }
        for host in [far, first, second] {
            if self.cluster.nodes[host.0].role != Role::Watchdog {
                plan.push((next + self.beats((1, 300)), Fault::Operator(host, Role::Primary)));
            }
        }
        for (step, later) in [(&one_more, 2), (&two_more, 6), (&one_more, 10), (&two_more, 14)] {
            plan.extend([near, far, first, runner].map(|host| (end + beat * later, attempt(host, step))));
        }
        plan
    }

    /// What is in the configuration of all nodes at the end, however they have come so far.
    pub(crate) fn settle_voters(&self, world: &mut World) {
        for host in &self.voters {
            let config = self.cluster.config_with(host.0, |at| self.voters.contains(&HostId(at)));
            world.kernel.host_mut(*host).change_voters(u32::MAX, &config);
        }
    }

    fn cut_all(ways: &[(HostId, HostId)], lasts: Duration) -> Vec<(Time, Fault)> {
        let cut = |(from, to): &(HostId, HostId)| {
            [(Duration::ZERO, Fault::Cut(*from, *to)), (lasts, Fault::Heal(*from, *to))]
        };
        ways.iter().flat_map(cut).collect()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.voters.iter().map(|host| self.cluster.nodes[host.0].name.to_string()).collect();
        names.sort();
        names
    }

    /// Whether the last change of voters has come into force at a majority of them.
    pub(crate) fn is_agreed(&self, world: &World) -> bool {
        let names = self.names();
        let agree = self.voters.iter().filter(|host| world.voters_in_force(**host).as_ref() == Some(&names)).count();
        agree > self.voters.len() / 2
    }

    /// Two voters join, one after the other; one old node hears of neither in time, and one of the first alone. These two, a majority of what
    /// the cluster was, are then cut off from the others, a majority of what it is.
    fn forget_two(&mut self, world: &mut World) -> Vec<(Time, Fault)> {
        // Votes that are kept for a node that leaves for good are free when it is fenced, which nobody does here.
        if self.pauses.is_some() {
            return Vec::new();
        }
        let spare: Vec<HostId> =
            self.cluster.spare.iter().map(|at| HostId(*at)).filter(|host| !self.voters.contains(host)).collect();
        let ([first, second], 3, [lags, half, ..]) = (&spare[..], self.voters.len(), &self.runners.clone()[..]) else {
            return Vec::new();
        };
        let mut late = Vec::new();
        for (joins, forgotten) in [(*first, &[*lags][..]), (*second, &[*lags, *half])] {
            if !self.is_agreed(world) {
                break;
            }
            self.voters.push(joins);
            self.edition += 1;
            late.clear();
            for host in self.voters.clone() {
                let config = self.cluster.config_with(host.0, |at| self.voters.contains(&HostId(at)));
                let fault = Fault::Voters(host, self.edition, Box::new(config));
                if forgotten.contains(&host) {
                    late.push((self.cluster.heartbeat * 20, fault));
                } else {
                    world.apply(fault);
                }
            }
            world.apply(Fault::Boot(joins));
            world.run_for(self.cluster.heartbeat * 6);
        }
        let ways = [lags, half].into_iter().flat_map(|old| {
            let others = self.voters.iter().filter(|host| ![lags, half].contains(host));
            others.flat_map(|other| [(*old, *other), (*other, *old)]).collect::<Vec<_>>()
        });
        late.extend(Self::cut_all(&ways.collect::<Vec<_>>(), self.cluster.heartbeat * 15));
        for host in [*first, *second, *lags] {
            if self.cluster.nodes[host.0].role != Role::Watchdog {
                late.push((self.beats((1, 9_000)), Fault::Operator(host, Role::Primary)));
            }
        }
        late
    }

    /// The administrator adds or removes one voter, node by node, when the last change has come into force at a majority of the nodes.
    fn change_voters(&mut self, world: &mut World) -> Vec<(Time, Fault)> {
        if self.pauses.is_some() {
            return Vec::new();
        }
        let spare: Vec<HostId> =
            self.cluster.spare.iter().map(|at| HostId(*at)).filter(|host| !self.voters.contains(host)).collect();
        let guests: Vec<HostId> =
            self.cluster.spare.iter().map(|at| HostId(*at)).filter(|host| self.voters.contains(host)).collect();
        if !self.is_agreed(world) {
            return Vec::new();
        }
        let mut changes = Vec::new();
        let before = self.voters.clone();
        if !spare.is_empty() && (guests.is_empty() || self.rng.percent(50)) {
            let joins = self.rng.pick(&spare);
            self.voters.push(joins);
            let after = self.beats((1, 3_000));
            changes.push((after, Fault::Boot(joins)));
        } else if !guests.is_empty() {
            let leaves = self.rng.pick(&guests);
            self.voters.retain(|host| *host != leaves);
            let after = self.beats((1, 3_000));
            changes.push((after, Fault::StopDaemon(leaves)));
        }
        self.edition += 1;
        let in_it = self.voters.clone();
        for host in &in_it {
            let config = self.cluster.config_with(host.0, |at| in_it.contains(&HostId(at)));
            // Some administrators forget a node.
            let after = match before.contains(host) {
                false => Duration::ZERO,
                true if self.rng.percent(20) => self.beats((1, 60_000)),
                true => self.beats((1, 6_000)),
            };
            changes.push((after, Fault::Voters(*host, self.edition, Box::new(config))));
        }
        changes
    }
}
