//! What it costs while nothing happens: processor, packets, memory; and how long `status` and the launch of a hook take.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cluster::{
    Used, cheap, hosts, median, ms_since, own_processes, plan, pss_kb, running, status_is_answered, traffic, used_by,
};
use crate::run::{Figure, Measurement, Options};
use crate::support::lab::{Lab, Plan, hastmonctl};
use crate::support::time::{now_ns, pause, seconds, wait_for, wait_some_within};

/// How long an idle cluster is watched, and how many heartbeats that are.
const WATCHED: Duration = Duration::from_secs(30);
const BEATS: f64 = 30.0;

/// How long many resources may take until all run, and how long they then are left alone before they are watched.
const PATIENCE: Duration = Duration::from_secs(300);
const SETTLES: Duration = Duration::from_secs(5);

/// A worker tells how late it was at worst for at least 50 s, and at most a minute: whoever asks so often misses nothing.
const LATENESS_LASTS: Duration = Duration::from_secs(45);

/// Questions for the status in one run.
const QUESTIONS: usize = 30;

/// The pauses between two questions, and between two looks at the memory of a process: where the machine is nearly full, what measures must
/// not be what is measured.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(50);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// How long hooks are counted that run every 10 ms, and how often one is waited for after another.
const HOOKS_WATCHED: Duration = Duration::from_secs(5);
const LAUNCHES: usize = 20;

pub(crate) const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        figures: &[
            Figure { name: "1 resource: processor for each heartbeat", unit: "us", goal: Some(60.0) },
            Figure { name: "1 resource: packets between two nodes, a heartbeat", unit: "", goal: None },
            Figure { name: "1 resource: bytes between two nodes, a heartbeat", unit: "B", goal: None },
            Figure { name: "1 resource: memory of the main daemon", unit: "kB", goal: Some(2000.0) },
            Figure { name: "1 resource: memory of its worker", unit: "kB", goal: None },
            Figure { name: "1 resource: status over the control socket", unit: "ms", goal: None },
            Figure { name: "1 resource: hastmonctl status", unit: "ms", goal: None },
        ],
        measure: |_| one(plan()),
    },
    Measurement {
        figures: &[
            Figure { name: "with a key: processor for each heartbeat", unit: "us", goal: None },
            Figure { name: "with a key: packets between two nodes, a heartbeat", unit: "", goal: None },
            Figure { name: "with a key: bytes between two nodes, a heartbeat", unit: "B", goal: None },
        ],
        measure: |_| one(plan().in_resource("key {\n algorithm SHA256\n secret \"correct horse battery staple\"\n}")),
    },
    Measurement {
        figures: &[
            Figure { name: "{N} resources: all run after", unit: "s", goal: None },
            Figure { name: "{N} resources: processor, each and heartbeat", unit: "us", goal: Some(60.0) },
            Figure { name: "{N} resources: hooks, each and heartbeat", unit: "us", goal: None },
            Figure { name: "{N} resources: packets, each and heartbeat", unit: "", goal: None },
            Figure { name: "{N} resources: bytes, each and heartbeat", unit: "B", goal: None },
            Figure { name: "{N} resources: memory, each", unit: "kB", goal: Some(250.0) },
            Figure { name: "{N} resources: memory of the main daemon", unit: "kB", goal: None },
            Figure { name: "{N} resources: status over the control socket", unit: "ms", goal: None },
            Figure { name: "{N} resources: hastmonctl status", unit: "ms", goal: None },
            Figure { name: "{N} resources: latest check, 99th percentile", unit: "ms", goal: Some(500.0) },
            Figure { name: "{N} resources: complaints, and nothing is wrong", unit: "", goal: Some(0.0) },
            Figure { name: "{N} resources: reload that changes one", unit: "s", goal: Some(1.0) },
            Figure { name: "{N} resources: host dies, all run elsewhere", unit: "s", goal: None },
        ],
        measure: |options: &Options| many(options.resources, options.watch),
    },
    Measurement {
        figures: &[
            Figure { name: "hook: from the end of one to the next", unit: "us", goal: None },
            Figure { name: "hook: the worker's processor for each", unit: "us", goal: None },
            Figure { name: "hook: its own processor, exec included", unit: "us", goal: None },
        ],
        measure: |_| hooks(),
    },
];

