use super::*;
use crate::daemon::Input;
use crate::lease::Kind;
use crate::testing::lease::lease_config;
use crate::testing::{DaemonBench, RESOURCE, config_of, ms, s};
use crate::wire::session::Answer;
use crate::worker::LeaseReport;
use alloc::boxed::Box;
use alloc::string::ToString;

fn bench() -> DaemonBench {
    DaemonBench::with_lease("", "")
}

fn ask(bench: &mut DaemonBench, conn: ConnId, seq: u64, node: &str, kind: Kind, epoch: u64) {
    bench.beat(conn, seq, State::Unknown, Some(DaemonBench::ask_of(node, kind, epoch)));
}

/// The verdict that a node has got since the last look.
fn verdict(bench: &DaemonBench, conn: ConnId) -> Option<Option<Refusal>> {
    bench.heard(conn).into_iter().find_map(|heard| heard.verdict).map(|verdict| verdict.refused)
}

fn record(bench: &mut DaemonBench) -> u64 {
    let (id, _) = bench.records().pop().expect("a record is to be written");
    id
}

/// `b` holds the vote of this node for epoch 1.
fn bound() -> (DaemonBench, ConnId) {
    let mut bench = bench();
    let b = bench.peer("b", Role::Primary, 100, State::Stopped);
    ask(&mut bench, b, 2, "b", Kind::Vote, 1);
    let id = record(&mut bench);
    bench.recorded(id, Ok(()));
    assert_eq!(verdict(&bench, b), Some(None));
    bench.take();
    (bench, b)
}

fn refusal(bench: &DaemonBench, conn: ConnId) -> String {
    let all: Vec<String> = bench
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Reply { conn: to, message, .. } if *to == conn => match Answer::decode(message) {
                Ok(Answer::Refused { errmsg, .. }) => Some(errmsg),
                _ => None,
            },
            Action::Welcome { conn: to, answer, .. } if *to == conn => answer.str("errmsg").map(ToString::to_string),
            _ => None,
        })
        .collect();
    assert_eq!(all.len(), 1, "{:?}", bench.actions);
    all.into_iter().next().unwrap()
}

#[test]
fn a_beat_is_answered_with_what_is_known_here() {
    let mut bench = bench();
    let b = bench.hello("b", DaemonBench::hello_of("b", Role::Secondary, 7));
    assert!(bench.is_welcome(b));
    bench.beat(b, 41, State::Stopped, None);
    let heard = bench.heard(b);
    assert_eq!((heard.len(), heard[0].seq, heard[0].role, heard[0].priority), (1, 41, Role::Init, 100));
    assert_eq!((&heard[0].verdict, &heard[0].bound, heard[0].epoch), (&None, &None, 0));
}

#[test]
fn a_hello_of_another_protocol_names_both_ranges() {
    let mut bench = bench();
    let mut hello = DaemonBench::hello_of("b", Role::Primary, 1);
    hello.protocols = (2, 9);
    let conn = bench.hello("b", hello);
    let why = refusal(&bench, conn);
    assert!(why.contains("protocol 2 to 9") && why.contains("speaks 1 to 1"), "{why}");
}

#[test]
fn a_hello_of_a_node_that_is_unknown_or_has_this_name_says_which_nodes_there_are() {
    for (name, hint) in [("x", "a b c"), ("a", "this node's own name")] {
        let mut bench = bench();
        let conn = bench.hello("b", DaemonBench::hello_of(name, Role::Primary, 1));
        let why = refusal(&bench, conn);
        assert!(why.contains("a b c") && why.contains(hint), "{why}");
        assert!(!bench.is_welcome(conn) || bench.heard(conn).is_empty());
    }
}

#[test]
fn one_node_has_few_connections_and_a_lost_one_makes_room() {
    let mut bench = bench();
    let hello = |bench: &mut DaemonBench| bench.hello("b", DaemonBench::hello_of("b", Role::Secondary, 1));
    let all: Vec<ConnId> = (0..MAX_SESSIONS_PER_NODE).map(|_| hello(&mut bench)).collect();
    let more = hello(&mut bench);
    assert!(refusal(&bench, more).contains("4 connections already"));
    bench.peer("c", Role::Secondary, 1, State::Stopped);
    bench.give(Input::Gone { conn: all[0], why: None });
    let next = hello(&mut bench);
    assert!(bench.is_welcome(next));
}

