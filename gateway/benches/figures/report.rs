//! The table for people and the file for programs.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::options::{Options, Question};

/// One line of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) question: Question,
    /// What was measured, for people.
    pub(crate) name: String,
    /// The unit of `measured` and `reach`; empty for a count, `×` for a ratio.
    pub(crate) unit: &'static str,
    pub(crate) measured: f64,
    /// At most this much is the target; `None` where there is none.
    pub(crate) reach: Option<f64>,
    /// What the figure was computed from.
    pub(crate) details: Value,
}

impl Figure {
    /// That each of so many publications was delivered once and in order, or its subscriber was told otherwise: the
    /// figures of a run in which one was not are never printed.
    pub(crate) fn nothing_lost(question: Question, publications: u64) -> Self {
        Self {
            question,
            name: format!("lost without a word, twice or out of order, of {publications} publications"),
            unit: "",
            measured: 0.0,
            reach: Some(0.0),
            details: Value::Null,
        }
    }

    /// Whether the target is met; `None` without one.
    fn met(&self) -> Option<bool> {
        self.reach.map(|reach| self.measured <= reach)
    }

    fn cells(&self) -> [String; 4] {
        let unit = self.unit;
        let reach = self.reach.map_or_else(|| "-".to_owned(), |reach| format!("≤ {reach} {unit}"));
        let met = self.met().map_or("-", |met| if met { "yes" } else { "no" });
        [self.name.clone(), format!("{:.2} {unit}", self.measured), reach, met.to_owned()]
    }
}

/// All figures of one run.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Figure>);

impl Report {
    pub(crate) fn extend(&mut self, figures: impl IntoIterator<Item = Figure>) {
        self.0.extend(figures);
    }

    /// Whether any target is missed.
    pub(crate) fn missed(&self) -> bool {
        self.0.iter().any(|figure| figure.met() == Some(false))
    }

    /// Prints the table.
    pub(crate) fn print(&self) -> Result<()> {
        let mut rows = vec![["figure", "measured", "reach", "met"].map(str::to_owned)];
        rows.extend(self.0.iter().map(Figure::cells));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (name, measured, reach) = (width(0), width(1), width(2));
        let mut output = std::io::stdout().lock();
        for row in &rows {
            let [a, b, c, d] = row;
            writeln!(output, "{a:name$} | {b:>measured$} | {c:>reach$} | {d}")?;
        }
        Ok(())
    }

    /// Writes `bench/figures.json` in cargo's target directory.
    pub(crate) fn save(&self, options: &Options) -> Result<()> {
        // The one place in the target directory that cargo names to a bench is one level below it.
        let target =
            Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("the target directory is the root")?;
        let directory = target.join("bench");
        fs::create_dir_all(&directory)?;
        let report = json!({
            "cpus": thread::available_parallelism()?,
            "optimised": !cfg!(debug_assertions),
            "options": options,
            "idle_window_seconds": options.idle_window().as_secs(),
            "figures": self.0,
        });
        let path = directory.join("figures.json");
        fs::write(&path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// Says why the run failed, on standard error.
pub(crate) fn print_error(error: &anyhow::Error) {
    // Nothing is left to be done if even that cannot be written.
    let _ = writeln!(std::io::stderr(), "figures: {error:#}");
}

/// The median of `values`; of an even number, the upper of the two in the middle. `NaN` if there are none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
