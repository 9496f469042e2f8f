//! Roles as they are set and shown: `hastmonctl role` and `status`, line by line as originals print them.

use crate::support::lab::{Lab, Plan};
use crate::support::recorded;
use crate::support::time::{PATIENCE, now_ns, pause, wait_for};

/// Waits until a command prints exactly this; shows what it prints instead when it never does.
#[track_caller]
fn wait_prints(lab: &Lab, node: &str, arguments: &[&str], expected: &str) {
    let start = now_ns();
    loop {
        let printed = lab.ctl(node, arguments).stdout;
        if printed == expected {
            return;
        }
        let late = u128::from(now_ns() - start) > PATIENCE.as_nanos();
        assert!(!late, "{arguments:?} on {node} prints\n{printed}and not\n{expected}");
        pause(std::time::Duration::from_millis(50));
    }
}

/// The line that an original does not have.
const UNPROTECTED: &str = "  protection: none: legacy peers are allowed (--legacy-peers), two primaries are possible\n";

/// What an original printed, and that nothing protects the resource, with this laboratory's addresses, paths and process ids, and with no complaints.
fn as_recorded(lab: &Lab, node: &str, command: &str, worker: &str) -> String {
    let recording = recorded::load("nokey.json");
    let mut text = recorded::printed(&recording, node, command);
    for name in ["a", "b", "w"] {
        text = text.replace(recording["hosts"][name].as_str().unwrap(), &lab.ip(name).to_string());
    }
    text = text.replace("/lab/res.sh", &lab.script(node).display().to_string());
    text = text.replace("complaints: 3 for", "complaints: 0 for");
    let line = |line: &str| match line.split_once("workerpid: ") {
        Some((indent, _)) => format!("{indent}workerpid: {}", lab.worker(node, worker).expect("a worker")),
        None => line.to_owned(),
    };
    let more = |text: &str| if text.starts_with("  heartbeat: ") { UNPROTECTED } else { "" };
    text.lines().map(|text| line(text) + "\n" + more(text)).collect()
}

/// The recorded cluster: a primary, b secondary, w watching, threshold 1.
fn recorded_cluster() -> Lab {
    let lab = Plan::new(&["a", "b", "w"]).set("complaint_count", "1").loopback();
    lab.start_all();
    lab.role("b", "secondary");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    wait_for("a is connected to b", || lab.res("a").remotes[0].1.as_deref() == Some("connected"));
    lab.role("w", "watchdog");
    lab
}

#[test]
fn status_prints_what_an_original_prints() {
    let lab = recorded_cluster();
    let command = "hastmonctl status";
    wait_prints(&lab, "a", &["status"], &as_recorded(&lab, "a", command, "hastmon: res (primary)"));
    wait_prints(&lab, "b", &["status"], &as_recorded(&lab, "b", command, "hastmon: res (secondary)"));
    wait_prints(&lab, "w", &["status"], &as_recorded(&lab, "w", command, "hastmon: res (watchdog)"));
    let twice = as_recorded(&lab, "a", "hastmonctl status res res", "hastmon: res (primary)");
    wait_prints(&lab, "a", &["status", "res", "res"], &twice);
    wait_prints(&lab, "a", &["status", "all"], &as_recorded(&lab, "a", command, "hastmon: res (primary)"));
}

#[test]
fn a_resource_that_does_not_exist_is_said_so_with_exit_1() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.start("a");
    let expected = recorded::printed(&recorded::load("nokey.json"), "a", "hastmonctl status nosuch");
    let output = lab.ctl("a", &["status", "nosuch"]);
    assert_eq!((output.code, output.stdout, output.stderr.as_str()), (1, expected.clone(), ""));
    let output = lab.ctl("a", &["status", "nosuch", "res"]);
    assert_eq!(output.code, 1);
    assert!(output.stdout.starts_with(&expected) && output.stdout.contains("\n  role: init\n"), "{}", output.stdout);
}

#[test]
fn of_several_names_the_good_ones_are_done_and_the_bad_one_is_an_error() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.start("a");
    let output = lab.ctl("a", &["role", "secondary", "nosuch", "res"]);
    let expected = (1, "", "[WARNING] [nosuch] Received error 1 from hastmon.\n");
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), expected);
    assert_eq!(lab.res("a").role, "secondary");
}

