//! Clients that were away catch up with what they missed, exactly, or are told that they cannot.

use std::sync::Arc;
use std::time::Duration;

use clarion::config::{ChannelOptions, Config, RecoveryMode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Client, Gateway, Raw, after, upgrade_request};

/// Publications that `kept:` channels keep.
const WINDOW: usize = 10;

/// A namespace called `name` that keeps a window of history.
fn keeping(name: &str) -> ChannelOptions {
    ChannelOptions {
        name: name.into(),
        history_size: WINDOW,
        history_ttl: Duration::from_secs(600),
        allow_subscribe_for_client: true,
        allow_publish_for_client: true,
        ..ChannelOptions::default()
    }
}

/// `kept:` recovers by itself, `asked:` on request, `told:` tells positions on request, `stored:` neither.
fn histories(config: &mut Config) {
    config.channel.namespaces.extend([
        ChannelOptions { force_recovery: true, ..keeping("kept") },
        ChannelOptions { allow_recovery: true, ..keeping("asked") },
        ChannelOptions { allow_positioning: true, ..keeping("told") },
        keeping("stored"),
        ChannelOptions {
            force_recovery: true,
            force_recovery_mode: RecoveryMode::Cache,
            ..keeping("newest")
        },
        ChannelOptions { force_recovery: true, history_size: 10_000, ..keeping("long") },
    ]);
}

/// Publishes each of `data` to `channel`; answers the epoch.
async fn publish(gateway: &Gateway, channel: &str, data: impl IntoIterator<Item = u64>) -> String {
    for data in data {
        gateway.api("publish", json!({"channel": channel, "data": data})).await;
    }
    epoch(gateway, channel).await
}

/// The epoch of `channel`, of which it may be the first to ask.
async fn epoch(gateway: &Gateway, channel: &str) -> String {
    let history = gateway.api("history", json!({"channel": channel})).await;
    history["epoch"].as_str().expect("a history has an epoch").to_owned()
}

/// What `subscribe` with `more` beside the channel is answered.
async fn subscribe(client: &mut Client, channel: &str, more: Value) -> Value {
    let mut request = more;
    request["channel"] = json!(channel);
    client.call(json!({ "subscribe": request })).await
}

/// The same, by a new client that comes back to where it was; the subscription is made.
async fn come_back(gateway: &Gateway, channel: &str, (epoch, offset): (&str, u64)) -> (Client, Value) {
    let mut client = gateway.connect("bob").await;
    let since = json!({"recover": true, "epoch": epoch, "offset": offset});
    let mut reply = subscribe(&mut client, channel, since).await;
    (client, reply["subscribe"].take())
}

/// Publications of the server API as a reply has them: each holds its own offset as its data.
fn missed(offsets: std::ops::RangeInclusive<u64>) -> Vec<Value> {
    offsets.map(|offset| json!({"data": offset, "offset": offset})).collect()
}

/// Asserts that what is published next, with `offset`, is what `client` gets next.
async fn is_live(gateway: &Gateway, client: &mut Client, channel: &str, offset: u64) {
    publish(gateway, channel, [offset]).await;
    let expected = json!({"channel": channel, "pub": {"data": offset, "offset": offset}});
    assert_eq!(client.next_push().await, expected);
}

#[tokio::test]
async fn a_fresh_subscriber_starts_at_the_top() {
    let gateway = Gateway::start_with(histories).await;
    let epoch = publish(&gateway, "kept:a", 1..=2).await;
    let mut bob = gateway.connect("bob").await;
    let reply = subscribe(&mut bob, "kept:a", json!({})).await;
    let expected = json!({"recoverable": true, "positioned": true, "epoch": epoch, "offset": 2});
    assert_eq!(reply["subscribe"], expected);
    is_live(&gateway, &mut bob, "kept:a", 3).await;
}

#[tokio::test]
async fn what_was_missed_comes_with_the_reply_and_the_offset_is_the_requested_one() {
    let gateway = Gateway::start_with(histories).await;
    let epoch = publish(&gateway, "kept:a", 1..=12).await;
    // The oldest place from which everything is still there, and a younger one.
    for offset in [2, 9] {
        let (mut bob, reply) = come_back(&gateway, "kept:a", (&epoch, offset)).await;
        let expected = json!({
            "recoverable": true, "positioned": true, "recovered": true, "was_recovering": true,
            "epoch": epoch, "offset": offset, "publications": missed(offset + 1..=12),
        });
        assert_eq!(reply, expected);
        bob.unsubscribe("kept:a").await;
    }
    let (mut bob, _) = come_back(&gateway, "kept:a", (&epoch, 9)).await;
    is_live(&gateway, &mut bob, "kept:a", 13).await;
    assert_eq!(gateway.metric("clarion_recoveries_total{outcome=\"recovered\"}").await, 3.0);
}

