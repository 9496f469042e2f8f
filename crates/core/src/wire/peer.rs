//! Protocol 1: what nodes say to each other over a connection that stays open.
//!
//! A worker opens it, the other node's main daemon answers. [`Hello`] and [`Welcome`] begin it; then each [`Said`] of the worker is answered
//! by a [`Heard`] of the daemon, but for those that need none. Unknown names are ignored, so that a later version can add to it.
//! Decides what a message says; never whether it is due.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Lacks;
use super::nv::List;
use crate::lease::{Ask, Kind, Refusal, Release, Verdict, Voters};
use crate::time::Duration;
use crate::types::{Role, State};

/// The oldest and the newest protocol of this kind that is spoken here.
pub const PROTOCOLS: (u8, u8) = (1, 1);

/// Nodes that may vote for a resource: more make no message.
const MAX_VOTERS: usize = crate::config::MAX_NODES;

/// The first message: who calls, and about what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest and the newest protocol that the caller speaks.
    pub protocols: (u8, u8),
    /// The caller's program.
    pub version: String,
    /// The caller's name.
    pub node: String,
    /// What it is about.
    pub resource: String,
    /// The caller's role.
    pub role: Role,
    /// The caller's priority.
    pub priority: i32,
    /// Who votes, as the caller has it.
    pub voters: Voters,
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol that is spoken from here on.
    pub protocol: u8,
    /// The program here.
    pub version: String,
    /// The name of this node.
    pub node: String,
    /// Who votes, as it has it.
    pub voters: Voters,
}

/// What a worker says over an open connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// At every heartbeat: I am here. Answered.
    Beat {
        /// Counts from 1 in each connection.
        seq: u64,
        /// What is known of the resource at the worker.
        state: State,
        /// The digest of the voters in the configuration there.
        voters: u64,
        /// A vote is asked for.
        ask: Option<Ask>,
    },
    /// A watchdog complains.
    Complaint {
        /// The lease was given back: nobody has to wait for its end.
        released: bool,
    },
    /// A vote is given back.
    Release(Release),
    /// A node is off for certain.
    Fenced {
        /// Which.
        node: String,
        /// The epoch that it may have held at most.
        epoch: u64,
    },
}

/// The answer to a [`Said::Beat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// That of the beat.
    pub seq: u64,
    /// The role of the node that answers.
    pub role: Role,
    /// Its priority.
    pub priority: i32,
    /// What it knows of the resource on itself.
    pub state: State,
    /// The answer to the question for a vote.
    pub verdict: Option<Verdict>,
    /// Who has its vote.
    pub bound: Option<String>,
    /// For how long.
    pub bound_for: Duration,
    /// The highest epoch that it has voted for.
    pub epoch: u64,
    /// The digest of the voters in its configuration.
    pub voters: u64,
}

const CMD_BEAT: u8 = 1;
const CMD_COMPLAINT: u8 = 2;
const CMD_RELEASE: u8 = 3;
const CMD_FENCED: u8 = 4;

const ASK_VOTE: u8 = 1;
const ASK_RENEW: u8 = 2;

const GRANTED: u8 = 0;
const BOUND: u8 = 1;
const RESERVED: u8 = 2;
const WAITS: u8 = 3;
const STALE: u8 = 4;
const OTHER_VOTERS: u8 = 5;
const NOT_RECORDED: u8 = 6;

impl Hello {
    /// The message.
    pub fn encode(&self) -> List {
        let list = List::new()
            .with_u8("protocol_least", self.protocols.0)
            .with_u8("protocol_most", self.protocols.1)
            .with_str("version", &self.version)
            .with_str("node", &self.node)
            .with_str("resource", &self.resource)
            .with_u8("role", self.role.to_wire())
            .with_i32("priority", self.priority);
        with_voters(list, &self.voters)
    }

    /// Reads it.
    ///
    /// # Errors
    /// What it lacks.
    pub fn decode(list: &List) -> Result<Self, Lacks> {
        Ok(Self {
            protocols: (u8_of(list, "protocol_least")?, u8_of(list, "protocol_most")?),
            version: text(list, "version")?,
            node: text(list, "node")?,
            resource: text(list, "resource")?,
            role: role(list)?,
            priority: list.i32("priority").ok_or_else(|| Lacks::field("priority"))?,
            voters: voters(list),
        })
    }

