use std::time::Duration;

use super::*;

#[tokio::test]
async fn other_verbs_are_405_and_other_methods_404() {
    let backend = Backend::new(limits());
    for verb in [Verb::GET, Verb::HEAD, Verb::PUT, Verb::OPTIONS] {
        let request = post_to("publish").method(verb.clone()).body(Body::empty()).unwrap();
        let answered = backend.send(request).await;
        assert_eq!(answered.status, StatusCode::METHOD_NOT_ALLOWED, "{verb}");
        assert_eq!(answered.headers[header::ALLOW], "POST");
        assert!(!answered.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    }
    for method in ["map_publish", "Publish", "", "publish/", "../publish"] {
        assert_eq!(backend.post(method, "{}").await.status, StatusCode::NOT_FOUND, "{method}");
    }
}

#[tokio::test]
async fn what_is_not_a_request_is_400() {
    let backend = Backend::new(limits()).with_subscriber("a").await;
    let deep = format!(r#"{{"channel":"a","data":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    let bodies: [&[u8]; 12] = [
        b"",
        b"nope",
        b"[]",
        br#"["a"]"#,
        b"null",
        br#"{"channel":"a","data":1"#,
        br#"{"channel":"a","data":1}{}"#,
        br#"{"channel":7,"data":1}"#,
        br#"{"channel":"a","data":1,"tags":{"x":1}}"#,
        br#"{"channel":"a","channel":"a","data":1}"#,
        b"{\"channel\":\"a\",\"data\":\"\xff\"}",
        deep.as_bytes(),
    ];
    for body in bodies {
        let answered = backend.post("publish", body.to_vec()).await;
        let shown = String::from_utf8_lossy(body);
        assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{shown:.60}");
        assert_eq!(answered.body, "Bad Request", "{shown:.60}");
    }
    for method in Method::ALL {
        assert_eq!(backend.post(method.name(), "x").await.status, StatusCode::BAD_REQUEST, "{method:?}");
    }
    assert!(backend.is_idle());
    assert!(backend.has_metric(r#"clarion_api_requests_total{method="publish",outcome="malformed"} 13"#));
}

#[tokio::test]
async fn a_body_has_a_limit() {
    let backend = Backend::new(limits());
    let body = |bytes: usize| json!({"channel": "a", "data": "x".repeat(bytes)}).to_string();
    let overhead = body(0).len();
    assert_eq!(backend.post("publish", body(8192 - overhead)).await.status, StatusCode::OK);
    let answered = backend.post("publish", body(8193 - overhead)).await;
    assert_eq!(answered.status, StatusCode::PAYLOAD_TOO_LARGE);
}

/// A body that never ends.
struct Endless;

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_408() {
    let backend = Backend::new(limits());
    let answered = backend.post("publish", Body::new(Endless)).await;
    assert_eq!(answered.status, StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_method_that_takes_too_long_is_503() {
    let mut config = limits();
    config.timeout = Duration::from_millis(500);
    let backend = Backend::new(config);
    // Nobody drains the inbox of the shard, so it is never said who is connected.
    for (method, body) in [("info", json!({})), ("batch", json!({"commands": [{"info": {}}]}))] {
        let answered = backend.post(method, body.to_string()).await;
        assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answered.headers[header::RETRY_AFTER], "1");
        assert_eq!(answered.json(), failure(INTERNAL));
    }
}

#[tokio::test]
async fn in_transport_mode_the_status_says_what_failed() {
    let backend = Backend::new(limits());
    for (method, body, status, (code, message)) in [
        ("publish", json!({"channel": "x:a", "data": 1}), 404, UNKNOWN_CHANNEL),
        ("publish", json!({"channel": "", "data": 1}), 400, BAD_REQUEST),
        ("history", json!({"channel": "a"}), 400, NOT_AVAILABLE),
        ("rpc", json!({"method": "x"}), 404, NOT_FOUND),
        ("history", json!({"channel": "kept:a", "since": {"epoch": "x"}}), 416, UNRECOVERABLE),
    ] {
        let request = post_to(method).header("x-centrifugo-error-mode", "transport");
        let answered = backend.send(request.body(body.to_string().into()).unwrap()).await;
        assert_eq!(answered.status, status, "{method} {body}");
        assert_eq!(answered.json(), json!({"code": code, "message": message}));
    }
    let request = post_to("publish").header("x-centrifugo-error-mode", "transport");
    let body = json!({"channel": "a", "data": 1}).to_string();
    assert_eq!(backend.send(request.body(body.into()).unwrap()).await.json(), done());
    let request = post_to("batch").header("x-centrifugo-error-mode", "transport");
    let answered = backend.send(request.body(r#"{"commands":[{"x":{}}]}"#.into()).unwrap()).await;
    assert_eq!(
        (answered.status, answered.json()),
        (StatusCode::OK, json!({"replies": [failure(NOT_FOUND)]}))
    );
}

#[tokio::test]
async fn every_answer_forbids_sniffing_and_allows_no_origin() {
    let backend = Backend::new(limits());
    for body in ["{}", "nope", r#"{"channel":"a","data":1}"#] {
        let request = post_to("publish").header("origin", "https://evil.example");
        let answered = backend.send(request.body(body.into()).unwrap()).await;
        assert_eq!(answered.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(!answered.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        assert!(!answered.headers.contains_key(header::SERVER));
    }
}

#[tokio::test]
async fn what_is_off_says_so_once_its_channel_is_known() {
    let backend = Backend::new(limits());
    for method in ["presence", "presence_stats", "history", "history_remove"] {
        backend.assert_error(method, &json!({}), BAD_REQUEST).await;
        backend.assert_error(method, &json!({"channel": "x:a"}), UNKNOWN_CHANNEL).await;
        backend.assert_error(method, &json!({"channel": "chat:a"}), NOT_AVAILABLE).await;
    }
    backend.assert_error("rpc", &json!({"params": {}}), BAD_REQUEST).await;
    backend.assert_error("rpc", &json!({"method": "x"}), NOT_FOUND).await;
}
