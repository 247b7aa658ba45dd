//! What the metrics say, and whom they never name.

use std::collections::BTreeSet;
use std::time::Instant;

use clarion::config::Auto;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::support::{Gateway, Redis, eventually, namespace};

/// How many users come, each with a token and channels of its own.
const USERS: usize = 10_000;
const CHANNELS_OF_USER: usize = 10;
/// How many of them are there at once.
const AT_ONCE: usize = 100;
/// Publications in one request of the server API.
const BATCH: usize = 1000;

/// What somebody may put into a name to break out of a label, of a line or of a terminal.
const SPICES: [&str; 10] =
    ["\"", "\n", "\\", "\u{1b}[31m", "\"} 1\nevil_total{a=\"", "\u{202e}", "é", "😀", ":", "plain"];

fn name(kind: &str, index: usize) -> String {
    format!("canary-{kind}{}{index}", SPICES[index % SPICES.len()])
}

/// One user comes, subscribes and publishes where the name allows it, hears its refusals, and leaves. Answers how many
/// commands were answered; not even a first one is if no user may be called so.
async fn visit(gateway: &Gateway, user: usize) -> usize {
    let mut client = gateway.silent().await;
    let connect = json!({"id": 1, "connect": {"token": gateway.token(&name("user", user))}});
    client.send(connect.to_string()).await;
    if let Err(code) = client.next_text_or_close().await {
        assert_eq!(code, 3500, "a name that no user may have");
        return 0;
    }
    let channels = (0..CHANNELS_OF_USER).map(|channel| name("channel", user * CHANNELS_OF_USER + channel));
    let mut commands = Vec::new();
    for channel in channels {
        let id = 2 + commands.len();
        commands.push(json!({"id": id, "subscribe": {"channel": channel}}).to_string());
        commands.push(json!({"id": id + 1, "publish": {"channel": channel, "data": user}}).to_string());
    }
    let (count, mut unanswered) = (commands.len(), commands.len());
    client.send(commands.join("\n")).await;
    while unanswered > 0 {
        unanswered -= usize::from(client.next_message().await.get("id").is_some());
    }
    client.leave().await;
    1 + count
}

/// Answers how many commands of all were answered.
async fn crowd(gateway: &Gateway, users: std::ops::Range<usize>) -> usize {
    let visits = stream::iter(users).map(|user| visit(gateway, user));
    visits.buffer_unordered(AT_ONCE).fold(0, async |sum, count| sum + count).await
}

