//! Subscriptions that the server makes: by the token, by the user's own channel, and by the API at any time.

use std::time::Duration;

use clarion::config::{Config, PersonalChannel};
use serde_json::{Value, json};

use crate::support::{Client, Gateway, after, namespace, now};

/// Nobody may subscribe to `mine:` and `kept:` by themselves, `kept:` recovers; to `wish:` everybody may.
fn channels(config: &mut Config) {
    config.client.expired_sub_close_delay = Duration::ZERO;
    config.channel.namespaces.extend([
        namespace("mine", json!({"history_size": 5, "history_ttl": "600s"})),
        namespace("kept", json!({"history_size": 5, "history_ttl": "600s", "force_recovery": true})),
        namespace(
            "wish",
            json!({
                "history_size": 5, "history_ttl": "600s", "force_recovery": true,
                "allow_subscribe_for_client": true,
            }),
        ),
    ]);
}

fn with_personal(config: &mut Config) {
    channels(config);
    config.client.subscribe_to_user_personal_channel =
        PersonalChannel { enabled: true, namespace: "kept".into() };
}

async fn connect(gateway: &Gateway, request: Value) -> Client {
    Client::native_with(gateway.open().await, request).await
}

/// What `connect` with this token is refused with: the code of the error, or of the close.
async fn refused(gateway: &Gateway, claims: Value, subs: Value) -> u64 {
    let mut client = gateway.silent().await;
    let connect = json!({"token": gateway.good(claims), "subs": subs});
    client.send(json!({"id": 1, "connect": connect}).to_string()).await;
    let text = client.next_text_or_close().await;
    text.map_or_else(u64::from, |text| {
        let reply: Value = serde_json::from_str(&text).expect("JSON");
        reply["error"]["code"].as_u64().unwrap_or_else(|| panic!("{reply}"))
    })
}

/// Publishes each number by the API; answers the epoch.
async fn publish(gateway: &Gateway, channel: &str, numbers: std::ops::RangeInclusive<u64>) -> String {
    for number in numbers {
        gateway.api("publish", json!({"channel": channel, "data": number})).await;
    }
    let history = gateway.api("history", json!({"channel": channel})).await;
    history["epoch"].as_str().expect("a history has an epoch").to_owned()
}

/// Asserts that `client` gets what is published to `channel` next.
async fn hears(gateway: &Gateway, client: &mut Client, channel: &str) {
    gateway.api("publish", json!({"channel": channel, "data": "live"})).await;
    let publication = client.next_publication().await;
    assert_eq!((publication.channel.as_str(), publication.data), (channel, json!("live")));
}

#[tokio::test]
async fn the_channels_of_a_token_are_in_the_reply_to_connect_also_without_anything_to_say() {
    let gateway = Gateway::start_with(channels).await;
    let mut ann = gateway.connect_with(json!({"sub": "ann", "channels": ["mine:a", "news", "mine:a"]})).await;
    assert_eq!(ann.welcome["subs"], json!({"mine:a": {}, "news": {}}));
    hears(&gateway, &mut ann, "mine:a").await;
    hears(&gateway, &mut ann, "news").await;
    assert!(gateway.connect("bob").await.welcome.get("subs").is_none(), "none, none said");
}

#[tokio::test]
async fn subs_say_more_of_each_channel_and_go_before_channels() {
    let gateway = Gateway::start_with(channels).await;
    let overrides = json!({"force_recovery": {"value": true}, "presence": {"value": true}});
    let claims = json!({
        "sub": "ann", "channels": ["ignored"],
        "subs": {"mine:a": {"override": overrides, "data": {"x": 1.0}}, "news": {"info": {"seat": 7}}},
    });
    let epoch = publish(&gateway, "mine:a", 1..=2).await;
    let mut ann = gateway.connect_with(claims).await;
    let expected = json!({
        "mine:a": {"recoverable": true, "positioned": true, "epoch": epoch, "offset": 2, "data": {"x": 1.0}},
        "news": {},
    });
    assert_eq!(ann.welcome["subs"], expected);
    ann.publish("news", 1).await;
    assert_eq!(ann.next_push().await["pub"]["info"]["chan_info"], json!({"seat": 7}));
}

#[tokio::test]
async fn a_client_is_subscribed_for_all_its_commands_and_may_leave() {
    let gateway = Gateway::start_with(channels).await;
    let mut ann = gateway.connect_with(json!({"sub": "ann", "channels": ["mine:a"]})).await;
    assert_eq!(ann.refusal(json!({"subscribe": {"channel": "mine:a"}})).await, 105);
    ann.unsubscribe("mine:a").await;
    assert_eq!(ann.refusal(json!({"subscribe": {"channel": "mine:a"}})).await, 103);
    gateway.metric_is("clarion_subscriptions", 0.0).await;
}