#[test]
fn a_connection_that_speaks_takes_the_place_of_those_before_it() {
    let mut bench = bench();
    let old = bench.peer("b", Role::Secondary, 1, State::Stopped);
    let new = bench.peer("b", Role::Secondary, 1, State::Stopped);
    assert!(bench.is_closed(old) && !bench.is_closed(new));
}

#[test]
fn other_voters_are_told_once_of_each_node() {
    let mut bench = bench();
    let mut hello = DaemonBench::hello_of("b", Role::Secondary, 1);
    hello.voters = Voters::new(["a", "b"].map(String::from));
    let told =
        |bench: &DaemonBench| bench.told().iter().filter(|event| matches!(event, Event::VotersDiffer { .. })).count();
    bench.hello("b", hello.clone());
    bench.hello("b", hello.clone());
    assert_eq!(told(&bench), 1);
    bench.hello("b", DaemonBench::hello_of("b", Role::Secondary, 1));
    bench.hello("b", hello);
    assert_eq!(told(&bench), 2, "it was mended meanwhile");
}

#[test]
fn a_vote_leaves_when_its_record_is_on_disk() {
    let mut bench = bench();
    let b = bench.peer("b", Role::Primary, 100, State::Stopped);
    bench.take();
    ask(&mut bench, b, 2, "b", Kind::Vote, 1);
    assert_eq!(verdict(&bench, b), None);
    // A second question before the disk is done has a record of its own: the first one may fail.
    ask(&mut bench, b, 3, "b", Kind::Renew, 1);
    assert_eq!((verdict(&bench, b), bench.records().len()), (None, 2));
    assert_eq!(
        bench.records()[0].1,
        Record { holder: "b".to_string(), epoch: 1, hold: s(4), voters: abc(), kept: false }
    );
    for (id, _) in bench.records() {
        bench.recorded(id, Ok(()));
    }
    let answers: Vec<u64> =
        bench.heard(b).iter().filter(|heard| heard.verdict.is_some()).map(|heard| heard.seq).collect();
    assert_eq!(answers, [2, 3]);
    bench.take();
    ask(&mut bench, b, 4, "b", Kind::Renew, 1);
    assert_eq!((verdict(&bench, b), bench.records().len()), (Some(None), 0), "a renewal writes nothing");
}

#[test]
fn a_vote_that_cannot_be_recorded_is_refused_and_that_is_told_once() {
    let mut bench = bench();
    let b = bench.peer("b", Role::Primary, 100, State::Stopped);
    let told =
        |bench: &DaemonBench| bench.told().iter().filter(|event| matches!(event, Event::NotRecorded { .. })).count();
    for epoch in 1..4 {
        ask(&mut bench, b, epoch + 1, "b", Kind::Vote, epoch);
        let id = record(&mut bench);
        bench.recorded(id, Err("disk full"));
        assert_eq!(bench.heard(b).last().unwrap().verdict.clone().unwrap().refused, Some(Refusal::NotRecorded));
    }
    assert_eq!(told(&bench), 1);
    ask(&mut bench, b, 9, "b", Kind::Vote, 9);
    let id = record(&mut bench);
    bench.recorded(id, Ok(()));
    assert_eq!(bench.heard(b).last().unwrap().verdict.clone().unwrap().refused, None);
    ask(&mut bench, b, 10, "b", Kind::Vote, 10);
    let id = record(&mut bench);
    bench.recorded(id, Err("disk full"));
    assert_eq!(told(&bench), 2, "it was mended meanwhile");
}

/// A worker runs, which takes its time to end.
fn leave(bench: &mut DaemonBench) {
    bench.set_role(Role::Secondary);
    bench.give(Input::Stop);
    bench.take();
}

#[test]
fn a_node_that_is_being_stopped_gives_its_free_vote_to_nobody() {
    let mut bench = bench();
    let b = bench.peer("b", Role::Primary, 100, State::Stopped);
    leave(&mut bench);
    ask(&mut bench, b, 2, "b", Kind::Vote, 1);
    assert_eq!((verdict(&bench, b), bench.records().len()), (Some(Some(Refusal::Leaving)), 0));
    bench.take();
    // Nor does it join a lease that was won without it.
    ask(&mut bench, b, 3, "b", Kind::Renew, 1);
    assert_eq!((verdict(&bench, b), bench.records().len()), (Some(Some(Refusal::Leaving)), 0));
}

