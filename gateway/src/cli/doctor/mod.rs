//! `clarion doctor`: looks at what a node would live in.
//!
//! A file for each area. Facts are gathered first and judged by functions that know nothing else, so that a test can make
//! each of them wrong on a machine where all is well.

mod exposure;
mod finding;
mod machine;
mod redis;
mod secrets;
mod strength;
mod timing;

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use self::finding::{Finding, Level};
use self::machine::Machine;
use super::output::{self, Output};
use super::{ConfigFile, Failure};
use crate::config::Config;

/// Look at what a node would live in: limits of the system, Redis, times, secrets
#[derive(Args)]
#[command(after_help = "Example:\n  clarion doctor --config clarion.yaml --grace 35s\n  \
    clarion doctor --config clarion.yaml --proxy-idle-timeout 30s --output json\n\n\
    Run it where the node runs: same container, same user, same variables. Nothing is changed.\n\
    Exit code 0: no problem, though perhaps warnings. 1: a problem. 2: bad configuration.")]
pub(super) struct Doctor {
    /// How long the platform waits between SIGTERM and SIGKILL.
    #[arg(long, value_name = "DURATION", env = "CLARION_TERMINATION_GRACE", value_parser = duration)]
    grace: Option<Duration>,
    /// After how long without a byte a proxy in front closes a connection.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    proxy_idle_timeout: Duration,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

impl Doctor {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.file.load_for(&self.output)?;
        let findings = self.findings(&config)?;
        self.output.report(&text(&findings), &json(&findings))?;
        let has_problem = findings.iter().any(|finding| finding.level == Level::Problem);
        if has_problem { Err(Failure::Reported(1)) } else { Ok(()) }
    }

    fn findings(&self, config: &Config) -> anyhow::Result<Vec<Finding>> {
        let mut findings = Machine::look(config).findings(config);
        findings.extend(exposure::findings(config, &exposure::addresses()));
        findings.extend(secrets::findings(config));
        findings.extend(timing::findings(config, self.proxy_idle_timeout, self.grace));
        findings.extend(redis::findings(config)?);
        Ok(findings)
    }
}

/// A duration such as `35s`, or whole seconds as the manifests of Kubernetes have them.
fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    text.parse().map(Duration::from_secs).or_else(|_| humantime::parse_duration(text))
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|finding| finding.level == level).count()
}

fn text(findings: &[Finding]) -> String {
    let in_colour = output::is_coloured();
    let lines: Vec<_> = findings.iter().map(|finding| finding.text(in_colour)).collect();
    let (problems, warnings) = (count(findings, Level::Problem), count(findings, Level::Warning));
    let unknown = count(findings, Level::Unknown);
    format!("{}\n\nproblems: {problems}, warnings: {warnings}, unknown: {unknown}", lines.join("\n"))
}

fn json(findings: &[Finding]) -> Value {
    json!({
        "ok": count(findings, Level::Problem) == 0,
        "problems": count(findings, Level::Problem),
        "warnings": count(findings, Level::Warning),
        "findings": findings.iter().map(Finding::json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_as_elsewhere_or_as_in_a_manifest() {
        for (text, seconds) in [("35", 35), ("35s", 35), ("1m 15s", 75)] {
            assert_eq!(duration(text).unwrap(), Duration::from_secs(seconds));
        }
        assert!(duration("soon").is_err());
    }

    #[test]
    fn only_a_problem_is_no_good() {
        let fine = [
            Finding::ok("a", "x"),
            Finding::unknown("b", "y"),
            Finding::ok("c", "z").warns("hm").remedy("do"),
        ];
        assert_eq!((&json(&fine)["ok"], &json(&fine)["warnings"]), (&json!(true), &json!(1)));
        let bad = [Finding::ok("a", "x").fails("no").remedy("do")];
        assert_eq!(json(&bad)["ok"], false);
        assert_eq!(
            json(&bad)["findings"][0],
            json!({
                "name": "a", "level": "problem", "found": "x", "wrong": "no", "remedies": ["do"]
            })
        );
        assert!(text(&bad).ends_with("\n\nproblems: 1, warnings: 0, unknown: 0"));
    }
}
