//! What is not published, because of its key or its version.

use std::sync::Arc;

use super::{META_TTL, PLAIN, Record, channel, keeping, numbered, numbers, one, publish_one};
use crate::broker::{Broker, Draft, Published, Range};
use crate::model::Channel;

fn keyed(text: &str, key: &str) -> Draft {
    Draft { idempotency_key: Some(key.to_owned()), ..one(text).remove(0) }
}

fn versioned(text: &str, version: u64, version_epoch: &str) -> Draft {
    Draft { version, version_epoch: version_epoch.to_owned(), ..one(text).remove(0) }
}

async fn kept(broker: &impl Broker, channel: &Channel) -> Vec<(u64, String)> {
    let history = broker.history(channel, Range::default(), META_TTL).await.unwrap();
    numbered(&history.publications)
}

pub(in crate::broker) async fn a_key_answers_like_the_first_time(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    let a = channel("a");
    broker.subscribe(&a).await.unwrap();
    let first = publish_one(&*broker, &a, keyed("1", "k"), keeping(10)).await;
    assert!(!first.is_suppressed);
    broker.publish(&a, one("2"), keeping(10)).await.unwrap();
    let replayed = Published { is_suppressed: true, ..first.clone() };
    assert_eq!(publish_one(&*broker, &a, keyed("3", "k"), keeping(10)).await, replayed);
    // Without a history too: what counts is what was answered first.
    assert_eq!(publish_one(&*broker, &a, keyed("4", "k"), PLAIN).await, replayed);
    broker.remove_history(&a).await.unwrap();
    assert_eq!(publish_one(&*broker, &a, keyed("5", "k"), keeping(10)).await, replayed);
    let other = publish_one(&*broker, &a, keyed("6", "other"), keeping(10)).await;
    assert_eq!(other.position.unwrap().offset, 3);
    assert_eq!(record.flat(&a, 3).await, ["1", "2", "6"]);
    assert_eq!(kept(&*broker, &a).await, [(3, "6".to_owned())]);
}

pub(in crate::broker) async fn a_key_works_without_a_history(broker: Arc<impl Broker>, record: Arc<Record>) {
    let a = channel("a");
    broker.subscribe(&a).await.unwrap();
    for is_suppressed in [false, true, true] {
        let published = publish_one(&*broker, &a, keyed("1", "k"), PLAIN).await;
        assert_eq!(published, Published { position: None, is_suppressed });
    }
    broker.publish(&a, one("2"), PLAIN).await.unwrap();
    assert_eq!(record.flat(&a, 2).await, ["1", "2"]);
}

pub(in crate::broker) async fn a_key_is_of_its_channel(broker: Arc<impl Broker>, _: Arc<Record>) {
    for name in ["a", "b"] {
        let published = publish_one(&*broker, &channel(name), keyed("1", "k"), keeping(10)).await;
        assert!(!published.is_suppressed);
        assert_eq!(published.position.unwrap().offset, 1);
    }
}

pub(in crate::broker) async fn a_key_that_is_used_all_at_once_publishes_once(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    let a = channel("a");
    broker.subscribe(&a).await.unwrap();
    let publisher = |_| {
        let (broker, a) = (Arc::clone(&broker), a.clone());
        tokio::spawn(async move { publish_one(&*broker, &a, keyed("1", "k"), keeping(10)).await })
    };
    let publishers: Vec<_> = (0..50).map(publisher).collect();
    let mut taken = 0;
    for publisher in publishers {
        let published = publisher.await.unwrap();
        assert_eq!(published.position.unwrap().offset, 1);
        taken += usize::from(!published.is_suppressed);
    }
    assert_eq!(taken, 1);
    broker.publish(&a, one("2"), keeping(10)).await.unwrap();
    assert_eq!(record.flat(&a, 2).await, ["1", "2"]);
}

pub(in crate::broker) async fn a_run_is_delivered_without_what_is_suppressed(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    let a = channel("a");
    broker.subscribe(&a).await.unwrap();
    let run = vec![
        keyed("1", "k"),
        keyed("0", "k"),
        versioned("2", 7, ""),
        versioned("0", 7, ""),
        one("3").remove(0),
    ];
    let published = broker.publish(&a, run, keeping(10)).await.unwrap();
    let suppressed: Vec<_> = published.iter().map(|published| published.is_suppressed).collect();
    assert_eq!(suppressed, [false, true, false, true, false]);
    let offsets = published.iter().map(|published| published.position.as_ref().unwrap().offset);
    assert!(offsets.eq([1, 1, 2, 2, 3]));
    broker.publish(&a, vec![keyed("0", "k"), versioned("0", 6, "")], keeping(10)).await.unwrap();
    broker.publish(&a, one("4"), keeping(10)).await.unwrap();
    assert_eq!(record.runs(&a, 4).await, [vec!["1", "2", "3"], vec!["4"]]);
    let kept: Vec<_> = kept(&*broker, &a).await.into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(kept, [1, 2, 3, 4]);
}

pub(in crate::broker) async fn a_version_that_is_not_above_the_last_is_suppressed(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    let a = channel("a");
    broker.subscribe(&a).await.unwrap();
    let mut top = 0;
    for (version, version_epoch, is_suppressed) in [
        (5, "x", false),
        (5, "x", true),
        (4, "x", true),
        (6, "x", false),
        // Without an epoch a version is compared with whatever was last.
        (6, "", true),
        (0, "x", false),
        // Another epoch begins anew.
        (1, "y", false),
        (6, "x", false),
        (7, "", false),
        (1, "x", false),
        (u64::MAX, "x", false),
        (u64::MAX, "x", true),
    ] {
        let draft = versioned("1", version, version_epoch);
        let published = publish_one(&*broker, &a, draft, keeping(20)).await;
        top += u64::from(!is_suppressed);
        assert_eq!(published.is_suppressed, is_suppressed, "{version} {version_epoch}");
        assert_eq!(published.position.unwrap().offset, top, "the answer is its place, or the top");
    }
    assert_eq!(record.flat(&a, top as usize).await.len(), top as usize);
    assert_eq!(kept(&*broker, &a).await.len(), top as usize);
}

pub(in crate::broker) async fn versions_need_a_history(broker: Arc<impl Broker>, record: Arc<Record>) {
    let a = channel("a");
    broker.subscribe(&a).await.unwrap();
    for text in ["1", "2"] {
        let published = publish_one(&*broker, &a, versioned(text, 5, "x"), PLAIN).await;
        assert!(!published.is_suppressed);
    }
    assert_eq!(record.flat(&a, 2).await, ["1", "2"]);
}

pub(in crate::broker) async fn versions_outlive_what_is_kept(broker: Arc<impl Broker>, _: Arc<Record>) {
    let a = channel("a");
    publish_one(&*broker, &a, versioned("1", 5, ""), keeping(1)).await;
    broker.publish(&a, numbers(2..=3), keeping(1)).await.unwrap();
    broker.remove_history(&a).await.unwrap();
    let published = publish_one(&*broker, &a, versioned("4", 5, ""), keeping(1)).await;
    assert!(published.is_suppressed);
    assert_eq!(published.position.unwrap().offset, 3);
}
