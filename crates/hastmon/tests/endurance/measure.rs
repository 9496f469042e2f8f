//! What a node's processes have of the machine: descriptors, memory, children.

use std::collections::BTreeMap;
use std::fs;

use crate::support::lab::Lab;
use crate::support::process::{descriptors, title, tree};

/// Memory that a node may have more at the end than at the start, in kB: an allocator keeps what it once needed. A leak of 1 kB for each
/// connection with garbage would come to as much in a minute, and to sixty times as much in an hour.
pub(crate) const TOLERANCE_KB: u64 = 400;

/// What one node has while its cluster is at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// Titles of the processes, the daemon being the one without; with the kinds of their descriptors, each as often as there are.
    pub(crate) processes: Vec<(String, BTreeMap<String, usize>)>,
    /// Their own memory: the anonymous part of PSS. The rest is what they map of programs and libraries; their share in it depends on who
    /// else on this machine maps the same, and they cannot make it grow.
    pub(crate) memory_kb: u64,
}

impl Footprint {
    /// Of the daemon and its workers; `None` while a hook runs, so that somebody looks again.
    pub(crate) fn of(lab: &Lab, node: &str) -> Option<Self> {
        let daemon = lab.pid(node);
        let pids = tree(daemon);
        let mut processes = Vec::new();
        for pid in &pids {
            let name = if *pid == daemon { String::new() } else { title(*pid)? };
            if *pid != daemon && !name.starts_with("hastmon: ") {
                return None;
            }
            let mut kinds = BTreeMap::new();
            for (_, target) in descriptors(*pid) {
                let kind = target.split(':').next().unwrap_or_default().to_owned();
                *kinds.entry(kind).or_insert(0) += 1;
            }
            processes.push((name, kinds));
        }
        processes.sort();
        Some(Self { processes, memory_kb: pids.iter().map(|pid| memory_kb(*pid)).sum() })
    }

    pub(crate) fn descriptor_count(&self) -> usize {
        self.processes.iter().flat_map(|(_, kinds)| kinds.values()).sum()
    }
}

fn memory_kb(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
