//! The other nodes of a resource, as a worker sees them: a connection of protocol 1 to each, kept open, with a beat at every heartbeat
//! (at every third while there is nothing to say); and over them the claim on the lease. Without the lease (among originals) there are none.
//!
//! Decides whom to ask for votes, and when. What the votes come to is decided by [`Claim`], and what follows from it by the role.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::config::{Address, Resource};
use crate::event::Event;
use crate::hooks::{Exit, Hook};
use crate::lease::claim::{Claim, Outcome};
use crate::lease::rules::{Rule, is_off};
use crate::lease::{Ask, FOR_EVER, Grant, Refusal, Release, Verdict, Voters};
use crate::primary::next_beat;
use crate::time::{Duration, Instant};
use crate::timing::terms;
use crate::types::{Role, State};
use crate::wire::peer::{Heard, Said};
use crate::worker::{Action, Base, LeasePart, LeaseReport, LinkEvent, LinkId, RemoteReport};

/// Candidates stand one after the other, the best first, in steps of this part of a heartbeat: long enough for a round of votes, short enough
/// to be no delay.
const STEP_PARTS: u32 = 16;
/// Steps among which a candidate that has lost chooses at random, so that two of them do not split the votes again and again.
const RANDOM_STEPS: u32 = 8;
/// A release with a successor keeps the votes for it during so many heartbeats.
const RESERVE_BEATS: u32 = 2;

/// Who is no primary, and hears one, has nothing to say but that it is still there: it beats at every so manyth heartbeat.
pub(crate) const REST_BEATS: u32 = 3;
/// After it has asked for something it beats at every heartbeat for so many of them: the answers to beats bring what came of it.
const AWAKE_BEATS: u32 = 8;

/// Friends that are called: among them may be nodes, watchdogs above all, and other hosts that only ask for the status. Those are called only
/// while a node is missing, and nobody is told that they do not answer.
const MAX_FRIENDS_CALLED: usize = 64;

/// What the role must know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The lease is won.
    Won(Grant),
    /// A member has answered: what it is, and how its resource does.
    Answer(Role, State),
    /// A member has answered that it waits for its turn to start the resource.
    WaitsForTurn,
    /// Another node is primary, and better.
    Outranked { remote: String, theirs: i32 },
}

#[derive(Debug)]
pub(crate) struct Members {
    role: Role,
    claim: Claim,
    /// Until when the lease runs that the worker before held.
    keep_until: Option<Instant>,
    /// What the worker before has left running is not known to be stopped: the votes that it had must stay bound.
    may_run: bool,
    /// What is to be given back when that is stopped.
    withheld: Option<Release>,
    list: Vec<Member>,
    next_beat: Instant,
    /// Heartbeats since the last beat at which there was none.
    rested: u32,
    /// Heartbeats at which there is a beat whatever else holds.
    awake: u32,
    candidacy: Option<Candidacy>,
    random: u64,
    news: Vec<News>,
    /// The state that the others have been told.
    told_state: State,
    /// Who has refused its vote when it was asked last, why, and when.
    refusals: BTreeMap<String, (Refusal, Instant)>,
    /// The same without times, as told to the administrator: it is asked again and again.
    told_refusals: Option<BTreeMap<String, Refusal>>,
    /// Those of the configuration, when the lease that is held still counts others.
    new_voters: Option<Voters>,
    /// The holder that is being fenced, or when that failed.
    fencing: Option<(String, Fencing)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fencing {
    UnderWay,
    FailedAt(Instant),
}

/// This node wants the lease.
#[derive(Debug)]
struct Candidacy {
    /// Until when, unless the reasons are heard again.
    until: Instant,
    /// When it asks (again).
    ask_at: Instant,
    /// When a round that is open is given up.
    round_ends: Instant,
    /// Votes have become free since that round began.
    hears_of_free_votes: bool,
}

#[derive(Debug)]
struct Member {
    address: Address,
    link: Link,
    node: Option<String>,
    heard: Option<Heard>,
    /// Why there is no connection, as told to the administrator.
    told: Option<String>,
    /// The script knows of the connection.
    script_knows: bool,
    /// It is no remote, only a friend.
    is_friend: bool,
    /// It has been told what the file says for all nodes alike.
    knows_file: bool,
}

#[derive(Debug)]
enum Link {
    Down,
    Connecting(LinkId),
    Up { id: LinkId, seq: u64, waits_since: Option<Instant> },
}

impl Member {
    const fn new(address: Address, is_friend: bool) -> Self {
        Self {
            address,
            link: Link::Down,
            node: None,
            heard: None,
            told: None,
            script_knows: false,
            is_friend,
            knows_file: false,
        }
    }

    /// All that may be nodes of the resource: its remotes, then its friends.
    fn all(resource: &Resource) -> impl Iterator<Item = Self> {
        let remotes = resource.remotes.iter().map(|address| Self::new(address.clone(), false));
        let friends = resource.friends.iter().filter(|friend| !resource.remotes.contains(friend));
        remotes.chain(friends.take(MAX_FRIENDS_CALLED).map(|address| Self::new(address.clone(), true)))
    }

