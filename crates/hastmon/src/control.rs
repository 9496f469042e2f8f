//! hastmonctl: asks the daemon over its control socket and shows the answer as hastmon 0.3 did.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use hastmon_core::types::{ErrorCode, Role};
use hastmon_core::wire::Lacks;
use hastmon_core::wire::frame::{self, CONTROL_LIMIT, HEADER_SIZE, Header, Version};
use hastmon_core::wire::nv::List;
use hastmon_core::wire::reply::{
    Entry, ExplainReply, PauseReply, ReloadReply, Reply, ResourceStatus, RoleReply, StatusReply, SwitchoverReply,
};
use hastmon_core::wire::request::{ALL_RESOURCES, Request, Via};

use crate::cli::{self, CtlArgs, CtlCommand, Force, Names, Selection, Shell};
use crate::config_file::{LoadError, Source};
use crate::history::reader::Wanted;
use crate::history::show::{Show, show};
use crate::history::since;
use crate::os::{log as log_sink, sysexits};
use crate::view;
use crate::watch::Watch;

/// A daemon that has not answered after this time is stuck: it never waits for anything itself.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// What the operator has to know before a primary does without a majority.
const FORCE_WARNING: &str = "\
With --force this node starts the resource without asking whether another one runs it.
Do that only when the other nodes are certainly off: switched off, or cut off from everything that the resource
writes to. A node that merely does not answer may run it, and what two nodes write at once may be lost for good.
";

/// Why hastmonctl has nothing to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("Cannot reach hastmon on its control socket {}: {source}. {hint}", path.display())]
    Unreachable { path: PathBuf, source: io::Error, hint: &'static str },
    #[error("hastmon does not answer on its control socket {}: {why}", path.display())]
    NoAnswer { path: PathBuf, why: String },
    #[error("{0:?} is no time; it may be {forms}", forms = since::FORMS)]
    NoTime(String),
    #[error("Cannot read the history in {}: {source}. It is in the state directory of the daemon (statedir, or -s)", path.display())]
    History { path: PathBuf, source: io::Error },
    #[error(
        "watch needs a terminal that can move its cursor, as standard input and output. Without one: hastmonctl status, hastmonctl history -f"
    )]
    NoTerminal,
    #[error("{0}")]
    System(#[from] io::Error),
}

impl ControlError {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Load(error) => error.exit_code(),
            Self::NoTime(_) | Self::NoTerminal => sysexits::USAGE,
            Self::History { .. } => sysexits::NOINPUT,
            Self::Unreachable { .. } | Self::NoAnswer { .. } | Self::System(_) => sysexits::OSERR,
        }
    }
}

/// Runs hastmonctl; the exit code is that of the process.
pub fn main(args: &CtlArgs) -> ExitCode {
    log_sink::init(args.common.debug);
    let code = match run(args) {
        Ok(code) => code,
        Err(ControlError::Load(LoadError::Faulty { report, .. })) => {
            // Made to be read as it is: with source lines and carets.
            eprint!("{report}");
            sysexits::CONFIG
        }
        Err(error) => {
            log::error!("{error}");
            error.exit_code()
        }
    };
    ExitCode::from(code)
}

