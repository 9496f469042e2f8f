//! What callers can do to the daemon's decisions by asking often, or for what is not theirs.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::event::Event;
use crate::rate_limit::{BURST, INTERVAL};
use crate::supervisor::MAX_HALF_OPEN;
use crate::testing::{B, C, DaemonBench, RESOURCE, WATCHDOG, ms, s};
use crate::types::{ErrorCode, Role};
use crate::wire::reply::StatusReply;
use crate::wire::request::Request;
use crate::wire::session::{Answer, Refusal};
use crate::worker::Order;

fn bench(role: Role) -> DaemonBench {
    let mut bench = DaemonBench::new("");
    bench.set_role(role);
    bench.take();
    bench
}

fn lines(bench: &mut DaemonBench) -> Vec<String> {
    let told = bench.told().iter().map(ToString::to_string).collect();
    bench.take();
    told
}

#[test]
fn of_too_many_unfinished_handshakes_the_newest_loses_and_other_remotes_are_not_kept_out() {
    let mut bench = bench(Role::Secondary);
    let unfinished: Vec<_> = (0..MAX_HALF_OPEN).map(|_| bench.handshake(B, 0)).collect();
    let one_more = bench.handshake(B, 0);
    assert_eq!(bench.refusal(one_more), Some((Refusal::Busy.to_string(), None)));
    bench.connect(C, 0);
    let Some(Answer::Token(token)) = bench.answer_to(unfinished[0]) else { panic!("the first has its token") };
    bench.take();
    bench.token(B, token);
    assert_eq!(bench.hand_overs().len(), 1, "the first goes on as if nothing had happened");
    bench.wait(s(2));
    assert!(unfinished[1..].iter().all(|conn| bench.is_closed(*conn)), "they have as long as `timeout`");
    let again = bench.handshake(B, 0);
    assert!(matches!(bench.answer_to(again), Some(Answer::Token(_))));
}

#[test]
fn whoever_polls_all_the_time_does_not_keep_the_worker_busy() {
    let mut bench = bench(Role::Primary);
    (0..1000).for_each(|_| _ = bench.poll(WATCHDOG, RESOURCE));
    assert_eq!(bench.orders(), [Order::Polled]);
    bench.take();
    for _ in 0..3 {
        bench.wait(s(1));
        bench.poll(WATCHDOG, RESOURCE);
    }
    assert_eq!(bench.orders().len(), 3, "but hears of one in each heartbeat");
}

#[test]
fn a_flood_of_complaints_is_told_as_a_count_and_changes_nothing_while_a_primary_is_connected() {
    let mut bench = bench(Role::Secondary);
    bench.connect(B, 0);
    bench.take();
    (0..5000).for_each(|_| _ = bench.complain(WATCHDOG));
    assert_eq!((bench.role(), lines(&mut bench).len()), (Role::Secondary, BURST as usize));
    bench.wait(INTERVAL);
    let told = lines(&mut bench);
    assert!(told.len() == 1 && told[0].ends_with("(and 4979 more like this)"), "{told:?}");
}

#[test]
fn a_request_to_set_a_role_over_the_network_is_refused_and_names_the_peer_also_during_a_flood() {
    let mut bench = bench(Role::Secondary);
    for _ in 0..1000 {
        bench.give(super::Input::Stranger([192, 0, 2, 66].into()));
    }
    bench.take();
    bench.network(
        WATCHDOG,
        &Request::SetRole { role: Role::Primary, resources: Vec::from([RESOURCE.to_string()]), force: false },
    );
    let caller = WATCHDOG.to_string();
    let why = "set role primary for r: not signed with a configured key".to_string();
    assert_eq!(bench.told(), [Event::CallerRefused { caller, why }]);
    assert_eq!(bench.role(), Role::Secondary);
}

#[test]
fn news_of_one_heartbeat_are_not_lost_when_polls_come_at_different_times() {
    let mut bench = bench(Role::Primary);
    for _ in 0..8 {
        bench.poll(WATCHDOG, RESOURCE);
        bench.wait(ms(250));
    }
    assert_eq!(bench.orders().len(), 8);
}

#[test]
fn a_name_without_an_address_is_told_once_with_its_resource_and_again_when_it_has_one() {
    let mut bench = DaemonBench::new("remote db.example");
    bench.set_role(Role::Secondary);
    bench.take();
    let mut resolved = |found: Result<&str, &str>| {
        let found = found.map(|address| Vec::from([address.parse().unwrap()])).map_err(ToString::to_string);
        bench.give(super::Input::Resolved("db.example".to_string(), found));
        let caller = bench.handshake("192.0.2.7", 0);
        let is_known = matches!(bench.answer_to(caller), Some(Answer::Token(_)));
        let told = lines(&mut bench).into_iter().filter(|line| line.contains("db.example")).collect::<Vec<_>>();
        (is_known, told)
    };
    let lost = "cannot find the address of db.example";
    let first = format!("{lost} (needed for: r; trying again)");
    assert_eq!(resolved(Err(lost)), (false, Vec::from([first])));
    assert_eq!(resolved(Err(lost)), (false, Vec::new()));
    assert_eq!(resolved(Ok("192.0.2.7")), (true, Vec::from(["db.example is now known as 192.0.2.7".to_string()])));
    let again = format!("{lost} (needed for: r; trying again, going on with what it was)");
    assert_eq!(resolved(Err(lost)), (true, Vec::from([again])));
    assert!(!resolved(Ok("192.0.2.8")).0, "it has moved");
}

#[test]
fn nobody_on_the_network_keeps_the_daemon_busy_with_one_request() {
    let mut bench = bench(Role::Secondary);
    let mut ask = |names: &[String]| {
        let conn = bench.network(WATCHDOG, &Request::Status { resources: names.into() });
        StatusReply::decode(&bench.reply_to(conn).expect("an answer").0).unwrap()
    };
    let same = alloc::vec![RESOURCE.to_string(); 2000];
    assert!(matches!(ask(&same), StatusReply::Entries(entries) if entries.len() == 1));
    let others: Vec<String> = (0..2000).map(|number| format!("r{number}")).collect();
    assert_eq!(ask(&others), StatusReply::Failed(ErrorCode::Invalid.to_wire()));
}
