//! A world of three nodes for the model check: what can happen in it, and what follows. The votes are given and counted by the real [`Voter`]
//! and [`Claim`]; the world moves messages, time, disks and power. [`crate::flaws`] breaks one rule at a time.
//!
//! **Time.** A unit of true time is long for one clock and short for another: a slow clock counts 100 nanoseconds in it, a fast one 101, which
//! is all that the lease allows for. Hence everything is a whole number: a hold of h units that a slow holder counts ends for a
//! fast voter after exactly h units, too, which is the case with no margin at all. A lease is some hundred units long, so one per cent of it is
//! more than one unit, and leaving the drift out makes a difference that can be seen. Time goes on to the next moment at which a vote, a
//! lease or a stop ends, or by a step of a heartbeat, whichever the search likes; a message may be heard at any of these moments.
//! Each clock has its own origin: moments of different nodes have nothing in common.
//!
//! **Messages** are a set: heard in any order, at any later time, or never, which is how one is lost. A copy may be kept: it is heard again.
//! Answers die with the process that asked (they belong to its connection), questions and releases do not.
//!
//! **Running.** A node may run the resource from the moment it wins until it says that it has stopped, or until lease and stop budget are over by
//! its own clock: `stop` always takes all that it may. Releasing on purpose is stopping first.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use hastmon_core::lease::claim::Claim;
use hastmon_core::lease::record::Record;
use hastmon_core::lease::voter::Voter;
use hastmon_core::lease::{Ask, Refusal, Release, Terms, Verdict, Voters};
use hastmon_core::time::{Duration, Instant};
use stateright::{Model, Property};

use crate::flaws::Flaw;

pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];
/// Nanoseconds that a clock counts in a unit of true time.
pub(crate) const SLOW: u64 = 100;
pub(crate) const FAST: u64 = 101;
/// Units by which time may go on between two moments at which something ends; also how long a vote is kept for a successor.
const STEP: u64 = 150;

/// In the place of the time when a question was asked.
const NOBODY_LISTENS: u64 = u64::MAX;

const fn units(units: u64) -> Duration {
    Duration::from_nanos(units * SLOW)
}

const TERMS: Terms = Terms { lease: units(160), stop: units(140) };
/// After a reload: a shorter lease with a longer stop, or the other way round.
const OTHER_TERMS: [Terms; 2] =
    [Terms { lease: units(10), stop: units(290) }, Terms { lease: units(310), stop: units(10) }];

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The world begins when `a` has won with the votes of `a` and `b`, and the question to `c` is under way.
    pub(crate) is_held: bool,
    /// Nodes that may be primary; the others vote alone.
    pub(crate) candidates: usize,
    /// Candidacies, renewals and releases, each with its messages to everybody.
    pub(crate) rounds: u8,
    /// Daemons killed, and nodes that lose power.
    pub(crate) restarts: u8,
    /// Writes that fail.
    pub(crate) disk_faults: u8,
    /// Messages that are heard twice.
    pub(crate) copies: u8,
    /// Reloads with other terms.
    pub(crate) reloads: u8,
    /// Units of true time.
    pub(crate) horizon: u64,
    /// The speeds of the clocks, for each run of the world.
    pub(crate) speeds: &'static [[u64; 3]],
}

pub(crate) struct Lab {
    pub(crate) bounds: Bounds,
    pub(crate) flaw: Option<Flaw>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) voter: Voter,
    pub(crate) disk: Option<Record>,
    pub(crate) claim: Claim,
    /// Only flaws make it run (or count) until later: until this time, or for so much longer.
    pub(crate) runs_until: u64,
    pub(crate) slack: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mail {
    Ask { from: usize, to: usize, sent: u64, ask: Ask },
    Verdict { from: usize, to: usize, sent: u64, verdict: Verdict },
    Release { to: usize, release: Release },
}

