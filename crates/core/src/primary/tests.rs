//! The primary on a virtual clock: heartbeat 1 s, complaint_count 3, timeout 2 s.

use super::*;
use crate::hooks::Exit;
use crate::testing::{B, Bench, C, Script, WATCHDOG, address, assignment, ms, resource, s};
use crate::types::Role;
use crate::worker::{Assignment, Farewell, Input, Order};
use alloc::boxed::Box;

const TWO_NODES: &str = "remote tcp4://10.0.0.2";
const ALONE: &str = "remote none friendless";

fn two_nodes() -> Bench {
    Bench::with_script(Role::Primary, TWO_NODES)
}

/// A primary that runs the resource, with its only secondary connected.
fn running() -> (Bench, LinkId) {
    let mut bench = two_nodes();
    let link = bench.connect(B, State::Stopped);
    assert_eq!(bench.state(), State::Run);
    bench.take();
    (bench, link)
}

fn replacing(remote: &str) -> Bench {
    let (changed_from, replaces) = (Some(Role::Secondary), Some(address(remote)));
    let assignment = Assignment { changed_from, replaces, ..assignment(Role::Primary, "") };
    Bench::of(assignment, Some(Script::GOOD))
}

#[test]
fn with_one_remote_it_starts_as_soon_as_that_says_stopped() {
    let mut bench = two_nodes();
    assert_eq!(bench.state(), State::Stopped);
    bench.connect(B, State::Stopped);
    assert_eq!(bench.hooks().iter().filter(|(at, hook)| (*at, *hook) == (s(0), Hook::Start)).count(), 1);
    assert_eq!(bench.state(), State::Run);
}

#[test]
fn with_one_remote_that_is_in_another_role_it_starts() {
    let mut bench = two_nodes();
    bench.refuse(B, "Remote node acts as init for the resource and not as secondary.", None);
    assert_eq!(bench.state(), State::Run);
}

#[test]
fn with_one_remote_that_cannot_be_reached_it_starts_as_soon_as_that_is_known() {
    let mut bench = two_nodes();
    bench.fail(B);
    assert_eq!(bench.state(), State::Run);
}

#[test]
fn with_nobody_else_it_starts_at_once_and_silence_means_nothing() {
    let mut bench = Bench::with_script(Role::Primary, ALONE);
    assert_eq!(bench.state(), State::Run);
    bench.wait(s(3600));
    assert_eq!(bench.state(), State::Run);
}

#[test]
fn it_waits_for_the_first_answer_of_every_remote() {
    let mut bench = Bench::with_script(Role::Primary, "");
    let c = bench.link(C);
    bench.connect(B, State::Stopped);
    let waits = |event: &Event| matches!(event, Event::StartWaits { why } if why.contains(C));
    assert!(bench.told().iter().any(waits));
    assert_eq!(bench.state(), State::Stopped);
    bench.news(c, LinkEvent::Up);
    assert_eq!(bench.state(), State::Stopped);
    bench.answer(c, 1, State::Stopped);
    assert_eq!(bench.state(), State::Run);
}

#[test]
fn it_waits_for_an_attempt_that_comes_to_nothing_no_longer_than_twice_the_timeout() {
    let mut bench = Bench::with_script(Role::Primary, "");
    let link = bench.connect(B, State::Stopped);
    bench.wait_connected(s(4) - ms(1), &[(link, State::Stopped)]);
    assert_eq!(bench.state(), State::Stopped);
    bench.wait_connected(ms(1), &[(link, State::Stopped)]);
    assert_eq!(bench.state(), State::Run);
}

#[test]
fn it_does_not_wait_for_the_remote_that_it_replaces() {
    let mut bench = replacing(C);
    assert_eq!(bench.state(), State::Stopped);
    bench.connect(B, State::Stopped);
    assert_eq!((bench.state(), bench.since_start()), (State::Run, s(0)));
}

#[test]
fn a_secondary_that_knows_nothing_yet_gets_one_more_heartbeat() {
    let mut bench = two_nodes();
    let link = bench.connect(B, State::Unknown);
    assert_eq!(bench.state(), State::Stopped);
    bench.wait(s(1));
    bench.answer(link, 2, State::Unknown);
    assert_eq!(bench.state(), State::Run);
}

