use super::*;
use crate::broker::{Draft, Range};
use crate::model::{ClientInfo, Publication, RawJson};

const META_TTL: Duration = Duration::from_secs(720 * 3600);

impl Backend {
    /// Publishes these numbers to the channel and answers the epoch of its history.
    async fn with_kept(self, channel: &str, numbers: std::ops::RangeInclusive<u64>) -> (Self, String) {
        for number in numbers {
            self.call("publish", &json!({"channel": channel, "data": number})).await;
        }
        let epoch = self.epoch(channel).await;
        (self, epoch)
    }

    async fn epoch(&self, channel: &str) -> String {
        let range = Range { limit: Some(0), ..Range::default() };
        let channel = Channel::parse(channel, 255).unwrap();
        let top = self.node.history(&channel, range, META_TTL).await.unwrap().top;
        top.epoch.as_str().to_owned()
    }

    /// The offsets that a call of `history` answers.
    async fn offsets(&self, body: Value) -> Vec<u64> {
        let mut body = body;
        body["channel"] = json!("kept:a");
        let answer = self.call("history", &body).await;
        let publications = answer["result"]["publications"].as_array().expect("always present").clone();
        publications.iter().map(|publication| publication["offset"].as_u64().unwrap()).collect()
    }
}

fn place(offset: u64, epoch: &str) -> Value {
    json!({"result": {"offset": offset, "epoch": epoch}})
}

#[tokio::test]
async fn a_publication_is_answered_with_its_place_and_shown_with_its_offset() {
    let backend = Backend::new(limits()).with_subscriber("kept:a").await;
    let epoch = backend.epoch("kept:a").await;
    for offset in 1..=2 {
        let answer = backend.call("publish", &json!({"channel": "kept:a", "data": 1})).await;
        assert_eq!(answer, place(offset, &epoch));
    }
    let mut deliveries = Vec::new();
    backend.node.inbox(ShardId::new(0)).drain(9, &mut deliveries);
    for (delivery, offset) in deliveries.iter().zip(1..) {
        assert_eq!(delivery.epoch().unwrap().as_str(), epoch);
        assert_eq!(delivery.publications()[0].offset, offset);
    }
    assert_eq!(deliveries.len(), 2);
}

#[tokio::test]
async fn a_broadcast_is_answered_with_each_place() {
    let (backend, _) = Backend::new(limits()).with_kept("kept:a", 1..=3).await;
    let [a, b] = [backend.epoch("kept:a").await, backend.epoch("kept:b").await];
    let body = json!({"channels": ["kept:b", "chat:a", "x:a", "kept:a"], "data": 1});
    let responses = json!([place(1, &b), done(), failure(UNKNOWN_CHANNEL), place(4, &a)]);
    assert_eq!(backend.call("broadcast", &body).await, json!({"result": {"responses": responses}}));
}

#[tokio::test]
async fn a_batch_is_answered_with_each_place() {
    let backend = Backend::new(limits());
    let epoch = backend.epoch("kept:a").await;
    let publish = |channel: &str| json!({"publish": {"channel": channel, "data": 1}});
    let history = json!({"history": {"channel": "kept:a"}});
    let commands = json!([publish("kept:a"), publish("chat:a"), publish("kept:a"), history]);
    let place = |offset| json!({"publish": {"offset": offset, "epoch": epoch}});
    let top = json!({"history": {"publications": [], "epoch": epoch, "offset": 2}});
    let replies = json!([place(1), {"publish": {}}, place(2), top]);
    assert_eq!(backend.call("batch", &json!({ "commands": commands })).await, json!({ "replies": replies }));
}

#[tokio::test]
async fn what_skips_the_history_is_delivered_in_its_turn() {
    let backend = Backend::new(limits()).with_subscriber("kept:a").await;
    let epoch = backend.epoch("kept:a").await;
    let body = json!({"channel": "kept:a", "data": 0, "skip_history": true});
    assert_eq!(backend.call("publish", &body).await, done());
    let publish =
        |data: u32, skip: bool| json!({"publish": {"channel": "kept:a", "data": data, "skip_history": skip}});
    let commands = json!([publish(1, false), publish(2, true), publish(3, true), publish(4, false)]);
    let place = |offset| json!({"publish": {"offset": offset, "epoch": epoch}});
    let replies = json!([place(1), {"publish": {}}, {"publish": {}}, place(2)]);
    assert_eq!(backend.call("batch", &json!({ "commands": commands })).await, json!({ "replies": replies }));
    let pushed: Vec<_> = backend.delivered().into_iter().map(|(_, payloads)| payloads.join(" ")).collect();
    assert_eq!(pushed, ["0", "1", "2 3", "4"]);
    assert_eq!(backend.offsets(json!({"limit": -1})).await, [1, 2]);
    let body = json!({"channels": ["kept:a"], "data": 5, "skip_history": true});
    assert_eq!(backend.call("broadcast", &body).await, json!({"result": {"responses": [done()]}}));
    assert_eq!(backend.offsets(json!({"limit": -1})).await, [1, 2]);
}

