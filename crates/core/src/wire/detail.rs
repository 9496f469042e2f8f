//! What a daemon says of one of its resources beyond the original's fields, each with its type: for programs, and for what people are shown.
//!
//! Decides how it stands in a message; never what is known. An original, and an older hastmonctl, ignore all of it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::nv::{Fields, List};
use crate::pause::Paused;
use crate::types::{Role, State};

/// Items of one list in a message that are read: nodes and settings are fewer.
const MAX_ITEMS: usize = 4096;

/// What keeps two nodes from running the resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// Nothing: originals are among the nodes.
    #[default]
    None,
    /// The lease.
    Lease,
    /// The lease, and a script that turns nodes off.
    LeaseAndFencing,
}

impl Protection {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lease => "lease",
            Self::LeaseAndFencing => "lease+fencing",
        }
    }

    const ALL: [Self; 3] = [Self::None, Self::Lease, Self::LeaseAndFencing];
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The resource does not run, or may run where it should not; otherwise it only lacks a reserve.
    pub is_grave: bool,
    /// What, in a few words.
    pub text: String,
}

/// A setting that another node has otherwise in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The other node.
    pub node: String,
    /// The setting.
    pub setting: String,
    /// Its value here.
    pub here: String,
    /// Its value there.
    pub there: String,
}

/// A node of the resource: this one, or what another said last of itself. Without a role it is not connected to this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeDetail {
    /// Its name.
    pub node: String,
    /// Its role.
    pub role: Option<Role>,
    /// The state of the resource there; of a watchdog, of the resource as a whole.
    pub state: Option<State>,
    /// The lower takes over first.
    pub priority: Option<i32>,
    /// How long it has been connected to this node; never of this node itself.
    pub connected_for: Option<Duration>,
}

/// What there is to say of a resource beyond the original's fields. Times are to the microsecond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// This node.
    pub node: String,
    /// What keeps two nodes from running it.
    pub protection: Protection,
    /// The lease that is held here, or else the highest that this node has voted for.
    pub epoch: u64,
    /// An operator answers for the lease that is held here.
    pub is_forced: bool,
    /// How long the lease lasts that is held here, unless it is renewed.
    pub lease_left: Option<Duration>,
    /// Nodes whose votes this node has.
    pub votes: Option<u32>,
    /// Nodes in reach, this one included.
    pub in_reach: Option<u32>,
    /// Nodes that vote.
    pub voters: u32,
    /// Votes that make a primary.
    pub needed: u32,
    /// Who has the vote of this node, and for how long.
    pub bound: Option<(String, Duration)>,
    /// The node that runs the resource, as far as this one knows.
    pub runs_on: Option<String>,
    /// Of a secondary that can: about how soon it would take over.
    pub standby: Option<Duration>,
    /// Why this node gives no votes.
    pub no_votes: Option<String>,
    /// What a primary, or a secondary that wants to be one, waits for.
    pub waits: Option<String>,
    /// How late the worker woke up at worst in the last minute.
    pub lateness: Option<Duration>,
    /// It is paused: on which node that was said, by whom, since when and for how long.
    pub pause: Option<(String, Paused)>,
    /// A primary for which votes are kept, and how many.
    pub kept: Option<(String, u32)>,
    /// The lease that is held here has no end: a majority keeps its votes for it.
    pub is_kept: bool,
    /// The vote of this node is kept, and bound without end.
    pub is_bound_kept: bool,
    /// What is not as it should be: that it is paused, then the gravest first.
    pub troubles: Vec<Trouble>,
    /// The nodes of the resource, in the order of the configuration.
    pub nodes: Vec<NodeDetail>,
    /// Settings in which the file of another node differs.
    pub differences: Vec<Difference>,
}

