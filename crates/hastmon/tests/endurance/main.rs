//! Random faults against a live cluster of three nodes, for a minute, or by hand for as long as one likes:
//!
//! `cargo test -p hastmon --test endurance -- [--minutes M] [--seed S]`
//!
//! Faults follow each other while strangers and friends send garbage to every daemon all the time. After each of them the cluster must
//! find its way back: exactly one node runs the resource, seen by all. All the time the resource's record is checked for two at once. At
//! the end every daemon has the descriptors, the memory and the processes that it began with, and when all are told to end, nothing is
//! left. It prints the seed, each fault, their counts and the figures; the seed gives the same faults again, not the same moments.
//!
//! # What is left out, and why
//!
//! The daemons go by the lease (protocol 1): whatever is here must never lead to two at once. What the lease cannot prevent without fencing
//! would say nothing:
//!
//! - the daemon **and** the worker of the primary killed together without the resource: nobody is left who could stop it. Each alone is here,
//!   both together with the resource (power loss) is here, and both together on the secondary and on the watchdog;
//! - a whole host frozen for longer than its lease: when it wakes, the resource runs on for as long as `stop` takes. `system/lease/faults.rs`
//!   has it;
//! - cut links, which need hosts of their own: `system/lease/cuts.rs` has them;
//! - a `stop` that fails as often as it is tried: the resource may still run then, which is said and not prevented. One that hangs or fails
//!   once is here;
//! - two faults on the way of one another (a frozen daemon whose peer is killed meanwhile): a fault is over before the next one begins;
//! - a worker killed while its `start` hangs: the `start` lives on and may come to its end after the resource was started elsewhere. Killed
//!   `start` hooks, and workers killed at any other moment, are here.
//!
//! Faults of the machine (no memory, no descriptors, a full disk, a clock that is set) have their own tests.

#[cfg(test)]
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "endurance uses a part of what the tests use")]
mod support;

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod garbage;
#[cfg(test)]
mod measure;
#[cfg(test)]
mod random;

fn main() {
    #[cfg(test)]
    run::main();
}

#[cfg(test)]
mod run {
    use std::time::Duration;

    use crate::cluster::Cluster;
    use crate::faults::FAULTS;
    use crate::garbage::Garbage;
    use crate::random::Random;
    use crate::support::time::{now_ns, seconds};

    /// How long it takes in CI.
    const STANDARD: Duration = Duration::from_secs(60);

    struct Arguments {
        span: Duration,
        seed: u64,
    }

    /// `None`: the test runner only asks what there is, or for something else.
    fn arguments() -> Option<Arguments> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        if words.iter().any(|word| word == "--list") {
            println!("endurance: test");
            return None;
        }
        let is_filter = |word: &&String| !word.starts_with('-');
        if words.first().filter(is_filter).is_some_and(|filter| !"endurance".contains(filter.as_str())) {
            return None;
        }
        let value = |name: &str| -> Option<f64> {
            let at = words.iter().position(|word| word == name)?;
            Some(words.get(at + 1)?.parse().unwrap_or_else(|_| panic!("{name} needs a number")))
        };
        let span = value("--minutes").map_or(STANDARD, |minutes| Duration::from_secs_f64(minutes * 60.0));
        let seed = words.iter().position(|word| word == "--seed").and_then(|at| words.get(at + 1));
        let seed = seed.map_or_else(|| now_ns() % 1_000_000, |seed| seed.parse().expect("--seed needs a whole number"));
        Some(Arguments { span, seed })
    }

    pub(crate) fn main() {
        let Some(Arguments { span, seed }) = arguments() else { return };
        println!("endurance: {span:?}, seed {seed}");
        let mut cluster = Cluster::start(Random::new(seed));
        let garbage = Garbage::start(cluster.lab(), Random::new(seed ^ 1));
        let start = now_ns();
        // The first of each kind in a random order, then at random.
        let mut due = cluster.random.shuffled(FAULTS.len());
        while u128::from(now_ns() - start) < span.as_nanos() {
            let next = due.pop().unwrap_or_else(|| cluster.random.below(FAULTS.len()));
            let (name, fault) = FAULTS[next];
            cluster.begin(name);
            fault(&mut cluster);
            cluster.settle();
        }
        let sent = garbage.end();
        let took = seconds(now_ns() - start);
        cluster.check_as_at_the_start();
        cluster.check_end();
        println!("\n{took:.0} s, seed {seed}: {} faults, {sent} connections with garbage", cluster.total());
        for (name, count) in cluster.counts() {
            println!("{count:>6}  {name}");
        }
        println!("never two at once, nothing left");
    }
}
