//! What carries publications from the node that accepted them to every node that holds the channel, and notices
//! of who joined and left.
//!
//! A broker knows channels and what is sent to them. It does not know who subscribes: it hands what arrives to
//! one [`Receiver`]. Every implementation passes the suite in `contract.rs`.

#[cfg(test)]
mod contract;
mod memory;
mod redis;
#[cfg(test)]
pub(crate) mod unruly;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use memory::MemoryBroker;
pub use redis::RedisBroker;

use crate::model::{Channel, Epoch, Notice, Position, Publication};

/// The broker did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// No answer in time, or nobody to ask; a publication may or may not have been sent.
    #[error("broker unavailable")]
    Unavailable,
    /// It refused, for now or until an operator acts; nothing was done.
    #[error("broker refused")]
    Refused,
    /// It has no room for what is to be kept; nothing was done.
    #[error("broker storage is full")]
    Full,
}

impl BrokerError {
    /// A word for it, for traces.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::Full => "full",
        }
    }
}

/// Takes what a broker delivers.
pub trait Receiver: Send + Sync + 'static {
    /// Takes `publications` of `channel`, in their order. `epoch` is that of their offsets; `None` if they are
    /// in no history.
    ///
    /// Called for one channel at a time, in the order of the channel; never waits. What was missed and read from the
    /// history comes in the order of the history, and may so overtake what is in none.
    fn deliver(&self, channel: &Channel, epoch: Option<&Epoch>, publications: &[Arc<Publication>]);

    /// Takes a notice of `channel`. Called as [`deliver`](Self::deliver) is, in one order with it.
    fn announce(&self, channel: &Channel, notice: &Notice);

    /// What is missing of the history of `channel` up to `top` will not be delivered: whoever follows the history
    /// and has not everything up to there must be told. Called as [`deliver`](Self::deliver) is, in one order with
    /// it.
    fn lose(&self, channel: &Channel, top: &Position);
}

/// How a channel keeps what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Most publications kept; at least 1.
    pub size: usize,
    /// How long they are kept after the last one; above zero.
    pub ttl: Duration,
    /// How long the epoch and the top offset are kept after the last publication; at least `ttl`.
    pub meta_ttl: Duration,
}

/// What is to be published.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The publication; its offset is for the broker to set.
    pub publication: Publication,
    /// A key by which a repetition is known, within the channel; `None` for none.
    pub idempotency_key: Option<String>,
    /// Version of the data; 0 for none. Only with a history: one that is not above the last of the same
    /// `version_epoch` is suppressed.
    pub version: u64,
    /// Which versions can be compared; empty: with whatever was last.
    pub version_epoch: String,
}

impl Draft {
    /// Publishes `publication` without any condition.
    pub fn of(publication: Publication) -> Self {
        Self { publication, idempotency_key: None, version: 0, version_epoch: String::new() }
    }
}

/// How publishing treats a channel. The default keeps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishOptions {
    /// `None`: the publications are delivered and not kept.
    pub retention: Option<Retention>,
    /// How long a key is remembered; zero for not at all.
    pub idempotency_ttl: Duration,
}

/// What became of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its place in the history: its own, or for a suppressed one what the first answer was (key) or the top
    /// (version). `None` without a history.
    pub position: Option<Position>,
    /// Whether it was suppressed, because of its key or its version: neither kept nor delivered.
    pub is_suppressed: bool,
}

/// Which part of a history to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Strictly after this offset, or before it in `reverse`. `None`: from the oldest kept, or the newest.
    pub since: Option<u64>,
    /// Newest first.
    pub reverse: bool,
    /// Most publications; `None` for all, 0 for the position alone.
    pub limit: Option<usize>,
    /// Most bytes of them together ([`Publication::cost_bytes`]), but at least one; `None` for no limit.
    pub bytes_max: Option<usize>,
}

impl Range {
    /// As many of `publications` as its limits allow; the first of them whatever its size.
    fn limited<'a>(&self, publications: impl Iterator<Item = &'a Arc<Publication>>) -> Vec<Arc<Publication>> {
        let bytes_max = self.bytes_max.unwrap_or(usize::MAX);
        let mut bytes = 0_usize;
        let fits = |publication: &&Arc<Publication>| {
            let is_first = bytes == 0;
            bytes = bytes.saturating_add(publication.cost_bytes());
            is_first || bytes <= bytes_max
        };
        publications.take(self.limit.unwrap_or(usize::MAX)).take_while(fits).cloned().collect()
    }
}

/// A part of a history.
#[derive(Clone, Debug)]
pub struct History {
    /// The top of the history at the moment of reading, with its epoch.
    pub top: Position,
    /// In ascending order of offsets, or descending if read in reverse.
    pub publications: Vec<Arc<Publication>>,
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

    /// Sends `drafts` to every node that is subscribed to `channel`, this one included, and keeps them if
    /// `options` say so. Keeping and sending are one step.
    ///
    /// What is not suppressed reaches each receiver in this order and in one piece, and calls that follow one
    /// another in the order of the calls. Delivery is at most once. With a history their offsets follow one
    /// another. Answers each draft, in order.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker did not answer: they may or may not have been kept and sent.
    async fn publish(
        &self,
        channel: &Channel,
        drafts: Vec<Draft>,
        options: PublishOptions,
    ) -> Result<Vec<Published>, BrokerError>;

    /// Sends `notice` to every node that is subscribed to `channel`, this one included. It is kept nowhere.
    ///
    /// Publications and notices of calls that follow one another reach each receiver in the order of the calls.
    /// Delivery is at most once.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker did not answer: it may or may not have been sent.
    async fn announce(&self, channel: &Channel, notice: Notice) -> Result<(), BrokerError>;

    /// Reads `range` of the history of `channel`.
    ///
    /// Asking makes the metadata of a history that has none: the epoch that is answered stays, before the first
    /// publication too, for `meta_ttl` after the last call that needed it.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker did not answer.
    async fn history(
        &self,
        channel: &Channel,
        range: Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError>;

    /// Reads `range` of the history of `channel` for a subscriber that catches up, or starts at the top. `_epoch` is
    /// that of the offset in `range`, as the subscriber knows it; empty: whatever it is.
    ///
    /// The broker must be subscribed to `channel`, and the subscriber registered for what is delivered, before this is
    /// called: the answer may come from what was just delivered here. Then its top is where delivery was at that
    /// moment, whatever comes after it is delivered after it, and publications may be in it that the history has
    /// given up or lost on another node's [`remove_history`](Self::remove_history) a few seconds ago.
    ///
    /// Answering from there does not make the epoch stay any longer.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker did not answer.
    async fn catch_up(
        &self,
        channel: &Channel,
        _epoch: &str,
        range: Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        self.history(channel, range, meta_ttl).await
    }

    /// Removes what is kept of `channel`. Epoch, top offset and last version stay.
    ///
    /// Who asks this broker afterwards gets nothing of it; who [catches up](Self::catch_up) on another node may, for a
    /// few seconds.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker did not answer.
    async fn remove_history(&self, channel: &Channel) -> Result<(), BrokerError>;
}
