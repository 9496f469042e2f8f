//! The process of a worker: carries out what [`Worker`] decides, as the program does with its connections and scripts. Decides nothing but
//! what the protocol leaves no choice about.

use std::collections::{BTreeMap, VecDeque};

use hastmon_core::config::{Address, Key};
use hastmon_core::daemon::WorkerId;
use hastmon_core::hooks::{Call, Hook};
use hastmon_core::lease::Voters;
use hastmon_core::time::Instant;
use hastmon_core::types::{Role, State};
use hastmon_core::wire::nv::List;
use hastmon_core::wire::peer::{Heard, Hello, PROTOCOLS, Welcome};
use hastmon_core::wire::reply::StatusReply;
use hastmon_core::wire::request::{Request, Token, Via};
use hastmon_core::wire::session::{Answer, Heartbeat};
use hastmon_core::wire::signature::Signature;
use hastmon_core::worker::{Action, Assignment, Farewell, Input, LinkEvent, LinkId, Worker};

use super::daemon_process::UNIX_TIME_S;
use super::host::HostId;
use super::kernel::{FromWorker, Happening, Kernel, Pid, ToWorker};
use super::network::EndId;
use super::process::{Life, Waker};

#[derive(Debug)]
pub(crate) struct WorkerProcess {
    pub(crate) pid: Pid,
    pub(crate) host: HostId,
    pub(crate) id: WorkerId,
    pub(crate) role: Role,
    /// The daemon, as long as it is there.
    pub(crate) daemon: Option<Pid>,
    pub(crate) core: Worker,
    waker: Waker,
    who: String,
    links: BTreeMap<LinkId, Talk>,
    complaints: Vec<EndId>,
    node: String,
    /// What it said last of the lease: epoch, end, whether it is forced.
    lease: Option<(Option<u64>, Option<Instant>, bool)>,
    /// What this process tells itself.
    news: VecDeque<Input>,
}

/// One conversation.
#[derive(Debug)]
enum Talk {
    /// A handshake: the token comes on the first connection, and goes back on the second.
    Shaking { asks: EndId, asked: bool, joins: Option<(EndId, Token)>, to: Address },
    /// A primary's connection to a secondary.
    Holding { asks: EndId, answers: EndId },
    /// A secondary's connection from a primary.
    Serving { asks: EndId, answers: EndId },
    /// A watchdog's question.
    Polling(EndId),
    /// A connection of protocol 1, welcomed or not yet.
    Peer { end: EndId, up: bool },
}

impl WorkerProcess {
    pub(crate) fn start(
        kernel: &mut Kernel,
        (host, pid): (HostId, Pid),
        (daemon, id): (Pid, WorkerId),
        assignment: Assignment,
    ) -> (Self, Life) {
        let role = assignment.role;
        let now = kernel.clock(host);
        let node = kernel.host(host).name.clone();
        let (core, actions) = Worker::new(now, assignment);
        let mut process = Self {
            pid,
            host,
            id,
            role,
            daemon: Some(daemon),
            core,
            waker: Waker::default(),
            who: format!("{role} {}", id.0),
            links: BTreeMap::new(),
            complaints: Vec::new(),
            node,
            lease: None,
            news: VecDeque::new(),
        };
        let life = process.finish(kernel, actions);
        (process, life)
    }

    pub(crate) fn handle(&mut self, kernel: &mut Kernel, what: Happening) -> Life {
        let Some(input) = self.understand(kernel, what) else { return Life::GoesOn };
        let actions = self.core.handle(kernel.clock(self.host), input);
        self.finish(kernel, actions)
    }

