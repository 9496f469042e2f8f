//! The main daemon: who may ask for what, and what is answered.
//!
//! This page is the vocabulary between the daemon's decisions and its process: [`Input`]s with the time go in, [`Action`]s come
//! out. What follows for a resource is decided by its [`Supervisor`].

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use crate::config::{Address, Config, Host, Key};
use crate::event::{Event, RoleReason};
use crate::lease::record::{NotFound, Record};
use crate::lease::{Ask, Grant, Release, Voters};
use crate::pause::{Pause, PauseRecord, Paused, operator};
use crate::rate_limit::RateLimit;
use crate::resources::Resources;
use crate::supervisor::{Common, Context, Supervisor, WorkerExit};
use crate::time::{Duration, Instant};
use crate::types::{ErrorCode, Role};
use crate::wire::nv::List;
use crate::wire::peer::{Hello, Said};
use crate::wire::reply::{
    Entry, ExplainReply, PauseReply, ReloadReply, RemoteStatus, Reply, ResourceStatus, RoleReply, StatusReply,
    SwitchoverReply, WorkerStatus,
};
use crate::wire::request::{ALL_RESOURCES, Request};
use crate::wire::session::{Answer, Refusal};
use crate::wire::signature::Signature;
use crate::worker::{Assignment, LinkId, Order, RemoteReport, Report};

/// Resources that one request on the network may be about. The status of one takes more than 300 bytes, so no more would fit into a
/// message; and nobody shall keep the daemon busy with answers that cannot be sent.
pub const MAX_ASKED: usize = 200;

/// Names a connection that somebody made to this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Names a worker process; never used twice within a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

/// The process of an operator, as the system knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its user.
    pub uid: u32,
    /// Its number, where the system tells it.
    pub pid: Option<u32>,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who may open the control socket: hastmonctl.
    ControlSocket(Option<Operator>),
    /// Somebody on the network.
    Network {
        /// The caller's end of the connection.
        peer: SocketAddr,
        /// Our end.
        local: SocketAddr,
    },
}

impl Caller {
    const fn is_local(self) -> bool {
        matches!(self, Self::ControlSocket(_))
    }
}

/// What happens to the daemon.
#[derive(Debug)]
pub enum Input {
    /// A deadline has passed.
    Timer,
    /// The first message of a connection.
    Message {
        /// The connection, which stays open until an action says otherwise.
        conn: ConnId,
        /// Who sent it.
        caller: Caller,
        /// What it says.
        message: List,
        /// The time of day, for signatures alone: seconds since 1970.
        unix_now_s: u64,
        /// Random bytes, in case a token is needed.
        random: [u8; 16],
    },
    /// The first message of a connection of protocol 1, from another node.
    Hello {
        /// The connection.
        conn: ConnId,
        /// Who has connected.
        caller: Caller,
        /// What it says.
        message: List,
    },
    /// A later message of such a connection; its sender has proved to have the key, if there is one.
    Said(ConnId, List),
    /// A connection of protocol 1 is gone.
    Gone {
        /// Which.
        conn: ConnId,
        /// Why; `None` when there is nothing to tell.
        why: Option<String>,
    },
    /// What was found on disk of the vote of this node.
    RecordFound {
        /// Of which resource.
        resource: String,
        /// The record, or why there is none to be had.
        found: Result<Option<Record>, NotFound>,
    },
    /// A record is on disk, or why not.
    Recorded {
        /// Of which resource.
        resource: String,
        /// As in [`Action::Record`].
        id: u64,
        /// Whether it could be written.
        result: Result<(), String>,
    },
    /// A record of a pause is on disk, or why not.
    PauseRecorded {
        /// Of which resource.
        resource: String,
        /// As in [`Action::RecordPause`].
        id: u64,
        /// Whether it could be written.
        result: Result<(), String>,
    },
    /// A worker has heard of a pause, or of its end.
    PauseHeard(WorkerId, Pause),
    /// A worker asks for the vote of this node.
    Asked(WorkerId, Ask),
    /// A worker gives the vote of this node back.
    Released(WorkerId, Release),
    /// A secondary's worker has won the lease.
    Won(WorkerId, Grant),
    /// A worker has had another node turned off, which may have held this epoch at most.
    Fenced(WorkerId, String, u64),
    /// A primary's worker cannot hand over.
    HandOverRefused(WorkerId, String),
    /// A worker's process runs.
    WorkerStarted(WorkerId, u32),
    /// A worker reports.
    Report(WorkerId, Report),
    /// A worker has lost the connection from its primary.
    PrimaryGone(WorkerId, LinkId),
    /// A worker's process has ended or could not be started.
    WorkerExited(WorkerId, WorkerExit),
    /// A name of the configuration stands for these addresses, or why it stands for none.
    Resolved(String, Result<Vec<IpAddr>, String>),
    /// Somebody has connected whom [`Daemon::knows`] does not know, and was sent away.
    Stranger(IpAddr),
    /// Somebody who is known was sent away unheard.
    Refused(IpAddr, String),
    /// A signal asks to read the configuration again.
    Hangup,
    /// The new configuration, already checked; its sockets are open.
    Reload(Box<Config>),
    /// The new configuration cannot be used.
    ReloadFailed {
        /// Why, in one line for the log.
        why: String,
        /// Why, in as many lines as it takes, for who asked.
        report: String,
    },
    /// Stop what runs here, then exit.
    Stop,
}

