//! The voter of three on a virtual clock: each rule of the lease that it carries.

use super::*;
use crate::testing::{ms, s};
use alloc::string::ToString;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn nodes(names: &str) -> Voters {
    Voters::new(names.split_whitespace().map(ToString::to_string))
}

fn abc() -> Voters {
    nodes("a b c")
}

fn voter() -> Voter {
    Voter::new(at(0), abc(), None)
}

fn with(ask: Ask, voters: &Voters) -> Ask {
    Ask { voters: voters.digest(), ..ask }
}

fn vote(node: &str, epoch: u64, hold: Duration) -> Ask {
    Ask { node: node.into(), kind: Kind::Vote, epoch, hold, round: epoch * 10, voters: abc().digest(), kept: false }
}

fn renewal(node: &str, epoch: u64, hold: Duration) -> Ask {
    Ask { kind: Kind::Renew, ..vote(node, epoch, hold) }
}

fn release(node: &str, epoch: u64) -> Release {
    Release { node: node.into(), epoch, successor: None, reserve: Duration::ZERO, was_held: true }
}

fn record(holder: &str, epoch: u64, hold: Duration) -> Record {
    Record { holder: holder.into(), epoch, hold, voters: abc(), kept: false }
}

/// A question, and its record on disk at once.
fn asks(voter: &mut Voter, now: Instant, ask: &Ask) -> Result<Option<Record>, Refusal> {
    let step = voter.on_ask(now, &with(ask.clone(), &abc()));
    assert_eq!(step.verdict.round, ask.round);
    assert_eq!(step.verdict.highest, voter.highest());
    step.record.iter().for_each(|record| voter.recorded(record));
    match step.verdict.refused {
        None => Ok(step.record),
        Some(refusal) => {
            assert_eq!(step.record, None);
            Err(refusal)
        }
    }
}

fn bound(voter: &Voter, now: Instant) -> Option<(&str, u64, Duration)> {
    voter.bound(now).map(|bound| (bound.holder, bound.epoch, bound.left))
}

fn bound_to(holder: &str, left: Duration) -> Refusal {
    Refusal::Bound { holder: holder.into(), left }
}

#[test]
fn a_free_vote_is_given_and_binds_from_the_receipt_for_the_hold_and_the_drift() {
    let mut voter = voter();
    assert_eq!(bound(&voter, at(500)), None);
    assert_eq!(asks(&mut voter, at(500), &vote("a", 1, s(4))), Ok(Some(record("a", 1, s(4)))));
    assert_eq!(bound(&voter, at(500)), Some(("a", 1, ms(4040))));
    assert_eq!(bound(&voter, at(4539)), Some(("a", 1, ms(1))));
    assert_eq!(bound(&voter, at(4540)), None);
}

#[test]
fn while_it_is_bound_nobody_else_gets_the_vote_whatever_the_epoch() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(4))).unwrap();
    for ask in [vote("b", 1, s(4)), vote("b", 2, s(4)), renewal("b", 1, s(4)), renewal("b", 9, s(4))] {
        assert_eq!(asks(&mut voter, at(1000), &ask), Err(bound_to("a", ms(3040))));
    }
    assert_eq!(voter.highest(), 1);
    assert_eq!(asks(&mut voter, at(4039), &vote("b", 2, s(4))), Err(bound_to("a", ms(1))));
    assert_eq!(asks(&mut voter, at(4040), &vote("b", 2, s(4))), Ok(Some(record("b", 2, s(4)))));
}

#[test]
fn an_epoch_that_is_not_above_the_highest_seen_is_refused_and_the_highest_told() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 5, s(4))).unwrap();
    // Free again, but not for an old epoch, nor for the same one once more.
    for epoch in [1, 4, 5] {
        assert_eq!(asks(&mut voter, at(5000), &vote("b", epoch, s(4))), Err(Refusal::Stale));
        assert_eq!(asks(&mut voter, at(5000), &vote("a", epoch, s(4))), Err(Refusal::Stale));
    }
    assert_eq!(voter.highest(), 5);
    assert_eq!(asks(&mut voter, at(5000), &vote("b", 6, s(4))), Ok(Some(record("b", 6, s(4)))));
}

