//! The simulation as a whole: one event after the other happens to kernel and processes, until somebody has seen enough.

use std::collections::BTreeMap;
use std::time::Duration;

use hastmon_core::config::Config;
use hastmon_core::supervisor::WorkerExit;
use hastmon_core::types::Role;
use hastmon_core::wire::request::Request;
use hastmon_core::worker::Farewell;

use super::agenda::Time;
use super::beginner::{Beginner, Next};
use super::cluster::RESOURCE;
use super::daemon_process::DaemonProcess;
use super::faults::{Fault, Whom};
use super::host::{HostId, LATENESS};
use super::kernel::{FromWorker, Happening, Kernel, Pid, ToWorker, What};
use super::process::Life;
use super::scripts::Mood;
use super::worker_process::WorkerProcess;

/// More events than this within a second of simulated time: somebody is in a loop.
const MAX_EVENTS_IN_A_SECOND: u64 = 20_000;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) kernel: Kernel,
    processes: BTreeMap<Pid, Process>,
    /// Processes that are stopped, and what they will find when they go on.
    frozen: BTreeMap<Pid, Vec<Happening>>,
    /// Crashes that would leave the resource running with nobody to stop it do not happen.
    pub(crate) gentle: bool,
    /// With the lease: faults that it cannot help do not happen.
    pub(crate) strict: bool,
    /// How often each kind of fault has happened.
    pub(crate) faults: BTreeMap<&'static str, usize>,
    events: (u64, u64),
}

#[derive(Debug)]
enum Process {
    Daemon(Box<DaemonProcess>),
    Beginner(Box<Beginner>),
    Worker(Box<WorkerProcess>),
}

impl Process {
    fn host(&self) -> HostId {
        match self {
            Self::Daemon(daemon) => daemon.host,
            Self::Beginner(beginner) => beginner.host,
            Self::Worker(worker) => worker.host,
        }
    }
}

/// Whoever looks for the reason of a failure wants to see what happened.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.kernel.trace.show());
        }
    }
}

impl World {
    /// All hosts are switched on within the first tenth of a second, but for those that are `off`.
    pub(crate) fn new(kernel: Kernel, off: &[usize]) -> Self {
        let mut world = Self {
            kernel,
            processes: BTreeMap::new(),
            frozen: BTreeMap::new(),
            gentle: false,
            strict: false,
            faults: BTreeMap::new(),
            events: (0, 0),
        };
        for at in (0..world.kernel.hosts.len()).filter(|at| !off.contains(at)) {
            let when = world.kernel.rng.between((Duration::ZERO, Duration::from_millis(100)));
            world.at(when, Fault::Boot(HostId(at)));
        }
        world
    }

    pub(crate) const fn now(&self) -> Time {
        self.kernel.now
    }

    /// Something will go wrong then.
    pub(crate) fn at(&mut self, when: Time, fault: Fault) {
        self.kernel.agenda.add(when, What::Fault(fault));
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        let until = self.now() + span;
        while self.step(until) {}
        self.kernel.now = until;
    }

    /// Runs until something is so; says how long that took. It fails when it takes longer than `limit`.
    pub(crate) fn until(&mut self, limit: Duration, what: &str, is_so: impl Fn(&Self) -> bool) -> Duration {
        self.until_or(limit, is_so).unwrap_or_else(|| panic!("not within {limit:?}: {what}"))
    }

    /// Runs until something is so; says how long that took, or that it took longer than `limit`.
    pub(crate) fn until_or(&mut self, limit: Duration, is_so: impl Fn(&Self) -> bool) -> Option<Duration> {
        let since = self.now();
        while !is_so(self) {
            if !self.step(since + limit) {
                return None;
            }
        }
        Some(self.now() - since)
    }

    fn step(&mut self, until: Time) -> bool {
        let Some((now, what)) = self.kernel.agenda.next(until) else { return false };
        self.kernel.now = now;
        let (second, count) = &mut self.events;
        *count = if *second == now.as_secs() { *count + 1 } else { 1 };
        *second = now.as_secs();
        assert!(*count < MAX_EVENTS_IN_A_SECOND, "somebody is in a loop");
        self.happen(what);
        while let Some(pid) = self.kernel.to_kill.pop() {
            self.kill(pid);
        }
        true
    }

