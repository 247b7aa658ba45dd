//! Clients talk to each other through channels.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Publication};

/// So many that all of them on one of two shards would be one chance in 32,768.
const ENOUGH_FOR_BOTH_SHARDS: usize = 16;

fn publication(channel: &str, data: impl Into<Value>, user: &str) -> Publication {
    Publication { channel: channel.into(), data: data.into(), user: user.into() }
}

async fn subscribers(gateway: &Gateway, count: usize, channel: &str) -> Vec<Client> {
    let mut subscribers = Vec::with_capacity(count);
    for index in 0..count {
        subscribers.push(gateway.connect(&format!("user-{index}")).await.subscribe(channel).await);
    }
    subscribers
}

#[tokio::test]
async fn clients_of_all_shards_hear_each_other_and_themselves() {
    let gateway = Gateway::start().await;
    let mut clients = subscribers(&gateway, ENOUGH_FOR_BOTH_SHARDS, "news").await;
    for speaker in [0, ENOUGH_FOR_BOTH_SHARDS - 1] {
        clients[speaker].publish("news", speaker).await;
        for client in &mut clients {
            let expected = publication("news", speaker, &format!("user-{speaker}"));
            assert_eq!(client.next_publication().await, expected);
        }
    }
}

#[tokio::test]
async fn every_subscriber_gets_every_publication_in_order() {
    const COUNT: usize = 1_000;
    let gateway = Gateway::start().await;
    let mut subscribers = subscribers(&gateway, ENOUGH_FOR_BOTH_SHARDS, "news").await;
    let mut alice = gateway.connect("alice").await;
    for batch in 0..COUNT / 100 {
        let line =
            |index| json!({"id": index + 1, "publish": {"channel": "news", "data": index}}).to_string();
        let lines: Vec<_> = (batch * 100..(batch + 1) * 100).map(line).collect();
        alice.send(lines.join("\n")).await;
    }
    for subscriber in &mut subscribers {
        for index in 0..COUNT {
            assert_eq!(subscriber.next_publication().await.data, index);
        }
    }
    assert_eq!(gateway.metric("clarion_publications_received_total{source=\"client\"}").await, COUNT as f64);
    gateway.metric_is("clarion_publications_delivered_total", (COUNT * subscribers.len()) as f64).await;
}

#[tokio::test]
async fn two_channels_are_two_conversations() {
    let gateway = Gateway::start().await;
    let mut alice = gateway.connect("alice").await.subscribe("a").await;
    let mut bob = gateway.connect("bob").await.subscribe("b").await;
    let mut carol = gateway.connect("carol").await;
    carol.publish("a", "for alice").await;
    carol.publish("b", "for bob").await;
    carol.publish("a", "for alice again").await;
    assert_eq!(alice.next_publication().await, publication("a", "for alice", "carol"));
    assert_eq!(alice.next_publication().await, publication("a", "for alice again", "carol"));
    assert_eq!(bob.next_publication().await, publication("b", "for bob", "carol"));
}

#[tokio::test]
async fn who_unsubscribes_hears_no_more_and_who_comes_back_hears_once() {
    let gateway = Gateway::start().await;
    let _others_of_both_shards = subscribers(&gateway, ENOUGH_FOR_BOTH_SHARDS, "news").await;
    let mut bob = gateway.connect("bob").await.subscribe("news").await.subscribe("end").await;
    let mut alice = gateway.connect("alice").await;
    alice.publish("news", 1).await;
    assert_eq!(bob.next_publication().await.data, 1);
    bob.unsubscribe("news").await;
    alice.publish("news", 2).await;
    alice.publish("end", 3).await;
    assert_eq!(bob.next_publication().await, publication("end", 3, "alice"));
    let mut bob = bob.subscribe("news").await;
    alice.publish("news", 4).await;
    alice.publish("end", 5).await;
    assert_eq!(bob.next_publication().await, publication("news", 4, "alice"));
    assert_eq!(bob.next_publication().await, publication("end", 5, "alice"));
}

