//! How long the programs take to start. Without hosts of their own, so that nothing stands between this process and theirs.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::{cheap, median, ms_since, plan, status_is_answered};
use crate::run::{Figure, Measurement, Options};
use crate::support::lab::{hastmon, hastmonctl};
use crate::support::process::signal;
use crate::support::time::{now_ns, pause};

/// Starts in one run, of which it is the median that counts.
const CALLS: usize = 30;
const STARTS: usize = 9;

/// How often a daemon that starts is asked: a tenth of what shall be told apart.
const ASK_EVERY: Duration = Duration::from_micros(100);

pub(crate) const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        figures: &[
            Figure { name: "start: hastmonctl --version, until its end", unit: "ms", goal: Some(5.0) },
            Figure { name: "start: hastmon --version, until its end", unit: "ms", goal: Some(5.0) },
        ],
        measure: |_| vec![version(Command::new(hastmonctl())), version(Command::new(hastmon()))],
    },
    Measurement {
        figures: &[Figure { name: "start: daemon, until it answers status", unit: "ms", goal: Some(5.0) }],
        measure: |_| vec![daemon(1)],
    },
    Measurement {
        figures: &[Figure { name: "start: the same with {N} resources", unit: "ms", goal: None }],
        measure: |options: &Options| vec![daemon(options.resources)],
    },
];

/// From the moment before a program is started until it has ended and its end was seen.
fn version(mut command: Command) -> f64 {
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null());
    let once = || {
        let start = now_ns();
        assert!(command.status().unwrap().success());
        ms_since(start)
    };
    median(std::iter::repeat_with(once).take(CALLS).collect())
}

/// From the moment before the daemon is started until the answer to `status` is there. Its resources are in role init.
fn daemon(resources: usize) -> f64 {
    let plan = plan().resources((0..resources).map(|number| format!("r{number}")));
    let lab = cheap(plan.loopback());
    let once = || {
        let mut command = lab.daemon_command("a", &["-F"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let start = now_ns();
        let mut child = command.spawn().unwrap();
        while !status_is_answered(&lab.control_socket("a")) {
            assert!(child.try_wait().unwrap().is_none(), "the daemon has ended at once");
            pause(ASK_EVERY);
        }
        let took = ms_since(start);
        signal(i32::try_from(child.id()).unwrap(), Signal::TERM);
        child.wait().unwrap();
        took
    };
    median(std::iter::repeat_with(once).take(STARTS).collect())
}
