//! One worker: the role of one resource on this node, with the queue of its hooks.
//!
//! This page is the vocabulary between the worker's decisions and its process: [`Input`]s with the time go in, [`Action`]s come
//! out. What the roles decide stands in `primary.rs`, `secondary.rs` and `watchdog.rs`; this file keeps what they share: state,
//! hooks, the report, and how a worker ends.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::config::{Address, Resource, StopFailure};
use crate::event::{Event, GiveUp};
use crate::hooks::{Call, Exit, Finished, Hook, HookAction, HookQueue, Limits, Outcome, Reason};
use crate::lateness::Lateness;
use crate::lease::rules::{Rule, is_off};
use crate::lease::{Ask, Grant, Release, Verdict};
use crate::members::{self, Members};
use crate::pause::{Flag, Pause};
use crate::primary::Primary;
use crate::rate_limit::RateLimit;
use crate::secondary::Secondary;
use crate::time::{Duration, Instant};
use crate::types::{Role, State};
use crate::watchdog::Watchdog;
use crate::wire::peer::{Heard, Said};

/// A worker that ends calls `stop` at most this often when it fails: after that somebody must look.
pub(crate) const LAST_STOP_TRIES: u32 = 3;
/// Between these calls it waits so long: what is short for a moment (processes, memory) may be there again.
pub(crate) const LAST_STOP_PAUSE: Duration = Duration::from_secs(1);
/// A secondary stands for the lease for at least so many heartbeats after it was told to.
const STAND_BEATS: u32 = 4;

/// There is a `status` at each heartbeat, and a report: more pile up only where something is badly wrong, and are worth no memory.
pub const MAX_STATUSES: usize = 16;

/// Names one attempt to connect, and the connection that comes of it; never used twice within a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId(pub u64);

/// What the main daemon tells a worker first: all that it needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The resource, as configured for this node.
    pub resource: Resource,
    /// The role to play.
    pub role: Role,
    /// The role before, when the script has not been told of the change yet.
    pub changed_from: Option<Role>,
    /// The remote that is expected to be dead, because its failure is why this node takes over.
    pub replaces: Option<Address>,
    /// How it takes part in the lease; `None` among originals, which know none.
    pub lease: Option<LeasePart>,
    /// What may run must be stopped before a lease is over, whether this worker has a part in it or only stops what another has left running.
    pub in_haste: bool,
}

impl Assignment {
    /// An order for a worker that has not begun, because another one of this resource still runs on this node; false: it shall not begin at all.
    pub fn hear(&mut self, order: Order) -> bool {
        match (order, &mut self.lease) {
            (Order::Reconfigure(resource), _) => self.resource = *resource,
            (Order::Pause(pause), Some(part)) => part.pause = pause,
            (Order::MustStop, Some(part)) => part.must_stop = true,
            (Order::End { .. } | Order::Leave { .. } | Order::LeaveRunning { .. }, _) => return false,
            // They speak of what a worker does that has begun; what matters comes again.
            (
                Order::Pause(_)
                | Order::MustStop
                | Order::Polled
                | Order::Complaint
                | Order::Verdict(_)
                | Order::Stand { .. }
                | Order::ServedBy(_)
                | Order::PrimaryRuns
                | Order::PrimarySilent { .. }
                | Order::Released
                | Order::HandOver(_)
                | Order::Force,
                _,
            ) => {}
        }
        true
    }
}

/// What a worker needs to take part in the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasePart {
    /// The name of this node.
    pub node: String,
    /// The lease has been won for the primary that this worker is to be.
    pub grant: Option<Grant>,
    /// Until when the lease runs that a worker held which has died: what runs may go on until then, but nothing is started under it, because it
    /// may have been given back.
    pub keep_until: Option<Instant>,
    /// An operator answers for starting without a majority.
    pub force: bool,
    /// Any number, another one for each worker: candidates that have split the votes go apart by it.
    pub seed: u64,
    /// Whether the resource is paused.
    pub pause: Pause,
    /// A `stop` has failed or was never carried out: what runs is stopped whether it is paused or not.
    pub must_stop: bool,
}

/// What the main daemon tells a worker later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// End: stop what runs here, close the connections, go.
    End {
        /// Why, for the environment of `stop`.
        reason: String,
        /// Somebody waits for the end: hooks that only tell the script of something get a heartbeat, not their whole time.
        hurry: bool,
        /// The node that alone may have the lease next.
        successor: Option<String>,
    },
    /// End, and nobody follows who would find what runs here: the same, in a hurry, and a secondary stops what it is not sure of.
    Leave {
        /// Why, for the environment of `stop`.
        reason: String,
    },
    /// The daemon stops, or starts this worker anew: while the resource is paused, leave it as it is; else the same as [`Leave`](Self::Leave).
    LeaveRunning {
        /// Why, for the environment of `stop`.
        reason: String,
    },
    /// The resource is paused, or no longer.
    Pause(Pause),
    /// Secondary: what it finds running is from before, under no lease: stop it, though the resource is paused.
    MustStop,
    /// A watchdog has polled this node for the resource.
    Polled,
    /// A complaint has been heard: tell the script.
    Complaint,
    /// New settings; `exec` is as before.
    Reconfigure(Box<Resource>),
    /// The vote of this node.
    Verdict(Verdict),
    /// Secondary: stand for the lease. Primary that waits for it: ask again, votes have become free.
    Stand {
        /// The highest epoch that this node's voter has seen. The others' answers may be some heartbeats old, and a vote is given for a higher
        /// epoch alone.
        highest: u64,
    },
    /// Secondary: a primary has connected to this node; `None`: no longer.
    ServedBy(Option<String>),
    /// Watchdog: a primary runs the resource, and says so at every heartbeat, until the next order tells otherwise.
    PrimaryRuns,
    /// Watchdog: no primary has said so since then.
    PrimarySilent {
        /// When it was said last.
        since: Instant,
    },
    /// Watchdog: the lease was given back, so nobody need wait for its end.
    Released,
    /// Primary: hand the resource over to this node, or to the best, if it is ready. Secondary: have the primary hand it over to this one.
    HandOver(Option<String>),
    /// Primary: an operator answers for going on without a majority.
    Force,
}

