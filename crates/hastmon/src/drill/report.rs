//! What a drill has come to: its legs, with the time of each step, and what they come to together, as text and as JSON. Never asks anybody.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// The version of what `drill --json` prints, as hastmonctl(8) describes it. It grows when something is removed or means something else.
const SCHEMA: u32 = 1;
/// The steps of a leg that has come to its end, in their order.
const STEPS: [&str; 4] = ["stop", "release", "win", "start"];
/// Lines of a histogram, at most: it fits on a screen twice.
const MAX_LINES: u128 = 10;
/// Columns of the longest bar.
const MAX_BAR: usize = 40;
/// No line of a histogram is finer than this, in microseconds: times are shown to the millisecond.
const LEAST_WIDTH_US: u128 = 1000;

/// One half of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the node where the drill runs to the other one.
    There,
    /// From that one to the node where the drill runs.
    Back,
}

impl Way {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::There => "there",
            Self::Back => "back",
        }
    }
}

/// A switchover that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    /// Counts from 1.
    pub(crate) round: u32,
    pub(crate) way: Way,
    /// The node that was to get it, when that is known.
    pub(crate) node: Option<String>,
    pub(crate) steps: Vec<(String, Duration)>,
    pub(crate) outcome: Result<(), String>,
}

impl Leg {
    /// It was brought back by something else than this drill.
    fn came_by_itself(&self) -> bool {
        self.outcome.is_ok() && self.steps.is_empty()
    }

    fn total(&self) -> Duration {
        self.steps.iter().fold(Duration::ZERO, |sum, (_, took)| sum.saturating_add(*took))
    }

    /// From the moment in which it was stopped until it ran again.
    pub(crate) fn interruption(&self) -> Option<Duration> {
        let rest = self.steps.iter().skip(1);
        (self.outcome.is_ok() && !self.steps.is_empty())
            .then(|| rest.fold(Duration::ZERO, |sum, (_, took)| sum.saturating_add(*took)))
    }

    /// What is shown as soon as it is over.
    pub(crate) fn text(&self) -> String {
        let to = self.node.as_ref().map_or_else(String::new, |node| format!(" (to {node})"));
        let mut text = format!("round {}, {}{to}: ", self.round, self.way.as_str());
        text += &match (&self.outcome, self.interruption()) {
            (Ok(()), None) => "it has come by itself, which was not measured".to_string(),
            (Ok(()), Some(interruption)) => format!("{}, interrupted for {}", s(self.total()), s(interruption)),
            (Err(_), _) => "FAILED".to_string(),
        };
        text.push('\n');
        for (step, took) in &self.steps {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {step}: {}", s(*took));
        }
        text
    }

    fn json(&self) -> Value {
        let is_whole = self.outcome.is_ok() && self.steps.len() == STEPS.len();
        let names = STEPS.iter().map(|name| is_whole.then_some(*name)).chain(std::iter::repeat(None));
        let step = |((text, took), name): (&(String, Duration), Option<&str>)| json!({ "name": name, "text": text, "seconds": took.as_secs_f64() });
        json!({
            "round": self.round,
            "way": self.way.as_str(),
            "node": self.node,
            "ok": self.outcome.is_ok(),
            "error": self.outcome.as_ref().err(),
            "measured": !self.came_by_itself(),
            "seconds": self.total().as_secs_f64(),
            "interruption_seconds": self.interruption().as_ref().map(Duration::as_secs_f64),
            "steps": self.steps.iter().zip(names).map(step).collect::<Vec<_>>(),
        })
    }
}

/// How a drill has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All rounds were made.
    Done,
    /// Nothing was begun: why.
    Refused(String),
    /// Somebody has interrupted it, between two legs.
    Interrupted,
    /// A leg has failed: why.
    Failed(String),
}

/// All that there is to tell.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) resource: String,
    /// Rounds that were asked for.
    pub(crate) rounds: u32,
    /// The node where the drill runs.
    pub(crate) from: Option<String>,
    /// The node to which the resource went.
    pub(crate) to: Option<String>,
    pub(crate) legs: Vec<Leg>,
    pub(crate) end: End,
    /// The node that runs it at the end, as far as that is known.
    pub(crate) runs_on: Option<String>,
}

