//! The processes of hooks: started, signalled, reaped, and what they print put into the log; its last lines come with the end of a call.
//! Knows no queue and no limit of time.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use hastmon_core::config::Resource;
use hastmon_core::hooks::{Call, Exit, Hook};
use hastmon_core::types::Role;
use hastmon_core::worker::Input;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::News;
use super::orphan::{MARK, Notebook};
use super::remains::Remains;
use crate::os::process;
use crate::os::realtime::Starter;

/// Lines of one call that go to the log. What a script prints beyond is read and counted, so that it need not wait, but nobody reads
/// thousands of lines at night.
const MAX_LINES: u64 = 100;
/// Bytes of one line that go to the log.
const MAX_LINE: usize = 1024;
/// How much is read at once.
const CHUNK: usize = 4096;
/// Of what has been printed when a call ends, so many chunks are looked at before its end is told: as much as a pipe holds.
const LAST_CHUNKS: usize = 16;
/// The last lines of a call that come with its end: why it failed stands there.
const TAIL_LINES: usize = 10;
/// Bytes of each of them.
const TAIL_LINE: usize = 256;
/// Calls whose output is still read when they are over, because something that they have left running holds it open: one for each service
/// that `start` has left, some for those of before. A script that leaves something behind at every call would take all descriptors.
const MAX_OUTPUTS: usize = 16;
/// What a call prints is read when it has run for so long, or has ended. Most have ended by then, and cost no look in between.
const READ_AFTER: Duration = Duration::from_millis(20);
/// How often is looked whether the processes of a call that was ended are gone.
const GROUP_POLL: Duration = Duration::from_millis(50);

/// The hooks that run now, one, and others that were left behind.
#[derive(Debug)]
pub(super) struct Scripts {
    news: News,
    node: String,
    role: Role,
    notebook: Option<Rc<Notebook>>,
    remains: Rc<Remains>,
    /// Starts the processes when this one is realtime.
    starter: Option<Rc<Starter>>,
    running: Running,
    /// A copy of it goes with each output that is read.
    outputs: Rc<()>,
    told_outputs: Cell<bool>,
}

type Running = Rc<RefCell<HashMap<u64, Group>>>;

/// The process group of a call.
#[derive(Debug, Default)]
struct Group {
    /// `None` until its process is started.
    id: Option<Pid>,
    /// The last signal that was sent to it, or will be as soon as it is there.
    told: Option<Signal>,
    /// It has ended, so its number may be another's; what its answer is worth is being looked at.
    has_ended: bool,
    /// The mark of a `start`, until that is cut short.
    start: Option<String>,
}

/// How often is looked whether the processes that are being started are there.
const START_POLL: Duration = Duration::from_millis(5);

/// A process that is started, or will be by another thread.
enum Begun {
    Now(io::Result<Child>),
    Soon(Rc<Starter>, Box<Command>),
}

impl Begun {
    async fn child(self) -> io::Result<Child> {
        match self {
            Self::Now(child) => child,
            Self::Soon(starter, command) => starter.start(*command).await,
        }
    }
}

impl Scripts {
    pub(super) fn new(
        news: News,
        node: String,
        role: Role,
        notebook: Option<Rc<Notebook>>,
        remains: Rc<Remains>,
        starter: Option<Starter>,
    ) -> Self {
        Self {
            news,
            node,
            role,
            notebook,
            remains,
            starter: starter.map(Rc::new),
            running: Rc::default(),
            outputs: Rc::default(),
            told_outputs: Cell::default(),
        }
    }

