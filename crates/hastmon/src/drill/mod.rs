//! `hastmonctl drill`: switchovers there and back, as often as is wanted. Decides what comes after each; it asks for nothing but switchovers,
//! so what guards those guards it. What is shown of it is made in `report`.

mod report;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hastmon_core::config::Resource;
use hastmon_core::pause::Pause;
use hastmon_core::types::{Role, State};
use hastmon_core::wire::reply::{Entry, ResourceStatus, SwitchoverReply};
use hastmon_core::wire::request::Request;
use tokio::signal::unix::{SignalKind, signal};

use self::report::{End, Leg, Report, Way, s};
use crate::cli::{CtlArgs, Drill};
use crate::config_file::Source;
use crate::control::{ControlError, ask_within, confirms, control_path, print, status};
use crate::history::reader::{Reader, Wanted};
use crate::os::clock;
use crate::os::sysexits;

/// How often is looked, while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So many heartbeats, and this much more, is waited until the nodes have heard from each other how the last switchover ended.
const PATIENCE_BEATS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(10);
/// Events of the resource that are looked through for what its script took before.
const LAST_EVENTS: u64 = 2000;

/// What this node knows of the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    node: String,
    role: Role,
    state: Option<State>,
    runs_on: Option<String>,
    in_reach: u32,
    needed: u32,
    voters: u32,
    heartbeat: Duration,
    /// It is paused: what forbids a switchover, in words.
    paused: Option<String>,
}

/// Whether a leg can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ready {
    Yes,
    /// It is there already.
    Already,
    /// Not now, for this reason. That may pass.
    Not(String),
}

/// What a drill works on.
trait Cluster {
    /// What is known.
    fn look(&mut self) -> Result<Seen, String>;
    /// A switchover; `Err`: there was no answer.
    fn switch(&mut self, to: Option<&str>) -> Result<SwitchoverReply, String>;
    /// Lets a short time pass; says which.
    fn pause(&mut self) -> Duration;
    /// Somebody wants it to end.
    fn is_interrupted(&self) -> bool;
    /// A leg is over.
    fn tell(&mut self, leg: &Leg);
}

impl Seen {
    fn of(resource: &str, status: &ResourceStatus) -> Option<Self> {
        let detail = status.detail.as_ref()?;
        let pause = |(node, paused)| Pause { version: 0, node, paused: Some(paused) };
        Some(Self {
            node: detail.node.clone(),
            role: status.role,
            state: status.worker.as_ref().map(|worker| worker.state),
            runs_on: detail.runs_on.clone(),
            in_reach: detail.in_reach.unwrap_or(detail.voters),
            needed: detail.needed,
            voters: detail.voters,
            heartbeat: status.heartbeat,
            paused: detail.pause.clone().map(|told| pause(told).forbids(resource)),
        })
    }

    fn runs_here(&self) -> bool {
        self.role == Role::Primary && self.state == Some(State::Run)
    }

    fn why_not(&self) -> Option<String> {
        self.paused.clone().or_else(|| self.no_majority())
    }

    fn no_majority(&self) -> Option<String> {
        let Self { node, in_reach, needed, voters, .. } = self;
        (in_reach < needed)
            .then(|| format!("{in_reach} of {voters} nodes are in reach of {node}, which needs {needed}"))
    }

    /// Whether it can leave this node.
    fn ready_to_go(&self) -> Ready {
        let Self { node, role, .. } = self;
        let state = self.state.map_or("unknown", State::as_str);
        let elsewhere = self.runs_on.as_ref().filter(|other| *other != node);
        match elsewhere {
            _ if self.runs_here() => self.why_not().map_or(Ready::Yes, Ready::Not),
            Some(other) => {
                Ready::Not(format!("{node} is {role} and not primary: run the drill on {other}, which runs it"))
            }
            None if *role == Role::Primary => Ready::Not(format!("it does not run on {node}: its state is {state}")),
            None => Ready::Not(format!("{node} is {role} and not primary")),
        }
    }

