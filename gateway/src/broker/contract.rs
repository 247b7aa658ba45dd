//! What every broker promises, as tests. An implementation calls [`suite!`] with how to make one.
//!
//! Nothing here depends on how fast time passes: what a broker forgets it tests itself, with its own clock.

mod history;
mod notices;
mod suppression;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

pub(super) use self::history::*;
pub(super) use self::notices::*;
pub(super) use self::suppression::*;
use super::{Broker, Draft, PublishOptions, Published, Receiver, Retention};
use crate::model::{Channel, Epoch, Notice, Position, Publication, RawJson};

/// Runs the contract against the broker that `$make` builds from a receiver.
macro_rules! suite {
    ($make:expr) => {
        $crate::broker::contract::suite!(@each $make;
            a_publication_reaches_a_subscribed_channel,
            nothing_arrives_before_subscribing_or_after_unsubscribing,
            subscribing_twice_delivers_once,
            channels_do_not_hear_each_other,
            a_run_of_publications_arrives_in_order_and_in_one_piece,
            publishers_in_parallel_are_delivered_completely_and_each_in_its_order,
            offsets_count_from_one_and_arrive_with_their_epoch,
            without_a_history_there_is_no_position,
            publishers_in_parallel_get_offsets_in_the_order_of_delivery,
            an_epoch_stands_before_the_first_publication,
            each_channel_has_its_own_history,
            no_more_is_kept_than_the_size,
            a_publication_is_kept_as_it_was_published,
            what_is_not_kept_takes_no_offset,
            removing_keeps_epoch_and_offset,
            a_part_is_read_forward_and_in_reverse,
            a_part_is_limited_in_bytes,
            a_key_answers_like_the_first_time,
            a_key_works_without_a_history,
            a_key_is_of_its_channel,
            a_key_that_is_used_all_at_once_publishes_once,
            a_run_is_delivered_without_what_is_suppressed,
            a_version_that_is_not_above_the_last_is_suppressed,
            versions_need_a_history,
            versions_outlive_what_is_kept,
            a_notice_reaches_subscribed_channels_only,
            a_notice_arrives_as_it_was_sent,
            notices_and_publications_keep_their_order,
            a_notice_is_kept_in_no_history,
        );
    };
    (@each $make:expr; $($name:ident),* $(,)?) => {
        $(
            // Several threads, so that publishers in parallel are in parallel.
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let record = $crate::broker::contract::Record::new();
                let make = $make;
                let broker = make(record.clone()).await;
                $crate::broker::contract::$name(broker, record).await;
            }
        )*
    };
}
pub(super) use suite;

/// One call of the receiver.
#[derive(Clone, Debug, PartialEq)]
struct Delivered {
    epoch: Option<Epoch>,
    /// Offset and payload of each. A notice is `join ann`, without an offset.
    publications: Vec<(u64, String)>,
}

/// Remembers what was delivered, and lets a test wait for it.
pub(super) struct Record {
    delivered: Mutex<HashMap<Channel, Vec<Delivered>>>,
    notices: Mutex<Vec<Notice>>,
    total: watch::Sender<usize>,
}

impl Record {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            delivered: Mutex::default(),
            notices: Mutex::default(),
            total: watch::Sender::new(0),
        })
    }

    /// Waits until `count` publications and notices arrived in all, then answers those of `channel`, run by run.
    async fn delivered(&self, channel: &Channel, count: usize) -> Vec<Delivered> {
        let mut total = self.total.subscribe();
        total.wait_for(|total| *total >= count).await.unwrap();
        self.delivered.lock().get(channel).cloned().unwrap_or_default()
    }

    /// The payloads alone.
    async fn runs(&self, channel: &Channel, count: usize) -> Vec<Vec<String>> {
        let texts = |run: Delivered| run.publications.into_iter().map(|(_, text)| text).collect();
        self.delivered(channel, count).await.into_iter().map(texts).collect()
    }

    async fn flat(&self, channel: &Channel, count: usize) -> Vec<String> {
        self.runs(channel, count).await.concat()
    }

    /// All notices that arrived.
    fn notices(&self) -> Vec<Notice> {
        self.notices.lock().clone()
    }

    fn note(&self, channel: &Channel, run: Delivered) {
        // Gives the others a chance to overtake, which they must not take.
        std::thread::yield_now();
        let count = run.publications.len();
        self.delivered.lock().entry(channel.clone()).or_default().push(run);
        self.total.send_modify(|total| *total += count);
    }
}

impl Receiver for Record {
    fn deliver(&self, channel: &Channel, epoch: Option<&Epoch>, publications: &[Arc<Publication>]) {
        self.note(channel, Delivered { epoch: epoch.cloned(), publications: numbered(publications) });
    }

    fn announce(&self, channel: &Channel, notice: &Notice) {
        self.notices.lock().push(notice.clone());
        let what = if matches!(notice, Notice::Join(_)) { "join" } else { "leave" };
        let text = format!("{what} {}", notice.info().user);
        self.note(channel, Delivered { epoch: None, publications: vec![(0, text)] });
    }

    fn lose(&self, channel: &Channel, top: &Position) {
        panic!("nothing is lost, but something of {channel} up to {top:?} is");
    }
}

/// Offset and payload of each.
fn numbered(publications: &[Arc<Publication>]) -> Vec<(u64, String)> {
    let text = |publication: &Publication| String::from_utf8(publication.data.as_bytes().to_vec()).unwrap();
    publications.iter().map(|publication| (publication.offset, text(publication))).collect()
}

