//! Every metric: name, help text, labels; one method per fact.
//!
//! A registry per gateway, because tests run several in one process. Labels come from closed sets: never a channel, a user
//! or a client. What belongs together is a file of this module, which makes its metrics and has the methods for them;
//! [`Maker`] gives them their prefix.

mod admission;
mod broker;
mod cluster;
mod connections;
mod deliveries;
mod logs;
mod namespaces;
mod process;
mod requests;
mod runtimes;
mod tls;
mod traces;

use std::fmt;

use parking_lot::Mutex;
use prometheus::{
    Counter, CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use self::admission::Admission;
use self::broker::Broker;
pub use self::broker::{HistorySource, ReconnectReason};
use self::cluster::Cluster;
pub use self::cluster::NodeCommand;
use self::connections::Connections;
use self::deliveries::Deliveries;
pub use self::deliveries::DropReason;
use self::logs::Logs;
use self::namespaces::Namespaces;
pub use self::namespaces::{Origin, Source};
use self::process::Process;
use self::requests::Requests;
use self::runtimes::Runtimes;
use self::tls::Tls;
pub use self::traces::SpanLoss;
use self::traces::Traces;
use crate::config::ChannelSection;

/// Upper bounds for latencies, in seconds. That of the objective for deliveries, 0.2, is among them.
const LATENCY_SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The only transport there is.
const WEBSOCKET: &str = "websocket";

/// The metrics of one gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    scrape: Mutex<Scrape>,
    connections: Connections,
    admission: Admission,
    requests: Requests,
    namespaces: Namespaces,
    deliveries: Deliveries,
    broker: Broker,
    cluster: Cluster,
    runtimes: Runtimes,
    process: Process,
    logs: Logs,
    traces: Traces,
    tls: Tls,
}

/// Sets what is counted elsewhere.
type Look = Box<dyn Fn(&Metrics) + Send>;

/// What is looked up when somebody asks for the metrics, by one at a time.
#[derive(Default)]
struct Scrape {
    looks: Vec<Look>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Scrape").field("looks", &self.looks.len()).finish()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Of a gateway without namespaces.
    pub fn new() -> Self {
        Self::of_namespaces(&ChannelSection::default())
    }

    /// Registers everything in a registry of its own; what is counted by namespace for those of `section`.
    pub fn of_namespaces(section: &ChannelSection) -> Self {
        let registry = Registry::new();
        let make = Maker { registry: &registry, prefix: "clarion" };
        Self {
            scrape: Mutex::default(),
            connections: Connections::register(&make),
            admission: Admission::register(&make),
            requests: Requests::register(&make),
            namespaces: Namespaces::register(&make, section),
            deliveries: Deliveries::register(&make),
            broker: Broker::register(&make),
            cluster: Cluster::register(&make),
            runtimes: Runtimes::register(&make),
            process: Process::register(&make),
            logs: Logs::register(&make),
            traces: Traces::register(&make),
            tls: Tls::register(&make),
            registry,
        }
    }

    /// Has `look` set what is counted elsewhere, each time that the metrics are asked for. It must not wait, nor keep alive what
    /// it looks at.
    pub fn at_scrape(&self, look: impl Fn(&Self) + Send + 'static) {
        self.scrape.lock().looks.push(Box::new(look));
    }

    /// All metrics in the Prometheus text format, with the gauges that are counted elsewhere set first. Waits for others who
    /// are at it.
    pub fn render(&self, outbox_bytes: usize) -> Vec<u8> {
        let scrape = self.scrape.lock();
        scrape.looks.iter().for_each(|look| look(self));
        self.deliveries.look(outbox_bytes);
        self.cluster.look(self.connection_count());
        self.broker.look();
        self.process.look();
        let mut text = Vec::with_capacity(64 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("memory takes all of it");
        text
    }
}

/// A gauge's value; what is too large for one is as large as it can be.
fn level(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Raises `counter` to a total that is counted elsewhere. By one thread at a time.
fn raise(counter: &Counter, total: f64) {
    counter.inc_by((total - counter.get()).max(0.0));
}

/// Makes and registers metrics. Names and labels are constants of this module, so nothing can fail.
struct Maker<'a> {
    registry: &'a Registry,
    prefix: &'static str,
}

impl Maker<'_> {
    /// The same for names with another prefix.
    fn with_prefix(&self, prefix: &'static str) -> Self {
        Self { prefix, ..*self }
    }

    fn options(&self, name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace(self.prefix)
    }

    fn register<M: prometheus::core::Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
        let metric = metric.expect("the name is valid");
        self.registry.register(Box::new(metric.clone())).expect("the name is unique");
        metric
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(self.options(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(self.options(name, help), labels))
    }

    fn seconds(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::with_opts(self.options(name, help)))
    }

    fn seconds_of_each(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(self.options(name, help), labels))
    }

    fn seconds_spent(&self, name: &str, help: &str) -> Counter {
        self.register(Counter::with_opts(self.options(name, help)))
    }

    fn seconds_spent_by_each(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.register(CounterVec::new(self.options(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(self.options(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(self.options(name, help), labels))
    }

    fn latency(&self, name: &str, help: &str) -> Histogram {
        self.histogram(name, help, &LATENCY_SECONDS)
    }

    fn latencies(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        self.histograms(name, help, labels, &LATENCY_SECONDS)
    }

    fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        let options = HistogramOpts::from(self.options(name, help)).buckets(bounds.into());
        self.register(Histogram::with_opts(options))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> HistogramVec {
        let options = HistogramOpts::from(self.options(name, help)).buckets(bounds.into());
        self.register(HistogramVec::new(options, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_prefix_and_series_start_at_zero() {
        let text = String::from_utf8(Metrics::new().render(3)).unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        for line in samples {
            assert!(line.starts_with("clarion_") || line.starts_with("process_"), "{line}");
        }
        assert!(text.contains("clarion_publications_delivered_total{transport=\"websocket\"} 0"));
        assert!(text.contains("clarion_outbox_bytes 3\n"));
    }

    #[test]
    fn what_is_counted_elsewhere_is_looked_up_each_time() {
        let metrics = Metrics::new();
        metrics.at_scrape(|metrics| metrics.publications_suppressed(2));
        drop(metrics.render(0));
        let text = String::from_utf8(metrics.render(0)).unwrap();
        assert!(text.contains("clarion_idempotent_hits_total 4\n"), "{text}");
    }

    #[test]
    fn a_total_that_went_back_is_not_taken() {
        let counter = Counter::new("a", "b").unwrap();
        for (total, counted) in [(1.5, 1.5), (1.0, 1.5), (2.0, 2.0)] {
            raise(&counter, total);
            assert_eq!(counter.get(), counted);
        }
    }
}
