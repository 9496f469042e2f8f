//! Who may ask the main daemon for what, and what is answered. Node `a` with the remotes 10.0.0.2 and 10.0.0.3 and the friend 10.0.0.9.

use super::*;
use crate::config::Algorithm;
use crate::supervisor::WorkerExit;
use crate::testing::{B, C, DaemonBench, RESOURCE, WATCHDOG, config, config_of, ms, s};
use crate::types::State;
use crate::wire::request::Via;
use crate::worker::Farewell;
use alloc::format;
use alloc::vec;

const STRANGER: &str = "10.9.9.9";
const KEYED: &str = "| key { algorithm SHA256 secret \"a long secret of a test\" }";

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn status_of(bench: &DaemonBench, conn: ConnId) -> StatusReply {
    StatusReply::decode(&bench.reply_to(conn).expect("answered").0).unwrap()
}

fn roles_of(bench: &DaemonBench, conn: ConnId) -> RoleReply {
    RoleReply::decode(&bench.reply_to(conn).expect("answered").0).unwrap()
}

fn entry(outcome: Result<Role, i16>) -> RoleReply {
    Reply::Entries(vec![Entry { resource: RESOURCE.to_string(), outcome }])
}

fn is_refused(bench: &DaemonBench) -> bool {
    bench.told().iter().any(|event| matches!(event, Event::CallerRefused { .. }))
}

/// The same request, signed with this secret at this time.
fn signed(bench: &mut DaemonBench, from: &str, request: &Request, secret: &str, now_s: u64) -> ConnId {
    let Caller::Network { peer, local } = DaemonBench::caller(from) else { unreachable!() };
    let signature = Signature::new(Algorithm::Sha256, secret.as_bytes(), now_s, peer, local);
    bench.network_list(from, request.encode(Via::Network(Some(&signature))))
}

mod roles {
    use super::*;

    fn request(role: Role, resources: &[&str]) -> Request {
        Request::SetRole { role, resources: names(resources), force: false }
    }

    #[test]
    fn the_control_socket_may_and_hears_the_role_before() {
        let mut bench = DaemonBench::new("");
        let conn = bench.set_role(Role::Primary);
        assert_eq!((bench.role(), roles_of(&bench, conn)), (Role::Primary, entry(Ok(Role::Init))));
        let conn = bench.control(&request(Role::Secondary, &["all"]));
        assert_eq!((bench.role(), roles_of(&bench, conn)), (Role::Secondary, entry(Ok(Role::Primary))));
    }

    #[test]
    fn an_unknown_resource_is_error_1_beside_those_that_are_known() {
        let mut bench = DaemonBench::new("");
        let conn = bench.control(&request(Role::Secondary, &["nosuch", RESOURCE]));
        let Reply::Entries(entries) = roles_of(&bench, conn) else { panic!() };
        assert_eq!(entries.iter().map(|entry| entry.outcome).collect::<Vec<_>>(), [Err(1), Ok(Role::Init)]);
    }

    #[test]
    fn the_network_may_not_whoever_asks() {
        for from in [B, WATCHDOG, STRANGER] {
            let mut bench = DaemonBench::new("");
            let conn = bench.network(from, &request(Role::Primary, &[RESOURCE]));
            assert_eq!((bench.role(), roles_of(&bench, conn)), (Role::Init, entry(Err(5))), "{from}");
            assert!(is_refused(&bench));
        }
    }

    #[test]
    fn the_network_may_with_a_signature_of_a_friend_made_with_the_key_about_now() {
        let now = DaemonBench::new("").unix_now_s;
        let secret = "a long secret of a test";
        let cases = [
            (WATCHDOG, secret, now, true),
            (B, secret, now - 10, true),
            (B, secret, now - 11, false),
            (B, "another secret", now, false),
            (STRANGER, secret, now, false),
        ];
        for (from, secret, now_s, may) in cases {
            let mut bench = DaemonBench::new(KEYED);
            let conn = signed(&mut bench, from, &request(Role::Secondary, &[RESOURCE]), secret, now_s);
            let expected = if may { (Role::Secondary, Ok(Role::Init)) } else { (Role::Init, Err(5)) };
            assert_eq!(
                (bench.role(), roles_of(&bench, conn)),
                (expected.0, entry(expected.1)),
                "{from} {secret} {now_s}"
            );
        }
        let mut bench = DaemonBench::new("");
        let conn = signed(&mut bench, B, &request(Role::Secondary, &[RESOURCE]), secret, now);
        assert_eq!(roles_of(&bench, conn), entry(Err(5)), "no key here, so nothing can be proven");
    }
}