    fn happen(&mut self, what: What) {
        let host = match &what {
            What::Process(pid, _) => self.processes.get(pid).map(Process::host),
            What::Packet { host, .. } | What::Spawn { host, .. } | What::Disk { host, .. } => Some(*host),
            What::Script(id, _) => self.kernel.host_of_script(*id),
            What::Fault(_) => None,
        };
        if let Some(host) = host
            && self.kernel.host(host).paused
        {
            self.kernel.host_mut(host).deferred.push(what);
            return;
        }
        match what {
            What::Process(pid, happening) => self.happen_to(pid, happening),
            What::Packet { from, to, host, packet } => self.kernel.packet_arrives(from, to, host, packet),
            What::Script(id, step) => self.kernel.script_steps(id, step),
            What::Disk { host, pid, id } => self.kernel.disk_writes(host, pid, id),
            What::Spawn { pid, daemon, id, host, assignment } => {
                if self.kernel.beginning.remove(&pid).is_some() {
                    let mut beginner = Box::new(Beginner::new(pid, host, daemon, id, *assignment));
                    let next = beginner.look(&mut self.kernel);
                    beginner.tell_daemon(&mut self.kernel, FromWorker::Started(pid));
                    self.processes.insert(pid, Process::Beginner(beginner));
                    self.begin_or_end(pid, next);
                }
            }
            What::Fault(fault) => self.apply(fault),
        }
    }

    fn happen_to(&mut self, pid: Pid, happening: Happening) {
        if let Some(waiting) = self.frozen.get_mut(&pid) {
            waiting.push(happening);
            return;
        }
        if let Some(Process::Beginner(beginner)) = self.processes.get_mut(&pid) {
            let next = beginner.handle(&mut self.kernel, happening);
            return self.begin_or_end(pid, next);
        }
        let life = match self.processes.get_mut(&pid) {
            Some(Process::Daemon(daemon)) => daemon.handle(&mut self.kernel, happening),
            Some(Process::Worker(worker)) => worker.handle(&mut self.kernel, happening),
            Some(Process::Beginner(_)) | None => return self.happen_to_nobody(happening),
        };
        self.live_or_end(pid, life);
    }

    /// Connections that were on their way to a process that is gone are closed with it.
    fn happen_to_nobody(&mut self, happening: Happening) {
        match happening {
            Happening::ToWorker(ToWorker::Serve { asks, answers, .. }) => {
                self.kernel.close(asks);
                self.kernel.close(answers);
            }
            Happening::Accepted(end) => self.kernel.close(end),
            _ => {}
        }
    }

    fn begin_or_end(&mut self, pid: Pid, next: Next) {
        match next {
            Next::Waits => {}
            Next::Ends => self.end(pid, WorkerExit::Farewell(Farewell::AsOrdered)),
            Next::Begins => {
                let Some(Process::Beginner(beginner)) = self.processes.remove(&pid) else { return };
                let Beginner { host, daemon, id, assignment, unheard, .. } = *beginner;
                unheard.into_iter().for_each(|happening| self.kernel.soon(pid, happening));
                let (worker, life) = WorkerProcess::start(&mut self.kernel, (host, pid), (daemon, id), assignment);
                self.processes.insert(pid, Process::Worker(Box::new(worker)));
                self.live_or_end(pid, life);
            }
        }
    }

    fn live_or_end(&mut self, pid: Pid, life: Life) {
        match life {
            Life::GoesOn => {}
            Life::Ends(farewell) => {
                let exit = farewell.map_or(WorkerExit::Code(0), WorkerExit::Farewell);
                self.end(pid, exit);
            }
        }
    }

    fn kill(&mut self, pid: Pid) {
        if self.kernel.beginning.remove(&pid).is_some() {
            let daemons = self.processes.values().filter_map(|process| match process {
                Process::Daemon(daemon) => Some(daemon),
                Process::Beginner(_) | Process::Worker(_) => None,
            });
            let parent =
                daemons.flat_map(|daemon| daemon.workers.iter().map(|(id, worker)| (daemon.pid, *id, *worker)));
            if let Some((daemon, id, _)) = parent.into_iter().find(|(_, _, worker)| *worker == pid) {
                let gone = FromWorker::Gone(WorkerExit::Signal(9));
                self.kernel.send_on_channel(pid, daemon, Happening::FromWorker(id, gone));
            }
        }
        self.end(pid, WorkerExit::Signal(9));
    }

