//! While Redis is away: what asks for it is told to come back, what does not need it goes on, nothing is lost.

use std::pin::pin;
use std::time::{Duration, Instant};

use clarion::config::Config;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, Proxy, Redis, eventually, namespace};

/// Longer than `command_timeout`, by what a busy machine adds.
const SOON: Duration = Duration::from_secs(4);
const PING_INTERVAL: Duration = Duration::from_secs(2);

fn channels(config: &mut Config) {
    config.channel.namespaces.push(namespace(
        "kept",
        json!({
            "history_size": 100, "history_ttl": "600s", "force_recovery": true,
            "allow_subscribe_for_client": true, "allow_publish_for_client": true,
            "allow_history_for_client": true, "presence": true, "allow_presence_for_client": true,
        }),
    ));
    config.client.ping_interval = PING_INTERVAL;
    config.client.pong_timeout = PING_INTERVAL * 3 / 4;
}

/// A node whose way to Redis can be cut, and one that has a way of its own.
async fn nodes() -> (Gateway, Gateway, Proxy) {
    let redis = Redis::shared();
    let (cuttable, proxy) = redis.proxied().await;
    let cut_off = Gateway::start_node(&cuttable, "cut-off", channels).await;
    let other = Gateway::start_node(&redis, "other", channels).await;
    (cut_off, other, proxy)
}

async fn is_refused_for_now(client: &mut Client, command: Value) {
    let asked_at = Instant::now();
    let reply = client.call(command.clone()).await;
    assert!(asked_at.elapsed() < SOON, "{command} took {:?}", asked_at.elapsed());
    let error = &reply["error"];
    assert_eq!((&error["code"], &error["temporary"]), (&json!(100), &json!(true)), "{command}: {reply}");
}

async fn is_told_to_come_back(gateway: &Gateway, method: &str, request: Value) {
    let asked_at = Instant::now();
    let answer = gateway.post_api(method, &request).await;
    assert!(asked_at.elapsed() < SOON, "{method} took {:?}", asked_at.elapsed());
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{method}: {}", answer.body);
}

/// Asks the node that is cut off for everything that needs Redis.
async fn is_told_everywhere(cut_off: &Gateway) {
    for (method, request) in [
        ("publish", json!({"channel": "kept:a", "data": 0, "idempotency_key": "k"})),
        ("history", json!({"channel": "kept:b"})),
        ("presence", json!({"channel": "kept:b"})),
        ("presence_stats", json!({"channel": "kept:b"})),
        ("disconnect", json!({"user": "nobody"})),
    ] {
        is_told_to_come_back(cut_off, method, request).await;
    }
    let answer = cut_off.api("broadcast", json!({"channels": ["kept:b", "news"], "data": 0})).await;
    for response in answer["responses"].as_array().expect("one for each channel") {
        assert_eq!(response["error"]["code"], 100, "{response}");
    }
    let mut bob = cut_off.connect("bob").await;
    for command in [
        json!({"publish": {"channel": "kept:b", "data": 0}}),
        json!({"subscribe": {"channel": "kept:b"}}),
        json!({"history": {"channel": "kept:b"}}),
        json!({"presence": {"channel": "kept:b"}}),
        json!({"presence_stats": {"channel": "kept:b"}}),
    ] {
        is_refused_for_now(&mut bob, command).await;
    }
    cut_off.metric_is("clarion_broker_up", 0.0).await;
    assert_eq!(cut_off.get("/livez").await.status, 200);
}

/// Lets `client` answer pings while `work` goes on; nothing else may come. Answers how many came.
async fn pings_during(client: &mut Client, work: impl Future<Output = ()>) -> usize {
    let mut work = pin!(work);
    let mut pings = 0;
    loop {
        tokio::select! {
            text = client.next_text() => {
                assert_eq!(text, "{}", "nothing but pings");
                client.send("{}").await;
                pings += 1;
            }
            () = &mut work => return pings,
        }
    }
}

/// Takes Redis away from a node, as `take` does, and gives it back.
async fn is_survived(take: impl FnOnce(&Proxy)) {
    let (cut_off, other, proxy) = nodes().await;
    let mut ann = cut_off.connect("ann").await.subscribe("kept:a").await.subscribe("news").await;
    ann.publish("kept:a", 1).await;
    assert_eq!(ann.next_publication().await.data, 1);
    take(&proxy);
    let pings = pings_during(&mut ann, async {
        is_told_everywhere(&cut_off).await;
        for number in 2..=20 {
            other.api("publish", json!({"channel": "kept:a", "data": number})).await;
        }
    });
    assert!(pings.await >= 2);
    proxy.mend();
    for number in 2..=20 {
        let push = ann.next_push().await;
        assert_eq!(
            (&push["pub"]["data"], &push["pub"]["offset"]),
            (&json!(number), &json!(number)),
            "{push}"
        );
    }
    cut_off.metric_is("clarion_broker_up", 1.0).await;
    eventually("what is published here to be taken again", async || {
        cut_off.post_api("publish", &json!({"channel": "news", "data": "again"})).await.status == 200
    })
    .await;
    // Of `news` nothing was missed and nothing comes twice.
    assert_eq!(ann.next_publication().await.data, "again");
    let mut bob = cut_off.connect("bob").await.subscribe("kept:a").await;
    other.api("publish", json!({"channel": "kept:a", "data": 21})).await;
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.next_publication().await.data, 21);
    }
    assert!(cut_off.metric("clarion_publications_healed_total").await >= 1.0);
    assert_eq!(cut_off.metric("clarion_broker_losses_total").await, 0.0);
}

#[tokio::test]
async fn sockets_survive_a_redis_that_is_gone_and_get_what_they_missed() {
    is_survived(Proxy::cut).await;
}

#[tokio::test]
async fn sockets_survive_a_network_that_swallows_everything_and_get_what_they_missed() {
    is_survived(Proxy::freeze).await;
}
