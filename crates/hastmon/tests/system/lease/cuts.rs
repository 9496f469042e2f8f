//! Cut links: every subset of the one-way links of three nodes, and of five nodes every single one, every division, and many more. The same
//! hosts go through many cuts; after each the network heals, and the next cut finds the primary wherever it is by then.
//!
//! All the time nothing may run twice. What each cut comes to besides follows from who reaches whom: a connection needs both ways.
//!
//! Always run: every second or third of the cuts of three nodes and of the main ones of five, others each time. `HASTMON_ALL_CUTS=1` has both
//! lists in full (4 minutes), the ignored test every set of pairs of five nodes.

use std::collections::BTreeSet;

use super::plan;
use crate::support::events::overlaps;
use crate::support::lab::{Lab, Plan};
use crate::support::time::{pause, wait_for};

const ALL: &str = "HASTMON_ALL_CUTS";

/// (lease 2 s + stop_timeout 2 s) x 1.01, and the time of an election.
const HOLD: std::time::Duration = std::time::Duration::from_millis(4_600);

/// What one node sends to another is lost.
type OneWay = (&'static str, &'static str);
type Cut = BTreeSet<OneWay>;

const THREE: [&str; 3] = ["a", "b", "w"];
const FIVE: [&str; 5] = ["a", "b", "c", "w", "v"];

fn runs_resource(node: &str) -> bool {
    !matches!(node, "w" | "v")
}

/// All one-way links.
fn links(nodes: &[&'static str]) -> Vec<OneWay> {
    let pairs = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
    pairs.filter(|(from, to)| from != to).collect()
}

/// Those links whose bits are set.
fn chosen(links: &[OneWay], bits: usize) -> Cut {
    links.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, link)| *link).collect()
}

/// Whether two nodes can talk.
fn talk(cut: &Cut, one: &str, other: &str) -> bool {
    !cut.iter().any(|(from, to)| (*from, *to) == (one, other) || (*from, *to) == (other, one))
}

/// How many votes a node reaches, its own among them.
fn reach(nodes: &[&str], cut: &Cut, node: &str) -> usize {
    nodes.iter().filter(|other| **other == node || talk(cut, node, other)).count()
}

fn running(lab: &Lab) -> Vec<String> {
    lab.nodes().filter(|node| lab.running(node) > 0).map(str::to_owned).collect()
}

/// One cut, from its beginning to the end of all that follows from it.
fn go_through(lab: &Lab, nodes: &[&str], cut: &Cut) {
    let majority = nodes.len() / 2 + 1;
    let primary = running(lab).first().cloned().expect("it runs");
    lab.hosts().cut_all(cut.iter().copied());
    pause(HOLD);
    let keeps = reach(nodes, cut, &primary) >= majority;
    // A secondary needs votes, and somebody who tells it that there is no primary.
    let could_take_over = |node: &&&str| {
        let told = ["w", "v"].iter().any(|watchdog| nodes.contains(watchdog) && talk(cut, node, watchdog));
        runs_resource(node) && reach(nodes, cut, node) >= majority && told
    };
    let may_move = nodes.iter().filter(could_take_over).count() > 0;
    if keeps || may_move {
        wait_for(&format!("somebody runs it, {primary} did, lost: {cut:?}"), || !running(lab).is_empty());
    } else {
        wait_for(&format!("{primary} stops, lost: {cut:?}"), || running(lab).is_empty());
    }
    if !keeps {
        lab.wait_stopped(&primary);
    }
    lab.assert_never_two();
    lab.hosts().heal();
    wait_for(&format!("all is well after {cut:?}"), || {
        let Some(primary) = running(lab).first().cloned() else { return false };
        let all = format!("{0} of {0} votes", nodes.len());
        lab.res(&primary).says("lease").contains(&all)
            && nodes.iter().all(|node| {
                let block = lab.res(node);
                match block.role.as_str() {
                    "primary" => *node == primary && block.state.as_deref() == Some("run"),
                    "secondary" => block.says("standby").starts_with("would") && block.says("lease").contains(&primary),
                    role => role == "watchdog" && block.state.as_deref() == Some("run"),
                }
            })
    });
    lab.assert_never_two();
}