fn run(args: &CtlArgs) -> Result<u8, ControlError> {
    match &args.command {
        CtlCommand::Dump => {
            print(&Source::new(&args.common)?.load()?.dump())?;
            Ok(sysexits::OK)
        }
        CtlCommand::Role(role, selection, force) => {
            let resources = names(selection);
            if *force == Force::Ask && !confirms_force(&resources)? {
                return Ok(sysexits::USAGE);
            }
            let request = Request::SetRole { role: *role, resources, force: *force != Force::No };
            let reply = ask(&control_path(args)?, &request, RoleReply::decode)?;
            Ok(show_role_reply(&reply))
        }
        CtlCommand::Status(selection) => {
            let request = Request::Status { resources: names(selection) };
            let reply = ask(&control_path(args)?, &request, StatusReply::decode)?;
            show_status_reply(&reply)
        }
        CtlCommand::StatusJson(selection) => {
            let request = Request::Status { resources: names(selection) };
            match ask(&control_path(args)?, &request, StatusReply::decode)? {
                Reply::Entries(entries) => {
                    print(&view::json(&entries))?;
                    Ok(code_of(&entries))
                }
                failed => show_status_reply(&failed),
            }
        }
        CtlCommand::Explain { resource } => {
            let request = Request::Explain { resource: resource.clone() };
            match ask(&control_path(args)?, &request, ExplainReply::decode)?.0 {
                Ok(sentences) => {
                    print(&view::sentences(&sentences))?;
                    Ok(sysexits::OK)
                }
                Err(why) => {
                    log::error!("{why}");
                    Ok(sysexits::REFUSED)
                }
            }
        }
        CtlCommand::Check { run, json } => {
            let checked = crate::check::check(&Source::new(&args.common)?, args.control.as_deref(), *run)?;
            print(&if *json { checked.json() } else { checked.text() })?;
            Ok(if checked.has_errors() { sysexits::CONFIG } else { sysexits::OK })
        }
        CtlCommand::TestExec { resource, yes } => test_exec(args, resource, *yes),
        CtlCommand::Completion(shell) => {
            print(match shell {
                Shell::Bash => include_str!("completion/hastmonctl.bash"),
                Shell::Zsh => include_str!("completion/_hastmonctl"),
                Shell::Fish => include_str!("completion/hastmonctl.fish"),
            })?;
            Ok(sysexits::OK)
        }
        CtlCommand::CompleteNames(of) => {
            // Whoever presses Tab wants names, and no errors.
            if let Ok((config, _)) = Source::new(&args.common).and_then(|source| source.read()) {
                let mut found: Vec<&str> = match of {
                    Names::Resources => config.resources.iter().map(|resource| resource.name.as_str()).collect(),
                    Names::Nodes => config.resources.iter().flat_map(|r| r.nodes.iter().map(String::as_str)).collect(),
                };
                found.sort_unstable();
                found.dedup();
                print(&found.iter().map(|name| format!("{name}\n")).collect::<String>())?;
            }
            Ok(sysexits::OK)
        }
        CtlCommand::Switchover { resource, to } => {
            let request = Request::Switchover { resource: resource.clone(), to: to.clone() };
            // As long as `stop` and `start` take: the daemon knows their time limits.
            let reply = ask_within(&control_path(args)?, &request, SwitchoverReply::decode, None)?;
            show_switchover_reply(&reply)
        }
        CtlCommand::Drill(drill) => crate::drill::drill(args, drill),
        CtlCommand::Watch { selection, statedir } => watch(args, selection, statedir.as_ref()),
        CtlCommand::History(history) => show_history(args, history),
        CtlCommand::Pause { selection, span } => {
            let request = Request::Pause { resources: names(selection), by: operator(), span: *span };
            // The daemon knows how long it waits for the others.
            let reply = ask_within(&control_path(args)?, &request, PauseReply::decode, None)?;
            show_pause_reply(&reply)
        }
        CtlCommand::Resume(selection) => {
            let request = Request::Resume { resources: names(selection) };
            let reply = ask_within(&control_path(args)?, &request, PauseReply::decode, None)?;
            show_pause_reply(&reply)
        }
        CtlCommand::Reload => match ask(&control_path(args)?, &Request::Reload, ReloadReply::decode)? {
            ReloadReply::Done(changes) => {
                print(&format!("The configuration is in force. Resources: {changes}.\n"))?;
                Ok(sysexits::OK)
            }
            ReloadReply::Refused(why) => {
                eprintln!("{}\nhastmon goes on with the configuration that it had.", why.trim_end());
                Ok(sysexits::CONFIG)
            }
        },
    }
}

