//! Which owners are dead.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::NodeEpoch;
use crate::redis::{Redis, death};

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

/// Knows it by the heartbeats of nodes: the key `node` of an epoch lives as long as the node does. Whose key has run
/// out is declared dead by the look.
pub struct Heartbeats {
    redis: Arc<Redis>,
    known: Mutex<HashMap<NodeEpoch, Answer>>,
    grace: Duration,
}

#[derive(Clone, Copy)]
struct Answer {
    is_alive: bool,
    at: Instant,
}

impl Heartbeats {
    /// Nobody is dead before Redis has been heard for `grace` without a break: after an outage all heartbeats are gone,
    /// and nodes return one after another.
    pub fn new(redis: Arc<Redis>, grace: Duration) -> Self {
        Self { redis, known: Mutex::default(), grace }
    }

    fn is_trusted(&self) -> bool {
        self.redis.home().heard_for() >= self.grace
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
        let calls = owners.iter().map(|owner| death(&names.of("node", &owner.to_string()))).collect();
        let Ok(answers) = self.redis.home().pipeline::<u8>(calls).await else { return };
        let at = Instant::now();
        let mut known = self.known.lock();
        if known.len() > KNOWN_MAX {
            known.clear();
        }
        for (owner, answer) in owners.into_iter().zip(answers) {
            known.extend(answer.map(|is_dead| (owner, Answer { is_alive: is_dead == 0, at })));
        }
    }
}

#[async_trait]
impl Owners for Heartbeats {
    async fn dead(&self, owners: &[NodeEpoch]) -> Vec<NodeEpoch> {
        if !self.is_trusted() {
            return Vec::new();
        }
        let unknown = self.unknown(owners);
        if !unknown.is_empty() {
            self.look(unknown).await;
        }
        let known = self.known.lock();
        let is_dead = |owner: &NodeEpoch| {
            known.get(owner).is_some_and(|answer| !answer.is_alive && answer.at.elapsed() < BELIEVED)
        };
        owners.iter().filter(|owner| is_dead(owner)).copied().collect()
    }
}
