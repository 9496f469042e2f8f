//! A laboratory: the nodes of one cluster with their files, daemons and resource, and the questions that tests ask.
//! At its end it ends every process that it has started, and proves that the resource never ran twice at once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use rustix::process::Signal;

use super::events::{Event, overlaps, parse};
use super::hosts::Hosts;
use super::peer::PORT;
use super::process;
use super::time::{PATIENCE, now_ns, wait_for, wait_some};

/// A directory whose programs are tested instead of those just built: a package, or another implementation.
const INSTEAD: &str = "HASTMON_TEST_PROGRAMS";

/// A directory on the disk that the daemons shall keep their votes on, instead of the laboratory's.
const STATE_IN: &str = "HASTMON_TEST_STATE_IN";

const SCRIPT: &str = include_str!("res.sh");

/// Exit code of hastmonctl when it cannot reach the daemon.
const UNREACHABLE: i32 = 71;

/// The fourth number of a node's address. `x` is in nobody's configuration.
fn host_number(node: &str) -> u8 {
    let known = ["a", "b", "w", "x", "c", "d", "v"];
    let at = known.iter().position(|name| *name == node).unwrap_or_else(|| panic!("no address for node {node}"));
    u8::try_from(at).unwrap() + 1
}

/// The path of `hastmon`.
pub(crate) fn hastmon() -> PathBuf {
    program("hastmon", env!("CARGO_BIN_EXE_hastmon"))
}

/// The path of `hastmonctl`.
pub(crate) fn hastmonctl() -> PathBuf {
    program("hastmonctl", env!("CARGO_BIN_EXE_hastmonctl"))
}

fn program(name: &str, built: &str) -> PathBuf {
    std::env::var_os(INSTEAD).map_or_else(|| built.into(), |dir| Path::new(&dir).join(name))
}

/// True for the nodes that the standard configuration takes as watchdogs.
fn is_watchdog(node: &str) -> bool {
    matches!(node, "w" | "v")
}

/// What a laboratory shall be. The standard is: heartbeat 1 s, complaint_count 3, timeout 2 s; every node but `w` and `v`
/// runs the resource, priority by its place; those two watch.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    nodes: Vec<String>,
    globals: BTreeMap<String, String>,
    of_resource: String,
    on: BTreeMap<String, String>,
    priorities: BTreeMap<String, i32>,
    resources: Vec<String>,
    files: bool,
    own_names: bool,
    lease: bool,
}

impl Plan {
    pub(crate) fn new(nodes: &[&str]) -> Plan {
        let standard = [
            ("timeout", "2"),
            ("heartbeat_interval", "1"),
            ("complaint_count", "3"),
            ("complaint_interval", "60"),
            // It means nothing to protocol 0.
            ("lease", "1h"),
        ];
        let runners = nodes.iter().filter(|node| !is_watchdog(node));
        Plan {
            nodes: nodes.iter().map(ToString::to_string).collect(),
            globals: standard.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            of_resource: String::new(),
            on: BTreeMap::new(),
            priorities: runners.zip(0..).map(|(node, at)| ((*node).to_owned(), at)).collect(),
            resources: vec!["res".to_owned()],
            files: false,
            own_names: false,
            lease: false,
        }
    }

    /// The daemons speak protocol 1, and a primary needs a majority. Otherwise they speak protocol 0, as beside originals.
    pub(crate) fn lease(mut self) -> Plan {
        self.lease = true;
        self.globals.remove("lease");
        self
    }

    /// Sets a parameter of the whole file.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Plan {
        self.globals.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds lines to every resource.
    pub(crate) fn in_resource(mut self, lines: &str) -> Plan {
        self.of_resource += lines;
        self.of_resource += "\n";
        self
    }

    /// Adds lines to the global section of a node.
    pub(crate) fn on(mut self, node: &str, lines: &str) -> Plan {
        *self.on.entry(node.to_owned()).or_default() += lines;
        self
    }

    /// Sets the priority of a node (the lower number is preferred).
    pub(crate) fn priority(mut self, node: &str, number: i32) -> Plan {
        self.priorities.insert(node.to_owned(), number);
        self
    }