#[tokio::test]
async fn commands_of_one_frame_are_answered_in_one_frame() {
    let gateway = Gateway::start().await;
    let mut bob = gateway.connect("bob").await;
    let commands = [
        json!({"id": 11, "subscribe": {"channel": "a"}}),
        json!({"id": 12, "subscribe": {"channel": "closed:a"}}),
        json!({"id": 13, "publish": {"channel": "b", "data": 1}}),
        json!({"id": 14, "unsubscribe": {"channel": "a"}}),
    ];
    bob.send(commands.map(|command| command.to_string()).join("\n") + "\n").await;
    let replies: Vec<Value> =
        bob.next_text().await.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        json!({"id": 11, "subscribe": {}}),
        json!({"id": 12, "error": {"code": 103, "message": "permission denied"}}),
        json!({"id": 13, "publish": {}}),
        json!({"id": 14, "unsubscribe": {}}),
    ];
    assert_eq!(replies, expected);
}

#[tokio::test]
async fn refusals_say_why_and_leave_the_connection_usable() {
    let gateway = Gateway::start().await;
    let mut bob = gateway.connect("bob").await.subscribe("news").await;
    for (command, code) in [
        (json!({"subscribe": {"channel": "nowhere:a"}}), 102),
        (json!({"subscribe": {"channel": "closed:a"}}), 103),
        (json!({"subscribe": {"channel": "$news"}}), 103),
        (json!({"subscribe": {"channel": "news"}}), 105),
        (json!({"subscribe": {"channel": "a b"}}), 107),
        (json!({"publish": {"channel": "read:a", "data": 1}}), 103),
        (json!({"publish": {"channel": "nowhere:a", "data": 1}}), 102),
        (json!({"publish": {"channel": "news"}}), 107),
        (json!({"history": {"channel": "news"}}), 108),
        (json!({"presence": {"channel": "news"}}), 108),
        (json!({"rpc": {"method": "x"}}), 108),
    ] {
        let reply = bob.call(command.clone()).await;
        assert_eq!(reply["error"]["code"], code, "{command}");
    }
    bob.publish("news", "still here").await;
    assert_eq!(bob.next_publication().await.data, "still here");
}

#[tokio::test]
async fn bare_and_native_clients_share_channels() {
    let gateway = Gateway::start().await;
    let mut native = gateway.connect("alice").await.subscribe("news").await;
    let mut bare = gateway.bare("bob", "channels=news").await;
    assert_eq!(bare.welcome["subs"], json!({"news": {}}));
    bare.publish("news", json!({"from": "bob"})).await;
    native.publish("news", json!({"from": "alice"})).await;
    for client in [&mut native, &mut bare] {
        assert_eq!(client.next_publication().await, publication("news", json!({"from": "bob"}), "bob"));
        assert_eq!(client.next_publication().await, publication("news", json!({"from": "alice"}), "alice"));
    }
}

