//! Tells a script of the administrator what happens: one call for each event, one after the other, never more often than somebody reads.
//! Nothing waits for it: no decision, no other script, no worker. What there is to tell is said by [`Event::is_for_notify`].

use std::cell::Cell;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use hastmon_core::event::Event;
use hastmon_core::hooks::{Exit, Outcome};
use hastmon_core::time::Instant;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStderr, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::News;
use crate::history::Record;
use crate::os::alarm::sleep_until;
use crate::os::clock;
use crate::os::realtime::Starter;
use crate::worker::{exit_of, why_not_started};

/// Events that may wait for their call. More would be told when they are old; those that are left out are counted.
const MAX_WAITING: usize = 64;
/// Calls in a row that are made at once: a failover of many resources is told as such.
const BURST: u32 = 20;
/// After a burst there is one call in this time, which says how many were left out; in quiet times each makes up for one of a burst.
const INTERVAL: Duration = Duration::from_secs(10);
/// A call that takes longer is ended: a mail server that does not answer must not hold up what is told next.
const CALL_TIME: Duration = Duration::from_secs(30);
/// At its end the daemon waits so long for what it has to tell last: that a `stop` has failed, say.
const END_TIME: Duration = Duration::from_secs(2);
/// Bytes of what a call says of its failure.
const MAX_SAID: usize = 1024;

/// How it went so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) done: Cell<u64>,
    pub(super) failed: Cell<u64>,
    pub(super) left_out: Cell<u64>,
}

/// The way to the script.
#[derive(Debug)]
pub(super) struct Notifier {
    jobs: mpsc::Sender<Job>,
    task: JoinHandle<()>,
    counts: Rc<Counts>,
}

/// A call to be made.
#[derive(Debug)]
struct Job {
    path: String,
    record: Record,
}

/// What a script is told: the event, and how many were left out before it.
#[derive(Serialize)]
struct Notice<'a> {
    #[serde(flatten)]
    record: &'a Record,
    left_out: u64,
}

impl Notifier {
    /// `starter`: starts scripts without the precedence of this process.
    pub(super) fn new(news: mpsc::Sender<News>, starter: Rc<Starter>) -> Self {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let counts = Rc::new(Counts::default());
        let caller = Caller { news, starter, counts: Rc::clone(&counts), untold: Cell::new(0) };
        Self { jobs, task: tokio::task::spawn_local(caller.work(waiting)), counts }
    }

    /// How it went so far.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Has a script told of an event, as soon as its turn comes.
    pub(super) fn push(&self, path: &str, record: Record) {
        if self.jobs.try_send(Job { path: path.to_string(), record }).is_err() {
            add(&self.counts.left_out);
        }
    }

    /// Waits for what is being told, not for long.
    pub(super) async fn end(self) {
        drop(self.jobs);
        let _ = tokio::time::timeout(END_TIME, self.task).await;
    }
}

fn add(count: &Cell<u64>) {
    count.set(count.get().saturating_add(1));
}

/// Makes the calls.
struct Caller {
    news: mpsc::Sender<News>,
    starter: Rc<Starter>,
    counts: Rc<Counts>,
    /// How many of those that were left out have been told of.
    untold: Cell<u64>,
}

impl Caller {
    async fn work(self, mut waiting: mpsc::Receiver<Job>) {
        let mut limit = Limit { left: BURST, refilled: clock::now() };
        // The newest of those that came too soon.
        let mut held: Option<Job> = None;
        loop {
            let due = held.is_some().then(|| limit.refilled + INTERVAL);
            let job = tokio::select! {
                job = waiting.recv() => match job {
                    Some(job) if held.is_none() && limit.take(clock::now()) => Some(job),
                    Some(job) => {
                        if held.replace(job).is_some() {
                            add(&self.counts.left_out);
                        }
                        None
                    }
                    None => break,
                },
                () = sleep_until(due) => held.take_if(|_| limit.take(clock::now())),
            };
            if let Some(job) = job {
                self.call(job).await;
            }
        }
        // Nothing comes after it that could be too much.
        if let Some(job) = held {
            self.call(job).await;
        }
    }

    async fn call(&self, job: Job) {
        let left_out = self.counts.left_out.get() - self.untold.replace(self.counts.left_out.get());
        let mut text = serde_json::to_vec(&Notice { record: &job.record, left_out }).unwrap_or_default();
        text.push(b'\n');
        let (outcome, said) = self.run(&job, &text).await;
        if outcome.is_success() {
            add(&self.counts.done);
            return;
        }
        add(&self.counts.failed);
        let event = Box::new(Event::NotifyFailed { path: job.path, outcome, output: said });
        let _ = self.news.send(News::Event(job.record.resource, event)).await;
    }

