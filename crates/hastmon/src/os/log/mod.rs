//! Where log lines go, behind the macros of the `log` crate: to stderr at start-up and in `hastmonctl`, to stderr through a thread in the
//! foreground, to the system's log in the background. Never blocks a running loop; never decides what is worth a line.
//!
//! A line about a resource carries its name as the target: `warn!(target: name, "...")`. A line without a target is about the program.
//! stderr shows `[LEVEL] [resource] text`; the system's log `hastmon[pid]: [resource] text`, with the level as its severity.

mod line;
pub(crate) use line::format as format_line;

mod queue;
mod syslog;

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hastmon_core::time::Duration;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::os::clock;
use queue::Queue;
use syslog::Syslog;

/// How long [`flush`] waits at most. A reader that has not taken the rest by then (a stuck pager) does not get it.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// The paths of our own modules begin with this. From libraries only warnings and errors are logged.
const OWN_MODULES: &str = "hastmon";

/// Where lines go.
enum Sink {
    /// Written at once; may wait for the reader.
    Stderr,
    /// Written to stderr by a thread.
    Queue(Queue),
    /// Sent to the system's log.
    Syslog(Syslog),
}

struct Logger {
    sink: Mutex<Sink>,
}

static LOGGER: Logger = Logger { sink: Mutex::new(Sink::Stderr) };

/// Starts logging, to stderr, each line written at once: for start-up and for `hastmonctl`. `debug` is the number of `-d`: 1 adds DEBUG,
/// 2 and more TRACE. A panic is logged as an error from now on.
pub fn init(debug: u8) {
    if log::set_logger(&LOGGER).is_ok() {
        log_panics();
    }
    set_debug(debug);
}

/// Changes the level, in the meaning of [`init`].
pub fn set_debug(debug: u8) {
    log::set_max_level(match debug {
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    });
}

/// From now on a thread writes the lines to stderr, so that a reader that stops reading never stops the caller. For a loop in the foreground.
///
/// # Errors
/// No descriptor or no thread can be had; lines go on being written at once.
pub fn to_stderr_queue() -> io::Result<()> {
    // A descriptor of its own: the thread may be stuck in a write for long, and must not hold std's lock on stderr meanwhile.
    let stderr = std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned()?;
    let queue = Queue::start(std::fs::File::from(stderr))?;
    *LOGGER.lock() = Sink::Queue(queue);
    Ok(())
}

/// From now on lines go to the system's log. When it cannot be reached now, that is said where lines went so far; lines are kept, within a
/// bound, until it can.
pub fn to_syslog() {
    let (syslog, trouble) = Syslog::open(syslog::PATHS);
    if let Some(error) = trouble {
        let paths = syslog::PATHS.join(" and ");
        let kib = syslog::BACKLOG_BYTES_MAX >> 10;
        log::warn!("No system log at {paths}: {error}. Start syslogd; up to {kib} KiB of lines wait for it.");
    }
    flush();
    *LOGGER.lock() = Sink::Syslog(syslog);
}

/// Offers the system's log again what it has not taken. To be called at each heartbeat, so that the end of a burst does not wait for the
/// next event. Costs nothing when nothing waits.
pub fn retry() {
    if let Sink::Syslog(syslog) = &mut *LOGGER.lock() {
        syslog.drain();
    }
}

/// Waits until all lines are out, at most 1 s. To be called before the process exits.
pub fn flush() {
    match &mut *LOGGER.lock() {
        Sink::Stderr => {}
        Sink::Queue(queue) => queue.flush(FLUSH_LIMIT),
        Sink::Syslog(syslog) => syslog.flush(clock::now() + FLUSH_LIMIT),
    }
}

/// A panic is an error of hastmon; in the background stderr is gone, so the log is the only place to tell it.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
        let payload = panic.payload();
        let text =
            payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        log::error!("This is a fault of hastmon, please report it: panic{place}: {}", text.unwrap_or("no text"));
        flush();
    }));
}

