//! The end of a daemon: what it stops, in what time, what its peers see of it, and that it leaves nothing behind.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::lab::{Lab, Plan};
use crate::support::process;
use crate::support::time::{now_ns, seconds, stays, wait_for, wait_some};

/// A hook that runs until it is told to end, together with a child, and says so.
const HANGS: &str = "trap 'log terminated; exit 1' TERM; log hung; sleep 1000 & wait";

/// What the end of a daemon leaves in its directory: the laboratory's own files, and nothing else.
#[track_caller]
fn assert_clean(lab: &Lab, node: &str) {
    let theirs = ["run", "before", "res.sh", "log"];
    let entries = fs::read_dir(lab.node_dir(node)).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    let left: Vec<&String> = names.iter().filter(|name| !theirs.contains(&name.as_str())).collect();
    assert!(left.is_empty(), "left on {node}: {left:?}");
}

/// Tells a daemon to end, and waits for it: exit code and seconds.
fn stop(lab: &Lab, node: &str) -> (i32, f64) {
    let start = now_ns();
    let code = lab.stop(node);
    (code, seconds(now_ns() - start))
}

/// When something was done first on a node.
fn first(lab: &Lab, node: &str, call: &str) -> u64 {
    wait_some(&format!("`{call}` on {node}"), || {
        lab.events().into_iter().find(|event| event.node == node && event.call() == call).map(|event| event.at_ns)
    })
}

#[test]
fn an_end_stops_what_runs_and_leaves_no_file_and_no_process() {
    let lab = Plan::new(&["a", "b", "w"]).resources(["one", "two"].map(str::to_owned)).loopback();
    lab.run_standard();
    wait_for("both run", || lab.running("a") == 2);
    for (node, signal) in [("a", Signal::TERM), ("w", Signal::INT), ("b", Signal::TERM)] {
        assert!(lab.pidfile(node).exists() && lab.control_socket(node).exists());
        lab.signal(node, signal);
        assert_eq!(lab.ended(node), 0);
        // At once, not after a while.
        assert_eq!(lab.everything(node), [0; 0], "{node}");
        assert_clean(&lab, node);
    }
    assert_eq!((lab.count("a", "down one"), lab.count("a", "down two")), (1, 1));
}

#[test]
fn the_other_side_sees_the_end_of_a_connection_at_once_and_not_by_silence() {
    // Silence would be noticed after 20 s.
    let lab = Plan::new(&["a", "b"]).set("heartbeat_interval", "10").set("timeout", "30").loopback();
    lab.run_standard();
    // The script takes note after the connection is closed.
    ["a", "b"].iter().for_each(|node| lab.before(node, "disconnect", "trap 'log noted' EXIT; sleep 3"));
    assert_eq!(lab.stop("b"), 0);
    assert!(first(&lab, "a", "disconnect res") < first(&lab, "b", "noted"));
    lab.start("b");
    lab.role("b", "secondary");
    wait_for("connected again", || lab.res("a").remotes[0].1.as_deref() == Some("connected"));
    let start = now_ns();
    assert_eq!(lab.stop("a"), 0);
    let (down, seen) = (first(&lab, "a", "down res"), lab.wait_after(start, "b", "disconnect res"));
    assert!(seen >= down, "the connection stays until the resource is stopped");
    assert!(seen < lab.wait_after(start, "a", "noted"), "{:.2} s after the resource's end", seconds(seen - down));
}

/// A cluster whose node a takes longer to stop than b bears silence and complaints.
fn slow_to_stop() -> Lab {
    let lab = Plan::new(&["a", "b", "w"]).set("complaint_count", "2").in_resource("stop_timeout 10").loopback();
    lab.before("a", "stop", "sleep 5");
    lab.run_standard();
    lab
}

