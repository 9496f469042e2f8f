//! Whole clusters on a virtual clock: what an administrator relies on, with exact times, and random faults.
//!
//! `HASTMON_SEED=7 cargo test -p hastmon-simulator crash -- --nocapture` shows one random run;
//! `HASTMON_SIM_HOURS=100` makes the random tests simulate that many hours each (add `--release`).

use std::time::Duration;

use crate::campaign;
use crate::cluster::{Cluster, Node};
use crate::faults::{Fault, Whom};
use crate::host::HostId;
use crate::plans::Kind;
use crate::scripts::{Behaviour, Mood};
use crate::trace::Detail;
use crate::world::World;
use hastmon_core::types::Role;

const A: HostId = HostId(0);
const B: HostId = HostId(1);
const W: HostId = HostId(2);
const C: HostId = HostId(3);
/// No test waits longer for anything.
const LONG: Duration = s(120);

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Three nodes; the resource has run on `a` for between 5 and 6 s.
fn three(seed: u64) -> World {
    running(&Cluster::three(), seed)
}

/// `a` was a secondary before, and is told to be primary.
fn running(cluster: &Cluster, seed: u64) -> World {
    let mut cluster = cluster.clone();
    cluster.nodes[0].role = Role::Secondary;
    let mut world = cluster.build(seed, Detail::Story);
    world.at(ms(200), Fault::Operator(A, Role::Primary));
    world.until(s(4), "it runs on a", |world| world.runs_on(A));
    let anywhere = world.kernel.rng.between((s(5), s(6)));
    world.run_for(anywhere);
    assert!(world.runs_on(A) && world.role(A) == Some(Role::Primary));
    world
}

fn four(seed: u64) -> World {
    let mut nodes = Cluster::three().nodes;
    nodes.push(Node::new("c", Role::Secondary));
    running(&Cluster::new(&nodes), seed)
}

/// Never in this test did it run on two hosts.
fn never_twice(world: &World) {
    assert_eq!(world.kernel.exclusion.overlaps, [], "it ran on two hosts at once");
}

/// The same with many seeds: prints and returns the median and the worst.
fn measure(what: &str, seeds: u64, once: impl Fn(u64) -> Duration) -> (Duration, Duration) {
    let mut took: Vec<Duration> = (0..seeds).map(once).collect();
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!("{what}: median {median:.3?}, worst {worst:.3?} of {seeds}");
    (median, worst)
}

/// The settings promise a takeover within five heartbeats; scripts and messages come on top. On `a` and `b` a script takes at most 20 ms, a
/// message 2 ms: the complaint, two more notices, the role, a check and the start itself.
const TAKEOVER: Duration = s(5);
const AROUND: Duration = ms(100);

mod takeover {
    use super::*;

    #[test]
    fn power_loss_of_the_primary_is_made_good_within_five_heartbeats() {
        let (_, worst) = measure("power loss -> runs on the secondary", 100, |seed| {
            let mut world = three(seed);
            world.apply(Fault::PowerLoss(A));
            let took = world.until(LONG, "it runs on b", |world| world.runs_on(B));
            never_twice(&world);
            took
        });
        assert!(worst <= TAKEOVER + AROUND, "{worst:?}");
    }

    #[test]
    fn a_frozen_primary_is_made_good_within_five_heartbeats_and_stops_when_it_thaws() {
        for (freeze, thaw) in [(Fault::Freeze(A, Whom::All), Fault::Thaw(A)), (Fault::Pause(A), Fault::Resume(A))] {
            let (mut stops, stops_worst) = (Vec::new(), ms(60));
            let (_, worst) = measure("freeze -> runs on the secondary", 30, |seed| {
                let mut world = three(seed);
                world.apply(freeze.clone());
                let took = world.until(LONG, "it runs on b", |world| world.runs_on(B));
                world.run_for(s(7));
                world.apply(thaw.clone());
                let stopped = world.until(s(1), "it is stopped on a", |world| !world.runs_on(A));
                assert!(stopped <= stops_worst, "{stopped:?}");
                took
            });
            stops.push(worst);
            assert!(worst <= TAKEOVER + AROUND, "{worst:?}");
        }
    }

    #[test]
    fn nothing_is_taken_over_from_a_primary_that_is_slow_to_start() {
        let mut cluster = Cluster::three();
        cluster.mood.start_takes = (s(8), s(9));
        let mut world = cluster.build(1, Detail::Story);
        world.until(s(12), "it runs on a", |world| world.runs_on(A));
        world.run_for(s(20));
        assert_eq!((world.role(A), world.role(B)), (Some(Role::Primary), Some(Role::Secondary)));
        never_twice(&world);
    }