#[test]
fn the_holders_node_gets_a_new_epoch_at_once() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(4))).unwrap();
    assert_eq!(asks(&mut voter, at(1000), &vote("a", 2, s(4))), Ok(Some(record("a", 2, s(4)))));
    assert_eq!(bound(&voter, at(1000)), Some(("a", 2, ms(4040))));
    assert_eq!(asks(&mut voter, at(1000), &renewal("a", 1, s(4))), Err(Refusal::Stale));
}

#[test]
fn a_renewal_binds_again_and_writes_nothing() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(4))).unwrap();
    assert_eq!(asks(&mut voter, at(3000), &renewal("a", 1, s(4))), Ok(None));
    assert_eq!(bound(&voter, at(3000)), Some(("a", 1, ms(4040))));
}

#[test]
fn the_hold_of_an_epoch_never_grows() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(4))).unwrap();
    assert_eq!(asks(&mut voter, at(1000), &renewal("a", 1, s(9))), Ok(None));
    assert_eq!(bound(&voter, at(1000)), Some(("a", 1, ms(4040))));
    // Shorter, and then as it was: that would be growth, too.
    asks(&mut voter, at(4000), &renewal("a", 1, s(2))).unwrap();
    asks(&mut voter, at(5000), &renewal("a", 1, s(4))).unwrap();
    assert_eq!(bound(&voter, at(5000)), Some(("a", 1, ms(2020))));
}

#[test]
fn a_shorter_renewal_takes_nothing_back() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(4))).unwrap();
    asks(&mut voter, at(1000), &renewal("a", 1, s(1))).unwrap();
    assert_eq!(bound(&voter, at(1000)), Some(("a", 1, ms(3040))));
}

#[test]
fn a_new_epoch_with_a_shorter_hold_takes_nothing_back_not_even_by_a_restart() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(10))).unwrap();
    let written = asks(&mut voter, at(1000), &vote("a", 2, s(2))).unwrap().unwrap();
    assert_eq!(bound(&voter, at(1000)), Some(("a", 2, ms(9100))));
    let again = Voter::new(at(1000), abc(), Some(written));
    assert!(again.bound(at(1000 + 9099)).is_some());
}

#[test]
fn a_holder_whose_vote_this_was_not_gets_it_with_its_renewal() {
    let mut voter = voter();
    assert_eq!(asks(&mut voter, at(0), &renewal("a", 3, s(4))), Ok(Some(record("a", 3, s(4)))));
    assert_eq!(bound(&voter, at(0)), Some(("a", 3, ms(4040))));
}

#[test]
fn a_renewal_of_an_epoch_that_others_have_passed_is_stale() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("b", 4, s(4))).unwrap();
    assert_eq!(asks(&mut voter, at(5000), &renewal("a", 3, s(4))), Err(Refusal::Stale));
}

#[test]
fn a_release_by_the_holder_frees_the_vote_at_once_and_is_written() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(4))).unwrap();
    assert_eq!(voter.on_release(at(10), &release("a", 1)), Some(record("a", 1, Duration::ZERO)));
    assert_eq!(bound(&voter, at(10)), None);
    assert_eq!(asks(&mut voter, at(10), &vote("b", 2, s(4))), Ok(Some(record("b", 2, s(4)))));
}

#[test]
fn nobody_but_the_holder_releases_and_an_old_release_frees_no_new_lease() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 2, s(4))).unwrap();
    assert_eq!(voter.on_release(at(10), &release("b", 9)), None);
    assert_eq!(voter.on_release(at(10), &release("a", 1)), None);
    assert_eq!(bound(&voter, at(10)), Some(("a", 2, ms(4030))));
}