/// What the daemon's process shall do.
#[derive(Debug)]
pub enum Action {
    /// Send a message; unless `keep` says otherwise, close the connection then.
    Reply {
        /// To whom.
        conn: ConnId,
        /// What.
        message: List,
        /// The conversation goes on.
        keep: bool,
    },
    /// Close a connection.
    Close(ConnId),
    /// Answer a [`Input::Hello`], and go on with protocol 1 on this connection.
    Welcome {
        /// The connection.
        conn: ConnId,
        /// The answer.
        answer: List,
        /// What the other side must prove to have.
        key: Option<Key>,
    },
    /// Say something over a connection of protocol 1.
    Tell {
        /// The connection.
        conn: ConnId,
        /// What.
        message: List,
    },
    /// Look for a record of the vote of this node; answered with [`Input::RecordFound`].
    FindRecord(String),
    /// Write a record of the vote of this node; answered with [`Input::Recorded`]. Those of one resource are written in their order.
    Record {
        /// Names it; grows.
        id: u64,
        /// Of which resource.
        resource: String,
        /// What.
        record: Record,
    },
    /// Write a record of a pause; answered with [`Input::PauseRecorded`]. Those of one resource are written in their order.
    RecordPause {
        /// Names it; grows.
        id: u64,
        /// What.
        record: PauseRecord,
    },
    /// Start a worker process.
    StartWorker {
        /// Its name from now on.
        id: WorkerId,
        /// What it shall do.
        assignment: Box<Assignment>,
    },
    /// Tell a worker.
    Order {
        /// Whom.
        id: WorkerId,
        /// What.
        order: Order,
    },
    /// End a worker process that does not end by itself.
    KillWorker(WorkerId),
    /// Pass the two connections of a primary to the worker that serves it.
    HandOver {
        /// The worker.
        worker: WorkerId,
        /// Its name for them.
        link: LinkId,
        /// Who has connected.
        from: Address,
        /// The connection on which the primary asks.
        asks: ConnId,
        /// The connection on which it is answered.
        answers: ConnId,
        /// To be echoed on the first connection, which completes the handshake.
        resuid: u64,
    },
    /// Read the configuration again, open the sockets that it asks for beside those in use, and answer with [`Input::Reload`] or
    /// [`Input::ReloadFailed`].
    LoadConfig,
    /// The configuration that was read is in force: what it says of the whole daemon, too. Use its sockets from now on.
    Adopt,
    /// Tell the administrator, of the named resource or of the daemon as a whole.
    Event(Option<String>, Event),
    /// All is stopped.
    Exit,
}

/// The main daemon.
#[derive(Debug)]
pub struct Daemon {
    config: Config,
    resources: Resources,
    pids: BTreeMap<WorkerId, u32>,
    /// What the names of the configuration stand for.
    names: BTreeMap<String, Vec<IpAddr>>,
    /// Names that stand for nothing, as told to the administrator.
    unknown: BTreeSet<String>,
    floods: RateLimit,
    reloads: Reloads,
    stopping: bool,
    peers: PeerProtocol,
    /// Where the connections of protocol 1 belong.
    sessions: BTreeMap<ConnId, String>,
    common: Common,
    /// What was known of pauses at the start, of resources that have not been taken up since.
    pauses: BTreeMap<String, PauseRecord>,
    /// Operators who wait for pauses to be known.
    waiting: Vec<WaitsForPause>,
}

/// An operator has paused resources, or resumed them, and waits to hear that this is known.
#[derive(Debug)]
struct WaitsForPause {
    conn: ConnId,
    names: Vec<String>,
    until: Instant,
}

/// Operators who may wait at once. None of them waits for long.
const MAX_WAITING_FOR_PAUSE: usize = 16;
/// How many heartbeats an operator waits for a pause to be known by all: two to tell and to be answered, and those for one that is late.
const PAUSE_BEATS: u32 = 4;

/// What is spoken with other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerProtocol {
    /// Protocol 1, with the lease.
    Lease,
    /// Protocol 0 is spoken and accepted, because originals are among the nodes: no lease protects any resource. Nodes that speak protocol 1 are
    /// heard as well.
    Legacy,
}

/// Why protocol 0 is refused. In the words of the administrator of a cluster that is being upgraded.
const NO_LEGACY: &str = "it speaks protocol 0 of hastmon 0.3, which cannot forbid two primaries; to let it: hastmon --legacy-peers (see hastmon(8), UPGRADE)";

/// One reload at a time: what was read last is in force at the end, however long each takes.
#[derive(Debug, Default)]
struct Reloads {
    under_way: bool,
    /// Who waits to hear what comes of the one under way.
    callers: Vec<ConnId>,
    /// It was asked for again meanwhile, by these: the file may have changed since it was read.
    next: Option<Vec<ConnId>>,
}

/// Callers that may wait for a reload to end. Administrators are few, and a file system that hangs must not use up the control socket.
const MAX_RELOAD_CALLERS: usize = 16;

/// The version of this program, as it is told to other nodes.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is said to who asks for a new configuration of a daemon that is about to end.
const STOPPING: &str = "hastmon is stopping";

/// A file that is read while it is written is often empty, and would stop everything.
const NO_RESOURCE: &str =
    "the file has no resource at all; to switch all of them off: hastmonctl role init all, or end hastmon";

impl Daemon {
    /// A daemon that takes up `role_on_start` for each resource.
    ///
    /// `seed`: any number, another one at each start.
    pub fn new(now: Instant, config: Config, peers: PeerProtocol, seed: u64) -> (Self, Vec<Action>) {
        Self::with_pauses(now, config, peers, seed, Vec::new())
    }

    /// The same, with all that is on disk of pauses: what is paused takes up the role that it had.
    pub fn with_pauses(
        now: Instant,
        config: Config,
        peers: PeerProtocol,
        seed: u64,
        pauses: Vec<PauseRecord>,
    ) -> (Self, Vec<Action>) {
        let mut daemon = Self {
            config: Config { resources: Vec::new(), ..config.clone() },
            resources: Resources::default(),
            pids: BTreeMap::new(),
            names: BTreeMap::new(),
            unknown: BTreeSet::new(),
            floods: RateLimit::default(),
            reloads: Reloads::default(),
            stopping: false,
            peers,
            sessions: BTreeMap::new(),
            common: Common::new(seed),
            pauses: pauses.into_iter().map(|record| (record.resource.clone(), record)).collect(),
            waiting: Vec::new(),
        };
        let mut out = Vec::new();
        let mut turn = Turn { now, out: &mut out };
        daemon.apply(&mut turn, config);
        daemon.give_turns(&mut turn);
        (daemon, out)
    }

