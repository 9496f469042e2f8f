//! A host: its clock, its script's mood, and whether the resource runs on it. Decides nothing about roles.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hastmon_core::config::{Config, DEFAULT_MAX_HOOKS};
use hastmon_core::lease::record::Record;
use hastmon_core::pause::PauseRecord;
use hastmon_core::time::Instant;

use super::agenda::Time;
use super::kernel::{Pid, What};
use super::scripts::Mood;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostId(pub(crate) usize);

impl HostId {
    pub(crate) fn address(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(self.0 + 1).unwrap()))
    }

    pub(crate) fn of_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self(usize::from(address.octets()[3]) - 1),
            IpAddr::V6(_) => unreachable!("the simulated network has no IPv6"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    /// It has power.
    pub(crate) up: bool,
    /// Power, but nothing moves: a virtual machine that its host has paused.
    pub(crate) paused: bool,
    /// What comes while it is paused.
    pub(crate) deferred: Vec<What>,
    /// The process that accepts connections.
    pub(crate) daemon: Option<Pid>,
    /// The worker that may act here; others wait for its end.
    pub(crate) lock: Option<Pid>,
    /// The resource runs.
    pub(crate) runs: bool,
    pub(crate) mood: Mood,
    pub(crate) no_processes_left: bool,
    /// How late its timers may fire.
    pub(crate) lateness: Duration,
    pub(crate) disk: Disk,
    /// Of the list of nodes in its configuration.
    edition: u32,
    is_shorter: bool,
}

/// What outlives a loss of power: the record of the vote.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) record: Option<Record>,
    /// And that of the pause.
    pub(crate) pause: Option<PauseRecord>,
    /// It neither takes nor gives anything.
    pub(crate) fails: bool,
    /// What is there makes no sense.
    pub(crate) is_damaged: bool,
    /// What is added to the time that each access takes.
    pub(crate) slow: Duration,
    /// Records on their way to it, in their order: by which process, and named how.
    pub(super) writes: VecDeque<(Pid, u64, OnDisk)>,
    /// When the last of them will be there.
    pub(super) busy_until: Time,
}

/// What is written.
#[derive(Clone, Debug)]
pub(crate) enum OnDisk {
    Vote(Record),
    Pause(PauseRecord),
}

impl Disk {
    /// It is there.
    pub(super) fn take(&mut self, what: OnDisk) {
        match what {
            OnDisk::Vote(record) => (self.record, self.is_damaged) = (Some(record), false),
            OnDisk::Pause(record) => self.pause = Some(record),
        }
    }
}

/// How late a timer fires on a machine that has nothing else to do.
pub(crate) const LATENESS: Duration = Duration::from_millis(1);

impl Host {
    pub(crate) fn new(name: String, config: Config, clock: Clock, mood: Mood) -> Self {
        Self {
            name,
            config,
            clock,
            up: false,
            paused: false,
            deferred: Vec::new(),
            daemon: None,
            lock: None,
            runs: false,
            mood,
            no_processes_left: false,
            lateness: LATENESS,
            disk: Disk::default(),
            edition: 0,
            is_shorter: false,
        }
    }
}

impl Host {
    /// The administrator adds or removes a node.
    ///
    /// `edition`: the number of the change; a later one is not undone.
    pub(crate) fn change_voters(&mut self, edition: u32, new: &Config) {
        if edition < self.edition {
            return;
        }
        self.edition = edition;
        for (resource, new) in self.config.resources.iter_mut().zip(&new.resources) {
            resource.nodes.clone_from(&new.nodes);
            resource.remotes.clone_from(&new.remotes);
        }
    }

    /// With no turn to be had every resource waits for its own, as it does while others are being started.
    pub(crate) const fn crowd(&mut self, is_crowded: bool) {
        self.config.max_hooks = if is_crowded { 0 } else { DEFAULT_MAX_HOOKS };
    }

    /// The administrator edits the lengths of time alone: shorter, or the first ones again.
    pub(crate) fn change_times(&mut self) {
        let shorter = self.is_shorter;
        self.is_shorter = !shorter;
        for resource in &mut self.config.resources {
            for time in [&mut resource.heartbeat_interval, &mut resource.lease, &mut resource.stop_timeout] {
                *time = if shorter { *time * 4 / 3 } else { *time * 3 / 4 };
            }
        }
    }

    /// The administrator edits the configuration: another exec and other times, or the first ones again.
    pub(crate) fn change_config(&mut self) {
        for resource in &mut self.config.resources {
            let changed = resource.exec.ends_with(".new");
            resource.exec = if changed { resource.exec.replace(".new", "") } else { format!("{}.new", resource.exec) };
            resource.heartbeat_interval =
                if changed { resource.heartbeat_interval * 4 / 3 } else { resource.heartbeat_interval * 3 / 4 };
        }
    }
}

/// A clock that nobody sets, as far from the truth as clocks of that kind may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// What it shows at the start of the simulation.
    pub(crate) origin: Duration,
    /// How much faster than true time it runs, in millionths; less than 0: slower.
    pub(crate) drift_ppm: i64,
}

const MILLION: i128 = 1_000_000;

impl Clock {
    /// What it shows at a moment.
    pub(crate) fn read(self, now: Time) -> Instant {
        let elapsed = i128::try_from(now.as_nanos()).unwrap();
        let shown = elapsed + elapsed * i128::from(self.drift_ppm) / MILLION;
        Instant::from_nanos(u64::try_from(self.origin.as_nanos()).unwrap() + u64::try_from(shown).unwrap())
    }

    /// When it will show at least `shown`; `None` when that is out of this world.
    pub(crate) fn when(self, shown: Instant) -> Option<Time> {
        let origin = u64::try_from(self.origin.as_nanos()).unwrap();
        let elapsed = i128::from(shown.as_nanos().saturating_sub(origin));
        let rate = MILLION + i128::from(self.drift_ppm);
        let when = (elapsed * MILLION + rate - 1) / rate + 1;
        Some(Duration::from_nanos(u64::try_from(when).ok()?))
    }
}

#[test]
fn a_deadline_has_passed_on_the_clock_when_it_is_said_to() {
    for drift_ppm in [-10_000, -7, 0, 3, 10_000] {
        let clock = Clock { origin: Duration::from_secs(77), drift_ppm };
        for ns in [1, 1_000_003, 3_600_000_000_007] {
            let shown = Instant::from_nanos(77_000_000_000 + ns);
            let when = clock.when(shown).unwrap();
            assert!(clock.read(when) >= shown);
            assert!(clock.read(when.saturating_sub(Duration::from_nanos(3))) < shown);
        }
    }
}
