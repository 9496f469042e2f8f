//! Many resources that are to be started at once: whose turn it is, when it ends, and who does not wait. Node `a` with the nodes `b` and `c`,
//! heartbeat 1 s, start_timeout 60 s.

use super::*;
use crate::lease::Terms;
use crate::types::State;
use crate::wire::peer::Heard;
use alloc::format;

/// Resources `r0`, `r1` and so on, each with its settings.
fn text(max_hooks: u32, settings: &[&str]) -> String {
    let sections = "on a { remote 10.0.0.2 10.0.0.3 } on b { remote none } on c { remote none }";
    let each = |(at, inside): (usize, &&str)| format!("resource r{at} {{ exec /r {inside} {sections} }}\n");
    let all: String = settings.iter().enumerate().map(each).collect();
    format!("max_hooks {max_hooks} heartbeat_interval 1 timeout 2 start_timeout 60\n{all}")
}

fn node(max_hooks: u32, settings: &[&str]) -> DaemonBench {
    DaemonBench::without_record(config_of(&text(max_hooks, settings)))
}

/// So many secondaries.
fn secondaries(max_hooks: u32, count: usize) -> DaemonBench {
    let mut bench = node(max_hooks, &vec!["role_on_start secondary"; count]);
    bench.take();
    bench
}

fn of<'a>(bench: &'a DaemonBench, name: &str) -> &'a Supervisor {
    bench.daemon.find(name).unwrap().1
}

fn worker(bench: &DaemonBench, name: &str) -> WorkerId {
    of(bench, name).worker().expect("a worker runs")
}

fn name_of(bench: &DaemonBench, id: WorkerId) -> String {
    let has = |supervisor: &&Supervisor| supervisor.worker() == Some(id);
    bench.daemon.resources().iter().find(has).unwrap().settings().name.clone()
}

/// Those that were told to stand since the last look, in that order.
fn standing(bench: &mut DaemonBench) -> String {
    let stand = |action: Action| match action {
        Action::Order { id, order: Order::Stand { .. } } => Some(id),
        _ => None,
    };
    let ids: Vec<WorkerId> = bench.take().into_iter().filter_map(stand).collect();
    ids.into_iter().map(|id| name_of(bench, id)).collect::<Vec<_>>().join(" ")
}

/// The watchdog connects for a resource.
fn connect(bench: &mut DaemonBench, name: &str) -> ConnId {
    let mut hello = DaemonBench::hello_of("c", Role::Watchdog, 100);
    hello.resource = name.to_string();
    bench.hello("c", hello)
}

/// The watchdog says that the lease was given back.
fn released(bench: &mut DaemonBench, name: &str) {
    let conn = connect(bench, name);
    bench.said(conn, &Said::Complaint { released: true });
    bench.give(Input::Gone { conn, why: None });
}

fn report(bench: &mut DaemonBench, name: &str, state: State, attempts: u32) {
    let id = worker(bench, name);
    let (remotes, statuses) = (Vec::new(), Vec::new());
    let report = Report { state, attempts, remotes, complaints: 0, lease: None, lateness: None, statuses };
    bench.give(Input::Report(id, report));
}

/// The lease is won, and the primary's worker begins to start the resource.
fn wins(bench: &mut DaemonBench, name: &str) {
    let terms = Terms { lease: s(3), stop: s(1) };
    let id = worker(bench, name);
    bench.give(Input::Won(id, Grant { epoch: 1, until: bench.now + s(3), terms }));
    assert_eq!(of(bench, name).role(), Role::Primary);
    bench.give(Input::WorkerExited(id, WorkerExit::Farewell(Farewell::AsOrdered)));
    report(bench, name, State::Starting, 1);
}

fn role(bench: &mut DaemonBench, role: Role, resource: &str, force: bool) {
    bench.control(&Request::SetRole { role, resources: names(&[resource]), force });
}

fn roles(bench: &DaemonBench) -> Vec<&'static str> {
    bench.daemon.resources().iter().map(|supervisor| supervisor.role().as_str()).collect()
}

