//! Who is in a channel: asked by commands and by the API, and told as it changes.

use std::collections::HashMap;
use std::time::Duration;

use clarion::config::Config;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Client, Gateway, Raw, Redis, eventually, namespace, now};

/// In `room:` subscribers may see who is there, in `lobby:` everybody may, in `loud:` all are told and nobody
/// may ask, in `blind:` nobody may know, in `still:` nothing is announced.
fn rooms(config: &mut Config) {
    config.client.anonymous = true;
    let rights = |mut options: Value| {
        let basics =
            ["presence", "join_leave", "allow_subscribe_for_client", "allow_subscribe_for_anonymous"];
        for name in basics {
            options[name] = options.get(name).cloned().unwrap_or(json!(true));
        }
        // Who breaks off has left; what becomes of it with a grace is in `grace.rs`.
        options["leave_grace"] = json!("0s");
        options
    };
    config.channel.namespaces.extend([
        namespace(
            "room",
            rights(json!({"allow_presence_for_subscriber": true, "allow_publish_for_client": true})),
        ),
        namespace("lobby", rights(json!({"allow_presence_for_client": true}))),
        namespace("loud", rights(json!({"force_push_join_leave": true}))),
        namespace("blind", rights(json!({}))),
        namespace("still", rights(json!({"join_leave": false, "allow_presence_for_client": true}))),
    ]);
}

/// The entries of the presence of `channel` as `client` sees it.
async fn presence(client: &mut Client, channel: &str) -> Value {
    let mut reply = client.call(json!({"presence": {"channel": channel}})).await;
    assert!(reply["presence"]["presence"].is_object(), "{reply}");
    reply["presence"]["presence"].take()
}

/// How many clients and users are in `channel`, as `client` sees it.
async fn stats(client: &mut Client, channel: &str) -> Value {
    let mut reply = client.call(json!({"presence_stats": {"channel": channel}})).await;
    assert!(reply["presence_stats"].is_object(), "{reply}");
    reply["presence_stats"].take()
}

/// Subscribes and asks to be told who joins and leaves.
async fn watch(client: &mut Client, channel: &str) {
    let reply = client.call(json!({"subscribe": {"channel": channel, "join_leave": true}})).await;
    assert_eq!(reply["subscribe"], json!({}), "{reply}");
}

/// Asserts that the next push says that the client with this `id` did `what`, a `join` or a `leave`.
async fn hears(client: &mut Client, what: &str, channel: &str, id: &str) {
    let push = client.next_push().await;
    assert_eq!((&push["channel"], &push[what]["info"]["client"]), (&json!(channel), &json!(id)), "{push}");
}

/// Waits until the API counts that many clients in `channel`.
async fn clients_are(gateway: &Gateway, channel: &str, count: usize) {
    eventually("clients to be present", async || {
        gateway.api("presence_stats", json!({"channel": channel})).await["num_clients"] == count
    })
    .await;
}

#[tokio::test]
async fn presence_has_an_entry_for_each_connection_and_counts_each_user_once() {
    let gateway = Gateway::start_with(rooms).await;
    let mut ann = gateway.connect_with(json!({"sub": "ann", "info": {"name": "Ann"}})).await;
    assert_eq!(presence(&mut ann, "lobby:a").await, json!({}), "nobody is there yet");
    assert_eq!(stats(&mut ann, "lobby:a").await, json!({"num_clients": 0, "num_users": 0}));
    let mut ann = ann.subscribe("lobby:a").await;
    let tablet = gateway.connect("ann").await.subscribe("lobby:a").await;
    let bob = gateway.connect("bob").await.subscribe("lobby:a").await;
    let nobody = Client::native(gateway.open().await, "").await.subscribe("lobby:a").await;
    let nobody_else = Client::native(gateway.open().await, "").await.subscribe("lobby:a").await;
    let expected = json!({
        ann.id(): {"user": "ann", "client": ann.id(), "conn_info": {"name": "Ann"}},
        tablet.id(): {"user": "ann", "client": tablet.id()},
        bob.id(): {"user": "bob", "client": bob.id()},
        nobody.id(): {"user": "", "client": nobody.id()},
        nobody_else.id(): {"user": "", "client": nobody_else.id()},
    });
    assert_eq!(presence(&mut ann, "lobby:a").await, expected);
    assert_eq!(stats(&mut ann, "lobby:a").await, json!({"num_clients": 5, "num_users": 3}));
    let told = gateway.api("presence", json!({"channel": "lobby:a"})).await;
    assert_eq!(told, json!({"presence": expected}));
    let counted = gateway.api("presence_stats", json!({"channel": "lobby:a"})).await;
    assert_eq!(counted, json!({"num_clients": 5, "num_users": 3}));
}

