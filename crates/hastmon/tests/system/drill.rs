//! `hastmonctl drill`, and the switchover to the node that asks for it, which brings the resource back.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::lab::{Lab, Output, Plan, hastmonctl, run};
use crate::support::time::{now_ns, pause, wait_for};

const REFUSED: i32 = 1;
const USAGE: i32 = 64;

fn plan() -> Plan {
    Plan::new(&["a", "b", "w"]).lease().set("lease", "5").set("stop_timeout", "5")
}

/// `a` runs the resource, and has heard that `b` is ready.
fn running(lab: Lab) -> Lab {
    lab.run_standard();
    lab.wait_status("b", "secondary", "stopped");
    // What is refused changes nothing.
    wait_for("all are in reach and b is heard", || {
        let known = lab.ctl("a", &["status", "--json"]).stdout;
        let known: Value = serde_json::from_str(&known).unwrap();
        known["resources"][0]["votes"] == 3
    });
    lab
}

/// `-n` is the number of rounds here.
fn drill(lab: &Lab, node: &str, arguments: &[&str]) -> Output {
    run(Command::new(hastmonctl()).args(["drill", "--node", node, "-c"]).arg(lab.config()).args(arguments))
}

/// The node where it runs is heard from at every heartbeat: a drill is refused at first as a switchover is.
fn drill_when_ready(lab: &Lab, node: &str, arguments: &[&str]) -> Output {
    let mut last = None;
    wait_for("the drill is not refused", || {
        let output = drill(lab, node, arguments);
        let is_early = output.stderr.contains("is unknown on") || output.stderr.contains("is not connected");
        last = Some(output);
        !is_early
    });
    last.unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn three_rounds_there_and_back_leave_it_where_it_was() {
    let lab = running(plan().loopback());
    let start = now_ns();
    let output = drill_when_ready(&lab, "a", &["-y", "-n", "3", "res"]);
    assert_eq!(output.code, 0, "{output:?}");
    for part in [
        "round 1, there (to b): ",
        "  stopped here: ",
        "  runs on b: ",
        "round 3, back (to a): ",
        "  stopped on b: ",
        "  lease given back for this node: ",
        "  this node holds the lease: ",
        "  runs here: ",
        "Interruption, from stopped to running again:\n  there  least ",
        "3 of 3 rounds. res runs on a, where it was.\n",
    ] {
        assert!(output.stdout.contains(part), "{part}: {output:?}");
    }
    lab.wait_status("a", "primary", "run");
    lab.wait_status("b", "secondary", "stopped");
    assert_eq!((lab.count("b", "start res"), lab.count("b", "stop res")), (3, 3));
    assert!(lab.wait_after(start, "a", "down res") <= lab.wait_after(start, "b", "up res"));
}

#[test]
fn a_node_that_is_worse_or_equal_gets_it_back_as_well() {
    for (a, b) in [(7, 1), (3, 3)] {
        let lab = running(plan().priority("a", a).priority("b", b).loopback());
        let output = drill_when_ready(&lab, "a", &["--yes", "-n", "2", "--json", "res", "b"]);
        assert_eq!(output.code, 0, "{output:?}");
        let value = json(&output);
        assert_eq!((&value["schema"], &value["outcome"]), (&Value::from(1), &Value::from("done")), "{value:#}");
        assert_eq!((&value["completed"], &value["runs_on"]), (&Value::from(2), &Value::from("a")), "{value:#}");
        let legs = value["legs"].as_array().unwrap();
        assert_eq!(legs.len(), 4);
        for leg in legs {
            assert_eq!(leg["measured"], true, "{leg:#}");
            let names: Vec<&Value> = leg["steps"].as_array().unwrap().iter().map(|step| &step["name"]).collect();
            assert_eq!(names, ["stop", "release", "win", "start"], "{leg:#}");
        }
        assert_eq!(value["interruption"]["back"]["count"], 2, "{value:#}");
        lab.wait_status("a", "primary", "run");
    }
}

#[test]
fn a_drill_on_a_node_that_is_not_primary_is_refused() {
    let lab = running(plan().loopback());
    for (node, why) in [("b", "b is secondary and not primary: run the drill on a"), ("w", "w is watchdog")] {
        wait_for("it is known who runs it", || {
            let output = drill(&lab, node, &["-y", "res"]);
            assert_eq!(output.code, REFUSED, "{output:?}");
            output.stderr.contains(why) && output.stderr.contains("Nothing was done")
        });
    }
    let output = drill(&lab, "a", &["-y", "nosuch"]);
    assert!(output.code == REFUSED && output.stderr.contains("no resource nosuch"), "{output:?}");
    wait_for("a has heard what w is", || {
        let output = drill(&lab, "a", &["-y", "res", "w"]);
        assert_eq!(output.code, REFUSED, "{output:?}");
        output.stderr.contains("w is watchdog and not secondary")
    });
    let output = drill(&lab, "a", &["-n", "3", "res"]);
    assert_eq!(output.code, USAGE, "{output:?}");
    assert!(output.stderr.contains("6 switchovers") && output.stderr.contains("add --yes"), "{output:?}");
    // The history is where the configuration says.
    let statedir = lab.state_dir("a").display().to_string();
    lab.write_config(&format!("statedir \"{statedir}\"\n{}", lab.standard_config()));
    let output = drill(&lab, "a", &["res"]);
    assert!(output.code == USAGE && output.stderr.contains("here they took, last: start "), "{output:?}");
    assert_eq!((lab.count("a", "stop res"), lab.running("a")), (0, 1));
}

#[test]
fn a_start_that_fails_there_ends_the_drill_and_the_resource_is_back() {
    let lab = plan().set("attempts", "2").loopback();
    lab.before("b", "start", "exit 1");
    let lab = running(lab);
    let output = drill_when_ready(&lab, "a", &["-y", "-n", "3", "res", "b"]);
    assert_eq!(output.code, REFUSED, "{output:?}");
    assert!(output.stdout.contains("round 1, there (to b): FAILED\n"), "{output:?}");
    assert!(output.stdout.contains("0 of 3 rounds. res runs on a, where it was."), "{output:?}");
    assert!(output.stderr.contains("b could not start it"), "{output:?}");
    lab.wait_status("a", "primary", "run");
    assert_eq!((lab.count("a", "start res"), lab.running("b")), (2, 0));
}

#[test]
fn a_start_that_fails_here_leaves_it_there_and_says_what_to_do() {
    let lab = running(plan().set("attempts", "2").loopback());
    lab.before("a", "start", "exit 1");
    let output = drill_when_ready(&lab, "a", &["-y", "-n", "3", "res"]);
    assert_eq!(output.code, REFUSED, "{output:?}");
    assert!(output.stdout.contains("round 1, back (to a): FAILED\n"), "{output:?}");
    assert!(output.stderr.contains("this node has not started it, b has"), "{output:?}");
    let what_to_do = "res runs on b. To bring it back, here: hastmonctl switchover res a";
    assert!(output.stderr.contains(what_to_do), "{output:?}");
    lab.wait_status("b", "primary", "run");
    lab.as_usual("a", "start");
    // What it says works, however often a has failed.
    wait_for("a is ready", || lab.ctl("a", &["switchover", "res", "a"]).code == 0);
    lab.wait_status("a", "primary", "run");
}

#[test]
fn a_node_whose_starts_have_failed_gets_it_at_once_when_an_operator_wants_it_there() {
    let lab = plan().set("attempts", "2").set("complaint_interval", "1000").loopback();
    lab.before("b", "start", "exit 1");
    let lab = running(lab);
    let to_b = || lab.ctl("a", &["switchover", "res", "b"]);
    wait_for("b has tried", || to_b().stderr.contains("b could not start it"));
    lab.wait_status("a", "primary", "run");
    lab.as_usual("b", "start");
    wait_for("b is ready", || to_b().code == 0);
    lab.wait_status("b", "primary", "run");
    assert_eq!(lab.count("a", "stop res"), 2, "the second time it went there at once");
}

#[test]
fn a_drill_that_is_interrupted_brings_the_resource_back_first() {
    let lab = plan().set("lease", "10").set("stop_timeout", "10").loopback();
    lab.before("a", "stop", "sleep 2");
    let lab = running(lab);
    // A heartbeat later b is known to be ready.
    pause(Duration::from_secs(2));
    let mut drill = Command::new(hastmonctl());
    drill.args(["drill", "--node", "a", "-y", "-n", "5", "-c"]).arg(lab.config()).arg("res");
    let drill = drill.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    lab.wait_call("a", "stop res", 1);
    kill_process(Pid::from_raw(i32::try_from(drill.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let output = drill.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(REFUSED), "{stdout}{stderr}");
    assert!(stdout.contains("1 of 5 rounds. res runs on a, where it was."), "{stdout}{stderr}");
    assert!(stderr.contains("Interrupted after 1 of 5 rounds"), "{stdout}{stderr}");
    lab.wait_status("a", "primary", "run");
    assert_eq!((lab.count("b", "start res"), lab.running("b")), (1, 0));
}

#[test]
fn a_secondary_that_wants_it_for_itself_gets_it_from_a_better_one() {
    let lab = running(plan().loopback());
    wait_for("it is ready", || {
        let output = lab.ctl("b", &["switchover", "res", "b"]);
        if output.code == 0 {
            for step in ["stopped on a", "lease given back for this node", "this node holds the lease", "runs here"] {
                assert!(output.stdout.contains(step), "{step}: {output:?}");
            }
        }
        output.code == 0
    });
    lab.wait_status("b", "primary", "run");
    lab.wait_status("a", "secondary", "stopped");
    let output = lab.ctl("b", &["switchover", "res", "b"]);
    assert!(output.code == REFUSED && output.stderr.contains("this node is primary already"), "{output:?}");
    let output = lab.ctl("w", &["switchover", "res", "w"]);
    assert!(output.code == REFUSED && output.stderr.contains("this node is watchdog"), "{output:?}");
    wait_for("it is in the history of the node that gave it", || {
        lab.ctl_history("a", &[]).contains("b asks: switchover b")
    });
}
