//! All that is outside of the daemons and workers: time, hosts, and what one process tells another. The network is in `network.rs`, the
//! scripts are in `scripts.rs`. Carries; decides nothing about roles.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hastmon_core::config::{Address, Config};
use hastmon_core::daemon::{ConnId, WorkerId};
use hastmon_core::hooks::Exit;
use hastmon_core::lease::{Ask, Grant, Release};
use hastmon_core::supervisor::WorkerExit;
use hastmon_core::time::Instant;
use hastmon_core::wire::request::Request;
use hastmon_core::worker::{Assignment, LinkId, Order, Report};

use super::agenda::{Agenda, Time};
use super::exclusion::Exclusion;
use super::faults::Fault;
use super::host::{Host, HostId, LATENESS};
use super::network::{End, EndId, Packet};
use super::rng::Rng;
use super::scripts::{Script, ScriptId, Step};
use super::trace::Trace;

/// A process of a daemon or a worker; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Pid(pub(crate) u64);

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum What {
    Process(Pid, Happening),
    Packet {
        from: EndId,
        to: EndId,
        host: HostId,
        packet: Packet,
    },
    Script(ScriptId, Step),
    /// A record is on the disk of a host.
    Disk {
        host: HostId,
        pid: Pid,
        id: u64,
    },
    Spawn {
        pid: Pid,
        daemon: Pid,
        id: WorkerId,
        host: HostId,
        assignment: Box<Assignment>,
    },
    Fault(Fault),
}

/// Something that happens to a process.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A timer, if it is still the newest one.
    Wake(u64),
    Accepted(EndId),
    Established(EndId),
    Readable(EndId),
    Closed(EndId),
    /// A connection, or an attempt to make one, has had its time.
    LinkDeadline(LinkId),
    /// A caller has had its time to speak.
    TalkDeadline(ConnId),
    ComplaintDeadline(EndId),
    HookExited(u64, Exit),
    FromWorker(WorkerId, FromWorker),
    ToWorker(ToWorker),
    Control(Request),
    Terminate,
    Hangup,
    /// What is on the disk shall be looked at.
    FindRecord(String),
    /// A record is on the disk, or why not.
    Recorded(u64, Result<(), String>),
    /// The record of a pause is on the disk, or why not.
    PauseRecorded(u64, Result<(), String>),
    /// The configuration has been read again.
    Loaded(Box<Config>),
}

/// What a worker tells its daemon.
#[derive(Debug)]
pub(crate) enum FromWorker {
    Started(Pid),
    Report(Report),
    PrimaryGone(LinkId),
    Asked(Ask),
    Released(Release),
    Won(Grant),
    HandOverRefused(String),
    PauseHeard(hastmon_core::pause::Pause),
    Gone(WorkerExit),
}

/// What a daemon tells a worker.
#[derive(Debug)]
pub(crate) enum ToWorker {
    Order(Order),
    Serve {
        link: LinkId,
        from: Address,
        asks: EndId,
        answers: EndId,
        resuid: u64,
    },
    /// The daemon's end of the channel is closed.
    Gone,
}

/// How long a message between processes of one host takes.
const CHANNEL_DELAY: (Duration, Duration) = (Duration::from_micros(20), Duration::from_micros(300));
/// How long a process takes to begin.
const SPAWN_DELAY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(5));

#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) hosts: Vec<Host>,
    pub(crate) agenda: Agenda<What>,
    pub(super) ends: BTreeMap<EndId, End>,
    /// Ways on which nothing gets through, in one direction.
    pub(super) cuts: BTreeSet<(HostId, HostId)>,
    pub(super) delay: (Duration, Duration),
    /// Ways on which everything takes up to so much longer.
    pub(super) slow: BTreeMap<(HostId, HostId), Duration>,
    pub(super) scripts: BTreeMap<ScriptId, Script>,
    pub(crate) exclusion: Exclusion,
    /// Nodes speak protocol 1 and take the lease; otherwise protocol 0.
    pub(crate) lease: bool,
    /// What was sent last over a channel arrives then.
    channels: BTreeMap<(Pid, Pid), Time>,
    /// Processes that have not begun yet.
    pub(super) beginning: BTreeMap<Pid, HostId>,
    /// Workers that their daemon kills.
    pub(super) to_kill: Vec<Pid>,
    next_id: u64,
}

