use super::*;
use crate::testing::lease::{Cluster, lease_config};
use crate::testing::{ms, s};
use crate::worker::{Farewell, Input, Order};
use alloc::boxed::Box;

use crate::lease::Kind;

fn beats(cluster: &Cluster, node: &str) -> Vec<(Duration, State, Option<Kind>)> {
    let beat = |(at, said)| match said {
        Said::Beat { state, ask, .. } => Some((at, state, ask.map(|ask: Ask| ask.kind))),
        _ => None,
    };
    cluster.said(node).into_iter().filter_map(beat).collect()
}

fn bound(holder: &str, left: Duration) -> Option<Refusal> {
    Some(Refusal::Bound { holder: holder.to_string(), left })
}

fn holder() -> Cluster {
    let mut cluster = Cluster::new(Role::Primary, &["b", "c"], "", "");
    cluster.wait(ms(500));
    assert_eq!(cluster.bench.state(), State::Run);
    cluster
}

fn standing(here: &str, inside: &str, up: &[&str], prepare: impl Fn(&mut Cluster)) -> Cluster {
    let mut cluster = Cluster::new(Role::Secondary, &[], here, inside);
    prepare(&mut cluster);
    for node in up {
        cluster.peer(node).is_up = true;
    }
    cluster.wait(s(1));
    cluster.take();
    cluster.order(Order::Stand { highest: 0 });
    cluster
}

fn is_release(action: &Action) -> bool {
    matches!(action, Action::ReleaseHere(_))
}

