use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::{Maker, Metrics};

/// Upper bounds for how many publications a subscriber caught up with.
const RECOVERED: [f64; 11] = [0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0, 500.0, 1_000.0];

/// What concerns that which clients and back ends ask.
#[derive(Debug)]
pub(super) struct Requests {
    idempotent_hits: IntCounter,
    commands: IntCounterVec,
    command_duration: HistogramVec,
    api_requests: IntCounterVec,
    api_request_duration: HistogramVec,
    recoveries: IntCounterVec,
    recovered_publications: Histogram,
}

impl Requests {
    pub(super) fn register(make: &Maker<'_>) -> Self {
        let recoveries =
            make.counters("recoveries_total", "Subscribers that asked to catch up.", &["outcome"]);
        for recovered in [true, false] {
            recoveries.with_label_values(&[recovery_label(recovered)]);
        }
        Self {
            idempotent_hits: make.counter(
                "idempotent_hits_total",
                "Publications that were suppressed, because their idempotency key or version was known.",
            ),
            commands: make.counters("commands_total", "Client commands.", &["command", "outcome"]),
            command_duration: make.latencies(
                "command_duration_seconds",
                "From a command to its reply.",
                &["command"],
            ),
            api_requests: make.counters("api_requests_total", "Server API calls.", &["method", "outcome"]),
            api_request_duration: make.latencies(
                "api_request_duration_seconds",
                "Server API calls.",
                &["method"],
            ),
            recoveries,
            recovered_publications: make.histogram(
                "recovered_publications",
                "Publications that a subscriber caught up with.",
                &RECOVERED,
            ),
        }
    }
}

impl Metrics {
    /// Clients may say `command`.
    pub fn expect_command(&self, command: &'static str) {
        self.requests.commands.with_label_values(&[command, "ok"]);
        self.requests.command_duration.with_label_values(&[command]);
    }

    /// The server API has `method`, which ends with one of `outcomes` or in a way that is of no interest before it happens.
    pub fn expect_api_method(&self, method: &'static str, outcomes: &[&'static str]) {
        for outcome in outcomes {
            self.requests.api_requests.with_label_values(&[method, outcome]);
        }
        self.requests.api_request_duration.with_label_values(&[method]);
    }

    /// Publications were suppressed: they were known.
    pub fn publications_suppressed(&self, count: usize) {
        self.requests.idempotent_hits.inc_by(count as u64);
    }

    /// A client command was answered.
    pub fn command(&self, command: &'static str, outcome: &'static str, duration: Duration) {
        self.requests.commands.with_label_values(&[command, outcome]).inc();
        self.requests.command_duration.with_label_values(&[command]).observe(duration.as_secs_f64());
    }

    /// A server API call was answered.
    pub fn api_request(&self, method: &'static str, outcome: &'static str, duration: Duration) {
        self.requests.api_requests.with_label_values(&[method, outcome]).inc();
        self.requests.api_request_duration.with_label_values(&[method]).observe(duration.as_secs_f64());
    }

    /// A subscriber asked to catch up.
    pub fn recovery(&self, recovered: bool) {
        self.requests.recoveries.with_label_values(&[recovery_label(recovered)]).inc();
    }

    /// A subscriber caught up with so many publications.
    pub fn recovered_publications(&self, count: usize) {
        self.requests.recovered_publications.observe(count as f64);
    }
}

fn recovery_label(recovered: bool) -> &'static str {
    if recovered { "recovered" } else { "not_recovered" }
}
