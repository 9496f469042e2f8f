//! The same with the lease: a worker among nodes that answer it, and a main daemon that nodes connect to.

use super::*;
use crate::lease::record::Record;
use crate::lease::{Ask, Grant, Kind, Refusal, Terms, Verdict, Voters};
use crate::pause::Pause;
use crate::wire::peer::{Heard, Hello, PROTOCOLS, Said};
use crate::worker::LeasePart;

/// Node `a`, where the test runs, with these other nodes: heartbeat 1 s, timeout 2 s, lease 3 s, stop budget 1 s unless `inside` (the resource)
/// or `here` (its section of this node) say otherwise.
pub(crate) fn lease_config(nodes: &[&str], here: &str, inside: &str) -> Config {
    let all: Vec<(&str, String)> = ["a"]
        .iter()
        .chain(nodes)
        .map(|node| (*node, format!("tcp4://10.0.0.{}", node.as_bytes()[0] - b'a' + 1)))
        .collect();
    let section = |(node, _): &(&str, String)| {
        let others = all.iter().filter(|(other, _)| other != node).map(|(_, address)| format!(" {address}"));
        let others: String = others.collect();
        let remotes = if others.is_empty() { " none" } else { &others };
        format!("on {node} {{ remote{remotes} {} }}\n", if *node == "a" { here } else { "" })
    };
    let sections: String = all.iter().map(section).collect();
    config_of(&format!(
        "heartbeat_interval 1 timeout 2 start_timeout 60 status_timeout 5 hook_timeout 20\n\
         resource {RESOURCE} {{ exec /r\n{inside}\n{sections} }}"
    ))
}

/// Another node, as the worker meets it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) node: String,
    address: Address,
    pub(crate) link: Option<LinkId>,
    /// It can be connected to.
    pub(crate) is_up: bool,
    /// It is connected, and says nothing.
    pub(crate) is_mute: bool,
    pub(crate) role: Role,
    pub(crate) state: State,
    pub(crate) priority: i32,
    /// Why it refuses its vote.
    pub(crate) refuses: Option<Refusal>,
    pub(crate) epoch: u64,
    pub(crate) voters: u64,
    /// It keeps its vote for this node.
    pub(crate) keeps: bool,
    /// It says that it waits for its turn to start the resource.
    pub(crate) waits_for_turn: bool,
    pub(crate) pause: Option<Pause>,
}

/// A worker on node `a` among nodes that answer at once.
pub(crate) struct Cluster {
    pub(crate) bench: Bench,
    pub(crate) peers: Vec<Peer>,
    /// Why the voter of this node refuses.
    pub(crate) refuses: Option<Refusal>,
    /// All that the worker wanted done.
    pub(crate) log: Vec<(Duration, Action)>,
}

impl Cluster {
    /// Of the nodes `a`, `b` and `c`; those of `up` are secondaries in reach.
    pub(crate) fn new(role: Role, up: &[&str], here: &str, inside: &str) -> Self {
        let resource = lease_config(&["b", "c"], here, inside).resources.remove(0);
        Self::of(role, resource, up)
    }

    pub(crate) fn of(role: Role, resource: Resource, up: &[&str]) -> Self {
        Self::with_grant(role, resource, up, None)
    }

    /// A primary after one that has died, and has left the resource running under a lease that ends after this time.
    pub(crate) fn left_running(left: Duration, up: &[&str]) -> Self {
        let resource = lease_config(&["b", "c"], "", "").resources.remove(0);
        let lease = LeasePart { keep_until: Some(START + left), ..Self::part(None) };
        Self::with_part(Role::Primary, resource, up, lease, Script { runs: true, ..Script::GOOD })
    }

    /// A primary for which epoch 5 was won, for this long.
    pub(crate) fn granted(left: Duration, up: &[&str]) -> Self {
        let resource = lease_config(&["b", "c"], "", "").resources.remove(0);
        let grant = Grant { epoch: 5, until: START + left, terms: Terms { lease: s(3), stop: s(1) } };
        Self::with_grant(Role::Primary, resource, up, Some(grant))
    }

