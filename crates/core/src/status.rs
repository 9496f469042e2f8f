//! What `status` says of a resource beyond the original's fields, from what the machines know that decide: with its types, and in lines.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::lease::voter::Voter;
use crate::lease::{FOR_EVER, Voters};
use crate::pause::Pause;
use crate::supervisor::Supervisor;
use crate::time::Instant;
use crate::timing;
use crate::types::{Role, State};
use crate::wire::detail::{Detail, NodeDetail, Protection, Trouble};

/// What there is to say; `no_turn`: what it waits for, in words, that waits for its turn.
pub(crate) fn detail(now: Instant, supervisor: &Supervisor, no_turn: Option<String>) -> Detail {
    let settings = supervisor.settings();
    let peers = supervisor.peers();
    let report = supervisor.report();
    let runs_here = match supervisor.role() {
        Role::Primary => report.is_some_and(|report| report.state == State::Run),
        _ => false,
    };
    let runs_on = if runs_here { Some(peers.me()) } else { peers.runs_on() };
    let mut detail = Detail {
        node: peers.me().to_string(),
        runs_on: runs_on.map(ToString::to_string),
        lateness: report.and_then(|report| report.lateness),
        ..Detail::default()
    };
    if !supervisor.is_legacy() {
        add_lease(&mut detail, now, supervisor);
    }
    detail.waits = no_turn.or(detail.waits);
    detail.nodes = nodes(now, supervisor);
    detail.differences = peers.differences(&settings.shared);
    detail.troubles = troubles(now, supervisor, &detail);
    detail
}

/// All nodes of the resource: this one by what its worker says, the others by what they said last while they are connected.
fn nodes(now: Instant, supervisor: &Supervisor) -> Vec<NodeDetail> {
    let (settings, peers) = (supervisor.settings(), supervisor.peers());
    let known = peers.known();
    let of = |node: &String| {
        let said = match known.get(node.as_str()) {
            _ if node == peers.me() => {
                let state = supervisor.report().map(|report| report.state);
                (Some(supervisor.role()), state, Some(settings.priority))
            }
            Some((role, state, priority)) => (Some(*role), Some(*state), Some(*priority)),
            None => (None, None, None),
        };
        let connected_for = peers.connected_since(node).map(|since| now.since(since));
        NodeDetail { node: node.clone(), role: said.0, state: said.1, priority: said.2, connected_for }
    };
    settings.nodes.iter().map(of).collect()
}

fn add_lease(detail: &mut Detail, now: Instant, supervisor: &Supervisor) {
    let settings = supervisor.settings();
    let lease = supervisor.report().and_then(|report| report.lease.as_ref());
    let held = lease.filter(|lease| supervisor.role() == Role::Primary && lease.epoch.is_some());
    let voters = Voters::new(settings.nodes.iter().cloned());
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let is_fenced = settings.fence.is_some();
    detail.protection = if is_fenced { Protection::LeaseAndFencing } else { Protection::Lease };
    let known = supervisor.peers().voter().map_or(0, Voter::highest);
    detail.epoch = held.and_then(|lease| lease.epoch).unwrap_or(known);
    detail.is_forced = held.is_some_and(|lease| lease.is_forced);
    let until = held.and_then(|lease| lease.until).filter(|until| now < *until);
    detail.is_kept = until == Some(FOR_EVER);
    detail.lease_left = until.filter(|until| *until != FOR_EVER).map(|until| until.since(now));
    detail.votes = lease.map(|lease| lease.votes);
    let kept = supervisor.kept_for().map(|(node, votes)| (node.to_string(), votes));
    detail.kept = kept.filter(|(_, votes)| *votes > 0 || supervisor.is_paused());
    let pause = supervisor.pause_told(now);
    detail.pause = pause.paused.map(|paused| (pause.node, paused));
    detail.in_reach = lease.map(|lease| lease.in_reach);
    detail.voters = lease.map_or(count(voters.len()), |lease| lease.voters);
    detail.needed = count(voters.majority());
    let bound = supervisor.peers().bound(now);
    detail.bound = bound.map(|bound| (bound.holder.to_string(), bound.left));
    detail.is_bound_kept = bound.is_some_and(|bound| bound.kept);
    detail.no_votes = supervisor.peers().no_votes().map(ToString::to_string);
    detail.waits = lease.and_then(|lease| lease.waits.clone());
    if let (Role::Secondary, Some(lease)) = (supervisor.role(), lease) {
        let can = lease.in_reach >= detail.needed && !supervisor.is_paused();
        detail.standby = can.then(|| timing::takeover(settings));
    }
}

