//! The process of the main daemon: one loop that waits for everything at once, asks [`hastmon_core::daemon::Daemon`] what to do, and
//! does it. Decides nothing itself.

mod callers;
mod control_socket;
mod events;
mod metrics;
mod notify;
mod sockets;
mod votes;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;

use hastmon_core::config::Config;
use hastmon_core::daemon::{Action, Daemon, Input, PeerProtocol};
use hastmon_core::event::Event;
use hastmon_core::pause::PauseRecord;
use hastmon_core::time::Instant;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use self::callers::Callers;
use self::events::Events;
use self::notify::Notifier;
use self::sockets::{SocketError, Sockets, listen_addresses};
use self::votes::Votes;
use self::workers::Workers;
use crate::cli::DaemonArgs;
use crate::config_file::{LoadError, Source};
use crate::os::alarm::Alarm;
use crate::os::background::{Readiness, detach_parent};
use crate::os::pidfile::{Pidfile, PidfileError};
use crate::os::realtime::Starter;
use crate::os::{clock, log, process, realtime, sysexits, thread, title};
use crate::resolver::{LOOK_EVERY, Resolver};
use crate::store::{Store, StoreError};

/// News from the tasks of this process that wait in line; a task that finds the line full waits, and its peer with it.
const MAX_NEWS: usize = 256;

/// What the tasks of the daemon tell its loop.
#[derive(Debug)]
enum News {
    /// For the core.
    Input(Input),
    /// Somebody has connected.
    Accepted(callers::Accepted),
    /// The first message of a connection, or why there is none.
    Heard(callers::Heard),
    /// A worker has told of an event.
    Told { resource: String, at: Instant, event: Box<Event> },
    /// Something has happened to this process, or by the way of what it does for a resource.
    Event(Option<String>, Box<Event>),
    /// A collector wants the metrics.
    Scrape(oneshot::Sender<String>),
    /// The configuration was read again, and its sockets are open.
    Loaded(Result<(Box<Config>, Sockets), ReloadError>),
}

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Pidfile(#[from] PidfileError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Cannot go to the background: {0}")]
    Background(io::Error),
    #[error("Cannot begin: {0}")]
    System(#[from] io::Error),
}

impl StartError {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Load(error) => error.exit_code(),
            Self::Pidfile(error) => error.exit_code(),
            Self::Socket(error) => error.exit_code(),
            Self::Store(error) => error.exit_code(),
            Self::Background(_) | Self::System(_) => sysexits::OSERR,
        }
    }
}

/// Why the daemon goes on with the configuration that it has.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("Cannot read the configuration in a thread of its own: {0}")]
    System(#[from] io::Error),
}

/// Runs this process as the main daemon, or as the command that puts it into the background.
pub fn main(args: &DaemonArgs) -> ExitCode {
    log::init(args.common.debug);
    let readiness = if args.foreground { Ok(None) } else { Readiness::take() };
    let end = match readiness {
        Ok(None) if !args.foreground => return detach_parent(),
        Ok(readiness) => start(args, readiness),
        Err(error) => Err(StartError::Background(error)),
    };
    let code = match end {
        Ok(()) => sysexits::OK,
        Err(StartError::Load(LoadError::Faulty { report, .. })) => {
            // Made to be read as it is: with source lines and carets.
            eprint!("{report}");
            sysexits::CONFIG
        }
        Err(error) => {
            ::log::error!("{error}");
            error.exit_code()
        }
    };
    log::flush();
    ExitCode::from(code)
}

fn start(args: &DaemonArgs, readiness: Option<Readiness>) -> Result<(), StartError> {
    title::set_short_name();
    let source = Source::new(&args.common)?;
    let config = source.load()?;
    let listen = listen_addresses(&config.listen)?;
    let limit = process::raise_descriptor_limit()?;
    // Before the directory changes.
    let pidfile_path = std::path::absolute(&args.pidfile)?;
    let pidfile = Pidfile::acquire(&args.pidfile)?;
    let statedir = args.statedir.clone().unwrap_or_else(|| config.statedir.clone().into());
    let store = Store::open(&statedir)?;
    // Before roles are taken up: what is paused keeps the one that it had.
    let (pauses, damaged) = store.read_pauses(clock::unix_time_s())?;
    damaged.iter().for_each(|error| ::log::error!("{error}"));
    let peers = if args.legacy_peers { PeerProtocol::Legacy } else { PeerProtocol::Lease };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = async {
        // First: a signal to read the configuration again must not end what has just begun.
        let signals = Signals::new()?;
        process::default_signals_for_children();
        let sockets = Sockets::open(&config, &listen, None)?;
        match readiness {
            Some(readiness) => readiness.ready().map_err(StartError::Background)?,
            None => log::to_stderr_queue()?,
        }
        let (news, inbox) = mpsc::channel(MAX_NEWS);
        let history = events::start_history(news.clone(), &store, config.history_bytes)?;
        // After the threads that need not be in time, before the one that writes the votes.
        let starter = Rc::new(Starter::new()?);
        go_first(config.realtime);
        let events = Events::new(history, Notifier::new(news.clone(), Rc::clone(&starter)));
        let workers = Workers::new(news.clone(), args, pidfile_path, limit.inherited, starter, config.realtime);
        let callers = Callers::new(news.clone(), sockets, limit.now);
        let votes = Votes::new(news.clone(), store)?;
        let shell = Shell {
            source,
            callers,
            workers,
            votes,
            events,
            resolver: Resolver::new(),
            news,
            opened: None,
            names_due: clock::now(),
            pauses,
        };
        shell.run(config, peers, signals, Alarm::new()?, inbox).await;
        Ok(())
    };
    let end = LocalSet::new().block_on(&runtime, Box::pin(run));
    if let Err(error) = pidfile.remove() {
        ::log::warn!("{error}");
    }
    end
}

