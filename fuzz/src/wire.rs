//! Any bytes as what goes over the wire: a value or an error, and a value survives its way to bytes and back.

use std::fmt::Debug;
use std::net::SocketAddr;

use hastmon_core::lease::record::Record;
use hastmon_core::wire::frame::{self, CONTROL_LIMIT, HEADER_SIZE, Header, HeaderError, NETWORK_LIMIT, Version};
use hastmon_core::wire::nv::{DecodeError, List};
use hastmon_core::wire::peer::{Heard, Hello, Said, Welcome};
use hastmon_core::wire::reply::{PerResource, ReloadReply, Reply, RoleReply, StatusReply};
use hastmon_core::wire::request::{Request, Via};
use hastmon_core::wire::session::{Answer, Heartbeat};
use hastmon_core::wire::signature::{Algorithm, Signature};

use super::input::Input;

/// A list without its frame.
pub fn nv(data: &[u8]) {
    match List::decode(data) {
        Ok(list) => {
            let bytes = list.encode();
            assert!(bytes.len() <= data.len(), "{} bytes become {}", data.len(), bytes.len());
            assert_eq!(List::decode(&bytes).as_ref(), Ok(&list));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let made = Input::new(data).list();
    assert_eq!(List::decode(&made.encode()), Ok(made));
}

/// The first byte chooses the limit, the second the pieces in which the others arrive: they say the same in one piece.
pub fn frame(data: &[u8]) {
    let mut input = Input::new(data);
    let limit = [NETWORK_LIMIT, CONTROL_LIMIT, 64, 0][input.below(4)];
    let pieces = input.byte();
    let stream = input.bytes(data.len());
    let whole = read_stream(stream, limit, |_| usize::MAX);
    let mut seed = pieces;
    let in_pieces = read_stream(stream, limit, |missing| {
        seed = seed.wrapping_mul(5).wrapping_add(17);
        // What has arrived is less than what is asked for, often a single byte.
        if seed & 0x40 == 0 { 1 } else { missing.min(usize::from(seed)) }
    });
    assert_eq!(whole, in_pieces);
    for list in whole.0 {
        let message = frame::encode(Version::V0, &list, limit).expect("what was taken can be sent");
        assert_eq!(read_stream(&message, limit, |_| 3), (vec![list], End::Closed));
    }
}

/// How a stream comes to its end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Closed,
    Torn,
    Header(HeaderError),
    Malformed(DecodeError),
}

/// The messages of a stream, read as the daemon reads them (`MessageReader` in `crates/hastmon/src/net.rs`). `arrives` says how many of the
/// bytes that are missing are there.
fn read_stream(mut stream: &[u8], limit: usize, mut arrives: impl FnMut(usize) -> usize) -> (Vec<List>, End) {
    let mut messages = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        let missing = match buffer.first_chunk::<HEADER_SIZE>() {
            None => HEADER_SIZE - buffer.len(),
            Some(header) => {
                let header = match Header::decode(*header, &[Version::V0], limit) {
                    Ok(header) => header,
                    Err(error) => return (messages, End::Header(error)),
                };
                assert!(header.size <= limit);
                match buffer.get(HEADER_SIZE..HEADER_SIZE + header.size).map(List::decode) {
                    Some(Ok(list)) => {
                        messages.push(list);
                        buffer.clear();
                        continue;
                    }
                    Some(Err(error)) => return (messages, End::Malformed(error)),
                    None => HEADER_SIZE + header.size - buffer.len(),
                }
            }
        };
        let (part, rest) = stream.split_at(arrives(missing).clamp(1, missing).min(stream.len()));
        if part.is_empty() {
            return (messages, if buffer.is_empty() { End::Closed } else { End::Torn });
        }
        buffer.extend(part);
        stream = rest;
    }
}

/// A list without its frame, from bytes; and one made of the words of the protocol.
fn each_list(data: &[u8], check: impl Fn(&List)) {
    if let Ok(list) = List::decode(data) {
        check(&list);
    }
    check(&Input::new(data).list());
}

