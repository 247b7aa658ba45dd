//! Reading what was published, over the socket.

use serde_json::{Value, json};

use crate::support::{Client, Gateway};

/// A gateway whose channels `kept:…` keep five publications, with `count` published to `kept:a`.
async fn gateway(count: u64) -> Gateway {
    let gateway = Gateway::start_with(|config| {
        let namespace = json!({
            "name": "kept", "history_size": 5, "history_ttl": "600s",
            "allow_subscribe_for_client": true, "allow_history_for_subscriber": true,
        });
        config.channel.namespaces.push(serde_json::from_value(namespace).expect("it is a namespace"));
        config.client.history_publications_max = 4;
    })
    .await;
    for number in 1..=count {
        gateway.api("publish", json!({"channel": "kept:a", "data": number})).await;
    }
    gateway
}

async fn read(client: &mut Client, request: Value) -> Value {
    client.call(json!({"history": request})).await
}

fn offsets(reply: &Value) -> Vec<u64> {
    let publications = reply["history"]["publications"].as_array().expect("it is a result");
    publications.iter().map(|publication| publication["offset"].as_u64().expect("it has one")).collect()
}

#[tokio::test]
async fn without_a_limit_only_the_position_is_answered() {
    let gateway = gateway(7).await;
    let mut client = gateway.connect("ann").await.subscribe("kept:a").await;
    let reply = read(&mut client, json!({"channel": "kept:a"})).await;
    assert_eq!(reply["history"]["offset"], 7);
    assert_eq!(reply["history"]["publications"], json!([]));
    assert!(reply["history"]["epoch"].as_str().is_some_and(|epoch| !epoch.is_empty()));
}

#[tokio::test]
async fn a_history_is_read_in_both_directions_within_limits() {
    let gateway = gateway(7).await;
    let mut client = gateway.connect("ann").await.subscribe("kept:a").await;
    let cases = [
        (json!({"limit": 2}), vec![3, 4]),
        (json!({"limit": -1}), vec![3, 4, 5, 6]),
        (json!({"limit": 100}), vec![3, 4, 5, 6]),
        (json!({"limit": 2, "reverse": true}), vec![7, 6]),
        (json!({"limit": 9, "since": {"offset": 5}}), vec![6, 7]),
        (json!({"limit": 9, "since": {"offset": 1}}), vec![3, 4, 5, 6]),
        (json!({"limit": 9, "since": {"offset": 7}}), vec![]),
        (json!({"limit": 9, "since": {"offset": 5}, "reverse": true}), vec![4, 3]),
    ];
    for (mut request, expected) in cases {
        request["channel"] = json!("kept:a");
        assert_eq!(offsets(&read(&mut client, request.clone()).await), expected, "{request}");
    }
}

#[tokio::test]
async fn who_may_not_read_or_asks_what_cannot_be_is_told_so() {
    let gateway = gateway(1).await;
    let mut client = gateway.connect("ann").await;
    let refused = read(&mut client, json!({"channel": "kept:a", "limit": 1})).await;
    assert_eq!(refused["error"]["code"], 103, "only subscribers may");
    assert_eq!(read(&mut client, json!({"channel": "news"})).await["error"]["code"], 108);
    assert_eq!(read(&mut client, json!({"channel": "nope:x"})).await["error"]["code"], 102);
    let mut client = client.subscribe("kept:a").await;
    let backwards = json!({"channel": "kept:a", "reverse": true, "since": {"offset": 0}});
    assert_eq!(read(&mut client, backwards).await["error"]["code"], 107);
    let elsewhere = json!({"channel": "kept:a", "limit": 1, "since": {"offset": 0, "epoch": "elsewhere"}});
    assert_eq!(read(&mut client, elsewhere).await["error"]["code"], 112);
}
