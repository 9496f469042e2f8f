//! A deterministic simulator: whole clusters on one virtual clock.
//!
//! Each node has a real [`Daemon`](hastmon_core::daemon::Daemon) and its real [`Worker`](hastmon_core::worker::Worker)s; around them are
//! a network that behaves like TCP, disks, scripts that take their time and fail, and faults. Everything that is left to chance comes from one
//! seed, so that a run can be replayed.
//!
//! - [`cluster`]: a configuration, and from it a [`world::World`];
//! - [`world`]: the loop, and what faults do to processes; [`faults`]: what can go wrong; [`storm`]: random
//!   plans of it for the lease, `plans` for protocol 0, in tests;
//! - [`daemon_process`], [`beginner`], [`worker_process`]: the shells around the state machines, as in the program;
//! - [`kernel`], [`network`], [`disk`], [`scripts`], [`host`]: what is around the processes;
//! - [`proof`]: many random runs with the lease; `campaign`: the same with protocol 0, in tests;
//! - [`exclusion`]: where the resource runs, and whether ever twice;
//! - [`agenda`], [`rng`], [`trace`]: time, chance and memory.

mod agenda;
mod beginner;
#[cfg(test)]
mod campaign;
mod cluster;
mod daemon_process;
mod disk;
mod exclusion;
mod faults;
mod host;
mod kernel;
mod network;
#[cfg(test)]
mod plans;
mod process;
mod proof;
mod rng;
mod scripts;
mod storm;
mod trace;
mod worker_process;
mod world;

#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod legacy_tests;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZero;
use std::process::ExitCode;
use std::thread::available_parallelism;

use proof::Plan;
use storm::Weather;

const USAGE: &str = "\
usage: hastmon-simulator [--hours N] [--seed S] [--threads N] [--beyond] [--trace]
  --hours N    simulate N cluster hours (10)
  --seed S     the first run has the seed S, the next one S + 1 (a fresh one)
  --threads N  at the same time (one for each processor)
  --beyond     with faults that the lease cannot help: two primaries are counted, and no failure
  --trace      only the run with the seed S, with all that happens
  --mutation R with the rule R switched off: two primaries must be found, and none with it; R+S: both off; R,S: first R, then S;
               all: each in turn (needs --features mutations)";

fn main() -> ExitCode {
    match plan(std::env::args().skip(1)) {
        Ok(plan) => proof::run(&plan),
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            ExitCode::from(64)
        }
    }
}

fn plan(mut args: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan {
        hours: 10.0,
        seed: RandomState::new().hash_one("seed") >> 32,
        threads: available_parallelism().map_or(1, NonZero::get),
        weather: Weather::Rule,
        trace: false,
        mutation: None,
    };
    while let Some(arg) = args.next() {
        let mut number = || -> Result<String, String> { args.next().ok_or(format!("{arg} needs a value")) };
        let wrong = |value: String| format!("{arg} {value}: not a number");
        match arg.as_str() {
            "--hours" => plan.hours = number().and_then(|n| n.parse().map_err(|_| wrong(n)))?,
            "--seed" => plan.seed = number().and_then(|n| n.parse().map_err(|_| wrong(n)))?,
            "--threads" => plan.threads = number().and_then(|n| n.parse().map_err(|_| wrong(n)))?,
            "--mutation" => plan.mutation = Some(number()?),
            "--beyond" => plan.weather = Weather::Beyond,
            "--trace" => plan.trace = true,
            _ => return Err(format!("{arg}: not known")),
        }
    }
    Ok(plan)
}
