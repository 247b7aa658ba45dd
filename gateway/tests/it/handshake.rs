//! What is asked before a WebSocket opens, and how it is refused.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Answer, Gateway, Raw, bare_path, frame, upgrade_request};

const NATIVE: &str = "/connection/websocket";

/// Sends `request` on a connection of its own.
async fn ask(gateway: &Gateway, request: impl AsRef<[u8]>) -> Answer {
    let mut raw = Raw::open(gateway.public()).await;
    raw.send(request).await;
    raw.answer().await
}

/// A proper request but for one line, which `from` begins: `to` takes its place.
fn broken(from: &str, to: &str) -> String {
    let request = upgrade_request(NATIVE, "");
    let line = request.lines().find(|line| line.starts_with(from)).expect("the line is there");
    request.replace(&format!("{line}\r\n"), to)
}

#[tokio::test]
async fn a_broken_handshake_gets_its_status() {
    let gateway = Gateway::start().await;
    let sub_protocols =
        |value: &str| upgrade_request(NATIVE, &format!("sec-websocket-protocol: {value}\r\n"));
    for (what, request, status) in [
        ("no upgrade", broken("upgrade:", ""), 426),
        ("no connection", broken("connection:", ""), 426),
        ("version 12", broken("sec-websocket-version", "sec-websocket-version: 12\r\n"), 426),
        ("no version", broken("sec-websocket-version", ""), 426),
        ("no key", broken("sec-websocket-key", ""), 400),
        ("short key", broken("sec-websocket-key", "sec-websocket-key: abc\r\n"), 400),
        ("two keys", upgrade_request(NATIVE, "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 400),
        ("POST", upgrade_request(NATIVE, "").replace("GET", "POST"), 405),
        ("HTTP/1.0", upgrade_request(NATIVE, "").replace("HTTP/1.1", "HTTP/1.0"), 505),
        ("two hosts", upgrade_request(NATIVE, "host: other\r\n"), 400),
        ("a body", upgrade_request(NATIVE, "content-length: 5\r\n") + "hello", 400),
        (
            "two lengths of a body",
            upgrade_request(NATIVE, "content-length: 5\r\ntransfer-encoding: chunked\r\n") + "0\r\n\r\n",
            400,
        ),
        ("10 kB of sub-protocol", sub_protocols(&"x".repeat(10_000)), 400),
        ("1,000 sub-protocols", sub_protocols(&vec!["a"; 1_000].join(",")), 400),
        ("a sub-protocol that is not ASCII", sub_protocols("caf\u{e9}"), 400),
        ("a token that is not UTF-8", upgrade_request(&format!("{NATIVE}?token=%ff"), ""), 400),
        ("a URI above 8 KiB", upgrade_request(&format!("{NATIVE}?x={}", "x".repeat(9_000)), ""), 414),
        ("65 headers", upgrade_request(NATIVE, &"x: y\r\n".repeat(60)), 431),
        ("150 headers", upgrade_request(NATIVE, &"x: y\r\n".repeat(145)), 431),
        ("a path that is not there", upgrade_request("/nowhere", ""), 404),
    ] {
        let answer = ask(&gateway, request).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.head);
        gateway.serves_honest_clients().await;
    }
}

#[tokio::test]
async fn a_refusal_says_what_would_be_right() {
    let gateway = Gateway::start().await;
    let answer = ask(&gateway, broken("upgrade:", "")).await;
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    let answer = ask(&gateway, broken("sec-websocket-version", "sec-websocket-version: 12\r\n")).await;
    assert_eq!((answer.code().as_str(), answer.header("sec-websocket-version")), ("version", Some("13")));
    let answer = ask(&gateway, upgrade_request(NATIVE, "").replace("GET", "POST")).await;
    assert_eq!(answer.header("allow"), Some("GET"));
    let answer = ask(&gateway, upgrade_request("/ws", "")).await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
    for (header, value) in [
        ("connection", "close"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.header(header), Some(value));
    }
    assert_eq!(answer.header("server"), None);
    assert_eq!(gateway.metric("clarion_handshakes_rejected_total{reason=\"version\"}").await, 1.0);
}

/// A head that does not fit is not read to its end, so the answer may be lost on the way to who still sends.
#[tokio::test]
async fn a_head_above_16_kib_is_cut_off() {
    let gateway = Gateway::start().await;
    for request in [
        upgrade_request(&format!("{NATIVE}?x={}", "x".repeat(70_000)), ""),
        upgrade_request(NATIVE, &format!("x: {}\r\n", "y".repeat(600_000))),
        upgrade_request(NATIVE, &format!("x: {}\r\n", "y".repeat(17_000))),
    ] {
        let mut raw = Raw::open(gateway.public()).await;
        // The gateway may have closed before all of it is sent.
        drop(raw.try_send(request).await);
        let answer = String::from_utf8(raw.rest().await).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        gateway.serves_honest_clients().await;
    }
}

#[tokio::test]
async fn a_refusal_repeats_nothing_and_has_one_size() {
    const CANARY: &str = "CANARY";
    let gateway = Gateway::start_with(|config| config.client.allow_no_origin = false).await;
    let requests = |filler: &str| {
        let origin = format!("origin: https://{filler}\r\n");
        let sub_protocols = format!("{origin}sec-websocket-protocol: {filler},,\r\n");
        [
            upgrade_request(&format!("/ws?token={filler}"), ""),
            upgrade_request(&format!("/ws?channels={filler}"), &origin),
            upgrade_request(NATIVE, &sub_protocols),
            upgrade_request(NATIVE, &format!("authorization: Bearer {filler}\r\n{origin}")),
            upgrade_request(&format!("{NATIVE}/{filler}"), ""),
            upgrade_request(NATIVE, "").replace("GET", filler),
            upgrade_request(NATIVE, &format!("host: {filler}\r\n")),
        ]
    };
    for (short, long) in requests(CANARY).into_iter().zip(requests(&CANARY.repeat(20))) {
        let (short, long) = (ask(&gateway, short).await, ask(&gateway, long).await);
        assert!(short.status >= 400);
        assert_eq!((short.status, short.head.len(), &short.body), (long.status, long.head.len(), &long.body));
        assert!(!format!("{long:?}").to_uppercase().contains(CANARY), "{long:?}");
    }
}

#[tokio::test]
async fn nothing_after_a_refused_head_is_looked_at() {
    let gateway = Gateway::start().await;
    let good = upgrade_request(NATIVE, "");
    for refused in [
        broken("sec-websocket-version", ""),
        upgrade_request(NATIVE, "content-length: 5\r\ntransfer-encoding: chunked\r\n"),
        upgrade_request(NATIVE, "host: other\r\n"),
        upgrade_request("/ws?token=bad", ""),
    ] {
        let mut raw = Raw::open(gateway.public()).await;
        raw.send(refused + &good).await;
        let answers = String::from_utf8(raw.rest().await).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    }
    assert_eq!(gateway.metric("clarion_connections_accepted_total").await, 0.0);
}

#[tokio::test]
async fn http2_is_not_spoken() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::open(gateway.public()).await;
    raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0").await;
    let rest = raw.rest().await;
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 "), "{rest:?}");
    gateway.serves_honest_clients().await;
}

