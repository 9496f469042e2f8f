//! The configuration read again, by a signal and by `hastmonctl reload`: what it changes, what it leaves alone, and what a
//! faulty one does, which is nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::lab::{Lab, Output, Plan, run};
use crate::support::peer::{
    self, Key, Original, PORT, Received, SECONDARY, STOPPED, Session, Value, Wire, complain, decode, encode, get,
    poll_of,
};
use crate::support::process::{self, children, descriptors, title};
use crate::support::time::{now_ns, seconds, wait_for, wait_some, wait_some_within};

/// Exit code of a configuration that cannot be used.
const CONFIG: i32 = 78;

/// A hook that runs until it is told to end, and says so.
const HANGS: &str = "trap 'log terminated; exit 1' TERM; log hung; sleep 1000 & wait";

/// The four places of a parameter in the file of node a, from the outermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Top,
    Node,
    Resource,
    Own,
}

use Place::{Node, Own, Resource, Top};

/// A configuration for node a alone: its own lines, and those of a test in their places. `@x` is the address of node x.
fn file(lab: &Lab, lines: &[(Place, &str)]) -> String {
    let at = |place: Place| -> String {
        lines.iter().filter(|(have, _)| *have == place).map(|(_, line)| format!("{line}\n")).collect()
    };
    let has = |word: &str| lines.iter().any(|(_, line)| line.starts_with(word));
    let unless = |word: &str, line: String| if has(word) { String::new() } else { line };
    let text = [
        "timeout 2\ncomplaint_count 100\ncomplaint_interval 60\n".to_owned(),
        unless("heartbeat_interval", "heartbeat_interval 200ms\n".to_owned()),
        at(Top),
        "on a {\n".to_owned(),
        unless("control", format!("control {}\n", lab.control_socket("a").display())),
        unless("listen", format!("listen {}\n", lab.listens("a"))),
        at(Node),
        "}\nresource res {\n".to_owned(),
        at(Resource),
        format!("on a {{\nexec {}\n", lab.script("a").display()),
        unless("remote", "remote none\n".to_owned()),
        at(Own),
        "}\n}\n".to_owned(),
    ]
    .concat();
    ["b", "c", "w", "x"].iter().fold(text, |text, node| text.replace(&format!("@{node}"), &lab.address(node)))
}

fn reload(lab: &Lab, node: &str) -> Output {
    lab.ctl(node, &["reload"])
}

/// Reads the file again, which must succeed: what is said of it.
#[track_caller]
fn reloaded(lab: &Lab, node: &str) -> String {
    let output = reload(lab, node);
    assert_eq!(output.code, 0, "reload on {node}: {output:?}");
    output.stdout
}

/// What the sockets of a process are, those it passes on and gets included.
fn sockets(pid: i32) -> BTreeSet<String> {
    descriptors(pid).into_iter().map(|(_, target)| target).filter(|target| target.starts_with("socket:")).collect()
}

/// The workers of a node with their connections.
fn workers(lab: &Lab, node: &str) -> Vec<(String, i32, BTreeSet<String>)> {
    let worker = |pid: i32| Some((title(pid).filter(|title| title.starts_with("hastmon: "))?, pid, sockets(pid)));
    let mut all: Vec<_> = children(lab.pid(node)).into_iter().filter_map(worker).collect();
    all.sort();
    all
}

/// A poll from an address that is answered.
fn answers(from: Ipv4Addr, to: SocketAddrV4) -> bool {
    let Ok(mut wire) = Wire::connect(from, to) else { return false };
    wire.send(&encode(&poll_of("res")));
    wire.receive().is_some()
}

/// A request on a control socket that is answered.
fn control_answers(path: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(path) else { return false };
    stream.write_all(&encode(&poll_of("res"))).is_ok() && stream.read_exact(&mut [0; 5]).is_ok()
}

#[test]
fn a_file_that_is_as_before_touches_nothing() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.run_standard();
    let state = |node: &str| (workers(&lab, node), lab.services(node), lab.res(node).role);
    let before = ["a", "b"].map(state);
    let watchdog = lab.worker("w", "hastmon: res (watchdog)");
    for node in ["a", "b", "w"] {
        assert!(reloaded(&lab, node).contains("1 as before"));
        lab.signal(node, Signal::HUP);
        wait_for("the signal is obeyed", || lab.log_text(node).matches("the configuration is in force").count() == 2);
    }
    let heartbeats = lab.count("a", "status res");
    lab.wait_call("a", "status res", heartbeats + 3);
    assert_eq!(["a", "b"].map(state), before);
    assert_eq!(lab.worker("w", "hastmon: res (watchdog)"), watchdog);
    assert_eq!((lab.count("a", "connect res"), lab.count("a", "start res"), lab.count("w", "complain res")), (1, 1, 0));
}

#[test]
fn what_changes_one_resource_does_not_touch_another() {
    let names = ["one", "two"].map(str::to_owned);
    let lab = Plan::new(&["a", "b"]).resources(names).loopback();
    lab.run_standard();
    let connected = || lab.status("a").iter().all(|block| block.remotes[0].1.as_deref() == Some("connected"));
    wait_for("both run and are connected", || lab.running("a") == 2 && connected());
    let before = (workers(&lab, "a"), workers(&lab, "b"), lab.services("a"));
    let config = lab.standard_config();
    lab.write_config(&config.replace("resource two {", "resource two {\nattempts 77\nhook_timeout 7"));
    for node in ["a", "b"] {
        let changes = reloaded(&lab, node);
        assert!(changes.contains("1 changed (two)") && changes.contains("1 as before"), "{changes}");
    }
    wait_for("it is in force", || lab.ctl("a", &["status", "two"]).stdout.contains("from 77"));
    let calls = lab.count("a", "status two");
    lab.wait_call("a", "status two", calls + 3);
    assert_eq!((workers(&lab, "a"), workers(&lab, "b"), lab.services("a")), before, "nor its own connections");
}

