//! Replies to control requests, set role and status: the same on the network and on the control socket.
//!
//! Decides how what is known of resources stands in a message; never what is known, nor how a person reads it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::detail::Detail;
use super::nv::{Fields, List};
use super::{Lacks, error_number};
use crate::config::MAX_NODES;
use crate::types::{ErrorCode, Role, State};

/// Further lines of a resource that are read: there are fewer. A watchdog's worker among originals reads replies from the network, and each
/// line is looked for from the first field on.
const MAX_LINES: usize = 64;

/// The reply to set role: the role before of each resource.
pub type RoleReply = Reply<Role>;
/// The reply to status.
pub type StatusReply = Reply<ResourceStatus>;

/// The reply to a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadReply {
    /// The configuration is in force: what has changed, in words.
    Done(String),
    /// Nothing has changed: why, in words that may have many lines.
    Refused(String),
}

impl ReloadReply {
    /// The message.
    pub fn encode(&self) -> List {
        match self {
            Self::Done(changes) => List::new().with_str("changes", changes),
            Self::Refused(why) => List::new().with_i16("error", ErrorCode::Invalid.to_wire()).with_str("errmsg", why),
        }
    }

    /// Reads a reply.
    pub fn decode(list: &List) -> Result<Self, Lacks> {
        let text = |name: &str| list.str(name).map(ToOwned::to_owned).ok_or_else(|| Lacks::field(name));
        match error_number(list.fields(), "error") {
            Some(number) => Ok(Self::Refused(text("errmsg").unwrap_or_else(|_| format!("error {number}")))),
            None => text("changes").map(Self::Done),
        }
    }
}

/// The reply to a pause, or to the end of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseReply {
    /// For each resource how it stands, in words; or what is wrong with it.
    pub entries: Vec<Result<String, String>>,
}

impl PauseReply {
    /// The message.
    pub fn encode(&self) -> List {
        let entries = self.entries.iter().enumerate();
        let list = entries.fold(List::new(), |list, (i, entry)| match entry {
            Ok(text) => list.with_str(&format!("text{i}"), text),
            Err(text) => list.with_str(&format!("text{i}"), text).with_u8(&format!("failed{i}"), 1),
        });
        list.with_u8("done", 1)
    }

    /// Reads a reply. One of a daemon that does not know the command has an error number alone.
    pub fn decode(list: &List) -> Result<Self, Lacks> {
        if let Some(number) = error_number(list.fields(), "error") {
            let unknown = "hastmon does not know this command: it is of another version than hastmonctl";
            let why = if number == ErrorCode::NotImplemented.to_wire() {
                unknown.to_owned()
            } else {
                format!("error {number}")
            };
            return Ok(Self { entries: Vec::from([Err(why)]) });
        }
        if list.u8("done") != Some(1) {
            return Err(Lacks::field("done"));
        }
        let entry = |(i, part): (usize, Fields<'_>)| {
            let text = part.str(&format!("text{i}"))?.to_owned();
            Some(if part.u8(&format!("failed{i}")) == Some(1) { Err(text) } else { Ok(text) })
        };
        Ok(Self { entries: list.parts("text").enumerate().map_while(entry).collect() })
    }
}

/// The reply to a switchover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchoverReply {
    /// The resource runs there; or why it does not, in words that say where it runs now.
    pub outcome: Result<(), String>,
    /// What was done, in its order, and how long each step took, to the microsecond.
    pub steps: Vec<(String, Duration)>,
}

impl SwitchoverReply {
    /// It does not take place.
    pub const fn refused(why: String) -> Self {
        Self { outcome: Err(why), steps: Vec::new() }
    }

    /// The message.
    pub fn encode(&self) -> List {
        let steps = self.steps.iter().enumerate().fold(List::new(), |list, (i, (step, took))| {
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            list.with_str(&format!("step{i}"), step).with_u64(&format!("took{i}_us"), took_us)
        });
        match &self.outcome {
            Ok(()) => steps.with_u8("done", 1),
            Err(why) => steps.with_i16("error", ErrorCode::Invalid.to_wire()).with_str("errmsg", why),
        }
    }

