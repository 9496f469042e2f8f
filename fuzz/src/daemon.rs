//! A main daemon among hostile callers, and a process around it that does what it is told and tells no lies. What must hold whatever they say:
//!
//! - nobody changes a role over the network but by a signed request, by the handshake of a primary, and by enough complaints of friends; nobody
//!   becomes primary but by the first and the last of these, and with a key not without having it;
//! - who is in no `friends` and no `remote` gets a refusal and changes nothing;
//! - every connection is answered, closed or handed over, once, and few wait for that;
//! - a resource has one worker at a time, in its role or told to end, and only a worker that lives is told anything;
//! - what one message causes is bounded, and the answer to it fits its frame;
//! - no secret is shown, and no deadline lies in the past.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::OnceLock;

use hastmon_core::config::{Config, Resource};
use hastmon_core::daemon::{Action, Caller, ConnId, Daemon, Input as DaemonInput, PeerProtocol, WorkerId};
use hastmon_core::event::{Event, GiveUp, RoleReason};
use hastmon_core::supervisor::{MAX_HALF_OPEN, Supervisor, WorkerExit};
use hastmon_core::time::{Duration, Instant};
use hastmon_core::types::{Role, State};
use hastmon_core::wire::frame::{self, CONTROL_LIMIT, NETWORK_LIMIT, Version};
use hastmon_core::wire::nv::List;
use hastmon_core::wire::request::{Request, Via};
use hastmon_core::wire::session::Answer;
use hastmon_core::wire::signature::Signature;
use hastmon_core::worker::{Farewell, LinkId, Order, RemoteReport, Report};

use super::input::Input;

const SECRET: &str = "hunter2hunter2";
const NAMED_FRIEND: &str = "watch.example";
const RESOURCES: [&str; 5] = ["res", "sql", "www", "nosuch", "all"];

const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const FRIEND: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3));
const RESOLVED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 4));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 66));
const STRANGER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x66));
/// The remote, as an IPv6 socket names it.
const MAPPED: IpAddr = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 2).to_ipv6_mapped());
const PEERS: [IpAddr; 8] = [REMOTE, FRIEND, RESOLVED, STRANGER, STRANGER6, MAPPED, REMOTE, FRIEND];

const STEPS_MS: [u64; 8] = [0, 1, 100, 500, 1_000, 2_000, 10_000, 120_000];
/// Steps of one run: longer ones find nothing that this many do not.
const MAX_STEPS: usize = 400;
/// What a call may want done for each resource, and besides.
const MAX_ACTIONS: usize = 16;
/// Steps that the way to the end may take: two workers for each resource, and the pauses between them.
const MAX_LAST_STEPS: usize = 20;
/// Callers on the control socket that may wait for one reload.
const MAX_RELOAD_CALLERS: usize = 16;
/// The daemon as a text for debugging: more is a leak.
const MAX_DEBUG_BYTES: usize = 256 << 10;

/// The first byte says whether there is a key, or that there is a lease; the others are steps.
pub fn daemon(data: &[u8]) {
    if let Some((&super::lease::MARK, data)) = data.split_first() {
        return super::lease::daemon(data);
    }
    let mut input = Input::new(data);
    let mut world = World::new(input.flag());
    for _ in 0..MAX_STEPS {
        if input.is_empty() || world.exited {
            break;
        }
        world.step(&mut input);
    }
    world.leave();
}

