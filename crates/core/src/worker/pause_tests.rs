//! A worker whose resource is paused, among nodes that answer at once: lease 3 s, stop budget 1 s, heartbeat 1 s.

use super::*;
use crate::lease::{FOR_EVER, Kind};
use crate::pause::Paused;
use crate::testing::lease::{Cluster, lease_config};
use crate::testing::{Bench, Script, ms, s};

fn pause(version: u64) -> Pause {
    let paused = Paused { by: "root".into(), since_unix_s: 0, left: None };
    Pause { version, node: "b".into(), paused: Some(paused) }
}

fn resume(version: u64) -> Pause {
    Pause { version, node: "b".into(), paused: None }
}

/// It runs here, and has been paused for more than a heartbeat.
fn paused() -> Cluster {
    let mut cluster = Cluster::new(Role::Primary, &["b", "c"], "", "");
    cluster.wait(ms(500));
    assert_eq!(cluster.bench.state(), State::Run);
    cluster.order(Order::Pause(pause(1)));
    cluster.wait(ms(1500));
    assert_eq!(cluster.lease().kept, 3);
    cluster.take();
    cluster
}

fn calls(cluster: &Cluster, hook: Hook) -> usize {
    cluster.hooks().iter().filter(|(_, called)| *called == hook).count()
}

fn gone(cluster: &mut Cluster, node: &str) {
    let peer = cluster.peer(node);
    peer.is_up = false;
    peer.is_mute = true;
}

fn dies(cluster: &mut Cluster) {
    cluster.bench.script.as_mut().unwrap().runs = false;
}

fn releases(cluster: &Cluster) -> usize {
    cluster.count(|action| matches!(action, Action::ReleaseHere(_) | Action::Say(_, Said::Release(_))))
}

fn assignment(role: Role, part: LeasePart) -> Assignment {
    let resource = lease_config(&["b", "c"], "", "").resources.remove(0);
    Assignment { resource, lease: Some(part), in_haste: true, ..crate::testing::assignment(role, "") }
}

fn part(pause: Pause) -> LeasePart {
    LeasePart { node: "a".into(), grant: None, keep_until: None, force: false, seed: 7, pause, must_stop: false }
}

/// A worker that finds the resource running, as an earlier one has left it.
fn found_running(role: Role, part: LeasePart) -> Bench {
    Bench::of(assignment(role, part), Some(Script { runs: true, ..Script::GOOD }))
}

#[test]
fn what_dies_while_it_is_paused_is_neither_started_nor_given_up() {
    let mut cluster = paused();
    dies(&mut cluster);
    cluster.wait(s(100));
    assert_eq!((calls(&cluster, Hook::Start), calls(&cluster, Hook::Stop)), (0, 0));
    assert_eq!((cluster.bench.state(), cluster.bench.farewell.clone()), (State::Stopped, None));
    assert!(cluster.told().iter().any(|event| matches!(event, Event::StartWaits { why } if why.contains("root on b"))));
    cluster.order(Order::Pause(resume(2)));
    cluster.wait(s(2));
    assert_eq!(cluster.bench.state(), State::Run);
    assert_eq!(cluster.bench.report.clone().unwrap().attempts, 0);
}

#[test]
fn with_a_majority_that_keeps_its_votes_an_isolated_primary_goes_on_while_it_is_paused() {
    let mut cluster = paused();
    gone(&mut cluster, "b");
    gone(&mut cluster, "c");
    cluster.wait(s(100));
    assert_eq!(calls(&cluster, Hook::Stop), 0);
    assert_eq!(cluster.lease().runs_until, Some(FOR_EVER));
    // After the pause as well: it could not renew, and nobody else could start.
    cluster.order(Order::Pause(resume(2)));
    cluster.wait(s(100));
    assert_eq!(calls(&cluster, Hook::Stop), 0);
    for node in ["b", "c"] {
        let peer = cluster.peer(node);
        (peer.is_up, peer.is_mute) = (true, false);
    }
    cluster.wait(s(5));
    assert_eq!((cluster.lease().kept, calls(&cluster, Hook::Stop)), (0, 0));
    assert!(cluster.lease().runs_until.unwrap() <= cluster.bench.now + s(3));
}

#[test]
fn without_one_it_stops_at_the_end_of_its_lease_though_it_is_paused() {
    let mut cluster = Cluster::new(Role::Primary, &["b", "c"], "", "");
    cluster.wait(ms(1200));
    gone(&mut cluster, "b");
    gone(&mut cluster, "c");
    cluster.order(Order::Pause(pause(1)));
    cluster.wait(s(6));
    assert_eq!(calls(&cluster, Hook::Stop), 1);
    assert!(matches!(cluster.bench.farewell, Some(Farewell::GaveUp(GiveUp::LeaseLost { .. }))));
}