    /// It has never answered as a node.
    const fn may_be_none(&self) -> bool {
        self.is_friend && self.node.is_none()
    }

    const fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    fn is(&self, link: LinkId) -> bool {
        match self.link {
            Link::Down => false,
            Link::Connecting(id) | Link::Up { id, .. } => id == link,
        }
    }

    fn beat(&mut self, now: Instant, base: &mut Base, (voters, votes_kept): (u64, u32), ask: Option<Ask>) {
        if let Link::Up { id, seq, waits_since } = &mut self.link {
            *seq += 1;
            waits_since.get_or_insert(now);
            let shared = (!core::mem::replace(&mut self.knows_file, true)).then(|| base.resource.shared.clone());
            let (state, pause) = (base.state, base.flag.message(now));
            let said = Said::Beat { seq: *seq, state, voters, ask, shared, pause, votes_kept };
            base.act(Action::Say(*id, said));
        }
    }

    fn say(&self, base: &mut Base, said: Said) {
        if let Link::Up { id, .. } = self.link {
            base.act(Action::Say(id, said));
        }
    }

    /// The connection, or the attempt to make it, has come to nothing.
    fn lose(&mut self, now: Instant, base: &mut Base, why: String) {
        let was_up = self.is_up();
        self.link = Link::Down;
        self.heard = None;
        let remote = self.name();
        if self.may_be_none() {
            return;
        }
        if was_up {
            base.event(Event::Disconnected { remote, why });
            if core::mem::take(&mut self.script_knows) {
                base.call(now, Hook::Disconnect, "connection to a secondary lost");
            }
        } else if self.told.as_ref() != Some(&why) {
            self.told = Some(why.clone());
            base.event(Event::Unreachable { remote, why });
        }
    }

    fn name(&self) -> String {
        match &self.node {
            Some(node) => format!("{node} ({})", self.address),
            None => self.address.to_string(),
        }
    }
}

impl Members {
    pub(crate) fn new(now: Instant, base: &Base, role: Role, part: &LeasePart) -> Self {
        let resource = &base.resource;
        let mut claim = Claim::new(&part.node, Voters::new(resource.nodes.iter().cloned()), terms(resource));
        match part.grant {
            Some(grant) if now < grant.until => claim.resume(grant),
            // This process was slow to begin: it asks again, and the votes are bound to this node.
            Some(grant) => claim.note_epoch(grant.epoch),
            None => {}
        }
        let list = Member::all(resource).collect();
        // Zero would stay zero.
        let mut members = Self {
            role,
            claim,
            keep_until: part.keep_until,
            may_run: part.keep_until.is_some() && !is_off(Rule::KeepVotes),
            withheld: None,
            list,
            next_beat: now,
            rested: 0,
            awake: 0,
            candidacy: None,
            random: part.seed | 1,
            news: Vec::new(),
            told_state: State::Unknown,
            refusals: BTreeMap::new(),
            told_refusals: None,
            new_voters: None,
            fencing: None,
        };
        if role == Role::Primary {
            members.stand(now, base, Instant::from_nanos(u64::MAX));
        }
        members
    }

    pub(crate) const fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The lease is held by the word of an operator.
    pub(crate) fn force(&mut self) {
        self.candidacy = None;
        self.claim.force();
    }

    pub(crate) fn take_news(&mut self) -> Vec<News> {
        core::mem::take(&mut self.news)
    }

    pub(crate) fn next_deadline(&self, base: &Base, hears_primary: bool) -> Instant {
        let answer = self.list.iter().filter_map(|member| match member.link {
            Link::Up { waits_since, .. } => waits_since,
            Link::Down | Link::Connecting(_) => None,
        });
        let silence = answer.min().map(|since| since + base.resource.timeout);
        let candidacy = self.candidacy.as_ref().map(|candidacy| {
            let due = if self.claim.is_standing() { candidacy.round_ends } else { candidacy.ask_at };
            // Without enough nodes in reach there is nothing to ask: whoever comes into reach is asked then.
            if self.claim.is_standing() || self.reachable() >= self.claim.voters().majority() {
                due.min(candidacy.until)
            } else {
                candidacy.until
            }
        });
        let next_beat = if hears_primary && self.may_rest(base) && self.missing().next().is_none() {
            // Who has nothing to say, and nobody to call, sleeps.
            self.next_beat + base.heartbeat() * REST_BEATS.saturating_sub(self.rested + 1)
        } else {
            self.next_beat
        };
        [Some(next_beat), silence, candidacy].into_iter().flatten().min().unwrap_or(next_beat)
    }

    /// When the lease ends that is held here, or that the worker before held; `None`: nothing may run.
    pub(crate) fn lease_ends(&self) -> Option<Instant> {
        if is_off(Rule::StopAtEnd) {
            return None;
        }
        let keep_until = self.keep_until.filter(|_| !is_off(Rule::KeepUntil));
        // A secondary that has won has started nothing yet.
        self.claim.until().filter(|_| self.role == Role::Primary).or(keep_until)
    }

