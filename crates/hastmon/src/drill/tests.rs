use std::collections::VecDeque;

use super::*;

/// Three nodes: this one is a. Answers of `switch` come from a list, then all goes well.
struct Fake {
    on: &'static str,
    scripted: VecDeque<SwitchoverReply>,
    asked: Vec<Option<String>>,
    interrupt_after: usize,
    in_reach: u32,
    told: Vec<Way>,
    /// Before the next look it has come home.
    comes_home: bool,
    state: State,
    paused: Option<String>,
}

fn fake() -> Fake {
    Fake {
        on: "a",
        scripted: VecDeque::new(),
        asked: Vec::new(),
        interrupt_after: usize::MAX,
        in_reach: 3,
        told: Vec::new(),
        comes_home: false,
        state: State::Stopped,
        paused: None,
    }
}

fn steps() -> Vec<(String, Duration)> {
    ["stopped", "given back", "held", "runs"].map(|step| (step.to_string(), Duration::from_millis(100))).into()
}

fn refused(why: &str) -> SwitchoverReply {
    SwitchoverReply::refused(why.to_string())
}

fn failed(why: &str) -> SwitchoverReply {
    SwitchoverReply { outcome: Err(why.to_string()), steps: steps() }
}

impl Cluster for Fake {
    fn look(&mut self) -> Result<Seen, String> {
        if self.comes_home && self.on != "a" {
            self.on = "a";
        }
        let is_here = self.on == "a";
        Ok(Seen {
            node: "a".to_string(),
            role: if is_here { Role::Primary } else { Role::Secondary },
            state: Some(if is_here { State::Run } else { self.state }),
            runs_on: Some(self.on.to_string()),
            in_reach: self.in_reach,
            needed: 2,
            voters: 3,
            heartbeat: Duration::from_secs(1),
            paused: self.paused.clone(),
        })
    }

    fn switch(&mut self, to: Option<&str>) -> Result<SwitchoverReply, String> {
        self.asked.push(to.map(ToString::to_string));
        if let Some(reply) = self.scripted.pop_front() {
            return Ok(reply);
        }
        self.on = if self.on == "a" { "b" } else { "a" };
        Ok(SwitchoverReply { outcome: Ok(()), steps: steps() })
    }

    fn pause(&mut self) -> Duration {
        Duration::from_secs(1)
    }

    fn is_interrupted(&self) -> bool {
        self.told.len() >= self.interrupt_after
    }

    fn tell(&mut self, leg: &Leg) {
        self.told.push(leg.way);
    }
}

fn run(fake: &mut Fake, rounds: u32, to: Option<&str>) -> Report {
    let to = to.map(ToString::to_string);
    let resource = "web".to_string();
    let report = Report { resource, rounds, from: None, to, legs: Vec::new(), end: End::Done, runs_on: None };
    Run { cluster: fake, report }.all()
}

#[test]
fn each_round_goes_there_and_back_and_the_best_node_stays_the_target() {
    let mut fake = fake();
    let report = run(&mut fake, 3, None);
    assert_eq!((report.end.clone(), report.completed(), report.legs.len()), (End::Done, 3, 6));
    assert_eq!((report.runs_on.as_deref(), report.to.as_deref()), (Some("a"), Some("b")));
    let asked: Vec<Option<&str>> = fake.asked.iter().map(Option::as_deref).collect();
    assert_eq!(asked, [None, Some("a"), Some("b"), Some("a"), Some("b"), Some("a")]);
    assert!(report.legs.iter().all(|leg| leg.node.is_some()));
}

#[test]
fn what_is_refused_at_first_is_refused_and_later_it_is_waited_for() {
    let mut at_first = fake();
    at_first.scripted = [refused("b is not connected")].into();
    let report = run(&mut at_first, 2, Some("b"));
    assert_eq!((report.end, report.legs.len()), (End::Refused("b is not connected".to_string()), 0));
    let mut later = fake();
    let gone = SwitchoverReply { outcome: Ok(()), steps: steps() };
    later.scripted = [gone, refused("not yet"), refused("not yet")].into();
    later.on = "a";
    // The scripted success does not move it: it is as if it had come home by itself.
    let report = run(&mut later, 1, Some("b"));
    assert_eq!(report.end, End::Done);
}

#[test]
fn a_way_back_that_is_not_ready_is_waited_for_and_not_for_ever() {
    let mut fake = fake();
    fake.state = State::Unknown;
    let report = run(&mut fake, 1, Some("b"));
    assert_eq!(report.end, End::Failed("a is secondary, its state is unknown".to_string()));
    assert_eq!((report.runs_on.as_deref(), fake.asked.len()), (Some("b"), 1));
}