    /// Whether it can come back to this node, from that one.
    fn ready_to_come(&self, from: &str) -> Ready {
        let Self { node, role, .. } = self;
        let state = self.state.map_or("unknown", State::as_str);
        match &self.runs_on {
            _ if self.runs_here() => Ready::Already,
            Some(other) if other != from => Ready::Not(format!("it does not run on {from} any more, but on {other}")),
            None => Ready::Not(format!("{from} is not known to run it")),
            Some(_) if (*role, self.state) != (Role::Secondary, Some(State::Stopped)) => {
                Ready::Not(format!("{node} is {role}, its state is {state}"))
            }
            Some(_) => self.why_not().map_or(Ready::Yes, Ready::Not),
        }
    }

    fn patience(&self) -> Duration {
        PATIENCE + self.heartbeat * PATIENCE_BEATS
    }
}

/// The leg that follows on these, if one does: whoever went there comes back, also when somebody wants the end.
fn next_leg(legs: &[Leg], rounds: u32, is_interrupted: bool) -> Option<(u32, Way)> {
    match legs.last() {
        Some(Leg { outcome: Err(_), .. }) => None,
        Some(Leg { way: Way::There, round, .. }) => Some((*round, Way::Back)),
        Some(Leg { round, .. }) if *round >= rounds => None,
        _ if is_interrupted => None,
        Some(Leg { round, .. }) => Some((round + 1, Way::There)),
        None => Some((1, Way::There)),
    }
}

/// What came of a leg.
enum Tried {
    /// It is over, well or not.
    Over(Leg),
    /// Nothing was stopped: why.
    Refused(String),
    /// It was not begun, since somebody wants the end.
    CalledOff,
}

struct Run<'a, C> {
    cluster: &'a mut C,
    report: Report,
}

impl<C: Cluster> Run<'_, C> {
    fn all(mut self) -> Report {
        while let Some((round, way)) = next_leg(&self.report.legs, self.report.rounds, self.cluster.is_interrupted()) {
            let leg = match self.leg(round, way) {
                Tried::Over(leg) => leg,
                Tried::Refused(why) if self.report.legs.is_empty() => {
                    self.report.end = End::Refused(why);
                    break;
                }
                Tried::Refused(why) => {
                    let node = self.target(way);
                    Leg { round, way, node, steps: Vec::new(), outcome: Err(why) }
                }
                Tried::CalledOff => break,
            };
            if let Err(why) = &leg.outcome {
                self.report.end = End::Failed(why.clone());
            }
            self.cluster.tell(&leg);
            self.report.legs.push(leg);
        }
        let is_short = u32::try_from(self.report.completed()).is_ok_and(|done| done < self.report.rounds);
        if self.report.end == End::Done && is_short {
            self.report.end = End::Interrupted;
        }
        self.find_it();
        self.report
    }

    fn target(&self, way: Way) -> Option<String> {
        match way {
            Way::There => self.report.to.clone(),
            Way::Back => self.report.from.clone(),
        }
    }

    /// A switchover. One that is refused stops nothing, so but for the first it is asked for until the nodes know of each other what they must.
    fn leg(&mut self, round: u32, way: Way) -> Tried {
        let mut waited = Duration::ZERO;
        loop {
            let seen = self.cluster.look();
            let patience = seen.as_ref().map_or(PATIENCE, Seen::patience);
            let ready = self.ready(way, seen);
            let node = self.target(way);
            let why = match ready {
                Ready::Already => return Tried::Over(Leg { round, way, node, steps: Vec::new(), outcome: Ok(()) }),
                Ready::Not(why) => why,
                Ready::Yes => match self.cluster.switch(node.as_deref()) {
                    Ok(SwitchoverReply { outcome: Err(why), steps }) if steps.is_empty() => why,
                    Ok(SwitchoverReply { outcome, steps }) => {
                        let node = node.or_else(|| self.learn_target());
                        return Tried::Over(Leg { round, way, node, steps, outcome });
                    }
                    // Nobody knows how far it came.
                    Err(why) => return Tried::Over(Leg { round, way, node, steps: Vec::new(), outcome: Err(why) }),
                },
            };
            if way == Way::There && self.cluster.is_interrupted() {
                return Tried::CalledOff;
            }
            if self.report.legs.is_empty() || waited >= patience {
                return Tried::Refused(why);
            }
            waited += self.cluster.pause();
        }
    }

    fn ready(&mut self, way: Way, seen: Result<Seen, String>) -> Ready {
        let seen = match seen {
            Ok(seen) => seen,
            Err(why) => return Ready::Not(why),
        };
        self.report.from.get_or_insert_with(|| seen.node.clone());
        match (way, &self.report.to) {
            (Way::There, _) => seen.ready_to_go(),
            (Way::Back, Some(to)) => seen.ready_to_come(to),
            (Way::Back, None) => Ready::Not("it is not known where it runs".to_string()),
        }
    }

    /// Without a name it goes to the best node: that is the one of all rounds then.
    fn learn_target(&mut self) -> Option<String> {
        let seen = self.cluster.look().ok()?;
        self.report.to = seen.runs_on.filter(|node| Some(node) != self.report.from.as_ref());
        self.report.to.clone()
    }

    /// Where it runs at the end. After a failure that may take a moment.
    fn find_it(&mut self) {
        let mut waited = Duration::ZERO;
        loop {
            let seen = self.cluster.look();
            let patience = seen.as_ref().map_or(Duration::ZERO, Seen::patience);
            self.report.runs_on = seen.ok().and_then(|seen| seen.runs_on);
            if self.report.runs_on.is_some() || waited >= patience || matches!(self.report.end, End::Refused(_)) {
                return;
            }
            waited += self.cluster.pause();
        }
    }
}

