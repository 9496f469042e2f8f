//! Why a resource runs where it runs, or why nobody runs it; what protects it; and what it would take to change that: in sentences, made
//! from what the machines say that decide. Decides nothing, and counts nothing again.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::event::StaysSecondary;
use crate::supervisor::{Supervisor, Wish};
use crate::time::Instant;
use crate::timing;
use crate::types::{Role, State};
use crate::wire::detail::{Detail, Protection};

/// The sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// That it is paused, and what that means.
    pub(crate) paused: Vec<String>,
    /// Why it runs where it runs.
    pub(crate) why: Vec<String>,
    /// What protects it.
    pub(crate) protection: Vec<String>,
    /// What it would take to change that.
    pub(crate) change: Vec<String>,
}

impl Explanation {
    /// All of them, each with its heading.
    pub(crate) fn into_sentences(self) -> Vec<(String, String)> {
        let parts = [
            ("Paused", self.paused),
            ("Why", self.why),
            ("Protection", self.protection),
            ("What would change that", self.change),
        ];
        let flat = parts.into_iter().flat_map(|(heading, sentences)| sentences.into_iter().map(move |s| (heading, s)));
        flat.map(|(heading, sentence)| (heading.to_string(), sentence)).collect()
    }
}

/// What is explained, with what was looked up for it.
struct Subject<'a> {
    now: Instant,
    supervisor: &'a Supervisor,
    detail: Detail,
    /// Watchdogs that are connected to this node.
    watchdogs: Vec<&'a str>,
    /// Secondaries that are connected to this node.
    secondaries: Vec<&'a str>,
}

/// Explains a resource as this node sees it; `no_turn`: what it waits for, in words, that waits for its turn.
pub(crate) fn explain(now: Instant, supervisor: &Supervisor, no_turn: Option<String>) -> Explanation {
    let known = supervisor.peers().known();
    let of = |role: Role| known.iter().filter(|(_, (is, ..))| *is == role).map(|(node, _)| *node).collect();
    let subject = Subject {
        now,
        supervisor,
        detail: crate::status::detail(now, supervisor, no_turn),
        watchdogs: of(Role::Watchdog),
        secondaries: of(Role::Secondary),
    };
    let mut why = match supervisor.role() {
        Role::Init => subject.why_init(),
        Role::Primary => subject.why_primary(),
        Role::Secondary | Role::Watchdog => subject.why_elsewhere(),
    };
    why.extend(supervisor.worker_is(now).map(|what| format!("On {}: {what}.", subject.me())));
    let mut change = match supervisor.role() {
        Role::Init => subject.change_init(),
        Role::Primary => subject.change_primary(),
        Role::Secondary => subject.change_secondary(),
        Role::Watchdog => subject.change_watchdog(),
    };
    if supervisor.is_paused() {
        let resume = subject.resume();
        change.insert(0, format!("The end of the pause ({resume}). Before that nothing of what follows is done."));
    }
    Explanation { paused: subject.paused(), why, protection: subject.protection(), change }
}