#[test]
fn a_node_that_is_being_stopped_keeps_what_it_has_promised() {
    let (mut bench, b) = bound();
    let c = bench.peer("c", Role::Primary, 100, State::Stopped);
    leave(&mut bench);
    ask(&mut bench, b, 3, "b", Kind::Renew, 1);
    assert_eq!(verdict(&bench, b), Some(None));
    ask(&mut bench, c, 2, "c", Kind::Vote, 2);
    assert!(matches!(verdict(&bench, c), Some(Some(Refusal::Bound { .. }))));
}

#[test]
fn before_the_record_is_read_no_vote_is_given() {
    let mut bench = DaemonBench::without_record(lease_config(&["b", "c"], "", ""));
    let b = bench.peer("b", Role::Primary, 100, State::Stopped);
    ask(&mut bench, b, 2, "b", Kind::Vote, 1);
    assert!(matches!(verdict(&bench, b), Some(Some(Refusal::Waits { .. }))));
    bench.give(Input::RecordFound {
        resource: RESOURCE.to_string(),
        found: Err(NotFound::Damaged("damaged".to_string())),
    });
    assert!(bench.told().iter().any(|event| matches!(event, Event::RecordLost { wait, .. } if *wait == ms(4_040))));
    bench.take();
    bench.wait(ms(4_000));
    let b = bench.peer("b", Role::Primary, 100, State::Stopped);
    ask(&mut bench, b, 3, "b", Kind::Vote, 1);
    assert!(matches!(verdict(&bench, b), Some(Some(Refusal::Waits { .. }))));
    bench.wait(ms(50));
    bench.take();
    ask(&mut bench, b, 4, "b", Kind::Vote, 1);
    assert_eq!(bench.records().len(), 1);
}

#[test]
fn a_record_that_cannot_be_read_is_looked_for_until_it_can() {
    let mut bench = DaemonBench::without_record(lease_config(&["b", "c"], "", ""));
    let looks =
        |bench: &DaemonBench| bench.actions.iter().filter(|action| matches!(action, Action::FindRecord(_))).count();
    let unreadable = || Input::RecordFound {
        resource: RESOURCE.to_string(),
        found: Err(NotFound::Unreadable("input/output error".to_string())),
    };
    for _ in 0..9 {
        bench.take();
        bench.give(unreadable());
        bench.wait(s(1));
        assert_eq!(looks(&bench), 1);
        let b = bench.peer("b", Role::Primary, 100, State::Stopped);
        ask(&mut bench, b, 2, "b", Kind::Vote, 1);
        assert!(matches!(verdict(&bench, b), Some(Some(Refusal::Waits { .. }))));
        assert_eq!(bench.records().len(), 0);
    }
    let found = Record { holder: "c".to_string(), epoch: 9, hold: s(4), voters: abc(), kept: false };
    bench.give(Input::RecordFound { resource: RESOURCE.to_string(), found: Ok(Some(found)) });
    bench.take();
    let b = bench.peer("b", Role::Primary, 100, State::Stopped);
    ask(&mut bench, b, 3, "b", Kind::Vote, 10);
    assert_eq!(verdict(&bench, b), Some(Some(Refusal::Bound { holder: "c".to_string(), left: ms(4_040) })));
    bench.wait(s(2));
    assert_eq!(looks(&bench), 0);
}

#[test]
fn a_vote_whose_time_is_over_is_told_to_be_free_before_the_next_one_is_given() {
    let (mut bench, _) = bound();
    let c = bench.peer("c", Role::Secondary, 100, State::Stopped);
    bench.take();
    // No timer comes between.
    bench.now = bench.now + s(5);
    ask(&mut bench, c, 2, "c", Kind::Vote, 2);
    let freed =
        |event: &&Event| matches!(event, Event::VoteFreed { holder, why: VoteEnd::Expired, .. } if holder == "b");
    assert_eq!(bench.told().iter().filter(freed).count(), 1);
}

#[test]
fn a_vote_found_on_disk_binds_for_its_whole_hold() {
    let mut bench = DaemonBench::without_record(lease_config(&["b", "c"], "", ""));
    let found = Record { holder: "c".to_string(), epoch: 9, hold: s(4), voters: abc(), kept: false };
    bench.give(Input::RecordFound { resource: RESOURCE.to_string(), found: Ok(Some(found)) });
    let b = bench.peer("b", Role::Primary, 100, State::Stopped);
    ask(&mut bench, b, 2, "b", Kind::Vote, 10);
    assert_eq!(verdict(&bench, b), Some(Some(Refusal::Bound { holder: "c".to_string(), left: ms(4_040) })));
}

