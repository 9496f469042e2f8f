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
use crate::rate_limit::RateLimit;
use crate::supervisor::{Context, Supervisor, WorkerExit};
use crate::time::Instant;
use crate::types::{ErrorCode, Role};
use crate::wire::nv::List;
use crate::wire::reply::{Entry, RemoteStatus, Reply, ResourceStatus, RoleReply, StatusReply, WorkerStatus};
use crate::wire::request::{ALL_RESOURCES, Request};
use crate::wire::session::{Answer, Refusal};
use crate::wire::signature::Signature;
use crate::worker::{Assignment, LinkId, Order, RemoteReport, Report};

/// Names a connection that somebody made to this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Names a worker process; never used twice within a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who may open the control socket: hastmonctl.
    ControlSocket,
    /// Somebody on the network.
    Network {
        /// The caller's end of the connection.
        peer: SocketAddr,
        /// Our end.
        local: SocketAddr,
    },
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
    /// Somebody was sent away unheard.
    Refused(IpAddr, String),
    /// A new configuration, already checked.
    Reload(Box<Config>),
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
    /// Tell the administrator, of the named resource or of the daemon as a whole.
    Event(Option<String>, Event),
    /// All is stopped.
    Exit,
}

/// The main daemon.
#[derive(Debug)]
pub struct Daemon {
    config: Config,
    resources: Vec<Supervisor>,
    pids: BTreeMap<WorkerId, u32>,
    /// What the names of the configuration stand for.
    names: BTreeMap<String, Vec<IpAddr>>,
    /// Names that stand for nothing, as told to the administrator.
    unknown: BTreeSet<String>,
    next_id: u64,
    refusals: RateLimit,
    stopping: bool,
}

impl Daemon {
    /// A daemon that takes up `role_on_start` for each resource.
    pub fn new(now: Instant, config: Config) -> (Self, Vec<Action>) {
        let mut daemon = Self {
            config: Config { resources: Vec::new(), ..config.clone() },
            resources: Vec::new(),
            pids: BTreeMap::new(),
            names: BTreeMap::new(),
            unknown: BTreeSet::new(),
            next_id: 0,
            refusals: RateLimit::default(),
            stopping: false,
        };
        let actions = daemon.handle(now, Input::Reload(Box::new(config)));
        (daemon, actions)
    }

    /// Something happened: what shall be done?
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        let mut turn = Turn { now, out: &mut out };
        match input {
            Input::Timer => {}
            Input::Message { conn, caller, message, unix_now_s, random } => {
                self.on_message(&mut turn, conn, caller, &message, unix_now_s, random);
            }
            Input::WorkerStarted(id, pid) => {
                if self.of_worker(&mut turn, id).is_some() {
                    self.pids.insert(id, pid);
                }
            }
            Input::Report(id, report) => {
                if let Some((supervisor, _)) = self.of_worker(&mut turn, id) {
                    supervisor.on_report(id, report);
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
            Input::Refused(address, why) => self.refused(&mut turn, &address, why),
            Input::Reload(_) if self.stopping => {}
            Input::Reload(config) => self.reload(&mut turn, *config),
            Input::Stop => {
                self.stopping = true;
                self.each(&mut turn, |supervisor, cx| supervisor.leave(cx, "hastmon is told to stop"));
            }
        }
        self.each(&mut turn, |supervisor, cx| supervisor.on_timer(cx));
        self.resources.retain(|supervisor| !supervisor.is_gone());
        if self.stopping && self.resources.is_empty() {
            out.push(Action::Exit);
        }
        out
    }

    /// When [`handle`](Self::handle) wants to be called with [`Input::Timer`] at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.resources.iter().filter_map(Supervisor::next_deadline).min()
    }

    /// The configuration in force (without its resources, which [`resources`](Self::resources) tells).
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The resources, in the order of the configuration.
    pub fn resources(&self) -> &[Supervisor] {
        &self.resources
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
        let supervisor = self.resources.iter_mut().find(|supervisor| supervisor.worker() == Some(id))?;
        Some((supervisor, Context { now: turn.now, next_id: &mut self.next_id, out: turn.out }))
    }

