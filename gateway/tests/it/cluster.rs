//! Several nodes that share a Redis: what is asked of one happens on all.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Redis, eventually, now};

/// Two nodes that know one another.
async fn pair(redis: &Redis) -> (Gateway, Gateway) {
    pair_by(redis, redis).await
}

/// The same, each with a way of its own to Redis.
async fn pair_by(left: &Redis, right: &Redis) -> (Gateway, Gateway) {
    let (left, right) = (node(left, "left").await, node(right, "right").await);
    for gateway in [&left, &right] {
        gateway.metric_is("clarion_cluster_nodes", 2.0).await;
    }
    (left, right)
}

async fn node(redis: &Redis, name: &str) -> Gateway {
    Gateway::start_with(|config| {
        redis.configure(config);
        config.node.name = name.into();
    })
    .await
}

/// Waits until `gateway` hears Redis, so that it lets clients come.
async fn is_ready(gateway: &Gateway) {
    eventually("to be ready", async || gateway.get("/readyz").await.status == 200).await;
}

#[tokio::test]
async fn what_the_server_api_asks_of_a_user_happens_on_every_node() {
    let (left, right) = pair(&Redis::shared()).await;
    let (mut here, mut there) = (left.connect("ann").await, right.connect("ann").await);
    let mut other = right.connect("bob").await;
    left.api("subscribe", json!({"user": "ann", "channel": "news", "data": {"a": 1}})).await;
    for client in [&mut here, &mut there] {
        let push = client.next_push().await;
        assert_eq!((&push["channel"], &push["subscribe"]["data"]), (&json!("news"), &json!({"a": 1})));
    }
    right.api("refresh", json!({"user": "ann", "expire_at": now() + 600})).await;
    for client in [&mut here, &mut there] {
        assert!(client.next_push().await["refresh"]["ttl"].as_u64().is_some_and(|ttl| ttl > 500));
    }
    right.api("unsubscribe", json!({"user": "ann", "channel": "news"})).await;
    for client in [&mut here, &mut there] {
        assert_eq!(client.next_push().await["unsubscribe"]["code"], 2000);
    }
    let request =
        json!({"user": "ann", "disconnect": {"code": 4500, "reason": "banned"}, "whitelist": [here.id()]});
    left.api("disconnect", request).await;
    assert_eq!(there.closed().await, (4500, "banned".into()));
    left.api("refresh", json!({"user": "ann", "expired": true})).await;
    assert_eq!(here.closed().await.0, 3005);
    other.publish("news", "still here").await;
}

#[tokio::test]
async fn a_token_revoked_on_one_node_is_bad_on_all_and_on_those_that_start_later() {
    let redis = Redis::shared();
    let (left, right) = pair(&redis).await;
    let token = left.sign(&json!({"sub": "ann", "jti": "bad", "exp": now() + 3600}));
    let mut client = Client::native(right.open().await, &token).await;
    let before = Instant::now();
    assert_eq!(left.revoke(&json!({"token_id": "bad"})).await.status, 201);
    assert_eq!(client.closed().await, (3503, "token revoked".into()));
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    let late = node(&redis, "late").await;
    for gateway in [&left, &right, &late] {
        let mut client = gateway.silent().await;
        client.send(json!({"id": 1, "connect": {"token": token}}).to_string()).await;
        assert_eq!(client.closed().await.0, 3500);
        gateway.metric_is("clarion_revocations", 1.0).await;
    }
}

