//! The node as its cluster sees it.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Control, Node};
use crate::cluster::{Glob, Load, Local, Order, Target};
use crate::model::{Channel, ClientId, CloseReason, NodeEpoch, UserId, Whose};

#[async_trait]
impl Local for Node {
    fn order(&self, target: &Target, order: &Order) {
        for inbox in &self.dispatch.inboxes {
            inbox.control(Control::Order { target: target.clone(), order: order.clone() });
        }
    }

    fn disconnect(&self, target: &Target, reason: &CloseReason, except: HashSet<ClientId>) {
        let except = Arc::new(except);
        for inbox in &self.dispatch.inboxes {
            let (target, reason, except) = (target.clone(), reason.clone(), Arc::clone(&except));
            inbox.control(Control::Disconnect { target, reason, except });
        }
    }

    fn revoke(&self, whose: Option<&Whose>) {
        for inbox in &self.dispatch.inboxes {
            inbox.control(Control::Revoke(whose.cloned()));
        }
    }

    fn shed(&self, count: usize) {
        let shards = self.dispatch.inboxes.len();
        // Not always of the first: of one at a time all would be its.
        let first = rand::random_range(0..shards);
        for (index, inbox) in self.dispatch.inboxes.iter().enumerate() {
            let rest = usize::from((index + first) % shards < count % shards);
            inbox.control(Control::Shed(count / shards + rest));
        }
    }

    fn subscribers(&self, glob: &Glob) -> Vec<(Channel, usize)> {
        self.channels(|channel| glob.matches(channel))
    }

    fn load(&self) -> Load {
        Load {
            clients: self.client_count(),
            users: 0,
            channels: self.channel_count(),
            subscriptions: self.subscription_count(),
        }
    }

    async fn count_users(&self) -> usize {
        self.users().await.len()
    }

    fn connections_of(&self, user: &UserId) -> usize {
        self.users.connections_of(user)
    }

    fn counted_users(&self) -> Vec<UserId> {
        self.users.all()
    }

    async fn renew(&self) {
        self.refresh_presence();
    }

    async fn clear_up(&self, epoch: NodeEpoch) -> bool {
        // Of several nodes that do so each announces whom it took out.
        if self.presence.reap(epoch).await.is_err() {
            return false;
        }
        // Who lingers was asked to come back, by a node that may have done nothing else any more.
        loop {
            match self.presence.expire(epoch).await {
                Ok(None) => return true,
                Ok(Some(rest)) => tokio::time::sleep(rest).await,
                Err(_) => return false,
            }
        }
    }
}