    /// What the worker before has left running is being stopped.
    pub(crate) const fn let_go(&mut self) {
        self.keep_until = None;
    }

    /// Whether this node stands for the lease, or would if enough others were in reach.
    pub(crate) const fn wants_lease(&self) -> bool {
        self.candidacy.is_some()
    }

    /// An epoch that somebody has voted for.
    pub(crate) fn note_epoch(&mut self, epoch: u64) {
        self.claim.note_epoch(epoch);
    }

    /// Stands for the lease until `until`, unless it does already.
    pub(crate) fn stand(&mut self, now: Instant, base: &Base, until: Instant) {
        if self.claim.holds(now) {
            return;
        }
        let ask_at = now + base.heartbeat() / STEP_PARTS * self.rank(base);
        let candidacy =
            self.candidacy.get_or_insert(Candidacy { until, ask_at, round_ends: now, hears_of_free_votes: false });
        candidacy.until = candidacy.until.max(until);
    }

    /// A candidate need not wait any longer for votes that were bound.
    pub(crate) fn ask_now(&mut self, now: Instant) {
        let Some(candidacy) = &mut self.candidacy else { return };
        candidacy.ask_at = candidacy.ask_at.min(now);
        // The refusals of a round that is open may be older than the news.
        candidacy.hears_of_free_votes = self.claim.is_standing();
    }

    /// Stops standing; what it got is given back.
    pub(crate) fn stand_down(&mut self, base: &mut Base) {
        self.candidacy = None;
        self.forget_refusals();
        // A secondary that has won, and hears of another primary before it is one, does not need it.
        if self.claim.is_standing() || (self.role == Role::Secondary && self.claim.epoch().is_some()) {
            self.release(base, None);
        }
    }

    /// How many others are better candidates, as far as this node knows.
    fn rank(&self, base: &Base) -> u32 {
        let ours = (base.resource.priority, self.claim.me());
        let is_better = |member: &&Member| {
            let node = member.node.as_deref().unwrap_or_default();
            member.heard.as_ref().is_some_and(|heard| heard.role == Role::Secondary && (heard.priority, node) < ours)
        };
        u32::try_from(self.list.iter().filter(is_better).count()).unwrap_or(u32::MAX)
    }

    /// The nodes in reach, this one included.
    pub(crate) fn reachable(&self) -> usize {
        1 + self.list.iter().filter(|member| member.heard.is_some()).count()
    }

    /// What depends on the time alone. `hears_primary`: the primary beats to this node.
    pub(crate) fn on_timer(&mut self, now: Instant, base: &mut Base, hears_primary: bool) {
        self.drop_silent(now, base);
        if base.state == State::Stopped {
            self.may_run = false;
            if !self.claim.is_standing() && self.withheld.is_some() {
                self.release(base, None);
            }
        }
        if self.role == Role::Secondary && self.claim.until().is_some_and(|until| now >= until) {
            // Won, and not taken up in time.
            self.release(base, None);
        }
        if now >= self.next_beat {
            // Those that it has slept through count as well.
            let slept = now.since(self.next_beat).as_nanos() / base.heartbeat().as_nanos().max(1);
            let slept = u32::try_from(slept).unwrap_or(REST_BEATS).min(REST_BEATS);
            self.next_beat = next_beat(self.next_beat + base.heartbeat() * slept, now, base.heartbeat());
            self.rested += 1 + slept;
            self.awake = self.awake.saturating_sub(1);
            if self.rested >= REST_BEATS || !(hears_primary && self.may_rest(base)) {
                self.beat_all(now, base);
            }
            self.call_missing(base);
        }
        self.seek_votes(now, base);
    }

    /// Whoever waits for a new state, a watchdog or an operator, need not wait for the heartbeat.
    pub(crate) fn tell_state(&mut self, now: Instant, base: &mut Base) {
        if self.told_state != base.state {
            self.beat_all(now, base);
        }
    }

    /// Whether the others know all that they would hear, and this node wants nothing of them.
    fn may_rest(&self, base: &Base) -> bool {
        let is_idle = self.candidacy.is_none() && self.claim.epoch().is_none() && self.new_voters.is_none();
        let pause = base.flag.pause();
        let knows_pause = |heard: &Heard| pause.version == 0 || heard.pause.as_ref().is_some_and(|told| told.is(pause));
        let knows = |member: &Member| member.knows_file && member.heard.as_ref().is_some_and(knows_pause);
        self.role != Role::Primary
            && self.awake == 0
            && is_idle
            && self.list.iter().filter(|member| member.is_up()).all(knows)
    }

    /// Those that are not connected, by their places; but no friend that may be no node, when all nodes are there.
    fn missing(&self) -> impl Iterator<Item = usize> {
        let is_complete = self.list.iter().filter(|member| member.is_up()).count() + 1 >= self.claim.voters().len();
        let down = self.list.iter().enumerate().filter(|(_, member)| !member.is_up());
        down.filter(move |(_, member)| !(is_complete && member.may_be_none())).map(|(at, _)| at)
    }

