use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{Heard, Lapsed, Registry, RegistryError};
use crate::cluster::roster::Report;
use crate::cluster::{REVOCATIONS_MAX, codec};
use crate::model::{NodeEpoch, Revocation, UserId};
use crate::redis::{Call, Failure, Instance, Redis, Script, death, script};

/// How long a dead node is one survivor's to clear up after, before another is asked to.
const CLAIM: Duration = Duration::from_secs(30);
/// How long the roster outlives the last node.
const ROSTER_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long a user's counts live without a change; a multiple of how often all are counted anew.
const COUNTS_TTL: Duration = Duration::from_secs(24 * 3600);
/// After that nobody can be there whom this node has not heard of.
const STRANGER_TTL: Duration = Duration::from_secs(60);

static LEASE: Script = script!("node_lease.lua");
static ROSTER: Script = script!("node_roster.lua");
static REMEMBER: Script = script!("revocation_remember.lua");
static COUNT: Script = script!("user_count.lua");

/// The registry of nodes that share a Redis.
///
/// A tenure is a key that lives as long as its node is heard (`PREFIX:node:EPOCH`); that key alone decides who lives.
/// Where it has run out, somebody declares the node dead in its place, and until then it may take it up again. What
/// nodes say of themselves is in one hash beside it.
pub struct RedisRegistry {
    redis: Arc<Redis>,
    grace: Duration,
}

impl From<Failure> for RegistryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable | Failure::Refused(_) => Self::Unavailable,
            Failure::Full => Self::Full,
        }
    }
}

impl RedisRegistry {
    /// The registry in `redis`. Nobody is declared dead before that was heard for `grace` without a break.
    pub fn new(redis: Arc<Redis>, grace: Duration) -> Self {
        Self { redis, grace }
    }

    fn home(&self) -> &Instance {
        self.redis.home()
    }

    /// The key of a tenure.
    fn lease(&self, epoch: NodeEpoch) -> String {
        self.redis.names().of("node", &epoch.to_string())
    }

    fn roster(&self) -> String {
        self.redis.names().of("cluster", "nodes")
    }

    fn revoked(&self) -> String {
        self.redis.names().of("cluster", "revocations")
    }

    fn remembering(&self, revocation: &Revocation) -> Call {
        let call = Call::script(&REMEMBER, &[&self.revoked()]).arg(codec::whose(&revocation.whose));
        call.arg(codec::millis(revocation.forget_at)).arg(REVOCATIONS_MAX)
    }

    /// Of those who look dead, those who are, as is declared with this.
    async fn certify(&self, dead: Vec<String>) -> Result<Vec<NodeEpoch>, RegistryError> {
        let mut certain = Vec::new();
        for epoch in dead.iter().filter_map(|epoch| NodeEpoch::parse(epoch)) {
            if self.home().call(death(&self.lease(epoch))).await? {
                certain.push(epoch);
            } else {
                // Its lease outlives what it said of itself, as of one that was killed between the two: asked again at
                // the next heartbeat rather than when this claim has ended.
                let unseen = Call::command("HSET").arg(self.roster()).arg(epoch.to_string()).arg("0:0:");
                let _is_new: i64 = self.home().call(unseen).await?;
            }
        }
        Ok(certain)
    }
}

#[async_trait]
impl Registry for RedisRegistry {
    fn is_shared(&self) -> bool {
        true
    }

    async fn beat(&self, report: &Report, ttl: Duration) -> Result<Result<Heard, Lapsed>, RegistryError> {
        let lease = Call::script(&LEASE, &[&self.lease(report.epoch)]);
        let lease = lease.arg(report.id.to_string()).arg(millis(ttl));
        let lives: bool = self.home().call(lease).await?;
        if !lives {
            return Ok(Err(Lapsed));
        }
        // After the lease, so that who is silent here has no lease either.
        let roster = Call::script(&ROSTER, &[&self.roster()]);
        let roster = roster.arg(report.epoch.to_string()).arg(codec::report(report));
        let roster = roster.arg(millis(ttl)).arg(millis(CLAIM)).arg(millis(ROSTER_TTL));
        // After an outage all are late, and return one after another.
        let roster = roster.arg(u8::from(self.home().heard_for() >= self.grace));
        let (living, dead, was_known): (Vec<Vec<u8>>, Vec<String>, bool) = self.home().call(roster).await?;
        let others = living.iter().filter_map(|bytes| codec::read_report(bytes).ok()).collect();
        Ok(Ok(Heard { others, dead: self.certify(dead).await?, is_new: !was_known }))
    }

    async fn leave(&self, epoch: NodeEpoch) -> Result<(), RegistryError> {
        let ended = Call::command("DEL").arg(self.lease(epoch));
        // Seen never: what it left, if it left anything, is seen to at the next heartbeat of another.
        let gone = Call::command("HSET").arg(self.roster()).arg(epoch.to_string()).arg("0:0:");
        let calls = vec![ended, death(&self.lease(epoch)), gone];
        for answer in self.home().pipeline::<i64>(calls).await? {
            answer?;
        }
        Ok(())
    }

    async fn bury(&self, epoch: NodeEpoch) -> Result<(), RegistryError> {
        let call = Call::command("HDEL").arg(self.roster()).arg(epoch.to_string());
        let _had: i64 = self.home().call(call).await?;
        Ok(())
    }

    async fn remember(&self, revocation: &Revocation) -> Result<(), RegistryError> {
        let has_room: bool = self.home().call(self.remembering(revocation)).await?;
        if has_room { Ok(()) } else { Err(RegistryError::Full) }
    }

    async fn remember_all(&self, revocations: &[Revocation]) -> Result<(), RegistryError> {
        let calls = revocations.iter().map(|revocation| self.remembering(revocation)).collect();
        for has_room in self.home().pipeline::<bool>(calls).await? {
            if !has_room? {
                return Err(RegistryError::Full);
            }
        }
        Ok(())
    }

    async fn revocations(&self) -> Result<Vec<Revocation>, RegistryError> {
        let now = codec::millis(SystemTime::now());
        let call = Call::command("ZRANGE").arg(self.revoked()).arg(now).arg("+inf");
        let call = call.arg("BYSCORE").arg("WITHSCORES");
        let known: Vec<(Vec<u8>, f64)> = self.home().call_apart(call).await?;
        let revocation = |(whose, until): (Vec<u8>, f64)| {
            // What is negative or no number becomes 0: forgotten.
            let forget_at = codec::time(until as u64);
            Some(Revocation { whose: codec::read_whose(&whose).ok()?, forget_at })
        };
        Ok(known.into_iter().filter_map(revocation).collect())
    }

    async fn count(
        &self,
        epoch: NodeEpoch,
        alive: &[NodeEpoch],
        connections: &[(UserId, usize)],
    ) -> Result<Vec<usize>, RegistryError> {
        let alive: Vec<_> = alive.iter().map(ToString::to_string).collect();
        let call = |(user, count): &(UserId, usize)| {
            let call = Call::script(&COUNT, &[&self.redis.names().of("user", user.as_str())]);
            let call = call.arg(epoch.to_string()).arg(*count);
            call.arg(millis(COUNTS_TTL)).arg(millis(STRANGER_TTL)).arg(&alive)
        };
        let answers = self.home().pipeline(connections.iter().map(call).collect()).await?;
        answers.into_iter().map(|answer| answer.map_err(RegistryError::from)).collect()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
