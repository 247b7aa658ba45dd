//! What the node asks its shards to do to connections.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::recovery::Since;
use crate::model::{Channel, ClientId, CloseReason, RawJson, SubscriptionGrant, UserId};

/// Which connections are meant: all of a user, or one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Connections of this user; the anonymous user means connections without a user, not everybody.
    pub user: UserId,
    /// Only this connection, if given.
    pub client: Option<ClientId>,
}

impl Target {
    /// Whether a connection of `user` with the id `client` is meant.
    pub fn covers(&self, user: &UserId, client: ClientId) -> bool {
        self.user == *user && self.client.is_none_or(|wanted| wanted == client)
    }
}

/// An order to one connection, carried out by its session between two commands.
#[derive(Clone, Debug)]
pub enum Order {
    /// Subscribe it to `channel` from the server's side.
    Subscribe {
        /// The channel.
        channel: Channel,
        /// What the caller says about the subscription.
        grant: SubscriptionGrant,
        /// From where in the history it is to begin; `None`: from now on.
        since: Option<Since>,
    },
    /// Remove its subscription to `channel`, whoever made it.
    Unsubscribe {
        /// The channel.
        channel: Channel,
    },
    /// What authenticated it is good until another time.
    Refresh {
        /// `None`: for ever.
        expires_at: Option<SystemTime>,
        /// How others see it from now on; `None`: as before.
        info: Option<RawJson>,
    },
}

/// What a shard is asked to do. Never dropped.
#[derive(Debug)]
pub enum Control {
    /// Hand `order` to the targeted connections.
    Order {
        /// Who.
        target: Target,
        /// What.
        order: Order,
    },
    /// Close the targeted connections.
    Disconnect {
        /// Who.
        target: Target,
        /// Why, with the code.
        reason: CloseReason,
        /// Connections that stay.
        except: Arc<HashSet<ClientId>>,
    },
    /// Answer with the distinct users of the shard.
    Users(oneshot::Sender<HashSet<UserId>>),
    /// Close every connection: the node stops.
    Stop,
}
