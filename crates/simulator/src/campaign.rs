//! Many runs with random clusters and random faults: first the faults (safety), then their end (liveness).

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZero;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread::available_parallelism;
use std::time::Duration;

use hastmon_core::types::Role;

use super::cluster::{Cluster, Node};
use super::host::HostId;
use super::plans::{self, Kind, Places};
use super::rng::Rng;
use super::trace::Detail;
use super::world::World;

/// How long there are faults in one run.
const FAULTY: Duration = Duration::from_secs(90);
/// Then their last consequences may still show for so long; after that an operator puts everything in order.
const SETTLES: Duration = Duration::from_secs(15);
/// The resource must run within this time after that ...
const LIVE_WITHIN: Duration = Duration::from_secs(60);
/// ... on one node, for this long without a break.
const STEADY: Duration = Duration::from_secs(10);
/// After that, processes hold no more than these ends of connections for each pair of nodes: both connections of a primary, a poll, a complaint,
/// and one that is being made.
const ENDS_FOR_A_PAIR: usize = 2 * 5;

/// What one run came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// How often the resource ran on two hosts at once, and for how long at the longest.
    pub(crate) overlaps: usize,
    pub(crate) longest_overlap: Duration,
    /// From the end of all faults until it began to run steadily.
    pub(crate) recovered_in: Duration,
    pub(crate) simulated: Duration,
    pub(crate) faults: BTreeMap<&'static str, usize>,
}

/// What all runs came to.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) runs: usize,
    pub(crate) runs_with_overlaps: usize,
    /// The longest of all, and the seed of its run.
    pub(crate) longest_overlap: (Duration, u64),
    /// Each with its seed.
    recoveries: Vec<(Duration, u64)>,
    simulated: Duration,
    faults: BTreeMap<&'static str, usize>,
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.runs += 1;
        self.runs_with_overlaps += usize::from(outcome.overlaps > 0);
        self.longest_overlap = self.longest_overlap.max((outcome.longest_overlap, seed));
        self.recoveries.push((outcome.recovered_in, seed));
        self.simulated += outcome.simulated;
        for (name, count) in &outcome.faults {
            *self.faults.entry(name).or_default() += count;
        }
    }

    pub(crate) fn print(&mut self, what: &str) {
        self.recoveries.sort();
        let (median, _) = self.recoveries.get(self.recoveries.len() / 2).copied().unwrap_or_default();
        let (worst, worst_seed) = self.recoveries.last().copied().unwrap_or_default();
        let (longest, longest_seed) = self.longest_overlap;
        println!(
            "{what}: {:.1} cluster hours in {} runs; the resource on two hosts at once in {} of them, for at most {longest:.3?} (seed \
             {longest_seed}); runs again after the faults: median {median:.1?}, worst {worst:.1?} (seed {worst_seed})",
            self.simulated.as_secs_f64() / 3600.0,
            self.runs,
            self.runs_with_overlaps,
        );
        let faults: Vec<_> = self.faults.iter().map(|(name, count)| format!("{count} {name}")).collect();
        println!("{what}: {}", faults.join(", "));
    }
}

/// Which run comes next, and what those before it came to.
#[derive(Debug)]
struct Schedule {
    summary: Summary,
    wanted: Duration,
    begun: usize,
    fixed: Range<u64>,
    fresh: Rng,
    failed: Option<u64>,
}

impl Schedule {
    /// The seed of the next run, unless there are enough, or one has failed.
    fn next(&mut self) -> Option<u64> {
        if self.failed.is_some() || self.summary.simulated >= self.wanted {
            return None;
        }
        self.begun += 1;
        // Nine of a fixed set, then one that was never seen before.
        if self.begun.is_multiple_of(10) { Some(self.fresh.next() >> 32) } else { self.fixed.next() }
    }
}

