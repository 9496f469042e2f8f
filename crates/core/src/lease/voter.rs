//! The voter: to whom the vote of this node is bound, and until when. One for each resource, whatever the role of this node.
//!
//! Decides each question at once. What must be on disk before the answer leaves comes back with the answer; nothing is written here.

use alloc::string::String;

use super::record::Record;
use super::rules::{Rule, is_off};
use super::{Ask, Kind, Refusal, Release, Verdict, Voters, with_drift};
use crate::time::{Duration, Instant};

/// The vote of this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voter {
    /// Those in force; none while a voter that has lost its record waits.
    voters: Voters,
    /// New voters that come into force when the holder renews with them or the vote is free.
    pending: Option<Voters>,
    /// They were found at the start: it is not known yet whether the step to them may be taken, and until then it is not.
    is_unproven: bool,
    /// The digest of the voters that are on disk. Until that are those in force, nobody is told that they are: after a crash they would not be.
    recorded: u64,
    highest: u64,
    vote: Option<Vote>,
    reserved: Option<Reserved>,
    /// The last lease that was given back: a renewal of it comes late.
    released: Option<(String, u64)>,
    /// Nothing is known of what was promised before.
    waits_until: Option<Instant>,
    /// The resource is paused: what is not known may be a vote that is kept. For how long it waits from the end of that on.
    paused: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Vote {
    holder: String,
    epoch: u64,
    hold: Duration,
    /// Unless it is kept.
    until: Instant,
    /// It binds until the holder asks again for one that is not kept, whatever the time.
    kept: bool,
    /// It is on disk. A renewal of one that is not would leave the node without a trace.
    is_recorded: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reserved {
    successor: String,
    until: Instant,
}

impl Vote {
    /// After a restart it must bind at least as long as it does now: for longer than its hold, when an earlier promise to the same node was
    /// a longer one. The `highest` epoch must be known again: where others have voted for a later one, what is left of this vote is its hold.
    fn record(&self, now: Instant, highest: u64, voters: &Voters) -> Record {
        let left = self.until.since(now);
        let hold = if left > with_drift(self.hold) { left } else { self.hold };
        Record { holder: self.holder.clone(), epoch: highest, hold, voters: voters.clone(), kept: self.kept }
    }

    fn binds(&self, now: Instant) -> bool {
        now < self.until || (self.kept && !is_off(Rule::KeptBinds))
    }
}

/// Who has the vote now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound<'a> {
    /// The node.
    pub holder: &'a str,
    /// Its epoch.
    pub epoch: u64,
    /// For how long, unless it renews.
    pub left: Duration,
    /// The vote is kept: it binds longer than that.
    pub kept: bool,
}

/// An answer, and what must be on disk before it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The answer.
    pub verdict: Verdict,
    /// To be written first. When that is done, [`Voter::recorded`] must know: until then each renewal asks for it again. When it fails, the
    /// answer is [`Refusal::NotRecorded`].
    pub record: Option<Record>,
    /// To be written as well; nobody waits for that.
    pub afterwards: Option<Record>,
}

impl Voter {
    /// A voter that has just started, with what it finds on disk. `voters`: those of the configuration.
    pub fn new(now: Instant, voters: Voters, found: Option<Record>) -> Self {
        let mut voter = Self {
            voters,
            pending: None,
            is_unproven: false,
            recorded: 0,
            highest: 0,
            vote: None,
            reserved: None,
            released: None,
            waits_until: None,
            paused: None,
        };
        if let Some(Record { holder, epoch, hold, voters, kept }) = found.filter(|_| !is_off(Rule::RecordBinds)) {
            (voter.highest, voter.recorded) = (epoch, voters.digest());
            let until = now + with_drift(hold);
            voter.vote = (!hold.is_zero()).then_some(Vote { holder, epoch, hold, until, kept, is_recorded: true });
            if voters != voter.voters && !voters.is_empty() && !is_off(Rule::VotersRecorded) {
                voter.pending = Some(core::mem::replace(&mut voter.voters, voters));
                voter.is_unproven = true;
            }
        }
        voter
    }

    /// What is to be written because the voters in force are not on disk.
    pub fn unrecorded(&self, now: Instant) -> Option<Record> {
        (self.recorded != self.voters.digest() && !self.voters.is_empty()).then(|| match &self.vote {
            Some(vote) => vote.record(now, self.highest, &self.voters),
            None => {
                let (holder, voters) = (String::new(), self.voters.clone());
                Record { holder, epoch: self.highest, hold: Duration::ZERO, voters, kept: false }
            }
        })
    }

    /// The digest of the voters in force; zero while they are not on disk.
    pub fn in_force(&self) -> u64 {
        if self.recorded == self.voters.digest() || is_off(Rule::VotersRecorded) { self.voters.digest() } else { 0 }
    }

