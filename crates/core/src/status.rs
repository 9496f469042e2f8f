//! What `status` says of the lease of a resource, in lines of its own, from what the machines know that decide.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::lease::{FOR_EVER, with_drift};
use crate::members::terms;
use crate::supervisor::Supervisor;
use crate::time::Instant;
use crate::types::Role;

/// The lines, each a name and a value.
pub(crate) fn lines(now: Instant, supervisor: &Supervisor) -> Vec<(String, String)> {
    let settings = supervisor.settings();
    if supervisor.is_legacy() {
        let value = "none: legacy peers are allowed (--legacy-peers), two primaries are possible";
        return Vec::from([("protection".to_string(), value.to_string())]);
    }
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push((name.to_string(), value));
    let report = supervisor.report().and_then(|report| report.lease.clone());
    if supervisor.is_paused() {
        let kept =
            report.as_ref().filter(|_| supervisor.role() == Role::Primary).map(|report| (report.kept, report.voters));
        let kept = kept.map_or_else(String::new, |(kept, of)| format!("; kept by {kept} of {of} votes"));
        let told = supervisor.pause_told(now).to_string();
        line("paused", format!("{}{kept}", told.trim_start_matches("paused ")));
    }
    let bound = supervisor.peers().bound(now);
    let known = supervisor.peers().voter().map_or(0, crate::lease::voter::Voter::highest);
    let held = report.as_ref().filter(|_| supervisor.role() == Role::Primary).and_then(|report| report.epoch);
    line("epoch", held.unwrap_or(known).to_string());
    let held_until = report.as_ref().filter(|_| held.is_some()).and_then(|report| report.until);
    line(
        "lease",
        match (&report, held_until, bound) {
            (Some(report), ..) if held.is_some() && report.is_forced => {
                format!("FORCED by an operator, {} of {} votes", report.votes, report.voters)
            }
            (Some(report), Some(FOR_EVER), _) => {
                format!("held here, {} of {} votes are kept", report.kept, report.voters)
            }
            (Some(report), Some(until), _) if now < until => format!(
                "held here until +{:.1} s, {} of {} votes",
                until.since(now).as_secs_f64(),
                report.votes,
                report.voters
            ),
            (_, _, Some(bound)) if bound.kept => format!(
                "held by node {} (its vote here is kept, since it was paused, until {} is back, gives it back or is fenced)",
                bound.holder, bound.holder
            ),
            (_, _, Some(bound)) => {
                format!("held by node {} (its vote here for {:.1} s)", bound.holder, bound.left.as_secs_f64())
            }
            _ => "none".to_string(),
        },
    );
    line("protection", if settings.fence.is_some() { "lease+fencing" } else { "lease" }.to_string());
    if let Some(report) = report {
        let needed = settings.nodes.len() / 2 + 1;
        let in_reach = usize::try_from(report.in_reach).unwrap_or(usize::MAX);
        match supervisor.role() {
            Role::Secondary if in_reach < needed => {
                line(
                    "standby",
                    format!("cannot take over: {in_reach} of {} votes in reach, needs {needed}", report.voters),
                );
            }
            Role::Secondary => {
                let complaints = settings.heartbeat_interval * settings.complaint_count.saturating_add(1);
                let votes = with_drift(terms(settings).hold());
                line("standby", format!("would take over in about {:.1} s", complaints.max(votes).as_secs_f64()));
            }
            _ => {}
        }
        if let Some(why) = report.waits {
            line("waits", why);
        }
    }
    if let Some(worst) = supervisor.report().and_then(|report| report.lateness) {
        line("lateness", format!("{} ms at worst in the last minute", worst.as_millis()));
    }
    lines
}

#[cfg(test)]
mod tests;
