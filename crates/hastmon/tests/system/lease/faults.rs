//! Whole hosts, as network namespaces: no power, no network, no time. They need root, and fail without it unless HASTMON_SKIP_NETNS=1 says
//! that they are to be left out.

use std::time::Duration;

use super::{plan, wait_line, wait_says};
use crate::support::events::overlaps;
use crate::support::lab::Lab;
use crate::support::time::{now_ns, stays, wait_for};

/// More than the 10 s after which a dead primary is replaced.
const LONG_ENOUGH: Duration = Duration::from_secs(12);

fn cluster() -> Option<Lab> {
    let lab = plan(&["a", "b", "w"]).hosts()?;
    lab.run_standard();
    Some(lab)
}

#[test]
fn a_host_without_power_is_replaced_when_its_votes_are_free() {
    let Some(lab) = cluster() else { return };
    lab.power_off("a");
    lab.wait_status("b", "primary", "run");
    wait_line(&lab, "b", &["holds the lease"]);
}

#[test]
fn a_host_whose_link_is_cut_for_good_stops_before_the_other_starts() {
    let Some(lab) = cluster() else { return };
    let start = now_ns();
    lab.hosts().isolate("a");
    let down = lab.wait_after(start, "a", "down res");
    let up = lab.wait_after(start, "b", "up res");
    assert!(down <= up);
    lab.wait_status("a", "secondary", "stopped");
    lab.wait_status("b", "primary", "run");
    stays(LONG_ENOUGH, "it runs on b alone", || lab.running("a") == 0 && lab.running("b") == 1);
    lab.hosts().heal();
    wait_says(&lab, "b", "lease", "3 of 3 votes");
    assert_eq!((lab.running("a"), lab.running("b"), lab.count("b", "stop res")), (0, 1, 0));
}

#[test]
fn a_primary_that_keeps_one_of_two_secondaries_stops_when_that_is_no_majority() {
    let Some(lab) = plan(&["a", "b", "c", "w", "v"]).hosts() else { return };
    lab.run_standard();
    for node in ["c", "w", "v"] {
        lab.hosts().cut("a", node);
        lab.hosts().cut("b", node);
    }
    lab.wait_stopped("a");
    lab.wait_status("c", "primary", "run");
    lab.wait_status("a", "secondary", "stopped");
    assert_eq!(lab.count("b", "start res"), 0);
}

#[test]
fn a_primary_that_keeps_one_of_two_secondaries_goes_on_when_that_is_a_majority() {
    let Some(lab) = plan(&["a", "b", "c"]).hosts() else { return };
    lab.run_standard();
    lab.hosts().cut("a", "c");
    stays(LONG_ENOUGH, "it runs on a", || lab.running("a") == 1 && lab.running("c") == 0);
    assert_eq!(lab.count("a", "stop res"), 0);
    wait_says(&lab, "a", "lease", "2 of 3 votes");
}

#[test]
fn with_two_watchdogs_a_stop_that_takes_most_of_its_budget_is_over_before_the_other_starts() {
    // Nine tenths; the rest is a second, which a busy machine may need.
    let Some(lab) = plan(&["a", "b", "w", "v"]).set("lease", "10").set("stop_timeout", "10").hosts() else { return };
    lab.before("a", "stop", "sleep 9");
    lab.run_standard();
    let start = now_ns();
    lab.hosts().isolate("a");
    let down = lab.wait_after(start, "a", "down res");
    let up = lab.wait_after(start, "b", "up res");
    assert!(down <= up);
    lab.wait_status("b", "primary", "run");
    assert_eq!(lab.count("a", "stop res"), 1);
}

#[test]
fn a_stop_that_exceeds_its_budget_is_said_on_the_spot() {
    let Some(lab) = plan(&["a", "b", "w", "v"]).set("stop_timeout", "2").hosts() else { return };
    // What lease.md cannot prevent without fencing.
    lab.may_overlap();
    lab.before("a", "stop", "exec sleep 1000");
    lab.run_standard();
    lab.hosts().isolate("a");
    wait_line(&lab, "a", &["[ERROR]", "stop did not work: the resource MAY STILL RUN on this node"]);
    wait_for("a says that it failed", || lab.res("a").state.as_deref() == Some("failed"));
    lab.wait_status("b", "primary", "run");
    assert_eq!(lab.running("a"), 1);
    // It goes on trying.
    let times = lab.count("a", "stop res");
    lab.wait_call("a", "stop res", times + 1);
    lab.as_usual("a", "stop");
    lab.wait_stopped("a");
    lab.wait_status("a", "secondary", "stopped");
}

#[test]
fn a_host_that_freezes_is_replaced_and_stops_at_once_when_it_wakes() {
    let Some(lab) = cluster() else { return };
    lab.may_overlap();
    lab.freeze("a");
    lab.wait_status("b", "primary", "run");
    // Until here nothing ran twice: what is frozen does not run.
    lab.assert_never_two();
    let thawed = now_ns();
    lab.thaw("a");
    lab.wait_after(thawed, "a", "down res");
    lab.wait_status("a", "secondary", "stopped");
    wait_line(&lab, "a", &["no majority has renewed the lease, which ended"]);
    // What lease.md admits: it runs on for as long as `stop` takes, and not longer.
    let found = overlaps(&lab.events());
    assert!(found.iter().all(|overlap| overlap.until_ns.is_some()) && found.len() <= 1, "{found:?}");
    let after = lab.events().into_iter().filter(|event| event.at_ns + 10_000_000 >= thawed && event.node == "a");
    let calls: Vec<String> = after.map(|event| event.what).collect();
    assert!(!calls.iter().any(|call| call == "start" || call == "up"), "{calls:?}");
    let first = calls.iter().find(|call| !matches!(call.as_str(), "frozen" | "thawed" | "status"));
    assert_eq!(first.map(String::as_str), Some("stop"), "{calls:?}");
    assert_eq!((lab.running("b"), lab.count("b", "stop res")), (1, 0));
}

#[test]
fn a_host_that_freezes_for_less_than_its_lease_goes_on() {
    let Some(lab) = plan(&["a", "b", "w"]).set("lease", "20").hosts() else { return };
    lab.run_standard();
    lab.freeze("a");
    crate::support::time::pause(Duration::from_secs(3));
    lab.thaw("a");
    lab.wait_status("a", "primary", "run");
    wait_says(&lab, "a", "lease", "3 of 3 votes");
    assert_eq!((lab.count("a", "stop res"), lab.count("b", "start res")), (0, 0));
}

#[test]
fn a_voter_that_freezes_and_wakes_disturbs_nobody() {
    let Some(lab) = cluster() else { return };
    for node in ["w", "b"] {
        lab.freeze(node);
        stays(LONG_ENOUGH, "it runs on a", || lab.running("a") == 1);
        lab.thaw(node);
        wait_says(&lab, "a", "lease", "3 of 3 votes");
    }
    stays(LONG_ENOUGH, "it runs on a alone", || lab.running("a") == 1 && lab.running("b") == 0);
    assert_eq!((lab.count("a", "stop res"), lab.count("b", "start res")), (0, 0));
}
