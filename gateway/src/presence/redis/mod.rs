//! The presence in Redis: any number of nodes.
//!
//! A channel's members are hashes that scripts change in one step, each with the epoch of its owner. Nobody waits for
//! leases to end: whoever reads looks whether the owners were declared dead, leaves out those who were, and has them
//! cleared away. Where an owner that is not dead did not renew its lease, its members are left out too, and stay until
//! it renews them or is dead. All is kept for a few leases only, so that a cluster that died leaves nothing for ever.

mod entry;
mod graces;
mod owners;
mod reaping;
mod room;

use std::collections::HashSet;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use self::entry::Malformed;
pub use self::owners::{Heartbeats, Owners};
use self::room::{Counted, Entries, Listed, PAGE, Records, Room};
use super::departures::{Departed, Departures};
use super::{Added, Grace, Holding, Lease, Member, Presence, PresenceError, PresenceStats};
use crate::model::{Channel, ClientId, ClientInfo, NodeEpoch};
use crate::redis::{Call, Failure, Instance, Redis, Refusal, Reply};

/// Most channels that are cleared of somebody dead in the background; of others a later reader takes care.
const CLEARING_MAX: usize = 64;
/// How often a channel is cleared of the dead before it is counted.
const CLEARINGS_MAX: usize = 3;
/// Most round trips at once that take somebody out, with those of which it is not known yet whom they took.
const TAKING_MAX: usize = 256;
/// Most that are made to linger in one call: Redis serves nobody else for so long, about 10 µs each.
const LINGER_MAX: usize = 64;

/// Keeps members in Redis.
pub struct RedisPresence {
    inner: Arc<Inner>,
}

struct Inner {
    redis: Arc<Redis>,
    owners: Arc<dyn Owners>,
    departures: Departures,
    /// What is being cleared away in the background.
    clearing: Mutex<HashSet<(Channel, NodeEpoch)>>,
    /// One for each round trip that takes somebody out, until it is known whom.
    taking: Arc<Semaphore>,
}

impl RedisPresence {
    /// Nobody is a member any more whose owner is dead by what `owners` knows.
    pub fn new(redis: Arc<Redis>, owners: Arc<dyn Owners>) -> Self {
        let (departures, clearing) = (Departures::default(), Mutex::default());
        let taking = Arc::new(Semaphore::new(TAKING_MAX));
        Self { inner: Arc::new(Inner { redis, owners, departures, clearing, taking }) }
    }
}

/// Owners of a channel whose members nobody sees.
struct Absent {
    /// What they have there is cleared away, and it is announced.
    dead: HashSet<NodeEpoch>,
    /// Their lease ran out. They may be back, and have told nobody then that their members are: nothing is announced.
    silent: HashSet<NodeEpoch>,
}

impl From<Failure> for PresenceError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(Refusal::WrongType | Refusal::Other) => Self::Refused,
            // It will do it when it has found itself, when there is room, or when an operator has acted.
            Failure::Unavailable | Failure::Full | Failure::Refused(_) => Self::Unavailable,
        }
    }
}

impl From<Malformed> for PresenceError {
    fn from(_: Malformed) -> Self {
        Self::Refused
    }
}

impl Inner {
    fn room<'a>(&'a self, channel: &'a Channel) -> (Room<'a>, &'a Arc<Instance>) {
        (Room::new(self.redis.names(), channel), self.redis.instance_of(channel))
    }

    /// Which of the owners of a channel have nobody there that is seen.
    async fn absent(&self, now_ms: u64, records: &Records) -> Result<Absent, PresenceError> {
        let mut owners = Vec::with_capacity(records.len());
        let mut silent = HashSet::new();
        for (owner, record) in records {
            let owner = entry::owner_of(owner)?;
            owners.push(owner);
            if entry::lapse(record)? <= now_ms {
                silent.insert(owner);
            }
        }
        let dead: HashSet<_> = self.owners.dead(&owners).await.into_iter().collect();
        silent.retain(|owner| !dead.contains(owner));
        Ok(Absent { dead, silent })
    }

    /// Renews the leases that can be; answers the holdings of which something is missing or too much.
    async fn renew<'a>(
        &self,
        holdings: &'a [Holding],
        lease: Lease,
    ) -> Result<(Vec<&'a Holding>, bool), PresenceError> {
        let mut unequal = Vec::new();
        let mut has_refused = false;
        for (holding, renewed) in self.each(holdings, |room, holding| room.renew(holding, lease)).await? {
            match renewed {
                Ok(1u8) => {}
                Ok(_) => unequal.push(holding),
                Err(PresenceError::Refused) => has_refused = true,
                Err(error) => return Err(error),
            }
        }
        Ok((unequal, has_refused))
    }

    /// Makes one call about each holding, where its channel lives; all that live in one place at once.
    async fn each<'a, T: Reply>(
        &self,
        holdings: &'a [Holding],
        call: impl Fn(&Room<'_>, &Holding) -> Call,
    ) -> Result<Vec<(&'a Holding, Result<T, PresenceError>)>, PresenceError> {
        let mut done = Vec::with_capacity(holdings.len());
        for instance in self.redis.instances() {
            let lives_here =
                |holding: &&Holding| Arc::ptr_eq(self.redis.instance_of(&holding.channel), instance);
            let here: Vec<_> = holdings.iter().filter(lives_here).collect();
            let calls: Vec<_> =
                here.iter().map(|holding| call(&self.room(&holding.channel).0, holding)).collect();
            let answers = together(instance, calls).await?;
            done.extend(here.into_iter().zip(answers.into_iter().map(|answer| answer.map_err(Into::into))));
        }
        Ok(done)
    }

    /// Makes the owner's members of a channel those of `holding`.
    async fn correct(self: &Arc<Self>, holding: &Holding, lease: Lease) -> Result<(), PresenceError> {
        let Holding { channel, members } = holding;
        let known: HashSet<_> =
            members.iter().map(|member| member.info.client.as_bytes().as_slice()).collect();
        let (room, instance) = self.room(channel);
        let is_unknown = |client: &[u8]| !known.contains(client);
        self.take_owned(instance, slice::from_ref(channel), lease.owner, is_unknown).await?;
        for page in members.chunks(PAGE) {
            instance.call::<Vec<u8>>(room.put(page, lease)).await?;
        }
        instance.call::<u8>(room.settle(holding, lease)).await?;
        Ok(())
    }
}

