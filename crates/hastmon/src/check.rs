//! `hastmonctl check`: the configuration and all that it names on this node, and what follows from it. Looks, and changes nothing.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::net::ToSocketAddrs as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hastmon_core::config::{Config, Host, NodeName, Resource};
use hastmon_core::consequences::{Consequences, Node, consequences};
use hastmon_core::hooks::Exit;
use hastmon_core::types::Role;
use serde_json::{Value, json};

use crate::config_file::{LoadError, Source};
use crate::control;

/// The version of what `check --json` prints.
const SCHEMA: u32 = 1;
/// The bits of a mode that let somebody run the file, and that let others than its owner and group change it.
const MAY_RUN: u32 = 0o111;
const OTHERS_MAY_WRITE: u32 = 0o002;

/// What was found.
#[derive(Debug)]
pub(crate) struct Checked {
    file: PathBuf,
    node: String,
    /// Whether a daemon has answered.
    daemon: bool,
    errors: Vec<String>,
    warnings: Vec<String>,
    resources: Vec<(String, Consequences)>,
    max_hooks: u32,
}

/// Checks everything. `control`: where the daemon is, if not where the configuration says; `run`: calls `status` of each script.
///
/// # Errors
/// The file cannot be read, or is faulty.
pub(crate) fn check(source: &Source, control: Option<&Path>, run: bool) -> Result<Checked, LoadError> {
    let (config, warnings) = source.read()?;
    let mut checked = Checked {
        file: source.path().to_path_buf(),
        node: config.node.clone(),
        daemon: false,
        errors: Vec::new(),
        warnings,
        resources: Vec::new(),
        max_hooks: config.max_hooks,
    };
    checked.look_at_file(source, &config);
    checked.look_at_names(&config);
    checked.look_at_statedir(Path::new(&config.statedir));
    for resource in &config.resources {
        checked.look_at_script(resource, "exec", &resource.exec);
        resource.fence.iter().for_each(|fence| checked.look_at_script(resource, "fence", fence));
        if run {
            checked.run_status(resource, resource.own_name(&config.node));
        }
        let found = consequences(resource, &checked.nodes(source, resource));
        checked.warnings.extend(found.warnings.iter().map(|warning| format!("{}: {warning}", resource.name)));
        checked.resources.push((resource.name.clone(), found));
    }
    checked.ask_daemon(control.unwrap_or(Path::new(&config.control)));
    Ok(checked)
}

impl Checked {
    pub(crate) const fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    fn look_at_file(&mut self, source: &Source, config: &Config) {
        for (resource, warning) in source.weak_secrets(config) {
            self.warnings.push(resource.map_or(String::new(), |name| format!("{name}: ")) + &warning);
        }
        let mode = fs::metadata(source.path()).map(|file| file.permissions().mode());
        if mode.is_ok_and(|mode| mode & OTHERS_MAY_WRITE != 0) {
            let path = source.path().display();
            self.errors.push(format!("{path} may be changed by everybody on this machine: chmod 600 {path}"));
        }
    }

