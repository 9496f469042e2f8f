//! The watchdog on a virtual clock: heartbeat 1 s, timeout 2 s.

use super::*;
use crate::testing::{B, Bench, C, address, ms, resource, s};
use crate::worker::Order;
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec;

type Answer = Result<(Role, State), &'static str>;
const RUNS: Answer = Ok((Role::Primary, State::Run));
const STANDS_BY: Answer = Ok((Role::Secondary, State::Stopped));
const SILENT: Answer = Err("no answer");

fn watchdog() -> Bench {
    Bench::with_script(Role::Watchdog, "")
}

/// Complaints since the last look: when, and to whom.
fn complaints(bench: &mut Bench) -> Vec<(core::time::Duration, Address)> {
    let complaint = |(at, action)| match action {
        Action::Complain(to) => Some((at, to)),
        _ => None,
    };
    bench.actions.drain(..).filter_map(complaint).collect()
}

fn count(bench: &Bench) -> u32 {
    bench.report.as_ref().unwrap().complaints
}

#[test]
fn it_polls_everybody_at_every_heartbeat() {
    let mut bench = watchdog();
    for at in 0..3 {
        let polls: Vec<_> = bench.actions.iter().filter(|(_, action)| matches!(action, Action::Poll(..))).collect();
        assert!(polls.len() == 2 && polls.iter().all(|(when, _)| *when == s(at)), "{polls:?}");
        bench.polled(B, RUNS);
        bench.polled(C, STANDS_BY);
        bench.take();
        bench.wait(s(1));
    }
}

#[test]
fn while_a_primary_runs_it_nobody_hears_a_complaint() {
    let mut bench = watchdog();
    for _ in 0..10 {
        bench.polled(B, RUNS);
        bench.polled(C, STANDS_BY);
        bench.wait(s(1));
    }
    assert_eq!((complaints(&mut bench), count(&bench), bench.state()), (Vec::new(), 0, State::Run));
}

#[test]
fn it_complains_as_soon_as_all_have_answered_and_to_secondaries_only() {
    for other in [Ok((Role::Primary, State::Starting)), Ok((Role::Init, State::Unknown)), SILENT] {
        let mut bench = watchdog();
        bench.polled(B, other);
        assert_eq!(complaints(&mut bench), []);
        let mut bench = watchdog();
        bench.polled(B, other);
        bench.polled(C, STANDS_BY);
        assert_eq!(count(&bench), 1);
        assert_eq!(
            bench.report.as_ref().unwrap().remotes[1],
            RemoteReport::Polled(Some(Role::Secondary), State::Stopped)
        );
        let actions = bench.actions.clone();
        assert_eq!(complaints(&mut bench), [(s(0), address(C))]);
        assert!(
            actions.iter().any(|(_, action)| matches!(action, Action::RunHook(call) if call.hook == Hook::Complain))
        );
    }
}

#[test]
fn who_has_not_answered_by_the_next_heartbeat_counts_as_silent() {
    let mut bench = watchdog();
    bench.polled(C, STANDS_BY);
    bench.wait(s(1) - ms(1));
    assert_eq!(complaints(&mut bench), []);
    bench.wait(ms(1));
    assert_eq!(complaints(&mut bench), [(s(1), address(C))]);
}

#[test]
fn a_silent_primary_costs_one_complaint_in_each_heartbeat() {
    for timeout in [s(1) + ms(1), ms(1_500), s(2), s(3)] {
        let mut bench = Bench::with_script(Role::Watchdog, "");
        let mut asked = vec![(bench.link(B), bench.now)];
        let mut times = Vec::new();
        let (step, until) = (ms(1), bench.now + s(9));
        bench.polled(C, STANDS_BY);
        while bench.now < until {
            bench.wait(step);
            // The process of the worker tells each poll of B that has had its time.
            let (link, since) = asked[asked.len() - 1];
            if bench.now.since(since) == timeout {
                bench.give(crate::worker::Input::Polled { link, answer: Err("no answer".to_string()) });
            }
            for (_, action) in bench.actions.clone() {
                match action {
                    Action::Poll(link, to) if to == address(B) => asked.push((link, bench.now)),
                    Action::Poll(link, _) => {
                        let answer = Ok((Role::Secondary, State::Stopped));
                        bench.give(crate::worker::Input::Polled { link, answer });
                    }
                    _ => {}
                }
            }
            times.extend(complaints(&mut bench).into_iter().map(|(at, _)| at));
        }
        assert_eq!(times, (1..=9).map(s).collect::<Vec<_>>(), "{timeout:?}");
    }
}

