//! The worker processes: started, spoken to, reaped. A task for each reads what the worker says; another one sends it what waits.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hastmon_core::config::{Address, Config};
use hastmon_core::daemon::{Daemon, Input, WorkerId};
use hastmon_core::supervisor::WorkerExit;
use hastmon_core::types::Role;
use hastmon_core::worker::{Assignment, LinkId, Order};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, Semaphore, mpsc};

use super::News;
use crate::cli::DaemonArgs;
use crate::file_name::file_name;
use crate::ipc::{Channel, FromWorker, Setup, ToWorker, pair, worker_title};
use crate::os::clock;
use crate::os::pidfile::{Found, Pidfile};
use crate::os::process;
use crate::os::realtime::Starter;
use crate::worker::remove_harmless_note;

/// Orders that may wait for a worker that is stuck. When there are more, it hears no further news of polls and complaints,
const MAX_ORDERS: usize = 64;
/// but there is room for this many orders that it must not miss: its end, and settings as often as an administrator may change them. Peers
/// cause the others as often as they like.
const MAX_DUE_ORDERS: usize = 32;

/// Workers of primaries that begin at once, at most, and so many others: on a machine with fewer processors, one for each of them. More would
/// only take them from each other.
const MAX_STARTS_AT_ONCE: usize = 8;
/// And at least: one that hangs shall not hold up all others.
const MIN_STARTS_AT_ONCE: usize = 2;
/// A worker that has said nothing after this time holds up no others.
const START_TIME: Duration = Duration::from_secs(1);

/// All workers.
#[derive(Debug)]
pub(super) struct Workers {
    news: mpsc::Sender<News>,
    running: HashMap<WorkerId, Handle>,
    /// What is to run here does not wait behind all that stands by.
    starts_of_primaries: Arc<Semaphore>,
    other_starts: Arc<Semaphore>,
    node: String,
    source: Option<IpAddr>,
    foreground: bool,
    verbosity: u8,
    pidfile: PathBuf,
    descriptor_limit: Option<u64>,
    /// Starts workers, which do not have the precedence of this process.
    starter: Rc<Starter>,
    /// This process was started with `realtime on`; each worker begins with that itself.
    realtime: bool,
}

#[derive(Debug)]
struct Handle {
    resource: String,
    orders: mpsc::Sender<(ToWorker, Vec<OwnedFd>)>,
    kill: Rc<Notify>,
}

impl Workers {
    pub(super) fn new(
        news: mpsc::Sender<News>,
        args: &DaemonArgs,
        pidfile: PathBuf,
        descriptor_limit: Option<u64>,
        starter: Rc<Starter>,
        realtime: bool,
    ) -> Self {
        Self {
            news,
            running: HashMap::new(),
            starts_of_primaries: Arc::new(Semaphore::new(starts_at_once())),
            other_starts: Arc::new(Semaphore::new(starts_at_once())),
            node: String::new(),
            source: None,
            foreground: args.foreground,
            verbosity: args.common.debug,
            pidfile,
            descriptor_limit,
            starter,
            realtime,
        }
    }

    /// Whether this process was started with `realtime on`.
    pub(super) const fn is_realtime(&self) -> bool {
        self.realtime
    }

    /// What workers know of this node: its name, and where their connections leave from.
    pub(super) fn set_node(&mut self, node: &str, source: Option<IpAddr>) {
        node.clone_into(&mut self.node);
        if self.source != source {
            self.source = source;
            self.running.keys().for_each(|id| _ = self.tell(*id, ToWorker::Source(source), Vec::new()));
        }
    }

    /// Says what the daemon before this one may have left running where nobody will look. A worker that ends in order removes its lock;
    /// in other roles than init the next worker sees for itself.
    pub(super) fn tell_of_left_over(&self, config: &Config) {
        for resource in config.resources.iter().filter(|resource| resource.role_on_start == Role::Init) {
            let name = &resource.name;
            let Some(Found { pid, is_held }) = Pidfile::found(&lock_path(&self.pidfile, name)) else { continue };
            let how = if is_held { "has not ended yet" } else { "was killed" };
            log::error!(
                target: name,
                "its last worker (pid {pid}) {how}: the resource MAY STILL RUN on this node, and nobody looks after it in the role init \
                 (to have it stopped: hastmonctl role secondary {name})"
            );
        }
    }