    /// Starts the script; its end becomes news.
    pub(super) fn run(&self, resource: &Resource, call: &Call, epoch: Option<u64>) {
        let id = call.id;
        let mark = self.notebook.as_ref().map(|notebook| notebook.begin(id, call.hook));
        let start = mark.clone().filter(|_| call.hook == Hook::Start);
        self.running.borrow_mut().insert(id, Group { start, ..Group::default() });
        let permitted = if call.hook == Hook::Start { self.remains.permit_start() } else { Ok(()) };
        let (begun, output) = match permitted.and_then(|()| self.command(resource, call, epoch, mark.as_deref())) {
            Ok((command, reader)) => {
                let output = reader.map(|reader| {
                    let output = Rc::new(Output::new(reader, &resource.name, call.hook));
                    let (logged, open) = (Rc::clone(&output), Rc::clone(&self.outputs));
                    let task = tokio::task::spawn_local(async move {
                        logged.log().await;
                        drop(open);
                    });
                    (output, task)
                });
                (self.begin(command), output)
            }
            Err(error) => (Begun::Now(Err(error)), None),
        };
        if let Begun::Now(Ok(child)) = &begun {
            note_start(&self.running, id, child);
        }
        let (exec, hook) = (resource.exec.clone(), call.hook);
        let (news, running, notebook) = (self.news.clone(), Rc::clone(&self.running), self.notebook.clone());
        let remains = Rc::clone(&self.remains);
        tokio::task::spawn_local(async move {
            let started = begun.child().await;
            if let Ok(child) = &started {
                note_start(&running, id, child);
            }
            let started = started.map_err(|error| why_not_started(&exec, &error));
            let exit = match started {
                Ok(mut child) => match child.wait().await {
                    Ok(status) => exit_of(status),
                    Err(error) => Exit::NotStarted(format!("its end cannot be seen: {error}")),
                },
                Err(why) => Exit::NotStarted(why),
            };
            rest_is_gone(&running, id).await;
            running.borrow_mut().get_mut(&id).into_iter().for_each(|group| group.has_ended = true);
            let told = || running.borrow().get(&id).and_then(|group| group.told);
            let exit = remains.check(hook, exit, told).await;
            running.borrow_mut().remove(&id);
            notebook.inspect(|notebook| notebook.end(id));
            // The loop that hears the news ends only with the process.
            let output = output.map(|(output, task)| {
                let tail = output.tail();
                if output.is_over() {
                    task.abort();
                }
                tail
            });
            let output = output.unwrap_or_default();
            let _ = news.send(Input::HookExited { id, exit, output }).await;
        });
    }

    /// Sends a signal to the process group of a call. One that has ended is left alone: its number may be another's by now.
    pub(super) fn signal(&self, id: u64, signal: Signal) {
        if let Some(group) = self.running.borrow_mut().get_mut(&id) {
            group.told = Some(signal);
            // Not only when it has ended: one that hangs in the kernel may never do so.
            if let Some(mark) = group.start.take() {
                self.remains.note(&mark);
            }
            if let Some(id) = group.id.filter(|_| !group.has_ended) {
                // Fails only when the group is gone, which is what was wanted.
                let _ = kill_process_group(id, signal);
            }
        }
    }

    /// Waits until no process is being started: what is to be ended shall be, before this process ends.
    pub(super) async fn all_started(&self) {
        while self.running.borrow().values().any(|group| group.id.is_none()) {
            tokio::time::sleep(START_POLL).await;
        }
    }

    /// Starts a process: at once, or when this one is realtime by the thread that is not.
    fn begin(&self, mut command: Command) -> Begun {
        match &self.starter {
            None => Begun::Now(command.spawn()),
            Some(starter) => Begun::Soon(Rc::clone(starter), Box::new(command)),
        }
    }

    /// What the call prints goes to a pipe; to nowhere when too much is read already.
    fn output(&self, resource: &Resource) -> io::Result<(Option<OwnedFd>, OwnedFd)> {
        let open = Rc::strong_count(&self.outputs) - 1;
        if open < MAX_OUTPUTS {
            self.told_outputs.set(false);
            let (reader, writer) = io::pipe()?;
            rustix::io::ioctl_fionbio(&reader, true)?;
            return Ok((Some(reader.into()), writer.into()));
        }
        if !self.told_outputs.replace(true) {
            log::warn!(
                target: &resource.name,
                "{open} calls of the script have left processes behind that hold its output open: what it prints is not logged \
                 until they close it (begin what stays with >/dev/null 2>&1)"
            );
        }
        Ok((None, File::options().write(true).open("/dev/null")?.into()))
    }

    /// Calls the fence script for a node, in a process group of its own that outlives this worker; its end becomes news.
    pub(super) fn fence(&self, resource: &Resource, node: String) {
        let Some(path) = resource.fence.clone() else { return };
        let (name, limit, news) = (resource.name.clone(), resource.fence_timeout, self.news.clone());
        let mut command = Command::new(&path);
        command
            .args(["fence", &name, &node])
            .env("HASTMON_RESOURCE", &name)
            .env("HASTMON_NODE", &self.node)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let begun = self.begin(command);
        tokio::task::spawn_local(async move {
            let exit = match begun.child().await {
                Err(error) => Exit::NotStarted(why_not_started(&path, &error)),
                Ok(mut child) => {
                    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
                    match tokio::time::timeout(limit, child.wait()).await {
                        Ok(Ok(status)) => exit_of(status),
                        Ok(Err(error)) => Exit::NotStarted(format!("its end cannot be seen: {error}")),
                        Err(_) => {
                            // Fails only when the group is gone.
                            group.into_iter().for_each(|group| _ = kill_process_group(group, Signal::KILL));
                            Exit::NotStarted(format!("it took longer than {limit:?} and was killed"))
                        }
                    }
                }
            };
            let _ = news.send(Input::FenceExited { node, exit }).await;
        });
    }

