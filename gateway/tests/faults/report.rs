//! What a fault did, in one line that can be compared with that of another run.

use std::fmt::{self, Display};
use std::path::Path;
use std::time::Duration;

use crate::oracle::Findings;

/// The outcome of one fault.
#[derive(Debug, Default)]
pub(crate) struct Report {
    findings: Findings,
    figures: Vec<(&'static str, String)>,
    /// What should have been otherwise, beside the findings.
    problems: Vec<String>,
}

impl Report {
    /// Takes what the oracle found; findings of several scenes are added up.
    pub(crate) fn found(&mut self, findings: Findings) {
        let sum = &mut self.findings;
        sum.lost_silent += findings.lost_silent;
        sum.lost_declared += findings.lost_declared;
        sum.dup += findings.dup;
        sum.reorder += findings.reorder;
        sum.forks += findings.forks;
        sum.details.extend(findings.details);
    }

    /// A figure to record.
    pub(crate) fn figure(&mut self, name: &'static str, value: impl Display) {
        self.figures.push((name, value.to_string()));
    }

    /// A figure in seconds; `None` is written `-`.
    pub(crate) fn seconds(&mut self, name: &'static str, value: impl Into<Option<Duration>>) {
        let text = |value: Duration| format!("{:.3}s", value.as_secs_f64());
        self.figures.push((name, value.into().map_or_else(|| "-".into(), text)));
    }

    /// A requirement of the fault.
    pub(crate) fn require(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.problems.push(what.into());
        }
    }

    /// The fault could not be played to its end.
    pub(crate) fn failed(&mut self, error: &anyhow::Error) {
        self.problems.push(format!("{error:#}"));
    }

    /// Logs are there.
    pub(crate) fn kept_at(&mut self, directory: &Path) {
        self.problems.push(format!("see the logs in {}", directory.display()));
    }

    pub(crate) fn passed(&self) -> bool {
        self.findings.is_clean() && self.problems.is_empty()
    }

    /// Why it did not pass, a line each.
    pub(crate) fn complaints(&self) -> impl Iterator<Item = &String> {
        self.problems.iter().chain(self.findings.details.iter().filter(|_| !self.findings.is_clean()))
    }
}

impl Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings { lost_silent, lost_declared, dup, reorder, forks, .. } = &self.findings;
        write!(formatter, "lost_silent={lost_silent} dup={dup} reorder={reorder} forks={forks}")?;
        write!(formatter, " lost_declared={lost_declared}")?;
        for (name, value) in &self.figures {
            write!(formatter, " {name}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    crate::own::tests!(a_report_is_one_line_and_fails_for_losses_and_problems);

    fn a_report_is_one_line_and_fails_for_losses_and_problems() {
        let mut report = Report::default();
        report.found(Findings { lost_declared: 2, ..Findings::default() });
        report.seconds("t_detect", Duration::from_millis(1250));
        report.seconds("t_recover", None);
        report.figure("closes", 0);
        assert!(report.passed());
        let line =
            "lost_silent=0 dup=0 reorder=0 forks=0 lost_declared=2 t_detect=1.250s t_recover=- closes=0";
        assert_eq!(report.to_string(), line);
        report.require(false, "it answers");
        assert!(!report.passed());
        for findings in [
            Findings { lost_silent: 1, ..Findings::default() },
            Findings { dup: 1, ..Findings::default() },
            Findings { reorder: 1, ..Findings::default() },
            Findings { forks: 1, ..Findings::default() },
        ] {
            let mut report = Report::default();
            report.found(findings);
            assert!(!report.passed());
        }
    }
}