impl Detail {
    /// Appends the fields of resource number `i`.
    pub fn append_to(&self, list: List, i: usize) -> List {
        let name = |field: &str| format!("{field}{i}");
        let mut list = list
            .with_str(&name("node"), &self.node)
            .with_str(&name("protection"), self.protection.as_str())
            .with_u64(&name("epoch"), self.epoch)
            .with_u8(&name("is_forced"), u8::from(self.is_forced))
            .with_u64(&name("voters"), self.voters.into())
            .with_u64(&name("needed"), self.needed.into());
        let bound = self.bound.as_ref().map(|(_, left)| *left);
        for (field, span) in [
            ("lease_left_us", self.lease_left),
            ("bound_us", bound),
            ("standby_us", self.standby),
            ("lateness_us", self.lateness),
            ("paused_left_us", self.pause.as_ref().and_then(|(_, paused)| paused.left)),
        ] {
            list = span.into_iter().fold(list, |list, span| list.with_u64(&name(field), micros(span)));
        }
        let kept = self.kept.as_ref().map(|(_, votes)| *votes);
        for (field, count) in [("votes", self.votes), ("in_reach", self.in_reach), ("kept", kept)] {
            list = count.into_iter().fold(list, |list, count| list.with_u64(&name(field), count.into()));
        }
        let bound = self.bound.as_ref().map(|(holder, _)| holder);
        for (field, text) in [
            ("bound", bound),
            ("runs_on", self.runs_on.as_ref()),
            ("no_votes", self.no_votes.as_ref()),
            ("waits", self.waits.as_ref()),
            ("kept_for", self.kept.as_ref().map(|(node, _)| node)),
            ("paused_on", self.pause.as_ref().map(|(node, _)| node)),
            ("paused_by", self.pause.as_ref().map(|(_, paused)| &paused.by)),
        ] {
            list = text.into_iter().fold(list, |list, text| list.with_str(&name(field), text));
        }
        if let Some((_, paused)) = &self.pause {
            list = list.with_u64(&name("paused_since"), paused.since_unix_s);
        }
        for (field, is_so) in [("is_kept", self.is_kept), ("is_bound_kept", self.is_bound_kept)] {
            list = list.with_u8(&name(field), u8::from(is_so));
        }
        for (j, trouble) in self.troubles.iter().enumerate() {
            list = list
                .with_str(&format!("trouble{i}.{j}"), &trouble.text)
                .with_u8(&format!("is_grave{i}.{j}"), u8::from(trouble.is_grave));
        }
        for (j, node) in self.nodes.iter().enumerate() {
            let name = |field: &str| format!("{field}{i}.{j}");
            list = list.with_str(&name("peer"), &node.node);
            for (field, number) in
                [("peer_role", node.role.map(Role::to_wire)), ("peer_state", node.state.map(State::to_wire))]
            {
                list = number.into_iter().fold(list, |list, number| list.with_u8(&name(field), number));
            }
            list = node.priority.into_iter().fold(list, |list, number| list.with_i32(&name("peer_priority"), number));
            list =
                node.connected_for.into_iter().fold(list, |list, span| list.with_u64(&name("peer_us"), micros(span)));
        }
        for (j, other) in self.differences.iter().enumerate() {
            list = list
                .with_str(&format!("differs{i}.{j}"), &other.setting)
                .with_str(&format!("differs_on{i}.{j}"), &other.node)
                .with_str(&format!("differs_here{i}.{j}"), &other.here)
                .with_str(&format!("differs_there{i}.{j}"), &other.there);
        }
        list
    }