/// Lets time pass in which all workers report what they did before.
fn wait_reporting(bench: &mut DaemonBench, span: Duration, names: &[(&str, State, u32)]) {
    let until = bench.now + span;
    while bench.now < until {
        bench.wait(ms(500).min(until.since(bench.now)));
        for (name, state, attempts) in names {
            report(bench, name, *state, *attempts);
        }
    }
}

#[test]
fn who_waits_for_its_turn_says_so_to_whoever_asks() {
    let mut bench = node(1, &["role_on_start primary"; 2]);
    let mut says = |name: &str| {
        let conn = connect(&mut bench, name);
        bench.take();
        bench.beat(conn, 1, State::Unknown, None);
        let answer = |action: &Action| match action {
            Action::Tell { message, .. } => Some(Heard::decode(message).unwrap().waits_for_turn),
            _ => None,
        };
        bench.actions.iter().find_map(answer).unwrap()
    };
    assert_eq!((says("r0"), says("r1")), (false, true));
}

#[test]
fn within_max_hooks_nobody_waits() {
    let mut bench = secondaries(3, 3);
    for name in ["r0", "r1", "r2"] {
        released(&mut bench, name);
        assert_eq!(standing(&mut bench), name, "in the input in which it is wished");
    }
    let mut bench = node(2, &["role_on_start primary"; 2]);
    assert_eq!((roles(&bench), bench.started().len()), (vec!["primary", "primary"], 2));
    assert!(!bench.told().iter().any(|event| matches!(event, Event::StartWaits { .. })));
    bench.take();
}

#[test]
fn those_that_wait_stand_by_weight_then_by_the_file_one_for_each_turn_that_ends() {
    let weights = ["0", "0", "0", "5", "-5", "5", "0"];
    let settings = weights.map(|weight| format!("role_on_start secondary weight {weight}"));
    let mut bench = node(2, &settings.each_ref().map(String::as_str));
    bench.take();
    for at in 0..weights.len() {
        released(&mut bench, &format!("r{at}"));
    }
    assert_eq!(standing(&mut bench), "r0 r1");
    for (runs, next) in [("r1", "r3"), ("r0", "r5"), ("r3", "r2"), ("r2", "r6"), ("r6", "r4"), ("r4", ""), ("r5", "")] {
        wins(&mut bench, runs);
        assert_eq!(standing(&mut bench), "", "{runs} is on its way");
        report(&mut bench, runs, State::Run, 0);
        assert_eq!(standing(&mut bench), next, "{runs} runs");
    }
}

#[test]
fn a_start_that_hangs_holds_up_the_others_for_a_bounded_time() {
    let mut bench = secondaries(1, 2);
    released(&mut bench, "r0");
    released(&mut bench, "r1");
    assert_eq!(standing(&mut bench), "r0");
    wins(&mut bench, "r0");
    let hanging = [("r0", State::Starting, 1), ("r1", State::Stopped, 0)];
    wait_reporting(&mut bench, ms(63_900), &hanging);
    assert_eq!(standing(&mut bench), "");
    wait_reporting(&mut bench, ms(100), &hanging);
    assert_eq!(standing(&mut bench), "r1", "start_timeout and four heartbeats are over");
}

#[test]
fn a_start_that_fails_ends_the_turn_and_so_does_giving_up() {
    for (state, attempts) in [(State::Stopped, 1), (State::Unknown, 1), (State::Starting, 2)] {
        let mut bench = secondaries(1, 2);
        released(&mut bench, "r0");
        released(&mut bench, "r1");
        wins(&mut bench, "r0");
        bench.take();
        report(&mut bench, "r0", state, attempts);
        assert_eq!(standing(&mut bench), "r1", "{state} {attempts}");
    }
    let mut bench = secondaries(1, 2);
    released(&mut bench, "r0");
    released(&mut bench, "r1");
    wins(&mut bench, "r0");
    bench.take();
    let id = worker(&bench, "r0");
    let why = crate::event::GiveUp::StartsFailed(5);
    bench.give(Input::WorkerExited(id, WorkerExit::Farewell(Farewell::GaveUp(why))));
    assert_eq!((standing(&mut bench), roles(&bench)), ("r1".to_string(), vec!["secondary"; 2]));
}

