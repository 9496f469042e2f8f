//! The table of parameters: what each is called, what kind of value it takes, and where it may stand. The parser, the
//! hints and the dump all go by it. Decides nothing about a particular file.

use super::limits;
use crate::time::Duration;
use Place::{Key, Resource, ResourceNode, Top, TopNode};

/// Where in the file something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Outside of all braces.
    Top,
    /// In `on NODE { … }` outside of a resource.
    TopNode,
    /// In `resource NAME { … }`.
    Resource,
    /// In `on NODE { … }` of a resource.
    ResourceNode,
    /// In `key { … }`.
    Key,
}

impl Place {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Top => "at the top level",
            TopNode => "in `on NODE` at the top level",
            Resource => "in a resource",
            ResourceNode => "in `on NODE` of a resource",
            Key => "in `key`",
        }
    }

    /// The place inside the braces of a section that stands here; `None` when it may not stand here.
    pub(super) const fn inside(self, section: Name) -> Option<Self> {
        match (self, section) {
            (Top, Name::On) => Some(TopNode),
            (Top, Name::Resource) => Some(Resource),
            (Resource, Name::On) => Some(ResourceNode),
            (Top | Resource, Name::Key) => Some(Key),
            _ => None,
        }
    }
}

/// The identity of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Control,
    Listen,
    Statedir,
    History,
    Metrics,
    Realtime,
    MaxHooks,
    Exec,
    Fence,
    Notify,
    Remote,
    Friends,
    Priority,
    Weight,
    RoleOnStart,
    Attempts,
    Timeout,
    HeartbeatInterval,
    ComplaintCount,
    ComplaintInterval,
    Lease,
    StartTimeout,
    StopTimeout,
    StatusTimeout,
    HookTimeout,
    FenceTimeout,
    OnStopFailure,
    Algorithm,
    Secret,
    Key,
    On,
    Resource,
}

/// What kind of value a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The path of a script or a directory.
    Path,
    /// The path of the control socket, with or without its scheme.
    Control,
    /// One address.
    Address,
    /// One address or more, up to a limit.
    Addresses { most: usize },
    /// Where metrics are to be had.
    MetricsAddress,
    /// A number of bytes, or 0.
    Size { least: u64, most: u64 },
    /// A length of time, and the shortest one.
    Duration { least: Duration },
    /// A whole number in a range.
    Count { least: u32, most: u32 },
    /// A whole number that is not negative; the lower is preferred.
    Priority,
    /// A whole number that may be negative; the higher is first.
    Weight,
    /// The word for a role.
    Role,
    /// `on` or `off`.
    Switch,
    /// What follows a `stop` that failed.
    StopFailure,
    /// The name of an algorithm.
    Algorithm,
    /// Any text that is not empty.
    Secret,
    /// No value but a block in braces, with a name before it if `named`.
    Section { named: bool },
}

impl Kind {
    pub(super) const fn is_list(self) -> bool {
        matches!(self, Self::Addresses { .. })
    }

    /// Whether a word that is a keyword elsewhere is a value of this kind. It has to stand on the same line.
    pub(super) fn takes_keyword(self, word: &str) -> bool {
        matches!((self, word), (Self::Switch, "on") | (Self::StopFailure, "fence"))
    }
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: Name,
    /// How it is written.
    pub(super) word: &'static str,
    pub(super) kind: Kind,
    pub(super) places: &'static [Place],
    /// A value for the hint when it has none.
    pub(super) example: &'static str,
}

impl Parameter {
    pub(super) fn is_allowed(&self, place: Place) -> bool {
        self.places.contains(&place)
    }
}

const fn row(name: Name, word: &'static str, kind: Kind, places: &'static [Place], example: &'static str) -> Parameter {
    Parameter { name, word, kind, places, example }
}

const ALL_BUT_KEY: &[Place] = &[Top, TopNode, Resource, ResourceNode];
const SCRIPT: &[Place] = &[Top, Resource, ResourceNode];
const SPAN: Kind = Kind::Duration { least: limits::MIN_DURATION };
const HEARTBEAT: Kind = Kind::Duration { least: limits::MIN_HEARTBEAT_INTERVAL };
const ATTEMPTS: Kind = Kind::Count { least: 1, most: limits::MAX_ATTEMPTS };
const COMPLAINTS: Kind = Kind::Count { least: 0, most: limits::MAX_COMPLAINT_COUNT };
const HOOKS: Kind = Kind::Count { least: 1, most: limits::MAX_MAX_HOOKS };
const HISTORY: Kind = Kind::Size { least: limits::MIN_HISTORY_BYTES, most: limits::MAX_HISTORY_BYTES };
const REMOTES: Kind = Kind::Addresses { most: limits::MAX_REMOTES };
const FRIENDS: Kind = Kind::Addresses { most: limits::MAX_FRIENDS };

