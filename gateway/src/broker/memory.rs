//! The embedded broker: one node, nothing to install.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Broker, BrokerError, Receiver};
use crate::model::{Channel, Publication};

/// How many locks the channels are spread over.
const STRIPES: usize = 64;

/// Delivers inside the process.
///
/// A publication is handed to the receiver under the lock of its channel, with no await inside: that lock
/// is the order of the channel.
pub struct MemoryBroker {
    receiver: Arc<dyn Receiver>,
    hasher: RandomState,
    subscribed: Box<[Mutex<HashSet<Channel>>]>,
}

impl MemoryBroker {
    /// A broker that delivers to `receiver`.
    pub fn new(receiver: Arc<dyn Receiver>) -> Self {
        let subscribed = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { receiver, hasher: RandomState::new(), subscribed }
    }

    fn stripe(&self, channel: &Channel) -> &Mutex<HashSet<Channel>> {
        let hash = self.hasher.hash_one(channel);
        &self.subscribed[hash as usize % STRIPES]
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn subscribe(&self, channel: &Channel) -> Result<(), BrokerError> {
        self.stripe(channel).lock().insert(channel.clone());
        Ok(())
    }

    async fn unsubscribe(&self, channel: &Channel) -> Result<(), BrokerError> {
        self.stripe(channel).lock().remove(channel);
        Ok(())
    }

    async fn publish(
        &self,
        channel: &Channel,
        publications: Vec<Arc<Publication>>,
    ) -> Result<(), BrokerError> {
        let subscribed = self.stripe(channel).lock();
        if subscribed.contains(channel) {
            self.receiver.deliver(channel, &publications);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    contract::suite!(|receiver| async move { Arc::new(MemoryBroker::new(receiver)) });
}
