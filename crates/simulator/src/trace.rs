//! What happened, line by line, for the reader of a failure. Costs nothing while it is off: a run that fails is run again with it.

use std::fmt::Write;

use super::agenda::Time;

/// Lines of a trace that are shown: the end of a long run is what matters.
const SHOWN: usize = 3000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Detail {
    /// Nothing is kept.
    Off,
    /// Decisions, hooks, faults.
    Story,
    /// Every message and timer, too.
    All,
}

#[derive(Debug)]
pub(crate) struct Trace {
    detail: Detail,
    lines: Vec<String>,
}

impl Trace {
    pub(crate) const fn new(detail: Detail) -> Self {
        Self { detail, lines: Vec::new() }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.detail == Detail::Off
    }

    pub(crate) fn tell(&mut self, now: Time, who: &str, what: impl FnOnce() -> String) {
        if self.detail >= Detail::Story {
            self.lines.push(format!("{:>11.6} {who:<14} {}", now.as_secs_f64(), what()));
        }
    }

    pub(crate) fn whisper(&mut self, now: Time, who: &str, what: impl FnOnce() -> String) {
        if self.detail == Detail::All {
            self.tell(now, who, || format!(". {}", what()));
        }
    }

    #[cfg(test)]
    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(crate) fn show(&self) -> String {
        let mut text = String::new();
        let left_out = self.lines.len().saturating_sub(SHOWN);
        if left_out > 0 {
            let _ = writeln!(text, "({left_out} lines before these are left out)");
        }
        for line in &self.lines[left_out..] {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}