    /// A name service that is away for the moment is no error of the file.
    fn look_at_names(&mut self, config: &Config) {
        let of_resources = config.resources.iter().flat_map(|r| r.remotes.iter().chain(&r.friends));
        let all = of_resources.chain(&config.friends).chain([&config.listen]);
        let mut names: Vec<&str> = all
            .filter_map(|address| match &address.host {
                Host::Name(name) => Some(name.as_str()),
                Host::Ip(_) => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            match (name, 0_u16).to_socket_addrs().map(|mut found| found.next()) {
                Ok(Some(_)) => {}
                Ok(None) => self.warnings.push(format!("the name {name} has no address")),
                Err(error) => self.warnings.push(format!("the name {name} cannot be looked up: {error}")),
            }
        }
    }

    fn look_at_statedir(&mut self, path: &Path) {
        let shown = path.display();
        match fs::metadata(path) {
            Ok(found) if !found.is_dir() => self.errors.push(format!("statedir {shown} is no directory")),
            Ok(found) if found.permissions().mode() & OTHERS_MAY_WRITE != 0 => {
                self.errors.push(format!("statedir {shown} may be changed by everybody on this machine"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.warnings.push(format!("statedir {shown} does not exist yet; the daemon makes it"));
            }
            Err(error) => self.errors.push(format!("statedir {shown}: {error}")),
        }
    }

    fn look_at_script(&mut self, resource: &Resource, what: &str, path: &str) {
        let place = format!("{}: {what} {path}", resource.name);
        let mode = |found: &Metadata| found.permissions().mode();
        match fs::metadata(path) {
            Err(error) => self.errors.push(format!("{place}: {error}")),
            Ok(found) if !found.is_file() => self.errors.push(format!("{place} is no file")),
            Ok(found) if mode(&found) & MAY_RUN == 0 => {
                self.errors.push(format!("{place} is not executable: chmod +x {path}"));
            }
            Ok(found) if mode(&found) & OTHERS_MAY_WRITE != 0 => {
                self.errors.push(format!("{place} may be changed by everybody on this machine, and hastmon runs it"));
            }
            Ok(_) => {}
        }
    }

    fn run_status(&mut self, resource: &Resource, node: &str) {
        let place = format!("{}: {} status", resource.name, resource.exec);
        match crate::exec::call(resource, node, "status", resource.status_timeout) {
            Err(error) => self.errors.push(format!("{place}: {error}")),
            Ok(ran) if !ran.timed_out && matches!(ran.exit, Exit::Code(0 | 1)) => {}
            Ok(ran) => {
                let output: String = ran.output.lines().map(|line| format!("\n    | {line}")).collect();
                self.errors.push(format!("{place}: {} (0 means that it runs, 1 that it does not){output}", ran.how()));
            }
        }
    }

    /// What each node has, by reading the file as it does.
    fn nodes(&mut self, source: &Source, resource: &Resource) -> Vec<Node> {
        let mut nodes = Vec::new();
        for name in &resource.nodes {
            let read = NodeName::new(name).map(|name| source.read_as(&name));
            let there = match read {
                Ok(Ok((config, _))) => {
                    config.resource(&resource.name).map(|found| (found.role_on_start, found.heartbeat_interval))
                }
                Ok(Err(error)) => {
                    let error = format!("on node {name}: {error}");
                    if !self.errors.contains(&error) {
                        self.errors.push(error);
                    }
                    None
                }
                Err(_) => None,
            };
            let (role_on_start, heartbeat_interval) = there.unwrap_or((Role::Init, resource.heartbeat_interval));
            nodes.push(Node { name: name.clone(), role_on_start, heartbeat_interval });
        }
        nodes
    }

    /// Who runs another file is known by a daemon that runs.
    fn ask_daemon(&mut self, control: &Path) {
        let names = [hastmon_core::wire::request::ALL_RESOURCES.to_string()];
        let Ok(entries) = control::status(control, &names) else { return };
        self.daemon = true;
        for entry in entries {
            let Some(detail) = entry.outcome.ok().and_then(|status| status.detail) else { continue };
            if let Some((node, paused)) = &detail.pause {
                let (by, name) = (&paused.by, &entry.resource);
                self.warnings.push(format!(
                    "{name}: paused by {by} on {node}: nothing is taken over when a node fails; hastmonctl resume {name} ends it"
                ));
            }
            for other in detail.differences {
                self.warnings.push(format!(
                    "{}: {} runs another file: {} is {} there and {} here",
                    entry.resource, other.node, other.setting, other.there, other.here
                ));
            }
        }
    }

    /// More resources may be started at once than have a turn.
    fn some_may_wait(&self) -> bool {
        self.resources.len() > usize::try_from(self.max_hooks).unwrap_or(usize::MAX)
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} as node {}\n", self.file.display(), self.node);
        for (name, found) in &self.resources {
            // Writing to a string cannot fail.
            let _ = write_consequences(&mut text, name, found);
        }
        if self.some_may_wait() {
            let (many, max_hooks) = (self.resources.len(), self.max_hooks);
            text += &format!(
                "\n{many} resources, of which {max_hooks} are started at a time (max_hooks): when more are to be started at once, the others \
                 wait for their turn, and take longer than said above.\n"
            );
        }
        if !self.daemon {
            text += "\nNo daemon answers here: whether the other nodes have the same file is not known.\n";
        }
        for (what, list) in [("warning", &self.warnings), ("error", &self.errors)] {
            if !list.is_empty() {
                text.push('\n');
            }
            list.iter().for_each(|line| _ = writeln!(text, "{what}: {line}"));
        }
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        text + &format!("\n{}, {}\n", count(self.errors.len(), "error"), count(self.warnings.len(), "warning"))
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        let resources: Vec<Value> = self.resources.iter().map(|(name, found)| json_of(name, found)).collect();
        let value = json!({
            "schema": SCHEMA,
            "file": self.file.display().to_string(),
            "node": self.node,
            "daemon_answers": self.daemon,
            "max_hooks": self.max_hooks,
            "errors": self.errors,
            "warnings": self.warnings,
            "resources": resources,
        });
        format!("{value:#}\n")
    }
}

fn write_consequences(text: &mut String, name: &str, found: &Consequences) -> std::fmt::Result {
    let seconds = |span: Duration| format!("{:.2} s", span.as_secs_f64());
    let (nodes, list) = (found.nodes.len(), found.nodes.join(" "));
    writeln!(text, "\n{name}:")?;
    writeln!(text, "  a silent primary is noticed after       {}", seconds(found.detection))?;
    writeln!(text, "  power loss: started elsewhere after     {}", seconds(found.takeover))?;
    writeln!(
        text,
        "  killed daemon: started elsewhere after  {} at most (stop, then at once)",
        seconds(found.after_killed_daemon)
    )?;
    writeln!(
        text,
        "  longest interruption                    {} (with a start that takes all of its time)",
        seconds(found.longest_interruption)
    )?;
    writeln!(
        text,
        "  nodes                                   {nodes} ({list}); {} needed, any {} may fail",
        found.needed, found.may_fail
    )?;
    let watchdogs =
        if found.watchdogs.is_empty() { "none by role_on_start".to_string() } else { found.watchdogs.join(" ") };
    writeln!(text, "  may run it                              {}", found.runners.join(" "))?;
    writeln!(text, "  watchdogs                               {watchdogs}")
}

fn json_of(name: &str, found: &Consequences) -> Value {
    json!({
        "name": name,
        "detection_seconds": found.detection.as_secs_f64(),
        "takeover_after_power_loss_seconds": found.takeover.as_secs_f64(),
        "takeover_after_killed_daemon_seconds": found.after_killed_daemon.as_secs_f64(),
        "longest_interruption_seconds": found.longest_interruption.as_secs_f64(),
        "nodes": found.nodes,
        "votes_needed": found.needed,
        "nodes_that_may_fail": found.may_fail,
        "may_run": found.runners,
        "watchdogs": found.watchdogs,
        "warnings": found.warnings,
    })
}