    /// Something happened: what shall be done?
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        self.note_lateness(now, &mut out);
        let mut turn = Turn { now, out: &mut out };
        match input {
            Input::Timer => {}
            Input::Message { conn, caller, message, unix_now_s, random } => {
                self.on_message(&mut turn, conn, caller, &message, unix_now_s, random);
            }
            Input::Hello { conn, caller, message } => self.on_hello(&mut turn, conn, caller, &message),
            Input::Said(conn, message) => self.on_said(&mut turn, conn, &message),
            Input::Gone { conn, why } => self.on_gone(&mut turn, conn, why),
            Input::RecordFound { resource, found } => {
                self.named(&mut turn, &resource, |supervisor, cx| supervisor.on_record_found(cx, found));
            }
            Input::Recorded { resource, id, result } => {
                self.named(&mut turn, &resource, |supervisor, cx| supervisor.on_recorded(cx, id, result));
            }
            Input::PauseRecorded { resource, id, result } => {
                self.named(&mut turn, &resource, |supervisor, cx| supervisor.on_pause_recorded(cx, id, result));
            }
            Input::PauseHeard(id, pause) => {
                if let Some((supervisor, mut cx)) = self.of_worker(&mut turn, id) {
                    supervisor.on_pause_heard(&mut cx, pause);
                }
            }
            Input::Asked(id, ask) => {
                if let Some((supervisor, mut cx)) = self.of_worker(&mut turn, id) {
                    supervisor.on_asked(&mut cx, id, &ask);
                }
            }
            Input::Released(id, release) => {
                if let Some((supervisor, mut cx)) = self.of_worker(&mut turn, id) {
                    supervisor.on_release_here(&mut cx, &release);
                }
            }
            Input::Won(id, grant) => {
                if let Some((supervisor, mut cx)) = self.of_worker(&mut turn, id) {
                    supervisor.on_won(&mut cx, id, grant);
                }
            }
            Input::Fenced(id, node, epoch) => {
                if let Some((supervisor, mut cx)) = self.of_worker(&mut turn, id) {
                    supervisor.on_fenced(&mut cx, &node, epoch);
                }
            }
            Input::HandOverRefused(id, why) => {
                if let Some((supervisor, mut cx)) = self.of_worker(&mut turn, id) {
                    supervisor.on_hand_over_refused(&mut cx, why);
                }
            }
            Input::WorkerStarted(id, pid) => {
                if let Some((supervisor, mut cx)) = self.of_worker(&mut turn, id) {
                    supervisor.on_worker_started(now);
                    cx.event(supervisor.settings(), Event::WorkerStarted { pid });
                    self.pids.insert(id, pid);
                }
            }
            Input::Report(id, report) => {
                if let Some((supervisor, mut cx)) = self.of_worker(&mut turn, id) {
                    supervisor.on_report(&mut cx, id, report);
                }
            }
            Input::PrimaryGone(id, link) => {
                if let Some((supervisor, _)) = self.of_worker(&mut turn, id) {
                    supervisor.on_primary_gone(now, link);
                }
            }
            Input::WorkerExited(id, exit) => {
                self.pids.remove(&id);
                if let Some((supervisor, mut cx)) = self.of_worker(&mut turn, id) {
                    supervisor.on_worker_exit(&mut cx, id, exit);
                }
            }
            Input::Resolved(name, found) => self.on_resolved(&mut turn, name, found),
            Input::Stranger(address) => {
                turn.out.push(Action::Event(None, Event::StrangerRefused { address: address.to_string() }));
            }
            Input::Refused(address, why) => turn.refused(&address, why),
            Input::Hangup => {
                turn.commanded(None, "reload", &"the signal HUP");
                self.on_reload_asked(&mut turn, None);
            }
            Input::Reload(_) if self.stopping => self.on_reload_failed(&mut turn, STOPPING.to_string(), None),
            Input::Reload(config) if config.resources.is_empty() && !self.resources.is_empty() => {
                self.on_reload_failed(&mut turn, NO_RESOURCE.to_string(), None);
            }
            Input::Reload(config) if self.why_not_change_nodes(&config).is_some() => {
                let why = self.why_not_change_nodes(&config).unwrap_or_default();
                self.on_reload_failed(&mut turn, why, None);
            }
            Input::Reload(config) => {
                let changes = self.reload(&mut turn, *config);
                self.on_reload_over(&mut turn, &ReloadReply::Done(changes));
            }
            Input::ReloadFailed { why, report } => self.on_reload_failed(&mut turn, why, Some(report)),
            Input::Stop => {
                turn.commanded(None, "stop hastmon", &"a signal");
                self.stopping = true;
                let Reloads { callers, next, .. } = core::mem::take(&mut self.reloads);
                let refused = ReloadReply::Refused(STOPPING.to_string());
                callers
                    .into_iter()
                    .chain(next.into_iter().flatten())
                    .for_each(|caller| turn.reply_to_reload(Some(caller), &refused));
                self.each(&mut turn, |supervisor, cx| supervisor.leave(cx, "hastmon is told to stop", true));
            }
        }
        let mut cx = Context { now, common: &mut self.common, out: turn.out };
        self.resources.due(now).for_each(|supervisor| supervisor.on_timer(&mut cx));
        self.answer_waiting(&mut turn);
        self.forget_gone(&mut turn);
        self.give_turns(&mut turn);
        self.forget_closed();
        if self.stopping && self.resources.is_empty() {
            out.push(Action::Exit);
        }
        let split = |action| match action {
            Action::Event(resource, event) => Ok((resource, event)),
            other => Err(other),
        };
        self.floods.hold_back(now, out, split, Action::Event)
    }

    /// A vote that comes late is as bad as none: half of the shortest heartbeat is worth a word.
    fn note_lateness(&self, now: Instant, out: &mut Vec<Action>) {
        let late = self.next_deadline().map_or(Duration::ZERO, |deadline| now.since(deadline));
        if late.is_zero() {
            return;
        }
        if self.resources.shortest_heartbeat().is_some_and(|heartbeat| late > heartbeat / 2) {
            out.push(Action::Event(None, Event::WokeLate { by: late }));
        }
    }

    /// A resource that has left the configuration votes until nothing of it runs here.
    fn forget_gone(&mut self, turn: &mut Turn<'_>) {
        for mut gone in self.resources.settle() {
            let mut cx = Context { now: turn.now, common: &mut self.common, out: turn.out };
            gone.close_peers(&mut cx);
            self.sessions.retain(|_, name| *name != gone.settings().name);
        }
    }

    /// Whoever waits for its turn gets it while there are any, and is told when there are none.
    fn give_turns(&mut self, turn: &mut Turn<'_>) {
        let limit = self.config.max_hooks;
        let mut cx = Context { now: turn.now, common: &mut self.common, out: turn.out };
        // None of these is gone: who leaves waits for nothing.
        while let Some(next) = self.resources.touch_next(limit) {
            next.on_turn(&mut cx);
            self.resources.settle();
        }
        while let Some(at) = self.resources.take_untold() {
            let why = self.resources.turns().told(limit);
            self.resources.touch(at).into_iter().for_each(|waits| waits.on_no_turn(&mut cx, why.clone()));
            self.resources.settle();
        }
    }

    /// Connections that were closed from here.
    fn forget_closed(&mut self) {
        if self.resources.connected() != self.sessions.len() {
            let resources = &self.resources;
            self.sessions.retain(|conn, _| resources.iter().any(|supervisor| supervisor.node_of(*conn).is_some()));
        }
    }

    /// When [`handle`](Self::handle) wants to be called with [`Input::Timer`] at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|waits| waits.until);
        self.resources.next_deadline().into_iter().chain(waiting).chain(self.floods.next_deadline()).min()
    }

    /// The configuration in force (without its resources, which [`resources`](Self::resources) tells).
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The resources, in the order of the configuration.
    pub fn resources(&self) -> &[Supervisor] {
        &self.resources
    }

    /// The epoch of the lease of a resource, held here or not, as far as this node knows.
    pub fn epoch_of(&self, name: &str) -> Option<u64> {
        self.find(name).and_then(|(_, supervisor)| supervisor.epoch())
    }

    /// Whether anybody with this address may speak at all. Others are not listened to.
    pub fn knows(&self, address: IpAddr) -> bool {
        self.is_one_of(address, &self.config.friends)
            || self.resources.iter().map(Supervisor::settings).any(|settings| {
                self.is_one_of(address, &settings.remotes) || self.is_one_of(address, &settings.friends)
            })
    }

    /// Names of the configuration that must be looked up, so that their callers are known.
    pub fn names_to_resolve(&self) -> BTreeSet<String> {
        let of_resources = self
            .resources
            .iter()
            .flat_map(|supervisor| supervisor.settings().remotes.iter().chain(&supervisor.settings().friends));
        let all = self.config.friends.iter().chain(of_resources);
        all.filter_map(|address| match &address.host {
            Host::Name(name) => Some(name.clone()),
            Host::Ip(_) => None,
        })
        .collect()
    }

    fn is_one_of(&self, address: IpAddr, list: &[Address]) -> bool {
        list.iter().any(|item| self.stands_for(item, address))
    }

    fn stands_for(&self, item: &Address, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match &item.host {
            Host::Ip(ip) => ip.to_canonical() == address,
            Host::Name(name) => self.names.get(name).is_some_and(|known| known.contains(&address)),
        }
    }

    fn of_worker<'a>(&'a mut self, turn: &'a mut Turn<'_>, id: WorkerId) -> Option<(&'a mut Supervisor, Context<'a>)> {
        let supervisor = self.resources.touch_worker(id)?;
        Some((supervisor, Context { now: turn.now, common: &mut self.common, out: turn.out }))
    }

    fn each(&mut self, turn: &mut Turn<'_>, mut act: impl FnMut(&mut Supervisor, &mut Context<'_>)) {
        let mut cx = Context { now: turn.now, common: &mut self.common, out: turn.out };
        self.resources.touch_all().for_each(|supervisor| act(supervisor, &mut cx));
    }

    fn on(&mut self, turn: &mut Turn<'_>, at: usize, act: impl FnOnce(&mut Supervisor, &mut Context<'_>)) {
        let mut cx = Context { now: turn.now, common: &mut self.common, out: turn.out };
        if let Some(supervisor) = self.resources.touch(at) {
            act(supervisor, &mut cx);
        }
    }

    fn named(&mut self, turn: &mut Turn<'_>, name: &str, act: impl FnOnce(&mut Supervisor, &mut Context<'_>)) {
        if let Some((at, _)) = self.find(name) {
            self.on(turn, at, act);
        }
    }

    fn find(&self, name: &str) -> Option<(usize, &Supervisor)> {
        self.resources.find(name)
    }

    fn on_reload_asked(&mut self, turn: &mut Turn<'_>, caller: Option<ConnId>) {
        let waiting = self.reloads.callers.len() + self.reloads.next.as_ref().map_or(0, Vec::len);
        if self.stopping || waiting >= MAX_RELOAD_CALLERS {
            let why = if self.stopping { STOPPING } else { "many wait already for the configuration to be read" };
            turn.out.push(Action::Event(None, Event::ReloadFailed { why: why.to_string() }));
            turn.reply_to_reload(caller, &ReloadReply::Refused(why.to_string()));
        } else if self.reloads.under_way {
            self.reloads.next.get_or_insert_default().extend(caller);
        } else {
            self.reloads.under_way = true;
            self.reloads.callers.extend(caller);
            turn.out.push(Action::LoadConfig);
        }
    }

    /// Why a reload of this configuration would be refused now, because of the nodes of a resource: the lease is safe only if its voters change one
    /// by one.
    pub fn why_not_change_nodes(&self, config: &Config) -> Option<String> {
        if self.peers == PeerProtocol::Legacy {
            return None;
        }
        config.resources.iter().find_map(|new| {
            let (_, supervisor) = self.find(&new.name)?;
            let why = supervisor.why_not_change_nodes(&Voters::new(new.nodes.iter().cloned()))?;
            Some(alloc::format!("resource {}: {why}", new.name))
        })
    }

    /// Nothing changes: why, in one line for the log, and in as many as it takes for who asked.
    fn on_reload_failed(&mut self, turn: &mut Turn<'_>, why: String, report: Option<String>) {
        let report = report.unwrap_or_else(|| why.clone());
        turn.out.push(Action::Event(None, Event::ReloadFailed { why }));
        self.on_reload_over(turn, &ReloadReply::Refused(report));
    }

    /// Tells who asked for it, and begins the next one if it was asked for meanwhile.
    fn on_reload_over(&mut self, turn: &mut Turn<'_>, reply: &ReloadReply) {
        let Reloads { callers, next, .. } = core::mem::take(&mut self.reloads);
        callers.into_iter().for_each(|caller| turn.reply_to_reload(Some(caller), reply));
        if let Some(callers) = next {
            self.reloads = Reloads { under_way: true, callers, next: None };
            turn.out.push(Action::LoadConfig);
        }
    }

    /// Puts a new configuration into force; says what it changes.
    fn reload(&mut self, turn: &mut Turn<'_>, config: Config) -> String {
        turn.out.push(Action::Adopt);
        let changes = self.apply(turn, config).to_string();
        turn.out.push(Action::Event(None, Event::Reloaded { changes: changes.clone() }));
        changes
    }

    /// Puts a configuration into force; what it leaves as it was is not touched.
    fn apply(&mut self, turn: &mut Turn<'_>, mut config: Config) -> Changes {
        let mut changes = Changes::default();
        let wanted = core::mem::take(&mut config.resources);
        self.config = config;
        let old = self.resources.take();
        let mut list = Vec::new();
        let mut old: BTreeMap<String, Supervisor> =
            old.into_iter().map(|supervisor| (supervisor.settings().name.clone(), supervisor)).collect();
        let mut cx = Context { now: turn.now, common: &mut self.common, out: turn.out };
        for settings in wanted {
            let name = settings.name.clone();
            let supervisor = match old.remove(&name) {
                Some(mut supervisor) => {
                    match (supervisor.is_leaving(), *supervisor.settings() == settings) {
                        (true, _) => changes.added.push(name),
                        (false, true) => changes.unchanged += 1,
                        (false, false) => changes.changed.push(name),
                    }
                    supervisor.reconfigure(&mut cx, settings);
                    supervisor
                }
                None => {
                    changes.added.push(name);
                    let found = self.pauses.remove(&settings.name);
                    let legacy = self.peers == PeerProtocol::Legacy;
                    let mut supervisor = Supervisor::new(&mut cx, settings, &self.config.node, legacy);
                    supervisor.take_up(&mut cx, found);
                    supervisor
                }
            };
            list.push(supervisor);
        }
        for (name, mut supervisor) in old {
            if !supervisor.is_leaving() {
                changes.removed.push(name);
                supervisor.leave(&mut cx, "the resource has left the configuration", false);
            }
            list.push(supervisor);
        }
        self.resources = Resources::new(list);
        // A name that is needed again later is looked up like a new one.
        let needed = self.names_to_resolve();
        self.names.retain(|name, _| needed.contains(name));
        // Whoever changes the configuration wants to hear again what is wrong with it.
        self.unknown.clear();
        changes
    }

    fn on_message(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        caller: Caller,
        message: &List,
        unix_now_s: u64,
        random: [u8; 16],
    ) {
        let signature = Signature::decode(message);
        let proof = Proof { caller, signature, unix_now_s };
        let request = match Request::decode(message) {
            Ok(request) => request,
            Err(error) => {
                turn.refused(&caller, error.to_string());
                return match error.answer() {
                    Some(code) => turn.reply(conn, RoleReply::Failed(code.to_wire()).encode()),
                    None => turn.close(conn),
                };
            }
        };
        if self.peers == PeerProtocol::Lease && !caller.is_local() {
            return self.refuse_legacy(turn, conn, &caller, &request);
        }
        match request {
            Request::SetRole { role, resources, force } => {
                self.on_set_role(turn, conn, &proof, (role, force), &resources);
            }
            Request::Status { resources } => self.on_status(turn, conn, &proof, &resources),
            Request::Reload if caller.is_local() => {
                turn.commanded(None, "reload", &caller);
                self.on_reload_asked(turn, Some(conn));
            }
            Request::Switchover { resource, to } if caller.is_local() => {
                if self.find(&resource).is_some() {
                    let command = alloc::format!("switchover {}", to.as_deref().unwrap_or_default());
                    turn.commanded(Some(&resource), command.trim_end(), &caller);
                }
                self.on_switchover(turn, conn, &resource, to);
            }
            Request::Explain { resource } if matches!(caller, Caller::ControlSocket(_)) => {
                let explained = match self.find(&resource) {
                    Some((_, supervisor)) => {
                        Ok(crate::explain::explain(turn.now, supervisor, self.why_no_turn(supervisor)).into_sentences())
                    }
                    None => Err(alloc::format!("there is no resource {resource} on this node")),
                };
                turn.reply(conn, ExplainReply(explained).encode());
            }
            Request::Pause { resources, by, span } if caller.is_local() => {
                let paused = Paused { by: operator(&by), since_unix_s: unix_now_s, left: span };
                self.on_pause(turn, conn, &proof, &resources, Some(&paused));
            }
            Request::Resume { resources } if caller.is_local() => {
                self.on_pause(turn, conn, &proof, &resources, None);
            }
            Request::Reload
            | Request::Switchover { .. }
            | Request::Explain { .. }
            | Request::Pause { .. }
            | Request::Resume { .. } => {
                let what = match request {
                    Request::Reload => "reload",
                    Request::Switchover { .. } => "switchover",
                    Request::Pause { .. } => "pause",
                    Request::Resume { .. } => "resume",
                    _ => "explain",
                };
                turn.refused(&caller, alloc::format!("{what}: only hastmonctl on this node may ask for it"));
                turn.reply(conn, RoleReply::Failed(ErrorCode::NotImplemented.to_wire()).encode());
            }
            Request::Complaint { resource } => {
                turn.close(conn);
                self.on_complaint(turn, &proof, &resource);
            }
            Request::Handshake { resource, priority } => match self.may_shake_hands(&proof, &resource) {
                Ok((at, remote)) => self.on(turn, at, |supervisor, cx| {
                    supervisor.on_handshake(cx, conn, remote, priority, random);
                }),
                Err(refusal) => turn.refuse_handshake(conn, caller, &resource, refusal),
            },
            Request::HandshakeToken { resource, token, resuid } => match self.may_shake_hands(&proof, &resource) {
                Ok((at, remote)) => self.on(turn, at, |supervisor, cx| {
                    supervisor.on_token(cx, conn, &remote, &token, resuid);
                }),
                Err(refusal) => turn.refuse_handshake(conn, caller, &resource, refusal),
            },
        }
    }

    /// Protocol 0 where the lease rules: what would be answered as if there were no lease is not.
    fn refuse_legacy(&mut self, turn: &mut Turn<'_>, conn: ConnId, caller: &Caller, request: &Request) {
        turn.refused(caller, NO_LEGACY.to_string());
        match request {
            Request::Handshake { .. } | Request::HandshakeToken { .. } => {
                turn.reply(conn, Answer::Refused { errmsg: NO_LEGACY.to_string(), priority: None }.encode());
            }
            Request::Complaint { .. } => turn.close(conn),
            _ => turn.reply(conn, RoleReply::Failed(ErrorCode::NotImplemented.to_wire()).encode()),
        }
    }

    fn on_hello(&mut self, turn: &mut Turn<'_>, conn: ConnId, caller: Caller, message: &List) {
        let hello = match Hello::decode(message) {
            Ok(hello) => hello,
            Err(error) => {
                turn.refused(&caller, error.to_string());
                return turn.refuse_hello(conn, error.to_string());
            }
        };
        let Caller::Network { peer, .. } = caller else { return turn.close(conn) };
        let name = hello.resource.clone();
        let found = self.find(&name).and_then(|(at, supervisor)| {
            let settings = supervisor.settings();
            // Those of the file are friends of each resource, also of one that has its own, as in 0.3.
            let mut known = settings.remotes.iter().chain(&settings.friends).chain(&self.config.friends);
            let address = known.find(|known| self.stands_for(known, peer.ip()))?;
            Some((at, address.clone()))
        });
        let node = self.config.node.clone();
        let outcome = match found {
            None => Err(alloc::format!(
                "on {node}, {} is neither remote nor friend of a resource {name}",
                peer.ip().to_canonical()
            )),
            Some((at, remote)) => {
                let mut cx = Context { now: turn.now, common: &mut self.common, out: &mut *turn.out };
                match self.resources.touch(at) {
                    Some(supervisor) => supervisor.on_hello(&mut cx, conn, remote, hello, VERSION),
                    None => Err("it is being removed".to_string()),
                }
            }
        };
        match outcome {
            Ok(()) => _ = self.sessions.insert(conn, name),
            Err(why) => {
                turn.refused(&caller, alloc::format!("connection for {name}: {why}"));
                turn.refuse_hello(conn, why);
            }
        }
    }

    fn on_said(&mut self, turn: &mut Turn<'_>, conn: ConnId, message: &List) {
        let Some(name) = self.sessions.get(&conn).cloned() else { return turn.close(conn) };
        let Some((at, supervisor)) = self.find(&name) else { return turn.close(conn) };
        let Some(node) = supervisor.node_of(conn).map(ToString::to_string) else { return turn.close(conn) };
        match Said::decode(message, &node) {
            Ok(said) => self.on(turn, at, |supervisor, cx| supervisor.on_said(cx, conn, said)),
            Err(error) => {
                turn.refused(&node, alloc::format!("message for {name}: {error}"));
                turn.close(conn);
                self.on_gone(turn, conn, None);
            }
        }
    }

    fn on_gone(&mut self, turn: &mut Turn<'_>, conn: ConnId, why: Option<String>) {
        let Some(name) = self.sessions.remove(&conn) else { return };
        if let (Some(why), Some(node)) = (
            why.clone(),
            self.find(&name).and_then(|(_, supervisor)| supervisor.node_of(conn)).map(ToString::to_string),
        ) {
            turn.refused(&node, alloc::format!("connection for {name}: {why}"));
        }
        self.named(turn, &name, |supervisor, cx| _ = supervisor.on_peer_gone(cx, conn, why));
    }

    fn on_switchover(&mut self, turn: &mut Turn<'_>, conn: ConnId, name: &str, to: Option<String>) {
        let why_not = match self.find(name) {
            _ if self.stopping => Some(STOPPING.to_string()),
            None => Some(alloc::format!("there is no resource {name} on this node")),
            Some((_, supervisor)) => to
                .as_ref()
                .filter(|to| !supervisor.settings().nodes.contains(to))
                .map(|to| alloc::format!("{to} is no node of the resource: {}", supervisor.settings().nodes.join(" "))),
        };
        match why_not {
            Some(why) => turn.reply(conn, SwitchoverReply::refused(why).encode()),
            None => self.named(turn, name, |supervisor, cx| supervisor.switch_over(cx, conn, to)),
        }
    }

    /// An operator pauses resources, or resumes them.
    fn on_pause(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        proof: &Proof,
        names: &[String],
        paused: Option<&Paused>,
    ) {
        let refuse = |turn: &mut Turn<'_>, why: &str| {
            let entries = Vec::from([Err(why.to_string())]);
            turn.reply(conn, PauseReply { entries }.encode());
        };
        if self.stopping {
            return refuse(turn, STOPPING);
        }
        if self.peers == PeerProtocol::Legacy {
            return refuse(
                turn,
                "among hastmon 0.3 (--legacy-peers) there is no lease, and without one a pause would not hold",
            );
        }
        if self.waiting.len() >= MAX_WAITING_FOR_PAUSE {
            return refuse(turn, "too many wait already for a pause to be known");
        }
        let Some(selected) = self.select(turn, conn, proof, names) else { return };
        // The node that gives it up would have stopped it, and the other one would not start it.
        let mut found = selected.iter().filter_map(|(name, at)| Some((name, self.resources.get((*at)?)?)));
        if let Some((name, _)) = found.find(|(_, supervisor)| paused.is_some() && supervisor.is_switching(turn.now)) {
            let why = alloc::format!("{name} is being switched over; pause it when it runs again");
            return refuse(turn, &why);
        }
        let mut until = turn.now;
        let mut known = Vec::new();
        let command = if paused.is_some() { "pause" } else { "resume" };
        for (name, at) in selected {
            if at.is_some() {
                turn.commanded(Some(&name), command, &proof.caller);
            }
            if let Some(settings) = at.and_then(|at| self.resources.get(at)).map(Supervisor::settings) {
                until = until.max(turn.now + settings.heartbeat_interval * PAUSE_BEATS + settings.timeout);
            }
            if let Some(at) = at {
                self.on(turn, at, |supervisor, cx| supervisor.change_pause(cx, paused.cloned()));
            }
            known.push(name);
        }
        self.waiting.push(WaitsForPause { conn, names: known, until });
    }

    /// Tells operators what has become of a pause.
    fn answer_waiting(&mut self, turn: &mut Turn<'_>) {
        for waits in core::mem::take(&mut self.waiting) {
            let is_last = turn.now >= waits.until || self.stopping;
            let answer = |name: &String| match self.find(name) {
                None => Some(Err(alloc::format!("there is no resource {name} on this node"))),
                Some((_, supervisor)) => supervisor.pause_answer(turn.now, is_last),
            };
            let answers: Vec<_> = waits.names.iter().map(answer).collect();
            match answers.into_iter().collect() {
                Some(entries) => turn.reply(waits.conn, PauseReply { entries }.encode()),
                None => self.waiting.push(waits),
            }
        }
    }

    fn on_set_role(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        proof: &Proof,
        (role, force): (Role, bool),
        names: &[String],
    ) {
        let asked_by = proof.caller.to_string();
        let mut entries = Vec::new();
        let Some(selected) = self.select(turn, conn, proof, names) else { return };
        for (name, found) in selected {
            let outcome = match found {
                None => Err(ErrorCode::NoEntry),
                Some(at) => self.set_role(turn, at, proof, (role, force), &asked_by),
            };
            if outcome == Err(ErrorCode::Authentication) {
                let why = alloc::format!("set role {role} for {name}: not signed with a configured key");
                turn.refused(&proof.caller, why);
            }
            entries.push(Entry { resource: name, outcome: outcome.map_err(ErrorCode::to_wire) });
        }
        turn.reply(conn, Reply::Entries(entries).encode());
    }

    /// Over the network a role is set only by who proves to have the key: an address alone is too easily borrowed.
    fn set_role(
        &mut self,
        turn: &mut Turn<'_>,
        at: usize,
        proof: &Proof,
        (role, force): (Role, bool),
        who: &str,
    ) -> Result<Role, ErrorCode> {
        if self.stopping {
            return Err(ErrorCode::Invalid);
        }
        let supervisor = self.resources.get(at).ok_or(ErrorCode::NoEntry)?;
        if supervisor.is_leaving() {
            return Err(ErrorCode::NoEntry);
        }
        let settings = supervisor.settings();
        let may = match proof.caller {
            Caller::ControlSocket(_) => true,
            Caller::Network { peer, .. } => {
                self.is_friend(peer.ip(), supervisor)
                    && settings.key.as_ref().is_some_and(|key| proof.verify(Some(key)).is_ok())
            }
        };
        if !may {
            return Err(ErrorCode::Authentication);
        }
        if supervisor.is_paused() {
            return Err(ErrorCode::Paused);
        }
        let before = supervisor.role();
        let command = alloc::format!("role {role}{}", if force { " --force" } else { "" });
        turn.commanded(Some(&settings.name), &command, &proof.caller);
        let reason = RoleReason::Operator(who.to_string());
        if force && role == Role::Primary && self.peers == PeerProtocol::Lease {
            self.on(turn, at, |supervisor, cx| supervisor.force(cx, reason));
        } else {
            self.on(turn, at, |supervisor, cx| supervisor.give_role(cx, role, reason));
        }
        Ok(before)
    }

    fn on_status(&mut self, turn: &mut Turn<'_>, conn: ConnId, proof: &Proof, names: &[String]) {
        let mut entries = Vec::new();
        let mut unproven = None;
        let Some(selected) = self.select(turn, conn, proof, names) else { return };
        for (resource, found) in selected {
            let Some((at, supervisor)) = found.and_then(|at| Some((at, self.resources.get(at)?))) else {
                if proof.caller.is_local() {
                    entries.push(Entry { resource, outcome: Err(ErrorCode::NoEntry.to_wire()) });
                }
                continue;
            };
            if let Caller::Network { peer, .. } = proof.caller {
                if !self.is_friend(peer.ip(), supervisor) {
                    continue;
                }
                if let Err(why) = proof.verify(supervisor.settings().key.as_ref()) {
                    unproven = Some((resource, why));
                    continue;
                }
            }
            let mut status = self.status_of(turn.now, supervisor);
            if !proof.caller.is_local() {
                // An original asks, and is answered as it expects.
                (status.lines, status.detail) = (Vec::new(), None);
            }
            entries.push(Entry { resource, outcome: Ok(status) });
            if !proof.caller.is_local() {
                self.on(turn, at, |supervisor, cx| supervisor.on_polled(cx));
            }
        }
        match unproven {
            Some((resource, why)) if entries.is_empty() => {
                turn.refused(&proof.caller, alloc::format!("status of {resource}: {why}"));
                turn.reply(conn, StatusReply::Failed(ErrorCode::Authentication.to_wire()).encode());
            }
            None if entries.is_empty() && !proof.caller.is_local() => {
                turn.refused(
                    &proof.caller,
                    alloc::format!("status of {}: no such resource, or not its friend", names.join(" ")),
                );
                turn.close(conn);
            }
            Some(_) | None => turn.reply(conn, Reply::Entries(entries).encode()),
        }
    }

    fn on_complaint(&mut self, turn: &mut Turn<'_>, proof: &Proof, name: &str) {
        let Caller::Network { peer, .. } = proof.caller else { return };
        let verdict = match self.find(name) {
            None => Err(Refusal::NotConfigured),
            Some((_, supervisor)) if !self.is_friend(peer.ip(), supervisor) => Err(Refusal::NoAccess),
            Some((at, supervisor)) => proof.verify(supervisor.settings().key.as_ref()).map(|()| at),
        };
        match verdict {
            Ok(at) => {
                self.on(turn, at, |supervisor, cx| supervisor.on_complaint(cx, peer.ip().to_canonical().to_string()))
            }
            Err(why) => turn.refused(&proof.caller, alloc::format!("complaint about {name}: {why}")),
        }
    }

    /// Only a `remote` of the resource may be its primary.
    fn may_shake_hands(&self, proof: &Proof, name: &str) -> Result<(usize, Address), Refusal> {
        let (at, supervisor) = self.find(name).ok_or(Refusal::NotConfigured)?;
        let Caller::Network { peer, .. } = proof.caller else { return Err(Refusal::NoAccess) };
        let settings = supervisor.settings();
        let remote = settings.remotes.iter().find(|remote| self.stands_for(remote, peer.ip()));
        let remote = remote.cloned().ok_or(Refusal::NoAccess)?;
        proof.verify(settings.key.as_ref())?;
        Ok((at, remote))
    }

    /// A caller that may ask about the resource.
    fn is_friend(&self, address: IpAddr, supervisor: &Supervisor) -> bool {
        let settings = supervisor.settings();
        [&settings.remotes, &settings.friends, &self.config.friends].iter().any(|list| self.is_one_of(address, list))
    }

    /// The resources that a request names, with their places; `None` when they are too many, which the caller is told.
    fn select(
        &self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        proof: &Proof,
        names: &[String],
    ) -> Option<Vec<(String, Option<usize>)>> {
        let selected: Vec<_> = if names.iter().any(|name| name == ALL_RESOURCES) {
            let all = self.resources.iter().enumerate();
            all.map(|(at, supervisor)| (supervisor.settings().name.clone(), Some(at))).collect()
        } else {
            // hastmonctl is answered as often as it asks, as in hastmon 0.3; who is on the network asks once for each.
            let mut seen = BTreeSet::new();
            let names = names.iter().filter(|name| proof.caller.is_local() || seen.insert(*name));
            names.map(|name| (name.clone(), self.find(name).map(|(at, _)| at))).collect()
        };
        if proof.caller.is_local() || selected.len() <= MAX_ASKED {
            return Some(selected);
        }
        let why = alloc::format!("it asks for {} resources at once; {MAX_ASKED} are allowed", selected.len());
        turn.refused(&proof.caller, why);
        turn.reply(conn, RoleReply::Failed(ErrorCode::Invalid.to_wire()).encode());
        None
    }

    /// What it waits for that waits for its turn, in words.
    pub(crate) fn why_no_turn(&self, supervisor: &Supervisor) -> Option<String> {
        supervisor.waits_for_turn().then(|| self.resources.turns().told(self.config.max_hooks))
    }

    fn status_of(&self, now: Instant, supervisor: &Supervisor) -> ResourceStatus {
        let settings = supervisor.settings();
        let report = supervisor.report();
        let remote_status = |(at, address): (usize, &Address)| {
            let known = report.and_then(|report| report.remotes.get(at));
            let (state, role) = match known {
                None => (None, None),
                Some(RemoteReport::Connected(true)) => (Some("connected".to_string()), None),
                Some(RemoteReport::Connected(false)) => (Some("disconnected".to_string()), None),
                Some(RemoteReport::Polled(role, state)) => {
                    (Some(state.to_string()), Some(role.map_or("unknown", Role::as_str).to_string()))
                }
            };
            RemoteStatus { addr: address.to_string(), state, role }
        };
        let detail = crate::status::detail(now, supervisor, self.why_no_turn(supervisor));
        ResourceStatus {
            exec: settings.exec.clone(),
            attempts_max: settings.attempts,
            remotes: settings.remotes.iter().enumerate().map(remote_status).collect(),
            role: supervisor.role(),
            workerpid: supervisor.worker().and_then(|id| self.pids.get(&id)).copied().unwrap_or(0),
            complaints: supervisor.complaints(now),
            complaints_critical: settings.complaint_count,
            complaints_interval: settings.complaint_interval,
            heartbeat: settings.heartbeat_interval,
            worker: report.map(|report| WorkerStatus { state: report.state, attempts: report.attempts }),
            stuck_for: supervisor.stuck_for(now),
            lines: crate::status::lines(supervisor.role(), &detail),
            detail: Some(detail),
        }
    }

    fn on_resolved(&mut self, turn: &mut Turn<'_>, name: String, found: Result<Vec<IpAddr>, String>) {
        match found {
            Ok(addresses) => {
                if self.unknown.remove(&name) {
                    let (name, addresses) = (name.clone(), addresses.clone());
                    turn.out.push(Action::Event(None, Event::NameKnown { name, addresses }));
                }
                self.names.insert(name, addresses);
            }
            // Once: it is looked up again and again.
            Err(why) => {
                if self.unknown.insert(name.clone()) {
                    let uses = |supervisor: &&Supervisor| {
                        let settings = supervisor.settings();
                        let mut addresses = settings.remotes.iter().chain(&settings.friends);
                        addresses.any(|address| matches!(&address.host, Host::Name(used) if *used == name))
                    };
                    let resources = self.resources.iter().filter(uses).map(|s| s.settings().name.clone()).collect();
                    let was_known = self.names.contains_key(&name);
                    turn.out.push(Action::Event(None, Event::NameUnknown { why, resources, was_known }));
                }
            }
        }
    }
}

