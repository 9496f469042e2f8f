//! Those who connect to the daemon, on the network and on the control socket: accepted, heard once, answered. Holds the limits on them;
//! what they may have is the core's to decide.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use hastmon_core::config::Key;
use hastmon_core::daemon::{Caller, ConnId, Daemon, Input, Operator};
use hastmon_core::time::Instant;
use hastmon_core::wire::frame::{self, CONTROL_LIMIT, NETWORK_LIMIT, Version};
use hastmon_core::wire::nv::List;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::News;
use super::control_socket::ControlSocket;
use super::metrics::http;
use super::sockets::{BACKLOG, Sockets};
use crate::net::{MessageReader, NetError, send};
use crate::os::clock;
use crate::session::{Session, SessionError, refuse};

/// A caller that has not said what it wants after this time is sent away, and one that does not take its answer, too.
const TALK_TIME: Duration = Duration::from_secs(5);
/// Connections of one address at once, besides [`PER_RESOURCE`]: enough for a host that starts many things at once, too few to be a burden.
const PER_ADDRESS: usize = 32;
/// Connections of one address at once for each resource: both of a handshake, a poll and a complaint.
const PER_RESOURCE: usize = 4;
/// Connections of all addresses at once, besides [`ALL_PER_RESOURCE`]: more than a cluster needs.
const ALL_ADDRESSES: usize = 256;
/// Connections of all addresses at once for each resource: both of a handshake, some watchdogs.
const ALL_PER_RESOURCE: usize = 8;
/// Whatever the numbers above come to, this part of the process's descriptors is not for callers on the network: workers need them, and
/// the administrator at the control socket.
const KEPT_PART: u64 = 2;
/// Connections to the control socket at once.
const MAX_CONTROL: usize = 64;
/// Collectors of metrics at once: more than anybody has, and what each is answered takes memory.
const MAX_COLLECTORS: usize = 8;
/// After accept has failed (no descriptors left, say) nobody is accepted for this long: the queue of the kernel holds those who come.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// As long as it fails, that is said so often.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Answers that may wait for a node to read them: it asks once in a heartbeat, and one that is so far behind is lost anyway.
const MAX_UNSENT: usize = 16;

/// Somebody who has just connected.
#[derive(Debug)]
pub(super) enum Accepted {
    Network(TcpStream, SocketAddr),
    Control(UnixStream),
    Metrics(TcpStream),
}

/// A connection whose first message has been read, or was not to be had.
#[derive(Debug)]
pub(super) struct Heard {
    conn: ConnId,
    caller: Caller,
    /// `Err(None)`: it has closed the connection without a word, which harms nobody.
    message: Result<(Version, List), Option<String>>,
}

/// A connection whose request is with the core.
#[derive(Debug)]
struct Open {
    stream: Stream,
    slot: Slot,
    /// Of protocol 1: what it has said first.
    hello: Option<List>,
}

/// A connection of protocol 1 that is kept.
#[derive(Debug)]
struct Kept {
    task: AbortHandle,
    outbox: mpsc::Sender<List>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
enum Stream {
    Network(TcpStream),
    Control(UnixStream),
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
struct Slot {
    counts: Rc<RefCell<HashMap<Option<IpAddr>, usize>>>,
    key: Option<IpAddr>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.counts.borrow_mut();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// All who are connected.
#[derive(Debug)]
pub(super) struct Callers {
    news: mpsc::Sender<News>,
    next: u64,
    /// Those whose request is with the core.
    open: HashMap<ConnId, Open>,
    /// Nodes that speak protocol 1.
    kept: HashMap<ConnId, Kept>,
    /// Those who have been heard, on their way to `open`.
    heard: Rc<RefCell<HashMap<ConnId, (Stream, Slot)>>>,
    /// By address; `None` is the control socket.
    counts: Rc<RefCell<HashMap<Option<IpAddr>, usize>>>,
    /// As many connections on the network as the descriptors allow.
    most: usize,
    network: Door<TcpListener>,
    control: Door<ControlSocket>,
    metrics: Option<Door<TcpListener>>,
    /// A copy of it goes with each collector of metrics.
    collectors: Rc<()>,
}

/// A socket that somebody may connect to. When this is dropped, those who have connected by then are let in, and it is closed.
#[derive(Debug)]
struct Door<T> {
    socket: Rc<T>,
    _open: oneshot::Sender<()>,
}

impl Callers {
    /// `descriptors`: how many this process may have; `None`: any number.
    pub(super) fn new(news: mpsc::Sender<News>, sockets: Sockets, descriptors: Option<u64>) -> Self {
        let most = descriptors.and_then(|all| usize::try_from(all / KEPT_PART).ok()).unwrap_or(usize::MAX);
        Self {
            most,
            next: 0,
            open: HashMap::new(),
            kept: HashMap::new(),
            heard: Rc::default(),
            counts: Rc::default(),
            network: open_door(sockets.network, "the network", news.clone(), accept_network),
            control: open_door(sockets.control, "the control socket", news.clone(), accept_control),
            metrics: sockets.metrics.map(|socket| open_door(socket, METRICS, news.clone(), accept_metrics)),
            collectors: Rc::default(),
            news,
        }
    }