// Every parameter.

/// What one parameter changes: its lines before and after, and what a test sees of it on node a.
struct Case {
    parameter: &'static str,
    place: Place,
    before: &'static str,
    after: &'static str,
    /// What else stands in the resource's section of this node.
    beside: &'static str,
    /// Brings about what the parameter matters for, calls its second argument to reload, and waits for the effect.
    shows: fn(&Lab, &dyn Fn()),
}

/// Parameters that have tests of their own below or, those of the lease and of turns, beside the tests of what they are for.
const ELSEWHERE: [&str; 15] = [
    "max_hooks",
    "weight",
    "history",
    "control",
    "listen",
    "exec",
    "key",
    "algorithm",
    "secret",
    "on",
    "statedir",
    "realtime",
    "lease",
    "fence_timeout",
    "on_stop_failure",
];

fn cases() -> Vec<Case> {
    let case = |parameter, before, after, beside, shows| Case { parameter, place: Own, before, after, beside, shows };
    vec![
        case("remote", "remote @b", "remote @c", "", |lab, reload| {
            let [b, c] = ["b", "c"].map(|node| Original::listen(lab.ip(node), SECONDARY, STOPPED, 1, None));
            lab.role("a", "primary");
            wait_for("a is connected to b", || !b.those(Received::is_heartbeat).is_empty());
            reload();
            wait_for("a is connected to c", || !c.those(Received::is_heartbeat).is_empty());
            lab.wait_call("a", "disconnect res", 1);
            let remotes = [(lab.address("c"), Some("connected".to_owned()))];
            wait_for("status shows c alone", || lab.res("a").remotes == remotes);
            assert_eq!(lab.running("a"), 1);
        }),
        case("remote", "remote @b", "remote @c", "", |lab, reload| {
            lab.role("a", "secondary");
            let mut session = Session::open(lab.ip("b"), lab.listens("a"), "res", 0, None).unwrap();
            assert!(session.heartbeat(peer::RUN).is_some());
            reload();
            assert!(session.ends(), "who is no remote any more is not served");
            assert!(Session::open(lab.ip("b"), lab.listens("a"), "res", 0, None).is_err());
            assert!(Session::open(lab.ip("c"), lab.listens("a"), "res", 0, None).is_ok());
        }),
        case("remote", "remote none", "remote @b", "", |lab, reload| {
            // Nobody was expected to speak: the silence begins now.
            lab.role("a", "primary");
            lab.wait_status("a", "primary", "run");
            let calls = lab.count("a", "status res");
            lab.wait_call("a", "status res", calls + 5);
            let b = Original::listen(lab.ip("b"), SECONDARY, STOPPED, 1, None);
            reload();
            wait_for("a is connected to b", || b.those(Received::is_heartbeat).len() > 5);
        }),
        case("friends", "friends @b", "friends @b @x", "", |lab, reload| {
            lab.role("a", "secondary");
            assert!(!answers(lab.ip("x"), lab.listens("a")) && answers(lab.ip("b"), lab.listens("a")));
            reload();
            assert!(answers(lab.ip("x"), lab.listens("a")));
        }),
        Case {
            place: Top,
            ..case("friends", "friends @b @x", "friends @b", "", |lab, reload| {
                lab.role("a", "secondary");
                assert!(answers(lab.ip("x"), lab.listens("a")));
                reload();
                assert!(!answers(lab.ip("x"), lab.listens("a")) && answers(lab.ip("b"), lab.listens("a")));
            })
        },
        case("priority", "priority 10", "priority 20", "remote @b", |lab, reload| {
            lab.role("a", "primary");
            lab.wait_status("a", "primary", "run");
            let refusal = || {
                let refused = Session::open(lab.ip("b"), lab.listens("a"), "res", 500, None);
                get(&decode(&refused.err().unwrap()), "priority").cloned()
            };
            assert_eq!(refusal(), Some(Value::I32(10)));
            reload();
            assert_eq!(refusal(), Some(Value::I32(20)));
        }),
        case("role_on_start", "role_on_start init", "role_on_start primary", "", |lab, reload| {
            lab.role("a", "secondary");
            reload();
            let calls = lab.count("a", "status res");
            lab.wait_call("a", "status res", calls + 3);
            assert_eq!(lab.res("a").role, "secondary", "it is no start");
            assert_eq!(lab.stop("a"), 0);
            lab.start("a");
            lab.wait_status("a", "primary", "run");
        }),
        case("attempts", "attempts 1000", "attempts 2", "", |lab, reload| {
            lab.before("a", "start", "exit 1");
            lab.role("a", "primary");
            lab.wait_call("a", "start res", 4);
            reload();
            wait_for("a gives up", || lab.res("a").role == "secondary");
        }),
        case("timeout", "timeout 600", "timeout 1", "remote @b", |lab, reload| {
            let silent = TcpListener::bind(lab.listens("b")).unwrap();
            lab.role("a", "primary");
            let held = silent.accept().unwrap();
            reload();
            wait_for("a waits no longer than that", || lab.log_text("a").contains("no answer within 1s"));
            drop(held);
        }),
        case("timeout", "timeout 600", "timeout 1", "remote @b", |lab, reload| {
            let silent = TcpListener::bind(lab.listens("b")).unwrap();
            lab.role("a", "watchdog");
            let held = silent.accept().unwrap();
            reload();
            wait_for("a waits no longer than that", || lab.log_text("a").contains("no answer within 1s"));
            drop(held);
        }),
        case("heartbeat_interval", SLOW, FAST, "", |lab, reload| beats_faster(lab, "primary", reload)),
        case("heartbeat_interval", SLOW, FAST, "", |lab, reload| beats_faster(lab, "secondary", reload)),
        case("heartbeat_interval", SLOW, FAST, "remote @b", |lab, reload| {
            let b = Original::listen(lab.ip("b"), peer::PRIMARY, peer::RUN, 1, None);
            lab.role("a", "watchdog");
            wait_for("the first poll", || b.those(Received::is_poll).len() == 1);
            reload();
            wait_for("more polls", || b.those(Received::is_poll).len() > 15);
            assert!(!lab.log_text("a").contains("has said nothing"), "{}", lab.log_text("a"));
        }),
        case("complaint_count", "complaint_count 1000", "complaint_count 2", "friends @w", |lab, reload| {
            lab.role("a", "secondary");
            (0..5).for_each(|_| complain(lab.ip("w"), lab.listens("a"), "res", None));
            wait_for("five are heard", || lab.res("a").complaints == 5);
            assert_eq!(lab.res("a").role, "secondary");
            reload();
            complain(lab.ip("w"), lab.listens("a"), "res", None);
            lab.wait_call("a", "role res secondary primary", 1);
        }),
        case("complaint_count", "complaint_count 1000", "complaint_count 2", "remote @b", |lab, reload| {
            lab.role("a", "primary");
            lab.wait_status("a", "primary", "run");
            reload();
            wait_for("a gives up, heard by nobody", || lab.res("a").role == "secondary");
            lab.wait_stopped("a");
        }),
        case("complaint_interval", "complaint_interval 600", "complaint_interval 1", "friends @w", |lab, reload| {
            lab.role("a", "secondary");
            (0..3).for_each(|_| complain(lab.ip("w"), lab.listens("a"), "res", None));
            wait_for("three are heard", || lab.res("a").complaints == 3);
            reload();
            wait_for("they are forgotten", || lab.res("a").complaints == 0);
        }),
        case("complaint_interval", "complaint_interval 600", "complaint_interval 1", "", |lab, reload| {
            lab.role("a", "watchdog");
            wait_for("it has complained often", || lab.res("a").complaints > 8);
            reload();
            wait_for("the older ones are forgotten", || lab.res("a").complaints < 8);
        }),
        case("start_timeout", "start_timeout 600", "start_timeout 300ms", "", |lab, reload| {
            lab.role("a", "primary");
            lab.wait_status("a", "primary", "run");
            lab.before("a", "start", HANGS);
            reload();
            lab.kill_service("a", "res");
            lab.wait_call("a", "terminated", 1);
        }),
        case("stop_timeout", "stop_timeout 600", "stop_timeout 300ms", "lease 20m", |lab, reload| {
            lab.role("a", "primary");
            lab.wait_status("a", "primary", "run");
            lab.before("a", "stop", HANGS);
            reload();
            lab.role("a", "secondary");
            lab.wait_call("a", "terminated", 1);
            lab.as_usual("a", "stop");
            lab.wait_status("a", "secondary", "stopped");
        }),
        case("status_timeout", "status_timeout 600", "status_timeout 300ms", "friends @w", |lab, reload| {
            lab.role("a", "secondary");
            lab.wait_status("a", "secondary", "stopped");
            reload();
            // A call that has begun keeps its limit: the worker must have its settings first, and hears of a complaint after them.
            complain(lab.ip("w"), lab.listens("a"), "res", None);
            lab.wait_call("a", "complain res", 1);
            lab.before("a", "status", HANGS);
            lab.wait_call("a", "terminated", 1);
        }),
        case("hook_timeout", "hook_timeout 600", "hook_timeout 300ms", "friends @w", |lab, reload| {
            lab.role("a", "secondary");
            lab.wait_status("a", "secondary", "stopped");
            lab.before("a", "complain", HANGS);
            reload();
            complain(lab.ip("w"), lab.listens("a"), "res", None);
            lab.wait_call("a", "terminated", 1);
        }),
    ]
}