/// A daemon of the nodes `a` and `others`, which was one of `a`, `b` and `c` before it was started; then its worker hears what the others
/// have in force.
fn after_a_change(others: &[&str], in_force: &[(&str, &Voters)]) -> DaemonBench {
    let mut bench = DaemonBench::without_record(lease_config(others, "", ""));
    let found = Record { holder: "c".to_string(), epoch: 9, hold: Duration::ZERO, voters: abc(), kept: false };
    bench.give(Input::RecordFound { resource: RESOURCE.to_string(), found: Ok(Some(found)) });
    bench.set_role(Role::Secondary);
    let report = |in_force: &[(&str, &Voters)]| LeaseReport {
        epoch: None,
        until: None,
        is_forced: false,
        in_reach: 3,
        votes: 0,
        voters: 3,
        waits: None,
        highest: 12,
        in_force: in_force.iter().map(|(node, voters)| ((*node).to_string(), voters.digest())).collect(),
        runs_until: None,
        kept: 0,
        know: Vec::new(),
    };
    bench.reports(State::Stopped, Some(report(&[])));
    assert_eq!(in_force_here(&bench), abc(), "nobody has been heard of yet");
    assert!(bench.told().iter().any(|event| matches!(event, Event::VotersUnproven { .. })));
    bench.take();
    bench.reports(State::Stopped, Some(report(in_force)));
    bench
}

fn in_force_here(bench: &DaemonBench) -> Voters {
    bench.daemon.resources()[0].voters_in_force().unwrap().clone()
}

#[test]
fn voters_that_were_changed_while_the_daemon_was_down_wait_for_a_majority_of_those_before() {
    let new = Voters::new(["a", "b", "c", "d"].map(String::from));
    let of = |others: &[&str], in_force: &[(&str, &Voters)]| in_force_here(&after_a_change(others, in_force));
    let bcd = ["b", "c", "d"];
    assert_eq!(of(&bcd, &[("b", &abc())]), new);
    assert_eq!(of(&bcd, &[("c", &new)]), new, "it has taken the step already");
    assert_eq!(of(&bcd, &[("d", &new)]), abc(), "it is none of those before");
    let other = Voters::new(["a", "b"].map(String::from));
    assert_eq!(of(&bcd, &[("b", &other), ("c", &other)]), abc());
}

#[test]
fn who_takes_a_step_to_other_voters_votes_for_no_epoch_of_those_before() {
    let abcd = Voters::new(["a", "b", "c", "d"].map(String::from));
    let mut bench = after_a_change(&["b", "c", "d"], &[("b", &abc())]);
    let records = bench.records();
    assert_eq!(records.iter().map(|(_, record)| (record.epoch, &record.voters)).collect::<Vec<_>>(), [(12, &abcd)]);
    bench.wait(s(60));
    let b = bench.peer("b", Role::Secondary, 100, State::Stopped);
    for (seq, epoch, refused) in [(2, 12, Some(Refusal::Stale)), (3, 13, None)] {
        bench.beat(
            b,
            seq,
            State::Stopped,
            Some(Ask { voters: abcd.digest(), ..DaemonBench::ask_of("b", Kind::Vote, epoch) }),
        );
        bench.records().into_iter().for_each(|(id, _)| bench.recorded(id, Ok(())));
        assert_eq!(verdict(&bench, b), Some(refused));
        bench.take();
    }
}

#[test]
fn voters_that_are_two_steps_away_come_into_force_step_by_step() {
    let new = Voters::new(["a", "b", "c", "d", "e"].map(String::from));
    let bcde = ["b", "c", "d", "e"];
    let abcd = Voters::new(["a", "b", "c", "d"].map(String::from));
    let of = |in_force: &[(&str, &Voters)]| in_force_here(&after_a_change(&bcde, in_force));
    assert_eq!(of(&[("b", &abc())]), abcd);
    assert_eq!(of(&[("c", &abcd)]), abcd);
    assert_eq!(of(&[("b", &new), ("d", &new), ("e", &new)]), new, "a majority of the new ones is there already");
    let mut bench = after_a_change(&bcde, &[("b", &new), ("d", &new)]);
    assert_eq!(
        in_force_here(&bench),
        abc(),
        "of those before and of the next ones one alone is known, which is this node"
    );
    bench.wait(s(60));
    let b = bench.peer("b", Role::Secondary, 100, State::Stopped);
    let ask = Ask { voters: new.digest(), ..DaemonBench::ask_of("b", Kind::Vote, 10) };
    bench.beat(b, 2, State::Stopped, Some(ask));
    assert!(matches!(verdict(&bench, b), Some(Some(Refusal::Voters { .. }))));
    bench.give(Input::Reload(Box::new(lease_config(&["b", "c", "d", "e"], "", "attempts 9"))));
    assert_eq!(in_force_here(&bench), abc(), "not by a reload of the same nodes, either");
}

