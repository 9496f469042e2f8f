//! The tree of a file and the name of this node -> the configuration of this node. Decides which section counts, what
//! is inherited, and what is missing on this node. Never looks at text.

use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::diagnostic::Problems;
use super::key::Key;
use super::limits::*;
use super::params::{Name, Place};
use super::problem::{Hold, Problem};
use super::syntax::{Section, Setting};
use super::value::{Value, show_duration};
use super::{Address, Config, NodeName, Resource, Shared, StopFailure, short_name};
use crate::lease::DRIFT_PER_CENT;
use crate::time::Duration;

/// The configuration of one node. It is complete only if no error has been reported.
pub(super) fn resolve(file: &Section, node: &NodeName, problems: &mut Problems) -> Config {
    let here = find_here(file, Place::TopNode, node, problems);
    let layers = Layers([None, None, here, Some(file)]);
    let mut resources = Vec::new();
    let mut homeless = Vec::new();
    for section in file.sections(Place::Resource).take(MAX_RESOURCES) {
        match find_here(section, Place::ResourceNode, node, problems) {
            Some(own) => {
                let layers = Layers([Some(own), Some(section), here, Some(file)]);
                check_resource(section, own, &layers, node, problems);
                let for_all = resource(section, &Layers([None, Some(section), None, Some(file)]));
                let resource = Resource { shared: Shared::of(&for_all), ..resource(section, &layers) };
                check_timing(&resource, &layers, problems);
                resources.push(resource);
            }
            None if section.damaged => {}
            None => homeless.push(section),
        }
    }
    report_homeless(&homeless, resources.is_empty(), node, problems);
    Config {
        node: node.as_str().to_owned(),
        control: layers.path(Name::Control).unwrap_or_else(|| DEFAULT_CONTROL.to_owned()),
        listen: layers.listen(),
        statedir: layers.path(Name::Statedir).unwrap_or_else(|| DEFAULT_STATEDIR.to_owned()),
        history_bytes: match layers.value(Name::History) {
            Some(Value::Size(bytes)) => *bytes,
            _ => DEFAULT_HISTORY_BYTES,
        },
        metrics: match layers.value(Name::Metrics) {
            Some(Value::Address(address)) => Some(address.clone()),
            _ => None,
        },
        notify: layers.path(Name::Notify),
        realtime: matches!(layers.value(Name::Realtime), Some(Value::Switch(true))),
        max_hooks: layers.count(Name::MaxHooks, DEFAULT_MAX_HOOKS),
        friends: layers.addresses(Name::Friends),
        resources,
    }
}

/// The section of this node, by its full name or else by its short one.
fn find_here<'a>(around: &'a Section, place: Place, node: &NodeName, problems: &mut Problems) -> Option<&'a Section> {
    let find = |name| around.sections(place).find(|section| section.name == name);
    let (full, short) = (find(node.as_str()), find(short_name(node.as_str())));
    if let (Some(full), Some(short)) = (full, short)
        && full.name != short.name
    {
        let problem = Problem::BothNames { full: &full.name, short: &short.name };
        problems.report(short.name_span.clone(), &problem);
    }
    full.or(short)
}

/// Tells which resources have no section for this node. If none has one it is the name of the node that is wrong, which is told once.
fn report_homeless(homeless: &[&Section], all: bool, node: &NodeName, problems: &mut Problems) {
    let node = node.as_str();
    if let ([first, _, ..], true) = (homeless, all) {
        let nodes: BTreeSet<_> = homeless.iter().flat_map(|section| node_names(section)).collect();
        let problem = Problem::NoSections { node, nodes: nodes.into_iter().collect() };
        return problems.report(first.name_span.clone(), &problem);
    }
    for section in homeless {
        let problem = Problem::NoSection { resource: &section.name, node, nodes: node_names(section).collect() };
        problems.report(section.name_span.clone(), &problem);
    }
}

fn node_names(resource: &Section) -> impl Iterator<Item = &str> {
    resource.sections(Place::ResourceNode).map(|section| section.name.as_str())
}

