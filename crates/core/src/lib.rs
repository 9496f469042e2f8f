//! What hastmon decides. Nothing here opens a socket, reads a clock, starts a process or a thread: `no_std` keeps it so.
//! The daemon, the simulator and the tests drive the same state machines: an input with the time goes in, actions come out.
#![no_std]

extern crate alloc;

pub mod complaints;
pub mod config;
pub mod consequences;
pub mod daemon;
pub mod event;
mod explain;
pub mod hooks;
mod lateness;
pub mod lease;
mod members;
pub mod orphan;
mod pace;
pub mod pause;
mod peers;
mod primary;
pub mod rate_limit;
mod resources;
mod secondary;
mod status;
pub mod supervisor;
mod switchover;
#[cfg(test)]
mod testing;
pub mod time;
pub mod timing;
mod turns;
pub mod types;
mod watchdog;
pub mod wire;
pub mod worker;
