use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::{Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use super::{Maker, Metrics, level};

/// Upper bounds for what a broker's answer takes, in seconds.
const ANSWER_SECONDS: [f64; 13] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// Why a node connects to its broker again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconnectReason {
    /// The connection was closed, or a command on it was not answered.
    Closed,
    /// It was open, and no probe came back.
    Deaf,
    /// The broker refused what was asked of it.
    Refused,
}

impl ReconnectReason {
    const ALL: [Self; 3] = [Self::Closed, Self::Deaf, Self::Refused];

    /// For metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Deaf => "deaf",
            Self::Refused => "refused",
        }
    }
}

/// What served a read of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistorySource {
    /// A read of Redis.
    Redis,
    /// A read for somebody else who asked at the same time.
    Shared,
    /// What was delivered or read within the last seconds.
    Window,
}

impl HistorySource {
    const ALL: [Self; 3] = [Self::Redis, Self::Shared, Self::Window];

    fn label(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Shared => "shared",
            Self::Window => "window",
        }
    }
}

/// What concerns the broker.
#[derive(Debug)]
pub(super) struct Broker {
    up: IntGauge,
    probe_duration: Histogram,
    /// When a probe was last heard, or first missed; `None` for a broker that is not probed.
    heard_at: Mutex<Option<Instant>>,
    last_message_age: Gauge,
    command_duration: HistogramVec,
    subscriptions: IntGauge,
    inbox_bytes: IntGauge,
    reconnects: IntCounterVec,
    failures: IntCounterVec,
    bad_messages: IntCounter,
    messages_dropped: IntCounter,
    history_reads: IntCounterVec,
    healed: IntCounter,
    lost: IntCounter,
}

impl Broker {
    pub(super) fn register(make: &Maker<'_>) -> Self {
        let reconnects = make.counters(
            "broker_reconnects_total",
            "Subscription connections to the broker that were given up.",
            &["reason"],
        );
        for reason in ReconnectReason::ALL {
            reconnects.with_label_values(&[reason.label()]);
        }
        let history_reads = make.counters(
            "history_reads_total",
            "Histories that were asked for, by what served them; of these only redis costs Redis a read.",
            &["source"],
        );
        for source in HistorySource::ALL {
            history_reads.with_label_values(&[source.label()]);
        }
        Self {
            up: make.gauge("broker_up", "Whether the broker is heard."),
            probe_duration: make.latency(
                "broker_probe_duration_seconds",
                "From sending a probe through the broker to hearing it.",
            ),
            heard_at: Mutex::default(),
            last_message_age: make.seconds(
                "broker_last_message_age_seconds",
                "For how long no probe has come back from the broker, of which there is one every second.",
            ),
            command_duration: make.histograms(
                "broker_command_duration_seconds",
                "From a command to the broker to its answer, the wait for a connection included.",
                &["command"],
                &ANSWER_SECONDS,
            ),
            subscriptions: make
                .gauge("broker_subscriptions", "Channels that the broker is subscribed to, or is to be."),
            inbox_bytes: make
                .gauge("broker_inbox_bytes", "Bytes that came from the broker and are not delivered yet."),
            reconnects,
            failures: make.counters(
                "broker_failures_total",
                "Commands that the broker did not answer or refused.",
                &["reason"],
            ),
            bad_messages: make.counter(
                "broker_bad_messages_total",
                "Messages of the broker that are not ours or of a version that is not known.",
            ),
            messages_dropped: make.counter(
                "broker_messages_dropped_total",
                "Messages of the broker that came faster than they could be delivered.",
            ),
            history_reads,
            healed: make.counter(
                "publications_healed_total",
                "Publications that were missed and read from the history instead.",
            ),
            lost: make.counter(
                "broker_losses_total",
                "Times that subscribers of a channel were told that something is missing.",
            ),
        }
    }
}

impl Broker {
    /// Sets what time alone changes.
    pub(super) fn look(&self) {
        let age = self.heard_at.lock().map(|heard_at| heard_at.elapsed());
        self.last_message_age.set(age.unwrap_or_default().as_secs_f64());
    }
}

impl Metrics {
    /// The broker is probed from now on.
    pub fn broker_is_probed(&self) {
        *self.broker.heard_at.lock() = Some(Instant::now());
    }

    /// Whether the broker is heard.
    pub fn broker_up(&self, up: bool) {
        self.broker.up.set(up.into());
    }

    /// A command was answered, or given up.
    pub fn broker_command(&self, command: &'static str, duration: Duration) {
        self.broker.command_duration.with_label_values(&[command]).observe(duration.as_secs_f64());
    }

    /// How many channels are wanted of the broker, and how many bytes that came from it wait.
    pub fn broker_holds(&self, subscriptions: usize, inbox_bytes: usize) {
        self.broker.subscriptions.set(level(subscriptions));
        self.broker.inbox_bytes.set(level(inbox_bytes));
    }

    /// A probe came back.
    pub fn broker_probe(&self, after: Duration) {
        *self.broker.heard_at.lock() = Some(Instant::now());
        self.broker.probe_duration.observe(after.as_secs_f64());
    }

    /// The subscription connection was given up; another one is opened.
    pub fn broker_reconnects(&self, reason: ReconnectReason) {
        self.broker.reconnects.with_label_values(&[reason.label()]).inc();
    }

    /// The broker may fail for `reason`.
    pub fn expect_broker_failure(&self, reason: &'static str) {
        self.broker.failures.with_label_values(&[reason]);
    }

    /// The broker did not do what was asked, or did not say that it did. `reason` is one of a few.
    pub fn broker_failed(&self, reason: &'static str) {
        self.broker.failures.with_label_values(&[reason]).inc();
    }

    /// A message is not ours.
    pub fn broker_message_was_bad(&self) {
        self.broker.bad_messages.inc();
    }

    /// A message did not fit into the queue.
    pub fn broker_message_dropped(&self) {
        self.broker.messages_dropped.inc();
    }

    /// A history was asked for, and `source` serves it.
    pub fn history_read(&self, source: HistorySource) {
        self.broker.history_reads.with_label_values(&[source.label()]).inc();
    }

    /// So many publications were missed and read from the history.
    pub fn publications_healed(&self, count: usize) {
        self.broker.healed.inc_by(count as u64);
    }

    /// Something of a channel was missed and cannot be read.
    pub fn broker_lost(&self) {
        self.broker.lost.inc();
    }
}