    /// Calls those that are not connected.
    fn call_missing(&mut self, base: &mut Base) {
        for at in self.missing().collect::<Vec<_>>() {
            let Some(member) = self.list.get_mut(at).filter(|member| matches!(member.link, Link::Down)) else {
                continue;
            };
            let link = base.new_link();
            member.link = Link::Connecting(link);
            base.act(Action::Connect(link, member.address.clone()));
        }
    }

    /// The digest of the voters in the configuration, and how many votes are kept for this node.
    fn configured(&self) -> (u64, u32) {
        let voters = self.new_voters.as_ref().unwrap_or_else(|| self.claim.voters()).digest();
        (voters, u32::try_from(self.claim.kept()).unwrap_or(u32::MAX))
    }

    /// Whether a majority keeps its votes for this node, as far as anybody knows: what runs here may go on without end.
    pub(crate) fn is_kept(&self) -> bool {
        self.claim.is_kept() || (self.keep_until == Some(FOR_EVER) && self.claim.until().is_none())
    }

    /// What is asked for next shall be kept while what runs, or may run, is paused. After that, too, as long as it would end the lease and could not
    /// renew it: nobody else can start what a majority keeps its votes for.
    fn mind_pause(&mut self, base: &Base) {
        let is_alone = self.is_kept() && self.reachable() < self.claim.voters().majority();
        let may_run = self.claim.epoch().is_some() || self.keep_until.is_some();
        self.claim.keep(self.role == Role::Primary && may_run && (base.is_paused() || is_alone));
    }

    /// Votes that were kept for what an earlier worker has left running are kept no longer from here on.
    fn note_asked(&mut self, now: Instant, ask: &Ask) {
        if !ask.kept && self.keep_until == Some(FOR_EVER) {
            self.keep_until = Some(now + self.claim.wanted().lease);
        }
    }

    /// Tells all that are connected how it stands here; a holder renews its lease with it.
    fn beat_all(&mut self, now: Instant, base: &mut Base) {
        self.told_state = base.state;
        self.rested = 0;
        self.mind_pause(base);
        let ask = self.claim.renew(now);
        let voters = self.configured();
        for member in &mut self.list {
            member.beat(now, base, voters, ask.clone());
        }
        if let Some(ask) = ask {
            base.act(Action::AskHere(ask));
        }
    }

    fn drop_silent(&mut self, now: Instant, base: &mut Base) {
        let timeout = base.resource.timeout;
        for member in &mut self.list {
            if let Link::Up { id, waits_since: Some(since), .. } = member.link
                && now.since(since) >= timeout
            {
                member.lose(now, base, format!("no answer for {timeout:?}"));
                base.act(Action::Disconnect(id));
            }
        }
    }

    /// Asks for votes when it is time, and gives a round up that comes to nothing.
    fn seek_votes(&mut self, now: Instant, base: &mut Base) {
        let Some(candidacy) = &mut self.candidacy else { return };
        if now >= candidacy.until {
            self.stand_down(base);
        } else if self.claim.is_standing() {
            if now >= candidacy.round_ends {
                self.lose_round(now, base, None);
            }
        } else if now >= candidacy.ask_at && self.reachable() >= self.claim.voters().majority() {
            self.ask_all(now, base);
        }
    }

    fn ask_all(&mut self, now: Instant, base: &mut Base) {
        let in_reach = self.list.iter().filter(|member| member.is_up());
        let asked: Vec<String> = in_reach.filter_map(|member| member.node.clone()).collect();
        self.mind_pause(base);
        let ask = self.claim.stand(now, asked.into_iter().chain([self.claim.me().to_string()]));
        self.note_asked(now, &ask);
        if let Some(candidacy) = &mut self.candidacy {
            candidacy.round_ends = now + base.resource.timeout.min(self.claim.terms().lease);
        }
        let voters = self.configured();
        for member in &mut self.list {
            member.beat(now, base, voters, Some(ask.clone()));
        }
        base.act(Action::AskHere(ask));
    }

    /// Gives back what it got, and comes again when there may be more.
    fn lose_round(&mut self, now: Instant, base: &mut Base, hope: Option<Duration>) {
        let steps = self.rank(base).saturating_add(self.dice() % RANDOM_STEPS);
        self.fence_holder(now, base);
        self.release(base, None);
        let mut pause = hope.unwrap_or_else(|| base.heartbeat()) + base.heartbeat() / STEP_PARTS * steps;
        if self.candidacy.as_mut().is_some_and(|candidacy| core::mem::take(&mut candidacy.hears_of_free_votes)) {
            pause = base.heartbeat() / STEP_PARTS;
        }
        if let Some(candidacy) = &mut self.candidacy {
            candidacy.ask_at = now + pause;
        }
        let kinds = self.refusals.iter().map(|(node, (why, _))| (node.clone(), why.without_time())).collect();
        if self.told_refusals.as_ref() != Some(&kinds) {
            base.event(Event::VotesRefused { why: self.told_why(Some(now)).join("; "), again_in: pause });
            self.told_refusals = Some(kinds);
        }
    }

