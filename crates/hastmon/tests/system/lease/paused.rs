//! Paused resources: daemons come and go under a running service, and nobody else starts it.

use std::time::Duration;

use super::{cluster, plan, wait_says};
use crate::support::lab::Lab;
use crate::support::time::{pause, stays, wait_for};

/// Longer than (lease 5 s + stop_timeout 5 s) x 1.01: votes that are not kept would be free.
const VOTES_FREE: Duration = Duration::from_secs(12);

/// The resource runs on `a`, and is paused.
fn paused() -> Lab {
    pause_it(cluster())
}

fn pause_it(lab: Lab) -> Lab {
    wait_says(&lab, "a", "lease", "3 of 3 votes");
    // On any node.
    let output = lab.ctl("w", &["pause", "res"]);
    assert_eq!(output.code, 0, "{output:?}");
    let text = "hastmon on its primary a may be stopped: 3 of 3 votes are kept";
    assert!(output.stdout.contains(text) && output.stdout.contains("on a b w"), "{output:?}");
    assert!(lab.res("a").says("paused").contains("kept by 3 of 3 votes"), "{:?}", lab.res("a"));
    lab
}

fn starts_and_stops(lab: &Lab) -> usize {
    lab.nodes().map(|node| lab.count(node, "start res") + lab.count(node, "stop res")).sum()
}

fn resume(lab: &Lab, node: &str) {
    let output = lab.ctl(node, &["resume", "res"]);
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn each_daemon_is_stopped_and_started_again_under_a_running_resource() {
    let lab = paused();
    let before = starts_and_stops(&lab);
    for node in ["b", "w", "a"] {
        assert_eq!(lab.stop(node), 0);
        if node == "a" {
            pause(VOTES_FREE);
            wait_says(&lab, "b", "lease", "held by node a");
        }
        assert_eq!(lab.running("a"), 1);
        lab.start(node);
    }
    lab.wait_status("a", "primary", "run");
    wait_says(&lab, "a", "paused", "kept by 3 of 3 votes");
    lab.wait_status("b", "secondary", "stopped");
    resume(&lab, "b");
    wait_says(&lab, "a", "lease", "held here until");
    pause(VOTES_FREE);
    lab.wait_status("a", "primary", "run");
    assert_eq!((starts_and_stops(&lab), lab.running("a")), (before, 1));
    // And all is as ever.
    lab.kill("a");
    lab.wait_status("b", "primary", "run");
}

#[test]
fn a_daemon_that_is_killed_leaves_a_paused_resource_running() {
    let lab = paused();
    let before = starts_and_stops(&lab);
    lab.kill("a");
    wait_for("its worker ends", || lab.workers("a").is_empty());
    pause(VOTES_FREE);
    assert_eq!(lab.running("a"), 1);
    lab.start("a");
    lab.wait_status("a", "primary", "run");
    resume(&lab, "a");
    pause(Duration::from_secs(2));
    assert_eq!((starts_and_stops(&lab), lab.running("a")), (before, 1));
}

#[test]
fn when_the_pause_ends_while_its_primary_is_away_nobody_starts_it_until_that_is_back() {
    let lab = paused();
    let before = starts_and_stops(&lab);
    assert_eq!(lab.stop("a"), 0);
    resume(&lab, "b");
    pause(VOTES_FREE);
    assert_eq!((starts_and_stops(&lab), lab.running("a"), lab.running("b")), (before, 1, 0));
    assert!(lab.res("b").says("lease").contains("its vote here is kept"), "{:?}", lab.res("b"));
    lab.start("a");
    lab.wait_status("a", "primary", "run");
    wait_says(&lab, "a", "lease", "held here until");
    assert_eq!((starts_and_stops(&lab), lab.running("a")), (before, 1));
}

#[test]
fn a_paused_primary_that_is_cut_off_goes_on_and_nobody_else_starts_even_after_the_pause() {
    let Some(lab) = plan(&["a", "b", "w"]).hosts() else { return };
    lab.run_standard();
    let lab = pause_it(lab);
    let before = starts_and_stops(&lab);
    lab.hosts().isolate("a");
    stays(VOTES_FREE, "it runs on a alone", || lab.running("a") == 1 && lab.running("b") == 0);
    resume(&lab, "b");
    stays(VOTES_FREE, "it still does", || lab.running("a") == 1 && lab.running("b") == 0);
    lab.hosts().heal();
    wait_says(&lab, "a", "lease", "held here until");
    assert_eq!((starts_and_stops(&lab), lab.res("a").says("paused")), (before, ""));
}

#[test]
fn what_an_operator_wants_of_a_paused_resource_is_refused_and_the_pause_named() {
    let lab = paused();
    for arguments in [&["role", "secondary", "res"][..], &["role", "--force", "--yes", "primary", "res"]] {
        let output = lab.ctl("a", arguments);
        assert!(output.code == 1 && output.stderr.contains("hastmonctl resume res first"), "{output:?}");
    }
    let output = lab.ctl("a", &["switchover", "res"]);
    assert!(output.code == 1 && output.stderr.contains("paused by"), "{output:?}");
    lab.kill_service("a", "res");
    lab.wait_status("a", "primary", "stopped");
    pause(Duration::from_secs(3));
    assert_eq!((lab.count("a", "start res"), lab.running("b")), (1, 0));
    resume(&lab, "w");
    lab.wait_status("a", "primary", "run");
}