/// The configurations without and with a key, the first in force and the others to be loaded later.
fn configs(with_key: bool) -> &'static [Config] {
    static CONFIGS: [OnceLock<Vec<Config>>; 2] = [OnceLock::new(), OnceLock::new()];
    CONFIGS[usize::from(with_key)].get_or_init(|| {
        let key = if with_key { format!("key {{ algorithm SHA256 secret {SECRET} }}\n") } else { String::new() };
        let top = "timeout 2\nheartbeat_interval 1\ncomplaint_count 2\ncomplaint_interval 30\nexec /run\n";
        let nodes =
            "on a { remote tcp4://192.0.2.2 friends 192.0.2.3 PRIORITY } on b { remote none } on w { remote none }";
        let resource = |name: &str, role: &str, priority: &str| {
            format!("resource {name} {{ role_on_start {role}\n {} }}\n", nodes.replace("PRIORITY", priority))
        };
        let res = resource("res", "secondary", "priority 10");
        let sql = resource("sql", "primary", "");
        let www = resource("www", "watchdog", "").replace("192.0.2.3", NAMED_FRIEND);
        let text = |resources: &[&str]| [top, &key, &resources.concat()].concat();
        let texts = [
            text(&[&res, &sql, &www]),
            text(&[&res, &www]),
            text(&[&res.replace("secondary\n", "secondary\n exec /other\n"), &sql, &www]),
            text(&[&sql.replace("primary", "init"), &res.replace("secondary", "primary")]),
            text(&[&sql, &res]).replace("complaint_count 2", "complaint_count 0"),
            text(&[]) + &format!("friends {NAMED_FRIEND}\n"),
        ];
        texts.iter().map(|text| super::valid(text)).collect()
    })
}

struct Worker {
    resource: String,
    role: Role,
    told_to_end: bool,
}

/// A connection that waits for the daemon to do something.
struct Open {
    peer: Option<IpAddr>,
    /// Signed with the key, where there is one.
    is_proven: bool,
    resource: Option<String>,
}

struct World {
    with_key: bool,
    daemon: Daemon,
    now: Instant,
    unix_now_s: u64,
    last_conn: u64,
    last_id: u64,
    open: BTreeMap<ConnId, Open>,
    workers: BTreeMap<WorkerId, Worker>,
    /// Tokens that were given to somebody, and the one that somebody presents now.
    tokens: Vec<(ConnId, [u8; 16])>,
    presented: Option<[u8; 16]>,
    /// Connections that were handed over, and those of them that are served, by resource.
    links: Vec<(WorkerId, LinkId)>,
    served: BTreeMap<String, LinkId>,
    /// The configuration is being read.
    is_loading: bool,
    is_resolved: bool,
    is_stopping: bool,
    exited: bool,
    /// Complaints that count, by resource.
    heard: BTreeMap<String, Vec<Instant>>,
}

