//! Hosts of their own: network namespaces joined by a bridge in a namespace of its own, so that nothing of this
//! machine's network changes. Their links can be cut, one way or both. Needs root, `ip` and `iptables`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::lab::run;
use super::process;

/// Set to 1, it leaves out all tests that need hosts.
const SKIP: &str = "HASTMON_SKIP_NETNS";

/// The names of all namespaces of tests begin so, then comes the process id of the test.
const PREFIX: &str = "hmlab";

/// Namespaces that are removed with this value.
pub(crate) struct Hosts {
    prefix: String,
    addresses: Vec<(String, Ipv4Addr)>,
}

impl Hosts {
    /// Makes the hosts; `None` when such tests are to be skipped. Panics, and says what is missing, when it cannot.
    pub(crate) fn new(addresses: Vec<(String, Ipv4Addr)>) -> Option<Hosts> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if are_skipped() {
            return None;
        }
        check_usable();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            remove_left_behind();
        }
        let hosts = Hosts { prefix: format!("{PREFIX}{}-{number}-", std::process::id()), addresses };
        let bridge = hosts.namespace("bridge");
        ip(&["netns", "add", &bridge]);
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &bridge, "link", "set", "br0", "up"]);
        for (node, address) in &hosts.addresses {
            hosts.add(node, *address, &bridge);
        }
        Some(hosts)
    }

    fn add(&self, node: &str, address: Ipv4Addr, bridge: &str) {
        let namespace = self.namespace(node);
        let port = format!("to-{node}");
        ip(&["netns", "add", &namespace]);
        let peer = ["type", "veth", "peer", "name", &port, "netns", bridge];
        ip(&[["link", "add", "eth0", "netns", &namespace].as_slice(), &peer].concat());
        ip(&["-n", bridge, "link", "set", &port, "master", "br0", "up"]);
        ip(&["-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
    }

    fn namespace(&self, node: &str) -> String {
        format!("{}{node}", self.prefix)
    }

    fn address(&self, node: &str) -> String {
        let found = self.addresses.iter().find(|(name, _)| name == node);
        found.unwrap_or_else(|| panic!("no host {node}")).1.to_string()
    }

    /// A command that runs on a host.
    pub(crate) fn command(&self, node: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(node), program]);
        command
    }

    /// Does something on a host: sockets that are opened in it are that host's, and stay so.
    pub(crate) fn inside<T: Send>(&self, node: &str, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(Path::new("/run/netns").join(self.namespace(node))).unwrap();
        // A thread that has moved stays where it is, so it is one of its own, and ends here.
        std::thread::scope(|scope| {
            let moved = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                act()
            });
            moved.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Processes of a host.
    pub(crate) fn pids(&self, node: &str) -> Vec<i32> {
        pids_of(&self.namespace(node))
    }

    fn iptables(&self, node: &str, arguments: &[&str]) {
        let output = run(self.command(node, "iptables").arg("-w").args(arguments));
        assert_eq!(output.code, 0, "iptables {arguments:?} on {node}: {}", output.stderr);
    }

    /// What `from` sends to `to` is lost from now on; what comes the other way arrives.
    pub(crate) fn cut_one_way(&self, from: &str, to: &str) {
        self.iptables(to, &["-I", "INPUT", "-s", &self.address(from), "-j", "DROP"]);
    }

    /// Two hosts hear nothing of each other any more.
    pub(crate) fn cut(&self, one: &str, other: &str) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// What the first of each pair sends to the second is lost from now on.
    pub(crate) fn cut_all<'a>(&self, links: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let mut rules: BTreeMap<&str, String> = BTreeMap::new();
        for (from, to) in links {
            let rule = format!("-I INPUT -s {} -j DROP\n", self.address(from));
            rules.entry(to).or_default().push_str(&rule);
        }
        for (node, rules) in rules {
            self.restore(node, &rules);
        }
    }

    fn restore(&self, node: &str, rules: &str) {
        let script = "printf '%s' \"$0\" | iptables-restore -w -n";
        let output = run(self.command(node, "sh").args(["-c", script, &format!("*filter\n{rules}COMMIT\n")]));
        assert_eq!(output.code, 0, "iptables-restore on {node}: {}", output.stderr);
    }

    /// A host hears nothing and is not heard. It keeps its link: others notice by time alone, which takes longest.
    pub(crate) fn isolate(&self, node: &str) {
        self.restore(node, "-I INPUT ! -i lo -j DROP\n-I OUTPUT ! -o lo -j DROP\n");
    }

    /// All links work again.
    pub(crate) fn heal(&self) {
        for (node, _) in &self.addresses {
            self.iptables(node, &["-F"]);
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let nodes = self.addresses.iter().map(|(node, _)| node.as_str());
        for node in nodes.chain(["bridge"]) {
            remove(&self.namespace(node));
        }
    }
}

/// Ends what runs in a namespace, then removes it. Never panics: it is called while a test fails.
fn remove(namespace: &str) {
    process::kill_all(|| pids_of(namespace));
    let _ = Command::new("ip").args(["netns", "del", namespace]).output();
}

fn pids_of(namespace: &str) -> Vec<i32> {
    let Ok(output) = Command::new("ip").args(["netns", "pids", namespace]).output() else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| process::alive(*pid)).collect()
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let output = run(Command::new("ip").args(arguments));
    assert_eq!(output.code, 0, "ip {}: {}", arguments.join(" "), output.stderr);
}

/// Namespaces of tests that were killed before they could clean up: the process in their name is gone.
fn remove_left_behind() {
    for namespace in run(Command::new("ip").args(["netns", "list"])).stdout.lines() {
        let name = namespace.split_whitespace().next().unwrap_or("");
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        if owner.is_some_and(|pid| !process::alive(pid)) {
            remove(name);
        }
    }
}

/// Fails loudly where hosts cannot be made: a test that did not run must not look like one that passed.
fn check_usable() {
    let name = format!("{PREFIX}{}-try", std::process::id());
    let script = format!(
        "set -e; command -v unshare hostname iptables-restore >/dev/null; ip netns add {name}; \
         trap 'ip netns del {name}' EXIT; ip netns exec {name} iptables -w -L -n >/dev/null"
    );
    static USABLE: std::sync::OnceLock<Result<(), String>> = std::sync::OnceLock::new();
    let usable = USABLE.get_or_init(|| {
        let output = run(Command::new("sh").args(["-c", &script]));
        if output.code == 0 { Ok(()) } else { Err(output.stderr) }
    });
    if let Err(error) = usable {
        panic!(
            "this test needs hosts of its own (network namespaces), and cannot make them: {error}\n\
             Run the tests as root, with iproute2, iptables, util-linux and hostname installed\n\
             (Debian: apt-get install iproute2 iptables util-linux hostname), for example: sudo -E cargo test\n\
             Or leave these tests out: {SKIP}=1 cargo test"
        );
    }
}

/// Whether tests that need root are to be left out; says so.
pub(crate) fn are_skipped() -> bool {
    let skip = std::env::var_os(SKIP).is_some_and(|value| value == "1");
    if skip {
        say_skipped();
    }
    skip
}

/// Says that a test has been left out, past the test runner, which would keep it to itself.
fn say_skipped() {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {SKIP}=1");
}