    #[test]
    fn a_watchdog_that_is_restarted_or_frozen_causes_no_takeover() {
        let mut world = three(2);
        for round in 0..10 {
            let (out, back) = match round % 3 {
                0 => (Fault::KillDaemon(W), Fault::StartDaemon(W)),
                1 => (Fault::Freeze(W, Whom::All), Fault::Thaw(W)),
                _ => (Fault::PowerLoss(W), Fault::Boot(W)),
            };
            world.apply(out);
            world.run_for(ms(700 * (round + 1)));
            world.apply(back);
            world.run_for(ms(2_300));
        }
        assert_eq!((world.role(A), world.role(B)), (Some(Role::Primary), Some(Role::Secondary)));
        assert_eq!(world.kernel.exclusion.changes.len(), 1, "it ran all the time");
    }

    #[test]
    fn two_broken_nodes_do_not_play_ball() {
        let mut world = three(3);
        let broken = Mood { start: Behaviour::Fails(1), ..Mood::good() };
        for host in [A, B] {
            world.apply(Fault::SetMood(host, Box::new(broken.clone())));
        }
        world.apply(Fault::ResourceDies(A));
        let mut takeovers = 0;
        let mut primary = Some(A);
        for _ in 0..300 {
            world.run_for(s(1));
            let now = [A, B].into_iter().find(|host| world.role(*host) == Some(Role::Primary));
            takeovers += usize::from(now.is_some() && now != primary);
            primary = now;
        }
        // Each node tries, then holds off for complaint_interval, 60 s: in 300 s at most five times each.
        assert!((3..=11).contains(&takeovers), "{takeovers} takeovers");
        world.apply(Fault::SetMood(B, Box::new(Mood::good())));
        world.until(s(130), "it runs on b", |world| world.runs_on(B));
    }

    #[test]
    fn a_primary_whose_starts_fail_leaves_it_to_the_other_node() {
        let mut world = three(4);
        world.apply(Fault::SetMood(A, Box::new(Mood { start: Behaviour::Fails(1), ..Mood::good() })));
        world.apply(Fault::ResourceDies(A));
        // Five attempts in five heartbeats, then four complaints at least.
        world.until(s(12), "it runs on b", |world| world.runs_on(B));
        never_twice(&world);
    }
}

mod stopping {
    use super::*;

    #[test]
    fn without_its_main_daemon_the_resource_is_stopped_at_once() {
        let (_, worst) = measure("kill of the main daemon -> stopped there", 100, |seed| {
            let mut world = three(seed);
            world.apply(Fault::KillDaemon(A));
            let took = world.until(s(1), "it is stopped on a", |world| !world.runs_on(A));
            world.until(s(6), "it runs on b", |world| world.runs_on(B));
            never_twice(&world);
            took
        });
        // A hook that is ended for it takes up to 10 ms, stop up to 20 ms.
        assert!(worst <= ms(35), "{worst:?}");
    }

    #[test]
    fn a_daemon_that_is_told_to_stop_stops_the_resource_and_is_gone() {
        let mut world = three(5);
        world.apply(Fault::StopDaemon(A));
        world.until(ms(100), "it is gone", |world| !world.runs_on(A) && world.daemon(A).is_none());
        world.until(s(6), "it runs on b", |world| world.runs_on(B));
        never_twice(&world);
    }

    #[test]
    fn an_isolated_primary_gives_up_after_three_heartbeats() {
        let (_, worst) = measure("isolation -> stopped there", 100, |seed| {
            let mut world = three(seed);
            for other in [B, W] {
                world.apply(Fault::Cut(A, other));
                world.apply(Fault::Cut(other, A));
            }
            let stopped = world.until(s(4), "it is stopped on a", |world| !world.runs_on(A));
            world.until(s(6), "it runs on b", |world| world.runs_on(B));
            never_twice(&world);
            stopped
        });
        assert!(worst <= s(3) + ms(40), "{worst:?}");
    }

