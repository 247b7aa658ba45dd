//! From the broker to the inboxes.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::interest::Interests;
use super::{Delivery, Inbox, ShardId};
use crate::broker::Receiver;
use crate::metrics::{DropReason, Metrics};
use crate::model::{Channel, Epoch, Publication};

/// Hands what the broker delivers to the shards that have subscribers for it.
#[derive(Debug)]
pub struct Dispatch {
    pub(super) interests: Interests,
    pub(super) inboxes: Vec<Arc<Inbox>>,
    metrics: Arc<Metrics>,
}

impl Dispatch {
    /// For `shards` shards, each with an inbox of at most `inbox_bytes_max` bytes.
    pub fn new(shards: usize, inbox_bytes_max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let inboxes = (0..shards).map(|_| Arc::new(Inbox::new(inbox_bytes_max))).collect();
        Arc::new(Self { interests: Interests::new(shards), inboxes, metrics })
    }
}

impl Receiver for Dispatch {
    /// One push per shard with subscribers. A shard whose inbox is full loses its copy, which is counted.
    fn deliver(&self, channel: &Channel, epoch: Option<&Epoch>, publications: &[Arc<Publication>]) {
        let accepted_at = Instant::now();
        let cost_bytes = publications.iter().map(|publication| publication.cost_bytes()).sum();
        self.interests.for_each_shard(channel, |shard: ShardId| {
            let publications: SmallVec<[_; 1]> = publications.iter().cloned().collect();
            let count = publications.len();
            let (channel, epoch) = (channel.clone(), epoch.cloned());
            let delivery = Delivery { channel, publications, epoch, accepted_at, cost_bytes };
            if self.inboxes[shard.index()].deliver(delivery).is_err() {
                self.metrics.publications_dropped(DropReason::InboxFull, count);
            }
        });
    }
}
