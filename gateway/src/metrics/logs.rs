use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::IntCounter;

use super::{Maker, Metrics};

/// What concerns the node's own logs.
#[derive(Debug)]
pub(super) struct Logs {
    dropped: IntCounter,
    /// How many lines `dropped` has counted.
    dropped_so_far: AtomicU64,
}

impl Logs {
    pub(super) fn register(make: &Maker<'_>) -> Self {
        let dropped = make.counter(
            "logs_dropped_total",
            "Lines of logs that were not written, because nobody took them or there was no room.",
        );
        Self { dropped, dropped_so_far: AtomicU64::new(0) }
    }
}

impl Metrics {
    /// So many lines of logs were dropped since the process began.
    pub fn logs_dropped(&self, since_the_beginning: u64) {
        let before = self.logs.dropped_so_far.fetch_max(since_the_beginning, Ordering::Relaxed);
        self.logs.dropped.inc_by(since_the_beginning.saturating_sub(before));
    }
}
