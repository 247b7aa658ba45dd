//! Positions, and what is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Delivered, META_TTL, PLAIN, Record, channel, drafts, keeping, numbered, numbers, one, publish_one,
};
use crate::broker::{Broker, Draft, History, Published, Range};
use crate::model::{Channel, ClientId, ClientInfo, Position, Publication, RawJson, UserId};

async fn read(broker: &impl Broker, channel: &Channel, range: Range) -> History {
    broker.history(channel, range, META_TTL).await.unwrap()
}

async fn top(broker: &impl Broker, channel: &Channel) -> Position {
    let history = read(broker, channel, Range { limit: Some(0), ..Range::default() }).await;
    assert!(history.publications.is_empty());
    history.top
}

/// Offsets and payloads of all that is kept.
async fn kept(broker: &impl Broker, channel: &Channel) -> Vec<(u64, String)> {
    numbered(&read(broker, channel, Range::default()).await.publications)
}

fn offsets(published: &[Published]) -> Vec<u64> {
    published.iter().map(|published| published.position.as_ref().unwrap().offset).collect()
}

fn pairs(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, String)> {
    numbers.into_iter().map(|number| (number, number.to_string())).collect()
}

pub(in crate::broker) async fn offsets_count_from_one_and_arrive_with_their_epoch(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    let a = channel("a");
    broker.subscribe(&a).await.unwrap();
    let mut published = broker.publish(&a, one("1"), keeping(10)).await.unwrap();
    published.extend(broker.publish(&a, numbers(2..=4), keeping(10)).await.unwrap());
    assert_eq!(offsets(&published), [1, 2, 3, 4]);
    let epoch = published[0].position.clone().unwrap().epoch;
    for published in &published {
        assert!(!published.is_suppressed);
        assert_eq!(published.position.as_ref().unwrap().epoch, epoch);
    }
    assert_eq!(top(&*broker, &a).await, Position { epoch: epoch.clone(), offset: 4 });
    assert_eq!(kept(&*broker, &a).await, pairs(1..=4));
    let run = |numbers| Delivered { epoch: Some(epoch.clone()), publications: pairs(numbers) };
    assert_eq!(record.delivered(&a, 4).await, [run(1..=1), run(2..=4)]);
}

pub(in crate::broker) async fn without_a_history_there_is_no_position(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    let a = channel("a");
    broker.subscribe(&a).await.unwrap();
    let mut draft = one("1").remove(0);
    draft.publication.offset = 9;
    let published = publish_one(&*broker, &a, draft, PLAIN).await;
    assert_eq!(published, Published { position: None, is_suppressed: false });
    let run = Delivered { epoch: None, publications: vec![(0, "1".into())] };
    assert_eq!(record.delivered(&a, 1).await, [run]);
    assert!(kept(&*broker, &a).await.is_empty());
}

pub(in crate::broker) async fn publishers_in_parallel_get_offsets_in_the_order_of_delivery(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    const PUBLISHERS: usize = 8;
    const RUNS: usize = 50;
    const ALL: usize = PUBLISHERS * RUNS * 2;
    let a = channel("a");
    broker.subscribe(&a).await.unwrap();
    let publisher = |publisher: usize| {
        let (broker, a) = (Arc::clone(&broker), a.clone());
        tokio::spawn(async move {
            let mut answered = Vec::new();
            for run in 0..RUNS {
                let texts = [0, 1].map(|at| format!("[{publisher},{run},{at}]"));
                let published = broker.publish(&a, drafts(texts.clone()), keeping(ALL)).await.unwrap();
                let run = offsets(&published);
                assert_eq!(run[0] + 1, run[1], "nothing gets between the publications of one call");
                answered.extend(run.into_iter().zip(texts));
            }
            answered
        })
    };
    let publishers: Vec<_> = (0..PUBLISHERS).map(publisher).collect();
    let mut answered = Vec::new();
    for publisher in publishers {
        answered.extend(publisher.await.unwrap());
    }
    answered.sort();
    assert!(answered.iter().map(|(offset, _)| *offset).eq(1..=ALL as u64));
    let delivered: Vec<_> =
        record.delivered(&a, ALL).await.into_iter().flat_map(|run| run.publications).collect();
    assert_eq!(delivered, answered);
    assert_eq!(kept(&*broker, &a).await, answered);
}

