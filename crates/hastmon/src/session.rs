//! A session of protocol 1: one connection for a pair of nodes and a resource, kept open, on which both sides say what they like when they
//! like, in lists. With a key everything is encrypted and authenticated (`noise.rs`). Carries lists; never looks into them but for `noise`,
//! `errmsg`, and `resource` of the first message. Sets no time limits: whoever calls does.
//!
//! ```text
//! caller                                        other side
//!   first message  [+ noise: Noise message 1] ──▶  reads it, decides
//!                    ◀── the answer, or {noise: Noise message 2 with the answer in it}; or {errmsg} in plain: refused
//!   {noise: empty list}, with a key only      ──▶  the caller has the key
//!   {noise: list} or list                    ◀──▶  {noise: list} or list
//! ```
//! What is said in plain proves nothing. A refusal, above all, is a reason to log and to try again later, never to change anything.

mod noise;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

use hastmon_core::config::Key;
use hastmon_core::wire::frame::{self, NETWORK_LIMIT, Version};
use hastmon_core::wire::nv::List;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use self::noise::{Cipher, Handshake, NOISE};
use crate::net::{MessageReader, NetError};

/// The field of a refusal, with its reason in words.
const REFUSAL: &str = "errmsg";

/// What is read at once, in bytes: a beat, and its answer, with their frames. Nobody else ever reads from the stream of a session.
const READ_AT_ONCE: usize = 1024;

/// Why a session ended or did not come to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The connection, or a message that makes no sense.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The other side says no. Nothing proves that it was the other side.
    #[error("refused: {}", .0.str(REFUSAL).unwrap_or("without a reason"))]
    Refused(List),
    /// A key here and none there.
    #[error("not keyed: the peer has no key configured for this resource, and here is one: give both nodes the same")]
    PeerNotKeyed,
    /// A key there and none here.
    #[error("the peer uses a key for this resource, here none is configured: give both nodes the same")]
    NotKeyedHere,
    /// A message that was not made for this place with this key.
    #[error("the keys differ, or somebody has changed the message: give both nodes the same key for this resource")]
    Mismatch,
    /// The caller was given an answer that only the right key opens, and hung up.
    #[error("the peer has hung up before it has proved that it has the key: if that goes on, compare the keys")]
    Unproven,
    /// As many messages as one session may have.
    #[error("the session has carried as many messages as it may, and a new one is due")]
    Exhausted,
    /// It has ended already, with another error.
    #[error("the session is over")]
    Over,
    /// The encryption itself, most likely for want of random numbers.
    #[error("the encryption failed: {0}")]
    Noise(snow::Error),
}

impl SessionError {
    /// What the other side is told of it, in its own terms.
    const fn for_the_peer(&self) -> Option<&'static str> {
        match self {
            Self::PeerNotKeyed => {
                Some("a key is configured here for this resource, and you use none: give both nodes the same")
            }
            Self::NotKeyedHere => {
                Some("no key is configured here for this resource, and you use one: give both nodes the same")
            }
            Self::Mismatch => Some("the keys differ, or somebody has changed the message"),
            _ => None,
        }
    }
}

/// An open session. The first error ends it and closes the connection.
pub(crate) struct Session<S = TcpStream> {
    open: Option<Open<S>>,
}

impl<S> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_open", &self.open.is_some()).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Says `hello` on a new connection and hears the answer. With a key, the answer and all that follows come from somebody who has it,
    /// and who has seen `hello` as it was sent; `hello` must name its `resource`.
    ///
    /// # Errors
    /// [`SessionError::Refused`] when the answer has an `errmsg`; with a key, what [`SessionError`] says of keys.
    pub(crate) async fn open(stream: S, hello: List, key: Option<&Key>) -> Result<(Self, List), SessionError> {
        let mut open = Open::new(stream);
        let answer = match key {
            None => open.ask_in_plain(&hello).await?,
            Some(key) => open.ask_sealed(&hello, key).await?,
        };
        if answer.str(REFUSAL).is_some() {
            return Err(SessionError::Refused(answer));
        }
        Ok((Self { open: Some(open) }, answer))
    }

    /// Answers `first`, the first message of a connection (of version 1; [`MessageReader`] has taken no byte beyond it). With a key, this waits
    /// until the other side has proved that it has it: whoever replays a recording gets an answer it cannot read, and no session.
    /// Until this returns, `first` is a claim of anybody: nothing may be changed because of it.
    ///
    /// # Errors
    /// The connection breaks, or what [`SessionError`] says of keys; the other side has been told, as far as it can be.
    pub(crate) async fn answer(stream: S, first: &List, answer: List, key: Option<&Key>) -> Result<Self, SessionError> {
        let mut open = Open::new(stream);
        let sealed = match (key, first.fields().get(NOISE).is_some(), first.u8s(NOISE)) {
            (None, false, _) => {
                noise::fitting(&answer)?;
                open.put(&answer).await?;
                return Ok(Self { open: Some(open) });
            }
            (None, true, _) => Err(SessionError::NotKeyedHere),
            (Some(_), _, None) => Err(SessionError::PeerNotKeyed),
            (Some(key), _, Some(message)) => noise::respond(key, first, message, &answer),
        };
        let (cipher, sealed) = open.or_tell(sealed).await?;
        open.put(&sealed).await?;
        open.cipher = Some(cipher);
        match open.recv().await {
            Ok(_) => Ok(Self { open: Some(open) }),
            Err(SessionError::Net(NetError::Closed | NetError::Torn)) => Err(SessionError::Unproven),
            Err(error) => Err(error),
        }
    }

    /// The next list. Cancelling it loses nothing.
    ///
    /// # Errors
    /// Any of them ends the session.
    pub(crate) async fn recv(&mut self) -> Result<List, SessionError> {
        let received = self.open.as_mut().ok_or(SessionError::Over)?.recv().await;
        received.inspect_err(|_| self.open = None)
    }

    /// Sends a list. When this is cancelled, what is left of a message that was begun goes out before the next one.
    ///
    /// # Errors
    /// Any of them ends the session, but for a list above [`PLAINTEXT_LIMIT`](frame::PLAINTEXT_LIMIT), of which nothing is sent.
    pub(crate) async fn send(&mut self, list: &List) -> Result<(), SessionError> {
        noise::fitting(list)?;
        let sent = self.open.as_mut().ok_or(SessionError::Over)?.send(list).await;
        sent.inspect_err(|_| self.open = None)
    }
}