    /// Reads the fields of resource number `i`; `None` when there are none, or not all that always are.
    pub fn decode(fields: Fields<'_>, i: usize) -> Option<Self> {
        let name = |field: &str| format!("{field}{i}");
        let text = |field: &str| fields.str(&name(field)).map(ToOwned::to_owned);
        let count = |field: &str| fields.u64(&name(field)).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        let span = |field: &str| fields.u64(&name(field)).map(Duration::from_micros);
        let word = text("protection")?;
        let item = |field: &str, j: usize| fields.str(&format!("{field}{i}.{j}")).map(ToOwned::to_owned);
        Some(Self {
            node: text("node")?,
            protection: Protection::ALL.into_iter().find(|known| known.as_str() == word).unwrap_or_default(),
            epoch: fields.u64(&name("epoch"))?,
            is_forced: fields.u8(&name("is_forced"))? != 0,
            lease_left: span("lease_left_us"),
            votes: count("votes"),
            in_reach: count("in_reach"),
            voters: count("voters")?,
            needed: count("needed")?,
            bound: text("bound").zip(span("bound_us")),
            runs_on: text("runs_on"),
            standby: span("standby_us"),
            no_votes: text("no_votes"),
            waits: text("waits"),
            lateness: span("lateness_us"),
            pause: text("paused_on").zip(text("paused_by")).map(|(node, by)| {
                let since_unix_s = fields.u64(&name("paused_since")).unwrap_or_default();
                (node, Paused { by, since_unix_s, left: span("paused_left_us") })
            }),
            kept: text("kept_for").zip(count("kept")),
            is_kept: fields.u8(&name("is_kept")).is_some_and(|is_so| is_so != 0),
            is_bound_kept: fields.u8(&name("is_bound_kept")).is_some_and(|is_so| is_so != 0),
            troubles: (0..MAX_ITEMS)
                .map_while(|j| {
                    let is_grave = fields.u8(&format!("is_grave{i}.{j}"))? != 0;
                    Some(Trouble { is_grave, text: item("trouble", j)? })
                })
                .collect(),
            nodes: (0..MAX_ITEMS)
                .map_while(|j| {
                    let name = |field: &str| format!("{field}{i}.{j}");
                    Some(NodeDetail {
                        node: item("peer", j)?,
                        role: fields.u8(&name("peer_role")).and_then(Role::from_wire),
                        state: fields.u8(&name("peer_state")).map(State::from_wire),
                        priority: fields.i32(&name("peer_priority")),
                        connected_for: fields.u64(&name("peer_us")).map(Duration::from_micros),
                    })
                })
                .collect(),
            differences: (0..MAX_ITEMS)
                .map_while(|j| {
                    Some(Difference {
                        node: item("differs_on", j)?,
                        setting: item("differs", j)?,
                        here: item("differs_here", j)?,
                        there: item("differs_there", j)?,
                    })
                })
                .collect(),
        })
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec as many;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn text() -> impl Strategy<Value = String> {
        "[ -~]{0,20}"
    }

    fn span() -> impl Strategy<Value = Duration> {
        any::<u32>().prop_map(|us| Duration::from_micros(us.into()))
    }

    fn detail() -> impl Strategy<Value = Detail> {
        let lease = (any::<u64>(), any::<bool>(), option::of(span()), option::of((text(), span())));
        let counts = (option::of(any::<u32>()), option::of(any::<u32>()), any::<u32>(), any::<u32>());
        let words = (text(), select(&Protection::ALL[..]), option::of(text()), option::of(text()), option::of(text()));
        let trouble = (any::<bool>(), text()).prop_map(|(is_grave, text)| Trouble { is_grave, text });
        let difference = (text(), text(), text(), text()).prop_map(|(node, setting, here, there)| Difference {
            node,
            setting,
            here,
            there,
        });
        let node = (text(), option::of(select(&Role::ALL[..])), option::of(select(&State::ALL[..])));
        let node = (node, option::of(any::<i32>()), option::of(span())).prop_map(|(words, priority, connected_for)| {
            NodeDetail { node: words.0, role: words.1, state: words.2, priority, connected_for }
        });
        let lists =
            (many(trouble, 0..4), many(difference, 0..4), option::of(span()), option::of(span()), many(node, 0..4));
        let paused = (text(), any::<u64>(), option::of(span()));
        let paused = paused.prop_map(|(by, since_unix_s, left)| Paused { by, since_unix_s, left });
        let pause = (option::of((text(), paused)), option::of((text(), any::<u32>())), any::<bool>(), any::<bool>());
        (lease, counts, words, lists, pause).prop_map(|(lease, counts, words, lists, pause)| Detail {
            pause: pause.0,
            kept: pause.1,
            is_kept: pause.2,
            is_bound_kept: pause.3,
            epoch: lease.0,
            is_forced: lease.1,
            lease_left: lease.2,
            bound: lease.3,
            votes: counts.0,
            in_reach: counts.1,
            voters: counts.2,
            needed: counts.3,
            node: words.0,
            protection: words.1,
            runs_on: words.2,
            waits: words.3,
            no_votes: words.4,
            troubles: lists.0,
            differences: lists.1,
            standby: lists.2,
            lateness: lists.3,
            nodes: lists.4,
        })
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(detail in detail(), other in detail()) {
            let list = other.append_to(detail.append_to(List::new(), 0), 11);
            prop_assert_eq!(Detail::decode(list.fields(), 0), Some(detail));
            prop_assert_eq!(Detail::decode(list.fields(), 11), Some(other));
            prop_assert_eq!(Detail::decode(list.fields(), 1), None);
        }
    }
}
