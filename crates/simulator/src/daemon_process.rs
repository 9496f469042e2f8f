//! The process of a main daemon: carries out what [`Daemon`] decides, as the program does with its sockets and processes. Decides nothing
//! but what the protocol leaves no choice about.

use std::collections::BTreeMap;
use std::time::Duration;

use hastmon_core::daemon::{Action, Caller, ConnId, Daemon, Input, PeerProtocol, WorkerId};
use hastmon_core::lease::record::NotFound;
use hastmon_core::supervisor::WorkerExit;
use hastmon_core::wire::frame::Version;
use hastmon_core::wire::nv::List;
use hastmon_core::wire::peer::{Heard, Said};
use hastmon_core::wire::request::{Request, Via};
use hastmon_core::wire::session::Answer;
use hastmon_core::worker::Order;

use super::host::HostId;
use super::kernel::{FromWorker, Happening, Kernel, Pid, ToWorker};
use super::network::EndId;
use super::process::{Life, Waker};

/// A caller that has not said what it wants after this time is sent away.
const TALK_TIME: Duration = Duration::from_secs(5);
/// How long it takes to read the configuration.
const LOAD_TIME: Duration = Duration::from_millis(3);
/// The time of day at the start of every simulation, in seconds since 1970.
pub(crate) const UNIX_TIME_S: u64 = 1_800_000_000;

#[derive(Debug)]
pub(crate) struct DaemonProcess {
    pub(crate) pid: Pid,
    pub(crate) host: HostId,
    pub(crate) core: Daemon,
    pub(crate) waker: Waker,
    callers: BTreeMap<ConnId, Conn>,
    pub(crate) workers: BTreeMap<WorkerId, Pid>,
    next_conn: u64,
}

#[derive(Debug)]
enum Conn {
    /// From the network, and not heard yet.
    Hearing(EndId),
    /// Its request is with the core.
    Open(EndId),
    /// A node that speaks protocol 1.
    Peer(EndId),
    Control,
}

impl DaemonProcess {
    pub(crate) fn start(kernel: &mut Kernel, pid: Pid, host: HostId) -> Self {
        let config = kernel.host(host).config.clone();
        kernel.tell(host, "daemon", || "starts".to_string());
        kernel.host_mut(host).daemon = Some(pid);
        let (peers, seed) =
            if kernel.lease { (PeerProtocol::Lease, kernel.rng.next()) } else { (PeerProtocol::Legacy, 1) };
        let pauses = kernel.pauses_found(host);
        let (core, actions) = Daemon::with_pauses(kernel.clock(host), config, peers, seed, pauses);
        let mut process = Self {
            pid,
            host,
            core,
            waker: Waker::default(),
            callers: BTreeMap::new(),
            workers: BTreeMap::new(),
            next_conn: 0,
        };
        process.carry_out(kernel, actions);
        process.waker.set(kernel, host, pid, process.core.next_deadline());
        process
    }

