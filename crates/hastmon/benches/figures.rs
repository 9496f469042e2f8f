//! The figures that say how fast and how cheap hastmon is, measured on three hosts (network namespaces) with the lease,
//! complaint_count 3, heartbeat_interval 1 where nothing else is said, as a table. HASTMON_TEST_STATE_IN=DIR chooses the disk for the votes.
//!
//! `cargo bench -p hastmon --bench figures -- [RUNS [WORD…]]`, as root. RUNS: how often each time is measured (5).
//! WORDs choose figures by their names. The resource's log tells time to 10 ms.

fn main() {
    // `cargo test --all-targets` runs benchmarks as well, to see that they can be built.
    #[cfg(test)]
    if std::env::args().any(|word| word == "--bench") {
        figures::main();
    }
}

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "the figures use a part of what the tests use")]
mod support;

#[cfg(test)]
mod figures {
    use std::fs;
    use std::hash::{BuildHasher, RandomState};
    use std::time::Duration;

    use crate::support::events::overlaps;
    use crate::support::lab::{Lab, Plan};
    use crate::support::process::{processor_time, signal, title};
    use crate::support::time::{now_ns, pause, seconds, wait_for, wait_some_within};
    use rustix::process::Signal;

    /// How long an idle cluster is watched.
    const IDLE: Duration = Duration::from_secs(60);

    /// How long hundreds of resources may take until all run, and how long they are watched then.
    const MANY_PATIENCE: Duration = Duration::from_secs(300);
    const MANY_WATCHED: Duration = Duration::from_secs(30);

    /// One line of the table.
    struct Figure {
        name: &'static str,
        unit: &'static str,
        /// What is to be reached.
        goal: f64,
        measure: fn() -> f64,
        /// Measured once and not RUNS times.
        once: bool,
    }

    const FIGURES: [Figure; 14] = [
        Figure { name: "host dies, heartbeat 1 s: started", unit: "s", goal: 4.0, measure: host_dies_1s, once: false },
        Figure { name: "host dies, 100 ms: started", unit: "s", goal: 0.4, measure: host_dies_100ms, once: false },
        Figure { name: "host dies, 25 ms: started", unit: "s", goal: 0.12, measure: host_dies_25ms, once: false },
        Figure { name: "daemon killed: stopped on that node", unit: "s", goal: 0.5, measure: daemon_dies, once: false },
        Figure {
            name: "daemon killed: started on the other",
            unit: "s",
            goal: 0.5,
            measure: daemon_replaced,
            once: false,
        },
        Figure { name: "switchover, beyond the scripts", unit: "s", goal: 0.1, measure: switchover, once: false },
        Figure { name: "isolated primary: both ran", unit: "s", goal: 0.0, measure: isolated, once: false },
        Figure { name: "one of two secondaries kept: both ran", unit: "s", goal: 0.0, measure: keeps_one, once: false },
        Figure {
            name: "stop takes 90 %, 2 watchdogs: both ran",
            unit: "s",
            goal: 0.0,
            measure: slow_stop,
            once: false,
        },
        Figure { name: "resource dies: started again", unit: "s", goal: 1.1, measure: resource_dies, once: false },
        Figure { name: "idle node: processor", unit: "%", goal: 0.1, measure: idle_own, once: true },
        Figure { name: "idle node: with the hooks' shells", unit: "%", goal: 0.1, measure: idle_all, once: true },
        Figure { name: "memory for each of 100 resources", unit: "kB", goal: 300.0, measure: memory, once: true },
        Figure { name: "400 resources: all run after", unit: "s", goal: 60.0, measure: many, once: true },
    ];

    fn plan() -> Plan {
        Plan::new(&["a", "b", "w"]).lease()
    }

