//! What follows from the settings of one resource: how soon a failure is seen and made good, what may fail, and what may not.
//! The arithmetic is [`timing`]'s, by which the machines go. Decides nothing about a running cluster.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::Resource;
use crate::lease::Voters;
use crate::members::REST_BEATS;
use crate::peers::SILENT_BEATS;
use crate::time::Duration;
use crate::timing;
use crate::types::Role;

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consequences {
    /// From the last sign of a primary until enough complaints are made.
    pub detection: Duration,
    /// From the last sign of a primary that loses its power until another node begins to start the resource; about.
    pub takeover: Duration,
    /// From the end of a daemon that is killed until another node begins to start the resource: as long as `stop` takes, at most this.
    pub after_killed_daemon: Duration,
    /// From the last sign of a primary that loses its power until the resource runs elsewhere, when its `start` takes all of its time.
    pub longest_interruption: Duration,
    /// The nodes that vote.
    pub nodes: Vec<String>,
    /// Votes that make a primary.
    pub needed: usize,
    /// How many nodes may fail while the others go on.
    pub may_fail: usize,
    /// Nodes that are watchdog from their start.
    pub watchdogs: Vec<String>,
    /// Nodes that may run it.
    pub runners: Vec<String>,
    /// Single points of failure and the like, in sentences.
    pub warnings: Vec<String>,
}

/// What one of the nodes makes of the file, as far as it matters to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its role from the start on.
    pub role_on_start: Role,
    /// The time between its heartbeats.
    pub heartbeat_interval: Duration,
}

/// What follows from the settings here; `nodes`: what each of the nodes has.
pub fn consequences(resource: &Resource, nodes: &[Node]) -> Consequences {
    let voters = Voters::new(resource.nodes.iter().cloned());
    let of = |is: fn(Role) -> bool| {
        nodes.iter().filter(|node| is(node.role_on_start)).map(|node| node.name.clone()).collect::<Vec<_>>()
    };
    let watchdogs: Vec<String> = of(|role| role == Role::Watchdog);
    let runners: Vec<String> = of(|role| role != Role::Watchdog);
    let may_fail = voters.len() - voters.majority();
    let mut warnings = Vec::new();
    match voters.len() {
        1 => warnings.push(format!("{} is the only node: nobody can take over.", voters)),
        2 => warnings.push(format!(
            "There are two nodes only ({voters}): when one of them fails, the other has no majority and stops the resource too. \
             Add a third, a watchdog."
        )),
        many if many % 2 == 0 => {
            warnings.push(format!("{many} nodes stand no more failures than {}: {may_fail}.", many - 1));
        }
        _ => {}
    }
    match watchdogs.as_slice() {
        _ if voters.len() == 1 => {}
        [] => warnings.push(
            "No node has role_on_start watchdog: unless that role is given by hand after each start of a daemon, nobody \
             complains, and nobody takes over from a node that fails."
                .into(),
        ),
        [only] => warnings.push(format!(
            "{only} is the only watchdog: while it is down, nobody takes over from a node that fails."
        )),
        _ => {}
    }
    match runners.as_slice() {
        [] => warnings.push("Every node is watchdog: nobody runs it.".into()),
        [only] if voters.len() > 1 => {
            warnings.push(format!("{only} is the only node that can run it: nobody can take over."));
        }
        several if several.len() == of(|role| role == Role::Init).len() => warnings.push(
            "role_on_start is init on all nodes that could run it: after all of them were off, nobody runs it until an operator \
             gives out roles."
                .into(),
        ),
        _ => {}
    }
    let primaries = of(|role| role == Role::Primary);
    if primaries.len() > 1 {
        warnings.push(format!(
            "{} are all primary from their start: the one with the lowest priority number gets it, also from another one that \
             runs it.",
            primaries.join(" and ")
        ));
    }
    warnings.extend(heartbeats_apart(nodes));
    let takeover = timing::takeover(resource);
    Consequences {
        detection: timing::detection(resource),
        takeover,
        after_killed_daemon: resource.stop_timeout,
        longest_interruption: takeover.saturating_add(resource.start_timeout),
        nodes: resource.nodes.clone(),
        needed: voters.majority(),
        may_fail,
        watchdogs,
        runners,
        warnings,
    }
}

