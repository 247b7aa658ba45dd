//! Subscription tokens: what they open, what comes with them, and when they end.

use std::time::Duration;

use clarion::config::Config;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, SECRET, after, forge, namespace, now};

/// Nobody may subscribe to `shut:` without a token; in `seen:` clients may see who is present.
fn shut(config: &mut Config) {
    config.client.expired_sub_close_delay = Duration::ZERO;
    config.channel.namespaces.extend([
        namespace("shut", json!({"history_size": 5, "history_ttl": "600s"})),
        namespace("seen", json!({"presence": true, "join_leave": true, "allow_presence_for_client": true})),
    ]);
}

/// The command that subscribes to `channel` with a token.
fn with(channel: &str, token: &str) -> Value {
    json!({"subscribe": {"channel": channel, "token": token}})
}

/// Checks and takes out a time to live that cannot be known to the second.
fn take_ttl(result: &mut Value, about: u64) {
    let ttl = result.as_object_mut().and_then(|result| result.remove("ttl")).and_then(|ttl| ttl.as_u64());
    let ttl = ttl.unwrap_or_else(|| panic!("{result} has no time to live"));
    assert!((about.saturating_sub(20).max(1)..=about).contains(&ttl), "{ttl}");
}

/// Subscribes `client`, a connection of ann, to `channel` with a token that is good for that long.
async fn subscribe_for(gateway: &Gateway, client: &mut Client, channel: &str, seconds: f64) {
    let token = gateway.sign(&json!({"sub": "ann", "channel": channel, "exp": after(seconds)}));
    let reply = client.call(with(channel, &token)).await;
    assert_eq!(reply["subscribe"]["expires"], true, "{reply}");
}

#[tokio::test]
async fn a_token_opens_what_the_namespace_does_not_and_brings_its_data() {
    let gateway = Gateway::start_with(shut).await;
    let mut ann = gateway.connect("ann").await;
    for channel in ["shut:a", "$news", "$shut:a"] {
        assert_eq!(ann.refusal(json!({"subscribe": {"channel": channel}})).await, 103, "{channel}");
        let token = gateway.good(json!({"sub": "ann", "channel": channel, "data": {"since": 1.0}}));
        let mut reply = ann.call(with(channel, &token)).await;
        take_ttl(&mut reply["subscribe"], 3_600);
        assert_eq!(reply["subscribe"], json!({"expires": true, "data": {"since": 1.0}}), "{channel}");
        gateway.api("publish", json!({"channel": channel, "data": channel})).await;
        assert_eq!(ann.next_publication().await.data, channel);
    }
}

#[tokio::test]
async fn a_token_overrides_the_options_of_the_namespace_for_its_subscription() {
    let gateway = Gateway::start_with(shut).await;
    let mut ann = gateway.connect("ann").await;
    let value = |value: bool| json!({ "value": value });
    let overrides = json!({"force_recovery": value(true), "presence": value(true)});
    let token = gateway.good(json!({"sub": "ann", "channel": "shut:a", "override": overrides}));
    let mut reply = ann.call(with("shut:a", &token)).await["subscribe"].take();
    take_ttl(&mut reply, 3_600);
    assert!(reply["epoch"].as_str().is_some_and(|epoch| !epoch.is_empty()));
    assert_eq!((&reply["recoverable"], &reply["positioned"]), (&json!(true), &json!(true)), "{reply}");
    let overrides = json!({"presence": value(false), "join_leave": value(false)});
    let token = gateway.good(json!({"sub": "ann", "channel": "seen:a", "override": overrides}));
    assert!(ann.call(with("seen:a", &token)).await["subscribe"].is_object());
    let reply = ann.call(json!({"presence": {"channel": "seen:a"}})).await;
    assert_eq!(reply["presence"], json!({"presence": {}}), "it is not listed");
}

