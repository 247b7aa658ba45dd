use std::path::PathBuf;

use clap::{Args, value_parser};

use super::Failure;
use super::telling::Telling;
use crate::outcome::file;

/// Make one result of those of several processes that played the same together
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    swarm merge first.json second.json --processes 2 --report both.html\n  \
    kubectl logs --selector job-name=swarm --tail=-1 | swarm merge - --processes 4\n\n\
    Each file is what `--output json` printed, or several of them one after another. Counts add up, percentiles are those \
    of all values together, figures are computed again; the order of files makes no difference. Exit code 0: nothing was \
    lost, repeated or out of order in any of them; 1: something was, or a file is not what it should be; 2: used wrongly.")]
pub(super) struct Merge {
    /// What the processes found, as JSON; `-` is standard input
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
    /// How many processes there must be: with fewer or more it is no success
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    processes: Option<u32>,
    #[command(flatten)]
    telling: Telling,
}

impl Merge {
    /// Merges, and says what came of it; answers whether it was a success.
    pub(super) fn run(&self) -> Result<bool, Failure> {
        self.telling.check().map_err(Failure::Usage)?;
        let outcome = file::merged(&self.files)?;
        if let Some(wanted) = self.processes.filter(|wanted| *wanted != outcome.processes) {
            let found = outcome.processes;
            let error = anyhow::anyhow!("--processes {wanted}: what was read is of {found} processes");
            return Err(Failure::from(error));
        }
        self.telling.tell(&outcome)?;
        Ok(outcome.passed())
    }
}
