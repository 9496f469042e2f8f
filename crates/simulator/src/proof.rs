//! Many runs of random clusters with the lease: first the faults (safety), then their end (liveness). A run that breaks a promise is shown.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hastmon_core::types::Role;

use super::cluster::{Cluster, Node};
use super::faults::Fault;
use super::host::HostId;
use super::rng::Rng;
use super::storm::{Slack, Storm, Weather};
use super::trace::Detail;
use super::world::World;

/// How long there are faults in one run, in heartbeats ...
const FAULTY: u32 = 120;
/// ... how long their last consequences may show after that ...
const SETTLES: u32 = 20;
/// ... within how many heartbeats the resource must run when all are over (and this much more for scripts that have constant limits) ...
const LIVE_WITHIN: u32 = 60;
const LIVE_MORE: Duration = Duration::from_secs(20);
/// ... and for how long, on one node without a break.
const STEADY: u32 = 8;

/// How often a long run says how far it has come, in cluster hours: about twice a minute on one processor.
const TOLD_EVERY_HOURS: f64 = 1000.0;
/// Storms in a hundred in which operators pause the resource.
const PAUSED_STORMS: u64 = 30;
/// And in so many others are started on the same hosts.
const CROWDED_STORMS: u64 = 30;
/// How many heartbeats [`World::recover`] takes until the daemons are there that it starts anew: before that they cannot hear that a pause is over.
const STARTED_WITHIN: u32 = 12;
/// How long it takes until all know of the end of a pause.
const RESUMED_WITHIN: u32 = 6;

/// What one run came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// What was promised and not kept.
    pub(crate) broken: Vec<String>,
    /// No node ran the resource for good when all was over.
    pub(crate) is_stuck: bool,
    /// Only after an administrator had removed the records of votes.
    pub(crate) starts_over: bool,
    /// How often the resource ran on two hosts at once, and for how long at the longest.
    pub(crate) overlaps: usize,
    pub(crate) longest_overlap: Duration,
    /// From the end of all faults until it began to run steadily, in heartbeats.
    pub(crate) recovered_in: f64,
    pub(crate) simulated: Duration,
    pub(crate) faults: BTreeMap<&'static str, usize>,
}

/// A random cluster: two or three nodes that can run the resource, one or two watchdogs, perhaps one that joins later.
fn random_storm(seed: u64, weather: Weather) -> Storm {
    let mut rng = Rng::new(seed ^ 0x5eed_1ea5e);
    let mut nodes =
        vec![Node::new("a", Role::Primary), Node::new("b", Role::Secondary), Node::new("w", Role::Watchdog)];
    if rng.percent(30) {
        nodes.push(Node::new("c", Role::Secondary));
    }
    if rng.percent(30) {
        nodes.push(Node::new("v", Role::Watchdog));
    }
    if rng.percent(70) {
        nodes.iter_mut().zip(1..).for_each(|(node, priority)| node.priority = priority);
    }
    if rng.percent(50) {
        nodes[0].role = Role::Secondary;
    }
    let mut spare = Vec::new();
    if rng.percent(30) {
        for name in if rng.percent(50) { &["s", "t"][..] } else { &["s"] } {
            spare.push(nodes.len());
            nodes.push(Node::new(name, rng.pick(&[Role::Secondary, Role::Watchdog])));
        }
    }
    let runs = |at: &usize| !spare.contains(at) && nodes.get(*at).is_some_and(|node| node.role != Role::Watchdog);
    let runners = (0..nodes.len()).filter(runs).map(HostId).collect();
    let mut cluster = Cluster::new(&nodes);
    // Most runs have long heartbeats: they simulate more time for the same work.
    cluster.heartbeat = match rng.below(20) {
        0 => Duration::from_millis(100),
        1..=4 => Duration::from_secs(1),
        5..=9 => Duration::from_secs(3),
        _ => Duration::from_secs(10),
    };
    cluster.complaint_count = rng.pick(&[2, 3, 3, 4]);
    cluster.complaint_interval = cluster.heartbeat * 10;
    cluster.timeout = cluster.heartbeat * rng.pick(&[1, 2]);
    cluster = cluster.with_lease();
    cluster.stop_timeout = cluster.heartbeat * rng.pick(&[1, 1, 2]);
    cluster.start_timeout = cluster.heartbeat * 10;
    cluster.status_timeout = cluster.heartbeat * 3;
    cluster.hook_timeout = cluster.heartbeat * 3;
    // The clocks of two nodes differ by 1 % at most.
    cluster.drift_ppm = 4_970;
    cluster.spare = spare.clone();
    // Where times are changed, `stop` must fit into the shorter ones as well.
    let retimes = rng.percent(50);
    let slack = Slack::new(&mut rng, if retimes { cluster.stop_timeout * 3 / 4 } else { cluster.stop_timeout });
    let voters = (0..cluster.nodes.len()).filter(|at| !spare.contains(at)).map(HostId).collect();
    let mut apart = Rng::new(seed ^ 0x9a05_e5ee);
    let pauses = apart.percent(PAUSED_STORMS).then_some(apart);
    let mut apart = Rng::new(seed ^ 0x7a59_c07d);
    let crowds = apart.percent(CROWDED_STORMS).then_some(apart);
    let mut storm = Storm { rng, weather, cluster, runners, slack, retimes, edition: 0, voters, pauses, crowds };
    storm.cluster.mood = storm.usual();
    storm
}

