//! What a file says of a resource for all nodes alike, as pairs of names and values: the nodes compare it, to find who runs another file.
//!
//! Decides what may rightly differ: all that stands inside of `on NODE`, the paths of scripts (systems differ in them), and what is of the
//! whole daemon. Keys are not in it, nor any hash of them: that they are equal is shown by each connection.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Resource;
use super::dump;
use super::params::{Name, PARAMETERS};

/// Settings of one resource that are compared; a peer that tells more is not listened to.
pub const MAX_SHARED: usize = 32;
/// Longer values (lists of friends) are told by a digest: a person would not compare them anyway.
const MAX_VALUE: usize = 80;

/// The settings and their values, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shared(Vec<(String, String)>);

impl Shared {
    /// Those of a resource in which no section `on NODE` was looked at.
    pub(super) fn of(resource: &Resource) -> Self {
        let counted = PARAMETERS.iter().filter(|parameter| is_counted(parameter.name));
        let mut pairs: Vec<(String, String)> = counted
            .map(|parameter| {
                let value = dump::value(resource, parameter.name).unwrap_or_else(|| "none".to_owned());
                (parameter.word.to_owned(), shorten(value))
            })
            .collect();
        let mut nodes: Vec<&str> = resource.nodes.iter().map(String::as_str).collect();
        nodes.sort_unstable();
        pairs.push(("nodes".to_owned(), shorten(nodes.join(" "))));
        Self(pairs)
    }

    /// Those that another node has told of. What could not be a name or a value is left out.
    pub fn told(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_sound = |text: &str| text.len() <= MAX_VALUE && !text.contains(char::is_control);
        let sound = pairs.into_iter().filter(|(name, value)| is_sound(name) && is_sound(value));
        Self(sound.take(MAX_SHARED).collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Those that differ: the name, the value here and the value there. What only one side knows, being of another version, is not counted.
    pub fn differences<'a>(&'a self, there: &'a Self) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
        self.iter().filter_map(|(name, here)| {
            let (_, there) = there.iter().find(|(known, _)| *known == name)?;
            (here != there).then_some((name, here, there))
        })
    }
}

const fn is_counted(name: Name) -> bool {
    match name {
        Name::Friends
        | Name::RoleOnStart
        | Name::Attempts
        | Name::Timeout
        | Name::HeartbeatInterval
        | Name::ComplaintCount
        | Name::ComplaintInterval
        | Name::Lease
        | Name::StartTimeout
        | Name::StopTimeout
        | Name::StatusTimeout
        | Name::HookTimeout
        | Name::FenceTimeout
        | Name::OnStopFailure
        | Name::Weight => true,
        Name::Control | Name::Listen | Name::Statedir | Name::Realtime | Name::MaxHooks => false,
        Name::History | Name::Metrics => false,
        Name::Exec | Name::Fence | Name::Notify | Name::Remote | Name::Priority => false,
        Name::Algorithm | Name::Secret | Name::Key | Name::On | Name::Resource => false,
    }
}

fn shorten(value: String) -> String {
    if value.len() <= MAX_VALUE {
        return value;
    }
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(&value));
    format!("digest {:08x}", u32::from_be_bytes([a, b, c, d])).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, NodeName, load};
    use alloc::vec;

    fn shared(text: &str, node: &str) -> Shared {
        let outcome = load(text, &NodeName::new(node).unwrap());
        let Config { mut resources, .. } = outcome.config.unwrap();
        resources.remove(0).shared
    }

    const FILE: &str = "heartbeat_interval 2\nkey { algorithm SHA256 secret \"hunter2hunter2\" }\n\
        on a { timeout 3 }\nresource r { exec /r\n on a { remote none heartbeat_interval 1 }\n on b { remote none } }";

    #[test]
    fn one_file_is_the_same_on_all_nodes_whatever_stands_inside_of_on() {
        assert_eq!(shared(FILE, "a"), shared(FILE, "b"));
    }

    #[test]
    fn a_setting_that_differs_is_named_with_both_values() {
        let here = shared(FILE, "a");
        let there = shared(&FILE.replace("heartbeat_interval 2", "heartbeat_interval 4\ncomplaint_interval 90"), "b");
        let found: Vec<_> = here.differences(&there).collect();
        let expected = vec![
            ("heartbeat_interval", "2s", "4s"),
            ("complaint_interval", "1m", "90s"),
            ("lease", "6s", "12s"),
            ("stop_timeout", "2s", "4s"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_secret_leaves_no_trace() {
        let text = format!("{:?}", shared(FILE, "a"));
        assert!(!text.contains("hunter2") && !text.contains("key"), "{text}");
        assert_eq!(shared(FILE, "a"), shared(&FILE.replace("hunter2", "hunter3"), "a"));
    }

    #[test]
    fn a_long_value_is_told_by_a_digest_and_differs_still() {
        let list = |last: u8| {
            let friends: Vec<String> = (1..40).chain([last]).map(|n| format!("tcp4://192.0.2.{n}")).collect();
            FILE.replace("exec /r", &format!("exec /r\nfriends {}", friends.join(" ")))
        };
        let (here, there) = (shared(&list(40), "a"), shared(&list(41), "a"));
        assert!(here.iter().all(|(_, value)| value.len() <= MAX_VALUE), "{here:?}");
        assert_eq!(here.differences(&there).map(|(name, ..)| name).collect::<Vec<_>>(), ["friends"]);
    }

    #[test]
    fn what_a_peer_tells_is_bounded_and_printable() {
        let pairs = (0..100).map(|n| (format!("n{n}"), "1".to_owned()));
        assert_eq!(Shared::told(pairs).iter().count(), MAX_SHARED);
        let pairs = [("lease", "\u{1b}[31m"), ("timeout", "5s")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(Shared::told(pairs).iter().collect::<Vec<_>>(), [("timeout", "5s")]);
    }
}
