//! The command lines of both programs: what is typed becomes a typed value, or a text and an exit code. Never reads a file, never exits.
//! The help texts are for someone who has been called at night: what it is, what is where, what to type, what the exit code means.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand};
use hastmon_core::types::Role;

use crate::os::sysexits;

/// Where the configuration is when `-c` does not say.
pub const DEFAULT_CONFIG: &str = "/usr/local/etc/hastmon.conf";

/// Where the pid of the daemon is written when `-P` does not say.
pub const DEFAULT_PIDFILE: &str = "/var/run/hastmon.pid";

/// The word that stands for every resource.
const ALL: &str = "all";

const DAEMON_USAGE: &str = "\
hastmon [-dFhV] [-c config] [-n node] [-P pidfile] [-s statedir]
               [--legacy-peers]";

const DAEMON_ABOUT: &str = "\
hastmon runs each resource of its configuration on one node of the cluster, and
starts it on another node when that one fails.";

const DAEMON_HELP: &str = "\
Start: hastmon reads the configuration, opens its sockets and goes to the
background. Until then errors come to the terminal; from then on they are in the
system's log (facility daemon).

Files:
  /usr/local/etc/hastmon.conf  configuration, the same file on every node
  /var/run/hastmon.pid         process id of the daemon
  /var/run/hastmonctl          socket that hastmonctl talks to
  /var/lib/hastmon             votes that it has given, so that a restart does
    (/var/db on FreeBSD)         not give them twice; pauses; the history

Signals:
  HUP        read the configuration again; a faulty file changes nothing
  TERM, INT  stop the resources that run on this node, then exit; what is
             paused, with votes kept by a majority, runs on

What to type:
  hastmonctl status              what this node does, and what it knows
  hastmonctl dump                check the configuration and show its meaning
  hastmonctl switchover web      move the resource web from here elsewhere
  hastmon -F -d                  run in this terminal and tell what happens
  ps ax | grep '[h]astmon: '     the workers: one process for each resource

Exit codes:
  0 done             64 wrong usage          66 a file cannot be read
  69 unavailable     70 fault of hastmon     71 the system refused
  73 no pidfile      75 another one runs     78 faulty configuration

See also hastmon(8), hastmonctl(8), hastmon.conf(5).";

const CTL_USAGE: &str = "\
hastmonctl role [-d] [-c config] [-n node] ROLE all|name...
       hastmonctl role --force [--yes] [-d] [-c conf] [-n node] primary name...
       hastmonctl switchover [-d] [-c config] [-n node] RESOURCE [NODE]
       hastmonctl drill [-dy] [-c config] [-n N] [--json] RESOURCE [NODE]
       hastmonctl pause [--for DURATION] [-d] [-c config] [-n node] all|name...
       hastmonctl resume [-d] [-c config] [-n node] all|name...
       hastmonctl status [--json] [-d] [-c config] [-n node] [all|name...]
       hastmonctl watch [-d] [-c config] [-n node] [-s statedir] [all|name...]
       hastmonctl history [-d] [-c config] [-s statedir] [-n N] [--since T]
               [--resource R] [--json] [-f]
       hastmonctl explain [-d] [-c config] [-n node] RESOURCE
       hastmonctl check [--run] [--json] [-d] [-c config] [-n node]
       hastmonctl test-exec [--yes] [-d] [-c config] [-n node] RESOURCE
       hastmonctl reload [-d] [-c config] [-n node]
       hastmonctl dump [-d] [-c config] [-n node]
       hastmonctl completion bash|zsh|fish";

const ROLE_USAGE: &str = "\
hastmonctl role [-d] [-c config] [-n node] ROLE all|name...
       hastmonctl role --force [--yes] [-d] [-c conf] [-n node] primary name...
where ROLE is init, primary, secondary or watchdog";

const SWITCHOVER_USAGE: &str = "hastmonctl switchover [-d] [-c config] [-n node] RESOURCE [NODE]";

const SWITCHOVER_HELP: &str = "\
Call it on the node that runs the resource. It stops it here, hands the votes to
NODE (default: the best of the nodes that are ready), starts it there, and tells
how long each step took. If no node is ready nothing is stopped. If the start
there fails the resource is started here again. It waits for all of that; when
it is interrupted the switchover goes on nevertheless.

Or call it on a secondary with its own name as NODE: it has the primary hand the
resource over to it, whatever their priorities.

Exit code 1 when the resource has not moved: the text says why.";

const DRILL_USAGE: &str = "hastmonctl drill [-dy] [-c config] [-n N] [--json] RESOURCE [NODE]";

const DRILL_HELP: &str = "\
Call it on the node that runs the resource: it goes to NODE by switchover, and
back, N times, and you see how long each step took. The service is interrupted
2 x N times, so it asks first. It ends at the first switchover that fails, and
says where the resource runs then. Interrupted (Ctrl-C, TERM, HUP), it waits for
the switchover that runs, and brings the resource back.
--node names the node here, as -n is the number of rounds.

