//! The channel between the main daemon and a worker: messages as JSON packets over a socket pair, with descriptors beside them.
//! Carries, and decides nothing. A packet is never sent in part, and nothing here waits for the other side.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hastmon_core::event::Event;
use hastmon_core::lease::{Ask, Grant, Release};
use hastmon_core::pause::Pause;
use hastmon_core::time::Instant;
use hastmon_core::types::Role;
use hastmon_core::worker::{Assignment, Farewell, LinkId, Order, Report};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use zeroize::Zeroize;

/// The largest packet. An assignment with all the remotes and friends that the configuration allows takes half of it; FreeBSD's
/// kernel takes no larger one.
const MAX_PACKET: usize = 64 << 10;
/// Descriptors beside one packet: the two connections of a primary.
const MAX_DESCRIPTORS: usize = 2;

/// What the main daemon says to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// Always the first packet.
    Setup(Box<Setup>),
    /// An order.
    Order(Order),
    /// Connections leave from this address from now on; those that are open stay.
    Source(Option<std::net::IpAddr>),
    /// A primary has connected; its two connections come with this packet.
    Serve {
        /// The name of the connection.
        link: LinkId,
        /// The primary's address, as configured.
        from: String,
        /// To be echoed.
        resuid: u64,
    },
}

/// All that a worker needs to begin.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// What to do.
    pub(crate) assignment: Assignment,
    /// The name of this node, for the environment of hooks.
    pub(crate) node: String,
    /// The address that outgoing connections leave from; `None`: whatever the system chooses.
    pub(crate) source: Option<std::net::IpAddr>,
    /// Log to standard error instead of syslog.
    pub(crate) foreground: bool,
    /// How often `-d` was given.
    pub(crate) verbosity: u8,
    /// Locked by the worker while it lives, so that no two workers of a resource act on this node, even of different daemons.
    pub(crate) lock: std::path::PathBuf,
    /// Run before everything that is not realtime, and never swapped out; the scripts are not.
    pub(crate) realtime: bool,
    /// The soft limit on descriptors that hooks shall have.
    pub(crate) descriptor_limit: Option<u64>,
}

/// What a worker says to the main daemon: several in each packet.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromWorker {
    /// What `status` shall say.
    Report(Report),
    /// The connection from the primary is gone.
    PrimaryGone(LinkId),
    /// The vote of this node is wanted.
    Ask(Ask),
    /// The vote of this node comes back.
    Release(Release),
    /// The lease is won.
    Won(Grant),
    /// Another node is off for certain; the epoch that it may have held at most.
    Fenced(String, u64),
    /// Why the resource is not handed over.
    HandOverRefused(String),
    /// Something has happened, which the worker has logged, and when.
    Event(Instant, Box<Event>),
    /// Another node knows better whether the resource is paused.
    PauseHeard(Pause),
    /// The worker ends now.
    Farewell(Farewell),
}

/// The title of a worker process; exactly this, so that `pgrep -f` finds it.
pub(crate) fn worker_title(resource: &str, role: Role) -> String {
    format!("{TITLE_START}{resource} ({role})")
}

/// What the title of every worker begins with, and of no other process of ours.
pub(crate) const TITLE_START: &str = "hastmon: ";

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Watched for what comes. That there is room again is watched for only while there is none: otherwise each packet that the other side
    /// takes would wake this one.
    socket: AsyncFd<OwnedFd>,
}

/// A pair of ends: for this process, and for the standard input of a worker.
///
/// # Errors
/// The system has no more descriptors or memory for it.
pub(crate) fn pair() -> io::Result<(Channel, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((Channel::new(ours)?, theirs))
}

impl Channel {
    /// Takes an end that was inherited.
    ///
    /// # Errors
    /// The descriptor cannot be watched.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: watched(socket, Interest::READABLE)? })
    }

    /// Sends a message, with descriptors. Waits until the other side has room; cancelling loses nothing but this message.
    ///
    /// # Errors
    /// The other side is gone, or the message is larger than a packet may be.
    pub(crate) async fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            match send_packet(self.socket.get_ref(), message, descriptors) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let room = watched(self.socket.get_ref().try_clone()?, Interest::WRITABLE)?;
                    let _ = room.writable().await?;
                }
                sent => return sent,
            }
        }
    }

    /// Like [`send`](Self::send), but fails when there is no room.
    ///
    /// # Errors
    /// As for `send`; [`io::ErrorKind::WouldBlock`] when there is no room.
    pub(crate) fn try_send(&self, message: &impl Serialize) -> io::Result<()> {
        send_packet(self.socket.get_ref(), message, &[])
    }

    /// Waits for the next message; `None` when the other side is gone. Nothing is lost when this is cancelled.
    ///
    /// # Errors
    /// The packet makes no sense: the other side is another version of this program.
    pub(crate) async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut was_reset = false;
        loop {
            match self.socket.async_io(Interest::READABLE, receive_packet).await {
                Ok(Some((message, descriptors))) => return Ok(Some((message?, descriptors))),
                Ok(None) => return Ok(None),
                // The other side has ended without reading everything. Linux tells that once, before what it has sent: its last words follow.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !was_reset => was_reset = true,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "for types that close or change their descriptor unseen, which this one cannot; what follows it is unsafe"
)]
fn watched(socket: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, interest)
}

