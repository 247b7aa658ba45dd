use std::collections::HashSet;

use super::*;

#[tokio::test]
async fn channels_are_listed_by_glob_with_their_subscribers() {
    let mut backend = Backend::new(limits());
    for channel in ["chat:a", "chat:a", "chat:*", "news"] {
        backend = backend.with_subscriber(channel).await;
    }
    let listed = |channels: Value| json!({"result": {"channels": channels}});
    let all = json!({"chat:a": {"num_clients": 2}, "chat:*": {"num_clients": 1}, "news": {"num_clients": 1}});
    assert_eq!(backend.call("channels", &json!({})).await, listed(all));
    let starred = json!({"chat:*": {"num_clients": 1}});
    assert_eq!(backend.call("channels", &json!({"pattern": "chat:[*]"})).await, listed(starred));
    assert_eq!(backend.call("channels", &json!({"pattern": "x"})).await, listed(json!({})));
    for bad in ["[", "{a"] {
        backend.assert_error("channels", &json!({"pattern": bad}), BAD_REQUEST).await;
    }
}

#[tokio::test]
async fn info_describes_the_node() {
    let backend = Backend::new(limits()).with_subscriber("a").await.with_subscriber("a").await;
    let user = UserId::parse("42").unwrap();
    for _ in 0..3 {
        assert!(backend.node.client_opened(&user, ClientId::random(), 0));
    }
    backend.node.client_closed(&user, ClientId::random());
    let body = json!({});
    let shard = async {
        backend.node.inbox(ShardId::new(0)).queued().await;
        while let Some(control) = backend.control() {
            let Control::Users(answer) = control else { continue };
            let users = ["41", "42", ""].map(|user| UserId::parse(user).unwrap());
            answer.send(HashSet::from(users)).unwrap();
        }
    };
    let (answer, ()) = tokio::join!(backend.call("info", &body), shard);
    let mut info = answer["result"]["nodes"][0].clone();
    let process = info.as_object_mut().unwrap().remove("process").unwrap();
    assert!(process["rss"].as_u64().unwrap() > 0);
    let expected = json!({
        "uid": backend.node.id().to_string(),
        "name": "one",
        "version": env!("CARGO_PKG_VERSION"),
        "num_clients": 2,
        "num_users": 3,
        "num_channels": 1,
        "num_subs": 2,
        "uptime": 0,
    });
    assert_eq!(info, expected);
}
