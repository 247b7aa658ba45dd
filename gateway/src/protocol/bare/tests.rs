use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::protocol::testing::{
    Bench, Did, anonymous, channel, config, context, identity, said, subscribe_order, unsubscribe_order,
};

/// A client of `user` whose handshake asked for `channels`, started.
fn greeted(config: &Config, user: &str, channels: &[&str]) -> (Bench<Client>, Vec<Did>) {
    let wishes = Wishes {
        channels: channels.iter().map(ToString::to_string).collect(),
        publish: None,
        ..Wishes::default()
    };
    start(config, user, wishes)
}

/// The same with nothing but data, published to `publish`.
fn data_client(user: &str, channels: &[&str], publish: &str) -> (Bench<Client>, Vec<Did>) {
    let channels = channels.iter().map(ToString::to_string).collect();
    start(&config(), user, Wishes { channels, publish: Some(publish.into()), ..Wishes::default() })
}

fn start(config: &Config, user: &str, wishes: Wishes) -> (Bench<Client>, Vec<Did>) {
    let mut bench = Bench::new(|client| Client::new(context(config), client, identity(user), wishes));
    let done = bench.start();
    (bench, done)
}

/// A client without channels, to which the server has said what it has to say.
fn connected() -> Bench<Client> {
    let (bench, done) = greeted(&config(), "ann", &[]);
    assert_eq!(done.len(), 2);
    bench
}

/// A client with nothing but data, subscribed and publishing to `open:a`.
fn echo() -> Bench<Client> {
    let (mut bench, _) = data_client("ann", &["open:a"], "open:a");
    assert_eq!(bench.succeed(), []);
    bench
}

fn opens_as(user: &str) -> Did {
    Did::Open(user.into(), Heartbeat::Transport)
}

fn subscribes(channels: &[&str]) -> Did {
    Did::Subscribe(channels.iter().map(ToString::to_string).collect())
}

/// What the server says first, and the names of the channels in it as they stand.
fn connect_push(bench: &Bench<Client>, subs: &Value) -> Did {
    let (client, version) = (bench.client.to_string(), env!("CARGO_PKG_VERSION"));
    Did::Say(json!({"push": {"connect": {"client": client, "version": version, "subs": subs}}}))
}

fn refusal(code: u32, message: &str) -> Value {
    json!({"error": {"code": code, "message": message}})
}

// The form with messages

#[test]
fn the_server_speaks_first_once_the_channels_are_subscribed() {
    let (mut bench, done) = greeted(&config(), "ann", &["a", "open:b"]);
    assert_eq!(done, [opens_as("ann"), subscribes(&["a", "open:b"])]);
    assert_eq!(bench.succeed(), [connect_push(&bench, &json!({"a": {}, "open:b": {}}))]);
    assert_eq!(bench.conversation.framing(), Framing::Single);
    assert_eq!(bench.conversation.encoding(), Encoding::CentrifugeJson);
}

#[test]
fn without_channels_the_server_speaks_at_once() {
    let (bench, done) = greeted(&config(), "ann", &[]);
    assert_eq!(done, [opens_as("ann"), connect_push(&bench, &json!({}))]);
}

#[test]
fn refused_channels_are_told_with_their_code_and_do_not_hurt_the_others() {
    let channels = ["closed:x", "a", "nope:x", "a b", "$x", "open:b"];
    let (mut bench, done) = greeted(&config(), "ann", &channels);
    assert_eq!(done[1], subscribes(&["a", "open:b"]));
    let expected = json!({
        "closed:x": refusal(103, "permission denied"),
        "a": {},
        "nope:x": refusal(102, "unknown channel"),
        "a b": refusal(107, "bad request"),
        "$x": refusal(103, "permission denied"),
        "open:b": {},
    });
    assert_eq!(bench.succeed(), [connect_push(&bench, &expected)]);
}

#[test]
fn a_client_whose_channels_are_all_refused_is_told_at_once() {
    let (bench, done) = greeted(&anonymous(), "", &["read:x"]);
    let expected = json!({"read:x": refusal(103, "permission denied")});
    assert_eq!(done, [opens_as(""), connect_push(&bench, &expected)]);
}

