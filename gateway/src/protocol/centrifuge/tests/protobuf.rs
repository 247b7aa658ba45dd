//! A client that speaks Protobuf has the same session: what it says and gets is told here in JSON.

use super::*;
use crate::model::CloseReason;
use crate::protocol::testing::{channel, expired_token, subscribe_order, unsubscribe_order};
use crate::protocol::{Conversation as _, Encoding, FrameKind, Framing, Heartbeat};

/// What each frame leads to, everything slow included.
fn played(codec: Codec, frames: &[String]) -> Vec<Vec<Did>> {
    let mut bench = connected_with(codec, "ann");
    let mut play = |frame: &String| {
        let mut done = bench.say(frame);
        done.extend(bench.settle());
        done
    };
    frames.iter().map(&mut play).collect()
}

#[test]
fn a_session_opens_with_the_ping_of_its_codec() {
    let mut bench = arrived_with(Codec::Protobuf, &config());
    assert_eq!(bench.conversation.name(), "centrifuge_protobuf");
    assert_eq!(bench.conversation.framing(), Framing::Binary);
    assert_eq!(bench.conversation.encoding(), Encoding::CentrifugeProtobuf);
    let mut done = bench.say(&connect(&token("ann")));
    let Did::Say(reply) = &mut done[1] else { panic!("{done:?}") };
    about_an_hour(&mut reply["connect"]["ttl"]);
    let expected = json!({"id": 1, "connect": {
        "client": bench.client.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "ping": 25,
        "pong": true,
        "expires": true,
        "ttl": "about an hour",
    }});
    assert_eq!(done, [Did::Open("ann".into(), Heartbeat::Binary(&[0])), Did::Say(expected)]);
    assert_eq!(bench.say_binary(&[0]), [Did::Pong]);
}

#[test]
fn whatever_is_said_leads_to_the_same_in_both_codecs() {
    let frames = [
        subscribe(2, "open:a"),
        subscribe(3, "open:a"),
        publish(4, "open:a", &json!({"x": [1.5, null, "é"]})),
        r#"{"id":5,"publish":{"channel":"open:a"}}"#.into(),
        r#"{"id":6,"subscribe":{"channel":"a","type":1}}"#.into(),
        r#"{"id":7,"subscribe":{"channel":"a","tf":{"key":"x"}}}"#.into(),
        r#"{"id":8,"subscribe":{"channel":"read:b","recover":true,"epoch":"e","offset":3,"flag":3}}"#.into(),
        r#"{"id":9,"history":{"channel":"open:a","limit":10}}"#.into(),
        r#"{"id":10,"presence":{"channel":"closed:a"}}"#.into(),
        r#"{"id":11,"presence_stats":{"channel":"nowhere:a"}}"#.into(),
        r#"{"id":12,"rpc":{"method":"x"}}"#.into(),
        r#"{"send":{"data":1}}"#.into(),
        "{}\n{}".into(),
        json!({"id": 13, "refresh": {"token": token("ann")}}).to_string(),
        r#"{"id":14,"sub_refresh":{"channel":"nowhere","token":"t"}}"#.into(),
        [unsubscribe(15, "open:a"), subscribe(16, "open:a"), unsubscribe(17, "x")].join("\n"),
        json!({"id": 18, "refresh": {"token": expired_token("ann")}}).to_string(),
        subscribe(19, "late"),
    ];
    let [mut json, mut protobuf] = [Codec::Json, Codec::Protobuf].map(|codec| played(codec, &frames));
    for done in [&mut json, &mut protobuf] {
        let Did::Say(refreshed) = &mut done[13][1] else { panic!("{:?}", done[13]) };
        about_an_hour(&mut refreshed["refresh"]["ttl"]);
    }
    assert_eq!(json, protobuf);
    assert_eq!(json[16], [Did::Close(CloseReason::Expired)]);
}

#[test]
fn orders_are_told_in_its_codec() {
    let mut bench = connected_with(Codec::Protobuf, "ann");
    bench.order(subscribe_order("news"));
    assert_eq!(bench.succeed(), [Did::Say(json!({"push": {"channel": "news", "subscribe": {}}}))]);
    let unsubscribe = json!({"code": 2000, "reason": "server unsubscribe"});
    let push = json!({"push": {"channel": "news", "unsubscribe": unsubscribe}});
    assert_eq!(bench.order(unsubscribe_order("news")), [Did::Unsubscribe("news".into()), Did::Say(push)]);
}

#[test]
fn bytes_are_published_as_they_are_and_are_for_who_takes_bytes() {
    let mut bench = connected_with(Codec::Protobuf, "ann");
    // Command{id 2, publish{channel "open:a", data 00 ff}}
    bench.say_binary(b"\x10\x08\x02\x3a\x0c\x0a\x06open:a\x12\x02\x00\xff");
    bench.succeed();
    let publication = &bench.published[0];
    assert_eq!(publication.data.as_bytes(), b"\x00\xff");
    assert_eq!(publication.info.as_ref().unwrap().user.as_str(), "ann");
    let mut frame = Vec::new();
    let kind = Encoding::CentrifugeProtobuf.encode(&channel("open:a"), publication, &mut frame);
    assert_eq!(kind, Ok(FrameKind::Binary));
    assert_eq!(usize::from(frame[0]), frame.len() - 1);
    assert!(Encoding::CentrifugeJson.encode(&channel("open:a"), publication, &mut Vec::new()).is_err());
}

#[test]
fn a_text_frame_is_read_as_bytes() {
    let mut bench = connected_with(Codec::Protobuf, "ann");
    let on_message = |bench: &mut Bench<Client>, text: &str| {
        let mut effects = Vec::new();
        bench.conversation.on_message(crate::protocol::Message::Text(text), &mut effects);
        format!("{effects:?}")
    };
    assert_eq!(on_message(&mut bench, "\0\0"), "[Pong]");
    assert_eq!(on_message(&mut bench, "{}"), "[Close(BadRequest)]");
}

#[test]
fn what_is_broken_closes_after_what_came_before() {
    let mut bench = connected_with(Codec::Protobuf, "ann");
    // Command{id 2, subscribe{channel "news"}}, then a message that breaks off.
    let frame = b"\x0a\x08\x02\x2a\x06\x0a\x04news\x0a\x08\x03";
    assert_eq!(bench.say_binary(frame), [subscribes("news")]);
    assert_eq!(bench.say_binary(b"\0"), [Did::Pong]);
    let rest = [Did::Say(json!({"id": 2, "subscribe": {}})), Did::Close(CloseReason::BadRequest)];
    assert_eq!(bench.succeed(), rest);
    for first in [b"".as_slice(), b"\0", b"\x02\x08\x01", b"{\"id\":1,\"connect\":{}}"] {
        let mut bench = arrived_with(Codec::Protobuf, &config());
        assert_eq!(bench.say_binary(first), [Did::Close(CloseReason::BadRequest)], "{first:?}");
    }
}