/// Every word that means something, in the order of the dump and of the hints.
pub(super) static PARAMETERS: [Parameter; 32] = [
    row(Name::Control, "control", Kind::Control, &[Top, TopNode], "uds:///var/run/hastmonctl"),
    row(Name::Listen, "listen", Kind::Address, &[Top, TopNode], "tcp4://0.0.0.0:8458"),
    row(Name::Statedir, "statedir", Kind::Path, &[Top, TopNode], limits::DEFAULT_STATEDIR),
    row(Name::History, "history", HISTORY, &[Top, TopNode], "16M"),
    row(Name::Metrics, "metrics", Kind::MetricsAddress, &[Top, TopNode], "127.0.0.1:9458"),
    row(Name::Realtime, "realtime", Kind::Switch, &[Top, TopNode], "off"),
    row(Name::MaxHooks, "max_hooks", HOOKS, &[Top, TopNode], "16"),
    row(Name::Exec, "exec", Kind::Path, SCRIPT, "/usr/local/etc/rc.d/service"),
    row(Name::Fence, "fence", Kind::Path, SCRIPT, "/usr/local/libexec/hastmon/fence.sh"),
    row(Name::Notify, "notify", Kind::Path, ALL_BUT_KEY, "/usr/local/libexec/hastmon/notify-mail.sh"),
    row(Name::Remote, "remote", REMOTES, &[ResourceNode], "tcp4://192.0.2.1 tcp4://192.0.2.2"),
    row(Name::Friends, "friends", FRIENDS, ALL_BUT_KEY, "tcp4://192.0.2.3"),
    row(Name::Priority, "priority", Kind::Priority, &[TopNode, ResourceNode], "100"),
    row(Name::Weight, "weight", Kind::Weight, &[Resource, ResourceNode], "10"),
    row(Name::RoleOnStart, "role_on_start", Kind::Role, ALL_BUT_KEY, "secondary"),
    row(Name::Attempts, "attempts", ATTEMPTS, ALL_BUT_KEY, "5"),
    row(Name::Timeout, "timeout", SPAN, ALL_BUT_KEY, "5s"),
    row(Name::HeartbeatInterval, "heartbeat_interval", HEARTBEAT, ALL_BUT_KEY, "10s"),
    row(Name::ComplaintCount, "complaint_count", COMPLAINTS, ALL_BUT_KEY, "3"),
    row(Name::ComplaintInterval, "complaint_interval", SPAN, ALL_BUT_KEY, "1m"),
    row(Name::Lease, "lease", SPAN, ALL_BUT_KEY, "30s"),
    row(Name::StartTimeout, "start_timeout", SPAN, ALL_BUT_KEY, "1m"),
    row(Name::StopTimeout, "stop_timeout", SPAN, ALL_BUT_KEY, "10s"),
    row(Name::StatusTimeout, "status_timeout", SPAN, ALL_BUT_KEY, "10s"),
    row(Name::HookTimeout, "hook_timeout", SPAN, ALL_BUT_KEY, "30s"),
    row(Name::FenceTimeout, "fence_timeout", SPAN, ALL_BUT_KEY, "1m"),
    row(Name::OnStopFailure, "on_stop_failure", Kind::StopFailure, ALL_BUT_KEY, "log"),
    row(Name::Algorithm, "algorithm", Kind::Algorithm, &[Key], "SHA256"),
    row(Name::Secret, "secret", Kind::Secret, &[Key], "\"a long text\""),
    row(Name::Key, "key", Kind::Section { named: false }, &[Top, Resource], ""),
    row(Name::On, "on", Kind::Section { named: true }, &[Top, Resource], "nodeA { ... }"),
    row(Name::Resource, "resource", Kind::Section { named: true }, &[Top], "web { ... }"),
];

/// The parameter that is written so.
pub(super) fn find(word: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.word == word)
}

/// What is longer than this is near to nothing, in bytes; comparing it would cost its length.
const LONGEST_GUESS: usize = 32;
/// More slips than these make another word.
const MOST_SLIPS: usize = 3;

/// The parameter that was probably meant by a word that is none: the nearest, one that may stand here before others.
pub(super) fn suggest(word: &str, place: Place) -> Option<&'static Parameter> {
    if word.len() > LONGEST_GUESS {
        return None;
    }
    // One slip for each three letters; swapped neighbours are one.
    let tolerance = (word.len() / 3).min(MOST_SLIPS);
    let word = word.to_ascii_lowercase();
    PARAMETERS
        .iter()
        .filter(|parameter| parameter.word.len().abs_diff(word.len()) <= tolerance)
        .map(|parameter| (strsim::osa_distance(&word, parameter.word), !parameter.is_allowed(place), parameter))
        .filter(|(slips, ..)| *slips <= tolerance)
        .min_by_key(|(slips, is_elsewhere, _)| (*slips, *is_elsewhere))
        .map(|(.., parameter)| parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_word_and_has_a_place() {
        for parameter in &PARAMETERS {
            assert_eq!(find(parameter.word).unwrap().name, parameter.name);
            assert!(!parameter.places.is_empty());
        }
    }

    #[test]
    fn the_places_of_a_section_agree_with_the_table() {
        for parameter in PARAMETERS.iter().filter(|parameter| matches!(parameter.kind, Kind::Section { .. })) {
            for place in [Top, TopNode, Resource, ResourceNode, Key] {
                assert_eq!(parameter.is_allowed(place), place.inside(parameter.name).is_some(), "{}", parameter.word);
            }
        }
    }

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let suggestion = |word| suggest(word, Resource).map(|parameter| parameter.word);
        assert_eq!(suggestion("hearbeat_interval"), Some("heartbeat_interval"));
        assert_eq!(suggestion("ressource"), Some("resource"));
        assert_eq!(suggestion("kye"), Some("key"));
        assert_eq!(suggestion("EXEC"), Some("exec"));
        assert_eq!(suggestion("no"), None);
        assert_eq!(suggestion("frobnicate"), None);
        assert_eq!(suggestion("status_timeout_x"), Some("status_timeout"));
    }
}
