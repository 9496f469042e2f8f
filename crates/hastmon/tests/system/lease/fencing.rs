//! A node that is certainly off need not be waited for; and what is done about one that cannot stop.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{plan, wait_line, wait_says};
use crate::support::lab::Lab;
use crate::support::process;
use crate::support::time::{now_ns, seconds, wait_for};
use rustix::process::Signal;

/// What the record's clock cuts off, and the pace of clocks.
const BLUR: f64 = 0.05;

/// At which place of the record something stands for the `time`th time, counted from 1.
fn place(lab: &Lab, node: &str, call: &str, time: usize) -> Option<usize> {
    let events = lab.events();
    let mut found = events.iter().enumerate().filter(|(_, event)| event.node == node && event.call() == call);
    found.nth(time - 1).map(|(at, _)| at)
}

/// Of a dead primary whose votes bind for 80 s, which is longer than any test waits.
#[test]
fn a_holder_that_is_fenced_is_replaced_at_once() {
    let Some(lab) = plan(&["a", "b", "w"]).set("lease", "40").set("stop_timeout", "40").hosts() else { return };
    lab.fence_by("exit 0", "");
    lab.run_standard();
    wait_says(&lab, "b", "protection", "lease+fencing");
    lab.power_off("a");
    let dead = now_ns();
    let up = lab.wait_after(dead, "b", "up res");
    assert!(seconds(up - dead) < 60.0);
    // `PATH fence RESOURCE NODE`.
    let fenced = place(&lab, "b", "fence res a", 1).expect("the script is called");
    assert!(Some(fenced) < place(&lab, "b", "up res", 1));
    wait_line(&lab, "b", &["a is off, says the fence script: its lease is over"]);
    lab.wait_status("b", "primary", "run");
    wait_says(&lab, "b", "lease", "2 of 3 votes");
    assert_eq!(
        (lab.count("b", "fence res a"), lab.count("a", "fence res a"), lab.count("w", "fence res a")),
        (1, 0, 0)
    );
}

/// Has the primary's host die, its votes bound for 10.1 s, with a fence script that does not fence.
fn in_vain(shell: &str, lines: &str, says: &str) {
    let Some(lab) = plan(&["a", "b", "w"]).hosts() else { return };
    lab.fence_by(shell, lines);
    lab.run_standard();
    lab.power_off("a");
    let dead = now_ns();
    wait_line(&lab, "b", &["[ERROR]", "the fence script did not turn a off", says]);
    let up = lab.wait_after(dead, "b", "up res");
    // Renewed at most a heartbeat before the end.
    let waited = seconds(up - dead);
    assert!(waited >= 10.1 - 1.0 - BLUR, "started after {waited:.2} s");
    assert!(lab.count("b", "fence res a") >= 1);
}

#[test]
fn a_fence_script_that_fails_frees_no_votes() {
    in_vain("exit 1", "", "exit code 1");
}

#[test]
fn a_fence_script_that_hangs_is_ended_and_frees_no_votes() {
    in_vain("sleep 1000", "\tfence_timeout 2\n", "did not turn a off: it took longer than 2s and was killed");
}

#[test]
fn fencing_ends_what_daemon_and_worker_have_left_when_both_were_killed() {
    let Some(lab) = plan(&["a", "b", "w"]).set("lease", "40").set("stop_timeout", "40").hosts() else { return };
    // The switch of a's power socket.
    lab.fence_by("kill -9 $(cat $lab/$3/run/$2) && log $3 died", "");
    lab.run_standard();
    let worker = lab.worker("a", "hastmon: res (primary)").unwrap();
    // Neither may hear of the other's end.
    process::freeze(lab.pid("a"));
    process::signal(worker, Signal::KILL);
    lab.kill("a");
    assert_eq!(lab.running("a"), 1, "nobody has stopped it");
    lab.wait_status("b", "primary", "run");
    assert_eq!((lab.running("a"), lab.count("a", "stop res"), lab.count("b", "fence res a")), (0, 0, 1));
}

/// A primary without a majority whose `stop` hangs.
fn cannot_stop(lab: &Lab) {
    // What lease.md cannot prevent: on this host nothing really goes off.
    lab.may_overlap();
    lab.before("a", "stop", "exec sleep 1000");
    lab.hosts().isolate("a");
    wait_line(lab, "a", &["[ERROR]", "stop did not work: the resource MAY STILL RUN on this node"]);
    wait_for("a says that it failed", || lab.res("a").state.as_deref() == Some("failed"));
}

#[test]
fn a_node_that_cannot_stop_in_time_has_itself_fenced_before_it_tries_again() {
    let Some(lab) = plan(&["a", "b", "w"]).hosts() else { return };
    lab.fence_by("[ $3 = $node ]", "\ton_stop_failure fence\n");
    lab.run_standard();
    cannot_stop(&lab);
    lab.wait_call("a", "fence res a", 1);
    lab.wait_call("a", "stop res", 2);
    assert!(place(&lab, "a", "fence res a", 1) < place(&lab, "a", "stop res", 2));
    wait_line(&lab, "a", &["a is off, says the fence script"]);
    lab.wait_call("a", "stop res", 4);
    assert_eq!(lab.count("a", "fence res a"), 1, "it is called once");
}

/// The daemon finds another `reboot` than the system's, and by the kernel it and all that it starts may not reboot anything.
#[test]
fn a_node_that_cannot_stop_in_time_reboots_before_it_tries_again() {
    let Some(lab) = plan(&["a", "b", "w"]).in_resource("\ton_stop_failure reboot").hosts() else { return };
    let fake = lab.dir().join("fake");
    fs::create_dir_all(&fake).unwrap();
    let script = format!(
        "#!/bin/sh\nread -r now _ </proc/uptime\necho \"${{now%.*}}${{now#*.}}0000000 a reboot $* pid=$$\" >>{}/events\n",
        lab.dir().display()
    );
    fs::write(fake.join("reboot"), script).unwrap();
    fs::set_permissions(fake.join("reboot"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:{}", fake.display(), std::env::var("PATH").unwrap());
    lab.start_under("a", &["setpriv", "--bounding-set=-sys_boot", "--inh-caps=-sys_boot", "env", &path]);
    for node in ["b", "w"] {
        lab.start(node);
    }
    lab.role("b", "secondary");
    lab.role("a", "primary");
    lab.role("w", "watchdog");
    lab.wait_status("a", "primary", "run");
    wait_says(&lab, "a", "lease", "3 of 3 votes");
    cannot_stop(&lab);
    lab.wait_call("a", "reboot -f", 1);
    lab.wait_call("a", "stop res", 2);
    assert!(place(&lab, "a", "reboot -f", 1) < place(&lab, "a", "stop res", 2));
    wait_line(&lab, "a", &["[ERROR]", "rebooting this host", "on_stop_failure reboot"]);
    lab.wait_call("a", "stop res", 4);
    assert_eq!(lab.count("a", "reboot -f"), 1, "it is called once");
}

#[test]
fn without_on_stop_failure_it_is_told_and_nobody_is_fenced() {
    let Some(lab) = plan(&["a", "b", "w"]).hosts() else { return };
    lab.fence_by("exit 1", "\ton_stop_failure log\n");
    lab.run_standard();
    cannot_stop(&lab);
    lab.wait_status("b", "primary", "run");
    lab.wait_call("a", "stop res", 4);
    assert_eq!(lab.count("a", "fence res a"), 0);
}
