//! What dies, and where the resource runs next.

use std::time::Duration;

use rustix::process::Signal;

use super::{cluster, epoch, plan, wait_line, wait_says};
use crate::support::process;
use crate::support::time::{now_ns, pause, seconds, stays, wait_for};

/// More than the 10 s after which a dead primary is replaced.
const LONG_ENOUGH: Duration = Duration::from_secs(12);

#[test]
fn status_tells_of_the_lease_on_every_node() {
    let lab = cluster();
    wait_says(&lab, "a", "lease", "3 of 3 votes");
    let block = lab.res("a");
    assert!(block.says("lease").starts_with("held here until +"), "{block:?}");
    for node in ["b", "w"] {
        wait_says(&lab, node, "lease", "held by node a");
        assert_eq!(epoch(&lab, node), epoch(&lab, "a"));
    }
    wait_says(&lab, "b", "standby", "would take over in about 10.1 s");
    assert!(["a", "b", "w"].iter().all(|node| lab.res(node).says("protection") == "lease"));
    assert_eq!((block.says("waits"), lab.res("b").says("waits")), ("", ""));
}

#[test]
fn a_killed_daemon_has_its_worker_stop_and_give_the_lease_back() {
    let lab = cluster();
    let before = epoch(&lab, "a");
    let start = now_ns();
    lab.kill("a");
    let down = lab.wait_after(start, "a", "down res");
    let up = lab.wait_after(start, "b", "up res");
    assert!(up >= down, "started {:.2} s before it was stopped", seconds(down - up));
    lab.wait_status("b", "primary", "run");
    wait_for("nothing is left on a", || lab.everything("a").is_empty());
    assert!(epoch(&lab, "b") > before);
}

#[test]
fn a_killed_worker_is_replaced_and_the_resource_runs_on() {
    let lab = cluster();
    let (services, before) = (lab.services("a"), epoch(&lab, "a"));
    let worker = lab.worker("a", "hastmon: res (primary)").unwrap();
    process::signal(worker, Signal::KILL);
    wait_for("another worker", || {
        lab.worker("a", "hastmon: res (primary)").is_some_and(|new| new != worker) && epoch(&lab, "a") > before
    });
    lab.wait_status("a", "primary", "run");
    wait_says(&lab, "a", "lease", "held here until +");
    assert_eq!((lab.services("a"), lab.count("a", "stop res"), lab.count("b", "up res")), (services, 0, 0));
}

#[test]
fn daemon_worker_and_service_killed_at_once_are_a_dead_host() {
    let lab = cluster();
    lab.power_off("a");
    lab.wait_status("b", "primary", "run");
    lab.start("a");
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    wait_says(&lab, "a", "lease", "held by node b");
    assert_eq!((lab.running("a"), lab.running("b")), (0, 1));
}

#[test]
fn the_votes_of_a_dead_host_bind_for_their_whole_time() {
    let lab = plan(&["a", "b", "w"]).set("lease", "3").set("stop_timeout", "3").loopback();
    lab.run_standard();
    lab.power_off("a");
    let dead = now_ns();
    let up = lab.wait_after(dead, "b", "up res");
    // Renewed at most a heartbeat before the end; both times are cut off to 10 ms.
    let waited = seconds(up - dead);
    assert!(waited >= 6.06 - 1.0 - 0.05, "started after {waited:.2} s");
}

#[test]
fn a_daemon_that_is_told_to_end_gives_the_lease_back() {
    let lab = plan(&["a", "b", "w"]).set("lease", "40").set("stop_timeout", "40").loopback();
    lab.run_standard();
    assert_eq!(lab.stop("a"), 0);
    // The votes would bind for 80 s, and patience is 60 s.
    lab.wait_status("b", "primary", "run");
    wait_line(&lab, "b", &["taking over: the lease was given back"]);
}

