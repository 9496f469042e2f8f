//! The claim of one node on the lease: it counts the votes of a candidate, and those of a holder again at every heartbeat.
//!
//! Decides whether the lease is won, until when it runs, and what is asked next. Where the votes come from does not matter here.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;

use super::rules::{Rule, is_off};
use super::{Ask, FOR_EVER, Grant, Kind, Refusal, Release, Terms, Verdict, Voters};
use crate::time::{Duration, Instant};

/// Rounds whose answers still count. A lease is worth a few heartbeats, so an answer to an older round would not prolong it.
const MAX_ROUNDS: usize = 32;

/// The claim of this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    me: String,
    voters: Voters,
    /// Those in force: of the last epoch that was won.
    terms: Terms,
    /// Those of the configuration. Longer ones need a new epoch, because what a voter has promised does not grow.
    wanted: Terms,
    phase: Phase,
    /// The highest epoch heard of.
    highest: u64,
    /// The highest epoch that this claim has asked for: it gives back no other.
    asked: u64,
    last_round: u64,
    rounds: VecDeque<Round>,
    /// Until when the vote of each node carries the lease.
    votes: BTreeMap<String, Instant>,
    refusals: BTreeMap<String, (Refusal, Instant)>,
    /// What is asked for shall be kept.
    keeps: bool,
    /// The first round since then.
    kept_from: u64,
    /// Who keeps its vote for this node, whatever the epoch.
    kept: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Standing {
        epoch: u64,
        /// Those who were asked and have not answered.
        open: BTreeSet<String>,
    },
    Holding {
        epoch: u64,
        until: Instant,
        /// A higher epoch that is being asked for. Its votes count for it alone until a majority has given them: they may be promised for
        /// other terms than those in force.
        raise: Option<u64>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Round {
    number: u64,
    /// Before the first question left.
    began: Instant,
    epoch: u64,
    terms: Terms,
    granted: BTreeSet<String>,
}

/// What a verdict comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing changes.
    Open,
    /// The lease is won.
    Won,
    /// It cannot be won any more in this round; there may be hope after this time.
    Lost(Option<Duration>),
}

impl Claim {
    /// The claim of a node that neither stands nor holds.
    pub fn new(me: &str, voters: Voters, terms: Terms) -> Self {
        Self {
            me: me.into(),
            voters,
            terms,
            wanted: terms,
            phase: Phase::Idle,
            highest: 0,
            asked: 0,
            last_round: 0,
            rounds: VecDeque::new(),
            votes: BTreeMap::new(),
            refusals: BTreeMap::new(),
            keeps: false,
            kept_from: 0,
            kept: BTreeSet::new(),
        }
    }

    /// This node.
    pub fn me(&self) -> &str {
        &self.me
    }

    /// Who votes.
    pub const fn voters(&self) -> &Voters {
        &self.voters
    }

    /// The terms in force: how long the lease lasts, and how long `stop` may take after it.
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// The terms of the configuration.
    pub const fn wanted(&self) -> Terms {
        self.wanted
    }

    /// The epoch that is held.
    pub const fn epoch(&self) -> Option<u64> {
        match self.phase {
            Phase::Holding { epoch, .. } => Some(epoch),
            Phase::Idle | Phase::Standing { .. } => None,
        }
    }