/// Where packets are written and arrive, one at a time. An assignment carries the secret of its resource: packets are wiped, and what grows
/// would leave copies behind. There is room for the largest one; the system gives only as much memory as the largest one has had.
static ROOM: Mutex<[u8; MAX_PACKET]> = Mutex::new([0; MAX_PACKET]);

fn room() -> MutexGuard<'static, [u8; MAX_PACKET]> {
    ROOM.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send_packet(socket: &OwnedFd, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut room = room();
    let mut rest = room.as_mut_slice();
    let written = serde_json::to_writer(&mut rest, message);
    let size = MAX_PACKET - rest.len();
    let (packet, _) = room.split_at_mut(size);
    let sent = match written {
        Ok(()) => send_bytes(socket, packet, descriptors),
        // There is no other reason for it to fail.
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "too large for a packet between daemon and worker")),
    };
    packet.zeroize();
    sent
}

fn send_bytes(socket: &OwnedFd, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for a packet"));
    }
    sendmsg(socket, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// What has come: a message or what is wrong with it, with its descriptors; `None` at the end.
type Received<T> = Option<(serde_json::Result<T>, Vec<OwnedFd>)>;

fn receive_packet<T: DeserializeOwned>(socket: &OwnedFd) -> io::Result<Received<T>> {
    let mut room = room();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut *room)], &mut control, flags)?;
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet between daemon and worker was cut short"));
    }
    let packet = room.get_mut(..received.bytes).unwrap_or_default();
    if packet.is_empty() {
        return Ok(None);
    }
    let message = serde_json::from_slice(packet);
    packet.zeroize();
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(Some((message, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn messages_arrive_whole_in_order_and_with_their_descriptors() {
        run(async {
            let (daemon, worker) = pair().unwrap();
            let worker = Channel::new(worker).unwrap();
            let (mut reader, writer) = std::io::pipe().unwrap();
            let serve = ToWorker::Serve { link: LinkId(7), from: "tcp4://192.0.2.1".to_string(), resuid: 3 };
            daemon.send(&ToWorker::Order(Order::Polled), &[]).await.unwrap();
            daemon.send(&serve, &[writer.as_fd()]).await.unwrap();
            drop((daemon, writer));

            let (first, none) = worker.receive::<ToWorker>().await.unwrap().unwrap();
            assert!(matches!(first, ToWorker::Order(Order::Polled)) && none.is_empty());
            let (second, mut passed) = worker.receive::<ToWorker>().await.unwrap().unwrap();
            assert!(matches!(second, ToWorker::Serve { link: LinkId(7), resuid: 3, .. }));
            std::fs::File::from(passed.pop().unwrap()).write_all(b"through").unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "through");
            assert!(
                worker.receive::<ToWorker>().await.unwrap().is_none(),
                "the end of the daemon is the end of the channel"
            );
        });
    }

    #[test]
    fn a_message_that_arrives_while_the_other_side_looks_is_not_cut() {
        const COUNT: u64 = 60_000;
        run(async {
            let (ours, theirs) = pair().unwrap();
            let sender = std::thread::spawn(move || {
                run(async {
                    let channel = Channel::new(theirs).unwrap();
                    for link in (0..COUNT).map(LinkId) {
                        channel.send(&FromWorker::PrimaryGone(link), &[]).await.unwrap();
                        // Slow enough for the other side to look for one that has not come yet.
                        std::thread::yield_now();
                        tokio::task::yield_now().await;
                    }
                });
            });
            for expected in (0..COUNT).map(LinkId) {
                let heard = ours.receive::<FromWorker>().await.unwrap();
                assert!(matches!(heard, Some((FromWorker::PrimaryGone(link), _)) if link == expected));
            }
            assert!(ours.receive::<FromWorker>().await.unwrap().is_none());
            sender.join().unwrap();
        });
    }

    #[test]
    fn the_last_words_of_a_side_that_has_not_read_everything_are_heard() {
        run(async {
            let (daemon, worker) = pair().unwrap();
            let worker = Channel::new(worker).unwrap();
            daemon.send(&ToWorker::Order(Order::Polled), &[]).await.unwrap();
            worker.send(&FromWorker::Farewell(Farewell::AsOrdered), &[]).await.unwrap();
            drop(worker);
            let (last, _) = daemon.receive::<FromWorker>().await.unwrap().unwrap();
            assert!(matches!(last, FromWorker::Farewell(Farewell::AsOrdered)));
            assert!(daemon.receive::<FromWorker>().await.unwrap().is_none());
        });
    }

    #[test]
    fn a_side_that_does_not_listen_holds_up_nobody() {
        run(async {
            let (daemon, _worker) = pair().unwrap();
            let full = (0..100_000).find_map(|_| daemon.try_send(&ToWorker::Order(Order::Polled)).err());
            assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
        });
    }

    #[test]
    fn a_message_larger_than_a_packet_is_refused() {
        run(async {
            let (daemon, _worker) = pair().unwrap();
            let order = ToWorker::Order(Order::End { reason: "x".repeat(MAX_PACKET), hurry: false, successor: None });
            assert_eq!(daemon.send(&order, &[]).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        });
    }

    #[test]
    fn the_title_of_a_worker_is_exact() {
        assert_eq!(worker_title("web", Role::Secondary), "hastmon: web (secondary)");
    }
}
