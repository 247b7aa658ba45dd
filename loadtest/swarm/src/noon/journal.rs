//! What happened when: told to whoever waits, and kept for the report.

use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::clock::Clock;

/// Tells what happens as it happens, and remembers it.
#[derive(Debug)]
pub struct Journal {
    clock: Clock,
    aloud: bool,
    marks: Mutex<Vec<Mark>>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// When.
    pub at: Duration,
    /// Of which kind.
    pub kind: MarkKind,
    /// In a few words.
    pub text: String,
}

/// Kinds of marks; plots show some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkKind {
    /// Preparation, or a step that explains itself.
    Phase,
    /// A node is told to end.
    Terminate,
    /// A node has ended.
    Exit,
    /// Something breaks.
    Fault,
    /// What had broken is there again.
    Healed,
}

impl Journal {
    /// Nothing has happened yet. It tells on standard error if it is to speak `aloud`.
    pub fn new(clock: Clock, aloud: bool) -> Self {
        Self { clock, aloud, marks: Mutex::default() }
    }

    /// The time of the run.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Something happens now. Answers when that is.
    pub fn mark(&self, kind: MarkKind, text: impl Into<String>) -> Duration {
        let mark = Mark { at: self.clock.now(), kind, text: text.into() };
        self.tell(&mark);
        let at = mark.at;
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
        at
    }

    /// Everything so far.
    pub fn marks(&self) -> Vec<Mark> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, mark: &Mark) {
        if self.aloud {
            // Whoever closed standard error does not want to know.
            let _: io::Result<()> = writeln!(io::stderr(), "{:7.1} s  {}", mark.at.as_secs_f64(), mark.text);
        }
    }
}