/// The daemon of this node.
struct Here {
    control: PathBuf,
    resource: String,
    is_interrupted: Arc<AtomicBool>,
    shows_legs: bool,
}

impl Cluster for Here {
    fn look(&mut self) -> Result<Seen, String> {
        let entries = status(&self.control, std::slice::from_ref(&self.resource))?;
        let Some(Entry { outcome: Ok(status), .. }) = entries.first() else {
            return Err(format!("there is no resource {} on this node", self.resource));
        };
        Seen::of(&self.resource, status).ok_or_else(|| "hastmon is of another version than hastmonctl".to_string())
    }

    fn switch(&mut self, to: Option<&str>) -> Result<SwitchoverReply, String> {
        let request = Request::Switchover { resource: self.resource.clone(), to: to.map(ToString::to_string) };
        ask_within(&self.control, &request, SwitchoverReply::decode, None).map_err(|error| error.to_string())
    }

    #[expect(clippy::disallowed_methods, reason = "hastmonctl has no loop that this could hold up")]
    fn pause(&mut self) -> Duration {
        let began = clock::now();
        std::thread::sleep(LOOK_EVERY);
        clock::now().since(began)
    }

    fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::Relaxed)
    }

    fn tell(&mut self, leg: &Leg) {
        if self.shows_legs {
            // Nobody may read it any more. The resource must come back all the same.
            let _ = print(&leg.text());
        }
    }
}

/// Makes the drill, and tells what came of it.
pub(crate) fn drill(args: &CtlArgs, what: &Drill) -> Result<u8, ControlError> {
    let control = control_path(args)?;
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let mut here = Here {
        control,
        resource: what.resource.clone(),
        is_interrupted: Arc::clone(&is_interrupted),
        shows_legs: !what.json,
    };
    let mut report = Report {
        resource: what.resource.clone(),
        rounds: what.rounds,
        from: None,
        to: what.to.clone(),
        legs: Vec::new(),
        end: End::Done,
        runs_on: None,
    };
    // Who has to be told that it cannot be is not asked first.
    match here.look().map(|seen| (seen.ready_to_go(), seen)) {
        Ok((Ready::Not(why), seen)) => {
            (report.from, report.runs_on, report.end) = (Some(seen.node), seen.runs_on, End::Refused(why));
            return show(&report, what);
        }
        Ok((Ready::Yes | Ready::Already, _)) => {}
        Err(why) => {
            report.end = End::Refused(why);
            return show(&report, what);
        }
    }
    let warning = || warning(what, &known(args, &what.resource).unwrap_or_default());
    if !what.yes && !confirms(&warning(), "the service may be interrupted", "begin")? {
        return Ok(sysexits::USAGE);
    }
    watch_signals(is_interrupted)?;
    show(&Run { cluster: &mut here, report }.all(), what)
}

