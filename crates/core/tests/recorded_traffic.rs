//! The wire against the recorded traffic of original daemons: the arbiter of the bytes.
//!
//! Two properties of the recordings are allowed for, and no more:
//! - The original does not clear its padding: names and values are followed by what happened to be in its memory.
//!   Ours is zeros, so recorded bytes are compared with their padding zeroed, by a walker of its own (`zero_padding`)
//!   that shares no code with the codec. All other bytes are compared as they are.
//! - In the decoded fields, not in the bytes, the directory of the exec script was shortened (`decoded_as`).

// For clippy: helpers of tests are tests.
#![cfg(test)]

use std::net::SocketAddr;

use hastmon_core::types::Role;
use hastmon_core::wire::frame::{self, HEADER_SIZE, Header, NETWORK_LIMIT, Version};
use hastmon_core::wire::nv::{List, Value};
use hastmon_core::wire::reply::{RoleReply, StatusReply};
use hastmon_core::wire::request::{Request, Via};
use hastmon_core::wire::session::{Answer, Heartbeat, Refusal};
use hastmon_core::wire::signature::{Algorithm, MAX_CLOCK_SKEW_S, Signature, SignatureError};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// What a message is, by its place in the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ControlRequest,
    NetworkRequest,
    RoleReply,
    StatusReply,
    Heartbeat,
    Answer,
}

struct Recorded {
    /// For a failing test: where to look.
    place: String,
    kind: Kind,
    bytes: Vec<u8>,
    fields: Json,
    /// Client, server, algorithm and secret, where the connection is recorded and signed.
    signed_with: Option<(SocketAddr, SocketAddr, Algorithm, String)>,
}

impl Recorded {
    fn new(place: String, kind: Kind, message: &Json) -> Self {
        let bytes = unhex(message["hex"].as_str().unwrap());
        Self { place, kind, bytes, fields: message["fields"].clone(), signed_with: None }
    }

    /// The list that the message holds.
    fn list(&self) -> List {
        let (header, body) = self.bytes.split_first_chunk().unwrap();
        let header = Header::decode(*header, &[Version::V0], NETWORK_LIMIT).unwrap();
        assert_eq!(header.size, body.len(), "{}", self.place);
        List::decode(body).unwrap_or_else(|error| panic!("{}: {error}", self.place))
    }

    fn has(&self, name: &str) -> bool {
        array(&self.fields).iter().any(|field| field[1] == name)
    }
}