/// With `-f`, so many events of before are shown.
const LAST_BEFORE: u64 = 10;

fn show_history(args: &CtlArgs, history: &cli::History) -> Result<u8, ControlError> {
    let since = history
        .since
        .as_ref()
        .map(|text| since::parse(text, &jiff::Zoned::now()).ok_or_else(|| ControlError::NoTime(text.clone())));
    let wanted = Wanted { since_ms: since.transpose()?, resource: history.resource.clone() };
    let path = match &history.statedir {
        Some(path) => path.clone(),
        None => Source::new(&args.common)?.load()?.statedir.into(),
    };
    let last = history.last.or_else(|| (history.follow && wanted.since_ms.is_none()).then_some(LAST_BEFORE));
    let what = Show { wanted, last, json: history.json, follow: history.follow };
    show(&path, what, io::stdout().lock()).map_err(|source| ControlError::History { path, source })?;
    Ok(sysexits::OK)
}

fn watch(args: &CtlArgs, selection: &Selection, statedir: Option<&PathBuf>) -> Result<u8, ControlError> {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let screen = view::Screen::of_stdout().filter(|_| io::stdin().is_terminal() && !is_dumb);
    let screen = screen.ok_or(ControlError::NoTerminal)?;
    let config = Source::new(&args.common).and_then(|source| source.load());
    let history = match (statedir, &config) {
        (Some(path), _) => Ok(path.clone()),
        (None, Ok(config)) => Ok(config.statedir.clone().into()),
        (None, Err(error)) => Err(error.to_string()),
    };
    let control = match (&args.control, config) {
        (Some(path), _) => path.clone(),
        (None, config) => config?.control.into(),
    };
    let names = if let Selection::Names(names) = selection { names.clone() } else { Vec::new() };
    let watch = Watch { names, control, history, has_colours: screen.has_colours };
    Ok(crate::watch::watch(watch)?)
}

/// Tries the script, unless the resource may run somewhere.
fn test_exec(args: &CtlArgs, name: &str, yes: bool) -> Result<u8, ControlError> {
    let (config, _) = Source::new(&args.common)?.read()?;
    let Some(resource) = config.resource(name) else {
        log::error!("there is no resource {name} on this node");
        return Ok(sysexits::REFUSED);
    };
    let control = args.control.clone().unwrap_or_else(|| config.control.clone().into());
    let why_not = match status(&control, &[name.to_string()]) {
        Err(_) if yes => None,
        Err(error) => Some(format!(
            "{error}\nWithout a daemon nobody knows whether {name} runs on another node. If you are sure that it runs nowhere, add --yes."
        )),
        Ok(entries) => entries.first().and_then(|entry| entry.outcome.as_ref().ok()).and_then(|status| {
            let runs_on = status.detail.as_ref().and_then(|detail| detail.runs_on.as_ref());
            if let Some(node) = runs_on {
                return Some(format!("{name} runs on {node}. Nothing was done."));
            }
            (status.role != Role::Init || status.workerpid != 0).then(|| {
                format!(
                    "{name} has the role {} here, and hastmon would interfere. Nothing was done. Before: hastmonctl role init {name}, on all nodes",
                    status.role
                )
            })
        }),
    };
    if let Some(why) = why_not {
        log::error!("{why}");
        return Ok(sysexits::REFUSED);
    }
    let node = resource.own_name(&config.node).to_string();
    let report = crate::exec::contract(resource, &node)?;
    print(&report.text)?;
    Ok(if report.breaks == 0 { sysexits::OK } else { sysexits::REFUSED })
}

/// What the daemon says of resources; for those who do without when there is none.
pub(crate) fn status(control: &Path, names: &[String]) -> Result<Vec<Entry<ResourceStatus>>, String> {
    let request = Request::Status { resources: names.to_vec() };
    match ask(control, &request, StatusReply::decode).map_err(|error| error.to_string())? {
        Reply::Entries(entries) => Ok(entries),
        Reply::Failed(error) => Err(format!("Received error {error} from hastmon.")),
    }
}