    /// Voters of the configuration that may not be the next ones, for all that is known.
    pub fn unproven(&self) -> Option<&Voters> {
        self.pending.as_ref().filter(|_| self.is_unproven)
    }

    /// One of the steps to the voters of the configuration may be taken. It is, unless the vote is bound.
    pub fn step(&mut self, now: Instant, next: Voters) {
        self.forget(now);
        if self.vote.is_none() && self.waits_until.is_none() {
            self.is_unproven = self.pending.as_ref() != Some(&next);
            if !self.is_unproven {
                self.pending = None;
            }
            self.voters = next;
        }
    }

    /// A voter whose record cannot be read: it may have promised as much as its configuration allows.
    pub fn without_record(now: Instant, voters: Voters, hold: Duration) -> Self {
        let hold = if is_off(Rule::LostRecord) { Duration::ZERO } else { hold };
        let mut voter = Self { waits_until: Some(now + with_drift(hold)), ..Self::new(now, voters, None) };
        // Those in force are lost as well. Until the wait is over nobody may count on any: a change of voters takes its next step when they are.
        if !is_off(Rule::PendingVoters) {
            voter.pending = Some(core::mem::take(&mut voter.voters));
        }
        voter
    }

    /// The resource is paused, or no longer. A voter that has lost its record may have lost a vote that was to be kept: it gives none while the
    /// pause lasts, and then waits for `hold`.
    pub fn pause(&mut self, now: Instant, is_paused: bool, hold: Duration) {
        if let (Some(_), Some(until), false) = (self.paused, &mut self.waits_until, is_paused) {
            *until = (*until).max(now + with_drift(hold));
        }
        self.paused = is_paused.then_some(hold);
    }

