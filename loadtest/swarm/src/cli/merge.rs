use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::telling::Telling;
use crate::outcome::file;

/// Make one result of those of several processes that played the same together
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    swarm merge first.json second.json --report both.html\n  \
    kubectl logs --selector job-name=swarm --tail=-1 | swarm merge -\n\n\
    Each file is what `--output json` printed, or several of them one after another. Counts add up, percentiles are those \
    of all values together, figures are computed again; the order of files makes no difference. Exit code 0: nothing was \
    lost, repeated or out of order in any of them; 1: something was, or a file is not what it should be; 2: used wrongly.")]
pub(super) struct Merge {
    /// What the processes found, as JSON; `-` is standard input
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    telling: Telling,
}

impl Merge {
    /// Merges, and says what came of it; answers whether it was a success.
    pub(super) fn run(&self) -> Result<bool, Failure> {
        self.telling.check().map_err(Failure::Usage)?;
        let outcome = file::merged(&self.files)?;
        self.telling.tell(&outcome)?;
        Ok(outcome.passed())
    }
}