    /// A process is gone; its descriptors are closed, and those who are connected to it find out.
    fn end(&mut self, pid: Pid, exit: WorkerExit) {
        self.frozen.remove(&pid);
        let Some(process) = self.processes.remove(&pid) else { return };
        self.kernel.close_all_of(pid);
        self.kernel.host_mut(process.host()).lock.take_if(|holder| *holder == pid);
        match process {
            Process::Daemon(daemon) => {
                self.kernel.tell(daemon.host, "daemon", || "is gone".to_string());
                self.kernel.host_mut(daemon.host).daemon = None;
                self.kernel.cut_off_writes(daemon.host, Some(pid));
                for worker in daemon.workers.values() {
                    self.kernel.send_on_channel(pid, *worker, Happening::ToWorker(ToWorker::Gone));
                }
            }
            Process::Beginner(beginner) => beginner.tell_daemon(&mut self.kernel, FromWorker::Gone(exit)),
            Process::Worker(worker) => {
                self.kernel.whisper(worker.host, "worker", || format!("{} ends: {exit:?}", worker.id.0));
                worker.tell_daemon(&mut self.kernel, FromWorker::Gone(exit));
            }
        }
        self.kernel.forget_channels_from(pid);
    }

    /// Something goes wrong now.
    pub(crate) fn apply(&mut self, fault: Fault) {
        if self.gentle && self.would_abandon(&fault) || self.strict && self.is_beyond_the_rule(&fault) {
            return;
        }
        if let Fault::TryVoters(host, _, config) = &fault
            && !self.would_take(*host, config)
        {
            return;
        }
        self.kernel.trace.tell(self.kernel.now, "####", || match &fault {
            Fault::Voters(host, edition, config) | Fault::TryVoters(host, edition, config) => {
                format!("Voters({host:?}, {edition}, {:?})", config.resources[0].nodes)
            }
            fault => format!("{fault:?}"),
        });
        if let Some(name) = fault.name() {
            *self.faults.entry(name).or_default() += 1;
        }
        match fault {
            Fault::PowerLoss(host) => self.lose_power(host),
            Fault::Boot(host) => self.boot(host),
            Fault::KillDaemon(host) => self.daemon_of(host).into_iter().for_each(|pid| self.kill(pid)),
            Fault::StartDaemon(host) => self.start_daemon(host),
            Fault::StopDaemon(host) => self.tell_daemon(host, Happening::Terminate),
            Fault::KillWorker(host) => self.newest_worker(host).into_iter().for_each(|pid| self.kill(pid)),
            Fault::Freeze(host, whom) => self.freeze(host, whom),
            Fault::Thaw(host) => self.thaw(host),
            Fault::Pause(host) => self.pause(host),
            Fault::Resume(host) => self.resume(host),
            Fault::Cut(from, to) => self.kernel.cut(from, to),
            Fault::Heal(from, to) => self.kernel.heal(from, to),
            Fault::Slow(from, to, extra) => self.kernel.slow_down(from, to, extra),
            Fault::Lag(host, late) => self.kernel.host_mut(host).lateness = late.max(LATENESS),
            Fault::ResourceDies(host) => self.kernel.set_runs(host, false, "it died"),
            Fault::SetMood(host, mood) => self.kernel.host_mut(host).mood = *mood,
            Fault::NoProcesses(host, none) => self.kernel.host_mut(host).no_processes_left = none,
            Fault::Operator(host, role) => {
                let resources = vec![RESOURCE.to_string()];
                self.tell_daemon(host, Happening::Control(Request::SetRole { role, resources, force: false }));
            }
            Fault::DiskFails(host, fails) => self.kernel.host_mut(host).disk.fails = fails,
            Fault::DiskDamaged(host) => self.kernel.host_mut(host).disk.is_damaged = true,
            Fault::DiskSlow(host, slow) => self.kernel.host_mut(host).disk.slow = slow,
            Fault::Force(host) => {
                let resources = vec![RESOURCE.to_string()];
                let request = Request::SetRole { role: Role::Primary, resources, force: true };
                self.tell_daemon(host, Happening::Control(request));
            }
            Fault::PauseResource(host, span) => {
                let (resources, by) = (vec![RESOURCE.to_string()], "operator".to_string());
                self.tell_daemon(host, Happening::Control(Request::Pause { resources, by, span }));
            }
            Fault::ResumeResource(host) => {
                let resources = vec![RESOURCE.to_string()];
                self.tell_daemon(host, Happening::Control(Request::Resume { resources }));
            }
            Fault::Switchover(host, to) => {
                let to = to.map(|to| self.kernel.host(to).name.clone());
                let request = Request::Switchover { resource: RESOURCE.to_string(), to };
                self.tell_daemon(host, Happening::Control(request));
            }
            Fault::Hangup(host) => self.tell_daemon(host, Happening::Hangup),
            Fault::Crowd(host, is_crowded) => {
                self.kernel.host_mut(host).crowd(is_crowded);
                self.tell_daemon(host, Happening::Hangup);
            }
            Fault::Retime(host) => {
                self.kernel.host_mut(host).change_times();
                self.tell_daemon(host, Happening::Hangup);
            }
            Fault::Voters(host, edition, config) | Fault::TryVoters(host, edition, config) => {
                self.kernel.host_mut(host).change_voters(edition, &config);
                self.tell_daemon(host, Happening::Hangup);
            }
            Fault::Reload(host) => {
                self.kernel.host_mut(host).change_config();
                self.tell_daemon(host, Happening::Hangup);
            }
        }
    }

