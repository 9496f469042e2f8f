//! What this process is and may use: the program to start again, the number of descriptors, the signals; and which processes carry a mark
//! of ours. Starts nothing and ends nothing itself.

use std::io;
use std::path::PathBuf;

#[cfg(target_os = "linux")]
use rustix::io::Errno;
use rustix::process::{Pid, Resource, getrlimit, setrlimit, test_kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

/// The program that this process runs, to be started again as daemon in the background or as worker.
///
/// Linux: `/proc/self/exe`, which is this very program even when the file has been replaced or removed by an upgrade. The new process is
/// named `exe` until it calls [`crate::os::title::set_short_name`].
///
/// # Errors
/// `/proc` is not mounted.
#[cfg(target_os = "linux")]
pub fn self_program() -> io::Result<PathBuf> {
    let program = PathBuf::from("/proc/self/exe");
    // Looked at, not read: what it points to may be gone.
    std::fs::symlink_metadata(&program)?;
    Ok(program)
}

/// The program that this process runs, to be started again as daemon in the background or as worker.
///
/// FreeBSD: the path that the kernel knows. After an upgrade it is the new program.
///
/// # Errors
/// The kernel no longer knows a path for it.
#[cfg(not(target_os = "linux"))]
pub fn self_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// What became of the limit on open descriptors. `None` is "no limit".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// The soft limit that this process was started with. A worker goes back to it ([`set_descriptor_limit`]), so that hooks and the
    /// services that they start have the limit that the administrator gave: some programs size their tables by it.
    pub inherited: Option<u64>,
    /// The soft limit now.
    pub now: Option<u64>,
}

/// Raises the limit on open descriptors of this process as far as it is allowed to. The main daemon calls it once at its start.
///
/// # Errors
/// The system refuses; the limit is what it was.
pub fn raise_descriptor_limit() -> io::Result<DescriptorLimit> {
    let inherited = getrlimit(Resource::Nofile).current;
    set_descriptor_limit(None)?;
    Ok(DescriptorLimit { inherited, now: getrlimit(Resource::Nofile).current })
}

/// Sets the soft limit on open descriptors of this process, at most to the hard limit. `None` is "as many as the hard limit allows".
///
/// # Errors
/// The system refuses; the limit is what it was.
pub fn set_descriptor_limit(soft: Option<u64>) -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = match (soft, limit.maximum) {
        (Some(soft), Some(hard)) => Some(soft.min(hard)),
        (soft, hard) => soft.or(hard),
    };
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// The highest signal that is no real-time signal, of which the C library keeps some for itself.
#[cfg(target_os = "linux")]
const LAST_SIGNAL: i32 = 31;

/// Gives what this process starts the default for every signal, whatever who started us has chosen (`nohup`, or a shell behind `&`): hooks
/// and services count on it, and whoever ignores CHLD never hears of the end of a child. Signals that were ignored go on without any effect
/// here, except CHLD. PIPE is not touched: the runtime ignores it, and resets it for children. To be called once, inside the runtime.
pub fn default_signals_for_children() {
    for number in ignored_signals().chain([SignalKind::child().as_raw_value()]) {
        // Having a handler, even one that nobody listens to, makes the difference: only "ignored" is handed down. Best effort.
        let _ = signal(SignalKind::from_raw(number));
    }
}

#[cfg(target_os = "linux")]
fn ignored_signals() -> impl Iterator<Item = i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=LAST_SIGNAL)
        .filter(move |number| mask >> (number - 1) & 1 == 1 && *number != SignalKind::pipe().as_raw_value())
}

/// FreeBSD: not to be had without privileges of its own; there, hooks start with the signals that the daemon was started with.
#[cfg(not(target_os = "linux"))]
fn ignored_signals() -> impl Iterator<Item = i32> {
    std::iter::empty()
}

/// The session of this process, as the kernel numbers it; 0 when its first process is outside of this container.
///
/// # Errors
/// `/proc` cannot be read.
#[cfg(target_os = "linux")]
pub fn session() -> io::Result<i32> {
    stat("self")?.map(|stat| stat.session).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Whether a process group has a member that can still do something. Those that have ended count until their parent has taken note; when
/// that parent has ended, too, it is the first process of the system that has to, and not every one hurries.
#[cfg(target_os = "linux")]
pub fn group_lives(group: Pid) -> bool {
    let is_alive = |pid: &str| {
        stat(pid).is_ok_and(|stat| stat.is_some_and(|stat| stat.group == group.as_raw_pid() && !stat.has_ended))
    };
    test_kill_process_group(group).is_ok()
        && std::fs::read_dir("/proc").is_ok_and(|mut all| {
            all.any(|process| process.is_ok_and(|process| process.file_name().to_str().is_some_and(is_alive)))
        })
}

/// A process that carries a mark of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Its number.
    pub process: Pid,
    /// Its process group.
    pub group: Pid,
}

