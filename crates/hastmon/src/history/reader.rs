//! Reads the history, from the files themselves: the daemon need not live. In bounded memory, whatever their size; the last events without
//! reading those before.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::{Line, MAX_LINE, Segment, segments};

/// How much is read at once.
const BUFFER: usize = 128 << 10;

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Not older than this: milliseconds since 1970.
    pub(crate) since_ms: Option<u64>,
    /// Of this resource.
    pub(crate) resource: Option<String>,
}

impl Wanted {
    fn is(&self, line: &Line<'_>) -> bool {
        self.since_ms.is_none_or(|since| line.unix_ms >= since)
            && self.resource.as_ref().is_none_or(|name| line.resource.as_deref() == Some(name))
    }
}

/// What is done with an event: it comes as it stands in the file, and as it is understood. A break ends the reading.
pub(crate) type Take<'a> = dyn FnMut(&[u8], &Line<'_>) -> ControlFlow<()> + 'a;

/// A place in the history.
#[derive(Debug)]
pub(crate) struct Reader {
    directory: PathBuf,
    wanted: Wanted,
    /// The segment that is read, and its number.
    open: Option<(u64, BufReader<File>)>,
    /// The beginning of a line whose end is not there yet.
    line: Vec<u8>,
    /// The line is longer than any of ours: it is passed over.
    is_too_long: bool,
    /// Events that are passed over first.
    skip: u64,
}

impl Reader {
    /// Begins at the oldest event that is wanted, or so that `last` events follow.
    ///
    /// # Errors
    /// The directory, or a file in it, cannot be read.
    pub(crate) fn new(directory: &Path, wanted: Wanted, last: Option<u64>) -> io::Result<Self> {
        let mut reader = Self {
            directory: directory.to_path_buf(),
            wanted,
            open: None,
            line: Vec::new(),
            is_too_long: false,
            skip: 0,
        };
        if let Some(last) = last {
            reader.go_to_last(last)?;
        }
        Ok(reader)
    }

    /// Counts from the newest segment back until there are enough.
    fn go_to_last(&mut self, last: u64) -> io::Result<()> {
        let mut found: u64 = 0;
        let mut from = None;
        for segment in segments(&self.directory)?.into_iter().rev() {
            // One at least: what comes from now on follows the last of these.
            if found >= last && from.is_some() {
                break;
            }
            let Some(file) = open(&segment)? else { break };
            self.open = Some((segment.number, file));
            let _ = self.read_open(&mut |_, _| {
                found += 1;
                ControlFlow::Continue(())
            })?;
            self.line.clear();
            from = Some(segment);
        }
        self.skip = found.saturating_sub(last);
        self.open = match from {
            Some(segment) => open(&segment)?.map(|file| (segment.number, file)),
            None => None,
        };
        Ok(())
    }

    /// Reads on, to what is now the end; says whether it was broken off.
    ///
    /// # Errors
    /// The directory, or a file in it, cannot be read.
    pub(crate) fn read(&mut self, take: &mut Take<'_>) -> io::Result<ControlFlow<()>> {
        loop {
            // What follows is looked for first: the segment that is open gets no more then.
            let number = self.open.as_ref().map(|(number, _)| *number);
            let next = self.next_after(number)?;
            if self.read_open(take)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let Some((number, file)) = next else { return Ok(ControlFlow::Continue(())) };
            // A line without an end stays without one.
            self.line.clear();
            self.open = Some((number, file));
        }
    }

    fn next_after(&self, number: Option<u64>) -> io::Result<Option<(u64, BufReader<File>)>> {
        let is_next = |segment: &&Segment| number.is_none_or(|number| segment.number > number);
        // The oldest may be removed at any moment.
        for segment in segments(&self.directory)?.iter().filter(is_next) {
            if let Some(file) = open(segment)? {
                return Ok(Some((segment.number, file)));
            }
        }
        Ok(None)
    }

