//! The history: what the daemon has told, kept in its state directory as a line of JSON for each event. This file has the form of a line and
//! the names of the files; `writer` appends, `reader` reads, for the daemon's directory may be read while it runs and when it is dead.
//!
//! The files are segments with growing numbers. A line that makes no sense, because power failed in the middle of it, is passed over.

pub(crate) mod reader;
pub(crate) mod show;
pub(crate) mod since;
pub(crate) mod writer;

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use hastmon_core::event::{Event, Level};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The names of the segments begin with this; what follows is a number.
const PREFIX: &str = "history.";
/// The longest line, in bytes. What a longer one would have said of itself is left out.
const MAX_LINE: usize = 16 << 10;
/// The longest text of an event in the history, in characters.
const MAX_TEXT_CHARS: usize = 2048;

/// An event with all that the daemon knows of it: a line of the history, and what `notify` is told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    /// For people and for those who parse it: UTC, by RFC 3339.
    pub(crate) time: String,
    /// When: milliseconds since 1970, by the clock of this node.
    pub(crate) unix_ms: u64,
    /// Grows with every event of one run of the daemon, whatever its clock does.
    pub(crate) seq: u64,
    /// On which node.
    pub(crate) node: String,
    /// Of which resource; of the daemon as a whole without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resource: Option<String>,
    /// The epoch of the lease at that time, as far as this node knew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<u64>,
    /// How much it matters.
    pub(crate) level: Level,
    /// What: `kind` and `detail`.
    #[serde(flatten)]
    pub(crate) event: Event,
    /// The words of the log.
    pub(crate) text: String,
}

impl Record {
    /// An event of this moment. `unix_ms`: milliseconds since 1970.
    pub(crate) fn new(
        unix_ms: u64,
        seq: u64,
        node: &str,
        resource: Option<&str>,
        epoch: Option<u64>,
        event: Event,
    ) -> Self {
        Self {
            time: rfc3339(unix_ms),
            unix_ms,
            seq,
            node: node.to_string(),
            resource: resource.map(ToString::to_string),
            epoch,
            level: event.level(),
            text: event.to_string(),
            event,
        }
    }

    /// The line, with its end. One that would be too long has no `detail`.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        if line.len() >= MAX_LINE {
            let brief = Brief {
                time: &self.time,
                unix_ms: self.unix_ms,
                seq: self.seq,
                node: &self.node,
                resource: self.resource.as_deref(),
                epoch: self.epoch,
                level: self.level,
                kind: self.event.kind(),
                text: self.text.chars().take(MAX_TEXT_CHARS).collect(),
            };
            line = serde_json::to_vec(&brief).unwrap_or_default();
        }
        line.push(b'\n');
        line
    }
}

/// A record without what makes it long.
#[derive(Serialize)]
struct Brief<'a> {
    time: &'a str,
    unix_ms: u64,
    seq: u64,
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    level: Level,
    kind: &'a str,
    text: String,
}

fn rfc3339(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    format!("{time:.3}")
}

/// What is read of a line: all that every version of this program writes.
#[derive(Debug, Deserialize)]
pub(crate) struct Line<'a> {
    /// When: milliseconds since 1970.
    pub(crate) unix_ms: u64,
    #[serde(borrow)]
    pub(crate) node: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) resource: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(crate) epoch: Option<u64>,
    #[serde(borrow)]
    pub(crate) level: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) text: Cow<'a, str>,
}

impl<'a> Line<'a> {
    /// `None`: it is not whole, or something else.
    pub(crate) fn read(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// A file of the history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
}

impl Segment {
    fn new(directory: &Path, number: u64) -> Self {
        Self { number, path: directory.join(format!("{PREFIX}{number:010}")) }
    }
}

/// The files of a history, the oldest first.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn segments(directory: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(PREFIX)).and_then(|number| number.parse().ok());
        found.extend(number.map(|number| Segment { number, path: path.clone() }));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_of_json_with_the_words_of_the_log() {
        let event = Event::Connected { remote: "b\n(tcp4://192.0.2.2)".to_string() };
        let record = Record::new(1_763_856_448_123, 7, "a", Some("web"), Some(17), event);
        let expected = concat!(
            r#"{"time":"2025-11-23T00:07:28.123Z","unix_ms":1763856448123,"seq":7,"node":"a","resource":"web","epoch":17,"level":"info","#,
            r#""kind":"connected","detail":{"remote":"b\n(tcp4://192.0.2.2)"},"text":"connected to b\n(tcp4://192.0.2.2)"}"#,
            "\n"
        );
        let line = record.to_line();
        assert_eq!(String::from_utf8(line.clone()).unwrap(), expected);
        let read = Line::read(&line).unwrap();
        assert_eq!(
            (read.unix_ms, &*read.kind, &*read.text),
            (1_763_856_448_123, "connected", "connected to b\n(tcp4://192.0.2.2)")
        );
        assert_eq!((read.resource.as_deref(), read.epoch), (Some("web"), Some(17)));
        assert!(Line::read(&line[..line.len() - 3]).is_none());
    }

    #[test]
    fn every_kind_is_in_the_manual() {
        let manual = include_str!("../../../../docs/man/hastmonctl.8");
        let has = |kind: &str| manual.lines().any(|line| line.trim_end_matches(" ,") == format!(".Ql {kind}"));
        let missing: Vec<_> = Event::KINDS.iter().filter(|kind| !has(kind)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn a_line_that_would_be_too_long_keeps_what_matters() {
        let event = Event::WorkerNotStarted { why: "é".repeat(MAX_LINE) };
        let line = Record::new(0, 1, "a", None, None, event).to_line();
        assert!(line.len() < MAX_LINE, "{}", line.len());
        let read = Line::read(&line).unwrap();
        assert_eq!(&*read.kind, "worker_not_started");
        assert!(read.text.starts_with("cannot start a worker process, trying again: éé"));
    }
}