fn fences(cluster: &Cluster) -> Vec<String> {
    cluster
        .log
        .iter()
        .filter_map(|(_, action)| match action {
            Action::Fence(node) => Some(node.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_primary_starts_with_the_lease_and_renews_it_at_every_heartbeat() {
    let mut cluster = holder();
    assert!(cluster.told().iter().any(|event| matches!(event, Event::LeaseWon { epoch: 1, of: 3, .. })));
    let won = cluster.log.iter().position(|(_, action)| matches!(action, Action::Event(Event::LeaseWon { .. })));
    let start =
        cluster.log.iter().position(|(_, action)| matches!(action, Action::RunHook(call) if call.hook == Hook::Start));
    assert!(won < start, "started before the lease was won");
    cluster.take();
    cluster.wait(s(3));
    let renewals = vec_of(beats(&cluster, "b"), |(at, _, kind)| (at.as_secs(), kind));
    assert_eq!(renewals, [(1, Some(Kind::Renew)), (2, Some(Kind::Renew)), (3, Some(Kind::Renew))]);
    assert_eq!(cluster.asked(Kind::Renew).len(), 3, "of the voter here, too");
}

#[test]
fn who_hears_a_primary_beats_at_every_third_heartbeat_until_there_is_something_to_say() {
    for role in [Role::Secondary, Role::Watchdog] {
        let mut cluster = Cluster::new(role, &["b", "c"], "", "");
        let told = |now, on: bool| match role {
            Role::Watchdog if on => Order::PrimaryRuns,
            Role::Watchdog => Order::PrimarySilent { since: now },
            _ => Order::ServedBy(on.then(|| "b".to_string())),
        };
        let count = |cluster: &mut Cluster, on: bool| {
            cluster.take();
            cluster.order(told(cluster.bench.now, on));
            cluster.wait(s(12));
            beats(cluster, "c").len()
        };
        cluster.wait(s(1));
        assert_eq!(count(&mut cluster, false), 12, "{role}: it hears none");
        // A watchdog's state has changed.
        count(&mut cluster, true);
        assert_eq!(count(&mut cluster, true), 4, "{role}");
        assert!((11..=13).contains(&count(&mut cluster, false)), "{role}: it hears none any more");
        // Of a pause the others have to hear at once.
        count(&mut cluster, true);
        let pause = crate::pause::Pause { version: 1, node: "a".to_string(), paused: None };
        cluster.order(Order::Pause(pause));
        assert_eq!(count(&mut cluster, true), 12, "{role}: they do not say that they know");
    }
}

fn vec_of<T, U>(list: Vec<T>, f: impl Fn(T) -> U) -> Vec<U> {
    list.into_iter().map(f).collect()
}

#[test]
fn that_a_start_has_worked_is_said_at_once() {
    let cluster = holder();
    let is_run = |action: &Action| matches!(action, Action::Event(Event::StateChanged { new: State::Run, .. }));
    let runs_at = cluster.log.iter().find(|(_, action)| is_run(action)).map(|(at, _)| *at);
    let said_at = beats(&cluster, "b").iter().find(|(_, state, _)| *state == State::Run).map(|(at, ..)| *at);
    assert!(runs_at.is_some());
    assert_eq!(said_at, runs_at);
}

#[test]
fn a_change_of_the_state_is_said_at_once() {
    let mut cluster = holder();
    cluster.take();
    cluster.bench.script.as_mut().unwrap().runs = false;
    cluster.bench.script.as_mut().unwrap().start_works = false;
    cluster.wait(ms(600));
    let states = vec_of(beats(&cluster, "b"), |(at, state, _)| (at.as_millis(), state));
    assert!(states.iter().any(|(at, state)| *at == 1_000 && *state != State::Run), "{states:?}");
    assert!(beats(&cluster, "b").iter().all(|(_, _, kind)| *kind == Some(Kind::Renew)), "a beat of a holder renews");
}

#[test]
fn a_candidate_asks_only_with_a_majority_in_reach() {
    let mut cluster = standing("", "", &[], |_| {});
    cluster.wait(s(2));
    assert!(cluster.asked(Kind::Vote).is_empty());
    assert_eq!(cluster.lease().waits.as_deref(), Some("waiting for votes: 1 of 3 nodes in reach, needs 2"));
    cluster.peer("c").is_up = true;
    cluster.wait(s(1));
    assert_eq!(cluster.asked(Kind::Vote).len(), 1);
    assert_eq!(cluster.count(|action| matches!(action, Action::Won(grant) if grant.epoch == 1)), 1);
}

#[test]
fn a_candidate_asks_for_more_than_its_own_node_has_voted_for() {
    for role in [Role::Secondary, Role::Primary] {
        let mut cluster = Cluster::new(role, &[], "", "");
        cluster.wait(s(1));
        cluster.take();
        cluster.order(Order::Stand { highest: 6 });
        cluster.peer("b").is_up = true;
        cluster.wait(s(1));
        let asked: Vec<u64> = cluster.asked(Kind::Vote).iter().map(|(_, ask)| ask.epoch).collect();
        assert_eq!(asked, [7], "{role}");
    }
}

#[test]
fn a_candidate_whose_reasons_are_not_heard_again_stands_down() {
    let mut cluster = standing("", "", &[], |_| {});
    cluster.wait(s(4));
    cluster.peer("b").is_up = true;
    cluster.wait(s(3));
    assert!(cluster.asked(Kind::Vote).is_empty());
    assert_eq!(cluster.lease().waits, None);
}

#[test]
fn a_lost_round_gives_its_votes_back_and_comes_again_when_there_is_hope() {
    let mut cluster = standing("", "", &["b", "c"], |cluster| {
        cluster.peer("b").refuses = bound("c", s(2));
        cluster.peer("c").refuses = bound("c", s(2));
    });
    cluster.wait(ms(900));
    assert_eq!(cluster.asked(Kind::Vote).len(), 1);
    let releases =
        cluster.said("b").into_iter().filter(|(_, said)| matches!(said, Said::Release(release) if !release.was_held));
    assert_eq!(releases.count(), 1);
    assert_eq!(cluster.count(is_release), 1);
    cluster.peer("b").refuses = None;
    cluster.wait(s(2));
    let asked = cluster.asked(Kind::Vote);
    assert_eq!(vec_of(asked.clone(), |(_, ask)| ask.epoch), [1, 2]);
    // Not before the next answer, by which `b` says that it is bound to nobody any more.
    assert!(asked[1].0 - asked[0].0 >= s(1), "{asked:?}");
    assert_eq!(cluster.count(|action| matches!(action, Action::Won(_))), 1);
}

#[test]
fn a_round_that_nobody_answers_is_given_up() {
    let cluster = standing("", "", &["b", "c"], |_| {});
    // It wins at once; the next one does not.
    assert_eq!(cluster.count(|action| matches!(action, Action::Won(_))), 1);
    let mut cluster = standing("priority 50", "", &["b", "c"], |cluster| cluster.peer("b").priority = 1);
    cluster.peer("b").is_mute = true;
    cluster.peer("c").is_mute = true;
    cluster.wait(ms(2_500));
    assert!(cluster.count(is_release) >= 1);
    assert_eq!(cluster.count(|action| matches!(action, Action::Won(_))), 0);
}

#[test]
fn better_candidates_ask_first() {
    let mut cluster = standing("priority 50", "", &["b", "c"], |cluster| {
        cluster.peer("b").priority = 1;
        cluster.peer("c").priority = 90;
    });
    assert!(cluster.asked(Kind::Vote).is_empty(), "one is better");
    cluster.wait(ms(62));
    assert!(cluster.asked(Kind::Vote).is_empty());
    cluster.wait(ms(1));
    assert_eq!(cluster.asked(Kind::Vote).len(), 1);
    // A primary or a watchdog is no candidate.
    let cluster = standing("priority 50", "", &["b"], |cluster| {
        cluster.peer("b").priority = 1;
        cluster.peer("b").role = Role::Watchdog;
    });
    assert_eq!(cluster.asked(Kind::Vote).len(), 1);
}

#[test]
fn two_remotes_that_say_they_are_one_node_are_one() {
    let mut cluster = Cluster::new(Role::Secondary, &["b"], "", "");
    let other = cluster.peer("b").link.unwrap();
    cluster.wait(s(1));
    cluster.take();
    cluster.wait(ms(500));
    cluster.peer("c").is_up = true;
    cluster.peer("c").node = "b".to_string();
    cluster.wait(s(1));
    assert!(
        cluster
            .told()
            .iter()
            .any(|event| matches!(event, Event::Unreachable { why, .. } if why.contains("as another remote does")))
    );
    assert_eq!(cluster.lease().in_reach, 2);
    assert_eq!(cluster.peers[0].link, Some(other));
}

#[test]
fn a_node_that_is_none_of_the_resource_or_this_one_is_refused() {
    for name in ["x", "a"] {
        let mut cluster = Cluster::new(Role::Secondary, &[], "", "");
        cluster.peer("c").is_up = true;
        cluster.peer("c").node = name.to_string();
        cluster.wait(s(2));
        assert_eq!(cluster.lease().in_reach, 1);
        let told =
            |event: &&Event| matches!(event, Event::Unreachable { why, .. } if why.contains("it says that it is"));
        assert_eq!(cluster.told().iter().filter(told).count(), 1, "said once");
    }
}

#[test]
fn an_answer_to_a_beat_that_was_never_sent_ends_the_connection() {
    let mut cluster = Cluster::new(Role::Secondary, &["b"], "", "");
    let link = cluster.peer("b").link.unwrap();
    let heard = cluster.peer("b").answer(u64::MAX, None);
    cluster.give(Input::Link(link, LinkEvent::Heard(Box::new(heard))));
    assert_eq!(cluster.count(|action| *action == Action::Disconnect(link)), 1);
    assert_eq!(cluster.lease().in_reach, 1);
    cluster.wait(s(1));
    assert_eq!(cluster.lease().in_reach, 2, "it is called again");
}

#[test]
fn a_silent_node_is_dropped_after_the_timeout() {
    let mut cluster = Cluster::new(Role::Secondary, &["b"], "", "");
    cluster.wait(ms(500));
    cluster.peer("b").is_mute = true;
    let link = cluster.peer("b").link.unwrap();
    cluster.wait(ms(2_400));
    assert_eq!(cluster.count(|action| *action == Action::Disconnect(link)), 0);
    cluster.wait(ms(200));
    assert_eq!(cluster.count(|action| *action == Action::Disconnect(link)), 1);
    assert!(cluster.told().iter().any(|event| matches!(event, Event::Disconnected { .. })));
}

#[test]
fn a_friend_that_is_no_node_is_called_only_while_a_node_is_missing_and_silently() {
    let mut cluster = Cluster::new(Role::Secondary, &["b", "c"], "friends 10.0.0.9", "");
    cluster.wait(ms(16_500));
    let called = |action: &Action| matches!(action, Action::Connect(_, address) if address.text.contains("10.0.0.9"));
    assert!((1..=2).contains(&cluster.count(called)), "{}", cluster.count(called));
    assert!(!cluster.told().iter().any(|event| matches!(event, Event::Unreachable { .. })), "{:?}", cluster.told());
    assert_eq!(cluster.bench.report.as_ref().unwrap().remotes.len(), 2);
}

#[test]
fn a_lease_that_nobody_renews_ends_with_stop_and_is_given_back() {
    let mut cluster = holder();
    cluster.wait(ms(600));
    cluster.take();
    cluster.peer("b").is_mute = true;
    cluster.peer("c").is_mute = true;
    // Renewed last at 1 s.
    cluster.wait(ms(2_899));
    assert!(cluster.hooks().iter().all(|(_, hook)| *hook == Hook::Status));
    cluster.wait(ms(2));
    assert!(matches!(cluster.bench.farewell, Some(Farewell::GaveUp(crate::event::GiveUp::LeaseLost { .. }))));
    let stop =
        cluster.log.iter().position(|(_, action)| matches!(action, Action::RunHook(call) if call.hook == Hook::Stop));
    let release = cluster.log.iter().position(|(_, action)| is_release(action));
    assert!(stop.is_some() && stop < release);
}

#[test]
fn one_of_two_others_is_enough_to_hold() {
    let mut cluster = holder();
    cluster.peer("b").is_up = false;
    cluster.peer("b").is_mute = true;
    cluster.wait(s(20));
    assert_eq!(cluster.bench.farewell, None);
    assert_eq!((cluster.lease().votes, cluster.bench.state()), (2, State::Run));
}

#[test]
fn the_end_of_a_primary_gives_the_lease_to_its_successor() {
    let mut cluster = holder();
    cluster.take();
    cluster.order(Order::End { reason: "over".to_string(), hurry: true, successor: Some("b".to_string()) });
    let release = cluster.log.iter().find_map(|(_, action)| match action {
        Action::ReleaseHere(release) => Some(release.clone()),
        _ => None,
    });
    let release = release.unwrap();
    assert_eq!((release.successor.as_deref(), release.was_held, release.reserve), (Some("b"), true, s(2)));
    let told = cluster.count(|action| matches!(action, Action::Say(_, Said::Release(said)) if *said == release));
    assert_eq!(told, 2, "every node is told");
    assert_eq!(cluster.bench.farewell, Some(Farewell::AsOrdered));
}

#[test]
fn a_primary_that_could_not_stop_keeps_its_votes_bound_and_does_what_is_configured() {
    type Wanted = fn(&Action) -> bool;
    let cases: [(&str, Wanted); 3] = [
        ("", |_| false),
        ("on_stop_failure fence fence /off", |action| matches!(action, Action::Fence(node) if node == "a")),
        ("on_stop_failure reboot", |action| matches!(action, Action::Reboot)),
    ];
    for (inside, wanted) in cases {
        let mut cluster = Cluster::new(Role::Primary, &["b", "c"], "", inside);
        cluster.wait(ms(500));
        cluster.bench.script.as_mut().unwrap().stop_works = false;
        cluster.bench.end();
        cluster.settle();
        cluster.wait(s(10));
        assert_eq!(cluster.count(is_release), 0, "{inside}");
        assert_eq!(cluster.count(wanted), usize::from(!inside.is_empty()), "{inside}");
        let others = |action: &Action| matches!(action, Action::Fence(_) | Action::Reboot) && !wanted(action);
        assert_eq!(cluster.count(others), 0, "{inside}");
        assert!(cluster.told().contains(&Event::MayStillRun));
        assert!(cluster.bench.farewell.is_some());
    }
}

#[test]
fn what_is_configured_for_a_failed_stop_is_done_when_the_votes_are_about_to_be_free_and_the_stop_is_tried_all_the_same()
{
    let mut cluster = Cluster::new(Role::Primary, &["b", "c"], "", "on_stop_failure fence fence /off");
    cluster.wait(ms(500));
    cluster.bench.script.as_mut().unwrap().stop_works = false;
    cluster.peer("b").is_mute = true;
    cluster.peer("c").is_mute = true;
    cluster.take();
    // Renewed at 0 for the last time: the lease of 3 s ends, and then the second for `stop`.
    cluster.wait(ms(3_499));
    assert!(fences(&cluster).is_empty() && !cluster.told().contains(&Event::MayStillRun));
    cluster.wait(ms(1));
    assert_eq!((fences(&cluster), cluster.bench.state()), (Vec::from(["a".to_string()]), State::Failed));
    let stops =
        |cluster: &Cluster| cluster.count(|action| matches!(action, Action::RunHook(call) if call.hook == Hook::Stop));
    let before = stops(&cluster);
    cluster.give(Input::FenceExited { node: "a".to_string(), exit: Exit::Code(1) });
    assert!(cluster.told().iter().any(|event| matches!(event, Event::FenceFailed { node, .. } if node == "a")));
    cluster.bench.script.as_mut().unwrap().stop_works = true;
    cluster.wait(s(10));
    assert!(stops(&cluster) > before);
    assert_eq!(fences(&cluster).len(), 1);
    assert_eq!(cluster.told().iter().filter(|event| **event == Event::MayStillRun).count(), 1);
    assert_eq!(cluster.count(is_release), 1, "stopped in the end, it gives its votes back");
}

#[test]
fn a_primary_that_wakes_after_its_time_has_its_whole_budget_to_stop() {
    for stop_works in [true, false] {
        let mut cluster = Cluster::new(Role::Primary, &["b", "c"], "", "on_stop_failure reboot");
        cluster.wait(ms(500));
        cluster.bench.script.as_mut().unwrap().stop_works = stop_works;
        cluster.peer("b").is_mute = true;
        cluster.peer("c").is_mute = true;
        let reboots = |cluster: &Cluster| cluster.count(|action| matches!(action, Action::Reboot));
        cluster.bench.now = cluster.bench.now + s(60);
        cluster.give(Input::Timer);
        cluster.wait(ms(999));
        assert_eq!((reboots(&cluster), cluster.told().contains(&Event::MayStillRun)), (0, false));
        cluster.wait(ms(1));
        assert_eq!(reboots(&cluster), usize::from(!stop_works));
    }
}

#[test]
fn a_secondary_that_is_served_does_not_stand_and_gives_back_what_it_got() {
    let mut cluster = standing("", "", &["b", "c"], |_| {});
    assert_eq!(cluster.count(|action| matches!(action, Action::Won(_))), 1);
    cluster.take();
    cluster.order(Order::ServedBy(Some("tcp4://10.0.0.2".to_string())));
    assert_eq!(cluster.count(is_release), 1);
    assert_eq!(vec_of(cluster.hooks(), |(_, hook)| hook), [Hook::Connect]);
    cluster.take();
    cluster.order(Order::ServedBy(None));
    assert_eq!(vec_of(cluster.hooks(), |(_, hook)| hook), [Hook::Disconnect]);
}

#[test]
fn a_secondary_that_has_won_keeps_the_lease_for_the_next_worker() {
    let mut cluster = standing("", "", &["b", "c"], |_| {});
    cluster.take();
    cluster.order(Order::End { reason: "takes over".to_string(), hurry: true, successor: Some("a".to_string()) });
    assert_eq!(cluster.count(is_release), 0);
    assert!(cluster.bench.farewell.is_some());
}

#[test]
fn what_a_secondary_has_won_and_nobody_renews_is_given_back_when_it_ends() {
    let mut cluster = standing("", "", &["b", "c"], |_| {});
    assert_eq!(cluster.count(|action| matches!(action, Action::Won(_))), 1);
    cluster.take();
    cluster.peer("b").is_mute = true;
    cluster.peer("c").is_mute = true;
    cluster.wait(ms(2_999));
    assert_eq!(cluster.count(is_release), 0);
    cluster.wait(s(2));
    assert_eq!((cluster.count(is_release), cluster.lease().epoch), (1, None));
}

#[test]
fn a_primary_that_begins_after_the_end_of_what_was_won_for_it_asks_again() {
    let mut cluster = Cluster::granted(Duration::ZERO, &["b", "c"]);
    cluster.wait(s(2));
    assert_eq!((cluster.bench.farewell.clone(), cluster.bench.state()), (None, State::Run));
    assert_eq!(cluster.asked(Kind::Vote).first().map(|(_, ask)| ask.epoch), Some(6));
    let mut cluster = Cluster::granted(s(2), &["b", "c"]);
    cluster.wait(s(2));
    assert_eq!((cluster.lease().epoch, cluster.bench.state()), (Some(5), State::Run));
}

fn fencing() -> Cluster {
    standing("", "fence /off", &["b"], |cluster| cluster.peer("b").refuses = bound("c", s(60)))
}

#[test]
fn a_holder_is_fenced_once_and_then_votes_are_asked_for_at_once() {
    let mut cluster = fencing();
    cluster.order(Order::Stand { highest: 0 });
    cluster.wait(s(1));
    assert_eq!(fences(&cluster), ["c"]);
    cluster.take();
    cluster.peer("b").refuses = None;
    cluster.give(Input::FenceExited { node: "c".to_string(), exit: Exit::Code(0) });
    assert_eq!(cluster.count(|action| matches!(action, Action::FencedHere { node, .. } if node == "c")), 1);
    assert!(cluster.said("b").iter().any(|(_, said)| matches!(said, Said::Fenced { node, .. } if node == "c")));
    assert_eq!(cluster.count(|action| matches!(action, Action::Won(_))), 1);
    cluster.give(Input::FenceExited { node: "c".to_string(), exit: Exit::Code(0) });
    assert_eq!(cluster.count(|action| matches!(action, Action::FencedHere { .. })), 1, "an end that nobody waits for");
}

#[test]
fn a_fence_script_that_fails_is_told_and_called_again_later() {
    for exit in [Exit::Code(1), Exit::Signal(9), Exit::NotStarted("it took longer than it may".to_string())] {
        let mut cluster = fencing();
        cluster.give(Input::FenceExited { node: "c".to_string(), exit });
        assert!(cluster.told().iter().any(|event| matches!(event, Event::FenceFailed { .. })));
        assert_eq!(cluster.count(|action| matches!(action, Action::FencedHere { .. })), 0);
        // Another round comes of another reason.
        cluster.peer("b").refuses = bound("c", ms(100));
        cluster.order(Order::Stand { highest: 0 });
        cluster.wait(s(70));
        cluster.order(Order::Stand { highest: 0 });
        cluster.wait(s(4));
        assert!(fences(&cluster).len() >= 2, "{:?}", fences(&cluster));
    }
}

#[test]
fn nobody_fences_itself_or_without_a_script() {
    let cluster = standing("", "fence /off", &["b"], |cluster| cluster.peer("b").refuses = bound("a", s(60)));
    assert!(fences(&cluster).is_empty());
    let cluster = standing("", "", &["b"], |cluster| cluster.peer("b").refuses = bound("c", s(60)));
    assert!(fences(&cluster).is_empty());
}

#[test]
fn a_holder_counts_the_voters_of_before_until_a_majority_has_the_new_ones() {
    let mut cluster = holder();
    let new = lease_config(&["b", "c", "d"], "", "").resources.remove(0);
    let digest = Voters::new(new.nodes.iter().cloned()).digest();
    cluster.order(Order::Reconfigure(Box::new(new)));
    cluster.wait(s(2));
    assert_eq!(cluster.lease().voters, 3);
    for node in ["b", "c"] {
        cluster.peer(node).voters = digest;
    }
    cluster.wait(s(2));
    assert_eq!(cluster.lease().voters, 4);
    assert_eq!(cluster.bench.farewell, None);
    let asks = cluster.asked(Kind::Renew);
    assert_eq!(asks.last().unwrap().1.voters, digest);
}

#[test]
fn a_node_without_the_lease_takes_new_voters_at_once() {
    let mut cluster = Cluster::new(Role::Secondary, &["b", "c"], "", "");
    let new = lease_config(&["b", "c", "d"], "", "").resources.remove(0);
    cluster.order(Order::Reconfigure(Box::new(new)));
    assert_eq!(cluster.lease().voters, 4);
}

#[test]
fn an_operator_moves_the_resource_to_the_best_or_to_the_named_node() {
    for (to, expected) in [(None, "c"), (Some("b"), "b")] {
        let mut cluster = Cluster::new(Role::Primary, &["b", "c"], "", "");
        cluster.peer("c").priority = 1;
        cluster.wait(ms(1_500));
        cluster.take();
        cluster.order(Order::HandOver(to.map(String::from)));
        assert_eq!(cluster.bench.farewell, Some(Farewell::HandedOver(expected.to_string())));
        let to_it = |action: &Action| matches!(action, Action::ReleaseHere(release) if release.successor.as_deref() == Some(expected));
        assert_eq!(cluster.count(to_it), 1);
    }
}

#[test]
fn a_node_that_is_not_ready_gets_nothing() {
    let refusal = |prepare: fn(&mut Cluster), to: Option<&str>| {
        let mut cluster = holder();
        prepare(&mut cluster);
        cluster.wait(s(1));
        cluster.take();
        cluster.order(Order::HandOver(to.map(String::from)));
        assert_eq!(cluster.bench.farewell, None);
        let why = cluster.log.iter().find_map(|(_, action)| match action {
            Action::HandOverRefused(why) => Some(why.clone()),
            _ => None,
        });
        why.unwrap()
    };
    assert_eq!(refusal(|cluster| cluster.peer("b").state = State::Failed, Some("b")), "the resource is failed on b");
    assert_eq!(
        refusal(|cluster| cluster.peer("b").role = Role::Watchdog, Some("b")),
        "b is watchdog and not secondary"
    );
    assert_eq!(refusal(|_| {}, Some("d")), "d is not connected");
    let none = refusal(|cluster| cluster.peers.iter_mut().for_each(|peer| peer.role = Role::Init), None);
    assert_eq!(none, "no secondary is connected");
}

#[test]
fn a_primary_without_the_lease_yields_to_a_better_one() {
    let mut cluster = Cluster::new(Role::Primary, &[], "priority 50", "");
    for node in ["b", "c"] {
        let peer = cluster.peer(node);
        (peer.is_up, peer.refuses) = (true, bound("b", s(60)));
    }
    let b = cluster.peer("b");
    (b.role, b.priority, b.state) = (Role::Primary, 1, State::Run);
    cluster.wait(s(2));
    assert!(matches!(
        cluster.bench.farewell,
        Some(Farewell::GaveUp(crate::event::GiveUp::Outranked { theirs: 1, ours: 50, .. }))
    ));
}

#[test]
fn a_forced_primary_starts_alone() {
    let mut cluster = Cluster::new(Role::Primary, &[], "", "");
    cluster.wait(s(3));
    assert_ne!(cluster.bench.state(), State::Run);
    cluster.order(Order::Force);
    cluster.wait(s(10));
    assert_eq!(cluster.bench.state(), State::Run);
    assert!(cluster.lease().is_forced);
    assert_eq!(cluster.lease().until, None);
}

#[test]
fn a_watchdog_hands_on_that_the_lease_was_released_and_complains_of_silence() {
    let mut cluster = Cluster::new(Role::Watchdog, &["b", "c"], "", "");
    cluster.peer("b").role = Role::Primary;
    cluster.peer("b").state = State::Run;
    cluster.wait(ms(1_500));
    cluster.take();
    cluster.order(Order::Released);
    let complaints = |cluster: &Cluster, node: &str| {
        vec_of(cluster.said(node), |(_, said)| said)
            .into_iter()
            .filter(|said| matches!(said, Said::Complaint { .. }))
            .collect::<Vec<_>>()
    };
    assert_eq!(complaints(&cluster, "c"), [Said::Complaint { released: true }]);
    assert!(complaints(&cluster, "b").is_empty(), "a primary hears no complaints");
    cluster.take();
    cluster.wait(s(3));
    assert!(complaints(&cluster, "c").is_empty());
    cluster.peer("b").is_mute = true;
    cluster.wait(ms(2_200));
    assert_eq!(complaints(&cluster, "c"), [Said::Complaint { released: false }, Said::Complaint { released: false }]);
}

/// How often the watchdog has complained since what was done was taken last.
fn complained(cluster: &Cluster) -> usize {
    cluster.told().iter().filter(|event| matches!(event, Event::Complaining { .. })).count()
}

#[test]
fn what_the_main_daemon_hears_of_a_primary_ends_the_silence_of_a_watchdog() {
    let mut cluster = Cluster::new(Role::Watchdog, &["c"], "", "");
    cluster.wait(ms(1_490));
    cluster.order(Order::PrimaryRuns);
    // Until the main daemon says otherwise.
    cluster.wait(s(20));
    assert_eq!((complained(&cluster), cluster.bench.state()), (0, State::Run));
    // Then silence. The fourth complaint is enough, and comes as early as it may.
    let mut passed = ms(1_400);
    let silent = Order::PrimarySilent { since: cluster.bench.now };
    cluster.wait(passed);
    cluster.order(silent.clone());
    for (at, count) in [(1_500, 1), (2_500, 2), (3_500, 3), (4_063, 4), (5_063, 5)] {
        cluster.wait(ms(at - 2) - passed);
        assert_eq!(complained(&cluster), count - 1, "before {at} ms");
        cluster.wait(ms(4));
        assert_eq!(complained(&cluster), count, "after {at} ms");
        passed = ms(at + 2);
        // What is said again begins no new count.
        cluster.order(silent.clone());
    }
}

#[test]
fn a_watchdog_that_is_told_late_of_silence_begins_anew_instead_of_complaining() {
    let mut cluster = Cluster::new(Role::Watchdog, &["c"], "", "");
    cluster.order(Order::PrimaryRuns);
    let since = cluster.bench.now;
    cluster.wait(ms(2_100));
    cluster.order(Order::PrimarySilent { since });
    cluster.wait(ms(1_490));
    assert_eq!(complained(&cluster), 0);
    cluster.wait(ms(20));
    assert_eq!(complained(&cluster), 1);
}

#[test]
fn what_waits_for_its_turn_on_some_node_is_not_complained_of_for_as_long_as_a_complaint_counts() {
    let mut cluster = Cluster::new(Role::Watchdog, &["b", "c"], "complaint_interval 20", "");
    cluster.peer("b").waits_for_turn = true;
    cluster.wait(s(20));
    assert_eq!(complained(&cluster), 0);
    cluster.wait(s(4));
    assert!(complained(&cluster) >= 3, "{}", complained(&cluster));
    // A new wait, of a resource that is started at last.
    cluster.peer("b").waits_for_turn = false;
    cluster.wait(s(4));
    cluster.peer("b").waits_for_turn = true;
    cluster.wait(s(1));
    cluster.take();
    cluster.wait(s(10));
    cluster.peer("b").waits_for_turn = false;
    cluster.wait(s(1));
    assert_eq!(complained(&cluster), 0);
    cluster.wait(s(4));
    assert!(complained(&cluster) >= 3, "nobody minds it any more");
}

#[test]
fn a_watchdog_sleeps_while_a_primary_is_heard() {
    let mut cluster = Cluster::new(Role::Watchdog, &["b", "c"], "", "");
    cluster.wait(s(1));
    cluster.order(Order::PrimaryRuns);
    cluster.wait(s(6));
    let wakes = |cluster: &Cluster| cluster.bench.worker.next_deadline().map(|at| at.since(cluster.bench.now));
    let mut longest = ms(0);
    for _ in 0..60 {
        longest = longest.max(wakes(&cluster).unwrap());
        cluster.wait(ms(100));
    }
    assert!(longest > ms(2_900), "{longest:?}");
    cluster.order(Order::PrimarySilent { since: cluster.bench.now });
    assert!(wakes(&cluster).unwrap() <= s(1));
}

#[test]
fn every_input_in_every_stage_of_every_role_has_a_defined_result() {
    let stages: [fn(&mut Cluster); 6] = [
        |_| {},
        |cluster| cluster.wait(s(1)),
        |cluster| cluster.order(Order::Stand { highest: 0 }),
        |cluster| {
            cluster.peers.iter_mut().for_each(|peer| (peer.is_up, peer.is_mute) = (true, true));
            cluster.wait(s(1));
        },
        |cluster| {
            cluster.peers.iter_mut().for_each(|peer| peer.is_up = true);
            cluster.wait(s(2));
        },
        |cluster| {
            cluster.bench.script = None;
            cluster.order(Order::End { reason: String::new(), hurry: false, successor: None });
        },
    ];
    for role in Role::ALL {
        for stage in stages {
            for number in 0.. {
                let mut cluster = Cluster::new(role, &[], "", "fence /off");
                stage(&mut cluster);
                let link = cluster.peers[0].link.unwrap_or(LinkId(2));
                let Some(input) = some_input(number, link, &cluster) else { break };
                if cluster.bench.farewell.is_none() {
                    cluster.give(input);
                    cluster.wait(s(3));
                }
            }
        }
    }
}

/// All inputs that a worker may get, with numbers at their limits.
fn some_input(number: usize, link: LinkId, cluster: &Cluster) -> Option<Input> {
    let verdict = |round, refused| Order::Verdict(Verdict { round, highest: u64::MAX, refused, kept: false });
    let longest = Duration::from_micros(u64::MAX);
    let heard = |seq, refuses| {
        let ask = Ask {
            node: "a".into(),
            kind: Kind::Vote,
            epoch: u64::MAX,
            hold: longest,
            round: 1,
            voters: 0,
            kept: false,
        };
        let mut peer = cluster.peers[0].clone();
        (peer.refuses, peer.epoch) = (refuses, u64::MAX);
        LinkEvent::Heard(Box::new(peer.answer(seq, Some(&ask))))
    };
    let order = [
        verdict(1, None),
        verdict(u64::MAX, Some(Refusal::Stale)),
        verdict(1, bound("b", longest)),
        verdict(1, Some(Refusal::Waits { left: longest })),
        Order::Polled,
        Order::Complaint,
        Order::Reconfigure(Box::new(lease_config(&["b"], "", "heartbeat_interval 7").resources.remove(0))),
        Order::Stand { highest: 0 },
        Order::ServedBy(Some(String::new())),
        Order::ServedBy(None),
        Order::PrimaryRuns,
        Order::PrimarySilent { since: Instant::from_nanos(1) },
        Order::Released,
        Order::HandOver(None),
        Order::HandOver(Some("a".to_string())),
        Order::Force,
        Order::Leave { reason: String::new() },
        Order::End { reason: String::new(), hurry: true, successor: Some("x".to_string()) },
    ];
    let link_event = [
        LinkEvent::Up,
        LinkEvent::Welcome("b".to_string()),
        heard(1, None),
        heard(1, bound("c", longest)),
        heard(1, Some(Refusal::Voters { ours: Voters::default() })),
        heard(u64::MAX, None),
        LinkEvent::Refused { message: String::new(), priority: Some(i32::MIN) },
        LinkEvent::Answer { seq: u64::MAX, state: Ok(State::Run) },
        LinkEvent::Failed(String::new()),
        LinkEvent::Silent(String::new()),
    ];
    let rest = [
        Input::Timer,
        Input::DaemonGone,
        Input::FenceExited { node: "b".to_string(), exit: Exit::Code(0) },
        Input::HookExited { id: 999, exit: Exit::Code(0), output: Vec::new() },
        Input::PrimaryConnected { link: LinkId(999), from: String::new() },
        Input::Heartbeat { link, seq: u64::MAX },
        Input::PrimaryLost { link, why: String::new() },
        Input::Polled { link, answer: Ok((Role::Primary, State::Run)) },
    ];
    let all = order.into_iter().map(Input::Order);
    let all = all.chain(link_event.into_iter().map(|event| Input::Link(link, event))).chain(rest);
    all.into_iter().nth(number)
}

/// The voters that have voted for both leases would be free while the resource runs under the first one.
#[test]
fn a_candidate_gives_back_no_votes_while_what_an_earlier_worker_has_left_still_runs() {
    let mut cluster = Cluster::left_running(s(3), &[]);
    cluster.wait(ms(100));
    assert_eq!(cluster.bench.state(), State::Run);
    for node in ["b", "c"] {
        cluster.peer(node).is_up = true;
        cluster.peer(node).refuses = bound("c", s(9));
    }
    cluster.wait(ms(2_800));
    assert!(!cluster.asked(Kind::Vote).is_empty());
    assert!(cluster.told().iter().any(|event| matches!(event, Event::VotesRefused { .. })));
    assert_eq!(cluster.count(is_release), 0);
    cluster.take();
    cluster.wait(ms(200));
    let stop =
        cluster.log.iter().position(|(_, action)| matches!(action, Action::RunHook(call) if call.hook == Hook::Stop));
    let given = cluster.log.iter().position(|(_, action)| match action {
        Action::ReleaseHere(release) => release.was_held,
        _ => false,
    });
    assert!(stop.is_some() && given > stop, "{stop:?} {given:?}");
}