/// Processor of the primary's node and traffic with the secondary's for so many resources, each and heartbeat: own, hooks, packets, bytes.
fn idle(lab: &Lab, resources: f64) -> [f64; 4] {
    let pids = own_processes(lab, "a");
    let mut used = Used { own: Duration::ZERO, hooks: Duration::ZERO };
    let (packets, bytes) = traffic(lab, "a", "b", || used = used_by(&pids, || pause(WATCHED)));
    assert_eq!(own_processes(lab, "a"), pids, "the same processes from the beginning to the end");
    let each = BEATS * resources;
    [used.own.as_secs_f64() * 1e6 / each, used.hooks.as_secs_f64() * 1e6 / each, packets / each, bytes / each]
}

/// How long `status` of all resources takes: over the socket, and with the start and the end of hastmonctl.
fn status(lab: &Lab) -> [f64; 2] {
    let over_socket = || {
        pause(BETWEEN_QUESTIONS);
        let start = now_ns();
        assert!(status_is_answered(&lab.control_socket("a")));
        ms_since(start)
    };
    let by_program = || {
        let mut command = Command::new(hastmonctl());
        command.args(["status", "-n", "a", "-c"]).arg(lab.config()).stdin(Stdio::null()).stdout(Stdio::null());
        pause(BETWEEN_QUESTIONS);
        let start = now_ns();
        assert!(command.status().unwrap().success());
        ms_since(start)
    };
    let mut medians = [0.0; 2];
    medians[0] = median(std::iter::repeat_with(over_socket).take(QUESTIONS).collect());
    medians[1] = median(std::iter::repeat_with(by_program).take(QUESTIONS).collect());
    medians
}

fn one(plan: Plan) -> Vec<f64> {
    let lab = running(cheap(hosts(plan)));
    pause(SETTLES);
    // The hooks of one resource are fewer than the ticks that they are counted in.
    let [own, _, packets, bytes] = idle(&lab, 1.0);
    let worker = lab.worker("a", "hastmon: res (primary)").expect("a worker");
    let memory = [pss_kb(lab.pid("a")), pss_kb(worker)];
    [[own, packets, bytes].as_slice(), &memory, &status(&lab)].concat()
}

/// How late the workers of the primaries wake up: of each the worst of a minute, of these the 99th percentile, in ms. For as long as this is
/// watched, the worst; no number for programs that do not tell it.
fn lateness(lab: &Lab, watch: Duration) -> f64 {
    let Some(mut worst) = latest(lab) else { return f64::NAN };
    let mut left = watch;
    while !left.is_zero() {
        let span = left.min(LATENESS_LASTS);
        pause(span);
        left -= span;
        worst = worst.max(latest(lab).expect("it was told before"));
    }
    worst
}

/// What `status` says of it now.
fn latest(lab: &Lab) -> Option<f64> {
    let output = lab.ctl("a", &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&output.stdout).ok()?;
    // What is not worth telling is null.
    let ms = |resource: &serde_json::Value| Some(resource.get("lateness_seconds")?.as_f64().unwrap_or_default() * 1e3);
    let mut each: Vec<f64> = status["resources"].as_array()?.iter().map(ms).collect::<Option<_>>()?;
    each.sort_by(f64::total_cmp);
    each.get((each.len() * 99).div_ceil(100).checked_sub(1)?).copied()
}