#[test]
fn a_frozen_daemon_does_not_keep_its_worker_from_renewing() {
    let lab = cluster();
    process::freeze(lab.pid("a"));
    stays(LONG_ENOUGH, "it runs on a", || lab.running("a") == 1 && lab.running("b") == 0);
    process::signal(lab.pid("a"), Signal::CONT);
    lab.wait_status("a", "primary", "run");
    assert_eq!((lab.count("a", "stop res"), lab.count("b", "start res")), (0, 0));
}

#[test]
fn a_frozen_worker_is_replaced_before_its_lease_ends() {
    let lab = cluster();
    let services = lab.services("a");
    process::freeze(lab.worker("a", "hastmon: res (primary)").unwrap());
    pause(LONG_ENOUGH);
    lab.assert_never_two();
    wait_for("it runs", || lab.running("a") + lab.running("b") == 1);
    // On a machine that is not too busy it has not moved.
    if lab.running("a") == 1 && lab.count("a", "stop res") == 0 {
        assert_eq!(lab.services("a"), services);
    }
}

#[test]
fn a_primary_goes_on_while_it_has_a_majority() {
    let lab = plan(&["a", "b", "c", "w"]).loopback();
    lab.run_standard();
    lab.power_off("b");
    wait_says(&lab, "a", "lease", "3 of 4 votes");
    stays(LONG_ENOUGH, "it runs on a", || lab.running("a") == 1 && lab.running("c") == 0);
    assert_eq!(lab.count("a", "stop res"), 0);
}

#[test]
fn a_primary_without_a_majority_stops_and_one_that_has_it_again_starts() {
    let lab = cluster();
    lab.power_off("b");
    lab.power_off("w");
    lab.wait_stopped("a");
    lab.wait_status("a", "secondary", "stopped");
    wait_line(&lab, "a", &["no majority has renewed the lease"]);
    wait_says(&lab, "a", "standby", "cannot take over: 1 of 3 votes in reach, needs 2");
    lab.start("w");
    lab.role("w", "watchdog");
    lab.wait_status("a", "primary", "run");
}

#[test]
fn a_resource_that_dies_is_started_again_in_its_place() {
    let lab = cluster();
    let before = epoch(&lab, "a");
    lab.kill_service("a", "res");
    lab.wait_call("a", "up res", 2);
    lab.wait_status("a", "primary", "run");
    assert_eq!((epoch(&lab, "a"), lab.count("b", "start res")), (before, 0));
}

#[test]
fn two_watchdogs_make_no_two_primaries() {
    let lab = plan(&["a", "b", "w", "v"]).loopback();
    lab.run_standard();
    lab.kill("a");
    lab.wait_status("b", "primary", "run");
    lab.start("a");
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    lab.power_off("b");
    lab.wait_status("a", "primary", "run");
}

#[test]
fn of_two_secondaries_one_takes_over() {
    let lab = plan(&["a", "b", "c", "w", "v"]).loopback();
    lab.run_standard();
    lab.power_off("a");
    wait_for("one of them runs it", || lab.running("b") + lab.running("c") == 1);
    stays(LONG_ENOUGH, "one runs it", || lab.running("b") + lab.running("c") == 1);
}

#[test]
fn heartbeats_of_less_than_a_second_are_kept() {
    for heartbeat in ["100ms", "25ms"] {
        // A lease and a budget that hold on a busy machine as well.
        let lab = plan(&["a", "b", "w"])
            .set("heartbeat_interval", heartbeat)
            .set("timeout", "1")
            .set("complaint_interval", "5")
            .set("lease", "2")
            .set("stop_timeout", "2")
            .loopback();
        lab.run_standard();
        wait_says(&lab, "b", "standby", "would take over in about 4.0 s");
        lab.power_off("a");
        lab.wait_status("b", "primary", "run");
        lab.start("a");
        lab.role("a", "secondary");
        lab.wait_status("a", "secondary", "stopped");
        let start = now_ns();
        lab.kill("b");
        lab.wait_after(start, "b", "down res");
        lab.wait_status("a", "primary", "run");
    }
}
