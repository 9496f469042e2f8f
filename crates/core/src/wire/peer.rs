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
use crate::config::{MAX_DURATION, MAX_NAME_LEN, MAX_SHARED, Shared};
use crate::lease::{Ask, Kind, Refusal, Release, Verdict, Voters};
use crate::pause::{MAX_VERSION, Pause, Paused, operator};
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
    /// At every heartbeat, or every third of who is no primary and hears one: I am here. Answered.
    Beat {
        /// Counts from 1 in each connection.
        seq: u64,
        /// What is known of the resource at the worker.
        state: State,
        /// The digest of the voters in the configuration there.
        voters: u64,
        /// A vote is asked for.
        ask: Option<Ask>,
        /// What its file says for all nodes alike: with the first beat of a connection, and with the first one after that has changed.
        shared: Option<Shared>,
        /// Whether the resource is paused, as it is known there.
        pause: Option<Pause>,
        /// How many votes are kept for the worker's node.
        votes_kept: u32,
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
    /// An operator wants the resource on the node that says so: its primary shall hand it over.
    Fetch,
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
    /// The digest of the voters that it has in force.
    pub in_force: u64,
    /// The node of the worker has asked for the resource, and does not get it: why.
    pub no_fetch: Option<String>,
    /// Its vote is kept for who has it.
    pub bound_kept: bool,
    /// It will be primary, or stand for the lease, as soon as it has its turn to start the resource.
    pub waits_for_turn: bool,
    /// Whether the resource is paused, as it is known there.
    pub pause: Option<Pause>,
}

/// The longest hold: lease and stop budget of the longest configuration, with room for rounding.
const MAX_SPAN: Duration = Duration::from_secs(MAX_DURATION.as_secs() + 1);

const CMD_BEAT: u8 = 1;
const CMD_COMPLAINT: u8 = 2;
const CMD_RELEASE: u8 = 3;
const CMD_FENCED: u8 = 4;
const CMD_FETCH: u8 = 5;

const ASK_VOTE: u8 = 1;
const ASK_RENEW: u8 = 2;

const GRANTED: u8 = 0;
const BOUND: u8 = 1;
const RESERVED: u8 = 2;
const WAITS: u8 = 3;
const STALE: u8 = 4;
const OTHER_VOTERS: u8 = 5;
const NOT_RECORDED: u8 = 6;
const KEPT: u8 = 7;
const LEAVING: u8 = 8;

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
            Self::Beat { seq, state, voters, ask, shared, pause, votes_kept } => {
                let mut list = List::new()
                    .with_u8("cmd", CMD_BEAT)
                    .with_u64("seq", *seq)
                    .with_u8("state", state.to_wire())
                    .with_u64("configured", *voters);
                if *votes_kept > 0 {
                    list = list.with_u64("votes_kept", u64::from(*votes_kept));
                }
                let list = with_pause(list, pause.as_ref());
                let pairs = shared.iter().flat_map(Shared::iter).enumerate();
                let list = pairs.fold(list, |list, (at, (name, value))| {
                    list.with_str(&format!("setting{at}"), name).with_str(&format!("value{at}"), value)
                });
                ask.iter().fold(list, |list, ask| {
                    let kind = match ask.kind {
                        Kind::Vote => ASK_VOTE,
                        Kind::Renew => ASK_RENEW,
                    };
                    let list = list
                        .with_u8("ask", kind)
                        .with_u64("epoch", ask.epoch)
                        .with_u64("hold_us", micros(ask.hold))
                        .with_u64("round", ask.round)
                        .with_u64("voters", ask.voters);
                    if ask.kept { list.with_u8("kept", 1) } else { list }
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
            Self::Fetch => List::new().with_u8("cmd", CMD_FETCH),
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
                shared: shared(list),
                pause: pause(list)?,
                votes_kept: list.u64("votes_kept").and_then(|kept| kept.try_into().ok()).unwrap_or_default(),
            }),
            CMD_COMPLAINT => {
                Ok(Self::Complaint { released: list.u8("released").is_some_and(|released| released != 0) })
            }
            CMD_RELEASE => Ok(Self::Release(Release {
                node: node.to_owned(),
                epoch: u64_of(list, "epoch")?,
                successor: list.str("successor").map(ToOwned::to_owned),
                reserve: span_of(list, "reserve_us")?,
                was_held: list.u8("was_held").is_some_and(|held| held != 0),
            })),
            CMD_FENCED => Ok(Self::Fenced { node: text(list, "holder")?, epoch: u64_of(list, "epoch")? }),
            CMD_FETCH => Ok(Self::Fetch),
            _ => Err(Lacks::field("cmd")),
        }
    }
}

