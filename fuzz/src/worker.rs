//! A worker in each role, and a process around it that runs its hooks and holds its connections. What must hold whatever happens:
//!
//! - one hook at a time, but for those that were sent KILL, of which there are few; nothing is sent to a hook that has ended;
//! - `start` is asked of a primary alone, no more than `attempts` times in vain, never when it has begun to end, and never while a remote
//!   has said that it runs the resource; a watchdog asks for nothing that touches the resource, and a secondary never for `start`;
//! - a primary, and a secondary without a successor, ends only when `stop` has worked or the administrator knows that the resource may still run;
//! - each remote has one connection or poll at a time, heartbeats are counted from 1, only a secondary is complained to;
//! - told to end in a hurry, it ends within its budget, when KILL does its work;
//! - what one input causes is bounded, and no deadline lies in the past.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use hastmon_core::config::{Address, Config, Resource};
use hastmon_core::event::Event;
use hastmon_core::hooks::{Exit, Hook, KILL_GRACE, MAX_LEFT_OVER, MAX_LEFT_OVER_FOR_STOP, MAX_WAITING, TERM_GRACE};
use hastmon_core::time::{Duration, Instant};
use hastmon_core::types::{Role, State};
use hastmon_core::wire::session::Refusal;
use hastmon_core::worker::{
    Action, Assignment, Farewell, Input as WorkerInput, LinkEvent, LinkId, Order, RemoteReport, Report, Worker,
};

use super::input::Input;

const STEPS_MS: [u64; 8] = [0, 1, 100, 500, 1_000, 2_000, 10_000, 120_000];
/// Steps of one run: longer ones find nothing that this many do not.
const MAX_STEPS: usize = 400;
/// What one input may cause: the end of every hook that waits, when no more can be started, and a few actions for each remote.
const MAX_ACTIONS: usize = MAX_WAITING + 40;
/// The worker as a text for debugging: more is a leak.
const MAX_DEBUG_BYTES: usize = 64 << 10;
/// The most attempts that one of the settings allows.
const MAX_ATTEMPTS: u32 = 3;
/// Between two calls of `stop` at the end.
const LAST_STOP_PAUSE: Duration = Duration::from_secs(1);
/// Steps that the way to the end may take: as many as hooks may wait, and some.
const MAX_LAST_STEPS: usize = 300;

/// The first bytes say what the worker shall do; the others are steps. One byte means that it takes part in the lease.
pub fn worker(data: &[u8]) {
    if let Some((&super::lease::MARK, data)) = data.split_first() {
        return super::lease::worker(data);
    }
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    for _ in 0..MAX_STEPS {
        if input.is_empty() || world.farewell.is_some() {
            break;
        }
        world.step(&mut input);
    }
    world.leave();
}

/// Settings of one resource, those at the start first.
fn settings() -> &'static [Resource] {
    static SETTINGS: OnceLock<Vec<Resource>> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let b = "tcp4://192.0.2.2";
        let text = |remotes: &str, rest: &str| {
            format!(
                "timeout 2 heartbeat_interval 1 attempts 2 complaint_count 4 start_timeout 8 stop_timeout 4 status_timeout 2 hook_timeout 3
                 resource web {{ exec /run {rest} on a {{ remote {remotes} priority 10 }} on b {{ remote none }} on c {{ remote none }} }}"
            )
        };
        let texts = [
            text("tcp4://192.0.2.2 tcp4://192.0.2.3", ""),
            text(b, ""),
            text("none", ""),
            text("tcp4://192.0.2.3 tcp4://192.0.2.4", "friends 192.0.2.9 attempts 3"),
            text(b, "timeout 3 heartbeat_interval 30 complaint_count 1 hook_timeout 1ms start_timeout 1m"),
        ];
        texts.iter().map(|text| super::valid(text)).filter_map(|config: Config| config.resources.into_iter().next()).collect()
    })
}

/// A process of the script that has not ended.
struct Process {
    hook: Hook,
    was_killed: bool,
}

