//! Everything that can be wrong with a configuration, and its words: what is wrong, and where it helps, what to do.
//! Decides how bad each of them is. Never quotes a secret.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::StopFailure;
use super::address::AddressError;
use super::diagnostic::Severity;
use super::key::Algorithm;
use super::lexer::Fault;
use super::limits::{MAX_DURATION, MAX_FILE_LEN, MAX_NAME_LEN, MAX_NODES, MAX_RESOURCES, MIN_LEASE_HEARTBEATS};
use super::params::{Kind, Name, PARAMETERS, Parameter, Place};
use super::value::show_duration;
use crate::lease::DRIFT_PER_CENT;
use crate::time::Duration;
use crate::types::Role;

/// The longest part of a word that a message repeats, in characters.
const MAX_QUOTED_CHARS: usize = 60;
/// How a key is written.
const KEY_FORM: &str = "key { algorithm NAME secret \"TEXT\" }";
/// The most node names that a hint lists.
const MAX_LISTED_NODES: usize = 8;

/// One thing that is wrong. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem<'a> {
    // The whole file.
    #[error("the file has more than {} KiB", MAX_FILE_LEN / 1024)]
    FileTooLong,
    #[error("no resource is defined")]
    NoResources,
    #[error("{count} more {what} not shown")]
    NotShown { count: usize, what: &'static str },

    // Characters.
    #[error("{} is not allowed outside of quotes", character_name(*.0))]
    Character(Option<char>),
    #[error("this string has no closing quote")]
    Unterminated,
    #[error("unknown escape in a string")]
    Escape,
    #[error("control character in a string")]
    Control,

    // Structure.
    #[error("this `}}` closes nothing")]
    StrayClose,
    #[error("this `{{` opens nothing")]
    StrayOpen,
    #[error("this `{{` is never closed")]
    Unclosed,
    #[error("`{word}` is not allowed here: a `}}` is missing before it")]
    MissingClose { word: &'static str, line: usize },
    #[error("a `{{` is missing after this")]
    MissingOpen { name_has_blanks: bool },
    #[error("unknown parameter `{}`", clip(.word))]
    Unknown { word: &'a str, meant: Option<&'static Parameter>, place: Place, in_list: bool },
    #[error("neither `algorithm` nor `secret`, and nothing else is allowed in `key`")]
    UnknownInKey,
    #[error("a parameter is expected here")]
    NoParameter,
    #[error("`{}` is not allowed {}", .parameter.word, .place.as_str())]
    Misplaced { parameter: &'static Parameter, place: Place },
    #[error("`{}` needs a {}", .parameter.word, if matches!(.parameter.kind, Kind::Section { .. }) { "name" } else { "value" })]
    NoValue { parameter: &'static Parameter, next: Option<&'static str> },
    #[error("`{}` takes one value", .parameter.word)]
    ExtraValue { parameter: &'static Parameter, unit: bool },
    #[error("`{word}` is given twice here: the last one counts")]
    Twice { word: &'static str, list: bool, line: usize },

    // Values.
    #[error("`{}` is not a length of time", clip(.0))]
    NotADuration(&'a str),
    #[error("unknown unit `{}`", clip(.0))]
    Unit(&'a str),
    #[error("`{}` is finer than a millisecond", clip(.0))]
    TooFine(&'a str),
    #[error("`{}` is not a number of bytes", clip(.0))]
    NotASize(&'a str),
    #[error("`{}` is not an address: {error}", clip(.word))]
    MetricsAddress { word: &'a str, error: AddressError },
    #[error("`{}` is not a whole number", clip(.0))]
    NotANumber(&'a str),
    #[error("`{word}` must be from {least} to {most}")]
    OutOfRange { word: &'static str, least: String, most: String },
    #[error("`priority` cannot be negative")]
    NegativePriority,
    #[error("`{}` is not a role", clip(.0))]
    NotARole(&'a str),
    #[error("`{}` is neither `on` nor `off`", clip(.0))]
    NotASwitch(&'a str),
    #[error("`{}` is nothing that could follow a `stop` that failed", clip(.0))]
    NotAStopFailure(&'a str),
    #[error("unknown algorithm `{}`", clip(.0))]
    Algorithm(&'a str),
    #[error("the secret is empty")]
    EmptySecret,
    #[error("the path is empty")]
    EmptyPath,
    #[error("the path is relative: the daemon looks it up from its own working directory")]
    RelativePath,
    #[error("the path has more than {0} bytes")]
    LongPath(usize),
    #[error("`{}` is not the path of a socket", clip(.0))]
    NotASocket(&'a str),
    #[error("`{}` is not an address: {error}", clip(.word))]
    Address { word: &'a str, error: AddressError },
    #[error("`none` stands alone")]
    NoneAmongOthers,
    #[error("`{word}` lists more than {most} addresses")]
    TooManyAddresses { word: &'static str, most: usize },
    #[error("`{}` is listed twice", clip(.0))]
    AddressTwice(&'a str),

    // Meaning.
    #[error("the name is empty")]
    EmptyName,
    #[error("the name has more than {MAX_NAME_LEN} bytes")]
    LongName,
    #[error("a resource cannot be called `all`")]
    NameAll,
    #[error("there are more than {MAX_RESOURCES} resources")]
    TooManyResources,
    #[error("there are more than {MAX_NODES} sections for nodes here")]
    TooManyNodes,
    #[error("resource `{}` is defined twice", clip(.name))]
    ResourceTwice { name: &'a str, line: usize },
    #[error("a second section for node `{}`", clip(.name))]
    NodeTwice { name: &'a str, line: usize },
    #[error("`key` has no `{0}`")]
    IncompleteKey(&'static str),
    #[error("resource `{}` has no section for this node, `{}`", clip(.resource), clip(.node))]
    NoSection { resource: &'a str, node: &'a str, nodes: Vec<&'a str> },
    #[error("no resource has a section for this node, `{}`", clip(.node))]
    NoSections { node: &'a str, nodes: Vec<&'a str> },
    #[error("node `{}` of resource `{}` has no `remote`", clip(.node), clip(.resource))]
    NoRemote { resource: &'a str, node: &'a str, ours: bool },
    #[error("resource `{}` has no `exec`", clip(.resource))]
    NoExec { resource: &'a str, node: &'a str },
    #[error("`on {}` and `on {}` both match this node: the first is used", clip(.full), clip(.short))]
    BothNames { full: &'a str, short: &'a str },
    #[error(
        "complaint_interval {interval} is shorter than (complaint_count {count} + 1) x heartbeat_interval {heartbeat} = {needed}"
    )]
    ShortInterval { interval: String, count: u32, heartbeat: String, needed: String },
    #[error("lease {lease} is shorter than {MIN_LEASE_HEARTBEATS} x heartbeat_interval {heartbeat} = {needed}")]
    ShortLease { lease: String, heartbeat: String, needed: String },
    #[error("{hold} is longer than {}", show_duration(MAX_DURATION))]
    LongHold { hold: Hold },
    #[error("stop_timeout {} is longer than the lease {}", show_duration(.hold.stop), show_duration(.hold.lease))]
    LongStop { hold: Hold },
    #[error("timeout {timeout} is longer than the lease {lease}")]
    LongTimeout { timeout: String, lease: String },
    #[error("on_stop_failure fence without a `fence` script")]
    NoFence { resource: &'a str },
}

impl Problem<'_> {
    pub(super) const fn severity(&self) -> Severity {
        match self {
            Self::NoResources
            | Self::Twice { .. }
            | Self::RelativePath
            | Self::AddressTwice(_)
            | Self::NoRemote { ours: false, .. }
            | Self::BothNames { .. }
            | Self::ShortInterval { .. }
            | Self::LongTimeout { .. } => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// What to do about it, where that does not follow from the message.
    pub(super) fn hint(&self) -> Option<Cow<'static, str>> {
        let text = match self {
            Self::Character(Some(';' | ',')) => "blanks alone separate parameters and values",
            Self::Character(Some('=')) => "a blank alone separates a parameter from its value: timeout 5",
            Self::Character(Some('!'..='~') | None) => "put the whole value into quotes",
            Self::Character(_) => {
                "perhaps it is invisible and came here by copying: write the word anew, or put it into quotes"
            }
            Self::Unterminated => "a string ends on the line where it begins",
            Self::Escape => r#"there are two: \" and \\"#,
            Self::Control => "a string holds neither tabs nor other control characters",
            Self::UnknownInKey => KEY_FORM,
            Self::MissingOpen { name_has_blanks: true } => "a name with blanks in it must stand in quotes",
            Self::IncompleteKey(_) => KEY_FORM,
            Self::ExtraValue { parameter, .. } if parameter.name == Name::Algorithm => KEY_FORM,
            Self::ExtraValue { unit: true, .. } => "the unit follows the number without a blank: 500ms",
            Self::ExtraValue { .. } => "a value with blanks in it must stand in quotes",
            Self::NotADuration(_) => "seconds, or a number with a unit: 5, 500ms, 1.5s, 2m, 1h",
            Self::Unit(_) => "the units are ms, s, m and h",
            Self::NotASize(_) => "a number of bytes, or with a unit: 512k, 16M, 1G; 0 for none",
            Self::MetricsAddress { .. } => {
                "an IP address with :PORT, or a port alone for this host; without a port it is 9458"
            }
            Self::NegativePriority => "the lowest number is 0, and the lower is preferred",
            Self::EmptySecret => "a long random text, the same on all nodes",
            Self::EmptyPath | Self::RelativePath => "write the whole path, from /",
            Self::NotASocket(_) => "uds:///PATH, unix:///PATH or /PATH",
            Self::Address { error, .. } => error.hint(),
            Self::NoneAmongOthers => {
                "`remote none` says that no address is known yet: leave out either it or the others"
            }
            Self::AddressTwice(_) => "the second is ignored",
            Self::NameAll => "`all` stands for all resources on the command line",
            Self::NoRemote { .. } => "`remote none` says that no address is known yet",
            Self::ShortLease { .. } => "one late heartbeat would stop the resource",
            Self::LongHold { .. } => "nobody could start the resource for so long after a power loss",
            Self::LongTimeout { .. } => "a peer that is slow to answer costs the lease before it is given up",
            Self::ShortInterval { .. } => "complaints grow old before there are enough of them for a takeover",
            _ => return self.composed_hint().map(Cow::Owned),
        };
        Some(Cow::Borrowed(text))
    }

    /// Hints that speak of the file.
    fn composed_hint(&self) -> Option<String> {
        Some(match self {
            Self::MissingClose { line, .. } => format!("the block that begins at line {line} is still open"),
            Self::Unknown { meant: Some(meant), in_list, .. } => {
                let host = if *in_list { " A host of this name must stand in quotes" } else { "" };
                format!("did you mean {}?{host}", meant.word)
            }
            Self::Unknown { meant: None, place, .. } => {
                let allowed = words(|parameter| parameter.is_allowed(*place));
                format!("{} there may be: {allowed}", place.as_str())
            }
            Self::Misplaced { parameter, .. } => {
                let places: Vec<_> = parameter.places.iter().map(|place| place.as_str()).collect();
                format!("it may stand {}", places.join(", or "))
            }
            Self::NoValue { next: Some(next), .. } => format!("if `{next}` is meant as the value, put it into quotes"),
            Self::NoValue { parameter, .. } => format!("for example: {} {}", parameter.word, parameter.example),
            Self::Twice { word, list, line } => {
                let first = format!("the first one is at line {line}");
                if *list { format!("{first}; several addresses stand after one `{word}`") } else { first }
            }
            Self::NotARole(_) => one_of(&Role::ALL.map(Role::as_str)),
            Self::NotAStopFailure(_) => one_of(&StopFailure::ALL.map(StopFailure::as_str)),
            Self::LongStop { hold } => format!(
                "after a power loss nobody may start the resource for {hold}; give `stop` less time, or the lease at least as much"
            ),
            Self::NoFence { resource } => {
                format!("set `fence /PATH` in resource `{}`, or at the top of the file", clip(resource))
            }
            Self::Algorithm(_) => one_of(&Algorithm::ALL.map(Algorithm::as_str)),
            Self::ResourceTwice { line, .. } | Self::NodeTwice { line, .. } => {
                format!("the first one is at line {line}")
            }
            Self::NoSection { node, nodes, .. } | Self::NoSections { node, nodes } => no_section(node, nodes),
            Self::NoExec { node, .. } => {
                format!(
                    "set `exec /PATH` in the resource, in its section `on {}`, or at the top of the file",
                    clip(node)
                )
            }
            _ => return None,
        })
    }
}

/// How long the votes of a dead primary are held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) lease: Duration,
    pub(super) stop: Duration,
}

impl Hold {
    pub(super) fn span(self) -> Duration {
        self.lease.saturating_add(self.stop).saturating_mul(100 + DRIFT_PER_CENT) / 100
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [lease, stop, span] = [self.lease, self.stop, self.span()].map(show_duration);
        let factor = 100 + DRIFT_PER_CENT;
        write!(f, "(lease {lease} + stop_timeout {stop}) x {}.{:02} = {span}", factor / 100, factor % 100)
    }
}

fn words(allowed: impl Fn(&Parameter) -> bool) -> String {
    let words: Vec<_> =
        PARAMETERS.iter().filter(|parameter| allowed(parameter)).map(|parameter| parameter.word).collect();
    words.join(", ")
}

fn one_of(known: &[&str]) -> String {
    format!("one of {}", known.join(", "))
}

fn no_section(node: &str, nodes: &[&str]) -> String {
    let node = clip(node);
    if nodes.is_empty() {
        return format!("add `on {node} {{ remote ADDRESS }}`");
    }
    let mut listed = nodes.iter().take(MAX_LISTED_NODES).map(|node| clip(node)).collect::<Vec<_>>().join(", ");
    if nodes.len() > MAX_LISTED_NODES {
        listed.push_str(", ...");
    }
    format!(
        "there is one for {listed}: add `on {node} {{ remote ADDRESS }}`, or say with `-n node` which of them this node is"
    )
}

/// A word of the file as a message repeats it: not too long, and nothing in it that a terminal obeys.
pub(super) fn clip(word: &str) -> String {
    let mut shown: String = word.chars().take(MAX_QUOTED_CHARS).map(visible).collect();
    if word.chars().nth(MAX_QUOTED_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

/// A character that a terminal shows and does not obey.
pub(super) fn visible(character: char) -> char {
    if character.is_control() { char::REPLACEMENT_CHARACTER } else { character }
}

fn character_name(character: Option<char>) -> Cow<'static, str> {
    match character {
        None => "this character".into(),
        Some(c @ '!'..='~') => format!("`{c}`").into(),
        Some(c) => format!("character U+{:04X}", u32::from(c)).into(),
    }
}

impl From<Fault> for Problem<'_> {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Character(character) => Self::Character(Some(character)),
            Fault::Unterminated => Self::Unterminated,
            Fault::Escape => Self::Escape,
            Fault::Control(_) => Self::Control,
        }
    }
}
