use std::io::{self, IsTerminal as _, Write as _};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::Failure;

/// How a command reports.
#[derive(Args)]
pub(super) struct Output {
    /// How to report.
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For scripts: one object.
    Json,
}

impl Output {
    /// Whether a script reads it.
    pub(super) fn is_json(&self) -> bool {
        self.output == Format::Json
    }

    /// Writes `text` or `json` to standard output, whichever was asked for.
    pub(super) fn report(&self, text: &str, json: &Value) -> Result<(), Failure> {
        if self.is_json() { print(&json.to_string()) } else { print(text) }
    }
}

/// Whether standard output is a terminal whose owner does not mind colours (no-color.org).
pub(super) fn is_coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes `text` and a line break to standard output: the only place that does.
///
/// A reader that has gone, as `head` does, is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Failed(error.into())),
        _ => Ok(()),
    }
}

/// Writes a sentence to standard error that is no failure.
pub(super) fn warn(sentence: &str) {
    let _ = writeln!(io::stderr().lock(), "warning: {sentence}");
}

/// Writes a sentence to standard error that says how things go.
pub(super) fn note(sentence: &str) {
    let _ = writeln!(io::stderr().lock(), "{sentence}");
}

/// Writes `error` with its causes to standard error, each line of it marked.
pub(super) fn complain(error: &anyhow::Error) {
    for line in format!("{error:#}").lines() {
        let _ = writeln!(io::stderr().lock(), "error: {line}");
    }
}
