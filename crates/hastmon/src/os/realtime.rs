//! Keeps a busy machine from looking like a dead one: precedence for this process, or realtime scheduling and locked memory, and a way to start
//! processes that get none of it. Decides nothing; what the system does not permit is told in words.
//!
//! A new process has the scheduling of the thread that starts it, and Linux alone has a flag against that (out of reach without unsafe code).
//! So processes are started by a thread that was there before and stays as it was: [`Starter`]. Locked memory is never inherited.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use thread_priority::{
    Error as PriorityError, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Bytes of stack of the thread that starts processes: locking the memory makes all of it real.
const STARTER_STACK: usize = 128 << 10;

/// From now on this thread, and those that it starts, run before everything that is not realtime, and no memory of the process is swapped
/// out. The priority is the lowest of its kind: whatever else is realtime on this machine goes first. Does as much as it may.
///
/// # Errors
/// What the system does not permit, and what would make it. The process goes on without.
pub fn begin() -> Result<(), String> {
    match (schedule(), lock_memory()) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(error), Ok(())) | (Ok(()), Err(error)) => Err(error),
        (Err(one), Err(other)) => Err(format!("{one}; {other}")),
    }
}

fn schedule() -> Result<(), String> {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy).map_err(|error| {
        let error = match error {
            PriorityError::OS(number) => io::Error::from_raw_os_error(number).to_string(),
            other => format!("{other:?}"),
        };
        format!(
            "no realtime scheduling: {error} (it takes root, CAP_SYS_NICE, or RLIMIT_RTPRIO of 1 or more: LimitRTPRIO=1, ulimit -r 1; \
             in a container the host must allow it)"
        )
    })
}

fn lock_memory() -> Result<(), String> {
    let hint = "(it takes root, or RLIMIT_MEMLOCK without a limit: LimitMEMLOCK=infinity, ulimit -l unlimited)";
    let limit = getrlimit(Resource::Memlock);
    if limit.current.is_some() && !geteuid().is_root() {
        // As much as may be had. With less than everything, a later allocation fails, and that would be the end of the process.
        let raised = Rlimit { current: limit.maximum, ..limit };
        if limit.maximum.is_some() || setrlimit(Resource::Memlock, raised).is_err() {
            return Err(format!("memory is not locked: only a part of it may be {hint}"));
        }
    }
    lock_all().map_err(|error| format!("memory is not locked: {error} {hint}"))
}

/// All that is there now, and all that comes, as soon as it is used.
#[cfg(target_os = "linux")]
fn lock_all() -> rustix::io::Result<()> {
    // In one step it would also make real what is only set aside: the whole stack of every thread to come, and glibc's arenas.
    mlockall(MlockAllFlags::CURRENT)?;
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
}

#[cfg(not(target_os = "linux"))]
fn lock_all() -> rustix::io::Result<()> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
}

/// The nice value of a process that goes before the others. The highest precedence but a few: an administrator may want something before it.
#[cfg(target_os = "linux")]
const FIRST: i32 = -15;

/// From now on this thread, and those that it starts, get their turn before those of usual processes, as soon as they have something to do. It
/// takes nothing from a machine that is not busy.
///
/// # Errors
/// The system does not permit it, or it is of the whole process there, and would be inherited by all that it starts.
pub fn go_first() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // Of this thread, as Linux has it.
        if rustix::process::getpriority_process(None)? > FIRST {
            rustix::process::setpriority_process(None, FIRST)?;
        }
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    Err(io::ErrorKind::Unsupported.into())
}

/// A thread that starts processes, with the scheduling that it has itself.
#[derive(Debug)]
pub struct Starter {
    jobs: Sender<Job>,
}

#[derive(Debug)]
struct Job {
    command: Command,
    runtime: Handle,
    started: oneshot::Sender<io::Result<Child>>,
}

impl Starter {
    /// Starts the thread. Call it before [`begin`] and [`go_first`], in the same process.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn new() -> io::Result<Self> {
        let (jobs, waiting) = channel();
        let thread = thread::Builder::new().name("starter".to_string()).stack_size(STARTER_STACK);
        thread.spawn(move || start_all(&waiting))?;
        Ok(Self { jobs })
    }

    /// Starts a process; the loop goes on meanwhile. Hear it to its end: the process starts whether anybody waits or not.
    ///
    /// # Errors
    /// As of [`Command::spawn`].
    pub async fn start(&self, command: Command) -> io::Result<Child> {
        let (started, hears) = oneshot::channel();
        let ended = || io::Error::other("the thread that starts processes has ended");
        self.jobs.send(Job { command, runtime: Handle::current(), started }).map_err(|_| ended())?;
        hears.await.map_err(|_| ended())?
    }
}