Exit code 1 when not all rounds were made, 64 when there is nobody to ask.";

const PAUSE_USAGE: &str = "hastmonctl pause [--for DURATION] [-d] [-c config] [-n node] all|name...";

const PAUSE_HELP: &str = "\
While a resource is paused, no node of the cluster starts it, stops it or takes
it over. Everything else goes on. It does not matter on which node it is called,
and it survives restarts of hastmon: a daemon that is stopped or upgraded leaves
the resource running.

It waits for a moment and tells how many nodes keep their votes for the primary.
With a majority of them its daemon may be stopped; without one it would stop the
resource, because another node could start it. Exit code 1 then.

DURATION is a number with ms, s, m, h or d, such as 30m; a year at most.";

const RESUME_USAGE: &str = "hastmonctl resume [-d] [-c config] [-n node] all|name...";

const RESUME_HELP: &str = "\
Ends a pause on all nodes. A node that cannot be reached hears of it when it is
back; until then nobody takes over what its daemon has left running. If it will
never be back: hastmonctl role --force primary, on another node.";

const STATUS_USAGE: &str = "\
hastmonctl status [--json | -w] [-d] [-c config] [-n node] [all|name...]";

const WATCH_USAGE: &str = "\
hastmonctl watch [-d] [-c config] [-n node] [-s statedir] [all|name...]";

const WATCH_HELP: &str = "\
All resources, the nodes of the selected one, and the last events of the
history, as they change. Keys: j/k or arrows select, s switches over, p pauses,
u resumes, ? helps, q quits. Before anything is changed there is a question.
It goes on when the daemon is restarted. Without a terminal: exit code 64.";

const EXPLAIN_USAGE: &str = "hastmonctl explain [-d] [-c config] [-n node] RESOURCE";

const EXPLAIN_HELP: &str = "\
As this node sees it. Where it and another node say different things, the one
that runs the resource is right.

Exit code 1 when there is no resource of that name.";

const CHECK_USAGE: &str = "hastmonctl check [--run] [--json] [-d] [-c config] [-n node]";

const CHECK_HELP: &str = "\
It needs no daemon. If one answers, it also says which nodes run another file.
Warnings are told apart from errors, and do not change the exit code.

Exit code 78 when there is an error, else 0.";

const TEST_EXEC_USAGE: &str = "hastmonctl test-exec [--yes] [-d] [-c config] [-n node] RESOURCE";

const TEST_EXEC_HELP: &str = "\
It starts the resource on this node twice, stops it twice, asks for its status
after each, and calls the script with an event that does not exist; each within
the time limits of the configuration. At the end it is stopped. The resource
must have the role init here, and run nowhere. If no daemon answers that could
tell so, it wants --yes: you answer for it.

Exit code 1 when the script breaks the contract, or the test was refused.";

const COMPLETION_USAGE: &str = "hastmonctl completion bash|zsh|fish";

const COMPLETION_HELP: &str = "\
bash: hastmonctl completion bash > /etc/bash_completion.d/hastmonctl
zsh:  hastmonctl completion zsh > a directory of $fpath, as _hastmonctl
fish: hastmonctl completion fish > ~/.config/fish/completions/hastmonctl.fish";

const RELOAD_USAGE: &str = "hastmonctl reload [-d] [-c config] [-n node]";

const RELOAD_HELP: &str = "\
The daemon checks the file as a whole first. A faulty one changes nothing; the
exit code is 78 then, with every error shown. What the file does not change goes
on untouched. Where the new file moves the control socket, name the old one with
--control, or send the daemon a HUP signal.";

const HISTORY_USAGE: &str = "\
hastmonctl history [-d] [-c config] [-s statedir] [-n N] [--since T]
               [--resource R] [--json] [-f]";

const HISTORY_HELP: &str = "\
What has happened, from the files that the daemon writes in its state directory:
roles, votes, leases, calls of the script with their last lines of output,
connections, complaints, refusals, and what operators have asked for. The daemon
is not asked and need not run.

