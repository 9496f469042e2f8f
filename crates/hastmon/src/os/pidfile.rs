//! The pidfile: one main daemon for each file, held by a lock that the kernel drops when the process ends, however it ends.
//! Never follows a symbolic link, never waits, never overwrites a file that is not a pidfile.
//!
//! The format is that of pidfile(3): the number alone, no newline, under flock(2). A hastmon 0.3 and ours see each other's lock and pid.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use crate::os::sysexits;

/// Only the owner reads or locks it: a lock by anyone else would keep the daemon from starting.
const MODE: u32 = 0o600;

/// How often the file may be replaced between opening and locking it. Each time means that another daemon has just ended.
const TRIES: u32 = 5;

/// A pid has at most ten digits. A file with more bytes is not a pidfile.
const CONTENT_BYTES_MAX: usize = 32;

/// Why the pidfile cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PidfileError {
    /// Another process holds the lock.
    #[error("Another hastmon is already running, pid: {}", pid.map_or_else(|| format!("unknown ({} is locked)", path.display()), |pid| pid.to_string()))]
    Held {
        /// The file.
        path: PathBuf,
        /// What stands in it, when that is a pid.
        pid: Option<u32>,
    },
    /// The path is a symbolic link.
    #[error("the pidfile {} is a symbolic link, which is never followed: remove it, or name another file with -P", .0.display())]
    Link(PathBuf),
    /// There is something else under the name.
    #[error("{} is not a pidfile (it holds something other than a process id) and stays as it is: remove it, or name another file with -P", .0.display())]
    NotAPidfile(PathBuf),
    /// The system refused a step.
    #[error("cannot {step} the pidfile {}: {source}; {}", path.display(), advice(source))]
    Io {
        /// What was tried: open, lock, write...
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl PidfileError {
    /// The exit code of a daemon that ends because of this.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Held { .. } => sysexits::TEMPFAIL,
            Self::Link(_) | Self::NotAPidfile(_) | Self::Io { .. } => sysexits::CANTCREAT,
        }
    }
}

/// What the administrator can do about it.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "create the directory, or name another file with -P",
        io::ErrorKind::PermissionDenied => "start hastmon as root, or name another file with -P",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there, or name a file elsewhere with -P"
        }
        _ => "name another file with -P",
    }
}

/// The locked pidfile of this process. When it is dropped, or the process ends, the lock ends; the file stays unless
/// [`Pidfile::remove`] is called, and the next daemon takes it over.
#[derive(Debug)]
#[must_use = "the lock ends when this is dropped"]
pub struct Pidfile {
    /// Close-on-exec: no worker and no hook inherits the lock.
    file: File,
    /// Absolute, since the daemon leaves its directory.
    path: PathBuf,
}

/// What [`Pidfile::found`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who wrote it.
    pub pid: u32,
    /// That process lives.
    pub is_held: bool,
}

impl Pidfile {
    /// Opens or creates the file, locks it and writes the pid of this process to it. Call it in the process that stays.
    ///
    /// # Errors
    /// See [`PidfileError`].
    pub fn acquire(path: &Path) -> Result<Self, PidfileError> {
        let failed = |step| move |source| PidfileError::Io { step, path: path.to_owned(), source };
        let path = &std::path::absolute(path).map_err(failed("find"))?;
        for _ in 0..TRIES {
            let file = open_without_following(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    return Err(PidfileError::Held { path: path.clone(), pid: read_pid(&file) });
                }
                Err(error) => return Err(failed("lock")(error.into())),
            }
            let pidfile = Self { file, path: path.clone() };
            if pidfile.is_still_ours() {
                pidfile.claim()?;
                return Ok(pidfile);
            }
            // The daemon that held it removed it while we waited at the door: what we have locked is no longer in the directory.
        }
        Err(failed("lock")(io::Error::other("it is replaced again and again")))
    }

    /// Who has left the file there, or still holds it; `None` when nobody did, or it is no pidfile. Writes nothing.
    pub fn found(path: &Path) -> Option<Found> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(open(path, flags, Mode::empty()).ok()?);
        let is_held = flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK);
        Some(Found { pid: read_pid(&file)?, is_held })
    }

    /// Removes the file, if the file under that name is still the one that we locked. The lock ends.
    ///
    /// # Errors
    /// The file cannot be removed. It does no harm: the next daemon takes it over.
    pub fn remove(self) -> Result<(), PidfileError> {
        if self.is_still_ours() {
            fs::remove_file(&self.path).map_err(|source| self.failed("remove", source))?;
        }
        Ok(())
    }

    fn failed(&self, step: &'static str, source: io::Error) -> PidfileError {
        PidfileError::Io { step, path: self.path.clone(), source }
    }

    fn is_still_ours(&self) -> bool {
        let identity = |file: Metadata| (file.dev(), file.ino());
        match (self.file.metadata(), fs::symlink_metadata(&self.path)) {
            (Ok(ours), Ok(there)) => identity(ours) == identity(there),
            _ => false,
        }
    }

    /// Writes our pid in place of what a former daemon left. Nobody else writes: we hold the lock.
    fn claim(&self) -> Result<(), PidfileError> {
        let found = self.file.metadata().map_err(|source| self.failed("examine", source))?;
        if found.permissions().mode() & 0o7777 != MODE {
            let made_private = self.file.set_permissions(Permissions::from_mode(MODE));
            made_private.map_err(|source| self.failed("set the mode of", source))?;
        }
        let written = self.file.set_len(0).and_then(|()| write_pid(&self.file));
        written.map_err(|source| {
            // A file without a pid would puzzle the next reader.
            let _ = fs::remove_file(&self.path);
            self.failed("write", source)
        })
    }
}