#[test]
fn an_answer_that_comes_late_counts_for_the_round_that_it_comes_in() {
    let mut bench = watchdog();
    bench.polled(C, STANDS_BY);
    let slow = bench.link(B);
    bench.wait(s(1));
    assert_eq!(complaints(&mut bench).len(), 1);
    bench.give(crate::worker::Input::Polled { link: slow, answer: Ok((Role::Primary, State::Run)) });
    assert_eq!(bench.state(), State::Unknown);
    bench.wait(s(1));
    assert_eq!((complaints(&mut bench), bench.state()), (Vec::new(), State::Run));
}

#[test]
fn a_watchdog_that_wakes_late_begins_anew_instead_of_complaining() {
    let mut bench = watchdog();
    bench.polled(C, STANDS_BY);
    bench.freeze(s(5));
    bench.give(crate::worker::Input::Timer);
    assert!(bench.told().contains(&Event::WokeLate { by: s(4) }));
    assert_eq!(count(&bench), 0);
    assert_eq!(bench.worker.next_deadline(), Some(bench.now + s(1)));
}

#[test]
fn a_watchdog_that_wakes_late_does_not_count_polls_that_failed_meanwhile() {
    let mut bench = watchdog();
    bench.polled(C, STANDS_BY);
    bench.freeze(s(5));
    bench.polled(B, SILENT);
    assert_eq!(count(&bench), 0);
    bench.polled(B, RUNS);
    bench.polled(C, STANDS_BY);
    assert_eq!((complaints(&mut bench), bench.state()), (Vec::new(), State::Run));
}

#[test]
fn a_timer_that_is_a_little_late_is_no_reason_for_doubt() {
    let mut bench = watchdog();
    bench.polled(C, STANDS_BY);
    bench.freeze(ms(1_500));
    bench.give(crate::worker::Input::Timer);
    assert_eq!(count(&bench), 1);
}

#[test]
fn only_complaints_within_the_interval_are_reported() {
    let mut bench = Bench::with_script(Role::Watchdog, "complaint_interval 5");
    for _ in 0..20 {
        bench.polled(B, SILENT);
        bench.polled(C, STANDS_BY);
        bench.wait(s(1));
    }
    assert!((5..=6).contains(&count(&bench)), "{}", count(&bench));
}

#[test]
fn why_a_remote_does_not_answer_is_told_once_until_it_changes() {
    let mut bench = watchdog();
    for answer in [SILENT, SILENT, RUNS, SILENT, Err("another reason")] {
        bench.polled(B, answer);
        bench.polled(C, STANDS_BY);
        bench.wait(s(1));
    }
    let unreachable = |event: &Event| matches!(event, Event::Unreachable { .. });
    assert_eq!(bench.told().iter().filter(|event| unreachable(event)).count(), 3);
}

#[test]
fn an_answer_to_an_unknown_poll_changes_nothing() {
    let mut bench = watchdog();
    bench.take();
    bench.give(crate::worker::Input::Polled { link: LinkId(4711), answer: Ok((Role::Primary, State::Run)) });
    assert_eq!(bench.take(), []);
}

#[test]
fn new_settings_take_effect_at_once_and_answers_of_removed_remotes_are_ignored() {
    let mut bench = Bench::with_script(Role::Watchdog, "heartbeat_interval 1h complaint_interval 10h");
    let b = bench.link(B);
    bench.polled(C, STANDS_BY);
    bench.take();
    bench.order(Order::Reconfigure(Box::new(resource("remote tcp4://10.0.0.3"))));
    bench.give(crate::worker::Input::Polled { link: b, answer: Ok((Role::Primary, State::Run)) });
    bench.wait(s(1));
    assert_eq!(complaints(&mut bench), [(s(1), address(C))]);
    assert_eq!(bench.report.unwrap().remotes.len(), 1);
}
