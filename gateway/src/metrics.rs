//! Every metric: name, help text, labels; one method per fact.
//!
//! A registry per gateway, because tests run several in one process. Labels come from closed sets.

mod admission;
mod broker;
mod cluster;
mod logs;
mod tls;

use std::time::Duration;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use self::admission::Admission;
use self::broker::Broker;
pub use self::broker::{HistorySource, ReconnectReason};
use self::cluster::Cluster;
pub use self::cluster::NodeCommand;
use self::logs::Logs;
use self::tls::Tls;
use crate::config::SlowConsumer;

/// Upper bounds for latencies, in seconds.
const LATENCY_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

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
    fn label(self) -> &'static str {
        match self {
            Self::InboxFull => "inbox_full",
            Self::SlowConsumer => "slow",
            Self::DropOldest => "drop_oldest",
            Self::Latest => "latest",
        }
    }
}

/// Where a publication came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The server API.
    Api,
    /// A client.
    Client,
}

impl Source {
    fn label(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Client => "client",
        }
    }
}

/// The metrics of one gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: IntGaugeVec,
    connections_accepted: IntCounterVec,
    connections_closed: IntCounterVec,
    admission: Admission,
    subscriptions: IntGauge,
    channels: IntGauge,
    publications_received: IntCounterVec,
    publications_delivered: IntCounterVec,
    publications_dropped: IntCounterVec,
    notices_dropped: IntCounter,
    bytes_sent: IntCounterVec,
    bytes_received: IntCounterVec,
    commands: IntCounterVec,
    command_duration: HistogramVec,
    api_requests: IntCounterVec,
    api_request_duration: HistogramVec,
    delivery_duration: Histogram,
    outbox_bytes: IntGauge,
    slow_consumers: IntCounterVec,
    recoveries: IntCounterVec,
    broker: Broker,
    cluster: Cluster,
    draining: IntGauge,
    drain_remaining: IntGauge,
    shard_lag: prometheus::GaugeVec,
    logs: Logs,
    tls: Tls,
}

/// The only transport there is.
const WEBSOCKET: &str = "websocket";

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

const ENDED: &str = "Connections ended.";

impl Metrics {
    /// Registers everything in a registry of its own.
    pub fn new() -> Self {
        let registry =
            Registry::new_custom(Some("clarion".into()), None).expect("the prefix is a valid name");
        let make = Maker(&registry);
        let node_info = make.gauges("node_info", "Always 1; says which version runs.", &["version"]);
        node_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self::register(&make, &registry);
        metrics.start_series_at_zero();
        metrics
    }

    fn register(make: &Maker<'_>, registry: &Registry) -> Self {
        Self {
            connections: make.gauges("connections", "Open client connections.", &["transport", "protocol"]),
            connections_accepted: make.counters(
                "connections_accepted_total",
                "Handshakes completed.",
                &["transport"],
            ),
            connections_closed: make.counters("connections_closed_total", ENDED, &["code", "reason"]),
            admission: Admission::register(make),
            subscriptions: make.gauge("subscriptions", "Subscriptions of local clients."),
            channels: make.gauge("channels", "Channels with at least one local subscriber."),
            publications_received: make.counters(
                "publications_received_total",
                "Publications accepted.",
                &["source"],
            ),
            publications_delivered: make.counters(
                "publications_delivered_total",
                "Publications written or queued to a subscriber, once per subscriber.",
                &["transport"],
            ),
            publications_dropped: make.counters(
                "publications_dropped_total",
                "Publications that did not go to somebody who was subscribed.",
                &["reason"],
            ),
            notices_dropped: make
                .counter("notices_dropped_total", "Joins and leaves that a shard did not get."),
            bytes_sent: make.counters("bytes_sent_total", "Bytes given to clients.", &["transport"]),
            bytes_received: make.counters("bytes_received_total", "Bytes read from clients.", &["transport"]),
            commands: make.counters("commands_total", "Client commands.", &["command", "outcome"]),
            command_duration: make.histograms(
                "command_duration_seconds",
                "From a command to its reply.",
                &["command"],
            ),
            api_requests: make.counters("api_requests_total", "Server API calls.", &["method", "outcome"]),
            api_request_duration: make.histograms(
                "api_request_duration_seconds",
                "Server API calls.",
                &["method"],
            ),
            delivery_duration: make.histogram(
                "delivery_duration_seconds",
                "From accepting a publication to its write to the last local socket.",
            ),
            outbox_bytes: make.gauge("outbox_bytes", "Bytes queued for connections that do not take them."),
            slow_consumers: make.counters(
                "slow_consumers_total",
                "Connections that fell behind, once until they have caught up.",
                &["policy"],
            ),
            recoveries: make.counters(
                "recoveries_total",
                "Subscribers that asked to catch up.",
                &["outcome"],
            ),
            broker: Broker::register(make),
            cluster: Cluster::register(make),
            draining: make.gauge("draining", "Whether the node is stopping."),
            drain_remaining: make
                .gauge("drain_remaining", "Connections that a node that stops has yet to close."),
            shard_lag: make.lag("shard_lag_seconds", "How late a shard's timer last fired.", &["shard"]),
            logs: Logs::register(make),
            tls: Tls::register(make),
            registry: registry.clone(),
        }
    }