#[tokio::test]
async fn a_bad_token_is_refused_an_old_one_is_to_be_replaced_and_the_connection_stays() {
    let gateway = Gateway::start_with(shut).await;
    let mut ann = gateway.connect("ann").await;
    let claims = |exp: u64| json!({"sub": "ann", "channel": "shut:a", "exp": exp});
    let forged = forge(&json!({"alg": "HS256"}), &claims(now() + 60).to_string(), &SECRET.replace('k', "x"));
    for (what, token, code) in [
        ("nonsense", "nope".to_owned(), 103),
        ("signed with another key", forged, 103),
        ("a connection token", gateway.token("ann"), 103),
        ("a channel that is no string", gateway.good(json!({"sub": "ann", "channel": 1})), 103),
        (
            "info above 1 KiB",
            gateway.good(json!({"sub": "ann", "channel": "shut:a", "info": "x".repeat(1_024)})),
            103,
        ),
        ("expired", gateway.sign(&claims(now() - 60)), 109),
    ] {
        assert_eq!(ann.refusal(with("shut:a", &token)).await, code, "{what}");
    }
    ann.publish("news", "still here").await;
}

#[tokio::test]
async fn a_token_for_another_channel_user_or_client_closes_with_3500() {
    let gateway = Gateway::start_with(shut).await;
    for (what, claims) in [
        ("another channel", json!({"sub": "ann", "channel": "shut:b"})),
        ("a channel that only looks alike", json!({"sub": "ann", "channel": "Shut:a"})),
        ("a pattern", json!({"sub": "ann", "channel": "shut:*"})),
        ("another user", json!({"sub": "bob", "channel": "shut:a"})),
        ("nobody", json!({"channel": "shut:a"})),
        (
            "another client",
            json!({"sub": "ann", "channel": "shut:a", "client": "7a1f5c0e-2b64-4f0e-9d0b-3c1d9d1f0b11"}),
        ),
    ] {
        let mut ann = gateway.connect("ann").await;
        let token = gateway.good(claims);
        ann.send(json!({"id": 2, "subscribe": {"channel": "shut:a", "token": token}}).to_string()).await;
        assert_eq!(ann.closed().await, (3500, "invalid token".into()), "{what}");
    }
    let mut ann = gateway.connect("ann").await;
    let token = gateway.good(json!({"sub": "ann", "channel": "shut:a", "client": ann.id()}));
    assert!(ann.call(with("shut:a", &token)).await["subscribe"].is_object(), "for this very client");
}

#[tokio::test]
async fn a_subscription_ends_with_its_token_and_a_delay_with_2501_and_can_be_made_anew() {
    let gateway = Gateway::start_with(shut).await;
    let mut ann = gateway.connect("ann").await.subscribe("news").await;
    subscribe_for(&gateway, &mut ann, "shut:a", 0.2).await;
    let ended = json!({"code": 2501, "reason": "subscription expired"});
    assert_eq!(ann.next_push().await, json!({"channel": "shut:a", "unsubscribe": ended}));
    gateway.api("publish", json!({"channel": "shut:a", "data": "unheard"})).await;
    ann.publish("news", "heard").await;
    assert_eq!(ann.next_publication().await.data, "heard");
    subscribe_for(&gateway, &mut ann, "shut:a", 60.0).await;
    gateway.api("publish", json!({"channel": "shut:a", "data": "back"})).await;
    assert_eq!(ann.next_publication().await.data, "back");
}

#[tokio::test]
async fn a_subscription_of_the_bare_form_ends_in_the_same_way() {
    let gateway = Gateway::start_with(shut).await;
    let mut ann = gateway.bare("ann", "channels=news").await;
    subscribe_for(&gateway, &mut ann, "shut:a", 0.2).await;
    assert_eq!(ann.next_push().await["unsubscribe"]["code"], 2501);
    ann.publish("news", "still here").await;
}