    /// Names the resources, instead of the one `res`.
    pub(crate) fn resources(mut self, names: impl IntoIterator<Item = String>) -> Plan {
        self.resources = names.into_iter().collect();
        self
    }

    /// The resources are files and not processes, and calls of `status` are not logged: for hundreds of them.
    pub(crate) fn files(mut self) -> Plan {
        self.files = true;
        self
    }

    /// The daemons know the names that stand in the laboratory's files `hosts` and `resolv.conf` alone (`Lab::write_names`); needs root.
    /// `None` when such tests are to be skipped.
    pub(crate) fn own_names(mut self) -> Option<Plan> {
        self.own_names = true;
        (!super::hosts::are_skipped()).then_some(self)
    }

    /// Nodes on loopback addresses of their own; needs no privileges.
    pub(crate) fn loopback(self) -> Lab {
        let (reserved, net) = reserve_loopback();
        Lab::new(self, Place::Loopback(reserved), net)
    }

    /// Nodes as hosts of their own; needs root. `None` when such tests are to be skipped.
    pub(crate) fn hosts(self) -> Option<Lab> {
        let net = [10, 77, 0];
        let addresses = self.nodes.iter().map(|node| (node.clone(), Ipv4Addr::new(10, 77, 0, host_number(node))));
        let hosts = Hosts::new(addresses.collect())?;
        Some(Lab::new(self, Place::Hosts(hosts), net))
    }
}

/// A command as the arguments of another one, with its environment.
fn under(wrapper: &[&str], command: Command) -> Command {
    let Some((first, rest)) = wrapper.split_first() else { return command };
    let mut whole = Command::new(first);
    whole.args(rest).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    whole.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    whole
}

/// Finds 127.x.y.0/24 that no other laboratory has: it has the one whose last address it listens on.
fn reserve_loopback() -> (TcpListener, [u8; 3]) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut last = None;
    for _ in 0..2000 {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let [_, _, high, low] = number.to_be_bytes();
        let net = [127, high.max(1), low];
        match TcpListener::bind((Ipv4Addr::new(net[0], net[1], net[2], 254), PORT)) {
            Ok(listener) => return (listener, net),
            Err(error) => last = Some(error),
        }
    }
    panic!(
        "no free network 127.x.y.0/24, port {PORT}: {last:?}\n\
         These tests need Linux, where all of 127.0.0.0/8 is loopback, and no daemon that listens on 0.0.0.0:{PORT}."
    );
}

/// Where the nodes are.
enum Place {
    /// On this host, on addresses of 127.x.y.0/24; the listener holds the network for this laboratory.
    Loopback(#[expect(dead_code, reason = "held, never read")] TcpListener),
    Hosts(Hosts),
}

/// What a command gave.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// Exit code; 128 + number when a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command, with nothing to read, until it has ended and nobody holds its output open any more; panics when that
/// does not happen.
pub(crate) fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let (Ok(stdout), Ok(stderr)) = (stdout.recv_timeout(PATIENCE), stderr.recv_timeout(PATIENCE)) else {
        let _ = child.kill();
        panic!("{command:?} has not ended, or something that it has left behind holds its output open");
    };
    Output { code: exit_code(child.wait().unwrap()), stdout, stderr }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// The exit code, or 128 and the number of the signal.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// One block of `hastmonctl status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) worker: Option<i32>,
    pub(crate) state: Option<String>,
    pub(crate) attempts: Option<u32>,
    pub(crate) complaints: u32,
    /// Address and what stands in parentheses.
    pub(crate) remotes: Vec<(String, Option<String>)>,
    /// What it says of the lease: `epoch`, `lease`, `votes`, `protection`, `standby`, `waits`.
    pub(crate) lease: BTreeMap<String, String>,
}

impl Block {
    /// What it says under a name of the lease; nothing when there is no such line.
    pub(crate) fn says(&self, name: &str) -> &str {
        self.lease.get(name).map_or("", String::as_str)
    }

