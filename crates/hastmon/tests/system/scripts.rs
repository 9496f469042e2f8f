//! Exec scripts that misbehave in every way that scripts do: what the state becomes, what the log says, and that nothing of the
//! daemon is in their hands. What well-behaved ones may expect is in `hooks`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::process::Signal;

use crate::support::lab::{Lab, Plan};
use crate::support::process;
use crate::support::time::{wait_for, wait_some};

/// A worker's title in these tests.
const PRIMARY: &str = "hastmon: res (primary)";

/// One node and nobody to wait for, that beats five times a second.
fn alone() -> Plan {
    Plan::new(&["a"]).set("heartbeat_interval", "200ms")
}

/// Two nodes, of which the first runs the resource.
fn pair() -> Plan {
    Plan::new(&["a", "b"]).set("heartbeat_interval", "200ms").set("complaint_count", "300")
}

fn logged(lab: &Lab, node: &str, text: &str) {
    wait_for(&format!("'{text}' is logged"), || lab.log_text(node).contains(text));
}

fn start_primary(lab: &Lab) {
    lab.start("a");
    lab.role("a", "primary");
}

/// A number that a script has left in a file.
fn number(lab: &Lab, name: &str) -> i32 {
    let path = lab.node_dir("a").join(name);
    wait_some(&format!("{name} is written"), || fs::read_to_string(&path).ok()?.trim().parse().ok())
}

fn replace(path: &Path, text: &str, mode: u32) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(new, path).unwrap();
}

// Scripts that cannot be started

/// Gives each resource a script of its own, named after it.
fn with_own_scripts(lab: &Lab, names: &[&str]) {
    let mut text = lab.standard_config();
    for name in names {
        let at = text.find(&format!("resource {name} {{")).unwrap();
        let (before, after) = text.split_at(at);
        let own = lab.node_dir("a").join(name).display().to_string();
        text = before.to_owned() + &after.replacen(&lab.script("a").display().to_string(), &own, 1);
    }
    lab.write_config(&text);
}

#[test]
fn a_script_that_cannot_be_started_is_named_with_the_reason_and_what_to_do() {
    // What each is, and what the log says of it behind its path.
    let cases = [
        ("missing", "No such file or directory (os error 2); does it exist, and the interpreter in its first line?"),
        ("dangling", "No such file or directory (os error 2); does it exist, and the interpreter in its first line?"),
        (
            "interpreter",
            "No such file or directory (os error 2); does it exist, and the interpreter in its first line?",
        ),
        (
            "mode",
            "Permission denied (os error 13); is it executable (chmod +x), and its file system not mounted noexec?",
        ),
        (
            "directory",
            "Permission denied (os error 13); is it executable (chmod +x), and its file system not mounted noexec?",
        ),
        ("plain", "Exec format error (os error 8); a script needs a first line such as #!/bin/sh"),
        ("empty", "Exec format error (os error 8); a script needs a first line such as #!/bin/sh"),
    ];
    let names = cases.map(|(name, _)| name);
    let lab = alone().resources(names.map(str::to_owned)).set("attempts", "2").loopback();
    with_own_scripts(&lab, &names);
    let path = |name: &str| lab.node_dir("a").join(name);
    symlink("/nonexistent", path("dangling")).unwrap();
    replace(&path("interpreter"), "#!/nonexistent/sh\nexit 0\n", 0o755);
    replace(&path("mode"), "#!/bin/sh\nexit 0\n", 0o644);
    fs::create_dir(path("directory")).unwrap();
    replace(&path("plain"), "exit 0\n", 0o755);
    replace(&path("empty"), "", 0o755);
    start_primary(&lab);

    // It was never seen to run: another node may have more luck. Nobody can say that it does not run here.
    let gave_up = || lab.status("a").iter().filter(|block| block.role == "secondary").count() == names.len();
    wait_for("all have given up", gave_up);
    let failed = || lab.status("a").iter().all(|block| block.state.as_deref() == Some("failed"));
    wait_for("all are failed", failed);
    for (name, why) in cases {
        let line = format!("[WARNING] [{name}] start: could not be started: {}: {why}", path(name).display());
        logged(&lab, "a", &line);
        logged(&lab, "a", &format!("[ERROR] [{name}] stop did not work: the resource MAY STILL RUN on this node"));
    }
    assert!(lab.is_up("a"));

    // Once it can be started, all is well again.
    fs::remove_file(path("dangling")).unwrap();
    fs::remove_dir(path("directory")).unwrap();
    let script = fs::read_to_string(lab.script("a")).unwrap();
    names.iter().for_each(|name| replace(&path(name), &script, 0o755));
    let stopped = || lab.status("a").iter().all(|block| block.state.as_deref() == Some("stopped"));
    wait_for("all are stopped", stopped);
}