/// A back end publishes to so many channels.
async fn publish_to(gateway: &Gateway, channels: usize) {
    for first in (0..channels).step_by(BATCH) {
        let publish = |channel| json!({"publish": {"channel": name("channel", channel), "data": 1}});
        let commands: Vec<Value> = (first..channels.min(first + BATCH)).map(publish).collect();
        let answer = gateway.post_api("batch", &json!({"commands": commands})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

/// The names of all series, labels included.
fn series(scrape: &str) -> BTreeSet<&str> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').expect("a sample has a value").0).collect()
}

#[tokio::test]
async fn f47_series_grow_neither_with_channels_nor_with_users_and_name_none() {
    let gateway = Gateway::start_with(|config| {
        config.admission.handshakes_per_second = Auto::Fixed(1_000_000);
    })
    .await;
    let channels = USERS * CHANNELS_OF_USER;
    let mut answered = crowd(&gateway, 0..SPICES.len()).await;
    publish_to(&gateway, BATCH).await;
    let few = gateway.get("/metrics").await.body;
    answered += crowd(&gateway, 0..USERS).await;
    publish_to(&gateway, channels).await;
    let began = Instant::now();
    let many = gateway.get("/metrics").await.body;
    println!("{} series in {:?}", series(&many).len(), began.elapsed());
    assert_eq!(series(&few), series(&many));
    assert!(!many.contains("canary"), "a name is in {many}");
    assert!(!many.contains("evil_total"), "a name is in {many}");
    let accepted = (USERS + SPICES.len()) as f64;
    gateway.metric_is("clarion_connections_accepted_total", accepted).await;
    gateway.metric_is("clarion_connections", 0.0).await;
    assert!(answered > USERS, "{answered}");
    let commands = gateway.metric("clarion_commands_total").await;
    let refused = gateway.metric("clarion_commands_total{outcome=\"invalid_token\"").await;
    assert_eq!(commands - refused, answered as f64, "every command was counted");
}

#[tokio::test]
async fn series_begin_at_zero_before_anything_has_happened() {
    let gateway = Gateway::start().await;
    let metrics = gateway.get("/metrics").await.body;
    for series in [
        r#"clarion_connections{protocol="centrifuge_protobuf",transport="websocket"}"#,
        r#"clarion_connections_closed_total{code="3008",reason="slow"}"#,
        r#"clarion_connections_closed_total{code="1012",reason="shutdown"}"#,
        r#"clarion_handshakes_rejected_total{reason="origin"}"#,
        r#"clarion_handshakes_rejected_total{reason="expired"}"#,
        r#"clarion_auth_duration_seconds_count{result="bad_token"}"#,
        r#"clarion_handshake_duration_seconds_count{result="refused"}"#,
        r#"clarion_commands_total{command="history",outcome="ok"}"#,
        r#"clarion_api_requests_total{method="publish",outcome="unavailable"}"#,
        r#"clarion_api_request_duration_seconds_count{method="revocations"}"#,
        "clarion_idempotent_hits_total",
        "clarion_connection_duration_seconds_count",
        "clarion_recovered_publications_count",
        "clarion_fanout_recipients_count",
        "clarion_fanout_duration_seconds_count",
        r#"clarion_subscriptions{channel_namespace="read"}"#,
        r#"clarion_channels{channel_namespace="without_namespace"}"#,
        r#"clarion_publications_received_total{channel_namespace="closed",source="client"}"#,
        r#"clarion_publications_failed_total{channel_namespace="read",reason="unavailable",source="api"}"#,
        r#"clarion_publish_duration_seconds_count{channel_namespace="read",source="api"}"#,
        r#"clarion_delivery_duration_seconds_count{channel_namespace="other"}"#,
    ] {
        assert!(metrics.contains(&format!("\n{series} 0\n")), "{series} is not 0 in {metrics}");
    }
}

#[tokio::test]
async fn what_happens_to_a_connection_and_a_publication_is_counted() {
    let gateway = Gateway::start().await;
    let mut ann = gateway.connect("ann").await.subscribe("news").await;
    let bob = gateway.connect("bob").await.subscribe("news").await;
    let publish = json!({"channel": "news", "data": 1, "idempotency_key": "once"});
    for _ in 0..3 {
        gateway.api("publish", publish.clone()).await;
    }
    ann.next_publication().await;
    gateway.metric_is("clarion_fanout_recipients_sum", 2.0).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.get("clarion_publications_received_total"), 1.0);
    assert_eq!(metrics.get("clarion_idempotent_hits_total"), 2.0);
    assert_eq!(metrics.get("clarion_handshake_duration_seconds_count{result=\"accepted\"}"), 2.0);
    assert_eq!(metrics.get("clarion_auth_duration_seconds_count{result=\"ok\"}"), 2.0);
    assert_eq!(metrics.get("clarion_connection_duration_seconds_count"), 0.0);
    bob.leave().await;
    gateway.metric_is("clarion_connection_duration_seconds_count", 1.0).await;
}

#[tokio::test]
async fn each_namespace_is_counted_for_itself() {
    let open = || json!({"allow_subscribe_for_client": true, "allow_publish_for_client": true});
    let gateway = Gateway::start_with(|config| {
        config.channel.namespaces.extend([namespace("chat", open()), namespace("room", open())]);
    })
    .await;
    let of = |name: &str, namespace: &str| format!("clarion_{name}{{channel_namespace=\"{namespace}\"");
    let mut ann = gateway.connect("ann").await.subscribe("chat:a").await;
    let mut bob = gateway.connect("bob").await.subscribe("chat:b").await;
    let metrics = gateway.metrics().await;
    for (namespace, count) in [("chat", 2.0), ("room", 0.0), ("without_namespace", 0.0)] {
        assert_eq!(metrics.get(&of("subscriptions", namespace)), count, "{namespace}");
        assert_eq!(metrics.get(&of("channels", namespace)), count, "{namespace}");
    }
    gateway.api("publish", json!({"channel": "chat:a", "data": 1})).await;
    ann.next_publication().await;
    gateway.metric_is(&of("delivery_duration_seconds_count", "chat"), 1.0).await;
    // The place of the channel in the shard is taken by one of another namespace.
    ann.unsubscribe("chat:a").await;
    gateway.metric_is(&of("channels", "chat"), 1.0).await;
    assert_eq!(gateway.metric(&of("subscriptions", "chat")).await, 1.0);
    ann.call(json!({"subscribe": {"channel": "room:a"}})).await;
    bob.publish("room:a", 2).await;
    ann.next_publication().await;
    gateway.metric_is(&of("delivery_duration_seconds_count", "room"), 1.0).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.get(&of("delivery_duration_seconds_count", "chat")), 1.0);
    for name in ["publications_received_total", "publish_duration_seconds_count"] {
        assert_eq!(metrics.get(&format!("{},source=\"api\"", of(name, "chat"))), 1.0, "{name}");
        assert_eq!(metrics.get(&format!("{},source=\"client\"", of(name, "room"))), 1.0, "{name}");
        assert_eq!(metrics.get(&format!("clarion_{name}")), 2.0, "{name}");
    }
    assert_eq!(metrics.get("clarion_fanout_duration_seconds_count"), 2.0);
    assert!(metrics.get("clarion_fanout_duration_seconds_sum") > 0.0);
    bob.leave().await;
    gateway.metric_is(&of("subscriptions", "chat"), 0.0).await;
    assert_eq!(gateway.metric(&of("channels", "chat")).await, 0.0);
}

