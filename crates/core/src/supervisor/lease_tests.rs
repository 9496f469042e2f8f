//! The daemon's side of one resource with the lease.

use super::*;
use crate::lease::Kind;
use crate::lease::Terms;
use crate::testing::lease::lease_config;
use crate::testing::{DaemonBench, RESOURCE, ms, s};
use crate::worker::LeaseReport;

const TERMS: Terms = Terms { lease: Duration::from_secs(3), stop: Duration::from_secs(1) };

fn held(bench: &DaemonBench) -> LeaseReport {
    LeaseReport {
        epoch: Some(1),
        until: Some(bench.now + s(3)),
        is_forced: false,
        in_reach: 3,
        votes: 3,
        voters: 3,
        waits: None,
        highest: 0,
        in_force: Vec::new(),
        runs_until: Some(bench.now + s(3)),
        kept: 0,
        know: Vec::new(),
    }
}

fn of(role: Role, here: &str, inside: &str) -> DaemonBench {
    let mut bench = DaemonBench::with_lease(here, inside);
    bench.set_role(role);
    let state = match role {
        Role::Primary => State::Run,
        _ => State::Stopped,
    };
    let lease = (role == Role::Primary).then(|| held(&bench));
    bench.reports(state, lease);
    bench.take();
    bench
}

/// Time passes, and the worker reports at every heartbeat.
fn wait(bench: &mut DaemonBench, heartbeats: u32, state: State) {
    for _ in 0..heartbeats {
        bench.wait(s(1));
        let lease = (bench.role() == Role::Primary).then(|| held(bench));
        bench.reports(state, lease);
    }
}

fn released_by(node: &str, successor: Option<&str>) -> Release {
    let successor = successor.map(ToString::to_string);
    Release { node: node.to_string(), epoch: 1, successor, reserve: s(2), was_held: true }
}

fn release(node: &str, successor: Option<&str>) -> Said {
    Said::Release(released_by(node, successor))
}

fn complain(bench: &mut DaemonBench, conn: ConnId, released: bool) {
    bench.said(conn, &Said::Complaint { released });
}

#[test]
fn who_only_stops_what_was_left_running_knows_that_a_lease_is_running_out() {
    let mut bench = of(Role::Primary, "", "");
    bench.worker_exits(WorkerExit::Signal(9));
    bench.take();
    bench.set_role(Role::Init);
    let [(_, cleaner)] = &bench.started()[..] else { panic!("{:?}", bench.actions) };
    assert!(
        cleaner.lease.is_none() && cleaner.in_haste,
        "an orphaned call that ignores TERM must not outlast the votes"
    );
}

#[test]
fn a_secondary_is_served_by_a_primary_that_beats_until_that_is_silent() {
    let mut bench = of(Role::Secondary, "", "");
    let b = bench.peer("b", Role::Primary, 100, State::Run);
    assert_eq!(bench.orders(), [Order::ServedBy(Some("tcp4://10.0.0.2".to_string()))]);
    bench.take();
    bench.beat(b, 2, State::Run, None);
    assert!(bench.orders().is_empty());
    bench.wait(ms(1_999));
    assert!(bench.orders().is_empty());
    bench.wait(ms(1));
    assert_eq!(bench.orders(), [Order::ServedBy(None)]);
}

#[test]
fn the_end_of_a_primarys_connection_is_told_at_once() {
    let mut bench = of(Role::Secondary, "", "");
    let b = bench.peer("b", Role::Primary, 100, State::Run);
    bench.take();
    bench.give(crate::daemon::Input::Gone { conn: b, why: None });
    assert_eq!(bench.orders(), [Order::ServedBy(None)]);
}

#[test]
fn enough_complaints_without_a_primary_make_a_secondary_stand() {
    let mut bench = of(Role::Secondary, "", "");
    let c = bench.peer("c", Role::Watchdog, 100, State::Unknown);
    bench.take();
    for _ in 0..3 {
        complain(&mut bench, c, false);
    }
    assert!(!bench.is_told_to_stand());
    complain(&mut bench, c, false);
    assert!(bench.is_told_to_stand());
    assert_eq!(bench.role(), Role::Secondary, "only votes make a primary");
    bench.take();
    bench.peer("b", Role::Primary, 100, State::Run);
    for _ in 0..6 {
        complain(&mut bench, c, false);
    }
    assert!(!bench.is_told_to_stand(), "a primary is connected");
}

