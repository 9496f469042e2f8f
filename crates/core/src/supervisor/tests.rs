//! The main daemon's side of one resource on a virtual clock: heartbeat 1 s, complaint_count 3, timeout 2 s, priority 100.

use super::*;
use crate::daemon::Input;
use crate::testing::{B, C, DaemonBench, WATCHDOG, address, config, ms, s};
use crate::worker::RemoteReport;
use alloc::vec;

const IS_INIT: &str = "Remote node acts as init for the resource and not as secondary.";
const IS_WATCHDOG: &str = "Remote node acts as watchdog for the resource and not as secondary.";
const IS_BETTER: &str = "Remote node acts as primary with higher priority (prioty number 100).";

/// In this role, with a worker that runs and has told the script.
fn daemon(role: Role) -> DaemonBench {
    daemon_with(role, "")
}

fn daemon_with(role: Role, settings: &str) -> DaemonBench {
    let mut bench = DaemonBench::new(settings);
    if role != Role::Init {
        bench.set_role(role);
    }
    bench.take();
    bench
}

fn report(bench: &mut DaemonBench, state: State) {
    let id = bench.worker();
    let remotes = vec![RemoteReport::Connected(false); 2];
    bench.give(Input::Report(
        id,
        Report { state, attempts: 0, remotes, complaints: 0, lease: None, lateness: None, statuses: Vec::new() },
    ));
}

/// Reaches the role by way of another one.
fn daemon_after(previous: Role, role: Role) -> DaemonBench {
    let mut bench = daemon(previous);
    bench.set_role(role);
    if previous != Role::Init {
        bench.worker_ends();
    }
    bench.take();
    bench
}

fn complain(bench: &mut DaemonBench, times: u32) {
    for _ in 0..times {
        bench.complain(WATCHDOG);
    }
}

fn stays(bench: &DaemonBench) -> Option<StaysSecondary> {
    bench.told().into_iter().rev().find_map(|event| match event {
        Event::ComplaintHeard { stays, .. } => Some(stays),
        _ => None,
    })?
}

mod roles {
    use super::*;

    #[test]
    fn a_worker_runs_in_every_role_but_init_from_the_moment_the_role_is_set() {
        for role in [Role::Primary, Role::Secondary, Role::Watchdog] {
            let mut bench = DaemonBench::new("");
            bench.set_role(role);
            let [(_, assignment)] = &bench.started()[..] else { panic!("{:?}", bench.actions) };
            assert_eq!((assignment.role, assignment.changed_from), (role, Some(Role::Init)));
            assert_eq!(assignment.replaces, None);
        }
        assert_eq!(DaemonBench::new("").started().len(), 0);
    }

    #[test]
    fn the_role_at_the_start_is_taken_up() {
        let bench = DaemonBench::new("role_on_start watchdog");
        assert_eq!(bench.started()[0].1.role, Role::Watchdog);
        assert!(matches!(bench.told()[0], Event::RoleChanged { reason: RoleReason::Start, .. }));
    }

    #[test]
    fn the_worker_of_the_old_role_ends_before_the_new_one_starts() {
        for (old, new) in Role::ALL.into_iter().flat_map(|old| Role::ALL.map(|new| (old, new))) {
            if old == new || old == Role::Init {
                continue;
            }
            let mut bench = daemon(old);
            bench.set_role(new);
            assert_eq!((bench.role(), bench.started().len()), (new, 0), "{old} {new}");
            // After a secondary, nobody but a primary looks for what it could not stop.
            let leaves = old == Role::Secondary && new != Role::Primary;
            match &bench.orders()[..] {
                [Order::Leave { .. }] => assert!(leaves, "{old} {new}"),
                [Order::End { .. }] => assert!(!leaves, "{old} {new}"),
                orders => panic!("{old} {new}: {orders:?}"),
            }
            bench.worker_ends();
            let [(_, assignment)] = &bench.started()[..] else { panic!("{old} {new}: {:?}", bench.actions) };
            assert_eq!((assignment.role, assignment.changed_from), (new, Some(old)));
        }
    }

    #[test]
    fn the_role_that_it_has_is_set_without_any_effect() {
        for role in Role::ALL {
            let mut bench = daemon(role);
            bench.set_role(role);
            let actions = bench.take();
            let told = |action: &Action| matches!(action, Action::Event(_, Event::Commanded { .. }));
            assert!(matches!(&actions[..], [asked, Action::Reply { .. }] if told(asked)), "{role}");
        }
    }

