//! The way to the background, without fork: the command that was typed starts the same program again with the same arguments in a session
//! of its own, waits until that one is ready, and passes on how it went. Errors of the start thus reach the terminal and the exit code.
//!
//! The child recognizes itself by its stdin: one end of a socket pair in which a fixed greeting waits. Nothing shows in its arguments
//! (`ps` shows the command as it was typed) and nothing in its environment, so nothing of it reaches workers and hooks.
//!
//! The umask is left as it is: hooks create files under it, as they did with 0.3. What must be private (pidfile, control socket) is created
//! with its mode, whatever the umask.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use rustix::net::{RecvFlags, recv};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::os::{log as log_sink, process, sysexits};

/// What waits in the stdin of the child. Long and odd enough that no other stdin begins with it.
const GREETING: &[u8; 32] = b"hastmon: go to the background.\0\n";

/// What the child answers once it is ready.
const READY: &[u8; 1] = b"R";

const DEV_NULL: &str = "/dev/null";

/// Starts this program again in the background, with the arguments that this process was given, and waits until it is ready.
/// The exit code is 0 then, else that of the failed child. To be run by the command that the administrator typed; errors are logged.
pub fn detach_parent() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| OsString::from("hastmon"));
    let outcome = process::self_program().and_then(|program| start_and_wait(&program, &name, args));
    ExitCode::from(match outcome {
        Ok(Outcome::Ready) => sysexits::OK,
        Ok(Outcome::Ended(status)) => exit_code_of(status),
        Err(error) => {
            ::log::error!(
                "Cannot start hastmon in the background: {error}. Try again, or start it in the foreground with -F."
            );
            sysexits::OSERR
        }
    })
}

/// How the start in the background went.
#[derive(Debug)]
enum Outcome {
    Ready,
    Ended(ExitStatus),
}

fn start_and_wait(program: &Path, name: &OsString, args: impl Iterator<Item = OsString>) -> io::Result<Outcome> {
    let (mut ours, theirs) = UnixStream::pair()?;
    // Fits into the socket's buffer: it does not wait for a reader.
    ours.write_all(GREETING)?;
    let mut child = Command::new(program).arg0(name).args(args).stdin(Stdio::from(OwnedFd::from(theirs))).spawn()?;
    // The command, and with it our copy of the child's end, is gone: the end of the child is the end of the stream.
    let mut answer = [0; READY.len()];
    if ours.read_exact(&mut answer).is_ok() && answer == *READY {
        return Ok(Outcome::Ready);
    }
    child.wait().map(Outcome::Ended)
}

fn exit_code_of(status: ExitStatus) -> u8 {
    if let Some(code) = status.code().and_then(|code| u8::try_from(code).ok()) {
        return code;
    }
    let signal = status.signal().map_or_else(String::new, |signal| format!(" by signal {signal}"));
    ::log::error!("hastmon was killed{signal} while it started. The system's log or `hastmon -F -d` may say why.");
    sysexits::SOFTWARE
}

/// Whether this process is the one in the background, and has not yet taken its [`Readiness`].
pub fn is_detached_child() -> bool {
    let mut buffer = [0; GREETING.len()];
    let peeked = recv(io::stdin(), &mut buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT);
    peeked.is_ok() && buffer == *GREETING
}

/// The duty of a process in the background to tell the command that started it when it is ready. Until then stdout and stderr are still
/// those of the terminal.
#[derive(Debug)]
#[must_use = "the command that started us waits for it"]
pub struct Readiness {
    parent: UnixStream,
}

impl Readiness {
    /// When this process was started by [`detach_parent`]: leaves the session of the terminal, so that ^C and a hangup no longer reach it,
    /// and gives up its stdin. `None` when it was not, and in all calls but the first. To be called before any thread is started.
    ///
    /// # Errors
    /// The system refuses; the process cannot go to the background.
    pub fn take() -> io::Result<Option<Self>> {
        if !is_detached_child() {
            return Ok(None);
        }
        let mut parent = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        parent.read_exact(&mut [0; GREETING.len()])?;
        dup2_stdin(File::open(DEV_NULL)?)?;
        rustix::process::setsid()?;
        Ok(Some(Self { parent }))
    }