/// Opens the file for our eyes only, creating it when it is not there. What is there must be a pidfile, or empty.
fn open_without_following(path: &Path) -> Result<File, PidfileError> {
    // NONBLOCK and NOCTTY: opening a pipe or a terminal by mistake has no effect before it is refused below.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(Errno::ISDIR | Errno::NXIO) => return Err(PidfileError::NotAPidfile(path.to_owned())),
        // Linux says LOOP, FreeBSD says MLINK; LOOP may also mean a loop among the directories.
        Err(Errno::LOOP | Errno::MLINK) if path.is_symlink() => return Err(PidfileError::Link(path.to_owned())),
        Err(error) => return Err(PidfileError::Io { step: "open", path: path.to_owned(), source: error.into() }),
    };
    let metadata =
        file.metadata().map_err(|source| PidfileError::Io { step: "examine", path: path.to_owned(), source })?;
    if metadata.is_file() && holds_nothing_but_a_pid(&file) {
        Ok(file)
    } else {
        Err(PidfileError::NotAPidfile(path.to_owned()))
    }
}

/// Up to one byte more than a pidfile may hold.
fn read_content(file: &File) -> Vec<u8> {
    let mut buffer = [0; CONTENT_BYTES_MAX + 1];
    let count = file.read_at(&mut buffer, 0).unwrap_or(0);
    buffer.get(..count).unwrap_or_default().to_vec()
}

/// Keeps `-P /usr/local/etc/hastmon.conf` from wiping the configuration. Zero bytes are what some file systems show after a power loss.
fn holds_nothing_but_a_pid(file: &File) -> bool {
    let content = read_content(file);
    content.len() <= CONTENT_BYTES_MAX
        && content.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_whitespace() || *byte == 0)
}

/// The pid that another daemon wrote. It may have locked the file and not yet written: `None`.
fn read_pid(file: &File) -> Option<u32> {
    String::from_utf8(read_content(file)).ok()?.trim().parse().ok()
}

