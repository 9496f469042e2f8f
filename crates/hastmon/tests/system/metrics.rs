//! `metrics`: what a collector reads, and that the examples ask for nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::lab::{Lab, Plan, run};
use crate::support::time::{PATIENCE, wait_for, wait_some_within};

/// When set, promtool must be there.
const REQUIRED: &str = "HASTMON_TEST_PROMTOOL";

const PORT: u16 = 9458;

/// A laboratory in which every node has metrics on its own address.
fn with_metrics(plan: Plan) -> Lab {
    let lab = plan.loopback();
    let mut text = lab.standard_config();
    for node in lab.nodes() {
        text = text.replacen(
            &format!("\non {node} {{\n"),
            &format!("\non {node} {{\n\tmetrics {}:{PORT}\n", lab.ip(node)),
            1,
        );
    }
    lab.write_config(&text);
    lab
}

/// Head and body of the answer.
fn ask(lab: &Lab, node: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(SocketAddrV4::new(lab.ip(node), PORT)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn scrape(lab: &Lab, node: &str) -> String {
    let (head, body) = ask(lab, node, "GET /metrics HTTP/1.1\r\nHost: hastmon\r\nAccept: text/plain\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/plain; version=0.0.4"), "{head}");
    body
}

/// The value of a sample; `None`: there is no such sample.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/monitoring")
}

#[test]
fn the_numbers_are_those_of_status_and_follow_what_happens() {
    let lab = with_metrics(Plan::new(&["a", "b", "w"]).lease());
    lab.run_standard();
    let is = |node: &str, sample: &str, expected: f64| {
        wait_for(&format!("{sample} on {node} is {expected}"), || value(&scrape(&lab, node), sample) == Some(expected));
    };
    is("a", "hastmon_role{resource=\"res\",role=\"primary\"}", 1.0);
    is("a", "hastmon_state{resource=\"res\",state=\"run\"}", 1.0);
    is("a", "hastmon_lease_held{resource=\"res\"}", 1.0);
    is("a", "hastmon_votes_reachable{resource=\"res\"}", 3.0);
    is("a", "hastmon_voters{resource=\"res\"}", 3.0);
    is("b", "hastmon_role{resource=\"res\",role=\"secondary\"}", 1.0);
    is("b", "hastmon_lease_remaining_seconds{resource=\"res\"}", 0.0);
    let left = value(&scrape(&lab, "a"), "hastmon_lease_remaining_seconds{resource=\"res\"}").unwrap();
    assert!((0.1..=3.0).contains(&left), "{left}");
    let statuses = "hastmon_hook_duration_seconds_count{resource=\"res\",hook=\"status\"}";
    let before = value(&scrape(&lab, "a"), statuses).unwrap();
    wait_for("every status counts", || value(&scrape(&lab, "a"), statuses).unwrap() >= before + 2.0);
    is("b", "hastmon_failovers_total{resource=\"res\"}", 0.0);
    let epoch = value(&scrape(&lab, "b"), "hastmon_lease_epoch{resource=\"res\"}").unwrap();

    lab.power_off("a");
    lab.wait_status("b", "primary", "run");
    is("b", "hastmon_failovers_total{resource=\"res\"}", 1.0);
    is("b", "hastmon_votes_reachable{resource=\"res\"}", 2.0);
    let text = scrape(&lab, "b");
    assert!(value(&text, "hastmon_lease_epoch{resource=\"res\"}").unwrap() > epoch);
    assert!(value(&text, "hastmon_complaints_total{resource=\"res\"}").unwrap() > 3.0);
    assert!(value(&text, "hastmon_events_total{kind=\"role_changed\"}").unwrap() >= 2.0);
}

#[test]
fn strangers_are_counted_and_a_flood_of_collectors_harms_nobody() {
    let lab = with_metrics(Plan::new(&["a"]));
    lab.start("a");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    for _ in 0..50 {
        drop(TcpStream::connect(lab.listens("a")).unwrap());
    }
    let refused = "hastmon_refused_callers_total{reason=\"stranger\"}";
    // Those that are like the first are told, and counted, after a minute.
    let all = || (value(&scrape(&lab, "a"), refused) == Some(50.0)).then_some(());
    wait_some_within(Duration::from_secs(180), "all are counted", all);
    // More than are heard at once, and none of them asks.
    let address = SocketAddrV4::new(lab.ip("a"), PORT);
    let idle: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(lab.res("a").role, "primary");
    wait_for("the idle are sent away", || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n");
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains("hastmon_build_info")
    });
    drop(idle);
    let mut halved = TcpStream::connect(address).unwrap();
    halved.write_all(b"GET /met").unwrap();
    halved.shutdown(Shutdown::Write).unwrap();
    assert_eq!(halved.read(&mut [0; 10]).unwrap_or(0), 0);
    assert!(ask(&lab, "a", "GET / HTTP/1.1\r\n\r\n").0.starts_with("HTTP/1.1 404 "));
    assert!(ask(&lab, "a", "POST /metrics HTTP/1.1\r\n\r\n").0.starts_with("HTTP/1.1 405 "));
}

