//! Messages over a stream, and connections to other nodes. Reads and writes; decides nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hastmon_core::config::{Address, Family, Host, Key};
use hastmon_core::wire::frame::{self, HEADER_SIZE, Header, Version};
use hastmon_core::wire::nv::List;
use hastmon_core::wire::request::{Request, Via};
use hastmon_core::wire::signature::Signature;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::os::clock;
use crate::resolver::Resolver;

/// Why a conversation came to an end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetError {
    /// The system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other side has closed the connection between two messages.
    #[error("the other side closed the connection")]
    Closed,
    /// The other side has closed the connection in the middle of a message.
    #[error("the other side closed the connection in the middle of a message")]
    Torn,
    /// The frame makes no sense.
    #[error(transparent)]
    Frame(#[from] frame::HeaderError),
    /// The message is too large to be sent.
    #[error(transparent)]
    TooLarge(#[from] frame::TooLarge),
    /// The message makes no sense.
    #[error(transparent)]
    Malformed(#[from] hastmon_core::wire::nv::DecodeError),
    /// The message is not the one that is due.
    #[error(transparent)]
    Lacks(#[from] hastmon_core::wire::Lacks),
    /// The other side answers with an error number.
    #[error("{}", peer_error(*.0))]
    Peer(i16),
    /// The other side closes the connection instead of answering.
    #[error(
        "it closes the connection without an answer: is this node in its friends, and the resource in its configuration?"
    )]
    Unanswered,
    /// The other side says something that is not due.
    #[error("it sent {0} out of turn")]
    OutOfTurn(&'static str),
    /// A name stands for no address, or for none of the right family.
    #[error("{0}")]
    NoAddress(String),
    /// Something took longer than it may.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
}

fn peer_error(number: i16) -> String {
    match number {
        1 => "it has no such resource (error 1)".to_string(),
        5 => "it does not accept our signature (error 5): are key and clock the same on both nodes?".to_string(),
        _ => format!("it answered with error {number}"),
    }
}

/// Takes messages off a stream. Cancelling [`next`](Self::next) loses nothing: what was read stays here.
#[derive(Debug)]
pub(crate) struct MessageReader {
    versions: &'static [Version],
    limit: usize,
    buffer: Vec<u8>,
}

impl MessageReader {
    /// A reader of protocol 0 that takes no message larger than `limit` bytes.
    pub(crate) const fn new(limit: usize) -> Self {
        Self::taking(&[Version::V0], limit)
    }

    /// A reader that takes messages of these versions, none larger than `limit` bytes.
    pub(crate) const fn taking(versions: &'static [Version], limit: usize) -> Self {
        Self { versions, limit, buffer: Vec::new() }
    }

    /// The next message.
    ///
    /// # Errors
    /// The stream ends or breaks, or what it says makes no sense.
    pub(crate) async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<List, NetError> {
        Ok(self.next_with_version(stream).await?.1)
    }

    /// The next message, and the version that its frame has.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub(crate) async fn next_with_version(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<(Version, List), NetError> {
        loop {
            let missing = match self.buffer.first_chunk::<HEADER_SIZE>() {
                None => HEADER_SIZE - self.buffer.len(),
                Some(header) => {
                    let header = Header::decode(*header, self.versions, self.limit)?;
                    let whole = HEADER_SIZE + header.size;
                    if let Some(body) = self.buffer.get(HEADER_SIZE..whole) {
                        let message = List::decode(body)?;
                        self.buffer.clear();
                        return Ok((header.version, message));
                    }
                    whole - self.buffer.len()
                }
            };
            // Never more than this message: the rest of the stream may be meant for another process.
            let mut part = (&mut *stream).take(missing.try_into().unwrap_or(u64::MAX));
            if part.read_buf(&mut self.buffer).await? == 0 {
                return Err(if self.buffer.is_empty() { NetError::Closed } else { NetError::Torn });
            }
        }
    }
}

/// Sends a message of protocol 0, of at most `limit` bytes.
///
/// # Errors
/// The stream breaks, or the message is too large.
pub(crate) async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &List, limit: usize) -> Result<(), NetError> {
    stream.write_all(&frame::encode(Version::V0, message, limit)?).await?;
    Ok(stream.flush().await?)
}

/// Whether an address is of the family that the configuration asks for.
pub(crate) const fn is_of(family: Family, ip: &IpAddr) -> bool {
    match family {
        Family::Tcp4 => ip.is_ipv4(),
        Family::Tcp6 => ip.is_ipv6(),
        Family::Any => true,
    }
}

/// Opens connections to other nodes.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    /// The address to leave from; `None`: whatever the system chooses.
    pub(crate) source: Option<IpAddr>,
    /// Looks names up.
    pub(crate) resolver: Resolver,
}

