use super::*;

fn backend() -> Backend {
    let mut config = limits();
    config.insecure = false;
    Backend::new(config)
}

async fn status_with(backend: &Backend, header: &[(&str, &str)], query: &str) -> StatusCode {
    let mut request = post_to(&format!("info{query}"));
    for (name, value) in header {
        request = request.header(*name, *value);
    }
    // The empty body is refused, but only from somebody who may ask.
    backend.send(request.body(Body::empty()).unwrap()).await.status
}

#[tokio::test]
async fn a_key_is_taken_from_three_places() {
    let backend = backend();
    for (headers, query) in [
        (&[("x-api-key", "key-all")][..], ""),
        (&[("authorization", "apikey key-all")], ""),
        (&[("authorization", "ApiKey key-all")], ""),
        (&[("x-api-key", ""), ("authorization", "apikey key-all")], ""),
        (&[], "?a=b&api_key=key%2Dall"),
        (&[("x-api-key", "wrong")], "?api_key=key-all"),
    ] {
        let status = status_with(&backend, headers, query).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{headers:?} {query}");
    }
}

#[tokio::test]
async fn without_a_key_nobody_is_let_in() {
    let backend = backend();
    for (headers, query) in [
        (&[][..], ""),
        (&[("x-api-key", "")], ""),
        (&[("x-api-key", "key-al")], ""),
        (&[("authorization", "key-all")], ""),
        (&[("authorization", "bearer key-all")], ""),
        (&[("x-api-key", "wrong"), ("authorization", "apikey key-all")], ""),
        (&[], "?api_key="),
        (&[], "?key=key-all"),
    ] {
        let status = status_with(&backend, headers, query).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{headers:?} {query}");
    }
    let answered = backend.post("info", "{}").await;
    assert_eq!((answered.status, &*answered.body), (StatusCode::UNAUTHORIZED, ""));
    assert_eq!(answered.headers[header::WWW_AUTHENTICATE], "apikey");
    assert!(backend.is_idle());
}

#[tokio::test]
async fn insecure_asks_for_no_key() {
    let backend = Backend::new(limits());
    assert_eq!(backend.call("publish", &json!({"channel": "a", "data": 1})).await, done());
}

#[tokio::test]
async fn a_key_may_do_what_its_scopes_say_and_no_more() {
    let backend = backend();
    for method in Method::ALL {
        let request = post_to(method.name()).header("x-api-key", "key-shop").body("{}".into()).unwrap();
        let answered = backend.send(request).await;
        if matches!(method, Method::Publish | Method::Broadcast) {
            assert_eq!(answered.json(), failure(BAD_REQUEST), "{method:?}");
        } else {
            assert_eq!((answered.status, &*answered.body), (StatusCode::FORBIDDEN, ""), "{method:?}");
        }
    }
    assert!(backend.is_idle());
}

#[test]
fn each_method_has_its_scope() {
    let scopes = Method::ALL.map(|method| (method.name(), method.scope()));
    let expected = [
        ("publish", Scope::Publish),
        ("broadcast", Scope::Publish),
        ("subscribe", Scope::Subscribe),
        ("unsubscribe", Scope::Subscribe),
        ("disconnect", Scope::Control),
        ("refresh", Scope::Control),
        ("presence", Scope::Presence),
        ("presence_stats", Scope::Presence),
        ("history", Scope::History),
        ("history_remove", Scope::History),
        ("channels", Scope::Info),
        ("info", Scope::Info),
        ("rpc", Scope::Info),
    ];
    assert_eq!(scopes, expected);
}

#[tokio::test]
async fn in_a_batch_each_command_needs_its_own_scope() {
    let backend = backend().with_subscriber("a").await;
    let commands = json!([
        {"disconnect": {"user": "42"}},
        {"publish": {"channel": "a", "data": 1}},
        {"info": {}},
    ]);
    let body = json!({ "commands": commands }).to_string();
    let request = post_to("batch").header("x-api-key", "key-shop").body(body.into()).unwrap();
    let denied = failure((103, "permission denied"));
    assert_eq!(backend.send(request).await.json(), json!({"replies": [denied, {"publish": {}}, denied]}));
    assert!(backend.control().is_none());
    assert_eq!(backend.delivered(), [("a".into(), vec!["1".into()])]);
}
