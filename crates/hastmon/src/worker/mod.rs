//! The process of one worker: one loop that waits for everything at once, asks [`hastmon_core::worker::Worker`] what to do, and
//! does it. Decides nothing itself.

mod links;
mod orphan;
mod remains;
pub(crate) mod script;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use hastmon_core::event::Event;
use hastmon_core::worker::{Action, Farewell, Input, Order, Worker};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use self::links::{Introduction, Links};
use self::orphan::Notebook;
pub(crate) use self::orphan::remove_harmless_note;
use self::remains::Remains;
use self::script::Scripts;
pub(crate) use self::script::{exit_of, why_not_started};
use crate::ipc::{Channel, FromWorker, Setup, ToWorker};
use crate::log_event;
use crate::os::alarm::Alarm;
use crate::os::pidfile::{Pidfile, PidfileError};
use crate::os::realtime::Starter;
use crate::os::{clock, log, process, realtime, sysexits, title};

/// News from the tasks of this process that wait in line. They come in ones and twos at every heartbeat; a task that finds the line full
/// waits.
const MAX_NEWS: usize = 64;

/// So many descriptors that are ready are told of at once, as many as a worker has on a bad day: there is room for each in every worker, and the
/// runtime's own number takes 12 kB.
const EVENTS_AT_ONCE: usize = 64;

/// Events that may wait for the daemon to hear them: a few failovers. Beyond that they are in the log alone, and counted.
const MAX_UNSENT: usize = 64;
/// As many of them go into one packet, if they have all come in one turn. Sixteen of the largest events fill half of one.
const MAX_TOGETHER: usize = 16;

/// At its end a worker waits so long for the daemon to hear its last words.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// A worker that waits for its predecessor to end looks so often.
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// It repeats that it waits, so that it is found in today's log.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Where the tasks of a worker tell their news.
pub(crate) type News = mpsc::Sender<Input>;

/// Whether this process was started as a worker: by its title, which nothing else has.
pub fn is_worker() -> bool {
    std::env::args_os()
        .next()
        .is_some_and(|title| title.as_encoded_bytes().starts_with(crate::ipc::TITLE_START.as_bytes()))
}

/// Runs this process as a worker, to its end. The main daemon is at the other end of standard input.
pub fn main() -> ExitCode {
    title::set_short_name();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_io_events_per_tick(EVENTS_AT_ONCE).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hastmon: a worker cannot begin: {error}");
            return ExitCode::from(sysexits::TEMPFAIL);
        }
    };
    match LocalSet::new().block_on(&runtime, Box::pin(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ::log::error!("a worker cannot go on: {error}");
            log::flush();
            ExitCode::from(sysexits::TEMPFAIL)
        }
    }
}

async fn run() -> io::Result<()> {
    // The kernel sends it to a worker that was stopped (SIGSTOP) when its daemon dies, together with CONT. It shall go on then, not die.
    let _survived = signal(SignalKind::hangup())?;
    let channel = Channel::new(take_stdin()?)?;
    let Some((ToWorker::Setup(setup), _)) = channel.receive().await? else { return Ok(()) };
    let mut setup = *setup;
    log::init(setup.verbosity);
    if setup.foreground {
        log::to_stderr_queue()?
    } else {
        log::to_syslog()
    }
    process::set_descriptor_limit(setup.descriptor_limit)?;
    let starter = if setup.realtime { Some(begin_realtime()?) } else { None };
    let Some(held) = wait_for_predecessor(&channel, &mut setup).await else {
        let _ = channel.try_send(&[FromWorker::Farewell(Farewell::AsOrdered)]);
        log::flush();
        return Ok(());
    };
    let notebook = open_notebook(&held, &setup.lock, &setup.assignment.resource.name).map(Rc::new);
    let remains = Rc::new(Remains::new(&setup.assignment.resource.name, notebook.clone()));
    if let Some(notebook) = &notebook {
        notebook.end_orphan(&setup.assignment, &remains).await;
    }

    let Setup { assignment, node, source, .. } = setup;
    let (news, mut inbox) = mpsc::channel(MAX_NEWS);
    let role = assignment.role;
    let introduction = assignment.lease.as_ref().map(|part| Introduction { node: part.node.clone(), role });
    let (mut worker, actions) = Worker::new(clock::now(), assignment);
    let mut hands = Hands {
        links: Links::new(news.clone(), source, introduction),
        scripts: Scripts::new(news, node, role, notebook.clone(), Rc::clone(&remains), starter),
        daemon: Daemon::new(channel),
    };
    let mut alarm = Alarm::new()?;
    let mut ended = hands.carry_out(&worker, actions);
    while !ended {
        let input = tokio::select! {
            heard = hands.daemon.talk() => match hands.understand(heard) {
                Some(input) => input,
                None => continue,
            },
            Some(input) = inbox.recv() => input,
            () = alarm.until(worker.next_deadline()) => Input::Timer,
        };
        let actions = worker.handle(clock::now(), input);
        ended = hands.carry_out(&worker, actions);
        log::retry();
    }
    // The last words shall be heard, but nobody who is stuck can hold up the end.
    let last_words = async {
        tokio::join!(hands.daemon.say_all(), hands.links.say_all(), hands.scripts.all_started());
    };
    let _ = tokio::time::timeout(FAREWELL_TIME, last_words).await;
    // What is not known to be gone the next worker looks for.
    notebook.filter(|_| remains.is_empty()).inspect(|notebook| notebook.remove());
    if let Lock::Held(lock) = held
        && let Err(error) = lock.remove()
    {
        ::log::warn!("{error}");
    }
    log::flush();
    Ok(())
}