/// What happens to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A deadline has passed.
    Timer,
    /// The main daemon has spoken.
    Order(Order),
    /// The main daemon is gone.
    DaemonGone,
    /// The process of a hook has ended.
    HookExited {
        /// Which call.
        id: u64,
        /// How.
        exit: Exit,
        /// The last lines that it has printed.
        output: Vec<String>,
    },
    /// The fence script has ended.
    FenceExited {
        /// For which node it was called.
        node: String,
        /// How it ended; KILL when it took longer than it may.
        exit: Exit,
    },
    /// News from a connection that this worker makes.
    Link(LinkId, LinkEvent),
    /// Secondary: a primary has connected.
    PrimaryConnected {
        /// The connection.
        link: LinkId,
        /// The primary's address.
        from: String,
    },
    /// Secondary: the primary asks for the state here.
    Heartbeat {
        /// On this connection.
        link: LinkId,
        /// The number of the question.
        seq: u64,
    },
    /// Secondary: the connection from the primary is gone.
    PrimaryLost {
        /// Which.
        link: LinkId,
        /// Why.
        why: String,
    },
    /// Watchdog: a poll was answered, or why not.
    Polled {
        /// Which poll.
        link: LinkId,
        /// What the remote is and how its resource does.
        answer: Result<(Role, State), String>,
    },
}

/// News from a connection to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Both handshakes are done.
    Up,
    /// Protocol 1: the other side has welcomed us and says that it is this node.
    Welcome(String),
    /// Protocol 1: it has answered a beat.
    Heard(Box<Heard>),
    /// The remote does not want us.
    Refused {
        /// In its words.
        message: String,
        /// Its priority, when it is a primary with a better one.
        priority: Option<i32>,
    },
    /// The remote answered a heartbeat: with the state there, or with an error number.
    Answer {
        /// The number of the heartbeat.
        seq: u64,
        /// The state, or an error number.
        state: Result<State, i16>,
    },
    /// It could not be made, or is gone.
    Failed(String),
    /// The remote takes connections, but did not answer the handshake in time.
    Silent(String),
}

/// What a worker's process shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the script; tell of its end with [`Input::HookExited`].
    RunHook(Call),
    /// Send TERM to the process group of a call.
    TerminateHook(u64),
    /// Send KILL to the process group of a call.
    KillHook(u64),
    /// Connect to another node, with all of the handshake, all within the resource's `timeout`.
    Connect(LinkId, Address),
    /// Protocol 1: say something over a connection that is up.
    Say(LinkId, Said),
    /// Ask the voter of this node.
    AskHere(Ask),
    /// Give the vote of this node back.
    ReleaseHere(Release),
    /// Call the fence script for a node, within `fence_timeout`; tell of its end with [`Input::FenceExited`].
    Fence(String),
    /// Tell the voter of this node that another one is off for certain.
    FencedHere {
        /// Which.
        node: String,
        /// The highest epoch that it may have held.
        epoch: u64,
    },
    /// Reboot this host, without waiting for anything.
    Reboot,
    /// Secondary: the lease is won; the main daemon shall make this node primary.
    Won(Grant),
    /// Why the resource is not handed over: by this primary, or by another one to this secondary.
    HandOverRefused(String),
    /// Another node knows better whether the resource is paused.
    PauseHeard(Pause),
    /// Send a heartbeat over a connection that is up.
    SendHeartbeat {
        /// The connection.
        link: LinkId,
        /// The state here.
        state: State,
        /// The number of the heartbeat.
        seq: u64,
    },
    /// Secondary: answer a heartbeat.
    AnswerHeartbeat {
        /// The connection.
        link: LinkId,
        /// The number of the question.
        seq: u64,
        /// The state here.
        state: State,
    },
    /// Close a connection, or give up making it.
    Disconnect(LinkId),
    /// Watchdog: ask a remote for role and state, within the resource's `timeout`.
    Poll(LinkId, Address),
    /// Watchdog: complain to a remote. No answer is expected.
    Complain(Address),
    /// Secondary: the connection from the primary is gone; the main daemon shall know.
    PrimaryGone(LinkId),
    /// The report for `status` has changed.
    Report(Report),
    /// Tell the administrator.
    Event(Event),
    /// All is done: tell the main daemon and end the process.
    Exit(Farewell),
}

/// What a worker knows, for `status` here and for polls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The state of the resource here; for a watchdog, of the resource as a whole.
    pub state: State,
    /// Attempts to start it since it last ran.
    pub attempts: u32,
    /// The remotes, in the order of the configuration.
    pub remotes: Vec<RemoteReport>,
    /// Watchdog: its own complaints within the interval.
    pub complaints: u32,
    /// How it stands with the lease; `None` without one.
    pub lease: Option<LeaseReport>,
    /// How late the worker woke up at worst in the last minute; `None` when that is not worth a word.
    pub lateness: Option<Duration>,
    /// How long each `status` took that has ended since the last report and said nothing new: it is counted, and no event. At most
    /// [`MAX_STATUSES`].
    pub statuses: Vec<Duration>,
}

