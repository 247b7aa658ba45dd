//! What clients may not do, by whatever name: rights, spoofed identities, limits, floods.

use clarion::config::Config;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, Raw, namespace};

/// In `team:` only the users of a channel's name may subscribe; `kept:` keeps 500 publications, in `wide:`
/// names may hold an é.
fn tenants(config: &mut Config) {
    let limited =
        json!({"allow_user_limited_channels": true, "presence": true, "allow_presence_for_subscriber": true});
    let kept = json!({
        "history_size": 500, "history_ttl": "600s", "allow_subscribe_for_client": true,
        "allow_history_for_client": true, "allow_publish_for_subscriber": true,
    });
    let wide = json!({"channel_regex": "^[a-zé]+$", "allow_subscribe_for_client": true});
    config.channel.namespaces.extend([
        namespace("team", limited),
        namespace("kept", kept),
        namespace("wide", wide),
    ]);
}

/// Asserts that the client may do nothing at all in `channel`, and that it is not told of anything there.
async fn is_shut(client: &mut Client, channel: &str, code: u64) {
    for command in [
        json!({"subscribe": {"channel": channel}}),
        json!({"subscribe": {"channel": channel, "recover": true, "offset": 0}}),
        json!({"publish": {"channel": channel, "data": 1}}),
    ] {
        assert_eq!(client.refusal(command.clone()).await, code, "{command}");
    }
    for command in [
        json!({"presence": {"channel": channel}}),
        json!({"presence_stats": {"channel": channel}}),
        json!({"history": {"channel": channel, "limit": 1}}),
    ] {
        let refused = client.refusal(command.clone()).await;
        assert!([code, 108].contains(&refused), "{command}: {refused}");
    }
    let reply = client.call(json!({"unsubscribe": {"channel": channel}})).await;
    assert_eq!(reply["unsubscribe"], json!({}), "it has nothing to leave");
}

#[tokio::test]
async fn without_a_right_every_command_is_refused_and_the_connection_stays() {
    let gateway = Gateway::start_with(tenants).await;
    let mut eve = gateway.connect("eve").await;
    for (channel, code) in [
        ("closed:a", 103),
        ("$closed:a", 103),
        ("team:x#ann", 103),
        ("team:x#ann,bob", 103),
        ("team:x#Eve", 103),
        ("team:x#eve2", 103),
        ("team:x#ev", 103),
        ("team:x#eve#ann", 103),
        ("team:eve", 103),
        ("nowhere:a", 102),
        ("Kept:a", 102),
        ("kept\u{200b}:a", 107),
        ("k\u{435}pt:a", 102),
    ] {
        is_shut(&mut eve, channel, code).await;
    }
    eve.publish("news", "still here").await;
}

#[tokio::test]
async fn names_are_data_and_match_nothing_but_themselves() {
    let gateway = Gateway::start_with(tenants).await;
    let names =
        ["*", "?", "[a-z]", "{a}", "{a}:1", "a*", "a\\", "\"a\"", "a|b", "%61", "..", "/", "a:{b}", "<a>"];
    let mut eve = gateway.connect("eve").await;
    let mut heard = Vec::new();
    for name in names {
        let reply = eve.call(json!({"subscribe": {"channel": name}})).await;
        match reply["error"]["code"].as_u64() {
            None => heard.push(name),
            code => assert_eq!(code, Some(102), "a namespace that is not configured: {name}"),
        }
    }
    assert_eq!(heard.len(), names.len() - 2, "{heard:?}");
    for name in ["a", "b", "1", "z", "anything", "a:b"].into_iter().filter(|name| !name.contains(':')) {
        gateway.api("publish", json!({"channel": name, "data": "matched"})).await;
    }
    for name in &heard {
        gateway.api("publish", json!({"channel": name, "data": "named"})).await;
        let publication = eve.next_publication().await;
        assert_eq!((publication.channel.as_str(), publication.data), (*name, json!("named")));
    }
}

#[tokio::test]
async fn names_that_look_alike_are_different_channels() {
    let gateway = Gateway::start_with(tenants).await;
    // One é in two spellings: the pattern of the namespace takes the composed one, and nothing is normalized.
    let mut ann = gateway.connect("ann").await.subscribe("wide:\u{e9}").await.subscribe("news").await;
    assert_eq!(ann.refusal(json!({"subscribe": {"channel": "wide:e\u{301}"}})).await, 107);
    for name in ["News", "NEWS", "news.", "news:"] {
        let published = gateway.ask_api("publish", json!({"channel": name, "data": "other"})).await;
        assert!(published["result"].is_object() || published["error"]["code"] == 102, "{name}: {published}");
    }
    gateway.api("publish", json!({"channel": "news", "data": "this"})).await;
    assert_eq!(ann.next_publication().await.data, "this");
}