/// What one resource lacks on this node, and what it can hardly mean.
fn check_resource(section: &Section, own: &Section, layers: &Layers<'_>, node: &NodeName, problems: &mut Problems) {
    for any in section.sections(Place::ResourceNode) {
        if any.setting(Name::Remote).is_none() && !any.damaged {
            let ours = any.name_span == own.name_span;
            let problem = Problem::NoRemote { resource: &section.name, node: &any.name, ours };
            problems.report(any.name_span.clone(), &problem);
        }
    }
    if layers.find(Name::Exec).is_none() && !layers.damaged() {
        let problem = Problem::NoExec { resource: &section.name, node: node.as_str() };
        problems.report(section.name_span.clone(), &problem);
    }
    if let Some(setting) = layers.find(Name::OnStopFailure)
        && matches!(setting.value, Some(Value::StopFailure(StopFailure::Fence)))
        && layers.find(Name::Fence).is_none()
        && !layers.damaged()
    {
        problems.report(setting.span.clone(), &Problem::NoFence { resource: &section.name });
    }
}

/// What the lengths of time of one resource mean together, each told at the first of those parameters that is set.
fn check_timing(resource: &Resource, layers: &Layers<'_>, problems: &mut Problems) {
    use Name::{ComplaintCount, ComplaintInterval, HeartbeatInterval, Lease, StopTimeout, Timeout};
    let &Resource { lease, timeout, heartbeat_interval, complaint_interval, complaint_count, .. } = resource;
    let hold = Hold { lease, stop: resource.stop_timeout };
    let heartbeat = || show_duration(heartbeat_interval);
    let mut tell = |involved: &[Name], problem: Problem<'_>| {
        // What follows from a value that is faulty and was told is not told.
        let is_sound = involved.iter().all(|name| layers.find(*name).is_none_or(|setting| setting.value.is_some()));
        if let Some(setting) = involved.iter().find_map(|name| layers.find(*name)).filter(|_| is_sound) {
            problems.report(setting.span.clone(), &problem);
        }
    };
    let needed = heartbeat_interval.saturating_mul(complaint_count.saturating_add(1));
    if complaint_interval < needed {
        let [interval, needed] = [complaint_interval, needed].map(show_duration);
        let problem = Problem::ShortInterval { interval, count: complaint_count, heartbeat: heartbeat(), needed };
        tell(&[ComplaintInterval, ComplaintCount, HeartbeatInterval], problem);
    }
    let needed = heartbeat_interval.saturating_mul(MIN_LEASE_HEARTBEATS);
    if lease < needed {
        let [lease, needed] = [lease, needed].map(show_duration);
        tell(&[Lease, HeartbeatInterval], Problem::ShortLease { lease, heartbeat: heartbeat(), needed });
    }
    if hold.span() > MAX_DURATION {
        let [first, second] = if hold.stop > lease { [StopTimeout, Lease] } else { [Lease, StopTimeout] };
        tell(&[first, second, HeartbeatInterval], Problem::LongHold { hold });
    } else if hold.stop > lease {
        tell(&[StopTimeout, Lease, ComplaintCount, HeartbeatInterval], Problem::LongStop { hold });
    }
    if timeout > lease {
        let [timeout, lease] = [timeout, lease].map(show_duration);
        tell(&[Timeout, Lease, HeartbeatInterval, ComplaintCount], Problem::LongTimeout { timeout, lease });
    }
}

/// The original's limit of network silence, kept so short that the hold of its votes is never too long unless heartbeats are.
fn default_lease(heartbeat: Duration, complaint_count: u32, stop: Duration) -> Duration {
    let longest =
        Duration::from_secs(MAX_DURATION.as_secs() * 100 / u64::from(100 + DRIFT_PER_CENT)).saturating_sub(stop);
    let least = heartbeat.saturating_mul(MIN_LEASE_HEARTBEATS);
    heartbeat.saturating_mul(complaint_count).min(longest).max(least)
}

