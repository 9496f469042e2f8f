//! The turn of one resource (see `turns.rs`): what it wants one for, what it does with it, and when it is over.
//!
//! A turn is wanted for what leads to `start` and can wait: a takeover, and the role primary where it is taken up anew. Whoever waits is
//! secondary meanwhile, with a worker that checks and stops: it holds no lease, and what runs elsewhere runs on. Nothing waits that runs
//! already or may, that an operator forces, or that another node has handed over. Leases, stops and votes know nothing of turns.

use alloc::string::String;
use core::cmp::Reverse;

use super::{Context, Process, Supervisor, Voter};
use crate::event::{Event, RoleReason, StaysSecondary};
use crate::time::Instant;
use crate::timing;
use crate::turns::{Rank, Stage};
use crate::types::{Role, State};
use crate::worker::Order;

#[derive(Debug, Default)]
pub(super) struct Turn {
    is: Is,
    /// It is to be primary.
    primary: Option<ToBePrimary>,
    /// Turns that ended without the lease, since it had another role or heard a primary.
    in_vain: u32,
    /// It has been told that it waits.
    is_told: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Is {
    #[default]
    Idle,
    /// `released`: the lease was given back, so it takes no complaints.
    Waits { released: bool },
    /// Over at this time, whatever has come of it: a `start` that hangs must not hold up all others.
    Taken { until: Instant },
}

#[derive(Debug)]
struct ToBePrimary {
    reason: RoleReason,
    /// The role before it began to wait.
    before: Role,
}

impl Turn {
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.is {
            Is::Taken { until } => Some(until),
            Is::Idle | Is::Waits { .. } => None,
        }
    }

    /// It is over, or wanted no more.
    pub(super) const fn end(&mut self) {
        self.is = Is::Idle;
        self.is_told = false;
    }
}

impl Supervisor {
    /// Where it stands with its turn.
    pub(crate) const fn stage(&self) -> Stage {
        match self.turn.is {
            Is::Idle => Stage::Idle,
            Is::Waits { .. } => {
                Stage::Waits(Rank { in_vain: self.turn.in_vain, weight: Reverse(self.settings.weight) })
            }
            Is::Taken { .. } => Stage::Taken,
        }
    }

    pub(crate) const fn waits_for_turn(&self) -> bool {
        matches!(self.turn.is, Is::Waits { .. })
    }

    /// It is to be primary, not because it takes over, as soon as it has its turn.
    pub(crate) const fn is_to_be_primary(&self) -> bool {
        self.turn.primary.is_some()
    }

    /// The operator, or the configuration, gives it this role. That of the primary is taken up when it has its turn.
    pub(crate) fn give_role(&mut self, cx: &mut Context<'_>, role: Role, reason: RoleReason) {
        self.turn.primary = None;
        let is_new = role == Role::Primary && self.role != Role::Primary;
        if !is_new || self.leaving || self.is_paused() || matches!(self.turn.is, Is::Taken { .. }) {
            self.set_role(cx, role, reason);
            self.mind_turn(cx.now);
            return;
        }
        self.turn.primary = Some(ToBePrimary { reason, before: self.role });
        self.mind_turn(cx.now);
    }

    /// The role has changed.
    pub(super) fn note_role(&mut self, now: Instant) {
        self.turn = Turn::default();
        if self.role == Role::Primary && !self.is_paused() {
            self.turn.is = Is::Taken { until: now + timing::turn_to_start(&self.settings) };
        }
    }

    /// A secondary shall take over, as soon as it has its turn. A primary that waits for votes has had its own.
    pub(super) fn take_over(&mut self, cx: &mut Context<'_>, released: bool) {
        match self.turn.is {
            Is::Idle | Is::Waits { .. } if self.role == Role::Secondary => {
                let released = released || self.turn.is == Is::Waits { released: true };
                self.turn.is = Is::Waits { released };
                self.mind_turn(cx.now);
            }
            Is::Idle | Is::Waits { .. } | Is::Taken { .. } => self.stand(cx),
        }
    }

