//! The control socket: created for its owner alone, taken over only from a daemon that is dead, removed at the end.

use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use tokio::net::UnixListener;

use crate::os::sysexits;

/// How many callers may wait until they are accepted; the system may have a lower limit (`somaxconn`). Tokio's own number.
const CALLERS_THAT_WAIT: i32 = 1024;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// Somebody answers there.
    #[error("Another daemon answers on the control socket {}. Is hastmon running already, with another pidfile?", .0.display())]
    InUse(PathBuf),
    /// There is something else.
    #[error("{} exists and is not a socket; remove it, or set `control` to another path", .0.display())]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("Cannot create the control socket {}: {source}. Does its directory exist, and may hastmon write there?", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ControlError {
    /// What the daemon exits with.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::InUse(_) => sysexits::TEMPFAIL,
            Self::NotASocket(_) | Self::Io { .. } => sysexits::UNAVAILABLE,
        }
    }
}

/// The bound socket; its file goes with it.
#[derive(Debug)]
pub(super) struct ControlSocket {
    /// What to accept on.
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    /// Device and inode of the file, so that nobody else's is removed.
    identity: (u64, u64),
}

impl ControlSocket {
    /// Binds to `path`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub(super) fn bind(path: &str) -> Result<Self, ControlError> {
        let path = std::path::absolute(path).map_err(|source| ControlError::Io { path: path.into(), source })?;
        make_room(&path)?;
        let failed = |source| ControlError::Io { path: path.clone(), source };
        let listener = listen_privately(&path).map_err(failed)?;
        let identity = identity_of(&path).map_err(failed)?;
        Ok(Self { listener, path, identity })
    }

    /// Whether this is the socket that somebody finds at `path`, however it is written.
    pub(super) fn is_at(&self, path: &str) -> bool {
        identity_of(Path::new(path)).is_ok_and(|identity| identity == self.identity)
    }

    /// Removes the file: nobody finds the socket any more; who has connected to it stays connected.
    pub(super) fn hide(&self) {
        if identity_of(&self.path).is_ok_and(|identity| identity == self.identity) {
            // At the end of the process nobody is left to tell.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.hide();
    }
}

fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    let file = std::fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Removes what a daemon that is dead has left.
fn make_room(path: &Path) -> Result<(), ControlError> {
    let failed = |source| ControlError::Io { path: path.to_path_buf(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(file) if !file.file_type().is_socket() => Err(ControlError::NotASocket(path.to_path_buf())),
        Ok(_) => match call(path) {
            Err(Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(failed),
            // A line that is full is somebody's line.
            Ok(()) | Err(Errno::AGAIN) => Err(ControlError::InUse(path.to_path_buf())),
            Err(error) => Err(failed(error.into())),
        },
    }
}

/// Listens where only the owner may call. The file has its mode from the socket. (The umask is no way to it: it is the whole process's, and
/// what other threads start and create at that moment would have it.) Bind does not follow a link in the last place, and fails where something
/// exists.
fn listen_privately(path: &Path) -> io::Result<UnixListener> {
    let socket = new_socket()?;
    let has_mode = fchmod(&socket, Mode::RUSR | Mode::WUSR);
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    if has_mode.is_err() {
        // FreeBSD before 14.3. Nobody is heard before: who calls a socket that does not listen is refused.
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    listen(&socket, CALLERS_THAT_WAIT)?;
    UnixListener::from_std(socket.into())
}

fn new_socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// Calls the owner of a socket; never waits for one that is stuck.
fn call(path: &Path) -> Result<(), Errno> {
    connect(&new_socket()?, &SocketAddrUnix::new(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_runtime<T>(work: impl FnOnce() -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        work()
    }

    fn bind_control(path: &Path) -> Result<ControlSocket, ControlError> {
        ControlSocket::bind(path.to_str().unwrap())
    }

    #[test]
    fn the_socket_is_for_its_owner_alone_and_goes_with_the_daemon() {
        in_runtime(|| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ctl");
            let socket = bind_control(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            drop(socket);
            assert!(!path.exists());
        });
    }

    #[test]
    fn a_socket_is_taken_over_from_the_dead_and_left_to_the_living() {
        in_runtime(|| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ctl");
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let socket = bind_control(&path).unwrap();
            assert!(matches!(bind_control(&path), Err(ControlError::InUse(_))));
            drop(socket);
        });
    }

    #[test]
    fn an_owner_that_is_stuck_is_alive_also_when_its_line_is_full() {
        in_runtime(|| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ctl");
            let stuck = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            bind(&stuck, &SocketAddrUnix::new(&path).unwrap()).unwrap();
            listen(&stuck, 0).unwrap();
            for _ in 0..3 {
                assert!(matches!(bind_control(&path), Err(ControlError::InUse(_))));
            }
        });
    }

    #[test]
    fn a_file_or_a_link_in_its_place_is_left_alone() {
        in_runtime(|| {
            let dir = tempfile::tempdir().unwrap();
            let (path, target) = (dir.path().join("ctl"), dir.path().join("target"));
            std::fs::write(&target, "precious").unwrap();
            std::os::unix::fs::symlink(&target, &path).unwrap();
            assert!(matches!(bind_control(&path), Err(ControlError::NotASocket(_))));
            assert!(matches!(bind_control(&target), Err(ControlError::NotASocket(_))));
            assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        });
    }
}
