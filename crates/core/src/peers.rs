//! The nodes that are connected to this node's main daemon for one resource, by protocol 1; and the vote of this node, which they ask for.
//!
//! Decides what each is answered. What follows for the role of this node is decided by the [`Supervisor`](crate::supervisor).

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::config::{Address, Resource, Shared};
use crate::daemon::{Action, ConnId, WorkerId};
use crate::event::{Event, VoteEnd};
use crate::lease::record::{NotFound, Record};
use crate::lease::rules::{Rule, is_off};
use crate::lease::voter::{Bound, Voter};
use crate::lease::{Ask, Kind, Refusal, Release, Verdict, Voters, with_drift};
use crate::pause::{Flag, Pause};
use crate::supervisor::Context;
use crate::time::{Duration, Instant};
use crate::timing::terms;
use crate::types::{Role, State};
use crate::wire::detail::Difference;
use crate::wire::peer::{Heard, Hello, Said, Welcome};
use crate::worker::{LeaseReport, Order};

/// Connections of one node for one resource: it needs one, and may have left some behind that have not been noticed yet.
pub(crate) const MAX_SESSIONS_PER_NODE: usize = 4;
/// What this node says of itself in each answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here {
    pub(crate) role: Role,
    pub(crate) state: State,
    /// For its turn to start the resource.
    pub(crate) waits_for_turn: bool,
}

/// Answers that may wait for a record to be written. Each is of a node that waits for it, so there are never more than nodes have connections.
const MAX_OWED: usize = 256;
/// A record that could not be read is looked for again after this time: each look may keep a thread waiting for the disk.
const FIND_AGAIN: Duration = Duration::from_secs(1);
/// A node that has connected and says nothing for so many heartbeats (and no less than its `timeout`) is gone: twice as many as a node that
/// rests lets pass.
pub(crate) const SILENT_BEATS: u32 = 6;
/// A primary that says nothing for so many heartbeats is not connected any more, as far as a takeover is concerned.
const PRIMARY_SILENT_BEATS: u32 = 2;

/// A node that has connected.
#[derive(Debug)]
struct Peer {
    node: String,
    address: Address,
    role: Role,
    priority: i32,
    /// When it connected.
    since: Instant,
    /// When it was heard last; what it said at first counts when it has proved to have the key, by a beat.
    heard: Instant,
    /// It has said something since.
    is_proven: bool,
    state: State,
    /// The digest of the voters in its configuration.
    voters: u64,
    /// What its file says for all nodes alike, as it has told.
    shared: Option<Shared>,
    /// It has given the lease back since it was heard last: it is no primary any more.
    has_released: bool,
    /// It renews a lease, or runs the resource.
    is_holder: bool,
    /// It has asked for the resource, and shall hear why it does not get it.
    no_fetch: Option<String>,
    /// What it knows of a pause.
    pause: Option<Pause>,
    /// How many votes are kept for it.
    votes_kept: u32,
}

/// Who waits for a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    Peer { conn: ConnId, seq: u64 },
    Worker(WorkerId),
}

/// A verdict that may leave only when its record is on disk.
#[derive(Debug)]
struct Owed {
    id: u64,
    to: Asker,
    verdict: Verdict,
}

/// What the supervisor must know of what a peer has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A primary beats; it is one that this node does not serve yet, or the one that it does.
    Primary { conn: ConnId, node: String, priority: i32, state: State },
    /// A watchdog complains.
    Complaint { node: String, released: bool },
    /// A holder has given the lease back; `to_us`: for this node to take it.
    Released { to_us: bool },
    /// An operator wants the resource on that node.
    Wanted { node: String },
    /// Nothing that matters to the role of this node.
    Nothing,
}