    /// It was asked to take over, and does not wait.
    pub(super) fn take_over_now(&mut self, cx: &mut Context<'_>) {
        if self.role == Role::Secondary {
            self.turn.is = Is::Taken { until: cx.now + timing::turn_to_win(&self.settings) };
        }
        self.stand(cx);
    }

    /// With the lease, only a majority of votes makes a primary: the worker asks for them. Without it, complaints are enough.
    fn stand(&mut self, cx: &mut Context<'_>) {
        if self.legacy {
            let complaints = self.complaints(cx.now);
            self.set_role(cx, Role::Primary, RoleReason::Takeover { complaints });
        } else if let Process::Running(id) = self.worker {
            let highest = self.peers.voter().map_or(0, Voter::highest);
            cx.out.push(crate::daemon::Action::Order { id, order: Order::Stand { highest } });
        }
    }

    /// Its turn has come.
    pub(crate) fn on_turn(&mut self, cx: &mut Context<'_>) {
        self.mind_turn(cx.now);
        if !self.waits_for_turn() {
            return;
        }
        self.turn.end();
        if let Some(ToBePrimary { reason, before }) = self.turn.primary.take() {
            self.set_role(cx, Role::Primary, reason);
            self.previous = before;
        } else {
            self.take_over_now(cx);
        }
    }

    /// Its turn has not come yet; `why`, in words.
    pub(crate) fn on_no_turn(&mut self, cx: &mut Context<'_>, why: String) {
        // A reload looks at all anew.
        if !self.waits_for_turn() || core::mem::replace(&mut self.turn.is_told, true) {
            return;
        }
        self.event(cx, Event::StartWaits { why });
        if self.role != Role::Secondary {
            // What runs here without a lease must be found and stopped, however long it waits.
            let turn = core::mem::take(&mut self.turn);
            self.set_role(cx, Role::Secondary, RoleReason::WaitsForTurn);
            self.turn = turn;
        }
    }

    /// Whether it still wants the turn for which it waits, and whether the turn that it has is over.
    pub(super) fn mind_turn(&mut self, now: Instant) {
        if self.turn.in_vain > 0 && self.why_stay_secondary(now) == Some(StaysSecondary::Connected) {
            self.turn.in_vain = 0;
        }
        match self.turn.is {
            Is::Idle if self.turn.primary.is_some() && self.may_wait(now, false) => {
                self.turn.is = Is::Waits { released: false };
            }
            Is::Waits { released } if !self.may_wait(now, released) => self.turn.end(),
            Is::Taken { until } if now >= until || self.is_turn_over(now) => {
                let has_nothing = self.role == Role::Secondary && now >= until;
                self.turn.in_vain = self.turn.in_vain.saturating_add(u32::from(has_nothing));
                self.turn.end();
            }
            Is::Idle | Is::Waits { .. } | Is::Taken { .. } => {}
        }
    }

    fn may_wait(&self, now: Instant, released: bool) -> bool {
        if self.turn.primary.is_some() {
            return !self.is_paused() && !self.leaving;
        }
        let can_stand = self.legacy || matches!(self.worker, Process::Running(_));
        let wants = released || self.complaints_missing(now) == 0;
        self.role == Role::Secondary && can_stand && wants && self.why_stay_secondary(now).is_none()
    }

    /// It runs, or its `start` has failed, or it takes nothing over any more. A `start` that has failed is tried again without a turn, one
    /// heartbeat later.
    fn is_turn_over(&self, now: Instant) -> bool {
        let report = self.report.as_ref().filter(|_| self.acts_as_primary);
        match self.role {
            _ if self.leaving || self.is_paused() => true,
            Role::Primary => report.is_some_and(|report| match report.state {
                State::Run => true,
                State::Starting => report.attempts > 1,
                _ => report.attempts > 0,
            }),
            Role::Secondary => self.why_stay_secondary(now).is_some(),
            Role::Init | Role::Watchdog => true,
        }
    }
}
