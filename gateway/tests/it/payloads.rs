//! What may be published, and in which form it reaches clients of each form.

use clarion::config::Config;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, namespace};

/// `any:`, `json:`, `object:` and `binary:`, named for what they take.
fn formats(config: &mut Config) {
    let taking = |name, format| {
        let options = json!({
            "publication_data_format": format,
            "allow_subscribe_for_client": true, "allow_publish_for_client": true,
            "history_size": 5, "history_ttl": "600s", "allow_history_for_client": true,
        });
        namespace(name, options)
    };
    let formats = [("any", ""), ("json", "json"), ("object", "json_object"), ("binary", "binary")];
    config.channel.namespaces.extend(formats.map(|(name, format)| taking(name, format)));
}

/// In base64.
const BYTES: &str = "AP8=";

#[tokio::test]
async fn a_channel_takes_the_data_that_its_format_says_from_clients_and_from_the_api() {
    let gateway = Gateway::start_with(formats).await;
    let mut ann = gateway.connect("ann").await;
    let samples = [
        ("nothing", json!({})),
        ("an object", json!({"data": {"a": 1}})),
        ("a list", json!({"data": [1]})),
        ("null", json!({"data": null})),
        ("a text", json!({"data": ""})),
        ("an object in base64", json!({"b64data": "eyJhIjoxfQ=="})),
        ("bytes", json!({"b64data": BYTES})),
    ];
    for (channel, expected) in
        [("any:a", "0111111"), ("json:a", "0111110"), ("object:a", "0100010"), ("binary:a", "1111111")]
    {
        let mut by_api = String::new();
        for (what, sample) in &samples {
            let mut request = sample.clone();
            request["channel"] = json!(channel);
            let body = gateway.ask_api("publish", request.clone()).await;
            by_api.push(if body.get("error").is_some() { '0' } else { '1' });
            if body.get("error").is_some() {
                assert_eq!(body["error"]["code"], 107, "{what}");
            }
            // The commands have no base64.
            if sample.get("b64data").is_none() {
                let reply = ann.call(json!({ "publish": request })).await;
                let is_taken = reply["error"].is_null();
                assert_eq!(is_taken, by_api.ends_with('1'), "{what} to {channel}: {reply}");
                assert!(is_taken || reply["error"]["code"] == 107, "{reply}");
            }
        }
        assert_eq!(by_api, expected, "{channel}");
    }
}

#[tokio::test]
async fn bytes_arrive_as_bytes_with_publish_and_close_who_reads_json_with_3506() {
    let gateway = Gateway::start_with(formats).await;
    let mut native = gateway.connect("ann").await.subscribe("binary:a").await;
    let mut bare = gateway.bare("bob", "channels=binary:a").await;
    let mut echo = gateway.data("eve", "channels=binary:a&publish=binary:a").await;
    gateway.metric_is("clarion_subscriptions", 3.0).await;
    // Bytes that are JSON too: everybody can read them, each in its own form.
    echo.send_binary(b"[1, 2]").await;
    assert_eq!(echo.next_binary().await, b"[1, 2]");
    for client in [&mut native, &mut bare] {
        let publication = client.next_publication().await;
        assert_eq!((publication.data, publication.user.as_str()), (json!([1, 2]), "eve"));
    }
    echo.send_binary(&[0, 0xff]).await;
    assert_eq!(echo.next_binary().await, [0, 0xff]);
    for client in [&mut native, &mut bare] {
        assert_eq!(client.closed().await, (3506, "inappropriate protocol".into()));
    }
    gateway.api("publish", json!({"channel": "binary:a", "b64data": BYTES})).await;
    assert_eq!(echo.next_binary().await, [0, 0xff]);
    echo.send_binary(b"").await;
    assert_eq!(echo.next_binary().await, b"");
    echo.send("text").await;
    assert_eq!(echo.next_text().await, "text");
}