#[test]
fn the_first_that_fails_is_the_last() {
    let mut fake = fake();
    fake.scripted = [failed("b could not start it")].into();
    let report = run(&mut fake, 5, Some("b"));
    assert_eq!((report.end.clone(), report.legs.len()), (End::Failed("b could not start it".to_string()), 1));
    assert_eq!((report.completed(), report.runs_on.as_deref()), (0, Some("a")));
}

#[test]
fn who_interrupts_it_has_the_resource_back_first() {
    for (after, legs) in [(1, 2), (2, 2), (3, 4)] {
        let mut fake = fake();
        fake.interrupt_after = after;
        let report = run(&mut fake, 5, Some("b"));
        assert_eq!((report.end, report.legs.len(), fake.on), (End::Interrupted, legs, "a"), "after {after}");
    }
    let mut fake = fake();
    fake.interrupt_after = 3;
    assert_eq!(run(&mut fake, 2, Some("b")).end, End::Done, "the last way back was under way");
    let mut at_once = super::tests::fake();
    at_once.interrupt_after = 0;
    let report = run(&mut at_once, 2, Some("b"));
    assert_eq!((report.end, report.legs.len(), report.runs_on.as_deref()), (End::Interrupted, 0, Some("a")));
}

#[test]
fn what_comes_home_by_itself_is_not_asked_for() {
    let mut fake = fake();
    fake.comes_home = true;
    let report = run(&mut fake, 2, Some("b"));
    assert_eq!((report.end.clone(), report.completed(), fake.asked.len()), (End::Done, 2, 2));
}

#[test]
fn without_a_majority_or_a_primary_here_nothing_is_begun() {
    let mut alone = fake();
    alone.in_reach = 1;
    let why = "1 of 3 nodes are in reach of a, which needs 2".to_string();
    assert_eq!((run(&mut alone, 1, Some("b")).end, alone.asked.len()), (End::Refused(why), 0));
    let mut away = fake();
    away.on = "b";
    let End::Refused(why) = run(&mut away, 1, None).end else { panic!() };
    assert_eq!(why, "a is secondary and not primary: run the drill on b, which runs it");
    let seen = Seen { role: Role::Primary, state: Some(State::Starting), runs_on: None, ..fake().look().unwrap() };
    assert_eq!(seen.ready_to_go(), Ready::Not("it does not run on a: its state is starting".to_string()));
    let seen = Seen { runs_on: Some("c".to_string()), ..away.look().unwrap() };
    assert_eq!(seen.ready_to_come("b"), Ready::Not("it does not run on b any more, but on c".to_string()));
}

#[test]
fn what_is_paused_is_not_moved() {
    let why = "web is paused by root on b since 1970-01-01 00:00:00 UTC; hastmonctl resume web first".to_string();
    let mut paused = fake();
    paused.paused = Some(why.clone());
    assert_eq!((run(&mut paused, 1, Some("b")).end, paused.asked.len()), (End::Refused(why.clone()), 0));
    let seen = Seen {
        runs_on: Some("b".to_string()),
        role: Role::Secondary,
        state: Some(State::Stopped),
        ..paused.look().unwrap()
    };
    assert_eq!(seen.ready_to_come("b"), Ready::Not(why));
}

#[test]
fn the_question_says_how_often_and_about_how_long() {
    let what = Drill { own_node: None, rounds: 3, yes: false, json: false, resource: "web".to_string(), to: None };
    let ms = Duration::from_millis;
    let known = Known { stop: Some(ms(120)), start: Some(ms(1500)), limits: Some((ms(30_000), ms(60_000))) };
    let text = "This moves web to the best other node and back, 3 times: 6 switchovers.\nEach interrupts the service while \
                stop and start run; here they took, last: stop 0.120 s, start 1.500 s (at most 30 s and 60 s).\n";
    assert_eq!(warning(&what, &known), text);
    assert!(warning(&what, &Known::default()).ends_with("while stop and start run.\n"));
    let line =
        br#"{"kind":"hook_ended","detail":{"hook":"stop","outcome":{"ended":{"code":0}},"took_ms":12.5,"output":[]}}"#;
    assert_eq!(took(line), Some(("stop".to_string(), Duration::from_micros(12_500))));
    let failed = br#"{"detail":{"hook":"stop","outcome":{"ended":{"code":1}},"took_ms":12.5}}"#;
    assert_eq!(took(failed), None);
}
