//! The laboratory itself: a test is worth what its tools are worth.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::Duration;

use crate::support::events::{overlaps, parse};
use crate::support::lab::{Plan, run};
use crate::support::peer::{self, Key, Original, PORT, RUN, SECONDARY, STOPPED, Session, decode, encode};
use crate::support::process;
use crate::support::recorded;
use crate::support::time::{now_ns, stays, wait_for};

const RECORDINGS: [&str; 5] = ["nokey.json", "key-MD5.json", "key-SHA1.json", "key-SHA256.json", "key-RIPEMD160.json"];

/// Calls a node's exec script as a daemon would: its exit code.
fn call(lab: &crate::support::lab::Lab, node: &str, arguments: &[&str]) -> i32 {
    let mark = lab.node_dir(node);
    run(Command::new(lab.script(node)).args(arguments).env(process::MARK, mark)).code
}

#[test]
fn the_stand_in_for_the_resource_starts_stops_and_dies() {
    let lab = Plan::new(&["a", "b"]).loopback();
    assert_eq!(call(&lab, "a", &["status", "res"]), 1);
    assert_eq!(call(&lab, "a", &["start", "res"]), 0);
    assert_eq!(call(&lab, "a", &["start", "res"]), 0);
    assert_eq!(call(&lab, "a", &["status", "res"]), 0);
    assert_eq!((lab.running("a"), lab.running("b")), (1, 0));
    lab.kill_service("a", "res");
    assert_eq!((lab.running("a"), call(&lab, "a", &["status", "res"])), (0, 1));
    assert_eq!(call(&lab, "a", &["start", "res"]), 0);
    assert_eq!(call(&lab, "a", &["stop", "res"]), 0);
    assert_eq!(call(&lab, "a", &["role", "res", "init", "primary"]), 0);
    let expected = [
        "status res",
        "start res",
        "up res",
        "start res",
        "status res",
        "died res",
        "status res",
        "start res",
        "up res",
        "stop res",
        "down res",
        "role res init primary",
    ];
    assert_eq!(lab.calls("a"), expected);
}

#[test]
fn what_a_test_puts_before_an_event_is_done_and_taken_back() {
    let lab = Plan::new(&["a"]).loopback();
    lab.before("a", "status", "echo $event $name; exit 7");
    assert_eq!(call(&lab, "a", &["status", "res"]), 7);
    lab.as_usual("a", "status");
    assert_eq!(call(&lab, "a", &["status", "res"]), 1);
}

#[test]
fn nothing_is_left_of_a_laboratory() {
    let lab = Plan::new(&["a", "b"]).loopback();
    assert_eq!(call(&lab, "a", &["start", "res"]), 0);
    let (dir, mark) = (lab.dir().to_owned(), lab.dir().display().to_string());
    // While a process is being replaced by the program that it runs, the kernel shows no environment of it.
    wait_for("the service is seen", || process::marked(&mark).len() == 1);
    drop(lab);
    assert!(process::marked(&mark).is_empty());
    assert!(!dir.exists());
}

#[test]
fn laboratories_have_networks_of_their_own() {
    let labs = [Plan::new(&["a"]).loopback(), Plan::new(&["a"]).loopback()];
    assert_ne!(labs[0].ip("a"), labs[1].ip("a"));
}

#[test]
#[should_panic(expected = "two at once: res ran on a and b")]
fn a_resource_that_runs_twice_is_noticed() {
    let lab = Plan::new(&["a", "b"]).loopback();
    call(&lab, "a", &["start", "res"]);
    call(&lab, "b", &["start", "res"]);
}

#[test]
fn the_resource_of_a_node_without_power_does_not_count() {
    let lab = Plan::new(&["a", "b"]).loopback();
    call(&lab, "a", &["start", "res"]);
    lab.power_off("a");
    assert_eq!(lab.running("a"), 0);
    call(&lab, "b", &["start", "res"]);
    lab.assert_never_two();
}

