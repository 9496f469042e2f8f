//! A worker and a main daemon that take part in the lease, among nodes that say anything, with numbers at their limits. What must hold:
//!
//! - nothing overflows, and no deadline lies in the past;
//! - `start` is asked of a primary alone, and only while it holds an epoch;
//! - things are said only over connections that are up, answers go only to who has connected, each connection has its own number;
//! - the highest epoch that a voter tells of never goes back, and no answer with a vote leaves before its record is written;
//! - whatever was said, both come to their end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

use hastmon_core::config::Config;
use hastmon_core::daemon::{Action, Caller, ConnId, Daemon, Input as DaemonInput, PeerProtocol, WorkerId};
use hastmon_core::hooks::{Exit, Hook};
use hastmon_core::lease::record::NotFound;
use hastmon_core::lease::{Ask, Grant, Kind, Refusal, Release, Terms, Verdict, Voters};
use hastmon_core::pause::Pause;
use hastmon_core::supervisor::WorkerExit;
use hastmon_core::time::{Duration, Instant};
use hastmon_core::types::{Role, State};
use hastmon_core::wire::peer::{Heard, Hello, Said};
use hastmon_core::wire::request::{Request, Via};
use hastmon_core::worker::{
    Action as WorkerAction, Assignment, Farewell, Input as WorkerInput, LeasePart, LeaseReport, LinkEvent, LinkId,
    Order, Report, Worker,
};

use super::input::Input;

/// The first byte of what is meant for this file: it means nothing else to the targets `daemon` and `worker`.
pub(super) const MARK: u8 = 0xfe;

const START: Instant = Instant::from_nanos(1_000_000_000_000);
const STEPS_MS: [u64; 8] = [0, 1, 100, 500, 1_000, 2_000, 10_000, 120_000];
const MAX_STEPS: usize = 400;
/// What one input may cause: a few actions for each node, and hooks that wait.
const MAX_ACTIONS: usize = 200;
/// Steps that the way to the end may take.
const MAX_LAST_STEPS: usize = 400;
const NODES: [&str; 5] = ["b", "c", "a", "d", "x"];
const RESOURCE: &str = "web";

/// Configurations, the first in force at the start: neighbours differ by one node or by terms.
fn configs() -> &'static [Config] {
    static CONFIGS: OnceLock<Vec<Config>> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let text = |nodes: &[&str], rest: &str| {
            let sections: String =
                nodes.iter().map(|node| format!("on {node} {{ remote tcp4://192.0.2.9 }}\n")).collect();
            format!(
                "timeout 2 heartbeat_interval 1 attempts 2 start_timeout 8 status_timeout 2 hook_timeout 3\n\
                 resource {RESOURCE} {{ exec /run role_on_start secondary {rest}\n\
                 on a {{ remote tcp4://192.0.2.2 tcp4://192.0.2.3 friends 192.0.2.4 }}\n{sections} }}"
            )
        };
        let texts = [
            text(&["b", "c"], ""),
            text(&["b", "c"], "fence /off on_stop_failure fence"),
            text(&["b", "c", "d"], "fence /off on_stop_failure reboot"),
            text(&["b"], "heartbeat_interval 600"),
            text(&["b", "c"], "heartbeat_interval 5ms"),
        ];
        texts.iter().map(|text| super::valid(text)).collect()
    })
}

/// A number, more often than not at a limit.
fn number(input: &mut Input<'_>) -> u64 {
    match input.byte() % 8 {
        0..=3 => input.byte().into(),
        4 => u64::MAX,
        5 => u64::MAX - 1,
        6 => u64::MAX / 1_000,
        _ => input.int64(),
    }
}

fn span(input: &mut Input<'_>) -> Duration {
    if input.flag() { Duration::from_millis(input.byte().into()) } else { Duration::from_micros(number(input)) }
}

fn node(input: &mut Input<'_>) -> String {
    input.one_of(&NODES).unwrap_or_default().to_string()
}

fn voters(input: &mut Input<'_>) -> Voters {
    let nodes = &configs()[input.below(configs().len())].resources[0].nodes;
    Voters::new(nodes.iter().cloned())
}