fn code_of(entries: &[Entry<ResourceStatus>]) -> u8 {
    if entries.iter().all(|entry| entry.outcome.is_ok()) { sysexits::OK } else { sysexits::REFUSED }
}

pub(crate) fn control_path(args: &CtlArgs) -> Result<PathBuf, ControlError> {
    match &args.control {
        Some(path) => Ok(path.clone()),
        None => Ok(Source::new(&args.common)?.load()?.control.into()),
    }
}

fn names(selection: &Selection) -> Vec<String> {
    match selection {
        Selection::All => vec![ALL_RESOURCES.to_string()],
        Selection::Names(names) => names.clone(),
    }
}

/// A reader who is gone (`hastmonctl status | head -1`) wanted no more of it.
pub(crate) fn print(text: &str) -> Result<(), ControlError> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Has the operator say that no other node runs these resources.
fn confirms_force(resources: &[String]) -> io::Result<bool> {
    let to_what = format!("start here without a majority: {}", resources.join(", "));
    confirms(FORCE_WARNING, "you are sure", &to_what)
}

/// Warns the operator, and has him or her type yes to what is about to be done. Without a terminal there is nobody to ask.
///
/// # Errors
/// The terminal cannot be read.
pub(crate) fn confirms(warning: &str, if_what: &str, to_what: &str) -> io::Result<bool> {
    eprint!("{warning}");
    if !io::stdin().is_terminal() {
        log::error!("Nothing was done: there is no terminal to ask on. If {if_what}, add --yes.");
        return Ok(false);
    }
    eprint!("Type yes to {to_what}\n> ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let confirms = answer.trim() == "yes";
    if !confirms {
        log::error!("Nothing was done.");
    }
    Ok(confirms)
}

/// One question, one answer, which takes no time.
fn ask<T>(path: &Path, request: &Request, decode: fn(&List) -> Result<T, Lacks>) -> Result<T, ControlError> {
    ask_within(path, request, decode, Some(ANSWER_TIME))
}

pub(crate) fn ask_within<T>(
    path: &Path,
    request: &Request,
    decode: fn(&List) -> Result<T, Lacks>,
    answer_time: Option<Duration>,
) -> Result<T, ControlError> {
    let no_answer = |why: String| ControlError::NoAnswer { path: path.into(), why };
    let mut stream = UnixStream::connect(path).map_err(|source| ControlError::Unreachable {
        path: path.into(),
        hint: match source.kind() {
            io::ErrorKind::PermissionDenied => "Only its owner may: become root, or the user that hastmon runs as.",
            _ => "Is it running? Start it with: hastmon",
        },
        source,
    })?;
    stream.set_read_timeout(answer_time)?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    let message = frame::encode(Version::V0, &request.encode(Via::ControlSocket), CONTROL_LIMIT);
    let message = message.map_err(|error| no_answer(error.to_string()))?;
    stream.write_all(&message).map_err(|error| no_answer(in_words(&error)))?;
    let reply = receive(&mut stream).map_err(|error| no_answer(in_words(&error)))?;
    decode(&reply).map_err(|error| no_answer(error.to_string()))
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("it has said nothing for {ANSWER_TIME:?}"),
        io::ErrorKind::UnexpectedEof => "it closed the connection".to_string(),
        _ => error.to_string(),
    }
}

fn receive(stream: &mut impl Read) -> io::Result<List> {
    let mut header = [0; HEADER_SIZE];
    stream.read_exact(&mut header)?;
    let header = Header::decode(header, &[Version::V0], CONTROL_LIMIT).map_err(io::Error::other)?;
    let mut body = vec![0; header.size];
    stream.read_exact(&mut body)?;
    List::decode(&body).map_err(io::Error::other)
}

