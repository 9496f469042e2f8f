//! What goes over the wire: bytes to typed messages and back.
//!
//! Decides which bytes are a message and what it says; never whether its sender may say it, nor what to answer.
//! From the outside in: [`frame`] (version and size), [`nv`] (name-value pairs), then the messages of protocol 0:
//! [`request`] (what a caller opens a connection with), [`session`] (a primary and a secondary that are connected),
//! [`reply`] (to set role and status) with our [`detail`], and [`signature`] beside the requests; and those of protocol 1: [`peer`].
//! `tests/recorded_traffic.rs` holds all of it against the traffic of original daemons.

pub mod detail;
pub mod frame;
pub mod nv;
pub mod peer;
pub mod reply;
pub mod request;
pub mod session;
pub mod signature;

use alloc::string::String;

/// A message whose kind is clear from its place lacks what such a message must say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has no valid `{0}`: the peer is no hastmon, or one of an unknown version")]
pub struct Lacks(
    /// The name of the missing field.
    pub String,
);

impl Lacks {
    fn field(name: &str) -> Self {
        Self(name.into())
    }
}

/// An error number of a reply. 0 means "ok", as does none at all.
fn error_number(fields: nv::Fields<'_>, name: &str) -> Option<i16> {
    fields.i16(name).filter(|&number| number != 0)
}
