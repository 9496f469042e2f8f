//! The lease that forbids two primaries: a majority of the voters, each bound to one node for a limited time.
//!
//! This page has the terms and the words between voters and those who ask them. [`voter`] decides whether to give the vote,
//! [`claim`] counts votes for a candidate and for a holder. None of them knows a clock, a network or a disk.
//!
//! Why it is safe: a majority meets every majority, so two nodes could both hold only if one voter were bound to both at once. A voter counts
//! from the receipt of the question, the holder from before it asked, and the voter's time is longer by what clocks may differ:
//! the holder has stopped before the voter is free.
//!
//! **Kept votes.** While a resource is paused its holder asks for votes that are *kept*: bound to its node without end, and on disk before the
//! answer leaves. Such a vote is free when that node asks again for one that is not kept (and then only after its whole hold from that receipt), gives
//! it back, or is fenced. A lease that a majority keeps has no end. When the pause is over the holder counts from before its first question
//! that is not kept: no voter can have freed its vote before it heard that one. A voter that has lost its record gives no vote while it knows of
//! a pause, and then waits for a whole hold: only when it hears of the end, and the holder does not, may a vote that was kept be lost. (PaxosLease, arXiv 1209.4187, without its prepare phase, with the time of `stop` and a bound
//! on drift added.)
//!
//! Which nodes vote may change, one node at a time: any majorities of two such sets meet as well. A node takes the next step only when a majority
//! of the present set is known to have that in force, on disk ([`record`]), or the next one: then no majority of an older one is left. A
//! configuration that was changed while the node was down is taken step by step in the same way.

pub mod claim;
pub mod record;
pub mod rules;
pub mod voter;

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use self::rules::{Rule, is_off};
use crate::time::{Duration, Instant};

/// How much two clocks may differ in speed, in per cent. Quartz is a thousand times better; a guest whose clock is dragged along is not.
pub const DRIFT_PER_CENT: u32 = 1;

/// A time of somebody else's clock that has passed for certain when this time has passed here.
pub fn with_drift(span: Duration) -> Duration {
    if is_off(Rule::Drift) {
        return span;
    }
    span.saturating_add(span.saturating_mul(DRIFT_PER_CENT) / 100)
}

/// The end of what has none.
pub const FOR_EVER: Instant = Instant::from_nanos(u64::MAX);

/// How long a lease lasts and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Terms {
    /// How long a primary goes on without hearing from a majority.
    pub lease: Duration,
    /// How long `stop` may take after that.
    pub stop: Duration,
}

impl Terms {
    /// How long a vote binds, by the holder's clock.
    pub const fn hold(&self) -> Duration {
        self.lease.saturating_add(self.stop)
    }
}

/// The nodes that vote: all that have a section in the resource, whatever their role.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Voters {
    nodes: BTreeSet<String>,
    digest: u64,
}

impl Voters {
    /// These nodes.
    pub fn new(nodes: impl IntoIterator<Item = String>) -> Self {
        let nodes: BTreeSet<String> = nodes.into_iter().collect();
        let mut hash = Sha256::new();
        for node in &nodes {
            hash.update(node);
            // No name has it.
            hash.update([0]);
        }
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        Self { nodes, digest: u64::from_le_bytes([a, b, c, d, e, f, g, h]) }
    }

    /// How many votes win: more than half of all, reachable or not.
    pub fn majority(&self) -> usize {
        (self.nodes.len() / 2 + 1).saturating_sub(usize::from(is_off(Rule::Majority)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether this node is one.
    pub fn contains(&self, node: &str) -> bool {
        self.nodes.contains(node)
    }

    /// Their names, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.nodes.iter().map(String::as_str)
    }

    /// Stands for them in messages.
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// The next of the sets that lead to `goal` one by one: first its nodes come, each in its turn, then those that it lacks go. All nodes take the
    /// same way.
    #[must_use]
    pub fn step_to(&self, goal: &Self) -> Self {
        let mut nodes = self.nodes.clone();
        if let Some(comes) = goal.nodes.difference(&self.nodes).next() {
            nodes.insert(comes.clone());
        } else if let Some(goes) = self.nodes.difference(&goal.nodes).next() {
            nodes.remove(goes);
        }
        Self::new(nodes)
    }

    /// The nodes that are in one of both sets alone.
    pub fn difference(&self, other: &Self) -> Vec<String> {
        self.nodes.symmetric_difference(&other.nodes).cloned().collect()
    }
}

impl fmt::Display for Voters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, node) in self.iter().enumerate() {
            write!(f, "{}{node}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Somebody asks for a vote.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ask {
    /// Who asks.
    pub node: String,
    /// What for.
    pub kind: Kind,
    /// Grows with every new lease.
    pub epoch: u64,
    /// How long the vote shall bind, by the asker's clock.
    pub hold: Duration,
    /// Echoed in the verdict.
    pub round: u64,
    /// The digest of the voters that the asker counts.
    pub voters: u64,
    /// The vote shall be kept: bound to the asker until it asks again for one that is not.
    pub kept: bool,
}

/// What a vote is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A new lease.
    Vote,
    /// More time for the lease that the asker holds.
    Renew,
}

/// The answer of a voter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verdict {
    /// The round that was asked in.
    pub round: u64,
    /// The highest epoch that the voter has seen.
    pub highest: u64,
    /// Why the vote is not given; `None`: it is.
    pub refused: Option<Refusal>,
    /// The vote that is given is kept.
    pub kept: bool,
}

