//! The signature of protocol 0: `now` and `auth_hash` in the first message of a connection.
//!
//! Decides whether a signature was made with the secret, for this connection, about now; never what it allows.
//! It covers no other field and can be replayed within its time: it is here for originals, and worth no more than that.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;

use md5::Md5;
use ripemd::Ripemd160;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::nv::List;

/// How far the clocks of two nodes may differ, in seconds. The original's number: it bounds a replay, too.
pub const MAX_CLOCK_SKEW_S: u64 = 10;

/// The hash of a `key`. None of them is broken in a way that matters here; none makes a MAC of this construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// 16 bytes.
    Md5,
    /// 20 bytes.
    Sha1,
    /// 32 bytes.
    Sha256,
    /// 20 bytes.
    Ripemd160,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 4] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Ripemd160];

    /// The name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Ripemd160 => "RIPEMD160",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an algorithm: MD5, SHA1, SHA256 or RIPEMD160")]
pub struct NotAnAlgorithm;

impl FromStr for Algorithm {
    type Err = NotAnAlgorithm;

    fn from_str(word: &str) -> Result<Self, NotAnAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == word).ok_or(NotAnAlgorithm)
    }
}

/// The signature as it stands in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// When it was made: seconds since 1970 on the signer's clock.
    pub now_s: u64,
    /// The hash.
    pub auth_hash: Vec<u8>,
}

/// A signature that is not accepted. The text goes to the log here and, as a refusal, to the log of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Made with another secret or algorithm, or for another connection.
    #[error(
        "Wrong signature: give both nodes the same key (algorithm and secret), and no address translation between them."
    )]
    Mismatch,
    /// Right, but made too long ago by our clock.
    #[error("Signature is {0} s old, {MAX_CLOCK_SKEW_S} s are allowed: set the clocks of both nodes.")]
    TooOld(
        /// Age in seconds.
        u64,
    ),
    /// Right, but made too far in the future of our clock.
    #[error("Signature is from {0} s in the future, {MAX_CLOCK_SKEW_S} s are allowed: set the clocks of both nodes.")]
    TooNew(
        /// Distance in seconds.
        u64,
    ),
}

impl Signature {
    /// Signs the first message of the connection from `client` to `server`. `now_s`: seconds since 1970.
    pub fn new(algorithm: Algorithm, secret: &[u8], now_s: u64, client: SocketAddr, server: SocketAddr) -> Self {
        Self { now_s, auth_hash: auth_hash(algorithm, secret, now_s, client, server) }
    }

    /// The signature in a message; `None` when there is none, or only half of one.
    pub fn decode(list: &List) -> Option<Self> {
        Some(Self { now_s: list.u64("now")?, auth_hash: list.u8s("auth_hash")?.into() })
    }

    /// Appends the signature to a message.
    pub(super) fn append_to(&self, list: List) -> List {
        list.with_u64("now", self.now_s).with_u8s("auth_hash", &self.auth_hash)
    }

