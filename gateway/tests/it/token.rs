//! Who gets in: tokens through the real handshake, in every place where one may be.

use clarion::config::{Config, Reject};
use clarion::model::Secret;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Answer, Gateway, Raw, SECRET, encode, forge, now, upgrade_request};

const NATIVE: &str = "/connection/websocket";
const OTHER_SECRET: &str = "Zx9qL2mN8vB4cT6yH1jK3pW5rD7fG0sA";

fn header() -> Value {
    json!({"alg": "HS256", "typ": "JWT"})
}

fn claims() -> Value {
    json!({"sub": "bob", "exp": now() + 3600})
}

/// The claims of a good token, but for one.
fn with(name: &str, value: impl Into<Value>) -> String {
    let mut claims = claims();
    claims[name] = value.into();
    signed(&claims.to_string())
}

fn signed(claims: &str) -> String {
    forge(&header(), claims, SECRET)
}

/// A good token, but for its header.
fn headed(header: &Value) -> String {
    forge(header, &claims().to_string(), SECRET)
}

async fn ask(gateway: &Gateway, path: &str, headers: &str) -> Answer {
    let mut raw = Raw::open(gateway.public()).await;
    raw.send(upgrade_request(path, headers)).await;
    raw.answer().await
}

/// The places where a handshake may carry a token, as a path and headers.
fn carriers(token: &str) -> [(String, String); 4] {
    [
        (format!("{NATIVE}?token={token}"), String::new()),
        (format!("/ws?token={token}"), String::new()),
        (NATIVE.into(), format!("authorization: Bearer {token}\r\n")),
        (NATIVE.into(), format!("sec-websocket-protocol: clarion, bearer.{token}\r\n")),
    ]
}

/// What the handshake and the command `connect` make of tokens that are never good.
async fn all_refused(gateway: &Gateway, tokens: &[(&str, String, &str)]) {
    for (what, token, code) in tokens {
        for (path, headers) in carriers(token) {
            let answer = ask(gateway, &path, &headers).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (401, *code),
                "{what}: {path:.30} {headers:.30}"
            );
        }
        let mut raw = Raw::native(gateway).await;
        raw.send_text(&json!({"id": 1, "connect": {"token": token}}).to_string()).await;
        if matches!(*code, "expired" | "not_yet_valid") {
            assert_eq!(raw.next_json().await["error"]["code"], 109, "{what}: the client brings a fresh one");
        } else {
            assert_eq!(raw.close_code().await, 3500, "{what}");
        }
    }
    gateway.serves_honest_clients().await;
}

#[tokio::test]
async fn a_good_token_opens_from_every_place() {
    let gateway = Gateway::start().await;
    for (path, headers) in carriers(&gateway.token("bob")) {
        let answer = ask(&gateway, &path, &headers).await;
        assert_eq!(answer.status, 101, "{path:.30} {headers:.30}");
        let selected = answer.header("sec-websocket-protocol");
        assert_eq!(selected, headers.contains("bearer.").then_some("clarion"), "a token is never selected");
    }
    let answer = ask(&gateway, NATIVE, &format!("authorization: bEaReR {}\r\n", gateway.token("bob"))).await;
    assert_eq!(answer.status, 101, "schemes have no case");
}

#[tokio::test]
async fn what_a_browser_sends_to_a_proxy_before_us_is_no_token() {
    let gateway = Gateway::start().await;
    let basic = "authorization: Basic YW5uOnNlY3JldA==\r\n";
    let path = format!("/ws?token={}", gateway.token("bob"));
    assert_eq!(ask(&gateway, &path, basic).await.status, 101);
    assert_eq!(ask(&gateway, NATIVE, basic).await.status, 101, "its token comes with connect");
    assert_eq!(ask(&gateway, "/ws", basic).await.status, 401, "and it stands for none");
}

