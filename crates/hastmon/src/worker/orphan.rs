//! The call of the script that runs, noted in a file beside the worker's lock: a call that was left running by a worker that was killed is
//! found by the next worker, which ends it before it does anything else. Two calls of one script side by side are what nobody writes
//! scripts for, and a `start` that ends behind everybody's back starts what another node runs by then.
//!
//! The note is made before the process is there, so that no moment is left at which a worker could be killed unnoticed. It therefore has no
//! process id, which could also be another's by the time it is read: it names a mark in the environment, never used twice. What the script
//! has moved to a session of its own, as services do, is left alone; what of it is to go after all is the business of `remains.rs`, whose
//! marks stand behind the note.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hastmon_core::hooks::Hook;
use hastmon_core::orphan::{Treatment, treatment};
use hastmon_core::worker::Assignment;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Signal, kill_process_group};

use super::remains::Remains;
use crate::os::{clock, process};

/// The mark of a call in its environment.
pub(super) const MARK: &str = "HASTMON_CALL";
/// Every note has this length, so that writing one over another needs no room on the disk: a random number, the number of the call, the
/// session, the hook, and blanks.
const NOTE_BYTES: usize = 80;
/// Behind the note and the end of its line stand the marks of starts that were cut short, on one line.
const MARKS_AT: u64 = 81;
/// As many of the longest as are kept.
const MARKS_BYTES: usize = 1024;
/// How often is looked whether an orphan has ended. Each look reads the environments of all processes.
const POLL: Duration = Duration::from_millis(50);

/// The file with the note.
#[derive(Debug)]
pub(super) struct Notebook {
    file: File,
    path: PathBuf,
    session: i32,
    /// What sets the marks of this worker apart from all others.
    random: u64,
    /// The call that is noted.
    noted: Cell<Option<u64>>,
}

/// Removes the note of a worker that was killed, unless the call that it names changes the resource, or starts were cut short before: only of
/// that must the next worker know. To be called while the lock is held.
pub(crate) fn remove_harmless_note(lock: &Path) {
    let path = note_path(lock);
    let changes = |note: &str| note.split_whitespace().any(|word| matches!(word, "start" | "stop"));
    let is_harmless = |text: &str| {
        let mut lines = text.lines().map(str::trim);
        lines.next().is_none_or(|note| !changes(note)) && lines.next().is_none_or(str::is_empty)
    };
    if fs::read_to_string(&path).is_ok_and(|text| is_harmless(&text)) {
        // One that stays does no harm.
        let _ = fs::remove_file(&path);
    }
}

fn note_path(lock: &Path) -> PathBuf {
    let mut path = lock.as_os_str().to_os_string();
    // No lock has this name: in the name of a resource the character is written as its code.
    path.push("~call");
    path.into()
}

/// A call that was left behind.
struct Orphan {
    mark: String,
    session: i32,
    hook: String,
}

impl Notebook {
    /// Opens or creates the file that belongs to a lock. To be called while that is held.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn open(lock: &Path) -> io::Result<Self> {
        let path = note_path(lock);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(open(&path, flags, Mode::RUSR | Mode::WUSR)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let random = u64::from_ne_bytes(random);
        Ok(Self { file, path, session: process::session()?, random, noted: Cell::default() })
    }

    /// Notes that a call begins; its mark.
    pub(super) fn begin(&self, id: u64, hook: Hook) -> String {
        let mark = self.mark(id);
        self.noted.set(Some(id));
        // Only the end of this worker at the wrong moment makes it matter.
        if let Err(error) = self.write(&format!("{mark} {} {hook}", self.session)) {
            log::warn!("cannot note in {} which call of the script runs: {error}", self.path.display());
        }
        mark
    }

    /// Notes that a call has ended, unless another one has begun since.
    pub(super) fn end(&self, id: u64) {
        if self.noted.get() == Some(id) {
            // The note of a call that has ended does no harm: nothing is found of it.
            let _ = self.write("");
        }
    }

    /// Removes the file: nothing runs.
    pub(super) fn remove(&self) {
        // One that stays does no harm, either.
        let _ = fs::remove_file(&self.path);
    }

    /// The marks that an earlier worker, or this one, has [`keep`](Self::keep)t.
    pub(super) fn kept(&self) -> Vec<String> {
        let text = self.read(MARKS_AT, MARKS_BYTES).unwrap_or_default();
        // Behind the first line stands what is left of longer ones.
        text.lines().next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }

