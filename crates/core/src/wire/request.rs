//! Requests: what a caller opens a connection with, on the network or on the control socket.
//!
//! Decides what a request asks for, and what to answer to one that makes no sense; never whether the caller may ask.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::nv::List;
use super::signature::Signature;
use crate::time::Duration;
use crate::types::{ErrorCode, Role};

/// Resources that one request may name. More than a node is meant for, and `all` asks for all of them at once.
pub const MAX_RESOURCES: usize = 10_000;
/// The only name of a request that stands for every resource of the configuration.
pub const ALL_RESOURCES: &str = "all";

const TYPE_CONTROL: u8 = 1;
const TYPE_COMPLAINT: u8 = 2;
const CMD_SET_ROLE: u8 = 1;
const CMD_STATUS: u8 = 2;
/// Ours, as the next one: an original answers it with "not implemented".
const CMD_RELOAD: u8 = 3;
const CMD_SWITCHOVER: u8 = 4;
const CMD_PAUSE: u8 = 7;
const CMD_RESUME: u8 = 8;
const CMD_EXPLAIN: u8 = 16;

/// What joins the two connections of a handshake: random, known to the secondary and its primary alone.
pub type Token = [u8; 16];

/// The first message of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A primary's first step. Answered with a token or a refusal.
    Handshake {
        /// The resource that the caller is primary for.
        resource: String,
        /// The caller's priority; 0 when it sent none.
        priority: i32,
    },
    /// A primary's second step, on another connection.
    HandshakeToken {
        /// The resource that the caller is primary for.
        resource: String,
        /// As given in the first step.
        token: Token,
        /// Always 0 from an original; 0 when it sent none.
        resuid: u64,
    },
    /// A watchdog sees no primary run the resource. Not answered.
    Complaint {
        /// The resource that does not run.
        resource: String,
    },
    /// Take a role. Answered with the roles before.
    SetRole {
        /// The role to take.
        role: Role,
        /// One at least; may be [`ALL_RESOURCES`].
        resources: Vec<String>,
        /// Ours: be primary without a majority, on the operator's word that no other node runs the resource.
        force: bool,
    },
    /// Hand a resource that runs here to another node. Ours, and for the control socket alone.
    Switchover {
        /// The resource.
        resource: String,
        /// The node that is to run it; `None`: the best of those that are ready.
        to: Option<String>,
    },
    /// Why does this resource run where it runs? Ours, and for the control socket alone.
    Explain {
        /// The resource.
        resource: String,
    },
    /// Start, stop and take over nothing any more, in the whole cluster. Ours, and for the control socket alone.
    Pause {
        /// One at least; may be [`ALL_RESOURCES`].
        resources: Vec<String>,
        /// The operator.
        by: String,
        /// For how long, to the millisecond; `None`: until it is resumed.
        span: Option<Duration>,
    },
    /// The end of that. Ours, and for the control socket alone.
    Resume {
        /// One at least; may be [`ALL_RESOURCES`].
        resources: Vec<String>,
    },
    /// Read the configuration again. Ours, and for the control socket alone.
    Reload,
    /// What is known? Also a watchdog's poll.
    Status {
        /// One at least; may be [`ALL_RESOURCES`].
        resources: Vec<String>,
    },
}

/// Where a request travels: the original orders its fields differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via<'a> {
    /// From hastmonctl to its own daemon.
    ControlSocket,
    /// To another node, signed when there is a key.
    Network(Option<&'a Signature>),
}

/// A list that is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A handshake or complaint about nothing.
    #[error("the request names no resource")]
    NoResource,
    /// Neither control nor complaint.
    #[error("the request has the unknown type {0}")]
    UnknownType(u8),
    /// A token of another length.
    #[error("the request has a token of {0} bytes")]
    TokenSize(usize),
    /// A control request that does not say what to do.
    #[error("the control request has no command")]
    NoCommand,
    /// A control request for something else.
    #[error("the control request has the unknown command {0}")]
    UnknownCommand(u8),
    /// A control request about nothing.
    #[error("the control request names no resource")]
    NoResources,
    /// More than [`MAX_RESOURCES`].
    #[error("the control request names more than {MAX_RESOURCES} resources")]
    TooManyResources,
    /// Set role without a role, or with a number that stands for none.
    #[error("the control request asks for a role that does not exist")]
    NotARole,
}

