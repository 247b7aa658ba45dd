//! Where a cluster keeps what its nodes have to know of one another: who lives, what was revoked, how many connections
//! a user has.

mod alone;
mod redis;

use std::time::Duration;

use async_trait::async_trait;

pub use self::redis::RedisRegistry;
pub use alone::Alone;

use super::roster::Report;
use crate::model::{NodeEpoch, Revocation, UserId};

/// The registry did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// No answer in time, or a refusal; what was to be kept may or may not have been.
    #[error("the registry of the cluster is unavailable")]
    Unavailable,
    /// There is no room for more; nothing was kept.
    #[error("the registry of the cluster is full")]
    Full,
}

/// What a node hears at a heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// The other nodes that live, in no order.
    pub others: Vec<Report>,
    /// Tenures that have ended without a word, for this node to [clear up](Registry::bury) after. Each is given to one
    /// node at a time, until one has done it.
    pub dead: Vec<NodeEpoch>,
    /// This tenure was unknown there: it has just begun, or the registry has lost what it held.
    pub is_new: bool,
}

/// The node was declared dead: the tenure has ended, and what belonged to it is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenure has ended")]
pub struct Lapsed;

/// What nodes have in common beside publications and presence.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Whether other nodes may look there as well.
    fn is_shared(&self) -> bool;

    /// Tells the others that this node lives for `ttl` from now on, and who it is; hears of them. One that comes too
    /// late is good as long as nobody has declared the node dead.
    ///
    /// # Errors
    /// [`RegistryError`] when it cannot be said that they know.
    async fn beat(&self, report: &Report, ttl: Duration) -> Result<Result<Heard, Lapsed>, RegistryError>;

    /// Ends a tenure of this node: it is not seen any more, and a survivor clears up what it left.
    ///
    /// # Errors
    /// [`RegistryError`] when it may still be seen.
    async fn leave(&self, epoch: NodeEpoch) -> Result<(), RegistryError>;

    /// Nothing is left of a tenure that ended: nobody has to hear of it any more.
    ///
    /// # Errors
    /// [`RegistryError`] when somebody may hear of it once more.
    async fn bury(&self, epoch: NodeEpoch) -> Result<(), RegistryError>;

    /// Remembers `revocation` until its time, or the later one of two for the same tokens.
    ///
    /// # Errors
    /// [`RegistryError`] when it may be forgotten.
    async fn remember(&self, revocation: &Revocation) -> Result<(), RegistryError>;

    /// Remembers all of these, of which there is one at least, in one go.
    ///
    /// # Errors
    /// [`RegistryError`] when one may be forgotten.
    async fn remember_all(&self, revocations: &[Revocation]) -> Result<(), RegistryError>;

    /// Every revocation whose time has not come.
    ///
    /// # Errors
    /// [`RegistryError`] when there was no answer.
    async fn revocations(&self) -> Result<Vec<Revocation>, RegistryError>;

    /// This node has so many connections of each of these users, in its tenure `epoch`; answers how many each has on
    /// it and on those that are `alive` together, in order.
    ///
    /// # Errors
    /// [`RegistryError`] when there was no answer; some may have been counted.
    async fn count(
        &self,
        epoch: NodeEpoch,
        alive: &[NodeEpoch],
        connections: &[(UserId, usize)],
    ) -> Result<Vec<usize>, RegistryError>;
}