impl World {
    fn new(with_key: bool) -> Self {
        let now = Instant::from_nanos(1_000_000_000_000);
        let config = configs(with_key)[0].clone();
        let (daemon, actions) = Daemon::new(now, config, PeerProtocol::Legacy, 1);
        let mut world = Self {
            with_key,
            daemon,
            now,
            unix_now_s: 1_700_000_000,
            last_conn: 0,
            last_id: 0,
            open: BTreeMap::new(),
            workers: BTreeMap::new(),
            tokens: Vec::new(),
            presented: None,
            links: Vec::new(),
            served: BTreeMap::new(),
            is_loading: false,
            is_resolved: false,
            is_stopping: false,
            exited: false,
            heard: BTreeMap::new(),
        };
        world.carry_out(actions);
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 | 1 => {
                let step_ms = input.one_of(&STEPS_MS).unwrap_or_default();
                self.now = self.now + Duration::from_millis(step_ms);
                self.unix_now_s += step_ms / 1_000;
                self.tell(DaemonInput::Timer);
            }
            2 => {
                self.now = self.daemon.next_deadline().unwrap_or(self.now).max(self.now);
                self.tell(DaemonInput::Timer);
            }
            3 => {
                let size = usize::from(input.byte()) * 8;
                if let Ok(list) = List::decode(input.bytes(size)) {
                    self.hear(input, list);
                }
            }
            4..=7 => {
                let request = self.request(input);
                let list = self.written(input, &request);
                self.hear(input, list);
            }
            8 => {
                let list = input.list();
                self.hear(input, list);
            }
            9 => self.operate(input),
            10 => self.report(input),
            11 => {
                let id = self.some_worker(input);
                self.tell(DaemonInput::WorkerStarted(id, 4711));
            }
            12 => self.end_worker(input),
            13 => self.resolve(input),
            14 => {
                let some = configs(self.with_key);
                let config = some[input.below(some.len())].clone();
                if !self.is_loading {
                    self.tell(DaemonInput::Hangup);
                }
                if input.flag() {
                    self.fail_to_load();
                } else if self.is_loading {
                    self.is_loading = false;
                    self.change_roles(|world| world.tell(DaemonInput::Reload(Box::new(config))), |_, _| true);
                }
            }
            _ if input.byte() == 0x55 => {
                self.is_stopping = true;
                self.tell(DaemonInput::Stop);
            }
            _ => {}
        }
    }

    fn fail_to_load(&mut self) {
        if std::mem::take(&mut self.is_loading) {
            self.tell(DaemonInput::ReloadFailed { why: "it is faulty".into(), report: "it is\nfaulty".into() });
        }
    }

    /// A request that makes sense, but for what is in it.
    fn request(&self, input: &mut Input<'_>) -> Request {
        let resource = input.one_of(&RESOURCES).unwrap_or_default().to_string();
        match input.byte() % 9 {
            0 | 1 => {
                let priority = input.one_of(&[0, 9, 10, 11, 99, 100, 101, -1]).unwrap_or_default();
                Request::Handshake { resource, priority }
            }
            2 | 3 => {
                let token =
                    if input.flag() { self.tokens.last().map_or([0; 16], |(_, token)| *token) } else { input.array() };
                Request::HandshakeToken { resource, token, resuid: input.int64() }
            }
            4 | 5 => Request::Complaint { resource },
            6 => Request::SetRole {
                role: input.one_of(&Role::ALL).unwrap_or(Role::Init),
                resources: vec![resource],
                force: false,
            },
            7 => Request::Status { resources: vec![resource; input.below(255) + 1] },
            _ => Request::Reload,
        }
    }

    /// A request as a list: not signed, signed badly, or signed well for the connection that comes next.
    fn written(&self, input: &mut Input<'_>, request: &Request) -> List {
        let how = input.byte() % 4;
        let (peer, local) = ends(input.one_of(&PEERS).unwrap_or(STRANGER));
        let sign = |secret: &str, now_s| {
            let algorithm = hastmon_core::wire::signature::Algorithm::Sha256;
            Signature::new(algorithm, secret.as_bytes(), now_s, peer, local)
        };
        match how {
            0 => request.encode(Via::Network(None)),
            1 => request.encode(Via::Network(Some(&sign("another secret", self.unix_now_s)))),
            2 => request.encode(Via::Network(Some(&sign(SECRET, self.unix_now_s - u64::from(input.byte()))))),
            _ => request.encode(Via::Network(Some(&Signature {
                now_s: self.unix_now_s,
                auth_hash: input.array::<32>().to_vec(),
            }))),
        }
    }

    /// Somebody on the network says something.
    fn hear(&mut self, input: &mut Input<'_>, message: List) {
        let ip = input.one_of(&PEERS).unwrap_or(STRANGER);
        let (peer, local) = ends(ip);
        let request = Request::decode(&message).ok();
        let algorithm = hastmon_core::wire::signature::Algorithm::Sha256;
        let is_signed = Signature::decode(&message).is_some_and(|signature| {
            signature.verify(algorithm, SECRET.as_bytes(), self.unix_now_s, peer, local).is_ok()
        });
        let has_key = self.with_key && is_signed;
        let is_proven = !self.with_key || is_signed;

        // What is due anyway is not the message's doing.
        self.tell(DaemonInput::Timer);
        let resource = request.as_ref().and_then(resource_of);
        let is_heard = is_proven && resource.as_ref().is_some_and(|resource| self.is_friend(resource, ip));
        if let (Some(Request::Complaint { resource }), true) = (&request, is_heard) {
            self.heard.entry(resource.clone()).or_default().push(self.now);
        }
        self.presented = match &request {
            Some(Request::HandshakeToken { token, .. }) => Some(*token),
            _ => None,
        };
        let is_known = self.daemon.knows(ip);
        let before: Vec<_> = self.daemon.resources().iter().map(snapshot).collect();
        let conn = self.accept(Some(ip), is_proven, resource);
        let caller = Caller::Network { peer, local };
        let input = DaemonInput::Message { conn, caller, message, unix_now_s: self.unix_now_s, random: input.array() };
        let actions = self.daemon.handle(self.now, input);
        if !is_known {
            assert!(actions.iter().all(|action| is_refusal(action, conn)), "to a stranger: {actions:?}");
            assert!(!self.daemon_changed(&before), "a stranger changed something");
        }
        let may = |world: &Self, name: &str, old: Role, new: Role| match &request {
            Some(Request::SetRole { role, .. }) => has_key && *role == new && world.is_friend(name, ip),
            Some(Request::Handshake { resource, .. }) => {
                is_proven
                    && resource == name
                    && old == Role::Primary
                    && new != Role::Primary
                    && ip.to_canonical() == REMOTE
            }
            Some(Request::Complaint { resource }) => {
                is_heard
                    && resource == name
                    && (old, new) == (Role::Secondary, Role::Primary)
                    && world.is_due_takeover(name)
            }
            _ => false,
        };
        self.check_roles(&before, &may);
        self.carry_out(actions);
    }

    /// hastmonctl says something.
    fn operate(&mut self, input: &mut Input<'_>) {
        let request = self.request(input);
        let message = if input.flag() { input.list() } else { request.encode(Via::ControlSocket) };
        let conn = self.accept(None, true, None);
        let (unix_now_s, random) = (self.unix_now_s, [7; 16]);
        let caller = Caller::ControlSocket(None);
        let is_set_role = matches!(Request::decode(&message), Ok(Request::SetRole { .. }));
        self.change_roles(
            |world| world.tell(DaemonInput::Message { conn, caller, message, unix_now_s, random }),
            |_, _| is_set_role,
        );
    }

    fn accept(&mut self, peer: Option<IpAddr>, is_proven: bool, resource: Option<String>) -> ConnId {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        self.open.insert(conn, Open { peer, is_proven, resource });
        conn
    }

    fn some_worker(&self, input: &mut Input<'_>) -> WorkerId {
        let known: Vec<_> = self.workers.keys().copied().collect();
        input.one_of(&known).unwrap_or_else(|| WorkerId(input.byte().into()))
    }

    fn report(&mut self, input: &mut Input<'_>) {
        let id = self.some_worker(input);
        if input.flag() {
            let link = input.one_of(&self.links).unwrap_or_else(|| (id, LinkId(input.int64())));
            self.links.retain(|known| *known != link);
            self.served.retain(|_, served| *served != link.1);
            return self.tell(DaemonInput::PrimaryGone(link.0, link.1));
        }
        let remote = match input.byte() % 4 {
            0 => RemoteReport::Connected(false),
            1 => RemoteReport::Connected(true),
            2 => RemoteReport::Polled(None, State::Unknown),
            _ => RemoteReport::Polled(Some(Role::Primary), State::Run),
        };
        let state = input.one_of(&State::ALL).unwrap_or_default();
        let remotes = vec![remote; input.below(3)];
        let report = Report {
            state,
            attempts: input.byte().into(),
            remotes,
            complaints: input.byte().into(),
            lease: None,
            lateness: None,
            statuses: Vec::new(),
        };
        self.tell(DaemonInput::Report(id, report));
    }

    /// A worker ends, told or not. Nobody becomes primary by that.
    fn end_worker(&mut self, input: &mut Input<'_>) {
        let id = self.some_worker(input);
        let outranked = GiveUp::Outranked { remote: "b".into(), theirs: 1, ours: 2 };
        let exit = match input.byte() % 8 {
            0 | 1 => WorkerExit::Farewell(Farewell::AsOrdered),
            2 => WorkerExit::Farewell(Farewell::GaveUp(GiveUp::StartsFailed(5))),
            3 => WorkerExit::Farewell(Farewell::GaveUp(outranked)),
            4 => WorkerExit::Code(i32::from(input.byte())),
            5 => WorkerExit::Signal(9),
            6 => WorkerExit::Code(75),
            _ => WorkerExit::NotStarted("no processes left".into()),
        };
        self.finish_worker(id, exit);
    }

    fn finish_worker(&mut self, id: WorkerId, exit: WorkerExit) {
        self.workers.remove(&id);
        self.links.retain(|(worker, _)| *worker != id);
        self.served.retain(|_, link| self.links.iter().any(|(_, known)| known == link));
        self.change_roles(|world| world.tell(DaemonInput::WorkerExited(id, exit)), |_, new| new != Role::Primary);
    }

    fn resolve(&mut self, input: &mut Input<'_>) {
        match input.byte() % 4 {
            0 => {
                let peer = input.one_of(&PEERS).unwrap_or(STRANGER);
                let why = "it has too many connections".to_string();
                let is_known = self.daemon.knows(peer);
                self.tell(if is_known { DaemonInput::Refused(peer, why) } else { DaemonInput::Stranger(peer) });
            }
            1 => self.tell(DaemonInput::Resolved(NAMED_FRIEND.into(), Err("no such name".into()))),
            2 => self.tell(DaemonInput::Hangup),
            _ => {
                self.is_resolved = true;
                self.tell(DaemonInput::Resolved(NAMED_FRIEND.into(), Ok(vec![RESOLVED])));
            }
        }
    }

    /// Something happens that is no message: roles stay as they are.
    fn tell(&mut self, input: DaemonInput) {
        let may_change = !matches!(
            input,
            DaemonInput::Timer
                | DaemonInput::Resolved(..)
                | DaemonInput::Refused(..)
                | DaemonInput::Stranger(..)
                | DaemonInput::Hangup
                | DaemonInput::Report(..)
                | DaemonInput::PrimaryGone(..)
                | DaemonInput::ReloadFailed { .. }
        );
        let before: Vec<_> = self.daemon.resources().iter().map(snapshot).collect();
        let actions = self.daemon.handle(self.now, input);
        self.check_roles(&before, &|_, _, _, _| may_change);
        self.carry_out(actions);
    }

    fn change_roles(&mut self, act: impl FnOnce(&mut Self), may: impl Fn(Role, Role) -> bool) {
        let before: Vec<_> = self.daemon.resources().iter().map(snapshot).collect();
        act(self);
        self.check_roles(&before, &|_, _, old, new| may(old, new));
    }

    fn check_roles(&self, before: &[(String, Role, Option<WorkerId>)], may: &dyn Fn(&Self, &str, Role, Role) -> bool) {
        for (name, old, _) in before {
            let Some(supervisor) = self.daemon.resources().iter().find(|one| one.settings().name == *name) else {
                continue;
            };
            let new = supervisor.role();
            assert!(*old == new || may(self, name, *old, new), "{name} is {new} and was {old}");
        }
    }

    fn daemon_changed(&self, before: &[(String, Role, Option<WorkerId>)]) -> bool {
        !self.daemon.resources().iter().map(snapshot).eq(before.iter().cloned())
    }

    fn settings(&self, name: &str) -> Option<&Resource> {
        self.daemon.resources().iter().map(Supervisor::settings).find(|settings| settings.name == name)
    }

    /// By our own reading of the configuration.
    fn is_friend(&self, name: &str, ip: IpAddr) -> bool {
        let Some(settings) = self.settings(name) else { return false };
        let in_its_list = |text: &str| settings.friends.iter().any(|friend| friend.text == text);
        match ip.to_canonical() {
            REMOTE => true,
            FRIEND => in_its_list("192.0.2.3"),
            RESOLVED => {
                let of_all = self.daemon.config().friends.iter().any(|friend| friend.text == NAMED_FRIEND);
                self.is_resolved && (of_all || in_its_list(NAMED_FRIEND))
            }
            _ => false,
        }
    }

    fn is_due_takeover(&self, name: &str) -> bool {
        let Some(settings) = self.settings(name).filter(|_| !self.served.contains_key(name)) else { return false };
        let counts = |time: &&Instant| self.now.since(**time) <= settings.complaint_interval;
        self.heard
            .get(name)
            .is_some_and(|heard| heard.iter().filter(counts).count() > settings.complaint_count as usize)
    }

    /// Does what the daemon wants, and checks that it may want it.
    fn carry_out(&mut self, actions: Vec<Action>) {
        assert!(actions.len() <= MAX_ACTIONS * (RESOURCES.len() + 1), "{} actions", actions.len());
        for action in actions {
            assert!(!self.exited, "{action:?} after the end");
            match action {
                Action::Reply { conn, message, keep } => self.reply(conn, &message, keep),
                Action::FindRecord(_) => {}
                Action::Welcome { .. } | Action::Tell { .. } | Action::Record { .. } | Action::RecordPause { .. } => {
                    panic!("{action:?} among originals")
                }
                Action::Close(conn) => assert!(self.open.remove(&conn).is_some(), "{conn:?} is closed already"),
                Action::StartWorker { id, assignment } => {
                    self.use_id(id.0);
                    let (resource, role) = (assignment.resource.name, assignment.role);
                    assert!(
                        self.workers.values().all(|worker| worker.resource != resource),
                        "two workers for {resource}"
                    );
                    assert!(role != Role::Init || assignment.changed_from.is_some(), "a worker for nothing");
                    self.workers.insert(id, Worker { resource, role, told_to_end: false });
                }
                Action::Order { id, order } => {
                    let worker = self.workers.get_mut(&id).expect("a worker that lives");
                    let is_last = matches!(order, Order::Leave { .. });
                    assert!(!worker.told_to_end || is_last, "{order:?} to a worker that ends");
                    worker.told_to_end |= is_last || matches!(order, Order::End { .. });
                }
                Action::KillWorker(id) => assert!(self.workers.get(&id).is_some_and(|worker| worker.told_to_end)),
                Action::HandOver { worker, link, from, asks, answers, resuid: _ } => {
                    self.use_id(link.0);
                    let to = self.workers.get(&worker).expect("a worker that lives");
                    assert!(to.role == Role::Secondary && !to.told_to_end);
                    for conn in [asks, answers] {
                        let open = self.open.remove(&conn).expect("an open connection");
                        assert!(open.is_proven && open.peer.map(|ip| ip.to_canonical()) == Some(REMOTE));
                        assert_eq!(open.resource.as_ref(), Some(&to.resource));
                        assert_eq!(from.text, "tcp4://192.0.2.2");
                    }
                    let is_due = |(conn, token): &(ConnId, _)| *conn == asks && Some(*token) == self.presented;
                    assert!(self.tokens.iter().any(is_due), "handed over without a token");
                    self.served.insert(to.resource.clone(), link);
                    self.links.push((worker, link));
                }
                Action::LoadConfig => {
                    assert!(!self.is_loading && !self.is_stopping);
                    self.is_loading = true;
                }
                Action::Adopt => {}
                Action::Event(_, event) => check_event(&event),
                Action::Exit => {
                    assert!(self.is_stopping && self.workers.is_empty());
                    self.exited = true;
                }
            }
        }
        let (local, waiting): (Vec<_>, Vec<_>) = self.open.values().partition(|open| open.peer.is_none());
        assert!(waiting.len() <= MAX_HALF_OPEN * self.daemon.resources().len(), "{} connections wait", waiting.len());
        assert!(
            local.len() <= if self.is_loading { MAX_RELOAD_CALLERS } else { 0 },
            "{} wait for a reload",
            local.len()
        );
        let deadline = self.daemon.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "{deadline:?} is not after {:?}", self.now);
        for worker in self.workers.values().filter(|worker| !worker.told_to_end) {
            // Only one that is told to end at once, to clean up, may play another role.
            let role =
                self.daemon.resources().iter().find(|one| one.settings().name == worker.resource).map(Supervisor::role);
            assert!(
                role == Some(worker.role) && !self.is_stopping,
                "a worker as {} while the role is {role:?}",
                worker.role
            );
        }
        for supervisor in self.daemon.resources() {
            let worker = supervisor.worker().map(|id| self.workers.get(&id).map(|worker| worker.resource.as_str()));
            assert!(worker.is_none_or(|resource| resource == Some(&supervisor.settings().name)));
        }
    }

    fn reply(&mut self, conn: ConnId, message: &List, keep: bool) {
        let open = self.open.get(&conn).expect("an open connection");
        let limit = if open.peer.is_some() { NETWORK_LIMIT } else { CONTROL_LIMIT };
        assert!(frame::encode(Version::V0, message, limit).is_ok(), "a reply that cannot be sent");
        if !keep {
            self.open.remove(&conn);
            return;
        }
        let Ok(Answer::Token(token)) = Answer::decode(message) else { panic!("kept open for {message:?}") };
        self.tokens.push((conn, token));
    }

    fn use_id(&mut self, id: u64) {
        assert!(id > self.last_id, "a number is used twice");
        self.last_id = id;
    }

    /// In the end the daemon is told to stop, its workers end, and so does it.
    fn leave(&mut self) {
        let debug = format!("{:?}", self.daemon);
        assert!(debug.len() <= MAX_DEBUG_BYTES, "{} bytes", debug.len());
        assert!(!debug.contains(SECRET), "a secret is shown");
        if !self.exited {
            // Another one may have been asked for meanwhile.
            self.fail_to_load();
            self.fail_to_load();
            self.is_stopping = true;
            self.tell(DaemonInput::Stop);
        }
        // A worker may be needed to stop what another one has left.
        for _ in 0..MAX_LAST_STEPS {
            if self.exited {
                break;
            }
            if let Some((&id, worker)) = self.workers.first_key_value() {
                assert!(worker.told_to_end, "{id:?} goes on");
                self.finish_worker(id, WorkerExit::Farewell(Farewell::AsOrdered));
            } else {
                self.now = self.daemon.next_deadline().expect("something to wait for");
                self.tell(DaemonInput::Timer);
            }
        }
        assert!(self.exited, "{:?}", self.daemon);
        assert!(self.open.is_empty(), "connections are left");
    }
}