    fn command(
        &self,
        resource: &Resource,
        call: &Call,
        epoch: Option<u64>,
        mark: Option<&str>,
    ) -> io::Result<(Command, Option<OwnedFd>)> {
        let (output, writer) = self.output(resource)?;
        let mut command = prepare(resource, &self.node, self.role, call.hook.name(), &call.reason);
        command
            .args(call.hook.arguments(&resource.name))
            .envs(epoch.map(|epoch| ("HASTMON_EPOCH", epoch.to_string())))
            .env(MARK, mark.unwrap_or_default())
            // A worker's own is nothing to read, either, and need not be opened for each call.
            .stdin(Stdio::inherit())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        Ok((command, output))
    }
}

/// The script of a resource with its environment, without arguments: in a process group of its own, with nothing to read.
pub(crate) fn prepare(resource: &Resource, node: &str, role: Role, event: &str, reason: &str) -> Command {
    let mut command = Command::new(&resource.exec);
    command
        .env("HASTMON_RESOURCE", &resource.name)
        .env("HASTMON_ROLE", role.as_str())
        .env("HASTMON_NODE", node)
        .env("HASTMON_EVENT", event)
        .env("HASTMON_REASON", reason)
        .stdin(Stdio::null())
        .process_group(0);
    command
}

/// A call has its process. What it was told meanwhile it hears now.
fn note_start(running: &Running, id: u64, child: &Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    if let Some(group) = running.borrow_mut().get_mut(&id).filter(|group| group.id.is_none()) {
        group.id = pid;
        if let (Some(pid), Some(signal)) = (pid, group.told) {
            // Fails only when the group is gone, which is what was wanted.
            let _ = kill_process_group(pid, signal);
        }
    }
}

/// A call that was told to end is over when its whole group is: what its first process has left would go on beside the next call. It has
/// the same time as that process had, until KILL is sent, which leaves nothing that could act.
async fn rest_is_gone(running: &Running, id: u64) {
    loop {
        let told = running.borrow().get(&id).and_then(|group| group.id.zip(group.told));
        match told {
            Some((group, signal)) if signal != Signal::KILL && process::group_lives(group) => {}
            Some(_) | None => return,
        }
        tokio::time::sleep(GROUP_POLL).await;
    }
}

/// What reboots a host at once: services that hang are the reason for it.
#[cfg(target_os = "linux")]
const REBOOT: [&str; 2] = ["reboot", "-f"];
#[cfg(not(target_os = "linux"))]
const REBOOT: [&str; 2] = ["reboot", "-q"];

/// Reboots this host, by the command that its system has for that.
pub(super) fn reboot(resource: &str) {
    let [program, option] = REBOOT;
    if let Err(error) = std::process::Command::new(program).arg(option).stdin(Stdio::null()).spawn() {
        log::error!(target: resource, "cannot reboot this host: {program}: {error}");
    }
}

/// Which file, what the system says, and what to look at.
pub(crate) fn why_not_started(exec: &str, error: &io::Error) -> String {
    let hint = match Errno::from_io_error(error) {
        Some(Errno::NOENT) => "; does it exist, and the interpreter in its first line?",
        Some(Errno::ACCESS) => "; is it executable (chmod +x), and its file system not mounted noexec?",
        Some(Errno::NOEXEC) => "; a script needs a first line such as #!/bin/sh",
        Some(Errno::AGAIN) => "; no more processes may be started (ulimit -u, pids.max)",
        Some(Errno::NOMEM) => "; there is not enough memory for another process",
        Some(Errno::MFILE | Errno::NFILE) => "; no more files may be opened (ulimit -n)",
        Some(Errno::TXTBSY) => "; somebody is writing to it (replace it with mv, not with cp)",
        _ => "",
    };
    format!("{exec}: {error}{hint}")
}

/// How a process has ended.
pub(crate) fn exit_of(status: std::process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::NotStarted(format!("it ended in an unknown way: {status}")),
    }
}

/// What a hook prints.
#[derive(Debug)]
struct Output {
    reader: OwnedFd,
    /// Everybody has closed it, and all of it is logged.
    is_over: Cell<bool>,
    lines: RefCell<Lines>,
}