/// `None` when there are none.
fn shared(list: &List) -> Option<Shared> {
    let text = |field: &str, at: usize| list.str(&format!("{field}{at}")).map(ToOwned::to_owned);
    let mut pairs = (0..MAX_SHARED).map_while(|at| text("setting", at).zip(text("value", at))).peekable();
    pairs.peek()?;
    Some(Shared::told(pairs)).filter(|shared| shared.iter().next().is_some())
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
        hold: span_of(list, "hold_us")?,
        round: u64_of(list, "round")?,
        voters: u64_of(list, "voters")?,
        kept: flag(list, "kept"),
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
            .with_u64("voters", self.voters)
            .with_u64("in_force", self.in_force);
        if let Some(holder) = &self.bound {
            list = list.with_str("bound", holder).with_u64("bound_us", micros(self.bound_for));
        }
        if let Some(why) = &self.no_fetch {
            list = list.with_str("no_fetch", why);
        }
        if self.bound_kept {
            list = list.with_u8("bound_kept", 1);
        }
        if self.waits_for_turn {
            list = list.with_u8("waits_for_turn", 1);
        }
        list = with_pause(list, self.pause.as_ref());
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
        let bound = list.str("bound").map(ToOwned::to_owned);
        Ok(Self {
            seq: u64_of(list, "seq")?,
            role: role(list)?,
            priority: list.i32("priority").ok_or_else(|| Lacks::field("priority"))?,
            state: state(list)?,
            verdict: list.u8("verdict").map(|kind| verdict(list, kind)).transpose()?,
            bound_for: bound.as_ref().and(list.u64("bound_us")).map_or(Duration::ZERO, Duration::from_micros),
            bound,
            epoch: u64_of(list, "epoch")?,
            voters: u64_of(list, "voters")?,
            in_force: u64_of(list, "in_force")?,
            no_fetch: list.str("no_fetch").map(ToOwned::to_owned),
            bound_kept: flag(list, "bound_kept"),
            waits_for_turn: flag(list, "waits_for_turn"),
            pause: pause(list)?,
        })
    }
}

fn with_pause(list: List, pause: Option<&Pause>) -> List {
    let Some(Pause { version, node, paused }) = pause else { return list };
    let list = list.with_u64("pause", *version).with_str("pause_node", node);
    let Some(Paused { by, since_unix_s, left }) = paused else { return list };
    let list = list.with_str("paused_by", by).with_u64("paused_since_s", *since_unix_s);
    left.iter().fold(list, |list, left| list.with_u64("pause_left_us", micros(*left)))
}

fn pause(list: &List) -> Result<Option<Pause>, Lacks> {
    let Some(version) = list.u64("pause") else { return Ok(None) };
    if version > MAX_VERSION {
        return Err(Lacks::field("pause"));
    }
    let paused = list.str("paused_by").map(|by| Paused {
        by: operator(by),
        since_unix_s: list.u64("paused_since_s").unwrap_or_default(),
        left: list.u64("pause_left_us").map(Duration::from_micros),
    });
    // It goes into a file of lines.
    let node = text(list, "pause_node")?;
    if node.len() > MAX_NAME_LEN || node.contains(char::is_control) {
        return Err(Lacks::field("pause_node"));
    }
    Ok(Some(Pause { version, node, paused }))
}

fn with_verdict(list: List, verdict: &Verdict) -> List {
    let list = list.with_u64("round", verdict.round).with_u64("highest", verdict.highest);
    let list = if verdict.kept { list.with_u8("kept", 1) } else { list };
    match &verdict.refused {
        None => list.with_u8("verdict", GRANTED),
        Some(Refusal::Bound { holder, left }) => {
            list.with_u8("verdict", BOUND).with_str("holder", holder).with_u64("left_us", micros(*left))
        }
        Some(Refusal::Kept { holder }) => list.with_u8("verdict", KEPT).with_str("holder", holder),
        Some(Refusal::Reserved { successor, left }) => {
            list.with_u8("verdict", RESERVED).with_str("holder", successor).with_u64("left_us", micros(*left))
        }
        Some(Refusal::Waits { left }) => list.with_u8("verdict", WAITS).with_u64("left_us", micros(*left)),
        Some(Refusal::Stale) => list.with_u8("verdict", STALE),
        Some(Refusal::Voters { ours }) => with_voters(list.with_u8("verdict", OTHER_VOTERS), ours),
        Some(Refusal::NotRecorded) => list.with_u8("verdict", NOT_RECORDED),
        Some(Refusal::Leaving) => list.with_u8("verdict", LEAVING),
    }
}

