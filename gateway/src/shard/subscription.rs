//! How a connection becomes a subscriber: claim the channel, be registered, be present, read the history, be live.
//!
//! Registered first, so that what comes while the history is read is set aside; then both are joined, without a
//! gap and without a repeat, and the subscriber is live before anything else happens on this thread.
//!
//! Present before it is live, so that who hears its join finds it; announced after, in the step that also says the
//! reply, so that it hears its own join and the reply comes first.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::Shard;
use super::hub::{Form, Tracking};
use super::link::Link;
use super::table::Key;
use crate::broker::{BrokerError, History};
use crate::model::{Channel, ClientInfo, Position};
use crate::node::recovery::{self, Start};
use crate::node::{Interest, Node, Seat, ShardId};
use crate::protocol::{Encoding, SubscribeError, Wanted};

/// A channel that was wanted, on its way.
pub(super) struct Claim {
    wanted: Wanted,
    /// `None` once the connection is registered.
    interest: Option<Interest>,
    /// What was read; for a channel whose history is followed.
    history: Option<History>,
    /// For one that others may see.
    seat: Option<Box<Seat>>,
    failure: Option<SubscribeError>,
}

/// Makes the node hold each channel, all at once: a broker that is far or away is waited for once.
pub(super) async fn claim(node: Arc<Node>, shard: ShardId, wanted: Vec<Wanted>) -> Vec<Claim> {
    let claim = async |wanted: Wanted| {
        let (interest, failure) = match node.subscribe(shard, wanted.channel.clone(), wanted.namespace).await
        {
            Ok(interest) => (Some(interest), None),
            Err(error) => (None, Some(error.into())),
        };
        Claim { wanted, interest, history: None, seat: None, failure }
    };
    join_all(wanted.into_iter().map(claim)).await
}

/// Takes a seat in each channel where others may see the connection, and reads the history of each that is
/// followed.
pub(super) async fn prepare(node: Arc<Node>, mut claims: Vec<Claim>) -> Vec<Claim> {
    let prepare = async |claim: &mut Claim| claim.failure = claim.prepare(&node).await.err();
    join_all(claims.iter_mut().filter(|claim| claim.failure.is_none()).map(prepare)).await;
    claims
}

impl Claim {
    /// Whether there is something to wait for before the connection can be live.
    pub(super) fn has_to_prepare(&self) -> bool {
        self.failure.is_none() && (self.wanted.follow.is_some() || self.wanted.entrant.is_some())
    }

    async fn prepare(&mut self, node: &Node) -> Result<(), SubscribeError> {
        let Wanted { channel, follow, entrant, .. } = &self.wanted;
        if let Some(entrant) = entrant {
            self.seat = Some(Box::new(node.enter(channel.clone(), entrant.clone()).await?));
        }
        if let Some(follow) = follow {
            self.history = Some(node.catch_up(channel, follow).await?);
        }
        Ok(())
    }
}

/// One connection, as subscribing needs it.
pub(super) struct Subscriber<'a> {
    pub(super) shard: &'a Rc<Shard>,
    pub(super) key: Key,
    pub(super) link: &'a Link,
    pub(super) encoding: Encoding,
}

impl Subscriber<'_> {
    /// Registers for the channels that are followed.
    pub(super) fn register(&self, claims: &mut [Claim]) {
        for claim in claims.iter_mut().filter(|claim| claim.wanted.follow.is_some()) {
            if let Some(interest) = claim.interest.take() {
                self.subscribe(&claim.wanted, Tracking::Buffering, interest);
            }
        }
    }

    /// Makes the connection live on each channel, in one step.
    pub(super) fn go_live(&self, claims: Vec<Claim>) -> Vec<Result<Option<Start>, SubscribeError>> {
        claims.into_iter().map(|claim| self.go_live_on(claim)).collect()
    }

    fn go_live_on(&self, mut claim: Claim) -> Result<Option<Start>, SubscribeError> {
        let (seat, channel) = (claim.seat.take(), claim.wanted.channel.clone());
        let started = self.start(claim);
        match &started {
            // From here on the node tells others of it, so the seat must be where unsubscribing finds it.
            Ok(_) => self.shard.sit_down(&channel, self.link, seat),
            Err(_) => self.shard.unsubscribe(&channel, self.link),
        }
        started
    }

    fn start(&self, claim: Claim) -> Result<Option<Start>, SubscribeError> {
        let Claim { wanted, interest, history, failure, .. } = claim;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if let Some(interest) = interest {
            self.subscribe(&wanted, Tracking::Free, interest);
        }
        let Some(follow) = wanted.follow else { return Ok(None) };
        let history = history.ok_or(BrokerError::Unavailable)?;
        let aside = self.shard.take_aside(&wanted.channel, self.link);
        let mut start = recovery::join(&follow, history, aside)?;
        if wanted.must_recover && start.recovered == Some(false) {
            return Err(SubscribeError::Unrecoverable);
        }
        // What is not for this connection counts as seen by it, as it does when it is live.
        start.publications.retain(|publication| publication.is_for(self.link.client));
        self.shard.settle(&wanted.channel, self.link, &start.position, follow.meta_ttl);
        Ok(Some(start))
    }

    fn subscribe(&self, wanted: &Wanted, tracking: Tracking, interest: Interest) {
        let form = Form { encoding: self.encoding, tracking, hears_notices: wanted.hears_notices };
        self.shard.subscribe(&wanted.channel, self.key, self.link, form, interest);
        self.shard.hub.borrow_mut().set_slow_consumer(&wanted.channel, wanted.slow_consumer);
    }
}

impl Shard {
    fn take_aside(&self, channel: &Channel, link: &Link) -> recovery::Aside {
        let key = self.hub.borrow().find(channel);
        key.map(|key| link.take_aside(key)).unwrap_or_default()
    }

    /// The connection, which is live on `channel`, is announced there and keeps its seat.
    fn sit_down(&self, channel: &Channel, link: &Link, seat: Option<Box<Seat>>) {
        let Some(mut seat) = seat else { return };
        let mut subscriptions = link.subscriptions.borrow_mut();
        let Some(index) = self.hub.borrow().position(channel, &subscriptions) else { return };
        seat.announce();
        subscriptions[index].seat = Some(seat);
    }

    /// Others see the connection as `info` in `channel` from now on, if they see it there at all.
    pub(super) fn rename(&self, channel: &Channel, link: &Link, info: Arc<ClientInfo>) {
        let mut subscriptions = link.subscriptions.borrow_mut();
        let index = self.hub.borrow().position(channel, &subscriptions);
        if let Some(seat) = index.and_then(|index| subscriptions[index].seat.as_mut()) {
            seat.rename(info);
        }
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