#[test]
fn a_script_that_vanishes_while_its_resource_runs_costs_the_service_nothing() {
    let lab = Plan::new(&["a", "b", "w"]).set("attempts", "2").loopback();
    lab.run_standard();
    let (service, script) = (lab.services("a"), fs::read_to_string(lab.script("a")).unwrap());
    fs::remove_file(lab.script("a")).unwrap();
    logged(&lab, "a", "[WARNING] [res] status: could not be started: ");
    logged(
        &lab,
        "a",
        "[ERROR] [res] the script cannot be asked: the resource ran when it last answered and is left as it is",
    );
    // Longer than it takes to give up, and to take over: nobody may do either while it runs and cannot be stopped.
    wait_for("the watchdog complains", || lab.res("w").complaints > 4);
    assert_eq!((lab.res("a").role.as_str(), lab.res("b").role.as_str()), ("primary", "secondary"));
    assert_eq!((lab.res("a").state.as_deref(), lab.res("a").attempts), (Some("unknown"), Some(0)));
    let told = lab.log_text("a").matches("could not be started").count();
    assert_eq!(told, 1, "the same trouble is told once");

    replace(&lab.script("a"), &script, 0o755);
    lab.wait_status("a", "primary", "run");
    lab.wait_status("w", "watchdog", "run");
    assert_eq!((lab.services("a"), lab.count("a", "start res"), lab.count("a", "stop res")), (service, 1, 0));
}

#[test]
fn a_secondary_whose_script_cannot_be_started_does_not_cry_wolf_and_goes_on() {
    let lab = pair().loopback();
    lab.run_standard();
    lab.wait_status("b", "secondary", "stopped");
    let script = fs::read_to_string(lab.script("b")).unwrap();
    // A shell that was started just before this opens it only now, and says that the resource is stopped. Of a file that is gone it would
    // say that it does not know.
    replace(&lab.script("b"), "#!/no/such/interpreter\nexit 1\n", 0o755);
    lab.wait_status("b", "secondary", "unknown");
    logged(&lab, "b", "[WARNING] [res] status: could not be started: ");
    replace(&lab.script("b"), &script, 0o755);
    lab.wait_status("b", "secondary", "stopped");
    assert!(!lab.log_text("b").contains("MAY STILL RUN"), "it was seen stopped, and nobody has started it");
    assert_eq!((lab.running("a"), lab.count("a", "stop res")), (1, 0));
}

#[test]
fn a_script_that_is_replaced_while_it_runs_ends_as_it_began_and_the_next_call_is_the_new_one() {
    let lab = alone().loopback();
    lab.before("a", "start", "log old; while [ ! -e $dir/go ]; do sleep 0.02; done; log end start");
    start_primary(&lab);
    lab.wait_call("a", "old", 1);
    let script = fs::read_to_string(lab.script("a")).unwrap();
    replace(&lab.script("a"), &script.replace("log \"$@\"", "log \"$@\"; log new $event"), 0o755);
    fs::write(lab.node_dir("a").join("go"), "").unwrap();
    lab.wait_status("a", "primary", "run");
    lab.wait_call("a", "new status", 1);
    assert_eq!((lab.count("a", "end start"), lab.count("a", "new start"), lab.running("a")), (1, 0, 1));
}

// Scripts that do not end, or not alone

