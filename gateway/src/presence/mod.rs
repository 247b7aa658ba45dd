//! Who is subscribed to a channel now, across all nodes.
//!
//! A presence knows channels and members, each of them with a lease: whoever put a member in must renew it, so
//! that the members of a node that died go by themselves. It does not know who hears of it: joins and leaves
//! are announced through the broker. Every implementation passes the suite in `contract.rs`.

#[cfg(test)]
mod contract;
mod memory;
#[cfg(test)]
pub(crate) mod unruly;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use memory::MemoryPresence;

use crate::model::{Channel, ClientId, ClientInfo};

/// The presence did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PresenceError {
    /// No answer in time; what was to be changed may or may not have been.
    #[error("presence unavailable")]
    Unavailable,
}

/// How many are present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Connections.
    pub clients: usize,
    /// Users, each counted once; those without a user are one together.
    pub users: usize,
}

/// The members of channels.
///
/// A member whose lease ran out is neither listed nor counted. Calls about one member take effect in the order
/// in which they are made one after another; calls at once in any order. Every call has an end: it fails
/// before its caller has waited for long.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Makes the client that `info` is about a member of `channel` for `ttl`. Again replaces its info and renews
    /// its lease.
    ///
    /// # Errors
    /// [`PresenceError`] when it cannot be said that it is a member.
    async fn add(&self, channel: &Channel, info: Arc<ClientInfo>, ttl: Duration)
    -> Result<(), PresenceError>;

    /// Renews these memberships for `ttl` from now. One that is gone comes back.
    ///
    /// # Errors
    /// [`PresenceError`] when not all of them are known to be renewed.
    async fn refresh(
        &self,
        leases: &[(Channel, Arc<ClientInfo>)],
        ttl: Duration,
    ) -> Result<(), PresenceError>;

    /// Ends the membership of `client`. Without one it does nothing.
    ///
    /// # Errors
    /// [`PresenceError`] when it may still be a member; then until the end of its lease.
    async fn remove(&self, channel: &Channel, client: ClientId) -> Result<(), PresenceError>;

    /// The members of `channel`, in no order.
    ///
    /// # Errors
    /// [`PresenceError`] when there was no answer.
    async fn members(&self, channel: &Channel) -> Result<Vec<Arc<ClientInfo>>, PresenceError>;

    /// How many members `channel` has. Lists nobody, so it costs the same for a large channel.
    ///
    /// # Errors
    /// [`PresenceError`] when there was no answer.
    async fn stats(&self, channel: &Channel) -> Result<PresenceStats, PresenceError>;
}