const SLOW: &str = "heartbeat_interval 600";
const FAST: &str = "heartbeat_interval 200ms";

fn beats_faster(lab: &Lab, role: &str, reload: &dyn Fn()) {
    lab.role("a", role);
    lab.wait_status("a", role, if role == "primary" { "run" } else { "stopped" });
    let calls = lab.count("a", "status res");
    reload();
    // Longer than the silence by which a worker would be taken for stuck.
    lab.wait_call("a", "status res", calls + 15);
    assert!(!lab.log_text("a").contains("has said nothing"), "{}", lab.log_text("a"));
}

fn run_case(case: &Case) {
    let lab = Plan::new(&["a", "b", "c", "w"]).loopback();
    let text = |line: &str| file(&lab, &[(case.place, line), (Own, case.beside)]);
    lab.write_config(&text(case.before));
    lab.start("a");
    let of_a_worker = || workers(&lab, "a").into_iter().map(|(title, pid, _)| (title, pid)).next();
    let before = std::cell::RefCell::new(None);
    (case.shows)(&lab, &|| {
        before.replace(Some(wait_some("it has a worker", of_a_worker)));
        lab.write_config(&text(case.after));
        let changes = reloaded(&lab, "a");
        assert!(changes.contains("1 changed (res)"), "{changes}");
    });
    let (before, after) = (before.into_inner().unwrap(), wait_some("it has a worker", of_a_worker));
    assert!(before.0 != after.0 || before.1 == after.1 || case.parameter == "role_on_start", "a new worker: {after:?}");
}

#[test]
fn every_parameter_takes_effect_and_restarts_no_worker() {
    let lab = Plan::new(&["a"]).set("key", "{ algorithm MD5 secret s }").set("friends", "192.0.2.1").loopback();
    let dump = lab.ctl("a", &["dump"]).stdout;
    let words: BTreeSet<&str> = dump.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let cases = cases();
    let known = |word: &str| ELSEWHERE.contains(&word) || cases.iter().any(|case| case.parameter == word);
    let missing: Vec<&str> = words.into_iter().filter(|word| !["#", "}", "resource"].contains(word)).collect();
    let missing: Vec<&str> = missing.into_iter().filter(|word| !known(word)).collect();
    assert_eq!(missing, [""; 0], "parameters without a case");
    std::thread::scope(|scope| {
        for case in &cases {
            let name = format!("reload of {}", case.parameter);
            std::thread::Builder::new().name(name).spawn_scoped(scope, || run_case(case)).unwrap();
        }
    });
}