#[tokio::test]
async fn who_missed_nothing_has_recovered_without_publications() {
    let gateway = Gateway::start_with(histories).await;
    let epoch = publish(&gateway, "kept:a", 1..=3).await;
    let (mut bob, reply) = come_back(&gateway, "kept:a", (&epoch, 3)).await;
    let expected = json!({
        "recoverable": true, "positioned": true, "recovered": true, "was_recovering": true,
        "epoch": epoch, "offset": 3,
    });
    assert_eq!(reply, expected);
    is_live(&gateway, &mut bob, "kept:a", 4).await;
}

#[tokio::test]
async fn who_missed_more_than_is_kept_starts_at_the_top_and_is_told() {
    let gateway = Gateway::start_with(histories).await;
    let epoch = publish(&gateway, "kept:a", 1..=12).await;
    let mut top = 12;
    for (what, since) in [
        ("beyond the window", (epoch.as_str(), 1)),
        ("another epoch", ("other", 9)),
        ("another epoch, at the top", ("other", top)),
        ("above the top", (epoch.as_str(), 99)),
        ("from the start of a history that lost it", ("", 0)),
    ] {
        let (mut bob, reply) = come_back(&gateway, "kept:a", since).await;
        let expected = json!({
            "recoverable": true, "positioned": true, "was_recovering": true, "epoch": epoch, "offset": top,
        });
        assert_eq!(reply, expected, "{what}");
        top += 1;
        is_live(&gateway, &mut bob, "kept:a", top).await;
    }
}

#[tokio::test]
async fn who_wants_all_or_nothing_gets_112_and_may_then_start_anew() {
    let gateway = Gateway::start_with(histories).await;
    let epoch = publish(&gateway, "kept:a", 1..=3).await;
    let mut bob = gateway.connect("bob").await;
    let since = |epoch: &str| json!({"recover": true, "epoch": epoch, "offset": 2, "flag": 3});
    let refused = subscribe(&mut bob, "kept:a", since("other")).await;
    assert_eq!(refused["error"], json!({"code": 112, "message": "unrecoverable position"}));
    gateway.metric_is("clarion_subscriptions", 0.0).await;
    publish(&gateway, "kept:a", [4]).await;
    let fresh = subscribe(&mut bob, "kept:a", json!({})).await;
    assert_eq!(fresh["subscribe"]["offset"], 4);
    is_live(&gateway, &mut bob, "kept:a", 5).await;
    bob.unsubscribe("kept:a").await;
    let recovered = subscribe(&mut bob, "kept:a", since(&epoch)).await;
    assert_eq!(recovered["subscribe"]["publications"], json!(missed(3..=5)));
}

#[tokio::test]
async fn everything_can_be_had_from_a_history_that_is_whole() {
    let gateway = Gateway::start_with(histories).await;
    let (_, reply) = come_back(&gateway, "kept:a", ("", 0)).await;
    assert_eq!(reply["recovered"], true, "nothing is everything: {reply}");
    publish(&gateway, "kept:a", 1..=WINDOW as u64).await;
    let (_, reply) = come_back(&gateway, "kept:a", ("", 0)).await;
    assert_eq!(reply["recovered"], true);
    assert_eq!(reply["publications"], json!(missed(1..=WINDOW as u64)));
    assert!(reply.get("offset").is_none(), "the requested offset is 0: {reply}");
}

#[tokio::test]
async fn more_than_the_most_publications_are_not_recovered() {
    let gateway = Gateway::start_with(|config| {
        histories(config);
        config.client.recovery_publications_max = 4;
    })
    .await;
    let epoch = publish(&gateway, "kept:a", 1..=6).await;
    let (_, reply) = come_back(&gateway, "kept:a", (&epoch, 2)).await;
    assert_eq!(reply["publications"], json!(missed(3..=6)));
    let (mut bob, reply) = come_back(&gateway, "kept:a", (&epoch, 1)).await;
    assert_eq!((reply.get("recovered"), reply.get("publications")), (None, None));
    assert_eq!((&reply["was_recovering"], &reply["offset"]), (&json!(true), &json!(6)));
    is_live(&gateway, &mut bob, "kept:a", 7).await;
}

