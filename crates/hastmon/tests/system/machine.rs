//! A machine that has run out of something, or whose clock is set: the daemon stays up, says what is missing, leaves the service alone, and
//! recovers when it is there again.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::support::hosts::are_skipped;
use crate::support::lab::{Lab, Plan, hastmon, run};
use crate::support::process;
use crate::support::time::{wait_for, wait_some};

const PRIMARY: &str = "hastmon: res (primary)";

/// Two nodes that beat five times a second, and nobody who complains.
fn pair() -> Plan {
    Plan::new(&["a", "b"]).set("heartbeat_interval", "200ms").set("complaint_count", "100")
}

/// With a watchdog that has enough after four complaints. The nodes beat once a second: none of them may be taken for dead because the
/// machine is busy.
fn trio() -> Plan {
    Plan::new(&["a", "b", "w"]).set("timeout", "1")
}

fn alone() -> Plan {
    Plan::new(&["a"]).set("heartbeat_interval", "200ms")
}

fn logged(lab: &Lab, node: &str, text: &str) {
    wait_for(&format!("'{text}' is logged"), || lab.log_text(node).contains(text));
}

/// Waits until the watchdog has complained more often than it takes for a takeover.
fn complains_in_vain(lab: &Lab) {
    wait_for("the watchdog complains", || lab.res("w").complaints > 4);
    logged(lab, "b", "a takeover needs more than 3; staying secondary: a primary is connected");
    assert_eq!(lab.res("b").role, "secondary");
}

fn times_logged(lab: &Lab, node: &str, text: &str) -> usize {
    lab.log_text(node).matches(text).count()
}

/// Takes a resource of the machine from a running process; what it has already is not touched.
fn limit(pid: i32, resource: Resource, to: u64) {
    let limit = Rlimit { current: Some(to), maximum: getrlimit(resource).maximum };
    prlimit(Pid::from_raw(pid), resource, limit).unwrap();
}

fn no_limit(pid: i32, resource: Resource) {
    prlimit(Pid::from_raw(pid), resource, getrlimit(resource)).unwrap();
}

fn worker(lab: &Lab) -> i32 {
    wait_some("there is a worker", || lab.worker("a", PRIMARY))
}

/// The resource has run all the time: started once, and never stopped.
fn assert_undisturbed(lab: &Lab, service: &[(String, i32)]) {
    assert_eq!(lab.services("a"), service);
    assert_eq!((lab.count("a", "start res"), lab.count("a", "stop res")), (1, 0));
    assert_eq!(lab.res("a").role, "primary");
}

// Descriptors

/// Below every descriptor that a process can get.
const NO_DESCRIPTOR: u64 = 3;

#[test]
fn a_main_daemon_without_descriptors_keeps_its_service_and_takes_callers_again() {
    let lab = trio().loopback();
    lab.run_standard();
    let service = lab.services("a");
    limit(lab.pid("a"), Resource::Nofile, NO_DESCRIPTOR);
    logged(&lab, "a", "[WARNING] cannot accept connections on the network: Too many open files (os error 24)");
    // The watchdog gets no answer; the secondary hears the primary's worker all the time.
    complains_in_vain(&lab);
    // Asked to read its configuration meanwhile, it cannot, and stays as it is.
    lab.signal("a", Signal::HUP);
    logged(&lab, "a", "[ERROR] the configuration stays as it was: Cannot read the configuration");
    no_limit(lab.pid("a"), Resource::Nofile);
    lab.wait_status("w", "watchdog", "run");
    lab.wait_status("a", "primary", "run");
    assert_undisturbed(&lab, &service);
    let told = times_logged(&lab, "a", "cannot accept connections on the network");
    assert!(told < 5, "it is tried five times a second, and told {told} times");
}

#[test]
fn a_main_daemon_without_descriptors_starts_its_worker_again_when_it_can() {
    let lab = pair().loopback();
    lab.run_standard();
    let (service, old) = (lab.services("a"), worker(&lab));
    limit(lab.pid("a"), Resource::Nofile, NO_DESCRIPTOR);
    process::signal(old, Signal::KILL);
    logged(&lab, "a", "[WARNING] [res] cannot start a worker process, trying again: Too many open files (os error 24)");
    logged(&lab, "b", "lost");
    no_limit(lab.pid("a"), Resource::Nofile);
    wait_for("there is a new worker", || lab.worker("a", PRIMARY).is_some_and(|new| new != old));
    lab.wait_status("a", "primary", "run");
    assert_undisturbed(&lab, &service);
    assert_eq!(times_logged(&lab, "a", "cannot start a worker process"), 1);
}