fn start_all(waiting: &Receiver<Job>) {
    for Job { mut command, runtime, started } in waiting {
        let _entered = runtime.enter();
        let _ = started.send(command.spawn());
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::{Command as StdCommand, Output, Stdio};

    /// Runs an ignored test of this file as a process of its own, by way of `wrapper`.
    fn child(wrapper: &[&str], program: &Path, test: &str) -> (Output, String) {
        let mut words = wrapper.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut command = StdCommand::new(words.next().unwrap());
        command.args(words).args(["--ignored", "--nocapture", "--exact", &format!("os::realtime::tests::{test}")]);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let text = text.into_owned();
        (output, text)
    }

    /// A field of a thread, counted from 1.
    fn field(stat: &str, number: usize) -> i32 {
        let stat = fs::read_to_string(stat).unwrap();
        // 3 is the first one after the name.
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(number - 3).unwrap().parse().unwrap()
    }

    /// Of a thread: 0 is that of every process, 2 is SCHED_RR.
    fn policy(stat: &str) -> i32 {
        field(stat, 41)
    }

    /// Of a thread.
    fn nice(stat: &str) -> i32 {
        field(stat, 19)
    }

    fn locked_kb() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn what_is_permitted_is_had_and_no_process_inherits_it() {
        let (output, text) = child(&[], &std::env::current_exe().unwrap(), "begins_and_starts_a_process");
        if text.contains("not permitted here") {
            println!("not tested: {text}");
            return;
        }
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    #[ignore = "runs in a process of its own, see above"]
    fn begins_and_starts_a_process() {
        let starter = Starter::new().unwrap();
        if let Err(error) = begin() {
            println!("not permitted here: {error}");
            return;
        }
        assert_eq!(policy("/proc/thread-self/stat"), 2);
        assert!(locked_kb() > 0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut command = Command::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            let mut child = starter.start(command).await.unwrap();
            assert_eq!(policy(&format!("/proc/{}/stat", child.id().unwrap())), 0);
            drop(child.stdin.take());
            assert!(child.wait().await.unwrap().success());
            let missing = starter.start(Command::new("/no/such/program")).await.unwrap_err();
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        });
    }

    #[test]
    fn what_goes_first_starts_processes_that_do_not() {
        let before = nice("/proc/thread-self/stat");
        let (after, child) = thread::spawn(|| {
            let starter = Starter::new().unwrap();
            let permitted = go_first();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut command = Command::new("cat");
                command.stdin(Stdio::piped()).stdout(Stdio::null());
                let mut child = starter.start(command).await.unwrap();
                let of_child = nice(&format!("/proc/{}/stat", child.id().unwrap()));
                drop(child.stdin.take());
                assert!(child.wait().await.unwrap().success());
                (permitted.map(|()| nice("/proc/thread-self/stat")), of_child)
            })
        })
        .join()
        .unwrap();
        match after {
            Ok(after) => assert_eq!(after, FIRST.min(before)),
            Err(error) => assert!(!geteuid().is_root(), "{error}"),
        }
        assert_eq!((child, nice("/proc/thread-self/stat")), (before, before));
    }

    #[test]
    fn what_is_not_permitted_is_told_with_what_would_permit_it() {
        if !geteuid().is_root() || StdCommand::new("setpriv").arg("--version").output().is_err() {
            println!("not tested: it takes root, and setpriv, to take the permission away");
            return;
        }
        // Where a user without rights may run it.
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let program = directory.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let wrapper = ["prlimit", "--rtprio=0", "--memlock=8388608", "setpriv", "--reuid=65534", "--clear-groups"];
        let (output, text) = child(&wrapper, &program, "says_what_is_not_permitted");
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        for word in ["no realtime scheduling: ", "CAP_SYS_NICE", "RLIMIT_RTPRIO", "not locked: ", "RLIMIT_MEMLOCK"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }

    #[test]
    #[ignore = "runs in a process of its own, see above"]
    fn says_what_is_not_permitted() {
        println!("{}", begin().unwrap_err());
        assert_eq!(policy("/proc/thread-self/stat"), 0);
        assert_eq!(locked_kb(), 0);
    }
}