fn refusal(input: &mut Input<'_>) -> Option<Refusal> {
    match input.byte() % 10 {
        0 => Some(Refusal::Bound { holder: node(input), left: span(input) }),
        1 => Some(Refusal::Reserved { successor: node(input), left: span(input) }),
        2 => Some(Refusal::Waits { left: span(input) }),
        3 => Some(Refusal::Stale),
        4 => Some(Refusal::Voters { ours: voters(input) }),
        5 => Some(Refusal::NotRecorded),
        6 => Some(Refusal::Leaving),
        _ => None,
    }
}

fn verdict(input: &mut Input<'_>, round: u64) -> Verdict {
    let round = if input.byte().is_multiple_of(4) { number(input) } else { round };
    Verdict { round, highest: number(input), refused: refusal(input), kept: false }
}

fn ask(input: &mut Input<'_>, node: String) -> Ask {
    let kind = if input.flag() { Kind::Vote } else { Kind::Renew };
    Ask {
        node,
        kind,
        epoch: number(input),
        hold: span(input),
        round: number(input),
        voters: voters(input).digest(),
        kept: false,
    }
}

fn release(input: &mut Input<'_>, of: String) -> Release {
    let successor = input.flag().then(|| node(input));
    Release { node: of, epoch: number(input), successor, reserve: span(input), was_held: input.flag() }
}

fn role(input: &mut Input<'_>) -> Role {
    input.one_of(&Role::ALL).unwrap_or(Role::Init)
}

fn state(input: &mut Input<'_>) -> State {
    input.one_of(&State::ALL).unwrap_or_default()
}

fn grant(input: &mut Input<'_>) -> Grant {
    let until = START + span(input);
    Grant { epoch: number(input), until, terms: Terms { lease: span(input), stop: span(input) } }
}

// The worker

struct Nodes {
    worker: Worker,
    role: Role,
    now: Instant,
    hooks: BTreeSet<u64>,
    killed: BTreeSet<u64>,
    connecting: BTreeSet<LinkId>,
    up: BTreeMap<LinkId, u64>,
    last_link: u64,
    round: u64,
    farewell: Option<Farewell>,
}

/// The bytes after the mark.
pub(super) fn worker(data: &[u8]) {
    let mut input = Input::new(data);
    let role = role(&mut input);
    let resource = configs()[0].resources[0].clone();
    let how = input.byte();
    let is_primary = role == Role::Primary;
    let lease = LeasePart {
        node: "a".to_string(),
        // A primary alone follows somebody who held the lease or won it.
        grant: (is_primary && how & 1 == 1).then(|| grant(&mut input)),
        force: how & 2 == 2,
        keep_until: (is_primary && how & 4 == 4).then(|| START + span(&mut input)),
        seed: number(&mut input),
        pause: Pause::default(),
        must_stop: false,
    };
    let assignment =
        Assignment { resource, role, changed_from: None, replaces: None, lease: Some(lease), in_haste: true };
    let (worker, actions) = Worker::new(START, assignment);
    let mut world = Nodes {
        worker,
        role,
        now: START,
        hooks: BTreeSet::new(),
        killed: BTreeSet::new(),
        connecting: BTreeSet::new(),
        up: BTreeMap::new(),
        last_link: 0,
        round: 0,
        farewell: None,
    };
    world.carry_out(actions);
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.leave();
}