/// One call of [`Daemon::handle`].
struct Turn<'a> {
    now: Instant,
    out: &'a mut Vec<Action>,
}

impl Turn<'_> {
    fn refused(&mut self, caller: &impl ToString, why: String) {
        self.out.push(Action::Event(None, Event::CallerRefused { caller: caller.to_string(), why }));
    }

    fn commanded(&mut self, resource: Option<&str>, command: &str, who: &impl ToString) {
        let event = Event::Commanded { command: command.to_string(), who: who.to_string() };
        self.out.push(Action::Event(resource.map(ToString::to_string), event));
    }

    fn refuse_hello(&mut self, conn: ConnId, why: String) {
        self.reply(conn, Answer::Refused { errmsg: why, priority: None }.encode());
    }

    fn refuse_handshake(&mut self, conn: ConnId, caller: Caller, resource: &str, refusal: Refusal) {
        self.refused(&caller, alloc::format!("handshake for {resource}: {refusal}"));
        self.reply(conn, Answer::from(refusal).encode());
    }

    fn reply(&mut self, conn: ConnId, message: List) {
        self.out.push(Action::Reply { conn, message, keep: false });
    }

    fn reply_to_reload(&mut self, caller: Option<ConnId>, reply: &ReloadReply) {
        caller.into_iter().for_each(|conn| self.reply(conn, reply.encode()));
    }

    fn close(&mut self, conn: ConnId) {
        self.out.push(Action::Close(conn));
    }
}