impl RequestError {
    /// What the caller gets to know before the connection is closed. `None`: nothing, as from an original.
    pub const fn answer(self) -> Option<ErrorCode> {
        match self {
            Self::NoResource | Self::UnknownType(_) | Self::TokenSize(_) => None,
            Self::UnknownCommand(_) => Some(ErrorCode::NotImplemented),
            Self::NoCommand | Self::NoResources | Self::TooManyResources | Self::NotARole => Some(ErrorCode::Invalid),
        }
    }
}

impl Request {
    /// The message in the original's order: the handshake's first step is signed at its end, all others at their start.
    pub fn encode(&self, via: Via<'_>) -> List {
        match self {
            Self::Handshake { resource, priority } => {
                sign(via, List::new().with_str("resource", resource).with_i32("priority", *priority))
            }
            Self::HandshakeToken { resource, token, resuid } => sign(via, List::new())
                .with_str("resource", resource)
                .with_u8s("token", token)
                .with_u64("resuid", *resuid),
            Self::Complaint { resource } => {
                sign(via, List::new()).with_str("resource", resource).with_u8("type", TYPE_COMPLAINT)
            }
            Self::SetRole { role, resources, force } => {
                let list = encode_control(via, CMD_SET_ROLE, Some(*role), resources);
                if *force { list.with_u8("force", 1) } else { list }
            }
            Self::Switchover { resource, to } => {
                let list = encode_control(via, CMD_SWITCHOVER, None, core::slice::from_ref(resource));
                to.iter().fold(list, |list, node| list.with_str("node", node))
            }
            Self::Explain { resource } => encode_control(via, CMD_EXPLAIN, None, core::slice::from_ref(resource)),
            Self::Status { resources } => encode_control(via, CMD_STATUS, None, resources),
            Self::Reload => encode_control(via, CMD_RELOAD, None, &[]),
            Self::Pause { resources, by, span } => {
                let list = encode_control(via, CMD_PAUSE, None, resources).with_str("by", by);
                let ms = span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
                ms.into_iter().fold(list, |list, ms| list.with_u64("span_ms", ms))
            }
            Self::Resume { resources } => encode_control(via, CMD_RESUME, None, resources),
        }
    }

    /// Reads a request. Its signature, if any, is for [`Signature::decode`].
    pub fn decode(list: &List) -> Result<Self, RequestError> {
        match list.u8("type") {
            Some(TYPE_CONTROL) => decode_control(list),
            Some(TYPE_COMPLAINT) => Ok(Self::Complaint { resource: decode_resource(list)? }),
            Some(number) => Err(RequestError::UnknownType(number)),
            None => decode_handshake(list),
        }
    }
}

fn sign(via: Via<'_>, list: List) -> List {
    match via {
        Via::Network(Some(signature)) => signature.append_to(list),
        Via::Network(None) | Via::ControlSocket => list,
    }
}

fn encode_control(via: Via<'_>, cmd: u8, role: Option<Role>, resources: &[String]) -> List {
    let mut list = sign(via, List::new());
    if via != Via::ControlSocket {
        list = list.with_u8("type", TYPE_CONTROL);
    }
    list = list.with_u8("cmd", cmd);
    if let Some(role) = role {
        list = list.with_u8("role", role.to_wire());
    }
    for (i, resource) in resources.iter().enumerate() {
        list = list.with_str(&format!("resource{i}"), resource);
    }
    if via == Via::ControlSocket {
        list = list.with_u8("type", TYPE_CONTROL);
    }
    list
}