    /// The blocks of the output of `status`.
    fn parse(text: &str) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
                blocks.push(Block { name: name.to_owned(), ..Block::default() });
            } else if let Some(block) = blocks.last_mut() {
                block.take(line);
            }
        }
        blocks
    }

    fn take(&mut self, line: &str) {
        if let Some(remote) = line.strip_prefix("    ") {
            let (address, state) = remote.split_once(' ').unwrap_or((remote, ""));
            let state = state.strip_prefix('(').and_then(|state| state.strip_suffix(')'));
            self.remotes.push((address.to_owned(), state.map(str::to_owned)));
            return;
        }
        let (key, value) = line.trim_start().split_once(": ").unwrap_or((line, ""));
        let first_number = value.split(' ').next().and_then(|word| word.parse().ok());
        match key {
            "role" => value.clone_into(&mut self.role),
            "workerpid" => self.worker = value.parse().ok(),
            "state" => self.state = Some(value.to_owned()),
            "attempts" => self.attempts = first_number,
            "complaints" => self.complaints = first_number.unwrap_or(0),
            "paused" | "epoch" | "lease" | "votes" | "protection" | "standby" | "waits" | "lateness" => {
                self.lease.insert(key.to_owned(), value.to_owned());
            }
            _ => {}
        }
    }
}

/// A cluster under test.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    plan: Plan,
    place: Place,
    net: [u8; 3],
    daemons: RefCell<BTreeMap<String, Child>>,
    /// The nodes whose daemons are started with the lease.
    with_lease: RefCell<BTreeSet<String>>,
    may_overlap: Cell<bool>,
}

impl Lab {
    fn new(plan: Plan, place: Place, net: [u8; 3]) -> Lab {
        // Short, because the path of a socket is; in /tmp and not where TMPDIR says, for the same reason.
        let dir = tempfile::Builder::new().prefix("hm").tempdir_in("/tmp").unwrap();
        let with_lease = if plan.lease { plan.nodes.iter().cloned().collect() } else { BTreeSet::new() };
        let with_lease = RefCell::new(with_lease);
        let lab = Lab { dir, plan, place, net, daemons: RefCell::default(), with_lease, may_overlap: Cell::new(false) };
        fs::write(lab.dir().join("events"), "").unwrap();
        for node in &lab.plan.nodes {
            let dir = lab.node_dir(node);
            fs::create_dir_all(dir.join("run")).unwrap();
            fs::create_dir_all(dir.join("before")).unwrap();
            let script = SCRIPT
                .replace("@LAB@", &lab.dir().display().to_string())
                .replace("@NODE@", node)
                .replace("@KIND@", if lab.plan.files { "file" } else { "process" });
            fs::create_dir_all(lab.state_dir(node).parent().unwrap()).unwrap();
            fs::write(lab.script(node), script).unwrap();
            fs::set_permissions(lab.script(node), fs::Permissions::from_mode(0o755)).unwrap();
        }
        lab.write_config(&lab.standard_config());
        lab.write_names("", "");
        lab
    }

    // Files and names

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn node_dir(&self, node: &str) -> PathBuf {
        self.dir().join(node)
    }

    pub(crate) fn script(&self, node: &str) -> PathBuf {
        self.node_dir(node).join("res.sh")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir().join("hastmon.conf")
    }

    pub(crate) fn control_socket(&self, node: &str) -> PathBuf {
        self.node_dir(node).join("control")
    }

    pub(crate) fn pidfile(&self, node: &str) -> PathBuf {
        self.node_dir(node).join("pid")
    }

    /// Where a node's daemon keeps its votes.
    pub(crate) fn state_dir(&self, node: &str) -> PathBuf {
        let name = format!("state-{node}");
        match (std::env::var_os(STATE_IN), self.dir().file_name()) {
            (Some(dir), Some(lab)) => Path::new(&dir).join(lab).join(name),
            _ => self.dir().join(name),
        }
    }

