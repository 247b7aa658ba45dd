//! What a node may ask of all nodes.

use std::collections::HashSet;
use std::time::SystemTime;

use super::RETENTION;
use crate::broker::PublishOptions;
use crate::model::{Channel, ClientId, CloseReason, RawJson, Revocation, Since, SubscriptionGrant, UserId};

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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Why connections are closed that somebody asked to close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dismissal {
    /// What authenticated them is not good any more.
    Expired,
    /// The caller says it in words of its own.
    Advised {
        /// 3000–4999.
        code: u16,
        /// At most 123 bytes; not empty.
        reason: String,
    },
}

impl From<Dismissal> for CloseReason {
    fn from(dismissal: Dismissal) -> Self {
        match dismissal {
            Dismissal::Expired => Self::Expired,
            Dismissal::Advised { code, reason } => Self::Disconnected { code, reason },
        }
    }
}

/// What every node is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
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
        reason: Dismissal,
        /// Connections that stay.
        except: HashSet<ClientId>,
    },
    /// Take some tokens for bad from now on, and close whoever came with them.
    Revoke(Revocation),
    /// Say which channels have subscribers.
    Survey(Question),
}

impl Command {
    /// How it is published. A question is worth nothing to who hears it late, and would push commands out of their
    /// history.
    pub(super) fn options(&self) -> PublishOptions {
        let retention = (!matches!(self, Self::Survey(_))).then_some(RETENTION);
        PublishOptions { retention, ..PublishOptions::default() }
    }

    /// Every [label](Self::label).
    pub(super) const LABELS: [&str; 6] =
        ["subscribe", "unsubscribe", "refresh", "disconnect", "revoke", "survey"];

    /// The label for metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Order { order: Order::Subscribe { .. }, .. } => "subscribe",
            Self::Order { order: Order::Unsubscribe { .. }, .. } => "unsubscribe",
            Self::Order { order: Order::Refresh { .. }, .. } => "refresh",
            Self::Disconnect { .. } => "disconnect",
            Self::Revoke(_) => "revoke",
            Self::Survey(_) => "survey",
        }
    }
}

/// Which channels have subscribers on each node?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names the question; chosen at random by the node that asks.
    pub(super) id: u64,
    /// A glob that the channels match.
    pub(super) pattern: String,
}
