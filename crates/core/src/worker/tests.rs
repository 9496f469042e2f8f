//! What the workers of all roles share: how they begin and how they end.

extern crate std;

use super::*;
use crate::event::Level;
use crate::testing::{B, Bench, Script, assignment, ms, resource, s};

const ALONE: &str = "remote none friendless";

fn worker(role: Role, changed_from: Option<Role>, settings: &str) -> Bench {
    Bench::of(Assignment { changed_from, ..assignment(role, settings) }, None)
}

/// A primary whose resource runs, and that nobody needs to hear.
fn running() -> Bench {
    let mut bench = Bench::new(Role::Primary, ALONE);
    bench.ends(Hook::Status, 0);
    assert_eq!(bench.state(), State::Run);
    bench.take();
    bench
}

#[test]
fn the_script_hears_of_the_role_before_anything_else() {
    for role in Role::ALL {
        let old = if role == Role::Secondary { Role::Primary } else { Role::Secondary };
        let mut bench = worker(role, Some(old), ALONE);
        assert_eq!(bench.hooks(), [(s(0), Hook::Role { old, new: role })]);
        assert_eq!(bench.running.len(), 1);
    }
}

#[test]
fn the_first_thing_it_says_is_what_status_shall_say() {
    for role in Role::ALL {
        assert!(matches!(worker(role, None, "").actions[0].1, Action::Report(_)));
    }
}

#[test]
fn a_worker_for_init_only_tells_the_script_and_ends() {
    let mut bench = worker(Role::Init, Some(Role::Primary), "");
    assert_eq!(bench.farewell, None);
    bench.ends(Hook::Role { old: Role::Primary, new: Role::Init }, 1);
    assert_eq!(bench.farewell, Some(Farewell::AsOrdered));
    assert_eq!(worker(Role::Init, None, "").farewell, Some(Farewell::AsOrdered));
}

#[test]
fn a_primary_that_is_told_to_end_stops_the_resource_first() {
    let mut bench = running();
    bench.end();
    assert_eq!((bench.runs(), bench.state()), (Some(Hook::Stop), State::Stopping));
    bench.wait(s(9));
    assert_eq!(bench.calls(Hook::Stop), 1);
    bench.ends(Hook::Stop, 0);
    assert_eq!((bench.state(), bench.farewell.clone()), (State::Stopped, Some(Farewell::AsOrdered)));
    assert!(!bench.told().contains(&Event::MayStillRun));
}

#[test]
fn a_last_stop_that_fails_is_checked_at_once_whatever_else_the_script_should_hear() {
    let mut bench = Bench::new(Role::Secondary, "");
    bench.ends(Hook::Status, 0);
    (1..6).for_each(|link| bench.primary_connects(link));
    bench.give(Input::DaemonGone);
    for _ in 0..2 {
        assert_eq!(bench.runs(), Some(Hook::Stop));
        bench.ends(Hook::Stop, 1);
        assert_eq!(bench.runs(), Some(Hook::Status));
        bench.ends(Hook::Status, 0);
        assert_eq!(bench.runs(), None, "nothing that could hang is begun before the next stop");
        bench.wait(s(1));
    }
    bench.ends(Hook::Stop, 0);
    assert_eq!((bench.state(), bench.farewell.clone()), (State::Stopped, Some(Farewell::AsOrdered)));
}

#[test]
fn what_the_script_should_hear_comes_after_the_last_stop() {
    let mut bench = running();
    bench.order(Order::Reconfigure(Box::new(resource(""))));
    bench.wait(s(1));
    bench.connect(B, State::Stopped);
    bench.ends(Hook::Status, 0);
    assert_eq!(bench.runs(), Some(Hook::Connect));
    bench.end();
    bench.is_signalled(15);
    bench.ends(Hook::Stop, 0);
    assert_eq!((bench.runs(), bench.farewell.clone()), (Some(Hook::Disconnect), None));
    bench.ends(Hook::Disconnect, 0);
    assert_eq!(bench.farewell, Some(Farewell::AsOrdered));
}

#[test]
fn a_last_stop_that_fails_is_tried_three_times_and_then_it_is_said_loudly() {
    let mut bench = running();
    bench.end();
    for _ in 0..3 {
        assert_eq!(bench.farewell, None);
        bench.wait(s(1));
        bench.ends(Hook::Stop, 1);
        bench.ends(Hook::Status, 0);
    }
    assert_eq!((bench.state(), bench.farewell.clone()), (State::Failed, Some(Farewell::AsOrdered)));
    let stops: Vec<_> = bench.hooks().into_iter().filter(|(_, hook)| *hook == Hook::Stop).map(|(at, _)| at).collect();
    assert_eq!(stops, [s(0), s(2), s(3)], "a second after each that failed");
    let mut bench = running();
    bench.end();
    for _ in 0..3 {
        bench.wait(s(1));
        bench.ends(Hook::Stop, 1);
        bench.ends(Hook::Status, 3);
    }
    assert!(bench.told().contains(&Event::MayStillRun), "what is not known to be stopped may run");
}

