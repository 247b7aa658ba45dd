//! Outcomes in files: one JSON value each.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::{FORMAT, Outcome};

/// No run of any length is as large; a file that is was not written by a run.
const BYTES_MAX: u64 = 256 << 20;

/// The one thing that every version of the format says in the same place.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

/// Reads an outcome.
///
/// # Errors
/// It cannot be read, is not JSON, is of another version, or says something that cannot be: which file, and what.
pub fn read(file: &Path) -> Result<Outcome> {
    let bytes = fs::metadata(file).with_context(|| file.display().to_string())?.len();
    ensure!(bytes <= BYTES_MAX, "{}: {bytes} bytes are more than any outcome has", file.display());
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    parse(&text).with_context(|| file.display().to_string())
}

/// Reads an outcome from JSON.
///
/// # Errors
/// As [`read`], without the name of a file.
pub fn parse(text: &str) -> Result<Outcome> {
    ensure!(
        !text.trim().is_empty(),
        "it is empty: the run has not ended, or did not write its outcome there"
    );
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => anyhow::anyhow!("it is cut off: {error}"),
        _ => anyhow::anyhow!("it is not the JSON of one outcome: {error}"),
    })?;
    let Ok(Versioned { format }) = Versioned::deserialize(&value) else {
        bail!("it is JSON, but no outcome: it has no `format`");
    };
    ensure!(
        format == FORMAT,
        "`format` is {format}, and this swarm reads {FORMAT}: use the one that wrote it"
    );
    // Again from the text, so that an error says in which line.
    let outcome: Outcome = serde_json::from_str(text).context("it is an outcome, but not a whole one")?;
    check(&outcome)?;
    Ok(outcome)
}

fn check(outcome: &Outcome) -> Result<()> {
    for (name, timeline) in &outcome.timelines {
        if let Some(flaw) = timeline.flaw() {
            bail!("`timelines.{name}`: {flaw}");
        }
    }
    for series in &outcome.series {
        if let Some(flaw) = series.flaw() {
            bail!("`series`, {}: {flaw}", series.name);
        }
    }
    Ok(())
}
