//! A switchover that an operator has asked for, as the node sees it where that was: the one that gives the resource up, or the one that gets
//! it. Each step with its time.
//! Decides when to answer the operator, and what.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::config::Resource;
use crate::daemon::{Action, ConnId};
use crate::time::{Duration, Instant};
use crate::types::{Role, State};
use crate::wire::reply::SwitchoverReply;

/// What all scripts together may take, and this much more: then the operator is told how far it came.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Switchover {
    conn: ConnId,
    began: Instant,
    deadline: Instant,
    last: Instant,
    to: Option<String>,
    /// This node gets it, from that one.
    from: Option<String>,
    is_stopped: bool,
    is_released: bool,
    is_primary: bool,
    steps: Vec<(String, Duration)>,
}

impl Switchover {
    pub(crate) fn new(now: Instant, conn: ConnId, settings: &Resource) -> Self {
        let scripts = settings.stop_timeout + settings.start_timeout + settings.status_timeout * 2;
        Self {
            conn,
            began: now,
            deadline: now + scripts + PATIENCE,
            last: now,
            to: None,
            from: None,
            is_stopped: false,
            is_released: false,
            is_primary: false,
            steps: Vec::new(),
        }
    }

    /// The resource is to come here, from this node.
    pub(crate) fn coming_from(self, from: String) -> Self {
        Self { from: Some(from), ..self }
    }

    /// The node from which it is to come here.
    pub(crate) fn from(&self) -> Option<&str> {
        self.from.as_deref()
    }

    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Where the resource goes, once that is decided.
    pub(crate) fn to(&self) -> Option<&str> {
        self.to.as_deref()
    }

    fn step(&mut self, now: Instant, what: String) {
        self.steps.push((what, now.since(self.last)));
        self.last = now;
    }

    /// The worker has stopped the resource and given the lease back.
    pub(crate) fn on_released(&mut self, now: Instant, to: &str) {
        if !core::mem::replace(&mut self.is_stopped, true) {
            self.step(now, "stopped here".to_string());
        }
        self.step(now, format!("lease given back for {to}"));
        self.to = Some(to.to_string());
    }

    /// The primary has given the lease back for this node.
    pub(crate) fn on_released_to_us(&mut self, now: Instant) {
        if let Some(from) = self.from.clone().filter(|_| !self.is_released) {
            self.note_stopped_on(now, &from);
            self.is_released = true;
            self.step(now, "lease given back for this node".to_string());
        }
    }

    fn note_stopped_on(&mut self, now: Instant, node: &str) {
        if !core::mem::replace(&mut self.is_stopped, true) {
            self.step(now, format!("stopped on {node}"));
        }
    }

    /// Looks how far it is when the resource is to come here: `role` and `here` are those of this node, `there` is the state where it was;
    /// `runs_on`: another node runs it. The answer, when it is over.
    pub(crate) fn look_here(
        &mut self,
        now: Instant,
        role: Role,
        here: Option<State>,
        there: Option<State>,
        runs_on: Option<&str>,
    ) -> Option<Action> {
        let from = self.from.clone().unwrap_or_default();
        if there == Some(State::Stopped) {
            self.note_stopped_on(now, &from);
        }
        if role == Role::Primary {
            self.on_released_to_us(now);
            if !core::mem::replace(&mut self.is_primary, true) {
                self.step(now, "this node holds the lease".to_string());
            }
            if here == Some(State::Run) {
                self.step(now, "runs here".to_string());
                return Some(self.answer(Ok(())));
            }
        }
        if let Some(node) = runs_on.filter(|node| self.is_stopped || *node != from) {
            let again = if node == from { " again" } else { "" };
            self.step(now, format!("runs on {node}{again}"));
            return Some(self.answer(Err(format!("this node has not started it, {node} has"))));
        }
        (now >= self.deadline).then(|| {
            let state = here.map_or("not known".to_string(), |state| state.to_string());
            let waited = now.since(self.began);
            self.answer(Err(format!("it does not run after {waited:.0?}: this node is {role}, its state is {state}")))
        })
    }

    /// It does not take place.
    pub(crate) fn refused(self, why: String) -> Action {
        Action::Reply {
            conn: self.conn,
            message: SwitchoverReply { outcome: Err(why), steps: self.steps }.encode(),
            keep: false,
        }
    }

    /// Looks how far it is: `role` and `here` are those of this node, `there` those of the other one;
    /// `elsewhere`: a third node runs it. The answer, when it is over.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        role: Role,
        here: Option<State>,
        there: Option<(Role, State)>,
        elsewhere: Option<&str>,
    ) -> Option<Action> {
        if !self.is_stopped && here == Some(State::Stopped) {
            self.is_stopped = true;
            self.step(now, "stopped here".to_string());
        }
        let to = self.to.clone().unwrap_or_default();
        if let Some((Role::Primary, state)) = there {
            if !core::mem::replace(&mut self.is_primary, true) {
                self.step(now, format!("{to} holds the lease"));
            }
            if state == State::Run {
                self.step(now, format!("runs on {to}"));
                return Some(self.answer(Ok(())));
            }
        }
        if role == Role::Primary && self.to.is_some() && here == Some(State::Run) {
            self.step(now, "runs here again".to_string());
            return Some(self.answer(Err(format!("{to} could not start it"))));
        }
        if let Some(elsewhere) = elsewhere {
            self.step(now, format!("runs on {elsewhere}"));
            return Some(self.answer(Err(format!("{to} has not taken it, {elsewhere} has"))));
        }
        (now >= self.deadline).then(|| {
            let state = there.map_or("nothing is known of it there".to_string(), |(role, state)| {
                format!("{to} is {role}, state {state}")
            });
            self.answer(Err(format!("it does not run after {:.0?}: {state}", now.since(self.began))))
        })
    }

    fn answer(&mut self, outcome: Result<(), String>) -> Action {
        let steps = core::mem::take(&mut self.steps);
        Action::Reply { conn: self.conn, message: SwitchoverReply { outcome, steps }.encode(), keep: false }
    }
}

#[cfg(test)]
mod tests;
