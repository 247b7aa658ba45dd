use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::process::Process;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks again and again until `holds` does.
///
/// # Errors
/// It does not hold within `patience`.
pub(super) async fn until(
    what: &str,
    patience: Duration,
    mut holds: impl AsyncFnMut() -> bool,
) -> Result<()> {
    let start = Instant::now();
    while !holds().await {
        if start.elapsed() > patience {
            bail!("still waiting for {what} after {patience:?}");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// As [`until`], for what `process` will do unless it ends before.
///
/// # Errors
/// It has ended, or does not do it within `patience`; the file with what it says is named.
pub(super) async fn until_up(
    process: &mut Process,
    patience: Duration,
    mut is_up: impl AsyncFnMut() -> bool,
) -> Result<()> {
    let start = Instant::now();
    while !is_up().await {
        let (name, log) = (process.name().to_owned(), process.output().to_owned());
        if let Some(status) = process.ended()? {
            bail!("{name} has ended, with {status}:\n{}", last_lines(&log));
        }
        if start.elapsed() > patience {
            bail!("{name} is not ready after {patience:?}:\n{}", last_lines(&log));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// The end of a log, and where the rest is.
fn last_lines(log: &Path) -> String {
    const LINES: usize = 10;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    format!("  {}\n(all of it: {})", last.join("\n  "), log.display())
}
