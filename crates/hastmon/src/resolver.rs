//! Looks names up without ever holding up a loop, and remembers what it found. A name service that hangs holds up one look-up for
//! each name, not one for each question.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hastmon_core::time::Instant;
use tokio::sync::watch;

use crate::os::clock;

/// What was found is used for so long before it is looked up again: an administrator who moves a name does not want to wait.
pub(crate) const FRESH_FOR: Duration = Duration::from_secs(30);

type Answer = Result<Vec<IpAddr>, String>;

/// Shared by all tasks of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolver {
    names: Rc<RefCell<HashMap<String, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    answer: watch::Receiver<Option<(Answer, Instant)>>,
    /// The last answer that had addresses: better than none when the name service is down.
    good: Option<Vec<IpAddr>>,
}

impl Resolver {
    /// The addresses of `name`, as fresh as can be had. Cancelling this does not cancel the look-up, which others may wait for.
    ///
    /// # Errors
    /// The name has no address; in words, with the name.
    pub(crate) async fn lookup(&self, name: &str) -> Answer {
        let mut answer = self.watch(name);
        let found = answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        let (found, _) = found.unwrap_or_else(|| (Err(format!("looking up {name} was cut short")), clock::now()));
        let mut names = self.names.borrow_mut();
        match (found, names.get_mut(name)) {
            (Ok(addresses), Some(entry)) => {
                entry.good = Some(addresses.clone());
                Ok(addresses)
            }
            (Err(why), Some(entry)) => entry.good.clone().ok_or(why),
            (found, None) => found,
        }
    }

    /// The look-up that is under way, or fresh enough, or a new one.
    fn watch(&self, name: &str) -> watch::Receiver<Option<(Answer, Instant)>> {
        let mut names = self.names.borrow_mut();
        if let Some(entry) = names.get(name) {
            let usable = match &*entry.answer.borrow() {
                None => true,
                Some((answer, at)) => answer.is_ok() && clock::now().since(*at) < FRESH_FOR,
            };
            if usable {
                return entry.answer.clone();
            }
        }
        let good = names.remove(name).and_then(|entry| entry.good);
        let (sender, answer) = watch::channel(None);
        names.insert(name.to_string(), Entry { answer: answer.clone(), good });
        let name = name.to_string();
        tokio::task::spawn_local(async move {
            let found = look_up(&name).await;
            // Nobody may be waiting any more.
            let _ = sender.send(Some((found, clock::now())));
        });
        answer
    }
}

async fn look_up(name: &str) -> Answer {
    match tokio::net::lookup_host((name, 0)).await {
        Err(error) => Err(format!("cannot find the address of {name}: {error}")),
        Ok(found) => {
            let addresses: Vec<IpAddr> = found.map(|address| address.ip().to_canonical()).collect();
            if addresses.is_empty() { Err(format!("{name} has no address")) } else { Ok(addresses) }
        }
    }
}
