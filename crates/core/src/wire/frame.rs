//! The frame around every message: `version: u8`, `size: u32` (little-endian), then `size` bytes.
//!
//! Decides which versions and sizes are taken; never reads nor writes. A size is judged before anything is kept for it.

use alloc::vec::Vec;

use super::nv::List;

/// Bytes before those of the message.
pub const HEADER_SIZE: usize = 5;

/// Bytes in a message from the network, without the header. The largest known one, a status reply for one resource,
/// takes about 70 bytes for each remote and 400 besides.
pub const NETWORK_LIMIT: usize = 64 << 10;

/// Bytes that encryption adds to a list of version 1: the header of the pair that carries it, a public key (in the answer to a first message),
/// a tag, and padding.
const SEALING_SIZE: usize = 14 + 32 + 16 + 7;

/// Bytes in a list of version 1: as many as fit into a message from the network when they are encrypted, so that a list which can be sent
/// without a key can be sent with one. It also keeps each Noise message below the 65,535 bytes that one may have.
pub const PLAINTEXT_LIMIT: usize = NETWORK_LIMIT - SEALING_SIZE;

/// Bytes in a message on the control socket, without the header. A status reply there may speak of 10,000 resources
/// with a dozen remotes and five further lines each. Whoever can open that socket is trusted with the daemon's memory.
pub const CONTROL_LIMIT: usize = 32 << 20;

/// Versions of the protocol that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// What hastmon 0.3 speaks, and every hastmon on its control socket.
    V0,
    /// What nodes speak that have the lease.
    V1,
}

impl Version {
    /// The number on the wire.
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
        }
    }

    const fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::V0),
            1 => Some(Self::V1),
            _ => None,
        }
    }
}

/// What is known of a message before its bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How to understand the message.
    pub version: Version,
    /// Bytes that follow, within the limit.
    pub size: usize,
}

/// A header that is not accepted; what follows it cannot be made sense of, so the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not one of those that are taken.
    #[error("the peer speaks protocol version {0}, which is not spoken here: is it a hastmon, and of what version?")]
    Version(u8),
    /// Announces more than is accepted here.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// A message beyond the limit of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {size} bytes, but at most {limit} are allowed here")]
pub struct TooLarge {
    /// Bytes in the message.
    pub size: usize,
    /// Bytes that are allowed.
    pub limit: usize,
}

impl Header {
    /// Judges the first bytes of a message that may be of one of `versions`. `limit`, in bytes: [`NETWORK_LIMIT`] or [`CONTROL_LIMIT`].
    pub fn decode(bytes: [u8; HEADER_SIZE], versions: &[Version], limit: usize) -> Result<Self, HeaderError> {
        let [version, size @ ..] = bytes;
        let version = Version::from_wire(version)
            .filter(|version| versions.contains(version))
            .ok_or(HeaderError::Version(version))?;
        let size = usize::try_from(u32::from_le_bytes(size)).unwrap_or(usize::MAX);
        if size > limit {
            return Err(TooLarge { size, limit }.into());
        }
        Ok(Self { version, size })
    }
}

/// A whole message, ready to be sent. `limit`, in bytes, is the one that the receiver applies.
pub fn encode(version: Version, list: &List, limit: usize) -> Result<Vec<u8>, TooLarge> {
    let body = list.encode();
    let size = body.len();
    let wire_size = u32::try_from(size).ok().filter(|_| size <= limit).ok_or(TooLarge { size, limit })?;
    let mut message = Vec::with_capacity(HEADER_SIZE + size);
    message.push(version.to_wire());
    message.extend(wire_size.to_le_bytes());
    message.extend(body);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: [Version; 2] = [Version::V0, Version::V1];

    #[test]
    fn another_version_is_refused_by_its_number() {
        assert_eq!(Header::decode([1, 0, 0, 0, 0], &[Version::V0], NETWORK_LIMIT), Err(HeaderError::Version(1)));
        assert_eq!(Header::decode([0, 0, 0, 0, 0], &[Version::V1], NETWORK_LIMIT), Err(HeaderError::Version(0)));
        assert_eq!(Header::decode([2, 0, 0, 0, 0], &BOTH, NETWORK_LIMIT), Err(HeaderError::Version(2)));
        assert_eq!(Header::decode(*b"GET /", &BOTH, NETWORK_LIMIT), Err(HeaderError::Version(b'G')));
    }

    #[test]
    fn a_size_is_taken_up_to_the_limit() {
        assert_eq!(
            Header::decode([0, 0, 0, 1, 0], &BOTH, NETWORK_LIMIT),
            Ok(Header { version: Version::V0, size: 65_536 })
        );
        assert_eq!(
            Header::decode([0, 1, 0, 1, 0], &BOTH, NETWORK_LIMIT),
            Err(TooLarge { size: 65_537, limit: NETWORK_LIMIT }.into())
        );
        assert!(Header::decode([0, 1, 0, 1, 0], &BOTH, CONTROL_LIMIT).is_ok());
        assert!(Header::decode([0, 0xff, 0xff, 0xff, 0xff], &BOTH, CONTROL_LIMIT).is_err());
    }

    #[test]
    fn what_the_receiver_would_refuse_is_not_sent() {
        let list = List::new().with_u8s("x", &[7; 100]);
        let size = list.encode().len();
        assert!(encode(Version::V0, &list, size).is_ok());
        assert_eq!(encode(Version::V0, &list, size - 1), Err(TooLarge { size, limit: size - 1 }));
    }

    #[test]
    fn what_may_be_said_without_a_key_may_be_said_with_one() {
        // As large as the encrypted answer to a first message gets.
        let sealed = List::new().with_u8s("noise", &alloc::vec![7; PLAINTEXT_LIMIT + 32 + 16]);
        assert!(encode(Version::V1, &sealed, NETWORK_LIMIT).is_ok());
        const { assert!(PLAINTEXT_LIMIT + 32 + 16 <= 65_535) };
    }

    proptest! {
        #[test]
        fn any_header_gives_a_size_within_the_limit_or_an_error(bytes: [u8; HEADER_SIZE], limit: u32) {
            let limit = limit as usize;
            if let Ok(header) = Header::decode(bytes, &BOTH, limit) {
                prop_assert!(header.size <= limit && bytes[0] <= 1);
            }
        }

        #[test]
        fn a_message_is_announced_by_its_header(text in "[^\0]{0,200}", newer: bool) {
            let version = if newer { Version::V1 } else { Version::V0 };
            let list = List::new().with_str("x", &text);
            let message = encode(version, &list, NETWORK_LIMIT).unwrap();
            let (header, body) = message.split_first_chunk().unwrap();
            let expected = Header { version, size: body.len() };
            prop_assert_eq!(Header::decode(*header, &BOTH, NETWORK_LIMIT), Ok(expected));
            prop_assert_eq!(List::decode(body), Ok(list));
        }
    }
}
