use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::{Maker, Metrics, WEBSOCKET};

/// Upper bounds for how long a connection lives, in seconds: from one that is sent away at once to one of a day.
const LIFETIME_SECONDS: [f64; 10] =
    [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];

/// The ends of a connection that no code of ours tells.
const UNTOLD: [(&str, &str); 3] =
    [("client", "by_client"), ("none", "connection_lost"), ("none", "internal")];

/// What concerns the connections of clients.
#[derive(Debug)]
pub(super) struct Connections {
    open: IntGaugeVec,
    accepted: IntCounter,
    closed: IntCounterVec,
    duration: Histogram,
    handshake_duration: HistogramVec,
    auth_duration: HistogramVec,
}

impl Connections {
    pub(super) fn register(make: &Maker<'_>) -> Self {
        let open = make.gauges("connections", "Open client connections.", &["transport", "protocol"]);
        let accepted = make.counters("connections_accepted_total", "Handshakes completed.", &["transport"]);
        let closed = make.counters("connections_closed_total", "Connections ended.", &["code", "reason"]);
        for (code, reason) in UNTOLD {
            closed.with_label_values(&[code, reason]);
        }
        let handshake_duration = make.latencies(
            "handshake_duration_seconds",
            "From accepting a connection to the answer to its handshake, its wait for a turn included.",
            &["result"],
        );
        for is_accepted in [true, false] {
            handshake_duration.with_label_values(&[handshake_label(is_accepted)]);
        }
        let auth_duration = make.latencies(
            "auth_duration_seconds",
            "Checks of tokens of connections, by what came of them.",
            &["result"],
        );
        auth_duration.with_label_values(&["ok"]);
        Self {
            open,
            accepted: accepted.with_label_values(&[WEBSOCKET]),
            closed,
            duration: make.histogram(
                "connection_duration_seconds",
                "How long connections lived that ended.",
                &LIFETIME_SECONDS,
            ),
            handshake_duration,
            auth_duration,
        }
    }
}

impl Metrics {
    /// There may be connections of `protocol`.
    pub fn expect_protocol(&self, protocol: &'static str) {
        self.connections.open.with_label_values(&[WEBSOCKET, protocol]);
    }

    /// Connections may be closed with `code` for `reason`.
    pub fn expect_close(&self, code: &str, reason: &'static str) {
        self.connections.closed.with_label_values(&[code, reason]);
    }

    /// Tokens may be refused for `reason`.
    pub fn expect_refused_token(&self, reason: &'static str) {
        self.connections.auth_duration.with_label_values(&[reason]);
    }

    /// A connection was upgraded.
    pub fn connection_accepted(&self) {
        self.connections.accepted.inc();
    }

    /// A connection of `protocol` is in the table.
    pub fn connection_opened(&self, protocol: &'static str) {
        self.connections.open.with_label_values(&[WEBSOCKET, protocol]).inc();
    }

    /// It ended `after` it was opened; `code` is the close code that was sent, or that the client sent.
    pub fn connection_closed(
        &self,
        protocol: &'static str,
        code: &str,
        reason: &'static str,
        after: Duration,
    ) {
        self.connections.open.with_label_values(&[WEBSOCKET, protocol]).dec();
        self.connections.closed.with_label_values(&[code, reason]).inc();
        self.connections.duration.observe(after.as_secs_f64());
    }

    /// A handshake was answered `after` its connection was accepted.
    pub fn handshake_answered(&self, is_accepted: bool, after: Duration) {
        let label = handshake_label(is_accepted);
        self.connections.handshake_duration.with_label_values(&[label]).observe(after.as_secs_f64());
    }

    /// The check of a token took so long; `result` is `ok` or why it is refused.
    pub fn token_checked(&self, result: &'static str, duration: Duration) {
        self.connections.auth_duration.with_label_values(&[result]).observe(duration.as_secs_f64());
    }

    /// Connections that are open, in all protocols.
    pub fn connection_count(&self) -> usize {
        let metrics = prometheus::core::Collector::collect(&self.connections.open);
        let all = metrics.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        all.map(|metric| metric.get_gauge().get_value().max(0.0) as usize).sum()
    }
}

fn handshake_label(is_accepted: bool) -> &'static str {
    if is_accepted { "accepted" } else { "refused" }
}