impl Logger {
    fn lock(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || !is_wanted(record) {
            return;
        }
        // Before the lock is taken: what is formatted may log or panic itself.
        let text = line::format(resource_of(record), *record.args());
        match &mut *self.lock() {
            // When stderr is gone there is nobody left to tell.
            Sink::Stderr => drop(io::stderr().write_all(stderr_line(record.level(), &text).as_bytes())),
            Sink::Queue(queue) => queue.push(stderr_line(record.level(), &text).as_bytes()),
            Sink::Syslog(syslog) => syslog.push(record.level(), text),
        }
    }

    fn flush(&self) {
        flush();
    }
}

fn is_wanted(record: &Record<'_>) -> bool {
    record.level() <= Level::Warn || record.module_path().is_some_and(|module| module.starts_with(OWN_MODULES))
}

/// The resource that a record is about: its target, when one was given. The macros put the path of the module there otherwise.
fn resource_of<'a>(record: &Record<'a>) -> Option<&'a str> {
    (record.module_path() != Some(record.target())).then(|| record.target())
}

fn stderr_line(level: Level, text: &str) -> String {
    let word = match level {
        Level::Error => "ERROR",
        Level::Warn => "WARNING",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    };
    format!("[{word}] {text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Output};

    const HELPER: &str = "os::log::tests::helper_that_logs";

    /// Runs only as a process of its own, started by the tests below: the logger is one for each process.
    #[test]
    #[ignore = "helper process of other tests"]
    fn helper_that_logs() {
        let way = std::env::var("HASTMON_TEST_LOG").unwrap();
        init(u8::from(way == "debug"));
        if way == "queue" {
            to_stderr_queue().unwrap();
        }
        let name = String::from("no\nsuch");
        log::warn!(target: &name, "Received error {} from hastmon.", 1);
        log::info!("plain");
        log::debug!(target: "web", "detail");
        log::trace!("more detail");
        if way == "panic" {
            panic!("two\nlines");
        }
        flush();
    }

    fn run_helper(way: &str) -> Output {
        let args = ["--ignored", "--exact", HELPER, "--nocapture", "--test-threads=1"];
        let program = std::env::current_exe().unwrap();
        Command::new(program).args(args).env("HASTMON_TEST_LOG", way).output().unwrap()
    }

    fn stderr_of(output: &Output) -> &str {
        std::str::from_utf8(&output.stderr).unwrap()
    }

    #[test]
    fn stderr_shows_level_resource_and_text() {
        let expected = "[WARNING] [no\\nsuch] Received error 1 from hastmon.\n[INFO] plain\n";
        for way in ["direct", "queue"] {
            assert_eq!(stderr_of(&run_helper(way)), expected, "{way}");
        }
        assert_eq!(stderr_of(&run_helper("debug")), format!("{expected}[DEBUG] [web] detail\n"));
    }

    #[test]
    fn a_panic_is_one_line_of_the_log() {
        let output = run_helper("panic");
        let text = stderr_of(&output);
        let last = text.lines().find(|line| line.starts_with("[ERROR]")).unwrap();
        assert!(last.contains("please report it: panic at ") && last.ends_with("two\\nlines"), "{text}");
    }

    #[test]
    fn a_target_that_was_not_given_is_no_resource() {
        let record = |target, module| Record::builder().target(target).module_path(Some(module)).build();
        assert_eq!(resource_of(&record("hastmon::daemon", "hastmon::daemon")), None);
        assert_eq!(resource_of(&record("hastmonctl", "hastmonctl")), None);
        assert_eq!(resource_of(&record("a::b", "hastmon::daemon")), Some("a::b"));
    }

    #[test]
    fn libraries_are_heard_only_when_they_warn() {
        let record = |level, module| Record::builder().level(level).module_path(Some(module)).build();
        assert!(is_wanted(&record(Level::Trace, "hastmon_core::primary")));
        assert!(is_wanted(&record(Level::Warn, "mio::poll")));
        assert!(!is_wanted(&record(Level::Info, "mio::poll")));
    }
}