    /// Keeps these marks, and no others, for the next worker.
    pub(super) fn keep<'a>(&self, marks: impl IntoIterator<Item = &'a String>) {
        let mut line = marks.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        line.push('\n');
        // Only the end of this worker at the wrong moment makes it matter.
        if let Err(error) = self.file.write_all_at(line.as_bytes(), MARKS_AT) {
            log::warn!("cannot note in {} which starts were cut short: {error}", self.path.display());
        }
    }

    /// Deals with what an earlier worker has left running. What its `start` has put into other sessions is left to `remains`.
    pub(super) async fn end_orphan(&self, assignment: &Assignment, remains: &Remains) {
        let Some(orphan) = self.orphan() else { return };
        let (hook, resource) = (&orphan.hook, &assignment.resource.name);
        if hook == Hook::Start.name() {
            remains.note(&orphan.mark);
        }
        let entry = [format!("{MARK}={}", orphan.mark)];
        let found = clock::now();
        let mut told = None;
        loop {
            let groups: HashSet<_> = match process::marked(&entry, Some(orphan.session)) {
                Ok(found) => found.into_iter().map(|marked| marked.group).collect(),
                Err(error) => {
                    log::error!(
                        target: resource,
                        "the worker before this one was killed while it called {hook}, which MAY STILL RUN: it cannot be looked for: {error}"
                    );
                    return;
                }
            };
            if groups.is_empty() {
                let _ = self.write("");
                return;
            }
            let found_for = clock::now().since(found);
            let treatment = treatment(hook, assignment.in_haste, assignment.resource.stop_timeout, found_for);
            let (signal, words) = match treatment {
                Treatment::LetEnd => (None, "waiting for it"),
                Treatment::Terminate => (Some(Signal::TERM), "ending it first"),
                Treatment::Kill => (Some(Signal::KILL), "killing it first"),
                Treatment::KillAndGoOn => (Some(Signal::KILL), "killing it, and going on"),
            };
            if told.replace(words) != Some(words) {
                log::warn!(target: resource, "the worker before this one was killed while it called {hook}, which still runs: {words}");
            }
            if let Some(signal) = signal {
                for group in groups {
                    // Fails only when the group is gone, which is what was wanted.
                    let _ = kill_process_group(group, signal);
                }
            }
            if treatment == Treatment::KillAndGoOn {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn mark(&self, id: u64) -> String {
        format!("{:016x}-{id}", self.random)
    }

    fn write(&self, note: &str) -> io::Result<()> {
        let mut line = format!("{note:<NOTE_BYTES$.NOTE_BYTES$}");
        line.push('\n');
        self.file.write_all_at(line.as_bytes(), 0)
    }

    fn read(&self, at: u64, most: usize) -> io::Result<String> {
        let mut bytes = vec![0; most];
        let count = self.file.read_at(&mut bytes, at)?;
        Ok(String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned())
    }

    fn orphan(&self) -> Option<Orphan> {
        let note = self.read(0, NOTE_BYTES).ok()?;
        let mut words = note.split_whitespace();
        let (mark, session, hook) = (words.next()?, words.next()?.parse().ok()?, words.next()?.to_string());
        Some(Orphan { mark: mark.to_string(), session, hook })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notebook() -> (tempfile::TempDir, Notebook) {
        let directory = tempfile::tempdir().unwrap();
        let notebook = Notebook::open(&directory.path().join("pid.web")).unwrap();
        (directory, notebook)
    }

    #[test]
    fn a_note_lasts_from_the_beginning_of_a_call_to_its_end() {
        let (directory, notebook) = notebook();
        assert!(notebook.orphan().is_none());
        let mark = notebook.begin(1, Hook::Start);
        let first = mark.clone();
        let next = Notebook::open(&directory.path().join("pid.web")).unwrap();
        let orphan = next.orphan().unwrap();
        assert_eq!((orphan.mark, orphan.hook), (mark, "start".to_string()));
        notebook.begin(2, Hook::Stop);
        notebook.end(1);
        assert_eq!(next.orphan().unwrap().hook, "stop");
        notebook.end(2);
        assert!(next.orphan().is_none());
        assert_ne!(next.begin(1, Hook::Start), first, "the marks of two workers differ");
    }

    #[test]
    fn a_note_is_rewritten_in_its_place() {
        let (directory, notebook) = notebook();
        let length = || fs::metadata(directory.path().join("pid.web~call")).unwrap().len();
        notebook.begin(1, Hook::Disconnect);
        let first = length();
        notebook.begin(u64::MAX, Hook::Stop);
        notebook.end(u64::MAX);
        assert_eq!(length(), first);
        notebook.remove();
        assert!(!directory.path().join("pid.web~call").exists());
    }

    #[test]
    fn marks_that_are_kept_survive_every_note_and_make_the_file_worth_keeping() {
        let (directory, notebook) = notebook();
        let lock = directory.path().join("pid.web");
        let is_there = || directory.path().join("pid.web~call").exists();
        notebook.begin(1, Hook::Start);
        assert_eq!(notebook.kept(), [""; 0]);
        let longest: Vec<String> = (0..16).map(|number| format!("{:016x}-{}", number, u64::MAX)).collect();
        for marks in [longest.as_slice(), &["a-1".to_string()]] {
            notebook.keep(marks);
            notebook.begin(u64::MAX, Hook::Status);
            notebook.end(u64::MAX);
            assert_eq!(Notebook::open(&lock).unwrap().kept(), marks);
            remove_harmless_note(&lock);
            assert!(is_there());
        }
        notebook.keep(&[]);
        assert_eq!(notebook.kept(), [""; 0]);
        notebook.begin(2, Hook::Start);
        remove_harmless_note(&lock);
        assert!(is_there());
        notebook.begin(3, Hook::Status);
        remove_harmless_note(&lock);
        assert!(!is_there());
    }

    #[test]
    fn a_note_that_makes_no_sense_is_no_orphan_and_a_link_is_not_followed() {
        let (directory, notebook) = notebook();
        for text in ["x", "a b c", "a 1", "\0\0\0"] {
            notebook.write(text).unwrap();
            assert!(notebook.orphan().is_none(), "{text}");
        }
        std::os::unix::fs::symlink("target", directory.path().join("pid.x~call")).unwrap();
        assert!(Notebook::open(&directory.path().join("pid.x")).is_err());
    }
}
