//! What a node has promised, and the disk that it is written to.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use super::{cluster, epoch, plan, wait_line, wait_says};
use crate::support::hosts;
use crate::support::lab::{Lab, Plan, run};
use crate::support::process;
use crate::support::time::{now_ns, seconds, stays, wait_for};

/// Cut off by the clock of the record, and the pace of clocks.
const BLUR: f64 = 0.05;

/// Votes bind for 12.12 s: long enough to see that they do.
fn slow() -> Plan {
    plan(&["a", "b", "w"]).set("lease", "8").set("stop_timeout", "4")
}

fn record(lab: &Lab, node: &str) -> PathBuf {
    lab.state_dir(node).join("vote.res")
}

#[test]
fn a_voter_that_was_killed_is_bound_for_the_whole_time_from_its_start_on() {
    let lab = slow().loopback();
    lab.run_standard();
    for node in ["b", "w", "a"] {
        lab.power_off(node);
    }
    lab.start("b");
    lab.role("b", "primary");
    let start = now_ns();
    lab.start("w");
    wait_says(&lab, "b", "waits", "bound to a");
    assert!(fs::read_to_string(record(&lab, "w")).unwrap().contains("holder a\n"));
    let up = lab.wait_after(start, "b", "up res");
    let waited = seconds(up - start);
    // b itself was started before w, and its vote is one of the two that are needed: w decides.
    assert!(waited >= 12.12 - BLUR, "started after {waited:.2} s");
    assert!(fs::read_to_string(record(&lab, "w")).unwrap().contains("holder b\n"));
}

#[test]
fn a_vote_that_was_given_back_binds_nobody_after_a_restart() {
    let lab = plan(&["a", "b", "w"]).set("lease", "40").set("stop_timeout", "40").loopback();
    lab.run_standard();
    assert_eq!(lab.stop("a"), 0);
    lab.wait_status("b", "primary", "run");
    assert_eq!(lab.stop("b"), 0);
    wait_for("the vote of w is recorded as free", || {
        fs::read_to_string(record(&lab, "w")).is_ok_and(|text| text.contains("hold_ms 0\n"))
    });
    lab.power_off("w");
    lab.start("a");
    lab.start("w");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
}

#[test]
fn a_record_that_is_garbage_binds_for_the_longest_time() {
    let lab = slow().loopback();
    lab.start_all();
    lab.nodes().for_each(|node| assert_eq!(lab.stop(node), 0));
    for node in ["b", "w"] {
        fs::write(record(&lab, node), "hastmon vote 1\nepoch 3\nhold_ms 1\nholder x\nsha256 0\n").unwrap();
    }
    let start = now_ns();
    lab.start("b");
    lab.start("w");
    for node in ["b", "w"] {
        wait_line(&lab, node, &["damaged", "this node gives no vote for 12.1s"]);
    }
    lab.role("b", "primary");
    wait_says(&lab, "b", "waits", "lost its record");
    let up = lab.wait_after(start, "b", "up res");
    let waited = seconds(up - start);
    assert!(waited >= 12.12 - BLUR, "started after {waited:.2} s");
}

#[test]
fn a_record_is_written_for_a_new_epoch_and_not_for_a_renewal() {
    let lab = cluster();
    // The third vote is written after the lease was won.
    wait_says(&lab, "a", "lease", "3 of 3 votes");
    let written = |node: &str| fs::metadata(record(&lab, node)).unwrap().modified().unwrap();
    let before = ["a", "b", "w"].map(written);
    stays(std::time::Duration::from_secs(4), "it runs on a", || lab.running("a") == 1);
    assert_eq!(["a", "b", "w"].map(written), before);
}

/// Has the nodes start with a state directory of 4 kB, in which there is no room besides the lock.
fn start_with_full_disk(lab: &Lab, node: &str) {
    let dir = lab.state_dir(node);
    fs::create_dir_all(&dir).unwrap();
    let script = format!("mount -t tmpfs -o size=4k,mode=700 full {} && exec \"$@\"", dir.display());
    lab.start_under(node, &["unshare", "--mount", "sh", "-c", &script, "sh"]);
}

#[test]
fn a_node_that_cannot_write_its_vote_gives_none_and_says_so() {
    if hosts::are_skipped() {
        return;
    }
    let lab = plan(&["a", "b", "w"]).loopback();
    lab.start("a");
    for node in ["b", "w"] {
        start_with_full_disk(&lab, node);
        lab.role(node, if node == "w" { "watchdog" } else { "secondary" });
    }
    lab.role("a", "primary");
    for node in ["b", "w"] {
        wait_line(&lab, node, &["[ERROR]", "this node gives no votes", "make room"]);
    }
    wait_says(&lab, "a", "waits", "cannot write its vote to disk");
    assert_eq!((lab.running("a"), lab.count("a", "start res")), (0, 0));
    // With room for one of them there is a majority.
    lab.power_off("w");
    lab.start("w");
    lab.wait_status("a", "primary", "run");
    wait_says(&lab, "a", "lease", "2 of 3 votes");
}

/// Has a node start with a state directory that is a file system of its own, which other processes do not see.
fn start_with_own_disk(lab: &Lab, node: &str) {
    let dir = lab.state_dir(node);
    fs::create_dir_all(&dir).unwrap();
    let script = format!("mount -t tmpfs -o size=64k,mode=700 own {} && exec \"$@\"", dir.display());
    lab.start_under(node, &["unshare", "--mount", "sh", "-c", &script, "sh"]);
}

