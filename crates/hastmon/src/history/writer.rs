//! Appends to the history in a thread of its own, within a bound. Nothing waits for it: what finds the line full is lost, and counted by who
//! brings it. Nothing is synced: a disk that is busy with votes is not kept from them, and what power takes of the history is the last moments.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};

use super::{MAX_LINE, Record, Segment, segments};

/// Records that may wait for the disk: a few hundred bytes each, and more than a failover of many resources brings in a second.
const MAX_WAITING: usize = 1024;
/// A segment is this part of the whole, so that what is removed at once is little,
const SEGMENT_PARTS: u64 = 16;
/// and no larger than this: the last events are found without reading more.
const MAX_SEGMENT: u64 = 1 << 20;
/// A history of several gigabytes has no more files than this.
const MAX_SEGMENTS: u64 = 1024;
/// At its end the daemon waits so long for what waits to be written.
const END_TIME: Duration = Duration::from_secs(1);
/// The thread needs little.
const STACK: usize = 128 << 10;

/// What has become of the history, told when it changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It cannot be written, and why.
    Begins(String),
    /// It is written again.
    Ends,
}

#[derive(Debug)]
enum Job {
    Record(Box<Record>),
    Limit(u64),
}

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: SyncSender<Job>,
    ended: Receiver<()>,
}

/// There is no room for another record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Writer {
    /// Starts the thread, for a history in `directory` of `limit` bytes at most; 0: none is written, and one that is there is left alone.
    /// `tell` is called in it; it says whether it could tell.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(
        directory: PathBuf,
        limit: u64,
        mut tell: impl FnMut(Trouble) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(MAX_WAITING);
        let (end, ended) = channel();
        let thread = thread::Builder::new().name("history".to_string()).stack_size(STACK);
        thread.spawn(move || {
            let mut history = History::new(directory, limit);
            let mut told = None;
            for job in waiting {
                match job {
                    Job::Limit(limit) => history.limit = limit,
                    Job::Record(record) => {
                        let trouble = history.append(&record.to_line()).err().map(|error| history.in_words(&error));
                        // A disk that is full says so once, not at every event.
                        let news = match (&told, &trouble) {
                            (None, Some(why)) => Some(Trouble::Begins(why.clone())),
                            (Some(_), None) => Some(Trouble::Ends),
                            _ => None,
                        };
                        if news.is_none_or(&mut tell) {
                            told = trouble;
                        }
                    }
                }
            }
            let _ = end.send(());
        })?;
        Ok(Self { jobs, ended })
    }

    /// Has a record written.
    ///
    /// # Errors
    /// [`Full`]: it is lost.
    pub(crate) fn push(&self, record: Record) -> Result<(), Full> {
        self.jobs.try_send(Job::Record(Box::new(record))).map_err(|_| Full)
    }

    /// From now on the history has another limit. Says whether that is taken note of.
    pub(crate) fn limit(&self, bytes: u64) -> bool {
        !matches!(self.jobs.try_send(Job::Limit(bytes)), Err(TrySendError::Full(_)))
    }

    /// Waits until what waits is written, but not for long.
    pub(crate) fn end(self) {
        drop(self.jobs);
        let _ = self.ended.recv_timeout(END_TIME);
    }
}

/// The files.
struct History {
    directory: PathBuf,
    limit: u64,
    /// The segment that is appended to.
    open: Option<Open>,
}

struct Open {
    segment: Segment,
    file: File,
    size: u64,
    /// The last line has no end: power has failed, or the disk was full.
    is_torn: bool,
}

impl History {
    const fn new(directory: PathBuf, limit: u64) -> Self {
        Self { directory, limit, open: None }
    }

    fn segment_size(&self) -> u64 {
        let longest = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        (self.limit / SEGMENT_PARTS).min(MAX_SEGMENT).max(self.limit / MAX_SEGMENTS).max(longest)
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.limit == 0 {
            return Ok(());
        }
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let most = self.segment_size();
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open_last()?,
        };
        if open.size > 0 && open.size.saturating_add(length) > most {
            open = Open::create(Segment::new(&self.directory, open.segment.number.saturating_add(1)))?;
            // With this one, which will grow to its size.
            self.prune(self.limit.saturating_sub(most))?;
        }
        let written = open.write(line);
        // One that is gone from the directory, or was read-only for a while, is opened anew.
        self.open = written.is_ok().then_some(open);
        written
    }

    fn open_last(&self) -> io::Result<Open> {
        let last = segments(&self.directory)?.pop();
        Open::create(last.unwrap_or_else(|| Segment::new(&self.directory, 1)))
    }

    /// Removes the oldest segments until all together take this much at most.
    fn prune(&self, most: u64) -> io::Result<()> {
        let all = segments(&self.directory)?;
        let size = |segment: &Segment| fs::symlink_metadata(&segment.path).map_or(0, |file| file.len());
        let mut total: u64 = all.iter().map(size).sum();
        for oldest in all {
            if total <= most {
                break;
            }
            total = total.saturating_sub(size(&oldest));
            fs::remove_file(&oldest.path)?;
        }
        Ok(())
    }

    fn in_words(&self, error: &io::Error) -> String {
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room there, or set `history` to less",
            io::ErrorKind::ReadOnlyFilesystem => "; mount it for writing",
            _ => "",
        };
        format!("cannot write it to {}: {error}{advice}", self.directory.display())
    }
}