#[test]
fn a_question_that_comes_after_the_release_of_its_lease_is_refused() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(4))).unwrap();
    voter.on_release(at(10), &release("a", 1));
    assert_eq!(asks(&mut voter, at(20), &renewal("a", 1, s(4))), Err(Refusal::Stale));
    // The release of a candidate may overtake its question.
    voter.on_release(at(30), &release("a", 2));
    assert_eq!(asks(&mut voter, at(40), &vote("a", 2, s(4))), Err(Refusal::Stale));
    assert_eq!(asks(&mut voter, at(40), &vote("a", 3, s(4))), Ok(Some(record("a", 3, s(4)))));
}

#[test]
fn after_a_release_the_successor_alone_gets_the_vote_for_a_while() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(4))).unwrap();
    let handover = Release { successor: Some("c".into()), reserve: s(2), ..release("a", 1) };
    voter.on_release(at(1000), &handover);
    let mut late = voter.clone();
    let reserved = Refusal::Reserved { successor: "c".into(), left: ms(1500) };
    assert_eq!(asks(&mut voter, at(1500), &vote("b", 2, s(4))), Err(reserved));
    assert_eq!(asks(&mut voter, at(1500), &vote("c", 2, s(4))), Ok(Some(record("c", 2, s(4)))));
    assert_eq!(asks(&mut late, at(3000), &vote("b", 2, s(4))), Ok(Some(record("b", 2, s(4)))));
}

#[test]
fn a_successor_that_does_not_vote_keeps_nobody_waiting() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(4))).unwrap();
    voter.on_release(at(0), &Release { successor: Some("x".into()), reserve: s(2), ..release("a", 1) });
    assert!(asks(&mut voter, at(1), &vote("b", 2, s(4))).is_ok());
}

#[test]
fn a_recorded_vote_binds_for_its_whole_hold_from_the_restart() {
    let mut voter = Voter::new(at(7000), abc(), Some(record("a", 3, s(4))));
    assert_eq!(bound(&voter, at(7000)), Some(("a", 3, ms(4040))));
    assert_eq!(asks(&mut voter, at(11_039), &vote("b", 4, s(4))), Err(bound_to("a", ms(1))));
    assert_eq!(asks(&mut voter, at(11_040), &vote("b", 3, s(4))), Err(Refusal::Stale));
    assert!(asks(&mut voter, at(11_040), &vote("b", 4, s(4))).is_ok());
}

#[test]
fn after_a_restart_the_holder_goes_on_renewing_without_a_write() {
    let mut voter = Voter::new(at(0), abc(), Some(record("a", 3, s(4))));
    assert_eq!(asks(&mut voter, at(1000), &renewal("a", 3, s(4))), Ok(None));
    assert_eq!(bound(&voter, at(1000)), Some(("a", 3, ms(4040))));
}

#[test]
fn a_recorded_release_binds_nobody_but_its_epoch_is_known() {
    let mut voter = Voter::new(at(0), abc(), Some(record("a", 3, Duration::ZERO)));
    assert_eq!(bound(&voter, at(0)), None);
    assert_eq!(asks(&mut voter, at(0), &vote("b", 3, s(4))), Err(Refusal::Stale));
    assert!(asks(&mut voter, at(0), &vote("b", 4, s(4))).is_ok());
}

#[test]
fn without_a_record_there_is_nothing_to_wait_for() {
    assert!(asks(&mut voter(), at(0), &vote("b", 1, s(4))).is_ok());
}

#[test]
fn with_an_unreadable_record_it_waits_the_longest_hold() {
    let mut voter = Voter::without_record(at(1000), abc(), s(4));
    for ask in [vote("a", 9, s(4)), renewal("a", 9, s(4))] {
        assert_eq!(asks(&mut voter, at(2000), &ask), Err(Refusal::Waits { left: ms(3040) }));
    }
    assert_eq!(bound(&voter, at(2000)), None);
    assert!(asks(&mut voter, at(5040), &vote("b", 9, s(4))).is_ok());
}