impl Mail {
    /// Mail is kept in an order that means nothing, so that worlds with the same mail are the same.
    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) time: u64,
    speeds: [u64; 3],
    pub(crate) nodes: [Node; 3],
    pub(crate) mail: BTreeMap<u64, Mail>,
    rounds: u8,
    restarts: u8,
    disk_faults: u8,
    copies: u8,
    reloads: u8,
    /// The last epoch that was won.
    won: u64,
    is_epoch_broken: bool,
}

/// How the disk does when a vote is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    Writes,
    Refuses,
    /// It writes, and the daemon dies before the answer leaves.
    WritesItsLast,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is later.
    Time(u64),
    /// A node stands, with what it knows itself or with all that the others' beats have told it.
    Stand {
        node: usize,
        knows_all: bool,
        disk: Disk,
    },
    Renew {
        node: usize,
        disk: Disk,
    },
    /// Stop the resource (or give the candidacy up), then give the votes back. `disk`: that of its own voter.
    Release {
        node: usize,
        successor: Option<usize>,
        disk: Disk,
    },
    Hear {
        mail: Mail,
        disk: Disk,
    },
    /// Hear it, and keep a copy.
    HearOnce {
        mail: Mail,
    },
    /// The main daemon dies and starts again: the vote is forgotten, the record found. The holder's process lives on.
    KillDaemon(usize),
    /// The node loses power and boots: what it ran is gone as well.
    PowerCycle(usize),
    Reload {
        node: usize,
        terms: usize,
    },
}

pub(crate) fn voters() -> Voters {
    Voters::new(NAMES.map(String::from))
}

impl World {
    fn new(bounds: &Bounds, speeds: [u64; 3], flaw: Option<Flaw>) -> Self {
        let mut world = Self {
            time: 0,
            speeds,
            nodes: NAMES.map(|name| Node {
                voter: Voter::new(Instant::from_nanos(0), voters(), None),
                disk: None,
                claim: Flaw::claim(flaw, name, TERMS),
                runs_until: 0,
                slack: 0,
            }),
            mail: BTreeMap::new(),
            rounds: bounds.rounds,
            restarts: bounds.restarts,
            disk_faults: bounds.disk_faults,
            copies: bounds.copies,
            reloads: bounds.reloads,
            won: 0,
            is_epoch_broken: false,
        };
        for at in 0..3 {
            world.nodes[at].voter = Voter::new(world.now(at), voters(), None);
        }
        world
    }

    /// What the clock of a node shows.
    pub(crate) fn now(&self, node: usize) -> Instant {
        let origin = 10_000_000 * (3 - node as u64);
        Instant::from_nanos(origin + self.time * self.speeds[node])
    }

    /// A span of a node's clock in whole units of true time, at least.
    fn units(&self, node: usize, span: Duration) -> u64 {
        u64::try_from(span.as_nanos()).unwrap().div_ceil(self.speeds[node])
    }

    /// Until when a node may run the resource, by its own clock.
    fn stopped_at(&self, node: usize, flaw: Option<Flaw>) -> Option<Instant> {
        let claim = &self.nodes[node].claim;
        let slack = Duration::from_nanos(self.nodes[node].slack * self.speeds[node]);
        Some(claim.until()? + slack + Flaw::stop_budget(flaw, claim.terms().stop))
    }

    pub(crate) fn runs(&self, node: usize, flaw: Option<Flaw>) -> bool {
        self.time < self.nodes[node].runs_until
            || self.stopped_at(node, flaw).is_some_and(|stopped| self.now(node) < stopped)
    }

    /// When time stands still next: when a vote ends, and at each step. (Nobody sees a lease or a stop end at another node.)
    fn moments(&self) -> Vec<u64> {
        let votes = self.nodes.iter().enumerate().filter_map(|(at, node)| {
            let bound = node.voter.bound(self.now(at))?;
            Some(self.time + self.units(at, bound.left))
        });
        let step = (self.time / STEP + 1) * STEP;
        votes.chain([step]).min().into_iter().collect()
    }

    fn pass(&mut self, moment: u64) {
        self.time = moment;
        for at in 0..3 {
            // Forgets what is over, so that worlds that differ in nothing else are one.
            let now = self.now(at);
            self.nodes[at].voter.reconfigure(now, voters());
        }
    }

