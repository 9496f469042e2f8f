//! Heartbeat 1 s, complaint_count 3, lease 3 s, stop 1 s; nodes a (here), b and c.

use super::*;
use crate::daemon::Input;
use crate::lease::{Ask, FOR_EVER, Kind};
use crate::testing::{DaemonBench, RESOURCE, s};
use crate::time::Duration;
use crate::wire::peer::Said;
use crate::wire::request::Request;
use crate::worker::LeaseReport;

fn lease(bench: &DaemonBench, in_reach: u32) -> LeaseReport {
    let holds = bench.role() == Role::Primary && in_reach > 1;
    let waits = (bench.role() == Role::Primary && !holds).then(|| "waiting for votes".to_string());
    LeaseReport {
        epoch: holds.then_some(7),
        until: holds.then(|| bench.now + s(3)),
        is_forced: false,
        in_reach,
        votes: if holds { in_reach } else { 0 },
        voters: 3,
        waits,
        highest: 0,
        in_force: Vec::new(),
        runs_until: None,
        kept: 0,
        know: Vec::new(),
    }
}

fn of(role: Role, state: State, in_reach: u32) -> DaemonBench {
    let mut bench = DaemonBench::with_lease("", "");
    bench.set_role(role);
    if role != Role::Init {
        let lease = lease(&bench, in_reach);
        bench.reports(state, Some(lease));
    }
    bench.take();
    bench
}

fn explained(bench: &DaemonBench) -> Explanation {
    explain(bench.now, &bench.daemon.resources()[0], None)
}

#[track_caller]
fn says(sentences: &[String], part: &str) {
    assert!(sentences.iter().any(|sentence| sentence.contains(part)), "{part:?} is not in {sentences:#?}");
}

#[test]
fn every_role_and_state_has_an_answer() {
    for role in Role::ALL {
        for state in State::ALL {
            for in_reach in 1..=3 {
                let bench = of(role, state, in_reach);
                let Explanation { why, protection, change, .. } = explained(&bench);
                assert!(!why.is_empty() && !protection.is_empty() && !change.is_empty(), "{role} {state}");
                let all = [why, protection, change].concat();
                assert!(all.iter().all(|sentence| sentence.ends_with('.') && !sentence.contains("  ")), "{all:#?}");
            }
        }
        let mut bench = DaemonBench::new("");
        bench.set_role(role);
        assert!(explained(&bench).protection[0].contains("--legacy-peers"));
    }
}

#[test]
fn a_primary_that_runs_it_says_by_what_right_and_what_would_end_it() {
    let mut bench = of(Role::Primary, State::Run, 3);
    bench.peer("b", Role::Secondary, 100, State::Stopped);
    bench.peer("c", Role::Watchdog, 100, State::Run);
    let Explanation { paused, why, protection, change } = explained(&bench);
    assert!(paused.is_empty());
    says(&why, "r runs on a, which is primary, and holds the lease: epoch 7, 3 of 3 votes, for 3.0 s");
    says(&protection, "a lease from 2 of 3 nodes (a, b, c)");
    says(&protection, "1 more may fail");
    says(&protection, "c is its only watchdog that a hears: without c no takeover");
    says(&change, "a stops it when fewer than 2 of 3 nodes have renewed the lease for 3s");
    says(&change, "b takes over after about 4.1 s");
}

fn pause(bench: &mut DaemonBench, span: Option<Duration>) {
    let resources = [RESOURCE.to_string()].into();
    bench.control(&Request::Pause { resources, by: "root".to_string(), span });
}

#[test]
fn a_pause_is_said_first_with_what_it_means_and_how_it_ends() {
    let mut bench = of(Role::Primary, State::Run, 3);
    bench.peer("b", Role::Secondary, 100, State::Stopped);
    pause(&mut bench, None);
    let (heading, first) = explained(&bench).into_sentences().remove(0);
    assert!(heading == "Paused" && first.starts_with("r is paused by root on a since 20"), "{heading}: {first}");
    assert!(first.ends_with(", until it is resumed."), "{first}");
    says(
        &explained(&bench).paused,
        "Only 0 of 3 nodes keep their votes for a, and 2 are needed: do not stop hastmon there",
    );
    says(&explained(&bench).paused, "hastmonctl resume r on any node ends it.");
    let kept = LeaseReport { until: Some(FOR_EVER), runs_until: Some(FOR_EVER), kept: 2, ..lease(&bench, 3) };
    bench.reports(State::Run, Some(kept));
    let Explanation { paused, why, change, .. } = explained(&bench);
    says(&paused, "2 of 3 nodes keep their votes for a: hastmon may be stopped there and leaves r running");
    says(&why, "holds the lease: epoch 7, 2 of 3 votes are kept for it without end");
    assert!(change[0].starts_with("The end of the pause"), "{change:?}");
    says(&change, "It runs on, renewed or not, while 2 nodes keep their votes for a.");
}

#[test]
fn a_pause_for_a_time_says_how_long_and_makes_no_node_take_over() {
    for role in Role::ALL {
        let mut bench = of(role, State::Stopped, 3);
        pause(&mut bench, Some(s(90)));
        bench.wait(s(30));
        let Explanation { paused, why, protection, change } = explained(&bench);
        assert!(paused[0].ends_with(", for another 60 s."), "{paused:?}");
        let all = [paused, why, protection, change].concat();
        assert!(all.iter().all(|sentence| sentence.ends_with('.') && !sentence.contains("  ")), "{all:#?}");
    }
    let mut bench = of(Role::Secondary, State::Stopped, 3);
    pause(&mut bench, None);
    says(&explained(&bench).change, "Until then it stays secondary, whatever it hears: the resource is paused.");
}

