//! How long nobody runs the resource, after each fault, and how long two do where that can be.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;

use crate::cluster::{cheap, hosts, plan, running};
use crate::run::{Figure, Measurement};
use crate::support::events::overlaps;
use crate::support::lab::{Lab, Plan};
use crate::support::time::{now_ns, pause, seconds};

/// For figures that come alone from their laboratory.
macro_rules! alone {
    ($name:literal, $goal:literal, $measure:expr) => {
        Measurement { figures: &[Figure { name: $name, unit: "s", goal: Some($goal) }], measure: |_| vec![$measure] }
    };
}

pub(crate) const MEASUREMENTS: &[Measurement] = &[
    alone!("failover: host dies, heartbeat 1 s", 4.0, host_dies(plan())),
    alone!("failover: host dies, 100 ms", 0.4, host_dies(beats("100ms", "300ms"))),
    alone!("failover: host dies, 25 ms", 0.12, host_dies(beats("25ms", "75ms"))),
    Measurement {
        figures: &[
            Figure { name: "failover: daemon killed: stopped on that node", unit: "s", goal: Some(0.5) },
            Figure { name: "failover: daemon killed: started on the other", unit: "s", goal: Some(0.5) },
        ],
        measure: |_| daemon_killed(),
    },
    alone!("failover: switchover, beyond the scripts", 0.1, switchover()),
    alone!("failover: resource dies: started again", 1.1, resource_dies(plan())),
    alone!("failover: resource dies, 100 ms", 0.11, resource_dies(beats("100ms", "300ms"))),
    alone!("isolated primary: both ran", 0.0, isolated()),
    alone!("one of two secondaries kept: both ran", 0.0, keeps_one()),
    alone!("stop takes 90 %, 2 watchdogs: both ran", 0.0, slow_stop()),
];

fn beats(heartbeat: &str, timeout: &str) -> Plan {
    plan().set("heartbeat_interval", heartbeat).set("timeout", timeout)
}

fn cluster_of(plan: Plan) -> Lab {
    running(cheap(hosts(plan)))
}

/// From the moment that nothing of the host is heard any more until the script starts the resource.
fn host_dies(plan: Plan) -> f64 {
    let lab = cluster_of(plan);
    lab.hosts().isolate("a");
    let start = now_ns();
    lab.power_off("a");
    seconds(lab.wait_after(start, "b", "up res").saturating_sub(start))
}

fn daemon_killed() -> Vec<f64> {
    let lab = cluster_of(plan());
    let start = now_ns();
    lab.kill("a");
    let down = lab.wait_after(start, "a", "down res");
    let up = lab.wait_after(start, "b", "up res");
    assert!(down <= up);
    [down, up].map(|at| seconds(at.saturating_sub(start))).into()
}

/// Without the time that `stop` takes; `start` has begun when it says so.
fn switchover() -> f64 {
    let lab = cluster_of(plan());
    // a hears of it with the answer to its next heartbeat.
    lab.wait_status("b", "secondary", "stopped");
    pause(Duration::from_millis(1500));
    let start = now_ns();
    let output = lab.ctl("a", &["switchover", "res", "b"]);
    assert_eq!(output.code, 0, "{output:?}");
    let [stop, down] = ["stop res", "down res"].map(|call| lab.wait_after(start, "a", call));
    let up = lab.wait_after(start, "b", "up res");
    seconds(up.saturating_sub(start).saturating_sub(down - stop))
}

fn resource_dies(plan: Plan) -> f64 {
    let lab = cluster_of(plan);
    let start = now_ns();
    let mut record = OpenOptions::new().append(true).open(lab.dir().join("events")).unwrap();
    record.write_all(format!("{start} a died res pid=1\n").as_bytes()).unwrap();
    fs::remove_file(lab.node_dir("a").join("run/res")).unwrap();
    seconds(lab.wait_after(start, "a", "up res").saturating_sub(start))
}

/// How long the resource ran twice, from a fault until it has run on the other node for a while.
fn both_ran(lab: &Lab, starts_on: &str, fault: impl FnOnce()) -> f64 {
    lab.may_overlap();
    let start = now_ns();
    fault();
    lab.wait_after(start, starts_on, "up res");
    lab.wait_after(start, "a", "down res");
    pause(Duration::from_secs(2));
    let events = lab.events();
    let last = events.last().map_or(0, |event| event.at_ns);
    let twice = overlaps(&events);
    seconds(twice.iter().map(|overlap| overlap.until_ns.unwrap_or(last) - overlap.from_ns).sum())
}

fn isolated() -> f64 {
    let lab = cluster_of(plan());
    both_ran(&lab, "b", || lab.hosts().isolate("a"))
}

/// A primary and one of its secondaries on one side, the other secondary and the watchdogs on the other.
fn keeps_one() -> f64 {
    let lab = cluster_of(Plan::new(&["a", "b", "c", "w", "v"]).lease().files());
    let cut = ["a", "b"].into_iter().flat_map(|here| ["c", "w", "v"].map(|there| [(here, there), (there, here)]));
    both_ran(&lab, "c", || lab.hosts().cut_all(cut.flatten()))
}

/// With the tests' script, which is a shell's: it can be told to be slow.
fn slow_stop() -> f64 {
    // Nine tenths of a stop budget of a heartbeat, which is the default.
    let lab = running(hosts(Plan::new(&["a", "b", "w", "v"]).lease()));
    lab.before("a", "stop", "sleep 0.9");
    both_ran(&lab, "b", || lab.hosts().isolate("a"))
}
