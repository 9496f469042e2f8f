//! A configuration -> text that reads as the same configuration on the same node. Never shows a secret.
//!
//! Nothing is left to inheritance: each parameter of a resource is written out, as far outside in it as it may stand.

use alloc::borrow::{Cow, ToOwned as _};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::lexer::is_bare;
use super::params::{self, Name, PARAMETERS, Parameter, Place};
use super::value::{show_duration, show_size};
use super::{Address, Config, Resource, short_name};

/// What stands in place of a secret.
const MASK: &str = "********";

pub(super) fn dump(config: &Config) -> String {
    let mut text =
        format!("# As node {} understands it. Secrets are masked, other nodes are only named.\n", config.node);
    let top = |parameter: &Parameter| parameter.is_allowed(Place::Top);
    write_parameters(&mut text, "", top, |name| top_value(config, name));
    for resource in &config.resources {
        write_resource(&mut text, resource, &config.node);
    }
    text
}

fn write_resource(text: &mut String, resource: &Resource, node: &str) {
    *text += &format!("\nresource {} {{\n", quote(&resource.name));
    let outer = |parameter: &Parameter| parameter.is_allowed(Place::Resource);
    let inner = |parameter: &Parameter| parameter.is_allowed(Place::ResourceNode) && !outer(parameter);
    write_parameters(text, "\t", outer, |name| value(resource, name));
    let find = |name: &str| resource.nodes.iter().position(|node| node == name);
    let here = find(node).or_else(|| find(short_name(node)));
    for (index, node) in resource.nodes.iter().enumerate() {
        *text += &format!("\ton {} {{\n", quote(node));
        if Some(index) == here {
            write_parameters(text, "\t\t", inner, |name| value(resource, name));
        } else {
            *text += "\t\tremote none\n";
        }
        *text += "\t}\n";
    }
    *text += "}\n";
}

/// Writes a line for each parameter of some that has a value.
fn write_parameters(
    text: &mut String,
    indent: &str,
    chosen: impl Fn(&Parameter) -> bool,
    value: impl Fn(Name) -> Option<String>,
) {
    for parameter in PARAMETERS.iter().filter(|parameter| chosen(parameter)) {
        if let Some(value) = value(parameter.name) {
            *text += &format!("{indent}{} {value}\n", parameter.word);
        }
    }
}

pub(super) fn top_value(config: &Config, name: Name) -> Option<String> {
    match name {
        Name::Control => Some(quote(&format!("uds://{}", config.control)).into_owned()),
        Name::Listen => Some(quote(&config.listen.text).into_owned()),
        Name::Friends => list(&config.friends),
        Name::Statedir => Some(quote(&config.statedir).into_owned()),
        Name::History => Some(show_size(config.history_bytes)),
        Name::Metrics => Some(quote(&config.metrics.as_ref()?.text).into_owned()),
        Name::Notify => Some(quote(config.notify.as_deref()?).into_owned()),
        Name::Realtime => Some(if config.realtime { "on" } else { "off" }.to_owned()),
        Name::MaxHooks => Some(config.max_hooks.to_string()),
        _ => None,
    }
}

pub(super) fn value(resource: &Resource, name: Name) -> Option<String> {
    Some(match name {
        Name::Exec => quote(&resource.exec).into_owned(),
        Name::Fence => quote(resource.fence.as_deref()?).into_owned(),
        Name::Notify => quote(resource.notify.as_deref()?).into_owned(),
        Name::Remote => list(&resource.remotes).unwrap_or_else(|| "none".to_owned()),
        Name::Friends => return list(&resource.friends),
        Name::Priority => resource.priority.to_string(),
        Name::Weight => resource.weight.to_string(),
        Name::RoleOnStart => resource.role_on_start.to_string(),
        Name::Attempts => resource.attempts.to_string(),
        Name::Timeout => show_duration(resource.timeout),
        Name::HeartbeatInterval => show_duration(resource.heartbeat_interval),
        Name::ComplaintCount => resource.complaint_count.to_string(),
        Name::ComplaintInterval => show_duration(resource.complaint_interval),
        Name::Lease => show_duration(resource.lease),
        Name::StartTimeout => show_duration(resource.start_timeout),
        Name::StopTimeout => show_duration(resource.stop_timeout),
        Name::StatusTimeout => show_duration(resource.status_timeout),
        Name::HookTimeout => show_duration(resource.hook_timeout),
        Name::FenceTimeout => show_duration(resource.fence_timeout),
        Name::OnStopFailure => resource.on_stop_failure.as_str().to_owned(),
        Name::Key => format!("{{ algorithm {} secret \"{MASK}\" }}", resource.key.as_ref()?.algorithm),
        // Of the whole daemon, inside of a key, or written as sections.
        Name::Control | Name::Listen | Name::Statedir | Name::Realtime => return None,
        Name::MaxHooks | Name::History | Name::Metrics => return None,
        Name::Algorithm | Name::Secret | Name::On | Name::Resource => return None,
    })
}

/// Addresses as a list; `None` for none.
fn list(addresses: &[Address]) -> Option<String> {
    let words: Vec<_> = addresses.iter().map(|address| quote(&address.text)).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// A word as it has to be written to be read as a value.
fn quote(word: &str) -> Cow<'_, str> {
    if !word.is_empty() && word.chars().all(is_bare) && params::find(word).is_none() {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("\"{}\"", word.replace('\\', r"\\").replace('"', "\\\"")))
}
