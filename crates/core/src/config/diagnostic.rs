//! What is told to the administrator: message, place, hint. Decides how a diagnostic looks and how many are kept.
//! Never shows a secret: it is masked in the line that is quoted from the file.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

use super::problem::{Problem, visible};

/// How many errors, and how many warnings, are kept: after so many the file is the wrong one, and nobody reads on.
pub const MAX_SHOWN: usize = 50;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but perhaps it does not say what was meant.
    Warning,
}

/// One message about a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, in bytes of the text; 0..0 is the whole file.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where secrets stand in the text, in order.
    secrets: Arc<[Range<usize>]>,
}

impl Diagnostic {
    /// The message as `file:line:column`, the line with a caret below it, and the hint: several lines without colour,
    /// without a newline at the end. `text` is the text that was loaded.
    pub fn render(&self, file_name: &str, text: &str) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&self.message);
        let mut group = if self.span == (0..0) {
            title.element(Origin::path(file_name))
        } else {
            let (number, line, span) = self.quoted_line(text);
            let snippet = Snippet::source(line).line_start(number).path(file_name);
            title.element(snippet.annotation(AnnotationKind::Primary.span(span)))
        };
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(normalize_untrusted_str(hint)));
        }
        Renderer::plain().render(&[group])
    }

    /// The message in one line, for the log: `file:line:column: message (hint)`.
    pub fn brief(&self, file_name: &str, text: &str) -> String {
        let before = text.get(..self.span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
        format!("{file_name}:{line}:{column}: {}{hint}", self.message)
    }

    /// The number of the first line of the span, the line as it may be shown, and the span in it.
    fn quoted_line(&self, text: &str) -> (usize, String, Range<usize>) {
        let before = text.get(..self.span.start).unwrap_or_default();
        let number = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();

        let first = self.secrets.partition_point(|secret| secret.end <= start);
        let mut secrets = self.secrets.get(first..).unwrap_or_default().iter().peekable();
        let mut shown = String::with_capacity(line.len());
        let mut span = 0..0;
        for (offset, character) in line.char_indices() {
            let at = start + offset;
            while secrets.next_if(|secret| secret.end <= at).is_some() {}
            let masked = secrets.peek().is_some_and(|secret| secret.contains(&at));
            if at <= self.span.start {
                span.start = shown.len();
            }
            shown.push(if masked { '*' } else { visible_or_tab(character) });
            if at < self.span.end {
                span.end = shown.len();
            }
        }
        (number, shown, span)
    }
}

fn visible_or_tab(character: char) -> char {
    if character == '\t' { character } else { visible(character) }
}

/// Collects the problems of one file.
pub(super) struct Problems {
    /// Where each line begins but the first.
    line_starts: Vec<usize>,
    found: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Problems {
    pub(super) fn new(text: &str) -> Self {
        let line_starts = text.match_indices('\n').map(|(newline, _)| newline + 1).collect();
        Self { line_starts, found: Vec::new(), errors: 0, warnings: 0 }
    }

    /// The number of the line of a byte.
    pub(super) fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at) + 1
    }

    pub(super) const fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Keeps a problem. One that was reported already (a setting that many resources inherit) is not counted again.
    pub(super) fn report(&mut self, span: Range<usize>, problem: &Problem<'_>) {
        let severity = problem.severity();
        let message = problem.to_string();
        if self.found.iter().any(|known| known.span == span && known.message == message) {
            return;
        }
        let count = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= MAX_SHOWN {
            let hint = problem.hint().map(Into::into);
            self.found.push(Diagnostic { severity, span, message, hint, secrets: Arc::default() });
        }
    }

    /// All that was kept, in the order of the file, and how much was not.
    pub(super) fn finish(self, secrets: Vec<Range<usize>>) -> Vec<Diagnostic> {
        let mut found = self.found;
        found.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
        let secrets: Arc<[_]> = secrets.into();
        for diagnostic in &mut found {
            diagnostic.secrets = Arc::clone(&secrets);
        }
        for (severity, count, one, many) in [
            (Severity::Error, self.errors, "error is", "errors are"),
            (Severity::Warning, self.warnings, "warning is", "warnings are"),
        ] {
            let count = count.saturating_sub(MAX_SHOWN);
            if count > 0 {
                let what = if count == 1 { one } else { many };
                let message = Problem::NotShown { count, what }.to_string();
                found.push(Diagnostic { severity, span: 0..0, message, hint: None, secrets: Arc::default() });
            }
        }
        found
    }
}