/// From here on this process is realtime, and the scripts that it starts are not. What is not permitted the main daemon has told.
fn begin_realtime() -> io::Result<Starter> {
    let starter = Starter::new()?;
    if let Err(why) = realtime::begin() {
        ::log::debug!("{why}");
    }
    Ok(starter)
}

/// What keeps other workers of the resource from acting on this node.
enum Lock {
    Held(Pidfile),
    /// The file cannot be had (a read-only or full disk, say): better without than not at all.
    None,
}

/// A worker whose daemon was killed stops its resource before it ends. Its successor waits for that, and says so; `None` when it is told
/// to end meanwhile.
async fn wait_for_predecessor(channel: &Channel, setup: &mut Setup) -> Option<Lock> {
    let mut told = None;
    loop {
        match Pidfile::acquire(&setup.lock) {
            Ok(lock) => return Some(Lock::Held(lock)),
            Err(PidfileError::Held { pid, .. }) => {
                if told.is_none_or(|at| clock::now().since(at) >= TELL_AGAIN) {
                    told = Some(clock::now());
                    let pid = pid.map_or_else(|| "?".to_string(), |pid| pid.to_string());
                    ::log::warn!(
                        target: &setup.assignment.resource.name,
                        "an earlier worker (pid {pid}) has not ended and the resource MAY STILL RUN on this node: waiting for it"
                    );
                }
            }
            Err(error) => {
                ::log::warn!(target: &setup.assignment.resource.name, "going on without a lock against a second worker: {error}");
                return Some(Lock::None);
            }
        }
        match tokio::time::timeout(LOCK_RETRY, channel.receive::<ToWorker>()).await {
            Err(_) => {}
            Ok(Ok(Some((ToWorker::Source(source), _)))) => setup.source = source,
            Ok(Ok(Some((ToWorker::Serve { link, .. }, _)))) => {
                // Closed unserved; the primary comes again.
                let _ = channel.try_send(&[FromWorker::PrimaryGone(link)]);
            }
            Ok(Ok(Some((ToWorker::Order(order), _)))) => {
                if !setup.assignment.hear(order) {
                    return None;
                }
            }
            Ok(Ok(None | Some((ToWorker::Setup(_), _))) | Err(_)) => return None,
        }
    }
}

/// Without the lock the note would be another worker's.
fn open_notebook(held: &Lock, path: &Path, resource: &str) -> Option<Notebook> {
    let Lock::Held(_) = held else { return None };
    Notebook::open(path)
        .inspect_err(|error| {
            ::log::warn!(
                target: resource,
                "cannot note beside {} which call of the script runs: {error}; if this worker is killed, that call is not ended",
                path.display()
            );
        })
        .ok()
}

