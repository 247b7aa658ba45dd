use clap::Args;
use serde_json::{Value, json};

use super::output::{self, Output};
use super::{ConfigFile, Failure};
use crate::config::ConfigError;

/// Check the configuration, as `serve` would before it starts
#[derive(Args)]
#[command(after_help = "Example:\n  clarion checkconfig --config clarion.yaml\n\n\
    Exit code 0: it can be used. 2: it cannot; every problem is told.")]
pub(super) struct Checkconfig {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

impl Checkconfig {
    pub(super) fn run(self) -> Result<(), Failure> {
        let checked = self.file.load().and_then(|config| config.check_certificates().map(|()| config));
        match checked {
            Ok(config) => self.accept(&config.warnings()),
            Err(error) => self.refuse(error),
        }
    }

    fn accept(&self, warnings: &[String]) -> Result<(), Failure> {
        if !self.output.is_json() {
            warnings.iter().for_each(|warning| output::warn(warning));
        }
        self.output.report("ok", &json!({ "ok": true, "warnings": warnings }))
    }

    fn refuse(&self, error: ConfigError) -> Result<(), Failure> {
        if !self.output.is_json() {
            return Err(error.into());
        }
        let problems = error.problems.iter();
        let errors: Vec<Value> =
            problems.map(|problem| json!({ "path": problem.path, "message": problem.message })).collect();
        output::print(&json!({ "ok": false, "errors": errors }).to_string())?;
        Err(Failure::Reported(2))
    }
}