/// One run.
pub(crate) fn one(seed: u64, weather: Weather, detail: Detail) -> (World, Outcome) {
    let mut storm = random_storm(seed, weather);
    let mut world = storm.cluster.build(seed, detail);
    let beat = storm.cluster.heartbeat;
    world.strict = weather == Weather::Rule;
    world.run_for(beat * 8);
    storm.blow(&mut world, beat * FAULTY);
    world.run_for(beat * SETTLES);
    storm.settle_voters(&mut world);
    let ready = |node: &Node| if node.role == Role::Watchdog { Role::Watchdog } else { Role::Secondary };
    let off: Vec<HostId> =
        (0..storm.cluster.nodes.len()).map(HostId).filter(|host| !storm.voters.contains(host)).collect();
    let roles: Vec<Role> = storm.cluster.nodes.iter().map(ready).collect();
    world.recover(&roles, &off, beat);
    if storm.pauses.is_some() {
        world.run_for(beat * STARTED_WITHIN);
        storm.voters.iter().for_each(|host| world.apply(Fault::ResumeResource(*host)));
        world.run_for(beat * RESUMED_WITHIN);
        // Roles are refused while it is paused.
        world.recover(&roles, &off, beat);
    }
    let since = world.now();
    let steady = beat * STEADY;
    let live = |world: &mut World| {
        world.until_or(beat * LIVE_WITHIN + LIVE_MORE + steady, |world| world.has_run_for(steady)).is_some()
    };
    let mut lives = live(&mut world);
    let starts_over = !lives && !storm.is_agreed(&world);
    if starts_over {
        world.start_over(&roles, &off, beat);
        lives = live(&mut world);
    }
    let exclusion = &world.kernel.exclusion;
    let mut broken: Vec<String> = exclusion
        .overlaps
        .iter()
        .map(|(from, to)| {
            let to = to.map_or("the end".to_string(), |to| format!("{:.6}", to.as_secs_f64()));
            format!("at {:.6}: the resource runs on two hosts until {to}", from.as_secs_f64())
        })
        .collect();
    broken.extend(exclusion.violations.iter().map(|(when, what)| format!("at {:.6}: {what}", when.as_secs_f64())));
    if !lives {
        broken.push(format!("since {:.6}: no node runs the resource for good", since.as_secs_f64()));
    }
    let outcome = Outcome {
        broken,
        is_stuck: !lives,
        starts_over,
        overlaps: exclusion.overlaps.len(),
        longest_overlap: exclusion.longest_overlap(world.now()),
        recovered_in: exclusion.since().saturating_sub(since).as_secs_f64() / beat.as_secs_f64(),
        simulated: world.now(),
        faults: world.faults.clone(),
    };
    (world, outcome)
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) hours: f64,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
    pub(crate) weather: Weather,
    pub(crate) trace: bool,
    pub(crate) mutation: Option<String>,
}

