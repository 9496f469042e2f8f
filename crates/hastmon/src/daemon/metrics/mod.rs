//! What is measured: numbers that events add to, and what the daemon knows at the moment of the question. Names and units are those of
//! Prometheus's conventions, and stay as they are: dashboards and alerts go by them.

pub(in crate::daemon) mod http;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use hastmon_core::daemon::Daemon;
use hastmon_core::event::{Event, RoleReason};
use hastmon_core::hooks::Hook;
use hastmon_core::lease::FOR_EVER;
use hastmon_core::supervisor::Supervisor;
use hastmon_core::time::Instant;
use hastmon_core::types::{Role, State};

use self::text::{Text, Type};
use super::notify::Counts;
use crate::os::clock;

/// The bounds of the durations of hooks, in seconds: from a `status` that costs nothing to a `start` that checks a file system.
const BOUNDS: [&str; 12] = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "15", "60"];
/// The same in microseconds.
const BOUNDS_US: [u128; BOUNDS.len()] =
    [5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 15_000_000, 60_000_000];

/// What events add to.
#[derive(Debug)]
pub(super) struct Metrics {
    began_unix_s: u64,
    events: BTreeMap<&'static str, u64>,
    strangers: u64,
    refused: u64,
    lost: u64,
    resources: BTreeMap<String, OfResource>,
}

#[derive(Debug, Default)]
struct OfResource {
    takeovers: u64,
    complaints: u64,
    hooks: BTreeMap<&'static str, Durations>,
}

#[derive(Debug, Default)]
struct Durations {
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
    failures: u64,
}