/// What is not as it should be: that it is paused, then the gravest first.
fn troubles(now: Instant, supervisor: &Supervisor, detail: &Detail) -> Vec<Trouble> {
    let role = supervisor.role();
    let paused = detail.pause.as_ref().map(|(node, paused)| {
        let until = paused
            .left
            .map_or_else(|| "until it is resumed".to_string(), |left| format!("for another {} s", left.as_secs()));
        Trouble { is_grave: false, text: format!("paused by {} on {node} {until}", paused.by) }
    });
    if role == Role::Init {
        return paused.into_iter().collect();
    }
    let state = supervisor.report().map(|report| report.state);
    let mut troubles = Vec::new();
    let mut add = |is_grave: bool, text: String| troubles.push(Trouble { is_grave, text });
    if state == Some(State::Failed) {
        add(true, "stop has failed, it may still run here".to_string());
    }
    let is_watched = role == Role::Watchdog && state == Some(State::Run);
    if detail.runs_on.is_none() && !is_watched {
        match (role, state) {
            (Role::Primary, Some(state)) => add(true, format!("primary, state {state}")),
            (Role::Primary, None) => add(true, "primary, state unknown".to_string()),
            _ => add(true, "no primary".to_string()),
        }
    }
    if let Some(in_reach) = detail.in_reach.filter(|in_reach| *in_reach < detail.voters) {
        add(in_reach < detail.needed, format!("{in_reach} of {} votes", detail.voters));
    }
    if let Some(silent_for) = supervisor.stuck_for(now) {
        add(true, format!("worker silent for {} s", silent_for.as_secs()));
    }
    if detail.no_votes.is_some() {
        add(false, "this node gives no votes".to_string());
    }
    if detail.is_forced {
        add(true, "forced by an operator".to_string());
    }
    let complaints = supervisor.complaints(now);
    if complaints > 0 && detail.runs_on.is_none() {
        add(false, format!("{complaints} complaint{}", if complaints == 1 { "" } else { "s" }));
    }
    for other in &detail.differences {
        add(false, format!("{} is {} here, {} on {}", other.setting, other.here, other.there, other.node));
    }
    troubles.sort_by_key(|trouble| !trouble.is_grave);
    paused.into_iter().chain(troubles).collect()
}

/// The lines about the lease that `status` has always had, each a name and a value.
pub(crate) fn lines(role: Role, detail: &Detail) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push((name.to_string(), value));
    if let Some(paused) = paused(role, detail) {
        line("paused", paused);
    }
    if detail.protection == Protection::None {
        line("protection", "none: legacy peers are allowed (--legacy-peers), two primaries are possible".to_string());
    } else {
        line("epoch", detail.epoch.to_string());
        line("lease", lease_line(detail));
        if let Some(why) = &detail.no_votes {
            line("votes", format!("none are given: {why}"));
        }
        line("protection", detail.protection.as_str().to_string());
        match (role, detail.in_reach, detail.standby) {
            (Role::Secondary, _, Some(after)) => {
                line("standby", format!("would take over in about {:.1} s", after.as_secs_f64()));
            }
            (Role::Secondary, ..) if detail.pause.is_some() => {
                line("standby", "takes nothing over: paused".to_string())
            }
            (Role::Secondary, Some(in_reach), None) => {
                let (of, needed) = (detail.voters, detail.needed);
                line("standby", format!("cannot take over: {in_reach} of {of} votes in reach, needs {needed}"));
            }
            _ => {}
        }
    }
    if let Some(why) = &detail.waits {
        line("waits", why.clone());
    }
    if let Some(worst) = detail.lateness.filter(|_| detail.protection != Protection::None) {
        line("lateness", format!("{} ms at worst in the last minute", worst.as_millis()));
    }
    for other in &detail.differences {
        let value = format!("{} is {} here and {} on {}", other.setting, other.here, other.there, other.node);
        line("configuration", value);
    }
    lines
}

/// By whom, where, since when and for how long, and what is known of the votes for the primary.
fn paused(role: Role, detail: &Detail) -> Option<String> {
    let (node, paused) = detail.pause.as_ref()?;
    let told = Pause { version: 0, node: node.clone(), paused: Some(paused.clone()) }.to_string();
    let kept = match &detail.kept {
        Some((_, votes)) if role == Role::Primary => format!("; kept by {votes} of {} votes", detail.voters),
        Some((primary, votes)) => format!("; kept for {primary} by {votes} of {} votes", detail.voters),
        None => String::new(),
    };
    Some(format!("{}{kept}", told.trim_start_matches("paused ")))
}

fn lease_line(detail: &Detail) -> String {
    let votes = detail.votes.unwrap_or(0);
    let kept = detail.kept.as_ref().map_or(0, |(_, votes)| *votes);
    match (detail.lease_left, &detail.bound) {
        _ if detail.is_forced => format!("FORCED by an operator, {votes} of {} votes", detail.voters),
        _ if detail.is_kept => format!("held here, {kept} of {} votes are kept", detail.voters),
        (Some(left), _) => {
            format!("held here until +{:.1} s, {votes} of {} votes", left.as_secs_f64(), detail.voters)
        }
        (None, Some((holder, _))) if detail.is_bound_kept => format!(
            "held by node {holder} (its vote here is kept, since it was paused, until {holder} is back, gives it back or is fenced)"
        ),
        (None, Some((holder, left))) => {
            format!("held by node {holder} (its vote here for {:.1} s)", left.as_secs_f64())
        }
        (None, None) => "none".to_string(),
    }
}

#[cfg(test)]
mod tests;