    /// Who has the vote.
    pub fn bound(&self, now: Instant) -> Option<Bound<'_>> {
        let vote = self.vote.as_ref().filter(|vote| vote.binds(now))?;
        Some(Bound { holder: &vote.holder, epoch: vote.epoch, left: vote.until.since(now), kept: vote.kept })
    }

    /// The highest epoch that was voted for.
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// The voters in force; none while they are not known.
    pub const fn voters(&self) -> &Voters {
        &self.voters
    }

    /// Voters of a new configuration that are not in force yet.
    pub const fn pending(&self) -> Option<&Voters> {
        self.pending.as_ref()
    }

    /// Others have voted for this epoch. Majorities of the voters of before and of those after next need not have a node in common: the epoch of
    /// the first is known to the second by those who have seen a majority of the voters between.
    pub fn note_epoch(&mut self, epoch: u64) {
        if !is_off(Rule::EpochsOfSteps) {
            self.highest = self.highest.max(epoch);
        }
    }

    /// A new configuration. Its voters come into force when the vote is free, or with the holder.
    pub fn reconfigure(&mut self, now: Instant, voters: Voters) {
        self.is_unproven &= self.pending.as_ref() == Some(&voters);
        self.pending = (voters != self.voters).then_some(voters);
        self.forget(now);
    }

    /// What came with a verdict or a release is on disk.
    pub fn recorded(&mut self, record: &Record) {
        self.recorded = record.voters.digest();
        if let Some(vote) = &mut self.vote
            && vote.holder == record.holder
            && vote.epoch <= record.epoch
            && vote.kept == record.kept
        {
            vote.is_recorded = true;
        }
    }

    /// What time has ended.
    fn forget(&mut self, now: Instant) {
        self.vote.take_if(|vote| !vote.binds(now));
        self.reserved.take_if(|reserved| now >= reserved.until);
        self.waits_until.take_if(|until| now >= *until && self.paused.is_none());
        if (self.vote.is_none() || is_off(Rule::PendingVoters))
            && self.waits_until.is_none()
            && !self.is_unproven
            && let Some(voters) = self.pending.take()
        {
            self.voters = voters;
        }
    }

    /// The voters of the configuration, in force or not.
    pub fn configured(&self) -> &Voters {
        self.pending.as_ref().unwrap_or(&self.voters)
    }

    /// The voters that candidates may have to get this vote, now or when it is free.
    pub fn accepted(&self) -> &Voters {
        self.pending.as_ref().filter(|_| !self.is_unproven).unwrap_or(&self.voters)
    }

    /// Somebody asks for the vote.
    pub fn on_ask(&mut self, now: Instant, ask: &Ask) -> Step {
        self.forget(now);
        let (refused, record, afterwards) = match self.decide(now, ask) {
            Ok((record, afterwards)) => (None, record, afterwards),
            Err(refusal) => (Some(refusal), None, None),
        };
        let kept = refused.is_none() && ask.kept;
        Step { verdict: Verdict { round: ask.round, highest: self.highest, refused, kept }, record, afterwards }
    }

    /// What is to be written before the answer, and what after it.
    fn decide(&mut self, now: Instant, ask: &Ask) -> Result<(Option<Record>, Option<Record>), Refusal> {
        if let Some(until) = self.waits_until {
            return Err(Refusal::Waits { left: until.since(now).max(self.paused.map_or(Duration::ZERO, with_drift)) });
        }
        if let Some(vote) = self.vote.as_ref().filter(|vote| vote.holder != ask.node && !is_off(Rule::Bound)) {
            let holder = vote.holder.clone();
            return Err(match vote.kept {
                true => Refusal::Kept { holder },
                false => Refusal::Bound { holder, left: vote.until.since(now) },
            });
        }
        self.agree(ask.voters)?;
        if let Some(vote) = self.vote.as_mut().filter(|vote| ask.kind == Kind::Renew && vote.epoch == ask.epoch) {
            // Others count on what was recorded.
            vote.hold = vote.hold.min(ask.hold);
            if !is_off(Rule::Renewal) {
                vote.until = vote.until.max(now + with_drift(vote.hold));
            }
            let was_kept = core::mem::replace(&mut vote.kept, ask.kept);
            if ask.kept && !was_kept {
                vote.is_recorded = false;
            }
            let record = (!vote.is_recorded).then(|| vote.record(now, self.highest, &self.voters));
            // Until that is on disk it binds for longer than it must.
            let is_freed = was_kept && !ask.kept && record.is_none();
            let afterwards = is_freed.then(|| vote.record(now, self.highest, &self.voters));
            return Ok((record, afterwards));
        }
        let is_stale = match ask.kind {
            Kind::Vote => ask.epoch <= self.highest,
            // Who renews has won this epoch, and nobody else has: this vote was not among those that it got.
            Kind::Renew => ask.epoch < self.highest,
        };
        // It could do no harm, but would keep everybody from the vote: a renewal may be heard after the word that its node is off.
        let is_released = self.released.as_ref().is_some_and(|(node, epoch)| *node == ask.node && ask.epoch <= *epoch);
        if (is_stale && !is_off(Rule::Epochs)) || is_released {
            return Err(Refusal::Stale);
        }
        if let Some(reserved) = self.reserved.as_ref().filter(|reserved| reserved.successor != ask.node) {
            return Err(Refusal::Reserved { successor: reserved.successor.clone(), left: reserved.until.since(now) });
        }
        Ok((Some(self.bind(now, ask)), None))
    }

    /// The voters in force are the holder's while the vote is bound.
    fn agree(&mut self, voters: u64) -> Result<(), Refusal> {
        if voters == self.voters.digest() || is_off(Rule::SameVoters) {
            return Ok(());
        }
        match self.pending.take_if(|pending| pending.digest() == voters && !self.is_unproven) {
            Some(pending) => {
                self.voters = pending;
                Ok(())
            }
            None => Err(Refusal::Voters { ours: self.accepted().clone() }),
        }
    }

    fn bind(&mut self, now: Instant, ask: &Ask) -> Record {
        // What was promised to the same node before is still true.
        let before = self.vote.as_ref().map_or(now, |vote| vote.until);
        let until = before.max(now + with_drift(ask.hold));
        let (holder, hold) = (ask.node.clone(), ask.hold);
        let vote = Vote { holder, epoch: ask.epoch, hold, until, kept: ask.kept, is_recorded: false };
        self.highest = self.highest.max(ask.epoch);
        let record = vote.record(now, self.highest, &self.voters);
        self.reserved = None;
        self.vote = Some(vote);
        record
    }

    /// Somebody gives its vote back. What comes back is to be written; nobody waits for that.
    pub fn on_release(&mut self, now: Instant, release: &Release) -> Option<Record> {
        self.forget(now);
        if self.vote.as_ref().is_some_and(|vote| {
            vote.holder != release.node || (vote.epoch > release.epoch && !is_off(Rule::OldRelease))
        }) {
            return None;
        }
        self.released = Some((release.node.clone(), release.epoch));
        self.vote.take()?;
        self.highest = self.highest.max(release.epoch);
        let successor = release.successor.clone().filter(|node| self.configured().contains(node));
        self.reserved = successor.map(|successor| Reserved { successor, until: now + release.reserve });
        self.forget(now);
        let (holder, voters) = (release.node.clone(), self.voters.clone());
        Some(Record { holder, epoch: self.highest, hold: Duration::ZERO, voters, kept: false })
    }

    /// A node is off for certain: it runs nothing, whatever it was promised.
    pub fn on_fenced(&mut self, now: Instant, node: &str, epoch: u64) -> Option<Record> {
        let release = Release { node: node.into(), epoch, successor: None, reserve: Duration::ZERO, was_held: true };
        self.on_release(now, &release)
    }
}

#[cfg(test)]
mod tests;