/// That it is started again, and only after it has ended on a.
fn taken_over_in_time(lab: &Lab) {
    wait_for("it is started a second time", || lab.events().iter().filter(|event| event.what == "up").count() == 2);
    let calls: Vec<String> = lab.events().iter().map(|event| event.what.clone()).collect();
    let changes: Vec<&String> = calls.iter().filter(|call| ["up", "down"].contains(&call.as_str())).collect();
    assert_eq!(changes, ["up", "down", "up"]);
    lab.assert_never_two();
}

#[test]
fn nobody_takes_over_from_a_daemon_that_is_slow_to_stop() {
    let lab = slow_to_stop();
    lab.signal("a", Signal::TERM);
    taken_over_in_time(&lab);
    assert_eq!(lab.ended("a"), 0);
}

#[test]
fn nobody_takes_over_from_a_node_that_is_slow_to_give_up_its_role() {
    let lab = slow_to_stop();
    lab.role("a", "secondary");
    taken_over_in_time(&lab);
}

#[test]
fn nobody_takes_over_from_the_worker_of_a_killed_daemon_while_it_stops() {
    let lab = slow_to_stop();
    lab.kill("a");
    taken_over_in_time(&lab);
}

#[test]
fn a_second_signal_ends_the_daemon_at_once_and_the_workers_do_the_rest() {
    let lab = Plan::new(&["a", "b", "w"]).in_resource("stop_timeout 3").loopback();
    lab.before("a", "stop", "log stopping; while [ ! -e $dir/go-on ]; do sleep 0.05; done");
    lab.run_standard();
    lab.signal("a", Signal::TERM);
    lab.wait_call("a", "stopping", 1);
    assert!(lab.is_up("a"));
    let (code, took) = stop(&lab, "a");
    assert_eq!(code, 0);
    // The `stop` would have gone on for its stop_timeout, 30 s.
    assert!(took < 15.0, "it took {took:.1} s");
    assert_eq!(lab.running("a"), 1, "its worker is not done yet");
    assert!(!lab.pidfile("a").exists() && !lab.control_socket("a").exists());
    // The next one can start at once; its worker waits, and says what for.
    lab.start("a");
    lab.role("a", "primary");
    wait_for("it is said", || lab.log_text("a").contains("MAY STILL RUN"));
    stays(Duration::from_secs(1), "the resource is still being stopped", || lab.count("a", "up res") == 1);
    fs::write(lab.node_dir("a").join("go-on"), "").unwrap();
    lab.wait_call("a", "down res", 1);
    // Not in the middle of `start`: a script that is cut short there may leave what `stop` does not find.
    lab.wait_status("a", "primary", "run");
    assert_eq!(lab.count("a", "up res"), 2);
    fs::remove_file(lab.node_dir("a").join("go-on")).unwrap();
    // Once more, to see that nothing is left when the workers have ended on their own.
    lab.signal("a", Signal::INT);
    lab.wait_call("a", "stopping", 2);
    lab.signal("a", Signal::TERM);
    assert_eq!(lab.ended("a"), 0);
    fs::write(lab.node_dir("a").join("go-on"), "").unwrap();
    wait_for("nothing is left", || lab.everything("a").is_empty());
    fs::remove_file(lab.node_dir("a").join("go-on")).unwrap();
    assert_clean(&lab, "a");
}

#[test]
fn a_start_that_hangs_does_not_hold_up_the_end() {
    let lab = Plan::new(&["a", "b"]).in_resource("start_timeout 600").loopback();
    lab.before("a", "start", &format!("{HANGS}; exit 1"));
    lab.start_all();
    lab.standard_roles();
    lab.wait_call("a", "hung", 1);
    let (code, took) = stop(&lab, "a");
    assert_eq!((code, lab.count("a", "terminated"), lab.count("a", "stop res")), (0, 1, 1));
    // TERM, and KILL after 2 s at the latest; not its start_timeout.
    assert!(took < 20.0, "it took {took:.1} s");
    assert_eq!(lab.everything("a"), [0; 0]);
    assert_clean(&lab, "a");
}