    /// Calls the script; how that ended, and what it said on standard error.
    async fn run(&self, job: &Job, text: &[u8]) -> (Outcome, Vec<String>) {
        let Job { path, record } = job;
        let mut command = Command::new(path);
        command
            .env("HASTMON_RESOURCE", record.resource.as_deref().unwrap_or_default())
            .env("HASTMON_NODE", &record.node)
            .env("HASTMON_EVENT", record.event.kind())
            .env("HASTMON_TEXT", crate::os::log::format_line(None, format_args!("{}", record.text)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = match self.starter.start(command).await {
            Ok(child) => child,
            Err(error) => return (Outcome::Ended(Exit::NotStarted(why_not_started(path, &error))), Vec::new()),
        };
        let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let (input, errors) = (child.stdin.take(), child.stderr.take());
        let talk = async {
            if let Some(mut input) = input {
                // A script that does not want to know has heard of it nevertheless.
                let _ = input.write_all(text).await;
            }
            child.wait().await
        };
        let outcome = match tokio::time::timeout(CALL_TIME, talk).await {
            Ok(Ok(status)) => Outcome::Ended(exit_of(status)),
            Ok(Err(error)) => Outcome::Ended(Exit::NotStarted(format!("its end cannot be seen: {error}"))),
            Err(_) => {
                // Fails only when the group is gone.
                group.into_iter().for_each(|group| _ = kill_process_group(group, Signal::KILL));
                Outcome::TimedOut(CALL_TIME)
            }
        };
        (outcome, errors.map(said).unwrap_or_default())
    }
}

/// What stands in the pipe: as much as fits is all that is wanted, and a script that writes more ends for want of a reader.
fn said(errors: ChildStderr) -> Vec<String> {
    let mut text = [0; MAX_SAID];
    let read = rustix::io::read(&errors, &mut text).unwrap_or(0);
    let text = String::from_utf8_lossy(text.get(..read).unwrap_or_default()).into_owned();
    text.lines().map(ToString::to_string).collect()
}

/// How many calls may be made now.
struct Limit {
    left: u32,
    refilled: Instant,
}

impl Limit {
    fn take(&mut self, now: Instant) -> bool {
        let earned = now.since(self.refilled).as_nanos() / INTERVAL.as_nanos();
        if earned > 0 {
            self.left = self.left.saturating_add(u32::try_from(earned).unwrap_or(BURST)).min(BURST);
            self.refilled = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use tokio::task::LocalSet;

    fn script(directory: &Path, body: &str) -> String {
        let path = directory.join("notify.sh");
        fs::write(&path, format!("#!/bin/sh\ncd {}\n{body}\n", directory.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    fn record(number: u64) -> Record {
        Record::new(number, number, "a", Some("web"), Some(3), Event::Forced)
    }

    fn run<T>(work: impl AsyncFnOnce(mpsc::Receiver<News>, Notifier) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (news, inbox) = mpsc::channel(64);
            work(inbox, Notifier::new(news, Rc::new(Starter::new().unwrap()))).await
        })
    }

    async fn until(condition: impl Fn() -> bool) {
        for _ in 0..6000 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not come");
    }

    #[test]
    fn a_script_gets_the_event_as_json_and_its_words_in_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let path = script(
            directory.path(),
            "cat >json; echo \"$HASTMON_EVENT $HASTMON_RESOURCE $HASTMON_NODE $HASTMON_TEXT\" >words",
        );
        run(async |_inbox, notifier| {
            notifier.push(&path, record(7));
            until(|| notifier.counts().done.get() == 1).await;
        });
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(directory.path().join("json")).unwrap()).unwrap();
        assert_eq!(
            (&json["kind"], &json["resource"], &json["seq"], &json["left_out"]),
            (&"forced".into(), &"web".into(), &7.into(), &0.into())
        );
        let words = fs::read_to_string(directory.path().join("words")).unwrap();
        assert!(words.starts_with("forced web a FORCED: an operator"), "{words}");
    }

    #[test]
    fn a_flood_is_told_as_a_burst_and_the_rest_as_a_number_with_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = script(directory.path(), "cat >>json");
        run(async |_inbox, notifier| {
            for number in 0..50 {
                notifier.push(&path, record(number));
            }
            until(|| notifier.counts().left_out.get() == 29).await;
            assert_eq!(notifier.counts().done.get(), 20);
            // The last one, which is held back, is told at the end of the daemon.
            notifier.end().await;
        });
        let text = fs::read_to_string(directory.path().join("json")).unwrap();
        let told: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(told[..20].iter().zip(0..20).all(|(told, number)| told["seq"] == number && told["left_out"] == 0));
        assert_eq!((told.len(), &told[20]["seq"], &told[20]["left_out"]), (21, &49.into(), &29.into()));
    }

    #[test]
    fn a_script_that_fails_or_does_not_exist_is_told_with_what_it_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = script(directory.path(), "echo no mail server >&2; exit 3");
        run(async |mut inbox, notifier| {
            notifier.push(&path, record(1));
            notifier.push("/no/such/script", record(2));
            let mut told = async || {
                let Some(News::Event(resource, event)) = inbox.recv().await else { panic!("no event") };
                assert_eq!(resource.as_deref(), Some("web"));
                (event.to_string(), *event)
            };
            let (text, event) = told().await;
            assert!(text.ends_with("notify.sh: exit code 3: no mail server"), "{text}");
            assert!(matches!(event, Event::NotifyFailed { output, .. } if output == ["no mail server"]));
            let (text, _) = told().await;
            assert!(text.contains("/no/such/script: could not be started") && text.contains("does it exist"), "{text}");
            assert_eq!(notifier.counts().failed.get(), 2);
        });
    }

    #[test]
    fn quiet_times_make_up_for_a_burst() {
        let start = Instant::from_nanos(1_000_000_000_000);
        let mut limit = Limit { left: 2, refilled: start };
        let mut take = |after: Duration| limit.take(start + after);
        assert!(take(Duration::ZERO) && take(Duration::ZERO) && !take(Duration::ZERO));
        assert!(!take(INTERVAL - Duration::from_millis(1)) && take(INTERVAL) && !take(INTERVAL));
        let many = INTERVAL * 1000;
        assert!((0..BURST).all(|_| take(many)) && !take(many));
    }
}
