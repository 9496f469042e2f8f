//! An exhaustive search through small clusters for two primaries: three voters, and everything that may befall messages, clocks, disks and power.
//! It drives the voter and the claim of the daemon themselves. `cargo test` searches small spaces; `cargo test --release --test
//! model_check -- --ignored --test-threads 1` larger ones. What each world may see is in [`world`]; each broken rule that the search must find is in [`flaws`].

#![cfg(test)]

mod flaws;
mod world;

use std::io::Write as _;

use flaws::Flaw;
use stateright::{Checker as _, HasDiscoveries, Model as _};
use world::{Bounds, FAST, Lab, SLOW};

const ONE_PRIMARY: &str = "never two primaries";
const EPOCHS_GROW: &str = "each lease has an epoch above all before it";
const WINS: &str = "a lease is won";

/// Two candidates, the first of them with a slow clock: the case with no margin.
const NOTHING_ELSE: Bounds = Bounds {
    is_held: false,
    candidates: 2,
    rounds: 2,
    restarts: 0,
    disk_faults: 0,
    copies: 0,
    reloads: 0,
    horizon: 300,
    speeds: &[[SLOW, FAST, FAST]],
};

const ALL_SPEEDS: &[[u64; 3]] = &[
    [SLOW, FAST, FAST],
    [FAST, SLOW, SLOW],
    [SLOW, SLOW, FAST],
    [FAST, FAST, SLOW],
    [SLOW, FAST, SLOW],
    [FAST, FAST, FAST],
];

/// Says it even when the test passes.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

fn search(name: &str, bounds: Bounds) {
    let checker = Lab { bounds, flaw: None }.checker().spawn_bfs().join();
    say(&format!("{name}: {} states, depth {}", checker.unique_state_count(), checker.max_depth()));
    let found = checker.discoveries();
    for rule in [ONE_PRIMARY, EPOCHS_GROW] {
        assert!(!found.contains_key(rule), "{name}: not {rule}: {}", found[rule]);
    }
    assert!(found.contains_key(WINS), "{name}: {WINS}: never");
}

#[test]
fn two_candidates_whose_messages_come_late_or_never() {
    search("late messages", NOTHING_ELSE);
}

#[test]
fn two_candidates_who_give_back_and_stand_again() {
    search("many rounds at once", Bounds { rounds: 3, horizon: 0, ..NOTHING_ELSE });
}

#[test]
fn voters_that_restart_and_disks_that_refuse() {
    search("restarts", Bounds { restarts: 1, disk_faults: 1, horizon: 0, ..NOTHING_ELSE });
}

#[test]
fn messages_that_are_heard_twice() {
    search("copies", Bounds { copies: 1, horizon: 150, ..NOTHING_ELSE });
}

#[test]
fn terms_that_change_while_the_lease_is_held() {
    search("reloads", Bounds { reloads: 1, horizon: 150, ..NOTHING_ELSE });
}

#[test]
fn three_candidates() {
    search("three candidates", Bounds { candidates: 3, horizon: 150, ..NOTHING_ELSE });
}

#[test]
#[ignore = "minutes; to be run with --release"]
fn two_candidates_with_clocks_of_all_speeds() {
    search("all speeds", Bounds { speeds: ALL_SPEEDS, horizon: 450, ..NOTHING_ELSE });
}

#[test]
#[ignore = "minutes; to be run with --release"]
fn a_restart_at_any_moment() {
    search("a restart at any moment", Bounds { restarts: 1, disk_faults: 1, horizon: 450, ..NOTHING_ELSE });
}

#[test]
#[ignore = "minutes, and gigabytes; to be run with --release"]
fn three_rounds_at_any_moment() {
    search("three rounds at any moment", Bounds { rounds: 3, horizon: 450, ..NOTHING_ELSE });
}

#[test]
#[ignore = "minutes; to be run with --release"]
fn a_reload_at_any_moment() {
    search("a reload at any moment", Bounds { reloads: 1, horizon: 450, ..NOTHING_ELSE });
}