fn decode_control(list: &List) -> Result<Request, RequestError> {
    let cmd = list.u8("cmd").ok_or(RequestError::NoCommand)?;
    match cmd {
        CMD_SET_ROLE | CMD_STATUS | CMD_PAUSE | CMD_RESUME => {}
        CMD_RELOAD => return Ok(Request::Reload),
        CMD_SWITCHOVER => return decode_switchover(list),
        CMD_EXPLAIN => {
            let resource = list.str("resource0").ok_or(RequestError::NoResources)?.to_owned();
            return Ok(Request::Explain { resource });
        }
        _ => return Err(RequestError::UnknownCommand(cmd)),
    }
    let named = list.numbered("resource");
    let resources: Vec<String> = named.into_iter().take(MAX_RESOURCES + 1).map(ToOwned::to_owned).collect();
    match resources.len() {
        0 => return Err(RequestError::NoResources),
        1..=MAX_RESOURCES => {}
        _ => return Err(RequestError::TooManyResources),
    }
    match cmd {
        CMD_STATUS => return Ok(Request::Status { resources }),
        CMD_RESUME => return Ok(Request::Resume { resources }),
        CMD_PAUSE => {
            let by = list.str("by").unwrap_or_default().to_owned();
            let span = list.u64("span_ms").map(Duration::from_millis);
            return Ok(Request::Pause { resources, by, span });
        }
        _ => {}
    }
    let role = list.u8("role").and_then(Role::from_wire).ok_or(RequestError::NotARole)?;
    Ok(Request::SetRole { role, resources, force: list.u8("force").is_some_and(|force| force != 0) })
}

fn decode_switchover(list: &List) -> Result<Request, RequestError> {
    let resource = list.str("resource0").ok_or(RequestError::NoResources)?.to_owned();
    Ok(Request::Switchover { resource, to: list.str("node").map(ToOwned::to_owned) })
}

fn decode_handshake(list: &List) -> Result<Request, RequestError> {
    let resource = decode_resource(list)?;
    let Some(token) = list.u8s("token") else {
        return Ok(Request::Handshake { resource, priority: list.i32("priority").unwrap_or(0) });
    };
    let token = token.try_into().map_err(|_| RequestError::TokenSize(token.len()))?;
    Ok(Request::HandshakeToken { resource, token, resuid: list.u64("resuid").unwrap_or(0) })
}