    pub(super) fn start(&mut self, id: WorkerId, assignment: Assignment) {
        let name = assignment.resource.name.clone();
        let title = worker_title(&assignment.resource.name, assignment.role);
        let is_primary = assignment.role == Role::Primary;
        let starts = Arc::clone(if is_primary { &self.starts_of_primaries } else { &self.other_starts });
        let lock = lock_path(&self.pidfile, &name);
        let setup = Setup {
            assignment,
            node: self.node.clone(),
            source: self.source,
            foreground: self.foreground,
            verbosity: self.verbosity,
            lock: lock.clone(),
            realtime: self.realtime,
            descriptor_limit: self.descriptor_limit,
        };
        let (orders, unsent) = mpsc::channel(MAX_ORDERS + MAX_DUE_ORDERS);
        // The first into an empty line: there is room.
        let _ = orders.try_send((ToWorker::Setup(Box::new(setup)), Vec::new()));
        let kill = Rc::new(Notify::new());
        self.running.insert(id, Handle { resource: name.clone(), orders, kill: Rc::clone(&kill) });
        let (news, starter) = (self.news.clone(), Rc::clone(&self.starter));
        tokio::task::spawn_local(async move {
            let who = Who { id, title, resource: name };
            let exit = match life(&who, unsent, &kill, &news, starts, starter).await {
                Ok(exit) => exit,
                Err(error) => WorkerExit::NotStarted(error.to_string()),
            };
            if !matches!(exit, WorkerExit::Farewell(_)) {
                remove_left_behind(&lock);
            }
            tell(&news, Input::WorkerExited(id, exit)).await;
        });
    }

    /// The resource of a worker.
    pub(super) fn resource_of(&self, id: WorkerId) -> Option<&str> {
        self.running.get(&id).map(|handle| handle.resource.as_str())
    }

    pub(super) fn order(&self, id: WorkerId, order: Order) {
        self.tell(id, ToWorker::Order(order), Vec::new());
    }

    /// Gives a worker the connections of a primary; says whether it could be told.
    pub(super) fn serve(
        &self,
        id: WorkerId,
        link: LinkId,
        from: &Address,
        connections: [OwnedFd; 2],
        resuid: u64,
    ) -> bool {
        self.tell(id, ToWorker::Serve { link, from: from.to_string(), resuid }, connections.into())
    }

    pub(super) fn kill(&self, id: WorkerId) {
        if let Some(handle) = self.running.get(&id) {
            handle.kill.notify_one();
        }
    }

    pub(super) fn forget_ended(&mut self, daemon: &Daemon) {
        if self.running.len() > daemon.resources().len() {
            self.running.retain(|_, handle| !handle.orders.is_closed());
        }
    }

    /// Says whether it will be told. That a worker is stuck is the core's to say, once.
    fn tell(&self, id: WorkerId, message: ToWorker, descriptors: Vec<OwnedFd>) -> bool {
        let Some(handle) = self.running.get(&id) else { return false };
        let is_due = !matches!(message, ToWorker::Order(Order::Polled | Order::Complaint) | ToWorker::Serve { .. });
        if !is_due && handle.orders.capacity() <= MAX_DUE_ORDERS {
            return false;
        }
        match handle.orders.try_send((message, descriptors)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                log::error!(
                    target: &handle.resource,
                    "the worker is stuck and would miss what it must know: killing it; another one takes its place"
                );
                handle.kill.notify_one();
                false
            }
        }
    }
}

fn starts_at_once() -> usize {
    let processors = std::thread::available_parallelism().map_or(MIN_STARTS_AT_ONCE, NonZero::get);
    processors.clamp(MIN_STARTS_AT_ONCE, MAX_STARTS_AT_ONCE)
}

/// Beside the pidfile, named after it and the resource.
fn lock_path(pidfile: &Path, resource: &str) -> PathBuf {
    let mut name = pidfile.as_os_str().to_os_string();
    name.push(".");
    name.push(file_name(resource));
    name.into()
}

/// Removes the lock that a dead worker could not remove itself. One that another worker holds stays.
fn remove_left_behind(lock: &Path) {
    let removed = Pidfile::acquire(lock).and_then(|held| {
        remove_harmless_note(lock);
        held.remove()
    });
    if let Err(error) = removed {
        log::debug!("what a worker has left stays: {error}");
    }
}

async fn spawn(title: &str, starter: &Starter) -> io::Result<(Child, Channel)> {
    let (ours, theirs) = pair()?;
    let mut command = Command::new(process::self_program()?);
    // A group of its own: ^C on the terminal is for the main daemon, which stops the resources in order.
    command.arg0(OsString::from(title)).stdin(Stdio::from(theirs)).process_group(0);
    Ok((starter.start(command).await?, ours))
}