fn resource(section: &Section, layers: &Layers<'_>) -> Resource {
    let heartbeat_interval = layers.duration(Name::HeartbeatInterval, DEFAULT_HEARTBEAT_INTERVAL);
    let complaint_count = layers.count(Name::ComplaintCount, DEFAULT_COMPLAINT_COUNT);
    let stop_timeout = layers.duration(Name::StopTimeout, heartbeat_interval);
    Resource {
        name: section.name.clone(),
        exec: layers.path(Name::Exec).unwrap_or_default(),
        remotes: layers.addresses(Name::Remote),
        friends: layers.addresses(Name::Friends),
        priority: match layers.value(Name::Priority) {
            Some(Value::Priority(priority)) => *priority,
            _ => DEFAULT_PRIORITY,
        },
        weight: match layers.value(Name::Weight) {
            Some(Value::Weight(weight)) => *weight,
            _ => DEFAULT_WEIGHT,
        },
        timeout: layers.duration(Name::Timeout, DEFAULT_TIMEOUT),
        attempts: layers.count(Name::Attempts, DEFAULT_ATTEMPTS),
        heartbeat_interval,
        complaint_count,
        complaint_interval: layers.duration(Name::ComplaintInterval, DEFAULT_COMPLAINT_INTERVAL),
        lease: layers.duration(Name::Lease, default_lease(heartbeat_interval, complaint_count, stop_timeout)),
        role_on_start: match layers.value(Name::RoleOnStart) {
            Some(Value::Role(role)) => *role,
            _ => DEFAULT_ROLE_ON_START,
        },
        start_timeout: layers.duration(Name::StartTimeout, DEFAULT_START_TIMEOUT),
        stop_timeout,
        status_timeout: layers.duration(Name::StatusTimeout, DEFAULT_STATUS_TIMEOUT),
        hook_timeout: layers.duration(Name::HookTimeout, DEFAULT_HOOK_TIMEOUT),
        fence: layers.path(Name::Fence),
        fence_timeout: layers.duration(Name::FenceTimeout, DEFAULT_FENCE_TIMEOUT),
        on_stop_failure: match layers.value(Name::OnStopFailure) {
            Some(Value::StopFailure(what)) => *what,
            _ => DEFAULT_ON_STOP_FAILURE,
        },
        notify: layers.path(Name::Notify),
        key: layers.key(),
        nodes: node_names(section).map(str::to_owned).collect(),
        shared: Shared::default(),
    }
}

/// The sections that speak about one thing on this node, from the one that counts most: of this node in the resource, of
/// the resource, of this node at the top level, the top level. The parser saw to it that each has only what may stand in it.
struct Layers<'a>([Option<&'a Section>; 4]);

impl<'a> Layers<'a> {
    fn present(&self) -> impl Iterator<Item = &'a Section> {
        self.0.into_iter().flatten()
    }

    fn find(&self, name: Name) -> Option<&'a Setting> {
        self.present().find_map(|section| section.setting(name))
    }

    fn value(&self, name: Name) -> Option<&'a Value> {
        self.find(name)?.value.as_ref()
    }

    fn damaged(&self) -> bool {
        self.present().any(|section| section.damaged)
    }

    fn duration(&self, name: Name, default: Duration) -> Duration {
        match self.value(name) {
            Some(Value::Duration(duration)) => *duration,
            _ => default,
        }
    }

    fn count(&self, name: Name, default: u32) -> u32 {
        match self.value(name) {
            Some(Value::Count(count)) => *count,
            _ => default,
        }
    }

    fn path(&self, name: Name) -> Option<String> {
        match self.value(name) {
            Some(Value::Path(path)) => Some(path.clone()),
            _ => None,
        }
    }

    fn listen(&self) -> Address {
        match self.value(Name::Listen) {
            Some(Value::Address(address)) => address.clone(),
            _ => Address::default_listen(),
        }
    }

    fn addresses(&self, name: Name) -> Vec<Address> {
        match self.value(name) {
            Some(Value::Addresses(addresses)) => addresses.clone(),
            _ => Vec::new(),
        }
    }

    fn key(&self) -> Option<Key> {
        let section = self.present().find_map(|section| section.keys.last())?;
        match (&section.setting(Name::Algorithm)?.value, &section.setting(Name::Secret)?.value) {
            (Some(Value::Algorithm(algorithm)), Some(Value::Secret(secret))) => {
                Some(Key { algorithm: *algorithm, secret: secret.clone() })
            }
            _ => None,
        }
    }
}
