//! Makes one event one line: no newline, no control character and no right-to-left trick gets through, and no line grows without bound.
//! Peers, hooks and the command line put their words into messages; a reader and a terminal must be able to trust what they see.

use std::fmt::{self, Write};

/// The longest text of an event, in bytes, before it is cut. Below what every syslogd takes whole, above what an administrator reads.
pub(super) const TEXT_BYTES_MAX: usize = 2048;

/// `[resource] text`, or `text` when the event is about no resource.
pub(crate) fn format(resource: Option<&str>, text: fmt::Arguments<'_>) -> String {
    let mut line = Line { text: String::new(), left_out_bytes: 0 };
    // The writer itself never fails. A message that cannot be formatted is logged as far as it got.
    let _ = match resource {
        Some(name) => write!(line, "[{name}] {text}"),
        None => write!(line, "{text}"),
    };
    line.finish()
}

struct Line {
    text: String,
    left_out_bytes: usize,
}

impl Line {
    fn finish(mut self) -> String {
        if self.left_out_bytes > 0 {
            self.text.push_str(&format!("... ({} bytes left out)", self.left_out_bytes));
        }
        self.text
    }

    /// Adds what stands for `character`, or nothing when it does not fit.
    fn push(&mut self, character: char) {
        let mut escaped = [0; 4];
        let shown: &str = match character {
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            character if is_deceptive(character) => return self.push_code(character),
            character => character.encode_utf8(&mut escaped),
        };
        if self.text.len() + shown.len() <= TEXT_BYTES_MAX {
            self.text.push_str(shown);
        } else {
            self.left_out_bytes += character.len_utf8();
        }
    }

    fn push_code(&mut self, character: char) {
        let code = character.escape_unicode();
        if self.text.len() + code.len() <= TEXT_BYTES_MAX {
            self.text.extend(code);
        } else {
            self.left_out_bytes += character.len_utf8();
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let fits = self.left_out_bytes == 0 && self.text.len() + part.len() <= TEXT_BYTES_MAX;
        if fits && part.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            self.text.push_str(part);
            return Ok(());
        }
        let mut characters = part.chars();
        while self.left_out_bytes == 0 {
            let Some(character) = characters.next() else { return Ok(()) };
            self.push(character);
        }
        // Once something is left out, so is all that follows.
        self.left_out_bytes += characters.as_str().len();
        Ok(())
    }
}

/// Control characters (C0, DEL, C1), and what changes the order or the end of a line without being one.
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        format(None, format_args!("{text}"))
    }

    #[test]
    fn a_plain_text_stays_as_it_is() {
        assert_eq!(text("Größe: 5 µs \\ \"x\""), "Größe: 5 µs \\ \"x\"");
        assert_eq!(format(Some("web"), format_args!("Received error {}.", 1)), "[web] Received error 1.");
    }

    #[test]
    fn what_could_forge_a_line_or_steer_a_terminal_is_shown_as_a_code() {
        assert_eq!(text("a\nb\r\tc"), "a\\nb\\r\\tc");
        assert_eq!(text("\u{1b}[2J\0\u{7f}\u{9b}"), "\\u{1b}[2J\\u{0}\\u{7f}\\u{9b}");
        assert_eq!(text("a\u{202e}b\u{2028}"), "a\\u{202e}b\\u{2028}");
        assert_eq!(format(Some("x\n[ERROR] y"), format_args!("z")), "[x\\n[ERROR] y] z");
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_a_longer_one_says_what_is_left_out() {
        let whole = "x".repeat(TEXT_BYTES_MAX);
        assert_eq!(text(&whole), whole);
        assert_eq!(text(&(whole.clone() + "yz")), whole + "... (2 bytes left out)");
    }

    #[test]
    fn a_line_is_cut_between_characters_and_between_codes() {
        let almost = "x".repeat(TEXT_BYTES_MAX - 1);
        assert_eq!(text(&format!("{almost}ö")), format!("{almost}... (2 bytes left out)"));
        assert_eq!(text(&format!("{almost}\na")), format!("{almost}... (2 bytes left out)"));
        assert_eq!(text(&format!("{almost}\u{1b}[0m")), format!("{almost}... (4 bytes left out)"));
    }

    #[test]
    fn the_name_of_a_resource_is_cut_like_the_rest() {
        let name = "n".repeat(3 * TEXT_BYTES_MAX);
        let line = format(Some(&name), format_args!("text"));
        assert!(line.len() < TEXT_BYTES_MAX + 40);
        assert!(line.ends_with(" bytes left out)"), "{line}");
    }
}
