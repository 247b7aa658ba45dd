//! What carries publications from the node that accepted them to every node that holds the channel.
//!
//! A broker knows channels and publications. It does not know who subscribes: it hands what arrives to
//! one [`Receiver`]. Every implementation passes the suite in `contract.rs`.

#[cfg(test)]
mod contract;
mod memory;

use std::sync::Arc;

use async_trait::async_trait;

pub use memory::MemoryBroker;

use crate::model::{Channel, Publication};

/// The broker did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No answer in time; a publication may or may not have been sent.
    #[error("broker unavailable")]
    Unavailable,
}

/// Takes what a broker delivers.
pub trait Receiver: Send + Sync + 'static {
    /// Takes `publications` of `channel`, in their order.
    ///
    /// Called for one channel at a time, in the order of the channel; never waits.
    fn deliver(&self, channel: &Channel, publications: &[Arc<Publication>]);
}

/// Publish and subscribe between nodes.
///
/// A broker is asynchronous: any call may take time, and calls for one channel may be under way at once.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Starts to hand publications of `channel` to the receiver. Again is harmless.
    ///
    /// What is published after this returned is delivered.
    ///
    /// # Errors
    /// [`BrokerError`] when it cannot be said that the subscription is live.
    async fn subscribe(&self, channel: &Channel) -> Result<(), BrokerError>;

    /// Stops what [`subscribe`](Self::subscribe) started. Without a subscription it does nothing.
    ///
    /// # Errors
    /// [`BrokerError`] when publications may still arrive.
    async fn unsubscribe(&self, channel: &Channel) -> Result<(), BrokerError>;

    /// Sends `publications` to every node that is subscribed to `channel`, this one included.
    ///
    /// They reach each receiver in this order and in one piece, and calls that follow one another in the
    /// order of the calls. Delivery is at most once.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker did not answer: they may or may not have been sent.
    async fn publish(
        &self,
        channel: &Channel,
        publications: Vec<Arc<Publication>>,
    ) -> Result<(), BrokerError>;
}
