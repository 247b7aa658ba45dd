//! What breaks the rules of frames or of the protocol, and the code that it closes with.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::support::{Gateway, Raw, frame, within};

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// The largest message that the default configuration takes.
const MESSAGE_BYTES_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Native,
    Bare,
}

async fn open(gateway: &Gateway, form: Form) -> Raw {
    match form {
        Form::Native => {
            let mut raw = Raw::native(gateway).await;
            raw.send_text(&json!({"id": 1, "connect": {"token": gateway.token("raw")}}).to_string()).await;
            assert_eq!(raw.next_json().await["id"], 1);
            raw
        }
        Form::Bare => Raw::bare(gateway).await,
    }
}

/// Sends `bytes` on both endpoints; both close with `code`, and then the socket closes too.
async fn both_close(gateway: &Gateway, what: &str, bytes: &[u8], code: u16) {
    for form in [Form::Native, Form::Bare] {
        let mut raw = open(gateway, form).await;
        raw.send(bytes).await;
        assert_eq!(raw.close_code().await, code, "{what}, {form:?}");
        // Who breaks the framing has been disconnected without being waited for.
        drop(raw.try_send(close(code, b"")).await);
        raw.rest().await;
    }
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// The header of a masked frame that says it is `length` bytes long.
fn announcement(first_byte: u8, length: u64) -> Vec<u8> {
    [&[first_byte, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat()
}

#[tokio::test]
async fn broken_frames_close_with_1002() {
    let gateway = Gateway::start().await;
    let long_control = [&[FIN | PING, 0x80 | 126, 0, 126][..], &[0; 4 + 126]].concat();
    for (what, bytes) in [
        ("unmasked", vec![FIN | TEXT, 2, b'{', b'}']),
        ("RSV1", frame(FIN | 0x40 | TEXT, b"{}")),
        ("RSV2", frame(FIN | 0x20 | TEXT, b"{}")),
        ("RSV3 on a ping", frame(FIN | 0x10 | PING, b"")),
        ("reserved opcode 3", frame(FIN | 0x3, b"")),
        ("reserved opcode 11", frame(FIN | 0xB, b"")),
        ("fragmented ping", frame(PING, b"")),
        ("fragmented close", frame(CLOSE, b"")),
        ("ping of 126 bytes", long_control),
        ("nothing to continue", frame(FIN | CONTINUATION, b"{}")),
        ("a message within a message", [frame(TEXT, b"{"), frame(FIN | TEXT, b"{}")].concat()),
        ("close of one byte", frame(FIN | CLOSE, b"x")),
    ] {
        both_close(&gateway, what, &bytes, 1002).await;
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1100, 2999, 5000, 65535] {
        both_close(&gateway, &format!("close code {code}"), &close(code, b""), 1002).await;
    }
    gateway.serves_honest_clients().await;
    gateway.metric_is("clarion_connections_closed_total{reason=\"frame_error\"}", 44.0).await;
}

#[tokio::test]
async fn broken_utf8_closes_with_1007() {
    let gateway = Gateway::start().await;
    for (what, bytes) in [
        ("in a text", frame(FIN | TEXT, b"{\"a\":\"\xff\"}")),
        ("at the end of a text", frame(FIN | TEXT, b"{}\xe2\x82")),
        ("an encoded surrogate", frame(FIN | TEXT, b"\xed\xa0\x80")),
        ("in a fragment that is not the last", frame(TEXT, b"{\xc0\xaf")),
        ("in the reason of a close", close(1000, b"\xff")),
    ] {
        both_close(&gateway, what, &bytes, 1007).await;
    }
    gateway.serves_honest_clients().await;
}

#[tokio::test]
async fn a_message_above_the_limit_closes_with_1009_before_it_has_come() {
    let gateway = Gateway::start().await;
    let half = vec![b' '; MESSAGE_BYTES_MAX / 2];
    for (what, bytes) in [
        ("announced a byte above", announcement(FIN | TEXT, MESSAGE_BYTES_MAX as u64 + 1)),
        ("announced 2^62 bytes", announcement(FIN | TEXT, 1 << 62)),
        ("announced 2^62 bytes of binary", announcement(BINARY, 1 << 62)),
        (
            "fragments above it together",
            [frame(TEXT, &half), frame(CONTINUATION, &half), frame(FIN | CONTINUATION, b" ")].concat(),
        ),
    ] {
        both_close(&gateway, what, &bytes, 1009).await;
    }
    // The high bit of the length must be 0 (RFC 6455 §5.2).
    both_close(&gateway, "announced 2^63 bytes", &announcement(FIN | TEXT, 1 << 63), 1002).await;
    gateway.serves_honest_clients().await;
}

#[tokio::test]
async fn a_message_at_the_limit_is_taken_whole_or_in_fragments() {
    let gateway = Gateway::start().await;
    let mut listener = gateway.connect("listener").await.subscribe("news").await;
    let head = r#"{"id":9,"publish":{"channel":"news","data":""#;
    let text = format!("{head}{}\"}}}}", "x".repeat(MESSAGE_BYTES_MAX - head.len() - 3));
    assert_eq!(text.len(), MESSAGE_BYTES_MAX);
    let (left, right) = text.as_bytes().split_at(40_000);
    for bytes in [
        frame(FIN | TEXT, text.as_bytes()),
        [frame(TEXT, left), frame(FIN | PING, b"between"), frame(FIN | CONTINUATION, right)].concat(),
    ] {
        let mut raw = open(&gateway, Form::Native).await;
        raw.send(bytes).await;
        listener.next_publication().await;
    }
}

#[tokio::test]
async fn the_close_code_can_be_read_by_a_client_that_still_sends() {
    let gateway = Gateway::start().await;
    let too_big = frame(FIN | TEXT, &vec![b'x'; MESSAGE_BYTES_MAX + 1]);
    let (head, rest) = too_big.split_at(4_000);
    for form in [Form::Native, Form::Bare] {
        let mut raw = open(&gateway, form).await;
        raw.send(&too_big).await;
        assert_eq!(raw.close_code().await, 1009, "{form:?}");
        let mut raw = open(&gateway, form).await;
        raw.send(head).await;
        assert_eq!(raw.close_code().await, 1009, "{form:?}");
        for chunk in rest.chunks(1_000) {
            // It is read away for a while: a reset could overtake the close frame.
            raw.send(chunk).await;
        }
    }
}

#[tokio::test]
async fn a_binary_frame_where_text_is_spoken_is_unsupported_unless_it_may_be_text() {
    let gateway = Gateway::start().await;
    for (form, payload, code) in [(Form::Native, b"\xff".as_slice(), 3501), (Form::Bare, b"{}", 1003)] {
        let mut raw = open(&gateway, form).await;
        raw.send_frame(FIN | BINARY, payload).await;
        assert_eq!(raw.close_code().await, code, "{form:?}");
    }
}

#[tokio::test]
async fn why_it_closes_is_told_whatever_comes_with_the_cause() {
    let gateway = Gateway::start().await;
    for rest in [close(1000, b"bye"), frame(0xf0, b"no frame"), frame(FIN | TEXT, b"{}")] {
        let mut raw = Raw::native(&gateway).await;
        raw.send([frame(FIN | TEXT, b"no command"), rest].concat()).await;
        assert_eq!(raw.close_code().await, 3501);
        drop(raw);
    }
    gateway.metric_is("clarion_connections_closed_total{reason=\"bad_request\"}", 3.0).await;
}

#[tokio::test]
async fn a_close_is_answered_and_the_socket_closed() {
    let gateway = Gateway::start().await;
    for form in [Form::Native, Form::Bare] {
        for (bytes, code) in [
            (frame(FIN | CLOSE, b""), &[][..]),
            (close(1000, b"bye"), &1000_u16.to_be_bytes()),
            (close(1001, b""), &1001_u16.to_be_bytes()),
            (close(3000, b"mine"), &3000_u16.to_be_bytes()),
            (close(4999, "ü".repeat(61).as_bytes()), &4999_u16.to_be_bytes()),
        ] {
            let mut raw = open(&gateway, form).await;
            raw.send(bytes).await;
            let answer = raw.next_frame().await.expect("a close is answered");
            assert_eq!((answer.opcode, &answer.payload[..]), (0x8, code), "{form:?}");
            assert_eq!(raw.rest().await, b"");
        }
    }
    gateway.metric_is("clarion_connections_closed_total{reason=\"by_client\"}", 10.0).await;
    gateway.metric_is("clarion_connections", 0.0).await;
}

#[tokio::test]
async fn what_is_no_command_closes_with_3501() {
    let gateway = Gateway::start().await;
    let deep = format!(r#"{{"id":1,"subscribe":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    for (what, text) in [
        ("empty", ""),
        ("an empty line between", "{}\n\n{}"),
        ("not JSON", "hello"),
        ("not an object", "[]"),
        ("no known command", r#"{"id":5,"dance":{}}"#),
        ("no command", r#"{"id":5}"#),
        ("id below zero", r#"{"id":-1,"subscribe":{"channel":"a"}}"#),
        ("id above 32 bits", r#"{"id":4294967296,"subscribe":{"channel":"a"}}"#),
        ("a key twice", r#"{"id":5,"subscribe":{"channel":"a"},"subscribe":{"channel":"b"}}"#),
        ("half a surrogate pair", r#"{"id":5,"subscribe":{"channel":"\ud800"}}"#),
        ("no channel", r#"{"id":5,"subscribe":{}}"#),
        ("a second connect", r#"{"id":5,"connect":{}}"#),
        ("1,000 levels deep", &deep),
    ] {
        both_close(&gateway, what, &frame(FIN | TEXT, text.as_bytes()), 3501).await;
    }
    gateway.serves_honest_clients().await;
}

#[tokio::test]
async fn a_command_before_connect_closes_with_3501() {
    let gateway = Gateway::start().await;
    for text in
        ["{}", r#"{"id":1,"subscribe":{"channel":"a"}}"#, r#"{"connect":{}}"#, r#"{"id":1,"connect":{}}"#, ""]
    {
        let mut raw = Raw::native(&gateway).await;
        raw.send_text(text).await;
        assert_eq!(raw.close_code().await, 3501, "{text}");
    }
}

#[tokio::test]
async fn names_of_channels_are_checked_and_the_connection_stays() {
    let gateway = Gateway::start().await;
    let mut bob = gateway.connect("bob").await.subscribe("news").await;
    let longest = "x".repeat(255);
    for name in ["a\0b", "a\u{2028}b", "a b", "a\nb", "a\u{202e}b", "a\u{9f}", "caf\u{e9}", &"x".repeat(256)]
    {
        let reply = bob.call(json!({"subscribe": {"channel": name}})).await;
        assert_eq!(reply["error"]["code"], 107, "{name:?}");
    }
    let mut bob = bob.subscribe(&longest).await.subscribe("*").await.subscribe("{a}?[b]").await;
    // Names are compared, not matched.
    bob.publish("anything", 1).await;
    bob.publish("{a}?[b]", 2).await;
    assert_eq!(bob.next_publication().await.channel, "{a}?[b]");
}

#[tokio::test]
async fn numbers_and_strings_arrive_as_they_were_written() {
    let gateway = Gateway::start().await;
    let mut raw = open(&gateway, Form::Bare).await;
    raw.send_text(r#"{"id":1,"subscribe":{"channel":"news"}}"#).await;
    assert_eq!(raw.next_json().await["id"], 1);
    for data in ["9007199254740993", "1e3", "-0.0", r#"{"a":1,"a":2}"#, r#""\u0000\u2028""#, "null"] {
        raw.send_text(&format!(r#"{{"publish":{{"channel":"news","data":{data}}}}}"#)).await;
        let push = String::from_utf8(raw.next_frame().await.unwrap().payload).unwrap();
        assert!(push.contains(&format!(r#""data":{data},"#)), "{push}");
    }
}

#[tokio::test]
async fn pings_are_answered_with_their_payload_even_within_a_message() {
    let gateway = Gateway::start().await;
    for form in [Form::Native, Form::Bare] {
        let mut raw = open(&gateway, form).await;
        raw.send_frame(FIN | PING, b"outside").await;
        raw.send_frame(TEXT, br#"{"id":7,"unsub"#).await;
        raw.send_frame(FIN | PING, [b'x'; 125]).await;
        raw.send_frame(FIN | PONG, b"unasked").await;
        raw.send_frame(FIN | CONTINUATION, br#"scribe":{"channel":"a"}}"#).await;
        for payload in [b"outside".to_vec(), vec![b'x'; 125]] {
            let pong = raw.next_frame().await.unwrap();
            assert_eq!((pong.opcode, pong.payload), (PONG, payload), "{form:?}");
        }
        assert_eq!(raw.next_json().await, json!({"id": 7, "unsubscribe": {}}));
    }
}

#[tokio::test]
async fn frames_are_counted_one_by_one_and_too_many_in_a_second_close_with_3013() {
    const FRAMES_MAX: usize = 50;
    // All of it is read within a second, or in one and the next: in one of them it is too much.
    const TOO_MANY: usize = 2 * FRAMES_MAX + 1;
    let gateway = Gateway::start_with(|config| config.client.frames_per_second_max = FRAMES_MAX).await;
    let fragments = [frame(TEXT, b"{"), frame(CONTINUATION, b"").repeat(TOO_MANY)].concat();
    for (what, bytes) in [
        ("pings", frame(FIN | PING, b"").repeat(TOO_MANY)),
        ("pongs", frame(FIN | PONG, b"").repeat(TOO_MANY)),
        ("fragments of one message", fragments),
        ("messages", frame(FIN | TEXT, br#"{"id":7,"unsubscribe":{"channel":"a"}}"#).repeat(TOO_MANY)),
    ] {
        both_close(&gateway, what, &bytes, 3013).await;
    }
    // Who sends as many as it may stays, for longer than a second.
    let mut honest = gateway.connect("honest").await.subscribe("calm").await;
    let started_at = Instant::now();
    while started_at.elapsed() < Duration::from_millis(1_500) {
        honest.publish("calm", 1).await;
        honest.next_publication().await;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    gateway.metric_is("clarion_connections_closed_total{reason=\"too_many_requests\"}", 8.0).await;
}

/// Sends `flood` over and over, reading whatever comes back, while another client talks undisturbed.
async fn endure(gateway: &Gateway, raw: Raw, flood: &[u8], times: usize) {
    let (mut reader, mut writer) = raw.split();
    let mut honest = gateway.connect("honest").await.subscribe("calm").await;
    let sending = async {
        for _ in 0..times {
            writer.write_all(flood).await.expect("the gateway goes on reading");
        }
        // What the gateway does last is answered last.
        writer.write_all(&frame(FIN | CLOSE, &1000u16.to_be_bytes())).await.expect("it goes on reading");
        writer
    };
    let talking = async {
        for index in 0..20 {
            let started_at = Instant::now();
            honest.publish("calm", index).await;
            assert_eq!(honest.next_publication().await.data, index);
            assert!(started_at.elapsed() < Duration::from_secs(2), "{:?}", started_at.elapsed());
        }
    };
    let reading = async { while reader.next_frame().await.is_some_and(|frame| frame.opcode != CLOSE) {} };
    let (_writer, (), ()) =
        within("the flood to end", async { tokio::join!(sending, reading, talking) }).await;
    gateway.metric_is("clarion_outbox_bytes", 0.0).await;
    gateway.metric_is("clarion_connections{protocol=\"bare_json\"}", 0.0).await;
}

#[tokio::test]
async fn a_million_empty_fragments_cost_no_memory_and_delay_nobody() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::bare(&gateway).await;
    raw.send_frame(TEXT, b"{").await;
    let flood = frame(CONTINUATION, b"").repeat(1_000);
    // The message is never finished: a close may come between its fragments.
    endure(&gateway, raw, &flood, 1_000).await;
}

#[tokio::test]
async fn a_million_pings_are_answered_and_delay_nobody() {
    let gateway = Gateway::start().await;
    let raw = Raw::bare(&gateway).await;
    endure(&gateway, raw, &frame(FIN | PING, b"x").repeat(1_000), 1_000).await;
}

#[tokio::test]
async fn a_million_tiny_messages_delay_nobody() {
    let gateway = Gateway::start().await;
    let raw = Raw::open(gateway.public()).await;
    let raw = raw.upgrade(&crate::support::bare_path(&gateway, "&publish=flood")).await;
    endure(&gateway, raw, &frame(FIN | TEXT, b"1").repeat(1_000), 1_000).await;
    gateway.metric_is("clarion_publications_received_total{source=\"client\"}", 1_000_020.0).await;
}
