//! The embedded presence: one node, nothing to install.
//!
//! The members live in the memory of the process and end with it. Each has a lease of its own, which its owner never
//! fails to renew: one that ran out all the same ends without a word.

mod graces;
mod stripe;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::graces::Graces;
use self::stripe::{Remains, Stripe};
use super::departures::{Departed, Departures};
use super::{Added, Grace, Holding, Lease, Member, Presence, PresenceError, PresenceStats};
use crate::model::{Channel, ClientId, ClientInfo, NodeEpoch};

/// How many locks the channels are spread over.
const STRIPES: usize = 64;
/// No lease ends further ahead: an [`Instant`] has an end.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// How much longer than its grace somebody is kept who lingers: it is for its owner to take it out.
const HELD_UP: Duration = Duration::from_secs(600);

/// Remembers members inside the process.
///
/// What has expired is never seen; its memory is given back by the next call about a channel nearby, or by
/// [`sweep`](Self::sweep).
pub struct MemoryPresence {
    hasher: RandomState,
    stripes: Box<[Mutex<Stripe>]>,
    /// Locked before a stripe.
    graces: Mutex<Graces>,
    departures: Departures,
}

impl MemoryPresence {
    /// Nobody is present anywhere.
    pub fn new() -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self {
            hasher: RandomState::new(),
            stripes,
            graces: Mutex::default(),
            departures: Departures::default(),
        }
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

    fn put(&self, channel: &Channel, member: Member, lease: Lease) -> bool {
        let now = Instant::now();
        let expires_at = now + lease.ttl.min(TTL_MAX);
        self.stripe(channel).lock().put(channel, member, lease.owner, now, expires_at)
    }

    fn linger_one(&self, channel: &Channel, member: &Member, grace: Grace, owner: NodeEpoch) -> bool {
        let now = Instant::now();
        let over = now + grace.lasts.min(TTL_MAX);
        let client = member.info.client;
        let mut graces = self.graces.lock();
        match self.stripe(channel).lock().linger(channel, client, grace.is_known, now, over + HELD_UP) {
            Remains::Gone => graces.has(owner, channel, client),
            Remains::TakenOut => false,
            Remains::LingersAlready => true,
            Remains::Lingers => {
                graces.begin(owner, over, channel, client);
                true
            }
        }
    }
}

impl Default for MemoryPresence {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn add(&self, channel: &Channel, member: Member, lease: Lease) -> Result<bool, PresenceError> {
        Ok(self.put(channel, member, lease))
    }

    async fn enter(&self, channel: &Channel, member: Member, lease: Lease) -> Result<Added, PresenceError> {
        let now = Instant::now();
        let expires_at = now + lease.ttl.min(TTL_MAX);
        Ok(self.stripe(channel).lock().enter(channel, member, lease.owner, now, expires_at))
    }

    async fn linger(
        &self,
        channel: &Channel,
        leaving: &[(Member, Grace)],
        owner: NodeEpoch,
    ) -> Result<Vec<bool>, PresenceError> {
        let linger = |(member, grace): &(Member, Grace)| self.linger_one(channel, member, *grace, owner);
        Ok(leaving.iter().map(linger).collect())
    }

    async fn expire(&self, owner: NodeEpoch) -> Result<Option<Duration>, PresenceError> {
        let now = Instant::now();
        loop {
            self.departures.room().await;
            let mut graces = self.graces.lock();
            let due = graces.take_due(owner, now);
            if due.is_empty() {
                return Ok(graces.next(owner).map(|next| next.saturating_duration_since(now)));
            }
            let take = |(channel, client): &(Channel, ClientId)| {
                let member = self.stripe(channel).lock().take_lingering(channel, *client)?;
                Departed::of(channel, &member)
            };
            self.departures.push(due.iter().filter_map(take));
        }
    }

    async fn refresh(&self, holdings: &[Holding], lease: Lease) -> Result<(), PresenceError> {
        for Holding { channel, members } in holdings {
            for member in members {
                self.put(channel, member.clone(), lease);
            }
            let forgotten = self.stripe(channel).lock().take_others(channel, lease.owner, members);
            self.departures.push(forgotten.iter().filter_map(|member| Departed::of(channel, member)));
        }
        Ok(())
    }

    async fn remove(&self, channel: &Channel, client: ClientId, _: NodeEpoch) -> Result<bool, PresenceError> {
        Ok(self.stripe(channel).lock().remove(channel, client).is_some())
    }

    async fn members(&self, channel: &Channel) -> Result<Vec<Arc<ClientInfo>>, PresenceError> {
        Ok(self.stripe(channel).lock().members(channel, Instant::now()))
    }

    async fn stats(&self, channel: &Channel) -> Result<PresenceStats, PresenceError> {
        Ok(self.stripe(channel).lock().stats(channel, Instant::now()))
    }

    async fn reap(&self, owner: NodeEpoch) -> Result<(), PresenceError> {
        for stripe in &self.stripes {
            let taken = stripe.lock().take_all(owner);
            let departed = taken.iter().filter_map(|(channel, member)| Departed::of(channel, member));
            self.departures.push(departed);
        }
        Ok(())
    }

    async fn departed(&self) -> Vec<Departed> {
        self.departures.next().await
    }
}

#[cfg(test)]
mod tests;