    /// Ends the start: the directory becomes `/`, lines go to the system's log, stdout and stderr to `/dev/null`, and the command that
    /// started us exits with 0. Relative paths must have been made absolute before.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened, or the command that started us is gone: the administrator has stopped it, and means us to end too.
    pub fn ready(mut self) -> io::Result<()> {
        let null = File::options().read(true).write(true).open(DEV_NULL)?;
        std::env::set_current_dir("/")?;
        log_sink::to_syslog();
        dup2_stdout(&null)?;
        self.parent.write_all(READY)?;
        dup2_stderr(&null)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::Output;

    const HELPER: &str = "os::background::tests::helper_that_goes_to_the_background";

    /// Runs only as a process of its own, started by the tests below: first as the command, then as the child in the background.
    #[test]
    #[ignore = "helper process of other tests"]
    fn helper_that_goes_to_the_background() {
        log_sink::init(0);
        let how = std::env::var("HASTMON_TEST_BACKGROUND").unwrap();
        let Some(readiness) = Readiness::take().unwrap() else {
            let args = std::env::args_os().skip(1);
            let program = process::self_program().unwrap();
            let outcome = start_and_wait(&program, &OsString::from("hastmon"), args).unwrap();
            std::process::exit(match outcome {
                Outcome::Ready => 0,
                Outcome::Ended(status) => i32::from(exit_code_of(status)),
            });
        };
        assert!(!is_detached_child(), "the greeting is taken");
        let parent = rustix::process::getppid();
        eprintln!("starting");
        match how.as_str() {
            "fails" => std::process::exit(78),
            "killed" => {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap()
            }
            report if report.ends_with("orphan") => {
                while rustix::process::getppid() == parent {
                    wait_a_moment();
                }
                let kind = readiness.ready().err().map(|error| error.kind());
                std::fs::write(report, format!("{kind:?}")).unwrap();
            }
            report => {
                readiness.ready().unwrap();
                eprintln!("nobody sees this");
                println!("nor this");
                std::fs::write(report, describe_myself()).unwrap();
            }
        }
        std::process::exit(0);
    }

    fn describe_myself() -> String {
        let pid = rustix::process::getpid();
        let leads_its_session = rustix::process::getsid(None).unwrap() == pid;
        let directory = std::env::current_dir().unwrap();
        let name = std::env::args_os().next().unwrap();
        let descriptors: Vec<_> = (0..3).map(|n| std::fs::read_link(format!("/proc/self/fd/{n}"))).collect();
        format!("{leads_its_session} {} {} {descriptors:?}", directory.display(), name.display())
    }

    fn helper(how: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", HELPER, "--nocapture", "--test-threads=1"]);
        command.env("HASTMON_TEST_BACKGROUND", how);
        command
    }

    fn run_helper(how: &str) -> Output {
        helper(how).output().unwrap()
    }

    fn wait_a_moment() {
        let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        rustix::event::poll(&mut [], Some(&moment)).unwrap();
    }

    fn wait_for_text(file: &Path) -> String {
        for _ in 0..30_000 {
            match std::fs::read_to_string(file) {
                Ok(text) if !text.is_empty() => return text,
                _ => wait_a_moment(),
            }
        }
        panic!("{} was never written", file.display());
    }

    fn stderr_of(output: &Output) -> &str {
        std::str::from_utf8(&output.stderr).unwrap()
    }

    #[test]
    fn the_command_exits_with_0_once_the_child_is_ready() {
        let directory = tempfile::tempdir().unwrap();
        let report = directory.path().join("report");
        // Reads to the end of stdout and stderr: it returns only because the child has let go of both.
        let output = run_helper(report.to_str().unwrap());
        assert!(output.status.success(), "{output:?}");
        assert!(stderr_of(&output).contains("starting\n"), "stderr is the terminal's until the child is ready");
        assert!(!stderr_of(&output).contains("nobody sees this"));
        let text = wait_for_text(&report);
        assert!(text.starts_with("true / hastmon "), "{text}");
        if cfg!(target_os = "linux") {
            assert_eq!(text.matches("\"/dev/null\"").count(), 3, "{text}");
        }
    }

    #[test]
    fn the_exit_code_of_a_start_that_failed_is_passed_on() {
        let output = run_helper("fails");
        assert_eq!(output.status.code(), Some(78));
        assert!(stderr_of(&output).contains("starting\n"));
    }

    #[test]
    fn a_start_that_was_killed_is_told_and_exits_with_70() {
        let output = run_helper("killed");
        assert_eq!(output.status.code(), Some(70));
        assert!(stderr_of(&output).contains("[ERROR] hastmon was killed by signal 9 while it started."), "{output:?}");
    }

    #[test]
    fn the_child_learns_that_the_command_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let report = directory.path().join("orphan");
        let mut command =
            helper(report.to_str().unwrap()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stderr = BufReader::new(command.stderr.take().unwrap());
        let mut line = String::new();
        while line != "starting\n" {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0);
        }
        command.kill().unwrap();
        command.wait().unwrap();
        assert_eq!(wait_for_text(&report), "Some(BrokenPipe)");
    }

    #[test]
    fn a_process_with_any_other_stdin_is_not_in_the_background() {
        assert!(!is_detached_child());
    }
}
