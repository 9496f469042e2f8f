//! Processes that are killed or stopped at any moment: the main daemon, a worker, both at once, a hook. The resource never runs twice, no
//! two calls of its script run side by side, and what may still run is said. What a worker's ordinary life is like is in `workers`.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::lab::{Lab, Plan};
use crate::support::process;
use crate::support::time::{now_ns, pause, seconds, wait_for, wait_some};

const PRIMARY: &str = "hastmon: res (primary)";

/// Two nodes that beat five times a second, and nobody who complains.
fn pair() -> Plan {
    Plan::new(&["a", "b"]).set("heartbeat_interval", "200ms").set("complaint_count", "300")
}

/// The same with a watchdog.
fn trio() -> Plan {
    Plan::new(&["a", "b", "w"]).set("heartbeat_interval", "200ms")
}

/// With a watchdog that has enough after four complaints. The nodes beat once a second: none of them may be taken for dead because the
/// machine is busy.
fn calm_trio() -> Plan {
    Plan::new(&["a", "b", "w"]).set("timeout", "1")
}

fn alone() -> Plan {
    Plan::new(&["a"]).set("heartbeat_interval", "200ms")
}

fn logged(lab: &Lab, node: &str, text: &str) {
    wait_for(&format!("'{text}' is logged"), || lab.log_text(node).contains(text));
}

fn worker(lab: &Lab) -> i32 {
    wait_some("there is a worker", || lab.worker("a", PRIMARY))
}

/// A number that a script has left in a file.
fn number(lab: &Lab, name: &str) -> i32 {
    let path = lab.node_dir("a").join(name);
    wait_some(&format!("{name} is written"), || fs::read_to_string(&path).ok()?.trim().parse().ok())
}

/// Calls of the script on a node take a while, and note when another one goes on beside them. One that was killed takes a moment to be
/// gone, so it is looked at twice.
fn watch_for_calls_side_by_side(lab: &Lab, node: &str) {
    fs::create_dir_all(lab.node_dir(node).join("calls")).unwrap();
    // A process that has ended has no program any more, even when nobody has waited for it.
    let watch = "for other in $dir/calls/*; do pid=${other##*/}; pid=${pid%.*}; [ -e \"/proc/$pid/exe\" ] || continue; sleep 0.1; \
                 [ -e \"/proc/$pid/exe\" ] && log beside \"${other##*/}\"; done; \
                 : >$dir/calls/$$.$event; trap 'rm -f $dir/calls/$$.$event' EXIT; ";
    for event in ["start", "stop", "status", "role", "connect", "disconnect"] {
        let takes = if matches!(event, "start" | "stop") { "sleep 0.3" } else { "sleep 0.02" };
        lab.before(node, event, &format!("{watch}{takes}"));
    }
}

fn assert_none_side_by_side(lab: &Lab, node: &str) {
    let beside: Vec<_> =
        lab.events().into_iter().filter(|event| event.node == node && event.what == "beside").collect();
    assert!(beside.is_empty(), "calls of the script ran side by side: {beside:?}");
}

/// The daemon and a worker of it die in the same moment: neither can do anything about the end of the other.
fn kill_both(lab: &Lab, worker: i32) {
    process::freeze(lab.pid("a"));
    process::signal(worker, Signal::KILL);
    lab.kill("a");
    wait_for("the worker is dead", || !process::alive(worker));
}

// The main daemon dies

#[test]
fn workers_whose_daemon_was_killed_end_within_the_stop_budget_though_stop_hangs() {
    let lab = pair().in_resource("stop_timeout 300ms\nstatus_timeout 300ms").loopback();
    lab.run_standard();
    lab.before("a", "stop", "sleep 1000");
    let (worker, start) = (worker(&lab), now_ns());
    lab.kill("a");
    wait_for("its worker has ended", || !process::alive(worker));
    let took = seconds(now_ns() - start);
    // stop and the status that checks it, each with 2 s after TERM and 2 s after KILL, and a pause of 1 s: three times.
    let budget = 3.0 * (0.3 + 2.0 + 2.0 + 0.3 + 2.0 + 2.0 + 1.0);
    assert!(took < budget, "it took {took:.1} s");
    logged(&lab, "a", "[WARNING] [res] stop: ended because it ran longer than its limit of 300ms");
    logged(&lab, "a", "[ERROR] [res] stop did not work: the resource MAY STILL RUN on this node");
    assert_eq!(lab.count("a", "stop res"), 3);

    // The next daemon finds what was left, and puts the house in order.
    lab.as_usual("a", "stop");
    lab.start("a");
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    assert_eq!(lab.running("a"), 0);
}

