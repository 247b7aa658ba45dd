use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::Method as Verb;
use axum::http::request::Builder;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tower::ServiceExt;

use super::*;
use crate::auth::Authority;
use crate::broker::MemoryBroker;
use crate::config::{ApiKey, Channels, NamespaceId, Scope};
use crate::metrics::Metrics;
use crate::model::{Channel, ClientId, CloseReason, Secret, UserId};
use crate::node::{
    Backends, Control, Dispatch, INBOX_BYTES_MAX, Interest, Order, PresenceSettings, ShardId, Target,
};
use crate::presence::MemoryPresence;

const CLIENT: &str = "6f9d0b2c-7a54-4f0f-9c55-0f2f5f0f7a10";
/// Message of each error code, as the reference gives them.
const BAD_REQUEST: (u16, &str) = (107, "bad request");
const UNKNOWN_CHANNEL: (u16, &str) = (102, "unknown channel");
const NOT_FOUND: (u16, &str) = (104, "not found");
const NOT_AVAILABLE: (u16, &str) = (108, "not available");
const UNRECOVERABLE: (u16, &str) = (112, "unrecoverable position");
const INTERNAL: (u16, &str) = (100, "internal server error");

/// The API on a node of one shard, which nobody drains but the test.
struct Backend {
    router: Router,
    node: Arc<Node>,
    interests: Vec<Interest>,
}

/// What a request was answered.
struct Answered {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/json");
        serde_json::from_str(&self.body).unwrap()
    }
}

fn limits() -> config::Api {
    config::Api { insecure: true, body_bytes_max: 8192, batch_max: 5, ..config::Api::default() }
}

fn keys() -> ApiKeys {
    let key = |name: &str, scopes: &[Scope]| ApiKey {
        name: name.into(),
        key: Secret::new(format!("key-{name}")),
        scopes: scopes.into(),
        ..ApiKey::default()
    };
    ApiKeys::new(&[key("all", &Scope::ALL), key("shop", &[Scope::Publish])])
}

impl Backend {
    fn new(config: config::Api) -> Self {
        Self::with_inbox(config, INBOX_BYTES_MAX)
    }

    fn with_inbox(config: config::Api, inbox_bytes_max: usize) -> Self {
        let kept = json!({"name": "kept", "history_size": 5, "history_ttl": "60s"});
        let section = serde_json::from_value(json!({"namespaces": [{"name": "chat"}, kept]})).unwrap();
        let metrics = Arc::new(Metrics::of_namespaces(&section));
        let dispatch = Dispatch::new(1, inbox_bytes_max, Arc::clone(&metrics));
        let broker = Arc::new(MemoryBroker::new(Arc::clone(&dispatch) as _));
        let backends = Backends {
            broker,
            presence: Arc::new(MemoryPresence::new()),
            presence_settings: PresenceSettings::default(),
            cluster: crate::cluster::Options::alone(Arc::default()),
        };
        let node = Node::new("one".into(), dispatch, backends, Arc::clone(&metrics), Handle::current());
        let authority = Authority::new(&config::Client::default(), Channels::new(&section), 255).unwrap();
        let ping_interval = Duration::ZERO;
        let context = Arc::new(Context {
            authority,
            channels_max: 1,
            recovery_publications_max: 1,
            recovery_bytes_max: 1,
            history_publications_max: 300,
            ping_interval,
            expired_sub_close_delay: Duration::ZERO,
            metrics,
        });
        let router = routes(Api { node: Arc::clone(&node), context, keys: keys(), config });
        Self { router, node, interests: Vec::new() }
    }

    async fn with_subscriber(mut self, channel: &str) -> Self {
        let channel = Channel::parse(channel, 255).unwrap();
        let subscribing = self.node.subscribe(ShardId::new(0), channel, NamespaceId::NONE);
        self.interests.push(subscribing.await.unwrap());
        self
    }

    async fn send(&self, request: axum::http::Request<Body>) -> Answered {
        let Ok(response) = self.router.clone().oneshot(request).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answered { status: head.status, headers: head.headers, body }
    }

    async fn post(&self, method: &str, body: impl Into<Body>) -> Answered {
        self.send(post_to(method).body(body.into()).unwrap()).await
    }

    /// The answer to a call that the API has understood.
    async fn call(&self, method: &str, body: &Value) -> Value {
        let answered = self.post(method, body.to_string()).await;
        assert_eq!(answered.status, StatusCode::OK, "{method} {body}");
        answered.json()
    }

    async fn assert_error(&self, method: &str, body: &Value, error: (u16, &str)) {
        assert_eq!(self.call(method, body).await, failure(error), "{method} {body}");
    }

    /// What waits for the shard: the channel and payloads of each push.
    fn delivered(&self) -> Vec<(String, Vec<String>)> {
        let mut deliveries = Vec::new();
        self.node.inbox(ShardId::new(0)).drain(usize::MAX, &mut deliveries);
        let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
        let all = deliveries.into_iter().map(|delivery| {
            let payloads =
                delivery.publications().iter().map(|publication| text(publication.data.as_bytes()));
            (delivery.channel.to_string(), payloads.collect())
        });
        all.collect()
    }

    fn control(&self) -> Option<Control> {
        self.node.inbox(ShardId::new(0)).next_control()
    }

    /// Whether nothing was asked of the shard.
    fn is_idle(&self) -> bool {
        self.control().is_none() && self.delivered().is_empty()
    }

    /// Whether so many publications to channels of `namespace` were accepted.
    fn received(&self, namespace: &str, count: usize) -> bool {
        let labels = format!(r#"{{channel_namespace="{namespace}",source="api"}}"#);
        self.has_metric(&format!("clarion_publications_received_total{labels} {count}"))
    }

    fn has_metric(&self, line: &str) -> bool {
        let text = String::from_utf8(self.node.metrics().render(0)).unwrap();
        text.lines().any(|other| other == line)
    }
}

fn post_to(method: &str) -> Builder {
    axum::http::Request::post(format!("/api/{method}"))
}

fn failure((code, message): (u16, &str)) -> Value {
    json!({"error": {"code": code, "message": message}})
}

fn done() -> Value {
    json!({"result": {}})
}

fn target(user: &str, client: Option<&str>) -> Target {
    let client = client.map(|client| ClientId::parse(client).unwrap());
    Target { user: UserId::parse(user).unwrap(), client }
}

mod access;
mod batch;
mod diagnosis;
mod door;
mod history;
mod publish;
mod users;
