//! What is left of a `start` that was cut short. A script that puts a service into a session of its own, and only then on record, may be
//! ended between the two: `stop` does not find that service, and says in good faith that nothing runs. Another node starts it then. So
//! what still carries the mark of such a call when `stop` has succeeded is killed, and only then the stop is over.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::orphan::MARK;
use crate::os::process;

/// So many calls are remembered: a start that fails is tried `attempts` times before it is given up, and each may run into its limit. Of
/// more the oldest are forgotten.
const MAX_CUT: usize = 16;
/// How often is looked whether they are gone. Each look reads the environments of all processes.
const POLL: Duration = Duration::from_millis(20);

/// The marks of starts that were cut short since the last `stop` that succeeded.
#[derive(Debug, Default)]
pub(super) struct Remains {
    marks: RefCell<VecDeque<String>>,
}

impl Remains {
    /// A start was cut short.
    pub(super) fn note(&self, mark: String) {
        let mut marks = self.marks.borrow_mut();
        if marks.len() == MAX_CUT {
            marks.pop_front();
        }
        marks.push_back(mark);
    }

    /// Kills what is left, and waits until it is gone. However long that takes: the limit of the `stop` that waits for it goes on.
    pub(super) async fn end(&self, resource: &str) {
        let marks = self.marks.take();
        for mark in marks {
            let entry = format!("{MARK}={mark}");
            let mut told = false;
            loop {
                let left = match process::marked(&entry, None) {
                    Ok(left) => left,
                    Err(error) => {
                        log::warn!(
                            target: resource,
                            "a start was cut short, and what it may have left outside of its process group cannot be looked for: {error}"
                        );
                        return;
                    }
                };
                if left.is_empty() {
                    break;
                }
                if !std::mem::replace(&mut told, true) {
                    let pids: Vec<String> = left.iter().map(|left| left.process.to_string()).collect();
                    log::warn!(
                        target: resource,
                        "stop has succeeded, but a start that was cut short before has left process {} running: killing it \
                         (what start puts into the background must be on record before it leaves the process group)",
                        pids.join(", ")
                    );
                }
                for left in left {
                    // Fails only when it is gone, which is what was wanted.
                    let _ = kill_process(left.process, Signal::KILL);
                }
                tokio::time::sleep(POLL).await;
            }
        }
    }
}