    /// Reads a reply. One of a daemon that does not know the command has an error number alone.
    pub fn decode(list: &List) -> Result<Self, Lacks> {
        let steps = (0..).map_while(|i| {
            let took = list.u64(&format!("took{i}_us"))?;
            Some((list.str(&format!("step{i}"))?.to_owned(), Duration::from_micros(took)))
        });
        let outcome = match (error_number(list.fields(), "error"), list.str("errmsg")) {
            (_, Some(why)) => Err(why.to_owned()),
            (Some(number), None) if number == ErrorCode::NotImplemented.to_wire() => {
                Err("hastmon does not know this command: it is of another version than hastmonctl".to_owned())
            }
            (Some(number), None) => Err(format!("error {number}")),
            (None, None) if list.u8("done") == Some(1) => Ok(()),
            (None, None) => return Err(Lacks::field("done")),
        };
        Ok(Self { outcome, steps: steps.collect() })
    }
}

/// The reply to explain: sentences, each under a heading; or why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainReply(pub Result<Vec<(String, String)>, String>);

impl ExplainReply {
    /// The message.
    pub fn encode(&self) -> List {
        match &self.0 {
            Ok(sentences) => sentences.iter().enumerate().fold(List::new(), |list, (i, (heading, sentence))| {
                list.with_str(&format!("heading{i}"), heading).with_str(&format!("sentence{i}"), sentence)
            }),
            Err(why) => List::new().with_i16("error", ErrorCode::NoEntry.to_wire()).with_str("errmsg", why),
        }
    }

    /// Reads a reply. One of a daemon that does not know the command has an error number alone.
    pub fn decode(list: &List) -> Result<Self, Lacks> {
        let text = |name: String| list.str(&name).map(ToOwned::to_owned);
        Ok(Self(match (error_number(list.fields(), "error"), list.str("errmsg")) {
            (_, Some(why)) => Err(why.to_owned()),
            (Some(_), None) => {
                Err("hastmon does not know this command: it is of another version than hastmonctl".to_owned())
            }
            (None, None) => {
                let sentence = |i: usize| Some((text(format!("heading{i}"))?, text(format!("sentence{i}"))?));
                let sentences: Vec<_> = (0..).map_while(sentence).collect();
                if sentences.is_empty() {
                    return Err(Lacks::field("sentence0"));
                }
                Ok(sentences)
            }
        }))
    }
}

/// The reply to a control request. Error numbers are those of [`crate::types::ErrorCode`], or an errno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<T> {
    /// An entry for each resource asked for.
    Entries(Vec<Entry<T>>),
    /// The request as a whole failed: the error number, never 0.
    Failed(i16),
}

/// What a reply says of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// Its name.
    pub resource: String,
    /// What was asked for, or an error number, never 0.
    pub outcome: Result<T, i16>,
}

/// What a reply can hold for each resource; the names of its fields end with the resource's number.
pub trait PerResource: Sized {
    /// Appends the fields of resource number `i` in the original's order.
    fn append_to(&self, list: List, i: usize) -> List;
    /// Reads the fields of resource number `i`.
    fn decode(fields: Fields<'_>, i: usize) -> Result<Self, Lacks>;
}

impl<T: PerResource> Reply<T> {
    /// The message in the original's order.
    pub fn encode(&self) -> List {
        let entries = match self {
            Self::Entries(entries) => entries,
            Self::Failed(error) => return List::new().with_i16("error", *error),
        };
        entries.iter().enumerate().fold(List::new(), |list, (i, entry)| {
            let list = list.with_str(&format!("resource{i}"), &entry.resource);
            match &entry.outcome {
                Ok(known) => known.append_to(list, i),
                Err(error) => list.with_i16(&format!("error{i}"), *error),
            }
        })
    }