#[tokio::test]
async fn a_forged_or_mangled_token_is_refused() {
    let gateway = Gateway::start().await;
    let good = gateway.token("bob");
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (head, body) = message.split_once('.').unwrap();
    let altered =
        format!("{head}.{}.{signature}", encode(&json!({"sub": "eve", "exp": now() + 60}).to_string()));
    let unsigned = |alg: &str| format!("{}.{body}.", encode(&json!({"alg": alg}).to_string()));
    all_refused(
        &gateway,
        &[
            ("signed with another key", forge(&header(), &claims().to_string(), OTHER_SECRET), "bad_token"),
            ("signed with an empty key", forge(&header(), &claims().to_string(), ""), "bad_token"),
            ("alg none", unsigned("none"), "bad_token"),
            ("alg nOnE", unsigned("nOnE"), "bad_token"),
            ("alg none with a good signature", headed(&json!({"alg": "none"})), "bad_token"),
            ("no alg", headed(&json!({"typ": "JWT"})), "bad_token"),
            ("HS512 over a signature of HS256", headed(&json!({"alg": "HS512"})), "algorithm"),
            ("RS256 over a signature of HS256", headed(&json!({"alg": "RS256"})), "algorithm"),
            ("signature cut", good[..good.len() - 1].into(), "bad_token"),
            ("signature altered", format!("{message}.{}", "A".repeat(43)), "bad_token"),
            ("signature empty", format!("{message}."), "bad_token"),
            ("no signature", message.into(), "bad_token"),
            ("four parts", format!("{good}.{signature}"), "bad_token"),
            ("claims altered", altered, "bad_token"),
            ("claims twice the same", signed(r#"{"sub":"bob","sub":"eve","exp":9999999999}"#), "bad_token"),
            ("claims no object", signed("[]"), "bad_token"),
            ("claims too deep", signed(&("[".repeat(1_000) + &"]".repeat(1_000))), "bad_token"),
            ("longer than 4 KiB", with("x", "x".repeat(4_000)), "too_large"),
        ],
    )
    .await;
    for (what, path) in [
        ("padding", format!("{NATIVE}?token={good}%3D")),
        ("a line break after it", format!("{NATIVE}?token={good}%0A")),
        ("a space after it", format!("{NATIVE}?token={good}%20")),
        ("a space before it", format!("{NATIVE}?token=+{good}")),
        ("empty", format!("{NATIVE}?token=")),
    ] {
        let answer = ask(&gateway, &path, "").await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "bad_token"), "{what}");
    }
}

#[tokio::test]
async fn a_header_that_would_change_the_meaning_is_refused() {
    let gateway = Gateway::start().await;
    let header = |name: &str, value: Value| headed(&json!({"alg": "HS256", name: value}));
    all_refused(
        &gateway,
        &[
            ("crit", header("crit", json!(["x"])), "bad_token"),
            ("crit, empty", header("crit", json!([])), "bad_token"),
            ("b64", header("b64", json!(false)), "bad_token"),
            ("typ of an access token", header("typ", json!("at+jwt")), "bad_token"),
            ("kid is a path", header("kid", json!("../../dev/null")), "bad_token"),
            ("kid is a query", header("kid", json!("' OR 1=1 --")), "bad_token"),
            ("kid with a line break", header("kid", json!("a\nb")), "bad_token"),
            ("kid of 1,000 bytes", header("kid", json!("a".repeat(1_000))), "bad_token"),
            ("kid is a number", header("kid", json!(1)), "bad_token"),
        ],
    )
    .await;
    let token = header("kid", json!("any"));
    assert_eq!(ask(&gateway, &format!("{NATIVE}?token={token}"), "").await.status, 101);
}

#[tokio::test]
async fn keys_that_a_token_points_to_are_not_fetched() {
    let gateway = Gateway::start().await;
    let canary = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", canary.local_addr().unwrap());
    let header =
        json!({"alg": "HS256", "jku": url, "x5u": url, "jwk": {"kty": "oct", "k": encode(OTHER_SECRET)}});
    let tokens = [("jku", forge(&header, &claims().to_string(), OTHER_SECRET), "bad_token")];
    all_refused(&gateway, &tokens).await;
    tokio::select! {
        biased;
        _ = canary.accept() => panic!("somebody asked for keys"),
        () = gateway.serves_honest_clients() => {}
    }
}