T is how long ago (30m, 2h, 3d) or a time of this host (01:30, 2026-11-23,
\"2026-11-23 01:30\"), or one with its zone (2026-11-23T00:30:00Z).
--node names the node here, as -n is the number of events.

  hastmonctl history --since 2h --resource web
  hastmonctl history -f
  hastmonctl history --json | jq -r 'select(.kind == \"role_changed\").text'";

const DUMP_USAGE: &str = "hastmonctl dump [-d] [-c config] [-n node]";

const CTL_ABOUT: &str = "hastmonctl shows and changes what the hastmon daemon of this node does.";

const CTL_HELP: &str = "\
What to type:
  hastmonctl status              all resources of this node
  hastmonctl status web db       these two
  hastmonctl watch               the same as it changes, with keys
  hastmonctl explain web         why it runs where it runs, or nowhere
  hastmonctl check               what is wrong, and what the settings lead to
  hastmonctl switchover web      move the resource web from here elsewhere
  hastmonctl drill web           there and back, to see how long it takes
  hastmonctl role primary web    run the resource web on this node
  hastmonctl pause all           let nobody start or stop anything for a while
  hastmonctl role init all       switch everything off on this node
  hastmonctl dump                check the configuration and show its meaning
  hastmonctl history -n 50       the last 50 things that happened
  hastmonctl reload              put a changed configuration into force

It finds the daemon by the configuration (control, else /var/run/hastmonctl), or
by --control PATH, which also works while the configuration is faulty.

Exit codes:
  0 done             1 an error for one of the resources, such as: no such name
  64 wrong usage     66 the configuration cannot be read
  71 the daemon cannot be reached: does it run? (as root: hastmon)
  78 faulty configuration

See also hastmonctl(8), hastmon(8), hastmon.conf(5).";

const ROLE_HELP: &str = "\
Roles:
  primary    runs the resource
  secondary  makes sure that it does not run here, and takes over when the
             primary fails
  watchdog   watches the others and complains when nobody runs it
  init       off: nothing runs, nothing is checked

To move a resource, call hastmonctl switchover where it runs.

--force: a primary starts its resource when a majority of the nodes has voted
for it, so that no two nodes run it. With --force it does not wait for them.
That is for the day on which a majority is gone for good. Use it only when you
know that the other nodes are off: one that still runs the resource goes on with
it, and what both write may be lost. It asks for your word, or wants --yes too.";

const STATUS_HELP: &str = "\
Exit code 1 when there is no resource of a given name.";

const DUMP_HELP: &str = "\
The text is a configuration again, with every value that holds on this node;
secrets are hidden. The daemon is not asked: a faulty file is reported with
file, line and column, exit code 78.";

/// What ends a program before it has begun: help, version, or a wrong command line.
#[derive(Debug, PartialEq, Eq)]
pub struct EarlyExit {
    /// What to print. Ends with a newline.
    pub text: String,
    /// 0 when it was asked for (the text goes to stdout), else 64 (to stderr).
    pub code: u8,
}

impl EarlyExit {
    /// Prints the text where it belongs.
    pub fn report(&self) -> ExitCode {
        // A reader who is gone wanted no more of it.
        let _ = match self.code {
            sysexits::OK => io::stdout().write_all(self.text.as_bytes()),
            _ => io::stderr().write_all(self.text.as_bytes()),
        };
        ExitCode::from(self.code)
    }
}

impl From<clap::Error> for EarlyExit {
    fn from(error: clap::Error) -> Self {
        let code = if error.use_stderr() { sysexits::USAGE } else { sysexits::OK };
        Self { text: error.render().to_string(), code }
    }
}

/// The command line of `hastmon`.
#[derive(Debug, PartialEq, Eq, Parser)]
#[command(name = "hastmon", version, about = DAEMON_ABOUT, after_help = DAEMON_HELP, override_usage = DAEMON_USAGE)]
#[command(args_override_self = true)]
pub struct DaemonArgs {
    /// Options that both programs have.
    #[command(flatten)]
    pub common: Common,
    /// Stay in the foreground and log to stderr
    #[arg(short = 'F', long)]
    pub foreground: bool,
    /// Directory of what must outlive the daemon
    #[arg(short, long, value_name = "DIR")]
    pub statedir: Option<PathBuf>,
    /// Speak with hastmon 0.3 as well, without a lease
    #[arg(long)]
    pub legacy_peers: bool,
    /// File for the process id
    #[arg(short = 'P', long, value_name = "FILE", default_value = DEFAULT_PIDFILE)]
    pub pidfile: PathBuf,
}

/// The options that both programs have.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Common {
    /// Configuration
    #[arg(short, long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Tell more; twice, tell everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub debug: u8,
    /// Act as this node, whatever the host is called
    #[arg(short, long, global = true, value_name = "NAME")]
    pub node: Option<String>,
}

/// The command line of `hastmonctl`.
#[derive(Debug, PartialEq, Eq)]
pub struct CtlArgs {
    /// Options that hold for every command.
    pub common: Common,
    /// The control socket, when the configuration is not to be asked for it.
    pub control: Option<PathBuf>,
    /// What to do.
    pub command: CtlCommand,
}