impl Durations {
    fn add(&mut self, took: Duration) {
        let at = BOUNDS_US.iter().position(|bound| took.as_micros() <= *bound).unwrap_or(BOUNDS.len());
        self.counts.iter_mut().skip(at).take(1).for_each(|count| *count += 1);
        self.sum = self.sum.saturating_add(took);
    }
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            began_unix_s: clock::unix_time_s(),
            // Each from the start on: what has not happened yet is 0, so that the first time is seen as a rise.
            events: Event::KINDS.iter().map(|kind| (*kind, 0)).collect(),
            strangers: 0,
            refused: 0,
            lost: 0,
            resources: BTreeMap::new(),
        }
    }

    /// An event.
    pub(super) fn note(&mut self, resource: Option<&str>, event: &Event) {
        let count = event.count();
        *self.events.entry(event.kind()).or_default() += count;
        let event = if let Event::Repeated { last, .. } = event { last } else { event };
        match event {
            Event::StrangerRefused { .. } => self.strangers += count,
            Event::CallerRefused { .. } => self.refused += count,
            Event::EventsLost { count } => self.lost += count,
            _ => {}
        }
        let Some(of) = resource.map(|name| self.of(name)) else { return };
        match event {
            Event::RoleChanged {
                new: Role::Primary,
                reason: RoleReason::Takeover { .. } | RoleReason::LeaseReleased,
                ..
            } => of.takeovers += count,
            Event::ComplaintHeard { .. } | Event::Complaining { .. } => of.complaints += count,
            Event::HookEnded { hook, outcome, took, .. } => {
                let durations = of.hooks.entry(hook.name()).or_default();
                durations.add(*took);
                durations.failures += u64::from(!outcome.is_expected(*hook));
            }
            _ => {}
        }
    }

    /// Calls of `status` that said what the one before said.
    pub(super) fn note_statuses(&mut self, resource: &str, statuses: &[Duration]) {
        let durations = self.of(resource).hooks.entry(Hook::Status.name()).or_default();
        statuses.iter().for_each(|took| durations.add(*took));
    }

    fn of(&mut self, resource: &str) -> &mut OfResource {
        if !self.resources.contains_key(resource) {
            self.resources.insert(resource.to_string(), OfResource::default());
        }
        self.resources.entry(resource.to_string()).or_default()
    }

    /// What is no longer in the configuration is not measured any more.
    pub(super) fn forget_gone(&mut self, daemon: &Daemon) {
        self.resources
            .retain(|name, _| daemon.resources().iter().any(|supervisor| supervisor.settings().name == *name));
    }

    /// All of it, as a collector reads it.
    pub(super) fn text(&self, now: Instant, daemon: &Daemon, notified: &Counts) -> String {
        let mut text = Text::default();
        text.family("hastmon_build_info", Type::Gauge, "The version of hastmon; always 1.");
        text.sample(&[("version", env!("CARGO_PKG_VERSION")), ("node", &daemon.config().node)], 1.0);
        text.family("hastmon_start_time_seconds", Type::Gauge, "When the daemon was started, in seconds since 1970.");
        text.sample(&[], self.began_unix_s as f64);
        states(&mut text, daemon);
        leases(&mut text, now, daemon);
        workers(&mut text, now, daemon);
        self.counters(&mut text, daemon, notified);
        self.hooks(&mut text);
        text.finish()
    }

    fn counters(&self, text: &mut Text, daemon: &Daemon, notified: &Counts) {
        let of = |supervisor: &Supervisor| self.resources.get(&supervisor.settings().name);
        text.family("hastmon_failovers_total", Type::Counter, "How often this node has taken the resource over.");
        each(text, daemon, |supervisor| of(supervisor).map_or(0, |of| of.takeovers) as f64);
        text.family(
            "hastmon_complaints_total",
            Type::Counter,
            "Complaints that this node has heard, or as a watchdog has made.",
        );
        each(text, daemon, |supervisor| of(supervisor).map_or(0, |of| of.complaints) as f64);
        text.family("hastmon_refused_callers_total", Type::Counter, "Callers on the network that were sent away.");
        text.sample(&[("reason", "stranger")], self.strangers as f64);
        text.sample(&[("reason", "refused")], self.refused as f64);
        text.family("hastmon_events_total", Type::Counter, "Events by kind, as hastmonctl history --json names them.");
        for (kind, count) in &self.events {
            text.sample(&[("kind", kind)], *count as f64);
        }
        text.family("hastmon_events_lost_total", Type::Counter, "Events that are missing in the history.");
        text.sample(&[], self.lost as f64);
        text.family(
            "hastmon_notifications_total",
            Type::Counter,
            "Calls of the notify script, and those that were left out.",
        );
        let results = [("done", &notified.done), ("failed", &notified.failed), ("left_out", &notified.left_out)];
        for (result, count) in results {
            text.sample(&[("result", result)], count.get() as f64);
        }
    }

    fn hooks(&self, text: &mut Text) {
        text.family("hastmon_hook_duration_seconds", Type::Histogram, "How long calls of the script took.");
        for (resource, hook, durations) in self.durations() {
            let labels = [("resource", resource), ("hook", hook)];
            text.histogram(&labels, &BOUNDS, &durations.counts, durations.sum.as_secs_f64());
        }
        text.family(
            "hastmon_hook_failures_total",
            Type::Counter,
            "Calls of the script that did not do what was asked.",
        );
        for (resource, hook, durations) in self.durations() {
            text.sample(&[("resource", resource), ("hook", hook)], durations.failures as f64);
        }
    }

    fn durations(&self) -> impl Iterator<Item = (&str, &str, &Durations)> {
        self.resources
            .iter()
            .flat_map(|(name, of)| of.hooks.iter().map(move |(hook, durations)| (name.as_str(), *hook, durations)))
    }
}

/// A sample for each resource.
fn each(text: &mut Text, daemon: &Daemon, value: impl Fn(&Supervisor) -> f64) {
    for supervisor in daemon.resources() {
        text.sample(&[("resource", &supervisor.settings().name)], value(supervisor));
    }
}

fn states(text: &mut Text, daemon: &Daemon) {
    let one_if = |yes: bool| f64::from(u8::from(yes));
    text.family("hastmon_role", Type::Gauge, "1 for the role of this node, 0 for the others.");
    for supervisor in daemon.resources() {
        for role in Role::ALL {
            let labels = [("resource", supervisor.settings().name.as_str()), ("role", role.as_str())];
            text.sample(&labels, one_if(supervisor.role() == role));
        }
    }
    text.family("hastmon_state", Type::Gauge, "1 for the state of the resource on this node, 0 for the others.");
    for supervisor in daemon.resources() {
        let now = supervisor.report().map_or(State::Unknown, |report| report.state);
        for state in State::ALL {
            let labels = [("resource", supervisor.settings().name.as_str()), ("state", state.as_str())];
            text.sample(&labels, one_if(now == state));
        }
    }
    text.family("hastmon_start_attempts", Type::Gauge, "Attempts to start the resource since it ran last.");
    each(text, daemon, |supervisor| supervisor.report().map_or(0.0, |report| f64::from(report.attempts)));
}