#[test]
fn it_does_not_start_while_a_remote_says_that_it_runs_starts_or_stops() {
    for state in [State::Run, State::Starting, State::Stopping] {
        let mut bench = two_nodes();
        let link = bench.connect(B, state);
        bench.wait_connected(s(60), &[(link, state)]);
        assert_eq!((bench.calls(Hook::Start), bench.state()), (0, State::Stopped), "{state}");
        bench.wait_connected(s(1), &[(link, State::Stopped)]);
        assert_eq!(bench.state(), State::Run, "{state}");
    }
}

#[test]
fn a_remote_that_is_busy_is_alive_and_is_waited_for_as_long_as_a_stop_may_take() {
    let busy = Refusal::Busy.to_string();
    let mut bench = two_nodes();
    bench.refuse(B, &busy, None);
    for _ in 0..15 {
        assert_eq!(bench.state(), State::Stopped);
        // Somebody polls: it is not isolated.
        bench.order(Order::Polled);
        bench.wait(s(1));
        bench.refuse(B, &busy, None);
    }
    // stop_timeout 10 s, 4 s until it is killed, timeout 2 s.
    bench.wait(s(1));
    assert_eq!((bench.state(), bench.since_start()), (State::Run, s(16)));
}

#[test]
fn a_busy_remote_that_has_stopped_is_not_waited_for_any_more() {
    let mut bench = two_nodes();
    bench.refuse(B, &Refusal::Busy.to_string(), None);
    bench.wait(s(1));
    assert_eq!(bench.state(), State::Stopped);
    bench.connect(B, State::Stopped);
    assert_eq!(bench.state(), State::Run);
}

#[test]
fn a_slow_start_counts_one_attempt_however_many_heartbeats_pass() {
    let mut bench = Bench::new(Role::Primary, ALONE);
    bench.ends(Hook::Status, 1);
    bench.wait(s(59));
    assert_eq!(bench.hooks(), [(s(0), Hook::Status), (s(0), Hook::Start)]);
    let report = bench.report.clone().unwrap();
    assert_eq!((report.state, report.attempts), (State::Starting, 1));
    bench.ends(Hook::Start, 0);
    bench.ends(Hook::Status, 0);
    let report = bench.report.clone().unwrap();
    assert_eq!((report.state, report.attempts), (State::Run, 0));
}

#[test]
fn the_check_right_after_a_start_counts_no_attempt() {
    let mut bench = Bench::new(Role::Primary, ALONE);
    bench.ends(Hook::Status, 1);
    bench.ends(Hook::Start, 0);
    bench.ends(Hook::Status, 1);
    assert_eq!(bench.runs(), None);
    assert_eq!(bench.state(), State::Starting);
    bench.wait(s(1));
    bench.ends(Hook::Status, 1);
    assert_eq!(bench.runs(), Some(Hook::Start));
    assert_eq!(bench.report.unwrap().attempts, 2);
}

#[test]
fn an_unclear_status_counts_as_not_running() {
    let mut bench = Bench::new(Role::Primary, ALONE);
    bench.ends(Hook::Status, 3);
    assert_eq!(bench.runs(), Some(Hook::Start));
}

#[test]
fn a_start_that_outlives_its_limit_is_a_failed_attempt_and_status_decides() {
    let mut bench = Bench::new(Role::Primary, ALONE);
    bench.ends(Hook::Status, 1);
    bench.wait(s(60));
    assert!(bench.take().iter().any(|action| matches!(action, Action::TerminateHook(_))));
    bench.is_signalled(15);
    bench.ends(Hook::Status, 0);
    assert_eq!((bench.state(), bench.report.unwrap().attempts), (State::Run, 0));
}

