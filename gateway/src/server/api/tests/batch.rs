use super::*;

#[tokio::test]
async fn replies_come_in_the_order_of_commands_without_result_around_them() {
    let backend = Backend::new(limits());
    let commands = json!([
        {"publish": {"channel": "a", "data": {}}},
        {"presence_stats": {"channel": "b"}},
        {"broadcast": {"channels": ["a"], "data": 1}},
        {"channels": {}},
        {"unsubscribe": {"channel": "a"}},
    ]);
    let replies = json!([
        {"publish": {}},
        failure(NOT_AVAILABLE),
        {"broadcast": {"responses": [done()]}},
        {"channels": {"channels": {}}},
        {"unsubscribe": {}},
    ]);
    let body = json!({"commands": commands, "parallel": true});
    assert_eq!(backend.call("batch", &body).await, json!({ "replies": replies }));
    assert!(backend.has_metric(r#"clarion_api_requests_total{method="batch",outcome="ok"} 1"#));
}

#[tokio::test]
async fn publications_that_follow_one_another_are_pushed_once_per_channel() {
    let backend = Backend::new(limits()).with_subscriber("a").await.with_subscriber("b").await;
    let publish = |channel: &str, data: u32| json!({"publish": {"channel": channel, "data": data}});
    let commands =
        json!([publish("a", 1), publish("b", 2), publish("x:a", 3), publish("a", 4), publish("b", 5)]);
    let replies =
        json!([{"publish": {}}, {"publish": {}}, failure(UNKNOWN_CHANNEL), {"publish": {}}, {"publish": {}}]);
    assert_eq!(backend.call("batch", &json!({ "commands": commands })).await, json!({ "replies": replies }));
    let pushed = [("a".into(), vec!["1".into(), "4".into()]), ("b".into(), vec!["2".into(), "5".into()])];
    assert_eq!(backend.delivered(), pushed);
    assert!(backend.received("without_namespace", 4));
}

#[tokio::test]
async fn another_command_parts_the_publications_around_it() {
    let backend = Backend::new(limits()).with_subscriber("a").await;
    let publish = |data: u32| json!({"publish": {"channel": "a", "data": data}});
    let broadcast = json!({"broadcast": {"channels": ["a"], "data": 2}});
    let commands = json!([publish(1), broadcast, publish(3), publish(4)]);
    backend.call("batch", &json!({ "commands": commands })).await;
    let payloads: Vec<_> = backend.delivered().into_iter().map(|(_, payloads)| payloads.join(" ")).collect();
    assert_eq!(payloads, ["1", "2", "3 4"]);
}

#[tokio::test]
async fn an_element_that_is_no_command_fails_alone() {
    let backend = Backend::new(limits()).with_subscriber("a").await;
    let commands = json!([
        null,
        {"batch": {"commands": []}},
        {"nope": {}},
        {"publish": null},
        {"publish": {"channel": "a", "data": 1}, "nope": 1},
    ]);
    let not_found = failure(NOT_FOUND);
    let replies = json!([failure(BAD_REQUEST), not_found, not_found, not_found, {"publish": {}}]);
    assert_eq!(backend.call("batch", &json!({ "commands": commands })).await, json!({ "replies": replies }));
    let two = json!({"publish": {"channel": "a", "data": 1}, "info": {}});
    let replies = json!([failure(BAD_REQUEST)]);
    assert_eq!(backend.call("batch", &json!({"commands": [two]})).await, json!({ "replies": replies }));
    assert_eq!(backend.call("batch", &json!({"commands": []})).await, json!({"replies": []}));
    assert_eq!(backend.call("batch", &json!({})).await, json!({"replies": []}));
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_or_is_too_long_does_nothing() {
    let backend = Backend::new(limits()).with_subscriber("a").await;
    let publish = json!({"publish": {"channel": "a", "data": 1}});
    for commands in [
        json!([publish, {"publish": {"channel": 7}}]),
        json!([publish, 1]),
        json!([publish, []]),
        json!({"publish": {}}),
        json!(vec![publish.clone(); 6]),
    ] {
        let answered = backend.post("batch", json!({ "commands": commands }).to_string()).await;
        assert_eq!(
            (answered.status, &*answered.body),
            (StatusCode::BAD_REQUEST, "Bad Request"),
            "{commands}"
        );
    }
    assert!(backend.is_idle());
    let replies = backend.call("batch", &json!({"commands": vec![publish; 5]})).await;
    assert_eq!(replies["replies"].as_array().unwrap().len(), 5);
}