#[tokio::test]
async fn presence_shows_what_the_tokens_say_of_the_connection_and_of_the_subscription() {
    let gateway = Gateway::start_with(rooms).await;
    let claims =
        json!({"sub": "ann", "info": {"name": "Ann"}, "subs": {"lobby:b": {"info": {"role": "host"}}}});
    let mut ann = gateway.connect_with(claims).await;
    let token = gateway.good(json!({"sub": "ann", "channel": "lobby:a", "info": ["guest"]}));
    let reply = ann.call(json!({"subscribe": {"channel": "lobby:a", "token": token}})).await;
    assert!(reply["subscribe"].is_object(), "{reply}");
    for (channel, chan_info) in [("lobby:a", json!(["guest"])), ("lobby:b", json!({"role": "host"}))] {
        let id = ann.id().to_owned();
        let info = json!({"user": "ann", "client": id, "conn_info": {"name": "Ann"}, "chan_info": chan_info});
        assert_eq!(presence(&mut ann, channel).await, json!({ id: info }), "{channel}");
    }
}

#[tokio::test]
async fn presence_is_told_where_it_is_on_and_to_those_who_may_see_it() {
    let gateway = Gateway::start_with(rooms).await;
    let mut ann = gateway.connect("ann").await.subscribe("blind:a").await;
    for command in ["presence", "presence_stats"] {
        for (channel, code) in [
            ("news", 108),
            ("room:a", 103),
            ("blind:a", 103),
            ("nowhere:a", 102),
            ("a b", 107),
            ("$lobby:a", 0),
        ] {
            let reply = ann.call(json!({ command: {"channel": channel} })).await;
            assert_eq!(reply["error"]["code"].as_u64().unwrap_or_default(), code, "{command} of {channel}");
        }
    }
    let mut ann = ann.subscribe("room:a").await;
    assert_eq!(presence(&mut ann, "room:a").await.as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(stats(&mut ann, "room:a").await["num_clients"], 1);
    ann.unsubscribe("room:a").await;
    assert_eq!(ann.refusal(json!({"presence": {"channel": "room:a"}})).await, 103, "not subscribed any more");
    for method in ["presence", "presence_stats"] {
        for (channel, code) in [("news", 108), ("nowhere:a", 102), ("", 107)] {
            assert_eq!(
                gateway.api_refusal(method, json!({"channel": channel})).await,
                code,
                "{method} {channel}"
            );
        }
        assert!(gateway.api(method, json!({"channel": "blind:a"})).await.is_object(), "a back end may");
    }
}

#[tokio::test]
async fn who_unsubscribes_closes_or_breaks_off_is_gone_and_has_left() {
    let gateway = Gateway::start_with(rooms).await;
    let mut watcher = gateway.connect("watcher").await;
    watch(&mut watcher, "room:a").await;
    let id = watcher.id().to_owned();
    hears(&mut watcher, "join", "room:a", &id).await;
    let mut ann = gateway.connect("ann").await.subscribe("room:a").await;
    let bob = gateway.connect("bob").await.subscribe("room:a").await;
    let mut eve = Raw::native(&gateway).await;
    eve.send_text(&json!({"id": 1, "connect": {"token": gateway.token("eve")}}).to_string()).await;
    let eve_id = eve.next_json().await["connect"]["client"].as_str().expect("it connected").to_owned();
    eve.send_text(r#"{"id":2,"subscribe":{"channel":"room:a"}}"#).await;
    assert_eq!(eve.next_json().await["id"], 2);
    let (ann_id, bob_id) = (ann.id().to_owned(), bob.id().to_owned());
    for id in [&ann_id, &bob_id, &eve_id] {
        hears(&mut watcher, "join", "room:a", id).await;
    }
    ann.unsubscribe("room:a").await;
    hears(&mut watcher, "leave", "room:a", &ann_id).await;
    bob.leave().await;
    hears(&mut watcher, "leave", "room:a", &bob_id).await;
    eve.reset();
    hears(&mut watcher, "leave", "room:a", &eve_id).await;
    let left = presence(&mut watcher, "room:a").await;
    assert_eq!(left.as_object().expect("it is an object").keys().collect::<Vec<_>>(), [&id]);
}

#[tokio::test]
async fn ones_own_join_comes_after_the_reply_and_says_who_it_is() {
    let gateway = Gateway::start_with(rooms).await;
    for channel in ["room:a", "loud:a"] {
        let mut ann = gateway.connect_with(json!({"sub": "ann", "info": {"name": "Ann"}})).await;
        let request = json!({"id": 7, "subscribe": {"channel": channel, "join_leave": true}});
        ann.send(request.to_string()).await;
        assert_eq!(ann.next_message().await, json!({"id": 7, "subscribe": {}}));
        let info = json!({"user": "ann", "client": ann.id(), "conn_info": {"name": "Ann"}});
        assert_eq!(ann.next_push().await, json!({"channel": channel, "join": {"info": info}}));
        ann.unsubscribe(channel).await;
        ann.leave().await;
    }
}

#[tokio::test]
async fn joins_are_for_those_who_asked_and_may_see_presence_or_where_all_are_told() {
    let gateway = Gateway::start_with(rooms).await;
    // Somebody whom the server made a listener says when a join has gone round.
    let loud = json!({"override": {"force_push_join_leave": {"value": true}}});
    for (channel, asks, is_told) in [
        ("room:a", true, true),
        ("room:b", false, false),
        ("blind:a", true, false),
        ("loud:a", false, true),
        ("still:a", true, false),
    ] {
        let mut witness = gateway.connect_with(json!({"sub": "witness", "subs": {channel: loud}})).await;
        let is_announced = !channel.starts_with("still:");
        let witness_id = witness.id().to_owned();
        if is_announced {
            hears(&mut witness, "join", channel, &witness_id).await;
        }
        let mut ann = gateway.connect("ann").await;
        let ann_id = ann.id().to_owned();
        let reply = ann.call(json!({"subscribe": {"channel": channel, "join_leave": asks}})).await;
        assert!(reply["subscribe"].is_object(), "{reply}");
        let bob = gateway.connect("bob").await.subscribe(channel).await;
        if is_announced {
            hears(&mut witness, "join", channel, &ann_id).await;
            hears(&mut witness, "join", channel, bob.id()).await;
        }
        gateway.api("publish", json!({"channel": channel, "data": "end"})).await;
        if is_told {
            hears(&mut ann, "join", channel, &ann_id).await;
            hears(&mut ann, "join", channel, bob.id()).await;
        }
        assert_eq!(ann.next_publication().await.data, "end", "{channel}, asks: {asks}");
    }
}

#[tokio::test]
async fn a_leave_follows_each_join_and_never_comes_first() {
    const VISITORS: usize = 12;
    const VISITS: usize = 10;
    let gateway = Gateway::start_with(rooms).await;
    let mut watcher = gateway.connect("watcher").await;
    watch(&mut watcher, "room:a").await;
    let mut visitors = JoinSet::new();
    for visitor in 0..VISITORS {
        let mut client = gateway.connect(&format!("visitor-{visitor}")).await;
        visitors.spawn(async move {
            for _ in 0..VISITS {
                client = client.subscribe("room:a").await;
                client.unsubscribe("room:a").await;
            }
            client.subscribe("room:a").await
        });
    }
    // Dropped without a word, as by a lost network.
    drop(visitors.join_all().await);
    let mut present: HashMap<String, bool> = HashMap::new();
    let mut left = 0;
    while left < VISITORS * (VISITS + 1) {
        let push = watcher.next_push().await;
        let what = if push.get("join").is_some() { "join" } else { "leave" };
        let client = push[what]["info"]["client"].as_str().expect("it says who").to_owned();
        let was_present = present.insert(client, what == "join").unwrap_or_default();
        assert_eq!(was_present, what == "leave", "{push}");
        left += usize::from(what == "leave");
    }
    assert_eq!(stats(&mut watcher, "room:a").await, json!({"num_clients": 1, "num_users": 1}));
}

#[tokio::test]
async fn the_bare_form_has_a_roster_if_its_address_asks_for_one() {
    let gateway = Gateway::start_with(rooms).await;
    let mut ann = gateway.bare("ann", "channels=room:a&join_leave=1").await;
    let ann_id = ann.id().to_owned();
    hears(&mut ann, "join", "room:a", &ann_id).await;
    let mut bob = gateway.bare("bob", "channels=room:a").await;
    let bob_id = bob.id().to_owned();
    hears(&mut ann, "join", "room:a", &bob_id).await;
    let both = json!({
        &ann_id: {"user": "ann", "client": ann_id}, &bob_id: {"user": "bob", "client": bob_id},
    });
    assert_eq!(presence(&mut bob, "room:a").await, both);
    assert_eq!(stats(&mut bob, "room:a").await, json!({"num_clients": 2, "num_users": 2}));
    bob.publish("room:a", "bye").await;
    assert_eq!(bob.next_publication().await.data, "bye", "who did not ask hears of nobody");
    bob.leave().await;
    assert_eq!(ann.next_publication().await.data, "bye");
    hears(&mut ann, "leave", "room:a", &bob_id).await;
}

#[tokio::test]
async fn in_the_form_with_nothing_but_data_one_is_present_and_hears_of_nobody() {
    let gateway = Gateway::start_with(rooms).await;
    let mut data = gateway.data("ann", "channels=loud:a,room:a&publish=room:a&join_leave=1").await;
    clients_are(&gateway, "loud:a", 1).await;
    clients_are(&gateway, "room:a", 1).await;
    let mut bob = gateway.connect("bob").await.subscribe("loud:a").await;
    let bob_id = bob.id().to_owned();
    hears(&mut bob, "join", "loud:a", &bob_id).await;
    data.send("hello").await;
    assert_eq!(data.next_text().await, "hello");
}

#[tokio::test]
async fn who_is_refused_because_it_cannot_recover_was_never_there() {
    let gateway = Gateway::start_with(|config| {
        let kept = json!({
            "presence": true, "join_leave": true, "force_push_join_leave": true, "allow_subscribe_for_client": true,
            "history_size": 10, "history_ttl": "10m", "force_recovery": true,
        });
        config.channel.namespaces.push(namespace("kept", kept));
    })
    .await;
    let mut watching = gateway.connect("watching").await.subscribe("kept:a").await;
    let own = watching.id().to_owned();
    hears(&mut watching, "join", "kept:a", &own).await;
    let mut lost = gateway.connect("lost").await;
    let subscribe = json!({"channel": "kept:a", "recover": true, "offset": 7, "epoch": "other", "flag": 2});
    assert_eq!(lost.call(json!({"subscribe": subscribe})).await["error"]["code"], 112);
    clients_are(&gateway, "kept:a", 1).await;
    let late = gateway.connect("late").await.subscribe("kept:a").await;
    hears(&mut watching, "join", "kept:a", late.id()).await;
}

#[tokio::test]
async fn others_see_what_a_newer_token_says() {
    let gateway = Gateway::start_with(rooms).await;
    let mut watching = gateway.connect("watching").await;
    let mut ann = gateway.connect_with(json!({"sub": "ann", "info": 1})).await.subscribe("lobby:a").await;
    let id = ann.id().to_owned();
    assert_eq!(presence(&mut watching, "lobby:a").await[&id]["conn_info"], 1);
    let token = gateway.sign(&json!({"sub": "ann", "exp": now() + 600, "info": 2}));
    let reply = ann.call(json!({"refresh": {"token": token}})).await;
    assert!(reply["refresh"].is_object(), "{reply}");
    eventually("the newer info to be seen", async || {
        presence(&mut watching, "lobby:a").await[&id]["conn_info"] == 2
    })
    .await;
    gateway.api("refresh", json!({"user": "ann", "info": 3})).await;
    eventually("the info of the server API to be seen", async || {
        presence(&mut watching, "lobby:a").await[&id]["conn_info"] == 3
    })
    .await;
}

/// A node that others take for dead soon.
async fn node(redis: &Redis, name: &str) -> Gateway {
    Gateway::start_with(|config| {
        rooms(config);
        redis.configure(config);
        config.node.name = name.into();
        config.cluster.heartbeat_interval = Duration::from_millis(250);
        config.cluster.node_ttl = Duration::from_secs(2);
    })
    .await
}

/// Connects, subscribes and asks to be told, once the node has been heard.
async fn watcher(gateway: &Gateway, user: &str, channel: &str) -> Client {
    eventually("to be ready", async || gateway.get("/readyz").await.status == 200).await;
    let mut client = gateway.connect(user).await;
    watch(&mut client, channel).await;
    let id = client.id().to_owned();
    hears(&mut client, "join", channel, &id).await;
    client
}

#[tokio::test]
async fn clients_of_different_nodes_are_present_together_and_hear_of_one_another() {
    let redis = Redis::shared();
    let (left, right) = (node(&redis, "left").await, node(&redis, "right").await);
    let mut here = watcher(&left, "ann", "room:a").await;
    let mut there = watcher(&right, "ann", "room:a").await;
    hears(&mut here, "join", "room:a", there.id()).await;
    for client in [&mut here, &mut there] {
        assert_eq!(presence(client, "room:a").await.as_object().unwrap().len(), 2);
        assert_eq!(stats(client, "room:a").await, json!({"num_clients": 2, "num_users": 1}));
    }
    let id = there.id().to_owned();
    there.leave().await;
    hears(&mut here, "leave", "room:a", &id).await;
    assert_eq!(stats(&mut here, "room:a").await, json!({"num_clients": 1, "num_users": 1}));
}

#[tokio::test]
async fn who_is_on_a_node_that_others_take_for_dead_is_gone_once_and_comes_back_with_it() {
    let redis = Redis::shared();
    let (by_proxy, proxy) = redis.proxied().await;
    let (left, middle, right) =
        (node(&redis, "left").await, node(&redis, "middle").await, node(&by_proxy, "right").await);
    let mut here = watcher(&left, "ann", "room:a").await;
    let mut witness = watcher(&middle, "eve", "room:a").await;
    hears(&mut here, "join", "room:a", witness.id()).await;
    let there = watcher(&right, "ann", "room:a").await;
    for client in [&mut here, &mut witness] {
        hears(client, "join", "room:a", there.id()).await;
    }
    proxy.cut();
    for client in [&mut here, &mut witness] {
        hears(client, "leave", "room:a", there.id()).await;
        assert_eq!(stats(client, "room:a").await, json!({"num_clients": 2, "num_users": 2}));
    }
    proxy.mend();
    for client in [&mut here, &mut witness] {
        hears(client, "join", "room:a", there.id()).await;
        assert_eq!(stats(client, "room:a").await, json!({"num_clients": 3, "num_users": 2}));
    }
}