fn show_role_reply(reply: &RoleReply) -> u8 {
    match reply {
        Reply::Failed(error) => {
            log::warn!("Received error {error} from hastmon.");
            sysexits::REFUSED
        }
        Reply::Entries(entries) => {
            let mut code = sysexits::OK;
            for Entry { resource, outcome } in entries {
                if let Err(error) = outcome {
                    if *error == ErrorCode::Paused.to_wire() {
                        log::error!(target: resource, "It is paused (hastmonctl status says by whom): hastmonctl resume {resource} first.");
                    }
                    log::warn!(target: resource, "Received error {error} from hastmon.");
                    code = sysexits::REFUSED;
                }
            }
            code
        }
    }
}

/// Who is at the keyboard, as far as that is known: to be shown to others, and for nothing else.
fn operator() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    name.unwrap_or_else(|| match rustix::process::getuid().as_raw() {
        0 => "root".to_string(),
        uid => format!("uid {uid}"),
    })
}

fn show_pause_reply(reply: &PauseReply) -> Result<u8, ControlError> {
    let mut code = sysexits::OK;
    for entry in &reply.entries {
        match entry {
            Ok(text) => print(&format!("{text}\n"))?,
            Err(why) => {
                log::error!("{why}");
                code = sysexits::REFUSED;
            }
        }
    }
    Ok(code)
}

fn show_switchover_reply(reply: &SwitchoverReply) -> Result<u8, ControlError> {
    print(&steps_text(&reply.steps))?;
    Ok(match &reply.outcome {
        Ok(()) => sysexits::OK,
        Err(why) => {
            log::error!("{why}");
            sysexits::REFUSED
        }
    })
}

/// A line for each step with the time that it took, and one with the sum.
fn steps_text(steps: &[(String, Duration)]) -> String {
    let mut text = String::new();
    for (step, took) in steps {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{step}: {:.3} s", took.as_secs_f64());
    }
    if steps.len() > 1 {
        let all = steps.iter().fold(Duration::ZERO, |sum, (_, took)| sum.saturating_add(*took));
        let _ = writeln!(text, "together: {:.3} s", all.as_secs_f64());
    }
    text
}

fn show_status_reply(reply: &StatusReply) -> Result<u8, ControlError> {
    match reply {
        Reply::Failed(error) => {
            log::warn!("Received error {error} from hastmon.");
            Ok(sysexits::REFUSED)
        }
        Reply::Entries(entries) => {
            let blocks = entries.iter().map(|entry| (entry, status_text(entry)));
            print(&match view::Screen::of_stdout() {
                // Scripts read it: not a byte more.
                None => blocks.map(|(_, text)| text).collect(),
                Some(screen) => view::for_people(&blocks.collect::<Vec<_>>(), screen),
            })?;
            Ok(code_of(entries))
        }
    }
}

/// The block of one resource, byte for byte as hastmon 0.3 wrote it, since scripts read it; our own lines follow.
fn status_text(entry: &Entry<ResourceStatus>) -> String {
    let mut text = format!("{}:\n", entry.resource);
    // Writing to a string cannot fail.
    let _ = match &entry.outcome {
        Err(error) => writeln!(text, "  error: {error}"),
        Ok(status) => write_status(&mut text, status),
    };
    text
}

