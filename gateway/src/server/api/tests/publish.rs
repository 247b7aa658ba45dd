use super::*;

#[tokio::test]
async fn a_publication_reaches_subscribers_as_it_was_written() {
    let backend = Backend::new(limits()).with_subscriber("chat:a").await;
    for (data, expected) in [
        (r#"{ "a" : 1.0, "b":1e3,"c":18446744073709551616 }"#, None),
        ("null", None),
        (r#""\ud83d\ude00 é""#, None),
        ("[1,\n2]", Some("[1,2]")),
    ] {
        let body = format!(r#"{{"data":{data},"channel":"chat:a","unknown":[1]}}"#);
        assert_eq!(backend.post("publish", body).await.json(), done());
        let expected = expected.unwrap_or(data).to_owned();
        assert_eq!(backend.delivered(), [("chat:a".into(), vec![expected])]);
    }
    assert!(backend.received("chat", 4));
    assert!(backend.has_metric(r#"clarion_api_requests_total{method="publish",outcome="ok"} 4"#));
}

#[tokio::test]
async fn tags_are_kept() {
    let backend = Backend::new(limits()).with_subscriber("a").await;
    let body =
        json!({"channel": "a", "data": {}, "tags": {"k": "v"}, "idempotency_key": null, "b64data": null});
    assert_eq!(backend.call("publish", &body).await, done());
    let mut deliveries = Vec::new();
    backend.node.inbox(ShardId::new(0)).drain(1, &mut deliveries);
    assert_eq!(deliveries[0].publications()[0].tags, BTreeMap::from([("k".into(), "v".into())]));
    assert!(deliveries[0].publications()[0].info.is_none());
}

#[tokio::test]
async fn bytes_take_precedence_and_need_not_be_json() {
    let backend = Backend::new(limits()).with_subscriber("a").await;
    let body = json!({"channel": "a", "data": 1, "b64data": "eyJhIjoxfQ=="});
    assert_eq!(backend.call("publish", &body).await, done());
    assert_eq!(backend.delivered(), [("a".into(), vec![r#"{"a":1}"#.into()])]);
    assert_eq!(backend.call("publish", &json!({"channel": "a", "b64data": "AAEC"})).await, done());
    let mut deliveries = Vec::new();
    backend.node.inbox(ShardId::new(0)).drain(1, &mut deliveries);
    assert_eq!(deliveries[0].publications()[0].data.as_bytes(), [0, 1, 2]);
    backend.node.inbox(ShardId::new(0)).release(deliveries[0].cost_bytes);
    for bad in ["eyJhIjoxfQ", "*"] {
        backend.assert_error("publish", &json!({"channel": "a", "b64data": bad}), BAD_REQUEST).await;
    }
    assert!(backend.is_idle());
}

#[tokio::test]
async fn a_connection_can_be_excluded() {
    let backend = Backend::new(limits()).with_subscriber("a").await;
    let body = json!({"channel": "a", "data": 1, "exclude_client": CLIENT});
    assert_eq!(backend.call("publish", &body).await, done());
    let mut deliveries = Vec::new();
    backend.node.inbox(ShardId::new(0)).drain(1, &mut deliveries);
    let client = ClientId::parse(CLIENT).unwrap();
    assert_eq!(deliveries[0].publications()[0].exclude.as_deref(), Some(&client));
    let body = json!({"channels": ["a"], "data": 1, "exclude_client": CLIENT});
    backend.call("broadcast", &body).await;
    let mut deliveries = Vec::new();
    backend.node.inbox(ShardId::new(0)).drain(1, &mut deliveries);
    assert!(!deliveries[0].publications()[0].is_for(client));
    let body = json!({"channel": "a", "data": 1, "exclude_client": "nobody"});
    backend.assert_error("publish", &body, BAD_REQUEST).await;
}

#[tokio::test]
async fn a_publication_that_cannot_be_is_refused() {
    let backend = Backend::new(limits());
    backend.assert_error("publish", &json!({"channel": "a"}), BAD_REQUEST).await;
    backend.assert_error("publish", &json!({"data": 1}), BAD_REQUEST).await;
    backend.assert_error("publish", &json!({"channel": null, "data": 1}), BAD_REQUEST).await;
    backend.assert_error("publish", &json!({"channel": "a b", "data": 1}), BAD_REQUEST).await;
    backend.assert_error("publish", &json!({"channel": "é", "data": 1}), BAD_REQUEST).await;
    backend.assert_error("publish", &json!({"channel": "x".repeat(256), "data": 1}), BAD_REQUEST).await;
    backend.assert_error("publish", &json!({"channel": "x:a", "data": 1}), UNKNOWN_CHANNEL).await;
    assert!(backend.received("without_namespace", 0));
    assert!(backend.has_metric(r#"clarion_api_requests_total{method="publish",outcome="107"} 6"#));
}

/// A node that has half of its inbox taken.
async fn overloaded() -> Backend {
    let backend = Backend::with_inbox(limits(), 2_000).with_subscriber("a").await;
    let body = json!({"channel": "a", "data": "x".repeat(1_000)});
    assert_eq!(backend.call("publish", &body).await, done());
    backend
}

#[tokio::test]
async fn an_overloaded_node_says_when_to_come_back() {
    let backend = overloaded().await;
    let answered = backend.post("publish", r#"{"channel":"b","data":1}"#).await;
    assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answered.headers[header::RETRY_AFTER], "1");
    assert_eq!(answered.json(), failure(INTERNAL));
    let body = json!({"channels": ["b", "x:a"], "data": 1});
    let responses = json!([failure(INTERNAL), failure(UNKNOWN_CHANNEL)]);
    assert_eq!(backend.call("broadcast", &body).await, json!({"result": {"responses": responses}}));
    let publish = |channel: &str| json!({"publish": {"channel": channel, "data": 1}});
    let body = json!({"commands": [publish("x:a"), publish("b"), publish("c"), publish("b")]});
    let replies = [UNKNOWN_CHANNEL, INTERNAL, INTERNAL, INTERNAL].map(failure);
    assert_eq!(backend.call("batch", &body).await, json!({ "replies": replies }));
    assert!(backend.received("without_namespace", 1));
    let failed = r#"clarion_publications_failed_total{channel_namespace="without_namespace",reason="busy",source="api"}"#;
    assert!(backend.has_metric(&format!("{failed} 5")));
    let answered =
        r#"clarion_publish_duration_seconds_count{channel_namespace="without_namespace",source="api"}"#;
    assert!(backend.has_metric(&format!("{answered} 5")));
}

#[tokio::test]
async fn a_broadcast_answers_for_each_channel_in_order() {
    let backend = Backend::new(limits()).with_subscriber("a").await.with_subscriber("chat:b").await;
    let body = json!({"channels": ["chat:b", "missing:b", "", "a", "none"], "data": {"n": 1}});
    let responses = json!([done(), failure(UNKNOWN_CHANNEL), failure(BAD_REQUEST), done(), done()]);
    assert_eq!(backend.call("broadcast", &body).await, json!({"result": {"responses": responses}}));
    let payload = vec![r#"{"n":1}"#.to_owned()];
    assert_eq!(backend.delivered(), [("chat:b".into(), payload.clone()), ("a".into(), payload)]);
    assert!(backend.received("without_namespace", 2));
    assert!(backend.received("chat", 1));
}

#[tokio::test]
async fn a_broadcast_needs_channels_and_data() {
    let backend = Backend::new(limits());
    for body in [json!({"channels": [], "data": 1}), json!({"data": 1})] {
        backend.assert_error("broadcast", &body, BAD_REQUEST).await;
    }
    let refused = json!({"result": {"responses": [{"error": {"code": 107, "message": "bad request"}}]}});
    assert_eq!(backend.call("broadcast", &json!({"channels": ["a"]})).await, refused);
}