#[test]
fn a_parameter_takes_effect_wherever_it_stands() {
    let lab = Plan::new(&["a"]).loopback();
    let mut lines = Vec::new();
    lab.write_config(&file(&lab, &lines));
    lab.start("a");
    let threshold = |number: u32| lab.ctl("a", &["status"]).stdout.contains(&format!("(threshold {number})"));
    assert!(threshold(100));
    let places = [(Node, "complaint_count 11"), (Resource, "complaint_count 12"), (Own, "complaint_count 13")];
    let check = |lines: &[(Place, &str)], number: u32| {
        lab.write_config(&file(&lab, lines));
        reloaded(&lab, "a");
        assert!(threshold(number), "{lines:?}");
    };
    for (line, number) in places.into_iter().zip(11..) {
        lines.push(line);
        check(&lines, number);
    }
    for number in [12, 11, 100] {
        lines.pop();
        check(&lines, number);
    }
}

#[test]
fn a_key_can_be_set_changed_and_taken_away_without_a_connection_being_lost() {
    let lab = Plan::new(&["a", "b"]).loopback();
    let remote = (Own, "remote @b");
    lab.write_config(&file(&lab, &[remote]));
    lab.start("a");
    lab.role("a", "secondary");
    let open =
        |key: Option<&Key>| Session::open(lab.ip("b"), lab.listens("a"), "res", 0, key).map_err(|error| decode(&error));
    let [first, second] = ["a first secret", "a second secret"].map(|secret| Key::new("SHA256", secret));
    let other = Key::new("MD5", "a second secret");
    let keys = [None, Some(&first), Some(&second), Some(&other), None];
    let line = |key: &Key| format!("key {{ algorithm {} secret \"{}\" }}", key.algorithm, key.secret);
    let mut session = open(None).unwrap();
    for (at, step) in keys.windows(2).enumerate() {
        let &[old, new] = step else { unreachable!() };
        let place = if at % 2 == 0 { Resource } else { Top };
        lab.write_config(&file(&lab, &[remote, (place, &new.map_or(String::new(), line))]));
        reloaded(&lab, "a");
        assert!(session.heartbeat(peer::RUN).is_some(), "a connection that was proved stays: {old:?} -> {new:?}");
        if new.is_some() {
            assert!(open(old).is_err(), "{old:?} -> {new:?}");
        }
        session = open(new).unwrap();
    }
}

#[test]
fn what_a_node_sends_is_signed_with_the_key_in_force() {
    let lab = Plan::new(&["a", "b"]).loopback();
    let key = Key::new("SHA256", "a secret of some length");
    let b = Original::listen(lab.ip("b"), SECONDARY, STOPPED, 1, Some(key));
    let remote = (Own, "remote @b");
    lab.write_config(&file(&lab, &[remote]));
    lab.start("a");
    lab.role("a", "watchdog");
    let signed = |is: bool| {
        let polls = b.those(Received::is_poll).len();
        wait_for(&format!("polls that are signed: {is}"), || {
            b.those(Received::is_poll).iter().skip(polls).any(|poll| poll.signed == is)
        });
    };
    signed(false);
    lab.write_config(&file(&lab, &[remote, (Top, "key { algorithm SHA256 secret \"a secret of some length\" }")]));
    reloaded(&lab, "a");
    signed(true);
    lab.write_config(&file(&lab, &[remote]));
    reloaded(&lab, "a");
    signed(false);
}

#[test]
fn a_new_exec_restarts_what_runs_with_the_script_that_started_it() {
    let names = ["one", "two"].map(str::to_owned);
    let lab = Plan::new(&["a", "b", "w"]).resources(names).loopback();
    lab.run_standard();
    wait_for("both run", || lab.running("a") == 2);
    let (old, new) = (lab.script("a"), lab.node_dir("a").join("new.sh"));
    let text = fs::read_to_string(&old).unwrap();
    fs::write(&new, text.replacen("\nrun=", "\nlog \"by-new-$event\" \"$name\"\nrun=", 1)).unwrap();
    fs::set_permissions(&new, fs::metadata(&old).unwrap().permissions()).unwrap();
    // The function must be known before it is called.
    let text = fs::read_to_string(&new).unwrap();
    let call = "log \"by-new-$event\" \"$name\"\n";
    fs::write(&new, text.replacen(call, "", 1).replacen("\ncase $event", &format!("\n{call}case $event"), 1)).unwrap();
    let before = (workers(&lab, "a"), lab.services("a"));
    let config = lab.standard_config();
    let (old, new) = (old.display().to_string(), new.display().to_string());
    lab.write_config(&config.replacen(&format!("exec {old}"), &format!("exec {new}"), 1));
    assert!(reloaded(&lab, "a").contains("1 changed (one)"));
    lab.wait_call("a", "by-new-start one", 1);
    lab.wait_status("a", "primary", "run");
    wait_for("both run", || lab.running("a") == 2);
    let calls = lab.calls("a");
    let at = |call: &str| calls.iter().position(|have| have == call).unwrap_or(usize::MAX);
    assert!(at("stop one") < at("by-new-start one") && !calls.contains(&"by-new-stop one".to_owned()), "{calls:?}");
    let of = |name: &str, all: &[(String, i32)]| all.iter().find(|(have, _)| have == name).unwrap().1;
    assert_ne!(of("one", &lab.services("a")), of("one", &before.1));
    assert_eq!(of("two", &lab.services("a")), of("two", &before.1));
    let two = |all: Vec<(String, i32, BTreeSet<String>)>| all.into_iter().find(|(title, ..)| title.contains("two"));
    assert_eq!(two(workers(&lab, "a")), two(before.0));
    assert_eq!((lab.res("a").role.as_str(), lab.count("b", "start one")), ("primary", 0));
}