#[test]
fn a_stop_that_hangs_ends_in_a_bounded_time_with_a_loud_word() {
    let lab = Plan::new(&["a", "b"]).in_resource("stop_timeout 500ms").loopback();
    lab.before("a", "stop", HANGS);
    lab.run_standard();
    lab.may_overlap();
    let (code, took) = stop(&lab, "a");
    assert_eq!(code, 0);
    // Three times stop_timeout and a status; each hook is told to end and obeys.
    // And not stop_timeout as it is without being set, 30 s.
    assert!(took < 25.0, "it took {took:.1} s");
    assert_eq!(lab.count("a", "terminated"), 3);
    assert!(lab.log_text("a").contains("MAY STILL RUN"), "{}", lab.log_text("a"));
    assert_clean(&lab, "a");
}

#[test]
fn fifty_resources_are_stopped_at_the_same_time() {
    const COUNT: usize = 50;
    let names = (0..COUNT).map(|number| format!("r{number}"));
    let lab = Plan::new(&["a", "b"])
        .resources(names)
        .set("heartbeat_interval", "3")
        .set("timeout", "20")
        .in_resource("stop_timeout 9")
        .files()
        .loopback();
    lab.start("a");
    lab.before("a", "stop", "sleep 2");
    lab.role("a", "primary");
    wait_for("all run", || lab.running("a") == COUNT);
    let (code, took) = stop(&lab, "a");
    assert_eq!((code, lab.running("a")), (0, 0));
    assert!(took < 25.0, "it took {took:.1} s");
    assert_clean(&lab, "a");
}

#[test]
fn fifty_workers_that_have_hardly_begun_end_as_well() {
    let names = (0..50).map(|number| format!("r{number}"));
    let lab = Plan::new(&["a", "b"]).resources(names).files().loopback();
    lab.start("a");
    lab.role("a", "primary");
    let (code, took) = stop(&lab, "a");
    assert_eq!((code, lab.running("a")), (0, 0));
    assert!(took < 25.0, "it took {took:.1} s");
    assert_eq!(lab.everything("a"), [0; 0]);
    assert_clean(&lab, "a");
}

#[test]
fn an_end_in_the_middle_of_a_change_of_role_waits_for_no_script_that_only_takes_note() {
    let lab = Plan::new(&["a", "b"]).in_resource("hook_timeout 600").loopback();
    lab.before("a", "disconnect", HANGS);
    lab.run_standard();
    lab.role("a", "secondary");
    lab.wait_call("a", "hung", 1);
    let (code, took) = stop(&lab, "a");
    assert_eq!((code, lab.running("a")), (0, 0));
    assert!(took < 20.0, "it took {took:.1} s");
    assert_clean(&lab, "a");
    lab.before("b", "role", HANGS);
    lab.role("b", "primary");
    lab.wait_call("b", "hung", 1);
    let (code, took) = stop(&lab, "b");
    assert_eq!(code, 0);
    assert!(took < 20.0, "it took {took:.1} s");
    assert_eq!(lab.everything("b"), [0; 0]);
    assert_clean(&lab, "b");
}

#[test]
fn a_worker_that_is_killed_while_it_stops_is_followed_by_one_that_does() {
    // Without a lease nothing but many complaints keeps b from taking over meanwhile.
    let lab = Plan::new(&["a", "b", "w"]).in_resource("stop_timeout 3").set("complaint_count", "300").loopback();
    lab.run_standard();
    lab.before("a", "stop", "[ -e $dir/tried ] || { : >$dir/tried; log hung; exec sleep 1000; }");
    lab.signal("a", Signal::TERM);
    lab.wait_call("a", "hung", 1);
    let worker = lab.worker("a", "hastmon: res (primary)").unwrap();
    process::signal(worker, Signal::KILL);
    assert_eq!(lab.ended("a"), 0);
    assert_eq!((lab.running("a"), lab.count("a", "down res")), (0, 1));
    fs::remove_file(lab.node_dir("a").join("tried")).unwrap();
    assert_clean(&lab, "a");
}