impl Kernel {
    pub(crate) fn new(rng: Rng, trace: Trace, hosts: Vec<Host>, delay: (Duration, Duration)) -> Self {
        Self {
            now: Time::ZERO,
            rng,
            trace,
            hosts,
            agenda: Agenda::new(),
            ends: BTreeMap::new(),
            cuts: BTreeSet::new(),
            delay,
            slow: BTreeMap::new(),
            scripts: BTreeMap::new(),
            exclusion: Exclusion::default(),
            lease: false,
            channels: BTreeMap::new(),
            beginning: BTreeMap::new(),
            to_kill: Vec::new(),
            next_id: 0,
        }
    }

    pub(crate) const fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn host(&self, host: HostId) -> &Host {
        &self.hosts[host.0]
    }

    pub(crate) fn host_mut(&mut self, host: HostId) -> &mut Host {
        &mut self.hosts[host.0]
    }

    pub(crate) fn clock(&self, host: HostId) -> Instant {
        self.host(host).clock.read(self.now)
    }

    /// Tells something about a host or one of its processes.
    pub(crate) fn tell(&mut self, host: HostId, who: &str, what: impl FnOnce() -> String) {
        if self.trace.is_off() {
            return;
        }
        let name = &self.hosts[host.0].name;
        let who = if who.is_empty() { name.clone() } else { format!("{name} {who}") };
        self.trace.tell(self.now, &who, what);
    }

    pub(crate) fn whisper(&mut self, host: HostId, who: &str, what: impl FnOnce() -> String) {
        if self.trace.is_off() {
            return;
        }
        let who = format!("{} {who}", self.hosts[host.0].name);
        self.trace.whisper(self.now, &who, what);
    }

    pub(crate) fn soon(&mut self, pid: Pid, what: Happening) {
        self.agenda.add(self.now, What::Process(pid, what));
    }

    pub(crate) fn after(&mut self, span: Duration, pid: Pid, what: Happening) {
        let late = self.rng.between((Duration::ZERO, LATENESS));
        self.agenda.add(self.now + span + late, What::Process(pid, what));
    }

    /// Wakes a process when its host's clock shows `deadline`.
    pub(crate) fn wake(&mut self, host: HostId, pid: Pid, deadline: Instant, generation: u64) {
        let late = self.rng.between((Duration::ZERO, self.host(host).lateness));
        if let Some(when) = self.host(host).clock.when(deadline) {
            self.agenda.add(when.max(self.now) + late, What::Process(pid, Happening::Wake(generation)));
        }
    }

    /// Over the channel between two processes: in order.
    pub(crate) fn send_on_channel(&mut self, from: Pid, to: Pid, what: Happening) {
        let delay = self.rng.between(CHANNEL_DELAY);
        let last = self.channels.entry((from, to)).or_default();
        *last = (self.now + delay).max(*last);
        self.agenda.add(*last, What::Process(to, what));
    }

    /// Starts the process of a worker; `None` when the host has no more.
    pub(crate) fn spawn(
        &mut self,
        host: HostId,
        daemon: Pid,
        id: WorkerId,
        assignment: Box<Assignment>,
    ) -> Option<Pid> {
        if self.host(host).no_processes_left {
            return None;
        }
        let pid = Pid(self.new_id());
        let begins = self.now + self.rng.between(SPAWN_DELAY);
        self.channels.insert((daemon, pid), begins);
        self.beginning.insert(pid, host);
        self.agenda.add(begins, What::Spawn { pid, daemon, id, host, assignment });
        Some(pid)
    }

    /// Takes the lock on the resource of a host, if nobody else has it.
    pub(crate) fn lock(&mut self, host: HostId, pid: Pid) -> bool {
        *self.host_mut(host).lock.get_or_insert(pid) == pid
    }

    /// A process that is gone says nothing more; what it has said is still on its way.
    pub(crate) fn forget_channels_from(&mut self, pid: Pid) {
        self.channels.retain(|(from, _), _| *from != pid);
    }
}