fn verdict(list: &List, kind: u8) -> Result<Verdict, Lacks> {
    let left = || u64_of(list, "left_us").map(Duration::from_micros);
    let refused = match kind {
        GRANTED => None,
        BOUND => Some(Refusal::Bound { holder: text(list, "holder")?, left: left()? }),
        KEPT => Some(Refusal::Kept { holder: text(list, "holder")? }),
        RESERVED => Some(Refusal::Reserved { successor: text(list, "holder")?, left: left()? }),
        WAITS => Some(Refusal::Waits { left: left()? }),
        STALE => Some(Refusal::Stale),
        OTHER_VOTERS => Some(Refusal::Voters { ours: voters(list) }),
        NOT_RECORDED => Some(Refusal::NotRecorded),
        LEAVING => Some(Refusal::Leaving),
        _ => return Err(Lacks::field("verdict")),
    };
    let kept = flag(list, "kept");
    Ok(Verdict { round: u64_of(list, "round")?, highest: u64_of(list, "highest")?, refused, kept })
}

fn with_voters(list: List, voters: &Voters) -> List {
    voters.iter().enumerate().fold(list, |list, (at, node)| list.with_str(&format!("voter{at}"), node))
}

fn voters(list: &List) -> Voters {
    let nodes: Vec<String> =
        (0..MAX_VOTERS).map_while(|at| list.str(&format!("voter{at}"))).map(ToOwned::to_owned).collect();
    Voters::new(nodes)
}

/// Rounded up: a vote that binds for less than was asked would be a danger.
fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
}

fn text(list: &List, name: &str) -> Result<String, Lacks> {
    list.str(name).map(ToOwned::to_owned).ok_or_else(|| Lacks::field(name))
}

/// What is left out is not so.
fn flag(list: &List, name: &str) -> bool {
    list.u8(name).is_some_and(|flag| flag != 0)
}

fn u8_of(list: &List, name: &str) -> Result<u8, Lacks> {
    list.u8(name).ok_or_else(|| Lacks::field(name))
}

fn u64_of(list: &List, name: &str) -> Result<u64, Lacks> {
    list.u64(name).ok_or_else(|| Lacks::field(name))
}

/// A time for which a vote shall be bound. No configuration has a longer one: it would be bound for ever, and on disk.
fn span_of(list: &List, name: &str) -> Result<Duration, Lacks> {
    let span = Duration::from_micros(u64_of(list, name)?);
    (span <= MAX_SPAN).then_some(span).ok_or_else(|| Lacks::field(name))
}

fn role(list: &List) -> Result<Role, Lacks> {
    list.u8("role").and_then(Role::from_wire).ok_or_else(|| Lacks::field("role"))
}

