//! Has gungraun's runner count: it starts this program again, under valgrind, for each figure.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::gate::counts::{self, Counts};

/// Says to this program that it is to hand over to gungraun.
const COUNTING: &str = "CLARION_COUNTING";
/// What the runner says to this program under valgrind, where there is no environment.
const ONE_OF_THEM: &str = "--gungraun-run";

/// Whether this process is the one that asks the runner, or one that the runner started.
pub(crate) fn is_counting() -> bool {
    std::env::var_os(COUNTING).is_some() || std::env::args().nth(1).is_some_and(|first| first == ONE_OF_THEM)
}

/// Counts `runs` times, and takes the least of each figure. With more than one it prints how far they are apart.
///
/// # Errors
/// The runner is not there, failed, or wrote what cannot be read.
pub(crate) fn count(runs: u16) -> Result<Counts> {
    let runs: Vec<_> = (0..runs).map(|_| once()).collect::<Result<_>>()?;
    if runs.len() > 1 {
        print_spread(&runs)?;
    }
    Ok(counts::least(runs))
}

fn once() -> Result<Counts> {
    let output = Command::new(std::env::current_exe().context("this program has no path")?)
        .arg("--bench")
        .env(COUNTING, "1")
        .env("GUNGRAUN_OUTPUT_FORMAT", "json")
        .stdin(Stdio::null())
        .output()
        .context("starting this program again")?;
    if !output.status.success() {
        // It says itself if its other half is missing.
        bail!("nothing was counted: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(counts::parse(&String::from_utf8_lossy(&output.stdout))?)
}

fn print_spread(runs: &[Counts]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for name in runs[0].keys() {
        let counts: Vec<_> = runs.iter().filter_map(|run| run.get(name)).collect();
        let (Some(least), Some(most)) = (counts.iter().min(), counts.iter().max()) else { continue };
        let percent = (**most as f64 / **least as f64 - 1.0) * 100.0;
        writeln!(out, "{name:42} {least:>11} to {most:>11}, {percent:.2} % apart")?;
    }
    Ok(())
}
