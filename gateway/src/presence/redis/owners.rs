//! Which owners are dead.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::NodeEpoch;
use crate::redis::{Call, Redis};

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

/// Knows it by the heartbeats of nodes: the key `node` of an epoch says that its node is dead once that was declared.
///
/// Nothing is declared here. That a key is missing is no evidence: Redis may have lost it, and the node may find out
/// later than others look.
pub struct Heartbeats {
    redis: Arc<Redis>,
    known: Mutex<HashMap<NodeEpoch, Answer>>,
}

#[derive(Clone, Copy)]
struct Answer {
    is_dead: bool,
    at: Instant,
}

impl Heartbeats {
    /// Looks into `redis`.
    pub fn new(redis: Arc<Redis>) -> Self {
        Self { redis, known: Mutex::default() }
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
        let look = |owner: &NodeEpoch| Call::command("GET").arg(names.of("node", &owner.to_string()));
        let calls = owners.iter().map(look).collect();
        let Ok(answers) = self.redis.home().pipeline::<Option<Vec<u8>>>(calls).await else { return };
        let at = Instant::now();
        let mut known = self.known.lock();
        if known.len() > KNOWN_MAX {
            known.clear();
        }
        for (owner, answer) in owners.into_iter().zip(answers) {
            let is_dead = |lease: Option<Vec<u8>>| lease.as_deref() == Some(b"dead");
            known.extend(answer.map(|lease| (owner, Answer { is_dead: is_dead(lease), at })));
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
        let known = self.known.lock();
        let is_dead = |owner: &NodeEpoch| {
            known.get(owner).is_some_and(|answer| answer.is_dead && answer.at.elapsed() < BELIEVED)
        };
        owners.iter().filter(|owner| is_dead(owner)).copied().collect()
    }
}
