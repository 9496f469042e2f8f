//! The secondary on a virtual clock: heartbeat 1 s.

use super::*;
use crate::testing::{B, Bench, Script, assignment, ms, resource, s};
use crate::types::Role;
use crate::worker::{Assignment, Order};
use alloc::boxed::Box;

fn secondary(script: &Script) -> Bench {
    Bench::of(assignment(Role::Secondary, ""), Some(script.clone()))
}

/// Answers that went out since the last look.
fn answers(bench: &mut Bench) -> Vec<(u64, State)> {
    let answer = |action| match action {
        Action::AnswerHeartbeat { seq, state, .. } => Some((seq, state)),
        _ => None,
    };
    bench.take().into_iter().filter_map(answer).collect()
}

/// Besides its signs of life, of which there is one at every second heartbeat, even when nothing has changed.
fn without_signs_of_life(bench: &Bench, count: usize) -> Vec<(Duration, Action)> {
    let is_report = |action: &Action| matches!(action, Action::Report(_));
    let (reports, others): (Vec<_>, Vec<_>) = bench.actions.iter().cloned().partition(|(_, action)| is_report(action));
    assert_eq!(reports.len(), count);
    others
}

#[test]
fn what_runs_when_the_role_begins_is_stopped_at_once() {
    let mut bench = secondary(&Script { runs: true, ..Script::GOOD });
    assert_eq!(bench.hooks(), [(s(0), Hook::Status), (s(0), Hook::Stop), (s(0), Hook::Status)]);
    assert_eq!(bench.state(), State::Stopped);
}

#[test]
fn what_starts_to_run_later_is_stopped_at_the_next_heartbeat() {
    let mut bench = secondary(&Script::GOOD);
    bench.wait(ms(2_500));
    bench.script.as_mut().unwrap().runs = true;
    bench.take();
    bench.wait(ms(500));
    assert_eq!(bench.hooks(), [(s(3), Hook::Status), (s(3), Hook::Stop), (s(3), Hook::Status)]);
}

#[test]
fn a_stopped_resource_is_checked_once_in_a_heartbeat_and_nothing_is_told() {
    let mut bench = secondary(&Script::GOOD);
    bench.take();
    bench.wait(s(10));
    assert_eq!(without_signs_of_life(&bench, 5).len(), 10);
    assert_eq!(bench.calls(Hook::Status), 10);
}

#[test]
fn it_tells_the_script_of_the_role_before_it_looks() {
    let assignment = Assignment { changed_from: Some(Role::Primary), ..assignment(Role::Secondary, "") };
    let mut bench = Bench::of(assignment, None);
    bench.primary_connects(1);
    bench.ends(Hook::Role { old: Role::Primary, new: Role::Secondary }, 0);
    assert_eq!(bench.runs(), Some(Hook::Status));
    bench.heartbeat(1, 1);
    assert_eq!(answers(&mut bench), [(1, State::Stopping)], "until it has looked");
}

#[test]
fn a_stop_that_fails_is_told_once_and_tried_again_at_every_heartbeat() {
    let mut bench = secondary(&Script { runs: true, stop_works: false, ..Script::GOOD });
    assert_eq!(bench.state(), State::Failed);
    assert_eq!(bench.told().iter().filter(|event| **event == Event::MayStillRun).count(), 1);
    bench.wait(s(5));
    let hooks: Vec<_> =
        (1..=5).flat_map(|at| [Hook::Status, Hook::Stop, Hook::Status].map(|hook| (s(at), hook))).collect();
    let actions = bench.actions.clone();
    assert_eq!(bench.hooks(), hooks, "no busy loop");
    assert!(!actions.contains(&(s(1), Action::Event(Event::MayStillRun))));
    assert_eq!(bench.state(), State::Failed);
    bench.script.as_mut().unwrap().stop_works = true;
    bench.wait(s(1));
    assert_eq!(bench.state(), State::Stopped);
}

#[test]
fn a_stop_that_says_it_worked_but_did_not_leaves_the_state_failed() {
    let mut bench = Bench::new(Role::Secondary, "");
    bench.ends(Hook::Status, 0);
    bench.ends(Hook::Stop, 0);
    bench.ends(Hook::Status, 0);
    assert_eq!((bench.runs(), bench.state()), (None, State::Failed));
}

#[test]
fn a_stop_that_times_out_is_tried_again_at_the_next_heartbeat() {
    let mut bench = Bench::new(Role::Secondary, "");
    bench.ends(Hook::Status, 0);
    bench.wait(s(10));
    assert_eq!(bench.state(), State::Stopping);
    bench.is_signalled(15);
    bench.ends(Hook::Status, 0);
    assert_eq!((bench.runs(), bench.state()), (None, State::Failed));
    bench.wait(s(1));
    bench.ends(Hook::Status, 0);
    assert_eq!(bench.runs(), Some(Hook::Stop));
}

#[test]
fn a_script_that_never_says_stopped_neither_flaps_nor_alarms() {
    let mut bench = secondary(&Script { stopped: 3, ..Script::GOOD });
    assert_eq!(bench.state(), State::Unknown);
    bench.take();
    bench.wait(s(10));
    let mut actions = without_signs_of_life(&bench, 5);
    actions.retain(|(_, action)| !matches!(action, Action::Event(Event::HookEnded { hook: Hook::Stop, .. })));
    assert_eq!(actions.len(), 30, "only status, stop, status at each heartbeat: {actions:?}");
    assert_eq!(bench.calls(Hook::Stop), 10);
    assert_eq!(bench.state(), State::Unknown);
}

