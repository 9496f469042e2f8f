//! What hastmon decides. Nothing here opens a socket, reads a clock, starts a process or a thread: `no_std` keeps it so.
//! The daemon, the simulator and the tests drive the same state machines: an input with the time goes in, actions come out.
#![no_std]

extern crate alloc;

pub mod config;
pub mod time;
pub mod types;
pub mod wire;
