//! The recorded votes: a small file for each resource in the state directory. Keeps and finds records; never decides whom a vote binds.
//!
//! A record is written under another name, synced, and renamed into its place; then the directory is synced. Whatever happens at whatever
//! instruction, the file is the old or the new one, whole. Anything else that is found there is an error, and the caller must take it for
//! the longest vote that there may have been.

pub(crate) mod writer;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hastmon_core::lease::record::{MAX_TEXT_LEN, Record, RecordError};
use hastmon_core::pause::{self, PauseRecord};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::file_name::file_name;
use crate::os::pidfile::{Pidfile, PidfileError};
use crate::os::sysexits;

/// Only the daemon reads the votes, or writes them: who can write a vote can have two primaries.
const DIRECTORY_MODE: u32 = 0o700;
/// Others may not write there.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// The lock of the directory, in it. No vote has this name.
const LOCK: &str = "lock";
/// Before the name of the resource in the name of its file.
const PREFIX: &str = "vote.";
/// The same for what is known of its pause.
const PAUSE_PREFIX: &str = "pause.";
/// After the name of a file that is being written. No name of a resource ends so.
const UNFINISHED: &str = "~";

/// Why a vote cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Two daemons would forget each other's votes.
    #[error(
        "another hastmon uses the state directory {}, pid: {}: end that one, or give this one another directory with -s",
        directory.display(), pid.map_or_else(|| "unknown".to_string(), |pid| pid.to_string())
    )]
    Held {
        /// The state directory.
        directory: PathBuf,
        /// Who uses it, when that is known.
        pid: Option<u32>,
    },
    /// Something else has the name of the directory.
    #[error("{} is not a directory, and votes are to be kept there: remove it, or name another directory with -s", .0.display())]
    NotADirectory(PathBuf),
    /// Others could write votes there.
    #[error("others may write to the state directory {}, and so make two primaries: take that right from them (chmod 700), or name another directory with -s", .0.display())]
    Insecure(PathBuf),
    /// Something else has the name of the lock.
    #[error("{} is not the lock of a state directory (a plain file with the pid of a hastmon): remove it, or name another directory with -s", .0.display())]
    NotALock(PathBuf),
    /// The system refuses a step.
    #[error("cannot {step} {}: {source}; {}", path.display(), advice(source))]
    Io {
        /// What was tried: open, write...
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is a record, and it does not say whom the vote binds.
    #[error("the recorded vote in {} makes no sense: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: RecordError,
    },
    /// What is known of a pause makes no sense. The resource takes up the role of the configuration; its votes are not touched by that.
    #[error("the record of a pause in {} is damaged and was not used: see with hastmonctl status whether the resource is paused elsewhere", .0.display())]
    DamagedPause(PathBuf),
    /// The name of the holder is longer than any configuration allows.
    #[error("a vote for a node with so long a name is not recorded")]
    TooLong,
    /// The disk does not keep up.
    #[error("too many votes wait to be written: is the disk of the state directory slow?")]
    Busy,
}

impl StoreError {
    /// The exit code of a daemon that ends because of this.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Held { .. } | Self::Busy => sysexits::TEMPFAIL,
            _ => sysexits::CANTCREAT,
        }
    }
}

/// What the administrator can do about it.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "create the directory in which it is to be, or name another state directory with -s",
        io::ErrorKind::PermissionDenied => "start hastmon as root, or name another state directory with -s",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there, or name a state directory elsewhere with -s"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount it for writing, or name a state directory on another file system with -s"
        }
        _ => "look after the disk, or name another state directory with -s",
    }
}

/// The state directory of this daemon, locked until this is dropped. Every call may take as long as the disk takes.
#[derive(Debug)]
pub(crate) struct Store {
    /// Absolute, since the daemon leaves its directory.
    directory: PathBuf,
    /// To sync the names in it.
    handle: File,
    _lock: Pidfile,
}