/// Searches the world with a broken rule until something is found.
fn find(flaw: Flaw, bounds: Bounds) -> Option<&'static str> {
    let lab = Lab { bounds, flaw: Some(flaw) };
    let checker = lab.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discoveries();
    let found = [ONE_PRIMARY, EPOCHS_GROW].into_iter().find(|name| found.contains_key(name));
    let broken = found.map_or_else(|| "nothing is found".to_owned(), |rule| format!("not: {rule}"));
    say(&format!("{flaw:?}: {broken} after {} states", checker.unique_state_count()));
    found
}

#[test]
fn broken_rules_of_the_voter_are_found() {
    let at_once = Bounds { horizon: 0, ..NOTHING_ELSE };
    assert_eq!(find(Flaw::VotesWhileBound, at_once), Some(ONE_PRIMARY));
    assert_eq!(find(Flaw::BindsWithoutDrift, NOTHING_ELSE), Some(ONE_PRIMARY));
    assert_eq!(find(Flaw::VotesForOldEpochs, NOTHING_ELSE), Some(EPOCHS_GROW));
    assert_eq!(find(Flaw::ForgetsTheVoteAtRestart, Bounds { restarts: 1, ..at_once }), Some(ONE_PRIMARY));
    assert_eq!(find(Flaw::VotesUnwritten, Bounds { restarts: 1, disk_faults: 1, ..at_once }), Some(ONE_PRIMARY));
    assert_eq!(find(Flaw::ReleasedByAnybody, Bounds { rounds: 4, ..at_once }), Some(ONE_PRIMARY));
}

#[test]
fn broken_rules_of_the_holder_are_found() {
    let at_once = Bounds { horizon: 0, ..NOTHING_ELSE };
    assert_eq!(find(Flaw::OneVoteWins, at_once), Some(ONE_PRIMARY));
    assert_eq!(find(Flaw::CountsFromTheAnswer, NOTHING_ELSE), Some(ONE_PRIMARY));
    assert_eq!(find(Flaw::StopsTooSlowly, NOTHING_ELSE), Some(ONE_PRIMARY));
    assert_eq!(find(Flaw::ReleasesBeforeItHasStopped, Bounds { rounds: 3, ..at_once }), Some(ONE_PRIMARY));
}

#[test]
#[ignore = "minutes; to be run with --release"]
fn a_vote_that_was_not_written_and_is_renewed_is_found() {
    let bounds = Bounds { is_held: true, restarts: 1, disk_faults: 1, ..NOTHING_ELSE };
    assert_eq!(find(Flaw::RenewsWhatIsNotWritten, bounds), Some(ONE_PRIMARY));
}

#[test]
#[ignore = "minutes; to be run with --release"]
fn a_release_that_comes_late_and_frees_a_new_lease_is_found() {
    let bounds = Bounds { rounds: 4, horizon: 0, ..NOTHING_ELSE };
    assert_eq!(find(Flaw::OldReleaseFreesNewLease, bounds), Some(ONE_PRIMARY));
}

#[test]
#[ignore = "minutes; to be run with --release"]
fn terms_that_are_in_force_without_a_new_epoch_are_found() {
    assert_eq!(find(Flaw::NewTermsAtOnce, Bounds { reloads: 1, ..NOTHING_ELSE }), Some(ONE_PRIMARY));
}

#[test]
#[ignore = "minutes; to be run with --release"]
fn a_hold_that_grows_is_found() {
    let bounds = Bounds { is_held: true, restarts: 1, reloads: 1, horizon: 450, ..NOTHING_ELSE };
    assert_eq!(find(Flaw::HoldGrows, bounds), Some(ONE_PRIMARY));
}

/// A late renewal binds the vote to a node that counts no answer any more, and a successor is one candidate among others: both rules are there so that
/// the resource is soon up again, not for safety.
#[test]
fn rules_that_are_there_for_speed_cannot_lead_to_two_primaries() {
    let at_once = Bounds { horizon: 0, rounds: 3, ..NOTHING_ELSE };
    assert_eq!(find(Flaw::RenewsAfterRelease, at_once), None);
    assert_eq!(find(Flaw::IgnoresTheSuccessor, at_once), None);
}
