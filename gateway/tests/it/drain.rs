//! How a node lets go of its clients when it is told to stop.

use std::time::{Duration, Instant};

use clarion::config::{Auto, Config};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{
    API_KEY, Client, Gateway, Raw, Redis, bare_path, eventually, get, namespace, post, within,
};

const SECOND: Duration = Duration::from_secs(1);

/// A namespace whose subscribers can catch up, and a drain.
fn draining(delay: Duration, window: Duration) -> impl Fn(&mut Config) {
    move |config| {
        (config.drain.delay, config.drain.window) = (delay, window);
        let kept = json!({
            "history_size": 100, "history_ttl": "60s", "force_recovery": true,
            "allow_subscribe_for_client": true, "allow_publish_for_client": true,
        });
        config.channel.namespaces.push(namespace("kept", kept));
    }
}

/// So many clients that are subscribed to `channel`.
async fn crowd(gateway: &Gateway, count: usize, channel: &str) -> Vec<Client> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(gateway.connect("somebody").await.subscribe(channel).await);
    }
    clients
}

#[tokio::test]
async fn during_the_delay_a_node_is_not_ready_and_still_serves_who_comes() {
    let gateway = Gateway::start_with(draining(2 * SECOND, Duration::ZERO)).await;
    let (public, internal) = (gateway.public(), gateway.internal());
    let mut early = gateway.connect("alice").await.subscribe("news").await;
    let path = bare_path(&gateway, "&channels=news");
    let told_at = Instant::now();
    let watching = async {
        eventually("not to be ready", async || get(internal, "/readyz").await.status == 503).await;
        let metrics = get(internal, "/metrics").await.body;
        assert!(metrics.contains("\nclarion_draining 1\n"), "{metrics}");
        assert!(metrics.contains("\nclarion_drain_remaining 1\n"), "{metrics}");
        assert_eq!(get(internal, "/livez").await.status, 200);
        let mut late = Raw::open(public).await.upgrade(&path).await;
        early.publish("news", "still here").await;
        assert_eq!(early.next_publication().await.data, "still here");
        assert_eq!(late.close_code().await, 1012);
        assert_eq!(early.closed().await.0, 3001);
        assert!(told_at.elapsed() >= 2 * SECOND);
    };
    tokio::join!(gateway.stop(), watching);
}

#[tokio::test]
async fn closes_are_spread_over_the_window_and_who_could_miss_something_goes_last() {
    let gateway = Gateway::start_with(|config| {
        draining(Duration::ZERO, 3 * SECOND)(config);
        // Each shard keeps the order for itself.
        config.shards = Auto::Fixed(1);
    })
    .await;
    let plain = crowd(&gateway, 10, "news").await;
    let kept = crowd(&gateway, 30, "kept:news").await;
    let close = async |mut client: Client| {
        assert_eq!(client.closed().await, (3001, "shutdown".into()));
        Instant::now()
    };
    let stopping = tokio::spawn(gateway.stop());
    let (kept, plain) = tokio::join!(
        futures_util::future::join_all(kept.into_iter().map(close)),
        futures_util::future::join_all(plain.into_iter().map(close)),
    );
    stopping.await.unwrap();
    let (first, last) = (kept.iter().min().unwrap(), plain.iter().max().unwrap());
    assert!(*last - *first >= 2 * SECOND, "{:?}", *last - *first);
    let early = plain.iter().filter(|at| kept.iter().any(|other| other > *at)).count();
    // The one that was asked last and the one after it may be read in any order.
    assert!(early <= 1, "{early}");
}

#[tokio::test]
async fn what_waits_for_a_client_is_flushed_before_it_is_closed() {
    let gateway = Gateway::start_with(|config| {
        draining(Duration::ZERO, Duration::ZERO)(config);
        config.client.send_buffer_bytes = 4096;
    })
    .await;
    let mut slow =
        Raw::open_narrow(gateway.public()).await.upgrade(&bare_path(&gateway, "&channels=hot")).await;
    let mut speaker = gateway.connect("speaker").await;
    let mut sent = 0_u64;
    eventually("the slow client to be behind", async || {
        speaker.publish("hot", json!({"number": sent, "padding": "x".repeat(16 << 10)})).await;
        sent += 1;
        gateway.metric("clarion_outbox_bytes").await > 0.0
    })
    .await;
    let stopping = tokio::spawn(gateway.stop());
    assert_eq!(speaker.closed().await.0, 3001);
    let mut numbers = Vec::new();
    let code = loop {
        let frame = slow.next_frame().await.expect("a close frame comes first");
        if frame.opcode == 0x8 {
            break u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
        }
        let message: Value = serde_json::from_slice(&frame.payload).unwrap();
        numbers.extend(message["push"]["pub"]["data"]["number"].as_u64());
    };
    assert_eq!((numbers, code), ((0..sent).collect(), 1012));
    drop(slow);
    stopping.await.unwrap();
}

