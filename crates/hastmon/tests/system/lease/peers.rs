//! Nodes that do not fit together: each side says what differs.

use super::{cluster, plan, wait_line, wait_says};
use crate::support::lab::Lab;
use crate::support::peer::{complain, poll};
use crate::support::time::wait_for;

const KEY: &str = "\tkey {\n\t\talgorithm SHA256\n\t\tsecret \"one secret that is long enough\"\n\t}\n";

/// Starts a node with another configuration than the rest.
fn start_with(lab: &Lab, node: &str, text: &str) {
    lab.write_config(text);
    lab.start(node);
}

#[test]
fn with_a_key_all_is_as_without() {
    let lab = plan(&["a", "b", "w"]).in_resource(KEY).loopback();
    lab.run_standard();
    lab.kill("a");
    lab.wait_status("b", "primary", "run");
}

#[test]
fn nodes_with_different_keys_say_so_on_both_sides_and_do_not_vote() {
    let lab = plan(&["a", "b", "w"]).in_resource(KEY).loopback();
    let good = lab.standard_config();
    let other = good.replace("one secret", "another secret");
    lab.start("a");
    start_with(&lab, "b", &other);
    lab.start("w");
    lab.write_config(&good);
    lab.role("b", "secondary");
    lab.role("a", "primary");
    lab.role("w", "watchdog");
    for node in ["a", "b", "w"] {
        wait_line(&lab, node, &["refused", "the keys differ"]);
        if node != "w" {
            wait_line(&lab, node, &["no connection to", "the keys differ"]);
        }
    }
    wait_says(&lab, "a", "waits", "1 of 3 nodes in reach, needs 2");
    assert_eq!(lab.count("a", "start res"), 0);
}

#[test]
fn a_node_without_a_key_among_those_with_one_is_told_on_both_sides() {
    let lab = plan(&["a", "b", "w"]).in_resource(KEY).loopback();
    let good = lab.standard_config();
    lab.start("a");
    start_with(&lab, "b", &good.replace(KEY, ""));
    lab.start("w");
    lab.write_config(&good);
    lab.role("b", "secondary");
    lab.role("a", "primary");
    wait_line(&lab, "a", &["the peer has no key"]);
    wait_line(&lab, "b", &["here none is configured"]);
    assert_eq!(lab.count("a", "start res"), 0);
}

#[test]
fn protocol_0_is_refused_with_the_option_that_allows_it() {
    let lab = cluster();
    let answer = poll(lab.ip("b"), lab.listens("a"), "res", None);
    complain(lab.ip("w"), lab.listens("b"), "res", None);
    for node in ["a", "b"] {
        wait_line(&lab, node, &["refused", "protocol 0", "--legacy-peers"]);
    }
    assert!(answer.is_none_or(|bytes| bytes.len() < 200), "it told nothing of the resource");
    assert_eq!((lab.count("b", "complain res"), lab.res("a").role.as_str()), (0, "primary"));
}

#[test]
fn an_original_that_is_primary_is_refused_and_says_why() {
    let lab = plan(&["a", "b", "w"]).loopback();
    lab.set_lease("a", false);
    lab.start_all();
    lab.role("b", "secondary");
    lab.role("a", "primary");
    wait_line(&lab, "a", &["refused", "--legacy-peers"]);
    wait_line(&lab, "b", &["refused", "--legacy-peers"]);
    wait_for("a says that nothing protects it", || {
        lab.res("a").says("protection").contains("none: legacy peers are allowed")
    });
}

#[test]
fn nodes_with_other_voters_say_so_on_both_sides_and_do_not_vote_for_each_other() {
    let lab = plan(&["a", "b", "w", "c"]).loopback();
    let good = lab.standard_config();
    let smaller = {
        // The resource without c.
        let at = good.rfind("\ton c {").unwrap();
        good[..at].to_owned() + "}\n"
    };
    lab.start("a");
    start_with(&lab, "b", &smaller);
    start_with(&lab, "w", &smaller);
    lab.write_config(&good);
    lab.role("b", "secondary");
    lab.role("w", "watchdog");
    lab.role("a", "primary");
    wait_line(&lab, "a", &["[ERROR]", "has other nodes for the resource", "there a b w", "here a b c w"]);
    wait_line(&lab, "b", &["[ERROR]", "has other nodes for the resource", "there a b c w", "here a b w"]);
    wait_says(&lab, "a", "waits", "other nodes for the resource: a b w");
    assert_eq!(lab.count("a", "start res"), 0);
}
