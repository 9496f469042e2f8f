//! Whether a resource is paused, for the whole cluster: a value with a version. The highest version wins, wherever it comes from.
//!
//! Decides which of two values holds and how it stands on disk and in words; never what a pause means. That nothing runs twice while nodes
//! disagree about it does not rest on this, but on kept votes ([`crate::lease`]).

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::config::MAX_NAME_LEN;
use crate::lease::record::{checksum, content};
use crate::time::{Duration, Instant};
use crate::types::Role;

/// Nobody counts so far. A version beyond it is no message: nothing could be newer than the last one.
pub const MAX_VERSION: u64 = u64::MAX / 2;
/// The longest name of an operator: what is longer is cut.
pub const MAX_OPERATOR_LEN: usize = 64;
/// Bytes in the text of a record, at most: three names, and about 250 of what does not change.
pub const MAX_TEXT_LEN: usize = 2 * MAX_NAME_LEN + MAX_OPERATOR_LEN + 400;
/// A pause that has lasted for so long was perhaps forgotten, and is told of again and again: nothing fails over meanwhile.
pub const TOO_LONG: Duration = Duration::from_secs(24 * 3600);

/// Whether a resource is paused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pause {
    /// Grows with every change.
    pub version: u64,
    /// Where it was changed. Of two changes with one version that of the higher name holds.
    pub node: String,
    /// It is paused.
    pub paused: Option<Paused>,
}

/// By whom, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Paused {
    /// The operator.
    pub by: String,
    /// When it was paused, in seconds since 1970, by the clock of the node where that was done. To be shown, and for nothing else.
    pub since_unix_s: u64,
    /// How long it still lasts; `None`: until it is resumed.
    #[serde(rename = "left_ms", with = "crate::time::as_ms_or_none")]
    pub left: Option<Duration>,
}

impl Pause {
    /// Whether this one holds and not the other.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.version, &self.node) > (other.version, &other.node)
    }

    /// Whether they are the same, whatever the time that is left.
    pub fn is(&self, other: &Self) -> bool {
        (self.version, &self.node) == (other.version, &other.node)
    }

    /// The next one, made on this node.
    #[must_use]
    pub fn next(&self, node: &str, paused: Option<Paused>) -> Self {
        Self { version: (self.version + 1).min(MAX_VERSION), node: node.to_string(), paused }
    }
}

/// In words, as after "web is".
impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(paused) = &self.paused else { return f.write_str("not paused") };
        write!(f, "paused by {} on {} since {}", paused.by, self.node, TimeOfDay(paused.since_unix_s))?;
        match paused.left {
            Some(left) => write!(f, ", for another {} s", left.as_secs()),
            None => Ok(()),
        }
    }
}

/// Letters, digits and the like of what an operator is called: it goes into logs and files.
pub fn operator(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_OPERATOR_LEN / 4).collect();
    if name.is_empty() { "somebody".to_string() } else { name }
}

/// Seconds since 1970, as people write them.
struct TimeOfDay(u64);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // Years that begin in March have their odd day at their end. An era is 400 of them.
        let days = days.saturating_add(719_468);
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (year, month) = (era * 400 + year + u64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// A [`Pause`] as a process keeps it, with its end on the clock of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flag {
    pause: Pause,
    ends: Option<Instant>,
}

impl Flag {
    pub(crate) fn new(now: Instant, pause: Pause) -> Self {
        let ends = pause.paused.as_ref().and_then(|paused| paused.left).map(|left| now + left);
        Self { pause, ends }
    }

    pub(crate) const fn is_paused(&self) -> bool {
        self.pause.paused.is_some()
    }

    /// When it ends by itself.
    pub(crate) const fn ends(&self) -> Option<Instant> {
        self.ends
    }

    /// The value, whatever the time that is left.
    pub(crate) const fn pause(&self) -> &Pause {
        &self.pause
    }

    /// The value as of now, for others.
    pub(crate) fn told(&self, now: Instant) -> Pause {
        let mut told = self.pause.clone();
        if let (Some(paused), Some(ends)) = (&mut told.paused, self.ends) {
            paused.left = Some(ends.since(now));
        }
        told
    }

    /// The same, for a message; `None`: there is nothing to tell.
    pub(crate) fn message(&self, now: Instant) -> Option<Pause> {
        (self.pause.version > 0).then(|| self.told(now))
    }
}

/// What is on disk of a pause, and of what the node did meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseRecord {
    /// The resource.
    pub resource: String,
    /// The value.
    pub pause: Pause,
    /// The role of this node.
    pub role: Role,
    /// A majority kept its votes for this node: what runs here may go on.
    pub kept: bool,
}

const TITLE: &str = "hastmon pause 1\n";

