use super::*;
use crate::model::CloseReason;
use crate::protocol::testing::{anonymous, expired_token, identity, said, subscribe_order};
use crate::protocol::{Conversation as _, Framing, Heartbeat};

fn opens_as(user: &str) -> Did {
    Did::Open(user.into(), Heartbeat::Text("{}"))
}

/// A client whose handshake had a token of `user`.
fn introduced_as(user: &str) -> Bench<Client> {
    Bench::new(|client| Client::new(context(&config()), Codec::Json, client, Some(identity(user))))
}

#[test]
fn any_first_command_but_connect_closes() {
    for first in [
        "{}",
        "",
        "nope",
        r#"{"connect":{}}"#,
        r#"{"id":1}"#,
        r#"{"id":1,"ping":{}}"#,
        r#"{"id":1,"subscribe":{"channel":"news"}}"#,
        r#"{"id":1,"publish":{"channel":"open:a","data":1}}"#,
        r#"{"id":1,"rpc":{}}"#,
        r#"{"send":{"data":1}}"#,
        r#"{"id":1,"refresh":{"token":"x"}}"#,
    ] {
        let mut bench = arrived(&anonymous());
        assert_eq!(bench.say(first), [Did::Close(CloseReason::BadRequest)], "{first}");
        assert_eq!(bench.say(&connect("")), [], "{first}");
        assert_eq!(bench.conversation.close_code(&CloseReason::BadRequest).0, 3501);
    }
}

#[test]
fn the_reply_to_connect_has_its_id_and_the_client() {
    let mut bench = arrived(&config());
    let expected = json!({"id": 1, "connect": {
        "client": bench.client.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "ping": 25,
        "pong": true,
        "expires": true,
        "ttl": "about an hour",
    }});
    let mut done = bench.say(&connect(&token("ann")));
    let Did::Say(reply) = &mut done[1] else { panic!("{done:?}") };
    about_an_hour(&mut reply["connect"]["ttl"]);
    assert_eq!(done, [opens_as("ann"), Did::Say(expected)]);
    assert_ne!(bench.client, arrived(&config()).client);
    assert_eq!(bench.conversation.framing(), Framing::Lines);
}

#[test]
fn without_pings_none_are_announced() {
    let mut config = anonymous();
    config.client.ping_interval = std::time::Duration::ZERO;
    let reply = arrived(&config).ask(&connect(""));
    assert_eq!(reply[0]["connect"].get("ping"), None);
    assert_eq!(reply[0]["connect"].get("pong"), None);
}

#[test]
fn a_second_connect_closes() {
    let mut bench = connected_as("ann");
    assert_eq!(bench.say(&connect(&token("ann"))), [Did::Close(CloseReason::BadRequest)]);
    let mut bench = arrived(&config());
    let twice = format!("{0}\n{0}\n{1}", connect(&token("ann")), subscribe(2, "news"));
    assert_eq!(bench.say(&twice).last(), Some(&Did::Close(CloseReason::BadRequest)));
}

#[test]
fn commands_in_the_frame_of_connect_are_carried_out_after_it() {
    let mut bench = arrived(&config());
    let frame = [connect(&token("ann")), subscribe(2, "a"), subscribe(3, "b")].join("\n");
    let done = bench.say(&frame);
    assert_eq!(done[0], opens_as("ann"));
    assert_eq!(done[2..], [subscribes("a")]);
    assert_eq!(bench.succeed(), [Did::Say(json!({"id": 2, "subscribe": {}})), subscribes("b")]);
    assert_eq!(bench.succeed(), [Did::Say(json!({"id": 3, "subscribe": {}}))]);
}

#[test]
fn an_expired_token_is_told_as_an_error_and_nothing_more_is_heard() {
    let mut bench = arrived(&config());
    let frame = [connect(&expired_token("ann")), subscribe(2, "news"), "nope".into()].join("\n");
    assert_eq!(bench.say(&frame), [Did::Say(error(1, 109))]);
    assert_eq!(bench.say(&connect(&token("ann"))), []);
    assert_eq!(bench.say(&subscribe(3, "news")), []);
    assert_eq!(bench.say("nope"), []);
    assert_eq!(bench.say_binary(b"x"), []);
    assert_eq!(bench.order(subscribe_order("news")), []);
    assert!(!bench.is_closed());
}

#[test]
fn a_bad_token_closes() {
    let good = token("ann");
    let (message, _) = good.rsplit_once('.').unwrap();
    for bad in ["x", "a.b.c", message, &format!("{message}.AAAA"), &"x".repeat(5_000)] {
        let mut bench = arrived(&anonymous());
        assert_eq!(bench.say(&connect(bad)), [Did::Close(CloseReason::InvalidToken)]);
        assert_eq!(bench.conversation.close_code(&CloseReason::InvalidToken).0, 3500);
    }
}

