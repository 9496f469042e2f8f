//! The queue of hooks on a virtual clock.

use alloc::collections::BTreeSet;

use super::*;
use crate::testing::{ms, resource, s};
use proptest::prelude::*;

/// start 60 s, stop 10 s, status 5 s, the others 20 s.
const SETTINGS: &str = "start_timeout 60 stop_timeout 10 status_timeout 5 hook_timeout 20";

struct Bench {
    queue: HookQueue,
    now: Instant,
    out: Vec<HookAction>,
}

impl Bench {
    fn new() -> Self {
        Self::with(SETTINGS)
    }

    fn with(settings: &str) -> Self {
        let queue = HookQueue::new(Limits::of(&resource(settings)));
        Self { queue, now: Instant::from_nanos(1_000), out: Vec::new() }
    }

    fn push(&mut self, hook: Hook) {
        self.queue.push(self.now, hook, "a test", &mut self.out);
    }

    fn urgent_stop(&mut self) {
        self.queue.push_urgent_stop(self.now, "a test", &mut self.out);
    }

    fn exit(&mut self, id: u64, exit: Exit) {
        self.queue.on_exit(self.now, id, exit, &mut self.out);
    }

    fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(deadline) = self.queue.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = deadline;
            self.queue.on_timer(self.now, &mut self.out);
        }
        self.now = until;
    }

    fn take(&mut self) -> Vec<HookAction> {
        core::mem::take(&mut self.out)
    }

    /// Calls that were started, with their ids.
    fn runs(&mut self) -> Vec<(u64, Hook)> {
        let run = |action| match action {
            HookAction::Run(call) => Some((call.id, call.hook)),
            _ => None,
        };
        self.take().into_iter().filter_map(run).collect()
    }

    fn outcomes(&mut self) -> Vec<(Hook, Outcome)> {
        let outcome = |action| match action {
            HookAction::Finished(finished) => Some((finished.hook, finished.outcome)),
            _ => None,
        };
        self.take().into_iter().filter_map(outcome).collect()
    }

    /// Has a call hang in the kernel until it is left behind; its id.
    fn leave_one_over(&mut self, hook: Hook) -> u64 {
        self.push(hook);
        let id = self.runs()[0].0;
        self.wait(s(90));
        let told = self.take();
        assert!(
            told.iter().any(|action| matches!(action, HookAction::Finished(f) if f.outcome == Outcome::Unkillable))
        );
        id
    }
}

const ROLE: Hook = Hook::Role { old: Role::Init, new: Role::Primary };

#[test]
fn the_script_is_called_with_the_event_the_resource_and_both_roles() {
    assert_eq!(Hook::Start.arguments("web"), ["start", "web"]);
    assert_eq!(ROLE.arguments("web"), ["role", "web", "init", "primary"]);
}

#[test]
fn one_hook_runs_at_a_time_and_in_order() {
    let mut bench = Bench::new();
    for hook in [ROLE, Hook::Status, Hook::Connect, Hook::Start] {
        bench.push(hook);
    }
    for (id, hook) in [(1, ROLE), (2, Hook::Status), (3, Hook::Connect), (4, Hook::Start)] {
        assert_eq!(bench.runs(), [(id, hook)]);
        assert!(bench.queue.has(hook) && !bench.queue.is_idle());
        bench.exit(id, Exit::Code(0));
    }
    assert_eq!(bench.outcomes(), [(Hook::Start, Outcome::Ended(Exit::Code(0)))]);
    assert!(bench.queue.is_idle());
    assert_eq!(bench.queue.next_deadline(), None);
}

#[test]
fn a_stop_runs_before_all_that_wait_and_instead_of_waiting_starts_and_checks() {
    let mut bench = Bench::new();
    for hook in [ROLE, Hook::Connect, Hook::Status, Hook::Start, Hook::Stop] {
        bench.push(hook);
    }
    assert_eq!(bench.runs(), [(1, ROLE)]);
    bench.exit(1, Exit::Code(0));
    assert_eq!(bench.runs(), [(5, Hook::Stop)]);
    bench.exit(5, Exit::Code(0));
    assert_eq!(bench.runs(), [(2, Hook::Connect)]);
    bench.exit(2, Exit::Code(0));
    assert_eq!(bench.runs(), []);
    assert!(bench.queue.is_idle());
}