#[test]
fn a_resource_in_init_has_no_worker_and_no_state() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.start("a");
    let expected = format!(
        "res:\n  role: init\n  exec: {}\n  remote:\n    {}\n  complaints: 0 for last 60 sec (threshold 3)\n  heartbeat: 1 sec\n{UNPROTECTED}\n",
        lab.script("a").display(),
        lab.address("b")
    );
    assert_eq!(lab.ctl("a", &["status"]).stdout, expected);
    assert!(lab.workers("a").is_empty());
    assert!(lab.events().is_empty());
}

#[test]
fn a_role_is_set_without_a_word_for_all_resources_or_for_some() {
    let names = ["one", "two", "three"].map(str::to_owned);
    let lab = Plan::new(&["a", "b"]).resources(names).loopback();
    lab.start("a");
    let roles = || -> Vec<String> { lab.status("a").into_iter().map(|block| block.role).collect() };
    lab.role("a", "secondary");
    assert_eq!(roles(), ["secondary", "secondary", "secondary"]);
    let output = lab.ctl("a", &["role", "watchdog", "one", "three"]);
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""));
    assert_eq!(roles(), ["watchdog", "secondary", "watchdog"]);
    let names: Vec<String> = lab.status("a").into_iter().map(|block| block.name).collect();
    assert_eq!(names, ["one", "two", "three"]);
}

#[test]
fn the_role_at_the_start_comes_from_the_nearest_section() {
    let lab =
        Plan::new(&["a", "b", "w"]).set("role_on_start", "secondary").on("w", "role_on_start watchdog").loopback();
    let config = lab.standard_config();
    let of_a = format!("\t\tpriority 0\n\t}}\n\ton b {{\n\t\texec {}", lab.script("b").display());
    assert!(config.contains(&of_a), "the test knows the configuration's form:\n{config}");
    lab.write_config(&config.replace(&of_a, &format!("\t\trole_on_start primary\n{of_a}")));
    lab.start_all();
    lab.wait_status("b", "secondary", "stopped");
    lab.wait_status("a", "primary", "run");
    lab.wait_status("w", "watchdog", "run");
}

#[test]
fn the_role_hook_comes_first_and_knows_the_old_role_and_the_new() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.run_standard();
    for (node, role) in [("a", "primary"), ("b", "secondary"), ("w", "watchdog")] {
        assert_eq!(lab.calls(node)[0], format!("role res init {role}"));
    }
    assert_eq!(lab.count("a", "role res init primary"), 1);
}

#[test]
fn a_role_that_is_set_again_changes_nothing() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.run_standard();
    let before = (lab.res("a"), lab.services("a"));
    lab.role("a", "primary");
    lab.role("b", "secondary");
    let calls = lab.count("a", "status res");
    lab.wait_call("a", "status res", calls + 2);
    assert_eq!((lab.res("a"), lab.services("a")), before);
    assert_eq!(lab.calls("a").iter().filter(|call| call.starts_with("role")).count(), 1);
    assert_eq!(lab.calls("b").iter().filter(|call| call.starts_with("role")).count(), 1);
}

#[test]
fn every_role_can_follow_every_other() {
    let lab = Plan::new(&["a", "b"]).set("complaint_count", "100").loopback();
    lab.start("a");
    // Each of the twelve steps from one role to another, once.
    let way = [
        "primary",
        "init",
        "secondary",
        "init",
        "watchdog",
        "primary",
        "secondary",
        "watchdog",
        "secondary",
        "primary",
        "watchdog",
        "init",
    ];
    let mut old = "init";
    for new in way {
        lab.role("a", new);
        assert_eq!(lab.res("a").role, new);
        lab.wait_call("a", &format!("role res {old} {new}"), 1);
        if new == "primary" {
            lab.wait_status("a", "primary", "run");
        } else {
            lab.wait_stopped("a");
        }
        let expected: Vec<String> = if new == "init" { vec![] } else { vec![format!("hastmon: res ({new})")] };
        wait_for("the one worker has the title of its role", || lab.workers("a") == expected);
        old = new;
    }
}
