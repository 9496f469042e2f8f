//! The cluster under test: a and b run the resource, w watches. Knows when it is at rest, what it had at the start, and checks it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::measure::{Footprint, TOLERANCE_KB};
use crate::random::Random;
use crate::support::events::overlaps;
use crate::support::lab::{Lab, Plan};
use crate::support::process;
use crate::support::time::{now_ns, seconds, wait_for, wait_some};

const NODES: [&str; 3] = ["a", "b", "w"];

const FRIENDS_PAUSE: Duration = Duration::from_secs(10);

const SCRIPT: &str = include_str!("res.sh");

/// Complaints count for so long: long enough for a takeover.
const COMPLAINT_INTERVAL_S: u32 = 8;

pub(crate) struct Cluster {
    lab: Lab,
    pub(crate) random: Random,
    /// Its daemon lives from the start to the end, so that what it leaks adds up.
    spared: &'static str,
    counts: BTreeMap<&'static str, usize>,
    start_ns: u64,
    at_the_start: BTreeMap<&'static str, Footprint>,
    files_at_the_start: BTreeSet<PathBuf>,
}

impl Cluster {
    pub(crate) fn start(mut random: Random) -> Self {
        let role = |role: &str| format!("\trole_on_start {role}");
        let lab = Plan::new(&NODES)
            .lease()
            .set("complaint_count", "4")
            .set("complaint_interval", &COMPLAINT_INTERVAL_S.to_string())
            .set("attempts", "3")
            .in_resource("start_timeout 3\nstop_timeout 3\nstatus_timeout 2\nhook_timeout 2")
            .on("a", &role("secondary"))
            .on("b", &role("secondary"))
            .on("w", &role("watchdog"))
            .loopback();
        for node in NODES {
            let text = SCRIPT.replace("@LAB@", &lab.dir().display().to_string()).replace("@NODE@", node);
            fs::write(lab.script(node), &text).unwrap();
            // Another one, for reloads that change it.
            fs::write(lab.script(node).with_extension("too.sh"), &text).unwrap();
            let mode = fs::metadata(lab.script(node)).unwrap().permissions();
            fs::set_permissions(lab.script(node).with_extension("too.sh"), mode).unwrap();
        }
        lab.start_all();
        let spared = random.pick(&NODES);
        let mut cluster = Self {
            lab,
            random,
            spared,
            counts: BTreeMap::new(),
            start_ns: now_ns(),
            at_the_start: BTreeMap::new(),
            files_at_the_start: BTreeSet::new(),
        };
        println!("the daemon of {spared} is never killed, in {}", cluster.lab.dir().display());
        cluster.restore_standard();
        cluster.at_the_start = NODES.map(|node| (node, cluster.footprint(node))).into();
        cluster.files_at_the_start = files(&cluster.lab);
        cluster
    }

    pub(crate) const fn lab(&self) -> &Lab {
        &self.lab
    }

    // What is told.

    /// A fault begins.
    pub(crate) fn begin(&mut self, name: &'static str) {
        *self.counts.entry(name).or_insert(0) += 1;
    }

    /// What it does in particular.
    pub(crate) fn say(&self, what: &str) {
        println!("{:7.1} s  {what}", seconds(now_ns() - self.start_ns));
    }

