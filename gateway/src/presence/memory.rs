//! The embedded presence: one node, nothing to install.
//!
//! The members live in the memory of the process and end with it.

mod stripe;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::stripe::Stripe;
use super::{Presence, PresenceError, PresenceStats};
use crate::model::{Channel, ClientId, ClientInfo};

/// How many locks the channels are spread over.
const STRIPES: usize = 64;
/// No lease ends further ahead: an [`Instant`] has an end.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Remembers members inside the process.
///
/// What has expired is never seen; its memory is given back by the next call about a channel nearby, or by
/// [`sweep`](Self::sweep).
pub struct MemoryPresence {
    hasher: RandomState,
    stripes: Box<[Mutex<Stripe>]>,
}

impl MemoryPresence {
    /// Nobody is present anywhere.
    pub fn new() -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), stripes }
    }

    /// Gives back the memory of what has expired. To be called every second or so, by one task.
    ///
    /// Looks at nothing but what is due, and lets others in between.
    pub fn sweep(&self) {
        let now = Instant::now();
        for stripe in &self.stripes {
            while stripe.lock().expire_some(now) {}
        }
    }

    fn stripe(&self, channel: &Channel) -> &Mutex<Stripe> {
        let hash = self.hasher.hash_one(channel);
        &self.stripes[hash as usize % STRIPES]
    }

    fn put(&self, channel: &Channel, info: &Arc<ClientInfo>, ttl: Duration) {
        let now = Instant::now();
        self.stripe(channel).lock().put(channel, Arc::clone(info), now, now + ttl.min(TTL_MAX));
    }
}

impl Default for MemoryPresence {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn add(
        &self,
        channel: &Channel,
        info: Arc<ClientInfo>,
        ttl: Duration,
    ) -> Result<(), PresenceError> {
        self.put(channel, &info, ttl);
        Ok(())
    }

    async fn refresh(
        &self,
        leases: &[(Channel, Arc<ClientInfo>)],
        ttl: Duration,
    ) -> Result<(), PresenceError> {
        for (channel, info) in leases {
            self.put(channel, info, ttl);
        }
        Ok(())
    }

    async fn remove(&self, channel: &Channel, client: ClientId) -> Result<(), PresenceError> {
        self.stripe(channel).lock().remove(channel, client);
        Ok(())
    }

    async fn members(&self, channel: &Channel) -> Result<Vec<Arc<ClientInfo>>, PresenceError> {
        Ok(self.stripe(channel).lock().members(channel, Instant::now()))
    }

    async fn stats(&self, channel: &Channel) -> Result<PresenceStats, PresenceError> {
        Ok(self.stripe(channel).lock().stats(channel, Instant::now()))
    }
}

#[cfg(test)]
mod tests;