fn show(report: &Report, what: &Drill) -> Result<u8, ControlError> {
    let done = report.completed();
    if what.json {
        print(&report.json())?;
    } else if !report.legs.is_empty() {
        print(&format!("{}\n{done} of {} rounds. {}\n", report.summary(), report.rounds, report.state()))?;
    }
    Ok(match &report.end {
        End::Done => sysexits::OK,
        End::Refused(why) => {
            log::error!("{why}. Nothing was done.");
            sysexits::REFUSED
        }
        End::Interrupted => {
            log::error!("Interrupted after {done} of {} rounds. {}", report.rounds, report.state());
            sysexits::REFUSED
        }
        End::Failed(why) => {
            let (round, way) = report.legs.last().map_or((1, Way::There), |leg| (leg.round, leg.way));
            log::error!("The drill has ended in round {round}, on the way {}: {why}. {}", way.as_str(), report.state());
            sysexits::REFUSED
        }
    })
}

/// A signal that would end this program between two switchovers must not leave the resource where it does not belong.
fn watch_signals(is_interrupted: Arc<AtomicBool>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut int, mut term, mut hup) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::Builder::new().spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                    _ = hup.recv() => {}
                }
                is_interrupted.store(true, Ordering::Relaxed);
                // Nobody may read it any more.
                let _ = writeln!(
                    io::stderr(),
                    "Interrupted: the switchover that runs is waited for, then the resource comes back."
                );
            }
        });
    })?;
    Ok(())
}

/// What is known of how long the script takes.
#[derive(Debug, Default)]
struct Known {
    /// How long `stop` took here last.
    stop: Option<Duration>,
    /// How long `start` took here last.
    start: Option<Duration>,
    /// How long both may take.
    limits: Option<(Duration, Duration)>,
}

fn warning(what: &Drill, known: &Known) -> String {
    let (name, rounds) = (&what.resource, what.rounds);
    let to = what.to.as_deref().unwrap_or("the best other node");
    let (often, times) = (if rounds == 1 { "once".to_string() } else { format!("{rounds} times") }, rounds * 2);
    let mut text = format!(
        "This moves {name} to {to} and back, {often}: {times} switchovers.\nEach interrupts the service while stop and start run"
    );
    let took = [("stop", known.stop), ("start", known.start)];
    let took: Vec<String> =
        took.iter().filter_map(|(hook, took)| took.map(|took| format!("{hook} {}", s(took)))).collect();
    if !took.is_empty() {
        text += &format!("; here they took, last: {}", took.join(", "));
    }
    if let Some((stop, start)) = known.limits {
        text += &format!(" (at most {} s and {} s)", stop.as_secs_f64(), start.as_secs_f64());
    }
    text + ".\n"
}

/// From the configuration and the history of this node, as far as they can be read.
fn known(args: &CtlArgs, name: &str) -> Option<Known> {
    let (config, _) = Source::new(&args.common).ok()?.read().ok()?;
    let resource: &Resource = config.resource(name)?;
    let mut known = Known { limits: Some((resource.stop_timeout, resource.start_timeout)), ..Known::default() };
    let wanted = Wanted { since_ms: None, resource: Some(name.to_string()) };
    if let Ok(mut reader) = Reader::new(&PathBuf::from(config.statedir), wanted, Some(LAST_EVENTS)) {
        let _ = reader.read(&mut |raw, line| {
            if line.kind == "hook_ended"
                && let Some((hook, took)) = took(raw)
            {
                match hook.as_str() {
                    "stop" => known.stop = Some(took),
                    "start" => known.start = Some(took),
                    _ => {}
                }
            }
            std::ops::ControlFlow::Continue(())
        });
    }
    Some(known)
}

/// What a call of the script that went well took.
fn took(line: &[u8]) -> Option<(String, Duration)> {
    let line: serde_json::Value = serde_json::from_slice(line).ok()?;
    let detail = line.get("detail")?;
    (detail.pointer("/outcome/ended/code")?.as_i64()? == 0).then_some(())?;
    let ms = detail.get("took_ms")?.as_f64()?;
    Some((detail.get("hook")?.as_str()?.to_string(), Duration::try_from_secs_f64(ms / 1000.0).ok()?))
}

#[cfg(test)]
mod tests;
