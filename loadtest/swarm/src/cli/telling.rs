//! How a command says what came of it: the arguments for that, which every play has, and what is done with them.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::outcome::Outcome;
use crate::report::outcome::{page, table};

/// How a run says what came of it.
#[derive(Clone, Debug, Args)]
pub(super) struct Telling {
    /// Write a page with plots, one HTML file
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
}

/// What is printed on standard output at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// A table
    Text,
    /// All that is known of the run; of a play, one line that `swarm merge` reads
    Json,
}

impl Telling {
    /// Finds what cannot be done before anything is run.
    pub(super) fn check(&self) -> Result<()> {
        self.report.as_deref().map_or(Ok(()), check_report)
    }

    /// Whether the output is for somebody who reads it.
    pub(super) fn is_text(&self) -> bool {
        self.output == Output::Text
    }

    /// Says what came of a play.
    pub(super) fn tell(&self, outcome: &Outcome) -> Result<()> {
        let text = match self.output {
            Output::Text => table::text(outcome),
            Output::Json => serde_json::to_string(outcome)? + "\n",
        };
        self.write(&text, || page::html(outcome))
    }

    /// Prints `text`, and writes the page if one is wanted.
    pub(super) fn write(&self, text: &str, page: impl FnOnce() -> String) -> Result<()> {
        // Whoever closed the output does not want to know.
        let _: io::Result<()> = io::stdout().lock().write_all(text.as_bytes());
        match &self.report {
            Some(file) => fs::write(file, page()).with_context(|| format!("writing {}", file.display())),
            None => Ok(()),
        }
    }
}

fn check_report(file: &Path) -> Result<()> {
    let is_html = file.extension().and_then(OsStr::to_str) == Some("html");
    ensure!(is_html, "--report {}: the page is HTML, so its name must end with .html", file.display());
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        bail!("--report {}: there is no directory {}", file.display(), parent.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_could_not_be_written_is_refused_before_the_run() {
        assert!(check_report(Path::new("noon.html")).is_ok());
        let error = check_report(Path::new("noon.pdf")).unwrap_err().to_string();
        assert!(error.contains("noon.pdf") && error.contains(".html"), "{error}");
        let error = check_report(Path::new("nowhere-at-all/noon.html")).unwrap_err().to_string();
        assert!(error.contains("no directory nowhere-at-all"), "{error}");
    }
}
