//! Counts, as gungraun's runner writes them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The version of summaries that is read here. They have no promise to stay as they are.
const SCHEMA: &str = "7";
/// The tool whose counts are meant, as summaries call it.
const TOOL: &str = "callgrind";

/// Instructions by figure.
pub(crate) type Counts = BTreeMap<String, u64>;

/// The output of the runner is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CountsError {
    /// A line is no summary.
    #[error("line {line} is no summary of gungraun")]
    Malformed {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Another version of the runner wrote it.
    #[error("the summary has version {0}, and version {SCHEMA} can be read")]
    Version(String),
    /// It has no count of instructions.
    #[error("there is no count of {0}")]
    Missing(String),
    /// What was to be counted was optimised away, or did not run.
    #[error("{0} took no instructions")]
    Zero(String),
    /// Two figures share a name.
    #[error("{0} was counted twice")]
    Twice(String),
    /// Nothing was counted.
    #[error("nothing was counted")]
    Empty,
}

/// What is looked at in a summary.
#[derive(Deserialize)]
struct Summary {
    version: String,
    function_name: String,
    #[serde(default)]
    id: String,
    profiles: Vec<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    tool: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    total: Total,
}

#[derive(Deserialize)]
struct Total {
    metrics: BTreeMap<String, Metric>,
}

#[derive(Deserialize)]
struct Metric {
    values: Values,
}

/// Beside it may be that of the run before, which does not matter.
#[derive(Deserialize)]
struct Values {
    new: Option<serde_json::Number>,
}

/// Reads the summaries of `output`, one in each line.
///
/// # Errors
/// [`CountsError`]: the runner is another one, or did not count.
pub(crate) fn parse(output: &str) -> Result<Counts, CountsError> {
    let mut counts = Counts::new();
    for (index, line) in output.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let malformed = |source| CountsError::Malformed { line: index + 1, source };
        let summary: Summary = serde_json::from_str(line).map_err(malformed)?;
        let (name, count) = summary.count()?;
        if counts.insert(name.clone(), count).is_some() {
            return Err(CountsError::Twice(name));
        }
    }
    if counts.is_empty() { Err(CountsError::Empty) } else { Ok(counts) }
}

/// The least count of each figure. What differs from run to run is work that the others did not have.
pub(crate) fn least(runs: impl IntoIterator<Item = Counts>) -> Counts {
    let mut least = Counts::new();
    for (name, count) in runs.into_iter().flatten() {
        least.entry(name).and_modify(|known| *known = count.min(*known)).or_insert(count);
    }
    least
}

impl Summary {
    fn count(self) -> Result<(String, u64), CountsError> {
        if self.version != SCHEMA {
            return Err(CountsError::Version(self.version));
        }
        let name = format!("{} {}", self.function_name, self.id).trim().replace('_', " ");
        let profile = self.profiles.iter().find(|profile| profile.tool.eq_ignore_ascii_case(TOOL));
        let metric = profile.and_then(|profile| profile.data.total.metrics.get("Ir"));
        match metric.and_then(|metric| metric.values.new.as_ref()).and_then(serde_json::Number::as_u64) {
            None => Err(CountsError::Missing(name)),
            Some(0) => Err(CountsError::Zero(name)),
            Some(count) => Ok((name, count)),
        }
    }
}
