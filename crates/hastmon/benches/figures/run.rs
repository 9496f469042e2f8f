//! What is asked for, and who measures it: the runs of several programs take turns, so that what happens on the machine meanwhile falls on all.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::lab::{hastmon, hastmonctl};
use crate::table::{Column, Table, criterion_rows};
use crate::{costs, failover, start};

/// One line of the table.
pub(crate) struct Figure {
    /// `{N}` stands for the number of resources.
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// What is to be reached.
    pub(crate) goal: Option<f64>,
}

/// What one laboratory gives: a value for each of its figures.
pub(crate) struct Measurement {
    pub(crate) figures: &'static [Figure],
    pub(crate) measure: fn(&Options) -> Vec<f64>,
}

fn measurements() -> impl Iterator<Item = &'static Measurement> {
    start::MEASUREMENTS.iter().chain(failover::MEASUREMENTS).chain(costs::MEASUREMENTS)
}

const WHAT_TO_SAY: &str =
    "[--programs NAME=DIR]... [--runs N] [--resources N] [--watch SECONDS] [--list | --criterion DIR] [WORD...]";

pub(crate) struct Options {
    programs: Vec<(String, PathBuf)>,
    runs: usize,
    pub(crate) resources: usize,
    /// How long many resources are watched; at least for as long as their cost is measured.
    pub(crate) watch: Duration,
    words: Vec<String>,
    list: bool,
    /// What criterion has left there becomes lines of the table; nothing else is measured.
    criterion: Option<PathBuf>,
    /// The measurement that this process is for, by its place.
    one: Option<usize>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
        let mut options = Options {
            programs: Vec::new(),
            runs: 5,
            resources: 100,
            watch: Duration::ZERO,
            words: Vec::new(),
            list: false,
            criterion: None,
            one: None,
        };
        while let Some(word) = arguments.next() {
            match word.as_str() {
                "--bench" => {}
                "--list" => options.list = true,
                "--programs" => {
                    let value = arguments.next()?;
                    let (name, dir) = value.split_once('=')?;
                    options.programs.push((name.to_owned(), PathBuf::from(dir)));
                }
                "--runs" => options.runs = arguments.next()?.parse().ok().filter(|runs| *runs > 0)?,
                "--resources" => options.resources = arguments.next()?.parse().ok().filter(|count| *count > 0)?,
                "--watch" => options.watch = Duration::from_secs(arguments.next()?.parse().ok()?),
                "--criterion" => options.criterion = Some(arguments.next()?.into()),
                "--one" => options.one = Some(arguments.next()?.parse().ok()?),
                option if option.starts_with("--") => return None,
                _ => options.words.push(word),
            }
        }
        if options.programs.is_empty() {
            let dir = Path::new(env!("CARGO_BIN_EXE_hastmon")).parent()?;
            options.programs.push(("this tree".to_owned(), dir.to_owned()));
        }
        Some(options)
    }

    pub(crate) fn name(&self, figure: &Figure) -> String {
        figure.name.replace("{N}", &self.resources.to_string())
    }

    fn chosen(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }
}

/// Has another process make one measurement with these programs. Nothing when it has failed: why is in a file.
fn measured_elsewhere(options: &Options, at: usize, programs: &Path) -> Option<Vec<f64>> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--bench", "--one", &at.to_string(), "--resources", &options.resources.to_string()]);
    command.args(["--watch", &options.watch.as_secs().to_string()]);
    let output = command.env("HASTMON_TEST_PROGRAMS", programs).stdin(Stdio::null()).output().unwrap();
    if output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        return Some(text.lines().map(|line| line.parse().unwrap()).collect());
    }
    let file = std::env::temp_dir().join(format!("hastmon-figures-{}-{at}.log", std::process::id()));
    std::fs::write(&file, output.stderr).unwrap();
    eprintln!("  a run with {} has failed: see {}", programs.display(), file.display());
    None
}

fn measure(options: &Options, table: &Table, at: usize, measurement: &Measurement) {
    let names: Vec<String> = measurement.figures.iter().map(|figure| options.name(figure)).collect();
    if !names.iter().any(|name| options.chosen(name)) {
        return;
    }
    let mut columns: Vec<Vec<Column>> = names.iter().map(|_| vec![Column::default(); options.programs.len()]).collect();
    for run in 0..options.runs {
        // Whoever is first finds another machine than who comes next: each is, in turn.
        for turn in 0..options.programs.len() {
            let which = (run + turn) % options.programs.len();
            let values = measured_elsewhere(options, at, &options.programs[which].1);
            for (row, value) in columns.iter_mut().zip(values.into_iter().flatten()) {
                row[which].values.extend(Some(value).filter(|value| !value.is_nan()));
            }
        }
    }
    for ((figure, name), row) in measurement.figures.iter().zip(names).zip(columns) {
        if options.chosen(&name) {
            table.line(&name, figure.unit, figure.goal, row);
        }
    }
}

pub(crate) fn main() {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("usage: {WHAT_TO_SAY}");
        std::process::exit(64);
    };
    if let Some(at) = options.one {
        assert!(hastmon().exists() && hastmonctl().exists(), "{} is no program", hastmon().display());
        let values = (measurements().nth(at).expect("a measurement").measure)(&options);
        values.iter().for_each(|value| println!("{value}"));
        return;
    }
    if options.list {
        let figures = measurements().flat_map(|measurement| measurement.figures);
        figures.for_each(|figure| println!("{}", options.name(figure)));
        return;
    }
    if let Some(dir) = &options.criterion {
        let rows: Vec<_> = criterion_rows(dir).into_iter().filter(|(name, _)| options.chosen(name)).collect();
        if !rows.is_empty() {
            let table = Table::begin(&["this tree"], 0);
            rows.into_iter().for_each(|(name, column)| table.line(&name, "us", None, vec![column]));
        }
        return;
    }
    // Words may choose figures of criterion alone.
    let mut figures = measurements().flat_map(|measurement| measurement.figures);
    if !figures.any(|figure| options.chosen(&options.name(figure))) {
        return;
    }
    let names: Vec<&str> = options.programs.iter().map(|(name, _)| name.as_str()).collect();
    let table = Table::begin(&names, options.runs);
    for (at, measurement) in measurements().enumerate() {
        measure(&options, &table, at, measurement);
    }
}