fn state(list: &List) -> Result<State, Lacks> {
    list.u8("state").map(State::from_wire).ok_or_else(|| Lacks::field("state"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn name() -> impl Strategy<Value = String> {
        "[a-z0-9.-]{1,20}"
    }

    fn nodes() -> impl Strategy<Value = Voters> {
        vec(name(), 0..MAX_VOTERS).prop_map(Voters::new)
    }

    /// The wire has microseconds.
    fn span() -> impl Strategy<Value = Duration> {
        (0..=MAX_SPAN.as_secs() * 1_000_000).prop_map(Duration::from_micros)
    }

    fn any_role() -> impl Strategy<Value = Role> {
        select(&Role::ALL[..])
    }

    fn any_state() -> impl Strategy<Value = State> {
        any::<u8>().prop_map(State::from_wire)
    }

    fn any_ask() -> impl Strategy<Value = Ask> {
        let kind = prop_oneof![Just(Kind::Vote), Just(Kind::Renew)];
        (kind, any::<u64>(), span(), any::<u64>(), any::<u64>(), any::<bool>()).prop_map(
            |(kind, epoch, hold, round, voters, kept)| Ask {
                node: "a".to_owned(),
                kind,
                epoch,
                hold,
                round,
                voters,
                kept,
            },
        )
    }

    fn any_refusal() -> impl Strategy<Value = Refusal> {
        prop_oneof![
            (name(), span()).prop_map(|(holder, left)| Refusal::Bound { holder, left }),
            (name(), span()).prop_map(|(successor, left)| Refusal::Reserved { successor, left }),
            name().prop_map(|holder| Refusal::Kept { holder }),
            span().prop_map(|left| Refusal::Waits { left }),
            Just(Refusal::Stale),
            nodes().prop_map(|ours| Refusal::Voters { ours }),
            Just(Refusal::NotRecorded),
            Just(Refusal::Leaving),
        ]
    }

    fn any_shared() -> impl Strategy<Value = Shared> {
        vec(("[a-z_]{1,20}", "[ -~]{0,80}"), 1..MAX_SHARED).prop_map(Shared::told)
    }

    fn any_release() -> impl Strategy<Value = Release> {
        (any::<u64>(), option::of(name()), span(), any::<bool>()).prop_map(|(epoch, successor, reserve, was_held)| {
            Release { node: "a".to_owned(), epoch, successor, reserve, was_held }
        })
    }

    fn any_pause() -> impl Strategy<Value = Pause> {
        let paused = (name().prop_map(|by| operator(&by)), any::<u64>(), option::of(span()));
        let paused = paused.prop_map(|(by, since_unix_s, left)| Paused { by, since_unix_s, left });
        (0..=MAX_VERSION, name(), option::of(paused)).prop_map(|(version, node, paused)| Pause {
            version,
            node,
            paused,
        })
    }

    fn any_said() -> impl Strategy<Value = Said> {
        prop_oneof![
            (any::<u64>(), any_state(), any::<u64>(), option::of(any_ask()), option::of(any_shared()))
                .prop_flat_map(|beat| (Just(beat), option::of(any_pause()), any::<u32>()))
                .prop_map(|((seq, state, voters, ask, shared), pause, votes_kept)| Said::Beat {
                    seq,
                    state,
                    voters,
                    ask,
                    shared,
                    pause,
                    votes_kept
                }),
            any::<bool>().prop_map(|released| Said::Complaint { released }),
            any_release().prop_map(Said::Release),
            (name(), any::<u64>()).prop_map(|(node, epoch)| Said::Fenced { node, epoch }),
            Just(Said::Fetch),
        ]
    }

    fn any_heard() -> impl Strategy<Value = Heard> {
        let verdict = (any::<u64>(), any::<u64>(), option::of(any_refusal()), any::<bool>());
        let verdict = verdict.prop_map(|(round, highest, refused, kept)| Verdict { round, highest, refused, kept });
        let bound = option::of((name(), span()));
        let who = (any::<u64>(), any_role(), any::<i32>(), any_state());
        let told = (any::<[bool; 2]>(), option::of(any_pause()), option::of(name()));
        (who, option::of(verdict), bound, any::<u64>(), any::<(u64, u64)>(), told).prop_map(
            |(
                (seq, role, priority, state),
                verdict,
                bound,
                epoch,
                (voters, in_force),
                ([bound_kept, waits_for_turn], pause, no_fetch),
            )| {
                let (bound, bound_for) = bound.unzip();
                let bound_for = bound_for.unwrap_or_default();
                Heard {
                    seq,
                    role,
                    priority,
                    state,
                    verdict,
                    bound,
                    bound_for,
                    epoch,
                    voters,
                    in_force,
                    no_fetch,
                    bound_kept,
                    waits_for_turn,
                    pause,
                }
            },
        )
    }

    fn any_hello() -> impl Strategy<Value = Hello> {
        let who = (name(), name(), name(), any_role());
        (any::<(u8, u8)>(), who, any::<i32>(), nodes()).prop_map(
            |(protocols, (version, node, resource, role), priority, voters)| Hello {
                protocols,
                version,
                node,
                resource,
                role,
                priority,
                voters,
            },
        )
    }

    /// Names that mean something here, values that need not.
    fn any_list() -> impl Strategy<Value = List> {
        const NAMES: [&str; 34] = [
            "kept",
            "votes_kept",
            "bound_kept",
            "pause",
            "pause_node",
            "paused_by",
            "pause_left_us",
            "cmd",
            "seq",
            "state",
            "ask",
            "epoch",
            "hold_us",
            "round",
            "released",
            "reserve_us",
            "was_held",
            "successor",
            "holder",
            "role",
            "priority",
            "verdict",
            "bound",
            "bound_us",
            "highest",
            "left_us",
            "voter0",
            "voter1",
            "protocol",
            "protocol_least",
            "protocol_most",
            "version",
            "node",
            "resource",
        ];
        #[derive(Clone, Debug)]
        enum Of {
            U8(u8),
            I32(i32),
            U64(u64),
            Str(String),
        }
        let value = prop_oneof![
            (0..9_u8).prop_map(Of::U8),
            any::<u8>().prop_map(Of::U8),
            any::<i32>().prop_map(Of::I32),
            any::<u64>().prop_map(Of::U64),
            ".{0,20}".prop_map(Of::Str),
        ];
        vec((select(&NAMES[..]), value), 0..40).prop_map(|pairs| {
            pairs.into_iter().fold(List::new(), |list, (name, value)| match value {
                Of::U8(value) => list.with_u8(name, value),
                Of::I32(value) => list.with_i32(name, value),
                Of::U64(value) => list.with_u64(name, value),
                Of::Str(value) => list.with_str(name, &value),
            })
        })
    }

    proptest! {
        #[test]
        fn what_a_worker_says_is_read_as_it_was_said(said in any_said()) {
            prop_assert_eq!(Said::decode(&said.encode(), "a"), Ok(said));
        }

        #[test]
        fn what_a_daemon_answers_is_read_as_it_was_said(heard in any_heard()) {
            prop_assert_eq!(Heard::decode(&heard.encode()), Ok(heard));
        }

        #[test]
        fn the_first_messages_are_read_as_they_were_said(hello in any_hello()) {
            prop_assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        }

        #[test]
        fn any_list_is_a_message_or_an_error(list in any_list()) {
            let _ = Hello::decode(&list);
            let _ = Welcome::decode(&list);
            // What is read is said again in the same way: nothing is half read.
            if let Ok(said) = Said::decode(&list, "a") {
                prop_assert_eq!(Said::decode(&said.encode(), "a"), Ok(said));
            }
            if let Ok(heard) = Heard::decode(&list) {
                prop_assert_eq!(Heard::decode(&heard.encode()).map(|again| again.verdict), Ok(heard.verdict));
            }
        }

        #[test]
        fn a_hold_is_never_shorter_on_the_wire(ns in any::<u64>()) {
            let hold = Duration::from_nanos(ns);
            prop_assert!(Duration::from_micros(micros(hold)) >= hold);
        }
    }

    #[test]
    fn a_welcome_is_read_as_it_was_said() {
        let welcome = Welcome {
            protocol: 1,
            version: "1.0.0".to_owned(),
            node: "b".to_owned(),
            voters: Voters::new(["a".to_owned()]),
        };
        assert_eq!(Welcome::decode(&welcome.encode()), Ok(welcome));
    }

    #[test]
    fn who_speaks_for_another_is_not_believed() {
        let said = Said::decode(&any_release_of("a").encode(), "b").unwrap();
        assert!(matches!(said, Said::Release(release) if release.node == "b"));
    }

    fn any_release_of(node: &str) -> Said {
        Said::Release(Release {
            node: node.to_owned(),
            epoch: 1,
            successor: None,
            reserve: Duration::ZERO,
            was_held: true,
        })
    }

    #[test]
    fn unknown_names_are_ignored() {
        let said = Said::Complaint { released: true };
        assert_eq!(Said::decode(&said.encode().with_str("colour", "green"), "a"), Ok(said));
    }

    #[test]
    fn the_common_protocol_is_the_newest_that_both_speak() {
        let hello = |least, most| Hello {
            protocols: (least, most),
            version: String::new(),
            node: String::new(),
            resource: String::new(),
            role: Role::Init,
            priority: 0,
            voters: Voters::default(),
        };
        assert_eq!(hello(1, 9).common_protocol(), Some(1));
        assert_eq!(hello(0, 1).common_protocol(), Some(1));
        assert_eq!(hello(2, 9).common_protocol(), None);
        assert_eq!(hello(0, 0).common_protocol(), None);
    }
}