    /// Who refuses, and why. `now`: with the time that is left.
    fn told_why(&self, now: Option<Instant>) -> Vec<String> {
        let told = |why: &Refusal, heard: Instant| why.after(now.map_or(Duration::MAX, |now| now.since(heard)));
        self.refusals.iter().map(|(node, (why, heard))| format!("{node}: {}", told(why, *heard))).collect()
    }

    fn forget_refusals(&mut self) {
        self.refusals.clear();
        self.told_refusals = None;
    }

    fn dice(&mut self) -> u32 {
        // xorshift64: chance that two candidates differ is all that is needed.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u32::try_from(self.random >> 40).unwrap_or_default()
    }

    /// Gives the lease or the candidate's votes back. Only when the resource does not run here.
    pub(crate) fn release(&mut self, base: &mut Base, successor: Option<String>) {
        let reserve = base.heartbeat() * RESERVE_BEATS;
        let release = self.claim.release(successor.clone(), reserve);
        if self.may_run && base.state != State::Stopped {
            // To those who have voted for both, what is given back now is also the lease under which it runs.
            self.withheld = release.or(self.withheld.take());
            return;
        }
        if self.role == Role::Primary {
            // Those of a lease of before are given back as well, kept or not.
            self.keep_until = None;
        }
        self.may_run = false;
        // Whoever waits for the end of that lease need not wait any more.
        let withheld = self.withheld.take().map(|release| Release { successor, reserve, ..release });
        let ends_it = withheld.is_some();
        let Some(release) = release.or(withheld) else { return };
        let release = Release { was_held: release.was_held || ends_it, ..release };
        if release.was_held {
            base.event(Event::LeaseReleased { epoch: release.epoch, successor: release.successor.clone() });
        }
        self.tell_all(base, &Said::Release(release.clone()));
        base.act(Action::ReleaseHere(release));
    }

    /// At the end of a worker. A lease that was won for the next worker of this node stays.
    pub(crate) fn release_at_end(&mut self, base: &mut Base, successor: Option<String>) {
        self.candidacy = None;
        if successor.as_deref() != Some(self.claim.me()) {
            self.release(base, successor);
        }
    }

    pub(crate) fn report(&self, now: Instant, base: &Base) -> LeaseReport {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let is_forced = self.claim.is_forced();
        LeaseReport {
            epoch: self.claim.epoch(),
            until: self.claim.until().filter(|_| !is_forced),
            is_forced,
            in_reach: count(self.reachable()),
            votes: count(self.claim.votes(now)),
            voters: count(self.claim.voters().len()),
            waits: self.wants_lease().then(|| self.why_no_lease(Some(now))),
            highest: self.claim.highest(),
            in_force: self.in_force(),
            runs_until: self.lease_ends().filter(|_| !is_forced),
            kept: count(self.claim.kept()),
            know: self.know(base),
        }
    }

    /// Who knows of the pause that is known here.
    fn know(&self, base: &Base) -> Vec<String> {
        let knows = |member: &&Member| {
            let pause = member.heard.as_ref().and_then(|heard| heard.pause.as_ref());
            pause.is_some_and(|pause| pause.is(base.flag.pause()))
        };
        self.list.iter().filter(knows).filter_map(|member| member.node.clone()).collect()
    }

    fn in_force(&self) -> Vec<(String, u64)> {
        let of = |member: &Member| Some((member.node.clone()?, member.heard.as_ref()?.in_force));
        self.list.iter().filter_map(of).collect()
    }

    fn tell_all(&self, base: &mut Base, said: &Said) {
        self.list.iter().for_each(|member| member.say(base, said.clone()));
    }

    /// Complains to the secondaries.
    pub(crate) fn complain(&self, base: &mut Base, released: bool) {
        for member in self.list.iter().filter(|member| member.role() == Some(Role::Secondary)) {
            member.say(base, Said::Complaint { released });
        }
    }

    /// News of a connection.
    pub(crate) fn on_link(&mut self, now: Instant, base: &mut Base, link: LinkId, event: LinkEvent) {
        match event {
            LinkEvent::Welcome(node) => self.on_up(now, base, link, node),
            LinkEvent::Heard(heard) => self.on_heard(now, base, link, *heard),
            LinkEvent::Failed(why) | LinkEvent::Silent(why) => self.on_lost(now, base, link, why),
            LinkEvent::Refused { message, .. } => self.on_lost(now, base, link, format!("refused: {message}")),
            LinkEvent::Up | LinkEvent::Answer { .. } => {}
        }
    }