#[test]
fn a_vote_that_is_kept_after_the_pause_says_whom_to_bring_back() {
    let mut bench = of(Role::Secondary, State::Stopped, 2);
    let b = bench.peer("b", Role::Primary, 100, State::Run);
    bench.beat(b, 2, State::Run, Some(Ask { kept: true, ..DaemonBench::ask_of("b", Kind::Vote, 4) }));
    bench.give(Input::Gone { conn: b, why: None });
    bench.wait(s(100));
    says(&explained(&bench).why, "the vote of a is kept for it, until b is back, gives it back or is fenced.");
    says(&explained(&bench).why, "hastmonctl role --force primary r.");
}

#[test]
fn a_primary_without_votes_says_what_it_waits_for() {
    let Explanation { why, change, .. } = explained(&of(Role::Primary, State::Stopped, 1));
    says(&why, "It is not started: waiting for votes.");
    says(&change, "More nodes in reach: 1 of 3 nodes are in reach, and 2 are needed.");
}

#[test]
fn a_secondary_without_a_majority_says_that_no_takeover_is_possible() {
    says(&explained(&of(Role::Secondary, State::Stopped, 1)).change, "No takeover is possible: 1 of 3");
}

#[test]
fn without_a_watchdog_nobody_complains() {
    says(&explained(&of(Role::Secondary, State::Stopped, 3)).protection, "No watchdog is connected to a");
}

#[test]
fn who_runs_it_elsewhere_is_named() {
    for role in [Role::Init, Role::Secondary, Role::Watchdog] {
        let mut bench = of(role, State::Stopped, 3);
        bench.peer("b", Role::Primary, 100, State::Run);
        says(&explained(&bench).why, "r runs on b, which is primary, as b says.");
    }
}

/// The prediction comes true: with one complaint less than it says nothing happens, with that one it stands.
#[test]
fn the_said_number_of_complaints_makes_it_stand_and_one_less_does_not() {
    for (threshold, before) in [(3, 0), (3, 2), (0, 0), (7, 5)] {
        let mut bench = DaemonBench::with_lease("", &format!("complaint_count {threshold}"));
        bench.set_role(Role::Secondary);
        let lease = lease(&bench, 3);
        bench.reports(State::Stopped, Some(lease));
        let w = bench.peer("c", Role::Watchdog, 100, State::Unknown);
        for _ in 0..before {
            bench.said(w, &Said::Complaint { released: false });
        }
        bench.take();
        let Wish::Needs(more) = bench.daemon.resources()[0].wish(bench.now) else { panic!("it needs more") };
        let said = format!("a has heard {before} complaints and needs {} within 60s: {more} more", threshold + 1);
        says(&explained(&bench).change, &said);
        for _ in 1..more {
            bench.said(w, &Said::Complaint { released: false });
        }
        assert!(!bench.is_told_to_stand(), "{threshold} {before}");
        bench.said(w, &Said::Complaint { released: false });
        assert!(bench.is_told_to_stand(), "{threshold} {before}");
    }
}

#[test]
fn a_connected_primary_makes_complaints_vain_as_it_says() {
    let mut bench = of(Role::Secondary, State::Stopped, 3);
    bench.peer("b", Role::Primary, 100, State::Run);
    let w = bench.peer("c", Role::Watchdog, 100, State::Unknown);
    bench.take();
    says(&explained(&bench).change, "as long as it is, complaints make no difference");
    for _ in 0..9 {
        bench.said(w, &Said::Complaint { released: false });
    }
    assert!(!bench.is_told_to_stand());
    says(&explained(&bench).change, "which would be enough");
}

/// The time that it names is the one at which complaints no longer count.
#[test]
fn complaints_older_than_the_interval_that_it_names_are_needed_again() {
    let mut bench = of(Role::Secondary, State::Stopped, 3);
    let w = bench.peer("c", Role::Watchdog, 100, State::Unknown);
    bench.said(w, &Said::Complaint { released: false });
    says(&explained(&bench).change, "has heard 1 complaint and needs 4 within 60s: 3 more");
    bench.now = bench.now + s(60) + Duration::from_nanos(1);
    says(&explained(&bench).change, "has heard 0 complaints and needs 4 within 60s: 4 more");
}

#[test]
fn a_node_whose_file_differs_is_named_with_the_setting_until_it_has_the_same() {
    let mut bench = of(Role::Secondary, State::Stopped, 3);
    let b = bench.peer("b", Role::Primary, 100, State::Run);
    let ours = bench.daemon.resources()[0].settings().shared.clone();
    let tell = |bench: &mut DaemonBench, shared| {
        bench.said(
            b,
            &Said::Beat { seq: 2, state: State::Run, voters: 0, ask: None, shared, pause: None, votes_kept: 0 },
        );
    };
    let other =
        ours.iter().map(|(name, value)| (name.to_string(), if name == "lease" { "9s" } else { value }.to_string()));
    tell(&mut bench, Some(crate::config::Shared::told(other)));
    assert_eq!(bench.line("configuration").as_deref(), Some("lease is 3s here and 9s on b"));
    tell(&mut bench, None);
    assert!(bench.line("configuration").is_some(), "what was told stays true until something else is told");
    tell(&mut bench, Some(ours));
    assert_eq!(bench.line("configuration"), None);
}
