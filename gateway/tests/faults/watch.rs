//! What operators see of a node while a fault lasts: health, readiness, whether it hears its broker, memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::http::Http;
use crate::metrics::Samples;
use crate::node::Node;

/// Between two looks at the metrics.
const PERIOD: Duration = Duration::from_millis(20);
/// Health and readiness are looked at every so many times.
const EVERY: u32 = 5;
/// An answer to a question about health takes no longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was seen of one node.
#[derive(Debug, Default)]
pub(crate) struct Sighting {
    /// Changes of `clarion_broker_up`, the first value included.
    pub(crate) broker_up: Changes,
    /// Changes of readiness, the first value included.
    pub(crate) ready: Changes,
    /// When it did not say that it lives.
    pub(crate) not_alive: Vec<Instant>,
    /// Most resident memory, in bytes.
    pub(crate) resident_bytes_max: u64,
    /// Most bytes in all outboxes together.
    pub(crate) outbox_bytes_max: u64,
}

/// The values of something over time, each with the moment since which it holds.
#[derive(Debug, Default)]
pub(crate) struct Changes(Vec<(Instant, bool)>);

impl Changes {
    fn note(&mut self, value: bool) {
        if self.0.last().is_none_or(|(_, last)| *last != value) {
            self.0.push((Instant::now(), value));
        }
    }

    pub(crate) fn now(&self) -> Option<bool> {
        self.0.last().map(|(_, value)| *value)
    }

    /// When it first became `value` after `start`.
    pub(crate) fn became(&self, value: bool, start: Instant) -> Option<Instant> {
        self.0.iter().find(|(at, its_value)| *at >= start && *its_value == value).map(|(at, _)| *at)
    }

    /// How often it changed after `start`.
    pub(crate) fn count_since(&self, start: Instant) -> usize {
        self.0.iter().filter(|(at, _)| *at >= start).count()
    }
}

/// Looks at one node until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    sighting: Arc<Mutex<Sighting>>,
    task: AbortHandle,
}

impl Watch {
    pub(crate) fn start(node: &Node) -> Self {
        let sighting = Arc::new(Mutex::new(Sighting::default()));
        let looking = look(Http::to(node.internal()), node.process().id(), Arc::clone(&sighting));
        Self { sighting, task: tokio::spawn(looking).abort_handle() }
    }

    pub(crate) fn sighting(&self) -> parking_lot::MutexGuard<'_, Sighting> {
        self.sighting.lock()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(mut http: Http, process: u32, sighting: Arc<Mutex<Sighting>>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reconnects = None;
    for turn in 0u32.. {
        ticks.tick().await;
        if let Ok(samples) = samples(&mut http).await {
            // How often it had to connect to its broker again.
            let now = samples.get("clarion_broker_reconnects_total");
            let before = reconnects.replace(now);
            let mut sighting = sighting.lock();
            sighting.outbox_bytes_max =
                sighting.outbox_bytes_max.max(samples.get("clarion_outbox_bytes") as u64);
            // A node may be back before anybody looks: that it connected again tells.
            if before.is_some_and(|before| now > before) {
                sighting.broker_up.note(false);
            }
            sighting.broker_up.note(samples.get("clarion_broker_up") == 1.0);
        }
        if turn % EVERY == 0 {
            look_at_health(&mut http, process, &sighting).await;
        }
    }
}

async fn samples(http: &mut Http) -> Result<Samples> {
    let answer = http.get("/metrics", PATIENCE).await?;
    ensure!(answer.status == 200, "/metrics is answered {}", answer.status);
    Ok(Samples::parse(&answer.body))
}

async fn look_at_health(http: &mut Http, process: u32, sighting: &Mutex<Sighting>) {
    let asked_at = Instant::now();
    let lives = http.get("/livez", PATIENCE).await.is_ok_and(|answer| answer.status == 200);
    let ready = http.get("/readyz", PATIENCE).await;
    let mut sighting = sighting.lock();
    if !lives {
        sighting.not_alive.push(asked_at);
    }
    if let Ok(answer) = ready {
        sighting.ready.note(answer.status == 200);
    }
    let resident = crate::process::resident_bytes(process).unwrap_or(0);
    sighting.resident_bytes_max = sighting.resident_bytes_max.max(resident);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    crate::own::tests!(changes_are_noted_once);

    fn changes_are_noted_once() {
        let mut changes = Changes::default();
        let start = Instant::now();
        [true, true, false, false, true].into_iter().for_each(|value| changes.note(value));
        assert_eq!(changes.count_since(start), 3);
        assert_eq!(changes.now(), Some(true));
        assert!(changes.became(false, start).is_some());
        assert!(changes.became(false, Instant::now()).is_none());
    }
}
