use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use super::{Maker, Metrics};
use crate::config::{ChannelSection, NamespaceId};

/// The label for a namespace. Prometheus gives targets on Kubernetes a label `namespace`, which would win over ours or be
/// lost to it.
const NAMESPACE: &str = "channel_namespace";

/// Where a publication came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The server API.
    Api,
    /// A client.
    Client,
}

impl Source {
    const ALL: [Self; 2] = [Self::Api, Self::Client];

    fn label(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Client => "client",
        }
    }
}

/// What publications are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who published.
    pub source: Source,
    /// The namespace of the channel.
    pub namespace: NamespaceId,
}

/// What is counted by the namespace of the channel.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// At the place of the id.
    all: Vec<Namespace>,
    failed: IntCounterVec,
}

/// What one namespace has of each metric, looked up once.
#[derive(Debug)]
struct Namespace {
    label: String,
    channels: IntGauge,
    subscriptions: IntGauge,
    /// By [`Source`].
    publishing: [Publishing; Source::ALL.len()],
    delivery_duration: Histogram,
}

#[derive(Debug)]
struct Publishing {
    received: IntCounter,
    duration: Histogram,
}

impl Namespaces {
    pub(super) fn register(make: &Maker<'_>, section: &ChannelSection) -> Self {
        let labels = &[NAMESPACE];
        let channels = make.gauges("channels", "Channels with at least one local subscriber.", labels);
        let subscriptions = make.gauges("subscriptions", "Subscriptions of local clients.", labels);
        let delivery_duration = make.latencies(
            "delivery_duration_seconds",
            "From taking a publication from the broker to its write to the last socket of a shard.",
            labels,
        );
        let (received, duration, failed) = publishing(make);
        let namespace = |label: &str| Namespace {
            label: label.into(),
            channels: channels.with_label_values(&[label]),
            subscriptions: subscriptions.with_label_values(&[label]),
            publishing: Source::ALL.map(|source| Publishing {
                received: received.with_label_values(&[source.label(), label]),
                duration: duration.with_label_values(&[source.label(), label]),
            }),
            delivery_duration: delivery_duration.with_label_values(&[label]),
        };
        Self { all: section.labels().map(namespace).collect(), failed }
    }

    /// One that these metrics were not made for counts as not configured.
    fn of(&self, id: NamespaceId) -> &Namespace {
        self.all.get(id.index()).unwrap_or_else(|| &self.all[NamespaceId::UNKNOWN.index()])
    }
}

fn publishing(make: &Maker<'_>) -> (IntCounterVec, HistogramVec, IntCounterVec) {
    let received =
        make.counters("publications_received_total", "Publications accepted.", &["source", NAMESPACE]);
    let duration = make.latencies(
        "publish_duration_seconds",
        "From publishing what goes to a channel together to the answer of the broker.",
        &["source", NAMESPACE],
    );
    let failed = make.counters(
        "publications_failed_total",
        "Publications that somebody was allowed to make, and that may not have been made.",
        &["source", NAMESPACE, "reason"],
    );
    (received, duration, failed)
}

impl Metrics {
    /// A channel has a subscriber more, its first one or not.
    pub fn subscriber_added(&self, namespace: NamespaceId, is_first: bool) {
        let namespace = self.namespaces.of(namespace);
        namespace.subscriptions.inc();
        namespace.channels.add(is_first.into());
    }

    /// A channel has a subscriber less, its last one or not.
    pub fn subscriber_removed(&self, namespace: NamespaceId, is_last: bool) {
        let namespace = self.namespaces.of(namespace);
        namespace.subscriptions.dec();
        namespace.channels.sub(is_last.into());
    }

    /// Channels with at least one local subscriber, of all namespaces.
    pub fn channel_count(&self) -> usize {
        self.sum(|namespace| &namespace.channels)
    }

    /// Subscriptions of local clients, in all namespaces.
    pub fn subscription_count(&self) -> usize {
        self.sum(|namespace| &namespace.subscriptions)
    }

    fn sum(&self, gauge: fn(&Namespace) -> &IntGauge) -> usize {
        let all = &self.namespaces.all;
        // Those with one label share a gauge.
        let has_own = |index: usize| !all[..index].iter().any(|earlier| earlier.label == all[index].label);
        let counts = (0..all.len()).filter(|&index| has_own(index)).map(|index| gauge(&all[index]).get());
        // A subscriber that goes while this adds up may be missing where it was added.
        usize::try_from(counts.sum::<i64>()).unwrap_or_default()
    }

    /// Publications may fail for `reason`.
    pub fn expect_failed_publication(&self, reason: &'static str) {
        for Namespace { label, .. } in &self.namespaces.all {
            for source in Source::ALL {
                self.namespaces.failed.with_label_values(&[source.label(), label, reason]);
            }
        }
    }

    /// Publications were accepted.
    pub fn publications_received(&self, origin: Origin, count: usize) {
        self.publishing(origin).received.inc_by(count as u64);
    }

    /// Publications were not accepted, or it is not known. `reason` is one of a few.
    pub fn publications_failed(&self, origin: Origin, reason: &'static str, count: usize) {
        let label = &self.namespaces.of(origin.namespace).label;
        let labels = [origin.source.label(), label, reason];
        self.namespaces.failed.with_label_values(&labels).inc_by(count as u64);
    }

