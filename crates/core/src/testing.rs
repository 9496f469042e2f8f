//! For the tests of the state machines: a worker, or a main daemon, on a virtual clock. Nothing here decides anything.

extern crate std;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use crate::config::{Address, Config, NodeName, Resource, load};
use crate::daemon::{self, Caller, ConnId, Daemon, PeerProtocol, WorkerId};
use crate::event::Event;
use crate::hooks::{Call, Exit, Hook};
use crate::supervisor::WorkerExit;
use crate::time::{Duration, Instant};
use crate::types::{Role, State};
use crate::wire::nv::List;
use crate::wire::request::{Request, Via};
use crate::wire::session::Answer;
use crate::worker::{Action, Assignment, Farewell, Input, LinkEvent, LinkId, Order, Report, Worker};

pub(crate) mod lease;

/// The remotes of node `a`, where every test runs: two that may be primary, ...
pub(crate) const B: &str = "tcp4://10.0.0.2";
pub(crate) const C: &str = "tcp4://10.0.0.3";
/// ... and a watchdog, which is only a friend.
pub(crate) const WATCHDOG: &str = "10.0.0.9";
pub(crate) const RESOURCE: &str = "r";

/// What a worker among originals is told that has just begun; the resource has these settings.
pub(crate) fn assignment(role: Role, settings: &str) -> Assignment {
    let resource = resource(settings);
    Assignment { resource, role, changed_from: None, replaces: None, lease: None, in_haste: false }
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub(crate) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// The configuration of node `a`: heartbeat 1 s, complaint_count 3, timeout 2 s, unless `settings` say otherwise. `friendless`: nobody may
/// poll. What follows a `|` stands around the resource.
pub(crate) fn config(settings: &str) -> Config {
    let friendless = settings.contains("friendless");
    let settings = settings.replace("friendless", "");
    let base = [
        ("heartbeat_interval", "1"),
        ("timeout", "2"),
        ("start_timeout", "60"),
        ("stop_timeout", "10"),
        ("lease", "3h"),
        ("status_timeout", "5"),
        ("hook_timeout", "20"),
        ("exec", "/r"),
        ("friends", WATCHDOG),
    ];
    let sets = |name: &str| settings.split_whitespace().any(|word| word == name);
    let mut inside = String::new();
    for (name, value) in base {
        let is_left_out = sets(name) || (friendless && name == "friends");
        if !is_left_out {
            inside += &format!("{name} {value}\n");
        }
    }
    let remotes = if sets("remote") { String::new() } else { format!("remote {B} {C}") };
    let (here, around) = settings.split_once('|').unwrap_or((&settings, ""));
    config_of(&format!("{around}\nresource {RESOURCE} {{ {inside}\n on a {{ {remotes} {here} }} }}"))
}

pub(crate) fn config_of(text: &str) -> Config {
    let outcome = load(text, &NodeName::new("a").unwrap());
    let told: Vec<String> = outcome.diagnostics.iter().map(|diagnostic| diagnostic.render("f", text)).collect();
    outcome.config.unwrap_or_else(|| panic!("{}", told.join("\n")))
}

pub(crate) fn resource(settings: &str) -> Resource {
    config(settings).resources.remove(0)
}

const START: Instant = Instant::from_nanos(1_000_000_000_000);

/// A script whose hooks take no time.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) runs: bool,
    pub(crate) start_works: bool,
    pub(crate) stop_works: bool,
    /// What `status` says when the resource does not run.
    pub(crate) stopped: i32,
}

impl Script {
    pub(crate) const GOOD: Self = Self { runs: false, start_works: true, stop_works: true, stopped: 1 };

    fn exit_of(&mut self, hook: Hook) -> Exit {
        Exit::Code(match hook {
            Hook::Start if self.start_works => {
                self.runs = true;
                0
            }
            Hook::Stop if self.stop_works => {
                self.runs = false;
                0
            }
            Hook::Start | Hook::Stop => 1,
            Hook::Status if self.runs => 0,
            Hook::Status => self.stopped,
            Hook::Connect | Hook::Disconnect | Hook::Complain | Hook::Role { .. } => 0,
        })
    }
}

/// A worker on a virtual clock.
pub(crate) struct Bench {
    pub(crate) worker: Worker,
    pub(crate) now: Instant,
    /// What it wanted done, with the time since the start, and nobody has looked at yet.
    pub(crate) actions: Vec<(Duration, Action)>,
    /// Ends every hook at once; without it the test does.
    pub(crate) script: Option<Script>,
    pub(crate) running: Vec<Call>,
    pub(crate) report: Option<Report>,
    pub(crate) farewell: Option<Farewell>,
}