fn decode_resource(list: &List) -> Result<String, RequestError> {
    list.str("resource").map(ToOwned::to_owned).ok_or(RequestError::NoResource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::collection::vec as many;
    use proptest::prelude::*;

    #[test]
    fn what_an_original_may_leave_out_reads_as_zero() {
        let list = List::new().with_str("resource", "res");
        assert_eq!(Request::decode(&list), Ok(Request::Handshake { resource: "res".into(), priority: 0 }));
        let list = list.with_u8s("token", &[7; 16]);
        let request = Request::HandshakeToken { resource: "res".into(), token: [7; 16], resuid: 0 };
        assert_eq!(Request::decode(&list), Ok(request));
    }

    #[test]
    fn what_is_not_forced_is_as_an_original_writes_it() {
        let request = |force| Request::SetRole { role: Role::Primary, resources: vec!["res".into()], force };
        let list = request(false).encode(Via::ControlSocket);
        assert_eq!(list.u8("force"), None);
        assert_eq!(Request::decode(&list.clone().with_u8("force", 0)), Ok(request(false)));
        assert_eq!(request(true).encode(Via::ControlSocket), list.with_u8("force", 1));
    }

    #[test]
    fn resources_are_read_up_to_the_first_gap() {
        let list = List::new()
            .with_u8("type", 1)
            .with_u8("cmd", 2)
            .with_str("resource1", "b")
            .with_str("resource0", "a")
            .with_str("resource3", "d");
        assert_eq!(Request::decode(&list), Ok(Request::Status { resources: vec!["a".into(), "b".into()] }));
    }

    #[test]
    fn a_request_for_more_resources_than_the_limit_is_refused() {
        let request = |count| Request::Status { resources: vec!["res".into(); count] };
        let list = request(MAX_RESOURCES).encode(Via::ControlSocket);
        assert_eq!(Request::decode(&list), Ok(request(MAX_RESOURCES)));
        let list = request(MAX_RESOURCES + 1).encode(Via::ControlSocket);
        assert_eq!(Request::decode(&list), Err(RequestError::TooManyResources));
    }

    #[test]
    fn senseless_requests_are_told_apart() {
        let control = || List::new().with_u8("type", 1);
        for (list, error, answer) in [
            (List::new(), RequestError::NoResource, None),
            (List::new().with_u8("type", 2), RequestError::NoResource, None),
            (List::new().with_u8("type", 3), RequestError::UnknownType(3), None),
            (List::new().with_str("resource", "r").with_u8s("token", &[0; 15]), RequestError::TokenSize(15), None),
            (control(), RequestError::NoCommand, Some(ErrorCode::Invalid)),
            (control().with_u8("cmd", 9), RequestError::UnknownCommand(9), Some(ErrorCode::NotImplemented)),
            (control().with_u8("cmd", 2), RequestError::NoResources, Some(ErrorCode::Invalid)),
            (control().with_u8("cmd", 4).with_str("node", "b"), RequestError::NoResources, Some(ErrorCode::Invalid)),
            (control().with_u8("cmd", 1).with_str("resource0", "r"), RequestError::NotARole, Some(ErrorCode::Invalid)),
        ] {
            assert_eq!(Request::decode(&list), Err(error));
            assert_eq!(error.answer(), answer);
        }
    }

    fn request() -> impl Strategy<Value = Request> {
        let resource = || "[a-z0-9]{0,20}";
        prop_oneof![
            (resource(), any::<i32>()).prop_map(|(resource, priority)| Request::Handshake { resource, priority }),
            (resource(), any::<Token>(), any::<u64>()).prop_map(|(resource, token, resuid)| Request::HandshakeToken {
                resource,
                token,
                resuid
            }),
            resource().prop_map(|resource| Request::Complaint { resource }),
            (proptest::sample::select(&Role::ALL[..]), many(resource(), 1..9), any::<bool>())
                .prop_map(|(role, resources, force)| Request::SetRole { role, resources, force }),
            (resource(), proptest::option::of(resource()))
                .prop_map(|(resource, to)| Request::Switchover { resource, to }),
            many(resource(), 1..9).prop_map(|resources| Request::Status { resources }),
            resource().prop_map(|resource| Request::Explain { resource }),
            (many(resource(), 1..9), resource(), proptest::option::of(any::<u64>().prop_map(Duration::from_millis)))
                .prop_map(|(resources, by, span)| Request::Pause { resources, by, span }),
            many(resource(), 1..9).prop_map(|resources| Request::Resume { resources }),
            Just(Request::Reload),
        ]
    }

    proptest! {
        #[test]
        fn decode_undoes_encode_on_either_way(request in request(), now_s: u64, auth_hash in many(any::<u8>(), 1..33)) {
            let signature = Signature { now_s, auth_hash };
            for via in [Via::ControlSocket, Via::Network(None), Via::Network(Some(&signature))] {
                let list = request.encode(via);
                prop_assert_eq!(Request::decode(&list), Ok(request.clone()));
                let signed = (via == Via::Network(Some(&signature))).then(|| signature.clone());
                prop_assert_eq!(Signature::decode(&list), signed);
            }
        }

        /// The names of requests with values of the right and of the wrong type.
        #[test]
        fn any_list_gives_a_request_or_an_error(pairs in many((0..11_usize, 0..4_u8, 0..5_u8), 0..8)) {
            const NAMES: [&str; 11] = [
                "type", "cmd", "role", "resource", "resource0", "resource1", "token", "priority", "resuid", "force", "node",
            ];
            let list = pairs.iter().fold(List::new(), |list, &(name, kind, number)| match kind {
                0 => list.with_u8(NAMES[name], number),
                1 => list.with_str(NAMES[name], "res"),
                2 => list.with_u8s(NAMES[name], &[number; 16]),
                _ => list.with_u64(NAMES[name], number.into()),
            });
            if let Ok(request) = Request::decode(&list) {
                prop_assert_eq!(Request::decode(&request.encode(Via::Network(None))), Ok(request));
            }
        }
    }
}