/// What `hastmonctl` is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum CtlCommand {
    /// Give resources a role.
    Role(Role, Selection, Force),
    /// Hand a resource over to a node, or to the best one.
    Switchover {
        /// The resource.
        resource: String,
        /// The node, when it is named.
        to: Option<String>,
    },
    /// Hand a resource over there and back.
    Drill(Drill),
    /// Pause resources.
    Pause {
        /// Which.
        selection: Selection,
        /// For how long; `None`: until they are resumed.
        span: Option<Duration>,
    },
    /// End their pause.
    Resume(Selection),
    /// Show resources.
    Status(Selection),
    /// Show them for programs.
    StatusJson(Selection),
    /// Show them as they change, with keys to change something.
    Watch {
        /// The resources.
        selection: Selection,
        /// The state directory, when the configuration is not to be asked for it.
        statedir: Option<PathBuf>,
    },
    /// Say why a resource runs where it runs.
    Explain {
        /// The resource.
        resource: String,
    },
    /// Check the configuration and all that it names.
    Check {
        /// Call `status` of each script.
        run: bool,
        /// For programs.
        json: bool,
    },
    /// Try the script of a resource that runs nowhere.
    TestExec {
        /// The resource.
        resource: String,
        /// The operator answers for that when no daemon can tell.
        yes: bool,
    },
    /// Print what a shell needs to complete words.
    Completion(Shell),
    /// Print the names that a shell may complete.
    CompleteNames(Names),
    /// Show the configuration as understood.
    Dump,
    /// Have the daemon read its configuration again.
    Reload,
    /// Show what has happened.
    History(History),
}

/// What of the history is to be shown, and how.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct History {
    // Of the same identity as the option of all commands, which gives its short form up here.
    /// Act as this node of the configuration
    #[arg(id = "node", long = "node", value_name = "NAME")]
    pub own_node: Option<String>,
    /// State directory, whatever the configuration says
    #[arg(short, long, value_name = "DIR")]
    pub statedir: Option<PathBuf>,
    /// The last N events alone (with -f: 10)
    #[arg(short = 'n', long = "lines", value_name = "N")]
    pub last: Option<u64>,
    /// Events since then alone
    #[arg(long, value_name = "T")]
    pub since: Option<String>,
    /// Events of this resource alone
    #[arg(long, value_name = "R")]
    pub resource: Option<String>,
    /// Lines of JSON, as hastmonctl(8) describes them
    #[arg(long)]
    pub json: bool,
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub follow: bool,
}

/// Rounds of one drill, at most: more than anybody waits for.
const MAX_ROUNDS: i64 = 1000;

/// A drill.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct Drill {
    // Of the same identity as the option of all commands, which gives its short form up here.
    /// Act as this node of the configuration
    #[arg(id = "node", long = "node", value_name = "NAME")]
    pub own_node: Option<String>,
    /// So many rounds: there and back
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MAX_ROUNDS))]
    pub rounds: u32,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// As JSON, at the end
    #[arg(long)]
    pub json: bool,
    /// The resource
    pub resource: String,
    /// The node to go to
    #[arg(value_name = "NODE")]
    pub to: Option<String>,
}

/// A shell that completes words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Names that a shell may complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Names {
    /// Those of the resources.
    Resources,
    /// Those of the nodes.
    Nodes,
}

/// Whether a primary waits for a majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// It does.
    No,
    /// It does not, if the operator says so when asked.
    Ask,
    /// It does not, as the operator has said already.
    Yes,
}

/// Which resources are meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Selection {
    /// All that the configuration has for this node.
    All,
    /// These, in this order. Never empty.
    Names(Vec<String>),
}

#[derive(Parser)]
#[command(name = "hastmonctl", version, about = CTL_ABOUT, after_help = CTL_HELP, override_usage = CTL_USAGE)]
#[command(disable_help_subcommand = true, args_override_self = true)]
struct CtlLine {
    #[command(flatten)]
    common: Common,
    /// Control socket, whatever the configuration says
    #[arg(long, global = true, value_name = "PATH")]
    control: Option<PathBuf>,
    #[command(subcommand)]
    command: CtlWord,
}