    /// It is up, and the other node says who it is.
    fn on_up(&mut self, now: Instant, base: &mut Base, link: LinkId, node: String) {
        let is_known = self.claim.voters().contains(&node) && node != self.claim.me();
        let is_taken = self.list.iter().any(|member| member.is_up() && member.node.as_deref() == Some(&node));
        let Some(member) = self.list.iter_mut().find(|member| member.is(link)) else { return };
        if !is_known || is_taken {
            let why = if is_taken {
                format!("it says that it is {node}, as another remote does")
            } else {
                format!("it says that it is {node}, which has no section in the resource here, or is this node")
            };
            member.lose(now, base, why);
            base.act(Action::Disconnect(link));
            return;
        }
        member.node = Some(node);
        member.told = None;
        member.link = Link::Up { id: link, seq: 0, waits_since: None };
        member.knows_file = false;
        base.event(Event::Connected { remote: member.name() });
        self.mind_pause(base);
        let ask = self.claim.renew(now);
        let voters = self.configured();
        if let Some(member) = self.list.iter_mut().find(|member| member.is(link)) {
            member.beat(now, base, voters, ask);
        }
    }

    /// A connection could not be made, or is gone.
    fn on_lost(&mut self, now: Instant, base: &mut Base, link: LinkId, why: String) {
        if let Some(member) = self.list.iter_mut().find(|member| member.is(link)) {
            member.lose(now, base, why);
        }
    }

    /// A member has answered a beat.
    fn on_heard(&mut self, now: Instant, base: &mut Base, link: LinkId, heard: Heard) {
        let Some(member) = self.list.iter_mut().find(|member| member.is(link)) else { return };
        let Link::Up { seq, waits_since, .. } = &mut member.link else { return };
        if heard.seq > *seq {
            let why = format!("it answered beat {}, but only {seq} were sent", heard.seq);
            member.lose(now, base, why);
            base.act(Action::Disconnect(link));
            return;
        }
        *waits_since = None;
        if let Some(why) = &heard.no_fetch {
            let node = member.node.as_deref().unwrap_or_default();
            base.act(Action::HandOverRefused(format!("{node} does not hand it over: {why}")));
        }
        self.claim.note_epoch(heard.epoch);
        self.news.push(News::Answer(heard.role, heard.state));
        if heard.waits_for_turn {
            self.news.push(News::WaitsForTurn);
        }
        if self.role == Role::Primary
            && heard.role == Role::Primary
            && heard.priority < base.resource.priority
            && !self.claim.holds(now)
        {
            self.news.push(News::Outranked { remote: member.name(), theirs: heard.priority });
        }
        if self.role == Role::Primary && heard.role == Role::Secondary && !member.script_knows {
            member.script_knows = true;
            base.call(now, Hook::Connect, "connected to a secondary");
        }
        let verdict = heard.verdict.clone();
        let is_asked = verdict.is_some();
        if let Some(pause) = heard.pause.as_ref().filter(|pause| pause.is_newer_than(base.flag.pause())) {
            base.act(Action::PauseHeard(pause.clone()));
        }
        let kept_for_us = heard.bound_kept && heard.bound.as_deref() == Some(self.claim.me());
        let (highest, was_silent) = (heard.epoch, member.heard.replace(heard).is_none());
        let node = member.node.clone();
        if kept_for_us {
            self.give_back_kept(base, link, highest);
        }
        if let (Some(verdict), Some(node)) = (verdict, node) {
            self.on_verdict(now, base, &node, &verdict);
        }
        self.adopt_voters();
        if !is_asked {
            self.mind_free_votes(now);
        }
        // Enough may be in reach now.
        if was_silent {
            self.seek_votes(now, base);
        }
    }

    /// A secondary whose resource does not run has no use for a vote that is kept for it since it was primary, and nobody else would get it.
    fn give_back_kept(&self, base: &mut Base, link: LinkId, epoch: u64) {
        let is_idle = self.claim.epoch().is_none() && !self.claim.is_standing();
        if self.role != Role::Secondary || base.is_paused() || base.state != State::Stopped || !is_idle {
            return;
        }
        let node = self.claim.me().to_string();
        let release = Release { node, epoch, successor: None, reserve: Duration::ZERO, was_held: true };
        base.act(Action::Say(link, Said::Release(release)));
    }

    /// A candidate that waits until votes are free by themselves learns from every answer whether they are already: a release may have been
    /// said while nobody was connected to this node.
    fn mind_free_votes(&mut self, now: Instant) {
        if self.candidacy.is_none() || self.claim.is_standing() {
            return;
        }
        let me = self.claim.me();
        let is_bound = |member: &Member| {
            let bound = member.heard.as_ref().and_then(|heard| heard.bound.as_deref());
            bound.is_some_and(|holder| holder != me)
        };
        let in_reach = self.list.iter().filter(|member| member.heard.is_some());
        let free: Vec<String> =
            in_reach.filter(|member| !is_bound(member)).filter_map(|member| member.node.clone()).collect();
        let before = self.refusals.len();
        self.refusals.retain(|node, (why, _)| {
            !matches!(why, Refusal::Bound { .. } | Refusal::Kept { .. }) || !free.contains(node)
        });
        if self.refusals.len() < before && free.len() + 1 >= self.claim.voters().majority() {
            self.ask_now(now);
        }
    }

