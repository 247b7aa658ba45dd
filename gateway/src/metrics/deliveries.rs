use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::{LATENCY_SECONDS, Maker, Metrics, WEBSOCKET, level};
use crate::config::SlowConsumer;

/// Upper bounds for how many subscribers a publication has on one shard.
const RECIPIENTS: [f64; 11] =
    [0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 100_000.0];
/// Upper bounds for a walk over the subscribers of a channel, in seconds; then those of latencies.
const SHORT_SECONDS: [f64; 8] = [1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4];

/// Why publications did not reach subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// A shard's inbox was full.
    InboxFull,
    /// The subscriber was closed as a slow consumer.
    SlowConsumer,
    /// The subscriber was behind, and newer publications took their place.
    DropOldest,
    /// The subscriber was behind, and newer publications of the same key took their place.
    Latest,
}

impl DropReason {
    const ALL: [Self; 4] = [Self::InboxFull, Self::SlowConsumer, Self::DropOldest, Self::Latest];

    fn label(self) -> &'static str {
        match self {
            Self::InboxFull => "inbox_full",
            Self::SlowConsumer => "slow",
            Self::DropOldest => "drop_oldest",
            Self::Latest => "latest",
        }
    }
}

/// What concerns the way of publications to subscribers. What a delivery touches is looked up once, here.
#[derive(Debug)]
pub(super) struct Deliveries {
    delivered: IntCounter,
    dropped: IntCounterVec,
    notices_dropped: IntCounter,
    bytes_sent: IntCounter,
    bytes_received: IntCounter,
    fanout_duration: Histogram,
    recipients: Histogram,
    outbox_bytes: IntGauge,
    outbox_limit_bytes: IntGauge,
    slow_consumers: IntCounterVec,
}

impl Deliveries {
    pub(super) fn register(make: &Maker<'_>) -> Self {
        let of_websocket = |name: &str, help: &str| {
            make.counters(name, help, &["transport"]).with_label_values(&[WEBSOCKET])
        };
        Self {
            delivered: of_websocket(
                "publications_delivered_total",
                "Publications written or queued to a subscriber, once per subscriber.",
            ),
            dropped: dropped(make),
            notices_dropped: make
                .counter("notices_dropped_total", "Joins and leaves that a shard did not get."),
            bytes_sent: of_websocket("bytes_sent_total", "Bytes given to clients."),
            bytes_received: of_websocket("bytes_received_total", "Bytes read from clients."),
            fanout_duration: make.histogram(
                "fanout_duration_seconds",
                "From the first to the last subscriber of what was published together, on one shard.",
                &[&SHORT_SECONDS[..], &LATENCY_SECONDS].concat(),
            ),
            recipients: make.histogram(
                "fanout_recipients",
                "Subscribers to whom what was published together went, on one shard.",
                &RECIPIENTS,
            ),
            outbox_bytes: make.gauge("outbox_bytes", "Bytes queued for connections that do not take them."),
            outbox_limit_bytes: make.gauge("outbox_limit_bytes", "Most bytes queued for all connections."),
            slow_consumers: slow_consumers(make),
        }
    }

    /// Sets what is counted elsewhere.
    pub(super) fn look(&self, outbox_bytes: usize) {
        self.outbox_bytes.set(level(outbox_bytes));
    }
}

fn dropped(make: &Maker<'_>) -> IntCounterVec {
    let dropped = make.counters(
        "publications_dropped_total",
        "Publications that did not go to somebody who was subscribed.",
        &["reason"],
    );
    for reason in DropReason::ALL {
        dropped.with_label_values(&[reason.label()]);
    }
    dropped
}

fn slow_consumers(make: &Maker<'_>) -> IntCounterVec {
    let slow_consumers = make.counters(
        "slow_consumers_total",
        "Connections that fell behind, once until they have caught up.",
        &["policy"],
    );
    for policy in [SlowConsumer::Disconnect, SlowConsumer::DropOldest, SlowConsumer::Latest] {
        slow_consumers.with_label_values(&[policy_label(policy)]);
    }
    slow_consumers
}

impl Metrics {
    /// Publications were given to subscribers: `count` in all, together `bytes`.
    pub fn publications_delivered(&self, count: usize, bytes: usize) {
        self.deliveries.delivered.inc_by(count as u64);
        self.bytes_sent(bytes);
    }

    /// What was published together went to so many subscribers of a shard, the last of them `after` the walk began.
    pub fn fanned_out(&self, recipients: usize, after: Duration) {
        self.deliveries.recipients.observe(recipients as f64);
        self.deliveries.fanout_duration.observe(after.as_secs_f64());
    }

    /// Publications did not reach somebody.
    pub fn publications_dropped(&self, reason: DropReason, count: usize) {
        self.deliveries.dropped.with_label_values(&[reason.label()]).inc_by(count as u64);
    }

    /// A join or leave did not reach a shard, because its inbox was full.
    pub fn notice_dropped(&self) {
        self.deliveries.notices_dropped.inc();
    }

    /// Bytes were given to a connection.
    pub fn bytes_sent(&self, bytes: usize) {
        self.deliveries.bytes_sent.inc_by(bytes as u64);
    }

    /// Bytes were read from a connection.
    pub fn bytes_received(&self, bytes: usize) {
        self.deliveries.bytes_received.inc_by(bytes as u64);
    }

    /// How many bytes may be queued for all connections together.
    pub fn outbox_limit(&self, bytes: usize) {
        self.deliveries.outbox_limit_bytes.set(level(bytes));
    }

    /// A connection fell behind, and `policy` was applied: it was closed, or something was dropped.
    pub fn slow_consumer(&self, policy: SlowConsumer) {
        self.deliveries.slow_consumers.with_label_values(&[policy_label(policy)]).inc();
    }
}

fn policy_label(policy: SlowConsumer) -> &'static str {
    match policy {
        SlowConsumer::Disconnect => "disconnect",
        SlowConsumer::DropOldest => "drop_oldest",
        SlowConsumer::Latest => "latest",
    }
}
