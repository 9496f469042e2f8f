//! What an administrator types, and what comes back: options, exit codes, messages, files that appear and go.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::Signal;

use crate::support::lab::{self, Lab, Output, Plan, run};
use crate::support::process;
use crate::support::time::{wait_for, wait_some};

const USAGE: i32 = 64;
const NO_INPUT: i32 = 66;
const OS_ERROR: i32 = 71;
const TEMPORARY: i32 = 75;
const CONFIG: i32 = 78;

fn hastmon(arguments: &[&str]) -> Output {
    run(Command::new(lab::hastmon()).args(arguments))
}

fn hastmonctl(arguments: &[&str]) -> Output {
    run(Command::new(lab::hastmonctl()).args(arguments))
}

/// The daemon in the foreground, which is expected to end at once.
fn fails(lab: &Lab) -> Output {
    run(&mut lab.daemon_command("a", &["-F"]))
}

fn pid_in_file(lab: &Lab) -> i32 {
    fs::read_to_string(lab.pidfile("a")).unwrap().trim().parse().unwrap()
}

#[track_caller]
fn is_usage_error(output: &Output) {
    assert_eq!(output.code, USAGE, "{output:?}");
    let text = output.stderr.to_lowercase();
    assert!(text.contains("usage") || text.contains("--help"), "says how to go on: {output:?}");
    assert_eq!(output.stdout, "");
}

#[test]
fn a_wrong_option_or_word_is_a_usage_error() {
    is_usage_error(&hastmon(&["-x"]));
    is_usage_error(&hastmon(&["-c"]));
    is_usage_error(&hastmon(&["more"]));
    is_usage_error(&hastmonctl(&[]));
    is_usage_error(&hastmonctl(&["frobnicate"]));
    is_usage_error(&hastmonctl(&["role"]));
    is_usage_error(&hastmonctl(&["role", "primary"]));
    is_usage_error(&hastmonctl(&["role", "master", "all"]));
    is_usage_error(&hastmonctl(&["status", "-x"]));
}

#[test]
fn help_goes_to_standard_output_and_is_no_error() {
    for output in [hastmon(&["-h"]), hastmonctl(&["-h"])] {
        assert_eq!(output.code, 0, "{output:?}");
        assert!(output.stdout.contains("-c") && output.stderr.is_empty(), "{output:?}");
    }
    for option in ["-d", "-F", "-P", "-n"] {
        assert!(hastmon(&["-h"]).stdout.contains(option), "{option}");
    }
    for word in ["role", "status", "dump"] {
        assert!(hastmonctl(&["-h"]).stdout.contains(word), "{word}");
    }
    for word in ["init", "primary", "secondary", "watchdog"] {
        assert!(hastmonctl(&["role", "-h"]).stdout.contains(word), "{word}");
    }
}

#[test]
fn all_errors_of_a_configuration_are_shown_at_once_with_their_places() {
    let lab = Plan::new(&["a"]).loopback();
    lab.write_config(
        "heartbeet_interval 1\n\
         key { algorithm MD4 secret x }\n\
         resource res {\n\
         exec /bin/true\n\
         on a {\n\
         remote none\n\
         priority -5\n\
         }\n\
         }\n\
         resource res {\n\
         exec /bin/true\n\
         on a { remote none }\n\
         }\n",
    );
    let config = lab.config().display().to_string();
    for output in [fails(&lab), run(&mut lab.daemon_command("a", &[])), lab.ctl("a", &["status"])] {
        assert_eq!(output.code, CONFIG, "{output:?}");
        for place in ["1:1", "2:17", "7:10", "10:10"] {
            assert!(output.stderr.contains(&format!("{config}:{place}")), "{place} in {}", output.stderr);
        }
        assert!(output.stderr.contains("heartbeet_interval 1") && output.stderr.contains('^'), "{}", output.stderr);
        assert!(output.stderr.contains("did you mean"), "{}", output.stderr);
        assert_eq!(output.stdout, "");
    }
    assert!(!lab.pidfile("a").exists() && !lab.control_socket("a").exists());
}