#[tokio::test]
async fn only_allowed_origins_connect_and_cookies_change_nothing() {
    let gateway = Gateway::start_with(|config| {
        config.client.allowed_origins = vec!["https://app.example.com".into(), "*.example.org".into()];
    })
    .await;
    let origin = |lines: &str| upgrade_request(NATIVE, lines);
    for allowed in ["", "origin: https://app.example.com\r\n", "origin: https://a.b.example.org\r\n"] {
        assert_eq!(ask(&gateway, origin(allowed)).await.status, 101, "{allowed}");
    }
    for refused in [
        "origin: https://evil.example\r\n",
        "origin: https://app.example.com.evil\r\n",
        "origin: https://app.example.com:8443\r\n",
        "origin: http://app.example.com\r\n",
        "origin: https://APP.example.com\r\n",
        "origin: null\r\n",
        "origin: https://app.example.com\r\norigin: https://app.example.com\r\n",
        "origin: https://evil.example\r\ncookie: session=1\r\n",
    ] {
        let answer = ask(&gateway, origin(refused)).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "origin"), "{refused}");
    }
    // A good token does not open the door for a page that may not connect.
    let answer = ask(&gateway, upgrade_request(&bare_path(&gateway, ""), "origin: https://evil.example\r\n"));
    assert_eq!(answer.await.status, 403);
}

