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
use super::problem::Problem;
use super::syntax::{Section, Setting};
use super::value::{Value, show_duration};
use super::{Address, Config, NodeName, Resource, short_name};
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
                resources.push(resource(section, &layers));
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
    let interval = layers.duration(Name::ComplaintInterval, DEFAULT_COMPLAINT_INTERVAL);
    let count = layers.count(Name::ComplaintCount, DEFAULT_COMPLAINT_COUNT);
    let heartbeat = layers.duration(Name::HeartbeatInterval, DEFAULT_HEARTBEAT_INTERVAL);
    let needed = heartbeat.saturating_mul(count.saturating_add(1));
    let mut involved = [Name::ComplaintInterval, Name::ComplaintCount, Name::HeartbeatInterval].into_iter();
    if interval < needed
        && let Some(setting) = involved.find_map(|name| layers.find(name))
    {
        let [interval, heartbeat, needed] = [interval, heartbeat, needed].map(show_duration);
        problems.report(setting.span.clone(), &Problem::ShortInterval { interval, count, heartbeat, needed });
    }
}

fn resource(section: &Section, layers: &Layers<'_>) -> Resource {
    Resource {
        name: section.name.clone(),
        exec: layers.path(Name::Exec).unwrap_or_default(),
        remotes: layers.addresses(Name::Remote),
        friends: layers.addresses(Name::Friends),
        priority: match layers.value(Name::Priority) {
            Some(Value::Priority(priority)) => *priority,
            _ => DEFAULT_PRIORITY,
        },
        timeout: layers.duration(Name::Timeout, DEFAULT_TIMEOUT),
        attempts: layers.count(Name::Attempts, DEFAULT_ATTEMPTS),
        heartbeat_interval: layers.duration(Name::HeartbeatInterval, DEFAULT_HEARTBEAT_INTERVAL),
        complaint_count: layers.count(Name::ComplaintCount, DEFAULT_COMPLAINT_COUNT),
        complaint_interval: layers.duration(Name::ComplaintInterval, DEFAULT_COMPLAINT_INTERVAL),
        role_on_start: match layers.value(Name::RoleOnStart) {
            Some(Value::Role(role)) => *role,
            _ => DEFAULT_ROLE_ON_START,
        },
        start_timeout: layers.duration(Name::StartTimeout, DEFAULT_START_TIMEOUT),
        stop_timeout: layers.duration(Name::StopTimeout, DEFAULT_STOP_TIMEOUT),
        status_timeout: layers.duration(Name::StatusTimeout, DEFAULT_STATUS_TIMEOUT),
        hook_timeout: layers.duration(Name::HookTimeout, DEFAULT_HOOK_TIMEOUT),
        key: layers.key(),
        nodes: node_names(section).map(str::to_owned).collect(),
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
