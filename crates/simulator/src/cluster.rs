//! A cluster as its administrator would write it down: nodes with their roles, and the settings that matter to time.

use std::fmt::Write;
use std::time::Duration;

use hastmon_core::config::{self, Config, NodeName};
use hastmon_core::types::Role;

use super::host::{Clock, Host, HostId};
use super::kernel::Kernel;
use super::rng::Rng;
use super::scripts::Mood;
use super::trace::{Detail, Trace};
use super::world::World;

/// The one resource of a simulated cluster.
pub(crate) const RESOURCE: &str = "web";

#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) heartbeat: Duration,
    pub(crate) complaint_count: u32,
    pub(crate) complaint_interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) attempts: u32,
    pub(crate) start_timeout: Duration,
    pub(crate) stop_timeout: Duration,
    pub(crate) status_timeout: Duration,
    pub(crate) hook_timeout: Duration,
    pub(crate) key: bool,
    pub(crate) mood: Mood,
    /// Protocol 1 and the lease, and every node is a remote of every other.
    pub(crate) lease: bool,
    /// Nodes (by their place) that do not vote at the beginning, and are switched off: they may join later.
    pub(crate) spare: Vec<usize>,
    /// On the way from one host to another.
    pub(crate) delay: (Duration, Duration),
    /// How far clocks may be off, in millionths.
    pub(crate) drift_ppm: i64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) priority: i32,
}

impl Node {
    pub(crate) const fn new(name: &'static str, role: Role) -> Self {
        Self { name, role, priority: 100 }
    }
}

impl Cluster {
    /// Heartbeat 1 s, complaint_count 3, timeout 2 s.
    pub(crate) fn new(nodes: &[Node]) -> Self {
        Self {
            nodes: nodes.to_vec(),
            heartbeat: Duration::from_secs(1),
            complaint_count: 3,
            complaint_interval: Duration::from_secs(60),
            timeout: Duration::from_secs(2),
            attempts: 5,
            start_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(5),
            status_timeout: Duration::from_secs(3),
            hook_timeout: Duration::from_secs(3),
            key: false,
            mood: Mood::good(),
            lease: false,
            spare: Vec::new(),
            delay: (Duration::from_micros(50), Duration::from_millis(2)),
            drift_ppm: 0,
        }
    }

    /// A primary `a`, a secondary `b`, a watchdog `w`.
    pub(crate) fn three() -> Self {
        Self::new(&[Node::new("a", Role::Primary), Node::new("b", Role::Secondary), Node::new("w", Role::Watchdog)])
    }

    /// The same with the lease: what must be, stop included, takes a heartbeat at most.
    pub(crate) fn with_lease(mut self) -> Self {
        (self.lease, self.stop_timeout) = (true, self.heartbeat);
        self
    }

    /// The file that serves every node, when those vote that are `in_it`.
    pub(crate) fn text(&self, in_it: impl Fn(usize) -> bool) -> String {
        let mut text = String::new();
        let ms = |duration: Duration| format!("{}ms", duration.as_millis());
        let is_watchdog = |node: &Node| node.role == Role::Watchdog;
        if self.key {
            text += "key { algorithm SHA256 secret \"a secret of the simulation\" }\n";
        }
        let _ = write!(
            text,
            "heartbeat_interval {}\ncomplaint_count {}\ncomplaint_interval {}\ntimeout {}\nattempts {}\n\
             resource {RESOURCE} {{\n exec /bin/{RESOURCE}\n start_timeout {}\n stop_timeout {}\n status_timeout {}\n hook_timeout {}\n",
            ms(self.heartbeat),
            self.complaint_count,
            ms(self.complaint_interval),
            ms(self.timeout),
            self.attempts,
            ms(self.start_timeout),
            ms(self.stop_timeout),
            ms(self.status_timeout),
            ms(self.hook_timeout),
        );
        if !self.lease {
            // It is nothing to protocol 0, and `stop` may take as long as it here.
            let _ = writeln!(text, " lease {}", ms(self.stop_timeout.max(self.heartbeat * self.complaint_count)));
        }
        for (at, node) in self.nodes.iter().enumerate().filter(|(at, _)| in_it(*at)) {
            let _ = write!(text, " on {} {{ role_on_start {} priority {}", node.name, node.role, node.priority);
            let others = || self.nodes.iter().enumerate().filter(|(other, _)| *other != at && in_it(*other));
            // A watchdog polls everybody; the others connect to those that can run the resource, and listen to watchdogs.
            let remotes = others().filter(|(_, other)| self.lease || is_watchdog(node) || !is_watchdog(other));
            let friends = others().filter(|(_, other)| !self.lease && !is_watchdog(node) && is_watchdog(other));
            let list = |nodes: Vec<usize>| {
                nodes.iter().map(|at| format!(" tcp4://{}", HostId(*at).address())).collect::<String>()
            };
            let (remotes, friends) =
                (list(remotes.map(|(at, _)| at).collect()), list(friends.map(|(at, _)| at).collect()));
            let _ = write!(text, " remote{}", if remotes.is_empty() { " none" } else { &remotes });
            if !friends.is_empty() {
                let _ = write!(text, " friends{friends}");
            }
            text += " }\n";
        }
        text + "}\n"
    }

    fn config(&self, text: &str, name: &str) -> Config {
        let outcome = config::load(text, &NodeName::new(name).unwrap());
        let told: String = outcome.diagnostics.iter().map(|diagnostic| diagnostic.render("cluster", text)).collect();
        outcome.config.unwrap_or_else(|| panic!("{told}"))
    }

    /// The configuration of each node, in their order.
    pub(crate) fn configs(&self) -> Vec<Config> {
        let all = self.text(|_| true);
        let first = self.text(|at| !self.spare.contains(&at));
        let of_node =
            |(at, node): (usize, &Node)| self.config(if self.spare.contains(&at) { &all } else { &first }, node.name);
        self.nodes.iter().enumerate().map(of_node).collect()
    }

    /// The configuration of a node when those vote that are `in_it`.
    pub(crate) fn config_with(&self, node: usize, in_it: impl Fn(usize) -> bool) -> Config {
        self.config(&self.text(in_it), self.nodes[node].name)
    }

    /// All hosts are switched on within the first tenth of a second.
    pub(crate) fn build(&self, seed: u64, detail: Detail) -> World {
        let mut rng = Rng::new(seed);
        let hosts = self.nodes.iter().zip(self.configs()).map(|(node, config)| {
            let origin = Duration::from_nanos(rng.below(1 << 45));
            let span = u64::try_from(2 * self.drift_ppm + 1).unwrap();
            // Half of all clocks are off as far as they may be.
            let drift_ppm = match rng.below(4) {
                0 if self.lease => self.drift_ppm,
                1 if self.lease => -self.drift_ppm,
                _ => i64::try_from(rng.below(span)).unwrap() - self.drift_ppm,
            };
            Host::new(node.name.to_string(), config, Clock { origin, drift_ppm }, self.mood.clone())
        });
        let hosts: Vec<_> = hosts.collect();
        let trace = Trace::new(detail);
        let mut kernel = Kernel::new(rng, trace, hosts, self.delay);
        kernel.lease = self.lease;
        World::new(kernel, &self.spare)
    }
}
