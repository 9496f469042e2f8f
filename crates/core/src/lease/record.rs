//! What a voter writes to disk before its first vote for somebody leaves the node.

use alloc::string::String;

use crate::time::Duration;

/// A vote as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Who has it.
    pub holder: String,
    /// Of which epoch; no lower one is ever voted for.
    pub epoch: u64,
    /// For how long it binds after a restart; zero when it was released.
    pub hold: Duration,
}