/// The loop that hears the news ends only with the process.
async fn tell(news: &mpsc::Sender<News>, input: Input) {
    let _ = news.send(News::Input(input)).await;
}

/// A worker, as it is called.
struct Who {
    id: WorkerId,
    title: String,
    resource: String,
}

/// Starts a worker when its turn has come, hears it until it is gone, and says how it ended.
async fn life(
    who: &Who,
    unsent: mpsc::Receiver<(ToWorker, Vec<OwnedFd>)>,
    kill: &Notify,
    news: &mpsc::Sender<News>,
    starts: Arc<Semaphore>,
    starter: Rc<Starter>,
) -> io::Result<WorkerExit> {
    let Who { id, title, resource } = who;
    let id = *id;
    let turn = starts.acquire_owned().await.map_err(io::Error::other)?;
    let began = clock::now();
    let (mut child, channel) = spawn(title, &starter).await?;
    let channel = Rc::new(channel);
    tell(news, Input::WorkerStarted(id, child.id().unwrap_or(0))).await;
    let sender = tokio::task::spawn_local(send_all(Rc::clone(&channel), unsent));
    // The next one may start when this one has said something, and as much time again has gone by: that leaves half of the processors to those
    // that run, which have a lease to renew, and on a busy machine, where a start takes long, more.
    let first = tokio::time::timeout(START_TIME, hear(title, &mut child, &channel, kill)).await;
    let rest = clock::now().since(began).min(START_TIME);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(rest).await;
        drop(turn);
    });
    let mut heard = match first {
        Ok(heard) => heard,
        Err(_) => hear(title, &mut child, &channel, kill).await,
    };
    let mut farewell = None;
    while let Some(messages) = heard {
        for message in messages {
            match message {
                FromWorker::Report(report) => tell(news, Input::Report(id, report)).await,
                FromWorker::PrimaryGone(link) => tell(news, Input::PrimaryGone(id, link)).await,
                FromWorker::Ask(ask) => tell(news, Input::Asked(id, ask)).await,
                FromWorker::Release(release) => tell(news, Input::Released(id, release)).await,
                FromWorker::Won(grant) => tell(news, Input::Won(id, grant)).await,
                FromWorker::Fenced(node, epoch) => tell(news, Input::Fenced(id, node, epoch)).await,
                FromWorker::HandOverRefused(why) => tell(news, Input::HandOverRefused(id, why)).await,
                FromWorker::Event(at, event) => {
                    let _ = news.send(News::Told { resource: resource.clone(), at, event }).await;
                }
                FromWorker::PauseHeard(pause) => tell(news, Input::PauseHeard(id, pause)).await,
                FromWorker::Farewell(last) => farewell = Some(last),
            }
        }
        heard = hear(title, &mut child, &channel, kill).await;
    }
    sender.abort();
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            // Fails only when it has ended already.
            () = kill.notified() => { let _ = child.start_kill(); }
        }
    };
    Ok(match (farewell, status.map(|status| (status.code(), status.signal()))) {
        (Some(farewell), Ok((Some(0), _))) => WorkerExit::Farewell(farewell),
        (_, Ok((Some(code), _))) => WorkerExit::Code(code),
        (_, Ok((None, Some(signal)))) => WorkerExit::Signal(signal),
        (_, Ok((None, None)) | Err(_)) => WorkerExit::Code(i32::from(crate::os::sysexits::TEMPFAIL)),
    })
}

/// The next messages of a worker; `None` when it is gone, or makes no sense and is ended. Kills it when asked to.
async fn hear(title: &str, child: &mut Child, channel: &Channel, kill: &Notify) -> Option<Vec<FromWorker>> {
    loop {
        let heard = tokio::select! {
            heard = channel.receive::<Vec<FromWorker>>() => heard,
            () = kill.notified() => {
                // Fails only when it has ended already.
                let _ = child.start_kill();
                continue;
            }
        };
        match heard {
            Ok(heard) => return heard.map(|(messages, _)| messages),
            Err(error) => {
                log::error!("worker \"{title}\" cannot be understood: {error}");
                let _ = child.start_kill();
                return None;
            }
        }
    }
}

/// Sends what waits, in order, as fast as the worker takes it.
async fn send_all(channel: Rc<Channel>, mut unsent: mpsc::Receiver<(ToWorker, Vec<OwnedFd>)>) {
    while let Some((message, descriptors)) = unsent.recv().await {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        if let Err(error) = channel.send(&message, &borrowed).await {
            log::debug!("cannot tell a worker: {error}");
        }
    }
}
