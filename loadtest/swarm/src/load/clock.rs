//! The time of a load.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Measures by nanoseconds since its start; copies tell the same time. What is published says when by it, and clients of
/// the same process measure delays by it.
#[derive(Clone, Copy, Debug)]
pub struct LoadClock {
    start: Instant,
    started: SystemTime,
}

impl LoadClock {
    /// Starts now.
    pub fn start() -> Self {
        Self { start: Instant::now(), started: SystemTime::now() }
    }

    /// When it started, by the wall clock.
    pub fn started(self) -> SystemTime {
        self.started
    }

    /// How long ago that was.
    pub fn now(self) -> Duration {
        self.start.elapsed()
    }

    /// The same in nanoseconds.
    pub fn now_ns(self) -> u64 {
        u64::try_from(self.now().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The moment that was so long after the start.
    pub fn at(self, since_start: Duration) -> Instant {
        self.start + since_start
    }
}
