//! The shared key of a resource: an algorithm and a secret. Never shows the secret.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// What signs the first message of a connection of protocol 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The hash function.
    pub algorithm: Algorithm,
    /// What only the nodes of the cluster know.
    pub secret: Secret,
}

/// The hash functions of protocol 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// MD5, 16 bytes.
    Md5,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// RIPEMD-160, 20 bytes.
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

/// A word that names no algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an algorithm: MD5, SHA1, SHA256 or RIPEMD160")]
pub struct NotAnAlgorithm;

impl FromStr for Algorithm {
    type Err = NotAnAlgorithm;

    fn from_str(word: &str) -> Result<Self, NotAnAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == word).ok_or(NotAnAlgorithm)
    }
}

/// A secret: wiped when dropped, compared in constant time, never printed. Serde carries it, to hand it to a worker.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text of a secret. The caller keeps no copy.
    pub const fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The secret itself, to compute a signature and for nothing else.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    fn secret(text: &str) -> Secret {
        Secret::new(Zeroizing::new(text.into()))
    }

    #[test]
    fn every_algorithm_survives_its_name() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
        assert_eq!("md5".parse::<Algorithm>(), Err(NotAnAlgorithm));
    }

    #[test]
    fn a_secret_is_compared_by_its_bytes_and_never_printed() {
        assert_eq!(secret("one"), secret("one"));
        assert_ne!(secret("one"), secret("two"));
        assert_ne!(secret("one"), secret("on"));
        let key = Key { algorithm: Algorithm::Sha1, secret: secret("hunter2") };
        assert_eq!(format!("{key:?}"), "Key { algorithm: Sha1, secret: *** }");
    }

    #[test]
    fn a_key_reaches_the_worker_whole() {
        let key = Key { algorithm: Algorithm::Sha256, secret: secret("hunter2") };
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<Key>(&text).unwrap(), key);
    }
}