#[tokio::test]
async fn sub_refresh_prolongs_a_subscription() {
    let gateway = Gateway::start_with(shut).await;
    let mut ann = gateway.connect("ann").await;
    subscribe_for(&gateway, &mut ann, "shut:first", 1.0).await;
    subscribe_for(&gateway, &mut ann, "shut:a", 1.0).await;
    subscribe_for(&gateway, &mut ann, "shut:last", 1.2).await;
    let token = gateway.good(json!({"sub": "ann", "channel": "shut:a"}));
    let mut reply = ann.call(json!({"sub_refresh": {"channel": "shut:a", "token": token}})).await;
    take_ttl(&mut reply["sub_refresh"], 3_600);
    assert_eq!(reply["sub_refresh"], json!({"expires": true}));
    for channel in ["shut:first", "shut:last"] {
        let push = ann.next_push().await;
        assert_eq!((&push["channel"], &push["unsubscribe"]["code"]), (&json!(channel), &json!(2501)));
    }
    gateway.api("publish", json!({"channel": "shut:a", "data": "still there"})).await;
    assert_eq!(ann.next_publication().await.data, "still there");
}

#[tokio::test]
async fn a_token_whose_expire_at_is_zero_opens_a_subscription_for_ever() {
    let gateway = Gateway::start_with(shut).await;
    let mut ann = gateway.connect("ann").await;
    let claims = |channel: &str| json!({"sub": "ann", "channel": channel, "exp": after(1.0), "expire_at": 0});
    let reply = ann.call(with("shut:a", &gateway.sign(&claims("shut:a")))).await;
    assert_eq!(reply["subscribe"], json!({}), "nothing to refresh");
    subscribe_for(&gateway, &mut ann, "shut:b", 1.0).await;
    let token = gateway.sign(&claims("shut:b"));
    let reply = ann.call(json!({"sub_refresh": {"channel": "shut:b", "token": token}})).await;
    assert_eq!(reply["sub_refresh"], json!({}), "nothing to refresh any more");
    subscribe_for(&gateway, &mut ann, "shut:witness", 1.0).await;
    assert_eq!(ann.next_push().await["channel"], "shut:witness");
    for channel in ["shut:a", "shut:b"] {
        gateway.api("publish", json!({"channel": channel, "data": 1})).await;
        assert_eq!(ann.next_publication().await.channel, channel);
    }
}

#[tokio::test]
async fn what_cannot_be_refreshed_is_told_or_closes() {
    let gateway = Gateway::start_with(shut).await;
    let good = gateway.good(json!({"sub": "ann", "channel": "shut:a"}));
    let refresh = |channel: &str, token: &str| json!({"sub_refresh": {"channel": channel, "token": token}});
    let mut ann = gateway.connect("ann").await.subscribe("news").await;
    subscribe_for(&gateway, &mut ann, "shut:a", 60.0).await;
    assert_eq!(ann.refusal(refresh("shut:b", &good)).await, 103, "not subscribed");
    assert_eq!(ann.refusal(refresh("shut:a", "")).await, 107, "no token");
    let expired = gateway.sign(&json!({"sub": "ann", "channel": "shut:a", "exp": now() - 60}));
    assert_eq!(ann.refusal(refresh("shut:a", &expired)).await, 109, "expired");
    for (what, channel, token, code) in [
        ("malformed", "shut:a", "nope".to_owned(), 3500),
        ("for another channel", "shut:a", gateway.good(json!({"sub": "ann", "channel": "shut:b"})), 3500),
        ("for another user", "shut:a", gateway.good(json!({"sub": "bob", "channel": "shut:a"})), 3500),
        (
            "a subscription without a token",
            "news",
            gateway.good(json!({"sub": "ann", "channel": "news"})),
            3501,
        ),
        ("no channel", "", good.clone(), 3501),
    ] {
        let mut ann = gateway.connect("ann").await.subscribe("news").await;
        subscribe_for(&gateway, &mut ann, "shut:a", 60.0).await;
        let mut command = refresh(channel, &token);
        command["id"] = json!(99);
        ann.send(command.to_string()).await;
        assert_eq!(ann.closed().await.0, code, "{what}");
    }
}
