//! The words that every part shares: role, state and error numbers, as protocol 0 numbers them.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a node does for a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Off: nothing is run, nothing is checked.
    Init,
    /// Runs the resource.
    Primary,
    /// Makes sure that the resource does not run here, and stands by.
    Secondary,
    /// Polls everybody and complains to the secondaries.
    Watchdog,
}

impl Role {
    /// All roles, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Init, Self::Primary, Self::Secondary, Self::Watchdog];

    /// The number that stands for this role in protocol 0 (0 is "undefined").
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Init => 1,
            Self::Primary => 2,
            Self::Secondary => 3,
            Self::Watchdog => 4,
        }
    }

    /// The role of a number of protocol 0; `None` for "undefined" and for numbers that stand for nothing.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.to_wire() == number)
    }

    /// The word for this role in the configuration, on the command line and in `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Watchdog => "watchdog",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a role: init, primary, secondary or watchdog")]
pub struct NotARole;

impl FromStr for Role {
    type Err = NotARole;

    fn from_str(word: &str) -> Result<Self, NotARole> {
        Self::ALL.into_iter().find(|role| role.as_str() == word).ok_or(NotARole)
    }
}

/// What is known of the resource on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing is known, or `status` gave no clear answer.
    #[default]
    Unknown,
    /// Ready to run (an original may send it).
    Ready,
    /// `start` runs, or has run and `status` does not yet say that the resource runs.
    Starting,
    /// The resource runs.
    Run,
    /// `stop` runs.
    Stopping,
    /// The resource does not run.
    Stopped,
    /// `stop` failed or outlived its time: the resource may still run.
    Failed,
}

impl State {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Unknown, Self::Ready, Self::Starting, Self::Run, Self::Stopping, Self::Stopped, Self::Failed];

    /// The number that stands for this state in protocol 0.
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Ready => 1,
            Self::Starting => 2,
            Self::Run => 3,
            Self::Stopping => 4,
            Self::Stopped => 5,
            Self::Failed => 6,
        }
    }

    /// The state of a number of protocol 0; a number that stands for nothing says nothing: unknown.
    pub fn from_wire(number: u8) -> Self {
        Self::ALL.into_iter().find(|state| state.to_wire() == number).unwrap_or_default()
    }

    /// The word for this state in `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ready => "ready to run",
            Self::Starting => "starting",
            Self::Run => "run",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Error numbers of protocol 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// No such resource.
    NoEntry,
    /// The request lacks something or has a senseless value.
    Invalid,
    /// Out of memory (only an original sends it).
    NoMemory,
    /// The request is not known here.
    NotImplemented,
    /// The request is not signed as it must be.
    Authentication,
    /// Ours: the resource is paused.
    Paused,
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn to_wire(self) -> i16 {
        match self {
            Self::NoEntry => 1,
            Self::Invalid => 2,
            Self::NoMemory => 3,
            Self::NotImplemented => 4,
            Self::Authentication => 5,
            Self::Paused => 6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_role_survives_its_number_and_its_word() {
        for role in Role::ALL {
            assert_eq!(Role::from_wire(role.to_wire()), Some(role));
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert_eq!(Role::from_wire(0), None);
        assert_eq!(Role::from_wire(9), None);
        assert_eq!("master".parse::<Role>(), Err(NotARole));
    }

    #[test]
    fn every_state_survives_its_number_and_an_unknown_number_is_unknown() {
        for state in State::ALL {
            assert_eq!(State::from_wire(state.to_wire()), state);
        }
        assert_eq!(State::from_wire(77), State::Unknown);
    }
}
