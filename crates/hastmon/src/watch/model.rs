//! What `watch` knows, and what it does next: given answers, events, keys and the time. Decides when the daemon is asked, what is asked of
//! the operator, and that nothing changes anything without a yes. Never reads a clock, a socket or a key.

use std::collections::VecDeque;
use std::time::Duration;

use hastmon_core::time::Instant;
use hastmon_core::types::Role;
use hastmon_core::wire::detail::{Detail, NodeDetail};
use hastmon_core::wire::reply::{Entry, ResourceStatus};

/// The daemon is asked so often when nothing happens: often enough for numbers that change slowly. What is held for less, the time that a
/// lease has left, is counted down here in between.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(1);
/// After an event the daemon is asked at once, but not sooner than this after it was asked last: a failover is many events at once, and one
/// answer shows them all.
pub(super) const ASK_SOONEST: Duration = Duration::from_millis(100);
/// A daemon that has not answered for so long is said to be silent. It answers in milliseconds; this is long enough for a machine under load.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(3);
/// So many events are kept: more than the tallest screen shows.
pub(super) const EVENTS_KEPT: usize = 200;
/// So many lines of what a command prints are kept: a switchover prints fewer than ten.
const OUTPUT_KEPT: usize = 50;

/// A moment, on the clock that everything goes by and on that which people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) at: Instant,
    /// Milliseconds since 1970.
    pub(super) unix_ms: u64,
}

/// Something that happens.
#[derive(Debug)]
pub(super) enum Input {
    /// What came of asking the daemon.
    Answer(Result<Vec<Entry<ResourceStatus>>, String>),
    /// Events, those that were there already first; `is_start`: in place of all that came before.
    Events { is_start: bool, events: Vec<Event> },
    /// The history cannot be read, and why.
    NoHistory(String),
    /// A key.
    Key(Key),
    /// A line that the command prints.
    Printed(String),
    /// The command has ended; the text is empty when all went well.
    Ended(String),
    /// The window has another size.
    Resized,
}

/// An event of the history, as far as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) unix_ms: u64,
    pub(super) resource: Option<String>,
    pub(super) level: String,
    pub(super) text: String,
}

/// A key that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    Enter,
    Escape,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L.
    Redraw,
    Char(char),
    Other,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Do {
    /// Give this to the daemon, as an operator would.
    Run(Command),
    /// Stop as for Ctrl-Z.
    Suspend,
    /// Write every character of the screen again.
    Redraw,
    Quit,
}

/// What an operator can have done from here: what could be typed after `hastmonctl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Switchover { resource: String, to: Option<String> },
    Pause(String),
    Resume(String),
}

impl Command {
    /// The words, the name of the program left out.
    pub(super) fn words(&self) -> Vec<&str> {
        match self {
            Self::Switchover { resource, to } => ["switchover", resource].into_iter().chain(to.as_deref()).collect(),
            Self::Pause(resource) => vec!["pause", resource],
            Self::Resume(resource) => vec!["resume", resource],
        }
    }

    /// As it would be typed.
    pub(super) fn text(&self) -> String {
        format!("hastmonctl {}", self.words().join(" "))
    }
}

/// What the keys mean at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The resources.
    Table,
    /// The keys are explained.
    Help,
    /// To which node? `None` is the best of those that are ready.
    Choose { resource: String, targets: Vec<Option<NodeDetail>>, at: usize },
    /// Really?
    Confirm(Command),
}

/// A command, and what it has printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) command: Command,
    pub(super) lines: VecDeque<String>,
    pub(super) is_over: bool,
}

/// An answer of the daemon.
#[derive(Debug)]
struct Answer {
    entries: Vec<Entry<ResourceStatus>>,
    at: Instant,
}

/// That the daemon does not answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Silence<'a> {
    /// When it answered last, or when it was asked first: milliseconds since 1970.
    pub(super) since_unix_ms: u64,
    /// As far as it is known.
    pub(super) why: &'a str,
}

