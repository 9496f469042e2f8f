//! Anything, in any order, at any time: what must hold for the main daemon then.

extern crate std;

use alloc::vec;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::super::*;
use crate::event::GiveUp;
use crate::supervisor::MAX_HALF_OPEN;
use crate::testing::{DaemonBench, config_of};
use crate::time::Duration;
use crate::types::State;
use crate::wire::request::Via;
use crate::worker::Farewell;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Backwards(u64),
    ToDeadline,
    Ask(usize, Asked),
    Started(usize),
    Report(usize, usize),
    PrimaryGone(usize, usize),
    Exits(usize, usize),
    Resolved(bool),
    Refused,
    Reload(usize),
    Stop,
}

#[derive(Clone, Debug)]
enum Asked {
    Handshake(usize, i32),
    /// With one of the tokens that were given, or a guessed one.
    Token(usize, Option<usize>),
    Complaint(usize),
    Status(Vec<usize>),
    SetRole(usize, Vec<usize>),
    Nonsense(u8, u8),
}

const RESOURCES: [&str; 4] = ["r", "q", "all", "nosuch"];
/// Two remotes, a friend, a stranger; the last one is the control socket.
const CALLERS: usize = 5;
const CONFIGS: [&str; 4] = [
    "max_hooks 1 friends 10.0.0.9 resource r { exec /r role_on_start secondary on a { remote 10.0.0.2 10.0.0.3 } }\n\
     resource q { exec /q timeout 1 on a { remote 10.0.0.2 priority 7 } }",
    "friends 10.0.0.9 resource r { exec /other on a { remote b.example role_on_start primary } }",
    "friends 10.0.0.8 resource q { exec /q complaint_count 1 complaint_interval 20 on a { remote 10.0.0.3 role_on_start watchdog } }",
    "resource q { exec /q on a { remote 10.0.0.2 } } resource r { exec /r attempts 1 on a { remote 10.0.0.2 } }",
];

/// Read once: it would take most of the time.
fn config(at: usize) -> Config {
    static ALL: OnceLock<Vec<Config>> = OnceLock::new();
    ALL.get_or_init(|| CONFIGS.map(config_of).into())[at].clone()
}