#[test]
fn a_vote_that_could_not_be_written_is_to_be_written_with_the_next_renewal() {
    let mut voter = voter();
    let step = voter.on_ask(at(0), &with(vote("a", 1, s(4)), &abc()));
    let written = step.record.unwrap();
    // The disk refuses; the node is bound all the same, but no vote has left it.
    let step = voter.on_ask(at(4040), &with(renewal("a", 1, s(4)), &abc()));
    assert_eq!(step.record, Some(written.clone()));
    let step = voter.on_ask(at(4050), &with(renewal("a", 1, s(4)), &abc()));
    assert_eq!(step.record, Some(written.clone()));
    voter.recorded(&written);
    assert_eq!(voter.on_ask(at(4060), &with(renewal("a", 1, s(4)), &abc())).record, None);
}

#[test]
fn the_record_of_an_earlier_lease_does_not_stand_for_a_later_one() {
    let mut voter = voter();
    let first = voter.on_ask(at(0), &with(vote("a", 1, s(4)), &abc())).record.unwrap();
    voter.on_ask(at(10), &with(vote("a", 2, s(4)), &abc()));
    voter.recorded(&first);
    assert_eq!(voter.on_ask(at(20), &with(renewal("a", 2, s(4)), &abc())).record, Some(record("a", 2, s(4))));
}

#[test]
fn a_candidate_with_other_voters_is_refused_and_told_which() {
    let mut voter = voter();
    let step = voter.on_ask(at(0), &with(vote("a", 1, s(4)), &nodes("a b")));
    assert_eq!(step.verdict.refused, Some(Refusal::Voters { ours: abc() }));
    assert_eq!((step.record, voter.highest()), (None, 0));
    assert_eq!(abc().difference(&nodes("a b d")), ["c", "d"]);
}

#[test]
fn new_voters_come_into_force_when_the_vote_is_free() {
    let mut voter = voter();
    voter.reconfigure(at(0), nodes("a b c d"));
    assert_eq!((voter.voters(), voter.pending()), (&nodes("a b c d"), None));
    voter.on_ask(at(0), &with(vote("a", 1, s(4)), &nodes("a b c d")));
    voter.reconfigure(at(1000), abc());
    assert_eq!((voter.voters(), voter.pending()), (&nodes("a b c d"), Some(&abc())));
    let step = voter.on_ask(at(4040), &with(vote("b", 2, s(4)), &abc()));
    assert_eq!((step.verdict.refused, voter.pending()), (None, None));
}

#[test]
fn new_voters_come_into_force_with_the_holders_renewal() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(4))).unwrap();
    voter.reconfigure(at(10), nodes("a b"));
    // Until then it renews with the old ones.
    assert_eq!(asks(&mut voter, at(20), &renewal("a", 1, s(4))), Ok(None));
    let step = voter.on_ask(at(30), &with(renewal("a", 1, s(4)), &nodes("a b")));
    assert_eq!((step.verdict.refused, voter.voters(), voter.pending()), (None, &nodes("a b"), None));
}

#[test]
fn a_reload_that_takes_the_change_back_leaves_nothing_pending() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(4))).unwrap();
    voter.reconfigure(at(10), nodes("a b"));
    voter.reconfigure(at(20), abc());
    assert_eq!(voter.pending(), None);
}

#[test]
fn a_fenced_nodes_vote_is_free_at_once_but_not_that_of_its_next_lease() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 2, s(4))).unwrap();
    assert_eq!(voter.on_fenced(at(10), "a", 1), None);
    assert_eq!(voter.on_fenced(at(10), "b", 2), None);
    assert!(voter.bound(at(10)).is_some());
    assert_eq!(voter.on_fenced(at(10), "a", 2), Some(record("a", 2, Duration::ZERO)));
    assert_eq!(asks(&mut voter, at(10), &vote("b", 3, s(4))), Ok(Some(record("b", 3, s(4)))));
}