#[test]
fn a_daemon_that_is_killed_while_start_runs_leaves_nothing_that_starts_later() {
    let lab = alone().loopback();
    lab.before("a", "start", "(trap '' TERM; log hung; sleep 1; log late) & wait; sleep 1000");
    lab.start("a");
    lab.role("a", "primary");
    lab.wait_call("a", "hung", 1);
    lab.kill("a");
    wait_for("all has ended", || lab.everything("a").is_empty());
    let calls = lab.calls("a");
    let at = |call: &str| calls.iter().position(|have| have == call);
    // Or killed before it could say a word, on a machine that is busy.
    assert!(at("late") < at("stop res"), "{calls:?}");
    assert_eq!(lab.running("a"), 0);
}

#[test]
fn a_daemon_that_starts_while_the_old_one_is_being_cleaned_up_says_so_and_waits() {
    let lab = pair().loopback();
    lab.run_standard();
    lab.before("a", "stop", "log stopping; while [ ! -e $dir/go ]; do sleep 0.02; done");
    let old = worker(&lab);
    lab.kill("a");
    lab.start("a");
    lab.role("a", "primary");
    let waits = format!(
        "[WARNING] [res] an earlier worker (pid {old}) has not ended and the resource MAY STILL RUN on this node"
    );
    logged(&lab, "a", &waits);
    lab.wait_call("a", "stopping", 1);
    assert_eq!((lab.res("a").role.as_str(), lab.count("a", "start res")), ("primary", 1));
    // It can be told to do something else meanwhile, and to stop.
    lab.role("a", "secondary");
    lab.role("a", "primary");
    fs::write(lab.node_dir("a").join("go"), "").unwrap();
    lab.wait_status("a", "primary", "run");
    let calls = lab.calls("a");
    let second = calls.iter().rposition(|call| call == "up res");
    assert!(calls.iter().position(|call| call == "down res") < second, "{calls:?}");
    assert_eq!(lab.count("a", "start res"), 2);
}

#[test]
fn a_daemon_stops_in_order_although_a_worker_of_the_one_before_does_not_end() {
    let lab = alone().loopback();
    lab.start("a");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    let old = worker(&lab);
    lab.before("a", "stop", "log stopping; while [ ! -e $dir/go ]; do sleep 0.02; done");
    lab.kill("a");
    lab.wait_call("a", "stopping", 1);
    process::freeze(old);
    fs::write(lab.node_dir("a").join("go"), "").unwrap();
    lab.wait_stopped("a");
    lab.start("a");
    lab.role("a", "primary");
    logged(&lab, "a", &format!("an earlier worker (pid {old}) has not ended"));
    assert_eq!(lab.stop("a"), 0);
    assert_eq!(lab.count("a", "start res"), 1);
    process::signal(old, Signal::CONT);
    wait_for("it has ended", || lab.everything("a").is_empty());
}

#[test]
fn a_worker_that_stands_still_when_its_daemon_dies_stops_its_resource_before_it_ends() {
    let lab = alone().loopback();
    lab.start("a");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    let worker = worker(&lab);
    process::freeze(worker);
    lab.kill("a");
    // The kernel wakes it like this, unless the first process of the system is one of the same session, as in some containers.
    process::signal(worker, Signal::HUP);
    process::signal(worker, Signal::CONT);
    wait_for("it has stopped its resource and ended", || lab.everything("a").is_empty());
    assert_eq!(lab.count("a", "down res"), 1);
}

// A worker dies

#[test]
fn what_a_killed_worker_leaves_of_its_start_is_ended_before_its_successor_begins() {
    let lab = alone().loopback();
    // The orphan ignores TERM, has a child that does so too, and is not one to end by itself.
    let start = "trap '' TERM; (while :; do sleep 0.05; done) & echo $! >$dir/child; echo $$ >$dir/orphan; while :; do sleep 0.05; done";
    lab.before("a", "start", start);
    lab.start("a");
    lab.role("a", "primary");
    let (orphan, child) = (number(&lab, "orphan"), number(&lab, "child"));
    let (old, calls) = (worker(&lab), lab.count("a", "status res"));
    lab.as_usual("a", "start");
    process::signal(old, Signal::KILL);
    wait_for("its successor calls the script", || {
        let alive = process::alive(orphan) || process::alive(child);
        let called = lab.count("a", "status res") > calls;
        assert!(!(called && alive), "the script is called beside what the killed worker has left");
        called
    });
    lab.wait_status("a", "primary", "run");
    logged(
        &lab,
        "a",
        "[WARNING] [res] the worker before this one was killed while it called start, which still runs: ending it first",
    );
    assert_eq!(lab.count("a", "up res"), 1);
}

