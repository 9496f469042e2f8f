//! The exit codes of both programs, with the numbers of sysexits(3). Nothing else.

/// It worked.
pub const OK: u8 = 0;
/// `hastmonctl`: the daemon answered, and the answer for at least one resource was an error (such as: no such resource).
pub const REFUSED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 64;
/// A file to be read, such as the configuration, does not exist or is not readable.
pub const NOINPUT: u8 = 66;
/// Something that is needed is not there, such as an address to listen on.
pub const UNAVAILABLE: u8 = 69;
/// An error of hastmon itself.
pub const SOFTWARE: u8 = 70;
/// The operating system refused something, or (`hastmonctl`) the daemon cannot be reached.
pub const OSERR: u8 = 71;
/// A file of the system cannot be read.
pub const OSFILE: u8 = 72;
/// A file, such as the pidfile, cannot be created.
pub const CANTCREAT: u8 = 73;
/// Not now: another hastmon runs, or a worker wants to be started again.
pub const TEMPFAIL: u8 = 75;
/// The configuration is faulty.
pub const CONFIG: u8 = 78;
