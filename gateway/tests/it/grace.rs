//! Who loses its connection and comes back, or does not.

use std::time::Duration;

use clarion::config::Config;
use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Client, Gateway, Redis, namespace};

/// In `room:` everybody hears who joins and leaves, and may know who is there.
fn rooms(config: &mut Config, grace: &str) {
    let options = json!({
        "presence": true, "join_leave": true, "force_push_join_leave": true, "leave_grace": grace,
        "allow_subscribe_for_client": true, "allow_publish_for_client": true,
    });
    config.channel.namespaces.push(namespace("room", options));
    config.cluster.heartbeat_interval = Duration::from_millis(250);
    config.cluster.node_ttl = Duration::from_secs(2);
}

/// Enters and has heard its own join.
async fn enter(gateway: &Gateway, user: &str) -> Client {
    let mut client = gateway.connect(user).await.subscribe("room:a").await;
    assert_eq!(hears(&mut client, "join").await, user);
    client
}

/// Asserts that the next push is a `join` or a `leave`; answers whose.
async fn hears(client: &mut Client, what: &str) -> String {
    let push = client.next_push().await;
    push[what]["info"]["user"].as_str().unwrap_or_else(|| panic!("no {what}: {push}")).to_owned()
}

/// The users who are present, in order, each as often as it is.
async fn present(gateway: &Gateway) -> Vec<String> {
    let answer = gateway.api("presence", json!({"channel": "room:a"})).await;
    let members = answer["presence"].as_object().expect("it is a presence").values();
    let mut users: Vec<_> =
        members.map(|info| info["user"].as_str().unwrap_or("nobody").to_owned()).collect();
    users.sort();
    users
}

#[tokio::test]
async fn of_who_is_moved_to_another_node_nobody_hears_and_who_stays_away_leaves_once() {
    const MOVED: usize = 20;
    let redis = Redis::shared();
    let [left, right] = Gateway::start_nodes(&redis, |config| rooms(config, "3s")).await;
    let mut observer = enter(&right, "observer").await;
    let mut names = vec!["bob".to_owned()];
    names.extend((0..MOVED).map(|number| format!("moved-{number}")));
    let mut clients = Vec::new();
    for name in &names {
        clients.push((name.clone(), left.connect(name).await.subscribe("room:a").await));
        assert_eq!(hears(&mut observer, "join").await, *name);
    }
    let come_back = async |(name, mut client): (String, Client)| {
        assert_eq!(client.closed().await.0, 3001);
        if name == "bob" { None } else { Some(right.connect(&name).await.subscribe("room:a").await) }
    };
    names.push("observer".to_owned());
    names.sort();
    let moving = async { tokio::join!(left.stop(), join_all(clients.into_iter().map(come_back))).1 };
    let mut moving = std::pin::pin!(moving);
    let moved = loop {
        tokio::select! {
            moved = &mut moving => break moved,
            users = present(&right) => assert_eq!(users, names, "somebody is missing, or there twice"),
        }
    };
    assert_eq!(moved.iter().flatten().count(), MOVED);
    assert_eq!(present(&right).await, names);
    // Their grace has ended by then as well, and the node whose client it was is gone.
    assert_eq!(hears(&mut observer, "leave").await, "bob", "and nothing before");
    names.retain(|name| name != "bob");
    assert_eq!(present(&right).await, names);
    let counted = right.api("presence_stats", json!({"channel": "room:a"})).await;
    assert_eq!(counted, json!({"num_clients": MOVED + 1, "num_users": MOVED + 1}));
    // A leave for each join: those who moved are announced as who they are now.
    for client in moved.into_iter().flatten() {
        let (id, push) = (client.id().to_owned(), async { observer.next_push().await });
        let ((), push) = tokio::join!(client.leave(), push);
        assert_eq!(push["leave"]["info"]["client"], id, "{push}");
    }
}

#[tokio::test]
async fn who_leaves_on_purpose_leaves_at_once_and_who_is_cut_off_after_its_grace() {
    let gateway = Gateway::start_with(|config| rooms(config, "1h")).await;
    let mut observer = enter(&gateway, "observer").await;
    let mut unsubscribing = enter(&gateway, "unsubscribing").await;
    let closing = enter(&gateway, "closing").await;
    let _disconnected = enter(&gateway, "disconnected").await;
    let removed = enter(&gateway, "removed").await;
    let names = ["unsubscribing", "closing", "disconnected", "removed"];
    for name in names {
        assert_eq!(hears(&mut observer, "join").await, name);
    }
    unsubscribing.unsubscribe("room:a").await;
    assert_eq!(hears(&mut observer, "leave").await, "unsubscribing");
    closing.leave().await;
    assert_eq!(hears(&mut observer, "leave").await, "closing");
    gateway.api("disconnect", json!({"user": "disconnected"})).await;
    assert_eq!(hears(&mut observer, "leave").await, "disconnected");
    gateway.api("unsubscribe", json!({"user": "removed", "channel": "room:a"})).await;
    assert_eq!(hears(&mut observer, "leave").await, "removed");
    drop(removed);
    assert_eq!(present(&gateway).await, ["observer"]);
}

#[tokio::test]
async fn a_connection_that_is_cut_and_comes_back_in_time_is_heard_of_by_nobody() {
    let gateway = Gateway::start_with(|config| rooms(config, "2s")).await;
    let mut observer = enter(&gateway, "observer").await;
    let mut lost = Vec::new();
    for name in ["ann", "bob"] {
        lost.push(enter(&gateway, name).await);
        assert_eq!(hears(&mut observer, "join").await, name);
    }
    drop(lost);
    gateway.metric_is("clarion_connections", 1.0).await;
    let _ann = gateway.connect("ann").await.subscribe("room:a").await;
    assert_eq!(present(&gateway).await, ["ann", "bob", "observer"]);
    assert_eq!(hears(&mut observer, "leave").await, "bob", "and nothing before");
    assert_eq!(present(&gateway).await, ["ann", "observer"]);
}