    #[test]
    fn a_stop_that_takes_longer_than_a_takeover_keeps_the_others_waiting() {
        for (seed, fault) in [
            Fault::KillDaemon(A),
            Fault::StopDaemon(A),
            Fault::Operator(A, Role::Secondary),
            Fault::Operator(A, Role::Init),
        ]
        .into_iter()
        .enumerate()
        {
            let mut cluster = Cluster::three();
            cluster.stop_timeout = s(30);
            cluster.mood.stop_takes = (s(19), s(20));
            let mut world = running(&cluster, u64::try_from(seed).unwrap());
            world.apply(fault);
            world.until(s(21), "it is stopped on a", |world| !world.runs_on(A));
            world.until(s(25), "the hook has ended and it runs on b", |world| world.runs_on(B));
            never_twice(&world);
        }
    }

    #[test]
    fn a_new_primary_waits_for_the_old_one_that_is_slow_to_stop() {
        for seed in 0..20 {
            let mut cluster = Cluster::three();
            cluster.mood.stop_takes = (ms(500), ms(4_900));
            // Of two equals the one yields that is called first.
            cluster.nodes[1].priority = 50;
            let mut world = running(&cluster, seed);
            world.apply(Fault::Operator(B, Role::Primary));
            world.until(s(10), "it runs on b", |world| world.runs_on(B));
            world.run_for(s(10));
            never_twice(&world);
            assert!(world.runs_on(B) && world.role(A) == Some(Role::Secondary));
        }
    }
}

mod primary {
    use super::*;

    #[test]
    fn a_resource_that_dies_runs_again_within_a_heartbeat() {
        let (_, worst) = measure("resource dies -> runs again on the same node", 100, |seed| {
            let mut world = three(seed);
            world.apply(Fault::ResourceDies(A));
            world.until(s(2), "it runs on a", |world| world.runs_on(A))
        });
        assert!(worst <= s(1) + ms(40), "{worst:?}");
    }

    #[test]
    fn a_cluster_of_two_nodes_starts() {
        let nodes = [Node::new("a", Role::Primary), Node::new("b", Role::Secondary)];
        measure("two nodes switched on -> runs", 50, |seed| {
            let mut world = Cluster::new(&nodes).build(seed, Detail::Story);
            let took = world.until(s(2), "it runs on a", |world| world.runs_on(A));
            world.run_for(s(60));
            assert!(world.runs_on(A));
            never_twice(&world);
            took
        });
    }

    #[test]
    fn a_cluster_of_two_nodes_starts_when_the_other_one_is_dead() {
        let nodes = [Node::new("a", Role::Primary), Node::new("b", Role::Secondary), Node::new("w", Role::Watchdog)];
        let mut world = Cluster::new(&nodes).build(1, Detail::Story);
        world.at(ms(150), Fault::PowerLoss(B));
        world.until(s(5), "it runs on a", |world| world.runs_on(A));
        world.run_for(s(30));
        assert!(world.runs_on(A), "the watchdog's polls are contact enough");
    }

    #[test]
    fn of_two_primaries_the_one_with_the_lower_number_stays() {
        for (ours, theirs) in [(7, 5), (5, 7)] {
            for seed in 0..10 {
                let mut cluster = Cluster::three();
                (cluster.nodes[0].priority, cluster.nodes[1].priority) = (ours, theirs);
                let mut world = running(&cluster, seed);
                world.apply(Fault::Operator(B, Role::Primary));
                let stays = if theirs <= ours { B } else { A };
                world.run_for(s(5));
                assert!(world.runs_on(stays), "{ours} meets {theirs}");
                let other = if stays == A { B } else { A };
                assert_eq!((world.role(stays), world.role(other)), (Some(Role::Primary), Some(Role::Secondary)));
                never_twice(&world);
            }
        }
    }

    #[test]
    fn a_worker_that_is_killed_costs_the_resource_nothing() {
        for seed in 0..10 {
            let mut world = three(seed);
            for _ in 0..5 {
                world.apply(Fault::KillWorker(A));
                world.run_for(s(3));
            }
            assert_eq!(world.kernel.exclusion.changes.len(), 1, "it ran all the time");
            assert_eq!(world.role(A), Some(Role::Primary));
        }
    }

    #[test]
    fn a_worker_of_the_secondary_that_is_killed_again_and_again_causes_no_takeover() {
        let mut world = three(6);
        for _ in 0..20 {
            world.apply(Fault::KillWorker(B));
            world.run_for(ms(1_300));
        }
        assert_eq!(world.kernel.exclusion.changes.len(), 1);
        assert_eq!(world.role(B), Some(Role::Secondary));
    }