    /// Carries out what was decided, and what follows from that at once.
    fn finish(&mut self, kernel: &mut Kernel, mut actions: Vec<Action>) -> Life {
        let now = kernel.clock(self.host);
        loop {
            if let Some(farewell) = self.carry_out(kernel, actions) {
                return Life::Ends(Some(farewell));
            }
            let Some(news) = self.news.pop_front() else { break };
            actions = self.core.handle(now, news);
        }
        let deadline = self.core.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > now), "the deadline of {} has passed", self.who);
        self.waker.set(kernel, self.host, self.pid, deadline);
        Life::GoesOn
    }

    fn understand(&mut self, kernel: &mut Kernel, what: Happening) -> Option<Input> {
        match what {
            Happening::Wake(generation) => self.waker.is_current(generation).then_some(Input::Timer),
            Happening::HookExited(id, exit) => Some(Input::HookExited { id, exit, output: Vec::new() }),
            Happening::ToWorker(said) => self.hear_daemon(kernel, said),
            Happening::LinkDeadline(link) => {
                let timeout = self.core.resource().timeout;
                match self.links.get(&link)? {
                    Talk::Shaking { .. } | Talk::Polling(_) | Talk::Peer { up: false, .. } => {
                        self.fail(kernel, link, format!("no answer within {timeout:?}"))
                    }
                    Talk::Holding { .. } | Talk::Serving { .. } | Talk::Peer { up: true, .. } => None,
                }
            }
            Happening::ComplaintDeadline(end) => {
                self.complaints.retain(|open| *open != end);
                kernel.close(end);
                None
            }
            Happening::Established(end) => self.established(kernel, end),
            Happening::Readable(end) | Happening::Closed(end) => {
                let link = self.link_of(end)?;
                self.read(kernel, link);
                self.news.pop_front()
            }
            Happening::Accepted(_)
            | Happening::TalkDeadline(_)
            | Happening::FromWorker(..)
            | Happening::Control(_)
            | Happening::Terminate
            | Happening::Hangup
            | Happening::FindRecord(_)
            | Happening::Recorded(..)
            | Happening::PauseRecorded(..)
            | Happening::Loaded(_) => unreachable!("not for a worker"),
        }
    }

    fn hear_daemon(&mut self, kernel: &mut Kernel, said: ToWorker) -> Option<Input> {
        match said {
            ToWorker::Order(order) => Some(Input::Order(order)),
            ToWorker::Gone => {
                self.daemon = None;
                Some(Input::DaemonGone)
            }
            ToWorker::Serve { link, from, asks, answers, resuid } => {
                kernel.send(asks, Answer::Resuid(resuid).encode());
                self.links.insert(link, Talk::Serving { asks, answers });
                self.news.push_back(Input::PrimaryConnected { link, from: from.to_string() });
                self.read(kernel, link);
                self.news.pop_front()
            }
        }
    }

    fn link_of(&self, end: EndId) -> Option<LinkId> {
        let uses = |talk: &Talk| match talk {
            Talk::Shaking { asks, joins, .. } => *asks == end || joins.is_some_and(|(answers, _)| answers == end),
            Talk::Holding { asks, answers } | Talk::Serving { asks, answers } => *asks == end || *answers == end,
            Talk::Polling(poll) => *poll == end,
            Talk::Peer { end: peer, .. } => *peer == end,
        };
        self.links.iter().find(|(_, talk)| uses(talk)).map(|(link, _)| *link)
    }

    fn ask(&self, kernel: &mut Kernel, end: EndId, request: &Request) {
        let Some(known) = kernel.end(end) else { return };
        let (client, server) = (known.local, known.remote);
        let now_s = UNIX_TIME_S + kernel.now.as_secs();
        let sign = |key: &Key| Signature::new(key.algorithm, key.secret.as_bytes(), now_s, client, server);
        let signature = self.core.resource().key.as_ref().map(sign);
        kernel.send(end, request.encode(Via::Network(signature.as_ref())));
    }

    /// A connection is there: says what it was made for.
    fn established(&mut self, kernel: &mut Kernel, end: EndId) -> Option<Input> {
        let resource = self.core.resource().name.clone();
        if self.complaints.contains(&end) {
            self.complaints.retain(|open| *open != end);
            self.ask(kernel, end, &Request::Complaint { resource });
            kernel.close(end);
            return None;
        }
        let link = self.link_of(end)?;
        match self.links.get_mut(&link)? {
            Talk::Polling(_) => self.ask(kernel, end, &Request::Status { resources: vec![resource] }),
            Talk::Shaking { joins: None, asked, .. } => {
                *asked = true;
                let priority = self.core.resource().priority;
                self.ask(kernel, end, &Request::Handshake { resource, priority });
            }
            Talk::Shaking { joins: Some((_, token)), .. } => {
                let token = *token;
                self.ask(kernel, end, &Request::HandshakeToken { resource, token, resuid: 0 });
            }
            Talk::Holding { .. } | Talk::Serving { .. } => {}
            Talk::Peer { .. } => {
                let settings = self.core.resource();
                let hello = Hello {
                    protocols: PROTOCOLS,
                    version: "simulated".to_string(),
                    node: self.node.clone(),
                    resource,
                    role: self.role,
                    priority: settings.priority,
                    voters: Voters::new(settings.nodes.iter().cloned()),
                };
                kernel.send_v1(end, hello.encode());
            }
        }
        None
    }

    /// Reads all that has come over a link.
    fn read(&mut self, kernel: &mut Kernel, link: LinkId) {
        loop {
            let (first, second) = match self.links.get(&link) {
                None => return,
                Some(Talk::Shaking { asks, joins, .. }) => (*asks, joins.map(|(answers, _)| answers)),
                // A primary hears only that the first one is closed; a secondary does not listen on the second one.
                Some(Talk::Holding { asks, answers }) => (*asks, Some(*answers)),
                Some(Talk::Serving { asks, .. }) => (*asks, None),
                Some(Talk::Polling(end) | Talk::Peer { end, .. }) => (*end, None),
            };
            let said = kernel.take_message(first).map(|message| (true, message)).or_else(|| {
                let second = second?;
                kernel.take_message(second).map(|message| (false, message))
            });
            match said {
                Some((on_first, (_, message))) => self.hear(kernel, link, on_first, &message),
                None => {
                    let why = kernel.is_closed(first).or_else(|| kernel.is_closed(second?));
                    if let Some(why) = why {
                        let news = self.fail(kernel, link, why.to_string());
                        self.news.extend(news);
                    }
                    return;
                }
            }
        }
    }

    fn hear(&mut self, kernel: &mut Kernel, link: LinkId, on_first: bool, message: &List) {
        let input = match self.links.get(&link) {
            Some(Talk::Shaking { .. }) => self.hear_shaking(kernel, link, message),
            Some(Talk::Holding { .. }) if !on_first => match Answer::decode(message) {
                Ok(Answer::Heartbeat { seq, state }) => Some(Input::Link(link, LinkEvent::Answer { seq, state })),
                other => self.fail(kernel, link, format!("out of turn: {other:?}")),
            },
            Some(Talk::Serving { .. }) => match Heartbeat::decode(message) {
                Ok(Heartbeat { seq, .. }) => Some(Input::Heartbeat { link, seq }),
                Err(why) => self.fail(kernel, link, why.to_string()),
            },
            Some(Talk::Polling(end)) => {
                kernel.close(*end);
                self.links.remove(&link);
                let answer = judge(&self.core.resource().name, message);
                kernel.whisper(self.host, &self.who, || format!("poll answered: {answer:?}"));
                Some(Input::Polled { link, answer })
            }
            Some(Talk::Peer { end, up: false }) => match (Answer::decode(message), Welcome::decode(message)) {
                (Ok(Answer::Refused { errmsg: message, priority }), _) => {
                    self.drop_link(kernel, link);
                    Some(Input::Link(link, LinkEvent::Refused { message, priority }))
                }
                (_, Ok(welcome)) => {
                    let end = *end;
                    self.links.insert(link, Talk::Peer { end, up: true });
                    Some(Input::Link(link, LinkEvent::Welcome(welcome.node)))
                }
                (_, Err(why)) => self.fail(kernel, link, why.to_string()),
            },
            Some(Talk::Peer { up: true, .. }) => match Heard::decode(message) {
                Ok(heard) => Some(Input::Link(link, LinkEvent::Heard(heard))),
                Err(why) => self.fail(kernel, link, why.to_string()),
            },
            Some(Talk::Holding { .. }) | None => self.fail(kernel, link, "a message out of turn".to_string()),
        };
        self.news.extend(input);
    }

    fn hear_shaking(&mut self, kernel: &mut Kernel, link: LinkId, message: &List) -> Option<Input> {
        let Some(Talk::Shaking { asks, joins, to, .. }) = self.links.get(&link) else { return None };
        let (asks, joins, to) = (*asks, *joins, to.clone());
        match (Answer::decode(message), joins) {
            (Ok(Answer::Token(token)), None) => {
                let answers = kernel.connect(self.pid, self.host, &to);
                self.links.insert(link, Talk::Shaking { asks, asked: true, joins: Some((answers, token)), to });
                None
            }
            (Ok(Answer::Resuid(_)), Some((answers, _))) => {
                self.links.insert(link, Talk::Holding { asks, answers });
                Some(Input::Link(link, LinkEvent::Up))
            }
            (Ok(Answer::Refused { errmsg: message, priority }), _) => {
                self.drop_link(kernel, link);
                Some(Input::Link(link, LinkEvent::Refused { message, priority }))
            }
            (other, _) => self.fail(kernel, link, format!("out of turn: {other:?}")),
        }
    }

    /// A conversation has come to nothing.
    fn fail(&mut self, kernel: &mut Kernel, link: LinkId, why: String) -> Option<Input> {
        let talk = self.drop_link(kernel, link)?;
        kernel.whisper(self.host, &self.who, || format!("{talk:?} fails: {why}"));
        Some(match talk {
            Talk::Shaking { .. } | Talk::Holding { .. } | Talk::Peer { .. } => {
                Input::Link(link, LinkEvent::Failed(why))
            }
            Talk::Serving { .. } => Input::PrimaryLost { link, why },
            Talk::Polling(_) => Input::Polled { link, answer: Err(why) },
        })
    }

    fn drop_link(&mut self, kernel: &mut Kernel, link: LinkId) -> Option<Talk> {
        let talk = self.links.remove(&link)?;
        match &talk {
            Talk::Shaking { asks, joins, .. } => {
                kernel.close(*asks);
                joins.iter().for_each(|(end, _)| kernel.close(*end));
            }
            Talk::Holding { asks, answers } | Talk::Serving { asks, answers } => {
                kernel.close(*asks);
                kernel.close(*answers);
            }
            Talk::Polling(end) | Talk::Peer { end, .. } => kernel.close(*end),
        }
        Some(talk)
    }

    /// Does what was decided; its last words, if that was the end.
    fn carry_out(&mut self, kernel: &mut Kernel, actions: Vec<Action>) -> Option<Farewell> {
        let timeout = self.core.resource().timeout;
        for action in actions {
            match action {
                Action::RunHook(call) => self.run_hook(kernel, &call),
                Action::TerminateHook(id) => {
                    kernel.tell(self.host, &self.who, || format!("TERM to call {id}"));
                    kernel.terminate_script(self.pid, id);
                }
                Action::KillHook(id) => {
                    kernel.tell(self.host, &self.who, || format!("KILL to call {id}"));
                    kernel.kill_script(self.pid, id);
                }
                Action::Connect(link, to) => {
                    let asks = kernel.connect(self.pid, self.host, &to);
                    let talk = if kernel.lease {
                        Talk::Peer { end: asks, up: false }
                    } else {
                        Talk::Shaking { asks, asked: false, joins: None, to }
                    };
                    self.links.insert(link, talk);
                    kernel.after(timeout, self.pid, Happening::LinkDeadline(link));
                }
                Action::SendHeartbeat { link, state, seq } => {
                    if let Some(Talk::Holding { asks, .. }) = self.links.get(&link) {
                        kernel.send(*asks, Heartbeat { state, seq }.encode());
                    }
                }
                Action::AnswerHeartbeat { link, seq, state } => {
                    if let Some(Talk::Serving { answers, .. }) = self.links.get(&link) {
                        kernel.send(*answers, Answer::Heartbeat { seq, state: Ok(state) }.encode());
                    }
                }
                Action::Disconnect(link) => {
                    self.drop_link(kernel, link);
                }
                Action::Poll(link, to) => {
                    let end = kernel.connect(self.pid, self.host, &to);
                    self.links.insert(link, Talk::Polling(end));
                    kernel.after(timeout, self.pid, Happening::LinkDeadline(link));
                }
                Action::Complain(to) => {
                    let end = kernel.connect(self.pid, self.host, &to);
                    self.complaints.push(end);
                    kernel.after(timeout, self.pid, Happening::ComplaintDeadline(end));
                }
                Action::PrimaryGone(link) => self.tell_daemon(kernel, FromWorker::PrimaryGone(link)),
                Action::Say(link, said) => {
                    if let Some(Talk::Peer { end, up: true }) = self.links.get(&link) {
                        kernel.send_v1(*end, said.encode());
                    }
                }
                Action::AskHere(ask) => self.tell_daemon(kernel, FromWorker::Asked(ask)),
                Action::ReleaseHere(release) => {
                    kernel.tell(self.host, &self.who, || format!("gives back {release:?}"));
                    self.tell_daemon(kernel, FromWorker::Released(release));
                }
                Action::Won(grant) => self.tell_daemon(kernel, FromWorker::Won(grant)),
                Action::Fence(_) | Action::FencedHere { .. } | Action::Reboot => {
                    unreachable!("no host of the simulator has a fence script")
                }
                Action::PauseHeard(pause) => self.tell_daemon(kernel, FromWorker::PauseHeard(pause)),
                Action::HandOverRefused(why) => self.tell_daemon(kernel, FromWorker::HandOverRefused(why)),
                Action::Report(report) => {
                    self.lease = report.lease.as_ref().map(|lease| (lease.epoch, lease.until, lease.is_forced));
                    self.tell_daemon(kernel, FromWorker::Report(report));
                }
                Action::Event(event) => kernel.tell(self.host, &self.who, || event.to_string()),
                Action::Exit(farewell) => return Some(farewell),
            }
        }
        None
    }

    fn run_hook(&self, kernel: &mut Kernel, call: &Call) {
        assert!(call.hook != Hook::Start || self.role == Role::Primary, "{} starts the resource", self.who);
        self.check_lease(kernel, call);
        let tell = || format!("call {}: {} ({})", call.id, call.hook, call.reason);
        if call.hook == Hook::Status {
            kernel.whisper(self.host, &self.who, tell);
        } else {
            kernel.tell(self.host, &self.who, tell);
        }
        kernel.run_script(self.host, self.pid, call);
    }

    /// `start` begins inside the lease alone, and under an epoch that is not lower than that of any start before.
    fn check_lease(&self, kernel: &mut Kernel, call: &Call) {
        let Some((epoch, until, is_forced)) = self.lease.filter(|_| call.hook == Hook::Start) else { return };
        let (now, clock) = (kernel.now, kernel.clock(self.host));
        if !is_forced && until.is_none_or(|until| clock >= until) {
            kernel.exclusion.violate(now, "a start outside of the lease");
        }
        kernel.exclusion.start(now, epoch.unwrap_or_default(), is_forced);
    }

    pub(crate) fn tell_daemon(&self, kernel: &mut Kernel, what: FromWorker) {
        if let Some(daemon) = self.daemon {
            kernel.send_on_channel(self.pid, daemon, Happening::FromWorker(self.id, what));
        }
    }
}

/// What the answer to a poll says.
fn judge(resource: &str, message: &List) -> Result<(Role, State), String> {
    match StatusReply::decode(message).map_err(|error| error.to_string())? {
        StatusReply::Failed(number) => Err(format!("error {number}")),
        StatusReply::Entries(entries) => {
            let entry = entries.into_iter().find(|entry| entry.resource == resource).ok_or("it did not answer")?;
            let status = entry.outcome.map_err(|number| format!("error {number}"))?;
            Ok((status.role, status.worker.map_or(State::Unknown, |worker| worker.state)))
        }
    }
}
