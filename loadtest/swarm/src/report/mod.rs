//! What came of a run, for whoever reads it: a table, a page, or JSON.

pub mod environment;
mod html;
pub mod number;
pub mod outcome;
pub mod page;
mod plot;
pub mod table;

use serde::Serialize;

use self::environment::Environment;
use crate::noon::facts::Facts;
use crate::noon::judgement::{Kind, Row, passes, rows};
use crate::noon::settings::Settings;

/// A run, what it was run on, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether it is a success.
    pub passed: bool,
    /// What was asked of it, and what came of that.
    pub rows: Vec<Row>,
    /// What was run, as it was written.
    pub command: String,
    /// What was run, with everything that was left out.
    pub settings: Settings,
    /// What it was run on.
    pub environment: Environment,
    /// Whether figures count.
    pub strict: bool,
    /// All that is known of it.
    pub facts: Facts,
}

impl Report {
    /// Judges `facts`.
    pub fn new(
        settings: Settings,
        strict: bool,
        command: String,
        environment: Environment,
        facts: Facts,
    ) -> Self {
        let rows = rows(&settings, &facts);
        Self { passed: passes(&rows, strict), rows, command, settings, environment, strict, facts }
    }

    /// The verdict in one sentence.
    pub fn headline(&self) -> String {
        let broken = self.missed(Kind::Promise);
        let missed = self.missed(Kind::Figure);
        match (broken, missed) {
            (0, 0) => "Every promise holds, and every figure is reached.".into(),
            (0, missed) => format!("Every promise holds; {}.", missing(missed, "figure", "missed")),
            (broken, 0) => format!("{}.", missing(broken, "promise", "broken")),
            (broken, missed) => {
                format!("{}, {}.", missing(broken, "promise", "broken"), missing(missed, "figure", "missed"))
            }
        }
    }

    /// What went wrong in words, if a promise is broken.
    fn explanations(&self) -> Vec<&String> {
        if self.missed(Kind::Promise) == 0 {
            return Vec::new();
        }
        let Facts { crowd, witnesses, publish, .. } = &self.facts;
        let of_witnesses = witnesses.iter().flat_map(|crowd| &crowd.verdict.examples);
        let of_crowd = crowd.verdict.examples.iter().chain(&crowd.failures);
        of_crowd.chain(of_witnesses).chain(&publish.failures).collect()
    }

    fn missed(&self, kind: Kind) -> usize {
        self.rows.iter().filter(|row| row.kind == kind && !row.holds).count()
    }
}

fn missing(count: usize, what: &str, how: &str) -> String {
    if count == 1 { format!("1 {what} is {how}") } else { format!("{count} {what}s are {how}") }
}

/// What is said of a row.
fn verdict(row: &Row) -> &'static str {
    match (row.holds, row.kind) {
        (true, _) => "holds",
        (false, Kind::Promise) => "BROKEN",
        (false, Kind::Figure) => "missed",
    }
}
