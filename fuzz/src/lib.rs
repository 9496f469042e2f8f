//! What is done with the bytes of a fuzzer, one function for each target: bytes to what hastmon reads from others, and what must hold then.
//!
//! Each function returns or panics; a panic is a finding. Two programs share this file: the targets beside it, and an ordinary test
//! (`crates/core/tests/corpus.rs`) that does the same with every file of `corpus`.
//! Never reads a file, never decides which bytes are tried.

mod config;
mod daemon;
mod input;
mod lease;
mod wire;
mod worker;

pub use config::config;
pub use daemon::daemon;
pub use wire::{frame, nv, peer, reply, request, session};
pub use worker::worker;

/// Does with the bytes of a fuzzer what it is named after.
pub type Target = fn(&[u8]);

/// All targets, with their names, which are those of their directories in `corpus`.
pub const TARGETS: [(&str, Target); 9] = [
    ("config", config),
    ("nv", nv),
    ("frame", frame),
    ("request", request),
    ("session", session),
    ("reply", reply),
    ("peer", peer),
    ("daemon", daemon),
    ("worker", worker),
];

/// The node that the machines of the targets `daemon` and `worker` run on.
const NODE: &str = "a";

/// What a fuzzer made of a fixed text of ours, which is valid.
fn valid(text: &str) -> hastmon_core::config::Config {
    let node = hastmon_core::config::NodeName::new(NODE).expect("a valid name");
    let outcome = hastmon_core::config::load(text, &node);
    outcome.config.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics))
}