    /// Answers to a process that is gone, or that has begun anew, are lost.
    fn drop_answers(&mut self, node: usize) {
        self.mail.retain(|_, mail| !matches!(mail, Mail::Verdict { to, .. } if *to == node));
    }

    /// What the process has asked may still be heard, but nobody reads the answer.
    fn close_connections(&mut self, node: usize) {
        for mut mail in std::mem::take(&mut self.mail).into_values() {
            if let Mail::Ask { from, sent, .. } = &mut mail
                && *from == node
            {
                *sent = NOBODY_LISTENS;
            }
            self.post(mail);
        }
    }

    fn restart_voter(&mut self, node: usize, flaw: Option<Flaw>) {
        let found = Flaw::found(flaw, self.nodes[node].disk.clone());
        self.nodes[node].voter = Voter::new(self.now(node), voters(), found);
    }

    fn post(&mut self, mail: Mail) {
        self.mail.insert(mail.key(), mail);
    }

    /// The question of a node to everybody. Its own voter answers at once.
    fn send(&mut self, from: usize, ask: &Ask, disk: Disk, flaw: Option<Flaw>) -> Option<()> {
        self.rounds -= 1;
        let sent = if flaw == Some(Flaw::CountsFromTheAnswer) { self.time } else { 0 };
        for to in (0..3).filter(|to| *to != from) {
            self.post(Mail::Ask { from, to, sent, ask: ask.clone() });
        }
        if let Some(verdict) = self.ask_voter(from, from, ask, disk, flaw)? {
            self.count(from, from, self.time, verdict, flaw);
        }
        Some(())
    }

    /// `None`: the disk has nothing to do with it.
    fn ask_voter(
        &mut self,
        from: usize,
        to: usize,
        ask: &Ask,
        disk: Disk,
        flaw: Option<Flaw>,
    ) -> Option<Option<Verdict>> {
        let now = self.now(to);
        let ask = Flaw::before_ask(flaw, &mut self.nodes[to].voter, now, NAMES[from], ask);
        let node = &mut self.nodes[to];
        // A candidate that counts fewer voters hides that: the voters would refuse.
        let step = node.voter.on_ask(now, &Ask { voters: voters().digest(), ..ask });
        let Some(record) = step.record else { return (disk == Disk::Writes).then_some(Some(step.verdict)) };
        match disk {
            Disk::Writes => {
                node.voter.recorded(&record);
                node.disk = Some(record);
                Some(Some(step.verdict))
            }
            Disk::Refuses => {
                self.disk_faults = self.disk_faults.checked_sub(1)?;
                if flaw == Some(Flaw::RenewsWhatIsNotWritten) {
                    node.voter.recorded(&record);
                }
                let refused = (flaw != Some(Flaw::VotesUnwritten)).then_some(Refusal::NotRecorded);
                Some(Some(Verdict { refused, ..step.verdict }))
            }
            Disk::WritesItsLast => {
                self.restarts = self.restarts.checked_sub(1)?;
                node.disk = Some(record);
                self.restart_voter(to, flaw);
                Some(None)
            }
        }
    }

    fn count(&mut self, from: usize, to: usize, sent: u64, verdict: Verdict, flaw: Option<Flaw>) {
        let now = self.now(to);
        let node = &mut self.nodes[to];
        let (epoch, until) = (node.claim.epoch(), node.claim.until());
        node.claim.on_verdict(now, NAMES[from], &verdict);
        if node.claim.until() != until {
            node.slack = if flaw == Some(Flaw::CountsFromTheAnswer) { self.time - sent } else { 0 };
        }
        if let Some(new) = node.claim.epoch()
            && epoch != Some(new)
        {
            self.is_epoch_broken |= new <= self.won;
            self.won = new;
        }
    }

