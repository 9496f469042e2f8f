//! What operators ask for: switchover, failback, force.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::{cluster, epoch, plan, wait_line, wait_says};
use crate::support::lab::{Lab, Output, hastmonctl};
use crate::support::time::{now_ns, pause, stays, wait_for, wait_some};

fn switchover(lab: &Lab, node: &str, arguments: &[&str]) -> Output {
    lab.ctl(node, &[&["switchover"], arguments].concat())
}

/// Calls it until it is not refused because the node that gives the resource up has not heard yet that the other is ready.
fn switch_when_ready(lab: &Lab, node: &str, to: &str) -> Output {
    wait_some(&format!("{to} is ready"), || {
        let output = switchover(lab, node, &["res", to]);
        let is_early = output.stderr.contains("is unknown on") || output.stderr.contains("is not connected");
        (!is_early).then_some(output)
    })
}

#[track_caller]
fn refused(lab: &Lab, node: &str, arguments: &[&str], why: &str) {
    let output = switchover(lab, node, arguments);
    let text = output.stdout.clone() + &output.stderr;
    assert!(output.code == 1 && text.contains(why), "{arguments:?} on {node}: {output:?}");
}

#[test]
fn a_switchover_moves_the_resource_and_tells_each_step() {
    let lab = cluster();
    let before = epoch(&lab, "a");
    let start = now_ns();
    let output = switch_when_ready(&lab, "a", "b");
    assert_eq!(output.code, 0, "{output:?}");
    for step in ["stopped here", "lease given back for b", "b holds the lease", "runs on b"] {
        assert!(output.stdout.contains(step), "{step}: {output:?}");
    }
    assert!(lab.wait_after(start, "a", "down res") <= lab.wait_after(start, "b", "up res"));
    lab.wait_status("b", "primary", "run");
    lab.wait_status("a", "secondary", "stopped");
    assert!(epoch(&lab, "b") > before);
    // And back, to the best node.
    wait_for("a is ready", || switchover(&lab, "b", &["res"]).code == 0);
    lab.wait_status("a", "primary", "run");
}

#[test]
fn a_switchover_to_a_node_that_is_not_ready_is_refused_and_stops_nothing() {
    let lab = plan(&["a", "b", "c", "w"]).loopback();
    lab.start_all();
    for (node, role) in [("b", "secondary"), ("w", "watchdog"), ("a", "primary")] {
        lab.role(node, role);
    }
    lab.wait_status("a", "primary", "run");
    lab.wait_status("b", "secondary", "stopped");
    wait_says(&lab, "a", "lease", "4 of 4 votes");
    refused(&lab, "b", &["res"], "this node is secondary and not primary: ask a, which holds the lease");
    refused(&lab, "w", &["res"], "this node is watchdog and not primary");
    refused(&lab, "a", &["res", "c"], "c is init and not secondary");
    refused(&lab, "a", &["res", "w"], "w is watchdog and not secondary");
    refused(&lab, "a", &["res", "nobody"], "nobody");
    refused(&lab, "a", &["res", "a"], "a");
    lab.power_off("b");
    wait_for("a knows that b is gone", || switchover(&lab, "a", &["res", "b"]).stderr.contains("b is not connected"));
    refused(&lab, "a", &["res"], "no secondary is connected");
    assert_ne!(switchover(&lab, "a", &["nosuch"]).code, 0);
    assert_eq!((lab.count("a", "stop res"), lab.running("a")), (0, 1));
}

#[test]
fn when_the_start_on_the_other_node_fails_the_resource_comes_back() {
    let lab = plan(&["a", "b", "w"]).set("attempts", "2").loopback();
    lab.before("b", "start", "exit 1");
    lab.run_standard();
    let output = switch_when_ready(&lab, "a", "b");
    assert_eq!(output.code, 1, "{output:?}");
    let text = output.stdout + &output.stderr;
    assert!(text.contains("b could not start it") && text.contains("runs here again"), "{text}");
    lab.wait_status("a", "primary", "run");
    assert_eq!((lab.count("a", "start res"), lab.running("b")), (2, 0));
}

