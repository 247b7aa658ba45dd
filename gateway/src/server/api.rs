//! The server API over HTTP and JSON: `POST /api/{method}`, as existing back-end libraries call it.
//!
//! Owns the door (keys, scopes, limits, statuses) and what each method asks of the node. It must not know
//! client protocols or sockets: it speaks to [`Node`] alone. Enter by [`routes`].
//!
//! As the JSON convention of this API says, fields that nothing uses are ignored; `delta` is such a field.

mod batch;
mod call;
mod diagnosis;
mod history;
mod methods;
mod payload;
mod publish;
mod reply;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use self::call::{Call, Method};
use self::reply::{ErrorMode, Failure, Outcome};
use super::access::Caller;
use super::body;
use crate::auth::ApiKeys;
use crate::config::{self, Scope};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::protocol::Context;
use crate::telemetry::traces;

/// What the methods work with.
#[derive(Clone)]
pub struct Api {
    /// The node.
    pub node: Arc<Node>,
    /// Holds the rules for channels.
    pub context: Arc<Context>,
    /// Who may call.
    pub keys: ApiKeys,
    /// Limits, and whether keys are asked for.
    pub config: config::Api,
}

/// What a path asks for.
#[derive(Clone, Copy)]
enum Endpoint {
    One(Method),
    Batch,
}

impl Endpoint {
    fn name(self) -> &'static str {
        match self {
            Self::One(method) => method.name(),
            Self::Batch => "batch",
        }
    }

    /// Whether something may be published by a request of `caller`.
    fn publishes(self, caller: Caller<'_>) -> bool {
        match self {
            Self::One(method) => matches!(method, Method::Publish | Method::Broadcast),
            Self::Batch => caller.may(Scope::Publish),
        }
    }
}

/// Every method under `/api/`. Other paths are 404, other verbs 405.
pub fn routes(api: Api) -> Router {
    let one = Method::ALL.into_iter().map(Endpoint::One);
    let mut router = Router::new();
    for endpoint in one.chain([Endpoint::Batch]) {
        let handler = move |State(api): State<Arc<Api>>, request| api.serve(endpoint, request);
        router = router.route(&format!("/api/{}", endpoint.name()), post(handler));
    }
    router.with_state(Arc::new(api))
}

/// Has the counts of every method begin at zero.
pub fn expect(metrics: &Metrics) {
    for endpoint in Method::ALL.into_iter().map(Endpoint::One).chain([Endpoint::Batch]) {
        metrics.expect_api_method(endpoint.name(), &reply::LABELS_TO_WATCH);
    }
}

impl Api {
    async fn serve(self: Arc<Self>, endpoint: Endpoint, request: Request) -> Response {
        let started_at = Instant::now();
        let mut traced = None;
        let outcome = self.answer(endpoint, request, started_at, &mut traced).await;
        let (name, label) = (endpoint.name(), outcome.label());
        self.node.metrics().api_request(name, label, started_at.elapsed());
        let is_ok = matches!(outcome, Outcome::Done(_) | Outcome::Batch(_));
        let mut response = outcome.into_response();
        if let Some(traced) = traced {
            traced.end(response.status().as_u16(), (!is_ok).then_some(label));
        }
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// `traced` becomes the span of a request that may publish, if requests are traced.
    async fn answer(
        &self,
        endpoint: Endpoint,
        request: Request,
        started_at: Instant,
        traced: &mut Option<traces::Request>,
    ) -> Outcome {
        let (head, body) = request.into_parts();
        let Some(caller) = Caller::identify(&self.keys, self.config.insecure, &head) else {
            return Outcome::Refused(StatusCode::UNAUTHORIZED);
        };
        if let Endpoint::One(method) = endpoint
            && !caller.may(method.scope())
        {
            return Outcome::Refused(StatusCode::FORBIDDEN);
        }
        if endpoint.publishes(caller) {
            let header = |name: &str| head.headers.get(name)?.to_str().ok();
            *traced = self.node.traces().request(endpoint.name(), started_at, &header);
        }
        match traced {
            None => self.carry_out(endpoint, &caller, &head, body).await,
            Some(traced) => traced.follow(self.carry_out(endpoint, &caller, &head, body)).await,
        }
    }

    async fn carry_out(&self, endpoint: Endpoint, caller: &Caller<'_>, head: &Parts, body: Body) -> Outcome {
        tracing::trace!(api.method = endpoint.name(), api.key = caller.name(), "server API is called");
        let body = match self.read(head, body).await {
            Ok(body) => body,
            Err(status) => return Outcome::Refused(status),
        };
        let Some(text) = payload::text(&body) else { return Outcome::BadRequest };
        match endpoint {
            Endpoint::One(method) => self.one(method, text, ErrorMode::of(&head.headers)).await,
            Endpoint::Batch => self.batch(caller, text).await,
        }
    }

    async fn read(&self, head: &Parts, body: Body) -> Result<Bytes, StatusCode> {
        body::read(head, body, self.config.body_bytes_max, self.config.timeout).await
    }

    async fn one(&self, method: Method, text: &str, mode: ErrorMode) -> Outcome {
        let Ok(call) = Call::decode(method, text) else { return Outcome::BadRequest };
        let result = tokio::time::timeout(self.config.timeout, self.execute(&call)).await;
        // Who publishes and hears this does not know whether it was published.
        result
            .unwrap_or(Err(Failure::Busy))
            .map_or_else(|failure| Outcome::Failed(failure, mode), Outcome::Done)
    }

    async fn batch(&self, caller: &Caller<'_>, text: &str) -> Outcome {
        let Ok(commands) = batch::decode(caller, text, self.config.batch_max) else {
            return Outcome::BadRequest;
        };
        match tokio::time::timeout(self.config.timeout, self.run_batch(&commands)).await {
            Ok(replies) => Outcome::Batch(replies),
            Err(_) => Outcome::Failed(Failure::Busy, ErrorMode::Default),
        }
    }
}