#[test]
fn a_stop_does_not_wait_for_a_status_whose_end_then_means_nothing() {
    let mut bench = Bench::new();
    bench.push(Hook::Status);
    bench.take();
    bench.push(Hook::Stop);
    assert_eq!(bench.take()[0], HookAction::Kill(1));
    assert!(bench.queue.has(Hook::Stop) && !bench.queue.has(Hook::Status));
    bench.exit(1, Exit::Signal(9));
    assert_eq!(bench.take(), []);
    bench.exit(2, Exit::Code(0));
    assert_eq!(bench.outcomes(), [(Hook::Stop, Outcome::Ended(Exit::Code(0)))]);
}

#[test]
fn an_urgent_stop_ends_a_running_start_and_runs_when_that_is_gone() {
    let mut bench = Bench::new();
    bench.push(Hook::Start);
    bench.take();
    bench.urgent_stop();
    assert_eq!(bench.take(), [HookAction::Terminate(1)]);
    bench.urgent_stop();
    assert_eq!(bench.take(), [], "it does not ask twice");
    bench.wait(TERM_GRACE);
    assert_eq!(bench.take(), [HookAction::Kill(1)]);
    bench.exit(1, Exit::Signal(9));
    let told = bench.take();
    assert!(matches!(&told[0], HookAction::Finished(f) if f.hook == Hook::Start && f.outcome == Outcome::CutShort));
    assert!(matches!(&told[1], HookAction::Run(call) if call.hook == Hook::Stop));
}

#[test]
fn an_ordinary_stop_waits_for_a_running_start() {
    let mut bench = Bench::new();
    bench.push(Hook::Start);
    bench.take();
    bench.push(Hook::Stop);
    assert_eq!(bench.take(), []);
    bench.exit(1, Exit::Code(0));
    assert!(bench.runs().contains(&(2, Hook::Stop)));
}

#[test]
fn an_urgent_stop_does_not_shorten_a_stop_that_runs() {
    let mut bench = Bench::new();
    bench.push(Hook::Stop);
    bench.take();
    bench.urgent_stop();
    assert_eq!(bench.take(), []);
    bench.exit(1, Exit::Code(0));
    assert_eq!(bench.runs(), []);
}

#[test]
fn each_kind_has_its_own_limit_then_term_then_kill_then_it_is_left_behind() {
    for (hook, limit) in
        [(Hook::Start, s(60)), (Hook::Stop, s(10)), (Hook::Status, s(5)), (Hook::Complain, s(20)), (ROLE, s(20))]
    {
        let mut bench = Bench::new();
        bench.push(hook);
        bench.take();
        bench.wait(limit - ms(1));
        assert!(!bench.out.contains(&HookAction::Terminate(1)), "{hook}");
        bench.take();
        bench.wait(ms(1));
        assert_eq!(bench.take(), [HookAction::Terminate(1)], "{hook}");
        bench.wait(TERM_GRACE);
        assert_eq!(bench.take(), [HookAction::Kill(1)], "{hook}");
        bench.wait(KILL_GRACE);
        assert_eq!(bench.outcomes(), [(hook, Outcome::Unkillable)]);
        assert!(bench.queue.is_idle());
    }
}

#[test]
fn a_hook_that_ends_after_term_has_timed_out_whatever_it_returns() {
    let mut bench = Bench::new();
    bench.push(Hook::Stop);
    bench.wait(s(10));
    bench.exit(1, Exit::Code(0));
    assert_eq!(bench.outcomes(), [(Hook::Stop, Outcome::TimedOut(s(10)))]);
}

#[test]
fn after_a_long_sleep_a_hook_still_gets_its_grace() {
    let mut bench = Bench::new();
    bench.push(Hook::Stop);
    bench.take();
    bench.now = bench.now + s(3600);
    bench.queue.on_timer(bench.now, &mut bench.out);
    assert_eq!(bench.take(), [HookAction::Terminate(1)]);
    assert_eq!(bench.queue.next_deadline(), Some(bench.now + TERM_GRACE));
}

