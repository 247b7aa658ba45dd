//! Who is subscribed to a channel now, across all nodes.
//!
//! A presence knows channels and members. Each member belongs to an owner, the node that put it in, by the epoch of
//! its tenure: the members of a node that died go with it, all at once. An owner renews its lease on each channel as
//! well, so that what it forgot goes too. A member whose connection is gone may linger: it is seen as before and belongs
//! to nobody, until its user comes back and takes its place or its grace is over. A presence does not know who hears of all this: joins and leaves are
//! announced through the broker, by who learns here that there is something to announce. Every implementation
//! passes the suite in `contract.rs`.

#[cfg(test)]
mod contract;
mod departures;
mod memory;
mod redis;
#[cfg(test)]
pub(crate) mod unruly;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use departures::Departed;
pub use memory::MemoryPresence;
pub use redis::{Heartbeats, Owners, RedisPresence};

use crate::model::{Channel, ClientId, ClientInfo, NodeEpoch};

/// The presence did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PresenceError {
    /// No answer in time; what was to be changed may or may not have been.
    #[error("presence unavailable")]
    Unavailable,
    /// What is kept there cannot be used; nothing was done, and asking again will not help.
    #[error("presence refused")]
    Refused,
}

/// How many are present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Connections.
    pub clients: usize,
    /// Users, each counted once; those without a user are one together.
    pub users: usize,
}

/// A subscriber as the presence keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub info: Arc<ClientInfo>,
    /// It is listed and counted. One that is not is kept for the sake of its leave.
    pub is_listed: bool,
    /// Its leave is announced, whoever takes it out.
    pub is_announced: bool,
}

/// On what terms members are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose they are: they go when it is dead.
    pub owner: NodeEpoch,
    /// They stay in the channel at least as long, unless the owner renews that.
    pub ttl: Duration,
}

/// On what terms a member lingers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// For how long from now on; at most an hour.
    pub lasts: Duration,
    /// Others know that it is there. One of whom they do not know lingers only in a place that it took itself, and is
    /// taken out else.
    pub is_known: bool,
}

/// How somebody came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was no member before.
    New,
    /// It was one.
    Again,
    /// It took the place of one who lingered, whose leave nobody announces: others know that its user is there. Whoever
    /// takes it out one day announces a leave, as for one that has joined.
    Returned,
}

/// All that an owner has in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The channel.
    pub channel: Channel,
    /// Its members, each client once.
    pub members: Vec<Member>,
}

/// The members of channels.
///
/// A member whose owner is dead, or whose lease ran out, is neither listed nor counted. Calls about one member take
/// effect in the order in which they are made one after another; calls at once in any order. Every call has an end:
/// it fails before its caller has waited for long.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Makes a client a member of `channel`, under `lease`. Again replaces its owner and what is known of it.
    ///
    /// Answers whether it was none before.
    ///
    /// # Errors
    /// [`PresenceError`] when it cannot be said that it is a member.
    async fn add(&self, channel: &Channel, member: Member, lease: Lease) -> Result<bool, PresenceError>;

    /// As [`add`](Self::add), for somebody who may have been there before: if its user lingers in the channel and was
    /// seen in the same way, it takes that place in the same step, of several the one that was left first. Asked again,
    /// it answers that it returned.
    ///
    /// # Errors
    /// [`PresenceError`] when it cannot be said that it is a member. It may be one, and may have taken a place:
    /// [`linger`](Self::linger) gives that back.
    async fn enter(&self, channel: &Channel, member: Member, lease: Lease) -> Result<Added, PresenceError>;

    /// Has members linger: they stay in the channel and belong to nobody from now on, whatever becomes of their owner.
    /// Those that linger already go on, for as long as it was said first. `owner` is who asks, and who
    /// [expires](Self::expire) them; if that is dead, somebody else.
    ///
    /// Answers for each, in this order, whether it lingers, or did until its place was taken; `false` if it is gone in
    /// another way.
    ///
    /// # Errors
    /// [`PresenceError::Unavailable`] when some may linger or not. To be asked again about all, and before the next call
    /// of [`expire`](Self::expire) for this owner, which forgets whose place was taken.
    async fn linger(
        &self,
        channel: &Channel,
        leaving: &[(Member, Grace)],
        owner: NodeEpoch,
    ) -> Result<Vec<bool>, PresenceError>;

    /// Takes out those who linger, were `owner`'s, and have not come back in time; they [depart](Self::departed). Several
    /// may do so at once, on any node.
    ///
    /// Answers after how long this is to be called again; `None` if nobody of that owner lingers any more.
    ///
    /// # Errors
    /// [`PresenceError`] when some may still be there.
    async fn expire(&self, owner: NodeEpoch) -> Result<Option<Duration>, PresenceError>;

    /// Renews the lease on each of these channels; each is in it once. Afterwards these members, and no others, are
    /// the owner's there: one that is gone comes back, and one that is not named [departs](Self::departed).
    ///
    /// No other call about the owner's members in these channels may be under way.
    ///
    /// # Errors
    /// [`PresenceError::Unavailable`] when not all of them are known to be renewed; [`PresenceError::Refused`] when
    /// some cannot be, and all others are.
    async fn refresh(&self, holdings: &[Holding], lease: Lease) -> Result<(), PresenceError>;

    /// Ends the membership of `client`, whoever owns it; `owner` is who asks.
    ///
    /// Answers whether this ended it: of several who take a member out, one is told `true`, and it is for that one to
    /// announce the leave.
    ///
    /// # Errors
    /// [`PresenceError`] when it may still be a member.
    async fn remove(
        &self,
        channel: &Channel,
        client: ClientId,
        owner: NodeEpoch,
    ) -> Result<bool, PresenceError>;

    /// The members of `channel` that are listed, in no order.
    ///
    /// # Errors
    /// [`PresenceError`] when there was no answer.
    async fn members(&self, channel: &Channel) -> Result<Vec<Arc<ClientInfo>>, PresenceError>;

    /// How many members of `channel` are listed. Lists nobody, so it costs the same for a large channel.
    ///
    /// # Errors
    /// [`PresenceError`] when there was no answer.
    async fn stats(&self, channel: &Channel) -> Result<PresenceStats, PresenceError>;

    /// Takes out all members of `owner`, which is dead for good; they [depart](Self::departed). Who lingers is none, and
    /// stays until it [expires](Self::expire). Several may do so at once, on any node.
    ///
    /// # Errors
    /// [`PresenceError`] when some may still be there; nobody sees them all the same.
    async fn reap(&self, owner: NodeEpoch) -> Result<(), PresenceError>;

    /// Waits for members that calls of this presence took out although nobody had asked for just that, and whose
    /// leave is to be announced. Each is answered once. Dropping the future loses none.
    async fn departed(&self) -> Vec<Departed>;
}