fn array(json: &Json) -> &[Json] {
    json.as_array().unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn json(name: &str) -> Json {
    let path = format!("{}/tests/recorded/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The messages of a whole cluster's run.
fn cluster(name: &str) -> Vec<Recorded> {
    let recording = json(name);
    let mut messages = Vec::new();
    for (i, call) in array(&recording["control"]).iter().enumerate() {
        let reply_kind =
            if call["command"].as_str().unwrap().contains(" role ") { Kind::RoleReply } else { Kind::StatusReply };
        for message in array(&call["messages"]) {
            let kind = if message["what"] == "request" { Kind::ControlRequest } else { reply_kind };
            messages.push(Recorded::new(format!("{name} control {i} {kind:?}"), kind, message));
        }
    }
    for (i, connection) in array(&recording["network"]).iter().enumerate() {
        let place = |side: &str, j: usize| format!("{name} network {i} {side} {j}");
        let address = |end: &str| connection[end].as_str().unwrap().parse().unwrap();
        let mut request = Recorded::new(place("client", 0), Kind::NetworkRequest, &connection["from_client"][0]);
        request.signed_with = recording["key"]
            .as_str()
            .and_then(|key| key.split_once(':'))
            .map(|(name, secret)| (address("client"), address("server"), name.parse().unwrap(), secret.to_owned()));
        let reply_kind = if request.has("token") || request.has("priority") { Kind::Answer } else { Kind::StatusReply };
        messages.push(request);
        for (j, message) in array(&connection["from_client"]).iter().enumerate().skip(1) {
            messages.push(Recorded::new(place("client", j), Kind::Heartbeat, message));
        }
        for (j, message) in array(&connection["from_server"]).iter().enumerate() {
            messages.push(Recorded::new(place("server", j), reply_kind, message));
        }
    }
    messages
}

/// The requests that go wrong, each with its reply if there is one, by the recorded description.
fn errors() -> Vec<(String, Recorded, Option<Recorded>)> {
    let recording = json("errors");
    array(&recording["cases"])
        .iter()
        .map(|case| {
            let what = case["what"].as_str().unwrap().to_owned();
            let request = Recorded::new(format!("errors: {what}"), Kind::NetworkRequest, &case["request"]);
            let kind = if !request.has("type") {
                Kind::Answer
            } else if request.has("role") {
                Kind::RoleReply
            } else {
                Kind::StatusReply
            };
            let replies = array(&case["reply"]);
            assert!(replies.len() <= 1, "{what}");
            let reply = replies.first().map(|reply| Recorded::new(format!("errors, reply: {what}"), kind, reply));
            (what, request, reply)
        })
        .collect()
}

const CLUSTERS: [&str; 5] = ["nokey", "key-MD5", "key-SHA1", "key-SHA256", "key-RIPEMD160"];

fn all() -> Vec<Recorded> {
    let errors = errors().into_iter().flat_map(|(_, request, reply)| [Some(request), reply]).flatten();
    CLUSTERS.into_iter().flat_map(cluster).chain(errors).collect()
}

/// A recorded message with zeros where the original sends what its memory holds.
fn zero_padding(message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    let mut at = 5;
    while at < bytes.len() {
        let name_size = usize::from(bytes[at + 1]);
        let value_size = u32::from_le_bytes(bytes[at + 2..at + 6].try_into().unwrap()) as usize;
        at += 6;
        for size in [name_size, value_size] {
            let padded_end = at + size.div_ceil(8) * 8;
            bytes[at + size..padded_end].fill(0);
            at = padded_end;
        }
    }
    assert_eq!(at, bytes.len());
    bytes
}

/// A pair as the recordings write it.
fn decoded_as((name, value): (&str, &Value)) -> Json {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match value {
        Value::U8(number) => json!(["uint8", name, number]),
        Value::I16(number) => json!(["int16", name, number]),
        Value::I32(number) => json!(["int32", name, number]),
        Value::U64(number) => json!(["uint64", name, number]),
        Value::U8s(bytes) => json!(["uint8_array", name, hex(bytes)]),
        Value::Str(text) if name.starts_with("exec") => {
            assert!(text.starts_with("/tmp/lab-") && text.ends_with("/res.sh"), "{text}");
            json!(["string", name, "/lab/res.sh"])
        }
        Value::Str(text) => json!(["string", name, text]),
        other => panic!("{other:?} in no recording"),
    }
}

#[test]
fn no_recorded_message_is_overlooked() {
    for name in CLUSTERS {
        let messages = cluster(name);
        let count = |kind| messages.iter().filter(|message| message.kind == kind).count();
        assert_eq!(count(Kind::ControlRequest), 11, "{name}");
        assert_eq!(count(Kind::NetworkRequest), 14, "{name}");
        assert_eq!(count(Kind::RoleReply), 4, "{name}");
        assert_eq!(count(Kind::StatusReply), 15, "{name}");
        assert_eq!(count(Kind::Heartbeat), 6, "{name}");
        assert_eq!(count(Kind::Answer), 8, "{name}");
    }
    assert_eq!(errors().len(), 14);
    assert_eq!(errors().iter().filter(|(_, _, reply)| reply.is_some()).count(), 11);
    assert_eq!(all().len(), 5 * 58 + 14 + 11);
}

#[test]
fn every_recorded_message_decodes_to_the_recorded_fields() {
    for message in all() {
        let fields: Vec<Json> = message.list().pairs().map(decoded_as).collect();
        assert_eq!(Json::from(fields), message.fields, "{}", message.place);
    }
}

#[test]
fn every_recorded_message_encodes_again_to_the_same_bytes() {
    for message in all() {
        let bytes = frame::encode(Version::V0, &message.list(), NETWORK_LIMIT).unwrap();
        assert_eq!(bytes, zero_padding(&message.bytes), "{}", message.place);
    }
}

/// The list again, by way of the type that belongs to its place; `None` for a request that makes no sense.
fn typed_again(kind: Kind, list: &List) -> Option<List> {
    let signature = Signature::decode(list);
    match kind {
        Kind::ControlRequest => Some(Request::decode(list).unwrap().encode(Via::ControlSocket)),
        Kind::NetworkRequest => Some(Request::decode(list).ok()?.encode(Via::Network(signature.as_ref()))),
        Kind::RoleReply => Some(RoleReply::decode(list).unwrap().encode()),
        Kind::StatusReply => Some(StatusReply::decode(list).unwrap().encode()),
        Kind::Heartbeat => Some(Heartbeat::decode(list).unwrap().encode()),
        Kind::Answer => Some(Answer::decode(list).unwrap().encode()),
    }
}

#[test]
fn every_recorded_message_survives_its_type_byte_for_byte() {
    let mut senseless = 0;
    for message in all() {
        match typed_again(message.kind, &message.list()) {
            Some(list) => {
                let bytes = frame::encode(Version::V0, &list, NETWORK_LIMIT).unwrap();
                assert_eq!(bytes, zero_padding(&message.bytes), "{}", message.place);
            }
            None => {
                assert!(message.place.starts_with("errors"), "{}", message.place);
                senseless += 1;
            }
        }
    }
    assert_eq!(senseless, 4);
}

#[test]
fn a_recorded_request_without_sense_gets_the_recorded_reply() {
    let mut seen = 0;
    for (what, request, reply) in errors() {
        let Err(error) = Request::decode(&request.list()) else { continue };
        let answer = error.answer().map(|code| {
            frame::encode(Version::V0, &StatusReply::Failed(code.to_wire()).encode(), NETWORK_LIMIT).unwrap()
        });
        assert_eq!(answer, reply.map(|reply| zero_padding(&reply.bytes)), "{what}: {error}");
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn refusals_have_the_recorded_texts() {
    let mut expected = [
        Refusal::ActsAs(Role::Init),
        Refusal::NotConfigured,
        Refusal::NoAccess,
        Refusal::HigherPriority(5),
        Refusal::ActsAs(Role::Init),
        Refusal::ActsAs(Role::Init),
    ]
    .into_iter();
    for (what, _, reply) in errors() {
        let Some(reply) = reply.filter(|reply| reply.kind == Kind::Answer) else { continue };
        let refusal = Answer::from(expected.next().unwrap());
        let bytes = frame::encode(Version::V0, &refusal.encode(), NETWORK_LIMIT).unwrap();
        assert_eq!(bytes, zero_padding(&reply.bytes), "{what}");
    }
    assert_eq!(expected.next(), None);
}

#[test]
fn every_recorded_signature_verifies_for_its_connection_secret_and_time_alone() {
    let mut seen = [0; Algorithm::ALL.len()];
    for message in all() {
        let Some((client, server, algorithm, secret)) = &message.signed_with else { continue };
        let (algorithm, secret) = (*algorithm, secret.as_bytes());
        let signature = Signature::decode(&message.list()).unwrap();
        let now_s = signature.now_s;
        let verify = |secret: &[u8], client, server| signature.verify(algorithm, secret, now_s, client, server);
        assert_eq!(verify(secret, *client, *server), Ok(()), "{}", message.place);
        assert_eq!(Signature::new(algorithm, secret, now_s, *client, *server), signature, "{}", message.place);

        let mismatch = Err(SignatureError::Mismatch);
        let elsewhere = SocketAddr::new("10.77.0.9".parse().unwrap(), client.port());
        let other_port = SocketAddr::new(client.ip(), client.port() ^ 1);
        assert_eq!(verify(b"another secret", *client, *server), mismatch);
        assert_eq!(verify(b"", *client, *server), mismatch);
        assert_eq!(verify(secret, elsewhere, *server), mismatch);
        assert_eq!(verify(secret, other_port, *server), mismatch);
        assert_eq!(verify(secret, *client, elsewhere), mismatch);
        assert_eq!(verify(secret, *server, *client), mismatch);
        let redated = Signature { now_s: now_s + 1, ..signature.clone() };
        assert_eq!(redated.verify(algorithm, secret, now_s, *client, *server), mismatch);
        let late_s = MAX_CLOCK_SKEW_S + 1;
        let late = signature.verify(algorithm, secret, now_s + late_s, *client, *server);
        assert_eq!(late, Err(SignatureError::TooOld(late_s)));
        seen[Algorithm::ALL.iter().position(|other| *other == algorithm).unwrap()] += 1;
    }
    assert_eq!(seen, [14; Algorithm::ALL.len()]);
}

/// Everything that may ever be done with bytes from a peer.
fn decode_as_anything(bytes: &[u8]) {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_SIZE>() else { return };
    let _ = Header::decode(*header, &[Version::V0], NETWORK_LIMIT);
    let Ok(list) = List::decode(body) else { return };
    let _ = (Request::decode(&list), Signature::decode(&list), Heartbeat::decode(&list), Answer::decode(&list));
    let _ = (RoleReply::decode(&list), StatusReply::decode(&list));
}

#[test]
fn no_recorded_message_is_a_danger_when_it_is_cut_short() {
    for message in all() {
        let whole = message.list();
        for size in 0..message.bytes.len() {
            let cut = &message.bytes[..size];
            decode_as_anything(cut);
            if let Some(Ok(list)) = cut.get(HEADER_SIZE..).map(List::decode) {
                assert!(list.pairs().eq(whole.pairs().take(list.pairs().len())), "{} cut to {size}", message.place);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_recorded_message_is_a_danger_when_bytes_of_it_change(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let requests = errors().into_iter().map(|(_, request, _)| request);
        for message in requests.chain(cluster("nokey").into_iter().take(12)) {
            let mut bytes = message.bytes;
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            decode_as_anything(&bytes);
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        decode_as_anything(&bytes);
    }
}