    #[test]
    fn the_last_of_several_quick_changes_counts() {
        let mut bench = daemon(Role::Primary);
        for role in [Role::Secondary, Role::Init, Role::Watchdog, Role::Secondary] {
            bench.set_role(role);
        }
        assert_eq!((bench.orders().len(), bench.started().len()), (1, 0));
        bench.worker_ends();
        let started = bench.started();
        assert_eq!(started.len(), 1);
        assert_eq!((started[0].1.role, started[0].1.changed_from), (Role::Secondary, Some(Role::Primary)));
    }

    #[test]
    fn a_change_there_and_back_is_not_told_to_the_script() {
        let mut bench = daemon(Role::Primary);
        bench.set_role(Role::Secondary);
        bench.set_role(Role::Primary);
        bench.worker_ends();
        assert_eq!((bench.started()[0].1.role, bench.started()[0].1.changed_from), (Role::Primary, None));
    }

    #[test]
    fn after_init_is_told_nothing_runs() {
        let mut bench = daemon(Role::Primary);
        bench.set_role(Role::Init);
        bench.worker_ends();
        assert_eq!(bench.started()[0].1.role, Role::Init);
        bench.worker_ends();
        assert_eq!(bench.daemon.resources()[0].worker(), None);
        assert_eq!(bench.daemon.next_deadline(), None);
    }

    #[test]
    fn a_worker_that_does_not_end_is_killed_after_all_that_it_may_still_do() {
        let mut bench = daemon(Role::Primary);
        bench.set_role(Role::Init);
        let id = bench.worker();
        // Three times stop (10 s) and status (5 s) with 4 s of grace each and a pause of 1 s, then two hooks of 20 s with 4 s.
        let budget = s(3 * (10 + 5 + 8 + 1) + 2 * 24);
        bench.wait(budget - ms(1));
        let killed = |bench: &DaemonBench| {
            bench.actions.iter().any(|action| matches!(action, Action::KillWorker(of) if *of == id))
        };
        assert!(!killed(&bench));
        bench.wait(ms(1));
        assert!(killed(&bench));
        assert!(bench.told().contains(&Event::WorkerKilled(WorkerFault::DoesNotEnd)));
        bench.take();
        bench.wait(s(600));
        assert!(bench.take().is_empty(), "once");
    }
}

mod handshakes {
    use super::*;

    #[test]
    fn a_secondary_gives_a_token_and_hands_both_connections_to_its_worker() {
        let mut bench = daemon(Role::Secondary);
        let first = bench.handshake(B, 100);
        let (_, keep) = bench.reply_to(first).unwrap();
        assert!(keep);
        let Some(Answer::Token(token)) = bench.answer_to(first) else { panic!("{:?}", bench.actions) };
        let second = bench.token(B, token);
        let Some(Action::HandOver { worker, from, asks, answers, resuid, .. }) = bench.actions.last() else {
            panic!("{:?}", bench.actions)
        };
        assert_eq!((*worker, from, *asks, *answers, *resuid), (bench.worker(), &address(B), first, second, 7));
    }

    #[test]
    fn init_and_watchdog_refuse_both_steps_in_the_words_of_the_original() {
        for (role, text) in [(Role::Init, IS_INIT), (Role::Watchdog, IS_WATCHDOG)] {
            let mut bench = daemon(role);
            for conn in [bench.handshake(B, 0), bench.token(B, [0; 16])] {
                assert_eq!(bench.refusal(conn), Some((text.to_string(), None)));
                assert!(!bench.reply_to(conn).unwrap().1);
            }
        }
    }

    #[test]
    fn a_primary_refuses_one_with_a_higher_number_and_says_its_own() {
        let mut bench = daemon(Role::Primary);
        let conn = bench.handshake(B, 101);
        assert_eq!(bench.refusal(conn), Some((IS_BETTER.to_string(), Some(100))));
        assert_eq!(bench.role(), Role::Primary);
        let conn = bench.token(B, [0; 16]);
        let text = "Remote node acts as primary for the resource and not as secondary.";
        assert_eq!(bench.refusal(conn), Some((text.to_string(), None)));
    }

    #[test]
    fn a_primary_yields_to_one_with_an_equal_or_lower_number_when_its_resource_is_stopped() {
        for (previous, priority) in [(Role::Secondary, 100), (Role::Secondary, 5), (Role::Secondary, 0)] {
            let mut bench = daemon_after(previous, Role::Primary);
            let conn = bench.handshake(B, priority);
            assert_eq!(bench.role(), previous);
            assert!(matches!(&bench.orders()[..], [Order::End { .. }]));
            assert_eq!(bench.answer_to(conn), None, "not before the worker has stopped it");
            bench.wait(s(1));
            bench.worker_ends();
            assert!(matches!(bench.answer_to(conn), Some(Answer::Token(_))));
            assert_eq!(bench.started()[0].1.changed_from, Some(Role::Primary));
        }
    }