    /// What goes to a channel together was published, or was not, `after` it was asked for.
    pub fn publish_answered(&self, origin: Origin, after: Duration) {
        self.publishing(origin).duration.observe(after.as_secs_f64());
    }

    fn publishing(&self, Origin { source, namespace }: Origin) -> &Publishing {
        &self.namespaces.of(namespace).publishing[source as usize]
    }

    /// The last local socket was written `after` the publication was accepted.
    pub fn delivery_completed(&self, namespace: NamespaceId, after: Duration) {
        self.namespaces.of(namespace).delivery_duration.observe(after.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Channels;
    use crate::model::Channel;

    fn section() -> ChannelSection {
        serde_json::from_value(serde_json::json!({"namespaces": [{"name": "chat"}, {"name": "room"}]}))
            .unwrap()
    }

    fn id(channel: &str) -> NamespaceId {
        let channels = Channels::new(&section()).with_unknown_namespaces_allowed();
        channels.resolve(&Channel::parse(channel, 255).unwrap()).unwrap().id
    }

    #[track_caller]
    fn assert_says(metrics: &Metrics, lines: &[&str]) {
        let text = String::from_utf8(metrics.render(0)).unwrap();
        for line in lines {
            assert!(text.contains(&format!("\nclarion_{line}\n")), "{line} is not in {text}");
        }
    }

    #[test]
    fn every_namespace_begins_at_zero() {
        let metrics = Metrics::of_namespaces(&section());
        metrics.expect_failed_publication("busy");
        for label in ["without_namespace", "other", "chat", "room"] {
            let label = format!("channel_namespace=\"{label}\"");
            assert_says(
                &metrics,
                &[
                    &format!("channels{{{label}}} 0"),
                    &format!("subscriptions{{{label}}} 0"),
                    &format!("publications_received_total{{{label},source=\"api\"}} 0"),
                    &format!("publications_failed_total{{{label},reason=\"busy\",source=\"client\"}} 0"),
                    &format!("publish_duration_seconds_count{{{label},source=\"client\"}} 0"),
                    &format!("delivery_duration_seconds_count{{{label}}} 0"),
                ],
            );
        }
    }

    #[test]
    fn each_namespace_has_counts_of_its_own() {
        let metrics = Metrics::of_namespaces(&section());
        let origin = Origin { source: Source::Client, namespace: id("room:a") };
        metrics.publications_received(origin, 2);
        metrics.publish_answered(origin, Duration::from_millis(1));
        metrics.publications_failed(origin, "busy", 3);
        metrics.publications_received(Origin { namespace: id("$chat:a"), ..origin }, 5);
        metrics.delivery_completed(id("a"), Duration::ZERO);
        metrics.delivery_completed(id("elsewhere:a"), Duration::ZERO);
        assert_says(
            &metrics,
            &[
                r#"publications_received_total{channel_namespace="room",source="client"} 2"#,
                r#"publications_received_total{channel_namespace="room",source="api"} 0"#,
                r#"publications_received_total{channel_namespace="chat",source="client"} 5"#,
                r#"publications_failed_total{channel_namespace="room",reason="busy",source="client"} 3"#,
                r#"publish_duration_seconds_count{channel_namespace="room",source="client"} 1"#,
                r#"publish_duration_seconds_count{channel_namespace="chat",source="client"} 0"#,
                r#"delivery_duration_seconds_count{channel_namespace="without_namespace"} 1"#,
                r#"delivery_duration_seconds_count{channel_namespace="other"} 1"#,
                r#"delivery_duration_seconds_count{channel_namespace="room"} 0"#,
            ],
        );
    }

    #[test]
    fn a_namespace_with_the_name_of_another_is_counted_once() {
        let section = serde_json::json!({"namespaces": [{"name": "other"}]});
        let metrics = Metrics::of_namespaces(&serde_json::from_value(section).unwrap());
        metrics.subscriber_added(id("room:a"), true);
        assert_says(&metrics, &[r#"subscriptions{channel_namespace="other"} 1"#]);
        assert_eq!((metrics.channel_count(), metrics.subscription_count()), (1, 1));
    }

    #[test]
    fn subscribers_come_and_go_by_namespace() {
        let metrics = Metrics::of_namespaces(&section());
        metrics.subscriber_added(id("room:a"), true);
        metrics.subscriber_added(id("room:a"), false);
        metrics.subscriber_added(id("chat:a"), true);
        metrics.subscriber_removed(id("room:a"), false);
        assert_says(
            &metrics,
            &[
                r#"channels{channel_namespace="room"} 1"#,
                r#"subscriptions{channel_namespace="room"} 1"#,
                r#"subscriptions{channel_namespace="chat"} 1"#,
            ],
        );
        assert_eq!((metrics.channel_count(), metrics.subscription_count()), (2, 2));
        metrics.subscriber_removed(id("room:a"), true);
        assert_says(&metrics, &[r#"channels{channel_namespace="room"} 0"#]);
        assert_eq!((metrics.channel_count(), metrics.subscription_count()), (1, 1));
    }

    #[test]
    fn a_namespace_that_the_metrics_were_not_made_for_is_another() {
        let metrics = Metrics::new();
        metrics.subscriber_added(id("room:a"), true);
        assert_says(&metrics, &[r#"subscriptions{channel_namespace="other"} 1"#]);
    }
}