    /// Is this a signature with the secret, for this connection, made about now? `our_now_s`: seconds since 1970.
    /// The hash is judged first: what a right one says about the clocks is true.
    pub fn verify(
        &self,
        algorithm: Algorithm,
        secret: &[u8],
        our_now_s: u64,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Result<(), SignatureError> {
        let expected = auth_hash(algorithm, secret, self.now_s, client, server);
        if !bool::from(expected.ct_eq(&self.auth_hash)) {
            return Err(SignatureError::Mismatch);
        }
        if our_now_s.abs_diff(self.now_s) <= MAX_CLOCK_SKEW_S {
            return Ok(());
        }
        Err(match our_now_s.checked_sub(self.now_s) {
            Some(age) => SignatureError::TooOld(age),
            None => SignatureError::TooNew(self.now_s.saturating_sub(our_now_s)),
        })
    }
}

/// H(now as decimal digits + client address + server address + secret), the addresses as both ends see them.
pub fn auth_hash(algorithm: Algorithm, secret: &[u8], now_s: u64, client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let public = now_s.to_string() + &address_text(client) + &address_text(server);
    match algorithm {
        Algorithm::Md5 => hash::<Md5>(&public, secret),
        Algorithm::Sha1 => hash::<Sha1>(&public, secret),
        Algorithm::Sha256 => hash::<Sha256>(&public, secret),
        Algorithm::Ripemd160 => hash::<Ripemd160>(&public, secret),
    }
}

fn hash<D: Digest>(public: &str, secret: &[u8]) -> Vec<u8> {
    D::new().chain_update(public).chain_update(secret).finalize().to_vec()
}

/// `tcp4://IP:PORT`, or `tcp6://[IP]:PORT` without a scope. An IPv4 address is one also when an IPv6 socket names it.
fn address_text(address: SocketAddr) -> String {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let scheme = if address.is_ipv4() { "tcp4" } else { "tcp6" };
    format!("{scheme}://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_795_330_896;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn verify(our_now_s: u64) -> Result<(), SignatureError> {
        let (client, server) = (address("192.0.2.1:40000"), address("192.0.2.2:8458"));
        let signature = Signature::new(Algorithm::Sha256, b"secret", NOW_S, client, server);
        signature.verify(Algorithm::Sha256, b"secret", our_now_s, client, server)
    }

    #[test]
    fn clocks_may_differ_by_ten_seconds_either_way_and_no_more() {
        for our_now_s in NOW_S - 10..=NOW_S + 10 {
            assert_eq!(verify(our_now_s), Ok(()));
        }
        assert_eq!(verify(NOW_S + 11), Err(SignatureError::TooOld(11)));
        assert_eq!(verify(NOW_S - 11), Err(SignatureError::TooNew(11)));
        assert_eq!(verify(0), Err(SignatureError::TooNew(NOW_S)));
        assert_eq!(verify(u64::MAX), Err(SignatureError::TooOld(u64::MAX - NOW_S)));
    }

    #[test]
    fn a_hash_that_is_cut_or_of_another_algorithm_is_a_mismatch() {
        let (client, server) = (address("192.0.2.1:40000"), address("192.0.2.2:8458"));
        for algorithm in Algorithm::ALL {
            let whole = Signature::new(algorithm, b"secret", NOW_S, client, server);
            for size in 0..whole.auth_hash.len() {
                let cut = Signature { now_s: NOW_S, auth_hash: whole.auth_hash[..size].into() };
                assert_eq!(cut.verify(algorithm, b"secret", NOW_S, client, server), Err(SignatureError::Mismatch));
            }
            for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                assert_eq!(whole.verify(other, b"secret", NOW_S, client, server), Err(SignatureError::Mismatch));
            }
        }
    }

    #[test]
    fn a_mapped_address_counts_as_ipv4_and_ipv6_has_brackets_and_no_scope() {
        assert_eq!(address_text(address("192.0.2.1:8458")), "tcp4://192.0.2.1:8458");
        assert_eq!(address_text(address("[::ffff:192.0.2.1]:8458")), "tcp4://192.0.2.1:8458");
        assert_eq!(address_text(address("[2001:db8::1]:8458")), "tcp6://[2001:db8::1]:8458");
        assert_eq!(address_text(address("[fe80::1%3]:8458")), "tcp6://[fe80::1]:8458");
    }

    #[test]
    fn every_algorithm_survives_its_name() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
            assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.as_str());
        }
        assert_eq!("sha512".parse::<Algorithm>(), Err(NotAnAlgorithm));
    }

    #[test]
    fn half_a_signature_is_none() {
        assert_eq!(Signature::decode(&List::new().with_u64("now", 1)), None);
        assert_eq!(Signature::decode(&List::new().with_u8s("auth_hash", &[1])), None);
    }
}
