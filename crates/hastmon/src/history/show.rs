//! `hastmonctl history`: events as lines of text, in the words of the log, or as the lines of JSON that they are.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::Line;
use super::reader::{Reader, Wanted};
use crate::os::log::format_line;

/// With `-f`, events are looked for so often: soon enough for who watches, and no work for the machine.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How much is written at once.
const BUFFER: usize = 64 << 10;

/// What is to be shown, and how.
#[derive(Debug)]
pub(crate) struct Show {
    pub(crate) wanted: Wanted,
    pub(crate) last: Option<u64>,
    pub(crate) json: bool,
    pub(crate) follow: bool,
}

/// Shows the history in a directory. With `follow` it ends only when nobody reads any more.
///
/// # Errors
/// A file cannot be read, or the output cannot be written.
#[expect(clippy::disallowed_methods, reason = "hastmonctl has no loop that this could hold up")]
pub(crate) fn show(directory: &Path, show: Show, out: impl Write) -> io::Result<()> {
    let mut reader = Reader::new(directory, show.wanted, show.last)?;
    let mut printer = Printer {
        out: io::BufWriter::with_capacity(BUFFER, out),
        zone: TimeZone::system(),
        json: show.json,
        second: None,
    };
    loop {
        let mut outcome = Ok(());
        let end = reader.read(&mut |raw, line| {
            outcome = printer.print(raw, line);
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        match outcome.and_then(|()| printer.out.flush()) {
            // Who is gone wanted no more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error),
            Ok(()) if !show.follow || end.is_break() => return Ok(()),
            Ok(()) => sleep(LOOK_EVERY),
        }
    }
}

struct Printer<W: Write> {
    out: io::BufWriter<W>,
    zone: TimeZone,
    json: bool,
    /// A second, and how it is written: many events fall into one.
    second: Option<(u64, String)>,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, raw: &[u8], line: &Line<'_>) -> io::Result<()> {
        if self.json {
            return self.out.write_all(raw);
        }
        let unix_s = line.unix_ms / 1000;
        let second = match self.second.take().filter(|(known, _)| *known == unix_s) {
            Some((_, second)) => second,
            None => {
                let time = i64::try_from(unix_s).ok().and_then(|s| Timestamp::from_second(s).ok()).unwrap_or_default();
                let time = time.to_zoned(self.zone.clone()).datetime();
                format!("{} {}", time.date(), time.time())
            }
        };
        write!(self.out, "{second}.{:03} ", line.unix_ms % 1000)?;
        self.second = Some((unix_s, second));
        let text = format_line(line.resource.as_deref(), format_args!("{}", line.text));
        let node = format_line(None, format_args!("{}", line.node));
        write!(self.out, "{node} [{}] {text}", Word(&line.level))?;
        if let Some(epoch) = line.epoch.filter(|_| !line.text.contains("epoch")) {
            write!(self.out, " (epoch {epoch})")?;
        }
        self.out.write_all(b"\n")?;
        if line.kind == "hook_ended" {
            for printed in output_of(raw) {
                writeln!(self.out, "    | {}", format_line(None, format_args!("{printed}")))?;
            }
        }
        Ok(())
    }
}

/// A level in the form of the log.
struct Word<'a>(&'a str);

impl std::fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .chars()
            .filter(char::is_ascii_alphabetic)
            .try_for_each(|letter| write!(f, "{}", letter.to_ascii_uppercase()))
    }
}

/// The last lines that a hook has printed.
fn output_of(raw: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Ended {
        detail: Detail,
    }
    #[derive(Deserialize)]
    struct Detail {
        #[serde(default)]
        output: Vec<String>,
    }
    serde_json::from_slice::<Ended>(raw).map(|ended| ended.detail.output).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::{Record, Segment};
    use super::*;
    use hastmon_core::event::{Event, RoleReason};
    use hastmon_core::hooks::{Exit, Hook, Outcome};
    use hastmon_core::types::Role;

    fn shown(events: Vec<Event>, json: bool) -> String {
        let directory = tempfile::tempdir().unwrap();
        let lines = events
            .into_iter()
            .flat_map(|event| Record::new(1_763_856_448_123, 1, "a", Some("web"), Some(17), event).to_line());
        std::fs::write(Segment::new(directory.path(), 1).path, lines.collect::<Vec<u8>>()).unwrap();
        let what = Show { wanted: Wanted::default(), last: None, json, follow: false };
        let mut out = Vec::new();
        show(directory.path(), what, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_shown_in_the_words_of_the_log_with_time_node_and_epoch() {
        let reason = RoleReason::Takeover { complaints: 4 };
        let text = shown(vec![Event::RoleChanged { old: Role::Secondary, new: Role::Primary, reason }], false);
        let (date, rest) = text.split_at("2025-11-23 00:07:28.123".len());
        assert!(date.ends_with(":28.123"), "{text}");
        let expected = " a [INFO] [web] role changed from secondary to primary: taking over: no connection from a primary \
                        and 4 complaints (epoch 17)\n";
        assert_eq!(rest, expected);
    }

    #[test]
    fn a_hook_is_shown_with_what_it_printed_and_steers_no_terminal() {
        let event = Event::HookEnded {
            hook: Hook::Start,
            outcome: Outcome::Ended(Exit::Code(1)),
            took: Duration::from_millis(1500),
            output: vec!["no such device".to_string(), "\u{1b}[2J".to_string()],
        };
        let text = shown(vec![event], false);
        assert!(
            text.ends_with(
                "a [WARNING] [web] start: exit code 1 (after 1.5s) (epoch 17)\n    | no such device\n    | \\u{1b}[2J\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn json_is_what_stands_in_the_file() {
        let text = shown(vec![Event::Forced, Event::MayStillRun], true);
        let kinds: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].as_str().unwrap().to_string())
            .collect();
        assert_eq!(kinds, ["forced", "may_still_run"]);
    }
}
