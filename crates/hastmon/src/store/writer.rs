//! Writes votes in threads of their own, so that no loop waits for a disk. Keeps the order of the writes of a resource; decides nothing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use hastmon_core::lease::record::Record;
use tokio::sync::mpsc;

use super::{Store, StoreError};

/// Disks and file systems sync several files at once in the time of one: a node that dies leaves the votes of all its resources to be given
/// at once.
const THREADS: usize = 4;
/// Votes that may wait for each thread. Candidates ask again, so that a refusal costs time and nothing else.
const MAX_WAITING: usize = 256;
/// What is written and not yet taken note of.
const MAX_WRITTEN: usize = 64;

/// The way to the threads. When it is dropped, they write what waits, and end.
#[derive(Debug)]
pub(crate) struct Writer {
    threads: Vec<SyncSender<Job>>,
}

#[derive(Debug)]
struct Job {
    id: u64,
    resource: String,
    what: What,
}

/// What is to be written.
#[derive(Debug)]
enum What {
    Vote(Option<Record>),
    Pause(String),
}

/// What has become of a write.
#[derive(Debug)]
pub(crate) struct Written {
    /// The number that it was given.
    pub(crate) id: u64,
    /// What it was about.
    pub(crate) resource: String,
    /// It is a pause, no vote.
    pub(crate) is_pause: bool,
    /// As of [`Store::write`].
    pub(crate) result: Result<(), StoreError>,
}

impl Writer {
    /// Starts the threads; what they have written is heard from the receiver, which must be listened to.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(store: &Arc<Store>) -> io::Result<(Self, mpsc::Receiver<Written>)> {
        let (news, written) = mpsc::channel(MAX_WRITTEN);
        let start = || {
            let (jobs, waiting) = sync_channel(MAX_WAITING);
            let (store, news) = (Arc::clone(store), news.clone());
            thread::Builder::new().name("votes".to_string()).spawn(move || work(&store, &waiting, &news))?;
            Ok(jobs)
        };
        let threads = (0..THREADS).map(|_| start()).collect::<io::Result<_>>()?;
        Ok((Self { threads }, written))
    }

    /// Has a vote written as by [`Store::write`]; `id` comes back with the result. Writes of one resource are done one after the other, in
    /// the order in which they were asked for.
    ///
    /// # Errors
    /// [`StoreError::Busy`]: nothing will be written, and nothing comes back.
    pub(crate) fn write(&self, id: u64, resource: String, record: Option<Record>) -> Result<(), StoreError> {
        self.take(id, resource, What::Vote(record))
    }

    /// The same for the text of a pause.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub(crate) fn write_pause(&self, id: u64, resource: String, text: String) -> Result<(), StoreError> {
        self.take(id, resource, What::Pause(text))
    }

    fn take(&self, id: u64, resource: String, what: What) -> Result<(), StoreError> {
        let mut hasher = DefaultHasher::new();
        resource.hash(&mut hasher);
        let turn = usize::try_from(hasher.finish() % THREADS as u64).unwrap_or(0);
        let thread = self.threads.get(turn).ok_or(StoreError::Busy)?;
        thread.try_send(Job { id, resource, what }).map_err(|_| StoreError::Busy)
    }
}

fn work(store: &Store, waiting: &Receiver<Job>, news: &mpsc::Sender<Written>) {
    for Job { id, resource, what } in waiting {
        let (is_pause, result) = match &what {
            What::Vote(record) => (false, store.write(&resource, record.as_ref())),
            What::Pause(text) => (true, store.write_pause(&resource, text)),
        };
        // Nobody listens when the daemon ends; what waits is written all the same.
        let _ = news.blocking_send(Written { id, resource, is_pause, result });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{directory, record};
    use std::collections::HashMap;

    #[test]
    fn writes_of_a_resource_keep_their_order_and_all_come_back() {
        let (_directory, path) = directory();
        let store = Arc::new(Store::open(&path).unwrap());
        let (writer, mut written) = Writer::start(&store).unwrap();
        let mut last = HashMap::new();
        let mut heard = Vec::new();
        for id in 0..200 {
            let resource = format!("web{}", id % 7);
            let record = (id % 3 != 0).then(|| record(id));
            last.insert(resource.clone(), record.clone());
            writer.write(id, resource, record).unwrap();
            while let Ok(Written { id, result, .. }) = written.try_recv() {
                result.unwrap();
                heard.push(id);
            }
        }
        drop(writer);
        while let Some(Written { id, result, .. }) = written.blocking_recv() {
            result.unwrap();
            heard.push(id);
        }
        for (resource, record) in last {
            assert_eq!(store.read(&resource).unwrap(), record);
        }
        for resource in 0..7 {
            let ids: Vec<_> = heard.iter().filter(|id| *id % 7 == resource).collect();
            assert!(ids.is_sorted());
        }
        heard.sort_unstable();
        assert!(heard.into_iter().eq(0..200));
    }

    #[test]
    fn more_than_may_wait_is_refused_and_nothing_blocks() {
        let (_directory, path) = directory();
        let store = Arc::new(Store::open(&path).unwrap());
        let (writer, mut written) = Writer::start(&store).unwrap();
        let taken = (0..10_000).filter(|id| writer.write(*id, "web".to_string(), None).is_ok()).count();
        assert!((MAX_WAITING..10_000).contains(&taken), "{taken}");
        drop(writer);
        let mut count = 0;
        while written.blocking_recv().is_some() {
            count += 1;
        }
        assert_eq!(count, taken);
    }
}