    #[test]
    fn a_primary_that_yields_answers_as_what_it_was_before() {
        for (previous, text) in [(Role::Init, IS_INIT), (Role::Watchdog, IS_WATCHDOG)] {
            let mut bench = daemon_after(previous, Role::Primary);
            let conn = bench.handshake(B, 1);
            bench.worker_ends();
            assert_eq!((bench.role(), bench.refusal(conn)), (previous, Some((text.to_string(), None))));
        }
    }

    #[test]
    fn a_caller_that_waits_hears_that_we_are_busy_before_its_patience_ends() {
        let mut bench = daemon_after(Role::Secondary, Role::Primary);
        let conn = bench.handshake(B, 1);
        bench.wait(ms(1_499));
        assert_eq!(bench.answer_to(conn), None);
        bench.wait(ms(1));
        assert_eq!(bench.refusal(conn), Some((Refusal::Busy.to_string(), None)));
        let again = bench.handshake(B, 1);
        bench.worker_ends();
        assert!(matches!(bench.answer_to(again), Some(Answer::Token(_))));
    }

    #[test]
    fn callers_during_a_takeover_are_judged_by_the_new_role() {
        let mut bench = daemon(Role::Secondary);
        complain(&mut bench, 4);
        let (worse, better) = (bench.handshake(B, 101), bench.handshake(C, 1));
        bench.worker_ends();
        assert_eq!(bench.refusal(worse), Some((IS_BETTER.to_string(), Some(100))));
        assert_eq!((bench.role(), bench.answer_to(better)), (Role::Secondary, None), "it yields");
        bench.worker_ends();
        assert!(matches!(bench.answer_to(better), Some(Answer::Token(_))));
    }

    #[test]
    fn a_token_is_good_once_for_its_remote_and_for_the_timeout() {
        let issue = |bench: &mut DaemonBench| {
            let conn = bench.handshake(B, 100);
            match bench.answer_to(conn) {
                Some(Answer::Token(token)) => token,
                other => panic!("{other:?}"),
            }
        };
        let wrong = Some((Refusal::WrongToken.to_string(), None));
        let mut bench = daemon(Role::Secondary);
        let token = issue(&mut bench);
        let conn = bench.token(C, token);
        assert_eq!(bench.refusal(conn), wrong, "another remote");
        let conn = bench.token(B, [9; 16]);
        assert_eq!(bench.refusal(conn), wrong, "another token");
        bench.token(B, token);
        assert_eq!(bench.hand_overs().len(), 1);
        let conn = bench.token(B, token);
        assert_eq!(bench.refusal(conn), wrong, "a second time");
        let token = issue(&mut bench);
        bench.wait(s(2));
        let conn = bench.token(B, token);
        assert_eq!(bench.refusal(conn), wrong, "too late");
        assert_eq!(bench.hand_overs().len(), 1);
    }

    #[test]
    fn the_first_connection_is_closed_when_nobody_comes_with_the_token() {
        let mut bench = daemon(Role::Secondary);
        let conn = bench.handshake(B, 100);
        bench.wait(s(2) - ms(1));
        assert!(!bench.is_closed(conn));
        bench.wait(ms(1));
        assert!(bench.is_closed(conn));
    }

    #[test]
    fn a_token_of_a_secondary_is_worth_nothing_in_another_role() {
        let mut bench = daemon(Role::Secondary);
        let conn = bench.handshake(B, 100);
        let Some(Answer::Token(token)) = bench.answer_to(conn) else { panic!() };
        bench.set_role(Role::Primary);
        assert!(bench.is_closed(conn));
        bench.worker_ends();
        bench.set_role(Role::Secondary);
        bench.worker_ends();
        let conn = bench.token(B, token);
        assert_eq!(bench.refusal(conn), Some((Refusal::WrongToken.to_string(), None)));
    }

    #[test]
    fn half_done_handshakes_are_bounded_and_the_newest_caller_loses() {
        let mut bench = daemon(Role::Secondary);
        let conns: Vec<_> = (0..=MAX_HALF_OPEN).map(|_| bench.handshake(B, 100)).collect();
        assert_eq!(bench.refusal(conns[MAX_HALF_OPEN]), Some((Refusal::Busy.to_string(), None)));
        assert!(conns[..MAX_HALF_OPEN].iter().all(|conn| bench.refusal(*conn).is_none()));
    }

