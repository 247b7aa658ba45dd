//! What the server API, the operations and the public port give away, and what is thrown at them: rows S-53 to S-60 of
//! the security checklist, and fault F64.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::{API_KEY, Answer, Gateway, Process, Raw, SECRET, get, post, upgrade_request, within};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn publish_with(gateway: &Gateway, headers: &[(&str, &str)], body: &str) -> Answer {
    post(gateway.internal(), "/api/publish", headers, body).await
}

/// Sends a request as it is written, and reads the answer.
async fn ask(gateway: &Gateway, request: impl AsRef<[u8]>) -> Answer {
    let mut raw = Raw::open(gateway.internal()).await;
    raw.send(request).await;
    raw.answer().await
}

#[tokio::test]
async fn s53_a_key_comes_in_a_header_has_its_scopes_and_two_of_them_live_side_by_side() {
    let gateway = Gateway::start_with(|config| {
        let keys =
            json!([API_KEY, {"name": "next", "key": "the-key-that-comes-next", "scopes": ["publish"]}]);
        config.api.keys = serde_json::from_value(keys).unwrap();
    })
    .await;
    let body = json!({"channel": "a", "data": 1}).to_string();
    for key in [API_KEY, "the-key-that-comes-next"] {
        assert_eq!(publish_with(&gateway, &[("x-api-key", key), JSON], &body).await.status, 200);
    }
    let nearly = &API_KEY[..API_KEY.len() - 1];
    for headers in [&[][..], &[("x-api-key", nearly)], &[("authorization", "apikey ")], &[("x-api-key", "")]]
    {
        let refused = publish_with(&gateway, headers, &body).await;
        assert_eq!(refused.status, 401, "{headers:?}");
        assert_eq!(refused.header("www-authenticate"), Some("apikey"));
        assert_eq!(refused.body, "", "it does not say what was wrong");
    }
    let beyond =
        post(gateway.internal(), "/api/info", &[("x-api-key", "the-key-that-comes-next")], "{}").await;
    assert_eq!(beyond.status, 403);
    // `/api` takes it from the query as well, for back ends that were written for Centrifugo; ours does not.
    let path = format!("/v1/revocations?api_key={API_KEY}");
    assert_eq!(post(gateway.internal(), &path, &[JSON], r#"{"user":"ann"}"#).await.status, 401);
}

#[tokio::test]
async fn s54_s56_on_the_public_port_there_are_clients_and_nothing_else() {
    let gateway = Gateway::start().await;
    let paths = [
        "/api/publish",
        "/api",
        "/v1/revocations",
        "/openapi.json",
        "/metrics",
        "/livez",
        "/readyz",
        "/readyz/broker",
        "/debug/pprof/",
        "/debug/pprof/profile",
        "/debug/",
        "/",
        "/index.html",
        "/admin",
        "/admin/log-level",
    ];
    for path in paths {
        let answer = get(gateway.public(), path).await;
        assert_eq!((answer.status, &*answer.body), (404, ""), "{path}");
        let answer = post(gateway.public(), path, &[("x-api-key", API_KEY), JSON], "{}").await;
        assert_eq!((answer.status, &*answer.body), (404, ""), "{path}");
    }
    for path in ["/debug/pprof/", "/debug/pprof/profile", "/debug/", "/admin"] {
        assert_eq!(get(gateway.internal(), path).await.status, 404, "{path}");
    }
    let internal = clarion::config::Config::default().internal.address;
    assert!(internal.is_loopback(), "who does not say otherwise does not expose it: {internal}");
}

#[tokio::test]
async fn s55_what_is_too_large_too_many_or_unknown_is_refused_by_its_status() {
    let gateway = Gateway::start().await;
    let key = ("x-api-key", API_KEY);
    let body = json!({"channel": "a", "data": "x".repeat(1 << 20)}).to_string();
    assert_eq!(publish_with(&gateway, &[key, JSON], &body).await.status, 413);
    let commands: Vec<Value> = (0..1_001).map(|_| json!({"publish": {"channel": "a", "data": 1}})).collect();
    let batch = json!({ "commands": commands }).to_string();
    assert_eq!(post(gateway.internal(), "/api/batch", &[key, JSON], &batch).await.status, 400);
    let unknown = r#"{"user":"ann","isued_before":1}"#;
    let refused = post(gateway.internal(), "/v1/revocations", &[key, JSON], unknown).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("isued_before"), "{}", refused.body);
    let text = ("content-type", "text/plain");
    let refused = post(gateway.internal(), "/v1/revocations", &[key, text], r#"{"user":"ann"}"#).await;
    assert_eq!(refused.status, 415);
    assert_eq!(gateway.metric("clarion_publications_received_total{source=\"api\"}").await, 0.0);
}

#[tokio::test]
async fn s57_no_page_of_another_origin_reads_an_answer() {
    let gateway = Gateway::start().await;
    let origin = ("origin", "https://evil.example.com");
    let preflight = format!(
        "OPTIONS /api/publish HTTP/1.1\r\nhost: test\r\norigin: {}\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: x-api-key\r\nconnection: close\r\n\r\n",
        origin.1
    );
    let body = json!({"channel": "a", "data": 1}).to_string();
    let answers = [
        ask(&gateway, preflight).await,
        publish_with(&gateway, &[origin, ("x-api-key", API_KEY), JSON], &body).await,
        get(gateway.internal(), "/metrics").await,
        get(gateway.public(), "/ws").await,
    ];
    for answer in answers {
        assert!(!answer.head.to_lowercase().contains("access-control-"), "{}", answer.head);
    }
}

#[tokio::test]
async fn s58_what_a_client_says_makes_no_line_of_its_own_in_the_log() {
    for format in ["json", "text"] {
        let mut process = Process::start(
            &["serve"],
            &[
                ("CLARION__LOG__LEVEL", "trace"),
                ("CLARION__LOG__FORMAT", format),
                ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET),
                ("CLARION__API__KEYS", &json!([API_KEY]).to_string()),
                ("CLARION__PUBLIC__PORT", "0"),
                ("CLARION__INTERNAL__PORT", "0"),
                ("CLARION__DRAIN__DELAY", "0s"),
            ],
        );
        let (public, internal) = process.addresses().await;
        let nasty = "a\r\nINJECTED line\u{1b}[31mred\u{0}\u{7f}\u{85}\u{2028}end";
        let body = json!({"channel": nasty, "user": nasty, "client": nasty, "data": nasty}).to_string();
        for method in ["publish", "subscribe", "unsubscribe", "disconnect", "history", "presence"] {
            post(internal, &format!("/api/{method}"), &[("x-api-key", API_KEY), JSON], &body).await;
        }
        let mut raw = Raw::open(public).await;
        raw.send(upgrade_request(
            "/ws?channels=a%0d%0aINJECTED%1b[31m",
            "user-agent: x\u{1b}[31mINJECTED\r\n",
        ))
        .await;
        raw.answer().await;
        let mut raw = Raw::open(public).await.upgrade("/connection/websocket").await;
        raw.send_text(
            &json!({"id": 1, "connect": {"name": nasty, "version": nasty, "token": nasty}}).to_string(),
        )
        .await;
        raw.rest().await;
        let mut raw = Raw::open(public).await.upgrade("/connection/websocket").await;
        raw.send_frame(0x88, [&1000u16.to_be_bytes()[..], b"bye\r\nINJECTED\x1b[31m"].concat()).await;
        raw.rest().await;
        process.send_signal(rustix::process::Signal::TERM);
        assert_eq!(process.ended().await.code(), Some(0));
        let output = process.output();
        assert!(output.contains("connection closed"), "it writes at `trace`: {output}");
        for line in output.lines() {
            assert!(!line.starts_with("INJECTED"), "{format}: {line}");
            let raw = line.chars().find(|char| char.is_control() && *char != '\t');
            assert_eq!(raw, None, "{format}: {line:?}");
            if format == "json" {
                serde_json::from_str::<HashMap<String, Value>>(line).unwrap_or_else(|_| panic!("{line}"));
            }
        }
    }
}

#[tokio::test]
async fn s59_nothing_that_was_said_comes_back_in_a_header() {
    let gateway = Gateway::start().await;
    let echoes = [
        get(gateway.internal(), "/api/publish%0d%0aset-cookie:%20INJECTED").await,
        get(gateway.public(), "/ws?token=INJECTED&channels=INJECTED%0d%0aset-cookie:%20INJECTED").await,
        publish_with(&gateway, &[("x-api-key", "INJECTED"), ("x-request-id", "INJECTED")], "INJECTED").await,
    ];
    for answer in echoes {
        assert!(!answer.head.contains("INJECTED"), "{}", answer.head);
    }
    let mut raw = Raw::open(gateway.public()).await;
    let path = "/ws?token=INJECTED";
    raw.send(upgrade_request(path, "sec-websocket-protocol: INJECTED\r\norigin: https://INJECTED\r\n")).await;
    let answer = raw.answer().await;
    assert!(!answer.head.contains("INJECTED"), "{}", answer.head);
    let body = json!({"channel": "a", "data": 1}).to_string();
    let answer = publish_with(&gateway, &[("x-api-key", API_KEY), JSON], &body).await;
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn s60_nobody_outside_learns_the_version() {
    let gateway = Gateway::start().await;
    let answers = [
        get(gateway.public(), "/").await,
        get(gateway.public(), "/ws").await,
        get(gateway.internal(), "/readyz").await,
        get(gateway.internal(), "/api/info").await,
    ];
    for answer in answers {
        assert_eq!(answer.header("server"), None);
        let version = env!("CARGO_PKG_VERSION");
        assert!(!format!("{}{}", answer.head, answer.body).contains(version), "{}", answer.head);
    }
}

#[tokio::test]
async fn f64_a_hostile_body_is_refused_by_its_status_and_costs_nobody_else() {
    let gateway = Gateway::start_with(|config| config.api.timeout = std::time::Duration::from_secs(1)).await;
    let head = |rest: &str| {
        format!(
            "POST /api/publish HTTP/1.1\r\nhost: test\r\nx-api-key: {API_KEY}\r\nconnection: close\r\n{rest}\r\n"
        )
    };

    // One byte after the other, for ever: it has the time that a request has, and no more.
    let mut slow = Raw::open(gateway.internal()).await;
    slow.send(head("transfer-encoding: chunked\r\n")).await;
    let (mut answers, mut writer) = slow.split();
    let drip = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        while writer.write_all(b"1\r\n \r\n").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });

    let lie = ask(&gateway, head("content-length: 100\r\n") + r#"{"channel":"a","data":1}"#).await;
    assert_eq!(lie.status, 408, "more was promised than came");
    let short = json!({"channel": "a", "data": "x".repeat(100)}).to_string();
    let lie = ask(&gateway, head("content-length: 20\r\n") + &short).await;
    assert_eq!(lie.status, 400, "less was promised than came");
    let lie = ask(&gateway, head("content-length: 99999999999\r\n")).await;
    assert_eq!(lie.status, 413);
    let key = ("x-api-key", API_KEY);
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = open.repeat(100_000) + "1" + &close.repeat(100_000);
        let body = format!(r#"{{"channel":"a","data":1,"tags":{deep}}}"#);
        assert_eq!(publish_with(&gateway, &[key, JSON], &body).await.status, 400);
    }
    // The bytes would be allowed: what is too much is the number.
    let commands: Vec<Value> = (0..10_000).map(|_| json!({"publish": {"channel": "a", "data": 1}})).collect();
    let batch = json!({ "commands": commands }).to_string();
    assert_eq!(post(gateway.internal(), "/api/batch", &[key, JSON], &batch).await.status, 400);
    let gzip = [key, JSON, ("content-encoding", "gzip")];
    assert_eq!(publish_with(&gateway, &gzip, "\u{1f}not unpacked").await.status, 415);

    let body = within("the slow one to be told", answers.rest()).await;
    assert!(body.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&body));
    drip.abort();
    gateway.serves_honest_clients().await;
    assert_eq!(gateway.metric("clarion_publications_received_total{source=\"api\"}").await, 0.0);
}