impl Report {
    fn interruptions(&self, way: Way) -> Vec<Duration> {
        let of_way = self.legs.iter().filter(|leg| leg.way == way);
        let mut found: Vec<Duration> = of_way.filter_map(Leg::interruption).collect();
        found.sort_unstable();
        found
    }

    /// Rounds that were made as a whole.
    pub(crate) fn completed(&self) -> usize {
        self.legs.iter().filter(|leg| leg.way == Way::Back && leg.outcome.is_ok()).count()
    }

    /// Whether it runs where it was.
    fn is_home(&self) -> bool {
        self.runs_on.is_some() && self.runs_on == self.from
    }

    /// Where it runs, and what to do about that.
    pub(crate) fn state(&self) -> String {
        let (name, from) = (&self.resource, self.from.as_deref().unwrap_or("this node"));
        match &self.runs_on {
            Some(node) if self.is_home() => format!("{name} runs on {node}, where it was."),
            Some(node) => format!("{name} runs on {node}. To bring it back, here: hastmonctl switchover {name} {from}"),
            None => format!("{name} is not known to run anywhere. Ask why: hastmonctl explain {name}"),
        }
    }

    /// Interruptions: a line for each way, then a histogram of each, on one scale.
    pub(crate) fn summary(&self) -> String {
        let all = [Way::There, Way::Back].map(|way| (way, self.interruptions(way)));
        let mut text = String::new();
        for (way, values) in &all {
            if let Some(Figures { least, median, most }) = figures(values) {
                if text.is_empty() {
                    text += "\nInterruption, from stopped to running again:\n";
                }
                let (least, median, most) = (s(least), s(median), s(most));
                // Writing to a string cannot fail.
                let _ = writeln!(text, "  {:<5}  least {least}, median {median}, most {most}", way.as_str());
            }
        }
        if all.iter().all(|(_, values)| values.len() < 2) {
            return text;
        }
        let both: Vec<Duration> = all.iter().flat_map(|(_, values)| values.iter().copied()).collect();
        let scale = Scale::of(&both);
        for (way, values) in &all {
            let _ = write!(text, "\n  {}\n{}", way.as_str(), scale.histogram(values));
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        let (outcome, error) = match &self.end {
            End::Done => ("done", None),
            End::Refused(why) => ("refused", Some(why)),
            End::Interrupted => ("interrupted", None),
            End::Failed(why) => ("failed", Some(why)),
        };
        let of = |way| {
            let values = self.interruptions(way);
            figures(&values).map(|Figures { least, median, most }| {
                json!({
                    "count": values.len(),
                    "least_seconds": least.as_secs_f64(),
                    "median_seconds": median.as_secs_f64(),
                    "most_seconds": most.as_secs_f64(),
                })
            })
        };
        let value = json!({
            "schema": SCHEMA,
            "resource": self.resource,
            "from": self.from,
            "to": self.to,
            "rounds": self.rounds,
            "completed": self.completed(),
            "outcome": outcome,
            "error": error,
            "runs_on": self.runs_on,
            "legs": self.legs.iter().map(Leg::json).collect::<Vec<_>>(),
            "interruption": { "there": of(Way::There), "back": of(Way::Back) },
        });
        format!("{value:#}\n")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    least: Duration,
    median: Duration,
    most: Duration,
}

/// Of sorted values. With an even number of them the median lies between the two in the middle.
fn figures(sorted: &[Duration]) -> Option<Figures> {
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(Figures { least, median: lower.saturating_add(upper) / 2, most })
}

/// Seconds, to the millisecond.
pub(crate) fn s(span: Duration) -> String {
    format!("{:.3} s", span.as_secs_f64())
}

/// The lines of a histogram: each as wide as the others, and of a round width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scale {
    first_us: u128,
    width_us: u128,
    lines: u128,
}

impl Scale {
    fn of(values: &[Duration]) -> Self {
        let us = |value: Option<&Duration>| value.map_or(0, Duration::as_micros);
        let (least, most) = (us(values.iter().min()), us(values.iter().max()));
        let mut width_us = LEAST_WIDTH_US;
        // 1, 2, 5, 10, 20, 50 ms and so on.
        for factor in [2, 5, 10].into_iter().cycle().zip(0_u32..).map(|(factor, at)| factor * 10_u128.pow(at / 3)) {
            if most / width_us - least / width_us < MAX_LINES {
                break;
            }
            width_us = LEAST_WIDTH_US * factor;
        }
        let first = least / width_us;
        Self { first_us: first * width_us, width_us, lines: most / width_us - first + 1 }
    }

