//! What happened when: told to whoever waits, and kept for the report.

use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::mark::{Mark, MarkKind};

/// Tells what happens as it happens, and remembers it.
#[derive(Debug)]
pub struct Journal {
    clock: Clock,
    aloud: bool,
    marks: Mutex<Vec<Mark>>,
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
