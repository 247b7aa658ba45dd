//! Every command with what no client should send: each has its code, and the connection stays or closes as
//! the protocol says.

use clarion::config::Config;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, Raw, namespace, now};

/// Channels `all:…` with every feature.
fn everything(config: &mut Config) {
    let options = json!({
        "presence": true, "join_leave": true,
        "history_size": 5, "history_ttl": "600s", "allow_recovery": true,
        "allow_subscribe_for_client": true, "allow_publish_for_client": true,
        "allow_presence_for_client": true, "allow_history_for_client": true,
    });
    config.channel.namespaces.push(namespace("all", options));
}

/// The code with which `client` is refused what `request` asks for, an error or a close; `None` if it gets
/// it.
async fn answer(client: &mut Client, name: &str, request: &str) -> Option<u64> {
    client.send(format!(r#"{{"id":77,"{name}":{request}}}"#)).await;
    match client.next_text_or_close().await {
        Ok(text) => {
            let reply: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(reply["id"], 77, "{reply}");
            reply["error"]["code"].as_u64()
        }
        Err(code) => Some(code.into()),
    }
}

/// Each of `requests` of the command `name` is answered with its code (0: done); after an error the connection
/// is usable, after a close it is closed.
async fn all(gateway: &Gateway, name: &str, requests: &[(&str, u64)]) {
    for (request, code) in requests {
        let mut client = gateway.connect("ann").await;
        let shown = format!("{name} {request:.80}");
        assert_eq!(answer(&mut client, name, request).await.unwrap_or_default(), *code, "{shown}");
        if *code < 3000 {
            // The channel of a subscribe that was done may send its own pushes.
            client.publish("news", "still here").await;
        }
    }
}

/// So deep that no reader should follow.
fn deep(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// What no request may be, whatever the command.
async fn all_broken(gateway: &Gateway, name: &str) {
    let too_deep = format!(r#"{{"channel":"all:a","x":{}}}"#, deep(200));
    let requests = [
        (r#""text""#, 3501),
        ("[]", 3501),
        ("1", 3501),
        ("true", 3501),
        ("", 3501),
        ("{", 3501),
        (r#"{"channel":1}"#, 3501),
        (r#"{"channel":["all:a"]}"#, 3501),
        (r#"{"channel":{"name":"all:a"}}"#, 3501),
        (r#"{"channel":"all:a","channel":"all:b"}"#, 3501),
        (r#"{"channel":"\ud800"}"#, 3501),
        (&too_deep, 3501),
        // Nothing but an id is left, which is no command.
        ("null", 3501),
        ("{}", 3501),
        (r#"{"channel":""}"#, 3501),
    ];
    all(gateway, name, &requests).await;
}

/// What no name of a channel may be.
async fn all_unnamable(gateway: &Gateway, name: &str, more: &str) {
    let long = format!(r#"{{"channel":"all:{}"{more}}}"#, "x".repeat(252));
    let named = |channel: &str| format!(r#"{{"channel":{}{more}}}"#, json!(channel));
    let requests = [
        (long, 107),
        (named("a b"), 107),
        (named("a\0"), 107),
        (named("all:\u{202e}"), 107),
        (named("all:é"), 107),
        (named("nowhere:a"), 102),
        (named("ALL:a"), 102),
    ];
    let requests: Vec<_> = requests.iter().map(|(request, code)| (request.as_str(), *code)).collect();
    all(gateway, name, &requests).await;
}

#[tokio::test]
async fn bad_subscribes() {
    let gateway = Gateway::start_with(everything).await;
    all_broken(&gateway, "subscribe").await;
    all_unnamable(&gateway, "subscribe", "").await;
    let requests = [
        (r#"{"channel":"all:a","recover":1}"#, 3501),
        (r#"{"channel":"all:a","offset":-1}"#, 3501),
        (r#"{"channel":"all:a","offset":18446744073709551616}"#, 3501),
        (r#"{"channel":"all:a","offset":1.5}"#, 3501),
        (r#"{"channel":"all:a","offset":"1"}"#, 3501),
        (r#"{"channel":"all:a","epoch":7}"#, 3501),
        (r#"{"channel":"all:a","token":7}"#, 3501),
        (r#"{"channel":"all:a","flag":"1"}"#, 3501),
        (r#"{"channel":"all:a","delta":"zip"}"#, 3501),
        (r#"{"channel":"all:a","recover":true,"offset":18446744073709551615,"epoch":"x"}"#, 0),
        (r#"{"channel":"all:a","recover":true,"offset":18446744073709551615,"flag":2}"#, 112),
        (r#"{"channel":"all:a","delta":"fossil","flag":1,"positioned":true,"unknown":{}}"#, 0),
        (r#"{"channel":"all:a","tf":{"op":"eq"}}"#, 107),
        (r#"{"channel":"all:a","type":1}"#, 108),
        (r#"{"channel":"all:a","type":-1}"#, 108),
        (r#"{"channel":"all:a","type":4}"#, 108),
        (r#"{"channel":"all:a","type":9999999999}"#, 3501),
        (r#"{"channel":"closed:a"}"#, 103),
        (r#"{"channel":"all:a","token":"nope"}"#, 103),
    ];
    all(&gateway, "subscribe", &requests).await;
}

#[tokio::test]
async fn bad_unsubscribes() {
    let gateway = Gateway::start_with(everything).await;
    all_broken(&gateway, "unsubscribe").await;
    // Who is not subscribed, to whatever, has nothing to end.
    let requests =
        [(r#"{"channel":"all:a"}"#, 0), (r#"{"channel":"a b"}"#, 0), (r#"{"channel":"nowhere:a"}"#, 0)];
    all(&gateway, "unsubscribe", &requests).await;
}

#[tokio::test]
async fn bad_publishes() {
    let gateway = Gateway::start_with(everything).await;
    all_broken(&gateway, "publish").await;
    all_unnamable(&gateway, "publish", r#","data":1"#).await;
    let within_limits = format!(r#"{{"channel":"all:a","data":{}}}"#, deep(120));
    let requests = [
        (r#"{"channel":"all:a"}"#, 107),
        (r#"{"channel":"all:a","data":}"#, 3501),
        (r#"{"channel":"all:a","data":nope}"#, 3501),
        (r#"{"channel":"all:a","data":null}"#, 0),
        (r#"{"channel":"all:a","data":1e999}"#, 0),
        (r#"{"channel":"all:a","data":"","type":0}"#, 0),
        (&within_limits, 0),
        (r#"{"channel":"all:a","data":1,"type":2}"#, 108),
        (r#"{"channel":"read:a","data":1}"#, 103),
    ];
    all(&gateway, "publish", &requests).await;
}

#[tokio::test]
async fn bad_questions_about_presence() {
    let gateway = Gateway::start_with(everything).await;
    for command in ["presence", "presence_stats"] {
        all_broken(&gateway, command).await;
        all_unnamable(&gateway, command, "").await;
        all(&gateway, command, &[(r#"{"channel":"all:a"}"#, 0), (r#"{"channel":"news"}"#, 108)]).await;
    }
}

#[tokio::test]
async fn bad_questions_about_history() {
    let gateway = Gateway::start_with(everything).await;
    all_broken(&gateway, "history").await;
    all_unnamable(&gateway, "history", "").await;
    let requests = [
        (r#"{"channel":"all:a","limit":"1"}"#, 3501),
        (r#"{"channel":"all:a","limit":1.5}"#, 3501),
        (r#"{"channel":"all:a","limit":2147483648}"#, 3501),
        (r#"{"channel":"all:a","limit":2147483647}"#, 0),
        (r#"{"channel":"all:a","limit":-2147483648}"#, 0),
        (r#"{"channel":"all:a","since":1}"#, 3501),
        (r#"{"channel":"all:a","since":{"offset":-1}}"#, 3501),
        (r#"{"channel":"all:a","since":{"offset":18446744073709551616}}"#, 3501),
        (r#"{"channel":"all:a","limit":1,"since":{"offset":18446744073709551615}}"#, 0),
        (r#"{"channel":"all:a","limit":1,"since":{"offset":18446744073709551615},"reverse":true}"#, 0),
        (r#"{"channel":"all:a","limit":1,"since":null}"#, 0),
        (r#"{"channel":"all:a","limit":1,"since":{"offset":0,"epoch":"elsewhere"}}"#, 112),
        (r#"{"channel":"all:a","since":{"epoch":7}}"#, 3501),
        (r#"{"channel":"all:a","since":{},"reverse":true}"#, 107),
        (r#"{"channel":"all:a","reverse":"yes"}"#, 3501),
        (r#"{"channel":"news"}"#, 108),
    ];
    all(&gateway, "history", &requests).await;
}

#[tokio::test]
async fn bad_refreshes() {
    let gateway = Gateway::start_with(everything).await;
    let requests = [
        (r#""text""#, 3501),
        ("{}", 3501),
        ("null", 3501),
        (r#"{"token":""}"#, 3501),
        (r#"{"token":7}"#, 3501),
        (r#"{"token":"nope"}"#, 3500),
    ];
    all(&gateway, "refresh", &requests).await;
    all_broken(&gateway, "sub_refresh").await;
    let requests = [
        (r#"{"channel":"all:a"}"#, 103),
        (r#"{"channel":"all:a","type":1}"#, 108),
        (r#"{"channel":"all:a","token":7}"#, 3501),
    ];
    all(&gateway, "sub_refresh", &requests).await;
}

#[tokio::test]
async fn bad_connects() {
    let gateway = Gateway::start_with(everything).await;
    let token = gateway.token("ann");
    let with = |more: &str| format!(r#"{{"token":"{token}",{more}}}"#);
    let requests = [
        (r#"{"token":7}"#.to_owned(), 3501),
        ("[]".to_owned(), 3501),
        ("null".to_owned(), 3501),
        (r#"{"token":"nope"}"#.to_owned(), 3500),
        (with(r#""subs":[]"#), 3501),
        (with(r#""subs":{"all:a":1}"#), 3501),
        (with(r#""subs":{"all:a":{"offset":-1}}"#), 3501),
        (with(r#""subs":{"nowhere:a":{}}"#), 3501),
        (with(r#""data":{"a":1},"name":"js","version":"5","headers":{"x":"y"},"flag":3,"dict":[1]"#), 0),
        (with(r#""subs":{"closed:a":{},"a b":{},"":{}}"#), 0),
    ];
    for (request, code) in &requests {
        let mut client = gateway.silent().await;
        assert_eq!(answer(&mut client, "connect", request).await.unwrap_or_default(), *code, "{request:.80}");
    }
}

#[tokio::test]
async fn calls_are_answered_and_words_into_the_blue_are_not() {
    let gateway = Gateway::start_with(everything).await;
    let requests =
        [("{}", 108), (r#"{"method":"sum","data":[1]}"#, 108), (r#"{"method":7}"#, 108), ("nope", 3501)];
    all(&gateway, "rpc", &requests).await;
    all(&gateway, "ping", &[("{}", 3501)]).await;
    let mut ann = gateway.connect("ann").await;
    for text in [
        r#"{"send":{"data":1}}"#,
        r#"{"id":5,"send":{}}"#,
        r#"{"id":0,"subscribe":{"channel":"closed:a"}}"#,
        "{}",
    ] {
        ann.send(text).await;
    }
    ann.send(r#"{"id":6,"rpc":{"method":"x"}}"#).await;
    let not_available = json!({"id": 6, "error": {"code": 108, "message": "not available"}});
    assert_eq!(ann.next_message().await, not_available, "the first that is answered");
}

#[tokio::test]
async fn every_command_with_an_id_is_answered_once_with_an_object() {
    let gateway = Gateway::start_with(everything).await;
    let token = gateway.good(json!({"sub": "ann", "channel": "closed:a", "expire_at": 0}));
    let mut ann = gateway.connect("ann").await;
    for (name, request, expected) in [
        ("subscribe", json!({"channel": "read:a"}), json!({})),
        ("subscribe", json!({"channel": "closed:a", "token": token}), json!({})),
        ("sub_refresh", json!({"channel": "closed:a", "token": token}), json!({})),
        ("unsubscribe", json!({"channel": "read:a"}), json!({})),
        ("publish", json!({"channel": "news", "data": 1}), json!({})),
        ("presence", json!({"channel": "all:a"}), json!({"presence": {}})),
        ("presence_stats", json!({"channel": "all:a"}), json!({"num_clients": 0, "num_users": 0})),
        ("refresh", json!({"token": gateway.good(json!({"sub": "ann", "expire_at": 0}))}), json!({})),
    ] {
        let mut reply = ann.call(json!({ name: request })).await;
        assert_eq!(reply[name].take(), expected, "{name}");
    }
    let reply = ann.call(json!({"history": {"channel": "all:a"}})).await;
    let fields: Vec<_> = reply["history"].as_object().expect("it is an object").keys().collect();
    assert_eq!(fields, ["epoch", "offset", "publications"], "{reply}");
}

#[tokio::test]
async fn the_welcome_of_a_websocket_says_who_one_is_and_how_to_stay() {
    let gateway = Gateway::start_with(everything).await;
    let ann = gateway.connect("ann").await;
    let fields: Vec<_> = ann.welcome.as_object().expect("it is an object").keys().collect();
    // A session and a node are for transports that need two ways.
    assert_eq!(fields, ["client", "expires", "ping", "pong", "ttl", "version"]);
    assert_ne!(ann.id(), gateway.connect("ann").await.id());
}

#[tokio::test]
async fn what_stands_behind_connect_in_its_frame_is_carried_out_after_it() {
    let gateway = Gateway::start_with(everything).await;
    let mut ann = gateway.silent().await;
    let lines = [
        json!({"id": 1, "connect": {"token": gateway.good(json!({"sub": "ann", "channels": ["all:b"]}))}}),
        json!({"id": 2, "subscribe": {"channel": "all:a"}}),
        json!({"id": 3, "subscribe": {"channel": "all:b"}}),
    ];
    ann.send(lines.map(|line| line.to_string()).join("\n")).await;
    assert!(ann.next_message().await["connect"]["subs"]["all:b"].is_object());
    assert_eq!(ann.next_message().await, json!({"id": 2, "subscribe": {}}));
    assert_eq!(ann.next_message().await["error"]["code"], 105, "the server was first");
}

#[tokio::test]
async fn after_an_error_to_connect_nothing_more_is_heard() {
    let gateway = Gateway::start_with(everything).await;
    for claims in [json!({"sub": "ann", "exp": now() - 60}), json!({"sub": "ann", "channels": ["nowhere:a"]})]
    {
        let connect = |id: u32, token: String| json!({"id": id, "connect": {"token": token}}).to_string();
        let publish = json!({"id": 2, "publish": {"channel": "all:a", "data": 1}}).to_string();
        let mut raw = Raw::native(&gateway).await;
        raw.send_text(&[connect(1, gateway.good(claims)), publish].join("\n")).await;
        let reply = raw.next_json().await;
        assert!(reply["id"] == 1 && reply["error"]["code"].is_u64(), "{reply}");
        raw.send_text(&connect(3, gateway.token("ann"))).await;
        raw.send_frame(0x88, 1000u16.to_be_bytes()).await;
        let last = raw.next_frame().await.expect("a close is answered");
        assert_eq!(
            (last.opcode, &last.payload[..]),
            (0x8, &1000u16.to_be_bytes()[..]),
            "its own close, answered"
        );
    }
    let history = gateway.api("history", json!({"channel": "all:a"})).await;
    assert_eq!(history["offset"], 0, "nothing was published");
}

#[tokio::test]
async fn null_is_what_is_not_set() {
    let gateway = Gateway::start_with(everything).await;
    let mut ann = gateway.silent().await;
    let connect = json!({"token": gateway.token("ann"), "name": null, "data": null, "subs": null});
    assert!(ann.call(json!({ "connect": connect })).await["connect"]["client"].is_string());
    let subscribe = json!({
        "channel": "all:a", "token": null, "recover": null, "epoch": null, "offset": null, "positioned": null,
        "recoverable": null, "join_leave": null, "flag": null, "delta": null, "type": null, "tf": null,
    });
    assert_eq!(ann.call(json!({ "subscribe": subscribe })).await["subscribe"], json!({}));
    let publish = json!({"channel": "all:a", "data": null, "type": null});
    assert_eq!(ann.call(json!({ "publish": publish })).await["publish"], json!({}));
    assert_eq!(ann.next_publication().await.data, json!(null), "this null is data");
    let history =
        json!({"channel": "all:a", "limit": null, "since": {"offset": null, "epoch": null}, "reverse": null});
    assert_eq!(ann.call(json!({ "history": history })).await["history"]["publications"], json!([]));
    for name in ["subscribe", "unsubscribe", "publish", "presence", "history", "sub_refresh"] {
        let mut client = gateway.connect("ann").await;
        let code = answer(&mut client, name, r#"{"channel":null}"#).await;
        assert_eq!(code, Some(3501), "no channel is none: {name}");
    }
}