#[tokio::test]
async fn claims_out_of_their_time_are_refused() {
    let gateway = Gateway::start().await;
    let day = 24 * 60 * 60;
    all_refused(
        &gateway,
        &[
            ("expired", with("exp", now() - 30), "expired"),
            ("no exp", signed(r#"{"sub":"bob"}"#), "claims"),
            ("exp a string", with("exp", (now() + 60).to_string()), "claims"),
            ("exp below zero", with("exp", -1), "claims"),
            ("exp endless", signed(r#"{"sub":"bob","exp":1e300}"#), "claims"),
            ("exp the largest number", with("exp", u64::MAX), "lifetime"),
            ("exp in ten years", with("exp", now() + 3_650 * day), "lifetime"),
            ("nbf in an hour", with("nbf", now() + 3_600), "not_yet_valid"),
            ("nbf a string", with("nbf", (now() - 60).to_string()), "claims"),
            ("iat in an hour", with("iat", now() + 3_600), "not_yet_valid"),
        ],
    )
    .await;
    // In four places each.
    let rejected = async |reason: &str| {
        gateway.metric(&format!("clarion_handshakes_rejected_total{{reason=\"{reason}\"}}")).await
    };
    assert_eq!((rejected("clock").await, rejected("expired").await), (8.0, 4.0));
    assert_eq!(rejected("not_yet_valid").await, 0.0);
    let within_leeway = [with("exp", now() - 1), with("nbf", now() + 2), with("iat", now() + 2)];
    for token in within_leeway {
        assert_eq!(ask(&gateway, &format!("{NATIVE}?token={token}"), "").await.status, 101);
    }
}

#[tokio::test]
async fn claims_about_the_user_and_the_purpose_are_checked() {
    let gateway = Gateway::start_with(|config| {
        config.client.token.audience = Some("clarion".into());
        config.client.token.issuer = Some("app".into());
    })
    .await;
    let with = |name: &str, value: Value| {
        let mut claims = json!({"sub": "bob", "exp": now() + 60, "aud": ["clarion"], "iss": "app"});
        claims[name] = value;
        signed(&claims.to_string())
    };
    all_refused(
        &gateway,
        &[
            ("another audience", with("aud", json!("other")), "claims"),
            ("no audience", with("aud", json!(null)), "claims"),
            ("another issuer", with("iss", json!("app ")), "claims"),
            ("no issuer", with("iss", json!(null)), "claims"),
            ("sub a number", with("sub", json!(42)), "claims"),
            ("sub of 300 bytes", with("sub", json!("x".repeat(300))), "claims"),
            ("sub with a control character", with("sub", json!("bob\u{7}")), "claims"),
            ("sub with a line break", with("sub", json!("bob\r\neve")), "claims"),
            ("sub that reads backwards", with("sub", json!("\u{202e}bob")), "claims"),
            ("for one channel", with("channel", json!("news")), "claims"),
        ],
    )
    .await;
}

#[tokio::test]
async fn two_tokens_are_one_too_many() {
    let gateway = Gateway::start().await;
    let good = gateway.token("bob");
    let bearer = format!("authorization: Bearer {good}\r\n");
    let protocol = format!("sec-websocket-protocol: bearer.{good}\r\n");
    for (path, headers) in [
        (format!("{NATIVE}?token={good}&token={good}"), String::new()),
        (format!("{NATIVE}?token=&token={good}"), String::new()),
        (format!("{NATIVE}?token={good}"), bearer.clone()),
        (format!("/ws?token={good}"), protocol.clone()),
        (NATIVE.into(), bearer.clone() + &protocol),
        (NATIVE.into(), bearer.clone() + &bearer),
    ] {
        let answer = ask(&gateway, &path, &headers).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "two_tokens"), "{headers:.30}");
    }
}

#[tokio::test]
async fn without_a_token_the_bare_form_is_closed_and_the_native_one_waits_for_connect() {
    let gateway = Gateway::start().await;
    let answer = ask(&gateway, "/ws?channels=news", "").await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "no_token"));
    assert_eq!(ask(&gateway, NATIVE, "").await.status, 101);
}

