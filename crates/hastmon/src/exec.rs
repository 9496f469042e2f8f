//! Calls an exec script for an operator: once, or through its whole contract. The processes are those that a worker would start.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use hastmon_core::config::Resource;
use hastmon_core::hooks::{Exit, TERM_GRACE};
use hastmon_core::types::Role;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::unix::pipe;

use crate::os::clock;
use crate::worker::script::{exit_of, prepare, why_not_started};

/// An event that no version of hastmon will have.
const NO_EVENT: &str = "no-such-event";
/// Output that is shown of one call, in bytes.
const MAX_OUTPUT: usize = 4096;
/// How long after the end of a call is waited for those who hold its output open.
const OUTPUT_TIME: Duration = Duration::from_millis(200);

/// What came of one call.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    /// It had to be ended.
    pub(crate) timed_out: bool,
    pub(crate) took: Duration,
    /// What it printed.
    pub(crate) output: String,
    /// Something that it has left running holds its output open.
    pub(crate) holds_output: bool,
}

impl Ran {
    fn is(&self, code: i32) -> bool {
        !self.timed_out && self.exit == Exit::Code(code)
    }

    /// How it ended, in words.
    pub(crate) fn how(&self) -> String {
        let took = self.took.as_secs_f64();
        match &self.exit {
            _ if self.timed_out => format!("did not end in its time limit and was ended after {took:.2} s"),
            Exit::Code(code) => format!("exit {code} after {took:.2} s"),
            Exit::Signal(signal) => format!("ended by signal {signal} after {took:.2} s"),
            Exit::NotStarted(why) => format!("not started: {why}"),
        }
    }
}

/// Calls the script once.
///
/// # Errors
/// The system has no means for it.
pub(crate) fn call(resource: &Resource, node: &str, event: &str, limit: Duration) -> io::Result<Ran> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(call_once(resource, node, event, limit))
}

async fn call_once(resource: &Resource, node: &str, event: &str, limit: Duration) -> io::Result<Ran> {
    let (reader, writer) = io::pipe()?;
    let mut output = pipe::Receiver::from_owned_fd(reader.into())?;
    let mut command = prepare(resource, node, Role::Init, event, "hastmonctl tries the script");
    command.arg(event).arg(&resource.name).stdout(writer.try_clone()?).stderr(writer);
    let began = clock::now();
    let spawned = command.spawn();
    // It holds the writing end of the pipe.
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let exit = Exit::NotStarted(why_not_started(&resource.exec, &error));
            let (took, output) = (clock::now().since(began), String::new());
            return Ok(Ran { exit, timed_out: false, took, output, holds_output: false });
        }
    };
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let signal = |signal| group.into_iter().for_each(|group| _ = kill_process_group(group, signal));
    let mut text = Vec::new();
    let (mut timed_out, mut is_killed) = (false, false);
    let mut is_open = true;
    let status = loop {
        let left =
            (limit + if timed_out { TERM_GRACE } else { Duration::ZERO }).saturating_sub(clock::now().since(began));
        tokio::select! {
            status = child.wait() => break status?,
            more = read_some(&mut output, &mut text), if is_open => is_open = more,
            () = tokio::time::sleep(left), if !is_killed => {
                signal(if timed_out { Signal::KILL } else { Signal::TERM });
                is_killed = timed_out;
                timed_out = true;
            }
        }
    };
    let took = clock::now().since(began);
    if timed_out {
        // What its first process has left would go on beside the next call.
        signal(Signal::KILL);
    }
    let drained =
        tokio::time::timeout(OUTPUT_TIME, async { while is_open && read_some(&mut output, &mut text).await {} });
    let holds_output = drained.await.is_err();
    let output = String::from_utf8_lossy(&text).into_owned();
    Ok(Ran { exit: exit_of(status), timed_out, took, output, holds_output })
}

/// Reads what there is; says whether there may be more.
async fn read_some(output: &mut (impl AsyncRead + Unpin), text: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 1024];
    match output.read(&mut chunk).await {
        Ok(0) | Err(_) => false,
        Ok(count) => {
            let room = MAX_OUTPUT.saturating_sub(text.len());
            text.extend(chunk.iter().take(count.min(room)));
            true
        }
    }
}

/// What came of the whole contract.
#[derive(Debug)]
pub(crate) struct Contract {
    /// A line for each call, with its output where it breaks the contract.
    pub(crate) text: String,
    /// How often it was broken.
    pub(crate) breaks: u32,
}

/// Goes through the contract of the script of a resource that does not run.
///
/// # Errors
/// The system has no means for it.
pub(crate) fn contract(resource: &Resource, node: &str) -> io::Result<Contract> {
    let mut trial = Trial { resource, node, found: Contract { text: String::new(), breaks: 0 } };
    if !trial.step("status", 1, "it must exit with 1 while the resource does not run")? {
        trial.say("It was not started: it may run, or its status does not tell.");
        return Ok(trial.found);
    }
    for (event, code, must) in [
        ("start", 0, "it must exit with 0 when the resource runs"),
        ("status", 0, "it must exit with 0 while the resource runs"),
        ("start", 0, "a start of what runs already must change nothing and exit with 0"),
        ("status", 0, "it must still run after a second start"),
        ("stop", 0, "it must exit with 0 when nothing of the resource runs any more"),
        ("status", 1, "it must exit with 1 when the resource is stopped"),
        ("stop", 0, "a stop of what does not run must exit with 0"),
        ("status", 1, "it must exit with 1 when the resource is stopped"),
        (NO_EVENT, 0, "it must exit with 0 for events that it does not know"),
    ] {
        trial.step(event, code, must)?;
    }
    if trial.found.breaks > 0 && !trial.last_status()? {
        trial.say("ATTENTION: the resource may still run on this node.");
    }
    let verdict = match trial.found.breaks {
        0 => "The script keeps the contract.".to_string(),
        1 => "The script breaks the contract in 1 place.".to_string(),
        many => format!("The script breaks the contract in {many} places."),
    };
    trial.say(&verdict);
    Ok(trial.found)
}

struct Trial<'a> {
    resource: &'a Resource,
    node: &'a str,
    found: Contract,
}

impl Trial<'_> {
    fn say(&mut self, line: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.found.text, "{line}");
    }

    fn limit(&self, event: &str) -> Duration {
        match event {
            "start" => self.resource.start_timeout,
            "stop" => self.resource.stop_timeout,
            "status" => self.resource.status_timeout,
            _ => self.resource.hook_timeout,
        }
    }

    fn step(&mut self, event: &str, code: i32, must: &str) -> io::Result<bool> {
        let ran = call(self.resource, self.node, event, self.limit(event))?;
        let is_kept = ran.is(code);
        self.say(&format!("{}  {event}: {}", if is_kept { "ok    " } else { "BREAKS" }, ran.how()));
        if !is_kept {
            self.found.breaks += 1;
            self.say(&format!("        {must}"));
            ran.output.lines().for_each(|line| self.say(&format!("        | {line}")));
        }
        if event == "start" && ran.holds_output {
            self.found.breaks += 1;
            self.say("BREAKS  start: what it has left running holds its output open");
            self.say("        begin it with >/dev/null 2>&1 (or a log): it would die of SIGPIPE with the worker");
        }
        Ok(is_kept)
    }

    /// A script that breaks the contract may have left something running.
    fn last_status(&self) -> io::Result<bool> {
        call(self.resource, self.node, "stop", self.resource.stop_timeout)?;
        Ok(call(self.resource, self.node, "status", self.resource.status_timeout)?.is(1))
    }
}
