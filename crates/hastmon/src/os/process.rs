//! What this process is and may use: the program to start again, and the number of descriptors. Starts nothing itself.

use std::io;
use std::path::PathBuf;

use rustix::process::{Resource, getrlimit, setrlimit};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_can_be_started_again() {
        let output = std::process::Command::new(self_program().unwrap()).arg("--list").output().unwrap();
        assert!(output.status.success());
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