#[test]
fn what_runs_already_is_restarted_without_waiting() {
    let mut bench = secondaries(1, 3);
    released(&mut bench, "r0");
    assert_eq!(standing(&mut bench), "r0");
    wins(&mut bench, "r0");
    report(&mut bench, "r0", State::Run, 0);
    released(&mut bench, "r1");
    released(&mut bench, "r2");
    assert_eq!(standing(&mut bench), "r1");
    let id = worker(&bench, "r0");
    bench.wait(s(2));
    bench.give(Input::WorkerExited(id, WorkerExit::Signal(9)));
    bench.wait(ms(1));
    let started = bench.started();
    assert_eq!(started.len(), 1);
    assert_eq!((started[0].1.role, &*started[0].1.resource.name), (Role::Primary, "r0"));
    assert_eq!(standing(&mut bench), "", "and takes no turn from those that wait");
}

#[test]
fn a_lease_that_is_handed_over_or_forced_does_not_wait_and_takes_no_turn_from_others() {
    let mut bench = secondaries(1, 4);
    released(&mut bench, "r0");
    released(&mut bench, "r1");
    assert_eq!(standing(&mut bench), "r0");
    let mut hello = DaemonBench::hello_of("b", Role::Primary, 100);
    hello.resource = "r2".to_string();
    let conn = bench.hello("b", hello);
    let (node, successor) = ("b".to_string(), Some("a".to_string()));
    let release = Release { node, epoch: 1, successor, reserve: s(2), was_held: true };
    bench.said(conn, &Said::Release(release));
    assert_eq!(standing(&mut bench), "r2");
    role(&mut bench, Role::Primary, "r3", true);
    assert_eq!(of(&bench, "r3").role(), Role::Primary);
    wins(&mut bench, "r0");
    report(&mut bench, "r0", State::Run, 0);
    assert_eq!(standing(&mut bench), "", "two are on their way");
    for name in ["r2", "r3"] {
        if name == "r2" {
            wins(&mut bench, name);
        } else {
            bench.wait(ms(1));
            let id = worker(&bench, name);
            bench.give(Input::WorkerExited(id, WorkerExit::Farewell(Farewell::AsOrdered)));
        }
        report(&mut bench, name, State::Run, 0);
    }
    assert_eq!(standing(&mut bench), "r1");
}

#[test]
fn who_is_to_be_primary_is_a_secondary_that_stops_what_runs_until_its_turn_comes() {
    let weights = ["0", "0", "1"];
    let settings = weights.map(|weight| format!("role_on_start primary weight {weight}"));
    let mut bench = node(1, &settings.each_ref().map(String::as_str));
    assert_eq!(roles(&bench), ["secondary", "secondary", "primary"], "all have a worker");
    assert_eq!(bench.started().len(), 3);
    let why = "waiting for its turn: 1 resource is being started (max_hooks 1)";
    assert!(bench.told().contains(&Event::StartWaits { why: why.to_string() }));
    let explained = crate::explain::explain(bench.now, of(&bench, "r0"), bench.daemon.why_no_turn(of(&bench, "r0")));
    assert!(explained.why.iter().any(|sentence| *sentence == format!("a is to be primary: {why}.")), "{explained:?}");
    report(&mut bench, "r2", State::Run, 0);
    assert_eq!(roles(&bench), ["primary", "secondary", "primary"]);
    assert_eq!(of(&bench, "r0").settings().role_on_start, Role::Primary);
    // The operator has thought better of it.
    role(&mut bench, Role::Secondary, "r1", false);
    let id = worker(&bench, "r0");
    bench.give(Input::WorkerExited(id, WorkerExit::Farewell(Farewell::AsOrdered)));
    report(&mut bench, "r0", State::Run, 0);
    assert_eq!(roles(&bench), ["primary", "secondary", "primary"]);
    // And again of another one, who waits for nothing.
    role(&mut bench, Role::Primary, "r1", false);
    assert_eq!(roles(&bench), ["primary"; 3]);
}