#[derive(Debug)]
pub(super) struct Model {
    /// Events of these resources are shown; all when there are none.
    names: Vec<String>,
    answer: Option<Answer>,
    /// Milliseconds since 1970.
    answered_unix_ms: u64,
    /// Why the daemon has not answered last.
    failure: Option<String>,
    /// When it was asked, while it has not answered.
    asking: Option<Instant>,
    asked: Option<Instant>,
    /// Something has happened since it was asked.
    is_stale: bool,
    pub(super) events: VecDeque<Event>,
    /// Why there are no events.
    pub(super) no_history: Option<String>,
    selected: Option<String>,
    pub(super) mode: Mode,
    pub(super) running: Option<Running>,
    /// What there is to say to the last key.
    pub(super) notice: Option<String>,
}

impl Model {
    /// `names`: the resources that are asked for; none stands for all.
    pub(super) const fn new(now: Now, names: Vec<String>) -> Self {
        Self {
            names,
            answer: None,
            answered_unix_ms: now.unix_ms,
            failure: None,
            asking: None,
            asked: None,
            is_stale: true,
            events: VecDeque::new(),
            no_history: None,
            selected: None,
            mode: Mode::Table,
            running: None,
            notice: None,
        }
    }

    /// When the daemon is to be asked next; `None` while it is being asked.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        if self.asking.is_some() {
            return None;
        }
        let pause = if self.is_stale && self.failure.is_none() { ASK_SOONEST } else { ASK_EVERY };
        Some(self.asked.map_or(Instant::from_nanos(0), |asked| asked + pause))
    }

    /// The daemon is being asked.
    pub(super) const fn on_asked(&mut self, now: Now) {
        self.asking = Some(now.at);
        self.asked = Some(now.at);
        self.is_stale = false;
    }

    /// Something happens: what follows.
    pub(super) fn on(&mut self, now: Now, input: Input) -> Option<Do> {
        match input {
            Input::Answer(answer) => self.on_answer(now, answer),
            Input::Events { is_start, events } => self.on_events(is_start, events),
            Input::NoHistory(why) => self.no_history = Some(why),
            Input::Key(key) => return self.on_key(key),
            Input::Printed(line) => self.on_printed(line),
            Input::Ended(how) => {
                if !how.is_empty() {
                    self.on_printed(how);
                }
                self.running.iter_mut().for_each(|running| running.is_over = true);
                self.is_stale = true;
            }
            Input::Resized => {}
        }
        None
    }

    fn on_answer(&mut self, now: Now, answer: Result<Vec<Entry<ResourceStatus>>, String>) {
        self.asking = None;
        match answer {
            Ok(entries) => {
                self.answered_unix_ms = now.unix_ms;
                self.failure = None;
                self.answer = Some(Answer { entries, at: now.at });
            }
            Err(why) => self.failure = Some(why),
        }
    }

    fn on_events(&mut self, is_start: bool, events: Vec<Event>) {
        if is_start {
            self.events.clear();
        }
        self.no_history = None;
        self.is_stale |= !events.is_empty();
        let is_wanted = |event: &Event| {
            let is_ours = event.resource.as_ref().is_none_or(|name| self.names.is_empty() || self.names.contains(name));
            is_ours && event.level != "debug"
        };
        self.events.extend(events.into_iter().filter(is_wanted));
        let surplus = self.events.len().saturating_sub(EVENTS_KEPT);
        self.events.drain(..surplus);
    }

    fn on_printed(&mut self, line: String) {
        let Some(running) = &mut self.running else { return };
        running.lines.push_back(line);
        if running.lines.len() > OUTPUT_KEPT {
            running.lines.pop_front();
        }
    }

    fn on_key(&mut self, key: Key) -> Option<Do> {
        self.notice = None;
        match key {
            Key::Interrupt => return Some(Do::Quit),
            Key::Suspend => return Some(Do::Suspend),
            Key::Redraw => return Some(Do::Redraw),
            _ => {}
        }
        match std::mem::replace(&mut self.mode, Mode::Table) {
            Mode::Table => self.on_table_key(key),
            Mode::Help => None,
            Mode::Choose { resource, targets, at } => {
                self.on_choice_key(key, resource, targets, at);
                None
            }
            Mode::Confirm(command) if matches!(key, Key::Char('y' | 'Y')) => {
                self.running = Some(Running { command: command.clone(), lines: VecDeque::new(), is_over: false });
                Some(Do::Run(command))
            }
            Mode::Confirm(_) => {
                self.notice = Some("Nothing was done.".to_string());
                None
            }
        }
    }

    fn on_table_key(&mut self, key: Key) -> Option<Do> {
        match key {
            Key::Char('q') => return Some(Do::Quit),
            Key::Up | Key::Char('k') => self.select(usize::checked_sub),
            Key::Down | Key::Char('j') => self.select(usize::checked_add),
            Key::Char('?' | 'h') => self.mode = Mode::Help,
            // What a command has printed is put away.
            Key::Escape => _ = self.running.take_if(|running| running.is_over),
            Key::Char('s') => self.begin(Self::choose),
            Key::Char('p') => self.begin(|_, name, _| Ok(Mode::Confirm(Command::Pause(name)))),
            Key::Char('u') => self.begin(|_, name, _| Ok(Mode::Confirm(Command::Resume(name)))),
            _ => {}
        }
        None
    }

    /// Begins something with the selected resource, or says why not.
    fn begin(&mut self, what: impl FnOnce(&Self, String, &ResourceStatus) -> Result<Mode, String>) {
        if let Some(running) = self.running.as_ref().filter(|running| !running.is_over) {
            self.notice = Some(format!("{} is still at work.", running.command.text()));
            return;
        }
        let Some(entry) = self.entries().get(self.selected()) else { return };
        let Ok(status) = &entry.outcome else { return };
        match what(self, entry.resource.clone(), status) {
            Ok(mode) => self.mode = mode,
            Err(why) => self.notice = Some(why),
        }
    }

    /// To which of the secondaries? Only the node that runs it can hand it over.
    fn choose(&self, resource: String, status: &ResourceStatus) -> Result<Mode, String> {
        if status.role != Role::Primary {
            let runs_on = status.detail.as_ref().and_then(|detail| detail.runs_on.as_deref());
            return Err(match runs_on {
                Some(node) => format!("{resource} runs on {node}: switch it over there."),
                None => format!("{resource} does not run here: a switchover begins where it runs."),
            });
        }
        let is_standby = |node: &&NodeDetail| node.role == Some(Role::Secondary);
        let standbys = nodes(status).iter().filter(is_standby).cloned().map(Some);
        let targets: Vec<_> = [None].into_iter().chain(standbys).collect();
        if targets.len() == 1 {
            return Err(format!("No secondary of {resource} is connected to this node: there is nowhere to go."));
        }
        Ok(Mode::Choose { resource, targets, at: 0 })
    }

    fn on_choice_key(&mut self, key: Key, resource: String, targets: Vec<Option<NodeDetail>>, at: usize) {
        let last = targets.len().saturating_sub(1);
        let at = match key {
            Key::Up | Key::Char('k') => at.saturating_sub(1),
            Key::Down | Key::Char('j') => at.saturating_add(1).min(last),
            Key::Enter => {
                let to = targets.get(at).and_then(Option::as_ref).map(|node| node.node.clone());
                self.mode = Mode::Confirm(Command::Switchover { resource, to });
                return;
            }
            Key::Escape | Key::Char('q' | 'n') => {
                self.notice = Some("Nothing was done.".to_string());
                return;
            }
            _ => at,
        };
        self.mode = Mode::Choose { resource, targets, at };
    }

    fn select(&mut self, step: fn(usize, usize) -> Option<usize>) {
        let next = step(self.selected(), 1).and_then(|at| self.entries().get(at));
        self.selected = next.map(|entry| entry.resource.clone()).or(self.selected.take());
    }

    /// What the daemon said last.
    pub(super) fn entries(&self) -> &[Entry<ResourceStatus>] {
        self.answer.as_ref().map_or(&[], |answer| answer.entries.as_slice())
    }

    /// The place of the selected resource among them. It stays selected when others come and go.
    pub(super) fn selected(&self) -> usize {
        let name = self.selected.as_ref();
        self.entries().iter().position(|entry| Some(&entry.resource) == name).unwrap_or(0)
    }

    /// How much is left now of what had so much left when the daemon answered.
    pub(super) fn left(&self, now: Now, left: Duration) -> Duration {
        let age = self.answer.as_ref().map_or(Duration::ZERO, |answer| now.at.since(answer.at));
        left.saturating_sub(age)
    }

    /// That the daemon does not answer, if that is so.
    pub(super) fn silence(&self, now: Now) -> Option<Silence<'_>> {
        let waits = self.asking.is_some_and(|asking| now.at.since(asking) >= SILENT_AFTER);
        let why = match &self.failure {
            Some(why) => why.as_str(),
            None if waits => "it has taken the question",
            None => return None,
        };
        Some(Silence { since_unix_ms: self.answered_unix_ms, why })
    }

    /// It has never answered, and nothing is known of why.
    pub(super) const fn is_new(&self) -> bool {
        self.answer.is_none() && self.failure.is_none()
    }
}

