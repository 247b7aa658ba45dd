//! The time of a run.

use std::time::Duration;

use tokio::time::Instant;

/// What every part of a run measures by: the time since its start. Copies tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// The run starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// How long ago the run started.
    pub fn now(self) -> Duration {
        self.start.elapsed()
    }
}
