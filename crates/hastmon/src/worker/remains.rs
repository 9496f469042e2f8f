//! What is left of a `start` that was cut short. A script that puts a service into a session of its own, and only then on record, may be
//! ended between the two: `stop` and `status` do not find that service, and say in good faith that nothing runs. It would be started a
//! second time then, here or elsewhere. So before that answer is believed, what still carries the mark of such a call is killed; while it
//! is not gone, or nobody can tell, the answer does not count. How long that may take is not decided here: the limit of the call goes on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hastmon_core::hooks::{Exit, Hook};
use rustix::process::{Pid, Signal, kill_process};

use super::orphan::{MARK, Notebook};
use crate::os::process::{self, Marked};
use crate::os::thread;

/// So many calls are remembered: a start that fails is tried `attempts` times before it is given up, and each may run into its limit. Of
/// more the oldest are forgotten.
const MAX_CUT: usize = 16;
/// The pause after the first look; what was killed is gone by then, as a rule. The next are longer: each look reads the environments of all
/// processes.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// The answer in place of one that does not count: a `stop` that has failed, a `status` that cannot tell.
const NO_ANSWER: Exit = Exit::Code(2);

/// The marks of starts that were cut short and have not been found to be gone since.
#[derive(Debug)]
pub(super) struct Remains {
    resource: String,
    /// Keeps the marks for the next worker, in case that this one is killed.
    notebook: Option<Rc<Notebook>>,
    marks: RefCell<VecDeque<String>>,
    /// What the last look has found, which the log has named.
    found: RefCell<Vec<Pid>>,
    told_error: Cell<bool>,
    /// The script has said that nothing runs, and what is left was not gone in time. That has been told.
    is_stuck: Cell<bool>,
    /// A copy of it goes with each look: there is one at a time, because it may hang as what it looks at does.
    looks: Arc<()>,
}

impl Remains {
    /// Begins with the marks that an earlier worker has left.
    pub(super) fn new(resource: &str, notebook: Option<Rc<Notebook>>) -> Self {
        let marks = notebook.as_ref().map(|notebook| notebook.kept()).unwrap_or_default();
        Self {
            resource: resource.to_string(),
            notebook,
            marks: RefCell::new(marks.into_iter().take(MAX_CUT).collect()),
            found: RefCell::default(),
            told_error: Cell::default(),
            is_stuck: Cell::default(),
            looks: Arc::default(),
        }
    }

    /// No start was cut short, or all that those have left is gone.
    pub(super) fn is_empty(&self) -> bool {
        self.marks.borrow().is_empty()
    }

    /// A start is cut short.
    pub(super) fn note(&self, mark: &str) {
        let mut marks = self.marks.borrow_mut();
        if marks.iter().any(|have| have == mark) {
            return;
        }
        if marks.len() == MAX_CUT {
            marks.pop_front();
            log::warn!(
                target: &self.resource,
                "more than {MAX_CUT} starts were cut short, and it is not known that nothing of them is left: the oldest is forgotten, and what \
                 it may have left running is not looked for any more"
            );
        }
        marks.push_back(mark.to_string());
        self.keep(&marks);
    }

    /// Whether a `start` may be called: not beside what is left and not gone, though the script finds nothing.
    ///
    /// # Errors
    /// Something is left.
    pub(super) fn permit_start(&self) -> io::Result<()> {
        if self.is_stuck.get() {
            return Err(io::Error::other("not called beside what an earlier start, which was cut short, has left"));
        }
        Ok(())
    }

    /// What the end of a call means: when it says that nothing runs, that is made true first. `told` is the last signal that was meant for
    /// the call: the first one ends the look.
    pub(super) async fn check(&self, hook: Hook, exit: Exit, told: impl Fn() -> Option<Signal>) -> Exit {
        if self.is_empty() || !says_stopped(hook, &exit) {
            return exit;
        }
        let out_of_time = async {
            loop {
                if let Some(signal) = told() {
                    return signal;
                }
                tokio::time::sleep(FIRST_PAUSE).await;
            }
        };
        tokio::select! {
            () = self.end(hook) => exit,
            signal = out_of_time => {
                // A `status` for which nobody waits any more is sent KILL at once: nothing is said of its time.
                if signal == Signal::TERM {
                    self.tell_stuck(hook);
                }
                NO_ANSWER
            }
        }
    }