    fn read_open(&mut self, take: &mut Take<'_>) -> io::Result<ControlFlow<()>> {
        let Some((_, file)) = &mut self.open else { return Ok(ControlFlow::Continue(())) };
        loop {
            let room = (MAX_LINE + 1).saturating_sub(self.line.len());
            let read = file.by_ref().take(u64::try_from(room).unwrap_or(u64::MAX)).read_until(b'\n', &mut self.line)?;
            if self.line.last() == Some(&b'\n') {
                let line = Line::read(&self.line).filter(|line| !self.is_too_long && self.wanted.is(line));
                self.is_too_long = false;
                if let Some(line) = line {
                    if self.skip > 0 {
                        self.skip -= 1;
                    } else if take(&self.line, &line).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                self.line.clear();
            } else if read == 0 {
                return Ok(ControlFlow::Continue(()));
            } else if self.line.len() > MAX_LINE {
                self.is_too_long = true;
                self.line.clear();
            }
        }
    }
}

/// `None`: it is gone.
fn open(segment: &Segment) -> io::Result<Option<BufReader<File>>> {
    match File::open(&segment.path) {
        Ok(file) => Ok(Some(BufReader::with_capacity(BUFFER, file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::*;
    use hastmon_core::event::Event;
    use std::io::Write as _;

    fn line(number: u64, resource: &str) -> Vec<u8> {
        Record::new(number, number, "a", Some(resource), None, Event::Forced).to_line()
    }

    /// Segments with these numbers and contents.
    fn history(segments: &[(u64, Vec<u8>)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (number, content) in segments {
            std::fs::write(Segment::new(directory.path(), *number).path, content).unwrap();
        }
        std::fs::write(directory.path().join("vote.web"), "not of the history").unwrap();
        directory
    }

    fn take(reader: &mut Reader) -> Vec<u64> {
        let mut found = Vec::new();
        let end = reader.read(&mut |_, line| {
            found.push(line.unix_ms);
            ControlFlow::Continue(())
        });
        assert!(end.unwrap().is_continue());
        found
    }

    fn read(directory: &tempfile::TempDir, wanted: Wanted, last: Option<u64>) -> Vec<u64> {
        take(&mut Reader::new(directory.path(), wanted, last).unwrap())
    }

    fn two_segments() -> tempfile::TempDir {
        let old =
            (0..10).flat_map(|number| line(number, ["web", "db"][usize::try_from(number % 2).unwrap()])).collect();
        let new = (10..15).flat_map(|number| line(number, "web")).collect();
        history(&[(9, old), (10, new)])
    }

    #[test]
    fn events_come_in_their_order_over_segments_and_can_be_chosen() {
        let directory = two_segments();
        let all = Wanted::default();
        assert!(read(&directory, all.clone(), None).into_iter().eq(0..15));
        let db = Wanted { resource: Some("db".to_string()), ..all.clone() };
        assert_eq!(read(&directory, db.clone(), None), [1, 3, 5, 7, 9]);
        assert_eq!(read(&directory, Wanted { since_ms: Some(6), ..db.clone() }, None), [7, 9]);
        for (last, count) in [(0, 0), (1, 1), (5, 5), (6, 6), (15, 15), (16, 15)] {
            let found = read(&directory, all.clone(), Some(last));
            assert!(found.iter().copied().eq(15 - count..15), "{last}: {found:?}");
        }
        assert_eq!(read(&directory, db, Some(2)), [7, 9]);
        assert_eq!(read(&history(&[]), all, Some(2)), [0_u64; 0]);
    }

    #[test]
    fn what_is_torn_or_makes_no_sense_is_passed_over() {
        let torn = |number| line(number, "web")[..40].to_vec();
        let endless = [vec![b'x'; 10 * MAX_LINE], b"\n".to_vec()].concat();
        let long_json = [b"{\"unix_ms\":".to_vec(), vec![b' '; 2 * MAX_LINE], line(99, "web")].concat();
        let first =
            [line(1, "web"), torn(2), b"\n".to_vec(), vec![0; 500], b"\n{}\n\n".to_vec(), endless, long_json].concat();
        let second = [line(3, "web"), vec![0xff, 0xfe, b'\n'], line(4, "web"), torn(5)].concat();
        let directory = history(&[(1, [first, torn(6)].concat()), (2, second)]);
        assert_eq!(read(&directory, Wanted::default(), None), [1, 3, 4]);
        assert_eq!(read(&directory, Wanted::default(), Some(2)), [3, 4]);
    }

    #[test]
    fn what_is_written_meanwhile_follows_also_in_a_new_segment() {
        let directory = history(&[(1, line(1, "web"))]);
        let path = Segment::new(directory.path(), 1).path;
        let append = |bytes: &[u8]| File::options().append(true).open(&path).unwrap().write_all(bytes).unwrap();
        let mut reader = Reader::new(directory.path(), Wanted::default(), Some(10)).unwrap();
        assert_eq!(take(&mut reader), [1]);
        assert_eq!(take(&mut reader), [0_u64; 0]);
        let whole = line(2, "web");
        append(&whole[..20]);
        assert_eq!(take(&mut reader), [0_u64; 0]);
        append(&whole[20..]);
        assert_eq!(take(&mut reader), [2]);
        append(&line(3, "web"));
        std::fs::write(Segment::new(directory.path(), 2).path, line(4, "web")).unwrap();
        std::fs::write(Segment::new(directory.path(), 3).path, line(5, "web")).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(take(&mut reader), [3, 4, 5], "the open one is read to its end though it is gone");
    }

    #[test]
    fn a_reader_of_nothing_begins_with_what_comes() {
        let directory = history(&[]);
        let mut reader = Reader::new(directory.path(), Wanted::default(), Some(10)).unwrap();
        assert_eq!(take(&mut reader), [0_u64; 0]);
        std::fs::write(Segment::new(directory.path(), 1).path, line(1, "web")).unwrap();
        assert_eq!(take(&mut reader), [1]);
    }
}
