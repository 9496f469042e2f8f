//! Many runs of random clusters with the lease: first the faults (safety), then their end (liveness). A run that breaks a promise is shown.

use std::collections::BTreeMap;
use std::time::Duration;

use hastmon_core::types::Role;

use super::cluster::{Cluster, Node};
use super::faults::Places;
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

/// What one run came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// What was promised and not kept.
    pub(crate) broken: Vec<String>,
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
    let mut nodes = vec![Node::new("a", Role::Primary), Node::new("b", Role::Secondary), Node::new("w", Role::Watchdog)];
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
        spare.push(nodes.len());
        nodes.push(Node::new("s", rng.pick(&[Role::Secondary, Role::Watchdog])));
    }
    let place = |watches: bool| -> Vec<HostId> {
        let voting = nodes.iter().enumerate().filter(|(at, _)| !spare.contains(at));
        voting.filter(|(_, node)| (node.role == Role::Watchdog) == watches).map(|(at, _)| HostId(at)).collect()
    };
    let places = Places { runners: place(false), watchdogs: place(true) };
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
    let slack = Slack::new(&mut rng, cluster.stop_timeout);
    let voters = (0..cluster.nodes.len()).filter(|at| !spare.contains(at)).map(HostId).collect();
    let mut storm = Storm { rng, weather, cluster, places, slack, voters };
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
    let ready = |node: &Node| if node.role == Role::Watchdog { Role::Watchdog } else { Role::Secondary };
    let off: Vec<HostId> =
        (0..storm.cluster.nodes.len()).map(HostId).filter(|host| !storm.voters.contains(host)).collect();
    world.recover(&storm.cluster.nodes.iter().map(ready).collect::<Vec<_>>(), &off);
    let since = world.now();
    let steady = beat * STEADY;
    let lives = world.until_or(beat * LIVE_WITHIN + LIVE_MORE + steady, |world| world.has_run_for(steady)).is_some();
    let exclusion = &world.kernel.exclusion;
    let mut broken: Vec<String> =
        exclusion.violations.iter().map(|(when, what)| format!("at {:.6}: {what}", when.as_secs_f64())).collect();
    broken.extend(exclusion.overlaps.iter().map(|(from, to)| {
        let to = to.map_or("the end".to_string(), |to| format!("{:.6}", to.as_secs_f64()));
        format!("at {:.6}: the resource runs on two hosts until {to}", from.as_secs_f64())
    }));
    if !lives {
        broken.push(format!("since {:.6}: no node runs the resource for good", since.as_secs_f64()));
    }
    let outcome = Outcome {
        broken,
        overlaps: exclusion.overlaps.len(),
        longest_overlap: exclusion.longest_overlap(world.now()),
        recovered_in: exclusion.since().saturating_sub(since).as_secs_f64() / beat.as_secs_f64(),
        simulated: world.now(),
        faults: world.faults.clone(),
    };
    (world, outcome)
}