// Addresses.

/// Calls `works` in a loop while `change` runs: how often it did. Panics when it once does not.
fn while_it_works(works: impl Fn() -> bool + Sync, change: impl FnOnce()) -> usize {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let knocking = scope.spawn(|| {
            let mut times = 0;
            while !over.load(Ordering::Relaxed) {
                assert!(works(), "a gap, after {times} times without one");
                times += 1;
            }
            times
        });
        // Set even when the change fails, so that the thread ends.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let guard = Over(&over);
        change();
        drop(guard);
        knocking.join().unwrap()
    })
}

/// A port that nobody listens on, on any address of this host.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn the_listen_address_moves_without_a_gap_also_from_one_address_to_all_and_back() {
    // Longer heartbeats than the test: the session is heard at its end.
    let lab = Plan::new(&["a", "b", "c", "w"]).loopback();
    let friends = (Own, "heartbeat_interval 60\nremote @b\nfriends @w");
    let port = free_port();
    let here = SocketAddrV4::new(lab.ip("a"), port);
    let elsewhere = SocketAddrV4::new(lab.ip("c"), PORT);
    let all = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    lab.write_config(&file(&lab, &[friends, (Node, &format!("listen {here}"))]));
    lab.start("a");
    lab.role("a", "secondary");
    let title = "hastmon: res (secondary)";
    let worker = wait_some("it has a worker", || lab.worker("a", title));
    let from = lab.ip("w");
    let mut session = Session::open(lab.ip("b"), here, "res", 0, None).unwrap();
    // The third: it may have moved to the first while the second was asked.
    let works = || [here, elsewhere, here].into_iter().any(|address| answers(from, address));
    let times = while_it_works(works, || {
        for listen in [all, here, elsewhere, all, elsewhere, here].into_iter().cycle().take(24) {
            lab.write_config(&file(&lab, &[friends, (Node, &format!("listen {listen}"))]));
            reloaded(&lab, "a");
            let reached = if listen == elsewhere { elsewhere } else { here };
            assert!(answers(from, reached), "{listen}");
        }
    });
    assert!(times > 24, "asked only {times} times");
    assert!(session.heartbeat(peer::RUN).is_some(), "a connection that is open stays");
    assert!(!answers(from, elsewhere), "what it has left is closed");
    assert_eq!(lab.worker("a", title), Some(worker));
    // Another notation of the same address.
    let before = sockets(lab.pid("a"));
    lab.write_config(&file(&lab, &[friends, (Node, &format!("listen tcp4://{here}"))]));
    reloaded(&lab, "a");
    assert!(answers(from, here));
    wait_for("the socket is the same", || sockets(lab.pid("a")) == before);
}

#[test]
fn the_control_socket_moves_without_a_gap() {
    let lab = Plan::new(&["a"]).loopback();
    let [old, new] = ["old", "new"].map(|name| lab.node_dir("a").join(name));
    let text = |path: &Path| file(&lab, &[(Node, &format!("control {}", path.display()))]);
    lab.write_config(&text(&old));
    lab.start("a");
    let works = || [&old, &new, &old].into_iter().any(|path| control_answers(path));
    let (mut here, mut there) = (&old, &new);
    while_it_works(works, || {
        for _ in 0..20 {
            lab.write_config(&text(there));
            let output = lab.ctl("a", &["reload", "--control", &here.display().to_string()]);
            assert_eq!(output.code, 0, "{output:?}");
            assert!(control_answers(there));
            wait_for("the file of the old one is gone", || !here.exists());
            (here, there) = (there, here);
        }
    });
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(path).unwrap());
    let before = inode(here);
    let other_notation = lab.node_dir("a").join("run/..").join(here.file_name().unwrap());
    lab.write_config(&text(&other_notation));
    reloaded(&lab, "a");
    assert_eq!(inode(here), before, "it is the same place");
    fs::remove_file(here).unwrap();
    lab.signal("a", Signal::HUP);
    wait_for("a socket whose file was removed is put back", || control_answers(here));
    assert_eq!(lab.stop("a"), 0);
    assert!(!old.exists() && !new.exists());
}

#[test]
fn connections_leave_from_the_address_that_the_daemon_listens_on_now() {
    let lab = Plan::new(&["a", "b", "c"]).loopback();
    let remote = (Own, "remote @b");
    let b = TcpListener::bind(lab.listens("b")).unwrap();
    lab.write_config(&file(&lab, &[remote]));
    lab.start("a");
    lab.role("a", "watchdog");
    let title = "hastmon: res (watchdog)";
    let worker = wait_some("it has a worker", || lab.worker("a", title));
    let comes_from = |ip: Ipv4Addr| {
        wait_for(&format!("a poll from {ip}"), || *b.accept().unwrap().1.ip().to_string() == ip.to_string());
    };
    comes_from(lab.ip("a"));
    for (listen, ip) in [
        (SocketAddrV4::new(lab.ip("c"), PORT).to_string(), lab.ip("c")),
        (format!("tcp4://localhost:{}", free_port()), Ipv4Addr::LOCALHOST),
        (lab.listens("a").to_string(), lab.ip("a")),
    ] {
        lab.write_config(&file(&lab, &[remote, (Node, &format!("listen {listen}"))]));
        reloaded(&lab, "a");
        comes_from(ip);
    }
    assert_eq!(lab.worker("a", title), Some(worker));
}

