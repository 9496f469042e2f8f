//! What hastmonctl shows to people, and to programs: a summary and colours on a terminal, JSON, sentences. Decides how it looks; what is
//! wrong was decided by the daemon.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use hastmon_core::types::{Role, State};
use hastmon_core::wire::detail::{Detail, Trouble};
use hastmon_core::wire::reply::{Entry, ResourceStatus};
use serde_json::{Value, json};

/// The version of what `status --json` prints; docs/status.schema.json describes it. It grows when something is removed or means something else.
const SCHEMA: u32 = 1;
/// Columns that a sentence may take.
const WIDTH: usize = 80;

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// A terminal that people read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    pub(crate) has_colours: bool,
}

impl Screen {
    /// Standard output, if it is one. Colours only where they are wanted (no-color.org) and can be shown.
    pub(crate) fn of_stdout() -> Option<Self> {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        io::stdout().is_terminal().then(|| Self { has_colours: !is_set("NO_COLOR") && !is_dumb })
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.has_colours { format!("{colour}{text}{PLAIN}") } else { text.to_string() }
    }

    fn trouble(self, is_grave: bool, text: &str) -> String {
        self.paint(if is_grave { RED } else { YELLOW }, text)
    }
}

/// The blocks of `status`, with a summary before them and what is wrong in each.
pub(crate) fn for_people(blocks: &[(&Entry<ResourceStatus>, String)], screen: Screen) -> String {
    let mut text = summary(blocks.iter().map(|(entry, _)| *entry), screen) + "\n\n";
    for (entry, block) in blocks {
        let mut lines = block.split_inclusive('\n');
        let head = lines.next().unwrap_or_default();
        text += &screen.paint(BOLD, head.trim_end());
        text.push('\n');
        for trouble in troubles(entry) {
            text += &screen.trouble(trouble.is_grave, &format!("  ! {}", trouble.text));
            text.push('\n');
        }
        text.extend(lines);
    }
    text
}

/// One line: how many run, and what is wrong with which.
pub(crate) struct Summary {
    pub(crate) counts: String,
    /// Whether it is grave, and which resource with what.
    pub(crate) troubles: Vec<(bool, String)>,
}

/// Counts, and looks for what is wrong.
pub(crate) fn summarize<'a>(entries: impl Iterator<Item = &'a Entry<ResourceStatus>> + Clone) -> Summary {
    let known = entries.clone().filter_map(|entry| entry.outcome.as_ref().ok());
    let runs = known.clone().filter(|status| runs(status)).count();
    let all = known.count();
    let (resources, verb) = if all == 1 { ("resource", "runs") } else { ("resources", "run") };
    let in_words = |entry: &Entry<ResourceStatus>| {
        let troubles = troubles(entry);
        let words: Vec<&str> = troubles.iter().map(|trouble| trouble.text.as_str()).collect();
        let is_grave = troubles.iter().any(|trouble| trouble.is_grave);
        (!troubles.is_empty()).then(|| (is_grave, format!("{}: {}", entry.resource, words.join(", "))))
    };
    Summary { counts: format!("{runs} of {all} {resources} {verb}"), troubles: entries.filter_map(in_words).collect() }
}

fn summary<'a>(entries: impl Iterator<Item = &'a Entry<ResourceStatus>> + Clone, screen: Screen) -> String {
    let Summary { counts, troubles } = summarize(entries);
    troubles.iter().fold(counts, |text, (is_grave, trouble)| text + "; " + &screen.trouble(*is_grave, trouble))
}

fn troubles(entry: &Entry<ResourceStatus>) -> &[Trouble] {
    let detail = entry.outcome.as_ref().ok().and_then(|status| status.detail.as_ref());
    detail.map_or(&[], |detail| detail.troubles.as_slice())
}

/// Whether it runs somewhere, as far as is known here.
fn runs(status: &ResourceStatus) -> bool {
    let is_known = status.detail.as_ref().is_some_and(|detail| detail.runs_on.is_some());
    let is_run = |worker: &hastmon_core::wire::reply::WorkerStatus| worker.state == State::Run;
    is_known || status.worker.as_ref().is_some_and(is_run)
}