    #[test]
    fn while_the_worker_is_being_started_again_a_caller_is_told_to_come_again() {
        let mut bench = daemon(Role::Secondary);
        bench.worker_exits(WorkerExit::Signal(9));
        let conn = bench.handshake(B, 100);
        let Some(Answer::Token(token)) = bench.answer_to(conn) else { panic!() };
        let second = bench.token(B, token);
        assert_eq!(bench.refusal(second), Some((Refusal::Busy.to_string(), None)));
        assert!(!bench.is_closed(conn), "the caller would see that first");
        bench.wait(s(2));
        assert!(bench.is_closed(conn));
    }
}

mod takeover {
    use super::*;

    #[test]
    fn it_needs_more_complaints_than_the_count() {
        let mut bench = daemon(Role::Secondary);
        complain(&mut bench, 3);
        assert_eq!((bench.role(), bench.told().len()), (Role::Secondary, 3));
        complain(&mut bench, 1);
        assert_eq!(bench.role(), Role::Primary);
        assert!(matches!(
            bench.told().last(),
            Some(Event::RoleChanged { reason: RoleReason::Takeover { complaints: 4 }, .. })
        ));
        assert!(matches!(bench.orders().last(), Some(Order::End { hurry: true, .. })));
    }

    #[test]
    fn complaints_older_than_the_interval_do_not_count() {
        let mut bench = daemon_with(Role::Secondary, "complaint_interval 5");
        complain(&mut bench, 3);
        bench.wait(s(5) + ms(1));
        complain(&mut bench, 3);
        assert_eq!(bench.role(), Role::Secondary);
        bench.wait(s(5));
        complain(&mut bench, 1);
        assert_eq!(bench.role(), Role::Primary);
    }

    #[test]
    fn only_a_secondary_takes_over() {
        for role in [Role::Init, Role::Primary, Role::Watchdog] {
            let mut bench = daemon(role);
            complain(&mut bench, 10);
            assert_eq!((bench.role(), bench.told().len()), (role, 0));
        }
    }

    #[test]
    fn the_script_of_the_secondary_hears_of_each_complaint() {
        let mut bench = daemon(Role::Secondary);
        complain(&mut bench, 2);
        assert_eq!(bench.orders(), [Order::Complaint, Order::Complaint]);
    }

    #[test]
    fn a_connection_from_a_primary_clears_the_complaints_and_forbids_it() {
        let mut bench = daemon(Role::Secondary);
        complain(&mut bench, 3);
        bench.connect(B, 100);
        complain(&mut bench, 9);
        assert_eq!((bench.role(), stays(&bench)), (Role::Secondary, Some(StaysSecondary::Connected)));
    }

    #[test]
    fn complaints_that_came_long_before_the_connection_broke_do_not_count() {
        let mut bench = daemon(Role::Secondary);
        let link = bench.connect(B, 100);
        for _ in 0..10 {
            complain(&mut bench, 1);
            bench.wait(s(1));
        }
        let worker = bench.worker();
        bench.give(Input::PrimaryGone(worker, link));
        // Of those before, only that of the last heartbeat counts.
        complain(&mut bench, 2);
        assert_eq!(bench.role(), Role::Secondary);
        complain(&mut bench, 1);
        assert_eq!(bench.role(), Role::Primary);
    }

    #[test]
    fn the_remote_whose_connection_was_lost_is_replaced() {
        let mut bench = daemon(Role::Secondary);
        let link = bench.connect(C, 100);
        let worker = bench.worker();
        bench.give(Input::PrimaryGone(worker, link));
        complain(&mut bench, 4);
        bench.take();
        bench.worker_ends();
        assert_eq!(bench.started()[0].1.replaces, Some(address(C)));
    }

    #[test]
    fn a_remote_whose_connection_ended_with_our_own_worker_is_not_taken_for_dead() {
        let mut bench = daemon(Role::Secondary);
        bench.connect(B, 100);
        bench.take();
        bench.set_role(Role::Primary);
        bench.worker_ends();
        assert_eq!(bench.started()[0].1.replaces, None);
    }

    #[test]
    fn the_loss_of_a_connection_that_has_been_replaced_changes_nothing() {
        let mut bench = daemon(Role::Secondary);
        let old = bench.connect(B, 100);
        bench.connect(C, 100);
        let worker = bench.worker();
        bench.give(Input::PrimaryGone(worker, old));
        complain(&mut bench, 9);
        assert_eq!((bench.role(), stays(&bench)), (Role::Secondary, Some(StaysSecondary::Connected)));
    }