/// The word of the watchdog is quicker than that of the primary.
#[test]
fn a_watchdog_that_tells_of_a_release_before_it_arrives_is_not_forgotten() {
    for (later, stands) in [(ms(1), true), (ms(1_100), false)] {
        let mut bench = of(Role::Secondary, "", "");
        let b = bench.peer("b", Role::Primary, 100, State::Run);
        let c = bench.peer("c", Role::Watchdog, 100, State::Unknown);
        bench.take();
        complain(&mut bench, c, true);
        assert!(bench.orders().is_empty(), "a primary is connected");
        bench.wait(later);
        bench.said(b, &release("b", None));
        assert!(bench.orders().contains(&Order::ServedBy(None)));
        assert_eq!(bench.is_told_to_stand(), stands);
    }
}

#[test]
fn a_lease_that_was_given_back_need_not_be_waited_for() {
    let mut bench = of(Role::Secondary, "", "");
    let c = bench.peer("c", Role::Watchdog, 100, State::Unknown);
    bench.take();
    complain(&mut bench, c, true);
    assert_eq!(bench.orders(), [Order::Stand { highest: 0 }]);
    // Its last holder says so itself.
    let mut bench = of(Role::Secondary, "", "");
    let b = bench.peer("b", Role::Primary, 100, State::Run);
    bench.take();
    bench.said(b, &release("b", Some("a")));
    assert_eq!(bench.orders(), [Order::ServedBy(None), Order::Stand { highest: 0 }]);
    // For another one.
    let mut bench = of(Role::Secondary, "", "");
    let b = bench.peer("b", Role::Primary, 100, State::Run);
    bench.take();
    bench.said(b, &release("b", Some("c")));
    assert_eq!(bench.orders(), [Order::ServedBy(None)]);
}

/// The worker that stands has rested, and heard nothing of the epoch since.
#[test]
fn who_stands_is_told_what_this_node_has_voted_for() {
    let mut bench = of(Role::Secondary, "", "");
    let b = bench.peer("b", Role::Primary, 100, State::Run);
    bench.beat(b, 2, State::Run, Some(DaemonBench::ask_of("b", Kind::Vote, 7)));
    let (id, _) = bench.records().pop().expect("a record is to be written");
    bench.recorded(id, Ok(()));
    bench.take();
    bench.said(b, &Said::Release(Release { epoch: 7, ..released_by("b", Some("a")) }));
    assert_eq!(bench.orders(), [Order::ServedBy(None), Order::Stand { highest: 7 }]);
}

#[test]
fn who_is_named_as_successor_does_not_hold_off_after_failed_starts() {
    for (successor, stands) in [("a", true), ("c", false)] {
        let mut bench = of(Role::Primary, "", "");
        bench.worker_exits(WorkerExit::Farewell(Farewell::GaveUp(GiveUp::StartsFailed(2))));
        bench.reports(State::Stopped, None);
        let b = bench.peer("b", Role::Primary, 100, State::Run);
        bench.take();
        bench.said(b, &release("b", Some(successor)));
        assert_eq!(bench.is_told_to_stand(), stands, "{successor}: {:?}", bench.orders());
        let c = bench.peer("c", Role::Watchdog, 100, State::Unknown);
        (0..9).for_each(|_| complain(&mut bench, c, false));
        let holds_off =
            |event: &Event| matches!(event, Event::ComplaintHeard { stays: Some(StaysSecondary::HoldsOff(_)), .. });
        assert_eq!(bench.told().iter().any(holds_off), !stands, "{successor}");
    }
}

#[test]
fn a_watchdog_hears_of_the_release_and_of_a_primary_that_runs_it() {
    let mut bench = of(Role::Watchdog, "", "");
    let b = bench.peer("b", Role::Primary, 100, State::Starting);
    assert!(bench.orders().is_empty());
    bench.beat(b, 2, State::Run, None);
    assert_eq!(bench.orders(), [Order::PrimaryRuns]);
    bench.take();
    bench.said(b, &release("b", None));
    assert_eq!(bench.orders(), [Order::Released]);
    // The worker takes it for silent, whatever its last report says.
    bench.reports(State::Run, None);
    bench.take();
    bench.peer("c", Role::Primary, 100, State::Run);
    assert_eq!(bench.orders(), [Order::PrimaryRuns]);
}

