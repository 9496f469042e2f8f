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

pub(crate) mod agenda;
pub(crate) mod beginner;
pub(crate) mod campaign;
pub(crate) mod cluster;
pub(crate) mod daemon_process;
pub(crate) mod exclusion;
pub(crate) mod faults;
pub(crate) mod host;
pub(crate) mod kernel;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod rng;
pub(crate) mod scripts;
pub(crate) mod trace;
pub(crate) mod worker_process;
pub(crate) mod world;
