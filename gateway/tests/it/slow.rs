//! Clients that do not take what they are sent.

use std::time::Duration;

use clarion::config::{Auto, Config};
use serde_json::json;

use crate::support::{Client, Gateway, Raw, bare_path, eventually};

const PUBLICATION_BYTES: usize = 8 << 10;
const OUTBOX_BYTES_MAX: usize = 128 << 10;
/// Never reached in a test.
const NEVER: Duration = Duration::from_secs(600);

/// Small buffers everywhere, so that a stalled client is noticed soon, and nobody is closed for another reason.
fn narrow(config: &mut Config) {
    config.client.send_buffer_bytes = 16 << 10;
    config.client.outbox_bytes_max = OUTBOX_BYTES_MAX;
    config.client.write_timeout = NEVER;
    config.client.ping_interval = NEVER;
    config.client.pong_timeout = NEVER / 2;
}

/// A subscriber of `hot` that will read only when it is told to.
async fn stalled(gateway: &Gateway) -> Raw {
    let before = gateway.metric("clarion_subscriptions").await;
    let path = bare_path(gateway, "&channels=hot");
    let raw = Raw::open_narrow(gateway.public()).await.upgrade(&path).await;
    gateway.metric_is("clarion_subscriptions", before + 1.0).await;
    raw
}

/// Publishes to `hot` and has `healthy` read it, until `enough`.
async fn publish_until(healthy: &mut Client, mut enough: impl AsyncFnMut() -> bool) {
    let filler = "x".repeat(PUBLICATION_BYTES);
    let mut index = 0;
    eventually("the stalled client to be noticed", async || {
        for _ in 0..8 {
            healthy.publish("hot", json!([index, filler])).await;
            assert_eq!(healthy.next_publication().await.data[0], index);
            index += 1;
        }
        enough().await
    })
    .await;
}

#[tokio::test]
async fn slow_consumer_is_closed_with_3008_and_others_keep_receiving() {
    let gateway = Gateway::start_with(narrow).await;
    let mut healthy = gateway.connect("healthy").await.subscribe("hot").await;
    let mut slow = stalled(&gateway).await;
    publish_until(&mut healthy, async || {
        let metrics = gateway.metrics().await;
        assert!(metrics.get("clarion_outbox_bytes") <= (OUTBOX_BYTES_MAX + 2 * PUBLICATION_BYTES) as f64);
        metrics.get("clarion_slow_consumers_total") == 1.0
    })
    .await;
    // Once it reads again, it reads whole frames, and at the end why it was closed.
    assert_eq!(slow.close_code().await, 3008);
    drop(slow);
    gateway.metric_is("clarion_connections_closed_total{code=\"3008\"}", 1.0).await;
    gateway.metric_is("clarion_outbox_bytes", 0.0).await;
    gateway.metric_is("clarion_subscriptions", 1.0).await;
    assert!(gateway.metric("clarion_publications_dropped_total{reason=\"slow\"}").await > 0.0);
    gateway.serves_honest_clients().await;
}

