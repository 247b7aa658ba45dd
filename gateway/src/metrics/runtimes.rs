use std::time::Duration;

use prometheus::{CounterVec, GaugeVec, IntGaugeVec};
use tokio::runtime::RuntimeMetrics;

use super::{Maker, Metrics, level, raise};

/// What concerns the event loops of the node.
#[derive(Debug)]
pub(super) struct Runtimes {
    shard_lag: GaugeVec,
    busy: CounterVec,
    workers: IntGaugeVec,
    tasks: IntGaugeVec,
    queue_depth: IntGaugeVec,
}

impl Runtimes {
    pub(super) fn register(make: &Maker<'_>) -> Self {
        let runtime = &["runtime"];
        Self {
            shard_lag: make.seconds_of_each(
                "shard_lag_seconds",
                "How late a shard's timer last fired.",
                &["shard"],
            ),
            busy: make.seconds_spent_by_each(
                "runtime_busy_seconds_total",
                "Time that the threads of an event loop were not waiting for something to do.",
                runtime,
            ),
            workers: make.gauges("runtime_workers", "Threads of an event loop.", runtime),
            tasks: make.gauges("runtime_tasks", "Tasks of an event loop that have not ended.", runtime),
            queue_depth: make.gauges(
                "runtime_queue_depth",
                "Tasks that were woken from outside of an event loop and wait for its threads.",
                runtime,
            ),
        }
    }

    fn look(&self, name: &str, runtime: &RuntimeMetrics) {
        let label = &[name];
        let workers = runtime.num_workers();
        let busy: Duration = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker)).sum();
        raise(&self.busy.with_label_values(label), busy.as_secs_f64());
        self.workers.with_label_values(label).set(level(workers));
        self.tasks.with_label_values(label).set(level(runtime.num_alive_tasks()));
        self.queue_depth.with_label_values(label).set(level(runtime.global_queue_depth()));
    }
}

impl Metrics {
    /// Tells of `runtime` under `name` from now on. The runtime keeps its own count, which costs nobody anything.
    pub fn watch_runtime(&self, name: String, runtime: RuntimeMetrics) {
        self.runtimes.look(&name, &runtime);
        self.at_scrape(move |metrics| metrics.runtimes.look(&name, &runtime));
    }

    /// A shard's timer fired this much too late.
    pub fn shard_lag(&self, shard: usize, lag: Duration) {
        self.runtimes.shard_lag.with_label_values(&[&shard.to_string()]).set(lag.as_secs_f64());
    }
}