    /// Whether a crash would leave the resource, or a script that may start it, running with no worker to stop it.
    fn would_abandon(&self, fault: &Fault) -> bool {
        let (Fault::KillDaemon(host) | Fault::KillWorker(host) | Fault::StopDaemon(host)) = fault else { return false };
        let daemon = self.kernel.host(*host).daemon.is_some();
        let attended = self.workers(*host).any(|worker| worker.daemon.is_some());
        let busy = self.kernel.host(*host).runs || self.kernel.is_starting(*host);
        match fault {
            Fault::KillWorker(_) => !daemon || self.kernel.is_starting(*host),
            _ => busy && !attended,
        }
    }

    /// Whether a fault would leave the resource, or a script that may start it, with neither daemon nor worker able to act.
    fn is_beyond_the_rule(&self, fault: &Fault) -> bool {
        let able = |pid: &Pid| !self.frozen.contains_key(pid);
        let (host, hits_daemon, hits_workers) = match fault {
            Fault::KillWorker(host) | Fault::Freeze(host, Whom::Workers) => (*host, false, true),
            Fault::KillDaemon(host) | Fault::StopDaemon(host) | Fault::Freeze(host, Whom::Daemon) => {
                (*host, true, false)
            }
            // They are short: both are back soon.
            Fault::Freeze(host, Whom::All) | Fault::Pause(host) => (*host, true, true),
            _ => return false,
        };
        let busy = self.kernel.host(host).runs || self.kernel.is_starting(host);
        let daemon = self.daemon_of(host).is_some_and(|pid| able(&pid));
        let worker = self.workers(host).any(|worker| worker.daemon.is_some() && able(&worker.pid));
        let paused = self.kernel.host(host).paused;
        match (hits_daemon, hits_workers) {
            (true, true) => paused || (busy && !(daemon && worker)),
            (true, false) => paused || (busy && !worker),
            // One that has not begun yet cannot be told from one that stands still.
            _ => paused || !daemon || (matches!(fault, Fault::Freeze(..)) && busy && !worker),
        }
    }

    /// A reload is judged at once, and the nodes of this configuration are taken.
    fn would_take(&self, host: HostId, config: &Config) -> bool {
        let is_awake = |pid: Pid| !self.frozen.contains_key(&pid) && !self.kernel.host(host).paused;
        self.daemon_of(host).is_some_and(is_awake)
            && self.daemon(host).is_some_and(|daemon| daemon.core.why_not_change_nodes(config).is_none())
    }