    #[test]
    fn a_secondary_that_has_not_finished_its_change_stays() {
        let mut bench = daemon(Role::Primary);
        bench.set_role(Role::Secondary);
        complain(&mut bench, 9);
        assert_eq!((bench.role(), stays(&bench)), (Role::Secondary, Some(StaysSecondary::Changing)));
    }

    #[test]
    fn complaints_that_came_while_it_became_secondary_do_not_count() {
        let mut bench = daemon(Role::Primary);
        bench.set_role(Role::Secondary);
        complain(&mut bench, 9);
        bench.worker_ends();
        complain(&mut bench, 3);
        assert_eq!(bench.role(), Role::Secondary);
        complain(&mut bench, 1);
        assert_eq!(bench.role(), Role::Primary);
    }

    #[test]
    fn after_failed_starts_it_holds_off_for_the_complaint_interval() {
        let mut bench = daemon_with(Role::Primary, "complaint_interval 30");
        bench.worker_exits(WorkerExit::Farewell(Farewell::GaveUp(GiveUp::StartsFailed(5))));
        assert_eq!(bench.role(), Role::Secondary);
        bench.wait(s(30) - ms(1));
        complain(&mut bench, 9);
        assert_eq!((bench.role(), stays(&bench)), (Role::Secondary, Some(StaysSecondary::HoldsOff(ms(1)))));
        bench.wait(ms(1));
        complain(&mut bench, 1);
        assert_eq!(bench.role(), Role::Primary);
    }

    #[test]
    fn an_operator_ends_the_hold_off() {
        let mut bench = daemon(Role::Primary);
        bench.worker_exits(WorkerExit::Farewell(Farewell::GaveUp(GiveUp::StartsFailed(5))));
        bench.set_role(Role::Init);
        bench.set_role(Role::Secondary);
        bench.worker_ends();
        complain(&mut bench, 4);
        assert_eq!(bench.role(), Role::Primary);
    }

    #[test]
    fn who_gave_up_for_another_reason_does_not_hold_off() {
        let outranked = GiveUp::Outranked { remote: B.to_string(), theirs: 1, ours: 100 };
        for why in [GiveUp::Isolated(s(3)), outranked] {
            let mut bench = daemon(Role::Primary);
            bench.worker_exits(WorkerExit::Farewell(Farewell::GaveUp(why)));
            assert_eq!(bench.role(), Role::Secondary);
            complain(&mut bench, 4);
            assert_eq!(bench.role(), Role::Primary);
        }
    }

    #[test]
    fn complaints_from_before_it_was_secondary_do_not_count() {
        let mut bench = daemon(Role::Primary);
        complain(&mut bench, 9);
        bench.set_role(Role::Secondary);
        complain(&mut bench, 9);
        bench.worker_ends();
        complain(&mut bench, 3);
        assert_eq!(bench.role(), Role::Secondary);
        complain(&mut bench, 1);
        assert_eq!(bench.role(), Role::Primary);
    }

    #[test]
    fn who_has_yielded_to_an_equal_holds_off_for_a_while_that_is_left_to_chance() {
        // The bench throws the number of the connection: 5, the fifth of eight. Before that come complaint_count and one heartbeats.
        let mut bench = daemon_after(Role::Secondary, Role::Primary);
        while bench.handshake(B, 101) != ConnId(4) {}
        bench.handshake(B, 100);
        bench.worker_ends();
        bench.wait(s(4 + 5) - ms(1));
        complain(&mut bench, 4);
        assert_eq!((bench.role(), stays(&bench)), (Role::Secondary, Some(StaysSecondary::HoldsOff(ms(1)))));
        bench.wait(ms(1));
        complain(&mut bench, 1);
        assert_eq!(bench.role(), Role::Primary);
        // A better one needs no dice: it will not yield in turn.
        let mut bench = daemon_after(Role::Secondary, Role::Primary);
        bench.handshake(B, 99);
        bench.worker_ends();
        complain(&mut bench, 4);
        assert_eq!(bench.role(), Role::Primary);
    }

    #[test]
    fn a_worker_that_waits_to_be_started_again_does_not_delay_it() {
        let mut bench = daemon(Role::Secondary);
        bench.worker_exits(WorkerExit::Signal(9));
        bench.take();
        complain(&mut bench, 4);
        assert_eq!(bench.started()[0].1.role, Role::Primary);
    }
}