impl Output {
    fn new(reader: OwnedFd, resource: &str, hook: Hook) -> Self {
        let lines = Lines {
            resource: resource.to_string(),
            hook,
            line: Vec::new(),
            cut: false,
            told: 0,
            left_out: 0,
            tail: VecDeque::new(),
        };
        Self { reader, is_over: Cell::default(), lines: RefCell::new(lines) }
    }

    /// Puts it into the log, line by line, until the last process that holds it has closed it: a service that the hook has started may do so
    /// for as long as it runs, and must not be stopped by a pipe that nobody reads.
    async fn log(&self) {
        tokio::time::sleep(READ_AFTER).await;
        let reader = match self.reader.try_clone().and_then(pipe::Receiver::from_owned_fd) {
            Ok(reader) => reader,
            Err(error) => {
                log::warn!(target: &self.lines.borrow().resource, "what the script prints cannot be read: {error}");
                return;
            }
        };
        while reader.readable().await.is_ok() {
            self.read(|chunk| reader.try_read(chunk));
            if self.is_over() {
                break;
            }
            // A script that prints without end is not alone in this process.
            tokio::task::yield_now().await;
        }
    }

    const fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Takes a piece of what has been printed; says whether there was one.
    fn read(&self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> bool {
        let mut chunk = [0; CHUNK];
        match read(&mut chunk) {
            Ok(read) if read > 0 => {
                self.lines.borrow_mut().take(chunk.get(..read).unwrap_or_default());
                true
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => false,
            Ok(_) | Err(_) => {
                if !self.is_over.replace(true) {
                    self.lines.borrow_mut().finish();
                }
                false
            }
        }
    }

    /// The last lines of what has been printed by now, all of which is read first.
    fn tail(&self) -> Vec<String> {
        for _ in 0..LAST_CHUNKS {
            // Not by way of the runtime, which may not have noticed yet that there is something.
            if !self.read(|chunk| Ok(rustix::io::read(&self.reader, chunk)?)) {
                break;
            }
        }
        self.lines.borrow().tail()
    }
}

#[derive(Debug)]
struct Lines {
    resource: String,
    hook: Hook,
    line: Vec<u8>,
    cut: bool,
    told: u64,
    left_out: u64,
    tail: VecDeque<String>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                byte if self.line.len() < MAX_LINE => self.line.push(*byte),
                _ => self.cut = true,
            }
        }
    }

    fn end_line(&mut self) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(clipped(&self.line));
        let text = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        let cut = if std::mem::take(&mut self.cut) { " [...]" } else { "" };
        if self.told == MAX_LINES {
            self.left_out += 1;
            return;
        }
        self.told += 1;
        log::info!(target: &self.resource, "{}: {text}{cut}", self.hook);
        if self.told == MAX_LINES {
            log::warn!(target: &self.resource, "{}: has printed {MAX_LINES} lines; what follows is not logged", self.hook);
        }
    }

    /// The last lines, and what stands on one that has no end yet.
    fn tail(&self) -> Vec<String> {
        let open = (!self.line.is_empty()).then(|| clipped(&self.line));
        let all: Vec<String> = self.tail.iter().cloned().chain(open).collect();
        all.into_iter().rev().take(TAIL_LINES).rev().collect()
    }

    fn finish(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
        if self.left_out > 0 {
            log::warn!(target: &self.resource, "{}: {} more lines were not logged", self.hook, self.left_out);
        }
    }
}

fn clipped(line: &[u8]) -> String {
    String::from_utf8_lossy(line.get(..TAIL_LINE).unwrap_or(line)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn output() -> (Output, io::PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        (Output::new(reader.into(), "web", Hook::Start), writer)
    }

    #[test]
    fn the_end_of_a_call_comes_with_its_last_lines_though_nobody_has_read_them_yet() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (output, mut writer) = output();
            assert_eq!(output.tail(), [""; 0]);
            for number in 0..30 {
                writeln!(writer, "line {number}").unwrap();
            }
            write!(writer, "no such {}", "x".repeat(TAIL_LINE)).unwrap();
            let tail = output.tail();
            assert_eq!((tail.len(), tail[0].as_str(), tail[8].as_str()), (TAIL_LINES, "line 21", "line 29"));
            assert!(tail[9].starts_with("no such x") && tail[9].len() == TAIL_LINE);
            // What comes later, when a service has been left behind, is still read.
            writeln!(writer, "\nlater").unwrap();
            drop(writer);
            output.log().await;
            assert_eq!(output.tail().last().unwrap(), "later");
        });
    }
}