    /// A primary that finds running what an earlier worker has left so, while it was paused.
    pub(crate) fn paused_since(pause: Pause, up: &[&str]) -> Self {
        let resource = lease_config(&["b", "c"], "", "").resources.remove(0);
        let part = LeasePart { pause, keep_until: Some(crate::lease::FOR_EVER), ..Self::part(None) };
        Self::with_part(Role::Primary, resource, up, part, Script { runs: true, ..Script::GOOD })
    }

    fn part(grant: Option<Grant>) -> LeasePart {
        let (node, pause) = ("a".to_string(), Pause::default());
        LeasePart { node, grant, force: false, keep_until: None, seed: 7, pause, must_stop: false }
    }

    fn with_grant(role: Role, resource: Resource, up: &[&str], grant: Option<Grant>) -> Self {
        Self::with_part(role, resource, up, Self::part(grant), Script::GOOD)
    }

    fn with_part(role: Role, resource: Resource, up: &[&str], part: LeasePart, script: Script) -> Self {
        let voters = Voters::new(resource.nodes.iter().cloned()).digest();
        let peer = |node: &str| Peer {
            node: node.to_string(),
            address: address(&format!("tcp4://10.0.0.{}", node.as_bytes()[0] - b'a' + 1)),
            link: None,
            is_up: up.contains(&node),
            is_mute: false,
            role: Role::Secondary,
            state: State::Stopped,
            priority: 100,
            refuses: None,
            epoch: 0,
            voters,
            keeps: false,
            waits_for_turn: false,
            pause: None,
        };
        let peers = ["b", "c", "d"].map(peer).into();
        let assignment = Assignment { resource, lease: Some(part), in_haste: true, ..super::assignment(role, "") };
        let mut cluster = Self { bench: Bench::of(assignment, Some(script)), peers, refuses: None, log: Vec::new() };
        cluster.settle();
        cluster
    }

    pub(crate) fn peer(&mut self, node: &str) -> &mut Peer {
        self.peers.iter_mut().find(|peer| peer.node == node).unwrap()
    }