    /// The nodes that vote as far as the daemon of a host is concerned.
    pub(crate) fn voters_in_force(&self, host: HostId) -> Option<Vec<String>> {
        let voters = self.daemon(host)?.core.resources().first()?.voters_in_force()?;
        let mut names: Vec<String> = voters.iter().map(str::to_string).collect();
        names.sort();
        Some(names)
    }

    /// The daemon of a host goes by the list of nodes in its configuration.
    fn has_read_voters(&self, host: HostId) -> bool {
        let mut wanted = self.kernel.host(host).config.resources[0].nodes.clone();
        wanted.sort();
        // None are known where the vote is bound since before a restart.
        self.voters_in_force(host).is_none_or(|names| names.is_empty() || names == wanted)
    }

    fn tell_daemon(&mut self, host: HostId, what: Happening) {
        if let Some(daemon) = self.daemon_of(host) {
            self.kernel.soon(daemon, what);
        }
    }

    fn daemon_of(&self, host: HostId) -> Option<Pid> {
        self.kernel.host(host).daemon
    }

    pub(crate) fn daemon(&self, host: HostId) -> Option<&DaemonProcess> {
        match self.processes.get(&self.daemon_of(host)?)? {
            Process::Daemon(daemon) => Some(daemon),
            Process::Beginner(_) | Process::Worker(_) => None,
        }
    }

    pub(crate) fn workers(&self, host: HostId) -> impl Iterator<Item = &WorkerProcess> {
        self.processes.values().filter_map(move |process| match process {
            Process::Worker(worker) if worker.host == host => Some(&**worker),
            _ => None,
        })
    }

    fn newest_worker(&self, host: HostId) -> Option<Pid> {
        self.workers(host).map(|worker| worker.pid).max()
    }

    fn lose_power(&mut self, host: HostId) {
        self.processes.retain(|_, process| process.host() != host);
        let alive = &self.processes;
        self.frozen.retain(|pid, _| alive.contains_key(pid));
        self.kernel.beginning.retain(|_, at| *at != host);
        self.kernel.lose_power(host);
        self.kernel.cut_off_writes(host, None);
        self.kernel.forget_scripts(host);
        let lost = self.kernel.host_mut(host);
        lost.deferred.clear();
        (lost.up, lost.paused, lost.daemon, lost.lock) = (false, false, None, None);
        self.kernel.set_runs(host, false, "no power");
    }

    fn boot(&mut self, host: HostId) {
        if !self.kernel.host(host).up {
            self.kernel.host_mut(host).up = true;
            self.kernel.gain_power(host);
        }
        self.start_daemon(host);
    }

    fn start_daemon(&mut self, host: HostId) {
        if self.kernel.host(host).up && self.daemon_of(host).is_none() {
            let pid = Pid(self.kernel.new_id());
            let daemon = DaemonProcess::start(&mut self.kernel, pid, host);
            self.processes.insert(pid, Process::Daemon(Box::new(daemon)));
        }
    }

    fn freeze(&mut self, host: HostId, whom: Whom) {
        let chosen = self.processes.iter().filter(|(_, process)| process.host() == host);
        let chosen = chosen.filter(|(_, process)| match process {
            Process::Daemon(_) => whom != Whom::Workers,
            Process::Beginner(_) | Process::Worker(_) => whom != Whom::Daemon,
        });
        for pid in chosen.map(|(pid, _)| *pid) {
            self.frozen.entry(pid).or_default();
        }
    }

