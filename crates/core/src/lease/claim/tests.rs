//! The claim of node `a` among three voters on a virtual clock: lease 3 s, stop budget 1 s.

use super::*;
use crate::testing::{ms, s};
use alloc::string::ToString;

const TERMS: Terms = Terms { lease: Duration::from_secs(3), stop: Duration::from_secs(1) };

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn nodes(names: &str) -> Voters {
    Voters::new(names.split_whitespace().map(ToString::to_string))
}

fn claim() -> Claim {
    Claim::new("a", nodes("a b c"), TERMS)
}

fn stand(claim: &mut Claim, now: Instant) -> Ask {
    claim.stand(now, ["a", "b", "c"].map(String::from))
}

fn granted(ask: &Ask) -> Verdict {
    Verdict { round: ask.round, highest: ask.epoch, refused: None, kept: ask.kept }
}

fn refused(ask: &Ask, highest: u64, refusal: Refusal) -> Verdict {
    Verdict { round: ask.round, highest, refused: Some(refusal), kept: false }
}

fn bound(left: Duration) -> Refusal {
    Refusal::Bound { holder: "b".into(), left }
}

/// A claim that won at the beginning with the votes of `a` and `b`.
fn holder() -> Claim {
    let mut claim = claim();
    let ask = stand(&mut claim, at(0));
    claim.on_verdict(at(1), "a", &granted(&ask));
    assert_eq!(claim.on_verdict(at(2), "b", &granted(&ask)), Outcome::Won);
    claim
}

#[test]
fn the_lease_runs_from_before_the_question_however_late_the_answer() {
    let mut claim = claim();
    let ask = stand(&mut claim, at(1000));
    assert_eq!((ask.kind, ask.epoch, ask.hold), (Kind::Vote, 1, s(4)));
    assert!(claim.is_standing() && !claim.holds(at(1000)));
    assert_eq!(claim.on_verdict(at(2000), "a", &granted(&ask)), Outcome::Open);
    assert_eq!(claim.on_verdict(at(3500), "c", &granted(&ask)), Outcome::Won);
    assert_eq!((claim.epoch(), claim.until()), (Some(1), Some(at(4000))));
    assert!(claim.holds(at(3999)) && !claim.holds(at(4000)));
}

#[test]
fn a_majority_is_of_all_configured_voters() {
    let mut claim = Claim::new("a", nodes("a b c d"), TERMS);
    // Two of four were in reach and both agree.
    let ask = claim.stand(at(0), ["a", "b"].map(String::from));
    claim.on_verdict(at(1), "a", &granted(&ask));
    assert_eq!(claim.on_verdict(at(1), "b", &granted(&ask)), Outcome::Lost(None));
    assert!(!claim.holds(at(1)));
}

#[test]
fn one_voter_counts_once() {
    let mut claim = claim();
    let ask = stand(&mut claim, at(0));
    for _ in 0..3 {
        assert_eq!(claim.on_verdict(at(1), "b", &granted(&ask)), Outcome::Open);
    }
    assert_eq!(claim.votes(at(1)), 1);
}

#[test]
fn verdicts_of_unknown_rounds_and_nodes_are_ignored() {
    let mut claim = claim();
    let first = stand(&mut claim, at(0));
    claim.on_verdict(at(1), "b", &granted(&first));
    claim.release(None, Duration::ZERO);
    let second = stand(&mut claim, at(10));
    let before = claim.clone();
    claim.on_verdict(at(11), "b", &granted(&first));
    claim.on_verdict(at(11), "c", &granted(&first));
    claim.on_verdict(at(11), "x", &granted(&second));
    claim.on_verdict(at(11), "c", &Verdict { round: 99, ..granted(&second) });
    assert_eq!(claim, before);
}

#[test]
fn answers_that_come_after_the_lease_they_carry_win_nothing() {
    let mut claim = claim();
    let ask = stand(&mut claim, at(0));
    claim.on_verdict(at(1), "a", &granted(&ask));
    assert_ne!(claim.on_verdict(at(3000), "b", &granted(&ask)), Outcome::Won);
    assert!(!claim.holds(at(3000)));
}

