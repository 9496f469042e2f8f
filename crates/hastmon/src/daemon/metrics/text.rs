//! The text format of Prometheus (0.0.4): families with their help and type, samples with labels. Knows no metric of ours.

use std::fmt::Write as _;

/// What a server of it says it is.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// It goes up and down.
    Gauge,
    /// It only grows; its name ends in `_total`.
    Counter,
    /// How many were how large.
    Histogram,
}

/// A text in the making. Every family is written once, with all its samples after it.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    family: &'static str,
}

impl Text {
    /// Begins a family: the samples that follow belong to it.
    pub(super) fn family(&mut self, name: &'static str, what: Type, help: &str) {
        let word = match what {
            Type::Gauge => "gauge",
            Type::Counter => "counter",
            Type::Histogram => "histogram",
        };
        self.family = name;
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {word}");
    }

    /// A sample of the family.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, value);
    }

    /// The samples of a histogram: `counts[n]` are those of `bounds[n]` at most and more than the bound before; the last is for all others.
    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], bounds: &[&str], counts: &[u64], sum: f64) {
        let mut so_far = 0;
        let all = bounds.iter().copied().chain(["+Inf"]);
        for (bound, count) in all.zip(counts) {
            so_far += count;
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
            self.line("_bucket", &labels, so_far as f64);
        }
        self.line("_sum", labels, sum);
        self.line("_count", labels, so_far as f64);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (at, (name, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.text.extend(value.chars().flat_map(escaped));
            self.text.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = match value == f64::INFINITY {
            true => writeln!(self.text, "{end} +Inf"),
            false => writeln!(self.text, "{end} {value}"),
        };
    }

    /// All of it.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

fn escaped(character: char) -> impl Iterator<Item = char> {
    let (first, second) = match character {
        '\\' => ('\\', Some('\\')),
        '"' => ('\\', Some('"')),
        '\n' => ('\\', Some('n')),
        other => (other, None),
    };
    std::iter::once(first).chain(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_samples_and_histograms_have_the_form_of_the_format() {
        let mut text = Text::default();
        text.family("x_up", Type::Gauge, "Whether it is up.");
        text.sample(&[], 1.0);
        text.sample(&[("resource", "a\"b\\c\nd"), ("role", "primary")], 0.25);
        text.family("x_seconds", Type::Histogram, "How long.");
        text.histogram(&[("hook", "start")], &["0.1", "1"], &[2, 0, 1], 7.5);
        let expected = r#"# HELP x_up Whether it is up.
# TYPE x_up gauge
x_up 1
x_up{resource="a\"b\\c\nd",role="primary"} 0.25
# HELP x_seconds How long.
# TYPE x_seconds histogram
x_seconds_bucket{hook="start",le="0.1"} 2
x_seconds_bucket{hook="start",le="1"} 2
x_seconds_bucket{hook="start",le="+Inf"} 3
x_seconds_sum{hook="start"} 7.5
x_seconds_count{hook="start"} 3
"#;
        assert_eq!(text.finish(), expected);
    }
}
