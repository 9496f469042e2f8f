//! The control tool.

use std::process::ExitCode;

use hastmon::{cli, control};

fn main() -> ExitCode {
    match cli::parse_ctl(std::env::args_os()) {
        Ok(args) => control::main(&args),
        Err(exit) => exit.report(),
    }
}