#[tokio::test]
async fn unknown_users_and_bad_signatures_look_the_same() {
    let gateway = Gateway::start().await;
    let ask = async |token: String| {
        let answer = ask(&gateway, &format!("/ws?token={token}"), "").await;
        let head =
            answer.head.lines().filter(|line| !line.starts_with("date")).collect::<Vec<_>>().join("\n");
        (head, answer.body)
    };
    let known = forge(&header(), &json!({"sub": "bob", "exp": now() + 60}).to_string(), OTHER_SECRET);
    let unknown = forge(&header(), &json!({"sub": "nobody", "exp": now() + 60}).to_string(), OTHER_SECRET);
    assert_eq!(ask(known).await, ask(unknown).await);
}

#[tokio::test]
async fn with_reject_close_a_browser_can_read_why() {
    let gateway = Gateway::start_with(|config| config.client.token.reject = Reject::Close).await;
    for (token, code) in [
        ("garbage".to_owned(), 3500),
        (forge(&header(), &claims().to_string(), OTHER_SECRET), 3500),
        (with("exp", now() - 30), 3005),
        (with("nbf", now() + 60), 3005),
    ] {
        for (path, headers) in carriers(&token) {
            let mut raw = Raw::open(gateway.public()).await;
            raw.send(upgrade_request(&path, &headers)).await;
            assert_eq!(raw.answer().await.status, 101, "{path:.30} {headers:.30}");
            assert_eq!(raw.close_code().await, code, "{path:.30} {headers:.30}");
        }
    }
    let rejected = gateway.metric("clarion_handshakes_rejected_total{reason=\"bad_token\"}").await;
    assert_eq!(rejected, 8.0);
    gateway.serves_honest_clients().await;
}

#[tokio::test]
async fn connect_keeps_the_user_of_the_handshake() {
    let gateway = Gateway::start().await;
    let connect = async |command: Value| {
        let path = format!("{NATIVE}?token={}", gateway.token("bob"));
        let mut raw = Raw::open(gateway.public()).await.upgrade(&path).await;
        raw.send_text(&command.to_string()).await;
        raw
    };
    let mut raw = connect(json!({"id": 1, "connect": {"token": gateway.token("eve")}})).await;
    assert_eq!(raw.close_code().await, 3500, "a token of somebody else");
    for command in
        [json!({"id": 1, "connect": {}}), json!({"id": 1, "connect": {"token": gateway.token("bob")}})]
    {
        let mut raw = connect(command).await;
        assert!(raw.next_json().await["connect"]["client"].is_string());
    }
}

#[tokio::test]
async fn tokens_of_the_previous_key_are_good_until_it_is_removed() {
    let rotate = |config: &mut Config| {
        config.client.token.hmac_secret_key = Secret::new(OTHER_SECRET);
        config.client.token.hmac_previous_secret_keys = vec![Secret::new(SECRET)];
    };
    let path = format!("/ws?token={}", signed(&claims().to_string()));
    let rotating = Gateway::start_with(rotate).await;
    assert_eq!(ask(&rotating, &path, "").await.status, 101);
    rotating.serves_honest_clients().await;
    let rotated = Gateway::start_with(|config| {
        rotate(config);
        config.client.token.hmac_previous_secret_keys.clear();
    })
    .await;
    assert_eq!(ask(&rotated, &path, "").await.status, 401);
}

#[tokio::test]
async fn anonymous_clients_have_no_user_and_only_what_is_allowed_to_them() {
    let gateway = Gateway::start_with(|config| {
        config.client.anonymous = true;
        config.channel.namespaces[0].allow_subscribe_for_anonymous = true;
    })
    .await;
    let path = "/ws?channels=read:a,news";
    let mut raw = Raw::open(gateway.public()).await.upgrade(path).await;
    let subs = raw.next_json().await["push"]["connect"]["subs"].take();
    assert_eq!(subs["read:a"], json!({}));
    assert_eq!(subs["news"]["error"]["code"], 103);
}