#[test]
fn a_last_stop_that_failed_but_did_its_work_is_enough() {
    let mut bench = running();
    bench.end();
    bench.ends(Hook::Stop, 1);
    bench.ends(Hook::Status, 1);
    assert_eq!((bench.state(), bench.farewell.clone()), (State::Stopped, Some(Farewell::AsOrdered)));
    assert!(!bench.told().contains(&Event::MayStillRun));
}

#[test]
fn a_last_stop_that_hangs_ends_within_its_limits() {
    let mut bench = running();
    bench.end();
    let since = bench.now;
    // Each stop: 10 s, TERM, 2 s, KILL, 2 s; each status: 5 s, TERM, 2 s, KILL, 2 s, but the last is not even started: too many hang.
    bench.wait(s(14 + 9 + 1 + 14 + 9 + 1 + 14) - ms(1));
    assert_eq!(bench.farewell, None);
    bench.wait(ms(1));
    assert_eq!((bench.farewell.clone(), bench.now.since(since)), (Some(Farewell::AsOrdered), s(62)));
    assert!(bench.told().contains(&Event::MayStillRun));
}

#[test]
fn a_start_that_runs_is_ended_by_the_end() {
    let mut bench = Bench::new(Role::Primary, ALONE);
    bench.ends(Hook::Status, 1);
    assert_eq!(bench.runs(), Some(Hook::Start));
    bench.end();
    assert!(bench.take().iter().any(|action| matches!(action, Action::TerminateHook(_))));
    bench.is_signalled(15);
    bench.ends(Hook::Stop, 0);
    assert_eq!(bench.farewell, Some(Farewell::AsOrdered));
}

#[test]
fn a_stop_that_runs_already_is_the_last_one() {
    let mut bench = Bench::new(Role::Primary, "remote tcp4://10.0.0.2");
    bench.ends(Hook::Status, 0);
    bench.connect(B, State::Run);
    bench.is_signalled(9);
    bench.wait(ms(100));
    bench.end();
    assert_eq!(bench.runs(), Some(Hook::Stop));
    bench.ends(Hook::Stop, 0);
    assert_eq!(bench.calls(Hook::Stop), 1);
}

#[test]
fn connections_are_closed_and_the_script_told_when_the_resource_is_stopped() {
    let mut bench = Bench::with_script(Role::Primary, "remote tcp4://10.0.0.2");
    let link = bench.connect(B, State::Stopped);
    bench.take();
    bench.script = None;
    bench.end();
    assert!(!bench.take().contains(&Action::Disconnect(link)));
    bench.ends(Hook::Stop, 0);
    assert!(bench.take().contains(&Action::Disconnect(link)));
    bench.ends(Hook::Disconnect, 0);
    assert_eq!(bench.farewell, Some(Farewell::AsOrdered));
}

#[test]
fn a_hurried_end_waits_one_heartbeat_for_hooks_that_only_take_note() {
    let mut bench = Bench::new(Role::Secondary, "");
    bench.ends(Hook::Status, 1);
    bench.order(Order::Complaint);
    bench.take();
    bench.order(Order::End { reason: "takeover".to_string(), hurry: true, successor: None });
    bench.wait(s(1) - ms(1));
    assert_eq!(bench.farewell, None);
    bench.wait(ms(1));
    assert_eq!(bench.farewell, Some(Farewell::AsOrdered));
    let mut actions = bench.take();
    actions.retain(|action| !matches!(action, Action::Report(_)));
    assert!(matches!(actions[..], [Action::KillHook(_), Action::Exit(_)]));
}

#[test]
fn an_end_without_hurry_waits_for_hooks_that_take_note() {
    let mut bench = Bench::new(Role::Watchdog, "");
    bench.polled("tcp4://10.0.0.2", Err("silent"));
    bench.polled("tcp4://10.0.0.3", Err("silent"));
    assert_eq!(bench.runs(), Some(Hook::Complain));
    bench.end();
    bench.wait(s(19));
    assert_eq!(bench.farewell, None);
    bench.ends(Hook::Complain, 0);
    assert_eq!(bench.farewell, Some(Farewell::AsOrdered));
}

#[test]
fn an_end_that_becomes_urgent_does_not_begin_again() {
    let mut bench = running();
    bench.end();
    bench.order(Order::End { reason: "again".to_string(), hurry: true, successor: None });
    bench.give(Input::DaemonGone);
    bench.give(Input::DaemonGone);
    bench.ends(Hook::Stop, 0);
    assert_eq!(bench.calls(Hook::Stop), 1);
    assert_eq!(bench.farewell, Some(Farewell::AsOrdered));
}

#[test]
fn without_the_main_daemon_a_primary_stops_the_resource_and_ends_without_goodbye() {
    let mut bench = Bench::with_script(Role::Primary, "remote tcp4://10.0.0.2");
    let link = bench.connect(B, State::Stopped);
    bench.take();
    bench.script = None;
    bench.give(Input::DaemonGone);
    assert_eq!(bench.runs(), Some(Hook::Stop));
    // One that does not answer for its `timeout` would be given up.
    bench.wait_connected(s(5), &[(link, State::Stopped)]);
    let heartbeats = bench.actions.iter().filter(|(_, action)| matches!(action, Action::SendHeartbeat { .. })).count();
    assert_eq!(heartbeats, 5, "the secondary must not take over before it is stopped");
    bench.take();
    bench.ends(Hook::Stop, 0);
    assert_eq!(bench.calls(Hook::Disconnect), 0);
    assert!(bench.farewell.is_some());
}

