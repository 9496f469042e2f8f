//! What hastmon leaves when it is killed or stands still, while the service lives on.

use rustix::process::Signal;

use super::{cluster, plan, wait_line, wait_says};
use crate::support::events::overlaps;
use crate::support::lab::Lab;
use crate::support::process;
use crate::support::time::{now_ns, wait_for};

fn worker(lab: &Lab, node: &str) -> i32 {
    lab.worker(node, "hastmon: res (primary)").unwrap()
}

/// How many calls of `stop` have begun on a node by the time that the first one has ended.
fn stops_before_the_first_end(lab: &Lab, node: &str) -> usize {
    let calls = lab.calls(node);
    calls.iter().take_while(|call| *call != "down res").filter(|call| *call == "stop res").count()
}

#[test]
fn a_stop_that_a_killed_worker_has_left_is_let_end_and_none_is_called_beside_it() {
    let lab = plan(&["a", "b", "w"]).set("lease", "10").set("stop_timeout", "10").loopback();
    lab.run_standard();
    lab.before("a", "stop", "sleep 5");
    let old = worker(&lab, "a");
    lab.role("a", "secondary");
    lab.wait_call("a", "stop res", 1);
    process::signal(old, Signal::KILL);
    wait_line(&lab, "a", &["[WARNING]", "was killed while it called stop, which still runs: waiting for it"]);
    lab.wait_call("a", "down res", 1);
    assert_eq!(stops_before_the_first_end(&lab, "a"), 1, "{:?}", lab.calls("a"));
    // The votes are bound to a, which has lost its word to give them back with its worker: it may be the one that gets them.
    wait_for("somebody runs it", || lab.running("a") + lab.running("b") == 1);
}

#[test]
fn a_cut_off_primary_whose_worker_is_killed_while_it_stops_is_stopped_before_the_other_starts() {
    let Some(lab) = plan(&["a", "b", "w"]).set("lease", "10").set("stop_timeout", "10").hosts() else { return };
    lab.run_standard();
    lab.before("a", "stop", "sleep 8");
    let old = worker(&lab, "a");
    let start = now_ns();
    lab.hosts().isolate("a");
    lab.wait_call("a", "stop res", 1);
    process::signal(old, Signal::KILL);
    let down = lab.wait_after(start, "a", "down res");
    let up = lab.wait_after(start, "b", "up res");
    assert!(down <= up);
    assert_eq!(stops_before_the_first_end(&lab, "a"), 1, "{:?}", lab.calls("a"));
}

/// Nothing of hastmon acts on this host, and what runs there runs: without fencing another node must start it some time.
fn stopped_as_soon_as_hastmon_is_back(lab: &Lab, back: impl FnOnce()) {
    lab.may_overlap();
    let before = now_ns();
    lab.wait_status("b", "primary", "run");
    lab.wait_after(before, "b", "up res");
    assert_eq!(lab.running("a"), 1);
    // Not before the votes were free, all the same.
    wait_line(lab, "b", &["holds the lease"]);
    let back_at = now_ns();
    back();
    lab.wait_after(back_at, "a", "down res");
    lab.wait_status("a", "secondary", "stopped");
    let found = overlaps(&lab.events());
    assert!(found.len() == 1 && found.iter().all(|overlap| overlap.until_ns.is_some()), "{found:?}");
    let after = lab.events().into_iter().filter(|event| event.node == "a" && event.at_ns >= back_at);
    let calls: Vec<String> = after.map(|event| event.what).collect();
    assert!(!calls.iter().any(|call| call == "start" || call == "up"), "{calls:?}");
    wait_says(lab, "b", "lease", "3 of 3 votes");
    assert_eq!((lab.running("b"), lab.count("b", "stop res")), (1, 0));
}

#[test]
fn a_service_without_daemon_and_worker_is_stopped_by_the_next_daemon() {
    let lab = cluster();
    let old = worker(&lab, "a");
    // Neither may hear of the other's end.
    process::freeze(lab.pid("a"));
    process::signal(old, Signal::KILL);
    lab.kill("a");
    wait_for("both are gone", || !process::alive(old));
    stopped_as_soon_as_hastmon_is_back(&lab, || {
        lab.start("a");
        lab.role("a", "secondary");
    });
}

#[test]
fn daemon_and_worker_that_stood_still_stop_at_once_when_they_wake() {
    let lab = cluster();
    let (daemon, old) = (lab.pid("a"), worker(&lab, "a"));
    // The daemon first: it would replace a worker that stands still.
    process::freeze(daemon);
    process::freeze(old);
    stopped_as_soon_as_hastmon_is_back(&lab, || {
        process::signal(old, Signal::CONT);
        process::signal(daemon, Signal::CONT);
    });
}

#[test]
fn a_worker_that_stood_still_until_its_successor_ran_changes_nothing_when_it_wakes() {
    let lab = plan(&["a", "b", "w"]).set("lease", "20").set("stop_timeout", "5").loopback();
    lab.run_standard();
    let (old, services) = (worker(&lab, "a"), lab.services("a"));
    process::freeze(old);
    wait_for("another worker", || {
        lab.worker("a", "hastmon: res (primary)").is_some_and(|new| new != old)
            && lab.res("a").state.as_deref() == Some("run")
    });
    process::signal(old, Signal::CONT);
    wait_for("the old one is gone", || !process::alive(old));
    wait_says(&lab, "a", "lease", "3 of 3 votes");
    assert_eq!((lab.services("a"), lab.count("a", "stop res"), lab.count("b", "start res")), (services, 0, 0));
}