#[test]
fn a_watchdog_that_has_found_out_by_asking_is_told_as_well() {
    let mut bench = DaemonBench::with_lease("", "");
    bench.set_role(Role::Watchdog);
    bench.take();
    // Before the worker has begun, so that it does not hear it.
    let b = bench.peer("b", Role::Primary, 100, State::Run);
    assert_eq!(bench.orders(), [Order::PrimaryRuns]);
    bench.reports(State::Run, None);
    for (number, told) in [(2, true), (3, false), (4, false)] {
        bench.take();
        bench.beat(b, number, State::Run, None);
        assert_eq!(bench.orders().len(), usize::from(told), "beat {number}");
    }
}

#[test]
fn a_watchdog_is_told_that_a_primary_runs_until_it_knows_and_then_when_it_is_silent() {
    let mut bench = of(Role::Watchdog, "", "");
    let b = bench.peer("b", Role::Primary, 100, State::Run);
    let beat = |bench: &mut DaemonBench, number: u64| {
        bench.take();
        bench.beat(b, number, State::Run, None);
        bench.orders()
    };
    // A worker that has not begun hears no orders.
    assert_eq!(beat(&mut bench, 2), [Order::PrimaryRuns]);
    assert_eq!(beat(&mut bench, 3), [Order::PrimaryRuns]);
    bench.reports(State::Run, None);
    for number in 4..20 {
        assert_eq!(beat(&mut bench, number), []);
        bench.wait(ms(1_400));
        assert_eq!(bench.orders(), [], "late, and not yet silent");
        bench.reports(State::Run, None);
    }
    let since = bench.now;
    assert_eq!(beat(&mut bench, 20), []);
    bench.wait(ms(1_499));
    assert_eq!(bench.orders(), []);
    bench.wait(ms(1));
    let silent = Order::PrimarySilent { since };
    assert_eq!(bench.orders(), [Order::PrimarySilent { since }]);
    // One that has not arrived is repeated.
    bench.wait(s(1));
    assert_eq!(bench.orders(), [silent.clone(), silent]);
    assert_eq!(beat(&mut bench, 21), [Order::PrimaryRuns]);
    bench.wait(ms(1_500));
    bench.reports(State::Unknown, None);
    bench.take();
    bench.wait(s(3));
    assert_eq!(bench.orders(), [], "it knows");
    assert_eq!(beat(&mut bench, 22), [Order::PrimaryRuns]);
}

#[test]
fn a_secondary_whose_worker_has_won_is_primary_with_that_lease() {
    let mut bench = of(Role::Secondary, "", "");
    let grant = Grant { epoch: 5, until: bench.now + s(3), terms: TERMS };
    let id = bench.worker();
    bench.give(crate::daemon::Input::Won(id, grant));
    assert_eq!(bench.role(), Role::Primary);
    assert!(matches!(&bench.orders()[..], [Order::End { hurry: true, .. }]));
    bench.worker_ends();
    let (_, assignment) = bench.started().pop().unwrap();
    assert_eq!((assignment.role, assignment.lease.unwrap().grant), (Role::Primary, Some(grant)));
}

#[test]
fn a_secondary_that_is_served_again_gives_back_what_it_has_won() {
    let mut bench = of(Role::Secondary, "", "");
    bench.peer("b", Role::Primary, 100, State::Run);
    bench.take();
    let grant = Grant { epoch: 5, until: bench.now + s(3), terms: TERMS };
    let id = bench.worker();
    bench.give(crate::daemon::Input::Won(id, grant));
    assert_eq!(bench.role(), Role::Secondary);
    assert!(matches!(&bench.orders()[..], [Order::ServedBy(Some(_))]));
}

/// The worker had heard of a primary before the daemon heard that it has won, and then the daemon lost that primary.
#[test]
fn a_lease_that_was_won_and_given_back_is_not_handed_to_the_next_worker() {
    let mut bench = of(Role::Secondary, "", "");
    let grant = Grant { epoch: 5, until: bench.now + s(3), terms: TERMS };
    let id = bench.worker();
    bench.give(crate::daemon::Input::Won(id, grant));
    let release = Release { node: "a".to_string(), epoch: 5, successor: None, reserve: s(2), was_held: true };
    bench.give(crate::daemon::Input::Released(id, release));
    bench.worker_ends();
    let (_, assignment) = bench.started().pop().unwrap();
    assert_eq!((assignment.role, assignment.lease.unwrap().grant), (Role::Primary, None));
}

