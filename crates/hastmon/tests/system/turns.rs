//! Many resources that are to be started on one node: so many at a time, the heaviest first.

use std::fs;

use rustix::process::Signal;

use crate::support::lab::{Lab, Plan};
use crate::support::time::wait_for;

const MANY: usize = 12;
const AT_ONCE: usize = 2;

/// Two of each weight, in no order.
fn weight(at: usize) -> usize {
    at * 7 % MANY / 2
}

/// Nodes `a`, `b` and `w` with resources `r0` and so on, each of which takes its time to start.
fn cluster() -> Lab {
    let names = (0..MANY).map(|at| format!("r{at}"));
    let plan = Plan::new(&["a", "b", "w"]).lease().set("lease", "10").set("stop_timeout", "5");
    let lab = plan.set("max_hooks", &AT_ONCE.to_string()).resources(names).loopback();
    let mut config = lab.standard_config();
    for at in 0..MANY {
        config = config.replace(&format!("resource r{at} {{"), &format!("resource r{at} {{\nweight {}", weight(at)));
    }
    lab.write_config(&config);
    ["a", "b"].iter().for_each(|node| lab.before(node, "start", "sleep 0.3"));
    lab.start_all();
    lab.role("b", "secondary");
    lab
}

/// The resources of a node in the order in which they were started; at no moment were more of them being started than have a turn.
fn started(lab: &Lab, node: &str) -> Vec<String> {
    let (mut order, mut under_way) = (Vec::new(), 0);
    for event in lab.events().iter().filter(|event| event.node == node) {
        match event.what.as_str() {
            "start" => {
                under_way += 1;
                order.push(event.args[0].clone());
            }
            "up" => under_way -= 1,
            _ => {}
        }
        assert!(under_way <= AT_ONCE, "{under_way} starts at {event:?}: {:?}", lab.calls(node));
    }
    order
}

#[test]
fn no_more_than_max_hooks_are_started_at_once_and_in_the_order_of_their_weights() {
    let lab = cluster();
    assert!(lab.ctl("a", &["check"]).stdout.contains("12 resources, of which 2 are started at a time (max_hooks)"));
    lab.role("a", "primary");
    let waits = "waiting for its turn: 2 resources are being started (max_hooks 2)";
    wait_for("who waits says so", || lab.ctl("a", &["status"]).stdout.contains(waits));
    wait_for("all run", || lab.running("a") == MANY);
    let order = started(&lab, "a");
    let mut expected: Vec<usize> = (0..MANY).collect();
    expected.sort_by_key(|at| (std::cmp::Reverse(weight(*at)), *at));
    for (place, name) in order.iter().enumerate() {
        let rank = expected.iter().position(|at| *name == format!("r{at}")).unwrap();
        // Those that are on their way at the same time may overtake each other.
        assert!(rank < place + AT_ONCE, "{name} was number {place}: {order:?}");
    }
    assert_eq!(order.len(), MANY, "{order:?}");
    wait_for("the primaries say so", || lab.status("a").iter().all(|block| block.role == "primary"));
}

#[test]
fn a_failover_of_all_takes_turns_and_is_complete() {
    let lab = cluster();
    lab.role("a", "primary");
    wait_for("all run", || lab.running("a") == MANY);
    lab.role("w", "watchdog");
    wait_for("w sees them run", || lab.status("w").iter().all(|block| block.state.as_deref() == Some("run")));
    lab.signal("a", Signal::KILL);
    wait_for("all run on b", || lab.running("b") == MANY);
    assert_eq!(started(&lab, "b").len(), MANY);
    assert!(fs::read_to_string(lab.log_path("b")).unwrap().contains("waiting for its turn"));
}

#[test]
fn what_waits_for_its_turn_where_it_is_to_be_primary_is_not_taken_over() {
    let lab = cluster();
    // In turns of two they take six seconds and more, enough for many complaints.
    lab.before("a", "start", "sleep 1");
    lab.role("a", "primary");
    lab.role("w", "watchdog");
    wait_for("all run", || lab.running("a") == MANY);
    assert_eq!(started(&lab, "a").len(), MANY);
    assert_eq!(started(&lab, "b"), [""; 0], "{:?}", lab.calls("w"));
}

#[test]
fn a_reload_lets_more_be_started_at_once_and_in_another_order() {
    let plan = Plan::new(&["a", "b", "w"]).lease().set("lease", "10").set("stop_timeout", "5").set("max_hooks", "1");
    let lab = plan.resources(["r0", "r1", "r2"].map(String::from)).loopback();
    lab.before("a", "start", "sleep 1000");
    lab.start_all();
    lab.role("a", "primary");
    lab.wait_call("a", "start r0", 1);
    wait_for("the others wait", || {
        lab.status("a").iter().filter(|block| block.says("waits").contains("1 res")).count() == 2
    });
    let kept = || ["hastmon: r0 (primary)", "hastmon: r1 (secondary)"].map(|title| lab.worker("a", title).unwrap());
    let before = kept();
    let config = lab.standard_config().replace("max_hooks 1", "max_hooks 2");
    lab.write_config(&config.replace("resource r2 {", "resource r2 {\nweight 1"));
    assert_eq!(lab.ctl("a", &["reload"]).code, 0);
    lab.wait_call("a", "start r2", 1);
    assert_eq!(lab.count("a", "start r1"), 0);
    assert_eq!(kept(), before);
}