#[test]
fn the_address_comes_and_goes_with_a_reload_and_one_that_cannot_be_had_stops_nothing() {
    let lab = Plan::new(&["a"]).loopback();
    lab.start("a");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    let reload = |metrics: &str| {
        lab.write_config(&format!("{metrics}\n{}", lab.standard_config()));
        assert_eq!(lab.ctl("a", &["reload"]).code, 0);
    };
    let address = SocketAddrV4::new(lab.ip("a"), PORT);
    let answers = || TcpStream::connect(address).is_ok();
    assert!(!answers());
    reload(&format!("metrics {address}"));
    assert!(scrape(&lab, "a").contains("hastmon_build_info"));
    reload(&format!("metrics {address} history 1M"));
    assert!(scrape(&lab, "a").contains("hastmon_build_info"));
    reload("");
    wait_for("it is closed", || !answers());
    let _taken = std::net::TcpListener::bind(address).unwrap();
    reload(&format!("metrics {address}"));
    let told = format!("[ERROR] no metrics: cannot listen on {address}: Address already in use");
    wait_for("it is told", || lab.log_text("a").contains(&told));
    assert_eq!((lab.count("a", "start res"), lab.count("a", "stop res")), (1, 0));
}

/// The words of ours in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c)).filter(|word| word.starts_with("hastmon_"));
    words.map(str::to_owned).collect()
}

/// What stands in quotes after a label, in rules and in JSON, as the alternatives that it may have.
fn values_of(text: &str, label: &str) -> BTreeSet<String> {
    let text = text.replace("\\\"", "\"");
    let places = ["=\"", "=~\""].map(|how| format!("{label}{how}"));
    let found = places.iter().flat_map(|place| text.split(place.as_str()).skip(1));
    let quoted = found.filter_map(|rest| rest.split('"').next()).filter(|value| !value.contains('$'));
    quoted.flat_map(|value| value.split('|').map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn every_metric_and_every_label_of_the_examples_exists_in_a_scrape() {
    let lab = with_metrics(Plan::new(&["a", "b", "w"]).lease());
    lab.run_standard();
    lab.role("a", "secondary");
    lab.wait_stopped("a");
    wait_for("start and stop are counted", || {
        let text = scrape(&lab, "a");
        text.contains("hook=\"start\"") && text.contains("hook=\"stop\"")
    });
    let text = scrape(&lab, "a");
    let samples: BTreeSet<&str> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(['{', ' ']).next().unwrap()).collect();
    for file in ["hastmon-rules.yml", "grafana-dashboard.json"] {
        let example = fs::read_to_string(examples().join(file)).unwrap();
        let used = metrics_in(&example);
        assert!(used.len() > 5, "{file}: {used:?}");
        for metric in used {
            assert!(samples.contains(metric.as_str()), "{file}: {metric} is in no scrape");
        }
        for label in ["kind", "role", "state", "hook", "result", "reason"] {
            for value in values_of(&example, label) {
                assert!(text.contains(&format!("{label}=\"{value}\"")), "{file}: {label}={value} is in no scrape");
            }
        }
    }
}

/// What promtool says; `None`: it is not there, and need not be.
fn promtool(arguments: &[&str], input: Option<&str>) -> Option<(i32, String)> {
    if Command::new("promtool").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        assert!(std::env::var_os(REQUIRED).is_none(), "promtool is required and not there (Debian: prometheus)");
        println!("not tested: promtool is not there (Debian: prometheus)");
        return None;
    }
    let mut command = Command::new("sh");
    command.args(["-c", "exec promtool \"$@\" <\"$0\""]);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), input.unwrap_or_default()).unwrap();
    // `run` gives its commands nothing to read.
    let output = run(command.arg(file.path()).args(arguments));
    Some((output.code, output.stdout + &output.stderr))
}

#[test]
fn promtool_finds_nothing_wrong_with_the_rules_and_the_exposition() {
    let rules = examples().join("hastmon-rules.yml");
    let Some((code, said)) = promtool(&["check", "rules", rules.to_str().unwrap()], None) else { return };
    assert_eq!(code, 0, "{said}");
    let lab = with_metrics(Plan::new(&["a", "b", "w"]).lease().resources(["web".to_owned(), "a \\name".to_owned()]));
    lab.write_config(
        &fs::read_to_string(lab.config()).unwrap().replace("resource a \\name", "resource \"a \\\\name\""),
    );
    lab.start_all();
    lab.role("b", "secondary");
    lab.role("a", "primary");
    lab.wait_runs("a");
    for node in ["a", "b", "w"] {
        let (code, said) = promtool(&["check", "metrics"], Some(&scrape(&lab, node))).unwrap();
        assert_eq!((code, said.as_str()), (0, ""), "{node}");
    }
    let (code, said) = promtool(&["check", "metrics"], Some("# TYPE x counter\nx 1\n")).unwrap();
    assert_ne!(code, 0, "it would find something: {said}");
}
