use std::fmt::Write as _;

use serde_json::{Value, json};

/// How wide the column of levels and that of names are.
const LEVEL_WIDTH: usize = 8;
const NAME_WIDTH: usize = 24;

/// How bad it is, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It could not be looked at.
    Unknown,
    /// It works, and may hurt one day.
    Warning,
    /// It does not work, or is not safe.
    Problem,
}

impl Level {
    /// As it is printed, for people and machines alike.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    /// The ANSI colour.
    fn colour(self) -> u8 {
        match self {
            Self::Ok => 32,
            Self::Unknown => 36,
            Self::Warning => 33,
            Self::Problem => 31,
        }
    }
}

/// One line of the doctor: what was looked at, and what came of it. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// By which scripts know the line, as `open_files`.
    pub(super) name: &'static str,
    pub(super) level: Level,
    /// What there is.
    pub(super) found: String,
    /// What is wrong with that; empty if nothing is.
    pub(super) wrong: String,
    /// What to type: commands, or lines of the configuration.
    pub(super) remedies: Vec<String>,
}

impl Finding {
    /// Nothing is wrong.
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, found: found.into(), wrong: String::new(), remedies: Vec::new() }
    }

    /// It could not be looked at, and `found` says why.
    pub(super) fn unknown(name: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Unknown, ..Self::ok(name, found) }
    }

    /// The same, but `wrong` may hurt one day.
    #[must_use]
    pub(super) fn warns(self, wrong: impl Into<String>) -> Self {
        Self { level: Level::Warning, wrong: wrong.into(), ..self }
    }

    /// The same, but `wrong` does not do.
    #[must_use]
    pub(super) fn fails(self, wrong: impl Into<String>) -> Self {
        Self { level: Level::Problem, wrong: wrong.into(), ..self }
    }

    /// Adds something to type.
    #[must_use]
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedies.push(remedy.into());
        self
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "level": self.level.name(),
            "found": self.found,
            "wrong": self.wrong,
            "remedies": self.remedies,
        })
    }

    /// For people, on several lines; the level `in_colour` or not.
    pub(super) fn text(&self, in_colour: bool) -> String {
        let level = format!("{:<LEVEL_WIDTH$}", self.level.name());
        let level = if in_colour { format!("\x1b[{}m{level}\x1b[0m", self.level.colour()) } else { level };
        let mut text = format!("{level} {:<NAME_WIDTH$} {}", self.name.replace('_', " "), self.found);
        let margin = " ".repeat(LEVEL_WIDTH + NAME_WIDTH + 2);
        let wrong = Some(&self.wrong).filter(|wrong| !wrong.is_empty()).cloned();
        for line in wrong.into_iter().chain(self.remedies.iter().map(|remedy| format!("> {remedy}"))) {
            write!(text, "\n{margin}{line}").expect("a string takes everything");
        }
        text
    }
}

/// Asserts what a finding is, and that its text has `words`.
#[cfg(test)]
#[track_caller]
pub(super) fn is(finding: &Finding, level: Level, words: &[&str]) {
    let text = finding.text(false);
    assert_eq!(finding.level, level, "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{text} lacks {word}"));
    assert_eq!(finding.remedies.is_empty(), level < Level::Warning, "what is wrong has a remedy: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_aligned_and_coloured_on_demand() {
        let finding = Finding::ok("open_files", "12").fails("too few").remedy("ulimit -n 13");
        let margin = " ".repeat(34);
        let plain = format!("problem  open files               12\n{margin}too few\n{margin}> ulimit -n 13");
        assert_eq!(finding.text(false), plain);
        assert_eq!(finding.text(true), plain.replace("problem ", "\x1b[31mproblem \x1b[0m"));
        assert_eq!(Finding::ok("clock", "good").text(false), "ok       clock                    good");
    }

    #[test]
    fn levels_are_in_the_order_of_their_weight() {
        assert!(
            Level::Ok < Level::Unknown && Level::Unknown < Level::Warning && Level::Warning < Level::Problem
        );
    }
}