#[test]
fn a_worker_without_descriptors_leaves_its_resource_alone_and_goes_on_when_it_can() {
    let lab = trio().set("attempts", "2").loopback();
    lab.run_standard();
    let (service, worker) = (lab.services("a"), worker(&lab));
    limit(worker, Resource::Nofile, NO_DESCRIPTOR);
    logged(&lab, "a", "Too many open files (os error 24); no more files may be opened (ulimit -n)");
    logged(
        &lab,
        "a",
        "[ERROR] [res] the script cannot be asked: the resource ran when it last answered and is left as it is",
    );
    wait_for("the watchdog complains", || lab.res("w").complaints > 4);
    no_limit(worker, Resource::Nofile);
    lab.wait_status("a", "primary", "run");
    lab.wait_status("w", "watchdog", "run");
    assert_undisturbed(&lab, &service);
    assert_eq!(lab.worker("a", PRIMARY), Some(worker));
}

// Processes

/// A user whom nobody is, so that the processes of this test are all that it has; root may have as many as it likes.
fn nobody() -> u32 {
    1_000_000_000 + std::process::id()
}

/// Gives a node's files to that user, with a program that it may run, and starts its daemon as that user. Names are looked up in
/// /etc/hosts alone.
fn start_as_nobody(lab: &Lab, node: &str) {
    let user = nobody();
    let program = lab.node_dir(node).join("hastmon");
    fs::copy(hastmon(), &program).unwrap();
    fs::write(lab.dir().join("names"), "hosts: files\n").unwrap();
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(lab.dir().join("events"), fs::Permissions::from_mode(0o666)).unwrap();
    for path in ["", "run", "before", "res.sh", "hastmon"] {
        chown(lab.node_dir(node).join(path), Some(user), Some(user)).unwrap();
    }
    fs::create_dir(lab.state_dir(node)).unwrap();
    chown(lab.state_dir(node), Some(user), Some(user)).unwrap();
    let prepare = format!(
        "mount --bind {} /etc/nsswitch.conf; shift; exec setpriv --reuid {user} --regid {user} --clear-groups \"$0\" \"$@\"",
        lab.dir().join("names").display()
    );
    lab.start_under(
        node,
        &["unshare", "--mount", "--propagation", "private", "sh", "-c", &prepare, program.to_str().unwrap()],
    );
}

/// How many processes that user may have, as far as one of its processes can tell. It is set by the user, as some containers do not let
/// their root do so for others.
fn limit_processes(pid: i32, to: &str) {
    let user = nobody().to_string();
    let prlimit = ["prlimit", "--pid", &pid.to_string(), &format!("--nproc={to}:")].map(str::to_owned);
    let output =
        run(Command::new("setpriv").args(["--reuid", &user, "--regid", &user, "--clear-groups"]).args(prlimit));
    assert_eq!(output.code, 0, "{}", output.stderr);
}

fn no_limit_to_processes(pid: i32) {
    limit_processes(
        pid,
        &getrlimit(Resource::Nproc).current.map_or("unlimited".to_owned(), |number| number.to_string()),
    );
}

#[test]
fn a_worker_and_its_daemon_that_may_start_no_process_go_on_when_they_may() {
    if are_skipped() {
        return;
    }
    let lab = pair().set("attempts", "2").loopback();
    // Each time that its worker tries to connect, this name is looked up: in a thread, which counts as a process.
    let text = lab.standard_config();
    lab.write_config(&text.replacen("\t\tremote ", "\t\tremote nowhere.invalid ", 1));
    start_as_nobody(&lab, "a");
    lab.start("b");
    lab.role("b", "secondary");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    let (service, old) = (lab.services("a"), worker(&lab));

    limit_processes(old, "1");
    logged(
        &lab,
        "a",
        "Resource temporarily unavailable (os error 11); no more processes may be started (ulimit -u, pids.max)",
    );
    logged(
        &lab,
        "a",
        "[ERROR] [res] the script cannot be asked: the resource ran when it last answered and is left as it is",
    );
    logged(&lab, "a", "cannot find the address of nowhere.invalid: Resource temporarily unavailable (os error 11)");
    no_limit_to_processes(old);
    lab.wait_status("a", "primary", "run");
    assert_undisturbed(&lab, &service);
    assert_eq!(worker(&lab), old);

    limit_processes(lab.pid("a"), "1");
    lab.write_config(&text);
    lab.signal("a", Signal::HUP);
    logged(&lab, "a", "[ERROR] the configuration stays as it was: Cannot read the configuration");
    process::signal(old, Signal::KILL);
    logged(&lab, "a", "cannot start a worker process, trying again: Resource temporarily unavailable (os error 11)");
    no_limit_to_processes(lab.pid("a"));
    wait_for("there is a new worker", || lab.worker("a", PRIMARY).is_some_and(|new| new != old));
    lab.wait_status("a", "primary", "run");
    lab.signal("a", Signal::HUP);
    logged(&lab, "a", "the configuration is in force");
    lab.wait_status("a", "primary", "run");
    assert_undisturbed(&lab, &service);
}