mod status {
    use super::*;

    fn report(bench: &mut DaemonBench, report: Report) {
        let id = bench.worker();
        bench.give(Input::Report(id, report));
    }

    #[test]
    fn it_tells_what_is_configured_and_what_the_worker_says() {
        let mut bench = DaemonBench::new("role_on_start primary");
        let id = bench.worker();
        bench.give(Input::WorkerStarted(id, 4711));
        let remotes = vec![RemoteReport::Connected(true), RemoteReport::Connected(false)];
        report(
            &mut bench,
            Report {
                state: State::Run,
                attempts: 2,
                remotes,
                complaints: 0,
                lease: None,
                lateness: None,
                statuses: Vec::new(),
            },
        );
        let conn = bench.control(&Request::Status { resources: names(&["all"]) });
        let Reply::Entries(entries) = status_of(&bench, conn) else { panic!() };
        let status = entries[0].outcome.clone().unwrap();
        let words: Vec<_> = status
            .remotes
            .iter()
            .map(|remote| (&*remote.addr, remote.state.as_deref(), remote.role.as_deref()))
            .collect();
        assert_eq!(words, [(B, Some("connected"), None), (C, Some("disconnected"), None)]);
        assert_eq!((&*status.exec, status.attempts_max, status.workerpid), ("/r", 5, 4711));
        assert_eq!((status.role, status.complaints, status.complaints_critical), (Role::Primary, 0, 3));
        assert_eq!((status.complaints_interval, status.heartbeat), (s(60), s(1)));
        assert_eq!(status.worker, Some(WorkerStatus { state: State::Run, attempts: 2 }));
    }

    #[test]
    fn a_watchdog_tells_roles_states_and_its_own_complaints() {
        let mut bench = DaemonBench::new("role_on_start watchdog");
        let remotes =
            vec![RemoteReport::Polled(Some(Role::Primary), State::Run), RemoteReport::Polled(None, State::Unknown)];
        report(
            &mut bench,
            Report {
                state: State::Run,
                attempts: 0,
                remotes,
                complaints: 7,
                lease: None,
                lateness: None,
                statuses: Vec::new(),
            },
        );
        let conn = bench.control(&Request::Status { resources: names(&[RESOURCE]) });
        let Reply::Entries(entries) = status_of(&bench, conn) else { panic!() };
        let status = entries[0].outcome.clone().unwrap();
        let words: Vec<_> =
            status.remotes.iter().map(|remote| (remote.state.as_deref(), remote.role.as_deref())).collect();
        assert_eq!(words, [(Some("run"), Some("primary")), (Some("unknown"), Some("unknown"))]);
        assert_eq!(status.complaints, 7);
    }

    #[test]
    fn in_the_role_init_there_is_no_worker_to_tell_anything() {
        let mut bench = DaemonBench::new("");
        let conn = bench.control(&Request::Status { resources: names(&[RESOURCE]) });
        let Reply::Entries(entries) = status_of(&bench, conn) else { panic!() };
        let status = entries[0].outcome.clone().unwrap();
        assert_eq!((status.role, status.workerpid, status.worker), (Role::Init, 0, None));
    }

    #[test]
    fn an_unknown_resource_is_error_1_on_the_control_socket_and_no_reply_over_the_network() {
        let mut bench = DaemonBench::new("");
        let conn = bench.control(&Request::Status { resources: names(&["nosuch"]) });
        assert_eq!(
            status_of(&bench, conn),
            Reply::Entries(vec![Entry { resource: "nosuch".to_string(), outcome: Err(1) }])
        );
        let conn = bench.poll(WATCHDOG, "nosuch");
        assert!(bench.is_closed(conn) && bench.reply_to(conn).is_none());
    }

