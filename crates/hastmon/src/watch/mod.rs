//! `hastmonctl watch`: a live view of all resources. Three parts: `model` decides, `view` draws, and here is the loop that asks the daemon,
//! reads the history, the keys and the signals, and carries out what the model says. `terminal` takes the terminal and gives it back.
//!
//! The loop waits for nothing but what happens next: each question to the daemon has a thread of its own, for the daemon may hang.

mod model;
mod terminal;
mod view;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use std::{io, thread};

use hastmon_core::wire::request::ALL_RESOURCES;
use jiff::tz::TimeZone;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::model::{Command, Do, Event, Input, Model, Now};
use self::terminal::Terminal;
use self::view::Look;
use crate::control::status;
use crate::history::reader::{Reader, Wanted};
use crate::os::{clock, sysexits};

/// The screen is drawn so often when nothing happens, for times that run down are shown to the tenth.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// Events are looked for so often: soon enough for who watches, and no work for the machine.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A history that cannot be read is tried again after this time.
const HISTORY_AGAIN: Duration = Duration::from_secs(2);
/// A process that a signal has ended exits with this and the number of the signal, as a shell has it.
const SIGNALLED: u8 = 128;
/// The signals that end it, each with its number.
const ENDING: [(SignalKind, u8); 4] =
    [(SignalKind::hangup(), 1), (SignalKind::interrupt(), 2), (SignalKind::quit(), 3), (SignalKind::terminate(), 15)];

/// What is watched, and how.
pub(crate) struct Watch {
    /// The resources; none stands for all.
    pub(crate) names: Vec<String>,
    /// The control socket of the daemon.
    pub(crate) control: PathBuf,
    /// The state directory; or why it is not known.
    pub(crate) history: Result<PathBuf, String>,
    pub(crate) has_colours: bool,
}

/// Watches until the operator quits, or a signal comes; the exit code.
///
/// # Errors
/// The terminal, or the system, refuses something.
pub(crate) fn watch(watch: Watch) -> io::Result<u8> {
    // A line of the log would stand in the middle of the screen.
    let level = log::max_level();
    log::set_max_level(log::LevelFilter::Off);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(run(watch));
    // Threads that wait for a key, or for the daemon, are not waited for.
    runtime.shutdown_background();
    log::set_max_level(level);
    end
}

async fn run(watch: Watch) -> io::Result<u8> {
    let (sender, mut inputs) = unbounded_channel();
    let mut ending = Ending::new()?;
    let mut continued = signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?;
    let mut terminal = Terminal::take()?;
    read_keys(sender.clone())?;
    match watch.history.clone() {
        Ok(directory) => follow(directory, sender.clone())?,
        Err(why) => drop(sender.send(Input::NoHistory(why))),
    }
    let look = Look { has_colours: watch.has_colours, zone: TimeZone::system() };
    let mut model = Model::new(now(), watch.names.clone());
    let mut tick = tokio::time::interval(DRAW_EVERY);
    loop {
        let now_drawn = now();
        terminal.draw(|frame| view::draw(&model, now_drawn, &look, frame))?;
        let next = model.ask_at().map(|at| at.since(now().at));
        select! {
            input = inputs.recv() => {
                if take(&mut model, input, &mut inputs, &mut terminal, &watch, &sender)?.is_break() {
                    return Ok(sysexits::OK);
                }
            }
            () = tokio::time::sleep(next.unwrap_or_default()), if next.is_some() => {
                model.on_asked(now());
                ask(&watch, sender.clone())?;
            }
            number = ending.next() => return Ok(SIGNALLED.saturating_add(number)),
            _ = continued.recv() => terminal.take_again()?,
            _ = tick.tick() => {}
        }
    }
}

fn now() -> Now {
    let at = clock::now();
    Now { at, unix_ms: clock::unix_time_ms(at) }
}

/// Takes what has happened, all of it before the screen is drawn again; breaks when it is over.
fn take(
    model: &mut Model,
    first: Option<Input>,
    inputs: &mut UnboundedReceiver<Input>,
    terminal: &mut Terminal,
    watch: &Watch,
    sender: &UnboundedSender<Input>,
) -> io::Result<ControlFlow<()>> {
    let mut next = first;
    while let Some(input) = next {
        match model.on(now(), input) {
            Some(Do::Quit) => return Ok(ControlFlow::Break(())),
            Some(Do::Suspend) => terminal.suspend()?,
            Some(Do::Redraw) => terminal.redraw()?,
            Some(Do::Run(command)) => drop(tokio::spawn(carry_out(command, watch.control.clone(), sender.clone()))),
            None => {}
        }
        next = inputs.try_recv().ok();
    }
    Ok(ControlFlow::Continue(()))
}