    pub(crate) const fn counts(&self) -> &BTreeMap<&'static str, usize> {
        &self.counts
    }

    pub(crate) fn total(&self) -> usize {
        self.counts.values().sum()
    }

    // Who is what.

    pub(crate) fn any_node(&mut self) -> &'static str {
        self.random.pick(&NODES)
    }

    /// A node whose daemon may be killed.
    pub(crate) fn any_victim(&mut self) -> &'static str {
        let all: Vec<&'static str> = NODES.into_iter().filter(|node| *node != self.spared).collect();
        self.random.pick(&all)
    }

    pub(crate) fn may_die(&self, node: &str) -> bool {
        node != self.spared
    }

    /// The node that runs the resource, while the cluster is at rest.
    pub(crate) fn primary(&self) -> &'static str {
        if self.lab.running("a") == 1 { "a" } else { "b" }
    }

    pub(crate) fn secondary(&self) -> &'static str {
        if self.primary() == "a" { "b" } else { "a" }
    }

    pub(crate) fn worker(&self, node: &str) -> i32 {
        let role = match node {
            "w" => "watchdog",
            node if node == self.primary() => "primary",
            _ => "secondary",
        };
        let title = format!("hastmon: res ({role})");
        wait_some(&format!("{node} has its worker"), || self.lab.worker(node, &title))
    }

    // Scripts.

    /// The next call of an event on a node runs this shell text first; it is gone when that begins.
    pub(crate) fn once(&self, node: &str, event: &str, shell: &str) {
        self.lab.before(node, event, &format!("rm -f $dir/before/{event}\n{shell}"));
    }

    /// Takes back whatever has been put before the events of a node.
    pub(crate) fn clear(&self, node: &str) {
        let dir = fs::read_dir(self.lab.node_dir(node).join("before")).unwrap();
        // It may be gone by itself meanwhile.
        dir.for_each(|entry| _ = fs::remove_file(entry.unwrap().path()));
    }

    // Rest.

    fn is_up(&self, node: &str) -> bool {
        self.lab.is_up(node)
    }

    /// Exactly one node runs the resource, all others know.
    fn is_at_rest(&self) -> bool {
        let running = |node: &str| self.lab.running(node) == 1;
        if !NODES.iter().all(|node| self.is_up(node)) || running("a") == running("b") {
            return false;
        }
        let state = |node: &str| {
            let block = self.lab.res(node);
            (block.role.clone(), block.state.clone().unwrap_or_default(), block.remotes)
        };
        let is = |found: &(String, String, Vec<_>), role: &str, state: &str| found.0 == role && found.1 == state;
        let primary = state(self.primary());
        is(&primary, "primary", "run")
            && primary.2.iter().all(|(_, state): &(String, Option<String>)| state.as_deref() == Some("connected"))
            && is(&state(self.secondary()), "secondary", "stopped")
            && is(&state("w"), "watchdog", "run")
    }

    /// After a fault: daemons that are away are started, and the cluster finds its way back.
    pub(crate) fn settle(&self) {
        for node in NODES {
            self.clear(node);
            if !self.is_up(node) {
                self.lab.start(node);
            }
        }
        wait_for("one node runs the resource, seen by all", || self.is_at_rest());
        self.check_never_two();
        for node in NODES {
            wait_for(&format!("{node} has waited for its children"), || {
                self.lab.tree(node).into_iter().all(|pid| process::zombies(pid).is_empty())
            });
        }
    }

    fn check_never_two(&self) {
        let found: Vec<String> = overlaps(&self.lab.events()).iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "two at once: {}", found.join("; "));
    }

    // The end.

    fn restore_standard(&mut self) {
        self.lab.write_config(&self.lab.standard_config());
        for node in NODES {
            let output = self.lab.ctl(node, &["reload"]);
            assert_eq!(output.code, 0, "reload on {node}: {output:?}");
            self.lab.role(node, if node == "w" { "watchdog" } else { "secondary" });
        }
        self.lab.role("a", "primary");
        wait_for("a runs the resource, seen by all", || self.is_at_rest() && self.primary() == "a");
        // A friend that was away is called at every eighth heartbeat: until then a connection is missing.
        crate::support::time::pause(FRIENDS_PAUSE);
    }

    /// When no hook runs and no caller is connected.
    fn footprint(&self, node: &str) -> Footprint {
        let mut last = None;
        wait_some(&format!("{node} has the same descriptors for a while"), || {
            let now = Footprint::of(&self.lab, node)?;
            let is_steady = last.replace(now.processes.clone()) == Some(now.processes.clone());
            is_steady.then_some(now)
        })
    }

    /// Descriptors, memory, processes and files are those of the start.
    pub(crate) fn check_as_at_the_start(&mut self) {
        self.restore_standard();
        println!("\nnode  descriptors  own memory, kB (start, end)");
        for (node, start) in &self.at_the_start {
            let begins = now_ns();
            let mut now = self.footprint(node);
            // A connection with garbage may be open for a few seconds more, a poll is from time to time.
            while now.processes != start.processes && now_ns() - begins < 30_000_000_000 {
                now = self.footprint(node);
            }
            assert_eq!(now.processes, start.processes, "descriptors and processes of {node}");
            println!("{node:4}  {:11}  {:6} {:6}", now.descriptor_count(), start.memory_kb, now.memory_kb);
            let most = start.memory_kb + TOLERANCE_KB;
            assert!(now.memory_kb <= most, "{node} had {} kB and has {} kB", start.memory_kb, now.memory_kb);
        }
        assert_eq!(files(&self.lab), self.files_at_the_start, "files");
        let known: BTreeSet<i32> = NODES.into_iter().flat_map(|node| self.lab.everything(node)).collect();
        let mark = self.lab.dir().display().to_string();
        let strange = || {
            process::marked(&mark).into_iter().filter(|pid| !known.contains(pid)).filter(|pid| {
                // Hooks come and go.
                !NODES.into_iter().any(|node| self.lab.tree(node).contains(pid))
            })
        };
        wait_for("no process is left over", || strange().count() == 0);
        assert_eq!(["a", "b", "w"].map(|node| self.lab.running(node)), [1, 0, 0], "exactly one runs it");
    }

    /// All end when they are told to, and leave nothing.
    pub(crate) fn check_end(&self) {
        for node in ["w", "a", "b"] {
            assert_eq!(self.lab.stop(node), 0, "exit code of {node}");
        }
        wait_for("nothing is left", || NODES.iter().all(|node| self.lab.everything(node).is_empty()));
        let left: Vec<PathBuf> = files(&self.lab).into_iter().filter(|path| is_of_the_daemon(path)).collect();
        assert!(left.is_empty(), "files are left: {left:?}");
        self.check_never_two();
    }

    // Daemons.

    /// kill -9 of everything on a node; the record knows.
    pub(crate) fn power_off(&self, node: &str) {
        self.lab.power_off(node);
    }

    /// Ends a daemon with one signal, or with a second one at once after the first.
    pub(crate) fn stop(&self, node: &str, twice: bool) {
        self.lab.signal(node, Signal::TERM);
        if twice && self.is_up(node) {
            self.lab.signal(node, Signal::TERM);
        }
        assert_eq!(self.lab.ended(node), 0, "exit code of {node}");
    }

    /// Stops a process for a while.
    pub(crate) fn freeze(pid: i32, span: Duration) {
        process::signal(pid, Signal::STOP);
        crate::support::time::pause(span);
        process::signal(pid, Signal::CONT);
    }
}

/// Everything in the directories of the nodes but the files of the resource.
fn files(lab: &Lab) -> BTreeSet<PathBuf> {
    let in_dir = |dir: PathBuf| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    NODES.into_iter().flat_map(|node| in_dir(lab.node_dir(node))).collect()
}

/// Pidfile, locks of workers, control socket.
fn is_of_the_daemon(path: &std::path::Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    name == "control" || name == "pid" || name.starts_with("pid.")
}