#[tokio::test]
async fn a_repeated_key_is_answered_like_the_first_time_and_not_delivered() {
    let backend = Backend::new(limits()).with_subscriber("kept:a").await.with_subscriber("chat:a").await;
    let epoch = backend.epoch("kept:a").await;
    let body = |channel: &str| json!({"channel": channel, "data": 1, "idempotency_key": "k"});
    for _ in 0..2 {
        assert_eq!(backend.call("publish", &body("kept:a")).await, place(1, &epoch));
        assert_eq!(backend.call("publish", &body("chat:a")).await, done());
    }
    let body = json!({"channels": ["kept:a", "kept:b"], "data": 1, "idempotency_key": "k"});
    let b = backend.epoch("kept:b").await;
    let responses = json!([place(1, &epoch), place(1, &b)]);
    assert_eq!(backend.call("broadcast", &body).await, json!({"result": {"responses": responses}}));
    assert_eq!(backend.delivered().len(), 2);
    assert!(backend.received("kept", 2));
    assert!(backend.received("chat", 1));
    // An empty key is none.
    let body = json!({"channel": "kept:a", "data": 1, "idempotency_key": ""});
    assert_eq!(backend.call("publish", &body).await, place(2, &epoch));
    assert_eq!(backend.call("publish", &body).await, place(3, &epoch));
}

#[tokio::test]
async fn an_old_version_is_answered_with_the_top_and_not_delivered() {
    let backend = Backend::new(limits()).with_subscriber("kept:a").await;
    let epoch = backend.epoch("kept:a").await;
    for (version, version_epoch, offset) in [(5, "x", 1), (5, "x", 1), (4, "", 1), (4, "y", 2), (0, "", 3)] {
        let body =
            json!({"channel": "kept:a", "data": 1, "version": version, "version_epoch": version_epoch});
        assert_eq!(backend.call("publish", &body).await, place(offset, &epoch), "{body}");
    }
    assert_eq!(backend.delivered().len(), 3);
    let body = json!({"channels": ["kept:a"], "data": 1, "version": 4, "version_epoch": "y"});
    let responses = json!([place(3, &epoch)]);
    assert_eq!(backend.call("broadcast", &body).await, json!({"result": {"responses": responses}}));
}

#[tokio::test]
async fn without_a_limit_history_is_the_position_alone() {
    let (backend, epoch) = Backend::new(limits()).with_kept("kept:a", 1..=3).await;
    let position = json!({"result": {"publications": [], "epoch": epoch, "offset": 3}});
    for limit in [json!(null), json!(0)] {
        let body = json!({"channel": "kept:a", "limit": limit});
        assert_eq!(backend.call("history", &body).await, position);
    }
    assert_eq!(backend.call("history", &json!({"channel": "kept:a"})).await, position);
    let empty = backend.call("history", &json!({"channel": "kept:b", "limit": -1})).await;
    assert_eq!(empty["result"]["offset"], 0);
    assert_eq!(empty["result"]["publications"], json!([]));
    assert_eq!(empty["result"]["epoch"], backend.epoch("kept:b").await);
}