    /// The sockets in use.
    pub(super) fn sockets(&self) -> Sockets {
        Sockets {
            network: Rc::clone(&self.network.socket),
            control: Rc::clone(&self.control.socket),
            metrics: self.metrics.as_ref().map(|door| Rc::clone(&door.socket)),
        }
    }

    /// Has these sockets from now on.
    pub(super) fn adopt(&mut self, sockets: Sockets) {
        if !Rc::ptr_eq(&sockets.network, &self.network.socket) {
            let address = sockets.network.local_addr().map_or_else(|_| "?".to_string(), |address| address.to_string());
            log::info!("listening on {address} from now on");
            self.network = open_door(sockets.network, "the network", self.news.clone(), accept_network);
        }
        let old = self.metrics.as_ref().map(|door| Rc::as_ptr(&door.socket));
        if old != sockets.metrics.as_ref().map(Rc::as_ptr) {
            self.metrics = sockets.metrics.map(|socket| open_door(socket, METRICS, self.news.clone(), accept_metrics));
        }
        if !Rc::ptr_eq(&sockets.control, &self.control.socket) {
            log::info!("the control socket is {} from now on", sockets.control.path.display());
            self.control.socket.hide();
            self.control = open_door(sockets.control, "the control socket", self.news.clone(), accept_control);
        }
    }

    /// Listens to somebody who has connected, or closes the connection before a byte of a stranger is read.
    pub(super) fn take_in(&mut self, daemon: &Daemon, accepted: Accepted) -> Option<Input> {
        let (stream, key, limit) = match accepted {
            Accepted::Metrics(stream) => {
                self.serve_metrics(stream);
                return None;
            }
            Accepted::Control(stream) => (Stream::Control(stream), None, MAX_CONTROL),
            Accepted::Network(stream, peer) => {
                let address = peer.ip().to_canonical();
                if !daemon.knows(address) {
                    return Some(Input::Stranger(address));
                }
                (Stream::Network(stream), Some(address), PER_ADDRESS + PER_RESOURCE * daemon.resources().len())
            }
        };
        let all = self.most.min(ALL_ADDRESSES + ALL_PER_RESOURCE * daemon.resources().len());
        let Some(slot) = self.slot(key, limit, all) else {
            return key.map(|address| {
                Input::Refused(address, format!("more than {limit} connections of it, or {all} of all"))
            });
        };
        self.next += 1;
        let conn = ConnId(self.next);
        let (news, heard) = (self.news.clone(), Rc::clone(&self.heard));
        tokio::task::spawn_local(async move {
            let (stream, heard_now) = hear(stream, conn).await;
            if let Some(stream) = stream {
                heard.borrow_mut().insert(conn, (stream, slot));
            }
            let _ = news.send(News::Heard(heard_now)).await;
        });
        None
    }

    /// Anybody who reaches the address may have the metrics, a few at once.
    fn serve_metrics(&self, stream: TcpStream) {
        let collector = Rc::clone(&self.collectors);
        if Rc::strong_count(&collector) - 1 > MAX_COLLECTORS {
            return;
        }
        let news = self.news.clone();
        tokio::task::spawn_local(async move {
            http::serve(stream, async || {
                let (collector, text) = oneshot::channel();
                let _ = news.send(News::Scrape(collector)).await;
                text.await.ok()
            })
            .await;
            drop(collector);
        });
    }

    fn slot(&self, key: Option<IpAddr>, limit: usize, all: usize) -> Option<Slot> {
        let mut counts = self.counts.borrow_mut();
        let total: usize = counts.iter().filter(|(key, _)| key.is_some()).map(|(_, count)| count).sum();
        let count = counts.get(&key).copied().unwrap_or(0);
        // The control socket has its own limit: the administrator gets in when the network is full.
        if count >= limit || (key.is_some() && total >= all) {
            return None;
        }
        counts.insert(key, count + 1);
        Some(Slot { counts: Rc::clone(&self.counts), key })
    }