    fn cluster_of(plan: Plan) -> Lab {
        let lab = plan.hosts().expect("figures need hosts of their own");
        lab.run_standard();
        let all = format!("{0} of {0} votes", lab.nodes().count());
        wait_for("all vote for it", || lab.res("a").says("lease").contains(&all));
        // Faults do not wait for a heartbeat: any moment between two must be as likely as any other.
        pause(Duration::from_millis(RandomState::new().hash_one(now_ns()) % 1000));
        lab
    }

    fn cluster() -> Lab {
        cluster_of(plan())
    }

    /// From the moment that nothing of the host is heard any more until the script starts the resource.
    fn host_dies(plan: Plan) -> f64 {
        let lab = cluster_of(plan);
        lab.hosts().isolate("a");
        let start = now_ns();
        lab.power_off("a");
        seconds(lab.wait_after(start, "b", "up res").saturating_sub(start))
    }

    fn host_dies_1s() -> f64 {
        host_dies(plan())
    }

    fn host_dies_100ms() -> f64 {
        host_dies(plan().set("heartbeat_interval", "100ms").set("timeout", "300ms"))
    }

    fn host_dies_25ms() -> f64 {
        host_dies(plan().set("heartbeat_interval", "25ms").set("timeout", "75ms"))
    }

    fn daemon_replaced() -> f64 {
        let lab = cluster();
        let start = now_ns();
        lab.kill("a");
        let down = lab.wait_after(start, "a", "down res");
        let up = lab.wait_after(start, "b", "up res");
        assert!(down <= up);
        seconds(up.saturating_sub(start))
    }

    /// Without the time that `stop` takes; `start` has begun when it says so.
    fn switchover() -> f64 {
        let lab = cluster();
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
        let lab = cluster();
        both_ran(&lab, "b", || lab.hosts().isolate("a"))
    }

    /// A primary and one of its secondaries on one side, the other secondary and the watchdogs on the other.
    fn keeps_one() -> f64 {
        let lab = cluster_of(Plan::new(&["a", "b", "c", "w", "v"]).lease());
        let cut = ["a", "b"].into_iter().flat_map(|here| ["c", "w", "v"].map(|there| [(here, there), (there, here)]));
        both_ran(&lab, "c", || lab.hosts().cut_all(cut.flatten()))
    }

    fn slow_stop() -> f64 {
        // Nine tenths of a stop budget of a heartbeat, which is the default.
        let lab = cluster_of(Plan::new(&["a", "b", "w", "v"]).lease());
        lab.before("a", "stop", "sleep 0.9");
        both_ran(&lab, "b", || lab.hosts().isolate("a"))
    }

    fn daemon_dies() -> f64 {
        let lab = cluster();
        let start = now_ns();
        lab.kill("a");
        seconds(lab.wait_after(start, "a", "down res").saturating_sub(start))
    }

    fn resource_dies() -> f64 {
        let lab = cluster();
        let (_, pid) = lab.services("a")[0];
        let start = now_ns();
        signal(pid, Signal::KILL);
        seconds(lab.wait_after(start, "a", "up res").saturating_sub(start))
    }

    /// Daemon and workers of a node, without the hooks that happen to run.
    fn own_processes(lab: &Lab, node: &str) -> Vec<i32> {
        let daemon = lab.pid(node);
        let is_own = |pid: &i32| *pid == daemon || title(*pid).is_some_and(|title| title.starts_with("hastmon: "));
        lab.tree(node).into_iter().filter(is_own).collect()
    }

    /// Processor time of children that have ended and were waited for: a worker's hooks.
    fn reaped(pid: i32) -> Duration {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = text.rsplit_once(')').unwrap().1.split_whitespace().skip(13).take(2);
        // A tick is 10 ms on every Linux that matters.
        fields.map(|ticks| Duration::from_millis(10) * ticks.parse::<u32>().unwrap()).sum()
    }