#[test]
fn a_resource_without_a_section_for_this_node_is_an_error_of_the_configuration() {
    let lab = Plan::new(&["a", "b"]).loopback();
    let output = lab.ctl("zz", &["dump"]);
    assert_eq!(output.code, CONFIG, "{output:?}");
    assert!(output.stderr.contains("zz") && output.stderr.contains("res"), "{}", output.stderr);
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let lab = Plan::new(&["a"]).loopback();
    fs::remove_file(lab.config()).unwrap();
    for output in [fails(&lab), run(&mut lab.daemon_command("a", &[])), lab.ctl("a", &["status"])] {
        assert_eq!(output.code, NO_INPUT, "{output:?}");
        assert!(output.stderr.contains(&lab.config().display().to_string()), "{output:?}");
    }
}

#[test]
fn a_second_daemon_names_the_first_and_leaves_it_alone() {
    let lab = Plan::new(&["a"]).loopback();
    lab.start("a");
    for arguments in [["-F"].as_slice(), &[]] {
        let output = run(&mut lab.daemon_command("a", arguments));
        assert_eq!(output.code, TEMPORARY, "{output:?}");
        let expected = format!("Another hastmon is already running, pid: {}", lab.pid("a"));
        assert!(output.stderr.contains(&expected), "{output:?}");
    }
    assert_eq!(pid_in_file(&lab), lab.pid("a"));
    assert_eq!(lab.ctl("a", &["status"]).code, 0);
}

#[test]
fn the_pidfile_is_private_and_goes_with_the_daemon_as_does_the_control_socket() {
    for signal in [Signal::TERM, Signal::INT] {
        let lab = Plan::new(&["a"]).loopback();
        lab.start("a");
        let mode = fs::metadata(lab.pidfile("a")).unwrap().permissions().mode();
        assert_eq!((mode & 0o7777, pid_in_file(&lab)), (0o600, lab.pid("a")));
        lab.signal("a", signal);
        assert_eq!(lab.ended("a"), 0);
        assert!(!lab.pidfile("a").exists() && !lab.control_socket("a").exists());
    }
}

#[test]
fn what_a_killed_daemon_has_left_behind_does_not_keep_the_next_one_from_starting() {
    let lab = Plan::new(&["a"]).loopback();
    lab.start("a");
    lab.kill("a");
    assert!(lab.pidfile("a").exists() && lab.control_socket("a").exists());
    lab.start("a");
    assert_eq!(pid_in_file(&lab), lab.pid("a"));
}

#[test]
fn the_daemon_goes_to_the_background_when_it_is_ready_and_leaves_the_terminal() {
    let lab = Plan::new(&["a"]).loopback();
    let output = run(&mut lab.daemon_command("a", &[]));
    assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{output:?}");
    // A machine without syslogd (a container) is told so, and nothing else is said.
    assert!(output.stderr.lines().all(|line| line.contains("system log")), "{output:?}");
    let status = lab.ctl("a", &["status"]);
    assert_eq!(status.code, 0, "not ready when its start had returned: {status:?}");
    let pid = pid_in_file(&lab);
    for (number, target) in process::descriptors(pid).into_iter().filter(|(number, _)| *number < 3) {
        assert_eq!(target, "/dev/null", "descriptor {number}");
    }
    process::signal(pid, Signal::TERM);
    wait_for("it has ended", || !process::alive(pid));
    assert!(!lab.pidfile("a").exists() && !lab.control_socket("a").exists());
}

#[test]
fn errors_at_the_start_reach_the_terminal_from_the_background_too() {
    let lab = Plan::new(&["a"]).loopback();
    for arguments in [["-F"].as_slice(), &[]] {
        // Another test's child may have a copy of the one before, between its fork and its exec.
        let taken = wait_some("the address is free", || TcpListener::bind(lab.listens("a")).ok());
        let output = run(&mut lab.daemon_command("a", arguments));
        assert!(output.code != 0 && output.stderr.contains(&lab.ip("a").to_string()), "{output:?}");
        drop(taken);
        fs::create_dir(lab.control_socket("a")).unwrap();
        let output = run(&mut lab.daemon_command("a", arguments));
        let socket = lab.control_socket("a").display().to_string();
        assert!(output.code != 0 && output.stderr.contains(&socket), "{output:?}");
        fs::remove_dir(lab.control_socket("a")).unwrap();
        fs::create_dir(lab.pidfile("a")).unwrap();
        let output = run(&mut lab.daemon_command("a", arguments));
        let pidfile = lab.pidfile("a").display().to_string();
        assert!(output.code != 0 && output.stderr.contains(&pidfile), "{output:?}");
        fs::remove_dir(lab.pidfile("a")).unwrap();
    }
    assert!(lab.everything("a").is_empty());
}