#[test]
fn after_a_restart_the_voters_are_those_of_before_until_the_step_is_taken() {
    let mut voter = Voter::new(at(0), nodes("a b c d"), Some(record("a", 5, s(4))));
    assert_eq!((voter.voters(), voter.configured(), voter.accepted()), (&abc(), &nodes("a b c d"), &abc()));
    let step = voter.on_ask(at(10), &with(renewal("a", 5, s(4)), &nodes("a b c d")));
    assert_eq!(step.verdict.refused, Some(Refusal::Voters { ours: abc() }), "not even for the holder");
    let step = voter.on_ask(at(20), &with(renewal("a", 5, s(4)), &abc()));
    assert_eq!(step.verdict.refused, None);
    voter.step(at(30), nodes("a b c d"));
    assert_eq!(voter.voters(), &abc(), "the vote is bound");
    assert!(voter.on_release(at(40), &release("a", 5)).is_some());
    assert_eq!((voter.voters(), voter.unproven()), (&abc(), Some(&nodes("a b c d"))));
    voter.step(at(50), nodes("a b c d"));
    assert_eq!((voter.voters(), voter.unproven(), voter.in_force()), (&nodes("a b c d"), None, 0));
    let record = voter.unrecorded(at(50)).unwrap();
    assert_eq!((&record.voters, record.epoch, record.hold), (&nodes("a b c d"), 5, Duration::ZERO));
    voter.recorded(&record);
    assert_eq!((voter.unrecorded(at(50)), voter.in_force()), (None, nodes("a b c d").digest()));
}

#[test]
fn an_epoch_that_others_have_voted_for_outlives_a_restart_and_leaves_the_vote_bound() {
    let mut voter = Voter::new(at(0), nodes("a b c d"), Some(record("a", 5, s(4))));
    voter.note_epoch(9);
    let step = voter.on_ask(at(10), &with(renewal("a", 5, s(4)), &abc()));
    assert_eq!((step.verdict.refused, step.record), (None, None), "the holder goes on");
    voter.reconfigure(at(20), abc());
    voter.reconfigure(at(30), nodes("a b c d"));
    let step = voter.on_ask(at(40), &with(renewal("a", 5, s(4)), &nodes("a b c d")));
    assert_eq!(step.verdict.refused, None);
    let found = voter.unrecorded(at(40)).unwrap();
    assert_eq!((found.epoch, &found.voters, found.hold), (9, &nodes("a b c d"), s(4)));
    let mut later = Voter::new(at(50), nodes("a b c d"), Some(found));
    assert_eq!(later.bound(at(50)).map(|bound| bound.holder.to_string()), Some("a".to_string()));
    let late = later.on_ask(at(60), &with(renewal("a", 5, s(4)), &nodes("a b c d")));
    assert_eq!(late.verdict.refused, Some(Refusal::Stale));
}

#[test]
fn a_voter_that_has_lost_its_record_knows_no_voters_until_it_has_waited() {
    let mut voter = Voter::without_record(at(0), abc(), s(4));
    voter.on_ask(at(4_039), &vote("b", 6, s(4)));
    assert_eq!((voter.voters(), voter.unrecorded(at(4_039))), (&Voters::default(), None));
    voter.on_ask(at(4_040), &vote("b", 6, s(4)));
    assert_eq!(voter.voters(), &abc());
    assert_eq!(
        Voter::new(at(0), abc(), Some(record("a", 5, Duration::ZERO))).on_release(at(10), &release("a", 5)),
        None
    );
}

fn kept(ask: Ask) -> Ask {
    Ask { kept: true, ..ask }
}

fn kept_for(holder: &str) -> Refusal {
    Refusal::Kept { holder: holder.into() }
}

#[test]
fn a_vote_that_is_kept_binds_without_end_and_is_on_disk_first() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(4))).unwrap();
    let step = voter.on_ask(at(1000), &kept(renewal("a", 1, s(4))));
    assert!(step.verdict.kept);
    assert_eq!(step.record, Some(Record { kept: true, ..record("a", 1, s(4)) }));
    // Until it is on disk, each renewal wants it there.
    assert!(voter.on_ask(at(2000), &kept(renewal("a", 1, s(4)))).record.is_some());
    voter.recorded(&record("a", 1, s(4)));
    assert!(voter.on_ask(at(2001), &kept(renewal("a", 1, s(4)))).record.is_some(), "that was the one before");
    voter.recorded(&Record { kept: true, ..record("a", 1, s(4)) });
    assert_eq!(asks(&mut voter, at(3000), &kept(renewal("a", 1, s(4)))), Ok(None));
    for later in [at(8000), at(1_000_000_000)] {
        assert!(voter.bound(later).unwrap().kept);
        assert_eq!(asks(&mut voter, later, &vote("b", 2, s(4))), Err(kept_for("a")));
    }
}