    fn each(&mut self, turn: &mut Turn<'_>, mut act: impl FnMut(&mut Supervisor, &mut Context<'_>)) {
        let mut cx = Context { now: turn.now, next_id: &mut self.next_id, out: turn.out };
        for supervisor in &mut self.resources {
            act(supervisor, &mut cx);
        }
    }

    fn on(&mut self, turn: &mut Turn<'_>, at: usize, act: impl FnOnce(&mut Supervisor, &mut Context<'_>)) {
        let mut cx = Context { now: turn.now, next_id: &mut self.next_id, out: turn.out };
        if let Some(supervisor) = self.resources.get_mut(at) {
            act(supervisor, &mut cx);
        }
    }

    fn find(&self, name: &str) -> Option<(usize, &Supervisor)> {
        self.resources.iter().enumerate().find(|(_, supervisor)| supervisor.settings().name == name)
    }

    fn reload(&mut self, turn: &mut Turn<'_>, mut config: Config) {
        let wanted = core::mem::take(&mut config.resources).into_iter().enumerate();
        let mut wanted: BTreeMap<String, _> =
            wanted.map(|(place, settings)| (settings.name.clone(), (place, settings))).collect();
        self.config = config;
        let mut cx = Context { now: turn.now, next_id: &mut self.next_id, out: turn.out };
        let mut places = BTreeMap::new();
        for supervisor in &mut self.resources {
            match wanted.remove(&supervisor.settings().name) {
                Some((place, settings)) => {
                    places.insert(settings.name.clone(), place);
                    supervisor.reconfigure(&mut cx, settings);
                }
                None => supervisor.leave(&mut cx, "the resource has left the configuration"),
            }
        }
        for (name, (place, settings)) in wanted {
            let role = settings.role_on_start;
            let mut supervisor = Supervisor::new(settings);
            supervisor.set_role(&mut cx, role, RoleReason::Start);
            self.resources.push(supervisor);
            places.insert(name, place);
        }
        // As in the configuration; those that leave come last.
        self.resources.sort_by_key(|supervisor| places.get(&supervisor.settings().name).copied().unwrap_or(usize::MAX));
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
                self.refused(turn, &caller, error.to_string());
                return match error.answer() {
                    Some(code) => turn.reply(conn, RoleReply::Failed(code.to_wire()).encode()),
                    None => turn.close(conn),
                };
            }
        };
        match request {
            Request::SetRole { role, resources } => self.on_set_role(turn, conn, &proof, role, &resources),
            Request::Status { resources } => self.on_status(turn, conn, &proof, &resources),
            Request::Complaint { resource } => {
                turn.close(conn);
                self.on_complaint(turn, &proof, &resource);
            }
            Request::Handshake { resource, priority } => match self.may_shake_hands(&proof, &resource) {
                Ok((at, remote)) => self.on(turn, at, |supervisor, cx| {
                    supervisor.on_handshake(cx, conn, remote, priority, random);
                }),
                Err(refusal) => self.refuse(turn, conn, caller, &resource, refusal),
            },
            Request::HandshakeToken { resource, token, resuid } => match self.may_shake_hands(&proof, &resource) {
                Ok((at, remote)) => self.on(turn, at, |supervisor, cx| {
                    supervisor.on_token(cx, conn, &remote, &token, resuid);
                }),
                Err(refusal) => self.refuse(turn, conn, caller, &resource, refusal),
            },
        }
    }

    fn on_set_role(&mut self, turn: &mut Turn<'_>, conn: ConnId, proof: &Proof, role: Role, names: &[String]) {
        let asked_by = proof.caller.to_string();
        let mut entries = Vec::new();
        for (name, found) in self.select(names) {
            let outcome = match found {
                None => Err(ErrorCode::NoEntry),
                Some(at) => self.set_role(turn, at, proof, role, &asked_by),
            };
            if outcome == Err(ErrorCode::Authentication) {
                let why = alloc::format!("set role {role} for {name}: not signed with a configured key");
                self.refused(turn, &proof.caller, why);
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
        role: Role,
        who: &str,
    ) -> Result<Role, ErrorCode> {
        let supervisor = self.resources.get(at).ok_or(ErrorCode::NoEntry)?;
        let settings = supervisor.settings();
        let may = match proof.caller {
            Caller::ControlSocket => true,
            Caller::Network { peer, .. } => {
                self.is_friend(peer.ip(), supervisor)
                    && settings.key.as_ref().is_some_and(|key| proof.verify(Some(key)).is_ok())
            }
        };
        if !may {
            return Err(ErrorCode::Authentication);
        }
        let before = supervisor.role();
        self.on(turn, at, |supervisor, cx| supervisor.set_role(cx, role, RoleReason::Operator(who.to_string())));
        Ok(before)
    }

    fn on_status(&mut self, turn: &mut Turn<'_>, conn: ConnId, proof: &Proof, names: &[String]) {
        let mut entries = Vec::new();
        let mut unproven = None;
        for (resource, found) in self.select(names) {
            let Some((at, supervisor)) = found.and_then(|at| Some((at, self.resources.get(at)?))) else {
                if proof.caller == Caller::ControlSocket {
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
            entries.push(Entry { resource, outcome: Ok(self.status_of(turn.now, supervisor)) });
            if proof.caller != Caller::ControlSocket {
                self.on(turn, at, |supervisor, cx| supervisor.on_polled(cx));
            }
        }
        match unproven {
            Some((resource, why)) if entries.is_empty() => {
                self.refused(turn, &proof.caller, alloc::format!("status of {resource}: {why}"));
                turn.reply(conn, StatusReply::Failed(ErrorCode::Authentication.to_wire()).encode());
            }
            None if entries.is_empty() && proof.caller != Caller::ControlSocket => {
                self.refused(
                    turn,
                    &proof.caller,
                    alloc::format!("status of {}: not one of its friends", names.join(" ")),
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
            Err(why) => self.refused(turn, &proof.caller, alloc::format!("complaint about {name}: {why}")),
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

    /// The resources that a request names, with their places.
    fn select(&self, names: &[String]) -> Vec<(String, Option<usize>)> {
        if names.iter().any(|name| name == ALL_RESOURCES) {
            let all = self.resources.iter().enumerate();
            return all.map(|(at, supervisor)| (supervisor.settings().name.clone(), Some(at))).collect();
        }
        names.iter().map(|name| (name.clone(), self.find(name).map(|(at, _)| at))).collect()
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
        }
    }

    fn on_resolved(&mut self, turn: &mut Turn<'_>, name: String, found: Result<Vec<IpAddr>, String>) {
        match found {
            Ok(addresses) => {
                self.unknown.remove(&name);
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
                    turn.out.push(Action::Event(None, Event::NameUnknown { why, resources }));
                }
            }
        }
    }

    fn refuse(&mut self, turn: &mut Turn<'_>, conn: ConnId, caller: Caller, resource: &str, refusal: Refusal) {
        self.refused(turn, &caller, alloc::format!("handshake for {resource}: {refusal}"));
        turn.reply(conn, Answer::from(refusal).encode());
    }

    fn refused(&mut self, turn: &mut Turn<'_>, caller: &impl ToString, why: String) {
        if let Some(left_out) = self.refusals.admit(turn.now) {
            turn.out.push(Action::Event(None, Event::CallerRefused { caller: caller.to_string(), why, left_out }));
        }
    }
}

/// One call of [`Daemon::handle`].
struct Turn<'a> {
    now: Instant,
    out: &'a mut Vec<Action>,
}

impl Turn<'_> {
    fn reply(&mut self, conn: ConnId, message: List) {
        self.out.push(Action::Reply { conn, message, keep: false });
    }

    fn close(&mut self, conn: ConnId) {
        self.out.push(Action::Close(conn));
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
            Self::ControlSocket => f.write_str("hastmonctl"),
            Self::Network { peer, .. } => write!(f, "{}", peer.ip().to_canonical()),
        }
    }
}

#[cfg(test)]
mod tests;
