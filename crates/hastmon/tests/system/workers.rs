//! A process for each resource: its title, its life, and that nothing is left of it.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::lab::{Lab, Plan};
use crate::support::process;
use crate::support::time::{now_ns, pause, seconds, wait_for, wait_some};

#[test]
fn a_worker_is_titled_by_its_resource_and_its_role_exactly() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.run_standard();
    for (node, title) in
        [("a", "hastmon: res (primary)"), ("b", "hastmon: res (secondary)"), ("w", "hastmon: res (watchdog)")]
    {
        assert_eq!(lab.workers(node), [title]);
        let pid = lab.worker(node, title).unwrap();
        assert_eq!(process::argument_count(pid), 1, "a title is one argument");
        assert_eq!(lab.res(node).worker, Some(pid));
    }
}

#[test]
fn every_resource_has_a_worker_of_its_own() {
    let names = ["one", "two", "three"].map(str::to_owned);
    let lab = Plan::new(&["a", "b"]).resources(names).loopback();
    lab.start("a");
    lab.role("a", "secondary");
    lab.ctl("a", &["role", "primary", "two"]);
    let expected = ["hastmon: one (secondary)", "hastmon: three (secondary)", "hastmon: two (primary)"];
    wait_for("three workers have their titles", || lab.workers("a") == expected);
}

#[test]
fn a_secondary_checks_and_stops_from_the_moment_its_role_is_set() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.start("b");
    let mut start = std::process::Command::new(lab.script("b"));
    start.args(["start", "res"]).env(process::MARK, lab.node_dir("b"));
    assert_eq!(crate::support::lab::run(&mut start).code, 0);
    lab.role("b", "secondary");
    wait_for("it has a worker", || lab.workers("b") == ["hastmon: res (secondary)"]);
    lab.wait_call("b", "down res", 1);
    lab.wait_status("b", "secondary", "stopped");
}

#[test]
fn a_worker_that_is_killed_comes_back_after_a_second_and_leaves_the_resource_running() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.run_standard();
    let service = lab.services("a");
    for (node, title) in [("a", "hastmon: res (primary)"), ("b", "hastmon: res (secondary)")] {
        let old = lab.worker(node, title).unwrap();
        let start = now_ns();
        process::signal(old, Signal::KILL);
        let new = wait_some("there is a new worker", || lab.worker(node, title).filter(|new| *new != old));
        let took = now_ns() - start;
        assert!(took >= 900_000_000, "{node}: after {:.2} s", seconds(took));
        wait_for("status knows the new one", || lab.res(node).worker == Some(new));
        lab.wait_status("a", "primary", "run");
        wait_for("connected again", || lab.res("a").remotes[0].1.as_deref() == Some("connected"));
    }
    assert_eq!((lab.services("a"), lab.count("a", "start res"), lab.count("a", "stop res")), (service, 1, 0));
    assert_eq!(lab.res("b").role, "secondary");
}

/// Four changes of role, back to init.
fn round_of_roles(lab: &Lab) {
    for role in ["primary", "secondary", "watchdog", "init"] {
        lab.role("a", role);
        let state = if role == "primary" { "run" } else { "stopped" };
        match role {
            "init" => wait_for("no worker", || lab.workers("a").is_empty()),
            "watchdog" => wait_for("a state", || lab.res("a").state.is_some()),
            _ => lab.wait_status("a", role, state),
        }
    }
}

/// The descriptors of a's daemon when no caller is being answered: when they are the same for a while.
fn settled(lab: &Lab) -> Vec<(i32, String)> {
    wait_some("the descriptors are settled", || {
        let first = process::descriptors(lab.pid("a"));
        pause(Duration::from_millis(300));
        (process::descriptors(lab.pid("a")) == first).then_some(first)
    })
}

/// What descriptors are, such as `socket`, each as often as there are.
fn kinds(descriptors: &[(i32, String)]) -> Vec<&str> {
    let mut kinds: Vec<&str> = descriptors.iter().filter_map(|(_, target)| target.split(':').next()).collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn after_twenty_changes_of_role_no_descriptor_and_no_zombie_is_left() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.start_all();
    lab.role("b", "secondary");
    round_of_roles(&lab);
    let before = settled(&lab);
    (0..5).for_each(|_| round_of_roles(&lab));
    let after = settled(&lab);
    assert_eq!(kinds(&after), kinds(&before), "before: {before:?}\nafter: {after:?}");
    wait_for("it has waited for its children", || process::zombies(lab.pid("a")).is_empty());
    assert!(process::children(lab.pid("a")).is_empty());
}

