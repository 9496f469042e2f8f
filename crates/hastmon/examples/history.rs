//! How long it takes to read a large history back, and how much memory: writes COUNT events (a million) as a daemon does, and has hastmonctl
//! show them. Build the programs first:
//!
//!     cargo build --release -p hastmon && cargo run --release -p hastmon --example history [COUNT]

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hastmon::os::clock;
use hastmon_core::event::{Event, RoleReason};
use hastmon_core::hooks::{Exit, Hook, Outcome};
use hastmon_core::types::Role;
use serde::Serialize;

/// As large as a segment is when the history may take a gigabyte.
const SEGMENT: usize = 1 << 20;
const RUNS: usize = 5;

/// A line of the history.
#[derive(Serialize)]
struct Record<'a> {
    time: &'a str,
    unix_ms: u64,
    seq: u64,
    node: &'a str,
    resource: &'a str,
    epoch: u64,
    level: &'a str,
    #[serde(flatten)]
    event: &'a Event,
    text: String,
}

/// A mixture, such as a cluster that is not well brings forth.
fn event(number: u64) -> Event {
    match number % 5 {
        0 => Event::ComplaintHeard { from: "w".to_string(), count: 4, threshold: 3, stays: None },
        1 => Event::VoteGiven { to: "b".to_string(), epoch: number },
        2 => {
            let reason = RoleReason::Takeover { complaints: 4 };
            Event::RoleChanged { old: Role::Secondary, new: Role::Primary, reason }
        }
        3 => Event::Disconnected { remote: "a (tcp4://192.0.2.1)".to_string(), why: "no answer for 2s".to_string() },
        _ => Event::HookEnded {
            hook: Hook::Start,
            outcome: Outcome::Ended(Exit::Code(1)),
            took: Duration::from_millis(number % 5000),
            output: vec!["mount: /srv/web: no such device".to_string(), "giving up".to_string()],
        },
    }
}

fn write(directory: &Path, count: u64) -> Result<(u64, u64), Box<dyn Error>> {
    let (mut bytes, mut segments) = (0, 0);
    let mut segment: Option<(BufWriter<File>, usize)> = None;
    for number in 0..count {
        let event = event(number);
        let record = Record {
            time: "2026-11-23T00:07:28.123Z",
            unix_ms: 1_763_856_448_000 + number,
            seq: number,
            node: "b",
            resource: if number % 10 == 0 { "db" } else { "web" },
            epoch: 17,
            level: "info",
            text: event.to_string(),
            event: &event,
        };
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        if segment.as_ref().is_none_or(|(_, size)| size + line.len() > SEGMENT) {
            segments += 1;
            segment = Some((BufWriter::new(File::create(directory.join(format!("history.{segments:010}")))?), 0));
        }
        if let Some((file, size)) = &mut segment {
            file.write_all(&line)?;
            *size += line.len();
            bytes += line.len() as u64;
        }
    }
    Ok((bytes, segments))
}

/// Lines of output, the time on the clock and that of the processor, and the most memory in KiB.
fn show(directory: &Path, arguments: &[&str]) -> Result<(usize, Duration, Duration, u64), Box<dyn Error>> {
    let programs = std::env::current_exe()?;
    let program = programs.ancestors().nth(2).ok_or("no directory")?.join("hastmonctl");
    let began = clock::now();
    let mut child =
        Command::new(program).args(["history", "-s"]).arg(directory).args(arguments).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().ok_or("no output")?;
    let status = format!("/proc/{}/status", child.id());
    let (mut chunk, mut lines, mut most) = (vec![0; 1 << 16], 0, 0);
    loop {
        let read = output.read(&mut chunk)?;
        let Some(read) = chunk.get(..read).filter(|read| !read.is_empty()) else { break };
        lines += read.iter().filter(|byte| **byte == b'\n').count();
        if most == 0 || lines % 97 == 0 {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
            most = most.max(line.trim().trim_end_matches(" kB").parse().unwrap_or(0));
        }
    }
    // It has ended, and is still known as long as nobody has waited for it.
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let fields = stat.rsplit_once(')').ok_or("no fields")?.1.split_whitespace();
    // User and system, in ticks of 10 ms.
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    if !child.wait()?.success() {
        return Err("hastmonctl has failed".into());
    }
    Ok((lines, clock::now().since(began), Duration::from_millis(ticks * 10), most))
}

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map_or(Ok(1_000_000), |count| count.parse())?;
    let directory = std::env::temp_dir().join(format!("hastmon-history-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let (bytes, segments) = write(&directory, count)?;
    println!("{count} events, {bytes} bytes in {segments} files");
    for arguments in [&[][..], &["--json"], &["--resource", "db"], &["-n", "100"], &["--since", "1h"]] {
        let runs = (0..RUNS).map(|_| show(&directory, arguments)).collect::<Result<Vec<_>, _>>()?;
        let (lines, most) = (runs.iter().map(|run| run.0).max(), runs.iter().map(|run| run.3).max());
        let processor = runs.iter().map(|run| run.2).min().unwrap_or_default();
        let mut times: Vec<f64> = runs.iter().map(|run| run.1.as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let (least, worst) = (times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default());
        println!(
            "history {}: {} lines, {median:.3} s ({least:.3}-{worst:.3}), of the processor {processor:.2?}, {} KiB",
            arguments.join(" "),
            lines.unwrap_or(0),
            most.unwrap_or(0)
        );
    }
    fs::remove_dir_all(&directory)?;
    Ok(())
}
