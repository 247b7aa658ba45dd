//! Many clients come back to one channel at once, while publications go on: each gets exactly what it missed, and
//! Redis hardly notices.

use std::sync::Arc;

use clarion::config::Config;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Client, Gateway, OwnRedis, Redis, namespace};

/// Clients of each node.
const CLIENTS: u64 = 250;
/// How often each comes back.
const ROUNDS: u64 = 4;
/// Publications before they come back, and at the end.
const BEFORE: u64 = 50;
const ALL: u64 = 200;

fn channels(config: &mut Config) {
    config.channel.namespaces.push(namespace(
        "kept",
        json!({
            "history_size": 1000, "history_ttl": "600s", "force_recovery": true,
            "allow_subscribe_for_client": true,
        }),
    ));
}

async fn publish(nodes: &[Gateway], numbers: std::ops::RangeInclusive<u64>) -> Value {
    let mut epoch = Value::Null;
    for number in numbers {
        let node = &nodes[number as usize % nodes.len()];
        let position = node.api("publish", json!({"channel": "kept:a", "data": number})).await;
        epoch = position["epoch"].clone();
    }
    epoch
}

/// Comes back with everything up to `since`; answers up to where it has everything then.
async fn come_back(client: &mut Client, epoch: &Value, since: u64) -> u64 {
    let request = json!({"channel": "kept:a", "recover": true, "epoch": epoch, "offset": since});
    let reply = client.call(json!({"subscribe": request})).await;
    let subscribed = &reply["subscribe"];
    assert_eq!(subscribed["recovered"], true, "{reply}");
    let none = Vec::new();
    let publications = subscribed["publications"].as_array().unwrap_or(&none);
    (since + 1..).zip(publications).for_each(|(offset, publication)| {
        assert_eq!(*publication, json!({"data": offset, "offset": offset}));
    });
    since + publications.len() as u64
}

/// One client that comes back again and again, and stays at last.
async fn come_and_stay(mut client: Client, epoch: Value, number: u64) {
    for round in 1..ROUNDS {
        come_back(&mut client, &epoch, (number + round) % BEFORE).await;
        client.unsubscribe("kept:a").await;
        // What came in between was for the subscription before.
        client.forget_pushes();
    }
    let has = come_back(&mut client, &epoch, number % BEFORE).await;
    for offset in has + 1..=ALL {
        assert_eq!(client.next_push().await["pub"], json!({"data": offset, "offset": offset}));
    }
}

/// How often a part of a history was read.
async fn reads(redis: &OwnRedis) -> u64 {
    let info: String = redis.server.ask("", "INFO commandstats").await;
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_xrange:calls="));
    calls.and_then(|calls| calls.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_recovers_exactly_and_redis_reads_a_handful_of_times() {
    let redis = Redis::own();
    let nodes: [Gateway; 2] = Gateway::start_nodes(&redis.redis, channels).await;
    let nodes = Arc::new(nodes);
    let epoch = publish(&*nodes, 1..=BEFORE).await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS * 2 {
        clients.push(nodes[number as usize % 2].connect("ann").await);
    }
    let before = reads(&redis).await;
    let mut herd = JoinSet::new();
    for (number, client) in (0..).zip(clients) {
        herd.spawn(come_and_stay(client, epoch.clone(), number));
    }
    publish(&*nodes, BEFORE + 1..=ALL).await;
    while let Some(ended) = herd.join_next().await {
        ended.expect("it got exactly what it missed");
    }
    let reads = reads(&redis).await - before;
    assert!((2..=10).contains(&reads), "histories were read {reads} times");
    let mut from_memory = 0.0;
    for node in &*nodes {
        from_memory += node.metric("clarion_history_reads_total{source=\"window\"}").await;
    }
    let recoveries = (CLIENTS * 2 * ROUNDS) as f64;
    assert!(from_memory > recoveries / 2.0, "{from_memory} of {recoveries}");
}
