//! What becomes of an event besides its line in the log: it gets its time, its number, its node and its epoch, and goes to the history, to the
//! metrics, and to the script of `notify`. Waits for nobody.

use std::io;
use std::time::Duration;

use hastmon_core::daemon::Daemon;
use hastmon_core::event::Event;
use hastmon_core::time::Instant;
use tokio::sync::mpsc;

use super::News;
use super::metrics::Metrics;
use super::notify::Notifier;
use crate::history::Record;
use crate::history::writer::{Trouble, Writer};
use crate::log_event;
use crate::os::clock;
use crate::store::Store;

/// News of the history that wait: it is written, or it is not.
const MAX_TROUBLES: usize = 2;

/// Begins the history, of this size in bytes at most. Call it before this process becomes realtime: the history need not be in time.
///
/// # Errors
/// The system has no thread left.
pub(super) fn start_history(news: mpsc::Sender<News>, store: &Store, limit: u64) -> io::Result<Writer> {
    let (teller, mut troubles) = mpsc::channel(MAX_TROUBLES);
    let tell = move |trouble| teller.try_send(trouble).is_ok();
    let writer = Writer::start(store.directory().to_path_buf(), limit, tell)?;
    tokio::task::spawn_local(async move {
        while let Some(trouble) = troubles.recv().await {
            let event = match trouble {
                Trouble::Begins(why) => Event::HistoryFailed { why },
                Trouble::Ends => Event::HistoryBack,
            };
            let _ = news.send(News::Event(None, Box::new(event))).await;
        }
    });
    Ok(writer)
}

/// The way of all events of this daemon and of its workers.
#[derive(Debug)]
pub(super) struct Events {
    history: Writer,
    metrics: Metrics,
    notifier: Notifier,
    seq: u64,
    /// Those that the history had no room for and that it does not know of yet.
    lost: u64,
}

impl Events {
    pub(super) fn new(history: Writer, notifier: Notifier) -> Self {
        Self { history, metrics: Metrics::new(), notifier, seq: 0, lost: 0 }
    }

    /// An event of this process, which goes to the log, too.
    pub(super) fn tell(&mut self, daemon: &Daemon, resource: Option<&str>, event: Event) {
        log_event(resource, &event);
        self.record(daemon, clock::now(), resource, event);
    }

    /// An event of a worker, which has logged it itself.
    pub(super) fn record(&mut self, daemon: &Daemon, at: Instant, resource: Option<&str>, event: Event) {
        if self.lost > 0 {
            let missing = Event::EventsLost { count: self.lost };
            let record = self.record_of(daemon, at, None, missing.clone());
            if self.history.push(record).is_ok() {
                self.lost = 0;
                log_event(None, &missing);
                self.metrics.note(None, &missing);
            }
        }
        self.metrics.note(resource, &event);
        let record = self.record_of(daemon, at, resource, event);
        if record.event.is_for_notify()
            && let Some(path) = script_for(daemon, resource)
        {
            self.notifier.push(path, record.clone());
        }
        if self.history.push(record).is_err() {
            self.lost += 1;
        }
    }

    fn record_of(&mut self, daemon: &Daemon, at: Instant, resource: Option<&str>, event: Event) -> Record {
        self.seq += 1;
        let epoch = resource.and_then(|name| daemon.epoch_of(name));
        Record::new(clock::unix_time_ms(at), self.seq, &daemon.config().node, resource, epoch, event)
    }

    /// Calls of `status` that said what the one before said.
    pub(super) fn note_statuses(&mut self, resource: &str, statuses: &[Duration]) {
        self.metrics.note_statuses(resource, statuses);
    }

    /// All that is measured, as a collector reads it.
    pub(super) fn metrics(&self, daemon: &Daemon) -> String {
        self.metrics.text(clock::now(), daemon, self.notifier.counts())
    }

    /// A configuration has come into force.
    pub(super) fn adopt(&mut self, daemon: &Daemon) {
        self.metrics.forget_gone(daemon);
        if !self.history.limit(daemon.config().history_bytes) {
            log::warn!("the history keeps its size until the next reload: the disk does not keep up");
        }
    }

    /// Waits, not for long, until what was told last is told; for a script only when this process need not leave at once.
    pub(super) async fn end(self, at_once: bool) {
        if !at_once {
            self.notifier.end().await;
        }
        self.history.end();
    }
}

/// The script that is told of the events of a resource; of one that has left the configuration, that of the whole file.
fn script_for<'a>(daemon: &'a Daemon, resource: Option<&str>) -> Option<&'a str> {
    let settings = daemon.resources().iter().map(|supervisor| supervisor.settings());
    let of_resource = settings.into_iter().find(|settings| resource == Some(settings.name.as_str()));
    match of_resource {
        Some(settings) => settings.notify.as_deref(),
        None => daemon.config().notify.as_deref(),
    }
}