#[test]
fn a_name_that_is_new_is_looked_up_at_once() {
    let lab = Plan::new(&["a"]).loopback();
    lab.write_config(&file(&lab, &[]));
    lab.start("a");
    assert!(!answers(Ipv4Addr::LOCALHOST, lab.listens("a")));
    lab.write_config(&file(&lab, &[(Top, "friends localhost no-such-host.invalid")]));
    reloaded(&lab, "a");
    // A third of the time after which names are looked up again.
    wait_some_within(Duration::from_secs(10), "who has that name is answered", || {
        answers(Ipv4Addr::LOCALHOST, lab.listens("a")).then_some(())
    });
    let told = || lab.log_text("a").matches("no-such-host.invalid").count();
    wait_for("what is no name is told", || told() == 1);
    lab.write_config(&file(&lab, &[]));
    reloaded(&lab, "a");
    assert!(!answers(Ipv4Addr::LOCALHOST, lab.listens("a")));
    lab.write_config(&file(&lab, &[(Top, "friends no-such-host.invalid")]));
    reloaded(&lab, "a");
    wait_for("a name that comes back is told again", || told() == 2);
}

// Faults.

#[test]
fn a_file_that_cannot_be_used_changes_nothing_and_says_why() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.run_standard();
    let good = lab.standard_config();
    let taken = TcpListener::bind((lab.ip("x"), PORT)).unwrap();
    let state = || (workers(&lab, "a"), lab.services("a"), lab.res("a"));
    let before = state();
    let listen = |address: &str| good.replacen(&format!("listen tcp4://{}", lab.listens("a")), address, 1);
    let control = |path: &str| {
        let old = format!("control uds://{}", lab.control_socket("a").display());
        good.replacen(&old, &format!("control {path}"), 1)
    };
    let new_socket = lab.node_dir("a").join("new-control");
    let both = format!("control {}", new_socket.display());
    let no_section = good.replace("\ton a {", "\ton somebody-else {");
    let faults: Vec<(String, String)> = vec![
        (format!("{good}nonsense here\n"), "unknown parameter `nonsense`".to_owned()),
        (format!("{good}resource res {{ on a {{ remote none }} }}\n"), "resource".to_owned()),
        (no_section, "resource `res` has no section for this node".to_owned()),
        (good.split_once("resource").unwrap().0.to_owned(), "the file has no resource".to_owned()),
        (listen("listen 192.0.2.77"), "Cannot listen on 192.0.2.77".to_owned()),
        (listen(&format!("listen {}", lab.address("x"))), "Address already in use".to_owned()),
        (listen("listen tcp4://no-such-host.invalid"), "Cannot listen on tcp4://no-such-host.invalid".to_owned()),
        (control("/no/such/directory/control"), "/no/such/directory/control".to_owned()),
        (control(&lab.config().display().to_string()), "is not a socket".to_owned()),
        (control(&lab.control_socket("b").display().to_string()), "Another daemon answers".to_owned()),
        (listen(&format!("listen 192.0.2.77\n{both}")), "Cannot listen on 192.0.2.77".to_owned()),
    ];
    let socket = lab.control_socket("a").display().to_string();
    let refused = |why: &str, times: usize| {
        let output = lab.ctl("a", &["reload", "--control", &socket]);
        assert_eq!((output.code, output.stdout.as_str()), (CONFIG, ""), "{why}: {output:?}");
        assert!(output.stderr.contains(why), "{why}: {}", output.stderr);
        assert!(output.stderr.contains("goes on with the configuration that it had"), "{}", output.stderr);
        lab.signal("a", Signal::HUP);
        let told = || lab.log_text("a").matches("the configuration stays as it was: ").count();
        wait_for(&format!("the log tells of {why}"), || told() == times);
        assert!(lab.log_text("a").lines().rev().take(3).any(|line| line.contains(why)), "{why}: {}", lab.log_text("a"));
    };
    for (at, (text, why)) in faults.iter().enumerate() {
        assert_ne!(*text, good, "{why}");
        lab.write_config(text);
        refused(why, 2 * (at + 1));
        assert!(!new_socket.exists(), "what was opened for it is closed again");
    }
    fs::write(lab.config(), b"# \xff\n").unwrap();
    refused("is not valid UTF-8", 2 * faults.len() + 2);
    fs::remove_file(lab.config()).unwrap();
    refused("Cannot read the configuration", 2 * faults.len() + 4);
    lab.write_config(&good);
    assert_eq!(state(), before);
    drop(taken);
    assert!(reloaded(&lab, "a").contains("1 as before"));
    // Without its socket's path the file is all that hastmonctl has to go by.
    lab.write_config(&format!("{good}nonsense here\n"));
    let output = reload(&lab, "a");
    assert_eq!(output.code, CONFIG);
    assert!(output.stderr.contains("unknown parameter `nonsense`"), "{}", output.stderr);
}

// Resources and nodes come and go.

fn names(lab: &Lab, node: &str) -> Vec<String> {
    lab.status(node).into_iter().map(|block| block.name).collect()
}

