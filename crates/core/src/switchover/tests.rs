use super::*;
use crate::daemon::Input;
use crate::supervisor::WorkerExit;
use crate::testing::{DaemonBench, RESOURCE, ms, s};
use crate::wire::peer::Said;
use crate::wire::request::Request;
use crate::worker::{Farewell, LeaseReport, Order};

fn held(bench: &DaemonBench) -> Option<LeaseReport> {
    let until = Some(bench.now + s(3));
    Some(LeaseReport {
        epoch: Some(1),
        until,
        is_forced: false,
        in_reach: 3,
        votes: 3,
        voters: 3,
        waits: None,
        highest: 0,
        in_force: Vec::new(),
        runs_until: until,
        kept: 0,
        know: Vec::new(),
    })
}

fn primary() -> DaemonBench {
    let mut bench = DaemonBench::with_lease("", "");
    bench.set_role(Role::Primary);
    bench.reports(State::Run, held(&bench));
    bench.take();
    bench
}

fn ask(bench: &mut DaemonBench, to: Option<&str>) -> ConnId {
    bench.control(&Request::Switchover { resource: RESOURCE.to_string(), to: to.map(ToString::to_string) })
}

fn reply(bench: &DaemonBench, conn: ConnId) -> Option<SwitchoverReply> {
    Some(SwitchoverReply::decode(&bench.reply_to(conn)?.0).unwrap())
}

fn refused(bench: &DaemonBench, conn: ConnId) -> String {
    reply(bench, conn).unwrap().outcome.unwrap_err()
}

/// The worker has stopped the resource and released the lease for `b`.
fn handed_over(bench: &mut DaemonBench) {
    bench.wait(s(1));
    bench.reports(State::Stopped, held(bench));
    bench.worker_exits(WorkerExit::Farewell(Farewell::HandedOver("b".to_string())));
    assert_eq!(bench.role(), Role::Secondary);
    bench.reports(State::Stopped, None);
}

#[test]
fn each_step_is_told_with_its_time() {
    let mut bench = primary();
    bench.peer("b", Role::Secondary, 100, State::Stopped);
    let conn = ask(&mut bench, Some("b"));
    assert_eq!(bench.orders(), [Order::HandOver(Some("b".to_string()))]);
    handed_over(&mut bench);
    bench.wait(s(1));
    let b = bench.peer("b", Role::Primary, 100, State::Starting);
    assert_eq!(reply(&bench, conn), None);
    bench.wait(s(1));
    bench.beat(b, 2, State::Run, None);
    let reply = reply(&bench, conn).unwrap();
    assert_eq!(reply.outcome, Ok(()));
    let steps: Vec<(&str, u64)> = reply.steps.iter().map(|(step, took)| (step.as_str(), took.as_secs())).collect();
    assert_eq!(steps, [("stopped here", 1), ("lease given back for b", 0), ("b holds the lease", 1), ("runs on b", 1)]);
}

#[test]
fn a_node_that_does_not_hold_the_lease_says_who_does() {
    let mut bench = DaemonBench::with_lease("", "");
    bench.set_role(Role::Secondary);
    let b = bench.peer("b", Role::Primary, 100, State::Run);
    bench.beat(b, 2, State::Run, Some(DaemonBench::ask_of("b", crate::lease::Kind::Vote, 1)));
    let conn = ask(&mut bench, None);
    assert_eq!(refused(&bench, conn), "this node is secondary and not primary: ask b, which holds the lease");
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let mut bench = primary();
    let conn = ask(&mut bench, Some("x"));
    assert_eq!(refused(&bench, conn), "x is no node of the resource: a b c");
    let conn = ask(&mut bench, Some("a"));
    assert_eq!(refused(&bench, conn), "this node is primary already");
    let first = ask(&mut bench, Some("b"));
    let second = ask(&mut bench, Some("c"));
    assert_eq!(refused(&bench, second), "another switchover is under way");
    let id = bench.worker();
    bench.give(Input::HandOverRefused(id, "b is not connected".to_string()));
    assert_eq!(refused(&bench, first), "b is not connected");
    // The next one may be asked for.
    ask(&mut bench, Some("b"));
    assert!(bench.orders().contains(&Order::HandOver(Some("b".to_string()))));
}

#[test]
fn the_end_of_the_daemon_ends_a_switchover() {
    let mut bench = primary();
    let conn = ask(&mut bench, Some("b"));
    bench.give(Input::Stop);
    assert_eq!(refused(&bench, conn), "hastmon is told to stop");
}