fn channel(name: &str) -> Channel {
    Channel::parse(name, 255).unwrap()
}

fn drafts(texts: impl IntoIterator<Item = String>) -> Vec<Draft> {
    let draft = |text: String| Draft::of(Publication::of(RawJson::parse(text.as_bytes()).unwrap()));
    texts.into_iter().map(draft).collect()
}

fn one(text: &str) -> Vec<Draft> {
    drafts([text.to_owned()])
}

/// Drafts whose payloads are these numbers.
fn numbers(numbers: RangeInclusive<u64>) -> Vec<Draft> {
    drafts(numbers.map(|number| number.to_string()))
}

const META_TTL: Duration = Duration::from_secs(3600);

/// Keep as many publications, for longer than a test takes.
fn keeping(size: usize) -> PublishOptions {
    let retention = Retention { size, ttl: Duration::from_secs(600), meta_ttl: META_TTL };
    PublishOptions { retention: Some(retention), ..PLAIN }
}

/// What became of the only draft.
async fn publish_one(
    broker: &impl Broker,
    channel: &Channel,
    draft: Draft,
    options: PublishOptions,
) -> Published {
    let mut published = broker.publish(channel, vec![draft], options).await.unwrap();
    assert_eq!(published.len(), 1);
    published.remove(0)
}

/// Deliver, and keep nothing.
const PLAIN: PublishOptions = PublishOptions { retention: None, idempotency_ttl: Duration::from_secs(60) };

pub(super) async fn a_publication_reaches_a_subscribed_channel(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    broker.subscribe(&channel("a")).await.unwrap();
    broker.publish(&channel("a"), one("1"), PLAIN).await.unwrap();
    assert_eq!(record.flat(&channel("a"), 1).await, ["1"]);
}

pub(super) async fn nothing_arrives_before_subscribing_or_after_unsubscribing(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    broker.publish(&channel("a"), one("1"), PLAIN).await.unwrap();
    broker.subscribe(&channel("a")).await.unwrap();
    broker.publish(&channel("a"), one("2"), PLAIN).await.unwrap();
    assert_eq!(record.flat(&channel("a"), 1).await, ["2"]);
    broker.unsubscribe(&channel("a")).await.unwrap();
    broker.unsubscribe(&channel("a")).await.unwrap();
    broker.publish(&channel("a"), one("3"), PLAIN).await.unwrap();
    // What is published to another channel comes after, so its arrival shows that nothing else will.
    broker.subscribe(&channel("end")).await.unwrap();
    broker.publish(&channel("end"), one("4"), PLAIN).await.unwrap();
    assert_eq!(record.flat(&channel("end"), 2).await, ["4"]);
    assert_eq!(record.flat(&channel("a"), 2).await, ["2"]);
}

pub(super) async fn subscribing_twice_delivers_once(broker: Arc<impl Broker>, record: Arc<Record>) {
    broker.subscribe(&channel("a")).await.unwrap();
    broker.subscribe(&channel("a")).await.unwrap();
    broker.publish(&channel("a"), one("1"), PLAIN).await.unwrap();
    broker.publish(&channel("a"), one("2"), PLAIN).await.unwrap();
    assert_eq!(record.flat(&channel("a"), 2).await, ["1", "2"]);
}

pub(super) async fn channels_do_not_hear_each_other(broker: Arc<impl Broker>, record: Arc<Record>) {
    for name in ["a", "b"] {
        broker.subscribe(&channel(name)).await.unwrap();
    }
    broker.publish(&channel("a"), one("1"), PLAIN).await.unwrap();
    broker.publish(&channel("b"), one("2"), PLAIN).await.unwrap();
    broker.publish(&channel("c"), one("3"), PLAIN).await.unwrap();
    assert_eq!(record.flat(&channel("a"), 2).await, ["1"]);
    assert_eq!(record.flat(&channel("b"), 2).await, ["2"]);
}

pub(super) async fn a_run_of_publications_arrives_in_order_and_in_one_piece(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    broker.subscribe(&channel("a")).await.unwrap();
    let texts: Vec<String> = (0..16).map(|number| number.to_string()).collect();
    broker.publish(&channel("a"), drafts(texts.clone()), PLAIN).await.unwrap();
    assert_eq!(record.runs(&channel("a"), 16).await, [texts]);
}

pub(super) async fn publishers_in_parallel_are_delivered_completely_and_each_in_its_order(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    const PUBLISHERS: usize = 8;
    const EACH: usize = 200;
    broker.subscribe(&channel("a")).await.unwrap();
    let publisher = |publisher: usize| {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            for number in 0..EACH {
                broker.publish(&channel("a"), one(&format!("[{publisher},{number}]")), PLAIN).await.unwrap();
            }
        })
    };
    let publishers: Vec<_> = (0..PUBLISHERS).map(publisher).collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let delivered = record.flat(&channel("a"), PUBLISHERS * EACH).await;
    assert_eq!(delivered.len(), PUBLISHERS * EACH);
    for publisher in 0..PUBLISHERS {
        let prefix = format!("[{publisher},");
        let of_publisher: Vec<_> = delivered.iter().filter(|text| text.starts_with(&prefix)).collect();
        let expected: Vec<_> = (0..EACH).map(|number| format!("[{publisher},{number}]")).collect();
        assert_eq!(of_publisher, expected.iter().collect::<Vec<_>>());
    }
}
