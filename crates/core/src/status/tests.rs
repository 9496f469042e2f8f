use super::*;
use crate::lease::Kind;
use crate::testing::{DaemonBench, ms, s};
use crate::time::Duration;
use crate::types::State;
use crate::worker::{LeaseReport, Report};

fn report(epoch: Option<u64>, until: Option<Instant>) -> LeaseReport {
    LeaseReport {
        epoch,
        until,
        is_forced: false,
        in_reach: 3,
        votes: 2,
        voters: 3,
        waits: None,
        highest: 0,
        in_force: Vec::new(),
        runs_until: until,
        kept: 0,
        know: Vec::new(),
    }
}

fn of(role: Role, lease: impl Fn(Instant) -> LeaseReport) -> DaemonBench {
    let mut bench = DaemonBench::with_lease("", "");
    bench.set_role(role);
    let lease = lease(bench.now);
    bench.reports(State::Run, Some(lease));
    bench
}

fn line(bench: &DaemonBench, name: &str) -> String {
    bench.line(name).unwrap_or_default()
}

#[test]
fn a_resource_in_init_has_no_lease_and_no_standby() {
    let bench = DaemonBench::with_lease("", "");
    let names: Vec<String> = bench.lines().into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(names, ["epoch: 0", "lease: none", "protection: lease"]);
}

#[test]
fn a_holder_says_until_when_and_by_how_many_votes() {
    let mut bench = of(Role::Primary, |now| report(Some(7), Some(now + s(3))));
    assert_eq!((line(&bench, "epoch"), bench.line("standby")), ("7".to_string(), None));
    assert_eq!(line(&bench, "lease"), "held here until +3.0 s, 2 of 3 votes");
    bench.wait(ms(900));
    assert_eq!(line(&bench, "lease"), "held here until +2.1 s, 2 of 3 votes");
}

#[test]
fn a_forced_primary_is_called_so() {
    let bench = of(Role::Primary, |_| LeaseReport { is_forced: true, votes: 1, ..report(Some(8), None) });
    assert_eq!(line(&bench, "lease"), "FORCED by an operator, 1 of 3 votes");
}

#[test]
fn a_primary_that_waits_says_what_for() {
    let waits = Some("waiting for votes: 1 of 3 nodes in reach, needs 2".to_string());
    let bench = of(Role::Primary, |_| LeaseReport { waits: waits.clone(), in_reach: 1, ..report(None, None) });
    assert_eq!((line(&bench, "lease").as_str(), bench.line("waits")), ("none", waits));
}

#[test]
fn a_secondary_says_who_holds_the_lease_and_when_it_would_take_over() {
    let mut bench = of(Role::Secondary, |_| report(None, None));
    let b = bench.peer("b", Role::Primary, 100, State::Run);
    bench.beat(b, 2, State::Run, Some(DaemonBench::ask_of("b", Kind::Vote, 4)));
    assert_eq!(line(&bench, "lease"), "held by node b (its vote here for 4.0 s)");
    assert_eq!(line(&bench, "epoch"), "4");
    assert_eq!(line(&bench, "standby"), "would take over in about 4.1 s");
    bench.wait(s(5));
    assert_eq!(line(&bench, "lease"), "none");
}

#[test]
fn a_secondary_that_cannot_take_over_says_so() {
    let bench = of(Role::Secondary, |_| LeaseReport { in_reach: 1, ..report(None, None) });
    assert_eq!(line(&bench, "standby"), "cannot take over: 1 of 3 votes in reach, needs 2");
}

#[test]
fn a_watchdog_has_no_standby() {
    let bench = of(Role::Watchdog, |_| report(None, None));
    assert_eq!(bench.line("standby"), None);
}

#[test]
fn the_protection_names_fencing_when_there_is_a_script() {
    let bench = DaemonBench::with_lease("", "fence /off");
    assert_eq!(line(&bench, "protection"), "lease+fencing");
}

#[test]
fn a_node_that_gives_no_votes_says_why_until_it_gives_them_again() {
    let mut bench = of(Role::Watchdog, |_| report(None, None));
    assert_eq!(bench.line("votes"), None);
    let b = bench.peer("b", Role::Primary, 100, State::Stopped);
    for (epoch, result, said) in
        [(1, Err("disk full"), Some("none are given: disk full".to_string())), (2, Ok(()), None)]
    {
        bench.take();
        bench.beat(b, epoch + 1, State::Stopped, Some(DaemonBench::ask_of("b", Kind::Vote, epoch)));
        let id = bench.records().last().unwrap().0;
        bench.recorded(id, result);
        assert_eq!(bench.line("votes"), said);
    }
}

#[test]
fn among_originals_nothing_is_promised() {
    let bench = DaemonBench::new("");
    assert_eq!(bench.lines().len(), 1);
    assert!(line(&bench, "protection").starts_with("none: "));
}

#[test]
fn a_late_worker_is_shown() {
    let mut bench = of(Role::Secondary, |_| report(None, None));
    assert_eq!(bench.line("lateness"), None);
    let id = bench.worker();
    let report = Report {
        state: State::Stopped,
        attempts: 0,
        remotes: Vec::new(),
        complaints: 0,
        lease: None,
        lateness: Some(Duration::from_micros(123_900)),
        statuses: Vec::new(),
    };
    bench.give(crate::daemon::Input::Report(id, report));
    assert_eq!(line(&bench, "lateness"), "123 ms at worst in the last minute");
}

#[test]
fn a_pause_is_the_first_line_and_the_first_of_what_is_wrong() {
    let mut bench = of(Role::Primary, |now| report(Some(7), Some(now + s(3))));
    let resources = [crate::testing::RESOURCE.to_string()].into();
    bench.control(&crate::wire::request::Request::Pause { resources, by: "root".to_string(), span: Some(s(90)) });
    bench.reports(State::Failed, Some(LeaseReport { kept: 2, ..report(Some(7), Some(FOR_EVER)) }));
    let (name, value) = bench.lines().remove(0);
    assert!(name == "paused" && value.starts_with("by root on a since "), "{name}: {value}");
    assert!(value.ends_with(", for another 90 s; kept by 2 of 3 votes"), "{value}");
    assert_eq!(line(&bench, "lease"), "held here, 2 of 3 votes are kept");
    let detail = detail(bench.now, &bench.daemon.resources()[0], None);
    let words: Vec<(bool, &str)> = detail.troubles.iter().map(|trouble| (trouble.is_grave, &*trouble.text)).collect();
    assert_eq!(words[0], (false, "paused by root on a for another 90 s"));
    assert!(words[1].0, "{words:?}");
    assert_eq!((detail.is_kept, detail.lease_left, detail.kept), (true, None, Some(("a".to_string(), 2))));
}

#[test]
fn a_paused_secondary_takes_nothing_over() {
    let mut bench = of(Role::Secondary, |_| report(None, None));
    let resources = [crate::testing::RESOURCE.to_string()].into();
    bench.control(&crate::wire::request::Request::Pause { resources, by: "root".to_string(), span: None });
    assert_eq!(line(&bench, "standby"), "takes nothing over: paused");
}
