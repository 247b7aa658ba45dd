use super::*;
use crate::model::CloseReason;
use crate::protocol::testing::{INFO, anonymous, channel, expired_token};
use crate::protocol::{Conversation as _, Encoding, Outcome};

fn closes(bench: &mut Bench<Client>, text: &str) {
    assert_eq!(bench.say(text), [Did::Close(CloseReason::BadRequest)], "{text}");
    assert_eq!(bench.say(&subscribe(90, "open:late")), [], "{text}");
}

// Frames

#[test]
fn commands_of_one_frame_are_carried_out_in_their_order_even_if_each_is_slow() {
    let mut bench = connected_as("ann");
    let rpc = r#"{"id":4,"rpc":{"method":"x"}}"#.to_owned();
    let frame = [subscribe(2, "open:a"), publish(3, "open:a", &json!(1)), rpc, unsubscribe(5, "open:a")];
    assert_eq!(bench.say(&frame.join("\n")), [subscribes("open:a")]);
    let publishes = Did::Publish("open:a".into(), "1".into());
    assert_eq!(bench.succeed(), [Did::Say(json!({"id": 2, "subscribe": {}})), publishes]);
    let rest = [
        Did::Say(json!({"id": 3, "publish": {}})),
        Did::Say(error(4, 108)),
        Did::Unsubscribe("open:a".into()),
        Did::Say(json!({"id": 5, "unsubscribe": {}})),
    ];
    assert_eq!(bench.succeed(), rest);
}

