//! What tests of whole daemons share: a laboratory of nodes with a resource whose every call is on record.
//!
//! - `lab`: directories, configuration, daemons, and the questions that tests ask of them
//! - `hosts`: nodes as hosts of their own (network namespaces), whose links can be cut
//! - `events`: the resource's log, and the proof that it never ran twice at once
//! - `peer`: protocol 0 written a second time, from its description, to stand for an original
//! - `terminal`: a terminal of which a test reads the screen and types the keys
//! - `process`, `time`: `/proc`, one clock, one way to wait
//!
//! Nothing here uses the daemon's own code: what it gets wrong must not be wrong here in the same way.

pub(crate) mod events;
pub(crate) mod hosts;
pub(crate) mod lab;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod recorded;
pub(crate) mod terminal;
pub(crate) mod time;