#[tokio::test]
async fn info_and_channels_are_those_of_all_nodes() {
    let (left, right) = pair(&Redis::shared()).await;
    let _here = left.connect("ann").await.subscribe("news").await;
    let _there = right.connect("ann").await.subscribe("news").await;
    let _elsewhere = right.connect("bob").await.subscribe("chat").await;
    let channels = left.api("channels", json!({})).await;
    let expected = json!({"channels": {"news": {"num_clients": 2}, "chat": {"num_clients": 1}}});
    assert_eq!(channels, expected);
    let node = async |name: &str| -> Value {
        let info = left.api("info", json!({})).await;
        let nodes = info["nodes"].as_array().expect("a list").clone();
        assert_eq!(nodes.len(), 2, "{nodes:?}");
        nodes.into_iter().find(|node| node["name"] == name).expect("both are there")
    };
    assert_eq!(node("left").await["num_clients"], 1);
    // Of others what they said last, and users they count now and then.
    let counts = async || {
        let right = node("right").await;
        (right["num_clients"].clone(), right["num_users"].clone())
    };
    eventually("news of the other node", async || counts().await == (json!(2), json!(2))).await;
    let right_node = node("right").await;
    assert_eq!(right_node["num_subs"], 2);
    assert!(right_node["process"]["rss"].as_u64().is_some_and(|rss| rss > 0));
    drop((_there, _elsewhere));
    right.stop().await;
    left.metric_is("clarion_cluster_nodes", 1.0).await;
    assert_eq!(left.api("channels", json!({"pattern": "news"})).await["channels"]["news"]["num_clients"], 1);
}

#[tokio::test]
async fn a_user_has_so_many_connections_on_all_nodes_together() {
    let redis = Redis::shared();
    let limited = async |name: &str| {
        Gateway::start_with(|config| {
            redis.configure(config);
            config.node.name = name.into();
            config.client.user_connections_max = 2;
        })
        .await
    };
    let (left, right) = (limited("left").await, limited("right").await);
    for gateway in [&left, &right] {
        gateway.metric_is("clarion_cluster_nodes", 2.0).await;
    }
    let mut here = left.connect("ann").await;
    let mut there = right.connect("ann").await;
    let mut surplus = left.connect("ann").await;
    assert_eq!(surplus.closed().await.0, 3504);
    let _other = right.connect("bob").await;
    there.publish("news", "still here").await;
    here.publish("news", "still here").await;
    there.leave().await;
    // Of two that come for one place the newer goes, and by then the older has been counted too.
    let mut again = right.connect("ann").await;
    let mut surplus = right.connect("ann").await;
    assert_eq!(surplus.closed().await.0, 3504);
    again.publish("news", "still here").await;
}

#[tokio::test]
async fn while_redis_is_away_this_node_obeys_and_the_caller_knows_that_others_may_not() {
    let own = Redis::own();
    let left = node(&own.redis, "left").await;
    is_ready(&left).await;
    let mut client = left.connect("ann").await;
    let mut other = left.connect("bob").await;
    let token = left.token("carol");
    own.freeze();
    let answer = left.post_api("disconnect", &json!({"user": "ann"})).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.body);
    assert_eq!(client.closed().await.0, 3503);
    let answer = left.revoke(&json!({"user": "carol"})).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let mut refused = left.silent().await;
    refused.send(json!({"id": 1, "connect": {"token": token}}).to_string()).await;
    assert_eq!(refused.closed().await.0, 3500);
    assert_eq!(left.get("/livez").await.status, 200);
    own.thaw();
    eventually("Redis to be back", async || {
        left.post_api("disconnect", &json!({"user": "nobody"})).await.status == 200
    })
    .await;
    other.publish("news", "still here").await;
}

#[tokio::test]
async fn a_node_that_alone_hears_nothing_goes_out_of_rotation_and_comes_back() {
    let redis = Redis::shared();
    let (by_proxy, proxy) = redis.proxied().await;
    let (left, right) = pair_by(&redis, &by_proxy).await;
    for gateway in [&left, &right] {
        is_ready(gateway).await;
        assert_eq!(gateway.get("/readyz/broker").await.status, 200);
    }
    let mut client = right.connect("ann").await;
    proxy.cut();
    eventually("to be deaf", async || right.get("/readyz/broker").await.status == 503).await;
    assert_eq!(right.get("/readyz").await.status, 200, "it may be Redis that is gone");
    eventually("to be out of rotation", async || right.get("/readyz").await.status == 503).await;
    assert!(right.get("/readyz?verbose").await.body.contains("[-] broker"));
    assert_eq!(left.get("/readyz").await.status, 200);
    proxy.mend();
    is_ready(&right).await;
    let reply = client.call(json!({"publish": {"channel": "news", "data": 1}})).await;
    assert!(reply["publish"].is_object(), "its socket stayed open: {reply}");
}
