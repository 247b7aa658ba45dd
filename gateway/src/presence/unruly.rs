//! A presence for tests that is late and unreliable, as the trait allows: see `broker/unruly.rs`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{
    Added, Departed, Grace, Holding, Lease, Member, MemoryPresence, Presence, PresenceError, PresenceStats,
};
use crate::model::chance::{Failure, Manners, Random, turns};
use crate::model::{Channel, ClientId, ClientInfo, NodeEpoch};

/// In memory, with manners.
pub(crate) struct UnrulyPresence {
    memory: MemoryPresence,
    calls: Mutex<(Random, Manners)>,
}

impl UnrulyPresence {
    pub(crate) fn new(seed: u64, manners: Manners) -> Self {
        Self { memory: MemoryPresence::new(), calls: Mutex::new((Random::new(seed), manners)) }
    }

    /// From now on calls take effect at once.
    pub(crate) fn calm(&self) {
        self.calls.lock().1 = Manners::CALM;
    }

    /// What is there, without a call.
    pub(crate) fn memory(&self) -> &MemoryPresence {
        &self.memory
    }

    async fn call<T>(
        &self,
        effect: impl Future<Output = Result<T, PresenceError>>,
    ) -> Result<T, PresenceError> {
        let fate = {
            let mut calls = self.calls.lock();
            let manners = calls.1;
            manners.fate(&mut calls.0)
        };
        turns(fate.before).await;
        if fate.failure == Some(Failure::Before) {
            return Err(PresenceError::Unavailable);
        }
        let result = effect.await;
        turns(fate.after).await;
        if fate.failure.is_some() { Err(PresenceError::Unavailable) } else { result }
    }
}

#[async_trait]
impl Presence for UnrulyPresence {
    async fn add(&self, channel: &Channel, member: Member, lease: Lease) -> Result<bool, PresenceError> {
        self.call(self.memory.add(channel, member, lease)).await
    }

    async fn enter(&self, channel: &Channel, member: Member, lease: Lease) -> Result<Added, PresenceError> {
        self.call(self.memory.enter(channel, member, lease)).await
    }

    async fn linger(
        &self,
        channel: &Channel,
        leaving: &[(Member, Grace)],
        owner: NodeEpoch,
    ) -> Result<Vec<bool>, PresenceError> {
        self.call(self.memory.linger(channel, leaving, owner)).await
    }

    async fn expire(&self, owner: NodeEpoch) -> Result<Option<Duration>, PresenceError> {
        self.call(self.memory.expire(owner)).await
    }

    async fn refresh(&self, holdings: &[Holding], lease: Lease) -> Result<(), PresenceError> {
        self.call(self.memory.refresh(holdings, lease)).await
    }

    async fn remove(
        &self,
        channel: &Channel,
        client: ClientId,
        owner: NodeEpoch,
    ) -> Result<bool, PresenceError> {
        self.call(self.memory.remove(channel, client, owner)).await
    }

    async fn members(&self, channel: &Channel) -> Result<Vec<Arc<ClientInfo>>, PresenceError> {
        self.call(self.memory.members(channel)).await
    }

    async fn stats(&self, channel: &Channel) -> Result<PresenceStats, PresenceError> {
        self.call(self.memory.stats(channel)).await
    }

    async fn reap(&self, owner: NodeEpoch) -> Result<(), PresenceError> {
        self.call(self.memory.reap(owner)).await
    }

    async fn departed(&self) -> Vec<Departed> {
        self.memory.departed().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;
    use crate::model::chance::any_seed;

    contract::suite!(|| async {
        UnrulyPresence::new(any_seed(), Manners { turns_max: 20, ..Manners::CALM })
    });
}