#[test]
fn without_credentials_the_connection_closes() {
    for line in [connect(""), r#"{"id":1,"connect":{}}"#.into()] {
        assert_eq!(arrived(&config()).say(&line), [Did::Close(CloseReason::BadRequest)]);
    }
}

#[test]
fn without_a_token_one_is_nobody_where_that_is_allowed() {
    assert!(arrived(&anonymous()).say(r#"{"id":1,"connect":{}}"#).contains(&opens_as("")));
    let mut insecure = config();
    insecure.client.insecure = true;
    assert!(arrived(&insecure).say(&connect("")).contains(&opens_as("")));
}

#[test]
fn the_token_of_the_handshake_counts_where_connect_has_none() {
    assert!(introduced_as("ann").say(&connect("")).contains(&opens_as("ann")));
}

#[test]
fn the_token_of_connect_counts_before_that_of_the_handshake() {
    assert!(introduced_as("ann").say(&connect(&token("ann"))).contains(&opens_as("ann")));
    assert_eq!(introduced_as("ann").say(&connect("x")), [Did::Close(CloseReason::InvalidToken)]);
    assert_eq!(said(introduced_as("ann").say(&connect(&expired_token("ann")))), [error(1, 109)]);
}

#[test]
fn the_token_of_connect_cannot_change_the_user() {
    for other in ["bob", ""] {
        let done = introduced_as("ann").say(&connect(&token(other)));
        assert_eq!(done, [Did::Close(CloseReason::InvalidToken)]);
    }
}

#[test]
fn who_came_with_a_token_in_its_address_is_not_asked_to_refresh() {
    let reply = introduced_as("ann").ask(&connect(""));
    for field in ["expires", "ttl", "session", "node", "subs", "flag", "dict"] {
        assert_eq!(reply[0]["connect"].get(field), None, "{field}");
    }
}

#[test]
fn flags_and_fields_of_features_that_are_off_are_ignored() {
    let connect = json!({"id": 1, "connect": {
        "token": token("ann"), "flag": 1, "dict": "x", "profile": "y", "data": {"a": [1]},
        "headers": {"a": "b"}, "version": "1",
    }});
    let mut bench = arrived(&config());
    let done = bench.say(&connect.to_string());
    assert_eq!((done.len(), &done[0]), (2, &opens_as("ann")));
    assert_eq!(bench.ask(&subscribe(2, "news")), [json!({"id": 2, "subscribe": {}})]);
}

/// The command that opens a session and names `channels` as those where the client was.
fn connect_wishing(channels: impl IntoIterator<Item = String>) -> String {
    let subs: serde_json::Map<_, _> = channels.into_iter().map(|name| (name, json!({}))).collect();
    json!({"id": 1, "connect": {"token": token("ann"), "subs": subs}}).to_string()
}

#[test]
fn of_the_channels_that_connect_names_the_client_gets_those_that_it_may_have() {
    let mut bench = arrived(&config());
    let names = ["news", "closed:a", "$news", "a b", &"x".repeat(33)].map(str::to_owned);
    let done = bench.say(&connect_wishing(names));
    assert_eq!(done, [opens_as("ann"), subscribes("news")]);
    let Did::Say(reply) = &bench.succeed()[0] else { panic!("no reply") };
    assert_eq!(reply["connect"]["subs"], json!({"news": {}}));
    let done = arrived(&config()).say(&connect_wishing(["nope:a".to_owned()]));
    assert_eq!(done, [Did::Close(CloseReason::BadRequest)]);
}

#[test]
fn naming_more_channels_than_one_may_have_closes_at_once() {
    let many = (0..100_000).map(|number| format!("{number:x}"));
    let line = connect_wishing(many);
    let four = connect_wishing(["a", "b", "c", "d"].map(str::to_owned));
    assert!(matches!(arrived(&config()).say(&four)[1], Did::Subscribe(_)));
    let five = connect_wishing(["a", "b", "c", "d", "e"].map(str::to_owned));
    assert_eq!(arrived(&config()).say(&five), [Did::Close(CloseReason::ChannelLimit)]);
    let mut bench = arrived(&config());
    let started_at = std::time::Instant::now();
    assert_eq!(bench.say(&line), [Did::Close(CloseReason::ChannelLimit)]);
    assert!(started_at.elapsed() < std::time::Duration::from_secs(5), "it takes no square of their number");
}

#[test]
fn a_user_whose_own_channel_would_read_as_that_of_another_is_refused() {
    let mut config = config();
    config.client.subscribe_to_user_personal_channel.enabled = true;
    for bad in ["ann#42", "42,43", "#"] {
        assert_eq!(arrived(&config).ask(&connect(&token(bad))), [error(1, 107)], "{bad}");
    }
    assert_eq!(arrived(&config).say(&connect(&token("ann")))[1], subscribes("#ann"));
}