/// Standard input is the channel to the daemon; scripts get `/dev/null` in its place.
fn take_stdin() -> io::Result<OwnedFd> {
    let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(channel)
}

/// The main daemon, as seen from here.
struct Daemon {
    /// `None` when it is gone.
    channel: Option<Channel>,
    /// What it has had no room for yet. Bounded: only the newest report is kept, a primary that comes is told of only by the daemon itself,
    /// and events only while there are few.
    unsent: VecDeque<FromWorker>,
    /// Events that it had no room for and does not know of.
    lost: u64,
}

impl Daemon {
    const fn new(channel: Channel) -> Self {
        Self { channel: Some(channel), unsent: VecDeque::new(), lost: 0 }
    }

    /// Tells of an event, if there is room.
    fn tell_event(&mut self, event: Event) {
        if self.channel.is_none() {
            return;
        }
        if self.unsent.len() >= MAX_UNSENT {
            self.lost += 1;
            return;
        }
        let now = clock::now();
        if self.lost > 0 {
            let count = std::mem::take(&mut self.lost);
            self.tell(FromWorker::Event(now, Box::new(Event::EventsLost { count })));
        }
        self.tell(FromWorker::Event(now, Box::new(event)));
    }

    fn tell(&mut self, message: FromWorker) {
        // Of these only the newest is worth anything.
        match message {
            FromWorker::Report(_) => self.unsent.retain(|old| !matches!(old, FromWorker::Report(_))),
            FromWorker::Ask(_) => self.unsent.retain(|old| !matches!(old, FromWorker::Ask(_))),
            FromWorker::PauseHeard(_) => self.unsent.retain(|old| !matches!(old, FromWorker::PauseHeard(_))),
            _ => {}
        }
        self.unsent.push_back(message);
    }

    /// Sends what is unsent, as far as there is room: all that was decided in one turn is one packet, which wakes the daemon once.
    fn say(&mut self) {
        while let Some(channel) = self.channel.as_ref().filter(|_| !self.unsent.is_empty()) {
            let together = self.unsent.len().min(MAX_TOGETHER);
            if channel.try_send(&self.unsent.range(..together).collect::<Vec<_>>()).is_err() {
                break;
            }
            self.unsent.drain(..together);
        }
    }

    /// The same, as soon as there is room.
    async fn say_all(&mut self) {
        self.say();
        while let (Some(channel), Some(first)) = (&self.channel, self.unsent.front()) {
            // That the daemon is gone is noticed in one place only, where it is listened to.
            let _ = channel.send(&[first], &[]).await;
            self.unsent.pop_front();
        }
    }

    /// The next message of the daemon; `None` when it is gone. Sends what is unsent meanwhile.
    async fn talk(&mut self) -> Option<(ToWorker, Vec<OwnedFd>)> {
        if self.channel.is_none() {
            // That has been told already.
            return std::future::pending().await;
        }
        self.say_all().await;
        let heard = match &self.channel {
            Some(channel) => channel.receive().await,
            None => Ok(None),
        };
        let heard = heard.unwrap_or_else(|error| {
            ::log::error!("the daemon cannot be understood: {error}");
            None
        });
        if heard.is_none() {
            self.channel = None;
        }
        heard
    }
}

/// What carries the decisions out.
struct Hands {
    links: Links,
    scripts: Scripts,
    daemon: Daemon,
}

impl Hands {
    fn understand(&mut self, heard: Option<(ToWorker, Vec<OwnedFd>)>) -> Option<Input> {
        match heard {
            Some((ToWorker::Order(order), _)) => Some(Input::Order(order)),
            Some((ToWorker::Source(source), _)) => {
                self.links.set_source(source);
                None
            }
            Some((ToWorker::Serve { link, from, resuid }, descriptors)) => {
                self.links.serve(link, descriptors, resuid);
                Some(Input::PrimaryConnected { link, from })
            }
            Some((ToWorker::Setup(_), _)) => {
                let reason = "the daemon gave an assignment twice".to_string();
                Some(Input::Order(Order::End { reason, hurry: false, successor: None }))
            }
            None => Some(Input::DaemonGone),
        }
    }

