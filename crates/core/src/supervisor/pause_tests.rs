//! The main daemon of node `a` while a resource is paused.

use crate::config::Config;
use crate::daemon::{Action, ConnId, Daemon, Input, PeerProtocol};
use crate::event::Event;
use crate::lease::record::Record;
use crate::lease::{FOR_EVER, Voters};
use crate::pause::{Pause, PauseRecord, Paused};
use crate::supervisor::WorkerExit;
use crate::testing::lease::lease_config;
use crate::testing::{DaemonBench, RESOURCE, ms, s};
use crate::time::{Duration, Instant};
use crate::types::{Role, State};
use crate::wire::peer::Said;
use crate::wire::reply::{Entry, PauseReply, Reply, RoleReply, SwitchoverReply};
use crate::wire::request::Request;
use crate::worker::{LeaseReport, Order};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

fn lease(kept: u32, runs_until: Option<Instant>) -> LeaseReport {
    LeaseReport {
        epoch: Some(1),
        until: runs_until,
        is_forced: false,
        in_reach: 3,
        votes: 3,
        voters: 3,
        waits: None,
        highest: 1,
        in_force: Vec::new(),
        runs_until,
        kept,
        know: Vec::from(["b", "c"].map(String::from)),
    }
}

fn primary() -> DaemonBench {
    let mut bench = DaemonBench::with_lease("", "");
    bench.set_role(Role::Primary);
    let until = Some(bench.now + s(3));
    bench.reports(State::Run, Some(lease(0, until)));
    bench.take();
    bench
}

fn pause(bench: &mut DaemonBench, span: Option<Duration>) -> ConnId {
    bench.control(&Request::Pause { resources: Vec::from([RESOURCE.to_string()]), by: "root".to_string(), span })
}

fn resume(bench: &mut DaemonBench) -> ConnId {
    bench.control(&Request::Resume { resources: Vec::from([RESOURCE.to_string()]) })
}

fn written(bench: &DaemonBench) -> Vec<(u64, PauseRecord)> {
    let record = |action: &Action| match action {
        Action::RecordPause { id, record } => Some((*id, record.clone())),
        _ => None,
    };
    bench.actions.iter().filter_map(record).collect()
}

fn on_disk(bench: &mut DaemonBench) -> PauseRecord {
    let (id, record) = written(bench).pop().unwrap();
    bench.give(Input::PauseRecorded { resource: RESOURCE.to_string(), id, result: Ok(()) });
    record
}

fn answer(bench: &DaemonBench, conn: ConnId) -> Option<Result<String, String>> {
    Some(PauseReply::decode(&bench.reply_to(conn)?.0).unwrap().entries.remove(0))
}

fn pause_of(version: u64, node: &str, is_paused: bool, left: Option<Duration>) -> Pause {
    let paused = is_paused.then(|| Paused { by: "root".to_string(), since_unix_s: 0, left });
    Pause { version, node: node.to_string(), paused }
}

fn started(config: Config, found: PauseRecord) -> DaemonBench {
    let mut bench = DaemonBench::without_record(config.clone());
    let now = bench.now;
    let (daemon, actions) = Daemon::with_pauses(now, config, PeerProtocol::Lease, 1, Vec::from([found]));
    (bench.daemon, bench.actions) = (daemon, actions);
    bench.give(Input::RecordFound { resource: RESOURCE.to_string(), found: Ok(None) });
    bench
}

fn found(pause: Pause, role: Role, kept: bool) -> PauseRecord {
    PauseRecord { resource: RESOURCE.to_string(), pause, role, kept }
}

#[test]
fn the_operator_is_answered_when_it_is_on_disk_and_all_votes_are_kept() {
    let mut bench = primary();
    let conn = pause(&mut bench, None);
    let order = bench.orders().pop();
    assert!(
        matches!(order, Some(Order::Pause(pause)) if pause.version == 1 && pause.node == "a" && pause.paused.is_some())
    );
    assert_eq!(on_disk(&mut bench).role, Role::Primary);
    assert_eq!(answer(&bench, conn), None);
    bench.reports(State::Run, Some(lease(3, Some(FOR_EVER))));
    assert_eq!(answer(&bench, conn), None, "after a restart it must be known that the votes are kept");
    assert!(on_disk(&mut bench).kept);
    let text = answer(&bench, conn).unwrap().unwrap();
    assert!(text.starts_with("r is paused by root on a since "), "{text}");
    assert!(text.ends_with("; on a b c; hastmon on its primary a may be stopped: 3 of 3 votes are kept"), "{text}");
}