impl Open {
    /// Opens a segment to append to it; makes it where it is not there.
    fn create(segment: Segment) -> io::Result<Self> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(open(&segment.path, flags, Mode::RUSR | Mode::WUSR)?);
        let size = file.metadata()?.len();
        let mut last = [0];
        let is_torn = size > 0 && (file.read_at(&mut last, size - 1)? != 1 || last != *b"\n");
        Ok(Self { segment, file, size, is_torn })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.size += 1;
            self.is_torn = false;
        }
        self.file.write_all(line)?;
        self.size = self.size.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Line;
    use super::*;
    use hastmon_core::event::Event;
    use std::sync::Mutex;

    fn record(number: u64) -> Record {
        Record::new(
            1_763_856_448_000 + number,
            number,
            "a",
            Some("web"),
            None,
            Event::WorkerNotStarted { why: number.to_string() },
        )
    }

    fn numbers(directory: &std::path::Path) -> Vec<u64> {
        let mut found = Vec::new();
        for segment in segments(directory).unwrap() {
            let text = fs::read(segment.path).unwrap();
            found.extend(
                text.split(|byte| *byte == b'\n').filter_map(Line::read).map(|line| line.unix_ms - 1_763_856_448_000),
            );
        }
        found
    }

    fn total(directory: &std::path::Path) -> u64 {
        segments(directory).unwrap().iter().map(|segment| fs::metadata(&segment.path).unwrap().len()).sum()
    }

    #[test]
    fn the_newest_events_are_kept_within_the_limit_and_over_restarts() {
        let directory = tempfile::tempdir().unwrap();
        const LIMIT: u64 = 64 << 10;
        for run in 0..5 {
            let mut history = History::new(directory.path().into(), LIMIT);
            for number in run * 1000..(run + 1) * 1000 {
                history.append(&record(number).to_line()).unwrap();
            }
            assert!(total(directory.path()) <= LIMIT, "{}", total(directory.path()));
        }
        let numbers = numbers(directory.path());
        assert_eq!(*numbers.last().unwrap(), 4999);
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "none is missing in between");
        assert!(total(directory.path()) > LIMIT / 2, "{}", total(directory.path()));
    }

    #[test]
    fn a_torn_end_costs_its_line_alone() {
        let directory = tempfile::tempdir().unwrap();
        let append = |number| History::new(directory.path().into(), 1 << 20).append(&record(number).to_line()).unwrap();
        append(1);
        append(2);
        let segment = segments(directory.path()).unwrap().pop().unwrap();
        let whole = fs::metadata(&segment.path).unwrap().len();
        File::options().write(true).open(&segment.path).unwrap().set_len(whole - 9).unwrap();
        append(3);
        assert_eq!(numbers(directory.path()), [1, 3]);
    }

    #[test]
    fn a_limit_that_shrinks_is_kept_from_the_next_segment_on_and_none_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut history = History::new(directory.path().into(), 1 << 20);
        for number in 0..3000 {
            history.append(&record(number).to_line()).unwrap();
        }
        history.limit = 64 << 10;
        history.append(&record(3000).to_line()).unwrap();
        assert!(total(directory.path()) <= 64 << 10);
        assert_eq!(*numbers(directory.path()).last().unwrap(), 3000);
        history.limit = 0;
        history.append(&record(3001).to_line()).unwrap();
        assert_eq!(*numbers(directory.path()).last().unwrap(), 3000);
    }

    #[test]
    fn trouble_is_told_once_and_so_is_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("state");
        let (teller, told) = channel();
        let writer = Writer::start(place.clone(), 1 << 20, move |trouble| teller.send(trouble).is_ok()).unwrap();
        for number in 0..5 {
            writer.push(record(number)).unwrap();
        }
        let trouble = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(matches!(&trouble, Trouble::Begins(why) if why.contains("No such file")), "{trouble:?}");
        // Those that wait still are in vain, or not.
        fs::create_dir(&place).unwrap();
        writer.push(record(5)).unwrap();
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(Trouble::Ends));
        writer.push(record(6)).unwrap();
        writer.end();
        assert!(numbers(&place).ends_with(&[5, 6]));
        assert!(told.try_recv().is_err(), "once each");
    }

    #[test]
    fn more_than_may_wait_is_refused_and_nothing_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let (hold, held) = channel::<()>();
        let held = Mutex::new(held);
        // The first trouble holds the thread.
        let writer =
            Writer::start(directory.path().join("none"), 1 << 20, move |_| held.lock().unwrap().recv().is_ok())
                .unwrap();
        let taken = (0..100_000).take_while(|number| writer.push(record(*number)).is_ok()).count();
        assert!((MAX_WAITING..MAX_WAITING + 10).contains(&taken), "{taken}");
        drop(hold);
        writer.end();
    }
}