#[derive(Subcommand)]
enum CtlWord {
    /// Give resources a role on this node
    #[command(after_help = ROLE_HELP, override_usage = ROLE_USAGE)]
    Role {
        /// Do not wait for votes: the other nodes are off
        #[arg(long)]
        force: bool,
        /// With --force: do not ask
        #[arg(long, requires = "force")]
        yes: bool,
        /// The new role
        #[arg(value_parser = role_parser())]
        role: Role,
        /// Resources, or "all"
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Hand a resource that runs here to another node
    #[command(after_help = SWITCHOVER_HELP, override_usage = SWITCHOVER_USAGE)]
    Switchover {
        /// The resource
        resource: String,
        /// The node that is to run it
        #[arg(value_name = "NODE")]
        to: Option<String>,
    },
    /// Move a resource to another node and back, and measure it
    #[command(after_help = DRILL_HELP, override_usage = DRILL_USAGE)]
    Drill(Drill),
    /// Start, stop and take over nothing, in the whole cluster
    #[command(after_help = PAUSE_HELP, override_usage = PAUSE_USAGE)]
    Pause {
        /// Resume by itself after this time
        #[arg(long = "for", value_name = "DURATION", value_parser = span)]
        span: Option<Duration>,
        /// Resources, or "all"
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// End a pause
    #[command(after_help = RESUME_HELP, override_usage = RESUME_USAGE)]
    Resume {
        /// Resources, or "all"
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Say why a resource runs where it runs, or why nobody runs it
    #[command(after_help = EXPLAIN_HELP, override_usage = EXPLAIN_USAGE)]
    Explain {
        /// The resource
        resource: String,
    },
    /// Check the configuration and say what follows from it
    #[command(after_help = CHECK_HELP, override_usage = CHECK_USAGE)]
    Check {
        /// Call status of each script, too
        #[arg(long)]
        run: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Try the exec script of a resource that runs nowhere
    #[command(after_help = TEST_EXEC_HELP, override_usage = TEST_EXEC_USAGE)]
    TestExec {
        /// It runs nowhere, whatever can be known
        #[arg(long)]
        yes: bool,
        /// The resource
        resource: String,
    },
    /// Print the completion for a shell
    #[command(after_help = COMPLETION_HELP, override_usage = COMPLETION_USAGE)]
    Completion {
        /// The shell
        shell: Shell,
    },
    #[command(hide = true)]
    CompleteNames { of: Names },
    /// Show resources: role, state, remotes, complaints
    #[command(after_help = STATUS_HELP, override_usage = STATUS_USAGE)]
    Status {
        /// As JSON
        #[arg(long, conflicts_with = "watch")]
        json: bool,
        /// As they change: the same as the command watch
        #[arg(short, long)]
        watch: bool,
        /// Resources; none, or "all", for every one of this node
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show resources, nodes and events as they change
    #[command(after_help = WATCH_HELP, override_usage = WATCH_USAGE)]
    Watch {
        /// State directory, whatever the configuration says
        #[arg(short, long, value_name = "DIR")]
        statedir: Option<PathBuf>,
        /// Resources; none, or "all", for every one of this node
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show what has happened on this node
    #[command(after_help = HISTORY_HELP, override_usage = HISTORY_USAGE)]
    History(History),
    /// Have the daemon read its configuration again
    #[command(after_help = RELOAD_HELP, override_usage = RELOAD_USAGE)]
    Reload,
    /// Check the configuration and print it as understood
    #[command(after_help = DUMP_HELP, override_usage = DUMP_USAGE)]
    Dump,
}

fn role_parser() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|word| word.parse::<Role>())
}

/// The longest pause that ends by itself: a year.
const LONGEST_PAUSE: Duration = Duration::from_secs(366 * 24 * 3600);

/// A number with a unit, as in the configuration.
fn span(word: &str) -> Result<Duration, String> {
    let at = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (number, unit) = word.split_at(at);
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("not a duration such as 90s, 30m or 2h".to_string()),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    let span = ms.map(Duration::from_millis).filter(|span| !span.is_zero() && *span <= LONGEST_PAUSE);
    span.ok_or_else(|| "not a duration such as 90s, 30m or 2h, of a year at most".to_string())
}

/// Reads the command line of `hastmon`; the first word is the program's name.
///
/// # Errors
/// Help or the version is asked for, or the line is wrong.
pub fn parse_daemon(words: impl IntoIterator<Item = OsString>) -> Result<DaemonArgs, EarlyExit> {
    Ok(DaemonArgs::try_parse_from(words)?)
}

/// Reads the command line of `hastmonctl`; the first word is the program's name.
///
/// # Errors
/// Help or the version is asked for, or the line is wrong.
pub fn parse_ctl(words: impl IntoIterator<Item = OsString>) -> Result<CtlArgs, EarlyExit> {
    let CtlLine { common, control, command } = CtlLine::try_parse_from(words)?;
    let command = match command {
        CtlWord::Role { role, names, force, yes } => role_command(role, select(names)?, force, yes)?,
        CtlWord::Switchover { resource, to } => CtlCommand::Switchover { resource, to },
        CtlWord::Drill(drill) => CtlCommand::Drill(drill),
        CtlWord::Pause { span, names } => CtlCommand::Pause { selection: select(names)?, span },
        CtlWord::Resume { names } => CtlCommand::Resume(select(names)?),
        CtlWord::Status { names, watch: true, .. } => CtlCommand::Watch { selection: select(names)?, statedir: None },
        CtlWord::Status { names, json: false, .. } => CtlCommand::Status(select(names)?),
        CtlWord::Status { names, json: true, .. } => CtlCommand::StatusJson(select(names)?),
        CtlWord::Watch { names, statedir } => CtlCommand::Watch { selection: select(names)?, statedir },
        CtlWord::Explain { resource } => CtlCommand::Explain { resource },
        CtlWord::Check { run, json } => CtlCommand::Check { run, json },
        CtlWord::TestExec { resource, yes } => CtlCommand::TestExec { resource, yes },
        CtlWord::Completion { shell } => CtlCommand::Completion(shell),
        CtlWord::CompleteNames { of } => CtlCommand::CompleteNames(of),
        CtlWord::Dump => CtlCommand::Dump,
        CtlWord::Reload => CtlCommand::Reload,
        CtlWord::History(history) => CtlCommand::History(history),
    };
    Ok(CtlArgs { common, control, command })
}

/// Only a primary waits for a majority. Who overrides that names each resource.
fn role_command(role: Role, selection: Selection, force: bool, yes: bool) -> Result<CtlCommand, EarlyExit> {
    if force && role != Role::Primary {
        return Err(wrong_usage("--force is for the role primary alone: no other role waits for anything"));
    }
    if force && selection == Selection::All {
        return Err(wrong_usage("--force needs the names of the resources, not \"all\""));
    }
    let force = match (force, yes) {
        (false, _) => Force::No,
        (true, false) => Force::Ask,
        (true, true) => Force::Yes,
    };
    Ok(CtlCommand::Role(role, selection, force))
}

fn wrong_usage(what: &str) -> EarlyExit {
    EarlyExit { text: format!("error: {what}\n\nUsage: {CTL_USAGE}\n"), code: sysexits::USAGE }
}

/// `all` beside names is refused: whoever types it means one or the other, and a role for all is not to be had by mistake.
fn select(names: Vec<String>) -> Result<Selection, EarlyExit> {
    match names.as_slice() {
        [] => Ok(Selection::All),
        [only] if only == ALL => Ok(Selection::All),
        names if names.iter().any(|name| name == ALL) => {
            Err(wrong_usage("either \"all\" or names of resources, not both"))
        }
        _ => Ok(Selection::Names(names)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(line: &str) -> Result<DaemonArgs, EarlyExit> {
        parse_daemon(line.split_whitespace().map(OsString::from))
    }

    fn ctl(line: &str) -> Result<CtlArgs, EarlyExit> {
        parse_ctl(line.split_whitespace().map(OsString::from))
    }

    fn names(names: &[&str]) -> Selection {
        Selection::Names(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn without_options_the_defaults_hold() {
        let args = daemon("hastmon").unwrap();
        assert_eq!(args.common.config, PathBuf::from("/usr/local/etc/hastmon.conf"));
        assert_eq!(args.pidfile, PathBuf::from("/var/run/hastmon.pid"));
        assert_eq!((args.foreground, args.common.debug, args.common.node.as_deref()), (false, 0, None));
        assert_eq!((args.statedir, args.legacy_peers), (None, false));
    }

    #[test]
    fn short_and_long_options_mean_the_same() {
        let short = daemon("hastmon -dFd -c /etc/x -P /run/x.pid -n a -s /state").unwrap();
        let long =
            "hastmon --debug --debug --foreground --config /etc/x --pidfile=/run/x.pid --node a --statedir /state";
        let long = daemon(long).unwrap();
        assert_eq!(short, long);
        assert_eq!(short.common, Common { config: "/etc/x".into(), debug: 2, node: Some("a".to_owned()) });
        assert_eq!((short.foreground, short.pidfile.to_str()), (true, Some("/run/x.pid")));
        assert_eq!(short.statedir, Some("/state".into()));
    }

    #[test]
    fn peers_of_the_old_protocol_are_a_matter_of_a_long_option_alone() {
        assert!(daemon("hastmon --legacy-peers").unwrap().legacy_peers);
        assert!(daemon("hastmon -l").is_err());
    }

    #[test]
    fn a_primary_can_be_forced_by_name_alone() {
        let command = |line: &str| ctl(line).unwrap().command;
        let forced = |force| CtlCommand::Role(Role::Primary, names(&["web"]), force);
        assert_eq!(command("hastmonctl role --force primary web"), forced(Force::Ask));
        assert_eq!(command("hastmonctl role primary web --force -d --yes"), forced(Force::Yes));
        for (line, part) in [
            ("hastmonctl role --yes primary web", "--force"),
            ("hastmonctl role --force secondary web", "for the role primary alone"),
            ("hastmonctl role --force primary all", "needs the names"),
            ("hastmonctl status --force", "'--force'"),
        ] {
            let exit = ctl(line).unwrap_err();
            assert_eq!(exit.code, 64, "{line}");
            assert!(exit.text.contains(part), "{line}: {}", exit.text);
        }
    }

    #[test]
    fn one_resource_is_handed_over_to_a_node_or_to_the_best() {
        let switchover = |to: Option<&str>| CtlCommand::Switchover { resource: "web".into(), to: to.map(Into::into) };
        assert_eq!(ctl("hastmonctl switchover web").unwrap().command, switchover(None));
        let args = ctl("hastmonctl switchover -n a web -d nodeB -c /etc/x").unwrap();
        assert_eq!(args.command, switchover(Some("nodeB")));
        let common = Common { config: "/etc/x".into(), debug: 1, node: Some("a".to_owned()) };
        assert_eq!(args.common, common);
        for line in ["hastmonctl switchover", "hastmonctl switchover web a b"] {
            assert_eq!(ctl(line).unwrap_err().code, 64, "{line}");
        }
    }

    #[test]
    fn resources_are_paused_for_a_while_or_until_they_are_resumed() {
        let pause = |line: &str| ctl(line).unwrap().command;
        let paused = |selection, span| CtlCommand::Pause { selection, span };
        assert_eq!(pause("hastmonctl pause web"), paused(names(&["web"]), None));
        for (word, ms) in [("90", 90_000), ("1500ms", 1500), ("30m", 1_800_000), ("2h", 7_200_000), ("1d", 86_400_000)]
        {
            let span = Some(Duration::from_millis(ms));
            assert_eq!(pause(&format!("hastmonctl pause --for {word} all")), paused(Selection::All, span));
        }
        assert_eq!(pause("hastmonctl resume web db"), CtlCommand::Resume(names(&["web", "db"])));
        for line in
            ["pause", "resume", "pause --for 0 web", "pause --for 9y web", "pause --for 9000d web", "pause --for web"]
        {
            assert_eq!(ctl(&format!("hastmonctl {line}")).unwrap_err().code, 64, "{line}");
        }
    }

    #[test]
    fn an_option_given_twice_has_its_last_value() {
        let args = daemon("hastmon -F -c a -F -c b -P x -P y").unwrap();
        assert_eq!((args.common.config.to_str(), args.pidfile.to_str()), (Some("b"), Some("y")));
        assert_eq!(ctl("hastmonctl status -c a -c b").unwrap().common.config.to_str(), Some("b"));
        assert_eq!(ctl("hastmonctl -c a status -c b").unwrap().common.config.to_str(), Some("b"));
    }

    #[test]
    fn a_wrong_line_exits_with_64_and_says_what_is_wrong() {
        for (line, part) in [("hastmon -x", "'-x'"), ("hastmon now", "'now'"), ("hastmon -c", "--config <FILE>")] {
            let exit = daemon(line).unwrap_err();
            assert_eq!(exit.code, 64, "{line}");
            assert!(exit.text.contains(part), "{line}: {}", exit.text);
        }
        for (line, part) in [
            ("hastmonctl", "Usage: hastmonctl role"),
            ("hastmonctl promote web", "'promote'"),
            ("hastmonctl statu", "'status'"),
            ("hastmonctl role", "<ROLE>"),
            ("hastmonctl role primary", "<NAME>..."),
            ("hastmonctl role master web", "possible values: init, primary, secondary, watchdog"),
            ("hastmonctl role secondry web", "'secondary'"),
            ("hastmonctl dump web", "'web'"),
            ("hastmonctl role init web all", "either \"all\" or names"),
        ] {
            let exit = ctl(line).unwrap_err();
            assert_eq!(exit.code, 64, "{line}");
            assert!(exit.text.contains(part), "{line}: {}", exit.text);
        }
    }

    #[test]
    fn an_argument_that_is_not_utf8_is_wrong_usage_and_a_path_may_be_any_bytes() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = OsString::from_vec(vec![b'a', 0xff]);
        let exit = parse_ctl(["hastmonctl".into(), "status".into(), bytes.clone()]).unwrap_err();
        assert_eq!(exit.code, 64);
        let args = parse_daemon(["hastmon".into(), "-c".into(), bytes.clone()]).unwrap();
        assert_eq!(args.common.config, PathBuf::from(bytes));
    }

    #[test]
    fn every_role_can_be_given_to_names_and_to_all() {
        for role in Role::ALL {
            assert_eq!(
                ctl(&format!("hastmonctl role {role} web db")).unwrap().command,
                CtlCommand::Role(role, names(&["web", "db"]), Force::No)
            );
            assert_eq!(
                ctl(&format!("hastmonctl role {role} all")).unwrap().command,
                CtlCommand::Role(role, Selection::All, Force::No)
            );
        }
    }

    #[test]
    fn status_without_names_is_status_of_all() {
        for line in ["hastmonctl status", "hastmonctl status all"] {
            assert_eq!(ctl(line).unwrap().command, CtlCommand::Status(Selection::All));
        }
        assert_eq!(ctl("hastmonctl status web").unwrap().command, CtlCommand::Status(names(&["web"])));
    }

    #[test]
    fn watching_is_a_command_and_an_option_of_status() {
        let watch =
            |selection, statedir: Option<&str>| CtlCommand::Watch { selection, statedir: statedir.map(Into::into) };
        assert_eq!(ctl("hastmonctl watch").unwrap().command, watch(Selection::All, None));
        assert_eq!(ctl("hastmonctl watch -s /state web").unwrap().command, watch(names(&["web"]), Some("/state")));
        assert_eq!(ctl("hastmonctl status -w web").unwrap().command, watch(names(&["web"]), None));
        assert_eq!(ctl("hastmonctl status --watch").unwrap().command, watch(Selection::All, None));
        assert_eq!(ctl("hastmonctl status -w --json").unwrap_err().code, 64);
    }

    #[test]
    fn the_history_takes_a_number_where_other_commands_take_a_node() {
        let args = ctl("hastmonctl -n a history -n 20 -s /state --since 2h --resource web --json -f -c x").unwrap();
        let CtlCommand::History(history) = &args.command else { panic!("{args:?}") };
        assert_eq!((history.last, history.statedir.as_deref()), (Some(20), Some(std::path::Path::new("/state"))));
        assert_eq!((history.since.as_deref(), history.resource.as_deref()), (Some("2h"), Some("web")));
        assert!(history.json && history.follow);
        assert_eq!((args.common.node.as_deref(), args.common.config.to_str()), (Some("a"), Some("x")));
        assert_eq!(ctl("hastmonctl history --node b").unwrap().common.node.as_deref(), Some("b"));
        for line in ["hastmonctl history -n x", "hastmonctl history web", "hastmonctl history -n -1"] {
            assert_eq!(ctl(line).unwrap_err().code, 64, "{line}");
        }
    }

    #[test]
    fn a_drill_takes_a_number_where_other_commands_take_a_node() {
        let args = ctl("hastmonctl drill -n 20 -y web nodeB --json --node a").unwrap();
        let CtlCommand::Drill(drill) = &args.command else { panic!("{args:?}") };
        assert_eq!((drill.rounds, drill.yes, drill.json), (20, true, true));
        assert_eq!((drill.resource.as_str(), drill.to.as_deref()), ("web", Some("nodeB")));
        assert_eq!(args.common.node.as_deref(), Some("a"));
        let args = ctl("hastmonctl -n a drill web").unwrap();
        let CtlCommand::Drill(drill) = &args.command else { panic!("{args:?}") };
        assert_eq!((drill.rounds, drill.yes, args.common.node.as_deref()), (1, false, Some("a")));
        for line in
            ["hastmonctl drill", "hastmonctl drill -n 0 web", "hastmonctl drill -n b web", "hastmonctl drill a b c"]
        {
            assert_eq!(ctl(line).unwrap_err().code, 64, "{line}");
        }
    }

    #[test]
    fn options_stand_after_the_command_or_before_it() {
        for line in [
            "hastmonctl role -d -c /etc/x -n a primary web",
            "hastmonctl role primary web -d -c /etc/x -n a",
            "hastmonctl -d -c /etc/x -n a role primary web",
            "hastmonctl -c /etc/x role -d primary -n a web",
        ] {
            let args = ctl(line).unwrap();
            assert_eq!(args.command, CtlCommand::Role(Role::Primary, names(&["web"]), Force::No), "{line}");
            let common = Common { config: "/etc/x".into(), debug: 1, node: Some("a".to_owned()) };
            assert_eq!(args.common, common, "{line}");
        }
        assert_eq!(ctl("hastmonctl dump -dd -c x").unwrap().common.debug, 2);
        let args = ctl("hastmonctl reload --control /run/old").unwrap();
        assert_eq!((args.command, args.control), (CtlCommand::Reload, Some("/run/old".into())));
    }

    #[test]
    fn a_resource_whose_name_looks_like_an_option_comes_after_two_dashes() {
        assert_eq!(ctl("hastmonctl status -- -d").unwrap().command, CtlCommand::Status(names(&["-d"])));
    }

    #[test]
    fn help_is_no_error_and_fits_the_terminal() {
        let daemon = daemon("hastmon -h").unwrap_err();
        for part in ["-F, --foreground", DEFAULT_CONFIG, DEFAULT_PIDFILE, "HUP", "Exit codes:", "hastmonctl status"] {
            assert!(daemon.text.contains(part), "{part} is missing: {}", daemon.text);
        }
        let ctl_lines = [
            "hastmonctl -h",
            "hastmonctl role --help",
            "hastmonctl status -h",
            "hastmonctl dump -h",
            "hastmonctl reload -h",
            "hastmonctl switchover -h",
            "hastmonctl drill -h",
            "hastmonctl watch -h",
            "hastmonctl history -h",
            "hastmonctl explain -h",
            "hastmonctl check -h",
            "hastmonctl test-exec -h",
            "hastmonctl completion -h",
            "hastmonctl pause -h",
            "hastmonctl resume -h",
        ];
        for exit in ctl_lines.map(|line| ctl(line).unwrap_err()).into_iter().chain([daemon]) {
            assert_eq!(exit.code, 0);
            assert!(exit.text.contains("-c, --config <FILE>") && exit.text.ends_with('\n'), "{}", exit.text);
            for line in exit.text.lines() {
                assert!(line.len() <= 80 && line.trim_end() == line, "{line:?}");
            }
        }
    }

    #[test]
    fn the_short_and_the_long_help_are_one() {
        assert_eq!(daemon("hastmon -h"), daemon("hastmon --help"));
        assert_eq!(ctl("hastmonctl -h"), ctl("hastmonctl --help"));
    }

    #[test]
    fn the_version_is_that_of_the_package() {
        let exit = daemon("hastmon -V").unwrap_err();
        assert_eq!((exit.text.as_str(), exit.code), (concat!("hastmon ", env!("CARGO_PKG_VERSION"), "\n"), 0));
        assert!(ctl("hastmonctl --version").unwrap_err().text.starts_with("hastmonctl "));
    }

    #[test]
    fn the_definitions_hold_together() {
        use clap::CommandFactory;
        DaemonArgs::command().debug_assert();
        CtlLine::command().debug_assert();
    }
}