impl Subject<'_> {
    fn me(&self) -> &str {
        &self.detail.node
    }

    fn name(&self) -> &str {
        &self.supervisor.settings().name
    }

    fn state(&self) -> Option<State> {
        self.supervisor.report().map(|report| report.state)
    }

    /// Whether so many nodes are in reach that votes can be had; `None`: that is not known here.
    fn has_majority(&self) -> Option<bool> {
        self.detail.in_reach.map(|in_reach| in_reach >= self.detail.needed)
    }

    fn reach(&self) -> String {
        let Detail { in_reach, voters, needed, .. } = &self.detail;
        format!("{} of {voters} nodes are in reach, and {needed} are needed", in_reach.unwrap_or(0))
    }

    fn resume(&self) -> String {
        format!("hastmonctl resume {} on any node", self.name())
    }

    /// That it is paused, what that means, and how it ends.
    fn paused(&self) -> Vec<String> {
        if !self.supervisor.is_paused() {
            return Vec::new();
        }
        let (name, pause, Detail { voters, needed, .. }) =
            (self.name(), self.supervisor.pause_told(self.now), &self.detail);
        let is_timed = pause.paused.as_ref().is_some_and(|paused| paused.left.is_some());
        let end = if is_timed { "" } else { ", until it is resumed" };
        let mut sentences = Vec::from([
            format!("{name} is {pause}{end}."),
            "Meanwhile no node starts it, stops it or takes it over: if what runs it fails, it stays down.".to_string(),
        ]);
        sentences.extend(self.detail.kept.as_ref().map(|(node, kept)| match kept >= needed {
            true => format!(
                "{kept} of {voters} nodes keep their votes for {node}: hastmon may be stopped there and leaves {name} running, and \
                 no other node can start it."
            ),
            false => format!(
                "Only {kept} of {voters} nodes keep their votes for {node}, and {needed} are needed: do not stop hastmon there, it \
                 would stop {name}, and so would the end of its lease."
            ),
        }));
        sentences.push(format!("{} ends it.", self.resume()));
        sentences
    }

    /// Where it runs, as far as another node than this one is concerned.
    fn where_else(&self) -> String {
        let (name, me) = (self.name(), self.me());
        match (&self.detail.runs_on, &self.detail.bound) {
            (Some(node), _) => format!("{name} runs on {node}, which is primary, as {node} says."),
            (None, Some((holder, _))) if holder != me && self.detail.is_bound_kept => format!(
                "No primary says that it runs {name}. {holder} had the lease last, and was paused: the vote of {me} is kept for it, \
                 until {holder} is back, gives it back or is fenced. If {holder} is off for good: hastmonctl role --force primary \
                 {name}."
            ),
            (None, Some((holder, left))) if holder != me => format!(
                "No primary says that it runs {name}. {holder} had the lease last: the vote of {me} is bound to it for \
                 another {:.1} s.",
                left.as_secs_f64()
            ),
            _ => format!("Nobody runs {name}, as far as {me} knows: no primary is connected to it."),
        }
    }

    fn why_init(&self) -> Vec<String> {
        let here = format!("{} has the role init for it: nothing is run or checked there.", self.me());
        Vec::from([here, self.where_else()])
    }

    fn why_elsewhere(&self) -> Vec<String> {
        let (name, me, role) = (self.name(), self.me(), self.supervisor.role());
        let mut why = Vec::new();
        match (role, self.state()) {
            (Role::Watchdog, Some(State::Run)) if self.detail.runs_on.is_none() => {
                why.push(format!(
                    "Some primary runs {name}, as {me}, a watchdog, has heard within the last heartbeat."
                ));
            }
            _ => why.push(self.where_else()),
        }
        match (role, self.state()) {
            (Role::Watchdog, _) => why.push(format!("{me} is watchdog: it watches, and never runs it.")),
            (_, Some(State::Stopped)) => why.push(format!("{me} is secondary, and it does not run there.")),
            (_, Some(State::Failed)) => why.push(format!(
                "{me} is secondary, but stop has failed there: it may still run. Stop it by hand; {me} notices at its next \
                 heartbeat."
            )),
            (_, Some(state)) => why.push(format!("{me} is secondary, and its state there is {state}.")),
            (_, None) => why.push(format!("{me} is secondary.")),
        }
        if let Some(waits) = self.detail.waits.as_ref().filter(|_| role == Role::Secondary) {
            why.push(match self.supervisor.is_to_be_primary() {
                true => format!("{me} is to be primary: {waits}."),
                false => format!("{me} wants to take over: {waits}."),
            });
        }
        why
    }

    fn lease(&self) -> String {
        let detail = &self.detail;
        match detail.lease_left {
            _ if detail.protection == Protection::None => "without a lease".to_string(),
            _ if detail.is_forced => "by the word of an operator (--force), without waiting for votes".to_string(),
            None if detail.is_kept => {
                let kept = detail.kept.as_ref().map_or(0, |(_, kept)| *kept);
                format!(
                    "and holds the lease: epoch {}, {kept} of {} votes are kept for it without end",
                    detail.epoch, detail.voters
                )
            }
            Some(left) => format!(
                "and holds the lease: epoch {}, {} of {} votes, for {:.1} s unless it is renewed",
                detail.epoch,
                detail.votes.unwrap_or(0),
                detail.voters,
                left.as_secs_f64()
            ),
            None => "but holds no lease".to_string(),
        }
    }

    fn why_primary(&self) -> Vec<String> {
        let (name, me, lease) = (self.name(), self.me(), self.lease());
        let settings = self.supervisor.settings();
        let attempts = self.supervisor.report().map_or(0, |report| report.attempts);
        let mut why = Vec::from([match self.state() {
            Some(State::Run) => format!("{name} runs on {me}, which is primary, {lease}."),
            Some(State::Starting) => {
                format!("{me} is primary, {lease}. It starts {name} now: attempt {attempts} of {}.", settings.attempts)
            }
            Some(State::Stopping) => format!("{me} is primary, {lease}. It is stopping {name}."),
            Some(State::Failed) => {
                format!("{me} is primary, {lease}. stop has failed: {name} may still run there. Stop it by hand.")
            }
            Some(State::Stopped) => format!("{me} is primary, {lease}. {name} does not run there."),
            Some(State::Unknown | State::Ready) | None => {
                format!("{me} is primary, {lease}. The script has not said whether {name} runs there.")
            }
        }]);
        if self.state() != Some(State::Run) {
            if let Some(waits) = &self.detail.waits {
                why.push(format!("It is not started: {waits}."));
            }
            if let Some(node) = self.detail.runs_on.as_ref().filter(|node| *node != me) {
                why.push(format!("{node} says that it runs {name}."));
            }
        }
        why
    }

    fn protection(&self) -> Vec<String> {
        let detail = &self.detail;
        let (voters, needed) = (detail.voters, detail.needed);
        let mut sentences = Vec::new();
        match detail.protection {
            Protection::None => {
                return Vec::from(["Nothing keeps two nodes from running it: the daemon was started with --legacy-peers, and \
                                   hastmon 0.3 knows no lease."
                    .to_string()]);
            }
            Protection::Lease | Protection::LeaseAndFencing => sentences.push(format!(
                "Who runs it must hold a lease from {needed} of {voters} nodes ({}), so two nodes cannot run it at once.",
                self.supervisor.settings().nodes.join(", ")
            )),
        }
        if detail.protection == Protection::LeaseAndFencing {
            sentences.push("A node that may still run it can be turned off by the fence script.".to_string());
        }
        if let Some(in_reach) = detail.in_reach {
            sentences.push(match in_reach.checked_sub(needed) {
                None => format!("{}: nobody can take the lease here.", capital(&self.reach())),
                Some(0) => format!("{}: no further node may fail.", capital(&self.reach())),
                Some(spare) => format!("{}: {spare} more may fail.", capital(&self.reach())),
            });
        }
        sentences.extend(self.watchers());
        sentences
    }

    fn watchers(&self) -> Option<String> {
        let me = self.me();
        match self.watchdogs.as_slice() {
            _ if self.supervisor.role() == Role::Watchdog => None,
            [] => Some(format!(
                "No watchdog is connected to {me}: nobody would complain, and without complaints there is no takeover from a \
                 node that fails."
            )),
            [only] => Some(format!(
                "{only} is its only watchdog that {me} hears: without {only} no takeover from a node that fails is possible."
            )),
            several => Some(format!("Its watchdogs are {}: one of them is enough.", several.join(", "))),
        }
    }

    fn change_init(&self) -> Vec<String> {
        let (name, me) = (self.name(), self.me());
        Vec::from([
            format!(
                "A role given by an operator: hastmonctl role secondary {name} lets {me} take over, hastmonctl role primary {name} runs it there when a majority votes for that."
            ),
            format!("{me} votes nevertheless, as long as its daemon runs."),
        ])
    }

    fn change_primary(&self) -> Vec<String> {
        let (name, me, settings) = (self.name(), self.me(), self.supervisor.settings());
        let mut change = Vec::new();
        if self.detail.is_kept {
            change.push(format!(
                "It runs on, renewed or not, while {} nodes keep their votes for {me}.",
                self.detail.needed
            ));
        } else if self.detail.protection != Protection::None && !self.detail.is_forced {
            change.push(match (self.has_majority(), self.state()) {
                (Some(false), Some(State::Run)) => {
                    format!("{}: unless that changes, {me} stops it when its lease ends.", capital(&self.reach()))
                }
                (Some(false), _) => format!("More nodes in reach: {}.", self.reach()),
                _ => format!(
                    "{me} stops it when fewer than {} of {} nodes have renewed the lease for {:?}.",
                    self.detail.needed, self.detail.voters, settings.lease
                ),
            });
        }
        let attempts = settings.attempts;
        change.push(format!(
            "After {attempts} starts in vain {me} gives it up, becomes secondary, and does not take it again for {:?}.",
            settings.complaint_interval
        ));
        change.push(match self.secondaries.as_slice() {
            [] => format!("No secondary is connected to {me}: if {me} fails, nobody takes over."),
            nodes => format!(
                "If {me} loses its power, {} takes over after about {:.1} s. An operator can move it now: hastmonctl \
                 switchover {name}.",
                nodes.join(" or "),
                timing::takeover(settings).as_secs_f64()
            ),
        });
        change
    }

    fn change_secondary(&self) -> Vec<String> {
        let (me, settings) = (self.me(), self.supervisor.settings());
        let mut change = Vec::new();
        let count = self.supervisor.complaints(self.now);
        let needed = timing::complaints_needed(settings);
        let heard =
            format!("{me} has heard {} and needs {needed} within {:?}", complaints(count), settings.complaint_interval);
        change.push(match self.supervisor.wish(self.now) {
            Wish::Needs(more) => format!("{heard}: {more} more, and it asks for votes to take over."),
            Wish::Stays(_) => format!("{heard}, which would be enough."),
            Wish::WaitsForTurn => format!("{heard}: it asks for votes when it has its turn."),
            Wish::Stands => format!("{heard}: the next one makes it ask for votes."),
            Wish::NotSecondary => format!("{heard}."),
        });
        match self.supervisor.why_stay_secondary(self.now) {
            Some(StaysSecondary::Connected) => {
                change
                    .push("A primary is connected to it: as long as it is, complaints make no difference.".to_string());
            }
            Some(why) => change.push(format!("Until then it stays secondary, whatever it hears: {why}.")),
            None => {}
        }
        match (self.has_majority(), self.detail.standby) {
            (Some(false), _) => change.push(format!("No takeover is possible: {}.", self.reach())),
            (_, Some(after)) => change.push(format!(
                "From the last sign of a primary that loses its power, a takeover begins after about {:.1} s: the complaints \
                 take {:.1} s, and votes for it are bound for {:.1} s. One that stops it in order gives the lease back, and \
                 {me} need not wait.",
                after.as_secs_f64(),
                timing::detection(settings).as_secs_f64(),
                timing::votes_free(settings).as_secs_f64()
            )),
            _ => {}
        }
        change
    }

    fn change_watchdog(&self) -> Vec<String> {
        let (me, settings) = (self.me(), self.supervisor.settings());
        let count = self.supervisor.complaints(self.now);
        let first = format!(
            "{me} has made {} within {:?}. It makes one for each heartbeat ({:?}) in which no primary runs it \
             and no node in reach says that it waits for its turn to start it; a secondary that hears {} takes over, \
             if it gets the votes.",
            complaints(count),
            settings.complaint_interval,
            settings.heartbeat_interval,
            timing::complaints_needed(settings)
        );
        let second = match self.secondaries.as_slice() {
            [] => format!("No secondary is connected to {me}: nobody would take over."),
            nodes => format!("Secondaries that are connected to it: {}.", nodes.join(", ")),
        };
        Vec::from([first, second])
    }
}

fn complaints(count: u32) -> String {
    format!("{count} complaint{}", if count == 1 { "" } else { "s" })
}

/// The same at the beginning of a sentence.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
