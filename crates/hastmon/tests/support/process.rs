//! Processes as `/proc` shows them. Asks about any process, ends only those that carry the mark of a laboratory.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddrV4;
use std::time::Duration;

use rustix::process::{Pid, Signal};

/// The environment variable that marks all processes of a laboratory; its value is the node's directory.
pub(crate) const MARK: &str = "HASTMON_LAB";

/// One line of `/proc/PID/stat`, as far as tests ask.
#[derive(Clone, Debug)]
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: i32,
    pub(crate) group: i32,
}

/// All process ids.
pub(crate) fn pids() -> Vec<i32> {
    let dir = fs::read_dir("/proc").expect("/proc is needed to look at processes");
    dir.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// What `/proc/PID/stat` says; nothing when the process is gone.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; the last one closes it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
    })
}

/// True while the process is there and not a zombie.
pub(crate) fn alive(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// The command line, its arguments joined by spaces: a worker's title when it has but one argument.
pub(crate) fn title(pid: i32) -> Option<String> {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&raw).trim_end_matches('\0').replace('\0', " ");
    (!text.is_empty()).then_some(text)
}

/// Number of arguments, the name included.
pub(crate) fn argument_count(pid: i32) -> usize {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    raw.iter().filter(|byte| **byte == 0).count()
}

/// Children of `pid`, zombies included.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    pids().into_iter().filter(|child| stat(*child).is_some_and(|stat| stat.parent == pid)).collect()
}

/// `pid`, its children, their children and so on.
pub(crate) fn tree(pid: i32) -> Vec<i32> {
    let all: Vec<(i32, i32)> = pids().into_iter().filter_map(|pid| Some((pid, stat(pid)?.parent))).collect();
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

/// Children of `pid` that have ended and that nobody has waited for.
pub(crate) fn zombies(pid: i32) -> Vec<i32> {
    children(pid).into_iter().filter(|child| stat(*child).is_some_and(|stat| stat.state == 'Z')).collect()
}

/// What the descriptors of `pid` point to, such as `socket:[123]`, by number.
pub(crate) fn descriptors(pid: i32) -> Vec<(i32, String)> {
    let Ok(dir) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut all: Vec<(i32, String)> = dir
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        })
        .collect();
    all.sort();
    all
}

/// Processor time that a process has used itself, all its threads together.
pub(crate) fn processor_time(pid: i32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let of_thread = |path: std::path::PathBuf| -> Option<u64> {
        fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    Duration::from_nanos(threads.filter_map(|thread| of_thread(thread.ok()?.path())).sum())
}

/// Living processes whose environment has `MARK` set to `value`, or to a path below it.
pub(crate) fn marked(value: &str) -> Vec<i32> {
    let is_marked = |pid: &i32| {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
        environment.split(|byte| *byte == 0).any(|entry| {
            let entry = String::from_utf8_lossy(entry);
            let rest = entry.strip_prefix(MARK).and_then(|rest| rest.strip_prefix('=')?.strip_prefix(value));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    pids().into_iter().filter(is_marked).filter(|pid| alive(*pid)).collect()
}

/// Connections that wait for the other side's first answer (SYN_SENT), as `local -> remote` in the kernel's notation.
/// Lists all of this network's, whoever's they are.
pub(crate) fn connecting() -> Vec<(SocketAddrV4, SocketAddrV4)> {
    const SYN_SENT: &str = "02";
    let text = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, SYN_SENT, ..] = words.as_slice() else { return None };
        Some((kernel_address(local)?, kernel_address(remote)?))
    };
    text.lines().filter_map(entry).collect()
}

/// Reads `0100007F:2152`: the address in the machine's byte order, the port in the reader's.
fn kernel_address(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    Some(SocketAddrV4::new(address.into(), u16::from_str_radix(port, 16).ok()?))
}

/// Sends a signal; that the process is gone already is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Stops a process, and waits until it stands still: the signal alone takes a moment to have an effect.
pub(crate) fn freeze(pid: i32) {
    signal(pid, Signal::STOP);
    super::time::wait_for("the process stands still", || stat(pid).is_none_or(|stat| stat.state == 'T'));
}

/// Sends a signal to all that `list` finds, until it finds nobody new: one may be born between the list and the signal.
pub(crate) fn signal_all(mut list: impl FnMut() -> Vec<i32>, what: Signal) {
    let mut told = BTreeSet::new();
    loop {
        let new: Vec<i32> = list().into_iter().filter(|pid| told.insert(*pid)).collect();
        if new.is_empty() {
            return;
        }
        new.into_iter().for_each(|pid| signal(pid, what));
    }
}

/// kill -9 for all that `list` finds, until it finds none: what forks meanwhile is found the next time.
pub(crate) fn kill_all(mut list: impl FnMut() -> Vec<i32>) {
    for _ in 0..200 {
        let found = list();
        if found.is_empty() {
            return;
        }
        for pid in found {
            signal(pid, Signal::KILL);
        }
        super::time::pause(Duration::from_millis(5));
    }
}
