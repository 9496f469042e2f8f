//! The shell around `hastmon-core`: sockets, processes, clocks, and the two loops that carry out what the core decides.
//!
//! [`daemon`] is the main daemon's loop and [`worker`] that of a worker; both are one `select!` and one `match` over actions.
//! [`control`] is hastmonctl.

mod check;
pub mod cli;
mod config_file;
pub mod control;
pub mod daemon;
mod drill;
mod exec;
mod file_name;
mod history;
mod ipc;
mod net;
pub mod os;
mod resolver;
mod session;
mod store;
mod view;
mod watch;
pub mod worker;

use hastmon_core::event::{Event, Level};

/// Puts an event into the log; of a resource, or of the daemon as a whole.
fn log_event(resource: Option<&str>, event: &Event) {
    let level = match event.level() {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warning => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    match resource {
        Some(resource) => log::log!(target: resource, level, "{event}"),
        None => log::log!(level, "{event}"),
    }
}
