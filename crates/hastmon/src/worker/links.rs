//! The connections of a worker, a task for each: a primary's to its secondaries, a secondary's from its primary, a watchdog's polls and
//! complaints. Talks and tells; decides nothing but what the protocol leaves no choice about.

use std::cell::Cell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, TcpStream as StdTcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hastmon_core::config::{Address, Key, Resource};
use hastmon_core::lease::Voters;
use hastmon_core::types::{Role, State};
use hastmon_core::wire::frame::NETWORK_LIMIT;
use hastmon_core::wire::nv::List;
use hastmon_core::wire::peer::{Heard, Hello, PROTOCOLS, Said, Welcome};
use hastmon_core::wire::reply::StatusReply;
use hastmon_core::wire::request::Request;
use hastmon_core::wire::session::{Answer, Heartbeat};
use hastmon_core::worker::{Input, LinkEvent, LinkId};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinHandle};

use super::News;
use crate::net::{Dialer, MessageReader, NetError, ask, send};
use crate::resolver::Resolver;
use crate::session::{Session, SessionError};

/// Messages that may wait for a peer to read them: one for each heartbeat, and a peer that is so far behind is lost anyway.
const MAX_UNSENT: usize = 4;
/// The same for protocol 1, where questions for votes and releases come beside the heartbeats.
const MAX_UNSENT_SAID: usize = 16;
/// Connections that may be on their way out: one to each node, and some that were replaced.
const MAX_CLOSING: usize = 256;
/// How long what was said last may take to leave.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// Complaints on their way at once: one for each remote, and a slow remote must not pile them up.
const MAX_COMPLAINTS: usize = 64;

/// All connections of this worker.
#[derive(Debug)]
pub(super) struct Links {
    news: News,
    dialer: Dialer,
    open: HashMap<LinkId, Open>,
    complaints: Arc<Semaphore>,
    /// How this worker introduces itself by protocol 1; `None`: it speaks protocol 0.
    introduction: Option<Introduction>,
    /// Connections that are closed as soon as what was said over them has left.
    closing: Vec<JoinHandle<()>>,
}

/// What this worker says of itself.
#[derive(Clone, Debug)]
pub(super) struct Introduction {
    pub(super) node: String,
    pub(super) role: Role,
}

#[derive(Debug)]
struct Open {
    /// To be ended with this.
    task: Option<AbortHandle>,
    outbox: Option<mpsc::Sender<List>>,
    /// What it is when it has something to say before it ends.
    last_words: Option<LastWords>,
}

