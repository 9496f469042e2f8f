//! The exec script of the benchmarks, as a program that costs next to nothing: a resource is a file, and every call and change goes to the
//! record of the laboratory, in the form of `crates/hastmon/tests/support/events.rs`, but to the nanosecond. It is called through a link
//! `LAB/NODE/NAME`, which says where. Calls of `status`, and when they end, are in the record only while there is a file `LAB/trace`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::time::{ClockId, clock_gettime};

/// An error in the benchmark's own machinery (EX_SOFTWARE), and not what a script says of its resource.
const BROKEN: u8 = 70;

/// That of the laboratory's record. Benchmarks take Linux; elsewhere this shall compile.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

struct Place {
    lab: PathBuf,
    dir: PathBuf,
    node: String,
}

impl Place {
    fn of(program: &str) -> Option<Self> {
        let dir = Path::new(program).parent()?;
        let node = dir.file_name()?.to_str()?.to_owned();
        Some(Self { lab: dir.parent()?.to_owned(), dir: dir.to_owned(), node })
    }

    /// One line, in one write: others write to the same file.
    fn log(&self, what: &str) -> io::Result<()> {
        let now = clock_gettime(CLOCK);
        let line = format!("{}{:09} {} {what} pid={}\n", now.tv_sec, now.tv_nsec, self.node, std::process::id());
        OpenOptions::new().append(true).open(self.lab.join("events"))?.write_all(line.as_bytes())
    }

    /// The exit code of a call.
    fn call(&self, event: &str, resource: &str, arguments: &str) -> io::Result<u8> {
        let file = self.dir.join("run").join(resource);
        if event == "status" {
            let traced = self.lab.join("trace").exists();
            if traced {
                self.log(arguments)?;
            }
            let code = u8::from(!file.exists());
            if traced {
                self.log(&format!("end {arguments}"))?;
            }
            return Ok(code);
        }
        self.log(arguments)?;
        match event {
            "start" if !file.exists() => {
                self.log(&format!("up {resource}"))?;
                File::create(file)?;
            }
            "stop" if file.exists() => {
                fs::remove_file(file)?;
                self.log(&format!("down {resource}"))?;
            }
            _ => {}
        }
        Ok(0)
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let [program, event, resource, ..] = words.as_slice() else { return ExitCode::from(BROKEN) };
    let arguments = words.get(1..).unwrap_or_default().join(" ");
    match Place::of(program).map(|place| place.call(event, resource, &arguments)) {
        Some(Ok(code)) => ExitCode::from(code),
        Some(Err(error)) => {
            // The daemon puts it into its log.
            _ = writeln!(io::stderr(), "{program}: {error}");
            ExitCode::from(BROKEN)
        }
        None => ExitCode::from(BROKEN),
    }
}