/// All nodes of a resource.
pub(super) fn nodes(status: &ResourceStatus) -> &[NodeDetail] {
    status.detail.as_ref().map_or(&[], |detail: &Detail| detail.nodes.as_slice())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use hastmon_core::types::State;
    use hastmon_core::wire::detail::{Protection, Trouble};
    use hastmon_core::wire::reply::{RemoteStatus, WorkerStatus};

    /// So many milliseconds after a start.
    pub(in crate::watch) fn at(ms: u64) -> Now {
        Now { at: Instant::from_nanos(ms * 1_000_000), unix_ms: 1_763_856_000_000 + ms }
    }

    fn node(name: &str, role: Role, state: State, priority: i32, connected_for: Option<u64>) -> NodeDetail {
        NodeDetail {
            node: name.to_string(),
            role: Some(role),
            state: Some(state),
            priority: Some(priority),
            connected_for: connected_for.map(Duration::from_secs),
        }
    }

    /// A resource that runs on node a of a, b and w, seen from a.
    pub(in crate::watch) fn entry(name: &str) -> Entry<ResourceStatus> {
        let detail = Detail {
            node: "a".to_string(),
            protection: Protection::Lease,
            epoch: 17,
            lease_left: Some(Duration::from_millis(2500)),
            votes: Some(3),
            in_reach: Some(3),
            voters: 3,
            needed: 2,
            runs_on: Some("a".to_string()),
            nodes: vec![
                node("a", Role::Primary, State::Run, 0, None),
                node("b", Role::Secondary, State::Stopped, 1, Some(75)),
                node("w", Role::Watchdog, State::Run, 100, Some(12)),
            ],
            ..Detail::default()
        };
        let status = ResourceStatus {
            exec: "/x".to_string(),
            attempts_max: 5,
            remotes: vec![RemoteStatus {
                addr: "tcp4://192.0.2.2".to_string(),
                state: Some("connected".to_string()),
                role: None,
            }],
            role: Role::Primary,
            workerpid: 7,
            complaints: 0,
            complaints_critical: 3,
            complaints_interval: Duration::from_secs(60),
            heartbeat: Duration::from_secs(1),
            worker: Some(WorkerStatus { state: State::Run, attempts: 0 }),
            stuck_for: None,
            lines: Vec::new(),
            detail: Some(detail),
        };
        Entry { resource: name.to_string(), outcome: Ok(status) }
    }

    /// A resource that nobody runs, seen from a secondary that cannot take over.
    pub(in crate::watch) fn stopped(name: &str) -> Entry<ResourceStatus> {
        let mut entry = entry(name);
        let status = entry.outcome.as_mut().unwrap();
        status.role = Role::Secondary;
        status.worker = Some(WorkerStatus { state: State::Stopped, attempts: 0 });
        let detail = status.detail.as_mut().unwrap();
        (detail.runs_on, detail.lease_left, detail.votes, detail.in_reach) = (None, None, None, Some(1));
        detail.nodes = vec![node("a", Role::Secondary, State::Stopped, 0, None)];
        detail.nodes.extend(["b", "w"].map(|name| NodeDetail { node: name.to_string(), ..NodeDetail::default() }));
        let trouble = |text: &str| Trouble { is_grave: true, text: text.to_string() };
        detail.troubles = vec![trouble("no primary"), trouble("1 of 3 votes")];
        entry
    }

    pub(in crate::watch) fn event(resource: Option<&str>, level: &str, text: &str) -> Event {
        Event {
            unix_ms: at(0).unix_ms,
            resource: resource.map(str::to_string),
            level: level.to_string(),
            text: text.to_string(),
        }
    }

    /// A model that has had this answer.
    pub(in crate::watch) fn answered(entries: Vec<Entry<ResourceStatus>>) -> Model {
        let mut model = Model::new(at(0), Vec::new());
        model.on_asked(at(0));
        assert_eq!(model.on(at(0), Input::Answer(Ok(entries))), None);
        model
    }

    pub(in crate::watch) fn press(model: &mut Model, keys: &[Key]) -> Option<Do> {
        keys.iter().fold(None, |_, key| model.on(at(0), Input::Key(*key)))
    }

    fn typed(model: &mut Model, keys: &str) -> Option<Do> {
        press(model, &keys.chars().map(Key::Char).collect::<Vec<_>>())
    }

    fn switchover(to: Option<&str>) -> Command {
        Command::Switchover { resource: "web".to_string(), to: to.map(str::to_string) }
    }

    #[test]
    fn the_daemon_is_asked_every_second_and_soon_after_an_event() {
        let mut model = Model::new(at(0), Vec::new());
        assert!(model.ask_at().unwrap() <= at(0).at, "at once, at first");
        model.on_asked(at(0));
        assert_eq!(model.ask_at(), None, "one question at a time");
        model.on(at(5), Input::Answer(Ok(vec![entry("web")])));
        assert_eq!(model.ask_at(), Some(at(0).at + ASK_EVERY));
        for ms in [6, 7, 8] {
            let events = vec![event(Some("web"), "info", "connected")];
            model.on(at(ms), Input::Events { is_start: false, events });
            assert_eq!(model.ask_at(), Some(at(0).at + ASK_SOONEST), "many events are one question");
        }
        model.on_asked(at(100));
        model.on(at(105), Input::Answer(Ok(vec![entry("web")])));
        assert_eq!(model.ask_at(), Some(at(100).at + ASK_EVERY));
    }

    #[test]
    fn a_daemon_that_is_gone_is_asked_every_second_whatever_happens_and_said_to_be_silent_until_it_answers() {
        let mut model = answered(vec![entry("web")]);
        assert_eq!(model.silence(at(900)), None);
        model.on_asked(at(1000));
        model.on(at(1001), Input::Answer(Err("refused".to_string())));
        model.on(at(1002), Input::Events { is_start: false, events: vec![event(None, "info", "x")] });
        assert_eq!(model.ask_at(), Some(at(1000).at + ASK_EVERY));
        let since = at(0).unix_ms;
        assert_eq!(model.silence(at(5000)), Some(Silence { since_unix_ms: since, why: "refused" }));
        assert_eq!(model.entries().len(), 1, "what was known is still shown");
        model.on_asked(at(6000));
        model.on(at(6001), Input::Answer(Ok(vec![entry("web")])));
        assert_eq!(model.silence(at(6002)), None);
    }

    #[test]
    fn a_daemon_that_hangs_is_said_to_be_silent_while_it_is_being_asked() {
        let mut model = answered(vec![entry("web")]);
        model.on_asked(at(1000));
        assert_eq!(model.silence(at(1000 + 2999)), None);
        assert_eq!(model.silence(at(1000 + 3000)).map(|silence| silence.since_unix_ms), Some(at(0).unix_ms));
        assert_eq!(model.ask_at(), None);
    }

    #[test]
    fn what_runs_down_is_counted_down_between_answers() {
        let model = answered(vec![entry("web")]);
        assert_eq!(model.left(at(400), Duration::from_millis(2500)), Duration::from_millis(2100));
        assert_eq!(model.left(at(9000), Duration::from_millis(2500)), Duration::ZERO);
    }

    #[test]
    fn a_resource_stays_selected_when_others_come_and_go() {
        let mut model = answered(vec![entry("db"), entry("web")]);
        assert_eq!((typed(&mut model, "k"), model.selected()), (None, 0));
        assert_eq!((typed(&mut model, "jjj"), model.selected()), (None, 1));
        model.on(at(1), Input::Answer(Ok(vec![entry("db"), entry("mail"), entry("web")])));
        assert_eq!(model.selected(), 2);
        model.on(at(2), Input::Answer(Ok(vec![entry("db")])));
        assert_eq!(model.selected(), 0);
        assert_eq!((typed(&mut model, "j"), model.selected()), (None, 0));
    }

    #[test]
    fn a_switchover_needs_a_node_and_a_yes() {
        let mut model = answered(vec![entry("web")]);
        assert_eq!(typed(&mut model, "s"), None);
        let Mode::Choose { targets, .. } = &model.mode else { panic!("{:?}", model.mode) };
        let targets: Vec<_> = targets.iter().map(|to| to.as_ref().map(|node| node.node.as_str())).collect();
        assert_eq!(targets, [None, Some("b")], "the best, or a secondary; no watchdog");
        assert_eq!(press(&mut model, &[Key::Down, Key::Enter]), None);
        assert_eq!(model.mode, Mode::Confirm(switchover(Some("b"))));
        assert_eq!(typed(&mut model, "y"), Some(Do::Run(switchover(Some("b")))));
        assert_eq!(switchover(Some("b")).text(), "hastmonctl switchover web b");
        assert_eq!(switchover(None).text(), "hastmonctl switchover web");
    }

    #[test]
    fn whatever_is_not_a_yes_is_a_no() {
        let keys = [Key::Enter, Key::Escape, Key::Up, Key::Char('n'), Key::Char('q'), Key::Char(' '), Key::Other];
        for key in keys {
            for first in ['s', 'p', 'u'] {
                let mut model = answered(vec![entry("web")]);
                typed(&mut model, &first.to_string());
                if first == 's' {
                    press(&mut model, &[Key::Enter]);
                }
                assert!(matches!(model.mode, Mode::Confirm(_)), "{first}");
                assert_eq!(press(&mut model, &[key]), None, "{first} {key:?}");
                assert_eq!((&model.mode, model.notice.as_deref()), (&Mode::Table, Some("Nothing was done.")));
            }
        }
    }

    #[test]
    fn no_single_key_changes_anything() {
        let mut keys: Vec<Key> = (' '..='~').map(Key::Char).collect();
        keys.extend([
            Key::Up,
            Key::Down,
            Key::Enter,
            Key::Escape,
            Key::Interrupt,
            Key::Suspend,
            Key::Redraw,
            Key::Other,
        ]);
        for key in keys {
            let outcome = press(&mut answered(vec![entry("web")]), &[key]);
            assert!(!matches!(outcome, Some(Do::Run(_))), "{key:?}");
        }
    }

    #[test]
    fn a_pause_and_its_end_need_a_yes() {
        let mut model = answered(vec![entry("web")]);
        assert_eq!(typed(&mut model, "py"), Some(Do::Run(Command::Pause("web".to_string()))));
        model.on(at(1), Input::Ended(String::new()));
        assert_eq!(typed(&mut model, "uy"), Some(Do::Run(Command::Resume("web".to_string()))));
    }

    #[test]
    fn where_it_cannot_be_switched_over_is_said_instead_of_asked() {
        let notice = |entry| {
            let mut model = answered(vec![entry]);
            typed(&mut model, "s");
            assert_eq!(model.mode, Mode::Table);
            model.notice.unwrap()
        };
        assert_eq!(notice(stopped("web")), "web does not run here: a switchover begins where it runs.");
        let mut elsewhere = stopped("web");
        elsewhere.outcome.as_mut().unwrap().detail.as_mut().unwrap().runs_on = Some("b".to_string());
        assert_eq!(notice(elsewhere), "web runs on b: switch it over there.");
        let mut alone = entry("web");
        alone.outcome.as_mut().unwrap().detail.as_mut().unwrap().nodes.truncate(1);
        assert!(notice(alone).contains("nowhere to go"));
    }

    #[test]
    fn one_command_at_a_time_and_what_it_prints_is_kept_until_it_is_put_away() {
        let mut model = answered(vec![entry("web")]);
        typed(&mut model, "py");
        assert_eq!(typed(&mut model, "u"), None);
        assert_eq!(model.notice.as_deref(), Some("hastmonctl pause web is still at work."));
        press(&mut model, &[Key::Escape]);
        for line in 0..OUTPUT_KEPT + 5 {
            model.on(at(1), Input::Printed(line.to_string()));
        }
        model.on(at(2), Input::Ended("exit status: 1".to_string()));
        let running = model.running.as_ref().unwrap();
        assert_eq!((running.is_over, running.lines.len()), (true, OUTPUT_KEPT));
        assert_eq!(running.lines.back().map(String::as_str), Some("exit status: 1"));
        assert!(model.ask_at().unwrap() <= at(0).at + ASK_SOONEST, "what has come of it is asked for");
        press(&mut model, &[Key::Escape]);
        assert_eq!(model.running, None);
    }

    #[test]
    fn without_an_answer_no_key_does_harm() {
        let mut model = Model::new(at(0), Vec::new());
        assert_eq!(typed(&mut model, "spujk?x"), None);
        assert_eq!(typed(&mut model, "q"), Some(Do::Quit));
        assert_eq!(press(&mut model, &[Key::Interrupt]), Some(Do::Quit));
        assert_eq!(press(&mut model, &[Key::Suspend]), Some(Do::Suspend));
    }

    #[test]
    fn events_are_those_of_what_is_watched_and_begin_again_with_the_history() {
        let mut model = Model::new(at(0), vec!["web".to_string()]);
        let some = |texts: &[&str]| texts.iter().map(|text| event(Some("web"), "info", text)).collect::<Vec<_>>();
        model.on(at(0), Input::NoHistory("no such directory".to_string()));
        model.on(at(0), Input::Events { is_start: true, events: some(&["one", "two"]) });
        assert_eq!(model.no_history, None);
        let others =
            vec![event(Some("db"), "info", "x"), event(Some("web"), "debug", "x"), event(None, "info", "three")];
        model.on(at(0), Input::Events { is_start: false, events: others });
        let texts = |model: &Model| model.events.iter().map(|event| event.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&model), ["one", "two", "three"]);
        model.on(at(0), Input::Events { is_start: true, events: some(&["two"]) });
        assert_eq!(texts(&model), ["two"]);
        model.on(at(0), Input::Events { is_start: false, events: some(&["x"; EVENTS_KEPT]) });
        assert_eq!((model.events.len(), model.events[0].text.as_str()), (EVENTS_KEPT, "x"));
    }
}
