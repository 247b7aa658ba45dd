use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::IntCounter;

use super::{Maker, Metrics};

/// What concerns the node's own logs.
#[derive(Debug)]
pub(super) struct Logs {
    dropped: IntCounter,
    /// How many lines `dropped` has counted.
    dropped_so_far: AtomicU64,
    suppressed: IntCounter,
    /// How many lines `suppressed` has counted.
    suppressed_so_far: AtomicU64,
}

impl Logs {
    pub(super) fn register(make: &Maker<'_>) -> Self {
        let dropped = make.counter(
            "logs_dropped_total",
            "Lines of logs that were not written, because nobody took them or there was no room.",
        );
        let suppressed = make.counter(
            "log_lines_suppressed_total",
            "Lines of logs that were left out, because their place in the code had said enough.",
        );
        Self { dropped, dropped_so_far: AtomicU64::new(0), suppressed, suppressed_so_far: AtomicU64::new(0) }
    }
}

impl Metrics {
    /// So many lines of logs were dropped since the process began.
    pub fn logs_dropped(&self, since_the_beginning: u64) {
        catch_up(&self.logs.dropped, &self.logs.dropped_so_far, since_the_beginning);
    }

    /// So many lines of logs were left out since the process began.
    pub fn logs_suppressed(&self, since_the_beginning: u64) {
        catch_up(&self.logs.suppressed, &self.logs.suppressed_so_far, since_the_beginning);
    }
}

/// Has `counter`, which has counted `so_far`, say `since_the_beginning`.
fn catch_up(counter: &IntCounter, so_far: &AtomicU64, since_the_beginning: u64) {
    let before = so_far.fetch_max(since_the_beginning, Ordering::Relaxed);
    counter.inc_by(since_the_beginning.saturating_sub(before));
}