    #[test]
    fn a_friend_of_one_resource_hears_nothing_of_another() {
        let text = "listen 10.0.0.1 timeout 2\n\
            resource r { exec /r friends 10.0.0.7 on a { remote 10.0.0.2 } }\n\
            resource q { exec /q on a { remote 10.0.0.3 } }";
        let mut bench = DaemonBench::of(config_of(text));
        let conn = bench.poll("10.0.0.7", "q");
        assert!(bench.is_closed(conn) && is_refused(&bench));
        let conn = bench.network("10.0.0.7", &Request::Status { resources: names(&["all"]) });
        let Reply::Entries(entries) = status_of(&bench, conn) else { panic!() };
        assert_eq!(entries.iter().map(|entry| &*entry.resource).collect::<Vec<_>>(), [RESOURCE]);
    }

    #[test]
    fn a_primary_hears_that_it_was_polled_from_the_network_but_not_of_hastmonctl() {
        let mut bench = DaemonBench::new("role_on_start primary");
        bench.take();
        bench.control(&Request::Status { resources: names(&["all"]) });
        assert_eq!(bench.orders(), []);
        for from in [B, WATCHDOG] {
            bench.poll(from, RESOURCE);
            bench.wait(ms(250));
        }
        assert_eq!(bench.orders(), [Order::Polled, Order::Polled]);
        bench.take();
        bench.poll(STRANGER, RESOURCE);
        assert_eq!(bench.orders(), []);
        for role in [Role::Secondary, Role::Watchdog] {
            let mut bench = DaemonBench::new(&format!("role_on_start {role}"));
            bench.take();
            bench.poll(WATCHDOG, RESOURCE);
            assert_eq!(bench.orders(), [], "{role}");
        }
    }

    #[test]
    fn however_often_a_primary_is_polled_it_hears_so_four_times_in_a_heartbeat() {
        let mut bench = DaemonBench::new("role_on_start primary");
        bench.take();
        for _ in 0..1000 {
            bench.poll(WATCHDOG, RESOURCE);
            bench.wait(ms(1));
        }
        assert_eq!(bench.orders(), [const { Order::Polled }; 4]);
    }

    #[test]
    fn with_a_key_an_unsigned_poll_is_error_5_and_no_contact() {
        let mut bench = DaemonBench::new(&format!("role_on_start primary {KEYED}"));
        bench.take();
        let conn = bench.poll(WATCHDOG, RESOURCE);
        assert_eq!(status_of(&bench, conn), Reply::Failed(5));
        assert_eq!(bench.orders(), []);
        let now = bench.unix_now_s;
        let request = Request::Status { resources: names(&[RESOURCE]) };
        let conn = signed(&mut bench, WATCHDOG, &request, "a long secret of a test", now);
        assert!(matches!(status_of(&bench, conn), Reply::Entries(_)));
        assert_eq!(bench.orders(), [Order::Polled]);
    }
}

mod callers {
    use super::*;

    #[test]
    fn only_remotes_and_friends_are_known() {
        let bench = DaemonBench::new("");
        let known = |ip: &str| bench.daemon.knows(ip.parse().unwrap());
        assert!(["10.0.0.2", "10.0.0.3", "10.0.0.9", "::ffff:10.0.0.9"].into_iter().all(known));
        assert!(![STRANGER, "10.0.0.1", "::1"].into_iter().any(known));
    }

    #[test]
    fn a_name_is_known_when_it_has_been_looked_up_and_until_it_is_found_elsewhere() {
        let mut bench = DaemonBench::new("remote tcp4://b.example friendless");
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(bench.daemon.names_to_resolve().into_iter().collect::<Vec<_>>(), ["b.example"]);
        assert!(!bench.daemon.knows(ip("10.0.0.2")));
        bench.give(Input::Resolved("b.example".to_string(), Ok(vec![ip("10.0.0.2")])));
        assert!(bench.daemon.knows(ip("10.0.0.2")));
        bench.set_role(Role::Secondary);
        let conn = bench.handshake("10.0.0.2", 0);
        assert!(matches!(bench.answer_to(conn), Some(Answer::Token(_))));
        bench.give(Input::Resolved("b.example".to_string(), Err("no such host".to_string())));
        assert!(bench.daemon.knows(ip("10.0.0.2")), "a server of names that fails takes nobody's access");
        bench.give(Input::Resolved("b.example".to_string(), Ok(vec![ip("10.0.0.3")])));
        assert!(!bench.daemon.knows(ip("10.0.0.2")));
    }