#[tokio::test]
async fn more_than_an_outbox_could_hold_is_not_recovered_and_closes_nobody() {
    const OUTBOX_BYTES: usize = 32 << 10;
    let gateway = Gateway::start_with(|config| {
        histories(config);
        config.client.outbox_bytes_max = OUTBOX_BYTES;
        config.client.send_buffer_bytes = 4 << 10;
    })
    .await;
    let filler = "x".repeat(OUTBOX_BYTES / 16);
    for _ in 0..10 {
        gateway.api("publish", json!({"channel": "kept:a", "data": filler})).await;
    }
    let epoch = epoch(&gateway, "kept:a").await;
    let (_, reply) = come_back(&gateway, "kept:a", (&epoch, 5)).await;
    assert_eq!(reply["publications"].as_array().map(Vec::len), Some(5));
    let (mut bob, reply) = come_back(&gateway, "kept:a", (&epoch, 0)).await;
    assert_eq!((reply.get("recovered"), reply.get("publications")), (None, None));
    assert_eq!(reply["offset"], 10);
    is_live(&gateway, &mut bob, "kept:a", 11).await;
    assert_eq!(gateway.metric("clarion_slow_consumers_total").await, 0.0);
}

/// A client of the stress test.
struct Wanderer {
    epoch: String,
    /// Everything it ever got: the data of offset 1, 2, 3 and so on.
    heard: Vec<Value>,
    connections: usize,
}

impl Wanderer {
    /// Connects, catches up, listens to some more, and is cut off.
    async fn visit(&mut self, gateway: &Gateway, channel: &str, more: usize, end: usize) {
        let since = (self.epoch.as_str(), self.heard.len() as u64);
        let (mut client, reply) = come_back(gateway, channel, since).await;
        assert_eq!(reply["recovered"], true, "visit {}: {reply:.200}", self.connections);
        self.epoch = reply["epoch"].as_str().expect("there is an epoch").to_owned();
        for publication in reply["publications"].as_array().into_iter().flatten() {
            self.hear(publication);
        }
        for _ in 0..more.min(end - self.heard.len()) {
            let push = client.next_push().await;
            assert_eq!(push["channel"], channel);
            self.hear(&push["pub"]);
        }
        self.connections += 1;
    }