fn many(count: usize, watch: Duration) -> Vec<f64> {
    let start = now_ns();
    let lab = cheap(hosts(plan().resources((0..count).map(|number| format!("r{number}")))));
    lab.start_all();
    lab.role("b", "secondary");
    lab.role("a", "primary");
    wait_some_within(PATIENCE, "all run", || (lab.running("a") == count).then_some(()));
    let all_run = seconds(now_ns() - start);
    lab.role("w", "watchdog");
    wait_some_within(PATIENCE, "all are watched", || (lab.workers("w").len() == count).then_some(()));
    pause(SETTLES);
    let complained = calls(&lab, "w", "complain ");
    let resources = f64::from(u32::try_from(count).unwrap());
    let idle = idle(&lab, resources);
    let lateness = lateness(&lab, watch.saturating_sub(WATCHED));
    let look = |pid| {
        pause(BETWEEN_LOOKS);
        pss_kb(pid)
    };
    let memory: f64 = own_processes(&lab, "a").into_iter().map(look).sum();
    let memory = [memory / resources, pss_kb(lab.pid("a"))];
    let status = status(&lab);
    let complaints = f64::from(u32::try_from(calls(&lab, "w", "complain ") - complained).unwrap());
    let reload = reload_of_one(&lab);
    assert_eq!((lab.running("a"), lab.running("b")), (count, 0), "all still run, and where they did");
    assert_eq!((calls(&lab, "a", "start "), calls(&lab, "a", "stop ")), (count, 0), "none was started again");
    [[all_run].as_slice(), &idle, &memory, &status, &[lateness, complaints, reload, all_move(&lab, count)]].concat()
}

/// How many calls begin with this on a node.
fn calls(lab: &Lab, node: &str, event: &str) -> usize {
    lab.calls(node).iter().filter(|call| call.starts_with(event)).count()
}

/// The file of the primary's node says something new of the first resource alone.
fn reload_of_one(lab: &Lab) -> f64 {
    let first = "resource r0 {\n";
    let text = lab.standard_config();
    assert!(text.contains(first), "there is a first resource");
    lab.write_config(&text.replacen(first, &format!("{first}complaint_interval 59\n"), 1));
    let start = now_ns();
    let output = lab.ctl("a", &["reload"]);
    assert_eq!(output.code, 0, "{output:?}");
    seconds(now_ns() - start)
}

/// From the moment that nothing of the primary's host is heard any more until the last one runs, each started once.
fn all_move(lab: &Lab, count: usize) -> f64 {
    let before = calls(lab, "b", "start ");
    let start = now_ns();
    lab.power_off("a");
    wait_some_within(PATIENCE, "all run elsewhere", || (lab.running("b") == count).then_some(()));
    let all_run = seconds(now_ns() - start);
    pause(SETTLES);
    assert_eq!((lab.running("b"), calls(lab, "b", "start ") - before), (count, count), "all run on, each started once");
    all_run
}

/// A node alone, that speaks protocol 0: no votes and nobody to talk to, so that a heartbeat is little more than its `status`.
fn hooks() -> Vec<f64> {
    let plan = Plan::new(&["a"]).files().set("heartbeat_interval", "10ms").set("timeout", "1");
    let lab = cheap(plan.loopback());
    lab.start("a");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    let worker = lab.worker("a", "hastmon: res (primary)").expect("a worker");
    fs::write(lab.dir().join("trace"), "").unwrap();
    let before = lab.count("a", "status res");
    let used = used_by(&[worker], || pause(HOOKS_WATCHED));
    let calls = f64::from(u32::try_from(lab.count("a", "status res") - before).unwrap());
    let file = lab.node_dir("a").join("run/res");
    for _ in 0..LAUNCHES {
        fs::remove_file(&file).unwrap();
        wait_for("it is started again", || file.exists());
        // It has been seen to run before it is taken away again.
        pause(Duration::from_millis(50));
    }
    let events = lab.events();
    let gap = |pair: &[crate::support::events::Event]| {
        let [end, next] = pair else { return None };
        (end.call() == "end status res" && next.call() == "start res").then(|| seconds(next.at_ns - end.at_ns) * 1e6)
    };
    let gaps: Vec<f64> = events.windows(2).filter_map(gap).collect();
    assert!(gaps.len() >= LAUNCHES, "{} starts right after a status", gaps.len());
    vec![median(gaps), used.own.as_secs_f64() * 1e6 / calls, used.hooks.as_secs_f64() * 1e6 / calls]
}