/// How a worker stands with the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReport {
    /// The epoch that is held here.
    pub epoch: Option<u64>,
    /// Until when it is held, when it is.
    pub until: Option<Instant>,
    /// It is held by the word of an operator.
    pub is_forced: bool,
    /// Nodes in reach, this one included.
    pub in_reach: u32,
    /// Nodes whose vote it has.
    pub votes: u32,
    /// How many vote.
    pub voters: u32,
    /// Why this node, which wants the lease, has not got it; or why a primary that has got it does not start the resource.
    pub waits: Option<String>,
    /// The highest epoch heard of.
    pub highest: u64,
    /// The nodes in reach, each with the digest of the voters that it has in force.
    pub in_force: Vec<(String, u64)>,
    /// Until when what runs here may go on, by a lease that is held here or was.
    pub runs_until: Option<Instant>,
    /// Nodes that keep their votes for this one.
    pub kept: u32,
    /// The nodes in reach that know of the pause, or of its end, that is known here.
    pub know: Vec<String>,
}

/// What a worker knows of a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoteReport {
    /// Primary and secondary: whether there is a connection.
    Connected(bool),
    /// Watchdog: what the last poll said.
    Polled(Option<Role>, State),
}

/// The last word of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Farewell {
    /// It was told to end.
    AsOrdered,
    /// It gave up its role.
    GaveUp(GiveUp),
    /// It has stopped the resource for this node to start it.
    HandedOver(String),
}

/// The role machine and what the roles share.
#[derive(Debug)]
pub struct Worker {
    base: Base,
    duty: Duty,
    /// The other nodes and the lease; `None` among originals.
    members: Option<Members>,
}

#[derive(Debug)]
enum Duty {
    /// Only tells the script of the change to init.
    Init,
    Primary(Primary),
    Secondary(Secondary),
    Watchdog(Watchdog),
}

impl Duty {
    /// A primary beats to this node.
    const fn hears_primary(&self) -> bool {
        match self {
            Self::Secondary(secondary) => secondary.hears_primary(),
            Self::Watchdog(watchdog) => watchdog.hears_primary(),
            Self::Primary(_) | Self::Init => false,
        }
    }
}

impl Worker {
    /// A worker that takes up its role.
    pub fn new(now: Instant, assignment: Assignment) -> (Self, Vec<Action>) {
        let Assignment { resource, role, changed_from, replaces, lease, in_haste: _ } = assignment;
        let hooks = HookQueue::new(Limits::of(&resource));
        let mut base = Base {
            resource,
            state: State::Unknown,
            attempts: 0,
            hooks,
            finished: VecDeque::new(),
            last_status: None,
            statuses: Vec::new(),
            output: Vec::new(),
            ending: None,
            successor: None,
            node: lease.as_ref().map(|part| part.node.clone()).unwrap_or_default(),
            flag: lease.as_ref().map(|part| Flag::new(now, part.pause.clone())).unwrap_or_default(),
            leaves_running: false,
            must_stop: lease.as_ref().is_some_and(|part| part.must_stop),
            next_link: 1,
            reported: None,
            report_due: now,
            floods: RateLimit::default(),
            lateness: Lateness::default(),
            out: Vec::new(),
        };
        if let Some(old) = changed_from {
            base.call(now, Hook::Role { old, new: role }, "the role has changed");
        }
        let lease = lease.filter(|_| role != Role::Init);
        let has_lease = lease.is_some();
        let duty = match role {
            Role::Init => Duty::Init,
            Role::Primary => Duty::Primary(Primary::new(now, &base, replaces.as_ref(), has_lease)),
            Role::Secondary => Duty::Secondary(Secondary::new(now)),
            Role::Watchdog => Duty::Watchdog(Watchdog::new(now, &base, has_lease)),
        };
        let members = lease.map(|part| {
            let mut members = Members::new(now, &base, role, &part);
            if part.force {
                members.force();
            }
            members
        });
        let mut worker = Self { base, duty, members };
        if matches!(worker.duty, Duty::Init) {
            worker.end(now, Farewell::AsOrdered, "", EndMode::Orderly);
        }
        if worker.members.is_some() {
            // The lease that it was to keep may be over by now.
            worker.look_at_the_clock(now);
        }
        worker.tick(now);
        let actions = worker.finish_turn(now);
        (worker, actions)
    }

    /// Something happened: what shall be done?
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Action> {
        self.note_lateness(now);
        self.look_at_the_clock(now);
        match input {
            Input::Timer => {}
            Input::Order(order) => self.obey(now, order),
            Input::DaemonGone => {
                if self.base.ending.as_ref().is_none_or(|ending| ending.mode != EndMode::Orphaned) {
                    self.base.event(Event::DaemonGone);
                    self.leave_running();
                    self.end(now, Farewell::AsOrdered, "the main daemon is gone", EndMode::Orphaned);
                }
            }
            Input::HookExited { id, exit, output } => self.base.hook_exited(now, id, exit, output),
            Input::FenceExited { node, exit } if node == self.base.node => self.base.fenced_itself(exit),
            Input::FenceExited { node, exit } => {
                if let Some(members) = &mut self.members {
                    members.on_fenced(now, &mut self.base, &node, &exit);
                }
            }
            Input::Link(link, event) => match (&mut self.members, &mut self.duty) {
                (Some(members), _) => members.on_link(now, &mut self.base, link, event),
                (None, Duty::Primary(primary)) => primary.on_link(now, &mut self.base, link, event),
                (None, _) => {}
            },
            Input::PrimaryConnected { link, from } => match &mut self.duty {
                Duty::Secondary(secondary) if self.base.ending.is_none() => {
                    secondary.on_connected(now, &mut self.base, link, from);
                }
                _ => self.base.act(Action::Disconnect(link)),
            },
            Input::Heartbeat { link, seq } => {
                if let Duty::Secondary(secondary) = &mut self.duty {
                    secondary.on_heartbeat(now, &mut self.base, link, seq);
                }
            }
            Input::PrimaryLost { link, why } => {
                if let Duty::Secondary(secondary) = &mut self.duty {
                    secondary.on_lost(now, &mut self.base, link, why);
                }
            }
            Input::Polled { link, answer } => {
                if let Duty::Watchdog(watchdog) = &mut self.duty {
                    watchdog.on_answer(now, &mut self.base, link, answer);
                }
            }
        }
        self.tick(now);
        self.finish_turn(now)
    }