#[test]
fn every_hook_that_hangs_and_ignores_term_is_ended_at_its_limit_and_said_so() {
    let limits = "start_timeout 1\nstop_timeout 1\nstatus_timeout 1\nhook_timeout 1";
    let events = ["role", "start", "connect", "status", "stop"];
    // Of each resource the event hangs that it is named after.
    let lab = pair().set("attempts", "1000").in_resource(limits).resources(events.map(str::to_owned)).loopback();
    for event in events {
        lab.before("a", event, "[ $name = $event ] && { trap '' TERM; log hung; while :; do sleep 0.05; done; }");
    }
    let state = |name: &str| {
        let blocks = lab.status("a");
        blocks.into_iter().find(|block| block.name == name).and_then(|block| block.state).unwrap_or_default()
    };
    let ended = |event: &str| {
        logged(&lab, "a", &format!("[WARNING] [{event}] {event}: ended because it ran longer than its limit of 1s"));
    };
    lab.start_all();
    lab.role("b", "secondary");
    lab.role("a", "primary");
    wait_for("the start that hangs is an attempt under way", || state("start") == "starting");
    ["role", "connect", "start", "status"].into_iter().for_each(ended);
    // A status without an answer is unknown, and start is tried; what only takes note changes nothing.
    logged(&lab, "a", "[INFO] [status] state changed from unknown to starting");
    lab.wait_call("a", "up status", 1);
    for name in ["role", "connect", "stop"] {
        wait_for(&format!("{name} runs"), || state(name) == "run");
    }
    lab.as_usual("a", "start");
    lab.as_usual("a", "status");
    wait_for("it can be started after all", || state("start") == "run" && state("status") == "run");

    assert_eq!(lab.ctl("a", &["role", "secondary", "stop"]).code, 0);
    ended("stop");
    assert_eq!(lab.running("a"), events.len(), "nothing was stopped");
    lab.as_usual("a", "stop");
    wait_for("it is stopped after all", || state("stop") == "stopped");
    assert!(lab.is_up("a"));
}

#[test]
fn a_child_that_outlives_a_hook_that_was_ended_is_ended_before_the_next_hook_begins() {
    let lab = alone().in_resource("start_timeout 500ms").loopback();
    // The script itself obeys TERM at once; its child does not, and would start the service behind everybody's back.
    let late = "(trap '' TERM; sleep 1000) & echo $! >$dir/child; sleep 1000";
    lab.before("a", "start", late);
    start_primary(&lab);
    let child = number(&lab, "child");
    let calls = lab.count("a", "status res");
    lab.as_usual("a", "start");
    wait_for("the next hook runs", || {
        let alive = process::alive(child);
        let next = lab.count("a", "status res") > calls;
        assert!(!(next && alive), "the next hook runs beside a child of the one that was ended");
        next
    });
    lab.wait_status("a", "primary", "run");
}

#[test]
fn a_start_that_is_cut_short_starts_nothing_behind_the_stop() {
    let lab = alone().loopback();
    let late = "(trap '' TERM; sleep 1; log late; cd $dir/run; setsid sleep 100000 >/dev/null 2>&1 & echo $! >$run) & echo $! >$dir/child; log hung; sleep 1000";
    lab.before("a", "start", late);
    start_primary(&lab);
    lab.wait_call("a", "hung", 1);
    lab.as_usual("a", "start");
    // Its primary is asked to end: `stop` does not wait for the start, and must come after all of it.
    lab.role("a", "secondary");
    let child = number(&lab, "child");
    wait_for("all of the start has ended", || !process::alive(child));
    lab.wait_status("a", "secondary", "stopped");
    // Or it was killed before it could say a word, on a machine that is busy.
    let calls = lab.calls("a");
    let at = |call: &str| calls.iter().position(|have| have == call);
    assert!(at("late") < at("stop res"), "what was left of the start came behind the stop: {calls:?}");
    assert_eq!(lab.running("a"), 0);
}

#[test]
fn what_a_start_that_is_cut_short_has_left_unknown_to_the_stop_is_killed() {
    // Time to look for it within the stop, on a busy machine as well.
    let lab = alone().in_resource("stop_timeout 10").loopback();
    let unknown = "setsid sleep 100000 </dev/null >/dev/null 2>&1 & echo $! >$dir/service; log hung; sleep 1000";
    lab.before("a", "start", unknown);
    start_primary(&lab);
    lab.wait_call("a", "hung", 1);
    let service = number(&lab, "service");
    lab.as_usual("a", "start");
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    assert!(!process::alive(service), "the stop was told to be over before nothing ran");
    logged(
        &lab,
        "a",
        &format!(
            "[WARNING] [res] stop has succeeded, but a start that was cut short before has left process {service} running: killing it"
        ),
    );
}

