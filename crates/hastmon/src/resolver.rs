//! Looks names up without ever holding up a loop, and remembers what it found. A name service that hangs holds up one look-up for
//! each name, not one for each question; and none at all for a name that it has once known.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use hastmon_core::time::Instant;
use tokio::sync::{Semaphore, watch};

use crate::os::{clock, thread};

/// What was found is looked up again after this time: an administrator who moves a name does not want to wait.
const FRESH_FOR: Duration = Duration::from_secs(15);
/// The daemon looks so often whether a name is due; one that has no address is looked up every time.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Look-ups at once, each in a thread of its own that may hang. Names of different zones hang independently of each other.
const MAX_AT_ONCE: usize = 4;

/// The addresses of a name, or why there are none; in words, with the name.
pub(crate) type Answer = Result<Vec<IpAddr>, String>;

/// Shared by all tasks of a process.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    names: Rc<RefCell<HashMap<String, Entry>>>,
    turns: Rc<Semaphore>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The look-up that is under way.
    pending: Option<watch::Receiver<Option<Answer>>>,
    /// The last answer that had addresses: better than none when the name service is down or slow.
    good: Option<Good>,
}

#[derive(Debug)]
struct Good {
    addresses: Vec<IpAddr>,
    at: Instant,
}

impl Entry {
    fn is_fresh(&self) -> bool {
        self.good.as_ref().is_some_and(|good| clock::now().since(good.at) < FRESH_FOR)
    }
}

impl Resolver {
    pub(crate) fn new() -> Self {
        Self { names: Rc::default(), turns: Rc::new(Semaphore::new(MAX_AT_ONCE)) }
    }

    /// The addresses of `name`, to connect to. What is known is used at once; when it is old, it is looked up again for the next time.
    ///
    /// # Errors
    /// The name has no address, and had none before.
    pub(crate) async fn lookup(&self, name: &str) -> Answer {
        let (known, is_fresh) = {
            let names = self.names.borrow();
            let entry = names.get(name);
            let known = entry.and_then(|entry| entry.good.as_ref()).map(|good| good.addresses.clone());
            (known, entry.is_some_and(Entry::is_fresh))
        };
        if is_fresh && let Some(addresses) = known {
            return Ok(addresses);
        }
        let pending = self.start(name);
        match known {
            Some(addresses) => Ok(addresses),
            None => Self::wait(name, pending).await,
        }
    }

    /// Looks `name` up when that is due; `None` when it is not, or is under way already.
    pub(crate) async fn refresh(&self, name: &str) -> Option<Answer> {
        let is_due = self.names.borrow().get(name).is_none_or(|entry| entry.pending.is_none() && !entry.is_fresh());
        if !is_due {
            return None;
        }
        let pending = self.start(name);
        Some(Self::wait(name, pending).await)
    }

    /// Whatever is known is old from now on: the administrator has changed something.
    pub(crate) fn expire(&self) {
        for entry in self.names.borrow_mut().values_mut() {
            if let Some(good) = &mut entry.good {
                good.at = clock::now() - FRESH_FOR;
            }
        }
    }

    async fn wait(name: &str, mut pending: watch::Receiver<Option<Answer>>) -> Answer {
        let found = pending.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        found.unwrap_or_else(|| Err(format!("looking up {name} was cut short")))
    }

    /// The look-up that is under way, or a new one. It goes on when nobody waits for it any more.
    fn start(&self, name: &str) -> watch::Receiver<Option<Answer>> {
        let mut names = self.names.borrow_mut();
        let entry = names.entry(name.to_string()).or_default();
        if let Some(pending) = &entry.pending {
            return pending.clone();
        }
        let (sender, pending) = watch::channel(None);
        entry.pending = Some(pending.clone());
        let (this, name) = (self.clone(), name.to_string());
        tokio::task::spawn_local(async move {
            // Never closed.
            let turn = this.turns.acquire().await;
            let answer = look_up(&name).await;
            drop(turn);
            if let Some(entry) = this.names.borrow_mut().get_mut(&name) {
                entry.pending = None;
                if let Ok(addresses) = &answer {
                    entry.good = Some(Good { addresses: addresses.clone(), at: clock::now() });
                }
            }
            // Nobody may be waiting any more.
            let _ = sender.send(Some(answer));
        });
        pending
    }
}

async fn look_up(name: &str) -> Answer {
    let wanted = name.to_string();
    // Once for the thread, once for the look-up.
    match thread::run("look-up", move || (wanted.as_str(), 0).to_socket_addrs()).await.and_then(|found| found) {
        Err(error) => Err(format!("cannot find the address of {name}: {error}")),
        Ok(found) => {
            let addresses: Vec<IpAddr> = found.map(|address| address.ip().to_canonical()).collect();
            if addresses.is_empty() { Err(format!("{name} has no address")) } else { Ok(addresses) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const OLD: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, work)
    }

    fn knows(name: &str, age: Duration) -> Resolver {
        let resolver = Resolver::new();
        let good = Good { addresses: vec![OLD], at: clock::now() - age };
        resolver.names.borrow_mut().insert(name.to_string(), Entry { pending: None, good: Some(good) });
        resolver
    }

    #[test]
    fn a_name_that_is_known_is_never_waited_for_and_looked_up_for_the_next_time() {
        run(async {
            let resolver = knows("localhost", FRESH_FOR);
            let lookup = resolver.lookup("localhost");
            assert_eq!(lookup.await, Ok(vec![OLD]));
            let pending = resolver.names.borrow()["localhost"].pending.clone();
            let found = Resolver::wait("localhost", pending.expect("it is looked up")).await.unwrap();
            assert_ne!(found, [OLD]);
            assert_eq!(resolver.lookup("localhost").await, Ok(found));
        });
    }

    #[test]
    fn the_daemon_hears_that_a_name_is_lost_while_connections_go_on_with_what_was_known() {
        run(async {
            let name = "nodename.invalid";
            let resolver = knows(name, FRESH_FOR);
            let lost = resolver.refresh(name).await.expect("it is due").unwrap_err();
            assert!(lost.contains(name), "{lost}");
            assert_eq!(resolver.lookup(name).await, Ok(vec![OLD]));
        });
    }

    #[test]
    fn what_is_fresh_is_not_looked_up_and_what_was_never_known_is_looked_up_every_time() {
        run(async {
            assert_eq!(knows("nodename.invalid", FRESH_FOR / 2).refresh("nodename.invalid").await, None);
            let resolver = Resolver::new();
            for _ in 0..2 {
                assert!(resolver.refresh("nodename.invalid").await.is_some_and(|found| found.is_err()));
            }
        });
    }
}