/// What a new configuration changes.
#[derive(Debug, Default)]
struct Changes {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
    unchanged: usize,
}

/// Names of one kind of change that are told: more do not help to see what happened.
const MAX_NAMES: usize = 10;

impl core::fmt::Display for Changes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (what, names) in [("added", &self.added), ("removed", &self.removed), ("changed", &self.changed)] {
            if !names.is_empty() {
                let shown: Vec<&str> = names.iter().take(MAX_NAMES).map(String::as_str).collect();
                let more = if names.len() > MAX_NAMES { ", ..." } else { "" };
                write!(f, "{} {what} ({}{more}), ", names.len(), shown.join(", "))?;
            }
        }
        write!(f, "{} as before", self.unchanged)
    }
}

/// What a caller shows to be believed.
struct Proof {
    caller: Caller,
    signature: Option<Signature>,
    unix_now_s: u64,
}

impl Proof {
    /// Without a key everybody with the right address is believed; with one, who signs with it.
    fn verify(&self, key: Option<&Key>) -> Result<(), Refusal> {
        let (Some(key), Caller::Network { peer, local }) = (key, self.caller) else { return Ok(()) };
        let signature = self.signature.as_ref().ok_or(Refusal::NotSigned)?;
        Ok(signature.verify(key.algorithm, key.secret.as_bytes(), self.unix_now_s, peer, local)?)
    }
}

impl core::fmt::Display for Caller {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::ControlSocket(None) => f.write_str("hastmonctl"),
            Self::ControlSocket(Some(Operator { uid, pid: None })) => write!(f, "hastmonctl (uid {uid})"),
            Self::ControlSocket(Some(Operator { uid, pid: Some(pid) })) => {
                write!(f, "hastmonctl (uid {uid}, pid {pid})")
            }
            Self::Network { peer, .. } => write!(f, "{}", peer.ip().to_canonical()),
        }
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