#[derive(Debug)]
pub(crate) struct Peers {
    me: String,
    /// `None` until the record has been looked for.
    voter: Option<Voter>,
    /// The daemon is being stopped, or the resource has left the configuration.
    is_leaving: bool,
    sessions: BTreeMap<ConnId, Peer>,
    owed: Vec<Owed>,
    /// Records on their way to the disk, by their numbers.
    writing: Vec<(u64, Record)>,
    /// When to look for the record again.
    find_again: Option<Instant>,
    /// Voters that could not be written are not written again before this.
    write_again: Instant,
    /// Why a record could not be read or written, last. That has been told.
    no_votes: Option<String>,
    told_voters: BTreeMap<String, Voters>,
    /// Why the voters of the configuration are not in force, as told.
    told_unproven: Option<String>,
    /// Whom the vote is given to, and for which epoch, as told.
    told_vote: Option<(String, u64)>,
    /// Who was refused the vote, and why, as told: it is asked for again and again.
    told_refusals: BTreeMap<String, Refusal>,
    /// Whether the resource is paused.
    pause: Flag,
}

impl Peers {
    pub(crate) fn new(me: &str) -> Self {
        Self {
            me: me.to_string(),
            voter: None,
            is_leaving: false,
            sessions: BTreeMap::new(),
            owed: Vec::new(),
            writing: Vec::new(),
            find_again: None,
            write_again: Instant::from_nanos(0),
            no_votes: None,
            told_voters: BTreeMap::new(),
            told_unproven: None,
            told_vote: None,
            told_refusals: BTreeMap::new(),
            pause: Flag::default(),
        }
    }

    /// This node.
    pub(crate) fn me(&self) -> &str {
        &self.me
    }

    /// Answers a beat with a verdict that was not given by the voter.
    pub(crate) fn refuse(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        settings: &Resource,
        seq: u64,
        verdict: Verdict,
        here: Here,
    ) {
        if let Some(peer) = self.sessions.get_mut(&conn) {
            (peer.heard, peer.is_proven) = (cx.now, true);
            self.answer(cx, conn, settings, seq, Some(verdict), here);
        }
    }

    pub(crate) const fn voter(&self) -> Option<&Voter> {
        self.voter.as_ref()
    }

    /// Why this node gives no votes at the moment: what it has promised cannot be read, or what it would promise not be written.
    pub(crate) fn no_votes(&self) -> Option<&str> {
        self.no_votes.as_deref()
    }

    /// Whether the resource is paused.
    pub(crate) const fn pause(&self) -> &Flag {
        &self.pause
    }