impl Nodes {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 | 1 => {
                self.now = self.now + Duration::from_millis(input.one_of(&STEPS_MS).unwrap_or_default());
                self.tell(WorkerInput::Timer);
            }
            2 | 3 => self.pass_time(),
            4 | 5 => {
                let all: Vec<u64> = self.hooks.iter().copied().collect();
                let id = input.one_of(&all).unwrap_or(0);
                let exit = Exit::Code((input.byte() % 3).into());
                self.end_hook(id, exit);
            }
            6..=10 => self.hear(input),
            11 | 12 => {
                let verdict = verdict(input, self.round);
                self.tell(WorkerInput::Order(Order::Verdict(verdict)));
            }
            13 => {
                let order = match input.byte() % 9 {
                    0 | 1 => Order::Stand { highest: number(input) },
                    2 => Order::ServedBy(input.flag().then(|| node(input))),
                    3 => Order::PrimaryRuns,
                    4 => Order::Released,
                    5 => Order::HandOver(input.flag().then(|| node(input))),
                    6 => Order::Force,
                    7 => Order::Polled,
                    _ => Order::Complaint,
                };
                self.tell(WorkerInput::Order(order));
            }
            14 => {
                let config = &configs()[input.below(configs().len())];
                self.tell(WorkerInput::Order(Order::Reconfigure(Box::new(config.resources[0].clone()))));
            }
            _ => match input.byte() {
                0x55 => self.end(input.flag()),
                0x56 => self.tell(WorkerInput::DaemonGone),
                0x57 => self.tell(WorkerInput::Order(Order::Leave { reason: "told to leave".into() })),
                _ => {
                    let exit = Exit::Code((input.byte() % 2).into());
                    self.tell(WorkerInput::FenceExited { node: node(input), exit });
                }
            },
        }
    }

    fn pass_time(&mut self) {
        self.now = self.worker.next_deadline().unwrap_or(self.now).max(self.now);
        self.tell(WorkerInput::Timer);
    }

    fn end(&mut self, hurry: bool) {
        self.tell(WorkerInput::Order(Order::End { reason: "told to".into(), hurry, successor: Some("b".into()) }));
    }

    fn end_hook(&mut self, id: u64, exit: Exit) {
        self.hooks.remove(&id);
        self.killed.remove(&id);
        self.tell(WorkerInput::HookExited { id, exit, output: Vec::new() });
    }

    fn hear(&mut self, input: &mut Input<'_>) {
        let all: Vec<LinkId> = self.connecting.iter().chain(self.up.keys()).copied().collect();
        let link = input.one_of(&all).unwrap_or(LinkId(0));
        let event = match input.byte() % 12 {
            0 => LinkEvent::Up,
            1..=3 if self.connecting.contains(&link) => {
                self.connecting.remove(&link);
                self.up.insert(link, 0);
                LinkEvent::Welcome(node(input))
            }
            10 => self.lost(link, LinkEvent::Failed(input.text())),
            11 => self.lost(link, LinkEvent::Refused { message: input.text(), priority: Some(input.int32()) }),
            _ => {
                let asked = self.up.get(&link).copied().unwrap_or_default();
                let bound = input.flag().then(|| node(input));
                LinkEvent::Heard(Box::new(Heard {
                    seq: if input.byte().is_multiple_of(16) { number(input) } else { asked },
                    role: role(input),
                    priority: input.int32(),
                    state: state(input),
                    verdict: input.flag().then(|| verdict(input, self.round)),
                    bound,
                    bound_for: span(input),
                    epoch: number(input),
                    voters: voters(input).digest(),
                    in_force: voters(input).digest(),
                    no_fetch: input.byte().is_multiple_of(16).then(|| input.text()),
                    bound_kept: false,
                    waits_for_turn: input.flag(),
                    pause: None,
                }))
            }
        };
        self.tell(WorkerInput::Link(link, event));
    }

    fn lost(&mut self, link: LinkId, event: LinkEvent) -> LinkEvent {
        self.connecting.remove(&link);
        self.up.remove(&link);
        event
    }

    fn tell(&mut self, input: WorkerInput) {
        if self.farewell.is_none() {
            let actions = self.worker.handle(self.now, input);
            self.carry_out(actions);
        }
    }

    fn carry_out(&mut self, actions: Vec<WorkerAction>) {
        assert!(actions.len() <= MAX_ACTIONS, "{} actions", actions.len());
        for action in actions {
            assert!(self.farewell.is_none(), "{action:?} after the end");
            match action {
                WorkerAction::RunHook(call) => {
                    if call.hook == Hook::Start {
                        assert!(self.role == Role::Primary && self.worker.epoch().is_some(), "start without the lease");
                    }
                    assert!(self.hooks.insert(call.id));
                }
                WorkerAction::TerminateHook(id) => assert!(self.hooks.contains(&id)),
                WorkerAction::KillHook(id) => _ = self.killed.insert(id),
                WorkerAction::Connect(link, _) => {
                    assert!(link.0 > self.last_link, "a number is used twice");
                    self.last_link = link.0;
                    self.connecting.insert(link);
                }
                WorkerAction::Disconnect(link) => {
                    assert!(
                        self.connecting.remove(&link) | self.up.remove(&link).is_some(),
                        "{link:?} is closed already"
                    );
                }
                WorkerAction::Say(link, said) => {
                    let last = self.up.get_mut(&link).expect("a connection that is up");
                    if let Said::Beat { seq, .. } = &said {
                        assert_eq!(*seq, *last + 1);
                        *last = *seq;
                    }
                    assert_eq!(
                        Said::decode(&said.encode(), "a").as_ref().map(std::mem::discriminant),
                        Ok(std::mem::discriminant(&said))
                    );
                }
                WorkerAction::AskHere(ask) => self.round = ask.round,
                WorkerAction::Won(_) => assert_eq!(self.role, Role::Secondary),
                WorkerAction::Report(report) => {
                    assert!(report.lease.is_none_or(|lease| lease.votes <= lease.voters));
                }
                WorkerAction::Event(event) => assert!(!event.to_string().is_empty()),
                WorkerAction::Exit(farewell) => self.farewell = Some(farewell),
                WorkerAction::Fence(_)
                | WorkerAction::FencedHere { .. }
                | WorkerAction::ReleaseHere(_)
                | WorkerAction::HandOverRefused(_)
                | WorkerAction::PauseHeard(_)
                | WorkerAction::Reboot => {}
                other => panic!("{other:?} with the lease"),
            }
        }
        let deadline = self.worker.next_deadline();
        assert!(self.farewell.is_some() || deadline.is_none_or(|deadline| deadline > self.now), "{deadline:?}");
    }

    fn leave(&mut self) {
        self.end(true);
        for _ in 0..MAX_LAST_STEPS {
            for id in std::mem::take(&mut self.killed) {
                self.end_hook(id, Exit::Signal(9));
            }
            // Waiting for their limits takes as many steps as heartbeats pass meanwhile.
            for id in self.hooks.clone() {
                self.end_hook(id, Exit::Code(1));
            }
            if self.farewell.is_some() {
                return;
            }
            self.pass_time();
        }
        panic!("it does not end: {:?}", self.worker);
    }
}