#[test]
fn after_its_attempts_it_stops_and_only_then_gives_up() {
    let mut bench = Bench::new(Role::Primary, "attempts 2 remote none friendless");
    for attempt in 1..=2 {
        bench.ends(Hook::Status, 1);
        assert_eq!(bench.report.as_ref().unwrap().attempts, attempt);
        bench.ends(Hook::Start, 1);
        bench.ends(Hook::Status, 1);
        bench.wait(s(1));
    }
    bench.ends(Hook::Status, 1);
    assert_eq!((bench.runs(), bench.state()), (Some(Hook::Stop), State::Stopping));
    assert_eq!(bench.farewell, None);
    bench.ends(Hook::Stop, 0);
    assert_eq!(bench.farewell, Some(Farewell::GaveUp(GiveUp::StartsFailed(2))));
}

#[test]
fn a_resource_that_runs_again_resets_the_count() {
    let mut bench = Bench::with_script(Role::Primary, "attempts 2 remote none friendless");
    for _ in 0..10 {
        bench.script.as_mut().unwrap().runs = false;
        bench.wait(s(2));
        assert_eq!((bench.state(), bench.report.as_ref().unwrap().attempts), (State::Run, 0));
    }
    assert_eq!(bench.calls(Hook::Start), 11);
}

#[test]
fn a_resource_that_dies_is_started_at_the_next_heartbeat() {
    let (mut bench, link) = running();
    bench.wait_connected(ms(500), &[(link, State::Stopped)]);
    bench.script.as_mut().unwrap().runs = false;
    bench.take();
    bench.wait_connected(ms(500), &[(link, State::Stopped)]);
    assert_eq!(bench.hooks(), [(s(1), Hook::Status), (s(1), Hook::Start), (s(1), Hook::Status)]);
}

#[test]
fn a_status_that_takes_long_is_not_called_twice() {
    let mut bench = Bench::new(Role::Primary, ALONE);
    bench.wait(s(4));
    assert_eq!(bench.hooks(), [(s(0), Hook::Status)]);
}

#[test]
fn when_a_remote_runs_it_too_it_stops_and_does_not_start_until_that_ends() {
    let (mut bench, link) = running();
    bench.wait_connected(s(2), &[(link, State::Run)]);
    let told = bench.actions.clone();
    assert!(told.iter().any(|(_, a)| matches!(a, Action::Event(Event::RemoteRunsToo { state: State::Run, .. }))));
    assert_eq!(bench.state(), State::Stopped);
    bench.wait_connected(s(10), &[(link, State::Run)]);
    assert_eq!((bench.calls(Hook::Start), bench.state()), (0, State::Stopped));
    bench.wait_connected(s(1), &[(link, State::Stopped)]);
    assert_eq!(bench.state(), State::Run);
}

#[test]
fn a_start_that_runs_is_ended_when_a_remote_says_that_it_runs() {
    let mut bench = Bench::new(Role::Primary, TWO_NODES);
    bench.ends(Hook::Status, 1);
    let link = bench.connect(B, State::Stopped);
    bench.ends(Hook::Connect, 0);
    assert_eq!(bench.runs(), Some(Hook::Start));
    bench.wait(s(1));
    bench.answer(link, 2, State::Run);
    assert!(bench.take().iter().any(|action| matches!(action, Action::TerminateHook(_))));
    bench.is_signalled(15);
    assert_eq!(bench.runs(), Some(Hook::Stop));
}

#[test]
fn a_secondary_that_stops_something_does_not_stop_a_primary_that_runs_well() {
    let (mut bench, link) = running();
    bench.wait_connected(s(5), &[(link, State::Stopping)]);
    assert_eq!((bench.calls(Hook::Stop), bench.state()), (0, State::Run));
}

#[test]
fn a_stop_that_fails_is_told_and_the_state_stays_failed_until_it_is_known_to_be_stopped() {
    let (mut bench, link) = running();
    bench.script.as_mut().unwrap().stop_works = false;
    bench.wait_connected(s(1), &[(link, State::Run)]);
    let told = |bench: &mut Bench| bench.told().contains(&Event::MayStillRun);
    assert!(told(&mut bench));
    bench.script.as_mut().unwrap().runs = false;
    bench.wait_connected(s(2), &[(link, State::Run)]);
    assert_eq!(bench.state(), State::Stopped);
}