    /// A series that appears with its first event hides that event from `rate()`.
    fn start_series_at_zero(&self) {
        self.connections_accepted.with_label_values(&[WEBSOCKET]);
        self.bytes_sent.with_label_values(&[WEBSOCKET]);
        self.bytes_received.with_label_values(&[WEBSOCKET]);
        self.publications_delivered.with_label_values(&[WEBSOCKET]);
        for policy in [SlowConsumer::Disconnect, SlowConsumer::DropOldest, SlowConsumer::Latest] {
            self.slow_consumers.with_label_values(&[policy_label(policy)]);
        }
        for recovered in [true, false] {
            self.recoveries.with_label_values(&[recovery_label(recovered)]);
        }
        for source in [Source::Api, Source::Client] {
            self.publications_received.with_label_values(&[source.label()]);
        }
        use DropReason::{DropOldest, InboxFull, Latest};
        for reason in [InboxFull, DropReason::SlowConsumer, DropOldest, Latest] {
            self.publications_dropped.with_label_values(&[reason.label()]);
        }
    }

    /// A connection was upgraded.
    pub fn connection_accepted(&self) {
        self.connections_accepted.with_label_values(&[WEBSOCKET]).inc();
    }

    /// A connection of `protocol` is in the table.
    pub fn connection_opened(&self, protocol: &'static str) {
        self.connections.with_label_values(&[WEBSOCKET, protocol]).inc();
    }

    /// It ended; `code` is the close code that was sent, or that the client sent.
    pub fn connection_closed(&self, protocol: &'static str, code: &str, reason: &'static str) {
        self.connections.with_label_values(&[WEBSOCKET, protocol]).dec();
        self.connections_closed.with_label_values(&[code, reason]).inc();
    }

    /// Publications were accepted.
    pub fn publications_received(&self, source: Source, count: usize) {
        self.publications_received.with_label_values(&[source.label()]).inc_by(count as u64);
    }

    /// Publications were given to subscribers: `count` in all, together `bytes`.
    pub fn publications_delivered(&self, count: usize, bytes: usize) {
        self.publications_delivered.with_label_values(&[WEBSOCKET]).inc_by(count as u64);
        self.bytes_sent(bytes);
    }

    /// The last local socket was written `after` the publication was accepted.
    pub fn delivery_completed(&self, after: Duration) {
        self.delivery_duration.observe(after.as_secs_f64());
    }

    /// Publications did not reach somebody.
    pub fn publications_dropped(&self, reason: DropReason, count: usize) {
        self.publications_dropped.with_label_values(&[reason.label()]).inc_by(count as u64);
    }

    /// A join or leave did not reach a shard, because its inbox was full.
    pub fn notice_dropped(&self) {
        self.notices_dropped.inc();
    }