fn write_status(text: &mut String, status: &ResourceStatus) -> std::fmt::Result {
    writeln!(text, "  role: {}", status.role)?;
    if status.workerpid != 0 {
        writeln!(text, "  workerpid: {}", status.workerpid)?;
    }
    writeln!(text, "  exec: {}", status.exec)?;
    writeln!(text, "  remote:")?;
    for remote in &status.remotes {
        match (&remote.role, &remote.state) {
            (Some(role), Some(state)) => writeln!(text, "    {} ({role}/{state})", remote.addr)?,
            (None, Some(state)) => writeln!(text, "    {} ({state})", remote.addr)?,
            (_, None) => writeln!(text, "    {}", remote.addr)?,
        }
    }
    if let Some(worker) = &status.worker {
        writeln!(text, "  state: {}", worker.state)?;
        writeln!(text, "  attempts: {} from {}", worker.attempts, status.attempts_max)?;
    }
    let interval = seconds(status.complaints_interval);
    writeln!(
        text,
        "  complaints: {} for last {interval} sec (threshold {})",
        status.complaints, status.complaints_critical
    )?;
    writeln!(text, "  heartbeat: {} sec", seconds(status.heartbeat))?;
    if let Some(silent_for) = status.stuck_for {
        writeln!(
            text,
            "  stuck: the worker has said nothing for {} sec; what stands above is old",
            silent_for.as_secs()
        )?;
    }
    for (name, value) in &status.lines {
        writeln!(text, "  {name}: {value}")?;
    }
    writeln!(text)
}

/// Seconds as hastmon 0.3 wrote them, with a fraction only where there is one.
fn seconds(span: Duration) -> String {
    let text = format!("{}.{:03}", span.as_secs(), span.subsec_millis());
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_a_second_is_shown_only_where_there_is_one() {
        for (ms, text) in [(1000, "1"), (60_000, "60"), (500, "0.5"), (1250, "1.25"), (10_010, "10.01"), (25, "0.025")]
        {
            assert_eq!(seconds(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn a_resource_without_a_worker_shows_neither_pid_nor_state() {
        let status = ResourceStatus {
            exec: "/lab/res.sh".to_string(),
            attempts_max: 5,
            remotes: vec![hastmon_core::wire::reply::RemoteStatus {
                addr: "tcp4://10.77.0.2".to_string(),
                state: None,
                role: None,
            }],
            role: Role::Init,
            workerpid: 0,
            complaints: 0,
            complaints_critical: 3,
            complaints_interval: Duration::from_secs(60),
            heartbeat: Duration::from_secs(10),
            worker: None,
            stuck_for: None,
            lines: Vec::new(),
            detail: None,
        };
        let entry = Entry { resource: "res".to_string(), outcome: Ok(status) };
        let expected = "res:\n  role: init\n  exec: /lab/res.sh\n  remote:\n    tcp4://10.77.0.2\n  \
                        complaints: 0 for last 60 sec (threshold 3)\n  heartbeat: 10 sec\n\n";
        assert_eq!(status_text(&entry), expected);
    }

    #[test]
    fn our_own_lines_follow_those_of_the_original() {
        let mut list = List::new().with_str("resource0", "res").with_str("exec0", "/x").with_i32("attempts_max0", 5);
        for name in ["workerpid0", "complaints0"] {
            list = list.with_i32(name, 0);
        }
        let list = list
            .with_u8("role0", Role::Primary.to_wire())
            .with_i32("complaints_critical0", 3)
            .with_i32("complaints_interval0", 60)
            .with_i32("heartbeat0", 1)
            .with_str("extra0.0", "epoch")
            .with_str("extravalue0.0", "17")
            .with_str("extra0.1", "lease")
            .with_str("extravalue0.1", "none");
        let Reply::Entries(entries) = StatusReply::decode(&list).unwrap() else { panic!("{list:?}") };
        let text = status_text(&entries[0]);
        assert!(text.ends_with("  heartbeat: 1 sec\n  epoch: 17\n  lease: none\n\n"), "{text}");
    }

    #[test]
    fn each_step_of_a_switchover_has_its_time_and_all_have_a_sum() {
        let steps = [("stopped on a", 1_250_400), ("started on b", 80_000)];
        let steps = steps.map(|(step, took_us)| (step.to_string(), Duration::from_micros(took_us)));
        assert_eq!(steps_text(&steps), "stopped on a: 1.250 s\nstarted on b: 0.080 s\ntogether: 1.330 s\n");
        assert_eq!(steps_text(&steps[..1]), "stopped on a: 1.250 s\n");
        assert_eq!(steps_text(&[]), "");
    }
}
