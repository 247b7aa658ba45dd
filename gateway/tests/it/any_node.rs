//! What is published on any node reaches clients of every node, whole and once.

use std::time::{Duration, Instant};

use clarion::config::Config;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, ProtobufClient, Redis, eventually, namespace};

/// How long a node stays subscribed to a channel that nobody holds any more.
const GRACE: Duration = Duration::from_secs(5);

/// `kept:` has a history, `binary:` takes any bytes, `mine:` is for whom the back end subscribes.
fn channels(config: &mut Config) {
    let rights = |mut options: Value| {
        options["allow_subscribe_for_client"] = json!(true);
        options["allow_publish_for_client"] = json!(true);
        options
    };
    config.channel.namespaces.extend([
        namespace(
            "kept",
            rights(json!({"history_size": 100, "history_ttl": "600s", "force_recovery": true})),
        ),
        namespace("binary", rights(json!({"publication_data_format": "binary"}))),
        namespace("mine", json!({})),
    ]);
}

async fn trio(redis: &Redis) -> [Gateway; 3] {
    Gateway::start_nodes(redis, channels).await
}

/// A subscriber of `channel` on each node.
async fn audience(nodes: &[Gateway; 3], channel: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for node in nodes {
        clients.push(node.connect("ann").await.subscribe(channel).await);
    }
    clients
}

#[tokio::test]
async fn clients_of_three_nodes_hear_each_other_in_one_order() {
    let nodes = trio(&Redis::shared()).await;
    for channel in ["news", "kept:a"] {
        let mut audience = audience(&nodes, channel).await;
        let mut bob = nodes[1].connect("bob").await;
        for number in 0..50 {
            bob.publish(channel, number).await;
        }
        let mut carol = nodes[2].bare("carol", "").await;
        carol.publish(channel, "end").await;
        for client in &mut audience {
            for number in 0..50 {
                let publication = client.next_publication().await;
                assert_eq!((publication.data, &*publication.user), (json!(number), "bob"));
            }
            let publication = client.next_publication().await;
            assert_eq!((publication.data, &*publication.user), (json!("end"), "carol"));
        }
    }
}

#[tokio::test]
async fn the_back_end_reaches_every_node_through_any() {
    let nodes = trio(&Redis::shared()).await;
    let (mut news, mut kept) = (audience(&nodes, "news").await, audience(&nodes, "kept:a").await);
    nodes[0].api("publish", json!({"channel": "news", "data": 1})).await;
    let answer = nodes[1].api("broadcast", json!({"channels": ["news", "kept:a"], "data": 2})).await;
    assert_eq!(answer["responses"][1]["result"]["offset"], 1, "{answer}");
    nodes[2].api("subscribe", json!({"user": "ann", "channel": "mine:a"})).await;
    for client in &mut news {
        assert_eq!(client.next_publication().await.data, 1);
        assert_eq!(client.next_publication().await.data, 2);
        assert_eq!(client.next_push().await["channel"], "mine:a");
    }
    nodes[0].api("publish", json!({"channel": "mine:a", "data": 3})).await;
    for client in &mut news {
        assert_eq!(client.next_publication().await.data, 3);
    }
    for client in &mut kept {
        assert_eq!(client.next_publication().await.data, 2);
    }
}

#[tokio::test]
async fn bytes_tags_and_who_published_arrive_as_they_were_sent() {
    const BYTES: &[u8] = b"\0\xff\n{";
    let [left, right] = Gateway::start_nodes(&Redis::shared(), channels).await;
    let mut ann = ProtobufClient::connect(&right, "ann").await.subscribe("binary:a").await;
    let mut bob = ProtobufClient::connect(&left, "bob").await;
    bob.publish("binary:a", BYTES).await;
    let publication = ann.next_push().await.r#pub.expect("it is a publication");
    assert_eq!(publication.data, BYTES);
    let info = publication.info.expect("a client published it");
    assert_eq!((info.user, info.client), ("bob".to_owned(), bob.welcome.client.clone()));
    let request = json!({"channel": "binary:a", "b64data": "AP8KewA=", "tags": {"k": "v", "": "ü"}});
    left.api("publish", request).await;
    let publication = ann.next_push().await.r#pub.expect("it is a publication");
    assert_eq!((&publication.data[..], publication.info), (&b"\0\xff\n{\0"[..], None));
    let tags = [("", "ü"), ("k", "v")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(publication.tags, tags.into());
}

#[tokio::test]
async fn a_connection_can_be_left_out_on_whichever_node_it_is() {
    let [left, right] = Gateway::start_nodes(&Redis::shared(), channels).await;
    for channel in ["news", "kept:a"] {
        let mut ann = right.connect("ann").await.subscribe(channel).await;
        let mut other = right.connect("ann").await.subscribe(channel).await;
        for (data, exclude) in [(1, ""), (2, ann.id()), (3, "")] {
            left.api("publish", json!({"channel": channel, "data": data, "exclude_client": exclude})).await;
        }
        for data in [1, 3] {
            assert_eq!(ann.next_publication().await.data, data);
        }
        for data in 1..=3 {
            assert_eq!(other.next_publication().await.data, data);
        }
    }
}

#[tokio::test]
async fn what_is_published_twice_with_one_key_is_one_publication() {
    let nodes = trio(&Redis::shared()).await;
    for (channel, has_history) in [("kept:a", true), ("news", false)] {
        let mut audience = audience(&nodes, channel).await;
        let publish = async |node: usize, key: &str, data: u64| {
            let request = json!({"channel": channel, "data": data, "idempotency_key": key});
            nodes[node].api("publish", request).await
        };
        let (first, again) = (publish(0, "a", 1).await, publish(1, "a", 2).await);
        assert_eq!(first, again);
        assert_eq!(first["offset"].as_u64(), has_history.then_some(1), "{first}");
        publish(2, "b", 3).await;
        for client in &mut audience {
            assert_eq!(client.next_publication().await.data, 1);
            assert_eq!(client.next_publication().await.data, 3);
        }
    }
}

#[tokio::test]
async fn a_node_hears_a_channel_as_long_as_it_holds_it_and_a_little_longer() {
    let redis = Redis::shared();
    let [left, right] = Gateway::start_nodes(&redis, channels).await;
    assert_eq!(redis.listeners("news").await, 0);
    let ann = left.connect("ann").await.subscribe("news").await;
    assert_eq!(redis.listeners("news").await, 1, "the other node holds nothing of it");
    right.api("publish", json!({"channel": "news", "data": 1})).await;
    assert_eq!(redis.listeners("news").await, 1, "to publish is not to hold");
    let mut bob = right.connect("bob").await.subscribe("news").await;
    assert_eq!(redis.listeners("news").await, 2);
    let left_at = Instant::now();
    ann.leave().await;
    eventually("the node to let go of the channel", async || redis.listeners("news").await == 1).await;
    assert!(left_at.elapsed() >= GRACE, "{:?}", left_at.elapsed());
    left.api("publish", json!({"channel": "news", "data": 2})).await;
    assert_eq!(bob.next_publication().await.data, 2);
}