    /// The protocol that both speak.
    pub fn common_protocol(&self) -> Option<u8> {
        let most = self.protocols.1.min(PROTOCOLS.1);
        (most >= self.protocols.0.max(PROTOCOLS.0)).then_some(most)
    }
}

impl Welcome {
    /// The message.
    pub fn encode(&self) -> List {
        let list = List::new()
            .with_u8("protocol", self.protocol)
            .with_str("version", &self.version)
            .with_str("node", &self.node);
        with_voters(list, &self.voters)
    }

    /// Reads it.
    ///
    /// # Errors
    /// What it lacks.
    pub fn decode(list: &List) -> Result<Self, Lacks> {
        Ok(Self {
            protocol: u8_of(list, "protocol")?,
            version: text(list, "version")?,
            node: text(list, "node")?,
            voters: voters(list),
        })
    }
}

impl Said {
    /// The message.
    pub fn encode(&self) -> List {
        match self {
            Self::Beat { seq, state, voters, ask } => {
                let list = List::new()
                    .with_u8("cmd", CMD_BEAT)
                    .with_u64("seq", *seq)
                    .with_u8("state", state.to_wire())
                    .with_u64("configured", *voters);
                ask.iter().fold(list, |list, ask| {
                    let kind = match ask.kind {
                        Kind::Vote => ASK_VOTE,
                        Kind::Renew => ASK_RENEW,
                    };
                    list.with_u8("ask", kind)
                        .with_u64("epoch", ask.epoch)
                        .with_u64("hold_us", micros(ask.hold))
                        .with_u64("round", ask.round)
                        .with_u64("voters", ask.voters)
                })
            }
            Self::Complaint { released } => {
                List::new().with_u8("cmd", CMD_COMPLAINT).with_u8("released", u8::from(*released))
            }
            Self::Release(release) => {
                let list = List::new()
                    .with_u8("cmd", CMD_RELEASE)
                    .with_u64("epoch", release.epoch)
                    .with_u64("reserve_us", micros(release.reserve))
                    .with_u8("was_held", u8::from(release.was_held));
                release.successor.iter().fold(list, |list, node| list.with_str("successor", node))
            }
            Self::Fenced { node, epoch } => {
                List::new().with_u8("cmd", CMD_FENCED).with_str("holder", node).with_u64("epoch", *epoch)
            }
        }
    }

    /// Reads what `node` says: it asks for itself alone, and gives back its own votes alone.
    ///
    /// # Errors
    /// What it lacks.
    pub fn decode(list: &List, node: &str) -> Result<Self, Lacks> {
        match u8_of(list, "cmd")? {
            CMD_BEAT => Ok(Self::Beat {
                seq: u64_of(list, "seq")?,
                state: state(list)?,
                voters: u64_of(list, "configured")?,
                ask: list.u8("ask").map(|kind| ask(list, kind, node)).transpose()?,
            }),
            CMD_COMPLAINT => {
                Ok(Self::Complaint { released: list.u8("released").is_some_and(|released| released != 0) })
            }
            CMD_RELEASE => Ok(Self::Release(Release {
                node: node.to_owned(),
                epoch: u64_of(list, "epoch")?,
                successor: list.str("successor").map(ToOwned::to_owned),
                reserve: Duration::from_micros(u64_of(list, "reserve_us")?),
                was_held: list.u8("was_held").is_some_and(|held| held != 0),
            })),
            CMD_FENCED => Ok(Self::Fenced { node: text(list, "holder")?, epoch: u64_of(list, "epoch")? }),
            _ => Err(Lacks::field("cmd")),
        }
    }
}

fn ask(list: &List, kind: u8, node: &str) -> Result<Ask, Lacks> {
    let kind = match kind {
        ASK_VOTE => Kind::Vote,
        ASK_RENEW => Kind::Renew,
        _ => return Err(Lacks::field("ask")),
    };
    Ok(Ask {
        node: node.to_owned(),
        kind,
        epoch: u64_of(list, "epoch")?,
        hold: Duration::from_micros(u64_of(list, "hold_us")?),
        round: u64_of(list, "round")?,
        voters: u64_of(list, "voters")?,
    })
}