#[tokio::test]
async fn data_form_carries_json_as_json_and_text_as_text_both_ways() {
    let gateway = Gateway::start().await;
    let mut native = gateway.connect("alice").await.subscribe("a").await;
    let mut data = gateway.data("bob", "channels=a&publish=a").await;
    // The subscription of the form with nothing but data is told by nothing but data.
    gateway.metric_is("clarion_subscriptions", 2.0).await;
    for (sent, published) in [
        (r#"{"x": 1}"#, json!({"x": 1})),
        ("12", json!(12)),
        ("null", json!(null)),
        ("hello", json!("hello")),
        (r#"{"x":"#, json!(r#"{"x":"#)),
        ("two\nlines", json!("two\nlines")),
    ] {
        data.send(sent).await;
        assert_eq!(native.next_publication().await, publication("a", published, "bob"));
        assert_eq!(data.next_text().await, sent);
    }
    for (published, received) in [(json!("text"), "text"), (json!({"y": 2}), r#"{"y":2}"#), (json!(""), "")] {
        native.publish("a", published).await;
        assert_eq!(data.next_text().await, received);
    }
}

#[tokio::test]
async fn connect_push_lists_refused_channels_and_the_rest_works() {
    let gateway = Gateway::start().await;
    let query = "channels=news,closed:a,nowhere:a&channel=one,two&channel=&channel=news&unknown=1";
    let mut bare = gateway.bare("bob", query).await;
    let subs = &bare.welcome["subs"];
    let codes = |name: &str| subs[name]["error"]["code"].as_u64();
    assert_eq!(codes("closed:a"), Some(103));
    assert_eq!(codes("nowhere:a"), Some(102));
    assert_eq!(codes(""), Some(107));
    assert_eq!(subs["news"], json!({}));
    assert_eq!(subs["one,two"], json!({}), "`channel=` takes a comma as a part of the name");
    assert_eq!(subs.as_object().unwrap().len(), 5);
    let mut alice = gateway.connect("alice").await;
    alice.publish("one,two", 1).await;
    alice.publish("news", 2).await;
    assert_eq!(bare.next_publication().await, publication("one,two", 1, "alice"));
    assert_eq!(bare.next_publication().await, publication("news", 2, "alice"));
    assert_eq!(gateway.metric("clarion_subscriptions").await, 2.0);
}

#[tokio::test]
async fn bare_publish_without_id_is_silent_unless_it_fails() {
    let gateway = Gateway::start().await;
    let mut bare = gateway.bare("bob", "channels=news").await;
    bare.send(r#"{"publish":{"channel":"news","data":"quiet"}}"#).await;
    assert_eq!(bare.next_publication().await, publication("news", "quiet", "bob"));
    bare.send(r#"{"publish":{"channel":"read:a","data":1}}"#).await;
    let error = bare.next_message().await;
    assert_eq!(error, json!({"error": {"code": 103, "message": "permission denied"}}));
}

#[tokio::test]
async fn back_end_reaches_clients_of_every_form() {
    let gateway = Gateway::start().await;
    let mut native = gateway.connect("alice").await.subscribe("news").await;
    let mut bare = gateway.bare("bob", "channels=news").await;
    gateway.api("publish", json!({"channel": "news", "data": {"n": 1}})).await;
    for client in [&mut native, &mut bare] {
        assert_eq!(client.next_publication().await, publication("news", json!({"n": 1}), ""));
    }
    gateway.api("disconnect", json!({"user": "alice"})).await;
    assert_eq!(native.closed().await.0, 3503);
    gateway.api("unsubscribe", json!({"user": "bob", "channel": "news"})).await;
    assert_eq!(bare.next_push().await["unsubscribe"]["code"], 2000);
    gateway.api("subscribe", json!({"user": "bob", "channel": "closed:a"})).await;
    let push = bare.next_push().await;
    assert_eq!((push["channel"].as_str(), push["subscribe"].is_object()), (Some("closed:a"), true));
}

#[tokio::test]
async fn the_excluded_connection_misses_nothing_else() {
    let gateway = Gateway::start_with(|config| {
        let options = &mut config.channel.without_namespace;
        (options.history_size, options.history_ttl) = (10, Duration::from_secs(600));
        options.force_recovery = true;
    })
    .await;
    let mut ann = gateway.connect("ann").await.subscribe("room").await;
    let mut same_user = gateway.connect("ann").await.subscribe("room").await;
    for (data, exclude) in [(1, ""), (2, ann.welcome["client"].as_str().unwrap()), (3, "")] {
        gateway.api("publish", json!({"channel": "room", "data": data, "exclude_client": exclude})).await;
    }
    assert_eq!([ann.next_publication().await.data, ann.next_publication().await.data], [json!(1), json!(3)]);
    for data in 1..=3 {
        assert_eq!(
            same_user.next_publication().await.data,
            data,
            "it is about one connection, not about a user"
        );
    }
    let reply = ann.call(json!({"subscribe": {"channel": "room"}})).await;
    assert_eq!(reply["error"]["code"], 105, "what it did not get has not ended its subscription");
}
