//! Clusters to be measured, and what the system says of their processes and their traffic.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::lab::{Lab, Plan, run};
use crate::support::peer::{Value, encode, fields};
use crate::support::process::{processor_time, title};
use crate::support::time::{PATIENCE, now_ns, pause, wait_for};

/// The exec script as a program (`bench/resource`), wherever it was built.
const RESOURCE: &str = "HASTMON_BENCH_RESOURCE";

/// A resource on three nodes, with the lease, complaint_count 3 and heartbeat_interval 1 where nothing else is said. It is a file.
pub(crate) fn plan() -> Plan {
    Plan::new(&["a", "b", "w"]).lease().files()
}

/// Has the nodes' scripts be the program that costs next to nothing, and tells time to the nanosecond.
pub(crate) fn cheap(lab: Lab) -> Lab {
    let built = Path::new(env!("CARGO_BIN_EXE_hastmon")).with_file_name("hastmon-bench-resource");
    let program = std::env::var_os(RESOURCE).map_or(built, PathBuf::from);
    assert!(program.exists(), "{} is missing: bench/run builds it", program.display());
    for node in lab.nodes() {
        fs::remove_file(lab.script(node)).unwrap();
        std::os::unix::fs::symlink(&program, lab.script(node)).unwrap();
    }
    lab
}

/// Hosts of their own for a plan.
pub(crate) fn hosts(plan: Plan) -> Lab {
    plan.hosts().expect("figures need hosts of their own")
}

/// Lets it run until all vote for the primary.
pub(crate) fn running(lab: Lab) -> Lab {
    lab.run_standard();
    let all = format!("{0} of {0} votes", lab.nodes().count());
    wait_for("all vote for it", || lab.res("a").says("lease").contains(&all));
    // Faults do not wait for a heartbeat: any moment between two must be as likely as any other.
    pause(Duration::from_millis(RandomState::new().hash_one(now_ns()) % 1000));
    lab
}

/// The main daemon and the workers of a node, without the hooks that happen to run.
pub(crate) fn own_processes(lab: &Lab, node: &str) -> Vec<i32> {
    let daemon = lab.pid(node);
    let is_own = |pid: &i32| *pid == daemon || title(*pid).is_some_and(|title| title.starts_with("hastmon: "));
    lab.tree(node).into_iter().filter(is_own).collect()
}

/// Processor time of children that have ended and were waited for: a worker's hooks.
fn reaped(pid: i32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(13).take(2);
    // A tick is 10 ms on every Linux that matters.
    fields.map(|ticks| Duration::from_millis(10) * ticks.parse::<u32>().unwrap()).sum()
}

/// Processor time of a node in a span: that of its own processes, and that of the hooks that ended in it.
pub(crate) struct Used {
    pub(crate) own: Duration,
    pub(crate) hooks: Duration,
}

/// Watches a node's processes while something goes on; they are the same ones at its beginning and at its end.
pub(crate) fn used_by(pids: &[i32], while_this: impl FnOnce()) -> Used {
    let sum = |time: fn(i32) -> Duration| -> Duration { pids.iter().map(|pid| time(*pid)).sum() };
    let (own, hooks) = (sum(processor_time), sum(reaped));
    while_this();
    Used { own: sum(processor_time).saturating_sub(own), hooks: sum(reaped).saturating_sub(hooks) }
}

/// Proportional set size in kB: a process's own memory and its share of what it shares.
pub(crate) fn pss_kb(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

/// Packets and bytes (of IP, without Ethernet) between two hosts, both ways, while something goes on.
pub(crate) fn traffic(lab: &Lab, node: &str, other: &str, while_this: impl FnOnce()) -> (f64, f64) {
    let rules = |action: &str| {
        for [chain, which] in [["INPUT", "-s"], ["OUTPUT", "-d"]] {
            let address = lab.ip(other).to_string();
            let rule = ["-w", action, chain, which, &address];
            assert_eq!(run(lab.hosts().command(node, "iptables").args(rule)).code, 0, "iptables {rule:?}");
        }
    };
    rules("-I");
    while_this();
    let counted = run(lab.hosts().command(node, "iptables-save").args(["-c", "-t", "filter"])).stdout;
    rules("-D");
    let counters = counted.lines().filter_map(|line| line.strip_prefix('[')?.split_once(']')?.0.split_once(':'));
    counters.fold((0.0, 0.0), |(packets, bytes), (more_packets, more_bytes)| {
        (packets + more_packets.parse::<f64>().unwrap(), bytes + more_bytes.parse::<f64>().unwrap())
    })
}

/// Asks for the status of all resources over the control socket, as hastmonctl does: whether there was a whole answer.
pub(crate) fn status_is_answered(control: &Path) -> bool {
    let ask = || -> std::io::Result<()> {
        let mut stream = UnixStream::connect(control)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let text = Value::Text("all".to_owned());
        stream.write_all(&encode(&fields([("cmd", Value::U8(2)), ("resource0", text), ("type", Value::U8(1))])))?;
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let size = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        stream.read_exact(&mut vec![0; size as usize])
    };
    ask().is_ok()
}

/// The middle of some values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds since `start_ns` as milliseconds.
pub(crate) fn ms_since(start_ns: u64) -> f64 {
    crate::support::time::seconds(now_ns() - start_ns) * 1e3
}