#[test]
fn without_the_main_daemon_a_secondary_stops_what_is_not_known_to_be_stopped() {
    let mut bench = Bench::new(Role::Secondary, "");
    bench.give(Input::DaemonGone);
    assert_eq!(bench.runs(), Some(Hook::Stop));
    bench.running.clear();
    let mut bench = Bench::with_script(Role::Secondary, "");
    assert_eq!(bench.state(), State::Stopped);
    bench.give(Input::DaemonGone);
    assert!(bench.farewell.is_some());
}

#[test]
fn a_secondary_that_loses_its_daemon_while_it_ends_stops_what_runs() {
    let mut bench = Bench::new(Role::Secondary, "");
    bench.order(Order::Complaint);
    bench.end();
    assert_eq!(bench.farewell, None);
    bench.give(Input::DaemonGone);
    assert_eq!(bench.farewell, None);
    assert_eq!(bench.runs(), Some(Hook::Stop));
    bench.wait(s(5));
    bench.ends(Hook::Stop, 0);
    assert!(bench.farewell.is_some());
}

#[test]
fn without_the_main_daemon_a_watchdog_and_a_worker_for_init_end_at_once() {
    for role in [Role::Watchdog, Role::Init] {
        let mut bench = worker(role, Some(Role::Secondary), "");
        bench.give(Input::DaemonGone);
        assert!(bench.farewell.is_some(), "{role}");
        assert!(matches!(bench.take()[..], [.., Action::KillHook(_), Action::Exit(_)]));
    }
}

#[test]
fn a_primary_that_connects_to_a_worker_that_is_no_secondary_is_sent_away() {
    for role in [Role::Primary, Role::Watchdog] {
        let mut bench = worker(role, None, "");
        bench.primary_connects(7);
        assert!(bench.take().contains(&Action::Disconnect(LinkId(7))));
    }
    let mut bench = Bench::new(Role::Secondary, "");
    bench.end();
    bench.primary_connects(7);
    assert!(bench.take().contains(&Action::Disconnect(LinkId(7))));
}

#[test]
fn the_same_trouble_with_status_is_told_once() {
    let mut bench = Bench::with_script(Role::Primary, ALONE);
    bench.script = Some(Script { runs: false, start_works: false, stopped: 3, ..Script::GOOD });
    bench.wait(s(3));
    let status_failed = |event: &Event| matches!(event, Event::HookEnded { hook: Hook::Status, outcome, .. } if !outcome.is_success() && event.level() > Level::Debug);
    assert_eq!(bench.told().iter().filter(|event| status_failed(event)).count(), 1);
}

#[test]
fn a_report_is_made_at_every_heartbeat_and_when_something_has_changed_and_comes_first() {
    let mut bench = running();
    let reports = |bench: &mut Bench| {
        let is_report = |action: &Action| matches!(action, Action::Report(_));
        bench.take().iter().filter(|action| is_report(action)).count()
    };
    for _ in 0..3 {
        bench.wait(s(1));
        assert_eq!(reports(&mut bench), 1, "a sign of life");
        bench.ends(Hook::Status, 0);
        bench.wait(s(1) - ms(1));
        assert_eq!(reports(&mut bench), 0, "nothing is new");
        bench.wait(ms(1));
        bench.ends(Hook::Status, 0);
        bench.take();
    }
    bench.wait(s(1));
    bench.take();
    bench.ends(Hook::Status, 1);
    let actions = bench.take();
    let report =
        actions.iter().position(|action| matches!(action, Action::Report(report) if report.state == State::Starting));
    let start = actions.iter().position(|action| matches!(action, Action::RunHook(call) if call.hook == Hook::Start));
    assert!(report < start);
}

#[test]
fn a_report_comes_before_what_was_held_back() {
    // Both are due when the flood is over: of a secondary a report at every second heartbeat.
    let mut bench = Bench::new(Role::Secondary, "heartbeat_interval 500ms");
    bench.script = Some(Script::GOOD);
    bench.ends(Hook::Status, 1);
    for link in 0..200 {
        bench.give(Input::PrimaryConnected { link: LinkId(link), from: B.to_string() });
    }
    bench.wait(ms(999));
    bench.take();
    bench.wait(ms(1));
    let actions = bench.take();
    assert!(matches!(actions[..], [Action::Report(_), Action::Event(Event::Repeated { .. }), ..]), "{actions:?}");
}

#[test]
fn new_limits_of_a_reload_hold_for_the_next_hook() {
    let mut bench = running();
    bench.order(Order::Reconfigure(Box::new(resource(&std::format!("{ALONE} status_timeout 1")))));
    bench.wait(s(2));
    assert!(bench.take().iter().any(|action| matches!(action, Action::TerminateHook(_))));
}

mod fuzz;
