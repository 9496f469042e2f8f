//! Anything, in any order, at any time: what must hold for a worker then.

extern crate std;

use alloc::vec;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::super::*;
use crate::hooks::{MAX_LEFT_OVER_FOR_STOP, MAX_WAITING};
use crate::testing::{B, C, address, assignment, resource};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    /// A clock that does not go on, or is read too late by another thread of thought.
    Backwards(u64),
    ToDeadline,
    End(bool),
    Leave,
    Polled,
    Complaint,
    Reconfigure(usize),
    DaemonGone,
    /// Ends one of the calls that are alive.
    HookEnds(usize, i32),
    HookEndsTwice(u64),
    Link(usize, Said),
    PrimaryConnects(u64),
    Heartbeat(u64, u64),
    PrimaryLost(u64),
    Answer(usize, Option<(usize, usize)>),
}

#[derive(Clone, Debug)]
enum Said {
    Up,
    Refused(Option<i32>, bool),
    Answer(u64, Result<usize, i16>),
    Failed,
}

const SETTINGS: [&str; 4] = [
    "",
    "remote tcp4://10.0.0.3 heartbeat_interval 100ms complaint_count 1 attempts 1 timeout 50ms",
    "remote none friendless stop_timeout 1",
    "remote tcp4://10.0.0.4 tcp4://10.0.0.2 status_timeout 1ms priority 7 complaint_interval 1ms",
];

/// Read once: it would take most of the time.
fn settings(at: usize) -> Resource {
    static ALL: OnceLock<Vec<Resource>> = OnceLock::new();
    ALL.get_or_init(|| SETTINGS.map(resource).into())[at].clone()
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        3 => Just(Said::Up),
        1 => (prop::option::of(0..200), any::<bool>()).prop_map(|(priority, busy)| Said::Refused(priority, busy)),
        4 => (0..6_u64, prop_oneof![4 => (0..7_usize).prop_map(Ok), 1 => any::<i16>().prop_map(Err)])
            .prop_map(|(seq, state)| Said::Answer(seq, state)),
        1 => Just(Said::Failed),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![Just(0), 0..3_000_u64, 0..100_000_u64, 0..10_000_000_000_u64].prop_map(Step::Wait),
        1 => (0..5_000_u64).prop_map(Step::Backwards),
        6 => Just(Step::ToDeadline),
        1 => any::<bool>().prop_map(Step::End),
        1 => Just(Step::Leave),
        1 => Just(Step::Polled),
        2 => Just(Step::Complaint),
        1 => (0..SETTINGS.len()).prop_map(Step::Reconfigure),
        1 => Just(Step::DaemonGone),
        10 => (0..4_usize, 0..4).prop_map(|(at, code)| Step::HookEnds(at, code)),
        1 => any::<u64>().prop_map(Step::HookEndsTwice),
        8 => (0..6_usize, said()).prop_map(|(link, said)| Step::Link(link, said)),
        2 => (0..5_u64).prop_map(Step::PrimaryConnects),
        3 => (0..5_u64, any::<u64>()).prop_map(|(link, seq)| Step::Heartbeat(link, seq)),
        1 => (0..5_u64).prop_map(Step::PrimaryLost),
        6 => (0..6_usize, prop::option::of((0..4_usize, 0..7_usize))).prop_map(|(poll, known)| Step::Answer(poll, known)),
    ]
}

/// A worker, and what is known of what it has done.
struct Fuzz {
    worker: Worker,
    role: Role,
    now: Instant,
    alive: BTreeMap<u64, Hook>,
    ids: BTreeSet<u64>,
    killed: BTreeSet<u64>,
    /// Attempts to connect and polls, in their order.
    links: Vec<LinkId>,
    up: BTreeSet<LinkId>,
    served: BTreeSet<LinkId>,
    ended: bool,
}

impl Fuzz {
    fn new(role: Role, changed_from: Option<Role>, replaces: bool) -> Self {
        let now = Instant::from_nanos(1_000_000_000_000_000);
        let replaces = replaces.then(|| address(B));
        let resource = settings(0);
        let (worker, actions) =
            Worker::new(now, Assignment { resource, changed_from, replaces, ..assignment(role, "") });
        let mut fuzz = Self {
            worker,
            role,
            now,
            alive: BTreeMap::new(),
            ids: BTreeSet::new(),
            killed: BTreeSet::new(),
            links: Vec::new(),
            up: BTreeSet::new(),
            served: BTreeSet::new(),
            ended: false,
        };
        fuzz.check(actions, None);
        fuzz
    }