fn asked() -> impl Strategy<Value = Asked> {
    let resource = || 0..RESOURCES.len();
    let resources = || prop::collection::vec(resource(), 0..4);
    prop_oneof![
        6 => (resource(), prop_oneof![Just(100), -5..200_i32]).prop_map(|(of, priority)| Asked::Handshake(of, priority)),
        6 => (resource(), prop::option::weighted(0.9, 0..4_usize)).prop_map(|(of, token)| Asked::Token(of, token)),
        8 => resource().prop_map(Asked::Complaint),
        2 => resources().prop_map(Asked::Status),
        4 => (0..4_usize, resources()).prop_map(|(role, of)| Asked::SetRole(role, of)),
        1 => any::<(u8, u8)>().prop_map(|(kind, cmd)| Asked::Nonsense(kind, cmd)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![Just(0), 0..3_000_u64, 0..10_000_000_000_u64].prop_map(Step::Wait),
        1 => (0..5_000_u64).prop_map(Step::Backwards),
        3 => Just(Step::ToDeadline),
        20 => (0..CALLERS, asked()).prop_map(|(from, asked)| Step::Ask(from, asked)),
        1 => (0..4_usize).prop_map(Step::Started),
        3 => (0..4_usize, 0..7_usize).prop_map(|(worker, state)| Step::Report(worker, state)),
        2 => (0..4_usize, 0..4_usize).prop_map(|(worker, link)| Step::PrimaryGone(worker, link)),
        6 => (0..4_usize, 0..8_usize).prop_map(|(worker, how)| Step::Exits(worker, how)),
        1 => any::<bool>().prop_map(Step::Resolved),
        1 => Just(Step::Refused),
        1 => (0..CONFIGS.len()).prop_map(Step::Reload),
        1 => Just(Step::Stop),
    ]
}

fn exit(how: usize) -> WorkerExit {
    match how {
        0 => WorkerExit::Signal(9),
        1 => WorkerExit::Code(75),
        2 => WorkerExit::Code(70),
        3 => WorkerExit::NotStarted("no memory".to_string()),
        4 => WorkerExit::Farewell(Farewell::GaveUp(GiveUp::StartsFailed(5))),
        5 => WorkerExit::Farewell(Farewell::GaveUp(GiveUp::Isolated(Duration::from_secs(3)))),
        _ => WorkerExit::Farewell(Farewell::AsOrdered),
    }
}

/// A daemon, and what is known of what it has done.
struct Fuzz {
    daemon: Daemon,
    now: Instant,
    next_conn: u64,
    /// Connections that it has not closed: who made them.
    open: BTreeMap<ConnId, Caller>,
    /// Tokens that were given, by the connection on which they were.
    tokens: BTreeMap<ConnId, [u8; 16]>,
    /// The token with which the newest caller came.
    shown: Option<(ConnId, [u8; 16])>,
    links: Vec<LinkId>,
    /// Workers that have not ended, with their resource and role.
    workers: BTreeMap<WorkerId, (String, Role)>,
    all_workers: Vec<WorkerId>,
    exited: bool,
    stopping: bool,
}

impl Fuzz {
    fn new() -> Self {
        let now = Instant::from_nanos(1_000_000_000_000_000);
        let (daemon, actions) = Daemon::new(now, config(0), PeerProtocol::Legacy, 1);
        let mut fuzz = Self {
            daemon,
            now,
            next_conn: 0,
            open: BTreeMap::new(),
            tokens: BTreeMap::new(),
            shown: None,
            links: Vec::new(),
            workers: BTreeMap::new(),
            all_workers: Vec::new(),
            exited: false,
            stopping: false,
        };
        fuzz.check(actions);
        fuzz
    }

    fn input(&mut self, step: Step) -> Option<Input> {
        let worker = |at: usize| self.all_workers.iter().rev().nth(at).copied().unwrap_or(WorkerId(u64::MAX));
        Some(match step {
            Step::Wait(ms) => {
                self.now = self.now + Duration::from_millis(ms);
                return None;
            }
            Step::Backwards(ms) => {
                self.now = self.now - Duration::from_millis(ms);
                Input::Timer
            }
            Step::ToDeadline => {
                self.now = self.daemon.next_deadline().unwrap_or(self.now).max(self.now);
                Input::Timer
            }
            Step::Ask(from, asked) => self.message(from, asked),
            Step::Started(at) => Input::WorkerStarted(worker(at), 4711),
            Step::Report(at, state) => {
                let remotes = vec![RemoteReport::Connected(true)];
                Input::Report(
                    worker(at),
                    Report {
                        state: State::ALL[state],
                        attempts: 1,
                        remotes,
                        complaints: 1,
                        lease: None,
                        lateness: None,
                        statuses: Vec::new(),
                    },
                )
            }
            Step::PrimaryGone(at, link) => {
                let link = self.links.iter().rev().nth(link).copied().unwrap_or(LinkId(0));
                Input::PrimaryGone(worker(at), link)
            }
            Step::Exits(at, how) => {
                let id = worker(at);
                self.workers.remove(&id);
                Input::WorkerExited(id, exit(how))
            }
            Step::Resolved(found) => {
                let found =
                    if found { Ok(Vec::from(["10.0.0.3".parse().unwrap()])) } else { Err("not found".to_string()) };
                Input::Resolved("b.example".to_string(), found)
            }
            Step::Refused => Input::Refused("10.9.9.9".parse().unwrap(), "stranger".to_string()),
            Step::Reload(at) => Input::Reload(Box::new(config(at))),
            Step::Stop => {
                self.stopping = true;
                Input::Stop
            }
        })
    }

    fn message(&mut self, from: usize, asked: Asked) -> Input {
        let caller = match from {
            4 => Caller::ControlSocket(None),
            from => DaemonBench::caller(["10.0.0.2", "10.0.0.3", "10.0.0.9", "10.9.9.9"][from]),
        };
        let via = if from == 4 { Via::ControlSocket } else { Via::Network(None) };
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        self.open.insert(conn, caller);
        self.shown = None;
        let name = |of: usize| RESOURCES[of].to_string();
        let request = match asked {
            Asked::Handshake(of, priority) => Request::Handshake { resource: name(of), priority },
            Asked::Token(of, token) => {
                let token = token.and_then(|at| self.tokens.values().rev().nth(at).copied()).unwrap_or([0; 16]);
                self.shown = Some((conn, token));
                Request::HandshakeToken { resource: name(of), token, resuid: 7 }
            }
            Asked::Complaint(of) => Request::Complaint { resource: name(of) },
            Asked::Status(of) => Request::Status { resources: of.into_iter().map(name).collect() },
            Asked::SetRole(role, of) => {
                Request::SetRole { role: Role::ALL[role], resources: of.into_iter().map(name).collect(), force: false }
            }
            Asked::Nonsense(kind, cmd) => {
                let message = List::new().with_u8("type", kind).with_u8("cmd", cmd);
                return Input::Message { conn, caller, message, unix_now_s: 0, random: [0; 16] };
            }
        };
        let random = (u128::from(conn.0) | 1 << 100).to_le_bytes();
        Input::Message { conn, caller, message: request.encode(via), unix_now_s: 0, random }
    }

    fn give(&mut self, input: Input) {
        let actions = self.daemon.handle(self.now, input);
        self.check(actions);
    }

    fn check(&mut self, actions: Vec<Action>) {
        assert!(!self.exited || actions.is_empty());
        for (at, action) in actions.iter().enumerate() {
            match action {
                Action::Reply { conn, message, keep } => {
                    assert!(self.open.contains_key(conn), "a connection that is closed is answered");
                    match Answer::decode(message) {
                        Ok(Answer::Token(token)) => {
                            assert!(*keep && self.tokens.insert(*conn, token).is_none());
                        }
                        _ => assert!(!*keep && self.open.remove(conn).is_some()),
                    }
                }
                Action::Close(conn) => assert!(self.open.remove(conn).is_some(), "closed twice"),
                Action::StartWorker { id, assignment } => {
                    let name = &assignment.resource.name;
                    assert!(self.workers.values().all(|(of, _)| of != name), "two workers for {name}");
                    assert!(!self.all_workers.contains(id));
                    self.workers.insert(*id, (name.clone(), assignment.role));
                    self.all_workers.push(*id);
                }
                Action::Order { id, .. } | Action::KillWorker(id) => assert!(self.workers.contains_key(id)),
                Action::HandOver { worker, link, asks, answers, .. } => {
                    self.check_hand_over(*worker, *asks, *answers);
                    assert!(!self.links.contains(link));
                    self.links.push(*link);
                }
                Action::Event(..) | Action::LoadConfig | Action::Adopt | Action::FindRecord(_) => {}
                Action::Welcome { .. } | Action::Tell { .. } | Action::Record { .. } | Action::RecordPause { .. } => {
                    panic!("{action:?} among originals")
                }
                Action::Exit => {
                    assert_eq!(at + 1, actions.len(), "the end comes last");
                    assert!(self.workers.is_empty() && self.stopping);
                    self.exited = true;
                }
            }
        }
        if self.exited {
            return;
        }
        let deadline = self.daemon.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "a deadline has passed: it would never sleep");
        assert!(self.open.len() <= MAX_HALF_OPEN * RESOURCES.len(), "{} connections are kept", self.open.len());
        let known: BTreeSet<_> = self.daemon.resources().iter().filter_map(Supervisor::worker).collect();
        assert_eq!(known, self.workers.keys().copied().collect());
        assert!(self.daemon.pids.keys().all(|id| known.contains(id)));
    }

    /// Both connections come from the same address, and the second one with the token that was given on the first.
    fn check_hand_over(&mut self, worker: WorkerId, asks: ConnId, answers: ConnId) {
        let (first, second) = (self.open.remove(&asks).unwrap(), self.open.remove(&answers).unwrap());
        let token = self.tokens.remove(&asks);
        assert_eq!(self.shown, token.map(|token| (answers, token)));
        assert_eq!(first, second);
        assert_eq!(self.workers[&worker].1, Role::Secondary);
    }

    /// Told to stop, it exits as soon as its workers have ended.
    fn finish(&mut self) {
        self.stopping = true;
        if !self.exited {
            self.give(Input::Stop);
        }
        let mut steps = 0;
        while !self.exited {
            steps += 1;
            assert!(steps < 100, "it does not come to its end");
            let Some(id) = self.workers.keys().next().copied() else {
                // A worker that died is followed by another one after a pause.
                self.now = self.daemon.next_deadline().expect("nothing runs, and nothing ever will");
                self.give(Input::Timer);
                continue;
            };
            self.workers.remove(&id);
            self.give(Input::WorkerExited(id, exit(steps % 8)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn whatever_happens_the_daemon_keeps_its_rules_and_comes_to_its_end(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut fuzz = Fuzz::new();
        for step in steps {
            if fuzz.exited {
                return Ok(());
            }
            if let Some(input) = fuzz.input(step) {
                fuzz.give(input);
            }
        }
        fuzz.finish();
    }
}
