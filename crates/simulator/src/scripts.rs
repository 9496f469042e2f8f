//! The exec script of each host: how long each hook takes, whether it works, and what it does to the resource. A `start` that is killed may
//! have started; a script whose worker is gone goes on.

use std::time::Duration;

use hastmon_core::hooks::{Call, Exit, Hook};

use super::agenda::Time;
use super::host::HostId;
use super::kernel::{Happening, Kernel, Pid, What};

/// One process of a script; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ScriptId(u64);

#[derive(Debug)]
pub(crate) enum Step {
    /// The resource starts or stops.
    Effect,
    End(Exit),
}

#[derive(Debug)]
pub(crate) struct Script {
    host: HostId,
    worker: Pid,
    call: u64,
    hook: Hook,
    since: Time,
    behaviour: Behaviour,
    /// It has done to the resource what it was called for.
    done: bool,
    ended: bool,
}

/// How one kind of hook behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// It does what it is asked, and says so.
    Works,
    /// It ends with this code and has done nothing.
    Fails(i32),
    /// It hangs until TERM.
    Hangs,
    /// It hangs until KILL.
    IgnoresTerm,
    /// It hangs in the kernel, for ever.
    Unkillable,
}

/// How the script of a host behaves at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mood {
    pub(crate) start: Behaviour,
    pub(crate) stop: Behaviour,
    pub(crate) status: Behaviour,
    pub(crate) notices: Behaviour,
    pub(crate) start_takes: (Duration, Duration),
    pub(crate) stop_takes: (Duration, Duration),
    pub(crate) status_takes: (Duration, Duration),
    pub(crate) notices_take: (Duration, Duration),
    /// `stop` has its effect when it ends, not before.
    pub(crate) stops_last: bool,
}

const fn ms(least: u64, most: u64) -> (Duration, Duration) {
    (Duration::from_millis(least), Duration::from_millis(most))
}

impl Mood {
    /// A script that works, and is quick.
    pub(crate) const fn good() -> Self {
        Self {
            start: Behaviour::Works,
            stop: Behaviour::Works,
            status: Behaviour::Works,
            notices: Behaviour::Works,
            start_takes: ms(5, 20),
            stop_takes: ms(5, 20),
            status_takes: ms(3, 10),
            notices_take: ms(3, 10),
            stops_last: false,
        }
    }

    fn of(&self, hook: Hook) -> (Behaviour, (Duration, Duration)) {
        match hook {
            Hook::Start => (self.start, self.start_takes),
            Hook::Stop => (self.stop, self.stop_takes),
            Hook::Status => (self.status, self.status_takes),
            Hook::Connect | Hook::Disconnect | Hook::Complain | Hook::Role { .. } => (self.notices, self.notices_take),
        }
    }
}

/// How long a script takes to end after a signal.
const DYING: (Duration, Duration) = ms(1, 10);
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

impl Kernel {
    pub(crate) fn run_script(&mut self, host: HostId, worker: Pid, call: &Call) {
        if self.host(host).no_processes_left {
            let exit = Exit::NotStarted("no more processes".to_string());
            self.soon(worker, Happening::HookExited(call.id, exit));
            return;
        }
        let (behaviour, takes) = self.host(host).mood.of(call.hook);
        let id = ScriptId(self.new_id());
        let (hook, since) = (call.hook, self.now);
        let script = Script { host, worker, call: call.id, hook, since, behaviour, done: false, ended: false };
        self.scripts.insert(id, script);
        let takes = self.rng.between(takes);
        match behaviour {
            Behaviour::Works => {
                let is_last = call.hook == Hook::Stop && self.host(host).mood.stops_last;
                let effect = if is_last { takes } else { self.rng.between((Duration::ZERO, takes)) };
                self.agenda.add(self.now + effect, What::Script(id, Step::Effect));
                self.agenda.add(self.now + takes, What::Script(id, Step::End(Exit::Code(0))));
            }
            Behaviour::Fails(code) => {
                self.agenda.add(self.now + takes, What::Script(id, Step::End(Exit::Code(code))));
            }
            Behaviour::Hangs | Behaviour::IgnoresTerm | Behaviour::Unkillable => {}
        }
    }