#[tokio::test]
async fn history_is_read_from_a_place_in_either_direction() {
    let (backend, epoch) = Backend::new(limits()).with_kept("kept:a", 1..=7).await;
    let since = |offset: u64| json!({"offset": offset, "epoch": epoch});
    for (body, expected) in [
        (json!({"limit": -1}), vec![3, 4, 5, 6, 7]),
        (json!({"limit": -5, "reverse": true}), vec![7, 6, 5, 4, 3]),
        (json!({"limit": 2}), vec![3, 4]),
        (json!({"limit": 2, "reverse": true}), vec![7, 6]),
        (json!({"limit": 1000, "since": since(5)}), vec![6, 7]),
        (json!({"limit": -1, "since": since(5), "reverse": true}), vec![4, 3]),
        (json!({"limit": 1, "since": since(1)}), vec![3]),
        (json!({"limit": -1, "since": since(1), "reverse": true}), vec![]),
        (json!({"limit": -1, "since": since(7)}), vec![]),
        (json!({"limit": 1, "since": {"offset": 5}}), vec![6]),
        (json!({"limit": 1, "since": {"offset": 5, "epoch": ""}}), vec![6]),
        (json!({"limit": 1, "since": {}}), vec![3]),
        (json!({"limit": 1, "since": null, "reverse": null}), vec![3]),
    ] {
        assert_eq!(backend.offsets(body.clone()).await, expected, "{body}");
    }
}

#[tokio::test]
async fn a_place_that_is_in_no_history_is_refused() {
    let (backend, epoch) = Backend::new(limits()).with_kept("kept:a", 1..=3).await;
    let body = |limit: i32, since: Value, reverse: bool| json!({"channel": "kept:a", "limit": limit, "since": since, "reverse": reverse});
    for limit in [-1, 0, 1] {
        let other = body(limit, json!({"offset": 1, "epoch": "other"}), false);
        backend.assert_error("history", &other, UNRECOVERABLE).await;
        let before = body(limit, json!({"offset": 0, "epoch": epoch}), true);
        backend.assert_error("history", &before, BAD_REQUEST).await;
    }
    backend.assert_error("history", &body(1, json!({}), true), BAD_REQUEST).await;
    for malformed in [json!({"limit": 1.5}), json!({"since": {"offset": -1}}), json!({"since": 1})] {
        let answered = backend.post("history", malformed.to_string()).await;
        assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{malformed}");
    }
}

#[tokio::test]
async fn a_kept_publication_is_shown_in_full() {
    let backend = Backend::new(limits());
    let body = r#"{"channel": "kept:a", "data": { "a" : 1.0,
        "b":18446744073709551616 }, "tags": {"k": "v"}}"#;
    backend.post("publish", body).await;
    let client = ClientId::parse(CLIENT).unwrap();
    let conn_info = Some(RawJson::parse(br#"{"name":1e3}"#).unwrap());
    let info = ClientInfo { user: UserId::parse("4\"2").unwrap(), client, conn_info, chan_info: None };
    let publication = Publication { info: Some(Box::new(info)), ..Publication::of(RawJson::string("x")) };
    let channel = Channel::parse("kept:a", 255).unwrap();
    let retention = crate::broker::Retention { size: 5, ttl: Duration::from_secs(60), meta_ttl: META_TTL };
    let options =
        crate::broker::PublishOptions { retention: Some(retention), idempotency_ttl: Duration::ZERO };
    backend.node.publish(&channel, vec![Draft::of(publication)], options).await.unwrap();
    let answered = backend.post("history", r#"{"channel":"kept:a","limit":-1}"#).await;
    let publications = concat!(
        r#"[{"data":{ "a" : 1.0,        "b":18446744073709551616 },"offset":1,"tags":{"k":"v"}},"#,
        r#"{"data":"x","info":{"user":"4\"2","client":"6f9d0b2c-7a54-4f0f-9c55-0f2f5f0f7a10","#,
        r#""conn_info":{"name":1e3}},"offset":2}]"#
    );
    let epoch = backend.epoch("kept:a").await;
    let expected = format!(r#"{{"result":{{"publications":{publications},"epoch":"{epoch}","offset":2}}}}"#);
    assert_eq!(answered.body, expected);
}

#[tokio::test]
async fn a_history_that_is_removed_keeps_its_position() {
    let (backend, epoch) = Backend::new(limits()).with_kept("kept:a", 1..=3).await;
    assert_eq!(backend.call("history_remove", &json!({"channel": "kept:a"})).await, done());
    let answer = backend.call("history", &json!({"channel": "kept:a", "limit": -1})).await;
    assert_eq!(answer, json!({"result": {"publications": [], "epoch": epoch, "offset": 3}}));
    let answer = backend.call("publish", &json!({"channel": "kept:a", "data": 1})).await;
    assert_eq!(answer, place(4, &epoch));
}