    /// Kills what is left, and waits until it is gone, however long that takes.
    async fn end(&self, hook: Hook) {
        let mut pause = FIRST_PAUSE;
        while !self.is_empty() {
            let marks: Vec<String> = self.marks.borrow().iter().cloned().collect();
            match self.look(&marks).await {
                Ok(left) if left.is_empty() => {
                    self.forget(&marks);
                    continue;
                }
                Ok(left) => {
                    self.tell_found(hook, &left);
                    for left in left {
                        // Fails only when it is gone, which is what was wanted.
                        let _ = kill_process(left.process, Signal::KILL);
                    }
                }
                // It never can, and the answer of the script is all that there is.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.tell_error(&error);
                    self.forget(&marks);
                    continue;
                }
                Err(error) => self.tell_error(&error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The living processes with one of these marks. Off the loop: it reads much, and may hang.
    async fn look(&self, marks: &[String]) -> io::Result<Vec<Marked>> {
        while Arc::strong_count(&self.looks) > 1 {
            tokio::time::sleep(FIRST_PAUSE).await;
        }
        let look = Arc::clone(&self.looks);
        let entries: Vec<String> = marks.iter().map(|mark| format!("{MARK}={mark}")).collect();
        thread::run("remains", move || {
            let found = process::marked(&entries, None);
            drop(look);
            found
        })
        .await?
    }

    /// Nothing is left of these.
    fn forget(&self, gone: &[String]) {
        let mut marks = self.marks.borrow_mut();
        marks.retain(|mark| !gone.contains(mark));
        self.keep(&marks);
        self.found.borrow_mut().clear();
        self.told_error.set(false);
        self.is_stuck.set(false);
    }

    fn keep(&self, marks: &VecDeque<String>) {
        self.notebook.iter().for_each(|notebook| notebook.keep(marks));
    }

    fn tell_found(&self, hook: Hook, left: &[Marked]) {
        let left: Vec<Pid> = left.iter().map(|left| left.process).collect();
        let before = self.found.replace(left.clone());
        if left.iter().all(|pid| before.contains(pid)) {
            return;
        }
        let says = if hook == Hook::Stop { "stop has succeeded" } else { "status says stopped" };
        log::warn!(
            target: &self.resource,
            "{says}, but a start that was cut short before has left process {} running: killing it \
             (what start puts into the background must be on record before it leaves the process group)",
            numbers(&left)
        );
    }

    fn tell_error(&self, error: &io::Error) {
        if !self.told_error.replace(true) {
            log::warn!(
                target: &self.resource,
                "a start was cut short, and what it may have left outside of its process group cannot be looked for: {error}"
            );
        }
    }

    fn tell_stuck(&self, hook: Hook) {
        if self.is_stuck.replace(true) {
            return;
        }
        let found = self.found.borrow();
        let (what, to_do) = if found.is_empty() {
            ("what a start that was cut short has left could not be looked for".to_string(), "look for it by hand (ps)")
        } else {
            let what =
                format!("process {}, left by a start that was cut short, was killed and is not gone", numbers(&found));
            (what, "see where it hangs (ps -o pid,stat,wchan,args), and restart this host if it does not end")
        };
        log::error!(
            target: &self.resource,
            "{what} within the time of {hook}, whose answer does not count: the resource MAY STILL RUN on this node; {to_do}"
        );
    }
}

/// Whether the end of a call would be taken to mean that nothing runs.
fn says_stopped(hook: Hook, exit: &Exit) -> bool {
    matches!((hook, exit), (Hook::Stop, Exit::Code(0)) | (Hook::Status, Exit::Code(1)))
}

fn numbers(pids: &[Pid]) -> String {
    pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notebook(directory: &tempfile::TempDir) -> Rc<Notebook> {
        Rc::new(Notebook::open(&directory.path().join("pid.web")).unwrap())
    }

    fn marks(remains: &Remains) -> Vec<String> {
        remains.marks.borrow().iter().cloned().collect()
    }

    #[test]
    fn only_a_stop_that_succeeds_and_a_status_that_says_stopped_are_answers_to_check() {
        let says = |hook| [0, 1, 2].map(|code| says_stopped(hook, &Exit::Code(code)));
        assert_eq!(says(Hook::Stop), [true, false, false]);
        assert_eq!(says(Hook::Status), [false, true, false]);
        assert_eq!(says(Hook::Start), [false, false, false]);
        assert!(!says_stopped(Hook::Status, &Exit::Signal(1)));
    }

    #[test]
    fn a_mark_is_noted_once_and_of_too_many_the_oldest_is_forgotten() {
        let remains = Remains::new("web", None);
        for number in 0..=MAX_CUT {
            remains.note(&number.to_string());
            remains.note(&number.to_string());
        }
        let have = marks(&remains);
        assert_eq!((have.len(), have[0].as_str()), (MAX_CUT, "1"));
    }

    #[test]
    fn the_next_worker_knows_the_marks_of_one_that_was_killed_and_forgets_what_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let begun = || Remains::new("web", Some(notebook(&directory)));
        let (first, second) = (begun(), "00-2".to_string());
        first.note("00-1");
        first.note(&second);
        assert_eq!(marks(&begun()), ["00-1", "00-2"]);
        first.forget(&["00-1".to_string()]);
        assert_eq!(marks(&begun()), ["00-2"]);
        first.forget(&[second]);
        assert!(begun().is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_answer_counts_when_nothing_is_left_and_not_before() {
        let mark = format!("00-{}", std::process::id());
        let mut child = std::process::Command::new("sleep").arg("1000").env(MARK, &mark).spawn().unwrap();
        let entry = [format!("{MARK}={mark}")];
        while process::marked(&entry, None).unwrap().is_empty() {
            std::thread::yield_now();
        }
        let remains = Remains::new("web", None);
        remains.note(&mark);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let free = || None;
            assert_eq!(remains.check(Hook::Status, Exit::Code(0), free).await, Exit::Code(0));
            assert_eq!(remains.check(Hook::Stop, Exit::Code(1), free).await, Exit::Code(1));
            assert!(child.try_wait().unwrap().is_none(), "it runs, says the script: nobody looks");
            // The limit is there before anything is known.
            assert!(remains.permit_start().is_ok(), "what runs may be told to start again");
            for (hook, exit) in [(Hook::Stop, 0), (Hook::Status, 1)] {
                assert_eq!(remains.check(hook, Exit::Code(exit), || Some(Signal::TERM)).await, NO_ANSWER);
                assert_eq!(marks(&remains), [mark.as_str()], "what is not known to be gone is looked for again");
            }
            assert!(remains.permit_start().is_err());
            assert_eq!(remains.check(Hook::Status, Exit::Code(1), free).await, Exit::Code(1));
            assert!(remains.permit_start().is_ok());
            assert!(remains.is_empty() && process::marked(&entry, None).unwrap().is_empty());
        });
        child.wait().unwrap();
    }
}