    /// Sends TERM to the script of a call.
    pub(crate) fn terminate_script(&mut self, worker: Pid, call: u64) {
        self.signal_script(worker, call, SIGTERM);
    }

    /// Sends KILL to the script of a call.
    pub(crate) fn kill_script(&mut self, worker: Pid, call: u64) {
        self.signal_script(worker, call, SIGKILL);
    }

    fn signal_script(&mut self, worker: Pid, call: u64, signal: i32) {
        let found = self.scripts.iter_mut().find(|(_, script)| script.worker == worker && script.call == call);
        let Some((id, script)) = found else { return };
        let deaf = match script.behaviour {
            Behaviour::Unkillable => true,
            Behaviour::IgnoresTerm => signal == SIGTERM,
            Behaviour::Works | Behaviour::Fails(_) | Behaviour::Hangs => false,
        };
        if deaf || script.ended {
            return;
        }
        script.ended = true;
        // Half of those that are killed while they start have done it.
        let half_done = script.hook == Hook::Start && !script.done;
        let id = *id;
        let at = self.now + self.rng.between(DYING);
        if half_done && self.rng.percent(50) {
            self.agenda.add(at, What::Script(id, Step::Effect));
        } else if let Some(script) = self.scripts.get_mut(&id) {
            script.done = true;
        }
        self.agenda.add(at, What::Script(id, Step::End(Exit::Signal(signal))));
    }

    pub(crate) fn script_steps(&mut self, id: ScriptId, step: Step) {
        let Some(script) = self.scripts.get_mut(&id) else { return };
        let (host, hook) = (script.host, script.hook);
        match step {
            Step::Effect if !std::mem::replace(&mut script.done, true) => match hook {
                Hook::Start => self.set_runs(host, true, "started"),
                Hook::Stop => self.set_runs(host, false, "stopped"),
                _ => {}
            },
            Step::Effect => {}
            Step::End(exit) => {
                // What a signal ends does not end by itself any more.
                if script.ended && !matches!(exit, Exit::Signal(_)) {
                    return;
                }
                let (worker, call, took) = (script.worker, script.call, self.now - script.since);
                self.scripts.remove(&id);
                let exit = match (hook, exit) {
                    (Hook::Status, Exit::Code(0)) => Exit::Code(i32::from(!self.host(host).runs)),
                    (_, exit) => exit,
                };
                self.whisper(host, "script", || format!("{hook} ends after {took:.3?}: {exit:?}"));
                self.soon(worker, Happening::HookExited(call, exit));
            }
        }
    }

    /// The resource starts or stops to run, whoever did it.
    pub(crate) fn set_runs(&mut self, host: HostId, runs: bool, why: &str) {
        if self.host(host).runs == runs {
            return;
        }
        self.host_mut(host).runs = runs;
        self.tell(host, "", || format!("==== the resource {}: {why}", if runs { "RUNS" } else { "does not run" }));
        self.count_running();
    }

    /// Notes where the resource runs now, after something has changed that.
    pub(crate) fn count_running(&mut self) {
        let hosts = self.hosts.iter().enumerate();
        let running =
            hosts.filter(|(_, host)| host.up && !host.paused && host.runs).map(|(at, _)| HostId(at)).collect();
        if self.exclusion.note(self.now, running) {
            self.trace.tell(self.now, "!!!!", || "the resource runs on two hosts at once".to_string());
        }
    }

    pub(crate) fn host_of_script(&self, id: ScriptId) -> Option<HostId> {
        self.scripts.get(&id).map(|script| script.host)
    }

    /// A `start` is under way, whoever has asked for it.
    pub(crate) fn is_starting(&self, host: HostId) -> bool {
        self.scripts.values().any(|script| script.host == host && script.hook == Hook::Start && !script.ended)
    }

    /// Calls on a host that another worker has made.
    pub(crate) fn scripts_of_others(&self, host: HostId, worker: Pid) -> Vec<(Pid, u64, Hook)> {
        let others = self.scripts.values().filter(|script| script.host == host && script.worker != worker);
        others.map(|script| (script.worker, script.call, script.hook)).collect()
    }

    /// All processes of the host are gone.
    pub(crate) fn forget_scripts(&mut self, host: HostId) {
        self.scripts.retain(|_, script| script.host != host);
    }
}