/// What many runs came to.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    runs: usize,
    simulated: Duration,
    faults: BTreeMap<&'static str, usize>,
    overlaps: usize,
    longest_overlap: (Duration, u64),
    /// In heartbeats, each with its seed.
    recoveries: Vec<(f64, u64)>,
    /// Runs in which an administrator had to remove the records of votes.
    started_over: usize,
    /// The seed of a run that broke a promise, what it broke, and after how many simulated hours that was.
    pub(crate) broken: Option<(u64, Vec<String>, f64)>,
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: Outcome, plan: &Plan) {
        let before = self.hours();
        self.runs += 1;
        self.simulated += outcome.simulated;
        if (before / TOLD_EVERY_HOURS).floor() < (self.hours() / TOLD_EVERY_HOURS).floor() {
            eprintln!("so far {:.0} cluster hours in {} runs, seeds from {}", self.hours(), self.runs, plan.seed);
        }
        self.overlaps += usize::from(outcome.overlaps > 0);
        self.longest_overlap = self.longest_overlap.max((outcome.longest_overlap, seed));
        if outcome.starts_over {
            self.started_over += 1;
        } else {
            self.recoveries.push((outcome.recovered_in, seed));
        }
        for (name, count) in outcome.faults {
            *self.faults.entry(name).or_default() += count;
        }
        // Of faults that it cannot help, the lease does not promise that nobody notices them.
        let is_broken = match plan.weather {
            // Epochs alone do not keep two primaries apart; they must not go back.
            _ if plan.mutation.as_deref() == Some("[Epochs]") => !outcome.broken.is_empty(),
            _ if plan.mutation.is_some() => outcome.overlaps > 0,
            Weather::Rule => !outcome.broken.is_empty(),
            Weather::Beyond => outcome.is_stuck,
        };
        if is_broken {
            let hours = self.hours();
            self.broken.get_or_insert((seed, outcome.broken, hours));
        }
    }

    pub(crate) fn hours(&self) -> f64 {
        self.simulated.as_secs_f64() / 3600.0
    }

    fn print(&mut self) {
        self.recoveries.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (median, _) = self.recoveries.get(self.recoveries.len() / 2).copied().unwrap_or_default();
        let (worst, worst_seed) = self.recoveries.last().copied().unwrap_or_default();
        let faults: Vec<_> = self.faults.iter().map(|(name, count)| format!("{count} {name}")).collect();
        println!("{:.1} cluster hours in {} runs", self.hours(), self.runs);
        println!("faults: {}", faults.join(", "));
        println!("runs again after all faults: median {median:.1}, worst {worst:.1} heartbeats (seed {worst_seed})");
        if self.started_over > 0 {
            println!(
                "{} more after the records of all nodes were removed, which had split over changes of voters",
                self.started_over
            );
        }
        let (longest, seed) = self.longest_overlap;
        match self.overlaps {
            0 => println!("never on two hosts at once"),
            runs => println!("ON TWO HOSTS AT ONCE in {runs} runs, for at most {longest:.3?} (seed {seed})"),
        }
    }
}

/// Carries out what the command line asks for.
pub(crate) fn run(plan: &Plan) -> ExitCode {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        eprintln!("the run with --seed {} ends with a panic:", SEED.get());
        told(info);
    }));
    if plan.trace {
        let (world, outcome) = one(plan.seed, plan.weather, Detail::Story);
        println!("{}", world.kernel.trace.show());
        return tell_broken(plan.seed, &outcome.broken);
    }
    if let Some(name) = &plan.mutation {
        return mutate(plan, name);
    }
    println!("seeds from {}", plan.seed);
    let mut summary = many(plan);
    summary.print();
    takeovers();
    match &summary.broken {
        None => ExitCode::SUCCESS,
        Some((seed, broken, _)) => {
            let (world, _) = one(*seed, plan.weather, Detail::Story);
            println!("{}", world.kernel.trace.show());
            tell_broken(*seed, broken)
        }
    }
}