fn ends(peer: IpAddr) -> (SocketAddr, SocketAddr) {
    (SocketAddr::new(peer, 40_000), SocketAddr::from(([192, 0, 2, 1], 8458)))
}

fn resource_of(request: &Request) -> Option<String> {
    match request {
        Request::Handshake { resource, .. }
        | Request::HandshakeToken { resource, .. }
        | Request::Complaint { resource } => Some(resource.clone()),
        Request::SetRole { .. }
        | Request::Switchover { .. }
        | Request::Pause { .. }
        | Request::Resume { .. }
        | Request::Status { .. }
        | Request::Reload
        | Request::Explain { .. } => None,
    }
}

fn snapshot(supervisor: &Supervisor) -> (String, Role, Option<WorkerId>) {
    (supervisor.settings().name.clone(), supervisor.role(), supervisor.worker())
}

/// What a stranger gets.
fn is_refusal(action: &Action, to: ConnId) -> bool {
    match action {
        Action::Reply { conn, keep, .. } => *conn == to && !keep,
        Action::Close(conn) => *conn == to,
        Action::Event(None, Event::CallerRefused { .. }) => true,
        _ => false,
    }
}

fn check_event(event: &Event) {
    let text = event.to_string();
    assert!(!text.is_empty() && !text.contains(SECRET), "{text}");
    if let Event::RoleChanged { new: Role::Primary, reason, .. } = event {
        let may = matches!(reason, RoleReason::Start | RoleReason::Operator(_) | RoleReason::Takeover { .. });
        assert!(may, "primary because {reason}");
    }
}
