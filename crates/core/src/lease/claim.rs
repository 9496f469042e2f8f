//! The claim of one node on the lease: it counts the votes of a candidate, and those of a holder again at every heartbeat.
//!
//! Decides whether the lease is won, until when it runs, and what is asked next. Where the votes come from does not matter here.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;

use super::{Ask, Grant, Kind, Refusal, Release, Terms, Verdict, Voters};
use crate::time::{Duration, Instant};

/// Rounds whose answers still count. A lease is worth a few heartbeats, so an answer to an older round would not prolong it.
const MAX_ROUNDS: usize = 32;
/// The end of a lease that is held without votes.
const FOR_EVER: Instant = Instant::from_nanos(u64::MAX);

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
    last_round: u64,
    rounds: VecDeque<Round>,
    /// Until when the vote of each node carries the lease.
    votes: BTreeMap<String, Instant>,
    refusals: BTreeMap<String, (Refusal, Instant)>,
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
        /// A higher epoch that is being asked for.
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
            last_round: 0,
            rounds: VecDeque::new(),
            votes: BTreeMap::new(),
            refusals: BTreeMap::new(),
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
    pub const fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Holding { until, .. } => Some(until),
            Phase::Idle | Phase::Standing { .. } => None,
        }
    }

    /// Whether an operator's word stands in for votes.
    pub fn is_forced(&self) -> bool {
        self.until() == Some(FOR_EVER)
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
        let voters = &self.voters;
        self.votes.retain(|node, _| voters.contains(node));
        self.refusals.retain(|node, _| voters.contains(node));
        match &mut self.phase {
            Phase::Holding { raise, .. } if terms != self.terms => *raise = Some(self.highest.saturating_add(1)),
            Phase::Holding { .. } => {}
            Phase::Idle | Phase::Standing { .. } => self.terms = terms,
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
        self.terms = self.wanted;
        self.phase = Phase::Holding { epoch: grant.epoch, until: grant.until, raise: None };
    }

    /// Holds without votes, because an operator answers for it. The lease ends when it has been won and lost again.
    pub fn force(&mut self) {
        self.forget();
        self.terms = self.wanted;
        self.highest = self.highest.saturating_add(1);
        self.phase = Phase::Holding { epoch: self.highest, until: FOR_EVER, raise: None };
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
        let round = self.last_round;
        if self.rounds.len() == MAX_ROUNDS {
            self.rounds.pop_front();
        }
        self.rounds.push_back(Round { number: round, began: now, epoch, terms });
        Ask { node: self.me.clone(), kind, epoch, hold: terms.hold(), round, voters: self.voters.digest() }
    }

    /// A voter has answered.
    pub fn on_verdict(&mut self, now: Instant, from: &str, verdict: &Verdict) -> Outcome {
        if !self.voters.contains(from) {
            return Outcome::Open;
        }
        let round = self.rounds.iter().find(|round| round.number == verdict.round).cloned();
        let Some(round) = round else { return Outcome::Open };
        self.note_epoch(verdict.highest);
        match &verdict.refused {
            None => {
                self.refusals.remove(from);
                // An answer that overtook a later one takes nothing away.
                let until = round.began + round.terms.lease;
                let known = self.votes.entry(from.into()).or_insert(until);
                *known = until.max(*known);
            }
            Some(refusal) => {
                self.refusals.insert(from.into(), (refusal.clone(), now));
            }
        }
        if let Phase::Standing { open, .. } = &mut self.phase {
            open.remove(from);
        }
        self.count(now, &round, verdict)
    }

    fn count(&mut self, now: Instant, round: &Round, verdict: &Verdict) -> Outcome {
        let carried = self.carried_until();
        let is_majority = self.is_majority_of(round);
        match &mut self.phase {
            Phase::Idle => Outcome::Open,
            Phase::Standing { epoch, .. } => {
                let epoch = *epoch;
                match carried.filter(|until| now < *until) {
                    Some(until) => {
                        self.phase = Phase::Holding { epoch, until, raise: None };
                        Outcome::Won
                    }
                    None => self.lost(now),
                }
            }
            Phase::Holding { epoch, until, raise } => {
                if verdict.refused == Some(Refusal::Stale) && raise.is_none() {
                    *raise = Some(self.highest.saturating_add(1));
                }
                let is_won = *raise == Some(round.epoch) && verdict.refused.is_none();
                let Some(carried) = carried else { return Outcome::Open };
                *until = if *until == FOR_EVER { carried } else { carried.max(*until) };
                // All that counts from here on was promised under the new epoch.
                if is_won && is_majority {
                    *epoch = round.epoch;
                    *raise = None;
                    self.terms = round.terms;
                }
                Outcome::Open
            }
        }
    }

    /// Nobody is left who could give the vote that is missing.
    fn lost(&mut self, now: Instant) -> Outcome {
        let Phase::Standing { open, .. } = &self.phase else { return Outcome::Open };
        if self.votes.len() + open.len() >= self.voters.majority() {
            return Outcome::Open;
        }
        Outcome::Lost(self.hope(now))
    }

    /// When as many voters as are missing may be free.
    pub fn hope(&self, now: Instant) -> Option<Duration> {
        let missing = self.voters.majority().saturating_sub(self.votes.len());
        let mut waits: alloc::vec::Vec<Duration> =
            self.refusals.values().filter_map(|(refusal, heard)| Some((*heard + refusal.left()?).since(now))).collect();
        waits.sort_unstable();
        waits.get(missing.saturating_sub(1)).copied()
    }

    /// Until when a majority carries the lease.
    fn carried_until(&self) -> Option<Instant> {
        let mut untils: alloc::vec::Vec<Instant> = self.votes.values().copied().collect();
        untils.sort_unstable_by(|a, b| b.cmp(a));
        untils.get(self.voters.majority() - 1).copied()
    }

    /// Whether a majority has voted in the round or after it.
    fn is_majority_of(&self, round: &Round) -> bool {
        let until = round.began + round.terms.lease;
        self.votes.values().filter(|vote| **vote >= until).count() >= self.voters.majority()
    }

    /// Gives back what there is, at the end of a lease or of a candidacy. Only who has stopped the resource may call this.
    pub fn release(&mut self, successor: Option<String>, reserve: Duration) -> Option<Release> {
        let (epoch, was_held) = match &self.phase {
            Phase::Idle => return None,
            Phase::Standing { epoch, .. } => (*epoch, false),
            Phase::Holding { .. } => (self.highest, true),
        };
        self.phase = Phase::Idle;
        self.forget();
        Some(Release { node: self.me.clone(), epoch, successor, reserve, was_held })
    }

    fn forget(&mut self) {
        self.votes.clear();
        self.rounds.clear();
        self.refusals.clear();
    }
}