    fn of_link(&self, link: LinkId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.link == Some(link))
    }

    /// Everybody answers, until there is nothing left to answer.
    pub(crate) fn settle(&mut self) {
        while !self.bench.actions.is_empty() {
            for (at, action) in core::mem::take(&mut self.bench.actions) {
                self.log.push((at, action.clone()));
                if self.bench.farewell.is_none() {
                    self.react(action);
                }
            }
        }
    }

    fn react(&mut self, action: Action) {
        match action {
            Action::Connect(link, to) => {
                let peer = self.peers.iter_mut().find(|peer| peer.address == to && peer.is_up);
                let event = match peer {
                    Some(peer) => {
                        peer.link = Some(link);
                        LinkEvent::Welcome(peer.node.clone())
                    }
                    None => LinkEvent::Failed("no route".to_string()),
                };
                self.bench.news(link, event);
            }
            Action::Say(link, Said::Beat { seq, ask, .. }) => {
                if let Some(heard) =
                    self.of_link(link).filter(|peer| !peer.is_mute).map(|peer| peer.answer(seq, ask.as_ref()))
                {
                    self.bench.news(link, LinkEvent::Heard(Box::new(heard)));
                }
            }
            Action::AskHere(ask) => {
                let verdict = Verdict {
                    round: ask.round,
                    highest: ask.epoch,
                    refused: self.refuses.clone(),
                    kept: ask.kept && self.refuses.is_none(),
                };
                self.bench.order(Order::Verdict(verdict));
            }
            Action::Disconnect(link) => {
                self.peers.iter_mut().filter(|peer| peer.link == Some(link)).for_each(|peer| peer.link = None);
            }
            _ => {}
        }
    }

    pub(crate) fn wait(&mut self, span: Duration) {
        let until = self.bench.now + span;
        while self.bench.farewell.is_none()
            && let Some(deadline) = self.bench.worker.next_deadline().filter(|deadline| *deadline <= until)
        {
            self.bench.now = deadline;
            self.give(Input::Timer);
        }
        self.bench.now = until;
    }

    pub(crate) fn give(&mut self, input: Input) {
        if self.bench.farewell.is_none() {
            self.bench.give(input);
            self.settle();
        }
    }

    pub(crate) fn order(&mut self, order: Order) {
        self.give(Input::Order(order));
    }

    /// What was wanted since the last look, with the time since the start.
    pub(crate) fn take(&mut self) -> Vec<(Duration, Action)> {
        core::mem::take(&mut self.log)
    }

    /// What was said to a node since the last look; the log stays.
    pub(crate) fn said(&self, node: &str) -> Vec<(Duration, Said)> {
        let peer = self.peers.iter().find(|peer| peer.node == node).unwrap();
        self.log
            .iter()
            .filter_map(|(at, action)| match action {
                Action::Say(link, said) if Some(*link) == peer.link => Some((*at, said.clone())),
                _ => None,
            })
            .collect()
    }

    /// The votes that were asked for here, with the time.
    pub(crate) fn asked(&self, kind: Kind) -> Vec<(Duration, Ask)> {
        self.log
            .iter()
            .filter_map(|(at, action)| match action {
                Action::AskHere(ask) if ask.kind == kind => Some((*at, ask.clone())),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn told(&self) -> Vec<Event> {
        self.log
            .iter()
            .filter_map(|(_, action)| match action {
                Action::Event(event) => Some(event.clone()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn hooks(&self) -> Vec<(Duration, Hook)> {
        self.log
            .iter()
            .filter_map(|(at, action)| match action {
                Action::RunHook(call) => Some((*at, call.hook)),
                _ => None,
            })
            .collect()
    }

    /// How often it wanted this.
    pub(crate) fn count(&self, is: impl Fn(&Action) -> bool) -> usize {
        self.log.iter().filter(|(_, action)| is(action)).count()
    }

    pub(crate) fn lease(&self) -> crate::worker::LeaseReport {
        self.bench.report.clone().unwrap().lease.unwrap()
    }
}

impl Peer {
    pub(crate) fn answer(&self, seq: u64, ask: Option<&Ask>) -> Heard {
        let bound = match &self.refuses {
            Some(Refusal::Bound { holder, left }) => Some((holder.clone(), *left)),
            Some(Refusal::Kept { holder }) => Some((holder.clone(), Duration::ZERO)),
            _ if self.keeps => Some(("a".to_string(), Duration::ZERO)),
            _ => None,
        };
        Heard {
            seq,
            role: self.role,
            priority: self.priority,
            state: self.state,
            verdict: ask.map(|ask| Verdict {
                round: ask.round,
                highest: self.epoch.max(ask.epoch),
                refused: self.refuses.clone(),
                kept: ask.kept && self.refuses.is_none(),
            }),
            bound: bound.as_ref().map(|(holder, _)| holder.clone()),
            bound_for: bound.map_or(Duration::ZERO, |(_, left)| left),
            epoch: self.epoch,
            voters: self.voters,
            in_force: self.voters,
            no_fetch: None,
            bound_kept: matches!(self.refuses, Some(Refusal::Kept { .. })) || self.keeps,
            waits_for_turn: self.waits_for_turn,
            pause: self.pause.clone(),
        }
    }
}

/// The main daemon of node `a` with the lease.
impl DaemonBench {
    /// Its record says that nobody ever had the vote.
    pub(crate) fn with_lease(here: &str, inside: &str) -> Self {
        let mut bench = Self::without_record(lease_config(&["b", "c"], here, inside));
        let voters = Voters::new(["a", "b", "c"].map(String::from));
        let record = Record { holder: String::new(), epoch: 0, hold: Duration::ZERO, voters, kept: false };
        bench.give(daemon::Input::RecordFound { resource: RESOURCE.to_string(), found: Ok(Some(record)) });
        bench
    }

    /// Its record is not found yet.
    pub(crate) fn without_record(config: Config) -> Self {
        let (daemon, actions) = Daemon::new(START, config, PeerProtocol::Lease, 1);
        Self { daemon, now: START, actions, next_conn: 0, unix_now_s: 1_800_000_000 }
    }

    pub(crate) fn hello_of(node: &str, role: Role, priority: i32) -> Hello {
        let voters = Voters::new(["a", "b", "c"].map(String::from));
        let (version, resource) = ("1".to_string(), RESOURCE.to_string());
        Hello { protocols: PROTOCOLS, version, node: node.to_string(), resource, role, priority, voters }
    }

    /// A node connects, and beats once.
    pub(crate) fn peer(&mut self, node: &str, role: Role, priority: i32, state: State) -> ConnId {
        let conn = self.hello(node, Self::hello_of(node, role, priority));
        assert!(self.is_welcome(conn), "{:?}", self.actions);
        self.beat(conn, 1, state, None);
        conn
    }

    pub(crate) fn hello(&mut self, from: &str, hello: Hello) -> ConnId {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let caller = Self::caller(&format!("10.0.0.{}", from.as_bytes()[0] - b'a' + 1));
        self.give(daemon::Input::Hello { conn, caller, message: hello.encode() });
        conn
    }

    pub(crate) fn is_welcome(&self, conn: ConnId) -> bool {
        self.actions.iter().any(|action| matches!(action, daemon::Action::Welcome { conn: to, .. } if *to == conn))
    }

    pub(crate) fn said(&mut self, conn: ConnId, said: &Said) {
        self.give(daemon::Input::Said(conn, said.encode()));
    }

    pub(crate) fn beat(&mut self, conn: ConnId, seq: u64, state: State, ask: Option<Ask>) {
        let voters = Voters::new(["a", "b", "c"].map(String::from)).digest();
        let said = Said::Beat { seq, state, voters, ask, shared: None, pause: None, votes_kept: 0 };
        self.said(conn, &said);
    }

    /// What a node was told since the last look.
    pub(crate) fn heard(&self, conn: ConnId) -> Vec<Heard> {
        self.actions
            .iter()
            .filter_map(|action| match action {
                daemon::Action::Tell { conn: to, message } if *to == conn => Some(Heard::decode(message).unwrap()),
                _ => None,
            })
            .collect()
    }

    /// Records that are to be written.
    pub(crate) fn records(&self) -> Vec<(u64, Record)> {
        self.actions
            .iter()
            .filter_map(|action| match action {
                daemon::Action::Record { id, record, .. } => Some((*id, record.clone())),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn recorded(&mut self, id: u64, result: Result<(), &str>) {
        let result = result.map_err(ToString::to_string);
        self.give(daemon::Input::Recorded { resource: RESOURCE.to_string(), id, result });
    }

    pub(crate) fn ask_of(node: &str, kind: Kind, epoch: u64) -> Ask {
        let voters = Voters::new(["a", "b", "c"].map(String::from)).digest();
        Ask { node: node.to_string(), kind, epoch, hold: s(4), round: epoch, voters, kept: false }
    }

    /// The worker of this node reports.
    pub(crate) fn reports(&mut self, state: State, lease: Option<crate::worker::LeaseReport>) {
        let id = self.worker();
        let report = Report {
            state,
            attempts: 0,
            remotes: Vec::new(),
            complaints: 0,
            lease,
            lateness: None,
            statuses: Vec::new(),
        };
        self.give(daemon::Input::Report(id, report));
    }

    /// The lines of `status` about the lease.
    pub(crate) fn lines(&self) -> Vec<(String, String)> {
        let resource = &self.daemon.resources()[0];
        crate::status::lines(
            resource.role(),
            &crate::status::detail(self.now, resource, self.daemon.why_no_turn(resource)),
        )
    }

    pub(crate) fn line(&self, name: &str) -> Option<String> {
        self.lines().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}