#[tokio::test]
async fn data_that_the_channel_does_not_take_closes_who_can_only_send_data() {
    let gateway = Gateway::start_with(formats).await;
    let mut echo = gateway.data("eve", "channels=json:a&publish=json:a").await;
    echo.send_binary(b"1").await;
    assert_eq!(echo.next_binary().await, b"1");
    echo.send_binary(&[0xff]).await;
    assert_eq!(echo.closed().await.0, 3501);
    let mut echo = gateway.data("eve", "publish=any:a").await;
    echo.send_binary(b"").await;
    assert_eq!(echo.closed().await.0, 3501);
}

#[tokio::test]
async fn bytes_in_a_history_close_who_would_catch_up_with_them_in_json() {
    let gateway = Gateway::start_with(|config| {
        formats(config);
        config.channel.namespaces.last_mut().unwrap().force_recovery = true;
    })
    .await;
    let published = gateway.api("publish", json!({"channel": "binary:a", "b64data": BYTES})).await;
    let (epoch, offset) = (published["epoch"].as_str().unwrap(), 0);
    let since = json!({"channel": "binary:a", "recover": true, "epoch": epoch, "offset": offset});
    for command in [json!({"subscribe": since}), json!({"history": {"channel": "binary:a", "limit": 1}})] {
        let mut ann = gateway.connect("ann").await;
        send(&mut ann, command.clone()).await;
        assert_eq!(ann.closed().await.0, 3506, "{command}");
    }
    let query = format!("channels=binary:a&since=binary:a@{epoch}:0");
    let mut bare = Client::data(gateway.open().await, &gateway.token("bob"), &query).await;
    assert_eq!(bare.closed().await.0, 3506);
    let kept = gateway.api("history", json!({"channel": "binary:a", "limit": 1})).await;
    assert_eq!(kept["publications"], json!([{"b64data": BYTES, "offset": 1}]), "a back end can have them");
}

async fn send(client: &mut Client, mut command: Value) {
    command["id"] = json!(99);
    client.send(command.to_string()).await;
}

#[tokio::test]
async fn in_cache_mode_with_auto_recovery_the_newest_comes_unasked() {
    let gateway = Gateway::start_with(|config| {
        let options = json!({
            "history_size": 5, "history_ttl": "600s", "force_recovery": true,
            "allow_subscribe_for_client": true,
            "force_recovery_mode": "cache", "auto_cache_recover": true,
        });
        config.channel.namespaces.push(namespace("price", options));
    })
    .await;
    let mut ann = gateway.connect("ann").await;
    let reply = ann.call(json!({"subscribe": {"channel": "price:a"}})).await;
    assert_eq!(reply["subscribe"].get("publications"), None, "there is none yet: {reply}");
    for number in 1..=3 {
        gateway.api("publish", json!({"channel": "price:b", "data": number})).await;
    }
    let newest = json!([{"data": 3, "offset": 3}]);
    let reply = ann.call(json!({"subscribe": {"channel": "price:b"}})).await["subscribe"].take();
    assert_eq!((&reply["recovered"], &reply["was_recovering"]), (&json!(true), &json!(true)), "{reply}");
    assert_eq!(reply["publications"], newest, "{reply}");
    let bare = gateway.bare("bob", "channels=price:b").await;
    assert_eq!(bare.welcome["subs"]["price:b"]["publications"], newest);
    let eve = gateway.connect_with(json!({"sub": "eve", "channels": ["price:b"]})).await;
    assert_eq!(eve.welcome["subs"]["price:b"]["publications"], newest);
    let mut eve = gateway.connect("eve").await;
    gateway.api("subscribe", json!({"user": "eve", "channel": "price:b"})).await;
    assert!(eve.next_push().await["subscribe"].is_object());
    assert_eq!(eve.next_push().await["pub"], newest[0]);
    gateway.api("publish", json!({"channel": "price:b", "data": 4})).await;
    for client in [&mut ann, &mut eve] {
        assert_eq!(client.next_publication().await.data, 4);
    }
}