    /// Share of one core, in per cent, of the busiest node of an idle cluster.
    fn idle(time: fn(i32) -> Duration) -> f64 {
        let lab = cluster();
        let used = |node: &str| -> Duration { own_processes(&lab, node).into_iter().map(time).sum() };
        let before = ["a", "b", "w"].map(used);
        let start = now_ns();
        pause(IDLE);
        let share = |used: Duration| used.as_secs_f64() / seconds(now_ns() - start) * 100.0;
        let shares = ["a", "b", "w"].iter().zip(before).map(|(node, before)| share(used(node).saturating_sub(before)));
        shares.fold(0.0, f64::max)
    }

    fn idle_own() -> f64 {
        idle(processor_time)
    }

    fn idle_all() -> f64 {
        idle(|pid| processor_time(pid) + reaped(pid))
    }

    /// Proportional set size in kB: a process's own memory and its share of what it shares.
    fn pss_kb(pid: i32) -> u32 {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    fn crowd(count: usize) -> Lab {
        let plan = plan().resources((0..count).map(|number| format!("r{number}")));
        let lab = plan.files().hosts().expect("figures need hosts of their own");
        lab.start_all();
        lab.role("b", "secondary");
        lab.role("a", "primary");
        lab
    }

    /// Waits until all run, then lets them be watched.
    fn all_run(lab: &Lab, count: usize) {
        wait_some_within(MANY_PATIENCE, "all run", || (lab.running("a") == count).then_some(()));
        lab.role("w", "watchdog");
        pause(MANY_WATCHED);
    }

    fn memory() -> f64 {
        const COUNT: u32 = 100;
        let lab = crowd(COUNT as usize);
        all_run(&lab, COUNT as usize);
        let total: u32 = own_processes(&lab, "a").into_iter().map(pss_kb).sum();
        f64::from(total) / f64::from(COUNT)
    }

    fn many() -> f64 {
        const COUNT: usize = 400;
        let start = now_ns();
        let lab = crowd(COUNT);
        all_run(&lab, COUNT);
        let took = seconds(now_ns() - start) - MANY_WATCHED.as_secs_f64();
        let up = ["a", "b", "w"].iter().all(|node| lab.is_up(node));
        let calls = lab.calls("a");
        let starts = calls.iter().filter(|call| call.starts_with("start ")).count();
        let complaints = lab.calls("w").iter().filter(|call| call.starts_with("complain ")).count();
        println!(
            "  400 resources, {} s later: all daemons up: {up}; run on a: {}, on b: {}; starts: {starts}; complaints: {complaints}",
            MANY_WATCHED.as_secs(),
            lab.running("a"),
            lab.running("b")
        );
        wait_for("everything is as it should be", || up && lab.running("a") == COUNT && lab.running("b") == 0);
        took
    }

    fn report(figure: &Figure, runs: usize) {
        let runs = if figure.once { 1 } else { runs };
        let mut values: Vec<f64> = (0..runs).map(|_| (figure.measure)()).collect();
        values.sort_by(f64::total_cmp);
        let (least, median, most) = (values[0], values[values.len() / 2], values[values.len() - 1]);
        let Figure { name, unit, goal, .. } = figure;
        println!("| {name:<38} | {median:>8.2} | {least:>8.2} | {most:>8.2} | {runs:>4} | {goal:>6} | {unit:<2} |");
    }

    pub(super) fn main() {
        let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
        let runs = arguments.first().map_or(5, |word| word.parse().expect("RUNS is a number"));
        println!("| {:<38} | {:>8} | {:>8} | {:>8} | runs |   goal |    |", "", "median", "least", "most");
        println!("|{:-<40}|{:->10}|{:->10}|{:->10}|-----:|-------:|----|", "", ":", ":", ":");
        let words = arguments.get(1..).unwrap_or_default();
        let chosen =
            |figure: &&Figure| words.is_empty() || words.iter().any(|word| figure.name.contains(word.as_str()));
        FIGURES.iter().filter(chosen).for_each(|figure| report(figure, runs));
    }
}
