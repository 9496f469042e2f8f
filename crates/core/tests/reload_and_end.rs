//! What the main daemon decides when its configuration is read again and when it ends, in cases that take too long, or too much luck, with
//! real processes.

#![cfg(test)]

use std::time::Duration;

use hastmon_core::config::{self, Config, NodeName};
use hastmon_core::daemon::{Action, Caller, ConnId, Daemon, Input, PeerProtocol, WorkerId};
use hastmon_core::event::Event;
use hastmon_core::supervisor::{MAX_LAST_WORKERS, WorkerExit};
use hastmon_core::time::Instant;
use hastmon_core::types::Role;
use hastmon_core::wire::reply::ReloadReply;
use hastmon_core::wire::request::{Request, Via};
use hastmon_core::worker::{Assignment, Farewell, Order};

fn config(lines: &str) -> Box<Config> {
    let text = format!("resource res {{ exec /x on a {{ remote none\n{lines} }} }}");
    let outcome = config::load(&text, &NodeName::new("a").unwrap());
    Box::new(outcome.config.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics)))
}

/// A daemon with its clock.
struct Lab {
    now: Instant,
    daemon: Daemon,
}

impl Lab {
    /// With one resource in a role, and what it did first.
    fn new(role: &str) -> (Self, Vec<Action>) {
        let now = Instant::from_nanos(1_000_000_000);
        let (daemon, actions) = Daemon::new(now, *config(&format!("role_on_start {role}")), PeerProtocol::Legacy, 1);
        (Self { now, daemon }, actions)
    }

    fn handle(&mut self, input: Input) -> Vec<Action> {
        self.daemon.handle(self.now, input)
    }

    /// Lets the time pass until the daemon wants to be called; the actions of that call.
    fn wait(&mut self) -> Vec<Action> {
        self.now = self.daemon.next_deadline().expect("it waits for something");
        self.handle(Input::Timer)
    }

    fn ask(&mut self, number: u64) -> Vec<Action> {
        let message = Request::Reload.encode(Via::ControlSocket);
        let input = Input::Message {
            conn: ConnId(number),
            caller: Caller::ControlSocket(None),
            message,
            unix_now_s: 0,
            random: [0; 16],
        };
        self.handle(input)
    }
}

fn started(actions: &[Action]) -> Option<(WorkerId, &Assignment)> {
    actions.iter().find_map(|action| match action {
        Action::StartWorker { id, assignment } => Some((*id, &**assignment)),
        _ => None,
    })
}

fn loads(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::LoadConfig)).count()
}

/// Who was told what of a reload.
fn told(actions: &[Action]) -> Vec<(u64, ReloadReply)> {
    let told = |action: &Action| match action {
        Action::Reply { conn, message, .. } => Some((conn.0, ReloadReply::decode(message).unwrap())),
        _ => None,
    };
    actions.iter().filter_map(told).collect()
}