#[test]
fn unheard_from_the_beginning_it_gives_up_after_exactly_three_heartbeats() {
    let mut bench = two_nodes();
    bench.fail(B);
    bench.wait(s(3) - ms(1));
    assert_eq!(bench.farewell, None);
    bench.wait(ms(1));
    assert_eq!(bench.farewell, Some(Farewell::GaveUp(GiveUp::Isolated(s(3)))));
}

#[test]
fn silence_begins_with_the_last_heartbeat_at_which_a_remote_may_still_answer() {
    // Its `timeout` is over at 2 s: that was at 1 s.
    let mut bench = two_nodes();
    bench.wait(s(4) - ms(1));
    assert_eq!(bench.farewell, None);
    bench.wait(ms(1));
    assert_eq!(bench.farewell, Some(Farewell::GaveUp(GiveUp::Isolated(s(3)))));
}

#[test]
fn it_gives_up_exactly_three_heartbeats_after_the_last_answer_and_stops_the_resource() {
    let (mut bench, link) = running();
    bench.wait_connected(s(10), &[(link, State::Stopped)]);
    bench.take();
    bench.wait(s(3) - ms(1));
    assert_eq!((bench.calls(Hook::Stop), bench.farewell.clone()), (0, None));
    bench.wait(ms(1));
    assert_eq!(bench.calls(Hook::Stop), 1);
    assert_eq!(bench.farewell, Some(Farewell::GaveUp(GiveUp::Isolated(s(3)))));
}

#[test]
fn a_connection_that_is_only_open_is_no_contact() {
    let mut bench = Bench::with_script(Role::Primary, "remote tcp4://10.0.0.2 timeout 60");
    let link = bench.link(B);
    bench.news(link, LinkEvent::Up);
    bench.wait(s(3));
    assert_eq!(bench.farewell, Some(Farewell::GaveUp(GiveUp::Isolated(s(3)))));
}

#[test]
fn a_poll_from_the_network_is_contact() {
    let mut bench = two_nodes();
    bench.fail(B);
    for _ in 0..10 {
        bench.wait(s(2));
        bench.order(Order::Polled);
    }
    assert_eq!((bench.state(), bench.farewell.clone()), (State::Run, None));
    bench.wait(s(3));
    assert_eq!(bench.farewell, Some(Farewell::GaveUp(GiveUp::Isolated(s(3)))));
}

#[test]
fn with_a_complaint_count_of_one_an_answer_may_be_late_by_a_heartbeat() {
    let mut bench = Bench::with_script(Role::Primary, &format!("{TWO_NODES} complaint_count 1"));
    bench.fail(B);
    bench.wait(s(2) - ms(1));
    assert_eq!(bench.farewell, None);
    bench.wait(ms(1));
    assert_eq!(bench.farewell, Some(Farewell::GaveUp(GiveUp::Isolated(s(2)))));
}

#[test]
fn after_a_freeze_it_stops_at_once_whatever_it_hears_first() {
    let stale = |link| {
        [
            Input::Timer,
            Input::Link(link, LinkEvent::Answer { seq: 1, state: Ok(State::Stopped) }),
            Input::Order(Order::Polled),
            Input::Link(link, LinkEvent::Failed("closed".to_string())),
        ]
    };
    for at in 0..4 {
        let (mut bench, link) = running();
        bench.freeze(s(5));
        bench.give(stale(link)[at].clone());
        assert_eq!(bench.calls(Hook::Stop), 1, "{at}");
        assert_eq!(bench.farewell, Some(Farewell::GaveUp(GiveUp::Isolated(s(5)))));
    }
}

#[test]
fn a_better_primary_makes_it_give_up_and_no_other_refusal_does() {
    let text = "Remote node acts as primary with higher priority (prioty number 5).";
    for (priority, gives_up) in [(Some(5), true), (Some(0), true), (Some(7), false), (Some(9), false), (None, false)] {
        let mut bench = Bench::with_script(Role::Primary, "remote tcp4://10.0.0.2 priority 7");
        bench.refuse(B, text, priority);
        let why = GiveUp::Outranked { remote: B.to_string(), theirs: priority.unwrap_or_default(), ours: 7 };
        assert_eq!(bench.farewell == Some(Farewell::GaveUp(why)), gives_up, "{priority:?}");
    }
}

