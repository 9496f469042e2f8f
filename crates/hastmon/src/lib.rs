//! The shell around `hastmon-core`: sockets, processes, clocks, and the two loops that carry out what the core decides.

pub mod cli;
pub mod os;