    #[test]
    fn a_name_that_is_not_found_is_told_once_with_its_resources_until_it_was_found() {
        let mut bench = DaemonBench::new("remote b.example friendless");
        bench.take();
        let lost = || Input::Resolved("b.example".to_string(), Err("no such host".to_string()));
        for _ in 0..3 {
            bench.give(lost());
        }
        let told = |was_known| Event::NameUnknown {
            why: "no such host".to_string(),
            resources: names(&[RESOURCE]),
            was_known,
        };
        assert_eq!(bench.told(), vec![told(false)]);
        bench.give(Input::Resolved("b.example".to_string(), Ok(Vec::new())));
        bench.give(lost());
        assert_eq!(bench.told().last(), Some(&told(true)));
    }

    #[test]
    fn a_handshake_needs_a_remote_and_a_resource_that_is_known() {
        let mut bench = DaemonBench::new("role_on_start secondary");
        let denied = |bench: &DaemonBench, conn| bench.refusal(conn).map(|(text, _)| text);
        for from in [WATCHDOG, STRANGER] {
            let conn = bench.handshake(from, 0);
            assert_eq!(denied(&bench, conn), Some("No access to the resource.".to_string()));
            let conn = bench.token(from, [0; 16]);
            assert_eq!(denied(&bench, conn), Some("No access to the resource.".to_string()));
        }
        let conn = bench.network(B, &Request::Handshake { resource: "nosuch".to_string(), priority: 0 });
        assert_eq!(denied(&bench, conn), Some("Resource not configured.".to_string()));
        let conn = bench.control(&Request::Handshake { resource: RESOURCE.to_string(), priority: 0 });
        assert_eq!(denied(&bench, conn), Some("No access to the resource.".to_string()));
    }

    #[test]
    fn with_a_key_both_steps_of_a_handshake_and_every_complaint_must_be_signed() {
        let mut bench = DaemonBench::new(&format!("role_on_start secondary {KEYED}"));
        let now = bench.unix_now_s;
        let unsigned = bench.handshake(B, 0);
        assert!(bench.refusal(unsigned).unwrap().0.contains("not signed"));
        let handshake = Request::Handshake { resource: RESOURCE.to_string(), priority: 0 };
        let conn = signed(&mut bench, B, &handshake, "a long secret of a test", now);
        let Some(Answer::Token(token)) = bench.answer_to(conn) else { panic!() };
        let conn = bench.token(B, token);
        assert!(bench.refusal(conn).unwrap().0.contains("not signed"));
        let joins = Request::HandshakeToken { resource: RESOURCE.to_string(), token, resuid: 0 };
        signed(&mut bench, B, &joins, "a long secret of a test", now);
        assert_eq!(bench.hand_overs().len(), 1);
        let mut bench = DaemonBench::new(&format!("role_on_start secondary {KEYED}"));
        for _ in 0..9 {
            bench.complain(WATCHDOG);
        }
        assert_eq!((bench.role(), is_refused(&bench)), (Role::Secondary, true));
        let complaint = Request::Complaint { resource: RESOURCE.to_string() };
        for _ in 0..4 {
            signed(&mut bench, WATCHDOG, &complaint, "a long secret of a test", now);
        }
        assert_eq!(bench.role(), Role::Primary);
    }

    #[test]
    fn a_complaint_of_a_remote_or_friend_counts_is_not_answered_and_the_connection_closed() {
        for from in [B, WATCHDOG] {
            let mut bench = DaemonBench::new("role_on_start secondary");
            let conn = bench.complain(from);
            assert!(bench.is_closed(conn) && bench.reply_to(conn).is_none());
            assert!(bench.told().iter().any(|event| matches!(event, Event::ComplaintHeard { count: 1, .. })));
        }
        let mut bench = DaemonBench::new("role_on_start secondary");
        for _ in 0..9 {
            bench.complain(STRANGER);
            bench.control(&Request::Complaint { resource: RESOURCE.to_string() });
            bench.network(WATCHDOG, &Request::Complaint { resource: "nosuch".to_string() });
        }
        assert_eq!(bench.role(), Role::Secondary);
    }