#[tokio::test]
async fn slow_consumer_that_never_reads_again_is_reset_and_its_memory_is_free() {
    let gateway = Gateway::start_with(narrow).await;
    let mut healthy = gateway.connect("healthy").await.subscribe("hot").await;
    let slow = stalled(&gateway).await;
    publish_until(&mut healthy, async || gateway.metric("clarion_slow_consumers_total").await == 1.0).await;
    gateway.metric_is("clarion_outbox_bytes", 0.0).await;
    gateway.metric_is("clarion_connections", 1.0).await;
    drop(slow);
    healthy.publish("hot", "after").await;
    assert_eq!(healthy.next_publication().await.data, "after");
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_closed_after_the_write_timeout() {
    let gateway = Gateway::start_with(|config| {
        narrow(config);
        config.client.outbox_bytes_max = 64 << 20;
        config.client.write_timeout = Duration::from_millis(300);
    })
    .await;
    let mut healthy = gateway.connect("healthy").await.subscribe("hot").await;
    let _blocked = stalled(&gateway).await;
    publish_until(&mut healthy, async || gateway.metric("clarion_outbox_bytes").await > 0.0).await;
    gateway.metric_is("clarion_connections_closed_total{reason=\"write_timeout\"}", 1.0).await;
    gateway.metric_is("clarion_slow_consumers_total", 1.0).await;
    gateway.metric_is("clarion_outbox_bytes", 0.0).await;
    gateway.metric_is("clarion_connections", 1.0).await;
}

#[tokio::test]
async fn all_outboxes_together_stay_within_their_budget() {
    const STALLED: usize = 6;
    let budget = 2 * OUTBOX_BYTES_MAX;
    let gateway = Gateway::start_with(|config| {
        narrow(config);
        config.client.send_buffer_bytes = 64 << 10;
        config.client.outbox_bytes_total_max = Auto::Fixed(budget);
    })
    .await;
    let mut healthy = gateway.connect("healthy").await.subscribe("hot").await;
    let mut slow = Vec::new();
    for _ in 0..STALLED {
        slow.push(stalled(&gateway).await);
    }
    // What a socket took a part of is finished, whatever the budget says.
    let most = budget + STALLED * 2 * PUBLICATION_BYTES;
    publish_until(&mut healthy, async || {
        let metrics = gateway.metrics().await;
        assert!(metrics.get("clarion_outbox_bytes") <= most as f64);
        metrics.get("clarion_slow_consumers_total") == STALLED as f64
    })
    .await;
    gateway.metric_is("clarion_outbox_bytes", 0.0).await;
    gateway.metric_is("clarion_connections", 1.0).await;
    drop(slow);
}

#[tokio::test]
async fn a_client_that_sends_without_reading_its_replies_is_closed() {
    let gateway = Gateway::start_with(narrow).await;
    let mut raw = Raw::open_narrow(gateway.public()).await.upgrade(&bare_path(&gateway, "")).await;
    let commands = vec![r#"{"id":1,"unsubscribe":{"channel":"a"}}"#; 1_000].join("\n");
    eventually("the outbox of replies to overflow", async || {
        // The gateway may have closed.
        drop(raw.try_send(crate::support::frame(0x81, commands.as_bytes())).await);
        gateway.metric("clarion_slow_consumers_total").await == 1.0
    })
    .await;
    gateway.metric_is("clarion_outbox_bytes", 0.0).await;
    gateway.serves_honest_clients().await;
}

#[tokio::test]
async fn what_a_client_asks_for_and_does_not_take_waits_and_fills_nothing() {
    const ASKED: usize = 300;
    let gateway = Gateway::start_with(|config| {
        narrow(config);
        let namespace = json!({
            "name": "kept", "history_size": 100, "history_ttl": "600s",
            "allow_subscribe_for_client": true, "allow_history_for_client": true,
        });
        config.channel.namespaces.push(serde_json::from_value(namespace).expect("it is a namespace"));
    })
    .await;
    for _ in 0..20 {
        gateway.api("publish", json!({"channel": "kept:a", "data": "x".repeat(PUBLICATION_BYTES)})).await;
    }
    let mut greedy = Raw::open_narrow(gateway.public()).await.upgrade("/connection/websocket").await;
    greedy.send_text(&json!({"id": 1, "connect": {"token": gateway.token("greedy")}}).to_string()).await;
    greedy.next_json().await;
    let ask = r#"{"id":2,"history":{"channel":"kept:a","limit":-1}}"#;
    greedy.send_text(&vec![ask; ASKED].join("\n")).await;
    gateway.serves_honest_clients().await;
    assert!(gateway.metric("clarion_outbox_bytes").await <= OUTBOX_BYTES_MAX as f64);
    let mut answered = 0;
    while answered < ASKED {
        let frame = greedy.next_frame().await.expect("it is not closed for what it waits for");
        answered += frame.payload.split(|byte| *byte == b'\n').count();
    }
    assert_eq!(answered, ASKED);
}

#[tokio::test]
async fn a_client_that_resets_while_it_is_being_closed_keeps_nobody_busy() {
    let gateway = Gateway::start_with(|config| {
        narrow(config);
        config.shards = Auto::Fixed(1);
    })
    .await;
    let mut healthy = gateway.connect("healthy").await.subscribe("hot").await;
    let slow = stalled(&gateway).await;
    publish_until(&mut healthy, async || gateway.metric("clarion_slow_consumers_total").await == 1.0).await;
    // Its close frame waits behind what it did not take.
    slow.reset();
    gateway.metric_is("clarion_connections", 1.0).await;
    gateway.metric_is("clarion_outbox_bytes", 0.0).await;
    gateway.serves_honest_clients().await;
}
