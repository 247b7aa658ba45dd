use std::time::UNIX_EPOCH;

use super::*;
use crate::model::Overrides;
use crate::node::recovery::Since;

#[tokio::test]
async fn subscribe_orders_the_connections_of_a_user() {
    let backend = Backend::new(limits());
    let body = json!({"channel": "chat:a", "user": "42", "data": null, "info": {"a": 1}, "expire_at": 4102444800_u64,
        "override": {"presence": {"value": true}, "join_leave": {}}, "recover_since": {"offset": 7, "epoch": "e"}});
    assert_eq!(backend.call("subscribe", &body).await, done());
    let Some(Control::Order { target: found, order: Order::Subscribe { channel, grant, since } }) =
        backend.control()
    else {
        panic!("no order")
    };
    assert_eq!((found, channel.as_str()), (target("42", None), "chat:a"));
    assert_eq!(grant.data.unwrap().as_bytes(), b"null");
    assert_eq!(grant.info.unwrap().as_bytes(), br#"{"a":1}"#);
    assert_eq!(grant.expires_at, Some(UNIX_EPOCH + Duration::from_secs(4_102_444_800)));
    let overrides = Overrides { presence: Some(true), join_leave: Some(false), ..Overrides::default() };
    assert_eq!(grant.overrides, overrides);
    assert_eq!(since, Some(Since { epoch: "e".into(), offset: 7 }));
    let body = json!({"channel": "a", "client": CLIENT, "b64data": "WzFd"});
    assert_eq!(backend.call("subscribe", &body).await, done());
    let Some(Control::Order { target: found, order: Order::Subscribe { grant, .. } }) = backend.control()
    else {
        panic!("no order")
    };
    // Without a user the anonymous one is meant, not everybody.
    assert_eq!(found, target("", Some(CLIENT)));
    assert_eq!(grant.data.unwrap().as_bytes(), b"[1]");
}

#[tokio::test]
async fn unsubscribe_orders_the_connections_of_a_user() {
    let backend = Backend::new(limits());
    let body = json!({"channel": "a", "user": "42", "client": CLIENT, "session": ""});
    assert_eq!(backend.call("unsubscribe", &body).await, done());
    let Some(Control::Order { target: found, order: Order::Unsubscribe { channel } }) = backend.control()
    else {
        panic!("no order")
    };
    assert_eq!((found, channel.as_str()), (target("42", Some(CLIENT)), "a"));
}

#[tokio::test]
async fn subscriptions_need_a_channel_that_may_exist() {
    let backend = Backend::new(limits());
    for method in ["subscribe", "unsubscribe"] {
        backend.assert_error(method, &json!({"user": "42"}), BAD_REQUEST).await;
        backend.assert_error(method, &json!({"user": "42", "channel": "x:a"}), UNKNOWN_CHANNEL).await;
    }
    backend.assert_error("subscribe", &json!({"channel": "a", "b64data": "*"}), BAD_REQUEST).await;
    assert!(backend.is_idle());
}

#[tokio::test]
async fn who_cannot_exist_is_nobody_and_no_error() {
    let backend = Backend::new(limits());
    for narrow in [
        json!({"client": "not-a-uuid"}),
        json!({"session": "s"}),
        json!({"session": "s", "client": CLIENT}),
        json!({"user": "a\u{202e}b"}),
        json!({"user": "x".repeat(256)}),
    ] {
        let mut body = json!({"channel": "a"});
        body.as_object_mut().unwrap().extend(narrow.as_object().unwrap().clone());
        for method in ["subscribe", "unsubscribe", "disconnect"] {
            assert_eq!(backend.call(method, &body).await, done(), "{method} {body}");
            assert!(backend.is_idle(), "{method} {body}");
        }
    }
}

async fn disconnected(backend: &Backend, body: &Value) -> (Target, u16, String, Vec<ClientId>) {
    assert_eq!(backend.call("disconnect", body).await, done(), "{body}");
    let Some(Control::Disconnect { target, reason, except }) = backend.control() else { panic!("{body}") };
    let CloseReason::Disconnected { code, reason } = reason else { panic!("{reason:?}") };
    (target, code, reason, except.iter().copied().collect())
}

#[tokio::test]
async fn disconnect_has_a_default_and_takes_a_code_a_reason_and_exceptions() {
    let backend = Backend::new(limits());
    let default = |user| (target(user, None), 3503, "force disconnect".to_owned(), Vec::new());
    assert_eq!(disconnected(&backend, &json!({"user": "42"})).await, default("42"));
    assert_eq!(disconnected(&backend, &json!({})).await, default(""));
    assert_eq!(disconnected(&backend, &json!({"user": "42", "disconnect": null})).await, default("42"));
    assert_eq!(disconnected(&backend, &json!({"user": "42", "disconnect": {}})).await, default("42"));
    let body = json!({
        "user": "42",
        "client": CLIENT,
        "disconnect": {"code": 4500, "reason": "banned"},
        "whitelist": [CLIENT, "nobody"],
    });
    let whitelist = vec![ClientId::parse(CLIENT).unwrap()];
    let expected = (target("42", Some(CLIENT)), 4500, "banned".to_owned(), whitelist);
    assert_eq!(disconnected(&backend, &body).await, expected);
}

#[tokio::test]
async fn a_close_must_be_one_that_clients_understand() {
    let backend = Backend::new(limits());
    for (code, reason) in [
        (0, "x"),
        (1000, "x"),
        (2999, "x"),
        (5000, "x"),
        (70_536, "x"),
        (4000, ""),
        (4000, &*"x".repeat(124)),
        (4000, &"é".repeat(62)),
        (4000, r#" {"reason":"x","reconnect":false}"#),
    ] {
        let body = json!({"user": "42", "disconnect": {"code": code, "reason": reason}});
        backend.assert_error("disconnect", &body, BAD_REQUEST).await;
    }
    assert!(backend.is_idle());
    for (code, reason) in [(3000, "x"), (4999, "{not json"), (4000, &*"x".repeat(123))] {
        let body = json!({"user": "42", "disconnect": {"code": code, "reason": reason}});
        assert_eq!(disconnected(&backend, &body).await.1, code);
    }
}
