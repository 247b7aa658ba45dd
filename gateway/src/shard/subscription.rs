//! How a connection becomes a subscriber: claim the channel, be registered, read the history, be live.
//!
//! Registered first, so that what comes while the history is read is set aside; then both are joined, without a
//! gap and without a repeat, and the subscriber is live before anything else happens on this thread.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::hub::Tracking;
use super::link::Link;
use super::table::Key;
use crate::broker::{BrokerError, History};
use crate::model::{Channel, Position};
use crate::node::recovery::{self, Start};
use crate::node::{Interest, Node, ShardId};
use crate::protocol::{Encoding, SubscribeError, Wanted};

/// A channel that was wanted, on its way.
pub(super) struct Claim {
    wanted: Wanted,
    /// `None` once the connection is registered.
    interest: Option<Interest>,
    /// What was read; for a channel whose history is followed.
    history: Option<History>,
    failure: Option<BrokerError>,
}

/// Makes the node hold each channel.
pub(super) async fn claim(node: Arc<Node>, shard: ShardId, wanted: Vec<Wanted>) -> Vec<Claim> {
    let mut claims = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let (interest, failure) = match node.subscribe(shard, wanted.channel.clone()).await {
            Ok(interest) => (Some(interest), None),
            Err(error) => (None, Some(error)),
        };
        claims.push(Claim { wanted, interest, history: None, failure });
    }
    claims
}

/// Reads the history of each channel that is followed.
pub(super) async fn read(node: Arc<Node>, mut claims: Vec<Claim>) -> Vec<Claim> {
    for claim in claims.iter_mut().filter(|claim| claim.failure.is_none()) {
        let Some(follow) = &claim.wanted.follow else { continue };
        match node.history(&claim.wanted.channel, follow.range(), follow.meta_ttl).await {
            Ok(history) => claim.history = Some(history),
            Err(error) => claim.failure = Some(error),
        }
    }
    claims
}

/// One connection, as subscribing needs it.
pub(super) struct Subscriber<'a> {
    pub(super) shard: &'a Rc<Shard>,
    pub(super) key: Key,
    pub(super) link: &'a Link,
    pub(super) encoding: Encoding,
}

impl Subscriber<'_> {
    /// Registers for the channels that are followed; `true` if there are any, and so histories to read.
    pub(super) fn register(&self, claims: &mut [Claim]) -> bool {
        let mut is_any = false;
        for claim in claims.iter_mut().filter(|claim| claim.wanted.follow.is_some()) {
            if let Some(interest) = claim.interest.take() {
                let form = (self.encoding, Tracking::Buffering);
                self.shard.subscribe(&claim.wanted.channel, self.key, self.link, form, interest);
                self.shard.set_slow_consumer(&claim.wanted);
                is_any = true;
            }
        }
        is_any
    }

    /// Makes the connection live on each channel, in one step.
    pub(super) fn go_live(&self, claims: Vec<Claim>) -> Vec<Result<Option<Start>, SubscribeError>> {
        claims.into_iter().map(|claim| self.go_live_on(claim)).collect()
    }

    fn go_live_on(&self, claim: Claim) -> Result<Option<Start>, SubscribeError> {
        let Claim { wanted, interest, history, failure } = claim;
        if let Some(interest) = interest {
            let form = (self.encoding, Tracking::Free);
            self.shard.subscribe(&wanted.channel, self.key, self.link, form, interest);
            self.shard.set_slow_consumer(&wanted);
            return Ok(None);
        }
        let Wanted { channel, follow, .. } = wanted;
        let joined = match (failure, follow, history) {
            (None, Some(follow), Some(history)) => {
                let aside = self.shard.take_aside(&channel, self.link);
                let joined = recovery::join(&follow, history, aside);
                joined.map(|start| (start, follow.meta_ttl)).map_err(SubscribeError::from)
            }
            (failure, _, _) => Err(failure.unwrap_or(BrokerError::Unavailable).into()),
        };
        match joined {
            Ok((mut start, meta_ttl)) => {
                // What is not for this connection counts as seen by it, as it does when it is live.
                start.publications.retain(|publication| publication.is_for(self.link.client));
                self.shard.settle(&channel, self.link, &start.position, meta_ttl);
                Ok(Some(start))
            }
            Err(error) => {
                self.shard.unsubscribe(&channel, self.link);
                Err(error)
            }
        }
    }
}

impl Shard {
    fn take_aside(&self, channel: &Channel, link: &Link) -> recovery::Aside {
        let key = self.hub.borrow().find(channel);
        key.map(|key| link.take_aside(key)).unwrap_or_default()
    }

    fn set_slow_consumer(&self, wanted: &Wanted) {
        self.hub.borrow_mut().set_slow_consumer(&wanted.channel, wanted.slow_consumer);
    }

    /// The connection has everything of `channel` up to `position`.
    fn settle(&self, channel: &Channel, link: &Link, position: &Position, meta_ttl: Duration) {
        let mut hub = self.hub.borrow_mut();
        let subscriptions = link.subscriptions.borrow();
        let Some(index) = hub.position(channel, &subscriptions) else { return };
        let held = &subscriptions[index];
        hub.settle(held, position, meta_ttl, |key| self.lose(key, held.channel));
    }
}