impl Store {
    /// Opens the directory, creating it when it is not there (not those above it), and locks it. Call it in the process that stays.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        let directory = std::path::absolute(directory).map_err(|source| failed("find", directory, source))?;
        create(&directory)?;
        let handle = File::open(&directory).map_err(|source| failed("open", &directory, source))?;
        let metadata = handle.metadata().map_err(|source| failed("examine", &directory, source))?;
        if !metadata.is_dir() {
            return Err(StoreError::NotADirectory(directory));
        }
        if metadata.permissions().mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(StoreError::Insecure(directory));
        }
        let lock = Pidfile::acquire(&directory.join(LOCK)).map_err(|error| match error {
            PidfileError::Held { pid, .. } => StoreError::Held { directory: directory.clone(), pid },
            PidfileError::Link(path) | PidfileError::NotAPidfile(path) => StoreError::NotALock(path),
            PidfileError::Io { step, path, source } => StoreError::Io { step, path, source },
        })?;
        Ok(Self { directory, handle, _lock: lock })
    }

    /// The directory, for what is kept beside the votes.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The recorded vote of a resource; `None` when there is none.
    ///
    /// # Errors
    /// There may be one. One that is [`Damaged`](StoreError::Damaged) stays so: act as if the longest vote were there. Others may be read later.
    pub(crate) fn read(&self, resource: &str) -> Result<Option<Record>, StoreError> {
        let path = self.path(resource);
        let Some(text) = read_file(&path, MAX_TEXT_LEN)? else { return Ok(None) };
        let record = str::from_utf8(&text).map_err(|_| RecordError::Damaged).and_then(Record::from_text);
        record.map(Some).map_err(|source| StoreError::Damaged { path, source })
    }

    /// Records the vote of a resource, or that there is none. When it returns, a loss of power does not undo it. After an error
    /// the old or the new one may be there.
    ///
    /// # Errors
    /// A step fails: the vote must not be given.
    pub(crate) fn write(&self, resource: &str, record: Option<&Record>) -> Result<(), StoreError> {
        let path = self.path(resource);
        match record {
            Some(record) => self.replace(&path, &record.to_text(), MAX_TEXT_LEN)?,
            None => remove(&path)?,
        }
        self.handle.sync_all().map_err(|source| failed("sync", &self.directory, source))
    }

    fn replace(&self, path: &Path, text: &str, limit: usize) -> Result<(), StoreError> {
        if text.len() > limit {
            return Err(StoreError::TooLong);
        }
        let mut unfinished = path.as_os_str().to_os_string();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        // One that an earlier crash has left is of no use, and neither is what the kernel remembers of it.
        remove(&unfinished)?;
        let written = write_synced(&unfinished, text)
            .and_then(|()| fs::rename(&unfinished, path).map_err(|source| failed("rename to", path, source)));
        if written.is_err() {
            // On a full disk it takes the room that the next one needs.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    /// Records what is to be known of the pause of a resource after a restart, as [`write`](Self::write) does.
    ///
    /// # Errors
    /// A step fails.
    pub(crate) fn write_pause(&self, resource: &str, text: &str) -> Result<(), StoreError> {
        let path = self.directory.join(PAUSE_PREFIX.to_string() + &file_name(resource));
        self.replace(&path, text, pause::MAX_TEXT_LEN)?;
        self.handle.sync_all().map_err(|source| failed("sync", &self.directory, source))
    }

    /// All that is recorded of pauses, and what is wrong with the rest. `unix_now_s`: the time of day, in seconds since 1970.
    ///
    /// # Errors
    /// The directory, or a file in it, cannot be read: what is paused would be started or stopped.
    pub(crate) fn read_pauses(&self, unix_now_s: u64) -> Result<(Vec<PauseRecord>, Vec<StoreError>), StoreError> {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        let directory = |source| failed("read", &self.directory, source);
        for entry in fs::read_dir(&self.directory).map_err(directory)? {
            let name = entry.map_err(directory)?.file_name();
            let name = name.to_string_lossy();
            if !name.starts_with(PAUSE_PREFIX) || name.ends_with(UNFINISHED) {
                continue;
            }
            let path = self.directory.join(&*name);
            let text = read_file(&path, pause::MAX_TEXT_LEN)?.unwrap_or_default();
            match str::from_utf8(&text).ok().and_then(|text| PauseRecord::from_text(text, unix_now_s)) {
                Some(record) => found.push(record),
                None => damaged.push(StoreError::DamagedPause(path)),
            }
        }
        Ok((found, damaged))
    }

    fn path(&self, resource: &str) -> PathBuf {
        self.directory.join(PREFIX.to_string() + &file_name(resource))
    }
}

/// What is in a file, up to a byte more than `limit`; `None`: there is none.
fn read_file(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed("open", path, error.into())),
    };
    let mut text = Vec::with_capacity(limit);
    let limit = u64::try_from(limit + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut text).map_err(|source| failed("read", path, source))?;
    Ok(Some(text))
}

/// Makes the directory, and its name in the one above it last.
fn create(directory: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Ok(()) => {
            let above = directory.parent().unwrap_or(directory);
            File::open(above).and_then(|above| above.sync_all()).map_err(|source| failed("sync", above, source))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(failed("create the state directory", directory, source)),
    }
}

fn write_synced(path: &Path, text: &str) -> Result<(), StoreError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: OwnedFd =
        open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed("create", path, error.into()))?;
    let mut file = File::from(file);
    file.write_all(text.as_bytes()).map_err(|source| failed("write", path, source))?;
    file.sync_all().map_err(|source| failed("sync", path, source))
}

/// It may be gone already.
fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

fn failed(step: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { step, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
