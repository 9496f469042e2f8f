//! The process of a worker before it begins: it waits for an earlier worker of its resource on this host to end, and ends what one that was
//! killed has left of its script. Decides nothing about roles.

use std::time::Duration;

use hastmon_core::daemon::WorkerId;
use hastmon_core::orphan::{Treatment, treatment};
use hastmon_core::worker::Assignment;

use super::agenda::Time;
use super::host::HostId;
use super::kernel::{FromWorker, Happening, Kernel, Pid, ToWorker};

/// How often it looks whether its time has come.
const LOOKS_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Beginner {
    pub(crate) pid: Pid,
    pub(crate) host: HostId,
    pub(crate) daemon: Pid,
    pub(crate) id: WorkerId,
    pub(crate) assignment: Assignment,
    /// Since when it ends what it has found.
    ends_since: Option<Time>,
    /// What the daemon has said meanwhile: it does not listen then.
    pub(crate) unheard: Vec<Happening>,
}

/// What follows for a beginner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Waits,
    Begins,
    /// It is not needed any more.
    Ends,
}

impl Beginner {
    pub(crate) const fn new(pid: Pid, host: HostId, daemon: Pid, id: WorkerId, assignment: Assignment) -> Self {
        Self { pid, host, daemon, id, assignment, ends_since: None, unheard: Vec::new() }
    }

    pub(crate) fn handle(&mut self, kernel: &mut Kernel, what: Happening) -> Next {
        match what {
            Happening::Wake(_) => self.look(kernel),
            what @ Happening::ToWorker(_) if self.ends_since.is_some() => {
                self.unheard.push(what);
                Next::Waits
            }
            Happening::ToWorker(ToWorker::Serve { link, asks, answers, .. }) => {
                kernel.close(asks);
                kernel.close(answers);
                self.tell_daemon(kernel, FromWorker::PrimaryGone(link));
                Next::Waits
            }
            Happening::ToWorker(ToWorker::Order(order)) => match self.assignment.hear(order) {
                true => Next::Waits,
                false => Next::Ends,
            },
            Happening::ToWorker(ToWorker::Gone) => Next::Ends,
            // On connections that are on their way to it.
            Happening::Readable(_) | Happening::Closed(_) => Next::Waits,
            other => unreachable!("{other:?} is not for a beginner"),
        }
    }

    pub(crate) fn look(&mut self, kernel: &mut Kernel) -> Next {
        let now = kernel.now;
        if !kernel.lock(self.host, self.pid) {
            kernel.after(LOOKS_EVERY, self.pid, Happening::Wake(0));
            return Next::Waits;
        }
        let orphans = kernel.scripts_of_others(self.host, self.pid);
        let since = *self.ends_since.get_or_insert(now);
        let in_haste = self.assignment.in_haste;
        let mut waits = false;
        for (worker, call, hook) in orphans {
            kernel.tell(self.host, "beginner", || format!("finds {hook}, call {call} of a worker that was killed"));
            let treatment = treatment(hook.name(), in_haste, self.assignment.resource.stop_timeout, now - since);
            match treatment {
                Treatment::LetEnd => {}
                Treatment::Terminate => kernel.terminate_script(worker, call),
                Treatment::Kill | Treatment::KillAndGoOn => kernel.kill_script(worker, call),
            }
            waits |= treatment != Treatment::KillAndGoOn;
        }
        if !waits {
            return Next::Begins;
        }
        kernel.after(LOOKS_EVERY, self.pid, Happening::Wake(0));
        Next::Waits
    }

    pub(crate) fn tell_daemon(&self, kernel: &mut Kernel, what: FromWorker) {
        kernel.send_on_channel(self.pid, self.daemon, Happening::FromWorker(self.id, what));
    }
}
