use prometheus::{IntCounterVec, IntGauge};

use super::{Maker, Metrics, level};

/// Why somebody is sent away before anything is known of it. Why else a handshake is refused is known with the first one.
const SENT_AWAY: [&str; 11] = [
    "stopping",
    "rate",
    "connections_max",
    "memory",
    "files",
    "address_rate",
    "address_connections_max",
    "internal_connections_max",
    "header_timeout",
    "tls",
    "tls_required",
];

/// What concerns the door of the node.
#[derive(Debug)]
pub(super) struct Admission {
    rejected: IntCounterVec,
    waiting: IntGauge,
    connections_limit: IntGauge,
}

impl Admission {
    pub(super) fn register(make: &Maker<'_>) -> Self {
        let rejected = make.counters("handshakes_rejected_total", "Handshakes refused.", &["reason"]);
        for reason in SENT_AWAY {
            rejected.with_label_values(&[reason]);
        }
        Self {
            rejected,
            waiting: make
                .gauge("handshakes_waiting", "Connections accepted whose turn for a handshake has not come."),
            connections_limit: make.gauge("connections_limit", "Most client connections of the node."),
        }
    }
}

impl Metrics {
    /// Handshakes may be refused for `reason`.
    pub fn expect_refused_handshake(&self, reason: &'static str) {
        self.admission.rejected.with_label_values(&[reason]);
    }

    /// A handshake was refused.
    pub fn handshake_rejected(&self, reason: &'static str) {
        self.admission.rejected.with_label_values(&[reason]).inc();
    }

    /// So many more wait for their turn, or fewer.
    pub fn handshakes_waiting(&self, change: i64) {
        self.admission.waiting.add(change);
    }

    /// How many connections there may be.
    pub fn connections_limit(&self, count: usize) {
        self.admission.connections_limit.set(level(count));
    }
}