    /// When [`handle`](Self::handle) wants to be called with [`Input::Timer`] at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let duty = match (&self.base.ending, &self.duty) {
            (Some(ending), duty) => {
                let touch = match duty {
                    Duty::Primary(primary) if ending.stop.is_some() => Some(primary.next_touch(&self.base)),
                    _ => None,
                };
                [touch, ending.stop_again_at, ending.goodbye_until, self.budget_ends()].into_iter().flatten().min()
            }
            (None, Duty::Init) => None,
            (None, Duty::Primary(primary)) => Some(primary.next_deadline(&self.base)),
            (None, Duty::Secondary(secondary)) => Some(secondary.next_deadline(&self.base)),
            (None, Duty::Watchdog(watchdog)) => watchdog.next_deadline(&self.base),
        };
        let members = self.members.as_ref().filter(|_| self.keeps_in_touch()).map(|members| {
            let beat = members.next_deadline(&self.base, self.duty.hears_primary());
            members.lease_ends().filter(|_| !self.base.has_made_way()).map_or(beat, |end| end.min(beat))
        });
        [duty, members, self.base.hooks.next_deadline(), self.base.floods.next_deadline()].into_iter().flatten().min()
    }

    /// When the votes are about to be free, and another node may start what this one should have stopped by then.
    fn budget_ends(&self) -> Option<Instant> {
        let ending = self.base.ending.as_ref().filter(|ending| ending.stop.is_some() && !ending.has_failed)?;
        let members = self.members.as_ref()?;
        // After this process was frozen past the end of its lease it is too late already, but `stop` may well work.
        Some(members.lease_ends()?.max(ending.since) + members.claim().terms().stop)
    }

    /// Until everything is stopped the lease is renewed: nobody else shall start meanwhile.
    fn keeps_in_touch(&self) -> bool {
        self.base.ending.as_ref().is_none_or(|ending| ending.stop.is_some())
    }

    /// The epoch of the lease that is held, for the script.
    pub fn epoch(&self) -> Option<u64> {
        self.members.as_ref().and_then(|members| members.claim().epoch())
    }

    /// The settings in force.
    pub const fn resource(&self) -> &Resource {
        &self.base.resource
    }

    fn obey(&mut self, now: Instant, order: Order) {
        match (order, &mut self.duty) {
            (Order::End { reason, hurry, successor }, _) => {
                self.base.successor = successor;
                let mode = if hurry { EndMode::Hurried } else { EndMode::Orderly };
                self.end(now, Farewell::AsOrdered, reason, mode);
            }
            (Order::Leave { reason }, _) => self.end(now, Farewell::AsOrdered, reason, EndMode::Leaving),
            (Order::LeaveRunning { reason }, _) => {
                self.leave_running();
                self.end(now, Farewell::AsOrdered, reason, EndMode::Leaving);
            }
            (Order::Pause(pause), _) => self.on_pause(now, pause),
            (Order::MustStop, Duty::Secondary(_)) => self.base.must_stop = true,
            (Order::Polled, Duty::Primary(primary)) => primary.on_polled(now),
            (Order::Complaint, Duty::Secondary(_)) => {
                self.base.call(now, Hook::Complain, "a watchdog has complained");
            }
            (Order::Reconfigure(resource), duty) => {
                self.base.hooks.set_limits(Limits::of(&resource));
                let old = core::mem::replace(&mut self.base.resource, *resource);
                // By a shorter heartbeat it may be due already.
                self.base.report_due = now;
                if let Some(members) = &mut self.members {
                    members.reconfigure(now, &mut self.base, &old);
                }
                match duty {
                    Duty::Primary(primary) => primary.reconfigure(now, &mut self.base, &old),
                    Duty::Secondary(secondary) => secondary.reconfigure(now, &mut self.base),
                    Duty::Watchdog(watchdog) => watchdog.reconfigure(now, &mut self.base, &old),
                    Duty::Init => {}
                }
            }
            (Order::Verdict(verdict), _) => {
                if let Some(members) = &mut self.members {
                    let me = members.claim().me().to_string();
                    members.on_verdict(now, &mut self.base, &me, &verdict);
                }
            }
            (Order::Stand { highest }, Duty::Secondary(_)) => {
                if let Some(members) = self.members.as_mut().filter(|_| self.base.ending.is_none()) {
                    members.note_epoch(highest);
                    let heartbeats = self.base.heartbeat() * STAND_BEATS;
                    let until = now + members.claim().terms().hold().max(heartbeats);
                    members.stand(now, &self.base, until);
                }
            }
            (Order::Stand { highest }, Duty::Primary(_)) => {
                if let Some(members) = &mut self.members {
                    members.note_epoch(highest);
                    members.ask_now(now);
                }
            }
            (Order::ServedBy(primary), Duty::Secondary(_)) => self.served_by(now, primary),
            (Order::PrimaryRuns, Duty::Watchdog(watchdog)) => watchdog.on_primary_beats(&mut self.base),
            (Order::PrimarySilent { since }, Duty::Watchdog(watchdog)) => watchdog.on_silence(since),
            (Order::Released, Duty::Watchdog(watchdog)) => {
                if let Some(members) = &self.members {
                    watchdog.on_released(now, &mut self.base, members);
                }
            }
            (Order::HandOver(to), Duty::Primary(_)) => self.hand_over(now, to),
            (Order::HandOver(_), Duty::Secondary(_)) => {
                let asked = self.members.as_mut().map_or(Ok(()), |members| members.fetch(&mut self.base));
                if let Err(why) = asked {
                    self.base.act(Action::HandOverRefused(why));
                }
            }
            (Order::Force, Duty::Primary(_)) => {
                if let Some(members) = &mut self.members {
                    members.force();
                }
            }
            (
                Order::Polled
                | Order::MustStop
                | Order::Complaint
                | Order::Stand { .. }
                | Order::ServedBy(_)
                | Order::PrimaryRuns
                | Order::PrimarySilent { .. }
                | Order::Released
                | Order::HandOver(_)
                | Order::Force,
                _,
            ) => {}
        }
    }

    /// The resource is paused, or no longer.
    fn on_pause(&mut self, now: Instant, pause: Pause) {
        self.base.flag = Flag::new(now, pause);
        if let (Some(members), Duty::Secondary(_), true) = (&mut self.members, &self.duty, self.base.is_paused()) {
            members.stand_down(&mut self.base);
        }
    }

    /// Decides, before this worker ends, whether what runs goes on without it: only what a majority keeps its votes for, because nobody else
    /// can start that; and what a secondary has found running while it was paused.
    fn leave_running(&mut self) {
        if !self.base.is_paused() || self.base.ending.is_some() {
            return;
        }
        let Some(members) = &self.members else { return };
        let (kept, of) = (members.claim().kept(), members.claim().voters().len());
        let is_busy = self.base.is_calling(Hook::Start) || self.base.is_calling(Hook::Stop);
        let may = match self.duty {
            Duty::Primary(_) => members.is_kept() || is_off(Rule::KeptMajority),
            Duty::Secondary(_) => !self.base.must_stop,
            Duty::Watchdog(_) | Duty::Init => return,
        };
        self.base.leaves_running = may && !is_busy;
        if matches!(self.duty, Duty::Primary(_)) {
            self.base.event(match self.base.leaves_running {
                true => Event::LeftRunning { kept, of },
                false => Event::NotLeftRunning { kept, of, is_busy },
            });
        }
    }

    /// A primary that is connected is a reason not to stand.
    fn served_by(&mut self, now: Instant, primary: Option<String>) {
        if let (Some(_), Some(members)) = (&primary, &mut self.members) {
            members.stand_down(&mut self.base);
        }
        if let Duty::Secondary(secondary) = &mut self.duty {
            secondary.served_by(now, &mut self.base, primary);
        }
    }

    /// The operator wants the resource elsewhere.
    fn hand_over(&mut self, now: Instant, to: Option<String>) {
        let Some(members) = &self.members else { return };
        let Some(to) = to.or_else(|| members.secondaries().into_iter().next()) else {
            return self.base.act(Action::HandOverRefused("no secondary is connected".to_string()));
        };
        let why_not = if self.base.ending.is_some() {
            Some("the change of another role is under way".to_string())
        } else if !members.claim().holds(now) {
            Some("this node does not hold the lease".to_string())
        } else {
            members.why_not_ready(&to)
        };
        match why_not {
            Some(why) => self.base.act(Action::HandOverRefused(why)),
            None => {
                let reason = alloc::format!("handing over to {to}");
                self.base.successor = Some(to.clone());
                self.end(now, Farewell::HandedOver(to), reason, EndMode::Hurried);
            }
        }
    }

    /// Everything that depends on the time or on a hook that is over.
    fn tick(&mut self, now: Instant) {
        self.base.hooks_on_timer(now);
        self.tick_members(now);
        while let Some(finished) = self.base.finished.pop_front() {
            if self.base.ending.is_some() {
                self.base.on_finished_while_ending(now, &finished);
            } else {
                match &mut self.duty {
                    Duty::Primary(primary) => primary.on_finished(now, &mut self.base, &finished),
                    Duty::Secondary(secondary) => secondary.on_finished(now, &mut self.base, &finished),
                    Duty::Watchdog(_) | Duty::Init => {}
                }
            }
        }
        if self.base.ending.is_none() {
            let verdict = match &mut self.duty {
                Duty::Primary(primary) => primary.on_timer(now, &mut self.base, self.members.as_ref()),
                Duty::Secondary(secondary) => secondary.on_timer(now, &mut self.base),
                Duty::Watchdog(watchdog) => watchdog.on_timer(now, &mut self.base, self.members.as_ref()),
                Duty::Init => None,
            };
            if let Some(give_up) = verdict {
                self.give_up(now, give_up);
            }
        }
        if let (Some(Ending { stop: Some(_), .. }), Duty::Primary(primary)) = (&self.base.ending, &mut self.duty) {
            primary.stay_in_touch(now, &mut self.base);
        }
        if self.keeps_in_touch()
            && let Some(members) = &mut self.members
        {
            members.tell_state(now, &mut self.base);
        }
        self.continue_ending(now);
    }

    /// The other nodes and the lease: what the role must know of it.
    fn tick_members(&mut self, now: Instant) {
        if !self.keeps_in_touch() {
            return;
        }
        let hears_primary = self.duty.hears_primary();
        let Some(members) = &mut self.members else { return };
        members.on_timer(now, &mut self.base, hears_primary);
        let is_ending = self.base.ending.is_some();
        for news in members.take_news() {
            match (news, &mut self.duty) {
                (members::News::Won(grant), Duty::Secondary(_)) if !is_ending => self.base.act(Action::Won(grant)),
                (members::News::Outranked { remote, theirs }, Duty::Primary(primary)) => {
                    let ours = self.base.resource.priority;
                    primary.outranked_by(GiveUp::Outranked { remote, theirs, ours });
                }
                (members::News::Answer(Role::Primary, State::Run), Duty::Watchdog(watchdog)) => {
                    watchdog.on_primary_runs(now, &mut self.base);
                }
                (members::News::WaitsForTurn, Duty::Watchdog(watchdog)) => watchdog.on_turn_awaited(now, &self.base),
                _ => {}
            }
        }
    }

    /// Whatever comes first after a deadline shows how late this process is, be it the timer or not.
    fn note_lateness(&mut self, now: Instant) {
        let late = self.base.lateness.note(now, self.next_deadline());
        // A watchdog says so where it begins its count anew.
        if late > self.base.heartbeat() / 2 && matches!(self.duty, Duty::Primary(_)) {
            self.base.event(Event::WokeLate { by: late });
        }
    }

    /// News that have waited while this process was frozen must not hide how long that was.
    fn look_at_the_clock(&mut self, now: Instant) {
        let lease_ended = self.members.as_ref().and_then(Members::lease_ends).filter(|end| now >= *end);
        if let Some(ending) = &self.base.ending {
            // Until now there was time to let what runs before `stop` end in peace.
            if lease_ended.is_some() && ending.stop.is_some() {
                self.base.make_way_for_stop(now);
            }
            return;
        }
        let verdict = match &mut self.duty {
            Duty::Primary(primary) => primary.look_at_the_clock(now, &self.base),
            Duty::Watchdog(watchdog) => watchdog.on_timer(now, &mut self.base, self.members.as_ref()),
            Duty::Secondary(_) | Duty::Init => None,
        };
        if let (Some(end), Duty::Primary(_)) = (lease_ended, &self.duty) {
            let (epoch, late) = (self.epoch(), now.since(end));
            self.base.event(Event::LeaseLost { epoch, late });
            self.give_up(now, GiveUp::LeaseLost { late });
            // `stop` has its whole budget from here on, whatever else runs.
            self.base.make_way_for_stop(now);
        } else if let (Some(_), Duty::Secondary(_)) = (lease_ended, &self.duty) {
            // The primary's worker before it died, and what it has left running is not known to be stopped yet.
            if let Some(members) = &mut self.members {
                members.let_go();
            }
            if self.base.state != State::Stopped && !self.base.is_calling(Hook::Stop) {
                self.base.stop_now(now, "the lease under which it ran is over");
            }
            self.base.make_way_for_stop(now);
        } else if let Some(give_up) = verdict {
            self.give_up(now, give_up);
        }
    }

    fn give_up(&mut self, now: Instant, why: GiveUp) {
        self.base.event(Event::GivingUp(why.clone()));
        let reason = why.to_string();
        self.end(now, Farewell::GaveUp(why), reason, EndMode::Orderly);
    }

    /// Begins to end. A second call may only make it more urgent.
    fn end(&mut self, now: Instant, farewell: Farewell, reason: impl Into<Reason>, mode: EndMode) {
        let reason = reason.into();
        let begins = self.base.ending.is_none();
        let fresh = Ending {
            since: now,
            farewell,
            mode,
            reason: reason.clone(),
            stop: None,
            stop_again_at: None,
            has_failed: false,
            goodbye_until: None,
        };
        let ending = self.base.ending.get_or_insert(fresh);
        let is_more_urgent = mode > ending.mode;
        ending.mode = ending.mode.max(mode);
        let must_stop = match &self.duty {
            Duty::Primary(_) => begins,
            // What a secondary has to stop its successor would find, too, if there is one.
            Duty::Secondary(_) => {
                (begins || is_more_urgent) && mode >= EndMode::Leaving && self.base.state != State::Stopped
            }
            Duty::Watchdog(_) | Duty::Init => false,
        };
        if must_stop && ending.stop.is_none() && !self.base.leaves_running {
            ending.stop = Some(1);
            ending.goodbye_until = None;
            self.base.hooks.hold_notices();
            if is_off(Rule::StopThenRelease)
                && let Some(members) = &mut self.members
            {
                members.release_at_end(&mut self.base, None);
            }
            self.base.stop_now(now, reason);
        }
        if let Duty::Primary(primary) = &mut self.duty {
            primary.stop_connecting(&mut self.base);
        }
    }

    /// What is left to do at the end, as soon as the resource is stopped.
    fn continue_ending(&mut self, now: Instant) {
        if self.budget_ends().is_some_and(|end| now >= end) {
            self.base.stop_has_failed();
        }
        let Some(ending) = &mut self.base.ending else { return };
        if ending.stop.is_some() {
            if ending.stop_again_at.take_if(|at| now >= *at).is_some() {
                let reason = ending.reason.clone();
                self.base.stop_now(now, reason);
            }
            return;
        }
        let patience = match ending.mode {
            EndMode::Orderly => None,
            EndMode::Hurried | EndMode::Leaving => Some(self.base.resource.heartbeat_interval),
            EndMode::Orphaned => Some(Duration::ZERO),
        };
        if ending.goodbye_until.is_none() {
            let tell_script = ending.mode != EndMode::Orphaned;
            // Each hook has its own limit, and few are left: without hurry that is limit enough.
            ending.goodbye_until = Some(now + patience.unwrap_or(Duration::MAX));
            if let Some(members) = &mut self.members {
                // What could not be stopped may still run: its votes bind until their time is over. What is left running needs them.
                if self.base.state != State::Failed && !self.base.leaves_running {
                    let successor = self.base.successor.take();
                    members.release_at_end(&mut self.base, successor);
                }
                members.close_all(now, &mut self.base, tell_script);
            }
            match &mut self.duty {
                Duty::Primary(primary) => primary.close_all(now, &mut self.base, tell_script),
                Duty::Secondary(secondary) => secondary.close(now, &mut self.base, tell_script),
                Duty::Watchdog(_) | Duty::Init => {}
            }
        }
        let Some(ending) = &mut self.base.ending else { return };
        // It may have become urgent meanwhile.
        ending.goodbye_until =
            ending.goodbye_until.map(|until| patience.map_or(until, |patience| until.min(now + patience)));
        let out_of_patience = ending.goodbye_until.is_some_and(|until| now >= until);
        if self.base.hooks.is_idle() || out_of_patience {
            let farewell = ending.farewell.clone();
            self.base.kill_running();
            self.base.act(Action::Exit(farewell));
        }
    }

    fn finish_turn(&mut self, now: Instant) -> Vec<Action> {
        #[expect(clippy::result_large_err, reason = "it is moved on at once")]
        let split = |action| match action {
            Action::Event(event) => Ok((None, event)),
            other => Err(other),
        };
        let out = core::mem::take(&mut self.base.out);
        let mut actions = self.base.floods.hold_back(now, out, split, |_, event| Action::Event(event));
        let heartbeat = self.base.heartbeat();
        if actions.iter().any(|action| matches!(action, Action::AskHere(_))) {
            // That is a word as well, and the answers change the report.
            self.base.report_due = now + heartbeat / 2;
        }
        let report = self.report(now);
        if self.base.reported.as_ref() != Some(&report) || now >= self.base.report_due {
            // A primary at each heartbeat, unless something was told shortly before it: the daemon replaces its worker when it is silent for one
            // and a half of them, at the shortest lease. The others, of whom the daemon wonders after three or more, at every second.
            let span = if matches!(self.duty, Duty::Primary(_)) { heartbeat / 4 } else { heartbeat * 3 / 2 };
            self.base.report_due = now + span;
            self.base.reported = Some(report.clone());
            let report = Report { statuses: core::mem::take(&mut self.base.statuses), ..report };
            // Before everything else: whoever acts on what follows may ask for the report.
            actions.insert(0, Action::Report(report));
        }
        actions
    }

    fn report(&self, now: Instant) -> Report {
        let resource = &self.base.resource;
        let (remotes, complaints) = match &self.duty {
            Duty::Init => (Vec::new(), 0),
            Duty::Primary(primary) => (primary.remotes(), 0),
            Duty::Secondary(secondary) => (secondary.remotes(resource), 0),
            Duty::Watchdog(watchdog) => (watchdog.remotes(), watchdog.complaints(now, resource)),
        };
        let remotes = self.members.as_ref().map_or(remotes, Members::remotes);
        let mut lease = self.members.as_ref().map(|members| members.report(now, &self.base));
        if let (Some(lease), Duty::Primary(primary)) = (&mut lease, &self.duty)
            && self.base.ending.is_none()
            && lease.waits.is_none()
        {
            // It has the lease, and something else keeps it from starting.
            lease.waits = primary.waits_for().map(ToString::to_string);
        }
        let lateness = self.base.lateness.worst(now, self.base.heartbeat());
        let (state, attempts, statuses) = (self.base.state, self.base.attempts, Vec::new());
        Report { state, attempts, remotes, complaints, lease, lateness, statuses }
    }
}