/// Refuses the first message of a connection, with an `errmsg` in plain, and closes it.
///
/// # Errors
/// The connection breaks first.
pub(crate) async fn refuse(stream: impl AsyncRead + AsyncWrite + Unpin, refusal: List) -> Result<(), SessionError> {
    let mut open = Open::new(stream);
    open.put(&refusal).await?;
    Ok(open.stream.shutdown().await.map_err(NetError::from)?)
}

/// A session that has not ended.
struct Open<S> {
    stream: BufReader<S>,
    reader: MessageReader,
    /// `None`: everything is said in plain.
    cipher: Option<Cipher>,
    /// The rest of a message that was begun.
    unsent: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Open<S> {
    fn new(stream: S) -> Self {
        let stream = BufReader::with_capacity(READ_AT_ONCE, stream);
        Self { stream, reader: MessageReader::taking(&[Version::V1], NETWORK_LIMIT), cipher: None, unsent: Vec::new() }
    }

    async fn ask_in_plain(&mut self, hello: &List) -> Result<List, SessionError> {
        noise::fitting(hello)?;
        self.put(hello).await?;
        let answer = self.recv().await?;
        match answer.fields().get(NOISE) {
            None => Ok(answer),
            Some(_) => Err(SessionError::NotKeyedHere),
        }
    }

    async fn ask_sealed(&mut self, hello: &List, key: &Key) -> Result<List, SessionError> {
        let (handshake, hello) = Handshake::begin(key, hello)?;
        self.put(&hello).await?;
        let answer = self.recv().await?;
        let Some(message) = answer.u8s(NOISE) else {
            let is_refusal = answer.str(REFUSAL).is_some();
            return Err(if is_refusal { SessionError::Refused(answer) } else { SessionError::PeerNotKeyed });
        };
        let (cipher, answer) = self.or_tell(handshake.finish(message)).await?;
        self.cipher = Some(cipher);
        self.send(&List::new()).await?;
        Ok(answer)
    }

    /// Tells the other side of an error in the handshake, so that its administrator reads of it as well.
    async fn or_tell<T>(&mut self, result: Result<T, SessionError>) -> Result<T, SessionError> {
        if let Some(why) = result.as_ref().err().and_then(SessionError::for_the_peer) {
            // The error is what counts, whether the other side hears of it or not.
            let _ = self.put(&List::new().with_str(REFUSAL, why)).await;
            let _ = self.stream.shutdown().await;
        }
        result
    }

    async fn recv(&mut self) -> Result<List, SessionError> {
        let list = self.reader.next(&mut self.stream).await?;
        match &mut self.cipher {
            None => Ok(list),
            Some(cipher) => cipher.unseal(&list),
        }
    }

    async fn send(&mut self, list: &List) -> Result<(), SessionError> {
        // Before the counter of the cipher moves on: what is sealed is sent.
        self.flush().await?;
        match &mut self.cipher {
            None => self.put(list).await,
            Some(cipher) => {
                let sealed = cipher.seal(list)?;
                self.put(&sealed).await
            }
        }
    }

    /// Sends a list as it is.
    async fn put(&mut self, list: &List) -> Result<(), SessionError> {
        self.unsent.extend(frame::encode(Version::V1, list, NETWORK_LIMIT).map_err(NetError::from)?);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), SessionError> {
        while !self.unsent.is_empty() {
            let written = self.stream.write(&self.unsent).await.map_err(NetError::from)?;
            if written == 0 {
                return Err(NetError::from(io::Error::from(io::ErrorKind::WriteZero)).into());
            }
            self.unsent.drain(..written);
        }
        Ok(self.stream.flush().await.map_err(NetError::from)?)
    }
}
