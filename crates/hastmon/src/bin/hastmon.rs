//! The daemon: the main one, or (by its title) one of its workers.

use std::process::ExitCode;

use hastmon::{cli, daemon, worker};

fn main() -> ExitCode {
    if worker::is_worker() {
        return worker::main();
    }
    match cli::parse_daemon(std::env::args_os()) {
        Ok(args) => daemon::main(&args),
        Err(exit) => exit.report(),
    }
}