// The main daemon

struct Daemons {
    daemon: Daemon,
    now: Instant,
    last_conn: u64,
    last_seq: u64,
    /// Who is connected by protocol 1.
    open: BTreeSet<ConnId>,
    workers: BTreeSet<WorkerId>,
    records: Vec<u64>,
    /// Answers that no record stands behind would be a vote that a crash forgets.
    written: bool,
    is_found: bool,
    highest: u64,
    is_loading: bool,
    exited: bool,
}

/// The bytes after the mark.
pub(super) fn daemon(data: &[u8]) {
    let mut input = Input::new(data);
    let (daemon, actions) = Daemon::new(START, configs()[0].clone(), PeerProtocol::Lease, number(&mut input));
    let mut world = Daemons {
        daemon,
        now: START,
        last_conn: 0,
        last_seq: 0,
        open: BTreeSet::new(),
        workers: BTreeSet::new(),
        records: Vec::new(),
        written: false,
        is_found: false,
        highest: 0,
        is_loading: false,
        exited: false,
    };
    world.carry_out(actions);
    for _ in 0..MAX_STEPS {
        if input.is_empty() || world.exited {
            break;
        }
        world.step(&mut input);
    }
    world.leave();
}

impl Daemons {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 | 1 => {
                self.now = self.now + Duration::from_millis(input.one_of(&STEPS_MS).unwrap_or_default());
                self.tell(DaemonInput::Timer);
            }
            2 => {
                self.now = self.daemon.next_deadline().unwrap_or(self.now).max(self.now);
                self.tell(DaemonInput::Timer);
            }
            3 | 4 => self.hello(input),
            5..=8 => self.say(input),
            9 => {
                let all: Vec<ConnId> = self.open.iter().copied().collect();
                if let Some(conn) = input.one_of(&all) {
                    self.open.remove(&conn);
                    self.tell(DaemonInput::Gone { conn, why: None });
                }
            }
            10 | 11 => self.write(input),
            12 | 13 => self.hear_worker(input),
            14 => self.operate(input),
            _ if self.is_loading => {
                self.is_loading = false;
                let config = configs()[input.below(configs().len())].clone();
                self.tell(DaemonInput::Reload(Box::new(config)));
            }
            _ => self.tell(DaemonInput::Hangup),
        }
    }

    fn conn(&mut self) -> ConnId {
        self.last_conn += 1;
        ConnId(self.last_conn)
    }

    fn hello(&mut self, input: &mut Input<'_>) {
        let conn = self.conn();
        let hello = Hello {
            protocols: if input.byte().is_multiple_of(8) { (input.byte(), input.byte()) } else { (1, 1) },
            version: "1".to_string(),
            node: node(input),
            resource: if input.byte().is_multiple_of(8) { input.text() } else { RESOURCE.to_string() },
            role: role(input),
            priority: input.int32(),
            voters: voters(input),
        };
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2 + input.byte() % 4)), 40_000);
        let caller = Caller::Network { peer, local: SocketAddr::from(([192, 0, 2, 1], 8458)) };
        self.open.insert(conn);
        self.tell(DaemonInput::Hello { conn, caller, message: hello.encode() });
    }

    fn say(&mut self, input: &mut Input<'_>) {
        let all: Vec<ConnId> = self.open.iter().copied().collect();
        let Some(conn) = input.one_of(&all) else { return };
        self.last_seq += 1;
        let said = match input.byte() % 9 {
            0..=3 => {
                let ask = input.flag().then(|| ask(input, String::new()));
                Said::Beat {
                    seq: self.last_seq,
                    state: state(input),
                    voters: voters(input).digest(),
                    ask,
                    shared: None,
                    pause: None,
                    votes_kept: 0,
                }
            }
            4 => Said::Complaint { released: input.flag() },
            5 => Said::Release(release(input, String::new())),
            6 => Said::Fenced { node: node(input), epoch: number(input) },
            7 => Said::Fetch,
            _ => {
                let list = input.peer_list();
                return self.tell(DaemonInput::Said(conn, list));
            }
        };
        self.tell(DaemonInput::Said(conn, said.encode()));
    }

    fn write(&mut self, input: &mut Input<'_>) {
        if !std::mem::replace(&mut self.is_found, true) {
            let found = if input.flag() { Ok(None) } else { Err(NotFound::Damaged("it is damaged".to_string())) };
            return self.tell(DaemonInput::RecordFound { resource: RESOURCE.to_string(), found });
        }
        if !self.records.is_empty() {
            let id = self.records.remove(0);
            let result = if input.byte().is_multiple_of(4) { Err("disk full".to_string()) } else { Ok(()) };
            self.written = result.is_ok();
            self.tell(DaemonInput::Recorded { resource: RESOURCE.to_string(), id, result });
        }
    }

    fn hear_worker(&mut self, input: &mut Input<'_>) {
        let all: Vec<WorkerId> = self.workers.iter().copied().collect();
        let Some(id) = input.one_of(&all) else { return };
        let said = match input.byte() % 10 {
            0..=2 => {
                let lease = LeaseReport {
                    epoch: input.flag().then(|| number(input)),
                    until: input.flag().then(|| self.now + span(input)),
                    is_forced: input.flag(),
                    in_reach: input.byte().into(),
                    votes: u32::MAX,
                    voters: input.byte().into(),
                    waits: input.flag().then(|| input.text()),
                    highest: 0,
                    in_force: vec![("b".to_string(), voters(input).digest())],
                    runs_until: None,
                    kept: 0,
                    know: Vec::new(),
                };
                let lateness = input.flag().then(|| span(input));
                let (remotes, complaints) = (Vec::new(), u32::MAX);
                let report = Report {
                    state: state(input),
                    attempts: 1,
                    remotes,
                    complaints,
                    lease: Some(lease),
                    lateness,
                    statuses: Vec::new(),
                };
                DaemonInput::Report(id, report)
            }
            3 => DaemonInput::Asked(id, ask(input, "a".to_string())),
            4 => DaemonInput::Released(id, release(input, "a".to_string())),
            5 => DaemonInput::Won(id, grant(input)),
            6 => DaemonInput::Fenced(id, node(input), number(input)),
            7 => DaemonInput::HandOverRefused(id, input.text()),
            how => {
                self.workers.remove(&id);
                let exit = match how {
                    8 => WorkerExit::Farewell(Farewell::HandedOver(node(input))),
                    _ => WorkerExit::Signal(9),
                };
                DaemonInput::WorkerExited(id, exit)
            }
        };
        self.tell(said);
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        let conn = self.conn();
        let resources = vec![RESOURCE.to_string()];
        let request = match input.byte() % 4 {
            0 | 1 => Request::SetRole { role: role(input), resources, force: input.flag() },
            2 => Request::Switchover { resource: RESOURCE.to_string(), to: input.flag().then(|| node(input)) },
            _ => Request::Status { resources },
        };
        let message = request.encode(Via::ControlSocket);
        let caller = Caller::ControlSocket(None);
        self.tell(DaemonInput::Message { conn, caller, message, unix_now_s: 1_700_000_000, random: [7; 16] });
    }

    fn tell(&mut self, input: DaemonInput) {
        if !self.exited {
            let actions = self.daemon.handle(self.now, input);
            self.carry_out(actions);
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        assert!(actions.len() <= MAX_ACTIONS, "{} actions", actions.len());
        for action in actions {
            match action {
                Action::Tell { conn, message } => {
                    assert!(self.open.contains(&conn), "{conn:?} is not connected");
                    let heard = Heard::decode(&message).expect("what we say can be read");
                    assert!(heard.epoch >= self.highest, "epoch {} after {}", heard.epoch, self.highest);
                    self.highest = heard.epoch;
                    let is_vote = heard.verdict.is_some_and(|verdict| verdict.refused.is_none());
                    assert!(!is_vote || self.written, "a vote without a record");
                }
                Action::Close(conn) => _ = self.open.remove(&conn),
                Action::Reply { conn, keep, .. } => {
                    if !keep {
                        self.open.remove(&conn);
                    }
                }
                Action::StartWorker { id, .. } => assert!(self.workers.insert(id)),
                Action::KillWorker(id) => assert!(self.workers.contains(&id)),
                Action::Order { id, order } => {
                    // A verdict may come when the one that asked has ended; its number is nobody else's.
                    let lives = self.workers.contains(&id);
                    assert!(lives || matches!(order, Order::Verdict(_)), "{order:?} to a worker that has ended");
                }
                Action::Record { id, .. } => self.records.push(id),
                Action::RecordPause { .. } => {}
                Action::LoadConfig => self.is_loading = true,
                Action::Event(_, event) => assert!(!event.to_string().is_empty()),
                Action::Exit => self.exited = true,
                Action::Welcome { .. } | Action::HandOver { .. } | Action::FindRecord(_) | Action::Adopt => {}
            }
        }
        let deadline = self.daemon.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "{deadline:?}");
    }

    fn leave(&mut self) {
        self.tell(DaemonInput::Stop);
        for _ in 0..MAX_LAST_STEPS {
            if self.exited {
                return;
            }
            if let Some(id) = self.workers.pop_first() {
                self.tell(DaemonInput::WorkerExited(id, WorkerExit::Farewell(Farewell::AsOrdered)));
            } else {
                self.now = self.daemon.next_deadline().expect("something to wait for").max(self.now);
                self.tell(DaemonInput::Timer);
            }
        }
        panic!("it does not end: {:?}", self.daemon);
    }
}
