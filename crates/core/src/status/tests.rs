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
    assert_eq!(line(&bench, "standby"), "would take over in about 4.0 s");
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
    };
    bench.give(crate::daemon::Input::Report(id, report));
    assert_eq!(line(&bench, "lateness"), "123 ms at worst in the last minute");
}
