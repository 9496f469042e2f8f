//! The encryption of a session of protocol 1: `Noise_NNpsk2_25519_ChaChaPoly_SHA256`. Turns lists into sealed lists and back; reads and writes
//! nothing, and never shows a secret.
//!
//! A sealed list has one pair, `noise`, with a Noise message whose payload is the encoded list. In the first message of a connection `noise`
//! stands beside the other fields, with an empty payload: they are its prologue, so that whoever changes one is found out. `psk2` mixes the
//! key into the answer: the first message proves nothing about its sender, the answer proves the answerer, and the first sealed list after
//! it the caller. All of it depends on fresh numbers of both sides, so a recording is worth nothing.

use hastmon_core::config::Key;
use hastmon_core::wire::Lacks;
use hastmon_core::wire::frame::{PLAINTEXT_LIMIT, TooLarge};
use hastmon_core::wire::nv::List;
use hkdf::Hkdf;
use sha2::Sha256;
use snow::{Builder, HandshakeState, TransportState};
use zeroize::Zeroizing;

use super::SessionError;
use crate::net::NetError;

/// What both sides must mean: it is part of every key and of every prologue.
const PROTOCOL: &[u8] = b"hastmon protocol 1";
/// The number of the version, again for the key.
const VERSION: u8 = 1;
const PATTERN: &str = "Noise_NNpsk2_25519_ChaChaPoly_SHA256";
/// Where the key goes in, by the pattern's name.
const PSK_PLACE: u8 = 2;

/// The field of a Noise message.
pub(super) const NOISE: &str = "noise";
/// The field of a first message that names the resource, to which the key is bound.
const RESOURCE: &str = "resource";

/// What a handshake message adds to its payload: a public key and a tag.
const HANDSHAKE_OVERHEAD: usize = 32 + 16;
/// What any later message adds: a tag.
const TAG_SIZE: usize = 16;

/// Messages in one direction of one session. The counter that must never wrap has 64 bits: this is far from it, and with a message every
/// millisecond still 34 years.
const MAX_MESSAGES: u64 = 1 << 40;

/// A caller's side, between its first message and the answer.
pub(super) struct Handshake(HandshakeState);

impl Handshake {
    /// Begins; gives the first message to send: `hello` with its `noise`.
    pub(super) fn begin(key: &Key, hello: &List) -> Result<(Self, List), SessionError> {
        let hello = without_noise(hello);
        fitting(&hello)?;
        let psk = derive(key, &hello)?;
        let mut state = builder(&psk, &prologue(&hello))?.build_initiator().map_err(SessionError::Noise)?;
        let message = write(HANDSHAKE_OVERHEAD, &[], |payload, out| state.write_message(payload, out))?;
        Ok((Self(state), hello.with_u8s(NOISE, &message)))
    }

    /// Ends with what stands in `noise` of the answer; gives the answer.
    pub(super) fn finish(mut self, message: &[u8]) -> Result<(Cipher, List), SessionError> {
        let answer = read(message, |message, out| self.0.read_message(message, out))?;
        let state = self.0.into_transport_mode().map_err(SessionError::Noise)?;
        Ok((Cipher { state }, decode(&answer)?))
    }
}

/// The other side: takes `noise` of the first message and gives the sealed answer.
pub(super) fn respond(key: &Key, first: &List, message: &[u8], answer: &List) -> Result<(Cipher, List), SessionError> {
    let hello = without_noise(first);
    let psk = derive(key, &hello)?;
    let mut state = builder(&psk, &prologue(&hello))?.build_responder().map_err(SessionError::Noise)?;
    if !read(message, |message, out| state.read_message(message, out))?.is_empty() {
        return Err(SessionError::Mismatch);
    }
    let sealed = write(HANDSHAKE_OVERHEAD, &fitting(answer)?, |payload, out| state.write_message(payload, out))?;
    let state = state.into_transport_mode().map_err(SessionError::Noise)?;
    Ok((Cipher { state }, List::new().with_u8s(NOISE, &sealed)))
}

/// Both directions of a session whose handshake is over. Its counters make every message good for one place only.
pub(super) struct Cipher {
    state: TransportState,
}

impl Cipher {
    pub(super) fn seal(&mut self, list: &List) -> Result<List, SessionError> {
        let payload = fitting(list)?;
        if self.state.sending_nonce() >= MAX_MESSAGES {
            return Err(SessionError::Exhausted);
        }
        let sealed = write(TAG_SIZE, &payload, |payload, out| self.state.write_message(payload, out))?;
        Ok(List::new().with_u8s(NOISE, &sealed))
    }

    pub(super) fn unseal(&mut self, sealed: &List) -> Result<List, SessionError> {
        if self.state.receiving_nonce() >= MAX_MESSAGES {
            return Err(SessionError::Exhausted);
        }
        let message = sealed.u8s(NOISE).ok_or(SessionError::Mismatch)?;
        decode(&read(message, |message, out| self.state.read_message(message, out))?)
    }
}

