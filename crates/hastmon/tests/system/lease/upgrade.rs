//! From protocol 0 to the lease, node by node.

use super::{wait_line, wait_says};
use crate::support::lab::Plan;
use crate::support::time::wait_for;

#[test]
fn a_cluster_goes_over_to_the_lease_node_by_node_with_one_interruption() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.run_standard();
    for (node, role) in [("w", "watchdog"), ("b", "secondary")] {
        assert_eq!(lab.stop(node), 0);
        lab.set_lease(node, true);
        lab.start(node);
        lab.role(node, role);
        wait_for(&format!("{node} is {role} and sees the primary"), || {
            let block = lab.res(node);
            block.role == role && (role != "watchdog" || block.state.as_deref() == Some("run"))
        });
    }
    lab.wait_status("b", "secondary", "stopped");
    // b and w are a majority, and go by the primary that they see.
    wait_says(&lab, "b", "standby", "would take over");
    crate::support::time::stays(std::time::Duration::from_secs(6), "it runs on a", || lab.running("a") == 1);
    assert_eq!(lab.stop("a"), 0);
    lab.wait_status("b", "primary", "run");
    wait_line(&lab, "b", &["holds the lease"]);
    lab.set_lease("a", true);
    lab.start("a");
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    wait_says(&lab, "b", "lease", "3 of 3 votes");
    let changes: Vec<String> = lab
        .events()
        .iter()
        .filter(|event| matches!(event.what.as_str(), "up" | "down"))
        .map(|event| format!("{} {}", event.what, event.node))
        .collect();
    assert_eq!(changes, ["up a", "down a", "up b"]);
}
