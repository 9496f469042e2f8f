//! The exec script: what it is called with, what it is given, how long it may take, what becomes of what it says.

use std::fs;

use crate::support::lab::{Lab, Plan};
use crate::support::process;
use crate::support::time::{seconds, wait_for, wait_some};

/// Words that the laboratory's script and the tests write between the calls.
const OURS: [&str; 6] = ["up", "down", "died", "end", "terminated", "hung"];

fn read(lab: &Lab, node: &str, name: &str) -> Option<String> {
    fs::read_to_string(lab.node_dir(node).join(name)).ok().filter(|text| !text.is_empty())
}

/// A number that a script has left in a file.
fn number(lab: &Lab, node: &str, name: &str) -> i32 {
    wait_some(&format!("{name} is written"), || read(lab, node, name)?.trim().parse().ok())
}

#[test]
fn all_seven_events_come_with_their_arguments() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.run_standard();
    lab.role("a", "init");
    for call in ["role res init primary", "connect res", "status res", "start res", "stop res", "role res primary init"]
    {
        lab.wait_call("a", call, 1);
    }
    lab.wait_call("w", "complain res", 1);
    for call in ["role res init secondary", "connect res", "status res", "disconnect res", "complain res"] {
        lab.wait_call("b", call, 1);
    }
    lab.wait_call("b", "role res secondary primary", 1);
    lab.wait_runs("b");
    let other = |call: &String| matches!(call.split(' ').next(), Some("start" | "stop" | "status" | "connect"));
    assert!(!lab.calls("w").iter().any(other), "{:?}", lab.calls("w"));
}

#[test]
fn a_hook_finds_what_it_is_called_for_in_its_environment() {
    let lab = Plan::new(&["a", "b"]).loopback();
    for event in ["start", "role", "status"] {
        lab.before("a", event, "env >$dir/env.$event.new; mv $dir/env.$event.new $dir/env.$event");
    }
    lab.run_standard();
    for event in ["start", "role", "status"] {
        let environment = wait_some("the environment is written", || read(&lab, "a", &format!("env.{event}")));
        let has = |line: &str| environment.lines().any(|have| have == line);
        assert!(has("HASTMON_RESOURCE=res") && has("HASTMON_ROLE=primary") && has("HASTMON_NODE=a"), "{environment}");
        assert!(has(&format!("HASTMON_EVENT={event}")), "{environment}");
        assert!(environment.lines().any(|line| line.starts_with("HASTMON_REASON=")), "{environment}");
        assert!(environment.contains(process::MARK) && environment.contains("PATH="), "{environment}");
    }
}

#[test]
fn a_hook_gets_no_descriptor_no_blocked_signal_and_has_a_group_of_its_own() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.before("a", "start", "echo $$ >$dir/hook; while [ ! -e $dir/seen ]; do sleep 0.1; done");
    lab.start_all();
    lab.role("b", "secondary");
    lab.role("a", "primary");
    let hook = number(&lab, "a", "hook");
    // The shell itself has its script open, and what it reads from it.
    let here = lab.node_dir("a").display().to_string();
    let descriptors = process::descriptors(hook);
    // What the whole test run has inherited, its daemons have, and their hooks.
    let inherited = process::descriptors(i32::try_from(std::process::id()).unwrap());
    for (number, target) in &descriptors {
        let is_known = match *number {
            0 => target == "/dev/null",
            1 | 2 => true,
            _ => target.starts_with(&here) || inherited.contains(&(*number, target.clone())),
        };
        assert!(is_known, "descriptor {number} of a hook is {target}: {descriptors:?}");
    }
    let mask = |name: &str| {
        let status = fs::read_to_string(format!("/proc/{hook}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    // The shell itself blocks signals for a moment when it starts a process.
    wait_for("a hook has no signal blocked", || mask("SigBlk:") == 0);
    let pipe = 1 << (rustix::process::Signal::PIPE.as_raw() - 1);
    assert_eq!(mask("SigIgn:") & pipe, 0, "a hook does not ignore SIGPIPE");
    assert_eq!(process::stat(hook).unwrap().group, hook, "a hook leads a process group of its own");
    fs::write(lab.node_dir("a").join("seen"), "").unwrap();
    lab.wait_status("a", "primary", "run");
}

#[test]
fn hooks_of_a_resource_run_one_at_a_time_and_each_is_ended_before_the_next() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    for event in ["role", "connect", "status", "start"] {
        lab.before("a", event, "trap 'log end $event' EXIT; sleep 0.3");
    }
    lab.run_standard();
    lab.wait_call("a", "end status", 5);
    let calls: Vec<String> = lab.calls("a").into_iter().filter(|call| call != "up res").collect();
    for pair in calls.chunks_exact(2) {
        let event = pair[0].split(' ').next().unwrap();
        assert_eq!(pair[1], format!("end {event}"), "{calls:?}");
    }
}

#[test]
fn a_start_that_hangs_is_ended_with_its_whole_group_and_tried_again() {
    let lab = Plan::new(&["a", "b"]).in_resource("start_timeout 1").loopback();
    // TERM does not impress it, and it has a child that must not stay.
    let hang = "trap 'log terminated' TERM; (trap '' TERM; sleep 1000) & echo $! >$dir/child; echo $$ >$dir/parent; \
                while :; do sleep 0.2; done";
    lab.before("a", "start", hang);
    lab.start_all();
    lab.role("b", "secondary");
    lab.role("a", "primary");
    let (parent, child) = (number(&lab, "a", "parent"), number(&lab, "a", "child"));
    lab.as_usual("a", "start");
    lab.wait_call("a", "terminated", 1);
    wait_for("the hook is killed", || !process::alive(parent));
    wait_for("its child is killed with it", || !process::alive(child));
    lab.wait_status("a", "primary", "run");
    let events = lab.events();
    let at = |call: &str| events.iter().find(|event| event.node == "a" && event.call() == call).unwrap().at_ns;
    let took = at("terminated") - at("start res");
    assert!(took >= 900_000_000, "ended after {:.2} s, with a limit of 1 s", seconds(took));
}

#[test]
fn a_hook_over_its_time_is_asked_to_end_before_it_is_killed() {
    let lab = Plan::new(&["a", "b"]).in_resource("start_timeout 1").loopback();
    lab.before("a", "start", "trap 'log terminated; exit 1' TERM; sleep 1000 & wait");
    lab.start_all();
    lab.role("b", "secondary");
    lab.role("a", "primary");
    lab.wait_call("a", "terminated", 1);
    lab.as_usual("a", "start");
    lab.wait_status("a", "primary", "run");
}

#[test]
fn what_a_hook_prints_is_logged_line_by_line() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.before("a", "start", "echo one to standard output; echo one to standard error >&2; printf 'no end of line'");
    lab.run_standard();
    for line in ["one to standard output", "one to standard error", "no end of line"] {
        wait_for(&format!("'{line}' is logged"), || lab.log_text("a").contains(line));
    }
    let text = lab.log_text("a");
    let line = text.lines().find(|line| line.contains("one to standard output")).unwrap();
    assert!(line.contains("[res]") && !line.contains("standard error"), "{line}");
}

