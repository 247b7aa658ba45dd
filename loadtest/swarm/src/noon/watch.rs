//! Asks every node twice a second how many clients it has.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::facts::Sample;
use crate::clock::Clock;
use crate::stage::Endpoint;
use crate::stage::node::{Metrics, metrics};

/// Between two looks at a node, and the longest that it may take to answer.
const INTERVAL: Duration = Duration::from_millis(500);

/// Watches nodes until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    nodes: Vec<(String, SocketAddr)>,
    samples: Vec<Sample>,
}

impl Watch {
    /// Watches no node yet.
    pub(super) fn start(clock: Clock) -> Result<Self> {
        let seen = Arc::<Mutex<Seen>>::default();
        let http = reqwest::Client::builder().timeout(INTERVAL).no_proxy().build()?;
        let task = tokio::spawn(look(http, clock, Arc::clone(&seen)));
        Ok(Self { clock, seen, task })
    }

    /// Looks at this node too.
    pub(super) fn add(&self, endpoint: &Endpoint) {
        lock(&self.seen).nodes.push((endpoint.name.clone(), endpoint.internal));
    }

    /// Looks at this node no more: it has ended, and so have its connections.
    pub(super) fn remove(&self, name: &str) {
        let mut seen = lock(&self.seen);
        seen.nodes.retain(|(its_name, _)| its_name != name);
        let gone = Sample { at: self.clock.now(), node: name.to_owned(), connections: 0, draining: false };
        seen.samples.push(gone);
    }

    /// Everything so far.
    pub(super) fn samples(&self) -> Vec<Sample> {
        lock(&self.seen).samples.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(http: reqwest::Client, clock: Clock, seen: Arc<Mutex<Seen>>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let nodes = lock(&seen).nodes.clone();
        for (name, internal) in nodes {
            // A node that does not answer now is ending, or overwhelmed: there is nothing to draw.
            let Ok(metrics) = metrics(&http, internal).await else { continue };
            let sample = sample(clock.now(), name, &metrics);
            let mut seen = lock(&seen);
            // It may have been removed meanwhile, and then its last sample is there.
            if seen.nodes.iter().any(|(name, _)| *name == sample.node) {
                seen.samples.push(sample);
            }
        }
    }
}

fn sample(at: Duration, node: String, metrics: &Metrics) -> Sample {
    let draining = metrics.sum("clarion_draining") > 0.0;
    Sample { at, node, connections: connections(metrics), draining }
}

/// How many clients a node has, by its own account.
pub(super) fn connections(metrics: &Metrics) -> u64 {
    // A gauge of whole numbers, written as a float, and 0 at least.
    metrics.sum("clarion_connections") as u64
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