mod workers {
    use super::*;

    #[test]
    fn one_that_is_killed_or_ends_with_75_is_started_again_after_a_second() {
        for exit in [WorkerExit::Signal(9), WorkerExit::Signal(6), WorkerExit::Code(75), WorkerExit::Code(0)] {
            for role in [Role::Primary, Role::Secondary, Role::Watchdog] {
                let mut bench = daemon(role);
                bench.worker_exits(exit.clone());
                bench.wait(s(1) - ms(1));
                assert_eq!((bench.role(), bench.started().len()), (role, 0), "{exit:?}");
                bench.wait(ms(1));
                assert_eq!((bench.started()[0].1.role, bench.started()[0].1.changed_from), (role, None));
            }
        }
    }

    #[test]
    fn one_that_cannot_be_started_is_tried_again_after_a_second_and_tells_the_role_then() {
        let mut bench = daemon(Role::Primary);
        for (why, told) in [("no memory", 1), ("no memory", 0), ("no descriptors", 1)] {
            bench.worker_exits(WorkerExit::NotStarted(why.to_string()));
            let events = bench.told();
            assert!(events.iter().all(|event| matches!(event, Event::WorkerNotStarted { .. })));
            assert_eq!(events.len(), told, "the same reason is told once: {events:?}");
            bench.take();
            bench.wait(s(1));
            assert_eq!(bench.started()[0].1.changed_from, Some(Role::Init));
        }
    }

    #[test]
    fn any_other_end_leads_back_to_the_previous_role() {
        for (previous, role) in
            [(Role::Init, Role::Primary), (Role::Secondary, Role::Primary), (Role::Init, Role::Watchdog)]
        {
            let mut bench = daemon_after(previous, role);
            report(&mut bench, State::Stopped);
            bench.worker_exits(WorkerExit::Code(70));
            assert_eq!(bench.role(), previous);
        }
    }

    #[test]
    fn one_that_says_nothing_for_heartbeats_is_told_once_and_so_is_its_return() {
        // A watchdog's may sleep for three.
        for (role, limit) in [(Role::Primary, s(3)), (Role::Secondary, s(3)), (Role::Watchdog, s(6))] {
            let mut bench = daemon(role);
            bench.worker_begins();
            bench.take();
            for _ in 0..5 {
                bench.wait(limit - ms(1));
                report(&mut bench, State::Stopped);
            }
            assert_eq!(bench.told(), []);
            bench.wait(limit - ms(1));
            assert_eq!(bench.told(), []);
            bench.wait(s(60));
            assert_eq!(bench.told(), [Event::WorkerStuck { silent_for: limit }]);
            assert!(bench.daemon.resources()[0].stuck_for(bench.now).is_some());
            bench.take();
            report(&mut bench, State::Stopped);
            assert_eq!(bench.told(), [Event::WorkerBack]);
            assert_eq!(bench.daemon.resources()[0].stuck_for(bench.now), None);
        }
    }

    #[test]
    fn failing_makes_nobody_primary() {
        let mut bench = daemon_after(Role::Primary, Role::Watchdog);
        bench.worker_exits(WorkerExit::Code(70));
        assert_eq!(bench.role(), Role::Secondary);
        let mut bench = daemon_after(Role::Primary, Role::Secondary);
        bench.worker_exits(WorkerExit::Code(70));
        assert_eq!(bench.role(), Role::Secondary);
        bench.take();
        bench.wait(s(1));
        assert_eq!(bench.started()[0].1.role, Role::Secondary);
    }

    #[test]
    fn news_of_a_worker_that_is_no_more_change_nothing() {
        let mut bench = daemon(Role::Secondary);
        let old = bench.worker();
        bench.worker_exits(WorkerExit::Signal(9));
        bench.wait(s(1));
        bench.take();
        bench.give(Input::WorkerExited(old, WorkerExit::Code(70)));
        bench.give(Input::WorkerStarted(old, 4711));
        bench.give(Input::PrimaryGone(old, LinkId(1)));
        bench.give(Input::Report(
            old,
            Report {
                state: State::Run,
                attempts: 9,
                remotes: Vec::new(),
                complaints: 0,
                lease: None,
                lateness: None,
                statuses: Vec::new(),
            },
        ));
        assert!(bench.take().is_empty());
        assert_eq!(bench.daemon.resources()[0].report(), None);
    }