    /// Does what was decided; says whether that was the end.
    fn carry_out(&mut self, worker: &Worker, actions: Vec<Action>) -> bool {
        let resource = worker.resource();
        let mut is_over = false;
        for action in actions {
            match action {
                Action::RunHook(call) => self.scripts.run(resource, &call, worker.epoch()),
                Action::TerminateHook(id) => self.scripts.signal(id, Signal::TERM),
                Action::KillHook(id) => self.scripts.signal(id, Signal::KILL),
                Action::Connect(link, address) => self.links.connect(link, address, resource),
                Action::SendHeartbeat { link, state, seq } => self.links.send_heartbeat(link, state, seq),
                Action::AnswerHeartbeat { link, seq, state } => self.links.answer(link, seq, state),
                Action::Disconnect(link) => self.links.disconnect(link),
                Action::Poll(link, address) => self.links.poll(link, address, resource),
                Action::Complain(address) => self.links.complain(address, resource),
                Action::PrimaryGone(link) => self.daemon.tell(FromWorker::PrimaryGone(link)),
                Action::Say(link, said) => self.links.say(link, &said),
                Action::AskHere(ask) => self.daemon.tell(FromWorker::Ask(ask)),
                Action::ReleaseHere(release) => self.daemon.tell(FromWorker::Release(release)),
                Action::Fence(node) => self.scripts.fence(resource, node),
                Action::FencedHere { node, epoch } => self.daemon.tell(FromWorker::Fenced(node, epoch)),
                Action::Reboot => script::reboot(&resource.name),
                Action::Won(grant) => self.daemon.tell(FromWorker::Won(grant)),
                Action::HandOverRefused(why) => self.daemon.tell(FromWorker::HandOverRefused(why)),
                Action::PauseHeard(pause) => self.daemon.tell(FromWorker::PauseHeard(pause)),
                Action::Report(report) => self.daemon.tell(FromWorker::Report(report)),
                Action::Event(event) => {
                    log_event(Some(&resource.name), &event);
                    self.daemon.tell_event(event);
                }
                Action::Exit(farewell) => {
                    self.daemon.tell(FromWorker::Farewell(farewell));
                    is_over = true;
                }
            }
        }
        self.daemon.say();
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::pair;

    #[test]
    fn the_end_of_the_daemon_is_noticed_though_a_message_for_it_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (theirs, ours) = pair().unwrap();
            let mut daemon = Daemon::new(Channel::new(ours).unwrap());
            drop(theirs);
            daemon.tell(FromWorker::Farewell(Farewell::AsOrdered));
            let heard = tokio::time::timeout(Duration::from_secs(60), daemon.talk()).await;
            assert!(heard.expect("it is noticed").is_none());
        });
    }

    #[test]
    fn a_daemon_that_does_not_listen_costs_events_which_are_counted_and_nothing_else() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            const COUNT: u64 = 100_000;
            let (theirs, ours) = pair().unwrap();
            let mut daemon = Daemon::new(Channel::new(ours).unwrap());
            for _ in 0..COUNT {
                daemon.tell_event(Event::MayStillRun);
                daemon.say();
            }
            assert!(daemon.unsent.len() <= MAX_UNSENT && daemon.lost > 0);
            daemon.tell(FromWorker::Farewell(Farewell::AsOrdered));
            let (mut heard, mut missing) = (0, 0);
            let hears = async {
                loop {
                    for message in theirs.receive::<Vec<FromWorker>>().await.unwrap().unwrap().0 {
                        match message {
                            FromWorker::Event(_, event) => match *event {
                                Event::EventsLost { count } => missing += count,
                                _ => heard += 1,
                            },
                            FromWorker::Farewell(_) => return,
                            other => panic!("{other:?}"),
                        }
                    }
                }
            };
            tokio::join!(daemon.say_all(), hears);
            assert_eq!((heard + daemon.lost, missing), (COUNT, 0));
            daemon.tell_event(Event::MayStillRun);
            daemon.say();
            let told = theirs.receive::<Vec<FromWorker>>().await.unwrap().unwrap().0;
            let Some(FromWorker::Event(_, lost)) = told.into_iter().next() else { panic!() };
            assert_eq!(*lost, Event::EventsLost { count: COUNT - heard });
        });
    }
}