fn write_pid(file: &File) -> io::Result<()> {
    file.write_all_at(std::process::id().to_string().as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::{Command, Stdio};
    use tempfile::TempDir;

    fn directory() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hastmon.pid");
        (directory, path)
    }

    /// Other tests of this process start children, which hold a copy of our lock for the moment between fork and exec.
    fn acquire_soon(path: &Path) -> Pidfile {
        for _ in 0..100 {
            match Pidfile::acquire(path) {
                Err(PidfileError::Held { .. }) => std::thread::yield_now(),
                other => return other.unwrap(),
            }
        }
        Pidfile::acquire(path).unwrap()
    }

    #[test]
    fn the_file_is_private_and_holds_the_pid_without_a_newline() {
        let (_directory, path) = directory();
        let _pidfile = Pidfile::acquire(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_second_daemon_is_refused_and_told_the_pid_of_the_first() {
        let (_directory, path) = directory();
        let _first = Pidfile::acquire(&path).unwrap();
        // As if the first were another process.
        fs::write(&path, "4711").unwrap();
        let error = Pidfile::acquire(&path).unwrap_err();
        assert_eq!(error.to_string(), "Another hastmon is already running, pid: 4711");
        assert_eq!(error.exit_code(), 75);
        assert_eq!(fs::read_to_string(&path).unwrap(), "4711", "the other's file is left alone");
    }

    #[test]
    fn a_second_daemon_is_refused_when_the_first_has_not_yet_written_its_pid() {
        let (_directory, path) = directory();
        let _first = Pidfile::acquire(&path).unwrap();
        fs::write(&path, "").unwrap();
        let message = Pidfile::acquire(&path).unwrap_err().to_string();
        assert_eq!(message, format!("Another hastmon is already running, pid: unknown ({} is locked)", path.display()));
    }

    #[test]
    fn a_stale_file_is_taken_over_whatever_pid_and_mode_it_has() {
        for stale in ["", "1", "4294967295\n", "  77777777777 ", "\0\0\0\0"] {
            let (_directory, path) = directory();
            fs::write(&path, stale).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
            let _pidfile = Pidfile::acquire(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        }
    }

    #[test]
    fn a_symbolic_link_is_refused_and_its_target_untouched() {
        let (directory, path) = directory();
        let target = directory.path().join("target");
        fs::write(&target, "1").unwrap();
        symlink(&target, &path).unwrap();
        let error = Pidfile::acquire(&path).unwrap_err();
        assert!(matches!(error, PidfileError::Link(_)), "{error}");
        assert_eq!(error.exit_code(), 73);
        assert_eq!(fs::read_to_string(&target).unwrap(), "1");
    }

    #[test]
    fn a_symbolic_link_to_nothing_creates_nothing() {
        let (directory, path) = directory();
        let target = directory.path().join("target");
        symlink(&target, &path).unwrap();
        assert!(matches!(Pidfile::acquire(&path), Err(PidfileError::Link(_))));
        assert!(!target.exists());
    }

    #[test]
    fn the_configuration_given_as_pidfile_by_mistake_is_not_wiped() {
        let (_directory, path) = directory();
        fs::write(&path, "resource web {}\n").unwrap();
        let error = Pidfile::acquire(&path).unwrap_err();
        assert!(matches!(error, PidfileError::NotAPidfile(_)), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "resource web {}\n");
    }

    #[test]
    fn a_directory_and_a_device_are_refused_as_pidfile() {
        let (directory, _path) = directory();
        for path in [directory.path(), Path::new("/dev/null")] {
            let error = Pidfile::acquire(path).unwrap_err();
            assert!(matches!(error, PidfileError::NotAPidfile(_)), "{error}");
        }
    }

    #[test]
    fn a_missing_directory_is_named_with_what_to_do() {
        let (directory, _path) = directory();
        let path = directory.path().join("missing/hastmon.pid");
        let error = Pidfile::acquire(&path).unwrap_err();
        assert_eq!(error.exit_code(), 73);
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot open the pidfile {}: ", path.display())), "{text}");
        assert!(text.ends_with("create the directory, or name another file with -P"), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_with_advice() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = write_pid(&full).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(advice(&error).starts_with("make room"));
    }

    #[test]
    fn removing_frees_the_name_and_a_file_that_is_not_ours_stays() {
        let (_directory, path) = directory();
        let pidfile = Pidfile::acquire(&path).unwrap();
        pidfile.remove().unwrap();
        assert!(!path.exists());

        let pidfile = Pidfile::acquire(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "of another daemon").unwrap();
        pidfile.remove().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "of another daemon");
    }

    #[test]
    fn a_child_does_not_inherit_the_lock() {
        let (_directory, path) = directory();
        let pidfile = Pidfile::acquire(&path).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        drop(pidfile);
        let _next = acquire_soon(&path);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn who_holds_a_file_or_has_left_it_can_be_seen() {
        let (_directory, path) = directory();
        assert_eq!(Pidfile::found(&path), None);
        let pidfile = Pidfile::acquire(&path).unwrap();
        assert_eq!(Pidfile::found(&path), Some(Found { pid: std::process::id(), is_held: true }));
        drop(pidfile);
        let left = Some(Found { pid: std::process::id(), is_held: false });
        while Pidfile::found(&path) != left {
            // A child of another test may hold a copy until it runs its own program.
            std::thread::yield_now();
        }
        fs::write(&path, "resource web {}").unwrap();
        assert_eq!(Pidfile::found(&path), None);
    }

    #[test]
    fn a_relative_path_is_kept_as_absolute() {
        let name = format!("target-pidfile-test-{}", std::process::id());
        let pidfile = Pidfile::acquire(Path::new(&name)).unwrap();
        assert!(pidfile.path.is_absolute());
        pidfile.remove().unwrap();
        assert!(!Path::new(&name).exists());
    }
}