    /// Passes a request on to the core.
    pub(super) fn understand(&mut self, heard: Heard) -> Option<Input> {
        let Heard { conn, caller, message } = heard;
        match (message, caller) {
            (Ok((Version::V1, message)), caller) => {
                let heard = self.heard.borrow_mut().remove(&conn);
                let hello = Some(message.clone());
                self.open.extend(heard.map(|(stream, slot)| (conn, Open { stream, slot, hello })));
                Some(Input::Hello { conn, caller, message })
            }
            (Ok((Version::V0, message)), _) => {
                let heard = self.heard.borrow_mut().remove(&conn);
                self.open.extend(heard.map(|(stream, slot)| (conn, Open { stream, slot, hello: None })));
                let mut random = [0; 16];
                // Without randomness no token is safe: the caller has to come again.
                if getrandom::fill(&mut random).is_err() {
                    self.close(conn);
                    return None;
                }
                Some(Input::Message { conn, caller, message, unix_now_s: clock::unix_time_s(), random })
            }
            (Err(Some(why)), Caller::Network { peer, .. }) => Some(Input::Refused(peer.ip().to_canonical(), why)),
            (Err(_), _) => None,
        }
    }

    pub(super) fn reply(&mut self, conn: ConnId, message: List, keep: bool) {
        let Some(Open { mut stream, slot, hello }) = self.open.remove(&conn) else { return };
        if keep {
            // What is kept is a few bytes on a fresh connection: they fit, or the peer is up to no good.
            if stream.try_send(&message) {
                self.open.insert(conn, Open { stream, slot, hello });
            }
            return;
        }
        let news = self.news.clone();
        tokio::task::spawn_local(async move {
            if let (Stream::Network(stream), true) = (&mut stream, hello.is_some()) {
                let _ = tokio::time::timeout(TALK_TIME, refuse(stream, message)).await;
                return;
            }
            // A caller that does not take its answer has itself to blame.
            let sent = tokio::time::timeout(TALK_TIME, stream.send(&message)).await;
            if let (Ok(Err(NetError::TooLarge(error))), Some(address)) = (sent, slot.key) {
                let why = format!("its answer would be {error}: it has to ask for less at once");
                let _ = news.send(News::Input(Input::Refused(address, why))).await;
            }
            drop(slot);
        });
    }

    pub(super) fn close(&mut self, conn: ConnId) {
        self.open.remove(&conn);
        self.kept.remove(&conn);
    }

    /// Goes on with protocol 1 on this connection, if the other side proves to have the key.
    pub(super) fn welcome(&mut self, conn: ConnId, answer: List, key: Option<Key>) {
        let Some(Open { stream: Stream::Network(stream), slot, hello: Some(hello) }) = self.open.remove(&conn) else {
            return;
        };
        let (outbox, unsent) = mpsc::channel(MAX_UNSENT);
        let news = self.news.clone();
        let task = tokio::task::spawn_local(async move {
            let _slot = slot;
            let opened = Session::answer(stream, &hello, answer, key.as_ref());
            let why = match tokio::time::timeout(TALK_TIME, opened).await {
                Ok(Ok(session)) => {
                    drop(key);
                    converse(conn, session, unsent, &news).await
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("its handshake is not over after {TALK_TIME:?}")),
            };
            let _ = news.send(News::Input(Input::Gone { conn, why })).await;
        });
        self.kept.insert(conn, Kept { task: task.abort_handle(), outbox });
    }

    /// Says something over a connection of protocol 1; says whether that is lost, because the node does not read what it is told.
    pub(super) fn tell(&mut self, conn: ConnId, message: List) -> bool {
        let Some(kept) = self.kept.get(&conn) else { return false };
        let is_lost = matches!(kept.outbox.try_send(message), Err(mpsc::error::TrySendError::Full(_)));
        if is_lost {
            self.kept.remove(&conn);
        }
        is_lost
    }

    /// A connection of protocol 1 has ended.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.kept.remove(&conn);
    }

    /// The two connections of a primary, as descriptors; `None` when one is gone.
    pub(super) fn hand_over(&mut self, asks: ConnId, answers: ConnId) -> Option<[OwnedFd; 2]> {
        let (asks, answers) = (self.open.remove(&asks), self.open.remove(&answers));
        Some([asks?.stream.into_descriptor()?, answers?.stream.into_descriptor()?])
    }
}

impl Stream {
    async fn send(&mut self, message: &List) -> Result<(), NetError> {
        match self {
            Self::Network(stream) => send(stream, message, NETWORK_LIMIT).await,
            Self::Control(stream) => send(stream, message, CONTROL_LIMIT).await,
        }
    }

    fn try_send(&self, message: &List) -> bool {
        let Ok(bytes) = frame::encode(Version::V0, message, NETWORK_LIMIT) else { return false };
        let sent = match self {
            Self::Network(stream) => stream.try_write(&bytes),
            Self::Control(stream) => stream.try_write(&bytes),
        };
        sent.is_ok_and(|sent| sent == bytes.len())
    }