#[test]
fn spans_with_two_at_once_are_found_with_their_length() {
    let log = "1000000000 a up res pid=1\n\
               1500000000 b up other pid=1\n\
               2000000000 b up res pid=1\n\
               4500000000 a down res pid=1\n\
               5000000000 a up res pid=1\n\
               6000000000 b frozen pid=1\n\
               7000000000 c up res pid=1\n\
               8000000000 c up res pi";
    let found: Vec<String> = overlaps(&parse(log)).iter().map(ToString::to_string).collect();
    let expected = [
        "res ran on a and b at 2.00 s, for 2.50 s",
        "res ran on a and b at 5.00 s, for 1.00 s",
        "res ran on a and c at 7.00 s, until the end of the test",
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_second_codec_gives_every_recorded_message_back() {
    let mut count = 0;
    for name in RECORDINGS {
        let recording = recorded::load(name);
        let connections = recording["network"].as_array().unwrap().iter();
        let all = connections.flat_map(|one| ["from_client", "from_server"].map(|side| one[side].as_array().unwrap()));
        for message in all.flatten() {
            let bytes = recorded::bytes(message);
            let fields = decode(&bytes);
            assert_eq!(fields.len(), message["fields"].as_array().unwrap().len());
            let again = encode(&fields);
            assert_eq!(again.len(), bytes.len());
            assert_eq!(decode(&again), fields);
            count += 1;
        }
    }
    assert!(count > 100, "{count} messages");
}

#[test]
fn the_second_signature_verifies_every_recorded_one() {
    let mut count = 0;
    for name in RECORDINGS {
        let recording = recorded::load(name);
        let Some((algorithm, secret)) = recording["key"].as_str().and_then(|key| key.split_once(':')) else { continue };
        let key = Key::new(algorithm, secret);
        for connection in recording["network"].as_array().unwrap() {
            let address = |end: &str| -> SocketAddr { connection[end].as_str().unwrap().parse().unwrap() };
            let Some(first) = connection["from_client"].as_array().unwrap().first() else { continue };
            let message = decode(&recorded::bytes(first));
            assert!(key.verifies(&message, &address("client"), &address("server")), "{name}: {message:?}");
            count += 1;
        }
    }
    assert!(count > 40, "{count} signatures");
}

#[test]
fn two_stand_ins_understand_each_other() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    let key = Key::new("SHA256", "of two stand-ins");
    let (here, there) = (lab.ip("a"), SocketAddrV4::new(lab.ip("b"), PORT));
    let other = Original::listen(lab.ip("b"), SECONDARY, STOPPED, 1, Some(key.clone()));
    let mut session = Session::open(here, there, "res", 0, Some(&key)).unwrap();
    assert_eq!(session.heartbeat(RUN), Some(peer::heartbeat_answer(STOPPED, 1)));
    peer::complain(lab.ip("w"), there, "res", Some(&key));
    assert!(peer::poll(lab.ip("w"), there, "res", Some(&key)).is_some());
    other.set(peer::PRIMARY, RUN);
    assert!(Session::open(here, there, "res", 0, None).is_err());
    wait_for("all is recorded", || other.received().len() == 6);
    let signed: Vec<bool> = other.received().iter().map(|message| message.signed).collect();
    assert_eq!(signed, [true, true, false, true, true, false]);
}

#[test]
fn a_command_whose_output_is_held_open_is_waited_for() {
    let output = run(Command::new("sh").args(["-c", "(sleep 0.2; echo late) & echo early; kill -9 $$"]));
    assert_eq!((output.code, output.stdout.as_str()), (137, "early\nlate\n"));
}

#[test]
fn links_between_hosts_can_be_cut_one_way_and_both_and_heal() {
    let Some(lab) = Plan::new(&["a", "b", "w"]).hosts() else { return };
    let hosts = lab.hosts();
    let ear = |node: &str| {
        let address = (lab.ip(node), PORT);
        (node.to_owned(), hosts.inside(node, || UdpSocket::bind(address).unwrap()))
    };
    let ears: BTreeMap<String, UdpSocket> = ["a", "b", "w"].map(ear).into();
    let hears = |from: &str, to: &str| {
        let word = now_ns().to_le_bytes();
        ears[to].set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let _ = ears[from].send_to(&word, (lab.ip(to), PORT));
        let mut heard = [0; 8];
        ears[to].recv(&mut heard).is_ok() && heard == word
    };
    assert!(hears("a", "b") && hears("b", "w"));
    hosts.cut("a", "b");
    assert!(!hears("a", "b") && !hears("b", "a") && hears("a", "w"));
    hosts.heal();
    hosts.cut_one_way("a", "b");
    assert!(!hears("a", "b") && hears("b", "a"));
    hosts.heal();
    hosts.isolate("w");
    assert!(!hears("w", "a") && !hears("a", "w") && hears("a", "b"));
    hosts.heal();
    assert!(hears("w", "a"));
}

#[test]
fn a_host_that_loses_its_power_says_nothing_more() {
    let Some(lab) = Plan::new(&["a", "b"]).hosts() else { return };
    let listener = "exec sleep 1000";
    let mut child = lab.hosts().command("a", "sh").args(["-c", listener]).spawn().unwrap();
    wait_for("it runs", || lab.everything("a").len() == 1);
    lab.power_off("a");
    child.wait().unwrap();
    assert!(lab.everything("a").is_empty());
}

#[test]
fn a_span_in_which_nothing_may_change_is_watched() {
    let mut looks = 0;
    stays(Duration::from_millis(50), "one is one", || {
        looks += 1;
        true
    });
    assert!(looks > 1, "{looks} looks");
}
