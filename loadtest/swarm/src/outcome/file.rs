//! Outcomes in files, as `--output json` prints them: one line each.
//!
//! A file may hold several, and other lines among them, as the logs of a Job do. One that somebody has laid out in many
//! lines is read too.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::error::Category;

use super::{FORMAT, Outcome};

/// How an outcome begins where it is printed in one line.
const BEGIN: &str = "{\"format\":";
/// No runs of any length or number are as large; a file that is was not written by them.
const BYTES_MAX: u64 = 1 << 30;

/// The one thing that every version of the format says in the same place.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

/// One outcome of all that is in `files`; `-` is standard input.
///
/// # Errors
/// A file cannot be read, holds no outcome, is cut off, is of another version, is not of the same run as the first,
/// or was read before: which file, and what.
pub fn merged(files: &[PathBuf]) -> Result<Outcome> {
    let mut merged: Option<Outcome> = None;
    let mut read_before = Vec::new();
    for file in files {
        for outcome in read(file)? {
            let is_new = !read_before.contains(&outcome);
            ensure!(is_new, "{}: this was read before, and would count twice", file.display());
            read_before.push(outcome.clone());
            match &mut merged {
                None => merged = Some(outcome),
                Some(merged) => {
                    let different = || format!("{}: it is not of the same run", file.display());
                    merged.merge(outcome).with_context(different)?;
                }
            }
        }
    }
    let mut merged = merged.context("there is nothing to merge")?;
    merged.compute();
    Ok(merged)
}

/// Reads the outcomes of a file; there is at least one.
///
/// # Errors
/// As [`merged`].
pub fn read(file: &Path) -> Result<Vec<Outcome>> {
    let name = || file.display().to_string();
    let text = if file.as_os_str() == "-" {
        text(io::stdin().lock())
    } else {
        File::open(file).map_err(Into::into).and_then(text)
    };
    parse(&text.with_context(name)?).with_context(name)
}

fn text(from: impl io::Read) -> Result<String> {
    let mut text = String::new();
    let read = from.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    ensure!(read as u64 <= BYTES_MAX, "it is larger than outcomes are");
    Ok(text)
}

/// Reads outcomes from text; there is at least one.
///
/// # Errors
/// As [`merged`], without the name of a file.
pub fn parse(text: &str) -> Result<Vec<Outcome>> {
    ensure!(!text.trim().is_empty(), "it is empty: the run has not ended, or its output went elsewhere");
    let lines: Vec<(usize, &str)> =
        text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with(BEGIN)).collect();
    if lines.is_empty() {
        return Ok(vec![outcome(text)?]);
    }
    lines
        .into_iter()
        .map(|(index, line)| outcome(line).with_context(|| format!("line {}", index + 1)))
        .collect()
}

fn outcome(text: &str) -> Result<Outcome> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Eof => anyhow::anyhow!("it is cut off: {error}"),
        _ => anyhow::anyhow!("it is not the JSON of an outcome: {error}"),
    })?;
    let Ok(Versioned { format }) = Versioned::deserialize(&value) else {
        bail!("it is JSON, but not of an outcome: it has no `format`");
    };
    ensure!(
        format == FORMAT,
        "`format` is {format}, and this swarm reads {FORMAT}: use the one that wrote it"
    );
    // Again from the text, so that an error says where it is.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> String {
        serde_json::to_string(&Outcome::new("fan", "a few", "swarm fan")).unwrap()
    }

    fn error(text: &str) -> String {
        format!("{:#}", parse(text).unwrap_err())
    }

    #[test]
    fn what_is_printed_begins_as_it_is_looked_for() {
        assert!(json().starts_with(BEGIN));
    }

    #[test]
    fn a_log_may_hold_several_and_other_lines() {
        let log = format!("warning: hm\n{}\n  12.3 s  connecting\n{}\n", json(), json());
        assert_eq!(parse(&log).unwrap().len(), 2);
    }

    #[test]
    fn one_that_was_laid_out_is_read_too() {
        let value: serde_json::Value = serde_json::from_str(&json()).unwrap();
        assert_eq!(parse(&serde_json::to_string_pretty(&value).unwrap()).unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let cut = &json()[..100];
        for (text, words) in [
            (" \n".to_owned(), "it is empty"),
            (cut.to_owned(), "line 1: it is cut off"),
            (format!("{}\n{cut}", json()), "line 2: it is cut off"),
            ("swarm fan".into(), "not the JSON of an outcome"),
            ("{\"rows\":[]}".into(), "no `format`"),
            ("{\"format\":99}".into(), "`format` is 99, and this swarm reads 1"),
            ("{\"format\":1}".into(), "not a whole one: missing field `play`"),
            (json().replace("\"seconds\":0.0", "\"seconds\":\"many\""), "invalid type: string \"many\""),
        ] {
            let error = error(&text);
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let timeline =
            |timeline| json().replace("\"timelines\":{}", &format!("\"timelines\":{{\"delay\":{timeline}}}"));
        let slice = |unix_ms| format!("{{\"unix_ms\":{unix_ms},\"hdr\":\"{}\"}}", hdr());
        for (text, words) in [
            (timeline("{\"width_ms\":0,\"slices\":[]}".into()), "width_ms"),
            (timeline(format!("{{\"width_ms\":125,\"slices\":[{}]}}", slice(7))), "multiple"),
            (timeline(format!("{{\"width_ms\":125,\"slices\":[{},{}]}}", slice(125), slice(0))), "order"),
        ] {
            let error = error(&text);
            assert!(error.contains("`timelines.delay`") && error.contains(words), "{words}: {error}");
        }
        let series =
            r#"{"name":"a","unit":"","merged":"sum","points":[{"ms":2,"value":1.0},{"ms":1,"value":1.0}]}"#;
        let error = error(&json().replace("\"series\":[]", &format!("\"series\":[{series}]")));
        assert!(error.contains("`series`, a"), "{error}");
    }

    fn hdr() -> String {
        let empty = serde_json::to_value(super::super::distribution::Distribution::of_times()).unwrap();
        empty["hdr"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_file_that_is_wrong_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let file = directory.path().join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        let whole = file("a.json", &json());
        let other = file("b.json", &serde_json::to_string(&Outcome::new("idle", "", "swarm idle")).unwrap());
        let cut = file("c.json", &json()[..50]);
        let error = |files: &[PathBuf]| format!("{:#}", merged(files).unwrap_err());
        let said = error(&[whole.clone(), other]);
        assert!(said.contains("b.json") && said.contains("`play` is idle, and of the others fan"), "{said}");
        let said = error(&[whole.clone(), cut]);
        assert!(said.contains("c.json: line 1: it is cut off"), "{said}");
        let said = error(&[whole.clone(), directory.path().join("d.json")]);
        assert!(said.contains("d.json") && said.contains("No such file"), "{said}");
        let said = error(&[whole.clone(), whole]);
        assert!(said.contains("a.json: this was read before"), "{said}");
    }
}