#[test]
fn a_renewal_that_a_majority_acknowledges_prolongs_the_lease_from_its_question() {
    let mut claim = holder();
    let ask = claim.renew(at(1000)).unwrap();
    assert_eq!((ask.kind, ask.epoch, ask.hold), (Kind::Renew, 1, s(4)));
    claim.on_verdict(at(1100), "a", &granted(&ask));
    assert_eq!(claim.until(), Some(at(3000)));
    claim.on_verdict(at(1200), "c", &granted(&ask));
    assert_eq!(claim.until(), Some(at(4000)));
}

#[test]
fn an_answer_that_overtook_a_later_one_takes_nothing_away() {
    let mut claim = holder();
    let (early, late) = (claim.renew(at(1000)).unwrap(), claim.renew(at(2000)).unwrap());
    for ask in [late, early] {
        claim.on_verdict(at(2100), "a", &granted(&ask));
        claim.on_verdict(at(2100), "b", &granted(&ask));
    }
    assert_eq!(claim.until(), Some(at(5000)));
}

#[test]
fn votes_of_different_rounds_carry_the_lease_as_long_as_the_older_one() {
    let mut claim = holder();
    let (first, second) = (claim.renew(at(1000)).unwrap(), claim.renew(at(2000)).unwrap());
    claim.on_verdict(at(2100), "c", &granted(&first));
    claim.on_verdict(at(2100), "a", &granted(&second));
    assert_eq!(claim.until(), Some(at(4000)));
}

#[test]
fn who_does_not_hold_renews_nothing() {
    let mut claim = claim();
    assert_eq!(claim.renew(at(0)), None);
    stand(&mut claim, at(0));
    assert_eq!(claim.renew(at(0)), None);
}

#[test]
fn each_candidacy_asks_for_an_epoch_above_all_that_it_has_heard_of() {
    let mut claim = claim();
    claim.note_epoch(7);
    let ask = stand(&mut claim, at(0));
    assert_eq!(ask.epoch, 8);
    claim.on_verdict(at(1), "b", &refused(&ask, 11, Refusal::Stale));
    assert_eq!(stand(&mut claim, at(2)).epoch, 12);
}

#[test]
fn an_epoch_at_the_end_of_all_numbers_is_no_panic() {
    let mut claim = holder();
    claim.note_epoch(u64::MAX);
    claim.reconfigure(nodes("a b c"), Terms { lease: s(9), ..TERMS });
    assert_eq!(claim.renew(at(1)).unwrap().epoch, u64::MAX);
    claim.force();
    assert_eq!(stand(&mut claim, at(2)).epoch, u64::MAX);
}

#[test]
fn a_stale_refusal_makes_the_holder_ask_for_a_higher_epoch() {
    let mut claim = holder();
    let ask = claim.renew(at(1000)).unwrap();
    claim.on_verdict(at(1001), "c", &refused(&ask, 5, Refusal::Stale));
    assert_eq!(claim.epoch(), Some(1));
    let raise = claim.renew(at(2000)).unwrap();
    assert_eq!((raise.kind, raise.epoch), (Kind::Vote, 6));
    claim.on_verdict(at(2001), "c", &granted(&raise));
    assert_eq!((claim.epoch(), claim.until()), (Some(1), Some(at(3000))));
    claim.on_verdict(at(2002), "a", &granted(&raise));
    assert_eq!((claim.epoch(), claim.until()), (Some(6), Some(at(5000))));
    let next = claim.renew(at(3000)).unwrap();
    assert_eq!((next.kind, next.epoch), (Kind::Renew, 6));
    // What was said of the old epoch is of no interest now.
    claim.on_verdict(at(3001), "b", &refused(&ask, 6, Refusal::Stale));
    assert_eq!(claim.renew(at(3002)).unwrap().kind, Kind::Renew);
}