#[test]
fn an_answer_with_an_error_or_to_a_heartbeat_that_was_never_sent_ends_the_connection() {
    for (seq, state) in [(1, Err(22)), (2, Ok(State::Stopped)), (u64::MAX, Ok(State::Run))] {
        let mut bench = two_nodes();
        let link = bench.link(B);
        bench.news(link, LinkEvent::Up);
        bench.news(link, LinkEvent::Answer { seq, state });
        assert!(bench.take().contains(&Action::Disconnect(link)));
        bench.wait(s(1));
        assert_ne!(bench.link(B), link, "it connects again at the next heartbeat");
    }
}

#[test]
fn a_connection_without_an_answer_for_the_timeout_is_dropped_and_made_again() {
    let (mut bench, link) = running();
    bench.wait_connected(s(1), &[(link, State::Stopped)]);
    bench.take();
    bench.order(Order::Polled);
    bench.wait(s(3) - ms(1));
    assert!(!bench.actions.iter().any(|(_, action)| *action == Action::Disconnect(link)));
    bench.order(Order::Polled);
    bench.wait(ms(1));
    // Asked at 2 s, in vain until 4 s.
    assert!(bench.actions.contains(&(s(4), Action::Disconnect(link))));
    assert_ne!(bench.link(B), link);
    assert_eq!(bench.calls(Hook::Disconnect), 1);
}

#[test]
fn the_script_is_told_of_each_connection_made_and_lost() {
    let (mut bench, link) = running();
    bench.news(link, LinkEvent::Failed("closed".to_string()));
    assert_eq!(bench.calls(Hook::Disconnect), 1);
    bench.wait(s(1));
    bench.connect(B, State::Stopped);
    assert_eq!(bench.calls(Hook::Connect), 1);
}

#[test]
fn why_there_is_no_connection_is_told_once_until_it_changes() {
    let mut bench = two_nodes();
    let unreachable = |event: &Event| matches!(event, Event::Unreachable { .. });
    for _ in 0..5 {
        bench.fail(B);
        bench.order(Order::Polled);
        bench.wait(s(1));
    }
    bench.refuse(B, "No access to the resource.", None);
    assert_eq!(bench.told().iter().filter(|event| unreachable(event)).count(), 2);
}

#[test]
fn news_of_a_connection_that_is_over_change_nothing() {
    let (mut bench, link) = running();
    bench.news(link, LinkEvent::Failed("closed".to_string()));
    bench.take();
    let unknown = LinkId(4711);
    for old in [link, unknown] {
        bench.news(old, LinkEvent::Up);
        bench.answer(old, 1, State::Run);
        bench.news(old, LinkEvent::Refused { message: String::new(), priority: Some(0) });
        bench.news(old, LinkEvent::Failed(String::new()));
    }
    assert_eq!(bench.take(), []);
}

#[test]
fn a_heartbeat_goes_out_at_once_and_then_every_interval_with_the_state_here() {
    let (mut bench, link) = running();
    bench.wait_connected(s(3), &[(link, State::Stopped)]);
    let sent: Vec<_> =
        bench.actions.iter().filter(|(_, a)| matches!(a, Action::SendHeartbeat { .. })).cloned().collect();
    let heartbeat = |at, seq| (s(at), Action::SendHeartbeat { link, state: State::Run, seq });
    assert_eq!(sent, [heartbeat(1, 2), heartbeat(2, 3), heartbeat(3, 4)]);
}