pub(in crate::broker) async fn an_epoch_stands_before_the_first_publication(
    broker: Arc<impl Broker>,
    _: Arc<Record>,
) {
    let a = channel("a");
    let before = top(&*broker, &a).await;
    assert_eq!(before.offset, 0);
    assert!(!before.epoch.as_str().is_empty());
    assert_eq!(top(&*broker, &a).await, before);
    let published = broker.publish(&a, one("1"), keeping(10)).await.unwrap();
    assert_eq!(published[0].position, Some(Position { offset: 1, ..before.clone() }));
    assert_eq!(top(&*broker, &a).await, Position { offset: 1, ..before });
}

pub(in crate::broker) async fn each_channel_has_its_own_history(broker: Arc<impl Broker>, _: Arc<Record>) {
    let [a, b] = ["a", "b"].map(channel);
    broker.publish(&a, numbers(1..=3), keeping(10)).await.unwrap();
    broker.publish(&b, one("1"), keeping(10)).await.unwrap();
    let [a, b] = [(top(&*broker, &a).await), (top(&*broker, &b).await)];
    assert_eq!((a.offset, b.offset), (3, 1));
    assert_ne!(a.epoch, b.epoch);
}

pub(in crate::broker) async fn no_more_is_kept_than_the_size(broker: Arc<impl Broker>, _: Arc<Record>) {
    let a = channel("a");
    broker.publish(&a, numbers(1..=5), keeping(3)).await.unwrap();
    assert_eq!(kept(&*broker, &a).await, pairs(3..=5));
    broker.publish(&a, one("6"), keeping(3)).await.unwrap();
    assert_eq!(kept(&*broker, &a).await, pairs(4..=6));
    broker.publish(&a, one("7"), keeping(1)).await.unwrap();
    assert_eq!(kept(&*broker, &a).await, pairs(7..=7));
    assert_eq!(top(&*broker, &a).await.offset, 7);
}