impl Dialer {
    /// Connects to the first address of `address` that answers. Takes as long as the system takes: the caller sets the limit.
    ///
    /// # Errors
    /// No address, or none that answers.
    pub(crate) async fn connect(&self, address: &Address) -> Result<TcpStream, NetError> {
        let ips = match &address.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => self.resolver.lookup(name).await.map_err(NetError::NoAddress)?,
        };
        let mut last = NetError::NoAddress(format!("{address} has no address of the family that it asks for"));
        for ip in ips.into_iter().filter(|ip| is_of(address.family, ip)) {
            match self.connect_to(SocketAddr::new(ip, address.port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Connects, and sends a request as the first message, signed when there is a key.
///
/// # Errors
/// As for [`Dialer::connect`] and [`send`].
pub(crate) async fn ask(
    dialer: &Dialer,
    address: &Address,
    key: Option<&Key>,
    request: &Request,
) -> Result<TcpStream, NetError> {
    let mut stream = dialer.connect(address).await?;
    let signature = match key {
        None => None,
        Some(key) => {
            let (client, server) = (stream.local_addr()?, stream.peer_addr()?);
            Some(Signature::new(key.algorithm, key.secret.as_bytes(), clock::unix_time_s(), client, server))
        }
    };
    let message = request.encode(Via::Network(signature.as_ref()));
    send(&mut stream, &message, frame::NETWORK_LIMIT).await?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Vec<u8> {
        frame::encode(Version::V0, &List::new().with_str("text", text), frame::NETWORK_LIMIT).unwrap()
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn messages_are_read_one_by_one_however_they_are_cut() {
        run(async {
            let bytes = [message("one"), message("two")].concat();
            for cut in 1..bytes.len() {
                let (first, second) = bytes.split_at(cut);
                let mut stream = stream_of(&[first, second]);
                let mut reader = MessageReader::new(frame::NETWORK_LIMIT);
                assert_eq!(reader.next(&mut stream).await.unwrap().str("text"), Some("one"));
                assert_eq!(reader.next(&mut stream).await.unwrap().str("text"), Some("two"));
                assert!(matches!(reader.next(&mut stream).await, Err(NetError::Closed)));
            }
        });
    }

    #[test]
    fn nothing_of_the_next_message_is_taken_off_the_stream() {
        run(async {
            let bytes = [message("one"), message("two")].concat();
            let mut stream = bytes.as_slice();
            MessageReader::new(frame::NETWORK_LIMIT).next(&mut stream).await.unwrap();
            assert_eq!(stream, message("two"));
        });
    }

    #[test]
    fn a_message_of_a_version_that_is_not_asked_for_is_refused() {
        run(async {
            let newer = frame::encode(Version::V1, &List::new().with_u8("x", 1), 100).unwrap();
            let error = MessageReader::new(frame::NETWORK_LIMIT).next(&mut newer.as_slice()).await;
            assert!(matches!(error, Err(NetError::Frame(frame::HeaderError::Version(1)))));
            let mut both = MessageReader::taking(&[Version::V0, Version::V1], frame::NETWORK_LIMIT);
            assert_eq!(both.next_with_version(&mut newer.as_slice()).await.unwrap().0, Version::V1);
            assert_eq!(both.next_with_version(&mut message("x").as_slice()).await.unwrap().0, Version::V0);
        });
    }

    #[test]
    fn a_message_that_ends_early_or_is_too_large_is_an_error() {
        run(async {
            let bytes = message("one");
            let mut torn = bytes.get(..bytes.len() - 1).unwrap();
            let error = MessageReader::new(frame::NETWORK_LIMIT).next(&mut torn).await;
            assert!(matches!(error, Err(NetError::Torn)));
            let error = MessageReader::new(8).next(&mut bytes.as_slice()).await;
            assert!(matches!(error, Err(NetError::Frame(_))));
        });
    }

    #[test]
    fn cancelling_a_read_loses_nothing() {
        run(async {
            let bytes = message("one");
            let (ours, mut theirs) = tokio::io::duplex(1024);
            let mut ours = ours;
            let mut reader = MessageReader::new(frame::NETWORK_LIMIT);
            for byte in &bytes {
                let cancelled =
                    tokio::time::timeout(std::time::Duration::from_millis(1), reader.next(&mut ours)).await.is_err();
                assert!(cancelled);
                theirs.write_all(&[*byte]).await.unwrap();
            }
            assert_eq!(reader.next(&mut ours).await.unwrap().str("text"), Some("one"));
        });
    }

    /// A stream that gives its parts one read at a time.
    fn stream_of(parts: &[&[u8]]) -> impl AsyncRead + Unpin + use<> {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        let (ours, mut theirs) = tokio::io::duplex(1);
        tokio::spawn(async move {
            for part in parts {
                let _ = theirs.write_all(&part).await;
            }
        });
        ours
    }
}
