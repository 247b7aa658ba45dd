//! Joins and leaves: delivered in one order with publications, kept nowhere.

use std::sync::Arc;

use super::{META_TTL, PLAIN, Record, channel, keeping, one};
use crate::broker::{Broker, Range};
use crate::model::{ClientId, ClientInfo, Notice, UserId};

fn info(user: &str) -> Arc<ClientInfo> {
    let user = UserId::parse(user).unwrap();
    Arc::new(ClientInfo { user, client: ClientId::random(), conn_info: None, chan_info: None })
}

pub(in crate::broker) async fn a_notice_reaches_subscribed_channels_only(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    let (a, b) = (channel("a"), channel("b"));
    broker.announce(&a, Notice::Join(info("early"))).await.unwrap();
    broker.subscribe(&a).await.unwrap();
    broker.announce(&a, Notice::Join(info("ann"))).await.unwrap();
    broker.announce(&b, Notice::Join(info("bob"))).await.unwrap();
    broker.announce(&a, Notice::Leave(info("ann"))).await.unwrap();
    assert_eq!(record.flat(&a, 2).await, ["join ann", "leave ann"]);
    broker.unsubscribe(&a).await.unwrap();
    broker.announce(&a, Notice::Leave(info("late"))).await.unwrap();
    broker.subscribe(&a).await.unwrap();
    broker.announce(&a, Notice::Join(info("again"))).await.unwrap();
    assert_eq!(record.flat(&a, 3).await, ["join ann", "leave ann", "join again"]);
    assert_eq!(record.flat(&b, 3).await, [""; 0]);
}

pub(in crate::broker) async fn a_notice_arrives_as_it_was_sent(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    let (a, conn_info) = (channel("a"), crate::model::RawJson::parse(br#"{"name":"Ann"}"#).ok());
    broker.subscribe(&a).await.unwrap();
    let notice = Notice::Leave(Arc::new(ClientInfo { conn_info, ..(*info("ann")).clone() }));
    broker.announce(&a, notice.clone()).await.unwrap();
    record.flat(&a, 1).await;
    assert_eq!(record.notices(), [notice]);
}

pub(in crate::broker) async fn notices_and_publications_keep_their_order(
    broker: Arc<impl Broker>,
    record: Arc<Record>,
) {
    const ROUNDS: usize = 200;
    let a = channel("a");
    broker.subscribe(&a).await.unwrap();
    let ann = info("ann");
    let mut expected = Vec::new();
    for number in 0..ROUNDS {
        broker.announce(&a, Notice::Join(Arc::clone(&ann))).await.unwrap();
        broker
            .publish(&a, one(&number.to_string()), if number % 2 == 0 { PLAIN } else { keeping(5) })
            .await
            .unwrap();
        broker.announce(&a, Notice::Leave(Arc::clone(&ann))).await.unwrap();
        expected.extend(["join ann".to_owned(), number.to_string(), "leave ann".to_owned()]);
    }
    assert_eq!(record.flat(&a, ROUNDS * 3).await, expected);
}

pub(in crate::broker) async fn a_notice_is_kept_in_no_history(broker: Arc<impl Broker>, record: Arc<Record>) {
    let a = channel("a");
    broker.subscribe(&a).await.unwrap();
    broker.publish(&a, one("1"), keeping(10)).await.unwrap();
    broker.announce(&a, Notice::Join(info("ann"))).await.unwrap();
    broker.publish(&a, one("2"), keeping(10)).await.unwrap();
    assert_eq!(record.flat(&a, 3).await, ["1", "join ann", "2"]);
    let history = broker.history(&a, Range::default(), META_TTL).await.unwrap();
    assert_eq!((history.top.offset, history.publications.len()), (2, 2));
}
