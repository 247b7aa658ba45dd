use clap::Args;
use serde_json::json;

use super::output::{self, Output};
use super::{ConfigFile, Failure};

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
        let warnings = self.file.load_for(&self.output)?.warnings();
        if !self.output.is_json() {
            warnings.iter().for_each(|warning| output::warn(warning));
        }
        self.output.report("ok", &json!({ "ok": true, "warnings": warnings }))
    }
}