// Memory

/// Has the daemon and its workers take a little memory in advance, so that the first that they want of the system is for another process.
/// (A process that gets none for itself ends, as every program in Rust does.)
const SOME_IN_ADVANCE: [&str; 2] = ["env", "MALLOC_TOP_PAD_=8388608"];

/// Lets a process have no further memory from the system, not even when it gives some back: what it has, it has.
fn limit_memory(pid: i32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let has = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
    limit(pid, Resource::As, has - (1 << 20));
}

#[test]
fn no_memory_for_another_process_costs_the_service_nothing() {
    let lab = pair().set("attempts", "2").loopback();
    lab.start_under("a", &SOME_IN_ADVANCE);
    lab.start("b");
    lab.standard_roles();
    lab.wait_status("a", "primary", "run");
    let service = lab.services("a");
    let (daemon, old) = (lab.pid("a"), worker(&lab));
    limit_memory(old);
    logged(&lab, "a", "Cannot allocate memory (os error 12); there is not enough memory for another process");
    logged(
        &lab,
        "a",
        "[ERROR] [res] the script cannot be asked: the resource ran when it last answered and is left as it is",
    );
    no_limit(old, Resource::As);
    lab.wait_status("a", "primary", "run");
    assert_undisturbed(&lab, &service);

    limit_memory(daemon);
    process::signal(old, Signal::KILL);
    logged(&lab, "a", "cannot start a worker process, trying again: Cannot allocate memory (os error 12)");
    no_limit(daemon, Resource::As);
    wait_for("there is a new worker", || lab.worker("a", PRIMARY).is_some_and(|new| new != old));
    lab.wait_status("a", "primary", "run");
    assert_undisturbed(&lab, &service);
}

// Disks

/// A disk of 64 KiB, seen by a node's daemon alone, and what is done on it before that starts. It holds the pidfile and what lies beside it.
fn on_a_small_disk(lab: &Lab, before: &str) -> Vec<String> {
    let disk = lab.node_dir("a").join("disk");
    fs::create_dir_all(&disk).unwrap();
    let prepare = format!(
        "mount -t tmpfs -o size=64k,mode=755 none {disk} && cd {disk} && {before}; exec \"$@\" -P {disk}/pid",
        disk = disk.display()
    );
    ["unshare", "--mount", "--propagation", "private", "sh", "-c", &prepare, "sh"].map(str::to_owned).into()
}

fn start_on(lab: &Lab, wrapper: &[String]) {
    lab.start_under("a", &wrapper.iter().map(String::as_str).collect::<Vec<_>>());
}

/// The disk of a running daemon, as it is seen from here.
fn disk(lab: &Lab) -> PathBuf {
    let inside = lab.node_dir("a").join("disk");
    Path::new(&format!("/proc/{}/root", lab.pid("a"))).join(inside.strip_prefix("/").unwrap())
}