#[test]
fn each_channel_is_listed_once_and_in_the_order_of_the_query() {
    let wishes = Wishes {
        channels: ["b", "a", "b", "nope:c", "a", "nope:c"].map(str::to_owned).into(),
        publish: None,
        ..Wishes::default()
    };
    let mut client = Client::new(context(&config()), ClientId::random(), identity("ann"), wishes);
    let mut effects = Vec::new();
    client.on_start(&mut effects);
    effects.clear();
    client.on_outcome(Outcome::Subscribed(vec![Ok(None), Ok(None)]), &mut effects);
    let Some(Effect::Send(message)) = effects.first() else { panic!("{effects:?}") };
    let text = String::from_utf8(message.clone()).unwrap();
    let subs = text.split_once(r#""subs":"#).unwrap().1;
    let expected = r#"{"b":{},"a":{},"nope:c":{"error":{"code":102,"message":"unknown channel"}}}}}}"#;
    assert_eq!(subs, expected);
}

#[test]
fn channels_beyond_the_limit_are_refused() {
    let (mut bench, done) = greeted(&config(), "ann", &["a", "b", "c", "d", "e"]);
    assert_eq!(done[1], subscribes(&["a", "b", "c", "d"]));
    let push = said(bench.succeed()).remove(0);
    assert_eq!(push["push"]["connect"]["subs"]["e"]["error"]["code"], 106);
}

#[test]
fn a_channel_whose_broker_does_not_answer_is_told_and_can_be_tried_again() {
    let (mut bench, _) = greeted(&config(), "ann", &["a", "b"]);
    let push = said(bench.fail_only("a")).remove(0);
    let error = json!({"error": {"code": 100, "message": "internal server error", "temporary": true}});
    assert_eq!(push["push"]["connect"]["subs"], json!({"a": error, "b": {}}));
    let replies = bench.ask(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    assert_eq!(replies, [json!({"id": 2, "subscribe": {}})]);
    let replies = bench.ask(r#"{"id":3,"subscribe":{"channel":"b"}}"#);
    assert_eq!(replies[0]["error"]["code"], 105);
}

#[test]
fn commands_and_orders_wait_until_the_channels_are_subscribed() {
    let (mut bench, _) = greeted(&config(), "ann", &["a"]);
    assert_eq!(bench.say(r#"{"id":1,"unsubscribe":{"channel":"a"}}"#), []);
    assert_eq!(bench.order(subscribe_order("b")), []);
    assert_ne!(bench.conversation.backlog_bytes(), 0);
    let expected = [
        connect_push(&bench, &json!({"a": {}})),
        Did::Unsubscribe("a".into()),
        Did::Say(json!({"id": 1, "unsubscribe": {}})),
        subscribes(&["b"]),
    ];
    assert_eq!(bench.succeed(), expected);
    assert_eq!(said(bench.succeed()), [json!({"push": {"channel": "b", "subscribe": {}}})]);
    assert_eq!(bench.conversation.backlog_bytes(), 0);
}

#[test]
fn a_violation_waits_until_the_channels_are_subscribed() {
    let (mut bench, _) = greeted(&config(), "ann", &["a"]);
    assert_eq!(bench.say("nope"), []);
    let expected = [connect_push(&bench, &json!({"a": {}})), Did::Close(CloseReason::BadRequest)];
    assert_eq!(bench.succeed(), expected);
    assert_eq!(bench.say("{}"), []);
}

#[test]
fn commands_with_an_id_are_those_of_the_native_protocol() {
    let mut bench = connected();
    let frame = [
        r#"{"id":1,"subscribe":{"channel":"open:a"}}"#,
        r#"{"id":2,"publish":{"channel":"open:a","data":1}}"#,
        r#"{"id":3,"rpc":{}}"#,
        r#"{"id":4,"unsubscribe":{"channel":"open:a"}}"#,
    ];
    let replies = bench.ask(&frame.join("\n"));
    assert_eq!(replies[0], json!({"id": 1, "subscribe": {}}));
    assert_eq!(replies[1], json!({"id": 2, "publish": {}}));
    assert_eq!(replies[2]["error"]["code"], 108);
    assert_eq!(replies[3], json!({"id": 4, "unsubscribe": {}}));
}

#[test]
fn a_publish_without_an_id_is_silent_if_it_succeeds() {
    let mut bench = connected();
    let line = r#"{"publish":{"channel":"open:a","data":{"x":1}}}"#;
    assert_eq!(bench.say(line), [Did::Publish("open:a".into(), r#"{"x":1}"#.into())]);
    assert_eq!(bench.succeed(), []);
    let info = bench.published[0].info.as_ref().unwrap();
    assert_eq!((info.user.as_str(), info.client), ("ann", bench.client));
}

#[test]
fn a_publish_without_an_id_that_fails_is_told_as_an_error_without_one() {
    let mut bench = connected();
    let refused = bench.ask(r#"{"publish":{"channel":"read:a","data":1}}"#);
    assert_eq!(refused, [refusal(103, "permission denied")]);
    bench.say(r#"{"publish":{"channel":"open:a","data":1}}"#);
    let overloaded = said(bench.overload());
    assert_eq!(overloaded[0]["error"]["code"], 111);
    assert_eq!(overloaded[0].get("id"), None);
    assert!(!bench.is_closed());
}

#[test]
fn an_empty_object_is_harmless() {
    let mut bench = connected();
    assert_eq!(bench.say("{}"), []);
    assert_eq!(bench.say("{}\n{}\n"), []);
    assert!(!bench.is_closed());
}

#[test]
fn what_breaks_the_protocol_closes() {
    for bad in ["", "nope", "\n", "{}\n\n{}", r#"{"id":1}"#, r#"{"id":1,"connect":{}}"#, r#"{"connect":{}}"#]
    {
        let mut bench = connected();
        assert_eq!(bench.say(bad), [Did::Close(CloseReason::BadRequest)], "{bad:?}");
        assert_eq!(bench.say(r#"{"id":2,"rpc":{}}"#), [], "{bad:?}");
        assert_eq!(bench.order(subscribe_order("a")), [], "{bad:?}");
    }
}

#[test]
fn after_a_malformed_line_the_rest_of_the_frame_is_not_heard() {
    let frame = [r#"{"id":1,"rpc":{}}"#, "nope", r#"{"id":2,"rpc":{}}"#].join("\n");
    let done = connected().say(&frame);
    assert_eq!(done.last(), Some(&Did::Close(CloseReason::BadRequest)));
    assert_eq!(said(done).len(), 1);
}

#[test]
fn an_outcome_after_a_close_changes_nothing() {
    let (mut refused, _) = data_client("ann", &["open:a"], "closed:a");
    let mut broken = connected();
    broken.say("nope");
    for bench in [&mut refused, &mut broken] {
        let mut effects = Vec::new();
        bench.conversation.on_outcome(Outcome::Published(Ok(())), &mut effects);
        bench.conversation.on_outcome(Outcome::Subscribed(vec![Ok(None)]), &mut effects);
        assert!(effects.is_empty(), "{effects:?}");
    }
}

#[test]
fn a_binary_frame_is_data_or_closes() {
    assert_eq!(connected().say_binary(b"{}"), [Did::Close(CloseReason::UnsupportedData)]);
    let mut bench = echo();
    assert_eq!(bench.say_binary(b"{}"), [Did::Publish("open:a".into(), "{}".into())]);
    bench.succeed();
    assert!(bench.published[0].data.is_binary());
}

#[test]
fn close_codes_are_those_a_browser_knows() {
    let bench = connected();
    for (reason, code) in [
        (CloseReason::Shutdown, 1012),
        (CloseReason::UnsupportedData, 1003),
        (CloseReason::TooBig, 1009),
        (CloseReason::BadRequest, 3501),
        (CloseReason::PermissionDenied, 3507),
    ] {
        assert_eq!(bench.conversation.close_code(&reason).0, code);
        assert!(!bench.conversation.close_code(&reason).1.is_empty());
    }
}

#[test]
fn orders_are_told() {
    let mut bench = connected();
    bench.order(subscribe_order("a"));
    assert_eq!(said(bench.succeed()), [json!({"push": {"channel": "a", "subscribe": {}}})]);
    let done = bench.order(unsubscribe_order("a"));
    assert_eq!(done[0], Did::Unsubscribe("a".into()));
    assert_eq!(said(done)[0]["push"]["unsubscribe"]["code"], 2000);
}

// The form with nothing but data

#[test]
fn with_nothing_but_data_the_server_says_nothing() {
    let (mut bench, done) = data_client("ann", &["open:a", "read:b"], "open:a");
    assert_eq!(done, [opens_as("ann"), subscribes(&["open:a", "read:b"])]);
    assert_eq!(bench.succeed(), []);
    assert_eq!(bench.conversation.encoding(), Encoding::BareData);
}

#[test]
fn json_is_published_as_it_is_and_other_text_as_a_string() {
    let mut bench = echo();
    for (text, data) in [
        (r#"{"a" :1.0}"#, r#"{"a" :1.0}"#),
        ("[1,\n2]", "[1,2]"),
        ("1e3", "1e3"),
        ("null", "null"),
        (r#""quoted""#, r#""quoted""#),
        ("hello", r#""hello""#),
        ("", r#""""#),
        ("a\nb\"", r#""a\nb\"""#),
        ("{", r#""{""#),
        ("NaN", r#""NaN""#),
        ("1 2", r#""1 2""#),
        (r#"{"id":1,"connect":{}}"#, r#"{"id":1,"connect":{}}"#),
    ] {
        assert_eq!(bench.say(text), [Did::Publish("open:a".into(), data.into())], "{text:?}");
        assert_eq!(bench.succeed(), [], "{text:?}");
    }
    let info = bench.published[0].info.as_ref().unwrap();
    assert_eq!((info.user.as_str(), info.client), ("ann", bench.client));
}

#[test]
fn a_string_is_delivered_as_its_content_and_other_json_as_it_is() {
    let deliver = |json: &str| {
        let publication = Publication::of(RawJson::parse(json.as_bytes()).unwrap());
        let mut out = Vec::new();
        assert_eq!(Encoding::BareData.encode(&channel("a"), &publication, &mut out), Ok(FrameKind::Text));
        String::from_utf8(out).unwrap()
    };
    assert_eq!(deliver(r#""hello""#), "hello");
    assert_eq!(deliver(r#""a\nb\"\u00e9""#), "a\nb\"é");
    assert_eq!(deliver(r#""""#), "");
    assert_eq!(deliver(r#"{"a" :1.0}"#), r#"{"a" :1.0}"#);
    assert_eq!(deliver("null"), "null");
    // No text at all, so its JSON has to do.
    assert_eq!(deliver(r#""\ud800""#), r#""\ud800""#);
}

#[test]
fn data_is_published_in_its_order_one_after_the_other() {
    let mut bench = echo();
    bench.say("one");
    assert_eq!(bench.say("two"), []);
    assert!(bench.conversation.backlog_bytes() >= r#""two""#.len());
    assert_eq!(bench.succeed(), [Did::Publish("open:a".into(), r#""two""#.into())]);
    assert_eq!(bench.succeed(), []);
    assert_eq!(bench.conversation.backlog_bytes(), 0);
}

#[test]
fn data_that_comes_before_the_channels_are_subscribed_waits() {
    let (mut bench, _) = data_client("ann", &["open:a"], "open:a");
    assert_eq!(bench.say("early"), []);
    assert_eq!(bench.succeed(), [Did::Publish("open:a".into(), r#""early""#.into())]);
}

#[test]
fn one_may_publish_without_being_subscribed_to_anything() {
    let (mut bench, done) = data_client("ann", &[], "open:a");
    assert_eq!(done, [opens_as("ann")]);
    assert_eq!(bench.say("x"), [Did::Publish("open:a".into(), r#""x""#.into())]);
}

#[test]
fn with_nothing_but_data_what_is_refused_closes_before_it_opens() {
    let refused = [Did::Close(CloseReason::PermissionDenied)];
    for (channels, publish) in [
        (&["open:a"][..], "read:a"),
        (&["open:a"], "nope:a"),
        (&["open:a"], ""),
        (&["open:a"], "chat:a"),
        (&["open:a", "closed:b"], "open:a"),
        (&["open:a", "a", "b", "c", "d"], "open:a"),
    ] {
        let (mut bench, done) = data_client("ann", channels, publish);
        assert_eq!(done, refused, "{publish}");
        assert_eq!(bench.say("x"), [], "{publish}");
        assert_eq!(bench.say_binary(b"x"), [], "{publish}");
    }
}

#[test]
fn data_goes_to_a_channel_for_subscribers_as_long_as_the_client_is_one() {
    let (mut bench, done) = data_client("ann", &["chat:a"], "chat:a");
    assert_eq!(done.len(), 2);
    bench.settle();
    assert_eq!(bench.say("x"), [Did::Publish("chat:a".into(), r#""x""#.into())]);
    bench.settle();
    assert_eq!(bench.order(unsubscribe_order("chat:a")), [Did::Unsubscribe("chat:a".into())]);
    assert_eq!(bench.say("y"), [Did::Close(CloseReason::PermissionDenied)]);
}

#[test]
fn with_nothing_but_data_what_fails_closes() {
    let (mut bench, _) = data_client("ann", &["open:a", "b"], "open:a");
    assert_eq!(bench.fail_only("b"), [Did::Close(CloseReason::Internal)]);
    assert_eq!(bench.say("x"), []);

    let mut bench = echo();
    bench.say("x");
    bench.say("waits");
    assert_eq!(bench.fail(), [Did::Close(CloseReason::Internal)]);

    let mut bench = echo();
    bench.say("x");
    assert_eq!(bench.overload(), [Did::Close(CloseReason::TooManyRequests)]);
    assert_eq!(bench.say("y"), []);
}

#[test]
fn with_nothing_but_data_orders_are_carried_out_and_not_told() {
    let mut bench = echo();
    assert_eq!(bench.order(subscribe_order("closed:x")), [subscribes(&["closed:x"])]);
    assert_eq!(bench.succeed(), []);
    assert!(bench.subscribed.contains("closed:x"));
    assert_eq!(bench.order(unsubscribe_order("closed:x")), [Did::Unsubscribe("closed:x".into())]);
}

// Whatever comes in whatever order

/// Something that happens to a connection. The bench watches what it leads to.
#[derive(Clone, Debug)]
enum Event {
    Text(&'static str),
    Binary,
    Order { subscribes: bool },
    Success,
    Failure,
}

fn event() -> impl Strategy<Value = Event> {
    let texts = [
        "hello",
        "{}",
        r#"{"publish":{"channel":"open:a","data":1}}"#,
        r#"{"id":1,"subscribe":{"channel":"open:a"}}"#,
        "{\"id\":1,\"subscribe\":{\"channel\":\"b\"}}\n{\"id\":2,\"unsubscribe\":{\"channel\":\"b\"}}",
        r#"{"id":1,"unsubscribe":{"channel":"open:a"}}"#,
    ];
    prop_oneof![
        12 => prop::sample::select(texts.to_vec()).prop_map(Event::Text),
        1 => Just(Event::Binary),
        4 => any::<bool>().prop_map(|subscribes| Event::Order { subscribes }),
        14 => Just(Event::Success),
        2 => Just(Event::Failure),
    ]
}

proptest! {
    #[test]
    fn any_sequence_of_events_ends_with_nothing_under_way(
        publish in prop::sample::select(vec![None, Some("open:a"), Some("read:a")]),
        channels in prop::sample::subsequence(vec!["open:a", "b", "closed:c", "open:a"], 0..=4),
        events in prop::collection::vec(event(), 0..30),
    ) {
        let channels = channels.iter().map(ToString::to_string).collect();
        let (mut bench, _) = start(&config(), "ann", Wishes { channels, publish: publish.map(Into::into), ..Wishes::default() });
        for event in events {
            match event {
                Event::Text(text) => bench.say(text),
                Event::Binary => bench.say_binary(b"x"),
                Event::Order { subscribes: true } => bench.order(subscribe_order("open:a")),
                Event::Order { subscribes: false } => bench.order(unsubscribe_order("open:a")),
                Event::Success if bench.is_busy() => bench.succeed(),
                Event::Failure if bench.is_busy() => bench.fail(),
                Event::Success | Event::Failure => Vec::new(),
            };
        }
        bench.settle();
        prop_assert!(bench.is_closed() || bench.conversation.backlog_bytes() == 0);
    }
}