#[test]
fn a_holder_yields_to_a_better_primary_and_names_it_as_successor() {
    let mut bench = of(Role::Primary, "priority 50", "");
    bench.peer("c", Role::Primary, 60, State::Stopped);
    assert_eq!(bench.role(), Role::Primary, "a worse one does not get it");
    bench.peer("b", Role::Primary, 50, State::Stopped);
    assert_ne!(bench.role(), Role::Primary);
    let successor = bench.orders().into_iter().find_map(|order| match order {
        Order::End { successor, .. } => successor,
        _ => None,
    });
    assert_eq!(successor.as_deref(), Some("b"));
}

#[test]
fn a_primary_without_the_lease_does_not_yield() {
    let mut bench = of(Role::Primary, "priority 50", "");
    bench.reports(State::Stopped, Some(LeaseReport { epoch: None, until: None, ..held(&bench) }));
    bench.peer("b", Role::Primary, 1, State::Stopped);
    assert_eq!(bench.role(), Role::Primary);
}

#[test]
fn force_is_told_and_reaches_the_worker_in_every_role() {
    let force = |bench: &mut DaemonBench| {
        let resources = Vec::from([RESOURCE.to_string()]);
        bench.control(&crate::wire::request::Request::SetRole { role: Role::Primary, resources, force: true });
    };
    let mut bench = of(Role::Primary, "", "");
    force(&mut bench);
    assert_eq!(bench.orders(), [Order::Force]);
    for role in [Role::Init, Role::Secondary, Role::Watchdog] {
        let mut bench = DaemonBench::with_lease("", "");
        bench.set_role(role);
        bench.take();
        force(&mut bench);
        assert!(bench.told().contains(&Event::Forced), "{role}");
        if role != Role::Init {
            bench.worker_ends();
        }
        let (_, assignment) = bench.started().pop().unwrap();
        assert!(assignment.role == Role::Primary && assignment.lease.unwrap().force, "{role}");
        // The word of the operator was for that one.
        bench.take();
        bench.wait(s(2));
        bench.worker_exits(WorkerExit::Signal(11));
        bench.wait(s(2));
        let (_, assignment) = bench.started().pop().unwrap();
        assert!(!assignment.lease.unwrap().force, "{role}");
    }
}

#[test]
fn a_primarys_worker_that_is_frozen_is_killed_before_its_lease_ends() {
    let mut bench = of(Role::Primary, "", "");
    let killed = |bench: &DaemonBench| bench.actions.iter().any(|action| matches!(action, Action::KillWorker(_)));
    bench.worker_begins();
    wait(&mut bench, 5, State::Run);
    assert!(!killed(&bench));
    bench.wait(ms(2_499));
    assert!(!killed(&bench));
    bench.wait(ms(1));
    assert!(killed(&bench));
    assert!(bench.told().contains(&Event::WorkerKilled(WorkerFault::Silent)));
    bench.take();
    bench.wait(s(20));
    assert!(!killed(&bench), "once is enough, however long it takes to be gone");
    bench.worker_exits(WorkerExit::Signal(9));
    bench.wait(ms(1));
    assert_eq!(bench.started().len(), 1, "another one takes its place at once");
    bench.worker_begins();
    wait(&mut bench, 1, State::Run);
    bench.take();
    bench.wait(ms(2_500));
    assert!(killed(&bench), "the next one, too");
}

#[test]
fn a_primarys_worker_that_waits_for_its_process_is_not_killed_and_not_called_silent() {
    let mut bench = of(Role::Primary, "", "");
    let killed = |bench: &DaemonBench| bench.actions.iter().any(|action| matches!(action, Action::KillWorker(_)));
    bench.wait(LONGEST_START - ms(1));
    assert_eq!(bench.told(), []);
    bench.wait(ms(1));
    assert_eq!(
        bench.told(),
        [Event::WorkerStuck { silent_for: LONGEST_START }],
        "something keeps it from being started"
    );
    bench.wait(s(60));
    assert!(!killed(&bench), "another one would wait again");
    bench.worker_begins();
    wait(&mut bench, 1, State::Run);
    bench.take();
    bench.wait(ms(2_500));
    assert!(killed(&bench), "it has its process, and stands still");
}

#[test]
fn a_worker_that_is_told_to_end_before_it_has_its_process_gets_all_its_time_from_then_on() {
    let mut bench = of(Role::Secondary, "", "");
    let killed = |bench: &DaemonBench| bench.actions.iter().any(|action| matches!(action, Action::KillWorker(_)));
    let budget = end_budget(bench.daemon.resources()[0].settings());
    bench.set_role(Role::Watchdog);
    bench.wait(budget - ms(1));
    bench.worker_begins();
    bench.wait(budget - ms(1));
    assert!(!killed(&bench));
    bench.wait(ms(1));
    assert!(killed(&bench));
}

