//! Keeps peers from filling the log: of each kind of event that they can cause at will, a burst is told event by event, and a flood as
//! one line for each second with a count. A refusal that repeats another one to the letter, as of a node with the wrong key that tries again
//! and again, is told once a minute. Decides what is told and when; [`Event::flood`] says which events it is for.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::event::{Event, Flood};
use crate::time::{Duration, Instant};

/// Events in a row that are told one by one: as many as an administrator reads.
pub const BURST: u32 = 20;
/// After a burst, one line for each such interval; in quiet times each one makes up for one event of a burst.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// The same refusal is told again after this time: often enough for whoever looks at the end of the log.
pub const SAME_INTERVAL: Duration = Duration::from_secs(60);
/// Refusals that are remembered for that: more than a cluster has nodes that are wrong at once. Strangers that come from more addresses are a
/// flood.
const MAX_SAME: usize = 16;

/// Of a resource, or of the daemon as a whole.
type Key = (Option<String>, Flood);

/// Decides which events are told at once, and holds the others back to be counted.
#[derive(Debug, Default)]
pub struct RateLimit {
    kinds: BTreeMap<Key, Bucket>,
    /// When the first of what is held back is due: with a thousand resources nobody looks at all of them in every turn.
    due: Option<Instant>,
    same: Vec<Same>,
}

/// A refusal that was told, and how often it has come again since.
#[derive(Debug)]
struct Same {
    key: Key,
    event: Event,
    told: Instant,
    again: u64,
}

#[derive(Debug)]
struct Bucket {
    left: u32,
    refilled: Instant,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    last: Event,
    /// Those before it.
    others: u64,
    due: Instant,
}

impl RateLimit {
    /// What is to be done at the end of a turn, without the events that peers cause too often, and with what of them is due.
    ///
    /// `split` takes the event of an action with its resource, or gives the action back; `join` makes an action of both.
    pub fn hold_back<A>(
        &mut self,
        now: Instant,
        actions: Vec<A>,
        split: impl Fn(A) -> Result<(Option<String>, Event), A>,
        join: impl Fn(Option<String>, Event) -> A,
    ) -> Vec<A> {
        let due = self.take_due(now);
        let kept = actions.into_iter().filter_map(|action| match split(action) {
            Ok((resource, event)) => {
                let event = self.admit(now, resource.as_deref(), event)?;
                Some(join(resource, event))
            }
            Err(other) => Some(other),
        });
        // As a rule nothing is due, and the list is filtered in its place.
        if due.is_empty() {
            return kept.collect();
        }
        let mut told: Vec<A> = due.into_iter().map(|(resource, event)| join(resource, event)).collect();
        told.extend(kept);
        told
    }

    /// Passes an event through, or holds it back when there have been too many like it.
    pub fn admit(&mut self, now: Instant, resource: Option<&str>, event: Event) -> Option<Event> {
        let Some(flood) = event.flood() else { return Some(event) };
        let key = (resource.map(Into::into), flood);
        if matches!(flood, Flood::Strangers | Flood::Refusals) && self.is_same(now, &key, &event) {
            return None;
        }
        let bucket = self.kinds.entry(key).or_insert(Bucket { left: BURST, refilled: now, held: None });
        let admitted = bucket.admit(now, event);
        let due = bucket.held.as_ref().map(|held| held.due);
        self.due = self.due.into_iter().chain(due).min();
        admitted
    }

    /// Whether it was told a short while ago; from now on it was.
    fn is_same(&mut self, now: Instant, key: &Key, event: &Event) -> bool {
        if let Some(same) = self.same.iter_mut().find(|same| same.key == *key && same.event == *event) {
            same.again += 1;
            return true;
        }
        if self.same.len() == MAX_SAME {
            self.same.remove(0);
        }
        self.same.push(Same { key: key.clone(), event: event.clone(), told: now, again: 0 });
        false
    }

    /// Refusals that have come again within the last minute; those that have not are forgotten.
    fn take_same(&mut self, now: Instant) -> Vec<(Option<String>, Event)> {
        let mut told = Vec::new();
        self.same.retain_mut(|same| {
            if now < same.told + SAME_INTERVAL {
                return true;
            }
            let again = core::mem::take(&mut same.again);
            if again > 0 {
                same.told = now;
                told.push((same.key.0.clone(), repeated(same.event.clone(), again - 1)));
            }
            again > 0
        });
        told
    }

    /// What was held back and is to be told now, with its resource.
    pub fn take_due(&mut self, now: Instant) -> Vec<(Option<String>, Event)> {
        let mut told = Vec::new();
        if self.due.is_some_and(|due| now >= due) {
            let due = self.kinds.iter_mut().filter_map(|((resource, _), bucket)| {
                let held = bucket.held.take_if(|held| now >= held.due)?;
                bucket.refill(now);
                bucket.left = bucket.left.saturating_sub(1);
                let Held { last, others, .. } = held;
                Some((resource.clone(), repeated(last, others)))
            });
            told.extend(due);
            self.due = self.kinds.values().filter_map(|bucket| Some(bucket.held.as_ref()?.due)).min();
        }
        told.extend(self.take_same(now));
        told
    }

