//! What must not be seen: tokens and payloads, in anything that the node writes or answers.

use serde_json::json;

use crate::support::{Process, Raw, SECRET, config, encode, forge, get, now, sign_claims, upgrade_request};

const CANARY: &str = "LEAKCANARY";
const API_KEY: &str = "LEAKCANARY-api-key-of-the-node";

/// A node that writes everything it ever would.
fn talkative() -> Process {
    Process::start(
        &["serve"],
        &[
            ("CLARION__LOG__LEVEL", "trace"),
            ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET),
            ("CLARION__API__KEYS", &json!([API_KEY]).to_string()),
            ("CLARION__PUBLIC__ADDRESS", "127.0.0.1"),
            ("CLARION__PUBLIC__PORT", "0"),
            ("CLARION__INTERNAL__PORT", "0"),
            ("CLARION__CHANNEL__WITHOUT_NAMESPACE__ALLOW_SUBSCRIBE_FOR_CLIENT", "true"),
            ("CLARION__CHANNEL__WITHOUT_NAMESPACE__ALLOW_PUBLISH_FOR_CLIENT", "true"),
        ],
    )
}

fn assert_clean(what: &str, text: &str) {
    let at = text.find(CANARY).or_else(|| text.find(&encode(CANARY)));
    assert_eq!(at, None, "{what}: {text}");
}

#[tokio::test]
async fn bad_tokens_are_seen_nowhere() {
    let mut process = talkative();
    let (public, internal) = process.addresses().await;
    let exp = now() + 60;
    let tokens = [
        format!("{CANARY}-token"),
        format!("{CANARY}.{CANARY}.{CANARY}"),
        forge(&json!({"alg": "HS256", "kid": format!("{CANARY}!")}), &format!(r#"{{"exp":{exp}}}"#), SECRET),
        forge(&json!({"alg": CANARY}), "{}", SECRET),
        forge(&json!({"alg": "HS256"}), &format!(r#"{{"sub":"{CANARY}\n","exp":{exp}}}"#), SECRET),
        forge(&json!({"alg": "HS256"}), &format!(r#"{{"sub":"{CANARY}","exp":1}}"#), SECRET),
        forge(&json!({"alg": "HS256"}), &format!(r#"{{"sub":"{CANARY}","exp":{exp}}}"#), CANARY),
    ];
    for token in &tokens {
        for (path, headers) in [
            (format!("/connection/websocket?token={token}"), String::new()),
            (format!("/ws?token={token}&channels={CANARY}"), String::new()),
            ("/ws".into(), format!("authorization: Bearer {token}\r\n")),
            ("/ws".into(), format!("sec-websocket-protocol: bearer.{token}\r\n")),
            (format!("/ws?token={token}&token={token}"), String::new()),
        ] {
            let mut raw = Raw::open(public).await;
            raw.send(upgrade_request(&path, &headers)).await;
            let answer = raw.answer().await;
            assert!(answer.status == 401 || answer.status == 400, "{}", answer.head);
            assert_clean("refusal", &format!("{answer:?}"));
        }
        let mut raw = Raw::open(public).await.upgrade("/connection/websocket").await;
        raw.send_text(&json!({"id": 1, "connect": {"token": token}}).to_string()).await;
        let close = raw.next_frame().await.expect("it is told why");
        assert_clean("close", &String::from_utf8_lossy(&close.payload));
    }
    assert_clean("metrics", &get(internal, "/metrics").await.body);
    assert_clean("logs", &process.output());
    process.send_signal(rustix::process::Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
    assert_clean("logs", &process.output());
}

#[tokio::test]
async fn good_tokens_payloads_and_keys_are_not_written() {
    let mut process = talkative();
    let (public, internal) = process.addresses().await;
    let claims = json!({"sub": format!("{CANARY}-user"), "info": {"name": CANARY}, "exp": now() + 60});
    let token = sign_claims(&config(), &claims);
    let path = format!("/ws?token={token}&channels={CANARY}-channel");
    let mut raw = Raw::open(public).await.upgrade(&path).await;
    raw.next_json().await;
    let publish = json!({"publish": {"channel": format!("{CANARY}-channel"), "data": CANARY}});
    raw.send_text(&publish.to_string()).await;
    assert!(raw.next_json().await["push"]["pub"].is_object());
    let body = json!({"channel": format!("{CANARY}-channel"), "data": CANARY}).to_string();
    let answer = crate::support::post(internal, "/api/publish", &[("x-api-key", API_KEY)], &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_clean("answer of the API", &format!("{answer:?}"));
    raw.next_json().await;
    for (header, key) in
        [("x-api-key", format!("{CANARY}-wrong")), ("authorization", format!("apikey {CANARY}"))]
    {
        let answer = crate::support::post(internal, "/api/publish", &[(header, &key)], &body).await;
        assert_eq!(answer.status, 401);
        assert_clean("refusal of the API", &format!("{answer:?}"));
    }
    raw.send_frame(0x88, [&1000u16.to_be_bytes()[..], CANARY.as_bytes()].concat()).await;
    raw.rest().await;
    assert_clean("metrics", &get(internal, "/metrics").await.body);
    process.send_signal(rustix::process::Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
    let output = process.output();
    assert!(output.contains("connection closed"), "the node writes at `trace`: {output}");
    assert_clean("logs", &output);
}