#[test]
fn a_resource_that_is_added_takes_up_its_role_and_one_that_is_removed_is_stopped_where_it_ran() {
    let lab = Plan::new(&["a", "b"]).in_resource("role_on_start secondary").loopback();
    lab.start_all();
    let of = |name: &str, role: &str| {
        let config = lab.standard_config().replace("role_on_start secondary", &format!("role_on_start {role}"));
        config.split_once("resource res").map(|(_, block)| format!("resource {name}{block}")).unwrap()
    };
    let globals = lab.standard_config().split_once("resource res").map(|(globals, _)| globals.to_owned()).unwrap();
    let config = |resources: &[(&str, &str)]| {
        let blocks = resources.iter().map(|(name, role)| of(name, role));
        lab.write_config(&(globals.clone() + &blocks.collect::<String>()));
    };
    config(&[("zero", "init"), ("one", "primary"), ("res", "secondary")]);
    let changes = reloaded(&lab, "a");
    assert!(changes.contains("2 added (zero, one), 1 as before"), "{changes}");
    wait_for("it runs", || lab.services("a").len() == 1);
    assert_eq!(names(&lab, "a"), ["zero", "one", "res"], "in the order of the file");
    assert_eq!(
        lab.status("a").iter().map(|block| block.role.as_str()).collect::<Vec<_>>(),
        ["init", "primary", "secondary"]
    );
    config(&[("res", "secondary"), ("zero", "init")]);
    let changes = reloaded(&lab, "a");
    assert!(changes.contains("1 removed (one), 2 as before"), "{changes}");
    lab.wait_call("a", "down one", 1);
    wait_for("it is gone", || names(&lab, "a") == ["res", "zero"]);
    assert_eq!(lab.workers("a"), ["hastmon: res (secondary)"]);
    let output = lab.ctl("a", &["role", "primary", "one"]);
    assert_eq!((output.code, output.stderr.as_str()), (1, "[WARNING] [one] Received error 1 from hastmon.\n"));
    let locks = || {
        fs::read_dir(lab.node_dir("a"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            // Beside each lock the worker notes which call of the script runs.
            .filter(|name| name.starts_with("pid.") && !name.ends_with("~call"))
            .count()
    };
    wait_for("its lock is gone", || locks() == 1);
}

#[test]
fn a_resource_that_comes_back_while_it_ends_is_stopped_first() {
    let lab =
        Plan::new(&["a", "b"]).resources(["res", "other"].map(str::to_owned)).in_resource("stop_timeout 3").loopback();
    let with = |role: &str| {
        lab.standard_config().replacen("resource res {", &format!("resource res {{\nrole_on_start {role}"), 1)
    };
    let without = {
        let config = lab.standard_config();
        let (head, tail) = (config.find("resource res").unwrap(), config.find("resource other").unwrap());
        config[..head].to_owned() + &config[tail..]
    };
    lab.start("a");
    lab.before("a", "stop", "log stopping; while [ -e $dir/slow ]; do sleep 0.05; done");
    for (times, role) in ["primary", "secondary", "init", "primary"].into_iter().enumerate() {
        lab.ctl("a", &["role", "primary", "res"]);
        wait_for("it runs", || lab.running("a") == 1);
        fs::write(lab.node_dir("a").join("slow"), "").unwrap();
        lab.write_config(&without);
        let changes = reloaded(&lab, "a");
        assert!(changes.contains("1 removed (res)"), "{changes}");
        lab.wait_call("a", "stopping", times + 1);
        // It is no longer to be had for anything else.
        let output = lab.ctl("a", &["role", "secondary", "res"]);
        assert_eq!((output.code, output.stderr.as_str()), (1, "[WARNING] [res] Received error 1 from hastmon.\n"));
        assert!(Session::open(lab.ip("b"), lab.listens("a"), "res", 0, None).is_err());
        lab.write_config(&with(role));
        let changes = reloaded(&lab, "a");
        assert!(changes.contains("1 added (res)"), "{changes}");
        fs::remove_file(lab.node_dir("a").join("slow")).unwrap();
        lab.wait_call("a", "down res", times + 1);
        let block = || lab.status("a").into_iter().find(|block| block.name == "res").unwrap();
        match role {
            "init" => wait_for("it is off", || block().role == "init" && lab.workers("a").is_empty()),
            "primary" => wait_for("it runs again", || block().state.as_deref() == Some("run")),
            _ => wait_for("it is stopped", || block().role == role && block().state.as_deref() == Some("stopped")),
        }
        assert_eq!(lab.running("a"), usize::from(role == "primary"));
    }
}

#[test]
fn another_node_comes_and_goes_without_a_restart() {
    let lab = Plan::new(&["a", "b", "c"]).loopback();
    lab.run_standard();
    let before = (lab.worker("a", "hastmon: res (primary)"), lab.services("a"));
    let config = lab.standard_config();
    let from = config.find("\ton c {").unwrap();
    let without = config[..from].to_owned() + "}\n";
    // Its address stays where it listens.
    let in_a_list = |line: &str| line.trim_start().starts_with("remote");
    let text: Vec<String> = without
        .lines()
        .map(|line| if in_a_list(line) { line.replace(&format!(" {}", lab.address("c")), "") } else { line.to_owned() })
        .collect();
    lab.write_config(&(text.join("\n") + "\n"));
    for node in ["a", "b"] {
        reloaded(&lab, node);
    }
    wait_for("a has one remote", || lab.res("a").remotes.len() == 1);
    wait_for("c has lost a", || lab.res("c").remotes.iter().all(|(_, state)| state.as_deref() == Some("disconnected")));
    lab.write_config(&config);
    for node in ["a", "b"] {
        reloaded(&lab, node);
    }
    let connected =
        |node: &str| lab.res(node).remotes.iter().filter(|(_, state)| state.as_deref() == Some("connected")).count();
    wait_for("a is connected to both", || connected("a") == 2);
    assert_eq!((lab.worker("a", "hastmon: res (primary)"), lab.services("a")), before);
}

// More than one at a time.

#[test]
fn of_two_reloads_the_file_that_was_read_last_is_in_force() {
    let lab = Plan::new(&["a"]).loopback();
    let text = |count: u32| file(&lab, &[(Own, &format!("complaint_count {count}"))]);
    lab.write_config(&text(1));
    lab.start("a");
    // A pipe in place of the file: it is read for as long as the test likes, as a file on a file system that hangs.
    let pipe = lab.dir().join("pipe");
    assert_eq!(run(Command::new("mkfifo").arg(&pipe)).code, 0);
    fs::rename(&pipe, lab.config()).unwrap();
    fs::hard_link(lab.config(), &pipe).unwrap();
    let control = lab.control_socket("a");
    lab.signal("a", Signal::HUP);
    wait_for("it is read", || lab.log_text("a").contains("reading the configuration again"));
    let mut writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let new = lab.dir().join("new");
    fs::write(&new, text(3)).unwrap();
    fs::rename(&new, lab.config()).unwrap();
    std::thread::scope(|scope| {
        let path = control.display().to_string();
        let ask = || {
            let path = path.clone();
            scope.spawn(|| {
                run(Command::new(crate::support::lab::hastmonctl()).args([
                    "reload".to_owned(),
                    "--control".to_owned(),
                    path,
                ]))
            })
        };
        let asked = [ask(), ask()];
        assert!(control_answers(&control), "the daemon does not wait with it");
        writer.write_all(text(2).as_bytes()).unwrap();
        drop(writer);
        for output in asked.map(|asked| asked.join().unwrap()) {
            assert_eq!(output.code, 0, "{output:?}");
        }
    });
    let status = lab.ctl("a", &["status"]).stdout;
    assert!(status.contains("(threshold 3)"), "{status}");
}

#[test]
fn many_reloads_at_once_are_all_answered() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.run_standard();
    let before = workers(&lab, "a");
    let config = lab.config().display().to_string();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| {
                let mut command = Command::new(crate::support::lab::hastmonctl());
                command.args(["reload", "-n", "a", "-c", &config]);
                scope.spawn(move || run(&mut command))
            })
            .collect();
        (0..8).for_each(|_| lab.signal("a", Signal::HUP));
        for output in all.into_iter().map(|one| one.join().unwrap()) {
            assert_eq!(output.code, 0, "{output:?}");
        }
    });
    assert_eq!(workers(&lab, "a"), before);
}