    fn hear(&mut self, publication: &Value) {
        assert_eq!(publication["offset"], self.heard.len() + 1, "visit {}", self.connections);
        self.heard.push(publication["data"].clone());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reconnects_again_and_again_hears_everything_once_and_in_order() {
    const CLIENTS: usize = 20;
    const PUBLISHERS: usize = 2;
    const EACH: usize = 1_000;
    const CHANNEL: &str = "long:hot";
    let gateway = Gateway::start_with(|config| {
        histories(config);
        config.client.recovery_publications_max = PUBLISHERS * EACH;
    })
    .await;
    let gateway = Arc::new(gateway);
    let mut wanderers = JoinSet::new();
    for client in 0..CLIENTS {
        let gateway = Arc::clone(&gateway);
        wanderers.spawn(async move {
            let mut wanderer = Wanderer { epoch: String::new(), heard: Vec::new(), connections: 0 };
            while wanderer.heard.len() < PUBLISHERS * EACH {
                let more = (wanderer.connections + client) % 8;
                wanderer.visit(&gateway, CHANNEL, more, PUBLISHERS * EACH).await;
            }
            wanderer
        });
    }
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let mut client = gateway.connect("publisher").await;
        publishers.spawn(async move {
            for index in 0..EACH {
                client.publish(CHANNEL, json!([publisher, index])).await;
            }
        });
    }
    publishers.join_all().await;
    let wanderers = wanderers.join_all().await;
    for publisher in 0..PUBLISHERS {
        let its = wanderers[0].heard.iter().filter(|data| data[0] == publisher);
        assert!(its.map(|data| &data[1]).eq((0..EACH).map(|index| json!(index)).collect::<Vec<_>>().iter()));
    }
    for wanderer in &wanderers {
        assert_eq!(wanderer.heard, wanderers[0].heard);
        assert!(wanderer.connections > 5, "{} connections are no stress", wanderer.connections);
    }
}

#[tokio::test]
async fn in_cache_mode_the_newest_alone_comes() {
    let gateway = Gateway::start_with(histories).await;
    let epoch = publish(&gateway, "newest:a", 1..=12).await;
    let newest = json!(missed(12..=12));
    for since in [(epoch.as_str(), 3), (epoch.as_str(), 11), ("other", 7), ("", 0)] {
        let (mut bob, reply) = come_back(&gateway, "newest:a", since).await;
        assert_eq!((&reply["recovered"], &reply["publications"]), (&json!(true), &newest), "{since:?}");
        bob.unsubscribe("newest:a").await;
    }
    let (_, reply) = come_back(&gateway, "newest:a", (&epoch, 12)).await;
    assert_eq!((&reply["recovered"], reply.get("publications")), (&json!(true), None), "it has the newest");
    let mut bob = gateway.connect("bob").await;
    let reply = subscribe(&mut bob, "newest:a", json!({})).await;
    assert_eq!(reply["subscribe"].get("publications"), None, "it did not ask");
    is_live(&gateway, &mut bob, "newest:a", 13).await;
}

#[tokio::test]
async fn what_is_only_allowed_has_to_be_asked_for() {
    let gateway = Gateway::start_with(histories).await;
    let mut bob = gateway.connect("bob").await;
    for (channel, more, recoverable, positioned) in [
        ("asked:a", json!({}), false, false),
        ("asked:a", json!({"positioned": true}), false, false),
        ("asked:a", json!({"recoverable": true}), true, true),
        ("told:a", json!({"recoverable": true}), false, false),
        ("told:a", json!({"positioned": true}), false, true),
        ("told:a", json!({"positioned": true, "recoverable": true}), false, true),
        ("stored:a", json!({"positioned": true, "recoverable": true}), false, false),
        ("read:a", json!({"positioned": true, "recoverable": true}), false, false),
    ] {
        let what = format!("{channel} {more}");
        let reply = subscribe(&mut bob, channel, more).await["subscribe"].take();
        assert_eq!(reply.get("recoverable").is_some(), recoverable, "{what}: {reply}");
        assert_eq!(reply.get("positioned").is_some(), positioned, "{what}: {reply}");
        assert_eq!(reply.get("epoch").is_some(), positioned, "{what}: {reply}");
        bob.unsubscribe(channel).await;
    }
}

#[tokio::test]
async fn where_nothing_is_recovered_who_asks_is_told_so_and_live() {
    let gateway = Gateway::start_with(histories).await;
    let stored = publish(&gateway, "stored:a", 1..=3).await;
    let told = publish(&gateway, "told:a", 1..=3).await;
    let (mut bob, reply) = come_back(&gateway, "stored:a", (&stored, 1)).await;
    assert_eq!(reply, json!({"was_recovering": true}));
    is_live(&gateway, &mut bob, "stored:a", 4).await;
    let mut bob = gateway.connect("bob").await;
    let since = json!({"positioned": true, "recover": true, "epoch": told, "offset": 1});
    let reply = subscribe(&mut bob, "told:a", since).await;
    let expected = json!({"positioned": true, "was_recovering": true, "epoch": told, "offset": 3});
    assert_eq!(reply["subscribe"], expected);
    is_live(&gateway, &mut bob, "told:a", 4).await;
}

#[tokio::test]
async fn the_epoch_is_there_before_the_first_publication_and_outlives_the_history() {
    let gateway = Gateway::start_with(histories).await;
    let (mut bob, first) = come_back(&gateway, "kept:a", ("", 0)).await;
    let before = first["epoch"].as_str().expect("there is an epoch").to_owned();
    is_live(&gateway, &mut bob, "kept:a", 1).await;
    is_live(&gateway, &mut bob, "kept:a", 2).await;
    assert_eq!(epoch(&gateway, "kept:a").await, before);
    gateway.api("history_remove", json!({"channel": "kept:a"})).await;
    is_live(&gateway, &mut bob, "kept:a", 3).await;
    let (_, reply) = come_back(&gateway, "kept:a", (&before, 2)).await;
    assert_eq!((&reply["epoch"], &reply["publications"]), (&json!(before), &json!(missed(3..=3))));
    let (_, reply) = come_back(&gateway, "kept:a", (&before, 1)).await;
    assert_eq!((&reply["epoch"], reply.get("recovered")), (&json!(before), None), "2 was removed");
}

#[tokio::test]
async fn the_bare_form_says_where_it_is_and_catches_up_by_its_address() {
    let gateway = Gateway::start_with(histories).await;
    let kept = publish(&gateway, "kept:a", 1..=3).await;
    let asked = publish(&gateway, "asked:b", 1..=1).await;
    let bob = gateway.bare("bob", "channels=kept:a,asked:b,read:c").await;
    let expected = json!({
        "kept:a": {"recoverable": true, "positioned": true, "epoch": kept, "offset": 3},
        "asked:b": {"recoverable": true, "positioned": true, "epoch": asked, "offset": 1},
        "read:c": {},
    });
    assert_eq!(bob.welcome["subs"], expected);
    bob.leave().await;
    publish(&gateway, "kept:a", 4..=5).await;
    let query = format!("channels=kept:a,asked:b&since=kept:a@{kept}:3&since=asked:b@other:1");
    let mut bob = gateway.bare("bob", &query).await;
    let expected = json!({
        "kept:a": {
            "recoverable": true, "positioned": true, "was_recovering": true, "recovered": true,
            "epoch": kept, "offset": 3, "publications": missed(4..=5),
        },
        "asked:b": {
            "recoverable": true, "positioned": true, "was_recovering": true, "epoch": asked, "offset": 1,
        },
    });
    assert_eq!(bob.welcome["subs"], expected);
    is_live(&gateway, &mut bob, "kept:a", 6).await;
    is_live(&gateway, &mut bob, "asked:b", 2).await;
}

#[tokio::test]
async fn a_malformed_since_is_refused() {
    let gateway = Gateway::start_with(histories).await;
    let token = gateway.token("bob");
    for since in ["", "kept:a", "kept:a@", "kept:a@e", "kept:a@e:", "kept:a@e:x", "kept:a@e:-1"] {
        let path = format!("/ws?token={token}&channels=kept:a&since={since}");
        let request = upgrade_request(&path, "");
        let mut raw = Raw::open(gateway.public()).await;
        raw.send(request).await;
        assert_eq!(raw.answer().await.status, 400, "{since:?}");
    }
}

#[tokio::test]
async fn who_follows_a_history_that_is_lost_is_told_with_2500_or_closed_with_3010() {
    let gateway = Gateway::start_with(|config| {
        config.channel.namespaces.push(ChannelOptions {
            force_recovery: true,
            history_ttl: Duration::from_millis(500),
            history_meta_ttl: Duration::from_millis(500),
            ..keeping("brief")
        });
        // Nobody asks for the history, which would keep its epoch.
        config.client.position_check_interval = Duration::ZERO;
        config.client.expired_close_delay = Duration::ZERO;
    })
    .await;
    publish(&gateway, "brief:a", 1..=2).await;
    let mut ann = gateway.connect("ann").await.subscribe("brief:a").await;
    let mut bare = gateway.bare("bob", "channels=brief:a").await;
    let mut data = gateway.data("carl", "channels=brief:a&publish=news").await;
    let mut eve = gateway.connect_with(json!({"sub": "eve", "channels": ["brief:a"]})).await;
    gateway.metric_is("clarion_subscriptions", 4.0).await;
    // Its end says that the time of the epoch is over as well.
    let mut clock = gateway.connect_with(json!({"sub": "clock", "exp": after(0.8)})).await;
    assert_eq!(clock.closed().await.0, 3005);
    gateway.api("publish", json!({"channel": "brief:a", "data": 1})).await;
    let lost = json!({"code": 2500, "reason": "insufficient state"});
    for client in [&mut ann, &mut bare] {
        assert_eq!(client.next_push().await, json!({"channel": "brief:a", "unsubscribe": lost}));
    }
    assert_eq!(eve.closed().await, (3010, "insufficient state".into()));
    assert_eq!(data.closed().await.0, 3010, "it has no other way to be told");
    let again = subscribe(&mut ann, "brief:a", json!({})).await;
    assert_eq!(again["subscribe"]["offset"], 1, "it can begin anew: {again}");
    is_live(&gateway, &mut ann, "brief:a", 2).await;
}