#[test]
fn without_a_terminal_a_primary_is_forced_only_with_a_word_given_beforehand() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.start("a");
    let output = lab.ctl("a", &["role", "--force", "primary", "res"]);
    assert_eq!(output.code, USAGE, "{output:?}");
    for part in ["only when the other nodes are certainly off", "Nothing was done", "--yes"] {
        assert!(output.stderr.contains(part), "{part} is missing: {}", output.stderr);
    }
    assert_eq!(lab.res("a").role, "init");
    assert_eq!(lab.ctl("a", &["role", "--force", "--yes", "primary", "res"]).code, 0);
    lab.wait_status("a", "primary", "run");
}

#[test]
fn the_control_tool_says_where_it_looked_for_a_daemon() {
    let lab = Plan::new(&["a"]).loopback();
    for arguments in [["status"].as_slice(), &["role", "primary", "all"]] {
        let output = lab.ctl("a", arguments);
        assert_eq!(output.code, OS_ERROR, "{output:?}");
        assert!(output.stderr.contains(&lab.control_socket("a").display().to_string()), "{output:?}");
    }
}

#[test]
fn a_dump_is_a_configuration_that_means_the_same() {
    let lab = Plan::new(&["a", "b", "w"])
        .set("heartbeat_interval", "1500ms")
        .set("key", "{ algorithm SHA256 secret \"not for the eyes of others\" }")
        .in_resource("attempts 7")
        .resources(["one".to_owned(), "two".to_owned()])
        .loopback();
    for node in ["a", "b", "w"] {
        let dump = lab.ctl(node, &["dump"]);
        assert_eq!((dump.code, dump.stderr.as_str()), (0, ""));
        assert!(dump.stdout.contains(&lab.ip(node).to_string()), "{}", dump.stdout);
        assert!(!dump.stdout.contains("for the eyes"), "{}", dump.stdout);
        let standard = fs::read_to_string(lab.config()).unwrap();
        lab.write_config(&dump.stdout);
        let again = lab.ctl(node, &["dump"]);
        assert_eq!((again.code, &again.stdout), (0, &dump.stdout));
        lab.write_config(&standard);
    }
}

#[test]
fn one_file_serves_every_node_by_name() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.start_all();
    for node in ["a", "b"] {
        assert_eq!(lab.res(node).name, "res");
        assert!(lab.control_socket(node).exists());
    }
}

#[test]
fn more_debugging_may_be_asked_for_with_every_command() {
    let lab = Plan::new(&["a"]).loopback();
    lab.start("a");
    assert_eq!(lab.ctl("a", &["status", "-d"]).code, 0);
    assert_eq!(lab.ctl("a", &["role", "-dd", "secondary", "all"]).code, 0);
    lab.stop("a");
    let output = run(&mut lab.daemon_command("a", &["-dd"]));
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn a_faulty_file_changes_nothing_when_it_is_read_again() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.run_standard();
    let before = lab.res("a");
    let config = fs::read_to_string(lab.config()).unwrap();
    lab.write_config(&(config.clone() + "\nnonsense here\n"));
    lab.signal("a", Signal::HUP);
    wait_for("the log says where the error is", || lab.log_text("a").contains(&lab.config().display().to_string()));
    lab.write_config(&config);
    assert!(lab.is_up("a"));
    assert_eq!(lab.res("a"), before);
    assert_eq!((lab.count("a", "stop res"), lab.count("a", "start res")), (0, 1));
}
