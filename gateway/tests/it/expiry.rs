//! Connections that end with their token, and what prolongs them: commands and the API.

use std::time::Duration;

use clarion::config::Config;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, after, now};

fn at_once(config: &mut Config) {
    config.client.expired_close_delay = Duration::ZERO;
}

/// The token of a connection of ann that ends in so many seconds.
fn ending(gateway: &Gateway, seconds: f64) -> String {
    gateway.sign(&json!({"sub": "ann", "exp": after(seconds)}))
}

async fn connect(gateway: &Gateway, token: &str) -> Client {
    Client::native(gateway.open().await, token).await
}

/// Sends `refresh` with `token`; the gateway closes with what is answered.
async fn closed_by_refresh(client: &mut Client, token: &str) -> u16 {
    client.send(json!({"id": 99, "refresh": {"token": token}}).to_string()).await;
    client.closed().await.0
}

/// Whether the client is told to refresh: `expires` and `ttl` come together or not at all.
fn expires(result: &Value) -> bool {
    assert_eq!(result["expires"] == true, result["ttl"].is_u64(), "{result}");
    result["expires"] == true
}

#[tokio::test]
async fn expires_and_ttl_are_there_exactly_if_the_client_has_to_refresh() {
    let gateway = Gateway::start_with(|config| {
        config.client.anonymous = true;
        config.client.token.require_exp = false;
    })
    .await;
    assert!(expires(&gateway.connect("ann").await.welcome));
    for (what, token) in [
        ("no exp", gateway.sign(&json!({"sub": "ann"}))),
        ("expire_at 0", gateway.sign(&json!({"sub": "ann", "exp": now() + 60, "expire_at": 0}))),
        ("no token", String::new()),
    ] {
        assert!(!expires(&connect(&gateway, &token).await.welcome), "{what}");
    }
    let sooner = gateway.sign(&json!({"sub": "ann", "exp": now() + 3_600, "expire_at": now() + 60}));
    let welcome = connect(&gateway, &sooner).await.welcome;
    assert!(expires(&welcome) && welcome["ttl"].as_u64().is_some_and(|ttl| ttl <= 60), "{welcome}");
    assert!(!expires(&gateway.bare("ann", "").await.welcome), "it comes again at the end");
}

#[tokio::test]
async fn a_refresh_replaces_the_end_and_what_others_see() {
    let gateway = Gateway::start_with(at_once).await;
    let first = gateway.sign(&json!({"sub": "ann", "exp": after(1.0), "info": {"mood": "good"}}));
    let mut ann = connect(&gateway, &first).await.subscribe("news").await;
    let token = gateway.good(json!({"sub": "ann", "info": {"mood": "better"}}));
    let reply = ann.call(json!({"refresh": {"token": token}})).await;
    assert!(expires(&reply["refresh"]), "{reply}");
    let mut witness = connect(&gateway, &ending(&gateway, 1.0)).await;
    assert_eq!(witness.closed().await, (3005, "connection expired".into()));
    ann.publish("news", 1).await;
    assert_eq!(ann.next_push().await["pub"]["info"]["conn_info"], json!({"mood": "better"}));
    let token = gateway.good(json!({"sub": "ann", "expire_at": 0}));
    assert_eq!(ann.call(json!({"refresh": {"token": token}})).await["refresh"], json!({}), "for ever");
}

#[tokio::test]
async fn a_refresh_of_the_bare_form_keeps_the_connection() {
    let gateway = Gateway::start_with(at_once).await;
    let mut ann = Client::bare(gateway.open().await, &ending(&gateway, 1.0), "channels=news").await;
    let reply = ann.call(json!({"refresh": {"token": gateway.token("ann")}})).await;
    assert!(expires(&reply["refresh"]), "{reply}");
    let mut witness = Client::bare(gateway.open().await, &ending(&gateway, 1.0), "channels=news").await;
    assert_eq!(witness.closed().await.0, 3005);
    ann.publish("news", 1).await;
    assert_eq!(ann.next_publication().await.data, 1);
}

