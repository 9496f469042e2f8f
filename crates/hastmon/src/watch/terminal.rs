//! The terminal: taken over, and given back as it was, whatever happens: at the end, for Ctrl-Z, when hastmonctl fails or panics.
//! Decides nothing.

use std::io;
use std::panic;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::{cursor, execute, terminal};
use ratatui::layout::Rect;
use ratatui::{Frame, TerminalOptions, Viewport};

use super::model::{Input, Key};

/// The alternate screen is left and the cursor shown: by one write, which no lock can hold up.
const LEAVE: &[u8] = b"\x1b[?1049l\x1b[?25h";
/// The size of a terminal that does not know its own, such as a serial line.
const UNKNOWN: (u16, u16) = (80, 24);

/// The terminal, while it is ours.
pub(super) struct Terminal {
    screen: ratatui::Terminal<CrosstermBackend<io::Stdout>>,
    area: Rect,
}

impl Terminal {
    /// Takes it over.
    ///
    /// # Errors
    /// The system refuses it.
    pub(super) fn take() -> io::Result<Self> {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let _ = give_back();
            default(panic);
        }));
        let area = area();
        let mut terminal = Self { screen: screen(area)?, area };
        terminal.enter()?;
        Ok(terminal)
    }

    fn enter(&mut self) -> io::Result<()> {
        terminal::enable_raw_mode()?;
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        self.redraw()
    }

    /// Takes it again after others had it. How it was meanwhile is how it is given back.
    ///
    /// # Errors
    /// The system refuses it.
    pub(super) fn take_again(&mut self) -> io::Result<()> {
        give_back()?;
        self.enter()
    }

    /// Lets the shell have it, as for Ctrl-Z; returns when it is ours again.
    ///
    /// # Errors
    /// The system refuses it.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        give_back()?;
        // To all who were started together. In a group that nobody could wake up, the system ignores it.
        rustix::process::kill_current_process_group(rustix::process::Signal::TSTP)?;
        self.enter()
    }

    /// Writes everything again at the next drawing.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub(super) fn redraw(&mut self) -> io::Result<()> {
        execute!(io::stdout(), terminal::Clear(terminal::ClearType::All))?;
        self.screen = screen(self.area)?;
        Ok(())
    }

    /// Draws what has changed.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        let area = area();
        if area != self.area {
            self.area = area;
            self.redraw()?;
        }
        self.screen.draw(draw)?;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may be gone.
        let _ = give_back();
    }
}

/// Gives it back as it was; more than once does no harm.
fn give_back() -> io::Result<()> {
    let mode = terminal::disable_raw_mode();
    rustix::io::write(rustix::stdio::stdout(), LEAVE)?;
    mode
}

/// A screen of which nothing is written yet. (Its own `clear` would ask the terminal where the cursor is, and wait for the answer.)
fn screen(area: Rect) -> io::Result<ratatui::Terminal<CrosstermBackend<io::Stdout>>> {
    let options = TerminalOptions { viewport: Viewport::Fixed(area) };
    ratatui::Terminal::with_options(CrosstermBackend::new(io::stdout()), options)
}

fn area() -> Rect {
    let is_known = |(columns, rows): &(u16, u16)| *columns > 0 && *rows > 0;
    let (columns, rows) = terminal::size().ok().filter(is_known).unwrap_or(UNKNOWN);
    Rect::new(0, 0, columns, rows)
}

/// Waits for the next key, or another size of the window. Blocks.
///
/// # Errors
/// The terminal cannot be read.
pub(super) fn next() -> io::Result<Input> {
    loop {
        match event::read()? {
            event::Event::Resize(..) => return Ok(Input::Resized),
            event::Event::Key(key) if key.kind != KeyEventKind::Release => {
                return Ok(Input::Key(meaning(key.code, key.modifiers.contains(KeyModifiers::CONTROL))));
            }
            _ => {}
        }
    }
}

const fn meaning(code: KeyCode, is_control: bool) -> Key {
    match (code, is_control) {
        (KeyCode::Char('c'), true) => Key::Interrupt,
        (KeyCode::Char('z'), true) => Key::Suspend,
        (KeyCode::Char('l'), true) => Key::Redraw,
        (KeyCode::Up, _) => Key::Up,
        (KeyCode::Down, _) => Key::Down,
        (KeyCode::Enter, _) => Key::Enter,
        (KeyCode::Esc, _) => Key::Escape,
        (KeyCode::Char(character), false) => Key::Char(character),
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Not a test of its own: what the next one runs on a terminal.
    #[test]
    #[ignore = "it panics, and needs a terminal"]
    fn panics_on_purpose() {
        std::mem::forget(Terminal::take().unwrap());
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_says_anything() {
        let program = std::env::current_exe().unwrap();
        let test =
            format!("{} --exact watch::terminal::tests::panics_on_purpose --ignored --nocapture", program.display());
        let command = format!("stty -g; {test}; stty -g");
        let output = Command::new("script").args(["-qec", &command, "/dev/null"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let settings = [text.lines().next(), text.lines().last()].map(Option::unwrap);
        assert!(settings[0].contains(":0:0") && settings[0] == settings[1], "{text:?}");
        let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part:?} in {text:?}"));
        let left = place("\u{1b}[?1049l\u{1b}[?25h");
        assert!(place("\u{1b}[?1049h") < left && left < place("on purpose\r\n"), "{text:?}");
    }

    #[test]
    fn what_keys_mean() {
        assert_eq!(meaning(KeyCode::Char('c'), true), Key::Interrupt);
        assert_eq!(meaning(KeyCode::Char('c'), false), Key::Char('c'));
        assert_eq!(meaning(KeyCode::Char('y'), true), Key::Other, "a yes is typed on purpose");
        assert_eq!(meaning(KeyCode::Up, false), Key::Up);
        assert_eq!(meaning(KeyCode::F(1), false), Key::Other);
    }
}
