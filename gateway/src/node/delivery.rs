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
    traces: Traces,
}

impl Dispatch {
    /// For `shards` shards, each with an inbox of at most `inbox_bytes_max` bytes. Traces nothing.
    pub fn new(shards: usize, inbox_bytes_max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Self::traced(shards, inbox_bytes_max, metrics, Traces::default())
    }

    /// The same, with a span for what is delivered and traced.
    pub fn traced(shards: usize, inbox_bytes_max: usize, metrics: Arc<Metrics>, traces: Traces) -> Arc<Self> {
        let inboxes = (0..shards).map(|_| Arc::new(Inbox::new(inbox_bytes_max))).collect();
        let (interests, cluster) = (Interests::new(shards, Arc::clone(&metrics)), OnceLock::new());
        Arc::new(Self { interests, inboxes, cluster, metrics, traces })
    }
}

impl Dispatch {
    /// What it traces with.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NamespaceId;
    use crate::model::{RawJson, TraceParent};

    fn publication(bytes: usize, is_traced: bool) -> Arc<Publication> {
        let trace = is_traced.then(|| Box::new(TraceParent { trace: [1; 16], span: [1; 8] }));
        Arc::new(Publication { trace, ..Publication::of(RawJson::string(&"x".repeat(bytes))) })
    }

    /// Of a node of two shards, both of which have subscribers.
    fn dispatch(inbox_bytes_max: usize, traces: Traces) -> (Arc<Dispatch>, Channel) {
        let dispatch = Dispatch::traced(2, inbox_bytes_max, Arc::new(Metrics::new()), traces);
        let channel = Channel::parse("chat:a", 255).unwrap();
        (0..2)
            .for_each(|shard| drop(dispatch.interests.add(ShardId::new(shard), &channel, NamespaceId::NONE)));
        (dispatch, channel)
    }

    fn take(dispatch: &Dispatch, shard: usize) -> usize {
        let mut taken = Vec::new();
        dispatch.inboxes[shard].drain(usize::MAX, &mut taken);
        taken.len()
    }

    #[test]
    fn a_span_is_for_a_publication_and_ends_with_the_last_shard() {
        let (traces, recorded) = Traces::recording(0.0);
        let (dispatch, channel) = dispatch(1 << 20, traces);
        // More than goes out in one piece.
        let run = [(40_000, true), (40_000, false), (10, true), (10, false)]
            .map(|(bytes, is_traced)| publication(bytes, is_traced));
        dispatch.deliver(&channel, None, &run);
        assert!(take(&dispatch, 0) > 1);
        assert!(recorded.called("process chat").is_empty(), "the other shard is not done");
        take(&dispatch, 1);
        let spans = recorded.called("process chat");
        let sizes: Vec<_> = spans.iter().map(|span| &*span["messaging.message.body.size"]).collect();
        assert_eq!(sizes, ["40002", "12"]);
        assert!(spans.iter().all(|span| !span.contains_key("failed")), "{spans:?}");
    }

    #[test]
    fn a_span_says_that_a_shard_had_no_room() {
        let (traces, recorded) = Traces::recording(0.0);
        let (dispatch, channel) = dispatch(1_000, traces);
        dispatch.deliver(&channel, None, &[publication(2_000, true)]);
        let spans = recorded.called("process chat");
        assert_eq!(spans.len(), 1);
        assert_eq!((&*spans[0]["error.type"], &*spans[0]["clarion.recipients"]), ("inbox_full", "0"));
        assert!(spans[0].contains_key("failed"));
    }
}
