//! The way to the system's log: datagrams to its local socket, facility daemon, sent without ever waiting.
//! What syslogd does not take at once is kept within a bound and offered again; beyond the bound lines are lost and counted.
//!
//! A line carries no time of day: every syslogd stamps what comes from its own host (and asks nobody for the time zone).
//! A line that had to wait says for how long.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use hastmon_core::time::{Duration, Instant};
use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::os::clock;

/// Where syslogd listens; the first that answers is used.
#[cfg(target_os = "linux")]
pub(super) const PATHS: &[&str] = &["/dev/log"];

/// Where syslogd listens; the first that answers is used. FreeBSD keeps one for root that others cannot flood.
#[cfg(not(target_os = "linux"))]
pub(super) const PATHS: &[&str] = &["/var/run/logpriv", "/var/run/log"];

/// Bytes that may wait for syslogd. A queue of Linux holds as few as ten datagrams, which one hook that prints a page fills.
pub(super) const BACKLOG_BYTES_MAX: usize = 16 << 10;

/// A line that waited at least this long says so.
const LATE: Duration = Duration::from_secs(1);

/// `LOG_DAEMON` of syslog(3), in its place of the priority.
const FACILITY_DAEMON: u8 = 3 << 3;

/// The system's log, reached or not.
pub(super) struct Syslog {
    paths: Vec<PathBuf>,
    socket: Option<UnixDatagram>,
    backlog: VecDeque<Waiting>,
    backlog_bytes: usize,
    lost: u64,
}

struct Waiting {
    level: Level,
    text: String,
    since: Instant,
}

impl Syslog {
    /// The system's log, and the error when it cannot be reached now. It is tried again with each line.
    pub(super) fn open(paths: &[&str]) -> (Self, Option<io::Error>) {
        let paths = paths.iter().map(PathBuf::from).collect();
        let mut syslog = Self { paths, socket: None, backlog: VecDeque::new(), backlog_bytes: 0, lost: 0 };
        let trouble = syslog.connect().err();
        (syslog, trouble)
    }

    /// Sends a text, or keeps it for later, or counts it as lost.
    pub(super) fn push(&mut self, level: Level, text: String) {
        if self.backlog_bytes + text.len() > BACKLOG_BYTES_MAX {
            self.drain();
        }
        if self.backlog_bytes + text.len() > BACKLOG_BYTES_MAX {
            self.lost += 1;
            return;
        }
        self.backlog_bytes += text.len();
        self.backlog.push_back(Waiting { level, text, since: clock::now() });
        self.drain();
    }

    /// Sends what waits, as far as syslogd takes it now.
    pub(super) fn drain(&mut self) {
        while let Some(line) = self.backlog.front() {
            let datagram = datagram(line.level, line.since, &line.text);
            if !self.send(&datagram) {
                return;
            }
            if let Some(sent) = self.backlog.pop_front() {
                self.backlog_bytes -= sent.text.len();
            }
        }
        if self.lost > 0 {
            let note = format!("{} log lines were lost: the system's log did not take them.", self.lost);
            if self.send(&datagram(Level::Warn, clock::now(), &note)) {
                self.lost = 0;
            }
        }
    }

    /// Sends what waits, until `deadline` at most.
    pub(super) fn flush(&mut self, deadline: Instant) {
        loop {
            self.drain();
            let left = deadline.since(clock::now());
            let Some(socket) = &self.socket else { return };
            if self.backlog.is_empty() || left.is_zero() {
                return;
            }
            // FreeBSD may call a full socket writable: then this is a busy loop, but a short one at the end of the process.
            let limit = Timespec::try_from(left).ok();
            if poll(&mut [PollFd::new(socket, PollFlags::OUT)], limit.as_ref()).is_err() {
                return;
            }
        }
    }

    /// Whether syslogd has taken it. One new connection is tried when the old one is dead: syslogd was started again.
    fn send(&mut self, datagram: &str) -> bool {
        match self.socket.as_ref().map(|socket| socket.send(datagram.as_bytes())) {
            Some(Ok(_)) => return true,
            Some(Err(error)) if is_full(&error) => return false,
            Some(Err(_)) | None => {}
        }
        match self.connect() {
            Ok(socket) => socket.send(datagram.as_bytes()).is_ok(),
            Err(_) => false,
        }
    }

    fn connect(&mut self) -> io::Result<&UnixDatagram> {
        self.socket = None;
        // Close-on-exec, as all descriptors of the standard library: no hook inherits it.
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let mut outcome = Err(io::ErrorKind::NotFound.into());
        for path in &self.paths {
            outcome = socket.connect(path);
            if outcome.is_ok() {
                break;
            }
        }
        outcome.map(|()| &*self.socket.insert(socket))
    }
}

/// Linux says WOULDBLOCK, FreeBSD NOBUFS.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
}

fn datagram(level: Level, since: Instant, text: &str) -> String {
    let priority = FACILITY_DAEMON + severity(level);
    let pid = std::process::id();
    let waited = clock::now().since(since);
    if waited < LATE {
        format!("<{priority}>hastmon[{pid}]: {text}")
    } else {
        format!("<{priority}>hastmon[{pid}]: ({} s ago) {text}", waited.as_secs())
    }
}