#[test]
fn what_could_not_be_stopped_is_stopped_in_the_role_init_as_soon_as_that_works() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.run_standard();
    lab.before("a", "stop", "exit 1");
    lab.role("a", "init");
    wait_for("it was tried in vain, and tried again", || lab.log_text("a").matches("MAY STILL RUN").count() >= 2);
    assert_eq!((lab.running("a"), lab.res("a").role.as_str()), (1, "init"));
    lab.as_usual("a", "stop");
    lab.wait_call("a", "down res", 1);
    lab.wait_call("a", "role res primary init", 1);
    wait_for("no worker is left", || lab.workers("a").is_empty());
    assert_eq!(lab.stop("a"), 0);
    assert_clean(&lab, "a");
}

#[test]
fn what_a_killed_worker_has_left_is_stopped_when_its_role_has_nobody_who_would() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.run_standard();
    for (times, role) in ["init", "watchdog"].into_iter().enumerate() {
        lab.role("a", "primary");
        lab.wait_status("a", "primary", "run");
        process::signal(lab.worker("a", "hastmon: res (primary)").unwrap(), Signal::KILL);
        lab.role("a", role);
        lab.wait_call("a", "down res", times + 1);
        let expected: &[&str] = if role == "init" { &[] } else { &["hastmon: res (watchdog)"] };
        wait_for("the role is taken up", || lab.workers("a") == expected);
    }
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    process::signal(lab.worker("a", "hastmon: res (primary)").unwrap(), Signal::KILL);
    wait_for("it is gone", || lab.workers("a").is_empty());
    assert_eq!(lab.stop("a"), 0);
    assert_eq!((lab.running("a"), lab.count("a", "down res")), (0, 3));
    assert_clean(&lab, "a");
}

#[test]
fn nothing_is_left_of_a_worker_that_was_killed_and_has_no_successor() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.start("w");
    lab.role("w", "watchdog");
    let worker = wait_some("it works", || lab.res("w").state.and_then(|_| lab.worker("w", "hastmon: res (watchdog)")));
    process::signal(worker, Signal::KILL);
    wait_for("it is gone", || lab.workers("w").is_empty());
    assert_eq!(lab.stop("w"), 0);
    assert_clean(&lab, "w");
}

#[test]
fn a_secondary_that_is_stopping_what_it_found_is_given_the_time() {
    let lab = Plan::new(&["a", "b"]).in_resource("stop_timeout 10").loopback();
    lab.start("b");
    lab.before("b", "stop", "log stopping; sleep 3");
    let mut start = std::process::Command::new(lab.script("b"));
    start.args(["start", "res"]).env(process::MARK, lab.node_dir("b"));
    assert_eq!(crate::support::lab::run(&mut start).code, 0);
    lab.role("b", "secondary");
    lab.wait_call("b", "stopping", 1);
    assert_eq!(lab.stop("b"), 0);
    assert_eq!((lab.running("b"), lab.count("b", "down res")), (0, 1));
    assert_clean(&lab, "b");
}

#[test]
fn a_daemon_that_ends_takes_no_more_roles_and_still_answers() {
    let lab = Plan::new(&["a", "b"]).in_resource("stop_timeout 3").loopback();
    lab.run_standard();
    lab.before("a", "stop", "log stopping; while [ ! -e $dir/go-on ]; do sleep 0.05; done");
    lab.signal("a", Signal::TERM);
    lab.wait_call("a", "stopping", 1);
    lab.wait_status("a", "primary", "stopping");
    let output = lab.ctl("a", &["role", "secondary", "res"]);
    assert_eq!((output.code, output.stderr.as_str()), (1, "[WARNING] [res] Received error 2 from hastmon.\n"));
    fs::write(lab.node_dir("a").join("go-on"), "").unwrap();
    assert_eq!(lab.ended("a"), 0);
}