/// Takes hosts through a part of a list, so that the parts can run side by side.
fn part(nodes: &[&'static str], cuts: &[Cut], part: usize, of: usize) {
    let plan = plan(nodes)
        .set("heartbeat_interval", "250ms")
        .set("timeout", "1")
        .set("complaint_interval", "5")
        .set("lease", "2")
        .set("stop_timeout", "2");
    let Some(lab) = plan.hosts() else { return };
    lab.run_standard();
    let mine: Vec<&Cut> = cuts.iter().skip(part).step_by(of).collect();
    for cut in &mine {
        go_through(&lab, nodes, cut);
    }
    println!("{} cuts of {} nodes, never two at once", mine.len(), nodes.len());
}

/// Every subset of the six one-way links.
fn cuts_of_three() -> Vec<Cut> {
    let links = links(&THREE);
    (1..1 << links.len()).map(|bits| chosen(&links, bits)).collect()
}

/// The one-way links between two groups.
fn between(group: usize, both_ways: bool) -> Cut {
    let inside = |node: &str| FIVE.iter().position(|name| *name == node).is_some_and(|at| group >> at & 1 == 1);
    let crosses = |(from, to): &OneWay| inside(from) != inside(to) && (both_ways || inside(from));
    links(&FIVE).into_iter().filter(crosses).collect()
}

/// Those that say most of five nodes: every one-way link alone, every division into two groups, every group that is heard or hears but not
/// both. Sixteen of the groups are the other sixteen's complements.
fn main_cuts_of_five() -> Vec<Cut> {
    let alone = links(&FIVE).into_iter().map(|link| Cut::from([link]));
    let divided = (1..16).map(|group| between(group, true));
    let one_way = (1..31).map(|group| between(group, false));
    alone.chain(divided).chain(one_way).collect()
}

/// Every set of pairs that cannot talk: what a connection needs both ways for, it cannot tell from a link that is cut one way.
fn all_cuts_of_five() -> Vec<Cut> {
    let links = links(&FIVE);
    let pairs: Vec<OneWay> = links.into_iter().filter(|(from, to)| from < to).collect();
    // One way in half of them, the other way in others, both ways in the rest.
    let cut = |bits: usize| -> Cut {
        let links = chosen(&pairs, bits).into_iter().enumerate();
        links
            .flat_map(|(at, (from, to))| match (bits + at) % 3 {
                0 => vec![(from, to)],
                1 => vec![(to, from)],
                _ => vec![(from, to), (to, from)],
            })
            .collect()
    };
    (1..1 << pairs.len()).map(cut).collect()
}

/// As many of a list as there is time for: another share of it each time, unless all is wanted.
fn share(cuts: Vec<Cut>, most: usize) -> Vec<Cut> {
    if std::env::var_os(ALL).is_some_and(|value| value == "1") || cuts.len() <= most {
        return cuts;
    }
    let step = cuts.len().div_ceil(most);
    let first = usize::try_from(std::process::id()).unwrap() % step;
    println!("every {step}th of {} cuts, from number {first} on; {ALL}=1 takes all", cuts.len());
    cuts.into_iter().skip(first).step_by(step).collect()
}

/// A primary that keeps one of two secondaries, among those who know no lease: so the record shows it when something runs twice.
#[test]
fn without_the_lease_such_a_cut_is_found_to_run_the_resource_twice() {
    let Some(lab) = Plan::new(&["a", "b", "c", "w"]).hosts() else { return };
    lab.may_overlap();
    lab.run_standard();
    lab.hosts().cut_all([("a", "c"), ("a", "w"), ("c", "a"), ("w", "a")]);
    wait_for("it runs twice", || running(&lab).len() == 2);
    wait_for("the record shows it", || !overlaps(&lab.events()).is_empty());
}

#[test]
fn every_cut_of_three_nodes_part_1() {
    part(&THREE, &share(cuts_of_three(), 32), 0, 4);
}

#[test]
fn every_cut_of_three_nodes_part_2() {
    part(&THREE, &share(cuts_of_three(), 32), 1, 4);
}

#[test]
fn every_cut_of_three_nodes_part_3() {
    part(&THREE, &share(cuts_of_three(), 32), 2, 4);
}

#[test]
fn every_cut_of_three_nodes_part_4() {
    part(&THREE, &share(cuts_of_three(), 32), 3, 4);
}

#[test]
fn cuts_of_five_nodes_part_1() {
    part(&FIVE, &share(main_cuts_of_five(), 24), 0, 4);
}

#[test]
fn cuts_of_five_nodes_part_2() {
    part(&FIVE, &share(main_cuts_of_five(), 24), 1, 4);
}

#[test]
fn cuts_of_five_nodes_part_3() {
    part(&FIVE, &share(main_cuts_of_five(), 24), 2, 4);
}

#[test]
fn cuts_of_five_nodes_part_4() {
    part(&FIVE, &share(main_cuts_of_five(), 24), 3, 4);
}

#[test]
#[ignore = "an hour: cargo test -p hastmon --test system all_cuts_of_five -- --ignored"]
fn all_cuts_of_five_nodes() {
    let cuts = all_cuts_of_five();
    std::thread::scope(|scope| {
        for at in 0..8 {
            let cuts = &cuts;
            scope.spawn(move || part(&FIVE, cuts, at, 8));
        }
    });
}