    fn release(&mut self, to: usize, release: &Release, disk: Disk, flaw: Option<Flaw>) -> Option<()> {
        let now = self.now(to);
        let node = &mut self.nodes[to];
        let release = Flaw::before_release(flaw, &mut node.voter, now, release);
        let Some(record) = node.voter.on_release(now, &release) else { return (disk == Disk::Writes).then_some(()) };
        match disk {
            Disk::Writes => {
                node.voter.recorded(&record);
                node.disk = Some(record);
            }
            // Nobody waits for it.
            Disk::Refuses => self.disk_faults = self.disk_faults.checked_sub(1)?,
            Disk::WritesItsLast => return None,
        }
        Flaw::after_release(flaw, &mut node.voter, now);
        Some(())
    }

    fn hear(&mut self, mail: &Mail, disk: Disk, flaw: Option<Flaw>) -> Option<()> {
        match mail {
            Mail::Ask { from, to, sent, ask } => {
                // A refusal says no more than silence does, unless it is for ever: what a candidate hears of epochs, it may hear otherwise.
                if let Some(verdict) = self.ask_voter(*from, *to, ask, disk, flaw)?
                    && matches!(verdict.refused, None | Some(Refusal::Stale))
                    && *sent != NOBODY_LISTENS
                {
                    self.post(Mail::Verdict { from: *to, to: *from, sent: *sent, verdict });
                }
                Some(())
            }
            Mail::Verdict { from, to, sent, verdict } => {
                (disk == Disk::Writes).then(|| self.count(*from, *to, *sent, verdict.clone(), flaw))
            }
            Mail::Release { to, release } => self.release(*to, release, disk, flaw),
        }
    }

    fn do_release(&mut self, node: usize, successor: Option<usize>, disk: Disk, flaw: Option<Flaw>) -> Option<()> {
        let stopped = self.stopped_at(node, flaw);
        let successor = successor.map(|node| NAMES[node].to_owned());
        let release = self.nodes[node].claim.release(successor, units(STEP))?;
        if flaw == Some(Flaw::ReleasesBeforeItHasStopped)
            && let Some(stopped) = stopped
        {
            self.nodes[node].runs_until = self.time + self.units(node, stopped.since(self.now(node)));
        }
        self.nodes[node].slack = 0;
        self.rounds -= 1;
        self.drop_answers(node);
        for to in (0..3).filter(|to| *to != node) {
            self.post(Mail::Release { to, release: release.clone() });
        }
        self.release(node, &release, disk, flaw)
    }

    fn act(&mut self, bounds: &Bounds, action: &Action, flaw: Option<Flaw>) -> Option<()> {
        match action {
            Action::Time(moment) => self.pass(*moment),
            Action::Stand { node, knows_all, disk } => {
                let known = if *knows_all { 0..3 } else { *node..*node + 1 };
                let highest = known.map(|at| self.nodes[at].voter.highest()).max().unwrap_or_default();
                if *knows_all && highest == self.nodes[*node].voter.highest() {
                    return None;
                }
                self.drop_answers(*node);
                let now = self.now(*node);
                let claim = &mut self.nodes[*node].claim;
                claim.note_epoch(highest);
                let ask = claim.stand(now, NAMES.map(String::from));
                self.send(*node, &ask, *disk, flaw)?;
            }
            Action::Renew { node, disk } => {
                let now = self.now(*node);
                let ask = self.nodes[*node].claim.renew(now)?;
                self.send(*node, &ask, *disk, flaw)?;
            }
            Action::Release { node, successor, disk } => self.do_release(*node, *successor, *disk, flaw)?,
            Action::Hear { mail, disk } => {
                self.mail.remove(&mail.key());
                self.hear(mail, *disk, flaw)?;
            }
            Action::HearOnce { mail } => {
                self.copies -= 1;
                self.hear(mail, Disk::Writes, flaw)?;
            }
            Action::KillDaemon(node) => {
                self.restarts -= 1;
                self.restart_voter(*node, flaw);
            }
            Action::PowerCycle(node) => {
                self.restarts -= 1;
                self.drop_answers(*node);
                self.close_connections(*node);
                self.restart_voter(*node, flaw);
                let terms = self.nodes[*node].claim.terms();
                self.nodes[*node].claim = Flaw::claim(flaw, NAMES[*node], terms);
                (self.nodes[*node].slack, self.nodes[*node].runs_until) = (0, 0);
            }
            Action::Reload { node, terms } => {
                self.reloads -= 1;
                Flaw::reload(flaw, &mut self.nodes[*node].claim, OTHER_TERMS[*terms]);
            }
        }
        (self.time <= bounds.horizon).then_some(())
    }
}