#[test]
fn a_worker_that_ends_leaves_running_what_a_majority_keeps_its_votes_for() {
    for input in [Input::Order(Order::LeaveRunning { reason: String::new() }), Input::DaemonGone] {
        let mut cluster = paused();
        cluster.give(input);
        cluster.wait(s(5));
        assert_eq!(cluster.bench.farewell, Some(Farewell::AsOrdered));
        assert_eq!((calls(&cluster, Hook::Stop), releases(&cluster)), (0, 0));
        assert!(cluster.told().contains(&Event::LeftRunning { kept: 3, of: 3 }));
    }
}

#[test]
fn it_stops_what_no_majority_keeps_its_votes_for_and_says_why() {
    let mut cluster = Cluster::new(Role::Primary, &["b", "c"], "", "");
    cluster.wait(ms(1200));
    cluster.order(Order::Pause(pause(1)));
    cluster.take();
    cluster.order(Order::LeaveRunning { reason: String::new() });
    cluster.wait(s(5));
    assert_eq!(calls(&cluster, Hook::Stop), 1);
    assert!(releases(&cluster) > 0);
    assert!(cluster.told().iter().any(|event| matches!(event, Event::NotLeftRunning { kept: 0, is_busy: false, .. })));
}

#[test]
fn what_is_not_paused_is_stopped_at_the_end_as_ever() {
    for input in [Input::Order(Order::LeaveRunning { reason: String::new() }), Input::DaemonGone] {
        let mut cluster = paused();
        cluster.order(Order::Pause(resume(2)));
        cluster.give(input);
        cluster.wait(s(5));
        assert_eq!(calls(&cluster, Hook::Stop), 1);
    }
}

#[test]
fn an_operator_who_takes_the_resource_away_has_it_stopped_though_it_is_paused() {
    let mut cluster = paused();
    cluster.order(Order::Leave { reason: String::new() });
    cluster.wait(s(5));
    assert_eq!(calls(&cluster, Hook::Stop), 1);
}

#[test]
fn a_worker_takes_up_what_was_left_running_and_asks_for_votes_that_are_kept() {
    let mut bench = found_running(Role::Primary, LeasePart { keep_until: Some(FOR_EVER), ..part(pause(1)) });
    bench.wait(s(20));
    assert_eq!((bench.calls(Hook::Stop), bench.state()), (0, State::Run));
    bench.order(Order::LeaveRunning { reason: String::new() });
    bench.wait(s(5));
    assert_eq!((bench.calls(Hook::Stop), bench.farewell.clone()), (0, Some(Farewell::AsOrdered)));
}

#[test]
fn after_the_pause_what_was_left_running_has_the_time_of_a_lease_from_the_first_question_on() {
    let mut cluster = Cluster::paused_since(pause(1), &[]);
    cluster.peer("b").is_up = true;
    cluster.refuses = Some(crate::lease::Refusal::NotRecorded);
    cluster.peer("b").refuses = Some(crate::lease::Refusal::NotRecorded);
    cluster.wait(s(20));
    assert!(!cluster.asked(Kind::Vote).is_empty() && cluster.asked(Kind::Vote).iter().all(|(_, ask)| ask.kept));
    assert_eq!((calls(&cluster, Hook::Stop), releases(&cluster)), (0, 0), "a round that is lost gives nothing back");
    cluster.order(Order::Pause(resume(2)));
    cluster.take();
    let asked = loop {
        assert!(cluster.bench.since_start() < s(60), "nobody asks");
        cluster.wait(ms(10));
        if let Some((at, _)) = cluster.asked(Kind::Vote).into_iter().find(|(_, ask)| !ask.kept) {
            break at;
        }
    };
    cluster.wait(s(8));
    let stop = cluster.hooks().into_iter().find(|(_, hook)| *hook == Hook::Stop).unwrap().0;
    assert_eq!(stop, asked + s(3));
    assert!(cluster.log.iter().all(|(at, action)| *at >= stop || !matches!(action, Action::ReleaseHere(_))));
}

#[test]
fn what_runs_without_any_vote_is_stopped_though_it_is_paused() {
    let mut bench = found_running(Role::Primary, part(pause(1)));
    bench.wait(s(2));
    assert_eq!(bench.calls(Hook::Stop), 1);
}

