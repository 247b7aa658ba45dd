//! What every broker promises, as tests. An implementation calls [`suite!`] with how to make one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Broker, Draft, PublishOptions, Receiver};
use crate::model::{Channel, Epoch, Publication, RawJson};

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
        );
    };
    (@each $make:expr; $($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
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

/// Remembers what was delivered, and lets a test wait for it.
pub(super) struct Record {
    delivered: Mutex<HashMap<Channel, Vec<Vec<String>>>>,
    total: watch::Sender<usize>,
}

impl Record {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { delivered: Mutex::default(), total: watch::Sender::new(0) })
    }

    /// Waits until `count` publications arrived in all, then answers those of `channel`, run by run.
    async fn runs(&self, channel: &Channel, count: usize) -> Vec<Vec<String>> {
        let mut total = self.total.subscribe();
        total.wait_for(|total| *total >= count).await.unwrap();
        self.delivered.lock().get(channel).cloned().unwrap_or_default()
    }

    async fn flat(&self, channel: &Channel, count: usize) -> Vec<String> {
        self.runs(channel, count).await.concat()
    }
}

impl Receiver for Record {
    fn deliver(&self, channel: &Channel, _: Option<&Epoch>, publications: &[Arc<Publication>]) {
        let text =
            |publication: &Arc<Publication>| String::from_utf8(publication.data.as_bytes().to_vec()).unwrap();
        let run = publications.iter().map(text).collect();
        self.delivered.lock().entry(channel.clone()).or_default().push(run);
        self.total.send_modify(|total| *total += publications.len());
    }
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