/// The same where `stop` does not end well, but `status` finds nothing on record: another node may start it then.
fn gone_before_another_node_starts(stop: &str) {
    // Whoever gets the free votes first, b has them in the end: a hears as well that they are free.
    let plan = Plan::new(&["a", "b", "w"]).priority("a", 5).priority("b", 1);
    let lab = plan.lease().set("lease", "5").set("stop_timeout", "2").loopback();
    let unknown = "setsid sleep 100000 </dev/null >/dev/null 2>&1 & echo $! >$dir/service; log hung; sleep 1000";
    lab.before("a", "start", unknown);
    lab.before("a", "stop", stop);
    lab.start_all();
    lab.standard_roles();
    lab.wait_call("a", "hung", 1);
    let service = number(&lab, "service");
    // A process that has ended has no program any more, even when nobody has waited for it.
    lab.before("b", "start", &format!("[ -e /proc/{service}/exe ] && log beside"));
    lab.as_usual("a", "start");
    lab.role("a", "secondary");
    lab.role("b", "primary");
    lab.wait_status("b", "primary", "run");
    assert!(!process::alive(service));
    assert_eq!(lab.count("b", "beside"), 0, "it was started beside what the other node had left running");
    logged(
        &lab,
        "a",
        &format!(
            "[WARNING] [res] status says stopped, but a start that was cut short before has left process {service} running: killing it"
        ),
    );
}

#[test]
fn what_a_start_has_left_is_gone_before_another_node_starts_though_stop_fails() {
    gone_before_another_node_starts("exit 1");
}

#[test]
fn what_a_start_has_left_is_gone_before_another_node_starts_though_stop_hangs() {
    gone_before_another_node_starts("sleep 1000");
}

#[test]
fn what_a_start_over_its_limit_has_left_is_gone_before_the_next_attempt() {
    let lab = alone().in_resource("start_timeout 500ms").loopback();
    let unknown = "if read -r old 2>/dev/null <$dir/service; then [ -e /proc/$old/exe ] && log beside; else \
                   setsid sleep 100000 </dev/null >/dev/null 2>&1 & echo $! >$dir/service; sleep 1000; fi";
    lab.before("a", "start", unknown);
    start_primary(&lab);
    lab.wait_status("a", "primary", "run");
    assert_eq!((lab.count("a", "start res"), lab.count("a", "beside")), (2, 0));
    assert!(!process::alive(number(&lab, "service")));
}

#[test]
fn a_hook_that_stands_still_is_ended_by_kill_at_its_limit() {
    let lab = alone().in_resource("start_timeout 500ms").loopback();
    lab.before("a", "start", "echo $$ >$dir/hook; sleep 1000");
    start_primary(&lab);
    let hook = number(&lab, "hook");
    // A stopped process takes note of TERM only when it goes on.
    process::freeze(hook);
    lab.as_usual("a", "start");
    wait_for("it is killed", || !process::alive(hook));
    lab.wait_status("a", "primary", "run");
    logged(&lab, "a", "start: ended because it ran longer than its limit of 500ms");
}

#[test]
fn a_child_that_outlives_its_hook_and_holds_its_output_is_left_alone_and_heard() {
    let lab = alone().loopback();
    let service = "(while [ ! -e $dir/speak ]; do sleep 0.05; done; echo 'the service speaks'; \
                   sleep 1000) & echo $! >$dir/child";
    lab.before("a", "start", service);
    start_primary(&lab);
    // The hook is over when its process is, whoever holds its output.
    lab.wait_status("a", "primary", "run");
    let child = number(&lab, "child");
    let calls = lab.count("a", "status res");
    lab.wait_call("a", "status res", calls + 3);
    assert!(process::alive(child));
    fs::write(lab.node_dir("a").join("speak"), "").unwrap();
    logged(&lab, "a", "[INFO] [res] start: the service speaks");
}

#[test]
fn children_of_every_call_that_hold_its_output_do_not_use_up_the_descriptors() {
    let lab = alone().set("heartbeat_interval", "50ms").loopback();
    lab.before("a", "status", "sleep 1000 &");
    start_primary(&lab);
    lab.wait_status("a", "primary", "run");
    lab.wait_call("a", "status res", 60);
    let worker = lab.worker("a", PRIMARY).unwrap();
    // While a call begins there are some more for a moment.
    wait_for("less than 50 descriptors are open after 60 calls", || process::descriptors(worker).len() < 50);
    logged(
        &lab,
        "a",
        "of the script have left processes behind that hold its output open: what it prints is not logged",
    );
    assert_eq!(lab.log_text("a").matches("that hold its output open").count(), 1, "said once");
    assert_eq!((lab.count("a", "start res"), lab.running("a")), (1, 1));
}