#[test]
fn a_daemon_that_stops_reads_nothing_again_and_says_so() {
    let lab = Plan::new(&["a", "b"]).in_resource("stop_timeout 3").loopback();
    lab.run_standard();
    lab.before("a", "stop", "log stopping; while [ ! -e $dir/go-on ]; do sleep 0.05; done");
    lab.signal("a", Signal::TERM);
    lab.wait_call("a", "stopping", 1);
    let (old, new) = (lab.control_socket("a"), lab.node_dir("a").join("new-control"));
    let config =
        lab.standard_config().replace(&format!("uds://{}", old.display()), &format!("uds://{}", new.display()));
    lab.write_config(&config);
    let output = lab.ctl("a", &["reload", "--control", &old.display().to_string()]);
    assert_eq!(output.code, CONFIG, "{output:?}");
    assert!(output.stderr.contains("hastmon is stopping"), "{}", output.stderr);
    lab.signal("a", Signal::HUP);
    wait_for("the log says so, too", || lab.log_text("a").matches("hastmon is stopping").count() == 2);
    assert!(control_answers(&old) && !new.exists());
    fs::write(lab.node_dir("a").join("go-on"), "").unwrap();
    assert_eq!(lab.ended("a"), 0);
}

#[test]
fn a_daemon_whose_file_cannot_be_read_to_its_end_stops_all_the_same() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.run_standard();
    fs::remove_file(lab.config()).unwrap();
    assert_eq!(run(Command::new("mkfifo").arg(lab.config())).code, 0);
    lab.signal("a", Signal::HUP);
    wait_for("it is read", || lab.log_text("a").contains("reading the configuration again"));
    let start = now_ns();
    assert_eq!(lab.stop("a"), 0);
    assert!(now_ns() - start < 10_000_000_000, "after {:.1} s", seconds(now_ns() - start));
    assert!(!lab.pidfile("a").exists() && !lab.control_socket("a").exists());
    // For the laboratory's report, should the test fail.
    fs::remove_file(lab.config()).unwrap();
}

#[test]
fn a_worker_that_is_stuck_meanwhile_gets_its_settings_when_it_is_back() {
    let lab = Plan::new(&["a", "w"]).loopback();
    let lines = |count: &'static str| [(Own, "friends @w"), (Own, count)];
    lab.write_config(&file(&lab, &lines("attempts 1000")));
    lab.before("a", "start", "exit 1");
    lab.start("a");
    lab.role("a", "primary");
    lab.wait_call("a", "start res", 3);
    let worker = lab.worker("a", "hastmon: res (primary)").unwrap();
    process::signal(worker, Signal::STOP);
    // More polls than may wait for it, in the daemon and in the kernel.
    for _ in 0..800 {
        assert!(answers(lab.ip("w"), lab.listens("a")));
    }
    lab.write_config(&file(&lab, &lines("attempts 2")));
    reloaded(&lab, "a");
    process::signal(worker, Signal::CONT);
    wait_for("a gives up", || lab.res("a").role == "secondary");
    let log = lab.log_text("a");
    assert!(log.contains("giving up the role primary: the resource does not run after"), "by its new settings: {log}");
}

#[test]
fn a_resource_with_as_many_and_as_long_names_as_there_may_be_is_reloaded_as_well() {
    let lab = Plan::new(&["a"]).loopback();
    let label = "x".repeat(60);
    let names = |what: &str, count: usize| -> String {
        let name = |number| format!(" tcp4://{what}{number}.{label}.{label}.{label}.invalid");
        (0..count).map(name).collect()
    };
    let node = "n".repeat(250);
    let others: String = (0..64).map(|number| format!("on {node}{number} {{ remote none }}\n")).collect();
    let friends = format!("friends {}", names("f", 256));
    let remotes = format!("remote {}", names("r", 64));
    let lines = |attempts: &'static str| {
        [(Own, friends.as_str()), (Own, remotes.as_str()), (Own, attempts), (Resource, &others)]
    };
    lab.write_config(&file(&lab, &lines("attempts 1000")));
    lab.before("a", "start", "exit 1");
    lab.start("a");
    lab.role("a", "primary");
    lab.wait_call("a", "start res", 3);
    lab.write_config(&file(&lab, &lines("attempts 2")));
    reloaded(&lab, "a");
    wait_for("a gives up by its new settings", || lab.log_text("a").contains("the resource does not run after"));
}