fn leases(text: &mut Text, now: Instant, daemon: &Daemon) {
    let lease = |supervisor: &Supervisor| supervisor.report().and_then(|report| report.lease.clone());
    text.family(
        "hastmon_lease_epoch",
        Type::Gauge,
        "The highest epoch of a lease that this node knows; 0 without one.",
    );
    each(text, daemon, |supervisor| supervisor.epoch().unwrap_or(0) as f64);
    text.family(
        "hastmon_lease_held",
        Type::Gauge,
        "1 if this node holds the lease, by votes or by the word of an operator.",
    );
    each(text, daemon, |supervisor| f64::from(u8::from(supervisor.holds_lease(now))));
    text.family(
        "hastmon_lease_remaining_seconds",
        Type::Gauge,
        "For how long this node holds the lease if nobody renews it; +Inf while a majority keeps its votes for it.",
    );
    each(text, daemon, |supervisor| {
        let until = lease(supervisor).filter(|_| supervisor.role() == Role::Primary).and_then(|lease| lease.until);
        let left = |until: Instant| if until == FOR_EVER { f64::INFINITY } else { until.since(now).as_secs_f64() };
        until.map_or(0.0, left)
    });
    text.family(
        "hastmon_paused",
        Type::Gauge,
        "1 if the resource is paused: nothing is started, stopped or taken over.",
    );
    each(text, daemon, |supervisor| f64::from(u8::from(supervisor.is_paused())));
    text.family("hastmon_votes_kept", Type::Gauge, "Nodes that keep their votes for this one while it is paused.");
    each(text, daemon, |supervisor| lease(supervisor).map_or(0.0, |lease| f64::from(lease.kept)));
    text.family("hastmon_lease_forced", Type::Gauge, "1 if an operator has made this node primary without a majority.");
    each(text, daemon, |supervisor| f64::from(u8::from(lease(supervisor).is_some_and(|lease| lease.is_forced))));
    text.family("hastmon_voters", Type::Gauge, "Nodes that vote on the resource.");
    each(text, daemon, |supervisor| supervisor.settings().nodes.len() as f64);
    text.family("hastmon_votes_reachable", Type::Gauge, "Nodes that vote and that this node reaches, itself included.");
    each(text, daemon, |supervisor| lease(supervisor).map_or(0.0, |lease| f64::from(lease.in_reach)));
    text.family("hastmon_votes", Type::Gauge, "Votes that this node has.");
    each(text, daemon, |supervisor| lease(supervisor).map_or(0.0, |lease| f64::from(lease.votes)));
}

