//! What the operating system offers, in the form that hastmon uses it: clock, alarm, pidfile, background, log, process, realtime, title, host name.
//! Nothing here knows roles or decides anything about a resource.
//! Linux and FreeBSD differ only in here; each difference is said where it is made.

pub mod alarm;
pub mod background;
pub mod clock;
pub mod host;
pub mod log;
pub mod pidfile;
pub mod process;
pub mod realtime;
pub mod sysexits;
pub mod thread;
pub mod title;
