//! A terminal (a pseudo-terminal of Linux) with one program on it: what its screen shows, what was written to it, and keys to type.
//! Understands what a program writes that draws on the whole screen; anything else would show up as wrong text.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use super::process;
use super::time::{wait_for, wait_some};

/// A terminal, and the program on it.
pub(crate) struct Terminal {
    controller: File,
    /// Held open so that its settings can be read when the program has ended.
    user: OwnedFd,
    written: Arc<Mutex<Written>>,
    settings_before: String,
    child: Child,
}

/// What has been written to it.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    screen: Screen,
}

impl Terminal {
    /// Runs a program, with the terminal as that which controls it.
    pub(crate) fn run(command: &Command, columns: u16, rows: u16) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let user = ioctl_tiocgptpeer(&controller, flags).unwrap();
        let written = Arc::new(Mutex::new(Written::default()));
        let mut terminal = Terminal {
            settings_before: settings(&user),
            child: spawn(command, &user),
            controller: controller.into(),
            user,
            written: written.clone(),
        };
        terminal.resize(columns, rows);
        let mut reader = terminal.controller.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let mut written = written.lock().unwrap();
                written.bytes.extend_from_slice(&buffer[..count]);
                written.screen.take(&buffer[..count]);
            }
        });
        terminal
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        self.written.lock().unwrap().screen.resize(columns.into(), rows.into());
        tcsetwinsize(&self.controller, size).unwrap();
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).unwrap();
    }

    /// The screen, without spaces at the ends of lines.
    pub(crate) fn text(&self) -> String {
        self.written.lock().unwrap().screen.text()
    }

    /// Everything that was ever written to it.
    pub(crate) fn bytes(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap().bytes).into_owned()
    }

    /// Waits until the screen fits: its text.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, so: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_some(what, || {
                last = self.text();
                so(&last).then(|| last.clone())
            })
        }));
        found.unwrap_or_else(|_| panic!("waited in vain until {what}; the screen:\n{last}"))
    }

    /// Waits until the screen shows a text.
    #[track_caller]
    pub(crate) fn wait_text(&self, text: &str) -> String {
        self.wait_until(&format!("the screen shows {text:?}"), |screen| screen.contains(text))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        process::signal(i32::try_from(self.child.id()).unwrap(), signal);
    }

    /// The exit code, as soon as the program has ended by itself. What it has written last may not be on the screen yet.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        wait_for("the program has ended", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }

    /// The program is not on the alternate screen, the cursor can be seen, and the settings are those of before.
    pub(crate) fn is_as_before(&self) -> bool {
        let written = self.written.lock().unwrap();
        !written.screen.is_alternate && written.screen.has_cursor && settings(&self.user) == self.settings_before
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &Command, user: &OwnedFd) -> Child {
    // setsid does not fork here: the process is that of the program.
    let mut whole = Command::new("setsid");
    whole.arg("--ctty").arg(command.get_program()).args(command.get_args());
    whole.env_remove("NO_COLOR").env("TERM", "xterm-256color").env("TZ", "UTC");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => whole.env(name, value),
            None => whole.env_remove(name),
        };
    }
    let [stdin, stdout, stderr] = [(); 3].map(|()| user.try_clone().unwrap());
    whole.stdin(stdin).stdout(stdout).stderr(stderr);
    whole.spawn().unwrap_or_else(|error| panic!("{whole:?}: {error}"))
}

fn settings(user: &OwnedFd) -> String {
    format!("{:?}", tcgetattr(user).unwrap())
}

/// What a terminal shows, as far as it is told in the sequences of ECMA-48 that such programs use.
#[derive(Default)]
struct Screen {
    rows: Vec<Vec<char>>,
    columns: usize,
    x: usize,
    y: usize,
    is_alternate: bool,
    has_cursor: bool,
    /// The beginning of a sequence, or of a character.
    pending: Vec<u8>,
}

impl Screen {
    fn resize(&mut self, columns: usize, rows: usize) {
        self.columns = columns;
        self.has_cursor = true;
        self.rows.resize(rows, Vec::new());
        self.rows.iter_mut().for_each(|row| row.resize(columns, ' '));
    }

    fn text(&self) -> String {
        let line = |row: &Vec<char>| row.iter().collect::<String>().trim_end().to_owned();
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.pending.push(*byte);
            let is_sequence = self.pending[0] == 0x1b;
            let is_whole = match self.pending.as_slice() {
                [0x1b] | [0x1b, b'[' | b'('] => false,
                [0x1b, b'[', .., last] => matches!(last, 0x40..=0x7e),
                [0x1b, ..] => true,
                other => std::str::from_utf8(other).is_ok(),
            };
            if is_whole {
                let pending = String::from_utf8(std::mem::take(&mut self.pending)).unwrap();
                if is_sequence { self.obey(&pending) } else { self.write(&pending) }
            }
        }
    }

    fn write(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '\r' => self.x = 0,
                '\n' if self.y + 1 < self.rows.len() => self.y += 1,
                '\n' => {
                    self.rows.remove(0);
                    self.rows.push(vec![' '; self.columns]);
                }
                letter => {
                    if let Some(cell) = self.rows.get_mut(self.y).and_then(|row| row.get_mut(self.x)) {
                        *cell = letter;
                    }
                    self.x += 1;
                }
            }
        }
    }

    fn obey(&mut self, sequence: &str) {
        let Some(rest) = sequence.strip_prefix("\u{1b}[") else { return };
        let (parameters, last) = rest.split_at(rest.len() - 1);
        let number = |at: usize| parameters.split(';').nth(at).and_then(|text| text.parse().ok()).unwrap_or(1_usize);
        match (last, parameters) {
            ("H", _) => (self.y, self.x) = (number(0) - 1, number(1) - 1),
            ("J", "2") => self.clear(),
            ("h", "?1049") => {
                self.is_alternate = true;
                self.clear();
            }
            ("l", "?1049") => {
                self.is_alternate = false;
                self.clear();
            }
            ("h", "?25") => self.has_cursor = true,
            ("l", "?25") => self.has_cursor = false,
            ("m", _) => {}
            _ => panic!("the program writes {sequence:?}, which this terminal does not know"),
        }
    }

    fn clear(&mut self) {
        self.rows.iter_mut().for_each(|row| row.fill(' '));
    }
}