/// How a worker ends; the later, the more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EndMode {
    /// Connections are closed and the script is told of it.
    Orderly,
    /// The same, but a script that is slow to take note is not waited for.
    Hurried,
    /// The same, and nobody follows who would find what still runs.
    Leaving,
    /// The main daemon is gone: only the resource matters.
    Orphaned,
}

#[derive(Debug)]
struct Ending {
    since: Instant,
    farewell: Farewell,
    mode: EndMode,
    reason: Reason,
    /// The `stop` that is under way, counted from 1; `None` when there is nothing (more) to stop.
    stop: Option<u32>,
    /// When `stop` is tried again.
    stop_again_at: Option<Instant>,
    /// It could not be stopped in time. That has been told, and what is configured for it done; it is tried all the same.
    has_failed: bool,
    /// Set when connections are closed and the script has been asked to take note: how long it may take at most.
    goodbye_until: Option<Instant>,
}

/// What the roles share.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) resource: Resource,
    pub(crate) state: State,
    pub(crate) attempts: u32,
    hooks: HookQueue,
    /// Hooks that are over, and what they mean not yet decided.
    finished: VecDeque<Finished>,
    /// What the last `status` came to: the same trouble is told once, not at every heartbeat.
    last_status: Option<Outcome>,
    /// How long those took that said the same, since the last report.
    statuses: Vec<Duration>,
    /// What the hook has printed whose end is being looked at.
    output: Vec<String>,
    ending: Option<Ending>,
    /// Who alone may have the lease after this worker's end.
    successor: Option<String>,
    /// The name of this node, with the lease.
    node: String,
    /// Whether the resource is paused.
    pub(crate) flag: Flag,
    /// It ends, and what runs goes on.
    leaves_running: bool,
    /// A `stop` has failed or was never carried out, so the pause does not count.
    pub(crate) must_stop: bool,
    next_link: u64,
    reported: Option<Report>,
    /// The next report is due even if it says nothing new: it is the worker's sign of life.
    report_due: Instant,
    floods: RateLimit,
    lateness: Lateness,
    out: Vec<Action>,
}