#[test]
fn an_exit_that_is_not_0_is_logged() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.before("a", "connect", "exit 37");
    lab.run_standard();
    wait_for("the exit is logged", || lab.log_text("a").contains("37"));
}

#[test]
fn a_stop_does_not_wait_for_a_status_that_hangs() {
    let lab = Plan::new(&["a", "b"]).in_resource("status_timeout 600").loopback();
    lab.run_standard();
    lab.before("a", "status", "echo $$ >$dir/hanging; log hung; sleep 1000");
    lab.wait_call("a", "hung", 1);
    let hanging = number(&lab, "a", "hanging");
    lab.role("a", "secondary");
    lab.wait_stopped("a");
    wait_for("the status that hung is gone", || !process::alive(hanging));
}

#[test]
fn a_status_that_takes_too_long_is_no_answer() {
    let lab = Plan::new(&["a", "b"]).in_resource("status_timeout 1").loopback();
    lab.before("b", "status", "sleep 1000");
    lab.start("b");
    lab.role("b", "secondary");
    lab.wait_call("b", "status res", 2);
    wait_for("its state is unknown", || lab.res("b").state.as_deref() == Some("unknown"));
    lab.wait_call("b", "stop res", 1);
}

#[test]
fn any_other_answer_of_status_means_unknown() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.before("b", "status", "exit 3");
    lab.start("b");
    lab.role("b", "secondary");
    wait_for("its state is unknown", || lab.res("b").state.as_deref() == Some("unknown"));
    lab.wait_call("b", "stop res", 2);
}

#[test]
fn a_stop_that_does_not_end_leaves_the_resource_failed_and_is_tried_again() {
    let lab = Plan::new(&["a", "b"]).in_resource("stop_timeout 1").loopback();
    lab.before("b", "status", "exit 0");
    lab.before("b", "stop", "sleep 1000");
    lab.start("b");
    lab.role("b", "secondary");
    wait_for("its state is failed", || lab.res("b").state.as_deref() == Some("failed"));
    lab.wait_call("b", "stop res", 2);
    lab.as_usual("b", "status");
    lab.as_usual("b", "stop");
    lab.wait_status("b", "secondary", "stopped");
}

#[test]
fn a_primary_whose_starts_fail_gives_up_and_holds_off() {
    let lab = Plan::new(&["a", "b", "w"]).set("attempts", "2").loopback();
    lab.before("a", "start", "exit 1");
    lab.start_all();
    lab.standard_roles();
    lab.wait_runs("b");
    assert_eq!(lab.count("a", "start res"), 2);
    lab.wait_status("a", "secondary", "stopped");
    lab.wait_call("a", "role res primary secondary", 1);
    // It is the preferred node, but it has just shown that it cannot.
    let calls = lab.count("a", "status res");
    lab.wait_call("a", "status res", calls + 5);
    assert_eq!((lab.res("a").role.as_str(), lab.res("b").role.as_str()), ("secondary", "primary"));
    assert_eq!(lab.count("a", "start res"), 2);
}

#[test]
fn a_resource_that_runs_again_has_all_its_attempts_again() {
    let lab = Plan::new(&["a", "b"]).set("attempts", "3").loopback();
    lab.before("a", "start", "[ -e $dir/tried ] || { : >$dir/tried; exit 1; }");
    lab.start_all();
    lab.role("b", "secondary");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    assert_eq!(lab.count("a", "start res"), 2);
    wait_for("the count is 0 again", || lab.res("a").attempts == Some(0));
}

#[test]
fn only_what_the_tests_know_is_in_the_record() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.run_standard();
    let events = ["start", "stop", "status", "connect", "disconnect", "complain", "role"];
    for event in lab.events() {
        assert!(events.contains(&event.what.as_str()) || OURS.contains(&event.what.as_str()), "{event:?}");
        assert_eq!(event.args.first().map(String::as_str), Some("res"), "{event:?}");
        assert_eq!(event.args.len(), if event.what == "role" { 3 } else { 1 }, "{event:?}");
    }
}