/// The severities of syslog(3): `LOG_ERR`, `LOG_WARNING`, `LOG_INFO`, `LOG_DEBUG`.
const fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    struct Receiver {
        directory: TempDir,
        socket: UnixDatagram,
    }

    impl Receiver {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let socket = Self::bind(&directory);
            Self { directory, socket }
        }

        fn bind(directory: &TempDir) -> UnixDatagram {
            let socket = UnixDatagram::bind(directory.path().join("log")).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        }

        fn path(&self) -> String {
            self.directory.path().join("log").to_str().unwrap().to_owned()
        }

        /// Like a syslogd that dies and is started again.
        fn restart(&mut self) {
            fs::remove_file(self.path()).unwrap();
            self.socket = Self::bind(&self.directory);
        }

        fn next(&self) -> Option<String> {
            let mut buffer = [0; 4096];
            let count = self.socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8(buffer[..count].to_vec()).unwrap())
        }
    }

    fn expected(priority: u8, text: &str) -> Option<String> {
        Some(format!("<{priority}>hastmon[{}]: {text}", std::process::id()))
    }

    #[test]
    fn a_line_has_the_facility_daemon_the_severity_and_the_pid() {
        let receiver = Receiver::new();
        let (mut syslog, trouble) = Syslog::open(&[&receiver.path()]);
        assert!(trouble.is_none());
        for (level, priority) in [(Level::Error, 27), (Level::Warn, 28), (Level::Info, 30), (Level::Debug, 31)] {
            syslog.push(level, "[web] text".to_owned());
            assert_eq!(receiver.next(), expected(priority, "[web] text"));
        }
    }

    #[test]
    fn the_second_path_is_used_when_the_first_is_not_there() {
        let receiver = Receiver::new();
        let (mut syslog, trouble) = Syslog::open(&["/nonexistent/log", &receiver.path()]);
        assert!(trouble.is_none());
        syslog.push(Level::Info, "text".to_owned());
        assert_eq!(receiver.next(), expected(30, "text"));
    }

    #[test]
    fn a_restarted_syslogd_gets_the_next_line() {
        let mut receiver = Receiver::new();
        let (mut syslog, _) = Syslog::open(&[&receiver.path()]);
        syslog.push(Level::Info, "one".to_owned());
        receiver.restart();
        syslog.push(Level::Info, "two".to_owned());
        assert_eq!(receiver.next(), expected(30, "two"));
    }

    #[test]
    fn lines_wait_for_a_syslogd_that_starts_late() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log").to_str().unwrap().to_owned();
        let (mut syslog, trouble) = Syslog::open(&[&path]);
        assert_eq!(trouble.unwrap().kind(), io::ErrorKind::NotFound);
        syslog.push(Level::Info, "one".to_owned());
        let socket = Receiver::bind(&directory);
        syslog.push(Level::Info, "two".to_owned());
        let receiver = Receiver { directory, socket };
        assert_eq!(receiver.next(), expected(30, "one"));
        assert_eq!(receiver.next(), expected(30, "two"));
    }

    #[test]
    fn a_syslogd_that_reads_nothing_costs_lines_which_are_counted() {
        let receiver = Receiver::new();
        let (mut syslog, _) = Syslog::open(&[&receiver.path()]);
        const COUNT: u64 = 2000;
        for number in 0..COUNT {
            syslog.push(Level::Info, format!("{number:01000}"));
        }
        let lost = syslog.lost;
        assert!(lost > 0, "2 MB fit into no socket and backlog");
        assert!(syslog.backlog_bytes <= BACKLOG_BYTES_MAX);

        let mut got = Vec::new();
        loop {
            syslog.drain();
            let Some(line) = receiver.next() else { break };
            got.push(line);
        }
        assert_eq!(got.len() as u64, COUNT - lost + 1);
        let note = format!("{lost} log lines were lost: the system's log did not take them.");
        assert_eq!(got.pop(), expected(28, &note));
        assert_eq!(got.last().cloned(), expected(30, &format!("{:01000}", COUNT - lost - 1)), "in order, none missing");
        assert_eq!((syslog.lost, syslog.backlog_bytes), (0, 0));
    }

    #[test]
    fn a_line_that_had_to_wait_says_how_long() {
        let since = clock::now() - Duration::from_millis(12_300);
        assert_eq!(Some(datagram(Level::Info, since, "text")), expected(30, "(12 s ago) text"));
    }

    #[test]
    fn a_flush_gives_up_at_its_deadline() {
        let receiver = Receiver::new();
        let (mut syslog, _) = Syslog::open(&[&receiver.path()]);
        for _ in 0..2000 {
            syslog.push(Level::Info, "x".repeat(1000));
        }
        let start = clock::now();
        syslog.flush(start + Duration::from_millis(30));
        let took = clock::now().since(start);
        assert!(took >= Duration::from_millis(30) && took < Duration::from_secs(10), "{took:?}");
    }
}