    #[test]
    fn a_new_exec_restarts_it_on_the_same_node_and_back() {
        let mut world = three(7);
        for _ in 0..2 {
            world.apply(Fault::Reload(A));
            world.run_for(s(3));
            assert!(world.runs_on(A));
        }
        assert_eq!(world.kernel.exclusion.changes.len(), 5, "started, stopped and started, stopped and started");
        assert_eq!(world.role(B), Some(Role::Secondary));
    }

    #[test]
    fn a_connection_that_hangs_for_less_than_the_limits_is_forgiven() {
        let mut world = three(8);
        for _ in 0..5 {
            for (from, to) in [(A, B), (B, A), (A, W), (W, A)] {
                world.apply(Fault::Cut(from, to));
            }
            world.run_for(ms(900));
            for (from, to) in [(A, B), (B, A), (A, W), (W, A)] {
                world.apply(Fault::Heal(from, to));
            }
            world.run_for(s(5));
        }
        assert_eq!(world.kernel.exclusion.changes.len(), 1, "it ran all the time");
    }
}

/// What protocol 0 cannot promise: measured here, so that the lease shows what it is worth.
mod not_promised {
    use super::*;

    fn overlaps(what: &str, seeds: u64, run: impl Fn(u64) -> World) {
        let worlds = (0..seeds).map(run);
        let longest: Vec<_> = worlds.map(|world| world.kernel.exclusion.longest_overlap(world.now())).collect();
        let twice = longest.iter().filter(|longest| !longest.is_zero()).count();
        println!(
            "{what}: on two hosts at once in {twice} of {seeds} runs, for at most {:.1?}",
            longest.iter().max().unwrap()
        );
    }

    #[test]
    fn a_primary_that_reaches_one_of_two_secondaries_goes_on_while_the_other_takes_over() {
        overlaps("primary keeps one of two secondaries, 60 s", 10, |seed| {
            let mut world = four(seed);
            for other in [C, W] {
                world.apply(Fault::Cut(A, other));
                world.apply(Fault::Cut(other, A));
            }
            world.run_for(s(60));
            world
        });
    }

    #[test]
    fn an_isolated_primary_with_a_slow_stop_runs_on_while_the_other_takes_over() {
        overlaps("isolated primary, stop takes 4 s", 10, |seed| {
            let mut cluster = Cluster::three();
            cluster.mood.stop_takes = (s(4), s(4));
            let mut world = running(&cluster, seed);
            for other in [B, W] {
                world.apply(Fault::Cut(A, other));
                world.apply(Fault::Cut(other, A));
            }
            world.run_for(s(20));
            world
        });
    }

    #[test]
    fn two_watchdogs_complain_twice_as_fast_as_a_primary_gives_up() {
        overlaps("isolated primary, two watchdogs", 10, |seed| {
            let mut nodes = Cluster::three().nodes;
            nodes.push(Node::new("v", Role::Watchdog));
            let mut world = running(&Cluster::new(&nodes), seed);
            for other in [B, W, HostId(3)] {
                world.apply(Fault::Cut(A, other));
                world.apply(Fault::Cut(other, A));
            }
            world.run_for(s(20));
            world
        });
    }
}

mod random {
    use super::*;

    /// Simulated hours of each test, unless `HASTMON_SIM_HOURS` says otherwise: a debug build does one in about 2 s.
    const HOURS: f64 = 1.0;

    #[test]
    fn without_faults_it_never_runs_twice() {
        campaign::run(Kind::Calm, HOURS, |outcome| assert_eq!(outcome.overlaps, 0, "it ran on two hosts at once"))
            .print("slow and failing scripts, an operator at work");
    }

    #[test]
    fn whatever_crashes_it_never_runs_twice() {
        campaign::run(Kind::Crashes, HOURS, |outcome| assert_eq!(outcome.overlaps, 0, "it ran on two hosts at once"))
            .print("and crashes of processes and hosts");
    }

    #[test]
    fn whatever_goes_wrong_one_node_runs_it_when_that_is_over() {
        campaign::run(Kind::All, HOURS, |_| ()).print("and cuts, freezes, stops that fail");
    }

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        for seed in 0..3 {
            let (first, _) = campaign::one(seed, Kind::All, Detail::All);
            let (second, _) = campaign::one(seed, Kind::All, Detail::All);
            assert!(first.kernel.trace.lines().len() > 1_000);
            assert!(first.kernel.trace.lines() == second.kernel.trace.lines(), "seed {seed}");
        }
    }
}