    #[test]
    fn a_message_that_makes_no_sense_is_answered_with_its_error_or_not_at_all() {
        let mut bench = DaemonBench::new("");
        let unknown_command = List::new().with_u8("type", 1).with_u8("cmd", 9);
        let no_command = List::new().with_u8("type", 1);
        let unknown_type = List::new().with_u8("type", 9);
        for (message, error) in
            [(unknown_command, Some(4)), (no_command, Some(2)), (unknown_type, None), (List::new(), None)]
        {
            let conn = bench.network_list(B, message);
            let reply = bench.reply_to(conn).map(|(list, _)| RoleReply::decode(&list).unwrap());
            assert_eq!(reply, error.map(Reply::Failed));
            assert_eq!(bench.is_closed(conn), error.is_none());
        }
        assert!(is_refused(&bench));
    }

    #[test]
    fn a_flood_of_refusals_is_told_as_a_count() {
        let mut bench = DaemonBench::new("");
        for _ in 0..1000 {
            bench.give(Input::Refused(STRANGER.parse().unwrap(), "it is in no friends and no remote".to_string()));
        }
        let told = bench.told().len();
        assert!((1..100).contains(&told), "{told}");
        bench.take();
        bench.wait(s(60));
        bench.give(Input::Timer);
        assert!(matches!(&bench.told()[..], [Event::Repeated { others, .. }] if *others > 900), "{:?}", bench.told());
    }
}

mod reload {
    use super::*;

    fn two(first: &str, second: &str) -> Config {
        config_of(&format!(
            "resource {first} {{ exec /x role_on_start secondary on a {{ remote 10.0.0.2 }} }}\n\
             resource {second} {{ exec /x on a {{ remote 10.0.0.2 }} }}"
        ))
    }

    fn resources(bench: &DaemonBench) -> Vec<&str> {
        bench.daemon.resources().iter().map(|supervisor| &*supervisor.settings().name).collect()
    }

    #[test]
    fn a_resource_that_comes_takes_up_its_role_and_the_order_is_that_of_the_file() {
        let mut bench = DaemonBench::new("role_on_start primary");
        bench.take();
        bench.reload(two("new", RESOURCE));
        assert_eq!(resources(&bench), ["new", RESOURCE]);
        let started = bench.started();
        assert_eq!((started.len(), &*started[0].1.resource.name, started[0].1.role), (1, "new", Role::Secondary));
    }

    #[test]
    fn a_resource_that_goes_is_stopped_first() {
        let mut bench = DaemonBench::new("role_on_start primary");
        bench.take();
        let worker = bench.worker();
        bench.reload(two("p", "q"));
        assert!(matches!(&bench.orders()[..], [Order::Leave { .. }]));
        assert_eq!(resources(&bench), ["p", "q", RESOURCE]);
        bench.give(Input::WorkerExited(worker, WorkerExit::Farewell(Farewell::AsOrdered)));
        assert_eq!(resources(&bench), ["p", "q"]);
        let conn = bench.control(&Request::Status { resources: names(&[RESOURCE]) });
        let expected = Entry { resource: RESOURCE.to_string(), outcome: Err(1) };
        assert_eq!(status_of(&bench, conn), Reply::Entries(vec![expected]));
    }

    #[test]
    fn a_resource_that_comes_back_while_it_goes_begins_anew_when_its_worker_has_ended() {
        let mut bench = DaemonBench::new("role_on_start primary");
        bench.reload(two("p", "q"));
        bench.reload(config("role_on_start secondary"));
        bench.take();
        let leaving =
            bench.daemon.resources().iter().find(|supervisor| supervisor.settings().name == RESOURCE).unwrap();
        assert_eq!(leaving.role(), Role::Secondary);
        let worker = leaving.worker().unwrap();
        bench.give(Input::WorkerExited(worker, WorkerExit::Farewell(Farewell::AsOrdered)));
        let started = bench.started();
        assert_eq!((started.len(), &*started[0].1.resource.name, started[0].1.role), (1, RESOURCE, Role::Secondary));
    }

    #[test]
    fn a_resource_in_the_role_init_goes_at_once() {
        let mut bench = DaemonBench::new("");
        bench.reload(two("p", "q"));
        assert_eq!(resources(&bench), ["p", "q"]);
    }

    fn asks_for_reload(bench: &mut DaemonBench) -> ConnId {
        bench.control(&Request::Reload)
    }

    fn loads(bench: &DaemonBench) -> usize {
        bench.actions.iter().filter(|action| matches!(action, Action::LoadConfig)).count()
    }