fn tell_broken(seed: u64, broken: &[String]) -> ExitCode {
    for what in broken {
        println!("BROKEN {what}");
    }
    if broken.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("to see it again: cargo run --release -p hastmon-simulator -- --seed {seed} --trace");
    ExitCode::FAILURE
}

/// Runs until there are enough, or one breaks a promise.
pub(crate) fn many(plan: &Plan) -> Summary {
    let next = AtomicU64::new(plan.seed);
    let summary = Mutex::new(Summary::default());
    let work = || {
        loop {
            {
                let summary = summary.lock().unwrap();
                if summary.hours() >= plan.hours || summary.broken.is_some() {
                    return;
                }
            }
            let seed = next.fetch_add(1, Ordering::Relaxed);
            SEED.set(seed);
            let (_, outcome) = one(seed, plan.weather, Detail::Off);
            summary.lock().unwrap().add(seed, outcome, plan);
        }
    };
    std::thread::scope(|scope| (0..plan.threads).for_each(|_| _ = scope.spawn(work)));
    summary.into_inner().unwrap()
}

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// How long the resource is away when the host of its primary loses power, in clusters that have no other trouble.
fn takeovers() {
    for (beat, seeds) in [(1000, 200), (100, 200), (25, 200)] {
        let mut took: Vec<Duration> = (0..seeds).map(|seed| takeover(seed, Duration::from_millis(beat))).collect();
        took.sort();
        let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
        println!(
            "power loss -> runs elsewhere, heartbeat {beat} ms: median {median:.3?}, worst {worst:.3?} of {seeds}"
        );
    }
}

/// One of them.
pub(crate) fn takeover(seed: u64, beat: Duration) -> Duration {
    let mut cluster = Cluster::three();
    cluster.heartbeat = beat;
    cluster.timeout = beat * 2;
    cluster = cluster.with_lease();
    let mut world = cluster.build(seed, Detail::Off);
    world.until(Duration::from_secs(5) + beat * 10, "it runs on a", |world| world.runs_on(HostId(0)));
    let anywhere = world.kernel.rng.between((beat * 5, beat * 6));
    world.run_for(anywhere);
    world.apply(Fault::PowerLoss(HostId(0)));
    world.until(Duration::from_secs(5) + beat * 20, "it runs on b", |world| world.runs_on(HostId(1)))
}

/// Switches rules off, one after the other: each time two primaries must be found.
#[cfg(feature = "mutations")]
fn mutate(plan: &Plan, name: &str) -> ExitCode {
    use hastmon_core::lease::rules::{Rule, switch_off};
    let mut missed = 0;
    // Each in turn: those between commas; together: those between plus signs.
    let of_name = |name: &str| Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == name);
    let named = |names: &str| names.split('+').map(of_name).collect::<Option<Vec<Rule>>>();
    let chosen = match name {
        "all" => Some(Rule::ALL.map(|rule| vec![rule]).to_vec()),
        names => names.split(',').map(named).collect(),
    };
    let Some(chosen) = chosen else {
        eprintln!("{name}: not known; the rules are {:?}", Rule::ALL);
        return ExitCode::from(64);
    };
    for rules in chosen {
        switch_off(&rules);
        let summary = many(&Plan { mutation: Some(format!("{rules:?}")), ..plan.clone() });
        switch_off(&[]);
        let Some((seed, broken, hours)) = &summary.broken else {
            missed += 1;
            println!("{rules:?} off: NOT FOUND in {:.0} h", summary.hours());
            continue;
        };
        println!("{rules:?} off: seed {seed}, {hours:.2} h: {}", broken[0]);
        let control = many(&Plan { hours: *hours, mutation: None, ..plan.clone() });
        match &control.broken {
            None => println!("{rules:?} on: nothing in {:.2} h with the same seeds", control.hours()),
            Some((seed, broken, _)) => {
                missed += 1;
                println!("{rules:?} on: BROKEN, seed {seed}: {}", broken[0]);
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(feature = "mutations"))]
fn mutate(_: &Plan, _: &str) -> ExitCode {
    eprintln!("this build has all rules in force for good: cargo run --features mutations");
    ExitCode::from(64)
}