    #[test]
    fn what_a_dead_primary_has_left_running_is_stopped_when_no_other_worker_will() {
        for role in [Role::Init, Role::Watchdog] {
            let mut bench = daemon(Role::Primary);
            report(&mut bench, State::Run);
            bench.worker_exits(WorkerExit::Signal(9));
            bench.take();
            bench.set_role(role);
            let [(_, cleaner)] = &bench.started()[..] else { panic!("{:?}", bench.actions) };
            // A secondary never starts it, and one that is told to leave stops what it is not sure of.
            assert_eq!((cleaner.role, cleaner.changed_from), (Role::Secondary, None));
            assert!(matches!(bench.orders()[..], [Order::Leave { .. }]));
            bench.take();
            bench.worker_ends();
            assert_eq!((bench.started()[0].1.role, bench.started()[0].1.changed_from), (role, Some(Role::Primary)));
        }
    }

    #[test]
    fn what_a_dead_primary_has_left_running_is_stopped_before_the_daemon_exits() {
        let mut bench = daemon(Role::Primary);
        report(&mut bench, State::Run);
        bench.worker_exits(WorkerExit::Signal(9));
        bench.take();
        bench.give(Input::Stop);
        assert_eq!((bench.started().len(), bench.exits()), (1, false));
        bench.worker_ends();
        assert!(bench.exits());
    }

    #[test]
    fn one_that_dies_while_it_stops_the_resource_is_followed_by_another_and_then_it_is_said_loudly() {
        let mut bench = daemon(Role::Primary);
        report(&mut bench, State::Run);
        bench.give(Input::Stop);
        for _ in 0..MAX_LAST_WORKERS {
            bench.take();
            bench.worker_exits(WorkerExit::Signal(9));
            assert!(matches!(bench.told()[..], [Event::WorkerDied { then: WorkerNext::Restart, .. }]));
            bench.wait(RESTART_PAUSE - ms(1));
            assert_eq!((bench.started().len(), bench.exits()), (0, false));
            bench.wait(ms(1));
            let [(id, follower)] = &bench.started()[..] else { panic!("{:?}", bench.actions) };
            assert_eq!((follower.role, follower.changed_from), (Role::Secondary, None));
            let leaves =
                |action: &Action| matches!(action, Action::Order { id: of, order: Order::Leave { .. } } if of == id);
            assert!(bench.actions.iter().any(leaves));
            assert!(!bench.exits());
        }
        bench.take();
        bench.worker_exits(WorkerExit::Signal(9));
        bench.wait(RESTART_PAUSE);
        assert_eq!((bench.started().len(), bench.exits()), (0, true));
        assert!(matches!(bench.told()[..], [Event::WorkerDied { .. }, Event::MayStillRun]));
    }

    #[test]
    fn the_last_worker_is_one_of_three_only_while_the_daemon_or_the_resource_goes() {
        let mut bench = daemon(Role::Primary);
        report(&mut bench, State::Run);
        bench.set_role(Role::Init);
        for _ in 0..10 {
            bench.take();
            bench.worker_exits(WorkerExit::Signal(9));
            bench.wait(RESTART_PAUSE);
            assert_eq!((bench.started().len(), bench.started()[0].1.role), (1, Role::Secondary));
        }
        bench.worker_ends();
        assert_eq!(bench.started().last().unwrap().1.role, Role::Init);
    }

    /// A primary whose `stop` has failed for the last time, in a role in which nobody looks after the resource.
    fn not_stopped(role: Role) -> DaemonBench {
        let mut bench = daemon(Role::Primary);
        report(&mut bench, State::Run);
        bench.set_role(role);
        report(&mut bench, State::Failed);
        bench.take();
        bench.worker_ends();
        bench
    }

    #[test]
    fn what_could_not_be_stopped_is_stopped_again_at_every_heartbeat_until_that_works() {
        for role in [Role::Init, Role::Watchdog] {
            let mut bench = not_stopped(role);
            for _ in 0..10 {
                assert_eq!(bench.started().len(), 0);
                bench.take();
                bench.wait(s(1));
                let [(id, follower)] = &bench.started()[..] else { panic!("{:?}", bench.actions) };
                assert_eq!((follower.role, follower.changed_from), (Role::Secondary, None));
                let leaves = |action: &Action| matches!(action, Action::Order { id: of, order: Order::Leave { .. } } if of == id);
                assert!(bench.actions.iter().any(leaves));
                report(&mut bench, State::Failed);
                bench.take();
                bench.worker_ends();
            }
            bench.wait(s(1));
            report(&mut bench, State::Stopped);
            bench.take();
            bench.worker_ends();
            assert_eq!((bench.started()[0].1.role, bench.started()[0].1.changed_from), (role, Some(Role::Primary)));
        }
    }