#[test]
fn a_slow_hook_is_told_once_and_goes_on() {
    let mut bench = Bench::new();
    bench.push(Hook::Start);
    bench.take();
    bench.wait(REPORT_AFTER);
    assert_eq!(bench.take(), [HookAction::Slow(Hook::Start)]);
    bench.wait(s(60) - REPORT_AFTER - ms(1));
    assert_eq!(bench.take(), []);
}

#[test]
fn new_limits_hold_for_calls_that_start_from_then_on() {
    let mut bench = Bench::new();
    bench.push(Hook::Status);
    bench.push(Hook::Connect);
    bench.queue.set_limits(Limits::of(&resource("status_timeout 1 hook_timeout 1")));
    bench.wait(s(5) - ms(1));
    assert!(!bench.take().contains(&HookAction::Terminate(1)));
    bench.exit(1, Exit::Code(0));
    bench.wait(s(1));
    assert!(bench.take().contains(&HookAction::Terminate(2)));
}

#[test]
fn notices_that_are_held_wait_for_all_others_and_run_when_they_are_released() {
    let mut bench = Bench::new();
    bench.push(Hook::Connect);
    bench.push(Hook::Disconnect);
    bench.queue.hold_notices();
    bench.urgent_stop();
    bench.take();
    bench.exit(1, Exit::Signal(15));
    assert_eq!(bench.runs(), [(3, Hook::Stop)]);
    bench.exit(3, Exit::Code(1));
    assert_eq!(bench.runs(), []);
    assert!(!bench.queue.is_idle());
    bench.push(Hook::Status);
    assert_eq!(bench.runs(), [(4, Hook::Status)]);
    bench.exit(4, Exit::Code(1));
    bench.queue.release_notices(bench.now, &mut bench.out);
    assert_eq!(bench.runs(), [(2, Hook::Disconnect)]);
}

#[test]
fn notices_are_dropped_when_too_many_wait_but_never_a_stop() {
    let mut bench = Bench::new();
    bench.push(ROLE);
    for _ in 0..MAX_WAITING {
        bench.push(Hook::Connect);
    }
    bench.take();
    bench.push(Hook::Connect);
    assert_eq!(bench.take(), [HookAction::Dropped(Hook::Connect)]);
    bench.push(Hook::Stop);
    assert!(bench.queue.has(Hook::Stop));
}

#[test]
fn only_so_many_complaints_wait() {
    let mut bench = Bench::new();
    bench.push(ROLE);
    for _ in 0..3 * MAX_WAITING_COMPLAINTS {
        bench.push(Hook::Complain);
    }
    let calls = (1..100).take_while(|id| {
        bench.exit(*id, Exit::Code(0));
        !bench.queue.is_idle()
    });
    assert_eq!(calls.count(), MAX_WAITING_COMPLAINTS);
}

#[test]
fn with_too_many_left_behind_calls_fail_at_once_until_one_goes() {
    let mut bench = Bench::new();
    let left: Vec<u64> = (0..MAX_LEFT_OVER).map(|_| bench.leave_one_over(Hook::Status)).collect();
    bench.push(Hook::Status);
    let outcomes = bench.outcomes();
    assert!(matches!(&outcomes[..], [(Hook::Status, Outcome::Ended(Exit::NotStarted(_)))]), "{outcomes:?}");
    assert!(bench.queue.is_idle(), "nothing waits for what may never come");
    bench.exit(left[0], Exit::Signal(9));
    bench.push(Hook::Status);
    assert_eq!(bench.runs().len(), 1);
}