/// Two nodes whose heartbeats do not go together, in a sentence.
fn heartbeats_apart(nodes: &[Node]) -> Option<String> {
    let fastest = nodes.iter().min_by_key(|node| node.heartbeat_interval)?;
    let slowest = nodes.iter().max_by_key(|node| node.heartbeat_interval)?;
    // Who rests is heard of at every REST_BEATS-th heartbeat of its own.
    let is_lost = slowest.heartbeat_interval * REST_BEATS >= fastest.heartbeat_interval * SILENT_BEATS;
    is_lost.then(|| {
        let (of_fastest, of_slowest) = (fastest.heartbeat_interval, slowest.heartbeat_interval);
        let (fast, slow) = (&fastest.name, &slowest.name);
        format!(
            "heartbeat_interval is {of_slowest:?} on {slow} and {of_fastest:?} on {fast}: {fast} loses its connection from {slow} \
             again and again. Let it be the same on all nodes."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::lease::lease_config;
    use crate::testing::s;

    fn of(nodes: &[&str], roles: &[Role], inside: &str) -> Consequences {
        let resource = lease_config(nodes, "", inside).resources.remove(0);
        let node = |(name, role): (&String, &Role)| Node {
            name: name.clone(),
            role_on_start: *role,
            heartbeat_interval: resource.heartbeat_interval,
        };
        let nodes: Vec<_> = resource.nodes.iter().zip(roles).map(node).collect();
        consequences(&resource, &nodes)
    }

    #[track_caller]
    fn warns(found: &Consequences, part: &str) {
        assert!(found.warnings.iter().any(|warning| warning.contains(part)), "{part}: {:#?}", found.warnings);
    }

    #[test]
    fn the_times_are_those_of_the_machines() {
        use Role::{Primary, Secondary, Watchdog};
        let found = of(&["b", "c"], &[Primary, Secondary, Watchdog], "lease 6 stop_timeout 4");
        // 4 complaints, a heartbeat apart, and a sixteenth of one; (6 s + 4 s) x 1.01.
        assert_eq!(found.detection, Duration::from_micros(4_062_500));
        assert_eq!((found.takeover, found.after_killed_daemon), (Duration::from_millis(10_100), s(4)));
        assert_eq!(found.longest_interruption, Duration::from_millis(70_100));
        assert_eq!((found.needed, found.may_fail), (2, 1));
        assert_eq!((found.watchdogs.join(" "), found.runners.join(" ")), ("c".into(), "a b".into()));
        assert_eq!(
            found.warnings,
            ["c is the only watchdog: while it is down, nobody takes over from a node that fails."]
        );
    }

    #[test]
    fn single_points_of_failure_are_named() {
        use Role::{Init, Primary, Secondary, Watchdog};
        warns(&of(&[], &[Primary], ""), "a is the only node");
        warns(&of(&["b"], &[Primary, Secondary], ""), "two nodes only (a b)");
        warns(&of(&["b", "c"], &[Primary, Secondary, Secondary], ""), "No node has role_on_start watchdog");
        warns(&of(&["b", "c"], &[Primary, Watchdog, Watchdog], ""), "a is the only node that can run it");
        warns(&of(&["b", "c"], &[Init, Init, Watchdog], ""), "role_on_start is init");
        warns(&of(&["b", "c"], &[Primary, Primary, Watchdog], ""), "a and b are all primary");
        warns(
            &of(&["b", "c", "d"], &[Primary, Secondary, Watchdog, Watchdog], ""),
            "4 nodes stand no more failures than 3: 1",
        );
        let five = of(&["b", "c", "d", "e"], &[Primary, Secondary, Secondary, Watchdog, Watchdog], "");
        assert_eq!((five.may_fail, five.warnings.len()), (2, 0));
    }

    #[test]
    fn heartbeats_that_do_not_go_together_are_named() {
        let resource = lease_config(&["b"], "", "").resources.remove(0);
        let of = |b: u64| {
            let node = |name: &str, ms| Node {
                name: name.into(),
                role_on_start: Role::Secondary,
                heartbeat_interval: Duration::from_millis(ms),
            };
            consequences(&resource, &[node("a", 1_000), node("b", b)])
        };
        warns(&of(2_000), "heartbeat_interval is 2s on b and 1s on a: a loses its connection from b");
        warns(&of(400), "heartbeat_interval is 1s on a and 400ms on b: b loses its connection from a");
        for ms in [510, 1_000, 1_990] {
            assert!(!of(ms).warnings.iter().any(|warning| warning.contains("heartbeat_interval")), "{ms}");
        }
    }
}