enum Link {
    /// A primary's, on its way.
    Connecting(Address),
    /// A primary's, with the number of the last heartbeat and what the remote said last.
    Up(Address, u64, State),
    /// A secondary's.
    Served,
    /// A watchdog's.
    Poll(Address),
}

struct World {
    worker: Worker,
    role: Role,
    remotes: usize,
    now: Instant,
    /// The numbers of all hooks that ran.
    hooks: BTreeSet<u64>,
    /// Of links that the worker numbers, and of those that the main daemon numbers.
    last_link: u64,
    last_served: u64,
    processes: BTreeMap<u64, Process>,
    links: BTreeMap<LinkId, Link>,
    /// Remotes whose last answer to a poll was "secondary".
    secondaries: BTreeSet<String>,
    starts_in_vain: u32,
    told_to_end: bool,
    has_no_successor: bool,
    /// The resource may still run, and the administrator knows.
    confessed: bool,
    state: State,
    farewell: Option<Farewell>,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let resource = settings()[0].clone();
        let role = input.one_of(&Role::ALL).unwrap_or(Role::Init);
        let changed_from =
            input.one_of(&[None, Some(Role::Init), Some(Role::Secondary), Some(Role::Primary)]).flatten();
        let replaces = resource.remotes.get(input.below(3)).filter(|_| role == Role::Primary).cloned();
        let now = Instant::from_nanos(1_000_000_000_000);
        let remotes = resource.remotes.len();
        let (worker, actions) =
            Worker::new(now, Assignment { resource, role, changed_from, replaces, lease: None, in_haste: false });
        let mut world = Self {
            worker,
            role,
            remotes,
            now,
            hooks: BTreeSet::new(),
            last_link: 0,
            last_served: 1 << 32,
            processes: BTreeMap::new(),
            links: BTreeMap::new(),
            secondaries: BTreeSet::new(),
            starts_in_vain: 0,
            told_to_end: false,
            has_no_successor: false,
            confessed: false,
            state: State::Unknown,
            farewell: None,
        };
        world.carry_out(actions);
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 | 1 => {
                self.now = self.now + Duration::from_millis(input.one_of(&STEPS_MS).unwrap_or_default());
                self.tell(WorkerInput::Timer);
            }
            2 | 3 => {
                self.now = self.worker.next_deadline().unwrap_or(self.now).max(self.now);
                self.tell(WorkerInput::Timer);
            }
            4..=7 => self.end_hook(input),
            8..=10 => self.hear(input),
            11 => self.connect_primary(input),
            12 => self.poll(input),
            13 => {
                let order = if input.flag() { Order::Polled } else { Order::Complaint };
                self.tell(WorkerInput::Order(order));
            }
            14 => {
                let some = settings();
                let resource = some[input.below(some.len())].clone();
                self.remotes = resource.remotes.len();
                // A poll of a remote that goes is not waited for.
                let stays = |link: &Link| !matches!(link, Link::Poll(address) if !resource.remotes.contains(address));
                self.links.retain(|_, link| stays(link));
                self.tell(WorkerInput::Order(Order::Reconfigure(Box::new(resource))));
            }
            _ => match input.byte() {
                0x55 => self.end(false),
                0x56 => self.end(true),
                0x57 => {
                    (self.told_to_end, self.has_no_successor) = (true, true);
                    self.tell(WorkerInput::DaemonGone);
                }
                0x58 => {
                    (self.told_to_end, self.has_no_successor) = (true, true);
                    self.tell(WorkerInput::Order(Order::Leave { reason: "told to leave".into() }));
                }
                _ => {}
            },
        }
    }

    fn end(&mut self, hurry: bool) {
        self.told_to_end = true;
        self.tell(WorkerInput::Order(Order::End { reason: "told to".into(), hurry, successor: None }));
    }

    /// A process of the script ends; or one that did long ago, or never was.
    fn end_hook(&mut self, input: &mut Input<'_>) {
        let alive: Vec<_> = self.processes.keys().copied().collect();
        let id = input.one_of(&alive).unwrap_or_else(|| input.byte().into());
        let exit = match input.byte() % 8 {
            0..=2 => Exit::Code(0),
            3 | 4 => Exit::Code(1),
            5 => Exit::Code(input.byte().into()),
            6 => Exit::Signal(15),
            _ => Exit::NotStarted("no such file".into()),
        };
        self.finish_hook(id, exit);
    }

    fn finish_hook(&mut self, id: u64, exit: Exit) {
        let process = self.processes.remove(&id);
        if process.is_some_and(|process| process.hook == Hook::Status) && exit == Exit::Code(0) {
            self.starts_in_vain = 0;
        }
        self.tell(WorkerInput::HookExited { id, exit, output: Vec::new() });
    }

    fn some_link(&self, input: &mut Input<'_>) -> LinkId {
        let known: Vec<_> = self.links.keys().copied().collect();
        input.one_of(&known).unwrap_or_else(|| LinkId(input.byte().into()))
    }

    /// The other side of a connection says something, or the connection is gone.
    fn hear(&mut self, input: &mut Input<'_>) {
        let link = self.some_link(input);
        let state = input.one_of(&State::ALL).unwrap_or_default();
        match (self.links.get_mut(&link), input.byte() % 8) {
            (Some(Link::Connecting(address)), 0..=3) => {
                let up = Link::Up(address.clone(), 0, State::Unknown);
                self.links.insert(link, up);
                self.tell(WorkerInput::Link(link, LinkEvent::Up));
            }
            (Some(Link::Up(_, asked, said)), how @ 0..=4) => {
                let seq = if how == 4 { input.int64() } else { *asked };
                if seq <= *asked {
                    *said = state;
                }
                self.tell(WorkerInput::Link(link, LinkEvent::Answer { seq, state: Ok(state) }));
            }
            (Some(Link::Served), 0..=5) => self.tell(WorkerInput::Heartbeat { link, seq: input.int64() }),
            (_, 5) => {
                let state = Err(i16::from_le_bytes(input.array()));
                self.tell(WorkerInput::Link(link, LinkEvent::Answer { seq: input.int64(), state }));
            }
            (_, 6) => {
                self.links.retain(|id, known| *id != link || matches!(known, Link::Served | Link::Poll(_)));
                let priority = input.one_of(&[None, Some(0), Some(9), Some(10), Some(11), Some(-1)]).flatten();
                let message = if input.flag() { Refusal::Busy.to_string() } else { input.text() };
                self.tell(WorkerInput::Link(link, LinkEvent::Refused { message, priority }));
            }
            (Some(Link::Served), _) => self.tell(WorkerInput::PrimaryLost { link, why: input.text() }),
            _ => {
                self.links.retain(|id, known| *id != link || matches!(known, Link::Served | Link::Poll(_)));
                let event = if input.flag() { LinkEvent::Silent } else { LinkEvent::Failed };
                self.tell(WorkerInput::Link(link, event(input.text())));
            }
        }
    }

    fn connect_primary(&mut self, input: &mut Input<'_>) {
        self.last_served += 1;
        let link = LinkId(self.last_served);
        self.links.insert(link, Link::Served);
        let from = input.one_of(&["tcp4://192.0.2.2", "tcp4://192.0.2.3", "elsewhere"]).unwrap_or_default();
        self.tell(WorkerInput::PrimaryConnected { link, from: from.into() });
    }

    fn poll(&mut self, input: &mut Input<'_>) {
        let link = self.some_link(input);
        let role = input.one_of(&Role::ALL).unwrap_or(Role::Init);
        let state = input.one_of(&State::ALL).unwrap_or_default();
        let answer = if input.byte().is_multiple_of(4) { Err(input.text()) } else { Ok((role, state)) };
        if let Some(Link::Poll(address)) = self.links.get(&link) {
            if matches!(answer, Ok((Role::Secondary, _))) {
                self.secondaries.insert(address.text.clone());
            } else {
                self.secondaries.remove(&address.text);
            }
            self.links.remove(&link);
        }
        self.tell(WorkerInput::Polled { link, answer });
    }

    fn tell(&mut self, input: WorkerInput) {
        if self.farewell.is_none() {
            let actions = self.worker.handle(self.now, input);
            self.carry_out(actions);
        }
    }

    /// Does what the worker wants, and checks that it may want it.
    fn carry_out(&mut self, actions: Vec<Action>) {
        assert!(actions.len() <= MAX_ACTIONS, "{actions:?}");
        for action in actions {
            assert!(self.farewell.is_none(), "{action:?} after the end");
            match action {
                Action::RunHook(call) => self.run(call.id, call.hook),
                Action::Say(..)
                | Action::AskHere(_)
                | Action::ReleaseHere(_)
                | Action::Won(_)
                | Action::HandOverRefused(_)
                | Action::PauseHeard(_)
                | Action::Fence(_)
                | Action::FencedHere { .. }
                | Action::Reboot => panic!("{action:?} among originals"),
                Action::TerminateHook(id) => {
                    assert!(self.processes.contains_key(&id), "TERM for a hook that has ended")
                }
                Action::KillHook(id) => {
                    self.processes.get_mut(&id).expect("KILL for a hook that lives").was_killed = true;
                }
                Action::Connect(link, address) => {
                    assert_eq!(self.role, Role::Primary);
                    self.open(link, &address, Link::Connecting(address.clone()));
                }
                Action::SendHeartbeat { link, state, seq } => {
                    let Some(Link::Up(_, last, _)) = self.links.get_mut(&link) else { panic!("{link:?} is not up") };
                    assert_eq!((seq, state), (*last + 1, self.state));
                    *last = seq;
                }
                Action::AnswerHeartbeat { link, seq: _, state } => {
                    assert!(matches!(self.links.get(&link), Some(Link::Served)));
                    // That it does not run here is said only when it is so; of the other states, one that keeps a primary from starting.
                    assert!(state != State::Stopped || self.state == State::Stopped);
                }
                Action::Disconnect(link) => drop(self.links.remove(&link).expect("a connection that is open")),
                Action::Poll(link, address) => {
                    assert_eq!(self.role, Role::Watchdog);
                    self.open(link, &address, Link::Poll(address.clone()));
                }
                Action::Complain(address) => {
                    assert!(self.role == Role::Watchdog && self.secondaries.contains(&address.text));
                }
                Action::PrimaryGone(_) => assert_eq!(self.role, Role::Secondary),
                Action::Report(report) => self.check_report(&report),
                Action::Event(event) => self.note(&event),
                Action::Exit(farewell) => self.exit(farewell),
            }
        }
        let deadline = self.worker.next_deadline();
        let is_due = self.farewell.is_none() && deadline.is_some_and(|deadline| deadline <= self.now);
        assert!(!is_due, "{deadline:?} is not after {:?}", self.now);
    }

    fn run(&mut self, id: u64, hook: Hook) {
        assert!(self.hooks.insert(id), "a number is used twice");
        assert!(self.processes.values().all(|process| process.was_killed), "two hooks at once");
        let most = if hook == Hook::Stop { MAX_LEFT_OVER_FOR_STOP } else { MAX_LEFT_OVER };
        assert!(self.processes.len() < most, "{} processes are left over", self.processes.len());
        match hook {
            Hook::Start => {
                assert!(self.role == Role::Primary && !self.told_to_end);
                self.starts_in_vain += 1;
                assert!(self.starts_in_vain <= MAX_ATTEMPTS, "attempt {}", self.starts_in_vain);
                assert!(!self.is_elsewhere(&[State::Run, State::Starting]), "started while a remote runs it");
            }
            Hook::Stop | Hook::Status => assert!(matches!(self.role, Role::Primary | Role::Secondary), "{hook}"),
            Hook::Connect | Hook::Disconnect => assert!(matches!(self.role, Role::Primary | Role::Secondary), "{hook}"),
            Hook::Complain => assert!(matches!(self.role, Role::Secondary | Role::Watchdog)),
            Hook::Role { new, .. } => assert_eq!(new, self.role),
        }
        self.processes.insert(id, Process { hook, was_killed: false });
    }

    /// A remote that is connected has said one of these last.
    fn is_elsewhere(&self, states: &[State]) -> bool {
        self.links.values().any(|link| matches!(link, Link::Up(_, _, said) if states.contains(said)))
    }

    fn open(&mut self, link: LinkId, address: &Address, kind: Link) {
        let same = |known: &Link| match known {
            Link::Connecting(other) | Link::Up(other, ..) | Link::Poll(other) => other == address,
            Link::Served => false,
        };
        assert!(!self.links.values().any(same), "two connections to {address}");
        assert!(link.0 > self.last_link, "a number is used twice");
        self.last_link = link.0;
        self.links.insert(link, kind);
    }

    fn check_report(&self, report: &Report) {
        let is_ours =
            |remote: &RemoteReport| matches!(remote, RemoteReport::Polled(..)) == (self.role == Role::Watchdog);
        assert!(report.remotes.iter().all(is_ours));
        assert_eq!(report.remotes.len(), if self.role == Role::Init { 0 } else { self.remotes });
    }

    fn note(&mut self, event: &Event) {
        assert!(!event.to_string().is_empty());
        match event {
            Event::StateChanged { old, new } => {
                assert!(*old == self.state && old != new);
                self.state = *new;
                self.confessed &= *new == State::Failed;
            }
            Event::MayStillRun => self.confessed = true,
            // What a remote says later is no reason to stop again what has begun, if it only stops.
            Event::Starting { .. } => {
                assert!(!self.is_elsewhere(&[State::Run, State::Starting, State::Stopping]), "{event}");
            }
            Event::GivingUp(_) => {
                assert_eq!(self.role, Role::Primary);
                self.told_to_end = true;
            }
            _ => {}
        }
    }

    fn exit(&mut self, farewell: Farewell) {
        assert!(self.processes.values().all(|process| process.was_killed), "a hook is left");
        assert!(self.told_to_end || self.role == Role::Init);
        let must_stop = self.role == Role::Primary || (self.role == Role::Secondary && self.has_no_successor);
        let may_end = !must_stop || self.state == State::Stopped || self.confessed;
        assert!(may_end, "ends while the resource is {}", self.state);
        assert!(self.role == Role::Primary || farewell == Farewell::AsOrdered);
        self.farewell = Some(farewell);
    }

    /// In the end it is told to end, every hook ends when it is sent KILL, and so does the worker.
    fn leave(&mut self) {
        let debug = format!("{:?}", self.worker);
        assert!(debug.len() <= MAX_DEBUG_BYTES, "{} bytes", debug.len());
        for id in self.killed() {
            self.finish_hook(id, Exit::Signal(9));
        }
        self.end(true);
        let resource = self.worker.resource();
        let grace = TERM_GRACE + KILL_GRACE;
        // What runs is ended first; then `stop` and what checks it, three times at most; then the farewell to the script.
        let longest = settings().iter().map(|one| one.start_timeout.max(one.stop_timeout)).max().unwrap_or_default();
        let budget = longest
            + grace
            + (resource.stop_timeout + resource.status_timeout + grace * 2 + LAST_STOP_PAUSE) * 3
            + resource.heartbeat_interval;
        let latest = self.now + budget;
        for _ in 0..MAX_LAST_STEPS {
            for id in self.killed() {
                self.finish_hook(id, Exit::Signal(9));
            }
            if self.farewell.is_some() {
                return;
            }
            self.now = self.worker.next_deadline().expect("something to wait for").max(self.now);
            assert!(self.now <= latest, "it does not end within {budget:?}: {:?}", self.worker);
            self.tell(WorkerInput::Timer);
        }
        assert!(self.farewell.is_some(), "it does not end: {:?}", self.worker);
    }

    fn killed(&self) -> Vec<u64> {
        self.processes.iter().filter(|(_, process)| process.was_killed).map(|(id, _)| *id).collect()
    }
}