    /// The verdict of a voter: of another node, or of this one.
    pub(crate) fn on_verdict(&mut self, now: Instant, base: &mut Base, node: &str, verdict: &Verdict) {
        let epoch = self.claim.epoch();
        match &verdict.refused {
            Some(why) if self.candidacy.is_some() => _ = self.refusals.insert(node.to_string(), (why.clone(), now)),
            _ => _ = self.refusals.remove(node),
        }
        match self.claim.on_verdict(now, node, verdict) {
            Outcome::Open => {}
            Outcome::Won => {
                self.candidacy = None;
                // It runs under this lease from here on.
                (self.may_run, self.withheld) = (false, None);
                if self.role == Role::Primary {
                    self.keep_until = None;
                }
                self.forget_refusals();
                if let (Some(epoch), Some(until)) = (self.claim.epoch(), self.claim.until()) {
                    let (votes, of) = (self.claim.votes(now), self.claim.voters().len());
                    base.event(Event::LeaseWon { epoch, votes, of });
                    self.news.push(News::Won(Grant { epoch, until, terms: self.claim.terms() }));
                }
            }
            Outcome::Lost(hope) => self.lose_round(now, base, hope),
        }
        if epoch.is_some() && epoch != self.claim.epoch() {
            base.set_stop_limit(self.claim.terms().stop);
        }
    }

    /// What keeps this node from the lease, in words.
    /// `now`: with the time that is left, which is not for those who tell it but once.
    pub(crate) fn why_no_lease(&self, now: Option<Instant>) -> String {
        let (of, needed) = (self.claim.voters().len(), self.claim.voters().majority());
        let in_reach = self.reachable();
        if in_reach < needed {
            return format!("waiting for votes: {in_reach} of {of} nodes in reach, needs {needed}");
        }
        let refusals = self.told_why(now);
        let bound = self.list.iter().find_map(|member| {
            let heard = member.heard.as_ref()?;
            let holder = heard.bound.as_ref().filter(|holder| *holder != self.claim.me())?;
            let (holder, left) = (holder.clone(), now.map_or(Duration::ZERO, |_| heard.bound_for));
            let why = if heard.bound_kept { Refusal::Kept { holder } } else { Refusal::Bound { holder, left } };
            Some(format!("{}: {why}", member.name()))
        });
        let why = if refusals.is_empty() { bound.into_iter().collect() } else { refusals };
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
        format!("waiting for votes: needs {needed} of {of}{why}")
    }

    /// A node in reach that is, or may be, running the resource.
    pub(crate) fn that_runs(&self) -> Option<(String, State)> {
        self.list.iter().find_map(|member| {
            let heard = member.heard.as_ref()?;
            matches!(heard.state, State::Run | State::Starting | State::Stopping)
                .then(|| (member.name(), heard.state))
                .filter(|_| heard.role != Role::Watchdog)
        })
    }

    /// Why this node cannot take over the resource now; `None`: it can.
    pub(crate) fn why_not_ready(&self, node: &str) -> Option<String> {
        let member = self.list.iter().find(|member| member.node.as_deref() == Some(node));
        match member.and_then(|member| member.heard.as_ref()) {
            None => Some(format!("{node} is not connected")),
            Some(heard) if heard.role != Role::Secondary => Some(format!("{node} is {} and not secondary", heard.role)),
            Some(heard) if heard.state != State::Stopped => Some(format!("the resource is {} on {node}", heard.state)),
            Some(_) => None,
        }
    }

    /// Asks the primary to hand the resource over to this node; or says why that would be in vain.
    pub(crate) fn fetch(&mut self, base: &mut Base) -> Result<(), String> {
        let (of, needed, in_reach) = (self.claim.voters().len(), self.claim.voters().majority(), self.reachable());
        if base.state != State::Stopped {
            return Err(format!("the resource is {} on this node", base.state));
        }
        if in_reach < needed {
            return Err(format!("{in_reach} of {of} nodes are in reach of this node, which needs {needed}"));
        }
        let primary = self.list.iter().find(|member| member.role() == Some(Role::Primary));
        let primary = primary.ok_or("no primary is connected")?;
        primary.say(base, Said::Fetch);
        self.awake = AWAKE_BEATS;
        Ok(())
    }

    /// Nodes that could take over, the best first.
    pub(crate) fn secondaries(&self) -> Vec<String> {
        let mut found: Vec<(i32, String)> = self
            .list
            .iter()
            .filter(|member| member.role() == Some(Role::Secondary))
            .filter_map(|member| Some((member.heard.as_ref()?.priority, member.node.clone()?)))
            .collect();
        found.sort();
        found.into_iter().map(|(_, node)| node).collect()
    }

    pub(crate) fn close_all(&mut self, now: Instant, base: &mut Base, tell_script: bool) {
        for member in &mut self.list {
            if let Link::Connecting(id) | Link::Up { id, .. } = member.link {
                base.act(Action::Disconnect(id));
                if core::mem::take(&mut member.script_knows) && tell_script {
                    base.call(now, Hook::Disconnect, "connection to a secondary closed");
                }
            }
            member.link = Link::Down;
            member.heard = None;
        }
    }

