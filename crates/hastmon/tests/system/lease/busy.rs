//! A busy machine must not look like a dead one: nodes with short heartbeats while every core and the disk are kept busy (stress-ng).
//!
//! `HASTMON_BUSY_SECONDS=600 cargo test -p hastmon --test system lease::busy -- --ignored --nocapture --test-threads 1`, as root, prints
//! what happened. HASTMON_TEST_PROGRAMS=DIR takes programs of a release build.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::lab::{Lab, Plan};
use crate::support::process;
use crate::support::time::{now_ns, pause, seconds};

/// How long the machine is kept busy, and the default of that.
const SECONDS: &str = "HASTMON_BUSY_SECONDS";
const DEFAULT: u64 = 60;

/// Keeps every core busy with its like, and the disk of the votes.
struct Stress(Child);

impl Stress {
    fn begin(lab: &Lab) -> Self {
        let mut command = Command::new("stress-ng");
        command.args(["--quiet", "--cpu", "0", "--hdd", "1", "--hdd-bytes", "512m", "--temp-path"]).arg(lab.dir());
        let child = command.stdin(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("stress-ng (Debian: apt-get install stress-ng): {error}")))
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        process::signal(i32::try_from(self.0.id()).unwrap(), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// The worst lateness that a node's `status` knows of, in ms.
fn lateness_ms(lab: &Lab, node: &str) -> u64 {
    let line = lab.res(node).says("lateness").to_owned();
    line.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// How often what runs has stopped or moved.
fn false_failovers(realtime: &str) -> usize {
    let span = std::env::var(SECONDS).map_or(DEFAULT, |text| text.parse().expect("a number of seconds"));
    let plan = Plan::new(&["a", "b", "w"]).lease().set("heartbeat_interval", "100ms").set("timeout", "300ms");
    let Some(lab) = plan.set("realtime", realtime).hosts() else { return 0 };
    lab.may_overlap();
    lab.run_standard();
    pause(Duration::from_secs(2));
    assert!(realtime == "off" || !lab.log_text("a").contains("no realtime scheduling"), "{}", lab.log_text("a"));
    let quiet = lab.events().len();
    let epoch = super::epoch(&lab, "a");
    let stress = Stress::begin(&lab);
    let (start, mut late) = (now_ns(), [0; 3]);
    while now_ns() - start < span * 1_000_000_000 {
        pause(Duration::from_secs(10));
        for (worst, node) in late.iter_mut().zip(["a", "b", "w"]) {
            *worst = lateness_ms(&lab, node).max(*worst);
        }
    }
    drop(stress);
    let events = lab.events().split_off(quiet);
    let count = |node: &str, what: &str| events.iter().filter(|event| event.node == node && event.what == what).count();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let (stops, ups) = (count("a", "stop") + count("b", "stop"), count("a", "up") + count("b", "up"));
    println!(
        "realtime {realtime}, {:.0} s, load average {}: stops {stops}, starts {ups}, role changes {}, new epochs {}, complaints of w {}, \
         calls of status on a {}, late by at most (ms) a {} b {} w {}, ran twice: {}",
        seconds(now_ns() - start),
        load.split(' ').next().unwrap_or(""),
        ["a", "b", "w"].iter().map(|node| count(node, "role")).sum::<usize>(),
        lab.res("b").says("epoch").parse::<u64>().unwrap_or(0).saturating_sub(epoch),
        count("w", "complain"),
        count("a", "status"),
        late[0],
        late[1],
        late[2],
        crate::support::events::overlaps(&lab.events()).len(),
    );
    if stops + ups > 0 {
        for node in ["a", "b", "w"] {
            println!("---- {node} ----\n{}", lab.log_text(node));
        }
    }
    stops + ups
}

#[test]
#[ignore = "keeps the whole machine busy, see above"]
fn with_realtime_nothing_stops_or_moves_on_a_busy_machine() {
    assert_eq!(false_failovers("on"), 0);
}

#[test]
#[ignore = "keeps the whole machine busy, see above"]
fn without_realtime_for_comparison() {
    false_failovers("off");
}