#[test]
fn a_target_that_gives_up_gives_the_resource_back() {
    let mut bench = primary();
    bench.peer("b", Role::Secondary, 100, State::Stopped);
    let conn = ask(&mut bench, Some("b"));
    handed_over(&mut bench);
    let b = bench.peer("b", Role::Primary, 100, State::Starting);
    bench.wait(s(1));
    bench.take();
    let release =
        crate::lease::Release { node: "b".to_string(), epoch: 2, successor: None, reserve: s(2), was_held: true };
    bench.said(b, &Said::Release(release));
    assert!(bench.is_told_to_stand(), "{:?}", bench.orders());
    let terms = crate::lease::Terms { lease: s(3), stop: s(1) };
    let grant = crate::lease::Grant { epoch: 3, until: bench.now + s(3), terms };
    let id = bench.worker();
    bench.give(Input::Won(id, grant));
    bench.worker_ends();
    bench.reports(State::Run, held(&bench));
    bench.wait(s(1));
    if reply(&bench, conn).is_none() {
        bench.reports(State::Run, held(&bench));
    }
    let reply = reply(&bench, conn).expect("an answer");
    assert_eq!(reply.outcome, Err("b could not start it".to_string()));
    assert_eq!(reply.steps.last().unwrap().0, "runs here again");
}

#[test]
fn nobody_waits_for_ever() {
    let mut bench = primary();
    let conn = ask(&mut bench, Some("b"));
    handed_over(&mut bench);
    // stop 1 s, start 60 s, two status of 5 s, and some patience.
    bench.wait(s(79));
    assert_eq!(reply(&bench, conn), None);
    bench.wait(s(2));
    let why = refused(&bench, conn);
    assert!(why.contains("nothing is known of it there"), "{why}");
    assert!(why.contains("after 81s") || why.contains("after 80s") || why.contains("after 82s"), "{why}");
}

/// A secondary, and `b` runs the resource under the lease.
fn served_by_b() -> (DaemonBench, ConnId) {
    let mut bench = DaemonBench::with_lease("", "");
    bench.set_role(Role::Secondary);
    bench.reports(State::Stopped, None);
    let b = bench.peer("b", Role::Primary, 100, State::Run);
    bench.beat(b, 2, State::Run, Some(DaemonBench::ask_of("b", crate::lease::Kind::Vote, 1)));
    bench.take();
    (bench, b)
}

fn release_of_b(epoch: u64) -> Said {
    let (node, successor) = ("b".to_string(), Some("a".to_string()));
    Said::Release(crate::lease::Release { node, epoch, successor, reserve: s(2), was_held: true })
}

/// `b` has given it to this node, which has won.
fn won_from_b(bench: &mut DaemonBench, b: ConnId) {
    bench.wait(s(1));
    bench.beat(b, 3, State::Stopped, None);
    bench.wait(ms(500));
    bench.said(b, &release_of_b(1));
    bench.wait(ms(500));
    let terms = crate::lease::Terms { lease: s(3), stop: s(1) };
    let grant = crate::lease::Grant { epoch: 2, until: bench.now + s(3), terms };
    let id = bench.worker();
    bench.give(Input::Won(id, grant));
    bench.worker_ends();
}