#[tokio::test]
async fn each_user_has_a_personal_channel_where_it_is_on_and_nobody_else_has_it() {
    let gateway = Gateway::start_with(|config| {
        with_personal(config);
        config.client.anonymous = true;
    })
    .await;
    let mut phone = gateway.connect("ann").await;
    let mut tablet = gateway.bare("ann", "channels=news").await;
    let mut bob = gateway.connect("bob").await;
    assert_eq!(phone.welcome["subs"]["kept:#ann"]["recoverable"], true, "{}", phone.welcome);
    assert_eq!(phone.welcome["subs"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(tablet.welcome["subs"]["kept:#ann"], phone.welcome["subs"]["kept:#ann"]);
    assert_eq!(tablet.welcome["subs"]["news"], json!({}));
    for client in [&mut phone, &mut tablet] {
        hears(&gateway, client, "kept:#ann").await;
        client.unsubscribe("kept:#ann").await;
    }
    tablet.leave().await;
    assert_eq!(bob.refusal(json!({"subscribe": {"channel": "kept:#ann"}})).await, 103);
    hears(&gateway, &mut bob, "kept:#bob").await;
    let nobody = Client::native(gateway.open().await, "").await;
    assert!(nobody.welcome.get("subs").is_none(), "{}", nobody.welcome);
}

#[tokio::test]
async fn a_token_with_a_channel_that_cannot_be_or_too_many_opens_nothing() {
    let gateway = Gateway::start_with(|config| {
        channels(config);
        config.client.channels_max = 2;
    })
    .await;
    for (what, claims, subs, code) in [
        ("an unknown namespace", json!({"sub": "ann", "channels": ["nowhere:a"]}), json!({}), 102),
        ("a name that cannot be", json!({"sub": "ann", "channels": ["a b"]}), json!({}), 107),
        ("no name", json!({"sub": "ann", "subs": {"": {}}}), json!({}), 107),
        ("three", json!({"sub": "ann", "channels": ["a", "b", "c"]}), json!({}), 3505),
        ("three with a wish", json!({"sub": "ann", "channels": ["a", "b"]}), json!({"wish:a": {}}), 3505),
        ("a wish in an unknown namespace", json!({"sub": "ann"}), json!({"nowhere:a": {}}), 3501),
        (
            "info above 1 KiB",
            json!({"sub": "ann", "subs": {"a": {"info": "x".repeat(1_024)}}}),
            json!({}),
            3500,
        ),
        ("channels that are no list", json!({"sub": "ann", "channels": "a"}), json!({}), 3500),
        (
            "an override that is no object",
            json!({"sub": "ann", "subs": {"a": {"override": 1}}}),
            json!({}),
            3500,
        ),
    ] {
        assert_eq!(refused(&gateway, claims, subs).await, code, "{what}");
    }
    gateway.metric_is("clarion_subscriptions", 0.0).await;
    gateway.serves_honest_clients().await;
}

#[tokio::test]
async fn a_client_that_comes_back_recovers_the_channels_of_the_server_by_connect() {
    let gateway = Gateway::start_with(channels).await;
    let claims = || json!({"sub": "ann", "channels": ["kept:a", "kept:b", "mine:c"]});
    let ann = gateway.connect_with(claims()).await;
    let subs = ann.welcome["subs"].clone();
    assert_eq!((&subs["kept:a"]["recoverable"], subs["kept:a"].get("offset")), (&json!(true), None));
    ann.leave().await;
    let epoch = publish(&gateway, "kept:a", 1..=2).await;
    assert_eq!(epoch, subs["kept:a"]["epoch"], "the epoch was there before the first publication");
    publish(&gateway, "kept:b", 1..=9).await;
    let since = |channel: &str| json!({"recover": true, "epoch": subs[channel]["epoch"], "offset": 0});
    let positions = json!({"kept:a": since("kept:a"), "kept:b": since("kept:b"), "mine:c": since("kept:a")});
    let request = json!({"token": gateway.good(claims()), "subs": positions});
    let mut ann = connect(&gateway, request).await;
    let expected = json!({
        "kept:a": {
            "recoverable": true, "positioned": true, "recovered": true, "was_recovering": true,
            "epoch": epoch,
            "publications": [{"data": 1, "offset": 1}, {"data": 2, "offset": 2}],
        },
        "kept:b": {
            "recoverable": true, "positioned": true, "was_recovering": true, "epoch": subs["kept:b"]["epoch"],
            "offset": 9,
        },
        "mine:c": {"was_recovering": true},
    });
    assert_eq!(ann.welcome["subs"], expected);
    hears(&gateway, &mut ann, "kept:a").await;
    hears(&gateway, &mut ann, "kept:b").await;
}

#[tokio::test]
async fn what_a_client_wishes_for_in_connect_it_gets_if_it_might_subscribe_itself() {
    let gateway = Gateway::start_with(channels).await;
    let epoch = publish(&gateway, "wish:a", 1..=2).await;
    let since = json!({"recover": true, "epoch": epoch, "offset": 1});
    let subs = json!({"wish:a": since, "kept:a": since, "$wish:b": {}, "a b": {}, "": {}});
    let mut ann = connect(&gateway, json!({"token": gateway.token("ann"), "subs": subs})).await;
    let expected = json!({"wish:a": {
        "recoverable": true, "positioned": true, "recovered": true, "was_recovering": true, "epoch": epoch,
        "offset": 1, "publications": [{"data": 2, "offset": 2}],
    }});
    assert_eq!(ann.welcome["subs"], expected);
    hears(&gateway, &mut ann, "wish:a").await;
}

#[tokio::test]
async fn the_bare_form_has_the_channels_of_the_server_in_its_first_push() {
    let gateway = Gateway::start_with(channels).await;
    let token = gateway.good(json!({"sub": "ann", "subs": {"kept:a": {"data": 1}, "mine:b": {}}}));
    let epoch = publish(&gateway, "kept:a", 1..=2).await;
    let query = format!("channels=news,mine:b,kept:c&since=kept:a@{epoch}:1");
    let mut ann = Client::bare(gateway.open().await, &token, &query).await;
    let expected = json!({
        "kept:a": {
            "recoverable": true, "positioned": true, "recovered": true, "was_recovering": true,
            "epoch": epoch,
            "offset": 1, "publications": [{"data": 2, "offset": 2}], "data": 1,
        },
        "mine:b": {}, "news": {},
        "kept:c": {"error": {"code": 103, "message": "permission denied"}},
    });
    assert_eq!(ann.welcome["subs"], expected);
    hears(&gateway, &mut ann, "mine:b").await;
}

#[tokio::test]
async fn the_api_subscribes_and_unsubscribes_all_connections_of_a_user() {
    let gateway = Gateway::start_with(|config| {
        channels(config);
        config.client.anonymous = true;
    })
    .await;
    let mut phone = gateway.connect("ann").await;
    let mut tablet = gateway.bare("ann", "").await;
    let mut bob = gateway.connect("bob").await.subscribe("news").await;
    let mut nobody = Client::native(gateway.open().await, "").await;
    let request = json!({"user": "ann", "channel": "mine:a", "data": {"x": 1.0}});
    assert_eq!(gateway.api("subscribe", request.clone()).await, json!({}));
    for client in [&mut phone, &mut tablet] {
        assert_eq!(client.next_push().await, json!({"channel": "mine:a", "subscribe": {"data": {"x": 1.0}}}));
    }
    gateway.api("subscribe", request).await;
    gateway.api("publish", json!({"channel": "mine:a", "data": 1})).await;
    for client in [&mut phone, &mut tablet] {
        assert_eq!(client.next_publication().await.data, 1, "once more changes nothing");
    }
    gateway.api("unsubscribe", json!({"user": "ann", "channel": "mine:a"})).await;
    let ended = json!({"code": 2000, "reason": "server unsubscribe"});
    for client in [&mut phone, &mut tablet] {
        assert_eq!(client.next_push().await, json!({"channel": "mine:a", "unsubscribe": ended}));
        assert_eq!(client.refusal(json!({"subscribe": {"channel": "mine:a"}})).await, 103);
    }
    gateway.api("subscribe", json!({"user": "", "channel": "mine:n"})).await;
    assert_eq!(nobody.next_push().await, json!({"channel": "mine:n", "subscribe": {}}), "no user is nobody");
    gateway.api("unsubscribe", json!({"user": "bob", "channel": "news"})).await;
    assert_eq!(bob.next_push().await["unsubscribe"], ended, "whoever made it");
}

#[tokio::test]
async fn the_api_addresses_one_connection_and_makes_of_it_what_it_says() {
    let gateway = Gateway::start_with(channels).await;
    let (mut phone, mut tablet) = (gateway.connect("ann").await, gateway.connect("ann").await);
    let epoch = publish(&gateway, "mine:a", 1..=1).await;
    let overrides = json!({"force_positioning": {"value": true}, "presence": {"value": true}});
    let request = json!({
        "user": "ann", "client": phone.id(), "channel": "mine:a", "info": {"seat": 1}, "override": overrides,
    });
    gateway.api("subscribe", request).await;
    let expected =
        json!({"channel": "mine:a", "subscribe": {"positioned": true, "epoch": epoch, "offset": 1}});
    assert_eq!(phone.next_push().await, expected);
    for (what, request) in [
        ("another user", json!({"user": "bob", "client": tablet.id(), "channel": "mine:b"})),
        (
            "another client",
            json!({"user": "ann", "client": "7a1f5c0e-2b64-4f0e-9d0b-3c1d9d1f0b11", "channel": "mine:b"}),
        ),
        ("a session", json!({"user": "ann", "session": "x", "channel": "mine:b"})),
    ] {
        assert_eq!(gateway.api("subscribe", request).await, json!({}), "{what} is nobody, and no error");
    }
    for (channel, code) in [("", 107), ("nowhere:a", 102), ("a b", 107)] {
        for method in ["subscribe", "unsubscribe"] {
            let request = json!({"user": "ann", "channel": channel});
            assert_eq!(gateway.api_refusal(method, request).await, code, "{method} {channel:?}");
        }
    }
    let past = json!({"user": "ann", "channel": "mine:b", "expire_at": now() - 1});
    assert_eq!(gateway.api_refusal("subscribe", past).await, 107);
    let large = json!({"user": "ann", "channel": "mine:b", "info": "x".repeat(1_024)});
    assert_eq!(gateway.api_refusal("subscribe", large).await, 107);
    tablet.publish("news", "nothing came").await;
    tablet.leave().await;
    hears(&gateway, &mut phone, "mine:a").await;
}

#[tokio::test]
async fn a_subscription_by_the_api_catches_up_by_pushes_in_order() {
    let gateway = Gateway::start_with(channels).await;
    let epoch = publish(&gateway, "kept:a", 1..=3).await;
    let mut ann = gateway.connect("ann").await;
    let since = json!({"offset": 1, "epoch": epoch});
    gateway.api("subscribe", json!({"user": "ann", "channel": "kept:a", "recover_since": since})).await;
    let push = ann.next_push().await;
    assert_eq!((&push["channel"], &push["subscribe"]["offset"]), (&json!("kept:a"), &json!(1)), "{push}");
    assert!(push["subscribe"].get("publications").is_none(), "it has no place for them: {push}");
    for offset in 2..=3 {
        let expected = json!({"channel": "kept:a", "pub": {"data": offset, "offset": offset}});
        assert_eq!(ann.next_push().await, expected);
    }
    hears(&gateway, &mut ann, "kept:a").await;
    // What cannot be caught up with is not: the subscription is live from the top on.
    let since = json!({"offset": 1, "epoch": "other"});
    let mut bob = gateway.connect("bob").await;
    gateway.api("subscribe", json!({"user": "bob", "channel": "kept:a", "recover_since": since})).await;
    assert_eq!(bob.next_push().await["subscribe"]["offset"], 4);
    hears(&gateway, &mut bob, "kept:a").await;
}

#[tokio::test]
async fn a_subscription_by_the_api_that_expires_ends_the_connection_with_3006() {
    let gateway = Gateway::start_with(channels).await;
    let mut ann = gateway.connect("ann").await;
    let mut bare = gateway.bare("ann", "").await;
    let expire_at = after(1.0).ceil() as u64;
    gateway.api("subscribe", json!({"user": "ann", "channel": "mine:a", "expire_at": expire_at})).await;
    assert_eq!(ann.next_push().await, json!({"channel": "mine:a", "subscribe": {}}), "nothing to refresh");
    assert_eq!(ann.closed().await, (3006, "subscription expired".into()));
    assert_eq!(bare.closed().await.0, 3006);
}

#[tokio::test]
async fn a_subscription_by_the_api_beyond_the_limit_closes_with_3505() {
    let gateway = Gateway::start_with(|config| {
        channels(config);
        config.client.channels_max = 1;
    })
    .await;
    let mut ann = gateway.connect("ann").await.subscribe("news").await;
    gateway.api("subscribe", json!({"user": "ann", "channel": "mine:a"})).await;
    assert_eq!(ann.closed().await, (3505, "channel limit".into()));
}