#[tokio::test]
async fn a_client_without_origin_is_refused_where_one_is_needed() {
    let gateway = Gateway::start_with(|config| config.client.allow_no_origin = false).await;
    assert_eq!(ask(&gateway, upgrade_request(NATIVE, "")).await.status, 403);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for() {
    const HEADER_TIMEOUT: Duration = Duration::from_millis(300);
    let gateway = Gateway::start_with(|config| config.public.header_timeout = HEADER_TIMEOUT).await;
    for beginning in ["", "G", "GET /ws HTTP/1.1\r\nhost: te"] {
        let started_at = Instant::now();
        let mut raw = Raw::open(gateway.public()).await;
        raw.send(beginning).await;
        let rest = raw.rest().await;
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408 "), "{rest:?}");
        let elapsed = started_at.elapsed();
        assert!(elapsed >= HEADER_TIMEOUT && elapsed < HEADER_TIMEOUT * 10, "{beginning:?}: {elapsed:?}");
    }
    // Who sends byte after byte gains no time by it.
    let started_at = Instant::now();
    let (mut reader, mut writer) = Raw::open(gateway.public()).await.split();
    let drip = async {
        let mut interval = tokio::time::interval(HEADER_TIMEOUT / 10);
        while tokio::io::AsyncWriteExt::write_all(&mut writer, b"G").await.is_ok() {
            interval.tick().await;
        }
    };
    tokio::select! {
        () = drip => {}
        _ = reader.rest() => {}
    }
    assert!(started_at.elapsed() < HEADER_TIMEOUT * 10, "{:?}", started_at.elapsed());
    gateway.serves_honest_clients().await;
    gateway.metric_is("clarion_handshakes_rejected_total{reason=\"header_timeout\"}", 4.0).await;
}

#[tokio::test]
async fn frames_sent_with_the_request_are_heard_once() {
    let gateway = Gateway::start().await;
    let mut listener = gateway.connect("listener").await.subscribe("news").await.subscribe("end").await;
    let token = gateway.token("bob");
    let commands = [
        json!({"id": 1, "connect": {"token": token}}),
        json!({"id": 2, "subscribe": {"channel": "news"}}),
        json!({"id": 3, "publish": {"channel": "news", "data": "early"}}),
    ];
    let mut bytes = upgrade_request(NATIVE, "").into_bytes();
    for command in commands {
        bytes.extend(frame(0x81, command.to_string().as_bytes()));
    }
    let mut raw = Raw::open(gateway.public()).await;
    raw.send(bytes).await;
    assert_eq!(raw.answer().await.status, 101);
    let mut replies = Vec::new();
    while replies.len() < 3 {
        let message = raw.next_json().await;
        replies.extend(message["id"].as_u64());
    }
    assert_eq!(replies, [1, 2, 3]);
    listener.publish("end", "end").await;
    assert_eq!(listener.next_publication().await.data, "early");
    assert_eq!(listener.next_publication().await.data, "end");
}

#[tokio::test]
async fn compression_is_not_negotiated() {
    let gateway = Gateway::start().await;
    let offer = "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n";
    let answer = ask(&gateway, upgrade_request(NATIVE, offer)).await;
    assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None));
}

#[tokio::test]
async fn a_spoken_sub_protocol_is_selected_and_another_is_not() {
    let gateway = Gateway::start().await;
    for (offered, selected) in
        [("centrifuge-json", Some("centrifuge-json")), ("mqtt, clarion", Some("clarion")), ("mqtt", None)]
    {
        let request = upgrade_request(NATIVE, &format!("sec-websocket-protocol: {offered}\r\n"));
        let answer = ask(&gateway, request).await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, selected), "{offered}");
    }
}
