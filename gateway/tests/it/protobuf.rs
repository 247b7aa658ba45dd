//! Clients that speak Protobuf, beside clients that speak JSON.

use std::time::Duration;

use clarion::config::Reject;
use prost::Message as _;

use crate::support::schema::{Command, PublishRequest, RpcRequest, SubscribeRequest, UnsubscribeRequest};
use crate::support::{Gateway, ProtobufClient, Raw, replies, upgrade_request};

const NATIVE: &str = "/connection/websocket";
/// `Command{id 1, connect{}}`
const CONNECT: &[u8] = b"\x04\x08\x01\x22\x00";

#[tokio::test]
async fn clients_of_both_codecs_share_a_channel() {
    let gateway = Gateway::start().await;
    let mut protobuf = ProtobufClient::connect(&gateway, "ann").await.subscribe("news").await;
    let mut json = gateway.connect("bob").await.subscribe("news").await;
    protobuf.publish("news", br#"{"n": 1.0}"#).await;
    json.publish("news", "é").await;
    for (user, data) in [("ann", br#"{"n": 1.0}"#.as_slice()), ("bob", "\"é\"".as_bytes())] {
        let push = protobuf.next_push().await;
        let publication = push.r#pub.expect("it is a publication");
        assert_eq!((push.channel.as_str(), &publication.data[..]), ("news", data));
        let info = publication.info.expect("a client published it");
        assert_eq!(info.user, user);
        assert_eq!(info.client == protobuf.welcome.client, user == "ann");
        let publication = json.next_publication().await;
        assert_eq!(publication.data, serde_json::from_slice::<serde_json::Value>(data).unwrap());
        assert_eq!(publication.user, user);
    }
}

#[tokio::test]
async fn bytes_close_who_takes_json_alone_and_nobody_else() {
    let gateway = Gateway::start().await;
    let mut protobuf = ProtobufClient::connect(&gateway, "ann").await.subscribe("news").await;
    let mut json = gateway.connect("bob").await.subscribe("news").await;
    let mut bystander = gateway.connect("eve").await.subscribe("other").await;
    protobuf.publish("news", b"\x00\xff").await;
    assert_eq!(json.closed().await, (3506, "inappropriate protocol".to_owned()));
    protobuf.publish("other", b"1").await;
    assert_eq!(bystander.next_publication().await.data, 1);
    protobuf.publish("news", b"\n").await;
    for expected in [b"\x00\xff".as_slice(), b"\n"] {
        let publication = protobuf.next_push().await.r#pub.expect("it is a publication");
        assert_eq!(publication.data, expected);
    }
}

#[tokio::test]
async fn commands_of_one_frame_are_answered_in_one_frame() {
    let gateway = Gateway::start().await;
    let mut client = ProtobufClient::connect(&gateway, "ann").await;
    let subscribe = |channel: &str| Some(SubscribeRequest { channel: channel.into(), ..Default::default() });
    let publish = PublishRequest { channel: "b".into(), data: b"x".as_slice().into(), ..Default::default() };
    let commands = [
        Command { id: 11, subscribe: subscribe("a"), ..Default::default() },
        Command { id: 12, subscribe: subscribe("closed:a"), ..Default::default() },
        Command { id: 13, publish: Some(publish), ..Default::default() },
        Command { id: 14, rpc: Some(RpcRequest::default()), ..Default::default() },
        Command {
            id: 15,
            unsubscribe: Some(UnsubscribeRequest { channel: "a".into() }),
            ..Default::default()
        },
    ];
    let frame: Vec<_> = commands.iter().flat_map(Command::encode_length_delimited_to_vec).collect();
    client.send(frame).await;
    let replies = client.next_frame().await;
    let seen: Vec<_> =
        replies.iter().map(|reply| (reply.id, reply.error.as_ref().map(|error| error.code))).collect();
    assert_eq!(seen, [(11, None), (12, Some(103)), (13, None), (14, Some(108)), (15, None)]);
    assert!(
        replies[0].subscribe.is_some() && replies[2].publish.is_some() && replies[4].unsubscribe.is_some()
    );
}

#[tokio::test]
async fn a_ping_is_one_byte_and_so_is_its_answer() {
    let gateway = Gateway::start_with(|config| {
        config.client.ping_interval = Duration::from_secs(1);
        config.client.pong_timeout = Duration::from_millis(500);
    })
    .await;
    let mut client = ProtobufClient::connect(&gateway, "ann").await;
    assert_eq!((client.welcome.ping, client.welcome.pong), (1, true));
    // The second one comes because the first was answered.
    client.next_ping().await;
    client.next_ping().await;
    client.answers_pings = false;
    client.next_ping().await;
    assert_eq!(client.close_code().await, 3012);
}

#[tokio::test]
async fn what_is_no_frame_of_the_protocol_closes() {
    let gateway = Gateway::start().await;
    for frame in [b"".as_slice(), b"\x05\x08\x01", b"{\"id\":2}", &[0xFF; 11]] {
        let mut client = ProtobufClient::connect(&gateway, "ann").await;
        client.send(frame).await;
        assert_eq!(client.close_code().await, 3501, "{frame:?}");
    }
    gateway.serves_honest_clients().await;
}

/// Opens a WebSocket; `None` for `offered` offers no sub-protocol. Answers the one that was selected.
async fn negotiate(gateway: &Gateway, query: &str, offered: Option<&str>) -> (Raw, Option<String>) {
    let mut raw = Raw::open(gateway.public()).await;
    let headers = offered.map(|offered| format!("sec-websocket-protocol: {offered}\r\n")).unwrap_or_default();
    raw.send(upgrade_request(&format!("{NATIVE}?{query}"), &headers)).await;
    let answer = raw.answer().await;
    assert_eq!(answer.status, 101, "{query} {offered:?}: {}", answer.head);
    let selected = answer.header("sec-websocket-protocol").map(str::to_owned);
    (raw, selected)
}

#[tokio::test]
async fn the_codec_is_what_was_asked_for_and_no_other_is_selected() {
    const JSON: Option<&str> = Some("centrifuge-json");
    const PROTOBUF: Option<&str> = Some("centrifuge-protobuf");
    let gateway = Gateway::start_with(|config| config.client.anonymous = true).await;
    let with_token = format!("bearer.{}, centrifuge-protobuf", gateway.token("ann"));
    for (query, offered, is_protobuf, selected) in [
        ("", None, false, None),
        ("", JSON, false, JSON),
        ("", Some("mqtt"), false, None),
        ("", PROTOBUF, true, PROTOBUF),
        ("", Some(with_token.as_str()), true, PROTOBUF),
        ("format=protobuf", None, true, None),
        ("cf_protocol=protobuf", None, true, None),
        ("format=protobuf", JSON, true, None),
        ("format=protobuf", PROTOBUF, true, PROTOBUF),
    ] {
        let (mut raw, echoed) = negotiate(&gateway, query, offered).await;
        assert_eq!(echoed.as_deref(), selected, "{query} {offered:?}");
        // Which kind of frame a client sends is not looked at.
        if is_protobuf {
            raw.send_frame(0x81, CONNECT).await;
            let frame = raw.next_frame().await.expect("connect is answered");
            assert_eq!(frame.opcode, 0x2, "{query} {offered:?}");
            assert!(replies(&frame.payload)[0].connect.is_some());
        } else {
            raw.send_frame(0x82, r#"{"id":1,"connect":{}}"#).await;
            assert!(raw.next_json().await["connect"].is_object(), "{query} {offered:?}");
        }
    }
}

#[tokio::test]
async fn a_bad_token_closes_in_either_codec_where_that_is_how_it_is_told() {
    let gateway = Gateway::start_with(|config| config.client.token.reject = Reject::Close).await;
    for offered in ["centrifuge-json", "centrifuge-protobuf"] {
        let (mut raw, selected) = negotiate(&gateway, "token=bad", Some(offered)).await;
        assert_eq!(selected.as_deref(), Some(offered));
        assert_eq!(raw.close_code().await, 3500);
    }
}