/// For programs.
pub(crate) fn json(entries: &[Entry<ResourceStatus>]) -> String {
    let resources: Vec<Value> = entries.iter().map(json_of).collect();
    format!("{:#}\n", json!({ "schema": SCHEMA, "resources": resources }))
}

fn json_of(entry: &Entry<ResourceStatus>) -> Value {
    let status = match &entry.outcome {
        Err(error) => return json!({ "name": entry.resource, "error": error }),
        Ok(status) => status,
    };
    let remotes: Vec<Value> = status
        .remotes
        .iter()
        .map(|remote| json!({ "address": remote.addr, "role": remote.role, "state": remote.state }))
        .collect();
    let mut value = json!({
        "name": entry.resource,
        "role": status.role.as_str(),
        "state": status.worker.as_ref().map(|worker| worker.state.as_str()),
        "runs": runs(status),
        "worker_pid": (status.workerpid != 0).then_some(status.workerpid),
        "exec": status.exec,
        "attempts": status.worker.as_ref().map(|worker| worker.attempts),
        "max_attempts": status.attempts_max,
        "complaints": status.complaints,
        "complaint_count": status.complaints_critical,
        "complaint_interval_seconds": status.complaints_interval.as_secs_f64(),
        "heartbeat_interval_seconds": status.heartbeat.as_secs_f64(),
        "silent_for_seconds": status.stuck_for.as_ref().map(Duration::as_secs_f64),
        "remotes": remotes,
    });
    if let (Some(detail), Some(fields)) = (&status.detail, value.as_object_mut()) {
        fields.extend(detail_fields(detail));
    }
    value
}