#[tokio::test]
async fn a_refresh_that_is_not_for_this_connection_closes_it() {
    let gateway = Gateway::start().await;
    for (what, token, code) in [
        ("no token", String::new(), 3501),
        ("nonsense", "nope".into(), 3500),
        ("another user", gateway.token("bob"), 3500),
        ("nobody", gateway.good(json!({})), 3500),
        ("a subscription token", gateway.good(json!({"sub": "ann", "channel": "news"})), 3500),
        ("expired", gateway.sign(&json!({"sub": "ann", "exp": now() - 60})), 3005),
        ("one channel more", gateway.good(json!({"sub": "ann", "channels": ["one", "two"]})), 3010),
        ("another channel", gateway.good(json!({"sub": "ann", "subs": {"two": {}}})), 3010),
        ("no channel any more", gateway.good(json!({"sub": "ann"})), 3010),
    ] {
        let mut ann = gateway.connect_with(json!({"sub": "ann", "channels": ["one"]})).await;
        assert_eq!(closed_by_refresh(&mut ann, &token).await, code, "{what}");
    }
    let mut ann = gateway.connect_with(json!({"sub": "ann", "channels": ["one", "two"]})).await;
    let same = gateway.good(json!({"sub": "ann", "subs": {"two": {"info": 1}, "one": {}}}));
    assert!(ann.call(json!({"refresh": {"token": same}})).await["refresh"].is_object(), "the same channels");
}

#[tokio::test]
async fn the_api_ends_connections_that_have_expired_with_3005() {
    let gateway = Gateway::start().await;
    for request in [json!({"expired": true}), json!({"expire_at": now() - 1}), json!({"expire_at": -1})] {
        let (mut ann, mut bare) = (gateway.connect("ann").await, gateway.bare("ann", "").await);
        let mut bob = gateway.connect("bob").await;
        let mut request = request;
        request["user"] = json!("ann");
        assert_eq!(gateway.api("refresh", request.clone()).await, json!({}), "{request}");
        assert_eq!(ann.closed().await, (3005, "connection expired".into()), "{request}");
        assert_eq!(bare.closed().await.0, 3005, "{request}");
        bob.publish("news", "still here").await;
    }
}

#[tokio::test]
async fn the_api_moves_the_end_of_connections_and_they_are_told() {
    let gateway = Gateway::start_with(at_once).await;
    let mut ann = gateway.connect_with(json!({"sub": "ann", "info": 1})).await.subscribe("news").await;
    let mut other = gateway.connect("ann").await;
    let request =
        json!({"user": "ann", "client": ann.id(), "expire_at": now() + 3_600, "info": {"mood": "new"}});
    gateway.api("refresh", request).await;
    let push = ann.next_push().await;
    assert!(expires(&push["refresh"]), "{push}");
    ann.publish("news", 1).await;
    assert_eq!(ann.next_push().await["pub"]["info"]["conn_info"], json!({"mood": "new"}));
    gateway.api("refresh", json!({"user": "ann", "client": ann.id(), "expire_at": now() + 2})).await;
    assert!(expires(&ann.next_push().await["refresh"]));
    assert_eq!(ann.closed().await.0, 3005);
    other.publish("news", "not meant").await;
}

#[tokio::test]
async fn a_refresh_by_the_api_without_an_end_is_for_ever() {
    let gateway = Gateway::start_with(at_once).await;
    for request in [json!({"user": "ann"}), json!({"user": "ann", "expire_at": 0})] {
        let mut ann = connect(&gateway, &ending(&gateway, 1.0)).await;
        gateway.api("refresh", request).await;
        assert_eq!(ann.next_push().await["refresh"], json!({}));
        let mut witness = connect(&gateway, &ending(&gateway, 1.0)).await;
        assert_eq!(witness.closed().await.0, 3005);
        ann.publish("news", "still here").await;
    }
}
