//! Tests of whole daemons: real processes, real sockets, a real resource. One program, so that they run side by side:
//! most of them wait most of the time. `cargo test -p hastmon --test system hooks::` runs one theme.

#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod command_line;
#[cfg(test)]
mod drill;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod history;
#[cfg(test)]
mod hooks;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hosts;
#[cfg(test)]
mod known_faults;
#[cfg(test)]
mod lease;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod notify;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod originals;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod realtime;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod scripts;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod turns;
#[cfg(test)]
mod watch;
#[cfg(test)]
mod workers;
