use axum::body::Body;
use axum::http::request::Builder;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tower::ServiceExt;

use super::*;
use crate::auth::ApiKeys;
use crate::broker::MemoryBroker;
use crate::cluster;
use crate::config::{self, ApiKey, Scope};
use crate::metrics::Metrics;
use crate::model::{Secret, TokenMark, UserId};
use crate::node::{Backends, Control, Dispatch, INBOX_BYTES_MAX, PresenceSettings, ShardId};
use crate::presence::MemoryPresence;

const LIFETIME: Duration = Duration::from_secs(3600);

struct Backend {
    router: Router,
    node: Arc<Node>,
}

fn key(name: &str, scopes: &[Scope]) -> ApiKey {
    ApiKey {
        name: name.into(),
        key: Secret::new(format!("key-{name}")),
        scopes: scopes.into(),
        ..ApiKey::default()
    }
}

fn seconds_from_now(seconds: i64) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

impl Backend {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new());
        let dispatch = Dispatch::new(1, INBOX_BYTES_MAX, Arc::clone(&metrics));
        let backends = Backends {
            broker: Arc::new(MemoryBroker::new(Arc::clone(&dispatch) as _)),
            presence: Arc::new(MemoryPresence::new()),
            presence_settings: PresenceSettings::default(),
            cluster: cluster::Options::alone(Arc::default()),
        };
        let node = Node::new("one".into(), dispatch, backends, metrics, Handle::current());
        let keys = ApiKeys::new(&[key("all", &Scope::ALL), key("shop", &[Scope::Publish])]);
        let config = config::Api { body_bytes_max: 2048, ..config::Api::default() };
        let door = Door { keys, config };
        let router = routes(V1 { node: Arc::clone(&node), door, token_lifetime_max: LIFETIME });
        Self { router, node }
    }

    async fn send(&self, request: Builder, body: &str) -> (StatusCode, axum::http::HeaderMap, String) {
        let request = request.uri("/v1/revocations").body(Body::from(body.to_owned())).unwrap();
        self.send_to(request).await
    }

    async fn send_to(&self, request: Request) -> (StatusCode, axum::http::HeaderMap, String) {
        let Ok(response) = self.router.clone().oneshot(request).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn revoke(&self, body: &Value) -> (StatusCode, Value) {
        let (status, _, body) = self.send(post_json(), &body.to_string()).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    /// The problem with which `body` is refused.
    async fn detail(&self, body: &str) -> String {
        let (status, headers, answer) = self.send(post_json(), body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((&answer["status"], &answer["title"]), (&json!(400), &json!("Bad Request")));
        answer["detail"].as_str().unwrap().to_owned()
    }

    fn is_revoked(&self, user: &str, id: Option<&str>, issued_at: i64) -> bool {
        let issued_at = std::time::UNIX_EPOCH + Duration::from_secs(issued_at.try_into().unwrap());
        let user = UserId::parse(user).unwrap();
        self.node.cluster().revocations().include(&user, TokenMark::new(id, Some(issued_at)))
    }
}

fn post_json() -> Builder {
    Request::post("/").header("x-api-key", "key-all").header(header::CONTENT_TYPE, "application/json")
}

#[tokio::test]
async fn a_revocation_is_in_force_when_it_is_answered() {
    let backend = Backend::new();
    let now = seconds_from_now(0);
    let (status, answer) = backend.revoke(&json!({"token_id": "t-1"})).await;
    assert_eq!((status, &answer["token_id"]), (StatusCode::CREATED, &json!("t-1")));
    let until = answer["expire_at"].as_i64().unwrap();
    assert!((now + 3600..=now + 3610).contains(&until), "as long as a token can be good");
    assert!(backend.is_revoked("ann", Some("t-1"), now) && !backend.is_revoked("ann", Some("t-2"), now));
    let Some(Control::Revoke(_)) = backend.node.inbox(ShardId::new(0)).next_control() else {
        panic!("nobody looks for live connections")
    };
    let body = json!({"user": "ann", "issued_before": now - 10, "expire_at": now + 60});
    assert_eq!(backend.revoke(&body).await, (StatusCode::CREATED, body));
    assert!(backend.is_revoked("ann", None, now - 11) && !backend.is_revoked("ann", None, now - 10));
    assert!(!backend.is_revoked("bob", None, now - 11));
    assert_eq!(backend.revoke(&json!({"issued_before": now - 100})).await.0, StatusCode::CREATED);
    assert!(backend.is_revoked("bob", None, now - 101));
    assert_eq!(backend.revoke(&json!({"user": "bob", "token_id": null})).await.0, StatusCode::CREATED);
    assert!(backend.is_revoked("bob", None, now + 5));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name_and_without_its_value() {
    let backend = Backend::new();
    let (past, far) = (seconds_from_now(-1), seconds_from_now(367 * 24 * 3600));
    for (body, part) in [
        ("{}".to_owned(), "one of `token_id`, `user` and `issued_before`"),
        (r#"{"user":"LEAKCANARY","tokens":1}"#.to_owned(), "unknown field `tokens`"),
        (r#"{"user":"ann","user":"LEAKCANARY"}"#.to_owned(), "`user` is there twice"),
        (r#"{"user":"ann","issued_before":"LEAKCANARY"}"#.to_owned(), "`issued_before` has a value"),
        (r#"{"token_id":8675309}"#.to_owned(), "`token_id` has a value"),
        (r#"{"user":"ann","expire_at":1.5}"#.to_owned(), "`expire_at` has a value"),
        (r#"{"token_id":"t","user":"ann"}"#.to_owned(), "`token_id` stands alone"),
        (r#"{"token_id":"t","issued_before":1}"#.to_owned(), "`token_id` stands alone"),
        (r#"{"token_id":""}"#.to_owned(), "`token_id` must have"),
        (json!({"token_id": "t".repeat(1025)}).to_string(), "`token_id` must have"),
        (r#"{"user":""}"#.to_owned(), "`user` is no user id"),
        (json!({"user": "a\u{202e}b"}).to_string(), "`user` is no user id"),
        (json!({"user": "ann", "expire_at": past}).to_string(), "`expire_at` has passed"),
        (json!({"user": "ann", "expire_at": far}).to_string(), "`expire_at` lies more than"),
        (json!({"user": "ann", "expire_at": u64::MAX}).to_string(), "`expire_at`"),
        (json!({"issued_before": seconds_from_now(3600)}).to_string(), "`issued_before` lies in the future"),
        (r#"["t-1"]"#.to_owned(), "must be a JSON object"),
        (r#"{"user":"ann"} {}"#.to_owned(), "must be one JSON object"),
        ("{LEAKCANARY".to_owned(), "not JSON"),
        (String::new(), "must be a JSON object"),
    ] {
        let detail = backend.detail(&body).await;
        assert!(detail.contains(part), "{body}: {detail}");
        assert!(!detail.contains("LEAKCANARY") && !detail.contains("8675309"), "{detail}");
    }
    let long = backend.detail(&format!(r#"{{"{}":1}}"#, "x".repeat(1_000))).await;
    assert!(long.len() < 200, "{long}");
    assert!(backend.node.cluster().revocations().is_empty());
}

#[tokio::test]
async fn the_key_comes_in_a_header_and_has_the_scope() {
    let backend = Backend::new();
    let body = r#"{"user":"ann"}"#;
    let json = || Request::post("/").header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    for (request, expected) in [
        (json(), StatusCode::UNAUTHORIZED),
        (json().header("x-api-key", "key-al"), StatusCode::UNAUTHORIZED),
        (json().header("authorization", "Basic key-all"), StatusCode::UNAUTHORIZED),
        (json().header("x-api-key", "key-shop"), StatusCode::FORBIDDEN),
        (json().header("x-api-key", "key-all"), StatusCode::CREATED),
        (json().header("authorization", "Bearer key-all"), StatusCode::CREATED),
        (json().header("authorization", "apikey key-all"), StatusCode::CREATED),
    ] {
        let (status, headers, _) = backend.send(request, body).await;
        assert_eq!(status, expected);
        let challenge = headers.contains_key(header::WWW_AUTHENTICATE);
        assert_eq!(challenge, status == StatusCode::UNAUTHORIZED);
    }
    let in_query = json().uri("/v1/revocations?api_key=key-all").body(Body::from(body)).unwrap();
    assert_eq!(backend.send_to(in_query).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn other_verbs_kinds_and_sizes_have_their_statuses() {
    let backend = Backend::new();
    let all = |request: Builder| request.header("x-api-key", "key-all");
    for (request, body, expected) in [
        (all(Request::get("/")), "", StatusCode::METHOD_NOT_ALLOWED),
        (all(Request::post("/")), "{}", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (
            all(Request::post("/")).header(header::CONTENT_TYPE, "text/plain"),
            "{}",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (post_json(), &*" ".repeat(2049), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let (status, headers, answer) = backend.send(request, body).await;
        assert_eq!(status, expected);
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(headers.get(header::ALLOW).is_some(), status == StatusCode::METHOD_NOT_ALLOWED);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], status.as_u16());
    }
}

/// What a request can come to, but for another verb: that is none of an operation.
const PROBLEMS: [StatusCode; 8] = [
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::INSUFFICIENT_STORAGE,
];

#[tokio::test]
async fn the_description_has_every_route_and_every_answer() {
    let backend = Backend::new();
    let request = Request::get("/openapi.json").body(Body::empty()).unwrap();
    let (status, headers, text) = backend.send_to(request).await;
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    let openapi: Value = serde_json::from_str(&text).unwrap();
    let paths = openapi["paths"].as_object().unwrap();
    let routes = regex::Regex::new(r#"\.route\("(/v1/[^"]+)""#).unwrap();
    let routes: Vec<_> =
        routes.captures_iter(include_str!("../v1.rs")).map(|found| found[1].to_owned()).collect();
    assert_eq!(paths.keys().cloned().collect::<Vec<_>>(), routes);
    for (path, operations) in paths {
        for (verb, operation) in operations.as_object().unwrap() {
            let request = Request::builder().method(&*verb.to_uppercase()).uri(path);
            let (status, ..) = backend.send_to(request.body(Body::empty()).unwrap()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{verb} {path} is served, to who has a key");
            let described =
                operation["responses"].as_object().unwrap().keys().filter(|status| status.as_str() >= "400");
            let known: Vec<_> = PROBLEMS.iter().map(|status| status.as_str()).collect();
            assert_eq!(described.collect::<Vec<_>>(), known);
        }
    }
}

#[tokio::test]
async fn the_description_has_the_fields_that_there_are_and_its_examples_are_taken() {
    let backend = Backend::new();
    let openapi: Value = serde_json::from_str(OPENAPI).unwrap();
    let fields = openapi["components"]["schemas"]["Revocation"]["properties"].as_object().unwrap();
    let unknown = backend.detail(r#"{"nothing":1}"#).await;
    for field in fields.keys() {
        assert!(unknown.contains(&format!("`{field}`")), "{unknown} lacks {field}");
    }
    assert_eq!(unknown.matches('`').count() / 2, fields.len() + 1, "{unknown}");
    let content = &openapi["paths"]["/v1/revocations"]["post"]["requestBody"]["content"];
    let examples = content["application/json"]["examples"].as_object().unwrap();
    assert!(examples.len() > 2);
    for (name, example) in examples {
        let (status, answer) = backend.revoke(&example["value"]).await;
        assert_eq!(status, StatusCode::CREATED, "{name}: {answer}");
        assert!(answer.as_object().unwrap().keys().all(|field| fields.contains_key(field)), "{answer}");
        assert!(answer["expire_at"].is_u64(), "{answer}");
    }
}