#[test]
fn new_settings_keep_connections_to_remotes_that_stay_and_close_the_others() {
    let mut bench = Bench::with_script(Role::Primary, "");
    let c = bench.link(C);
    let b = bench.connect(B, State::Stopped);
    bench.news(c, LinkEvent::Up);
    bench.answer(c, 1, State::Stopped);
    bench.take();
    let new = resource("remote tcp4://10.0.0.4 tcp4://10.0.0.3 heartbeat_interval 2");
    bench.order(Order::Reconfigure(Box::new(new)));
    let done = bench.take();
    assert!(done.contains(&Action::Disconnect(b)) && !done.contains(&Action::Disconnect(c)));
    assert_eq!(bench.state(), State::Run);
    bench.wait(s(2));
    bench.link("tcp4://10.0.0.4");
    assert!(bench.last_heartbeat(c).is_some());
}

#[test]
fn a_shorter_heartbeat_counts_from_now_on() {
    let mut bench = Bench::with_script(Role::Primary, "remote none friendless heartbeat_interval 1h");
    bench.take();
    bench.order(Order::Reconfigure(Box::new(resource(ALONE))));
    bench.wait(s(3));
    assert_eq!(bench.hooks(), [(s(1), Hook::Status), (s(2), Hook::Status), (s(3), Hook::Status)]);
}

#[test]
fn the_first_remote_of_a_primary_that_had_none_makes_it_not_isolated_at_once() {
    let mut bench = Bench::with_script(Role::Primary, ALONE);
    bench.wait(s(3600));
    bench.order(Order::Reconfigure(Box::new(resource(TWO_NODES))));
    bench.wait(s(2));
    assert_eq!((bench.state(), bench.farewell.clone()), (State::Run, None));
    bench.wait(s(1));
    assert!(bench.farewell.is_some());
}

#[test]
fn a_friend_who_may_poll_makes_silence_mean_something() {
    let mut bench = Bench::with_script(Role::Primary, &format!("remote none friends {WATCHDOG}"));
    bench.wait(s(3));
    assert_eq!(bench.farewell, Some(Farewell::GaveUp(GiveUp::Isolated(s(3)))));
}

#[test]
fn while_it_stops_for_good_it_keeps_its_secondaries_waiting_and_makes_no_new_connection() {
    let mut bench = Bench::new(Role::Primary, "");
    bench.ends(Hook::Status, 1);
    let (b, c) = (bench.link(B), bench.link(C));
    bench.news(b, LinkEvent::Up);
    bench.answer(b, 1, State::Stopped);
    bench.end();
    assert!(bench.take().contains(&Action::Disconnect(c)), "an attempt to connect is given up");
    bench.ends(Hook::Connect, 0);
    // One that does not answer for its `timeout` would be given up.
    bench.wait_connected(s(5), &[(b, State::Stopped)]);
    let sent = |action: &Action| matches!(action, Action::SendHeartbeat { state: State::Stopping, .. });
    assert_eq!(bench.actions.iter().filter(|(_, action)| sent(action)).count(), 5);
    assert!(!bench.take().iter().any(|action| matches!(action, Action::Connect(..))));
    bench.ends(Hook::Stop, 0);
    assert!(bench.take().contains(&Action::Disconnect(b)));
    bench.ends(Hook::Disconnect, 0);
    assert_eq!(bench.farewell, Some(Farewell::AsOrdered));
}

#[test]
fn a_hook_that_cannot_be_started_counts_as_one_that_failed() {
    let mut bench = Bench::new(Role::Primary, "attempts 1 remote none friendless");
    let fail = |bench: &mut Bench, hook| {
        assert_eq!(bench.runs(), Some(hook));
        let id = bench.running.pop().unwrap().id;
        bench.give(Input::HookExited { id, exit: Exit::NotStarted("no such file".to_string()), output: Vec::new() });
    };
    for hook in [Hook::Status, Hook::Start, Hook::Status] {
        fail(&mut bench, hook);
    }
    bench.wait(s(1));
    fail(&mut bench, Hook::Status);
    for _ in 0..3 {
        fail(&mut bench, Hook::Stop);
        fail(&mut bench, Hook::Status);
        bench.wait(s(1));
    }
    assert!(bench.told().contains(&Event::MayStillRun));
    assert_eq!(bench.farewell, Some(Farewell::GaveUp(GiveUp::StartsFailed(1))));
}
