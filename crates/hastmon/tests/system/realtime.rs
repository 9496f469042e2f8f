//! `realtime on`: which processes run before everything else, and which do not.

use std::fs;

use crate::support::lab::{Lab, Plan};
use crate::support::time::{wait_for, wait_some};

/// What `sched_getscheduler` calls the policy of every process, and SCHED_RR.
const OTHER: u32 = 0;
const ROUND_ROBIN: u32 = 2;

/// The policy of a process: field 41 of its `stat`, where 3 is the first one after the name.
fn policy(pid: i32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(41 - 3)?.parse().ok()
}

/// A node that runs its resource alone, and the first process of a `status` that is still under way.
fn running(realtime: &str) -> (Lab, i32) {
    let lab = Plan::new(&["a"]).set("realtime", realtime).in_resource("status_timeout 60").loopback();
    lab.before(
        "a",
        "status",
        "echo $$ >$dir/hook.new; mv $dir/hook.new $dir/hook; while [ ! -e $dir/seen ]; do sleep 0.1; done",
    );
    lab.start_all();
    lab.role("a", "primary");
    let hook =
        wait_some("a hook runs", || fs::read_to_string(lab.node_dir("a").join("hook")).ok()?.trim().parse().ok());
    (lab, hook)
}

#[test]
fn daemon_and_worker_are_realtime_and_a_hook_is_not() {
    let (lab, hook) = running("on");
    let worker = wait_some("the worker is there", || lab.worker("a", "hastmon: res (primary)"));
    let log = lab.log_text("a");
    if log.contains("no realtime scheduling") {
        // Said once, by the daemon alone.
        assert_eq!(log.matches("no realtime scheduling").count(), 1, "{log}");
        eprintln!("not tested: realtime scheduling is not permitted here");
    } else {
        wait_for("the worker is realtime", || policy(worker) == Some(ROUND_ROBIN));
        assert_eq!(policy(lab.pid("a")), Some(ROUND_ROBIN));
    }
    assert_eq!(policy(hook), Some(OTHER));
    // It is started, ended and heard of as without.
    fs::write(lab.node_dir("a").join("seen"), "").unwrap();
    lab.wait_runs("a");
    lab.as_usual("a", "status");
    let config = fs::read_to_string(lab.config()).unwrap();
    lab.write_config(&config.replace("realtime on", "realtime off"));
    assert_eq!(lab.ctl("a", &["reload"]).code, 0);
    wait_for("it is told that a change waits", || {
        lab.log_text("a").contains("realtime off takes effect at the next start")
    });
    lab.role("a", "init");
    lab.wait_stopped("a");
}

#[test]
fn without_realtime_nothing_is() {
    let (lab, hook) = running("off");
    let worker = wait_some("the worker is there", || lab.worker("a", "hastmon: res (primary)"));
    for pid in [lab.pid("a"), worker, hook] {
        assert_eq!(policy(pid), Some(OTHER), "{pid}");
    }
    fs::write(lab.node_dir("a").join("seen"), "").unwrap();
    lab.wait_runs("a");
}
