//! A deterministic simulator: whole clusters on one virtual clock.
//!
//! Each node has a real [`Daemon`](hastmon_core::daemon::Daemon) and its real [`Worker`](hastmon_core::worker::Worker)s; around them are
//! a network that behaves like TCP, scripts that take their time and fail, and faults. Everything that is left to chance comes from one
//! seed, so that a run can be replayed.
//!
//! - [`cluster`]: a configuration, and from it a [`world::World`];
//! - [`world`]: the loop, and what faults do to processes; [`faults`]: what can go wrong, and random plans of it;
//! - [`daemon_process`], [`beginner`], [`worker_process`]: the shells around the state machines, as in the program;
//! - [`kernel`], [`network`], [`scripts`], [`host`]: what is around the processes;
//! - [`campaign`]: many random runs;
//! - [`exclusion`]: where the resource runs, and whether ever twice;
//! - [`agenda`], [`rng`], [`trace`]: time, chance and memory.

mod agenda;
mod beginner;
mod campaign;
mod cluster;
mod daemon_process;
mod disk;
mod exclusion;
mod faults;
mod host;
mod kernel;
mod network;
mod process;
mod rng;
mod proof;
mod scripts;
mod storm;
mod trace;
mod worker_process;
mod world;

#[cfg(test)]
mod legacy_tests;

fn main() {
    let args: Vec<u64> = std::env::args().skip(1).map(|arg| arg.parse().unwrap()).collect();
    if let [seed] = args[..] {
        let (world, outcome) = proof::one(seed, storm::Weather::Rule, trace::Detail::Story);
        println!("{}", world.kernel.trace.show());
        println!("{:#?}", outcome.broken);
        return;
    }
    let mut simulated = std::time::Duration::ZERO;
    for seed in args[0]..args[1] {
        let (_, outcome) = proof::one(seed, storm::Weather::Rule, trace::Detail::Off);
        simulated += outcome.simulated;
        if !outcome.broken.is_empty() {
            println!("{seed}: {:?}", &outcome.broken[..outcome.broken.len().min(2)]);
        }
    }
    println!("{:.1} h", simulated.as_secs_f64() / 3600.0);
}