#[test]
fn during_a_switchover_another_one_is_refused() {
    let lab = plan(&["a", "b", "w"]).set("lease", "10").set("stop_timeout", "10").loopback();
    lab.before("a", "stop", "sleep 3");
    lab.run_standard();
    lab.wait_status("b", "secondary", "stopped");
    wait_says(&lab, "a", "lease", "3 of 3 votes");
    pause(Duration::from_secs(2));
    let mut first = Command::new(hastmonctl());
    first.args(["switchover", "-n", "a", "-c"]).arg(lab.config()).args(["res", "b"]);
    let mut first = first.stdout(Stdio::null()).spawn().unwrap();
    lab.wait_call("a", "stop res", 1);
    refused(&lab, "a", &["res"], "another switchover is under way");
    assert!(first.wait().unwrap().success());
    lab.wait_status("b", "primary", "run");
}

#[test]
fn a_better_node_that_is_told_to_be_primary_gets_the_resource_back() {
    // Longer than patience: it need not wait until votes are free by themselves.
    let lab = plan(&["a", "b", "w"]).set("lease", "40").set("stop_timeout", "40").loopback();
    lab.run_standard();
    lab.kill("a");
    lab.wait_status("b", "primary", "run");
    lab.start("a");
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    lab.wait_status("b", "secondary", "stopped");
    wait_line(&lab, "b", &["handing over to a"]);
}

#[test]
fn a_worse_node_that_is_told_to_be_primary_waits_and_changes_nothing() {
    let lab = cluster();
    let services = lab.services("a");
    lab.role("b", "primary");
    wait_for("b has noticed, or waits", || lab.res("b").role == "secondary" || !lab.res("b").says("waits").is_empty());
    stays(Duration::from_secs(5), "it runs on a", || lab.services("a") == services && lab.running("b") == 0);
    assert_eq!(lab.count("b", "start res"), 0);
}

#[test]
fn a_primary_says_what_it_waits_for() {
    let lab = plan(&["a", "b", "w"]).loopback();
    lab.start("a");
    lab.role("a", "primary");
    wait_says(&lab, "a", "waits", "waiting for votes: 1 of 3 nodes in reach, needs 2");
    wait_line(&lab, "a", &["not started yet: waiting for votes: 1 of 3"]);
    assert_eq!((lab.running("a"), lab.count("a", "start res")), (0, 0));
    // Its role alone makes no difference: a node in init votes.
    lab.start("b");
    lab.wait_status("a", "primary", "run");
    assert_eq!(lab.res("b").role, "init");
    assert_eq!(lab.res("a").says("waits"), "");
}

#[test]
fn force_starts_without_a_majority_and_only_with_the_word_of_an_operator() {
    let lab = cluster();
    for node in ["a", "w"] {
        lab.power_off(node);
    }
    lab.wait_status("b", "secondary", "stopped");
    lab.role("b", "primary");
    wait_says(&lab, "b", "waits", "1 of 3 nodes in reach, needs 2");
    // Nobody is there to ask.
    let output = lab.ctl("b", &["role", "--force", "primary", "res"]);
    assert!(output.code != 0 && output.stderr.contains("--yes"), "{output:?}");
    assert_eq!(lab.count("b", "start res"), 0);
    let output = lab.ctl("b", &["role", "--force", "--yes", "primary", "res"]);
    assert_eq!(output.code, 0, "{output:?}");
    lab.wait_status("b", "primary", "run");
    wait_line(&lab, "b", &["[WARNING]", "FORCED"]);
    wait_says(&lab, "b", "lease", "FORCED by an operator");
    stays(Duration::from_secs(5), "it runs on b", || lab.running("b") == 1);
    // When the others are back it has a lease as anybody else.
    lab.start("a");
    lab.start("w");
    wait_says(&lab, "b", "lease", "held here until +");
    assert_eq!((lab.running("a"), lab.running("b"), lab.count("b", "stop res")), (0, 1, 0));
}