    /// When [`take_due`](Self::take_due) will have something.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due
            .into_iter()
            .chain(self.same.iter().filter(|same| same.again > 0).map(|same| same.told + SAME_INTERVAL))
            .min()
    }
}

fn repeated(last: Event, others: u64) -> Event {
    if others == 0 { last } else { Event::Repeated { last: Box::new(last), others } }
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let earned = now.since(self.refilled).as_nanos() / INTERVAL.as_nanos();
        if earned > 0 {
            self.left = self.left.saturating_add(u32::try_from(earned).unwrap_or(BURST)).min(BURST);
            self.refilled = now;
        }
    }

    fn admit(&mut self, now: Instant, event: Event) -> Option<Event> {
        if let Some(held) = &mut self.held {
            held.last = event;
            held.others += 1;
            return None;
        }
        self.refill(now);
        if self.left > 0 {
            self.left -= 1;
            return Some(event);
        }
        self.held = Some(Held { last: event, others: 0, due: now + INTERVAL });
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    fn refused(number: u32) -> Event {
        Event::StrangerRefused { address: format!("192.0.2.{number}") }
    }

    fn told(limit: &mut RateLimit, now: Instant) -> Vec<String> {
        limit.take_due(now).into_iter().map(|(_, event)| event.to_string()).collect()
    }

    #[test]
    fn a_flood_is_told_as_a_count_for_each_second_and_at_its_end() {
        let mut limit = RateLimit::default();
        let start = Instant::from_nanos(0);
        assert_eq!((0..1000).filter_map(|number| limit.admit(start, None, refused(number))).count(), 20);
        assert_eq!(limit.next_deadline(), Some(start + INTERVAL));
        assert_eq!(told(&mut limit, start), [""; 0]);
        let expected = "refused 192.0.2.999: it is in no friends and no remote (and 979 more like this)";
        assert_eq!(told(&mut limit, start + INTERVAL), [expected]);
        // The flood goes on: the second that has passed was worth the line that told the count.
        assert_eq!(limit.admit(start + INTERVAL, None, refused(1)), None);
        assert_eq!(
            told(&mut limit, start + INTERVAL * 2),
            ["refused 192.0.2.1: it is in no friends and no remote"],
            "one that was held back alone is told as it is"
        );
        assert_eq!(limit.next_deadline(), None, "the flood is over, and nothing of it is left to tell");
        assert_eq!(limit.admit(start + INTERVAL * 100, None, refused(7)), Some(refused(7)));
    }

    #[test]
    fn the_same_refusal_is_told_once_a_minute_and_hides_no_other() {
        let mut limit = RateLimit::default();
        let start = Instant::from_nanos(0);
        assert!(limit.admit(start, None, refused(1)).is_some());
        for second in 1..=59 {
            let now = start + INTERVAL * second;
            assert_eq!(limit.admit(now, None, refused(1)), None);
            assert_eq!(told(&mut limit, now), [""; 0]);
        }
        assert!(limit.admit(start + INTERVAL * 59, None, refused(2)).is_some());
        assert!(limit.admit(start + INTERVAL * 59, Some("web"), refused(1)).is_some(), "of another resource");
        assert_eq!(limit.next_deadline(), Some(start + SAME_INTERVAL));
        let expected = "refused 192.0.2.1: it is in no friends and no remote (and 58 more like this)";
        assert_eq!(told(&mut limit, start + SAME_INTERVAL), [expected]);
        assert_eq!(limit.next_deadline(), None, "it has not come again since");
        assert_eq!(told(&mut limit, start + SAME_INTERVAL * 2), [""; 0]);
        assert!(limit.admit(start + SAME_INTERVAL * 2, None, refused(1)).is_some(), "that was long ago");
    }

    #[test]
    fn a_flood_of_one_kind_hides_neither_another_kind_nor_another_resource() {
        let mut limit = RateLimit::default();
        let now = Instant::from_nanos(0);
        let refusal = || Event::CallerRefused { caller: "192.0.2.1".to_string(), why: "set role".to_string() };
        let heard = || Event::HookDropped(crate::hooks::Hook::Complain);
        for number in 0..1000 {
            limit.admit(now, None, refused(number));
            limit.admit(now, Some("web"), heard());
        }
        assert_eq!(limit.admit(now, None, refusal()), Some(refusal()));
        assert_eq!(limit.admit(now, Some("mail"), heard()), Some(heard()));
    }

    #[test]
    fn what_no_peer_can_cause_at_will_is_never_held_back() {
        let mut limit = RateLimit::default();
        let now = Instant::from_nanos(0);
        assert!((0..1000).all(|_| limit.admit(now, None, Event::MayStillRun).is_some()));
    }
}
