//! What has happened, as the history tells it: it is on disk when the daemon is dead, and nothing waits for it.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::hosts::are_skipped;
use crate::support::lab::{Lab, Plan, hastmonctl, run};
use crate::support::time::wait_for;

/// The events of a node, the oldest first.
fn events(lab: &Lab, node: &str) -> Vec<Value> {
    let output = run(Command::new(hastmonctl()).args(["history", "--json", "-s"]).arg(lab.state_dir(node)));
    assert_eq!(output.code, 0, "{}", output.stderr);
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind(events: &[Value], kind: &str) -> Vec<Value> {
    events.iter().filter(|event| event["kind"] == kind).map(|event| event["detail"].clone()).collect()
}

fn waits_for(lab: &Lab, node: &str, kind: &str, what: impl Fn(&Value) -> bool) {
    wait_for(&format!("{kind} on {node}"), || of_kind(&events(lab, node), kind).iter().any(&what));
}

#[test]
fn a_takeover_is_told_on_all_nodes_with_its_reason_votes_hooks_and_commands() {
    let lab = Plan::new(&["a", "b", "w"]).lease().loopback();
    lab.before("a", "start", "echo mounting; echo no such device >&2");
    lab.run_standard();
    lab.power_off("a");
    lab.wait_status("b", "primary", "run");

    // The daemon of `a` is dead: the files speak.
    let told = events(&lab, "a");
    let commands = of_kind(&told, "commanded");
    let role = commands.iter().find(|asked| asked["command"] == "role primary").expect("the command is told");
    let uid = rustix::process::getuid().as_raw();
    assert!(role["who"].as_str().unwrap().starts_with(&format!("hastmonctl (uid {uid}, pid ")), "{role}");
    assert!(of_kind(&told, "role_changed").iter().any(|change| change["new"] == "primary"));
    let start = of_kind(&told, "hook_ended").into_iter().find(|ended| ended["hook"] == "start").expect("start is told");
    assert_eq!((&start["outcome"]["ended"]["code"], start["took_ms"].is_number()), (&Value::from(0), true));
    assert_eq!(start["output"].as_array().unwrap().iter().filter(|line| *line == "no such device").count(), 1);
    assert!(!of_kind(&told, "vote_given").is_empty() && !of_kind(&told, "lease_won").is_empty());
    let last = told.last().unwrap();
    assert_eq!((&last["node"], last["epoch"].as_u64().is_some()), (&Value::from("a"), true));
    assert!(told.windows(2).all(|pair| pair[0]["seq"].as_u64() < pair[1]["seq"].as_u64()));

    waits_for(&lab, "b", "role_changed", |change| change["reason"]["takeover"]["complaints"].as_u64() > Some(3));
    waits_for(&lab, "b", "complaint_heard", |_| true);
    waits_for(&lab, "b", "peer_gone", |gone| gone["node"] == "a");
    waits_for(&lab, "w", "complaining", |_| true);
    waits_for(&lab, "w", "vote_freed", |freed| freed["holder"] == "a" && freed["why"] == "expired");
    waits_for(&lab, "w", "vote_given", |given| given["to"] == "b");
    waits_for(&lab, "b", "hook_ended", |ended| ended["hook"] == "start");

    let text = lab.ctl_history("b", &["--since", "1h", "--resource", "res"]);
    let takeover = text.lines().find(|line| line.contains("taking over: no connection from a primary")).unwrap();
    assert!(takeover.contains(" b [INFO] [res] role changed from secondary to primary"), "{takeover}");
}

#[test]
fn a_switchover_is_told_with_who_asked_and_the_lease_that_went() {
    let lab = Plan::new(&["a", "b", "w"]).lease().loopback();
    lab.run_standard();
    // As soon as a has heard that b is ready.
    wait_for("it is handed over", || lab.ctl("a", &["switchover", "res", "b"]).code == 0);
    waits_for(&lab, "a", "lease_released", |released| released["successor"] == "b");
    waits_for(&lab, "a", "commanded", |asked| asked["command"] == "switchover b");
    waits_for(&lab, "a", "role_changed", |change| change["reason"]["gave_up"]["handed_over"]["to"] == "b");
    waits_for(&lab, "a", "vote_freed", |freed| freed["holder"] == "a" && freed["why"] == "released");
    waits_for(&lab, "b", "lease_won", |won| won["votes"].as_u64() >= Some(2));
    assert_eq!(lab.ctl("a", &["reload"]).code, 0);
    waits_for(&lab, "a", "reloaded", |_| true);
}

#[test]
fn the_history_outlives_restarts_and_a_torn_end_and_the_last_events_can_be_asked_for() {
    let lab = Plan::new(&["a"]).loopback();
    for _ in 0..2 {
        lab.start("a");
        assert_eq!(lab.stop("a"), 0);
    }
    let before = events(&lab, "a");
    assert_eq!(of_kind(&before, "daemon_started").len(), 2);
    assert_eq!(before.last().unwrap()["kind"], "daemon_stopped");
    let segment = lab.state_dir("a").join("history.0000000001");
    let size = fs::metadata(&segment).unwrap().len();
    fs::File::options().write(true).open(&segment).unwrap().set_len(size - 5).unwrap();
    lab.start("a");
    lab.kill("a");
    let after = events(&lab, "a");
    assert_eq!((of_kind(&after, "daemon_started").len(), of_kind(&after, "daemon_stopped").len()), (3, 1));
    let last = lab.ctl_history("a", &["-n", "1"]);
    assert_eq!((last.lines().count(), lab.ctl_history("a", &["-n", "0"])), (1, String::new()));
    assert_eq!(last, lab.ctl_history("a", &[]).lines().last().map(|line| format!("{line}\n")).unwrap());
}

#[test]
fn who_follows_the_history_sees_what_happens_also_after_a_restart() {
    let lab = Plan::new(&["a"]).loopback();
    lab.start("a");
    let path = lab.dir().join("followed");
    let mut follower = Command::new(hastmonctl())
        .args(["history", "-f", "-s"])
        .arg(lab.state_dir("a"))
        .stdout(fs::File::create(&path).unwrap())
        .spawn()
        .unwrap();
    let sees = |what: &str, times: usize| {
        wait_for(&format!("'{what}' is seen"), || fs::read_to_string(&path).unwrap().matches(what).count() == times);
    };
    sees("started on node a", 1);
    lab.role("a", "secondary");
    sees("[res] role changed from init to secondary: asked by hastmonctl (uid ", 1);
    assert_eq!(lab.stop("a"), 0);
    sees("hastmon stopped", 1);
    lab.start("a");
    sees("started on node a", 2);
    follower.kill().unwrap();
    follower.wait().unwrap();
}

/// A disk of 256 KiB for the state directory.
fn on_a_small_disk(lab: &Lab, node: &str) -> Vec<String> {
    let state = lab.state_dir(node);
    fs::create_dir_all(&state).unwrap();
    let prepare = format!("mount -t tmpfs -o size=256k,mode=700 none {} && exec \"$@\"", state.display());
    ["unshare", "--mount", "--propagation", "private", "sh", "-c", &prepare, "sh"].map(str::to_owned).into()
}

#[test]
fn a_full_disk_is_told_once_and_everything_goes_on_and_the_history_when_there_is_room() {
    if are_skipped() {
        return;
    }
    let lab = Plan::new(&["a"]).lease().set("heartbeat_interval", "200ms").loopback();
    let wrapper = on_a_small_disk(&lab, "a");
    lab.start_under("a", &wrapper.iter().map(String::as_str).collect::<Vec<_>>());
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    let disk = Path::new(&format!("/proc/{}/root", lab.pid("a"))).join(lab.state_dir("a").strip_prefix("/").unwrap());
    let _ = fs::write(disk.join("filler"), vec![0; 1 << 20]);
    let mut rounds = 0;
    wait_for("the trouble is told", || {
        rounds += 1;
        lab.ctl("a", &["reload"]);
        lab.log_text("a").contains("the history is not written, everything else goes on: cannot write it to")
    });
    for _ in 0..20 {
        lab.ctl("a", &["reload"]);
    }
    lab.wait_status("a", "primary", "run");
    assert_eq!(lab.log_text("a").matches("the history is not written").count(), 1);
    fs::remove_file(disk.join("filler")).unwrap();
    wait_for("it is written again", || {
        lab.ctl("a", &["reload"]);
        lab.log_text("a").contains("the history is written again")
    });
    let output = run(Command::new(hastmonctl()).args(["history", "-n", "5", "-s"]).arg(&disk));
    assert!(output.stdout.contains("the configuration is in force"), "{}", output.stdout);
    assert_eq!((lab.count("a", "start res"), lab.count("a", "stop res")), (1, 0));
}

#[test]
fn a_history_of_its_size_is_no_larger_and_none_is_written_where_none_is_wanted() {
    let lab = Plan::new(&["a", "b"]).set("history", "64k").on("b", "history 0\n").loopback();
    lab.start_all();
    for _ in 0..150 {
        lab.role("a", "secondary");
        lab.role("a", "init");
        lab.role("b", "secondary");
        lab.role("b", "init");
    }
    let size = |node: &str| {
        let files = fs::read_dir(lab.state_dir(node)).unwrap().map(Result::unwrap);
        let of_history = files.filter(|file| file.file_name().to_string_lossy().starts_with("history."));
        of_history.map(|file| file.metadata().unwrap().len()).sum::<u64>()
    };
    wait_for("the oldest events are gone", || !events(&lab, "a").iter().any(|event| event["kind"] == "daemon_started"));
    assert!((32 << 10..=64 << 10).contains(&size("a")), "{}", size("a"));
    assert_eq!((size("b"), lab.ctl_history("b", &[])), (0, String::new()));
    lab.signal("a", Signal::TERM);
    wait_for("it has ended", || !lab.is_up("a"));
}

#[test]
fn another_size_takes_effect_with_a_reload() {
    let lab = Plan::new(&["a"]).loopback();
    lab.start("a");
    let reload = |history: &str| {
        lab.write_config(&format!("history {history}\n{}", lab.standard_config()));
        assert_eq!(lab.ctl("a", &["reload"]).code, 0);
    };
    reload("0");
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    reload("64k");
    lab.role("a", "init");
    waits_for(&lab, "a", "role_changed", |change| change["new"] == "init");
    let told = events(&lab, "a");
    assert!(of_kind(&told, "role_changed").iter().all(|change| change["new"] != "secondary"));
    assert_eq!(of_kind(&told, "daemon_started").len(), 1, "what was there is left alone");
    // What happened meanwhile has its numbers: it is seen that something is missing.
    let gaps = told.windows(2).filter(|pair| pair[0]["seq"].as_u64().unwrap() + 1 < pair[1]["seq"].as_u64().unwrap());
    assert_eq!(gaps.count(), 1);
}

#[test]
fn a_time_that_is_none_and_a_directory_that_is_not_there_are_told() {
    let history = |arguments: &[&str]| run(Command::new(hastmonctl()).arg("history").args(arguments));
    let output = history(&["--since", "yesterday", "-s", "/"]);
    assert_eq!(output.code, 64);
    assert!(output.stderr.contains("\"yesterday\" is no time; it may be 30m, 2h, 3d"), "{}", output.stderr);
    let output = history(&["-s", "/nonexistent/state"]);
    assert_eq!(output.code, 66);
    assert!(output.stderr.contains("Cannot read the history in /nonexistent/state: No such file"), "{}", output.stderr);
}