/// Makes calls in one round trip, if there are any.
async fn together<T: Reply>(
    instance: &Instance,
    calls: Vec<Call>,
) -> Result<Vec<Result<T, Failure>>, Failure> {
    if calls.is_empty() { Ok(Vec::new()) } else { instance.pipeline(calls).await }
}

#[async_trait]
impl Presence for RedisPresence {
    async fn add(&self, channel: &Channel, member: Member, lease: Lease) -> Result<bool, PresenceError> {
        let (room, instance) = self.inner.room(channel);
        let answers: Vec<u8> = instance.call(room.put(&[member], lease)).await?;
        Ok(answers == [1])
    }

    async fn enter(&self, channel: &Channel, member: Member, lease: Lease) -> Result<Added, PresenceError> {
        let (room, instance) = self.inner.room(channel);
        let answers: Vec<u8> = instance.call(room.enter(member, lease)).await?;
        Ok(match answers[..] {
            [1] => Added::New,
            [2] => Added::Returned,
            _ => Added::Again,
        })
    }

    async fn linger(
        &self,
        channel: &Channel,
        leaving: &[(Member, Grace)],
        owner: NodeEpoch,
    ) -> Result<Vec<bool>, PresenceError> {
        let (room, instance) = self.inner.room(channel);
        let some = leaving.chunks(LINGER_MAX).map(|some| instance.call(room.linger(some, owner)));
        let mut stayed = Vec::with_capacity(leaving.len());
        for answers in join_all(some).await {
            let answers: Vec<u8> = answers?;
            stayed.extend(answers.into_iter().map(|answer| answer == 1));
        }
        Ok(stayed)
    }

    async fn expire(&self, owner: NodeEpoch) -> Result<Option<Duration>, PresenceError> {
        self.inner.expire(owner).await
    }

    async fn refresh(&self, holdings: &[Holding], lease: Lease) -> Result<(), PresenceError> {
        let (unequal, mut has_refused) = self.inner.renew(holdings, lease).await?;
        for holding in unequal {
            match self.inner.correct(holding, lease).await {
                Ok(()) => {}
                Err(PresenceError::Refused) => has_refused = true,
                Err(error @ PresenceError::Unavailable) => return Err(error),
            }
        }
        if has_refused { Err(PresenceError::Refused) } else { Ok(()) }
    }

    async fn remove(
        &self,
        channel: &Channel,
        client: ClientId,
        owner: NodeEpoch,
    ) -> Result<bool, PresenceError> {
        let (room, instance) = self.inner.room(channel);
        let taken: Entries = instance.call(room.remove(client, owner)).await?;
        Ok(!taken.is_empty())
    }

    async fn members(&self, channel: &Channel) -> Result<Vec<Arc<ClientInfo>>, PresenceError> {
        let (room, instance) = self.inner.room(channel);
        let (now_ms, records, entries): Listed = instance.call_apart(room.list()).await?;
        let Absent { dead, silent } = self.inner.absent(now_ms, &records).await?;
        self.inner.clear_later(channel, &dead);
        let mut members = Vec::with_capacity(entries.len());
        for (client, entry) in &entries {
            let (owner, info, _) = entry::read(client, entry)?;
            if !dead.contains(&owner) && !silent.contains(&owner) {
                members.push(Arc::new(info));
            }
        }
        Ok(members)
    }

    async fn stats(&self, channel: &Channel) -> Result<PresenceStats, PresenceError> {
        let (room, instance) = self.inner.room(channel);
        for clearing in 0.. {
            let (now_ms, records, clients, users): Counted = instance.call(room.count()).await?;
            let Absent { dead, silent } = self.inner.absent(now_ms, &records).await?;
            if dead.is_empty() && silent.is_empty() {
                return Ok(PresenceStats { clients, users });
            }
            if dead.is_empty() || clearing == CLEARINGS_MAX {
                break;
            }
            for owner in dead {
                self.inner.clear(channel, owner).await?;
            }
        }
        // What is counted includes those whom nobody sees.
        let members = self.members(channel).await?;
        let users: HashSet<_> = members.iter().map(|info| &info.user).collect();
        Ok(PresenceStats { clients: members.len(), users: users.len() })
    }

    async fn reap(&self, owner: NodeEpoch) -> Result<(), PresenceError> {
        self.inner.reap(owner).await
    }

    async fn departed(&self) -> Vec<Departed> {
        self.inner.departures.next().await
    }
}

#[cfg(test)]
mod tests;