/// Runs as many random clusters as take so many simulated hours, or as the environment says: `HASTMON_SIM_HOURS` sets the hours, and has
/// every processor at work; `HASTMON_SEED` replays one run and shows it. What fails is run again to be shown.
pub(crate) fn run(kind: Kind, hours: f64, check: impl Fn(&Outcome) + Sync) -> Summary {
    if let Ok(seed) = std::env::var("HASTMON_SEED") {
        let seed = seed.parse().expect("HASTMON_SEED is a number");
        let (world, outcome) = one(seed, kind, Detail::Story);
        println!("{}{outcome:?}", world.kernel.trace.show());
        check(&outcome);
        let mut summary = Summary::default();
        summary.add(seed, &outcome);
        return summary;
    }
    let asked =
        std::env::var("HASTMON_SIM_HOURS").ok().map(|hours| hours.parse().expect("HASTMON_SIM_HOURS is a number"));
    let threads = if asked.is_some() { available_parallelism().map_or(1, NonZero::get) } else { 1 };
    let schedule = Mutex::new(Schedule {
        summary: Summary::default(),
        wanted: Duration::from_secs_f64(asked.unwrap_or(hours) * 3600.0),
        begun: 0,
        fixed: 0..u64::MAX,
        fresh: Rng::new(RandomState::new().hash_one(kind)),
        failed: None,
    });
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work_off(&schedule, kind, &check));
        }
    });
    let schedule = schedule.into_inner().unwrap();
    let Some(seed) = schedule.failed else { return schedule.summary };
    println!("the run with HASTMON_SEED={seed} fails; once more, to be shown:");
    let (_world, outcome) = one(seed, kind, Detail::Story);
    check(&outcome);
    panic!("the run with HASTMON_SEED={seed} failed, but not again: something is not deterministic");
}

/// One run after the other, until there are enough.
fn work_off(schedule: &Mutex<Schedule>, kind: Kind, check: &(impl Fn(&Outcome) + Sync)) {
    loop {
        let Some(seed) = schedule.lock().unwrap().next() else { return };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let (_, outcome) = one(seed, kind, Detail::Off);
            check(&outcome);
            outcome
        }));
        let mut schedule = schedule.lock().unwrap();
        match outcome {
            Ok(outcome) => schedule.summary.add(seed, &outcome),
            Err(_) => schedule.failed = Some(seed),
        }
    }
}

/// One run: a random cluster, random faults, then none.
pub(crate) fn one(seed: u64, kind: Kind, detail: Detail) -> (World, Outcome) {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let (cluster, places) = random_cluster(&mut rng, kind);
    let mut world = cluster.build(seed, detail);
    world.gentle = kind != Kind::All;
    for (when, fault) in plans::plan(&mut rng, kind, &places, FAULTY) {
        world.at(when, fault);
    }
    world.run_for(FAULTY + SETTLES);
    let ready = |node: &Node| if node.role == Role::Watchdog { Role::Watchdog } else { Role::Secondary };
    world.recover(&cluster.nodes.iter().map(ready).collect::<Vec<_>>(), &[], cluster.heartbeat);
    let since = world.now();
    world.until(LIVE_WITHIN + STEADY, "the resource runs on one node", |world| world.has_run_for(STEADY));
    let recovered_in = world.kernel.exclusion.since().saturating_sub(since);
    let pairs = cluster.nodes.len() * (cluster.nodes.len() - 1);
    assert!(world.open_ends() <= pairs * ENDS_FOR_A_PAIR, "{} ends of connections are open", world.open_ends());
    let exclusion = &world.kernel.exclusion;
    let outcome = Outcome {
        overlaps: exclusion.overlaps.len(),
        longest_overlap: exclusion.longest_overlap(world.now()),
        recovered_in,
        simulated: world.now(),
        faults: world.faults.clone(),
    };
    (world, outcome)
}

/// Two nodes that can run the resource or three, a watchdog or two; priorities, keys and roles at the start in all ways.
fn random_cluster(rng: &mut Rng, kind: Kind) -> (Cluster, Places) {
    let mut nodes =
        vec![Node::new("a", Role::Primary), Node::new("b", Role::Secondary), Node::new("w", Role::Watchdog)];
    if rng.percent(30) {
        nodes.push(Node::new("c", Role::Secondary));
    }
    // Two complain twice as fast: the second in which a dead worker's place is empty is too long then.
    if kind == Kind::All && rng.percent(10) {
        nodes.push(Node::new("v", Role::Watchdog));
    }
    if rng.percent(70) {
        nodes.iter_mut().zip(1..).for_each(|(node, priority)| node.priority = priority);
    }
    if rng.percent(50) {
        nodes[0].role = Role::Secondary;
    }
    let place = |watches: bool| {
        let chosen = nodes.iter().enumerate().filter(move |(_, node)| (node.role == Role::Watchdog) == watches);
        chosen.map(|(at, _)| HostId(at)).collect()
    };
    let places = Places { runners: place(false), watchdogs: place(true) };
    let mut cluster = Cluster::new(&nodes);
    cluster.complaint_interval = Duration::from_secs(10);
    cluster.key = rng.percent(30);
    cluster.drift_ppm = 10_000;
    (cluster, places)
}