#[test]
fn a_secondarys_worker_that_is_silent_is_only_told_of() {
    let mut bench = of(Role::Secondary, "", "");
    bench.worker_begins();
    bench.wait(s(10));
    assert!(!bench.actions.iter().any(|action| matches!(action, Action::KillWorker(_))));
    assert!(bench.told().iter().any(|event| matches!(event, Event::WorkerStuck { .. })));
}

#[test]
fn the_worker_gets_the_verdict_of_the_voter_here_when_it_is_on_disk() {
    let mut bench = of(Role::Primary, "", "");
    let id = bench.worker();
    bench.give(crate::daemon::Input::Asked(id, DaemonBench::ask_of("a", Kind::Vote, 3)));
    assert!(bench.orders().is_empty());
    let (record, _) = bench.records().pop().unwrap();
    bench.recorded(record, Ok(()));
    assert!(
        matches!(&bench.orders()[..], [Order::Verdict(verdict)] if verdict.refused.is_none() && verdict.round == 3)
    );
    bench.take();
    let free = Release { node: "a".to_string(), epoch: 3, successor: None, reserve: s(2), was_held: true };
    bench.give(crate::daemon::Input::Released(id, free));
    assert_eq!(bench.records().last().unwrap().1.hold, Duration::ZERO);
}

#[test]
fn a_resource_that_leaves_takes_no_new_node_and_closes_its_connections() {
    let mut bench = of(Role::Secondary, "", "");
    let b = bench.peer("b", Role::Secondary, 100, State::Stopped);
    bench.give(crate::daemon::Input::Stop);
    let c = bench.hello("c", DaemonBench::hello_of("c", Role::Secondary, 1));
    assert!(!bench.is_welcome(c));
    bench.worker_ends();
    assert!(bench.is_closed(b) && bench.exits());
}

#[test]
fn every_word_in_every_role_and_stage_has_a_defined_result() {
    let longest = Duration::from_micros(u64::MAX);
    let voters = crate::lease::Voters::new(["a", "b", "c"].map(String::from)).digest();
    let beat = |kind| {
        let hold = longest;
        let ask = Ask { node: "b".to_string(), kind, epoch: u64::MAX, hold, round: u64::MAX, voters, kept: false };
        let (seq, state, ask) = (u64::MAX, State::Run, Some(ask));
        Said::Beat { seq, state, voters: 0, ask, shared: None, pause: None, votes_kept: u32::MAX }
    };
    let words = [
        beat(Kind::Vote),
        beat(Kind::Renew),
        Said::Beat { seq: 0, state: State::Failed, voters, ask: None, shared: None, pause: None, votes_kept: 0 },
        Said::Complaint { released: false },
        Said::Complaint { released: true },
        Said::Release(Release {
            node: "b".to_string(),
            epoch: u64::MAX,
            successor: Some("a".to_string()),
            reserve: longest,
            was_held: true,
        }),
        Said::Release(Release { node: "b".to_string(), epoch: 0, successor: None, reserve: longest, was_held: false }),
        Said::Fenced { node: "b".to_string(), epoch: u64::MAX },
        Said::Fenced { node: "c".to_string(), epoch: 0 },
    ];
    for role in Role::ALL {
        for theirs in Role::ALL {
            for stage in 0..4 {
                for word in &words {
                    let mut bench = DaemonBench::without_record(lease_config(&["b", "c"], "", ""));
                    if stage > 0 {
                        bench.give(crate::daemon::Input::RecordFound {
                            resource: RESOURCE.to_string(),
                            found: Ok(None),
                        });
                    }
                    bench.set_role(role);
                    if stage > 1 && role != Role::Init {
                        bench.reports(State::Run, Some(held(&bench)));
                    }
                    if stage > 2 && role != Role::Init {
                        bench.set_role(Role::Init);
                    }
                    let b = bench.peer("b", theirs, i32::MIN, State::Run);
                    bench.said(b, word);
                    for (id, _) in bench.records() {
                        bench.recorded(id, Ok(()));
                    }
                    bench.wait(s(20));
                    assert!(!bench.lines().is_empty());
                }
            }
        }
    }
}
