//! What a namespace says of subscribers that do not keep up, where they are not closed for it.

use std::time::Duration;

use clarion::config::{ChannelOptions, Config, SlowConsumer};
use serde_json::json;

use crate::support::{Client, Gateway, Raw, bare_path, eventually};

const PUBLICATION_BYTES: usize = 8 << 10;
/// Never reached in a test.
const NEVER: Duration = Duration::from_secs(600);

/// Small buffers, so that a stalled client is noticed soon, and a namespace for each policy.
fn policies(config: &mut Config) {
    config.client.send_buffer_bytes = 16 << 10;
    config.client.outbox_bytes_max = 128 << 10;
    config.client.write_timeout = NEVER;
    config.client.ping_interval = NEVER;
    config.client.pong_timeout = NEVER / 2;
    let namespace = |name: &str, slow_consumer| ChannelOptions {
        name: name.into(),
        slow_consumer,
        allow_subscribe_for_client: true,
        ..ChannelOptions::default()
    };
    let kept = ChannelOptions {
        history_size: 1_000,
        history_ttl: NEVER,
        force_recovery: true,
        ..namespace("kept", SlowConsumer::DropOldest)
    };
    config.channel.namespaces =
        vec![namespace("old", SlowConsumer::DropOldest), namespace("new", SlowConsumer::Latest), kept];
}

/// A subscriber that will read only when it is told to.
async fn stalled(gateway: &Gateway, channel: &str) -> Raw {
    let path = bare_path(gateway, &format!("&channels={channel}"));
    let mut raw = Raw::open_narrow(gateway.public()).await.upgrade(&path).await;
    raw.next_json().await;
    raw
}

/// Publishes numbers to `channel`, each with one of two keys, and has `healthy` read them, until `enough`; answers how
/// many.
async fn publish_until(
    gateway: &Gateway,
    channel: &str,
    healthy: &mut Client,
    mut enough: impl AsyncFnMut() -> bool,
) -> u64 {
    let filler = "x".repeat(PUBLICATION_BYTES);
    let mut published = 0;
    eventually("the stalled client to be noticed", async || {
        for _ in 0..8 {
            let tags = json!({"key": if published % 2 == 0 { "even" } else { "odd" }});
            let body = json!({"channel": channel, "data": [published, filler], "tags": tags});
            gateway.api("publish", body).await;
            assert_eq!(healthy.next_publication().await.data[0], published, "others miss nothing");
            published += 1;
        }
        enough().await
    })
    .await;
    published
}

/// How many publications were dropped.
async fn dropped(gateway: &Gateway, reason: &str) -> u64 {
    gateway.metric(&format!("clarion_publications_dropped_total{{reason=\"{reason}\"}}")).await as u64
}

/// The numbers that come until the `last`.
async fn numbers_until(raw: &mut Raw, last: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        let message = raw.next_json().await;
        let data = &message["push"]["pub"]["data"];
        numbers.push(data[0].as_u64().unwrap_or_else(|| panic!("{message:.100}")));
    }
    numbers
}

#[tokio::test]
async fn with_drop_oldest_a_stalled_subscriber_misses_the_middle_and_stays() {
    let gateway = Gateway::start_with(policies).await;
    let mut healthy = gateway.connect("healthy").await.subscribe("old:a").await;
    let mut slow = stalled(&gateway, "old:a").await;
    let enough = async || dropped(&gateway, "drop_oldest").await > 20;
    let published = publish_until(&gateway, "old:a", &mut healthy, enough).await;
    let dropped = dropped(&gateway, "drop_oldest").await;
    let numbers = numbers_until(&mut slow, published - 1).await;
    assert!(numbers.is_sorted() && numbers[0] == 0);
    assert_eq!(numbers.len() as u64 + dropped, published, "each was received or counted as dropped");
    let tail = &numbers[numbers.len() - 8..];
    assert!(tail.windows(2).all(|pair| pair[1] == pair[0] + 1), "the newest are all there: {tail:?}");
    gateway.metric_is("clarion_slow_consumers_total{policy=\"drop_oldest\"}", 1.0).await;
    gateway.metric_is("clarion_connections", 2.0).await;
}

#[tokio::test]
async fn with_latest_a_stalled_subscriber_gets_the_newest_of_each_key() {
    let gateway = Gateway::start_with(policies).await;
    let mut healthy = gateway.connect("healthy").await.subscribe("new:a").await;
    let mut slow = stalled(&gateway, "new:a").await;
    let enough = async || dropped(&gateway, "latest").await > 20;
    let published = publish_until(&gateway, "new:a", &mut healthy, enough).await;
    let dropped = dropped(&gateway, "latest").await;
    let numbers = numbers_until(&mut slow, published - 1).await;
    assert!(numbers.is_sorted());
    assert_eq!(numbers[numbers.len() - 2..], [published - 2, published - 1], "one of each key");
    assert_eq!(numbers.len() as u64 + dropped, published);
    gateway.metric_is("clarion_slow_consumers_total{policy=\"latest\"}", 1.0).await;
}

#[tokio::test]
async fn a_recoverable_subscriber_that_lost_something_is_told_and_recovers_it() {
    let gateway = Gateway::start_with(policies).await;
    let mut healthy = gateway.connect("healthy").await.subscribe("kept:a").await;
    let mut slow = stalled(&gateway, "kept:a").await;
    let enough = async || gateway.metric("clarion_slow_consumers_total{policy=\"drop_oldest\"}").await == 1.0;
    let published = publish_until(&gateway, "kept:a", &mut healthy, enough).await;
    let mut seen = 0;
    let told = loop {
        let message = slow.next_json().await;
        match message["push"]["pub"]["offset"].as_u64() {
            Some(offset) => {
                assert_eq!(offset, std::mem::replace(&mut seen, offset) + 1, "no hole before it is told");
            }
            None => break message,
        }
    };
    let unsubscribe = json!({"code": 2500, "reason": "insufficient state"});
    assert_eq!(told["push"], json!({"channel": "kept:a", "unsubscribe": unsubscribe}));
    assert!(seen < published, "it did not get everything");
    let subscribe = json!({"id": 8, "subscribe": {"channel": "kept:a", "recover": true, "offset": seen}});
    slow.send_text(&subscribe.to_string()).await;
    let reply = slow.next_json().await;
    // Of large publications fewer are recovered at once than were missed: then it is told so, and is live.
    let recovered = reply["subscribe"]["publications"].as_array().map_or(0, Vec::len) as u64;
    assert!(recovered == 0 || seen + recovered == published, "all or nothing");
    assert_eq!(reply["subscribe"]["recovered"].as_bool().unwrap_or_default(), recovered > 0);
    gateway.api("publish", json!({"channel": "kept:a", "data": "after"})).await;
    assert_eq!(slow.next_json().await["push"]["pub"]["offset"], published + 1);
}
