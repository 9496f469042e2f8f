//! `notify`: a script of the administrator hears of what matters, and nothing waits for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::lab::{Lab, Plan};
use crate::support::time::{now_ns, seconds, wait_for};

/// A script for all nodes; `$0` tells it where the laboratory is.
fn script(lab: &Lab, body: &str) -> PathBuf {
    let path = lab.dir().join("notify.sh");
    fs::write(&path, format!("#!/bin/sh\ncd {}\n{body}\n", lab.dir().display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    lab.write_config(&format!("notify {}\n{}", path.display(), lab.standard_config()));
    path
}

/// What a node's script was told.
fn told(lab: &Lab, node: &str) -> Vec<Value> {
    let text = fs::read_to_string(lab.dir().join(format!("told-{node}"))).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const KEEP: &str = "cat >>told-$HASTMON_NODE";

#[test]
fn a_failover_is_told_by_the_node_that_takes_over_with_its_reason() {
    let lab = Plan::new(&["a", "b", "w"]).lease().loopback();
    script(&lab, KEEP);
    lab.run_standard();
    lab.power_off("a");
    lab.wait_status("b", "primary", "run");
    wait_for("it is told", || told(&lab, "b").iter().any(|event| event["detail"]["new"] == "primary"));
    let told = told(&lab, "b");
    let takeover = told.iter().find(|event| event["detail"]["new"] == "primary").unwrap();
    assert_eq!(
        (&takeover["kind"], &takeover["resource"], &takeover["node"]),
        (&"role_changed".into(), &"res".into(), &"b".into())
    );
    assert!(takeover["detail"]["reason"]["takeover"]["complaints"].as_u64() > Some(3), "{takeover}");
    assert!(takeover["text"].as_str().unwrap().starts_with("role changed from secondary to primary: taking over"));
}

#[test]
fn a_stop_that_fails_and_a_lost_majority_are_told() {
    let lab = Plan::new(&["a", "b", "w"]).lease().set("heartbeat_interval", "500ms").loopback();
    script(&lab, KEEP);
    lab.run_standard();
    lab.before("a", "stop", "exit 1");
    lab.power_off("b");
    lab.power_off("w");
    wait_for("the lost majority is told", || told(&lab, "a").iter().any(|event| event["kind"] == "lease_lost"));
    wait_for("the failed stop is told", || told(&lab, "a").iter().any(|event| event["kind"] == "may_still_run"));
    lab.as_usual("a", "stop");
    lab.wait_stopped("a");
}

#[test]
fn a_script_that_hangs_and_fails_is_in_nobodys_way() {
    let lab = Plan::new(&["a", "b", "w"]).lease().loopback();
    let path = script(&lab, "echo >>hung-$HASTMON_NODE; exec sleep 1000");
    lab.run_standard();
    wait_for("the script of b hangs", || lab.dir().join("hung-b").exists());
    let began = now_ns();
    lab.power_off("a");
    lab.wait_status("b", "primary", "run");
    assert!(seconds(now_ns() - began) < 20.0, "well before the script is ended");
    // The next event finds another script.
    fs::write(&path, "#!/bin/sh\necho no mail server >&2\nexit 3\n").unwrap();
    let failed = format!("[WARNING] [res] notify {}: exit code 3: no mail server", path.display());
    wait_for("the failure is told, and so is that it was ended", || {
        let log = lab.log_text("b");
        log.contains(&failed) && log.contains("ended because it ran longer than its limit of 30s")
    });
    assert_eq!(lab.res("b").role, "primary");
}

#[test]
fn a_script_that_is_named_in_a_reload_is_told_and_no_worker_is_restarted() {
    let lab = Plan::new(&["a"]).loopback();
    lab.start("a");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    let worker = lab.worker("a", "hastmon: res (primary)");
    script(&lab, KEEP);
    assert_eq!(lab.ctl("a", &["reload"]).code, 0);
    assert_eq!(lab.worker("a", "hastmon: res (primary)"), worker);
    lab.role("a", "secondary");
    wait_for("it is told", || told(&lab, "a").iter().any(|event| event["detail"]["new"] == "secondary"));
    assert!(told(&lab, "a").iter().all(|event| event["detail"]["new"] != "primary"));
}

#[test]
fn a_resource_has_the_script_of_its_own() {
    let lab = Plan::new(&["a"]).resources(["web".to_owned(), "db".to_owned()]).loopback();
    script(&lab, KEEP);
    let own = lab.dir().join("own.sh");
    fs::write(&own, format!("#!/bin/sh\ncat >>{}/own\n", lab.dir().display())).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    let text = fs::read_to_string(lab.config()).unwrap();
    lab.write_config(&text.replacen("resource db {", &format!("resource db {{\n\tnotify {}\n", own.display()), 1));
    lab.start("a");
    lab.role("a", "primary");
    let own = || fs::read_to_string(lab.dir().join("own")).unwrap_or_default();
    wait_for("both are told", || own().contains("\"resource\":\"db\"") && !told(&lab, "a").is_empty());
    assert!(told(&lab, "a").iter().all(|event| event["resource"] == "web"));
    assert!(!own().contains("\"resource\":\"web\""));
}