#[test]
fn a_status_that_hangs_is_not_called_twice_and_its_end_means_unknown() {
    let mut bench = Bench::new(Role::Secondary, "");
    bench.wait(s(5));
    assert_eq!(bench.calls(Hook::Status), 1);
    bench.is_signalled(15);
    assert_eq!((bench.runs(), bench.state()), (Some(Hook::Stop), State::Stopping));
}

#[test]
fn until_it_has_looked_it_answers_stopping_so_that_no_primary_starts() {
    let mut bench = Bench::new(Role::Secondary, "");
    bench.primary_connects(1);
    bench.heartbeat(1, 1);
    assert_eq!(answers(&mut bench), [(1, State::Stopping)]);
    assert_eq!(bench.state(), State::Unknown, "status says what is known");
    bench.ends(Hook::Status, 1);
    bench.heartbeat(1, 2);
    assert_eq!(answers(&mut bench), [(2, State::Stopped)]);
}

#[test]
fn a_script_that_gives_no_answer_is_told_to_the_primary_as_unknown() {
    let mut bench = secondary(&Script { stopped: 3, ..Script::GOOD });
    bench.primary_connects(1);
    bench.heartbeat(1, 1);
    assert_eq!(answers(&mut bench), [(1, State::Unknown)]);
}

#[test]
fn the_script_is_told_of_a_primary_that_connects_and_of_its_loss() {
    let mut bench = secondary(&Script::GOOD);
    bench.take();
    bench.primary_connects(1);
    assert_eq!(bench.report.as_ref().unwrap().remotes[0], RemoteReport::Connected(true));
    assert_eq!(bench.calls(Hook::Connect), 1);
    bench.give(crate::worker::Input::PrimaryLost { link: LinkId(1), why: "closed".to_string() });
    assert_eq!(bench.report.as_ref().unwrap().remotes[0], RemoteReport::Connected(false));
    assert!(bench.actions.iter().any(|(_, action)| *action == Action::PrimaryGone(LinkId(1))));
    assert_eq!(bench.calls(Hook::Disconnect), 1);
}

#[test]
fn two_heartbeats_of_silence_end_the_connection() {
    let mut bench = secondary(&Script::GOOD);
    bench.primary_connects(1);
    bench.wait(ms(1_500));
    bench.heartbeat(1, 1);
    bench.take();
    bench.wait(s(2) - ms(1));
    assert!(!bench.actions.iter().any(|(_, action)| *action == Action::Disconnect(LinkId(1))));
    bench.wait(ms(1));
    assert!(bench.actions.contains(&(ms(3_500), Action::Disconnect(LinkId(1)))));
    assert!(bench.actions.contains(&(ms(3_500), Action::PrimaryGone(LinkId(1)))));
    bench.take();
    bench.heartbeat(1, 2);
    assert_eq!(bench.take(), [], "a heartbeat that comes too late is not answered");
}

#[test]
fn a_newer_connection_takes_the_place_of_the_older_one() {
    let mut bench = secondary(&Script::GOOD);
    bench.primary_connects(1);
    bench.take();
    bench.primary_connects(2);
    let actions = bench.take();
    assert!(actions.contains(&Action::Disconnect(LinkId(1))) && actions.contains(&Action::PrimaryGone(LinkId(1))));
    bench.heartbeat(1, 1);
    bench.give(crate::worker::Input::PrimaryLost { link: LinkId(1), why: "closed".to_string() });
    assert_eq!(bench.take(), []);
    bench.heartbeat(2, 1);
    assert_eq!(answers(&mut bench), [(1, State::Stopped)]);
    assert_eq!(bench.report.unwrap().remotes[0], RemoteReport::Connected(true));
}

#[test]
fn a_complaint_is_told_to_the_script() {
    let mut bench = secondary(&Script::GOOD);
    bench.order(Order::Complaint);
    assert_eq!(bench.calls(Hook::Complain), 1);
}

#[test]
fn a_primary_that_asks_faster_than_hooks_run_is_always_answered() {
    let mut bench = Bench::new(Role::Secondary, "");
    bench.primary_connects(1);
    for seq in 1..1000 {
        bench.heartbeat(1, seq);
    }
    assert_eq!(answers(&mut bench).len(), 999);
}

#[test]
fn the_remote_that_is_connected_is_the_one_that_is_reported() {
    let mut bench = secondary(&Script::GOOD);
    bench.give(crate::worker::Input::PrimaryConnected { link: LinkId(1), from: B.to_string() });
    let report = bench.report.unwrap();
    assert_eq!(report.remotes, [RemoteReport::Connected(true), RemoteReport::Connected(false)]);
}

#[test]
fn a_shorter_heartbeat_counts_from_now_on() {
    let mut bench = Bench::with_script(Role::Secondary, "heartbeat_interval 1h complaint_interval 10h");
    bench.take();
    bench.order(Order::Reconfigure(Box::new(resource(""))));
    bench.wait(s(2));
    assert_eq!(bench.hooks(), [(s(1), Hook::Status), (s(2), Hook::Status)]);
}