/// The living processes whose environment has one of these entries (`NAME=value`): all, or those of one session. May hang, as a process
/// that is looked at does.
///
/// # Errors
/// `/proc` cannot be read, or there is not enough memory or descriptors to read it: they may be there, and are not found.
#[cfg(target_os = "linux")]
pub fn marked(entries: &[String], session: Option<i32>) -> io::Result<Vec<Marked>> {
    let is_wanted = |have: &[u8]| entries.iter().any(|entry| have == entry.as_bytes());
    let look = |pid: &str| {
        let Some(stat) = stat(pid)?.filter(|stat| session.is_none_or(|session| session == stat.session)) else {
            return Ok(None);
        };
        let environment = read(pid, "environ")?.unwrap_or_default();
        if !environment.split(|byte| *byte == 0).any(is_wanted) {
            return Ok(None);
        }
        let numbers = pid.parse().ok().and_then(Pid::from_raw).zip(Pid::from_raw(stat.group));
        Ok::<_, io::Error>(numbers.map(|(process, group)| Marked { process, group }))
    };
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc")? {
        found.extend(process?.file_name().to_str().map(look).transpose()?.flatten());
    }
    Ok(found)
}

/// What the kernel tells of a process; `None` when it has ended meanwhile, or is another's that we may not look at.
#[cfg(target_os = "linux")]
fn read(pid: &str, file: &str) -> io::Result<Option<Vec<u8>>> {
    let is_shortage =
        |error: &io::Error| matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM));
    match std::fs::read(format!("/proc/{pid}/{file}")) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_shortage(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// What the kernel says of a process.
#[cfg(target_os = "linux")]
struct Stat {
    has_ended: bool,
    group: i32,
    session: i32,
}

/// From `/proc/PID/stat`: `PID (NAME) STATE PARENT GROUP SESSION...`, where the name may hold anything.
#[cfg(target_os = "linux")]
fn stat(pid: &str) -> io::Result<Option<Stat>> {
    Ok(read(pid, "stat")?.and_then(|text| Stat::parse(&String::from_utf8_lossy(&text))))
}

#[cfg(target_os = "linux")]
impl Stat {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let has_ended = matches!(fields.next()?, "Z" | "X");
        let mut numbers = fields.skip(1).map_while(|field| field.parse().ok());
        Some(Self { has_ended, group: numbers.next()?, session: numbers.next()? })
    }
}

/// Whether a process group has a member left.
#[cfg(not(target_os = "linux"))]
pub fn group_lives(group: Pid) -> bool {
    test_kill_process_group(group).is_ok()
}

/// The session of this process.
///
/// # Errors
/// None that could happen.
#[cfg(not(target_os = "linux"))]
pub fn session() -> io::Result<i32> {
    Ok(rustix::process::getsid(None)?.as_raw_nonzero().get())
}

/// The living processes whose environment has one of these entries (`NAME=value`): all, or those of one session.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`]: FreeBSD shows the environment of a process only through an interface that needs unsafe code.
#[cfg(not(target_os = "linux"))]
pub fn marked(_entries: &[String], _session: Option<i32>) -> io::Result<Vec<Marked>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_can_be_started_again() {
        let output = std::process::Command::new(self_program().unwrap()).arg("--list").output().unwrap();
        assert!(output.status.success());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn processes_are_found_by_a_mark_in_their_environment() {
        use std::os::unix::process::CommandExt;
        let session = session().unwrap();
        // Not that of a run of this test that has failed.
        let ours = std::process::id();
        let mark = format!("A_MARK_OF_OURS=1-{ours}");
        let mut command = std::process::Command::new("sleep");
        let mut child =
            command.arg("1000").env("A_MARK_OF_OURS", format!("1-{ours}")).process_group(0).spawn().unwrap();
        let found = |entry: &str, session: i32| marked(&[entry.to_string()], Some(session)).unwrap();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        // The kernel lets us go on a moment before it shows the environment of what was started.
        while found(&mark, session).is_empty() {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        assert_eq!(found(&mark, session), [Marked { process: pid, group: pid }]);
        assert_eq!(marked(&["ANOTHER=1".to_string(), mark.clone()], None).unwrap().len(), 1);
        assert!(found("A_MARK_OF_OURS=1-", session).is_empty());
        assert!(found(&mark, session + 1).is_empty());
        assert!(group_lives(pid));
        child.kill().unwrap();
        while stat(&pid.to_string()).unwrap().is_some_and(|stat| !stat.has_ended) {
            std::thread::yield_now();
        }
        assert!(!group_lives(pid), "what has ended does nothing more, though nobody has taken note");
        child.wait().unwrap();
        assert!(!group_lives(pid));
        assert!(found(&mark, session).is_empty(), "what has ended does not count");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_known_whatever_it_calls_itself() {
        let text = String::from_utf8_lossy(b"12 (a) Z 7 \xff) S 1 34 56 0 -1");
        let stat = Stat::parse(&text).unwrap();
        assert_eq!((stat.has_ended, stat.group, stat.session), (false, 34, 56));
        assert!(Stat::parse("12 (a) S 1").is_none());
    }

    #[test]
    fn the_descriptor_limit_is_raised_and_given_back() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let limit = raise_descriptor_limit().unwrap();
        assert_eq!(limit.now, hard);
        set_descriptor_limit(limit.inherited).unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, limit.inherited);
        assert_eq!(getrlimit(Resource::Nofile).maximum, hard, "the hard limit stays");
    }
}