    /// Bytes were given to a connection.
    pub fn bytes_sent(&self, bytes: usize) {
        self.bytes_sent.with_label_values(&[WEBSOCKET]).inc_by(bytes as u64);
    }

    /// Bytes were read from a connection.
    pub fn bytes_received(&self, bytes: usize) {
        self.bytes_received.with_label_values(&[WEBSOCKET]).inc_by(bytes as u64);
    }

    /// A client command was answered.
    pub fn command(&self, command: &'static str, outcome: &'static str, duration: Duration) {
        self.commands.with_label_values(&[command, outcome]).inc();
        self.command_duration.with_label_values(&[command]).observe(duration.as_secs_f64());
    }

    /// A server API call was answered.
    pub fn api_request(&self, method: &'static str, outcome: &'static str, duration: Duration) {
        self.api_requests.with_label_values(&[method, outcome]).inc();
        self.api_request_duration.with_label_values(&[method]).observe(duration.as_secs_f64());
    }

    /// A connection fell behind, and `policy` was applied: it was closed, or something was dropped.
    pub fn slow_consumer(&self, policy: SlowConsumer) {
        self.slow_consumers.with_label_values(&[policy_label(policy)]).inc();
    }

    /// A subscriber asked to catch up.
    pub fn recovery(&self, recovered: bool) {
        self.recoveries.with_label_values(&[recovery_label(recovered)]).inc();
    }

    /// Whether the node is stopping.
    pub fn draining(&self, draining: bool) {
        self.draining.set(draining.into());
    }

    /// Connections that are open, in all protocols.
    pub fn connection_count(&self) -> usize {
        let metrics = prometheus::core::Collector::collect(&self.connections);
        let all = metrics.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        all.map(|metric| metric.get_gauge().get_value().max(0.0) as usize).sum()
    }

    /// A shard's timer fired this much too late.
    pub fn shard_lag(&self, shard: usize, lag: Duration) {
        self.shard_lag.with_label_values(&[&shard.to_string()]).set(lag.as_secs_f64());
    }

    /// All metrics in the Prometheus text format, with the gauges that are counted elsewhere set first.
    pub fn render(&self, channels: usize, subscriptions: usize, outbox_bytes: usize) -> Vec<u8> {
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.channels.set(gauge(channels));
        self.subscriptions.set(gauge(subscriptions));
        self.outbox_bytes.set(gauge(outbox_bytes));
        let remaining = if self.draining.get() == 0 { 0 } else { self.connection_count() };
        self.drain_remaining.set(gauge(remaining));
        let mut text = Vec::with_capacity(16 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("memory takes all of it");
        text
    }
}

fn recovery_label(recovered: bool) -> &'static str {
    if recovered { "recovered" } else { "not_recovered" }
}

fn policy_label(policy: SlowConsumer) -> &'static str {
    match policy {
        SlowConsumer::Disconnect => "disconnect",
        SlowConsumer::DropOldest => "drop_oldest",
        SlowConsumer::Latest => "latest",
    }
}

/// Makes and registers metrics. Names and labels are constants of this file, so nothing can fail.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn register<M: prometheus::core::Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
        let metric = metric.expect("the name is valid");
        self.0.register(Box::new(metric.clone())).expect("the name is unique");
        metric
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn lag(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::GaugeVec {
        self.register(prometheus::GaugeVec::new(Opts::new(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str) -> Histogram {
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(LATENCY_SECONDS.into())))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(LATENCY_SECONDS.into());
        self.register(HistogramVec::new(options, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_the_prefix_and_series_start_at_zero() {
        let text = String::from_utf8(Metrics::new().render(1, 2, 3)).unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        for line in samples {
            assert!(line.starts_with("clarion_"), "{line}");
        }
        assert!(text.contains("clarion_publications_delivered_total{transport=\"websocket\"} 0"));
        assert!(text.contains("clarion_channels 1\n"));
        assert!(text.contains("clarion_subscriptions 2\n"));
        assert!(text.contains("clarion_outbox_bytes 3\n"));
    }
}