#[test]
fn a_service_that_the_killed_workers_start_has_begun_in_its_own_session_is_left_alone() {
    let lab = alone().loopback();
    lab.before(
        "a",
        "start",
        "setsid sleep 100000 >/dev/null 2>&1 </dev/null & echo $! >$dir/service; echo $$ >$dir/orphan; sleep 1000",
    );
    lab.start("a");
    lab.role("a", "primary");
    let (orphan, service) = (number(&lab, "orphan"), number(&lab, "service"));
    lab.before("a", "status", "exit 0");
    process::signal(worker(&lab), Signal::KILL);
    wait_for("the orphan is ended", || !process::alive(orphan));
    lab.wait_status("a", "primary", "run");
    assert!(process::alive(service));
    assert_eq!(lab.count("a", "start res"), 1);
}

/// A `start` that leaves a service which is on no record; the next one says when that still runs.
const UNKNOWN_SERVICE: &str = "if read -r old 2>/dev/null <$dir/service; then [ -e /proc/$old/exe ] && log beside; else \
                               setsid sleep 100000 >/dev/null 2>&1 </dev/null & echo $! >$dir/service; log hung; sleep 1000; fi";

fn assert_started_after_the_unknown_service(lab: &Lab) {
    lab.wait_status("a", "primary", "run");
    let service = number(lab, "service");
    assert!(!process::alive(service));
    assert_eq!((lab.count("a", "up res"), lab.count("a", "beside")), (1, 0));
    let says = "status says stopped, but a start that was cut short before has left process";
    logged(lab, "a", &format!("[WARNING] [res] {says} {service} running: killing it"));
}

#[test]
fn a_service_that_the_killed_workers_start_has_begun_unknown_to_status_is_killed_before_the_next_start() {
    let lab = alone().loopback();
    lab.before("a", "start", UNKNOWN_SERVICE);
    lab.start("a");
    lab.role("a", "primary");
    lab.wait_call("a", "hung", 1);
    process::signal(worker(&lab), Signal::KILL);
    assert_started_after_the_unknown_service(&lab);
}

#[test]
fn a_worker_that_is_killed_after_it_has_cut_a_start_short_leaves_its_successor_the_knowledge() {
    let lab = alone().in_resource("start_timeout 500ms").loopback();
    lab.before("a", "start", UNKNOWN_SERVICE);
    lab.before("a", "status", "[ -e $dir/service ] && log asked && sleep 1000");
    lab.start("a");
    lab.role("a", "primary");
    lab.wait_call("a", "asked", 1);
    let old = worker(&lab);
    lab.as_usual("a", "status");
    process::signal(old, Signal::KILL);
    assert_started_after_the_unknown_service(&lab);
    assert_eq!(lab.stop("a"), 0);
    assert!(!lab.node_dir("a").join("pid.res~call").exists(), "nothing is left to know");
}

#[test]
fn what_a_worker_and_its_daemon_leave_of_their_start_is_ended_by_the_next_daemon() {
    let lab = pair().on("a", "role_on_start secondary").loopback();
    let late = "trap '' TERM; log hung; while [ ! -e $dir/go ]; do sleep 0.02; done";
    lab.before("a", "start", late);
    lab.start_all();
    lab.role("b", "secondary");
    lab.role("a", "primary");
    lab.wait_call("a", "hung", 1);
    let old = worker(&lab);
    kill_both(&lab, old);
    assert!(
        lab.everything("a").iter().any(|pid| process::title(*pid).is_some_and(|title| title.contains("start res")))
    );
    // It is secondary now, and another node may be primary: the start must not end well.
    lab.start("a");
    logged(&lab, "a", "was killed while it called start, which still runs: ending it first");
    lab.wait_status("a", "secondary", "stopped");
    fs::write(lab.node_dir("a").join("go"), "").unwrap();
    lab.role("b", "primary");
    lab.wait_status("b", "primary", "run");
    assert_eq!(lab.count("a", "up res"), 0);
}