pub(in crate::broker) async fn a_publication_is_kept_as_it_was_published(
    broker: Arc<impl Broker>,
    _: Arc<Record>,
) {
    let a = channel("a");
    let info = ClientInfo {
        user: UserId::parse("42").unwrap(),
        client: ClientId::random(),
        conn_info: Some(RawJson::parse(br#"{"name": "Ann"}"#).unwrap()),
        chan_info: Some(RawJson::parse(b"[1]").unwrap()),
    };
    let publication = Publication {
        info: Some(Box::new(info.clone())),
        tags: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        exclude: Some(Box::new(info.client)),
        ..Publication::of(RawJson::parse(br#"{"a" : 1.0}"#).unwrap())
    };
    broker.publish(&a, vec![Draft::of(publication.clone())], keeping(10)).await.unwrap();
    let history = read(&*broker, &a, Range::default()).await;
    let found = &history.publications[0];
    assert_eq!((&found.data, &found.tags, found.offset), (&publication.data, &publication.tags, 1));
    assert_eq!(found.info.as_deref(), Some(&info));
    assert_eq!(found.exclude, publication.exclude);
}

pub(in crate::broker) async fn what_is_not_kept_takes_no_offset(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    let a = channel("a");
    broker.subscribe(&a).await.unwrap();
    broker.publish(&a, one("1"), keeping(10)).await.unwrap();
    let passing = publish_one(&*broker, &a, one("5").remove(0), PLAIN).await;
    assert_eq!(passing.position, None);
    broker.publish(&a, one("2"), keeping(10)).await.unwrap();
    assert_eq!(kept(&*broker, &a).await, pairs([1, 2]));
    assert_eq!(record.flat(&a, 3).await, ["1", "5", "2"]);
}

pub(in crate::broker) async fn removing_keeps_epoch_and_offset(broker: Arc<impl Broker>, _: Arc<Record>) {
    let a = channel("a");
    broker.remove_history(&a).await.unwrap();
    broker.publish(&a, numbers(1..=3), keeping(10)).await.unwrap();
    let before = top(&*broker, &a).await;
    broker.remove_history(&a).await.unwrap();
    broker.remove_history(&a).await.unwrap();
    assert_eq!(top(&*broker, &a).await, before);
    assert_eq!(kept(&*broker, &a).await, []);
    broker.publish(&a, one("4"), keeping(10)).await.unwrap();
    assert_eq!(kept(&*broker, &a).await, pairs([4]));
    assert_eq!(top(&*broker, &a).await, Position { offset: 4, ..before });
}

pub(in crate::broker) async fn a_part_is_read_forward_and_in_reverse(
    broker: Arc<impl Broker>,
    _: Arc<Record>,
) {
    let a = channel("a");
    // 4 to 8 are kept.
    broker.publish(&a, numbers(1..=8), keeping(5)).await.unwrap();
    type Case = (Option<u64>, bool, Option<usize>, &'static [u64]);
    let cases: [Case; 20] = [
        (None, false, None, &[4, 5, 6, 7, 8]),
        (None, false, Some(2), &[4, 5]),
        (None, false, Some(0), &[]),
        (None, false, Some(9), &[4, 5, 6, 7, 8]),
        (Some(5), false, None, &[6, 7, 8]),
        (Some(5), false, Some(2), &[6, 7]),
        (Some(3), false, Some(1), &[4]),
        (Some(0), false, Some(2), &[4, 5]),
        (Some(8), false, None, &[]),
        (Some(99), false, None, &[]),
        (None, true, None, &[8, 7, 6, 5, 4]),
        (None, true, Some(2), &[8, 7]),
        (None, true, Some(0), &[]),
        (Some(8), true, None, &[7, 6, 5, 4]),
        (Some(6), true, Some(1), &[5]),
        (Some(5), true, None, &[4]),
        (Some(4), true, None, &[]),
        (Some(1), true, None, &[]),
        (Some(0), true, None, &[]),
        (Some(99), true, Some(1), &[8]),
    ];
    for (since, reverse, limit, expected) in cases {
        let range = Range { since, reverse, limit, bytes_max: None };
        let history = read(&*broker, &a, range.clone()).await;
        assert_eq!(numbered(&history.publications), pairs(expected.iter().copied()), "{range:?}");
        assert_eq!(history.top.offset, 8);
    }
}

pub(in crate::broker) async fn a_part_is_limited_in_bytes(broker: Arc<impl Broker>, _: Arc<Record>) {
    let a = channel("a");
    broker.publish(&a, numbers(1..=5), keeping(10)).await.unwrap();
    let each = read(&*broker, &a, Range::default()).await.publications[0].cost_bytes();
    for (bytes_max, since, reverse, limit, expected) in [
        (3 * each, None, false, None, vec![1, 2, 3]),
        (3 * each - 1, None, false, None, vec![1, 2]),
        (2 * each, Some(2), false, None, vec![3, 4]),
        (2 * each, None, true, None, vec![5, 4]),
        (4 * each, None, true, Some(1), vec![5]),
        (0, None, false, None, vec![1]),
        (0, Some(5), false, None, vec![]),
    ] {
        let range = Range { since, reverse, limit, bytes_max: Some(bytes_max) };
        let history = read(&*broker, &a, range.clone()).await;
        assert_eq!(numbered(&history.publications), pairs(expected), "{range:?}");
    }
}