// Scripts that talk

#[test]
fn a_hundred_megabytes_of_output_cost_no_heartbeat_no_memory_and_no_log() {
    // A heartbeat is missed after two seconds; the call itself may take long.
    let lab = pair().set("heartbeat_interval", "1").in_resource("status_timeout 60").loopback();
    lab.run_standard();
    let worker = lab.worker("a", PRIMARY).unwrap();
    let memory = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let before = memory();
    // Half of it in lines, half of it in one line; and one call is enough.
    let flood = "[ -e $dir/told ] && exit 0; : >$dir/told; yes 'all work and no play' | head -c 50000000; \
                 head -c 50000000 /dev/zero | tr '\\0' x; log end status";
    lab.before("a", "status", flood);
    lab.wait_call("a", "end status", 1);
    logged(&lab, "a", "[WARNING] [res] status: has printed 100 lines; what follows is not logged");
    logged(&lab, "a", "[WARNING] [res] status: 2380853 more lines were not logged");
    let (grown, told) = (memory() - before, lab.log_text("a").len());
    assert!(grown < 4096, "its memory has grown by {grown} KiB");
    assert!(told < 64 << 10, "the log has grown to {told} bytes");
    lab.wait_status("a", "primary", "run");
    assert!(!lab.log_text("b").contains("lost"), "no heartbeat was missed: {}", lab.log_text("b"));
    assert_eq!((lab.count("a", "start res"), lab.worker("a", PRIMARY)), (1, Some(worker)));
}

#[test]
fn output_that_is_no_text_becomes_lines_of_text() {
    let lab = alone().loopback();
    lab.before("a", "start", "printf 'a\\000b\\033[31mred\\r\\377\\376\\nsecond\\n'; printf '\\342\\200\\256evil\\n'; head -c 5000 /dev/urandom");
    start_primary(&lab);
    lab.wait_status("a", "primary", "run");
    logged(&lab, "a", "start: second");
    logged(&lab, "a", "start: a\\u{0}b\\u{1b}[31mred\\r\u{fffd}\u{fffd}");
    logged(&lab, "a", "start: \\u{202e}evil");
    let bytes = fs::read(lab.log_path("a")).unwrap();
    let text = String::from_utf8(bytes).expect("the log is text, whatever a script prints");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "no control character gets through");
    assert!(text.lines().all(|line| line.starts_with('[')), "no line is forged");
}

// Scripts that die

#[test]
fn a_hook_that_dies_by_a_signal_is_said_so_and_means_no_success() {
    let lab = alone().set("attempts", "5").loopback();
    let die = "[ -e $dir/died.$event ] || { : >$dir/died.$event; kill -$sig $$; }";
    lab.before("a", "start", &die.replace("$sig", "SEGV"));
    start_primary(&lab);
    logged(&lab, "a", "[WARNING] [res] start: ended by signal 11");
    lab.wait_status("a", "primary", "run");
    assert_eq!(lab.count("a", "start res"), 2);

    // No answer of `status`: unknown, and start is tried, which finds that it runs.
    lab.before("a", "status", &die.replace("$sig", "KILL"));
    logged(&lab, "a", "[WARNING] [res] status: ended by signal 9");
    logged(&lab, "a", "state changed from run to unknown");
    lab.wait_status("a", "primary", "run");
    assert_eq!(lab.count("a", "up res"), 1, "the resource was not started a second time");

    // A stop that dies has not stopped: it is tried again.
    lab.before("a", "stop", &die.replace("$sig", "TERM"));
    lab.role("a", "secondary");
    logged(&lab, "a", "[WARNING] [res] stop: ended by signal 15");
    lab.wait_status("a", "secondary", "stopped");
    assert_eq!(lab.running("a"), 0);
}

#[test]
fn calls_of_status_that_are_killed_leave_the_service_running() {
    let lab = pair().loopback();
    lab.run_standard();
    let service = lab.services("a");
    lab.before("a", "status", "echo $$ >$dir/hook; sleep 0.3");
    for _ in 0..5 {
        let hook = wait_some("a hook runs", || {
            let pid: i32 = fs::read_to_string(lab.node_dir("a").join("hook")).ok()?.trim().parse().ok()?;
            process::alive(pid).then_some(pid)
        });
        process::signal(hook, Signal::KILL);
        wait_for("it has died", || !process::alive(hook));
    }
    lab.as_usual("a", "status");
    lab.wait_status("a", "primary", "run");
    assert_eq!((lab.services("a"), lab.count("a", "stop res")), (service, 0));
    assert_eq!(lab.res("b").role, "secondary");
}