#[tokio::test]
async fn a_token_of_one_tenant_opens_nothing_of_another() {
    let gateway = Gateway::start_with(tenants).await;
    let token = gateway.good(json!({"sub": "ann", "channel": "team:x#ann"}));
    for (user, channel) in [("eve", "team:x#ann"), ("ann", "team:x#bob"), ("ann", "team:x#ann,bob")] {
        let mut client = gateway.connect(user).await;
        let request = json!({"id": 9, "subscribe": {"channel": channel, "token": token}});
        client.send(request.to_string()).await;
        assert_eq!(client.closed().await.0, 3500, "{user} {channel}");
    }
    gateway.metric_is("clarion_subscriptions", 0.0).await;
}

#[tokio::test]
async fn a_history_is_read_within_its_limits_whatever_is_asked() {
    const LIMIT: usize = 300;
    let gateway = Gateway::start_with(tenants).await;
    let publish = |number: usize| json!({"publish": {"channel": "kept:a", "data": number}});
    gateway.ask_api("batch", json!({"commands": (1..=400).map(publish).collect::<Vec<_>>()})).await;
    let mut eve = gateway.connect("eve").await;
    for (what, request, expected) in [
        ("a limit of a billion", json!({"limit": 1_000_000_000}), Some(LIMIT)),
        ("no limit", json!({"limit": -1}), Some(LIMIT)),
        ("after the last offset there could be", json!({"limit": 9, "since": {"offset": u64::MAX}}), Some(0)),
        ("another epoch", json!({"limit": 9, "since": {"offset": 1, "epoch": "x"}}), None),
    ] {
        let mut request = request;
        request["channel"] = json!("kept:a");
        let reply = eve.call(json!({ "history": request })).await;
        assert_eq!(reply["history"]["publications"].as_array().map(Vec::len), expected, "{what}");
        assert!(expected.is_some() || reply["error"]["code"] == 112, "{what}");
    }
    eve.send(r#"{"id":9,"history":{"channel":"kept:a","since":{"offset":-1}}}"#).await;
    assert_eq!(eve.closed().await.0, 3501, "before the beginning");
}

#[tokio::test]
async fn info_is_at_most_1_kib_and_for_its_own_channels() {
    let gateway = Gateway::start_with(tenants).await;
    let info = |length: usize| json!("x".repeat(length - 2));
    let fits = gateway.connect_with(json!({"sub": "ann", "info": info(1_024)})).await;
    let mut raw = Raw::native(&gateway).await;
    let token = gateway.good(json!({"sub": "ann", "info": info(1_025)}));
    raw.send_text(&json!({"id": 1, "connect": {"token": token}}).to_string()).await;
    assert_eq!(raw.close_code().await, 3500);
    let mut fits = fits.subscribe("team:x#ann").await;
    let seen = fits.call(json!({"presence": {"channel": "team:x#ann"}})).await;
    assert!(seen.to_string().contains("xxx"), "who is with it sees it");
    let mut eve = gateway.connect("eve").await;
    let refused = eve.call(json!({"presence": {"channel": "team:x#ann"}})).await;
    assert_eq!(refused["error"], json!({"code": 103, "message": "permission denied"}), "and nothing else");
    let body = gateway.ask_api("refresh", json!({"user": "ann", "info": info(1_025)})).await;
    assert_eq!(body["error"]["code"], 107, "{body}");
}

#[tokio::test]
async fn a_publication_says_who_published_it_whatever_the_client_claims() {
    let gateway = Gateway::start_with(tenants).await;
    let mut eve =
        gateway.connect_with(json!({"sub": "eve", "info": {"role": "guest"}})).await.subscribe("news").await;
    let forged = json!({"user": "admin", "client": "x", "conn_info": {"role": "admin"}, "chan_info": 1});
    let publish = json!({
        "channel": "news", "data": {"info": forged}, "info": forged, "user": "admin", "client": "x",
        "offset": 99, "tags": {"a": "b"},
    });
    let reply = eve.call(json!({"publish": publish, "user": "admin", "info": forged})).await;
    assert_eq!(reply["publish"], json!({}));
    let expected = json!({
        "data": {"info": forged},
        "info": {"user": "eve", "client": eve.id(), "conn_info": {"role": "guest"}},
    });
    assert_eq!(eve.next_push().await["pub"], expected);
    let mut bare = gateway.bare("eve", "channels=news").await;
    bare.send(json!({ "publish": publish }).to_string()).await;
    assert_eq!(bare.next_push().await["pub"]["info"]["user"], "eve");
    assert_eq!(eve.refusal(json!({"publish": {"channel": "read:a", "data": 1}})).await, 103);
    assert_eq!(
        eve.refusal(json!({"publish": {"channel": "kept:a", "data": 1}})).await,
        103,
        "not a subscriber"
    );
    let mut eve = eve.subscribe("kept:a").await;
    eve.publish("kept:a", 1).await;
}

#[tokio::test]
async fn who_does_nothing_but_err_is_closed_with_3509_and_others_are_not() {
    const ENOUGH: usize = 1_000;
    let gateway = Gateway::start_with(tenants).await;
    let mut native = gateway.connect("eve").await;
    let mut bare = gateway.bare("eve", "").await;
    let mut bob = gateway.connect("bob").await.subscribe("news").await;
    let line = |id: usize| json!({"id": id + 2, "subscribe": {"channel": "closed:a"}}).to_string();
    let flood = (0..ENOUGH).map(line).collect::<Vec<_>>().join("\n");
    for client in [&mut native, &mut bare] {
        client.send(flood.clone()).await;
        assert_eq!(client.closed().await, (3509, "too many errors".into()));
    }
    for _ in 0..100 {
        assert_eq!(bob.refusal(json!({"subscribe": {"channel": "closed:a"}})).await, 103);
    }
    bob.publish("news", "still here").await;
    assert_eq!(bob.next_publication().await.data, "still here");
    gateway.metric_is("clarion_connections_closed_total{reason=\"too_many_errors\"}", 2.0).await;
}

#[tokio::test]
async fn a_capability_allows_what_the_namespace_does_not_and_nothing_else() {
    let gateway = Gateway::start_with(|config| {
        tenants(config);
        let closed = json!({"presence": true, "history_size": 5, "history_ttl": "600s"});
        config.channel.namespaces.push(namespace("vault", closed));
    })
    .await;
    let caps = json!([
        {"channels": ["vault:read"], "allow": ["sub", "prs", "hst"]},
        {"channels": ["vault:w*", "$vault:w*"], "match": "wildcard", "allow": ["pub"]},
    ]);
    let mut ann = gateway.connect_with(json!({"sub": "ann", "caps": caps})).await;
    let verdicts = async |client: &mut Client, channel: &str| -> Vec<u64> {
        let mut codes = Vec::new();
        for command in ["subscribe", "publish", "presence", "history"] {
            let reply = client.call(json!({ command: {"channel": channel, "data": 1} })).await;
            codes.push(reply["error"]["code"].as_u64().unwrap_or_default());
        }
        codes
    };
    assert_eq!(verdicts(&mut ann, "vault:read").await, [0, 103, 0, 0]);
    assert_eq!(verdicts(&mut ann, "vault:write").await, [103, 0, 103, 103]);
    assert_eq!(verdicts(&mut ann, "vault:readable").await, [103; 4], "an exact name is exact");
    assert_eq!(verdicts(&mut ann, "$vault:w").await, [103; 4], "a private channel wants a token");
    assert_eq!(verdicts(&mut ann, "vault:*").await, [103; 4]);
    let mut bob = gateway.connect("bob").await;
    assert_eq!(verdicts(&mut bob, "vault:read").await, [103; 4]);
    let caps: Value = json!([{"channels": ["vault:read"], "allow": ["sub"], "until": 7}]);
    let mut eve = gateway.silent().await;
    let token = gateway.good(json!({"sub": "eve", "caps": caps}));
    eve.send(json!({"id": 1, "connect": {"token": token}}).to_string()).await;
    assert_eq!(eve.closed().await.0, 3500, "what it does not know could be meant to restrict");
}

#[tokio::test]
async fn a_user_has_so_many_connections_and_one_more_when_one_has_closed() {
    let gateway = Gateway::start_with(|config| {
        config.client.user_connections_max = 2;
        config.client.anonymous = true;
    })
    .await;
    let native = gateway.connect("ann").await;
    let bare = gateway.bare("ann", "").await;
    let connect = json!({"id": 1, "connect": {"token": gateway.token("ann")}}).to_string();
    let mut third = gateway.silent().await;
    third.send(connect.clone()).await;
    assert_eq!(third.closed().await, (3504, "connection limit".into()));
    let mut data = gateway.data("ann", "publish=news").await;
    assert_eq!(data.closed().await.0, 3504, "all forms together");
    let _bob = gateway.connect("bob").await;
    for _ in 0..4 {
        Client::native(gateway.open().await, "").await;
    }
    native.leave().await;
    let mut ann = gateway.connect("ann").await;
    ann.publish("news", "there was a place").await;
    let mut third = gateway.silent().await;
    third.send(connect).await;
    assert_eq!(third.closed().await.0, 3504, "who was refused has given nothing back");
    bare.leave().await;
    gateway.connect("ann").await.publish("news", "there was another").await;
}