    fn into_descriptor(self) -> Option<OwnedFd> {
        match self {
            Self::Network(stream) => stream.into_std().ok().map(OwnedFd::from),
            Self::Control(_) => None,
        }
    }
}

async fn hear(mut stream: Stream, conn: ConnId) -> (Option<Stream>, Heard) {
    let (caller, message) = match &mut stream {
        Stream::Control(stream) => {
            let mut reader = MessageReader::new(CONTROL_LIMIT);
            let operator = stream
                .peer_cred()
                .ok()
                .map(|peer| Operator { uid: peer.uid(), pid: peer.pid().and_then(|pid| u32::try_from(pid).ok()) });
            (Caller::ControlSocket(operator), tokio::time::timeout(TALK_TIME, reader.next_with_version(stream)).await)
        }
        Stream::Network(stream) => match (stream.peer_addr(), stream.local_addr(), stream.set_nodelay(true)) {
            (Ok(peer), Ok(local), Ok(())) => {
                let mut reader = MessageReader::taking(&[Version::V0, Version::V1], NETWORK_LIMIT);
                let said = tokio::time::timeout(TALK_TIME, reader.next_with_version(stream)).await;
                (Caller::Network { peer, local }, said)
            }
            // Gone before it was heard.
            _ => (Caller::ControlSocket(None), Ok(Err(NetError::Closed))),
        },
    };
    let message = match message {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(NetError::Closed)) => Err(None),
        Ok(Err(error)) => Err(Some(error.to_string())),
        Err(_) => Err(Some(format!("no whole message for {TALK_TIME:?}"))),
    };
    (message.is_ok().then_some(stream), Heard { conn, caller, message })
}

/// Hears and tells a node over a session, until it ends; says why, when there is something to say.
async fn converse(
    conn: ConnId,
    mut session: Session,
    mut unsent: mpsc::Receiver<List>,
    news: &mpsc::Sender<News>,
) -> Option<String> {
    loop {
        let step = tokio::select! {
            Some(message) = unsent.recv() => session.send(&message).await,
            heard = session.recv() => match heard {
                Ok(message) => {
                    let _ = news.send(News::Input(Input::Said(conn, message))).await;
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        match step {
            Ok(()) => {}
            // The other side has ended, which is not worth a line of its own.
            Err(SessionError::Net(NetError::Closed | NetError::Io(_))) => return None,
            Err(error) => return Some(error.to_string()),
        }
    }
}

fn open_door<T, F>(socket: Rc<T>, place: &'static str, news: mpsc::Sender<News>, accept: fn(Rc<T>) -> F) -> Door<T>
where
    T: 'static,
    F: Future<Output = io::Result<Accepted>> + 'static,
{
    let (open, mut closed) = oneshot::channel();
    let inside = Rc::clone(&socket);
    tokio::task::spawn_local(async move {
        let mut told = None;
        loop {
            let accepted = tokio::select! {
                accepted = accept(Rc::clone(&inside)) => accepted,
                _ = &mut closed => break,
            };
            match accepted {
                Ok(accepted) => drop(news.send(News::Accepted(accepted)).await),
                Err(error) => pause_accepting(&error, place, &mut told).await,
            }
        }
        // Those who are through the kernel's door already would be sent away by closing it.
        for _ in 0..BACKLOG {
            tokio::select! {
                biased;
                Ok(accepted) = accept(Rc::clone(&inside)) => drop(news.send(News::Accepted(accepted)).await),
                () = std::future::ready(()) => break,
            }
        }
    });
    Door { socket, _open: open }
}

async fn accept_network(listener: Rc<TcpListener>) -> io::Result<Accepted> {
    listener.accept().await.map(|(stream, peer)| Accepted::Network(stream, peer))
}

/// As the log calls it.
const METRICS: &str = "the address of metrics";

async fn accept_metrics(listener: Rc<TcpListener>) -> io::Result<Accepted> {
    listener.accept().await.map(|(stream, _)| Accepted::Metrics(stream))
}

async fn accept_control(control: Rc<ControlSocket>) -> io::Result<Accepted> {
    control.listener.accept().await.map(|(stream, _)| Accepted::Control(stream))
}

async fn pause_accepting(error: &io::Error, place: &str, told: &mut Option<Instant>) {
    let now = clock::now();
    if told.is_none_or(|at| now.since(at) >= TELL_AGAIN) {
        *told = Some(now);
        log::warn!("cannot accept connections on {place}: {error}; those who come have to wait");
    }
    tokio::time::sleep(ACCEPT_PAUSE).await;
}
