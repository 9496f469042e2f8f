//! The configuration file: one text for all nodes of a cluster, read for one of them.
//!
//! The way of a text, one file each:
//!
//! - `lexer`: text -> tokens with spans;
//! - `syntax`: tokens -> a tree of sections and settings; each `value` is checked on the way, `address` and `key` among them;
//! - `check`: what is wrong with the tree on every node;
//! - `resolve`: the tree and the name of this node -> a [`Config`] in which nothing is missing (inheritance, defaults);
//! - `dump`: a [`Config`] -> text that reads as the same [`Config`].
//!
//! `params` is the one table of what can be set where; `limits` has the defaults and limits; `problem` has the words for
//! everything that can be wrong, `diagnostic` collects and shows them.
//!
//! Decides all about the file. Never opens it, never asks the host for its name, never looks up an address.

mod address;
mod check;
mod diagnostic;
mod dump;
mod key;
mod lexer;
mod limits;
mod params;
mod problem;
mod resolve;
mod shared;
mod syntax;
#[cfg(test)]
mod tests;
mod value;

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use address::{Address, AddressError, DEFAULT_PORT, Family, Host, METRICS_PORT};
pub use diagnostic::{Diagnostic, MAX_SHOWN, Severity};
pub use key::{Algorithm, Key, NotAnAlgorithm, Secret};
pub use limits::*;
pub use shared::{MAX_SHARED, Shared};

use crate::time::Duration;
use crate::types::Role;
use diagnostic::Problems;
use problem::Problem;

/// What one node knows from the configuration. It comes from [`load`] alone and is valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The name of this node.
    pub node: String,
    /// The path of the control socket.
    pub control: String,
    /// Where the daemon listens.
    pub listen: Address,
    /// The path of the directory of what must outlive the daemon.
    pub statedir: String,
    /// How much the history of events may take on the disk, in bytes; 0: there is none.
    pub history_bytes: u64,
    /// Where metrics are to be had, if anywhere.
    pub metrics: Option<Address>,
    /// The path of the script that is told of events, if there is one.
    pub notify: Option<String>,
    /// Whether the daemon and its workers ask the system to run before others and to stay in memory.
    pub realtime: bool,
    /// How many resources may be on their way to run here at once; at least 1.
    pub max_hooks: u32,
    /// Who may talk about any resource.
    pub friends: Vec<Address>,
    /// The resources, in the order of the file.
    pub resources: Vec<Resource>,
}

/// What one node knows of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Its name, 1 to 255 bytes without control characters, and not `all`.
    pub name: String,
    /// The path of the exec script.
    pub exec: String,
    /// Where the other nodes are found; empty (`none`) when that is not yet known.
    pub remotes: Vec<Address>,
    /// Who may complain about it or ask for its status besides the remotes. Those of the whole file if it has none of its own.
    pub friends: Vec<Address>,
    /// Of two primaries the one with the lower number stays; never negative.
    pub priority: i32,
    /// Of those that wait to be started the one with the highest is first; at equal ones, the first of the file.
    pub weight: i32,
    /// How long a peer may take to answer.
    pub timeout: Duration,
    /// How many starts in vain end in giving up.
    pub attempts: u32,
    /// The time between two heartbeats.
    pub heartbeat_interval: Duration,
    /// How many complaints a secondary bears: at one more it takes over.
    pub complaint_count: u32,
    /// How long a complaint counts.
    pub complaint_interval: Duration,
    /// How long a primary may go on without hearing from a majority: [`MIN_LEASE_HEARTBEATS`] heartbeats or more.
    pub lease: Duration,
    /// The role at the start of the daemon.
    pub role_on_start: Role,
    /// The time limit of the `start` hook.
    pub start_timeout: Duration,
    /// The time limit of the `stop` hook. A dead primary's votes are held for `lease` and this, and the drift of clocks.
    pub stop_timeout: Duration,
    /// The time limit of the `status` hook.
    pub status_timeout: Duration,
    /// The time limit of each of the other hooks.
    pub hook_timeout: Duration,
    /// The path of the script that turns a node off, if there is one.
    pub fence: Option<String>,
    /// The time limit of the `fence` script.
    pub fence_timeout: Duration,
    /// What follows a `stop` that failed or outlived its time limit. [`StopFailure::Fence`] only where there is a `fence`.
    pub on_stop_failure: StopFailure,
    /// The path of the script that is told of its events, if there is one.
    pub notify: Option<String>,
    /// The shared key, if there is one.
    pub key: Option<Key>,
    /// All nodes that have a section in it, this one included, in the order of the file.
    pub nodes: Vec<String>,
    /// What the file says for all nodes alike, to be compared with the files of others.
    pub shared: Shared,
}

/// What a node does, besides telling it and trying again, when a `stop` has failed and the resource may still run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopFailure {
    /// Nothing more.
    Log,
    /// It has the `fence` script turn this node off.
    Fence,
    /// It reboots this host.
    Reboot,
}

impl StopFailure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Log, Self::Fence, Self::Reboot];

    /// The word for it in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Fence => "fence",
            Self::Reboot => "reboot",
        }
    }
}

impl Config {
    /// The resource of this name.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.name == name)
    }

    /// The configuration as it is understood, in words that read as the same [`Config`] on the same node, but for secrets, which are
    /// masked, and for [`Resource::shared`], which is about the file.
    pub fn dump(&self) -> String {
        dump::dump(self)
    }
}

/// The name of this node: of the host, or as the administrator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName(String);

/// A text that cannot name a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a node has 1 to {MAX_NAME_LEN} bytes and no control characters")]
pub struct NotANodeName;

impl NodeName {
    /// Takes the name of the host, with or without its domain.
    ///
    /// # Errors
    /// When no `on NODE` could ever have this name.
    pub fn new(name: &str) -> Result<Self, NotANodeName> {
        let is_name = (1..=MAX_NAME_LEN).contains(&name.len()) && !name.contains(char::is_control);
        is_name.then(|| Self(name.to_owned())).ok_or(NotANodeName)
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The part of a host name before the first dot.
impl Resource {
    /// What the resource calls this node, among its `nodes`: by its full name or else by its short one.
    pub fn own_name<'a>(&self, node: &'a str) -> &'a str {
        if self.nodes.iter().any(|name| name == node) { node } else { short_name(node) }
    }
}

fn short_name(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// What [`load`] found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The configuration; `None` exactly when there is an error among the diagnostics.
    pub config: Option<Config>,
    /// Errors and warnings in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the text of a configuration file for one node. The whole text is checked, whatever is wrong with it.
pub fn load(text: &str, node: &NodeName) -> Outcome {
    let mut problems = Problems::new(text);
    if text.len() > MAX_FILE_LEN {
        problems.report(0..0, &Problem::FileTooLong);
        return Outcome { config: None, diagnostics: problems.finish(Vec::new()) };
    }
    let (file, secrets) = syntax::parse(text, &mut problems);
    check::check(&file, &mut problems);
    let config = resolve::resolve(&file, node, &mut problems);
    let config = (!problems.has_errors()).then_some(config);
    Outcome { config, diagnostics: problems.finish(secrets) }
}