#[test]
fn with_a_minority_of_kept_votes_the_operator_is_warned_in_the_end() {
    let mut bench = primary();
    let conn = pause(&mut bench, None);
    on_disk(&mut bench);
    let until = Some(bench.now + s(3));
    bench.reports(State::Run, Some(LeaseReport { know: Vec::new(), ..lease(1, until) }));
    bench.wait(s(10));
    let text = answer(&bench, conn).unwrap().unwrap_err();
    for part in [
        "do NOT stop hastmon on its primary a",
        "only 1 of 3 votes",
        "not reached, and will hear of it when it is: b c",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_pause_that_cannot_be_recorded_is_an_error() {
    let mut bench = primary();
    let conn = pause(&mut bench, None);
    let (id, _) = written(&bench).pop().unwrap();
    bench.give(Input::PauseRecorded { resource: RESOURCE.to_string(), id, result: Err("no room".to_string()) });
    assert!(answer(&bench, conn).unwrap().unwrap_err().contains("no room"));
    assert!(bench.told().iter().any(|event| matches!(event, Event::PauseNotRecorded { .. })));
}

#[test]
fn while_it_is_paused_roles_and_switchovers_are_refused_and_the_pause_is_named() {
    let mut bench = primary();
    pause(&mut bench, None);
    let role = bench.set_role(Role::Secondary);
    let outcome = RoleReply::decode(&bench.reply_to(role).unwrap().0).unwrap();
    assert!(matches!(outcome, Reply::Entries(entries) if matches!(entries[0], Entry { outcome: Err(6), .. })));
    let forced = Request::SetRole { role: Role::Primary, resources: Vec::from([RESOURCE.to_string()]), force: true };
    bench.control(&forced);
    assert!(!bench.orders().contains(&Order::Force));
    let conn = bench.control(&Request::Switchover { resource: RESOURCE.to_string(), to: None });
    let why = SwitchoverReply::decode(&bench.reply_to(conn).unwrap().0).unwrap().outcome.unwrap_err();
    assert!(why.contains("paused by root on a since") && why.contains("hastmonctl resume r first"), "{why}");
    assert_eq!(bench.role(), Role::Primary);
}

#[test]
fn what_a_primary_was_to_stop_before_the_pause_is_stopped_though_its_worker_is_killed() {
    for stops_for_a_role in [true, false] {
        let mut bench = primary();
        if stops_for_a_role {
            bench.set_role(Role::Secondary);
        }
        pause(&mut bench, None);
        bench.worker_exits(WorkerExit::Signal(9));
        bench.wait(s(2));
        let (_, next) = bench.started().pop().unwrap();
        assert_eq!(next.role, if stops_for_a_role { Role::Secondary } else { Role::Primary });
        assert_eq!(next.lease.unwrap().must_stop, stops_for_a_role);
    }
}

#[test]
fn a_secondary_stops_what_its_node_had_voted_for_before_daemon_and_worker_were_killed() {
    // Its own vote, not kept; given back; kept; another node's.
    for (holder, hold, kept, stops) in
        [("a", s(6), false, true), ("a", s(0), false, false), ("a", s(6), true, false), ("b", s(6), false, false)]
    {
        let config = lease_config(&["b", "c"], "", "");
        let mut bench = DaemonBench::without_record(config.clone());
        let record = found(pause_of(3, "b", true, None), Role::Secondary, false);
        let (daemon, actions) = Daemon::with_pauses(bench.now, config, PeerProtocol::Lease, 1, Vec::from([record]));
        (bench.daemon, bench.actions) = (daemon, actions);
        let voters = Voters::new(["a", "b", "c"].map(String::from));
        let vote = Record { holder: holder.to_string(), epoch: 2, hold, voters, kept };
        bench.give(Input::RecordFound { resource: RESOURCE.to_string(), found: Ok(Some(vote)) });
        assert_eq!(bench.orders().contains(&Order::MustStop), stops, "{holder} {hold:?} {kept}");
        // One that dies is followed by one that knows.
        bench.worker_exits(WorkerExit::Signal(9));
        bench.wait(s(2));
        let (_, next) = bench.started().pop().unwrap();
        assert_eq!(next.lease.unwrap().must_stop, stops);
    }
}

#[test]
fn what_is_being_switched_over_is_not_paused_before_it_runs_again() {
    let mut bench = primary();
    bench.control(&Request::Switchover { resource: RESOURCE.to_string(), to: None });
    let conn = pause(&mut bench, None);
    let why = answer(&bench, conn).unwrap().unwrap_err();
    assert!(why.contains("is being switched over"), "{why}");
    assert!(written(&bench).is_empty() && !bench.daemon.resources()[0].is_paused());
}

#[test]
fn complaints_and_released_leases_lead_to_nothing_while_it_is_paused_and_are_forgotten_after_it() {
    let mut bench = DaemonBench::with_lease("", "");
    bench.set_role(Role::Secondary);
    bench.reports(State::Stopped, None);
    let c = bench.peer("c", Role::Watchdog, 100, State::Unknown);
    pause(&mut bench, None);
    for released in [false, false, false, false, false, true] {
        bench.said(c, &Said::Complaint { released });
    }
    assert!(!bench.is_told_to_stand());
    resume(&mut bench);
    bench.said(c, &Said::Complaint { released: false });
    assert!(!bench.is_told_to_stand(), "those of before do not count");
    for _ in 0..3 {
        bench.said(c, &Said::Complaint { released: false });
    }
    assert!(bench.is_told_to_stand());
}

#[test]
fn the_highest_version_holds_wherever_it_comes_from() {
    let mut bench = primary();
    pause(&mut bench, None);
    let b = bench.peer("b", Role::Secondary, 100, State::Stopped);
    bench.take();
    let voters = crate::lease::Voters::new(["a", "b", "c"].map(String::from)).digest();
    let beat = |seq, pause| Said::Beat {
        seq,
        state: State::Stopped,
        voters,
        ask: None,
        shared: None,
        pause: Some(pause),
        votes_kept: 0,
    };
    bench.said(b, &beat(2, pause_of(1, "A", false, None)));
    assert!(bench.orders().is_empty(), "of one version that of the higher name holds");
    assert_eq!(bench.heard(b)[0].pause.as_ref().unwrap().node, "a");
    bench.said(b, &beat(3, pause_of(2, "b", false, None)));
    assert_eq!(bench.orders(), [Order::Pause(pause_of(2, "b", false, None))]);
    assert!(bench.told().contains(&Event::Resumed { node: "b".to_string() }));
    let id = bench.worker();
    bench.give(Input::PauseHeard(id, pause_of(3, "c", true, None)));
    assert!(bench.told().iter().any(|event| matches!(event, Event::Paused(pause) if pause.node == "c")));
    assert_eq!(written(&bench).pop().unwrap().1.pause.version, 3);
}

#[test]
fn a_pause_for_a_time_ends_by_itself_and_one_that_lasts_is_told_of_every_day() {
    let mut bench = primary();
    pause(&mut bench, Some(s(60)));
    bench.take();
    bench.wait(ms(59_999));
    assert!(!bench.orders().iter().any(|order| matches!(order, Order::Pause(_))));
    bench.wait(ms(1));
    assert!(bench.told().contains(&Event::PauseEnded));
    assert!(bench.orders().contains(&Order::Pause(pause_of(2, "a", false, None))));
    pause(&mut bench, None);
    bench.take();
    bench.wait(s(2 * 24 * 3600));
    let told = bench.told();
    let long: Vec<_> = told.iter().filter(|event| matches!(event, Event::PausedTooLong(_))).collect();
    assert!(long.len() == 2 && long.iter().all(|event| event.is_for_notify()), "{long:?}");
}

#[test]
fn a_daemon_that_stops_while_it_is_paused_lets_its_workers_leave_things_as_they_are() {
    let mut bench = primary();
    pause(&mut bench, None);
    bench.take();
    bench.give(Input::Stop);
    assert!(matches!(bench.orders()[..], [Order::LeaveRunning { .. }]));
    bench.worker_ends();
    assert!(bench.exits());
    let mut bench = primary();
    pause(&mut bench, None);
    resume(&mut bench);
    bench.take();
    bench.give(Input::Stop);
    assert!(matches!(bench.orders()[..], [Order::Leave { .. }]));
}

#[test]
fn a_daemon_that_starts_takes_up_the_role_that_a_paused_resource_had() {
    let config = || lease_config(&["b", "c"], "role_on_start secondary", "");
    for (kept, keep_until) in [(true, Some(FOR_EVER)), (false, None)] {
        let bench = started(config(), found(pause_of(5, "c", true, None), Role::Primary, kept));
        assert_eq!(bench.role(), Role::Primary);
        let part = bench.started()[0].1.lease.clone().unwrap();
        assert_eq!((part.keep_until, part.pause), (keep_until, pause_of(5, "c", true, None)));
        assert_eq!(bench.line("paused").unwrap(), "by root on c since 1970-01-01 00:00:00 UTC");
        assert_eq!(bench.lines()[0].0, "paused");
    }
    let bench = started(config(), found(pause_of(5, "c", false, None), Role::Primary, true));
    assert_eq!(bench.role(), Role::Secondary);
    assert_eq!(bench.line("paused"), None);
}

#[test]
fn a_pause_whose_time_is_over_at_the_start_ends_with_the_role_that_there_was() {
    let config = lease_config(&["b", "c"], "role_on_start secondary", "");
    let bench = started(config, found(pause_of(5, "c", true, Some(Duration::ZERO)), Role::Primary, true));
    assert_eq!(bench.role(), Role::Primary);
    assert!(bench.told().contains(&Event::PauseEnded));
    assert_eq!(written(&bench).pop().unwrap().1.pause, pause_of(6, "a", false, None));
}

#[test]
fn that_a_majority_keeps_its_votes_is_on_disk_and_so_is_the_end_of_that() {
    let mut bench = primary();
    pause(&mut bench, None);
    assert!(!on_disk(&mut bench).kept);
    bench.reports(State::Run, Some(lease(3, Some(FOR_EVER))));
    assert!(on_disk(&mut bench).kept);
    bench.take();
    bench.reports(State::Run, Some(lease(3, Some(FOR_EVER))));
    assert!(written(&bench).is_empty());
    let until = Some(bench.now + s(3));
    bench.reports(State::Run, Some(lease(1, until)));
    assert!(!on_disk(&mut bench).kept);
}

#[test]
fn a_worker_that_dies_while_votes_are_kept_is_followed_by_one_that_knows_it() {
    let mut bench = primary();
    pause(&mut bench, None);
    bench.reports(State::Run, Some(lease(3, Some(FOR_EVER))));
    bench.wait(s(1));
    bench.take();
    bench.worker_exits(crate::supervisor::WorkerExit::Signal(9));
    bench.wait(s(1));
    let part = bench.started()[0].1.lease.clone().unwrap();
    assert_eq!(part.keep_until, Some(FOR_EVER));
    assert!(part.pause.paused.is_some());
}

#[test]
fn among_originals_a_pause_is_refused() {
    let mut bench = DaemonBench::new("");
    let conn = pause(&mut bench, None);
    assert!(answer(&bench, conn).unwrap().unwrap_err().contains("--legacy-peers"));
}

#[test]
fn nobody_on_the_network_pauses_anything() {
    let mut bench = DaemonBench::new("");
    let request = Request::Pause { resources: Vec::from([RESOURCE.to_string()]), by: "b".to_string(), span: None };
    bench.network(crate::testing::B, &request);
    assert!(
        bench.told().iter().any(|event| matches!(event, Event::CallerRefused { why, .. } if why.contains("pause")))
    );
}