    fn answer_to_reload(bench: &DaemonBench, conn: ConnId) -> Option<ReloadReply> {
        Some(ReloadReply::decode(&bench.reply_to(conn)?.0).unwrap())
    }

    #[test]
    fn neither_it_nor_a_switchover_is_to_be_had_over_the_network() {
        for request in [Request::Reload, Request::Switchover { resource: RESOURCE.to_string(), to: None }] {
            let mut bench = DaemonBench::new(KEYED);
            let conn = bench.network(WATCHDOG, &request);
            assert_eq!(status_of(&bench, conn), StatusReply::Failed(ErrorCode::NotImplemented.to_wire()));
            assert!(is_refused(&bench));
            assert_eq!(loads(&bench), 0);
        }
    }

    #[test]
    fn there_is_one_at_a_time_and_who_asks_meanwhile_gets_the_next() {
        let mut bench = DaemonBench::new("");
        let first = asks_for_reload(&mut bench);
        let later = [asks_for_reload(&mut bench), asks_for_reload(&mut bench)];
        bench.give(Input::Hangup);
        assert_eq!(loads(&bench), 1);
        bench.take();
        bench.reload(config("timeout 3"));
        let changed = ReloadReply::Done("1 changed (r), 0 as before".to_string());
        assert_eq!(answer_to_reload(&bench, first), Some(changed));
        assert!(later.iter().all(|conn| answer_to_reload(&bench, *conn).is_none()));
        assert_eq!(loads(&bench), 1, "the file may have changed since it was read");
        bench.take();
        bench.give(Input::ReloadFailed { why: "line 1".to_string(), report: "line 1\nline 2".to_string() });
        for conn in later {
            assert_eq!(answer_to_reload(&bench, conn), Some(ReloadReply::Refused("line 1\nline 2".to_string())));
        }
        assert_eq!(bench.told(), [Event::ReloadFailed { why: "line 1".to_string() }]);
        assert_eq!(loads(&bench), 0);
        bench.give(Input::Hangup);
        assert_eq!(loads(&bench), 1);
    }

    #[test]
    fn few_may_wait_for_one() {
        let mut bench = DaemonBench::new("");
        let conns: Vec<_> = (0..=MAX_RELOAD_CALLERS).map(|_| asks_for_reload(&mut bench)).collect();
        let refused = |conn: &ConnId| matches!(answer_to_reload(&bench, *conn), Some(ReloadReply::Refused(_)));
        assert_eq!(conns.iter().filter(|conn| refused(conn)).count(), 1);
        assert!(refused(&conns[MAX_RELOAD_CALLERS]));
    }

    #[test]
    fn who_waits_for_one_hears_that_the_daemon_stops() {
        let mut bench = DaemonBench::new("role_on_start primary");
        let conns = [asks_for_reload(&mut bench), asks_for_reload(&mut bench)];
        bench.give(Input::Stop);
        let stopping = || Some(ReloadReply::Refused(STOPPING.to_string()));
        assert!(conns.iter().all(|conn| answer_to_reload(&bench, *conn) == stopping()));
        let conn = asks_for_reload(&mut bench);
        assert_eq!((answer_to_reload(&bench, conn), loads(&bench)), (stopping(), 1));
    }

    #[test]
    fn a_file_without_any_resource_changes_nothing() {
        let mut bench = DaemonBench::new("role_on_start primary");
        bench.take();
        bench.reload(config_of(""));
        assert!(matches!(bench.told()[..], [Event::ReloadFailed { .. }]));
        assert_eq!((bench.role(), bench.orders()), (Role::Primary, vec![]));
    }

    #[test]
    fn new_friends_are_known_and_old_ones_are_not() {
        let mut bench = DaemonBench::new("");
        bench.reload(config("friends 10.0.0.8"));
        assert!(bench.daemon.knows("10.0.0.8".parse().unwrap()));
        assert!(!bench.daemon.knows(WATCHDOG.parse().unwrap()));
    }
}

mod stop {
    use super::*;

