//! A primary and a secondary that are connected: what they say after the request, and the refusals of a handshake.
//!
//! Decides what a message of a session says; never which one is due, nor on which of the two connections.

use alloc::string::{String, ToString};

use super::nv::List;
use super::request::Token;
use super::signature::SignatureError;
use super::{Lacks, error_number};
use crate::types::{Role, State};

const CMD_STATE: u8 = 1;

/// From the primary at every heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The primary's state of the resource.
    pub state: State,
    /// Counts from 1 in each session.
    pub seq: u64,
}

impl Heartbeat {
    /// The message in the original's order.
    pub fn encode(&self) -> List {
        List::new().with_u8("cmd", CMD_STATE).with_u8("state", self.state.to_wire()).with_u64("seq", self.seq)
    }

    /// Reads a heartbeat.
    pub fn decode(list: &List) -> Result<Self, Lacks> {
        list.u8("cmd").filter(|&cmd| cmd == CMD_STATE).ok_or_else(|| Lacks::field("cmd"))?;
        let state = list.u8("state").map(State::from_wire).ok_or_else(|| Lacks::field("state"))?;
        let seq = list.u64("seq").ok_or_else(|| Lacks::field("seq"))?;
        Ok(Self { state, seq })
    }
}

/// From the secondary (or who was taken for one), on either connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The first step is accepted.
    Token(Token),
    /// The second step is accepted.
    Resuid(u64),
    /// To a heartbeat.
    Heartbeat {
        /// That of the heartbeat.
        seq: u64,
        /// The secondary's state of the resource, or an error number.
        state: Result<State, i16>,
    },
    /// A step of the handshake is refused; see [`Refusal`].
    Refused {
        /// For the log.
        errmsg: String,
        /// Of the refusing node when it is a primary of higher priority: the caller gives up its role.
        /// An original that is the caller takes 0 for none, and goes on.
        priority: Option<i32>,
    },
}

impl Answer {
    /// The message in the original's order.
    pub fn encode(&self) -> List {
        match self {
            Self::Token(token) => List::new().with_u8s("token", token),
            Self::Resuid(resuid) => List::new().with_u64("resuid", *resuid),
            Self::Heartbeat { seq, state } => {
                let list = List::new().with_u64("seq", *seq);
                match state {
                    Ok(state) => list.with_u8("state", state.to_wire()),
                    Err(error) => list.with_i16("error", *error),
                }
            }
            Self::Refused { errmsg, priority } => {
                let list = List::new().with_str("errmsg", errmsg);
                match priority {
                    Some(priority) => list.with_i32("priority", *priority),
                    None => list,
                }
            }
        }
    }

    /// Reads an answer. A refusal is one whatever else stands beside it.
    pub fn decode(list: &List) -> Result<Self, Lacks> {
        if let Some(errmsg) = list.str("errmsg") {
            return Ok(Self::Refused { errmsg: errmsg.into(), priority: list.i32("priority") });
        }
        if let Some(token) = list.u8s("token") {
            return token.try_into().map(Self::Token).map_err(|_| Lacks::field("token"));
        }
        if let Some(resuid) = list.u64("resuid") {
            return Ok(Self::Resuid(resuid));
        }
        let seq = list.u64("seq").ok_or_else(|| Lacks::field("seq"))?;
        let state = match error_number(list.fields(), "error") {
            Some(error) => Err(error),
            None => Ok(list.u8("state").map(State::from_wire).ok_or_else(|| Lacks::field("state"))?),
        };
        Ok(Self::Heartbeat { seq, state })
    }
}

/// Why a handshake is refused. The first four texts are the original's, with its spelling: its users grep for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The resource is in another role here.
    #[error("Remote node acts as {0} for the resource and not as secondary.")]
    ActsAs(
        /// That role.
        Role,
    ),
    /// This node is the better primary.
    #[error("Remote node acts as primary with higher priority (prioty number {0}).")]
    HigherPriority(
        /// The priority of this node.
        i32,
    ),
    /// The configuration has no such resource.
    #[error("Resource not configured.")]
    NotConfigured,
    /// The caller is a friend, but no `remote` of the resource.
    #[error("No access to the resource.")]
    NoAccess,
    /// No first step is waiting for a second with this token.
    #[error("Token is wrong or no longer valid: begin the handshake anew.")]
    WrongToken,
    /// Too many handshakes for the resource are half done, or its worker is being started again.
    #[error("Busy: try again.")]
    Busy,
    /// The resource has a key here, and the request has no signature.
    #[error("Request is not signed: give both nodes the same key (algorithm and secret).")]
    NotSigned,
    /// The request has a signature, and it is not accepted.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let priority = match refusal {
            Refusal::HigherPriority(priority) => Some(priority),
            _ => None,
        };
        Self::Refused { errmsg: refusal.to_string(), priority }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    #[test]
    fn a_heartbeat_needs_its_command_state_and_number() {
        let list = List::new().with_u8("state", 3).with_u64("seq", 1);
        assert_eq!(Heartbeat::decode(&list), Err(Lacks("cmd".into())));
        assert_eq!(Heartbeat::decode(&list.clone().with_u8("cmd", 2)), Err(Lacks("cmd".into())));
        assert_eq!(Heartbeat::decode(&list.with_u8("cmd", 1)), Ok(Heartbeat { state: State::Run, seq: 1 }));
        assert_eq!(Heartbeat::decode(&List::new().with_u8("cmd", 1)), Err(Lacks("state".into())));
        let list = List::new().with_u8("cmd", 1).with_u8("state", 3).with_i32("seq", 1);
        assert_eq!(Heartbeat::decode(&list), Err(Lacks("seq".into())));
    }

    #[test]
    fn an_answer_without_meaning_is_an_error() {
        assert_eq!(Answer::decode(&List::new()), Err(Lacks("seq".into())));
        assert_eq!(Answer::decode(&List::new().with_u64("seq", 1)), Err(Lacks("state".into())));
        assert_eq!(Answer::decode(&List::new().with_u8s("token", &[1; 17])), Err(Lacks("token".into())));
    }

    #[test]
    fn a_refusal_is_one_whatever_stands_beside_it() {
        let list = List::new().with_u8s("token", &[1; 16]).with_u64("resuid", 0).with_str("errmsg", "no");
        assert_eq!(Answer::decode(&list), Ok(Answer::Refused { errmsg: "no".into(), priority: None }));
    }

    #[test]
    fn an_error_number_of_zero_is_no_error() {
        let list = List::new().with_u64("seq", 1).with_i16("error", 0).with_u8("state", 5);
        assert_eq!(Answer::decode(&list), Ok(Answer::Heartbeat { seq: 1, state: Ok(State::Stopped) }));
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let state = prop_oneof![
            select(&State::ALL[..]).prop_map(Ok),
            any::<i16>().prop_filter("0 is no error", |&error| error != 0).prop_map(Err)
        ];
        prop_oneof![
            any::<Token>().prop_map(Answer::Token),
            any::<u64>().prop_map(Answer::Resuid),
            (any::<u64>(), state).prop_map(|(seq, state)| Answer::Heartbeat { seq, state }),
            ("[^\0]{0,40}", option::of(any::<i32>()))
                .prop_map(|(errmsg, priority)| Answer::Refused { errmsg, priority }),
        ]
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(answer in answer(), state in select(&State::ALL[..]), seq: u64) {
            prop_assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
            let heartbeat = Heartbeat { state, seq };
            prop_assert_eq!(Heartbeat::decode(&heartbeat.encode()), Ok(heartbeat));
        }
    }
}
