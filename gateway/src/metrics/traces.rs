use prometheus::IntCounterVec;

use super::{Maker, Metrics};

/// Why a span did not reach the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanLoss {
    /// Too many waited to be sent.
    QueueFull,
    /// The collector did not take it, or did not say that it did.
    NotTaken,
}

impl SpanLoss {
    const ALL: [Self; 2] = [Self::QueueFull, Self::NotTaken];

    fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::NotTaken => "not_taken",
        }
    }
}

/// What concerns the node's own traces.
#[derive(Debug)]
pub(super) struct Traces {
    dropped: IntCounterVec,
}

impl Traces {
    pub(super) fn register(make: &Maker<'_>) -> Self {
        let help = "Spans of traces that did not reach the collector.";
        let dropped = make.counters("spans_dropped_total", help, &["reason"]);
        for loss in SpanLoss::ALL {
            dropped.with_label_values(&[loss.label()]);
        }
        Self { dropped }
    }
}

impl Metrics {
    /// So many spans did not reach the collector.
    pub fn spans_dropped(&self, loss: SpanLoss, count: usize) {
        self.traces.dropped.with_label_values(&[loss.label()]).inc_by(count as u64);
    }
}