#[test]
fn votes_for_a_higher_epoch_do_not_carry_the_present_one() {
    let mut claim = holder();
    let terms = Terms { lease: s(3), stop: ms(100) };
    claim.reconfigure(nodes("a b c"), terms);
    let raise = claim.renew(at(1000)).unwrap();
    assert_eq!((raise.kind, raise.epoch, raise.hold), (Kind::Vote, 2, ms(3100)));
    claim.on_verdict(at(1001), "c", &granted(&raise));
    // `c` is bound for the short stop budget, this node still counts on the long one.
    assert_eq!((claim.epoch(), claim.terms(), claim.until()), (Some(1), TERMS, Some(at(3000))));
}

#[test]
fn votes_for_the_present_epoch_do_not_win_a_higher_one() {
    let mut claim = holder();
    claim.reconfigure(nodes("a b c"), Terms { lease: s(1), stop: s(9) });
    let raise = claim.renew(at(100)).unwrap();
    claim.on_verdict(at(101), "a", &granted(&raise));
    assert_eq!((claim.epoch(), claim.terms()), (Some(1), TERMS));
}

#[test]
fn new_terms_are_in_force_with_a_new_epoch_and_not_before() {
    let mut claim = holder();
    let terms = Terms { lease: s(1), stop: s(9) };
    claim.reconfigure(nodes("a b c"), terms);
    let raise = claim.renew(at(1000)).unwrap();
    claim.on_verdict(at(1001), "a", &granted(&raise));
    claim.on_verdict(at(1002), "b", &granted(&raise));
    // The old lease ran until 3 s, but was promised for a stop budget of one second.
    assert_eq!((claim.epoch(), claim.terms(), claim.until()), (Some(2), terms, Some(at(2000))));
}

#[test]
fn terms_that_change_during_a_candidacy_are_asked_for_after_it() {
    let mut claim = claim();
    let ask = stand(&mut claim, at(0));
    let terms = Terms { lease: s(3), stop: s(9) };
    claim.reconfigure(nodes("a b c"), terms);
    claim.on_verdict(at(1), "a", &granted(&ask));
    assert_eq!(claim.on_verdict(at(1), "b", &granted(&ask)), Outcome::Won);
    assert_eq!(claim.terms(), TERMS);
    let raise = claim.renew(at(100)).unwrap();
    assert_eq!((raise.kind, raise.hold), (Kind::Vote, s(12)));
}

#[test]
fn a_change_of_terms_that_is_taken_back_while_it_is_asked_for_is_asked_for_again() {
    let mut claim = holder();
    claim.reconfigure(nodes("a b c"), Terms { lease: s(2), ..TERMS });
    let raise = claim.renew(at(100)).unwrap();
    claim.reconfigure(nodes("a b c"), TERMS);
    claim.on_verdict(at(101), "a", &granted(&raise));
    claim.on_verdict(at(101), "b", &granted(&raise));
    let back = claim.renew(at(200)).unwrap();
    assert_eq!((back.kind, back.hold), (Kind::Vote, s(4)));
}

#[test]
fn a_lost_round_says_when_there_may_be_hope() {
    let mut claim = claim();
    let ask = stand(&mut claim, at(0));
    assert_eq!(claim.on_verdict(at(100), "a", &granted(&ask)), Outcome::Open);
    assert_eq!(claim.on_verdict(at(100), "b", &refused(&ask, 1, bound(s(3)))), Outcome::Open);
    let outcome = claim.on_verdict(at(600), "c", &refused(&ask, 1, bound(s(2))));
    // One vote is missing: the first to be free, two seconds after its refusal.
    assert_eq!(outcome, Outcome::Lost(Some(s(2))));
    assert_eq!(claim.hope(at(1600)), Some(s(1)));
}

#[test]
fn with_two_votes_missing_hope_is_when_the_second_is_free() {
    let mut claim = claim();
    let ask = stand(&mut claim, at(0));
    claim.on_verdict(at(0), "a", &refused(&ask, 1, bound(s(1))));
    claim.on_verdict(at(0), "b", &refused(&ask, 1, bound(s(3))));
    assert_eq!(claim.on_verdict(at(0), "c", &refused(&ask, 1, Refusal::NotRecorded)), Outcome::Lost(Some(s(3))));
}