/// Does something where a node's daemon sees its files.
fn where_it_is(lab: &Lab, node: &str, shell: &str) {
    let script = format!("cd / && dir={} && {shell}", lab.state_dir(node).display());
    let pid = lab.pid(node).to_string();
    let output = run(std::process::Command::new("nsenter").args(["-t", &pid, "-m", "sh", "-c", &script]));
    assert_eq!(output.code, 0, "{shell}: {output:?}");
}

/// The disk of the watchdog's votes breaks, then that of the secondary's too, while the primary goes on; then they are mended.
fn while_it_runs(breaks: &str, mends: &str, words: &str) {
    if hosts::are_skipped() {
        return;
    }
    let lab = plan(&["a", "b", "w"]).loopback();
    lab.start("a");
    for node in ["b", "w"] {
        start_with_own_disk(&lab, node);
    }
    lab.role("w", "watchdog");
    lab.role("b", "secondary");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    wait_says(&lab, "a", "lease", "3 of 3 votes");
    where_it_is(&lab, "w", breaks);
    // Renewals write nothing; a new worker asks for a new lease.
    let kill_worker = || {
        let before = epoch(&lab, "a");
        let worker = lab.worker("a", "hastmon: res (primary)").unwrap();
        process::signal(worker, Signal::KILL);
        wait_for("a new lease is asked for", || {
            lab.res("w").says("votes").contains(words) && epoch(&lab, "a") > before
        });
    };
    kill_worker();
    wait_line(&lab, "w", &["[ERROR]", "this node gives no votes", words]);
    wait_says(&lab, "a", "lease", "2 of 3 votes");
    lab.wait_status("a", "primary", "run");
    assert_eq!((lab.count("a", "stop res"), lab.res("b").says("votes")), (0, ""));
    // Without the other one there is no majority for anything new: the lease that is held goes on, and nobody else can have it.
    where_it_is(&lab, "b", breaks);
    stays(std::time::Duration::from_secs(4), "it runs on a", || lab.running("a") == 1);
    lab.power_off("a");
    wait_says(&lab, "b", "votes", words);
    assert_eq!(lab.count("b", "start res"), 0);
    for node in ["w", "b"] {
        where_it_is(&lab, node, mends);
    }
    lab.wait_status("b", "primary", "run");
    wait_says(&lab, "b", "lease", "2 of 3 votes");
    wait_for("both say that they vote again", || ["w", "b"].iter().all(|node| lab.res(node).says("votes").is_empty()));
    lab.start("a");
    wait_says(&lab, "b", "lease", "3 of 3 votes");
}

#[test]
fn a_disk_that_is_full_while_the_daemon_runs_costs_its_vote_until_there_is_room() {
    while_it_runs("! cat /dev/zero 2>/dev/null >$dir/large", "rm $dir/large", "make room");
}

#[test]
fn a_disk_that_becomes_read_only_while_the_daemon_runs_costs_its_vote_until_it_is_mended() {
    while_it_runs("mount -t tmpfs -o ro,mode=700 broken $dir", "umount $dir", "mount it for writing");
}

#[test]
fn a_record_that_cannot_be_read_at_the_start_costs_the_vote_until_it_can() {
    let lab = cluster();
    wait_says(&lab, "a", "lease", "3 of 3 votes");
    assert_eq!(lab.stop("w"), 0);
    let kept = lab.dir().join("kept");
    fs::rename(record(&lab, "w"), &kept).unwrap();
    std::os::unix::fs::symlink("nowhere", record(&lab, "w")).unwrap();
    lab.start("w");
    lab.role("w", "watchdog");
    wait_line(&lab, "w", &["[ERROR]", "gives no votes until it can read what it has promised", "vote.res"]);
    wait_says(&lab, "w", "votes", "none are given: ");
    wait_says(&lab, "a", "lease", "2 of 3 votes");
    stays(std::time::Duration::from_secs(4), "w does not vote", || {
        lab.res("a").says("lease").contains("2 of 3 votes") && lab.running("a") == 1
    });
    fs::rename(&kept, record(&lab, "w")).unwrap();
    wait_says(&lab, "a", "lease", "3 of 3 votes");
    wait_for("w says that it votes", || lab.res("w").says("votes").is_empty());
    assert_eq!(lab.count("a", "stop res"), 0);
}

#[test]
fn a_state_directory_that_is_read_only_keeps_the_daemon_from_starting() {
    if hosts::are_skipped() {
        return;
    }
    let lab = plan(&["a", "b", "w"]).loopback();
    let dir = lab.state_dir("a");
    fs::create_dir_all(&dir).unwrap();
    let script = format!("mount -t tmpfs -o ro,mode=700 none {} && exec \"$@\"", dir.display());
    let daemon = lab.daemon_command("a", &["-F"]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(daemon.get_program()).args(daemon.get_args());
    let output = run(&mut command);
    assert_eq!(output.code, 73, "{output:?}");
    let said = output.stderr.contains("mount it for writing") && output.stderr.contains(&dir.display().to_string());
    assert!(said, "{output:?}");
}
