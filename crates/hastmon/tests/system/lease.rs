//! The lease, with real processes: at most one node runs the resource, whatever fails. Each laboratory proves at its end that it never
//! ran twice at once; tests that ask for more say so.
//!
//! No test fails because a busy machine is slow: bounds from below are the rule's own, bounds from above are those of patience.

mod busy;
mod cuts;
mod failover;
mod faults;
mod fencing;
mod killed;
mod operator;
mod paused;
mod peers;
mod upgrade;
mod votes;

use crate::support::lab::{Lab, Plan};
use crate::support::time::wait_for;

/// With a lease and a budget for `stop` that a machine keeps on which many tests run at once: what is late by more is rightly given up.
fn plan(nodes: &[&str]) -> Plan {
    Plan::new(nodes).lease().set("lease", "5").set("stop_timeout", "5")
}

fn cluster() -> Lab {
    let lab = plan(&["a", "b", "w"]).loopback();
    lab.run_standard();
    lab
}

/// Waits for a line of a node's log that has all these parts.
#[track_caller]
fn wait_line(lab: &Lab, node: &str, parts: &[&str]) {
    wait_for(&format!("{node} logs {parts:?}"), || {
        lab.log_text(node).lines().any(|line| parts.iter().all(|part| line.contains(part)))
    });
}

/// Waits until a line of a node's `status` has a part.
#[track_caller]
fn wait_says(lab: &Lab, node: &str, name: &str, part: &str) {
    wait_for(&format!("{node} says {part:?} of {name}"), || lab.res(node).says(name).contains(part));
}

/// The epoch as a node's `status` has it.
fn epoch(lab: &Lab, node: &str) -> u64 {
    lab.res(node).says("epoch").parse().unwrap_or_else(|_| panic!("{node} has no epoch: {:?}", lab.res(node)))
}