#[test]
fn who_votes_is_written_when_a_node_has_never_voted() {
    let mut bench = DaemonBench::without_record(lease_config(&["b", "c"], "", ""));
    bench.give(Input::RecordFound { resource: RESOURCE.to_string(), found: Ok(None) });
    let first = Record { holder: String::new(), epoch: 0, hold: Duration::ZERO, voters: abc(), kept: false };
    assert_eq!(bench.records().into_iter().map(|(_, record)| record).collect::<Vec<_>>(), [first]);
}

#[test]
fn a_silent_node_is_dropped() {
    let mut bench = bench();
    let b = bench.peer("b", Role::Secondary, 100, State::Stopped);
    bench.wait(ms(5_999));
    assert!(!bench.is_closed(b));
    bench.wait(ms(1));
    assert!(bench.is_closed(b));
    // Whatever it says now, it is no node of the resource any more.
    bench.take();
    bench.beat(b, 2, State::Run, None);
    assert!(bench.heard(b).is_empty());
}

#[test]
fn a_release_frees_the_vote_and_keeps_it_for_the_successor() {
    let (mut bench, b) = bound();
    let c = bench.peer("c", Role::Secondary, 100, State::Stopped);
    let release = |successor: Option<&str>| {
        let successor = successor.map(ToString::to_string);
        Said::Release(Release { node: "b".to_string(), epoch: 1, successor, reserve: s(2), was_held: true })
    };
    ask(&mut bench, c, 2, "c", Kind::Vote, 2);
    assert!(matches!(verdict(&bench, c), Some(Some(Refusal::Bound { .. }))));
    bench.said(b, &release(Some("c")));
    assert_eq!(bench.records().last().unwrap().1.hold, Duration::ZERO);
    bench.take();
    ask(&mut bench, b, 9, "b", Kind::Vote, 3);
    assert!(matches!(verdict(&bench, b), Some(Some(Refusal::Reserved { .. }))));
    ask(&mut bench, c, 3, "c", Kind::Vote, 2);
    assert_eq!(bench.records().len(), 1, "the successor may have it");
}

#[test]
fn a_late_renewal_of_what_was_released_is_refused() {
    let (mut bench, b) = bound();
    bench.said(
        b,
        &Said::Release(Release { node: "b".to_string(), epoch: 1, successor: None, reserve: s(2), was_held: true }),
    );
    bench.take();
    ask(&mut bench, b, 9, "b", Kind::Renew, 1);
    assert_eq!(verdict(&bench, b), Some(Some(Refusal::Stale)));
}

#[test]
fn nobody_gives_back_what_is_another_nodes() {
    let (mut bench, _) = bound();
    let c = bench.peer("c", Role::Secondary, 100, State::Stopped);
    bench.said(
        c,
        &Said::Release(Release {
            node: "b".to_string(),
            epoch: u64::MAX,
            successor: None,
            reserve: s(2),
            was_held: true,
        }),
    );
    bench.take();
    ask(&mut bench, c, 3, "c", Kind::Vote, 2);
    assert!(matches!(verdict(&bench, c), Some(Some(Refusal::Bound { .. }))));
}

#[test]
fn a_fenced_node_has_no_vote_any_more_but_this_node_fences_itself_not() {
    let (mut bench, _) = bound();
    let c = bench.peer("c", Role::Secondary, 100, State::Stopped);
    bench.said(c, &Said::Fenced { node: "b".to_string(), epoch: 1 });
    assert!(bench.told().contains(&Event::Fenced { node: "b".to_string() }));
    bench.take();
    ask(&mut bench, c, 3, "c", Kind::Vote, 2);
    assert_eq!(bench.records().len(), 1);
    bench.take();
    bench.said(c, &Said::Fenced { node: "a".to_string(), epoch: 1 });
    assert!(bench.told().is_empty());
}

fn reload(bench: &mut DaemonBench, nodes: &[&str]) -> Vec<String> {
    bench.take();
    bench.reload(lease_config(nodes, "", ""));
    let why = |event| match event {
        Event::ReloadFailed { why } => Some(why),
        _ => None,
    };
    let told = bench.told().into_iter().filter_map(why).collect();
    for (id, _) in bench.records() {
        bench.recorded(id, Ok(()));
    }
    told
}