#[test]
fn killed_workers_leave_no_zombie_and_no_descriptor() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.run_standard();
    let title = "hastmon: res (primary)";
    let before = settled(&lab);
    for _ in 0..3 {
        let old = lab.worker("a", title).unwrap();
        process::signal(old, Signal::KILL);
        wait_some("there is a new worker", || lab.worker("a", title).filter(|new| *new != old));
    }
    lab.wait_status("a", "primary", "run");
    let connected = || lab.res("a").remotes[0].1.as_deref() == Some("connected");
    wait_for("connected again", connected);
    let after = settled(&lab);
    assert_eq!(kinds(&after), kinds(&before), "before: {before:?}\nafter: {after:?}");
    wait_for("it has waited for its children", || process::zombies(lab.pid("a")).is_empty());
}

#[test]
fn a_worker_collects_its_hooks() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.run_standard();
    let calls = lab.count("a", "status res");
    lab.wait_call("a", "status res", calls + 4);
    let worker = lab.worker("a", "hastmon: res (primary)").unwrap();
    wait_for("no zombie", || process::zombies(worker).is_empty());
}

#[test]
fn nothing_is_left_when_a_daemon_has_ended() {
    let names = ["one", "two", "three"].map(str::to_owned);
    let lab = Plan::new(&["a", "b", "w"]).resources(names).loopback();
    lab.run_standard();
    wait_for("all run", || lab.running("a") == 3);
    for node in ["w", "b", "a"] {
        assert_eq!(lab.stop(node), 0);
        assert!(lab.everything(node).is_empty(), "{node}: {:?}", lab.everything(node));
    }
}

#[test]
fn nothing_is_left_when_a_daemon_was_killed() {
    let names = ["one", "two"].map(str::to_owned);
    let lab = Plan::new(&["a", "b", "w"]).resources(names).loopback();
    lab.run_standard();
    wait_for("all run", || lab.running("a") == 2);
    for node in ["w", "b", "a"] {
        lab.kill(node);
        wait_for("its workers have gone, and what they ran", || lab.everything(node).is_empty());
    }
}

/// Kills a node's daemon while its workers are stopped, so that they find a heartbeat's worth of work and their daemon's end
/// at once. The system itself makes them go on, and hangs up on them, as on all that is stopped when its parent dies.
fn kill_behind_the_workers_backs(lab: &Lab, node: &str, meanwhile: impl FnOnce()) {
    let workers = process::children(lab.pid(node));
    workers.iter().for_each(|worker| process::signal(*worker, Signal::STOP));
    meanwhile();
    pause(Duration::from_millis(1200));
    lab.kill(node);
    workers.iter().for_each(|worker| process::signal(*worker, Signal::CONT));
}

const SIX: [&str; 6] = ["one", "two", "three", "four", "five", "six"];

#[test]
fn workers_that_were_stopped_when_their_daemon_died_still_stop_what_they_run() {
    let lab = Plan::new(&["a", "b"]).resources(SIX.map(str::to_owned)).loopback();
    lab.run_standard();
    wait_for("all run", || lab.running("a") == SIX.len());
    for node in ["b", "a"] {
        kill_behind_the_workers_backs(&lab, node, || {});
        wait_for("the workers have gone, and what they ran", || lab.everything(node).is_empty());
    }
}

#[test]
fn workers_that_have_something_to_say_to_a_daemon_that_is_gone_end_all_the_same() {
    let lab = Plan::new(&["a", "b"]).resources(SIX.map(str::to_owned)).loopback();
    lab.run_standard();
    wait_for("all run", || lab.running("a") == SIX.len());
    // When they go on, most of them have an exit of `status` that changes the state, and a daemon that is gone: which of
    // the two they see first must not matter.
    lab.before("a", "status", "sleep 0.7");
    let calls = lab.calls("a").len();
    wait_for("status takes its time", || lab.calls("a").len() > calls + SIX.len());
    kill_behind_the_workers_backs(&lab, "a", || SIX.iter().for_each(|name| lab.kill_service("a", name)));
    wait_for("the workers have gone", || lab.everything("a").is_empty());
}

#[test]
fn a_daemon_and_its_worker_killed_at_once_leave_a_house_that_the_next_one_puts_in_order() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.run_standard();
    let worker = lab.worker("a", "hastmon: res (primary)").unwrap();
    // The daemon is stopped first, so that it cannot do anything about its worker's end.
    lab.signal("a", Signal::STOP);
    process::signal(worker, Signal::KILL);
    lab.kill("a");
    assert_eq!(lab.running("a"), 1);
    lab.start("a");
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    assert_eq!(lab.running("a"), 0);
}