    /// Reads a reply, up to the first number that no resource has.
    pub fn decode(list: &List) -> Result<Self, Lacks> {
        if let Some(error) = error_number(list.fields(), "error") {
            return Ok(Self::Failed(error));
        }
        let entry = |(i, part): (usize, Fields<'_>)| {
            let resource = part.str(&format!("resource{i}"))?.to_owned();
            let outcome = match error_number(part, &format!("error{i}")) {
                Some(error) => Ok(Err(error)),
                None => T::decode(part, i).map(Ok),
            };
            Some(outcome.map(|outcome| Entry { resource, outcome }))
        };
        list.parts("resource").enumerate().map_while(entry).collect::<Result<_, _>>().map(Self::Entries)
    }
}

/// The role before the request, in words.
impl PerResource for Role {
    fn append_to(&self, list: List, i: usize) -> List {
        list.with_str(&format!("role{i}"), self.as_str())
    }

    fn decode(fields: Fields<'_>, i: usize) -> Result<Self, Lacks> {
        let name = format!("role{i}");
        fields.str(&name).and_then(|word| word.parse().ok()).ok_or(Lacks(name))
    }
}

/// What a daemon knows of one of its resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceStatus {
    /// The script.
    pub exec: String,
    /// After so many attempts in vain to start it, a primary gives up.
    pub attempts_max: u32,
    /// The other nodes.
    pub remotes: Vec<RemoteStatus>,
    /// The role here.
    pub role: Role,
    /// The worker's process; 0 when there is none.
    pub workerpid: u32,
    /// Complaints that count now.
    pub complaints: u32,
    /// A secondary takes over when there are more than this.
    pub complaints_critical: u32,
    /// How long a complaint counts. Exact to the millisecond between daemons of ours, else rounded up to seconds.
    pub complaints_interval: Duration,
    /// The time between heartbeats. Exact to the millisecond between daemons of ours, else rounded up to seconds.
    pub heartbeat: Duration,
    /// What the worker says; `None` when there is none, or it does not answer.
    pub worker: Option<WorkerStatus>,
    /// Ours: the worker has not been heard of for so long (to the millisecond) that what it said may no longer hold.
    pub stuck_for: Option<Duration>,
    /// Ours: what else there is to say, names and values of further lines, neither with a line end in it.
    pub lines: Vec<(String, String)>,
    /// Ours: the same and more for programs, each with its type; `None` from a daemon that does not tell it.
    pub detail: Option<Detail>,
}

/// What is known of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteStatus {
    /// Its address, as configured.
    pub addr: String,
    /// From a worker: `connected` or `disconnected`; from a watchdog's worker: the remote's state in words.
    pub state: Option<String>,
    /// From a watchdog's worker: the remote's role in words.
    pub role: Option<String>,
}

/// What a worker says of its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// The state here.
    pub state: State,
    /// Attempts to start it, in vain so far.
    pub attempts: u32,
}