    /// The nodes, in the order of the plan.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.plan.nodes.iter().map(String::as_str)
    }

    /// The address of a node, of `x` too, who is a stranger.
    pub(crate) fn ip(&self, node: &str) -> Ipv4Addr {
        let [first, second, third] = self.net;
        Ipv4Addr::new(first, second, third, host_number(node))
    }

    /// Where a node's daemon listens.
    pub(crate) fn listens(&self, node: &str) -> SocketAddrV4 {
        SocketAddrV4::new(self.ip(node), PORT)
    }

    /// A node's address as the configuration has it and `status` prints it.
    pub(crate) fn address(&self, node: &str) -> String {
        format!("tcp4://{}", self.ip(node))
    }

    // Configuration

    /// The configuration of the plan.
    pub(crate) fn standard_config(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.plan.globals {
            writeln!(text, "{name} {value}").unwrap();
        }
        for node in &self.plan.nodes {
            let more = self.plan.on.get(node).map_or("", String::as_str);
            let (control, listen) = (self.control_socket(node), self.listens(node));
            let control = control.display();
            writeln!(text, "on {node} {{\n\tcontrol uds://{control}\n\tlisten tcp4://{listen}\n{more}\n}}").unwrap();
        }
        for resource in &self.plan.resources {
            writeln!(text, "resource {resource} {{\n{}", self.plan.of_resource).unwrap();
            for node in &self.plan.nodes {
                text += &self.resource_on(node);
            }
            text += "}\n";
        }
        text
    }

    fn resource_on(&self, node: &str) -> String {
        let addresses = |which: &dyn Fn(&str) -> bool| {
            let all: Vec<String> = self.nodes().filter(|other| which(other)).map(|other| self.address(other)).collect();
            all.join(" ")
        };
        let remotes = match addresses(&|other| other != node && !is_watchdog(other)) {
            none if none.is_empty() => "none".to_owned(),
            remotes => remotes,
        };
        let friends = addresses(&|other| is_watchdog(other) && !is_watchdog(node));
        let mut text = format!("\ton {node} {{\n\t\texec {}\n\t\tremote {remotes}\n", self.script(node).display());
        if !friends.is_empty() {
            writeln!(text, "\t\tfriends {friends}").unwrap();
        }
        if let Some(priority) = self.plan.priorities.get(node) {
            writeln!(text, "\t\tpriority {priority}").unwrap();
        }
        text + "\t}\n"
    }

    pub(crate) fn write_config(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
    }

    /// What the names of a laboratory with names of its own stand for from now on (hosts(5)), and who else is asked (resolv.conf(5)).
    pub(crate) fn write_names(&self, hosts: &str, resolv: &str) {
        // In place: the daemons have these very files in the place of the system's.
        fs::write(self.dir().join("hosts"), hosts).unwrap();
        fs::write(self.dir().join("resolv.conf"), resolv).unwrap();
    }

    // Processes

    /// The command line of a node's daemon; the arguments follow `-c`, `-P`, `-s` and the node's name.
    pub(crate) fn daemon_command(&self, node: &str, arguments: &[&str]) -> Command {
        let mut command = match &self.place {
            Place::Loopback(_) if self.plan.own_names => {
                let mut command = Command::new("unshare");
                let script =
                    "for name in hosts resolv.conf; do mount --bind $0/$name /etc/$name || exit; done; exec \"$@\"";
                command.args(["--mount", "sh", "-c", script]).arg(self.dir()).arg(hastmon()).args(["-n", node]);
                command
            }
            Place::Loopback(_) => {
                let mut command = Command::new(hastmon());
                command.args(["-n", node]);
                command
            }
            // Takes its name from its host, whose name has a domain.
            Place::Hosts(hosts) => {
                let mut command = hosts.command(node, "unshare");
                command.args(["--uts", "sh", "-c", "hostname \"$0\" && exec \"$@\""]);
                command.arg(format!("{node}.lab.example")).arg(hastmon());
                command
            }
        };
        command.arg("-c").arg(self.config()).arg("-P").arg(self.pidfile(node)).arg("-s").arg(self.state_dir(node));
        command.args((!self.with_lease.borrow().contains(node)).then_some("--legacy-peers")).args(arguments);
        command.env(process::MARK, self.node_dir(node)).stdin(Stdio::null());
        command
    }

    /// Starts a node's daemon in the foreground with more arguments, its output in the node's log, and returns at once.
    pub(crate) fn spawn_with(&self, node: &str, more: &[&str]) {
        self.spawn_under(node, &[], more);
    }

    /// As `spawn_with`, through a command, if any, that prepares the ground and then becomes the daemon (`env`, `setpriv`,
    /// `sh -c '...; exec "$@"' sh`).
    pub(crate) fn spawn_under(&self, node: &str, wrapper: &[&str], more: &[&str]) {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path(node)).unwrap();
        let mut command = under(wrapper, self.daemon_command(node, &[&["-F"], more].concat()));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let old = self.daemons.borrow_mut().insert(node.to_owned(), child);
        if let Some(mut old) = old {
            assert!(old.try_wait().unwrap().is_some(), "node {node} has a daemon already");
        }
    }

    /// Starts a node's daemon and waits until it answers.
    pub(crate) fn start(&self, node: &str) {
        self.start_under(node, &[]);
    }

    /// As `start`, through a command as for `spawn_under`.
    pub(crate) fn start_under(&self, node: &str, wrapper: &[&str]) {
        self.spawn_under(node, wrapper, &[]);
        wait_for(&format!("the daemon of {node} answers"), || {
            assert!(self.is_up(node), "the daemon of {node} has ended at once");
            self.ctl(node, &["status"]).code != UNREACHABLE
        });
    }

    /// From its next start on, a node's daemon goes by the lease, or (`false`) speaks protocol 0.
    pub(crate) fn set_lease(&self, node: &str, lease: bool) {
        let mut with_lease = self.with_lease.borrow_mut();
        _ = if lease { with_lease.insert(node.to_owned()) } else { with_lease.remove(node) };
    }

    /// Starts all daemons.
    pub(crate) fn start_all(&self) {
        self.nodes().for_each(|node| self.start(node));
    }

    /// True while the node's daemon has not ended.
    pub(crate) fn is_up(&self, node: &str) -> bool {
        self.daemons.borrow_mut().get_mut(node).is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// The process id of a node's daemon.
    pub(crate) fn pid(&self, node: &str) -> i32 {
        let daemons = self.daemons.borrow();
        let child = daemons.get(node).unwrap_or_else(|| panic!("node {node} has no daemon"));
        i32::try_from(child.id()).unwrap()
    }

    /// The processes of a node's daemon: itself, its workers, their hooks. Not what the hooks have left running.
    pub(crate) fn tree(&self, node: &str) -> Vec<i32> {
        process::tree(self.pid(node))
    }

    /// Titles of a node's workers, in order of the alphabet.
    pub(crate) fn workers(&self, node: &str) -> Vec<String> {
        let titles = process::children(self.pid(node)).into_iter().filter_map(process::title);
        let mut titles: Vec<String> = titles.filter(|title| title.starts_with("hastmon: ")).collect();
        titles.sort();
        titles
    }

    /// The process id of the worker with this title.
    pub(crate) fn worker(&self, node: &str, title: &str) -> Option<i32> {
        process::children(self.pid(node)).into_iter().find(|pid| process::title(*pid).as_deref() == Some(title))
    }

    /// All processes of a node that this laboratory has started: daemon, workers, hooks, resource.
    pub(crate) fn everything(&self, node: &str) -> Vec<i32> {
        if let Place::Hosts(hosts) = &self.place {
            return hosts.pids(node);
        }
        let mut all = process::marked(&self.node_dir(node).display().to_string());
        if self.is_up(node) {
            all.extend(self.tree(node));
        }
        all.extend(self.services(node).into_iter().map(|(_, pid)| pid));
        all.retain(|pid| process::alive(*pid));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Sends a signal to a node's main daemon.
    pub(crate) fn signal(&self, node: &str, signal: Signal) {
        assert!(self.is_up(node), "node {node} has no daemon");
        process::signal(self.pid(node), signal);
    }

    /// Waits until a node's daemon has ended: its exit code, or 128 and the number of the signal.
    pub(crate) fn ended(&self, node: &str) -> i32 {
        wait_for(&format!("the daemon of {node} has ended"), || !self.is_up(node));
        let mut daemons = self.daemons.borrow_mut();
        exit_code(daemons.get_mut(node).expect("it had one").wait().unwrap())
    }

    /// Ends a node's daemon as an administrator does: its exit code.
    pub(crate) fn stop(&self, node: &str) -> i32 {
        self.signal(node, Signal::TERM);
        self.ended(node)
    }

    /// kill -9 for a node's main daemon, and for nothing else.
    pub(crate) fn kill(&self, node: &str) {
        self.signal(node, Signal::KILL);
        self.ended(node);
    }

    // Commands

    /// `hastmonctl SUBCOMMAND -c … -n NODE …`.
    pub(crate) fn ctl(&self, node: &str, arguments: &[&str]) -> Output {
        let (subcommand, rest) = arguments.split_first().expect("a subcommand");
        run(Command::new(hastmonctl()).arg(subcommand).arg("-c").arg(self.config()).args(["-n", node]).args(rest))
    }

    /// What `hastmonctl history` shows of a node, whose daemon may be dead.
    pub(crate) fn ctl_history(&self, node: &str, arguments: &[&str]) -> String {
        let output = run(Command::new(hastmonctl()).arg("history").arg("-s").arg(self.state_dir(node)).args(arguments));
        assert_eq!(output.code, 0, "{}", output.stderr);
        output.stdout
    }

    /// Sets the role of all resources of a node.
    pub(crate) fn role(&self, node: &str, role: &str) {
        let output = self.ctl(node, &["role", role, "all"]);
        assert_eq!((output.code, output.stdout.as_str()), (0, ""), "role {role} on {node}: {}", output.stderr);
    }

    /// The standard roles: the first node primary, the other runners secondary, watchdogs watch.
    pub(crate) fn standard_roles(&self) {
        let (watchdogs, runners): (Vec<&str>, Vec<&str>) = self.nodes().partition(|node| is_watchdog(node));
        runners.iter().skip(1).for_each(|node| self.role(node, "secondary"));
        runners.iter().take(1).for_each(|node| self.role(node, "primary"));
        watchdogs.iter().for_each(|node| self.role(node, "watchdog"));
    }

    /// Starts all daemons, sets the standard roles, and waits until the resource runs on the first node, seen by all.
    /// Nobody has complained by then.
    pub(crate) fn run_standard(&self) {
        self.start_all();
        let (watchdogs, runners): (Vec<&str>, Vec<&str>) = self.nodes().partition(|node| is_watchdog(node));
        let (first, others) = runners.split_first().expect("a node that runs the resource");
        others.iter().for_each(|node| self.role(node, "secondary"));
        self.role(first, "primary");
        self.wait_status(first, "primary", "run");
        wait_for("the primary is connected to all its remotes", || {
            self.res(first).remotes.iter().all(|(_, state)| state.as_deref() == Some("connected"))
        });
        for node in watchdogs {
            self.role(node, "watchdog");
            self.wait_status(node, "watchdog", "run");
        }
    }

    /// All blocks of `status`.
    pub(crate) fn status(&self, node: &str) -> Vec<Block> {
        Block::parse(&self.ctl(node, &["status"]).stdout)
    }

    /// The block of the (first) resource; an empty one when the daemon does not answer.
    pub(crate) fn res(&self, node: &str) -> Block {
        self.status(node).into_iter().next().unwrap_or_default()
    }

    /// Waits until `status` of a node shows this role and this state.
    pub(crate) fn wait_status(&self, node: &str, role: &str, state: &str) {
        let what = format!("{node} is {role} in state {state}");
        wait_for(&what, || {
            let block = self.res(node);
            block.role == role && block.state.as_deref() == Some(state)
        });
    }

    // The resource

    /// The resources that really run on a node, with their processes.
    pub(crate) fn services(&self, node: &str) -> Vec<(String, i32)> {
        let Ok(dir) = fs::read_dir(self.node_dir(node).join("run")) else { return Vec::new() };
        let run = self.node_dir(node).join("run");
        let service = |entry: fs::DirEntry| {
            // As the script does: behind a short number stands the rest of a longer one.
            let pid: i32 = fs::read_to_string(entry.path()).ok()?.lines().next()?.trim().parse().ok()?;
            let is_ours = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == run);
            is_ours.then(|| (entry.file_name().to_string_lossy().into_owned(), pid))
        };
        dir.filter_map(|entry| service(entry.ok()?)).collect()
    }

    /// Number of resources that really run on a node.
    pub(crate) fn running(&self, node: &str) -> usize {
        if self.plan.files {
            return fs::read_dir(self.node_dir(node).join("run")).map_or(0, Iterator::count);
        }
        self.services(node).len()
    }

    /// Waits until the resource really runs on a node.
    pub(crate) fn wait_runs(&self, node: &str) {
        wait_for(&format!("the resource runs on {node}"), || self.running(node) > 0);
    }

    /// Waits until the resource really does not run on a node.
    pub(crate) fn wait_stopped(&self, node: &str) {
        wait_for(&format!("the resource does not run on {node}"), || self.running(node) == 0);
    }

    /// The resource dies of itself.
    pub(crate) fn kill_service(&self, node: &str, resource: &str) {
        let services = self.services(node);
        let (_, pid) = services.iter().find(|(name, _)| name == resource).expect("it runs here");
        process::signal(*pid, Signal::KILL);
        wait_for("the resource has died", || !process::alive(*pid));
        self.log(&format!("{node} died {resource}"));
    }

    /// Shell text that the exec script of a node runs before it does `event`.
    pub(crate) fn before(&self, node: &str, event: &str, shell: &str) {
        let path = self.node_dir(node).join("before").join(event);
        let new = path.with_extension("new");
        fs::write(&new, format!("{shell}\n")).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Gives all nodes a fence script of this shell text, with more lines for the resource. Its calls are in the record, as `fence RESOURCE NODE`
    /// of the node that calls it. What it does to a host it must say there itself, as `log NODE died [RESOURCE]`. Before the daemons start.
    pub(crate) fn fence_by(&self, shell: &str, lines: &str) {
        let path = self.dir().join("fence.sh");
        let script = format!(
            "#!/bin/sh\nlab={}\nlog() {{\n\tread -r now _ </proc/uptime\n\techo \"${{now%.*}}${{now#*.}}0000000 $* pid=$$\" >>\"$lab/events\"\n}}\n\
             node=${{HASTMON_NODE%%.*}}\nlog $node \"$@\"\n{shell}\n",
            self.dir().display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let config = fs::read_to_string(self.config()).unwrap();
        let head = format!("resource res {{\n\tfence {}\n{lines}", path.display());
        self.write_config(&config.replacen("resource res {", &head, 1));
    }

    /// Takes back what `before` has set.
    pub(crate) fn as_usual(&self, node: &str, event: &str) {
        fs::remove_file(self.node_dir(node).join("before").join(event)).unwrap();
    }

    // The record

    /// Appends what the test itself does to the resource or to a node.
    fn log(&self, what: &str) {
        let mut file = OpenOptions::new().append(true).open(self.dir().join("events")).unwrap();
        file.write_all(format!("{} {what} pid={}\n", now_ns(), std::process::id()).as_bytes()).unwrap();
    }

    /// The whole record.
    pub(crate) fn events(&self) -> Vec<Event> {
        parse(&fs::read_to_string(self.dir().join("events")).unwrap())
    }

    /// What happened on a node, as `event arguments`.
    pub(crate) fn calls(&self, node: &str) -> Vec<String> {
        self.events().iter().filter(|event| event.node == node).map(Event::call).collect()
    }

    /// How often something happened on a node, such as `start res`.
    pub(crate) fn count(&self, node: &str, call: &str) -> usize {
        self.calls(node).iter().filter(|have| *have == call).count()
    }

    /// Waits until something has happened on a node at least `times` times.
    pub(crate) fn wait_call(&self, node: &str, call: &str, times: usize) {
        wait_for(&format!("`{call}` on {node}, {times} times"), || self.count(node, call) >= times);
    }

    /// Waits until something has happened on a node after `since_ns`: the moment.
    pub(crate) fn wait_after(&self, since_ns: u64, node: &str, call: &str) -> u64 {
        // The record's clock is cut off to 10 ms.
        let since_ns = since_ns - since_ns % 10_000_000;
        let found = |event: &Event| event.at_ns >= since_ns && event.node == node && event.call() == call;
        wait_some(&format!("`{call}` on {node}"), || {
            self.events().into_iter().find(|event| found(event)).map(|event| event.at_ns)
        })
    }

    pub(crate) fn log_path(&self, node: &str) -> PathBuf {
        self.node_dir(node).join("log")
    }

    /// What the node's daemon has said.
    pub(crate) fn log_text(&self, node: &str) -> String {
        fs::read(self.log_path(node)).map_or_else(|_| String::new(), |text| String::from_utf8_lossy(&text).into_owned())
    }

    // Faults

    /// The host of a node loses its power: silence, no reset of any connection, and nothing runs there any more.
    pub(crate) fn power_off(&self, node: &str) {
        if let Place::Hosts(hosts) = &self.place {
            hosts.isolate(node);
        }
        // The main daemon stands still first, or it would start others in place of those that are killed; and it dies last, or its workers
        // would find it gone, and give their leases back. Nothing acts any more when all have got the signal; hundreds take longer until they
        // are gone.
        let main = self.is_up(node).then(|| self.pid(node));
        if let Some(main) = main {
            process::freeze(main);
        }
        let others = || self.everything(node).into_iter().filter(|pid| Some(*pid) != main).collect();
        process::signal_all(others, Signal::KILL);
        if let Some(main) = main {
            process::signal(main, Signal::KILL);
        }
        self.log(&format!("{node} died"));
        process::kill_all(|| self.everything(node));
        if self.daemons.borrow().contains_key(node) {
            self.ended(node);
        }
    }

    /// The hosts, for tests that cut their links.
    pub(crate) fn hosts(&self) -> &Hosts {
        match &self.place {
            Place::Hosts(hosts) => hosts,
            Place::Loopback(_) => panic!("only hosts have links that can be cut"),
        }
    }

    /// Stops (SIGSTOP) everything on a node, the resource too.
    pub(crate) fn freeze(&self, node: &str) {
        process::signal_all(|| self.everything(node), Signal::STOP);
        self.log(&format!("{node} frozen"));
    }

    /// Lets everything on a node go on (SIGCONT). What ran runs on.
    pub(crate) fn thaw(&self, node: &str) {
        self.log(&format!("{node} thawed"));
        self.everything(node).into_iter().for_each(|pid| process::signal(pid, Signal::CONT));
    }

    /// This test brings about two at once by itself; do not complain of it.
    pub(crate) fn may_overlap(&self) {
        self.may_overlap.set(true);
    }

    /// Panics when the resource has run on two nodes at once.
    pub(crate) fn assert_never_two(&self) {
        let found = self.two_at_once();
        assert!(found.is_empty(), "two at once: {found}");
    }

    fn two_at_once(&self) -> String {
        overlaps(&self.events()).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// Everything there is to know, for a test that has failed.
    fn report(&self) {
        eprintln!("---- {} ----\n{}", self.config().display(), fs::read_to_string(self.config()).unwrap_or_default());
        for node in self.nodes() {
            let status = if self.is_up(node) { self.ctl(node, &["status"]).stdout } else { "no daemon\n".to_owned() };
            eprintln!("---- status of {node} ----\n{status}---- log of {node} ----\n{}", self.log_text(node));
        }
        let events = fs::read_to_string(self.dir().join("events")).unwrap_or_default();
        eprintln!("---- events, now is {} ----\n{events}", now_ns());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Before anything is ended: of what runs while nodes go, one after the other, the record says nothing.
        let found = self.two_at_once();
        if std::thread::panicking() || !(found.is_empty() || self.may_overlap.get()) {
            self.report();
        }
        // Backwards: those who would take over end before the one that they would take it from.
        for node in self.plan.nodes.iter().rev() {
            process::kill_all(|| self.everything(node));
        }
        for child in self.daemons.borrow_mut().values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(parent) = self.state_dir("a").parent().filter(|parent| *parent != self.dir()) {
            let _ = fs::remove_dir_all(parent);
        }
        if !std::thread::panicking() && !self.may_overlap.get() {
            assert!(found.is_empty(), "two at once: {found}");
        }
    }
}