    #[test]
    fn it_exits_when_every_worker_has_ended() {
        let text = "resource r { exec /x role_on_start primary on a { remote 10.0.0.2 } }\n\
            resource q { exec /x role_on_start secondary on a { remote 10.0.0.2 } }\n\
            resource p { exec /x on a { remote 10.0.0.2 } }";
        let mut bench = DaemonBench::of(config_of(text));
        let workers: Vec<_> = bench.started().into_iter().map(|(id, _)| id).collect();
        bench.take();
        bench.give(Input::Stop);
        assert_eq!((bench.orders().len(), bench.exits()), (2, false));
        for worker in workers {
            assert!(!bench.exits());
            bench.give(Input::WorkerExited(worker, WorkerExit::Farewell(Farewell::AsOrdered)));
        }
        assert!(bench.exits());
        assert!(matches!(bench.take().last(), Some(Action::Exit)));
    }

    #[test]
    fn it_exits_at_once_when_nothing_runs() {
        let mut bench = DaemonBench::new("");
        bench.give(Input::Stop);
        assert!(bench.exits());
    }

    #[test]
    fn a_secondary_that_waits_to_be_started_again_is_not_started_any_more() {
        let mut bench = DaemonBench::new("role_on_start secondary");
        let report = Report {
            state: State::Stopped,
            attempts: 0,
            remotes: Vec::new(),
            complaints: 0,
            lease: None,
            lateness: None,
            statuses: Vec::new(),
        };
        bench.give(Input::Report(bench.worker(), report));
        bench.worker_exits(WorkerExit::Signal(9));
        bench.take();
        bench.give(Input::Stop);
        assert_eq!((bench.started().len(), bench.exits()), (0, true));
    }

    #[test]
    fn a_secondary_that_died_before_its_resource_was_known_to_be_stopped_is_followed_by_one_that_stops_it() {
        let mut bench = DaemonBench::new("role_on_start secondary");
        bench.worker_exits(WorkerExit::Signal(9));
        bench.take();
        bench.give(Input::Stop);
        assert_eq!((bench.started().len(), bench.started()[0].1.role, bench.exits()), (1, Role::Secondary, false));
        assert!(matches!(&bench.orders()[..], [Order::Leave { .. }]));
        bench.worker_ends();
        assert!(bench.exits());
    }

    #[test]
    fn a_worker_that_does_not_end_is_killed() {
        let mut bench = DaemonBench::new("role_on_start watchdog");
        bench.give(Input::Stop);
        bench.wait(s(600));
        assert!(bench.take().iter().any(|action| matches!(action, Action::KillWorker(_))));
    }

    #[test]
    fn nothing_starts_any_more() {
        let mut bench = DaemonBench::new("role_on_start secondary");
        bench.give(Input::Stop);
        bench.take();
        bench.set_role(Role::Primary);
        for _ in 0..9 {
            bench.complain(WATCHDOG);
        }
        bench.reload(config("role_on_start primary | heartbeat_interval 2"));
        let conn = bench.handshake(B, 0);
        assert_eq!(bench.refusal(conn), Some((Refusal::Busy.to_string(), None)));
        assert_eq!((bench.role(), bench.started().len()), (Role::Secondary, 0));
        bench.worker_ends();
        assert!(bench.exits());
    }

    #[test]
    fn callers_that_wait_are_closed() {
        let mut bench = DaemonBench::new("role_on_start secondary");
        let conn = bench.handshake(B, 0);
        bench.give(Input::Stop);
        assert!(bench.is_closed(conn));
    }
}

mod fuzz;
mod turns;

#[test]
fn many_workers_begin_one_after_the_other_but_those_of_primaries() {
    let text: String =
        (0..100).map(|number| format!("resource r{number} {{ exec /x\n on a {{ remote none }} }}\n")).collect();
    let mut bench = DaemonBench::of(config_of(&text));
    let begun = |bench: &DaemonBench| {
        bench.actions.iter().filter(|action| matches!(action, Action::StartWorker { .. })).count()
    };
    let all = |bench: &mut DaemonBench, role, resources: &[&str]| {
        bench.control(&Request::SetRole { role, resources: names(resources), force: false });
    };
    all(&mut bench, Role::Secondary, &["all"]);
    assert_eq!(begun(&bench), 33);
    // What waits for its worker gets it at once when it is to be primary.
    bench.take();
    all(&mut bench, Role::Primary, &["r99"]);
    assert_eq!(begun(&bench), 1);
    bench.wait(ms(500));
    assert!((40..60).contains(&begun(&bench)), "{}", begun(&bench));
    bench.wait(ms(500));
    assert_eq!(begun(&bench), 100 - 33, "each has one");
}
