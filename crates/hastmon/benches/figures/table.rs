//! The table: for each figure the median of its runs and how far they lie apart, for all programs, and the ratios to the first ones.

use std::fs;
use std::path::Path;

/// What one figure of one set of programs has given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    pub(crate) values: Vec<f64>,
}

impl Column {
    fn median(&self) -> Option<f64> {
        let (below, above) =
            (self.values.get((self.values.len().max(1) - 1) / 2)?, self.values.get(self.values.len() / 2)?);
        Some(f64::midpoint(*below, *above))
    }

    fn text(&self) -> String {
        let (Some(median), Some(least), Some(most)) = (self.median(), self.values.first(), self.values.last()) else {
            return "-".to_owned();
        };
        format!("{} ({}–{})", short(median), short(*least), short(*most))
    }
}

/// Three digits that say something.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        large if large >= 10.0 => 1,
        large if large >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

const NAME: usize = 50;
const CELL: usize = 24;
const RATIO: usize = 10;

/// A table of which the head has been printed. It is Markdown, too.
pub(crate) struct Table {
    runs: usize,
}

impl Table {
    /// With these columns; the first is what the others are compared with.
    pub(crate) fn begin(programs: &[&str], runs: usize) -> Table {
        let (first, others) = programs.split_first().expect("programs");
        let heads = programs.iter().map(|name| format!(" {name:<CELL$} |"));
        let ratios = others.iter().map(|name| format!(" {:>RATIO$} |", format!("{name} / {first}")));
        let head: String = heads.chain(ratios).collect();
        println!("| {:<NAME$} | unit |   goal |{head}", "median (least–most)");
        let lines = programs.iter().map(|_| format!("{:-<1$}|", "", CELL + 2));
        let ratios = others.iter().map(|name| format!("{:->1$}|", ":", RATIO.max(name.len() + first.len() + 3) + 2));
        println!("|{:-<1$}|------|-------:|{2}", "", NAME + 2, lines.chain(ratios).collect::<String>());
        Table { runs }
    }

    /// A line, with a column for each set of programs.
    pub(crate) fn line(&self, name: &str, unit: &str, goal: Option<f64>, mut columns: Vec<Column>) {
        columns.iter_mut().for_each(|column| column.values.sort_by(f64::total_cmp));
        let failed: usize = columns.iter().map(|column| self.runs.saturating_sub(column.values.len())).sum();
        let cells = columns.iter().map(|column| format!(" {:<CELL$} |", column.text()));
        let base = columns.first().and_then(Column::median);
        let ratio = |column: &Column| match (column.median(), base) {
            (Some(median), Some(base)) if base > 0.0 => format!("{:.2}", median / base),
            _ => "-".to_owned(),
        };
        let ratios = columns.iter().skip(1).map(|column| format!(" {:>RATIO$} |", ratio(column)));
        let goal = goal.map_or_else(String::new, |goal| goal.to_string());
        println!("| {name:<NAME$} | {unit:<4} | {goal:>6} |{}", cells.chain(ratios).collect::<String>());
        if failed > 0 {
            eprintln!("  {failed} of {} runs of \"{name}\" have failed", self.runs * columns.len());
        }
    }
}

/// What criterion has left in its directory, by name: microseconds for each iteration, of every sample.
pub(crate) fn criterion_rows(dir: &Path) -> Vec<(String, Column)> {
    let mut rows: Vec<(String, Column)> = Vec::new();
    let inside = |dir: &Path| fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    for dir in inside(dir).flat_map(|group| inside(&group).collect::<Vec<_>>()).map(|dir| dir.join("new")) {
        let read = |name: &str| -> Option<serde_json::Value> {
            serde_json::from_str(&fs::read_to_string(dir.join(name)).ok()?).ok()
        };
        let (Some(what), Some(sample)) = (read("benchmark.json"), read("sample.json")) else { continue };
        let numbers = |name: &str| sample[name].as_array().unwrap().iter().filter_map(serde_json::Value::as_f64);
        let values = numbers("times").zip(numbers("iters")).map(|(ns, iterations)| ns / iterations / 1e3).collect();
        rows.push((what["full_id"].as_str().unwrap().replacen('/', ": ", 1), Column { values }));
    }
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    rows
}