#[tokio::test]
async fn what_a_subscriber_catches_up_with_is_counted() {
    let kept = json!({
        "history_size": 10, "history_ttl": "60s", "force_recovery": true, "allow_subscribe_for_client": true,
    });
    let gateway = Gateway::start_with(|config| config.channel.namespaces.push(namespace("kept", kept))).await;
    let mut epoch = Value::Null;
    for number in 0..3 {
        let position = gateway.api("publish", json!({"channel": "kept:a", "data": number})).await;
        epoch = position["epoch"].clone();
    }
    let mut client = gateway.connect("ann").await;
    for (epoch, recovered) in [(epoch, 2.0), (json!("gone"), 2.0)] {
        let request = json!({"channel": "kept:a", "recover": true, "epoch": epoch, "offset": 1});
        client.call(json!({"subscribe": request})).await;
        client.unsubscribe("kept:a").await;
        gateway.metric_is("clarion_recovered_publications_sum", recovered).await;
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.get("clarion_recovered_publications_count"), 1.0);
    assert_eq!(metrics.get("clarion_recoveries_total{outcome=\"not_recovered\""), 1.0);
}

#[tokio::test]
async fn what_is_asked_of_redis_is_timed_and_how_long_it_is_silent_is_told() {
    let (redis, proxy) = Redis::shared().proxied().await;
    let node = Gateway::start_node(&redis, "node", |_| {}).await;
    let held = node.metric("clarion_broker_subscriptions").await;
    let _ann = node.connect("ann").await.subscribe("news").await;
    node.metric_is("clarion_broker_subscriptions", held + 1.0).await;
    node.api("publish", json!({"channel": "news", "data": 1})).await;
    let metrics = node.metrics().await;
    for command in ["PUBLISH", "node_lease.lua"] {
        let count = format!("clarion_broker_command_duration_seconds_count{{command=\"{command}\"");
        assert!(metrics.get(&count) > 0.0, "{command}");
    }
    proxy.freeze();
    let age = "clarion_broker_last_message_age_seconds";
    eventually("a silence of two seconds", async || node.metric(age).await > 2.0).await;
    node.metric_is("clarion_broker_up", 0.0).await;
    proxy.mend();
    node.metric_is("clarion_broker_up", 1.0).await;
    eventually("a probe", async || node.metric(age).await < 2.0).await;
}

#[tokio::test]
async fn the_process_tells_what_it_uses_and_what_it_may() {
    let gateway = Gateway::start().await;
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_start_time_seconds",
        "process_threads",
        "process_open_fds",
        "process_max_fds",
        "clarion_memory_limit_bytes",
        "clarion_outbox_limit_bytes",
        "clarion_connections_limit",
        "clarion_runtime_busy_seconds_total{runtime=\"shard-0\"",
        "clarion_runtime_tasks{runtime=\"shard-1\"",
        "clarion_runtime_workers{runtime=\"backbone\"",
    ] {
        // How busy a thread was is known once it has had nothing to do.
        eventually(name, async || gateway.metric(name).await > 0.0).await;
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.get("clarion_node_info"), 1.0);
    assert!(metrics.get("process_open_fds") < metrics.get("process_max_fds"));
}