#[test]
fn a_secondary_leaves_alone_what_it_finds_running_while_it_is_paused() {
    let mut bench = found_running(Role::Secondary, part(pause(1)));
    bench.wait(s(10));
    assert_eq!(bench.state(), State::Run);
    assert_eq!(bench.told().iter().filter(|event| **event == Event::RunsWhilePaused).count(), 1);
    bench.order(Order::LeaveRunning { reason: String::new() });
    bench.wait(s(5));
    assert_eq!(bench.calls(Hook::Stop), 0);
    let mut bench = found_running(Role::Secondary, part(pause(1)));
    bench.order(Order::Pause(resume(2)));
    bench.wait(s(2));
    assert_eq!((bench.calls(Hook::Stop), bench.state()), (1, State::Stopped));
}

#[test]
fn a_stop_that_has_failed_is_tried_again_whether_it_is_paused_or_not() {
    let mut bench = found_running(Role::Secondary, LeasePart { must_stop: true, ..part(pause(1)) });
    bench.wait(s(2));
    assert_eq!(bench.calls(Hook::Stop), 1);
}

#[test]
fn a_secondary_that_is_told_so_stops_what_it_finds_though_it_is_paused_and_once() {
    let mut bench = found_running(Role::Secondary, part(pause(1)));
    bench.order(Order::MustStop);
    bench.wait(s(2));
    assert_eq!((bench.calls(Hook::Stop), bench.state()), (1, State::Stopped));
    // What an operator starts then is left alone.
    bench.script.as_mut().unwrap().runs = true;
    bench.wait(s(30));
    assert_eq!((bench.calls(Hook::Stop), bench.state()), (0, State::Run));
}

#[test]
fn a_worker_that_has_not_begun_hears_what_it_needs_to_begin() {
    let mut assignment = assignment(Role::Secondary, part(resume(1)));
    assert!(
        assignment.hear(Order::Pause(pause(2)))
            && assignment.hear(Order::MustStop)
            && assignment.hear(Order::Stand { highest: 0 })
    );
    let part = assignment.lease.clone().unwrap();
    assert!(part.must_stop && part.pause == pause(2));
    assert!(!assignment.hear(Order::LeaveRunning { reason: String::new() }));
}

#[test]
fn a_candidate_stands_down_when_it_is_paused() {
    let mut cluster = Cluster::new(Role::Secondary, &["b", "c"], "", "");
    for node in ["b", "c"] {
        cluster.peer(node).refuses = Some(crate::lease::Refusal::NotRecorded);
    }
    cluster.wait(s(1));
    cluster.order(Order::Stand { highest: 0 });
    cluster.order(Order::Pause(pause(1)));
    cluster.take();
    cluster.wait(s(10));
    assert_eq!(cluster.asked(Kind::Vote), []);
}

#[test]
fn news_of_a_pause_go_to_the_daemon_and_to_the_other_nodes() {
    let mut cluster = Cluster::new(Role::Secondary, &["b", "c"], "", "");
    cluster.wait(ms(500));
    cluster.peer("b").pause = Some(pause(4));
    cluster.take();
    cluster.wait(s(1));
    assert_eq!(cluster.count(|action| *action == Action::PauseHeard(pause(4))), 1);
    cluster.order(Order::Pause(pause(4)));
    cluster.take();
    cluster.wait(s(1));
    let told = cluster.said("c").into_iter().filter(|(_, said)| matches!(said, Said::Beat { pause: Some(_), .. }));
    assert_eq!(told.count(), 1);
    assert_eq!(cluster.count(|action| matches!(action, Action::PauseHeard(_))), 0);
    assert_eq!(cluster.lease().know, ["b"]);
}

#[test]
fn a_secondary_whose_resource_is_stopped_gives_back_what_is_kept_for_it_after_the_pause() {
    let mut cluster = Cluster::new(Role::Secondary, &["b", "c"], "", "");
    cluster.order(Order::Pause(pause(1)));
    let peer = cluster.peer("b");
    (peer.keeps, peer.epoch) = (true, 7);
    cluster.wait(s(3));
    assert_eq!(releases(&cluster), 0, "it is paused");
    cluster.order(Order::Pause(resume(2)));
    cluster.wait(s(1));
    let release = cluster.said("b").into_iter().find_map(|(_, said)| match said {
        Said::Release(release) => Some((release.node, release.epoch)),
        _ => None,
    });
    assert_eq!(release, Some(("a".to_string(), 7)));
    assert!(!cluster.said("c").iter().any(|(_, said)| matches!(said, Said::Release(_))));
}