#[test]
fn a_daemon_in_role_init_says_what_a_killed_worker_may_have_left_running() {
    let lab =
        Plan::new(&["a"]).resources(["res", "calm"].map(str::to_owned)).set("heartbeat_interval", "200ms").loopback();
    lab.start("a");
    lab.ctl("a", &["role", "primary", "res"]);
    lab.wait_status("a", "primary", "run");
    let old = worker(&lab);
    kill_both(&lab, old);
    lab.start("a");
    let says = format!(
        "[ERROR] [res] its last worker (pid {old}) was killed: the resource MAY STILL RUN on this node, and nobody looks"
    );
    logged(&lab, "a", &says);
    assert!(!lab.log_text("a").contains("[calm] its last worker"));
    assert_eq!((lab.res("a").role.as_str(), lab.running("a")), ("init", 1));
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    assert_eq!(lab.running("a"), 0);
    // In order again: the next daemon has nothing to say.
    assert_eq!(lab.stop("a"), 0);
    let before = lab.log_text("a").len();
    lab.start("a");
    assert!(!lab.log_text("a")[before..].contains("MAY STILL RUN"));
    assert!(
        fs::read_dir(lab.node_dir("a")).unwrap().all(|file| !file
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("pid."))
    );
}

#[test]
fn a_worker_that_is_killed_again_and_again_restarts_nothing() {
    let lab = pair().loopback();
    lab.run_standard();
    let service = lab.services("a");
    for _ in 0..2 {
        let old = worker(&lab);
        process::signal(old, Signal::KILL);
        wait_for("there is a new worker", || lab.worker("a", PRIMARY).is_some_and(|new| new != old));
    }
    lab.wait_status("a", "primary", "run");
    logged(&lab, "a", "[WARNING] [res] worker was killed by signal 9; starting a new one");
    assert_eq!((lab.services("a"), lab.count("a", "start res"), lab.count("a", "stop res")), (service, 1, 0));
}

// Stopped and continued

#[test]
fn a_main_daemon_that_stands_still_costs_its_service_nothing_and_goes_on() {
    let lab = calm_trio().loopback();
    lab.run_standard();
    let service = lab.services("a");
    process::freeze(lab.pid("a"));
    // The watchdog hears nothing any more and complains; the secondary hears the primary's worker and stays what it is.
    wait_for("the watchdog complains", || lab.res("w").complaints > 4);
    logged(&lab, "b", "a takeover needs more than 3; staying secondary: a primary is connected");
    lab.signal("a", Signal::CONT);
    lab.wait_status("w", "watchdog", "run");
    lab.wait_status("a", "primary", "run");
    assert_eq!((lab.services("a"), lab.count("a", "start res"), lab.count("a", "stop res")), (service, 1, 0));
    assert_eq!(lab.res("b").role, "secondary");
}

#[test]
fn a_worker_that_stands_still_for_a_while_is_told_of_and_goes_on() {
    let lab = pair().loopback();
    lab.run_standard();
    let (service, worker) = (lab.services("a"), worker(&lab));
    process::freeze(worker);
    logged(&lab, "b", "lost: no heartbeat for 400ms");
    logged(&lab, "a", "[WARNING] [res] the worker has said nothing for ");
    // It is asked of all the same.
    assert_eq!((lab.res("a").role.as_str(), lab.res("a").worker), ("primary", Some(worker)));
    process::signal(worker, Signal::CONT);
    logged(&lab, "a", "[INFO] [res] the worker speaks again");
    wait_for("it is connected again", || lab.res("a").remotes[0].1.as_deref() == Some("connected"));
    lab.wait_status("a", "primary", "run");
    assert_eq!((lab.services("a"), lab.count("a", "start res"), lab.count("a", "stop res")), (service, 1, 0));
}