    /// New settings: connections to nodes that stay are kept.
    pub(crate) fn reconfigure(&mut self, now: Instant, base: &mut Base, before: &Resource) {
        if base.resource.priority != before.priority || base.resource.key != before.key {
            // The others know this node by what it said when it connected.
            for member in &mut self.list {
                if let Link::Connecting(id) | Link::Up { id, .. } = member.link {
                    base.act(Action::Disconnect(id));
                    member.link = Link::Down;
                }
            }
            self.next_beat = now;
        }
        let mut old = core::mem::take(&mut self.list);
        for new in Member::all(&base.resource) {
            let kept = old.iter().position(|member| member.address == new.address).map(|at| old.swap_remove(at));
            let knows_file = base.resource.shared == before.shared;
            let kept =
                kept.map(|kept| Member { is_friend: new.is_friend, knows_file: kept.knows_file && knows_file, ..kept });
            self.list.push(kept.unwrap_or(new));
        }
        for mut member in old {
            if let Link::Connecting(id) | Link::Up { id, .. } = member.link {
                member.lose(now, base, "it is no longer a remote".to_string());
                base.act(Action::Disconnect(id));
            }
        }
        self.new_voters = Some(Voters::new(base.resource.nodes.iter().cloned()));
        self.claim.reconfigure(self.claim.voters().clone(), terms(&base.resource));
        self.adopt_voters();
        self.next_beat = self.next_beat.min(now + base.heartbeat());
    }

    /// A lease that is held counts the voters of before, until a majority of the new ones has them in its configuration: they would refuse.
    fn adopt_voters(&mut self) {
        let Some(new) = &self.new_voters else { return };
        let is_ready = |member: &&Member| {
            member.node.as_ref().is_some_and(|node| new.contains(node))
                && member.heard.as_ref().is_some_and(|heard| heard.voters == new.digest())
        };
        let ready = self.list.iter().filter(is_ready).count() + usize::from(new.contains(self.claim.me()));
        if self.claim.epoch().is_none() || ready >= new.majority() {
            let new = new.clone();
            self.claim.reconfigure(new, self.claim.wanted());
            self.new_voters = None;
        }
    }

    /// A holder that is dead, as far as anybody knows, need not be waited for when it is certainly off.
    fn fence_holder(&mut self, now: Instant, base: &mut Base) {
        if base.resource.fence.is_none() {
            return;
        }
        let holder = self.claim.refusals().find_map(|(_, why)| match why {
            Refusal::Bound { holder, .. } | Refusal::Kept { holder } => Some(holder.clone()),
            _ => None,
        });
        let Some(holder) = holder.filter(|holder| *holder != self.claim.me()) else { return };
        let may = match &self.fencing {
            Some((_, Fencing::UnderWay)) => false,
            Some((_, Fencing::FailedAt(at))) => now.since(*at) >= base.heartbeat(),
            None => true,
        };
        if may {
            base.event(Event::Fencing { node: holder.clone() });
            base.act(Action::Fence(holder.clone()));
            self.fencing = Some((holder, Fencing::UnderWay));
        }
    }

    /// The fence script has ended.
    pub(crate) fn on_fenced(&mut self, now: Instant, base: &mut Base, node: &str, exit: &Exit) {
        if !self.fencing.take_if(|(fenced, _)| fenced == node).is_some_and(|(_, how)| how == Fencing::UnderWay) {
            return;
        }
        if *exit != Exit::Code(0) {
            base.event(Event::FenceFailed { node: node.to_string(), exit: exit.clone() });
            self.fencing = Some((node.to_string(), Fencing::FailedAt(now)));
            return;
        }
        base.event(Event::Fenced { node: node.to_string() });
        // Not the highest epoch heard of: the node may win that when it is back, and this may come late.
        let votes = self.list.iter().filter_map(|member| member.heard.as_ref());
        let voted = votes.filter(|heard| heard.bound.as_deref() == Some(node)).map(|heard| heard.epoch).max();
        let epoch = voted.unwrap_or_else(|| self.claim.highest());
        self.tell_all(base, &Said::Fenced { node: node.to_string(), epoch });
        base.act(Action::FencedHere { node: node.to_string(), epoch });
        if let Some(candidacy) = &mut self.candidacy {
            candidacy.ask_at = now;
        }
    }

    pub(crate) fn remotes(&self) -> Vec<RemoteReport> {
        let report = |member: &Member| match (self.role, &member.heard) {
            (Role::Watchdog, Some(heard)) => RemoteReport::Polled(Some(heard.role), heard.state),
            (Role::Watchdog, None) => RemoteReport::Polled(None, State::Unknown),
            _ => RemoteReport::Connected(member.heard.is_some()),
        };
        self.list.iter().filter(|member| !member.is_friend).map(report).collect()
    }
}

impl Member {
    fn role(&self) -> Option<Role> {
        self.heard.as_ref().map(|heard| heard.role)
    }
}

#[cfg(test)]
mod tests;