fn detail_fields(detail: &Detail) -> Vec<(String, Value)> {
    let seconds = |span: &Option<Duration>| span.as_ref().map(Duration::as_secs_f64);
    let troubles = |trouble: &Trouble| json!({ "grave": trouble.is_grave, "text": trouble.text });
    let differences = detail
        .differences
        .iter()
        .map(|other| json!({ "node": other.node, "setting": other.setting, "here": other.here, "there": other.there }));
    let nodes = detail.nodes.iter().map(|node| {
        json!({
            "node": node.node,
            "role": node.role.map(Role::as_str),
            "state": node.state.map(State::as_str),
            "priority": node.priority,
            "connected_seconds": seconds(&node.connected_for),
        })
    });
    let bound = detail
        .bound
        .as_ref()
        .map(|(node, left)| json!({ "node": node, "seconds_left": left.as_secs_f64(), "kept": detail.is_bound_kept }));
    let pause = detail.pause.as_ref().map(|(node, paused)| {
        json!({
            "by": paused.by,
            "node": node,
            "since_unix_seconds": paused.since_unix_s,
            "seconds_left": seconds(&paused.left),
        })
    });
    let kept = detail.kept.as_ref().map(|(node, votes)| json!({ "node": node, "votes": votes }));
    let fields = [
        ("node", json!(detail.node)),
        ("pause", json!(pause)),
        ("votes_kept_for", json!(kept)),
        ("runs_on", json!(detail.runs_on)),
        ("protection", json!(detail.protection.as_str())),
        ("epoch", json!(detail.epoch)),
        ("lease_seconds_left", json!(seconds(&detail.lease_left))),
        ("lease_kept", json!(detail.is_kept)),
        ("forced", json!(detail.is_forced)),
        ("votes", json!(detail.votes)),
        ("nodes_in_reach", json!(detail.in_reach)),
        ("voters", json!(detail.voters)),
        ("votes_needed", json!(detail.needed)),
        ("vote_bound_to", json!(bound)),
        ("standby_seconds", json!(seconds(&detail.standby))),
        ("gives_no_votes", json!(detail.no_votes)),
        ("waits_for", json!(detail.waits)),
        ("lateness_seconds", json!(seconds(&detail.lateness))),
        ("troubles", detail.troubles.iter().map(troubles).collect()),
        ("nodes", nodes.collect()),
        ("differences", differences.collect()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

/// Sentences under their headings.
pub(crate) fn sentences(sentences: &[(String, String)]) -> String {
    let mut text = String::new();
    let mut last = None;
    for (heading, sentence) in sentences {
        if last != Some(heading) {
            let gap = if text.is_empty() { "" } else { "\n" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{gap}{heading}:");
            last = Some(heading);
        }
        text += &wrap(sentence);
    }
    text
}

/// A sentence as an item of a list.
fn wrap(sentence: &str) -> String {
    let mut text = String::from("  -");
    let mut column = text.len();
    for word in sentence.split(' ') {
        let length = word.chars().count();
        if column + 1 + length > WIDTH {
            text += "\n   ";
            column = 3;
        }
        text.push(' ');
        text += word;
        column += 1 + length;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hastmon_core::wire::reply::WorkerStatus;

    fn entry(name: &str, state: State, runs_on: Option<&str>, troubles: &[(bool, &str)]) -> Entry<ResourceStatus> {
        let troubles =
            troubles.iter().map(|(is_grave, text)| Trouble { is_grave: *is_grave, text: (*text).to_string() });
        let detail =
            Detail { runs_on: runs_on.map(ToString::to_string), troubles: troubles.collect(), ..Detail::default() };
        let status = ResourceStatus {
            exec: "/x".to_string(),
            attempts_max: 5,
            remotes: Vec::new(),
            role: Role::Primary,
            workerpid: 7,
            complaints: 0,
            complaints_critical: 3,
            complaints_interval: Duration::from_secs(60),
            heartbeat: Duration::from_secs(1),
            worker: Some(WorkerStatus { state, attempts: 0 }),
            stuck_for: None,
            lines: Vec::new(),
            detail: Some(detail),
        };
        Entry { resource: name.to_string(), outcome: Ok(status) }
    }

    #[test]
    fn the_summary_counts_and_names_what_is_wrong() {
        let entries = [
            entry("web", State::Run, Some("a"), &[]),
            entry("db", State::Stopped, Some("b"), &[]),
            entry("storage", State::Stopped, None, &[(true, "no primary"), (true, "1 of 3 votes")]),
        ];
        let without = Screen { has_colours: false };
        let text = "2 of 3 resources run; storage: no primary, 1 of 3 votes";
        assert_eq!(summary(entries.iter(), without), text);
        let with = summary(entries.iter(), Screen { has_colours: true });
        assert_eq!(with, "2 of 3 resources run; \u{1b}[31mstorage: no primary, 1 of 3 votes\u{1b}[0m");
    }

    #[test]
    fn what_is_coloured_is_said_in_words_as_well() {
        let storage = entry("storage", State::Stopped, None, &[(true, "no primary"), (false, "1 complaint")]);
        let blocks = [(&storage, "storage:\n  role: secondary\n\n".to_string())];
        let plain = for_people(&blocks, Screen { has_colours: false });
        let expected = "0 of 1 resource runs; storage: no primary, 1 complaint\n\n\
                        storage:\n  ! no primary\n  ! 1 complaint\n  role: secondary\n\n";
        assert_eq!(plain, expected);
        let mut coloured = for_people(&blocks, Screen { has_colours: true });
        assert!(coloured.contains(RED) && coloured.contains(YELLOW));
        for code in [RED, YELLOW, BOLD, PLAIN] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, plain);
    }

    #[test]
    fn the_summary_has_the_colour_of_the_gravest_wherever_that_stands() {
        let entries = [entry("web", State::Run, None, &[(false, "paused by root on a"), (true, "1 of 3 votes")])];
        let text = summary(entries.iter(), Screen { has_colours: true });
        assert_eq!(text, "1 of 1 resource runs; \u{1b}[31mweb: paused by root on a, 1 of 3 votes\u{1b}[0m");
    }

    #[test]
    fn sentences_are_wrapped_under_their_headings() {
        let long = "word ".repeat(30).trim_end().to_string();
        let pairs = [("Why", long.as_str()), ("Why", "b."), ("Protection", "c.")];
        let text = sentences(&pairs.map(|(heading, text)| (heading.to_string(), text.to_string())));
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.starts_with("Why:\n  - word") && text.ends_with("  - b.\n\nProtection:\n  - c.\n"), "{text}");
    }
}