#[test]
fn a_reload_that_is_asked_for_while_another_is_under_way_reads_the_file_once_more() {
    let (mut lab, _) = Lab::new("init");
    assert_eq!(loads(&lab.ask(1)), 1);
    for number in 2..5 {
        assert_eq!(loads(&lab.ask(number)), 0, "one at a time");
    }
    assert_eq!(loads(&lab.handle(Input::Hangup)), 0);
    let first = lab.handle(Input::Reload(config("attempts 7")));
    assert_eq!(told(&first).iter().map(|(conn, _)| *conn).collect::<Vec<_>>(), [1], "the others have not been served");
    assert_eq!(loads(&first), 1);
    let why = "no such file".to_owned();
    let second = lab.handle(Input::ReloadFailed { why: why.clone(), report: why.clone() });
    assert_eq!(told(&second), [2, 3, 4].map(|conn| (conn, ReloadReply::Refused(why.clone()))));
    assert_eq!(loads(&second), 0);
    assert_eq!(loads(&lab.handle(Input::Hangup)), 1, "and then all begins anew");
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_does_not_use_up_the_control_socket() {
    let (mut lab, _) = Lab::new("init");
    let answered: Vec<u64> = (1..100).filter(|number| !told(&lab.ask(*number)).is_empty()).collect();
    assert_eq!(answered, (17..100).collect::<Vec<u64>>());
}

#[test]
fn who_waits_for_a_reload_is_told_that_the_daemon_stops() {
    let (mut lab, _) = Lab::new("secondary");
    lab.ask(1);
    lab.ask(2);
    let actions = lab.handle(Input::Stop);
    let stopping = ReloadReply::Refused("hastmon is stopping".to_owned());
    assert_eq!(told(&actions), [(1, stopping.clone()), (2, stopping.clone())]);
    let late = lab.handle(Input::Reload(config("attempts 7")));
    assert!(!late.iter().any(|action| matches!(action, Action::Adopt | Action::LoadConfig)), "{late:?}");
    assert_eq!(told(&lab.ask(3)), [(3, stopping)]);
}

/// Whether the last word of a worker was asked for: to end, and to leave nothing running.
fn leaves(actions: &[Action], worker: WorkerId) -> bool {
    actions.iter().any(|action| matches!(action, Action::Order { id, order: Order::Leave { .. } } if *id == worker))
}

#[test]
fn a_worker_that_does_not_end_in_its_time_is_killed_and_another_one_stops_what_it_has_left() {
    let (mut lab, actions) = Lab::new("primary");
    let (stuck, _) = started(&actions).unwrap();
    let start = lab.now;
    assert!(leaves(&lab.handle(Input::Stop), stuck));
    let killed = lab.wait();
    assert!(killed.iter().any(|action| matches!(action, Action::KillWorker(id) if *id == stuck)), "{killed:?}");
    // Three times stop and status, with a pause after each, two other hooks, each with its grace.
    assert_eq!(lab.now.since(start), Duration::from_secs(3 * (10 + 10 + 8 + 1) + 2 * (30 + 4)));
    let died = lab.handle(Input::WorkerExited(stuck, WorkerExit::Signal(9)));
    assert!(!died.iter().any(|action| matches!(action, Action::Exit)), "the resource may still run");
    let actions = lab.wait();
    let (last, assignment) = started(&actions).unwrap();
    assert_eq!(
        (assignment.role, assignment.changed_from),
        (Role::Secondary, None),
        "it starts nothing, and it tells the script of nothing"
    );
    assert!(leaves(&actions, last));
    let ended = lab.handle(Input::WorkerExited(last, WorkerExit::Farewell(Farewell::AsOrdered)));
    assert!(matches!(ended.last(), Some(Action::Exit)), "{ended:?}");
}

#[test]
fn workers_that_die_again_and_again_do_not_keep_the_daemon_from_ending() {
    let (mut lab, actions) = Lab::new("primary");
    let (mut worker, _) = started(&actions).unwrap();
    lab.handle(Input::Stop);
    for _ in 0..MAX_LAST_WORKERS {
        lab.handle(Input::WorkerExited(worker, WorkerExit::Signal(9)));
        worker = started(&lab.wait()).unwrap().0;
    }
    lab.handle(Input::WorkerExited(worker, WorkerExit::Signal(9)));
    let actions = lab.wait();
    let is_told = |action: &Action| matches!(action, Action::Event(Some(_), Event::MayStillRun));
    assert!(actions.iter().any(is_told) && matches!(actions.last(), Some(Action::Exit)), "{actions:?}");
}

#[test]
fn what_an_old_script_has_left_running_is_stopped_with_it_and_not_with_the_new_one() {
    let (mut lab, actions) = Lab::new("primary");
    let (worker, _) = started(&actions).unwrap();
    lab.handle(Input::WorkerExited(worker, WorkerExit::Signal(9)));
    let mut new = config("role_on_start init");
    new.resources[0].exec = "/new".to_owned();
    lab.handle(Input::Reload(new));
    let actions = lab.wait();
    let (last, assignment) = started(&actions).unwrap();
    assert_eq!((assignment.role, assignment.resource.exec.as_str()), (Role::Secondary, "/x"));
    assert!(leaves(&actions, last));
    let actions = lab.handle(Input::WorkerExited(last, WorkerExit::Farewell(Farewell::AsOrdered)));
    let (_, assignment) = started(&actions).unwrap();
    assert_eq!((assignment.role, assignment.resource.exec.as_str()), (Role::Primary, "/new"));
}