impl PerResource for ResourceStatus {
    fn append_to(&self, list: List, i: usize) -> List {
        let name = |field: &str| format!("{field}{i}");
        let mut list =
            list.with_str(&name("exec"), &self.exec).with_i32(&name("attempts_max"), wire_count(self.attempts_max));
        for (j, remote) in self.remotes.iter().enumerate() {
            list = list.with_str(&format!("remoteaddr{i}.{j}"), &remote.addr);
        }
        list = list
            .with_u8(&name("role"), self.role.to_wire())
            .with_i32(&name("workerpid"), wire_count(self.workerpid))
            .with_i32(&name("complaints"), wire_count(self.complaints))
            .with_i32(&name("complaints_critical"), wire_count(self.complaints_critical))
            .with_i32(&name("complaints_interval"), wire_seconds(self.complaints_interval))
            .with_i32(&name("heartbeat"), wire_seconds(self.heartbeat));
        for (j, remote) in self.remotes.iter().enumerate() {
            if let Some(state) = &remote.state {
                list = list.with_str(&format!("remotestate{i}.{j}"), state);
            }
            if let Some(role) = &remote.role {
                list = list.with_str(&format!("remoterole{i}.{j}"), role);
            }
        }
        if let Some(worker) = &self.worker {
            list = list
                .with_u8(&name("state"), worker.state.to_wire())
                .with_i32(&name("attempts"), wire_count(worker.attempts));
        }
        // From here on our own fields, which an original ignores.
        for (field, span) in [("complaints_interval_ms", self.complaints_interval), ("heartbeat_ms", self.heartbeat)] {
            if let Some(ms) = wire_ms(span) {
                list = list.with_u64(&name(field), ms);
            }
        }
        if let Some(span) = self.stuck_for {
            list = list.with_u64(&name("stuck_ms"), u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        }
        for (j, (line, value)) in self.lines.iter().enumerate() {
            list = list.with_str(&format!("extra{i}.{j}"), line).with_str(&format!("extravalue{i}.{j}"), value);
        }
        match &self.detail {
            Some(detail) => detail.append_to(list, i),
            None => list,
        }
    }

    fn decode(fields: Fields<'_>, i: usize) -> Result<Self, Lacks> {
        let name = |field: &str| format!("{field}{i}");
        let count = |field: &str| read_count(fields, name(field));
        let span = |field: &str| read_span(fields, name(field), &format!("{field}_ms{i}"));
        Ok(Self {
            exec: fields.str(&name("exec")).ok_or_else(|| Lacks(name("exec")))?.to_owned(),
            attempts_max: count("attempts_max")?,
            remotes: read_remotes(fields, i),
            role: fields.u8(&name("role")).and_then(Role::from_wire).ok_or_else(|| Lacks(name("role")))?,
            workerpid: count("workerpid")?,
            complaints: count("complaints")?,
            complaints_critical: count("complaints_critical")?,
            complaints_interval: span("complaints_interval")?,
            heartbeat: span("heartbeat")?,
            worker: match fields.u8(&name("state")) {
                Some(state) => Some(WorkerStatus { state: State::from_wire(state), attempts: count("attempts")? }),
                None => None,
            },
            stuck_for: fields.u64(&name("stuck_ms")).map(Duration::from_millis),
            lines: read_lines(fields, i),
            detail: Detail::decode(fields, i),
        })
    }
}

fn read_lines(fields: Fields<'_>, i: usize) -> Vec<(String, String)> {
    (0..MAX_LINES)
        .map_while(|j| {
            let text = |field: &str| fields.str(&format!("{field}{i}.{j}")).map(ToOwned::to_owned);
            Some((text("extra")?, text("extravalue")?))
        })
        .collect()
}

fn read_remotes(fields: Fields<'_>, i: usize) -> Vec<RemoteStatus> {
    (0..MAX_NODES)
        .map_while(|j| {
            let text = |field: &str| fields.str(&format!("{field}{i}.{j}")).map(ToOwned::to_owned);
            Some(RemoteStatus { addr: text("remoteaddr")?, state: text("remotestate"), role: text("remoterole") })
        })
        .collect()
}

fn read_count(fields: Fields<'_>, name: String) -> Result<u32, Lacks> {
    fields.i32(&name).and_then(|number| number.try_into().ok()).ok_or(Lacks(name))
}

fn read_span(fields: Fields<'_>, seconds: String, ms: &str) -> Result<Duration, Lacks> {
    let whole = Duration::from_secs(read_count(fields, seconds)?.into());
    Ok(fields.u64(ms).map_or(whole, Duration::from_millis))
}

/// Counts are signed on the wire; one that does not fit is shown as the largest.
fn wire_count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Rounded up: what takes 200 ms must not read as "every 0 s".
fn wire_seconds(span: Duration) -> i32 {
    i32::try_from(span.as_nanos().div_ceil(1_000_000_000)).unwrap_or(i32::MAX)
}

/// Milliseconds, rounded up, when the seconds on the wire do not say it all.
fn wire_ms(span: Duration) -> Option<u64> {
    let seconds = u64::try_from(wire_seconds(span)).unwrap_or(0);
    (span != Duration::from_secs(seconds))
        .then(|| u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::collection::vec as many;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn status(complaints_interval: Duration, heartbeat: Duration) -> ResourceStatus {
        ResourceStatus {
            exec: "/etc/res.sh".into(),
            attempts_max: 5,
            remotes: vec![],
            role: Role::Primary,
            workerpid: 0,
            complaints: 0,
            complaints_critical: 3,
            complaints_interval,
            heartbeat,
            worker: None,
            stuck_for: None,
            lines: vec![],
            detail: None,
        }
    }

    #[test]
    fn a_part_of_a_second_rounds_up_for_an_original_and_is_exact_for_ours() {
        let status = status(Duration::from_secs(60), Duration::from_millis(1_200));
        let list = status.append_to(List::new(), 7);
        assert_eq!(list.i32("heartbeat7"), Some(2));
        assert_eq!(list.pairs().last(), Some(("heartbeat_ms7", &super::super::nv::Value::U64(1_200))));
        assert_eq!(list.i32("complaints_interval7"), Some(60));
        assert_eq!(list.u64("complaints_interval_ms7"), None);
        assert_eq!(ResourceStatus::decode(list.fields(), 7), Ok(status));
    }

    #[test]
    fn numbers_beyond_the_wire_are_shown_as_the_largest() {
        let mut status = status(Duration::MAX, Duration::from_nanos(1));
        status.complaints = u32::MAX;
        let list = status.append_to(List::new(), 0);
        assert_eq!(list.i32("complaints0"), Some(i32::MAX));
        assert_eq!(list.i32("complaints_interval0"), Some(i32::MAX));
        assert_eq!(list.u64("complaints_interval_ms0"), Some(u64::MAX));
        assert_eq!(list.u64("heartbeat_ms0"), Some(1));
    }

    #[test]
    fn a_reply_that_lacks_a_field_names_it() {
        let list = List::new().with_str("resource0", "res").with_str("exec0", "x");
        assert_eq!(StatusReply::decode(&list), Err(Lacks("attempts_max0".into())));
        assert_eq!(RoleReply::decode(&list), Err(Lacks("role0".into())));
        let list = list.with_i32("attempts_max0", -1);
        assert_eq!(StatusReply::decode(&list), Err(Lacks("attempts_max0".into())));
    }

    /// It takes minutes, too, when a name is looked for from the start of the list.
    #[test]
    fn a_reply_for_ten_thousand_resources_fits_on_the_control_socket() {
        let mut status = status(Duration::from_millis(1_500), Duration::from_millis(100));
        let remote = RemoteStatus { addr: "tcp4://192.0.2.1:8458".into(), state: Some("connected".into()), role: None };
        status.remotes = vec![remote; 12];
        status.worker = Some(WorkerStatus { state: State::Run, attempts: 0 });
        status.lines = vec![("protection".into(), "held here until +2.1 s, 3 of 3 votes".into()); 5];
        let entry = Entry { resource: "a-name-of-usual-length".into(), outcome: Ok(status) };
        let reply = Reply::Entries(vec![entry; 10_000]);
        let list = reply.encode();
        assert!(
            crate::wire::frame::encode(crate::wire::frame::Version::V0, &list, crate::wire::frame::CONTROL_LIMIT)
                .is_ok()
        );
        assert_eq!(StatusReply::decode(&list), Ok(reply));
    }

    fn remote() -> impl Strategy<Value = RemoteStatus> {
        ("[a-z0-9:/.]{0,30}", option::of("[a-z]{0,12}"), option::of("[a-z]{0,12}"))
            .prop_map(|(addr, state, role)| RemoteStatus { addr, state, role })
    }

    fn known() -> impl Strategy<Value = ResourceStatus> {
        let count = || 0..=i32::MAX.unsigned_abs();
        let span = || {
            prop_oneof![
                (0..=i32::MAX.unsigned_abs()).prop_map(|s| Duration::from_secs(s.into())),
                any::<u64>().prop_map(Duration::from_millis)
            ]
        };
        let worker = (select(&State::ALL[..]), count()).prop_map(|(state, attempts)| WorkerStatus { state, attempts });
        (
            ("[^\0]{0,20}", count(), many(remote(), 0..4), select(&Role::ALL[..]), count()),
            (
                count(),
                count(),
                span(),
                span(),
                option::of(worker),
                option::of(any::<u64>().prop_map(Duration::from_millis)),
                many(("[a-z]{1,9}", "[^\0\n]{0,30}"), 0..4),
            ),
        )
            .prop_map(|(first, second)| {
                let (exec, attempts_max, remotes, role, workerpid) = first;
                let (complaints, complaints_critical, complaints_interval, heartbeat, worker, stuck_for, lines) =
                    second;
                ResourceStatus {
                    exec,
                    attempts_max,
                    remotes,
                    role,
                    workerpid,
                    complaints,
                    complaints_critical,
                    complaints_interval,
                    heartbeat,
                    worker,
                    stuck_for,
                    lines,
                    detail: None,
                }
            })
    }

    fn reply<T: core::fmt::Debug + Clone>(known: impl Strategy<Value = T>) -> impl Strategy<Value = Reply<T>> {
        let error = || any::<i16>().prop_filter("0 is no error", |&error| error != 0);
        let entry = ("[a-z]{0,20}", prop_oneof![known.prop_map(Ok), error().prop_map(Err)])
            .prop_map(|(resource, outcome)| Entry { resource, outcome });
        prop_oneof![error().prop_map(Reply::Failed), many(entry, 0..5).prop_map(Reply::Entries)]
    }

    #[test]
    fn a_switchover_that_is_not_known_or_not_done_is_told_apart_from_one_that_is() {
        let failed = |why: &str| Ok(SwitchoverReply { outcome: Err(why.into()), steps: vec![] });
        let of_an_older_daemon = RoleReply::Failed(ErrorCode::NotImplemented.to_wire()).encode();
        let why = "hastmon does not know this command: it is of another version than hastmonctl";
        assert_eq!(SwitchoverReply::decode(&of_an_older_daemon), failed(why));
        assert_eq!(SwitchoverReply::decode(&RoleReply::Failed(7).encode()), failed("error 7"));
        assert_eq!(SwitchoverReply::decode(&List::new().with_str("errmsg", "no")), failed("no"));
        assert_eq!(SwitchoverReply::decode(&List::new()), Err(Lacks("done".into())));
        assert_eq!(SwitchoverReply::decode(&List::new().with_str("resource0", "r")), Err(Lacks("done".into())));
    }

    proptest! {
        #[test]
        fn what_a_switchover_came_to_is_read_as_it_was_written(
            outcome in prop_oneof![Just(Ok(())), "[^\0]{0,40}".prop_map(Err)],
            steps in many(("[^\0]{0,20}", any::<u64>().prop_map(Duration::from_micros)), 0..5),
        ) {
            let reply = SwitchoverReply { outcome, steps };
            prop_assert_eq!(SwitchoverReply::decode(&reply.encode()), Ok(reply));
        }

        #[test]
        fn decode_undoes_encode(status in reply(known()), role in reply(select(&Role::ALL[..]))) {
            prop_assert_eq!(StatusReply::decode(&status.encode()), Ok(status));
            prop_assert_eq!(RoleReply::decode(&role.encode()), Ok(role));
        }
    }
}
