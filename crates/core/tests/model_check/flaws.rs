//! What the model check must find: the world with one rule of the voter, of the holder or of their surroundings broken. The real voter and claim
//! are led astray from outside, so that nothing in them has to know of it.

use hastmon_core::lease::claim::Claim;
use hastmon_core::lease::record::Record;
use hastmon_core::lease::voter::Voter;
use hastmon_core::lease::{Ask, Grant, Kind, Release, Terms, Voters};
use hastmon_core::time::{Duration, Instant};

use crate::world::voters;

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The vote goes to whoever asks.
    VotesWhileBound,
    /// A vote binds for the hold alone.
    BindsWithoutDrift,
    /// After a restart the record says who had the vote, and binds nobody.
    ForgetsTheVoteAtRestart,
    /// The epoch need not be above the highest seen.
    VotesForOldEpochs,
    /// The vote leaves the node although it could not be written.
    VotesUnwritten,
    /// The vote that could not be written is given at the next renewal.
    RenewsWhatIsNotWritten,
    /// A renewal may bind for longer than was recorded.
    HoldGrows,
    /// Anybody frees the vote.
    ReleasedByAnybody,
    /// A release frees leases that were won after it.
    OldReleaseFreesNewLease,
    /// A renewal that comes after the release is accepted.
    RenewsAfterRelease,
    /// Anybody may have the vote that is kept for a successor.
    IgnoresTheSuccessor,
    /// One vote is enough.
    OneVoteWins,
    /// The lease runs from the answer instead of the question.
    CountsFromTheAnswer,
    /// New terms are in force without a new epoch.
    NewTermsAtOnce,
    /// `stop` takes longer than its budget, and nobody is told.
    StopsTooSlowly,
    /// The votes are given back before `stop` is done.
    ReleasesBeforeItHasStopped,
}

impl Flaw {
    pub(crate) fn claim(flaw: Option<Self>, name: &str, terms: Terms) -> Claim {
        let voters = if flaw == Some(Self::OneVoteWins) { Voters::new([name.to_owned()]) } else { voters() };
        Claim::new(name, voters, terms)
    }

    pub(crate) fn stop_budget(flaw: Option<Self>, stop: Duration) -> Duration {
        if flaw == Some(Self::StopsTooSlowly) { stop * 2 } else { stop }
    }

    pub(crate) fn found(flaw: Option<Self>, record: Option<Record>) -> Option<Record> {
        if flaw == Some(Self::ForgetsTheVoteAtRestart) {
            return record.map(|record| Record { hold: Duration::ZERO, ..record });
        }
        record
    }

    /// What the voter is made to forget, and what it hears.
    pub(crate) fn before_ask(flaw: Option<Self>, voter: &mut Voter, now: Instant, from: &str, ask: &Ask) -> Ask {
        let bound = voter.bound(now).map(|bound| (bound.holder.to_owned(), bound.epoch));
        let free = |epoch| {
            Voter::new(
                now,
                voters(),
                Some(Record { holder: from.to_owned(), epoch, hold: Duration::ZERO, voters: voters(), kept: false }),
            )
        };
        match flaw {
            Some(Self::VotesWhileBound) if bound.as_ref().is_some_and(|(holder, _)| holder != from) => {
                *voter = free(voter.highest());
            }
            Some(Self::VotesForOldEpochs) if bound.is_none() => *voter = free(0),
            Some(Self::BindsWithoutDrift) => return Ask { hold: ask.hold * 100 / 101, ..ask.clone() },
            Some(Self::HoldGrows) if ask.kind == Kind::Renew && bound == Some((from.to_owned(), ask.epoch)) => {
                let (hold, kept) = (ask.hold, ask.kept);
                let record = Record { holder: from.to_owned(), epoch: ask.epoch, hold, voters: voters(), kept };
                *voter = Voter::new(now, voters(), Some(record));
            }
            _ => {}
        }
        ask.clone()
    }

    pub(crate) fn before_release(flaw: Option<Self>, voter: &mut Voter, now: Instant, release: &Release) -> Release {
        let holder = voter.bound(now).map(|bound| bound.holder.to_owned());
        match flaw {
            Some(Self::ReleasedByAnybody) => Release {
                node: holder.unwrap_or_else(|| release.node.clone()),
                epoch: release.epoch.max(voter.highest()),
                ..release.clone()
            },
            Some(Self::OldReleaseFreesNewLease) => {
                Release { epoch: release.epoch.max(voter.highest()), ..release.clone() }
            }
            Some(Self::IgnoresTheSuccessor) => Release { successor: None, ..release.clone() },
            _ => release.clone(),
        }
    }

    pub(crate) fn after_release(flaw: Option<Self>, voter: &mut Voter, now: Instant) {
        if flaw == Some(Self::RenewsAfterRelease) {
            let (holder, epoch) = (String::new(), voter.highest());
            let record = Record { holder, epoch, hold: Duration::ZERO, voters: voters(), kept: false };
            *voter = Voter::new(now, voters(), Some(record));
        }
    }

    pub(crate) fn reload(flaw: Option<Self>, claim: &mut Claim, terms: Terms) {
        if matches!(flaw, Some(Self::NewTermsAtOnce | Self::HoldGrows))
            && let (Some(epoch), Some(until)) = (claim.epoch(), claim.until())
        {
            let mut new = Claim::new(claim.me(), voters(), terms);
            new.resume(Grant { epoch, until, terms });
            *claim = new;
            return;
        }
        claim.reconfigure(voters(), terms);
    }
}