    pub(crate) fn handle(&mut self, kernel: &mut Kernel, what: Happening) -> Life {
        let Some(input) = self.understand(kernel, what) else { return Life::GoesOn };
        let now = kernel.clock(self.host);
        let actions = self.core.handle(now, input);
        let deadline = self.core.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > now), "the daemon's deadline has passed: {deadline:?}");
        let life = self.carry_out(kernel, actions);
        self.waker.set(kernel, self.host, self.pid, deadline);
        life
    }

    fn understand(&mut self, kernel: &mut Kernel, what: Happening) -> Option<Input> {
        match what {
            Happening::Wake(generation) => self.waker.is_current(generation).then_some(Input::Timer),
            Happening::Accepted(end) => self.take_in(kernel, end),
            Happening::Readable(end) | Happening::Closed(end) => self.listen(kernel, end),
            Happening::TalkDeadline(conn) => match self.callers.get(&conn) {
                Some(Conn::Hearing(end)) => {
                    let end = *end;
                    self.send_away(kernel, conn, end, "it said nothing that makes sense")
                }
                _ => None,
            },
            Happening::FromWorker(id, said) => Some(self.hear_worker(kernel, id, said)),
            Happening::Control(request) => {
                let conn = self.new_conn(Conn::Control);
                let message = request.encode(Via::ControlSocket);
                Some(message_input(kernel, conn, Caller::ControlSocket(None), message))
            }
            Happening::Terminate => Some(Input::Stop),
            Happening::Hangup => Some(Input::Hangup),
            Happening::Loaded(config) => Some(Input::Reload(config)),
            Happening::FindRecord(resource) => {
                let found = kernel.record_found(self.host);
                // Who has lost its record does not know which epochs it has seen.
                kernel.exclusion.epochs_excused |= matches!(found, Err(NotFound::Damaged(_)));
                kernel.tell(self.host, "daemon", || format!("finds on disk: {found:?}"));
                Some(Input::RecordFound { resource, found })
            }
            Happening::Recorded(id, result) => {
                let resource = super::cluster::RESOURCE.to_string();
                Some(Input::Recorded { resource, id, result })
            }
            Happening::PauseRecorded(id, result) => {
                let resource = super::cluster::RESOURCE.to_string();
                Some(Input::PauseRecorded { resource, id, result })
            }
            Happening::Established(_)
            | Happening::LinkDeadline(_)
            | Happening::ComplaintDeadline(_)
            | Happening::HookExited(..)
            | Happening::ToWorker(_) => unreachable!("not for a daemon"),
        }
    }

    fn new_conn(&mut self, conn: Conn) -> ConnId {
        self.next_conn += 1;
        let id = ConnId(self.next_conn);
        self.callers.insert(id, conn);
        id
    }

    fn take_in(&mut self, kernel: &mut Kernel, end: EndId) -> Option<Input> {
        let peer = kernel.end(end)?.remote.ip();
        if !self.core.knows(peer) {
            kernel.close(end);
            return Some(Input::Stranger(peer));
        }
        let conn = self.new_conn(Conn::Hearing(end));
        kernel.after(TALK_TIME, self.pid, Happening::TalkDeadline(conn));
        self.listen(kernel, end)
    }

    fn listen(&mut self, kernel: &mut Kernel, end: EndId) -> Option<Input> {
        let hearing =
            self.callers.iter().find(|(_, conn)| matches!(conn, Conn::Hearing(one) | Conn::Peer(one) if *one == end));
        let (conn, state) = hearing?;
        let conn = *conn;
        if matches!(state, Conn::Peer(_)) {
            return self.listen_to_peer(kernel, conn, end);
        }
        match kernel.take_message(end) {
            Some((version, message)) => {
                let known = kernel.end(end)?;
                let caller = Caller::Network { peer: known.remote, local: known.local };
                self.callers.insert(conn, Conn::Open(end));
                if version == Version::V1 {
                    return Some(Input::Hello { conn, caller, message });
                }
                Some(message_input(kernel, conn, caller, message))
            }
            None => {
                let why = kernel.is_closed(end)?;
                self.send_away(kernel, conn, end, why)
            }
        }
    }

    fn listen_to_peer(&mut self, kernel: &mut Kernel, conn: ConnId, end: EndId) -> Option<Input> {
        if let Some((_, message)) = kernel.take_message(end) {
            kernel.whisper(self.host, "daemon", || format!("{conn:?} {}", said(&message)));
            return Some(Input::Said(conn, message));
        }
        kernel.is_closed(end)?;
        self.callers.remove(&conn);
        kernel.close(end);
        Some(Input::Gone { conn, why: None })
    }

    fn send_away(&mut self, kernel: &mut Kernel, conn: ConnId, end: EndId, why: &str) -> Option<Input> {
        let peer = kernel.end(end).map(|end| end.remote.ip());
        self.callers.remove(&conn);
        kernel.close(end);
        Some(Input::Refused(peer?, why.to_string()))
    }

    fn hear_worker(&mut self, kernel: &mut Kernel, id: WorkerId, said: FromWorker) -> Input {
        match said {
            FromWorker::Started(pid) => Input::WorkerStarted(id, u32::try_from(pid.0).unwrap()),
            FromWorker::Report(report) => Input::Report(id, report),
            FromWorker::PrimaryGone(link) => Input::PrimaryGone(id, link),
            FromWorker::Asked(ask) => Input::Asked(id, ask),
            FromWorker::Released(release) => Input::Released(id, release),
            FromWorker::Won(grant) => Input::Won(id, grant),
            FromWorker::PauseHeard(pause) => Input::PauseHeard(id, pause),
            FromWorker::HandOverRefused(why) => Input::HandOverRefused(id, why),
            FromWorker::Gone(exit) => {
                kernel.tell(self.host, "daemon", || format!("worker {} has ended: {exit:?}", id.0));
                self.workers.remove(&id);
                Input::WorkerExited(id, exit)
            }
        }
    }

    fn carry_out(&mut self, kernel: &mut Kernel, actions: Vec<Action>) -> Life {
        for action in actions {
            match action {
                Action::Reply { conn, message, keep } => self.reply(kernel, conn, message, keep),
                Action::Close(conn) => self.close(kernel, conn),
                Action::Welcome { conn, answer, .. } => {
                    if let Some(Conn::Open(end)) = self.callers.get(&conn) {
                        let end = *end;
                        kernel.send_v1(end, answer);
                        self.callers.insert(conn, Conn::Peer(end));
                    }
                }
                Action::Tell { conn, message } => {
                    if let Some(Conn::Peer(end)) = self.callers.get(&conn) {
                        let end = *end;
                        kernel
                            .whisper(self.host, "daemon", || format!("tells {conn:?}: {:?}", Heard::decode(&message)));
                        kernel.send_v1(end, message);
                    }
                }
                Action::FindRecord(resource) => kernel.find_record(self.host, self.pid, resource),
                Action::Record { id, record, .. } => {
                    kernel.tell(self.host, "daemon", || format!("writes {id}: {record:?}"));
                    kernel.write_record(self.host, self.pid, id, record);
                }
                Action::RecordPause { id, record } => {
                    kernel.tell(self.host, "daemon", || format!("writes {id}: {record:?}"));
                    kernel.write_pause(self.host, self.pid, id, record);
                }
                Action::StartWorker { id, assignment } => {
                    kernel.tell(self.host, "daemon", || {
                        let (role, replaces) = (assignment.role, assignment.replaces.as_ref());
                        let replaces = replaces.map(|remote| format!(", replaces {remote}")).unwrap_or_default();
                        format!("starts worker {}: {role}{replaces}", id.0)
                    });
                    match kernel.spawn(self.host, self.pid, id, assignment) {
                        Some(pid) => {
                            self.workers.insert(id, pid);
                        }
                        None => {
                            let exit = WorkerExit::NotStarted("no more processes".to_string());
                            kernel.soon(self.pid, Happening::FromWorker(id, FromWorker::Gone(exit)));
                        }
                    }
                }
                Action::Order { id, order } => {
                    if let Order::End { reason, .. } = &order {
                        kernel.tell(self.host, "daemon", || format!("tells worker {} to end: {reason}", id.0));
                    }
                    self.tell_worker(kernel, id, ToWorker::Order(order));
                }
                Action::KillWorker(id) => {
                    kernel.tell(self.host, "daemon", || format!("kills worker {}", id.0));
                    if let Some(pid) = self.workers.get(&id) {
                        kernel.to_kill.push(*pid);
                    }
                }
                Action::HandOver { worker, link, from, asks, answers, resuid } => {
                    self.hand_over(kernel, worker, (asks, answers), |asks, answers| ToWorker::Serve {
                        link,
                        from,
                        asks,
                        answers,
                        resuid,
                    });
                }
                Action::LoadConfig => {
                    let config = Box::new(kernel.host(self.host).config.clone());
                    kernel.after(LOAD_TIME, self.pid, Happening::Loaded(config));
                }
                Action::Adopt => {}
                Action::Event(_, event) => kernel.tell(self.host, "daemon", || event.to_string()),
                Action::Exit => return Life::Ends(None),
            }
        }
        Life::GoesOn
    }

    fn tell_worker(&self, kernel: &mut Kernel, id: WorkerId, what: ToWorker) {
        if let Some(worker) = self.workers.get(&id) {
            kernel.send_on_channel(self.pid, *worker, Happening::ToWorker(what));
        }
    }

    fn reply(&mut self, kernel: &mut Kernel, conn: ConnId, message: List, keep: bool) {
        let Some(Conn::Open(end)) = self.callers.get(&conn) else {
            self.callers.remove(&conn);
            return;
        };
        let end = *end;
        kernel.whisper(self.host, "daemon", || format!("answers {conn:?}: {:?}", Answer::decode(&message).ok()));
        kernel.send(end, message);
        if !keep {
            self.close(kernel, conn);
        }
    }

    fn close(&mut self, kernel: &mut Kernel, conn: ConnId) {
        if let Some(Conn::Open(end) | Conn::Hearing(end) | Conn::Peer(end)) = self.callers.remove(&conn) {
            kernel.close(end);
        }
    }

    fn hand_over(
        &mut self,
        kernel: &mut Kernel,
        worker: WorkerId,
        (asks, answers): (ConnId, ConnId),
        serve: impl FnOnce(EndId, EndId) -> ToWorker,
    ) {
        let connections = (self.callers.remove(&asks), self.callers.remove(&answers));
        let (Some(Conn::Open(asks)), Some(Conn::Open(answers))) = connections else {
            unreachable!("the core hands over what it was given");
        };
        let Some(pid) = self.workers.get(&worker) else { unreachable!("the core knows its workers") };
        kernel.set_owner(asks, *pid);
        kernel.set_owner(answers, *pid);
        self.tell_worker(kernel, worker, serve(asks, answers));
    }
}

