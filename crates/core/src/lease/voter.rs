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
    voters: Voters,
    /// New voters that come into force when the holder renews with them or the vote is free.
    pending: Option<Voters>,
    highest: u64,
    vote: Option<Vote>,
    reserved: Option<Reserved>,
    /// The last lease that was given back: a renewal of it comes late.
    released: Option<(String, u64)>,
    /// Nothing is known of what was promised before.
    waits_until: Option<Instant>,
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
    /// a longer one.
    fn record(&self, now: Instant) -> Record {
        let left = self.until.since(now);
        let hold = if left > with_drift(self.hold) { left } else { self.hold };
        Record { holder: self.holder.clone(), epoch: self.epoch, hold, kept: self.kept }
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
    /// A voter that has just started, with what it finds on disk.
    pub fn new(now: Instant, voters: Voters, found: Option<Record>) -> Self {
        let mut voter =
            Self { voters, pending: None, highest: 0, vote: None, reserved: None, released: None, waits_until: None };
        if let Some(Record { holder, epoch, hold, kept }) = found.filter(|_| !is_off(Rule::RecordBinds)) {
            voter.highest = epoch;
            let until = now + with_drift(hold);
            voter.vote = (!hold.is_zero()).then_some(Vote { holder, epoch, hold, until, kept, is_recorded: true });
        }
        voter
    }

    /// A voter whose record cannot be read: it may have promised as much as its configuration allows.
    pub fn without_record(now: Instant, voters: Voters, hold: Duration) -> Self {
        let hold = if is_off(Rule::LostRecord) { Duration::ZERO } else { hold };
        Self { waits_until: Some(now + with_drift(hold)), ..Self::new(now, voters, None) }
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

    /// The voters in force.
    pub const fn voters(&self) -> &Voters {
        &self.voters
    }

    /// Voters of a new configuration that are not in force yet.
    pub const fn pending(&self) -> Option<&Voters> {
        self.pending.as_ref()
    }

    /// A new configuration. Its voters come into force when the vote is free, or with the holder.
    pub fn reconfigure(&mut self, now: Instant, voters: Voters) {
        self.pending = (voters != self.voters).then_some(voters);
        self.forget(now);
    }

    /// What came with a verdict or a release is on disk.
    pub fn recorded(&mut self, record: &Record) {
        if let Some(vote) = &mut self.vote
            && vote.holder == record.holder
            && vote.epoch == record.epoch
            && vote.kept == record.kept
        {
            vote.is_recorded = true;
        }
    }

    /// What time has ended.
    fn forget(&mut self, now: Instant) {
        self.vote.take_if(|vote| !vote.binds(now));
        self.reserved.take_if(|reserved| now >= reserved.until);
        self.waits_until.take_if(|until| now >= *until);
        if (self.vote.is_none() || is_off(Rule::PendingVoters))
            && self.waits_until.is_none()
            && let Some(voters) = self.pending.take()
        {
            self.voters = voters;
        }
    }

    /// The voters of the configuration, in force or not.
    pub fn configured(&self) -> &Voters {
        self.pending.as_ref().unwrap_or(&self.voters)
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
            return Err(Refusal::Waits { left: until.since(now) });
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
            let record = (!vote.is_recorded).then(|| vote.record(now));
            // Until that is on disk it binds for longer than it must.
            let afterwards = (was_kept && !ask.kept && record.is_none()).then(|| vote.record(now));
            return Ok((record, afterwards));
        }
        let is_stale = match ask.kind {
            Kind::Vote => ask.epoch <= self.highest,
            // Who renews has won this epoch, and nobody else has: this vote was not among those that it got.
            Kind::Renew => ask.epoch < self.highest,
        };
        let is_released = self.released.as_ref().is_some_and(|(node, epoch)| *node == ask.node && ask.epoch <= *epoch);
        if (is_stale && !is_off(Rule::Epochs)) || (is_released && !is_off(Rule::Released)) {
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
        match self.pending.take_if(|pending| pending.digest() == voters) {
            Some(pending) => {
                self.voters = pending;
                Ok(())
            }
            None => Err(Refusal::Voters { ours: self.configured().clone() }),
        }
    }

    fn bind(&mut self, now: Instant, ask: &Ask) -> Record {
        // What was promised to the same node before is still true.
        let before = self.vote.as_ref().map_or(now, |vote| vote.until);
        let until = before.max(now + with_drift(ask.hold));
        let (holder, hold) = (ask.node.clone(), ask.hold);
        let vote = Vote { holder, epoch: ask.epoch, hold, until, kept: ask.kept, is_recorded: false };
        let record = vote.record(now);
        self.highest = ask.epoch;
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
        let successor = release.successor.clone().filter(|node| self.voters.contains(node));
        self.reserved = successor.map(|successor| Reserved { successor, until: now + release.reserve });
        self.forget(now);
        Some(Record { holder: release.node.clone(), epoch: self.highest, hold: Duration::ZERO, kept: false })
    }

    /// A node is off for certain: it runs nothing, whatever it was promised.
    pub fn on_fenced(&mut self, now: Instant, node: &str, epoch: u64) -> Option<Record> {
        let release = Release { node: node.into(), epoch, successor: None, reserve: Duration::ZERO, was_held: true };
        self.on_release(now, &release)
    }
}

#[cfg(test)]
mod tests;