    #[test]
    fn what_could_not_be_stopped_is_found_by_the_worker_of_a_role_that_looks_after_it() {
        for role in [Role::Primary, Role::Secondary] {
            let mut bench = not_stopped(Role::Init);
            bench.take();
            bench.set_role(role);
            let [(_, started)] = &bench.started()[..] else { panic!("{:?}", bench.actions) };
            assert_eq!(started.role, role);
            assert!(bench.orders().is_empty());
        }
    }

    #[test]
    fn what_could_not_be_stopped_is_tried_by_one_more_worker_when_the_daemon_ends() {
        let mut bench = not_stopped(Role::Init);
        bench.take();
        bench.give(Input::Stop);
        assert_eq!((bench.started().len(), bench.exits()), (1, false));
        report(&mut bench, State::Failed);
        bench.worker_ends();
        assert!(bench.exits());
    }

    #[test]
    fn a_dead_worker_whose_resource_was_found_stopped_since_needs_no_other() {
        let mut bench = daemon(Role::Primary);
        report(&mut bench, State::Run);
        bench.worker_exits(WorkerExit::Signal(9));
        bench.set_role(Role::Secondary);
        report(&mut bench, State::Stopped);
        bench.take();
        bench.set_role(Role::Init);
        bench.worker_ends();
        assert_eq!(bench.started()[0].1.role, Role::Init);
    }
}

mod reload {
    use super::*;

    fn changed() -> Event {
        Event::Reloaded { changes: "1 changed (r), 0 as before".to_string() }
    }

    #[test]
    fn the_same_settings_change_nothing() {
        for role in Role::ALL {
            let mut bench = daemon(role);
            bench.reload(config(""));
            let told = bench.told();
            assert!(matches!(bench.take()[..], [Action::Adopt, Action::Event(None, _)]));
            assert_eq!(told, [Event::Reloaded { changes: "1 as before".to_string() }]);
        }
    }

    #[test]
    fn new_settings_go_to_the_worker_which_goes_on() {
        let mut bench = daemon(Role::Primary);
        let worker = bench.worker();
        bench.reload(config("timeout 3"));
        assert_eq!(bench.told(), [Event::Reconfigured { restart: false }, changed()]);
        assert!(matches!(&bench.orders()[..], [Order::Reconfigure(settings)] if settings.timeout == s(3)));
        assert_eq!(bench.worker(), worker);
    }

    #[test]
    fn a_new_script_ends_the_worker_with_the_old_one_and_starts_it_with_the_new_one() {
        for role in [Role::Primary, Role::Secondary, Role::Watchdog] {
            let mut bench = daemon(role);
            bench.reload(config("exec /other"));
            assert_eq!(bench.told(), [Event::Reconfigured { restart: true }, changed()]);
            // The next worker has another script, which does not find what this one may leave.
            assert!(matches!(&bench.orders()[..], [Order::Leave { .. }]));
            bench.worker_ends();
            let started = &bench.started()[0].1;
            assert_eq!((started.role, started.changed_from, &*started.resource.exec), (role, None, "/other"));
        }
    }

    #[test]
    fn a_worker_is_told_whether_there_are_friends_and_not_who() {
        let many = "friends 10.0.0.7 10.0.0.8 10.0.0.9";
        let mut bench = DaemonBench::new(many);
        bench.set_role(Role::Primary);
        assert_eq!(bench.started()[0].1.resource.friends.len(), 1);
        bench.reload(config(&alloc::format!("{many} timeout 3")));
        assert!(matches!(&bench.orders()[..], [Order::Reconfigure(settings)] if settings.friends.len() == 1));
        assert_eq!(bench.daemon.resources()[0].settings().friends.len(), 3);
    }

    #[test]
    fn settings_that_change_while_a_worker_ends_are_those_of_the_next_one() {
        let mut bench = daemon(Role::Primary);
        bench.set_role(Role::Secondary);
        bench.reload(config("timeout 3"));
        bench.worker_ends();
        assert_eq!(bench.started()[0].1.resource.timeout, s(3));
    }

    #[test]
    fn new_counts_hold_for_the_next_complaint() {
        let mut bench = daemon(Role::Secondary);
        complain(&mut bench, 2);
        bench.reload(config("complaint_count 1"));
        complain(&mut bench, 1);
        assert_eq!(bench.role(), Role::Primary);
    }
}