/// Why a vote is not given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// It is bound to another node.
    Bound {
        /// To whom.
        holder: String,
        /// For how long, by the voter's clock.
        left: Duration,
    },
    /// It is kept for another node, until that one asks again, gives it back or is fenced.
    Kept {
        /// For whom.
        holder: String,
    },
    /// For a short time only the successor that the last holder has named may have it.
    Reserved {
        /// The successor.
        successor: String,
        /// For how long.
        left: Duration,
    },
    /// The voter has lost its record, and waits until whatever it may have promised is over.
    Waits {
        /// For how long.
        left: Duration,
    },
    /// The epoch is not above the highest seen, or was released.
    Stale,
    /// The voter has other voters in force.
    Voters {
        /// Those.
        ours: Voters,
    },
    /// The vote cannot be written to disk.
    NotRecorded,
    /// The voter is being stopped: it promises nothing new, and keeps what it has promised.
    Leaving,
}

impl Refusal {
    /// The same when some time has passed.
    #[must_use]
    pub fn after(&self, passed: Duration) -> Self {
        let mut later = self.clone();
        if let Self::Bound { left, .. } | Self::Reserved { left, .. } | Self::Waits { left } = &mut later {
            *left = left.saturating_sub(passed);
        }
        later
    }

    /// The same, whatever the time that is left: what is said once and not at every round.
    #[must_use]
    pub fn without_time(&self) -> Self {
        self.after(Duration::MAX)
    }

    /// How long it will last, when that is known.
    pub const fn left(&self) -> Option<Duration> {
        match self {
            Self::Bound { left, .. } | Self::Reserved { left, .. } | Self::Waits { left } => Some(*left),
            Self::Stale => Some(Duration::ZERO),
            Self::Kept { .. } | Self::Voters { .. } | Self::NotRecorded | Self::Leaving => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound { holder, .. } => write!(f, "its vote is bound to {holder}"),
            Self::Kept { holder } => write!(f, "its vote is kept for {holder}, which was paused"),
            Self::Reserved { successor, .. } => write!(f, "its vote is reserved for {successor}"),
            Self::Waits { .. } => f.write_str("it has lost its record of votes and gives none"),
            Self::Stale => f.write_str("it has seen a higher epoch"),
            Self::Voters { ours } => write!(f, "its configuration has other nodes for the resource: {ours}"),
            Self::NotRecorded => f.write_str("it cannot write its vote to disk"),
            Self::Leaving => f.write_str("it is being stopped"),
        }?;
        match self.left() {
            Some(left) if !left.is_zero() => write!(f, " for another {left:.1?}"),
            _ => Ok(()),
        }
    }
}

/// The holder (or a candidate that has not won) gives back its votes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Release {
    /// Whose votes.
    pub node: String,
    /// Those of this epoch and of earlier ones.
    pub epoch: u64,
    /// Who alone may have them next.
    pub successor: Option<String>,
    /// For how long.
    pub reserve: Duration,
    /// The resource was held, and has been stopped: somebody else may start it. (A candidate that gives back what it got says nothing of it.)
    pub was_held: bool,
}

/// A lease that was won by one process for another one on the same node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// Its epoch.
    pub epoch: u64,
    /// It runs until then.
    pub until: Instant,
    /// What the voters have promised.
    pub terms: Terms,
}
