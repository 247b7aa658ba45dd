//! Which owners are dead.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::NodeEpoch;
use crate::redis::{Call, Hearing, Redis};

/// How long an answer of Redis about a heartbeat is believed.
const BELIEVED: Duration = Duration::from_millis(500);
/// Most answers that are remembered.
const KNOWN_MAX: usize = 4096;

/// Knows which owners are dead.
#[async_trait]
pub trait Owners: Send + Sync + 'static {
    /// Those of `owners` that are known to be dead. Of whom that is not known may be alive.
    async fn dead(&self, owners: &[NodeEpoch]) -> Vec<NodeEpoch>;
}

/// Knows it by the heartbeats of nodes: the key `node` of an epoch lives as long as the node does.
pub struct Heartbeats {
    redis: Arc<Redis>,
    known: Mutex<HashMap<NodeEpoch, Answer>>,
    heard_since: Arc<Mutex<Option<Instant>>>,
    grace: Duration,
}

#[derive(Clone, Copy)]
struct Answer {
    is_alive: bool,
    at: Instant,
}

impl Heartbeats {
    /// Nobody is dead before Redis has been heard for `grace` without a break: after an outage all heartbeats are gone,
    /// and nodes return one after another. Follows, on the current runtime, whether it is heard.
    pub fn new(redis: Arc<Redis>, grace: Duration) -> Self {
        let heard_since = Arc::new(Mutex::new(None));
        tokio::spawn(follow(redis.home().hearing(), Arc::clone(&heard_since)));
        Self { redis, known: Mutex::default(), heard_since, grace }
    }

    fn is_trusted(&self) -> bool {
        self.heard_since.lock().is_some_and(|since| since.elapsed() >= self.grace)
    }

    /// Those whose heartbeat is to be looked at.
    fn unknown(&self, owners: &[NodeEpoch]) -> Vec<NodeEpoch> {
        let known = self.known.lock();
        let is_known =
            |owner: &NodeEpoch| known.get(owner).is_some_and(|known| known.at.elapsed() < BELIEVED);
        owners.iter().filter(|owner| !is_known(owner)).copied().collect()
    }

    async fn look(&self, owners: Vec<NodeEpoch>) {
        let names = self.redis.names();
        let exists = |owner: &NodeEpoch| Call::command("EXISTS").arg(names.of("node", &owner.to_string()));
        let calls: Vec<_> = owners.iter().map(exists).collect();
        let Ok(answers) = self.redis.home().pipeline::<u8>(calls).await else { return };
        let at = Instant::now();
        let mut known = self.known.lock();
        if known.len() > KNOWN_MAX {
            known.clear();
        }
        for (owner, answer) in owners.into_iter().zip(answers) {
            known.extend(answer.map(|count| (owner, Answer { is_alive: count > 0, at })));
        }
    }
}

#[async_trait]
impl Owners for Heartbeats {
    async fn dead(&self, owners: &[NodeEpoch]) -> Vec<NodeEpoch> {
        let unknown = self.unknown(owners);
        if !unknown.is_empty() {
            self.look(unknown).await;
        }
        if !self.is_trusted() {
            return Vec::new();
        }
        let known = self.known.lock();
        let is_dead = |owner: &NodeEpoch| {
            known.get(owner).is_some_and(|answer| !answer.is_alive && answer.at.elapsed() < BELIEVED)
        };
        owners.iter().filter(|owner| is_dead(owner)).copied().collect()
    }
}

/// Notes since when Redis is heard, until the connection to it is given up.
async fn follow(mut hearing: watch::Receiver<Hearing>, heard_since: Arc<Mutex<Option<Instant>>>) {
    loop {
        let is_heard = hearing.borrow_and_update().is_heard();
        *heard_since.lock() = is_heard.then(Instant::now);
        if hearing.changed().await.is_err() {
            return;
        }
    }
}
