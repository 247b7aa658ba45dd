//! Which shards want which channels, and whether the broker is subscribed for them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::ShardId;
use crate::config::NamespaceId;
use crate::metrics::Metrics;
use crate::model::Channel;

/// How many locks the channels are spread over.
const STRIPES: usize = 64;

/// The channels of a node: how many subscribers each shard has.
#[derive(Debug)]
pub(super) struct Interests {
    shards: usize,
    hasher: RandomState,
    stripes: Box<[Mutex<HashMap<Channel, Interest>>]>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Interest {
    subscribers: SmallVec<[u32; 4]>,
    feed: Arc<Feed>,
    /// When the last subscriber left, the last time that happened.
    left_at: Option<Instant>,
    namespace: NamespaceId,
    /// Somebody will ask for its [`Fate`]. One is enough, however often the last one leaves.
    is_awaited: bool,
}

/// What is to become of a channel whose last subscriber had left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has subscribers, or is forgotten.
    Taken,
    /// Nobody came back in time.
    Idle,
    /// Somebody came and left: the grace counts from then.
    LeftAgain(Instant),
}

impl Interest {
    fn total(&self) -> usize {
        self.subscribers.iter().map(|count| *count as usize).sum()
    }

    /// Its grace begins; `true` if nobody will ask for its [`Fate`] yet.
    fn leave(&mut self) -> bool {
        self.left_at = Some(Instant::now());
        !std::mem::replace(&mut self.is_awaited, true)
    }
}

/// The broker's side of a channel: whether it is subscribed.
///
/// The lock serialises subscribing and unsubscribing at the broker; it is held across their awaits.
#[derive(Debug, Default)]
pub(super) struct Feed {
    pub(super) subscribed: tokio::sync::Mutex<bool>,
}

impl Interests {
    pub(super) fn new(shards: usize, metrics: Arc<Metrics>) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), stripes, metrics }
    }

    fn stripe(&self, channel: &Channel) -> &Mutex<HashMap<Channel, Interest>> {
        &self.stripes[self.hasher.hash_one(channel) as usize % STRIPES]
    }

    /// Counts a subscriber in; answers the feed that it needs.
    pub(super) fn add(&self, shard: ShardId, channel: &Channel, namespace: NamespaceId) -> Arc<Feed> {
        let mut stripe = self.stripe(channel).lock();
        let interest = stripe.entry(channel.clone()).or_insert_with(|| Interest {
            subscribers: SmallVec::from_elem(0, self.shards),
            feed: Arc::default(),
            left_at: None,
            namespace,
            is_awaited: false,
        });
        self.metrics.subscriber_added(interest.namespace, interest.total() == 0);
        interest.subscribers[shard.index()] += 1;
        Arc::clone(&interest.feed)
    }

    /// Counts a subscriber out; `true` if the caller has to see to the channel's [`Fate`].
    pub(super) fn remove(&self, shard: ShardId, channel: &Channel) -> bool {
        let mut stripe = self.stripe(channel).lock();
        let Some(interest) = stripe.get_mut(channel) else { return false };
        interest.subscribers[shard.index()] -= 1;
        let is_last = interest.total() == 0;
        self.metrics.subscriber_removed(interest.namespace, is_last);
        is_last && interest.leave()
    }

    /// The grace of a channel that could not be let go begins anew, unless somebody subscribed meanwhile; `true` if
    /// the caller has to see to its [`Fate`].
    pub(super) fn leave_again(&self, channel: &Channel) -> bool {
        let mut stripe = self.stripe(channel).lock();
        stripe.get_mut(channel).is_some_and(|interest| interest.total() == 0 && interest.leave())
    }

    /// What is to become of `channel`, which gets `grace` after its last subscriber left.
    pub(super) fn fate(&self, channel: &Channel, grace: Duration) -> Fate {
        let mut stripe = self.stripe(channel).lock();
        let Some(interest) = stripe.get_mut(channel) else { return Fate::Taken };
        let left_at = interest.left_at.filter(|_| interest.total() == 0);
        match left_at {
            Some(left_at) if left_at + grace > Instant::now() => return Fate::LeftAgain(left_at),
            _ => interest.is_awaited = false,
        }
        if left_at.is_some() { Fate::Idle } else { Fate::Taken }
    }

    /// Nobody will ask for the channel's [`Fate`] any more.
    pub(super) fn skip_grace(&self, channel: &Channel) {
        if let Some(interest) = self.stripe(channel).lock().get_mut(channel) {
            interest.is_awaited = false;
        }
    }

    /// The feed of a channel without subscribers, if it is still there and still has none.
    pub(super) fn idle_feed(&self, channel: &Channel) -> Option<Arc<Feed>> {
        let stripe = self.stripe(channel).lock();
        let interest = stripe.get(channel)?;
        (interest.total() == 0).then(|| Arc::clone(&interest.feed))
    }

    /// Forgets a channel, unless somebody subscribed meanwhile.
    pub(super) fn forget(&self, channel: &Channel) {
        let mut stripe = self.stripe(channel).lock();
        if stripe.get(channel).is_some_and(|interest| interest.total() == 0) {
            stripe.remove(channel);
        }
    }

    /// Calls `each` for every shard that has subscribers of `channel`.
    pub(super) fn for_each_shard(&self, channel: &Channel, mut each: impl FnMut(ShardId)) {
        let stripe = self.stripe(channel).lock();
        let Some(interest) = stripe.get(channel) else { return };
        for (index, count) in interest.subscribers.iter().enumerate() {
            if *count > 0 {
                each(ShardId::new(index));
            }
        }
    }

    /// Channels that take memory, with subscribers or without.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.lock().len()).sum()
    }

    /// Every channel with subscribers for which `wanted` holds, with their number. Looks at all channels.
    pub(super) fn list(&self, wanted: impl Fn(&Channel) -> bool) -> Vec<(Channel, usize)> {
        let mut found = Vec::new();
        for stripe in &self.stripes {
            let stripe = stripe.lock();
            let held = stripe.iter().map(|(channel, interest)| (channel, interest.total()));
            let held = held.filter(|(channel, total)| *total > 0 && wanted(channel));
            found.extend(held.map(|(channel, total)| (channel.clone(), total)));
        }
        found
    }
}
