//! What processes of daemons and workers share.

use hastmon_core::time::Instant;

use super::host::HostId;
use super::kernel::{Kernel, Pid};
use hastmon_core::worker::Farewell;

/// Whether a process goes on after something has happened to it.
#[derive(Debug)]
pub(crate) enum Life {
    GoesOn,
    /// It ends in order; a worker says farewell.
    Ends(Option<Farewell>),
}

/// The timer of a process: only the deadline that was set last counts.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    generation: u64,
    deadline: Option<Instant>,
}

impl Waker {
    pub(crate) fn set(&mut self, kernel: &mut Kernel, host: HostId, pid: Pid, deadline: Option<Instant>) {
        if self.deadline == deadline {
            return;
        }
        self.deadline = deadline;
        self.generation += 1;
        if let Some(deadline) = deadline {
            kernel.wake(host, pid, deadline, self.generation);
        }
    }

    pub(crate) fn is_current(&mut self, generation: u64) -> bool {
        let current = self.generation == generation;
        if current {
            // It has fired: the same deadline would have to be set anew.
            self.deadline = None;
        }
        current
    }
}