// What a script finds

/// What `env`, `umask`, `ulimit` and `/proc` say inside a hook of a daemon that was started by `wrapper`.
fn inside_a_hook(wrapper: &[&str]) -> (Lab, String) {
    let lab = alone().loopback();
    let look = "{ echo umask $(umask); echo soft $(ulimit -Sn) hard $(ulimit -Hn); echo directory $(pwd); \
                grep Sig /proc/self/status; grep -v '^Max open files' /proc/self/limits; tr '\\0' '\\n' </proc/self/environ; } \
                >$dir/inside.new; mv $dir/inside.new $dir/inside";
    lab.before("a", "start", look);
    lab.start_under("a", wrapper);
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    let inside = fs::read_to_string(lab.node_dir("a").join("inside")).unwrap();
    (lab, inside)
}

#[test]
fn a_hook_has_the_limits_the_umask_and_the_directory_that_the_daemon_was_started_with() {
    let (_lab, inside) =
        inside_a_hook(&["sh", "-c", "umask 027; ulimit -Sn 300; ulimit -Sc 0; cd /usr; exec \"$@\"", "sh"]);
    let has = |line: &str| inside.lines().any(|have| have == line);
    assert!(has("umask 0027") && has("directory /usr"), "{inside}");
    assert!(inside.lines().any(|line| line.starts_with("soft 300 hard ")), "{inside}");
    let ours = fs::read_to_string("/proc/self/limits").unwrap();
    for line in ours.lines().filter(|line| !line.starts_with("Max open files") && !line.starts_with("Max core")) {
        assert!(has(line), "the limit '{line}' is another one in a hook: {inside}");
    }
}

#[test]
fn a_hook_has_the_environment_of_the_daemon_and_six_variables_of_its_own() {
    // Those of another hook that started the daemon are not mixed with them.
    let clean = "exec env -i PATH=/usr/bin:/bin $0=\"$HASTMON_LAB\" GREETING=hello HASTMON_RESOURCE=other HASTMON_REASON=no \"$@\"";
    let wrapper = ["sh", "-c", clean, process::MARK];
    let (lab, inside) = inside_a_hook(&wrapper);
    let mut names: Vec<&str> = inside
        .lines()
        .filter(|line| !line.contains(':') || line.contains('='))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    // The shell adds its own.
    names.retain(|name| !matches!(*name, "PWD" | "OLDPWD" | "SHLVL" | "_"));
    let mark = process::MARK;
    let mut expected = vec![
        "GREETING",
        "HASTMON_CALL",
        "HASTMON_EVENT",
        "HASTMON_NODE",
        "HASTMON_REASON",
        "HASTMON_RESOURCE",
        "HASTMON_ROLE",
        "PATH",
        mark,
    ];
    expected.sort_unstable();
    assert_eq!(names, expected, "{inside}");
    let has = |line: &str| inside.lines().any(|have| have == line);
    assert!(has("HASTMON_RESOURCE=res") && has("HASTMON_REASON=attempt 1 of 5") && has("GREETING=hello"), "{inside}");
    drop(lab);
}

#[test]
fn a_hook_ignores_and_blocks_no_signal_whatever_the_daemon_was_started_with() {
    // As `nohup`, a shell that starts something behind `&`, and a parent that does not wait for its children do.
    let wrapper = ["env", "--ignore-signal=HUP,INT,QUIT,USR1,PIPE,CHLD", "--block-signal=USR2,WINCH"];
    let (lab, inside) = inside_a_hook(&wrapper);
    for name in ["SigBlk:", "SigIgn:"] {
        let line = inside.lines().find(|line| line.starts_with(name)).unwrap();
        let mask = u64::from_str_radix(line.trim_start_matches(name).trim(), 16).unwrap();
        // The C library has some above 31 for itself. The shell blocks CHLD for moments of its own.
        let ours = mask & 0x7fff_ffff & !(1 << (Signal::CHILD.as_raw() - 1));
        assert_eq!(ours, 0, "{line} in a hook");
    }
    assert!(!lab.log_text("a").contains("cannot be seen"), "{}", lab.log_text("a"));
    assert_eq!(lab.stop("a"), 0);
    assert_eq!(lab.running("a"), 0);
}