#[test]
fn a_stop_is_tried_when_other_calls_fail_but_not_for_ever() {
    let mut bench = Bench::new();
    for _ in 0..MAX_LEFT_OVER {
        bench.leave_one_over(Hook::Status);
    }
    for _ in MAX_LEFT_OVER..MAX_LEFT_OVER_FOR_STOP {
        bench.leave_one_over(Hook::Stop);
    }
    bench.push(Hook::Stop);
    let outcomes = bench.outcomes();
    assert!(matches!(&outcomes[..], [(Hook::Stop, Outcome::Ended(Exit::NotStarted(_)))]), "{outcomes:?}");
}

#[test]
fn the_end_of_a_call_that_is_not_known_changes_nothing() {
    let mut bench = Bench::new();
    bench.push(Hook::Status);
    bench.take();
    bench.exit(99, Exit::Code(0));
    assert_eq!(bench.take(), []);
    assert!(bench.queue.has(Hook::Status));
}

#[test]
fn an_outcome_says_what_happened() {
    let told = [
        Outcome::Ended(Exit::Code(3)),
        Outcome::Ended(Exit::Signal(9)),
        Outcome::Ended(Exit::NotStarted("no such file".into())),
        Outcome::TimedOut(s(10)),
        Outcome::CutShort,
        Outcome::Unkillable,
    ];
    assert!(!told.iter().any(Outcome::is_success));
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "exit code 3",
            "ended by signal 9",
            "could not be started: no such file",
            "ended because it ran longer than its limit of 10s",
            "cut short for a stop",
            "hangs in the kernel: KILL did not end it",
        ]
    );
}

#[derive(Clone, Debug)]
enum Doing {
    Push(Hook),
    UrgentStop,
    Exit(usize, i32),
    Wait(u64),
}

fn doing() -> impl Strategy<Value = Doing> {
    let hooks = [Hook::Start, Hook::Stop, Hook::Status, Hook::Connect, Hook::Disconnect, Hook::Complain, ROLE];
    prop_oneof![
        4 => prop::sample::select(hooks.to_vec()).prop_map(Doing::Push),
        1 => Just(Doing::UrgentStop),
        4 => (0..6_usize, 0..3).prop_map(|(at, code)| Doing::Exit(at, code)),
        3 => prop_oneof![Just(0), 1..5_000_u64, 0..100_000_000_u64].prop_map(Doing::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_one_hook_runs_every_one_that_runs_ends_and_no_id_comes_twice(
        steps in prop::collection::vec(doing(), 0..200),
    ) {
        let mut bench = Bench::new();
        let (mut ids, mut alive, mut running) = (BTreeSet::new(), Vec::new(), None);
        for step in steps {
            match step {
                Doing::Push(hook) => bench.push(hook),
                Doing::UrgentStop => bench.urgent_stop(),
                Doing::Exit(at, code) => {
                    if at < alive.len() {
                        let id = alive.swap_remove(at);
                        bench.exit(id, Exit::Code(code));
                    }
                }
                Doing::Wait(ms) => {
                    bench.now = bench.now + Duration::from_millis(ms);
                    bench.queue.on_timer(bench.now, &mut bench.out);
                }
            }
            for action in bench.take() {
                match action {
                    HookAction::Run(call) => {
                        prop_assert!(ids.insert(call.id));
                        prop_assert_eq!(running.replace(call.id), None, "one at a time");
                        alive.push(call.id);
                    }
                    HookAction::Finished(finished) => match finished.outcome {
                        Outcome::Ended(Exit::NotStarted(_)) => {}
                        _ => prop_assert!(running.take().is_some()),
                    },
                    // Nobody waits for a `status` any more when a `stop` is to run.
                    HookAction::Kill(id) if running == Some(id) && bench.queue.running() != Some(id) => running = None,
                    HookAction::Kill(id) | HookAction::Terminate(id) => prop_assert!(ids.contains(&id)),
                    HookAction::Slow(_) | HookAction::Dropped(_) => {}
                }
            }
            prop_assert_eq!(bench.queue.running(), running);
            prop_assert!(bench.queue.next_deadline().is_none_or(|deadline| deadline > bench.now));
            prop_assert!(bench.queue.waiting.len() <= 200 && bench.queue.left_over.len() <= 2 * MAX_LEFT_OVER_FOR_STOP);
        }
    }
}