#[test]
fn refusals_that_no_time_ends_give_no_hope_and_a_stale_one_ends_at_once() {
    let mut claim = claim();
    let ask = stand(&mut claim, at(0));
    claim.on_verdict(at(0), "a", &granted(&ask));
    claim.on_verdict(at(0), "b", &refused(&ask, 1, Refusal::Voters { ours: nodes("a b") }));
    assert_eq!(claim.hope(at(0)), None);
    assert_eq!(claim.on_verdict(at(0), "c", &refused(&ask, 1, Refusal::Stale)), Outcome::Lost(Some(Duration::ZERO)));
    assert_eq!(claim.refusals().map(|(node, _)| node).collect::<alloc::vec::Vec<_>>(), ["b", "c"]);
}

#[test]
fn a_candidate_gives_back_what_it_got_and_says_that_nothing_ran() {
    let mut claim = claim();
    stand(&mut claim, at(0));
    let release = claim.release(None, Duration::ZERO).unwrap();
    assert_eq!((release.node.as_str(), release.epoch, release.was_held), ("a", 1, false));
    assert_eq!(claim.release(None, Duration::ZERO), None);
}

#[test]
fn a_holder_releases_with_its_successor_and_holds_no_more() {
    let mut claim = holder();
    let release = claim.release(Some("b".into()), s(2)).unwrap();
    assert_eq!((release.epoch, release.successor.as_deref(), release.reserve), (1, Some("b"), s(2)));
    assert!(release.was_held && !claim.holds(at(3)) && claim.epoch().is_none());
}

#[test]
fn a_release_names_what_was_asked_for_and_not_what_others_have() {
    let mut claim = holder();
    claim.note_epoch(50);
    assert_eq!(claim.clone().release(None, Duration::ZERO).unwrap().epoch, 1);
    claim.reconfigure(nodes("a b c"), Terms { lease: s(9), ..TERMS });
    let raise = claim.renew(at(3)).unwrap();
    claim.note_epoch(60);
    assert_eq!(claim.release(None, Duration::ZERO).unwrap().epoch, raise.epoch);
}

#[test]
fn a_grant_is_held_until_its_end_and_renewed_under_its_epoch() {
    let mut claim = claim();
    claim.resume(Grant { epoch: 4, until: at(2500), terms: TERMS });
    assert!(claim.holds(at(2499)) && !claim.holds(at(2500)));
    let ask = claim.renew(at(1000)).unwrap();
    assert_eq!((ask.kind, ask.epoch), (Kind::Renew, 4));
    claim.on_verdict(at(1001), "a", &granted(&ask));
    assert_eq!(claim.until(), Some(at(2500)));
    claim.on_verdict(at(1001), "c", &granted(&ask));
    assert_eq!(claim.until(), Some(at(4000)));
    assert_eq!(claim.release(None, Duration::ZERO).unwrap().epoch, 4);
}

#[test]
fn a_forced_lease_has_no_end_until_a_majority_has_agreed_to_an_epoch() {
    let mut claim = claim();
    claim.note_epoch(3);
    claim.force();
    assert_eq!(claim.epoch(), Some(4));
    assert!(claim.holds(at(1_000_000_000)));
    // Somebody else may have won the epoch that it took by itself.
    let ask = claim.renew(at(1000)).unwrap();
    assert_eq!((ask.kind, ask.epoch), (Kind::Vote, 5));
    claim.on_verdict(at(1001), "a", &granted(&ask));
    assert!(claim.holds(at(1_000_000_000)));
    claim.on_verdict(at(1002), "b", &granted(&ask));
    assert_eq!((claim.epoch(), claim.until()), (Some(5), Some(at(4000))));
}

#[test]
fn votes_of_nodes_that_vote_no_more_carry_nothing() {
    let mut claim = holder();
    claim.reconfigure(nodes("a c"), TERMS);
    assert_eq!(claim.votes(at(3)), 1);
    let ask = claim.renew(at(1000)).unwrap();
    claim.on_verdict(at(1001), "a", &granted(&ask));
    claim.on_verdict(at(1001), "b", &granted(&ask));
    assert_eq!(claim.until(), Some(at(3000)));
    claim.on_verdict(at(1001), "c", &granted(&ask));
    assert_eq!(claim.until(), Some(at(4000)));
}