impl Heard {
    /// The message.
    pub fn encode(&self) -> List {
        let mut list = List::new()
            .with_u64("seq", self.seq)
            .with_u8("role", self.role.to_wire())
            .with_i32("priority", self.priority)
            .with_u8("state", self.state.to_wire())
            .with_u64("epoch", self.epoch)
            .with_u64("voters", self.voters);
        if let Some(holder) = &self.bound {
            list = list.with_str("bound", holder).with_u64("bound_us", micros(self.bound_for));
        }
        match &self.verdict {
            None => list,
            Some(verdict) => with_verdict(list, verdict),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// What it lacks.
    pub fn decode(list: &List) -> Result<Self, Lacks> {
        Ok(Self {
            seq: u64_of(list, "seq")?,
            role: role(list)?,
            priority: list.i32("priority").ok_or_else(|| Lacks::field("priority"))?,
            state: state(list)?,
            verdict: list.u8("verdict").map(|kind| verdict(list, kind)).transpose()?,
            bound: list.str("bound").map(ToOwned::to_owned),
            bound_for: Duration::from_micros(list.u64("bound_us").unwrap_or_default()),
            epoch: u64_of(list, "epoch")?,
            voters: u64_of(list, "voters")?,
        })
    }
}

fn with_verdict(list: List, verdict: &Verdict) -> List {
    let list = list.with_u64("round", verdict.round).with_u64("highest", verdict.highest);
    match &verdict.refused {
        None => list.with_u8("verdict", GRANTED),
        Some(Refusal::Bound { holder, left }) => {
            list.with_u8("verdict", BOUND).with_str("holder", holder).with_u64("left_us", micros(*left))
        }
        Some(Refusal::Reserved { successor, left }) => {
            list.with_u8("verdict", RESERVED).with_str("holder", successor).with_u64("left_us", micros(*left))
        }
        Some(Refusal::Waits { left }) => list.with_u8("verdict", WAITS).with_u64("left_us", micros(*left)),
        Some(Refusal::Stale) => list.with_u8("verdict", STALE),
        Some(Refusal::Voters { ours }) => with_voters(list.with_u8("verdict", OTHER_VOTERS), ours),
        Some(Refusal::NotRecorded) => list.with_u8("verdict", NOT_RECORDED),
    }
}

fn verdict(list: &List, kind: u8) -> Result<Verdict, Lacks> {
    let left = || u64_of(list, "left_us").map(Duration::from_micros);
    let refused = match kind {
        GRANTED => None,
        BOUND => Some(Refusal::Bound { holder: text(list, "holder")?, left: left()? }),
        RESERVED => Some(Refusal::Reserved { successor: text(list, "holder")?, left: left()? }),
        WAITS => Some(Refusal::Waits { left: left()? }),
        STALE => Some(Refusal::Stale),
        OTHER_VOTERS => Some(Refusal::Voters { ours: voters(list) }),
        NOT_RECORDED => Some(Refusal::NotRecorded),
        _ => return Err(Lacks::field("verdict")),
    };
    Ok(Verdict { round: u64_of(list, "round")?, highest: u64_of(list, "highest")?, refused })
}

fn with_voters(list: List, voters: &Voters) -> List {
    voters.iter().enumerate().fold(list, |list, (at, node)| list.with_str(&format!("voter{at}"), node))
}

fn voters(list: &List) -> Voters {
    let nodes: Vec<String> =
        (0..MAX_VOTERS).map_while(|at| list.str(&format!("voter{at}"))).map(ToOwned::to_owned).collect();
    Voters::new(nodes)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn text(list: &List, name: &str) -> Result<String, Lacks> {
    list.str(name).map(ToOwned::to_owned).ok_or_else(|| Lacks::field(name))
}

fn u8_of(list: &List, name: &str) -> Result<u8, Lacks> {
    list.u8(name).ok_or_else(|| Lacks::field(name))
}

fn u64_of(list: &List, name: &str) -> Result<u64, Lacks> {
    list.u64(name).ok_or_else(|| Lacks::field(name))
}

fn role(list: &List) -> Result<Role, Lacks> {
    list.u8("role").and_then(Role::from_wire).ok_or_else(|| Lacks::field("role"))
}

fn state(list: &List) -> Result<State, Lacks> {
    list.u8("state").map(State::from_wire).ok_or_else(|| Lacks::field("state"))
}