#[test]
fn who_cannot_get_the_lease_comes_after_those_that_can() {
    let settings = ["role_on_start secondary weight 9", "role_on_start secondary", "role_on_start secondary"];
    let mut bench = node(1, &settings);
    bench.take();
    ["r0", "r1", "r2"].iter().for_each(|name| released(&mut bench, name));
    assert_eq!(standing(&mut bench), "r0");
    let idle = ["r0", "r1", "r2"].map(|name| (name, State::Stopped, 0));
    // Votes may be bound for (3 s + 1 s) x 1.01, and four heartbeats.
    wait_reporting(&mut bench, ms(8_000), &idle);
    assert_eq!(standing(&mut bench), "");
    wait_reporting(&mut bench, ms(100), &idle);
    assert_eq!(standing(&mut bench), "r1");
    released(&mut bench, "r0");
    wins(&mut bench, "r1");
    report(&mut bench, "r1", State::Run, 0);
    assert_eq!(standing(&mut bench), "r2", "r0 has had its chance");
    wins(&mut bench, "r2");
    report(&mut bench, "r2", State::Run, 0);
    assert_eq!(standing(&mut bench), "r0");
}

#[test]
fn a_reload_gives_more_turns_or_another_order_and_restarts_no_worker() {
    let before = ["role_on_start secondary"; 4];
    let mut bench = node(1, &before);
    ["r0", "r1", "r2", "r3"].iter().for_each(|name| released(&mut bench, name));
    assert_eq!(standing(&mut bench), "r0");
    let after = [before[0], before[1], "role_on_start secondary weight 1", before[3]];
    bench.reload(config_of(&text(2, &after)));
    assert_eq!(bench.started().len(), 0);
    assert!(!bench.told().iter().any(|event| matches!(event, Event::StartWaits { .. })), "they have been told");
    assert_eq!(standing(&mut bench), "r2");
    bench.reload(config_of(&text(4, &after)));
    assert_eq!(standing(&mut bench), "r1 r3");
}

#[test]
fn a_wish_that_is_gone_when_its_turn_comes_takes_none() {
    let mut bench = secondaries(1, 3);
    ["r0", "r1", "r2"].iter().for_each(|name| released(&mut bench, name));
    let pause = Request::Pause { resources: names(&["r1"]), by: "root".to_string(), span: None };
    bench.control(&pause);
    assert_eq!(standing(&mut bench), "r0");
    role(&mut bench, Role::Init, "r0", false);
    assert_eq!(standing(&mut bench), "r2");
}

#[test]
fn a_pause_keeps_the_wish_of_an_operator_and_is_recorded_with_it() {
    let mut bench = node(1, &["role_on_start primary"; 2]);
    assert_eq!(roles(&bench), ["primary", "secondary"]);
    bench.take();
    bench.control(&Request::Pause { resources: names(&["r1"]), by: "root".to_string(), span: None });
    let recorded: Vec<Role> = bench
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::RecordPause { record, .. } => Some(record.role),
            _ => None,
        })
        .collect();
    assert_eq!(recorded, [Role::Primary]);
    report(&mut bench, "r0", State::Run, 0);
    assert_eq!(roles(&bench), ["primary", "secondary"], "what is paused is not started");
    bench.control(&Request::Resume { resources: names(&["r1"]) });
    assert_eq!(roles(&bench), ["primary", "primary"]);
}

#[test]
fn among_originals_takeovers_wait_as_well() {
    let inside = "role_on_start secondary complaint_count 0 friends 10.0.0.9 lease 1h";
    let (mut bench, mut primaries) = (DaemonBench::of(config_of(&text(1, &[inside; 2]))), Vec::new());
    for name in ["r0", "r1"] {
        bench.network("10.0.0.9", &Request::Complaint { resource: name.to_string() });
        primaries.push(roles(&bench));
    }
    assert_eq!(primaries, [["primary", "secondary"], ["primary", "secondary"]]);
    let id = worker(&bench, "r0");
    bench.give(Input::WorkerExited(id, WorkerExit::Farewell(Farewell::AsOrdered)));
    report(&mut bench, "r0", State::Run, 0);
    assert_eq!(roles(&bench), ["primary", "primary"]);
}