    fn histogram(&self, values: &[Duration]) -> String {
        let counts: Vec<usize> = (0..self.lines).map(|line| self.count(values, line)).collect();
        let most = counts.iter().copied().max().unwrap_or_default();
        let mut text = String::new();
        for (line, count) in (0..self.lines).zip(counts) {
            let from = self.first_us + line * self.width_us;
            let bar = if most > MAX_BAR { (count * MAX_BAR).div_ceil(most) } else { count };
            let (from, to) = (whole_ms(from), whole_ms(from + self.width_us));
            text += format!("  {from} - {to} s  {count:>3}  {}", "#".repeat(bar)).trim_end();
            text.push('\n');
        }
        text
    }

    fn count(&self, values: &[Duration], line: u128) -> usize {
        let from = self.first_us + line * self.width_us;
        values.iter().filter(|value| (from..from + self.width_us).contains(&value.as_micros())).count()
    }
}

/// Microseconds as seconds with three digits.
fn whole_ms(us: u128) -> String {
    format!("{}.{:03}", us / 1_000_000, us / 1000 % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn leg(round: u32, way: Way, start_ms: u64) -> Leg {
        let steps =
            [("stopped here", 100), ("lease given back for b", 3), ("b holds the lease", 7), ("runs", start_ms)];
        let steps = steps.map(|(step, took)| (step.to_string(), ms(took)));
        let node = if way == Way::There { "b" } else { "a" };
        Leg { round, way, node: Some(node.to_string()), steps: steps.into(), outcome: Ok(()) }
    }

    fn report(legs: Vec<Leg>, end: End, runs_on: Option<&str>) -> Report {
        let node = |name: &str| Some(name.to_string());
        let runs_on = runs_on.map(ToString::to_string);
        Report { resource: "web".to_string(), rounds: 2, from: node("a"), to: node("b"), legs, end, runs_on }
    }

    #[test]
    fn an_interruption_begins_when_it_is_stopped_and_ends_when_it_runs() {
        let leg = leg(1, Way::There, 190);
        assert_eq!((leg.total(), leg.interruption()), (ms(300), Some(ms(200))));
        let expected = "round 1, there (to b): 0.300 s, interrupted for 0.200 s\n  stopped here: 0.100 s\n  \
                        lease given back for b: 0.003 s\n  b holds the lease: 0.007 s\n  runs: 0.190 s\n";
        assert_eq!(leg.text(), expected);
        let failed = Leg { outcome: Err("b could not start it".to_string()), ..leg };
        assert_eq!(failed.interruption(), None, "it was longer, and is no figure of a switchover");
        assert!(failed.text().starts_with("round 1, there (to b): FAILED\n  stopped here"));
    }

    #[test]
    fn what_came_back_by_itself_is_not_counted() {
        let leg = Leg { steps: Vec::new(), ..leg(1, Way::Back, 0) };
        assert_eq!(leg.interruption(), None);
        assert_eq!(leg.text(), "round 1, back (to a): it has come by itself, which was not measured\n");
        let report = report(vec![leg], End::Done, Some("a"));
        assert_eq!((report.completed(), report.summary()), (1, String::new()));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert_eq!(figures(&[]), None);
        assert_eq!(figures(&[ms(3)]), Some(Figures { least: ms(3), median: ms(3), most: ms(3) }));
        assert_eq!(figures(&[1, 2, 9].map(ms)), Some(Figures { least: ms(1), median: ms(2), most: ms(9) }));
        assert_eq!(figures(&[1, 2, 4, 9].map(ms)), Some(Figures { least: ms(1), median: ms(3), most: ms(9) }));
    }

    #[test]
    fn a_scale_has_few_lines_of_a_round_width() {
        let scale = |values: &[u64]| {
            let Scale { first_us, width_us, lines } = Scale::of(&values.iter().copied().map(ms).collect::<Vec<_>>());
            (first_us / 1000, width_us / 1000, lines)
        };
        assert_eq!(scale(&[210]), (210, 1, 1));
        assert_eq!(scale(&[210, 219]), (210, 1, 10));
        assert_eq!(scale(&[210, 220]), (210, 2, 6));
        assert_eq!(scale(&[13, 187]), (0, 20, 10));
        assert_eq!(scale(&[1, 60_000]), (0, 10_000, 7));
        assert_eq!(scale(&[0, 3_600_000]), (0, 500_000, 8));
    }

    #[test]
    fn both_ways_are_shown_apart_and_on_one_scale() {
        let there = [180, 190, 200].map(|start| leg(1, Way::There, start));
        let back = [190, 230].map(|start| leg(1, Way::Back, start));
        let report = report(there.into_iter().chain(back).collect(), End::Done, Some("a"));
        let expected = "
Interruption, from stopped to running again:
  there  least 0.190 s, median 0.200 s, most 0.210 s
  back   least 0.200 s, median 0.220 s, most 0.240 s

  there
  0.190 - 0.200 s    1  #
  0.200 - 0.210 s    1  #
  0.210 - 0.220 s    1  #
  0.220 - 0.230 s    0
  0.230 - 0.240 s    0
  0.240 - 0.250 s    0

  back
  0.190 - 0.200 s    0
  0.200 - 0.210 s    1  #
  0.210 - 0.220 s    0
  0.220 - 0.230 s    0
  0.230 - 0.240 s    0
  0.240 - 0.250 s    1  #
";
        assert_eq!(report.summary(), expected);
    }

    #[test]
    fn long_bars_are_cut_in_proportion_and_nothing_that_was_seen_vanishes() {
        let values: Vec<Duration> = std::iter::repeat_n(ms(5), 1000).chain([ms(6)]).collect();
        let text = Scale::of(&values).histogram(&values);
        let expected = format!("  0.005 - 0.006 s  1000  {}\n  0.006 - 0.007 s    1  #\n", "#".repeat(40));
        assert_eq!(text, expected);
    }

    #[test]
    fn the_end_says_where_it_runs_and_what_to_do() {
        let state = |runs_on| report(Vec::new(), End::Done, runs_on).state();
        assert_eq!(state(Some("a")), "web runs on a, where it was.");
        assert_eq!(state(Some("b")), "web runs on b. To bring it back, here: hastmonctl switchover web a");
        assert!(state(None).contains("hastmonctl explain web"));
    }

    #[test]
    fn programs_get_each_step_by_its_name_and_the_figures_of_each_way() {
        let failed =
            Leg { outcome: Err("no".to_string()), steps: leg(2, Way::There, 1).steps, ..leg(2, Way::There, 1) };
        let legs = vec![leg(1, Way::There, 190), leg(1, Way::Back, 190), failed];
        let text = report(legs, End::Failed("no".to_string()), Some("a")).json();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["schema"], &value["completed"], &value["outcome"]),
            (&json!(1), &json!(1), &json!("failed"))
        );
        assert_eq!(
            value["interruption"]["there"],
            json!({ "count": 1, "least_seconds": 0.2, "median_seconds": 0.2, "most_seconds": 0.2 })
        );
        let names: Vec<&Value> =
            value["legs"][0]["steps"].as_array().unwrap().iter().map(|step| &step["name"]).collect();
        assert_eq!(names, ["stop", "release", "win", "start"]);
        assert_eq!((&value["legs"][2]["ok"], &value["legs"][2]["steps"][0]["name"]), (&json!(false), &Value::Null));
    }
}
