//! Whole hosts, as network namespaces: power that fails, links that are cut, machines that freeze.
//! They need root, and fail without it unless HASTMON_SKIP_NETNS=1 says that they are to be left out.

use std::time::Duration;

use crate::support::lab::{Lab, Plan};
use crate::support::process;
use crate::support::time::{now_ns, stays, wait_for};

/// More than the 3 s after which a silent network or three complaints would have changed something.
const LONG_ENOUGH: Duration = Duration::from_secs(6);

fn cluster() -> Option<Lab> {
    let lab = Plan::new(&["a", "b", "w"]).hosts()?;
    lab.run_standard();
    Some(lab)
}

#[test]
fn a_node_is_known_by_the_first_part_of_its_hosts_name() {
    let Some(lab) = cluster() else { return };
    for (node, role) in [("a", "primary"), ("b", "secondary"), ("w", "watchdog")] {
        let environment = std::fs::read(format!("/proc/{}/environ", lab.pid(node))).unwrap();
        assert!(String::from_utf8_lossy(&environment).contains(process::MARK));
        assert_eq!(lab.res(node).role, role);
        assert!(!process::title(lab.pid(node)).unwrap().contains(" -n "), "it was not told its name");
    }
}

#[test]
fn when_the_primarys_host_loses_its_power_the_secondary_starts_the_resource() {
    let Some(lab) = cluster() else { return };
    lab.power_off("a");
    lab.wait_status("b", "primary", "run");
    lab.wait_runs("b");
}

#[test]
fn a_primary_that_is_cut_off_stops_before_the_other_starts_and_stays_secondary_when_it_is_back() {
    let Some(lab) = cluster() else { return };
    lab.hosts().isolate("a");
    lab.wait_stopped("a");
    lab.wait_status("b", "primary", "run");
    lab.wait_status("a", "secondary", "stopped");
    lab.hosts().heal();
    wait_for("b is connected to a", || lab.res("b").remotes[0].1.as_deref() == Some("connected"));
    stays(LONG_ENOUGH, "it runs on b", || lab.running("b") == 1 && lab.running("a") == 0);
}

#[test]
fn a_host_that_freezes_is_noticed_by_time() {
    let Some(lab) = cluster() else { return };
    lab.freeze("a");
    lab.wait_status("b", "primary", "run");
}

#[test]
fn while_the_watchdog_sees_the_primary_run_a_cut_between_the_others_changes_nothing() {
    let Some(lab) = cluster() else { return };
    lab.hosts().cut("a", "b");
    wait_for("a has noticed", || lab.res("a").remotes[0].1.as_deref() == Some("disconnected"));
    wait_for("b has noticed", || lab.res("b").remotes[0].1.as_deref() == Some("disconnected"));
    stays(LONG_ENOUGH, "it runs on a", || lab.running("a") == 1 && lab.running("b") == 0);
    assert_eq!(lab.count("b", "complain res"), 0);
    lab.hosts().heal();
    wait_for("connected again", || lab.res("a").remotes[0].1.as_deref() == Some("connected"));
    assert_eq!(lab.count("a", "start res"), 1);
}

#[test]
fn while_the_primary_is_connected_complaints_of_a_watchdog_that_cannot_see_it_change_nothing() {
    let Some(lab) = cluster() else { return };
    lab.hosts().cut("a", "w");
    lab.wait_call("b", "complain res", 6);
    assert_eq!((lab.res("a").role.as_str(), lab.res("b").role.as_str()), ("primary", "secondary"));
    assert_eq!((lab.running("a"), lab.running("b"), lab.count("a", "stop res")), (1, 0, 0));
}

#[test]
fn a_primary_that_is_heard_but_hears_nothing_stops() {
    let Some(lab) = cluster() else { return };
    let start = now_ns();
    lab.hosts().cut_one_way("b", "a");
    lab.hosts().cut_one_way("w", "a");
    lab.wait_after(start, "a", "down res");
    lab.wait_status("b", "primary", "run");
}

#[test]
fn a_primary_that_hears_but_is_not_heard_is_replaced_after_it_has_stopped() {
    let Some(lab) = cluster() else { return };
    let start = now_ns();
    lab.hosts().cut_one_way("a", "b");
    lab.hosts().cut_one_way("a", "w");
    lab.wait_after(start, "a", "down res");
    lab.wait_status("b", "primary", "run");
}