fn workers(text: &mut Text, now: Instant, daemon: &Daemon) {
    text.family("hastmon_complaints", Type::Gauge, "Complaints that count now.");
    each(text, daemon, |supervisor| f64::from(supervisor.complaints(now)));
    text.family("hastmon_complaints_threshold", Type::Gauge, "With more complaints than this a secondary takes over.");
    each(text, daemon, |supervisor| f64::from(supervisor.settings().complaint_count));
    text.family("hastmon_heartbeat_interval_seconds", Type::Gauge, "The time between two heartbeats, as configured.");
    each(text, daemon, |supervisor| supervisor.settings().heartbeat_interval.as_secs_f64());
    text.family(
        "hastmon_heartbeat_lateness_seconds",
        Type::Gauge,
        "How late the worker was at worst in the last minute; 0 below a tenth of a heartbeat.",
    );
    each(text, daemon, |supervisor| {
        supervisor.report().and_then(|report| report.lateness).map_or(0.0, |late| late.as_secs_f64())
    });
    text.family(
        "hastmon_worker_silent_seconds",
        Type::Gauge,
        "For how long a worker that should speak is silent; 0 while it does.",
    );
    each(text, daemon, |supervisor| supervisor.stuck_for(now).map_or(0.0, |silent| silent.as_secs_f64()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use hastmon_core::config::{NodeName, load};
    use hastmon_core::daemon::PeerProtocol;
    use hastmon_core::hooks::{Exit, Outcome};

    fn daemon() -> Daemon {
        let text = "resource web { exec /x on a { remote none } } resource db { exec /x on a { remote none } }";
        let config = load(text, &NodeName::new("a").unwrap()).config.unwrap();
        Daemon::new(Instant::from_nanos(1), config, PeerProtocol::Lease, 1).0
    }

    fn shown(metrics: &Metrics) -> String {
        metrics.text(Instant::from_nanos(2), &daemon(), &Counts::default())
    }

    fn ended(hook: Hook, code: i32, ms: u64) -> Event {
        let outcome = Outcome::Ended(Exit::Code(code));
        Event::HookEnded { hook, outcome, took: Duration::from_millis(ms), output: Vec::new() }
    }

    #[test]
    fn what_has_happened_is_counted_floods_as_often_as_they_were() {
        let mut metrics = Metrics::new();
        let stranger = Event::StrangerRefused { address: "192.0.2.1".to_string() };
        metrics.note(None, &Event::Repeated { last: Box::new(stranger.clone()), others: 41 });
        metrics.note(None, &stranger);
        let reason = RoleReason::Takeover { complaints: 4 };
        metrics.note(Some("web"), &Event::RoleChanged { old: Role::Secondary, new: Role::Primary, reason });
        let reason = RoleReason::Operator("hastmonctl".to_string());
        metrics.note(Some("db"), &Event::RoleChanged { old: Role::Init, new: Role::Primary, reason });
        metrics.note(Some("web"), &Event::Complaining { count: 1 });
        let text = shown(&metrics);
        for line in [
            "hastmon_refused_callers_total{reason=\"stranger\"} 43",
            "hastmon_events_total{kind=\"stranger_refused\"} 43",
            "hastmon_events_total{kind=\"role_changed\"} 2",
            "hastmon_events_total{kind=\"rebooting\"} 0",
            "hastmon_failovers_total{resource=\"web\"} 1",
            "hastmon_failovers_total{resource=\"db\"} 0",
            "hastmon_complaints_total{resource=\"web\"} 1",
            "hastmon_role{resource=\"web\",role=\"init\"} 1",
            "hastmon_state{resource=\"web\",state=\"run\"} 0",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
        }
    }

    #[test]
    fn calls_of_the_script_are_counted_by_how_long_they_took() {
        let mut metrics = Metrics::new();
        metrics.note(Some("web"), &ended(Hook::Start, 1, 70));
        metrics.note(Some("web"), &ended(Hook::Start, 0, 600_000));
        metrics.note(Some("web"), &ended(Hook::Status, 1, 5));
        metrics.note_statuses("web", &[Duration::from_millis(6), Duration::from_millis(4)]);
        let text = shown(&metrics);
        for line in [
            "hastmon_hook_duration_seconds_bucket{resource=\"web\",hook=\"start\",le=\"0.05\"} 0",
            "hastmon_hook_duration_seconds_bucket{resource=\"web\",hook=\"start\",le=\"0.1\"} 1",
            "hastmon_hook_duration_seconds_bucket{resource=\"web\",hook=\"start\",le=\"60\"} 1",
            "hastmon_hook_duration_seconds_bucket{resource=\"web\",hook=\"start\",le=\"+Inf\"} 2",
            "hastmon_hook_duration_seconds_sum{resource=\"web\",hook=\"start\"} 600.07",
            "hastmon_hook_duration_seconds_bucket{resource=\"web\",hook=\"status\",le=\"0.005\"} 2",
            "hastmon_hook_duration_seconds_count{resource=\"web\",hook=\"status\"} 3",
            "hastmon_hook_failures_total{resource=\"web\",hook=\"start\"} 1",
            "hastmon_hook_failures_total{resource=\"web\",hook=\"status\"} 0",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
        }
    }

    #[test]
    fn a_resource_that_has_gone_is_not_measured_any_more() {
        let mut metrics = Metrics::new();
        metrics.note(Some("old"), &ended(Hook::Start, 0, 1));
        metrics.note(Some("web"), &ended(Hook::Start, 0, 1));
        metrics.forget_gone(&daemon());
        let text = shown(&metrics);
        assert!(!text.contains("\"old\"") && text.contains("resource=\"web\",hook=\"start\""), "{text}");
    }
}