/// The votes and answers of this node all come from here, and each of the others waits for them: with hundreds of workers that want the
/// processor as well, it would come last too often. What it starts has none of that.
fn go_first(realtime: bool) {
    if realtime {
        if let Err(why) = realtime::begin() {
            ::log::warn!("realtime on: {why}; without it a busy machine may look like a dead one to the others");
        }
    } else if let Err(error) = realtime::go_first() {
        ::log::debug!("no precedence over other processes: {error}");
    }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// What carries the decisions out.
struct Shell {
    source: Source,
    callers: Callers,
    workers: Workers,
    votes: Votes,
    events: Events,
    resolver: Resolver,
    news: mpsc::Sender<News>,
    /// The sockets of the configuration that was read, while it is decided whether it comes into force.
    opened: Option<Sockets>,
    /// When the names of the configuration are looked up again.
    names_due: Instant,
    /// What is known of pauses from before the start.
    pauses: Vec<PauseRecord>,
}

impl Shell {
    async fn run(
        mut self,
        config: Config,
        peers: PeerProtocol,
        mut signals: Signals,
        mut alarm: Alarm,
        mut inbox: mpsc::Receiver<News>,
    ) {
        let started =
            Event::DaemonStarted { version: env!("CARGO_PKG_VERSION").to_string(), node: config.node.clone() };
        self.source.warn_of_weak_secrets(&config);
        self.workers.set_node(&config.node, self.callers.sockets().source());
        self.workers.tell_of_left_over(&config);
        let pauses = core::mem::take(&mut self.pauses);
        let (mut daemon, actions) = Daemon::with_pauses(clock::now(), config, peers, seed(), pauses);
        self.events.tell(&daemon, None, started);
        let mut ended = self.carry_out(&daemon, actions);
        let mut stopping = false;
        while !ended {
            let input = tokio::select! {
                _ = signals.terminate.recv() => stop(&mut stopping),
                _ = signals.interrupt.recv() => stop(&mut stopping),
                _ = signals.hangup.recv() => Some(Input::Hangup),
                Some(news) = inbox.recv() => match self.understand(&daemon, news) {
                    Some(input) => Some(input),
                    None => continue,
                },
                () = alarm.until(Some(daemon.next_deadline().unwrap_or(self.names_due).min(self.names_due))) => {
                    if clock::now() >= self.names_due {
                        self.look_up_names(&daemon);
                    }
                    Some(Input::Timer)
                }
            };
            // A second signal to stop: the workers stop their resources by themselves when the daemon is gone.
            let Some(input) = input else { break };
            let actions = daemon.handle(clock::now(), input);
            ended = self.carry_out(&daemon, actions);
            // What was not adopted is closed.
            self.opened = None;
        }
        self.events.tell(&daemon, None, Event::DaemonStopped);
        self.events.end(!ended).await;
    }

    /// Reads the configuration off the loop, because its file may be on a file system that hangs, and opens the sockets that it asks for
    /// beside those in use.
    fn reload(&self) {
        ::log::info!("reading the configuration again");
        self.resolver.expire();
        let (source, news, in_use) = (self.source.clone(), self.news.clone(), self.callers.sockets());
        tokio::task::spawn_local(async move {
            let opened = match load(source).await {
                Ok((config, listen)) => match Sockets::open(&config, &listen, Some(&in_use)) {
                    Ok(sockets) => Ok((Box::new(config), sockets)),
                    Err(error) => Err(error.into()),
                },
                Err(error) => Err(error),
            };
            let _ = news.send(News::Loaded(opened)).await;
        });
    }

    /// The configuration that was read is in force.
    fn adopt(&mut self, daemon: &Daemon) {
        if let Some(sockets) = self.opened.take() {
            self.workers.set_node(&daemon.config().node, sockets.source());
            self.callers.adopt(sockets);
        }
        let wanted = daemon.config().realtime;
        if wanted != self.workers.is_realtime() {
            let wanted = if wanted { "on" } else { "off" };
            ::log::warn!("realtime {wanted} takes effect at the next start of hastmon");
        }
        self.events.adopt(daemon);
        self.names_due = clock::now();
    }

    fn understand(&mut self, daemon: &Daemon, news: News) -> Option<Input> {
        match news {
            News::Input(input) => {
                match &input {
                    Input::Gone { conn, .. } => self.callers.forget(*conn),
                    Input::Report(id, report) if !report.statuses.is_empty() => {
                        if let Some(resource) = self.workers.resource_of(*id) {
                            self.events.note_statuses(resource, &report.statuses);
                        }
                    }
                    _ => {}
                }
                Some(input)
            }
            News::Told { resource, at, event } => {
                self.events.record(daemon, at, Some(&resource), *event);
                None
            }
            News::Event(resource, event) => {
                self.events.tell(daemon, resource.as_deref(), *event);
                None
            }
            News::Scrape(collector) => {
                // It may have gone.
                let _ = collector.send(self.events.metrics(daemon));
                None
            }
            News::Accepted(accepted) => self.callers.take_in(daemon, accepted),
            News::Heard(heard) => self.callers.understand(heard),
            News::Loaded(Ok((config, sockets))) => {
                self.source.warn_of_weak_secrets(&config);
                self.opened = Some(sockets);
                Some(Input::Reload(config))
            }
            News::Loaded(Err(error)) => {
                let why = error.to_string();
                let report = match error {
                    ReloadError::Load(LoadError::Faulty { report, .. }) => report,
                    _ => why.clone(),
                };
                Some(Input::ReloadFailed { why, report })
            }
        }
    }

    /// Starts a look-up for each name that is due, and sets when to do so again. What the system's log has not taken is offered again, too.
    fn look_up_names(&mut self, daemon: &Daemon) {
        log::retry();
        for name in daemon.names_to_resolve() {
            let (resolver, news) = (self.resolver.clone(), self.news.clone());
            tokio::task::spawn_local(async move {
                if let Some(found) = resolver.refresh(&name).await {
                    let _ = news.send(News::Input(Input::Resolved(name, found))).await;
                }
            });
        }
        self.names_due = clock::now() + LOOK_EVERY;
    }

    /// Tells the core what came of an action, in the next turn.
    fn tell_self(&self, input: Input) {
        let news = self.news.clone();
        tokio::task::spawn_local(async move { news.send(News::Input(input)).await });
    }

    /// Does what was decided; says whether that was the end.
    fn carry_out(&mut self, daemon: &Daemon, actions: Vec<Action>) -> bool {
        for action in actions {
            match action {
                Action::Reply { conn, message, keep } => self.callers.reply(conn, message, keep),
                Action::Close(conn) => self.callers.close(conn),
                Action::StartWorker { id, assignment } => self.workers.start(id, *assignment),
                Action::Order { id, order } => self.workers.order(id, order),
                Action::KillWorker(id) => self.workers.kill(id),
                Action::HandOver { worker, link, from, asks, answers, resuid } => {
                    let connections = self.callers.hand_over(asks, answers);
                    let served = connections.is_some_and(|both| self.workers.serve(worker, link, &from, both, resuid));
                    if !served {
                        self.tell_self(Input::PrimaryGone(worker, link));
                    }
                }
                Action::LoadConfig => self.reload(),
                Action::Adopt => self.adopt(daemon),
                Action::Welcome { conn, answer, key } => self.callers.welcome(conn, answer, key),
                Action::Tell { conn, message } => {
                    if self.callers.tell(conn, message) {
                        let why = Some("it does not read what it is told".to_string());
                        self.tell_self(Input::Gone { conn, why });
                    }
                }
                Action::FindRecord(resource) => self.votes.find(resource),
                Action::Record { id, resource, record } => self.votes.write(id, resource, record),
                Action::RecordPause { id, record } => self.votes.write_pause(id, &record),
                Action::Event(resource, event) => self.events.tell(daemon, resource.as_deref(), event),
                Action::Exit => return true,
            }
        }
        self.workers.forget_ended(daemon);
        false
    }
}

/// Reads the configuration, and looks up where it says to listen, in a thread of its own: names that hang do not hold it up.
async fn load(source: Source) -> Result<(Config, Vec<SocketAddr>), ReloadError> {
    let read = move || -> Result<_, ReloadError> {
        let config = source.load()?;
        let listen = listen_addresses(&config.listen)?;
        Ok((config, listen))
    };
    thread::run("configuration", read).await?
}

/// A number that no other start of a daemon has. It need not be secret, so the clock will do where there is no chance.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| clock::now().as_nanos())
}

/// The first signal stops the daemon in order, the second one at once.
fn stop(stopping: &mut bool) -> Option<Input> {
    if std::mem::replace(stopping, true) {
        ::log::warn!("told to stop a second time: leaving; the workers stop what still runs");
        return None;
    }
    ::log::info!("told to stop");
    Some(Input::Stop)
}