impl Lab {
    fn let_a_win(&self, world: &mut World) {
        world.rounds += 1;
        let disk = Disk::Writes;
        world.act(&self.bounds, &Action::Stand { node: 0, knows_all: false, disk }, self.flaw).unwrap();
        for wanted in 0..2 {
            let is_due = |mail: &&Mail| match mail {
                Mail::Ask { to, .. } => wanted == 0 && *to == 1,
                Mail::Verdict { .. } => wanted == 1,
                Mail::Release { .. } => false,
            };
            let mail = world.mail.values().find(is_due).unwrap().clone();
            world.act(&self.bounds, &Action::Hear { mail, disk }, self.flaw).unwrap();
        }
        assert_eq!(world.won, 1);
    }

    fn actions_of(&self, world: &World, node: usize, actions: &mut Vec<Action>) {
        let claim = &world.nodes[node].claim;
        let disks = [Disk::Writes, Disk::Refuses, Disk::WritesItsLast];
        if world.rounds > 0 && claim.epoch().is_none() && !claim.is_standing() {
            for disk in disks {
                for knows_all in [false, true] {
                    actions.push(Action::Stand { node, knows_all, disk });
                }
            }
        }
        if world.rounds > 0 && claim.epoch().is_some() {
            if world.runs(node, self.flaw) {
                actions.extend(disks.map(|disk| Action::Renew { node, disk }));
            }
            let other = (0..self.bounds.candidates).find(|other| *other != node);
            for successor in [None, other] {
                actions.push(Action::Release { node, successor, disk: Disk::Writes });
                actions.push(Action::Release { node, successor, disk: Disk::Refuses });
            }
        }
        if world.rounds > 0 && claim.is_standing() {
            actions.push(Action::Release { node, successor: None, disk: Disk::Writes });
        }
        if world.reloads > 0 {
            actions.extend((0..OTHER_TERMS.len()).map(|terms| Action::Reload { node, terms }));
        }
        if world.restarts > 0 {
            actions.push(Action::PowerCycle(node));
        }
    }
}

impl Model for Lab {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let begin = |speeds: &[u64; 3]| {
            let mut world = World::new(&self.bounds, *speeds, self.flaw);
            if self.bounds.is_held {
                self.let_a_win(&mut world);
            }
            world
        };
        self.bounds.speeds.iter().map(begin).collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for mail in world.mail.values() {
            let disks: &[Disk] = match mail {
                Mail::Ask { .. } => &[Disk::Writes, Disk::Refuses, Disk::WritesItsLast],
                Mail::Release { .. } => &[Disk::Writes, Disk::Refuses],
                Mail::Verdict { .. } => &[Disk::Writes],
            };
            actions.extend(disks.iter().map(|disk| Action::Hear { mail: mail.clone(), disk: *disk }));
            if world.copies > 0 {
                actions.push(Action::HearOnce { mail: mail.clone() });
            }
        }
        for node in 0..self.bounds.candidates {
            self.actions_of(world, node, actions);
        }
        if world.restarts > 0 {
            actions.extend((0..3).map(Action::KillDaemon));
        }
        actions.extend(world.moments().into_iter().map(Action::Time));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.act(&self.bounds, &action, self.flaw)?;
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(crate::ONE_PRIMARY, |lab: &Self, world: &World| {
                (0..3).filter(|node| world.runs(*node, lab.flaw)).count() < 2
            }),
            Property::always(crate::EPOCHS_GROW, |_, world: &World| !world.is_epoch_broken),
            Property::sometimes(crate::WINS, |_, world: &World| world.won > 0),
        ]
    }
}