    /// Until when the lease that was won runs, whether that has passed or not.
    pub fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Holding { .. } if self.is_kept() => Some(FOR_EVER),
            Phase::Holding { until, .. } => Some(until),
            Phase::Idle | Phase::Standing { .. } => None,
        }
    }

    /// Whether an operator's word stands in for votes.
    pub fn is_forced(&self) -> bool {
        matches!(self.phase, Phase::Holding { until: FOR_EVER, .. })
    }

    /// From now on votes are asked for that shall be kept, or no longer.
    pub const fn keep(&mut self, keeps: bool) {
        if keeps && !self.keeps {
            // An answer to an earlier question may be older than one that was not to be kept.
            self.kept_from = self.last_round + 1;
        }
        self.keeps = keeps;
    }

    /// How many keep their votes for this node.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Whether a majority keeps its votes for this node: whatever runs here may go on.
    pub fn is_kept(&self) -> bool {
        self.kept.len() >= self.voters.majority()
    }

    /// Whether the lease runs.
    pub fn holds(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// Whether it waits for votes.
    pub const fn is_standing(&self) -> bool {
        matches!(self.phase, Phase::Standing { .. })
    }

    /// How many votes it has.
    pub fn votes(&self, now: Instant) -> usize {
        self.votes.values().filter(|until| now < **until).count()
    }

    /// Who refused last, and why.
    pub fn refusals(&self) -> impl Iterator<Item = (&str, &Refusal)> {
        self.refusals.iter().map(|(node, (refusal, _))| (node.as_str(), refusal))
    }

    /// The highest epoch heard of.
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// An epoch that somebody has seen.
    pub fn note_epoch(&mut self, epoch: u64) {
        self.highest = self.highest.max(epoch);
    }

    /// New settings. What was promised for the lease that is held stays as it is until a new epoch is won.
    pub fn reconfigure(&mut self, voters: Voters, terms: Terms) {
        self.voters = voters;
        self.wanted = terms;
        if is_off(Rule::NewTerms) {
            self.terms = terms;
        }
        let voters = &self.voters;
        self.votes.retain(|node, _| voters.contains(node));
        self.kept.retain(|node| voters.contains(node));
        self.refusals.retain(|node, _| voters.contains(node));
        match &mut self.phase {
            Phase::Holding { raise, .. } if terms != self.terms => *raise = Some(self.highest.saturating_add(1)),
            // A candidate has asked for as much as it knew of.
            Phase::Holding { .. } | Phase::Standing { .. } => {}
            Phase::Idle => self.terms = terms,
        }
    }

    /// Stands for the lease: these nodes will be asked.
    pub fn stand(&mut self, now: Instant, asked: impl IntoIterator<Item = String>) -> Ask {
        self.forget();
        self.terms = self.wanted;
        self.highest = self.highest.saturating_add(1);
        let epoch = self.highest;
        self.phase = Phase::Standing { epoch, open: asked.into_iter().collect() };
        self.ask(now, Kind::Vote, epoch, self.wanted)
    }

    /// Takes over a lease that was won for this node.
    pub fn resume(&mut self, grant: Grant) {
        self.forget();
        self.note_epoch(grant.epoch);
        self.asked = grant.epoch;
        self.terms = grant.terms;
        self.phase = Phase::Holding { epoch: grant.epoch, until: grant.until, raise: self.raise_for_terms() };
    }

    /// Holds without votes, because an operator answers for it. Nobody has agreed to its epoch, so another one is asked for from here on;
    /// the lease ends when that has been won and lost again.
    pub fn force(&mut self) {
        self.forget();
        self.terms = self.wanted;
        self.highest = self.highest.saturating_add(1);
        let raise = Some(self.highest.saturating_add(1));
        self.phase = Phase::Holding { epoch: self.highest, until: FOR_EVER, raise };
    }

    /// What the holder asks at a heartbeat; nobody else asks for anything.
    pub fn renew(&mut self, now: Instant) -> Option<Ask> {
        let Phase::Holding { epoch, raise, .. } = self.phase else { return None };
        Some(match raise {
            None => self.ask(now, Kind::Renew, epoch, self.terms),
            Some(higher) => {
                let higher = higher.max(self.highest.saturating_add(1));
                self.highest = higher;
                if let Phase::Holding { raise, .. } = &mut self.phase {
                    *raise = Some(higher);
                }
                self.ask(now, Kind::Vote, higher, self.wanted)
            }
        })
    }

    fn ask(&mut self, now: Instant, kind: Kind, epoch: u64, terms: Terms) -> Ask {
        self.last_round += 1;
        self.asked = self.asked.max(epoch);
        let round = self.last_round;
        if self.rounds.len() == MAX_ROUNDS {
            self.rounds.pop_front();
        }
        self.rounds.push_back(Round { number: round, began: now, epoch, terms, granted: BTreeSet::new() });
        self.asked = self.asked.max(epoch);
        if !self.keeps {
            self.keep_no_longer(now, terms);
        }
        let voters = self.voters.digest();
        Ask { node: self.me.clone(), kind, epoch, hold: terms.hold(), round, voters, kept: self.keeps }
    }

    /// The first question that is not to be kept is about to leave. Who hears it binds its vote for its whole hold from then on, and who does not
    /// keeps it: either way it carries the lease from here on as if this round were answered.
    fn keep_no_longer(&mut self, now: Instant, asked: Terms) {
        let kept = core::mem::take(&mut self.kept);
        let Phase::Holding { epoch, until, raise } = self.phase else { return };
        if kept.is_empty() {
            return;
        }
        // `stop` has the time of the terms in force, the voters bind for as long as is asked now.
        let carries = self.terms.lease.min(asked.hold().saturating_sub(self.terms.stop));
        for node in kept {
            let known = self.votes.entry(node).or_insert(now);
            *known = (now + carries).max(*known);
        }
        let until = self.carried_until().map_or(until, |carried| carried.max(until));
        self.phase = Phase::Holding { epoch, until, raise };
    }

    /// A voter has answered.
    pub fn on_verdict(&mut self, now: Instant, from: &str, verdict: &Verdict) -> Outcome {
        if !self.voters.contains(from) {
            return Outcome::Open;
        }
        let Some(round) = self.rounds.iter_mut().find(|round| round.number == verdict.round) else {
            return Outcome::Open;
        };
        match &verdict.refused {
            None => {
                round.granted.insert(from.into());
                if verdict.kept && self.keeps && round.number >= self.kept_from {
                    self.kept.insert(from.into());
                }
                self.refusals.remove(from);
                if is_off(Rule::CountFromAsking) {
                    round.began = now;
                }
            }
            Some(refusal) => {
                self.refusals.insert(from.into(), (refusal.clone(), now));
            }
        }
        let round = round.clone();
        self.note_epoch(verdict.highest);
        match &mut self.phase {
            Phase::Idle => Outcome::Open,
            Phase::Standing { epoch, open } => {
                let epoch = *epoch;
                open.remove(from);
                self.count(&round);
                match self.carried_until().filter(|until| now < *until) {
                    Some(until) => {
                        self.phase = Phase::Holding { epoch, until, raise: self.raise_for_terms() };
                        Outcome::Won
                    }
                    None => self.lost(now),
                }
            }
            Phase::Holding { .. } => {
                self.prolong(now, &round, verdict);
                Outcome::Open
            }
        }
    }

    /// Those who have given their votes in this round carry the lease until its end.
    fn count(&mut self, round: &Round) {
        let until = round.began + round.terms.lease;
        for node in round.granted.iter().filter(|node| self.voters.contains(node)) {
            // An answer that overtook a later one takes nothing away.
            let known = self.votes.entry(node.clone()).or_insert(until);
            *known = until.max(*known);
        }
    }

    fn prolong(&mut self, now: Instant, round: &Round, verdict: &Verdict) {
        let Phase::Holding { epoch, until, raise } = self.phase else { return };
        if round.epoch == epoch {
            self.count(round);
            let is_stale = verdict.refused == Some(Refusal::Stale);
            let raise = raise.or_else(|| is_stale.then(|| self.highest.saturating_add(1)));
            let until = self.carried_until().map_or(until, |carried| carried.max(until));
            self.phase = Phase::Holding { epoch, until, raise };
        } else if raise == Some(round.epoch) && now < round.began + round.terms.lease {
            let granted = round.granted.iter().filter(|node| self.voters.contains(node)).count();
            if granted >= self.voters.majority() {
                // All that counts from here on was promised under the new epoch and its terms.
                self.votes.clear();
                self.count(round);
                self.terms = round.terms;
                let until = round.began + round.terms.lease;
                self.phase = Phase::Holding { epoch: round.epoch, until, raise: self.raise_for_terms() };
            }
        }
    }

    /// A higher epoch is needed when the terms were changed while the one that is won was asked for.
    fn raise_for_terms(&self) -> Option<u64> {
        (self.terms != self.wanted).then(|| self.highest.saturating_add(1))
    }

    /// Nobody is left who could give the vote that is missing.
    fn lost(&mut self, now: Instant) -> Outcome {
        let Phase::Standing { open, .. } = &self.phase else { return Outcome::Open };
        if self.votes.len() + open.len() >= self.voters.majority() {
            return Outcome::Open;
        }
        let open = open.len();
        Outcome::Lost(self.hope_with(now, open))
    }

    /// When as many voters as are missing may be free.
    pub fn hope(&self, now: Instant) -> Option<Duration> {
        self.hope_with(now, 0)
    }

    /// The same, where `open` voters have not answered and may be free now, for all that is known.
    fn hope_with(&self, now: Instant, open: usize) -> Option<Duration> {
        let missing = self.voters.majority().saturating_sub(self.votes.len());
        let refused = self.refusals.values().filter_map(|(refusal, heard)| Some((*heard + refusal.left()?).since(now)));
        let mut waits: alloc::vec::Vec<Duration> = refused.chain(core::iter::repeat_n(Duration::ZERO, open)).collect();
        waits.sort_unstable();
        waits.get(missing.saturating_sub(1)).copied()
    }

    /// Until when a majority carries the lease.
    fn carried_until(&self) -> Option<Instant> {
        let mut untils: alloc::vec::Vec<Instant> = self.votes.values().copied().collect();
        untils.sort_unstable_by(|a, b| b.cmp(a));
        untils.get(self.voters.majority() - 1).copied()
    }

    /// Gives back what there is, at the end of a lease or of a candidacy. Only who has stopped the resource may call this.
    pub fn release(&mut self, successor: Option<String>, reserve: Duration) -> Option<Release> {
        // Not the highest epoch heard of: this node may win that later, and a release that comes late would end it.
        let (epoch, was_held) = match &self.phase {
            Phase::Idle => return None,
            Phase::Standing { epoch, .. } => (*epoch, false),
            Phase::Holding { epoch, .. } => (self.asked.max(*epoch), true),
        };
        self.phase = Phase::Idle;
        self.forget();
        Some(Release { node: self.me.clone(), epoch, successor, reserve, was_held })
    }

    fn forget(&mut self) {
        self.votes.clear();
        self.rounds.clear();
        self.refusals.clear();
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests;
