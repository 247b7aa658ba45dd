//! Something that happened in a run, worth a word in a table and a line in a plot.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// When, since the start of the run.
    pub at: Duration,
    /// Of which kind.
    pub kind: MarkKind,
    /// In a few words.
    pub text: String,
}

/// Kinds of marks; plots show some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkKind {
    /// Preparation, or a step that explains itself. Not drawn into plots.
    Phase,
    /// The play goes on to something else, and what follows should be read so.
    Step,
    /// A node is told to end.
    Terminate,
    /// A node has ended.
    Exit,
    /// Something breaks.
    Fault,
    /// What had broken is there again.
    Healed,
}