#[test]
fn a_node_that_wants_it_for_itself_tells_each_step() {
    let (mut bench, b) = served_by_b();
    let conn = ask(&mut bench, Some("a"));
    assert_eq!(bench.orders(), [Order::HandOver(Some("a".to_string()))]);
    won_from_b(&mut bench, b);
    assert!(bench.is_told_to_stand(), "{:?}", bench.orders());
    assert_eq!((bench.role(), reply(&bench, conn)), (Role::Primary, None));
    bench.wait(s(1));
    bench.reports(State::Run, held(&bench));
    let reply = reply(&bench, conn).unwrap();
    assert_eq!(reply.outcome, Ok(()));
    let steps: Vec<(&str, u128)> = reply.steps.iter().map(|(step, took)| (step.as_str(), took.as_millis())).collect();
    let expected = [
        ("stopped on b", 1000),
        ("lease given back for this node", 500),
        ("this node holds the lease", 500),
        ("runs here", 1000),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn a_node_that_cannot_start_what_it_wanted_says_where_it_runs_again() {
    let (mut bench, b) = served_by_b();
    let conn = ask(&mut bench, Some("a"));
    won_from_b(&mut bench, b);
    bench.wait(s(1));
    bench.worker_exits(WorkerExit::Farewell(Farewell::GaveUp(crate::event::GiveUp::StartsFailed(2))));
    assert_eq!(reply(&bench, conn), None);
    bench.peer("b", Role::Primary, 100, State::Run);
    let reply = reply(&bench, conn).unwrap();
    assert_eq!(reply.outcome, Err("this node has not started it, b has".to_string()));
    assert_eq!(reply.steps.last().unwrap().0, "runs on b again");
}

#[test]
fn a_node_that_is_not_ready_does_not_ask_for_itself() {
    let mut bench = DaemonBench::with_lease("", "");
    let conn = ask(&mut bench, Some("a"));
    assert_eq!(refused(&bench, conn), "this node is init, and not ready to take it");
    bench.set_role(Role::Secondary);
    let conn = ask(&mut bench, Some("a"));
    assert_eq!(refused(&bench, conn), "no primary is connected");
    let (mut bench, _) = served_by_b();
    let conn = ask(&mut bench, Some("a"));
    let id = bench.worker();
    bench.give(Input::HandOverRefused(id, "b does not hand it over: no".to_string()));
    assert_eq!(refused(&bench, conn), "b does not hand it over: no");
}

/// Why the last answer to a beat says that the resource is not handed over.
fn no_fetch(bench: &mut DaemonBench, conn: ConnId, seq: u64) -> Option<String> {
    bench.take();
    bench.beat(conn, seq, State::Stopped, None);
    bench.actions.iter().find_map(|action| match action {
        Action::Tell { message, .. } => crate::wire::peer::Heard::decode(message).unwrap().no_fetch,
        _ => None,
    })
}

#[test]
fn a_primary_hands_over_to_a_node_that_asks_or_says_why_not() {
    let mut bench = primary();
    let b = bench.peer("b", Role::Secondary, 100, State::Stopped);
    bench.take();
    bench.said(b, &Said::Fetch);
    assert_eq!(bench.orders(), [Order::HandOver(Some("b".to_string()))]);
    let conn = ask(&mut bench, Some("c"));
    assert_eq!(refused(&bench, conn), "another switchover is under way");
    let id = bench.worker();
    bench.give(Input::HandOverRefused(id, "the resource is unknown on b".to_string()));
    assert_eq!(no_fetch(&mut bench, b, 2).as_deref(), Some("the resource is unknown on b"));
    assert_eq!(no_fetch(&mut bench, b, 3), None, "it is told once");
    bench.said(b, &Said::Fetch);
    handed_over(&mut bench);
    bench.said(b, &Said::Fetch);
    assert_eq!(no_fetch(&mut bench, b, 4).as_deref(), Some("this node is secondary and not primary"));
}

fn pause(bench: &mut DaemonBench) {
    bench.control(&Request::Pause { resources: Vec::from([RESOURCE.to_string()]), by: "root".to_string(), span: None });
    bench.take();
}

/// It says who has paused it and what ends that.
fn names_the_pause(why: &str) -> bool {
    why.starts_with("r is paused by root on a since ") && why.ends_with("; hastmonctl resume r first")
}

#[test]
fn what_is_paused_is_not_handed_over() {
    let mut bench = primary();
    bench.peer("b", Role::Secondary, 100, State::Stopped);
    pause(&mut bench);
    for to in [None, Some("b"), Some("a")] {
        let conn = ask(&mut bench, to);
        let why = refused(&bench, conn);
        assert!(names_the_pause(&why), "{to:?}: {why}");
    }
    assert_eq!(bench.orders(), []);
}

#[test]
fn what_is_paused_is_not_asked_for() {
    let (mut bench, _) = served_by_b();
    pause(&mut bench);
    let conn = ask(&mut bench, Some("a"));
    let why = refused(&bench, conn);
    assert!(names_the_pause(&why), "{why}");
    assert_eq!(bench.orders(), []);
}

#[test]
fn a_node_that_has_not_heard_of_the_pause_does_not_get_what_it_asks_for() {
    let mut bench = primary();
    let b = bench.peer("b", Role::Secondary, 100, State::Stopped);
    pause(&mut bench);
    bench.said(b, &Said::Fetch);
    assert_eq!(bench.orders(), []);
    let why = no_fetch(&mut bench, b, 2).unwrap();
    assert!(names_the_pause(&why), "{why}");
}
