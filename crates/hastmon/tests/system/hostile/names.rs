//! Names in the configuration: looked up off the loop, again and again, and told once when there is nothing to be found.
//! They need root, and fail without it unless HASTMON_SKIP_NETNS=1 says that they are to be left out.

use std::net::UdpSocket;
use std::time::Duration;

use super::{assert_undisturbed, history, lines, wait_line};
use crate::support::lab::{Lab, Plan};
use crate::support::peer;
use crate::support::time::{now_ns, seconds, stays, wait_for};

/// The standard laboratory, with a name besides in the `friends` of node a.
fn lab_with_friend(name: &str) -> Option<Lab> {
    let lab = Plan::new(&["a", "b", "w"]).own_names()?.loopback();
    let friends = format!("friends {}", lab.address("w"));
    let config = lab.standard_config().replacen(&friends, &format!("{friends} {name}"), 1);
    lab.write_config(&config);
    Some(lab)
}

fn is_known(lab: &Lab, node: &str) -> bool {
    peer::poll(lab.ip(node), lab.listens("a"), "res", None).is_some()
}

/// A name service that takes questions and never answers.
struct Hanging(UdpSocket);

impl Hanging {
    fn start(lab: &Lab) -> Self {
        let socket = UdpSocket::bind((lab.ip("x"), 53)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    /// From now on it is the only one.
    fn serve(&self, lab: &Lab) {
        lab.write_names("", &format!("nameserver {}\noptions timeout:30 attempts:1\n", lab.ip("x")));
    }

    fn is_asked(&self) -> bool {
        self.0.recv_from(&mut [0; 512]).is_ok()
    }
}

#[test]
fn a_name_that_is_unknown_is_told_once_and_known_as_soon_as_it_stands_for_something() {
    let Some(lab) = lab_with_friend("watcher.test") else { return };
    lab.run_standard();
    let before = history(&lab);
    wait_line(&lab, "a", "cannot find the address of watcher.test");
    // It is looked up every 5 s.
    stays(Duration::from_secs(6), "it is told once and not known", || {
        lines(&lab, "a", "cannot find the address of watcher.test").len() == 1 && !is_known(&lab, "v")
    });

    lab.write_names(&format!("{} watcher.test\n", lab.ip("v")), "");
    wait_line(&lab, "a", &format!("watcher.test is now known as {}", lab.ip("v")));
    assert!(is_known(&lab, "v") && !is_known(&lab, "d"));

    lab.write_names(&format!("{} watcher.test\n", lab.ip("d")), "");
    wait_for("the name has moved", || is_known(&lab, "d") && !is_known(&lab, "v"));

    // Better what was known than nothing. Who reads the configuration again wants to know it now.
    lab.write_names("", "");
    assert_eq!(lab.ctl("a", &["reload"]).code, 0);
    wait_for("it is told that the name is lost", || lines(&lab, "a", "going on with what it was").len() == 1);
    assert!(is_known(&lab, "d"));

    let told = lines(&lab, "a", "cannot find the address of watcher.test");
    assert_eq!(told.len(), 2, "once each time that it was lost, though it was tried again: {told:?}");
    assert!(told.iter().all(|line| line.contains("(needed for: res; trying again")));
    assert_undisturbed(&lab, &before);
}

#[test]
fn a_name_service_that_hangs_holds_up_nothing() {
    let Some(lab) = lab_with_friend("one.test two.test three.test four.test five.test") else { return };
    let name_service = Hanging::start(&lab);
    name_service.serve(&lab);
    lab.run_standard();
    let before = history(&lab);
    wait_for("names are looked up", || name_service.is_asked());
    let mut worst = 0;
    stays(Duration::from_secs(4), "it answers and is known to its peers", || {
        let start = now_ns();
        let role = lab.res("a").role;
        worst = worst.max(now_ns() - start);
        role == "primary" && is_known(&lab, "w")
    });
    assert!(worst < 5_000_000_000, "status took {:.1} s", seconds(worst));
    // Reading the configuration does not wait for the name service, either.
    let start = now_ns();
    let reloaded = lab.ctl("a", &["reload"]);
    assert_eq!(reloaded.code, 0, "{}", reloaded.stderr);
    assert!(now_ns() - start < 5_000_000_000);
    // Nor does the end.
    let start = now_ns();
    assert_undisturbed(&lab, &before);
    assert_eq!(lab.stop("a"), 0);
    assert!(now_ns() - start < 10_000_000_000);
}

#[test]
fn peers_that_were_known_by_name_are_reached_while_the_name_service_hangs() {
    let Some(plan) = Plan::new(&["a", "b", "w"]).own_names() else { return };
    let lab = plan.loopback();
    let name_service = Hanging::start(&lab);
    let mut config = lab.standard_config();
    let mut names = String::new();
    for node in ["a", "b", "w"] {
        config = config.replace(&format!("{}\n", lab.address(node)), &format!("{node}.test\n"));
        config = config.replace(&format!("{} ", lab.address(node)), &format!("{node}.test "));
        names += &format!("{} {node}.test\n", lab.ip(node));
    }
    lab.write_config(&config);
    lab.write_names(&names, "");
    lab.run_standard();
    let (before, complaints) = (history(&lab), lab.count("w", "complain res"));
    name_service.serve(&lab);
    wait_for("names are looked up", || name_service.is_asked());
    let sees = || lab.res("w").remotes.iter().filter_map(|(_, state)| state.clone()).collect::<Vec<_>>();
    stays(Duration::from_secs(5), "w sees both", || sees() == ["primary/run", "secondary/stopped"]);
    assert_eq!(lab.count("w", "complain res"), complaints);
    assert_undisturbed(&lab, &before);
}
