//! What the node asks its shards to do to connections.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::cluster::{Order, Target};
use crate::model::{ClientId, CloseReason, UserId, Whose};

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
    /// Close the connections whose tokens are among these; `None`: among all that were revoked, as far as this node
    /// knows.
    Revoke(Option<Whose>),
    /// Let go of so many connections that will hardly notice, if there are as many.
    Shed(usize),
    /// Answer with the distinct users of the shard.
    Users(oneshot::Sender<HashSet<UserId>>),
}