impl Bench {
    /// Hooks end when the test says so.
    pub(crate) fn new(role: Role, settings: &str) -> Self {
        Self::of(assignment(role, settings), None)
    }

    /// Hooks end at once.
    pub(crate) fn with_script(role: Role, settings: &str) -> Self {
        Self::of(assignment(role, settings), Some(Script::GOOD))
    }

    pub(crate) fn of(assignment: Assignment, script: Option<Script>) -> Self {
        let (worker, actions) = Worker::new(START, assignment);
        let mut bench =
            Self { worker, now: START, actions: Vec::new(), script, running: Vec::new(), report: None, farewell: None };
        bench.note(actions);
        bench.play();
        bench
    }

    pub(crate) fn since_start(&self) -> Duration {
        self.now.since(START)
    }

    fn note(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert_eq!(self.farewell, None, "it does something after its end: {action:?}");
            match &action {
                Action::RunHook(call) => self.running.push(call.clone()),
                Action::Report(report) => self.report = Some(report.clone()),
                Action::Exit(farewell) => self.farewell = Some(farewell.clone()),
                _ => {}
            }
            self.actions.push((self.since_start(), action));
        }
        let deadline = self.worker.next_deadline();
        let ended = self.farewell.is_some();
        assert!(ended || deadline.is_none_or(|deadline| deadline > self.now), "the deadline has passed");
    }

    fn play(&mut self) {
        while self.farewell.is_none()
            && let Some(script) = &mut self.script
            && let Some(call) = self.running.first().cloned()
        {
            let exit = script.exit_of(call.hook);
            self.exited(call.id, exit);
        }
    }

    pub(crate) fn give(&mut self, input: Input) {
        let actions = self.worker.handle(self.now, input);
        self.note(actions);
        self.play();
    }

    pub(crate) fn order(&mut self, order: Order) {
        self.give(Input::Order(order));
    }

    pub(crate) fn end(&mut self) {
        self.order(Order::End { reason: "the test is over".to_string(), hurry: false, successor: None });
    }

    fn exited(&mut self, id: u64, exit: Exit) {
        self.running.retain(|call| call.id != id);
        let actions = self.worker.handle(self.now, Input::HookExited { id, exit, output: Vec::new() });
        self.note(actions);
    }

    /// Lets time pass, and fires each timer at its time.
    pub(crate) fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while self.farewell.is_none()
            && let Some(deadline) = self.worker.next_deadline().filter(|deadline| *deadline <= until)
        {
            self.now = deadline;
            self.give(Input::Timer);
        }
        self.now = until;
    }

    /// Lets time pass unnoticed.
    pub(crate) fn freeze(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// The hook that runs (last).
    pub(crate) fn runs(&self) -> Option<Hook> {
        self.running.last().map(|call| call.hook)
    }

    /// The running hook, which must be this one, ends with this code.
    pub(crate) fn ends(&mut self, hook: Hook, code: i32) {
        assert_eq!(self.runs(), Some(hook));
        let call = self.running.last().unwrap().id;
        self.exited(call, Exit::Code(code));
    }

    pub(crate) fn is_signalled(&mut self, signal: i32) {
        let call = self.running.last().unwrap().id;
        self.exited(call, Exit::Signal(signal));
    }

    /// What it wanted done since the last look, in the order of time.
    pub(crate) fn take(&mut self) -> Vec<Action> {
        self.actions.drain(..).map(|(_, action)| action).collect()
    }

    /// Hooks that were called since the last look, with the time since the start.
    pub(crate) fn hooks(&mut self) -> Vec<(Duration, Hook)> {
        let hook = |(at, action)| match action {
            Action::RunHook(call) => Some((at, call.hook)),
            _ => None,
        };
        self.actions.drain(..).filter_map(hook).collect()
    }

    /// How often a hook was called since the last look.
    pub(crate) fn calls(&mut self, hook: Hook) -> usize {
        self.hooks().iter().filter(|(_, called)| *called == hook).count()
    }

    /// Events since the last look, as they are told.
    pub(crate) fn told(&mut self) -> Vec<Event> {
        let event = |action| match action {
            Action::Event(event) => Some(event),
            _ => None,
        };
        self.take().into_iter().filter_map(event).collect()
    }

    pub(crate) fn state(&self) -> State {
        self.report.as_ref().unwrap().state
    }

    /// The attempt to connect to a remote, or the poll of it, that was begun last.
    pub(crate) fn link(&self, remote: &str) -> LinkId {
        let link = |(_, action): &(Duration, Action)| match action {
            Action::Connect(link, to) | Action::Poll(link, to) if *to == address(remote) => Some(*link),
            _ => None,
        };
        self.actions.iter().rev().find_map(link).unwrap_or_else(|| panic!("nobody connects to {remote}"))
    }

    pub(crate) fn news(&mut self, link: LinkId, event: LinkEvent) {
        self.give(Input::Link(link, event));
    }

    /// A connection to a secondary is made, and its first heartbeat answered.
    pub(crate) fn connect(&mut self, remote: &str, state: State) -> LinkId {
        let link = self.link(remote);
        self.news(link, LinkEvent::Up);
        self.answer(link, 1, state);
        link
    }

    pub(crate) fn refuse(&mut self, remote: &str, message: &str, priority: Option<i32>) {
        let link = self.link(remote);
        self.news(link, LinkEvent::Refused { message: message.to_string(), priority });
    }

    pub(crate) fn fail(&mut self, remote: &str) {
        let link = self.link(remote);
        self.news(link, LinkEvent::Failed("no answer".to_string()));
    }

    pub(crate) fn answer(&mut self, link: LinkId, seq: u64, state: State) {
        self.news(link, LinkEvent::Answer { seq, state: Ok(state) });
    }

    /// Lets time pass in which these connections stay alive.
    pub(crate) fn wait_connected(&mut self, span: Duration, links: &[(LinkId, State)]) {
        let until = self.now + span;
        while self.now < until {
            let step = self.worker.next_deadline().map_or(until, |deadline| deadline.min(until));
            self.wait(step.since(self.now));
            for (link, state) in links {
                if let Some(seq) = self.last_heartbeat(*link) {
                    self.answer(*link, seq, *state);
                }
            }
        }
    }

    pub(crate) fn last_heartbeat(&self, link: LinkId) -> Option<u64> {
        self.actions.iter().rev().find_map(|(_, action)| match action {
            Action::SendHeartbeat { link: on, seq, .. } if *on == link => Some(*seq),
            _ => None,
        })
    }

    /// A watchdog's poll is answered.
    pub(crate) fn polled(&mut self, remote: &str, answer: Result<(Role, State), &str>) {
        let link = self.link(remote);
        self.give(Input::Polled { link, answer: answer.map_err(ToString::to_string) });
    }

    pub(crate) fn heartbeat(&mut self, link: u64, seq: u64) {
        self.give(Input::Heartbeat { link: LinkId(link), seq });
    }

    pub(crate) fn primary_connects(&mut self, link: u64) {
        self.give(Input::PrimaryConnected { link: LinkId(link), from: B.to_string() });
    }
}

