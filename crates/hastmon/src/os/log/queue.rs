//! Lines on their way to stderr in the foreground: a bounded queue and a thread that writes. A reader that stops reading (a pager, a full
//! pipe, ^S) stops the thread, never the caller; lines that then find no room are lost and counted.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{mem, thread};

use hastmon_core::time::Duration;
use rustix::event::{PollFd, PollFlags, poll};

/// Bytes that may wait. Some hundred lines: a burst fits, and a stuck reader costs little memory.
const PENDING_BYTES_MAX: usize = 64 << 10;

/// The thread only copies bytes to a descriptor.
const STACK_BYTES: usize = 64 << 10;

/// Lines waiting for, or in the hands of, a thread that writes them. Dropping it lets the thread end once it has written the rest.
pub(super) struct Queue {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whole lines, each with its newline.
    pending: Vec<u8>,
    /// Lines that found no room since the thread last took the pending ones.
    lost: u64,
    /// The thread has taken lines and not yet written them all.
    writing: bool,
    /// No more lines will come.
    closed: bool,
}

impl State {
    const fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.lost == 0
    }
}

impl Queue {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start(out: impl Write + AsFd + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let queue = Self { shared: Arc::clone(&shared) };
        // The thread is not joined: it may be stuck for as long as its reader is.
        thread::Builder::new()
            .name("log".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || write_until_closed(&shared, out))?;
        Ok(queue)
    }

    /// Adds a line, which ends with its newline. Counts it as lost when there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.shared.lock();
        if state.pending.len() + line.len() <= PENDING_BYTES_MAX {
            state.pending.extend_from_slice(line);
        } else {
            state.lost += 1;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Waits until all lines are written, at most for `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let waiting = |state: &mut State| state.writing || !state.is_empty();
        let _ = self.shared.changed.wait_timeout_while(self.shared.lock(), limit, waiting);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// Nothing that holds the lock can leave the state half changed, so a panic elsewhere does not matter.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread. It swaps two buffers with the callers, so that it allocates nothing and holds the lock for a moment only.
fn write_until_closed(shared: &Shared, mut out: impl Write + AsFd) {
    let mut batch = Vec::new();
    let mut lost = 0;
    loop {
        let idle = |state: &mut State| state.is_empty() && !state.closed;
        let guard = shared.changed.wait_while(shared.lock(), idle);
        let mut state = guard.unwrap_or_else(PoisonError::into_inner);
        if state.is_empty() {
            return;
        }
        state.writing = true;
        mem::swap(&mut state.pending, &mut batch);
        let lost_behind_the_batch = mem::take(&mut state.lost);
        drop(state);

        // A line for each write: lines of several processes on one pipe do not mix.
        for line in batch.split_inclusive(|byte| *byte == b'\n') {
            lost += u64::from(!write_whole(&mut out, line));
        }
        batch.clear();
        lost += lost_behind_the_batch;
        if lost > 0 && write_whole(&mut out, note_of_lost(lost).as_bytes()) {
            lost = 0;
        }
        shared.lock().writing = false;
        shared.changed.notify_all();
    }
}

fn note_of_lost(lost: u64) -> String {
    format!("[WARNING] {lost} log lines were lost: stderr did not take them.\n")
}

/// Whether all of it was written. Waits as long as it takes.
fn write_whole(out: &mut (impl Write + AsFd), mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return false,
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Someone else who has the terminal or the pipe open made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(out, PollFlags::OUT)], None);
            }
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read};

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn lines_come_out_in_order_and_flush_waits_for_them() {
        let (mut reader, writer) = io::pipe().unwrap();
        let queue = Queue::start(writer).unwrap();
        queue.push(b"one\n");
        queue.push(b"two\n");
        queue.flush(LONG);
        drop(queue);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_never_the_caller() {
        let (reader, writer) = io::pipe().unwrap();
        let queue = Queue::start(writer).unwrap();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        const COUNT: usize = 1000;
        for _ in 0..COUNT {
            queue.push(&line);
        }
        queue.flush(Duration::from_millis(20));

        // The reader wakes up. All that was kept comes, and the count of the rest behind it.
        let mut lines = BufReader::new(reader).lines();
        let (mut kept, mut lost) = (0, 0);
        while kept + lost < COUNT {
            let next = lines.next().unwrap().unwrap();
            match next.strip_prefix("[WARNING] ") {
                Some(note) => lost += note.split(' ').next().unwrap().parse::<usize>().unwrap(),
                None => kept += usize::from(next.len() == 1023),
            }
        }
        assert!(lost > 0, "1 MB fits into no pipe and queue");
        queue.push(b"again\n");
        assert_eq!(lines.next().unwrap().unwrap(), "again");
    }

    #[test]
    fn a_reader_that_is_gone_ends_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let queue = Queue::start(writer).unwrap();
        for _ in 0..10 {
            queue.push(b"lost\n");
            queue.flush(LONG);
        }
    }

    #[test]
    fn a_pipe_that_someone_made_non_blocking_loses_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let queue = Queue::start(writer).unwrap();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let mut lines = BufReader::new(reader).lines();
        for _ in 0..4 {
            for _ in 0..60 {
                queue.push(&line);
            }
            for _ in 0..60 {
                assert_eq!(lines.next().unwrap().unwrap().len(), 1023);
            }
        }
    }
}