/// The encoded list, when it may be sent.
pub(super) fn fitting(list: &List) -> Result<Vec<u8>, SessionError> {
    let bytes = list.encode();
    if bytes.len() > PLAINTEXT_LIMIT {
        return Err(NetError::from(TooLarge { size: bytes.len(), limit: PLAINTEXT_LIMIT }).into());
    }
    Ok(bytes)
}

/// HKDF-SHA256 of the secret, bound to the protocol and to the resource: a key that several resources share makes sessions of one worth
/// nothing for another. `algorithm` plays no part.
fn derive(key: &Key, hello: &List) -> Result<Zeroizing<[u8; 32]>, SessionError> {
    let resource = hello.str(RESOURCE).ok_or_else(|| NetError::from(Lacks(RESOURCE.into())))?;
    let mut psk = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(PROTOCOL), key.secret.as_bytes())
        .expand_multi_info(&[&[VERSION], resource.as_bytes()], psk.as_mut())
        // Only a length that no SHA256 can give is refused, and this one is fixed.
        .map_err(|_| SessionError::Mismatch)?;
    Ok(psk)
}

fn prologue(hello: &List) -> Vec<u8> {
    [PROTOCOL, &hello.encode()].concat()
}

fn builder<'a>(psk: &'a [u8; 32], prologue: &'a [u8]) -> Result<Builder<'a>, SessionError> {
    let pattern = PATTERN.parse().map_err(SessionError::Noise)?;
    Builder::new(pattern)
        .psk(PSK_PLACE, psk)
        .and_then(|builder| builder.prologue(prologue))
        .map_err(SessionError::Noise)
}

pub(super) fn without_noise(list: &List) -> List {
    let others = list.pairs().filter(|(name, _)| *name != NOISE);
    others.fold(List::new(), |list, (name, value)| list.with(name, value.clone()))
}

/// A Noise message of this payload.
fn write(
    overhead: usize,
    payload: &[u8],
    with: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, snow::Error>,
) -> Result<Vec<u8>, SessionError> {
    let mut message = vec![0; payload.len() + overhead];
    let size = with(payload, &mut message).map_err(SessionError::Noise)?;
    message.truncate(size);
    Ok(message)
}

/// The payload of a Noise message. Whatever is wrong with it comes to the same: it was not made for this place with this key.
fn read(
    message: &[u8],
    with: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, snow::Error>,
) -> Result<Vec<u8>, SessionError> {
    let mut payload = vec![0; message.len()];
    let size = with(message, &mut payload).map_err(|_| SessionError::Mismatch)?;
    payload.truncate(size);
    Ok(payload)
}

fn decode(bytes: &[u8]) -> Result<List, SessionError> {
    Ok(List::decode(bytes).map_err(NetError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::{hello, key};

    fn pair() -> (Cipher, Cipher) {
        let (handshake, first) = Handshake::begin(&key("one"), &hello()).unwrap();
        let (theirs, sealed) = respond(&key("one"), &first, first.u8s(NOISE).unwrap(), &List::new()).unwrap();
        (handshake.finish(sealed.u8s(NOISE).unwrap()).unwrap().0, theirs)
    }

    #[test]
    fn a_key_differs_by_secret_and_resource_and_by_nothing_else() {
        let derived = |secret, resource| derive(&key(secret), &List::new().with_str(RESOURCE, resource)).unwrap();
        assert_eq!(derived("one", "web"), derived("one", "web"));
        assert_ne!(derived("one", "web"), derived("two", "web"));
        assert_ne!(derived("one", "web"), derived("one", "db"));
        let other = Key { algorithm: hastmon_core::config::Algorithm::Md5, ..key("one") };
        assert_eq!(derive(&other, &hello()).unwrap(), derive(&key("one"), &hello()).unwrap());
        // Computed with another implementation (Python's hmac): nodes of different versions must agree on it.
        assert_eq!(derived("one", "web").as_slice()[..8], EXPECTED);
    }

    /// The first bytes of the key of resource "web" with the secret "one".
    const EXPECTED: [u8; 8] = [0x99, 0x40, 0xc9, 0x2b, 0x0a, 0xbb, 0x16, 0x5b];

    #[test]
    fn a_session_ends_before_its_counters_do() {
        let (mut ours, mut theirs) = pair();
        let sealed = ours.seal(&List::new()).unwrap();
        theirs.state.set_receiving_nonce(MAX_MESSAGES);
        assert!(matches!(theirs.unseal(&sealed), Err(SessionError::Exhausted)));
    }

    #[test]
    fn as_much_as_the_limit_allows_can_be_sealed_and_no_more() {
        // A pair has 14 bytes around a value that is a multiple of 8.
        let largest = (PLAINTEXT_LIMIT - 14) / 8 * 8;
        let list = |size| List::new().with_u8s("x", &vec![7; size]);
        let (mut ours, mut theirs) = pair();
        let sealed = ours.seal(&list(largest)).unwrap();
        assert_eq!(theirs.unseal(&sealed).unwrap(), list(largest));
        let error = ours.seal(&list(largest + 1)).unwrap_err();
        assert!(matches!(error, SessionError::Net(NetError::TooLarge(_))), "{error}");
    }
}