#[derive(Debug)]
struct LastWords {
    task: JoinHandle<()>,
    /// The other side has welcomed us: something may have been said.
    is_up: Rc<Cell<bool>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Links {
    pub(super) fn new(news: News, source: Option<IpAddr>, introduction: Option<Introduction>) -> Self {
        let dialer = Dialer { source, resolver: Resolver::new() };
        let complaints = Arc::new(Semaphore::new(MAX_COMPLAINTS));
        Self { news, dialer, open: HashMap::new(), complaints, introduction, closing: Vec::new() }
    }

    /// Connections that are made from now on leave from this address.
    pub(super) const fn set_source(&mut self, source: Option<IpAddr>) {
        self.dialer.source = source;
    }

    /// Makes a connection to another node and keeps it.
    pub(super) fn connect(&mut self, link: LinkId, address: Address, resource: &Resource) {
        match self.introduction.clone() {
            Some(introduction) => self.join(link, address, resource, introduction),
            None => self.connect_to_secondary(link, address, resource),
        }
    }

    /// By protocol 1.
    fn join(&mut self, link: LinkId, address: Address, resource: &Resource, introduction: Introduction) {
        let (outbox, mut unsent) = mpsc::channel(MAX_UNSENT_SAID);
        let hello = Hello {
            protocols: PROTOCOLS,
            version: env!("CARGO_PKG_VERSION").to_string(),
            node: introduction.node,
            resource: resource.name.clone(),
            role: introduction.role,
            priority: resource.priority,
            voters: Voters::new(resource.nodes.iter().cloned()),
        };
        let caller = Caller::new(&self.dialer, address, resource);
        let news = self.news.clone();
        let is_up = Rc::new(Cell::new(false));
        let up = Rc::clone(&is_up);
        let task = tokio::task::spawn_local(async move {
            let event = match caller.join(hello).await {
                Ok((session, node)) => {
                    up.set(true);
                    let _ = news.send(Input::Link(link, LinkEvent::Welcome(node))).await;
                    match converse(link, session, &mut unsent, &news).await {
                        Some(error) => LinkEvent::Failed(error.to_string()),
                        // It was closed here.
                        None => return,
                    }
                }
                Err(JoinError::Session(SessionError::Refused(list))) => {
                    let message = list.str("errmsg").unwrap_or("without a reason").to_string();
                    LinkEvent::Refused { message, priority: None }
                }
                Err(error) => LinkEvent::Failed(error.to_string()),
            };
            let _ = news.send(Input::Link(link, event)).await;
        });
        let abort = Some(task.abort_handle());
        let open = Open { task: abort, outbox: Some(outbox), last_words: Some(LastWords { task, is_up }) };
        self.open.insert(link, open);
        self.forget_ended();
    }

    /// Says something over a connection of protocol 1.
    pub(super) fn say(&mut self, link: LinkId, said: &Said) {
        if !self.push(link, said.encode()) && self.open.remove(&link).is_some() {
            let news = self.news.clone();
            tokio::task::spawn_local(async move {
                let why = "it does not read what is sent to it".to_string();
                let _ = news.send(Input::Link(link, LinkEvent::Failed(why))).await;
            });
        }
    }

    /// Waits until everything has left that was said over connections which are closed.
    pub(super) async fn say_all(&mut self) {
        for task in std::mem::take(&mut self.closing) {
            let _ = task.await;
        }
    }

    /// By protocol 0.
    fn connect_to_secondary(&mut self, link: LinkId, address: Address, resource: &Resource) {
        let (outbox, unsent) = mpsc::channel(MAX_UNSENT);
        let caller = Caller::new(&self.dialer, address, resource);
        let priority = resource.priority;
        let news = self.news.clone();
        let task = tokio::task::spawn_local(async move {
            let event = match caller.shake_hands(priority).await {
                Ok(Shaken::Connected(asks, answers)) => {
                    // The loop that hears the news ends only with the process.
                    let _ = news.send(Input::Link(link, LinkEvent::Up)).await;
                    LinkEvent::Failed(hold(link, asks, answers, unsent, &news).await.to_string())
                }
                Ok(Shaken::Refused { message, priority }) => LinkEvent::Refused { message, priority },
                Ok(Shaken::Silent(error)) => LinkEvent::Silent(error.to_string()),
                Err(error) => LinkEvent::Failed(error.to_string()),
            };
            let _ = news.send(Input::Link(link, event)).await;
        });
        self.open.insert(link, Open { task: Some(task.abort_handle()), outbox: Some(outbox), last_words: None });
        self.forget_ended();
    }

    /// Serves a primary on the two connections that it has made.
    pub(super) fn serve(&mut self, link: LinkId, descriptors: Vec<OwnedFd>, resuid: u64) {
        let (outbox, unsent) = mpsc::channel(MAX_UNSENT);
        let news = self.news.clone();
        let task = tokio::task::spawn_local(async move {
            let why = match serve(link, descriptors, resuid, unsent, &news).await {
                Ok(never) => match never {},
                Err(error) => error.to_string(),
            };
            let _ = news.send(Input::PrimaryLost { link, why }).await;
        });
        self.open.insert(link, Open { task: Some(task.abort_handle()), outbox: Some(outbox), last_words: None });
        self.forget_ended();
    }

    pub(super) fn send_heartbeat(&mut self, link: LinkId, state: State, seq: u64) {
        let message = Heartbeat { state, seq }.encode();
        if !self.push(link, message) {
            let news = self.news.clone();
            self.disconnect(link);
            tokio::task::spawn_local(async move {
                let why = "it does not read what is sent to it".to_string();
                let _ = news.send(Input::Link(link, LinkEvent::Failed(why))).await;
            });
        }
    }

    pub(super) fn answer(&mut self, link: LinkId, seq: u64, state: State) {
        let message = Answer::Heartbeat { seq, state: Ok(state) }.encode();
        if !self.push(link, message) {
            let news = self.news.clone();
            self.disconnect(link);
            tokio::task::spawn_local(async move {
                let why = "it does not read the answers to its heartbeats".to_string();
                let _ = news.send(Input::PrimaryLost { link, why }).await;
            });
        }
    }

    /// Closes a connection. What was said over one of protocol 1 leaves first.
    pub(super) fn disconnect(&mut self, link: LinkId) {
        let Some(mut open) = self.open.remove(&link) else { return };
        self.closing.retain(|task| !task.is_finished());
        // Over one that is still being made nothing has been said: a host that is cut off must not hold up the end.
        let last_words = open.last_words.take().filter(|words| words.is_up.get());
        if let (Some(LastWords { task, .. }), true) = (last_words, self.closing.len() < MAX_CLOSING) {
            open.outbox = None;
            let patience = tokio::task::spawn_local(async move {
                let abort = task.abort_handle();
                if tokio::time::timeout(CLOSE_TIME, task).await.is_err() {
                    abort.abort();
                }
            });
            self.closing.push(patience);
            // It ends by itself.
            open.task = None;
        }
    }

    /// Asks a remote for its role and state.
    pub(super) fn poll(&mut self, link: LinkId, address: Address, resource: &Resource) {
        let caller = Caller::new(&self.dialer, address, resource);
        let news = self.news.clone();
        let task = tokio::task::spawn_local(async move {
            let answer = caller.poll().await.map_err(|error| error.to_string());
            let _ = news.send(Input::Polled { link, answer }).await;
        });
        self.open.insert(link, Open { task: Some(task.abort_handle()), outbox: None, last_words: None });
        self.forget_ended();
    }

    /// Complains to a remote, which does not answer.
    pub(super) fn complain(&self, address: Address, resource: &Resource) {
        let Ok(permit) = Arc::clone(&self.complaints).try_acquire_owned() else { return };
        let caller = Caller::new(&self.dialer, address, resource);
        tokio::task::spawn_local(async move {
            if let Err(error) = caller.complain().await {
                log::warn!(target: &caller.resource, "cannot complain to {}: {error}", caller.address);
            }
            drop(permit);
        });
    }

    fn push(&self, link: LinkId, message: List) -> bool {
        let outbox = self.open.get(&link).and_then(|open| open.outbox.as_ref());
        outbox.is_some_and(|outbox| outbox.try_send(message).is_ok())
    }

    fn forget_ended(&mut self) {
        self.open.retain(|_, open| open.task.as_ref().is_some_and(|task| !task.is_finished()));
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
enum JoinError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Net(#[from] NetError),
}

/// What one task needs to talk to a remote.
#[derive(Debug)]
struct Caller {
    dialer: Dialer,
    address: Address,
    resource: String,
    key: Option<Key>,
    timeout: Duration,
}

/// What a handshake comes to.
enum Shaken {
    /// The primary asks on the first connection and is answered on the second.
    Connected(TcpStream, TcpStream),
    /// It takes the connection and does not answer in time.
    Silent(NetError),
    Refused {
        message: String,
        priority: Option<i32>,
    },
}

impl Caller {
    fn new(dialer: &Dialer, address: Address, resource: &Resource) -> Self {
        Self {
            dialer: dialer.clone(),
            address,
            resource: resource.name.clone(),
            key: resource.key.clone(),
            timeout: resource.timeout,
        }
    }

    async fn ask(&self, request: Request) -> Result<TcpStream, NetError> {
        ask(&self.dialer, &self.address, self.key.as_ref(), &request).await
    }

    /// All that `timeout` promises to bound, from the look-up of the name to the last answer.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, NetError>>) -> Result<T, NetError> {
        tokio::time::timeout(self.timeout, work).await.unwrap_or(Err(NetError::Timeout(self.timeout)))
    }

    /// Both steps, on two connections. The key that this has is not needed after that, and wiped.
    async fn shake_hands(self, priority: i32) -> Result<Shaken, NetError> {
        let connected = Cell::new(false);
        let shaken = self.in_time(async {
            let resource = self.resource.clone();
            let mut asks = self.ask(Request::Handshake { resource: resource.clone(), priority }).await?;
            connected.set(true);
            let token = match receive_answer(&mut asks).await? {
                Answer::Token(token) => token,
                Answer::Refused { errmsg: message, priority } => return Ok(Shaken::Refused { message, priority }),
                other => return Err(unexpected(&other)),
            };
            let mut answers = self.ask(Request::HandshakeToken { resource, token, resuid: 0 }).await?;
            // Success is told on the first connection, a refusal on the second.
            let answer = tokio::select! {
                answer = receive_answer(&mut asks) => answer?,
                answer = receive_answer(&mut answers) => answer?,
            };
            match answer {
                Answer::Resuid(_) => Ok(Shaken::Connected(asks, answers)),
                Answer::Refused { errmsg: message, priority } => Ok(Shaken::Refused { message, priority }),
                other => Err(unexpected(&other)),
            }
        });
        match shaken.await {
            Err(error @ NetError::Timeout(_)) if connected.get() => Ok(Shaken::Silent(error)),
            shaken => shaken,
        }
    }

    /// Opens a session of protocol 1; says who is at its other end. The key that this has is not needed after that, and wiped.
    async fn join(self, hello: Hello) -> Result<(Session, String), JoinError> {
        let timeout = self.timeout;
        let open = async {
            let stream = self.dialer.connect(&self.address).await?;
            let (session, answer) = Session::open(stream, hello.encode(), self.key.as_ref()).await?;
            let welcome = Welcome::decode(&answer).map_err(NetError::from)?;
            Ok((session, welcome.node))
        };
        tokio::time::timeout(timeout, open).await.unwrap_or(Err(NetError::Timeout(timeout).into()))
    }

    async fn poll(&self) -> Result<(Role, State), NetError> {
        self.in_time(async {
            let mut stream = self.ask(Request::Status { resources: vec![self.resource.clone()] }).await?;
            let reply = match MessageReader::new(NETWORK_LIMIT).next(&mut stream).await {
                Err(NetError::Closed) => return Err(NetError::Unanswered),
                reply => StatusReply::decode(&reply?)?,
            };
            let entries = match reply {
                StatusReply::Entries(entries) => entries,
                StatusReply::Failed(number) => return Err(NetError::Peer(number)),
            };
            let entry =
                entries.into_iter().find(|entry| entry.resource == self.resource).ok_or(NetError::Unanswered)?;
            let status = entry.outcome.map_err(NetError::Peer)?;
            Ok((status.role, status.worker.map_or(State::Unknown, |worker| worker.state)))
        })
        .await
    }

    async fn complain(&self) -> Result<(), NetError> {
        self.in_time(async {
            let stream = self.ask(Request::Complaint { resource: self.resource.clone() }).await?;
            drop(stream);
            Ok(())
        })
        .await
    }
}

async fn receive_answer(stream: &mut TcpStream) -> Result<Answer, NetError> {
    Ok(Answer::decode(&MessageReader::new(NETWORK_LIMIT).next(stream).await?)?)
}

fn unexpected(answer: &Answer) -> NetError {
    NetError::OutOfTurn(match answer {
        Answer::Token(_) => "a token",
        Answer::Resuid(_) => "the end of a handshake",
        Answer::Heartbeat { .. } => "the answer to a heartbeat",
        Answer::Refused { .. } => "a refusal",
    })
}

/// A worker's side of a session, until it breaks; `None`: it was closed here, and everything has left that was said.
async fn converse(
    link: LinkId,
    mut session: Session,
    unsent: &mut mpsc::Receiver<List>,
    news: &News,
) -> Option<SessionError> {
    loop {
        let step = tokio::select! {
            message = unsent.recv() => match message {
                Some(message) => session.send(&message).await,
                None => return None,
            },
            heard = session.recv() => match heard.and_then(|list| Ok(Heard::decode(&list).map_err(NetError::from)?)) {
                Ok(heard) => {
                    let _ = news.send(Input::Link(link, LinkEvent::Heard(Box::new(heard)))).await;
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = step {
            return Some(error);
        }
    }
}

/// A primary's side of a connection that is up, until it breaks.
async fn hold(
    link: LinkId,
    mut asks: TcpStream,
    mut answers: TcpStream,
    mut unsent: mpsc::Receiver<List>,
    news: &News,
) -> NetError {
    let (mut asks_read, mut asks_write) = asks.split();
    let mut reader = MessageReader::new(NETWORK_LIMIT);
    let mut listener = MessageReader::new(NETWORK_LIMIT);
    loop {
        let step = tokio::select! {
            Some(message) = unsent.recv() => send(&mut asks_write, &message, NETWORK_LIMIT).await,
            answer = reader.next(&mut answers) => match answer.and_then(|list| Ok(Answer::decode(&list)?)) {
                Ok(Answer::Heartbeat { seq, state }) => {
                    let _ = news.send(Input::Link(link, LinkEvent::Answer { seq, state })).await;
                    Ok(())
                }
                Ok(other) => Err(unexpected(&other)),
                Err(error) => Err(error),
            },
            // Nothing is due here: this only notices at once that the other side has closed it.
            said = listener.next(&mut asks_read) => Err(said.map_or_else(|error| error, |_| NetError::OutOfTurn("a message"))),
        };
        if let Err(error) = step {
            return error;
        }
    }
}

/// A secondary's side of a connection, until it breaks.
async fn serve(
    link: LinkId,
    descriptors: Vec<OwnedFd>,
    resuid: u64,
    mut unsent: mpsc::Receiver<List>,
    news: &News,
) -> Result<Infallible, NetError> {
    let mut streams = descriptors.into_iter().map(|fd| TcpStream::from_std(StdTcpStream::from(fd)));
    let (Some(asks), Some(answers)) = (streams.next(), streams.next()) else { return Err(NetError::Closed) };
    let (mut asks, mut answers) = (asks?, answers?);
    send(&mut asks, &Answer::Resuid(resuid).encode(), NETWORK_LIMIT).await?;
    let mut reader = MessageReader::new(NETWORK_LIMIT);
    loop {
        tokio::select! {
            Some(message) = unsent.recv() => send(&mut answers, &message, NETWORK_LIMIT).await?,
            message = reader.next(&mut asks) => {
                let Heartbeat { seq, .. } = Heartbeat::decode(&message?)?;
                let _ = news.send(Input::Heartbeat { link, seq }).await;
            }
        }
    }
}
