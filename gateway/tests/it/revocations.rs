//! Tokens that are no longer good before their time: `POST /v1/revocations`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, Client, Gateway, Raw, now, post, upgrade_request};

/// Of the protocol: the connection is closed, and does not come back by itself.
const REVOKED: (u16, &str) = (3503, "token revoked");
const INVALID_TOKEN: u16 = 3500;

async fn revoke(gateway: &Gateway, body: Value) -> Value {
    let answer = gateway.revoke(&body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    serde_json::from_str(&answer.body).expect("the answer is JSON")
}

async fn is_closed_as_revoked(client: &mut Client) {
    let (code, reason) = client.closed().await;
    assert_eq!((code, &*reason), REVOKED);
}

/// The reason with which a handshake is refused, or `None` if it is not.
async fn refused(gateway: &Gateway, token: &str) -> Option<String> {
    let mut raw = Raw::open(gateway.public()).await;
    let path = format!("/connection/websocket?token={token}");
    raw.send(upgrade_request(&path, "")).await;
    let answer = raw.answer().await;
    (answer.status != 101).then(|| answer.code())
}

#[tokio::test]
async fn a_revoked_token_closes_its_connections_at_once_and_opens_none() {
    let gateway = Gateway::start().await;
    let claims = |id: &str| json!({"sub": "ann", "jti": id, "exp": now() + 3600});
    let (bad, good) = (gateway.sign(&claims("bad")), gateway.sign(&claims("good")));
    let mut native = Client::native(gateway.open().await, &bad).await;
    let mut bare = Client::bare(gateway.open().await, &bad, "channels=news").await;
    let mut other = Client::native(gateway.open().await, &good).await.subscribe("news").await;
    let before = Instant::now();
    let answer = revoke(&gateway, json!({"token_id": "bad"})).await;
    assert_eq!(answer["token_id"], "bad");
    is_closed_as_revoked(&mut native).await;
    is_closed_as_revoked(&mut bare).await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    assert_eq!(refused(&gateway, &bad).await.as_deref(), Some("revoked"));
    assert_eq!(refused(&gateway, &good).await, None);
    let mut silent = gateway.silent().await;
    silent.send(json!({"id": 1, "connect": {"token": bad}}).to_string()).await;
    assert_eq!(silent.closed().await.0, INVALID_TOKEN);
    other.publish("news", "hi").await;
    assert_eq!(other.next_publication().await.data, "hi");
    gateway.metric_is("clarion_revocations", 1.0).await;
    gateway.metric_is(r#"clarion_connections_closed_total{code="3503",reason="revoked"}"#, 2.0).await;
    gateway.metric_is(r#"clarion_handshakes_rejected_total{reason="revoked"}"#, 1.0).await;
}

#[tokio::test]
async fn a_user_can_be_shut_out_or_everything_that_was_issued_before() {
    let gateway = Gateway::start().await;
    let token = |user: &str, issued_at: u64| {
        gateway.sign(&json!({"sub": user, "iat": issued_at, "exp": now() + 3600}))
    };
    let (old, new) = (now() - 100, now() - 10);
    let mut ann_old = Client::native(gateway.open().await, &token("ann", old)).await;
    let mut ann_new = Client::native(gateway.open().await, &token("ann", new)).await;
    let mut bob_old = Client::native(gateway.open().await, &token("bob", old)).await;
    let mut bob_silent = gateway.connect("bob").await;
    revoke(&gateway, json!({"user": "ann", "issued_before": now() - 50})).await;
    is_closed_as_revoked(&mut ann_old).await;
    revoke(&gateway, json!({"issued_before": now() - 50})).await;
    is_closed_as_revoked(&mut bob_old).await;
    // A token that does not say when it was issued is as old as can be.
    is_closed_as_revoked(&mut bob_silent).await;
    ann_new.publish("news", "still here").await;
    assert_eq!(refused(&gateway, &token("bob", new)).await, None);
    revoke(&gateway, json!({"user": "ann"})).await;
    is_closed_as_revoked(&mut ann_new).await;
    assert_eq!(refused(&gateway, &token("ann", now())).await.as_deref(), Some("revoked"));
}

#[tokio::test]
async fn a_connection_is_as_good_as_its_newest_token() {
    let gateway = Gateway::start().await;
    let token = |id: &str| gateway.sign(&json!({"sub": "ann", "jti": id, "exp": now() + 3600}));
    let mut client = Client::native(gateway.open().await, &token("first")).await;
    let reply = client.call(json!({"refresh": {"token": token("second")}})).await;
    assert!(reply["refresh"].is_object(), "{reply}");
    revoke(&gateway, json!({"token_id": "first"})).await;
    client.publish("news", "still here").await;
    client.send(json!({"id": 99, "refresh": {"token": token("first")}}).to_string()).await;
    assert_eq!(client.closed().await.0, INVALID_TOKEN);
    let mut client = Client::native(gateway.open().await, &token("second")).await;
    revoke(&gateway, json!({"token_id": "second"})).await;
    is_closed_as_revoked(&mut client).await;
}

#[tokio::test]
async fn a_token_revoked_between_the_handshake_and_connect_opens_no_session() {
    let gateway = Gateway::start().await;
    let token = gateway.good(json!({"sub": "ann", "jti": "bad"}));
    let mut client = Client::native_verified(gateway.open().await, &token).await;
    revoke(&gateway, json!({"token_id": "bad"})).await;
    client.send(json!({"id": 1, "connect": {}}).to_string()).await;
    is_closed_as_revoked(&mut client).await;
}

#[tokio::test]
async fn a_revoked_subscription_token_subscribes_nobody() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect("ann").await;
    let token = gateway.good(json!({"sub": "ann", "channel": "$room", "jti": "s"}));
    revoke(&gateway, json!({"token_id": "s"})).await;
    let command = json!({"subscribe": {"channel": "$room", "token": token}});
    assert_eq!(client.refusal(command).await, 103);
}

#[tokio::test]
async fn who_may_not_revoke_is_told_so_in_terms_of_http() {
    let gateway = Gateway::start().await;
    let path = "/v1/revocations";
    let kind = ("content-type", "application/json");
    let problem = |answer: &Answer| {
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.head);
        answer.status
    };
    let anybody = post(gateway.internal(), path, &[kind], r#"{"user":"ann"}"#).await;
    assert_eq!(problem(&anybody), 401);
    assert!(anybody.header("www-authenticate").is_some());
    let in_query = format!("{path}?api_key=the-api-key-of-the-tests");
    assert_eq!(problem(&post(gateway.internal(), &in_query, &[kind], r#"{"user":"ann"}"#).await), 401);
    assert_eq!(problem(&gateway.revoke(&json!({"user": "ann", "reason": "x"})).await), 400);
    assert_eq!(problem(&gateway.get(path).await), 405);
    assert_eq!(post(gateway.public(), path, &[kind], "{}").await.status, 404, "not where clients are");
    assert_eq!(gateway.metric("clarion_revocations").await, 0.0);
}