/// Fills it to the last byte.
fn fill(disk: &Path) {
    let error = fs::write(disk.join("filler"), vec![0; 1 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn a_full_disk_under_the_log_stops_nothing_and_the_lines_that_were_lost_are_counted() {
    if are_skipped() {
        return;
    }
    let lab = alone().loopback();
    start_on(&lab, &on_a_small_disk(&lab, "exec 2>>log"));
    let log = || fs::read_to_string(disk(&lab).join("log")).unwrap();
    wait_for("it logs there", || log().contains("started on node a"));
    fill(&disk(&lab));
    // Each change of role is a few lines: a few of them still fit into the last block.
    for _ in 0..20 {
        lab.role("a", "secondary");
        lab.role("a", "primary");
    }
    lab.wait_status("a", "primary", "run");
    fs::remove_file(disk(&lab).join("filler")).unwrap();
    wait_for("the loss is told", || {
        lab.role("a", "secondary");
        lab.role("a", "primary");
        log().contains("log lines were lost: stderr did not take them.")
    });
    assert_eq!(lab.stop("a"), 0);
}

#[test]
fn a_log_that_takes_nothing_at_all_stops_nothing() {
    let lab = alone().loopback();
    lab.start_under("a", &["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"]);
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    assert_eq!(lab.stop("a"), 0);
    assert_eq!(lab.log_text("a"), "");
}

#[test]
fn a_log_whose_reader_has_gone_stops_nothing() {
    let lab = alone().loopback();
    // `true` ends at once, and nobody has the other end of the pipe any more.
    lab.start_under(
        "a",
        &[
            "sh",
            "-c",
            "mkfifo \"$HASTMON_LAB/pipe\"; true <\"$HASTMON_LAB/pipe\" & exec \"$@\" 2>\"$HASTMON_LAB/pipe\"",
            "sh",
        ],
    );
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    assert_eq!(lab.stop("a"), 0);
}

#[test]
fn a_full_disk_under_the_pidfile_is_an_error_at_the_start_and_none_later() {
    if are_skipped() {
        return;
    }
    let lab = pair().loopback();
    lab.start("b");
    lab.role("b", "secondary");
    let full = on_a_small_disk(&lab, "head -c 1000000 /dev/zero >filler 2>/dev/null");
    lab.spawn_under("a", &full.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    assert_eq!(lab.ended("a"), 73);
    logged(
        &lab,
        "a",
        "/disk/pid: No space left on device (os error 28); make room there, or name a file elsewhere with -P",
    );

    start_on(&lab, &on_a_small_disk(&lab, "true"));
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    let (service, old) = (lab.services("a"), worker(&lab));
    fill(&disk(&lab));
    process::signal(old, Signal::KILL);
    wait_for("there is a new worker", || lab.worker("a", PRIMARY).is_some_and(|new| new != old));
    lab.wait_status("a", "primary", "run");
    assert_undisturbed(&lab, &service);
    fs::remove_file(disk(&lab).join("filler")).unwrap();
    let pids = || fs::read_dir(disk(&lab)).unwrap().count();
    assert!(pids() > 0);
    assert_eq!(lab.stop("a"), 0);
    assert_eq!(lab.running("a"), 0);
}

#[test]
fn a_file_system_that_is_read_only_is_an_error_at_the_start_and_none_later() {
    if are_skipped() {
        return;
    }
    let lab = pair().loopback();
    lab.start("b");
    lab.role("b", "secondary");
    let read_only = on_a_small_disk(&lab, "mount -o remount,ro .");
    lab.spawn_under("a", &read_only.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    assert_eq!(lab.ended("a"), 73);
    logged(&lab, "a", "/disk/pid: Read-only file system (os error 30)");

    start_on(&lab, &on_a_small_disk(&lab, "true"));
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    let (service, old) = (lab.services("a"), worker(&lab));
    // As after an error of the disk: nothing can be opened for writing any more, and what is open stays so.
    let inside = |command: &str| {
        let text = command.replace("DISK", &lab.node_dir("a").join("disk").display().to_string());
        let pid = lab.pid("a").to_string();
        let output = run(Command::new("nsenter").args(["-t", &pid, "-m", "sh", "-c", &text]));
        assert_eq!(output.code, 0, "{}", output.stderr);
    };
    inside("mount --bind DISK DISK && mount -o remount,bind,ro DISK");
    process::signal(old, Signal::KILL);
    logged(&lab, "a", "[WARNING] [res] going on without a lock against a second worker: cannot open the pidfile");
    lab.wait_status("a", "primary", "run");
    assert_undisturbed(&lab, &service);

    inside("umount DISK");
    let second = worker(&lab);
    process::signal(second, Signal::KILL);
    wait_for("there is a new worker", || lab.worker("a", PRIMARY).is_some_and(|new| new != second));
    lab.wait_status("a", "primary", "run");
    assert_undisturbed(&lab, &service);
    assert_eq!(times_logged(&lab, "a", "going on without a lock"), 1, "it has its lock again");
    inside("mount --bind DISK DISK && mount -o remount,bind,ro DISK");
    assert_eq!(lab.stop("a"), 0);
    assert_eq!(lab.running("a"), 0);
}

// Clocks

const YEAR_S: i64 = 365 * 24 * 3600;

/// Builds what moves the time of day of a process. The linker of the tests can do that, too.
fn build_clock(lab: &Lab) -> String {
    let library = lab.dir().join("clock.so").display().to_string();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/clock.c");
    let output = run(Command::new("cc").args(["-shared", "-fPIC", "-Wall", "-Werror", "-o", &library, source]));
    assert_eq!(output.code, 0, "{}", output.stderr);
    library
}

fn set_clock(lab: &Lab, node: &str, seconds: i64) {
    let path = lab.node_dir(node).join("shift");
    fs::write(path.with_extension("new"), format!("{seconds}\n")).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

/// Starts all daemons with clocks of their own, and brings them into their standard roles.
fn run_with_clocks(lab: &Lab) {
    let library = format!("LD_PRELOAD={}", build_clock(lab));
    for node in lab.nodes() {
        let shift = format!("SHIFT={}", lab.node_dir(node).join("shift").display());
        lab.start_under(node, &["env", &library, &shift]);
    }
    lab.standard_roles();
    lab.wait_status("a", "primary", "run");
    lab.wait_status("w", "watchdog", "run");
    wait_for("all are connected", || lab.res("a").remotes[0].1.as_deref() == Some("connected"));
}

#[test]
fn nothing_but_signatures_depends_on_the_time_of_day() {
    let lab = trio().in_resource("status_timeout 2").loopback();
    run_with_clocks(&lab);
    let (service, before, complaints) = (lab.services("a"), lab.log_text("w").len(), lab.res("w").complaints);
    for shift in [YEAR_S, -YEAR_S] {
        for nodes in [["a", "a"], ["b", "w"]] {
            nodes.iter().for_each(|node| set_clock(&lab, node, shift));
            let calls = lab.count("a", "status res");
            lab.wait_call("a", "status res", calls + 3);
        }
    }
    assert_eq!((lab.res("w").state.as_deref(), lab.res("w").complaints), (Some("run"), complaints));
    // Limits of time hold as well.
    lab.before("a", "status", "log hung; sleep 1000");
    lab.wait_call("a", "hung", 1);
    set_clock(&lab, "a", -YEAR_S);
    logged(&lab, "a", "status: ended because it ran longer than its limit of 2s (after ");
    lab.as_usual("a", "status");
    lab.wait_status("a", "primary", "run");
    assert_undisturbed_but_started_again(&lab, &service);
    assert!(!lab.log_text("b").contains("lost"), "{}", lab.log_text("b"));
    assert!(!lab.log_text("w")[before..].contains("no connection"), "{}", lab.log_text("w"));
}

/// After a status without an answer, `start` is called, which finds that it runs.
fn assert_undisturbed_but_started_again(lab: &Lab, service: &[(String, i32)]) {
    assert_eq!(lab.services("a"), service);
    assert_eq!((lab.count("a", "up res"), lab.count("a", "stop res")), (1, 0));
}

#[test]
fn with_a_key_a_clock_that_is_set_is_named_as_the_cause_and_a_connection_that_is_up_stays() {
    let lab = trio().in_resource("key { algorithm SHA256 secret of-sixteen-bytes-or-more }").loopback();
    run_with_clocks(&lab);
    let service = lab.services("a");
    for shift in [YEAR_S, -YEAR_S] {
        set_clock(&lab, "a", shift);
        let how = if shift > 0 { "s old, 10 s are allowed" } else { "s in the future, 10 s are allowed" };
        logged(&lab, "a", &format!("{how}: set the clocks of both nodes."));
        logged(&lab, "w", "it does not accept our signature (error 5): are key and clock the same on both nodes?");
        complains_in_vain(&lab);
        set_clock(&lab, "a", 0);
        lab.wait_status("w", "watchdog", "run");
    }
    assert_undisturbed(&lab, &service);
    assert!(!lab.log_text("b").contains("lost"), "{}", lab.log_text("b"));

    // Who comes anew needs the time: the worker of a killed one cannot connect until it is right.
    set_clock(&lab, "a", YEAR_S);
    process::signal(worker(&lab), Signal::KILL);
    logged(&lab, "a", "s in the future, 10 s are allowed: set the clocks of both nodes.");
    set_clock(&lab, "a", 0);
    wait_for("it is connected again", || {
        lab.res("a").remotes.first().is_some_and(|r| r.1.as_deref() == Some("connected"))
    });
    lab.wait_status("w", "watchdog", "run");
    lab.assert_never_two();
}