/// A main daemon on a virtual clock.
pub(crate) struct DaemonBench {
    pub(crate) daemon: Daemon,
    pub(crate) now: Instant,
    pub(crate) actions: Vec<daemon::Action>,
    next_conn: u64,
    pub(crate) unix_now_s: u64,
}

impl DaemonBench {
    pub(crate) fn new(settings: &str) -> Self {
        Self::of(config(settings))
    }

    pub(crate) fn of(config: Config) -> Self {
        let (daemon, actions) = Daemon::new(START, config, PeerProtocol::Legacy, 1);
        Self { daemon, now: START, actions, next_conn: 0, unix_now_s: 1_800_000_000 }
    }

    pub(crate) fn give(&mut self, input: daemon::Input) {
        let actions = self.daemon.handle(self.now, input);
        self.actions.extend(actions);
        let deadline = self.daemon.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "the deadline has passed");
    }

    pub(crate) fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(deadline) = self.daemon.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = deadline;
            self.give(daemon::Input::Timer);
        }
        self.now = until;
    }

    fn message(&mut self, caller: Caller, message: List) -> ConnId {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let random = [u8::try_from(self.next_conn % 256).unwrap(); 16];
        self.give(daemon::Input::Message { conn, caller, message, unix_now_s: self.unix_now_s, random });
        conn
    }

    pub(crate) fn caller(from: &str) -> Caller {
        let ip: IpAddr = from.trim_start_matches("tcp4://").parse().unwrap();
        Caller::Network { peer: SocketAddr::new(ip, 4711), local: SocketAddr::new("10.0.0.1".parse().unwrap(), 8458) }
    }

    pub(crate) fn network(&mut self, from: &str, request: &Request) -> ConnId {
        self.message(Self::caller(from), request.encode(Via::Network(None)))
    }

    pub(crate) fn network_list(&mut self, from: &str, message: List) -> ConnId {
        self.message(Self::caller(from), message)
    }

    pub(crate) fn control(&mut self, request: &Request) -> ConnId {
        self.message(Caller::ControlSocket(None), request.encode(Via::ControlSocket))
    }

    pub(crate) fn set_role(&mut self, role: Role) -> ConnId {
        self.control(&Request::SetRole { role, resources: Vec::from([RESOURCE.to_string()]), force: false })
    }

    pub(crate) fn handshake(&mut self, from: &str, priority: i32) -> ConnId {
        self.network(from, &Request::Handshake { resource: RESOURCE.to_string(), priority })
    }

    pub(crate) fn token(&mut self, from: &str, token: [u8; 16]) -> ConnId {
        self.network(from, &Request::HandshakeToken { resource: RESOURCE.to_string(), token, resuid: 7 })
    }

    pub(crate) fn complain(&mut self, from: &str) -> ConnId {
        self.network(from, &Request::Complaint { resource: RESOURCE.to_string() })
    }

    pub(crate) fn poll(&mut self, from: &str, resource: &str) -> ConnId {
        self.network(from, &Request::Status { resources: Vec::from([resource.to_string()]) })
    }

    /// Both steps of a handshake; the name of the connection that the worker got.
    pub(crate) fn connect(&mut self, from: &str, priority: i32) -> LinkId {
        let first = self.handshake(from, priority);
        let Some(Answer::Token(token)) = self.answer_to(first) else { panic!("no token: {:?}", self.actions) };
        self.token(from, token);
        self.hand_overs().pop().expect("handed over").1
    }

    /// What was answered on a connection last.
    pub(crate) fn reply_to(&self, conn: ConnId) -> Option<(List, bool)> {
        self.actions.iter().rev().find_map(|action| match action {
            daemon::Action::Reply { conn: to, message, keep } if *to == conn => Some((message.clone(), *keep)),
            _ => None,
        })
    }

    pub(crate) fn answer_to(&self, conn: ConnId) -> Option<Answer> {
        Some(Answer::decode(&self.reply_to(conn)?.0).unwrap())
    }

    /// The text of a refusal, and the priority beside it.
    pub(crate) fn refusal(&self, conn: ConnId) -> Option<(String, Option<i32>)> {
        match self.answer_to(conn)? {
            Answer::Refused { errmsg, priority } => Some((errmsg, priority)),
            _ => None,
        }
    }

    pub(crate) fn is_closed(&self, conn: ConnId) -> bool {
        self.actions.iter().any(|action| matches!(action, daemon::Action::Close(closed) if *closed == conn))
    }

    pub(crate) fn take(&mut self) -> Vec<daemon::Action> {
        core::mem::take(&mut self.actions)
    }

    pub(crate) fn hand_overs(&self) -> Vec<(WorkerId, LinkId)> {
        let hand_over = |action: &daemon::Action| match action {
            daemon::Action::HandOver { worker, link, .. } => Some((*worker, *link)),
            _ => None,
        };
        self.actions.iter().filter_map(hand_over).collect()
    }

    /// Workers that were started since the last look.
    pub(crate) fn started(&self) -> Vec<(WorkerId, Assignment)> {
        let start = |action: &daemon::Action| match action {
            daemon::Action::StartWorker { id, assignment } => Some((*id, (**assignment).clone())),
            _ => None,
        };
        self.actions.iter().filter_map(start).collect()
    }

    /// Whether its worker shall stand for the lease.
    pub(crate) fn is_told_to_stand(&self) -> bool {
        self.orders().iter().any(|order| matches!(order, Order::Stand { .. }))
    }

    pub(crate) fn orders(&self) -> Vec<Order> {
        let order = |action: &daemon::Action| match action {
            daemon::Action::Order { order, .. } => Some(order.clone()),
            _ => None,
        };
        self.actions.iter().filter_map(order).collect()
    }

    pub(crate) fn told(&self) -> Vec<Event> {
        let event = |action: &daemon::Action| match action {
            daemon::Action::Event(_, event) => Some(event.clone()),
            _ => None,
        };
        self.actions.iter().filter_map(event).collect()
    }

    pub(crate) fn exits(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, daemon::Action::Exit))
    }

    pub(crate) fn role(&self) -> Role {
        self.daemon.resources()[0].role()
    }

    pub(crate) fn worker(&self) -> WorkerId {
        self.daemon.resources()[0].worker().expect("a worker runs")
    }

    /// The worker has got its process.
    pub(crate) fn worker_begins(&mut self) {
        let id = self.worker();
        self.give(daemon::Input::WorkerStarted(id, 4711));
    }

    pub(crate) fn worker_exits(&mut self, exit: WorkerExit) {
        let id = self.worker();
        self.give(daemon::Input::WorkerExited(id, exit));
    }

    pub(crate) fn worker_ends(&mut self) {
        self.worker_exits(WorkerExit::Farewell(Farewell::AsOrdered));
    }

    pub(crate) fn reload(&mut self, config: Config) {
        self.give(daemon::Input::Reload(Box::new(config)));
    }
}
