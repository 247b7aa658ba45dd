//! The embedded broker: one node, nothing to install.
//!
//! History, idempotency keys and versions live in the memory of the process and end with it.

mod answers;
mod expiry;
mod stream;
mod stripe;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use self::stripe::Stripe;
use super::{Broker, BrokerError, Draft, History, PublishOptions, Published, Range, Receiver};
use crate::model::{Channel, Notice};

/// How many locks the channels are spread over.
const STRIPES: usize = 64;
/// How long expired histories are given back at a stretch.
const SWEEP_SLICE: Duration = Duration::from_micros(50);
/// What lies between two stretches.
const SWEEP_PAUSE: Duration = Duration::from_millis(1);

/// Delivers inside the process.
///
/// A publication gets its offset and is handed to the receiver under the lock of its channel, with no await
/// inside: that lock is the order of the channel. What has expired is never seen; the memory of channels that
/// nobody uses any more is given back by [`sweep`](Self::sweep).
pub struct MemoryBroker {
    receiver: Arc<dyn Receiver>,
    hasher: RandomState,
    stripes: Box<[Mutex<Stripe>]>,
}

impl MemoryBroker {
    /// A broker that delivers to `receiver`.
    pub fn new(receiver: Arc<dyn Receiver>) -> Self {
        let now = Instant::now();
        let stripes = (0..STRIPES).map(|_| Mutex::new(Stripe::new(now))).collect();
        Self { receiver, hasher: RandomState::new(), stripes }
    }

    /// Gives back the memory of what has expired. To be called every second or so, by one task.
    ///
    /// Looks at nothing but what is due. It takes a small share of a core at most: a million publications that end
    /// together would keep one for a good part of a second, and those who deliver share it.
    pub async fn sweep(&self) {
        let now = Instant::now();
        let mut slice = now;
        for stripe in &self.stripes {
            while stripe.lock().expire(now) {
                if slice.elapsed() >= SWEEP_SLICE {
                    sleep(SWEEP_PAUSE).await;
                    slice = Instant::now();
                }
            }
        }
    }

    fn stripe(&self, channel: &Channel) -> &Mutex<Stripe> {
        let hash = self.hasher.hash_one(channel);
        &self.stripes[hash as usize % STRIPES]
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn subscribe(&self, channel: &Channel) -> Result<(), BrokerError> {
        self.stripe(channel).lock().subscribed.insert(channel.clone());
        Ok(())
    }

    async fn unsubscribe(&self, channel: &Channel) -> Result<(), BrokerError> {
        self.stripe(channel).lock().subscribed.remove(channel);
        Ok(())
    }

    async fn publish(
        &self,
        channel: &Channel,
        drafts: Vec<Draft>,
        options: PublishOptions,
    ) -> Result<Vec<Published>, BrokerError> {
        let mut stripe = self.stripe(channel).lock();
        let accepted = stripe.accept(channel, drafts, options, Instant::now());
        if !accepted.publications.is_empty() && stripe.subscribed.contains(channel) {
            self.receiver.deliver(channel, accepted.epoch.as_ref(), &accepted.publications);
        }
        Ok(accepted.published)
    }

    async fn announce(&self, channel: &Channel, notice: Notice) -> Result<(), BrokerError> {
        let stripe = self.stripe(channel).lock();
        if stripe.subscribed.contains(channel) {
            self.receiver.announce(channel, &notice);
        }
        Ok(())
    }

    async fn history(
        &self,
        channel: &Channel,
        range: Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        Ok(self.stripe(channel).lock().history(channel, &range, meta_ttl, Instant::now()))
    }

    async fn remove_history(&self, channel: &Channel) -> Result<(), BrokerError> {
        self.stripe(channel).lock().remove_history(channel);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
