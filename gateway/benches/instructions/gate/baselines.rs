//! What the counts were when somebody looked at them, and where that was.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::counts::Counts;

/// The committed figures.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baselines {
    /// Why they are what they are.
    pub(crate) reason: String,
    pub(crate) toolchain: Toolchain,
    pub(crate) machine: Machine,
    pub(crate) instructions: Counts,
}

/// What decides on the instructions of our code. The repository pins it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Toolchain {
    pub(crate) rustc: String,
    pub(crate) target: String,
}

/// What else decides on counts, and is as the machine has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) valgrind: String,
    pub(crate) libc: String,
    /// Compiles the allocator and the crypto library.
    pub(crate) cc: String,
}

/// The baselines cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaselinesError {
    /// They are not what [`Baselines::to_json`] writes.
    #[error("these are no baselines")]
    Malformed(#[from] serde_json::Error),
    /// A figure of nothing: there is no percentage of it.
    #[error("the baseline of {0} is zero")]
    Zero(String),
}

impl Baselines {
    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// [`BaselinesError`] for anything else.
    pub(crate) fn parse(text: &str) -> Result<Self, BaselinesError> {
        let baselines: Self = serde_json::from_str(text)?;
        match baselines.instructions.iter().find(|(_, count)| **count == 0) {
            Some((name, _)) => Err(BaselinesError::Zero(name.clone())),
            None => Ok(baselines),
        }
    }

    /// As text to commit: a line for each figure.
    pub(crate) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("its keys are strings");
        text.push('\n');
        text
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} for {}", self.rustc, self.target)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {}, {}", self.valgrind, self.libc, self.cc)
    }
}