/// The signals that end it.
struct Ending([(Signal, u8); 4]);

impl Ending {
    fn new() -> io::Result<Self> {
        let [a, b, c, d] = ENDING.map(|(kind, number)| signal(kind).map(|signal| (signal, number)));
        Ok(Self([a?, b?, c?, d?]))
    }

    /// The number of the one that comes.
    async fn next(&mut self) -> u8 {
        let [(a, of_a), (b, of_b), (c, of_c), (d, of_d)] = &mut self.0;
        select! {
            _ = a.recv() => *of_a,
            _ = b.recv() => *of_b,
            _ = c.recv() => *of_c,
            _ = d.recv() => *of_d,
        }
    }
}

/// Asks the daemon in a thread: it may hang.
fn ask(watch: &Watch, sender: UnboundedSender<Input>) -> io::Result<()> {
    let (control, names) = (watch.control.clone(), watch.names.clone());
    let names = if names.is_empty() { vec![ALL_RESOURCES.to_string()] } else { names };
    spawn("ask", move || drop(sender.send(Input::Answer(status(&control, &names)))))
}

/// Who is not there any more has quit.
fn read_keys(sender: UnboundedSender<Input>) -> io::Result<()> {
    spawn("keys", move || while terminal::next().is_ok_and(|input| sender.send(input).is_ok()) {})
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_string()).spawn(work).map(drop)
}

/// Reads the history as it grows, in a thread: the disk may be slow.
#[expect(clippy::disallowed_methods, reason = "this thread has no loop that it could hold up")]
fn follow(directory: PathBuf, sender: UnboundedSender<Input>) -> io::Result<()> {
    spawn("history", move || {
        let mut told = None;
        loop {
            let Err(error) = follow_until_error(&directory, &sender) else { return };
            let why = format!("{}: {error}", directory.display());
            if told.as_ref() != Some(&why) && sender.send(Input::NoHistory(why.clone())).is_err() {
                return;
            }
            told = Some(why);
            thread::sleep(HISTORY_AGAIN);
        }
    })
}

/// Ends well when nobody wants it any more.
#[expect(clippy::disallowed_methods, reason = "this thread has no loop that it could hold up")]
fn follow_until_error(directory: &Path, sender: &UnboundedSender<Input>) -> io::Result<()> {
    let last = u64::try_from(model::EVENTS_KEPT).ok();
    let mut reader = Reader::new(directory, Wanted::default(), last)?;
    let mut is_start = true;
    loop {
        let mut events = Vec::new();
        let _ = reader.read(&mut |_, line| {
            events.push(Event {
                unix_ms: line.unix_ms,
                resource: line.resource.as_deref().map(str::to_string),
                level: line.level.to_string(),
                text: line.text.to_string(),
            });
            ControlFlow::Continue(())
        })?;
        if (is_start || !events.is_empty()) && sender.send(Input::Events { is_start, events }).is_err() {
            return Ok(());
        }
        is_start = false;
        thread::sleep(LOOK_EVERY);
    }
}

/// Has hastmonctl itself do it, in a process of its own: exactly what the operator could have typed. When the operator quits, it goes on.
async fn carry_out(command: Command, control: PathBuf, sender: UnboundedSender<Input>) {
    let how = match output_of(&command, &control, &sender).await {
        Ok(status) if status.success() => String::new(),
        Ok(status) => status.to_string(),
        Err(error) => format!("{} cannot be run: {error}", command.text()),
    };
    let _ = sender.send(Input::Ended(how));
}

async fn output_of(
    command: &Command,
    control: &Path,
    sender: &UnboundedSender<Input>,
) -> io::Result<std::process::ExitStatus> {
    let mut child = tokio::process::Command::new(std::env::current_exe()?);
    child.arg("--control").arg(control).args(command.words());
    let mut child = child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    tokio::join!(pass_on(stdout, sender), pass_on(stderr, sender));
    child.wait().await
}

async fn pass_on(from: Option<impl AsyncRead + Unpin>, sender: &UnboundedSender<Input>) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let _ = sender.send(Input::Printed(line));
    }
}