impl Base {
    pub(crate) fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.act(Action::Event(event));
    }

    pub(crate) const fn is_paused(&self) -> bool {
        self.flag.is_paused()
    }

    pub(crate) fn new_link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        self.resource.heartbeat_interval
    }

    /// How long `stop` may take: what the voters have promised, which may be less than what the configuration says by now.
    pub(crate) fn set_stop_limit(&mut self, stop: Duration) {
        self.hooks.set_limits(Limits::of(&Resource { stop_timeout: stop, ..self.resource.clone() }));
    }

    /// Whether a call of this kind runs or waits.
    pub(crate) fn is_calling(&self, hook: Hook) -> bool {
        self.hooks.has(hook)
    }

    pub(crate) fn set_state(&mut self, new: State) {
        if self.state != new {
            let old = core::mem::replace(&mut self.state, new);
            self.event(Event::StateChanged { old, new });
        }
    }

    pub(crate) fn call(&mut self, now: Instant, hook: Hook, reason: impl Into<Reason>) {
        let mut actions = Vec::new();
        self.hooks.push(now, hook, reason, &mut actions);
        self.carry_out(actions);
    }

    /// Stops the resource, whatever hook runs.
    pub(crate) fn stop_now(&mut self, now: Instant, reason: impl Into<Reason>) {
        // One more try does not make it look well.
        if !self.ending.as_ref().is_some_and(|ending| ending.has_failed) {
            self.set_state(State::Stopping);
        }
        let mut actions = Vec::new();
        self.hooks.push_urgent_stop(now, reason, &mut actions);
        self.carry_out(actions);
    }

    /// A `stop` that waits for another hook to end waits no longer than it must.
    fn make_way_for_stop(&mut self, now: Instant) {
        let mut actions = Vec::new();
        self.hooks.make_way_for_stop(now, &mut actions);
        self.carry_out(actions);
    }

    /// Whether nothing that could be ended stands in the way of a `stop`.
    fn has_made_way(&self) -> bool {
        self.ending.is_some() && self.hooks.has_made_way()
    }

    /// Ends a hook that nobody waits for any more.
    fn kill_running(&mut self) {
        let running = self.hooks.running();
        self.out.extend(running.map(Action::KillHook));
    }

    fn hook_exited(&mut self, now: Instant, id: u64, exit: Exit, output: Vec<String>) {
        let mut actions = Vec::new();
        self.hooks.on_exit(now, id, exit, &mut actions);
        self.output = output;
        self.carry_out(actions);
        // A call that had been given up is no news any more.
        self.output.clear();
    }

    fn hooks_on_timer(&mut self, now: Instant) {
        let mut actions = Vec::new();
        self.hooks.on_timer(now, &mut actions);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<HookAction>) {
        for action in actions {
            match action {
                HookAction::Run(call) => self.act(Action::RunHook(call)),
                HookAction::Terminate(id) => self.act(Action::TerminateHook(id)),
                HookAction::Kill(id) => self.act(Action::KillHook(id)),
                HookAction::Slow(hook) => {
                    self.event(Event::HookSlow { hook, running_for: crate::hooks::REPORT_AFTER });
                }
                HookAction::Dropped(hook) => self.event(Event::HookDropped(hook)),
                HookAction::Finished(finished) => self.note_finished(finished),
            }
        }
    }

    fn note_finished(&mut self, finished: Finished) {
        let is_status = finished.hook == Hook::Status;
        if is_status && self.last_status.as_ref() == Some(&finished.outcome) {
            self.statuses.truncate(MAX_STATUSES - 1);
            self.statuses.push(finished.took);
        } else {
            if is_status {
                self.last_status = Some(finished.outcome.clone());
            }
            let Finished { hook, outcome, took } = finished.clone();
            let output = core::mem::take(&mut self.output);
            self.event(Event::HookEnded { hook, outcome, took, output });
        }
        self.finished.push_back(finished);
    }

    /// A `stop` that fails is checked with `status` and tried again, but not for ever: this worker has to end.
    fn on_finished_while_ending(&mut self, now: Instant, finished: &Finished) {
        let Some(Ending { stop: Some(tries), stop_again_at, .. }) = &mut self.ending else { return };
        let stopped = match finished.hook {
            Hook::Stop if !finished.outcome.is_success() => {
                self.call(now, Hook::Status, "stop has failed");
                return;
            }
            Hook::Stop => true,
            Hook::Status => answer_of(&finished.outcome) == State::Stopped,
            Hook::Start | Hook::Connect | Hook::Disconnect | Hook::Complain | Hook::Role { .. } => return,
        };
        if !stopped && *tries < LAST_STOP_TRIES {
            *tries += 1;
            *stop_again_at = Some(now + LAST_STOP_PAUSE);
            return;
        }
        if let Some(ending) = &mut self.ending {
            ending.stop = None;
        }
        let mut actions = Vec::new();
        self.hooks.release_notices(now, &mut actions);
        self.carry_out(actions);
        if stopped {
            self.set_state(State::Stopped);
        } else {
            self.stop_has_failed();
        }
    }

    /// The resource may run here when another node starts it. Does what the administrator wants done about that, once.
    fn stop_has_failed(&mut self) {
        self.set_state(State::Failed);
        if self.ending.as_mut().is_none_or(|ending| core::mem::replace(&mut ending.has_failed, true)) {
            return;
        }
        self.event(Event::MayStillRun);
        match self.resource.on_stop_failure {
            StopFailure::Log => {}
            StopFailure::Fence => {
                self.event(Event::Fencing { node: self.node.clone() });
                self.act(Action::Fence(self.node.clone()));
            }
            StopFailure::Reboot => {
                self.event(Event::Rebooting);
                self.act(Action::Reboot);
            }
        }
    }

    /// The fence script has ended that was to turn this node off.
    fn fenced_itself(&mut self, exit: Exit) {
        let node = self.node.clone();
        self.event(if exit == Exit::Code(0) { Event::Fenced { node } } else { Event::FenceFailed { node, exit } });
    }
}

/// What `status` says: its exit code is its answer.
pub(crate) fn answer_of(outcome: &Outcome) -> State {
    match outcome {
        Outcome::Ended(Exit::Code(0)) => State::Run,
        Outcome::Ended(Exit::Code(1)) => State::Stopped,
        Outcome::Ended(_) | Outcome::TimedOut(_) | Outcome::CutShort | Outcome::Unkillable => State::Unknown,
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod pause_tests;