    /// Who has the vote of this node.
    pub(crate) fn bound(&self, now: Instant) -> Option<Bound<'_>> {
        self.voter.as_ref()?.bound(now)
    }

    /// What was found on disk from before the start.
    pub(crate) fn on_record_found(
        &mut self,
        cx: &mut Context<'_>,
        settings: &Resource,
        found: Result<Option<Record>, NotFound>,
    ) {
        let voters = Voters::new(settings.nodes.iter().cloned());
        self.voter = Some(match found {
            Ok(record) => Voter::new(cx.now, voters, record),
            Err(NotFound::Unreadable(why)) => {
                self.find_again = Some(cx.now + FIND_AGAIN);
                if self.no_votes.replace(why.clone()).is_none() {
                    cx.event(settings, Event::RecordUnreadable { why });
                }
                return;
            }
            Err(NotFound::Damaged(why)) => {
                let hold = terms(settings).hold();
                cx.event(settings, Event::RecordLost { why, wait: with_drift(hold) });
                Voter::without_record(cx.now, voters, hold)
            }
        });
        self.no_votes = None;
        self.set_pause(cx.now, settings, self.pause.clone());
    }

    /// Whether the resource is paused, from now on.
    pub(crate) fn set_pause(&mut self, now: Instant, settings: &Resource, pause: Flag) {
        self.pause = pause;
        if let Some(voter) = &mut self.voter {
            voter.pause(now, self.pause.is_paused(), terms(settings).hold());
        }
    }

    /// Whether this node is leaving, from now on. A free vote is not given then: nobody could count on it for longer than a moment, and after the
    /// next start it would bind.
    pub(crate) const fn set_leaving(&mut self, is_leaving: bool) {
        self.is_leaving = is_leaving;
    }

    /// `highest`: the highest epoch that the worker has heard of.
    pub(crate) fn reconfigure(&mut self, now: Instant, settings: &Resource, highest: u64) {
        if let Some(voter) = &mut self.voter {
            voter.note_epoch(highest);
            voter.reconfigure(now, Voters::new(settings.nodes.iter().cloned()));
        }
    }

    /// A node connects. What it says of itself counts from its first beat on.
    pub(crate) fn on_hello(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        settings: &Resource,
        address: Address,
        hello: Hello,
        version: &str,
    ) -> Result<(), String> {
        let Some(protocol) = hello.common_protocol() else {
            let ((theirs_least, theirs_most), (least, most)) = (hello.protocols, crate::wire::peer::PROTOCOLS);
            return Err(alloc::format!(
                "{} (hastmon {}) speaks protocol {theirs_least} to {theirs_most}, {} (hastmon {version}) speaks {least} to {most}",
                hello.node,
                hello.version,
                self.me
            ));
        };
        let voters = Voters::new(settings.nodes.iter().cloned());
        if hello.node == self.me || !settings.nodes.contains(&hello.node) {
            return Err(alloc::format!(
                "{} calls from {address}, but on {} the resource has the nodes {voters}{}",
                hello.node,
                self.me,
                if hello.node == self.me { ", and that is this node's own name" } else { "" }
            ));
        }
        if self.sessions.values().filter(|peer| peer.node == hello.node).count() >= MAX_SESSIONS_PER_NODE {
            return Err(alloc::format!("{} has {MAX_SESSIONS_PER_NODE} connections already", hello.node));
        }
        self.tell_voters(cx, settings, &hello, &voters);
        let welcome = Welcome { protocol, version: version.to_string(), node: self.me.clone(), voters };
        cx.out.push(Action::Welcome { conn, answer: welcome.encode(), key: settings.key.clone() });
        let peer = Peer {
            node: hello.node,
            address,
            role: hello.role,
            priority: hello.priority,
            since: cx.now,
            heard: cx.now,
            is_proven: false,
            state: State::Unknown,
            voters: hello.voters.digest(),
            shared: None,
            has_released: false,
            is_holder: false,
            no_fetch: None,
            pause: None,
            votes_kept: 0,
        };
        self.sessions.insert(conn, peer);
        Ok(())
    }

    /// Tells once of each node whose configuration has other voters.
    fn tell_voters(&mut self, cx: &mut Context<'_>, settings: &Resource, hello: &Hello, here: &Voters) {
        if hello.voters == *here {
            self.told_voters.remove(&hello.node);
        } else if self.told_voters.get(&hello.node) != Some(&hello.voters) {
            self.told_voters.insert(hello.node.clone(), hello.voters.clone());
            let (there, here) = (hello.voters.to_string(), here.to_string());
            cx.event(settings, Event::VotersDiffer { node: hello.node.clone(), there, here });
        }
    }

    /// The node of a connection; `None` when it is no connection of this resource.
    pub(crate) fn node(&self, conn: ConnId) -> Option<&str> {
        self.sessions.get(&conn).map(|peer| peer.node.as_str())
    }

    /// A node says something. `role`, `state`: those of this node.
    pub(crate) fn on_said(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        settings: &Resource,
        said: Said,
        here: Here,
    ) -> News {
        let Some(peer) = self.sessions.get_mut(&conn) else { return News::Nothing };
        peer.heard = cx.now;
        let is_new = !core::mem::replace(&mut peer.is_proven, true);
        let node = peer.node.clone();
        if is_new {
            let (address, role) = (peer.address.to_string(), peer.role);
            cx.event(settings, Event::PeerConnected { node: node.clone(), address, role });
            self.close_older(cx, conn, &node);
        }
        let Some(peer) = self.sessions.get_mut(&conn) else { return News::Nothing };
        match said {
            Said::Beat { seq, state, voters, ask, shared, pause, votes_kept } => {
                peer.shared = shared.or(peer.shared.take());
                peer.state = state;
                (peer.pause, peer.votes_kept) = (pause, votes_kept);
                peer.is_holder = ask.as_ref().is_some_and(|ask| ask.kind == Kind::Renew)
                    || matches!(state, State::Run | State::Starting | State::Stopping | State::Failed);
                peer.voters = voters;
                peer.has_released &= ask.is_none();
                let (role, priority, released) = (peer.role, peer.priority, peer.has_released);
                match ask {
                    Some(ask) => self.on_ask(cx, settings, Asker::Peer { conn, seq }, &ask, here),
                    None => self.answer(cx, conn, settings, seq, None, here),
                }
                if role == Role::Primary && !released {
                    return News::Primary { conn, node, priority, state };
                }
                News::Nothing
            }
            Said::Complaint { released } => News::Complaint { node, released },
            Said::Release(release) => {
                peer.has_released = release.was_held;
                let to_us = release.successor.as_deref() == Some(&self.me);
                self.on_release(cx, settings, &release);
                if release.was_held { News::Released { to_us } } else { News::Nothing }
            }
            Said::Fenced { node, epoch } => {
                self.on_fenced(cx, settings, &node, epoch);
                News::Nothing
            }
            Said::Fetch => News::Wanted { node },
        }
    }

    /// A node that has asked for the resource hears with the next answer why it does not get it.
    pub(crate) fn refuse_fetch(&mut self, conn: ConnId, why: String) {
        if let Some(peer) = self.sessions.get_mut(&conn) {
            peer.no_fetch = Some(why);
        }
    }

    /// What an earlier worker of a node has said, and arrives late, must not be taken for what its worker says now: the release of a lease that
    /// is over would give back the vote for the one that runs.
    fn close_older(&mut self, cx: &mut Context<'_>, conn: ConnId, node: &str) {
        let older = self.sessions.range(..conn).filter(|(_, peer)| peer.node == node);
        let older: Vec<ConnId> = older.filter(|_| !is_off(Rule::CloseOlder)).map(|(older, _)| *older).collect();
        for older in older {
            self.sessions.remove(&older);
            cx.out.push(Action::Close(older));
        }
    }

    /// How many connections there are.
    pub(crate) fn count(&self) -> usize {
        self.sessions.len()
    }

    /// Somebody asks for the vote of this node.
    pub(crate) fn on_ask(&mut self, cx: &mut Context<'_>, settings: &Resource, to: Asker, ask: &Ask, here: Here) {
        self.note_expired(cx, settings);
        let refuse =
            |highest, why| (Verdict { round: ask.round, highest, refused: Some(why), kept: false }, None, None);
        let (verdict, record, afterwards) = match &mut self.voter {
            // The record is being read.
            None => refuse(0, Refusal::Waits { left: settings.heartbeat_interval }),
            Some(voter) if self.is_leaving && voter.bound(cx.now).is_none() => {
                refuse(voter.highest(), Refusal::Leaving)
            }
            Some(voter) => {
                let step = voter.on_ask(cx.now, ask);
                (step.verdict, step.record, step.afterwards)
            }
        };
        self.tell_verdict(cx, settings, &ask.node, verdict.refused.as_ref());
        afterwards.into_iter().for_each(|record| _ = self.record(cx, settings, record));
        match record {
            None => self.give(cx, settings, to, verdict, here),
            Some(record) => {
                let id = self.record(cx, settings, record);
                if is_off(Rule::RecordFirst) {
                    self.give(cx, settings, to, verdict, here);
                } else {
                    self.owe(id, to, verdict);
                }
            }
        }
    }

    /// Tells once of each reason why somebody does not get the vote.
    fn tell_verdict(&mut self, cx: &mut Context<'_>, settings: &Resource, to: &str, refused: Option<&Refusal>) {
        let Some(why) = refused else {
            self.told_refusals.remove(to);
            return;
        };
        if self.told_refusals.insert(to.to_string(), why.without_time()) != Some(why.without_time()) {
            cx.event(settings, Event::VoteRefused { to: to.to_string(), why: why.to_string() });
        }
    }

    /// Tells that the vote is free, if it was told that it is given.
    fn tell_freed(&mut self, cx: &mut Context<'_>, settings: &Resource, why: VoteEnd) {
        if let Some((holder, epoch)) = self.told_vote.take() {
            cx.event(settings, Event::VoteFreed { holder, epoch, why });
        }
    }

    /// Tells of a vote whose time is over, as soon as anything happens after that.
    pub(crate) fn note_expired(&mut self, cx: &mut Context<'_>, settings: &Resource) {
        if self.told_vote.is_some() && self.bound(cx.now).is_none() {
            self.tell_freed(cx, settings, VoteEnd::Expired);
        }
    }

    fn owe(&mut self, id: u64, to: Asker, verdict: Verdict) {
        // Who is dropped asks again.
        if self.owed.len() == MAX_OWED {
            self.owed.remove(0);
        }
        self.owed.push(Owed { id, to, verdict });
    }

    /// The vote of somebody comes back: of another node, or of a worker here.
    pub(crate) fn on_release(&mut self, cx: &mut Context<'_>, settings: &Resource, release: &Release) {
        let record = self.voter.as_mut().and_then(|voter| voter.on_release(cx.now, release));
        if record.is_some() {
            self.tell_freed(cx, settings, VoteEnd::Released);
        }
        record.into_iter().for_each(|record| _ = self.record(cx, settings, record));
    }

    /// A node is off for certain.
    pub(crate) fn on_fenced(&mut self, cx: &mut Context<'_>, settings: &Resource, node: &str, epoch: u64) {
        if node == self.me {
            return;
        }
        cx.event(settings, Event::Fenced { node: node.to_string() });
        let record = self.voter.as_mut().and_then(|voter| voter.on_fenced(cx.now, node, epoch));
        if record.is_some() {
            self.tell_freed(cx, settings, VoteEnd::Fenced);
        }
        record.into_iter().for_each(|record| _ = self.record(cx, settings, record));
    }

    /// Why the nodes of the resource cannot change to `new` now; `None`: they can. Any majority of neighbouring sets has a node in common with any
    /// majority of the other, but for sets two steps apart that is not so.
    ///
    /// `in_force`: what other nodes have in force, as the worker has heard. What they have configured alone does not count: as long as their
    /// vote is bound, they go by the voters of before.
    pub(crate) fn why_not_change(&self, new: &Voters, in_force: &[(String, u64)]) -> Option<String> {
        let voter = self.voter.as_ref()?;
        if new == voter.configured() {
            return None;
        }
        // Those of before the start, when nobody has agreed to the configured ones yet.
        let now = if voter.unproven().is_some() { voter.voters() } else { voter.configured() };
        self.why_not_step(now, new, in_force)
    }

    fn why_not_step(&self, now: &Voters, new: &Voters, in_force: &[(String, u64)]) -> Option<String> {
        if now == new {
            return None;
        }
        let difference = now.difference(new);
        if difference.len() > 1 {
            return Some(alloc::format!(
                "its nodes are {now} and would be {new}: one reload may add or remove one node (here {} change); reload all nodes \
                 after each step",
                difference.join(", ")
            ));
        }
        // Who has the new ones already has seen a majority with the present ones, or has none older: whoever comes late follows.
        let here = (self.me.as_str(), self.voter.as_ref().map_or(0, Voter::in_force));
        let known = |node: &&str| {
            let there = in_force.iter().map(|(node, voters)| (node.as_str(), *voters));
            there.chain([here]).any(|known| known == (*node, now.digest()) || known == (*node, new.digest()))
        };
        let agree = now.iter().filter(known).count();
        (agree < now.majority()).then(|| {
            alloc::format!(
                "its nodes are {now} and would be {new}, but only {agree} of {} have been seen with the present ones, and {} are \
                 needed first: have all nodes reloaded their configuration?",
                now.len(),
                now.majority()
            )
        })
    }

    /// How many of these voters are known to have them in force.
    fn in_force_at(&self, voters: &Voters, in_force: &[(String, u64)]) -> usize {
        let here = (self.me.as_str(), self.voter.as_ref().map_or(0, Voter::in_force));
        let known = in_force.iter().map(|(node, voters)| (node.as_str(), *voters)).chain([here]);
        known.filter(|(node, digest)| voters.contains(node) && *digest == voters.digest()).count()
    }

    /// Whether the voters of the configuration with which this node has started may come into force now, or the next of the steps to them. Where
    /// a majority of them has them in force already, any other majority has one of those nodes in it: this one may follow at once.
    pub(crate) fn mind_voters(&mut self, cx: &mut Context<'_>, settings: &Resource, lease: &LeaseReport) {
        let in_force = &lease.in_force;
        let Some((voter, goal)) = self.voter.as_ref().and_then(|voter| Some((voter, voter.unproven()?))) else {
            return;
        };
        let is_in_force = self.in_force_at(goal, in_force) >= goal.majority();
        let next = if is_in_force { goal.clone() } else { voter.voters().step_to(goal) };
        let why_not = self.why_not_step(voter.voters(), &next, in_force).filter(|_| !is_in_force);
        match (why_not, &mut self.voter) {
            (None, Some(voter)) => {
                voter.note_epoch(lease.highest);
                voter.step(cx.now, next);
                self.told_unproven = None;
            }
            (why, _) if why != self.told_unproven => {
                if let Some(why) = why.clone() {
                    cx.event(settings, Event::VotersUnproven { why });
                }
                self.told_unproven = why;
            }
            _ => {}
        }
    }

    fn record(&mut self, cx: &mut Context<'_>, settings: &Resource, record: Record) -> u64 {
        let id = cx.new_id();
        self.writing.push((id, record.clone()));
        cx.out.push(Action::Record { id, resource: settings.name.clone(), record });
        id
    }

    /// A record is on disk, or cannot be written. Records are written in their order.
    pub(crate) fn on_recorded(
        &mut self,
        cx: &mut Context<'_>,
        settings: &Resource,
        id: u64,
        result: Result<(), String>,
        here: Here,
    ) {
        let result = if is_off(Rule::NotRecorded) { Ok(()) } else { result };
        let written = self.writing.extract_if(.., |(written, _)| *written <= id).filter(|(written, _)| *written == id);
        if let (Some((_, record)), Some(voter), Ok(())) = (written.last(), &mut self.voter, &result) {
            voter.recorded(&record);
            let vote = (record.holder, record.epoch);
            // One that is given back has no time left.
            if !record.hold.is_zero() && self.told_vote.as_ref() != Some(&vote) {
                cx.event(settings, Event::VoteGiven { to: vote.0.clone(), epoch: vote.1 });
                self.told_vote = Some(vote);
            }
        }
        let due: Vec<Owed> = self.owed.extract_if(.., |owed| owed.id == id).collect();
        for owed in due {
            let refused = result.is_err().then_some(Refusal::NotRecorded).or(owed.verdict.refused);
            self.give(cx, settings, owed.to, Verdict { refused, ..owed.verdict }, here);
        }
        match result {
            Ok(()) => self.no_votes = None,
            Err(why) => {
                self.write_again = cx.now + FIND_AGAIN;
                if self.no_votes.replace(why.clone()).is_none() {
                    cx.event(settings, Event::NotRecorded { why });
                }
            }
        }
    }

    fn give(&mut self, cx: &mut Context<'_>, settings: &Resource, to: Asker, verdict: Verdict, here: Here) {
        match to {
            // It may have gone while the record was written.
            Asker::Peer { conn, .. } if !self.sessions.contains_key(&conn) => {}
            Asker::Peer { conn, seq } => self.answer(cx, conn, settings, seq, Some(verdict), here),
            Asker::Worker(id) => cx.out.push(Action::Order { id, order: Order::Verdict(verdict) }),
        }
    }

    fn answer(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        settings: &Resource,
        seq: u64,
        verdict: Option<Verdict>,
        Here { role, state, waits_for_turn }: Here,
    ) {
        let no_fetch = self.sessions.get_mut(&conn).and_then(|peer| peer.no_fetch.take());
        let bound = self.bound(cx.now);
        let heard = Heard {
            seq,
            role,
            priority: settings.priority,
            state,
            verdict,
            bound: bound.map(|bound| bound.holder.to_string()),
            bound_kept: bound.is_some_and(|bound| bound.kept),
            waits_for_turn,
            pause: self.pause.message(cx.now),
            bound_for: bound.map_or(Duration::ZERO, |bound| bound.left),
            epoch: self.voter.as_ref().map_or(0, Voter::highest),
            voters: self.voter.as_ref().map_or(0, |voter| voter.accepted().digest()),
            in_force: self.voter.as_ref().map_or(0, Voter::in_force),
            no_fetch,
        };
        cx.out.push(Action::Tell { conn, message: heard.encode() });
    }

    /// A connection is gone; says whether it was one of this resource.
    pub(crate) fn on_gone(
        &mut self,
        cx: &mut Context<'_>,
        settings: &Resource,
        conn: ConnId,
        why: Option<String>,
    ) -> bool {
        let Some(peer) = self.sessions.remove(&conn) else { return false };
        if peer.is_proven {
            cx.event(settings, Event::PeerGone { node: peer.node, why });
        }
        true
    }

    pub(crate) fn next_deadline(&self, settings: &Resource) -> Option<Instant> {
        self.sessions.values().map(|peer| peer.heard + silence_limit(settings)).chain(self.find_again).min()
    }

    /// A record that could not be read is looked for again; voters that have come into force are written.
    pub(crate) fn mind_record(&mut self, cx: &mut Context<'_>, settings: &Resource) {
        if self.find_again.take_if(|at| cx.now >= *at).is_some() {
            cx.out.push(Action::FindRecord(settings.name.clone()));
        }
        if let Some(record) = self.voter.as_ref().and_then(|voter| voter.unrecorded(cx.now))
            && cx.now >= self.write_again
            && !self.writing.iter().any(|(_, writing)| writing.voters == record.voters)
        {
            self.record(cx, settings, record);
        }
    }

    /// Connections of nodes that have fallen silent are closed.
    pub(crate) fn drop_silent(&mut self, cx: &mut Context<'_>, settings: &Resource) -> Vec<ConnId> {
        let limit = silence_limit(settings);
        let silent: Vec<ConnId> =
            self.sessions.iter().filter(|(_, peer)| cx.now.since(peer.heard) >= limit).map(|(conn, _)| *conn).collect();
        for conn in &silent {
            self.on_gone(cx, settings, *conn, Some(alloc::format!("it has said nothing for {limit:?}")));
            cx.out.push(Action::Close(*conn));
        }
        silent
    }

    /// A primary that was heard of within the last heartbeats, but for one that has given the lease back.
    pub(crate) fn has_heard(&self, now: Instant, settings: &Resource, conn: ConnId) -> bool {
        let limit = settings.heartbeat_interval * PRIMARY_SILENT_BEATS;
        self.sessions.get(&conn).is_some_and(|peer| {
            peer.is_proven
                && peer.role == Role::Primary
                && peer.is_holder
                && !peer.has_released
                && now.since(peer.heard) < limit
        })
    }

    /// When the connection of a primary counts as silent.
    pub(crate) fn silent_at(&self, settings: &Resource, conn: ConnId) -> Option<Instant> {
        let peer = self.sessions.get(&conn)?;
        Some(peer.heard + settings.heartbeat_interval * PRIMARY_SILENT_BEATS)
    }

    pub(crate) fn address(&self, conn: ConnId) -> Option<&Address> {
        self.sessions.get(&conn).map(|peer| &peer.address)
    }

    /// What a node said last of the resource on itself, and as what.
    pub(crate) fn state_on(&self, node: &str) -> Option<(Role, State)> {
        let peer =
            self.sessions.values().filter(|peer| peer.node == node && peer.is_proven).max_by_key(|peer| peer.heard)?;
        Some((peer.role, peer.state))
    }

    /// Since when a node is connected to this one.
    pub(crate) fn connected_since(&self, node: &str) -> Option<Instant> {
        let is_it = |peer: &&Peer| peer.node == node && peer.is_proven;
        self.sessions.values().filter(is_it).max_by_key(|peer| peer.heard).map(|peer| peer.since)
    }

    /// In which settings the files of others differ from that of this node.
    pub(crate) fn differences(&self, ours: &Shared) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut seen = BTreeMap::new();
        let told = self.sessions.values().filter(|peer| peer.is_proven);
        told.filter_map(|peer| Some((peer, peer.shared.as_ref()?)))
            .for_each(|(peer, shared)| _ = seen.insert(peer.node.as_str(), shared));
        for (node, theirs) in seen {
            found.extend(ours.differences(theirs).map(|(setting, here, there)| Difference {
                node: node.to_string(),
                setting: setting.to_string(),
                here: here.to_string(),
                there: there.to_string(),
            }));
        }
        found
    }

    /// The nodes that are connected to this one, each with its role, its state and its priority, as it said last.
    pub(crate) fn known(&self) -> BTreeMap<&str, (Role, State, i32)> {
        let mut latest: Vec<&Peer> = self.sessions.values().filter(|peer| peer.is_proven).collect();
        latest.sort_by_key(|peer| peer.heard);
        latest.into_iter().map(|peer| (peer.node.as_str(), (peer.role, peer.state, peer.priority))).collect()
    }

    /// The nodes that have said that they know of the pause, or of its end, that is known here.
    pub(crate) fn know_of_pause(&self) -> impl Iterator<Item = &str> {
        let knows = |peer: &&Peer| peer.pause.as_ref().is_some_and(|pause| pause.is(self.pause.pause()));
        self.sessions.values().filter(knows).map(|peer| peer.node.as_str())
    }

    /// A primary, and how many votes are kept for it.
    pub(crate) fn kept_for(&self) -> Option<(&str, u32)> {
        let primaries = self.sessions.values().filter(|peer| peer.is_proven && peer.role == Role::Primary);
        let best = primaries.max_by_key(|peer| (peer.votes_kept, peer.is_holder, peer.heard))?;
        Some((&best.node, best.votes_kept))
    }

    /// The vote of this node is kept for itself; the highest epoch that it has seen.
    pub(crate) fn kept_for_me(&self, now: Instant) -> Option<u64> {
        let bound = self.bound(now)?;
        (bound.kept && bound.holder == self.me).then(|| self.voter.as_ref().map_or(0, Voter::highest))
    }

    /// A primary that runs the resource, as it said last.
    pub(crate) fn runs_on(&self) -> Option<&str> {
        let runs = |peer: &&Peer| {
            peer.is_proven && !peer.has_released && (peer.role, peer.state) == (Role::Primary, State::Run)
        };
        self.sessions.values().find(runs).map(|peer| peer.node.as_str())
    }

    pub(crate) fn close_all(&mut self, cx: &mut Context<'_>) {
        for (conn, _) in core::mem::take(&mut self.sessions) {
            cx.out.push(Action::Close(conn));
        }
    }
}

fn silence_limit(settings: &Resource) -> Duration {
    settings.timeout.max(settings.heartbeat_interval * SILENT_BEATS)
}

#[cfg(test)]
mod tests;