/// The first message of a connection.
pub fn request(data: &[u8]) {
    each_list(data, |list| {
        let signature = Signature::decode(list);
        if let Some(signature) = &signature {
            check_signature(signature);
        }
        match Request::decode(list) {
            Ok(request) => {
                for via in [Via::ControlSocket, Via::Network(None), Via::Network(signature.as_ref())] {
                    let sent = request.encode(via);
                    assert_eq!(Request::decode(&sent).as_ref(), Ok(&request), "{via:?}");
                    let signed = if let Via::Network(Some(signature)) = via { Some(signature.clone()) } else { None };
                    assert_eq!(Signature::decode(&sent), signed);
                }
            }
            Err(error) => {
                assert!(!error.to_string().is_empty() && error.answer().is_none_or(|code| code.to_wire() > 0))
            }
        }
    });
}

/// Nobody guesses a secret.
fn check_signature(signature: &Signature) {
    let client = SocketAddr::from(([192, 0, 2, 1], 40_000));
    let server = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 8458));
    for algorithm in Algorithm::ALL {
        for our_now_s in [0, signature.now_s, u64::MAX] {
            assert!(signature.verify(algorithm, b"a secret", our_now_s, client, server).is_err());
        }
        let right = Signature::new(algorithm, b"a secret", signature.now_s, client, server);
        assert_eq!(right.verify(algorithm, b"a secret", signature.now_s, client, server), Ok(()));
    }
}

/// What a primary and a secondary say to each other.
pub fn session(data: &[u8]) {
    each_list(data, |list| {
        survives(list, Heartbeat::decode, Heartbeat::encode);
        survives(list, Answer::decode, Answer::encode);
    });
}

/// What is answered to set role, status and reload.
pub fn reply(data: &[u8]) {
    each_list(data, |list| {
        survives(list, RoleReply::decode, RoleReply::encode);
        survives(list, StatusReply::decode, StatusReply::encode);
        survives(list, ReloadReply::decode, ReloadReply::encode);
        check_reply::<hastmon_core::types::Role>(list);
        check_reply::<hastmon_core::wire::reply::ResourceStatus>(list);
    });
}

/// What nodes say to each other by protocol 1, and what a vote looks like on disk.
pub fn peer(data: &[u8]) {
    let check = |list: &List| {
        survives(list, Hello::decode, Hello::encode);
        survives(list, Welcome::decode, Welcome::encode);
        survives(list, |list| Said::decode(list, "b"), Said::encode);
        survives(list, Heard::decode, Heard::encode);
        if let Ok(hello) = Hello::decode(list) {
            assert!(hello.common_protocol().is_none_or(|protocol| protocol == 1));
        }
    };
    if let Ok(list) = List::decode(data) {
        check(&list);
    }
    check(&Input::new(data).peer_list());
    match Record::from_text(&String::from_utf8_lossy(data)) {
        Ok(record) => assert_eq!(Record::from_text(&record.to_text()), Ok(record)),
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
}

/// A reply has no more entries than its message has room for.
fn check_reply<T: PerResource + Debug>(list: &List) {
    match Reply::<T>::decode(list) {
        Ok(Reply::Entries(entries)) => {
            assert!(entries.len() <= list.pairs().len());
            assert!(entries.iter().all(|entry| !matches!(entry.outcome, Err(0))));
        }
        Ok(Reply::Failed(error)) => assert_ne!(error, 0),
        Err(lacks) => assert!(!lacks.to_string().is_empty()),
    }
}

/// What decodes is the same after it was encoded and decoded again, and fits where it came from.
fn survives<T: Debug + PartialEq, E: Debug + PartialEq>(
    list: &List,
    decode: impl Fn(&List) -> Result<T, E>,
    encode: impl Fn(&T) -> List,
) {
    let Ok(value) = decode(list) else { return };
    let sent = frame::encode(Version::V0, &encode(&value), CONTROL_LIMIT).expect("it was smaller when it came");
    let body = sent.get(HEADER_SIZE..).unwrap_or_default();
    let again = List::decode(body).expect("what we send is a list");
    assert_eq!(decode(&again), Ok(value));
}