fn message_input(kernel: &mut Kernel, conn: ConnId, caller: Caller, message: List) -> Input {
    let unix_now_s = UNIX_TIME_S + kernel.now.as_secs();
    if let (Caller::Network { local, peer }, Ok(request)) = (caller, Request::decode(&message)) {
        let host = HostId::of_address(local.ip());
        match request {
            Request::Status { .. } => kernel.whisper(host, "daemon", || format!("{conn:?} polled by {}", peer.ip())),
            request => kernel.tell(host, "daemon", || format!("{conn:?} from {}: {}", peer.ip(), name(&request))),
        }
    }
    Input::Message { conn, caller, message, unix_now_s, random: kernel.rng.bytes16() }
}

fn said(message: &List) -> String {
    Said::decode(message, "").map_or_else(|error| error.to_string(), |said| format!("says {said:?}"))
}

fn name(request: &Request) -> String {
    match request {
        Request::Handshake { priority, .. } => format!("handshake with priority {priority}"),
        Request::HandshakeToken { .. } => "token".to_string(),
        Request::Complaint { .. } => "complaint".to_string(),
        Request::SetRole { .. }
        | Request::Status { .. }
        | Request::Reload
        | Request::Explain { .. }
        | Request::Switchover { .. }
        | Request::Pause { .. }
        | Request::Resume { .. } => "control".to_string(),
    }
}
