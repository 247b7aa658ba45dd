//! From the broker to the inboxes.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use smallvec::SmallVec;

use super::interest::Interests;
use super::{Cargo, Delivery, Inbox, ShardId};
use crate::broker::Receiver;
use crate::cluster::Cluster;
use crate::metrics::{DropReason, Metrics};
use crate::model::{Channel, Epoch, Notice, Position, Publication};
use crate::telemetry::traces::Traces;

/// Most bytes that are delivered in one piece: a socket that cannot take it at once must have room for it in its
/// outbox.
const RUN_BYTES_MAX: usize = 64 << 10;

/// Hands what the broker delivers to the shards that have subscribers for it.
pub struct Dispatch {
    pub(super) interests: Interests,
    pub(super) inboxes: Vec<Arc<Inbox>>,
    /// Who hears what comes on channels of the gateway itself.
    cluster: OnceLock<Weak<Cluster>>,
    metrics: Arc<Metrics>,
    pub(super) traces: Traces,
}

impl Dispatch {
    /// For `shards` shards, each with an inbox of at most `inbox_bytes_max` bytes. Traces nothing.
    pub fn new(shards: usize, inbox_bytes_max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Self::traced(shards, inbox_bytes_max, metrics, Traces::default())
    }

    /// The same, with a span for what is delivered and traced.
    pub fn traced(shards: usize, inbox_bytes_max: usize, metrics: Arc<Metrics>, traces: Traces) -> Arc<Self> {
        let inboxes = (0..shards).map(|_| Arc::new(Inbox::new(inbox_bytes_max))).collect();
        let (interests, cluster) = (Interests::new(shards), OnceLock::new());
        Arc::new(Self { interests, inboxes, cluster, metrics, traces })
    }
}

impl Dispatch {
    /// What comes on channels of the gateway itself is for `cluster`.
    pub(super) fn hand_commands_to(&self, cluster: &Arc<Cluster>) {
        let is_first = self.cluster.set(Arc::downgrade(cluster)).is_ok();
        debug_assert!(is_first, "a dispatch is of one node");
    }

    fn cluster(&self) -> Option<Arc<Cluster>> {
        self.cluster.get()?.upgrade()
    }
}

impl Receiver for Dispatch {
    /// One push per shard with subscribers, or several if it is much. A shard whose inbox is full loses its copy,
    /// which is counted.
    fn deliver(&self, channel: &Channel, epoch: Option<&Epoch>, publications: &[Arc<Publication>]) {
        if channel.is_system() {
            return self
                .cluster()
                .into_iter()
                .for_each(|cluster| cluster.deliver(channel, epoch, publications));
        }
        let mut rest = publications;
        while !rest.is_empty() {
            let (run, next) = rest.split_at(count_within(rest, RUN_BYTES_MAX));
            self.deliver_run(channel, epoch, run);
            rest = next;
        }
    }

    /// One push per shard with subscribers, whether or not they hear notices.
    fn announce(&self, channel: &Channel, notice: &Notice) {
        let accepted_at = Instant::now();
        // The name is in each frame, and a notice has little else.
        let cost_bytes = notice.cost_bytes() + channel.as_str().len();
        self.interests.for_each_shard(channel, |shard: ShardId| {
            let (channel, cargo) = (channel.clone(), Cargo::Notice(notice.clone()));
            let delivery = Delivery { channel, cargo, accepted_at, cost_bytes, processing: None };
            if self.inboxes[shard.index()].deliver(delivery).is_err() {
                self.metrics.notice_dropped();
            }
        });
    }

    /// One push per shard with subscribers. A shard whose inbox is full finds out by the next position check.
    fn lose(&self, channel: &Channel, top: &Position) {
        if channel.is_system() {
            return self.cluster().into_iter().for_each(|cluster| cluster.lose(channel, top));
        }
        let accepted_at = Instant::now();
        let cost_bytes = size_of::<Delivery>();
        self.interests.for_each_shard(channel, |shard: ShardId| {
            let (channel, cargo) = (channel.clone(), Cargo::Loss(top.clone()));
            let delivery = Delivery { channel, cargo, accepted_at, cost_bytes, processing: None };
            if self.inboxes[shard.index()].deliver(delivery).is_err() {
                tracing::debug!("the word of a loss did not fit into the inbox of a shard");
            }
        });
    }
}

impl Dispatch {
    fn deliver_run(&self, channel: &Channel, epoch: Option<&Epoch>, publications: &[Arc<Publication>]) {
        let accepted_at = Instant::now();
        let cost_bytes = publications.iter().map(|publication| publication.cost_bytes()).sum();
        let processing = self.traces.processing(channel, publications);
        self.interests.for_each_shard(channel, |shard: ShardId| {
            let publications: SmallVec<[_; 1]> = publications.iter().cloned().collect();
            let count = publications.len();
            let cargo = Cargo::Publications { publications, epoch: epoch.cloned() };
            let (channel, traced) = (channel.clone(), processing.clone());
            let delivery = Delivery { channel, cargo, accepted_at, cost_bytes, processing: traced };
            if self.inboxes[shard.index()].deliver(delivery).is_err() {
                self.metrics.publications_dropped(DropReason::InboxFull, count);
                processing.iter().for_each(|processing| processing.missed());
            }
        });
    }
}

/// How many of `publications` are within `bytes_max` together; at least one.
fn count_within(publications: &[Arc<Publication>], bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = |publication: &&Arc<Publication>| {
        bytes += publication.cost_bytes();
        bytes <= bytes_max
    };
    publications.iter().take_while(fits).count().max(1)
}
