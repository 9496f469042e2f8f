//! The resources of a daemon: found by name and by worker, and which of them have something to do. Who changes one gets it from here, so that
//! only those are looked at again that were changed or whose time has come: for each message one, though there are a thousand.
//! Decides nothing about any of them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Deref;

use crate::daemon::WorkerId;
use crate::supervisor::Supervisor;
use crate::time::{Duration, Instant};
use crate::turns::{Stage, Turns};

/// The resources, in the order of the configuration. Those that have left it are at the end.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    list: Vec<Supervisor>,
    /// What was known of each when it was looked at last.
    known: Vec<Known>,
    names: BTreeMap<String, usize>,
    workers: BTreeMap<WorkerId, usize>,
    agenda: BTreeSet<(Instant, usize)>,
    /// How many nodes are connected, of all resources.
    connected: usize,
    shortest_heartbeat: Option<Duration>,
    turns: Turns,
    /// Those that may have changed since.
    changed: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    deadline: Option<Instant>,
    worker: Option<WorkerId>,
    connected: usize,
    stage: Stage,
}

impl Deref for Resources {
    type Target = [Supervisor];

    fn deref(&self) -> &[Supervisor] {
        &self.list
    }
}

impl Resources {
    pub(crate) fn new(list: Vec<Supervisor>) -> Self {
        let names = list.iter().enumerate().map(|(at, supervisor)| (supervisor.settings().name.clone(), at)).collect();
        let known = alloc::vec![Known::default(); list.len()];
        let changed = (0..list.len()).collect();
        let shortest_heartbeat = list.iter().map(|supervisor| supervisor.settings().heartbeat_interval).min();
        let mut resources = Self { list, known, names, changed, shortest_heartbeat, ..Self::default() };
        (0..resources.list.len()).for_each(|at| resources.look(at));
        resources
    }

    /// All of them, to be put together anew.
    pub(crate) fn take(&mut self) -> Vec<Supervisor> {
        core::mem::take(self).list
    }

    pub(crate) fn find(&self, name: &str) -> Option<(usize, &Supervisor)> {
        let at = *self.names.get(name)?;
        Some((at, self.list.get(at)?))
    }

    /// One that may be changed.
    pub(crate) fn touch(&mut self, at: usize) -> Option<&mut Supervisor> {
        let supervisor = self.list.get_mut(at)?;
        self.changed.insert(at);
        Some(supervisor)
    }

    /// That which has this worker.
    pub(crate) fn touch_worker(&mut self, id: WorkerId) -> Option<&mut Supervisor> {
        let at = *self.workers.get(&id)?;
        self.touch(at).filter(|supervisor| supervisor.worker() == Some(id))
    }

    pub(crate) fn touch_all(&mut self) -> impl Iterator<Item = &mut Supervisor> {
        self.changed = (0..self.list.len()).collect();
        self.list.iter_mut()
    }

    /// Those that have changed, and those whose time has come.
    pub(crate) fn due(&mut self, now: Instant) -> impl Iterator<Item = &mut Supervisor> {
        self.changed.extend(self.agenda.range(..=(now, usize::MAX)).map(|(_, at)| *at));
        // Passing over the others costs nothing: only those that are named are touched.
        let mut list = self.list.iter_mut();
        let mut passed = 0;
        self.changed.iter().filter_map(move |at| {
            let supervisor = list.nth(at - passed);
            passed = at + 1;
            supervisor
        })
    }

    /// Looks again at those that have changed; gives away those that are gone.
    pub(crate) fn settle(&mut self) -> Vec<Supervisor> {
        let is_gone = |at: &usize| self.list.get(*at).is_some_and(Supervisor::is_gone);
        if self.changed.iter().any(is_gone) {
            let (gone, list) = self.take().into_iter().partition(Supervisor::is_gone);
            *self = Self::new(list);
            self.changed.clear();
            return gone;
        }
        core::mem::take(&mut self.changed).into_iter().for_each(|at| self.look(at));
        Vec::new()
    }

    fn look(&mut self, at: usize) {
        let (Some(supervisor), Some(known)) = (self.list.get(at), self.known.get_mut(at)) else { return };
        let new = Known {
            deadline: supervisor.next_deadline(),
            worker: supervisor.worker(),
            connected: supervisor.peers().count(),
            stage: supervisor.stage(),
        };
        let old = core::mem::replace(known, new.clone());
        self.connected = self.connected - old.connected + new.connected;
        self.turns.note(at, old.stage, new.stage);
        if old.deadline != new.deadline {
            old.deadline.map(|deadline| self.agenda.remove(&(deadline, at)));
            new.deadline.map(|deadline| self.agenda.insert((deadline, at)));
        }
        if old.worker != new.worker {
            old.worker.map(|id| self.workers.remove(&id));
            new.worker.map(|id| self.workers.insert(id, at));
        }
    }

    /// One that waits and has its turn now, while fewer than this have theirs.
    pub(crate) fn touch_next(&mut self, limit: u32) -> Option<&mut Supervisor> {
        let at = self.turns.next(limit)?;
        self.touch(at)
    }

    /// One that waits for its turn and has not been told so.
    pub(crate) fn take_untold(&mut self) -> Option<usize> {
        self.turns.take_untold()
    }

    pub(crate) const fn turns(&self) -> &Turns {
        &self.turns
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.agenda.first().map(|(deadline, _)| *deadline)
    }

    /// The shortest of all heartbeat intervals; `None` without resources.
    pub(crate) const fn shortest_heartbeat(&self) -> Option<Duration> {
        self.shortest_heartbeat
    }

    /// How many nodes are connected, of all resources.
    pub(crate) const fn connected(&self) -> usize {
        self.connected
    }
}