    fn input(&mut self, step: Step) -> Option<Input> {
        let link = |at: usize| self.links.iter().rev().nth(at).copied().unwrap_or(LinkId(u64::MAX));
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
                self.now = self.worker.next_deadline().unwrap_or(self.now).max(self.now);
                Input::Timer
            }
            Step::End(hurry) => Input::Order(Order::End { reason: String::new(), hurry, successor: None }),
            Step::Leave => Input::Order(Order::Leave { reason: String::new() }),
            Step::Polled => Input::Order(Order::Polled),
            Step::Complaint => Input::Order(Order::Complaint),
            Step::Reconfigure(at) => Input::Order(Order::Reconfigure(Box::new(settings(at)))),
            Step::DaemonGone => Input::DaemonGone,
            Step::HookEnds(at, code) => {
                let id = *self.alive.keys().nth(at)?;
                self.alive.remove(&id);
                let exit = match code {
                    3 => Exit::Signal(9),
                    code => Exit::Code(code),
                };
                Input::HookExited { id, exit, output: Vec::new() }
            }
            Step::HookEndsTwice(id) if !self.alive.contains_key(&id) => {
                Input::HookExited { id, exit: Exit::Code(0), output: Vec::new() }
            }
            Step::HookEndsTwice(_) => return None,
            Step::Link(at, said) => {
                let link = link(at);
                let event = match said {
                    Said::Up => {
                        self.up.insert(link);
                        LinkEvent::Up
                    }
                    Said::Refused(priority, busy) => {
                        let message = if busy { "Busy: try again." } else { "no" }.to_string();
                        LinkEvent::Refused { message, priority }
                    }
                    Said::Answer(seq, state) => LinkEvent::Answer { seq, state: state.map(|at| State::ALL[at]) },
                    Said::Failed => LinkEvent::Failed("failed".to_string()),
                };
                Input::Link(link, event)
            }
            Step::PrimaryConnects(at) => {
                let link = LinkId(1 << 32 | at);
                self.served.insert(link);
                Input::PrimaryConnected { link, from: C.to_string() }
            }
            Step::Heartbeat(at, seq) => Input::Heartbeat { link: LinkId(1 << 32 | at), seq },
            Step::PrimaryLost(at) => Input::PrimaryLost { link: LinkId(1 << 32 | at), why: String::new() },
            Step::Answer(at, known) => {
                let answer = known.map(|(role, state)| (Role::ALL[role], State::ALL[state])).ok_or(String::new());
                Input::Polled { link: link(at), answer }
            }
        })
    }

    fn give(&mut self, input: Input) {
        let asked = match &input {
            Input::Heartbeat { link, seq } => Some((*link, *seq)),
            _ => None,
        };
        let actions = self.worker.handle(self.now, input);
        self.check(actions, asked);
    }

    fn check(&mut self, actions: Vec<Action>, asked: Option<(LinkId, u64)>) {
        for (at, action) in actions.iter().enumerate() {
            match action {
                Action::RunHook(call) => {
                    assert!(self.ids.insert(call.id), "an id comes twice");
                    assert!(call.hook != Hook::Start || self.role == Role::Primary, "only a primary starts");
                    let free: Vec<_> = self.alive.keys().filter(|id| !self.killed.contains(id)).collect();
                    assert!(free.is_empty(), "{} runs beside {free:?}", call.hook);
                    self.alive.insert(call.id, call.hook);
                }
                Action::TerminateHook(id) => assert!(self.ids.contains(id)),
                Action::KillHook(id) => {
                    assert!(self.ids.contains(id));
                    self.killed.insert(*id);
                }
                Action::Connect(link, _) | Action::Poll(link, _) => {
                    assert!(!self.links.contains(link), "a name of a connection comes twice");
                    assert_eq!(matches!(action, Action::Poll(..)), self.role == Role::Watchdog);
                    self.links.push(*link);
                }
                Action::SendHeartbeat { link, .. } => assert!(self.up.contains(link) && self.role == Role::Primary),
                Action::AnswerHeartbeat { link, seq, .. } => assert_eq!(Some((*link, *seq)), asked),
                Action::Disconnect(link) => assert!(self.links.contains(link) || self.served.contains(link)),
                Action::PrimaryGone(link) => assert!(self.served.contains(link)),
                Action::Complain(_) => assert_eq!(self.role, Role::Watchdog),
                Action::Exit(_) => {
                    assert_eq!(at + 1, actions.len(), "the end comes last");
                    self.ended = true;
                }
                Action::Report(_) => assert_eq!(at, 0, "a report comes first"),
                Action::Event(_) => {}
                Action::Say(..)
                | Action::AskHere(_)
                | Action::ReleaseHere(_)
                | Action::Won(_)
                | Action::HandOverRefused(_)
                | Action::PauseHeard(_)
                | Action::Fence(_)
                | Action::FencedHere { .. }
                | Action::Reboot => panic!("{action:?} among originals"),
            }
        }
        if !self.ended {
            let deadline = self.worker.next_deadline();
            assert!(deadline.is_none_or(|deadline| deadline > self.now), "a deadline has passed: it would never sleep");
        }
        let base = &self.worker.base;
        assert!(base.finished.is_empty() && base.out.is_empty());
        assert!(base.hooks.len() <= MAX_WAITING + 2 * MAX_LEFT_OVER_FOR_STOP, "{}", base.hooks.len());
    }

    /// Told to end, and with nothing from outside but ends of hooks that obey signals, it comes to its end.
    fn finish(&mut self) {
        let end = Input::Order(Order::End { reason: String::new(), hurry: false, successor: None });
        if !self.ended {
            self.give(end);
        }
        let mut steps = 0;
        while !self.ended {
            steps += 1;
            assert!(steps < 10_000, "it does not come to its end");
            if let Some(id) = self.alive.keys().copied().find(|id| self.killed.contains(id)) {
                self.alive.remove(&id);
                self.give(Input::HookExited { id, exit: Exit::Signal(9), output: Vec::new() });
                continue;
            }
            let deadline = self.worker.next_deadline();
            let deadline = deadline.expect("without a deadline it would wait for ever");
            self.now = deadline;
            self.give(Input::Timer);
        }
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop::sample::select(Role::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn whatever_happens_a_worker_keeps_its_rules_and_comes_to_its_end(
        role in role(),
        changed_from in prop::option::of(role()),
        replaces in any::<bool>(),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut fuzz = Fuzz::new(role, changed_from, replaces);
        for step in steps {
            if fuzz.ended {
                return Ok(());
            }
            if let Some(input) = fuzz.input(step) {
                fuzz.give(input);
            }
        }
        fuzz.finish();
    }
}
