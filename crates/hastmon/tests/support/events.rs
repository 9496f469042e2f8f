//! The resource's log: one line for each call of the exec script and for each change of what really runs.
//! All nodes of a laboratory append to one file, so the order of its lines is the order of what happened.

use std::collections::{BTreeMap, BTreeSet};

use super::time::seconds;

/// One line: `<ns since boot> <node> <what> <arguments...> pid=<pid>`.
///
/// `what` is the event that the script was called with, or one of
/// `up` (the resource is about to run), `down` (it has certainly ended), `died` (somebody ended it, or the whole node when
/// no resource is named), `frozen` (all of the node's processes are stopped), `thawed` (they go on, and so does what ran there).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// To 10 ms, which is what a shell can read of the clock without starting a process.
    pub(crate) at_ns: u64,
    pub(crate) node: String,
    pub(crate) what: String,
    pub(crate) args: Vec<String>,
    pub(crate) pid: i32,
}

impl Event {
    /// `what` and arguments, such as `role res init primary`.
    pub(crate) fn call(&self) -> String {
        std::iter::once(&self.what).chain(&self.args).map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// Reads a log. A torn last line (its writer was killed) is left out.
pub(crate) fn parse(text: &str) -> Vec<Event> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Event> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let pid = words.pop()?.strip_prefix("pid=")?.parse().ok()?;
    let (head, args) = words.split_at_checked(3)?;
    let [at, node, what] = head else { return None };
    Some(Event {
        at_ns: at.parse().ok()?,
        node: (*node).to_owned(),
        what: (*what).to_owned(),
        args: args.iter().map(|word| (*word).to_owned()).collect(),
        pid,
    })
}

/// A span in which one resource ran on more than one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overlap {
    pub(crate) resource: String,
    pub(crate) nodes: Vec<String>,
    pub(crate) from_ns: u64,
    /// `None`: until the end of the log.
    pub(crate) until_ns: Option<u64>,
}

impl std::fmt::Display for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Overlap { resource, nodes, from_ns, until_ns } = self;
        let length = match until_ns {
            Some(until) => format!("for {:.2} s", seconds(until.saturating_sub(*from_ns))),
            None => "until the end of the test".to_owned(),
        };
        write!(f, "{resource} ran on {} at {:.2} s, {length}", nodes.join(" and "), seconds(*from_ns))
    }
}

/// All spans in which a resource ran on two nodes or more.
pub(crate) fn overlaps(events: &[Event]) -> Vec<Overlap> {
    let mut running: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut frozen: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut open: BTreeMap<&str, Overlap> = BTreeMap::new();
    let mut found = Vec::new();
    for event in events {
        let resource = event.args.first().map(String::as_str);
        match (event.what.as_str(), resource) {
            ("up", Some(resource)) => {
                running.entry(resource).or_default().insert(&event.node);
            }
            ("down" | "died", Some(resource)) => {
                running.entry(resource).or_default().remove(event.node.as_str());
            }
            ("died", None) => {
                running.values_mut().for_each(|nodes| _ = nodes.remove(event.node.as_str()));
                frozen.retain(|(_, node)| *node != event.node);
            }
            ("frozen", None) => {
                for (resource, nodes) in &mut running {
                    if nodes.remove(event.node.as_str()) {
                        frozen.insert((*resource, &event.node));
                    }
                }
            }
            ("thawed", None) => {
                for (resource, nodes) in &mut running {
                    if frozen.remove(&(*resource, event.node.as_str())) {
                        nodes.insert(&event.node);
                    }
                }
            }
            _ => continue,
        }
        for (resource, nodes) in &running {
            if nodes.len() < 2 {
                found.extend(open.remove(resource).map(|overlap| Overlap { until_ns: Some(event.at_ns), ..overlap }));
            } else if !open.contains_key(resource) {
                let nodes = nodes.iter().map(ToString::to_string).collect();
                let resource_name = (*resource).to_owned();
                let overlap = Overlap { resource: resource_name, nodes, from_ns: event.at_ns, until_ns: None };
                open.insert(resource, overlap);
            }
        }
    }
    found.extend(open.into_values());
    found
}