#[test]
fn a_kept_vote_whose_holder_asks_for_one_that_is_not_binds_for_the_hold_from_that_receipt() {
    let mut voter = voter();
    asks(&mut voter, at(0), &kept(vote("a", 1, s(4)))).unwrap();
    let step = voter.on_ask(at(100_000), &renewal("a", 1, s(4)));
    assert!(!step.verdict.kept);
    assert_eq!((step.record, step.afterwards), (None, Some(record("a", 1, s(4)))), "nobody waits for this record");
    assert_eq!(bound(&voter, at(100_000)), Some(("a", 1, ms(4040))));
    assert_eq!(asks(&mut voter, at(104_039), &vote("b", 2, s(4))), Err(bound_to("a", ms(1))));
    assert!(asks(&mut voter, at(104_040), &vote("b", 2, s(4))).is_ok());
}

#[test]
fn what_was_promised_before_a_vote_was_kept_is_still_true_after_that() {
    let mut voter = voter();
    asks(&mut voter, at(0), &vote("a", 1, s(40))).unwrap();
    asks(&mut voter, at(1000), &kept(renewal("a", 1, s(40)))).unwrap();
    asks(&mut voter, at(2000), &vote("a", 2, s(4))).unwrap();
    assert_eq!(bound(&voter, at(2000)), Some(("a", 2, ms(1000 + 40_400 - 2000))));
}

#[test]
fn a_kept_vote_is_free_when_it_is_given_back_or_its_holder_is_fenced() {
    let mut voter = voter();
    asks(&mut voter, at(0), &kept(vote("a", 3, s(4)))).unwrap();
    assert_eq!(voter.on_release(at(9000), &release("b", 9)), None);
    assert_eq!(voter.on_release(at(9000), &release("a", 2)), None, "a lease of before");
    assert_eq!(voter.on_release(at(9000), &release("a", 3)), Some(record("a", 3, s(0))));
    asks(&mut voter, at(9001), &kept(vote("b", 4, s(4)))).unwrap();
    assert!(voter.on_fenced(at(90_000), "b", 4).is_some());
    assert!(asks(&mut voter, at(90_000), &vote("c", 5, s(4))).is_ok());
}

#[test]
fn a_voter_that_has_lost_its_record_gives_no_vote_while_it_is_paused_and_then_waits_once_more() {
    let mut voter = Voter::without_record(at(0), abc(), s(4));
    voter.pause(at(0), true, s(4));
    for later in [at(4_040), at(1_000_000)] {
        assert_eq!(asks(&mut voter, later, &vote("b", 2, s(4))), Err(Refusal::Waits { left: ms(4_040) }));
    }
    voter.pause(at(1_000_000), false, s(4));
    assert_eq!(asks(&mut voter, at(1_004_039), &vote("b", 2, s(4))), Err(Refusal::Waits { left: ms(1) }));
    assert!(asks(&mut voter, at(1_004_040), &vote("b", 2, s(4))).is_ok());
    // One that knows what it has promised goes by that.
    voter.pause(at(1_005_000), true, s(4));
    assert!(asks(&mut voter, at(1_010_000), &vote("c", 3, s(4))).is_ok());
}

#[test]
fn a_recorded_vote_that_was_kept_is_kept_after_a_restart() {
    let found = Record { kept: true, ..record("a", 3, s(4)) };
    let mut voter = Voter::new(at(0), abc(), Some(found));
    assert_eq!(asks(&mut voter, at(1_000_000), &vote("b", 4, s(4))), Err(kept_for("a")));
    assert!(asks(&mut voter, at(1_000_000), &vote("a", 4, s(4))).is_ok());
    assert_eq!(bound(&voter, at(1_000_000)), Some(("a", 4, ms(4040))));
}