#[test]
fn a_worker_that_stands_still_for_too_long_stops_its_resource_before_another_node_starts_it() {
    // Both know how long that is from their own settings: the other node has patience for longer than this test needs to end the freeze.
    let lab = trio().on("a", "complaint_count 7").on("b", "complaint_count 25").loopback();
    lab.run_standard();
    let worker = worker(&lab);
    process::freeze(worker);
    logged(&lab, "a", "the worker has said nothing for");
    process::signal(worker, Signal::CONT);
    // Nobody may have heard of it for longer than it takes to be replaced.
    logged(&lab, "a", "giving up the role primary: no remote was connected and nobody polled");
    wait_for("one of them runs it", || lab.running("a") + lab.running("b") == 1 && lab.count("a", "down res") > 0);
    lab.wait_status("w", "watchdog", "run");
    lab.assert_never_two();
}

#[test]
fn workers_of_secondary_and_watchdog_that_stand_still_go_on_where_they_were() {
    // Both at once, so nobody is heard of for longer than a primary goes on usually.
    let lab = trio().set("complaint_count", "300").loopback();
    lab.run_standard();
    let find = |(node, title)| (node, lab.worker(node, title).unwrap());
    let workers = [("b", "hastmon: res (secondary)"), ("w", "hastmon: res (watchdog)")].map(find);
    for (_, worker) in workers {
        process::freeze(worker);
    }
    for (node, worker) in workers {
        logged(&lab, node, "the worker has said nothing for");
        process::signal(worker, Signal::CONT);
        logged(&lab, node, "the worker speaks again");
        assert_eq!(lab.res(node).worker, Some(worker));
    }
    wait_for("they are connected again", || lab.res("a").remotes[0].1.as_deref() == Some("connected"));
    lab.wait_status("w", "watchdog", "run");
    assert_eq!(
        (lab.count("a", "start res"), lab.count("b", "start res"), lab.res("b").role.as_str()),
        (1, 0, "secondary")
    );
}

// At any moment

/// How often it kills, and another seed, to be set by hand: HASTMON_TEST_ROUNDS=500 HASTMON_TEST_SEED=7.
const ROUNDS: u64 = 6;

fn set_by_hand(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// The processes of the service on a node, whether its script knows of them or not.
fn service_processes(lab: &Lab, node: &str) -> usize {
    let run = lab.node_dir(node).join("run");
    let is_service = |pid: &i32| {
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        program == "sleep\n" && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == run)
    };
    process::pids().iter().filter(|pid| is_service(pid)).count()
}

#[test]
fn killed_at_any_moment_nothing_runs_twice_or_side_by_side() {
    let lab = Plan::new(&["a", "b"])
        .set("heartbeat_interval", "100ms")
        .set("complaint_count", "1000")
        .set("attempts", "1000")
        .on("a", "role_on_start primary")
        .on("b", "role_on_start secondary")
        .loopback();
    watch_for_calls_side_by_side(&lab, "a");
    lab.start_all();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ set_by_hand("HASTMON_TEST_SEED").unwrap_or(0));
    for round in 0..set_by_hand("HASTMON_TEST_ROUNDS").unwrap_or(ROUNDS) {
        let what = dice.roll(4);
        // In every second round the resource is down, so that the kill may hit its start.
        if round % 2 == 0 && lab.running("a") == 1 {
            lab.kill_service("a", "res");
        }
        pause(Duration::from_millis(dice.roll(500)));
        let worker = lab.worker("a", PRIMARY);
        eprintln!("round {round}: kills {what} at {:.2}", seconds(now_ns()));
        match (what, worker) {
            (0, Some(worker)) => process::signal(worker, Signal::KILL),
            (1, Some(worker)) => kill_both(&lab, worker),
            (2, Some(worker)) => {
                process::children(worker).into_iter().for_each(|hook| process::signal(hook, Signal::KILL))
            }
            _ => lab.kill("a"),
        }
        if !lab.is_up("a") {
            lab.start("a");
        }
        wait_for("it runs again", || {
            assert!(service_processes(&lab, "a") <= 1, "it runs twice: {:?}", lab.calls("a"));
            lab.running("a") == 1 && lab.res("a").state.as_deref() == Some("run")
        });
    }
    assert_none_side_by_side(&lab, "a");
    assert_eq!(lab.running("b"), 0);
    // Every start of the resource followed its end.
    let mut runs = false;
    for event in lab.events().iter().filter(|event| event.node == "a") {
        match event.what.as_str() {
            "up" => assert!(!std::mem::replace(&mut runs, true), "started twice: {:?}", lab.calls("a")),
            // A stop that was killed may have done its work and not said so.
            "down" | "died" | "stop" => runs = false,
            _ => {}
        }
    }
}