impl PauseRecord {
    /// The record as a text. `unix_now_s`: the time of day, in seconds since 1970.
    pub fn to_text(&self, unix_now_s: u64) -> String {
        let Pause { version, node, paused } = &self.pause;
        let mut text = format!("{TITLE}version {version}\nrole {}\nkept {}\n", self.role, u8::from(self.kept));
        if let Some(Paused { by, since_unix_s, left }) = paused {
            text += &format!("since {since_unix_s}\n");
            if let Some(left) = left {
                // A part of a second counts as a whole one.
                let left = left.as_secs() + u64::from(left.subsec_nanos() > 0);
                text += &format!("until {}\n", unix_now_s.saturating_add(left));
            }
            text += &format!("by {by}\n");
        }
        // No name has a line end in it.
        text += &format!("node {node}\nresource {}\n", self.resource);
        let checksum = checksum(&text);
        text + &checksum
    }

    /// Reads what [`to_text`](Self::to_text) has written, to the last byte; `None`: it is damaged.
    pub fn from_text(text: &str, unix_now_s: u64) -> Option<Self> {
        let fields = content(text)?.strip_prefix(TITLE)?;
        let field = |name: &str| fields.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let number = |name: &str| field(name)?.parse::<u64>().ok();
        let paused = field("by").map(|by| {
            let left = number("until").map(|until| Duration::from_secs(until.saturating_sub(unix_now_s)));
            Paused { by: by.to_string(), since_unix_s: number("since").unwrap_or_default(), left }
        });
        Some(Self {
            resource: field("resource")?.to_string(),
            pause: Pause {
                version: number("version").filter(|version| *version <= MAX_VERSION)?,
                node: field("node")?.to_string(),
                paused,
            },
            role: field("role")?.parse().ok()?,
            kept: number("kept")? != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused(left: Option<Duration>) -> Pause {
        let paused = Paused { by: "root".into(), since_unix_s: 1_795_392_000, left };
        Pause { version: 3, node: "a".into(), paused: Some(paused) }
    }

    fn record(pause: Pause) -> PauseRecord {
        PauseRecord { resource: "web".into(), pause, role: Role::Primary, kept: true }
    }

    #[test]
    fn the_higher_version_holds_and_of_equal_ones_that_of_the_higher_name() {
        let value = |version, node: &str| Pause { version, node: node.into(), paused: None };
        assert!(value(2, "a").is_newer_than(&value(1, "b")));
        assert!(value(2, "b").is_newer_than(&value(2, "a")));
        assert!(!value(2, "a").is_newer_than(&value(2, "a")));
        assert_eq!(value(MAX_VERSION, "a").next("b", None).version, MAX_VERSION);
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_what_is_left_goes_by_the_time_of_day() {
        let timed = record(paused(Some(Duration::from_secs(100))));
        let text = timed.to_text(5000);
        assert!(
            text.starts_with(
                "hastmon pause 1\nversion 3\nrole primary\nkept 1\nsince 1795392000\nuntil 5100\nby root\n"
            )
        );
        assert_eq!(PauseRecord::from_text(&text, 5000), Some(timed));
        assert_eq!(PauseRecord::from_text(&text, 5060), Some(record(paused(Some(Duration::from_secs(40))))));
        assert_eq!(PauseRecord::from_text(&text, 9000), Some(record(paused(Some(Duration::ZERO)))));
        for pause in [paused(None), Pause { paused: None, ..paused(None) }] {
            assert_eq!(PauseRecord::from_text(&record(pause.clone()).to_text(0), 7), Some(record(pause)));
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_no_record() {
        let text = record(paused(None)).to_text(0);
        for end in 0..text.len() {
            assert_eq!(PauseRecord::from_text(&text[..end], 0), None);
        }
        assert_eq!(PauseRecord::from_text(&text.replace("kept 1", "kept 0"), 0), None);
    }

    #[test]
    fn it_is_told_who_paused_it_where_and_since_when() {
        assert_eq!(paused(None).to_string(), "paused by root on a since 2026-11-23 00:00:00 UTC");
        let told = "paused by root on a since 2026-11-23 00:00:00 UTC, for another 90 s";
        assert_eq!(paused(Some(Duration::from_millis(90_500))).to_string(), told);
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(TimeOfDay(seconds).to_string(), text);
        }
    }

    #[test]
    fn what_is_left_goes_down_with_the_clock() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let flag = Flag::new(at(5), paused(Some(Duration::from_secs(60))));
        assert_eq!(flag.told(at(15)), paused(Some(Duration::from_secs(50))));
        assert_eq!(flag.ends(), Some(at(65)));
        assert_eq!(Flag::default().message(at(0)), None);
    }
}