#[test]
fn only_so_many_rounds_are_remembered() {
    let mut claim = holder();
    let old = claim.renew(at(1000)).unwrap();
    for _ in 0..MAX_ROUNDS {
        claim.renew(at(1001));
    }
    let before = claim.clone();
    claim.on_verdict(at(1002), "b", &granted(&old));
    assert_eq!(claim, before);
}

/// The same, with both votes kept since.
fn kept_holder() -> Claim {
    let mut claim = holder();
    claim.keep(true);
    let ask = claim.renew(at(1000)).unwrap();
    assert!(ask.kept);
    claim.on_verdict(at(1001), "a", &granted(&ask));
    assert!(!claim.is_kept());
    claim.on_verdict(at(1002), "b", &granted(&ask));
    claim
}

#[test]
fn a_lease_that_a_majority_keeps_has_no_end_and_is_not_forced() {
    let claim = kept_holder();
    assert!(claim.is_kept() && !claim.is_forced());
    assert_eq!((claim.kept(), claim.until()), (2, Some(FOR_EVER)));
    assert!(claim.holds(at(1_000_000)));
}

#[test]
fn without_a_majority_that_keeps_the_lease_ends_as_ever() {
    let mut claim = holder();
    claim.keep(true);
    let ask = claim.renew(at(1000)).unwrap();
    claim.on_verdict(at(1001), "a", &granted(&ask));
    // A voter of before there were pauses.
    claim.on_verdict(at(1002), "b", &Verdict { kept: false, ..granted(&ask) });
    assert_eq!((claim.kept(), claim.until()), (1, Some(at(4000))));
}

#[test]
fn after_the_pause_the_lease_counts_from_before_the_first_question_that_is_not_kept() {
    let mut claim = kept_holder();
    claim.keep(false);
    assert_eq!(claim.until(), Some(FOR_EVER), "nobody has been told yet");
    let ask = claim.renew(at(100_000)).unwrap();
    assert!(!ask.kept);
    assert_eq!((claim.kept(), claim.until()), (0, Some(at(103_000))));
    claim.on_verdict(at(100_001), "b", &refused(&ask, 1, Refusal::NotRecorded));
    assert_eq!(claim.until(), Some(at(103_000)));
}

#[test]
fn a_shorter_hold_that_is_asked_for_at_the_end_of_a_pause_carries_a_shorter_lease() {
    let mut claim = kept_holder();
    claim.reconfigure(nodes("a b c"), Terms { lease: s(1), stop: ms(500) });
    claim.keep(false);
    let ask = claim.renew(at(100_000)).unwrap();
    assert_eq!((ask.kind, ask.hold), (Kind::Vote, ms(1500)));
    // By the terms in force `stop` may take 1 s, and the votes bind for 1.5 s.
    assert_eq!(claim.until(), Some(at(100_500)));
}

#[test]
fn an_answer_from_before_a_question_that_was_not_kept_does_not_count_as_kept() {
    let mut claim = holder();
    claim.keep(true);
    let early = claim.renew(at(1000)).unwrap();
    claim.keep(false);
    claim.renew(at(1100)).unwrap();
    claim.keep(true);
    let later = claim.renew(at(1200)).unwrap();
    for node in ["a", "b", "c"] {
        claim.on_verdict(at(1300), node, &granted(&early));
    }
    assert_eq!(claim.kept(), 0);
    for node in ["a", "b"] {
        claim.on_verdict(at(1300), node, &granted(&later));
    }
    assert!(claim.is_kept());
}

#[test]
fn who_leaves_the_voters_keeps_no_vote_that_counts() {
    let mut claim = kept_holder();
    claim.reconfigure(nodes("a c d"), TERMS);
    assert!(!claim.is_kept());
    assert_eq!(claim.until(), Some(at(4000)));
}

#[test]
fn a_release_ends_what_was_kept() {
    let mut claim = kept_holder();
    assert!(claim.release(None, Duration::ZERO).is_some());
    assert_eq!((claim.kept(), claim.until()), (0, None));
}
