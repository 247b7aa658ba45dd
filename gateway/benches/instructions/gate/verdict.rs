//! Whether the counts are as they should be, and what to do if they are not.

use std::collections::BTreeSet;
use std::fmt;

use super::baselines::{Baselines, Machine, Toolchain};
use super::counts::Counts;

/// How far a count may be from its baseline, in percent of that.
const TOLERANCE_PERCENT: u64 = 5;
/// How far the reference may be from its baseline where counts can be compared, in thousandths of that.
const REFERENCE_PERMILLE: u64 = 10;
/// The figure that has none of our code in it.
pub(crate) const REFERENCE: &str = "reference a hundred rounds";
/// What to type for new baselines.
const BLESS: &str = r#"make gate args='--bless "why"'"#;

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The baselines are of another compiler: they say nothing.
    OtherToolchain {
        /// Of the baselines.
        known: Toolchain,
        /// Of this build.
        here: Toolchain,
    },
    /// This machine counts otherwise, even where there is nothing of ours: nothing can be said here.
    OtherMachine {
        /// Of the baselines.
        known: Machine,
        /// This one.
        here: Machine,
    },
    /// Each figure was compared.
    Judged(Vec<Line>),
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// What it should be; `None`: nobody has said so yet.
    pub(crate) baseline: Option<u64>,
    /// What it is; `None`: it was not counted.
    pub(crate) count: Option<u64>,
}

/// What to think of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As it should be.
    Good,
    /// More than it may be.
    Over,
    /// So much less that the baseline would let it come back unseen.
    Under,
    /// There is no baseline.
    Unknown,
    /// There is a baseline and no count.
    Gone,
}

/// Compares `counts`, which come from a build by `toolchain` on `machine`.
pub(crate) fn judge(
    baselines: &Baselines,
    toolchain: &Toolchain,
    machine: &Machine,
    counts: &Counts,
) -> Verdict {
    if baselines.toolchain != *toolchain {
        return Verdict::OtherToolchain { known: baselines.toolchain.clone(), here: toolchain.clone() };
    }
    let reference = |counts: &Counts| counts.get(REFERENCE).copied();
    if baselines.machine != *machine && !agree(reference(&baselines.instructions), reference(counts)) {
        return Verdict::OtherMachine { known: baselines.machine.clone(), here: machine.clone() };
    }
    let names: BTreeSet<_> = baselines.instructions.keys().chain(counts.keys()).collect();
    let line = |name: &String| Line {
        name: name.clone(),
        baseline: baselines.instructions.get(name).copied(),
        count: counts.get(name).copied(),
    };
    Verdict::Judged(names.into_iter().map(line).collect())
}

/// Whether the reference is the same in both places, or nearly so.
fn agree(known: Option<u64>, here: Option<u64>) -> bool {
    let (Some(known), Some(here)) = (known, here) else { return false };
    u128::from(known.abs_diff(here)) * 1000 <= u128::from(known) * u128::from(REFERENCE_PERMILLE)
}

impl Verdict {
    /// Whether a figure is over its baseline, which counting again may mend.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Judged(lines) if lines.iter().any(|line| line.standing() == Standing::Over))
    }

    /// Whether something has to be done before this can be merged.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::OtherToolchain { .. } => true,
            Self::OtherMachine { .. } => false,
            Self::Judged(lines) => lines.iter().any(|line| line.standing().is_failure()),
        }
    }
}

impl Standing {
    fn is_failure(self) -> bool {
        matches!(self, Self::Over | Self::Unknown | Self::Gone)
    }
}

impl Line {
    /// What to think of it. Exactly at the tolerance is good.
    pub(crate) fn standing(&self) -> Standing {
        let (baseline, count) = match (self.baseline, self.count) {
            (Some(baseline), Some(count)) => (u128::from(baseline), u128::from(count)),
            (None, _) => return Standing::Unknown,
            (_, None) => return Standing::Gone,
        };
        let tolerance = u128::from(TOLERANCE_PERCENT);
        if count * 100 > baseline * (100 + tolerance) {
            Standing::Over
        } else if count * 100 < baseline * (100 - tolerance) {
            Standing::Under
        } else {
            Standing::Good
        }
    }

    fn note(&self) -> &'static str {
        match self.standing() {
            Standing::Good => "",
            Standing::Over => "  TOO MANY",
            Standing::Under => "  less: lower the baseline",
            Standing::Unknown => "  NO BASELINE",
            Standing::Gone => "  NOT COUNTED",
        }
    }

    /// How far it is from its baseline, in percent of that.
    fn difference(&self) -> Option<f64> {
        let (baseline, count) = self.baseline.zip(self.count)?;
        Some((count as f64 / baseline as f64 - 1.0) * 100.0)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u64>| number.map_or_else(|| "–".into(), |number| number.to_string());
        let difference = self.difference().map_or_else(|| "–".into(), |percent| format!("{percent:+.2} %"));
        let (name, count, baseline) = (&self.name, number(self.count), number(self.baseline));
        write!(formatter, "{name:42} {count:>11} {baseline:>11} {difference:>10}{}", self.note())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherToolchain { known, here } => {
                writeln!(formatter, "The baselines are of {known}, and this is {here}.")?;
                writeln!(
                    formatter,
                    "If the toolchain was changed on purpose, write new ones, in a commit with nothing else: {BLESS}"
                )
            }
            Self::OtherMachine { known, here } => {
                writeln!(
                    formatter,
                    "NOT RUN: counts of this machine cannot be compared with the baselines."
                )?;
                writeln!(formatter, "They are of {known}; this is {here}, and the reference differs, too.")
            }
            Self::Judged(lines) => judged(lines, formatter),
        }
    }
}

fn judged(lines: &[Line], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (count, baseline) = ("count", "baseline");
    writeln!(formatter, "{:42} {count:>11} {baseline:>11} {:>10}", "instructions", "")?;
    for line in lines {
        writeln!(formatter, "{line}")?;
    }
    let has = |wanted| lines.iter().any(|line| line.standing() == wanted);
    if lines.iter().any(|line| line.standing().is_failure()) {
        writeln!(
            formatter,
            "A path takes over {TOLERANCE_PERCENT} % more than its baseline, or has none. Profiles are in target/gungraun, for \
            callgrind_annotate. If it is meant to be so: {BLESS}"
        )?;
    } else if has(Standing::Under) {
        writeln!(formatter, "Keep what was gained: {BLESS}")?;
    }
    Ok(())
}