    /// What has waited is found in its order, but for the timer: a process looks at its clock whenever it likes.
    fn thaw(&mut self, host: HostId) {
        let pids: Vec<Pid> = self.frozen.keys().copied().filter(|pid| self.processes[pid].host() == host).collect();
        for pid in pids {
            let waiting = self.frozen.remove(&pid).unwrap_or_default();
            let (timers, mut rest): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|happening| matches!(happening, Happening::Wake(_)));
            for timer in timers {
                let at = self.kernel.rng.index(rest.len() + 1);
                rest.insert(at, timer);
            }
            rest.into_iter().for_each(|happening| self.kernel.soon(pid, happening));
        }
    }

    fn pause(&mut self, host: HostId) {
        self.kernel.host_mut(host).paused = self.kernel.host(host).up;
        self.kernel.count_running();
    }

    fn resume(&mut self, host: HostId) {
        let resumed = self.kernel.host_mut(host);
        resumed.paused = false;
        let deferred = std::mem::take(&mut resumed.deferred);
        let now = self.kernel.now;
        deferred.into_iter().for_each(|what| self.kernel.agenda.add(now, what));
        self.kernel.count_running();
    }

    /// Ends all faults, and has an operator put every node that is off back to work.
    pub(crate) fn recover(&mut self, roles: &[Role], off: &[HostId], beat: Duration) {
        self.kernel.trace.tell(self.kernel.now, "####", || "all faults end".to_string());
        let hosts: Vec<HostId> = (0..self.kernel.hosts.len()).map(HostId).collect();
        for host in &hosts {
            self.resume(*host);
            self.thaw(*host);
            self.kernel.host_mut(*host).mood = Mood::good();
            self.kernel.host_mut(*host).no_processes_left = false;
            self.kernel.host_mut(*host).crowd(false);
            self.kernel.host_mut(*host).lateness = LATENESS;
            self.kernel.host_mut(*host).disk.fails = false;
            self.kernel.host_mut(*host).disk.slow = Duration::ZERO;
            if !off.contains(host) {
                self.boot(*host);
            }
            for other in &hosts {
                self.kernel.heal(*host, *other);
                self.kernel.slow_down(*host, *other, Duration::ZERO);
            }
            // What was refused while another change was under way is asked for again.
            for after in [1, 10, 20] {
                self.at(self.kernel.now + beat * after, Fault::Hangup(*host));
            }
            // A node that was forgotten for more than one change is started anew.
            let now = self.kernel.now;
            if self.kernel.lease && self.daemon(*host).is_some() && !self.has_read_voters(*host) {
                self.at(now + beat, Fault::StopDaemon(*host));
                self.at(now + beat * 9, Fault::StartDaemon(*host));
                self.at(now + beat * 10, Fault::Operator(*host, roles[host.0]));
            }
            let role = self.role(*host);
            if role != Some(roles[host.0]) && (role == Some(Role::Init) || roles[host.0] == Role::Watchdog) {
                self.apply(Fault::Operator(*host, roles[host.0]));
            }
        }
    }

    /// What the log advises when the nodes have gone so different ways with their voters that no majority is left of any: nothing runs anywhere, the
    /// records are removed, and all start again.
    pub(crate) fn start_over(&mut self, roles: &[Role], off: &[HostId], beat: Duration) {
        self.kernel.trace.tell(self.kernel.now, "####", || "the records of all nodes are removed".to_string());
        let hosts: Vec<HostId> = (0..self.kernel.hosts.len()).map(HostId).filter(|host| !off.contains(host)).collect();
        hosts.iter().for_each(|host| self.apply(Fault::StopDaemon(*host)));
        self.run_for(beat * 12);
        assert!(self.kernel.exclusion.running().is_empty(), "all daemons were told to stop");
        self.kernel.exclusion.epochs_excused = true;
        for host in &hosts {
            self.kernel.host_mut(*host).disk.record = None;
            self.apply(Fault::StartDaemon(*host));
        }
        self.run_for(beat);
        hosts.iter().for_each(|host| self.apply(Fault::Operator(*host, roles[host.0])));
    }

    #[cfg(test)]
    /// Connections that some process holds, counted at both ends.
    pub(crate) fn open_ends(&self) -> usize {
        self.kernel.open_ends()
    }

    pub(crate) fn role(&self, host: HostId) -> Option<Role> {
        Some(self.daemon(host)?.core.resources().first()?.role())
    }

    pub(crate) fn runs_on(&self, host: HostId) -> bool {
        self.kernel.exclusion.running().contains(&host)
    }

    /// The resource has run on one host, and no other, for so long.
    pub(crate) fn has_run_for(&self, span: Duration) -> bool {
        self.kernel.exclusion.running().len() == 1 && self.now() - self.kernel.exclusion.since() >= span
    }
}
