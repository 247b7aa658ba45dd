//! A client that lost its node goes on at another one.

use clarion::config::Config;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, Redis, namespace};

fn channels(config: &mut Config) {
    config.channel.namespaces.push(namespace(
        "kept",
        json!({
            "history_size": 10, "history_ttl": "600s", "force_recovery": true,
            "allow_subscribe_for_client": true, "allow_history_for_client": true,
        }),
    ));
}

async fn subscribe(client: &mut Client, more: Value) -> Value {
    let mut request = more;
    request["channel"] = json!("kept:a");
    let mut reply = client.call(json!({"subscribe": request})).await;
    assert!(reply["subscribe"].is_object(), "{reply}");
    reply["subscribe"].take()
}

/// Publishes these through the nodes in turn; answers the last position.
async fn publish(nodes: &[Gateway], numbers: std::ops::RangeInclusive<u64>) -> Value {
    let mut position = Value::Null;
    for number in numbers {
        let node = &nodes[number as usize % nodes.len()];
        position = node.api("publish", json!({"channel": "kept:a", "data": number})).await;
    }
    position
}

fn publications(numbers: std::ops::RangeInclusive<u64>) -> Value {
    numbers.map(|number| json!({"data": number, "offset": number})).collect()
}

#[tokio::test]
async fn a_client_recovers_on_another_node_exactly_what_it_missed() {
    let nodes: [Gateway; 3] = Gateway::start_nodes(&Redis::shared(), channels).await;
    let mut ann = nodes[0].connect("ann").await;
    let first = subscribe(&mut ann, json!({})).await;
    publish(&nodes, 1..=3).await;
    for number in 1..=3 {
        let push = ann.next_push().await;
        assert_eq!((&push["pub"]["data"], &push["pub"]["offset"]), (&json!(number), &json!(number)));
    }
    ann.leave().await;
    publish(&nodes, 4..=9).await;
    let mut ann = nodes[1].connect("ann").await;
    let since = json!({"recover": true, "epoch": first["epoch"], "offset": 3});
    let recovered = subscribe(&mut ann, since).await;
    assert_eq!((&recovered["recovered"], &recovered["epoch"]), (&json!(true), &first["epoch"]));
    assert_eq!(recovered["publications"], publications(4..=9));
    publish(&nodes, 10..=10).await;
    assert_eq!(ann.next_push().await["pub"]["offset"], 10);
    ann.leave().await;
    publish(&nodes, 11..=21).await;
    // One that has delivered nothing of it, so that it has to ask.
    let mut ann = nodes[2].connect("ann").await;
    let since = json!({"recover": true, "epoch": first["epoch"], "offset": 10});
    let recovered = subscribe(&mut ann, since.clone()).await;
    assert_eq!(recovered.get("recovered"), None, "11 is gone: {recovered}");
    assert_eq!((recovered.get("publications"), &recovered["offset"]), (None, &json!(21)));
    ann.leave().await;
    // One that has just delivered it still knows.
    let mut ann = nodes[1].connect("ann").await;
    let recovered = subscribe(&mut ann, since).await;
    assert_eq!((&recovered["recovered"], &recovered["publications"]), (&json!(true), &publications(11..=21)));
}

#[tokio::test]
async fn every_node_tells_the_same_position_and_the_same_history() {
    let nodes: [Gateway; 3] = Gateway::start_nodes(&Redis::shared(), channels).await;
    let published = publish(&nodes, 1..=7).await;
    for node in &nodes {
        let mut client = node.connect("ann").await;
        let subscribed = subscribe(&mut client, json!({})).await;
        assert_eq!((&subscribed["offset"], &subscribed["epoch"]), (&json!(7), &published["epoch"]));
        let request =
            json!({"channel": "kept:a", "limit": 5, "since": {"offset": 2, "epoch": published["epoch"]}});
        let expected = json!({"epoch": published["epoch"], "offset": 7, "publications": publications(3..=7)});
        assert_eq!(node.api("history", request.clone()).await, expected);
        assert_eq!(client.call(json!({"history": request})).await["history"], expected);
    }
    nodes[0].api("history_remove", json!({"channel": "kept:a"})).await;
    let rest = nodes[2].api("history", json!({"channel": "kept:a", "limit": 5})).await;
    assert_eq!((&rest["offset"], &rest["publications"]), (&json!(7), &json!([])));
}
