//! What becomes of an event besides its line in the log: it gets its time, its number, its node and its epoch, and goes to the history.
//! Waits for nobody.

use std::io;

use hastmon_core::daemon::Daemon;
use hastmon_core::event::Event;
use hastmon_core::time::Instant;
use tokio::sync::mpsc;

use super::News;
use crate::history::Record;
use crate::history::writer::Writer;
use crate::log_event;
use crate::os::clock;
use crate::store::Store;

/// News of the history that wait: it is written, or it is not.
const MAX_TROUBLES: usize = 2;

/// The way of all events of this daemon and of its workers.
#[derive(Debug)]
pub(super) struct Events {
    writer: Writer,
    seq: u64,
    /// Those that the history had no room for and that it does not know of yet.
    lost: u64,
}

impl Events {
    /// Begins the history, of this size in bytes at most. Call it before this process becomes realtime: the history need not be in time.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(news: mpsc::Sender<News>, store: &Store, limit: u64) -> io::Result<Self> {
        let (teller, mut troubles) = mpsc::channel(MAX_TROUBLES);
        let tell = move |trouble| teller.try_send(trouble).is_ok();
        let writer = Writer::start(store.directory().to_path_buf(), limit, tell)?;
        tokio::task::spawn_local(async move {
            while let Some(trouble) = troubles.recv().await {
                let _ = news.send(News::History(trouble)).await;
            }
        });
        Ok(Self { writer, seq: 0, lost: 0 })
    }

    /// An event of this process, which goes to the log, too.
    pub(super) fn tell(&mut self, daemon: &Daemon, resource: Option<&str>, event: Event) {
        log_event(resource, &event);
        self.record(daemon, clock::now(), resource, event);
    }

    /// An event of a worker, which has logged it itself.
    pub(super) fn record(&mut self, daemon: &Daemon, at: Instant, resource: Option<&str>, event: Event) {
        let unix_ms = clock::unix_time_ms(at);
        let epoch = resource.and_then(|name| daemon.epoch_of(name));
        if self.lost > 0 {
            let missing = Event::EventsLost { count: self.lost };
            let record = Record::new(unix_ms, self.next_seq(), &daemon.config().node, None, None, missing.clone());
            if self.writer.push(record).is_ok() {
                self.lost = 0;
                log_event(None, &missing);
            }
        }
        let record = Record::new(unix_ms, self.next_seq(), &daemon.config().node, resource, epoch, event);
        if self.writer.push(record).is_err() {
            self.lost += 1;
        }
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// A configuration has come into force.
    pub(super) fn adopt(&self, daemon: &Daemon) {
        if !self.writer.limit(daemon.config().history_bytes) {
            log::warn!("the history keeps its size until the next reload: the disk does not keep up");
        }
    }

    /// Waits, not for long, until all is written.
    pub(super) fn end(self) {
        self.writer.end();
    }
}