#[test]
fn what_comes_while_a_command_is_slow_waits_for_it() {
    let mut bench = connected_as("ann");
    bench.say(&subscribe(2, "a"));
    assert_eq!(bench.say(r#"{"id":3,"rpc":{}}"#), []);
    assert_eq!(bench.say(&unsubscribe(4, "b")), []);
    let rest = [json!({"id": 2, "subscribe": {}}), error(3, 108), json!({"id": 4, "unsubscribe": {}})];
    assert_eq!(bench.succeed(), rest.map(Did::Say));
}

#[test]
fn commands_before_a_malformed_line_are_carried_out_and_none_after_it() {
    for bad in ["", "nope", "[]", r#"{"id":"x"}"#, r#"{"id":3,"subscribe":{"channel":1}}"#] {
        let mut bench = connected_as("ann");
        let frame = [&subscribe(2, "a"), bad, &subscribe(4, "b")].join("\n");
        assert_eq!(bench.say(&frame), [subscribes("a")], "{bad}");
        assert_eq!(bench.say(&subscribe(5, "c")), [], "{bad}");
        let rest = [Did::Say(json!({"id": 2, "subscribe": {}})), Did::Close(CloseReason::BadRequest)];
        assert_eq!(bench.succeed(), rest, "{bad}");
        assert_eq!(bench.say(&subscribe(6, "d")), [], "{bad}");
    }
}

#[test]
fn after_a_malformed_line_nothing_more_is_kept() {
    let mut bench = connected_as("ann");
    bench.say(&subscribe(2, "a"));
    bench.say("nope");
    let backlog = bench.conversation.backlog_bytes();
    for _ in 0..100 {
        bench.say(&subscribe(3, "b"));
        bench.say("\n\n\n");
        bench.say_binary(b"x");
    }
    assert_eq!(bench.conversation.backlog_bytes(), backlog);
    assert_eq!(bench.succeed().last(), Some(&Did::Close(CloseReason::BadRequest)));
}

#[test]
fn an_outcome_after_a_close_changes_nothing() {
    for first in [connect(""), connect(&expired_token("ann")), "nope".into()] {
        let mut bench = arrived(&config());
        bench.say(&first);
        let mut effects = Vec::new();
        bench.conversation.on_outcome(Outcome::Published(Ok(())), &mut effects);
        bench.conversation.on_outcome(Outcome::Subscribed(vec![Ok(None)]), &mut effects);
        assert!(effects.is_empty(), "{effects:?}");
    }
    let mut bench = connected_as("ann");
    bench.say("nope");
    let mut effects = Vec::new();
    bench.conversation.on_outcome(Outcome::Subscribed(vec![Ok(None)]), &mut effects);
    assert!(effects.is_empty(), "{effects:?}");
}

#[test]
fn a_line_break_at_the_end_is_accepted() {
    let mut bench = connected_as("ann");
    let frame = format!("{}\n{}\n", unsubscribe(2, "a"), unsubscribe(3, "a"));
    assert_eq!(bench.ask(&frame).len(), 2);
    assert_eq!(bench.say("{}\n"), [Did::Pong]);
    assert!(!bench.is_closed());
}

#[test]
fn a_blank_line_or_an_empty_frame_closes() {
    for bad in ["", "\n", "\n\n", "{}\n\n", "\n{}", " ", "{}\n\n{}"] {
        let mut bench = connected_as("ann");
        assert_eq!(bench.say(bad).last(), Some(&Did::Close(CloseReason::BadRequest)), "{bad:?}");
        assert_eq!(bench.say("{}"), [], "{bad:?}");
    }
}

#[test]
fn text_in_a_binary_frame_is_read_as_text() {
    let mut bench = arrived(&config());
    assert_eq!(bench.say_binary(connect(&token("ann")).as_bytes()).len(), 2);
    assert_eq!(bench.say_binary(b"{}"), [Did::Pong]);
    let frame = [subscribe(2, "a"), subscribe(3, "b")].join("\n");
    assert_eq!(bench.say_binary(frame.as_bytes()), [subscribes("a")]);
}

#[test]
fn a_binary_frame_that_is_no_text_closes_after_what_came_before() {
    let mut bench = connected_as("ann");
    bench.say(&subscribe(2, "a"));
    assert_eq!(bench.say_binary(b"{}\xff"), []);
    let rest = [Did::Say(json!({"id": 2, "subscribe": {}})), Did::Close(CloseReason::BadRequest)];
    assert_eq!(bench.succeed(), rest);
    let mut bench = arrived(&config());
    assert_eq!(bench.say_binary(b"\xff"), [Did::Close(CloseReason::BadRequest)]);
    assert_eq!(bench.say_binary(b"{}"), []);
}

#[test]
fn a_pong_is_noticed_also_while_a_command_is_slow() {
    let mut bench = connected_as("ann");
    assert_eq!(bench.say("{}"), [Did::Pong]);
    bench.say(&subscribe(2, "a"));
    assert_eq!(bench.say("{}"), [Did::Pong]);
    assert_eq!(bench.succeed().len(), 1);
}

#[test]
fn a_command_without_an_id_is_a_pong() {
    let mut bench = connected_as("ann");
    for line in
        [r#"{"subscribe":{"channel":"a"}}"#, r#"{"id":0,"rpc":{}}"#, r#"{"connect":{}}"#, r#"{"x":1}"#]
    {
        assert_eq!(bench.say(line), [Did::Pong], "{line}");
    }
    assert!(!bench.is_busy());
}

#[test]
fn a_command_with_an_id_and_nothing_else_closes() {
    for line in [r#"{"id":2}"#, r#"{"id":2,"ping":{}}"#, r#"{"id":2,"unknown":{}}"#] {
        closes(&mut connected_as("ann"), line);
    }
}

#[test]
fn the_backlog_is_what_waits_and_ends_at_zero() {
    let mut bench = connected_as("ann");
    assert_eq!(bench.conversation.backlog_bytes(), 0);
    bench.say(&subscribe(2, "a"));
    assert_eq!(bench.conversation.backlog_bytes(), 0);
    let second = subscribe(3, "b");
    bench.say(&second);
    let one = bench.conversation.backlog_bytes();
    assert!(one > second.len(), "a command takes more room than its text");
    bench.say(&format!("{second}\n{{}}"));
    assert_eq!(bench.conversation.backlog_bytes(), 2 * one);
    bench.settle();
    assert_eq!(bench.conversation.backlog_bytes(), 0);
}

// Subscribe and unsubscribe

#[test]
fn a_client_is_subscribed_once_the_broker_said_so() {
    let mut bench = connected_as("ann");
    assert_eq!(bench.say(&subscribe(2, "news")), [subscribes("news")]);
    assert_eq!(bench.succeed(), [Did::Say(json!({"id": 2, "subscribe": {}}))]);
}

#[test]
fn who_wants_to_catch_up_is_told_that_nothing_was_recovered() {
    let line = r#"{"id":2,"subscribe":{"channel":"news","recover":true,"offset":7,"epoch":"x"}}"#;
    assert_eq!(connected_as("ann").ask(line), [json!({"id": 2, "subscribe": {"was_recovering": true}})]);
}

#[test]
fn subscribing_twice_is_an_error() {
    let mut bench = connected_as("ann");
    bench.ask(&subscribe(2, "news"));
    assert_eq!(bench.ask(&subscribe(3, "news")), [error(3, 105)]);
    bench.ask(&unsubscribe(4, "news"));
    assert_eq!(bench.ask(&subscribe(5, "news")), [json!({"id": 5, "subscribe": {}})]);
}

#[test]
fn subscribing_twice_is_an_error_also_while_the_first_is_under_way() {
    let mut bench = connected_as("ann");
    bench.say(&subscribe(2, "news"));
    assert_eq!(bench.say(&subscribe(3, "news")), []);
    assert_eq!(bench.succeed(), [Did::Say(json!({"id": 2, "subscribe": {}})), Did::Say(error(3, 105))]);
}

#[test]
fn a_failed_subscribe_can_be_tried_again() {
    let mut bench = connected_as("ann");
    bench.say(&subscribe(2, "news"));
    assert_eq!(bench.fail(), [Did::Say(error(2, 100))]);
    assert_eq!(bench.ask(&unsubscribe(3, "news")), [json!({"id": 3, "unsubscribe": {}})]);
    assert_eq!(bench.ask(&subscribe(4, "news")), [json!({"id": 4, "subscribe": {}})]);
}

#[test]
fn a_failed_subscribe_lets_what_waits_go_on() {
    let mut bench = connected_as("ann");
    bench.say(&[subscribe(2, "news"), subscribe(3, "news")].join("\n"));
    assert_eq!(bench.fail(), [Did::Say(error(2, 100)), subscribes("news")]);
}

#[test]
fn subscriptions_beyond_the_limit_are_refused() {
    let mut bench = connected_as("ann");
    for (id, name) in [(2, "a"), (3, "b"), (4, "c"), (5, "d")] {
        assert_eq!(bench.ask(&subscribe(id, name)), [json!({"id": id, "subscribe": {}})]);
    }
    assert_eq!(bench.ask(&subscribe(6, "e")), [error(6, 106)]);
    bench.ask(&unsubscribe(7, "a"));
    assert_eq!(bench.ask(&subscribe(8, "e")), [json!({"id": 8, "subscribe": {}})]);
}

#[test]
fn a_channel_that_cannot_be_is_refused() {
    let mut bench = connected_as("ann");
    for (name, code) in [
        ("x".repeat(33).as_str(), 107),
        ("a b", 107),
        ("a\u{2028}b", 107),
        ("a\0", 107),
        ("é", 107),
        ("nope:x", 102),
        ("$news", 103),
        ("$open:x", 103),
        ("closed:x", 103),
    ] {
        assert_eq!(bench.ask(&subscribe(2, name)), [error(2, code)], "{name}");
    }
    assert_eq!(bench.ask(&subscribe(2, &"x".repeat(32))), [json!({"id": 2, "subscribe": {}})]);
}

#[test]
fn a_user_limited_channel_is_for_the_users_it_lists() {
    let mut bench = connected_as("ann");
    for (name, refused) in [
        ("user:a#ann", false),
        ("user:a#bob,ann", false),
        ("user:a#bob", true),
        ("user:a#an", true),
        ("user:a", true),
        ("user:a#", true),
        ("read:a#bob", false),
    ] {
        let expected = if refused { error(2, 103) } else { json!({"id": 2, "subscribe": {}}) };
        assert_eq!(bench.ask(&subscribe(2, name)), [expected], "{name}");
    }
}

#[test]
fn an_anonymous_client_needs_a_namespace_that_lets_it_in() {
    let mut bench = arrived(&anonymous());
    bench.ask(&connect(""));
    assert_eq!(bench.ask(&subscribe(2, "read:a")), [error(2, 103)]);
    assert_eq!(bench.ask(&subscribe(3, "user:a#")), [error(3, 103)]);
    assert_eq!(bench.ask(&subscribe(4, "open:a")), [json!({"id": 4, "subscribe": {}})]);
}

#[test]
fn what_a_subscribe_asks_for_and_is_off_is_declined() {
    for (field, value, code) in [
        ("tf", json!({"op": "eq"}), 107),
        ("tf", json!(0), 107),
        ("type", json!(1), 108),
        ("type", json!(4), 108),
        ("token", json!("x"), 103),
    ] {
        let mut line = json!({"id": 2, "subscribe": {"channel": "news"}});
        line["subscribe"][field] = value;
        let mut bench = connected_as("ann");
        assert_eq!(bench.ask(&line.to_string()), [error(2, code)], "{line}");
        assert!(bench.subscribed.is_empty());
    }
}

#[test]
fn what_a_subscribe_may_ask_for_in_vain_is_ignored() {
    let mut bench = connected_as("ann");
    for fields in [
        json!({"flag": 3}),
        json!({"delta": "fossil"}),
        json!({"positioned": true, "recoverable": true, "join_leave": true}),
        json!({"tf": null, "token": "", "type": 0, "data": {"a": 1}}),
    ] {
        let mut line = json!({"id": 2, "subscribe": fields});
        line["subscribe"]["channel"] = json!("news");
        assert_eq!(bench.ask(&line.to_string()), [json!({"id": 2, "subscribe": {}})], "{line}");
        bench.ask(&unsubscribe(3, "news"));
    }
}

#[test]
fn a_subscribe_without_channel_or_with_a_delta_that_is_none_closes() {
    for line in [
        r#"{"id":2,"subscribe":{}}"#,
        r#"{"id":2,"subscribe":{"channel":""}}"#,
        r#"{"id":2,"subscribe":{"channel":"news","delta":"x"}}"#,
    ] {
        closes(&mut connected_as("ann"), line);
    }
}

#[test]
fn unsubscribing_from_what_one_is_not_subscribed_to_succeeds() {
    let mut bench = connected_as("ann");
    for name in ["news", "nope:x", "$x", "a b", &"x".repeat(999)] {
        let done = bench.say(&unsubscribe(2, name));
        assert_eq!(done, [Did::Say(json!({"id": 2, "unsubscribe": {}}))], "{name:.10}");
    }
    closes(&mut bench, r#"{"id":3,"unsubscribe":{}}"#);
}

#[test]
fn subscribing_and_unsubscribing_in_haste_leaves_the_state_of_the_last_command() {
    let mut bench = connected_as("ann");
    bench.say(&[subscribe(2, "news"), unsubscribe(3, "news")].join("\n"));
    let rest = [
        Did::Say(json!({"id": 2, "subscribe": {}})),
        Did::Unsubscribe("news".into()),
        Did::Say(json!({"id": 3, "unsubscribe": {}})),
    ];
    assert_eq!(bench.succeed(), rest);
    assert!(bench.subscribed.is_empty());
    bench.say(&[subscribe(4, "news"), unsubscribe(5, "news"), subscribe(6, "news")].join("\n"));
    bench.settle();
    assert!(bench.subscribed.contains("news"));
}

// Publish

#[test]
fn a_publication_says_who_published_it_whatever_the_client_claims() {
    let line = concat!(
        r#"{"id":2,"publish":{"channel":"open:a","data":{"x": 1.0,"y":1e3},"info":{"user":"root"},"#,
        r#""tags":{"a":"b"},"user":"root","client":"c"},"user":"root"}"#
    );
    let mut bench = connected_as("ann");
    assert_eq!(bench.say(line), [Did::Publish("open:a".into(), r#"{"x": 1.0,"y":1e3}"#.into())]);
    assert_eq!(bench.succeed(), [Did::Say(json!({"id": 2, "publish": {}}))]);
    let publication = &bench.published[0];
    let info = publication.info.as_ref().unwrap();
    assert_eq!(info.user.as_str(), "ann");
    assert_eq!(info.client, bench.client);
    assert_eq!(info.conn_info.as_ref().unwrap().as_bytes(), compact(INFO).as_bytes());
    assert!(publication.tags.is_empty());
    let mut frame = Vec::new();
    bench.conversation.encoding().encode(&channel("open:a"), publication, &mut frame).unwrap();
    let push: Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!(push["push"]["pub"]["info"]["user"], "ann");
}

/// As it is written in a token.
fn compact(json: &str) -> String {
    serde_json::from_str::<Value>(json).unwrap().to_string()
}

#[test]
fn a_client_without_a_user_publishes_as_nobody() {
    let mut bench = arrived(&anonymous());
    bench.ask(&connect(""));
    assert_eq!(bench.ask(&publish(2, "open:a", &json!(1))), [json!({"id": 2, "publish": {}})]);
    let info = bench.published[0].info.as_ref().unwrap();
    assert!(info.user.is_anonymous() && info.conn_info.is_none());
}

#[test]
fn a_publication_is_sent_as_json_even_without_a_publisher() {
    let publication = crate::model::Publication::of(crate::model::RawJson::string("x"));
    let mut frame = Vec::new();
    Encoding::CentrifugeJson.encode(&channel("a"), &publication, &mut frame).unwrap();
    assert_eq!(frame, br#"{"push":{"channel":"a","pub":{"data":"x"}}}"#);
}

#[test]
fn a_publish_needs_data_and_null_is_data() {
    let mut bench = connected_as("ann");
    assert_eq!(bench.ask(r#"{"id":2,"publish":{"channel":"open:a"}}"#), [error(2, 107)]);
    for data in ["null", "0", "\"\"", "[]"] {
        let line = format!(r#"{{"id":3,"publish":{{"channel":"open:a","data":{data}}}}}"#);
        assert_eq!(bench.say(&line), [Did::Publish("open:a".into(), data.into())]);
        bench.settle();
    }
}

#[test]
fn a_publish_where_clients_may_not_is_refused() {
    let mut bench = connected_as("ann");
    for (name, code) in
        [("read:a", 103), ("news", 103), ("closed:a", 103), ("chat:a", 103), ("nope:a", 102), ("a b", 107)]
    {
        assert_eq!(bench.ask(&publish(2, name, &json!(1))), [error(2, code)], "{name}");
    }
    assert!(bench.published.is_empty());
    closes(&mut bench, r#"{"id":3,"publish":{"data":1}}"#);
}

#[test]
fn a_publish_to_something_other_than_a_stream_is_declined() {
    let line = r#"{"id":2,"publish":{"channel":"open:a","type":1,"key":"k","data":1}}"#;
    assert_eq!(connected_as("ann").ask(line), [error(2, 108)]);
}

#[test]
fn where_subscribers_may_publish_they_may_as_long_as_they_are_subscribed() {
    let mut bench = connected_as("ann");
    let line = |id| publish(id, "chat:a", &json!(1));
    let frame = [line(2), subscribe(3, "chat:a"), line(4), unsubscribe(5, "chat:a"), line(6)].join("\n");
    let replies = bench.ask(&frame);
    let expected = [
        error(2, 103),
        json!({"id": 3, "subscribe": {}}),
        json!({"id": 4, "publish": {}}),
        json!({"id": 5, "unsubscribe": {}}),
        error(6, 103),
    ];
    assert_eq!(replies, expected);
}

#[test]
fn a_publish_that_fails_is_told_as_temporary() {
    let mut bench = connected_as("ann");
    bench.say(&publish(2, "open:a", &json!(1)));
    assert_eq!(bench.fail(), [Did::Say(error(2, 100))]);
    bench.say(&publish(3, "open:a", &json!(1)));
    assert_eq!(bench.overload(), [Did::Say(error(3, 111))]);
    assert!(!bench.is_closed());
}

#[test]
fn what_becomes_of_publications_is_counted_by_namespace() {
    let context = context(&config());
    let metrics = std::sync::Arc::clone(&context.metrics);
    let mut bench = Bench::new(|client| Client::new(context, Codec::Json, client, None));
    bench.say(&connect(&token("ann")));
    let ends = [Bench::succeed, Bench::succeed, Bench::fail, Bench::overload];
    for (id, end) in (2..).zip(ends) {
        bench.say(&publish(id, "open:a", &json!(1)));
        end(&mut bench);
    }
    let text = String::from_utf8(metrics.render(0)).unwrap();
    for line in [
        r#"publications_received_total{channel_namespace="open",source="client"} 2"#,
        r#"publications_failed_total{channel_namespace="open",reason="unavailable",source="client"} 1"#,
        r#"publications_failed_total{channel_namespace="open",reason="busy",source="client"} 1"#,
        r#"publish_duration_seconds_count{channel_namespace="open",source="client"} 4"#,
    ] {
        assert!(text.contains(&format!("\nclarion_{line}\n")), "{line} is not in {text}");
    }
}

// Everything else

#[test]
fn a_crowd_of_pongs_in_one_frame_is_one() {
    for codec in [Codec::Json, Codec::Protobuf] {
        let mut bench = connected_with(codec, "ann");
        assert_eq!(bench.say(&["{}"; 1_000].join("\n")), [Did::Pong]);
        let frame = ["{}", "{}", &subscribe(2, "a"), "{}"].join("\n");
        assert_eq!(bench.say(&frame), [Did::Pong, subscribes("a"), Did::Pong]);
    }
}

#[test]
fn presence_and_history_are_not_available() {
    let mut bench = connected_as("ann");
    for command in ["presence", "presence_stats", "history"] {
        let line = |channel: &str| format!(r#"{{"id":2,"{command}":{{"channel":"{channel}"}}}}"#);
        assert_eq!(bench.ask(&line("open:a")), [error(2, 108)], "{command}");
        assert_eq!(bench.ask(&line("nope:a")), [error(2, 102)], "{command}");
        assert_eq!(bench.ask(&line("a b")), [error(2, 107)], "{command}");
        closes(&mut connected_as("ann"), &line(""));
    }
}

#[test]
fn a_call_of_the_back_end_is_not_available() {
    let mut bench = connected_as("ann");
    assert_eq!(bench.ask(r#"{"id":2,"rpc":{"method":"x","data":[1]}}"#), [error(2, 108)]);
    assert_eq!(bench.ask(r#"{"id":3,"rpc":{}}"#), [error(3, 108)]);
}

fn refresh(token: &str) -> String {
    format!(r#"{{"id":2,"refresh":{{"token":"{token}"}}}}"#)
}

#[test]
fn a_refresh_with_a_newer_token_renews_the_connection() {
    let mut bench = connected_as("ann");
    let renewed = json!({"id": 2, "refresh": {"expires": true, "ttl": "about an hour"}});
    let mut done = bench.say(&refresh(&token("ann")));
    let Did::Say(reply) = &mut done[1] else { panic!("{done:?}") };
    about_an_hour(&mut reply["refresh"]["ttl"]);
    assert_eq!(done, [Did::Renew(true), Did::Say(renewed)]);
}

#[test]
fn a_refresh_that_does_not_verify_closes() {
    let close = |token: &str| connected_as("ann").say(&refresh(token));
    assert_eq!(close(&token("bob")), [Did::Close(CloseReason::InvalidToken)]);
    assert_eq!(close("x"), [Did::Close(CloseReason::InvalidToken)]);
    assert_eq!(close(&expired_token("ann")), [Did::Close(CloseReason::Expired)]);
    closes(&mut connected_as("ann"), r#"{"id":3,"refresh":{}}"#);
}

#[test]
fn what_is_sent_into_the_blue_is_neither_answered_nor_a_pong() {
    let mut bench = connected_as("ann");
    assert_eq!(bench.say(r#"{"send":{"data":1}}"#), []);
    assert_eq!(bench.say(r#"{"id":2,"send":{}}"#), []);
    assert!(!bench.is_closed());
}

#[test]
fn more_commands_than_may_wait_close_after_those_that_do() {
    let mut bench = connected_as("ann");
    bench.say(&subscribe(2, "news"));
    let frame = vec![r#"{"id":3,"rpc":{}}"#; 10_000].join("\n");
    assert_eq!(bench.say(&frame), []);
    let done = bench.succeed();
    assert_eq!(done[0], Did::Say(json!({"id": 2, "subscribe": {}})));
    assert_eq!(done.last(), Some(&Did::Close(CloseReason::TooManyErrors)), "it errs as well");
    let mut bench = connected_as("ann");
    bench.say(&subscribe(2, "news"));
    bench.say(&vec![unsubscribe(3, "x"); 10_000].join("\n"));
    let done = bench.succeed();
    assert_eq!(done.len(), 1 + 4_096 + 1);
    assert_eq!(done.last(), Some(&Did::Close(CloseReason::TooManyRequests)));
}