#[tokio::test]
async fn nodes_that_drain_together_close_no_faster_than_those_take_that_stay() {
    let redis = Redis::shared();
    let [first, second, third] = Gateway::start_nodes(&redis, |config| {
        draining(SECOND, Duration::ZERO)(config);
        config.cluster.heartbeat_interval = Duration::from_millis(200);
        config.admission.handshakes_per_second = Auto::Fixed(25);
    })
    .await;
    let (left, right) = (crowd(&first, 30, "kept:a").await, crowd(&second, 30, "kept:a").await);
    let stopping = tokio::spawn(async { tokio::join!(first.stop(), second.stop()) });
    let close = async |mut client: Client| {
        assert_eq!(client.closed().await.0, 3001);
        Instant::now()
    };
    let mut closed = futures_util::future::join_all(left.into_iter().chain(right).map(close)).await;
    closed.sort();
    // A fifth less than 25 a second: sixty take three seconds.
    let took = *closed.last().unwrap() - closed[0];
    assert!(took >= Duration::from_millis(2_700), "{took:?}");
    stopping.await.unwrap();
    assert_eq!(third.metric("clarion_drain_remaining").await, 0.0);
}

#[tokio::test]
async fn while_connections_are_closed_the_api_is_served() {
    let gateway = Gateway::start_with(draining(Duration::ZERO, SECOND)).await;
    let internal = gateway.internal();
    let mut client = gateway.connect("alice").await.subscribe("kept:a").await;
    let stopping = tokio::spawn(gateway.stop());
    eventually("not to be ready", async || get(internal, "/readyz").await.status == 503).await;
    for data in ["one", "two"] {
        let request = json!({"channel": "kept:a", "data": data}).to_string();
        let answer = post(internal, "/api/publish", &[("x-api-key", API_KEY)], &request).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(client.next_publication().await.data, data);
    }
    assert_eq!(client.closed().await.0, 3001);
    stopping.await.unwrap();
}

/// Nodes that let go of clients, and look often.
fn rebalancing(config: &mut Config) {
    draining(Duration::ZERO, Duration::ZERO)(config);
    config.rebalance.enabled = true;
    config.cluster.heartbeat_interval = Duration::from_millis(200);
}

#[tokio::test]
async fn a_node_that_has_far_more_than_the_others_lets_go_of_those_that_will_hardly_notice() {
    let redis = Redis::shared();
    let [full, empty] = Gateway::start_nodes(&redis, rebalancing).await;
    let mut plain = crowd(&full, 4, "news").await;
    let kept = crowd(&full, 36, "kept:a").await;
    let close = async |mut client: Client| (client.closed().await, empty.connect("somebody").await);
    // Half of them go elsewhere, one by one, until both have about as many.
    let mut leaving: futures_util::stream::FuturesUnordered<_> = kept.into_iter().map(close).collect();
    let mut moved = Vec::new();
    while moved.len() < 18 {
        let (told, client) = within("somebody to be asked", leaving.next()).await.expect("there are more");
        assert_eq!(told, (3001, "rebalance".into()));
        moved.push(client);
    }
    full.metric_is("clarion_rebalance_excess", 0.0).await;
    let closed = full.metric(r#"clarion_connections_closed_total{code="3001",reason="rebalance"}"#).await;
    assert!((18.0..=20.0).contains(&closed), "{closed}");
    assert_eq!(
        empty.metric(r#"clarion_connections_closed_total{code="3001",reason="rebalance"}"#).await,
        0.0
    );
    for client in &mut plain {
        client.publish("news", "they cannot catch up, and stay").await;
    }
}

#[tokio::test]
async fn a_connection_that_lived_long_enough_is_asked_to_come_again() {
    let lifetime = Duration::from_secs(2);
    let gateway = Gateway::start_with(|config| config.client.connection_lifetime_max = lifetime).await;
    let started_at = Instant::now();
    let mut native = gateway.connect("alice").await.subscribe("news").await;
    let mut bare = gateway.bare("bob", "channels=news").await;
    assert_eq!(native.closed().await, (3001, "lifetime".into()));
    assert_eq!(bare.closed().await, (1012, "lifetime".into()));
    assert!(started_at.elapsed() >= lifetime * 3 / 4);
}