/// The worker has heard that `b` has these voters in force.
fn b_has(bench: &mut DaemonBench, nodes: &[&str]) {
    let voters = Voters::new(nodes.iter().map(ToString::to_string));
    let lease = LeaseReport {
        epoch: None,
        until: None,
        is_forced: false,
        in_reach: 2,
        votes: 0,
        voters: 3,
        waits: None,
        highest: 1,
        in_force: Vec::from([("b".to_string(), voters.digest())]),
        runs_until: None,
        kept: 0,
        know: Vec::new(),
    };
    bench.reports(State::Stopped, Some(lease));
}

#[test]
fn voters_change_one_by_one_and_when_a_majority_has_those_of_now() {
    let mut bench = bench();
    bench.set_role(Role::Secondary);
    let why = reload(&mut bench, &["b", "c", "d", "e"]);
    assert!(why[0].contains("one reload may add or remove one node (here d, e change)"), "{why:?}");
    let why = reload(&mut bench, &["b", "c", "d"]);
    assert!(why[0].contains("only 1 of 3 have been seen with the present ones, and 2 are needed first"), "{why:?}");
    b_has(&mut bench, &["a", "b", "c"]);
    assert!(reload(&mut bench, &["b", "c", "d"]).is_empty());
    // Of the four of now, `b` still has the three of before.
    let why = reload(&mut bench, &["b", "d"]);
    assert!(why[0].contains("only 1 of 4"), "{why:?}");
    // What does not change needs nobody.
    assert!(reload(&mut bench, &["b", "c", "d"]).is_empty());
}

#[test]
fn while_the_vote_is_bound_the_voters_are_the_holders() {
    let (mut bench, b) = bound();
    bench.set_role(Role::Secondary);
    b_has(&mut bench, &["a", "b", "c"]);
    assert!(reload(&mut bench, &["b", "c", "d"]).is_empty());
    bench.take();
    ask(&mut bench, b, 4, "b", Kind::Renew, 1);
    assert_eq!(verdict(&bench, b), Some(None), "by the voters of before");
    bench.take();
    let new = Voters::new(["a", "b", "c", "d"].map(String::from)).digest();
    let ask = Ask { voters: new, ..DaemonBench::ask_of("b", Kind::Renew, 1) };
    bench.beat(b, 5, State::Run, Some(ask));
    assert_eq!(verdict(&bench, b), Some(None), "by the new ones");
    bench.take();
    self::ask(&mut bench, b, 6, "b", Kind::Renew, 1);
    assert!(matches!(verdict(&bench, b), Some(Some(Refusal::Voters { .. }))), "those of before are over");
}

#[test]
fn numbers_at_their_limits_are_numbers() {
    let (mut bench, b) = bound();
    let longest = Duration::from_micros(u64::MAX);
    for kind in [Kind::Vote, Kind::Renew] {
        let ask = Ask { epoch: u64::MAX, hold: longest, round: u64::MAX, ..DaemonBench::ask_of("b", kind, 1) };
        bench.beat(b, u64::MAX, State::Run, Some(ask));
        if let Some((id, _)) = bench.records().pop() {
            bench.recorded(id, Ok(()));
        }
        bench.wait(s(1));
    }
    bench.said(
        b,
        &Said::Release(Release {
            node: "b".to_string(),
            epoch: u64::MAX,
            successor: Some("c".into()),
            reserve: longest,
            was_held: true,
        }),
    );
    bench.wait(s(2));
    assert!(!bench.lines().is_empty());
}

fn abc() -> Voters {
    Voters::new(["a", "b", "c"].map(String::from))
}

#[test]
fn a_node_is_heard_from_the_friends_of_the_file_though_the_resource_has_its_own() {
    for (friends, is_heard) in [("", false), ("friends tcp4://10.0.0.3", true)] {
        let text = alloc::format!(
            "{friends}\nresource {RESOURCE} {{ exec /r\n\
             on a {{ remote tcp4://10.0.0.2 friends tcp4://10.9.9.9 }}\n\
             on b {{ remote tcp4://10.0.0.1 }}\non c {{ remote tcp4://10.0.0.1 }} }}"
        );
        let mut bench = DaemonBench::without_record(config_of(&text));
        let conn = bench.hello("c", DaemonBench::hello_of("c", Role::Watchdog, 100));
        assert_eq!(bench.is_welcome(conn), is_heard, "{friends}");
    }
}
