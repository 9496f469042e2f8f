//! Where the resource runs, and where it runs next. Each laboratory proves at its end that it never ran twice at once.

use std::time::Duration;

use crate::support::lab::{Lab, Plan};
use crate::support::process;
use crate::support::time::{now_ns, stays, wait_for};

/// More than the 3 s after which a silent network or three complaints would have changed something.
const LONG_ENOUGH: Duration = Duration::from_secs(6);

fn cluster() -> Lab {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.run_standard();
    lab
}

#[test]
fn the_resource_runs_on_the_primary_and_nowhere_else() {
    let lab = cluster();
    assert_eq!((lab.running("a"), lab.running("b"), lab.running("w")), (1, 0, 0));
    stays(LONG_ENOUGH, "it runs on a alone", || lab.running("a") == 1 && lab.running("b") == 0);
    assert_eq!((lab.count("a", "start res"), lab.count("w", "complain res")), (1, 0));
}

#[test]
fn two_nodes_are_a_cluster() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.run_standard();
    stays(LONG_ENOUGH, "it runs on a", || lab.running("a") == 1);
    assert_eq!(lab.count("a", "start res"), 1);
}

#[test]
fn a_resource_that_dies_is_started_again_in_its_place() {
    let lab = cluster();
    for times in 2..4 {
        lab.kill_service("a", "res");
        lab.wait_call("a", "up res", times);
        lab.wait_status("a", "primary", "run");
    }
    assert_eq!((lab.count("b", "start res"), lab.res("b").role.as_str()), (0, "secondary"));
}

#[test]
fn when_the_primarys_daemon_is_killed_the_resource_is_stopped_and_then_started_elsewhere() {
    let lab = cluster();
    lab.kill("a");
    lab.wait_call("a", "down res", 1);
    wait_for("nothing is left on a", || lab.everything("a").is_empty());
    lab.wait_status("b", "primary", "run");
    assert_eq!(lab.running("b"), 1);
    wait_for("b sees that a is away", || lab.res("b").remotes[0].1.as_deref() == Some("disconnected"));
    wait_for("w sees that b runs it", || {
        let states: Vec<_> = lab.res("w").remotes.into_iter().filter_map(|(_, state)| state).collect();
        states == ["unknown/unknown", "primary/run"] && lab.res("w").state.as_deref() == Some("run")
    });
}

#[test]
fn when_a_node_is_gone_with_all_that_runs_there_the_other_takes_over() {
    let lab = cluster();
    lab.power_off("a");
    lab.wait_status("b", "primary", "run");
    assert!(lab.res("b").complaints > 3, "{:?}", lab.res("b"));
    assert_eq!(lab.count("b", "role res secondary primary"), 1);
}

#[test]
fn a_daemon_that_is_told_to_end_stops_its_resource_first_and_the_other_takes_over() {
    let lab = cluster();
    assert_eq!(lab.stop("a"), 0);
    assert_eq!((lab.running("a"), lab.count("a", "down res")), (0, 1));
    lab.wait_status("b", "primary", "run");
}

#[test]
fn a_node_that_comes_back_finds_its_place() {
    let lab = Plan::new(&["a", "b", "w"]).set("role_on_start", "secondary").loopback();
    lab.start_all();
    lab.role("w", "watchdog");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    lab.power_off("a");
    lab.wait_status("b", "primary", "run");
    lab.start("a");
    lab.wait_status("a", "secondary", "stopped");
    wait_for("b is connected to it", || lab.res("b").remotes[0].1.as_deref() == Some("connected"));
    assert_eq!((lab.running("a"), lab.running("b")), (0, 1));
}

#[test]
fn a_primary_that_hears_nobody_stops_and_becomes_secondary() {
    let lab = cluster();
    lab.stop("b");
    lab.stop("w");
    lab.wait_stopped("a");
    lab.wait_status("a", "secondary", "stopped");
    lab.wait_call("a", "role res primary secondary", 1);
}

#[test]
fn a_primary_that_is_polled_goes_on_without_its_remote() {
    let lab = cluster();
    lab.stop("b");
    stays(LONG_ENOUGH, "it runs on a", || lab.running("a") == 1 && lab.res("a").role == "primary");
}

#[test]
fn a_primary_with_its_remote_goes_on_without_a_watchdog() {
    let lab = cluster();
    lab.stop("w");
    stays(LONG_ENOUGH, "it runs on a", || lab.running("a") == 1 && lab.res("a").role == "primary");
}

#[test]
fn without_a_watchdog_nobody_takes_over() {
    let lab = cluster();
    lab.stop("w");
    lab.power_off("a");
    stays(LONG_ENOUGH, "b is secondary", || lab.res("b").role == "secondary");
    assert_eq!(lab.count("b", "start res"), 0);
}

#[test]
fn of_two_primaries_the_one_with_the_lower_number_stays() {
    let lab = cluster();
    let service = lab.services("a");
    lab.role("b", "primary");
    lab.wait_call("b", "role res primary secondary", 1);
    lab.wait_status("b", "secondary", "stopped");
    assert_eq!((lab.services("a"), lab.count("b", "up res")), (service, 0));
    assert_eq!(lab.res("a").role, "primary");
}

#[test]
fn the_preferred_node_gets_the_resource_back_when_it_is_told_to() {
    let lab = cluster();
    lab.power_off("a");
    lab.wait_status("b", "primary", "run");
    lab.start("a");
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    let back = now_ns();
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    lab.wait_after(back, "b", "down res");
    lab.wait_status("b", "secondary", "stopped");
    assert_eq!((lab.running("a"), lab.running("b")), (1, 0));
}

#[test]
fn what_runs_on_a_secondary_by_mistake_is_stopped() {
    let lab = cluster();
    lab.may_overlap();
    let mut start = std::process::Command::new(lab.script("b"));
    start.args(["start", "res"]).env(process::MARK, lab.node_dir("b"));
    assert_eq!(crate::support::lab::run(&mut start).code, 0);
    lab.wait_call("b", "down res", 1);
    lab.wait_status("b", "secondary", "stopped");
    lab.wait_status("a", "primary", "run");
}

#[test]
fn one_of_two_secondaries_takes_over_and_never_both() {
    let lab = Plan::new(&["a", "b", "c", "w"]).loopback();
    lab.run_standard();
    lab.role("c", "init");
    lab.power_off("a");
    lab.wait_status("b", "primary", "run");
    lab.role("c", "secondary");
    wait_for("c is connected", || lab.res("c").remotes.iter().any(|(_, state)| state.as_deref() == Some("connected")));
    lab.power_off("b");
    lab.wait_status("c", "primary", "run");
}
