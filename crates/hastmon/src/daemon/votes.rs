//! The votes of this node on disk: found at the start of a resource, written before they leave the node. Off the loop; decides nothing.

use std::io;
use std::sync::Arc;

use hastmon_core::daemon::Input;
use hastmon_core::lease::record::{NotFound, Record};
use hastmon_core::pause::PauseRecord;
use tokio::sync::{Semaphore, mpsc};

use super::News;
use crate::os::{clock, thread};
use crate::store::writer::{Writer, Written};
use crate::store::{Store, StoreError};

/// Records that are looked for at once, each in a thread of its own. More of them read no faster, and a disk that hangs holds so many at most.
const LOOKS_AT_ONCE: usize = 8;

/// The store, and the way to its threads.
#[derive(Debug)]
pub(super) struct Votes {
    news: mpsc::Sender<News>,
    store: Arc<Store>,
    writer: Writer,
    looks: Arc<Semaphore>,
}

impl Votes {
    pub(super) fn new(news: mpsc::Sender<News>, store: Store) -> io::Result<Self> {
        let store = Arc::new(store);
        let (writer, written) = Writer::start(&store)?;
        tokio::task::spawn_local(tell(written, news.clone()));
        Ok(Self { news, store, writer, looks: Arc::new(Semaphore::new(LOOKS_AT_ONCE)) })
    }

    /// Looks for the record of a resource.
    pub(super) fn find(&self, resource: String) {
        let (store, news, looks) = (Arc::clone(&self.store), self.news.clone(), Arc::clone(&self.looks));
        tokio::task::spawn_local(async move {
            let name = resource.clone();
            let turn = looks.acquire_owned().await;
            let found = match thread::run("votes", move || store.read(&name)).await {
                Ok(found) => found.map_err(|error| match error {
                    StoreError::Damaged { .. } => NotFound::Damaged(error.to_string()),
                    error => NotFound::Unreadable(error.to_string()),
                }),
                Err(error) => Err(NotFound::Unreadable(error.to_string())),
            };
            drop(turn);
            let _ = news.send(News::Input(Input::RecordFound { resource, found })).await;
        });
    }

    /// Writes the record of a resource.
    pub(super) fn write(&self, id: u64, resource: String, record: Record) {
        let result = self.writer.write(id, resource.clone(), Some(record));
        self.tell_not_taken(Written { id, resource, is_pause: false, result });
    }

    /// Writes what is to be known of a pause after a restart.
    pub(super) fn write_pause(&self, id: u64, record: &PauseRecord) {
        let resource = record.resource.clone();
        let result = self.writer.write_pause(id, resource.clone(), record.to_text(clock::unix_time_s()));
        self.tell_not_taken(Written { id, resource, is_pause: true, result });
    }

    /// What was not even taken comes back at once.
    fn tell_not_taken(&self, written: Written) {
        if written.result.is_err() {
            let news = self.news.clone();
            tokio::task::spawn_local(async move { news.send(News::Input(input(written))).await });
        }
    }
}

/// Tells the loop of what has been written.
async fn tell(mut written: mpsc::Receiver<Written>, news: mpsc::Sender<News>) {
    while let Some(written) = written.recv().await {
        let _ = news.send(News::Input(input(written))).await;
    }
}

fn input(Written { id, resource, is_pause, result }: Written) -> Input {
    let result = result.map_err(|error| error.to_string());
    match is_pause {
        true => Input::PauseRecorded { resource, id, result },
        false => Input::Recorded { resource, id, result },
    }
}
